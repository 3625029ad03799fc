"""Gets, Lists and masking: api.md 3.3, 3.4, 9.1, 9.2 and 9.3."""

from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode
from littlehorse.model import (
    CorrelatedEventConfig,
    ExternalEventId,
    ListExternalEventsRequest,
    ListNodeRunsRequest,
    ListTaskRunsRequest,
    ListVariablesRequest,
    NodeRunId,
    TaskRunId,
    VariableId,
    VariableType,
    WfRunId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    MASK,
    Client,
    assert_starts_over_or_is_refused,
    is_missing,
    masked,
    only_exit,
    refused_with,
    waits_for,
)

LISTS: dict[str, Callable[..., Any]] = {
    "ListNodeRuns": ListNodeRunsRequest,
    "ListTaskRuns": ListTaskRunsRequest,
    "ListVariables": ListVariablesRequest,
    "ListExternalEvents": ListExternalEventsRequest,
}
every_list = pytest.mark.parametrize("call", LISTS)


def busy(name: str) -> Workflow:
    """Five variables, then a chain of eleven events, then a task: thirteen NodeRuns and one TaskRun."""

    def entrypoint(thread: WorkflowThread) -> None:
        for variable in ("e", "c", "a", "d", "b"):
            thread.declare_str(variable)
        for _ in range(11):
            thread.wait_for_event("tick")
        thread.execute("ship")

    return Workflow(name, entrypoint)


async def run_busy(client: Client, *wf_run_ids: str) -> None:
    """WfRuns of :func:`busy`, each with its eleven events."""
    await client.put_task_def("ship")
    await client.put_event_def("tick")
    await client.register(busy("busy"))
    for wf_run_id in wf_run_ids:
        await client.run("busy", wf_run_id)
        for number in range(11):
            await client.post("tick", number, run=wf_run_id, guid=f"g{number}")


def request_for(call: str, wf_run_id: str, **fields: Any) -> Any:
    return LISTS[call](wf_run_id=WfRunId(id=wf_run_id), **fields)


