"""JSONPath in JSON_OBJ and JSON_ARR values: reading any path, and writing at a path that names one place."""

import re
from functools import lru_cache
from typing import Any

import jsonpath
from jsonpath.selectors import IndexSelector, NameSelector
from littlehorse.model import LHPath

from lhd.core.values import EvaluationError

# The dialect of RFC 9535, without the functions whose regular expressions can take for ever.
_ENVIRONMENT = jsonpath.JSONPathEnvironment(strict=True)
for _function in ("match", "search"):
    del _ENVIRONMENT.function_extensions[_function]


_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


@lru_cache(maxsize=4096)
def _compile(path: str) -> jsonpath.JSONPath:
    try:
        compiled = _ENVIRONMENT.compile(path)
    except (jsonpath.JSONPathError, ValueError, OverflowError, RecursionError) as error:
        raise EvaluationError(f"'{path[:200]}' is not a JSONPath") from error
    if not isinstance(compiled, jsonpath.JSONPath):
        raise EvaluationError(f"'{path}' is not one JSONPath")
    if _QUOTED.sub("", path).count("..") > 1:
        raise EvaluationError(f"'{path[:200]}' descends more than once ('..'), which can take for ever")
    return compiled


def check(path: str) -> None:
    """Raise EvaluationError where ``path`` is not a JSONPath."""
    _compile(path)


def read(document: Any, path: str) -> Any:
    """What stands at ``path``: None where it is missing; a list of all matches where the path may name several."""
    compiled = _compile(path)
    try:
        found = compiled.findall(document)
    except jsonpath.JSONPathError as error:
        raise EvaluationError(f"the JSONPath cannot be followed ({type(error).__name__})") from error
    if compiled.singular_query():
        return found[0] if found else None
    return found


def steps(path: str) -> list[str | int]:
    """The member names and indexes of a path that names one place; raises EvaluationError for any other."""
    compiled = _compile(path)
    result: list[str | int] = []
    for segment in compiled.segments:
        selector = segment.selectors[0]
        if not compiled.singular_query() or not isinstance(selector, NameSelector | IndexSelector):
            raise EvaluationError(f"'{path}' may name several places; a mutation needs one")
        result.append(selector.name if isinstance(selector, NameSelector) else selector.index)
    return result


def lh_path_steps(path: LHPath) -> list[str | int]:
    """The keys and indexes of an LHPath; raises EvaluationError for a dynamic selector."""
    result: list[str | int] = []
    for selector in path.path:
        kind = selector.WhichOneof("selector_type")
        if kind not in ("key", "index"):
            raise EvaluationError("dynamic selectors of a path are not supported")
        result.append(selector.key if kind == "key" else selector.index)
    return result


def follow(document: Any, places: list[str | int]) -> Any:
    """What stands at these keys and indexes; None where something is missing. Index -1 is the last item."""
    for place in places:
        is_inside = isinstance(document, dict if isinstance(place, str) else list)
        try:
            document = document[place] if is_inside else None
        except (KeyError, IndexError):
            return None
    return document


def place(document: Any, places: list[str | int], value: Any) -> Any:
    """Put ``value`` at these places and return the document; raises EvaluationError without a parent for it."""
    if not places:
        return value
    parent, last = follow(document, places[:-1]), places[-1]
    if isinstance(parent, dict) and isinstance(last, str):
        parent[last] = value
        return document
    if isinstance(parent, list) and isinstance(last, int) and -len(parent) <= last <= len(parent):
        if last == len(parent):
            parent.append(value)
        else:
            parent[last] = value
        return document
    raise EvaluationError("the place to write to has no parent")
