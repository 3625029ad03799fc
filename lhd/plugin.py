"""The public surface for authors of sources; nothing else of lhd may be imported by a plugin.

A plugin is a module, named by an entry point in the group ``lhd``, that implements :func:`lhd_sources`. A source is a
class with a ``kind``, a configuration model and one coroutine, :meth:`Source.run`, that hands what it hears to
:meth:`SourceContext.commit`.
"""

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


class Route(Model):
    """What becomes of a signal. Expressions are CEL over body, headers, key, query, file, record and meta."""

    name: str = Field("", description="Shown by explain; the route's number otherwise.")
    when: str = Field("true", description="The route takes signals for which this is true; an error counts as false.")
    event: str = Field(description="The ExternalEventDef of the event to put.")
    key: str | None = Field(None, description="The correlation key: a CorrelatedEvent is put.")
    wf_run: str | None = Field(None, description="The printed id of the WfRun: an ExternalEvent is put.")
    on_same_key: Literal["queue", "replace", "reject"] | None = Field(
        None,
        description="While an event with the key is live: queue (default where it is deleted after the first "
        "correlation), replace (default otherwise), or reject.",
    )
    content: str = Field("body", description="The content of the event.")
    id: str | None = Field(None, description="What tells one delivery from another; by kind of source otherwise.")
    thread: int | None = Field(None, ge=0, le=2**31 - 1, description="The threadRunNumber that the event is for.")

    @model_validator(mode="after")
    def _one_target(self) -> "Route":
        if (self.key is None) == (self.wf_run is None):
            raise ValueError("name exactly one of key and wf_run, so that the event finds its run")
        if self.on_same_key is not None and self.key is None:
            raise ValueError("on_same_key needs key")
        if self.thread is not None and self.wf_run is None:
            raise ValueError("thread needs wf_run: a correlated event finds the thread by itself")
        return self


_TENANT = r"^[A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?$"


class SourceConfig(Model):
    """What the table of every source can hold. Derive from it and add the keys of your own."""

    kind: str = Field(description="The kind of source.")
    tenant: str = Field(
        "default",
        pattern=_TENANT,
        description="The tenant that the source's events belong to.",
    )
    routes: tuple[Route, ...] = Field((), strict=False, description="The first route whose `when` is true is taken.")


@dataclass(frozen=True, slots=True)
class Event:
    """One signal from outside.

    ``body`` is JSON-like, text or bytes. ``id`` tells this signal from every other of the source, and is the same when
    it comes again; without one the digest of ``raw`` does. ``raw`` are the bytes as they came. The mappings are what
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


HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
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
    def http_route(self, method: str, path: str, handler: HttpHandler) -> None:
        """Answer requests of this method and path on the shared HTTP listener while the source runs.

        Raises ConfigError where another source has the same path.
        """

    @abstractmethod
    def refused(self, reason: str, **facts: str | int) -> None:
        """Note that the door refused a signal, for the counters and for ``lhd status``; no payload, no secret."""

    @abstractmethod
    def clock_ms(self) -> int:
        """The daemon's time in milliseconds since the epoch."""

    @property
    @abstractmethod
    def overloaded(self) -> bool:
        """Whether :meth:`commit` would raise Overloaded just now."""


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
