"""TaskRuns: queueing an attempt, handing it to a worker, taking its report, retrying (execution.md 5, api.md 8)."""

from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    Checkpoint,
    CheckpointId,
    LHErrorType,
    LHTaskError,
    ReportTaskRun,
    ScheduledTask,
    TaskAttempt,
    TaskDef,
    TaskNode,
    TaskRun,
    TaskRunId,
    TaskRunSource,
    TaskStatus,
    VariableValue,
    VarNameAndVal,
)

from lhd.core import kinds, measures
from lhd.core.fitting import StoredStructDefs, fit
from lhd.core.ids import milliseconds, printed, task_run_key, timestamp
from lhd.core.kinds import QueuedTask, Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.run import Step
from lhd.core.values import EvaluationError, require_sound

_RETRIED = (TaskStatus.TASK_FAILED, TaskStatus.TASK_TIMEOUT)
REPORTABLE = frozenset(
    {
        TaskStatus.TASK_SUCCESS,
        TaskStatus.TASK_FAILED,
        TaskStatus.TASK_TIMEOUT,
        TaskStatus.TASK_OUTPUT_SERDE_ERROR,
        TaskStatus.TASK_INPUT_VAR_SUB_ERROR,
        TaskStatus.TASK_EXCEPTION,
    }
)


def schedule(
    step: Step, task: TaskNode, definition: TaskDef, inputs: list[VarNameAndVal], guid: str, source: TaskRunSource
) -> TaskRun:
    """Create a TaskRun with its first attempt on the queue."""
    task_run = TaskRun(
        id=TaskRunId(wf_run_id=step.run.id, task_guid=guid),
        task_def_id=definition.id,
        input_variables=inputs,
        source=source,
        scheduled_at=timestamp(step.tx.now_ms),
        timeout_seconds=task.timeout_seconds,
        total_attempts=1 + task.retries,
    )
    if task.HasField("exponential_backoff"):
        task_run.exponential_backoff.CopyFrom(task.exponential_backoff)
    task_run.attempts.append(TaskAttempt(masked_value=definition.return_type.return_type.masked))
    step.tx.put(kinds.TASK_RUN, task_run_key(step.run.tenant, task_run.id), task_run)
    enqueue(step.tx, step.run.tenant, task_run)
    return task_run


def enqueue(tx: Transaction, tenant: str, task_run: TaskRun) -> None:
    """Put the last attempt of a TaskRun at the tail of its queue."""
    attempt = task_run.attempts[-1]
    attempt.status = task_run.status = TaskStatus.TASK_SCHEDULED
    attempt.schedule_time.CopyFrom(timestamp(tx.now_ms))
    queued = QueuedTask(tenant, printed(task_run.id.wf_run_id), task_run.id.task_guid, task_run.task_def_id.name)
    tx.put(kinds.QUEUED_TASK, queued.key, queued)


def claim(
    tx: Transaction, tenant: str, task_run_id: TaskRunId, worker: str, version: str | None
) -> ScheduledTask | None:
    """Hand the queued attempt to a worker and start its timeout; None where there is nothing to hand out."""
    key = task_run_key(tenant, task_run_id)
    found = tx.get(kinds.TASK_RUN, key)
    if found is None or found.status != TaskStatus.TASK_SCHEDULED:
        return None
    task_run = tx.edit(kinds.TASK_RUN, key)
    attempt = task_run.attempts[-1]
    attempt.status = task_run.status = TaskStatus.TASK_RUNNING
    attempt.start_time.CopyFrom(timestamp(tx.now_ms))
    attempt.task_worker_id = worker
    if version is not None:
        attempt.task_worker_version = version
    tx.delete(kinds.QUEUED_TASK, key)
    scheduled_ms = milliseconds(attempt.schedule_time)
    measures.count_attempt(tx, tenant, task_run, "taskattempt_scheduled_to_running", scheduled_ms)
    timer = _timeout(tenant, task_run, tx.now_ms + task_run.timeout_seconds * 1000)
    tx.put(kinds.TIMER, timer.key, timer)
    return ScheduledTask(
        task_run_id=task_run.id,
        task_def_id=task_run.task_def_id,
        attempt_number=len(task_run.attempts) - 1,
        variables=task_run.input_variables,
        created_at=attempt.schedule_time,
        source=task_run.source,
        total_observed_checkpoints=task_run.total_checkpoints,
    )


