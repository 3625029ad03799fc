"""Finding and counting NodeRuns, TaskRuns, UserTaskRuns and events (api.md 9.4, 9.6)."""

from typing import Any

from littlehorse.model import (
    CorrelatedEventId,
    CorrelatedEventIdList,
    Count,
    CountNodeRunRequest,
    CountTaskRunRequest,
    ExternalEventDefId,
    ExternalEventId,
    ExternalEventIdList,
    NodeRunId,
    NodeRunIdList,
    SearchCorrelatedEventRequest,
    SearchExternalEventRequest,
    SearchNodeRunRequest,
    SearchTaskRunRequest,
    SearchUserTaskRunRequest,
    SearchWorkflowEventRequest,
    TaskRunId,
    TaskRunIdList,
    TaskStatus,
    UserTaskRunId,
    UserTaskRunIdList,
    WorkflowEventDefId,
    WorkflowEventId,
    WorkflowEventIdList,
)

from lhd.api.call import Api, Method
from lhd.api.paging import Query, between, page
from lhd.core import kinds
from lhd.core.ids import parse_wf_run_id
from lhd.core.records import Kind
from lhd.errors import invalid_argument

_USER_TASK_CRITERIA = {
    "status": "status",
    "user_task_def_name": "user_task_def",
    "user_id": "user_id",
    "user_group": "user_group",
}
"""The fields of a SearchUserTaskRun request and the columns that they are about."""


