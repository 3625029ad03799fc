"""Routes: from an event of a source to the request that it stands for."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from littlehorse.model import (
    ExternalEventDefId,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    RunWfRequest,
    VariableValue,
)

from lhd.core.commands.deliveries import Delivery, Mapped, Unmapped
from lhd.core.ids import parse_wf_run_id
from lhd.core.kinds import OnSameKey, Untaken, Verdict
from lhd.core.values import EvaluationError, from_python
from lhd.intake import cel
from lhd.intake.cel import Expression, ExpressionError
from lhd.plugin import ConfigError, ConfigErrors, Event, Route, Start

Names = dict[str, Any]


class Dead(Exception):
    """The signal cannot become an event, for this reason; nothing of the payload is in it."""


_ACK_TIMEOUT_S = {"matched": 2.0, "consumed": 2.0, "result": 10.0}
_SENDER_ID_CHARACTERS_MAX = 512


@dataclass(frozen=True, slots=True)
class Ack:
    """What an answer waits for: a level, how long, and for a result the WorkflowEventDef, if not the output."""

    level: str
    timeout_s: float
    workflow_event: str | None


class CompiledStart:
    """The WfRun that a route starts."""

    def __init__(self, route: "CompiledRoute", start: Start) -> None:
        self._route = route
        self._wf_spec = start.wf_spec
        self.id = None if start.id is None else route.compile("start.id", start.id)
        self._variables = route.compile("start.variables", start.variables)

    def map(self, names: Names) -> RunWfRequest:
        """The request to start it. Raises Dead."""
        variables = self._route.evaluate("start.variables", self._variables, names)
        if not isinstance(variables, Mapping) or not all(isinstance(name, str) for name in variables):
            raise Dead(f"start.variables must be a map with names, not {type(variables).__name__}")
        values = {name: as_value("start.variables", value) for name, value in variables.items()}
        request = RunWfRequest(wf_spec_name=self._wf_spec, variables=values)
        if self.id is not None:
            request.id = self._route.text("start.id", self.id, names)
        return request


class CompiledRoute:
    """A route with its expressions compiled; what cannot be compiled is added to ``errors``."""

    def __init__(self, route: Route, number: int, errors: list[ConfigError]) -> None:
        self.label = route.name or str(number)
        self.event = route.event
        self.on_same_key = None if route.on_same_key is None else OnSameKey(route.on_same_key)
        self._number = number
        self._errors = errors
        self._thread = route.thread
        self.on_expired = Untaken(route.on_expired)
        by_id = route.event is not None and route.key is None and route.wf_run is None
        self.on_unmatched = Untaken.START if by_id else Untaken(route.on_unmatched)
        timeout_s = route.ack_timeout_s or _ACK_TIMEOUT_S.get(route.ack, 0)
        self.ack = None if route.ack == "stored" else Ack(route.ack, timeout_s, route.workflow_event)
        self._start = None if route.start is None else CompiledStart(self, route.start)
        self._when = self.compile("when", route.when)
        self._content = self.compile("content", route.content)
        self._key = None if route.key is None else self.compile("key", route.key)
        self._wf_run = None if route.wf_run is None else self.compile("wf_run", route.wf_run)
        self._id = None if route.id is None else self.compile("id", route.id)

    def compile(self, key: str, text: str) -> Expression:
        """The expression; a mistake in it is one of the key's."""
        try:
            return cel.compile(text)
        except ExpressionError as error:
            self._errors.append(ConfigError(f"routes[{self._number}].{key}", str(error)))
            return cel.compile("null")

    def takes(self, names: Names) -> bool:
        """Whether the route takes the signal; an error in ``when`` is no."""
        try:
            return self._when.evaluate(names) is True
        except ExpressionError:
            return False

    def identity(self, names: Names) -> str | int | None:
        """The route's own identity of the signal, if it names one. Raises Dead."""
        if self._id is None:
            return None
        value = self.evaluate("id", self._id, names)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Dead(f"id must be text or a whole number, not {type(value).__name__}")
        return value

    def map(self, names: Names) -> tuple[Mapped, RunWfRequest | None]:
        """The request that the signal stands for, and the run that is started where that needs one. Raises Dead."""
        start = None if self._start is None else self._start.map(names)
        if self.event is None:
            assert start is not None
            return start, None
        content = as_value("content", self.evaluate("content", self._content, names))
        def_id = ExternalEventDefId(name=self.event)
        if self._key is not None:
            key = self.text("key", self._key, names)
            return PutCorrelatedEventRequest(key=key, external_event_def_id=def_id, content=content), start
        if self._wf_run is not None:
            run = self.text("wf_run", self._wf_run, names)
        else:
            assert start is not None
            run = start.id
        try:
            wf_run_id = parse_wf_run_id(run)
        except ValueError:
            raise Dead("wf_run is not the printed id of a WfRun") from None
        request = PutExternalEventRequest(
            wf_run_id=wf_run_id, external_event_def_id=def_id, content=content, thread_run_number=self._thread
        )
        return request, start

    def text(self, key: str, expression: Expression, names: Names) -> str:
        """A value that must be text. Raises Dead."""
        value = self.evaluate(key, expression, names)
        if not isinstance(value, str):
            raise Dead(f"{key} must be text, not {type(value).__name__}")
        return value

    def evaluate(self, key: str, expression: Expression, names: Names) -> Any:
        """The value of the expression of a key. Raises Dead."""
        try:
            value = expression.evaluate(names)
        except ExpressionError as error:
            raise Dead(f"{key}: {error}") from None
        if isinstance(value, str) and value != _unicode(value):
            raise Dead(f"{key} is not Unicode text")
        return value


