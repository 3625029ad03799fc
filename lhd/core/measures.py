"""What is counted of WfRuns and TaskRuns, for windows of a minute (api.md 14). Counts only; keeps no window."""

from enum import StrEnum
from typing import NamedTuple

from littlehorse.model import LHStatus, TaskRun, TaskStatus, WfSpecId

from lhd.core.ids import milliseconds
from lhd.core.kinds import storable_ms
from lhd.core.records import Transaction


class Metric(StrEnum):
    """What a count is about."""

    WORKFLOW = "workflow"
    TASK = "task"
    QUOTA = "quota"


class Subject(NamedTuple):
    """Whose count it is: a version of a WfSpec, a TaskDef, or a tenant with perhaps a principal (in ``detail``)."""

    tenant: str
    metric: Metric
    name: str
    detail: str = ""
    major_version: int = 0
    revision: int = 0


class Sample(NamedTuple):
    """Something happened once, at this time in ms, and took so long."""

    subject: Subject
    measure: str
    at_ms: int
    latency_ms: int


_ENDS = {LHStatus.COMPLETED: "completed", LHStatus.ERROR: "error", LHStatus.EXCEPTION: "exception"}


def count_wf_run(tx: Transaction, tenant: str, spec_id: WfSpecId, measure: str, latency_ms: int = 0) -> None:
    """Count a change of a WfRun's status."""
    version = spec_id.major_version, spec_id.revision
    subject = Subject(tenant, Metric.WORKFLOW, spec_id.name, "", *version)
    tx.samples.append(Sample(subject, measure, tx.now_ms, max(0, latency_ms)))


def ended(status: LHStatus) -> str:
    """The measure of a WfRun that has ended so."""
    return f"running_to_{_ENDS[status]}"


def count_attempt(tx: Transaction, tenant: str, task_run: TaskRun, measure: str, since_ms: int) -> None:
    """Count a step of a TaskRun or of its attempt, that has taken since then."""
    subject = Subject(tenant, Metric.TASK, task_run.task_def_id.name)
    tx.samples.append(Sample(subject, measure, tx.now_ms, max(0, tx.now_ms - storable_ms(since_ms))))


def count_report(tx: Transaction, tenant: str, task_run: TaskRun, *, is_final: bool) -> None:
    """Count the end of an attempt, and of the TaskRun if there is no other."""
    names = {TaskStatus.TASK_SUCCESS: ("success", "completed"), TaskStatus.TASK_EXCEPTION: ("exception", "exception")}
    attempt, whole = names.get(task_run.attempts[-1].status, ("error", "error"))
    count_attempt(
        tx, tenant, task_run, f"taskattempt_running_to_{attempt}", milliseconds(task_run.attempts[-1].start_time)
    )
    if is_final:
        count_attempt(tx, tenant, task_run, f"taskrun_created_to_{whole}", milliseconds(task_run.scheduled_at))
