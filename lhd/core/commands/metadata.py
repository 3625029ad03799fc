"""PutTaskDef, PutExternalEventDef and PutWfSpec (api.md 4 and 5)."""

from littlehorse.model import (
    ExternalEventDef,
    ExternalEventDefId,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    PutWfSpecRequest,
    ReturnType,
    TaskDef,
    TaskDefId,
    WfSpec,
)

from lhd.core import kinds
from lhd.core.ids import require_lh_name, timestamp
from lhd.core.records import Transaction
from lhd.core.specs import versions
from lhd.core.specs.check import check_wf_spec
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.specs.types import Known, Shape, normalise, normalise_variable
from lhd.errors import Code, Rejection


def put_task_def(tx: Transaction, tenant: str, request: PutTaskDefRequest) -> TaskDef:
    """Store a TaskDef; the same one again returns the stored one, another of its name is refused."""
    require_lh_name(request.name, "TaskDef")
    definition = TaskDef(
        id=TaskDefId(name=request.name), input_vars=request.input_vars, return_type=request.return_type
    )
    if request.HasField("description"):
        definition.description = request.description
    for variable in definition.input_vars:
        normalise_variable(variable, f"TaskDef '{request.name}', input '{variable.name}'")
    _normalise_return(definition.return_type, f"TaskDef '{request.name}', return type")
    definition.return_type.SetInParent()
    stored = tx.get(kinds.TASK_DEF, (tenant, request.name))
    if stored is None:
        definition.created_at.CopyFrom(timestamp(tx.now_ms))
        return tx.put(kinds.TASK_DEF, (tenant, request.name), definition)
    definition.created_at.CopyFrom(stored.created_at)
    if definition != stored:
        raise Rejection(Code.ALREADY_EXISTS, f"TaskDef [{request.name}] already exists and is immutable.")
    return stored


def put_external_event_def(tx: Transaction, tenant: str, request: PutExternalEventDefRequest) -> ExternalEventDef:
    """Store an ExternalEventDef in place of an earlier one; what the configuration sets of it stands."""
    require_lh_name(request.name, "ExternalEventDef")
    merged = PutExternalEventDefRequest()
    merged.CopyFrom(request)
    configured = tx.settings.event_defs.get((tenant, request.name))
    if configured is not None:
        for field in ("retention_policy", "content_type", "correlated_event_config"):
            if configured.HasField(field):
                getattr(merged, field).CopyFrom(getattr(configured, field))
    definition = ExternalEventDef(
        id=ExternalEventDefId(name=merged.name),
        created_at=timestamp(tx.now_ms),
        retention_policy=merged.retention_policy,
    )
    if merged.HasField("content_type"):
        definition.type_information.CopyFrom(merged.content_type)
        _normalise_return(definition.type_information, f"ExternalEventDef '{request.name}', content type")
    if merged.HasField("correlated_event_config"):
        definition.correlated_event_config.CopyFrom(merged.correlated_event_config)
    return tx.put(kinds.EXTERNAL_EVENT_DEF, (tenant, request.name), definition)


def _normalise_return(return_type: ReturnType, what: str) -> None:
    if return_type.HasField("return_type"):
        normalise(return_type.return_type, what)


def put_wf_spec(tx: Transaction, tenant: str, request: PutWfSpecRequest) -> WfSpec:
    """Check and store a WfSpec; one that equals the latest version returns that version."""
    candidate, output = check_wf_spec(tx, tenant, request)
    stored = versions.versions(tx, tenant, request.name)
    latest = stored[-1].message if stored else None
    latest_output = Shape.VOID if latest is None else _output_of(tx, tenant, latest)
    numbered = versions.number(candidate, output, latest, latest_output, request.allowed_updates)
    if numbered is None:
        assert latest is not None
        return latest
    numbered.created_at.CopyFrom(timestamp(tx.now_ms))
    spec_id = numbered.id
    key = (tenant, spec_id.name, spec_id.major_version, spec_id.revision)
    return tx.put(kinds.WF_SPEC, key, RegisteredSpec(numbered)).message


def _output_of(tx: Transaction, tenant: str, spec: WfSpec) -> Known:
    """The output type of a stored version; unknown where what it refers to has been deleted since."""
    request = PutWfSpecRequest(
        name=spec.id.name, thread_specs=spec.thread_specs, entrypoint_thread_name=spec.entrypoint_thread_name
    )
    try:
        return check_wf_spec(tx, tenant, request)[1]
    except Rejection:
        return Shape.UNKNOWN
