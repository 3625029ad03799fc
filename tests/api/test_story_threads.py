"""Stories of threads: approvals side by side, one thread for each item of a list, a wait for what another thread does.

Also what all stories share: the SDK's own task workers (:func:`working`) and short looks at a WfRun.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import TASK_STATUS_IGNORED, to_thread
from anyio.abc import TaskStatus as Readiness
from littlehorse.config import LHConfig
from littlehorse.model import (
    Comparator,
    LHStatus,
    NodeRun,
    TaskDefId,
    TaskStatus,
    VariableMutationType,
    WaitForThreadsRun,
    WaitForThreadsStrategy,
    WfRunId,
)
from littlehorse.utils import extract_value
from littlehorse.worker import LHConnection, LHTask, LHTaskWorker
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from tests.api.client import Client, eventually

TaskFunction = Callable[..., Coroutine[Any, Any, Any]]

IN_PROGRESS = WaitForThreadsRun.THREAD_IN_PROGRESS
DONE = WaitForThreadsRun.THREAD_COMPLETED_OR_FAILURE_HANDLED


class Worker(LHTaskWorker):
    """The SDK's worker. Its own start reads the TaskDef with a blocking call, and here the server is on this loop."""

    async def start(self, *, task_status: Readiness[None] = TASK_STATUS_IGNORED) -> None:
        task_def = await to_thread.run_sync(self._config.stub().GetTaskDef, TaskDefId(name=self._task_def_name))
        self._task = LHTask(self._callable, task_def)
        task_status.started()
        await self._heartbeat()


async def let_go_of_connections() -> None:
    """Let the SDK end what it started and does not wait for itself: streams, task functions, reports."""

    def left() -> set[asyncio.Task[Any]]:
        return {
            task
            for task in asyncio.all_tasks()
            if getattr(task.get_coro(), "__qualname__", "").startswith(f"{LHConnection.__name__}.")
        }

    with anyio.move_on_after(1):
        while tasks := left():
            await asyncio.wait(tasks)
    while tasks := left():
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def working(client: Client, *functions: TaskFunction) -> AsyncIterator[None]:
    """SDK workers for these functions; each registers its TaskDef, which has the function's name with hyphens."""
    async with anyio.create_task_group() as tasks:
        workers: list[Worker] = []
        config = LHConfig()
        for function in functions:
            name = function.__name__.replace("_", "-")
            (host,) = (await client.register_worker(name)).your_hosts
            config.load({"LHC_API_HOST": host.host, "LHC_API_PORT": str(host.port)})
            worker = Worker(function, name, config)
            await to_thread.run_sync(worker.register_task_def)
            await tasks.start(worker.start)
            workers.append(worker)
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await let_go_of_connections()
                for identity, channel in config._opened_channels.items():
                    closed: Any = channel.close()
                    if identity.is_async:
                        await closed


def one_task(task_def: str, *inputs: Any) -> Callable[[WorkflowThread], None]:
    """The body of a handler or a branch that is one task."""

    def body(thread: WorkflowThread) -> None:
        thread.execute(task_def, *inputs)

    return body


async def nodes_of(client: Client, kind: str, run: str = "r") -> list[NodeRun]:
    """The NodeRuns of one kind, by thread and position."""
    return [node_run for node_run in await client.node_runs(run) if node_run.WhichOneof("node_type") == kind]


async def node_of(client: Client, kind: str, run: str = "r") -> NodeRun:
    """The only NodeRun of one kind."""
    (node_run,) = await nodes_of(client, kind, run)
    return node_run


async def thread_statuses(client: Client, run: str = "r") -> list[LHStatus]:
    """The statuses of the ThreadRuns, by number."""
    return [thread.status for thread in (await client.wf_run(run)).thread_runs]


