"""ScheduledWfRuns: WfRuns that start again and again at the times of a cron expression (api.md 6.2)."""

from datetime import datetime

from cronsim import CronSim, CronSimError
from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    DeleteScheduledWfRunRequest,
    RunWfRequest,
    ScheduledWfRun,
    ScheduledWfRunId,
    ScheduleWfRequest,
)

from lhd.core import kinds
from lhd.core.commands.wf_runs import run_wf
from lhd.core.ids import milliseconds, timestamp
from lhd.core.kinds import Schedule, Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.specs import versions
from lhd.errors import Rejection, invalid_argument

_FIELDS = 5


def schedule_wf(tx: Transaction, tenant: str, request: ScheduleWfRequest) -> ScheduledWfRun:
    """Store a ScheduledWfRun, in place of an earlier one of its id, and arm its first firing."""
    major = request.major_version if request.HasField("major_version") else None
    revision = request.revision if request.HasField("revision") else None
    try:
        spec = versions.find(tx, tenant, request.wf_spec_name, major, revision)
    except Rejection as missing:
        raise invalid_argument(missing.text) from missing
    due_ms = _next_ms(tx, request.cron_expression, tx.time.wall_ms)
    scheduled = ScheduledWfRun(
        id=ScheduledWfRunId(id=request.id if request.HasField("id") else tx.new_id()),
        wf_spec_id=spec.message.id,
        variables=request.variables,
        cron_expression=request.cron_expression,
        created_at=timestamp(tx.now_ms),
    )
    if request.HasField("parent_wf_run_id"):
        scheduled.parent_wf_run_id.CopyFrom(request.parent_wf_run_id)
    _remove(tx, tenant, scheduled.id.id)
    tx.put(kinds.SCHEDULED_WF_RUN, (tenant, scheduled.id.id), Schedule(scheduled, major, revision))
    _arm(tx, tenant, scheduled, due_ms)
    return scheduled


def delete_scheduled_wf_run(tx: Transaction, tenant: str, request: DeleteScheduledWfRunRequest) -> Empty:
    """Stop a ScheduledWfRun; one that does not exist is fine."""
    _remove(tx, tenant, request.id.id)
    return Empty()


def _remove(tx: Transaction, tenant: str, name: str) -> None:
    stored = tx.get(kinds.SCHEDULED_WF_RUN, (tenant, name))
    if stored is not None:
        tx.delete(kinds.TIMER, _timer(tenant, stored.scheduled, 0).key)
        tx.delete(kinds.SCHEDULED_WF_RUN, (tenant, name))


def _arm(tx: Transaction, tenant: str, scheduled: ScheduledWfRun, due_ms: int) -> None:
    timer = _timer(tenant, scheduled, due_ms)
    tx.put(kinds.TIMER, timer.key, timer)


def _timer(tenant: str, scheduled: ScheduledWfRun, due_ms: int) -> Timer:
    target = (scheduled.id.id, milliseconds(scheduled.created_at))
    return Timer(due_ms, tenant, "", TimerAction.SCHEDULED_WF_RUN, target)


def _next_ms(tx: Transaction, expression: str, after_ms: int) -> int:
    """The first time of a cron expression after this one. Raises Rejection where there is none."""
    if len(expression.split()) != _FIELDS:
        raise invalid_argument("a cron expression has five fields: minute, hour, day of month, month, day of week")
    after = datetime.fromtimestamp(after_ms / 1000, tx.settings.time_zone)
    try:
        return int(next(CronSim(expression, after)).timestamp() * 1000)
    except CronSimError as error:
        raise invalid_argument(f"the cron expression '{expression[:200]}' cannot be used: {error}") from error
    except StopIteration as never:
        raise invalid_argument(f"the cron expression '{expression[:200]}' has no time in the next years") from never


def schedule_due(tx: Transaction, tenant: str, timer: Timer) -> None:
    """Start a WfRun and arm the next firing. A refused one is dropped; of those missed in a stop one is made up."""
    name, created_ms = str(timer.target[0]), timer.target[1]
    schedule = tx.get(kinds.SCHEDULED_WF_RUN, (tenant, name))
    if schedule is None or milliseconds(schedule.scheduled.created_at) != created_ms:
        return
    try:
        with tx.savepoint() as nested:
            run_wf(nested, tenant, _request(schedule))
    except Rejection:
        pass
    due_ms = _next_ms(tx, schedule.scheduled.cron_expression, max(timer.due_ms, tx.time.wall_ms))
    _arm(tx, tenant, schedule.scheduled, due_ms)


def _request(schedule: Schedule) -> RunWfRequest:
    scheduled = schedule.scheduled
    request = RunWfRequest(wf_spec_name=scheduled.wf_spec_id.name, variables=scheduled.variables)
    if schedule.major_version is not None:
        request.major_version = schedule.major_version
    if schedule.revision is not None:
        request.revision = schedule.revision
    if scheduled.HasField("parent_wf_run_id"):
        request.parent_wf_run_id.CopyFrom(scheduled.parent_wf_run_id)
    return request
