"""Workflow migration plans: api.md 12.2, their search by 9.1 and 9.4, and what they do to a run by execution.md 9.7.

Not tested: a variable that no thread owns (PutWfSpec refuses such a WfSpec), the name of a plan (a server may be
strict), a thread that stands at a mapped TASK node and halted threads (open), what becomes of the NodeRun that was left
(open), `MigrationVars` that refer to variables (open), and plans of another WfSpec than the run's (the code is open).
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from grpc import StatusCode
from littlehorse.model import (
    ApplyWorkflowMigrationPlanRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowMigrationPlanRequest,
    LHStatus,
    MigrateWfSpecRequest,
    MigrationVars,
    NodeMigrationPlan,
    PutUserTaskDefRequest,
    PutWorkflowMigrationPlanRequest,
    RunWfRequest,
    SearchWorkflowMigrationPlanRequest,
    ThreadMigrationPlanRequest,
    VariableAssignment,
    VariableMutationType,
    VariableType,
    VariableValue,
    WfRun,
    WfRunId,
    WfSpec,
    WfSpecId,
    WfSpecVersionMigration,
    WorkflowMigrationPlan,
    WorkflowMigrationPlanId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import SpawnedThreads, WfRunVariable, Workflow, WorkflowThread

from tests.api.client import Client, is_missing, now, refused_with

Body = Callable[[WorkflowThread], None]
Threads = dict[str, tuple[str, dict[str, str]]]
"""Old thread to new thread, and the old nodes of it to the new nodes."""

PAID = "1-paid-EXTERNAL_EVENT"
SHIPPED = "1-shipped-EXTERNAL_EVENT"
PACKED = "1-packed-EXTERNAL_EVENT"
PAID_TO_SHIPPED: Threads = {"entrypoint": ("entrypoint", {PAID: SHIPPED})}
PACKED_TO_SHIPPED: Threads = {"entrypoint": ("entrypoint", {"2-packed-EXTERNAL_EVENT": SHIPPED})}
PACKER_TO_SHIPPER: Threads = {"packer": ("shipper", {PACKED: SHIPPED})}
PACKER_TO_PACKER: Threads = {"packer": ("packer", {PACKED: PACKED})}
PARENT_AND_PACKER: Threads = PACKER_TO_PACKER | {
    "entrypoint": ("entrypoint", {"2-paid-EXTERNAL_EVENT": "2-paid-EXTERNAL_EVENT"})
}


@pytest.fixture(autouse=True)
async def _definitions(client: Client) -> None:
    for event in ("paid", "shipped", "packed"):
        await client.put_event_def(event)
    await client.put_task_def("ship")
    await client.put_task_def("send", {"address": VariableType.STR})
    await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name="approve"))


async def register(client: Client, body: Body, name: str = "order") -> WfSpec:
    return await client.register(Workflow(name, body))


def plan_request(old: WfSpecId, new: WfSpecId, threads: Threads, name: str = "plan") -> PutWorkflowMigrationPlanRequest:
    return PutWorkflowMigrationPlanRequest(
        name=name,
        old_wfSpec=old,
        major_version=new.major_version,
        revision=new.revision,
        thread_migrations={
            old_thread: ThreadMigrationPlanRequest(
                new_thread_name=new_thread,
                node_migrations={
                    old_node: NodeMigrationPlan(new_node_name=new_node) for old_node, new_node in nodes.items()
                },
            )
            for old_thread, (new_thread, nodes) in threads.items()
        },
    )


async def put(client: Client, old: WfSpec, new: WfSpec, threads: Threads, name: str = "plan") -> WorkflowMigrationPlan:
    reply: WorkflowMigrationPlan = await client.stub.PutWorkflowMigrationPlan(
        plan_request(old.id, new.id, threads, name)
    )
    return reply


async def stored(client: Client, name: str = "plan") -> WorkflowMigrationPlan:
    reply: WorkflowMigrationPlan = await client.stub.GetWorkflowMigrationPlan(WorkflowMigrationPlanId(name=name))
    return reply


async def delete(client: Client, name: str) -> None:
    request = DeleteWorkflowMigrationPlanRequest(id=WorkflowMigrationPlanId(name=name))
    await client.stub.DeleteWorkflowMigrationPlan(request)


async def apply(
    client: Client, plan: str = "plan", *, run: str = "r", values: Mapping[str, Mapping[str, Any]] | None = None
) -> WfRun:
    """Apply a plan; ``values`` are the literals of variables by destination thread."""
    reply: WfRun = await client.stub.ApplyWorkflowMigrationPlan(
        ApplyWorkflowMigrationPlanRequest(
            id=WorkflowMigrationPlanId(name=plan),
            wfRun_id=WfRunId(id=run),
            migration_vars_by_thread={
                thread: MigrationVars(
                    var_assignment_by_var_name={
                        name: VariableAssignment(literal_value=to_variable_value(value))
                        for name, value in variables.items()
                    }
                )
                for thread, variables in (values or {}).items()
            },
        )
    )
    return reply


def waits_for_payment(thread: WorkflowThread) -> None:
    """The old way of most tests."""
    thread.declare_str("text", "old text")
    thread.wait_for_event("paid")


def waits_for_shipment(thread: WorkflowThread) -> None:
    """The new way of most tests; it has more variables."""
    thread.declare_str("text", "new text")
    thread.declare_str("note", "no note")
    thread.declare_int("count")
    thread.wait_for_event("shipped")


def waiting(event: str) -> Body:
    """A thread that waits for one event."""

    def body(thread: WorkflowThread) -> None:
        thread.wait_for_event(event)

    return body


def paid_then_packed(thread: WorkflowThread) -> None:
    thread.wait_for_event("paid")
    thread.wait_for_event("packed")


def packs(thread: WorkflowThread) -> None:
    """A child waits for ``packed``, and the parent waits for the child."""
    child = thread.spawn_thread(waiting("packed"), "packer")
    thread.wait_for_threads(SpawnedThreads.from_list(child))


def ships(thread: WorkflowThread) -> None:
    """As ``packs``, but the child is called shipper, waits for ``shipped`` and has a variable."""

    def shipper(child: WorkflowThread) -> None:
        child.declare_int("weight")
        child.wait_for_event("shipped")

    thread.wait_for_threads(SpawnedThreads.from_list(thread.spawn_thread(shipper, "shipper")))


def with_all_kinds(extra: str) -> Body:
    """Every kind of node that plans care about; ``extra`` is a variable that nobody uses."""

    def body(thread: WorkflowThread) -> None:
        thread.declare_str(extra)
        flag = thread.declare_bool("flag")
        thread.spawn_thread(waiting("packed"), "packer")
        thread.wait_for_event("paid")
        thread.do_if(flag.is_equal_to(True), lambda then: then.sleep(1))

    return body


def node_of(spec: WfSpec, kind: str, thread: str = "entrypoint") -> str:
    """The name of the first node of a kind."""
    return min(name for name in spec.thread_specs[thread].nodes if name.endswith(f"-{kind}"))


async def started(
    client: Client, old: Body = waits_for_payment, new: Body = waits_for_shipment, threads: Threads = PAID_TO_SHIPPED
) -> tuple[WfSpec, WfSpec]:
    """A run ``r`` of the old way, the new way, and ``plan`` between them."""
    old_spec = await register(client, old)
    await client.run("order", "r")
    new_spec = await register(client, new)
    await put(client, old_spec, new_spec, threads)
    return old_spec, new_spec


class TestPut:
    async def test_the_stored_plan_is_returned_and_found(self, client: Client) -> None:
        old, new = await register(client, waits_for_payment), await register(client, waits_for_shipment)
        before = now().ToMilliseconds()
        reply = await put(client, old, new, PAID_TO_SHIPPED, "to-shipment")
        assert reply.workflow_migration_plan_id == WorkflowMigrationPlanId(name="to-shipment")
        assert before <= reply.created_at.ToMilliseconds() <= now().ToMilliseconds()
        assert reply.old_wfSpec == old.id
        assert (reply.major_version, reply.revision) == (new.id.major_version, new.id.revision)
        assert list(reply.thread_migrations) == ["entrypoint"]
        thread = reply.thread_migrations["entrypoint"]
        assert thread.new_thread_name == "entrypoint"
        assert dict(thread.node_migrations) == {PAID: NodeMigrationPlan(new_node_name=SHIPPED)}
        assert await stored(client, "to-shipment") == reply

    async def test_the_same_name_overwrites(self, client: Client) -> None:
        old, new = await register(client, packs), await register(client, ships)
        wait = {node_of(old, "WAIT_FOR_THREADS"): node_of(new, "WAIT_FOR_THREADS")}
        await put(client, old, new, {"entrypoint": ("entrypoint", wait)})
        second = await put(client, old, new, PACKER_TO_SHIPPER)
        assert list(second.thread_migrations) == ["packer"]
        assert await stored(client) == second
        assert await search(client) == ["plan"]

    @pytest.mark.parametrize(
        "source",
        [
            WfSpecId(name="nope"),
            WfSpecId(name="order", major_version=1),
            WfSpecId(name="order", revision=2),
        ],
        ids=["name", "major version", "revision"],
    )
    async def test_a_missing_source_is_not_found(self, client: Client, source: WfSpecId) -> None:
        await register(client, waits_for_payment)
        new = await register(client, waits_for_shipment)
        call = client.stub.PutWorkflowMigrationPlan(plan_request(source, new.id, PAID_TO_SHIPPED))
        assert await refused_with(call) == StatusCode.NOT_FOUND
        assert await is_missing(stored(client))

    @pytest.mark.parametrize("target", [WfSpecId(major_version=1), WfSpecId(revision=2)], ids=["major", "revision"])
    async def test_a_missing_target_is_not_found(self, client: Client, target: WfSpecId) -> None:
        old = await register(client, waits_for_payment)
        await register(client, waits_for_shipment)
        call = client.stub.PutWorkflowMigrationPlan(plan_request(old.id, target, PAID_TO_SHIPPED))
        assert await refused_with(call) == StatusCode.NOT_FOUND
        assert await is_missing(stored(client))

    @pytest.mark.parametrize(
        "threads",
        [
            pytest.param({}, id="empty"),
            pytest.param({"nope": ("entrypoint", {"2-paid-EXTERNAL_EVENT": "2-paid-EXTERNAL_EVENT"})}, id="old thread"),
            pytest.param({"packer": ("nope", {PACKED: PACKED})}, id="new thread"),
            pytest.param({"packer": ("packer", {"nope": PACKED})}, id="old node"),
            pytest.param({"packer": ("packer", {PACKED: "nope"})}, id="new node"),
            pytest.param({"packer": ("packer", {"2-paid-EXTERNAL_EVENT": PACKED})}, id="old node of another thread"),
            pytest.param({"packer": ("packer", {PACKED: "2-paid-EXTERNAL_EVENT"})}, id="new node of another thread"),
            pytest.param(
                {
                    "packer": ("packer", {PACKED: PACKED}),
                    "entrypoint": ("entrypoint", {"2-paid-EXTERNAL_EVENT": "nope"}),
                },
                id="one of two threads",
            ),
            pytest.param({"entrypoint": ("packer", {"2-paid-EXTERNAL_EVENT": PACKED})}, id="entrypoint to child"),
            pytest.param({"packer": ("entrypoint", {PACKED: "2-paid-EXTERNAL_EVENT"})}, id="child to entrypoint"),
        ],
    )
    async def test_a_bad_mapping_is_refused(self, client: Client, threads: Threads) -> None:
        old, new = await register(client, with_all_kinds("a")), await register(client, with_all_kinds("b"))
        assert await refused_with(put(client, old, new, threads)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client))

    @pytest.mark.parametrize("kind", ["ENTRYPOINT", "EXIT", "NOP"])
    async def test_nodes_where_no_thread_waits_are_refused_on_either_side(self, client: Client, kind: str) -> None:
        old, new = await register(client, with_all_kinds("a")), await register(client, with_all_kinds("b"))
        event, other = node_of(old, "EXTERNAL_EVENT"), node_of(old, kind)
        for nodes in ({other: event}, {event: other}, {other: other}):
            call = put(client, old, new, {"entrypoint": ("entrypoint", nodes)})
            assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        await put(client, old, new, {"entrypoint": ("entrypoint", {event: event})})


def sends(thread: WorkflowThread, address: WfRunVariable) -> None:
    thread.execute("send", address)


def decides(thread: WorkflowThread, address: WfRunVariable) -> None:
    thread.do_if(address.is_equal_to("London"), lambda then: then.sleep(1))


def writes(thread: WorkflowThread, address: WfRunVariable) -> None:
    thread.mutate(address, VariableMutationType.ASSIGN, "London")


class TestVariablesOfDestinationThreads:
    @staticmethod
    def packer_uses(use: Callable[[WorkflowThread, WfRunVariable], None] | None, *, declared: bool = True) -> Body:
        """A child waits for ``packed``, then uses a variable of its parent."""

        def body(thread: WorkflowThread) -> None:
            address = thread.declare_str("address") if declared else None

            def packer(child: WorkflowThread) -> None:
                child.wait_for_event("packed")
                if use is not None:
                    assert address is not None
                    use(child, address)

            thread.spawn_thread(packer, "packer")
            thread.wait_for_event("paid")

        return body

    every_use = pytest.mark.parametrize("use", [sends, decides, writes])

    @every_use
    async def test_the_owner_of_a_new_variable_must_be_in_the_plan(self, client: Client, use: Any) -> None:
        old = await register(client, self.packer_uses(None, declared=False))
        new = await register(client, self.packer_uses(use))
        assert await refused_with(put(client, old, new, PACKER_TO_PACKER)) == StatusCode.FAILED_PRECONDITION
        assert await is_missing(stored(client))

    @every_use
    async def test_the_owner_becomes_a_dependency_when_it_is_in_the_plan(self, client: Client, use: Any) -> None:
        old = await register(client, self.packer_uses(None, declared=False))
        new = await register(client, self.packer_uses(use))
        reply = await put(client, old, new, PARENT_AND_PACKER)
        assert list(reply.thread_migrations["packer"].thread_spec_dependencies) == ["entrypoint"]
        assert list(reply.thread_migrations["entrypoint"].thread_spec_dependencies) == []
        assert await stored(client) == reply

    @every_use
    async def test_a_variable_in_the_scope_of_the_source_thread_needs_no_owner(self, client: Client, use: Any) -> None:
        old = await register(client, self.packer_uses(None))
        new = await register(client, self.packer_uses(use))
        reply = await put(client, old, new, PACKER_TO_PACKER)
        assert list(reply.thread_migrations["packer"].thread_spec_dependencies) == []

    async def test_a_new_variable_that_the_thread_does_not_use_needs_no_owner(self, client: Client) -> None:
        old = await register(client, self.packer_uses(None, declared=False))
        new = await register(client, self.packer_uses(None))
        reply = await put(client, old, new, PACKER_TO_PACKER)
        assert list(reply.thread_migrations["packer"].thread_spec_dependencies) == []


class TestGetAndDelete:
    async def test_get_of_a_missing_plan_is_not_found(self, client: Client) -> None:
        assert await refused_with(stored(client, "nope")) == StatusCode.NOT_FOUND

    async def test_delete_of_a_missing_plan_is_not_found(self, client: Client) -> None:
        assert await refused_with(delete(client, "nope")) == StatusCode.NOT_FOUND

    async def test_a_deleted_plan_is_gone(self, client: Client) -> None:
        old, new = await register(client, waits_for_payment), await register(client, waits_for_shipment)
        for name in ("a", "b"):
            await put(client, old, new, PAID_TO_SHIPPED, name)
        await delete(client, "a")
        assert await refused_with(stored(client, "a")) == StatusCode.NOT_FOUND
        assert await refused_with(delete(client, "a")) == StatusCode.NOT_FOUND
        assert await search(client) == ["b"]

    async def test_a_deleted_plan_cannot_be_applied(self, client: Client) -> None:
        await started(client)
        await delete(client, "plan")
        assert await refused_with(apply(client)) == StatusCode.NOT_FOUND


async def search(client: Client, **criteria: Any) -> list[str]:
    """The plans that a search finds in all its pages."""
    pages = await client.pages("SearchWorkflowMigrationPlan", SearchWorkflowMigrationPlanRequest(**criteria))
    assert all(len(page) == criteria["limit"] for page in pages[:-1])
    return [found.name for page in pages for found in page]


class TestSearch:
    async def test_nothing_found_is_an_empty_page(self, client: Client) -> None:
        reply = await client.stub.SearchWorkflowMigrationPlan(SearchWorkflowMigrationPlanRequest())
        assert not reply.results
        assert not reply.HasField("bookmark")

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            ({}, ["a-1", "a-2", "b-1", "b-2", "b-3"]),
            ({"prefix": ""}, ["a-1", "a-2", "b-1", "b-2", "b-3"]),
            ({"prefix": "b"}, ["b-1", "b-2", "b-3"]),
            ({"prefix": "b-2"}, ["b-2"]),
            ({"prefix": "c"}, []),
            ({"prefix": "1"}, []),
            ({"wf_spec_name": "order"}, ["a-1", "b-1", "b-3"]),
            ({"wf_spec_name": "orders"}, ["a-2", "b-2"]),
            ({"wf_spec_name": "nope"}, []),
        ],
    )
    async def test_criteria_and_pages(self, client: Client, criteria: dict[str, Any], expected: list[str]) -> None:
        specs = {
            name: (await register(client, waits_for_payment, name), await register(client, waits_for_shipment, name))
            for name in ("order", "orders")
        }
        # In the order of their names, which is also the order of their creation.
        for plan, spec in (("a-1", "order"), ("a-2", "orders"), ("b-1", "order"), ("b-2", "orders"), ("b-3", "order")):
            await put(client, *specs[spec], PAID_TO_SHIPPED, plan)
        for limit in (1, 2, 100):
            assert await search(client, limit=limit, **criteria) == expected

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        assert await refused_with(search(client, limit=-1)) == StatusCode.INVALID_ARGUMENT


class TestRefusedApply:
    async def test_an_unknown_run_is_not_found(self, client: Client) -> None:
        await started(client)
        assert await refused_with(apply(client, run="nope")) == StatusCode.NOT_FOUND

    async def test_an_unknown_plan_is_not_found(self, client: Client) -> None:
        await started(client)
        before = await client.wf_run("r")
        assert await refused_with(apply(client, "nope")) == StatusCode.NOT_FOUND
        assert await client.wf_run("r") == before

    @pytest.mark.parametrize(
        ("status", "end"),
        [
            (LHStatus.COMPLETED, lambda thread: None),
            (LHStatus.EXCEPTION, lambda thread: thread.fail("out-of-stock", "nothing left")),
            (LHStatus.ERROR, lambda thread: thread.sleep(thread.declare_int("seconds"))),
        ],
        ids=["COMPLETED", "EXCEPTION", "ERROR"],
    )
    async def test_a_terminal_run_is_refused(
        self, client: Client, status: LHStatus, end: Callable[[WorkflowThread], Any]
    ) -> None:
        def old(thread: WorkflowThread) -> None:
            thread.wait_for_event("paid")
            end(thread)

        await started(client, old)
        await client.post("paid", run="r")
        before = await client.wf_run("r")
        assert before.status == status
        assert await refused_with(apply(client)) == StatusCode.FAILED_PRECONDITION
        assert await client.wf_run("r") == before

    async def test_a_run_with_a_pending_plan_is_refused(self, client: Client) -> None:
        old, new = await started(client, paid_then_packed, threads=PACKED_TO_SHIPPED)
        await put(client, old, new, PAID_TO_SHIPPED, "another")
        pending = await apply(client)
        assert pending.workflow_migration_plan_id.name == "plan"
        assert await refused_with(apply(client)) == StatusCode.FAILED_PRECONDITION
        assert await refused_with(apply(client, "another")) == StatusCode.FAILED_PRECONDITION
        assert await client.wf_run("r") == pending

    async def test_a_target_that_is_gone_is_refused(self, client: Client) -> None:
        _, new = await started(client)
        await client.stub.DeleteWfSpec(DeleteWfSpecRequest(id=new.id))
        before = await client.wf_run("r")
        assert await refused_with(apply(client)) == StatusCode.FAILED_PRECONDITION
        assert await client.wf_run("r") == before

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param({"nope": {"count": 1}}, id="unknown thread"),
            pytest.param({"entrypoint": {"nope": 1}}, id="unknown variable"),
            pytest.param({"entrypoint": {"count": "many"}}, id="wrong type"),
            pytest.param({"entrypoint": {"count": 1, "note": {"a": 1}}}, id="one of two of a wrong type"),
        ],
    )
    async def test_bad_variables_are_refused(self, client: Client, values: dict[str, Any]) -> None:
        await started(client)
        before = await client.wf_run("r")
        assert await refused_with(apply(client, values=values)) == StatusCode.INVALID_ARGUMENT
        assert await client.wf_run("r") == before

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param({"packer": {"weight": 1}}, id="thread that is only a source"),
            pytest.param({"entrypoint": {"weight": 1}}, id="thread that is not in the plan"),
        ],
    )
    async def test_variables_of_threads_that_are_no_destination_are_refused(
        self, client: Client, values: dict[str, Any]
    ) -> None:
        await started(client, packs, ships, PACKER_TO_SHIPPER)
        assert await refused_with(apply(client, values=values)) == StatusCode.INVALID_ARGUMENT

    async def test_a_variable_of_a_child_is_out_of_the_scope_of_its_parent(self, client: Client) -> None:
        old, new = await started(client, packs, ships, PACKER_TO_SHIPPER)
        wait = {node_of(old, "WAIT_FOR_THREADS"): node_of(new, "WAIT_FOR_THREADS")}
        await put(client, old, new, {**PACKER_TO_SHIPPER, "entrypoint": ("entrypoint", wait)})
        values = {"entrypoint": {"weight": 1}}
        assert await refused_with(apply(client, values=values)) == StatusCode.INVALID_ARGUMENT


class TestAThreadThatWaitsAtAMappedNode:
    @pytest.mark.parametrize(
        ("kind", "wait"),
        [
            ("EXTERNAL_EVENT", lambda thread: thread.wait_for_event("paid")),
            ("USER_TASK", lambda thread: thread.assign_user_task("approve", user_id="ann")),
            (
                "WAIT_FOR_CONDITION",
                lambda thread: thread.wait_for_condition(thread.declare_bool("flag", False).is_equal_to(True)),
            ),
            ("WAIT_FOR_THREADS", packs),
            ("SLEEP", lambda thread: thread.sleep(3600)),
        ],
    )
    async def test_moves_at_once(self, client: Client, kind: str, wait: Callable[[WorkflowThread], Any]) -> None:
        old = await register(client, lambda thread: wait(thread) and None)
        before = (await client.run("order", "r")).thread_runs[0]
        new = await register(client, waits_for_shipment)
        await put(client, old, new, {"entrypoint": ("entrypoint", {node_of(old, kind): SHIPPED})})

        run = await apply(client)
        assert run.status == LHStatus.RUNNING
        assert (run.thread_runs[0].wf_spec_id, run.thread_runs[0].status) == (new.id, LHStatus.RUNNING)
        assert run.thread_runs[0].current_node_position == before.current_node_position + 1
        node = await client.node_run("r", before.current_node_position + 1)
        assert (node.node_name, node.wf_spec_id, node.status) == (SHIPPED, new.id, LHStatus.RUNNING)

        await client.post("packed", run="r")  # lets the child end, where there is one
        await client.post("shipped", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_the_run_is_of_the_new_version_and_remembers_the_old_one(self, client: Client) -> None:
        old, new = await started(client)
        run = await apply(client)
        assert run.id == WfRunId(id="r")
        assert run.wf_spec_id == new.id
        assert list(run.old_wf_spec_versions) == [old.id]
        assert not run.HasField("workflow_migration_plan_id")
        assert await client.wf_run("r") == run

    async def test_the_old_node_runs_stay_what_they_were(self, client: Client) -> None:
        old, _ = await started(client)
        await apply(client)
        assert (await client.node_run("r", 1)).node_name == PAID
        assert (await client.node_run("r", 1)).wf_spec_id == old.id

    async def test_an_event_of_the_old_node_is_not_taken_any_more(self, client: Client) -> None:
        await started(client)
        await apply(client)
        assert not (await client.post("paid", run="r")).claimed
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    async def test_an_event_that_is_there_already_completes_the_new_node(self, client: Client) -> None:
        await started(client)
        await client.post("shipped", run="r", guid="early")
        assert (await apply(client)).status == LHStatus.COMPLETED
        assert (await client.external_event("r", "shipped", "early")).claimed

    async def test_the_task_of_the_new_node_goes_to_a_worker(self, client: Client) -> None:
        def ships_by_task(thread: WorkflowThread) -> None:
            thread.execute("ship")

        await started(client, new=ships_by_task, threads={"entrypoint": ("entrypoint", {PAID: "1-ship-TASK"})})
        await apply(client)
        task = await client.claim("ship")
        assert task.task_run_id.wf_run_id == WfRunId(id="r")
        await client.report(task)
        assert (await client.until("r", LHStatus.COMPLETED)).status == LHStatus.COMPLETED

    async def test_a_run_can_move_again(self, client: Client) -> None:
        old, new = await started(client)
        await apply(client)
        third = await register(client, paid_then_packed)
        await put(client, new, third, {"entrypoint": ("entrypoint", {SHIPPED: PAID})}, "back")
        run = await apply(client, "back")
        assert run.wf_spec_id == third.id
        assert list(run.old_wf_spec_versions) == [old.id, new.id]

    async def test_other_runs_stay_where_they_are(self, client: Client) -> None:
        old, _ = await started(client)
        await client.stub.RunWf(RunWfRequest(wf_spec_name="order", id="other", major_version=0, revision=0))
        await apply(client)
        other = await client.wf_run("other")
        assert other.wf_spec_id == old.id
        assert not other.HasField("workflow_migration_plan_id")


class TestVariables:
    async def test_missing_variables_are_created_with_their_defaults(self, client: Client) -> None:
        await started(client)
        assert await is_missing(client.variable("r", "note"))
        await apply(client)
        assert await client.variable("r", "note") == to_variable_value("no note")
        assert await client.variable("r", "count") == VariableValue()

    async def test_variables_that_exist_keep_their_values(self, client: Client) -> None:
        await started(client)
        await apply(client)
        assert await client.variable("r", "text") == to_variable_value("old text")

    async def test_given_variables_are_assigned(self, client: Client) -> None:
        await started(client)
        await apply(client, values={"entrypoint": {"note": "by hand", "count": 7, "text": "changed"}})
        assert await client.variable("r", "note") == to_variable_value("by hand")
        assert await client.variable("r", "count") == to_variable_value(7)
        assert await client.variable("r", "text") == to_variable_value("changed")

    async def test_given_variables_are_there_when_the_new_node_starts(self, client: Client) -> None:
        def new(thread: WorkflowThread) -> None:
            thread.execute("send", thread.declare_str("address"))

        node = {PAID: "1-send-TASK"}
        await started(client, new=new, threads={"entrypoint": ("entrypoint", node)})
        await apply(client, values={"entrypoint": {"address": "London"}})
        task = await client.claim("send")
        assert [variable.value for variable in task.variables] == [to_variable_value("London")]


class TestAThreadThatIsElsewhere:
    async def test_stays_with_the_plan_pending(self, client: Client) -> None:
        old, _ = await started(client, paid_then_packed, threads=PACKED_TO_SHIPPED)
        run = await apply(client)
        assert run.workflow_migration_plan_id == WorkflowMigrationPlanId(name="plan")
        assert run.wf_spec_id == old.id
        assert list(run.old_wf_spec_versions) == []
        assert run.thread_runs[0].wf_spec_id == old.id
        assert run.thread_runs[0].current_node_position == 1
        assert await client.wf_run("r") == run

    async def test_moves_when_it_comes_to_a_mapped_node(self, client: Client) -> None:
        old, new = await started(client, paid_then_packed, threads=PACKED_TO_SHIPPED)
        await apply(client, values={"entrypoint": {"count": 7}})
        await client.post("paid", run="r")
        run = await client.wf_run("r")
        assert (run.status, run.wf_spec_id, list(run.old_wf_spec_versions)) == (LHStatus.RUNNING, new.id, [old.id])
        assert run.thread_runs[0].wf_spec_id == new.id
        assert not run.HasField("workflow_migration_plan_id")
        assert (await client.node_run("r", 1)).status == LHStatus.COMPLETED
        node = await client.node_run("r", 2)
        assert (node.node_name, node.wf_spec_id, node.status) == (SHIPPED, new.id, LHStatus.RUNNING)
        assert await client.variable("r", "count") == to_variable_value(7)
        await client.post("shipped", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_finishes_its_task_before_it_moves(self, client: Client) -> None:
        def old_way(thread: WorkflowThread) -> None:
            thread.execute("ship")
            thread.wait_for_event("packed")

        old, new = await started(client, old_way, threads=PACKED_TO_SHIPPED)
        task = await client.claim("ship")
        assert (await apply(client)).wf_spec_id == old.id
        await client.report(task)
        await client.reports_processed("r")
        run = await client.wf_run("r")
        assert (run.status, run.wf_spec_id) == (LHStatus.RUNNING, new.id)
        assert (await client.node_run("r", 1)).status == LHStatus.COMPLETED
        assert (await client.node_run("r", 2)).node_name == SHIPPED

    async def test_enters_the_new_task_in_place_of_the_old_one(self, client: Client) -> None:
        def old_way(thread: WorkflowThread) -> None:
            thread.wait_for_event("paid")
            thread.execute("ship")

        def new_way(thread: WorkflowThread) -> None:
            thread.execute("send", "London")

        _, new = await started(client, old_way, new_way, {"entrypoint": ("entrypoint", {"2-ship-TASK": "1-send-TASK"})})
        await apply(client)
        await client.post("paid", run="r")
        (task_run,) = await client.task_runs("r")
        assert task_run.task_def_id.name == "send"
        assert (await client.wf_run("r")).wf_spec_id == new.id

    async def test_completes_on_the_old_version_when_it_never_comes_to_a_mapped_node(self, client: Client) -> None:
        def old_way(thread: WorkflowThread) -> None:
            flag = thread.declare_bool("flag", False)
            thread.wait_for_event("paid")
            thread.do_if(flag.is_equal_to(True), waiting("packed"))

        old, _ = await started(
            client, old_way, threads={"entrypoint": ("entrypoint", {"3-packed-EXTERNAL_EVENT": SHIPPED})}
        )
        await apply(client)
        await client.post("paid", run="r")
        run = await client.wf_run("r")
        assert (run.status, run.wf_spec_id) == (LHStatus.COMPLETED, old.id)
        assert list(run.old_wf_spec_versions) == []


class TestChildThreads:
    async def test_a_child_moves_alone_when_only_it_is_in_the_plan(self, client: Client) -> None:
        old, new = await started(client, packs, ships, PACKER_TO_SHIPPER)
        run = await apply(client, values={"shipper": {"weight": 3}})
        parent, child = run.thread_runs
        assert (child.wf_spec_id, child.thread_spec_name, child.status) == (new.id, "shipper", LHStatus.RUNNING)
        assert (parent.wf_spec_id, parent.thread_spec_name) == (old.id, "entrypoint")
        assert (run.wf_spec_id, list(run.old_wf_spec_versions)) == (old.id, [])
        assert run.workflow_migration_plan_id.name == "plan"
        assert await client.wf_run("r") == run

        nodes = [node for node in await client.node_runs("r") if node.id.thread_run_number == 1]
        assert [node.node_name for node in nodes][1:] == [PACKED, SHIPPED]
        assert (nodes[-1].thread_spec_name, nodes[-1].wf_spec_id) == ("shipper", new.id)

        await client.post("shipped", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_parent_and_child_move_together(self, client: Client) -> None:
        def old_way(thread: WorkflowThread) -> None:
            thread.spawn_thread(waiting("packed"), "packer")
            thread.wait_for_event("paid")

        def new_way(thread: WorkflowThread) -> None:
            thread.spawn_thread(waiting("shipped"), "shipper")
            thread.wait_for_event("paid")

        paid = {"2-paid-EXTERNAL_EVENT": "2-paid-EXTERNAL_EVENT"}
        old, new = await started(client, old_way, new_way, {**PACKER_TO_SHIPPER, "entrypoint": ("entrypoint", paid)})
        run = await apply(client)
        assert [thread.wf_spec_id for thread in run.thread_runs] == [new.id, new.id]
        assert [thread.thread_spec_name for thread in run.thread_runs] == ["entrypoint", "shipper"]
        assert (run.wf_spec_id, list(run.old_wf_spec_versions)) == (new.id, [old.id])
        assert not run.HasField("workflow_migration_plan_id")
        for event in ("paid", "shipped"):
            assert (await client.post(event, run="r")).claimed
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_the_plan_stays_until_the_last_live_thread_has_moved(self, client: Client) -> None:
        def old_way(thread: WorkflowThread) -> None:
            thread.spawn_thread(waiting("packed"), "packer")
            thread.wait_for_event("paid")
            thread.wait_for_event("paid")

        def new_way(thread: WorkflowThread) -> None:
            thread.declare_str("text")
            old_way(thread)

        old, new = await started(
            client,
            old_way,
            new_way,
            {
                "packer": ("packer", {PACKED: PACKED}),
                "entrypoint": ("entrypoint", {"3-paid-EXTERNAL_EVENT": "3-paid-EXTERNAL_EVENT"}),
            },
        )
        run = await apply(client)
        assert [thread.wf_spec_id for thread in run.thread_runs] == [old.id, new.id]
        assert run.HasField("workflow_migration_plan_id")
        await client.post("paid", run="r")
        run = await client.wf_run("r")
        assert [thread.wf_spec_id for thread in run.thread_runs] == [new.id, new.id]
        assert not run.HasField("workflow_migration_plan_id")


async def test_migrate_wf_spec_is_unimplemented(client: Client) -> None:
    old = await register(client, waits_for_payment)
    new = await register(client, waits_for_shipment)
    request = MigrateWfSpecRequest(
        old_wf_spec=old.id,
        migration=WfSpecVersionMigration(new_major_version=new.id.major_version, new_revision=new.id.revision),
    )
    assert await refused_with(client.stub.MigrateWfSpec(request)) == StatusCode.UNIMPLEMENTED
