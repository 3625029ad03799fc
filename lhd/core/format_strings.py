"""Format strings: the part of Java's MessageFormat that LittleHorse clients rely on (execution.md 8.6)."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from math import isfinite

from littlehorse.model import VariableValue

from lhd.core.values import EvaluationError, text_of

_TOKEN = re.compile(r"''|'|\{|\}|[^'{}]+")
_TEXT_MAX = 4_000_000
"""Characters of a result; no variable holds as much, but memory should not either."""
_DIGITS_MAX = 320
"""A DOUBLE has at most 309 digits before the point."""
_PLACEHOLDER = re.compile(r"\s*([0-9]+)\s*")


def render(pattern: str, arguments: list[VariableValue]) -> str:
    """Replace ``{n}``; an apostrophe quotes, a doubled one is itself. Raises EvaluationError where malformed."""
    out: list[str] = []
    placeholder: list[str] | None = None
    quoted = False
    length = len(pattern)
    for token in _TOKEN.findall(pattern):
        sink = out if placeholder is None else placeholder
        if token == "''":
            sink.append("'")
        elif token == "'":
            quoted = not quoted
        elif quoted or token not in ("{", "}"):
            sink.append(token)
        elif token == "{":
            if placeholder is not None:
                raise EvaluationError("the format string has a '{' inside a placeholder")
            placeholder = []
        elif placeholder is None:
            out.append("}")
        else:
            out.append(_argument("".join(placeholder), arguments))
            length += len(out[-1])
            if length > _TEXT_MAX:
                raise EvaluationError(f"the text would have more than {_TEXT_MAX} characters")
            placeholder = None
    if placeholder is not None:
        raise EvaluationError("the format string has a '{' without its '}'")
    return "".join(out)


def _argument(placeholder: str, arguments: list[VariableValue]) -> str:
    match = _PLACEHOLDER.fullmatch(placeholder)
    if match is None:
        raise EvaluationError("a placeholder of a format string is a number in braces")
    index = int(match[1])
    return format_value(arguments[index]) if index < len(arguments) else f"{{{index}}}"


def format_value(value: VariableValue) -> str:
    """One argument in English conventions: 1234 is ``1,234``, a DOUBLE has at most three decimals."""
    kind = value.WhichOneof("value")
    if kind is None:
        return "null"
    if kind == "int":
        return f"{value.int:,}"
    if kind == "double":
        return _double(value.double)
    return text_of(value)


def _double(number: float) -> str:
    if not isfinite(number):
        return {"inf": "∞", "-inf": "-∞"}.get(repr(number), "NaN")
    rounded = Decimal(repr(number)).quantize(Decimal("0.001"), ROUND_HALF_EVEN, Context(prec=_DIGITS_MAX))
    return f"{rounded:,f}".rstrip("0").rstrip(".")
