"""The configuration: one frozen model for each TOML table, and findings that name file, line and the nearest key."""

import difflib
import ipaddress
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from littlehorse.model import PutExternalEventDefRequest, TypeDefinition
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lhd.core.ids import is_lh_name
from lhd.errors import ConfigurationError
from lhd.plugin import Secret

Location = tuple[str | int, ...]


class Table(BaseModel):
    """Base of the models: frozen, strict, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Address(Table):
    """A host and a port."""

    host: str
    port: int = Field(ge=0, le=65535)

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address written ``host:port``; an IPv6 host stands in brackets. Raises ValueError."""
        match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([^:\[\]]+):([0-9]{1,5})", text)
        if match is None or int(match[2] or match[4]) > 65535:
            raise ValueError(f"'{text}' is not host:port")
        return cls(host=match[1] or match[3], port=int(match[2] or match[4]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(text: str) -> str:
    return str(Address.parse(text))


class DaemonTable(Table):
    """``[daemon]``."""

    data_dir: str = Field("./lhd-data", description="Holds the store, its lock and the admin socket.")
    shutdown_grace_s: float = Field(20, ge=0, le=86_400, description="How long running calls may take to end.")
    dedupe_days: float = Field(14, gt=0, le=36_500, description="How long the identity of a delivery is known.")
    ledger_days: float = Field(30, gt=0, le=36_500, description="How long settled ledger rows are kept.")


class TlsTable(Table):
    """``tls`` of a listener."""

    cert: str = Field(description="Path of the certificate chain (PEM).")
    key: str = Field(description="Path of its private key (PEM).")
    client_ca: str | None = Field(None, description="Path of the authority of the clients' certificates (PEM).")


class OAuthTable(Table):
    """``oauth`` of a listener's ``auth``: tokens are introspected (RFC 7662)."""

    introspect_url: str = Field(description="Where the authorisation server tells what a token is.")
    client_id: str = Field(description="Who lhd is there.")
    client_secret: Secret = Field(description="Its secret, by reference.")

    @field_validator("introspect_url")
    @classmethod
    def _url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("use an http:// or https:// URL")
        return url


class OAuthChoice(Table):
    """``auth = { oauth = ... }``."""

    oauth: OAuthTable


class ListenerTable(Table):
    """``[[grpc.listeners]]``."""

    name: str = Field("PLAIN", min_length=1, description="Shown in logs and by status.")
    listen: str = Field(description="Where LittleHorse clients connect.")
    advertise: str | None = Field(None, description="host:port that workers are told to poll; else `listen`.")
    tls: TlsTable | None = Field(None, description="Serve TLS.")
    auth: Literal["none", "mtls"] | OAuthChoice = Field("none", description="none, mtls, or { oauth = ... }.")
    insecure: bool = Field(False, description="Allow plaintext, or no authentication, beyond loopback.")

    _addresses = field_validator("listen", "advertise")(lambda text: text if text is None else _address(text))

    @model_validator(mode="after")
    def _mtls(self) -> "ListenerTable":
        if self.auth == "mtls" and (self.tls is None or self.tls.client_ca is None):
            raise ValueError('auth = "mtls" needs tls with client_ca')
        return self

    @property
    def is_guarded(self) -> bool:
        """Whether strangers can neither read along nor call."""
        return self.tls is not None and self.auth != "none"


class GrpcTable(Table):
    """``[grpc]``: one listener in short form, more in ``listeners``."""

    listen: str = Field("127.0.0.1:2023", description="Where LittleHorse clients connect.")
    advertise: str | None = Field(None, description="host:port that workers are told to poll; else `listen`.")
    insecure: bool = Field(False, description="Allow plaintext without authentication beyond loopback.")
    listeners: tuple[ListenerTable, ...] = Field((), strict=False, description="More listeners.")

    _addresses = field_validator("listen", "advertise")(lambda text: text if text is None else _address(text))

    @property
    def all_listeners(self) -> tuple[ListenerTable, ...]:
        """Every listener; the one of the short form is left out where others are written and it is not."""
        if self.listeners and "listen" not in self.model_fields_set:
            return self.listeners
        short = ListenerTable(listen=self.listen, advertise=self.advertise, insecure=self.insecure)
        return (short, *self.listeners)


class HttpTable(Table):
    """``[http]``."""

    listen: str = Field("127.0.0.1:8077", description="Where webhooks arrive.")
    admin_listen: str = Field("127.0.0.1:8078", description="/healthz, /readyz and /metrics.")
    compat_health_listen: str | None = Field(
        None, description="/readiness, /liveness, /status and /metrics, as clients of the original know them."
    )
    insecure: bool = Field(False, description="Allow admin_listen beyond loopback, where it has no authentication.")

    _addresses = field_validator("listen", "admin_listen", "compat_health_listen")(
        lambda text: text if text is None else _address(text)
    )


class LimitsTable(Table):
    """``[limits]``."""

    inbox_commands_max: int = Field(4096, ge=1, description="Commands that wait for the engine.")
    batch_commands_max: int = Field(256, ge=1, description="Commands in one commit.")
    cached_lanes_max: int = Field(5_000, ge=16, description="WfRuns, definitions and keys in memory.")
    timers_max: int = Field(20_000, ge=2, description="Timers in memory, the next ones; all others stay in rows.")
    record_bytes_max: int = Field(1_047_000, ge=1024, description="Bytes of one request that is stored.")
    passes_max: int = Field(512, ge=16, description="Passes over a WfRun's threads in one command.")
    command_passes_max: int = Field(4096, ge=16, description="The same, over a WfRun and the children that it starts.")
    threads_max: int = Field(65, ge=2, description="ThreadRuns of a WfRun that are not archived.")
    queued_events_max: int = Field(1_000, ge=0, description="Events of one key that wait behind the live one.")
    dead_letters_max: int = Field(10_000, ge=0, description="Dead letters kept.")
    dead_letter_bytes_max: int = Field(262_144, ge=0, description="Bytes of a dead letter's body that are kept.")
    wal_bytes_max: int = Field(67_108_864, ge=1_048_576, description="Size at which the write-ahead log begins anew.")
    refused_max: int = Field(200, ge=0, description="Refused signals that `lhd status` can show.")


class LogTable(Table):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level that is shown.")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text when stderr is a terminal.")


_SECONDS_MAX = 10**11
"""Some three thousand years."""


class CorrelatedTable(Table):
    """``correlated`` of an ``[[event]]``."""

    ttl_s: int | None = Field(None, ge=1, le=_SECONDS_MAX, description="How long a CorrelatedEvent is kept.")
    delete_after_first: bool = Field(True, description="Delete it once it has been correlated.")


class PluginsTable(Table):
    """``[plugins]``."""

    dirs: tuple[str, ...] = Field(
        (), strict=False, description="Folders whose modules and packages are loaded as plugins."
    )


class EventTable(Table):
    """``[[event]]``: an ExternalEventDef that the daemon makes sure exists."""

    name: str = Field(description="The name of the ExternalEventDef.")
    type: Literal["STR", "INT", "DOUBLE", "BOOL", "JSON_OBJ", "JSON_ARR", "BYTES", "TIMESTAMP"] | None = Field(
        None, description="The type of the content; without one nothing is checked."
    )
    correlated: CorrelatedTable | None = Field(None, description="Lets events of this name find runs by a key.")

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not is_lh_name(name):
            raise ValueError("use letters, digits and inner hyphens")
        return name

    def request(self) -> PutExternalEventDefRequest:
        """The request that defines the event."""
        request = PutExternalEventDefRequest(name=self.name)
        if self.type is not None:
            request.content_type.return_type.CopyFrom(TypeDefinition(primitive_type=self.type))
        if self.correlated is not None:
            config = request.correlated_event_config
            config.delete_after_first_correlation = self.correlated.delete_after_first
            if self.correlated.ttl_s is not None:
                config.ttl_seconds = self.correlated.ttl_s
        return request


class Configuration(Table):
    """The whole file. The tables of sources are checked later, by the kinds of source that they name."""

    daemon: DaemonTable = DaemonTable()
    grpc: GrpcTable = GrpcTable()
    http: HttpTable = HttpTable()
    limits: LimitsTable = LimitsTable()
    log: LogTable = LogTable()
    plugins: PluginsTable = PluginsTable()
    event: tuple[EventTable, ...] = Field((), strict=False)
    sources: dict[str, dict[str, Any]] = {}


class Document:
    """A TOML document with the lines of its keys, for findings that say where."""

    def __init__(self, path: Path | None, text: str) -> None:
        self._path = path
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError([f"{path}: {error}"]) from error
        self._lines = key_lines(text)

    @classmethod
    def read(cls, path: Path | None) -> "Document":
        """Read a file, or take the defaults without one. Raises ConfigurationError."""
        if path is None:
            return cls(None, "")
        try:
            return cls(path, path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError([f"{path}: {error.strerror}"]) from error
        except UnicodeDecodeError as error:
            raise ConfigurationError([f"{path}: not UTF-8 at byte {error.start}"]) from error

    def finding(self, location: Location, text: str) -> str:
        """One line: file, line and key, then what is wrong."""
        known = location
        while known and known not in self._lines:
            known = known[:-1]
        where = f"{self._path}:{self._lines.get(known, 1)}"
        return f"{where}: {dotted(location)}: {text}" if location else f"{where}: {text}"


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: Mapping[str, Any], document: Document, location: Location = ()) -> M:
    """Check a table against its model; raises ConfigurationError with a finding for every mistake in it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = []
        for mistake in error.errors(include_url=False, include_input=False):
            place = _without_tags(data, mistake["loc"])
            findings.append(document.finding(location + place, _explain(model, place, mistake)))
        raise ConfigurationError(findings) from error


def _without_tags(data: Any, place: Location) -> Location:
    """A place as it is in the document: pydantic adds the tag of a choice, which is no key there."""
    found: Location = ()
    for index, part in enumerate(place):
        is_there = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if is_there:
            data = data[part]
            found += (part,)
        elif index == len(place) - 1:
            found += (part,)
    return found


def _explain(model: type[BaseModel], place: Location, mistake: Any) -> str:
    if mistake["type"] == "extra_forbidden":
        return f"unknown key; {nearest(str(place[-1]), _keys_at(model, place[:-1]))}"
    if mistake["type"] == "missing":
        return "this key is needed"
    if mistake["type"] == "union_tag_invalid":
        context = mistake["ctx"]
        names = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"unknown {context['discriminator']} '{context['tag']}'; {nearest(context['tag'], names)}"
    return str(mistake["msg"]).removeprefix("Value error, ")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of a name that is not known: the nearest one, or the whole choice."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"


def _keys_at(model: Any, place: Location) -> list[str]:
    for part in place:
        candidates = [one for one in _models(model) if isinstance(part, str) and part in one.model_fields]
        if candidates:
            model = candidates[0].model_fields[str(part)].annotation
        elif isinstance(part, int):
            model = next((arg for arg in _flatten(model) if get_origin(arg) in (tuple, list)), model)
            model = get_args(model)[0] if get_args(model) else model
    return [name for one in _models(model) for name in one.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _flatten(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _flatten(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for arg in get_args(annotation) for one in _flatten(arg)]
    return [annotation]


def dotted(location: Location) -> str:
    """A place in the document as people write it: ``sources.github.routes[0].when``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_HEADER = re.compile(r"""\s*(\[\[?)((?:[^\[\]"']|"(?:[^"\\]|\\.)*"|'[^']*')+)\]\]?\s*(?:\#.*)?$""")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")


def key_lines(text: str) -> dict[Location, int]:
    """The line, counted from 1, on which each table and key of a valid TOML document begins."""
    lines: dict[Location, int] = {}
    arrays: dict[Location, int] = {}
    table: Location = ()
    rest = _Value()
    for number, line in enumerate(text.split("\n"), start=1):
        if rest.is_open:
            rest.read(line)
        elif header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), arrays, new=header[1] == "[[")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines[table + _parts(key[1])] = number
            rest.read(key[2])
    return lines


