"""How far an accepted delivery has come, and waiting until it has come as far as its route's answer says.

Reads committed rows only; a wake-up means "look again".
"""

from dataclasses import dataclass, replace
from typing import Any

import anyio
from littlehorse.model import LHStatus, WfRun, WorkflowEvent

from lhd.core import kinds
from lhd.core.kinds import FAILED, TERMINAL, Outcome
from lhd.core.records import Kind
from lhd.core.values import to_json
from lhd.engine import Engine
from lhd.intake.routes import Ack
from lhd.plugin import Acknowledgement
from lhd.store import Reader

_LEVELS = ("stored", "matched", "consumed", "result")


@dataclass(frozen=True, slots=True)
class _Row:
    event_def: str
    correlation_key: str | None
    run: str | None
    outcome: str | None
    received_ms: int


class Acknowledgements:
    """Those of one tenant's deliveries."""

    def __init__(self, engine: Engine, reader: Reader, tenant: str) -> None:
        self._engine = engine
        self._reader = reader
        self._tenant = tenant
        self._stopping = False

    def stop(self) -> None:
        """Let everybody who waits answer with what has been reached."""
        self._stopping = True
        self._engine.committed.wake_all()

    async def wait(self, delivery_id: str, ack: Ack) -> Acknowledgement:
        """Wait for the level, or the deadline, or the certainty that it is never reached."""
        reached = Acknowledgement()
        with anyio.move_on_after(ack.timeout_s):
            row = await self._row(delivery_id)
            while row is not None:
                with self._engine.committed.waiting(*self._signs(delivery_id, row)) as waiting:
                    reached = await self._reached(delivery_id, ack)
                    if self._stopping or _is_enough(reached, ack) or await self._is_lost(delivery_id):
                        break
                    if reached.run in (None, row.run):
                        await waiting.wait()
                row = replace(row, run=reached.run or row.run)
        if _is_enough(reached, ack):
            return replace(reached, level=ack.level, is_reached=True)
        return replace(reached, is_reached=False)

    def _signs(self, delivery_id: str, row: _Row) -> list[tuple[Kind[Any], tuple[str, ...]]]:
        """What is written when a delivery comes a step further."""
        signs: list[tuple[Kind[Any], tuple[str, ...]]] = [(kinds.OUTCOME, (self._tenant, delivery_id))]
        if row.correlation_key is not None:
            signs.append((kinds.CORRELATED_EVENT, (self._tenant, row.event_def, row.correlation_key)))
        if row.run is not None:
            signs += [(kind, (self._tenant, row.run)) for kind in (kinds.WF_RUN, kinds.WORKFLOW_EVENT)]
        return signs

    async def _row(self, delivery_id: str) -> _Row | None:
        rows = await self._reader.fetch(
            "SELECT event_def, correlation_key, run, outcome, received_ms FROM ledger "
            "WHERE tenant = ? AND delivery_id = ?",
            (self._tenant, delivery_id),
        )
        return _Row(*rows[0]) if rows else None

    async def _is_lost(self, delivery_id: str) -> bool:
        row = await self._row(delivery_id)
        return row is None or row.outcome not in (Outcome.WAITING, Outcome.DELIVERED)

    async def _reached(self, delivery_id: str, ack: Ack) -> Acknowledgement:
        row = await self._row(delivery_id)
        if row is None or row.outcome not in (Outcome.WAITING, Outcome.DELIVERED):
            return Acknowledgement()
        if row.outcome != Outcome.DELIVERED:
            run = await self._matched(delivery_id, row)
            return Acknowledgement() if run is None else Acknowledgement("matched", run=run)
        assert row.run is not None
        consumed = Acknowledgement("consumed", run=row.run)
        return await self._result(consumed, row, ack.workflow_event) if ack.level == "result" else consumed

    async def _matched(self, delivery_id: str, row: _Row) -> str | None:
        """The run that has been given the event, or whose id it names and which has not ended."""
        if row.correlation_key is None and row.run is not None:
            wf_run = await self._reader.get(kinds.WF_RUN, (self._tenant, row.run))
            return None if wf_run is None or wf_run.status in TERMINAL else row.run
        query = "SELECT run FROM external_event_origin WHERE tenant = ? AND delivery_id = ? LIMIT 1"
        rows = await self._reader.fetch(query, (self._tenant, delivery_id))
        return str(rows[0][0]) if rows else None

    async def _result(self, consumed: Acknowledgement, row: _Row, workflow_event: str | None) -> Acknowledgement:
        """Of WorkflowEvents one that was thrown before the delivery came is the answer to another one."""
        wf_run: WfRun | None = await self._reader.get(kinds.WF_RUN, (self._tenant, row.run))
        if wf_run is None:
            return consumed
        status = LHStatus.Name(wf_run.status)
        if workflow_event is not None:
            rows = await self._reader.fetch(
                "SELECT body FROM workflow_event WHERE tenant = ? AND run = ? AND event_def = ? AND created_ms >= ? "
                "ORDER BY arrival LIMIT 1",
                (self._tenant, row.run, workflow_event, row.received_ms),
            )
            if rows:
                thrown = WorkflowEvent.FromString(rows[0][0])
                return replace(consumed, level="result", status=status, result=to_json(thrown.content))
        if wf_run.status not in TERMINAL:
            return consumed
        output = None if workflow_event is not None or wf_run.status in FAILED else wf_run.thread_runs[0].output
        return replace(consumed, level="result", status=status, result=None if output is None else to_json(output))


def _is_enough(reached: Acknowledgement, ack: Ack) -> bool:
    return _LEVELS.index(reached.level) >= _LEVELS.index(ack.level)
