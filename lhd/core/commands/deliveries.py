"""What becomes of a signal that a source brought: dedupe, event, ledger, dead letter, cursor in one transaction."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from littlehorse.model import (
    ExternalEventDef,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    RunWfRequest,
    WfRunId,
)

from lhd.core import correlation, expiry, kinds
from lhd.core.commands.events import correlate_delivery, put_external_event
from lhd.core.commands.metadata import put_external_event_def
from lhd.core.commands.wf_runs import run_wf
from lhd.core.expiry import StartExpired
from lhd.core.ids import is_lh_name, printed, run_key
from lhd.core.kinds import (
    TERMINAL,
    DeadLetter,
    ExpiryPlan,
    LedgerRow,
    Moved,
    OnSameKey,
    Outcome,
    SeenDelivery,
    Untaken,
    Verdict,
)
from lhd.core.records import Transaction
from lhd.errors import Code, Rejection, invalid_argument


@dataclass(frozen=True, slots=True)
class Unmapped:
    """No event came of the signal: no route wanted it (filtered), or a route's expression failed (dead)."""

    verdict: Verdict
    reason: str


WHOLE = ""
"""The part under which the cursor of a source as a whole is kept."""
_ATTRIBUTES_CHARACTERS_MAX = 65_536
NOT_STORED = (Verdict.DEAD, Verdict.CONFLICT)
"""The verdicts on signals of which nothing has come, though something should."""
Mapped = PutExternalEventRequest | PutCorrelatedEventRequest | RunWfRequest


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signal with what its route made of it.

    ``digest`` is of the body; ``body`` and ``attributes``, JSON-like, are kept only when the signal dies. ``start`` is
    the WfRun to start where ``on_unmatched`` or ``on_expired`` says so. ``sender_id`` is what its sender calls it.
    Of one that ``is_lost`` nobody has the body. ``positions`` are stored unless it is dead or a conflict.
    """

    identity: str
    digest: bytes
    mapped: Mapped | Unmapped
    route: str
    body: bytes
    content_type: str
    on_same_key: OnSameKey | None = None
    start: RunWfRequest | None = None
    on_unmatched: Untaken = Untaken.STORE
    on_expired: Untaken = Untaken.STORE
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sender_id: str | None = None
    is_lost: bool = False
    positions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deliver:
    """Signals of one source, in order, with the cursor to keep beside them (JSON text; None leaves it alone).

    ``positions`` are the cursors of its parts (None forgets one). With ``whole`` nothing is stored where one signal
    would not be: because it is dead, or a conflict. ``is_retry`` tells that they are dead letters, which are delivered
    again although they may be known; ``as_new`` that each is looked at as if it had never come, which is for
    rehearsals.
    """

    source: str
    deliveries: tuple[Delivery, ...]
    cursor: str | None
    positions: Mapping[str, str | None] = field(default_factory=dict)
    whole: bool = False
    is_retry: bool = False
    as_new: bool = False


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Decide a delivery and change nothing."""

    deliver: Deliver


@dataclass(frozen=True, slots=True)
class DropDeadLetter:
    """A dead letter is not wanted any more; with a ``count``, unless it has died more often than that by now."""

    source: str
    identity: str
    count: int | None = None


@dataclass(frozen=True, slots=True)
class ResetSource:
    """Forget where a source is; with ``new_epoch`` also say that what it reads has begun anew.

    With a ``part`` only this part of it, whose ``positions`` these are.
    """

    source: str
    new_epoch: bool
    part: str = WHOLE
    positions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one signal; ``delivery_id`` is the name under which the ledger explains it."""

    verdict: Verdict
    delivery_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What would become of a signal, and the WfRuns that would be given its event or be started."""

    decision: Decision
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnsureEventDef:
    """An ExternalEventDef of the configuration is to exist."""

    request: PutExternalEventDefRequest


def deliver(tx: Transaction, tenant: str, request: Deliver) -> list[Decision]:
    """Decide each signal on its own: one that cannot be stored becomes a dead letter and the others go on."""
    if not request.whole:
        return _deliver(tx, tenant, request)
    decisions: list[Decision] = []
    with suppress(_Over), tx.savepoint() as nested:
        decisions = _deliver(nested, tenant, request)
        if any(decision.verdict in NOT_STORED for decision in decisions):
            raise _Over
    return decisions


