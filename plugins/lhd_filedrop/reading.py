"""Reads one file: whether it may be read, is finished, its bytes, digest and records. Blocks; called in threads."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents, read_all
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Folder, Taken
from lhd_filedrop.inflating import compression, opened
from lhd_filedrop.readiness import has_writer, same_state
from lhd_filedrop.records import Place, Record

_PIECE_BYTES = 1_048_576
BATCH_BYTES = 4_194_304


class Unfinished(Exception):
    """Somebody still writes the file."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What routes see of a file, and its state."""

    size: int
    mtime_ms: int
    sha256: str
    state: list[int]


@dataclass(frozen=True, slots=True)
class Read:
    """A whole file."""

    file: Taken
    facts: Facts
    data: bytes
    records: list[Record]


class FileReader:
    """Reads the files of one source."""

    def __init__(self, config: FileDropConfig, folder: Folder, contents: Contents) -> None:
        self._config = config
        self._folder = folder
        self._contents = contents

    def whole(self, file: Taken) -> Read:
        """A file of which all or nothing is taken. Raises Failed, Unfinished, and FileNotFoundError."""
        handle, before = self._open(file)
        digest = hashlib.sha256()
        with self._stream(handle, file) as stream, _reading():
            data = read_all(stream, self._config.file_bytes_max if self._compression(file) is None else None)
            _digest(handle, digest)
            if not same_state(before, os.fstat(handle)):
                raise Unfinished
        facts = _facts(before, digest.hexdigest())
        try:
            return Read(file, facts, data, self._contents.whole(data))
        except Failed as failed:
            raise Unreadable(failed, facts, data) from failed

    def facts(self, file: Taken) -> Facts:
        """What is to be known of a file before its records are read. Raises Failed, Unfinished, FileNotFoundError."""
        handle, before = self._open(file)
        try:
            digest = hashlib.sha256()
            with _reading():
                _digest(handle, digest)
            if not same_state(before, os.fstat(handle)):
                raise Unfinished
            return _facts(before, digest.hexdigest())
        finally:
            os.close(handle)

    def glance(self, file: Taken) -> Facts | None:
        """What can be known of a file that cannot be opened; None where it is gone."""
        try:
            return _facts(self._folder.status(file), "")
        except OSError:
            return None

    def records(self, file: Taken, facts: Facts, place: Place) -> "Records":
        """The records of a file from a place on. Raises Failed where it is another file now."""
        handle, before = self._open(file)
        if _state(before) != facts.state:
            os.close(handle)
            raise Failed("it was changed while it was read")
        return Records(self._stream(handle, file), handle, facts, self._contents, place)

    def _compression(self, file: Taken) -> str | None:
        kind = compression(file.name)
        return kind if kind in self._config.decompress else None

    def _stream(self, handle: int, file: Taken) -> IO[bytes]:
        return opened(handle, self._compression(file), self._config.inflated_bytes_max)

    def _open(self, file: Taken) -> tuple[int, os.stat_result]:
        if self._config.on_conflict == "fail" and self._config.after == "move" and self._folder.done_exists(file.path):
            raise Failed("done has a file of this name already")
        try:
            handle = self._folder.open_file(file)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Failed(f"it cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            self._require_fit(status)
            if has_writer(handle):
                raise Unfinished
        except BaseException:
            os.close(handle)
            raise
        return handle, status

    def _require_fit(self, status: os.stat_result) -> None:
        config = self._config
        if not stat.S_ISREG(status.st_mode):
            raise Failed("it is no regular file")
        if config.owners and status.st_uid not in config.owners:
            raise Failed(f"it belongs to user {status.st_uid}, who is none of the owners")
        if status.st_mode & config.forbidden_mode:
            raise Failed(
                f"its mode is {stat.S_IMODE(status.st_mode):o}, of which {config.forbidden_mode:o} is forbidden"
            )
        if config.file_bytes_max is not None and status.st_size > config.file_bytes_max:
            raise Failed(f"it has {status.st_size} bytes, max_bytes are {config.file_bytes_max}")


class Unreadable(Exception):
    """A file was read, and its contents are not what they should be."""

    def __init__(self, failed: Failed, facts: Facts, data: bytes) -> None:
        super().__init__(str(failed))
        self.failed = failed
        self.facts = facts
        self.data = data


class Records:
    """The records of an open file, in batches."""

    def __init__(self, stream: IO[bytes], handle: int, facts: Facts, contents: Contents, place: Place) -> None:
        self._stream = stream
        self._handle = handle
        self._facts = facts
        self._records: Iterator[Record] = contents.records(stream, place)

    def batch(self, most: int) -> list[Record]:
        """At most so many records and some megabytes more; empty at the end. Raises Failed."""
        taken: list[Record] = []
        size = 0
        with _reading():
            for record in islice(self._records, most):
                taken.append(record)
                size += len(record.raw)
                if size >= BATCH_BYTES:
                    break
        if not taken and _state(os.fstat(self._handle)) != self._facts.state:
            raise Failed("it was changed while it was read")
        return taken

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


@contextmanager
def _reading() -> Iterator[None]:
    """A file whose bytes the disk does not give fails, and stops no other."""
    try:
        yield
    except OSError as error:
        raise Failed(f"it cannot be read: {error.strerror}") from error


def _digest(handle: int, digest: Any) -> None:
    offset = 0
    while piece := os.pread(handle, _PIECE_BYTES, offset):
        digest.update(piece)
        offset += len(piece)


def _state(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _facts(status: os.stat_result, digest: str) -> Facts:
    return Facts(status.st_size, status.st_mtime_ns // 1_000_000, digest, _state(status))
