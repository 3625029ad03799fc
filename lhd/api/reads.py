"""Reading one run-time object, or all of one kind of a WfRun (api.md 9.2, 9.3)."""

from typing import Any

from google.protobuf.message import Message
from littlehorse.model import (
    CheckpointId,
    CorrelatedEventId,
    ExternalEvent,
    ExternalEventId,
    ExternalEventList,
    InactiveThreadRunId,
    ListNodeRunsRequest,
    NodeRun,
    NodeRunId,
    NodeRunList,
    TaskRun,
    TaskRunId,
    TaskRunList,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunList,
    Variable,
    VariableId,
    VariableList,
    WfRunId,
    WorkflowEvent,
    WorkflowEventId,
    WorkflowEventList,
)

from lhd.api.call import Api, Method
from lhd.api.masking import masked
from lhd.api.paging import Query, page
from lhd.core import kinds
from lhd.core.ids import external_event_key, node_run_key, printed, run_key, task_run_key
from lhd.core.records import Key, Kind
from lhd.core.user_tasks import user_task_run_key
from lhd.errors import not_found


async def get(api: Api, kind: Kind[Any], key: Key, what: str) -> Any:
    """One record as a client may see it; raises NOT_FOUND where there is none."""
    found = await api.reader.get(kind, key)
    if found is None:
        raise not_found(f"there is no {what}")
    return masked(found)


async def get_wf_run(api: Api, tenant: str, request: WfRunId) -> Any:
    """GetWfRun."""
    return await get(api, kinds.WF_RUN, run_key(tenant, request), f"WfRun {printed(request)}")


async def get_inactive_thread_run(api: Api, tenant: str, request: InactiveThreadRunId) -> Any:
    """GetInactiveThreadRun: a ThreadRun that is no longer part of its WfRun's message."""
    key = (*run_key(tenant, request.wf_run_id), request.thread_run_number)
    return await get(api, kinds.INACTIVE_THREAD_RUN, key, f"archived thread {key[2]} of WfRun {key[1]}")


async def get_node_run(api: Api, tenant: str, request: NodeRunId) -> Any:
    """GetNodeRun."""
    key = node_run_key(tenant, request)
    what = f"NodeRun {key[2]}/{key[3]} of WfRun {key[1]}"
    return await get(api, kinds.NODE_RUN, key, what)


async def get_task_run(api: Api, tenant: str, request: TaskRunId) -> Any:
    """GetTaskRun."""
    key = task_run_key(tenant, request)
    return await get(api, kinds.TASK_RUN, key, f"TaskRun {key[2]} of WfRun {key[1]}")


async def get_checkpoint(api: Api, tenant: str, request: CheckpointId) -> Any:
    """GetCheckpoint."""
    key = (*task_run_key(tenant, request.task_run), request.checkpoint_number)
    what = f"Checkpoint {key[3]} of TaskRun {key[2]} of WfRun {key[1]}"
    return await get(api, kinds.CHECKPOINT, key, what)


async def get_user_task_run(api: Api, tenant: str, request: UserTaskRunId) -> Any:
    """GetUserTaskRun."""
    key = user_task_run_key(tenant, request)
    return await get(api, kinds.USER_TASK_RUN, key, f"UserTaskRun {key[2]} of WfRun {key[1]}")


async def get_workflow_event(api: Api, tenant: str, request: WorkflowEventId) -> Any:
    """GetWorkflowEvent."""
    key = (*run_key(tenant, request.wf_run_id), request.workflow_event_def_id.name, request.number)
    what = f"WorkflowEvent '{key[2]}' {key[3]} of WfRun {key[1]}"
    return await get(api, kinds.WORKFLOW_EVENT, key, what)


async def get_variable(api: Api, tenant: str, request: VariableId) -> Any:
    """GetVariable."""
    key = (*run_key(tenant, request.wf_run_id), request.thread_run_number, request.name)
    what = f"variable '{request.name}' in thread {request.thread_run_number} of WfRun {key[1]}"
    return await get(api, kinds.VARIABLE, key, what)


async def get_external_event(api: Api, tenant: str, request: ExternalEventId) -> Any:
    """GetExternalEvent."""
    key = external_event_key(tenant, request)
    return await get(api, kinds.EXTERNAL_EVENT, key, f"ExternalEvent '{key[2]}' {key[3]} of WfRun {key[1]}")


async def get_correlated_event(api: Api, tenant: str, request: CorrelatedEventId) -> Any:
    """GetCorrelatedEvent."""
    name = request.external_event_def_id.name
    key = (tenant, name, request.key)
    return await get(api, kinds.CORRELATED_EVENT, key, f"CorrelatedEvent '{name}' with this key")


def _list(table: str, order: tuple[str, ...], message: type[Message], reply: type[Message]) -> Method:
    async def list_of_run(api: Api, tenant: str, request: Any) -> Any:
        query = Query(table, ("body",), order)
        query.where("tenant = ? AND run = ?", *run_key(tenant, request.wf_run_id))
        if isinstance(request, ListNodeRunsRequest) and request.HasField("thread_run_number"):
            query.where("thread = ?", request.thread_run_number)
        rows, bookmark = await page(api.reader, query, request)
        return reply(results=[masked(message.FromString(body)) for (body,) in rows], bookmark=bookmark)

    return list_of_run


METHODS: dict[str, Method] = {
    "GetWfRun": get_wf_run,
    "GetInactiveThreadRun": get_inactive_thread_run,
    "GetNodeRun": get_node_run,
    "GetTaskRun": get_task_run,
    "GetCheckpoint": get_checkpoint,
    "GetUserTaskRun": get_user_task_run,
    "GetVariable": get_variable,
    "GetExternalEvent": get_external_event,
    "GetCorrelatedEvent": get_correlated_event,
    "GetWorkflowEvent": get_workflow_event,
    "ListNodeRuns": _list("node_run", ("thread", "position"), NodeRun, NodeRunList),
    "ListTaskRuns": _list("task_run", ("task_guid",), TaskRun, TaskRunList),
    "ListUserTaskRuns": _list("user_task_run", ("user_task_guid",), UserTaskRun, UserTaskRunList),
    "ListVariables": _list("variable", ("thread", "name"), Variable, VariableList),
    "ListExternalEvents": _list("external_event", ("event_def", "guid"), ExternalEvent, ExternalEventList),
    "ListWorkflowEvents": _list("workflow_event", ("event_def", "number"), WorkflowEvent, WorkflowEventList),
}
