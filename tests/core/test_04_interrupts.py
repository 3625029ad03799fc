"""Interrupts and halting: execution.md section 4 with worked trace D, and the halted waits of 2.3, 2.5 and 2.6.

Not tested here:
- 4.2, nodes that finish in the step in which they start: no command can meet them;
- 4.5, `parent_halted` under a COMPLETED parent: no sequence of commands leads there;
- 4.5, `pending_failure` and `handling_failure`: they belong to failure handling (6.4);
- 4.5, `manual_halt`: test_09_stop_resume.py;
- 4.3, an interrupt during a failure handler: when that handler goes on is open;
- 2.6, masking: reads through the API do it.
"""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    CorrelatedEventConfig,
    ExponentialBackoffRetryPolicy,
    ExternalEventDefId,
    InterruptDef,
    LHErrorType,
    LHStatus,
    LHTaskError,
    PutUserTaskDefRequest,
    PutWfSpecRequest,
    ResumeWfRunRequest,
    ScheduledTask,
    StopWfRunRequest,
    TaskStatus,
    ThreadHaltReason,
    ThreadRun,
    ThreadType,
    UserTaskRunStatus,
    WaitForThreadsStrategy,
)
from littlehorse.workflow import SpawnedThreads, WorkflowThread

from lhd.core import kinds
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    claim,
    compiled,
    correlate,
    entry,
    failure,
    markers,
    node,
    nothing,
    put,
    put_event_def,
    python,
    reached,
    refused,
    stored_correlated,
    thread,
    wf_run,
)
from tests.core.world import World

HALTING, HALTED = LHStatus.HALTING, LHStatus.HALTED
BACKOFF = ExponentialBackoffRetryPolicy(base_interval_ms=1000, multiplier=1.0, max_delay_ms=1000)


def wait_for_paid(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid")


def wait_for_shipped(wf: WorkflowThread) -> None:
    wf.wait_for_event("shipped")


def wait_for_handled(wf: WorkflowThread) -> None:
    wf.wait_for_event("handled")


def wait_for_key(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid", correlation_id="k")


def handle_input(wf: WorkflowThread) -> None:
    wf.declare_str("INPUT")
    wf.wait_for_event("handled")


def throw_input(wf: WorkflowThread) -> None:
    wf.fail("bad-luck", "no luck today", wf.declare_str("INPUT"))


def divide_input_by_zero(wf: WorkflowThread) -> None:
    given = wf.declare_int("INPUT")
    given.assign(given.divide(0))


def interruptible(main: Body, handle: Body = wait_for_handled, event_def: str = "stop-me") -> Body:
    """A thread that declares an interrupt."""

    def body(wf: WorkflowThread) -> None:
        wf.add_interrupt_handler(event_def, handle)
        main(wf)

    return body


def spawn(wf: WorkflowThread, main: Body = wait_for_paid, name: str = "child") -> SpawnedThreads:
    return SpawnedThreads.from_list(wf.spawn_thread(main, name))


def spawn_two(wf: WorkflowThread) -> None:
    """Two interruptible children that wait for the same event, and a parent that waits for them."""
    items = wf.declare_json_arr("items", [1, 2])
    wf.wait_for_threads(wf.spawn_thread_for_each(items, interruptible(wait_for_paid), "child"))


def spawn_task_and_wait(wf: WorkflowThread) -> None:
    """A child stands at a task while the thread waits for an event."""
    spawn(wf, lambda wf: wf.execute("t"))
    wf.wait_for_event("paid")


def start(world: World, body: Body) -> None:
    put(world, body)
    world.run("wf")


def fail(world: World, task: ScheduledTask) -> None:
    world.report(task, TaskStatus.TASK_FAILED, error=LHTaskError(type=LHErrorType.TASK_FAILURE, message="broken"))


def handlers(world: World) -> list[ThreadRun]:
    """The ThreadRuns that handle an interrupt, by number."""
    return [one for one in wf_run(world).thread_runs if one.type == ThreadType.INTERRUPT]


def reasons(world: World, number: int = 0) -> list[str]:
    """The kinds of the reasons for which a thread is halted."""
    return [str(reason.WhichOneof("reason")) for reason in halt_reasons(world, number)]


def halt_reasons(world: World, number: int = 0) -> list[ThreadHaltReason]:
    return list(thread(world, number=number).halt_reasons)


def claimed(world: World, event_def: str, guid: str) -> bool:
    event = world.external_event(event_def, guid)
    assert event is not None
    return event.claimed


@pytest.fixture
def world() -> World:
    world = World()
    for event_def in ("paid", "shipped", "handled", "stop-me", "stop-handler"):
        put_event_def(world, event_def)
    world.put_task_def("t")
    put(world, lambda wf: wf.sleep(10), "sleeper")
    return world


class TestDefinition:
    """execution.md 4.1."""

    @staticmethod
    def add_interrupt(request: PutWfSpecRequest, event_def: str, handler: str) -> None:
        entry(request).interrupt_defs.append(
            InterruptDef(external_event_def_id=ExternalEventDefId(name=event_def), handler_spec_name=handler)
        )

    def test_unknown_event_def_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put(world, interruptible(wait_for_paid, event_def="unknown"))

    def test_unknown_handler_thread_is_invalid_argument(self, world: World) -> None:
        request = compiled(wait_for_paid)
        self.add_interrupt(request, "stop-me", "unknown")
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    @pytest.mark.parametrize("names", [("given",), ("input",), ("INPUT", "given"), ("given", "INPUT"), ("a", "b")])
    def test_handler_with_variables_other_than_input_is_invalid_argument(
        self, world: World, names: tuple[str, ...]
    ) -> None:
        def handle(wf: WorkflowThread) -> None:
            for name in names:
                wf.declare_str(name)

        with refused(Code.INVALID_ARGUMENT):
            put(world, interruptible(wait_for_paid, handle))

    @pytest.mark.parametrize("handle", [wait_for_handled, handle_input])
    def test_handler_without_variables_or_with_input_alone_is_accepted(self, world: World, handle: Body) -> None:
        spec = put(world, interruptible(wait_for_paid, handle))
        (interrupt,) = spec.thread_specs["entrypoint"].interrupt_defs
        assert interrupt.external_event_def_id.name == "stop-me"
        assert interrupt.handler_spec_name in spec.thread_specs

    def test_one_thread_may_declare_several_interrupts(self, world: World) -> None:
        put(world, interruptible(interruptible(wait_for_paid, handle_input, "shipped"), handle_input))

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(interruptible(lambda wf: wf.wait_for_event("stop-me")), id="same thread"),
            pytest.param(interruptible(lambda wf: spawn(wf, lambda wf: wf.wait_for_event("stop-me"))), id="child"),
            pytest.param(interruptible(wait_for_paid, lambda wf: wf.wait_for_event("stop-me")), id="handler"),
            pytest.param(
                lambda wf: (spawn(wf, interruptible(wait_for_paid)), wf.wait_for_event("stop-me")), id="parent"
            ),
        ],
    )
    def test_trigger_that_some_node_of_the_spec_waits_for_is_invalid_argument(self, world: World, body: Body) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put(world, body)

    def test_trigger_of_two_thread_specs_is_invalid_argument(self, world: World) -> None:
        request = compiled(lambda wf: spawn(wf, interruptible(wait_for_paid)))
        self.add_interrupt(request, "stop-me", "interrupt-stop-me")
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    def test_different_triggers_of_two_thread_specs_are_accepted(self, world: World) -> None:
        request = compiled(lambda wf: spawn(wf, interruptible(wait_for_paid)))
        self.add_interrupt(request, "shipped", "interrupt-stop-me")
        world.submit(request)


