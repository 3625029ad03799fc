"""What is in a file: one value, or records. No message tells anything of the contents."""

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import IO, Any
from xml.parsers.expat import ExpatError

from lhd.plugin import ConfigError, Undecodable, parse_json, parse_text
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.failed import Failed
from lhd_filedrop.records import CsvRecords, Place, Record, lines, skip

_PIECE_BYTES = 1_048_576


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
            return [Record(Place(), Place(len(data), 1), data, self.value(data))]
        records = []
        for record in self.records(io.BytesIO(data), Place()):
            if record.poison:
                raise Failed(record.poison, record.place.line)
            records.append(record)
            if len(records) > self._config.records_max:
                raise Failed(f'it has more than {self._config.records_max} records; use unit = "record"')
        return records

    def value(self, data: bytes) -> Any:
        """The value of a file, or of a line, that is one record. Raises Failed."""
        match self._config.format:
            case "json" | "ndjson":
                return _told(parse_json, data)
            case "text":
                return self._text(data)
            case "xml":
                return self._parse_xml(data)
        return data

    def records(self, stream: IO[bytes], place: Place) -> Iterator[Record]:
        """The records from a place on; the stream stands at the beginning of the file. Raises Failed."""
        config = self._config
        if config.format == "csv" and config.csv.header:
            found = CsvRecords(config, stream, Place()).header()
            if found is None:
                return
            header, first = found
            if place.offset == 0:
                place = Place(first.next.offset, 0, first.next.line)
            skip(stream, place.offset - first.next.offset)
            yield from CsvRecords(config, stream, place).read(header, first.raw)
            return
        skip(stream, place.offset)
        if config.format == "csv":
            yield from CsvRecords(config, stream, place).read(None)
        else:
            skip_blank = config.format == "ndjson"
            yield from lines(stream, place, config.record_bytes_max, self.value, skip_blank=skip_blank)

    def _text(self, data: bytes) -> str:
        encoding = self._config.encoding
        if encoding == "utf-8":
            return parse_utf8(data)
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise Failed(f"it is not {encoding}", line, column) from None

    def _parse_xml(self, data: bytes) -> Any:
        try:
            return self._xml.parse(data, disable_entities=True)
        except ExpatError as error:
            raise Failed("it is not XML", error.lineno, error.offset + 1) from None
        except ValueError:
            raise Failed("it is XML that defines entities, which are not read") from None


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
