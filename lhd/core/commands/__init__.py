"""The commands of the engine: one handler for each kind of request, and the one place that runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    DeleteCorrelatedEventRequest,
    DeleteExternalEventDefRequest,
    DeleteStructDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteUserTaskRunCommentRequest,
    DeleteWfRunRequest,
    DeleteWorkflowEventDefRequest,
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
    ReportTaskRun,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    RunWfRequest,
    SaveUserTaskRunProgressRequest,
    StopWfRunRequest,
    ValidateStructDefEvolutionRequest,
)

from lhd.core.commands import control, deliveries, events, metadata, struct_defs, tasks, timers, user_tasks, wf_runs
from lhd.core.correlation import AdvanceRun
from lhd.core.records import Transaction


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
    DeleteStructDefRequest: struct_defs.delete_struct_def,
    RunWfRequest: wf_runs.run_wf,
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
    deliveries.Deliver: deliveries.deliver,
    deliveries.EnsureEventDef: deliveries.ensure_event_def,
}


def decide(tx: Transaction, command: Command) -> Any:
    """Run one command in its overlay and return its reply.

    Raises Rejection for a refused request and NotLoaded where the overlay lacks records; either way, and after any
    other exception, the overlay must be dropped.
    """
    return HANDLERS[type(command.request)](tx, command.tenant, command.request)
