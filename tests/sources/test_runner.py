"""Sources under supervision, over a real engine: restarts, cursors, receipts and routes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from littlehorse.model import (
    CorrelatedEventConfig,
    PutExternalEventDefRequest,
    PutQuotaRequest,
    PutTaskDefRequest,
    PutTenantRequest,
    ReturnType,
    TenantId,
    TypeDefinition,
    VariableType,
)

from lhd.core.commands import Command
from lhd.core.commands.cluster import CLUSTER, OnBehalf
from lhd.engine import Engine, Limits
from lhd.errors import StoreError
from lhd.http import HttpListener
from lhd.intake.intake import Refusals
from lhd.intake.routes import Routes
from lhd.plugin import ConfigError, Event, Overloaded, Receipt, Route, Source, SourceConfig, SourceContext, Transient
from lhd.sources.registry import ConfiguredSource
from lhd.sources.runner import SourceRunner, State
from lhd.store import Store
from tests.engine.disk import full_disk

TENANT = "default"
PATIENCE_S = 10.0

Run = Callable[[SourceContext], Awaitable[None]]


class Scripted(Source[SourceConfig]):
    """Does what the test says; one function for each run, and then it waits to be cancelled."""

    kind = "scripted"

    def __init__(self, config: SourceConfig, *runs: Run) -> None:
        super().__init__(config)
        self._runs = list(runs)

    async def run(self, context: SourceContext) -> None:
        if self._runs:
            await self._runs.pop(0)(context)
        else:
            await anyio.sleep_forever()


class Supervisor:
    """Starts sources as the daemon does."""

    def __init__(self, engine: Engine, folder: Path, tasks: anyio.abc.TaskGroup, http: HttpListener) -> None:
        self.engine = engine
        self.http = http
        self._folder = folder
        self._tasks = tasks

    async def start(self, *runs: Run, name: str = "scripted", tenant: str = TENANT) -> SourceRunner:
        routes = (
            Route(when="body.to == 'run'", event="happened", wf_run="body.run", content="body.value"),
            Route(when="body.to == 'key'", event="happened", key="body.key"),
        )
        config = SourceConfig(kind="scripted", tenant=tenant, routes=routes)
        configured = ConfiguredSource(name, config, Scripted(config, *runs), Routes(name, routes))
        reader = await self.engine.store.reader()
        runner = SourceRunner(configured, self.engine, reader, self.http, Refusals(10), self._folder)

        async def run_and_close(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            try:
                await runner.run(task_status=task_status)
            finally:
                with anyio.CancelScope(shield=True):
                    await reader.close()

        with anyio.fail_after(PATIENCE_S):
            await self._tasks.start(run_and_close)
        return runner


@asynccontextmanager
async def supervised(engine: Engine, folder: Path) -> AsyncIterator[Supervisor]:
    text = ReturnType(return_type=TypeDefinition(primitive_type=VariableType.STR))
    definition = PutExternalEventDefRequest(
        name="happened",
        content_type=text,
        correlated_event_config=CorrelatedEventConfig(delete_after_first_correlation=True),
    )
    await engine.submit(Command(TENANT, definition))
    async with anyio.create_task_group() as tasks:
        yield Supervisor(engine, folder, tasks, HttpListener(0.1))
        tasks.cancel_scope.cancel()


@pytest.fixture
async def supervisor(engine: Engine, tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with supervised(engine, tmp_path) as supervisor:
        yield supervisor


async def until(event: anyio.Event) -> None:
    with anyio.fail_after(PATIENCE_S):
        await event.wait()


async def until_state(runner: SourceRunner, state: State) -> None:
    with anyio.fail_after(PATIENCE_S):
        while runner.state != state:
            await anyio.lowlevel.checkpoint()


async def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    reader = await engine.store.reader()
    try:
        return await reader.fetch(query)
    finally:
        await reader.close()


def signal(number: int, **body: Any) -> Event:
    return Event({"to": "run", "run": "r", "value": str(number), **body}, id=number)


def fails(error: BaseException) -> Run:
    async def run(_: SourceContext) -> None:
        raise error

    return run


class Once:
    """A run that tells that it was reached, keeps its context and waits."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.context: SourceContext

    async def __call__(self, context: SourceContext) -> None:
        self.context = context
        self.reached.set()
        await anyio.sleep_forever()


# Restarts


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("bug"), ExceptionGroup("group", [ValueError("inner")]), TimeoutError()], ids=repr
)
async def test_a_source_that_raises_is_faulted_and_started_again(supervisor: Supervisor, error: Exception) -> None:
    again = Once()
    runner = await supervisor.start(fails(error), again)
    await until(again.reached)
    assert (runner.state, runner.restarts, runner.reason) == (State.RUNNING, 1, "")


