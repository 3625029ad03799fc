"""What happens when a timer is due. A timer only asks to look: one whose target has moved on changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from littlehorse.model import NodeRun, TaskRunId, WfRunId

from lhd.core import correlation, events, kinds, task_runs
from lhd.core.commands import schedules, user_tasks
from lhd.core.commands.events import advance_run
from lhd.core.commands.wf_runs import delete_run
from lhd.core.ids import milliseconds, parse_wf_run_id
from lhd.core.kinds import TERMINAL, Timer, TimerAction
from lhd.core.records import Transaction


@dataclass(frozen=True, slots=True)
class TimerDue:
    """The time of a timer has come."""

    timer: Timer


def timer_due(tx: Transaction, tenant: str, request: TimerDue) -> None:
    """Remove the timer's row and do what its action says. The command's time is the timer's."""
    tx.delete(kinds.TIMER, request.timer.key)
    _ACTIONS[request.timer.action](tx, tenant, request.timer)


def _external_event_timeout(tx: Transaction, tenant: str, timer: Timer) -> None:
    node_run = _waiting(tx, tenant, timer)
    if node_run is not None:
        node_run.external_event.timed_out = True
        correlation.stop_waiting(tx, tenant, node_run)
        advance_run(tx, tenant, _wf_run_id(timer))


def _sleep(tx: Transaction, tenant: str, timer: Timer) -> None:
    node_run = _waiting(tx, tenant, timer)
    if node_run is not None and milliseconds(node_run.sleep.maturation_time) == timer.target[2]:
        node_run.sleep.matured = True
        advance_run(tx, tenant, _wf_run_id(timer))


def _waiting(tx: Transaction, tenant: str, timer: Timer) -> NodeRun | None:
    """The NodeRun that the timer was set for, to change, while it has neither completed nor failed."""
    key = (tenant, timer.run, *timer.target[:2])
    found = tx.get(kinds.NODE_RUN, key)
    ended = found is None or found.status in TERMINAL
    return None if ended else tx.edit(kinds.NODE_RUN, key)


def _task_timeout(tx: Transaction, tenant: str, timer: Timer) -> None:
    task_run_id, attempt = _task(timer)
    task_run = task_runs.running_attempt(tx, tenant, task_run_id, attempt)
    if task_run is not None and task_run.total_checkpoints == timer.target[2]:
        report = task_runs.deadline_report(task_run_id, attempt, timer.due_ms)
        task_runs.finish_attempt(tx, tenant, task_run, report)
        advance_run(tx, tenant, task_run_id.wf_run_id)


def _task_retry(tx: Transaction, tenant: str, timer: Timer) -> None:
    task_runs.retry_due(tx, tenant, *_task(timer))


def _task(timer: Timer) -> tuple[TaskRunId, int]:
    guid, attempt, *_ = timer.target
    return TaskRunId(wf_run_id=_wf_run_id(timer), task_guid=str(guid)), int(attempt)


def _external_event_retention(tx: Transaction, _: str, timer: Timer) -> None:
    events.expire(tx, timer)


def _correlated_event_ttl(tx: Transaction, _: str, timer: Timer) -> None:
    correlation.expire(tx, timer)


def _wf_run_retention(tx: Transaction, tenant: str, timer: Timer) -> None:
    wf_run = tx.get(kinds.WF_RUN, (tenant, timer.run))
    if wf_run is None or wf_run.status not in TERMINAL:
        return
    if milliseconds(wf_run.end_time) == timer.target[0]:
        delete_run(tx, tenant, wf_run.id)


def _wf_run_id(timer: Timer) -> WfRunId:
    return parse_wf_run_id(timer.run)


_ACTIONS: dict[TimerAction, Callable[[Transaction, str, Timer], None]] = {
    TimerAction.EXTERNAL_EVENT_TIMEOUT: _external_event_timeout,
    TimerAction.SLEEP: _sleep,
    TimerAction.TASK_TIMEOUT: _task_timeout,
    TimerAction.TASK_RETRY: _task_retry,
    TimerAction.EXTERNAL_EVENT_RETENTION: _external_event_retention,
    TimerAction.CORRELATED_EVENT_TTL: _correlated_event_ttl,
    TimerAction.WF_RUN_RETENTION: _wf_run_retention,
    TimerAction.SCHEDULED_WF_RUN: schedules.schedule_due,
    TimerAction.USER_TASK_ACTION: user_tasks.action_due,
}
