"""What a signal would come to: described for people, for ``lhd try`` and for tests in the configuration."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from littlehorse.model import ExternalEventDef, InlineStructDef, PutCorrelatedEventRequest, RunWfRequest, StructDefId

from lhd.config import Configuration
from lhd.configured_tests import TestTable
from lhd.core.commands.deliveries import Delivery, Unmapped
from lhd.core.events import accept_content
from lhd.core.ids import printed
from lhd.core.kinds import Verdict
from lhd.core.values import EvaluationError, to_json
from lhd.intake.routes import Routes
from lhd.plugin import Event, Source


def described(delivery: Delivery) -> dict[str, Any]:
    """What the route made of a signal: its event, where that goes, and the run that may be started."""
    mapped = delivery.mapped
    story: dict[str, Any] = {"sender_id": delivery.sender_id, "route": delivery.route}
    if isinstance(mapped, Unmapped):
        return story | {"verdict": mapped.verdict.value, "reason": mapped.reason}
    story |= {"verdict": Verdict.ACCEPTED.value, "reason": ""}
    if not isinstance(mapped, RunWfRequest):
        story |= {"event": mapped.external_event_def_id.name, "content": to_json(mapped.content)}
        if isinstance(mapped, PutCorrelatedEventRequest):
            story["key"] = mapped.key
        else:
            story["wf_run"] = printed(mapped.wf_run_id)
    start = mapped if isinstance(mapped, RunWfRequest) else delivery.start
    if start is not None:
        story["wf_spec"] = start.wf_spec_name
        story["start_id"] = start.id if start.HasField("id") else None
        story["variables"] = {name: to_json(value) for name, value in sorted(start.variables.items())}
    return story


@dataclass(frozen=True, slots=True)
class Failure:
    """A key of a test's ``expect`` that is not met, or "" for the whole test, and why."""

    key: str
    text: str


def failures(
    test: TestTable, raw: bytes, source: Source[Any], routes: Routes, configuration: Configuration
) -> list[Failure]:
    """Run a test of the configuration over its input; empty where it passes."""
    headers = {name.lower(): value for name, value in test.headers.items()}
    try:
        events = source.decode(raw, headers, test.query)
    except ValueError as error:
        return [Failure("", f"the source would refuse this input: {error}")]
    if len(events) != 1:
        return [Failure("", f"the input holds {len(events)} events; a test is about one")]
    meta = {"source": test.source, "kind": source.kind, "received_at": 0}
    story = _typed(described(delivery := routes.map(events[0], meta)), delivery, configuration)
    if story["verdict"] != test.expect.verdict:
        why = f": {story['reason']}" if story["reason"] else ""
        return [Failure("verdict", f"expected {test.expect.verdict}, got {story['verdict']}{why}")]
    return [
        Failure(key, f"expected {wanted!r}, got {story.get(key)!r}")
        for key, wanted in test.expect.wanted().items()
        if story.get(key) != wanted
    ]


def _typed(story: dict[str, Any], delivery: Delivery, configuration: Configuration) -> dict[str, Any]:
    """Dead where the content does not fit the type that the configuration gives the event."""
    tables = [event for event in configuration.event if event.name == story.get("event")]
    mapped = delivery.mapped
    if not tables or isinstance(mapped, Unmapped | RunWfRequest):
        return story
    request = tables[0].request()
    definition = ExternalEventDef()
    if request.HasField("content_type"):
        definition.type_information.CopyFrom(request.content_type)
    try:
        accept_content(definition, mapped.content, _NoStructDefs(), void_takes_anything=True)
    except EvaluationError as error:
        return {**story, "verdict": Verdict.DEAD.value, "reason": str(error)}
    return story


def event_again(source: Source[Any], raw: bytes, attributes: Mapping[str, Any]) -> Event:
    """An event from the bytes and the attributes that were kept of it. Raises ValueError."""
    headers, query = attributes.get("headers", {}), attributes.get("query", {})
    events = source.decode(raw, headers, query)
    if len(events) != 1:
        raise ValueError(f"it holds {len(events)} events now")
    kept = {name: attributes[name] for name in ("key", "meta", "file", "record") if name in attributes}
    if isinstance(kept.get("key"), dict):
        kept["key"] = base64.b64decode(kept["key"]["base64"])
    (event,) = events
    return replace(event, **kept)


class _NoStructDefs:
    """An ``[[event]]`` of the configuration has no Struct in its type."""

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        raise EvaluationError(f"there is no StructDef '{struct_def_id.name}'")
