"""The folder: what is in it, and what of it is claimed.

A file is claimed by a rename into a folder of this source inside ``.work``; the folder of the claim and the path of the
file inside it are its name for ever. Names are bytes. All functions block, and raise OSError.
"""

import errno
import fcntl
import fnmatch
import heapq
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from lhd_filedrop import handles
from lhd_filedrop.config import FileDropConfig

WORK, DONE, FAILED = b".work", b"done", b"failed"
NAMES_MAX = 65_536
"""So many names are put in order at once."""
_DEPTH_MAX = 32
_UNKNOWN = (0, 0, 0, 0)
OWN, SHARED = 0o700, 0o755
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EXDEV, errno.ENAMETOOLONG)
"""What may be the matter with one file, and not with the folder."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the folder: its path inside it, and what tells one state of it from another."""

    path: bytes
    state: tuple[int, int, int, int]
    """Inode, size in bytes, mtime and ctime in ns; all 0 where nobody asks for them, since they cost a call each."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that this source reads: the name of its claim, "" where it is left in its place, and its path inside."""

    claim: str
    path: bytes

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
    """Folders inside that cannot be listed, or are too deep."""


class Folder:
    """The folder of one source, while it is open."""

    def __init__(self, config: FileDropConfig, source: str) -> None:
        self._config = config
        self._source = quote(source, safe="").encode()
        self._handles: list[int] = []
        self._root = self._all_work = self.work = self.done = self.failed = -1
        self._by_state = config.after == "keep" or config.ready == "stable" or config.order == "mtime"
        self.refused: dict[bytes, OSError] = {}
        """Of the latest claims, the files that could not be claimed."""

    def open(self) -> None:
        """Make what is missing inside the folder, and see that nobody else works here. Raises Busy, too."""
        self._root = os.open(os.fsencode(self._config.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._handles = [self._root]
        self._all_work = handles.made(self._root, WORK, OWN)
        self._handles.append(self._all_work)
        self.work = handles.made(self._all_work, self._source, OWN)
        self._handles.append(self.work)
        self.done = handles.made(self._root, DONE, SHARED)
        self._handles.append(self.done)
        self.failed = handles.made(self._root, FAILED, SHARED)
        self._handles.append(self.failed)
        lock = os.open(b".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.work)
        self._handles.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None

    def close(self) -> None:
        """Let others work here."""
        for handle in self._handles:
            os.close(handle)
        self._handles = []

    def require(self) -> None:
        """Raise where a folder is not the one that was opened any more: removed, made again, or mounted over."""
        if not os.path.samestat(os.stat(os.fsencode(self._config.path)), os.fstat(self._root)):
            raise FileNotFoundError(errno.ENOENT, "it was removed and made again")
        for name, handle in ((WORK, self._all_work), (DONE, self.done), (FAILED, self.failed)):
            if not os.path.samestat(os.lstat(name, dir_fd=self._root), os.fstat(handle)):
                raise FileNotFoundError(errno.ENOENT, "it was removed and made again", os.fsdecode(name))
        os.lstat(self._source, dir_fd=self._all_work)

    # What is there

    def files(self, look: Look) -> Iterator[Found]:
        """All files that may be taken, in no order: regular ones whose names fit the pattern and are not temporary."""
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            try:
                look.enter(inside)
                with handles.folder(self._root, inside) as folder, os.scandir(folder) as entries:
                    for entry in entries:
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
            if self._config.recursive and path.count(b"/") < _DEPTH_MAX:
                waiting.append(path)
            elif self._config.recursive:
                look.passed_over += 1
        elif entry.is_file(follow_symlinks=False) and self._is_wanted(name):
            with suppress(OSError):
                if self._config.ready != "marker" or self._has_marker(folder, name):
                    yield Found(path, state_of(entry.stat(follow_symlinks=False)) if self._by_state else _UNKNOWN)

    def _is_wanted(self, name: bytes) -> bool:
        config = self._config
        if name.endswith(tuple(os.fsencode(suffix) for suffix in config.temporary_suffixes)):
            return False
        if config.ready == "marker" and name.endswith(os.fsencode(config.marker_suffix)):
            return False
        return fnmatch.fnmatchcase(os.fsdecode(name), config.pattern)

    def _marker(self, name: bytes) -> bytes:
        return name + os.fsencode(self._config.marker_suffix)

    def _has_marker(self, folder: int, name: bytes) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self._marker(name), dir_fd=folder).st_mode)
        except FileNotFoundError:
            return False

    def first(self, found: Iterable[Found]) -> list[Found]:
        """The first thousands of them in the order that is wanted."""
        by_time = self._config.order == "mtime"
        return heapq.nsmallest(NAMES_MAX, found, key=lambda one: (one.state[2] if by_time else 0, one.path))

    def claimed(self) -> list[Taken]:
        """What was claimed and not moved on yet, in order; what is empty goes."""
        found = []
        for claim in sorted(os.listdir(self.work)):
            if claim.startswith("."):
                continue
            paths = sorted(self._walk_claim(os.fsencode(claim)))
            if self._config.ready == "marker":
                paths = self._without_markers(os.fsencode(claim), paths)
            if paths:
                self.sync(self.work, os.fsencode(claim))
            else:
                self.tidy({claim})
            found += [Taken(claim, path) for path in paths]
        return found

    def _walk_claim(self, claim: bytes) -> Iterator[bytes]:
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            with handles.folder(self.work, os.path.join(claim, inside).rstrip(b"/")) as folder:
                for entry in os.scandir(folder):
                    path = os.path.join(inside, os.fsencode(entry.name))
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        yield path

    def _without_markers(self, claim: bytes, paths: list[bytes]) -> list[bytes]:
        """The files. A marker whose file was not claimed any more, because of a crash, goes back to it."""
        suffix = os.fsencode(self._config.marker_suffix)
        for path in paths:
            if path.endswith(suffix):
                file = path.removesuffix(suffix)
                with handles.folder(self.work, os.path.join(claim, os.path.dirname(path)).rstrip(b"/")) as folder:
                    if file in paths:
                        os.unlink(os.path.basename(path), dir_fd=folder)
                    else:
                        self._put_marker_back(folder, file)
        return [path for path in paths if not path.endswith(suffix)]

    def _put_marker_back(self, folder: int, path: bytes) -> None:
        marker = self._marker(os.path.basename(path))
        try:
            with handles.folder(self._root, os.path.dirname(path)) as origin:
                handles.rename(folder, marker, origin, marker)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            with suppress(FileNotFoundError):
                os.unlink(marker, dir_fd=folder)

    # Claims

    def claim(self, paths: list[bytes], now_ms: int) -> list[Taken]:
        """Claim files in one folder of the work folder, durably; what is gone, or cannot be claimed, is left out."""
        claim = f"{now_ms:013d}-{secrets.token_hex(4)}"
        self.refused = {}
        with handles.folder(self.work, claim.encode(), make=OWN) as base:
            taken = [Taken(claim, path) for path in paths if self._take(base, path)]
            os.fsync(base)
        if taken:
            self.sync(self.work, b"")
            for inside in {os.path.dirname(file.path) for file in taken}:
                self.sync(self._root, inside)
        else:
            self.tidy({claim})
        return taken

    def _take(self, base: int, path: bytes) -> bool:
        inside, name = os.path.split(path)
        try:
            with handles.folder(self._root, inside) as origin, handles.folder(base, inside, make=OWN) as target:
                if self._config.ready != "marker":
                    handles.rename(origin, name, target, name)
                    return True
                # The marker first: if it went after a crash, nobody would know that the file is finished.
                marker = self._marker(name)
                handles.rename(origin, marker, target, marker)
                try:
                    handles.rename(origin, name, target, name)
                except OSError:
                    self._put_marker_back(target, path)
                    raise
                os.unlink(marker, dir_fd=target)
                return True
        except OSError as error:
            if error.errno in _REFUSED:
                self.refused[path] = error
            elif error.errno not in GONE:
                raise
            return False

    def open_file(self, file: Taken) -> int:
        """Open a file for reading, without waiting for whatever it is."""
        base = self.work if file.claim else self._root
        with handles.folder(base, os.path.dirname(file.inside)) as folder:
            return os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)

    def status(self, file: Taken) -> os.stat_result:
        """What the file system knows of a file, even of one that cannot be opened."""
        with handles.folder(self.work if file.claim else self._root, os.path.dirname(file.inside)) as folder:
            return os.lstat(file.name, dir_fd=folder)

    def is_there(self, path: bytes) -> bool:
        """Whether the folder has something of this path."""
        return has(self._root, path)

    def done_has(self, path: bytes) -> bool:
        """Whether ``done`` has something of this path."""
        return has(self.done, path)

    def tidy(self, claims: Iterable[str]) -> None:
        """Remove the folders of claims, as far as they are empty."""
        for claim in claims:
            inner = [b""]
            with suppress(OSError):
                for inside in inner:
                    with handles.folder(self.work, os.path.join(claim.encode(), inside).rstrip(b"/")) as folder:
                        inner += [
                            os.path.join(inside, os.fsencode(entry.name))
                            for entry in os.scandir(folder)
                            if entry.is_dir(follow_symlinks=False)
                        ]
                for inside in reversed(inner):
                    os.rmdir(os.path.join(claim.encode(), inside).rstrip(b"/"), dir_fd=self.work)

    def sync(self, base: int, inside: bytes) -> None:
        """Make what was moved into or out of a folder durable, if it is there."""
        with suppress(FileNotFoundError, NotADirectoryError), handles.folder(base, inside) as folder:
            os.fsync(folder)


def state_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """See Found. Times that no 64 bits can hold are the nearest ones that they can."""
    times = (max(-(2**63), min(2**63 - 1, one)) for one in (status.st_mtime_ns, status.st_ctime_ns))
    return (status.st_ino, status.st_size, *times)  # type: ignore[return-value]


def has(base: int, path: bytes) -> bool:
    """Whether a folder has something of this path."""
    try:
        with handles.folder(base, os.path.dirname(path)) as folder:
            return handles.exists(folder, os.path.basename(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
