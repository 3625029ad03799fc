"""The shell around the core, over a real store: batches, bugs, failed commits, restarts and eviction."""

import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from littlehorse.model import (
    CorrelatedEvent,
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    ExternalEvent,
    ExternalEventDef,
    ExternalEventDefId,
    LHStatus,
    NodeRun,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    PutTaskDefRequest,
    RunWfRequest,
    TaskDef,
    Variable,
    VariableValue,
    WfRun,
    WfRunId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.core import kinds
from lhd.core.commands import HANDLERS, Command, metadata
from lhd.core.records import Kind
from lhd.engine import Engine, Limits
from lhd.errors import Code, Rejection, StoreError
from lhd.store import Store
from tests.engine.disk import full_disk

TENANT = "default"
PATIENCE_S = 10.0
START_MS = 1_700_000_000_000


def command(request: Any) -> Command:
    return Command(TENANT, request)


async def stored(engine: Engine, kind: Kind[Any], *key: Any) -> Any:
    """A committed record, as a reader sees it."""
    reader = await engine.store.reader()
    try:
        return await reader.get(kind, (TENANT, *key))
    finally:
        await reader.close()


@asynccontextmanager
async def opened(data: Path, **options: Any) -> AsyncIterator[Engine]:
    """An engine that does not run yet."""
    store = await Store.open(data)
    try:
        yield Engine(store, **options)
    finally:
        await store.close()


@asynccontextmanager
async def running(data: Path, **options: Any) -> AsyncIterator[Engine]:
    async with opened(data, **options) as engine, anyio.create_task_group() as tasks:
        await tasks.start(engine.run)
        yield engine
        tasks.cancel_scope.cancel()


async def in_one_batch(engine: Engine, requests: list[Any]) -> list[Any]:
    """The replies or rejections to requests that wait together for an engine that does not run yet.

    The inbox of the engine must be as long as the list.
    """
    replies: list[Any] = [None] * len(requests)

    async def submit(index: int) -> None:
        try:
            replies[index] = await engine.submit(command(requests[index]))
        except Rejection as rejection:
            replies[index] = rejection

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as submitters:
            for index in range(len(requests)):
                submitters.start_soon(submit, index)
            with anyio.fail_after(PATIENCE_S):
                while not engine.overloaded:
                    await anyio.lowlevel.checkpoint()
            await tasks.start(engine.run)
        tasks.cancel_scope.cancel()
    return replies


def task_def(name: str) -> PutTaskDefRequest:
    return PutTaskDefRequest(name=name)


def event_def(name: str) -> PutExternalEventDefRequest:
    return PutExternalEventDefRequest(name=name)


def put_event(run: str, guid: str, event: str = "approved") -> PutExternalEventRequest:
    return PutExternalEventRequest(
        wf_run_id=WfRunId(id=run),
        external_event_def_id=ExternalEventDefId(name=event),
        guid=guid,
        content=VariableValue(str=guid),
    )


async def register_waiting(engine: Engine) -> None:
    """The workflow ``waits``: for ``approved``, at most an hour."""

    def waits(thread: WorkflowThread) -> None:
        thread.wait_for_event("approved", timeout=3600)

    await engine.submit(command(event_def("approved")))
    await engine.submit(command(Workflow("waits", waits).compile()))


# One batch


async def test_a_rejection_in_a_batch_leaves_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(inbox_commands_max=3)) as engine:
        replies = await in_one_batch(engine, [task_def("a"), RunWfRequest(wf_spec_name="none"), event_def("b")])
        assert isinstance(replies[0], TaskDef)
        assert isinstance(replies[1], Rejection)
        assert replies[1].code == Code.NOT_FOUND
        assert isinstance(replies[2], ExternalEventDef)
        assert await stored(engine, kinds.TASK_DEF, "a") is not None
        assert await stored(engine, kinds.EXTERNAL_EVENT_DEF, "b") is not None


async def test_commands_of_one_batch_see_those_before_them(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(inbox_commands_max=2)) as engine:
        replies = await in_one_batch(engine, [task_def("a"), PutTaskDefRequest(name="a", input_vars=[{"name": "x"}])])
        assert isinstance(replies[0], TaskDef)
        assert isinstance(replies[1], Rejection)
        assert replies[1].code == Code.ALREADY_EXISTS


async def test_a_batch_longer_than_the_limit_is_answered_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(inbox_commands_max=7, batch_commands_max=2)) as engine:
        replies = await in_one_batch(engine, [task_def(f"t{number}") for number in range(7)])
        assert [reply.id.name for reply in replies] == [f"t{number}" for number in range(7)]


# A bug


