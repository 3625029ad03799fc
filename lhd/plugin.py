"""The public surface for authors of sources; nothing else of lhd may be imported by a plugin.

A plugin is a module, named by an entry point in the group ``lhd``, that implements :func:`lhd_sources`. A source is a
class with a ``kind``, a configuration model and one coroutine, :meth:`Source.run`, that hands what it hears to
:meth:`SourceContext.commit`.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

import pluggy
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

API = 1
"""The number of this surface; a source that was written for another one is refused by name."""

hookspec = pluggy.HookspecMarker("lhd")
hookimpl = pluggy.HookimplMarker("lhd")


class Keep:
    """The type of :data:`KEEP`."""


KEEP = Keep()
"""Given as a cursor: leave the stored one as it is."""


class Transient(Exception):
    """The outside is not available just now; the source is started again after ``after_s`` seconds."""

    def __init__(self, text: str, after_s: float = 1.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Overloaded(Exception):
    """The daemon takes nothing more just now; nothing was stored. Offer it again after ``after_s`` seconds."""

    def __init__(self, after_s: float = 1.0) -> None:
        super().__init__(f"overloaded; try again after {after_s:g} s")
        self.after_s = after_s


class ConfigError(Exception):
    """A key of the source's table cannot be used: which, why, and what to write instead."""

    def __init__(self, key: str, text: str, fix: str = "") -> None:
        super().__init__(f"{key}: {text}" + (f"; {fix}" if fix else ""))
        self.key = key
        self.text = text
        self.fix = fix


class ConfigErrors(Exception):
    """Several mistakes in one table."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = list(errors)


class Model(BaseModel):
    """Base of every configuration model: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Secret(Model):
    """Where a secret is: a systemd credential, a file or an environment variable. Never the secret itself."""

    credential: str | None = Field(None, description="Name of a systemd credential (see systemd.exec(5)).")
    file: str | None = Field(None, description="Path of a file; one newline at its end is not part of the secret.")
    env: str | None = Field(None, description="Name of an environment variable.")

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if sum(place is not None for place in (self.credential, self.file, self.env)) != 1:
            raise ValueError("name exactly one of credential, file and env")
        return self

    def read(self) -> bytes:
        """The secret. Raises ConfigError, which names the place and never the secret, where there is none."""
        try:
            secret = self._read()
        except OSError as error:
            raise ConfigError("secret", f"{self} cannot be read: {error.strerror}") from error
        if not secret:
            raise ConfigError("secret", f"{self} is empty or not set")
        return secret

    def _read(self) -> bytes:
        if self.env is not None:
            return os.environb.get(self.env.encode(), b"")
        if self.file is not None:
            return Path(self.file).read_bytes().removesuffix(b"\n")
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory is None or "/" in str(self.credential):
            return b""
        return (Path(directory) / str(self.credential)).read_bytes().removesuffix(b"\n")

    def __str__(self) -> str:
        place, name = next((key, value) for key, value in self.__dict__.items() if value is not None)
        return f"{place} '{name}'"


class Start(Model):
    """``start`` of a route: the WfRun to start. All but the name of the WfSpec are CEL."""

    wf_spec: str = Field(description="The name of the WfSpec; its latest version is run.")
    id: str | None = Field(None, description="The id of the WfRun; where it exists none is started.")
    variables: str = Field("{}", description="A map of the WfRun's variables.")


