"""Notices when something blocks the event loop and says what; a thread of its own, since nothing else runs then."""

import asyncio
import sys
import threading
import time
import traceback

import anyio
import structlog

_BEAT_S = 0.25


class StallDetector:
    """Logs the task and the line at which the event loop has stood still for ``limit_s`` seconds, once for each stall.

    A blocked loop cannot be helped from inside; the service manager's watchdog ends the process when it lasts.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._beat = time.monotonic()
        self._ended = threading.Event()
        self._log = structlog.get_logger("lhd.stall")

    async def run(self) -> None:
        """Watch the loop that this runs on, until cancelled."""
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        threading.Thread(target=self._watch, args=(loop, thread), name="lhd-stall", daemon=True).start()
        try:
            while True:
                self._beat = time.monotonic()
                await anyio.sleep(_BEAT_S)
        finally:
            self._ended.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        reported = 0.0
        while not self._ended.wait(_BEAT_S):
            beat = self._beat
            if time.monotonic() - beat > self._limit_s and beat != reported:
                reported = beat
                self._report(loop, thread)

    def _report(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        task = asyncio.current_task(loop)
        frame = sys._current_frames().get(thread)
        stack = traceback.extract_stack(frame) if frame is not None else []
        self._log.error(
            "the event loop is blocked; nothing else runs meanwhile",
            task=task.get_name() if task else "none",
            at=[f"{one.filename}:{one.lineno} {one.name}" for one in stack[-3:]],
            limit_s=self._limit_s,
        )
