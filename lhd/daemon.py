"""The composition root: start order, readiness, signals and stop order of the daemon."""

import gc
import itertools
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, tzinfo
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import structlog
from anyio.abc import TaskGroup
from littlehorse.model import LHHostInfo

from lhd.admin.admin_api import add_admin_routes
from lhd.admin.health import add_compat_health_routes, add_health_routes
from lhd.api.call import Api
from lhd.api.listeners import OAuth, authentication, credentials
from lhd.api.server import GrpcServer
from lhd.bulk_jobs import BulkJobs
from lhd.config import Address, Configuration, ListenerTable, server_tls
from lhd.core.access import DEFAULT_TENANT
from lhd.core.commands import Command
from lhd.core.commands.deliveries import EnsureEventDef
from lhd.core.settings import Settings
from lhd.engine import Engine, Limits
from lhd.errors import Rejection, StoreError
from lhd.http import ConnectionLimits, HttpListener
from lhd.intake.explain import iso
from lhd.intake.intake import Refusals
from lhd.sources.registry import ConfiguredSource
from lhd.sources.runner import SourceRunner
from lhd.stall import StallDetector
from lhd.store import Reader, Store
from lhd.systemd import Notifier, watchdog_interval_s

_DAY_MS = 86_400_000
_CHECKPOINT_EVERY_S = 5.0
_STALL_S = 2.0
ADMIN_SOCKET = "admin.sock"


