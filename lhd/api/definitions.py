"""Reading and finding definitions: TaskDefs, WfSpecs, the Defs of events, user tasks and Structs (api.md 4.3, 9.5)."""

from typing import Any

from google.protobuf.message import Message
from littlehorse.model import (
    ExternalEventDefId,
    ExternalEventDefIdList,
    GetLatestUserTaskDefRequest,
    GetLatestWfSpecRequest,
    SearchWfSpecRequest,
    StructDef,
    StructDefId,
    StructDefIdList,
    TaskDefId,
    TaskDefIdList,
    UserTaskDef,
    UserTaskDefId,
    UserTaskDefIdList,
    WfSpec,
    WfSpecId,
    WfSpecIdList,
    WorkflowEventDefId,
    WorkflowEventDefIdList,
)

from lhd.api.call import Api, Method
from lhd.api.paging import Query, page, prefix_range
from lhd.api.reads import get
from lhd.core import kinds
from lhd.core.records import Kind
from lhd.errors import not_found


def _get_by_name(kind: Kind[Any], what: str) -> Method:
    async def get_by_name(api: Api, tenant: str, request: Any) -> Any:
        return await get(api, kind, (tenant, request.name), f"{what} '{request.name}'")

    return get_by_name


async def get_user_task_def(api: Api, tenant: str, request: UserTaskDefId) -> Any:
    """GetUserTaskDef: an exact version."""
    key = (tenant, request.name, request.version)
    return await get(api, kinds.USER_TASK_DEF, key, f"UserTaskDef '{request.name}' {request.version}")


async def get_latest_user_task_def(api: Api, tenant: str, request: GetLatestUserTaskDefRequest) -> UserTaskDef:
    """GetLatestUserTaskDef: the highest version."""
    return UserTaskDef.FromString(await _latest(api, tenant, "user_task_def", request.name, "UserTaskDef"))


async def get_struct_def(api: Api, tenant: str, request: StructDefId) -> Any:
    """GetStructDef: an exact version; -1 means the highest."""
    if request.version == -1:
        return StructDef.FromString(await _latest(api, tenant, "struct_def", request.name, "StructDef"))
    key = (tenant, request.name, request.version)
    return await get(api, kinds.STRUCT_DEF, key, f"StructDef '{request.name}' {request.version}")


async def _latest(api: Api, tenant: str, table: str, name: str, what: str) -> bytes:
    query = f"SELECT body FROM {table} WHERE tenant = ? AND name = ? ORDER BY version DESC LIMIT 1"
    for (body,) in await api.reader.fetch(query, (tenant, name)):
        return bytes(body)
    raise not_found(f"there is no {what} '{name}'")


async def get_wf_spec(api: Api, tenant: str, request: WfSpecId) -> Any:
    """GetWfSpec: an exact version; an id with only a name means 0.0."""
    key = (tenant, request.name, request.major_version, request.revision)
    what = f"WfSpec '{request.name}' {request.major_version}.{request.revision}"
    return (await get(api, kinds.WF_SPEC, key, what)).message


async def get_latest_wf_spec(api: Api, tenant: str, request: GetLatestWfSpecRequest) -> WfSpec:
    """GetLatestWfSpec: the highest version, or the highest of a major version."""
    major = request.major_version if request.HasField("major_version") else None
    found = await latest_wf_spec(api, tenant, request.name, major)
    if found is None:
        raise not_found(f"there is no WfSpec '{request.name}'")
    return found


async def latest_wf_spec(
    api: Api, tenant: str, name: str, major: int | None = None, revision: int | None = None
) -> WfSpec | None:
    """The highest version of a WfSpec among those of this major version and revision, where they are given."""
    condition, parameters = "tenant = ? AND name = ?", [tenant, name]
    for column, wanted in (("major_version", major), ("revision", revision)):
        if wanted is not None:
            condition += f" AND {column} = {wanted:d}"
    rows = await api.reader.fetch(
        f"SELECT body FROM wf_spec WHERE {condition} ORDER BY major_version DESC, revision DESC LIMIT 1", parameters
    )
    return WfSpec.FromString(rows[0][0]) if rows else None


