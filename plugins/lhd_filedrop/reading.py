"""Reads one file: whether it may be read, is finished, its bytes, digest and records. Blocks; called in threads."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents, read_all
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import FAULTS, Folder, Taken, state_of
from lhd_filedrop.inflating import compression, opened
from lhd_filedrop.positions import Facts
from lhd_filedrop.readiness import Readiness, has_writer
from lhd_filedrop.records import Place, Record, check_cancelled

_PIECE_BYTES = 1_048_576
BATCH_BYTES = 4_194_304


class Unfinished(Exception):
    """Somebody still writes the file, or has just done so."""


@dataclass(frozen=True, slots=True)
class Read:
    """A whole file."""

    file: Taken
    facts: Facts
    data: bytes
    records: list[Record]


class FileReader:
    """Reads the files of one source; with ``probes`` the kernel is asked whether somebody writes them."""

    def __init__(
        self, config: FileDropConfig, folder: Folder, contents: Contents, readiness: Readiness, *, probes: bool
    ) -> None:
        self._config = config
        self._folder = folder
        self._contents = contents
        self._readiness = readiness
        self._probes = probes

    def whole(self, file: Taken) -> Read:
        """A file of which all or nothing is taken. Raises Failed, Unfinished, Unreadable, and FileNotFoundError."""
        handle, before = self._open(file)
        digest = hashlib.sha256()
        limit = self._config.file_bytes_max(by_record=False)
        with self._stream(handle, file) as stream:
            try:
                with _reading():
                    data = read_all(stream, limit if self._compression(file) is None else None)
            finally:
                # What was read of a file that somebody writes may be broken only for that.
                _require_unchanged(handle, before)
            if self._compression(file) is None:
                digest.update(data)
            else:
                _digest(handle, digest)
                _require_unchanged(handle, before)
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
            _digest(handle, digest)
            _require_unchanged(handle, before)
            return _facts(before, digest.hexdigest())
        finally:
            os.close(handle)

    def glance(self, file: Taken) -> Facts | None:
        """What can be known of a file without opening it; None where that is nothing."""
        try:
            return _facts(self._folder.status(file), "")
        except OSError:
            return None

    def records(self, file: Taken, facts: Facts, place: Place) -> "Records":
        """The records of a file from a place on. Raises Failed, and Unfinished where it is another file now."""
        handle, before = self._open(file)
        if state_of(before) != facts.state:
            os.close(handle)
            raise Unfinished
        return Records(self._stream(handle, file), handle, facts, self._contents, place)

    def digest_to(self, file: Taken, offset: int) -> str:
        """The digest of so many bytes of the inflated contents; "" where they cannot be read."""
        digest = hashlib.sha256()
        try:
            with self._stream(self._folder.open_file(file), file) as stream:
                while offset > 0 and (piece := stream.read(min(offset, _PIECE_BYTES))):
                    check_cancelled()
                    digest.update(piece)
                    offset -= len(piece)
        except (Failed, OSError):
            return ""
        return digest.hexdigest()

    def form(self, file: Taken) -> str:
        """What tells one way to come to the records of a file from another."""
        config = self._config
        dialect = repr(sorted(config.csv)) + config.encoding if config.format == "csv" else ""
        return f"{config.format} {self._compression(file)} {dialect}"

    def _compression(self, file: Taken) -> str | None:
        kind = compression(file.name)
        return kind if kind in self._config.decompress else None

    def _stream(self, handle: int, file: Taken) -> IO[bytes]:
        return opened(handle, self._compression(file), self._bytes_max(file))

    def _bytes_max(self, file: Taken) -> int:
        return self._config.contents_bytes_max(by_record=file.is_by_record(self._config))

    def _open(self, file: Taken) -> tuple[int, os.stat_result]:
        if self._config.on_conflict == "fail" and self._config.after == "move" and self._folder.done_has(file.path):
            raise Failed("done has a file of this name already")
        try:
            handle = self._folder.open_file(file)
        except FileNotFoundError:
            raise
        except BlockingIOError:
            raise Unfinished from None  # somebody holds a lease on it, to write
        except OSError as error:
            if error.errno in FAULTS:
                raise
            raise Failed(f"it cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            self._require_fit(status, file)
            is_written = self._probes and has_writer(handle)
            if is_written or not self._readiness.is_still(file, state_of(status), time.monotonic()):
                raise Unfinished
        except BaseException:
            os.close(handle)
            raise
        return handle, status

    def _require_fit(self, status: os.stat_result, file: Taken) -> None:
        config = self._config
        if not stat.S_ISREG(status.st_mode):
            raise Failed("it is no regular file")
        if config.owners and status.st_uid not in config.owners:
            raise Failed(f"it belongs to user {status.st_uid}, who is none of the owners")
        if status.st_mode & config.forbidden_mode:
            mode = stat.S_IMODE(status.st_mode)
            raise Failed(f"its mode is {mode:o}, of which {config.forbidden_mode:o} is forbidden")
        limit = config.file_bytes_max(by_record=file.is_by_record(config))
        if limit is not None and status.st_size > limit:
            raise Failed(f"it has {status.st_size} bytes, max_bytes are {limit}")
        if status.st_size == 0 and self._compression(file) is not None:
            raise Failed(f"it is {self._compression(file)} that ends too early")


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
        self._failed: Failed | None = None

    def batch(self, most: int) -> list[Record]:
        """At most so many records and some megabytes more; empty at the end.

        Raises Failed, after the records before that have been given, and Unfinished where the file was changed.
        """
        if self._failed is not None:
            raise self._failed
        taken: list[Record] = []
        size = 0
        try:
            with _reading():
                for record in islice(self._records, most):
                    taken.append(record)
                    size += len(record.head) + len(record.raw)
                    if size >= BATCH_BYTES:
                        break
        except Failed as failed:
            self._failed = failed
        if state_of(os.fstat(self._handle)) != self._facts.state:
            # What was read of a file that somebody writes may be half of a record.
            raise Unfinished
        if self._failed is not None and not taken:
            raise self._failed
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
        if error.errno in FAULTS and error.errno != errno.EIO:
            raise
        raise Failed(f"it cannot be read: {error.strerror}") from error


def _digest(handle: int, digest: Any) -> None:
    offset = 0
    with _reading():
        while piece := os.pread(handle, _PIECE_BYTES, offset):
            check_cancelled()
            digest.update(piece)
            offset += len(piece)


def _require_unchanged(handle: int, before: os.stat_result) -> None:
    if state_of(os.fstat(handle)) != state_of(before):
        raise Unfinished


def _facts(status: os.stat_result, digest: str) -> Facts:
    return Facts(status.st_size, status.st_mtime_ns // 1_000_000, digest, state_of(status))