def _parts(text: str) -> Location:
    return tuple(match[0].strip("\"'") for match in _PART.finditer(text))


def _resolve(parts: Location, arrays: dict[Location, int], *, new: bool) -> Location:
    resolved: Location = ()
    for index, part in enumerate(parts):
        resolved += (part,)
        if new and index == len(parts) - 1:
            arrays[resolved] = arrays.get(resolved, -1) + 1
        if resolved in arrays:
            resolved += (arrays[resolved],)
    return resolved


class _Value:
    """How far a value that may span lines has been read: open brackets and open multi-line strings."""

    _TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|[\[\]{}]|#.*|\\.')

    # A closing quote may follow one or two quotes of the text; in a basic string a backslash takes the next character.
    _END: ClassVar = {'"""': re.compile(r'\\.|"{3,5}'), "'''": re.compile(r"'{3,5}")}

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def is_open(self) -> bool:
        return self._depth > 0 or bool(self._quote)

    def read(self, line: str) -> None:
        position = 0
        while position < len(line):
            if self._quote:
                end = self._END[self._quote].search(line, position)
                while end is not None and end[0].startswith("\\"):
                    end = self._END[self._quote].search(line, end.end())
                if end is None:
                    return
                position, self._quote = end.end(), ""
                continue
            token = self._TOKEN.search(line, position)
            if token is None:
                return
            position = token.end()
            self._depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if token[0] in ('"""', "'''"):
                self._quote = token[0]


