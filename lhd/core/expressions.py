"""Evaluating VariableAssignments and conditions in the scope of a ThreadRun (execution.md 8.5 to 8.7)."""

from collections.abc import Mapping
from typing import Any, Protocol

from littlehorse.model import (
    Array,
    Comparator,
    Edge,
    InlineStructBuilder,
    LHPath,
    Map,
    MapBuilder,
    Struct,
    StructDefId,
    TypeDefinition,
    VariableAssignment,
    VariableType,
    VariableValue,
    WaitForConditionNode,
)

from lhd.core import json_path
from lhd.core.casting import cast
from lhd.core.fitting import StructDefs, accept
from lhd.core.format_strings import render
from lhd.core.ids import milliseconds, printed
from lhd.core.mutations import operate
from lhd.core.values import (
    EvaluationError,
    computing,
    from_python,
    is_null,
    items_of,
    kind_name,
    text_of,
    to_json,
    type_of,
)


class Scope(StructDefs, Protocol):
    """Where names of variables, nodes and StructDefs get their meaning."""

    def variable(self, name: str) -> VariableValue:
        """The value of the variable; raises EvaluationError where no ThreadRun in reach declares it."""
        ...

    def output(self, node_name: str) -> VariableValue:
        """The latest output of the node; raises EvaluationError where it has none."""
        ...


def evaluate(assignment: VariableAssignment, scope: Scope) -> VariableValue:
    """The value of an assignment: its source, then its path, then its cast. Raises EvaluationError."""
    with computing():
        return _evaluate(assignment, scope)


def evaluate_all(assignments: Mapping[str, VariableAssignment], scope: Scope) -> dict[str, VariableValue]:
    """The values of several assignments by name; an EvaluationError says which one it is of."""
    values = {}
    for name, assignment in sorted(assignments.items()):
        try:
            values[name] = evaluate(assignment, scope)
        except EvaluationError as error:
            raise EvaluationError(f"the variable '{name}': {error}") from error
    return values


def _evaluate(assignment: VariableAssignment, scope: Scope) -> VariableValue:
    value = _source(assignment, scope)
    path = assignment.WhichOneof("path")
    if path == "json_path":
        value = _json_path(value, assignment.json_path)
    elif path == "lh_path" and assignment.lh_path.path:
        value = _lh_path(value, assignment.lh_path, scope)
    if assignment.HasField("target_type") and assignment.target_type.HasField("primitive_type"):
        value = cast(value, assignment.target_type.primitive_type)
    return value


def _source(assignment: VariableAssignment, scope: Scope) -> VariableValue:
    match assignment.WhichOneof("source"):
        case "literal_value":
            return assignment.literal_value
        case "variable_name":
            return scope.variable(assignment.variable_name)
        case "node_output":
            return scope.output(assignment.node_output.node_name)
        case "format_string":
            return _format_string(assignment.format_string, scope)
        case "expression":
            return _expression(assignment.expression, scope)
        case "size_of":
            return VariableValue(int=_size(evaluate(assignment.size_of.operand, scope)))
        case "struct_builder":
            return _struct(assignment.struct_builder.struct_def_id, assignment.struct_builder.value, scope)
        case "map_builder":
            return _map(assignment.map_builder, scope)
        case other:
            raise EvaluationError(f"an assignment by {other} is not supported")


def _json_path(value: VariableValue, path: str) -> VariableValue:
    if type_of(value) not in (VariableType.JSON_OBJ, VariableType.JSON_ARR):
        raise EvaluationError(f"a JSONPath needs JSON, not {kind_name(value)}")
    return from_python(json_path.read(to_json(value), path))


def _lh_path(value: VariableValue, path: LHPath, scope: Scope) -> VariableValue:
    """Follow a path into a value, step by step until it comes to JSON, which takes the rest of it at once."""
    places = [_place(selector, scope) for selector in path.path]
    for index, place in enumerate(places):
        match value.WhichOneof("value"):
            case "json_obj" | "json_arr":
                return from_python(json_path.follow(to_json(value), places[index:]))
            case "struct":
                value = _field(value.struct, str(place), scope)
            case "array":
                value = _item(value.array, place)
            case "map":
                found = _entry(value.map, place)
                if found is None:
                    return VariableValue()
                value = found
            case _:
                raise EvaluationError(f"a path cannot go into {kind_name(value)}")
    return value


