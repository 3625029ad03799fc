"""All rows of a store, and the same of a world, in a form that can be compared."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lhd.core import kinds
from lhd.store.table import Table
from lhd.store.tables import TABLES
from tests.properties.whole_world import WholeWorld, encoded

Rows = dict[str, list[tuple[Any, ...]]]

_ARRIVAL = {"external_event": "arrival", "queued_task": "place"}
"""Where the order of the rows says something; their numbers say nothing."""


def of_store(directory: Path) -> Rows:
    """Every row of a store that may be open, by table."""
    with closing(sqlite3.connect(f"file:{directory / 'lhd.sqlite'}?mode=ro", uri=True)) as connection:
        return {table.name: _rows(connection, table) for table in _tables()}


def _tables() -> list[Table]:
    return [table for table in TABLES if table.kind is not kinds.OUTCOME]


def _rows(connection: sqlite3.Connection, table: Table) -> list[tuple[Any, ...]]:
    columns = table.key + table.columns
    rows = connection.execute(
        f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {_ARRIVAL.get(table.name, ', '.join(table.key))}"
    )
    return [tuple(row) for row in rows]


def of_world(world: WholeWorld) -> Rows:
    """The rows that a store would have after the same commands."""
    return {table.name: _world_rows(world, table) for table in _tables()}


def _world_rows(world: WholeWorld, table: Table) -> list[tuple[Any, ...]]:
    rows = [encoded(table.kind, key, value) for key, value in world.rows[table.kind].items()]
    if table.kind is kinds.LEDGER:
        rows = [(*row[:-1], world.outcome_ms.get(row[1])) for row in rows]
    return rows if table.name in _ARRIVAL else sorted(rows, key=lambda row: row[: len(table.key)])


def differences(expected: Rows, found: Rows) -> str:
    """Where the rows differ; empty where they are equal."""
    return "\n".join(
        f"{name}:\n  expected {_shown(expected[name])}\n  found    {_shown(found[name])}"
        for name in expected
        if expected[name] != found[name]
    )


def _shown(rows: Sequence[tuple[Any, ...]]) -> str:
    return json.dumps(rows, default=str)
