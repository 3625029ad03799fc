"""Explicit casts of assignments and the coercion of values to a variable's type (execution.md 8.5, 8.8)."""

import re
from collections.abc import Callable
from math import isfinite

from littlehorse.model import VariableType, VariableValue

from lhd.core.ids import milliseconds, parse_wf_run_id
from lhd.core.values import EvaluationError, int_value, kind_name, text_of, type_of

_INT = re.compile(r"[+-]?0*[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CASTS_TO_STR = frozenset(
    {
        VariableType.STR,
        VariableType.INT,
        VariableType.DOUBLE,
        VariableType.BOOL,
        VariableType.BYTES,
        VariableType.WF_RUN_ID,
    }
)
_CASTS_FROM_STR = frozenset(
    {VariableType.INT, VariableType.DOUBLE, VariableType.BOOL, VariableType.BYTES, VariableType.WF_RUN_ID}
)


def can_cast(given: VariableType, target: VariableType) -> bool:
    """Whether an explicit cast between two primitive types exists at all (api.md 3.2)."""
    if given == target:
        return True
    if target == VariableType.STR:
        return given in _CASTS_TO_STR
    if given == VariableType.STR:
        return target in _CASTS_FROM_STR
    return {given, target} == {VariableType.INT, VariableType.DOUBLE}


def cast(value: VariableValue, target: VariableType) -> VariableValue:
    """Cast a primitive value; NULL and containers pass unchanged. Raises EvaluationError."""
    given = type_of(value)
    if given is None or given == target:
        return value
    if not can_cast(given, target):
        raise EvaluationError(f"cannot cast {kind_name(value)} to {VariableType.Name(target)}")
    if target == VariableType.STR:
        return VariableValue(str=text_of(value))
    if given == VariableType.STR:
        return _FROM_STR[target](value.str)
    return VariableValue(double=value.int) if given == VariableType.INT else int_value(truncate(value.double))


def coerce(value: VariableValue, target: VariableType) -> VariableValue:
    """The coercion of ASSIGN: to the declared type of the variable. Raises EvaluationError."""
    given = type_of(value)
    if given == target:
        return value
    if given is None:
        raise EvaluationError(f"cannot assign {kind_name(value)} to {VariableType.Name(target)}")
    if target == VariableType.STR:
        return VariableValue(str=text_of(value))
    if target == VariableType.INT and given == VariableType.TIMESTAMP:
        return int_value(milliseconds(value.utc_timestamp) // 1000 * 1000)
    if target == VariableType.BYTES and given not in (VariableType.JSON_OBJ, VariableType.JSON_ARR):
        return VariableValue(bytes=text_of(value).encode())
    if target == VariableType.WF_RUN_ID and given in (VariableType.INT, VariableType.DOUBLE, VariableType.STR):
        return _wf_run_id(text_of(value))
    if target in (VariableType.INT, VariableType.DOUBLE, VariableType.BOOL) and can_cast(given, target):
        return cast(value, target)
    raise EvaluationError(f"cannot assign {kind_name(value)} to {VariableType.Name(target)}")


def truncate(number: float) -> int:
    """A DOUBLE toward zero; raises EvaluationError where it is not finite."""
    if not isfinite(number):
        raise EvaluationError("a DOUBLE that is not finite has no INT")
    return int(number)


def _int(text: str) -> VariableValue:
    if not _INT.fullmatch(text):
        raise EvaluationError("the text is not an INT")
    return int_value(int(text))


def _double(text: str) -> VariableValue:
    if not _DECIMAL.fullmatch(text.strip()):
        raise EvaluationError("the text is not a DOUBLE")
    return VariableValue(double=float(text))


def parse_bool(text: str) -> bool:
    """``true`` or ``false`` in any case, trimmed; raises EvaluationError for any other text."""
    try:
        return {"true": True, "false": False}[text.strip().lower()]
    except KeyError as error:
        raise EvaluationError("the text is neither true nor false") from error


def _wf_run_id(text: str) -> VariableValue:
    try:
        return VariableValue(wf_run_id=parse_wf_run_id(text, is_part=bool))
    except ValueError as error:
        raise EvaluationError("the text is not a WfRun id") from error


_FROM_STR: dict[VariableType, Callable[[str], VariableValue]] = {
    VariableType.INT: _int,
    VariableType.DOUBLE: _double,
    VariableType.BOOL: lambda text: VariableValue(bool=parse_bool(text)),
    VariableType.BYTES: lambda text: VariableValue(bytes=text.encode()),
    VariableType.WF_RUN_ID: _wf_run_id,
}
