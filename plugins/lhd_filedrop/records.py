"""The records of a file that has one on each line, or in CSV, one after the other and each with its place."""

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lhd_filedrop.cancelling import STRIDE, check_cancelled
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.failed import Failed

_PIECE_BYTES = 1_048_576
_HEADER_BYTES_MAX = 65_536
# Its own limit, 128 KiB, would end a field in its middle; how long a record may be is looked at here.
csv.field_size_limit(sys.maxsize)
Decode = Callable[[bytes], Any]
"""The value of a line. Raises Failed."""


class Stream(Protocol):
    """What records are read from, as :class:`io.BufferedReader` has it. All may raise Failed."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or so many bytes of it."""

    def peek(self, size: int, /) -> bytes:
        """The bytes that come next, more or fewer."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record begins: an offset in the inflated file, its number from 0, and its line from 1."""

    offset: int = 0
    index: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A record: where it begins and the next one does, its bytes, and its value; or why it cannot be read.

    Of a record that is too long there are the first bytes only. ``head`` is what has to stand before its bytes so that
    they can be read on their own.
    """

    place: Place
    next: Place
    raw: bytes
    value: Any = None
    poison: str = ""
    head: bytes = b""
    column: int | None = None
    """Where it is broken, from 1."""

    @property
    def failed(self) -> Failed:
        """Why it cannot be read, and where in its file."""
        return Failed(self.poison, self.place.line, self.column)


def skip(stream: Stream, count: int) -> None:
    """Go over bytes of a stream; all of them are read. Raises Failed where it has fewer."""
    while count > 0:
        check_cancelled()
        piece = stream.read(min(count, _PIECE_BYTES))
        if not piece:
            raise Failed("it is shorter than it was")
        count -= len(piece)


def read_line(stream: Stream, most: int) -> tuple[bytes, int]:
    """The next line with its end, and how long that is in truth; 0 at the end of the file.

    Of a line that has more than ``most`` bytes before its end there are the first ones only.
    """
    line = stream.readline(most + 2)
    length = len(line)
    if len(_without_end(line)) <= most:
        return line, length
    piece = line
    while piece and not piece.endswith(b"\n"):
        check_cancelled()
        piece = stream.readline(_PIECE_BYTES)
        length += len(piece)
    return line[:most], length


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def lines(stream: Stream, place: Place, most: int, decode: Decode, *, skip_blank: bool) -> Iterator[Record]:
    """The lines from a place on, at which the stream stands."""
    while True:
        if place.line % STRIDE == 0:
            check_cancelled()
        raw, length = read_line(stream, most)
        if length == 0:
            return
        content, is_cut = _without_end(raw), length > len(raw)
        is_record = is_cut or bool(content.strip()) or not skip_blank
        after = Place(place.offset + length, place.index + is_record, place.line + 1)
        if is_record:
            yield _decoded(Record(place, after, content), decode, is_cut=is_cut, most=most)
        place = after


def _decoded(record: Record, decode: Decode, *, is_cut: bool, most: int) -> Record:
    if is_cut:
        return replace(record, poison=f"it has more than {most} bytes")
    try:
        return replace(record, value=decode(record.raw))
    except Failed as error:
        return replace(record, poison=error.reason, column=error.column)


class CsvRecords:
    """The records of CSV (RFC 4180). After one that is broken the next line is taken for the beginning of another."""

    def __init__(self, config: FileDropConfig, stream: Stream, place: Place) -> None:
        self._config = config
        self._stream = stream
        self._place = place
        self._taken = bytearray()
        self._length = 0

    def read(self, header: list[str] | None, head: bytes = b"") -> Iterator[Record]:
        """With a header, whose bytes are ``head``, records are maps, else lists.

        Raises Failed for a record that does not end.
        """
        while True:
            if self._place.line % STRIDE == 0:
                check_cancelled()
            record = self._next(header, head)
            if record is None:
                return
            if record.next.index > record.place.index:
                yield record

    def header(self) -> tuple[list[str], Record] | None:
        """The names of the fields, with the record that holds them; None in an empty file. Raises Failed."""
        record = self._next(None)
        if record is None:
            return None
        if record.poison:
            raise Failed(f"the header cannot be read: {record.poison}", record.place.line)
        if len(record.raw) > _HEADER_BYTES_MAX:
            # It stands before every record that is kept.
            raise Failed(f"the header has more than {_HEADER_BYTES_MAX} bytes", record.place.line)
        fields: list[str] = record.value or []
        if not fields or len(set(fields)) < len(fields):
            raise Failed("the header is empty, or names a field twice", record.place.line)
        return fields, record

    def _next(self, header: list[str] | None, head: bytes = b"") -> Record | None:
        self._taken.clear()
        self._length = 0
        poison, fields = "", None
        try:
            fields = next(csv.reader(self._lines(), **self._config.csv.options()), None)
        except csv.Error as error:
            poison = f"it is not CSV: {error}"
        except UnicodeDecodeError:
            poison = f"it is not {self._config.encoding}"
        if self._length == 0:
            return None
        value: Any = fields
        if header is not None and fields and not poison:
            value = dict(zip(header, fields, strict=False))
            if len(fields) != len(header):
                value, poison = None, f"it has {len(fields)} fields, the header has {len(header)}"
        raw, place = bytes(self._taken), self._place
        is_record = bool(fields or poison)
        self._place = Place(place.offset + self._length, place.index + is_record, place.line + raw.count(b"\n"))
        return Record(place, self._place, raw, value, poison, head)

    def _lines(self) -> Iterator[str]:
        most = self._config.record_bytes_max
        while True:
            raw, length = read_line(self._stream, most)
            if length == 0:
                return
            self._taken += raw
            self._length += length
            end = len(raw) - len(_without_end(raw))
            if length > len(raw) or self._length - end > most:
                raise Failed(f"a record has more than {most} bytes; is a quote open?", self._place.line)
            yield raw.decode(self._config.encoding)
