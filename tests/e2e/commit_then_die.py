"""The daemon's own program, except that the process is gone by SIGKILL right after a commit that holds an event.

The commit has returned and nobody has been answered: the border that a crash must not blur.
"""

import os
import signal
from typing import Any

from lhd.cli import main
from lhd.core import kinds
from lhd.store import Store

commit = Store.commit


async def commit_and_die(self: Store, cleared: Any, writes: Any, counts: Any = None) -> None:
    await commit(self, cleared, writes, counts)
    if writes.get(kinds.LEDGER):
        os.kill(os.getpid(), signal.SIGKILL)


Store.commit = commit_and_die  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
