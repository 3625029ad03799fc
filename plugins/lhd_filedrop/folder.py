"""The folder: what is in it, and every move of a file. Names are bytes, no link is followed, one file system holds all.

A file is claimed by a rename into a folder of this source inside ``.work``; the folder of the claim and the path of the
file inside it are its name for ever. All functions block, and are called in threads.
"""

import ctypes
import errno
import fcntl
import fnmatch
import heapq
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from lhd_filedrop.config import FileDropConfig

WORK, DONE, FAILED = b".work", b"done", b"failed"
_REPORT = b".error.json"
_NAME_BYTES_MAX = 255
_NAMES_MAX = 16_384
"""So many names are looked at, and put in order, at once."""
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_NOT_IMPLEMENTED = (errno.ENOSYS, errno.EINVAL)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the folder: its path inside it, and what tells one state of it from another."""

    path: bytes
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    nlink: int = 1


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

    @classmethod
    def of_part(cls, part: str) -> "Taken":
        """The file that :attr:`part` names."""
        claim, _, path = part.partition("/")
        return cls(claim, unquote_to_bytes(path))


class Busy(Exception):
    """Another process works in the folder."""


class Folder:
    """The folder of one source."""

    def __init__(self, config: FileDropConfig, source: str) -> None:
        self._config = config
        self._root = os.fsencode(config.path)
        self._work = os.path.join(self._root, WORK, quote(source, safe="").encode())
        self._lock = -1

    def open(self) -> None:
        """Make what is missing inside the folder, and see that nobody else works here. Raises Busy and OSError."""
        os.stat(self._root)  # not to be made: a folder that is not mounted yet would be read as an empty one
        os.makedirs(self._work, mode=0o700, exist_ok=True)
        for name in (DONE, FAILED):
            os.makedirs(os.path.join(self._root, name), exist_ok=True)
        self._lock = os.open(os.path.join(self._work, b".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise Busy from None

    def close(self) -> None:
        """Let others work here."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def claimed(self) -> list[Taken]:
        """What was claimed and not moved on yet, oldest first; what is empty goes."""
        found = []
        for claim in sorted(os.listdir(self._work)):
            if claim.startswith(b"."):
                continue
            base = os.path.join(self._work, claim)
            for folder, _, names in os.walk(base, topdown=False):
                paths = [os.path.relpath(os.path.join(folder, name), base) for name in names]
                found += [Taken(claim.decode(), path) for path in self._without_markers(base, paths)]
                with suppress(OSError):
                    os.rmdir(folder)
        return found

    def _without_markers(self, base: bytes, paths: list[bytes]) -> list[bytes]:
        """The files; one whose claim was cut off after its marker had been moved is claimed now."""
        if self._config.ready != "marker":
            return paths
        suffix = os.fsencode(self._config.marker_suffix)
        files = []
        for path in (path.removesuffix(suffix) for path in paths if path.endswith(suffix)):
            try:
                if path not in paths:
                    os.rename(os.path.join(self._root, path), os.path.join(base, path))
                files.append(path)
            except FileNotFoundError:
                os.unlink(os.path.join(base, path + suffix))
        return files + [path for path in paths if not path.endswith(suffix) and path not in files]

    def files(self) -> Iterator[Found]:
        """All files that may be taken, in no order: regular ones whose names fit the pattern and are not temporary.

        Raises OSError where the folder itself cannot be listed.
        """
        return self._walk(self._root, b"")

    def first(self, found: Iterable[Found]) -> list[Found]:
        """The first thousands of them in the order that is wanted."""
        by_time = self._config.order == "mtime"
        return heapq.nsmallest(_NAMES_MAX, found, key=lambda one: (one.mtime_ns if by_time else 0, one.path))

    def _walk(self, folder: bytes, inside: bytes) -> Iterator[Found]:
        try:
            entries = os.scandir(folder)
        except OSError:
            if not inside:
                raise
            return
        with entries:
            for entry in entries:
                path = os.path.join(inside, entry.name)
                if entry.name.startswith(b".") or (not inside and entry.name in (DONE, FAILED)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if self._config.recursive:
                        yield from self._walk(entry.path, path)
                elif entry.is_file(follow_symlinks=False) and self._is_wanted(entry.name):
                    with suppress(FileNotFoundError):
                        yield _found(path, entry.stat(follow_symlinks=False))

    def _is_wanted(self, name: bytes) -> bool:
        config = self._config
        if name.endswith(tuple(os.fsencode(suffix) for suffix in config.temporary_suffixes)):
            return False
        if config.ready == "marker" and name.endswith(os.fsencode(config.marker_suffix)):
            return False
        return fnmatch.fnmatchcase(name, os.fsencode(config.pattern))

    def has_marker(self, path: bytes) -> bool:
        """Whether the marker of a file is there."""
        return os.path.lexists(os.path.join(self._root, self._marker(path)))

    def _marker(self, path: bytes) -> bytes:
        return path + os.fsencode(self._config.marker_suffix)

    def claim(self, paths: list[bytes], now_ms: int) -> list[Taken]:
        """Claim files in one folder of the work folder, durably; one that is gone is left out. Raises OSError."""
        claim = f"{now_ms:013d}-{secrets.token_hex(4)}"
        base = os.path.join(self._work, claim.encode())
        os.mkdir(base, 0o700)
        claimed = [Taken(claim, path) for path in paths if self._take(base, path)]
        self._sync({base, self._work} | {os.path.dirname(os.path.join(self._root, path)) for path in paths})
        if not claimed:
            self.tidy({claim})
        return claimed

    def _take(self, base: bytes, path: bytes) -> bool:
        target = os.path.join(base, path)
        source = os.path.join(self._root, path)
        parent = os.path.dirname(target)
        if parent != base:
            os.makedirs(parent, mode=0o700, exist_ok=True)
        try:
            # Through a handle of its folder, none of which may be a link: the file cannot be one of elsewhere.
            handle = self._open_folder(os.path.dirname(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        try:
            if self._config.ready == "marker":
                # The marker first: with it in the work folder the file is known to be finished, whatever happens.
                os.rename(self._marker(os.path.basename(path)), self._marker(target), src_dir_fd=handle)
            os.rename(os.path.basename(source), target, src_dir_fd=handle)
        except FileNotFoundError:
            return False
        finally:
            os.close(handle)
        return True

    def _open_folder(self, inside: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        handle = os.open(self._root, flags)
        for part in inside.split(b"/") if inside else ():
            try:
                inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=handle)
            finally:
                os.close(handle)
            handle = inner
        return handle

    def _work_path(self, file: Taken) -> bytes:
        return os.path.join(self._work, file.claim.encode(), file.path)

    def open_file(self, file: Taken) -> int:
        """Open a file for reading, following no link. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if file.claim:
            return os.open(self._work_path(file), flags)
        handle = self._open_folder(os.path.dirname(file.path))
        try:
            return os.open(file.name, flags, dir_fd=handle)
        finally:
            os.close(handle)

    def status(self, file: Taken) -> os.stat_result:
        """What the file system knows of a file, even of one that cannot be opened. Raises OSError."""
        return os.lstat(self._work_path(file) if file.claim else os.path.join(self._root, file.path))

    def done_exists(self, path: bytes) -> bool:
        """Whether ``done`` has something of this name."""
        return os.path.lexists(os.path.join(self._root, DONE, path))

    def finish(self, files: list[Taken]) -> None:
        """Move files to ``done``, or delete them, as the configuration says. Raises OSError; may be called again."""
        changed = set()
        for file in files:
            source = self._work_path(file)
            with suppress(FileNotFoundError):
                if self._config.after == "delete":
                    os.unlink(source)
                else:
                    self._move(source, DONE, file.path, self._config.on_conflict)
            changed |= {os.path.dirname(os.path.join(self._root, DONE, file.path)), os.path.dirname(source)}
            self._drop_marker(file)
        self._sync(changed)
        self.tidy({file.claim for file in files})

    def fail(self, file: Taken, report: bytes) -> bytes:
        """Move a file to ``failed`` with a report of why beside it; returns its path there. Raises OSError."""
        base = os.path.join(self._root, FAILED)
        path = next(path for path in _names(file.path) if not os.path.lexists(os.path.join(base, path)))
        target = os.path.join(base, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(os.fsdecode(_report_path(target))).write_bytes(report)
        source = self._work_path(file)
        rename_no_replace(source, target)
        self._drop_marker(file)
        self._sync({os.path.dirname(target), os.path.dirname(source)})
        self.tidy({file.claim})
        return path

    def bring_back(self, file: Taken) -> bool:
        """Put a file from ``failed`` back to where it was claimed; False where it is not there any more.

        Raises OSError.
        """
        for path in _names(file.path):
            source = os.path.join(self._root, FAILED, path)
            if not os.path.lexists(source):
                return False
            report = _report_path(source)
            with suppress(OSError, ValueError):
                if json.loads(Path(os.fsdecode(report)).read_bytes())["claim"] == file.part:
                    break
        target = self._work_path(file)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        rename_no_replace(source, target)
        os.unlink(report)
        self._sync({os.path.dirname(source), os.path.dirname(target)})
        return True

    def _drop_marker(self, file: Taken) -> None:
        if self._config.ready == "marker":
            with suppress(FileNotFoundError):
                os.unlink(self._marker(self._work_path(file)))

    def _move(self, source: bytes, folder: bytes, path: bytes, on_conflict: str) -> None:
        """Move a file into ``folder``."""
        for name in _names(path):
            target = os.path.join(self._root, folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                rename_no_replace(source, target)
            except FileExistsError:
                if os.path.samefile(source, target):
                    # Two names of one file: a rename would do nothing.
                    os.unlink(source)
                elif on_conflict == "keep":
                    os.unlink(source)
                elif on_conflict == "replace" and not os.path.isdir(target):
                    os.replace(source, target)
                else:
                    continue
            return

    def tidy(self, claims: set[str]) -> None:
        """Remove the folders of claims, as far as they are empty."""
        for claim in claims:
            for folder, _, _ in os.walk(os.path.join(self._work, claim.encode()), topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)

    def _sync(self, folders: set[bytes]) -> None:
        for folder in folders:
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _names(path: bytes) -> Iterator[bytes]:
    """A path, and then others like it: report.csv, report.1.csv, report.2.csv ..."""
    yield path
    stem, suffix = os.path.splitext(path)
    for number in count(1):
        yield b"%s.%d%s" % (stem, number, suffix)


def _report_path(path: bytes) -> bytes:
    """Where the report of a failed file is; of one with a very long name it has the beginning of that."""
    folder, name = os.path.split(path)
    return os.path.join(folder, name[: _NAME_BYTES_MAX - len(_REPORT)] + _REPORT)


def _found(path: bytes, status: os.stat_result) -> Found:
    return Found(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)


def rename_no_replace(source: bytes, target: bytes) -> None:
    """Rename, unless ``target`` exists (renameat2(2)); where the file system cannot, look first. Raises OSError."""
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _NOT_IMPLEMENTED:
        raise OSError(number, os.strerror(number), os.fsdecode(source), None, os.fsdecode(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(target))
    os.rename(source, target)