class Route(Model):
    """What becomes of a signal. Expressions are CEL over body, headers, key, query, file, record and meta."""

    name: str = Field("", description="Shown by explain; the route's number otherwise.")
    when: str = Field("true", description="The route takes signals for which this is true; an error counts as false.")
    event: str | None = Field(None, description="The ExternalEventDef of the event to put.")
    key: str | None = Field(None, description="The correlation key: a CorrelatedEvent is put.")
    wf_run: str | None = Field(None, description="The printed id of the WfRun: an ExternalEvent is put.")
    start: Start | None = Field(None, description="Start a WfRun.")
    on_same_key: Literal["queue", "replace", "reject"] | None = Field(
        None,
        description="While an event with the key is live: queue (default where it is deleted after the first "
        "correlation), replace (default otherwise), or reject.",
    )
    on_unmatched: Literal["store", "dead", "start"] = Field(
        "store", description="An event for which no run waits: store it, make it a dead letter, or start a run."
    )
    on_expired: Literal["store", "dead", "start"] = Field(
        "store", description="An event that nobody took in its time: the same; store only notes it in the ledger."
    )
    content: str = Field("body", description="The content of the event.")
    id: str | None = Field(None, description="What tells one delivery from another; by kind of source otherwise.")
    thread: int | None = Field(None, ge=0, le=2**31 - 1, description="The threadRunNumber that the event is for.")
    ack: Literal["stored", "matched", "consumed", "result"] = Field(
        "stored", description="What the sender's answer waits for, where the kind of source has an answer."
    )
    ack_timeout_s: float | None = Field(
        None, gt=0, le=300, description="How long it waits: 2 for matched and consumed, 10 for result."
    )
    workflow_event: str | None = Field(
        None, description="The WorkflowEventDef whose event is the result; else it is the WfRun's output."
    )

    @model_validator(mode="after")
    def _one_target(self) -> "Route":
        if self.event is None:
            self._require_only_start()
        elif self.key is not None and self.wf_run is not None:
            raise ValueError("name one of key and wf_run, not both")
        elif self.key is None and self.wf_run is None and (self.start is None or self.start.id is None):
            raise ValueError("name key or wf_run, or start with an id, so that the event finds its run")
        if self.on_same_key is not None and self.key is None:
            raise ValueError("on_same_key needs key")
        if self.thread is not None and self.key is not None:
            raise ValueError("thread needs wf_run: a correlated event finds the thread by itself")
        if self.workflow_event is not None and self.ack != "result":
            raise ValueError('workflow_event needs ack = "result"')
        self._check_start()
        return self

    def _require_only_start(self) -> None:
        if self.start is None:
            raise ValueError("name an event, or start")
        for key in ("key", "wf_run", "thread", "content", "on_unmatched", "on_expired"):
            if key in self.model_fields_set:
                raise ValueError(f"{key} needs event")

    def _check_start(self) -> None:
        starts = "start" in (self.on_unmatched, self.on_expired)
        if starts and self.start is None:
            raise ValueError('"start" needs the table start, which says what to start')
        if self.key is None and self.wf_run is None and self.on_unmatched != "store":
            raise ValueError("start without key and wf_run starts the run that is not there; leave on_unmatched out")
        if self.wf_run is not None and self.on_unmatched == "start":
            raise ValueError("a run with this id is started by start with an id, and event, instead of wf_run")
        if self.start is not None and (self.key is not None or self.wf_run is not None) and not starts:
            raise ValueError('start beside key or wf_run needs on_unmatched = "start" or on_expired = "start"')


_TENANT = r"^[A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?$"


class SourceConfig(Model):
    """What the table of every source can hold. Derive from it and add the keys of your own."""

    kind: str = Field(description="The kind of source.")
    tenant: str = Field(
        "default",
        pattern=_TENANT,
        description="The tenant that the source's events belong to.",
    )
    keep_payloads: int = Field(
        100, ge=0, le=10_000, description="How many of the latest signals `lhd try --last` can use; in memory."
    )
    keep_payloads_bytes: int = Field(4_194_304, ge=0, description="How many bytes of them at most.")
    routes: tuple[Route, ...] = Field((), strict=False, description="The first route whose `when` is true is taken.")


@dataclass(frozen=True, slots=True)
class Event:
    """One signal from outside.

    ``body`` is JSON-like, text or bytes. ``id`` tells this signal from every other of the source, and is the same when
    it comes again; without one the digest of ``raw`` does. ``raw`` are the bytes as they came; ``fingerprint``, which
    is ``raw`` unless given, is the part of them that is the same when the signal comes again. The mappings are what
    routes see under these names.
    """

    body: Any
    id: str | int | tuple[str | int, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    file: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: bytes | None = None


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
    async def commit(self, events: Sequence[Event], *, cursor: Any = KEEP) -> list[Receipt]:
        """Store the events and the cursor in one transaction; returns when that is durable.

        One receipt for each event, in order. Acknowledge outside only afterwards. Raises Overloaded, and Transient
        where nothing could be stored for another reason.
        """

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

    def decode(self, raw: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> list[Event]:
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

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> str:  # noqa: ARG002
        """Bring these bytes to the running source as its sender would, for ``lhd send``; returns what came back.

        ``http`` is the address of the HTTP listener, ``now_ms`` the time. Raises ConfigError where that cannot be.
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
