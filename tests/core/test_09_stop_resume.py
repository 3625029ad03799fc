"""StopWfRun and ResumeWfRun: execution.md 9.1, 9.2 and 1.2, api.md section 12.

What each node type does when it is halted is tested in test_04_interrupts.py. Not tested here:
- 1.2, WfRun status when thread 0 is stopped while an interrupt handler runs: the rule leaves it open;
- 4.5, a stop during a failure handler or two interrupt handlers: when these go on after the resume is open;
- 1.2, thread 0 halted for a failure handler: it belongs to failure handling (6.4).
"""

import pytest
from littlehorse.model import (
    LHErrorType,
    LHStatus,
    LHTaskError,
    ResumeWfRunRequest,
    StopWfRunRequest,
    TaskStatus,
    ThreadType,
    WfRun,
    WfRunId,
    WorkflowRetentionPolicy,
)
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from lhd.core import kinds
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    claim,
    failure,
    node,
    nothing,
    one_task,
    put,
    put_event_def,
    python,
    refused,
    statuses,
    thread,
    wf_run,
)
from tests.core.world import World

HALTING, HALTED = LHStatus.HALTING, LHStatus.HALTED

Request = type[StopWfRunRequest] | type[ResumeWfRunRequest]


def stop(world: World, number: int = 0, run: str = "r") -> None:
    world.submit(StopWfRunRequest(wf_run_id=wf_run(world, run).id, thread_run_number=number))


def resume(world: World, number: int = 0, run: str = "r") -> None:
    world.submit(ResumeWfRunRequest(wf_run_id=wf_run(world, run).id, thread_run_number=number))


