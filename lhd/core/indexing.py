"""Which values of a variable searches find (execution.md 8.4)."""

from littlehorse.model import ThreadVarDef, Variable, VariableValue

from lhd.core import json_path, kinds
from lhd.core.ids import milliseconds
from lhd.core.records import Key, Transaction
from lhd.core.values import EvaluationError, computing, from_python, is_null, to_json

INPUT = "INPUT"
"""The variable by which handlers, and the threads that START_MULTIPLE_THREADS starts, get what they are for."""
_SCALARS = frozenset({"str", "bool", "int", "double"})


def indexed_name(name: str, path: str) -> str:
    """The name under which the value at a path of a JSON variable is found."""
    return f"{name}_{path}"


def reindex(tx: Transaction, key: Key, definition: ThreadVarDef, variable: Variable, before: VariableValue) -> None:
    """Let searches find the variable's value instead of the one before; ``key`` is the variable's."""
    if not (definition.searchable or definition.json_indexes) or definition.var_def.name == INPUT:
        return
    old, new = _entries(definition, before), _entries(definition, variable.value)
    for name, value in sorted(old - new):
        tx.delete(kinds.INDEXED_VALUE, (*key[:3], name, value))
    spec_id = variable.wf_spec_id
    place = (spec_id.name, spec_id.major_version, spec_id.revision, milliseconds(variable.created_at))
    for name, value in sorted(new - old):
        tx.put(kinds.INDEXED_VALUE, (*key[:3], name, value), place)


def _entries(definition: ThreadVarDef, value: VariableValue) -> set[tuple[str, bytes]]:
    name = definition.var_def.name
    if value.WhichOneof("value") in _SCALARS and definition.searchable:
        return {(name, value.SerializeToString(deterministic=True))}
    if value.WhichOneof("value") not in ("json_obj", "json_arr"):
        return set()
    found: list[tuple[str, VariableValue]] = []
    try:
        with computing():
            document = to_json(value)
            if isinstance(document, list) and definition.searchable:
                found += [(name, item) for item in _flat(document)]
            for index in definition.json_indexes:
                part = json_path.read(document, index.field_path)
                found += [(indexed_name(name, index.field_path), item) for item in _flat(part)]
    except EvaluationError:
        pass
    return {(place, item.SerializeToString(deterministic=True)) for place, item in found}


def _flat(value: object) -> list[VariableValue]:
    """The scalars of a JSON value: itself, or what stands in its lists."""
    if isinstance(value, list):
        return [item for part in value for item in _flat(part)]
    if isinstance(value, dict):
        return []
    scalar = from_python(value)
    return [] if is_null(scalar) else [scalar]
