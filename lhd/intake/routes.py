"""Routes: from an event of a source to the request that it stands for."""

import hashlib
from typing import Any

import orjson
from littlehorse.model import (
    ExternalEventDefId,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    VariableValue,
)

from lhd.core.commands.deliveries import Delivery, Unmapped
from lhd.core.ids import parse_wf_run_id
from lhd.core.kinds import OnSameKey, Verdict
from lhd.core.values import EvaluationError, from_python
from lhd.intake import cel
from lhd.intake.cel import Expression, ExpressionError
from lhd.plugin import ConfigError, ConfigErrors, Event, Route

Names = dict[str, Any]


class Dead(Exception):
    """The signal cannot become an event, for this reason; nothing of the payload is in it."""


class CompiledRoute:
    """A route with its expressions compiled; what cannot be compiled is added to ``errors``."""

    def __init__(self, route: Route, number: int, errors: list[ConfigError]) -> None:
        self.label = route.name or str(number)
        self.event = route.event
        self.on_same_key = None if route.on_same_key is None else OnSameKey(route.on_same_key)
        self._number = number
        self._errors = errors
        self._thread = route.thread
        self._when = self._compile("when", route.when)
        self._content = self._compile("content", route.content)
        self._key = None if route.key is None else self._compile("key", route.key)
        self._wf_run = None if route.wf_run is None else self._compile("wf_run", route.wf_run)
        self._id = None if route.id is None else self._compile("id", route.id)

    def _compile(self, key: str, text: str) -> Expression:
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
        value = self._evaluate("id", self._id, names)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Dead(f"id must be text or a whole number, not {type(value).__name__}")
        return value

    def map(self, names: Names) -> PutExternalEventRequest | PutCorrelatedEventRequest:
        """The request that the signal stands for. Raises Dead."""
        content = self._value(names)
        def_id = ExternalEventDefId(name=self.event)
        if self._key is not None:
            key = self._text("key", self._key, names)
            return PutCorrelatedEventRequest(key=key, external_event_def_id=def_id, content=content)
        assert self._wf_run is not None
        try:
            wf_run_id = parse_wf_run_id(self._text("wf_run", self._wf_run, names))
        except ValueError:
            raise Dead("wf_run is not the printed id of a WfRun") from None
        return PutExternalEventRequest(
            wf_run_id=wf_run_id, external_event_def_id=def_id, content=content, thread_run_number=self._thread
        )

    def _value(self, names: Names) -> VariableValue:
        try:
            return from_python(self._evaluate("content", self._content, names))
        except EvaluationError as error:
            raise Dead(f"content: {error}") from None

    def _text(self, key: str, expression: Expression, names: Names) -> str:
        value = self._evaluate(key, expression, names)
        if not isinstance(value, str):
            raise Dead(f"{key} must be text, not {type(value).__name__}")
        return value

    def _evaluate(self, key: str, expression: Expression, names: Names) -> Any:
        try:
            value = expression.evaluate(names)
        except ExpressionError as error:
            raise Dead(f"{key}: {error}") from None
        if isinstance(value, str) and value != _unicode(value):
            raise Dead(f"{key} is not Unicode text")
        return value


class Routes:
    """The routes of one source, in order; the first that takes a signal maps it. Raises ConfigErrors."""

    def __init__(self, source: str, routes: tuple[Route, ...]) -> None:
        self._source = source
        errors: list[ConfigError] = []
        self._routes = [CompiledRoute(route, number, errors) for number, route in enumerate(routes)]
        if errors:
            raise ConfigErrors(errors)

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
        raw = event.raw if event.raw is not None else _as_bytes(event.body)
        route = next((route for route in self._routes if route.takes(names)), None)
        label = "" if route is None else route.label
        own: str | int | None = None
        mapped: PutExternalEventRequest | PutCorrelatedEventRequest | Unmapped
        if route is None:
            mapped = Unmapped(Verdict.FILTERED, "no route takes it")
        else:
            try:
                own = route.identity(names)
                mapped = route.map(names)
            except Dead as dead:
                mapped = Unmapped(Verdict.DEAD, str(dead))
        digest = hashlib.sha256(raw).digest()
        return Delivery(
            identity=self._identity(event, own, digest, label),
            digest=digest,
            mapped=mapped,
            route=label,
            on_same_key=None if route is None else route.on_same_key,
            body=raw,
            content_type=_unicode(event.headers.get("content-type", "")),
        )

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


def _unicode(text: str) -> str:
    """The text with what no encoding can write replaced: bytes of a header, say, that were not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else orjson.dumps(body, default=str)
