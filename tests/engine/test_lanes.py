"""Lanes are looked up by index, however many are asked for at once and however large the tables are."""

import sqlite3
from pathlib import Path

import pytest

from lhd.store import Store
from lhd.store.store import lanes_query
from lhd.store.tables import TABLES

LANES = sorted({table.kind.lane: len(table.lane_columns) for table in TABLES if not table.kind.write_only}.items())


@pytest.mark.parametrize(("lane", "width"), LANES)
@pytest.mark.parametrize("number", [1, 2, 64, 128])
async def test_no_table_is_read_from_end_to_end(tmp_path: Path, lane: str, width: int, number: int) -> None:
    store = await Store.open(tmp_path)
    await store.close()
    query, parameters = lanes_query(lane, [("x",) * width] * number)
    with sqlite3.connect(tmp_path / "lhd.sqlite") as connection:
        plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
    connection.close()
    assert [
        step for step in plan if step.startswith("SCAN") and "CONSTANT ROW" not in step and "wanted" not in step
    ] == []
    assert any(step.startswith("SEARCH") for step in plan)


@pytest.mark.parametrize("lane", ["run", "correlation", "seen_delivery"])
def test_there_are_few_statements_for_any_number_of_lanes(lane: str) -> None:
    width = dict(LANES)[lane]
    queries = {lanes_query(lane, [("x",) * width] * number)[0] for number in range(1, 129)}
    assert len(queries) == 8, "one for each power of two"