def wait_for_flag(wf: WorkflowThread) -> None:
    """The child sets the flag when the event comes."""
    flag = wf.declare_bool("flag", False)

    def child(wf: WorkflowThread) -> None:
        wf.wait_for_event("paid")
        flag.assign(True)

    spawn(wf, child)
    wf.wait_for_condition(flag.is_equal_to(True))


def wait_for_child_thread(wf: WorkflowThread) -> None:
    wf.wait_for_threads(spawn(wf))


def exit_with_child_thread(wf: WorkflowThread) -> None:
    spawn(wf)


def wait_for_child_run(wf: WorkflowThread) -> None:
    wf.wait_for_child_wf(wf.run_wf("sleeper"))


def pay(world: World) -> None:
    world.post("paid")


def sleep_on(world: World) -> None:
    world.wait(11)


HALTS_AT_ONCE = pytest.mark.parametrize(
    ("main", "position", "finish"),
    [
        pytest.param(wait_for_paid, 1, pay, id="EXTERNAL_EVENT"),
        pytest.param(lambda wf: wf.sleep(10), 1, sleep_on, id="SLEEP"),
        pytest.param(wait_for_flag, 2, pay, id="WAIT_FOR_CONDITION"),
        pytest.param(wait_for_child_thread, 2, pay, id="WAIT_FOR_THREADS"),
        pytest.param(exit_with_child_thread, 2, pay, id="EXIT"),
        pytest.param(wait_for_child_run, 2, sleep_on, id="WAIT_FOR_CHILD_WF"),
    ],
)


@HALTS_AT_ONCE
class TestNodesThatHaltAtOnce:
    """execution.md 4.2: what a halt and its end do to a waiting node."""

    def test_node_and_thread_are_halted_in_the_same_command(
        self, world: World, main: Body, position: int, finish: Callable[[World], None]
    ) -> None:
        start(world, interruptible(main))
        assert node(world, position).status == RUNNING
        assert world.post("stop-me").claimed
        assert node(world, position).status == HALTED
        assert thread(world).status == HALTED
        assert [one.status for one in handlers(world)] == [RUNNING]

    def test_node_goes_on_where_it_stood(
        self, world: World, main: Body, position: int, finish: Callable[[World], None]
    ) -> None:
        start(world, interruptible(main))
        world.post("stop-me")
        world.post("handled")
        assert node(world, position).status == RUNNING
        assert thread(world).status == RUNNING
        assert thread(world).current_node_position == position
        assert not thread(world).halt_reasons
        finish(world)
        assert wf_run(world).status == COMPLETED

    def test_what_the_node_waits_for_has_its_effect_after_the_halt(
        self, world: World, main: Body, position: int, finish: Callable[[World], None]
    ) -> None:
        start(world, interruptible(main))
        world.post("stop-me")
        finish(world)
        assert node(world, position).status == HALTED
        assert thread(world).status == HALTED
        assert wf_run(world).status == RUNNING
        world.post("handled")
        assert node(world, position).status == COMPLETED
        assert wf_run(world).status == COMPLETED


