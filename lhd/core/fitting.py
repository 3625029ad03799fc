"""Whether a value that comes from outside fits a declared type, which is then written over it (execution.md 8.2)."""

from typing import Protocol

from littlehorse.model import (
    Array,
    InlineArrayDef,
    InlineStruct,
    InlineStructDef,
    Map,
    Struct,
    StructDefId,
    StructField,
    StructFieldDef,
    TypeDefinition,
    VariableType,
    VariableValue,
)

from lhd.core import kinds
from lhd.core.records import Transaction
from lhd.core.values import EvaluationError, is_null, kind_name, primitive_fits, require_sound, type_name, type_of


class StructDefs(Protocol):
    """Where StructDefs are looked up."""

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        """The fields of a StructDef; raises EvaluationError where this version of it does not exist."""
        ...


class StoredStructDefs:
    """The StructDefs of a tenant."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        """See :class:`StructDefs`."""
        found = self._tx.get(kinds.STRUCT_DEF, (self._tenant, struct_def_id.name, struct_def_id.version))
        if found is None:
            raise EvaluationError(f"there is no StructDef '{struct_def_id.name}' {struct_def_id.version}")
        return found.struct_def


def accept(value: VariableValue, expected: TypeDefinition, structs: StructDefs) -> VariableValue:
    """The value as it is to be stored where ``expected`` is declared; raises EvaluationError where it does not fit.

    A primitive value stays as it is. Of containers the types are written over recursively: what the sender says of
    them is not trusted.
    """
    require_sound(value)
    return fit(value, expected, structs)


def fit(value: VariableValue, expected: TypeDefinition, structs: StructDefs) -> VariableValue:
    """As :func:`accept`, for a value that is known to be sound."""
    if is_null(value):
        return value
    match expected.WhichOneof("defined_type"), value.WhichOneof("value"):
        case "struct_def_id", "struct":
            return VariableValue(struct=_fit_struct(value.struct, expected.struct_def_id, structs))
        case "inline_array_def", "array":
            element = expected.inline_array_def.array_type
            items = [_inside(f"item {i}", item, element, structs) for i, item in enumerate(value.array.items)]
            return VariableValue(array=Array(items=items, element_type=element))
        case "inline_map_def", "map":
            return VariableValue(map=_fit_map(value.map, expected, structs))
        case "primitive_type" | None, _:
            given = type_of(value)
            if given is not None and primitive_fits(given, expected.primitive_type):
                return value
    raise EvaluationError(f"{kind_name(value)} given, {type_name(expected)} expected")


def _inside(where: str, value: VariableValue, expected: TypeDefinition, structs: StructDefs) -> VariableValue:
    try:
        return fit(value, expected, structs)
    except EvaluationError as error:
        raise EvaluationError(f"{where}: {error}") from error


def _fit_map(given: Map, expected: TypeDefinition, structs: StructDefs) -> Map:
    types = expected.inline_map_def
    entries = [
        Map.Entry(
            key=_inside("a key", entry.key, types.key_type, structs),
            value=_inside("a value", entry.value, types.value_type, structs),
        )
        for entry in given.entries
    ]
    return Map(entries=entries, map_type=types)


def _fit_struct(given: Struct, expected: StructDefId, structs: StructDefs) -> Struct:
    if given.struct_def_id.name != expected.name:
        raise EvaluationError(f"Struct '{given.struct_def_id.name}' does not fit '{expected.name}'")
    fields = structs.struct_def(expected).fields
    for name, definition in sorted(fields.items()):
        if name not in given.struct.fields and is_required(definition):
            raise EvaluationError(f"Struct '{expected.name}' needs the field '{name}'")
    fitted = InlineStruct()
    for name, field in sorted(given.struct.fields.items()):
        if name in fields:
            fitted.fields[name].CopyFrom(
                _fit_field(f"Struct '{expected.name}', field '{name}'", field, fields[name], structs)
            )
        else:
            fitted.fields[name].CopyFrom(field)
    return Struct(struct_def_id=expected, struct=fitted)


def _fit_field(where: str, given: StructField, definition: StructFieldDef, structs: StructDefs) -> StructField:
    if is_null(given.value) and not definition.is_nullable:
        raise EvaluationError(f"{where} cannot be NULL")
    value = _inside(where, given.value, definition.field_type, structs)
    return StructField(value=value, masked=definition.field_type.masked)


def is_required(definition: StructFieldDef) -> bool:
    """Whether a Struct must have the field: it has no default and cannot be NULL (api.md 4.2)."""
    return not definition.HasField("default_value") and not definition.is_nullable


def definition_of(value: VariableValue) -> TypeDefinition | None:
    """The type that a value itself tells; None for NULL and for an untyped Array or Map."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "struct":
            return TypeDefinition(struct_def_id=value.struct.struct_def_id)
        case "array":
            if not value.array.HasField("element_type"):
                return None
            return TypeDefinition(inline_array_def=InlineArrayDef(array_type=value.array.element_type))
        case "map":
            return TypeDefinition(inline_map_def=value.map.map_type) if value.map.HasField("map_type") else None
    primitive = type_of(value)
    return TypeDefinition(primitive_type=VariableType.JSON_OBJ if primitive is None else primitive)
