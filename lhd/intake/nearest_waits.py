"""For an event that found nobody: who waited for the same event with another key, and who had just stopped."""

import difflib
from typing import Any

from littlehorse.model import LHStatus, NodeRun

from lhd.core.ids import milliseconds, printed
from lhd.core.kinds import TERMINAL
from lhd.store import Reader

_LOOKED_AT_MAX = 200
_NEAREST_MAX = 3
_SHORTLY_MS = 600_000


async def nearest_waits(
    reader: Reader, tenant: str, event_def: str, key: str | None, received_ms: int
) -> list[dict[str, Any]]:
    """The waits for this event with the most similar keys, then those that ended shortly before it came."""
    rows = await reader.fetch(
        "SELECT key, run, thread, position FROM marker WHERE tenant = ? AND event_def = ? AND key IS NOT ? LIMIT ?",
        (tenant, event_def, key, _LOOKED_AT_MAX),
    )
    similar = sorted(rows, key=lambda row: -difflib.SequenceMatcher(None, key or "", row[0]).ratio())
    names = ("correlation_key", "run", "thread", "position")
    open_waits = [
        {"event_def": event_def, **dict(zip(names, row, strict=True)), "state": "waiting"}
        for row in similar[:_NEAREST_MAX]
    ]
    return open_waits + await _ended(reader, tenant, event_def, received_ms)


async def _ended(reader: Reader, tenant: str, event_def: str, received_ms: int) -> list[dict[str, Any]]:
    node_runs: list[NodeRun] = []
    for status in sorted(TERMINAL):
        rows = await reader.fetch(
            "SELECT body FROM node_run WHERE tenant = ? AND event_def = ? AND status = ? AND arrival_ms <= ? "
            "ORDER BY arrival_ms DESC LIMIT ?",
            (tenant, event_def, status, received_ms, _LOOKED_AT_MAX),
        )
        node_runs += [NodeRun.FromString(body) for (body,) in rows]
    before = [(received_ms - milliseconds(node_run.end_time), node_run) for node_run in node_runs]
    just_before = sorted((one for one in before if 0 <= one[0] <= _SHORTLY_MS), key=lambda one: one[0])
    return [
        {
            "event_def": event_def,
            "correlation_key": node_run.external_event.correlation_key or None,
            "run": printed(node_run.id.wf_run_id),
            "thread": node_run.id.thread_run_number,
            "position": node_run.id.position,
            "state": f"{LHStatus.Name(node_run.status)} {ago / 1000:.3f} s before",
        }
        for ago, node_run in just_before[:_NEAREST_MAX]
    ]
