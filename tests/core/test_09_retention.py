"""Retention of WfRuns with several threads and after a rescue, and archival of ThreadRuns: execution.md 9.5 and 9.6.

The plain cases of 9.5 are in test_09_delete. Not tested: whether the plan of a first end still holds after a rescue and
a second end (the spec leaves it open), policies of zero seconds in the very command of the end (likewise).
"""

from typing import Any

import pytest
from littlehorse.model import (
    CancelUserTaskRunRequest,
    DeleteWfRunRequest,
    LHErrorType,
    LHStatus,
    PutUserTaskDefRequest,
    RescueThreadRunRequest,
    TaskRunId,
    TaskStatus,
    ThreadRetentionPolicy,
    ThreadType,
    UserTaskField,
    VariableType,
    WaitForThreadsRun,
    WfRunId,
    WorkflowRetentionPolicy,
)
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from lhd.core import kinds
from lhd.core.commands.tasks import ClaimTask
from lhd.core.records import Kind
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    failure,
    node,
    nothing,
    one_task,
    put,
    put_event_def,
    python,
    reached,
    resume,
    stop,
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
    kinds.USER_TASK_RUN,
    kinds.EXTERNAL_EVENT,
    kinds.INACTIVE_THREAD_RUN,
]


def report(world: World, guid: str, status: TaskStatus) -> None:
    """Let a worker take this TaskRun and report it."""
    task = world.submit(ClaimTask(TaskRunId(wf_run_id=WfRunId(id="r"), task_guid=guid), "w", None))
    assert task is not None, f"{guid} is not queued"
    world.report(task, status)


def fail(world: World, guid: str) -> None:
    report(world, guid, TaskStatus.TASK_FAILED)


def succeed(world: World, guid: str) -> None:
    report(world, guid, TaskStatus.TASK_SUCCESS)


def rescue(world: World, number: int = 0) -> None:
    world.submit(RescueThreadRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))


def waits_for_go(wf: WorkflowThread) -> None:
    wf.wait_for_event("go")


def kept_for(seconds: int, body: Body = nothing) -> Body:
    """A thread that may be archived so long after its end."""

    def kept(wf: WorkflowThread) -> None:
        wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=seconds))
        body(wf)

    return kept


def ticks(wf: WorkflowThread, count: int) -> None:
    """Each event ``tick`` advances the WfRun once."""
    for _ in range(count):
        wf.wait_for_event("tick")


def tick(world: World) -> None:
    assert world.post("tick").claimed


def numbers(world: World) -> list[int]:
    """The ThreadRuns that the WfRun still holds."""
    return [one.number for one in wf_run(world).thread_runs]


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("paid", "go", "tick", "stop-me"):
        put_event_def(world, name)
    world.put_task_def("t")
    return world


