"""Reading and finding ScheduledWfRuns and bulk jobs (api.md 6.2, 12.1)."""

from typing import Any

from littlehorse.model import (
    BulkJobId,
    BulkJobIdList,
    GetBulkJobRequest,
    ScheduledWfRunId,
    ScheduledWfRunIdList,
    SearchBulkJobRequest,
    SearchScheduledWfRunRequest,
)

from lhd.api.call import Api, Method
from lhd.api.paging import Query, page
from lhd.api.reads import get
from lhd.core import kinds
from lhd.errors import invalid_argument


async def get_scheduled_wf_run(api: Api, tenant: str, request: ScheduledWfRunId) -> Any:
    """GetScheduledWfRun."""
    found = await get(api, kinds.SCHEDULED_WF_RUN, (tenant, request.id), f"ScheduledWfRun '{request.id}'")
    return found.scheduled


async def search_scheduled_wf_run(api: Api, tenant: str, request: SearchScheduledWfRunRequest) -> ScheduledWfRunIdList:
    """SearchScheduledWfRun: of one WfSpec, oldest first; all at once, since the request knows no pages."""
    if request.HasField("revision") and not request.HasField("major_version"):
        raise invalid_argument("revision needs major_version")
    query = "SELECT id FROM scheduled_wf_run WHERE tenant = ? AND wf_spec_name = ?"
    for field, column in (("major_version", "spec_major"), ("revision", "spec_revision")):
        if request.HasField(field):
            query += f" AND {column} = {getattr(request, field):d}"
    rows = await api.reader.fetch(f"{query} ORDER BY created_ms, id", (tenant, request.wf_spec_name))
    return ScheduledWfRunIdList(results=[ScheduledWfRunId(id=name) for (name,) in rows])


async def get_bulk_job(api: Api, tenant: str, request: GetBulkJobRequest) -> Any:
    """GetBulkJob."""
    return await get(api, kinds.BULK_JOB, (tenant, request.id.id), f"bulk job '{request.id.id}'")


async def search_bulk_job(api: Api, tenant: str, request: SearchBulkJobRequest) -> BulkJobIdList:
    """SearchBulkJob: all, or those of one status, oldest first."""
    query = Query("bulk_job", ("id",), ("created_ms", "id"))
    query.where("tenant = ?", tenant)
    if request.HasField("status"):
        query.where("status = ?", request.status)
    rows, bookmark = await page(api.reader, query, request)
    return BulkJobIdList(results=[BulkJobId(id=name) for (name,) in rows], bookmark=bookmark)


METHODS: dict[str, Method] = {
    "GetScheduledWfRun": get_scheduled_wf_run,
    "SearchScheduledWfRun": search_scheduled_wf_run,
    "GetBulkJob": get_bulk_job,
    "SearchBulkJob": search_bulk_job,
}
