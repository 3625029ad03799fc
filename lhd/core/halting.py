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
from lhd.core.kinds import BY_HANDLER, FAILED, STOPPED, TERMINAL
from lhd.core.nodes import node_kind
from lhd.core.run import Run


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
            halt(run, child, _parent_halted(thread))
    _halt_late_handlers(run, thread)
    finish_halting(run, thread)


def _parent_halted(parent: ThreadRun) -> ThreadHaltReason:
    return ThreadHaltReason(parent_halted=ParentHalted(parent_thread_id=parent.number))


def _late_handlers(run: Run, waiter: ThreadRun) -> list[ThreadRun]:
    """The ThreadRuns that handle failures of others for this one, which waits for them (execution.md 6.5).

    Each is a child of the ThreadRun that has failed; but it halts and goes on with the one that waits.
    """
    entries = run.step(waiter).node_run.wait_for_threads.threads
    numbers = {entry.failure_handler_thread_run_id for entry in entries} - {0}
    return [thread for thread in run.wf_run.thread_runs if thread.number in numbers]


def _waiter_of(run: Run, handler: ThreadRun) -> ThreadRun | None:
    live = [thread for thread in run.wf_run.thread_runs if thread.status not in TERMINAL]
    return next((thread for thread in live if handler in _late_handlers(run, thread)), None)


def _halt_late_handlers(run: Run, waiter: ThreadRun) -> None:
    for handler in _late_handlers(run, waiter):
        halt(run, handler, _parent_halted(run.thread(handler.parent_thread_id)))


def halt_for_good(run: Run, thread: ThreadRun, waiter: ThreadRun) -> None:
    """Halt a ThreadRun that ``waiter`` waits for no more; neither it nor its descendants ever go on."""
    reason = HaltedByParentNodeHaltReason(
        parent_thread_run_number=waiter.number, waiting_node_run_position=waiter.current_node_position
    )
    halt(run, thread, ThreadHaltReason(halted_by_parent=reason))
    _leave_all(run, thread)


def _leave_all(run: Run, thread: ThreadRun) -> None:
    if thread.status not in TERMINAL:
        step = run.step(thread)
        node_kind(step.node).leave(step)
    for child in run.children(thread):
        _leave_all(run, child)


def halt_children(run: Run, thread: ThreadRun) -> None:
    """Halt what a ThreadRun that has failed leaves behind."""
    for child in run.children(thread):
        halt(run, child, _parent_halted(thread))
    _halt_late_handlers(run, thread)


def stop_waiting_for_keys(run: Run) -> None:
    """The WfRun has ended: what its halted ThreadRuns wait for by key is not for them any more."""
    for thread in run.wf_run.thread_runs:
        if thread.status not in TERMINAL:
            correlation.stop_waiting(run.tx, run.tenant, run.step(thread).node_run)


def _runs_beside(child: ThreadRun, reason: ThreadHaltReason) -> bool:
    """Whether a child goes on while its parent is halted for this reason."""
    kind = reason.WhichOneof("reason")
    if child.type == ThreadType.INTERRUPT:
        return kind in BY_HANDLER
    return kind == "handling_failure" and child.number == reason.handling_failure.handler_thread_id


def finish_halting(run: Run, thread: ThreadRun) -> bool:
    """Stop the current NodeRun if that is possible by now; the ThreadRun is HALTED when all its children have stopped.

    Returns whether the ThreadRun became HALTED.
    """
    stopped = _stop_node_run(run, thread)
    if thread.status == LHStatus.HALTED or not stopped:
        return False
    if any(child.status not in STOPPED and not _all_beside(child, thread) for child in run.children(thread)):
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
    """Let a ThreadRun go on where it stands; a failure of its NodeRun has been handled by then."""
    thread.status = LHStatus.RUNNING
    step = run.step(thread)
    if step.node_run.status in (LHStatus.HALTED, LHStatus.HALTING):
        step.edit_node_run().status = LHStatus.RUNNING
        node_kind(step.node).resumed(step)


def _is_resolved(run: Run, thread: ThreadRun, reason: ThreadHaltReason) -> bool:
    match reason.WhichOneof("reason"):
        case "parent_halted":
            return _is_free_of(run, run.thread(reason.parent_halted.parent_thread_id), thread)
        case "interrupted":
            return run.thread(reason.interrupted.interrupt_thread_id).status == LHStatus.COMPLETED
        case "handling_failure":
            return run.thread(reason.handling_failure.handler_thread_id).status == LHStatus.COMPLETED
    return False


def _is_free_of(run: Run, parent: ThreadRun, thread: ThreadRun) -> bool:
    """Whether the parent no longer holds its child back, since it runs, or is halted for the child's own work only."""
    if parent.status in FAILED:
        waiter = _waiter_of(run, thread)
        return waiter is not None and _is_free_of(run, waiter, thread)
    if parent.status == LHStatus.HALTED and parent.halt_reasons:
        return _all_beside(thread, parent)
    return parent.status in (LHStatus.RUNNING, LHStatus.COMPLETED)