class TestParallelApprovals:
    @pytest.mark.parametrize("order", [("legal", "finance"), ("finance", "legal")])
    async def test_a_release_waits_for_both_approvals_whoever_comes_first(
        self, client: Client, order: tuple[str, str]
    ) -> None:
        def release(thread: WorkflowThread) -> None:
            lawyer = thread.declare_str("lawyer")
            accountant = thread.declare_str("accountant")

            def legal(approval: WorkflowThread) -> None:
                lawyer.assign(approval.wait_for_event("legal-approved", return_type=str))

            def finance(approval: WorkflowThread) -> None:
                accountant.assign(approval.wait_for_event("finance-approved", return_type=str))

            approvals = thread.spawn_thread(legal, "legal"), thread.spawn_thread(finance, "finance")
            thread.wait_for_threads(SpawnedThreads.from_list(*approvals))
            thread.execute("publish", thread.format("released by {0} and {1}", lawyer, accountant))

        published: list[str] = []

        async def publish(text: str) -> None:
            published.append(text)

        people = {"legal": "Ada", "finance": "Grace"}
        first, second = order
        async with working(client, publish):
            await client.register(Workflow("release", release))
            await client.run("release", "r")

            await client.post(f"{first}-approved", people[first], run="r")
            assert (await client.wf_run("r")).status == LHStatus.RUNNING
            waits = (await node_of(client, "wait_for_threads")).wait_for_threads.threads
            expected = [DONE, IN_PROGRESS] if first == "legal" else [IN_PROGRESS, DONE]
            assert [wait.waiting_status for wait in waits] == expected
            assert not await client.task_runs("r")

            await client.post(f"{second}-approved", people[second], run="r")
            await client.until("r", LHStatus.COMPLETED)
        assert published == ["released by Ada and Grace"]
        assert await thread_statuses(client) == [LHStatus.COMPLETED] * 3

    async def test_one_rejection_ends_the_review_and_halts_the_other_reviewer(self, client: Client) -> None:
        def review(thread: WorkflowThread) -> None:
            def technical(reviewer: WorkflowThread) -> None:
                answer = reviewer.wait_for_event("technical-review", return_type=str)
                reviewer.do_if(
                    reviewer.condition(answer, Comparator.NOT_EQUALS, "fine"),
                    lambda reviewer: reviewer.fail("rejected", "the technical review said no", answer),
                )

            def editorial(reviewer: WorkflowThread) -> None:
                reviewer.wait_for_event("editorial-review", return_type=str)

            reviews = thread.spawn_thread(technical, "technical"), thread.spawn_thread(editorial, "editorial")
            thread.wait_for_threads(SpawnedThreads.from_list(*reviews))

        await client.register(Workflow("review", review))
        await client.run("review", "r")
        await client.post("technical-review", "too vague", run="r")

        assert (await client.wf_run("r")).status == LHStatus.EXCEPTION
        assert await thread_statuses(client) == [LHStatus.EXCEPTION, LHStatus.EXCEPTION, LHStatus.HALTED]
        (failure,) = (await node_of(client, "wait_for_threads")).failures
        assert (failure.failure_name, failure.content.str) == ("rejected", "too vague")

    async def test_a_rejection_that_is_handled_on_the_child_lets_the_join_go_on(self, client: Client) -> None:
        def review(thread: WorkflowThread) -> None:
            def technical(reviewer: WorkflowThread) -> None:
                complaint = reviewer.wait_for_event("technical-rejection", return_type=str)
                reviewer.fail("rejected", "the technical review said no", complaint)

            def editorial(reviewer: WorkflowThread) -> None:
                reviewer.wait_for_event("editorial-approval", return_type=str)

            def revise(handler: WorkflowThread) -> None:
                handler.execute("revise", handler.declare_str("INPUT"))

            reviews = thread.spawn_thread(technical, "technical"), thread.spawn_thread(editorial, "editorial")
            join = thread.wait_for_threads(SpawnedThreads.from_list(*reviews))
            join.handle_exception_on_child(revise, "rejected")

        revised: list[str] = []

        async def revise(complaint: str) -> None:
            revised.append(complaint)

        async with working(client, revise):
            await client.register(Workflow("review", review))
            await client.run("review", "r")
            await client.post("technical-rejection", "too vague", run="r")

            async def is_revised() -> bool:
                waits = (await node_of(client, "wait_for_threads")).wait_for_threads.threads
                return [wait.waiting_status for wait in waits] == [DONE, IN_PROGRESS]

            await eventually(is_revised)
            await client.post("editorial-approval", run="r")
            assert (await client.wf_run("r")).status == LHStatus.COMPLETED
        assert revised == ["too vague"]
        entrypoint, technical, *_ = (await client.wf_run("r")).thread_runs
        assert technical.status == LHStatus.EXCEPTION
        assert list(entrypoint.handled_failed_children) == [technical.number]

    async def test_the_first_of_two_couriers_gets_the_parcel_and_the_other_is_halted(self, client: Client) -> None:
        def dispatch(thread: WorkflowThread) -> None:
            courier = thread.declare_str("courier")

            def bike(offer: WorkflowThread) -> None:
                courier.assign(offer.wait_for_event("bike-accepts", return_type=str))

            def van(offer: WorkflowThread) -> None:
                courier.assign(offer.wait_for_event("van-accepts", return_type=str))

            offers = thread.spawn_thread(bike, "bike"), thread.spawn_thread(van, "van")
            thread.wait_for_threads(SpawnedThreads.from_list(*offers), WaitForThreadsStrategy.WAIT_FOR_FIRST)
            thread.complete(courier)

        await client.register(Workflow("dispatch", dispatch))
        await client.run("dispatch", "r")
        await client.post("van-accepts", "Vera", run="r")

        run = await client.wf_run("r")
        assert run.status == LHStatus.COMPLETED
        assert run.thread_runs[0].output.str == "Vera"
        assert await thread_statuses(client) == [LHStatus.COMPLETED, LHStatus.HALTED, LHStatus.COMPLETED]

        await client.post("bike-accepts", "Bob", run="r", guid="late")
        assert not (await client.external_event("r", "bike-accepts", "late")).claimed


