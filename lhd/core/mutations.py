"""Arithmetic and the mutations of variables on an edge (execution.md 8.8)."""

from collections.abc import Callable
from math import isfinite, trunc
from typing import Any

from littlehorse.model import Array, Map, TypeDefinition, VariableMutationType, VariableType, VariableValue

from lhd.core import json_path
from lhd.core.casting import cast, coerce, coerce_primitive, parse_bool, same_type, truncate
from lhd.core.fitting import definition_of
from lhd.core.values import (
    EvaluationError,
    from_python,
    int_value,
    is_null,
    kind_name,
    text_of,
    to_json,
    type_of,
)

_NUMBERS = (VariableType.INT, VariableType.DOUBLE)
_JSON = (VariableType.JSON_OBJ, VariableType.JSON_ARR)


def mutate(operation: int, current: VariableValue, right: VariableValue, declared: TypeDefinition) -> VariableValue:
    """The new value of a variable. Only ASSIGN coerces to the declared type. Raises EvaluationError."""
    if operation == VariableMutationType.ASSIGN:
        return coerce(right, declared)
    container = _CONTAINERS.get(current.WhichOneof("value"), {}).get(operation)
    if container is not None:
        return container(current, right, declared)
    is_primitive = declared.WhichOneof("defined_type") in (None, "primitive_type")
    return operate(operation, current, right, declared.primitive_type if is_primitive else type_of(current))


def mutate_at(operation: int, current: VariableValue, path: str, right: VariableValue) -> VariableValue:
    """The new value of a JSON variable of which one place is mutated. Raises EvaluationError."""
    if type_of(current) not in _JSON:
        raise EvaluationError(f"a place inside a variable needs JSON, not {kind_name(current)}")
    document, places = to_json(current), json_path.steps(path)
    found = json_path.follow(document, places)
    if found is None:
        replacement = right
    else:
        inside = from_python(found)
        kind = type_of(inside)
        assert kind is not None
        replacement = mutate(operation, inside, right, TypeDefinition(primitive_type=kind))
    result = from_python(json_path.place(document, places, to_json(replacement)))
    if type_of(result) != type_of(current):
        raise EvaluationError(f"the mutation would turn {kind_name(current)} into {kind_name(result)}")
    return result


def operate(operation: int, left: VariableValue, right: VariableValue, kind: VariableType | None) -> VariableValue:
    """``left operation right`` where the result is of type ``kind``. Raises EvaluationError."""
    if operation == VariableMutationType.ASSIGN:
        return right
    container = _CONTAINERS.get(left.WhichOneof("value"), {}).get(operation)
    if container is not None:
        return container(left, right, definition_of(left) or TypeDefinition())
    handler = _OPERATIONS.get(operation)
    if handler is None or is_null(left):
        raise _no_operation(operation, left, right)
    return handler(left, right, kind)


def _no_operation(operation: int, left: VariableValue, right: VariableValue) -> EvaluationError:
    name = VariableMutationType.Name(VariableMutationType.ValueType(operation))
    return EvaluationError(f"{name} has no meaning for {kind_name(left)} and {kind_name(right)}")


def _number(value: VariableValue) -> int | float | None:
    if type_of(value) == VariableType.INT:
        return value.int
    return value.double if type_of(value) == VariableType.DOUBLE else None


def _arithmetic(operation: int, compute: Callable[[Any, Any], Any]) -> Callable[..., VariableValue]:
    def apply(left: VariableValue, right: VariableValue, kind: VariableType | None) -> VariableValue:
        a, b = _number(left), _number(right)
        if a is None or b is None:
            raise _no_operation(operation, left, right)
        if kind == VariableType.DOUBLE:
            a, b = float(a), float(b)
        try:
            result = compute(a, b)
        except (ZeroDivisionError, OverflowError) as error:
            raise EvaluationError("the arithmetic has no result") from error
        if isinstance(result, complex):
            raise EvaluationError("the arithmetic has no real result")
        if kind == VariableType.DOUBLE:
            return VariableValue(double=float(result))
        return int_value(truncate(result) if isinstance(result, float) else result)

    return apply


def _divide(a: float, b: float) -> float:
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return a / b