def _deliver(tx: Transaction, tenant: str, request: Deliver) -> list[Decision]:
    keys = [(tenant, request.source, one.identity) for one in request.deliveries]
    tx.need([kind.lane_of(key) for key in keys for kind in (kinds.SEEN_DELIVERY, kinds.DEAD_LETTER)])
    if request.cursor is not None:
        tx.put(kinds.CURSOR, (tenant, request.source, WHOLE), request.cursor)
    _put_positions(tx, tenant, request.source, request.positions)
    decisions = [_decide(tx, key, one, request) for key, one in zip(keys, request.deliveries, strict=True)]
    for decision, one in zip(decisions, request.deliveries, strict=True):
        if decision.verdict not in NOT_STORED:
            _put_positions(tx, tenant, request.source, one.positions)
    return decisions


def _put_positions(tx: Transaction, tenant: str, source: str, positions: Mapping[str, str | None]) -> None:
    for part, position in positions.items():
        if position is None:
            tx.delete(kinds.CURSOR, (tenant, source, part))
        else:
            tx.put(kinds.CURSOR, (tenant, source, part), position)


def reset_source(tx: Transaction, tenant: str, request: ResetSource) -> int:
    """Forget the cursor and all positions of a source, or the positions of a part; the reply is the epoch of that."""
    if request.part == WHOLE:
        tx.clear(kinds.CURSOR.lane_of((tenant, request.source, WHOLE)))
    for position in request.positions:
        tx.delete(kinds.CURSOR, (tenant, request.source, position))
    key = (tenant, request.source, request.part)
    epoch = tx.get(kinds.SOURCE_EPOCH, key) or 0
    if request.new_epoch:
        epoch += 1
        tx.put(kinds.SOURCE_EPOCH, key, epoch)
    return epoch


def rehearse(tx: Transaction, tenant: str, request: Rehearse) -> list[Rehearsed]:
    """What :func:`deliver` would answer just now."""
    rehearsed: list[Rehearsed] = []
    try:
        with tx.savepoint() as nested:
            decisions = deliver(nested, tenant, request.deliver)
            runs = {
                key[1]: None for kind in (kinds.EXTERNAL_EVENT, kinds.WF_RUN) for key in nested.writes.get(kind, {})
            }
            rehearsed = [Rehearsed(decision, tuple(runs)) for decision in decisions]
            raise _Over
    except _Over:
        return rehearsed


class _Over(Exception):
    """What was decided is dropped."""


def drop_dead_letter(tx: Transaction, tenant: str, request: DropDeadLetter) -> bool:
    """Delete a dead letter; the reply tells whether it was deleted."""
    key = (tenant, request.source, request.identity)
    letter = tx.get(kinds.DEAD_LETTER, key)
    if letter is None or (request.count is not None and letter.count > request.count):
        return False
    tx.delete(kinds.DEAD_LETTER, key)
    return True


def start_expired(tx: Transaction, tenant: str, request: StartExpired) -> None:
    """Start the WfRun of a delivery whose event has expired, and give it the event once more.

    Where that is refused the delivery stays a dead letter.
    """
    plan, delivery_id = request.plan, request.plan.letter.delivery_id
    assert plan.start is not None
    try:
        with tx.savepoint() as nested:
            run = _start(nested, tenant, plan.start, delivery_id, has_event=True)
            expiry.unbury(nested, tenant, plan)
            if isinstance(plan.event, PutCorrelatedEventRequest):
                correlate_delivery(nested, tenant, plan.event, delivery_id, OnSameKey.QUEUE)
            else:
                event = PutExternalEventRequest()
                event.CopyFrom(plan.event)
                event.wf_run_id.CopyFrom(WfRunId(id=run))
                put_external_event(nested, tenant, event, delivery_id)
    except Rejection as rejection:
        expiry.bury(tx, tenant, plan, f"{expiry.REASON}, and no run could be started: {rejection.text}")
        tx.put(kinds.OUTCOME, (tenant, delivery_id, Outcome.EXPIRED), Moved(tx.now_ms))