async def test_while_a_failed_source_waits_the_reason_can_be_seen(supervisor: Supervisor) -> None:
    runner = await supervisor.start(fails(Transient("the broker is away", after_s=60)))
    await until_state(runner, State.FAULTED)
    assert runner.reason == "the broker is away"


async def test_a_bug_in_a_source_is_named_by_its_type_and_shows_no_payload(supervisor: Supervisor) -> None:
    runner = await supervisor.start(fails(ValueError("hunter2")))
    await until_state(runner, State.FAULTED)
    assert "ValueError" in runner.reason
    assert "hunter2" not in runner.reason


async def test_transient_says_when_the_source_is_started_again(supervisor: Supervisor) -> None:
    again = Once()
    away = [fails(Transient("away", after_s=0.01)) for _ in range(4)]
    runner = await supervisor.start(*away, again)
    await until(again.reached)
    assert runner.restarts == 4


async def test_a_config_error_faults_the_source_and_names_key_and_fix(supervisor: Supervisor) -> None:
    runner = await supervisor.start(fails(ConfigError("topics", "there is no such topic", "create it")))
    await until_state(runner, State.FAULTED)
    assert all(part in runner.reason for part in ("topics", "there is no such topic", "create it"))


async def test_a_source_that_raises_leaves_the_others_running(supervisor: Supervisor) -> None:
    other = Once()
    await supervisor.start(other, name="other")
    broken = await supervisor.start(fails(ZeroDivisionError()), name="broken")
    await until_state(broken, State.FAULTED)
    (receipt,) = await other.context.commit([signal(1)])
    assert receipt.verdict == "accepted"


async def test_a_source_that_returns_has_ended(supervisor: Supervisor) -> None:
    async def run(_: SourceContext) -> None:
        pass

    runner = await supervisor.start(run)
    await until_state(runner, State.ENDED)
    assert runner.restarts == 0


async def test_a_source_that_fails_at_once_does_not_hold_up_the_start(supervisor: Supervisor) -> None:
    runner = await supervisor.start(fails(Transient("away", after_s=60)))
    assert runner.state == State.FAULTED


