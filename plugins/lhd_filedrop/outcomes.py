"""What becomes of a file, in values: its outcome, its position in the store, and what people are told."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhd.plugin import Event, Transient
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.events import failed_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Found, State, Taken
from lhd_filedrop.reading import Facts
from lhd_filedrop.records import Place


@dataclass(frozen=True, slots=True)
class Outcome:
    """A file that is through: moved to ``done``, or, with a report, to ``failed``."""

    file: Taken
    report: bytes | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that fails, with what is known of it."""

    file: Taken
    facts: Facts | None
    failed: Failed
    data: bytes | None

    def event(self, config: FileDropConfig) -> Event:
        """Its dead letter."""
        return failed_event(self.file, self.facts, str(self.failed), self.data, config)


def told(error: OSError) -> str:
    """An error of the file system for people."""
    shown = "" if error.filename is None else f"{text(os.fsencode(error.filename))}: "
    return f"{shown}{error.strerror or error}"


def position_of(facts: Facts, place: Place, *, ended: bool) -> dict[str, Any]:
    """The position of a file: its state, and how far it is stored."""
    return {
        "state": list(facts.state),
        "sha256": facts.sha256,
        "version": facts.version,
        "mtime_ms": facts.mtime_ms,
        "place": [place.offset, place.index, place.line],
        "ended": ended,
    }


def place_of(stored: Mapping[str, Any]) -> Place:
    """How far a file is stored, from its position."""
    return Place(*stored["place"])


def stored_facts(stored: Mapping[str, Any]) -> Facts:
    """The facts in a position."""
    state = State(*stored["state"])
    return Facts(state.size, stored["mtime_ms"], stored["sha256"], state, stored["version"])


def is_known(found: Found, position: Any) -> bool:
    """Whether a file is in the state in which it was stored."""
    return position is not None and position["ended"] and position["state"] == list(found.state)


def folder_error(error: OSError, config: FileDropConfig) -> Transient:
    """What is the matter with the folder, to be looked at again before long."""
    is_itself = error.filename is not None and os.fsencode(error.filename) == os.fsencode(config.path)
    cause = (error.strerror or str(error)) if is_itself else told(error)
    return Transient(f"the folder {config.path} cannot be used: {cause}", config.scan_s)
