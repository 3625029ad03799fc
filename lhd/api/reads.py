"""The Get and List RPCs (api.md 4.3, 9.2, 9.3)."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from littlehorse.model import (
    CorrelatedEventId,
    ExternalEvent,
    ExternalEventDefId,
    ExternalEventId,
    ExternalEventList,
    GetLatestWfSpecRequest,
    ListNodeRunsRequest,
    NodeRun,
    NodeRunId,
    NodeRunList,
    TaskDefId,
    TaskRun,
    TaskRunId,
    TaskRunList,
    Variable,
    VariableId,
    VariableList,
    WfRunId,
    WfSpec,
    WfSpecId,
)

from lhd.api import masking
from lhd.api.call import Api, Method
from lhd.api.paging import Query, page
from lhd.core import kinds
from lhd.core.ids import external_event_key, node_run_key, printed, run_key, task_run_key
from lhd.core.records import Key, Kind
from lhd.errors import not_found


async def _get(api: Api, kind: Kind[Any], key: Key, what: str) -> Any:
    found = await api.reader.get(kind, key)
    if found is None:
        raise not_found(f"there is no {what}")
    return found


async def get_task_def(api: Api, tenant: str, request: TaskDefId) -> Any:
    """GetTaskDef."""
    return await _get(api, kinds.TASK_DEF, (tenant, request.name), f"TaskDef '{request.name}'")


async def get_external_event_def(api: Api, tenant: str, request: ExternalEventDefId) -> Any:
    """GetExternalEventDef."""
    return await _get(api, kinds.EXTERNAL_EVENT_DEF, (tenant, request.name), f"ExternalEventDef '{request.name}'")


async def get_wf_spec(api: Api, tenant: str, request: WfSpecId) -> Any:
    """GetWfSpec: an exact version; an id with only a name means 0.0."""
    key = (tenant, request.name, request.major_version, request.revision)
    what = f"WfSpec '{request.name}' {request.major_version}.{request.revision}"
    return (await _get(api, kinds.WF_SPEC, key, what)).message


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


async def get_wf_run(api: Api, tenant: str, request: WfRunId) -> Any:
    """GetWfRun."""
    return await _get(api, kinds.WF_RUN, run_key(tenant, request), f"WfRun {printed(request)}")


async def get_node_run(api: Api, tenant: str, request: NodeRunId) -> Any:
    """GetNodeRun."""
    key = node_run_key(tenant, request)
    what = f"NodeRun {key[2]}/{key[3]} of WfRun {key[1]}"
    return masking.node_run(await _get(api, kinds.NODE_RUN, key, what))


async def get_task_run(api: Api, tenant: str, request: TaskRunId) -> Any:
    """GetTaskRun."""
    key = task_run_key(tenant, request)
    return masking.task_run(await _get(api, kinds.TASK_RUN, key, f"TaskRun {key[2]} of WfRun {key[1]}"))


async def get_variable(api: Api, tenant: str, request: VariableId) -> Any:
    """GetVariable."""
    key = (*run_key(tenant, request.wf_run_id), request.thread_run_number, request.name)
    what = f"variable '{request.name}' in thread {request.thread_run_number} of WfRun {key[1]}"
    return masking.variable(await _get(api, kinds.VARIABLE, key, what))


async def get_external_event(api: Api, tenant: str, request: ExternalEventId) -> Any:
    """GetExternalEvent."""
    key = external_event_key(tenant, request)
    return await _get(api, kinds.EXTERNAL_EVENT, key, f"ExternalEvent '{key[2]}' {key[3]} of WfRun {key[1]}")


async def get_correlated_event(api: Api, tenant: str, request: CorrelatedEventId) -> Any:
    """GetCorrelatedEvent."""
    name = request.external_event_def_id.name
    key = (tenant, name, request.key)
    return await _get(api, kinds.CORRELATED_EVENT, key, f"CorrelatedEvent '{name}' with this key")


def _list(
    table: str,
    order: tuple[str, ...],
    message: type[Message],
    reply: type[Message],
    mask: Callable[[Any], Any] = lambda record: record,
) -> Method:
    async def list_of_run(api: Api, tenant: str, request: Any) -> Any:
        query = Query(table, ("body",), order)
        query.where("tenant = ? AND run = ?", *run_key(tenant, request.wf_run_id))
        if isinstance(request, ListNodeRunsRequest) and request.HasField("thread_run_number"):
            query.where("thread = ?", request.thread_run_number)
        rows, bookmark = await page(api.reader, query, request)
        return reply(results=[mask(message.FromString(body)) for (body,) in rows], bookmark=bookmark)

    return list_of_run


METHODS: dict[str, Method] = {
    "GetTaskDef": get_task_def,
    "GetExternalEventDef": get_external_event_def,
    "GetWfSpec": get_wf_spec,
    "GetLatestWfSpec": get_latest_wf_spec,
    "GetWfRun": get_wf_run,
    "GetNodeRun": get_node_run,
    "GetTaskRun": get_task_run,
    "GetVariable": get_variable,
    "GetExternalEvent": get_external_event,
    "GetCorrelatedEvent": get_correlated_event,
    "ListNodeRuns": _list("node_run", ("thread", "position"), NodeRun, NodeRunList, masking.node_run),
    "ListTaskRuns": _list("task_run", ("task_guid",), TaskRun, TaskRunList, masking.task_run),
    "ListVariables": _list("variable", ("thread", "name"), Variable, VariableList, masking.variable),
    "ListExternalEvents": _list("external_event", ("event_def", "guid"), ExternalEvent, ExternalEventList),
}
