"""Runs each source under supervision: a source that fails is started again with back-off, and the others run on."""

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import orjson
import structlog
from anyio.abc import TaskStatus

from lhd.core import kinds
from lhd.core.commands import Command
from lhd.core.commands.deliveries import WHOLE, ResetSource
from lhd.engine import Engine
from lhd.errors import Code, Rejection
from lhd.http import HttpListener
from lhd.intake.intake import Intake, Refusals
from lhd.metrics import SOURCE_RESTARTS, SOURCE_UP, source_counter, source_gauge
from lhd.plugin import (
    KEEP,
    Acknowledgement,
    ConfigError,
    Event,
    HttpHandler,
    Overloaded,
    Receipt,
    SourceContext,
    Transient,
)
from lhd.sources.registry import ConfiguredSource
from lhd.store import Reader

_BACK_OFF_FIRST_S = 1.0
_BACK_OFF_MAX_S = 60.0
_STEADY_S = 60.0


class State(StrEnum):
    """What a source is doing."""

    STARTING = "starting"
    RUNNING = "running"
    FAULTED = "faulted"
    ENDED = "ended"


class _Context(SourceContext):
    def __init__(self, runner: "SourceRunner", cursor: Any, epochs: dict[str, int]) -> None:
        self.name = runner.name
        self.log = structlog.get_logger("lhd.source").bind(source=runner.name)
        self.cursor = cursor
        self._epochs = epochs
        self._runner = runner
        self._paths: list[tuple[str, str]] = []

    @property
    def data_dir(self) -> Path:
        path = self._runner.data_dir / "sources" / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def commit(
        self,
        events: Sequence[Event],
        *,
        cursor: Any = KEEP,
        positions: Mapping[str, Any] = MappingProxyType({}),
        whole: bool = False,
        bury: bool = False,
    ) -> list[Receipt]:
        receipts = await self._runner.intake.commit(events, cursor, positions, whole=whole, bury=bury)
        if cursor is not KEEP:
            self.cursor = cursor
        return receipts

    async def positions(
        self, parts: Sequence[str] | None = None, *, after: str = "", limit: int | None = None
    ) -> dict[str, Any]:
        return await self._runner.positions(parts, after, limit)

    async def position(self, part: str) -> Any:
        return await self._runner.position(part)

    def epoch(self, part: str = WHOLE) -> int:
        return sum(self._epochs.get(name, 0) for name in {WHOLE, part})

    def report(self, text: str) -> None:
        self._runner.reason = text

    async def acknowledge(self, receipt: Receipt) -> Acknowledgement:
        return await self._runner.intake.acknowledge(receipt)

    def http_route(self, method: str, path: str, handler: HttpHandler) -> None:
        try:
            self._runner.http.add(method, path, handler)
        except ValueError as error:
            raise ConfigError("path", str(error), "give each source a path of its own") from error
        self._paths.append((method, path))

    def close(self) -> None:
        for method, path in self._paths:
            self._runner.http.remove(method, path)

    def refused(self, reason: str, **facts: str | int) -> None:
        self._runner.refusals.note(self.name, reason, self.clock_ms(), facts)

    def count(self, name: str, **labels: str) -> None:
        source_counter(name, *labels).labels(self.name, *labels.values()).inc()

    def measure(self, name: str, value: float) -> None:
        source_gauge(name).labels(self.name).set(value)

    def clock_ms(self) -> int:
        return self._runner.engine.now_ms()

    @property
    def overloaded(self) -> bool:
        return self._runner.intake.overloaded

    @property
    def drain_s(self) -> float:
        return self._runner.engine.drain_s


