"""The daemon's own program, except that it kills itself at the point and the commit that CRASH_AT names.

``CRASH_AT=written:7`` is the seventh commit after load has begun, at a point of :data:`POINTS`.
"""

import os
import signal
from typing import Any

import aiosqlite

from lhd.cli import main
from lhd.core import kinds
from lhd.store import Store

POINTS = ("decided", "torn", "written", "committed", "accepted")
"""Before the transaction begins; with the rows of its first table written; with all rows written and nothing
committed; durable and nobody told; the same after a commit that holds a delivery."""


class Dying:
    """Counts commits and ends the process at one of them."""

    def __init__(self, at: str) -> None:
        point, _, commits = at.partition(":")
        assert point in POINTS
        self.point = point
        self.left = int(commits)
        self.loaded = False

    def count(self, writes: Any) -> None:
        """A commit begins; what comes before the first delivery does not count."""
        self.loaded = self.loaded or bool(writes.get(kinds.LEDGER))
        self.left -= self.loaded

    def reached(self, point: str) -> None:
        """Die, if this is the point of the commit to die at."""
        if point == self.point and self.loaded and self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def patch(dying: Dying) -> None:
    """Let the store pass through the points."""
    commit_batch, commit_transaction = Store.commit, aiosqlite.Connection.commit
    executemany = aiosqlite.Connection.executemany

    async def commit(self: Store, cleared: Any, writes: Any, counts: Any = None) -> None:
        dying.count(writes)
        dying.reached("decided")
        await commit_batch(self, cleared, writes, counts)
        dying.reached("committed")
        if writes.get(kinds.LEDGER):
            dying.reached("accepted")

    async def commit_of_sqlite(self: aiosqlite.Connection) -> None:
        dying.reached("written")
        await commit_transaction(self)

    async def executemany_of_sqlite(self: aiosqlite.Connection, *arguments: Any) -> Any:
        cursor = await executemany(self, *arguments)
        dying.reached("torn")
        return cursor

    Store.commit = commit  # type: ignore[method-assign]
    aiosqlite.Connection.commit = commit_of_sqlite  # type: ignore[method-assign]
    aiosqlite.Connection.executemany = executemany_of_sqlite  # type: ignore[assignment]


if __name__ == "__main__":
    patch(Dying(os.environ["CRASH_AT"]))
    main()
