"""What becomes of a connector's event that nobody took in its time, where its route says more than to note it."""

from dataclasses import dataclass, replace

from lhd.core import kinds
from lhd.core.kinds import ExpiryPlan
from lhd.core.records import Transaction

REASON = "nobody took the event in its time"


@dataclass(frozen=True, slots=True)
class StartExpired:
    """The event of this delivery has expired, and its route starts a WfRun then."""

    plan: ExpiryPlan


def expired(tx: Transaction, tenant: str, delivery_id: str) -> None:
    """Carry out the plan of a delivery whose event has just expired, if there is one."""
    plan = tx.get(kinds.EXPIRY_PLAN, (tenant, delivery_id))
    if plan is None:
        return
    tx.delete(kinds.EXPIRY_PLAN, (tenant, delivery_id))
    if plan.start is not None:
        tx.send(StartExpired(plan))
    else:
        bury(tx, tenant, plan, REASON)


def bury(tx: Transaction, tenant: str, plan: ExpiryPlan, reason: str) -> None:
    """Make the delivery a dead letter, which an operator can retry and its sender can deliver again."""
    tx.delete(kinds.SEEN_DELIVERY, (tenant, plan.source, plan.identity))
    letter = replace(plan.letter, reason=reason, last_ms=tx.now_ms)
    tx.put(kinds.DEAD_LETTER, (tenant, plan.source, plan.identity), letter)