def _search_names(table: str, message: type[Message], reply: type[Message]) -> Method:
    """By the beginning of the name."""

    async def search_names(api: Api, tenant: str, request: Any) -> Any:
        query = Query(table, ("name",), ("name",))
        query.where("tenant = ?", tenant)
        prefix_range(query, "name", request.prefix)
        rows, bookmark = await page(api.reader, query, request)
        return reply(results=[message(name=name) for (name,) in rows], bookmark=bookmark)

    return search_names


def _search_versions(table: str, criteria: str, message: type[Message], reply: type[Message]) -> Method:
    """All versions, of names that begin alike, or of one name."""

    async def search_versions(api: Api, tenant: str, request: Any) -> Any:
        query = Query(table, ("name", "version"), ("name", "version"))
        query.where("tenant = ?", tenant)
        match request.WhichOneof(criteria):
            case "prefix":
                prefix_range(query, "name", request.prefix)
            case "name":
                query.where("name = ?", request.name)
        rows, bookmark = await page(api.reader, query, request)
        return reply(results=[message(name=name, version=version) for name, version in rows], bookmark=bookmark)

    return search_versions


async def search_wf_spec(api: Api, tenant: str, request: SearchWfSpecRequest) -> WfSpecIdList:
    """SearchWfSpec: all versions, of one name, of names that begin alike, or that use a TaskDef."""
    query = Query("wf_spec", ("name", "major_version", "revision"), ("name", "major_version", "revision"))
    query.where("tenant = ?", tenant)
    match request.WhichOneof("wf_spec_criteria"):
        case "name":
            query.where("name = ?", request.name)
        case "prefix":
            prefix_range(query, "name", request.prefix)
        case "task_def_name":
            users = await _wf_specs_using(api, tenant, request.task_def_name)
            marks = ", ".join(["(?, ?, ?)"] * len(users)) or "(NULL, NULL, NULL)"
            query.where(
                f"(name, major_version, revision) IN (VALUES {marks})", *(part for id_ in users for part in id_)
            )
    rows, bookmark = await page(api.reader, query, request)
    results = [WfSpecId(name=name, major_version=major, revision=revision) for name, major, revision in rows]
    return WfSpecIdList(results=results, bookmark=bookmark)


async def _wf_specs_using(api: Api, tenant: str, task_def: str) -> list[tuple[str, int, int]]:
    rows = await api.reader.fetch("SELECT body FROM wf_spec WHERE tenant = ?", (tenant,))
    specs = [WfSpec.FromString(body) for (body,) in rows]
    return [
        (spec.id.name, spec.id.major_version, spec.id.revision)
        for spec in specs
        if any(
            node.task.HasField("task_def_id") and node.task.task_def_id.name == task_def
            for thread_spec in spec.thread_specs.values()
            for node in thread_spec.nodes.values()
        )
    ]


METHODS: dict[str, Method] = {
    "GetTaskDef": _get_by_name(kinds.TASK_DEF, "TaskDef"),
    "GetExternalEventDef": _get_by_name(kinds.EXTERNAL_EVENT_DEF, "ExternalEventDef"),
    "GetWorkflowEventDef": _get_by_name(kinds.WORKFLOW_EVENT_DEF, "WorkflowEventDef"),
    "GetUserTaskDef": get_user_task_def,
    "GetLatestUserTaskDef": get_latest_user_task_def,
    "GetStructDef": get_struct_def,
    "GetWfSpec": get_wf_spec,
    "GetLatestWfSpec": get_latest_wf_spec,
    "SearchTaskDef": _search_names("task_def", TaskDefId, TaskDefIdList),
    "SearchExternalEventDef": _search_names("external_event_def", ExternalEventDefId, ExternalEventDefIdList),
    "SearchWorkflowEventDef": _search_names("workflow_event_def", WorkflowEventDefId, WorkflowEventDefIdList),
    "SearchUserTaskDef": _search_versions("user_task_def", "user_task_def_criteria", UserTaskDefId, UserTaskDefIdList),
    "SearchStructDef": _search_versions("struct_def", "struct_def_criteria", StructDefId, StructDefIdList),
    "SearchWfSpec": search_wf_spec,
}