class TestSleep:
    """execution.md 7.3, last rule, for the halts of 4.2."""

    def test_timer_during_the_halt_is_recorded(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.sleep(10)))
        world.post("stop-me")
        world.wait(11)
        assert node(world, 1).sleep.matured
        assert node(world, 1).status == HALTED

    def test_halt_does_not_prolong_the_sleep(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.sleep(10)))
        world.post("stop-me")
        world.wait(5)
        world.post("handled")
        world.wait(4)
        assert wf_run(world).status == RUNNING
        world.wait(2)
        assert wf_run(world).status == COMPLETED


class TestUserTask:
    """execution.md 4.2 and 7.6: a halt cancels the UserTaskRun."""

    @pytest.fixture
    def world(self, world: World) -> World:
        world.submit(PutUserTaskDefRequest(name="approve"))
        return world

    def test_halts_at_once_and_is_cancelled(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.assign_user_task("approve", user_id="ada")))
        world.post("stop-me")
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED
        user_task_run = world.user_task_run("0-1")
        assert user_task_run is not None
        assert user_task_run.status == UserTaskRunStatus.CANCELLED

    def test_cancellation_is_raised_after_the_halt(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.assign_user_task("approve", user_id="ada")))
        world.post("stop-me")
        world.post("handled")
        assert wf_run(world).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"

    def test_cancellation_is_raised_under_the_name_that_the_node_gives(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            wf.assign_user_task("approve", user_id="ada").with_on_cancellation_exception("withdrawn")

        start(world, interruptible(main))
        world.post("stop-me")
        world.post("handled")
        assert wf_run(world).status == EXCEPTION
        assert failure(world, 1).failure_name == "withdrawn"


class TestTask:
    """execution.md 4.2: a TASK halts only when its TaskRun is terminal."""

    @pytest.mark.parametrize("in_worker", [False, True])
    def test_unfinished_task_keeps_node_and_thread_halting(self, world: World, in_worker: bool) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        if in_worker:
            claim(world)
        assert world.post("stop-me").claimed
        assert node(world, 1).status == HALTING
        assert thread(world).status == HALTING
        assert wf_run(world).status == RUNNING
        assert not handlers(world)

    def test_queued_task_can_still_be_claimed_and_reported(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        world.post("stop-me")
        world.report(claim(world))
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED
        assert [one.status for one in handlers(world)] == [RUNNING]

    def test_retries_are_part_of_running(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t", retries=1)))
        task = claim(world)
        world.post("stop-me")
        fail(world, task)
        assert node(world, 1).status == HALTING
        assert thread(world).status == HALTING
        world.report(claim(world))
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED

    def test_retry_that_waits_for_its_backoff_is_part_of_running(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t", retries=1, exponential_backoff=BACKOFF)))
        task = claim(world)
        world.post("stop-me")
        fail(world, task)
        assert thread(world).status == HALTING
        world.wait(2)
        assert thread(world).status == HALTING
        world.report(claim(world))
        assert thread(world).status == HALTED

    def test_timeout_of_the_last_attempt_ends_the_halting(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t", timeout_seconds=5)))
        claim(world)
        world.post("stop-me")
        world.wait(6)
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED
        world.post("handled")
        assert failure(world, 1).failure_name == "TIMEOUT"

    def test_success_is_stored_and_used_after_the_halt(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            kept.assign(wf.execute("t"))

        start(world, interruptible(main))
        task = claim(world)
        world.post("stop-me")
        world.report(task, output="done")
        task_run = world.task_run("0-1")
        assert task_run is not None
        assert task_run.status == TaskStatus.TASK_SUCCESS
        assert python(world, "kept") == "untouched"
        world.post("handled")
        assert node(world, 1).status == COMPLETED
        assert python(world, "kept") == "done"
        assert wf_run(world).status == COMPLETED

    def test_failure_is_stored_and_raised_after_the_halt(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        task = claim(world)
        world.post("stop-me")
        fail(world, task)
        assert node(world, 1).status == HALTED
        assert wf_run(world).status == RUNNING
        world.post("handled")
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "TASK_FAILURE"
        assert wf_run(world).status == ERROR

    def test_stored_failure_can_be_caught_after_the_halt(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.handle_any_failure(wf.execute("t"), nothing)))
        task = claim(world)
        world.post("stop-me")
        fail(world, task)
        world.post("handled")
        assert failure(world, 1).was_properly_handled
        assert wf_run(world).status == COMPLETED

    def test_no_new_task_run_is_created(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        task = claim(world)
        world.post("stop-me")
        world.report(task)
        world.post("handled")
        (task_run,) = world.of_run(kinds.TASK_RUN)
        assert len(task_run.attempts) == 1
        assert world.claim() is None


class TestDescendants:
    """execution.md 4.2: children are halted with their parent."""

    @pytest.fixture
    def family(self, world: World) -> World:
        """Threads 0, 1 and 2, each the parent of the next, and all of them wait."""

        def child(wf: WorkflowThread) -> None:
            spawn(wf, wait_for_paid, "grandchild")
            wf.wait_for_event("paid")

        def main(wf: WorkflowThread) -> None:
            spawn(wf, child)
            wf.wait_for_event("paid")

        start(world, interruptible(main))
        return world

    def test_every_descendant_is_halted_with_parent_halted(self, family: World) -> None:
        family.post("stop-me")
        for number, parent in ((1, 0), (2, 1)):
            assert thread(family, number=number).status == HALTED
            (reason,) = halt_reasons(family, number)
            assert reason.WhichOneof("reason") == "parent_halted"
            assert reason.parent_halted.parent_thread_id == parent
        assert node(family, 2, number=1).status == HALTED
        assert node(family, 1, number=2).status == HALTED

    def test_descendants_go_on_after_the_handler(self, family: World) -> None:
        family.post("stop-me")
        family.post("handled")
        for number in range(3):
            assert thread(family, number=number).status == RUNNING
            assert not halt_reasons(family, number)
        assert node(family, 2, number=1).status == RUNNING
        assert node(family, 1, number=2).status == RUNNING
        for _ in range(3):
            family.post("paid")
        assert wf_run(family).status == COMPLETED

    def test_thread_is_halting_until_its_child_is_halted(self, world: World) -> None:
        start(world, interruptible(spawn_task_and_wait))
        task = claim(world)
        world.post("stop-me")
        assert node(world, 2).status == HALTED
        assert thread(world).status == HALTING
        assert thread(world, number=1).status == HALTING
        assert node(world, 1, number=1).status == HALTING
        assert not handlers(world)
        world.report(task)
        assert thread(world).status == HALTED
        assert thread(world, number=1).status == HALTED
        assert [one.status for one in handlers(world)] == [RUNNING]

    def test_thread_is_halting_until_its_grandchild_is_halted(self, world: World) -> None:
        start(world, interruptible(lambda wf: spawn(wf, spawn_task_and_wait, "between")))
        task = claim(world)
        world.post("stop-me")
        assert [thread(world, number=number).status for number in range(3)] == [HALTING] * 3
        world.report(task)
        assert [thread(world, number=number).status for number in range(3)] == [HALTED] * 3

    def test_terminal_child_is_left_alone(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            spawn(wf, nothing)
            wf.wait_for_event("paid")

        start(world, interruptible(main))
        world.post("stop-me")
        assert thread(world, number=1).status == COMPLETED
        assert not halt_reasons(world, 1)
        assert thread(world).status == HALTED

    def test_interrupt_of_a_child_leaves_parent_and_siblings_running(self, world: World) -> None:
        start(world, spawn_two)
        world.post("stop-me", thread=1)
        assert thread(world, number=1).status == HALTED
        assert thread(world).status == RUNNING
        assert thread(world, number=2).status == RUNNING
        world.post("handled")
        world.post("paid")
        world.post("paid")
        assert wf_run(world).status == COMPLETED


class TestWhichThreads:
    """execution.md 4.3: the threads that an event interrupts."""

    @staticmethod
    def interrupted(world: World) -> list[int]:
        return sorted(one.parent_thread_id for one in handlers(world))

    def test_one_event_interrupts_every_live_thread_that_declares_it(self, world: World) -> None:
        start(world, spawn_two)
        event = world.post("stop-me")
        assert event.claimed
        assert self.interrupted(world) == [1, 2]
        assert [one.interrupt_trigger_id for one in handlers(world)] == [event.id, event.id]
        assert thread(world).status == RUNNING

    def test_targeted_event_interrupts_only_its_thread(self, world: World) -> None:
        start(world, spawn_two)
        assert world.post("stop-me", thread=2).claimed
        assert self.interrupted(world) == [2]

    @pytest.mark.parametrize("target", [0, 9])
    def test_event_for_a_thread_without_the_interrupt_stays_unclaimed(self, world: World, target: int) -> None:
        start(world, spawn_two)
        assert not world.post("stop-me", thread=target).claimed
        assert self.interrupted(world) == []

    def test_terminal_thread_is_skipped(self, world: World) -> None:
        start(world, spawn_two)
        world.post("paid", thread=1)
        assert thread(world, number=1).status == COMPLETED
        assert world.post("stop-me").claimed
        assert self.interrupted(world) == [2]

    def test_event_without_a_live_thread_stays_unclaimed_and_has_no_effect(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            spawn(wf, interruptible(nothing))
            wf.wait_for_event("paid")

        start(world, main)
        assert not world.post("stop-me").claimed
        assert thread(world).status == RUNNING
        assert len(wf_run(world).thread_runs) == 2

    def test_event_for_a_terminal_run_stays_unclaimed(self, world: World) -> None:
        start(world, interruptible(nothing))
        assert wf_run(world).status == COMPLETED
        assert not world.post("stop-me").claimed
        assert wf_run(world).status == COMPLETED

    def test_event_put_before_the_run_never_interrupts(self, world: World) -> None:
        world.post("stop-me", guid="early")
        start(world, interruptible(wait_for_paid))
        assert thread(world).status == RUNNING
        assert self.interrupted(world) == []
        assert not claimed(world, "stop-me", "early")

    def test_event_put_before_the_thread_never_interrupts(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            wf.wait_for_event("shipped")
            wf.wait_for_threads(spawn(wf, interruptible(wait_for_paid)))

        start(world, main)
        assert not world.post("stop-me", guid="early").claimed
        world.post("shipped")
        assert thread(world, number=1).status == RUNNING
        assert self.interrupted(world) == []
        assert not claimed(world, "stop-me", "early")

    def test_claim_fills_in_neither_thread_nor_position(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        event = world.post("stop-me", guid="g")
        assert event.claimed
        assert not event.HasField("thread_run_number")
        assert not event.HasField("node_run_position")
        assert world.external_event("stop-me", "g") == event

    def test_halting_thread_is_interrupted(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        world.post("stop-me")
        assert thread(world).status == HALTING
        assert world.post("stop-me").claimed
        assert reasons(world) == ["pending_interrupt", "pending_interrupt"]

    def test_thread_that_is_halted_for_an_interrupt_is_interrupted(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        assert thread(world).status == HALTED
        assert world.post("stop-me").claimed
        assert self.interrupted(world) == [0, 0]

    def test_thread_that_is_halted_with_its_parent_is_interrupted_and_waits_for_both(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            wf.wait_for_threads(spawn(wf, interruptible(wait_for_paid, wait_for_shipped)))

        start(world, interruptible(main, event_def="stop-handler"))
        world.post("stop-handler")
        assert thread(world, number=1).status == HALTED
        assert world.post("stop-me").claimed
        assert self.interrupted(world) == [0, 1]
        world.post("shipped")
        assert thread(world, number=1).status == HALTED
        assert reasons(world, 1) == ["parent_halted"]
        world.post("handled")
        assert thread(world, number=1).status == RUNNING

    def test_manually_halted_thread_is_interrupted_and_stays_halted_until_resumed(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.submit(StopWfRunRequest(wf_run_id=wf_run(world).id))
        assert world.post("stop-me").claimed
        assert [one.status for one in handlers(world)] == [RUNNING]
        world.post("handled")
        assert [one.status for one in handlers(world)] == [COMPLETED]
        assert thread(world).status == HALTED
        assert reasons(world) == ["manual_halt"]
        world.submit(ResumeWfRunRequest(wf_run_id=wf_run(world).id))
        assert thread(world).status == RUNNING


class TestHandlerStart:
    """execution.md 4.3: the ThreadRun that handles the interrupt."""

    def test_handler_is_a_child_of_the_interrupted_thread(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        event = world.post("stop-me")
        handler = thread(world, number=1)
        assert handler.type == ThreadType.INTERRUPT
        assert handler.HasField("parent_thread_id")
        assert handler.parent_thread_id == 0
        assert handler.thread_spec_name == "interrupt-stop-me"
        assert handler.interrupt_trigger_id == event.id
        assert list(thread(world).child_thread_ids) == [1]

    def test_run_shows_running_while_thread_zero_is_halted(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        assert (wf_run(world).status, thread(world).status, thread(world, number=1).status) == (
            RUNNING,
            HALTED,
            RUNNING,
        )

    @pytest.mark.parametrize("content", ["text", None])
    def test_input_is_the_content_of_the_event(self, world: World, content: Any) -> None:
        start(world, interruptible(wait_for_paid, handle_input))
        world.post("stop-me", content)
        assert python(world, "INPUT", number=1) == content

    def test_handler_without_a_variable_ignores_the_content(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me", "text")
        assert thread(world, number=1).status == RUNNING
        assert world.of_run(kinds.VARIABLE) == []

    def test_reason_is_the_running_handler(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        (reason,) = halt_reasons(world)
        assert reason.WhichOneof("reason") == "interrupted"
        assert reason.interrupted.interrupt_thread_id == 1
        assert not wf_run(world).pending_interrupts

    def test_interrupt_is_pending_until_the_thread_is_halted(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t")))
        event = world.post("stop-me")
        (reason,) = halt_reasons(world)
        assert reason.WhichOneof("reason") == "pending_interrupt"
        assert reason.pending_interrupt.external_event_id == event.id
        (pending,) = wf_run(world).pending_interrupts
        assert pending.external_event_id == event.id
        assert pending.handler_spec_name == "interrupt-stop-me"
        assert pending.interrupted_thread_id == 0
        world.report(claim(world))
        assert not wf_run(world).pending_interrupts
        assert reasons(world) == ["interrupted"]

    def test_waiting_interrupts_all_start_in_the_order_of_arrival(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.execute("t"), handle_input))
        contents = ["first", "second", "third"]
        for content in contents:
            world.post("stop-me", content)
        assert len(wf_run(world).pending_interrupts) == 3
        world.report(claim(world))
        assert [one.status for one in handlers(world)] == [RUNNING] * 3
        assert [python(world, "INPUT", number=number) for number in (1, 2, 3)] == contents
        assert sorted(reason.interrupted.interrupt_thread_id for reason in halt_reasons(world)) == [1, 2, 3]

    def test_second_interrupt_starts_at_once_beside_the_first_handler(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        world.post("stop-me")
        assert [one.status for one in handlers(world)] == [RUNNING, RUNNING]
        assert not halt_reasons(world, 1)
        assert reasons(world) == ["interrupted", "interrupted"]

    def test_handler_beyond_the_limit_of_threads_is_an_internal_error_of_the_interrupted_node(
        self, world: World
    ) -> None:
        def main(wf: WorkflowThread) -> None:
            items = wf.declare_json_arr("items", list(range(64)))
            wf.wait_for_threads(wf.spawn_thread_for_each(items, wait_for_paid, "child"))

        start(world, interruptible(main))
        assert len(wf_run(world).thread_runs) == 65
        world.post("stop-me")
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"
        assert wf_run(world).status == ERROR


class TestHandlerCompletes:
    """execution.md 4.4, first row."""

    def test_thread_goes_on_only_after_the_last_of_its_handlers(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        world.post("stop-me")
        world.post("handled", thread=2)
        assert thread(world, number=2).status == COMPLETED
        assert thread(world).status == HALTED
        world.post("handled", thread=1)
        assert thread(world).status == RUNNING

    def test_handler_that_does_not_block_ends_the_interrupt_in_the_same_command(self, world: World) -> None:
        start(world, interruptible(wait_for_paid, nothing))
        assert world.post("stop-me").claimed
        assert thread(world).status == RUNNING
        assert thread(world, number=1).status == COMPLETED
        assert node(world, 1).status == RUNNING
        assert not node(world, 1).failures

    def test_thread_can_be_interrupted_again(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        for number in (1, 2):
            world.post("stop-me")
            assert thread(world, number=number).status == RUNNING
            world.post("handled")
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert list(thread(world).child_thread_ids) == [1, 2]

    def test_mutations_by_the_handler_are_seen_after_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            word = wf.declare_str("word", "before")

            def handle(wf: WorkflowThread) -> None:
                word.assign(wf.declare_str("INPUT"))

            wf.add_interrupt_handler("stop-me", handle)
            wf.wait_for_event("paid")
            wf.complete(word)

        start(world, body)
        world.post("stop-me", "after")
        assert python(world, "word") == "after"
        world.post("paid")
        assert thread(world).output.str == "after"

    def test_handler_that_makes_the_condition_true_wakes_the_interrupted_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            flag = wf.declare_bool("flag", False)
            wf.add_interrupt_handler("stop-me", lambda wf: flag.assign(True))
            wf.wait_for_condition(flag.is_equal_to(True))

        start(world, body)
        world.post("stop-me")
        assert wf_run(world).status == COMPLETED

    def test_handler_may_be_interrupted_itself(self, world: World) -> None:
        inner = interruptible(wait_for_handled, wait_for_shipped, "stop-handler")
        start(world, interruptible(wait_for_paid, inner))
        world.post("stop-me")
        assert world.post("stop-handler").claimed
        assert [thread(world, number=number).status for number in range(3)] == [HALTED, HALTED, RUNNING]
        assert thread(world, number=2).parent_thread_id == 1
        world.post("shipped")
        assert [thread(world, number=number).status for number in range(3)] == [HALTED, RUNNING, COMPLETED]
        world.post("handled")
        assert thread(world).status == RUNNING

    def test_handler_may_have_children(self, world: World) -> None:
        request = compiled(interruptible(wait_for_paid, lambda wf: spawn(wf, wait_for_handled)))
        handler = request.thread_specs["interrupt-stop-me"]
        del handler.variable_defs[:]  # the SDK keeps the child's number in a variable, which a handler cannot declare
        for node_of_handler in handler.nodes.values():
            for edge in node_of_handler.outgoing_edges:
                del edge.variable_mutations[:]
        world.submit(request)
        world.run("wf")
        world.post("stop-me")
        assert thread(world, number=2).status == RUNNING
        assert thread(world, number=2).parent_thread_id == 1
        world.post("handled")
        assert thread(world, number=1).status == COMPLETED
        assert thread(world).status == RUNNING

    def test_handler_may_have_failure_handlers(self, world: World) -> None:
        def handle(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("handled", timeout=1), nothing)

        start(world, interruptible(wait_for_paid, handle))
        world.post("stop-me")
        world.wait(2)
        assert failure(world, 1, number=1).was_properly_handled
        assert thread(world, number=1).status == COMPLETED
        assert thread(world).status == RUNNING


class TestHandlerFails:
    """execution.md 4.4, second row."""

    @pytest.mark.parametrize(
        ("handle", "content", "status", "name"),
        [
            pytest.param(throw_input, "payload", EXCEPTION, "bad-luck", id="EXCEPTION"),
            pytest.param(divide_input_by_zero, 1, ERROR, "VAR_SUB_ERROR", id="ERROR"),
        ],
    )
    def test_interrupted_thread_fails_at_once_with_the_same_failure(
        self, world: World, handle: Body, content: Any, status: LHStatus, name: str
    ) -> None:
        start(world, interruptible(wait_for_paid, handle))
        world.post("stop-me", content)
        assert thread(world, number=1).status == status
        assert node(world, 1).status == status
        assert thread(world).status == status
        assert wf_run(world).status == status
        assert wf_run(world).HasField("end_time")
        (appended,) = node(world, 1).failures
        assert appended.failure_name == name
        assert "interrupt" in appended.message.lower()

    def test_content_of_the_failure_is_passed_on(self, world: World) -> None:
        start(world, interruptible(wait_for_paid, throw_input))
        world.post("stop-me", "payload")
        assert failure(world, 1).content.str == "payload"

    def test_failure_handlers_of_the_interrupted_node_are_not_consulted(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("paid"), nothing)

        start(world, interruptible(main, throw_input))
        world.post("stop-me")
        assert wf_run(world).status == EXCEPTION
        assert not failure(world, 1).was_properly_handled
        assert all(one.type != ThreadType.FAILURE_HANDLER for one in wf_run(world).thread_runs)

    def test_failure_climbs_through_an_interrupted_handler(self, world: World) -> None:
        inner = interruptible(wait_for_handled, throw_input, "stop-handler")
        start(world, interruptible(wait_for_paid, inner))
        world.post("stop-me")
        world.post("stop-handler", "payload")
        for number in (0, 1):
            assert thread(world, number=number).status == EXCEPTION
            assert failure(world, 1, number=number).failure_name == "bad-luck"
            assert failure(world, 1, number=number).content.str == "payload"
        assert wf_run(world).status == EXCEPTION

    def test_parent_of_an_interrupted_child_learns_of_it_at_its_wait(self, world: World) -> None:
        start(world, lambda wf: wf.wait_for_threads(spawn(wf, interruptible(wait_for_paid, throw_input))))
        world.post("stop-me")
        assert thread(world, number=1).status == EXCEPTION
        assert failure(world, 2).failure_name == "bad-luck"
        assert wf_run(world).status == EXCEPTION

    def test_halted_children_of_the_failed_thread_never_go_on(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            spawn(wf)
            wf.wait_for_event("shipped")

        start(world, interruptible(main, throw_input))
        world.post("stop-me")
        assert thread(world, number=1).status == HALTED
        assert not world.post("paid").claimed
        assert thread(world, number=1).status == HALTED
        assert set(reasons(world, 1)) == {"parent_halted"}

    def test_failure_halts_the_other_handler_of_the_thread(self, world: World) -> None:
        def handle(wf: WorkflowThread) -> None:
            wf.wait_for_event("handled")
            wf.fail("bad-luck", "no luck today")

        start(world, interruptible(wait_for_paid, handle))
        world.post("stop-me")
        world.post("stop-me")
        world.post("handled", thread=1)
        assert thread(world).status == EXCEPTION
        assert thread(world, number=2).status == HALTED

    def test_failed_run_is_not_interrupted_again(self, world: World) -> None:
        start(world, interruptible(wait_for_paid, throw_input))
        world.post("stop-me")
        assert not world.post("stop-me").claimed
        assert len(node(world, 1).failures) == 1


class TestHaltedForGood:
    """execution.md 4.5, `halted_by_parent`."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        put_event_def(world, "paid", correlated=CorrelatedEventConfig())
        put_event_def(world, "shipped")
        put_event_def(world, "handled")

        def body(wf: WorkflowThread) -> None:
            slow = wf.spawn_thread(wait_for_key, "slow")
            fast = wf.spawn_thread(wait_for_shipped, "fast")
            wf.wait_for_threads(SpawnedThreads.from_list(slow, fast), WaitForThreadsStrategy.WAIT_FOR_ANY)
            wf.wait_for_event("handled")

        start(world, body)
        world.post("shipped")
        return world

    def test_thread_that_is_not_waited_for_any_more_never_goes_on(self, world: World) -> None:
        assert thread(world).status == RUNNING
        assert thread(world, number=1).status == HALTED
        (reason,) = halt_reasons(world, 1)
        assert reason.WhichOneof("reason") == "halted_by_parent"
        assert reason.halted_by_parent.parent_thread_run_number == 0
        assert reason.halted_by_parent.waiting_node_run_position == 3
        world.submit(ResumeWfRunRequest(wf_run_id=wf_run(world).id, thread_run_number=1))
        assert not world.post("paid").claimed
        assert thread(world, number=1).status == HALTED

    def test_marker_of_its_wait_goes(self, world: World) -> None:
        assert markers(world, "paid", "k") == 0
        assert not correlate(world, "paid", "k").external_events


class TestHaltedWaits:
    """execution.md 2.3, 2.5 and 2.6 for EXTERNAL_EVENT nodes of halted threads."""

    def test_event_during_the_halt_stays_unclaimed_and_is_taken_after_it(self, world: World) -> None:
        start(world, interruptible(wait_for_paid))
        world.post("stop-me")
        assert not world.post("paid", guid="g").claimed
        assert node(world, 1).status == HALTED
        world.post("handled")
        assert claimed(world, "paid", "g")
        assert wf_run(world).status == COMPLETED

    def test_event_while_halting_stays_unclaimed_and_is_taken_after_the_halt(self, world: World) -> None:
        start(world, interruptible(spawn_task_and_wait))
        task = claim(world)
        world.post("stop-me")
        assert thread(world).status == HALTING
        assert not world.post("paid", guid="g").claimed
        world.report(task)
        assert not claimed(world, "paid", "g")
        world.post("handled")
        assert claimed(world, "paid", "g")
        assert wf_run(world).status == COMPLETED

    def test_earliest_event_of_the_halt_is_taken(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            kept.assign(wf.wait_for_event("paid"))

        start(world, interruptible(main))
        world.post("stop-me")
        world.post("paid", "first", guid="z")
        world.wait(1)
        world.post("paid", "second", guid="a")
        world.post("handled")
        assert python(world, "kept") == "first"
        assert not claimed(world, "paid", "a")

    def test_event_goes_to_a_running_thread_rather_than_to_a_halted_one(self, world: World) -> None:
        start(world, spawn_two)
        world.post("stop-me", thread=1)
        event = world.post("paid")
        assert (event.claimed, event.thread_run_number) == (True, 2)
        assert node(world, 1, number=1).status == HALTED

    def test_timeout_during_the_halt_is_kept_and_raised_after_it(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.wait_for_event("paid", timeout=5)))
        world.post("stop-me")
        world.wait(6)
        assert node(world, 1).external_event.timed_out
        assert node(world, 1).status == HALTED
        assert not node(world, 1).failures
        assert wf_run(world).status == RUNNING
        world.post("handled")
        assert wf_run(world).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert "arrive in time" in failure(world, 1).message

    @pytest.mark.parametrize("seconds", [3, 7])
    def test_timeout_during_the_halt_wins_over_an_event_of_the_halt(self, world: World, seconds: int) -> None:
        start(world, interruptible(lambda wf: wf.wait_for_event("paid", timeout=5)))
        world.post("stop-me")
        world.wait(seconds)
        world.post("paid", guid="g")
        world.wait(10 - seconds)
        world.post("handled")
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert wf_run(world).status == ERROR
        assert not claimed(world, "paid", "g")

    def test_timeout_goes_on_over_a_halt(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.wait_for_event("paid", timeout=5)))
        world.post("stop-me")
        world.wait(3)
        world.post("handled")
        assert not node(world, 1).external_event.timed_out
        world.wait(1)
        assert wf_run(world).status == RUNNING
        world.wait(2)
        assert failure(world, 1).failure_name == "TIMEOUT"


class TestHaltedMarkers:
    """execution.md 3.2 and 3.3 for waits with a correlation key in halted threads."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put_event_def(world, "paid", correlated=CorrelatedEventConfig())
        return world

    def test_halted_wait_keeps_its_marker(self, world: World) -> None:
        start(world, interruptible(wait_for_key))
        world.post("stop-me")
        assert markers(world, "paid", "k") == 1
        world.post("handled")
        assert markers(world, "paid", "k") == 1
        correlate(world, "paid", "k")
        assert wf_run(world).status == COMPLETED
        assert markers(world, "paid", "k") == 0

    def test_correlated_event_during_the_halt_is_taken_after_it(self, world: World) -> None:
        start(world, interruptible(wait_for_key))
        world.post("stop-me")
        (event_id,) = correlate(world, "paid", "k").external_events
        assert node(world, 1).status == HALTED
        assert not claimed(world, "paid", event_id.guid)
        world.post("handled")
        assert claimed(world, "paid", event_id.guid)
        assert wf_run(world).status == COMPLETED

    def test_event_that_is_deleted_after_its_first_correlation_is_not_lost_on_a_halted_wait(self, world: World) -> None:
        put_event_def(world, "paid", correlated=CorrelatedEventConfig(delete_after_first_correlation=True))
        start(world, interruptible(wait_for_key))
        world.post("stop-me")
        correlate(world, "paid", "k")
        assert stored_correlated(world, "paid", "k") is None
        world.post("handled")
        assert wf_run(world).status == COMPLETED

    def test_marker_goes_when_the_handler_fails(self, world: World) -> None:
        start(world, interruptible(wait_for_key, throw_input))
        world.post("stop-me")
        assert wf_run(world).status == EXCEPTION
        assert markers(world, "paid", "k") == 0
        assert not correlate(world, "paid", "k").external_events

    def test_marker_is_gone_after_a_timeout_of_the_halt(self, world: World) -> None:
        start(world, interruptible(lambda wf: wf.wait_for_event("paid", correlation_id="k", timeout=5)))
        world.post("stop-me")
        world.wait(6)
        world.post("handled")
        assert wf_run(world).status == ERROR
        assert markers(world, "paid", "k") == 0


class TestTraceD:
    """execution.md 12 D; the START_THREAD node before the task moves every position of thread 0 by one."""

    def test_interrupt_during_a_task(self, world: World) -> None:
        def main(wf: WorkflowThread) -> None:
            spawn(wf)
            kept = wf.declare_str("kept", "untouched")
            kept.assign(wf.execute("t"))
            wf.wait_for_event("shipped")

        start(world, interruptible(main, handle_input))
        task = claim(world)

        event = world.post("stop-me", "content")
        assert event.claimed
        assert not event.HasField("thread_run_number")
        assert not event.HasField("node_run_position")
        assert (thread(world).status, node(world, 2).status) == (HALTING, HALTING)
        assert thread(world, number=1).status == HALTED
        assert reasons(world, 1) == ["parent_halted"]
        assert len(wf_run(world).pending_interrupts) == 1
        assert wf_run(world).status == RUNNING

        world.report(task, output="done")
        task_run = world.task_run("0-2")
        assert task_run is not None
        assert task_run.status == TaskStatus.TASK_SUCCESS
        assert (thread(world).status, node(world, 2).status) == (HALTED, HALTED)
        handler = thread(world, number=2)
        assert (handler.type, handler.parent_thread_id, handler.status) == (ThreadType.INTERRUPT, 0, RUNNING)
        assert python(world, "INPUT", number=2) == "content"
        assert not wf_run(world).pending_interrupts
        (reason,) = halt_reasons(world)
        assert reason.interrupted.interrupt_thread_id == 2
        assert not reached(world, 3)

        world.post("handled")
        assert thread(world, number=2).status == COMPLETED
        assert (thread(world).status, node(world, 2).status, node(world, 3).status) == (RUNNING, COMPLETED, RUNNING)
        assert python(world, "kept") == "done"
        assert thread(world, number=1).status == RUNNING