class TestGet:
    @pytest.mark.parametrize(
        ("call", "request_"),
        [
            ("GetWfRun", WfRunId(id="nobody")),
            ("GetWfRun", WfRunId(id="R")),
            ("GetWfRun", WfRunId()),
            ("GetWfRun", WfRunId(id="r", parent_wf_run_id=WfRunId(id="r"))),
            ("GetNodeRun", NodeRunId(wf_run_id=WfRunId(id="nobody"))),
            ("GetNodeRun", NodeRunId(wf_run_id=WfRunId(id="r"), position=2)),
            ("GetNodeRun", NodeRunId(wf_run_id=WfRunId(id="r"), thread_run_number=1)),
            ("GetTaskRun", TaskRunId(wf_run_id=WfRunId(id="r"), task_guid="0-1")),
            ("GetTaskRun", TaskRunId()),
            ("GetVariable", VariableId(wf_run_id=WfRunId(id="r"), name="unknown")),
            ("GetVariable", VariableId(wf_run_id=WfRunId(id="r"), thread_run_number=1, name="text")),
            ("GetVariable", VariableId(wf_run_id=WfRunId(id="nobody"), name="text")),
            ("GetExternalEvent", ExternalEventId()),
        ],
    )
    async def test_a_missing_object_is_not_found(self, client: Client, call: str, request_: Any) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_str("text")

        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")
        assert await refused_with(getattr(client.stub, call)(request_)) == StatusCode.NOT_FOUND

    async def test_a_node_run_appears_when_it_is_reached(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert await is_missing(client.node_run("r", 2))
        await client.post("paid", run="r")
        node = await client.node_run("r", 2)
        assert node.WhichOneof("node_type") == "exit"
        assert node.HasField("end_time")

    async def test_a_get_shows_what_the_list_shows(self, client: Client) -> None:
        await run_busy(client, "r")
        for node in await client.node_runs("r"):
            assert await client.stub.GetNodeRun(node.id) == node
        for task in await client.task_runs("r"):
            assert await client.stub.GetTaskRun(task.id) == task
        for call, get in (("ListVariables", "GetVariable"), ("ListExternalEvents", "GetExternalEvent")):
            reply = await getattr(client.stub, call)(request_for(call, "r"))
            assert reply.results
            for found in reply.results:
                assert await getattr(client.stub, get)(found.id) == found


class TestList:
    @every_list
    async def test_an_unknown_run_gives_an_empty_list(self, client: Client, call: str) -> None:
        reply = await getattr(client.stub, call)(request_for(call, "nobody"))
        assert not reply.results
        assert not reply.HasField("bookmark")

    @every_list
    async def test_a_list_covers_exactly_one_run(self, client: Client, call: str) -> None:
        await run_busy(client, "r", "r1", "r-1")
        reply = await getattr(client.stub, call)(request_for(call, "r"))
        assert reply.results
        assert {found.id.wf_run_id.id for found in reply.results} == {"r"}

    @every_list
    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 11, 12, 13, 100])
    async def test_pages_join_to_the_whole_list(self, client: Client, call: str, limit: int) -> None:
        await run_busy(client, "r", "s")
        whole = await getattr(client.stub, call)(request_for(call, "r"))
        assert not whole.HasField("bookmark")
        pages = await client.pages(call, request_for(call, "r", limit=limit))
        assert [found for page in pages for found in page] == list(whole.results)
        assert all(len(page) == limit for page in pages[:-1])
        assert len(pages[-1]) <= limit

    @every_list
    async def test_a_negative_limit_is_refused(self, client: Client, call: str) -> None:
        await run_busy(client, "r")
        assert await refused_with(getattr(client.stub, call)(request_for(call, "r", limit=-1))) == (
            StatusCode.INVALID_ARGUMENT
        )

    @every_list
    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"[]", b"null", b"[18446744073709551615]"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, call: str, bookmark: bytes
    ) -> None:
        await run_busy(client, "r")
        await assert_starts_over_or_is_refused(client, call, request_for(call, "r"), bookmark)

    async def test_the_limit_is_100_when_it_is_unset_or_0(self, client: Client) -> None:
        await client.put_event_def("tick")
        for number in range(101):
            await client.post("tick", run="r", guid=f"g{number}")
        for fields in ({}, {"limit": 0}):
            pages = await client.pages("ListExternalEvents", request_for("ListExternalEvents", "r", **fields))
            assert [len(page) for page in pages] == [100, 1]

    async def test_rows_written_between_pages_do_not_repeat_or_hide_the_others(self, client: Client) -> None:
        await client.put_event_def("tick")
        for guid in ("b", "d", "f", "h"):
            await client.post("tick", run="r", guid=guid)
        request = request_for("ListExternalEvents", "r", limit=2)
        first = await client.stub.ListExternalEvents(request)
        for guid in ("a", "c", "e", "g", "i"):
            await client.post("tick", run="r", guid=guid)
        request.bookmark = first.bookmark
        rest = await client.pages("ListExternalEvents", request)
        guids = [found.id.guid for page in [list(first.results), *rest] for found in page]
        assert len(guids) == len(set(guids))
        assert {"b", "d", "f", "h"} <= set(guids)
        assert guids == sorted(guids)


