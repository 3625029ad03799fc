"""Says that something may have happened in the folder: inotify(7) where it is to be had, else nobody.

It is an alarm clock and no more: what has happened is found out by looking, so nothing depends on what it says.
"""

import asyncio
import ctypes
import os
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import anyio

_CLOSE_WRITE, _MOVED_TO, _CREATE, _DELETE_SELF, _MOVE_SELF = 0x8, 0x80, 0x100, 0x400, 0x800
_ONLY_FOLDERS, _NO_LINKS = 0x01000000, 0x02000000
_MASK = _CLOSE_WRITE | _MOVED_TO | _CREATE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS | _NO_LINKS
_FOLDERS_MAX = 1_000
_READ_BYTES = 65_536
LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "f2fs", "zfs", "jfs", "bcachefs"})
"""File systems of which the kernel sees every change."""


def file_system(path: Path) -> str:
    """The type of the file system that holds a path, as proc(5) names it; "" where that cannot be known."""
    found, mount, path = "", Path("/"), path.resolve()
    with suppress(OSError), Path("/proc/self/mountinfo").open(errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split()
            point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
            if path.is_relative_to(point) and point.is_relative_to(mount):
                found, mount = fields[fields.index("-") + 1], point
    return found


class Alarm:
    """Rings when a folder, or one inside it, may have changed."""

    def __init__(self, *, enabled: bool) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if enabled else -1
        self._rung = anyio.Event()
        if self._handle >= 0:
            asyncio.get_running_loop().add_reader(self._handle, self._heard)

    @property
    def listens(self) -> bool:
        """Whether the kernel tells of changes."""
        return bool(self._handle >= 0)

    def _heard(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._handle, _READ_BYTES):
                pass
        self._rung.set()

    def listener(self, root: Path) -> Callable[[bytes], None]:
        """What begins to listen to the folders inside a root, to the first thousand; twice changes nothing."""
        numbers = count()

        def listen(inside: bytes) -> None:
            if self._handle >= 0 and next(numbers) < _FOLDERS_MAX:
                self._libc.inotify_add_watch(self._handle, os.path.join(os.fsencode(root), inside), _MASK)

        return listen

    def ring(self) -> None:
        """Ring, whatever the folder does."""
        self._rung.set()

    async def wait(self, most_s: float) -> None:
        """Return when it has rung since the last time, or after ``most_s`` seconds."""
        with anyio.move_on_after(most_s):
            await self._rung.wait()
        self._rung = anyio.Event()

    def close(self) -> None:
        """Ring no more."""
        if self._handle >= 0:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1
