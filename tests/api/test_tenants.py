"""Tenants, and that whatever is in one is not in another: api.md 2.1, 2.4, 9.5 and 13.1.

Not tested here:
- what the output topic publishes: it is not visible through the API;
- MigrateWfSpec, the two MetricsWindow RPCs and ListQuotaUsageMetrics in an unknown tenant: they may be UNIMPLEMENTED;
- an unknown tenant on a poll stream and the trimming of the tenant ``default``: test_transport.py has them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from grpc import StatusCode
from littlehorse.model import (
    AwaitWorkflowEventRequest,
    CorrelatedEventConfig,
    CountNodeRunRequest,
    CountTaskRunRequest,
    DeleteExternalEventDefRequest,
    DeleteScheduledWfRunRequest,
    DeleteStructDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowEventDefRequest,
    ExternalEventDefId,
    InlineStructDef,
    LHStatus,
    ListNodeRunsRequest,
    ListTaskRunsRequest,
    ListVariablesRequest,
    NodeRunId,
    OutputTopicConfig,
    PrincipalId,
    PutExternalEventDefRequest,
    PutQuotaRequest,
    PutStructDefRequest,
    PutTaskDefRequest,
    PutTenantRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    QuotaId,
    ReturnType,
    ScheduledWfRunId,
    ScheduleWfRequest,
    SearchExternalEventDefRequest,
    SearchStructDefRequest,
    SearchTaskDefRequest,
    SearchTaskRunRequest,
    SearchTenantRequest,
    SearchUserTaskDefRequest,
    SearchWfRunRequest,
    SearchWfSpecRequest,
    SearchWorkflowEventDefRequest,
    StopWfRunRequest,
    StructDefId,
    StructFieldDef,
    TaskDefId,
    TenantId,
    UserTaskDefId,
    UserTaskField,
    VariableId,
    VariableType,
    WfRunId,
    WfSpecId,
    WorkflowEventDefId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.access import (
    MAY_BE_UNIMPLEMENTED,
    METHODS,
    await_thrown,
    call_empty,
    code_of,
    get_principal,
    in_tenant,
    next_millisecond,
    put_principal,
    put_tenant,
    put_workflow_event_def,
    restrict,
)
from tests.api.client import (
    EMPTY,
    Client,
    assert_starts_over_or_is_refused,
    executes,
    is_missing,
    only_exit,
    refusal,
    refused_with,
    type_of,
    waits_for,
)
from tests.api.test_restart import daemon

SILENT = OutputTopicConfig(default_recording_level=OutputTopicConfig.NO_ENTITY_EVENTS)
LOUD = OutputTopicConfig(default_recording_level=OutputTopicConfig.ALL_ENTITY_EVENTS)


@pytest.fixture
async def acme(client: Client) -> Client:
    """The API as it is used in the tenant ``acme``."""
    await put_tenant(client, "acme")
    return in_tenant(client, "acme")


async def tenants(client: Client) -> list[str]:
    """The ids of all tenants, as a search finds them."""
    return [one.id for page in await client.pages("SearchTenant", SearchTenantRequest()) for one in page]


class TestPutAndGet:
    async def test_the_stored_tenant_is_returned_and_found(self, client: Client) -> None:
        put = await client.stub.PutTenant(PutTenantRequest(id="acme", output_topic_config=SILENT))
        assert put.id.id == "acme"
        assert put.created_at.ToMilliseconds() > 0
        assert put.output_topic_config == SILENT
        assert await client.stub.GetTenant(TenantId(id="acme")) == put

    async def test_without_an_output_topic_none_is_stored(self, client: Client) -> None:
        assert not (await put_tenant(client, "acme")).HasField("output_topic_config")
        assert not (await client.stub.GetTenant(TenantId(id="acme"))).HasField("output_topic_config")

    @pytest.mark.parametrize("tenant", ["a", "A", "Acme-2-eu", "a--b"])
    async def test_a_name_that_begins_with_a_letter_is_fine(self, client: Client, tenant: str) -> None:
        assert (await put_tenant(client, tenant)).id.id == tenant
        assert (await in_tenant(client, tenant).stub.Whoami(EMPTY)).id.id == "anonymous"

    @pytest.mark.parametrize(
        "tenant", ["", "7", "7a", "-a", "a-", "-", "a_b", "a.b", "a/b", "a b", " a", "a\n", "ä", "a\\b"]
    )
    async def test_a_bad_id_is_refused(self, client: Client, tenant: str) -> None:
        assert await refused_with(put_tenant(client, tenant)) == StatusCode.INVALID_ARGUMENT
        assert await tenants(client) == ["default"]

    async def test_a_second_put_replaces_the_output_topic_and_keeps_the_time(self, client: Client) -> None:
        first = await client.stub.PutTenant(PutTenantRequest(id="acme", output_topic_config=SILENT))
        await next_millisecond(first.created_at)
        second = await client.stub.PutTenant(PutTenantRequest(id="acme", output_topic_config=LOUD))
        assert second.output_topic_config == LOUD
        assert second.created_at == first.created_at
        assert await client.stub.GetTenant(TenantId(id="acme")) == second

    async def test_a_second_put_without_an_output_topic_clears_it(self, client: Client) -> None:
        await client.stub.PutTenant(PutTenantRequest(id="acme", output_topic_config=SILENT))
        await put_tenant(client, "acme")
        assert not (await client.stub.GetTenant(TenantId(id="acme"))).HasField("output_topic_config")

    async def test_a_second_put_leaves_what_is_in_the_tenant(self, client: Client, acme: Client) -> None:
        put = await acme.put_task_def("ship")
        await put_tenant(client, "acme")
        assert await acme.stub.GetTaskDef(TaskDefId(name="ship")) == put

    async def test_the_tenant_default_exists_from_the_start_and_can_be_put(self, client: Client) -> None:
        before = await client.stub.GetTenant(TenantId(id="default"))
        put = await client.stub.PutTenant(PutTenantRequest(id="default", output_topic_config=SILENT))
        assert put.created_at == before.created_at
        assert put.output_topic_config == SILENT

    @pytest.mark.parametrize("tenant", ["acme", "Default", "anonymous"])
    async def test_a_missing_tenant_is_not_found(self, client: Client, tenant: str) -> None:
        assert await is_missing(client.stub.GetTenant(TenantId(id=tenant)))

    async def test_who_may_not_write_tenants_is_denied_and_nothing_is_stored(self, client: Client) -> None:
        await restrict(client, ("ACL_TENANT", "READ"), ("ACL_TENANT", "RUN"), ("ACL_PRINCIPAL", "ALL_ACTIONS"))
        assert await refused_with(put_tenant(client, "acme")) == StatusCode.PERMISSION_DENIED
        assert await refused_with(put_tenant(client, "default")) == StatusCode.PERMISSION_DENIED
        assert await is_missing(client.stub.GetTenant(TenantId(id="acme")))

    async def test_who_may_write_tenants_need_not_be_an_admin(self, client: Client) -> None:
        await restrict(client, ("ACL_TENANT", "WRITE_METADATA"))
        assert (await put_tenant(client, "acme")).id.id == "acme"


class TestSearch:
    async def test_there_is_the_tenant_default_only_at_first(self, client: Client) -> None:
        reply = await client.stub.SearchTenant(SearchTenantRequest())
        assert [one.id for one in reply.results] == ["default"]
        assert not reply.HasField("bookmark")

    async def test_tenants_come_in_byte_order(self, client: Client) -> None:
        for tenant in ("b", "a-b", "z", "B", "ab", "a", "Z"):
            await put_tenant(client, tenant)
        assert await tenants(client) == ["B", "Z", "a", "a-b", "ab", "b", "default", "z"]

    @pytest.mark.parametrize("limit", [1, 2, 4, 5])
    async def test_pages_join_to_the_whole_result(self, client: Client, limit: int) -> None:
        for tenant in ("d", "b", "e", "a"):
            await put_tenant(client, tenant)
        pages = await client.pages("SearchTenant", SearchTenantRequest(limit=limit))
        assert [one.id for page in pages for one in page] == ["a", "b", "d", "default", "e"]
        assert all(len(page) == limit for page in pages[:-1])
        assert len(pages[-1]) <= limit

    async def test_a_tenant_put_twice_is_found_once(self, client: Client) -> None:
        await put_tenant(client, "acme")
        await put_tenant(client, "acme")
        assert await tenants(client) == ["acme", "default"]

    async def test_all_tenants_are_found_from_any_tenant(self, client: Client, acme: Client) -> None:
        assert await tenants(acme) == ["acme", "default"]

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        call = client.stub.SearchTenant(SearchTenantRequest(limit=-1))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"null"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(self, client: Client, bookmark: bytes) -> None:
        await put_tenant(client, "acme")
        await assert_starts_over_or_is_refused(client, "SearchTenant", SearchTenantRequest(), bookmark)


class TestUnknownTenant:
    async def test_every_rpc_is_denied(self, client: Client, acme: Client) -> None:
        nowhere = in_tenant(client, "acme-2")
        names = sorted(METHODS.keys() - MAY_BE_UNIMPLEMENTED - {"PollTask"})
        codes = {name: await code_of(call_empty(nowhere, name)) for name in names}
        assert codes == dict.fromkeys(names, StatusCode.PERMISSION_DENIED)

    async def test_the_text_names_the_reason(self, client: Client) -> None:
        assert "tenant" in (await refusal(in_tenant(client, "acme").put_task_def("ship"))).details.lower()

    async def test_a_tenant_does_not_come_to_be_by_its_use(self, client: Client) -> None:
        nowhere = in_tenant(client, "acme")
        assert await refused_with(nowhere.put_task_def("ship")) == StatusCode.PERMISSION_DENIED
        assert await refused_with(put_tenant(nowhere, "acme")) == StatusCode.PERMISSION_DENIED
        assert await tenants(client) == ["default"]

    async def test_a_tenant_can_be_used_at_once_when_it_was_put(self, client: Client) -> None:
        later = in_tenant(client, "acme")
        assert await refused_with(later.stub.Whoami(EMPTY)) == StatusCode.PERMISSION_DENIED
        await put_tenant(client, "acme")
        assert (await later.stub.Whoami(EMPTY)).id.id == "anonymous"

    @pytest.mark.parametrize("tenant", ["Acme", "ACME", "acm", "acme2"])
    async def test_tenants_are_compared_exactly(self, client: Client, acme: Client, tenant: str) -> None:
        call = in_tenant(client, tenant).stub.Whoami(EMPTY)
        assert await refused_with(call) == StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize("tenant", [" acme", "acme ", "  acme  "])
    async def test_white_space_around_the_tenant_is_trimmed(self, client: Client, acme: Client, tenant: str) -> None:
        put = await acme.put_task_def("ship")
        assert await in_tenant(client, tenant).stub.GetTaskDef(TaskDefId(name="ship")) == put


class Kind(NamedTuple):
    """How a kind of definition is put, read, searched and deleted."""

    name: str
    put: Any
    key: Any
    search: Any
    delete: Any


KINDS = [
    Kind(
        "TaskDef",
        PutTaskDefRequest(name="one"),
        TaskDefId(name="one"),
        SearchTaskDefRequest(),
        DeleteTaskDefRequest(id=TaskDefId(name="one")),
    ),
    Kind(
        "ExternalEventDef",
        PutExternalEventDefRequest(name="one"),
        ExternalEventDefId(name="one"),
        SearchExternalEventDefRequest(),
        DeleteExternalEventDefRequest(id=ExternalEventDefId(name="one")),
    ),
    Kind(
        "WorkflowEventDef",
        PutWorkflowEventDefRequest(name="one", content_type=ReturnType()),
        WorkflowEventDefId(name="one"),
        SearchWorkflowEventDefRequest(),
        DeleteWorkflowEventDefRequest(id=WorkflowEventDefId(name="one")),
    ),
    Kind(
        "UserTaskDef",
        PutUserTaskDefRequest(name="one", fields=[UserTaskField(name="text", type=VariableType.STR)]),
        UserTaskDefId(name="one"),
        SearchUserTaskDefRequest(),
        DeleteUserTaskDefRequest(id=UserTaskDefId(name="one")),
    ),
    Kind(
        "StructDef",
        PutStructDefRequest(
            name="one",
            struct_def=InlineStructDef(fields={"text": StructFieldDef(field_type=type_of(VariableType.STR))}),
        ),
        StructDefId(name="one"),
        SearchStructDefRequest(),
        DeleteStructDefRequest(id=StructDefId(name="one")),
    ),
    Kind(
        "WfSpec",
        only_exit("one").compile(),
        WfSpecId(name="one"),
        SearchWfSpecRequest(),
        DeleteWfSpecRequest(id=WfSpecId(name="one")),
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class TestDefinitions:
    @every_kind
    async def test_a_definition_is_found_in_its_own_tenant_only(self, client: Client, acme: Client, kind: Kind) -> None:
        await getattr(acme.stub, f"Put{kind.name}")(kind.put)
        await getattr(acme.stub, f"Get{kind.name}")(kind.key)
        assert await is_missing(getattr(client.stub, f"Get{kind.name}")(kind.key))
        assert len((await getattr(acme.stub, f"Search{kind.name}")(kind.search)).results) == 1
        assert not (await getattr(client.stub, f"Search{kind.name}")(kind.search)).results

    @every_kind
    async def test_a_definition_can_be_deleted_from_its_own_tenant_only(
        self, client: Client, acme: Client, kind: Kind
    ) -> None:
        await getattr(acme.stub, f"Put{kind.name}")(kind.put)
        assert await is_missing(getattr(client.stub, f"Delete{kind.name}")(kind.delete))
        await getattr(client.stub, f"Put{kind.name}")(kind.put)
        await getattr(client.stub, f"Delete{kind.name}")(kind.delete)
        await getattr(acme.stub, f"Get{kind.name}")(kind.key)

    async def test_the_same_name_means_what_each_tenant_put(self, client: Client, acme: Client) -> None:
        here = await client.put_task_def("ship", {"a": VariableType.INT})
        there = await acme.put_task_def("ship", {"a": VariableType.STR})
        assert await client.stub.GetTaskDef(TaskDefId(name="ship")) == here
        assert await acme.stub.GetTaskDef(TaskDefId(name="ship")) == there
        assert here.input_vars != there.input_vars

    async def test_versions_are_counted_in_each_tenant(self, client: Client, acme: Client) -> None:
        def public(thread: WorkflowThread) -> None:
            thread.declare_str("public").as_public()

        await client.register(only_exit("order"))
        await client.register(Workflow("order", public))
        assert (await acme.register(Workflow("order", public))).id == WfSpecId(name="order")

    async def test_a_workflow_cannot_use_definitions_of_another_tenant(self, client: Client, acme: Client) -> None:
        await client.put_task_def("ship")
        assert await refused_with(acme.register(executes("order", "ship"))) == StatusCode.INVALID_ARGUMENT

    async def test_pages_of_a_search_keep_to_the_tenant(self, client: Client, acme: Client) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await client.put_task_def(f"{name}-here")
            await acme.put_task_def(f"{name}-there")
        pages = await acme.pages("SearchTaskDef", SearchTaskDefRequest(limit=2))
        assert [one.name for page in pages for one in page] == [f"{name}-there" for name in "abcde"]


class TestRuns:
    async def test_a_workflow_of_another_tenant_cannot_be_run(self, client: Client, acme: Client) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(acme.run("order")) == StatusCode.NOT_FOUND

    async def test_the_same_id_may_run_in_two_tenants(self, client: Client, acme: Client) -> None:
        await client.register(only_exit("order"))
        await acme.put_event_def("paid")
        await acme.register(waits_for("invoice", "paid"))
        await client.run("order", "r")
        await acme.run("invoice", "r")
        assert (await client.wf_run("r")).wf_spec_id.name == "order"
        assert (await acme.wf_run("r")).wf_spec_id.name == "invoice"
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED
        assert (await acme.wf_run("r")).status == LHStatus.RUNNING
        assert await refused_with(acme.run("invoice", "r")) == StatusCode.ALREADY_EXISTS

    async def test_nothing_of_a_run_is_seen_from_another_tenant(self, client: Client, acme: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_str("text")
            thread.execute("ship")

        for tenant in (client, acme):
            await tenant.put_task_def("ship")
            await tenant.register(Workflow("order", entrypoint))
        await acme.run("order", "r", text="a")
        (task,) = await acme.task_runs("r")
        run = WfRunId(id="r")
        assert await is_missing(client.wf_run("r"))
        assert await is_missing(client.stub.GetNodeRun(NodeRunId(wf_run_id=run)))
        assert await is_missing(client.stub.GetVariable(VariableId(wf_run_id=run, name="text")))
        assert await is_missing(client.task_run(task.id))
        assert not (await client.stub.ListNodeRuns(ListNodeRunsRequest(wf_run_id=run))).results
        assert not (await client.stub.ListTaskRuns(ListTaskRunsRequest(wf_run_id=run))).results
        assert not (await client.stub.ListVariables(ListVariablesRequest(wf_run_id=run))).results
        assert not (await client.stub.SearchWfRun(SearchWfRunRequest())).results
        assert not (await client.stub.SearchWfRun(SearchWfRunRequest(wf_spec_name="order"))).results
        assert not (await client.stub.SearchTaskRun(SearchTaskRunRequest(task_def_name="ship"))).results
        assert len((await acme.stub.SearchTaskRun(SearchTaskRunRequest(task_def_name="ship"))).results) == 1

    async def test_counts_are_per_tenant(self, client: Client, acme: Client) -> None:
        await acme.put_task_def("ship")
        await acme.register(executes("order", "ship"))
        await acme.run("order", "r")
        assert (await client.stub.CountNodeRun(CountNodeRunRequest())).value == 0
        assert (await client.stub.CountTaskRun(CountTaskRunRequest(task_def_name="ship"))).value == 0

    async def test_a_run_cannot_be_stopped_or_deleted_from_another_tenant(self, client: Client, acme: Client) -> None:
        await acme.put_event_def("paid")
        await acme.register(waits_for("order", "paid"))
        await acme.run("order", "r")
        stop = client.stub.StopWfRun(StopWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert await refused_with(stop) == StatusCode.NOT_FOUND
        await client.delete("r")
        assert (await acme.wf_run("r")).status == LHStatus.RUNNING

    async def test_deleting_a_run_leaves_its_namesake(self, client: Client, acme: Client) -> None:
        for tenant in (client, acme):
            await tenant.register(only_exit("order"))
            await tenant.run("order", "r")
        await client.delete("r")
        assert await is_missing(client.wf_run("r"))
        assert (await acme.wf_run("r")).status == LHStatus.COMPLETED
        assert len(await acme.node_runs("r")) == 2

    async def test_schedules_are_per_tenant(self, client: Client, acme: Client) -> None:
        await acme.register(only_exit("order"))
        key = ScheduledWfRunId(id="s")
        put = await acme.stub.ScheduleWf(ScheduleWfRequest(id="s", wf_spec_name="order", cron_expression="0 0 1 1 *"))
        assert await is_missing(client.stub.GetScheduledWfRun(key))
        await client.stub.DeleteScheduledWfRun(DeleteScheduledWfRunRequest(id=key))
        assert await acme.stub.GetScheduledWfRun(key) == put


class TestEvents:
    async def test_an_event_reaches_the_run_of_its_own_tenant_only(self, client: Client, acme: Client) -> None:
        for tenant in (client, acme):
            await tenant.put_event_def("paid")
            await tenant.register(waits_for("order", "paid"))
            await tenant.run("order", "r")
        assert (await acme.post("paid", run="r", guid="g")).claimed
        assert (await acme.wf_run("r")).status == LHStatus.COMPLETED
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        assert await is_missing(client.external_event("r", "paid", "g"))
        assert (await client.post("paid", run="r", guid="g")).claimed  # the guid is free in this tenant

    async def test_an_event_def_of_another_tenant_cannot_be_used(self, client: Client, acme: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        assert await refused_with(acme.post("paid", run="r")) == StatusCode.INVALID_ARGUMENT
        assert await refused_with(acme.correlate("paid", "k")) == StatusCode.INVALID_ARGUMENT

    async def test_a_correlated_event_reaches_the_runs_of_its_own_tenant_only(
        self, client: Client, acme: Client
    ) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            text = thread.declare_str("text")
            text.assign(thread.wait_for_event("paid", correlation_id="k"))

        for tenant in (client, acme):
            await tenant.put_event_def("paid", VariableType.STR, correlated=CorrelatedEventConfig())
            await tenant.register(Workflow("order", entrypoint))
            await tenant.run("order", "r")
        await client.correlate("paid", "k", "here")
        await acme.correlate("paid", "k", "there")
        for tenant, content in ((client, "here"), (acme, "there")):
            await tenant.until("r", LHStatus.COMPLETED)
            assert (await tenant.variable("r", "text")).str == content
            assert (await tenant.correlated_event("paid", "k")).content.str == content

    async def test_a_thrown_event_is_awaited_in_its_own_tenant_only(self, client: Client, acme: Client) -> None:
        for tenant, content in ((client, "here"), (acme, "there")):

            def entrypoint(thread: WorkflowThread, content: str = content) -> None:
                thread.throw_event("thrown", content)

            await put_workflow_event_def(tenant, "thrown")
            await tenant.register(Workflow("order", entrypoint))
            await tenant.run("order", "r")
        request = AwaitWorkflowEventRequest(
            wf_run_id=WfRunId(id="r"), event_def_ids=[WorkflowEventDefId(name="thrown")]
        )
        assert (await client.stub.AwaitWorkflowEvent(request)).content.str == "here"
        assert (await acme.stub.AwaitWorkflowEvent(request)).content.str == "there"

    async def test_workflow_events_are_read_in_their_own_tenant_only(self, client: Client, acme: Client) -> None:
        thrown = await acme.stub.AwaitWorkflowEvent(await await_thrown(acme))
        assert await acme.stub.GetWorkflowEvent(thrown.id) == thrown
        assert await is_missing(client.stub.GetWorkflowEvent(thrown.id))


class TestWorkers:
    async def test_a_task_goes_to_a_worker_of_its_own_tenant_only(self, client: Client, acme: Client) -> None:
        for tenant in (client, acme):
            await tenant.put_task_def("ship")
            await tenant.register(executes("order", "ship"))
        async with client.poller("ship") as here, acme.poller("ship") as there:
            await here.ask()
            await there.ask()
            await client.settled()
            await acme.run("order", "there")
            await client.run("order", "here")
            assert (await there.take()).task_run_id.wf_run_id.id == "there"
            assert (await here.take()).task_run_id.wf_run_id.id == "here"

    async def test_queues_are_per_tenant(self, client: Client, acme: Client) -> None:
        for tenant, run in ((client, "here"), (acme, "there")):
            await tenant.put_task_def("ship")
            await tenant.register(executes("order", "ship"))
            await tenant.run("order", run)
        assert (await acme.claim("ship")).task_run_id.wf_run_id.id == "there"
        assert (await client.claim("ship")).task_run_id.wf_run_id.id == "here"

    async def test_a_report_is_dropped_in_another_tenant(self, client: Client, acme: Client) -> None:
        await acme.put_task_def("ship")
        await acme.register(executes("order", "ship"))
        await acme.run("order", "r")
        task = await acme.claim("ship")
        await client.report(task)
        await client.reports_processed("r")
        assert (await acme.wf_run("r")).status == LHStatus.RUNNING
        await acme.report(task)
        await acme.until("r", LHStatus.COMPLETED)

    async def test_worker_groups_are_per_tenant(self, client: Client, acme: Client) -> None:
        await acme.register_worker("ship", "w")
        assert list((await acme.stub.GetTaskWorkerGroup(TaskDefId(name="ship"))).task_workers) == ["w"]
        assert await is_missing(client.stub.GetTaskWorkerGroup(TaskDefId(name="ship")))


class TestClusterWide:
    async def test_a_tenant_put_from_a_tenant_is_seen_from_any(self, client: Client, acme: Client) -> None:
        put = await put_tenant(acme, "emca")
        assert await client.stub.GetTenant(TenantId(id="emca")) == put
        assert await in_tenant(client, "emca").stub.GetTenant(TenantId(id="acme"))

    async def test_a_principal_put_from_a_tenant_is_seen_from_any(self, client: Client, acme: Client) -> None:
        put = await put_principal(acme, "alice")
        assert await get_principal(client, "alice") == put
        assert await refused_with(put_principal(client, "alice")) == StatusCode.ALREADY_EXISTS

    async def test_a_quota_put_from_a_tenant_is_seen_from_any(self, client: Client, acme: Client) -> None:
        request = PutQuotaRequest(tenant=TenantId(id="default"), write_requests_per_second=1_000_000)
        put = await acme.stub.PutQuota(request)
        assert await client.stub.GetQuota(QuotaId(tenant=TenantId(id="default"))) == put

    async def test_the_principal_anonymous_is_the_same_in_any_tenant(self, client: Client, acme: Client) -> None:
        stored = await client.stub.GetPrincipal(PrincipalId(id="anonymous"))
        assert await acme.stub.Whoami(EMPTY) == stored


async def test_tenants_and_what_is_in_them_survive_a_restart(tmp_path: Path) -> None:
    async with daemon(tmp_path / "data") as client:
        put = await client.stub.PutTenant(PutTenantRequest(id="acme", output_topic_config=SILENT))
        changed = await client.stub.PutTenant(PutTenantRequest(id="default", output_topic_config=LOUD))
        for tenant, run in ((in_tenant(client, "acme"), "there"), (client, "here")):
            await tenant.put_task_def("ship")
            await tenant.register(executes("order", "ship"))
            await tenant.run("order", run)
    async with daemon(tmp_path / "data") as client:
        acme = in_tenant(client, "acme")
        assert await client.stub.GetTenant(TenantId(id="acme")) == put
        assert await client.stub.GetTenant(TenantId(id="default")) == changed
        assert (await acme.wf_run("there")).status == LHStatus.RUNNING
        assert await is_missing(client.wf_run("there"))
        assert (await client.claim("ship")).task_run_id.wf_run_id.id == "here"
        task = await acme.claim("ship")
        assert task.task_run_id.wf_run_id.id == "there"
        await acme.report(task)
        await acme.until("there", LHStatus.COMPLETED)
