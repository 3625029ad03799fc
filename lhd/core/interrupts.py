"""Interrupts: an ExternalEvent halts ThreadRuns and a handler runs in the meantime (execution.md 4.3)."""

from littlehorse.model import (
    ExternalEvent,
    Failure,
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
from lhd.core.values import EvaluationError


def interrupt(run: Run, event: ExternalEvent) -> None:
    """Interrupt every live ThreadRun whose ThreadSpec has an interrupt for this event; without one nothing changes."""
    for thread in list(run.wf_run.thread_runs):
        if event.HasField("thread_run_number") and event.thread_run_number != thread.number:
            continue
        handler = run.spec_of(thread).interrupt_handler(thread.thread_spec_name, event.id.external_event_def_id.name)
        if handler is None or thread.status in TERMINAL:
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
        inputs = threads.handler_input(run, interrupted, pending.handler_spec_name, event.content)
        handler = threads.start(run, pending.handler_spec_name, ThreadType.INTERRUPT, interrupted, inputs)
    except NodeFailure as refused:
        failures.fail(run.step(interrupted), refused.failure, while_processing=False)
        return
    except EvaluationError as error:
        text = f"the interrupt handler '{pending.handler_spec_name}' cannot start: {error}"
        failures.fail(
            run.step(interrupted), Failure(failure_name="VAR_SUB_ERROR", message=text), while_processing=False
        )
        return
    handler.interrupt_trigger_id.CopyFrom(event.id)
    for reason in interrupted.halt_reasons:
        if reason.pending_interrupt.external_event_id == event.id:
            reason.interrupted.CopyFrom(Interrupted(interrupt_thread_id=handler.number))
            break