def fulfil(thread: WorkflowThread) -> None:
    """Pack every line of an order in a thread of its own, and tell what was packed."""
    lines = thread.declare_json_arr("lines").required()
    shop = thread.declare_str("shop", "Paris")
    boxes = thread.declare_json_arr("boxes", [])

    def pack(packer: WorkflowThread) -> None:
        line = packer.declare_json_obj("INPUT")
        origin = packer.declare_str("origin")
        box = packer.execute("pack", line.with_json_path("$.sku"), line.with_json_path("$.count"), origin)
        packer.mutate(boxes, VariableMutationType.ADD, box)

    thread.wait_for_threads(thread.spawn_thread_for_each(lines, pack, "pack", {"origin": shop}))
    thread.complete(boxes)


class TestForEach:
    async def test_every_line_of_an_order_is_packed_in_its_own_thread(self, client: Client) -> None:
        async def pack(sku: str, count: int, origin: str) -> str:
            return f"{count} {sku} from {origin}"

        async with working(client, pack):
            await client.register(Workflow("fulfil", fulfil))
            lines = [{"sku": "pen", "count": 3}, {"sku": "ink", "count": 1}, {"sku": "cap", "count": 2}]
            await client.run("fulfil", "r", lines=lines)
            run = await client.until("r", LHStatus.COMPLETED)

        boxes = extract_value(run.thread_runs[0].output)
        assert sorted(boxes) == ["1 ink from Paris", "2 cap from Paris", "3 pen from Paris"]
        started = (await node_of(client, "start_multiple_threads")).start_multiple_threads
        assert list(started.child_thread_ids) == [1, 2, 3]
        assert await thread_statuses(client) == [LHStatus.COMPLETED] * 4

    async def test_all_lines_are_packed_at_the_same_time(self, client: Client) -> None:
        at_work: set[str] = set()
        all_there = anyio.Event()

        async def pack(sku: str, count: int, origin: str) -> str:
            at_work.add(sku)
            if len(at_work) == 3:
                all_there.set()
            await all_there.wait()
            return sku

        async with working(client, pack):
            await client.register(Workflow("fulfil", fulfil))
            await client.run("fulfil", "r", lines=[{"sku": sku, "count": 1} for sku in ("pen", "ink", "cap")])
            await client.until("r", LHStatus.COMPLETED)

    async def test_an_order_without_lines_is_completed_at_once(self, client: Client) -> None:
        async def pack(sku: str, count: int, origin: str) -> str:
            raise AssertionError("there is nothing to pack")

        async with working(client, pack):
            await client.register(Workflow("fulfil", fulfil))
            run = await client.run("fulfil", "r", lines=[])
        assert run.status == LHStatus.COMPLETED
        assert extract_value(run.thread_runs[0].output) == []
        assert len(run.thread_runs) == 1

    async def test_a_line_that_cannot_be_packed_fails_the_order(self, client: Client) -> None:
        async def pack(sku: str, count: int, origin: str) -> str:
            if sku == "ink":
                raise RuntimeError("the ink has dried out")
            return sku

        async with working(client, pack):
            await client.register(Workflow("fulfil", fulfil))
            await client.run("fulfil", "r", lines=[{"sku": sku, "count": 1} for sku in ("pen", "ink", "cap")])
            run = await client.until("r", LHStatus.ERROR)
        assert run.thread_runs[2].status == LHStatus.ERROR
        (failure,) = (await node_of(client, "wait_for_threads")).failures
        assert failure.failure_name == "CHILD_FAILURE"


