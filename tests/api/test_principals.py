"""Principals and what their ACLs allow: api.md 2.2, 2.3, 13.2 and 13.3.

A listener without authentication lets everybody act as the stored principal ``anonymous``; the tests restrict that one.
RPCs are called with empty requests: whether a call is allowed does not depend on what is in it.

Not tested here:
- listeners with MTLS or OAUTH, so also not that the own principal cannot be deleted;
- MigrateWfSpec, the two MetricsWindow RPCs and ListQuotaUsageMetrics: they may be UNIMPLEMENTED;
- which of several faults is told when the caller may not write principals at all: 2.3 and 13.2 can be read either way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    DeletePrincipalRequest,
    GetLatestWfSpecRequest,
    Principal,
    PrincipalId,
    PutPrincipalRequest,
    PutTaskDefRequest,
    SearchPrincipalRequest,
    ServerACL,
    ServerACLs,
    TaskDefId,
    TenantId,
)

from tests.api.access import (
    ADMIN,
    MAY_BE_UNIMPLEMENTED,
    METHODS,
    Grant,
    acls,
    await_thrown,
    call_empty,
    code_of,
    get_principal,
    in_tenant,
    next_millisecond,
    put_principal,
    put_tenant,
    restrict,
)
from tests.api.client import (
    EMPTY,
    Client,
    assert_starts_over_or_is_refused,
    executes,
    is_missing,
    refused_with,
)
from tests.api.test_restart import daemon

TABLE: dict[Grant, str] = {
    ("ACL_WORKFLOW", "READ"): """
        GetWfSpec GetLatestWfSpec SearchWfSpec SearchTaskDef GetScheduledWfRun SearchScheduledWfRun GetWfRun SearchWfRun
        GetNodeRun ListNodeRuns SearchNodeRun GetTaskRun GetVariable ListVariables SearchVariable GetInactiveThreadRun
        AwaitWorkflowEvent RegisterTaskWorker GetBulkJob SearchBulkJob GetWorkflowMigrationPlan
        SearchWorkflowMigrationPlan ListTaskMetrics ListWfMetrics GetMetricWindow SearchWfMetricWindow""",
    ("ACL_WORKFLOW", "RUN"): """
        RunWf ScheduleWf DeleteScheduledWfRun StopWfRun ResumeWfRun RescueThreadRun ApplyWorkflowMigrationPlan""",
    ("ACL_WORKFLOW", "WRITE_METADATA"): """
        PutWfSpec DeleteWfSpec DeleteWfRun CreateBulkJob DeleteBulkJob PutWorkflowMigrationPlan
        DeleteWorkflowMigrationPlan""",
    ("ACL_TASK", "READ"): "GetTaskDef ListTaskRuns SearchTaskRun PollTask GetCheckpoint",
    ("ACL_TASK", "RUN"): "ReportTask PutCheckpoint",
    ("ACL_TASK", "WRITE_METADATA"): "PutTaskDef DeleteTaskDef",
    ("ACL_EXTERNAL_EVENT", "READ"): """
        GetExternalEventDef SearchExternalEventDef GetExternalEvent ListExternalEvents SearchExternalEvent
        GetCorrelatedEvent SearchCorrelatedEvent""",
    ("ACL_EXTERNAL_EVENT", "RUN"): "PutExternalEvent PutCorrelatedEvent DeleteCorrelatedEvent",
    ("ACL_EXTERNAL_EVENT", "WRITE_METADATA"): "PutExternalEventDef DeleteExternalEventDef",
    ("ACL_WORKFLOW_EVENT", "READ"): """
        GetWorkflowEventDef SearchWorkflowEventDef GetWorkflowEvent ListWorkflowEvents SearchWorkflowEvent""",
    ("ACL_WORKFLOW_EVENT", "WRITE_METADATA"): "PutWorkflowEventDef DeleteWorkflowEventDef",
    ("ACL_USER_TASK", "READ"): """
        GetUserTaskDef GetLatestUserTaskDef SearchUserTaskDef GetUserTaskRun ListUserTaskRuns SearchUserTaskRun""",
    ("ACL_USER_TASK", "RUN"): """
        CompleteUserTaskRun CancelUserTaskRun SaveUserTaskRunProgress PutUserTaskRunComment EditUserTaskRunComment
        DeleteUserTaskRunComment""",
    ("ACL_USER_TASK", "WRITE_METADATA"): "PutUserTaskDef DeleteUserTaskDef AssignUserTaskRun",
    ("ACL_STRUCT", "READ"): "GetStructDef SearchStructDef ValidateStructDefEvolution",
    ("ACL_STRUCT", "WRITE_METADATA"): "PutStructDef DeleteStructDef",
    ("ACL_TASK_WORKER_GROUP", "READ"): "GetTaskWorkerGroup",
    ("ACL_TENANT", "READ"): "GetTenant SearchTenant",
    ("ACL_TENANT", "WRITE_METADATA"): "PutTenant",
    ("ACL_PRINCIPAL", "READ"): "GetPrincipal SearchPrincipal",
    ("ACL_PRINCIPAL", "WRITE_METADATA"): "PutPrincipal DeletePrincipal",
    ("ACL_QUOTA", "READ"): "GetQuota SearchQuota",
    ("ACL_QUOTA", "WRITE_METADATA"): "PutQuota DeleteQuota",
    ADMIN: "CountNodeRun CountTaskRun",
}
"""The resource and the action that each RPC needs."""

OPEN = {"Whoami", "GetServerVersion"}
CLUSTER_WIDE = ("ACL_TENANT", "ACL_PRINCIPAL", "ACL_QUOTA")
NEEDS: dict[str, Grant] = {name: grant for grant, names in TABLE.items() for name in names.split()}
ASKED = (NEEDS.keys() | OPEN) - {"PollTask"}

OTHER_GRANTS: list[Grant] = [
    ("ACL_ALL_RESOURCES", "READ"),
    ("ACL_ALL_RESOURCES", "RUN"),
    ("ACL_ALL_RESOURCES", "WRITE_METADATA"),
    ("ACL_TASK", "ALL_ACTIONS"),
    ("ACL_USER_TASK", "ALL_ACTIONS"),
    ("ACL_TENANT", "ALL_ACTIONS"),
    ("ACL_STRUCT", "RUN"),
    ("ACL_TASK_WORKER_GROUP", "WRITE_METADATA"),
]


def opened_by(grant: Grant) -> set[str]:
    """The unary RPCs that a caller with this one ACL may call."""
    resource, action = grant
    return OPEN | {
        name
        for name in ASKED & NEEDS.keys()
        if resource in (NEEDS[name][0], "ACL_ALL_RESOURCES") and action in (NEEDS[name][1], "ALL_ACTIONS")
    }


async def opened(client: Client, await_request: Any) -> set[str]:
    """The unary RPCs that are not denied to the caller."""
    codes = {
        name: await code_of(
            client.stub.AwaitWorkflowEvent(await_request)  # an empty request would wait for ever
            if name == "AwaitWorkflowEvent"
            else call_empty(client, name)
        )
        for name in sorted(ASKED)
    }
    return {name for name, code in codes.items() if code != StatusCode.PERMISSION_DENIED}


async def delete_principal(client: Client, principal: str) -> None:
    await client.stub.DeletePrincipal(DeletePrincipalRequest(id=PrincipalId(id=principal)))


async def principals(client: Client, **criteria: Any) -> list[str]:
    """The ids of the principals that a search finds in all its pages."""
    pages = await client.pages("SearchPrincipal", SearchPrincipalRequest(**criteria))
    return [one.id for page in pages for one in page]


async def task_def_code(client: Client) -> StatusCode:
    """How a read of a missing TaskDef ends: NOT_FOUND when it is allowed."""
    return await code_of(client.stub.GetTaskDef(TaskDefId(name="missing")))


async def wf_spec_code(client: Client) -> StatusCode:
    """How a read of a missing WfSpec ends: NOT_FOUND when it is allowed."""
    return await code_of(client.stub.GetLatestWfSpec(GetLatestWfSpecRequest(name="missing")))


async def tenant_code(client: Client) -> StatusCode:
    """How a read of the tenant ``default`` ends."""
    return await code_of(client.stub.GetTenant(TenantId(id="default")))


class TestTable:
    def test_every_rpc_is_in_the_table_or_left_out_on_purpose(self) -> None:
        assert NEEDS.keys() | OPEN | MAY_BE_UNIMPLEMENTED == METHODS.keys()
        assert sum(len(names.split()) for names in TABLE.values()) == len(NEEDS)

    @pytest.mark.parametrize("grant", [*sorted(TABLE.keys() - {ADMIN}), *OTHER_GRANTS], ids="-".join)
    async def test_a_global_acl_opens_what_needs_its_resource_and_action_and_nothing_else(
        self, client: Client, grant: Grant
    ) -> None:
        await_request = await await_thrown(client)
        await restrict(client, grant)
        assert await opened(client, await_request) == opened_by(grant)

    @pytest.mark.parametrize(
        "grant", [("ACL_WORKFLOW", "RUN"), ("ACL_ALL_RESOURCES", "READ"), ("ACL_EXTERNAL_EVENT", "ALL_ACTIONS"), ADMIN]
    )
    async def test_a_per_tenant_acl_opens_the_same_except_what_is_cluster_wide(
        self, client: Client, grant: Grant
    ) -> None:
        await put_tenant(client, "acme")
        acme = in_tenant(client, "acme")
        await_request = await await_thrown(acme)
        await restrict(client, per_tenant={"acme": [grant]})
        cluster_wide = {name for name, (resource, _) in NEEDS.items() if resource in CLUSTER_WIDE}
        assert await opened(acme, await_request) == opened_by(grant) - cluster_wide

    async def test_without_acls_only_whoami_and_the_version_are_open(self, client: Client) -> None:
        await_request = await await_thrown(client)
        await restrict(client)
        assert await opened(client, await_request) == OPEN

    async def test_at_first_everything_is_open(self, client: Client) -> None:
        await_request = await await_thrown(client)
        assert await opened(client, await_request) == ASKED

    async def test_poll_task_is_open_to_who_may_read_tasks(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "r")
        await restrict(client, ("ACL_TASK", "READ"))
        assert (await client.claim("ship")).task_run_id.wf_run_id.id == "r"

    @pytest.mark.parametrize("action", ["RUN", "WRITE_METADATA"])
    async def test_poll_task_is_closed_to_who_may_do_anything_else(self, client: Client, action: str) -> None:
        await restrict(
            client, ("ACL_TASK", action), ("ACL_WORKFLOW", "ALL_ACTIONS"), ("ACL_TASK_WORKER_GROUP", "ALL_ACTIONS")
        )
        async with client.poller("ship") as poller:
            assert await poller.end() == StatusCode.PERMISSION_DENIED


class TestEvaluation:
    async def test_acls_add_up(self, client: Client) -> None:
        await restrict(client, ("ACL_TASK", "READ"), ("ACL_WORKFLOW", "READ"))
        assert await task_def_code(client) == StatusCode.NOT_FOUND
        assert await wf_spec_code(client) == StatusCode.NOT_FOUND

    async def test_a_resource_and_an_action_from_different_acls_do_not_add_up(self, client: Client) -> None:
        await restrict(client, ("ACL_TASK", "RUN"), ("ACL_WORKFLOW", "READ"))
        assert await task_def_code(client) == StatusCode.PERMISSION_DENIED
        assert await wf_spec_code(client) == StatusCode.NOT_FOUND

    async def test_all_resources_and_all_actions_from_different_acls_make_no_admin(self, client: Client) -> None:
        await restrict(client, ("ACL_ALL_RESOURCES", "READ"), ("ACL_TASK", "ALL_ACTIONS"))
        assert await code_of(call_empty(client, "CountNodeRun")) == StatusCode.PERMISSION_DENIED
        assert await principals(client, is_admin=True) == ["root"]

    async def test_one_acl_may_list_several_resources_and_actions(self, client: Client) -> None:
        await put_principal(client, "root", ADMIN)
        both = ServerACL(resources=["ACL_TASK", "ACL_WORKFLOW"], allowed_actions=["RUN", "READ"])
        await client.stub.PutPrincipal(
            PutPrincipalRequest(id="anonymous", global_acls=ServerACLs(acls=[both]), overwrite=True)
        )
        assert await task_def_code(client) == StatusCode.NOT_FOUND
        assert await wf_spec_code(client) == StatusCode.NOT_FOUND
        assert await refused_with(client.run("missing")) == StatusCode.NOT_FOUND
        assert await refused_with(client.put_task_def("ship")) == StatusCode.PERMISSION_DENIED

    async def test_an_admin_is_one_whose_acl_contains_both_among_others(self, client: Client) -> None:
        wide = ServerACL(resources=["ACL_TASK", "ACL_ALL_RESOURCES"], allowed_actions=["READ", "ALL_ACTIONS"])
        await client.stub.PutPrincipal(
            PutPrincipalRequest(id="anonymous", global_acls=ServerACLs(acls=[wide]), overwrite=True)
        )
        assert await code_of(call_empty(client, "CountNodeRun")) == StatusCode.OK
        assert await principals(client, is_admin=True) == ["anonymous"]

    @pytest.mark.parametrize("resource_filter", [{"name": "other"}, {"prefix": "other"}])
    async def test_the_name_and_the_prefix_of_an_acl_do_not_narrow_it(
        self, client: Client, resource_filter: dict[str, str]
    ) -> None:
        await put_principal(client, "root", ADMIN)
        narrow = ServerACL(resources=["ACL_TASK"], allowed_actions=["READ"], **resource_filter)
        await client.stub.PutPrincipal(
            PutPrincipalRequest(id="anonymous", global_acls=ServerACLs(acls=[narrow]), overwrite=True)
        )
        assert await task_def_code(client) == StatusCode.NOT_FOUND

    async def test_per_tenant_acls_replace_the_global_ones_in_their_tenant(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await put_tenant(client, "emca")
        await restrict(client, ("ACL_TASK", "READ"), per_tenant={"acme": [("ACL_WORKFLOW", "READ")]})
        for tenant in (client, in_tenant(client, "emca")):
            assert await task_def_code(tenant) == StatusCode.NOT_FOUND
            assert await wf_spec_code(tenant) == StatusCode.PERMISSION_DENIED
        acme = in_tenant(client, "acme")
        assert await task_def_code(acme) == StatusCode.PERMISSION_DENIED
        assert await wf_spec_code(acme) == StatusCode.NOT_FOUND

    async def test_an_empty_per_tenant_list_replaces_the_global_acls_too(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await restrict(client, ("ACL_TASK", "READ"), per_tenant={"acme": []})
        assert await task_def_code(client) == StatusCode.NOT_FOUND
        assert await task_def_code(in_tenant(client, "acme")) == StatusCode.PERMISSION_DENIED

    async def test_per_tenant_acls_apply_in_the_tenant_default_too(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await restrict(client, ("ACL_TASK", "READ"), per_tenant={"default": [("ACL_WORKFLOW", "READ")]})
        assert await task_def_code(client) == StatusCode.PERMISSION_DENIED
        assert await wf_spec_code(client) == StatusCode.NOT_FOUND
        assert await task_def_code(in_tenant(client, "acme")) == StatusCode.NOT_FOUND

    async def test_where_per_tenant_acls_apply_nothing_cluster_wide_can_be_done(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await restrict(client, ("ACL_TENANT", "READ"), per_tenant={"acme": [ADMIN]})
        assert await tenant_code(in_tenant(client, "acme")) == StatusCode.PERMISSION_DENIED
        assert await tenant_code(client) == StatusCode.OK

    async def test_per_tenant_acls_close_to_an_admin_only_what_is_cluster_wide(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await put_principal(client, "anonymous", ADMIN, per_tenant={"acme": []}, overwrite=True)
        acme = in_tenant(client, "acme")
        assert await tenant_code(acme) == StatusCode.PERMISSION_DENIED
        assert await refused_with(put_tenant(acme, "emca")) == StatusCode.PERMISSION_DENIED
        assert await code_of(call_empty(acme, "SearchQuota")) == StatusCode.PERMISSION_DENIED
        assert (await acme.put_task_def("ship")).id.name == "ship"
        assert (await put_tenant(client, "emca")).id.id == "emca"

    async def test_a_denied_call_changes_nothing(self, client: Client) -> None:
        await restrict(client, ("ACL_TASK", "READ"))
        assert await refused_with(client.put_task_def("missing")) == StatusCode.PERMISSION_DENIED
        assert await task_def_code(client) == StatusCode.NOT_FOUND

    async def test_an_incoming_client_id_lends_no_rights(self, client: Client) -> None:
        await restrict(client, ("ACL_TASK", "READ"))
        call = client.stub.PutTaskDef(PutTaskDefRequest(name="ship"), metadata=(("_clientid", "root"),))
        assert await refused_with(call) == StatusCode.PERMISSION_DENIED


class TestWhoami:
    async def test_at_first_there_is_anonymous_who_may_do_all(self, client: Client) -> None:
        principal: Principal = await client.stub.Whoami(EMPTY)
        assert principal.id.id == "anonymous"
        assert principal.global_acls == acls(ADMIN)
        assert not principal.per_tenant_acls
        assert principal.created_at.ToMilliseconds() > 0
        assert await get_principal(client, "anonymous") == principal

    async def test_whoami_tells_the_acls_as_they_are_now(self, client: Client) -> None:
        await put_tenant(client, "acme")
        put = await restrict(client, ("ACL_TASK", "READ"), per_tenant={"acme": [("ACL_STRUCT", "READ")]})
        assert await client.stub.Whoami(EMPTY) == put
        assert await in_tenant(client, "acme").stub.Whoami(EMPTY) == put


class TestPut:
    async def test_the_stored_principal_is_returned_and_found(self, client: Client) -> None:
        await put_tenant(client, "acme")
        put = await put_principal(
            client, "alice", ("ACL_TASK", "READ"), ("ACL_STRUCT", "RUN"), per_tenant={"acme": [ADMIN]}
        )
        assert put.id.id == "alice"
        assert put.created_at.ToMilliseconds() > 0
        assert put.global_acls == acls(("ACL_TASK", "READ"), ("ACL_STRUCT", "RUN"))
        assert dict(put.per_tenant_acls) == {"acme": acls(ADMIN)}
        assert await get_principal(client, "alice") == put

    async def test_the_filters_of_acls_are_kept_as_they_were_put(self, client: Client) -> None:
        given = ServerACLs(
            acls=[
                ServerACL(resources=["ACL_TASK"], allowed_actions=["READ"], name="ship"),
                ServerACL(resources=["ACL_TASK"], allowed_actions=["READ"], prefix="order"),
                ServerACL(resources=["ACL_TASK"], allowed_actions=["READ"]),
            ]
        )
        await client.stub.PutPrincipal(PutPrincipalRequest(id="alice", global_acls=given))
        stored = (await get_principal(client, "alice")).global_acls
        assert stored == given
        assert [one.WhichOneof("resource_filter") for one in stored.acls] == ["name", "prefix", None]

    @pytest.mark.parametrize("principal", ["alice@example.com", "a_b", "Alice B.", "7"])
    async def test_an_id_need_not_be_a_name(self, client: Client, principal: str) -> None:
        await put_principal(client, principal)
        assert (await get_principal(client, principal)).id.id == principal

    @pytest.mark.parametrize("principal", ["a/b", "/", "a/", "a\\b", "\\"])
    async def test_slashes_in_an_id_are_refused(self, client: Client, principal: str) -> None:
        assert await refused_with(put_principal(client, principal)) == StatusCode.INVALID_ARGUMENT
        assert await principals(client) == ["anonymous"]

    async def test_an_existing_principal_is_not_overwritten_unasked(self, client: Client) -> None:
        put = await put_principal(client, "alice", ("ACL_TASK", "READ"))
        for grants in ([("ACL_TASK", "READ")], [("ACL_STRUCT", "READ")]):
            assert await refused_with(put_principal(client, "alice", *grants)) == StatusCode.ALREADY_EXISTS
        assert await get_principal(client, "alice") == put

    async def test_overwriting_replaces_the_acls_and_keeps_the_time(self, client: Client) -> None:
        await put_tenant(client, "acme")
        first = await put_principal(client, "alice", ("ACL_TASK", "READ"), per_tenant={"acme": [ADMIN]})
        await next_millisecond(first.created_at)
        second = await put_principal(client, "alice", ("ACL_STRUCT", "READ"), overwrite=True)
        assert second.global_acls == acls(("ACL_STRUCT", "READ"))
        assert not second.per_tenant_acls
        assert second.created_at == first.created_at
        assert await get_principal(client, "alice") == second

    async def test_overwriting_nobody_creates(self, client: Client) -> None:
        put = await put_principal(client, "alice", overwrite=True)
        assert await get_principal(client, "alice") == put

    @pytest.mark.parametrize("grants", [[], [("ACL_ALL_RESOURCES", "READ")], [("ACL_TASK", "ALL_ACTIONS")]], ids=str)
    async def test_the_last_admin_stays_an_admin(self, client: Client, grants: list[Grant]) -> None:
        before = await get_principal(client, "anonymous")
        call = put_principal(client, "anonymous", *grants, overwrite=True)
        assert await refused_with(call) == StatusCode.FAILED_PRECONDITION
        assert await client.stub.Whoami(EMPTY) == before

    async def test_per_tenant_acls_make_no_other_admin(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await put_principal(client, "alice", per_tenant={"acme": [ADMIN]})
        call = put_principal(client, "anonymous", overwrite=True)
        assert await refused_with(call) == StatusCode.FAILED_PRECONDITION

    async def test_the_last_admin_may_be_given_other_acls_that_make_an_admin(self, client: Client) -> None:
        put = await put_principal(client, "anonymous", ("ACL_TASK", "READ"), ADMIN, overwrite=True)
        assert await client.stub.Whoami(EMPTY) == put

    async def test_an_admin_may_be_demoted_when_there_is_another(self, client: Client) -> None:
        await put_principal(client, "root", ADMIN)
        await put_principal(client, "anonymous", ("ACL_PRINCIPAL", "READ"), overwrite=True)
        assert await principals(client, is_admin=True) == ["root"]

    async def test_an_admin_who_was_demoted_or_deleted_does_not_count_as_another(self, client: Client) -> None:
        await put_principal(client, "demoted", ADMIN)
        await put_principal(client, "demoted", overwrite=True)
        await put_principal(client, "deleted", ADMIN)
        await delete_principal(client, "deleted")
        call = put_principal(client, "anonymous", overwrite=True)
        assert await refused_with(call) == StatusCode.FAILED_PRECONDITION

    @pytest.mark.parametrize("overwrite", [False, True])
    async def test_only_an_admin_gives_global_acls(self, client: Client, overwrite: bool) -> None:
        await restrict(client, ("ACL_PRINCIPAL", "ALL_ACTIONS"))
        call = put_principal(client, "alice", ("ACL_TASK", "READ"), overwrite=overwrite)
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(get_principal(client, "alice"))

    async def test_who_may_write_principals_gives_per_tenant_acls(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await restrict(client, ("ACL_PRINCIPAL", "WRITE_METADATA"))
        put = await put_principal(client, "alice", per_tenant={"acme": [ADMIN]})
        assert dict(put.per_tenant_acls) == {"acme": acls(ADMIN)}

    async def test_who_may_not_write_principals_is_denied(self, client: Client) -> None:
        await restrict(client, ("ACL_PRINCIPAL", "READ"), ("ACL_PRINCIPAL", "RUN"), ("ACL_TENANT", "ALL_ACTIONS"))
        assert await refused_with(put_principal(client, "alice")) == StatusCode.PERMISSION_DENIED
        assert await is_missing(get_principal(client, "alice"))

    @pytest.mark.parametrize("resource", CLUSTER_WIDE)
    async def test_per_tenant_acls_cannot_name_what_is_cluster_wide(self, client: Client, resource: str) -> None:
        await put_tenant(client, "acme")
        call = put_principal(client, "alice", per_tenant={"acme": [("ACL_TASK", "READ"), (resource, "READ")]})
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(get_principal(client, "alice"))

    async def test_an_unknown_tenant_in_per_tenant_acls_is_refused(self, client: Client) -> None:
        call = put_principal(client, "alice", per_tenant={"default": [], "acme": [("ACL_TASK", "READ")]})
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(get_principal(client, "alice"))


class TestOrderOfChecks:
    """Requests with two faults, and which one is told."""

    async def test_that_it_exists_before_that_the_last_admin_would_go(self, client: Client) -> None:
        assert await refused_with(put_principal(client, "anonymous")) == StatusCode.ALREADY_EXISTS

    async def test_that_it_exists_before_that_only_an_admin_gives_global_acls(self, client: Client) -> None:
        await restrict(client, ("ACL_PRINCIPAL", "WRITE_METADATA"))
        assert await refused_with(put_principal(client, "root", ADMIN)) == StatusCode.ALREADY_EXISTS

    @pytest.mark.parametrize("per_tenant", [{"unknown": []}, {"default": [("ACL_QUOTA", "READ")]}], ids=str)
    async def test_that_it_exists_before_what_is_wrong_with_per_tenant_acls(
        self, client: Client, per_tenant: dict[str, Sequence[Grant]]
    ) -> None:
        await put_principal(client, "alice")
        call = put_principal(client, "alice", per_tenant=per_tenant)
        assert await refused_with(call) == StatusCode.ALREADY_EXISTS

    async def test_that_the_last_admin_would_go_before_that_only_an_admin_gives_global_acls(
        self, client: Client
    ) -> None:
        await restrict(client, ("ACL_PRINCIPAL", "WRITE_METADATA"))
        call = put_principal(client, "root", ("ACL_TASK", "READ"), overwrite=True)
        assert await refused_with(call) == StatusCode.FAILED_PRECONDITION

    @pytest.mark.parametrize("per_tenant", [{"unknown": []}, {"default": [("ACL_QUOTA", "READ")]}], ids=str)
    async def test_that_the_last_admin_would_go_before_what_is_wrong_with_per_tenant_acls(
        self, client: Client, per_tenant: dict[str, Sequence[Grant]]
    ) -> None:
        call = put_principal(client, "anonymous", per_tenant=per_tenant, overwrite=True)
        assert await refused_with(call) == StatusCode.FAILED_PRECONDITION


class TestDelete:
    async def test_a_deleted_principal_is_gone(self, client: Client) -> None:
        await put_principal(client, "alice")
        await put_principal(client, "bob")
        await delete_principal(client, "alice")
        assert await is_missing(get_principal(client, "alice"))
        assert await principals(client) == ["anonymous", "bob"]

    async def test_a_deleted_principal_can_be_put_again(self, client: Client) -> None:
        await put_principal(client, "alice", ("ACL_TASK", "READ"))
        await delete_principal(client, "alice")
        put = await put_principal(client, "alice")
        assert await get_principal(client, "alice") == put
        assert not put.global_acls.acls

    async def test_a_missing_principal_is_not_found(self, client: Client) -> None:
        assert await is_missing(get_principal(client, "alice"))
        assert await refused_with(delete_principal(client, "alice")) == StatusCode.NOT_FOUND

    async def test_anonymous_cannot_be_deleted(self, client: Client) -> None:
        await put_principal(client, "root", ADMIN)
        assert await refused_with(delete_principal(client, "anonymous")) == StatusCode.INVALID_ARGUMENT
        assert (await get_principal(client, "anonymous")).id.id == "anonymous"

    async def test_an_admin_can_be_deleted_when_there_is_another(self, client: Client) -> None:
        await put_principal(client, "root", ADMIN)
        await delete_principal(client, "root")
        assert await principals(client, is_admin=True) == ["anonymous"]

    async def test_the_last_admin_cannot_be_deleted(self, client: Client) -> None:
        await restrict(client, ("ACL_PRINCIPAL", "ALL_ACTIONS"))
        assert await refused_with(delete_principal(client, "root")) == StatusCode.INVALID_ARGUMENT
        assert await principals(client, is_admin=True) == ["root"]

    async def test_who_may_not_write_principals_is_denied(self, client: Client) -> None:
        await put_principal(client, "alice")
        await restrict(client, ("ACL_PRINCIPAL", "READ"))
        for principal in ("alice", "root", "missing"):
            assert await refused_with(delete_principal(client, principal)) == StatusCode.PERMISSION_DENIED
        assert await principals(client) == ["alice", "anonymous", "root"]


class TestSearch:
    """Two admins and three others; ``acme`` has ACLs of ``b``, ``d`` and ``e``."""

    @pytest.fixture
    async def known(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await put_tenant(client, "emca")
        await put_principal(client, "e", per_tenant={"acme": []})
        await put_principal(client, "c", per_tenant={"emca": [ADMIN]})
        await put_principal(client, "b", ADMIN, per_tenant={"acme": [("ACL_TASK", "READ")]})
        await put_principal(client, "d", ("ACL_TASK", "READ"), per_tenant={"acme": [ADMIN], "emca": [ADMIN]})

    async def test_there_is_anonymous_only_at_first(self, client: Client) -> None:
        reply = await client.stub.SearchPrincipal(SearchPrincipalRequest())
        assert [one.id for one in reply.results] == ["anonymous"]
        assert not reply.HasField("bookmark")

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            ({}, ["anonymous", "b", "c", "d", "e"]),
            ({"is_admin": True}, ["anonymous", "b"]),
            ({"is_admin": False}, ["c", "d", "e"]),
            ({"tenant_id": "acme"}, ["b", "d", "e"]),
            ({"tenant_id": "emca"}, ["c", "d"]),
            ({"tenant_id": "default"}, []),
        ],
        ids=str,
    )
    async def test_principals_are_found_by_criterion_in_order(
        self, client: Client, known: None, criteria: dict[str, Any], expected: list[str]
    ) -> None:
        for limit in (1, 2, 3, None):
            pages = await client.pages("SearchPrincipal", SearchPrincipalRequest(**criteria, limit=limit))
            assert [one.id for page in pages for one in page] == expected
            assert all(len(page) == limit for page in pages[:-1])

    async def test_principals_come_in_byte_order(self, client: Client) -> None:
        for principal in ("b", "a-b", "Z", "ab", "a"):
            await put_principal(client, principal)
        assert await principals(client) == ["Z", "a", "a-b", "ab", "anonymous", "b"]

    async def test_an_overwritten_principal_is_found_by_what_it_is_now(self, client: Client, known: None) -> None:
        await put_principal(client, "b", per_tenant={"emca": []}, overwrite=True)
        assert await principals(client, is_admin=True) == ["anonymous"]
        assert await principals(client, tenant_id="acme") == ["d", "e"]
        assert await principals(client, tenant_id="emca") == ["b", "c", "d"]

    async def test_the_time_range_is_inclusive_and_applies_with_a_criterion_only(self, client: Client) -> None:
        first = (await get_principal(client, "anonymous")).created_at
        await next_millisecond(first)
        second = (await put_principal(client, "root", ADMIN)).created_at
        assert await principals(client, is_admin=True, earliest_start=first, latest_start=second) == [
            "anonymous",
            "root",
        ]
        assert await principals(client, is_admin=True, earliest_start=second) == ["root"]
        assert await principals(client, is_admin=True, latest_start=first) == ["anonymous"]
        assert await principals(client, earliest_start=second) == ["anonymous", "root"]

    async def test_a_zero_time_counts_as_unset(self, client: Client) -> None:
        found = await principals(client, is_admin=True, earliest_start=Timestamp(), latest_start=Timestamp())
        assert found == ["anonymous"]

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        call = client.stub.SearchPrincipal(SearchPrincipalRequest(limit=-1))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"null"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, known: None, bookmark: bytes
    ) -> None:
        await assert_starts_over_or_is_refused(client, "SearchPrincipal", SearchPrincipalRequest(), bookmark)


class TestRestart:
    async def test_what_was_taken_from_anonymous_stays_taken(self, tmp_path: Path) -> None:
        async with daemon(tmp_path / "data") as client:
            await put_tenant(client, "acme")
            put = await restrict(client, ("ACL_TASK", "READ"), per_tenant={"acme": [("ACL_WORKFLOW", "READ")]})
        async with daemon(tmp_path / "data") as client:
            assert await client.stub.Whoami(EMPTY) == put
            assert await task_def_code(client) == StatusCode.NOT_FOUND
            assert await wf_spec_code(client) == StatusCode.PERMISSION_DENIED
            assert await task_def_code(in_tenant(client, "acme")) == StatusCode.PERMISSION_DENIED
            assert await refused_with(put_principal(client, "alice")) == StatusCode.PERMISSION_DENIED

    async def test_principals_stay_as_they_are(self, tmp_path: Path) -> None:
        async with daemon(tmp_path / "data") as client:
            alice = await put_principal(client, "alice", ADMIN)
            await put_principal(client, "bob")
            await delete_principal(client, "bob")
            anonymous = await get_principal(client, "anonymous")
        async with daemon(tmp_path / "data") as client:
            assert await get_principal(client, "alice") == alice
            assert await get_principal(client, "anonymous") == anonymous
            assert await principals(client) == ["alice", "anonymous"]