def _decide(tx: Transaction, key: tuple[str, str, str], delivery: Delivery, request: Deliver) -> Decision:
    dead = tx.get(kinds.DEAD_LETTER, key)
    if request.is_retry and dead is None:
        raise Rejection(Code.NOT_FOUND, "there is no such dead letter any more")
    seen = tx.get(kinds.SEEN_DELIVERY, key)
    counts = not (request.is_retry or request.as_new)
    if counts and seen is not None and tx.now_ms - seen.seen_ms < tx.settings.dedupe_ms:
        return _seen_before(tx, key, delivery, seen)
    row = LedgerRow(
        delivery_id=tx.new_id() if dead is None else dead.delivery_id,
        tenant=key[0],
        source=key[1],
        identity=key[2],
        received_ms=tx.now_ms,
        verdict=Verdict.ACCEPTED,
        route=delivery.route,
        sender_id=delivery.sender_id,
        **_target(delivery),
    )
    try:
        with tx.savepoint() as nested:
            if dead is not None:
                for outcome in Outcome:
                    # The row begins anew; what became of it before, in this very commit perhaps, must not move it.
                    nested.delete(kinds.OUTCOME, (key[0], row.delivery_id, outcome))
            row = _store(nested, key[0], delivery, row)
    except Rejection as rejection:
        return _die(tx, key, delivery, row, dead, rejection.text)
    if row.verdict == Verdict.DEAD:
        return _die(tx, key, delivery, row, dead, row.reason)
    if dead is not None:
        tx.delete(kinds.DEAD_LETTER, key)
    tx.put(kinds.SEEN_DELIVERY, key, SeenDelivery(row.delivery_id, delivery.digest, tx.now_ms))
    tx.put(kinds.LEDGER, (key[0], row.delivery_id), row)
    return Decision(row.verdict, row.delivery_id, row.reason)


def _target(delivery: Delivery) -> dict[str, Any]:
    mapped = delivery.mapped
    if isinstance(mapped, Unmapped | RunWfRequest):
        return {}
    target = {"event_def": mapped.external_event_def_id.name}
    if isinstance(mapped, PutCorrelatedEventRequest):
        return target | {"correlation_key": mapped.key}
    return target | {"run": printed(mapped.wf_run_id)}


def _seen_before(tx: Transaction, key: tuple[str, str, str], delivery: Delivery, seen: SeenDelivery) -> Decision:
    if seen.digest == delivery.digest:
        return Decision(Verdict.DUPLICATE, seen.delivery_id)
    reason = f"the delivery {seen.delivery_id} had the same identity and another body"
    row = LedgerRow(tx.new_id(), key[0], key[1], key[2], tx.now_ms, Verdict.CONFLICT, reason, delivery.route)
    tx.put(kinds.LEDGER, (key[0], row.delivery_id), replace(row, sender_id=delivery.sender_id))
    return Decision(Verdict.CONFLICT, row.delivery_id, reason)


def _store(tx: Transaction, tenant: str, delivery: Delivery, row: LedgerRow) -> LedgerRow:
    mapped = delivery.mapped
    if isinstance(mapped, Unmapped):
        return replace(row, verdict=mapped.verdict, reason=mapped.reason)
    if mapped.ByteSize() > tx.settings.record_bytes_max:
        text = f"the event has {mapped.ByteSize()} bytes, a stored record at most {tx.settings.record_bytes_max}"
        raise Rejection(Code.RESOURCE_EXHAUSTED, text)
    if isinstance(mapped, RunWfRequest):
        return replace(row, outcome=Outcome.DELIVERED, run=_start(tx, tenant, mapped, row.delivery_id, has_event=False))
    _prepare(tx, tenant, mapped, delivery, row.delivery_id)
    if delivery.on_expired != Untaken.STORE:
        start = delivery.start if delivery.on_expired == Untaken.START else None
        letter = _dead_letter(tx, row.delivery_id, delivery, expiry.REASON)
        plan = ExpiryPlan(row.source, row.identity, mapped, start, letter)
        tx.put(kinds.EXPIRY_PLAN, (tenant, row.delivery_id), plan)
    if isinstance(mapped, PutCorrelatedEventRequest):
        correlate_delivery(tx, tenant, mapped, row.delivery_id, delivery.on_same_key)
        return replace(row, outcome=Outcome.WAITING)
    request = PutExternalEventRequest()
    request.CopyFrom(mapped)
    request.guid = row.delivery_id
    put_external_event(tx, tenant, request, row.delivery_id)
    return replace(row, outcome=Outcome.WAITING, guid=row.delivery_id)


