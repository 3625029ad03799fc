"""Putting and deleting definitions, but for StructDefs (api.md 4 and 5)."""

from typing import Any

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    DeleteExternalEventDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowEventDefRequest,
    ExternalEventDef,
    ExternalEventDefId,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    PutUserTaskDefRequest,
    PutWfSpecRequest,
    PutWorkflowEventDefRequest,
    TaskDef,
    TaskDefId,
    UserTaskDef,
    WfSpec,
    WorkflowEventDef,
    WorkflowEventDefId,
)

from lhd.core import kinds
from lhd.core.ids import require_lh_name, timestamp
from lhd.core.nodes.user_task import find_user_task_def
from lhd.core.records import Key, Kind, Transaction
from lhd.core.specs import versions
from lhd.core.specs.check import check_wf_spec, output_type_of
from lhd.core.specs.definitions import normalise_return, normalise_variable
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.specs.types import Shape
from lhd.errors import Code, Rejection, not_found


def put_task_def(tx: Transaction, tenant: str, request: PutTaskDefRequest) -> TaskDef:
    """Store a TaskDef; the same one again returns the stored one, another of its name is refused."""
    require_lh_name(request.name, "TaskDef")
    definition = TaskDef(
        id=TaskDefId(name=request.name), input_vars=request.input_vars, return_type=request.return_type
    )
    if request.HasField("description"):
        definition.description = request.description
    for variable in definition.input_vars:
        normalise_variable(tx, tenant, variable, f"TaskDef '{request.name}', input '{variable.name}'")
    normalise_return(tx, tenant, definition.return_type, f"TaskDef '{request.name}', return type")
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
        normalise_return(tx, tenant, definition.type_information, f"ExternalEventDef '{request.name}', content type")
    if merged.HasField("correlated_event_config"):
        definition.correlated_event_config.CopyFrom(merged.correlated_event_config)
    return tx.put(kinds.EXTERNAL_EVENT_DEF, (tenant, request.name), definition)


def put_workflow_event_def(tx: Transaction, tenant: str, request: PutWorkflowEventDefRequest) -> WorkflowEventDef:
    """Store a WorkflowEventDef; the same one again returns the stored one, another of its name is refused."""
    require_lh_name(request.name, "WorkflowEventDef")
    definition = WorkflowEventDef(id=WorkflowEventDefId(name=request.name), content_type=request.content_type)
    normalise_return(tx, tenant, definition.content_type, f"WorkflowEventDef '{request.name}', content type")
    definition.content_type.SetInParent()
    stored = tx.get(kinds.WORKFLOW_EVENT_DEF, (tenant, request.name))
    if stored is None:
        definition.created_at.CopyFrom(timestamp(tx.now_ms))
        return tx.put(kinds.WORKFLOW_EVENT_DEF, (tenant, request.name), definition)
    if definition.content_type != stored.content_type:
        text = f"WorkflowEventDef '{request.name}' already exists with another content type"
        raise Rejection(Code.ALREADY_EXISTS, text)
    return stored


def put_user_task_def(tx: Transaction, tenant: str, request: PutUserTaskDefRequest) -> UserTaskDef:
    """Store a UserTaskDef as the next version of its name; one that equals the latest returns that."""
    require_lh_name(request.name, "UserTaskDef")
    definition = UserTaskDef(name=request.name, fields=request.fields)
    if request.HasField("description"):
        definition.description = request.description
    latest = find_user_task_def(tx, tenant, request.name, None)
    if latest is not None:
        definition.version = latest.version
        definition.created_at.CopyFrom(latest.created_at)
        if definition == latest:
            return latest
        definition.version += 1
    definition.created_at.CopyFrom(timestamp(tx.now_ms))
    return tx.put(kinds.USER_TASK_DEF, (tenant, request.name, definition.version), definition)


def delete_task_def(tx: Transaction, tenant: str, request: DeleteTaskDefRequest) -> Empty:
    """Delete a TaskDef; WfRuns that come to it later fail."""
    return _delete(tx, kinds.TASK_DEF, (tenant, request.id.name), f"TaskDef '{request.id.name}'")


def delete_external_event_def(tx: Transaction, tenant: str, request: DeleteExternalEventDefRequest) -> Empty:
    """Delete an ExternalEventDef; its events stay."""
    name = request.id.name
    return _delete(tx, kinds.EXTERNAL_EVENT_DEF, (tenant, name), f"ExternalEventDef '{name}'")


def delete_workflow_event_def(tx: Transaction, tenant: str, request: DeleteWorkflowEventDefRequest) -> Empty:
    """Delete a WorkflowEventDef; its events stay."""
    name = request.id.name
    return _delete(tx, kinds.WORKFLOW_EVENT_DEF, (tenant, name), f"WorkflowEventDef '{name}'")


def delete_user_task_def(tx: Transaction, tenant: str, request: DeleteUserTaskDefRequest) -> Empty:
    """Delete one version of a UserTaskDef."""
    name, version = request.id.name, request.id.version
    return _delete(tx, kinds.USER_TASK_DEF, (tenant, name, version), f"UserTaskDef '{name}' {version}")


def delete_wf_spec(tx: Transaction, tenant: str, request: DeleteWfSpecRequest) -> Empty:
    """Delete one version of a WfSpec; WfRuns that follow it fail when they are to move."""
    name, major, revision = request.id.name, request.id.major_version, request.id.revision
    return _delete(tx, kinds.WF_SPEC, (tenant, name, major, revision), f"WfSpec '{name}' {major}.{revision}")


def _delete(tx: Transaction, kind: Kind[Any], key: Key, what: str) -> Empty:
    if tx.get(kind, key) is None:
        raise not_found(f"there is no {what}")
    tx.delete(kind, key)
    return Empty()


def put_wf_spec(tx: Transaction, tenant: str, request: PutWfSpecRequest) -> WfSpec:
    """Check and store a WfSpec; one that equals the latest version returns that version."""
    candidate, output = check_wf_spec(tx, tenant, request)
    stored = versions.versions(tx, tenant, request.name)
    latest = stored[-1].message if stored else None
    latest_output = Shape.VOID if latest is None else output_type_of(tx, tenant, latest)
    numbered = versions.number(candidate, output, latest, latest_output, request.allowed_updates)
    if numbered is None:
        assert latest is not None
        return latest
    numbered.created_at.CopyFrom(timestamp(tx.now_ms))
    spec_id = numbered.id
    key = (tenant, spec_id.name, spec_id.major_version, spec_id.revision)
    return tx.put(kinds.WF_SPEC, key, RegisteredSpec(numbered)).message
