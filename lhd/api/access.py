"""What each RPC needs: which ACLs allow it, and whether it counts against quotas (api.md 2.3, 13.4)."""

from littlehorse.model import ACLAction, ACLResource, Principal

from lhd.core.access import may
from lhd.errors import Code, Rejection

Grant = tuple[ACLResource, ACLAction]

_READ, _RUN, _WRITE = ACLAction.READ, ACLAction.RUN, ACLAction.WRITE_METADATA

_RPCS: dict[Grant, str] = {
    (ACLResource.ACL_WORKFLOW, _READ): (
        "GetWfSpec GetLatestWfSpec SearchWfSpec SearchTaskDef GetScheduledWfRun SearchScheduledWfRun GetWfRun "
        "SearchWfRun GetNodeRun ListNodeRuns SearchNodeRun GetTaskRun GetVariable ListVariables SearchVariable "
        "GetInactiveThreadRun AwaitWorkflowEvent RegisterTaskWorker GetBulkJob SearchBulkJob GetWorkflowMigrationPlan "
        "SearchWorkflowMigrationPlan ListTaskMetrics ListWfMetrics ListQuotaUsageMetrics GetMetricWindow "
        "SearchWfMetricWindow"
    ),
    (ACLResource.ACL_WORKFLOW, _RUN): (
        "RunWf ScheduleWf DeleteScheduledWfRun StopWfRun ResumeWfRun RescueThreadRun ApplyWorkflowMigrationPlan"
    ),
    (ACLResource.ACL_WORKFLOW, _WRITE): (
        "PutWfSpec DeleteWfSpec DeleteWfRun CreateBulkJob DeleteBulkJob PutWorkflowMigrationPlan "
        "DeleteWorkflowMigrationPlan"
    ),
    (ACLResource.ACL_TASK, _READ): "GetTaskDef ListTaskRuns SearchTaskRun PollTask GetCheckpoint",
    (ACLResource.ACL_TASK, _RUN): "ReportTask PutCheckpoint",
    (ACLResource.ACL_TASK, _WRITE): "PutTaskDef DeleteTaskDef",
    (ACLResource.ACL_EXTERNAL_EVENT, _READ): (
        "GetExternalEventDef SearchExternalEventDef GetExternalEvent ListExternalEvents SearchExternalEvent "
        "GetCorrelatedEvent SearchCorrelatedEvent"
    ),
    (ACLResource.ACL_EXTERNAL_EVENT, _RUN): "PutExternalEvent PutCorrelatedEvent DeleteCorrelatedEvent",
    (ACLResource.ACL_EXTERNAL_EVENT, _WRITE): "PutExternalEventDef DeleteExternalEventDef",
    (ACLResource.ACL_WORKFLOW_EVENT, _READ): (
        "GetWorkflowEventDef SearchWorkflowEventDef GetWorkflowEvent ListWorkflowEvents SearchWorkflowEvent"
    ),
    (ACLResource.ACL_WORKFLOW_EVENT, _WRITE): "PutWorkflowEventDef DeleteWorkflowEventDef",
    (ACLResource.ACL_USER_TASK, _READ): (
        "GetUserTaskDef GetLatestUserTaskDef SearchUserTaskDef GetUserTaskRun ListUserTaskRuns SearchUserTaskRun"
    ),
    (ACLResource.ACL_USER_TASK, _RUN): (
        "CompleteUserTaskRun CancelUserTaskRun SaveUserTaskRunProgress PutUserTaskRunComment EditUserTaskRunComment "
        "DeleteUserTaskRunComment"
    ),
    (ACLResource.ACL_USER_TASK, _WRITE): "PutUserTaskDef DeleteUserTaskDef AssignUserTaskRun",
    (ACLResource.ACL_STRUCT, _READ): "GetStructDef SearchStructDef ValidateStructDefEvolution",
    (ACLResource.ACL_STRUCT, _WRITE): "PutStructDef DeleteStructDef",
    (ACLResource.ACL_TASK_WORKER_GROUP, _READ): "GetTaskWorkerGroup",
    (ACLResource.ACL_TENANT, _READ): "GetTenant SearchTenant",
    (ACLResource.ACL_TENANT, _WRITE): "PutTenant",
    (ACLResource.ACL_PRINCIPAL, _READ): "GetPrincipal SearchPrincipal",
    (ACLResource.ACL_QUOTA, _READ): "GetQuota SearchQuota",
    (ACLResource.ACL_QUOTA, _WRITE): "PutQuota DeleteQuota",
}
_NEEDS: dict[str, Grant] = {rpc: grant for grant, rpcs in _RPCS.items() for rpc in rpcs.split()}
# What a caller needs for these depends on the request; they see to it themselves, in the order that api.md 13.2 gives.
_FREE = frozenset({"Whoami", "GetServerVersion", "PutPrincipal", "DeletePrincipal"})
_ALL: Grant = (ACLResource.ACL_ALL_RESOURCES, ACLAction.ALL_ACTIONS)
_READING = ("Get", "List", "Search", "Count", "Await", "Poll", "Whoami", "Validate")


def require_access(rpc: str, principal: Principal, tenant: str) -> None:
    """Raise PERMISSION_DENIED where the principal may not call the RPC in this tenant."""
    if rpc in _FREE:
        return
    resource, action = _NEEDS.get(rpc, _ALL)
    if not may(principal, tenant, resource, action):
        needed = f"{ACLAction.Name(action)} on {ACLResource.Name(resource)}"
        text = f"the principal '{principal.id.id}' may not call {rpc} in the tenant '{tenant}': that needs {needed}"
        raise Rejection(Code.PERMISSION_DENIED, text)


def is_write(rpc: str) -> bool:
    """Whether calls of the RPC count against quotas."""
    return not rpc.startswith(_READING)
