"""What happened to a delivery, an event, a key or a run, and why; read from committed rows only."""

import json
from datetime import UTC, datetime
from typing import Any

from littlehorse.model import ExternalEvent, LHStatus, NodeRun, WfRun

from lhd.core.kinds import Outcome, TimerAction, Verdict
from lhd.intake.nearest_waits import nearest_waits
from lhd.store import Reader

_ROWS_MAX = 50
_FOUND_BY = ("delivery_id", "correlation_key", "run", "guid", "sender_id")
_LEDGER = (
    "delivery_id",
    "source",
    "received_ms",
    "verdict",
    "reason",
    "route",
    "event_def",
    "correlation_key",
    "run",
    "guid",
    "outcome",
    "outcome_ms",
    "sender_id",
)


async def explain(reader: Reader, tenant: str, name: str) -> dict[str, Any]:
    """Everything that is known under ``name``: a delivery's id, lhd's or its sender's, an event's guid, a key, a run.

    The lists are empty where nothing is known. No payload is in them.
    """
    deliveries = await _deliveries(reader, tenant, name)
    lost = [
        row
        for row in deliveries
        if row["event_def"] and (row["outcome"] in (Outcome.WAITING, Outcome.EXPIRED) or row["verdict"] == Verdict.DEAD)
    ]
    keys = {row["correlation_key"] for row in deliveries if row["correlation_key"] is not None} | {name}
    return {
        "deliveries": deliveries,
        "events": await _events(reader, tenant, name),
        "waits": [wait for key in sorted(keys) for wait in await _waits(reader, tenant, key)],
        "nearest": [wait for row in lost[:1] for wait in await _nearest(reader, tenant, row)],
        "dead_letters": [letter for row in deliveries for letter in await _letters(reader, tenant, row["delivery_id"])],
        "run": await _run(reader, tenant, name),
    }


async def _deliveries(reader: Reader, tenant: str, name: str) -> list[dict[str, Any]]:
    # SQLite uses no index for an OR of columns.
    selects = [f"SELECT {', '.join(_LEDGER)} FROM ledger WHERE tenant = ?1 AND {column} = ?2" for column in _FOUND_BY]
    query = f"{' UNION '.join(selects)} ORDER BY received_ms DESC LIMIT ?3"
    rows = await reader.fetch(query, (tenant, name, _ROWS_MAX))
    return [await _delivery(reader, tenant, dict(zip(_LEDGER, row, strict=True))) for row in rows]


async def _delivery(reader: Reader, tenant: str, row: dict[str, Any]) -> dict[str, Any]:
    row["kept_until"] = await _kept_until(reader, tenant, row) if row["outcome"] == Outcome.WAITING else None
    row["received_at"] = iso(row.pop("received_ms"))
    outcome_ms = row.pop("outcome_ms")
    row["outcome_at"] = None if outcome_ms is None else iso(outcome_ms)
    return row


async def _kept_until(reader: Reader, tenant: str, row: dict[str, Any]) -> str | None:
    """When the event that waits expires; None where it is kept for as long as it takes."""
    if row["correlation_key"] is not None:
        action, run = TimerAction.CORRELATED_EVENT_TTL, ""
        target: list[str | int] = [row["event_def"], row["correlation_key"], row["received_ms"]]
    else:
        action, run, target = TimerAction.EXTERNAL_EVENT_RETENTION, row["run"], [row["event_def"], row["guid"]]
    rows = await reader.fetch(
        "SELECT due_ms FROM timer WHERE tenant = ? AND run = ? AND action = ? AND target = ?",
        (tenant, run, action, json.dumps(target)),
    )
    return iso(rows[0][0]) if rows else None


async def _nearest(reader: Reader, tenant: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    received_ms = int(datetime.fromisoformat(row["received_at"]).timestamp() * 1000)
    return await nearest_waits(reader, tenant, row["event_def"], row["correlation_key"], received_ms)


async def _letters(reader: Reader, tenant: str, delivery_id: str) -> list[dict[str, Any]]:
    rows = await reader.fetch(
        "SELECT reason, count, last_ms FROM dead_letter WHERE tenant = ? AND delivery_id = ?", (tenant, delivery_id)
    )
    return [
        {"delivery_id": delivery_id, "reason": reason, "count": count, "last_at": iso(last_ms)}
        for reason, count, last_ms in rows
    ]


async def _events(reader: Reader, tenant: str, name: str) -> list[dict[str, Any]]:
    rows = await reader.fetch(
        "SELECT arrival, body FROM external_event WHERE tenant = ?1 AND run = ?2 UNION "
        "SELECT arrival, body FROM external_event WHERE tenant = ?1 AND guid = ?2 ORDER BY arrival LIMIT ?3",
        (tenant, name, _ROWS_MAX),
    )
    return [_event(ExternalEvent.FromString(body)) for _, body in rows]


def _event(event: ExternalEvent) -> dict[str, Any]:
    return {
        "event_def": event.id.external_event_def_id.name,
        "guid": event.id.guid,
        "created_at": event.created_at.ToJsonString(),
        "claimed": event.claimed,
        "thread": event.thread_run_number if event.HasField("thread_run_number") else None,
        "position": event.node_run_position if event.HasField("node_run_position") else None,
    }


async def _waits(reader: Reader, tenant: str, key: str) -> list[dict[str, Any]]:
    rows = await reader.fetch(
        "SELECT event_def, key, run, thread, position FROM marker WHERE tenant = ? AND key = ? LIMIT ?",
        (tenant, key, _ROWS_MAX),
    )
    names = ("event_def", "correlation_key", "run", "thread", "position")
    return [dict(zip(names, row, strict=True)) for row in rows]


async def _run(reader: Reader, tenant: str, name: str) -> dict[str, Any] | None:
    rows = await reader.fetch("SELECT body FROM wf_run WHERE tenant = ? AND run = ?", (tenant, name))
    if not rows:
        return None
    wf_run = WfRun.FromString(rows[0][0])
    nodes = await reader.fetch(
        "SELECT body FROM node_run WHERE tenant = ? AND run = ? AND open = 1 ORDER BY thread, position LIMIT ?",
        (tenant, name, _ROWS_MAX),
    )
    spec = wf_run.wf_spec_id
    return {
        "wf_spec": f"{spec.name} {spec.major_version}.{spec.revision}",
        "status": LHStatus.Name(wf_run.status),
        "started_at": wf_run.start_time.ToJsonString(),
        "waits_at": [_place(NodeRun.FromString(body)) for (body,) in nodes],
    }


def _place(node_run: NodeRun) -> dict[str, Any]:
    place = {
        "thread": node_run.id.thread_run_number,
        "position": node_run.id.position,
        "node": node_run.node_name,
        "since": node_run.arrival_time.ToJsonString(),
    }
    if node_run.HasField("external_event"):
        place["event_def"] = node_run.external_event.external_event_def_id.name
    return place


def iso(milliseconds: int) -> str:
    """Milliseconds since the epoch as an ISO-8601 instant."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