async def search_task_run(api: Api, tenant: str, request: SearchTaskRunRequest) -> TaskRunIdList:
    """SearchTaskRun: of one TaskDef, oldest first."""
    query = Query("task_run", ("run", "task_guid"), ("scheduled_ms", "run", "task_guid"))
    query.where("tenant = ? AND task_def = ?", tenant, request.task_def_name)
    if request.HasField("status"):
        query.where("status = ?", request.status)
    between(query, "scheduled_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    results = [TaskRunId(wf_run_id=parse_wf_run_id(run), task_guid=guid) for run, guid in rows]
    return TaskRunIdList(results=results, bookmark=bookmark)


async def search_node_run(api: Api, tenant: str, request: SearchNodeRunRequest) -> NodeRunIdList:
    """SearchNodeRun: the EXTERNAL_EVENT NodeRuns of one ExternalEventDef and one status."""
    query = Query("node_run", ("run", "thread", "position"), ("arrival_ms", "run", "thread", "position"))
    query.where("tenant = ? AND event_def = ?", tenant, request.external_event_def.name)
    query.where("status = ?", request.status)
    between(query, "arrival_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    results = [
        NodeRunId(wf_run_id=parse_wf_run_id(run), thread_run_number=thread, position=position)
        for run, thread, position in rows
    ]
    return NodeRunIdList(results=results, bookmark=bookmark)


async def search_user_task_run(api: Api, tenant: str, request: SearchUserTaskRunRequest) -> UserTaskRunIdList:
    """SearchUserTaskRun: by status, UserTaskDef, user and group."""
    query = Query("user_task_run", ("run", "user_task_guid"), ("scheduled_ms", "run", "user_task_guid"))
    query.where("tenant = ?", tenant)
    given = [field for field in _USER_TASK_CRITERIA if request.HasField(field)]
    if not given:
        raise invalid_argument(f"SearchUserTaskRun needs one of {', '.join(_USER_TASK_CRITERIA)}")
    for field in given:
        query.where(f"{_USER_TASK_CRITERIA[field]} = ?", getattr(request, field))
    between(query, "scheduled_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    results = [UserTaskRunId(wf_run_id=parse_wf_run_id(run), user_task_guid=guid) for run, guid in rows]
    return UserTaskRunIdList(results=results, bookmark=bookmark)


async def search_external_event(api: Api, tenant: str, request: SearchExternalEventRequest) -> ExternalEventIdList:
    """SearchExternalEvent: of one ExternalEventDef, claimed or not."""
    name = request.external_event_def_id.name
    await _require_def(api, kinds.EXTERNAL_EVENT_DEF, tenant, name, "ExternalEventDef")
    query = Query("external_event", ("run", "guid"), ("created_ms", "run", "guid"))
    query.where("tenant = ? AND event_def = ?", tenant, name)
    if request.HasField("is_claimed"):
        query.where("open = ?", not request.is_claimed)
    between(query, "created_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    def_id = ExternalEventDefId(name=name)
    results = [
        ExternalEventId(wf_run_id=parse_wf_run_id(run), external_event_def_id=def_id, guid=guid) for run, guid in rows
    ]
    return ExternalEventIdList(results=results, bookmark=bookmark)


async def search_correlated_event(
    api: Api, tenant: str, request: SearchCorrelatedEventRequest
) -> CorrelatedEventIdList:
    """SearchCorrelatedEvent: of one ExternalEventDef, correlated already or not."""
    name = request.external_event_def_id.name
    query = Query("correlated_event", ("key",), ("created_ms", "key"))
    query.where("tenant = ? AND event_def = ?", tenant, name)
    if request.HasField("has_external_events"):
        query.where("correlated = ?", request.has_external_events)
    between(query, "created_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    def_id = ExternalEventDefId(name=name)
    results = [CorrelatedEventId(key=key, external_event_def_id=def_id) for (key,) in rows]
    return CorrelatedEventIdList(results=results, bookmark=bookmark)


async def search_workflow_event(api: Api, tenant: str, request: SearchWorkflowEventRequest) -> WorkflowEventIdList:
    """SearchWorkflowEvent: of one WorkflowEventDef."""
    name = request.workflow_event_def_id.name
    await _require_def(api, kinds.WORKFLOW_EVENT_DEF, tenant, name, "WorkflowEventDef")
    query = Query("workflow_event", ("run", "number"), ("created_ms", "run", "number"))
    query.where("tenant = ? AND event_def = ?", tenant, name)
    between(query, "created_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    def_id = WorkflowEventDefId(name=name)
    results = [
        WorkflowEventId(wf_run_id=parse_wf_run_id(run), workflow_event_def_id=def_id, number=number)
        for run, number in rows
    ]
    return WorkflowEventIdList(results=results, bookmark=bookmark)


async def _require_def(api: Api, kind: Kind[Any], tenant: str, name: str, what: str) -> None:
    if await api.reader.get(kind, (tenant, name)) is None:
        raise invalid_argument(f"there is no {what} '{name}'")


async def count_node_run(api: Api, tenant: str, request: CountNodeRunRequest) -> Count:
    """CountNodeRun: all, or those of the WfRuns of a WfSpec."""
    wanted = request.wf_spec_filter
    if not request.HasField("wf_spec_filter"):
        return await _count(api, "node_run WHERE tenant = ?", tenant)
    if wanted.HasField("wf_spec_revision") and not wanted.HasField("wf_spec_major_version"):
        raise invalid_argument("wf_spec_revision needs wf_spec_major_version")
    condition, parameters = "wf_run.tenant = ? AND wf_spec_name = ?", [tenant, wanted.wf_spec_name]
    for field, column in (("wf_spec_major_version", "major_version"), ("wf_spec_revision", "revision")):
        if wanted.HasField(field):
            condition += f" AND {column} = {getattr(wanted, field):d}"
    return await _count(api, f"wf_run JOIN node_run USING (tenant, run) WHERE {condition}", *parameters)


async def count_task_run(api: Api, tenant: str, request: CountTaskRunRequest) -> Count:
    """CountTaskRun: those that wait in the queue of a TaskDef."""
    if not request.task_def_name:
        raise invalid_argument("CountTaskRun needs a task_def_name")
    if request.status != TaskStatus.TASK_SCHEDULED:
        raise invalid_argument("only TaskRuns that are TASK_SCHEDULED can be counted")
    return await _count(api, "queued_task WHERE tenant = ? AND task_def = ?", tenant, request.task_def_name)


async def _count(api: Api, what: str, *parameters: str) -> Count:
    ((number,),) = await api.reader.fetch(f"SELECT count(*) FROM {what}", parameters)
    return Count(value=number)


METHODS: dict[str, Method] = {
    "SearchTaskRun": search_task_run,
    "SearchNodeRun": search_node_run,
    "SearchUserTaskRun": search_user_task_run,
    "SearchExternalEvent": search_external_event,
    "SearchCorrelatedEvent": search_correlated_event,
    "SearchWorkflowEvent": search_workflow_event,
    "CountNodeRun": count_node_run,
    "CountTaskRun": count_task_run,
}