def as_value(key: str, value: Any) -> VariableValue:
    """A result of CEL as a VariableValue. Raises Dead."""
    try:
        return from_python(value)
    except EvaluationError as error:
        raise Dead(f"{key}: {error}") from None


class Routes:
    """The routes of one source, in order; the first that takes a signal maps it. Raises ConfigErrors."""

    def __init__(self, source: str, routes: tuple[Route, ...]) -> None:
        self._source = source
        errors: list[ConfigError] = []
        self._routes = [CompiledRoute(route, number, errors) for number, route in enumerate(routes)]
        if errors:
            raise ConfigErrors(errors)
        self._acks = {route.label: route.ack for route in self._routes if route.ack is not None}

    def map(self, event: Event, meta: dict[str, Any]) -> Delivery:
        """What the event comes to: a request, or why there is none; with its identity."""
        names: Names = {
            "body": event.body,
            "headers": event.headers,
            "key": event.key,
            "query": event.query,
            "file": event.file,
            "record": event.record,
            "meta": {**event.meta, **meta},
        }
        raw = event.raw if event.raw is not None else as_bytes(event.body)
        readable = not (event.poison or event.unwanted)
        route = next((route for route in self._routes if readable and route.takes(names)), None)
        label = "" if route is None else route.label
        own: str | int | None = None
        mapped: Mapped | Unmapped
        start: RunWfRequest | None = None
        if event.poison:
            mapped = Unmapped(Verdict.DEAD, event.poison)
        elif route is None:
            mapped = Unmapped(Verdict.FILTERED, event.unwanted or "no route takes it")
        else:
            try:
                own = route.identity(names)
                mapped, start = route.map(names)
            except Dead as dead:
                mapped = Unmapped(Verdict.DEAD, str(dead))
        digest = hashlib.sha256(raw if event.fingerprint is None else event.fingerprint).digest()
        return Delivery(
            identity=self._identity(event, own, digest, label),
            digest=digest,
            mapped=mapped,
            route=label,
            on_same_key=None if route is None else route.on_same_key,
            body=raw,
            content_type=_unicode(event.headers.get("content-type") or ""),
            start=start,
            on_unmatched=Untaken.STORE if route is None else route.on_unmatched,
            on_expired=Untaken.STORE if route is None else route.on_expired,
            attributes=attributes(event),
            sender_id=_sender_id(event.id if own is None else own),
            is_lost=bool(event.poison) and event.raw is None,
            positions=position_texts(event.positions),
        )

    def ack_of(self, label: str) -> Ack | None:
        """What answers to signals of this route wait for; None where it is the commit alone."""
        return self._acks.get(label)

    def _identity(self, event: Event, own: str | int | None, digest: bytes, route: str) -> str:
        if own is not None:
            return identity(self._source, "route", own)
        if event.id is not None:
            parts = event.id if isinstance(event.id, tuple) else (event.id,)
            return identity(self._source, "source", *parts)
        return identity(self._source, "digest", digest.hex(), route)


def identity(*parts: str | int) -> str:
    """A hash of a typed tuple, each part with its type and length, so that no two tuples run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{'i' if isinstance(part, int) else 's'}{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def position_texts(positions: Mapping[str, Any]) -> dict[str, str | None]:
    """Positions as the store keeps them: JSON; None where one is to be forgotten."""
    return {part: None if one is None else orjson.dumps(one).decode() for part, one in positions.items()}


def attributes(event: Event) -> dict[str, Any]:
    """What came with an event's bytes, as far as there is something."""
    named = {name: getattr(event, name) for name in ("headers", "query", "key", "meta", "file", "record")}
    if isinstance(event.key, bytes):
        named["key"] = {"base64": base64.b64encode(event.key).decode()}
    return {name: value for name, value in named.items() if value}


def _sender_id(given: str | int | tuple[str | int, ...] | None) -> str | None:
    if given is None:
        return None
    text = " ".join(map(str, given)) if isinstance(given, tuple) else str(given)
    return _unicode(text) if len(text) <= _SENDER_ID_CHARACTERS_MAX else None


def _unicode(text: str) -> str:
    """The text with what no encoding can write replaced: bytes of a header, say, that were not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def as_bytes(body: Any) -> bytes:
    """The bytes of a body whose source has kept none."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else orjson.dumps(body, default=str)