def wait_for_paid(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid")


def wait_for_shipped(wf: WorkflowThread) -> None:
    wf.wait_for_event("shipped")


def wait_for_handled(wf: WorkflowThread) -> None:
    wf.wait_for_event("handled")


def spawn(wf: WorkflowThread, main: Body = wait_for_paid, name: str = "child") -> SpawnedThreads:
    return SpawnedThreads.from_list(wf.spawn_thread(main, name))


def spawn_and_wait(wf: WorkflowThread) -> None:
    """Thread 0 waits for thread 1, which waits for an event."""
    wf.wait_for_threads(spawn(wf))


def spawn_two_and_wait(wf: WorkflowThread) -> None:
    first = wf.spawn_thread(wait_for_paid, "first")
    second = wf.spawn_thread(wait_for_shipped, "second")
    wf.wait_for_threads(SpawnedThreads.from_list(first, second))


def spawn_task_and_wait(wf: WorkflowThread) -> None:
    spawn(wf, one_task)
    wf.wait_for_event("paid")


def interruptible(wf: WorkflowThread) -> None:
    wf.add_interrupt_handler("stop-me", wait_for_handled)
    wf.wait_for_event("paid")


def breakable(wf: WorkflowThread) -> None:
    """The interrupt handler fails at once."""
    wf.add_interrupt_handler("stop-me", lambda wf: wf.fail("bad-luck", "no luck today"))
    wf.wait_for_event("paid")


def start(world: World, body: Body) -> None:
    put(world, body)
    world.run("wf")


def reasons(world: World, number: int = 0) -> list[str]:
    """The kinds of the reasons for which a thread is halted, sorted."""
    return sorted(str(reason.WhichOneof("reason")) for reason in thread(world, number=number).halt_reasons)


def snapshot(world: World) -> WfRun:
    """The WfRun as it is now, whatever happens to the record."""
    copy = WfRun()
    copy.CopyFrom(wf_run(world))
    return copy


@pytest.fixture
def world() -> World:
    world = World()
    for event_def in ("paid", "shipped", "handled", "stop-me"):
        put_event_def(world, event_def)
    world.put_task_def("t")
    return world


@pytest.mark.parametrize("request_type", [StopWfRunRequest, ResumeWfRunRequest])
class TestRefusals:
    """execution.md 9.1 and 9.2: both calls have the same errors."""

    def test_unknown_run_is_not_found(self, world: World, request_type: Request) -> None:
        with refused(Code.NOT_FOUND):
            world.submit(request_type(wf_run_id=WfRunId(id="unknown")))

    @pytest.mark.parametrize("number", [-1, 2])
    def test_thread_number_out_of_range_is_invalid_argument(
        self, world: World, request_type: Request, number: int
    ) -> None:
        start(world, spawn_and_wait)
        assert wf_run(world).greatest_threadrun_number == 1
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request_type(wf_run_id=WfRunId(id="r"), thread_run_number=number))
        assert statuses(world) == [RUNNING, RUNNING]

    def test_greatest_thread_number_is_in_range(self, world: World, request_type: Request) -> None:
        start(world, spawn_and_wait)
        world.submit(request_type(wf_run_id=WfRunId(id="r"), thread_run_number=1))

    def test_child_run_is_not_found_under_its_own_part_of_the_id(self, world: World, request_type: Request) -> None:
        put(world, wait_for_paid, "child")
        start(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        (child,) = world.child_wf_runs()
        with refused(Code.NOT_FOUND):
            world.submit(request_type(wf_run_id=WfRunId(id=wf_run(world, child).id.id)))


class TestStop:
    """execution.md 9.1."""

    def test_thread_without_a_number_is_thread_zero(self, world: World) -> None:
        start(world, wait_for_paid)
        world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert thread(world).status == HALTED
        assert node(world, 1).status == HALTED
        assert reasons(world) == ["manual_halt"]

    def test_children_are_halted_with_parent_halted(self, world: World) -> None:
        start(world, lambda wf: spawn(wf, spawn_and_wait, "between"))
        stop(world)
        assert statuses(world) == [HALTED, HALTED, HALTED]
        for number in (1, 2):
            (reason,) = thread(world, number=number).halt_reasons
            assert reason.WhichOneof("reason") == "parent_halted"
            assert reason.parent_halted.parent_thread_id == number - 1

    @pytest.mark.parametrize("in_worker", [False, True])
    def test_thread_at_a_task_is_halting_until_the_task_ends(self, world: World, in_worker: bool) -> None:
        start(world, one_task)
        task = claim(world) if in_worker else None
        stop(world)
        assert (thread(world).status, node(world, 1).status) == (HALTING, HALTING)
        world.report(task or claim(world))
        assert (thread(world).status, node(world, 1).status) == (HALTED, HALTED)
        task_run = world.task_run("0-1")
        assert task_run is not None
        assert task_run.status == TaskStatus.TASK_SUCCESS

    def test_second_stop_changes_nothing(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world)
        before = snapshot(world)
        stop(world)
        assert wf_run(world) == before

    def test_second_stop_while_halting_changes_nothing(self, world: World) -> None:
        start(world, one_task)
        stop(world)
        before = snapshot(world)
        stop(world)
        assert wf_run(world) == before

    def test_one_resume_undoes_two_stops(self, world: World) -> None:
        start(world, wait_for_paid)
        stop(world)
        stop(world)
        resume(world)
        assert thread(world).status == RUNNING

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param(nothing, COMPLETED, id="COMPLETED"),
            pytest.param(lambda wf: wf.fail("bad-luck", "no luck today"), EXCEPTION, id="EXCEPTION"),
            pytest.param(lambda wf: wf.declare_int("n", 1).assign(wf.divide(1, 0)), ERROR, id="ERROR"),
        ],
    )
    def test_terminal_run_is_not_changed(self, world: World, body: Body, status: LHStatus) -> None:
        start(world, body)
        assert wf_run(world).status == status
        before = snapshot(world)
        stop(world)
        assert wf_run(world) == before
        resume(world)
        assert wf_run(world) == before

    def test_terminal_child_is_not_changed(self, world: World) -> None:
        start(world, spawn_two_and_wait)
        world.post("paid")
        assert statuses(world) == [RUNNING, COMPLETED, RUNNING]
        stop(world, 1)
        assert statuses(world) == [RUNNING, COMPLETED, RUNNING]
        assert reasons(world, 1) == []

    def test_stop_of_a_child_leaves_the_others_running(self, world: World) -> None:
        start(world, spawn_two_and_wait)
        stop(world, 1)
        assert statuses(world) == [RUNNING, HALTED, RUNNING]
        assert world.post("shipped").claimed
        assert thread(world, number=2).status == COMPLETED

    def test_parent_keeps_waiting_for_a_stopped_child(self, world: World) -> None:
        start(world, spawn_two_and_wait)
        stop(world, 1)
        world.post("shipped")
        assert not world.post("paid").claimed
        assert node(world, 3).status == RUNNING
        assert wf_run(world).status == RUNNING
        resume(world, 1)
        assert wf_run(world).status == COMPLETED

    def test_stopped_child_does_not_prevent_the_exit_of_its_parent(self, world: World) -> None:
        start(world, spawn)
        assert wf_run(world).status == RUNNING
        stop(world, 1)
        assert wf_run(world).status == COMPLETED
        assert thread(world, number=1).status == HALTED

    def test_stop_reaches_the_descendants_of_a_child(self, world: World) -> None:
        start(world, lambda wf: wf.wait_for_threads(spawn(wf, spawn_and_wait, "between")))
        stop(world, 1)
        assert statuses(world) == [RUNNING, HALTED, HALTED]
        assert reasons(world, 2) == ["parent_halted"]

    def test_stopped_thread_takes_no_event(self, world: World) -> None:
        start(world, wait_for_paid)
        stop(world)
        assert not world.post("paid", guid="g").claimed
        assert thread(world).status == HALTED
        resume(world)
        event = world.external_event("paid", "g")
        assert event is not None
        assert event.claimed
        assert wf_run(world).status == COMPLETED

    def test_stopped_run_goes_on_by_no_timer(self, world: World) -> None:
        start(world, lambda wf: wf.sleep(10))
        stop(world)
        world.wait(1000)
        assert thread(world).status == HALTED
        assert node(world, 1).sleep.matured
        resume(world)
        assert wf_run(world).status == COMPLETED


