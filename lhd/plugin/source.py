"""Sources: what they hear, what becomes of it, and the world in which they run."""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import pluggy
from aiohttp import web

from lhd.plugin.configuration import SourceConfig
from lhd.plugin.errors import ConfigError

API = 1
"""The number of this surface; a source that was written for another one is refused by name."""

hookspec = pluggy.HookspecMarker("lhd")
hookimpl = pluggy.HookimplMarker("lhd")


class Keep:
    """The type of :data:`KEEP`."""


KEEP = Keep()
"""Given as a cursor: leave the stored one as it is."""


@dataclass(frozen=True, slots=True)
class Event:
    """One signal from outside.

    ``body`` is JSON-like, text or bytes. ``id`` tells this signal from every other of the source, and is the same when
    it comes again; without one the digest of ``raw`` does. ``raw`` are the bytes as they came; ``fingerprint``, which
    is ``raw`` unless given, is the part of them that is the same when the signal comes again. The mappings are what
    routes see under these names.

    No route is asked about an event with ``poison``, the reason why it cannot be read: it becomes a dead letter; nor
    about one with ``unwanted``, the reason why it is only noted as filtered. Neither may hold anything of the payload.
    Poison without ``raw`` stands for something that is lost, so that it cannot be retried.

    ``positions`` are stored with the event, as those of :meth:`SourceContext.commit` are and after them, unless it is
    dead or a conflict.
    """

    body: Any
    id: str | int | tuple[str | int, ...] | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    key: str | bytes | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    file: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: bytes | None = None
    poison: str = ""
    unwanted: str = ""
    positions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one event, durably.

    ``verdict`` is accepted, duplicate, conflict, filtered or dead; ``event_id`` is the id under which ``lhd explain``
    tells the story; ``reason`` says why, without any of the payload.
    """

    verdict: str
    event_id: str
    reason: str = ""
    retry_after_s: float | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the outside, that is the running source, has answered to ``lhd send``."""

    answer: str
    is_taken: bool = True


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """How far an accepted event has come: ``level`` is stored, matched, consumed or result.

    ``is_reached`` tells whether that is what its route waits for. Of a result, ``status`` is the WfRun's and
    ``result`` a JSON-like value.
    """

    level: str = "stored"
    is_reached: bool = True
    run: str | None = None
    status: str | None = None
    result: Any = None


HttpHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers one request on the shared HTTP listener; see aiohttp's server reference."""

C = TypeVar("C", bound=SourceConfig)


class SourceContext(ABC):
    """A source's whole world."""

    name: str
    """The name of the source's table."""
    log: Any
    """A structlog logger that names the source. No payload and no secret belongs into a log."""
    cursor: Any
    """The JSON-like value that the source committed last, or None."""

    @property
    @abstractmethod
    def data_dir(self) -> Path:
        """A folder of the source's own, made when it is first asked for."""

    @abstractmethod
    async def commit(
        self,
        events: Sequence[Event],
        *,
        cursor: Any = KEEP,
        positions: Mapping[str, Any] = MappingProxyType({}),
        whole: bool = False,
        bury: bool = False,
    ) -> list[Receipt]:
        """Store the events, the cursor and the positions in one transaction; returns when that is durable.

        ``positions`` are further cursors, for sources of several parts; a position of None is forgotten. One receipt
        for each event, in order. Acknowledge outside only afterwards. Raises Overloaded, and Transient where nothing
        could be stored for another reason; with ``whole`` also Poisoned: where one event would be dead, or a
        conflict, none is stored.
        With ``bury`` an event that lhd cannot store because of a bug of its own is a dead letter and stops no other:
        for sources that would otherwise come to it again for ever. Events are then stored one by one, the cursor last.
        """

    @abstractmethod
    def epoch(self, part: str = "") -> int:
        """How often an operator has said, with ``lhd source reset --epoch``, that this part has begun anew.

        Of a part that counts what was said of the whole source, too. Make it a part of the ``id`` of events whose place
        could otherwise be that of older ones.
        """

    @abstractmethod
    async def positions(
        self, parts: Sequence[str] | None = None, *, after: str = "", limit: int | None = None
    ) -> dict[str, Any]:
        """The positions that were committed, by part: of these parts, or of all in the order of their names.

        Of all, only of those whose names come after ``after``, and at most ``limit``.
        """

    @abstractmethod
    async def position(self, part: str) -> Any:
        """The position of one part, or None."""

    @abstractmethod
    def report(self, text: str) -> None:
        """Say in ``lhd status`` what is the matter while the source runs; an empty text says that all is well."""

    @abstractmethod
    async def acknowledge(self, receipt: Receipt) -> Acknowledgement:
        """Wait for what the ``ack`` of the event's route names, or its deadline; for sources that answer a sender."""

    @abstractmethod
    def http_route(self, method: str, path: str, handler: HttpHandler) -> None:
        """Answer requests of this method and path on the shared HTTP listener while the source runs.

        Raises ConfigError where another source has the same path.
        """

    @abstractmethod
    def refused(self, reason: str, **facts: str | int) -> None:
        """Note that the door refused a signal, for the counters and for ``lhd status``; no payload, no secret."""

    @abstractmethod
    def count(self, name: str, **labels: str) -> None:
        """Add one to the counter ``lhd_source_NAME_total``; every count of a name has the same labels."""

    @abstractmethod
    def measure(self, name: str, value: float) -> None:
        """Set the gauge ``lhd_source_NAME``."""

    @abstractmethod
    def clock_ms(self) -> int:
        """The daemon's time in milliseconds since the epoch."""

    @property
    @abstractmethod
    def overloaded(self) -> bool:
        """Whether :meth:`commit` would raise Overloaded just now."""

    @property
    @abstractmethod
    def drain_s(self) -> float:
        """How many seconds the daemon will need for what waits now, at its present pace; a value for Retry-After."""


