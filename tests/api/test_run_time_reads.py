"""Reads of user tasks, workflow events, archived threads and checkpoints, counts, and masks: api.md 3.3, 3.4, 7.3, 9.

Left untested:

* the masks of an attempt that has no output yet, of checkpoints and of scheduled inputs: their types are not declared;
* lists of more than 100 entries, and numbers of two digits in their order, which compare as text or as numbers;
* the queued kind of InactiveThreadRun: it is not said when a thread is queued.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from grpc import StatusCode
from littlehorse.lh_struct import LHStructField, class_to_put_struct_def_request, lh_struct_def
from littlehorse.model import (
    Array,
    AwaitWorkflowEventRequest,
    CheckpointId,
    CorrelatedEventConfig,
    CorrelatedEventId,
    CountNodeRunRequest,
    CountTaskRunRequest,
    DeleteCorrelatedEventRequest,
    ExternalEventDefId,
    InactiveThreadRunId,
    InlineArrayDef,
    InlineMapDef,
    LHStatus,
    ListExternalEventsRequest,
    ListNodeRunsRequest,
    ListTaskRunsRequest,
    ListUserTaskRunRequest,
    ListVariablesRequest,
    ListWorkflowEventsRequest,
    Map,
    NodeRunId,
    PutCheckpointRequest,
    PutExternalEventDefRequest,
    ReturnType,
    RunWfRequest,
    ScheduledTask,
    StructDefId,
    TaskRunId,
    TaskStatus,
    ThreadRetentionPolicy,
    TypeDefinition,
    UserTaskRunId,
    UserTaskRunStatus,
    VariableId,
    VariableType,
    VariableValue,
    WfRunId,
    WorkflowEventDefId,
    WorkflowEventId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from tests.api.client import (
    MASK,
    Client,
    assert_starts_over_or_is_refused,
    eventually,
    executes,
    external_event_id,
    is_missing,
    only_exit,
    refused_with,
    waits_for,
)
from tests.api.run_time import asks, put_form, put_thrown_def, user_task, user_tasks

LISTS: dict[str, Callable[..., Any]] = {
    "ListUserTaskRuns": ListUserTaskRunRequest,
    "ListWorkflowEvents": ListWorkflowEventsRequest,
}
every_list = pytest.mark.parametrize("call", LISTS)


def request_for(call: str, wf_run_id: str, **fields: Any) -> Any:
    return LISTS[call](wf_run_id=WfRunId(id=wf_run_id), **fields)


def event_id(wf_run_id: str, event_def: str, number: int) -> WorkflowEventId:
    return WorkflowEventId(
        wf_run_id=WfRunId(id=wf_run_id), workflow_event_def_id=WorkflowEventDefId(name=event_def), number=number
    )


def inactive_id(wf_run_id: str, number: int) -> InactiveThreadRunId:
    return InactiveThreadRunId(wf_run_id=WfRunId(id=wf_run_id), thread_run_number=number)


def busy(thread: WorkflowThread) -> None:
    """Throws five events of two kinds and starts five user tasks."""
    for number, event_def in enumerate(("shipped", "billed", "shipped", "billed", "shipped")):
        thread.throw_event(event_def, number)

    def approval(thread: WorkflowThread) -> None:
        thread.assign_user_task("approve", user_id="Ada").with_notes("please decide")

    thread.spawn_thread_for_each(thread.declare_json_arr("items", [1, 2, 3, 4, 5]), approval, "approval")


async def run_busy(client: Client, *wf_run_ids: str) -> None:
    """WfRuns of :func:`busy`."""
    await put_form(client)
    for event_def in ("shipped", "billed"):
        await put_thrown_def(client, event_def)
    await client.register(Workflow("busy", busy))
    for wf_run_id in wf_run_ids:
        await client.run("busy", wf_run_id)


class TestGet:
    @pytest.mark.parametrize(
        ("call", "request_"),
        [
            ("GetUserTaskRun", UserTaskRunId(wf_run_id=WfRunId(id="r"), user_task_guid="unknown")),
            ("GetUserTaskRun", UserTaskRunId()),
            ("GetWorkflowEvent", event_id("r", "shipped", 3)),
            ("GetWorkflowEvent", event_id("r", "billed", 2)),
            ("GetWorkflowEvent", event_id("r", "unknown", 0)),
            ("GetWorkflowEvent", event_id("nobody", "shipped", 0)),
            ("GetWorkflowEvent", WorkflowEventId()),
            ("GetInactiveThreadRun", inactive_id("r", 0)),
            ("GetInactiveThreadRun", inactive_id("r", 1)),
            ("GetInactiveThreadRun", inactive_id("r", 9)),
            ("GetInactiveThreadRun", inactive_id("nobody", 1)),
            ("GetInactiveThreadRun", InactiveThreadRunId()),
            ("GetCheckpoint", CheckpointId(task_run=TaskRunId(wf_run_id=WfRunId(id="r"), task_guid="unknown"))),
            ("GetCheckpoint", CheckpointId()),
        ],
    )
    async def test_a_missing_object_is_not_found(self, client: Client, call: str, request_: Any) -> None:
        await run_busy(client, "r")
        assert await refused_with(getattr(client.stub, call)(request_)) == StatusCode.NOT_FOUND

    @every_list
    async def test_a_get_shows_what_the_list_shows(self, client: Client, call: str) -> None:
        get = {"ListUserTaskRuns": "GetUserTaskRun", "ListWorkflowEvents": "GetWorkflowEvent"}[call]
        await run_busy(client, "r")
        reply = await getattr(client.stub, call)(request_for(call, "r"))
        assert len(reply.results) == 5
        for found in reply.results:
            assert await getattr(client.stub, get)(found.id) == found

    @pytest.mark.parametrize("call", ["GetUserTaskRun", "GetWorkflowEvent"])
    async def test_what_belongs_to_a_deleted_run_is_not_found(self, client: Client, call: str) -> None:
        await run_busy(client, "r")
        request = (await user_tasks(client))[0].id if call == "GetUserTaskRun" else event_id("r", "shipped", 0)
        await getattr(client.stub, call)(request)
        await client.delete("r")
        assert await refused_with(getattr(client.stub, call)(request)) == StatusCode.NOT_FOUND

    async def test_a_user_task_run_says_whose_it_is_and_where_it_came_from(self, client: Client) -> None:
        await put_form(client)
        await client.register(asks("order"))
        run = await client.run("order", "r", user="Ada", group="law")
        task = await user_task(client)
        assert (task.user_id, task.user_group, task.epoch) == ("Ada", "law", 1)
        assert task.status == UserTaskRunStatus.ASSIGNED
        assert (task.user_task_def_id.name, task.user_task_def_id.version) == ("approve", 0)
        assert not task.HasField("notes")
        assert not task.results
        assert task.scheduled_time.ToMilliseconds() >= run.start_time.ToMilliseconds()
        assert [event.WhichOneof("event") for event in task.events] == ["assigned"]
        node = await client.stub.GetNodeRun(task.node_run_id)
        assert node.user_task.user_task_run_id == task.id

    async def test_a_user_task_run_without_a_user_shows_none(self, client: Client) -> None:
        await put_form(client)
        await client.register(asks("order"))
        await client.run("order", "r", group="law")
        task = await user_task(client)
        assert task.status == UserTaskRunStatus.UNASSIGNED
        assert not task.HasField("user_id")
        assert task.user_group == "law"

    async def test_workflow_events_count_from_0_for_each_def_and_name_their_node(self, client: Client) -> None:
        await run_busy(client, "r")
        contents = {}
        for event_def, number in (("shipped", 0), ("shipped", 1), ("shipped", 2), ("billed", 0), ("billed", 1)):
            event = await client.stub.GetWorkflowEvent(event_id("r", event_def, number))
            assert event.id == event_id("r", event_def, number)
            assert event.created_at.ToMilliseconds() > 0
            node = await client.stub.GetNodeRun(event.node_run_id)
            assert node.throw_event.workflow_event_id == event.id
            contents[event_def, number] = event.content.int
        assert contents == {
            ("shipped", 0): 0,
            ("billed", 0): 1,
            ("shipped", 1): 2,
            ("billed", 1): 3,
            ("shipped", 2): 4,
        }


class TestList:
    @every_list
    async def test_an_unknown_run_gives_an_empty_list(self, client: Client, call: str) -> None:
        reply = await getattr(client.stub, call)(request_for(call, "nobody"))
        assert not reply.results
        assert not reply.HasField("bookmark")

    @every_list
    async def test_a_run_without_anything_to_list_has_an_empty_list(self, client: Client, call: str) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        reply = await getattr(client.stub, call)(request_for(call, "r"))
        assert not reply.results
        assert not reply.HasField("bookmark")

    @every_list
    async def test_a_list_covers_exactly_one_run(self, client: Client, call: str) -> None:
        await run_busy(client, "r", "r1", "r-1")
        reply = await getattr(client.stub, call)(request_for(call, "r"))
        assert [found.id.wf_run_id.id for found in reply.results] == ["r"] * 5

    @every_list
    async def test_a_list_does_not_cover_child_runs(self, client: Client, call: str) -> None:
        def parent(thread: WorkflowThread) -> None:
            thread.run_wf("busy")

        await run_busy(client)
        await client.register(Workflow("parent", parent))
        await client.run("parent", "r")
        child = (await client.node_run("r", 1)).run_child_wf.child_wf_run_id
        assert not (await getattr(client.stub, call)(request_for(call, "r"))).results
        reply = await getattr(client.stub, call)(LISTS[call](wf_run_id=child))
        assert [found.id.wf_run_id for found in reply.results] == [child] * 5

    @every_list
    @pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
    async def test_pages_join_to_the_whole_list(self, client: Client, call: str, limit: int) -> None:
        await run_busy(client, "r", "s")
        whole = await getattr(client.stub, call)(request_for(call, "r"))
        assert len(whole.results) == 5
        assert not whole.HasField("bookmark")
        pages = await client.pages(call, request_for(call, "r", limit=limit))
        assert [found for page in pages for found in page] == list(whole.results)
        assert all(len(page) <= limit for page in pages)

    @every_list
    async def test_a_limit_of_0_counts_as_unset(self, client: Client, call: str) -> None:
        await run_busy(client, "r")
        assert len((await getattr(client.stub, call)(request_for(call, "r", limit=0))).results) == 5

    @every_list
    async def test_a_negative_limit_is_refused(self, client: Client, call: str) -> None:
        await run_busy(client, "r")
        refused = getattr(client.stub, call)(request_for(call, "r", limit=-1))
        assert await refused_with(refused) == StatusCode.INVALID_ARGUMENT

    @every_list
    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"[]"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, call: str, bookmark: bytes
    ) -> None:
        await run_busy(client, "r")
        await assert_starts_over_or_is_refused(client, call, request_for(call, "r"), bookmark)

    async def test_user_task_runs_are_ordered_by_guid(self, client: Client) -> None:
        await run_busy(client, "r")
        guids = [task.id.user_task_guid for task in await user_tasks(client)]
        assert guids == sorted(guids)
        assert len(set(guids)) == 5

    async def test_workflow_events_are_ordered_by_def_and_number(self, client: Client) -> None:
        await run_busy(client, "r")
        reply = await client.stub.ListWorkflowEvents(request_for("ListWorkflowEvents", "r"))
        assert [(event.id.workflow_event_def_id.name, event.id.number) for event in reply.results] == [
            ("billed", 0),
            ("billed", 1),
            ("shipped", 0),
            ("shipped", 1),
            ("shipped", 2),
        ]


class TestGetInactiveThreadRun:
    @staticmethod
    async def archive(client: Client) -> None:
        """A run ``r`` whose thread 1 is over and no longer part of the WfRun."""

        def parent(thread: WorkflowThread) -> None:
            def child(thread: WorkflowThread) -> None:
                thread.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=0))
                thread.declare_str("note", "kept")

            thread.spawn_thread(child, "child")
            for _ in range(3):
                thread.wait_for_event("tick")

        await client.put_event_def("tick")
        await client.register(Workflow("order", parent))
        await client.run("order", "r")
        for _ in range(2):  # a thread is archived when its run moves
            await client.post("tick", run="r")

    async def test_an_archived_thread_is_read_apart_from_its_run(self, client: Client) -> None:
        await self.archive(client)
        run = await client.wf_run("r")
        assert [thread.number for thread in run.thread_runs] == [0]
        assert run.greatest_threadrun_number == 1
        inactive = await client.stub.GetInactiveThreadRun(inactive_id("r", 1))
        assert inactive.id == inactive_id("r", 1)
        assert inactive.WhichOneof("inactive_reason") == "archived"
        assert inactive.thread_run.number == 1
        assert inactive.thread_run.thread_spec_name == "child"
        assert inactive.thread_run.status == LHStatus.COMPLETED
        assert inactive.thread_run.parent_thread_id == 0

    async def test_the_nodes_and_variables_of_an_archived_thread_stay_readable(self, client: Client) -> None:
        await self.archive(client)
        node = await client.stub.GetNodeRun(NodeRunId(wf_run_id=WfRunId(id="r"), thread_run_number=1, position=0))
        assert node.status == LHStatus.COMPLETED
        variable = VariableId(wf_run_id=WfRunId(id="r"), thread_run_number=1, name="note")
        assert (await client.stub.GetVariable(variable)).value.str == "kept"

    async def test_an_archived_thread_is_deleted_with_its_run(self, client: Client) -> None:
        await self.archive(client)
        await client.stub.GetInactiveThreadRun(inactive_id("r", 1))
        await client.delete("r")
        assert await is_missing(client.stub.GetInactiveThreadRun(inactive_id("r", 1)))


class TestGetCheckpoint:
    @staticmethod
    async def checkpointed(client: Client) -> ScheduledTask:
        """A running task with two checkpoints."""
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "r")
        task = await client.claim("ship")
        for value, logs in (("packed", "it fits"), ("sealed", None)):
            await client.stub.PutCheckpoint(
                PutCheckpointRequest(
                    task_run_id=task.task_run_id, task_attempt=0, value=to_variable_value(value), logs=logs
                )
            )
        return task

    async def test_checkpoints_are_read_by_number(self, client: Client) -> None:
        task = await self.checkpointed(client)
        read = [
            await client.stub.GetCheckpoint(CheckpointId(task_run=task.task_run_id, checkpoint_number=number))
            for number in (0, 1)
        ]
        assert [found.id.checkpoint_number for found in read] == [0, 1]
        assert [found.value.str for found in read] == ["packed", "sealed"]
        assert read[0].logs == "it fits"
        assert not read[1].HasField("logs")
        assert all(found.created_at.ToMilliseconds() > 0 for found in read)
        assert all(found.id.task_run == task.task_run_id for found in read)

    @pytest.mark.parametrize("number", [2, -1])
    async def test_a_number_that_was_not_put_is_not_found(self, client: Client, number: int) -> None:
        task = await self.checkpointed(client)
        missing = CheckpointId(task_run=task.task_run_id, checkpoint_number=number)
        assert await refused_with(client.stub.GetCheckpoint(missing)) == StatusCode.NOT_FOUND

    async def test_checkpoints_outlive_their_task_but_not_their_run(self, client: Client) -> None:
        task = await self.checkpointed(client)
        first = CheckpointId(task_run=task.task_run_id)
        await client.report(task)
        await client.until("r", LHStatus.COMPLETED)
        assert (await client.stub.GetCheckpoint(first)).value.str == "packed"
        await client.delete("r")
        assert await is_missing(client.stub.GetCheckpoint(first))


class TestCountNodeRun:
    @staticmethod
    async def until(client: Client, expected: int, **spec: Any) -> None:
        """Return when the count is as expected; it may lag."""
        request = CountNodeRunRequest()
        if spec:
            request.wf_spec_filter.CopyFrom(CountNodeRunRequest.WfSpecFilter(**spec))

        async def counted() -> bool:
            return bool((await client.stub.CountNodeRun(request)).value == expected)

        await eventually(counted)

    async def test_without_filter_all_node_runs_are_counted(self, client: Client) -> None:
        await self.until(client, 0)
        await client.put_event_def("paid")
        await client.register(only_exit("order"))
        await client.register(waits_for("invoice", "paid"))
        for name, wf_run_id in (("order", "a"), ("order", "b"), ("invoice", "c")):
            await client.run(name, wf_run_id)
        await self.until(client, sum([len(await client.node_runs(one)) for one in ("a", "b", "c")]))
        await client.post("paid", run="c")
        await self.until(client, sum([len(await client.node_runs(one)) for one in ("a", "b", "c")]))
        await client.delete("c")
        await self.until(client, sum([len(await client.node_runs(one)) for one in ("a", "b")]))

    async def test_by_wf_spec_and_version(self, client: Client) -> None:
        def revised(thread: WorkflowThread) -> None:
            thread.declare_str("private")

        def breaking(thread: WorkflowThread) -> None:
            thread.declare_str("public").as_public()

        for number, workflow in enumerate(
            (only_exit("order"), Workflow("order", revised), Workflow("order", breaking), only_exit("order-2"))
        ):
            await client.register(workflow)
            for run in range(number + 1):
                await client.run(workflow.name, f"r{number}-{run}")
        each = len(await client.node_runs("r0-0"))
        await self.until(client, 6 * each, wf_spec_name="order")
        await self.until(client, 3 * each, wf_spec_name="order", wf_spec_major_version=0)
        await self.until(client, each, wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=0)
        await self.until(client, 2 * each, wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=1)
        await self.until(client, 3 * each, wf_spec_name="order", wf_spec_major_version=1, wf_spec_revision=0)
        await self.until(client, 4 * each, wf_spec_name="order-2")
        await self.until(client, 0, wf_spec_name="order", wf_spec_major_version=7)
        await self.until(client, 0, wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=7)
        await self.until(client, 0, wf_spec_name="unknown")

    async def test_a_revision_without_major_version_is_refused(self, client: Client) -> None:
        await client.register(only_exit("order"))
        only_revision = CountNodeRunRequest.WfSpecFilter(wf_spec_name="order", wf_spec_revision=0)
        call = client.stub.CountNodeRun(CountNodeRunRequest(wf_spec_filter=only_revision))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


class TestCountTaskRun:
    @staticmethod
    async def until(client: Client, task_def: str, expected: int) -> None:
        """Return when the count is as expected; it may lag."""

        async def counted() -> bool:
            return bool((await client.stub.CountTaskRun(CountTaskRunRequest(task_def_name=task_def))).value == expected)

        await eventually(counted)

    async def test_the_tasks_that_wait_for_a_worker_are_counted(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.put_task_def("bill")
        await client.register(executes("order", "ship", "bill"))
        await self.until(client, "ship", 0)
        for name in ("a", "b", "c"):
            await client.run("order", name)
        await self.until(client, "ship", 3)
        await self.until(client, "bill", 0)
        task = await client.claim("ship")
        await self.until(client, "ship", 2)
        await client.report(task)
        await self.until(client, "bill", 1)
        await client.delete("c")
        await self.until(client, "ship", 1)

    async def test_an_unknown_task_def_has_none(self, client: Client) -> None:
        assert (await client.stub.CountTaskRun(CountTaskRunRequest(task_def_name="unknown"))).value == 0

    async def test_a_task_def_is_needed(self, client: Client) -> None:
        assert await refused_with(client.stub.CountTaskRun(CountTaskRunRequest())) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("status", [status for status in TaskStatus.values() if status], ids=TaskStatus.Name)
    async def test_only_scheduled_tasks_can_be_counted(self, client: Client, status: TaskStatus) -> None:
        await client.put_task_def("ship")
        call = client.stub.CountTaskRun(CountTaskRunRequest(task_def_name="ship", status=status))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


class TestDeleteCorrelatedEvent:
    @staticmethod
    async def delete(client: Client, key: str, event_def: str = "signed") -> None:
        id_ = CorrelatedEventId(key=key, external_event_def_id=ExternalEventDefId(name=event_def))
        await client.stub.DeleteCorrelatedEvent(DeleteCorrelatedEventRequest(id=id_))

    @staticmethod
    async def define(client: Client) -> None:
        def waits(thread: WorkflowThread) -> None:
            thread.wait_for_event("signed", correlation_id=thread.declare_str("key"))

        for event_def in ("signed", "signed-2"):
            await client.put_event_def(event_def, correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", waits))

    async def test_only_the_event_that_is_named_is_deleted(self, client: Client) -> None:
        await self.define(client)
        for event_def, key in (("signed", "a"), ("signed", "b"), ("signed-2", "a")):
            await client.correlate(event_def, key)
        await self.delete(client, "a")
        assert await is_missing(client.correlated_event("signed", "a"))
        await client.correlated_event("signed", "b")
        await client.correlated_event("signed-2", "a")

    async def test_deleting_a_missing_event_is_fine(self, client: Client) -> None:
        await self.define(client)
        await self.delete(client, "nobody")
        await self.delete(client, "a", "unknown")
        await client.correlate("signed", "a")
        await self.delete(client, "a")
        await self.delete(client, "a")

    async def test_the_external_events_made_from_it_stay(self, client: Client) -> None:
        await self.define(client)
        await client.run("order", "r", key="a")
        (made,) = (await client.correlate("signed", "a")).external_events
        await client.until("r", LHStatus.COMPLETED)
        await self.delete(client, "a")
        assert await is_missing(client.correlated_event("signed", "a"))
        assert (await client.stub.GetExternalEvent(made)).claimed

    async def test_who_waits_later_waits_for_the_next_event_with_the_key(self, client: Client) -> None:
        await self.define(client)
        await client.correlate("signed", "a")
        await self.delete(client, "a")
        run = await client.run("order", "r", key="a")
        assert run.status == LHStatus.RUNNING
        await client.correlate("signed", "a")
        await client.until("r", LHStatus.COMPLETED)

    async def test_who_waits_already_goes_on_waiting(self, client: Client) -> None:
        await self.define(client)
        await client.run("order", "r", key="a")
        await self.delete(client, "a")
        await client.correlate("signed", "a")
        await client.until("r", LHStatus.COMPLETED)


SECRET = "4242-4242"


@lh_struct_def(name="card")
@dataclass(kw_only=True)
class Card:
    owner: str
    number: Annotated[str, LHStructField(masked=True)]
    pin: Annotated[int, LHStructField(masked=True)]


@lh_struct_def(name="customer")
@dataclass(kw_only=True)
class Customer:
    card: Card


ADAS_CARD = Card(owner="Ada", number=SECRET, pin=-97531)
ADA = Customer(card=ADAS_CARD)
CARD = TypeDefinition(struct_def_id=StructDefId(name="card", version=0))
CUSTOMER = TypeDefinition(struct_def_id=StructDefId(name="customer", version=0))


def assert_masked(reply: Any) -> None:
    """The secrets of the card are nowhere in a reply, but what stands for them is, and the name of its owner."""
    text = str(reply)
    assert SECRET not in text
    assert str(ADAS_CARD.pin) not in text
    assert MASK in text
    assert ADAS_CARD.owner in text


R = WfRunId(id="r")


async def get_task_run(stub: Any) -> Any:
    (listed,) = (await stub.ListTaskRuns(ListTaskRunsRequest(wf_run_id=R))).results
    return await stub.GetTaskRun(listed.id)


READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "GetVariable": lambda stub: stub.GetVariable(VariableId(wf_run_id=R, name="customer")),
    "ListVariables": lambda stub: stub.ListVariables(ListVariablesRequest(wf_run_id=R)),
    "GetWfRun (output)": lambda stub: stub.GetWfRun(R),
    "GetNodeRun (failure)": lambda stub: stub.GetNodeRun(NodeRunId(wf_run_id=R, thread_run_number=1, position=1)),
    "ListNodeRuns (failure)": lambda stub: stub.ListNodeRuns(ListNodeRunsRequest(wf_run_id=R)),
    "GetTaskRun": get_task_run,
    "ListTaskRuns": lambda stub: stub.ListTaskRuns(ListTaskRunsRequest(wf_run_id=R)),
    "GetExternalEvent": lambda stub: stub.GetExternalEvent(external_event_id("r", "moved", "a")),
    "ListExternalEvents": lambda stub: stub.ListExternalEvents(ListExternalEventsRequest(wf_run_id=R)),
    "GetCorrelatedEvent": lambda stub: stub.GetCorrelatedEvent(
        CorrelatedEventId(key="a", external_event_def_id=ExternalEventDefId(name="moved"))
    ),
    "GetWorkflowEvent": lambda stub: stub.GetWorkflowEvent(event_id("r", "shipped", 0)),
    "ListWorkflowEvents": lambda stub: stub.ListWorkflowEvents(ListWorkflowEventsRequest(wf_run_id=R)),
    "AwaitWorkflowEvent": lambda stub: stub.AwaitWorkflowEvent(
        AwaitWorkflowEventRequest(wf_run_id=R, event_def_ids=[WorkflowEventDefId(name="shipped")])
    ),
}


class TestMasking:
    @staticmethod
    async def move(client: Client) -> ScheduledTask:
        """A run ``r`` in which a card goes everywhere, and waits for ``moved`` in the end; returns its task."""

        def child(thread: WorkflowThread) -> None:
            thread.fail("stolen", "it is gone", thread.declare_struct("card", Card))

        def ignore(thread: WorkflowThread) -> None:
            pass

        def entrypoint(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            thread.throw_event("shipped", customer)
            thread.execute("charge", customer)
            spawned = thread.spawn_thread(child, "child", {"card": customer.get("card")})
            thread.handle_any_failure(thread.wait_for_threads(SpawnedThreads.from_list(spawned)), ignore)
            thread.complete(thread.wait_for_event("moved"))

        for cls in (Card, Customer):
            await client.stub.PutStructDef(class_to_put_struct_def_request(cls))
        await client.put_task_def("charge", {"customer": CUSTOMER}, CUSTOMER)
        await put_thrown_def(client, "shipped")
        await client.stub.PutExternalEventDef(
            PutExternalEventDefRequest(
                name="moved",
                content_type=ReturnType(return_type=CUSTOMER),
                correlated_event_config=CorrelatedEventConfig(),
            )
        )
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", customer=ADA)
        task = await client.claim("charge")
        await client.report(task, output=ADA)
        await client.reports_processed("r")
        return task

    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    async def test_a_masked_struct_field_is_masked_in_every_response(
        self, client: Client, read: Callable[[Any], Awaitable[Any]]
    ) -> None:
        await self.move(client)
        await client.post("moved", ADA, run="r", guid="a")
        await client.correlate("moved", "a", ADA)
        await client.until("r", LHStatus.COMPLETED)
        assert_masked(await read(client.stub))

    async def test_replies_to_commands_are_masked_too(self, client: Client) -> None:
        def echo(thread: WorkflowThread) -> None:
            thread.complete(thread.declare_struct("customer", Customer))

        await self.move(client)
        assert_masked(await client.post("moved", ADA, run="r"))
        assert_masked(await client.correlate("moved", "a", ADA))
        await client.register(Workflow("echo", echo))
        assert_masked(await client.run("echo", customer=ADA))

    async def test_a_worker_sees_masked_struct_fields(self, client: Client) -> None:
        task = await self.move(client)
        card = task.variables[0].value.struct.struct.fields["card"].value.struct.struct.fields
        assert card["number"].value.str == SECRET
        assert card["pin"].value.int == ADAS_CARD.pin

    async def test_a_masked_struct_field_says_so_and_is_a_string(self, client: Client) -> None:
        await self.move(client)
        customer = await client.variable("r", "customer")
        card = customer.struct.struct.fields["card"].value.struct.struct.fields
        assert {name: field.masked for name, field in card.items()} == {"owner": False, "number": True, "pin": True}
        assert {name: field.value.str for name, field in card.items()} == {"owner": "Ada", "number": MASK, "pin": MASK}

    async def test_structs_inside_arrays_and_maps_are_masked(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_json_arr("cards")
            thread.declare_json_obj("by-name")

        await client.stub.PutStructDef(class_to_put_struct_def_request(Card))
        request = Workflow("order", entrypoint).compile()
        cards, by_name = request.thread_specs["entrypoint"].variable_defs
        array = TypeDefinition(inline_array_def=InlineArrayDef(array_type=CARD))
        cards.var_def.type_def.CopyFrom(array)
        text = TypeDefinition(primitive_type=VariableType.STR)
        by_name.var_def.type_def.CopyFrom(TypeDefinition(inline_map_def=InlineMapDef(key_type=text, value_type=array)))
        await client.stub.PutWfSpec(request)
        items = VariableValue(array=Array(items=[to_variable_value(ADAS_CARD)]))
        named = VariableValue(map=Map(entries=[Map.Entry(key=to_variable_value("a"), value=items)]))
        await client.stub.RunWf(
            RunWfRequest(wf_spec_name="order", id="r", variables={"cards": items, "by-name": named})
        )
        for name in ("cards", "by-name"):
            assert_masked(await client.variable("r", name))

    @pytest.mark.parametrize("value", [None, True, {"number": SECRET}, [SECRET]], ids=str)
    async def test_a_masked_variable_is_masked_whatever_its_type(self, client: Client, value: Any) -> None:
        kind = {bool: VariableType.BOOL, dict: VariableType.JSON_OBJ, list: VariableType.JSON_ARR}

        def entrypoint(thread: WorkflowThread) -> None:
            thread.add_variable("secret", kind.get(type(value), VariableType.STR)).masked()

        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", secret=value)
        assert await client.variable("r", "secret") == VariableValue(str=MASK)

    async def test_a_masked_struct_variable_is_masked_as_a_whole(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_struct("card", Card).masked()

        await client.stub.PutStructDef(class_to_put_struct_def_request(Card))
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", card=ADAS_CARD)
        assert await client.variable("r", "card") == VariableValue(str=MASK)

    async def test_masked_inputs_and_output_of_a_struct_type_are_masked_as_a_whole(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.execute("charge", thread.declare_struct("card", Card))

        await client.stub.PutStructDef(class_to_put_struct_def_request(Card))
        whole = TypeDefinition(struct_def_id=StructDefId(name="card", version=0), masked=True)
        await client.put_task_def("charge", {"card": whole}, whole)
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", card=ADAS_CARD)
        task = await client.claim("charge")
        assert task.variables[0].masked
        assert task.variables[0].value.struct.struct.fields["number"].value.str == SECRET
        await client.report(task, output=ADAS_CARD)
        read = await client.until_task(task.task_run_id, TaskStatus.TASK_SUCCESS)
        assert read.input_variables[0].value == VariableValue(str=MASK)
        assert read.attempts[0].output == VariableValue(str=MASK)