class TestWfRunRetention:
    """execution.md 9.5."""

    @staticmethod
    def start(world: World, body: Body) -> None:
        """A WfRun that is kept for a minute after its end."""
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=60)
        world.put_workflow(Workflow("wf", body).with_retention_policy(policy))
        world.run("wf")

    def test_halted_run_is_kept(self, world: World) -> None:
        self.start(world, lambda wf: wf.wait_for_event("paid"))
        stop(world)
        assert wf_run(world).status == HALTED
        world.wait(100_000)
        assert wf_run(world).status == HALTED

    def test_resumed_run_is_deleted_a_minute_after_its_end(self, world: World) -> None:
        self.start(world, lambda wf: wf.wait_for_event("paid"))
        stop(world)
        world.wait(100)
        resume(world)
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        world.wait(59)
        assert world.wf_run() is not None
        world.wait(2)
        assert world.wf_run() is None

    def test_failed_child_does_not_end_the_run(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.wait_for_event("paid")

        self.start(world, body)
        fail(world, "1-1")
        world.wait(1000)
        assert wf_run(world).status == RUNNING

    def test_rescued_run_is_not_deleted(self, world: World) -> None:
        self.start(world, one_task)
        fail(world, "0-1")
        world.wait(30)
        rescue(world)
        world.wait(100_000)
        assert wf_run(world).status == RUNNING

    def test_run_rescued_by_its_child_is_not_deleted(self, world: World) -> None:
        self.start(world, lambda wf: wait_for(wf, wf.spawn_thread(one_task, "child")))
        fail(world, "1-1")
        assert wf_run(world).status == ERROR
        rescue(world, 1)
        world.wait(100_000)
        assert wf_run(world).status == RUNNING

    def test_rescued_run_is_deleted_after_its_next_end(self, world: World) -> None:
        self.start(world, one_task)
        fail(world, "0-1")
        rescue(world)
        world.wait(1000)
        succeed(world, "0-2")
        world.wait(59)
        assert wf_run(world).status == COMPLETED
        world.wait(2)
        assert world.wf_run() is None

    def test_run_that_failed_again_is_deleted_after_that(self, world: World) -> None:
        self.start(world, one_task)
        fail(world, "0-1")
        rescue(world)
        world.wait(1000)
        fail(world, "0-2")
        world.wait(59)
        assert wf_run(world).status == ERROR
        world.wait(2)
        assert world.wf_run() is None

    def test_child_that_cannot_stop_yet_does_not_hold_the_deletion(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.execute("t", timeout_seconds=1000)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            wf.wait_for_event("paid", timeout=5)

        self.start(world, body)
        task = world.claim()
        assert task is not None
        world.wait(5.5)
        assert wf_run(world).status == ERROR
        assert thread(world, number=1).status == HALTING
        world.wait(61)
        assert world.wf_run() is None
        world.report(task)
        assert [one for kind in OF_A_RUN for one in world.of_run(kind)] == []

    def test_run_stopped_by_the_loop_guard_is_deleted(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            n = wf.declare_int("n", 0)
            wf.do_while(n.is_equal_to(0), nothing)

        self.start(world, body)
        assert wf_run(world).status == ERROR
        world.wait(61)
        assert world.wf_run() is None

    def test_everything_of_the_run_is_deleted(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            n = wf.declare_int("n", 0)
            wf.throw_event("thrown", "x", return_type=str)
            wf.spawn_thread(kept_for(1), "short")
            wf.wait_for_event("tick")
            n.assign(1)
            wf.spawn_thread(one_task, "tasks")
            wf.assign_user_task("form", user_id="me")
            wf.wait_for_event("paid")

        world.submit(PutUserTaskDefRequest(name="form", fields=[UserTaskField(name="answer", type=VariableType.STR)]))
        self.start(world, body)
        world.wait(1)
        tick(world)
        assert all(world.of_run(kind) for kind in OF_A_RUN)
        assert world.workflow_event("thrown") is not None
        world.submit(CancelUserTaskRunRequest(user_task_run_id=world.of_run(kinds.USER_TASK_RUN)[0].id))
        assert wf_run(world).status == ERROR
        world.wait(61)
        assert [one for kind in OF_A_RUN for one in world.of_run(kind)] == []
        assert world.workflow_event("thrown") is None
        assert not world.queue

    def test_child_wf_run_is_kept_when_its_parent_goes(self, world: World) -> None:
        put(world, waits_for_go, "child")
        self.start(world, lambda wf: wf.run_wf("child"))
        (child,) = world.child_wf_runs()
        world.wait(61)
        assert world.wf_run() is None
        assert wf_run(world, child).status == RUNNING

    def test_child_wf_run_has_a_retention_of_its_own(self, world: World) -> None:
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=60)
        world.put_workflow(Workflow("child", nothing).with_retention_policy(policy))
        put(world, lambda wf: wf.run_wf("child"))
        world.run("wf")
        (child,) = world.child_wf_runs()
        assert wf_run(world, child).status == COMPLETED
        world.wait(61)
        assert world.wf_run(child) is None
        assert wf_run(world).status == COMPLETED


class TestArchivalByPolicy:
    """execution.md 9.6: ThreadSpec.retention_policy."""

    @staticmethod
    def start(world: World, child: Body, after: Body = lambda wf: ticks(wf, 3)) -> None:
        """Thread 1 runs ``child``; thread 0 goes on with ``after``."""

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            after(wf)

        put(world, body)
        world.run("wf")

    def test_first_advance_at_or_after_the_time_archives(self, world: World) -> None:
        self.start(world, kept_for(60, waits_for_go))
        world.wait(100)
        world.post("go")
        assert thread(world, number=1).status == COMPLETED
        world.wait(59)
        tick(world)
        assert numbers(world) == [0, 1]
        world.wait(1)
        tick(world)
        assert numbers(world) == [0]

    def test_late_advance_archives(self, world: World) -> None:
        self.start(world, kept_for(60))
        world.wait(100_000)
        tick(world)
        assert numbers(world) == [0]

    def test_time_alone_does_not_archive(self, world: World) -> None:
        self.start(world, kept_for(60))
        world.wait(100_000)
        assert numbers(world) == [0, 1]
        assert world.inactive_thread_run(1) is None

    def test_no_policy_keeps_the_thread(self, world: World) -> None:
        self.start(world, nothing)
        world.wait(100_000)
        tick(world)
        assert numbers(world) == [0, 1]

    def test_policy_of_another_thread_does_not_count(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(kept_for(60), "short")
            wf.spawn_thread(kept_for(600), "longer")
            wf.spawn_thread(nothing, "without")
            ticks(wf, 3)

        put(world, body)
        world.run("wf")
        world.wait(60)
        tick(world)
        assert numbers(world) == [0, 2, 3]
        world.wait(600)
        tick(world)
        assert numbers(world) == [0, 3]

    @pytest.mark.parametrize(
        ("body", "ended"),
        [
            (lambda wf: wf.fail("bad-luck", "m"), EXCEPTION),
            (lambda wf: wf.wait_for_event("go", timeout=1), ERROR),
        ],
    )
    def test_failed_thread_stays(self, world: World, body: Body, ended: LHStatus) -> None:
        self.start(world, kept_for(5, body))
        world.wait(100)
        tick(world)
        assert thread(world, number=1).status == ended
        assert world.inactive_thread_run(1) is None

    def test_halted_thread_stays(self, world: World) -> None:
        self.start(world, kept_for(5, waits_for_go))
        stop(world, 1)
        world.wait(100)
        tick(world)
        assert thread(world, number=1).status == HALTED

    def test_running_thread_stays(self, world: World) -> None:
        self.start(world, kept_for(5, waits_for_go))
        world.wait(100)
        tick(world)
        assert thread(world, number=1).status == RUNNING

    def test_entrypoint_stays(self, world: World) -> None:
        put(world, kept_for(5, lambda wf: wf.spawn_thread(lambda wf: ticks(wf, 2), "child")))
        world.run("wf")
        stop(world, 1)
        assert thread(world).status == COMPLETED
        world.wait(100)
        resume(world, 1)
        assert thread(world).status == COMPLETED
        assert world.inactive_thread_run(0) is None

    def test_handlers_and_interrupts_are_archived_too(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", kept_for(5))
            wf.handle_any_failure(wf.execute("t"), kept_for(5))
            ticks(wf, 2)

        put(world, body)
        world.run("wf")
        fail(world, "0-1")
        world.post("stop-me")
        assert [one.type for one in wf_run(world).thread_runs] == [
            ThreadType.ENTRYPOINT,
            ThreadType.FAILURE_HANDLER,
            ThreadType.INTERRUPT,
        ]
        world.wait(5)
        tick(world)
        assert numbers(world) == [0]


class TestInactiveThreadRun:
    """execution.md 9.6: what is left of an archived thread."""

    @pytest.fixture
    def world(self, world: World) -> World:
        """Thread 1 is archived; thread 0 waits for ``tick`` and then starts thread 2."""

        def child(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=5))
            wf.declare_str("kept", "value")
            wf.execute("t")
            wf.complete("output")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            ticks(wf, 2)
            wf.spawn_thread(waits_for_go, "next")
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        succeed(world, "1-1")
        return world

    @staticmethod
    def archive(world: World) -> None:
        world.wait(5)
        tick(world)
        assert numbers(world) == [0]

    def test_thread_run_is_kept_as_it_was(self, world: World) -> None:
        before = thread(world, number=1)
        self.archive(world)
        inactive = world.inactive_thread_run(1)
        assert inactive is not None
        assert (inactive.id.wf_run_id.id, inactive.id.thread_run_number) == ("r", 1)
        assert inactive.thread_run == before
        assert inactive.thread_run.status == COMPLETED
        assert inactive.thread_run.output.str == "output"
        assert inactive.WhichOneof("inactive_reason") == "archived"

    def test_thread_that_is_not_archived_has_none(self, world: World) -> None:
        assert world.inactive_thread_run(1) is None
        self.archive(world)
        assert world.inactive_thread_run(0) is None

    def test_records_of_the_thread_stay_readable(self, world: World) -> None:
        self.archive(world)
        assert [node(world, position, number=1).status for position in range(3)] == [COMPLETED] * 3
        assert python(world, "kept", number=1) == "value"
        assert world.task_run("1-1") is not None

    def test_numbers_are_not_given_out_again(self, world: World) -> None:
        self.archive(world)
        assert wf_run(world).greatest_threadrun_number == 1
        tick(world)
        assert wf_run(world).greatest_threadrun_number == 2
        assert numbers(world) == [0, 2]
        assert list(thread(world).child_thread_ids) == [1, 2]

    def test_stop_and_resume_do_nothing(self, world: World) -> None:
        self.archive(world)
        before = wf_run(world).SerializeToString(deterministic=True)
        stop(world, 1)
        resume(world, 1)
        assert wf_run(world).SerializeToString(deterministic=True) == before

    def test_goes_with_the_run(self, world: World) -> None:
        self.archive(world)
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.inactive_thread_run(1) is None


class TestArchivedThreads:
    """execution.md 9.6: the rest of the WfRun sees an archived thread as if it were present."""

    def test_wait_for_threads_finds_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            child = wf.spawn_thread(kept_for(5), "child")
            ticks(wf, 1)
            wf.wait_for_event("paid")
            wait_for(wf, child)

        put(world, body)
        world.run("wf")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0]
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        (entry,) = node(world, 4).wait_for_threads.threads
        assert entry.thread_run_number == 1
        assert entry.thread_status == COMPLETED
        assert entry.waiting_status == WaitForThreadsRun.THREAD_COMPLETED_OR_FAILURE_HANDLED

    def test_wait_for_threads_waits_for_the_others_only(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            archived = wf.spawn_thread(kept_for(5), "archived")
            live = wf.spawn_thread(waits_for_go, "live")
            ticks(wf, 1)
            wait_for(wf, archived, live)

        put(world, body)
        world.run("wf")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0, 2]
        assert node(world, 4).status == RUNNING
        world.post("go")
        assert wf_run(world).status == COMPLETED

    def test_thread_archived_while_it_is_waited_for(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            archived = wf.spawn_thread(kept_for(5, waits_for_go), "archived")
            live = wf.spawn_thread(lambda wf: ticks(wf, 2), "live")
            wait_for(wf, archived, live)

        put(world, body)
        world.run("wf")
        world.post("go")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0, 2]
        assert node(world, 3).status == RUNNING
        tick(world)
        assert wf_run(world).status == COMPLETED

    def test_wait_for_threads_of_another_thread_finds_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            archived = wf.spawn_thread(kept_for(5), "archived")

            def waits(wf: WorkflowThread) -> None:
                ticks(wf, 1)
                wf.wait_for_event("go")
                wait_for(wf, archived)

            wf.spawn_thread(waits, "waits")

        put(world, body)
        world.run("wf")
        world.wait(5)
        tick(world)
        assert world.inactive_thread_run(1) is not None
        world.post("go")
        assert wf_run(world).status == COMPLETED

    def test_exit_is_content_with_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(kept_for(5), "child")
            ticks(wf, 1)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        world.wait(5)
        tick(world)
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_exit_still_sees_the_failed_one_beside_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(kept_for(5), "archived")
            wf.spawn_thread(kept_for(5, lambda wf: wf.fail("bad-luck", "m")), "failed")
            ticks(wf, 1)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0, 2]
        world.post("paid")
        assert wf_run(world).status == ERROR
        assert failure(world, 5).failure_name == "CHILD_FAILURE"
        assert "2" in failure(world, 5).message

    def test_exit_of_a_handled_thread_with_archived_handlers(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.execute("t"), kept_for(5))
            ticks(wf, 1)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        fail(world, "0-1")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0]
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert failure(world, 1).was_properly_handled

    @pytest.mark.parametrize("seconds", [0, 1])
    def test_archived_failure_handler_lets_the_thread_go_on(self, world: World, seconds: int) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.execute("t"), kept_for(seconds))
            ticks(wf, 1)

        put(world, body)
        world.run("wf")
        fail(world, "0-1")
        assert thread(world).status == RUNNING
        tick(world)
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("seconds", [0, 1])
    def test_archived_interrupt_handler_lets_the_thread_go_on(self, world: World, seconds: int) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", kept_for(seconds, waits_for_go))
            ticks(wf, 1)

        put(world, body)
        world.run("wf")
        world.post("stop-me")
        assert thread(world).status == HALTED
        world.post("go")
        assert thread(world).status == RUNNING
        tick(world)
        assert wf_run(world).status == COMPLETED

    def test_interrupt_handler_archived_while_the_thread_is_stopped(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", kept_for(5))
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf")
        stop(world)
        world.post("stop-me")
        world.wait(5)
        world.post("stop-me")
        assert world.inactive_thread_run(1) is not None
        assert thread(world).status == HALTED
        resume(world)
        assert thread(world).status == RUNNING
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("seconds", [0, 1])
    def test_archived_handler_of_a_waited_thread(self, world: World, seconds: int) -> None:
        def body(wf: WorkflowThread) -> None:
            waiting = wait_for(wf, wf.spawn_thread(one_task, "child"))
            waiting.handle_any_failure_on_child(kept_for(seconds, waits_for_go))

        put(world, body)
        world.run("wf")
        fail(world, "1-1")
        world.post("go")
        assert wf_run(world).status == COMPLETED
        assert thread(world).handled_failed_children == [1]

    def test_child_of_an_archived_thread_goes_on_and_sees_its_variables(self, world: World) -> None:
        def middle(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=5))
            kept = wf.declare_str("kept", "untouched")

            def lower(wf: WorkflowThread) -> None:
                wf.wait_for_event("go")
                kept.assign("touched")
                wf.wait_for_condition(kept.is_equal_to("touched"))

            wf.spawn_thread(lower, "lower")
            wf.wait_for_event("paid")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(middle, "middle")
            ticks(wf, 2)

        put(world, body)
        world.run("wf")
        stop(world, 2)
        world.post("paid")
        world.wait(5)
        tick(world)
        assert numbers(world) == [0, 2]
        resume(world, 2)
        world.post("go")
        assert thread(world, number=2).status == COMPLETED
        assert python(world, "kept", number=1) == "touched"