def _power(left: VariableValue, right: VariableValue, _: VariableType | None) -> VariableValue:
    a, b = _number(left), _number(right)
    if a is None or b is None:
        raise _no_operation(VariableMutationType.POW, left, right)
    if isinstance(a, int) and isinstance(b, int):
        return int_value(_int_power(a, b))
    try:
        result = float(a) ** float(b)
    except (ZeroDivisionError, OverflowError) as error:
        raise EvaluationError("the power has no finite result") from error
    if isinstance(result, complex) or not isfinite(result):
        raise EvaluationError("the power has no finite result")
    return VariableValue(double=result)


def _int_power(base: int, exponent: int) -> int:
    if exponent < 0:
        if base == 0:
            raise EvaluationError("the power has no finite result")
        return trunc(float(base) ** exponent) if abs(base) > 1 else base ** (-exponent)
    if abs(base) > 1 and exponent > 63:
        raise EvaluationError("the power has more than 64 bits")
    return int(base**exponent)


def _add(left: VariableValue, right: VariableValue, kind: VariableType | None) -> VariableValue:
    if type_of(left) in _NUMBERS:
        return _add_number(left, right, kind)
    if type_of(left) == VariableType.STR and not is_null(right):
        return VariableValue(str=left.str + text_of(right))
    if type_of(left) == VariableType.JSON_ARR and not is_null(right):
        return from_python([*to_json(left), to_json(right)])
    raise _no_operation(VariableMutationType.ADD, left, right)


def _add_number(left: VariableValue, right: VariableValue, kind: VariableType | None) -> VariableValue:
    if kind == VariableType.INT and type_of(right) == VariableType.DOUBLE:
        right = int_value(truncate(right.double))
    elif type_of(right) == VariableType.STR:
        right = cast(right, VariableType.INT if kind == VariableType.INT else VariableType.DOUBLE)
    return _sum(left, right, kind)


def _extend(left: VariableValue, right: VariableValue, _: VariableType | None) -> VariableValue:
    kind = type_of(left)
    if kind == VariableType.STR and not is_null(right):
        return VariableValue(str=left.str + text_of(right))
    if kind == VariableType.BYTES and not is_null(right):
        return VariableValue(bytes=left.bytes + coerce_primitive(right, VariableType.BYTES).bytes)
    if kind == VariableType.JSON_ARR and type_of(right) == VariableType.JSON_ARR:
        return from_python(to_json(left) + to_json(right))
    raise _no_operation(VariableMutationType.EXTEND, left, right)


def _remove_if_present(left: VariableValue, right: VariableValue, _: VariableType | None) -> VariableValue:
    if type_of(left) != VariableType.JSON_ARR:
        raise _no_operation(VariableMutationType.REMOVE_IF_PRESENT, left, right)
    unwanted = to_json(right)
    return from_python([item for item in to_json(left) if not _identical(item, unwanted)])