class TestConditionWait:
    async def test_an_order_ships_as_soon_as_the_cashier_has_counted_enough(self, client: Client) -> None:
        def order(thread: WorkflowThread) -> None:
            price = thread.declare_int("price").required()
            paid = thread.declare_int("paid", 0)

            def cashier(desk: WorkflowThread) -> None:
                def take_payment(desk: WorkflowThread) -> None:
                    paid.assign(paid.add(desk.wait_for_event("payment", return_type=int)))

                desk.do_while(paid.is_less_than(price), take_payment)

            thread.spawn_thread(cashier, "cashier")
            thread.wait_for_condition(paid.is_greater_than_eq(price))
            thread.execute("ship", paid)

        shipped: list[int] = []

        async def ship(paid: int) -> None:
            shipped.append(paid)

        async with working(client, ship):
            await client.register(Workflow("order", order))
            await client.run("order", "r", price=100)

            await client.post("payment", 60, run="r")
            assert (await client.variable("r", "paid")).int == 60
            assert (await node_of(client, "wait_for_condition")).status == LHStatus.RUNNING

            await client.post("payment", 45, run="r")
            assert (await node_of(client, "wait_for_condition")).status == LHStatus.COMPLETED
            await client.until("r", LHStatus.COMPLETED)
        assert shipped == [105]
        assert await thread_statuses(client) == [LHStatus.COMPLETED] * 2

    async def test_a_condition_that_already_holds_is_not_waited_for(self, client: Client) -> None:
        def order(thread: WorkflowThread) -> None:
            paid = thread.declare_int("paid").required()
            thread.wait_for_condition(paid.is_greater_than_eq(100))

        await client.register(Workflow("order", order))
        assert (await client.run("order", paid=100)).status == LHStatus.COMPLETED
        assert (await client.run("order", paid=99)).status == LHStatus.RUNNING


async def test_a_worker_of_the_sdk_gets_what_the_run_passes_and_the_run_gets_what_it_returns(client: Client) -> None:
    def greeting(thread: WorkflowThread) -> None:
        name = thread.declare_str("name").required()
        thread.complete(thread.execute("greet", name, 3))

    async def greet(name: str, times: int) -> str:
        return " ".join([f"Hello {name}!"] * times)

    async with working(client, greet):
        await client.register(Workflow("greeting", greeting))
        await client.run("greeting", "r", name="Ada")
        run = await client.until("r", LHStatus.COMPLETED)
    assert run.id == WfRunId(id="r")
    assert run.thread_runs[0].output.str == "Hello Ada! Hello Ada! Hello Ada!"
    (task_run,) = await client.task_runs("r")
    assert task_run.status == TaskStatus.TASK_SUCCESS