class SourceRunner:
    """One source, from its first start to the end of the daemon."""

    def __init__(
        self,
        configured: ConfiguredSource,
        engine: Engine,
        reader: Reader,
        http: HttpListener,
        refusals: Refusals,
        data_dir: Path,
    ) -> None:
        self.name = configured.name
        self.kind = configured.config.kind
        self.engine = engine
        self.http = http
        self.refusals = refusals
        self.data_dir = data_dir
        self.state = State.STARTING
        self.reason = ""
        self.restarts = 0
        self.intake = Intake(engine, reader, self.name, configured.source, configured.routes)
        self._scope = anyio.CancelScope()
        self._busy = anyio.Lock()
        self._logged = ""
        self._tenant = configured.config.tenant
        self._reader = reader
        self._source = configured.source
        self._log = structlog.get_logger("lhd.sources").bind(source=self.name)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the source until cancelled; counts as started once its first run is under way or has failed."""
        back_off_s = _BACK_OFF_FIRST_S
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._report_started, task_status)
            while True:
                began = anyio.current_time()
                with anyio.CancelScope() as self._scope:
                    async with self._busy:
                        wait_s = await self._run_once(back_off_s)
                    if wait_s is None:
                        return
                    if anyio.current_time() - began > _STEADY_S:
                        back_off_s = _BACK_OFF_FIRST_S
                    self._log_failure(wait_s)
                    await anyio.sleep(wait_s)
                back_off_s = _BACK_OFF_FIRST_S if self._scope.cancelled_caught else min(back_off_s * 2, _BACK_OFF_MAX_S)
                self.restarts += 1
                SOURCE_RESTARTS.labels(self.name).inc()

    async def reset(self, part: str = WHOLE, *, new_epoch: bool) -> int:
        """Stop the source, forget where it was, in all or in one part, and start it again.

        Returns the epoch of the source or part, the next one if ``new_epoch``. Raises Rejection where that cannot be
        stored, or there is no such part.
        """
        self._scope.cancel()
        async with self._busy:
            inside = f"{part}/"
            positions = () if part == WHOLE else tuple(await self.positions(None, inside, None))
            positions = tuple(one for one in positions if one.startswith(inside))
            if part != WHOLE and not positions:
                raise Rejection(Code.NOT_FOUND, f"the source '{self.name}' has no part '{part}' that it has read of")
            request = ResetSource(self.name, new_epoch, part, positions)
            epoch: int = await self.engine.submit(Command(self._tenant, request))
        self._log.warning("the source begins anew, by order of an operator", part=part, epoch=epoch)
        return epoch

    def _log_failure(self, wait_s: float) -> None:
        """Loudly once for each reason, however often the source fails for it."""
        say = self._log.debug if self.reason == self._logged else self._log.warning
        say("the source failed and is started again", reason=self.reason, after_s=wait_s)
        self._logged = self.reason

    async def _report_started(self, task_status: TaskStatus[None]) -> None:
        # The source runs up to its first await before this task has its turn again.
        while self.state == State.STARTING:
            await anyio.lowlevel.checkpoint()
        task_status.started()

    async def _run_once(self, back_off_s: float) -> float | None:
        """Run the source; returns the seconds to wait before the next run, or None when it has ended by itself."""
        if not self.engine.directory.has_tenant(self._tenant):
            self.state = State.FAULTED
            self.reason = f"tenant: there is no tenant '{self._tenant}'; create it with PutTenant"
            return back_off_s
        context = _Context(self, await self.position(WHOLE), await self._epochs())
        self.state, self.reason = State.RUNNING, ""
        SOURCE_UP.labels(self.name).set(1)
        try:
            await self._source.run(context)
        except (Transient, Overloaded) as error:
            self.reason, back_off_s = str(error), error.after_s
        except ConfigError as error:
            self.reason = str(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody has cancelled the source: a library has cancelled what the source waited for.
            self.reason = "what the source waited for was cancelled"
        except Exception as error:  # noqa: BLE001 - a source's bug ends this run of this source only
            self.reason = f"{type(error).__name__} in the source's code"
            self._log.exception("the source failed because of a bug in its code")
        else:
            self.state = State.ENDED
            return None
        finally:
            context.close()
            SOURCE_UP.labels(self.name).set(0)
        self.state = State.FAULTED
        return back_off_s

    async def _epochs(self) -> dict[str, int]:
        query = "SELECT part, epoch FROM source_epoch WHERE tenant = ? AND source = ?"
        return dict(await self._reader.fetch(query, (self._tenant, self.name)))

    async def position(self, part: str) -> Any:
        """What was committed last as the position of a part."""
        text = await self._reader.get(kinds.CURSOR, (self._tenant, self.name, part))
        return None if text is None else orjson.loads(text)

    async def positions(self, parts: Sequence[str] | None, after: str, limit: int | None) -> dict[str, Any]:
        """See SourceContext."""
        query = "SELECT part, value FROM cursor WHERE tenant = ? AND source = ?"
        if parts is None:
            query += " AND part > ? ORDER BY part LIMIT ?"
            values: tuple[Any, ...] = (after, -1 if limit is None else limit)
        else:
            # Of this SQLite makes lookups; with a range beside it, it would go through all of the source's parts.
            query += " AND part IN (SELECT value FROM json_each(?))"
            values = (orjson.dumps(parts).decode(),)
        rows = await self._reader.fetch(query, (self._tenant, self.name, *values))
        return {part: orjson.loads(text) for part, text in rows}