class Daemon:
    """One daemon on one data directory."""

    def __init__(self, configuration: Configuration, sources: list[ConfiguredSource]) -> None:
        self._configuration = configuration
        self._sources = sources
        self._data_dir = Path(configuration.daemon.data_dir)
        self._log = structlog.get_logger("lhd.daemon")
        self._notifier = Notifier()
        grace_s = configuration.daemon.shutdown_grace_s
        self._refusals = Refusals(configuration.limits.refused_max)
        http = configuration.http
        limits = ConnectionLimits(http.header_timeout_s, http.connections_max, http.connections_per_peer_max)
        self._http = HttpListener(grace_s, self._note_refusal, limits)
        self._admin_http, self._admin_socket = HttpListener(grace_s), HttpListener(grace_s)
        self._compat_http = HttpListener(grace_s)
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._tenants = sorted({DEFAULT_TENANT, *(source.config.tenant for source in sources)})
        """Those that have the events of the configuration."""
        self._runners: list[SourceRunner] = []
        self._addresses: dict[str, str] = {}
        self._ready = False
        self._started_ms = 0
        self._api: Api
        self._signals: AsyncIterator[signal.Signals]
        self._engine: Engine

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop in order.

        Raises StoreError when the store cannot be opened or written, and OSError when a listener cannot be bound.
        """
        async with AsyncExitStack() as stack:
            # From here on a signal waits to be read; it can no longer end the process in the middle of something.
            self._signals = stack.enter_context(anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
            store = await Store.open(self._data_dir)
            stack.push_async_callback(store.close)
            readers = [await store.reader() for _ in range(2)]
            for reader in readers:
                stack.push_async_callback(reader.close)
            await self._serve(store, *readers)
        self._log.info("stopped")

    async def _serve(self, store: Store, api_reader: Reader, admin_reader: Reader) -> None:
        self._engine = Engine(store, self._settings(), self._limits())
        self._started_ms = self._engine.now_ms()
        async with anyio.create_task_group() as engine_tasks:
            await engine_tasks.start(self._engine.run)
            engine_tasks.start_soon(self._checkpoint, store)
            engine_tasks.start_soon(BulkJobs(self._engine, admin_reader).run)
            engine_tasks.start_soon(StallDetector(_STALL_S).run)
            await self._ensure_event_defs()
            self._runners = [
                SourceRunner(source, self._engine, admin_reader, self._http, self._refusals, self._data_dir)
                for source in self._sources
            ]
            async with anyio.create_task_group() as tasks:
                for runner in self._runners:
                    await tasks.start(runner.run, name=f"source {runner.name}")
                servers = await self._listen(api_reader, admin_reader)
                tasks.start_soon(self._watchdog)
                self._announce_ready()
                await self._wait_for_stop_signal()
                await self._stop(servers, tasks)
            engine_tasks.cancel_scope.cancel()

    def _settings(self) -> Settings:
        limits = self._configuration.limits
        return Settings(
            record_bytes_max=limits.record_bytes_max,
            passes_max=limits.passes_max,
            command_passes_max=limits.command_passes_max,
            threads_max=limits.threads_max,
            dedupe_ms=int(self._configuration.daemon.dedupe_days * _DAY_MS),
            dead_letter_bytes_max=limits.dead_letter_bytes_max,
            queued_events_max=limits.queued_events_max,
            time_zone=_local_zone(),
            event_defs={
                (tenant, event.name): event.request()
                for tenant, event in itertools.product(self._tenants, self._configuration.event)
            },
        )

    def _limits(self) -> Limits:
        limits = self._configuration.limits
        return Limits(
            inbox_commands_max=limits.inbox_commands_max,
            batch_commands_max=limits.batch_commands_max,
            cached_lanes_max=limits.cached_lanes_max,
            timers_max=limits.timers_max,
            ledger_ms=int(self._configuration.daemon.ledger_days * _DAY_MS),
            dead_letters_max=limits.dead_letters_max,
            wal_bytes_max=limits.wal_bytes_max,
        )

    async def _ensure_event_defs(self) -> None:
        tenants = [tenant for tenant in self._tenants if self._engine.directory.has_tenant(tenant)]
        for tenant, event in itertools.product(tenants, self._configuration.event):
            try:
                await self._engine.submit(Command(tenant, EnsureEventDef(event.request())))
            except Rejection as rejection:
                raise StoreError(f"the event '{event.name}' cannot be defined: {rejection.text}") from rejection

    async def _listen(self, api_reader: Reader, admin_reader: Reader) -> list[GrpcServer]:
        add_health_routes(self._admin_http, lambda: self._ready)
        intakes = {runner.name: runner.intake for runner in self._runners}
        resets = {runner.name: runner.reset for runner in self._runners}
        add_admin_routes(self._admin_socket, self._engine, admin_reader, self.status, intakes, resets)
        tls = self._configuration.http.tls
        secured = None if tls is None else server_tls(tls)
        http = await _bind(self._http, self._configuration.http.listen, secured)
        admin = await _bind(self._admin_http, self._configuration.http.admin_listen)
        self._addresses = {"http": http, "admin": admin}
        if self._configuration.http.compat_health_listen is not None:
            add_compat_health_routes(self._compat_http, lambda: self._ready, self.status)
            compat = await _bind(self._compat_http, self._configuration.http.compat_health_listen)
            self._addresses["compat_health"] = compat
        self._api = Api(self._engine, api_reader, LHHostInfo())
        servers = [await self._serve_grpc(table) for table in self._configuration.grpc.all_listeners]
        await self._admin_socket.start_unix(self._data_dir / ADMIN_SOCKET)
        return servers

    async def _serve_grpc(self, table: ListenerTable) -> GrpcServer:
        """One gRPC listener; what it tells workers to poll is its own address."""
        api = replace(self._api, advertised=LHHostInfo())
        authenticate = authentication(table.auth)
        if isinstance(authenticate, OAuth):
            self._closing.append(authenticate.close)
        server = GrpcServer(api, authenticate)
        secured = None if table.tls is None else credentials(table.tls, require_client=table.auth == "mtls")
        address = Address.parse(table.listen)
        port = await server.start(str(address), secured)
        advertised = Address.parse(table.advertise or str(Address(host=address.host, port=port)))
        api.advertised.host, api.advertised.port = advertised.host, advertised.port
        several = len(self._configuration.grpc.all_listeners) > 1
        self._addresses[f"grpc {table.name or table.listen}" if several else "grpc"] = f"{address.host}:{port}"
        return server

    def _announce_ready(self) -> None:
        _settle_memory()
        self._ready = True
        self._notifier.ready()
        self._notifier.status(f"{len(self._runners)} sources")
        self._log.info(
            "ready", version=version("lhd"), pid=os.getpid(), data_dir=str(self._data_dir), **self._addresses
        )

    async def _wait_for_stop_signal(self) -> None:
        async for received in self._signals:
            self._log.info("stopping", signal=received.name)
            return

    async def _stop(self, servers: Sequence[GrpcServer], tasks: TaskGroup) -> None:
        """New work is refused first; what was accepted is committed and answered; then sources and engine end."""
        self._ready = False
        self._notifier.stopping()
        for runner in self._runners:
            runner.intake.acknowledgements.stop()
        async with anyio.create_task_group() as stopping:
            for server in servers:
                stopping.start_soon(server.stop, self._configuration.daemon.shutdown_grace_s)
            for listener in (self._http, self._admin_http, self._compat_http, self._admin_socket):
                stopping.start_soon(listener.stop)
        for close in self._closing:
            await close()
        (self._data_dir / ADMIN_SOCKET).unlink(missing_ok=True)
        tasks.cancel_scope.cancel()

    def _note_refusal(self, reason: str, status: int) -> None:
        self._refusals.note("http", reason, self._engine.now_ms(), {"status": status})

    async def _checkpoint(self, store: Store) -> None:
        while True:
            await anyio.sleep(_CHECKPOINT_EVERY_S)
            await store.checkpoint()

    async def _watchdog(self) -> None:
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            self._notifier.watchdog()
            await anyio.sleep(interval_s)

    def status(self) -> dict[str, Any]:
        """What is going on, for operators."""
        queues = self._engine.queues.depth()
        workers = self._api.workers.counts()
        names = sorted(queues.keys() | workers.keys())
        return {
            "version": version("lhd"),
            "pid": os.getpid(),
            "ready": self._ready,
            "started_at": iso(self._started_ms),
            "data_dir": str(self._data_dir.resolve()),
            "listeners": self._addresses,
            "timers": self._engine.timers,
            "sources": [self._source_status(runner) for runner in self._runners],
            "tasks": [
                {
                    "tenant": tenant,
                    "task_def": name,
                    "queued": queues.get((tenant, name), (0, 0))[0],
                    "waiting_polls": queues.get((tenant, name), (0, 0))[1],
                    "workers": workers.get((tenant, name), 0),
                }
                for tenant, name in names
            ],
            "refused": [dict(fact, at=iso(int(fact["at_ms"]))) for fact in self._refusals.last],
        }

    def _source_status(self, runner: SourceRunner) -> dict[str, Any]:
        refused = {reason: count for (name, reason), count in self._refusals.counts.items() if name == runner.name}
        return {
            "name": runner.name,
            "kind": runner.kind,
            "state": runner.state,
            "reason": runner.reason,
            "restarts": runner.restarts,
            "refused": refused,
        }


def _local_zone() -> tzinfo:
    """The machine's time zone, with its changes of summer time."""
    try:
        if name := os.environ.get("TZ"):
            return ZoneInfo(name.removeprefix(":"))
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def _settle_memory() -> None:
    """Keep the garbage collector's hands off what lives as long as the process, and let it look less often.

    Its full collections walk over every object, and the event loop waits for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _bind(listener: HttpListener, text: str, tls: ssl.SSLContext | None = None) -> str:
    address = Address.parse(text)
    try:
        port = await listener.start(address.host, address.port, tls)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from error
    return f"{address.host}:{port}"