def _identical(a: Any, b: Any) -> bool:
    """Equality in which 1, 1.0 and true are three things, at any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_identical(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_identical, a, b))
    return bool(a == b)


def _remove_index(left: VariableValue, right: VariableValue, _: VariableType | None) -> VariableValue:
    if type_of(left) != VariableType.JSON_ARR or type_of(right) != VariableType.INT:
        raise _no_operation(VariableMutationType.REMOVE_INDEX, left, right)
    items = to_json(left)
    if not 0 <= right.int < len(items):
        raise EvaluationError(f"there is no item {right.int} to remove")
    del items[right.int]
    return from_python(items)


def _remove_key(left: VariableValue, right: VariableValue, _: VariableType | None) -> VariableValue:
    if type_of(left) != VariableType.JSON_OBJ or is_null(right):
        raise _no_operation(VariableMutationType.REMOVE_KEY, left, right)
    members = to_json(left)
    members.pop(text_of(right), None)
    return from_python(members)


def _logical(operation: int, combine: Callable[[bool, bool], bool]) -> Callable[..., VariableValue]:
    def side(value: VariableValue) -> bool:
        if type_of(value) == VariableType.BOOL:
            return value.bool
        if type_of(value) == VariableType.STR:
            return parse_bool(value.str)
        raise _no_operation(operation, value, value)

    return lambda left, right, _: VariableValue(bool=combine(side(left), side(right)))


def _element(value: VariableValue, element: TypeDefinition | None) -> VariableValue:
    return value if element is None else coerce(value, element)


def _array_types(array: Array, declared: TypeDefinition) -> TypeDefinition | None:
    if array.HasField("element_type"):
        return array.element_type
    return declared.inline_array_def.array_type if declared.HasField("inline_array_def") else None


def _extend_array(left: VariableValue, right: VariableValue, declared: TypeDefinition) -> VariableValue:
    element = _array_types(left.array, declared)
    extended = Array(items=left.array.items, element_type=element)
    if right.WhichOneof("value") == "array" and _same_elements(right.array, element):
        extended.items.extend(right.array.items)
    else:
        extended.items.append(_element(right, element))
    return VariableValue(array=extended)


def _same_elements(array: Array, element: TypeDefinition | None) -> bool:
    if not array.HasField("element_type"):
        return not array.items
    return element is not None and same_type(array.element_type, element)


def _remove_from_array(left: VariableValue, right: VariableValue, declared: TypeDefinition) -> VariableValue:
    unwanted = _element(right, _array_types(left.array, declared))
    kept = [item for item in left.array.items if item != unwanted]
    return VariableValue(array=Array(items=kept, element_type=_array_types(left.array, declared)))


def _remove_index_of_array(left: VariableValue, right: VariableValue, declared: TypeDefinition) -> VariableValue:
    if type_of(right) != VariableType.INT:
        raise _no_operation(VariableMutationType.REMOVE_INDEX, left, right)
    if not 0 <= right.int < len(left.array.items):
        raise EvaluationError(f"there is no item {right.int} to remove")
    items = list(left.array.items)
    del items[right.int]
    return VariableValue(array=Array(items=items, element_type=_array_types(left.array, declared)))


def _extend_map(left: VariableValue, right: VariableValue, declared: TypeDefinition) -> VariableValue:
    if right.WhichOneof("value") != "map":
        raise _no_operation(VariableMutationType.EXTEND, left, right)
    types = TypeDefinition(inline_map_def=left.map.map_type) if left.map.HasField("map_type") else declared
    if types.HasField("inline_map_def"):
        right = coerce(right, types)
    merged = Map(entries=left.map.entries)
    if types.HasField("inline_map_def"):
        merged.map_type.CopyFrom(types.inline_map_def)
    for entry in right.map.entries:
        present = next((one for one in merged.entries if one.key == entry.key), None)
        (merged.entries.add() if present is None else present).CopyFrom(entry)
    return VariableValue(map=merged)


def _remove_map_key(left: VariableValue, right: VariableValue, _: TypeDefinition) -> VariableValue:
    if is_null(right):
        raise _no_operation(VariableMutationType.REMOVE_KEY, left, right)
    key = coerce(right, left.map.map_type.key_type) if left.map.HasField("map_type") else right
    kept = Map(entries=[entry for entry in left.map.entries if entry.key != key])
    if left.map.HasField("map_type"):
        kept.map_type.CopyFrom(left.map.map_type)
    return VariableValue(map=kept)


_sum = _arithmetic(VariableMutationType.ADD, lambda a, b: a + b)

_OPERATIONS: dict[int, Callable[[VariableValue, VariableValue, VariableType | None], VariableValue]] = {
    VariableMutationType.ADD: _add,
    VariableMutationType.EXTEND: _extend,
    VariableMutationType.SUBTRACT: _arithmetic(VariableMutationType.SUBTRACT, lambda a, b: a - b),
    VariableMutationType.MULTIPLY: _arithmetic(VariableMutationType.MULTIPLY, lambda a, b: a * b),
    VariableMutationType.DIVIDE: _arithmetic(VariableMutationType.DIVIDE, _divide),
    VariableMutationType.REMOVE_IF_PRESENT: _remove_if_present,
    VariableMutationType.REMOVE_INDEX: _remove_index,
    VariableMutationType.REMOVE_KEY: _remove_key,
    VariableMutationType.AND: _logical(VariableMutationType.AND, lambda a, b: a and b),
    VariableMutationType.OR: _logical(VariableMutationType.OR, lambda a, b: a or b),
    VariableMutationType.POW: _power,
}

_CONTAINERS: dict[str | None, dict[int, Callable[[VariableValue, VariableValue, TypeDefinition], VariableValue]]] = {
    "array": {
        VariableMutationType.EXTEND: _extend_array,
        VariableMutationType.REMOVE_IF_PRESENT: _remove_from_array,
        VariableMutationType.REMOVE_INDEX: _remove_index_of_array,
    },
    "map": {
        VariableMutationType.EXTEND: _extend_map,
        VariableMutationType.REMOVE_KEY: _remove_map_key,
    },
}
"""By the kind of the left side; Structs can only be assigned."""
