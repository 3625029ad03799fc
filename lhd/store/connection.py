"""Opening a connection to SQLite whose thread does not outlive the program."""

import aiosqlite


async def connect(database: str, *, uri: bool = False) -> aiosqlite.Connection:
    """A connection without implicit transactions. Raises sqlite3.Error."""
    connection = aiosqlite.connect(database, uri=uri, isolation_level=None, cached_statements=512)
    # A connection that an error or a cancellation left open must not keep the process from ending.
    connection._thread.daemon = True
    return await connection
