"""The configuration: one frozen model for each TOML table, and what no single key can see."""

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Any, Literal

from littlehorse.model import PutExternalEventDefRequest, TypeDefinition
from pydantic import Field, field_validator, model_validator

from lhd.configured_tests import TestTable
from lhd.core.ids import is_lh_name
from lhd.errors import ConfigurationError
from lhd.plugin import ConfigError, Model, Secret
from lhd.toml_document import Document, Location, validate


class Address(Model):
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


class DaemonTable(Model):
    """``[daemon]``."""

    data_dir: str = Field("./lhd-data", description="Holds the store, its lock and the admin socket.")
    shutdown_grace_s: float = Field(20, ge=0, le=86_400, description="How long running calls may take to end.")
    dedupe_days: float = Field(14, gt=0, le=36_500, description="How long the identity of a delivery is known.")
    ledger_days: float = Field(30, gt=0, le=36_500, description="How long settled ledger rows are kept.")


class TlsTable(Model):
    """``tls`` of a listener."""

    cert: str = Field(description="Path of the certificate chain (PEM).")
    key: str = Field(description="Path of its private key (PEM).")
    client_ca: str | None = Field(None, description="Path of the authority of the clients' certificates (PEM).")


class OAuthTable(Model):
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


class OAuthChoice(Model):
    """``auth = { oauth = ... }``."""

    oauth: OAuthTable


class ListenerTable(Model):
    """``[[grpc.listeners]]``."""

    name: str | None = Field(None, min_length=1, description="Shown in logs and by status; else its address.")
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


class GrpcTable(Model):
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


class HttpTable(Model):
    """``[http]``."""

    listen: str = Field("127.0.0.1:8077", description="Where webhooks arrive.")
    admin_listen: str = Field("127.0.0.1:8078", description="/healthz, /readyz and /metrics.")
    compat_health_listen: str | None = Field(
        None, description="/readiness, /liveness, /status and /metrics, as clients of the original know them."
    )
    tls: TlsTable | None = Field(None, description="Serve webhooks over TLS; with client_ca for the scheme mtls.")
    header_timeout_s: float = Field(
        10, gt=0, description="A connection that sends no whole header for so long is closed."
    )
    connections_max: int = Field(4_000, ge=1, description="Connections to `listen` at once.")
    connections_per_peer_max: int = Field(1_000, ge=1, description="Those of one address.")
    insecure: bool = Field(
        False, description="Allow admin_listen and compat_health_listen beyond loopback, without authentication."
    )

    _addresses = field_validator("listen", "admin_listen", "compat_health_listen")(
        lambda text: text if text is None else _address(text)
    )


class LimitsTable(Model):
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
    refused_max: int = Field(200, ge=0, description="Refused signals that `lhd status --json` shows.")


class LogTable(Model):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level that is shown.")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text when stderr is a terminal.")


_SECONDS_MAX = 10**11
"""Some three thousand years."""


class CorrelatedTable(Model):
    """``correlated`` of an ``[[event]]``."""

    ttl_s: int | None = Field(None, ge=1, le=_SECONDS_MAX, description="How long a CorrelatedEvent is kept.")
    delete_after_first: bool = Field(True, description="Delete it once it has been correlated.")


class PluginsTable(Model):
    """``[plugins]``."""

    dirs: tuple[str, ...] = Field(
        (), strict=False, description="Folders whose modules and packages are loaded as plugins."
    )


class EventTable(Model):
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


class Configuration(Model):
    """The whole file. The tables of sources are checked later, by the kinds of source that they name."""

    daemon: DaemonTable = DaemonTable()
    grpc: GrpcTable = GrpcTable()
    http: HttpTable = HttpTable()
    limits: LimitsTable = LimitsTable()
    log: LogTable = LogTable()
    plugins: PluginsTable = PluginsTable()
    event: tuple[EventTable, ...] = Field((), strict=False)
    tests: tuple[TestTable, ...] = Field((), strict=False)
    sources: dict[str, dict[str, Any]] = Field({})


def load(path: Path | None) -> Configuration:
    """Read and check a configuration file, or the defaults without one. Raises ConfigurationError."""
    configuration, findings = examine(Document.read(path))
    if configuration is None or findings:
        raise ConfigurationError(findings)
    return configuration


def examine(document: Document) -> tuple[Configuration | None, list[str]]:
    """The configuration of a document, None where keys are wrong, and findings about all but its sources."""
    findings = contradictions(document)
    try:
        return validate(Configuration, document.data, document), findings
    except ConfigurationError as error:
        return None, error.findings + findings


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
    return found + _shared_paths(document) + _mtls_without_tls(document)


def unusable(configuration: Configuration, document: Document) -> list[str]:
    """Findings about what valid keys name and nobody can use: certificates, keys and secrets of gRPC listeners."""
    found = []
    if configuration.http.tls is not None and (problem := _tls_problem(configuration.http.tls)):
        found.append(document.finding(("http", "tls"), problem))
    for number, listener in enumerate(configuration.grpc.listeners):
        place: Location = ("grpc", "listeners", number)
        if listener.tls is not None and (problem := _tls_problem(listener.tls)):
            found.append(document.finding((*place, "tls"), problem))
        if isinstance(listener.auth, OAuthChoice):
            try:
                listener.auth.oauth.client_secret.read()
            except ConfigError as error:
                found.append(document.finding((*place, "auth"), error.text))
    return found


def server_tls(tls: TlsTable) -> ssl.SSLContext:
    """The TLS of an HTTP listener; with ``client_ca`` a client may show a certificate. Raises ssl.SSLError, OSError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _tls_problem(tls: TlsTable) -> str | None:
    for path in filter(None, (tls.cert, tls.key, tls.client_ca)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, ValueError):
        return f"{tls.cert} and {tls.key} are no certificate in PEM with its unencrypted private key"
    try:
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except (ssl.SSLError, ValueError):
        return f"{tls.client_ca} holds no certificate in PEM"
    return None


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


def _mtls_without_tls(document: Document) -> list[str]:
    http, sources = document.data.get("http"), document.data.get("sources")
    tls = http.get("tls") if isinstance(http, dict) else None
    if (isinstance(tls, dict) and "client_ca" in tls) or not isinstance(sources, dict):
        return []
    return [
        document.finding(("sources", name, "verify"), 'the scheme "mtls" needs tls with client_ca under [http]')
        for name, table in sources.items()
        if isinstance(table, dict) and isinstance(table.get("verify"), dict) and table["verify"].get("scheme") == "mtls"
    ]


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
