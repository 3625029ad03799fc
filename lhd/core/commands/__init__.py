"""The commands of the engine: one handler for each kind of request, and the one place that runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from littlehorse.model import (
    ApplyWorkflowMigrationPlanRequest,
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    CreateBulkJobRequest,
    DeleteBulkJobRequest,
    DeleteCorrelatedEventRequest,
    DeleteExternalEventDefRequest,
    DeleteScheduledWfRunRequest,
    DeleteStructDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteUserTaskRunCommentRequest,
    DeleteWfRunRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowEventDefRequest,
    DeleteWorkflowMigrationPlanRequest,
    EditUserTaskRunCommentRequest,
    PutCheckpointRequest,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    PutStructDefRequest,
    PutTaskDefRequest,
    PutUserTaskDefRequest,
    PutUserTaskRunCommentRequest,
    PutWfSpecRequest,
    PutWorkflowEventDefRequest,
    PutWorkflowMigrationPlanRequest,
    ReportTaskRun,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    RunWfRequest,
    SaveUserTaskRunProgressRequest,
    ScheduleWfRequest,
    StopWfRunRequest,
    ValidateStructDefEvolutionRequest,
    WfRunId,
)

from lhd.core import kinds
from lhd.core.commands import (
    bulk_jobs,
    cluster,
    control,
    deliveries,
    events,
    metadata,
    migrations,
    schedules,
    struct_defs,
    tasks,
    timers,
    user_tasks,
    wf_runs,
)
from lhd.core.commands.deliveries import Deliver
from lhd.core.expiry import StartExpired
from lhd.core.ids import printed
from lhd.core.kinds import run_lane
from lhd.core.records import LaneId, Transaction
from lhd.core.run import AdvanceRun
from lhd.errors import Code, Rejection


@dataclass(frozen=True, slots=True)
class Command:
    """A request for a change, on behalf of a tenant; from gRPC, a source, a timer or an operator."""

    tenant: str
    request: Any


Handler = Callable[[Transaction, str, Any], Any]

HANDLERS: dict[type, Handler] = {
    PutTaskDefRequest: metadata.put_task_def,
    PutExternalEventDefRequest: metadata.put_external_event_def,
    PutWorkflowEventDefRequest: metadata.put_workflow_event_def,
    PutUserTaskDefRequest: metadata.put_user_task_def,
    PutStructDefRequest: struct_defs.put_struct_def,
    ValidateStructDefEvolutionRequest: struct_defs.validate_evolution,
    PutWfSpecRequest: metadata.put_wf_spec,
    DeleteTaskDefRequest: metadata.delete_task_def,
    DeleteExternalEventDefRequest: metadata.delete_external_event_def,
    DeleteWorkflowEventDefRequest: metadata.delete_workflow_event_def,
    DeleteUserTaskDefRequest: metadata.delete_user_task_def,
    DeleteWfSpecRequest: metadata.delete_wf_spec,
    DeleteStructDefRequest: struct_defs.delete_struct_def,
    RunWfRequest: wf_runs.run_wf,
    ScheduleWfRequest: schedules.schedule_wf,
    DeleteScheduledWfRunRequest: schedules.delete_scheduled_wf_run,
    PutWorkflowMigrationPlanRequest: migrations.put_plan,
    DeleteWorkflowMigrationPlanRequest: migrations.delete_plan,
    ApplyWorkflowMigrationPlanRequest: migrations.apply_plan,
    CreateBulkJobRequest: bulk_jobs.create_bulk_job,
    DeleteBulkJobRequest: bulk_jobs.delete_bulk_job,
    bulk_jobs.DeleteRuns: bulk_jobs.delete_runs,
    bulk_jobs.FinishBulkJob: bulk_jobs.finish_bulk_job,
    DeleteWfRunRequest: wf_runs.delete_wf_run,
    StopWfRunRequest: control.stop_wf_run,
    ResumeWfRunRequest: control.resume_wf_run,
    RescueThreadRunRequest: control.rescue_thread_run,
    PutExternalEventRequest: events.put_external_event,
    PutCorrelatedEventRequest: events.put_correlated_event,
    DeleteCorrelatedEventRequest: events.delete_correlated_event,
    AdvanceRun: events.advance_after,
    AssignUserTaskRunRequest: user_tasks.assign_user_task_run,
    CompleteUserTaskRunRequest: user_tasks.complete_user_task_run,
    CancelUserTaskRunRequest: user_tasks.cancel_user_task_run,
    SaveUserTaskRunProgressRequest: user_tasks.save_user_task_run_progress,
    PutUserTaskRunCommentRequest: user_tasks.put_comment,
    EditUserTaskRunCommentRequest: user_tasks.edit_comment,
    DeleteUserTaskRunCommentRequest: user_tasks.delete_comment,
    ReportTaskRun: tasks.report_task,
    PutCheckpointRequest: tasks.put_checkpoint,
    tasks.ClaimTask: tasks.claim_task,
    tasks.ReleaseTask: tasks.release_task,
    timers.TimerDue: timers.timer_due,
    cluster.OnBehalf: cluster.on_behalf,
    cluster.EnsureCluster: cluster.ensure_cluster,
    Deliver: deliveries.deliver,
    deliveries.Rehearse: deliveries.rehearse,
    deliveries.DropDeadLetter: deliveries.drop_dead_letter,
    deliveries.ResetSource: deliveries.reset_source,
    StartExpired: deliveries.start_expired,
    deliveries.EnsureEventDef: deliveries.ensure_event_def,
}


def lanes_of(command: Command) -> list[LaneId]:
    """The lanes that a command will need, as far as its request tells: a hint, so that a batch is loaded at once."""
    request, tenant = command.request, command.tenant
    hint = _LANE_HINTS.get(type(request))
    return [] if hint is None else hint(tenant, request)


def _of_run(tenant: str, wf_run_id: WfRunId) -> list[LaneId]:
    return [run_lane(tenant, printed(wf_run_id))]


def _of_new_run(tenant: str, request: RunWfRequest) -> list[LaneId]:
    """A child WfRun is left to be found out; so is one without an id, which nobody can know of."""
    if request.HasField("parent_wf_run_id") or not request.HasField("id"):
        return []
    return [run_lane(tenant, request.id)]


def _of_mapped(tenant: str, request: Deliver) -> list[LaneId]:
    lanes = []
    for delivery in request.deliveries:
        identity = (tenant, request.source, delivery.identity)
        lanes += [kind.lane_of(identity) for kind in (kinds.SEEN_DELIVERY, kinds.DEAD_LETTER)]
        if isinstance(delivery.mapped, PutExternalEventRequest):
            lanes += _of_run(tenant, delivery.mapped.wf_run_id)
        elif isinstance(delivery.mapped, PutCorrelatedEventRequest):
            lanes += _of_key(tenant, delivery.mapped)
        elif isinstance(delivery.mapped, RunWfRequest):
            lanes += _of_new_run(tenant, delivery.mapped)
    return lanes


def _of_key(tenant: str, request: PutCorrelatedEventRequest) -> list[LaneId]:
    return [kinds.CORRELATED_EVENT.lane_of((tenant, request.external_event_def_id.name, request.key))]


_LANE_HINTS: dict[type, Callable[[str, Any], list[LaneId]]] = {
    RunWfRequest: _of_new_run,
    PutExternalEventRequest: lambda tenant, request: _of_run(tenant, request.wf_run_id),
    PutCorrelatedEventRequest: _of_key,
    AdvanceRun: lambda tenant, request: _of_run(tenant, request.wf_run_id),
    ReportTaskRun: lambda tenant, request: _of_run(tenant, request.task_run_id.wf_run_id),
    tasks.ClaimTask: lambda tenant, request: _of_run(tenant, request.task_run_id.wf_run_id),
    timers.TimerDue: lambda tenant, request: [run_lane(tenant, request.timer.run)],
    Deliver: _of_mapped,
}


def decide(tx: Transaction, command: Command) -> Any:
    """Run one command in its overlay and return its reply.

    Raises Rejection for a refused request and NotLoaded where the overlay lacks records; either way, and after any
    other exception, the overlay must be dropped.
    """
    reply = HANDLERS[type(command.request)](tx, command.tenant, command.request)
    if isinstance(command.request, Message) and not isinstance(command.request, ReportTaskRun):
        _require_sizes(tx)
    return reply


def _require_sizes(tx: Transaction) -> None:
    """Refuse a request that would make a record too large. What reports and timers do is bounded where they do it."""
    limit = tx.settings.record_bytes_max
    for kind, records in tx.writes.items():
        for value in records.values():
            if isinstance(value, Message) and value.ByteSize() > limit:
                text = f"a {kind.name} would have {value.ByteSize()} bytes, a record holds {limit}"
                raise Rejection(Code.RESOURCE_EXHAUSTED, text)
