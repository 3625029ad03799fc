"""The one writer of the store, and what the engine reads through it. Decides nothing; retries nothing."""

import fcntl
import os
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from lhd.core.kinds import QueuedTask, Timer
from lhd.core.records import Key, Kind, LaneId
from lhd.errors import StoreError
from lhd.measuring import Count, Place
from lhd.store.connection import connect
from lhd.store.reader import Reader
from lhd.store.table import Table
from lhd.store.tables import BY_KIND, TABLES, lane_tables, queued_task_from_row, timer_from_row

_LANES_PER_QUERY = 128
_METRICS_KEPT_MS = 14 * 86_400_000
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "busy_timeout = 10000",
    "wal_autocheckpoint = 0",
    "cache_size = -32000",
)


class Store:
    """The SQLite file of one data directory, held by this process alone.

    Use :meth:`open`. Every error of SQLite leaves as StoreError; after a failed commit the process must end.
    """

    def __init__(self, directory: Path, lock: int, writer: aiosqlite.Connection, keeper: aiosqlite.Connection) -> None:
        self._directory = directory
        self._wal = directory / "lhd.sqlite-wal"
        self._lock = lock
        self._writer = writer
        self._keeper = keeper

    @classmethod
    async def open(cls, directory: Path) -> "Store":
        """Open or create the store in ``directory``; raises StoreError when another daemon holds it."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(directory)
        except OSError as error:
            raise StoreError(f"data directory {directory}: {error.strerror}") from error
        path = directory / "lhd.sqlite"
        opened: list[aiosqlite.Connection] = []
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            for _ in range(2):
                opened.append(await _connect(path))  # noqa: PERF401 - what is open must be known when one fails
            await _migrate(opened[0], path)
        except (sqlite3.Error, OSError, StoreError) as error:
            for connection in opened:
                await connection.close()
            os.close(lock)
            raise error if isinstance(error, StoreError) else StoreError(f"store {path}: {error}") from error
        return cls(directory, lock, *opened)

    async def close(self) -> None:
        """Close the store; what was committed is all in the one file then, as far as no reader is in the way."""
        with anyio.CancelScope(shield=True):
            await self._writer.close()
            try:
                await self._keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise StoreError(f"the write-ahead log cannot be emptied: {error}") from error
            finally:
                await self._keeper.close()
                os.close(self._lock)

    async def reader(self) -> Reader:
        """A connection that can only read, and sees each commit from its end on."""
        return await Reader.open(self._directory / "lhd.sqlite")

    async def commit(
        self,
        cleared: dict[LaneId, None],
        writes: dict[Kind[Any], dict[Key, Any]],
        counts: dict[Place, Count] | None = None,
    ) -> None:
        """Write one batch in one transaction: the lanes to clear, then the records, then what is counted.

        Durable on return.
        """
        try:
            await self._writer.execute("BEGIN IMMEDIATE")
            for lane in cleared:
                for table in lane_tables(lane.name):
                    await self._writer.execute(table.delete_lane, lane.key)
            for table in TABLES:
                if rows := writes.get(table.kind):
                    await self._write(table, rows)
            if counts:
                await self._writer.executemany(_ADD_COUNT, [_count_row(*item) for item in counts.items()])
            await self._writer.commit()
        except Exception as error:
            await self._writer.rollback()
            raise StoreError(f"a commit failed and nothing of it counts: {error}") from error

    async def _write(self, table: Table, rows: dict[Key, Any]) -> None:
        gone = [table.key_row(key) for key, value in rows.items() if value is None]
        kept = [table.row(key, value) for key, value in rows.items() if value is not None]
        if gone:
            await self._writer.executemany(table.delete, gone)
        if kept:
            await self._writer.executemany(table.upsert, kept)

    async def load_lanes(self, lanes: list[LaneId]) -> dict[LaneId, list[tuple[Kind[Any], Key, Any]]]:
        """The rows of each lane: all of the whole kinds, the open ones of the others."""
        found: dict[LaneId, list[tuple[Kind[Any], Key, Any]]] = {lane: [] for lane in lanes}
        for name in {lane.name for lane in lanes}:
            keys = [lane.key for lane in lanes if lane.name == name]
            for start in range(0, len(keys), _LANES_PER_QUERY):
                await self._load(name, keys[start : start + _LANES_PER_QUERY], found)
        return found

    async def _load(self, name: str, keys: list[Key], found: dict[LaneId, list[tuple[Kind[Any], Key, Any]]]) -> None:
        tables = _loaded_tables(name)
        for number, _, *row in await self._fetch(*lanes_query(name, keys)):
            table = tables[number]
            key = tuple(row[: len(table.key)])
            value = table.decode(key, row[len(table.key) :])
            found[table.kind.lane_of(key)].append((table.kind, key, value))

    async def load_point(self, kind: Kind[Any], key: Key) -> Any:
        """One record by its key; None where there is none."""
        table = BY_KIND[kind]
        rows = await self._fetch(table.select, key)
        return table.decode(key, rows[0]) if rows else None

    async def timers_after(self, place: tuple[int, str, str, str, str], limit: int) -> list[Timer]:
        """The first timers after a place in the order of (due_ms, tenant, run, action, target)."""
        columns = "due_ms, tenant, run, action, target"
        query = f"SELECT {columns} FROM timer WHERE ({columns}) > (?, ?, ?, ?, ?) ORDER BY {columns} LIMIT ?"
        return [timer_from_row(row) for row in await self._fetch(query, (*place, limit))]

    async def queued_tasks(self) -> list[QueuedTask]:
        """Every queued task, oldest first."""
        query = "SELECT tenant, run, task_guid, task_def FROM queued_task ORDER BY place"
        return [queued_task_from_row(row) for row in await self._fetch(query)]

    async def _fetch(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        try:
            return [tuple(row) for row in await self._writer.execute_fetchall(query, parameters)]
        except sqlite3.Error as error:
            raise StoreError(f"a read failed: {error}") from error

    async def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log to the file, as far as no reader is in the way."""
        try:
            await self._keeper.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise StoreError(f"a checkpoint failed: {error}") from error

    async def limit_wal(self, most_bytes: int) -> None:
        """Begin the write-ahead log anew where it is larger than this; only between two commits.

        Checkpoints on the side seldom catch its end while commits follow one another.
        """
        if self._wal.stat().st_size > most_bytes:
            await self._fetch("PRAGMA wal_checkpoint(RESTART)")

    async def forget(self, now_ms: int, dedupe_ms: int, ledger_ms: int, dead_letters: int) -> None:
        """Remove what is past its time or has no use any more, and the oldest dead letters beyond a number."""
        statements: list[tuple[str, tuple[int, ...]]] = [
            ("DELETE FROM seen_delivery WHERE seen_ms < ?", (now_ms - dedupe_ms,)),
            ("DELETE FROM metric_count WHERE window_ms < ?", (now_ms - _METRICS_KEPT_MS,)),
            ("DELETE FROM ledger WHERE received_ms < ? AND outcome IS NOT 'waiting'", (now_ms - ledger_ms,)),
            (
                "DELETE FROM dead_letter WHERE (tenant, source, identity) IN (SELECT tenant, source, identity "
                "FROM dead_letter ORDER BY last_ms DESC, tenant, source, identity LIMIT -1 OFFSET ?)",
                (dead_letters,),
            ),
        ]
        try:
            for statement, parameters in statements:
                await self._writer.execute(statement, parameters)
        except sqlite3.Error as error:
            raise StoreError(f"old rows cannot be removed: {error}") from error


