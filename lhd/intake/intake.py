"""The way in: maps a source's events, submits them as one command, and hands out the receipts."""

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import orjson

from lhd.core.commands import Command
from lhd.core.commands.deliveries import NOT_STORED, WHOLE, Decision, Deliver, DropDeadLetter, Rehearse, Unmapped
from lhd.core.kinds import Verdict
from lhd.engine import Engine
from lhd.errors import Code, Rejection
from lhd.intake.acknowledgement import Acknowledgements
from lhd.intake.dead_letters import FoundLetter
from lhd.intake.kept import KeptSignals
from lhd.intake.rehearsal import described, event_again
from lhd.intake.routes import Routes, attributes, position_texts
from lhd.metrics import DELIVERIES, REFUSED
from lhd.plugin import KEEP, Acknowledgement, Event, Overloaded, Poisoned, Receipt, Source, Transient
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

    def __init__(self, engine: Engine, reader: Reader, name: str, source: Source[Any], routes: Routes) -> None:
        config = source.config
        self.tenant = config.tenant
        self._engine = engine
        self._name = name
        self._source = source
        self._routes = routes
        self.acknowledgements = Acknowledgements(engine, reader, config.tenant)
        self.kept = KeptSignals(config.keep_payloads, config.keep_payloads_bytes)

    @property
    def overloaded(self) -> bool:
        """Whether :meth:`commit` would raise Overloaded just now."""
        return self._engine.overloaded

    async def commit(
        self,
        events: Sequence[Event],
        cursor: Any = KEEP,
        positions: Mapping[str, Any] = MappingProxyType({}),
        *,
        whole: bool = False,
        bury: bool = False,
    ) -> list[Receipt]:
        """Store events, cursor and positions in one transaction; a receipt for each event, once that is durable.

        Raises Overloaded, and Transient where nothing was stored for another reason; with ``whole`` also Poisoned.
        """
        if WHOLE in positions or any(WHOLE in event.positions for event in events):
            raise ValueError("the name of a part is not empty")
        if self._engine.overloaded:
            raise Overloaded(self._engine.drain_s)
        delay_ms = self._engine.quotas.delay_ms(self.tenant)
        if delay_ms is not None:
            raise Overloaded(delay_ms / 1000)
        meta = self._meta()
        deliveries = tuple(self._routes.map(event, meta) for event in events)
        stored = None if cursor is KEEP else orjson.dumps(cursor).decode()
        request = Deliver(self._name, deliveries, stored, position_texts(positions), whole)
        try:
            decisions = await self._decide(request, bury=bury)
        except Rejection as rejection:
            raise Transient(rejection.text, _TRY_AGAIN_S) from rejection
        if whole:
            for number, decision in enumerate(decisions):
                if decision.verdict in NOT_STORED:
                    raise Poisoned(number, decision.reason)
        self.kept.keep([event for event in events if not event.poison])
        return [self._receipt(decision, one.route) for decision, one in zip(decisions, deliveries, strict=True)]

    async def _decide(self, request: Deliver, *, bury: bool) -> list[Decision]:
        try:
            decisions: list[Decision] = await self._engine.submit(Command(self.tenant, request))
        except Rejection as rejection:
            if rejection.code != Code.INTERNAL or not bury:
                raise
            return await self._bury(request, rejection.text)
        return decisions

    async def _bury(self, request: Deliver, reason: str) -> list[Decision]:
        """Store signals of which one meets a bug: each on its own, that one as a dead letter, and the cursor last."""
        if not request.deliveries:
            raise Rejection(Code.INTERNAL, reason)
        if len(request.deliveries) == 1 or request.whole:
            dead = [replace(one, mapped=Unmapped(Verdict.DEAD, reason)) for one in request.deliveries]
            return await self._decide(replace(request, deliveries=tuple(dead)), bury=False)
        decisions = []
        *first, last = (replace(request, deliveries=(one,)) for one in request.deliveries)
        for one in first:
            decisions += await self._decide(replace(one, cursor=None, positions={}), bury=True)
        return decisions + await self._decide(last, bury=True)

    async def acknowledge(self, receipt: Receipt) -> Acknowledgement:
        """Wait for what the route of an accepted event says, or of one that is accepted already."""
        ack = self._routes.ack_of(receipt.route)
        if ack is None or receipt.verdict not in ("accepted", "duplicate"):
            return Acknowledgement()
        return await self.acknowledgements.wait(receipt.event_id, ack)

    async def retry(self, found: FoundLetter) -> Decision | None:
        """Deliver a dead letter again under its identity; None where it comes once more by itself instead.

        Raises Rejection where neither can be.
        """
        letter = found.letter
        try:
            is_back = await self._source.bring_back(json.loads(letter.attributes))
        except ValueError as error:
            raise Rejection(Code.FAILED_PRECONDITION, str(error)) from None
        if is_back:
            drop = DropDeadLetter(self._name, found.identity, letter.count)
            await self._engine.submit(Command(self.tenant, drop))
            return None
        if letter.is_cut:
            raise Rejection(Code.FAILED_PRECONDITION, "not all of its bytes are kept; its sender has to send it again")
        try:
            event = event_again(self._source, letter.body, json.loads(letter.attributes))
        except ValueError as error:
            raise Rejection(Code.FAILED_PRECONDITION, f"it cannot be read any more: {error}") from None
        mapped = self._routes.map(event, self._meta())
        delivery = replace(mapped, identity=found.identity, sender_id=mapped.sender_id or found.sender_id)
        (decision,) = await self._engine.submit(
            Command(self.tenant, Deliver(self._name, (delivery,), None, is_retry=True))
        )
        return cast("Decision", decision)

    def last(self, count: int) -> list[Event]:
        """The latest signals, oldest first."""
        return [event_again(self._source, event.raw or b"", attributes(event)) for event in self.kept.last(count)]

    async def rehearse(self, events: Sequence[Event], routes: Routes) -> list[dict[str, Any]]:
        """What would become of these events with these routes; changes nothing."""
        stories = []
        for event in events:
            delivery = routes.map(event, self._meta())
            request = Rehearse(Deliver(self._name, (delivery,), None, as_new=True))
            (rehearsed,) = await self._engine.submit(Command(self.tenant, request))
            verdict, reason = rehearsed.decision.verdict.value, rehearsed.decision.reason
            stories.append(described(delivery) | {"verdict": verdict, "reason": reason, "runs": rehearsed.runs})
        return stories

    def decode(self, raw: bytes, headers: dict[str, str], query: dict[str, str]) -> list[Event]:
        """The events that arrive as these bytes. Raises ValueError."""
        return self._source.decode(raw, headers, query)

    def _meta(self) -> dict[str, Any]:
        return {"source": self._name, "kind": self._source.kind, "received_at": self._engine.now_ms()}

    def _receipt(self, decision: Decision, route: str) -> Receipt:
        DELIVERIES.labels(self._name, decision.verdict.value).inc()
        return Receipt(decision.verdict.value, decision.delivery_id, decision.reason, route=route)
