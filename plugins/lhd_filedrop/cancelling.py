"""Lets a worker thread end with its task: to go through a large file, or a large folder, may take hours."""

from contextlib import suppress

from anyio import from_thread

STRIDE = 1_000
"""So many small steps may be taken between two looks."""


def check_cancelled() -> None:
    """Raise where the task that waits for this thread is cancelled; outside of worker threads do nothing."""
    with suppress(RuntimeError):
        from_thread.check_cancelled()
