"""What becomes of a signal that a source brought: dedupe, event, ledger, dead letter and cursor in one transaction."""

from dataclasses import dataclass, replace
from typing import Any

from littlehorse.model import (
    ExternalEventDef,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
)

from lhd.core import kinds
from lhd.core.commands.events import correlate_delivery, put_external_event
from lhd.core.commands.metadata import put_external_event_def
from lhd.core.ids import printed
from lhd.core.kinds import DeadLetter, LedgerRow, OnSameKey, Outcome, SeenDelivery, Verdict
from lhd.core.records import Transaction
from lhd.errors import Code, Rejection


@dataclass(frozen=True, slots=True)
class Unmapped:
    """No event came of the signal: no route wanted it (filtered), or a route's expression failed (dead)."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signal with what its route made of it. ``digest`` is of the body; ``body`` is kept only when it dies."""

    identity: str
    digest: bytes
    mapped: PutExternalEventRequest | PutCorrelatedEventRequest | Unmapped
    route: str
    body: bytes
    content_type: str
    on_same_key: OnSameKey | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Signals of one source, in order, with the cursor to keep beside them (JSON text; None leaves it alone)."""

    source: str
    deliveries: tuple[Delivery, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one signal; ``delivery_id`` is the name under which the ledger explains it."""

    verdict: Verdict
    delivery_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EnsureEventDef:
    """An ExternalEventDef of the configuration is to exist."""

    request: PutExternalEventDefRequest


def deliver(tx: Transaction, tenant: str, request: Deliver) -> list[Decision]:
    """Decide each signal on its own: one that cannot be stored becomes a dead letter and the others go on."""
    keys = [(tenant, request.source, one.identity) for one in request.deliveries]
    tx.need([kind.lane_of(key) for key in keys for kind in (kinds.SEEN_DELIVERY, kinds.DEAD_LETTER)])
    if request.cursor is not None:
        tx.put(kinds.CURSOR, (tenant, request.source), request.cursor)
    return [_decide(tx, key, one) for key, one in zip(keys, request.deliveries, strict=True)]


def _decide(tx: Transaction, key: tuple[str, str, str], delivery: Delivery) -> Decision:
    seen = tx.get(kinds.SEEN_DELIVERY, key)
    if seen is not None and tx.now_ms - seen.seen_ms < tx.settings.dedupe_ms:
        return _seen_before(tx, key, delivery, seen)
    dead = tx.get(kinds.DEAD_LETTER, key)
    row = LedgerRow(
        delivery_id=tx.new_id() if dead is None else dead.delivery_id,
        tenant=key[0],
        source=key[1],
        identity=key[2],
        received_ms=tx.now_ms,
        verdict=Verdict.ACCEPTED,
        route=delivery.route,
        **_target(delivery),
    )
    try:
        with tx.savepoint() as nested:
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
    if isinstance(mapped, Unmapped):
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
    tx.put(kinds.LEDGER, (key[0], row.delivery_id), row)
    return Decision(Verdict.CONFLICT, row.delivery_id, reason)


def _store(tx: Transaction, tenant: str, delivery: Delivery, row: LedgerRow) -> LedgerRow:
    mapped = delivery.mapped
    if isinstance(mapped, Unmapped):
        return replace(row, verdict=mapped.verdict, reason=mapped.reason)
    if mapped.ByteSize() > tx.settings.record_bytes_max:
        text = f"the event has {mapped.ByteSize()} bytes, a stored record at most {tx.settings.record_bytes_max}"
        raise Rejection(Code.RESOURCE_EXHAUSTED, text)
    if isinstance(mapped, PutCorrelatedEventRequest):
        correlate_delivery(tx, tenant, mapped, row.delivery_id, delivery.on_same_key)
        return replace(row, outcome=Outcome.WAITING)
    request = PutExternalEventRequest()
    request.CopyFrom(mapped)
    request.guid = row.delivery_id
    put_external_event(tx, tenant, request, row.delivery_id)
    return replace(row, outcome=Outcome.WAITING, guid=row.delivery_id)


def _die(
    tx: Transaction,
    key: tuple[str, str, str],
    delivery: Delivery,
    row: LedgerRow,
    dead: DeadLetter | None,
    reason: str,
) -> Decision:
    if dead is None:
        body = delivery.body[: tx.settings.dead_letter_bytes_max]
        letter = DeadLetter(row.delivery_id, reason, tx.now_ms, tx.now_ms, 1, body, delivery.content_type)
        tx.put(kinds.LEDGER, (key[0], row.delivery_id), replace(row, verdict=Verdict.DEAD, reason=reason))
    else:
        letter = replace(dead, reason=reason, last_ms=tx.now_ms, count=dead.count + 1)
    tx.put(kinds.DEAD_LETTER, key, letter)
    return Decision(Verdict.DEAD, letter.delivery_id, reason)


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