def release(tx: Transaction, tenant: str, task_run_id: TaskRunId, attempt_number: int) -> None:
    """Undo a claim whose worker was gone before it could be told: the attempt goes back to the queue."""
    task_run = running_attempt(tx, tenant, task_run_id, attempt_number)
    if task_run is None:
        return
    tx.delete(kinds.TIMER, _timeout(tenant, task_run, 0).key)
    attempt = task_run.attempts[-1]
    for field in ("start_time", "task_worker_id", "task_worker_version"):
        attempt.ClearField(field)
    enqueue(tx, tenant, task_run)


def running_attempt(tx: Transaction, tenant: str, task_run_id: TaskRunId, attempt_number: int) -> TaskRun | None:
    """The TaskRun, to change, if this attempt of it is with a worker; None for late, double and unknown ones."""
    key = task_run_key(tenant, task_run_id)
    found = tx.get(kinds.TASK_RUN, key)
    if found is None or not 0 <= attempt_number < len(found.attempts):
        return None
    if found.attempts[attempt_number].status != TaskStatus.TASK_RUNNING:
        return None
    return tx.edit(kinds.TASK_RUN, key)


def finish_attempt(tx: Transaction, tenant: str, task_run: TaskRun, report: ReportTaskRun) -> None:
    """Store what a worker reported of the running attempt, or that its time is over, and retry where there is one."""
    attempt = task_run.attempts[report.attempt_number]
    tx.delete(kinds.TIMER, _timeout(tenant, task_run, 0).key)
    attempt.status = task_run.status = report.status
    attempt.end_time.CopyFrom(_end_time(tx, report))
    if report.HasField("log_output") and _is_sound(report.log_output):
        attempt.log_output.CopyFrom(report.log_output)
    _store_result(tx, tenant, task_run, report)
    if task_run.ByteSize() > tx.settings.record_bytes_max:
        _drop_result(task_run, attempt)
    is_retried = task_run.status in _RETRIED and len(task_run.attempts) < task_run.total_attempts
    measures.count_report(tx, tenant, task_run, is_final=not is_retried)
    if is_retried:
        _retry(tx, tenant, task_run)


def _end_time(tx: Transaction, report: ReportTaskRun) -> Timestamp:
    """When the attempt ended by the worker's clock, if that says something that can be."""
    reported_ms = milliseconds(report.time)
    return report.time if 0 < reported_ms == kinds.storable_ms(reported_ms) else timestamp(tx.now_ms)


def _store_result(tx: Transaction, tenant: str, task_run: TaskRun, report: ReportTaskRun) -> None:
    attempt = task_run.attempts[report.attempt_number]
    match report.WhichOneof("result"):
        case "error":
            attempt.error.CopyFrom(report.error)
        case "exception":
            attempt.exception.CopyFrom(report.exception)
            if not _is_sound(report.exception.content):
                attempt.exception.ClearField("content")
    if report.status != TaskStatus.TASK_SUCCESS:
        return
    try:
        attempt.output.CopyFrom(_accept_output(tx, tenant, task_run, report.output))
    except EvaluationError as error:
        attempt.status = task_run.status = TaskStatus.TASK_OUTPUT_SERDE_ERROR
        attempt.error.CopyFrom(LHTaskError(type=LHErrorType.VAR_SUB_ERROR, message=f"the output: {error}"))


def _drop_result(task_run: TaskRun, attempt: TaskAttempt) -> None:
    """The report fits a record, but not together with what the TaskRun holds already (execution.md 5.6)."""
    for field in ("output", "exception", "log_output"):
        attempt.ClearField(field)
    attempt.status = task_run.status = TaskStatus.TASK_OUTPUT_SERDE_ERROR
    text = "RESOURCE_EXHAUSTED: the TaskRun would be larger than a record may be"
    attempt.error.CopyFrom(LHTaskError(type=LHErrorType.TASK_ERROR, message=text))