_ADD_COUNT = (
    "INSERT INTO metric_count VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "count = count + excluded.count, least_ms = min(least_ms, excluded.least_ms), "
    "most_ms = max(most_ms, excluded.most_ms), total_ms = total_ms + excluded.total_ms"
)


def _count_row(place: Place, count: Count) -> tuple[Any, ...]:
    subject, window_ms, measure = place
    return *subject, window_ms, measure, count.count, count.least, count.most, count.total


def _loaded_tables(lane_name: str) -> list[Table]:
    return [table for table in lane_tables(lane_name) if not table.kind.write_only]


def lanes_query(lane_name: str, keys: list[Key]) -> tuple[str, list[Any]]:
    """The query for all rows of these lanes, and its parameters.

    Its columns: the table's place among those that are loaded, the order of arrival, then the table's own.
    """
    tables = _loaded_tables(lane_name)
    width = max(len(table.key) + len(table.loaded) for table in tables)
    query, parameters = _wanted(keys)
    query += " UNION ALL ".join(_lane_select(number, table, width) for number, table in enumerate(tables))
    return f"{query} ORDER BY 1, 2", parameters


def _wanted(keys: list[Key]) -> tuple[str, list[Any]]:
    """The keys of lanes as a table of SQL, and its parameters.

    NULLs, which equal nothing, fill it up to a power of two rows: so there are few different statements, and SQLite
    takes longer to prepare one than to run it.
    """
    width, rows = len(keys[0]), 2 ** (len(keys) - 1).bit_length()
    columns = ", ".join(f"wanted_{number}" for number in range(width))
    row = f"({', '.join('?' * width)})"
    parameters = [part for key in keys for part in key] + [None] * (width * (rows - len(keys)))
    return f"WITH wanted ({columns}) AS (VALUES {', '.join([row] * rows)}) ", parameters


def _lane_select(number: int, table: Table, width: int) -> str:
    """The rows of a table in the wanted lanes; a CROSS JOIN makes SQLite look each lane up instead of reading all."""
    columns = table.key + table.loaded
    padded = ", ".join(columns + ("NULL",) * (width - len(columns)))
    condition = " AND ".join(f"{column} = wanted_{place}" for place, column in enumerate(table.lane_columns))
    if table.kind.is_open is not None:
        condition += " AND open = 1"
    return f"SELECT {number}, {table.arrival}, {padded} FROM wanted CROSS JOIN {table.name} WHERE {condition}"


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await connect(str(path))
    try:
        for pragma in _PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        await connection.close()
        raise
    return connection


def _lock(directory: Path) -> int:
    """Hold the directory's lock for as long as the process lives."""
    lock = os.open(directory / "lhd.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StoreError(
            f"data directory {directory}: another lhd daemon (process {holder}) is using it; stop that one, or give "
            "this one a data_dir of its own"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    migrations = sorted(
        (file for file in files("lhd.store").joinpath("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    ((current,),) = await connection.execute_fetchall("PRAGMA user_version")
    if current > len(migrations):
        raise StoreError(
            f"store {path}: written by a newer lhd (schema {current}, this one knows {len(migrations)}); upgrade lhd"
        )
    for number, migration in enumerate(migrations[current:], start=current + 1):
        script = migration.read_text(encoding="utf-8")
        await connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
