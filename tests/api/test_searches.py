"""Searches: api.md 9.1, 9.4 and 9.5."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    LHStatus,
    SearchExternalEventDefRequest,
    SearchTaskDefRequest,
    SearchWfRunRequest,
    SearchWfSpecRequest,
    VariableMatch,
    VariableType,
    WfRun,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    Client,
    assert_starts_over_or_is_refused,
    executes,
    only_exit,
    refused_with,
    waits_for,
)

REQUESTS: dict[str, Any] = {
    "SearchWfRun": SearchWfRunRequest,
    "SearchWfSpec": SearchWfSpecRequest,
    "SearchTaskDef": SearchTaskDefRequest,
    "SearchExternalEventDef": SearchExternalEventDefRequest,
}
every_search = pytest.mark.parametrize("call", REQUESTS)


async def write(client: Client, name: str) -> None:
    """Something for every search to find: definitions and a WfRun of this name."""
    await client.put_task_def(name)
    await client.put_event_def(name)
    await client.register(only_exit(name))
    await client.run(name, name)


def names(found: list[Any]) -> list[str]:
    """What the ids of a search are called, whatever their kind."""
    return [one.id if isinstance(one, WfRunId) else one.name for one in found]


async def search(client: Client, call: str, **criteria: Any) -> list[str]:
    """The names that a search finds in all its pages."""
    return names([one for page in await client.pages(call, REQUESTS[call](**criteria)) for one in page])


async def runs(client: Client, **criteria: Any) -> list[str]:
    """The ids of the WfRuns that a search finds."""
    return await search(client, "SearchWfRun", **criteria)


def with_variables(name: str) -> Workflow:
    """A workflow with variables to search for; it keeps the content of ``paid`` in ``text``, then waits."""

    def entrypoint(thread: WorkflowThread) -> None:
        text = thread.declare_str("text")
        thread.declare_int("count").searchable()
        thread.declare_double("ratio")
        thread.declare_bool("flag")
        thread.declare_str("secret").masked()
        text.assign(thread.wait_for_event("paid"))
        thread.wait_for_event("paid")

    return Workflow(name, entrypoint)


def match(name: str, value: Any) -> VariableMatch:
    return VariableMatch(var_name=name, value=to_variable_value(value))


class TestPaging:
    @every_search
    async def test_nothing_found_is_an_empty_page(self, client: Client, call: str) -> None:
        reply = await getattr(client.stub, call)(REQUESTS[call]())
        assert not reply.results
        assert not reply.HasField("bookmark")

    @every_search
    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
    async def test_pages_join_to_the_whole_result(self, client: Client, call: str, limit: int) -> None:
        for name in ("e", "c", "a", "f", "d", "b"):
            await write(client, name)
        whole = await search(client, call)
        assert sorted(whole) == ["a", "b", "c", "d", "e", "f"]
        pages = await client.pages(call, REQUESTS[call](limit=limit))
        assert [name for page in pages for name in names(page)] == whole
        assert all(len(page) == limit for page in pages[:-1])
        assert len(pages[-1]) <= limit

    @every_search
    async def test_rows_written_between_pages_do_not_repeat_or_hide_the_others(self, client: Client, call: str) -> None:
        old = ["b", "d", "f", "h", "j"]
        for name in old:
            await write(client, name)
        request = REQUESTS[call](limit=2)
        first = await getattr(client.stub, call)(request)
        for name in ("a", "c", "e", "g", "i", "k"):
            await write(client, name)
        request.bookmark = first.bookmark
        rest = await client.pages(call, request)
        found = names([*first.results, *(one for page in rest for one in page)])
        assert len(found) == len(set(found))
        assert set(old) <= set(found)

    @every_search
    async def test_the_row_at_the_border_may_be_deleted(self, client: Client, call: str) -> None:
        for name in ("a", "b", "c", "d"):
            await write(client, name)
        request = REQUESTS[call](limit=2)
        first = await getattr(client.stub, call)(request)
        for name in names(list(first.results)):
            await client.delete(name)  # deletes only WfRuns; the definitions stay
        request.bookmark = first.bookmark
        rest = await client.pages(call, request)
        assert names([one for page in rest for one in page]) == ["c", "d"]

    @every_search
    @pytest.mark.parametrize("limit", [-1, -100])
    async def test_a_negative_limit_is_refused(self, client: Client, call: str, limit: int) -> None:
        request = REQUESTS[call](limit=limit)
        assert await refused_with(getattr(client.stub, call)(request)) == StatusCode.INVALID_ARGUMENT

    @every_search
    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"[]", b"null", b"[18446744073709551615]"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, call: str, bookmark: bytes
    ) -> None:
        await write(client, "a")
        await write(client, "b")
        await assert_starts_over_or_is_refused(client, call, REQUESTS[call](), bookmark)

    @pytest.mark.parametrize("criteria", [{}, {"limit": 0}])
    async def test_the_limit_is_100_when_it_is_unset_or_0(self, client: Client, criteria: dict[str, Any]) -> None:
        for number in range(101):
            await client.put_task_def(f"t{number}")
        pages = await client.pages("SearchTaskDef", SearchTaskDefRequest(**criteria))
        assert [len(page) for page in pages] == [100, 1]


class TestSearchWfRun:
    async def test_without_criteria_all_runs_are_found_oldest_first(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(only_exit("invoice"))
        for name, wf_run_id in (("order", "z"), ("invoice", "a"), ("order", "m")):
            await client.run(name, wf_run_id)
        started = [((await client.wf_run(one)).start_time.ToMilliseconds(), one) for one in ("z", "a", "m")]
        assert await runs(client) == [one for _, one in sorted(started)]

    async def test_by_spec_name_and_version(self, client: Client) -> None:
        def revised(thread: WorkflowThread) -> None:
            thread.declare_str("private")

        def breaking(thread: WorkflowThread) -> None:
            thread.declare_str("public").as_public()

        await client.register(only_exit("order-2"))
        await client.run("order-2", "other")
        for version, workflow in (
            ("v0-0", only_exit("order")),
            ("v0-1", Workflow("order", revised)),
            ("v1-0", Workflow("order", breaking)),
        ):
            await client.register(workflow)
            await client.run("order", version)
        assert await runs(client, wf_spec_name="order") == ["v0-0", "v0-1", "v1-0"]
        assert await runs(client, wf_spec_name="order", wf_spec_major_version=0) == ["v0-0", "v0-1"]
        assert await runs(client, wf_spec_name="order", wf_spec_major_version=1) == ["v1-0"]
        assert await runs(client, wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=0) == ["v0-0"]
        assert await runs(client, wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=1) == ["v0-1"]

    async def test_by_status(self, client: Client) -> None:
        def fails(thread: WorkflowThread) -> None:
            thread.fail("no", "no")

        await client.put_event_def("paid")
        await client.register(waits_for("waits", "paid"))
        await client.register(only_exit("ends"))
        await client.register(Workflow("fails", fails))
        for name in ("waits", "ends", "fails"):
            await client.run(name, name)
        assert await runs(client, status=LHStatus.RUNNING) == ["waits"]
        assert await runs(client, status=LHStatus.COMPLETED) == ["ends"]
        assert await runs(client, status=LHStatus.EXCEPTION) == ["fails"]
        assert await runs(client, status=LHStatus.STARTING) == []  # zero is a status, not "any"
        assert await runs(client, wf_spec_name="ends", status=LHStatus.RUNNING) == []

    async def test_a_changed_status_is_found_at_once(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r")
        assert await runs(client, wf_spec_name="order", status=LHStatus.RUNNING) == []
        assert await runs(client, wf_spec_name="order", status=LHStatus.COMPLETED) == ["r"]

    async def test_the_time_range_is_inclusive(self, client: Client) -> None:
        await client.register(only_exit("order"))
        started: WfRun = await client.run("order", "r")
        at = started.start_time.ToMilliseconds()

        def stamp(milliseconds: int) -> Timestamp:
            timestamp = Timestamp()
            timestamp.FromMilliseconds(milliseconds)
            return timestamp

        assert await runs(client, earliest_start=stamp(at), latest_start=stamp(at)) == ["r"]
        assert await runs(client, earliest_start=stamp(at)) == ["r"]
        assert await runs(client, latest_start=stamp(at)) == ["r"]
        assert await runs(client, earliest_start=stamp(at + 1)) == []
        assert await runs(client, latest_start=stamp(at - 1)) == []
        assert await runs(client, wf_spec_name="order", earliest_start=stamp(at + 1)) == []

    async def test_a_zero_time_counts_as_unset(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        assert await runs(client, earliest_start=Timestamp(), latest_start=Timestamp()) == ["r"]

    @pytest.mark.parametrize(
        ("variable", "value", "other"),
        [
            ("text", "a", "A"),
            ("text", "", "x"),
            ("count", 7, 70),
            ("count", 0, 1),
            ("ratio", 0.5, 0.25),
            ("flag", False, True),
            ("flag", True, False),
            ("secret", "sesame", "*****"),
        ],
    )
    async def test_by_a_variable(self, client: Client, variable: str, value: Any, other: Any) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        await client.run("order", "one", **{variable: value})
        await client.run("order", "other", **{variable: other})
        await client.run("order", "unset")
        assert await runs(client, wf_spec_name="order", variable_filters=[match(variable, value)]) == ["one"]

    async def test_all_variable_filters_must_match(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        await client.run("order", "both", text="a", count=1)
        await client.run("order", "one", text="a", count=2)
        filters = [match("text", "a"), match("count", 1)]
        assert await runs(client, wf_spec_name="order", variable_filters=filters) == ["both"]
        assert await runs(client, wf_spec_name="order", status=LHStatus.COMPLETED, variable_filters=filters) == []

    async def test_a_variable_is_found_by_its_present_value(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        await client.run("order", "r", text="before")
        await client.post("paid", "after", run="r")
        assert await runs(client, wf_spec_name="order", variable_filters=[match("text", "before")]) == []
        assert await runs(client, wf_spec_name="order", variable_filters=[match("text", "after")]) == ["r"]

    async def test_pages_keep_to_the_variable_filter(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        for number in range(10):
            await client.run("order", f"r{number}", flag=number % 2 == 0)
        request = SearchWfRunRequest(wf_spec_name="order", limit=2, variable_filters=[match("flag", True)])
        pages = await client.pages("SearchWfRun", request)
        assert sorted(names([one for page in pages for one in page])) == ["r0", "r2", "r4", "r6", "r8"]

    async def test_by_a_parent_without_children_nothing_is_found(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        assert await runs(client, parent_wf_run_id=WfRunId(id="r")) == []
        assert await runs(client, parent_wf_run_id=WfRunId(id="nobody")) == []

    @pytest.mark.parametrize(
        "criteria",
        [
            {"wf_spec_major_version": 0},
            {"wf_spec_major_version": 0, "wf_spec_revision": 0},
            {"wf_spec_revision": 0},
            {"wf_spec_name": "order", "wf_spec_revision": 0},
            {"variable_filters": [match("text", "a")]},
            {"wf_spec_name": "unknown"},
            {"wf_spec_name": "order", "wf_spec_major_version": 7},
            {"wf_spec_name": "order", "wf_spec_major_version": 0, "wf_spec_revision": 7},
            {"wf_spec_name": "order", "variable_filters": [match("unknown", "a")]},
            {
                "wf_spec_name": "order",
                "wf_spec_major_version": 0,
                "variable_filters": [match("text", "a"), match("unknown", "a")],
            },
        ],
        ids=str,
    )
    async def test_criteria_that_make_no_sense_are_refused(self, client: Client, criteria: dict[str, Any]) -> None:
        await client.put_event_def("paid")
        await client.register(with_variables("order"))
        call = client.stub.SearchWfRun(SearchWfRunRequest(**criteria))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


class TestSearchMetadata:
    async def test_names_come_in_byte_order(self, client: Client) -> None:
        for name in ("b", "B", "a-b", "a", "ab", "7", "Z"):
            await write(client, name)
        expected = sorted(("b", "B", "a-b", "a", "ab", "7", "Z"))
        for call in ("SearchTaskDef", "SearchExternalEventDef", "SearchWfSpec"):
            assert await search(client, call) == expected

    @pytest.mark.parametrize("call", ["SearchTaskDef", "SearchExternalEventDef", "SearchWfSpec"])
    async def test_by_prefix(self, client: Client, call: str) -> None:
        for name in ("order", "order-2", "Order-3", "reorder", "z"):
            await write(client, name)
        assert await search(client, call, prefix="order") == ["order", "order-2"]
        assert await search(client, call, prefix="z") == ["z"]
        assert await search(client, call, prefix="orders") == []
        for prefix in ("%", "_", "o%", "o_der", "*", "o*"):
            assert await search(client, call, prefix=prefix) == []

    @pytest.mark.parametrize("call", ["SearchTaskDef", "SearchExternalEventDef", "SearchWfSpec"])
    @pytest.mark.parametrize("prefix", ["ö", "o\ud7ff", "o\U0010ffff"])
    async def test_a_prefix_that_no_name_can_have_finds_nothing(self, client: Client, call: str, prefix: str) -> None:
        await write(client, "order")
        assert await search(client, call, prefix=prefix) == []

    @pytest.mark.parametrize("call", ["SearchTaskDef", "SearchExternalEventDef", "SearchWfSpec"])
    async def test_pages_keep_to_the_prefix(self, client: Client, call: str) -> None:
        for name in ("a", "oa", "ob", "oc", "p"):
            await write(client, name)
        pages = await client.pages(call, REQUESTS[call](prefix="o", limit=2))
        assert [names(page) for page in pages if page] == [["oa", "ob"], ["oc"]]

    async def test_wf_specs_come_with_all_versions_in_numeric_order(self, client: Client) -> None:
        def revision(number: int) -> Workflow:
            def entrypoint(thread: WorkflowThread) -> None:
                thread.declare_str(f"note{number}")

            return Workflow("order", entrypoint)

        await client.register(only_exit("order-2"))
        for number in range(12):
            await client.register(revision(number))
        request = SearchWfSpecRequest(name="order", limit=5)
        found = [one for page in await client.pages("SearchWfSpec", request) for one in page]
        assert [(one.name, one.major_version, one.revision) for one in found] == [
            ("order", 0, number) for number in range(12)
        ]
        assert len(await search(client, "SearchWfSpec")) == 13

    async def test_wf_specs_by_name_are_exact(self, client: Client) -> None:
        for name in ("order", "order-2", "Order"):
            await client.register(only_exit(name))
        assert await search(client, "SearchWfSpec", name="order") == ["order"]
        assert await search(client, "SearchWfSpec", name="ord") == []

    async def test_wf_specs_by_task_def(self, client: Client) -> None:
        def dynamic(thread: WorkflowThread) -> None:
            thread.execute(thread.declare_str("which"))

        for task_def in ("ship", "bill", "ship-2"):
            await client.put_task_def(task_def)
        await client.register(executes("both", "ship", "bill"))
        await client.register(executes("bills", "bill"))
        await client.register(executes("ships", "ship"))
        await client.register(executes("ships-2", "ship-2"))
        await client.register(only_exit("none"))
        await client.register(Workflow("dynamic", dynamic))
        assert await search(client, "SearchWfSpec", task_def_name="ship") == ["both", "ships"]
        assert await search(client, "SearchWfSpec", task_def_name="unknown") == []

    async def test_a_task_def_used_twice_gives_one_entry_per_version(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship", "ship"))
        await client.register(executes("order", "ship", "ship", "ship"))
        request = SearchWfSpecRequest(task_def_name="ship")
        found = [one for page in await client.pages("SearchWfSpec", request) for one in page]
        assert [(one.major_version, one.revision) for one in found] == [(0, 0), (0, 1)]

    async def test_a_put_again_gives_no_second_entry(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_event_def("paid", VariableType.INT)
        assert await search(client, "SearchExternalEventDef") == ["paid"]