@pytest.fixture
def broken_task_defs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """PutTaskDef stores its TaskDef and then fails; call the fixture to repair it."""

    def store_and_fail(tx: Any, tenant: str, request: PutTaskDefRequest) -> None:
        metadata.put_task_def(tx, tenant, request)
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(HANDLERS, PutTaskDefRequest, store_and_fail)
    return monkeypatch.undo


async def test_a_bug_is_internal_for_its_caller_only_and_stores_nothing(
    tmp_path: Path, broken_task_defs: Callable[[], None]
) -> None:
    async with opened(tmp_path, limits=Limits(inbox_commands_max=3)) as engine:
        replies = await in_one_batch(engine, [event_def("a"), task_def("broken"), event_def("b")])
        assert isinstance(replies[1], Rejection)
        assert replies[1].code == Code.INTERNAL
        assert "a bug" not in replies[1].text.replace("because of a bug", "")
        assert isinstance(replies[0], ExternalEventDef)
        assert isinstance(replies[2], ExternalEventDef)
        assert await stored(engine, kinds.TASK_DEF, "broken") is None
        assert await stored(engine, kinds.EXTERNAL_EVENT_DEF, "b") is not None


async def test_after_a_bug_the_engine_goes_on_and_remembers_nothing_of_it(
    engine: Engine, broken_task_defs: Callable[[], None]
) -> None:
    with pytest.raises(Rejection):
        await engine.submit(command(task_def("broken")))
    broken_task_defs()
    assert (await engine.submit(command(task_def("broken")))).id.name == "broken"


# A failed commit


async def test_a_failed_commit_ends_the_engine_and_nobody_hears_yes(tmp_path: Path) -> None:
    heard: list[Any] = []
    async with opened(tmp_path) as engine:

        async def submit() -> None:
            heard.append(await engine.submit(command(task_def("lost"))))

        with pytest.RaisesGroup(StoreError):
            async with anyio.create_task_group() as tasks:
                await tasks.start(engine.run)
                await engine.submit(command(task_def("kept")))
                with full_disk(tmp_path):
                    tasks.start_soon(submit)
                    with anyio.fail_after(PATIENCE_S):
                        await anyio.sleep_forever()
        assert heard == []
    async with running(tmp_path) as again:
        assert await stored(again, kinds.TASK_DEF, "kept") is not None
        assert await stored(again, kinds.TASK_DEF, "lost") is None


async def test_an_engine_that_has_ended_refuses_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        pass
    with pytest.raises(Rejection) as refused, anyio.fail_after(PATIENCE_S):
        await engine.submit(command(task_def("late")))
    assert refused.value.code == Code.UNAVAILABLE


# Cancelled callers


async def test_the_command_of_a_caller_that_was_cancelled_is_executed(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(inbox_commands_max=1)) as engine:
        async with anyio.create_task_group() as callers:
            callers.start_soon(engine.submit, command(task_def("orphan")))
            while not engine.overloaded:
                await anyio.lowlevel.checkpoint()
            callers.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            await tasks.start(engine.run)
            await engine.submit(command(task_def("later")))
            assert await stored(engine, kinds.TASK_DEF, "orphan") is not None
            tasks.cancel_scope.cancel()


async def test_a_batch_that_has_begun_is_committed_before_the_engine_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, anyio.create_task_group() as callers:
        callers.start_soon(engine.submit, command(task_def("begun")))
        await engine.submit(command(task_def("second")))
    async with running(tmp_path) as again:
        assert await stored(again, kinds.TASK_DEF, "begun") is not None


# Restart


async def test_timers_are_armed_again_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, clock_ms=lambda: START_MS, monotonic_ms=lambda: 0) as engine:
        await register_waiting(engine)
        await engine.submit(command(RunWfRequest(wf_spec_name="waits", id="r")))
        assert engine.timers == 1
    async with running(tmp_path, clock_ms=lambda: START_MS + 3_599_000) as engine:
        assert engine.timers == 1
        assert (await stored(engine, kinds.WF_RUN, "r")).status == LHStatus.RUNNING


async def test_a_timer_that_came_due_while_the_daemon_was_down_fires_at_its_start(tmp_path: Path) -> None:
    async with running(tmp_path, clock_ms=lambda: START_MS, monotonic_ms=lambda: 0) as engine:
        await register_waiting(engine)
        await engine.submit(command(RunWfRequest(wf_spec_name="waits", id="r")))
    async with running(tmp_path, clock_ms=lambda: START_MS + 3_600_001, monotonic_ms=lambda: 0) as engine:
        with anyio.fail_after(PATIENCE_S):
            while (await stored(engine, kinds.WF_RUN, "r")).status == LHStatus.RUNNING:
                await anyio.lowlevel.checkpoint()
        node_run: NodeRun = await stored(engine, kinds.NODE_RUN, "r", 0, 1)
        assert [failure.failure_name for failure in node_run.failures] == ["TIMEOUT"]
        assert node_run.end_time.ToMilliseconds() == START_MS + 3_600_000
        assert engine.timers == 0


