"""A world that shows the ledger, and signals for it."""

from dataclasses import replace
from typing import Any

from littlehorse.model import (
    ExternalEventDefId,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    WfRunId,
)
from littlehorse.utils import to_variable_value

from lhd.core import kinds
from lhd.core.commands.deliveries import WHOLE, Decision, Deliver, Delivery, Unmapped
from lhd.core.kinds import DeadLetter, LedgerRow, OnSameKey, Outcome, Verdict
from lhd.core.settings import Settings
from tests.core.world import TENANT, World


class LedgerWorld(World):
    """Keeps what the core writes and never reads: the ledger and the outcomes."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.ledger: dict[str, LedgerRow] = {}
        self.outcomes: dict[str, list[tuple[Outcome, int]]] = {}
        self.cursors: dict[str, str] = {}
        """Of the source ``hook``, by part."""

    def _take_effects(self) -> None:
        for (_, delivery_id), row in self.memory.pending.get(kinds.LEDGER, {}).items():
            self.ledger[delivery_id] = row
        for (_, delivery_id, outcome), moved in self.memory.pending.get(kinds.OUTCOME, {}).items():
            if moved is None:
                continue
            self.outcomes.setdefault(delivery_id, []).append((Outcome(outcome), moved.at_ms))
        lane = kinds.CURSOR.lane_of((TENANT, "hook", WHOLE))
        if lane in self.memory.cleared:
            self.cursors.clear()
        for (_, source, part), value in self.memory.pending.get(kinds.CURSOR, {}).items():
            if source == "hook":
                self.cursors.pop(part, None)
                self.cursors |= {} if value is None else {part: value}
        super()._take_effects()

    def deliver(self, *deliveries: Delivery, source: str = "hook", cursor: str | None = None) -> list[Decision]:
        """One batch of a source."""
        decisions: list[Decision] = self.submit(Deliver(source, deliveries, cursor))
        return decisions

    def deliver_one(self, delivery: Delivery, source: str = "hook") -> Decision:
        """A batch of one."""
        (decision,) = self.deliver(delivery, source=source)
        return decision

    def dead_letter(self, identity: str, source: str = "hook") -> DeadLetter | None:
        """The dead letter of an identity."""
        return self.memory.lookup(kinds.DEAD_LETTER, (TENANT, source, identity))

    def outcome(self, delivery_id: str) -> Outcome | None:
        """Where an accepted delivery stands: its first move counts."""
        moves = self.outcomes.get(delivery_id)
        return moves[0][0] if moves else self.ledger[delivery_id].outcome


def event(
    identity: str,
    content: Any = "content",
    *,
    body: bytes = b"body",
    run: str = "r",
    event_def: str = "paid",
    position: int | None = None,
) -> Delivery:
    """A signal that its route turned into an ExternalEvent."""
    request = PutExternalEventRequest(
        wf_run_id=WfRunId(id=run),
        external_event_def_id=ExternalEventDefId(name=event_def),
        content=to_variable_value(content),
        node_run_position=position,
    )
    return delivery(identity, request, body)


def keyed(
    identity: str,
    key: str = "k",
    content: Any = "content",
    *,
    body: bytes = b"body",
    event_def: str = "keyed",
    on_same_key: OnSameKey | None = None,
) -> Delivery:
    """A signal that its route turned into a CorrelatedEvent."""
    request = PutCorrelatedEventRequest(
        key=key, external_event_def_id=ExternalEventDefId(name=event_def), content=to_variable_value(content)
    )
    return replace(delivery(identity, request, body), on_same_key=on_same_key)


def unmapped(identity: str, verdict: Verdict, reason: str = "why", *, body: bytes = b"body") -> Delivery:
    """A signal of which no event came."""
    return delivery(identity, Unmapped(verdict, reason), body)


def delivery(
    identity: str, mapped: PutExternalEventRequest | PutCorrelatedEventRequest | Unmapped, body: bytes
) -> Delivery:
    return Delivery(
        identity=identity,
        digest=b"digest of " + body,
        mapped=mapped,
        route="the-route",
        body=body,
        content_type="text/plain",
    )
