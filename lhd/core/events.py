"""ExternalEvents of a WfRun: storing one, finding the one a NodeRun takes, claiming it (execution.md 2)."""

from littlehorse.model import ExternalEvent, ExternalEventDef, VariableValue

from lhd.core import expiry, kinds
from lhd.core.fitting import StructDefs, fit
from lhd.core.ids import external_event_key, milliseconds
from lhd.core.kinds import Moved, Outcome, Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.run import Step
from lhd.core.values import EvaluationError, is_null, kind_name, require_sound


def accept_content(
    definition: ExternalEventDef, content: VariableValue, structs: StructDefs, *, void_takes_anything: bool
) -> VariableValue:
    """The content of an event of this def as it is stored; raises EvaluationError where it cannot be one."""
    require_sound(content)
    if not definition.HasField("type_information") or is_null(content):
        return content
    if not definition.type_information.HasField("return_type"):
        if void_takes_anything:
            return content
        raise EvaluationError(f"{kind_name(content)} given, but the event has no content")
    return fit(content, definition.type_information.return_type, structs)


def store(tx: Transaction, tenant: str, event: ExternalEvent, definition: ExternalEventDef, origin: str | None) -> None:
    """Store an unclaimed event. ``origin`` is the id of the delivery it came from, if a source brought it."""
    key = external_event_key(tenant, event.id)
    tx.put(kinds.EXTERNAL_EVENT, key, event)
    if origin is not None:
        tx.put(kinds.EXTERNAL_EVENT_ORIGIN, key, origin)
    if definition.retention_policy.HasField("seconds_after_put"):
        due_ms = tx.now_ms + definition.retention_policy.seconds_after_put * 1000
        timer = Timer(due_ms, tenant, key[1], TimerAction.EXTERNAL_EVENT_RETENTION, key[2:])
        tx.put(kinds.TIMER, timer.key, timer)


def oldest_match(step: Step, def_name: str) -> ExternalEvent | None:
    """The unclaimed event that this NodeRun takes next: the earliest, by arrival where times are equal."""
    candidates = [
        event
        for event in step.tx.all(kinds.EXTERNAL_EVENT, *step.run.key)
        if not event.claimed
        and event.id.external_event_def_id.name == def_name
        and (not event.HasField("thread_run_number") or event.thread_run_number == step.thread.number)
        and (not event.HasField("node_run_position") or event.node_run_position == step.position)
    ]
    return min(candidates, key=lambda event: milliseconds(event.created_at), default=None)


def claim(step: Step, event: ExternalEvent) -> VariableValue:
    """Give the event to the NodeRun and return its content."""
    claimed = take(step.tx, step.run.tenant, event)
    claimed.thread_run_number = step.thread.number
    claimed.node_run_position = step.position
    waiting = step.edit_node_run().external_event
    waiting.external_event_id.CopyFrom(event.id)
    waiting.event_time.CopyFrom(event.created_at)
    return claimed.content


def take(tx: Transaction, tenant: str, event: ExternalEvent) -> ExternalEvent:
    """The event is used: no other NodeRun gets it. Returns it, to change."""
    key = external_event_key(tenant, event.id)
    claimed = tx.edit(kinds.EXTERNAL_EVENT, key)
    claimed.claimed = True
    settle_origin(tx, key, Outcome.DELIVERED)
    return claimed


def settle_origin(tx: Transaction, event_key: tuple[str, str, str, str], outcome: Outcome) -> None:
    """Tell the ledger what became of the delivery that brought this event, if a source did."""
    origin = tx.get(kinds.EXTERNAL_EVENT_ORIGIN, event_key)
    if origin is not None:
        tx.delete(kinds.EXTERNAL_EVENT_ORIGIN, event_key)
        expiry.settle(tx, event_key[0], origin, outcome, Moved(tx.now_ms, event_key[1], event_key[3]))


def expire(tx: Transaction, timer: Timer) -> None:
    """The retention of an event is over: an event that is still unclaimed is deleted."""
    key = (timer.tenant, timer.run, str(timer.target[0]), str(timer.target[1]))
    event = tx.get(kinds.EXTERNAL_EVENT, key)
    if event is not None and not event.claimed:
        settle_origin(tx, key, Outcome.EXPIRED)
        tx.delete(kinds.EXTERNAL_EVENT, key)
