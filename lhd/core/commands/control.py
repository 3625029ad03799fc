"""What operators do to WfRuns that exist: stop, resume, rescue (execution.md 9.1 to 9.3)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    LHStatus,
    ManualHalt,
    NodeRun,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    StopWfRunRequest,
    ThreadHaltReason,
    ThreadRun,
    ThreadType,
    WfRun,
    WfRunId,
)

from lhd.core import halting, kinds
from lhd.core.advance import activate, advance, choose_edge
from lhd.core.ids import node_run_key, printed, run_key
from lhd.core.kinds import FAILED, TERMINAL
from lhd.core.records import Transaction
from lhd.core.run import Run
from lhd.core.values import EvaluationError
from lhd.errors import Code, Rejection, invalid_argument, not_found

_BY_HAND = ThreadHaltReason(manual_halt=ManualHalt(meaning_of_life=True))


def stop_wf_run(tx: Transaction, tenant: str, request: StopWfRunRequest) -> Empty:
    """Halt a ThreadRun and its descendants until ResumeWfRun; one that is stopped or has ended stays as it is."""
    run, thread = _find(tx, tenant, request.wf_run_id, request.thread_run_number)
    if not _is_stopped(thread):
        halting.halt(run, thread, _BY_HAND)
        advance(run)
    return Empty()


def resume_wf_run(tx: Transaction, tenant: str, request: ResumeWfRunRequest) -> Empty:
    """Let a ThreadRun that StopWfRun halted go on; other reasons to halt stay in force."""
    run, thread = _find(tx, tenant, request.wf_run_id, request.thread_run_number)
    if _is_stopped(thread):
        others = [reason for reason in thread.halt_reasons if not reason.HasField("manual_halt")]
        del thread.halt_reasons[:]
        thread.halt_reasons.extend(others)
        advance(run)
    return Empty()


def _is_stopped(thread: ThreadRun) -> bool:
    return any(reason.HasField("manual_halt") for reason in thread.halt_reasons)


def _find(tx: Transaction, tenant: str, wf_run_id: WfRunId, number: int) -> tuple[Run, ThreadRun]:
    if tx.get(kinds.WF_RUN, run_key(tenant, wf_run_id)) is None:
        raise not_found(f"there is no WfRun {printed(wf_run_id)}")
    run = Run(tx, tenant, wf_run_id)
    thread = run.find_thread(number)
    if thread is None:
        raise invalid_argument(
            f"WfRun {printed(wf_run_id)} has no thread {number}; "
            f"its threads are 0 to {run.wf_run.greatest_threadrun_number}"
        )
    return run, thread


def rescue_thread_run(tx: Transaction, tenant: str, request: RescueThreadRunRequest) -> WfRun:
    """Let a ThreadRun that ended in ERROR try again, at the same node or behind it, and those that failed with it."""
    run, thread = _find(tx, tenant, request.wf_run_id, request.thread_run_number)
    if thread.status != LHStatus.ERROR:
        status = LHStatus.Name(thread.status)
        raise _refused(run, f"thread {thread.number} is {status}; only a thread in ERROR can be rescued")
    _check_unhandled(run, thread)
    position = thread.current_node_position
    _restart(run, thread, skip=request.skip_current_node)
    _rescue_upward(run, thread)
    advance(run)
    if _failed_at_once(run, thread, position):
        raise _refused(run, f"thread {thread.number} failed again at once: {run.thread(thread.number).error_message}")
    return run.wf_run


def _check_unhandled(run: Run, thread: ThreadRun) -> None:
    """Refuse a rescue whose failure somebody has dealt with already."""
    part = thread
    while part.HasField("parent_thread_id"):
        parent = run.thread(part.parent_thread_id)
        if part.number in parent.handled_failed_children:
            raise _refused(run, f"the failure of thread {part.number} was handled by thread {parent.number}")
        part = parent
    waiting = _waiting_node_run(run)
    if thread.number == 0 and waiting is not None and waiting.failures and waiting.failures[-1].was_properly_handled:
        raise _refused(run, "the parent WfRun has handled its failure")


def _waiting_node_run(run: Run) -> NodeRun | None:
    """The NodeRun of the parent WfRun that waits, or waited, for this one."""
    if not run.wf_run.parent_trigger.HasField("waiting_node_run"):
        return None
    return run.tx.get(kinds.NODE_RUN, node_run_key(run.tenant, run.wf_run.parent_trigger.waiting_node_run))


def _restart(run: Run, thread: ThreadRun, *, skip: bool) -> None:
    step = run.step(thread)
    node_name = step.node_run.node_name
    if skip:
        try:
            node_name = choose_edge(step, mutate=False)
        except EvaluationError as error:
            raise _refused(run, f"no edge leads on from '{node_name}': {error}") from error
    for child in run.children(thread):
        if child.type != ThreadType.CHILD and child.status in FAILED:
            step.forgive(child.number)
        elif child.type != ThreadType.CHILD and child.status not in TERMINAL:
            halting.halt_for_good(run, child, thread)
    thread.status = LHStatus.RUNNING
    thread.ClearField("end_time")
    thread.ClearField("error_message")
    if thread.number == 0:
        run.wf_run.status = LHStatus.RUNNING
        run.wf_run.ClearField("end_time")
    activate(run, thread, node_name)
    if run.step(thread).node_run.failures:
        raise _refused(
            run, f"thread {thread.number} fails again at once: {run.step(thread).node_run.failures[-1].message}"
        )


def _rescue_upward(run: Run, thread: ThreadRun) -> None:
    """Rescue the ThreadRuns, and the WfRuns, that failed because this one did."""
    if thread.HasField("parent_thread_id"):
        parent = run.thread(thread.parent_thread_id)
        if _failed_over_child(run, parent):
            _restart(run, parent, skip=False)
            _rescue_upward(run, parent)
        return
    waiting, parent_run = _waiting_node_run(run), run.parent()
    if waiting is None or parent_run is None:
        return
    waiter = parent_run.thread(waiting.id.thread_run_number)
    if waiter.status == LHStatus.ERROR and waiter.current_node_position == waiting.id.position:
        _restart(parent_run, waiter, skip=False)
        _rescue_upward(parent_run, waiter)
        advance(parent_run)


def _failed_over_child(run: Run, thread: ThreadRun) -> bool:
    node_run = run.step(thread).node_run
    if thread.status != LHStatus.ERROR or not (node_run.HasField("wait_for_threads") or node_run.HasField("exit")):
        return False
    return bool(node_run.failures) and node_run.failures[-1].failure_name == "CHILD_FAILURE"


def _failed_at_once(run: Run, thread: ThreadRun, position: int) -> bool:
    """Whether the NodeRun that the rescue has made failed in the same command, and the ThreadRun with it."""
    again = run.thread(thread.number)
    return again.status == LHStatus.ERROR and again.current_node_position == position + 1


def _refused(run: Run, why: str) -> Rejection:
    return Rejection(Code.FAILED_PRECONDITION, f"WfRun {printed(run.id)} cannot be rescued: {why}")