async def test_a_source_is_cancelled_to_stop_and_may_clean_up(engine: Engine, tmp_path: Path) -> None:
    cleaned = anyio.Event()

    async def run(_: SourceContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    async with supervised(engine, tmp_path) as supervisor:
        await supervisor.start(run)
    assert cleaned.is_set()


# Receipts


async def test_there_is_one_receipt_for_each_event_in_order(supervisor: Supervisor) -> None:
    once = Once()
    await supervisor.start(once)
    events = [
        signal(1),
        signal(2, to="nobody"),
        signal(3, value={"not": "text"}),
        signal(1),
        signal(1, value="other"),
        signal(4, run="no run!"),
        signal(5),
    ]
    receipts = await once.context.commit(events)
    verdicts = ["accepted", "filtered", "dead", "duplicate", "conflict", "dead", "accepted"]
    assert [receipt.verdict for receipt in receipts] == verdicts
    assert receipts[0].event_id == receipts[3].event_id
    assert len({receipt.event_id for receipt in receipts}) == 6
    assert all(receipt.reason for receipt in receipts if receipt.verdict in ("filtered", "dead", "conflict"))


async def test_a_dead_event_among_good_ones_leaves_nothing_but_its_dead_letter(
    supervisor: Supervisor, engine: Engine
) -> None:
    once = Once()
    await supervisor.start(once)
    receipts = await once.context.commit([signal(1), signal(2, value={}), signal(3)], cursor=7)
    assert await rows(engine, "SELECT guid FROM external_event ORDER BY arrival") == [
        (receipts[0].event_id,),
        (receipts[2].event_id,),
    ]
    assert await rows(engine, "SELECT delivery_id FROM dead_letter") == [(receipts[1].event_id,)]
    assert await rows(engine, "SELECT count(*) FROM ledger") == [(3,)]
    assert await rows(engine, "SELECT count(*) FROM seen_delivery") == [(2,)]
    assert await rows(engine, "SELECT value FROM cursor") == [("7",)]


async def test_when_commit_returns_the_events_can_be_read(supervisor: Supervisor, engine: Engine) -> None:
    once = Once()
    await supervisor.start(once)
    (receipt,) = await once.context.commit([signal(1)])
    assert await rows(engine, "SELECT delivery_id, verdict FROM ledger") == [(receipt.event_id, "accepted")]


async def test_a_commit_of_no_events_keeps_the_cursor(supervisor: Supervisor, engine: Engine) -> None:
    once = Once()
    await supervisor.start(once)
    assert await once.context.commit([], cursor={"offset": 3}) == []
    assert await rows(engine, "SELECT value FROM cursor") == [('{"offset":3}',)]


# Cursors


async def test_without_a_commit_there_is_no_cursor(supervisor: Supervisor) -> None:
    once = Once()
    await supervisor.start(once)
    assert once.context.cursor is None


@pytest.mark.parametrize("cursor", [0, 17, "text", None, [1, "a"], {"partition": {"0": 3}}], ids=str)
async def test_the_next_run_is_given_the_cursor_that_was_committed_last(supervisor: Supervisor, cursor: Any) -> None:
    async def commit_and_fail(context: SourceContext) -> None:
        await context.commit([signal(1)], cursor="an earlier one")
        await context.commit([signal(2)], cursor=cursor)
        assert context.cursor == cursor
        raise Transient("away", after_s=0.01)

    again = Once()
    await supervisor.start(commit_and_fail, again)
    await until(again.reached)
    assert again.context.cursor == cursor


async def test_a_commit_without_a_cursor_leaves_it_as_it_is(supervisor: Supervisor) -> None:
    async def commit_and_fail(context: SourceContext) -> None:
        await context.commit([signal(1)], cursor=5)
        await context.commit([signal(2)])
        assert context.cursor == 5
        raise Transient("away", after_s=0.01)

    again = Once()
    await supervisor.start(commit_and_fail, again)
    await until(again.reached)
    assert again.context.cursor == 5


async def test_each_source_has_a_cursor_of_its_own(supervisor: Supervisor) -> None:
    one, other, third = Once(), Once(), Once()
    await supervisor.start(one, name="one")
    await one.context.commit([], cursor=1)
    await supervisor.start(other, name="other")
    assert other.context.cursor is None
    await supervisor.start(third, name="one")
    assert third.context.cursor == 1


async def test_the_cursor_is_given_back_after_a_restart_of_the_daemon(tmp_path: Path) -> None:
    for expected in (None, {"offset": 1}):
        store = await Store.open(tmp_path / "data")
        engine = Engine(store)
        once = Once()
        async with anyio.create_task_group() as tasks:
            await tasks.start(engine.run)
            async with supervised(engine, tmp_path) as supervisor:
                await supervisor.start(once)
                assert once.context.cursor == expected
                await once.context.commit([signal(1)], cursor={"offset": 1})
            tasks.cancel_scope.cancel()
        await store.close()


async def test_events_and_cursor_are_one_transaction(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "data")
    engine = Engine(store)
    receipts: list[Receipt] = []

    async def commit_twice(context: SourceContext) -> None:
        receipts.extend(await context.commit([signal(1)], cursor=1))
        with full_disk(tmp_path / "data"):
            receipts.extend(await context.commit([signal(number) for number in range(2, 200)], cursor=2))

    with pytest.RaisesGroup(StoreError, flatten_subgroups=True):
        async with anyio.create_task_group() as tasks:
            await tasks.start(engine.run)
            async with supervised(engine, tmp_path) as supervisor:
                await supervisor.start(commit_twice)
                await until(anyio.Event())
    assert [receipt.verdict for receipt in receipts] == ["accepted"]
    await store.close()
    again = await Store.open(tmp_path / "data")
    reader = await again.reader()
    assert await reader.fetch("SELECT value FROM cursor") == [("1",)]
    assert await reader.fetch("SELECT count(*) FROM ledger") == [(1,)]
    assert await reader.fetch("SELECT count(*) FROM external_event") == [(1,)]
    await reader.close()
    await again.close()


# Overload


async def test_an_overloaded_daemon_says_so_and_takes_nothing(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "data")
    engine = Engine(store, limits=Limits(inbox_commands_max=1))
    once = Once()
    async with anyio.create_task_group() as callers, anyio.create_task_group() as tasks:
        supervisor = Supervisor(engine, tmp_path, tasks, HttpListener(0.1))
        await supervisor.start(once)
        # The engine does not run yet, so that one command fills its inbox.
        callers.start_soon(engine.submit, Command(TENANT, PutTaskDefRequest(name="fills")))
        with anyio.fail_after(PATIENCE_S):
            while not engine.overloaded:
                await anyio.lowlevel.checkpoint()
        assert once.context.overloaded
        with pytest.raises(Overloaded) as overloaded:
            await once.context.commit([signal(1, to="nobody")], cursor=1)
        assert overloaded.value.after_s > 0
        assert once.context.cursor is None
        await tasks.start(engine.run)
        (receipt,) = await once.context.commit([signal(1, to="nobody")])
        assert receipt.verdict == "filtered"
        tasks.cancel_scope.cancel()
    await store.close()


# Routes on the shared listener


async def answer(_: web.BaseRequest) -> web.Response:
    return web.Response(text="here")


class Answers(Once):
    """A run that answers on a path and then does as it is told."""

    def __init__(self, path: str, then: BaseException | None = None) -> None:
        super().__init__()
        self.leave = anyio.Event()
        self._path = path
        self._then = then

    async def __call__(self, context: SourceContext) -> None:
        context.http_route("GET", self._path, answer)
        self.reached.set()
        await self.leave.wait()
        if self._then is not None:
            raise self._then


@pytest.fixture
async def get(supervisor: Supervisor) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    port = await supervisor.http.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:

        async def status(path: str) -> int:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status

        yield status
    await supervisor.http.stop()


@pytest.mark.parametrize("then", [None, Transient("away", after_s=60), ZeroDivisionError()], ids=repr)
async def test_a_route_is_answered_while_the_run_lasts_and_no_longer(
    supervisor: Supervisor, get: Callable[[str], Awaitable[int]], then: BaseException | None
) -> None:
    run = Answers("/mine", then)
    runner = await supervisor.start(run)
    assert await get("/mine") == 200
    run.leave.set()
    await until_state(runner, State.ENDED if then is None else State.FAULTED)
    assert await get("/mine") == 404


async def test_a_route_is_answered_again_after_a_restart(
    supervisor: Supervisor, get: Callable[[str], Awaitable[int]]
) -> None:
    first, second = Answers("/mine", Transient("away", after_s=0.01)), Answers("/mine")
    await supervisor.start(first, second)
    first.leave.set()
    await until(second.reached)
    assert await get("/mine") == 200


async def test_the_path_of_another_source_is_refused_and_stays_the_others(
    supervisor: Supervisor, get: Callable[[str], Awaitable[int]]
) -> None:
    await supervisor.start(Answers("/mine"), name="first")
    second = await supervisor.start(Answers("/mine"), name="second")
    await until_state(second, State.FAULTED)
    assert "path" in second.reason
    assert await get("/mine") == 200


# The rest of a source's world


async def test_a_source_knows_its_name_its_folder_and_the_time(supervisor: Supervisor, tmp_path: Path) -> None:
    once = Once()
    await supervisor.start(once, name="mine")
    assert once.context.name == "mine"
    assert once.context.data_dir.is_dir()
    assert once.context.data_dir.is_relative_to(tmp_path)
    assert once.context.clock_ms() >= 1_700_000_000_000


async def test_two_sources_have_folders_of_their_own(supervisor: Supervisor) -> None:
    one, other = Once(), Once()
    await supervisor.start(one, name="one")
    await supervisor.start(other, name="other")
    assert one.context.data_dir != other.context.data_dir


# Tenants and quotas


async def as_admin(engine: Engine, request: Any) -> None:
    await engine.submit(Command(CLUSTER, OnBehalf(request, engine.directory.principal("anonymous"))))


async def test_a_source_of_a_tenant_that_does_not_exist_is_faulted(supervisor: Supervisor) -> None:
    runner = await supervisor.start(tenant="acme")
    assert runner.state == State.FAULTED
    assert "acme" in runner.reason


async def test_events_of_a_source_belong_to_its_tenant(supervisor: Supervisor, engine: Engine) -> None:
    await as_admin(engine, PutTenantRequest(id="acme"))
    await engine.submit(Command("acme", PutExternalEventDefRequest(name="happened")))
    once = Once()
    await supervisor.start(once, tenant="acme")
    await until(once.reached)
    (receipt,) = await once.context.commit([signal(1)])
    assert receipt.verdict == "accepted"
    assert await rows(engine, "SELECT tenant, run FROM external_event") == [("acme", "r")]


async def test_a_tenant_that_comes_later_gets_the_configured_events(supervisor: Supervisor, engine: Engine) -> None:
    defined = PutExternalEventDefRequest(name="happened")
    engine.settings = replace(engine.settings, event_defs={("acme", "happened"): defined})
    await as_admin(engine, PutTenantRequest(id="acme"))
    once = Once()
    await supervisor.start(once, tenant="acme")
    await until(once.reached)
    (receipt,) = await once.context.commit([signal(1)])
    assert receipt.verdict == "accepted"


async def test_the_quota_of_its_tenant_holds_for_a_source(supervisor: Supervisor, engine: Engine) -> None:
    await as_admin(engine, PutQuotaRequest(tenant=TenantId(id=TENANT), write_requests_per_second=1))
    once = Once()
    await supervisor.start(once)
    await until(once.reached)

    async def commit_many() -> None:
        for number in range(100):
            await once.context.commit([signal(number)])

    with pytest.raises(Overloaded) as overloaded:
        await commit_many()
    assert overloaded.value.after_s >= 0.5
