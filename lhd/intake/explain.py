"""What happened to a delivery, an event, a key or a run, and why; read from committed rows only."""

from datetime import UTC, datetime
from typing import Any

from littlehorse.model import ExternalEvent, LHStatus, NodeRun, WfRun

from lhd.store import Reader

_ROWS_MAX = 50
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
)


async def explain(reader: Reader, tenant: str, name: str) -> dict[str, Any]:
    """Everything that is known under ``name``: a delivery id, an event's guid, a correlation key or a WfRun id.

    The lists are empty where nothing is known. No payload is in them.
    """
    deliveries = await _deliveries(reader, tenant, name)
    keys = {row["correlation_key"] for row in deliveries if row["correlation_key"] is not None} | {name}
    return {
        "deliveries": deliveries,
        "events": await _events(reader, tenant, name),
        "waits": [wait for key in sorted(keys) for wait in await _waits(reader, tenant, key)],
        "run": await _run(reader, tenant, name),
    }


async def _deliveries(reader: Reader, tenant: str, name: str) -> list[dict[str, Any]]:
    rows = await reader.fetch(
        f"SELECT {', '.join(_LEDGER)} FROM ledger WHERE tenant = ?1 AND "
        "(delivery_id = ?2 OR correlation_key = ?2 OR run = ?2 OR guid = ?2) "
        "ORDER BY received_ms DESC LIMIT ?3",
        (tenant, name, _ROWS_MAX),
    )
    return [_delivery(dict(zip(_LEDGER, row, strict=True))) for row in rows]


def _delivery(row: dict[str, Any]) -> dict[str, Any]:
    row["received_at"] = iso(row.pop("received_ms"))
    outcome_ms = row.pop("outcome_ms")
    row["outcome_at"] = None if outcome_ms is None else iso(outcome_ms)
    return row


async def _events(reader: Reader, tenant: str, name: str) -> list[dict[str, Any]]:
    rows = await reader.fetch(
        "SELECT body FROM external_event WHERE tenant = ?1 AND (run = ?2 OR guid = ?2) ORDER BY arrival LIMIT ?3",
        (tenant, name, _ROWS_MAX),
    )
    return [_event(ExternalEvent.FromString(body)) for (body,) in rows]


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