def _place(selector: LHPath.Selector, scope: Scope) -> str | int:
    match selector.WhichOneof("selector_type"):
        case "key":
            return selector.key
        case "index":
            return selector.index
        case "dynamic":
            value = evaluate(selector.dynamic, scope)
            return value.int if type_of(value) == VariableType.INT else text_of(value)
    raise EvaluationError("a selector of the path is empty")


def _field(struct: Struct, name: str, scope: Scope) -> VariableValue:
    if name in struct.struct.fields:
        return struct.struct.fields[name].value
    fields = scope.struct_def(struct.struct_def_id).fields
    if name not in fields:
        raise EvaluationError(f"could not find field '{name}' in Struct '{struct.struct_def_id.name}'")
    return fields[name].default_value


def _item(array: Array, place: str | int) -> VariableValue:
    if not isinstance(place, int) or not 0 <= place < len(array.items):
        raise EvaluationError(f"the Array has {len(array.items)} items and none at {place}")
    return array.items[place]


def _entry(given: Map, place: str | int) -> VariableValue | None:
    wanted = VariableValue(int=place) if isinstance(place, int) else VariableValue(str=place)
    return next((entry.value for entry in given.entries if equal(entry.key, wanted)), None)


def _struct(struct_def_id: StructDefId, builder: InlineStructBuilder, scope: Scope) -> VariableValue:
    definition = scope.struct_def(struct_def_id)
    built = Struct(struct_def_id=struct_def_id)
    for name, given in sorted(builder.fields.items()):
        if name not in definition.fields:
            raise EvaluationError(f"could not find field '{name}' in StructDef '{struct_def_id.name}'")
        if given.HasField("sub_structure"):
            inner = definition.fields[name].field_type.struct_def_id
            value = _struct(inner, given.sub_structure, scope)
        else:
            value = evaluate(given.simple_value, scope)
        built.struct.fields[name].value.CopyFrom(value)
    return accept(VariableValue(struct=built), TypeDefinition(struct_def_id=struct_def_id), scope)


def _map(builder: MapBuilder, scope: Scope) -> VariableValue:
    entries = [
        Map.Entry(key=evaluate(entry.key, scope), value=evaluate(entry.value, scope)) for entry in builder.entries
    ]
    expected = TypeDefinition(inline_map_def=builder.map_type)
    return accept(VariableValue(map=Map(entries=entries)), expected, scope)


def _format_string(format_string: VariableAssignment.FormatString, scope: Scope) -> VariableValue:
    pattern = evaluate(format_string.format, scope)
    if type_of(pattern) != VariableType.STR:
        raise EvaluationError(f"a format string is STR, not {kind_name(pattern)}")
    return VariableValue(str=render(pattern.str, [evaluate(arg, scope) for arg in format_string.args]))


def _expression(expression: VariableAssignment.Expression, scope: Scope) -> VariableValue:
    left, right = evaluate(expression.lhs, scope), evaluate(expression.rhs, scope)
    if expression.WhichOneof("operation") == "comparator":
        return VariableValue(bool=compare(left, expression.comparator, right))
    left_type, right_type = type_of(left), type_of(right)
    as_double = left_type == VariableType.INT and right_type == VariableType.DOUBLE
    return operate(expression.mutation_type, left, right, VariableType.DOUBLE if as_double else left_type)


def _size(value: VariableValue) -> int:
    if type_of(value) == VariableType.STR:
        return len(value.str.encode("utf-16-le")) // 2
    if value.WhichOneof("value") in ("json_arr", "array"):
        return len(items_of(value))
    raise EvaluationError(f"{kind_name(value)} has no size")


def condition_holds(condition: Edge | WaitForConditionNode, scope: Scope) -> bool:
    """Whether the condition of an edge holds; no condition always does. Raises EvaluationError."""
    with computing():
        return _condition_holds(condition, scope)


def _condition_holds(condition: Edge | WaitForConditionNode, scope: Scope) -> bool:
    if condition.HasField("legacy_condition"):
        legacy = condition.legacy_condition
        return compare(evaluate(legacy.left, scope), legacy.comparator, evaluate(legacy.right, scope))
    if not condition.HasField("condition"):
        return True
    return as_bool(evaluate(condition.condition, scope))


