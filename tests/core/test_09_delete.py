"""DeleteWfRun and the retention of WfRuns: execution.md 9.4 and 9.5."""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import DeleteWfRunRequest, ReportTaskRun, TaskRunId, TaskStatus, WfRunId, WorkflowRetentionPolicy
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.core import kinds
from lhd.core.commands.tasks import ClaimTask
from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import TimerAction
from lhd.core.records import Kind
from tests.core.shapes import COMPLETED, ERROR, EXCEPTION, RUNNING, event_exists, put, put_event_def, python, wf_run
from tests.core.world import TENANT, World

OF_A_RUN: list[Kind[Any]] = [
    kinds.WF_RUN,
    kinds.NODE_RUN,
    kinds.VARIABLE,
    kinds.TASK_RUN,
    kinds.EXTERNAL_EVENT,
    kinds.NODE_OUTPUT,
]


def delete(world: World, wf_run_id: str = "r") -> None:
    world.submit(DeleteWfRunRequest(id=WfRunId(id=wf_run_id)))


def one_of_each(wf: WorkflowThread) -> None:
    """An event that is claimed, and then a task."""
    count = wf.declare_int("count", 0)
    wf.wait_for_event("paid")
    count.assign(count.add(1))
    wf.execute("t", timeout_seconds=10)


def everything_of(world: World, run: str = "r") -> list[object]:
    """Every record of a WfRun that is left."""
    return [found for kind in OF_A_RUN for found in world.memory.scan(kind, (TENANT, run)).values()]


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    world.put_task_def("t")
    put(world, one_of_each)
    return world


