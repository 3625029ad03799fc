"""What survives a restart on the same store: api.md 1, 8.3 and 8.4; execution.md 0.1."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import grpc
import pytest
from grpc import StatusCode
from littlehorse.model import (
    CorrelatedEventConfig,
    ExponentialBackoffRetryPolicy,
    LHHostInfo,
    LHStatus,
    LittleHorseStub,
    SearchWfRunRequest,
    TaskStatus,
    VariableType,
)
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.api.call import Api
from lhd.api.server import GrpcServer
from lhd.engine import Engine
from lhd.store import Store
from tests.api.client import Client, eventually, executes, is_missing, now, only_exit, refused_with, waits_for


class Daemon(Client):
    """A client of an engine and a server of its own."""

    def __init__(self, stub: LittleHorseStub, server: GrpcServer) -> None:
        super().__init__(stub)
        self.server = server


@asynccontextmanager
async def daemon(data: Path) -> AsyncIterator[Daemon]:
    """An engine and a server on a store; both are stopped at the end of the block."""
    store = await Store.open(data)
    engine = Engine(store)
    async with anyio.create_task_group() as tasks:
        await tasks.start(engine.run)
        reader = await store.reader()
        api = Api(engine, reader, LHHostInfo(host="127.0.0.1", port=1))
        server = GrpcServer(api)
        port = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Daemon(LittleHorseStub(channel), server)  # type: ignore[no-untyped-call]
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop(0)
                await reader.close()
                tasks.cancel_scope.cancel()
    await store.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "data"


def sleeps(name: str, seconds: int) -> Workflow:
    def entrypoint(thread: WorkflowThread) -> None:
        thread.sleep(seconds)

    return Workflow(name, entrypoint)


async def test_everything_reads_the_same_after_a_restart(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(waits_for("order", "paid", "paid"))
        await client.run("order", "r")
        await client.post("paid", 7, run="r", guid="g")
        before = (
            await client.wf_run("r"),
            await client.node_runs("r"),
            await client.external_event("r", "paid", "g"),
        )
    async with daemon(data) as client:
        after = (
            await client.wf_run("r"),
            await client.node_runs("r"),
            await client.external_event("r", "paid", "g"),
        )
        assert after == before
        assert (await client.register(waits_for("order", "paid", "paid"))).id.revision == 0
        assert len((await client.stub.SearchWfRun(SearchWfRunRequest(wf_spec_name="order"))).results) == 1


async def test_what_was_unique_stays_unique(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(only_exit("order"))
        await client.run("order", "r")
        await client.post("paid", run="r", guid="g")
        await client.correlate("paid", "k")
    async with daemon(data) as client:
        assert await refused_with(client.run("order", "r")) == StatusCode.ALREADY_EXISTS
        assert await refused_with(client.post("paid", run="r", guid="g")) == StatusCode.ALREADY_EXISTS
        assert await refused_with(client.correlate("paid", "k")) == StatusCode.ALREADY_EXISTS


async def test_a_waiting_run_goes_on(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r")
    async with daemon(data) as client:
        assert (await client.post("paid", run="r")).claimed
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED


async def test_an_event_posted_before_the_restart_is_claimed_after_it(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.post("paid", run="r")
    async with daemon(data) as client:
        assert (await client.run("order", "r")).status == LHStatus.COMPLETED


async def test_a_sleep_armed_before_ends_after(data: Path) -> None:
    async with daemon(data) as client:
        await client.register(sleeps("order", 1))
        await client.run("order", "r")
    async with daemon(data) as client:
        await client.until("r", LHStatus.COMPLETED)


async def test_a_timer_that_fell_due_while_the_daemon_was_down_fires(data: Path) -> None:
    async with daemon(data) as client:
        await client.register(sleeps("order", 1))
        run = await client.run("order", "r")
    due_ms = run.start_time.ToMilliseconds() + 1000

    async def fell_due() -> bool:
        return now().ToMilliseconds() > due_ms

    await eventually(fell_due)
    async with daemon(data) as client:
        await client.until("r", LHStatus.COMPLETED)


async def test_an_event_timeout_armed_before_fires_after(data: Path) -> None:
    def entrypoint(thread: WorkflowThread) -> None:
        thread.wait_for_event("paid", timeout=1)

    async with daemon(data) as client:
        await client.put_event_def("paid")
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")
    async with daemon(data) as client:
        await client.until("r", LHStatus.ERROR)
        assert (await client.node_run("r", 1)).external_event.timed_out


async def test_a_retention_armed_before_deletes_after(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_event_def("paid", keep_seconds=1)
        await client.post("paid", run="r", guid="g")
    async with daemon(data) as client:
        await eventually(lambda: is_missing(client.external_event("r", "paid", "g")))


async def test_queued_tasks_are_offered_again_oldest_first(data: Path) -> None:
    names = ["c", "a", "d", "b"]
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        for name in names:
            await client.run("order", name)
    async with daemon(data) as client:
        await client.run("order", "new")
        async with client.poller("ship") as poller:
            await poller.ask(5)
            assert [(await poller.take()).task_run_id.wf_run_id.id for _ in range(5)] == [*names, "new"]


async def test_a_task_handed_out_before_is_not_offered_again(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "claimed")
        await client.run("order", "queued")
        task = await client.claim("ship")
        assert task.task_run_id.wf_run_id.id == "claimed"
    async with daemon(data) as client, client.poller("ship") as poller:
        await poller.ask(2)
        assert (await poller.take()).task_run_id.wf_run_id.id == "queued"
        await client.run("order", "new")
        assert (await poller.take()).task_run_id.wf_run_id.id == "new"
        assert (await client.task_run(task.task_run_id)).status == TaskStatus.TASK_RUNNING


async def test_a_running_attempt_can_still_be_reported(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_task_def("quote", returns=VariableType.INT)
        await client.register(executes("order", "quote"))
        await client.run("order", "r")
        task = await client.claim("quote")
    async with daemon(data) as client:
        await client.report(task, output=42)
        await client.until("r", LHStatus.COMPLETED)
        assert (await client.task_run(task.task_run_id)).attempts[0].output.int == 42


async def test_a_report_accepted_before_is_not_lost(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "r")
        await client.report(await client.claim("ship"))
    async with daemon(data) as client:
        await client.until("r", LHStatus.COMPLETED)


async def test_a_task_timeout_armed_before_fires_after_and_the_retry_is_offered(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship", retries=1, timeout_seconds=1))
        await client.run("order", "r")
        await client.claim("ship")
    async with daemon(data) as client:
        task = await client.claim("ship")
        assert task.attempt_number == 1
        await client.report(task)
        await client.until("r", LHStatus.COMPLETED)


async def test_a_backoff_begun_before_ends_after(data: Path) -> None:
    backoff = ExponentialBackoffRetryPolicy(base_interval_ms=1000, max_delay_ms=1000, multiplier=1.0)
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship", retries=1, exponential_backoff=backoff))
        await client.run("order", "r")
        await client.report(await client.claim("ship"), TaskStatus.TASK_FAILED)
        await client.reports_processed("r")
    async with daemon(data) as client:
        assert (await client.claim("ship")).attempt_number == 1


async def test_a_node_that_waits_for_a_key_is_found_by_a_later_correlated_event(data: Path) -> None:
    def entrypoint(thread: WorkflowThread) -> None:
        thread.wait_for_event("paid", correlation_id=thread.declare_str("key"))

    async with daemon(data) as client:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "early", key="k")
    async with daemon(data) as client:
        await client.correlate("paid", "k")
        await client.until("early", LHStatus.COMPLETED)
        await client.run("order", "late", key="k")
        await client.until("late", LHStatus.COMPLETED)


async def test_a_correlated_event_put_before_is_found_by_a_node_after(data: Path) -> None:
    def entrypoint(thread: WorkflowThread) -> None:
        thread.wait_for_event("paid", correlation_id=thread.declare_str("key"))

    async with daemon(data) as client:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", entrypoint))
        await client.correlate("paid", "k")
    async with daemon(data) as client:
        await client.run("order", "r", key="k")
        await client.until("r", LHStatus.COMPLETED)


async def test_a_deleted_run_stays_deleted(data: Path) -> None:
    async with daemon(data) as client:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "deleted")
        await client.run("order", "kept")
        await client.delete("deleted")
    async with daemon(data) as client:
        assert await is_missing(client.wf_run("deleted"))
        assert (await client.claim("ship")).task_run_id.wf_run_id.id == "kept"


async def test_a_shutdown_cuts_poll_streams_and_never_ends_them_with_ok(data: Path) -> None:
    async with daemon(data) as client, client.poller("ship") as poller:
        await poller.ask()
        await client.settled()
        await client.server.stop(0)
        assert await poller.end() == StatusCode.UNAVAILABLE
        assert await refused_with(client.wf_run("r")) == StatusCode.UNAVAILABLE
