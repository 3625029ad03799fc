"""Reading and finding WorkflowMigrationPlans (api.md 9.4, 12.2)."""

from typing import Any

from littlehorse.model import (
    SearchWorkflowMigrationPlanRequest,
    WorkflowMigrationPlanId,
    WorkflowMigrationPlanIdList,
)

from lhd.api.call import Api, Method
from lhd.api.paging import Query, page, prefix_range
from lhd.api.reads import get
from lhd.core import kinds


async def get_plan(api: Api, tenant: str, request: WorkflowMigrationPlanId) -> Any:
    """GetWorkflowMigrationPlan."""
    return await get(api, kinds.MIGRATION_PLAN, (tenant, request.name), f"migration plan '{request.name}'")


async def search_plan(
    api: Api, tenant: str, request: SearchWorkflowMigrationPlanRequest
) -> WorkflowMigrationPlanIdList:
    """SearchWorkflowMigrationPlan: all, those whose names begin alike, or those of a WfSpec."""
    query = Query("migration_plan", ("name",), ("name",))
    query.where("tenant = ?", tenant)
    match request.WhichOneof("workflow_migration_plan_criteria"):
        case "prefix":
            prefix_range(query, "name", request.prefix)
        case "wf_spec_name":
            query.where("wf_spec_name = ?", request.wf_spec_name)
    rows, bookmark = await page(api.reader, query, request)
    results = [WorkflowMigrationPlanId(name=name) for (name,) in rows]
    return WorkflowMigrationPlanIdList(results=results, bookmark=bookmark)


METHODS: dict[str, Method] = {"GetWorkflowMigrationPlan": get_plan, "SearchWorkflowMigrationPlan": search_plan}
