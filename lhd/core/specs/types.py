"""What is known of a value's type before a WfSpec runs, and which types may stand where (api.md 3.2, 5.4, 5.6)."""

from dataclasses import dataclass
from enum import Enum

from littlehorse.model import (
    Comparator,
    ReturnType,
    TypeDefinition,
    VariableMutationType,
    VariableType,
    VariableValue,
)

from lhd.core.casting import can_cast
from lhd.core.fitting import definition_of
from lhd.core.values import primitive_fits


class Shape(Enum):
    """What is known where it is no type."""

    UNKNOWN = "unknown"
    NULL = "NULL"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class StructType:
    """A Struct of one version of a StructDef."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A native Array; the element is unknown where the Array is untyped."""

    element: "Known"


@dataclass(frozen=True, slots=True)
class MapType:
    """A native Map; key and value are unknown where the Map is untyped."""

    key: "Known"
    value: "Known"


Known = VariableType | Shape | StructType | ArrayType | MapType

NUMBERS = frozenset({VariableType.INT, VariableType.DOUBLE})
JSON = frozenset({VariableType.JSON_OBJ, VariableType.JSON_ARR})
MAP_KEYS = NUMBERS | {VariableType.STR, VariableType.BOOL, VariableType.TIMESTAMP, VariableType.WF_RUN_ID}
_ORDERED = NUMBERS | {VariableType.STR, VariableType.BOOL, VariableType.TIMESTAMP}
_SCALARS = NUMBERS | {VariableType.STR, VariableType.BOOL, VariableType.BYTES, VariableType.WF_RUN_ID}


def name_of(known: Known) -> str:
    """How a type is called in texts for people."""
    match known:
        case Shape():
            return known.value
        case StructType(name, version):
            return f"Struct '{name}' {version}"
        case ArrayType(element):
            return f"ARRAY of {name_of(element)}"
        case MapType(key, value):
            return f"MAP of {name_of(key)} to {name_of(value)}"
    return VariableType.Name(known)


def type_of_definition(definition: TypeDefinition) -> Known:
    """The type that a TypeDefinition names; an empty one means JSON_OBJ."""
    match definition.WhichOneof("defined_type"):
        case "struct_def_id":
            return StructType(definition.struct_def_id.name, definition.struct_def_id.version)
        case "inline_array_def":
            return ArrayType(type_of_definition(definition.inline_array_def.array_type))
        case "inline_map_def":
            types = definition.inline_map_def
            return MapType(type_of_definition(types.key_type), type_of_definition(types.value_type))
    return definition.primitive_type


def type_of_return(return_type: ReturnType) -> Known:
    """The type that a ReturnType names; without one it is void."""
    if not return_type.HasField("return_type"):
        return Shape.VOID
    return type_of_definition(return_type.return_type)


def type_of_literal(value: VariableValue) -> Known:
    """What a literal value tells of its type."""
    definition = definition_of(value)
    if definition is not None:
        return type_of_definition(definition)
    untyped: dict[str | None, Known] = {"array": ArrayType(Shape.UNKNOWN), "map": MapType(Shape.UNKNOWN, Shape.UNKNOWN)}
    return untyped.get(value.WhichOneof("value"), Shape.NULL)


def assignable(given: Known, expected: Known) -> bool:
    """Whether a value of one type may stand where another is expected, without a cast, as far as they are known."""
    match given, expected:
        case (Shape(), _) | (_, Shape()):
            return True
        case StructType(), StructType():
            return given.name == expected.name
        case ArrayType(), ArrayType():
            return given.element in (Shape.UNKNOWN, expected.element)
        case MapType(), MapType():
            return given.key in (Shape.UNKNOWN, expected.key) and given.value in (Shape.UNKNOWN, expected.value)
    if isinstance(given, StructType | ArrayType | MapType) or isinstance(expected, StructType | ArrayType | MapType):
        return False
    assert not isinstance(given, Shape)
    assert not isinstance(expected, Shape)
    return primitive_fits(given, expected)


def castable(given: Known, target: Known) -> bool:
    """Whether an explicit cast exists, as far as the types are known."""
    if isinstance(given, Shape) or given == target:
        return True
    if isinstance(given, StructType | ArrayType | MapType) or isinstance(target, StructType | ArrayType | MapType):
        return False
    return not isinstance(target, Shape) and can_cast(given, target)


def comparable(left: Known, comparator: int, right: Known) -> bool:
    """Whether two types compare, as far as they are known."""
    if isinstance(left, Shape) or isinstance(right, Shape):
        return True
    match comparator:
        case Comparator.EQUALS | Comparator.NOT_EQUALS:
            return left == right or (left in _ORDERED and right in _ORDERED)
        case Comparator.IN | Comparator.NOT_IN:
            if right == VariableType.JSON_ARR:
                return True
            contains = right == VariableType.JSON_OBJ or isinstance(right, StructType | ArrayType | MapType)
            return contains and left == VariableType.STR
    return right in _ORDERED


def operation_type(operation: int, left: Known, right: Known) -> Known | None:
    """The type of ``left operation right``; None where the operation has no meaning for them."""
    if operation in (VariableMutationType.AND, VariableMutationType.OR):
        return VariableType.BOOL
    if operation == VariableMutationType.ASSIGN:
        return right
    if isinstance(left, Shape):
        return Shape.UNKNOWN
    if isinstance(right, Shape):
        return left
    if not _accepts(operation, left, right):
        return None
    if operation == VariableMutationType.POW and {left, right} == NUMBERS:
        return VariableType.DOUBLE
    return left


def _accepts(operation: int, left: Known, right: Known) -> bool:
    match operation:
        case VariableMutationType.ADD:
            return (
                (left in NUMBERS and right in NUMBERS)
                or (left == VariableType.STR and right in _SCALARS)
                or left == VariableType.JSON_ARR
            )
        case (
            VariableMutationType.SUBTRACT
            | VariableMutationType.MULTIPLY
            | VariableMutationType.DIVIDE
            | VariableMutationType.POW
        ):
            return left in NUMBERS and right in NUMBERS
        case VariableMutationType.EXTEND:
            return _extends(left, right)
        case VariableMutationType.REMOVE_IF_PRESENT:
            if isinstance(left, ArrayType):
                return assignable(right, left.element)
            return left in JSON | {VariableType.STR} and right in _SCALARS
        case VariableMutationType.REMOVE_INDEX:
            indexed = isinstance(left, ArrayType) or left in (VariableType.STR, VariableType.JSON_ARR)
            return indexed and right in NUMBERS
        case VariableMutationType.REMOVE_KEY:
            if isinstance(left, MapType):
                return assignable(right, left.key)
            return left == VariableType.JSON_OBJ and right in _SCALARS
    return False


def _extends(left: Known, right: Known) -> bool:
    match left:
        case ArrayType():
            return assignable(right, left) or assignable(right, left.element)
        case MapType():
            return assignable(right, left)
        case VariableType.STR:
            return right in _SCALARS
    return left == right and left in (VariableType.JSON_ARR, VariableType.BYTES)