async def test_a_run_that_waited_before_a_restart_takes_its_event_after_it(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await register_waiting(engine)
        await engine.submit(command(RunWfRequest(wf_spec_name="waits", id="r")))
    async with running(tmp_path) as engine:
        event: ExternalEvent = await engine.submit(command(put_event("r", "e")))
        assert event.claimed
        assert (await stored(engine, kinds.WF_RUN, "r")).status == LHStatus.COMPLETED
        assert engine.timers == 0


async def test_time_never_goes_back(tmp_path: Path) -> None:
    now_ms = START_MS
    async with running(tmp_path, clock_ms=lambda: now_ms) as engine:
        before = engine.now_ms()
        now_ms -= 1_000_000
        assert engine.now_ms() >= before
        now_ms += 2_000_000
        assert engine.now_ms() >= START_MS + 1_000_000


# Eviction

RUNS = [f"r{number}" for number in range(40)]
KEYS = [f"k{number}" for number in range(10)]
RECORDS: dict[Kind[Any], type[Any]] = {
    kinds.WF_RUN: WfRun,
    kinds.NODE_RUN: NodeRun,
    kinds.VARIABLE: Variable,
    kinds.EXTERNAL_EVENT: ExternalEvent,
    kinds.CORRELATED_EVENT: CorrelatedEvent,
}


def two_waits(thread: WorkflowThread) -> None:
    """Wait for a key, then for an approval that may come early or late, and keep what it says."""
    key = thread.declare_str("key").required()
    said = thread.declare_str("said")
    thread.wait_for_event("arrived", correlation_id=key, timeout=3600)
    said.assign(thread.wait_for_event("approved", timeout=600))


def story(seed: int, length: int) -> list[tuple[int, Any]]:
    """Requests over many runs and keys, with the time in ms between them."""
    chance = random.Random(seed)

    def request(number: int) -> Any:
        run = chance.choice(RUNS)
        match chance.choice(["run", "run", "event", "event", "event", "correlated", "correlated", "delete", "again"]):
            case "run":
                key = VariableValue(str=chance.choice(KEYS))
                return RunWfRequest(wf_spec_name="two-waits", id=run, variables={"key": key})
            case "event":
                return put_event(run, f"e{number}")
            case "again":
                return put_event(run, f"e{chance.randrange(number + 1)}")
            case "delete":
                return DeleteWfRunRequest(id=WfRunId(id=run))
            case _:
                return PutCorrelatedEventRequest(
                    key=chance.choice(KEYS), external_event_def_id=ExternalEventDefId(name="arrived")
                )

    return [(chance.choice([1, 1000, 200_000]), request(number)) for number in range(length)]


def anonymous(message: Any) -> str:
    """The text of a message without the ids that are drawn anew each time."""
    return re.sub(r"[0-9a-f]{32}", "ID", str(message))


async def told(data: Path, requests: list[tuple[int, Any]], cached_lanes_max: int) -> tuple[list[str], list[list[str]]]:
    """The replies to a story, and the records at its end."""
    now_ms = START_MS
    replies = []
    limits = Limits(cached_lanes_max=cached_lanes_max)
    async with running(data, limits=limits, clock_ms=lambda: now_ms, monotonic_ms=lambda: 0) as engine:
        await engine.submit(command(event_def("approved")))
        arrived = PutExternalEventDefRequest(
            name="arrived", correlated_event_config=CorrelatedEventConfig(delete_after_first_correlation=True)
        )
        await engine.submit(command(arrived))
        await engine.submit(command(Workflow("two-waits", two_waits).compile()))
        for passed_ms, request in requests:
            now_ms += passed_ms
            try:
                replies.append(anonymous(await engine.submit(command(request))))
            except Rejection as rejection:
                replies.append(rejection.code.value)
        reader = await engine.store.reader()
        tables = [await reader.fetch(f"SELECT body FROM {kind.name}") for kind in RECORDS]
        await reader.close()
    messages = zip(RECORDS.values(), tables, strict=True)
    return replies, [sorted(anonymous(message.FromString(body)) for (body,) in rows) for message, rows in messages]


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_kept_in_memory_changes_nothing(tmp_path: Path, seed: int) -> None:
    requests = story(seed, 250)
    many = await told(tmp_path / "many", requests, 100_000)
    few = await told(tmp_path / "few", requests, 16)
    assert many == few
    assert {"ALREADY_EXISTS", "NOT_FOUND"} & set(many[0])
    assert all(many[1])