def load(path: Path | None) -> tuple[Configuration, Document]:
    """Read and check a configuration file, or the defaults without one. Raises ConfigurationError."""
    document = Document.read(path)
    findings = contradictions(document)
    try:
        configuration = validate(Configuration, document.data, document)
    except ConfigurationError as error:
        findings = error.findings + findings
    if findings:
        raise ConfigurationError(findings)
    return configuration, document


def contradictions(document: Document) -> list[str]:
    """Findings about what no single key can see, as far as the document can be read; other mistakes hide none."""
    found = []
    for table, key in (("grpc", "listen"), ("http", "admin_listen"), ("http", "compat_health_listen")):
        of_table = document.data.get(table)
        if isinstance(of_table, dict) and of_table.get("insecure") is not True and _is_open(of_table.get(key)):
            text = (
                f"{of_table[key]} can be reached from other machines, without TLS or authentication; listen on "
                f"loopback, or write insecure = true under [{table}] if that is meant"
            )
            found.append(document.finding((table, key), text))
    found += _open_listeners(document)
    events = document.data.get("event")
    names = [event.get("name") for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    for number, name in enumerate(names):
        if name is not None and name in names[:number]:
            found.append(document.finding(("event", number, "name"), f"the event '{name}' is defined more than once"))
    return found + _shared_paths(document)


def _open_listeners(document: Document) -> list[str]:
    grpc = document.data.get("grpc")
    listeners = grpc.get("listeners") if isinstance(grpc, dict) else None
    if not isinstance(grpc, dict) or not isinstance(listeners, list):
        return []
    found = []
    for number, listener in enumerate(listeners):
        if not isinstance(listener, dict) or listener.get("insecure") is True or not _is_open(listener.get("listen")):
            continue
        if "tls" not in listener or listener.get("auth", "none") == "none":
            text = (
                f"{listener['listen']} can be reached from other machines, and needs both tls and auth; or write "
                "insecure = true in this listener if that is meant"
            )
            found.append(document.finding(("grpc", "listeners", number, "listen"), text))
    return found


def _is_open(listen: Any) -> bool:
    try:
        return isinstance(listen, str) and not Address.parse(listen).is_loopback
    except ValueError:
        return False


def _shared_paths(document: Document) -> list[str]:
    sources = document.data.get("sources")
    owners: dict[tuple[str, str], str] = {}
    found = []
    for name, table in sources.items() if isinstance(sources, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            owner = owners.setdefault((str(table.get("kind")), table["path"]), name)
            if owner != name:
                path = table["path"]
                text = f"the source '{owner}' has the path '{path}', too; give each a path of its own"
                found.append(document.finding(("sources", name, "path"), text))
    return found