class TestOrder:
    async def test_node_runs_are_ordered_by_number(self, client: Client) -> None:
        await run_busy(client, "r")
        assert [node.id.position for node in await client.node_runs("r")] == list(range(13))

    async def test_node_runs_can_be_asked_for_by_thread(self, client: Client) -> None:
        await run_busy(client, "r")
        request = request_for("ListNodeRuns", "r", thread_run_number=0)
        assert list((await client.stub.ListNodeRuns(request)).results) == await client.node_runs("r")
        request = request_for("ListNodeRuns", "r", thread_run_number=1)
        assert not (await client.stub.ListNodeRuns(request)).results

    async def test_variables_are_ordered_by_name(self, client: Client) -> None:
        await run_busy(client, "r")
        reply = await client.stub.ListVariables(request_for("ListVariables", "r"))
        assert [variable.id.name for variable in reply.results] == ["a", "b", "c", "d", "e"]

    async def test_external_events_are_ordered_by_def_and_guid(self, client: Client) -> None:
        await client.put_event_def("sent")
        await client.put_event_def("paid")
        for event_def, guid in (("sent", "a"), ("paid", "z"), ("sent", "B"), ("paid", "b")):
            await client.post(event_def, run="r", guid=guid)
        reply = await client.stub.ListExternalEvents(request_for("ListExternalEvents", "r"))
        found = [(event.id.external_event_def_id.name, event.id.guid) for event in reply.results]
        assert found == [("paid", "b"), ("paid", "z"), ("sent", "B"), ("sent", "a")]

    async def test_task_runs_are_ordered_by_guid(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            for _ in range(3):
                thread.execute("ship")

        await client.put_task_def("ship")
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")
        for number in range(3):
            await client.report(await client.claim("ship"))
            await client.reports_processed("r")
            assert len(await client.task_runs("r")) == min(number + 2, 3)
        guids = [task.id.task_guid for task in await client.task_runs("r")]
        assert guids == sorted(guids)


class TestMasking:
    async def test_a_masked_variable_is_masked_in_every_response(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_int("secret").masked()
            thread.declare_int("open")

        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", secret=7, open=8)
        assert (await client.variable("r", "secret")).str == MASK
        assert (await client.variable("r", "open")).int == 8
        reply = await client.stub.ListVariables(request_for("ListVariables", "r"))
        assert [(found.id.name, found.masked) for found in reply.results] == [("open", False), ("secret", True)]
        assert [found.value.str for found in reply.results] == ["", MASK]

    async def test_masked_inputs_and_outputs_of_a_task_are_masked(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            secret = thread.declare_str("secret").masked()
            token = thread.declare_str("token").masked()
            token.assign(thread.execute("login", secret, "Ada"))
            thread.execute("use", token)

        await client.put_task_def(
            "login", {"password": masked(VariableType.STR), "user": VariableType.STR}, masked(VariableType.STR)
        )
        await client.put_task_def("use", {"token": VariableType.STR})
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", secret="sesame")
        task = await client.claim("login")
        assert [variable.value.str for variable in task.variables] == ["sesame", "Ada"]
        await client.report(task, output="t0ken")

        following = await client.claim("use")
        assert following.variables[0].value.str == "t0ken"
        assert (await client.variable("r", "token")).str == MASK
        listed, _ = await client.task_runs("r")
        for task_run in (await client.task_run(task.task_run_id), listed):
            assert [variable.value.str for variable in task_run.input_variables] == [MASK, "Ada"]
            assert [variable.masked for variable in task_run.input_variables] == [True, False]
            assert task_run.attempts[0].output.str == MASK
            assert task_run.attempts[0].masked_value

    async def test_a_masked_correlation_key_is_masked(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            key = thread.declare_str("key")
            thread.wait_for_event("paid", correlation_id=key, mask_correlation_id=True)
            thread.wait_for_event("paid", correlation_id=key)

        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", key="secret")
        await client.post("paid", run="r")
        assert (await client.node_run("r", 1)).external_event.correlation_key == MASK
        listed = [node.external_event.correlation_key for node in await client.node_runs("r")]
        assert listed == ["", MASK, "secret"]


async def test_a_run_without_anything_to_list_has_empty_lists(client: Client) -> None:
    await client.register(only_exit("order"))
    await client.run("order", "r")
    for call in ("ListTaskRuns", "ListVariables", "ListExternalEvents"):
        assert not (await getattr(client.stub, call)(request_for(call, "r"))).results