def as_bool(value: VariableValue) -> bool:
    """A condition's value; raises EvaluationError where it is not BOOL."""
    if type_of(value) == VariableType.BOOL:
        return value.bool
    raise EvaluationError(f"a condition is BOOL, not {kind_name(value)}")


def compare(left: VariableValue, comparator: int, right: VariableValue) -> bool:
    """Compare two values (execution.md 8.7). Raises EvaluationError for kinds that do not compare."""
    match comparator:
        case Comparator.IN:
            return _contains(right, left)
        case Comparator.NOT_IN:
            return not _contains(right, left)
        case Comparator.EQUALS:
            return equal(left, right)
        case Comparator.NOT_EQUALS:
            return not equal(left, right)
    order = _order(left, right)
    match comparator:
        case Comparator.LESS_THAN:
            return order < 0
        case Comparator.GREATER_THAN:
            return order > 0
        case Comparator.LESS_THAN_EQ:
            return order <= 0
        case Comparator.GREATER_THAN_EQ:
            return order >= 0
    raise EvaluationError(f"unknown comparator {comparator}")


def _order(left: VariableValue, right: VariableValue) -> int:
    if is_null(left) or is_null(right):
        return int(not is_null(left)) - int(not is_null(right))
    a, b = _orderable(left), _orderable(right)
    if a is None or b is None or a[0] != b[0]:
        raise EvaluationError(f"{kind_name(left)} and {kind_name(right)} have no order")
    return int(a[1] > b[1]) - int(a[1] < b[1])


def _orderable(value: VariableValue) -> tuple[str, Any] | None:
    match value.WhichOneof("value"):
        case "int":
            return "number", value.int
        case "double":
            return "number", value.double
        case "str":
            return "str", value.str.encode("utf-16-be")
        case "bool":
            return "bool", value.bool
        case "wf_run_id":
            return "wf_run_id", printed(value.wf_run_id)
        case "utc_timestamp":
            return "utc_timestamp", (milliseconds(value.utc_timestamp), value.utc_timestamp.nanos)
    return None


def equal(left: VariableValue, right: VariableValue) -> bool:
    """Whether two values of one kind are equal, at every depth. Raises EvaluationError for unlike kinds."""
    if is_null(left) or is_null(right):
        return is_null(left) and is_null(right)
    kind = left.WhichOneof("value")
    if _orderable(left) is not None or kind != right.WhichOneof("value"):
        return _order(left, right) == 0
    match kind:
        case "bytes":
            return left.bytes == right.bytes
        case "array":
            items = list(zip(left.array.items, right.array.items, strict=False))
            return len(left.array.items) == len(right.array.items) == len(items) and all(equal(a, b) for a, b in items)
        case "map":
            return len(left.map.entries) == len(right.map.entries) and all(
                (found := _same_key(right.map, entry.key)) is not None and equal(entry.value, found)
                for entry in left.map.entries
            )
        case "struct":
            mine, other = left.struct.struct.fields, right.struct.struct.fields
            return mine.keys() == other.keys() and all(equal(mine[name].value, other[name].value) for name in mine)
    return deep_equal(to_json(left), to_json(right))


def _same_key(given: Map, key: VariableValue) -> VariableValue | None:
    return next((entry.value for entry in given.entries if entry.key == key), None)


def deep_equal(a: Any, b: Any) -> bool:
    """Equality of parsed JSON, where 1 equals 1.0 but not true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(deep_equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(deep_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _contains(container: VariableValue, item: VariableValue) -> bool:
    match container.WhichOneof("value"):
        case "str":
            return text_of(item) in container.str
        case "json_arr":
            wanted = to_json(item)
            return any(deep_equal(element, wanted) for element in to_json(container))
        case "json_obj":
            return text_of(item) in to_json(container)
        case "array":
            return any(_is(element, item) for element in container.array.items)
        case "map":
            return any(_is(entry.key, item) for entry in container.map.entries)
    raise EvaluationError(f"nothing is in {kind_name(container)}")


def _is(a: VariableValue, b: VariableValue) -> bool:
    """Equality where unlike kinds are simply not equal."""
    try:
        return equal(a, b)
    except EvaluationError:
        return False
