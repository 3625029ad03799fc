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

from lhd_filedrop.cancelling import check_cancelled
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents, read_all
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Folder, Taken, state_of
from lhd_filedrop.inflating import compression, opened
from lhd_filedrop.positions import Facts, Position
from lhd_filedrop.readiness import Readiness, has_writer
from lhd_filedrop.records import Place, Record

_PIECE_BYTES = 1_048_576
BATCH_BYTES = 4_194_304


class Unfinished(Exception):
    """The file cannot be read just now: somebody writes it, or has just done so."""


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
        handle, before = self._open(file, by_record=False)
        limit = self._config.file_bytes_max(by_record=False)
        with opened(handle, self._compression(file), self._config.contents_bytes_max(by_record=False)) as stream:
            try:
                with _reading():
                    data = read_all(stream, limit if self._compression(file) is None else None)
            finally:
                # What was read of a file that somebody writes may be broken only for that.
                _require_unchanged(handle, before)
            is_plain = self._compression(file) is None
            digest = hashlib.sha256(data).hexdigest() if is_plain else _digest_of(handle, before)
        facts = _facts(before, digest)
        try:
            return Read(file, facts, data, self._contents.whole(data))
        except Failed as failed:
            raise Unreadable(failed, facts, data) from failed

    def facts(self, file: Taken) -> Facts:
        """What is to be known of a file before its records are read. Raises Failed, Unfinished, FileNotFoundError."""
        handle, before = self._open(file, by_record=True)
        try:
            return _facts(before, _digest_of(handle, before))
        finally:
            os.close(handle)

    def digest(self, file: Taken) -> str:
        """That of a file, whether or not it may be read as it is; "" where it cannot be. Raises Unfinished."""
        try:
            handle = self._folder.open_file(file)
        except BlockingIOError:
            raise Unfinished from None
        except OSError:
            return ""
        try:
            if self._probes and has_writer(handle):
                raise Unfinished
            return _digest_of(handle, os.fstat(handle))
        except Failed:
            return ""
        finally:
            os.close(handle)

    def glance(self, file: Taken) -> Facts | None:
        """What can be known of a file without opening it; None where that is nothing."""
        try:
            return _facts(self._folder.status(file), "")
        except OSError:
            return None

    def records(self, file: Taken, facts: Facts, position: Position | None) -> "Records":
        """The records of a file, from a position on that is partial.

        Raises Failed, where it holds other records up to there, too, and Unfinished where it is another file now.
        """
        handle, before = self._open(file, by_record=True)
        if state_of(before) != facts.state:
            os.close(handle)
            raise Unfinished
        limit = self._config.contents_bytes_max(by_record=True)
        stream = _Hashed(opened(handle, self._compression(file), limit), position)
        return Records(stream, handle, facts, self._contents, Place() if position is None else position.place)

    def form(self, file: Taken) -> str:
        """What tells one way to come to the records of a file from another."""
        config = self._config
        dialect = config.csv.model_dump_json() + config.encoding if config.format == "csv" else ""
        return f"{config.format} {self._compression(file)} {dialect}"

    def _compression(self, file: Taken) -> str | None:
        kind = compression(file.name)
        return kind if kind in self._config.decompress else None

    def _open(self, file: Taken, *, by_record: bool) -> tuple[int, os.stat_result]:
        if self._config.on_conflict == "fail" and self._config.after == "move" and self._folder.done_has(file.path):
            raise Failed("done has a file of this name already")
        try:
            handle = self._folder.open_file(file)
        except FileNotFoundError:
            raise
        except BlockingIOError:
            raise Unfinished from None  # somebody holds a lease on it, to write
        except OSError as error:
            raise _failure("opened", error) from error
        try:
            status = os.fstat(handle)
            self._require_fit(status, file, by_record=by_record)
            is_written = self._probes and has_writer(handle)
            if is_written or not self._readiness.is_still(file, state_of(status), time.monotonic()):
                raise Unfinished
        except BaseException:
            os.close(handle)
            raise
        return handle, status

    def _require_fit(self, status: os.stat_result, file: Taken, *, by_record: bool) -> None:
        config = self._config
        if not stat.S_ISREG(status.st_mode):
            raise Failed("it is no regular file")
        if config.owners and status.st_uid not in config.owners:
            raise Failed(f"it belongs to user {status.st_uid}, who is none of the owners")
        if status.st_mode & config.forbidden_mode:
            mode = stat.S_IMODE(status.st_mode)
            raise Failed(f"its mode is {mode:o}, of which {config.forbidden_mode:o} is forbidden")
        limit = config.file_bytes_max(by_record=by_record)
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

    def __init__(self, stream: "_Hashed", handle: int, facts: Facts, contents: Contents, place: Place) -> None:
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

    @property
    def digest(self) -> str:
        """That of the contents up to the last record that was given."""
        return self._stream.digest

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class _Hashed:
    """A stream that knows the digest of what was read of it, and holds it against one that is known."""

    def __init__(self, stream: IO[bytes], position: Position | None) -> None:
        self._stream: Any = stream
        self._hash = hashlib.sha256()
        self._offset = 0
        self._position = position

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int, /) -> bytes:
        return self._passed(self._stream.read(size))

    def readline(self, size: int, /) -> bytes:
        return self._passed(self._stream.readline(size))

    def peek(self, size: int, /) -> bytes:
        ahead: bytes = self._stream.peek(size)
        return ahead

    def close(self) -> None:
        self._stream.close()

    def _passed(self, data: bytes) -> bytes:
        self._hash.update(data)
        self._offset += len(data)
        known = self._position
        if known is not None and (self._offset >= known.place.offset or not data):
            if (self._offset, self.digest) != (known.place.offset, known.digest):
                stored = f"its first {known.place.index} records are stored already, and were changed"
                raise Failed(f"{stored}: they have to stay; drop what is to be added as a new file")
            self._position = None
        return data


@contextmanager
def _reading() -> Iterator[None]:
    """A file whose bytes the disk does not give fails, and stops no other."""
    try:
        yield
    except OSError as error:
        raise _failure("read", error) from error


def _failure(what: str, error: OSError) -> Exception:
    """What to make of an error of one file: it fails, unless the process is at fault, or a server has lost it."""
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return error
    if error.errno == errno.ESTALE:
        return Unfinished()
    return Failed(f"it cannot be {what}: {error.strerror}")


def _digest_of(handle: int, before: os.stat_result) -> str:
    """The digest of an open file. Raises Failed, and Unfinished where its state is another one than before."""
    digest = hashlib.sha256()
    offset = 0
    with _reading():
        while piece := os.pread(handle, _PIECE_BYTES, offset):
            check_cancelled()
            digest.update(piece)
            offset += len(piece)
    _require_unchanged(handle, before)
    return digest.hexdigest()


def _require_unchanged(handle: int, before: os.stat_result) -> None:
    if state_of(os.fstat(handle)) != state_of(before):
        raise Unfinished


def _facts(status: os.stat_result, digest: str) -> Facts:
    return Facts(status.st_size, status.st_mtime_ns // 1_000_000, digest, state_of(status))
