"""Searches over run-time objects other than WfRuns: api.md 7.3, 9.1 and 9.4.

Almost every search is followed to its end with pages of one and of two entries, which must agree and be in order of
creation.

Left untested:

* which elements of a JSON_ARR an index with a path finds: the two descriptions differ;
* whether an INT finds an equal DOUBLE, and what a number finds in a STR variable: "exact match" does not say;
* a revision without major version in SearchVariable, an unset definition in SearchNodeRun, SearchCorrelatedEvent and
  SearchTaskRun: no outcome is stated;
* entries of other tenants, which belong to the tests of tenants.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from grpc.aio import AioRpcError
from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CorrelatedEventConfig,
    CorrelatedEventId,
    ExternalEventDefId,
    JsonIndex,
    LHStatus,
    PutUserTaskDefRequest,
    SearchCorrelatedEventRequest,
    SearchExternalEventRequest,
    SearchNodeRunRequest,
    SearchTaskRunRequest,
    SearchUserTaskRunRequest,
    SearchVariableRequest,
    SearchWorkflowEventRequest,
    StopWfRunRequest,
    TaskStatus,
    UserTaskRunStatus,
    VariableType,
    VariableValue,
    WfRunId,
    WorkflowEventDefId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    MASK,
    Client,
    assert_starts_over_or_is_refused,
    eventually,
    executes,
    refused_with,
    waits_for,
)
from tests.api.run_time import asks, complete, put_form, put_thrown_def, stamp, user_task


class Search(NamedTuple):
    """How one kind of object is searched, read and dated."""

    request: Callable[..., Any]
    get: str
    created: str
    criteria: dict[str, Any]
    """What finds the objects that :func:`write` makes."""


SEARCHES = {
    "SearchTaskRun": Search(SearchTaskRunRequest, "GetTaskRun", "scheduled_at", {"task_def_name": "ship"}),
    "SearchNodeRun": Search(
        SearchNodeRunRequest,
        "GetNodeRun",
        "arrival_time",
        {"external_event_def": ExternalEventDefId(name="paid"), "status": LHStatus.RUNNING},
    ),
    "SearchUserTaskRun": Search(SearchUserTaskRunRequest, "GetUserTaskRun", "scheduled_time", {"user_id": "Ada"}),
    "SearchVariable": Search(
        SearchVariableRequest,
        "GetVariable",
        "created_at",
        {"wf_spec_name": "order", "var_name": "note", "value": to_variable_value("open")},
    ),
    "SearchExternalEvent": Search(
        SearchExternalEventRequest,
        "GetExternalEvent",
        "created_at",
        {"external_event_def_id": ExternalEventDefId(name="seen")},
    ),
    "SearchCorrelatedEvent": Search(
        SearchCorrelatedEventRequest,
        "GetCorrelatedEvent",
        "created_at",
        {"external_event_def_id": ExternalEventDefId(name="signed")},
    ),
    "SearchWorkflowEvent": Search(
        SearchWorkflowEventRequest,
        "GetWorkflowEvent",
        "created_at",
        {"workflow_event_def_id": WorkflowEventDefId(name="shipped")},
    ),
}
every_search = pytest.mark.parametrize("call", SEARCHES)
every_search_by_time = pytest.mark.parametrize("call", [call for call in SEARCHES if call != "SearchVariable"])
every_search_in_a_run = pytest.mark.parametrize("call", [call for call in SEARCHES if call != "SearchCorrelatedEvent"])


def order(thread: WorkflowThread) -> None:
    """Throws an event, starts a task and a user task, and waits: something for most searches to find."""

    def shipping(thread: WorkflowThread) -> None:
        thread.execute("ship")

    def approval(thread: WorkflowThread) -> None:
        thread.assign_user_task("approve", user_id="Ada")

    note = thread.declare_str("note", "open").searchable()
    thread.throw_event("shipped", note)
    thread.spawn_thread(shipping, "shipping")
    thread.spawn_thread(approval, "approval")
    thread.wait_for_event("paid")


async def define(client: Client) -> None:
    """The definitions that :func:`write` needs."""
    await client.put_task_def("ship")
    await client.put_event_def("paid")
    await client.put_event_def("seen")
    await client.put_event_def("signed", correlated=CorrelatedEventConfig())
    await put_form(client)
    await put_thrown_def(client, "shipped")
    await client.register(Workflow("order", order))


async def write(client: Client, *names: str) -> None:
    """One object of this name for every search to find."""
    for name in names:
        await client.run("order", name)
        await client.post("seen", run=name)
        await client.correlate("signed", name)


def request_for(call: str, **more: Any) -> Any:
    """A request that finds what :func:`write` made."""
    return SEARCHES[call].request(**SEARCHES[call].criteria, **more)


def name_of(found: Any) -> str:
    """The key of a CorrelatedEvent, else the id of the WfRun that the object belongs to."""
    return str(found.key if isinstance(found, CorrelatedEventId) else found.wf_run_id.id)


async def created(client: Client, call: str, found: Any) -> Timestamp:
    """When an object came into being."""
    at: Timestamp = getattr(await getattr(client.stub, SEARCHES[call].get)(found), SEARCHES[call].created)
    return at


async def found_by(client: Client, call: str, request: Any) -> list[Any]:
    """The ids that a search finds: each once, oldest first, whatever the size of the pages."""
    results: list[list[Any]] = []
    for limit in (1, 2):
        paged = SEARCHES[call].request()
        paged.CopyFrom(request)
        paged.limit = limit
        pages = await client.pages(call, paged)
        assert all(len(page) <= limit for page in pages)
        results.append([one for page in pages for one in page])
    assert results[0] == results[1]
    found = results[0]
    assert len({one.SerializeToString(deterministic=True) for one in found}) == len(found)
    keys = [((await created(client, call, one)).ToNanoseconds(), name_of(one)) for one in found]
    assert keys == sorted(keys)
    return found


async def search(client: Client, call: str, **criteria: Any) -> list[str]:
    """The sorted names of what a search finds; its order is checked on the way."""
    return sorted(name_of(one) for one in await found_by(client, call, SEARCHES[call].request(**criteria)))


class TestEverySearch:
    @every_search
    async def test_nothing_found_is_an_empty_page(self, client: Client, call: str) -> None:
        await define(client)
        reply = await getattr(client.stub, call)(request_for(call))
        assert not reply.results
        assert not reply.HasField("bookmark")

    @every_search
    async def test_pages_join_to_the_whole_result_oldest_first(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "e", "a", "d", "b", "c")
        whole = await getattr(client.stub, call)(request_for(call))
        assert not whole.HasField("bookmark")
        assert sorted(name_of(one) for one in whole.results) == ["a", "b", "c", "d", "e"]
        assert await found_by(client, call, request_for(call)) == list(whole.results)

    @every_search
    async def test_rows_written_between_pages_do_not_repeat_or_hide_the_others(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "b", "d", "f")
        request = request_for(call, limit=2)
        first = await getattr(client.stub, call)(request)
        assert len(first.results) == 2
        await write(client, "a", "c", "e", "g")
        request.bookmark = first.bookmark
        rest = await client.pages(call, request)
        names = [name_of(one) for page in [list(first.results), *rest] for one in page]
        assert len(names) == len(set(names))
        assert {"b", "d", "f"} <= set(names)

    @every_search
    async def test_a_limit_of_0_counts_as_unset(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "a", "b")
        reply = await getattr(client.stub, call)(request_for(call, limit=0))
        assert len(reply.results) == 2
        assert not reply.HasField("bookmark")

    @every_search
    async def test_a_negative_limit_is_refused(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "a")
        refused = getattr(client.stub, call)(request_for(call, limit=-1))
        assert await refused_with(refused) == StatusCode.INVALID_ARGUMENT

    @every_search
    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"[]"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, call: str, bookmark: bytes
    ) -> None:
        await define(client)
        await write(client, "a", "b")
        await assert_starts_over_or_is_refused(client, call, request_for(call), bookmark)

    @every_search_by_time
    async def test_the_time_range_is_inclusive(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "e", "a", "d", "b", "c")
        ids = await found_by(client, call, request_for(call))
        assert len(ids) == 5
        times = [await created(client, call, one) for one in ids]

        async def within(earliest: Timestamp | None, latest: Timestamp | None) -> list[Any]:
            return await found_by(client, call, request_for(call, earliest_start=earliest, latest_start=latest))

        for first, last in ((1, 3), (0, 4), (2, 2)):
            low, high = times[first], times[last]
            inside = range(low.ToNanoseconds(), high.ToNanoseconds() + 1)
            expected = [one for one, time in zip(ids, times, strict=True) if time.ToNanoseconds() in inside]
            assert await within(low, high) == expected
        assert await within(times[0], None) == ids
        assert await within(None, times[4]) == ids
        assert await within(stamp(times[4].ToMilliseconds() + 1), None) == []
        assert await within(None, stamp(times[0].ToMilliseconds() - 1)) == []

    @every_search_by_time
    async def test_a_zero_time_counts_as_unset(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "a")
        reply = await getattr(client.stub, call)(
            request_for(call, earliest_start=Timestamp(), latest_start=Timestamp())
        )
        assert [name_of(one) for one in reply.results] == ["a"]

    @every_search_in_a_run
    async def test_what_was_deleted_with_its_run_is_not_found(self, client: Client, call: str) -> None:
        await define(client)
        await write(client, "a", "b", "c")
        await client.delete("b")
        assert [name_of(one) for one in await found_by(client, call, request_for(call))] == ["a", "c"]


class TestSearchTaskRun:
    async def test_by_task_def(self, client: Client) -> None:
        for task_def in ("ship", "ship-2"):
            await client.put_task_def(task_def)
            await client.register(executes(task_def, task_def))
            for name in ("a", "b", "c"):
                await client.run(task_def, f"{task_def}-{name}")
        assert await search(client, "SearchTaskRun", task_def_name="ship") == ["ship-a", "ship-b", "ship-c"]
        assert await search(client, "SearchTaskRun", task_def_name="shi") == []

    async def test_an_unknown_task_def_finds_nothing(self, client: Client) -> None:
        assert await search(client, "SearchTaskRun", task_def_name="unknown") == []

    async def test_all_task_runs_of_a_run_are_found(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship", "ship"))
        await client.run("order", "r")
        await client.report(await client.claim("ship"))
        await client.reports_processed("r")
        assert await search(client, "SearchTaskRun", task_def_name="ship") == ["r", "r"]

    async def test_by_status(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        for name in ("a", "b", "c", "d", "e"):
            await client.run("order", name)

        async def now(status: TaskStatus) -> list[str]:
            return await search(client, "SearchTaskRun", task_def_name="ship", status=status)

        assert await now(TaskStatus.TASK_SCHEDULED) == ["a", "b", "c", "d", "e"]  # zero is a status, not "any"
        tasks = [await client.claim("ship") for _ in range(3)]
        assert await now(TaskStatus.TASK_SCHEDULED) == ["d", "e"]
        assert await now(TaskStatus.TASK_RUNNING) == ["a", "b", "c"]
        for task, status in zip(tasks, (TaskStatus.TASK_SUCCESS, TaskStatus.TASK_FAILED), strict=False):
            await client.report(task, status)
            await client.until_task(task.task_run_id, status)
        assert await now(TaskStatus.TASK_RUNNING) == ["c"]
        assert await now(TaskStatus.TASK_SUCCESS) == ["a"]
        assert await now(TaskStatus.TASK_FAILED) == ["b"]
        assert await now(TaskStatus.TASK_TIMEOUT) == []
        assert await search(client, "SearchTaskRun", task_def_name="ship") == ["a", "b", "c", "d", "e"]

    async def test_all_criteria_must_match(self, client: Client) -> None:
        await define(client)
        await write(client, "a", "b", "c")
        task = await client.claim("ship")
        at = (await client.task_run(task.task_run_id)).scheduled_at.ToMilliseconds()
        running = request_for("SearchTaskRun", status=TaskStatus.TASK_RUNNING, latest_start=stamp(at))
        assert [name_of(one) for one in await found_by(client, "SearchTaskRun", running)] == ["a"]
        later = request_for("SearchTaskRun", status=TaskStatus.TASK_RUNNING, earliest_start=stamp(at + 1))
        assert await found_by(client, "SearchTaskRun", later) == []


class TestSearchNodeRun:
    async def test_by_external_event_def_and_status(self, client: Client) -> None:
        async def now(status: LHStatus, event_def: str = "paid") -> list[str]:
            criteria = {"external_event_def": ExternalEventDefId(name=event_def), "status": status}
            return await search(client, "SearchNodeRun", **criteria)

        await client.put_event_def("paid")
        await client.put_event_def("signed")
        await client.register(waits_for("order", "paid", "signed"))
        for name in ("a", "b", "c", "d", "e"):
            await client.run("order", name)
        assert await now(LHStatus.RUNNING) == ["a", "b", "c", "d", "e"]
        for name in ("a", "b", "c"):
            await client.post("paid", run=name)
        assert await now(LHStatus.COMPLETED) == ["a", "b", "c"]
        assert await now(LHStatus.RUNNING, "signed") == ["a", "b", "c"]
        assert await now(LHStatus.RUNNING) == ["d", "e"]
        await client.stub.StopWfRun(StopWfRunRequest(wf_run_id=WfRunId(id="d")))
        assert await now(LHStatus.HALTED) == ["d"]
        assert await now(LHStatus.RUNNING) == ["e"]

    async def test_an_unset_status_means_starting(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert await search(client, "SearchNodeRun", external_event_def=ExternalEventDefId(name="paid")) == []

    async def test_only_external_event_nodes_are_found(self, client: Client) -> None:
        await define(client)
        await write(client, "a", "b", "c")
        found = await found_by(client, "SearchNodeRun", request_for("SearchNodeRun"))
        assert len(found) == 3
        for one in found:
            assert (await client.stub.GetNodeRun(one)).external_event.external_event_def_id.name == "paid"


class TestSearchUserTaskRun:
    @staticmethod
    async def ask(client: Client) -> None:
        """Requests with all kinds of owners; the run says what its request is."""
        for form in ("approve", "review"):
            await put_form(client, form)
            await client.register(asks(form, form))
        for run, owner in (
            ("ada", {"user": "Ada"}),
            ("ada-of-law", {"user": "Ada", "group": "law"}),
            ("law", {"group": "law"}),
            ("grace", {"user": "Grace"}),
            ("tax", {"group": "tax"}),
        ):
            for form in ("approve", "review"):
                await client.run(form, f"{form}-{run}", **owner)

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            ({"user_id": "Ada"}, ["ada", "ada-of-law"]),
            ({"user_group": "law"}, ["ada-of-law", "law"]),
            ({"status": UserTaskRunStatus.UNASSIGNED}, ["law", "tax"]),
            ({"status": UserTaskRunStatus.ASSIGNED}, ["ada", "ada-of-law", "grace"]),
            ({"status": UserTaskRunStatus.DONE}, []),
            ({"user_id": "Ada", "user_group": "law"}, ["ada-of-law"]),
            ({"user_id": "Ada", "user_group": "tax"}, []),
            ({"user_group": "law", "status": UserTaskRunStatus.UNASSIGNED}, ["law"]),
            ({"user_id": "Ada", "status": UserTaskRunStatus.UNASSIGNED}, []),
            ({"user_id": "ada"}, []),
            ({"user_group": "la"}, []),
        ],
        ids=str,
    )
    async def test_all_criteria_must_match(self, client: Client, criteria: dict[str, Any], expected: list[str]) -> None:
        await self.ask(client)
        both = sorted(f"{form}-{run}" for form in ("approve", "review") for run in expected)
        assert await search(client, "SearchUserTaskRun", **criteria) == both
        one = [f"review-{run}" for run in expected]
        assert await search(client, "SearchUserTaskRun", user_task_def_name="review", **criteria) == one

    async def test_by_user_task_def(self, client: Client) -> None:
        await self.ask(client)
        expected = ["approve-ada", "approve-ada-of-law", "approve-grace", "approve-law", "approve-tax"]
        assert await search(client, "SearchUserTaskRun", user_task_def_name="approve") == expected
        assert await search(client, "SearchUserTaskRun", user_task_def_name="unknown") == []

    async def test_all_versions_of_a_user_task_def_are_found(self, client: Client) -> None:
        for name, description in (("a", "first"), ("b", "second"), ("c", "third")):
            await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name="approve", description=description))
            await client.register(asks("order"))
            await client.run("order", name, user="Ada")
        assert [(await user_task(client, name)).user_task_def_id.version for name in ("a", "b", "c")] == [0, 1, 2]
        assert await search(client, "SearchUserTaskRun", user_task_def_name="approve") == ["a", "b", "c"]

    async def test_a_changed_status_and_owner_are_found_at_once(self, client: Client) -> None:
        await put_form(client)
        await client.register(asks("order"))
        for name in ("a", "b", "c", "d", "e"):
            await client.run("order", name, group="law")
        for name in ("a", "b", "c"):
            task = await user_task(client, name)
            await client.stub.AssignUserTaskRun(AssignUserTaskRunRequest(user_task_run_id=task.id, user_id="Ada"))
        assert await search(client, "SearchUserTaskRun", user_id="Ada") == ["a", "b", "c"]
        assert await search(client, "SearchUserTaskRun", user_group="law") == ["d", "e"]
        await complete(client, await user_task(client, "a"))
        await client.stub.CancelUserTaskRun(
            CancelUserTaskRunRequest(user_task_run_id=(await user_task(client, "b")).id)
        )
        for status, expected in (
            (UserTaskRunStatus.UNASSIGNED, ["d", "e"]),
            (UserTaskRunStatus.ASSIGNED, ["c"]),
            (UserTaskRunStatus.DONE, ["a"]),
            (UserTaskRunStatus.CANCELLED, ["b"]),
        ):
            assert await search(client, "SearchUserTaskRun", status=status) == expected

    @pytest.mark.parametrize("criteria", [{}, {"earliest_start": stamp(1)}, {"latest_start": stamp(1)}], ids=str)
    async def test_a_criterion_other_than_time_is_needed(self, client: Client, criteria: dict[str, Any]) -> None:
        call = client.stub.SearchUserTaskRun(SearchUserTaskRunRequest(**criteria))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


def with_variables(name: str) -> Workflow:
    """A workflow with variables of all kinds; it keeps the content of ``paid`` in ``text``, then waits."""

    def entrypoint(thread: WorkflowThread) -> None:
        text = thread.declare_str("text").searchable()
        thread.declare_int("count").searchable()
        thread.declare_double("ratio").searchable()
        thread.declare_bool("flag").searchable()
        thread.declare_bytes("blob").searchable()
        thread.declare_json_obj("json").searchable()
        thread.declare_str("secret").masked().searchable()
        thread.declare_str("hidden")
        thread.declare_json_obj("plain")
        document = thread.declare_json_obj("my_doc")
        document.searchable_on("$.sku", VariableType.STR).searchable_on("$.home.city", VariableType.STR)
        document.searchable_on("$.count", VariableType.INT).searchable_on("$.price", VariableType.DOUBLE)
        document.searchable_on("$.paid", VariableType.BOOL).searchable_on("$.tags", VariableType.STR)
        thread.declare_json_obj("card").masked().searchable_on("$.number", VariableType.STR)
        text.assign(thread.wait_for_event("paid"))
        thread.wait_for_event("paid")

    return Workflow(name, entrypoint)


def variable_request(var_name: str, value: Any, **more: Any) -> SearchVariableRequest:
    """A search for a variable of ``order``, or an indexed field of it, with this value."""
    criteria: dict[str, Any] = {"wf_spec_name": "order", "var_name": var_name, "value": to_variable_value(value)}
    return SearchVariableRequest(**(criteria | more))


async def variables(client: Client, var_name: str, value: Any, **more: Any) -> list[str]:
    """The sorted names of the runs of ``order`` that such a search finds."""
    found = await found_by(client, "SearchVariable", variable_request(var_name, value, **more))
    return sorted(name_of(one) for one in found)


class TestSearchVariable:
    @pytest.mark.parametrize(
        ("variable", "value", "other"),
        [
            ("text", "a", "A"),
            ("text", "", "x"),
            ("text", "a%_/b", "a"),
            ("count", 7, 70),
            ("count", 0, 1),
            ("count", -1, 1),
            ("count", 2**62 + 1, 2**62),
            ("ratio", 0.5, 0.25),
            ("flag", False, True),
            ("flag", True, False),
            ("secret", "sesame", MASK),
        ],
    )
    async def test_a_value_is_found_exactly(self, client: Client, variable: str, value: Any, other: Any) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        for name, given in (("e", value), ("b", other), ("a", value), ("d", value)):
            await client.run("order", name, **{variable: given})
        await client.run("order", "unset")
        assert await variables(client, variable, value) == ["a", "d", "e"]
        assert await variables(client, variable, other) == ["b"]

    @pytest.mark.parametrize(
        ("field", "value", "document", "other"),
        [
            ("my_doc_$.sku", "pen", {"sku": "pen", "count": 1}, {"sku": "Pen"}),
            ("my_doc_$.home.city", "Paris", {"home": {"city": "Paris"}}, {"city": "Paris"}),
            ("my_doc_$.count", 3, {"count": 3}, {"count": 30}),
            ("my_doc_$.price", 2.5, {"price": 2.5}, {"price": 0.5}),
            ("my_doc_$.paid", False, {"paid": False}, {"paid": True}),
            ("my_doc_$.tags", "b", {"tags": ["a", "b"]}, {"tags": ["ab"]}),
            ("card_$.number", "4242", {"number": "4242"}, {"number": MASK}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_an_indexed_field_of_a_document_is_found(
        self, client: Client, field: str, value: Any, document: dict[str, Any], other: dict[str, Any]
    ) -> None:
        variable = field.partition("_$.")[0]
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        for name, given in (("e", document), ("b", other), ("a", document), ("d", document), ("c", {})):
            await client.run("order", name, **{variable: given})
        await client.run("order", "unset")
        assert await variables(client, field, value) == ["a", "d", "e"]

    async def test_an_array_is_searched_by_its_index_only(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_json_arr("items")

        request = Workflow("order", entrypoint).compile()
        (variable,) = request.thread_specs["entrypoint"].variable_defs
        variable.json_indexes.append(JsonIndex(field_path="$.sku", field_type=VariableType.STR))
        await client.stub.PutWfSpec(request)
        await client.stub.SearchVariable(variable_request("items_$.sku", "pen"))  # accepted
        refused = client.stub.SearchVariable(variable_request("items_$.other", "pen"))
        assert await refused_with(refused) == StatusCode.INVALID_ARGUMENT

    async def test_a_variable_is_found_by_its_present_value(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        for name in ("a", "b", "c", "d"):
            await client.run("order", name, text="before")
        for name in ("b", "c", "d"):
            await client.post("paid", "after", run=name)
        assert await variables(client, "text", "before") == ["a"]
        assert await variables(client, "text", "after") == ["b", "c", "d"]

    async def test_a_masked_value_that_is_found_is_still_masked(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        await client.run("order", "r", secret="sesame")
        (found,) = (await client.stub.SearchVariable(variable_request("secret", "sesame"))).results
        assert (await client.stub.GetVariable(found)).value.str == MASK

    @pytest.mark.parametrize("value", [None, VariableValue()], ids=["unset", "null"])
    async def test_null_is_never_found(self, client: Client, value: VariableValue | None) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        await client.run("order", "r")
        request = SearchVariableRequest(wf_spec_name="order", var_name="text", value=value)
        try:
            found = await client.stub.SearchVariable(request)
        except AioRpcError as error:
            assert error.code() == StatusCode.INVALID_ARGUMENT  # noqa: PT017 - either outcome is fine
        else:
            assert not found.results

    async def test_variables_of_all_threads_are_found(self, client: Client) -> None:
        def parent(thread: WorkflowThread) -> None:
            def child(thread: WorkflowThread) -> None:
                thread.declare_str("inner", "x").searchable()
                thread.wait_for_event("paid")

            thread.wait_for_threads(thread.spawn_thread_for_each(thread.declare_json_arr("items"), child, "child"))

        await client.put_event_def("paid")
        await client.register(Workflow("order", parent))
        await client.run("order", "a", items=[1, 2])
        await client.run("order", "b", items=[1])
        found = await found_by(client, "SearchVariable", variable_request("inner", "x"))
        assert sorted((name_of(one), one.thread_run_number) for one in found) == [("a", 1), ("a", 2), ("b", 1)]
        assert {one.name for one in found} == {"inner"}

    async def test_by_wf_spec_and_version(self, client: Client) -> None:
        def revised(thread: WorkflowThread) -> None:
            thread.declare_str("text").searchable()
            thread.declare_str("more")

        def first(thread: WorkflowThread) -> None:
            thread.declare_str("text").searchable()

        await client.register(Workflow("order-2", first))
        await client.run("order-2", "other", text="x")
        for number, workflow in enumerate((first, revised)):
            await client.register(Workflow("order", workflow))
            for name in ("a", "b", "c"):
                await client.run("order", f"v0-{number}-{name}", text="x")
        both = ["v0-0-a", "v0-0-b", "v0-0-c", "v0-1-a", "v0-1-b", "v0-1-c"]
        assert await variables(client, "text", "x") == both
        assert await variables(client, "text", "x", wf_spec_major_version=0, wf_spec_revision=0) == both[:3]
        assert await variables(client, "text", "x", wf_spec_major_version=0, wf_spec_revision=1) == both[3:]

    @pytest.mark.parametrize(
        ("var_name", "value", "more"),
        [
            ("text", "a", {"wf_spec_name": "unknown"}),
            ("text", "a", {"wf_spec_name": ""}),
            ("text", "a", {"wf_spec_major_version": 0}),
            ("unknown", "a", {}),
            ("", "a", {}),
            ("hidden", "a", {}),
            ("count", "seven", {}),
            ("count", 1.5, {}),
            ("count", True, {}),
            ("flag", 1, {}),
            ("ratio", "0.5", {}),
            ("text", {"a": 1}, {}),
            ("text", [1], {}),
            ("blob", b"a", {}),
            ("json", {"a": 1}, {}),
            ("json", "a", {}),
            ("text_$.sku", "a", {}),
            ("plain_$.sku", "a", {}),
            ("unknown_$.sku", "a", {}),
            ("my_doc_$.colour", "a", {}),
            ("my_doc_$.home", "a", {}),
            ("my_doc_$.home.city.x", "a", {}),
            ("my_doc_$.", "a", {}),
        ],
    )
    async def test_criteria_that_make_no_sense_are_refused(
        self, client: Client, var_name: str, value: Any, more: dict[str, Any]
    ) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        call = client.stub.SearchVariable(variable_request(var_name, value, **more))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


class TestSearchExternalEvent:
    async def test_by_external_event_def(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_event_def("paid-2")
        for name in ("e", "a", "c"):
            await client.post("paid", run=name)
            await client.post("paid-2", run=f"{name}-2")
        paid = {"external_event_def_id": ExternalEventDefId(name="paid")}
        assert await search(client, "SearchExternalEvent", **paid) == ["a", "c", "e"]

    async def test_events_of_one_run_come_in_order_of_creation(self, client: Client) -> None:
        await client.put_event_def("paid")
        for guid in ("e", "a", "d", "b", "c"):
            await client.post("paid", run="r", guid=guid)
        request = SearchExternalEventRequest(external_event_def_id=ExternalEventDefId(name="paid"))
        found = await found_by(client, "SearchExternalEvent", request)
        created_at = [(await client.stub.GetExternalEvent(one)).created_at.ToNanoseconds() for one in found]
        keys = [(at, one.guid) for at, one in zip(created_at, found, strict=True)]
        assert len(keys) == 5
        assert keys == sorted(keys)

    async def test_by_claim(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        for name in ("a", "b", "c"):
            await client.post("paid", run=name)
        for name in ("x", "y", "z"):
            await client.run("order", name)
            await client.post("paid", run=name)
        paid = {"external_event_def_id": ExternalEventDefId(name="paid")}
        assert await search(client, "SearchExternalEvent", **paid) == ["a", "b", "c", "x", "y", "z"]
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=True) == ["x", "y", "z"]
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=False) == ["a", "b", "c"]
        await client.run("order", "b")  # finds the event that was there before
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=True) == ["b", "x", "y", "z"]
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=False) == ["a", "c"]

    async def test_all_criteria_must_match(self, client: Client) -> None:
        await client.put_event_def("paid")
        event = await client.post("paid", run="a")
        at = event.created_at.ToMilliseconds()
        paid = {"external_event_def_id": ExternalEventDefId(name="paid"), "latest_start": stamp(at)}
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=False) == ["a"]
        assert await search(client, "SearchExternalEvent", **paid, is_claimed=True) == []

    @pytest.mark.parametrize(
        "criteria",
        [
            {},
            {"is_claimed": True},
            {"external_event_def_id": ExternalEventDefId(name="")},
            {"external_event_def_id": ExternalEventDefId(name="unknown")},
        ],
        ids=str,
    )
    async def test_a_known_external_event_def_is_needed(self, client: Client, criteria: dict[str, Any]) -> None:
        call = client.stub.SearchExternalEvent(SearchExternalEventRequest(**criteria))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


def waits_with_key(thread: WorkflowThread) -> None:
    """Waits for ``signed`` with the key that the variable ``key`` has."""
    thread.wait_for_event("signed", correlation_id=thread.declare_str("key"))


class TestSearchCorrelatedEvent:
    async def test_by_external_event_def(self, client: Client) -> None:
        for event_def in ("signed", "signed-2"):
            await client.put_event_def(event_def, correlated=CorrelatedEventConfig())
            for key in ("e", "a", "c"):
                await client.correlate(event_def, key)
        request = SearchCorrelatedEventRequest(external_event_def_id=ExternalEventDefId(name="signed"))
        found = await found_by(client, "SearchCorrelatedEvent", request)
        assert sorted(one.key for one in found) == ["a", "c", "e"]
        assert {one.external_event_def_id.name for one in found} == {"signed"}

    async def test_an_unknown_external_event_def_finds_nothing(self, client: Client) -> None:
        unknown = ExternalEventDefId(name="unknown")
        assert await search(client, "SearchCorrelatedEvent", external_event_def_id=unknown) == []

    async def test_by_what_has_correlated(self, client: Client) -> None:
        async def now(has: bool) -> list[str]:
            return await search(client, "SearchCorrelatedEvent", **signed, has_external_events=has)

        async def served() -> bool:
            return await now(True) == ["a", "b", "c", "e"]

        signed = {"external_event_def_id": ExternalEventDefId(name="signed")}
        await client.put_event_def("signed", correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", waits_with_key))
        for key in ("a", "b", "c"):
            await client.run("order", key, key=key)
        for key in ("c", "f", "a", "e", "d", "b"):
            await client.correlate("signed", key)
        assert await now(True) == ["a", "b", "c"]
        assert await now(False) == ["d", "e", "f"]
        assert await search(client, "SearchCorrelatedEvent", **signed) == ["a", "b", "c", "d", "e", "f"]
        await client.run("order", "e", key="e")
        await eventually(served)
        assert await now(False) == ["d", "f"]

    async def test_all_criteria_must_match(self, client: Client) -> None:
        await client.put_event_def("signed", correlated=CorrelatedEventConfig())
        at = (await client.correlate("signed", "a")).created_at.ToMilliseconds()
        signed = {"external_event_def_id": ExternalEventDefId(name="signed"), "latest_start": stamp(at)}
        assert await search(client, "SearchCorrelatedEvent", **signed, has_external_events=False) == ["a"]
        assert await search(client, "SearchCorrelatedEvent", **signed, has_external_events=True) == []

    async def test_an_event_that_was_deleted_after_its_first_correlation_is_not_found(self, client: Client) -> None:
        config = CorrelatedEventConfig(delete_after_first_correlation=True)
        await client.put_event_def("signed", correlated=config)
        await client.register(Workflow("order", waits_with_key))
        await client.run("order", "r", key="b")
        for key in ("a", "b", "c"):
            await client.correlate("signed", key)
        await client.until("r", LHStatus.COMPLETED)

        async def gone() -> bool:
            signed = SearchCorrelatedEventRequest(external_event_def_id=ExternalEventDefId(name="signed"))
            return [one.key for one in (await client.stub.SearchCorrelatedEvent(signed)).results] == ["a", "c"]

        await eventually(gone)


class TestSearchWorkflowEvent:
    async def test_by_workflow_event_def(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            for event_def in ("shipped", "shipped-2", "shipped", "shipped-2", "shipped"):
                thread.throw_event(event_def, "now")

        for event_def in ("shipped", "shipped-2"):
            await put_thrown_def(client, event_def)
        await client.register(Workflow("order", entrypoint))
        for name in ("b", "a"):
            await client.run("order", name)
        request = SearchWorkflowEventRequest(workflow_event_def_id=WorkflowEventDefId(name="shipped"))
        found = await found_by(client, "SearchWorkflowEvent", request)
        expected = [(name, number) for name in ("a", "b") for number in range(3)]
        assert sorted((name_of(one), one.number) for one in found) == expected
        assert {one.workflow_event_def_id.name for one in found} == {"shipped"}
        for name in ("a", "b"):  # the order of creation, or of ids when that is the same
            assert [one.number for one in found if name_of(one) == name] == [0, 1, 2]

    @pytest.mark.parametrize(
        "criteria",
        [
            {},
            {"workflow_event_def_id": WorkflowEventDefId(name="")},
            {"workflow_event_def_id": WorkflowEventDefId(name="unknown")},
        ],
        ids=str,
    )
    async def test_a_known_workflow_event_def_is_needed(self, client: Client, criteria: dict[str, Any]) -> None:
        call = client.stub.SearchWorkflowEvent(SearchWorkflowEventRequest(**criteria))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