class TestResume:
    """execution.md 9.2."""

    @pytest.mark.parametrize("number", [0, 1])
    def test_resume_of_a_running_thread_changes_nothing(self, world: World, number: int) -> None:
        start(world, spawn_and_wait)
        before = snapshot(world)
        resume(world, number)
        assert wf_run(world) == before

    def test_thread_without_a_number_is_thread_zero(self, world: World) -> None:
        start(world, wait_for_paid)
        stop(world)
        world.submit(ResumeWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert thread(world).status == RUNNING
        assert node(world, 1).status == RUNNING
        assert reasons(world) == []
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_descendants_go_on_with_the_thread(self, world: World) -> None:
        start(world, lambda wf: spawn(wf, spawn_and_wait, "between"))
        stop(world)
        resume(world)
        assert statuses(world) == [RUNNING, RUNNING, RUNNING]
        assert reasons(world, 1) == reasons(world, 2) == []
        assert node(world, 1, number=2).status == RUNNING
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_reply_comes_after_the_advance(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world)
        world.post("paid")
        resume(world)
        assert statuses(world) == [COMPLETED, COMPLETED]

    def test_task_that_ended_during_the_halt_is_used(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            kept.assign(wf.execute("t"))

        start(world, body)
        task = claim(world)
        stop(world)
        world.report(task, output="done")
        assert python(world, "kept") == "untouched"
        resume(world)
        assert python(world, "kept") == "done"
        assert wf_run(world).status == COMPLETED
        assert len(world.of_run(kinds.TASK_RUN)) == 1

    def test_task_that_failed_during_the_halt_fails_the_node(self, world: World) -> None:
        start(world, one_task)
        task = claim(world)
        stop(world)
        error = LHTaskError(type=LHErrorType.TASK_FAILURE, message="broken")
        world.report(task, TaskStatus.TASK_FAILED, error=error)
        assert thread(world).status == HALTED
        resume(world)
        assert failure(world, 1).failure_name == "TASK_FAILURE"
        assert wf_run(world).status == ERROR

    def test_halting_thread_first_finishes_halting(self, world: World) -> None:
        start(world, one_task)
        task = claim(world)
        stop(world)
        resume(world)
        assert thread(world).status == HALTING
        assert node(world, 1).status == HALTING
        assert reasons(world) == []
        world.report(task)
        assert node(world, 1).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_thread_can_be_stopped_and_resumed_again(self, world: World) -> None:
        start(world, wait_for_paid)
        for _ in range(3):
            stop(world)
            assert thread(world).status == HALTED
            resume(world)
            assert thread(world).status == RUNNING
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert thread(world).current_node_position == 2


class TestReasonsTogether:
    """execution.md 9.2 and 4.5: every reason must be gone before a thread runs again."""

    def test_resume_of_an_interrupted_thread_leaves_it_halted(self, world: World) -> None:
        start(world, interruptible)
        world.post("stop-me")
        resume(world)
        assert thread(world).status == HALTED
        assert reasons(world) == ["interrupted"]
        world.post("handled")
        assert thread(world).status == RUNNING

    def test_resume_before_the_end_of_the_handler_leaves_the_thread_halted(self, world: World) -> None:
        start(world, interruptible)
        stop(world)
        world.post("stop-me")
        assert reasons(world) == ["interrupted", "manual_halt"]
        resume(world)
        assert reasons(world) == ["interrupted"]
        assert statuses(world) == [HALTED, RUNNING]
        world.post("handled")
        assert thread(world).status == RUNNING

    def test_end_of_the_handler_before_the_resume_leaves_the_thread_halted(self, world: World) -> None:
        start(world, interruptible)
        stop(world)
        world.post("stop-me")
        world.post("handled")
        assert statuses(world) == [HALTED, COMPLETED]
        assert reasons(world) == ["manual_halt"]
        resume(world)
        assert thread(world).status == RUNNING

    def test_stop_of_an_interrupted_thread_halts_its_handler_until_the_resume(self, world: World) -> None:
        start(world, interruptible)
        world.post("stop-me")
        stop(world)
        assert statuses(world) == [HALTED, HALTED]
        assert reasons(world) == ["interrupted", "manual_halt"]
        assert reasons(world, 1) == ["parent_halted"]
        resume(world)
        assert statuses(world) == [HALTED, RUNNING]
        world.post("handled")
        assert thread(world).status == RUNNING

    def test_stopped_handler_keeps_the_interrupted_thread_halted_until_it_is_resumed(self, world: World) -> None:
        start(world, interruptible)
        world.post("stop-me")
        stop(world, 1)
        assert not world.post("handled").claimed
        assert statuses(world) == [HALTED, HALTED]
        resume(world, 1)
        assert statuses(world) == [RUNNING, COMPLETED]

    def test_stopped_failure_handler_keeps_the_failed_thread_halted_until_it_is_resumed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.execute("t"), wait_for_handled)

        start(world, body)
        error = LHTaskError(type=LHErrorType.TASK_FAILURE, message="broken")
        world.report(claim(world), TaskStatus.TASK_FAILED, error=error)
        assert thread(world, number=1).type == ThreadType.FAILURE_HANDLER
        stop(world, 1)
        assert not world.post("handled").claimed
        assert statuses(world) == [HALTED, HALTED]
        resume(world, 1)
        assert wf_run(world).status == COMPLETED

    def test_interrupt_that_waits_for_a_task_starts_though_the_thread_is_stopped(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", nothing)
            wf.execute("t")

        start(world, body)
        task = claim(world)
        stop(world)
        world.post("stop-me")
        assert reasons(world) == ["manual_halt", "pending_interrupt"]
        world.report(task)
        assert statuses(world) == [HALTED, COMPLETED]
        resume(world)
        assert wf_run(world).status == COMPLETED

    def test_failing_handler_fails_a_stopped_thread_at_once(self, world: World) -> None:
        start(world, breakable)
        stop(world)
        world.post("stop-me")
        assert failure(world, 1).failure_name == "bad-luck"
        assert thread(world).status == EXCEPTION
        assert wf_run(world).status == EXCEPTION

    def test_stopped_child_stays_halted_when_its_parent_goes_on(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world, 1)
        stop(world)
        assert reasons(world, 1) == ["manual_halt", "parent_halted"]
        resume(world)
        assert statuses(world) == [RUNNING, HALTED]
        assert reasons(world, 1) == ["manual_halt"]
        resume(world, 1)
        assert statuses(world) == [RUNNING, RUNNING]

    def test_resumed_child_stays_halted_until_its_parent_goes_on(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world, 1)
        stop(world)
        resume(world, 1)
        assert statuses(world) == [HALTED, HALTED]
        assert reasons(world, 1) == ["parent_halted"]
        resume(world)
        assert statuses(world) == [RUNNING, RUNNING]

    def test_child_that_is_halted_with_its_parent_cannot_be_resumed_alone(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world)
        resume(world, 1)
        assert statuses(world) == [HALTED, HALTED]

    def test_child_can_be_stopped_while_it_is_halted_with_its_parent(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world)
        stop(world, 1)
        resume(world)
        assert statuses(world) == [RUNNING, HALTED]


class TestWfRunStatus:
    """execution.md 1.2: how the WfRun follows the manual halt of thread 0."""

    def test_stop_that_takes_effect_at_once_halts_the_run(self, world: World) -> None:
        start(world, wait_for_paid)
        stop(world)
        assert wf_run(world).status == HALTED

    def test_stop_that_has_to_wait_for_a_task_halts_the_run_when_thread_zero_is_halted(self, world: World) -> None:
        start(world, one_task)
        task = claim(world)
        stop(world)
        assert wf_run(world).status == RUNNING
        world.report(task)
        assert thread(world).status == HALTED
        assert wf_run(world).status == HALTED

    def test_stop_that_has_to_wait_for_a_child_halts_the_run_when_thread_zero_is_halted(self, world: World) -> None:
        start(world, spawn_task_and_wait)
        task = claim(world)
        stop(world)
        assert statuses(world) == [HALTING, HALTING]
        assert node(world, 2).status == HALTED
        assert wf_run(world).status == RUNNING
        world.report(task)
        assert statuses(world) == [HALTED, HALTED]
        assert wf_run(world).status == HALTED

    def test_resume_makes_the_run_running(self, world: World) -> None:
        start(world, wait_for_paid)
        stop(world)
        resume(world)
        assert wf_run(world).status == RUNNING

    def test_resume_after_a_halt_that_had_to_wait_makes_the_run_running(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.wait_for_event("paid")

        start(world, body)
        task = claim(world)
        stop(world)
        world.report(task)
        resume(world)
        assert node(world, 2).status == RUNNING
        assert wf_run(world).status == RUNNING

    def test_resume_while_halting_never_shows_a_halted_run(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.wait_for_event("paid")

        start(world, body)
        task = claim(world)
        stop(world)
        resume(world)
        assert wf_run(world).status == RUNNING
        world.report(task)
        assert wf_run(world).status == RUNNING
        assert thread(world).status == RUNNING

    def test_stop_of_a_child_does_not_change_the_run(self, world: World) -> None:
        start(world, spawn_and_wait)
        stop(world, 1)
        assert wf_run(world).status == RUNNING

    def test_interrupt_does_not_change_the_status_of_a_halted_run(self, world: World) -> None:
        start(world, interruptible)
        stop(world)
        world.post("stop-me")
        assert wf_run(world).status == HALTED
        world.post("handled")
        assert wf_run(world).status == HALTED
        resume(world)
        assert wf_run(world).status == RUNNING

    def test_halted_run_has_not_ended(self, world: World) -> None:
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=60)
        world.put_workflow(Workflow("wf", wait_for_paid).with_retention_policy(policy))
        world.run("wf")
        stop(world)
        world.wait(1000)
        assert wf_run(world).status == HALTED
        assert not wf_run(world).HasField("end_time")
        assert not thread(world).HasField("end_time")


class TestChildWfRun:
    """execution.md 9.2: WfRuns that have a parent are found by their full id."""

    @pytest.fixture
    def child(self, world: World) -> str:
        """The printed id of a child WfRun that sleeps, and whose parent waits for it."""
        put(world, lambda wf: wf.sleep(10), "child")
        start(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        (child,) = world.child_wf_runs()
        return child

    def test_parent_waits_for_a_stopped_child_run(self, world: World, child: str) -> None:
        stop(world, run=child)
        assert wf_run(world, child).status == HALTED
        world.wait(11)
        assert wf_run(world, child).status == HALTED
        assert node(world, 2).status == RUNNING
        assert wf_run(world).status == RUNNING

    def test_child_run_is_resumed(self, world: World, child: str) -> None:
        stop(world, run=child)
        world.wait(11)
        resume(world, run=child)
        assert wf_run(world, child).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_stop_of_the_parent_leaves_the_child_run_running(self, world: World, child: str) -> None:
        stop(world)
        assert wf_run(world).status == HALTED
        assert wf_run(world, child).status == RUNNING
        world.wait(11)
        assert wf_run(world, child).status == COMPLETED
        assert wf_run(world).status == HALTED
        resume(world)
        assert wf_run(world).status == COMPLETED
