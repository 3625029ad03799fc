"""What happens when a NodeRun fails: a handler starts, or the ThreadRun ends (execution.md 6.2 to 6.4)."""

from littlehorse.model import (
    Failure,
    FailureBeingHandled,
    FailureHandlerDef,
    HandlingFailureHaltReason,
    LHStatus,
    NodeRun,
    PendingFailureHandler,
    PendingFailureHandlerHaltReason,
    ThreadHaltReason,
    ThreadRun,
    ThreadType,
)

from lhd.core import correlation, halting, threads
from lhd.core.failure import NodeFailure, catches, failure_status
from lhd.core.ids import timestamp
from lhd.core.kinds import FAILED, TERMINAL
from lhd.core.nodes import node_kind
from lhd.core.run import Run, Step

_MESSAGE_MAX = 4096
"""Characters of a failure's message: it is repeated by the NodeRun, the ThreadRun and whoever waits for that."""


def fail(step: Step, failure: Failure, *, while_processing: bool) -> None:
    """Fail the step's NodeRun: the first handler that catches the failure is to start, or else the ThreadRun ends.

    A NodeRun that has failed before gets no second handler. ``while_processing`` is false for failures of the arrival
    and of an edge, which leave no ``error_message``.
    """
    node_run = step.edit_node_run()
    handler = None if node_run.failures else _handler(step, failure.failure_name)
    failure = _add_failure(step, node_run, failure)
    if while_processing:
        node_run.error_message = failure.message
    if handler is None:
        _end_thread(step.run, step.thread, node_run.status, failure.message)
        return
    pending = PendingFailureHandler(failed_thread_run=step.thread.number, handler_spec_name=handler.handler_spec_name)
    step.run.wf_run.pending_failures.append(pending)
    reason = PendingFailureHandlerHaltReason(node_run_position=step.position)
    halting.halt(step.run, step.thread, ThreadHaltReason(pending_failure=reason))


def fail_thread(step: Step, failure: Failure) -> None:
    """Fail the step's NodeRun and with it the ThreadRun, whatever handlers the node has."""
    failure = _add_failure(step, step.edit_node_run(), failure)
    _end_thread(step.run, step.thread, failure_status(failure.failure_name), failure.message)


def end_lost(run: Run) -> None:
    """End a WfRun whose WfSpec has been deleted: without it nobody knows what its NodeRuns wait for, or how to halt."""
    failure = Failure(failure_name="INTERNAL_ERROR", message="the WfSpec of this WfRun was deleted")
    for thread in [thread for thread in run.wf_run.thread_runs if thread.status not in TERMINAL]:
        step = run.step(thread)
        correlation.stop_waiting(run.tx, run.tenant, step.node_run)
        _add_failure(step, step.edit_node_run(), failure)
        thread.status, thread.error_message = LHStatus.ERROR, failure.message
        thread.end_time.CopyFrom(timestamp(run.tx.now_ms))
    if run.wf_run.status not in TERMINAL:
        run.end(LHStatus.ERROR)


