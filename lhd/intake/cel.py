"""Expressions in CEL: the only file that knows the library which evaluates them.

The library copies the whole context at each evaluation, so an expression is given only the parts of a signal that it
names; a plain path is looked up without it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cel

CHARACTERS_MAX = 2000
ELEMENTS_MAX = 10_000
NAMES = ("body", "headers", "key", "query", "file", "record", "meta")

_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_TOKEN = re.compile(
    r"""\s+|//[^\n]*
    |(?P<raw>(?:[rR][bB]?|[bB][rR])(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*'))
    |(?P<string>[bB]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<identifier>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[uU]?|0[xX][0-9A-Fa-f]+[uU]?)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_STRING = re.compile(r"""(["'])([^"'\\\n]*)\1""")

Path = tuple[str, ...]


class ExpressionError(Exception):
    """An expression cannot be compiled, or cannot be evaluated for this signal; holds nothing of the signal."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class Expression:
    """A compiled expression; see :func:`compile`."""

    def __init__(self, text: str, program: cel.Program, tokens: list[_Token], *, has_macro: bool) -> None:
        self.text = text
        self._program = program
        self._mentions = _mentions(tokens)
        self._paths = _shortest(self._mentions)
        self._plain = self._mentions[0] if len(self._mentions) == 1 and _is_plain(tokens) else None
        self._has_macro = has_macro

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value for these names (see :data:`NAMES`). Raises ExpressionError."""
        if self._plain is not None:
            return self._look_up(names, self._plain)
        context: dict[str, Any] = {}
        for path in self._paths:
            _graft(context, names, path)
        try:
            if self._has_macro:
                self._require_small(context)
            return _ordered(self._program.execute(context))
        except ExpressionError:
            raise
        except KeyError as error:
            raise ExpressionError(self._missing(error)) from None
        except Exception as error:  # noqa: BLE001 - the library raises what it likes; none of it may be shown
            raise ExpressionError(f"{type(error).__name__} in this expression") from None

    def _look_up(self, names: Mapping[str, Any], path: Path) -> Any:
        value: Any = names
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                raise ExpressionError(f"there is no '{part}'")
            value = value[part]
        return value

    def _require_small(self, context: Mapping[str, Any]) -> None:
        elements = 0
        for path in self._mentions:
            value: Any = context
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            elements += _largest(value)
        if elements > ELEMENTS_MAX:
            raise ExpressionError(f"a macro walks at most {ELEMENTS_MAX} elements")

    def _missing(self, error: KeyError) -> str:
        name = str(error.args[0]) if error.args else ""
        # A name that the expression does not hold comes from the signal and must not be shown.
        return f"there is no '{name}'" if name and name in self.text else "something is missing"


def compile(text: str) -> Expression:  # noqa: A001 - the contract of this file
    """Compile an expression; raises ExpressionError, which says where, for one that is not allowed."""
    if len(text) > CHARACTERS_MAX:
        raise ExpressionError(f"{len(text)} characters; an expression has at most {CHARACTERS_MAX}")
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise ExpressionError(_syntax_error(str(error))) from None
    tokens = _tokens(text)
    macros = _macros(tokens)
    unknown = sorted(_unknown_names(tokens, set(program.variables()), macros))
    if unknown:
        raise ExpressionError(f"unknown name '{unknown[0]}'; there are {', '.join(NAMES)}")
    return Expression(text, program, tokens, has_macro=bool(macros))


def _syntax_error(message: str) -> str:
    found = re.search(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)", message)
    return f"line {found[1]}, column {found[2]}: {found[3][:120]}" if found else "not an expression"


def _tokens(text: str) -> list[_Token]:
    return [_Token(match.lastgroup, match[0]) for match in _TOKEN.finditer(text) if match.lastgroup is not None]


def _macros(tokens: list[_Token]) -> list[tuple[str, range]]:
    """The variable of each macro, and the tokens among which it is known. Raises ExpressionError for nested macros."""
    macros: list[tuple[str, range]] = []
    for index, token in enumerate(tokens):
        if _is_macro(tokens, index):
            if macros and index in macros[-1][1]:
                raise ExpressionError(f"a macro ({token.text}) inside a macro is not allowed")
            macros.append((tokens[index + 2].text, range(index, _closing(tokens, index + 1))))
    return macros


def _closing(tokens: list[_Token], opening: int) -> int:
    depth = 0
    for index in range(opening, len(tokens)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(tokens[index].text, 0)
        if depth == 0:
            return index
    return len(tokens)


def _unknown_names(tokens: list[_Token], variables: set[str], macros: list[tuple[str, range]]) -> set[str]:
    """The variables that are neither a name of the signal nor, where they stand, that of a macro."""
    return {
        token.text
        for index, token in enumerate(tokens)
        if token.kind == "identifier"
        and token.text in variables - set(NAMES)
        and not (index > 0 and tokens[index - 1].text == ".")
        and not any(name == token.text and index in known for name, known in macros)
    }


def _is_macro(tokens: list[_Token], index: int) -> bool:
    around = tokens[index - 1 : index] + tokens[index + 1 : index + 3]
    return tokens[index].text in _MACROS and len(around) == 3 and around[0].text == "." and around[1].text == "("


def _mentions(tokens: list[_Token]) -> list[Path]:
    """The paths that the expression names, each as long as it is plain: ``body.a['b'].c`` is (body, a, b, c)."""
    return [
        _path_at(tokens, index)[0]
        for index, token in enumerate(tokens)
        if token.kind == "identifier" and token.text in NAMES and not (index > 0 and tokens[index - 1].text == ".")
    ]


def _shortest(paths: list[Path]) -> frozenset[Path]:
    """The paths of which no beginning is among them, too."""
    return frozenset(path for path in paths if not any(path[:length] in paths for length in range(1, len(path))))


def _path_at(tokens: list[_Token], index: int) -> tuple[Path, int]:
    path: Path = (tokens[index].text,)
    index += 1
    while index < len(tokens):
        rest = tokens[index : index + 3]
        if rest[0].text == "." and len(rest) > 1 and rest[1].kind == "identifier":
            if len(rest) > 2 and rest[2].text == "(":
                break
            path, index = (*path, rest[1].text), index + 2
        elif rest[0].text == "[" and len(rest) == 3 and rest[2].text == "]" and _PLAIN_STRING.fullmatch(rest[1].text):
            path, index = (*path, rest[1].text[1:-1]), index + 3
        else:
            break
    return path, index


def _is_plain(tokens: list[_Token]) -> bool:
    return tokens[0].text in NAMES and _path_at(tokens, 0)[1] == len(tokens)


def _graft(context: dict[str, Any], names: Mapping[str, Any], path: Path) -> None:
    """Copy what stands at ``path`` into the context; what is missing is left out, so that has() sees it."""
    source: Any = names
    target = context
    for part in path[:-1]:
        if not isinstance(source, Mapping) or part not in source:
            return
        source = source[part]
        if not isinstance(source, Mapping):
            target[part] = source
            return
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            return
    if isinstance(source, Mapping) and path[-1] in source:
        target[path[-1]] = source[path[-1]]


def _ordered(value: Any) -> Any:
    """The library gives the members of a map in no order; one of our own makes the result the same each time."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def _largest(value: Any) -> int:
    """The number of elements of the largest list or map in a value."""
    if not isinstance(value, Mapping | list):
        return 0
    return max([len(value), *map(_largest, value.values() if isinstance(value, Mapping) else value)])