class Source(ABC, Generic[C]):
    """A kind of source. ``class Ticker(Source[TickerConfig])``: the model in brackets checks its table."""

    kind: ClassVar[str]
    """The ``kind`` of the tables that this class serves."""
    api: ClassVar[int] = API
    """The number of the surface that the class was written for."""

    def __init__(self, config: C) -> None:
        self.config = config

    def prepare(self) -> None:
        """Look at the configuration more closely than a model can, and read secrets. Raises ConfigError(s).

        Called by ``lhd check``, and once before the first :meth:`run`.
        """

    @abstractmethod
    async def run(self, context: SourceContext) -> None:
        """Listen until cancelled. An exception ends this run only: the source is started again with back-off.

        The source counts as up from its first await on.
        """

    def decode(self, raw: bytes, headers: Mapping[str, str | None], query: Mapping[str, str]) -> list[Event]:
        """The events that arrive as these bytes, for rehearsals, tests in the configuration and retries.

        Raises ValueError, whose text holds nothing of the bytes. This one reads JSON, else text, else bytes.
        """
        body: Any = raw
        try:
            body = raw.decode()
            body = json.loads(body)
        except ValueError:
            pass
        return [Event(body, headers=headers, query=query, raw=raw)]

    async def bring_back(self, attributes: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Have the signal of a dead letter come once more by itself, for ``lhd dead retry``; False where it cannot.

        Then it is decoded and mapped again. ``attributes`` are the event's mappings, by their names in expressions.
        Raises ValueError, whose text holds nothing of the payload, where nothing can be done.
        """
        return False

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> Sent:  # noqa: ARG002
        """Bring these bytes to the running source as its sender would, for ``lhd send``.

        ``http`` is the address of the HTTP listener, ``now_ms`` the time. Raises ConfigError where that cannot be, and
        OSError or Transient where nobody answers.
        """
        raise ConfigError("kind", f"a source of kind '{self.kind}' cannot be sent to")

    @classmethod
    def config_class(cls) -> type[SourceConfig]:
        """The model in the brackets of ``Source[...]``."""
        for base in (base for owner in cls.__mro__ for base in getattr(owner, "__orig_bases__", ())):
            if get_origin(base) is Source:
                (model,) = get_args(base)
                if isinstance(model, type) and issubclass(model, SourceConfig):
                    return model
        raise TypeError(f"{cls.__qualname__} does not say its configuration: write Source[YourConfig]")


@hookspec
def lhd_sources() -> list[type[Source[Any]]]:
    """The kinds of source that the plugin adds. Called once, when the daemon starts or checks its configuration."""
    return []
