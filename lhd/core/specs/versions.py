"""The version that a new WfSpec gets, and which variables a version freezes (api.md 5.7)."""

from littlehorse.model import (
    AllowedUpdateType,
    ThreadVarDef,
    WfRunVariableAccessLevel,
    WfSpec,
    WfSpecId,
)

from lhd.core import kinds
from lhd.core.indexing import INPUT
from lhd.core.records import Transaction
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.specs.types import Known
from lhd.errors import Code, Rejection, invalid_argument, not_found


def versions(tx: Transaction, tenant: str, name: str) -> list[RegisteredSpec]:
    """Every stored version of a WfSpec, oldest first."""
    found = tx.all(kinds.WF_SPEC, tenant, name)
    return sorted(found, key=lambda spec: (spec.message.id.major_version, spec.message.id.revision))


def find(tx: Transaction, tenant: str, name: str, major: int | None, revision: int | None) -> RegisteredSpec:
    """The version that a request means: exact, the newest of a major version, or the newest. Raises NOT_FOUND."""
    candidates = [
        spec
        for spec in versions(tx, tenant, name)
        if (major is None or spec.message.id.major_version == major)
        and (major is None or revision is None or spec.message.id.revision == revision)
    ]
    if not candidates:
        version = "" if major is None else f" {major}" if revision is None else f" {major}.{revision}"
        raise not_found(f"there is no WfSpec '{name}'{version}")
    return candidates[-1]


def number(
    candidate: WfSpec, output: Known, latest: WfSpec | None, latest_output: Known, allowed: int
) -> WfSpec | None:
    """Give the candidate its version and frozen variables; None where it equals the latest version."""
    frozen_before = {} if latest is None else {var.var_def.name: var for var in latest.frozen_variables}
    _check_frozen(candidate, frozen_before)
    declared = {var.var_def.name for var in _all_variables(candidate)}
    frozen = {var.var_def.name: var for var in _public(candidate) + _required(candidate) if var.var_def.name != INPUT}
    frozen |= {name: var for name, var in frozen_before.items() if name not in declared}
    candidate.frozen_variables.extend(frozen[name] for name in sorted(frozen))
    if latest is None:
        return candidate
    if _definition(candidate) == _definition(latest):
        return None
    breaking = _is_breaking(candidate, output, latest, latest_output)
    candidate.id.CopyFrom(_next_id(latest.id, breaking=breaking))
    _check_allowed(candidate.id, breaking, allowed)
    return candidate


def _check_allowed(spec_id: WfSpecId, breaking: bool, allowed: int) -> None:
    if allowed == AllowedUpdateType.NO_UPDATES:
        raise Rejection(Code.ALREADY_EXISTS, f"WfSpec already exists: '{spec_id.name}', and NO_UPDATES is asked for")
    if allowed == AllowedUpdateType.MINOR_REVISION_UPDATES and breaking:
        raise Rejection(
            Code.FAILED_PRECONDITION,
            f"WfSpec '{spec_id.name}' {spec_id.major_version}.{spec_id.revision} has a breaking change, "
            "and only MINOR_REVISION_UPDATES are asked for",
        )


def _next_id(latest: WfSpecId, *, breaking: bool) -> WfSpecId:
    if breaking:
        return WfSpecId(name=latest.name, major_version=latest.major_version + 1)
    return WfSpecId(name=latest.name, major_version=latest.major_version, revision=latest.revision + 1)


def _check_frozen(candidate: WfSpec, frozen: dict[str, ThreadVarDef]) -> None:
    for variable in _all_variables(candidate):
        before = frozen.get(variable.var_def.name)
        if before is not None and before.var_def.type_def != variable.var_def.type_def:
            raise invalid_argument(
                f"WfSpec '{candidate.id.name}': the variable '{variable.var_def.name}' is frozen by an earlier "
                "version and cannot change its type; give it a new name"
            )


def _is_breaking(candidate: WfSpec, output: Known, latest: WfSpec, latest_output: Known) -> bool:
    return (
        _by_bytes(_public(candidate)) != _by_bytes(_public(latest))
        or _by_bytes(_required(candidate)) != _by_bytes(_required(latest))
        or output != latest_output
    )


def _all_variables(spec: WfSpec) -> list[ThreadVarDef]:
    return [var for thread_spec in spec.thread_specs.values() for var in thread_spec.variable_defs]


def _public(spec: WfSpec) -> list[ThreadVarDef]:
    return [var for var in _all_variables(spec) if var.access_level == WfRunVariableAccessLevel.PUBLIC_VAR]


def _required(spec: WfSpec) -> list[ThreadVarDef]:
    return [var for var in spec.thread_specs[spec.entrypoint_thread_name].variable_defs if var.required]


def _by_bytes(variables: list[ThreadVarDef]) -> set[bytes]:
    return {variable.SerializeToString(deterministic=True) for variable in variables}


def _definition(spec: WfSpec) -> WfSpec:
    definition = WfSpec()
    definition.CopyFrom(spec)
    for field in ("id", "created_at", "frozen_variables"):
        definition.ClearField(field)
    return definition
