"""TOML documents that know the lines of their keys, and findings that name file, line and the nearest valid key."""

import difflib
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lhd.errors import ConfigurationError

Location = tuple[str | int, ...]


class Document:
    """A TOML document with the lines of its keys, for findings that say where."""

    def __init__(self, path: Path | None, text: str) -> None:
        self._path = path
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError([f"{path}: {error}"]) from error
        self._lines = key_lines(text)

    @classmethod
    def read(cls, path: Path | None) -> "Document":
        """Read a file, or take the defaults without one. Raises ConfigurationError."""
        if path is None:
            return cls(None, "")
        try:
            return cls(path, path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError([f"{path}: {error.strerror}"]) from error
        except UnicodeDecodeError as error:
            raise ConfigurationError([f"{path}: not UTF-8 at byte {error.start}"]) from error

    def finding(self, location: Location, text: str) -> str:
        """One line: file, line and key, then what is wrong."""
        known = location
        while known and known not in self._lines:
            known = known[:-1]
        where = f"{self._path}:{self._lines.get(known, 1)}"
        return f"{where}: {dotted(location)}: {text}" if location else f"{where}: {text}"


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: Mapping[str, Any], document: Document, location: Location = ()) -> M:
    """Check a table against its model; raises ConfigurationError with a finding for every mistake in it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = []
        for mistake in error.errors(include_url=False, include_input=False):
            place = _without_tags(data, mistake["loc"])
            findings.append(document.finding(location + place, _explain(model, place, mistake)))
        raise ConfigurationError(findings) from error


def _without_tags(data: Any, place: Location) -> Location:
    """A place as it is in the document: pydantic adds the tag of a choice, which is no key there."""
    found: Location = ()
    for index, part in enumerate(place):
        is_there = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if is_there:
            data = data[part]
            found += (part,)
        elif index == len(place) - 1:
            found += (part,)
    return found


def _explain(model: type[BaseModel], place: Location, mistake: Any) -> str:
    if mistake["type"] == "extra_forbidden":
        return f"unknown key; {nearest(str(place[-1]), _keys_at(model, place[:-1]))}"
    if mistake["type"] == "missing":
        return "this key is needed"
    if mistake["type"] == "union_tag_invalid":
        context = mistake["ctx"]
        names = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"unknown {context['discriminator']} '{context['tag']}'; {nearest(context['tag'], names)}"
    return str(mistake["msg"]).removeprefix("Value error, ")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of a name that is not known: the nearest one, or the whole choice."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"


def _keys_at(model: Any, place: Location) -> list[str]:
    for part in place:
        candidates = [one for one in _models(model) if isinstance(part, str) and part in one.model_fields]
        if candidates:
            model = candidates[0].model_fields[str(part)].annotation
        elif isinstance(part, int):
            model = next((arg for arg in _flatten(model) if get_origin(arg) in (tuple, list)), model)
            model = get_args(model)[0] if get_args(model) else model
    return [name for one in _models(model) for name in one.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _flatten(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _flatten(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for arg in get_args(annotation) for one in _flatten(arg)]
    return [annotation]


def dotted(location: Location) -> str:
    """A place in the document as people write it: ``sources.github.routes[0].when``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_HEADER = re.compile(r"""\s*(\[\[?)((?:[^\[\]"']|"(?:[^"\\]|\\.)*"|'[^']*')+)\]\]?\s*(?:\#.*)?$""")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")


def key_lines(text: str) -> dict[Location, int]:
    """The line, counted from 1, on which each table and key of a valid TOML document begins."""
    lines: dict[Location, int] = {}
    arrays: dict[Location, int] = {}
    table: Location = ()
    rest = _Value()
    for number, line in enumerate(text.split("\n"), start=1):
        if rest.is_open:
            rest.read(line)
        elif header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), arrays, new=header[1] == "[[")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines[table + _parts(key[1])] = number
            rest.read(key[2])
    return lines


def _parts(text: str) -> Location:
    return tuple(match[0].strip("\"'") for match in _PART.finditer(text))


def _resolve(parts: Location, arrays: dict[Location, int], *, new: bool) -> Location:
    resolved: Location = ()
    for index, part in enumerate(parts):
        resolved += (part,)
        if new and index == len(parts) - 1:
            arrays[resolved] = arrays.get(resolved, -1) + 1
        if resolved in arrays:
            resolved += (arrays[resolved],)
    return resolved


class _Value:
    """How far a value that may span lines has been read: open brackets and open multi-line strings."""

    _TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|[\[\]{}]|#.*|\\.')

    # A closing quote may follow one or two quotes of the text; in a basic string a backslash takes the next character.
    _END: ClassVar = {'"""': re.compile(r'\\.|"{3,5}'), "'''": re.compile(r"'{3,5}")}

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def is_open(self) -> bool:
        return self._depth > 0 or bool(self._quote)

    def read(self, line: str) -> None:
        position = 0
        while position < len(line):
            if self._quote:
                end = self._END[self._quote].search(line, position)
                while end is not None and end[0].startswith("\\"):
                    end = self._END[self._quote].search(line, end.end())
                if end is None:
                    return
                position, self._quote = end.end(), ""
                continue
            token = self._TOKEN.search(line, position)
            if token is None:
                return
            position = token.end()
            self._depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if token[0] in ('"""', "'''"):
                self._quote = token[0]
