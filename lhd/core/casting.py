"""Explicit casts of assignments and the coercion of values to a variable's type (execution.md 8.5, 8.8)."""

import re
from collections.abc import Callable
from math import isfinite

from littlehorse.model import Array, Map, TypeDefinition, VariableType, VariableValue

from lhd.core.ids import milliseconds, parse_wf_run_id
from lhd.core.values import TEXTUAL, EvaluationError, int_value, is_null, kind_name, text_of, type_name, type_of

_INT = re.compile(r"[+-]?0*[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def can_cast(given: VariableType, target: VariableType) -> bool:
    """Whether an explicit cast between two primitive types exists at all (api.md 3.2)."""
    if given == target:
        return True
    if VariableType.STR in (given, target):
        return given in TEXTUAL or target in TEXTUAL
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


def coerce(value: VariableValue, target: TypeDefinition) -> VariableValue:
    """The coercion of ASSIGN: to the declared type of the variable. Raises EvaluationError."""
    if is_null(value):
        return value
    kind = target.WhichOneof("defined_type")
    if kind in (None, "primitive_type"):
        return coerce_primitive(value, target.primitive_type)
    given = value.WhichOneof("value")
    if kind == "struct_def_id" and given == "struct" and value.struct.struct_def_id == target.struct_def_id:
        return value
    if kind == "inline_array_def" and given == "array":
        return _typed_array(value.array, target)
    if kind == "inline_map_def" and given == "map":
        return _typed_map(value.map, target)
    raise EvaluationError(f"cannot assign {kind_name(value)} to {type_name(target)}")


def _typed_array(given: Array, target: TypeDefinition) -> VariableValue:
    element = target.inline_array_def.array_type
    if given.HasField("element_type") and not same_type(given.element_type, element):
        raise EvaluationError(f"cannot assign an Array of {type_name(given.element_type)} to {type_name(target)}")
    if given.items and not given.HasField("element_type"):
        raise EvaluationError(f"cannot assign an untyped Array to {type_name(target)}")
    return VariableValue(array=Array(items=given.items, element_type=element))


def _typed_map(given: Map, target: TypeDefinition) -> VariableValue:
    types = target.inline_map_def
    if given.HasField("map_type"):
        if not (
            same_type(given.map_type.key_type, types.key_type)
            and same_type(given.map_type.value_type, types.value_type)
        ):
            raise EvaluationError(f"cannot assign a Map of other types to {type_name(target)}")
    elif given.entries:
        raise EvaluationError(f"cannot assign an untyped Map to {type_name(target)}")
    return VariableValue(map=Map(entries=given.entries, map_type=types))


def same_type(a: TypeDefinition, b: TypeDefinition) -> bool:
    """Whether two TypeDefinitions name one type; whether its values are masked does not matter."""
    kinds = a.WhichOneof("defined_type"), b.WhichOneof("defined_type")
    match kinds:
        case "struct_def_id", "struct_def_id":
            return a.struct_def_id == b.struct_def_id
        case "inline_array_def", "inline_array_def":
            return same_type(a.inline_array_def.array_type, b.inline_array_def.array_type)
        case "inline_map_def", "inline_map_def":
            return same_type(a.inline_map_def.key_type, b.inline_map_def.key_type) and same_type(
                a.inline_map_def.value_type, b.inline_map_def.value_type
            )
    primitive = (None, "primitive_type")
    return kinds[0] in primitive and kinds[1] in primitive and a.primitive_type == b.primitive_type


def coerce_primitive(value: VariableValue, target: VariableType) -> VariableValue:
    """As :func:`coerce`, to a primitive type."""
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
