"""The folder: what is in it, and every move of a file.

A file is claimed by a rename into a folder of this source inside ``.work``; the folder of the claim and the path of the
file inside it are its name for ever. Names are bytes. All functions block, and raise OSError.
"""

import errno
import fcntl
import fnmatch
import heapq
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from itertools import chain, count, islice
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from lhd_filedrop import handles
from lhd_filedrop.config import FileDropConfig

WORK, DONE, FAILED = b".work", b"done", b"failed"
_REPORT = b".error.json"
_REPORT_BYTES_MAX = 65_536
_NAME_BYTES_MAX = 255
_NAMES_MAX = 65_536
"""So many names are put in order at once."""
_DEPTH_MAX = 32
_UNKNOWN = (0, 0, 0, 0)
_OWN, _SHARED = 0o700, 0o755
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
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

    folders: list[bytes] = field(default_factory=list)
    passed_over: int = 0
    """Folders inside that cannot be listed, or are too deep."""


class Folder:
    """The folder of one source, while it is open."""

    def __init__(self, config: FileDropConfig, source: str) -> None:
        self._config = config
        self._source = quote(source, safe="").encode()
        self._handles: list[int] = []
        self._root = self._all_work = self._work = self._done = self._failed = -1
        self._by_state = config.after == "keep" or config.ready == "stable" or config.order == "mtime"
        self.refused: dict[bytes, OSError] = {}
        """Of the latest claims, the files that could not be claimed."""

    def open(self) -> None:
        """Make what is missing inside the folder, and see that nobody else works here. Raises Busy, too."""
        self._root = os.open(os.fsencode(self._config.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._handles = [self._root]
        self._all_work = handles.made(self._root, WORK, _OWN)
        self._handles.append(self._all_work)
        self._work = handles.made(self._all_work, self._source, _OWN)
        self._handles.append(self._work)
        self._done = handles.made(self._root, DONE, _SHARED)
        self._handles.append(self._done)
        self._failed = handles.made(self._root, FAILED, _SHARED)
        self._handles.append(self._failed)
        lock = os.open(b".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._work)
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
        for name, handle in ((WORK, self._all_work), (DONE, self._done), (FAILED, self._failed)):
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
                with handles.folder(self._root, inside) as folder, os.scandir(folder) as entries:
                    look.folders.append(inside)
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
        return heapq.nsmallest(_NAMES_MAX, found, key=lambda one: (one.state[2] if by_time else 0, one.path))

    def claimed(self) -> list[Taken]:
        """What was claimed and not moved on yet, in order; what is empty goes."""
        found = []
        for claim in sorted(os.listdir(self._work)):
            if claim.startswith("."):
                continue
            paths = sorted(self._walk_claim(os.fsencode(claim)))
            if self._config.ready == "marker":
                paths = self._without_markers(os.fsencode(claim), paths)
            if paths:
                self._sync(self._work, os.fsencode(claim))
            else:
                self.tidy({claim})
            found += [Taken(claim, path) for path in paths]
        return found

    def _walk_claim(self, claim: bytes) -> Iterator[bytes]:
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            with handles.folder(self._work, os.path.join(claim, inside).rstrip(b"/")) as folder:
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
                with handles.folder(self._work, os.path.join(claim, os.path.dirname(path)).rstrip(b"/")) as folder:
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
        with handles.folder(self._work, claim.encode(), make=_OWN) as base:
            taken = [Taken(claim, path) for path in paths if self._take(base, path)]
            os.fsync(base)
        if taken:
            self._sync(self._work, b"")
            for inside in {os.path.dirname(file.path) for file in taken}:
                self._sync(self._root, inside)
        else:
            self.tidy({claim})
        return taken

    def _take(self, base: int, path: bytes) -> bool:
        inside, name = os.path.split(path)
        try:
            with handles.folder(self._root, inside) as origin, handles.folder(base, inside, make=_OWN) as target:
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
            elif error.errno not in _GONE:
                raise
            return False

    def open_file(self, file: Taken) -> int:
        """Open a file for reading, without waiting for whatever it is."""
        base = self._work if file.claim else self._root
        with handles.folder(base, os.path.dirname(file.inside)) as folder:
            return os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)

    def status(self, file: Taken) -> os.stat_result:
        """What the file system knows of a file, even of one that cannot be opened."""
        with handles.folder(self._work if file.claim else self._root, os.path.dirname(file.inside)) as folder:
            return os.lstat(file.name, dir_fd=folder)

    def is_there(self, path: bytes) -> bool:
        """Whether the folder has something of this path."""
        return _has(self._root, path)

    def done_has(self, path: bytes) -> bool:
        """Whether ``done`` has something of this path."""
        return _has(self._done, path)

    # Ways out

    def finish(self, files: list[Taken]) -> dict[Taken, OSError]:
        """Move files to ``done``, or delete them, as the configuration says; returns those that could not be moved."""
        stuck = {}
        for file in files:
            try:
                with handles.folder(self._work, os.path.dirname(file.inside)) as folder:
                    if self._config.after == "delete":
                        os.unlink(file.name, dir_fd=folder)
                    else:
                        self._move_to_done(folder, file)
            except OSError as error:
                if _has(self._work, file.inside):
                    stuck[file] = error
        for inside in {os.path.dirname(file.path) for file in files} if self._config.after == "move" else ():
            self._sync(self._done, inside)
        self.tidy({file.claim for file in files})
        return stuck

    def _move_to_done(self, folder: int, file: Taken) -> None:
        inside, _ = os.path.split(file.path)
        with self._inside(self._done, inside, file.claim) as target:
            for name in _names(file):
                try:
                    handles.rename(folder, file.name, target, name)
                except FileExistsError:
                    if not self._settle(folder, file.name, target, name):
                        continue
                return

    def _settle(self, folder: int, name: bytes, target: int, target_name: bytes) -> bool:
        """Do what ``on_conflict`` says; False where another name is to be tried."""
        if handles.is_same(folder, name, target, target_name):
            # Two names of one file: a rename would do nothing.
            os.unlink(name, dir_fd=folder)
            return True
        is_folder = stat.S_ISDIR(os.lstat(target_name, dir_fd=target).st_mode)
        if self._config.on_conflict == "keep" and not is_folder:
            os.unlink(name, dir_fd=folder)
            return True
        if self._config.on_conflict == "replace" and not is_folder:
            os.replace(name, target_name, src_dir_fd=folder, dst_dir_fd=target)
            return True
        return False

    def _inside(self, base: int, inside: bytes, claim: str) -> AbstractContextManager[int]:
        """A folder inside ``done`` or ``failed``; one of the claim's name where something else is in its way."""
        try:
            with handles.folder(base, inside, make=_SHARED):
                pass
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return handles.folder(base, claim.encode(), make=_SHARED)
        return handles.folder(base, inside)

    def fail(self, file: Taken, report: bytes) -> None:
        """Move a file to ``failed`` with a report of why beside it; may be called again."""
        with (
            handles.folder(self._work, os.path.dirname(file.inside)) as folder,
            self._inside(self._failed, os.path.dirname(file.path), file.claim) as target,
        ):
            if not handles.exists(folder, file.name):
                return
            for name in _names(file):
                if handles.exists(target, name) or not self._write_report(target, name, file, report):
                    continue
                handles.rename(folder, file.name, target, name)
                break
            os.fsync(target)
        self.tidy({file.claim})

    def _write_report(self, folder: int, name: bytes, file: Taken, report: bytes) -> bool:
        """False where the name of the report is taken; unless it is this file's, from before a crash."""
        path = _report_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o644, dir_fd=folder)
        except FileExistsError:
            return _claim_in_report(folder, path) == file.part
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(report)
                stream.flush()
                os.fsync(handle)
        except OSError:
            os.unlink(path, dir_fd=folder)
            raise
        return True

    def bring_back(self, file: Taken) -> bool:
        """Put a file from ``failed`` back to where it was claimed; False where it is not there any more."""
        with self._inside(self._failed, os.path.dirname(file.path), file.claim) as origin:
            for name in islice(_names(file), 12):
                if handles.exists(origin, name) and _claim_in_report(origin, _report_name(name)) == file.part:
                    with handles.folder(self._work, os.path.dirname(file.inside), make=_OWN) as target:
                        handles.rename(origin, name, target, file.name)
                        os.fsync(target)
                    os.unlink(_report_name(name), dir_fd=origin)
                    return True
        return False

    def tidy(self, claims: Iterable[str]) -> None:
        """Remove the folders of claims, as far as they are empty."""
        for claim in claims:
            inner = [b""]
            with suppress(OSError):
                for inside in inner:
                    with handles.folder(self._work, os.path.join(claim.encode(), inside).rstrip(b"/")) as folder:
                        inner += [
                            os.path.join(inside, os.fsencode(entry.name))
                            for entry in os.scandir(folder)
                            if entry.is_dir(follow_symlinks=False)
                        ]
                for inside in reversed(inner):
                    os.rmdir(os.path.join(claim.encode(), inside).rstrip(b"/"), dir_fd=self._work)

    def _sync(self, base: int, inside: bytes) -> None:
        with suppress(FileNotFoundError, NotADirectoryError), handles.folder(base, inside) as folder:
            os.fsync(folder)


def state_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """See Found. Times that no 64 bits can hold are the nearest ones that they can."""
    times = (max(-(2**63), min(2**63 - 1, one)) for one in (status.st_mtime_ns, status.st_ctime_ns))
    return (status.st_ino, status.st_size, *times)  # type: ignore[return-value]


def _has(base: int, path: bytes) -> bool:
    try:
        with handles.folder(base, os.path.dirname(path)) as folder:
            return handles.exists(folder, os.path.basename(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _names(file: Taken) -> Iterator[bytes]:
    """The file's name, and then others like it: report.1.csv to report.9.csv, report.CLAIM.csv and so on."""
    yield file.name
    stem, suffix = os.path.splitext(file.name)
    claim = file.claim.encode()
    few = (b".%d" % number for number in range(1, 10))
    for tail in chain(few, (b"." + claim,), (b".%s.%d" % (claim, number) for number in count(1))):
        yield stem[: max(1, _NAME_BYTES_MAX - len(tail) - len(suffix))] + tail + suffix[-100:]


def _report_name(name: bytes) -> bytes:
    """What the report of a failed file is called; of one with a very long name it has the beginning of that."""
    return name[: _NAME_BYTES_MAX - len(_REPORT)] + _REPORT


def _claim_in_report(folder: int, name: bytes) -> str | None:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, "rb") as stream:
            report = json.loads(stream.read(_REPORT_BYTES_MAX))
    except (OSError, ValueError):
        return None
    claim = report.get("claim") if isinstance(report, dict) else None
    return claim if isinstance(claim, str) else None
