"""The table of a file drop source."""

import csv
import pwd
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from lhd.plugin import Model, SourceConfig

FILE_BYTES_MAX = 16_777_216
"""What ``max_bytes`` is by default where a file is read as a whole."""


def _encoding(name: str) -> str:
    try:
        fits = "a\n;".encode(name) == b"a\n;"
    except LookupError:
        raise ValueError(f"there is no encoding '{name}'") from None
    if not fits:
        raise ValueError(f"lines cannot be told apart in {name}; use one that ASCII is a part of, as utf-8 or latin-1")
    return name


def _suffix(text: str) -> str:
    if not text or "/" in text:
        raise ValueError("a suffix is what a name ends with")
    return text


def _user(user: str | int) -> int:
    try:
        return user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError(f"there is no user '{user}'") from None


_INFLATED_BYTES_MAX = 10_737_418_240


class Dialect(Model):
    """How a CSV file is written (RFC 4180)."""

    header: bool = Field(True, description="The first record names the fields; a record is then a map, else a list.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="What stands between fields.")
    quote: str = Field('"', min_length=1, max_length=1, description="What stands around a field.")
    escape: str | None = Field(None, min_length=1, max_length=1, description="What stands before a quote, if no quote.")

    def options(self) -> dict[str, Any]:
        """The parameters of :func:`csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "escapechar": self.escape,
            "doublequote": self.escape is None,
            "strict": True,
        }

    @model_validator(mode="after")
    def _usable(self) -> "Dialect":
        try:
            csv.reader((), **self.options())
        except (TypeError, ValueError) as error:
            raise ValueError(str(error)) from None
        return self


class FileDropConfig(SourceConfig):
    """``kind = "filedrop"``."""

    directory: str = Field(description="The folder; .work, done and failed are made inside it.")
    pattern: str = Field("*", min_length=1, description="Names that are taken, as the shell would.")
    recursive: bool = Field(False, description="Look into folders inside it, too.")
    ready: Literal["rename", "marker", "stable"] = Field(
        "rename", description="A file is finished when it has its name, when its marker is there, or when it is still."
    )
    marker_suffix: Annotated[str, AfterValidator(_suffix)] = Field(
        ".done", description="The marker of FILE is FILE with this suffix."
    )
    stable_s: float = Field(2, gt=0, strict=False, description="How long size and times of a file must stay the same.")
    temporary_suffixes: tuple[Annotated[str, AfterValidator(_suffix)], ...] = Field(
        (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~"),
        strict=False,
        description="Names that end so are never read.",
    )
    order: Literal["name", "mtime"] = Field("name", description="Which of the files that are there is taken first.")
    format: Literal["json", "ndjson", "csv", "text", "bytes", "xml"] = Field("json", description="What is in a file.")
    unit: Literal["file", "record"] = Field(
        "file", description="All of a file or nothing, or each of its records (lines) on its own."
    )
    csv: Dialect = Field(Dialect(), description="How CSV is written.")
    encoding: Annotated[str, AfterValidator(_encoding)] = Field("utf-8", description="The encoding of text and CSV.")
    decompress: tuple[Literal["gzip", "zstd"], ...] = Field(
        (), strict=False, description="Inflate files whose names end with .gz, .zst."
    )
    max_bytes: int | None = Field(
        None, ge=1, description="Larger files fail; 16 MiB unless set where unit is file, else no limit."
    )
    inflated_bytes_max: int | None = Field(
        None, ge=1, description="So do files that are larger when inflated; as max_bytes, with unit = record 10 GiB."
    )
    record_bytes_max: int = Field(1_048_576, ge=1, description="A longer record is dead; of CSV the rest of the file.")
    records_max: int = Field(1_000, ge=1, le=10_000, description="With unit = file, a file with more records fails.")
    batch_records_max: int = Field(100, ge=1, le=500, description="Events in one transaction.")
    owners: tuple[Annotated[str | int, AfterValidator(_user)], ...] = Field(
        (), strict=False, description="Users (names or numbers) whose files are taken; without one all are."
    )
    forbidden_mode: int = Field(0, ge=0, le=0o7777, description="A file with one of these bits of its mode fails.")
    after: Literal["move", "delete", "keep"] = Field(
        "move", description="What becomes of a file: moved to done, deleted, or left where it is."
    )
    on_conflict: Literal["rename", "replace", "keep", "fail"] = Field(
        "rename", description="done has a file of this name: take another, replace it, keep the old one, or fail."
    )
    scan_s: float = Field(5, gt=0, strict=False, description="Time between looks into the folder, whatever it tells.")

    def file_bytes_max(self, *, by_record: bool) -> int | None:
        """The largest file that is taken."""
        return FILE_BYTES_MAX if self.max_bytes is None and not by_record else self.max_bytes

    def contents_bytes_max(self, *, by_record: bool) -> int:
        """The most that a file may be inflated to."""
        whole = None if by_record else self.file_bytes_max(by_record=False)
        return self.inflated_bytes_max or whole or _INFLATED_BYTES_MAX

    @property
    def path(self) -> Path:
        """The folder, as an absolute path."""
        return Path(self.directory).absolute()

    @model_validator(mode="after")
    def _fits(self) -> "FileDropConfig":
        if self.unit == "record" and self.format not in ("ndjson", "csv", "text"):
            raise ValueError('unit = "record" is for ndjson, csv and text, whose records are lines')
        if self.after == "keep" and self.ready == "marker":
            raise ValueError('after = "keep" leaves markers where they are; use ready = "rename" or "stable"')
        return self
