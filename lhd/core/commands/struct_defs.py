"""PutStructDef and DeleteStructDef: schemas, their versions and how they may change (api.md 4.2)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    DeleteStructDefRequest,
    InlineStructDef,
    PutStructDefRequest,
    StructDef,
    StructDefCompatibilityType,
    StructDefId,
    StructFieldDef,
    TypeDefinition,
    ValidateStructDefEvolutionRequest,
    ValidateStructDefEvolutionResponse,
    VariableType,
)

from lhd.core import kinds
from lhd.core.fitting import StoredStructDefs, accept, is_required
from lhd.core.ids import require_lh_name, timestamp
from lhd.core.records import Transaction
from lhd.core.specs.definitions import latest_struct_def, normalise
from lhd.core.specs.types import JSON
from lhd.core.values import EvaluationError, is_null
from lhd.errors import invalid_argument, not_found


def put_struct_def(tx: Transaction, tenant: str, request: PutStructDefRequest) -> StructDef:
    """Store a StructDef as the next version of its name; one that equals the latest returns that."""
    require_lh_name(request.name, "StructDef")
    definition = StructDef(id=StructDefId(name=request.name), struct_def=request.struct_def)
    if request.HasField("description"):
        definition.description = request.description
    _check_schema(tx, tenant, request.name, definition.struct_def)
    latest = latest_struct_def(tx, tenant, request.name)
    if latest is not None:
        changed = definition.struct_def != latest.struct_def
        if not changed and definition.description == latest.description:
            return latest
        if changed:
            _check_evolution(request.name, latest.struct_def, definition.struct_def, request.allowed_updates)
        definition.id.version = latest.id.version + 1
    definition.created_at.CopyFrom(timestamp(tx.now_ms))
    return tx.put(kinds.STRUCT_DEF, (tenant, request.name, definition.id.version), definition)


def delete_struct_def(tx: Transaction, tenant: str, request: DeleteStructDefRequest) -> Empty:
    """Delete one version of a StructDef."""
    key = (tenant, request.id.name, request.id.version)
    if tx.get(kinds.STRUCT_DEF, key) is None:
        raise not_found(f"there is no StructDef '{request.id.name}' {request.id.version}")
    tx.delete(kinds.STRUCT_DEF, key)
    return Empty()


def validate_evolution(
    tx: Transaction, tenant: str, request: ValidateStructDefEvolutionRequest
) -> ValidateStructDefEvolutionResponse:
    """Whether a StructDef could change so; stores nothing. One that does not exist yet may be anything."""
    name, version = request.struct_def_id.name, request.struct_def_id.version
    schema = InlineStructDef()
    schema.CopyFrom(request.struct_def)
    _check_schema(tx, tenant, name, schema)
    latest = latest_struct_def(tx, tenant, name)
    before = latest if version == -1 else tx.get(kinds.STRUCT_DEF, (tenant, name, version))
    broken = [] if before is None else incompatible_fields(before.struct_def, schema, request.compatibility_type)
    return ValidateStructDefEvolutionResponse(is_valid=not broken)


def _check_schema(tx: Transaction, tenant: str, name: str, schema: InlineStructDef) -> None:
    for field_name, field in sorted(schema.fields.items()):
        where = f"StructDef '{name}', field '{field_name}'"
        _check_field_name(field_name, where)
        normalise(tx, tenant, field.field_type, where)
        _forbid_json(field.field_type, where)
        if not field.HasField("default_value"):
            continue
        if is_null(field.default_value) and not field.is_nullable:
            raise invalid_argument(f"{where}: the default is NULL, so is_nullable must be set")
        try:
            default = accept(field.default_value, field.field_type, StoredStructDefs(tx, tenant))
        except EvaluationError as error:
            raise invalid_argument(f"{where}: the default: {error}") from error
        field.default_value.CopyFrom(default)


def _check_field_name(name: str, where: str) -> None:
    if not name[:1].isascii() or not name[:1].isalpha():
        raise invalid_argument(f"{where}: the first character must be a letter")
    if not name[0].islower():
        raise invalid_argument(f"{where}: the first letter must be lowercase")
    if "_" in name:
        raise invalid_argument(f"{where}: the name cannot include underscores")
    if not (name.isascii() and name.isalnum()):
        raise invalid_argument(f"{where}: the name cannot include special characters")


def _forbid_json(definition: TypeDefinition, where: str) -> None:
    match definition.WhichOneof("defined_type"):
        case "primitive_type" if definition.primitive_type in JSON:
            kind = VariableType.Name(definition.primitive_type)
            raise invalid_argument(f"{where}: Forbidden JSON type: {kind}; use a StructDef, an Array or a Map")
        case "inline_array_def":
            _forbid_json(definition.inline_array_def.array_type, where)
        case "inline_map_def":
            _forbid_json(definition.inline_map_def.key_type, where)
            _forbid_json(definition.inline_map_def.value_type, where)


def _check_evolution(name: str, before: InlineStructDef, after: InlineStructDef, allowed: int) -> None:
    fields = incompatible_fields(before, after, allowed)
    if fields:
        kind = StructDefCompatibilityType.Name(StructDefCompatibilityType.ValueType(allowed))
        raise invalid_argument(
            f"StructDef '{name}' cannot change so; field(s): [{', '.join(fields)}] break the {kind} compatibility type"
        )


def incompatible_fields(before: InlineStructDef, after: InlineStructDef, allowed: int) -> list[str]:
    """The names of the fields whose change is not allowed, sorted."""
    names = sorted({*before.fields, *after.fields})
    if allowed == StructDefCompatibilityType.NO_SCHEMA_UPDATES:
        return [name for name in names if _field(before, name) != _field(after, name)]
    return [name for name in names if _breaks(_field(before, name), _field(after, name))]


def _field(schema: InlineStructDef, name: str) -> StructFieldDef | None:
    return schema.fields.get(name, None)


def _breaks(before: StructFieldDef | None, after: StructFieldDef | None) -> bool:
    was, becomes = before is not None and is_required(before), after is not None and is_required(after)
    if was != becomes:
        return True
    return was and before is not None and after is not None and before.field_type != after.field_type
