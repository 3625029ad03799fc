"""The way in: maps a source's events, submits them as one command, and hands out the receipts."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import orjson

from lhd.core.commands import Command
from lhd.core.commands.deliveries import Decision, Deliver
from lhd.engine import Engine
from lhd.errors import Rejection
from lhd.intake.acknowledgement import Acknowledgements
from lhd.intake.kept import KeptSignals
from lhd.intake.routes import Routes
from lhd.metrics import DELIVERIES, REFUSED
from lhd.plugin import KEEP, Acknowledgement, Event, Overloaded, Receipt, SourceConfig, Transient
from lhd.store import Reader

_TRY_AGAIN_S = 5.0


class Refusals:
    """What doors refused of late: counted by source and reason, and the last few kept, in memory only."""

    def __init__(self, keep: int) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.last: deque[dict[str, str | int]] = deque(maxlen=keep)

    def note(self, source: str, reason: str, at_ms: int, facts: dict[str, str | int]) -> None:
        """Note one refusal."""
        self.counts[source, reason] += 1
        self.last.append({"source": source, "reason": reason, "at_ms": at_ms, **facts})
        REFUSED.labels(source, reason).inc()


class Intake:
    """The intake of one source."""

    def __init__(self, engine: Engine, reader: Reader, source: str, config: SourceConfig, routes: Routes) -> None:
        self._engine = engine
        self._tenant = config.tenant
        self._source = source
        self._kind = config.kind
        self._routes = routes
        self.acknowledgements = Acknowledgements(engine, reader, config.tenant)
        self.kept = KeptSignals(config.keep_payloads, config.keep_payloads_bytes)

    @property
    def overloaded(self) -> bool:
        """Whether :meth:`commit` would raise Overloaded just now."""
        return self._engine.overloaded

    async def commit(self, events: Sequence[Event], cursor: Any = KEEP) -> list[Receipt]:
        """Store events and cursor in one transaction; one receipt for each event, once that is durable.

        Raises Overloaded, and Transient where nothing was stored for another reason.
        """
        if self._engine.overloaded:
            raise Overloaded(self._engine.drain_s)
        delay_ms = self._engine.quotas.delay_ms(self._tenant)
        if delay_ms is not None:
            raise Overloaded(delay_ms / 1000)
        meta = {"source": self._source, "kind": self._kind, "received_at": self._engine.now_ms()}
        deliveries = tuple(self._routes.map(event, meta) for event in events)
        stored = None if cursor is KEEP else orjson.dumps(cursor).decode()
        command = Command(self._tenant, Deliver(self._source, deliveries, stored))
        try:
            decisions = await self._engine.submit(command)
        except Rejection as rejection:
            raise Transient(rejection.text, _TRY_AGAIN_S) from rejection
        self.kept.keep(events)
        return [self._receipt(decision, one.route) for decision, one in zip(decisions, deliveries, strict=True)]

    async def acknowledge(self, receipt: Receipt) -> Acknowledgement:
        """Wait for what the route of an accepted event says, or of one that is accepted already."""
        ack = self._routes.ack_of(receipt.route)
        if ack is None or receipt.verdict not in ("accepted", "duplicate"):
            return Acknowledgement()
        return await self.acknowledgements.wait(receipt.event_id, ack)

    def _receipt(self, decision: Decision, route: str) -> Receipt:
        DELIVERIES.labels(self._source, decision.verdict.value).inc()
        return Receipt(decision.verdict.value, decision.delivery_id, decision.reason, route=route)