class TestForcedArchival:
    """execution.md 9.6: 58 of 65 ThreadRuns."""

    @staticmethod
    def start(world: World, children: int, child: Body) -> None:
        """Thread 0 waits for ``paid`` beside so many children."""

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items"), child, "child")
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf", items=list(range(children)))

    def test_57_threads_are_kept(self, world: World) -> None:
        self.start(world, 56, nothing)
        assert numbers(world) == list(range(57))
        assert all(one.status == COMPLETED for one in wf_run(world).thread_runs[1:])

    def test_58_threads_are_archived_without_any_policy(self, world: World) -> None:
        self.start(world, 57, nothing)
        assert numbers(world) == [0]
        assert all(world.inactive_thread_run(number) is not None for number in range(1, 58))
        assert wf_run(world).greatest_threadrun_number == 57
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_policy_does_not_hold_the_thread(self, world: World) -> None:
        self.start(world, 57, kept_for(1000))
        assert numbers(world) == [0]

    def test_only_completed_threads_go(self, world: World) -> None:
        self.start(world, 57, waits_for_go)
        assert len(numbers(world)) == 58
        stop(world, 1)
        world.post("go", thread=7)
        assert numbers(world) == [number for number in range(58) if number != 7]
        assert thread(world, number=1).status == HALTED

    def test_no_thread_goes_below_58(self, world: World) -> None:
        self.start(world, 57, waits_for_go)
        world.post("go", thread=7)
        world.post("go", thread=9)
        assert numbers(world) == [number for number in range(58) if number != 7]
        assert thread(world, number=9).status == COMPLETED

    def test_failed_threads_stay(self, world: World) -> None:
        self.start(world, 57, lambda wf: wf.wait_for_event("go", timeout=5))
        world.post("go", thread=7)
        world.wait(6)
        assert numbers(world) == [number for number in range(58) if number != 7]
        assert thread(world, number=1).status == ERROR

    def test_all_completed_ones_go_together(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items"), nothing, "done")
            wf.wait_for_event("paid")
            wf.spawn_thread(waits_for_go, "last")
            wf.wait_for_event("tick")

        put(world, body)
        world.run("wf", items=list(range(56)))
        assert len(numbers(world)) == 57
        world.post("paid")
        assert numbers(world) == [0, 57]
        assert wf_run(world).status == RUNNING

    def test_archived_threads_make_room(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.spawn_thread(nothing, "child")
                wf.wait_for_event("tick")
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(100), round_)

        put(world, body)
        world.run("wf")
        for _ in range(100):
            tick(world)
        assert wf_run(world).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 100
        assert thread(world).child_thread_ids == list(range(1, 101))

    def test_two_groups_of_64_one_after_the_other(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            items = wf.declare_json_arr("items")
            wait_for_all(wf, wf.spawn_thread_for_each(items, nothing, "first"))
            wait_for_all(wf, wf.spawn_thread_for_each(items, nothing, "second"))

        def wait_for_all(wf: WorkflowThread, threads: SpawnedThreads) -> None:
            wf.wait_for_threads(threads)

        put(world, body)
        assert world.run("wf", items=list(range(64))).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 128

    def test_wait_for_threads_finds_those_archived_by_force(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            threads = wf.spawn_thread_for_each(wf.declare_json_arr("items"), nothing, "child")
            wf.wait_for_event("paid")
            wf.wait_for_threads(threads)

        put(world, body)
        world.run("wf", items=list(range(60)))
        assert numbers(world) == [0]
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert len(node(world, 3).wait_for_threads.threads) == 60

    def test_handler_that_must_be_archived_at_once_is_not_lost(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items"), waits_for_go, "child")
            wf.handle_error(wf.execute("t"), nothing, LHErrorType.TASK_FAILURE)
            wf.wait_for_event("paid")

        put(world, body)
        world.run("wf", items=list(range(60)))
        fail(world, "0-2")
        assert thread(world).status == RUNNING
        assert reached(world, 3)
        assert failure(world, 2).was_properly_handled
        assert all(thread(world, number=number).status == RUNNING for number in range(1, 61))
