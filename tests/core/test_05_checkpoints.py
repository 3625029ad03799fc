"""Checkpoints of TaskRuns: execution.md 5.7 and api.md 8.6 and 8.7.

Not tested: GetCheckpoint (a read of the API), checkpoints over the size limit (refused with the request, api.md 1).
"""

from copy import deepcopy
from typing import Any

import pytest
from littlehorse.model import (
    Checkpoint,
    DeleteWfRunRequest,
    ExponentialBackoffRetryPolicy,
    LHStatus,
    LHTaskException,
    PutCheckpointRequest,
    PutCheckpointResponse,
    ScheduledTask,
    StopWfRunRequest,
    TaskRunId,
    TaskStatus,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import WorkflowThread

from lhd.core.commands.tasks import ClaimTask
from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import Timer, TimerAction
from lhd.errors import Code
from tests.core.shapes import COMPLETED, ERROR, RUNNING, failure, node, one_task, put, refused, task_run, thread, wf_run
from tests.core.world import World

CONTINUE_TASK, STOP_TASK = PutCheckpointResponse.CONTINUE_TASK, PutCheckpointResponse.STOP_TASK


def checkpoint(
    world: World,
    value: Any = "v",
    *,
    guid: str = "0-1",
    wf_run_id: str = "r",
    attempt: int = 0,
    logs: str | None = None,
) -> PutCheckpointResponse:
    """What a worker gets for a checkpoint of its attempt."""
    reply: PutCheckpointResponse = world.submit(
        PutCheckpointRequest(
            task_run_id=TaskRunId(wf_run_id=WfRunId(id=wf_run_id), task_guid=guid),
            task_attempt=attempt,
            value=to_variable_value(value),
            logs=logs,
        )
    )
    return reply


def claim(world: World, guid: str = "0-1") -> ScheduledTask:
    task: ScheduledTask | None = world.submit(
        ClaimTask(TaskRunId(wf_run_id=WfRunId(id="r"), task_guid=guid), "w", None)
    )
    assert task is not None, f"{guid} is not queued"
    return task


def stored(world: World, number: int, guid: str = "0-1") -> Checkpoint:
    found = world.checkpoint(guid, number)
    assert found is not None, f"no checkpoint {number}"
    return found


def timeout(world: World) -> Timer:
    """The latest timer of the attempt."""
    return max(
        (one for one in world.timers.values() if one.action == TimerAction.TASK_TIMEOUT), key=lambda timer: timer.due_ms
    )


@pytest.fixture
def world() -> World:
    """A run with one task of ten seconds and two attempts."""
    world = World()
    world.put_task_def("t")
    put(world, lambda wf: wf.execute("t", timeout_seconds=10, retries=1))
    world.run("wf")
    return world


class TestReply:
    """The table of execution.md 5.7."""

    @pytest.mark.parametrize(("guid", "wf_run_id"), [("0-2", "r"), ("0-1", "unknown"), ("", "r")])
    def test_unknown_task_run_is_invalid_argument(self, world: World, guid: str, wf_run_id: str) -> None:
        claim(world)
        with refused(Code.INVALID_ARGUMENT):
            checkpoint(world, guid=guid, wf_run_id=wf_run_id)

    def test_task_run_of_a_deleted_run_is_invalid_argument(self, world: World) -> None:
        claim(world)
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        with refused(Code.INVALID_ARGUMENT):
            checkpoint(world)

    def test_running_attempt_continues(self, world: World) -> None:
        claim(world)
        reply = checkpoint(world, "the value", logs="the logs")
        assert reply.flow_control_continue_type == CONTINUE_TASK
        created = reply.created_checkpoint
        assert created.id.task_run == task_run(world).id
        assert created.id.checkpoint_number == 0
        assert created.value == VariableValue(str="the value")
        assert created.logs == "the logs"
        assert created.created_at.ToMilliseconds() == world.now_ms
        assert stored(world, 0) == created

    def test_logs_may_be_left_out(self, world: World) -> None:
        claim(world)
        assert not checkpoint(world).created_checkpoint.HasField("logs")

    @pytest.mark.parametrize("value", [None, 5, 1.5, True, b"raw", {"a": [1]}, [1, "two"]])
    def test_value_may_be_of_any_kind(self, world: World, value: Any) -> None:
        claim(world)
        checkpoint(world, value)
        assert stored(world, 0).value.WhichOneof("value") == to_variable_value(value).WhichOneof("value")

    @staticmethod
    def assert_stopped(world: World, **fields: Any) -> None:
        """The worker is told to stop, and nothing is stored."""
        before = deepcopy(task_run(world))
        reply = checkpoint(world, **fields)
        assert reply.flow_control_continue_type == STOP_TASK
        assert not reply.HasField("created_checkpoint")
        assert task_run(world) == before
        assert world.checkpoint("0-1", before.total_checkpoints) is None

    def test_unclaimed_attempt_stops(self, world: World) -> None:
        self.assert_stopped(world)

    @pytest.mark.parametrize("attempt", [-1, 1, 7])
    def test_attempt_that_does_not_exist_stops(self, world: World, attempt: int) -> None:
        claim(world)
        self.assert_stopped(world, attempt=attempt)

    def test_earlier_attempt_stops_while_the_next_is_queued_or_runs(self, world: World) -> None:
        world.report(claim(world), TaskStatus.TASK_FAILED)
        self.assert_stopped(world, attempt=0)
        claim(world)
        self.assert_stopped(world, attempt=0)
        assert checkpoint(world, attempt=1).flow_control_continue_type == CONTINUE_TASK

    def test_timed_out_attempt_stops(self, world: World) -> None:
        claim(world)
        world.wait(11)
        self.assert_stopped(world, attempt=0)

    def test_attempt_that_waits_for_its_backoff_stops(self, world: World) -> None:
        backoff = ExponentialBackoffRetryPolicy(base_interval_ms=1000, multiplier=2.0, max_delay_ms=3000)
        put(world, lambda wf: wf.execute("t", retries=1, exponential_backoff=backoff), "backoff")
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        world.run("backoff")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert task_run(world).status == TaskStatus.TASK_PENDING
        self.assert_stopped(world, attempt=1)

    @pytest.mark.parametrize(
        "status",
        [
            TaskStatus.TASK_SUCCESS,
            TaskStatus.TASK_EXCEPTION,
            TaskStatus.TASK_OUTPUT_SERDE_ERROR,
            TaskStatus.TASK_INPUT_VAR_SUB_ERROR,
        ],
    )
    def test_ended_attempt_stops(self, world: World, status: TaskStatus) -> None:
        thrown = LHTaskException(name="bad-luck", message="m") if status == TaskStatus.TASK_EXCEPTION else None
        world.report(claim(world), status, exception=thrown)
        self.assert_stopped(world)

    def test_last_attempt_stops_when_it_has_failed(self, world: World) -> None:
        for attempt in range(2):
            world.report(claim(world), TaskStatus.TASK_FAILED)
            self.assert_stopped(world, attempt=attempt)

    def test_task_of_a_stopping_thread_continues(self, world: World) -> None:
        claim(world)
        world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert thread(world).status == LHStatus.HALTING
        assert checkpoint(world).flow_control_continue_type == CONTINUE_TASK


class TestNumbers:
    """execution.md 1.1 and 5.7."""

    def test_numbers_count_from_zero(self, world: World) -> None:
        claim(world)
        for number in range(3):
            assert task_run(world).total_checkpoints == number
            assert checkpoint(world, number).created_checkpoint.id.checkpoint_number == number
        assert task_run(world).total_checkpoints == 3
        assert [stored(world, number).value.int for number in range(3)] == [0, 1, 2]

    def test_numbers_run_on_over_retries(self, world: World) -> None:
        world.report(claim_with_checkpoints(world, 2), TaskStatus.TASK_FAILED)
        claim(world)
        assert checkpoint(world, "later", attempt=1).created_checkpoint.id.checkpoint_number == 2
        assert task_run(world).total_checkpoints == 3
        assert stored(world, 0).value.int == 0
        assert stored(world, 2).value.str == "later"

    def test_first_attempt_has_observed_none(self, world: World) -> None:
        assert claim(world).total_observed_checkpoints == 0

    def test_next_attempt_is_told_how_many_there_are(self, world: World) -> None:
        world.report(claim_with_checkpoints(world, 2), TaskStatus.TASK_FAILED)
        assert claim(world).total_observed_checkpoints == 2

    def test_next_attempt_after_a_timeout_is_told_too(self, world: World) -> None:
        claim_with_checkpoints(world, 3)
        world.wait(11)
        assert claim(world).total_observed_checkpoints == 3

    def test_each_task_run_counts_for_itself(self) -> None:
        world = World()
        world.put_task_def("t")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(one_task, "child")
            wf.execute("t")

        put(world, body)
        world.run("wf")
        for guid in ("1-1", "0-2"):
            claim(world, guid)
        for number, guid in ((0, "1-1"), (1, "1-1"), (0, "0-2"), (2, "1-1"), (1, "0-2")):
            reply = checkpoint(world, f"{guid} {number}", guid=guid)
            assert reply.created_checkpoint.id.checkpoint_number == number
        assert (task_run(world, "1-1").total_checkpoints, task_run(world, "0-2").total_checkpoints) == (3, 2)
        assert stored(world, 1, "1-1").value.str == "1-1 1"
        assert stored(world, 1, "0-2").value.str == "0-2 1"

    def test_checkpoints_go_with_the_run_and_the_next_of_the_id_counts_from_zero(self, world: World) -> None:
        claim_with_checkpoints(world, 2)
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.checkpoint("0-1", 0) is None
        assert world.checkpoint("0-1", 1) is None
        world.run("wf")
        assert claim(world).total_observed_checkpoints == 0
        assert checkpoint(world).created_checkpoint.id.checkpoint_number == 0


def claim_with_checkpoints(world: World, count: int) -> ScheduledTask:
    """An attempt that has put so many checkpoints."""
    task = claim(world)
    for number in range(count):
        checkpoint(world, number)
    return task


class TestTimeout:
    """execution.md 5.7: each checkpoint restarts the timeout."""

    def test_attempt_has_the_full_time_after_a_checkpoint(self, world: World) -> None:
        claim(world)
        world.wait(9)
        checkpoint(world)
        world.wait(9.9)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        world.wait(1)
        assert task_run(world).attempts[0].status == TaskStatus.TASK_TIMEOUT

    def test_every_checkpoint_restarts_it(self, world: World) -> None:
        claim(world)
        for _ in range(10):
            world.wait(9)
            assert checkpoint(world).flow_control_continue_type == CONTINUE_TASK
        assert len(task_run(world).attempts) == 1
        assert task_run(world).status == TaskStatus.TASK_RUNNING

    def test_refused_checkpoint_does_not_restart_it(self, world: World) -> None:
        claim(world)
        world.wait(9)
        checkpoint(world, attempt=5)
        world.wait(2)
        assert task_run(world).attempts[0].status == TaskStatus.TASK_TIMEOUT

    def test_timer_armed_before_the_checkpoint_is_stale(self, world: World) -> None:
        claim(world)
        timer = timeout(world)
        world.wait(9)
        checkpoint(world)
        world.wait(2)
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        assert len(task_run(world).attempts) == 1
        assert node(world, 1).status == RUNNING

    def test_only_the_timer_of_the_newest_checkpoint_counts(self, world: World) -> None:
        claim(world)
        checkpoint(world)
        timer = timeout(world)
        world.wait(5)
        checkpoint(world)
        world.wait(6)
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        world.wait(5)
        assert task_run(world).attempts[0].status == TaskStatus.TASK_TIMEOUT

    def test_deadline_is_that_of_the_newest_checkpoint(self, world: World) -> None:
        claim(world)
        world.wait(9)
        checkpoint(world)
        deadline_ms = world.now_ms + 10_000
        world.wait(60)
        assert task_run(world).attempts[0].end_time.ToMilliseconds() == deadline_ms

    def test_timed_out_attempt_is_retried(self, world: World) -> None:
        claim_with_checkpoints(world, 1)
        world.wait(11)
        assert task_run(world).status == TaskStatus.TASK_SCHEDULED
        assert node(world, 1).status == RUNNING
        world.report(claim(world))
        assert wf_run(world).status == COMPLETED

    def test_last_attempt_fails_the_node(self, world: World) -> None:
        world.report(claim(world), TaskStatus.TASK_FAILED)
        claim(world)
        checkpoint(world, attempt=1)
        world.wait(11)
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert wf_run(world).status == ERROR

    def test_timer_of_a_reported_attempt_does_not_hit_the_next_one(self, world: World) -> None:
        task = claim(world)
        checkpoint(world)
        timer = timeout(world)
        world.report(task, TaskStatus.TASK_FAILED)
        claim(world)
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        assert len(task_run(world).attempts) == 2

    def test_next_attempt_has_its_own_full_time(self, world: World) -> None:
        task = claim_with_checkpoints(world, 2)
        world.wait(9)
        world.report(task, TaskStatus.TASK_FAILED)
        claim(world)
        world.wait(9.9)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        world.wait(1)
        assert task_run(world).status == TaskStatus.TASK_TIMEOUT


class TestReport:
    """execution.md 5.7: reports of workers are never stale."""

    @pytest.mark.parametrize("total", [None, 0, 1, 99])
    def test_report_counts_whatever_number_of_checkpoints_it_names(self, world: World, total: int | None) -> None:
        world.report(claim_with_checkpoints(world, 2), total_checkpoints=total)
        assert task_run(world).status == TaskStatus.TASK_SUCCESS
        assert wf_run(world).status == COMPLETED

    def test_failure_counts_too(self, world: World) -> None:
        world.report(claim_with_checkpoints(world, 2), TaskStatus.TASK_FAILED)
        assert [one.status for one in task_run(world).attempts] == [
            TaskStatus.TASK_FAILED,
            TaskStatus.TASK_SCHEDULED,
        ]

    def test_checkpoint_does_not_move_the_run(self, world: World) -> None:
        claim(world)
        attempts, before = deepcopy(list(task_run(world).attempts)), deepcopy((wf_run(world), node(world, 1)))
        checkpoint(world)
        assert list(task_run(world).attempts) == attempts
        assert (wf_run(world), node(world, 1)) == before

    def test_output_is_that_of_the_report(self) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_int("kept")
            kept.assign(wf.execute("counts"))

        world = World()
        world.put_task_def("counts", returns=VariableType.INT)
        put(world, body)
        world.run("wf")
        world.report(claim_with_checkpoints(world, 2), output=7)
        assert world.variable("kept") == VariableValue(int=7)
