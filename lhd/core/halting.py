"""Halting ThreadRuns and letting them go on: the reasons, and when they are resolved (execution.md 4.2, 4.5)."""

from littlehorse.model import (
    HaltedByParentNodeHaltReason,
    LHStatus,
    ParentHalted,
    ThreadHaltReason,
    ThreadRun,
    ThreadType,
)

from lhd.core import correlation
from lhd.core.failure import failure_status
from lhd.core.kinds import TERMINAL
from lhd.core.nodes import node_kind
from lhd.core.run import Run

_STOPPED = TERMINAL | {LHStatus.HALTED}
_BY_INTERRUPT = frozenset({"pending_interrupt", "interrupted"})


def halt(run: Run, thread: ThreadRun, reason: ThreadHaltReason) -> None:
    """Halt a ThreadRun and all its descendants, at once or as soon as what they do can be stopped."""
    if thread.status in TERMINAL:
        return
    if reason not in thread.halt_reasons:
        thread.halt_reasons.append(reason)
    if thread.status != LHStatus.HALTED:
        thread.status = LHStatus.HALTING
    for child in run.children(thread):
        if not _runs_beside(child, reason):
            halt(run, child, ThreadHaltReason(parent_halted=ParentHalted(parent_thread_id=thread.number)))
    finish_halting(run, thread)


def halt_for_good(run: Run, thread: ThreadRun, waiter: ThreadRun) -> None:
    """Halt a ThreadRun that ``waiter`` waits for no more; it never goes on."""
    reason = HaltedByParentNodeHaltReason(
        parent_thread_run_number=waiter.number, waiting_node_run_position=waiter.current_node_position
    )
    halt(run, thread, ThreadHaltReason(halted_by_parent=reason))
    if thread.status == LHStatus.HALTED:
        step = run.step(thread)
        node_kind(step.node).leave(step)


def halt_children(run: Run, thread: ThreadRun) -> None:
    """Halt what a ThreadRun that has failed leaves behind."""
    for child in run.children(thread):
        halt(run, child, ThreadHaltReason(parent_halted=ParentHalted(parent_thread_id=thread.number)))


def stop_waiting_for_keys(run: Run) -> None:
    """The WfRun has ended: what its halted ThreadRuns wait for by key is not for them any more."""
    for thread in run.wf_run.thread_runs:
        if thread.status not in TERMINAL:
            correlation.stop_waiting(run.step(thread))


def _runs_beside(child: ThreadRun, reason: ThreadHaltReason) -> bool:
    """Whether a child goes on while its parent is halted for this reason."""
    kind = reason.WhichOneof("reason")
    if kind == "handling_failure":
        return child.number == reason.handling_failure.handler_thread_id
    return kind in _BY_INTERRUPT and child.type == ThreadType.INTERRUPT


def finish_halting(run: Run, thread: ThreadRun) -> bool:
    """Stop the current NodeRun if that is possible by now; the ThreadRun is HALTED when all its children have stopped.

    Returns whether the ThreadRun became HALTED.
    """
    stopped = _stop_node_run(run, thread)
    if thread.status == LHStatus.HALTED or not stopped:
        return False
    if any(child.status not in _STOPPED and not _all_beside(child, thread) for child in run.children(thread)):
        return False
    thread.status = LHStatus.HALTED
    return True


def _all_beside(child: ThreadRun, thread: ThreadRun) -> bool:
    return all(_runs_beside(child, reason) for reason in thread.halt_reasons)


def _stop_node_run(run: Run, thread: ThreadRun) -> bool:
    step = run.step(thread)
    if step.node_run.status not in (LHStatus.RUNNING, LHStatus.HALTING):
        return True
    kind = node_kind(step.node)
    stops = kind.can_halt(step)
    status = LHStatus.HALTED if stops else LHStatus.HALTING
    if step.node_run.status != status:
        step.edit_node_run().status = status
    if stops:
        kind.halted(step)
    return stops


def try_resume(run: Run, thread: ThreadRun) -> bool:
    """Drop the reasons that no longer hold a HALTED ThreadRun; without any left it goes on. Returns whether it does."""
    remaining = [reason for reason in thread.halt_reasons if not _is_resolved(run, thread, reason)]
    if len(remaining) < len(thread.halt_reasons):
        del thread.halt_reasons[:]
        thread.halt_reasons.extend(remaining)
    if remaining:
        return False
    resume(run, thread)
    return True


def resume(run: Run, thread: ThreadRun) -> None:
    """Let a ThreadRun go on where it stands."""
    thread.status = LHStatus.RUNNING
    step = run.step(thread)
    failures = step.node_run.failures
    if failures and not failures[-1].was_properly_handled:
        thread.status = failure_status(failures[-1].failure_name)
    elif step.node_run.status in (LHStatus.HALTED, LHStatus.HALTING):
        step.edit_node_run().status = LHStatus.RUNNING
        node_kind(step.node).resumed(step)


def _is_resolved(run: Run, thread: ThreadRun, reason: ThreadHaltReason) -> bool:
    match reason.WhichOneof("reason"):
        case "parent_halted":
            return _is_free_of(run.thread(reason.parent_halted.parent_thread_id), thread)
        case "interrupted":
            return run.thread(reason.interrupted.interrupt_thread_id).status == LHStatus.COMPLETED
        case "handling_failure":
            return run.thread(reason.handling_failure.handler_thread_id).status == LHStatus.COMPLETED
    return False


def _is_free_of(parent: ThreadRun, thread: ThreadRun) -> bool:
    """Whether the parent no longer holds its child back, since it runs, or is halted for the child's own work only."""
    if parent.status == LHStatus.HALTED and parent.halt_reasons:
        return _all_beside(thread, parent)
    return parent.status in (LHStatus.RUNNING, LHStatus.COMPLETED)
