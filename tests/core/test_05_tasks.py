"""TASK nodes: execution.md section 5 (checkpoints excepted)."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    DeleteTaskDefRequest,
    ExponentialBackoffRetryPolicy,
    LHErrorType,
    LHStatus,
    LHTaskError,
    LHTaskException,
    PutTaskDefRequest,
    ReportTaskRun,
    TaskAttempt,
    TaskDefId,
    TaskRunId,
    TaskStatus,
    TypeDefinition,
    VariableAssignment,
    VariableDef,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import WorkflowThread

from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import TimerAction
from lhd.core.settings import Settings
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    claim,
    failure,
    node,
    one_task,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    task_run,
    thread,
    wf_run,
)
from tests.core.world import World

BACKOFF = ExponentialBackoffRetryPolicy(base_interval_ms=1000, multiplier=2.0, max_delay_ms=3000)


def last_attempt(world: World) -> TaskAttempt:
    return task_run(world).attempts[-1]


@pytest.fixture
def world() -> World:
    world = World()
    world.put_task_def("t")
    return world


class TestArrival:
    """execution.md 5.1."""

    def test_task_run_is_created_and_queued(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        run = task_run(world)
        assert node(world, 1).status == RUNNING
        assert node(world, 1).task.task_run_id == run.id
        assert run.id.wf_run_id.id == "r"
        assert run.task_def_id.name == "t"
        assert run.scheduled_at.ToMilliseconds() == world.now_ms
        assert run.source.task_node.node_run_id == node(world, 1).id
        assert run.source.wf_spec_id == wf_run(world).wf_spec_id
        assert run.total_attempts == 1
        assert not run.HasField("exponential_backoff")
        assert len(run.attempts) == 1
        assert len(world.queue) == 1

    def test_guid_is_thread_and_position(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        assert node(world, 1).task.task_run_id.task_guid == "0-1"

    def test_timeout_unset_is_sixty_seconds(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        assert task_run(world).timeout_seconds == 60

    def test_timeout_retries_and_backoff_are_kept(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=7, retries=3, exponential_backoff=BACKOFF))
        world.run("wf")
        run = task_run(world)
        assert (run.timeout_seconds, run.total_attempts) == (7, 4)
        assert run.exponential_backoff == BACKOFF

    @pytest.mark.parametrize(
        ("declared", "given", "arrives"),
        [
            (VariableType.DOUBLE, 3, VariableValue(double=3.0)),
            (VariableType.STR, 3, VariableValue(str="3")),
            (VariableType.STR, 3.0, VariableValue(str="3.0")),
            (VariableType.STR, 1e7, VariableValue(str="1.0E7")),
            (VariableType.STR, True, VariableValue(str="true")),
            (VariableType.STR, b"raw", VariableValue(str="raw")),
            (VariableType.STR, WfRunId(id="x"), VariableValue(str="x")),
            (VariableType.INT, 3, VariableValue(int=3)),
            (VariableType.STR, "3", VariableValue(str="3")),
            (VariableType.INT, None, VariableValue()),
            (VariableType.STR, None, VariableValue()),
        ],
    )
    def test_fitting_input_is_cast_to_the_declared_type(
        self, world: World, declared: VariableType, given: Any, arrives: VariableValue
    ) -> None:
        world.put_task_def("typed", declared)
        put(world, lambda wf: wf.execute("typed", given))
        world.run("wf")
        (variable,) = claim(world).variables
        assert variable.value == arrives
        assert task_run(world).input_variables[0].value == arrives

    def test_int_variable_arrives_as_double(self, world: World) -> None:
        world.put_task_def("typed", VariableType.DOUBLE)
        put(world, lambda wf: wf.execute("typed", wf.declare_int("count")))
        world.run("wf", count=4)
        assert claim(world).variables[0].value == VariableValue(double=4.0)

    def test_inputs_go_by_position_and_keep_the_names_of_the_task_def(self, world: World) -> None:
        world.put_task_def("pair", VariableType.STR, VariableType.STR)

        def body(wf: WorkflowThread) -> None:
            b, a = wf.declare_str("b", "first"), wf.declare_str("a", "second")
            wf.execute("pair", b, a)

        put(world, body)
        world.run("wf")
        assert [(one.var_name, one.value.str) for one in task_run(world).input_variables] == [
            ("a", "first"),
            ("b", "second"),
        ]

    def test_masked_follows_the_task_def_and_the_worker_gets_the_real_value(self, world: World) -> None:
        masked = TypeDefinition(primitive_type=VariableType.STR, masked=True)
        world.submit(PutTaskDefRequest(name="secret", input_vars=[VariableDef(name="a", type_def=masked)]))
        put(world, lambda wf: wf.execute("secret", "password"))
        world.run("wf")
        assert task_run(world).input_variables[0].masked
        assert claim(world).variables[0].value.str == "password"

    def test_input_that_does_not_evaluate_is_var_sub_error(self, world: World) -> None:
        world.put_task_def("typed", VariableType.STR)
        put(world, lambda wf: wf.execute("typed", wf.declare_json_obj("o").with_json_path("$.name")))
        assert world.run("wf").status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert not world.queue

    def test_input_of_another_type_behind_a_path_is_var_sub_error(self, world: World) -> None:
        world.put_task_def("typed", VariableType.INT)
        put(world, lambda wf: wf.execute("typed", wf.declare_json_obj("o").with_json_path("$.name")))
        world.run("wf", o={"name": "no number"})
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_missing_place_in_json_arrives_as_null(self, world: World) -> None:
        world.put_task_def("typed", VariableType.INT)
        put(world, lambda wf: wf.execute("typed", wf.declare_json_obj("o").with_json_path("$.name")))
        world.run("wf", o={})
        assert claim(world).variables[0].value == VariableValue()

    def test_task_def_deleted_meanwhile_is_task_error(self, world: World) -> None:
        put(world, one_task)
        world.submit(DeleteTaskDefRequest(id=TaskDefId(name="t")))
        assert world.run("wf").status == ERROR
        assert failure(world, 1).failure_name == "TASK_ERROR"


class TestDynamicTask:
    """execution.md 5.1: the TaskDef is named by a value."""

    def test_variable_names_the_task_def(self, world: World) -> None:
        world.put_task_def("typed", VariableType.DOUBLE)
        put(world, lambda wf: wf.execute(wf.declare_str("task"), 3))
        world.run("wf", task="typed")
        task = claim(world)
        assert task.task_def_id.name == "typed"
        assert task.variables[0].value == VariableValue(double=3.0)

    def test_format_string_names_the_task_def(self, world: World) -> None:
        world.put_task_def("send-mail")
        put(world, lambda wf: wf.execute(wf.format("send-{0}", wf.declare_str("how"))))
        world.run("wf", how="mail")
        assert claim(world).task_def_id.name == "send-mail"

    def test_name_is_turned_into_a_str(self, world: World) -> None:
        world.put_task_def("42")
        put(world, lambda wf: wf.execute(wf.declare_int("number")))
        world.run("wf", number=42)
        assert claim(world).task_def_id.name == "42"

    @pytest.mark.parametrize("name", ["unknown", None, ""])
    def test_name_without_task_def_is_var_sub_error(self, world: World, name: str | None) -> None:
        put(world, lambda wf: wf.execute(wf.declare_str("task")))
        assert world.run("wf", task=name).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    @pytest.mark.parametrize("arguments", [(), (1, 2)])
    def test_wrong_number_of_inputs_is_var_sub_error(self, world: World, arguments: tuple[int, ...]) -> None:
        world.put_task_def("typed", VariableType.INT)
        put(world, lambda wf: wf.execute(wf.declare_str("task"), *arguments))
        world.run("wf", task="typed")
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_input_of_the_wrong_type_is_var_sub_error(self, world: World) -> None:
        world.put_task_def("typed", VariableType.INT)
        put(world, lambda wf: wf.execute(wf.declare_str("task"), "text"))
        world.run("wf", task="typed")
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"


class TestAttempt:
    """execution.md 5.2."""

    def test_queued_attempt_is_scheduled(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        attempt = last_attempt(world)
        assert attempt.status == task_run(world).status == TaskStatus.TASK_SCHEDULED
        assert attempt.schedule_time.ToMilliseconds() == world.now_ms
        assert not attempt.HasField("start_time")

    def test_claimed_attempt_runs_at_its_worker(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        world.wait(5)
        task = world.claim("worker-1")
        assert task is not None
        assert task.attempt_number == 0
        assert task.task_run_id == task_run(world).id
        attempt = last_attempt(world)
        assert attempt.status == task_run(world).status == TaskStatus.TASK_RUNNING
        assert attempt.task_worker_id == "worker-1"
        assert attempt.start_time.ToMilliseconds() == world.now_ms

    def test_reported_attempt_has_end_time_log_and_output(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        time = Timestamp()
        time.FromMilliseconds(world.now_ms + 123)
        world.report(claim(world), output="done", log_output=VariableValue(str="log"), time=time)
        attempt = last_attempt(world)
        assert attempt.status == task_run(world).status == TaskStatus.TASK_SUCCESS
        assert attempt.end_time == time
        assert attempt.log_output.str == "log"
        assert attempt.output.str == "done"
        assert attempt.WhichOneof("result") == "output"

    def test_queue_is_first_in_first_out(self, world: World) -> None:
        put(world, one_task)
        for run in ("z", "a", "m"):
            world.run("wf", run)
        assert [claim(world).task_run_id.wf_run_id.id for _ in range(3)] == ["z", "a", "m"]

    def test_task_is_handed_out_once(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        claim(world)
        assert world.claim() is None

    def test_unclaimed_task_waits_for_ever(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=1))
        world.run("wf")
        world.wait(1_000_000)
        assert task_run(world).status == TaskStatus.TASK_SCHEDULED
        assert wf_run(world).status == RUNNING

    def test_timeout_runs_from_the_claim(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=10))
        world.run("wf")
        world.wait(100)
        claim(world)
        world.wait(9.999)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        world.wait(1)
        assert task_run(world).status == TaskStatus.TASK_TIMEOUT
        assert last_attempt(world).HasField("end_time")

    def test_timeout_runs_for_each_attempt(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=10, retries=1))
        world.run("wf")
        world.wait(5)
        first = claim(world)
        world.wait(8)
        world.report(first, TaskStatus.TASK_FAILED)
        claim(world)
        world.wait(9)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        world.wait(2)
        assert task_run(world).status == TaskStatus.TASK_TIMEOUT

    def test_timer_of_a_reported_attempt_does_not_hit_the_next_one(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=10, retries=1))
        world.run("wf")
        first = claim(world)
        (timer,) = [one for one in world.timers.values() if one.action == TimerAction.TASK_TIMEOUT]
        world.report(first, TaskStatus.TASK_FAILED)
        claim(world)
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        assert [attempt.status for attempt in task_run(world).attempts] == [
            TaskStatus.TASK_FAILED,
            TaskStatus.TASK_RUNNING,
        ]


class TestReport:
    """execution.md 5.3."""

    def test_success_completes_the_node_and_the_run_advances(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        world.report(claim(world))
        assert node(world, 1).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_output_is_the_output_of_the_node(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_int("kept")
            kept.assign(wf.execute("counts"))

        world.put_task_def("counts", returns=VariableType.INT)
        put(world, body)
        world.run("wf")
        world.report(claim(world), output=5)
        assert python(world, "kept") == 5

    def test_missing_output_counts_as_null(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_int("kept", 3)
            kept.assign(wf.execute("counts"))

        world.put_task_def("counts", returns=VariableType.INT)
        put(world, body)
        world.run("wf")
        world.report(claim(world))
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") is None

    def test_null_output_fits_every_return_type(self, world: World) -> None:
        world.put_task_def("counts", returns=VariableType.INT)
        put(world, lambda wf: wf.execute("counts"))
        world.run("wf")
        world.report(claim(world), output=None)
        assert wf_run(world).status == COMPLETED

    def test_second_report_of_an_attempt_is_ignored(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.wait_for_event("never")

        put_event_def(world, "never")
        put(world, body)
        world.run("wf")
        task = claim(world)
        world.report(task, output="first")
        world.report(task, TaskStatus.TASK_FAILED)
        assert last_attempt(world).output.str == "first"
        assert wf_run(world).status == RUNNING

    def test_report_of_an_unclaimed_attempt_is_ignored(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        world.submit(ReportTaskRun(task_run_id=task_run(world).id, attempt_number=0, status=TaskStatus.TASK_SUCCESS))
        assert task_run(world).status == TaskStatus.TASK_SCHEDULED
        assert wf_run(world).status == RUNNING

    def test_report_after_the_timeout_is_ignored(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        task = claim(world)
        world.wait(61)
        world.report(task)
        assert task_run(world).status == TaskStatus.TASK_TIMEOUT
        assert wf_run(world).status == ERROR

    def test_report_of_a_timed_out_attempt_does_not_touch_its_retry(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=1))
        world.run("wf")
        late = claim(world)
        world.wait(61)
        claim(world)
        world.report(late)
        assert task_run(world).status == TaskStatus.TASK_RUNNING
        assert task_run(world).attempts[0].status == TaskStatus.TASK_TIMEOUT
        assert wf_run(world).status == RUNNING

    @pytest.mark.parametrize("attempt", [-1, 1, 99])
    def test_report_of_an_unknown_attempt_has_no_effect(self, world: World, attempt: int) -> None:
        put(world, one_task)
        world.run("wf")
        task = claim(world)
        task.attempt_number = attempt
        world.report(task)
        assert task_run(world).status == TaskStatus.TASK_RUNNING

    def test_report_of_an_unknown_task_run_has_no_effect(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        for run, guid in (("r", "0-9"), ("unknown", "0-1")):
            task_run_id = TaskRunId(wf_run_id=WfRunId(id=run), task_guid=guid)
            world.submit(ReportTaskRun(task_run_id=task_run_id, status=TaskStatus.TASK_SUCCESS))
        assert wf_run(world).status == RUNNING

    @pytest.mark.parametrize(
        ("declared", "output"),
        [
            (VariableType.INT, 1),
            (VariableType.DOUBLE, 1),
            (VariableType.STR, 1),
            (VariableType.STR, True),
            (VariableType.JSON_OBJ, {"a": 1}),
            (VariableType.JSON_ARR, [1]),
        ],
    )
    def test_output_that_fits_is_kept_unchanged(self, world: World, declared: VariableType, output: Any) -> None:
        world.put_task_def("typed", returns=declared)
        put(world, lambda wf: wf.execute("typed"))
        world.run("wf")
        world.report(claim(world), output=output)
        assert wf_run(world).status == COMPLETED
        assert last_attempt(world).output.WhichOneof("value") == to_variable_value(output).WhichOneof("value")

    @pytest.mark.parametrize(
        ("declared", "output"),
        [
            (VariableType.INT, "1"),
            (VariableType.INT, 1.0),
            (VariableType.STR, {"a": 1}),
            (VariableType.BOOL, "true"),
            (VariableType.JSON_OBJ, [1]),
        ],
    )
    def test_output_that_does_not_fit_is_a_serde_error(self, world: World, declared: VariableType, output: Any) -> None:
        world.put_task_def("typed", returns=declared)
        put(world, lambda wf: wf.execute("typed", retries=2))
        world.run("wf")
        world.report(claim(world), output=output)
        assert last_attempt(world).status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert last_attempt(world).error.type == LHErrorType.VAR_SUB_ERROR
        assert failure(world, 1).failure_name == "VAR_MUTATION_ERROR"
        assert wf_run(world).status == ERROR

    def test_output_of_a_void_task_is_not_checked(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        world.report(claim(world), output="anything")
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("output", [VariableValue(json_obj="{broken"), VariableValue(json_arr="[1,")])
    @pytest.mark.parametrize("returns", [None, VariableType.JSON_OBJ])
    def test_unparsable_json_output_is_a_serde_error(
        self, world: World, output: VariableValue, returns: VariableType | None
    ) -> None:
        world.put_task_def("typed", returns=returns)
        put(world, lambda wf: wf.execute("typed"))
        world.run("wf")
        world.report(claim(world), output=output)
        assert last_attempt(world).status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert last_attempt(world).error.type == LHErrorType.VAR_SUB_ERROR
        assert failure(world, 1).failure_name == "VAR_MUTATION_ERROR"


class TestRetry:
    """execution.md 5.4."""

    def test_failed_attempt_is_queued_again_in_the_same_command(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=2))
        world.run("wf")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert task_run(world).status == TaskStatus.TASK_SCHEDULED
        assert node(world, 1).status == RUNNING
        assert claim(world).attempt_number == 1

    def test_attempts_end_with_the_count_of_retries(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=2))
        world.run("wf")
        for _ in range(3):
            world.report(claim(world), TaskStatus.TASK_FAILED)
        assert len(task_run(world).attempts) == task_run(world).total_attempts == 3
        assert wf_run(world).status == ERROR
        assert world.claim() is None

    def test_timed_out_attempt_is_queued_again(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=1))
        world.run("wf")
        claim(world)
        world.wait(61)
        assert claim(world).attempt_number == 1
        assert node(world, 1).status == RUNNING

    def test_success_of_a_later_attempt_completes_the_node_without_failure(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=1))
        world.run("wf")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        world.report(claim(world))
        assert node(world, 1).status == COMPLETED
        assert not node(world, 1).failures
        assert task_run(world).status == TaskStatus.TASK_SUCCESS

    @pytest.mark.parametrize(
        "status",
        [
            TaskStatus.TASK_OUTPUT_SERDE_ERROR,
            TaskStatus.TASK_INPUT_VAR_SUB_ERROR,
            TaskStatus.TASK_EXCEPTION,
        ],
    )
    def test_other_outcomes_are_not_retried(self, world: World, status: TaskStatus) -> None:
        put(world, lambda wf: wf.execute("t", retries=5))
        world.run("wf")
        world.report(claim(world), status, exception=LHTaskException(name="no", message="no"))
        assert len(task_run(world).attempts) == 1
        assert wf_run(world).status in (ERROR, EXCEPTION)

    def test_backoff_waits_longer_each_time_up_to_its_limit(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=4, exponential_backoff=BACKOFF))
        world.run("wf")
        for attempt, delay_s in enumerate((1, 2, 3, 3), 1):
            world.report(claim(world), TaskStatus.TASK_FAILED)
            assert task_run(world).status == TaskStatus.TASK_PENDING
            assert len(task_run(world).attempts) == attempt + 1
            world.wait(delay_s - 0.001)
            assert world.claim() is None
            world.wait(0.001)
            assert task_run(world).status == TaskStatus.TASK_SCHEDULED
            assert last_attempt(world).schedule_time.ToMilliseconds() == world.now_ms
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert wf_run(world).status == ERROR

    def test_backoff_is_used_after_a_timeout_too(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", timeout_seconds=10, retries=1, exponential_backoff=BACKOFF))
        world.run("wf")
        claim(world)
        world.wait(10.5)
        assert task_run(world).status == TaskStatus.TASK_PENDING
        world.wait(0.5)
        assert claim(world).attempt_number == 1

    def test_backoff_without_retries_never_retries(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", exponential_backoff=BACKOFF))
        world.run("wf")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert task_run(world).status == TaskStatus.TASK_FAILED
        assert wf_run(world).status == ERROR

    def test_node_keeps_running_while_a_retry_is_pending(self, world: World) -> None:
        put(world, lambda wf: wf.execute("t", retries=1, exponential_backoff=BACKOFF))
        world.run("wf")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert node(world, 1).status == RUNNING
        assert not node(world, 1).failures
        assert wf_run(world).status == RUNNING


class TestOutcome:
    """execution.md 5.5."""

    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (TaskStatus.TASK_FAILED, "TASK_FAILURE"),
            (TaskStatus.TASK_OUTPUT_SERDE_ERROR, "VAR_MUTATION_ERROR"),
            (TaskStatus.TASK_INPUT_VAR_SUB_ERROR, "VAR_SUB_ERROR"),
        ],
    )
    def test_technical_outcome_names_the_failure(self, world: World, status: TaskStatus, name: str) -> None:
        put(world, one_task)
        world.run("wf")
        world.report(claim(world), status)
        assert failure(world, 1).failure_name == name
        assert not failure(world, 1).HasField("content")
        assert node(world, 1).status == thread(world).status == wf_run(world).status == ERROR

    def test_timeout_is_a_timeout(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        claim(world)
        world.wait(61)
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert wf_run(world).status == ERROR

    def test_error_type_of_the_worker_is_kept_and_has_no_influence(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        error = LHTaskError(type=LHErrorType.VAR_ERROR, message="the details")
        world.report(claim(world), TaskStatus.TASK_FAILED, error=error)
        assert last_attempt(world).error == error
        assert last_attempt(world).WhichOneof("result") == "error"
        assert failure(world, 1).failure_name == "TASK_FAILURE"

    def test_exception_names_the_failure_and_gives_message_and_content(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        exception = LHTaskException(name="out-of-stock", message="none left", content=VariableValue(int=0))
        world.report(claim(world), TaskStatus.TASK_EXCEPTION, exception=exception)
        assert last_attempt(world).exception == exception
        assert failure(world, 1).failure_name == "out-of-stock"
        assert failure(world, 1).message == "none left"
        assert failure(world, 1).content == VariableValue(int=0)
        assert node(world, 1).status == thread(world).status == wf_run(world).status == EXCEPTION

    def test_exception_without_content_has_none(self, world: World) -> None:
        put(world, one_task)
        world.run("wf")
        exception = LHTaskException(name="out-of-stock", message="none left")
        world.report(claim(world), TaskStatus.TASK_EXCEPTION, exception=exception)
        assert not failure(world, 1).HasField("content")

    @pytest.mark.parametrize("name", LHErrorType.keys())
    def test_exception_with_a_technical_name_is_an_error(self, world: World, name: str) -> None:
        put(world, one_task)
        world.run("wf")
        exception = LHTaskException(name=name, message="m")
        world.report(claim(world), TaskStatus.TASK_EXCEPTION, exception=exception)
        assert failure(world, 1).failure_name == name
        assert wf_run(world).status == LHStatus.ERROR

    def test_failed_task_does_not_mutate_and_does_not_go_on(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept", "untouched")
            wf.execute("t")
            kept.assign("touched")

        put(world, body)
        world.run("wf")
        world.report(claim(world), TaskStatus.TASK_FAILED)
        assert python(world, "kept") == "untouched"
        assert not reached(world, 2)


class TestSize:
    """execution.md 5.6."""

    def test_report_over_the_limit_becomes_a_serde_error_without_retry(self) -> None:
        world = World(Settings(record_bytes_max=5000))
        world.put_task_def("t")
        put(world, lambda wf: wf.execute("t", retries=3))
        world.run("wf")
        world.report(claim(world), output="x" * 5001)
        assert len(task_run(world).attempts) == 1
        attempt = last_attempt(world)
        assert attempt.status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert attempt.error.type == LHErrorType.TASK_ERROR
        assert attempt.WhichOneof("result") == "error"
        assert attempt.log_output.str == attempt.error.message != ""
        assert failure(world, 1).failure_name == "VAR_MUTATION_ERROR"
        assert wf_run(world).status == ERROR

    def test_large_log_counts_too(self) -> None:
        world = World(Settings(record_bytes_max=5000))
        world.put_task_def("t")
        put(world, one_task)
        world.run("wf")
        world.report(claim(world), output="small", log_output=VariableValue(str="x" * 5001))
        assert last_attempt(world).status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert len(last_attempt(world).log_output.str) < 5000

    def test_report_within_the_limit_is_taken(self) -> None:
        world = World(Settings(record_bytes_max=5000))
        world.put_task_def("t")
        put(world, one_task)
        world.run("wf")
        world.report(claim(world), output="x" * 4000)
        assert wf_run(world).status == COMPLETED


def test_task_output_behind_a_path_is_read_as_json(world: World) -> None:
    def body(wf: WorkflowThread) -> None:
        kept = wf.declare_int("kept")
        wf.execute("made")
        kept.assign("placeholder")

    world.put_task_def("made", returns=VariableType.JSON_OBJ)
    path = VariableAssignment(
        node_output=VariableAssignment.NodeOutputReference(node_name="1-made-TASK"), json_path="$.count"
    )
    put_edited(
        world,
        body,
        lambda spec: spec.nodes["1-made-TASK"].outgoing_edges[0].variable_mutations[0].rhs_assignment.CopyFrom(path),
    )
    world.run("wf")
    world.report(claim(world), output={"count": 7})
    assert python(world, "kept") == 7
