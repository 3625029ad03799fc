"""CorrelatedEvents and the markers of NodeRuns that wait for their keys (execution.md 3).

Where something crosses from one lane to others: what a key is given becomes an ExternalEvent in the lane of each
waiting WfRun, which is advanced by a command of its own.
"""

from typing import Any

from littlehorse.model import CorrelatedEvent, ExternalEvent, ExternalEventDef, ExternalEventId, NodeRun, NodeRunId

from lhd.core import events, expiry, kinds
from lhd.core.fitting import StoredStructDefs
from lhd.core.ids import milliseconds, node_run_key, parse_wf_run_id, timestamp
from lhd.core.kinds import Moved, Outcome, QueuedEvent, Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.run import AdvanceRun, Step
from lhd.core.values import EvaluationError
from lhd.errors import Code, Rejection


def start_waiting(step: Step, def_name: str, key: str) -> None:
    """The step's NodeRun waits for ``key``; a CorrelatedEvent that is already there is given to it at once."""
    tenant = step.run.tenant
    step.tx.put(kinds.MARKER, _marker(tenant, def_name, key, step.node_run_id), True)
    event = step.tx.get(kinds.CORRELATED_EVENT, (tenant, def_name, key))
    if event is not None:
        correlate(step.tx, tenant, event, [step.node_run_id])


def stop_waiting(tx: Transaction, tenant: str, node_run: NodeRun) -> None:
    """The NodeRun no longer waits for the key that it waits for, if it does, whatever the reason."""
    waiting = node_run.external_event
    if waiting.HasField("correlation_key"):
        name = waiting.external_event_def_id.name
        tx.delete(kinds.MARKER, _marker(tenant, name, waiting.correlation_key, node_run.id))


def waiting_node_runs(tx: Transaction, tenant: str, def_name: str, key: str) -> list[NodeRunId]:
    """The NodeRuns that wait for a key, in the order of their ids, which is the same however the lane was loaded."""
    markers = sorted(tx.scan(kinds.MARKER, (tenant, def_name, key)))
    return [
        NodeRunId(wf_run_id=parse_wf_run_id(run), thread_run_number=thread, position=position)
        for _, _, _, run, thread, position in markers
    ]


def correlate(tx: Transaction, tenant: str, event: CorrelatedEvent, waiters: list[NodeRunId]) -> CorrelatedEvent:
    """Give a stored CorrelatedEvent to waiting NodeRuns: an ExternalEvent for each, in its WfRun.

    Returns the CorrelatedEvent as it then is, also when it is deleted because it has been correlated.
    """
    def_name, key = event.id.external_event_def_id.name, event.id.key
    definition = tx.get(kinds.EXTERNAL_EVENT_DEF, (tenant, def_name))
    event = tx.edit(kinds.CORRELATED_EVENT, (tenant, def_name, key))
    if definition is None or not _fits(tx, tenant, event, definition):
        return event
    origin = tx.get(kinds.CORRELATED_EVENT_ORIGIN, (tenant, def_name, key))
    for waiter in waiters:
        external_event = _external_event(tx, event, waiter)
        events.store(tx, tenant, external_event, definition, origin)
        event.external_events.append(external_event.id)
        tx.delete(kinds.MARKER, _marker(tenant, def_name, key, waiter))
    if waiters and definition.correlated_event_config.delete_after_first_correlation:
        _remove(tx, tenant, def_name, key)
    return event


def _fits(tx: Transaction, tenant: str, event: CorrelatedEvent, definition: ExternalEventDef) -> bool:
    """Whether the content is still one for the def, which may have changed since the event was put."""
    try:
        events.accept_content(definition, event.content, StoredStructDefs(tx, tenant), void_takes_anything=False)
    except EvaluationError:
        return False
    return True


def _external_event(tx: Transaction, event: CorrelatedEvent, waiter: NodeRunId) -> ExternalEvent:
    return ExternalEvent(
        id=ExternalEventId(
            wf_run_id=waiter.wf_run_id, external_event_def_id=event.id.external_event_def_id, guid=tx.new_id()
        ),
        created_at=timestamp(tx.now_ms),
        content=event.content,
        thread_run_number=waiter.thread_run_number,
        node_run_position=waiter.position,
    )


def give_to_waiting(tx: Transaction, tenant: str, event: CorrelatedEvent) -> CorrelatedEvent:
    """Give the live event to every NodeRun that waits for its key, and have their WfRuns advanced."""
    waiters = waiting_node_runs(tx, tenant, event.id.external_event_def_id.name, event.id.key)
    event = correlate(tx, tenant, event, waiters)
    for waiter in waiters:
        tx.send(AdvanceRun(waiter.wf_run_id))
    return event


