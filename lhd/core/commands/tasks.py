"""What workers do to TaskRuns: take one, lose one before they were told, report one (api.md 8)."""

from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    LHErrorType,
    LHTaskError,
    PutCheckpointRequest,
    PutCheckpointResponse,
    ReportTaskRun,
    ScheduledTask,
    TaskRunId,
    TaskStatus,
    VariableValue,
)

from lhd.core import kinds, task_runs
from lhd.core.commands.events import advance_run
from lhd.core.ids import task_run_key
from lhd.core.records import Transaction
from lhd.core.values import EvaluationError, require_sound
from lhd.errors import invalid_argument


@dataclass(frozen=True, slots=True)
class ClaimTask:
    """A worker that waits is to get this TaskRun."""

    task_run_id: TaskRunId
    worker: str
    version: str | None


@dataclass(frozen=True, slots=True)
class ReleaseTask:
    """The worker that claimed this attempt was gone before it could be told."""

    task_run_id: TaskRunId
    attempt_number: int


def claim_task(tx: Transaction, tenant: str, request: ClaimTask) -> ScheduledTask | None:
    """See :func:`lhd.core.task_runs.claim`."""
    return task_runs.claim(tx, tenant, request.task_run_id, request.worker, request.version)


def release_task(tx: Transaction, tenant: str, request: ReleaseTask) -> None:
    """See :func:`lhd.core.task_runs.release`."""
    task_runs.release(tx, tenant, request.task_run_id, request.attempt_number)


def report_task(tx: Transaction, tenant: str, request: ReportTaskRun) -> Empty:
    """Take a worker's report; a late, double or unknown one changes nothing and is not an error."""
    if request.status not in task_runs.REPORTABLE:
        return Empty()
    size = request.ByteSize()
    if size > tx.settings.record_bytes_max:
        request = _too_large(request, size, tx.settings.record_bytes_max)
    task_run = task_runs.running_attempt(tx, tenant, request.task_run_id, request.attempt_number)
    if task_run is not None:
        task_runs.finish_attempt(tx, tenant, task_run, request)
        advance_run(tx, tenant, request.task_run_id.wf_run_id)
    return Empty()


def put_checkpoint(tx: Transaction, tenant: str, request: PutCheckpointRequest) -> PutCheckpointResponse:
    """Keep what a worker has done so far; one whose attempt is not the running one is told to stop."""
    key = task_run_key(tenant, request.task_run_id)
    found = tx.get(kinds.TASK_RUN, key)
    if found is None:
        raise invalid_argument(f"there is no TaskRun {key[2]} of WfRun {key[1]}")
    if request.task_attempt != len(found.attempts) - 1 or found.status != TaskStatus.TASK_RUNNING:
        return PutCheckpointResponse(flow_control_continue_type=PutCheckpointResponse.STOP_TASK)
    try:
        require_sound(request.value)
    except EvaluationError as error:
        raise invalid_argument(f"the value of the checkpoint: {error}") from error
    logs = request.logs if request.HasField("logs") else None
    checkpoint = task_runs.put_checkpoint(tx, tenant, tx.edit(kinds.TASK_RUN, key), request.value, logs)
    return PutCheckpointResponse(
        flow_control_continue_type=PutCheckpointResponse.CONTINUE_TASK, created_checkpoint=checkpoint
    )


def _too_large(report: ReportTaskRun, size: int, limit: int) -> ReportTaskRun:
    text = f"RESOURCE_EXHAUSTED: the report has {size} bytes, a record holds {limit}"
    return ReportTaskRun(
        task_run_id=report.task_run_id,
        time=report.time if report.HasField("time") else None,
        status=TaskStatus.TASK_OUTPUT_SERDE_ERROR,
        attempt_number=report.attempt_number,
        error=LHTaskError(type=LHErrorType.TASK_ERROR, message=text),
        log_output=VariableValue(str=text),
    )