class TestDelete:
    """execution.md 9.4."""

    def test_unknown_id_is_fine(self, world: World) -> None:
        delete(world, "unknown")

    def test_second_deletion_is_fine(self, world: World) -> None:
        world.run("wf")
        delete(world)
        delete(world)

    def test_everything_of_the_run_goes(self, world: World) -> None:
        world.run("wf")
        world.post("paid", guid="claimed")
        world.post("paid", guid="unclaimed")
        assert len(everything_of(world)) > 5
        delete(world)
        assert everything_of(world) == []
        assert world.wf_run() is None
        assert world.node_run(0) is None
        assert world.task_run("0-2") is None
        assert not event_exists(world, "paid", "claimed")
        assert not event_exists(world, "paid", "unclaimed")

    def test_finished_run_can_be_deleted(self, world: World) -> None:
        put(world, lambda wf: wf.complete(1), "short")
        assert world.run("short").status == COMPLETED
        delete(world)
        assert world.wf_run() is None

    def test_other_runs_stay(self, world: World) -> None:
        world.run("wf", "gone")
        world.run("wf", "stays")
        delete(world, "gone")
        world.post("paid", wf_run_id="stays")
        task = world.claim()
        assert task is not None
        world.report(task)
        assert wf_run(world, "stays").status == COMPLETED

    def test_events_of_an_id_without_a_run_stay(self, world: World) -> None:
        world.post("paid", guid="early")
        delete(world)
        assert event_exists(world, "paid", "early")

    def test_queued_task_of_a_deleted_run_is_not_handed_out(self, world: World) -> None:
        world.run("wf")
        world.post("paid")
        delete(world)
        assert world.claim() is None
        task_run_id = TaskRunId(wf_run_id=WfRunId(id="r"), task_guid="0-2")
        assert world.submit(ClaimTask(task_run_id, "w", None)) is None

    def test_report_for_a_deleted_run_has_no_effect(self, world: World) -> None:
        world.run("wf")
        world.post("paid")
        task = world.claim()
        assert task is not None
        delete(world)
        world.report(task)
        assert everything_of(world) == []

    def test_timers_of_a_deleted_run_do_nothing(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid", timeout=5), "waits")
        world.run("waits")
        timers = list(world.timers.values())
        assert timers
        delete(world)
        assert not world.timers
        for timer in timers:
            world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert everything_of(world) == []

    def test_id_can_be_used_again_from_the_start(self, world: World) -> None:
        world.run("wf")
        world.post("paid", guid="g")
        delete(world)
        assert world.run("wf").status == RUNNING
        assert python(world, "count") == 0
        assert world.post("paid", guid="g").claimed
        assert python(world, "count") == 1

    def test_left_over_event_does_not_reach_the_next_run_of_the_id(self, world: World) -> None:
        world.run("wf")
        world.post("paid")
        world.post("paid", guid="left-over")
        delete(world)
        world.run("wf")
        assert python(world, "count") == 0

    def test_report_for_the_former_run_does_not_hit_an_unclaimed_task_of_the_next(self, world: World) -> None:
        world.run("wf")
        world.post("paid")
        assert world.claim() is not None
        delete(world)
        world.run("wf")
        world.post("paid")
        world.submit(
            ReportTaskRun(
                task_run_id=TaskRunId(wf_run_id=WfRunId(id="r"), task_guid="0-2"), status=TaskStatus.TASK_SUCCESS
            )
        )
        assert wf_run(world).status == RUNNING

    def test_timer_of_the_former_run_does_not_hit_the_next(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid", timeout=5), "waits")
        world.run("waits")
        world.wait(3)
        delete(world)
        world.run("waits")
        world.wait(3)
        assert wf_run(world).status == RUNNING
        world.wait(3)
        assert wf_run(world).status == ERROR


class TestRetention:
    """execution.md 9.5."""

    @staticmethod
    def put_kept_for_a_minute(world: World, body: Callable[[WorkflowThread], None]) -> None:
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=60)
        world.put_workflow(Workflow("kept", body).with_retention_policy(policy))

    def test_completed_run_is_deleted_after_the_retention(self, world: World) -> None:
        self.put_kept_for_a_minute(world, lambda wf: wf.complete(1))
        assert world.run("kept").status == COMPLETED
        world.wait(59)
        assert world.wf_run() is not None
        world.wait(2)
        assert everything_of(world) == []
        assert world.wf_run() is None

    def test_failed_runs_are_deleted_after_the_retention(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            n = wf.declare_int("n")
            wf.do_if(n.is_equal_to(0), lambda wf: wf.fail("bad-luck", "m"))
            n.assign(n.divide(0))

        self.put_kept_for_a_minute(world, body)
        assert world.run("kept", "exception", n=0).status == EXCEPTION
        assert world.run("kept", "error", n=1).status == ERROR
        world.wait(61)
        assert world.wf_run("exception") is None
        assert world.wf_run("error") is None

    def test_retention_counts_from_the_end_of_the_run(self, world: World) -> None:
        self.put_kept_for_a_minute(world, lambda wf: wf.sleep(100))
        world.run("kept")
        world.wait(159)
        assert wf_run(world).status == COMPLETED
        world.wait(2)
        assert world.wf_run() is None

    def test_run_without_end_is_kept(self, world: World) -> None:
        self.put_kept_for_a_minute(world, one_of_each)
        world.run("kept")
        world.wait(100_000)
        assert wf_run(world).status == RUNNING

    def test_longest_retention_can_be_stored(self, world: World) -> None:
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=2**63 - 1)
        world.put_workflow(Workflow("kept", lambda wf: wf.complete(1)).with_retention_policy(policy))
        world.run("kept")
        assert all(timer.due_ms < 2**63 for timer in world.timers.values())

    def test_no_policy_keeps_the_run(self, world: World) -> None:
        put(world, lambda wf: wf.complete(1), "short")
        world.run("short")
        world.wait(10_000_000)
        assert wf_run(world).status == COMPLETED

    def test_events_of_the_run_are_deleted_too(self, world: World) -> None:
        self.put_kept_for_a_minute(world, lambda wf: wf.complete(1))
        world.run("kept")
        world.post("paid", guid="late")
        world.wait(61)
        assert not event_exists(world, "paid", "late")

    def test_timer_of_a_former_run_does_not_delete_the_next_of_the_id(self, world: World) -> None:
        self.put_kept_for_a_minute(world, lambda wf: wf.complete(1))
        world.run("kept")
        (timer,) = [one for one in world.timers.values() if one.action == TimerAction.WF_RUN_RETENTION]
        world.wait(30)
        delete(world)
        world.run("kept")
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert world.wf_run() is not None
        world.wait(40)
        assert world.wf_run() is not None
        world.wait(30)
        assert world.wf_run() is None

    def test_id_can_be_used_again_after_the_retention(self, world: World) -> None:
        self.put_kept_for_a_minute(world, lambda wf: wf.complete(1))
        world.run("kept")
        world.wait(61)
        assert world.run("kept").status == COMPLETED
