"""What becomes of a connector's event that nobody took in its time, where its route says more than to note it."""

from dataclasses import dataclass, replace

from lhd.core import kinds
from lhd.core.kinds import ExpiryPlan, Moved, Outcome
from lhd.core.records import Transaction

REASON = "nobody took the event in its time"


@dataclass(frozen=True, slots=True)
class StartExpired:
    """The event of this delivery has expired, and its route starts a WfRun then, which is given the event."""

    plan: ExpiryPlan


def settle(tx: Transaction, tenant: str, delivery_id: str, outcome: Outcome, moved: Moved) -> None:
    """Tell the ledger what became of a delivery; where its event has expired, carry out its plan first.

    An event that is given to a run that is started for it waits on, once: when it expires again it is dead.
    """
    if outcome != Outcome.EXPIRED:
        tx.delete(kinds.EXPIRY_PLAN, (tenant, delivery_id))
    elif (plan := tx.get(kinds.EXPIRY_PLAN, (tenant, delivery_id))) is not None:
        # Until the run has its event the letter stands for it, whatever happens.
        bury(tx, tenant, plan, REASON)
        if plan.start is not None:
            tx.send(StartExpired(plan))
            return
    tx.put(kinds.OUTCOME, (tenant, delivery_id, outcome), moved)


def bury(tx: Transaction, tenant: str, plan: ExpiryPlan, reason: str) -> None:
    """Make the delivery a dead letter, which an operator can retry and its sender can deliver again."""
    key = (tenant, plan.source, plan.identity)
    tx.delete(kinds.EXPIRY_PLAN, (tenant, plan.letter.delivery_id))
    seen = tx.get(kinds.SEEN_DELIVERY, key)
    if seen is not None and seen.delivery_id == plan.letter.delivery_id:
        tx.delete(kinds.SEEN_DELIVERY, key)
    tx.put(kinds.DEAD_LETTER, key, replace(plan.letter, reason=reason, last_ms=tx.now_ms))


def unbury(tx: Transaction, tenant: str, plan: ExpiryPlan) -> None:
    """The delivery has another chance, and no further run when that is over, too."""
    key = (tenant, plan.source, plan.identity)
    tx.delete(kinds.DEAD_LETTER, key)
    tx.put(kinds.EXPIRY_PLAN, (tenant, plan.letter.delivery_id), replace(plan, start=None))
