"""Read-only access to committed state, for answers to clients and operators; never waits for a write."""

import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from lhd.core.records import Key, Kind
from lhd.errors import StoreError
from lhd.store.connection import connect
from lhd.store.tables import BY_KIND


class Reader:
    """One read-only connection. Each read sees what was committed when it began."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> "Reader":
        """Open an existing store for reading."""
        try:
            connection = await connect(f"file:{path}?mode=ro", uri=True)
            await connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise StoreError(f"store {path}: {error}") from error
        return cls(connection)

    async def close(self) -> None:
        """Close the connection; a caller that is cancelled meanwhile waits for it, since its thread needs the loop."""
        with anyio.CancelScope(shield=True):
            await self._connection.close()

    async def get(self, kind: Kind[Any], key: Key) -> Any:
        """One record by its key; None where there is none."""
        table = BY_KIND[kind]
        rows = await self.fetch(table.select, key)
        return table.decode(key, rows[0]) if rows else None

    async def fetch(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        try:
            return [tuple(row) for row in await self._connection.execute_fetchall(query, parameters)]
        except sqlite3.Error as error:
            raise StoreError(f"a read failed: {error}") from error
