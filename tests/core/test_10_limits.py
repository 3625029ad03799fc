"""Limits and deletion of WfRuns with several threads: execution.md 1.4, 1.8, 9.4 and 10.

Elsewhere: loop guard and deletion with one thread (test_01_lifecycle, test_09_delete); names, failure names,
correlation keys, task timeouts and sizes of reports (their own files). Not tested: the other threads after the
loop guard and whether child WfRuns share its count (the spec leaves both open); request sizes, masks and
AwaitWorkflowEvent (the API's); timer resolution (the engine's).
"""

from typing import Any

import pytest
from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    Edge,
    ExternalEventDefId,
    LHErrorType,
    LHStatus,
    Node,
    NopNode,
    PutCheckpointRequest,
    PutExternalEventRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    ScheduledTask,
    StopWfRunRequest,
    TaskRunId,
    TaskStatus,
    ThreadRetentionPolicy,
    ThreadSpec,
    UserTaskField,
    UserTaskRunId,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.workflow import (
    ComparatorExpression,
    NodeOutput,
    SpawnedThreads,
    Workflow,
    WorkflowThread,
)

from lhd.core import kinds
from lhd.core.commands.tasks import ClaimTask
from lhd.core.commands.timers import TimerDue
from lhd.core.records import Kind
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    RUNNING,
    Body,
    correlate,
    failure,
    markers,
    node,
    nothing,
    one_task,
    put,
    put_event_def,
    python,
    reached,
    refused,
    thread,
    wait_for,
    wf_run,
)
from tests.core.world import World

HALTED, HALTING = LHStatus.HALTED, LHStatus.HALTING
OF_A_RUN: list[Kind[Any]] = [
    kinds.WF_RUN,
    kinds.NODE_RUN,
    kinds.VARIABLE,
    kinds.TASK_RUN,
    kinds.EXTERNAL_EVENT,
    kinds.INACTIVE_THREAD_RUN,
    kinds.USER_TASK_RUN,
]


def waits_for_go(wf: WorkflowThread) -> None:
    wf.wait_for_event("go")


def endless(wf: WorkflowThread) -> None:
    forever = wf.declare_int("forever", 0)
    wf.do_while(forever.is_equal_to(0), nothing)


def looping_while(condition: ComparatorExpression) -> Body:
    """A thread without variables of its own, as a handler must be."""

    def loop(wf: WorkflowThread) -> None:
        wf.do_while(condition, nothing)

    return loop


def children(wf: WorkflowThread) -> SpawnedThreads:
    """One child that waits for ``go`` for each item of the input ``items``."""
    return wf.spawn_thread_for_each(wf.declare_json_arr("items"), waits_for_go, "children")


def claim(world: World, guid: str) -> ScheduledTask:
    task: ScheduledTask | None = world.submit(
        ClaimTask(TaskRunId(wf_run_id=WfRunId(id="r"), task_guid=guid), "w", None)
    )
    assert task is not None, f"{guid} is not queued"
    return task


def fail(world: World, guid: str) -> None:
    world.report(claim(world, guid), TaskStatus.TASK_FAILED)


def numbers(world: World) -> list[int]:
    """The ThreadRuns that the WfRun holds."""
    return [one.number for one in wf_run(world).thread_runs]


def nested(printed: str) -> WfRunId:
    """The id of a WfRun from its printed form."""
    parent, _, own = printed.rpartition("_")
    return WfRunId(id=own, parent_wf_run_id=nested(parent) if parent else None)


def go(world: World, wf_run_id: str) -> None:
    """Put the event ``go`` for a child WfRun."""
    world.submit(
        PutExternalEventRequest(wf_run_id=nested(wf_run_id), external_event_def_id=ExternalEventDefId(name="go"))
    )


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("paid", "go", "tick", "stop-me"):
        put_event_def(world, name)
    world.put_task_def("t")
    return world


