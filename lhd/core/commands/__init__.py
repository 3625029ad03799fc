"""The commands of the engine: one handler for each kind of request, and the one place that runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from littlehorse.model import (
    DeleteWfRunRequest,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    PutTaskDefRequest,
    PutWfSpecRequest,
    ReportTaskRun,
    RunWfRequest,
)

from lhd.core.commands import deliveries, events, metadata, tasks, timers, wf_runs
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
    PutWfSpecRequest: metadata.put_wf_spec,
    RunWfRequest: wf_runs.run_wf,
    DeleteWfRunRequest: wf_runs.delete_wf_run,
    PutExternalEventRequest: events.put_external_event,
    PutCorrelatedEventRequest: events.put_correlated_event,
    AdvanceRun: events.advance_after,
    ReportTaskRun: tasks.report_task,
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
