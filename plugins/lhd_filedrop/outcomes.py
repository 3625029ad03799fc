"""What becomes of a file, in values: its outcome, and what people are told."""

import os
from dataclasses import dataclass

from lhd.plugin import Event, Transient
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.events import failed_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Taken
from lhd_filedrop.positions import Facts


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


def folder_error(error: OSError, config: FileDropConfig) -> Transient:
    """What is the matter with the folder, to be looked at again before long."""
    is_itself = error.filename is not None and os.fsencode(error.filename) == os.fsencode(config.path)
    cause = (error.strerror or str(error)) if is_itself else told(error)
    return Transient(f"the folder {config.path} cannot be used: {cause}", config.scan_s)
