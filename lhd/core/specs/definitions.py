"""TypeDefinitions as they are stored: old forms made new, StructDef versions pinned (api.md 3.2, 4.1)."""

from littlehorse.model import (
    InlineMapDef,
    ReturnType,
    StructDef,
    StructDefId,
    TypeDefinition,
    VariableDef,
    VariableType,
)

from lhd.core import kinds
from lhd.core.records import Transaction
from lhd.core.specs.types import MAP_KEYS, name_of, type_of_definition
from lhd.core.values import NESTED_MAX
from lhd.errors import invalid_argument


def latest_struct_def(tx: Transaction, tenant: str, name: str) -> StructDef | None:
    """The newest version of a StructDef."""
    return max(tx.all(kinds.STRUCT_DEF, tenant, name), key=lambda found: found.id.version, default=None)


def pin(tx: Transaction, tenant: str, struct_def_id: StructDefId, what: str) -> None:
    """Replace version -1 by the newest one; refuse a StructDef that does not exist."""
    if struct_def_id.version == -1:
        latest = latest_struct_def(tx, tenant, struct_def_id.name)
        if latest is not None:
            struct_def_id.version = latest.id.version
            return
    elif tx.get(kinds.STRUCT_DEF, (tenant, struct_def_id.name, struct_def_id.version)) is not None:
        return
    # Clients look for the small letter in answers to PutWfSpec, and for the capital in all others.
    refers = "refers" if what.startswith("WfSpec ") else "Refers"
    raise invalid_argument(f"{what}: {refers} to non-existent StructDef {struct_def_id.name}")


def normalise(tx: Transaction, tenant: str, definition: TypeDefinition, what: str, depth: int = 0) -> None:
    """Bring a TypeDefinition to the form that is stored, at every depth: an empty one means JSON_OBJ."""
    if depth > NESTED_MAX:
        raise invalid_argument(f"{what}: types nest deeper than {NESTED_MAX} levels")
    match definition.WhichOneof("defined_type"):
        case None:
            definition.primitive_type = VariableType.JSON_OBJ
        case "primitive_type":
            if definition.primitive_type not in VariableType.values():
                raise invalid_argument(f"{what}: {definition.primitive_type} is not a VariableType")
        case "struct_def_id":
            pin(tx, tenant, definition.struct_def_id, what)
        case "inline_array_def":
            normalise(tx, tenant, definition.inline_array_def.array_type, what, depth + 1)
        case "inline_map_def":
            _normalise_map(tx, tenant, definition.inline_map_def, what, depth)
        case shape:
            raise invalid_argument(f"{what}: {shape} is not supported; name a StructDef by struct_def_id")


def _normalise_map(tx: Transaction, tenant: str, types: InlineMapDef, what: str, depth: int) -> None:
    normalise(tx, tenant, types.key_type, what, depth + 1)
    key = type_of_definition(types.key_type)
    if key not in MAP_KEYS:
        raise invalid_argument(
            f"{what}: {name_of(key)} cannot be the key of a Map; it is INT, STR, BOOL, DOUBLE, TIMESTAMP or WF_RUN_ID"
        )
    normalise(tx, tenant, types.value_type, what, depth + 1)


def normalise_return(tx: Transaction, tenant: str, return_type: ReturnType, what: str) -> None:
    """As :func:`normalise`; a ReturnType without a type means void and stays as it is."""
    if return_type.HasField("return_type"):
        normalise(tx, tenant, return_type.return_type, what)


def normalise_variable(tx: Transaction, tenant: str, variable: VariableDef, what: str) -> None:
    """Bring a VariableDef from its deprecated form to ``type_def``."""
    if variable.HasField("type"):
        variable.type_def.CopyFrom(TypeDefinition(primitive_type=variable.type, masked=variable.masked_value))
    variable.ClearField("type")
    variable.ClearField("masked_value")
    normalise(tx, tenant, variable.type_def, what)
