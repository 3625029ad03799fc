"""The folder: what is in it, and where lhd keeps what it took out of it. Takes nothing itself.

Names are bytes. All functions block, and raise OSError.
"""

import errno
import fnmatch
import heapq
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from lhd_filedrop import handles
from lhd_filedrop.cancelling import STRIDE, check_cancelled
from lhd_filedrop.config import FileDropConfig

WORK, DONE, FAILED = b".work", b"done", b"failed"
LOCK = b".lock"
"""In the work folder of a source: whoever holds it works there."""
NAMES_MAX = 65_536
"""So many names are put in order at once."""
_DEPTH_MAX = 32
OWN, SHARED = 0o700, 0o755
_PATH_BYTES_MAX = 1_024
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
"""What is the matter with the file system or with the process, and not with one file."""
_LOCK_BYTES_MAX = 64
_BY_RECORD = "-records"


class State(NamedTuple):
    """What tells one state of a file from another: inode, size in bytes, and its times in ns."""

    inode: int
    size: int
    mtime: int
    ctime: int

    def is_same_contents(self, other: "State") -> bool:
        """Whether nobody has written the file meanwhile; it may have been moved."""
        return self[:3] == other[:3]


_UNKNOWN = State(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the folder: its path inside it, and its state; all 0 where nobody asks, since that costs a call."""

    path: bytes
    state: State


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that this source reads: the name of its claim, "" where it is left in its place, and its path inside."""

    claim: str
    path: bytes

    @staticmethod
    def new_claim(now_ms: int, config: FileDropConfig) -> str:
        """A name for claims that no other has; it says when they were made, and how their files are to be read."""
        return f"{now_ms:013d}-{secrets.token_hex(4)}{_BY_RECORD if config.unit == 'record' else ''}"

    def is_by_record(self, config: FileDropConfig) -> bool:
        """Whether it is read record by record: of a claimed file, as it was configured when it was claimed."""
        return self.claim.endswith(_BY_RECORD) if self.claim else config.unit == "record"

    @property
    def in_place(self) -> "Taken":
        """The same file as one that is left in its place."""
        return Taken("", self.path)

    @property
    def name(self) -> bytes:
        """The name without folders."""
        return os.path.basename(self.path)

    @property
    def part(self) -> str:
        """What the position of the file is kept under."""
        return f"{self.claim}/{quote_from_bytes(self.path)}"

    @property
    def inside(self) -> bytes:
        """The path inside the folder of the source in ``.work``, or inside the folder itself."""
        return os.path.join(self.claim.encode(), self.path)

    @classmethod
    def of_part(cls, part: str) -> "Taken":
        """The file that :attr:`part` names."""
        claim, _, path = part.partition("/")
        return cls(claim, unquote_to_bytes(path))


class Busy(Exception):
    """Another process works in the folder."""


@dataclass
class Look:
    """What a look at the folder came by, besides files."""

    enter: Callable[[bytes], None] = lambda _: None
    """Is told the path of each folder before it is listed."""
    passed_over: int = 0
    """How many folders inside cannot be used, or are too deep."""


class Folder:
    """The folder of one source, while it is open."""

    def __init__(self, config: FileDropConfig, source: str) -> None:
        self._config = config
        self.source = quote(source, safe="").encode()
        """The name of the source's folder inside ``.work``."""
        self._handles: list[int] = []
        self._lock = -1
        self.root = self.all_work = self.work = self.done = self.failed = -1
        self._by_state = config.after == "keep" or config.ready == "stable" or config.order == "mtime"

    def open(self) -> None:
        """Make what is missing inside the folder, and see that nobody else works here. Raises Busy, too."""
        self.root = os.open(os.fsencode(self._config.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._handles = [self.root]
        self.all_work = handles.made(self.root, WORK, OWN)
        self._handles.append(self.all_work)
        self.work = handles.made(self.all_work, self.source, OWN)
        self._handles.append(self.work)
        self.done = handles.made(self.root, DONE, SHARED)
        self._handles.append(self.done)
        self.failed = handles.made(self.root, FAILED, SHARED)
        self._handles.append(self.failed)
        self._lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.work)
        self._handles.append(self._lock)
        if not handles.lock(self._lock):
            raise Busy

    def close(self) -> None:
        """Let others work here."""
        for handle in self._handles:
            os.close(handle)
        self._handles = []

    def mark(self) -> str:
        """The mark that the folder was given; "" where it was given none."""
        return os.pread(self._lock, _LOCK_BYTES_MAX, 0).decode("ascii", "replace")

    def give_mark(self, mark: str) -> None:
        """Give the folder a mark, by which it is known from every other that may be in its place."""
        os.pwrite(self._lock, mark.encode(), 0)
        os.fsync(self._lock)
        os.fsync(self.work)

    def require(self) -> None:
        """Raise where a folder is not the one that was opened any more: removed, made again, or mounted over."""
        if not os.path.samestat(os.stat(os.fsencode(self._config.path)), os.fstat(self.root)):
            raise FileNotFoundError(errno.ENOENT, "it was removed and made again")
        ours = (self.root, WORK, self.all_work), (self.root, DONE, self.done), (self.root, FAILED, self.failed)
        for base, name, handle in (*ours, (self.all_work, self.source, self.work)):
            if not os.path.samestat(os.lstat(name, dir_fd=base), os.fstat(handle)):
                raise FileNotFoundError(errno.ENOENT, "it was removed and made again", os.fsdecode(name))

    # What is there

    def files(self, look: Look) -> Iterator[Found]:
        """All files that may be taken, in no order: regular ones whose names fit the pattern and are not temporary."""
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            try:
                look.enter(inside)
                with handles.folder(self.root, inside) as folder, os.scandir(folder) as entries:
                    if inside and self._config.after != "keep" and not handles.is_writable(folder):
                        look.passed_over += 1
                        continue
                    for number, entry in enumerate(entries):
                        if number % STRIDE == 0:
                            check_cancelled()
                        yield from self._examine(os.fsencode(entry.name), entry, folder, inside, waiting, look)
            except OSError:
                if not inside:
                    raise
                look.passed_over += 1

    def _examine(
        self, name: bytes, entry: "os.DirEntry[str]", folder: int, inside: bytes, waiting: list[bytes], look: Look
    ) -> Iterator[Found]:
        if name.startswith(b".") or name in (DONE, FAILED):
            return
        path = os.path.join(inside, name)
        if entry.is_dir(follow_symlinks=False):
            if self._config.recursive and path.count(b"/") < _DEPTH_MAX and len(path) <= _PATH_BYTES_MAX:
                waiting.append(path)
            elif self._config.recursive:
                look.passed_over += 1
        elif entry.is_file(follow_symlinks=False) and self._is_wanted(name):
            with suppress(OSError):
                if self._config.ready != "marker" or handles.is_file(folder, self.marker(name)):
                    yield Found(path, state_of(entry.stat(follow_symlinks=False)) if self._by_state else _UNKNOWN)

    def _is_wanted(self, name: bytes) -> bool:
        config = self._config
        if name.endswith(tuple(os.fsencode(suffix) for suffix in config.temporary_suffixes)):
            return False
        if config.ready == "marker" and name.endswith(os.fsencode(config.marker_suffix)):
            return False
        return fnmatch.fnmatchcase(os.fsdecode(name), config.pattern)

    def marker(self, name: bytes) -> bytes:
        """What the marker of a file of this name is called."""
        return name + os.fsencode(self._config.marker_suffix)

    def first(self, found: Iterable[Found]) -> list[Found]:
        """The first thousands of them in the order that is wanted."""
        by_time = self._config.order == "mtime"
        return heapq.nsmallest(NAMES_MAX, found, key=lambda one: (one.state.mtime if by_time else 0, one.path))

    # One file

    def open_file(self, file: Taken) -> int:
        """Open a file for reading, without waiting for whatever it is."""
        base = self.work if file.claim else self.root
        with handles.folder(base, os.path.dirname(file.inside)) as folder:
            return os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)

    def status(self, file: Taken) -> os.stat_result:
        """What the file system knows of a file, even of one that cannot be opened."""
        with handles.folder(self.work if file.claim else self.root, os.path.dirname(file.inside)) as folder:
            return os.lstat(file.name, dir_fd=folder)

    def is_there(self, path: bytes) -> bool:
        """Whether the folder has something of this path, as far as lhd may know."""
        try:
            return has(self.root, path)
        except OSError:
            return True

    def done_has(self, path: bytes) -> bool:
        """Whether ``done`` has something of this path, as far as lhd may know."""
        try:
            return has(self.done, path)
        except OSError:
            return False

    def sync(self, base: int, inside: bytes) -> None:
        """Make what was moved into or out of a folder durable, if it is there and may be opened."""
        try:
            with handles.folder(base, inside) as folder:
                os.fsync(folder)
        except OSError as error:
            if error.errno in FAULTS:
                raise


def state_of(status: os.stat_result) -> State:
    """The state of a file. Times that no 64 bits can hold are the nearest ones that they can."""
    mtime, ctime = (max(-(2**63), min(2**63 - 1, one)) for one in (status.st_mtime_ns, status.st_ctime_ns))
    return State(status.st_ino, status.st_size, mtime, ctime)


def has(base: int, path: bytes) -> bool:
    """Whether a folder has something of this path."""
    try:
        with handles.folder(base, os.path.dirname(path)) as folder:
            return handles.exists(folder, os.path.basename(path))
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False
