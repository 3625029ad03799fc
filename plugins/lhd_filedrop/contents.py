"""What is in a file: one value, or records. No message tells anything of the contents."""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import IO, Any
from xml.parsers.expat import ExpatError

from lhd.plugin import ConfigError, Undecodable, parse_json, parse_text
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.failed import Failed
from lhd_filedrop.records import CsvRecords, Place, Record, Stream, lines, skip

_PIECE_BYTES = 1_048_576
_WHOLE_BYTES_MAX = 67_108_864
"""Of records with the header before each of them, as they are kept; or as many as the file has."""
_DEPTH_MAX = 200


class Contents:
    """Reads the contents of one source's files."""

    def __init__(self, config: FileDropConfig) -> None:
        """Raises ConfigError where what the format needs is not installed."""
        self._config = config
        self._xml: Any = None
        if config.format == "xml":
            try:
                self._xml = import_module("xmltodict")
            except ImportError as error:
                raise ConfigError("format", "xml needs the package xmltodict", "pip install 'lhd[xml]'") from error

    def whole(self, data: bytes) -> list[Record]:
        """The records of a file of which all or nothing is taken: one, or each line's. Raises Failed."""
        if self._config.format not in ("ndjson", "csv"):
            return [Record(Place(), Place(len(data), 1), data, _anything(self.value, data))]
        records, size = [], 0
        for record in self.records(buffered(data), Place()):
            if record.poison:
                raise record.failed
            records.append(record)
            size += len(record.head) + len(record.raw)
            if size > max(_WHOLE_BYTES_MAX, len(data)):
                raise Failed(f'its records with their header have {size} bytes and more; use unit = "record"')
            if len(records) > self._config.records_max:
                raise Failed(f'it has more than {self._config.records_max} records; use unit = "record"')
        return records

    def value(self, data: bytes) -> Any:
        """The value of a file, or of a line, that is one record. Raises Failed."""
        match self._config.format:
            case "json" | "ndjson":
                return _told(parse_json, data.removeprefix(codecs.BOM_UTF8))
            case "text":
                return self._text(data)
            case "xml":
                return self._parse_xml(data)
        return data

    def records(self, stream: Stream, place: Place) -> Iterator[Record]:
        """The records from a place on; the stream stands at the beginning of the file. Raises Failed."""
        try:
            yield from self._records(stream, place)
        except (Failed, OSError):
            raise
        except Exception as error:
            raise Failed(f"it cannot be read ({type(error).__name__})") from error

    def _records(self, stream: Stream, place: Place) -> Iterator[Record]:
        config = self._config
        begin = Place(_skip_mark(stream))
        if config.format == "csv" and config.csv.header:
            found = CsvRecords(config, stream, begin).header()
            if found is None:
                return
            header, first = found
            if place.offset == 0:
                place = Place(first.next.offset, 0, first.next.line)
            skip(stream, place.offset - first.next.offset)
            yield from CsvRecords(config, stream, place).read(header, first.raw)
            return
        place = max(place, begin, key=lambda one: one.offset)
        skip(stream, place.offset - begin.offset)
        if config.format == "csv":
            yield from CsvRecords(config, stream, place).read(None)
        else:
            skip_blank = config.format == "ndjson"
            yield from lines(stream, place, config.record_bytes_max, self.value, skip_blank=skip_blank)

    def _text(self, data: bytes) -> str:
        encoding = self._config.encoding
        if encoding == "utf-8":
            return parse_utf8(data.removeprefix(codecs.BOM_UTF8))
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise Failed(f"it is not {encoding}", line, column) from None

    def _parse_xml(self, data: bytes) -> Any:
        try:
            value = self._xml.parse(data, disable_entities=True)
        except ExpatError as error:
            raise Failed("it is not XML", error.lineno, error.offset + 1) from None
        except ValueError:
            raise Failed("it is XML with entities of its own, or in an encoding that cannot be read") from None
        if _is_deep(value):
            raise Failed(f"it has more than {_DEPTH_MAX} elements inside each other")
        return value


def _skip_mark(stream: Stream) -> int:
    """Go over a byte order mark of UTF-8, as spreadsheets write one; how long it is."""
    if stream.peek(3)[:3] != codecs.BOM_UTF8:
        return 0
    stream.read(3)
    return 3


def _is_deep(value: Any) -> bool:
    """Whether what evaluates expressions, and calls itself for each level, could run out of its stack."""
    level = [value]
    for _ in range(_DEPTH_MAX):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _anything(read: Callable[[bytes], Any], data: bytes) -> Any:
    """One file must not stop the others, whatever a library does with it. Raises Failed."""
    try:
        return read(data)
    except Failed:
        raise
    except Exception as error:
        raise Failed(f"it cannot be read ({type(error).__name__})") from error


def buffered(data: bytes) -> Stream:
    """Bytes as a stream."""
    return io.BufferedReader(io.BytesIO(data))


def read_all(stream: IO[bytes], most: int | None) -> bytes:
    """All that is left of a stream. Raises Failed where that is more than ``most`` bytes."""
    data = bytearray()
    while piece := stream.read(_PIECE_BYTES):
        data += piece
        if most is not None and len(data) > most:
            raise Failed(f"it has more than {most} bytes")
    return bytes(data)


def parse_utf8(data: bytes) -> str:
    """UTF-8. Raises Failed."""
    text: str = _told(parse_text, data)
    return text


def _told(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except Undecodable as error:
        raise Failed(error.reason, error.line, error.column) from None
