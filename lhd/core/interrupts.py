"""Interrupts: an ExternalEvent halts ThreadRuns and a handler runs in the meantime (execution.md 4.3)."""

from littlehorse.model import (
    ExternalEvent,
    Interrupted,
    LHStatus,
    PendingInterrupt,
    PendingInterruptHaltReason,
    ThreadHaltReason,
    ThreadRun,
    ThreadType,
)

from lhd.core import events, failures, halting, kinds, threads
from lhd.core.failure import NodeFailure
from lhd.core.ids import external_event_key
from lhd.core.kinds import TERMINAL
from lhd.core.run import Run


def interrupt(run: Run, event: ExternalEvent) -> None:
    """Interrupt every live ThreadRun whose ThreadSpec has an interrupt for this event; without one nothing changes."""
    for thread in list(run.wf_run.thread_runs):
        if event.HasField("thread_run_number") and event.thread_run_number != thread.number:
            continue
        if thread.status in TERMINAL:
            continue
        handler = run.spec_of(thread).interrupt_handler(thread.thread_spec_name, event.id.external_event_def_id.name)
        if handler is None:
            continue
        events.take(run.tx, run.tenant, event)
        pending = PendingInterrupt(
            external_event_id=event.id, handler_spec_name=handler, interrupted_thread_id=thread.number
        )
        run.wf_run.pending_interrupts.append(pending)
        reason = PendingInterruptHaltReason(external_event_id=event.id)
        halting.halt(run, thread, ThreadHaltReason(pending_interrupt=reason))


def start_handlers(run: Run) -> bool:
    """Start the oldest waiting handler of each ThreadRun that has halted. Returns whether there was one."""
    if run.wf_run.status in TERMINAL:
        return False
    ready: dict[int, PendingInterrupt] = {}
    for pending in run.wf_run.pending_interrupts:
        if run.thread(pending.interrupted_thread_id).status == LHStatus.HALTED:
            ready.setdefault(pending.interrupted_thread_id, pending)
    for number, pending in ready.items():
        started = PendingInterrupt()
        started.CopyFrom(pending)
        run.wf_run.pending_interrupts.remove(pending)
        _start_handler(run, run.thread(number), started)
    return bool(ready)


def _start_handler(run: Run, interrupted: ThreadRun, pending: PendingInterrupt) -> None:
    event = run.tx.get(kinds.EXTERNAL_EVENT, external_event_key(run.tenant, pending.external_event_id))
    assert event is not None, "a claimed event stays as long as its WfRun"
    try:
        handler = threads.start_handler(
            run, pending.handler_spec_name, ThreadType.INTERRUPT, interrupted, event.content
        )
    except NodeFailure as refused:
        failures.fail_thread(run.step(interrupted), refused.failure)
        return
    handler.interrupt_trigger_id.CopyFrom(event.id)
    for reason in interrupted.halt_reasons:
        if reason.pending_interrupt.external_event_id == event.id:
            reason.interrupted.CopyFrom(Interrupted(interrupt_thread_id=handler.number))
            break