def _add_failure(step: Step, node_run: NodeRun, failure: Failure) -> Failure:
    """Note a failure, of which as much is kept as the records that repeat it have room for."""
    limit = step.tx.settings.record_bytes_max
    kept = Failure()
    kept.CopyFrom(failure)
    kept.message = failure.message[: min(_MESSAGE_MAX, limit // 16)]
    if node_run.ByteSize() + kept.ByteSize() > limit:
        kept.ClearField("content")
    if node_run.status not in TERMINAL and not step.run.is_lost:
        node_kind(step.node).leave(step)
    node_run.failures.append(kept)
    node_run.status = failure_status(kept.failure_name)
    node_run.end_time.CopyFrom(timestamp(step.tx.now_ms))
    return kept


def _handler(step: Step, failure_name: str) -> FailureHandlerDef | None:
    return next((handler for handler in step.node.failure_handlers if catches(handler, failure_name)), None)


def _end_thread(run: Run, thread: ThreadRun, status: LHStatus, message: str) -> None:
    thread.status = status
    thread.error_message = message
    thread.end_time.CopyFrom(timestamp(run.tx.now_ms))
    del thread.halt_reasons[:]
    _forget_pending(run, thread)
    halting.halt_children(run, thread)
    if thread.number == 0:
        run.end(status)
        halting.stop_waiting_for_keys(run)
    elif thread.type == ThreadType.INTERRUPT:
        _fail_interrupted(run, thread)
    elif thread.type == ThreadType.FAILURE_HANDLER:
        parent = run.thread(thread.parent_thread_id)
        if any(reason.handling_failure.handler_thread_id == thread.number for reason in parent.halt_reasons):
            _end_thread(run, parent, status, message)


def _forget_pending(run: Run, thread: ThreadRun) -> None:
    for pending in [one for one in run.wf_run.pending_interrupts if one.interrupted_thread_id == thread.number]:
        run.wf_run.pending_interrupts.remove(pending)
    for handler in [one for one in run.wf_run.pending_failures if one.failed_thread_run == thread.number]:
        run.wf_run.pending_failures.remove(handler)


def _fail_interrupted(run: Run, handler: ThreadRun) -> None:
    interrupted = run.thread(handler.parent_thread_id)
    cause = run.last_failure(handler)
    waits = any(reason.interrupted.interrupt_thread_id == handler.number for reason in interrupted.halt_reasons)
    if not waits or cause is None:
        return
    failure = Failure(
        failure_name=cause.failure_name,
        message=f"the interrupt thread {handler.number} failed: {cause.message}",
        content=cause.content if cause.HasField("content") else None,
    )
    fail_thread(run.step(interrupted), failure)


def start_handlers(run: Run) -> bool:
    """Start the failure handlers whose ThreadRun has halted. Returns whether there was one."""
    if run.wf_run.status in TERMINAL:
        return False
    ready = [one for one in run.wf_run.pending_failures if run.thread(one.failed_thread_run).status == LHStatus.HALTED]
    for pending in ready:
        run.wf_run.pending_failures.remove(pending)
        _start_handler(run, run.thread(pending.failed_thread_run), pending.handler_spec_name)
    return bool(ready)


def _start_handler(run: Run, failed: ThreadRun, spec_name: str) -> None:
    step = run.step(failed)
    number = len(step.node_run.failures) - 1
    try:
        handler = threads.start_handler(
            run, spec_name, ThreadType.FAILURE_HANDLER, failed, threads.content_of(step.node_run.failures[number])
        )
    except NodeFailure as refused:
        fail(step, refused.failure, while_processing=False)
        return
    handler.failure_being_handled.CopyFrom(
        FailureBeingHandled(thread_run_number=failed.number, node_run_position=step.position, failure_number=number)
    )
    node_run = step.edit_node_run()
    node_run.failures[number].failure_handler_threadrun_id = handler.number
    node_run.failure_handler_ids.append(handler.number)
    for reason in failed.halt_reasons:
        if reason.HasField("pending_failure"):
            reason.handling_failure.CopyFrom(HandlingFailureHaltReason(handler_thread_id=handler.number))


def note_handled(run: Run, thread: ThreadRun) -> bool:
    """Where a handler of the ThreadRun's last failure has completed, note that. Returns whether it was news."""
    step = run.step(thread)
    failures = step.node_run.failures
    if not failures or failures[-1].was_properly_handled or not failures[-1].HasField("failure_handler_threadrun_id"):
        return False
    if run.thread(failures[-1].failure_handler_threadrun_id).status != LHStatus.COMPLETED:
        return False
    step.edit_node_run().failures[-1].was_properly_handled = True
    waited = {entry.thread_run_number for entry in step.node_run.wait_for_threads.threads}
    for child in run.wf_run.thread_runs:
        if child.number in waited and child.status in FAILED:
            step.forgive(child.number)
    return True