def _prepare(
    tx: Transaction,
    tenant: str,
    mapped: PutExternalEventRequest | PutCorrelatedEventRequest,
    delivery: Delivery,
    delivery_id: str,
) -> None:
    """Do what ``on_unmatched`` says where nobody waits for the event. Raises Rejection where it is to be dead."""
    if delivery.on_unmatched == Untaken.STORE:
        return
    if isinstance(mapped, PutCorrelatedEventRequest):
        if correlation.waiting_node_runs(tx, tenant, mapped.external_event_def_id.name, mapped.key):
            return
        missing = "no run waits for this key"
    else:
        wf_run = tx.get(kinds.WF_RUN, run_key(tenant, mapped.wf_run_id))
        if wf_run is not None and wf_run.status not in TERMINAL:
            return
        missing = f"WfRun {printed(mapped.wf_run_id)} {'does not exist' if wf_run is None else 'has ended'}"
        if wf_run is not None:
            raise Rejection(Code.FAILED_PRECONDITION, missing)
    if delivery.on_unmatched == Untaken.DEAD or delivery.start is None:
        raise Rejection(Code.FAILED_PRECONDITION, missing)
    _start(tx, tenant, delivery.start, delivery_id, has_event=True)


def _start(tx: Transaction, tenant: str, request: RunWfRequest, delivery_id: str, *, has_event: bool) -> str:
    """Start a WfRun unless there is one of its id, which is the delivery's where the request names none.

    Returns the id. Raises Rejection where the run can take no event any more and is to have one.
    """
    named = RunWfRequest()
    named.CopyFrom(request)
    if not named.HasField("id"):
        named.id = delivery_id
    elif not is_lh_name(named.id):
        # RunWf would tell the id, which is the signal's.
        raise invalid_argument("start.id is not the id of a WfRun: use letters, digits and inner hyphens")
    existing = tx.get(kinds.WF_RUN, run_key(tenant, WfRunId(id=named.id)))
    if existing is None:
        run_wf(tx, tenant, named)
    elif has_event and existing.status in TERMINAL:
        raise Rejection(Code.FAILED_PRECONDITION, "the WfRun of start.id has ended")
    return named.id


def _die(
    tx: Transaction,
    key: tuple[str, str, str],
    delivery: Delivery,
    row: LedgerRow,
    dead: DeadLetter | None,
    reason: str,
) -> Decision:
    if dead is None:
        letter = _dead_letter(tx, row.delivery_id, delivery, reason)
        tx.put(kinds.LEDGER, (key[0], row.delivery_id), replace(row, verdict=Verdict.DEAD, reason=reason))
    else:
        letter = replace(dead, reason=reason, last_ms=tx.now_ms, count=dead.count + 1)
    tx.put(kinds.DEAD_LETTER, key, letter)
    return Decision(Verdict.DEAD, letter.delivery_id, reason)


def _dead_letter(tx: Transaction, delivery_id: str, delivery: Delivery, reason: str) -> DeadLetter:
    limit = tx.settings.dead_letter_bytes_max
    # Text that is no Unicode, of headers say, is made so.
    attributes = json.dumps(dict(delivery.attributes), default=str, ensure_ascii=False)
    attributes = attributes.encode("utf-8", "replace").decode()
    return DeadLetter(
        delivery_id,
        reason,
        tx.now_ms,
        tx.now_ms,
        1,
        delivery.body[:limit],
        delivery.content_type,
        attributes if len(attributes) <= _ATTRIBUTES_CHARACTERS_MAX else "{}",
        is_cut=delivery.is_lost or len(delivery.body) > limit or len(attributes) > _ATTRIBUTES_CHARACTERS_MAX,
    )


def ensure_event_def(tx: Transaction, tenant: str, request: EnsureEventDef) -> ExternalEventDef:
    """Create the ExternalEventDef, or change what the configuration sets of the stored one."""
    name = request.request.name
    stored = tx.get(kinds.EXTERNAL_EVENT_DEF, (tenant, name))
    if stored is None:
        return put_external_event_def(tx, tenant, request.request)
    again = PutExternalEventDefRequest(name=name, retention_policy=stored.retention_policy)
    if stored.HasField("type_information"):
        again.content_type.CopyFrom(stored.type_information)
    if stored.HasField("correlated_event_config"):
        again.correlated_event_config.CopyFrom(stored.correlated_event_config)
    return put_external_event_def(tx, tenant, again)
