"""RescueThreadRun: execution.md 9.3 and api.md 12.

Not tested, because the spec leaves it open: a node that is activated and fails only in the step after (EXIT, a sink
that is skipped to), EXIT after the rescue of a thread whose own handler stays failed, a rescue below a halted parent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
from littlehorse.model import (
    CancelUserTaskRunRequest,
    CorrelatedEventConfig,
    Edge,
    ExternalEventDefId,
    LHStatus,
    LHTaskException,
    PutExternalEventRequest,
    PutUserTaskDefRequest,
    RescueThreadRunRequest,
    StopWfRunRequest,
    TaskRunId,
    TaskStatus,
    ThreadRetentionPolicy,
    ThreadSpec,
    ThreadType,
    UserTaskField,
    UserTaskRunId,
    UserTaskRunStatus,
    VariableAssignment,
    VariableType,
    WaitForThreadsRun,
    WaitForThreadsStrategy,
    WfRun,
    WfRunId,
)
from littlehorse.workflow import SpawnedThreads, WorkflowThread

from lhd.core import kinds
from lhd.core.commands.tasks import ClaimTask
from lhd.core.records import Kind
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    correlate,
    failure,
    literal,
    markers,
    node,
    nothing,
    one_task,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    thread,
    wait_for,
    wf_run,
)
from tests.core.world import World

HALTED = LHStatus.HALTED
OF_A_RUN: list[Kind[Any]] = [kinds.WF_RUN, kinds.NODE_RUN, kinds.VARIABLE, kinds.TASK_RUN]


def waits_for_paid(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid")


def five_seconds_for_paid(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid", timeout=5)
    wf.complete("done")


def waits_for_a_task_of_a_child(wf: WorkflowThread) -> None:
    """Thread 1 has the task ``1-1``; the NodeRun at 2 waits for it."""
    wait_for(wf, wf.spawn_thread(one_task, "child"))


def report(world: World, guid: str, status: TaskStatus, **fields: Any) -> None:
    """Let a worker take this TaskRun and report it."""
    task = world.submit(ClaimTask(TaskRunId(wf_run_id=WfRunId(id="r"), task_guid=guid), "w", None))
    assert task is not None, f"{guid} is not queued"
    world.report(task, status, **fields)


def fail(world: World, guid: str = "0-1") -> None:
    report(world, guid, TaskStatus.TASK_FAILED)


def succeed(world: World, guid: str) -> None:
    report(world, guid, TaskStatus.TASK_SUCCESS)


def nested(printed: str) -> WfRunId:
    """The id of a WfRun from its printed form."""
    parent, _, own = printed.rpartition("_")
    return WfRunId(id=own, parent_wf_run_id=nested(parent) if parent else None)


def rescue(world: World, number: int = 0, *, wf_run_id: str = "r", skip: bool = False) -> WfRun:
    reply: WfRun = world.submit(
        RescueThreadRunRequest(wf_run_id=nested(wf_run_id), thread_run_number=number, skip_current_node=skip)
    )
    return reply


def pay(world: World, wf_run_id: str) -> None:
    """Put the event ``paid`` for a child WfRun."""
    world.submit(
        PutExternalEventRequest(wf_run_id=nested(wf_run_id), external_event_def_id=ExternalEventDefId(name="paid"))
    )


@contextmanager
def refused_without_effect(world: World) -> Iterator[None]:
    """The block must be refused with FAILED_PRECONDITION and leave every record of the WfRun as it was."""

    def everything() -> list[Any]:
        return [found for kind in OF_A_RUN for found in world.of_run(kind)]

    before = deepcopy(everything())
    with refused(Code.FAILED_PRECONDITION):
        yield
    assert everything() == before


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("paid", "go", "stop-me"):
        put_event_def(world, name)
    world.put_task_def("t")
    return world


class TestRequest:
    """The rows of the table of execution.md 9.3."""

    def test_unknown_run_is_not_found(self, world: World) -> None:
        with refused(Code.NOT_FOUND):
            rescue(world, wf_run_id="unknown")

    def test_unknown_child_of_a_known_run_is_not_found(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        with refused(Code.NOT_FOUND):
            rescue(world, wf_run_id="r_unknown")

    @pytest.mark.parametrize("number", [-1, 1, 5])
    def test_thread_number_out_of_range_is_invalid_argument(self, world: World, number: int) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        with refused(Code.INVALID_ARGUMENT):
            rescue(world, number)

    @pytest.mark.parametrize("skip", [False, True])
    def test_running_thread(self, world: World, skip: bool) -> None:
        put(world, waits_for_paid)
        world.run("wf")
        with refused_without_effect(world):
            rescue(world, skip=skip)

    @pytest.mark.parametrize("skip", [False, True])
    def test_completed_thread(self, world: World, skip: bool) -> None:
        put(world, nothing)
        assert world.run("wf").status == COMPLETED
        with refused_without_effect(world):
            rescue(world, skip=skip)

    @pytest.mark.parametrize("skip", [False, True])
    def test_exception_cannot_be_rescued(self, world: World, skip: bool) -> None:
        put(world, one_task)
        world.run("wf")
        report(world, "0-1", TaskStatus.TASK_EXCEPTION, exception=LHTaskException(name="bad-luck", message="m"))
        assert wf_run(world).status == EXCEPTION
        with refused_without_effect(world):
            rescue(world, skip=skip)

    def test_halted_thread(self, world: World) -> None:
        put(world, waits_for_paid)
        world.run("wf")
        world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert thread(world).status == HALTED
        with refused_without_effect(world):
            rescue(world)

    def test_thread_whose_failure_is_being_handled(self, world: World) -> None:
        put(world, lambda wf: wf.handle_any_failure(wf.execute("t"), waits_for_paid))
        world.run("wf")
        fail(world)
        assert thread(world).status == HALTED
        with refused_without_effect(world):
            rescue(world)

    def test_thread_whose_failure_was_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.execute("t"), nothing)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world)
        assert thread(world).status == RUNNING
        with refused_without_effect(world):
            rescue(world)

    def test_child_that_a_handler_for_each_thread_dealt_with(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(one_task, "child")).handle_error_on_child(nothing)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        assert thread(world).handled_failed_children == [1]
        with refused_without_effect(world):
            rescue(world, 1)

    def test_child_that_a_handler_of_the_waiting_node_dealt_with(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_error(wait_for(wf, wf.spawn_thread(one_task, "child")), nothing)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        assert thread(world).handled_failed_children == [1]
        with refused_without_effect(world):
            rescue(world, 1)

    def test_child_that_did_not_matter_to_wait_for_any(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            failing = wf.spawn_thread(one_task, "failing")
            good = wf.spawn_thread(waits_for_paid, "good")
            wf.wait_for_threads(SpawnedThreads.from_list(failing, good), WaitForThreadsStrategy.WAIT_FOR_ANY)
            wf.wait_for_event("go")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        world.post("paid")
        assert thread(world).handled_failed_children == [1]
        with refused_without_effect(world):
            rescue(world, 1)

    def test_child_below_one_that_was_dealt_with(self, world: World) -> None:
        def middle(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(one_task, "lower"))

        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(middle, "middle")).handle_error_on_child(nothing)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "2-1")
        assert thread(world, number=1).status == thread(world, number=2).status == ERROR
        assert thread(world).handled_failed_children == [1]
        for number in (1, 2):
            with refused_without_effect(world):
                rescue(world, number)

    def test_child_wf_run_whose_failure_the_parent_handled(self, world: World) -> None:
        def parent(wf: WorkflowThread) -> None:
            wf.handle_error(wf.wait_for_child_wf(wf.run_wf("child")), nothing)
            wf.wait_for_event("go")

        put(world, five_seconds_for_paid, "child")
        put(world, parent)
        world.run("wf")
        (child,) = world.child_wf_runs()
        world.wait(6)
        assert wf_run(world, child).status == ERROR
        assert wf_run(world).status == RUNNING
        with refused_without_effect(world):
            rescue(world, wf_run_id=child)
        assert wf_run(world, child).status == ERROR

    def test_node_that_fails_again_on_arrival(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid", correlation_id=wf.declare_str("key"))

        put(world, body)
        assert world.run("wf").status == ERROR
        with refused_without_effect(world):
            rescue(world)

    def test_task_whose_inputs_fail_again(self, world: World) -> None:
        world.put_task_def("typed", VariableType.INT)
        put(world, lambda wf: wf.execute("typed", wf.declare_json_obj("o").with_json_path("$.name")))
        assert world.run("wf", o={"name": "no number"}).status == ERROR
        with refused_without_effect(world):
            rescue(world)

    @pytest.mark.parametrize(
        "condition", [literal(False), VariableAssignment(variable_name="o", json_path="$.x")], ids=["false", "broken"]
    )
    def test_skip_without_an_edge_that_holds(self, world: World, condition: VariableAssignment) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("o")
            wf.execute("t")

        put_edited(world, body, lambda spec: spec.nodes["1-t-TASK"].outgoing_edges[0].condition.CopyFrom(condition))
        world.run("wf")
        fail(world)
        with refused_without_effect(world):
            rescue(world, skip=True)

    def test_skip_at_exit_which_has_no_edge(self, world: World) -> None:
        put(world, lambda wf: wf.complete(wf.declare_int("n").divide(0)))
        assert world.run("wf", n=4).status == ERROR
        with refused_without_effect(world):
            rescue(world, skip=True)

    def test_archived_thread(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=1))

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            wf.wait_for_event("paid")
            wf.wait_for_event("go")

        put(world, body)
        world.run("wf")
        world.wait(1)
        world.post("paid")
        assert world.inactive_thread_run(1) is not None
        with refused_without_effect(world):
            rescue(world, 1)


class TestSameNode:
    """``skip_current_node`` is false: the node is activated again."""

    def test_new_node_run_of_the_same_node_at_the_next_position(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        world.wait(10)
        reply = rescue(world)
        assert reply == wf_run(world)
        assert reply.status == thread(world).status == node(world, 2).status == RUNNING
        assert node(world, 2).node_name == node(world, 1).node_name
        assert node(world, 2).arrival_time.ToMilliseconds() == world.now_ms
        assert thread(world).current_node_position == 2

    def test_failed_node_run_stays_as_it_was(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        before = deepcopy((node(world, 1), world.task_run("0-1")))
        rescue(world)
        succeed(world, "0-2")
        assert (node(world, 1), world.task_run("0-1")) == before

    def test_end_times_are_cleared_and_set_anew(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        assert wf_run(world).HasField("end_time")
        rescue(world)
        assert not wf_run(world).HasField("end_time")
        assert not thread(world).HasField("end_time")
        world.wait(10)
        succeed(world, "0-2")
        assert wf_run(world).status == thread(world).status == COMPLETED
        assert wf_run(world).end_time.ToMilliseconds() == world.now_ms
        assert thread(world).end_time.ToMilliseconds() == world.now_ms

    def test_task_begins_anew_with_all_its_attempts(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=1))
        world.run("wf")
        fail(world)
        fail(world)
        rescue(world)
        fail(world, "0-2")
        assert wf_run(world).status == RUNNING
        fail(world, "0-2")
        assert wf_run(world).status == ERROR

    def test_mutations_run_when_the_new_node_run_succeeds(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            wf.execute("t")
            kept.assign("touched")

        put(world, body)
        world.run("wf")
        fail(world)
        rescue(world)
        assert python(world, "kept") == "untouched"
        succeed(world, "0-2")
        assert python(world, "kept") == "touched"

    def test_run_is_advanced_before_the_reply(self, world: World) -> None:
        put(world, five_seconds_for_paid)
        world.run("wf")
        world.wait(6)
        assert not world.post("paid", guid="late").claimed
        assert rescue(world).status == COMPLETED
        assert node(world, 2).external_event.external_event_id.guid == "late"

    def test_timeout_runs_from_the_rescue(self, world: World) -> None:
        put(world, five_seconds_for_paid)
        world.run("wf")
        world.wait(100)
        rescue(world)
        world.wait(4.9)
        assert wf_run(world).status == RUNNING
        world.wait(1)
        assert node(world, 2).status == wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "TIMEOUT"

    def test_correlation_key_is_waited_for_again(self, world: World) -> None:
        put_event_def(world, "keyed", correlated=CorrelatedEventConfig())
        put(world, lambda wf: wf.wait_for_event("keyed", timeout=5, correlation_id="k"))
        world.run("wf")
        world.wait(6)
        assert markers(world, "keyed", "k") == 0
        rescue(world)
        assert markers(world, "keyed", "k") == 1
        correlate(world, "keyed", "k")
        assert node(world, 2).status == wf_run(world).status == COMPLETED

    def test_user_task_is_given_out_again(self, world: World) -> None:
        world.submit(PutUserTaskDefRequest(name="form", fields=[UserTaskField(name="answer", type=VariableType.STR)]))
        put(world, lambda wf: wf.assign_user_task("form", user_id="me"))
        world.run("wf")
        world.submit(
            CancelUserTaskRunRequest(user_task_run_id=UserTaskRunId(wf_run_id=WfRunId(id="r"), user_task_guid="0-1"))
        )
        assert wf_run(world).status == ERROR
        rescue(world)
        new = world.user_task_run("0-2")
        assert new is not None
        assert new.status == UserTaskRunStatus.ASSIGNED

    def test_edge_failure_runs_the_node_again(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            divisor, result = wf.declare_int("divisor"), wf.declare_int("result", 8)
            divisor.assign(wf.wait_for_event("paid"))
            result.assign(result.divide(divisor))

        put(world, body)
        world.run("wf")
        world.post("paid", 0)
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        rescue(world)
        world.post("paid", 2)
        assert wf_run(world).status == COMPLETED
        assert python(world, "result") == 4

    def test_thread_can_be_rescued_again_and_again(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        for position in range(1, 5):
            fail(world, f"0-{position}")
            assert wf_run(world).status == ERROR
            assert rescue(world).status == RUNNING
        succeed(world, "0-5")
        assert wf_run(world).status == COMPLETED

    def test_run_stopped_by_the_loop_guard_goes_on(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)
            wf.do_while(count.is_less_than(300), lambda wf: count.assign(count.add(1)))

        put(world, body)
        assert world.run("wf").status == ERROR
        assert rescue(world).status == COMPLETED

    def test_handlers_of_the_node_catch_the_next_failure_too(self, world: World) -> None:
        put(world, lambda wf: wf.handle_any_failure(wf.execute("t"), one_task))
        world.run("wf")
        fail(world)
        fail(world, "1-1")
        assert wf_run(world).status == ERROR
        rescue(world)
        assert thread(world).status == RUNNING
        fail(world, "0-2")
        assert thread(world, number=2).type == ThreadType.FAILURE_HANDLER
        assert node(world, 1).failure_handler_ids == [1]
        assert node(world, 2).failure_handler_ids == [2]
        assert thread(world).status == HALTED
        assert wf_run(world).status == RUNNING

    def test_thread_that_failed_with_its_interrupt_handler(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", one_task)
            wf.wait_for_event("paid")
            wf.wait_for_event("go")

        put(world, body)
        world.run("wf")
        world.post("stop-me")
        fail(world, "1-1")
        assert thread(world).status == wf_run(world).status == ERROR
        rescue(world)
        assert thread(world).status == wf_run(world).status == RUNNING
        world.post("paid")
        assert node(world, 2).status == COMPLETED
        assert node(world, 3).status == RUNNING


class TestSkip:
    """``skip_current_node`` is true: the thread leaves the failed node."""

    def test_sink_is_activated_without_mutations(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            wf.execute("t")
            kept.assign("touched")
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world)
        before = deepcopy(node(world, 1))
        reply = rescue(world, skip=True)
        assert reply == wf_run(world)
        assert reply.status == thread(world).status == node(world, 2).status == RUNNING
        assert node(world, 2).node_name == "2-paid-EXTERNAL_EVENT"
        assert thread(world).current_node_position == 2
        assert not reply.HasField("end_time")
        assert not thread(world).HasField("end_time")
        assert node(world, 1) == before
        assert not world.queue
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") == "untouched"

    @pytest.mark.parametrize(("holds", "taken"), [(True, "2-go-EXTERNAL_EVENT"), (False, "3-paid-EXTERNAL_EVENT")])
    def test_first_edge_that_holds_is_taken(self, world: World, holds: bool, taken: str) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.wait_for_event("go")
            wf.wait_for_event("paid")

        def edit(spec: ThreadSpec) -> None:
            edges = spec.nodes["1-t-TASK"].outgoing_edges
            edges[0].condition.CopyFrom(literal(holds))
            edges.append(Edge(sink_node_name="3-paid-EXTERNAL_EVENT"))

        put_edited(world, body, edit)
        world.run("wf")
        fail(world)
        rescue(world, skip=True)
        assert node(world, 2).node_name == taken

    def test_run_can_end_with_the_rescue(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        fail(world)
        reply = rescue(world, skip=True)
        assert reply.status == COMPLETED
        assert reply.end_time.ToMilliseconds() == world.now_ms

    def test_mutation_that_failed_on_the_edge_is_not_tried_again(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            n = wf.declare_int("n", 8)
            wf.wait_for_event("paid")
            n.assign(n.divide(0))
            wf.wait_for_event("go")

        put(world, body)
        world.run("wf")
        world.post("paid")
        assert wf_run(world).status == ERROR
        rescue(world, skip=True)
        world.post("go")
        assert wf_run(world).status == COMPLETED
        assert python(world, "n") == 8

    def test_waiting_node_is_left_although_its_child_stays_failed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(one_task, "child"))
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        assert rescue(world, skip=True).status == RUNNING
        assert node(world, 3).node_name == "3-paid-EXTERNAL_EVENT"
        assert thread(world, number=1).status == ERROR
        assert not reached(world, 2, number=1)


class TestChildrenOfTheRescued:
    """What the failure of the rescued thread had halted."""

    @staticmethod
    def parent(wf: WorkflowThread) -> None:
        wf.spawn_thread(waits_for_paid, "child")
        wf.execute("t")

    def test_children_halted_by_the_failure_resume(self, world: World) -> None:
        put(world, self.parent)
        world.run("wf")
        fail(world, "0-2")
        assert thread(world, number=1).status == HALTED
        rescue(world)
        child = thread(world, number=1)
        assert child.status == node(world, 1, number=1).status == RUNNING
        assert not child.halt_reasons
        assert child.current_node_position == 1

    def test_event_that_came_meanwhile_is_taken(self, world: World) -> None:
        put(world, self.parent)
        world.run("wf")
        fail(world, "0-2")
        assert not world.post("paid").claimed
        rescue(world)
        assert thread(world, number=1).status == COMPLETED

    def test_grandchildren_resume_too(self, world: World) -> None:
        def middle(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(waits_for_paid, "lower"))

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(middle, "middle")
            wf.execute("t")

        put(world, body)
        world.run("wf")
        fail(world, "0-2")
        rescue(world)
        assert thread(world, number=1).status == thread(world, number=2).status == RUNNING

    def test_child_stopped_by_hand_stays_halted(self, world: World) -> None:
        put(world, self.parent)
        world.run("wf")
        world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=1))
        fail(world, "0-2")
        rescue(world)
        child = thread(world, number=1)
        assert child.status == HALTED
        assert [reason.WhichOneof("reason") for reason in child.halt_reasons] == ["manual_halt"]

    def test_failed_child_stays_failed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.execute("t")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        fail(world, "0-2")
        rescue(world)
        assert thread(world).status == RUNNING
        assert thread(world, number=1).status == ERROR


class TestParentsOfTheRescued:
    """Parents that failed because of the rescued thread."""

    def test_parent_that_has_not_noticed_goes_on_as_before(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        rescue(world, 1)
        assert thread(world, number=1).status == node(world, 2, number=1).status == RUNNING
        assert thread(world).current_node_position == 2
        succeed(world, "1-2")
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("skip", [False, True])
    def test_parent_waiting_for_threads_waits_again_at_the_same_node(self, world: World, skip: bool) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.wait_for_event("go")

        put(world, lambda wf: wait_for(wf, wf.spawn_thread(child, "child")))
        world.run("wf")
        fail(world, "1-1")
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        before = deepcopy(node(world, 2))
        reply = rescue(world, 1, skip=skip)
        assert reply == wf_run(world)
        assert reply.status == thread(world).status == thread(world, number=1).status == RUNNING
        assert not reply.HasField("end_time")
        assert not thread(world).HasField("end_time")
        assert node(world, 2) == before
        assert node(world, 3).node_name == node(world, 2).node_name
        assert node(world, 3).status == RUNNING
        (entry,) = node(world, 3).wait_for_threads.threads
        assert entry.thread_run_number == 1
        assert entry.waiting_status == WaitForThreadsRun.THREAD_IN_PROGRESS

    def test_rescued_parent_ends_well_with_its_child(self, world: World) -> None:
        put(world, waits_for_a_task_of_a_child)
        world.run("wf")
        fail(world, "1-1")
        rescue(world, 1)
        succeed(world, "1-2")
        assert node(world, 3).status == wf_run(world).status == COMPLETED
        assert thread(world, number=1).status == COMPLETED

    def test_rescued_parent_fails_again_with_its_child(self, world: World) -> None:
        put(world, waits_for_a_task_of_a_child)
        world.run("wf")
        fail(world, "1-1")
        rescue(world, 1)
        fail(world, "1-2")
        assert failure(world, 3).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR
        rescue(world, 1)
        succeed(world, "1-3")
        assert wf_run(world).status == COMPLETED

    def test_skip_of_the_last_node_of_the_child_ends_both(self, world: World) -> None:
        put(world, waits_for_a_task_of_a_child)
        world.run("wf")
        fail(world, "1-1")
        assert rescue(world, 1, skip=True).status == COMPLETED

    def test_parent_at_exit_waits_there_again(self, world: World) -> None:
        put(world, lambda wf: wf.spawn_thread(one_task, "child"))
        world.run("wf")
        fail(world, "1-1")
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        rescue(world, 1)
        assert wf_run(world).status == thread(world).status == node(world, 3).status == RUNNING
        assert node(world, 3).node_name == node(world, 2).node_name
        succeed(world, "1-2")
        assert wf_run(world).status == COMPLETED

    def test_parent_at_exit_with_two_failed_children_needs_both(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "one")
            wf.spawn_thread(one_task, "other")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        fail(world, "2-1")
        assert wf_run(world).status == ERROR
        assert rescue(world, 1).status == RUNNING
        succeed(world, "1-2")
        assert wf_run(world).status == ERROR
        assert rescue(world, 2).status == RUNNING
        succeed(world, "2-2")
        assert wf_run(world).status == COMPLETED

    def test_rescue_climbs_to_the_entrypoint(self, world: World) -> None:
        def middle(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(one_task, "lower"))

        put(world, lambda wf: wf.spawn_thread(middle, "middle"))
        world.run("wf")
        fail(world, "2-1")
        assert [one.status for one in wf_run(world).thread_runs] == [ERROR, ERROR, ERROR]
        reply = rescue(world, 2)
        assert reply.status == RUNNING
        assert [one.status for one in reply.thread_runs] == [RUNNING, RUNNING, RUNNING]
        succeed(world, "2-2")
        assert wf_run(world).status == COMPLETED

    def test_rescue_of_a_thread_in_the_middle_leaves_the_lower_one(self, world: World) -> None:
        def middle(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(one_task, "lower"))
            wf.wait_for_event("go")

        put(world, lambda wf: wait_for(wf, wf.spawn_thread(middle, "middle")))
        world.run("wf")
        fail(world, "2-1")
        rescue(world, 1, skip=True)
        assert [one.status for one in wf_run(world).thread_runs] == [RUNNING, RUNNING, ERROR]

    def test_siblings_halted_by_the_parent_resume(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            failing = wf.spawn_thread(one_task, "failing")
            wait_for(wf, failing, wf.spawn_thread(waits_for_paid, "sibling"))

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        assert thread(world, number=2).status == HALTED
        rescue(world, 1)
        assert thread(world, number=2).status == RUNNING
        succeed(world, "1-2")
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(
        ("status", "exception", "ended"),
        [
            (TaskStatus.TASK_FAILED, None, ERROR),
            (TaskStatus.TASK_EXCEPTION, "CHILD_FAILURE", ERROR),
            (TaskStatus.TASK_EXCEPTION, "bad-luck", EXCEPTION),
        ],
    )
    def test_parent_that_failed_at_another_node_stays_failed(
        self, world: World, status: TaskStatus, exception: str | None, ended: LHStatus
    ) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.execute("t")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        report(world, "0-2", status, exception=LHTaskException(name=exception, message="m") if exception else None)
        assert wf_run(world).status == ended
        rescue(world, 1)
        assert thread(world, number=1).status == RUNNING
        assert wf_run(world).status == thread(world).status == ended
        assert not reached(world, 3)

    def test_parent_that_failed_behind_the_waiting_node_stays_failed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            n = wf.declare_int("n", 1)
            wf.spawn_thread(one_task, "failing")
            wait_for(wf, wf.spawn_thread(waits_for_paid, "good"))
            n.assign(n.divide(0))

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        world.post("paid")
        assert failure(world, 3).failure_name == "VAR_SUB_ERROR"
        rescue(world, 1)
        assert thread(world, number=1).status == RUNNING
        assert wf_run(world).status == thread(world).status == ERROR
        assert not reached(world, 4)

    def test_parent_that_threw_at_its_exit_stays_failed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.wait_for_event("paid")
            wf.fail("bad-luck", "m")

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        world.post("paid")
        rescue(world, 1)
        assert wf_run(world).status == thread(world).status == EXCEPTION

    def test_child_whose_handler_failed_can_be_rescued(self, world: World) -> None:
        put(world, lambda wf: wait_for(wf, wf.spawn_thread(one_task, "child")).handle_any_failure_on_child(one_task))
        world.run("wf")
        fail(world, "1-1")
        fail(world, "2-1")
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        rescue(world, 1)
        assert wf_run(world).status == thread(world).status == thread(world, number=1).status == RUNNING

    def test_rescued_handler_leaves_the_thread_that_it_handled(self, world: World) -> None:
        put(world, lambda wf: wf.handle_any_failure(wf.execute("t"), one_task))
        world.run("wf")
        fail(world)
        fail(world, "1-1")
        rescue(world, 1)
        assert thread(world, number=1).status == RUNNING
        assert wf_run(world).status == thread(world).status == ERROR


class TestChildWfRuns:
    """The rescue goes on from a child WfRun to the thread that waits for it."""

    @staticmethod
    def start(world: World, parent: Callable[[WorkflowThread], Any], child: Callable[[WorkflowThread], Any]) -> str:
        """The printed id of the child, which is in ERROR."""
        put(world, child, "child")
        put(world, parent)
        world.run("wf")
        (started,) = world.child_wf_runs()
        world.wait(6)
        assert wf_run(world, started).status == ERROR
        return started

    @staticmethod
    def waits(wf: WorkflowThread) -> None:
        kept = wf.declare_str("kept")
        kept.assign(wf.wait_for_child_wf(wf.run_wf("child")))

    def test_waiting_parent_waits_again_at_the_same_node(self, world: World) -> None:
        child = self.start(world, self.waits, five_seconds_for_paid)
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        before = deepcopy(node(world, 2))
        reply = rescue(world, wf_run_id=child)
        assert reply == wf_run(world, child)
        assert reply.status == RUNNING
        assert wf_run(world).status == thread(world).status == node(world, 3).status == RUNNING
        assert not wf_run(world).HasField("end_time")
        assert node(world, 3).node_name == node(world, 2).node_name
        assert node(world, 2) == before

    def test_both_end_well(self, world: World) -> None:
        child = self.start(world, self.waits, five_seconds_for_paid)
        rescue(world, wf_run_id=child)
        pay(world, child)
        assert wf_run(world, child).status == wf_run(world).status == COMPLETED
        assert python(world, "kept") == "done"

    def test_both_fail_again(self, world: World) -> None:
        child = self.start(world, self.waits, five_seconds_for_paid)
        rescue(world, wf_run_id=child)
        world.wait(6)
        assert wf_run(world, child).status == wf_run(world).status == ERROR
        assert failure(world, 3).failure_name == "CHILD_FAILURE"

    def test_parents_of_the_waiting_thread_are_rescued_too(self, world: World) -> None:
        child = self.start(world, lambda wf: wait_for(wf, wf.spawn_thread(self.waits, "waits")), five_seconds_for_paid)
        assert wf_run(world).status == ERROR
        rescue(world, wf_run_id=child)
        assert [one.status for one in wf_run(world).thread_runs] == [RUNNING, RUNNING]
        assert wf_run(world).status == RUNNING
        pay(world, child)
        assert wf_run(world).status == COMPLETED

    def test_rescue_of_a_thread_of_the_child_climbs_through_its_entrypoint(self, world: World) -> None:
        def child_body(wf: WorkflowThread) -> None:
            wait_for(wf, wf.spawn_thread(five_seconds_for_paid, "lower"))

        child = self.start(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")), child_body)
        assert wf_run(world).status == ERROR
        rescue(world, 1, wf_run_id=child)
        assert wf_run(world, child).status == wf_run(world).status == RUNNING
        pay(world, child)
        assert wf_run(world, child).status == wf_run(world).status == COMPLETED

    def test_parent_that_did_not_wait_is_not_touched(self, world: World) -> None:
        child = self.start(world, lambda wf: wf.run_wf("child"), five_seconds_for_paid)
        before = deepcopy(wf_run(world))
        assert before.status == COMPLETED
        assert rescue(world, wf_run_id=child).status == RUNNING
        assert wf_run(world) == before

    def test_parent_that_failed_otherwise_is_not_touched(self, world: World) -> None:
        def parent(wf: WorkflowThread) -> None:
            wf.run_wf("child")
            wf.execute("t")

        child = self.start(world, parent, five_seconds_for_paid)
        fail(world, "0-2")
        before = deepcopy(wf_run(world))
        assert before.status == ERROR
        assert rescue(world, wf_run_id=child).status == RUNNING
        assert wf_run(world) == before