class TestThreadLimit:
    """execution.md 1.8 and 10: 65 ThreadRuns."""

    @staticmethod
    def run(world: World, items: int, body: Body) -> None:
        put(world, body)
        world.run("wf", items=list(range(items)))

    @staticmethod
    def one_more(wf: WorkflowThread) -> None:
        children(wf)
        wf.spawn_thread(waits_for_go, "one-more")
        wf.wait_for_event("paid")

    def test_65_threads_fit(self, world: World) -> None:
        self.run(world, 63, self.one_more)
        assert numbers(world) == list(range(65))
        assert wf_run(world).status == node(world, 3).status == RUNNING

    def test_the_66th_is_an_internal_error_of_the_node_that_starts_it(self, world: World) -> None:
        self.run(world, 64, self.one_more)
        assert node(world, 2).status == thread(world).status == wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"
        assert numbers(world) == list(range(65))
        assert not reached(world, 3)

    def test_64_threads_can_be_started_at_once(self, world: World) -> None:
        self.run(world, 64, lambda wf: wf.wait_for_threads(children(wf)))
        assert numbers(world) == list(range(65))
        assert node(world, 2).status == RUNNING

    def test_none_of_65_is_started(self, world: World) -> None:
        self.run(world, 65, lambda wf: wf.wait_for_threads(children(wf)))
        assert failure(world, 1).failure_name == "INTERNAL_ERROR"
        assert wf_run(world).status == ERROR
        assert numbers(world) == [0]
        assert wf_run(world).greatest_threadrun_number == 0

    def test_threads_of_every_thread_count(self, world: World) -> None:
        def starts_two(wf: WorkflowThread) -> None:
            wf.wait_for_event("tick")
            wf.spawn_thread(waits_for_go, "first")
            wf.spawn_thread(waits_for_go, "second")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(starts_two, "starts-two")
            wf.wait_for_threads(children(wf))

        self.run(world, 62, body)
        world.post("tick")
        assert wf_run(world).greatest_threadrun_number == 64
        assert node(world, 2, number=1).status == COMPLETED
        assert failure(world, 3, number=1).failure_name == "INTERNAL_ERROR"
        assert thread(world, number=1).status == ERROR
        assert wf_run(world).status == RUNNING

    def test_interrupt_that_finds_no_room_fails_the_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", nothing)
            children(wf)
            wf.wait_for_event("paid")

        self.run(world, 64, body)
        world.post("stop-me")
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"
        assert node(world, 2).status == thread(world).status == wf_run(world).status == ERROR

    def test_failure_handler_that_finds_no_room_fails_the_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            children(wf)
            wf.handle_error(wf.execute("t"), nothing, LHErrorType.TASK_FAILURE)

        self.run(world, 64, body)
        fail(world, "0-2")
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"
        assert node(world, 2).status == thread(world).status == wf_run(world).status == ERROR

    def test_handler_of_a_waited_thread_that_finds_no_room_fails_the_waiting_node(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            failing = wf.spawn_thread(one_task, "failing")
            children(wf)
            wait_for(wf, failing).handle_any_failure_on_child(nothing)

        self.run(world, 63, body)
        fail(world, "1-1")
        assert failure(world, 3).failure_name == "INTERNAL_ERROR"
        assert node(world, 3).status == thread(world).status == wf_run(world).status == ERROR

    def test_ended_threads_make_room_for_handlers(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            children(wf)
            wf.handle_error(wf.execute("t"), nothing, LHErrorType.TASK_FAILURE)
            wf.wait_for_event("paid")

        self.run(world, 64, body)
        world.post("go", thread=5)
        fail(world, "0-2")
        assert failure(world, 2).was_properly_handled
        assert node(world, 3).status == RUNNING

    def test_limit_is_that_of_each_run(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_threads(children(wf)))
        for run in ("a", "b"):
            assert world.run("wf", run, items=list(range(64))).status == RUNNING


class TestLoopGuard:
    """execution.md 1.4: 512 passes in one command, with several threads."""

    @staticmethod
    def put_with_nops(world: World, body: Body, **counts: int) -> None:
        """Register the workflow with so many NOP nodes behind the ENTRYPOINT of each thread that is named."""
        request = Workflow("wf", body).compile()
        for name, count in counts.items():
            TestLoopGuard.add_nops(request.thread_specs[name], count)
        world.submit(request)

    @staticmethod
    def add_nops(spec: ThreadSpec, count: int, after: str = "0-entrypoint-ENTRYPOINT") -> None:
        (edge,) = spec.nodes[after].outgoing_edges
        last, edge.sink_node_name = edge.sink_node_name, "n0"
        for number in range(count):
            sink = f"n{number + 1}" if number + 1 < count else last
            spec.nodes[f"n{number}"].CopyFrom(Node(nop=NopNode(), outgoing_edges=[Edge(sink_node_name=sink)]))

    @staticmethod
    def three(wf: WorkflowThread) -> None:
        for name in ("a", "b", "c"):
            wf.spawn_thread(nothing, name)

    def test_threads_side_by_side_share_their_passes(self, world: World) -> None:
        self.put_with_nops(world, self.three, a=300, b=300, c=300)
        assert world.run("wf").status == COMPLETED
        assert all(thread(world, number=number).status == COMPLETED for number in (1, 2, 3))

    def test_threads_one_after_the_other_add_theirs(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(nothing, "a"))
            wait_for(wf, wf.spawn_thread(nothing, "b"))

        self.put_with_nops(world, body, a=300, b=300)
        assert world.run("wf").status == ERROR
        self.put_with_nops(world, body, a=200, b=200)
        assert world.run("wf", "shorter").status == COMPLETED

    def test_threads_that_move_in_different_commands_do_not_add_theirs(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(nothing, "a"))
            wf.wait_for_event("paid")
            wait_for(wf, wf.spawn_thread(nothing, "b"))

        self.put_with_nops(world, body, a=300, b=300)
        world.run("wf")
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    @staticmethod
    def assert_thread_zero_failed(world: World, position: int) -> None:
        assert wf_run(world).status == thread(world).status == node(world, position).status == ERROR
        assert wf_run(world).HasField("end_time")
        assert failure(world, position).failure_name == "INTERNAL_ERROR"
        assert "loop" in failure(world, position).message
        assert not reached(world, position + 1)

    def test_loop_of_a_child_fails_the_current_node_of_thread_zero(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(endless, "child")
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        self.assert_thread_zero_failed(world, 2)

    def test_loop_of_a_child_that_is_waited_for(self, world: World) -> None:
        put(world, lambda wf: wait_for(wf, wf.spawn_thread(endless, "child")))
        world.run("wf")
        self.assert_thread_zero_failed(world, 2)

    def test_loop_of_a_child_at_exit(self, world: World) -> None:
        put(world, lambda wf: wf.spawn_thread(endless, "child"))
        world.run("wf")
        self.assert_thread_zero_failed(world, 2)

    def test_loop_of_a_child_in_a_later_command(self, world: World) -> None:
        def loops(wf: WorkflowThread) -> None:
            wf.wait_for_event("go")
            endless(wf)

        put(world, lambda wf: wait_for(wf, wf.spawn_thread(loops, "child")))
        assert world.run("wf").status == RUNNING
        world.post("go")
        self.assert_thread_zero_failed(world, 2)

    def test_loop_of_a_failure_handler(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            forever = wf.declare_int("forever", 0)
            handler = looping_while(forever.is_equal_to(0))
            wf.handle_any_failure(wf.execute("t"), handler)

        put(world, body)
        world.run("wf")
        fail(world, "0-1")
        self.assert_thread_zero_failed(world, 1)

    def test_loop_of_an_interrupt_handler(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            forever = wf.declare_int("forever", 0)
            wf.add_interrupt_handler("stop-me", looping_while(forever.is_equal_to(0)))
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        world.post("stop-me")
        self.assert_thread_zero_failed(world, 1)

    def test_handlers_of_the_node_are_not_asked(self, world: World) -> None:
        put(
            world,
            lambda wf: wf.handle_any_failure(wait_for(wf, wf.spawn_thread(endless, "child")), nothing),
        )
        world.run("wf")
        self.assert_thread_zero_failed(world, 2)
        assert wf_run(world).greatest_threadrun_number == 1

    def test_threads_of_other_runs_go_on(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(waits_for_go, "child"))

        put(world, lambda wf: wf.spawn_thread(endless, "child"), "broken")
        put(world, body)
        world.run("wf")
        assert world.run("broken", "broken").status == ERROR
        world.post("go")
        assert wf_run(world).status == COMPLETED


class TestGeneratedIds:
    """execution.md 10."""

    def test_id_of_a_child_wf_run_is_32_hex_digits(self, world: World) -> None:
        put(world, waits_for_go, "child")
        put(world, lambda wf: wf.run_wf("child"))
        world.run("wf")
        child = node(world, 1).run_child_wf.child_wf_run_id
        assert len(child.id) == 32
        assert set(child.id) <= set("0123456789abcdef")
        assert child.parent_wf_run_id.id == "r"


class TestDelete:
    """execution.md 9.4, with what needs more than one thread."""

    @staticmethod
    def delete(world: World, wf_run_id: str = "r") -> None:
        world.submit(DeleteWfRunRequest(id=nested(wf_run_id)))

    @staticmethod
    def everything(world: World) -> list[object]:
        return [found for kind in OF_A_RUN for found in world.of_run(kind)]

    @staticmethod
    def one_of_each(wf: WorkflowThread) -> None:
        """Thread 1 is archived with the event ``tick``, thread 2 has a task, thread 3 waits for ``go``."""

        def archived(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=1))

        wf.throw_event("thrown", "x")
        wf.spawn_thread(archived, "archived")
        wf.spawn_thread(one_task, "tasks")
        wf.spawn_thread(waits_for_go, "waits")
        wf.wait_for_event("tick")
        form = wf.assign_user_task("form", user_id="me")
        wf.schedule_reminder_task(form, 5, "t")

    @pytest.fixture
    def full(self, world: World) -> World:
        """A WfRun with at least one record of each kind."""
        world.submit(PutWorkflowEventDefRequest(name="thrown"))
        world.submit(PutUserTaskDefRequest(name="form", fields=[UserTaskField(name="answer", type=VariableType.STR)]))
        put(world, self.one_of_each)
        world.run("wf")
        world.wait(1)
        world.post("tick")
        claim(world, "2-1")
        world.submit(
            PutCheckpointRequest(
                task_run_id=TaskRunId(wf_run_id=WfRunId(id="r"), task_guid="2-1"), value=VariableValue(int=1)
            )
        )
        world.wait(6)
        return world

    def test_everything_of_every_thread_goes(self, full: World) -> None:
        assert all(full.of_run(kind) for kind in OF_A_RUN)
        assert len(full.of_run(kinds.TASK_RUN)) == 2
        assert full.workflow_event("thrown") is not None
        assert full.checkpoint("2-1", 0) is not None
        self.delete(full)
        assert self.everything(full) == []
        assert full.workflow_event("thrown") is None
        assert full.checkpoint("2-1", 0) is None
        assert full.inactive_thread_run(1) is None
        assert full.user_task_run("0-6") is None

    def test_no_task_and_no_timer_is_left(self, full: World) -> None:
        assert full.queue
        self.delete(full)
        assert not full.queue
        assert not full.timers
        assert full.claim() is None

    def test_reports_and_timers_of_its_threads_have_no_effect(self, full: World) -> None:
        reminder = full.claim()
        assert reminder is not None
        timers = list(full.timers.values())
        self.delete(full)
        full.report(reminder)
        for timer in timers:
            full.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert self.everything(full) == []

    def test_user_task_is_unknown_afterwards(self, full: World) -> None:
        (user_task,) = full.of_run(kinds.USER_TASK_RUN)
        gone = UserTaskRunId()
        gone.CopyFrom(user_task.id)
        self.delete(full)
        for request in (
            AssignUserTaskRunRequest(user_task_run_id=gone, user_id="you", override_claim=True),
            CompleteUserTaskRunRequest(user_task_run_id=gone, user_id="me"),
            CancelUserTaskRunRequest(user_task_run_id=gone),
        ):
            with refused(Code.NOT_FOUND):
                full.submit(request)

    def test_its_threads_are_unknown_afterwards(self, full: World) -> None:
        self.delete(full)
        for request in (StopWfRunRequest, ResumeWfRunRequest, RescueThreadRunRequest):
            with refused(Code.NOT_FOUND):
                full.submit(request(wf_run_id=WfRunId(id="r"), thread_run_number=1))

    def test_next_run_of_the_id_counts_from_zero(self, full: World) -> None:
        self.delete(full)
        assert full.run("wf").greatest_threadrun_number == 3
        assert numbers(full) == [0, 1, 2, 3]
        assert full.inactive_thread_run(1) is None
        assert full.workflow_event("thrown", 0) is not None
        assert full.workflow_event("thrown", 1) is None

    def test_events_for_its_threads_do_not_reach_the_next_run_of_the_id(self, full: World) -> None:
        full.post("go", thread=7)
        full.post("tick")
        self.delete(full)
        full.run("wf")
        assert thread(full, number=3).status == RUNNING
        assert node(full, 5).status == RUNNING

    @pytest.mark.parametrize(("number", "status"), [(0, HALTING), (2, HALTING), (3, HALTED)])
    def test_stopped_threads_do_not_hold_the_run(self, full: World, number: int, status: LHStatus) -> None:
        full.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))
        assert thread(full, number=number).status == status
        self.delete(full)
        assert self.everything(full) == []

    def test_waiting_interrupt_does_not_hold_the_run(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", nothing)
            wf.execute("t")

        put(world, body)
        world.run("wf")
        claim(world, "0-1")
        world.post("stop-me")
        assert wf_run(world).pending_interrupts
        self.delete(world)
        assert self.everything(world) == []

    def test_correlation_of_a_child_thread_goes_too(self, world: World) -> None:
        put_event_def(world, "keyed", correlated=CorrelatedEventConfig())

        def waits_for_key(wf: WorkflowThread) -> None:
            wf.wait_for_event("keyed", correlation_id="k")

        put(world, lambda wf: wait_for(wf, wf.spawn_thread(waits_for_key, "child")))
        world.run("wf")
        assert markers(world, "keyed", "k") == 1
        self.delete(world)
        assert markers(world, "keyed", "k") == 0
        assert not correlate(world, "keyed", "k").external_events

    def test_other_runs_keep_their_threads(self, full: World) -> None:
        full.run("wf", "stays")
        self.delete(full)
        full.post("go", wf_run_id="stays")
        assert thread(full, "stays", number=3).status == COMPLETED
        assert full.workflow_event("thrown", wf_run_id="stays") is not None

    def test_child_wf_runs_stay_and_go_on(self, world: World) -> None:
        put(world, waits_for_go, "child")
        put(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        world.run("wf")
        (child,) = world.child_wf_runs()
        self.delete(world)
        assert world.wf_run() is None
        assert wf_run(world, child).status == RUNNING
        go(world, child)
        assert wf_run(world, child).status == COMPLETED
        assert world.wf_run() is None

    def test_deleted_child_wf_run_leaves_its_parent(self, world: World) -> None:
        def parent(wf: WorkflowThread) -> None:
            kept = wf.declare_wf_run_id("kept")
            kept.assign(NodeOutput(wf.run_wf("child").source_node_name))
            wf.wait_for_event("paid")

        put(world, waits_for_go, "child")
        put(world, parent)
        world.run("wf")
        (child,) = world.child_wf_runs()
        self.delete(world, child)
        assert world.wf_run(child) is None
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept").parent_wf_run_id.id == "r"

    def test_more_than_a_thousand_records_go(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            for _ in range(20):
                wf.throw_event("thrown", "x")
            wf.wait_for_event("go")

        def body(wf: WorkflowThread) -> None:
            wf.wait_for_threads(wf.spawn_thread_for_each(wf.declare_json_arr("items"), child, "child"))

        world.submit(PutWorkflowEventDefRequest(name="thrown"))
        put(world, body)
        world.run("wf", items=list(range(50)))
        assert len(self.everything(world)) > 1000
        assert world.workflow_event("thrown", 999) is not None
        self.delete(world)
        assert self.everything(world) == []
        assert world.workflow_event("thrown", 999) is None