def store(
    tx: Transaction, tenant: str, event: CorrelatedEvent, definition: ExternalEventDef, origin: str | None
) -> None:
    """Store a CorrelatedEvent that nobody has been given yet, and arm its time to live."""
    key = (tenant, event.id.external_event_def_id.name, event.id.key)
    tx.put(kinds.CORRELATED_EVENT, key, event)
    if origin is not None:
        tx.put(kinds.CORRELATED_EVENT_ORIGIN, key, origin)
    if definition.correlated_event_config.HasField("ttl_seconds"):
        created_ms = milliseconds(event.created_at)
        due_ms = created_ms + definition.correlated_event_config.ttl_seconds * 1000
        timer = _ttl_timer(*key, due_ms, created_ms)
        tx.put(kinds.TIMER, timer.key, timer)


def enqueue(tx: Transaction, tenant: str, event: CorrelatedEvent, origin: str) -> None:
    """Keep an event for the time when the live one of its key, and those queued before, are gone. Raises Rejection."""
    lane = (tenant, event.id.external_event_def_id.name, event.id.key)
    queued = tx.scan(kinds.QUEUED_EVENT, lane)
    if len(queued) >= tx.settings.queued_events_max:
        text = f"{len(queued)} events with this key wait behind the live one already; at most that many are kept"
        raise Rejection(Code.RESOURCE_EXHAUSTED, text)
    number = max((number for _, _, _, number in queued), default=0) + 1
    tx.put(kinds.QUEUED_EVENT, (*lane, number), QueuedEvent(event, origin))


def delete(tx: Transaction, tenant: str, def_name: str, key: str, outcome: Outcome) -> None:
    """Delete a CorrelatedEvent, if there is one; the ExternalEvents made from it stay, the next one becomes live."""
    origin = tx.get(kinds.CORRELATED_EVENT_ORIGIN, (tenant, def_name, key))
    event = tx.get(kinds.CORRELATED_EVENT, (tenant, def_name, key))
    if origin is not None and event is not None and not event.external_events:
        expiry.settle(tx, tenant, origin, outcome, Moved(tx.now_ms))
    _remove(tx, tenant, def_name, key)


def clear(tx: Transaction, tenant: str, def_name: str, key: str) -> None:
    """Delete the live CorrelatedEvent of a key and those that wait behind it: a newer one takes their place."""
    for queued_key, queued in tx.scan(kinds.QUEUED_EVENT, (tenant, def_name, key)).items():
        tx.delete(kinds.QUEUED_EVENT, queued_key)
        expiry.settle(tx, tenant, queued.origin, Outcome.DELETED, Moved(tx.now_ms))
    delete(tx, tenant, def_name, key, Outcome.DELETED)


def expire(tx: Transaction, timer: Timer) -> None:
    """A time to live is over: deletes the CorrelatedEvent it was armed for, not a successor with the same key."""
    def_name, key, created_ms = str(timer.target[0]), str(timer.target[1]), timer.target[2]
    event = tx.get(kinds.CORRELATED_EVENT, (timer.tenant, def_name, key))
    if event is not None and milliseconds(event.created_at) == created_ms:
        delete(tx, timer.tenant, def_name, key, Outcome.EXPIRED)


def _remove(tx: Transaction, tenant: str, def_name: str, key: str) -> None:
    event = tx.get(kinds.CORRELATED_EVENT, (tenant, def_name, key))
    if event is None:
        return
    tx.delete(kinds.CORRELATED_EVENT, (tenant, def_name, key))
    tx.delete(kinds.CORRELATED_EVENT_ORIGIN, (tenant, def_name, key))
    tx.delete(kinds.TIMER, _ttl_timer(tenant, def_name, key, 0, milliseconds(event.created_at)).key)
    _promote(tx, tenant, def_name, key)


def _promote(tx: Transaction, tenant: str, def_name: str, key: str) -> None:
    """Make the oldest queued event live whose time to live is not over yet, and give it to who waits.

    Somebody waits only where the one that is gone could not be given to him, since its def has changed.
    """
    queued = tx.scan(kinds.QUEUED_EVENT, (tenant, def_name, key))
    definition = tx.get(kinds.EXTERNAL_EVENT_DEF, (tenant, def_name))
    if definition is None:
        return
    config = definition.correlated_event_config
    for queued_key in sorted(queued, key=lambda one: int(one[3])):
        tx.delete(kinds.QUEUED_EVENT, queued_key)
        event, origin = queued[queued_key].event, queued[queued_key].origin
        if not config.HasField("ttl_seconds") or tx.now_ms < milliseconds(event.created_at) + config.ttl_seconds * 1000:
            live = CorrelatedEvent()
            live.CopyFrom(event)
            store(tx, tenant, live, definition, origin)
            give_to_waiting(tx, tenant, live)
            return
        expiry.settle(tx, tenant, origin, Outcome.EXPIRED, Moved(tx.now_ms))


def _ttl_timer(tenant: str, def_name: str, key: str, due_ms: int, created_ms: int) -> Timer:
    return Timer(due_ms, tenant, "", TimerAction.CORRELATED_EVENT_TTL, (def_name, key, created_ms))


def _marker(tenant: str, def_name: str, key: str, waiter: NodeRunId) -> tuple[Any, ...]:
    _, run, thread, position = node_run_key(tenant, waiter)
    return tenant, def_name, key, run, thread, position
