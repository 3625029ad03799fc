"""Files and records as events."""

import os
import re
from typing import Any, Literal

from lhd.plugin import Event
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import Taken
from lhd_filedrop.inflating import compression
from lhd_filedrop.positions import Facts
from lhd_filedrop.records import Record


def text(name: bytes) -> str:
    """A name as routes and people see it; what is no UTF-8, or a control character, is written in hexadecimal."""
    shown = name.decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda control: f"\\x{ord(control[0]):02x}", shown)


def stem(name: bytes, config: FileDropConfig) -> bytes:
    """A name without its suffix, and without the one of its compression."""
    if compression(name) in config.decompress:
        name = os.path.splitext(name)[0]
    return os.path.splitext(name)[0]


def file_names(file: Taken, facts: Facts | None, config: FileDropConfig) -> dict[str, Any]:
    """What routes see as ``file``."""
    names: dict[str, Any] = {
        "name": text(file.name),
        "stem": text(stem(file.name, config)),
        "path": text(file.path),
    }
    if facts is not None:
        names |= {"size": facts.size, "mtime": facts.mtime_ms, "sha256": facts.sha256}
    return names


def _identity(file: Taken, facts: Facts | None, config: FileDropConfig) -> tuple[str, ...]:
    """What tells a file from every other: its contents and its claim, or its path and what it had at other times.

    Of a claimed file whose records are events of their own the claim alone counts: when it was mended and comes again,
    the records before the mended one are known.
    """
    sha256, version = ("", "") if facts is None else (facts.sha256, facts.version)
    if not file.claim:
        return version, sha256, file.part
    return "" if file.is_by_record(config) else sha256, file.part


def record_event(
    file: Taken, facts: Facts, record: Record, config: FileDropConfig, *, unit: Literal["file", "record"]
) -> Event:
    """The event of a record, known by its file and by its number; ``unit`` is how the file is read."""
    return Event(
        record.value,
        id=(*_identity(file, facts, config), record.place.index),
        file=file_names(file, facts, config),
        record={"index": record.place.index, "line": record.place.line},
        meta={"claim": file.part, "unit": unit},
        raw=record.head + record.raw,
        poison=str(record.failed) if record.poison else "",
    )


def empty_event(file: Taken, facts: Facts, config: FileDropConfig) -> Event:
    """The event of a file without a record: it is noted, and nothing comes of it."""
    return Event(
        None,
        id=("empty", *_identity(file, facts, config)),
        file=file_names(file, facts, config),
        meta={"claim": file.part, "unit": "file"},
        raw=b"",
        unwanted="the file has no records",
    )


def failed_event(file: Taken, facts: Facts | None, reason: str, data: bytes | None, config: FileDropConfig) -> Event:
    """The event of a file that cannot be read; without ``data`` it can be retried only from ``failed``."""
    return Event(
        None,
        id=("failed", *_identity(file, facts, config)),
        file=file_names(file, facts, config),
        meta={"claim": file.part, "unit": "file"},
        raw=data,
        poison=reason,
    )