def _is_sound(value: VariableValue) -> bool:
    try:
        require_sound(value)
    except EvaluationError:
        return False
    return True


def _accept_output(tx: Transaction, tenant: str, task_run: TaskRun, output: VariableValue) -> VariableValue:
    require_sound(output)
    definition = tx.get(kinds.TASK_DEF, (tenant, task_run.task_def_id.name))
    if definition is None or not definition.return_type.HasField("return_type"):
        return output
    return fit(output, definition.return_type.return_type, StoredStructDefs(tx, tenant))


def _retry(tx: Transaction, tenant: str, task_run: TaskRun) -> None:
    masked = task_run.attempts[-1].masked_value
    task_run.attempts.append(TaskAttempt(masked_value=masked))
    if not task_run.HasField("exponential_backoff"):
        enqueue(tx, tenant, task_run)
        return
    task_run.attempts[-1].status = task_run.status = TaskStatus.TASK_PENDING
    policy, retry = task_run.exponential_backoff, len(task_run.attempts) - 1
    try:
        delay_ms = min(policy.base_interval_ms * policy.multiplier ** (retry - 1), policy.max_delay_ms)
    except OverflowError:
        delay_ms = policy.max_delay_ms
    target = (task_run.id.task_guid, retry)
    timer = Timer(tx.now_ms + int(delay_ms), tenant, printed(task_run.id.wf_run_id), TimerAction.TASK_RETRY, target)
    tx.put(kinds.TIMER, timer.key, timer)


def retry_due(tx: Transaction, tenant: str, task_run_id: TaskRunId, attempt_number: int) -> None:
    """The delay before a retry has passed: the pending attempt goes to its queue."""
    key = task_run_key(tenant, task_run_id)
    found = tx.get(kinds.TASK_RUN, key)
    pending = found is not None and found.status == TaskStatus.TASK_PENDING
    if found is not None and pending and len(found.attempts) - 1 == attempt_number:
        task_run = tx.edit(kinds.TASK_RUN, key)
        ended_ms = milliseconds(task_run.attempts[-2].end_time)
        measures.count_attempt(tx, tenant, task_run, "taskattempt_pending_to_scheduled", ended_ms)
        enqueue(tx, tenant, task_run)


def _timeout(tenant: str, task_run: TaskRun, due_ms: int) -> Timer:
    """The timeout of the running attempt: a checkpoint makes it another one, so that an old one changes nothing."""
    run, guid = printed(task_run.id.wf_run_id), task_run.id.task_guid
    target = (guid, len(task_run.attempts) - 1, task_run.total_checkpoints)
    return Timer(due_ms, tenant, run, TimerAction.TASK_TIMEOUT, target)


def put_checkpoint(
    tx: Transaction, tenant: str, task_run: TaskRun, value: VariableValue, logs: str | None
) -> Checkpoint:
    """Store a checkpoint of the running attempt, whose timeout begins anew."""
    checkpoint = Checkpoint(
        id=CheckpointId(task_run=task_run.id, checkpoint_number=task_run.total_checkpoints),
        value=value,
        logs=logs,
        created_at=timestamp(tx.now_ms),
    )
    key = (*task_run_key(tenant, task_run.id), task_run.total_checkpoints)
    tx.put(kinds.CHECKPOINT, key, checkpoint)
    tx.delete(kinds.TIMER, _timeout(tenant, task_run, 0).key)
    task_run.total_checkpoints += 1
    timer = _timeout(tenant, task_run, tx.now_ms + task_run.timeout_seconds * 1000)
    tx.put(kinds.TIMER, timer.key, timer)
    return checkpoint


def deadline_report(task_run_id: TaskRunId, attempt_number: int, due_ms: int) -> ReportTaskRun:
    """The report that a timeout stands for."""
    return ReportTaskRun(
        task_run_id=task_run_id,
        attempt_number=attempt_number,
        time=timestamp(due_ms),
        status=TaskStatus.TASK_TIMEOUT,
    )
