"""Stories of runs that somebody steers: interrupts, stop and resume, rescue, and the events that a run throws."""

from typing import Any

import anyio
import pytest
from grpc import StatusCode
from littlehorse.exceptions import LHTaskException
from littlehorse.model import (
    AwaitWorkflowEventRequest,
    LHStatus,
    PutWorkflowEventDefRequest,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    ReturnType,
    StopWfRunRequest,
    TaskStatus,
    ThreadType,
    TypeDefinition,
    VariableType,
    WfRun,
    WfRunId,
    WorkflowEvent,
    WorkflowEventDefId,
)
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from tests.api.client import PATIENCE_SECONDS, Client, eventually, executes, refused_with, waits_for
from tests.api.test_story_threads import node_of, nodes_of, thread_statuses, working

YEAR_2100_MS = 4_102_444_800_000


class TestInterrupts:
    @staticmethod
    def delivery(thread: WorkflowThread) -> None:
        """Sleep until the day of delivery; meanwhile the address may change, or somebody may be in a hurry."""
        day = thread.declare_int("day").required()
        address = thread.declare_str("address").required()

        def relabel(handler: WorkflowThread) -> None:
            new_address = handler.declare_str("INPUT")
            handler.execute("relabel", new_address)
            address.assign(new_address)

        def hurry(handler: WorkflowThread) -> None:
            day.assign(0)

        thread.add_interrupt_handler("moved", relabel).with_event_type(str)
        thread.add_interrupt_handler("in-a-hurry", hurry).with_event_type(None)
        thread.sleep_until(day)
        thread.execute("deliver", address)

    async def test_an_interrupt_runs_its_task_while_the_run_sleeps_and_the_sleep_goes_on(self, client: Client) -> None:
        labelled: list[str] = []
        delivered: list[str] = []
        may_label = anyio.Event()

        async def relabel(address: str) -> None:
            await may_label.wait()
            labelled.append(address)

        async def deliver(address: str) -> None:
            delivered.append(address)

        async with working(client, relabel, deliver):
            await client.register(Workflow("delivery", self.delivery))
            await client.run("delivery", "r", day=YEAR_2100_MS, address="London")
            assert (await node_of(client, "sleep")).sleep.maturation_time.ToMilliseconds() == YEAR_2100_MS

            moved = await client.post("moved", "Paris", run="r")
            assert moved.claimed
            run = await client.wf_run("r")
            assert run.status == LHStatus.RUNNING
            sleeper, handler = run.thread_runs
            assert (sleeper.status, handler.status) == (LHStatus.HALTED, LHStatus.RUNNING)
            assert handler.type == ThreadType.INTERRUPT
            assert handler.interrupt_trigger_id == moved.id

            may_label.set()

            async def sleeps_again() -> bool:
                return await thread_statuses(client) == [LHStatus.RUNNING, LHStatus.COMPLETED]

            await eventually(sleeps_again)
            sleep = await node_of(client, "sleep")
            assert sleep.status == LHStatus.RUNNING
            assert sleep.sleep.maturation_time.ToMilliseconds() == YEAR_2100_MS
            assert not delivered

            await client.post("in-a-hurry", run="r")
            await client.until("r", LHStatus.COMPLETED)
        assert labelled == ["Paris"]
        assert delivered == ["Paris"]

    async def test_a_sleep_that_ends_during_its_interrupt_is_over_when_the_handler_is(self, client: Client) -> None:
        def nap(thread: WorkflowThread) -> None:
            def talk(handler: WorkflowThread) -> None:
                handler.wait_for_event("hung-up")

            thread.add_interrupt_handler("phone", talk).with_event_type(None)
            thread.sleep(1)

        await client.put_event_def("hung-up")
        await client.register(Workflow("nap", nap))
        await client.run("nap", "r")
        assert (await client.post("phone", run="r")).claimed

        async def is_matured() -> bool:
            return (await node_of(client, "sleep")).sleep.matured

        await eventually(is_matured)
        assert await thread_statuses(client) == [LHStatus.HALTED, LHStatus.RUNNING]
        assert (await node_of(client, "sleep")).status == LHStatus.HALTED

        await client.post("hung-up", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_a_sleep_without_interrupts_ends_by_itself(self, client: Client) -> None:
        def nap(thread: WorkflowThread) -> None:
            thread.sleep(1)

        await client.register(Workflow("nap", nap))
        await client.run("nap", "r")
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        run = await client.until("r", LHStatus.COMPLETED)
        assert run.end_time.ToMilliseconds() - run.start_time.ToMilliseconds() >= 1000

    async def test_a_handler_that_fails_cancels_the_run(self, client: Client) -> None:
        def order(thread: WorkflowThread) -> None:
            def cancel(handler: WorkflowThread) -> None:
                reason = handler.declare_str("INPUT")
                handler.execute("refund", reason)
                handler.fail("cancelled", "the customer cancelled", reason)

            thread.add_interrupt_handler("cancel", cancel).with_event_type(str)
            thread.wait_for_event("delivered")

        refunds: list[str] = []

        async def refund(reason: str) -> None:
            refunds.append(reason)

        await client.put_event_def("delivered")
        async with working(client, refund):
            await client.register(Workflow("order", order))
            await client.run("order", "r")
            await client.post("cancel", "too expensive", run="r")
            await client.until("r", LHStatus.EXCEPTION)
        assert refunds == ["too expensive"]
        waited = await client.node_run("r", 1)
        assert waited.status == LHStatus.EXCEPTION
        assert [(failure.failure_name, failure.content.str) for failure in waited.failures] == [
            ("cancelled", "too expensive")
        ]

        await client.post("delivered", run="r", guid="late")
        assert not (await client.external_event("r", "delivered", "late")).claimed


async def stop(client: Client, run: str = "r", thread: int = 0) -> None:
    await client.stub.StopWfRun(StopWfRunRequest(wf_run_id=WfRunId(id=run), thread_run_number=thread))


async def resume(client: Client, run: str = "r", thread: int = 0) -> None:
    await client.stub.ResumeWfRun(ResumeWfRunRequest(wf_run_id=WfRunId(id=run), thread_run_number=thread))


class TestStopAndResume:
    async def test_a_stopped_run_leaves_its_event_alone_until_it_is_resumed(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")

        await stop(client)
        assert (await client.wf_run("r")).status == LHStatus.HALTED
        assert not (await client.post("paid", run="r", guid="g")).claimed
        await stop(client)
        assert (await client.wf_run("r")).status == LHStatus.HALTED

        await resume(client)
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED
        assert (await client.external_event("r", "paid", "g")).claimed

    async def test_a_task_in_flight_is_finished_but_the_next_one_waits_for_the_resume(self, client: Client) -> None:
        def report(thread: WorkflowThread) -> None:
            thread.execute("publish", thread.execute("compute"))

        started, may_end = anyio.Event(), anyio.Event()
        published: list[int] = []

        async def compute() -> int:
            started.set()
            await may_end.wait()
            return 42

        async def publish(number: int) -> None:
            published.append(number)

        async with working(client, compute, publish):
            await client.register(Workflow("report", report))
            await client.run("report", "r")
            with anyio.fail_after(PATIENCE_SECONDS):
                await started.wait()
            await stop(client)
            assert await thread_statuses(client) == [LHStatus.HALTING]

            may_end.set()
            await client.until("r", LHStatus.HALTED)
            assert await thread_statuses(client) == [LHStatus.HALTED]
            (task_run,) = await client.task_runs("r")
            assert task_run.status == TaskStatus.TASK_SUCCESS

            await resume(client)
            await client.until("r", LHStatus.COMPLETED)
        assert published == [42]
        assert len(await client.task_runs("r")) == 2

    async def test_one_thread_is_stopped_while_the_others_go_on(self, client: Client) -> None:
        def kitchen(thread: WorkflowThread) -> None:
            def soup(cook: WorkflowThread) -> None:
                cook.wait_for_event("soup-ready")

            def cake(cook: WorkflowThread) -> None:
                cook.wait_for_event("cake-ready")

            dishes = thread.spawn_thread(soup, "soup"), thread.spawn_thread(cake, "cake")
            thread.wait_for_threads(SpawnedThreads.from_list(*dishes))

        for event_def in ("soup-ready", "cake-ready"):
            await client.put_event_def(event_def)
        await client.register(Workflow("kitchen", kitchen))
        await client.run("kitchen", "r")

        await stop(client, thread=1)
        for event_def in ("soup-ready", "cake-ready"):
            await client.post(event_def, run="r")
        assert await thread_statuses(client) == [LHStatus.RUNNING, LHStatus.HALTED, LHStatus.COMPLETED]
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

        await resume(client, thread=1)
        assert await thread_statuses(client) == [LHStatus.COMPLETED] * 3
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_a_run_that_is_over_can_be_stopped_and_resumed_without_effect(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.post("paid", run="r")
        over = await client.run("order", "r")
        assert over.status == LHStatus.COMPLETED
        await stop(client)
        await resume(client)
        assert await client.wf_run("r") == over

    @pytest.mark.parametrize("change", [stop, resume])
    async def test_what_does_not_exist_is_neither_stopped_nor_resumed(self, client: Client, change: Any) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert await refused_with(change(client, "unknown")) == StatusCode.NOT_FOUND
        for thread in (-1, 1):
            assert await refused_with(change(client, "r", thread)) == StatusCode.INVALID_ARGUMENT


async def rescue(client: Client, thread: int = 0, *, skip: bool = False) -> WfRun:
    reply: WfRun = await client.stub.RescueThreadRun(
        RescueThreadRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=thread, skip_current_node=skip)
    )
    return reply


class TestRescue:
    @pytest.mark.parametrize(("skip", "tried"), [(False, 2), (True, 1)], ids=["tried again", "skipped"])
    async def test_a_task_that_failed_is_tried_again_or_skipped(self, client: Client, skip: bool, tried: int) -> None:
        attempts: list[str] = []
        told: list[str] = []

        async def ship() -> None:
            attempts.append("ship")
            if len(attempts) == 1:
                raise ConnectionError("the truck has broken down")

        async def tell() -> None:
            told.append("tell")

        async with working(client, ship, tell):
            await client.register(executes("order", "ship", "tell"))
            await client.run("order", "r")
            failed = await client.until("r", LHStatus.ERROR)
            assert failed.HasField("end_time")
            assert not told

            rescued = await rescue(client, skip=skip)
            assert rescued.status == LHStatus.RUNNING
            assert rescued.thread_runs[0].status == LHStatus.RUNNING
            await client.until("r", LHStatus.COMPLETED)
        assert len(attempts) == tried
        assert told == ["tell"]

        first, second, *_ = await nodes_of(client, "task")
        assert (first.id.position, first.status) == (1, LHStatus.ERROR)
        assert (second.id.position, second.status) == (2, LHStatus.COMPLETED)
        assert (second.node_name == first.node_name) is not skip

    async def test_rescuing_a_thread_rescues_the_run_that_failed_because_of_it(self, client: Client) -> None:
        def order(thread: WorkflowThread) -> None:
            def billing(biller: WorkflowThread) -> None:
                biller.execute("bill")

            def shipping(shipper: WorkflowThread) -> None:
                shipper.wait_for_event("shipped")

            work = thread.spawn_thread(billing, "billing"), thread.spawn_thread(shipping, "shipping")
            thread.wait_for_threads(SpawnedThreads.from_list(*work))

        attempts: list[str] = []

        async def bill() -> None:
            attempts.append("bill")
            if len(attempts) == 1:
                raise RuntimeError("the printer is out of paper")

        await client.put_event_def("shipped")
        async with working(client, bill):
            await client.register(Workflow("order", order))
            await client.run("order", "r")
            await client.until("r", LHStatus.ERROR)
            assert await thread_statuses(client) == [LHStatus.ERROR, LHStatus.ERROR, LHStatus.HALTED]
            (failure,) = (await node_of(client, "wait_for_threads")).failures
            assert failure.failure_name == "CHILD_FAILURE"

            await rescue(client, thread=1)
            assert (await client.wf_run("r")).status == LHStatus.RUNNING
            await client.post("shipped", run="r")
            await client.until("r", LHStatus.COMPLETED)
        assert attempts == ["bill", "bill"]
        assert await thread_statuses(client) == [LHStatus.COMPLETED] * 3

    async def test_only_a_technical_failure_can_be_rescued(self, client: Client) -> None:
        async def charge() -> None:
            raise LHTaskException("card-declined", "no")

        async with working(client, charge):
            await client.register(executes("order", "charge"))
            await client.run("order", "r")
            over = await client.until("r", LHStatus.EXCEPTION)
        assert await refused_with(rescue(client)) == StatusCode.FAILED_PRECONDITION
        assert await client.wf_run("r") == over


class TestWorkflowEvents:
    @staticmethod
    def parcel(thread: WorkflowThread) -> None:
        """Tell the world where the parcel is, each time that somebody scans it, and who signed for it at last."""
        thread.throw_event("moved", thread.wait_for_event("scanned", return_type=str))
        thread.throw_event("moved", thread.wait_for_event("scanned", return_type=str))
        thread.throw_event("arrived", thread.wait_for_event("signed", return_type=str))

    async def register(self, client: Client) -> None:
        text = ReturnType(return_type=TypeDefinition(primitive_type=VariableType.STR))
        for name in ("moved", "arrived"):
            await client.stub.PutWorkflowEventDef(PutWorkflowEventDefRequest(name=name, content_type=text))
        await client.register(Workflow("parcel", self.parcel))

    async def heard(
        self, client: Client, *event_defs: str, ignore: tuple[WorkflowEvent, ...] = (), patience: float | None = None
    ) -> WorkflowEvent:
        """Wait for an event of the run, as the one who wants to know does."""
        reply: WorkflowEvent = await client.stub.AwaitWorkflowEvent(
            AwaitWorkflowEventRequest(
                wf_run_id=WfRunId(id="r"),
                event_def_ids=[WorkflowEventDefId(name=name) for name in event_defs],
                workflow_events_to_ignore=[event.id for event in ignore],
            ),
            timeout=PATIENCE_SECONDS if patience is None else patience,
        )
        return reply

    async def test_an_event_that_was_thrown_is_heard_at_once_by_who_asks_later(self, client: Client) -> None:
        await self.register(client)
        await client.run("parcel", "r")
        await client.post("scanned", "Lyon", run="r")

        event = await self.heard(client, "moved")
        assert event.content.str == "Lyon"
        assert (event.id.wf_run_id.id, event.id.workflow_event_def_id.name, event.id.number) == ("r", "moved", 0)
        thrown = await node_of(client, "throw_event")
        assert event.node_run_id == thrown.id
        assert thrown.throw_event.workflow_event_id == event.id
        assert await client.stub.GetWorkflowEvent(event.id) == event

    async def test_everybody_who_waits_hears_the_event_when_it_is_thrown(self, client: Client) -> None:
        await self.register(client)
        heard: list[str] = []

        async def listen() -> None:
            heard.append((await self.heard(client, "moved")).content.str)

        async with anyio.create_task_group() as listeners:
            listeners.start_soon(listen)  # before the run exists
            await client.settled()
            await client.run("parcel", "r")
            listeners.start_soon(listen)
            await client.settled()
            assert not heard
            await client.post("scanned", "Lyon", run="r")
        assert heard == ["Lyon", "Lyon"]

    async def test_who_names_what_they_know_already_hears_the_next_event(self, client: Client) -> None:
        await self.register(client)
        await client.run("parcel", "r")
        await client.post("scanned", "Lyon", run="r")
        first = await self.heard(client, "moved")
        second: list[WorkflowEvent] = []

        async def listen() -> None:
            second.append(await self.heard(client, "moved", ignore=(first,)))

        async with anyio.create_task_group() as listeners:
            listeners.start_soon(listen)
            await client.settled()
            assert not second
            await client.post("scanned", "Paris", run="r")
        assert [(event.content.str, event.id.number) for event in second] == [("Paris", 1)]

    async def test_the_earliest_event_of_the_wanted_kinds_is_heard_first(self, client: Client) -> None:
        await self.register(client)
        await client.run("parcel", "r")
        for event_def, content in (("scanned", "Lyon"), ("scanned", "Paris"), ("signed", "Ada")):
            await client.post(event_def, content, run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

        assert (await self.heard(client, "arrived")).content.str == "Ada"
        first = await self.heard(client, "arrived", "moved")
        assert (first.id.workflow_event_def_id.name, first.id.number) == ("moved", 0)
        known: tuple[WorkflowEvent, ...] = ()
        for _ in range(3):
            known = (*known, await self.heard(client, ignore=known))  # no kind named: any kind
        assert [(event.id.workflow_event_def_id.name, event.id.number) for event in known] == [
            ("moved", 0),
            ("moved", 1),
            ("arrived", 0),
        ]

    async def test_who_hears_nothing_gives_up_at_their_deadline(self, client: Client) -> None:
        await self.register(client)
        await client.run("parcel", "r")
        assert await refused_with(self.heard(client, "moved", patience=0.2)) == StatusCode.DEADLINE_EXCEEDED
