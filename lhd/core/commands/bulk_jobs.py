"""Bulk jobs: what is asked for, one slice of it, and its end; what they find is read elsewhere (api.md 12.1)."""

from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    BulkDeleteWfRun,
    BulkJob,
    BulkJobId,
    BulkJobStatus,
    CreateBulkJobRequest,
    DeleteBulkJobRequest,
    LHStatus,
    WfRunId,
)

from lhd.core import kinds
from lhd.core.commands.wf_runs import delete_run
from lhd.core.ids import milliseconds, run_key, timestamp
from lhd.core.kinds import TERMINAL
from lhd.core.records import Transaction
from lhd.errors import Code, Rejection, invalid_argument, not_found


@dataclass(frozen=True, slots=True)
class DeleteRuns:
    """These WfRuns are to go, if they still have the status for which they were found."""

    wf_run_ids: tuple[WfRunId, ...]
    status: LHStatus


@dataclass(frozen=True, slots=True)
class FinishBulkJob:
    """A job has done all that it was asked for."""

    job_id: str


def create_bulk_job(tx: Transaction, tenant: str, request: CreateBulkJobRequest) -> BulkJob:
    """Store a job, which runs in the background; one of this id that exists is returned as it is."""
    job_id = request.id if request.HasField("id") else tx.new_id()
    stored = tx.get(kinds.BULK_JOB, (tenant, job_id))
    if stored is not None:
        return stored
    if not request.HasField("bulk_delete_wf_run"):
        raise invalid_argument("a bulk job needs an operation: bulk_delete_wf_run")
    _check(request.bulk_delete_wf_run)
    job = BulkJob(
        id=BulkJobId(id=job_id),
        created_at=timestamp(tx.now_ms),
        status=BulkJobStatus.BULK_JOB_RUNNING,
        bulk_delete_wf_run=request.bulk_delete_wf_run,
        total_subprocesses=1,
    )
    job.subprocesses.add(id=0, status=BulkJobStatus.BULK_JOB_RUNNING)
    return tx.put(kinds.BULK_JOB, (tenant, job_id), job)


def _check(operation: BulkDeleteWfRun) -> None:
    if not operation.wf_spec_name.strip():
        raise invalid_argument("bulk_delete_wf_run needs a wf_spec_name")
    if milliseconds(operation.earliest_start) > milliseconds(operation.latest_start):
        raise invalid_argument("earliest_start of bulk_delete_wf_run is after its latest_start")
    allowed = TERMINAL | {LHStatus.HALTED}
    if not operation.HasField("wf_run_status") or operation.wf_run_status not in allowed:
        raise invalid_argument("wf_run_status of bulk_delete_wf_run is COMPLETED, HALTED, ERROR or EXCEPTION")


def delete_bulk_job(tx: Transaction, tenant: str, request: DeleteBulkJobRequest) -> Empty:
    """Forget a job that has ended."""
    key = (tenant, request.id.id)
    stored = tx.get(kinds.BULK_JOB, key)
    if stored is None:
        raise not_found(f"there is no bulk job '{request.id.id}'")
    if stored.status == BulkJobStatus.BULK_JOB_RUNNING:
        raise Rejection(Code.FAILED_PRECONDITION, f"the bulk job '{request.id.id}' is running")
    tx.delete(kinds.BULK_JOB, key)
    return Empty()


def delete_runs(tx: Transaction, tenant: str, request: DeleteRuns) -> None:
    """Delete one slice of WfRuns."""
    for wf_run_id in request.wf_run_ids:
        wf_run = tx.get(kinds.WF_RUN, run_key(tenant, wf_run_id))
        if wf_run is not None and wf_run.status == request.status:
            delete_run(tx, tenant, wf_run_id)


def finish_bulk_job(tx: Transaction, tenant: str, request: FinishBulkJob) -> None:
    """Note that a job has ended well."""
    if tx.get(kinds.BULK_JOB, (tenant, request.job_id)) is not None:
        job = tx.edit(kinds.BULK_JOB, (tenant, request.job_id))
        job.status = BulkJobStatus.BULK_JOB_COMPLETED
        for part in job.subprocesses:
            part.status = BulkJobStatus.BULK_JOB_COMPLETED
