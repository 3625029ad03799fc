"""Failures of NodeRuns: their names, and what becomes of a ThreadRun whose NodeRun failed (execution.md 6.2)."""

from littlehorse.model import Failure, LHErrorType, LHStatus, VariableValue

from lhd.core.ids import is_lh_name, timestamp
from lhd.core.run import Run, Step

ERROR_NAMES = frozenset(LHErrorType.keys())


class NodeFailure(Exception):
    """Raised by a node: its NodeRun fails with this name, message and content."""

    def __init__(self, name: str, message: str, content: VariableValue | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(failure_name=name, message=message, content=content)


def failure_status(name: str) -> LHStatus:
    """ERROR for the names of LHErrorType, EXCEPTION for every other; the name alone decides."""
    return LHStatus.ERROR if name in ERROR_NAMES else LHStatus.EXCEPTION


def is_exception_name(name: str) -> bool:
    """Whether a workflow may use this name for a business failure of its own."""
    return is_lh_name(name) and name not in ERROR_NAMES


def fail(step: Step, failure: Failure, *, while_processing: bool) -> None:
    """Fail the step's NodeRun, and its ThreadRun with it.

    ``while_processing`` is false for failures of the arrival and of an edge, which leave no ``error_message``.
    """
    status = failure_status(failure.failure_name)
    node_run = step.edit_node_run()
    node_run.failures.append(failure)
    node_run.status = status
    node_run.end_time.CopyFrom(timestamp(step.run.tx.now_ms))
    if while_processing:
        node_run.error_message = failure.message
    _end_thread(step.run, step, status, failure.message)


def _end_thread(run: Run, step: Step, status: LHStatus, message: str) -> None:
    thread = step.thread
    thread.status = status
    thread.error_message = message
    thread.end_time.CopyFrom(timestamp(run.tx.now_ms))
    if thread.number == 0:
        run.end(status)
