"""ScheduledWfRuns as a client sees them: api.md 6.2. When they fire is tested next to the core, where time can move.

Not tested: an empty name in a search (the code is open), an empty but present id, names of months and days, 7 for
Sunday, nicknames such as @hourly (cron dialects differ), and the most ids that one search returns (free).
"""

import re
from typing import Any

import pytest
from grpc import StatusCode
from littlehorse.model import (
    DeleteScheduledWfRunRequest,
    DeleteWfSpecRequest,
    RunWfRequest,
    ScheduledWfRun,
    ScheduledWfRunId,
    ScheduleWfRequest,
    SearchScheduledWfRunRequest,
    SearchWfRunRequest,
    WfRunId,
    WfSpecId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, is_missing, now, only_exit, refused_with

NEW_YEAR = "0 0 1 1 *"
"""An instant that no test run is likely to meet."""


def version(name: str, *, public: int = 0, private: int = 0) -> Workflow:
    """A workflow that ends at once; one more public variable is a major version, one more private a revision."""

    def entrypoint(thread: WorkflowThread) -> None:
        for number in range(public):
            thread.declare_int(f"public-{number}").as_public()
        for number in range(private):
            thread.declare_int(f"private-{number}")

    return Workflow(name, entrypoint)


async def four_versions(client: Client, name: str = "order") -> None:
    """Versions 0.0, 0.1, 1.0 and 1.1."""
    for public, private in ((0, 0), (0, 1), (1, 1), (1, 2)):
        spec = await client.register(version(name, public=public, private=private))
        assert (spec.id.major_version, spec.id.revision) == (public, private - public)


async def schedule(
    client: Client, schedule_id: str | None = None, name: str = "order", **fields: Any
) -> ScheduledWfRun:
    request = ScheduleWfRequest(id=schedule_id, wf_spec_name=name, **{"cron_expression": NEW_YEAR, **fields})
    reply: ScheduledWfRun = await client.stub.ScheduleWf(request)
    return reply


async def stored(client: Client, schedule_id: str) -> ScheduledWfRun:
    reply: ScheduledWfRun = await client.stub.GetScheduledWfRun(ScheduledWfRunId(id=schedule_id))
    return reply


async def delete(client: Client, schedule_id: str) -> None:
    await client.stub.DeleteScheduledWfRun(DeleteScheduledWfRunRequest(id=ScheduledWfRunId(id=schedule_id)))


async def search(client: Client, name: str = "order", **criteria: Any) -> list[str]:
    reply = await client.stub.SearchScheduledWfRun(SearchScheduledWfRunRequest(wf_spec_name=name, **criteria))
    return [found.id for found in reply.results]


class TestScheduleWf:
    async def test_the_stored_schedule_is_returned_and_found(self, client: Client) -> None:
        spec = await client.register(version("order", private=1))
        before = now().ToMilliseconds()
        reply = await schedule(client, "s", variables={"private-0": to_variable_value(7)})
        assert reply.id == ScheduledWfRunId(id="s")
        assert reply.wf_spec_id == spec.id
        assert reply.cron_expression == NEW_YEAR
        assert dict(reply.variables) == {"private-0": to_variable_value(7)}
        assert not reply.HasField("parent_wf_run_id")
        assert before <= reply.created_at.ToMilliseconds() <= now().ToMilliseconds()
        assert await stored(client, "s") == reply

    async def test_the_id_is_generated_when_unset(self, client: Client) -> None:
        await client.register(only_exit("order"))
        first, second = await schedule(client), await schedule(client)
        assert re.fullmatch("[0-9a-f]{32}", first.id.id)
        assert first.id != second.id
        assert await stored(client, first.id.id) == first
        assert await stored(client, second.id.id) == second

    @pytest.mark.parametrize("schedule_id", ["a_b", "-a", "every/day at noon", "ä", "a.b", "x" * 300])
    async def test_the_id_is_not_validated(self, client: Client, schedule_id: str) -> None:
        await client.register(only_exit("order"))
        assert (await schedule(client, schedule_id)).id.id == schedule_id
        assert (await stored(client, schedule_id)).id.id == schedule_id
        assert await search(client) == [schedule_id]

    async def test_nothing_runs_at_once(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await schedule(client, "s")
        assert not (await client.stub.SearchWfRun(SearchWfRunRequest(wf_spec_name="order"))).results

    @pytest.mark.parametrize(
        "variables",
        [
            pytest.param({}, id="missing"),
            pytest.param({"count": "not a number"}, id="wrong type"),
            pytest.param({"count": 1, "nope": 1}, id="unknown"),
        ],
    )
    async def test_variables_are_not_validated(self, client: Client, variables: dict[str, Any]) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_int("count").required()

        await client.register(Workflow("order", entrypoint))
        values = {name: to_variable_value(value) for name, value in variables.items()}
        assert dict((await schedule(client, "s", variables=values)).variables) == values
        assert dict((await stored(client, "s")).variables) == values

    async def test_the_parent_is_not_validated(self, client: Client) -> None:
        await client.register(only_exit("order"))
        reply = await schedule(client, "s", parent_wf_run_id=WfRunId(id="nobody"))
        assert reply.parent_wf_run_id == WfRunId(id="nobody")
        assert await stored(client, "s") == reply


class TestWfSpecVersion:
    @pytest.mark.parametrize(
        ("requested", "resolved"),
        [
            ({}, (1, 1)),
            ({"major_version": 0}, (0, 1)),
            ({"major_version": 1}, (1, 1)),
            ({"major_version": 0, "revision": 0}, (0, 0)),
            ({"major_version": 1, "revision": 0}, (1, 0)),
            ({"revision": 0}, (1, 1)),
            ({"revision": 7}, (1, 1)),
        ],
    )
    async def test_the_version_is_resolved_as_for_run_wf(
        self, client: Client, requested: dict[str, Any], resolved: tuple[int, int]
    ) -> None:
        await four_versions(client)
        expected = WfSpecId(name="order", major_version=resolved[0], revision=resolved[1])
        assert (await schedule(client, "s", **requested)).wf_spec_id == expected
        assert (await stored(client, "s")).wf_spec_id == expected
        run = await client.stub.RunWf(RunWfRequest(wf_spec_name="order", **requested))
        assert run.wf_spec_id == expected

    async def test_a_newer_version_does_not_change_a_stored_schedule(self, client: Client) -> None:
        await client.register(version("order"))
        reply = await schedule(client, "s")
        await client.register(version("order", private=1))
        assert await stored(client, "s") == reply

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": ""},
            {"name": "nope"},
            {"name": "Order"},
            {"major_version": 2},
            {"major_version": 0, "revision": 2},
            {"major_version": 2, "revision": 0},
        ],
    )
    async def test_an_unknown_wf_spec_is_an_invalid_argument(self, client: Client, fields: dict[str, Any]) -> None:
        await four_versions(client)
        assert await refused_with(schedule(client, "s", **fields)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client, "s"))


class TestCronExpression:
    @pytest.mark.parametrize(
        "cron",
        [
            "* * * * *",
            "0 0 1 1 0",
            "59 23 31 12 6",
            "0,15,30,45 * * * *",
            "0-29 8-18 * * 1-5",
            "*/5 */2 */10 */3 */2",
            "10-50/20 * * * *",
            "0,30-35,*/20 * * * *",
            "0 0 29 2 *",
            "0 0 31 1,3 *",
        ],
    )
    async def test_five_fields_of_lists_ranges_and_steps_are_accepted(self, client: Client, cron: str) -> None:
        await client.register(only_exit("order"))
        assert (await schedule(client, "s", cron_expression=cron)).cron_expression == cron

    @pytest.mark.parametrize(
        "cron",
        [
            "",
            " ",
            "*",
            "* * * *",
            "* * * * * *",
            "0 * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 0 *",
            "* * * 13 *",
            "* * * * 8",
            "-1 * * * *",
            "0-60 * * * *",
            "*/0 * * * *",
            "*/x * * * *",
            "*/ * * * *",
            "1- * * * *",
            "1,,2 * * * *",
            "1.5 * * * *",
            "x * * * *",
            "every day at noon please",
        ],
    )
    async def test_what_cannot_be_parsed_is_refused(self, client: Client, cron: str) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(schedule(client, "s", cron_expression=cron)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client, "s"))

    @pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * 30-31 2 *"])
    async def test_an_expression_without_a_next_instant_is_refused(self, client: Client, cron: str) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(schedule(client, "s", cron_expression=cron)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client, "s"))

    async def test_a_refused_overwrite_leaves_the_schedule_as_it_was(self, client: Client) -> None:
        await client.register(only_exit("order"))
        before = await schedule(client, "s")
        assert await refused_with(schedule(client, "s", cron_expression="x")) == StatusCode.INVALID_ARGUMENT
        assert await stored(client, "s") == before


class TestOverwrite:
    async def test_an_existing_id_is_overwritten(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await schedule(client, "s", variables={"a": to_variable_value(1)}, parent_wf_run_id=WfRunId(id="nobody"))
        second = await schedule(client, "s", cron_expression="0 12 29 2 *")
        assert second.cron_expression == "0 12 29 2 *"
        assert not second.variables
        assert not second.HasField("parent_wf_run_id")
        assert await stored(client, "s") == second
        assert await search(client) == ["s"]

    async def test_a_schedule_that_got_another_wf_spec_is_found_only_there(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(only_exit("refund"))
        await schedule(client, "s", "order")
        await schedule(client, "s", "refund")
        assert await search(client, "order") == []
        assert await search(client, "refund") == ["s"]


class TestGetAndDelete:
    async def test_get_of_a_missing_schedule_is_not_found(self, client: Client) -> None:
        assert await refused_with(stored(client, "nope")) == StatusCode.NOT_FOUND

    async def test_a_deleted_schedule_is_gone(self, client: Client) -> None:
        await client.register(only_exit("order"))
        for name in ("a", "b"):
            await schedule(client, name)
        await delete(client, "a")
        assert await refused_with(stored(client, "a")) == StatusCode.NOT_FOUND
        assert await search(client) == ["b"]

    async def test_delete_of_a_missing_schedule_is_ok(self, client: Client) -> None:
        await delete(client, "nope")
        await client.register(only_exit("order"))
        await schedule(client, "s")
        await delete(client, "s")
        await delete(client, "s")

    async def test_a_deleted_id_may_be_used_again(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await schedule(client, "s")
        await delete(client, "s")
        again = await schedule(client, "s", cron_expression="0 12 29 2 *")
        assert await stored(client, "s") == again

    async def test_deleting_the_wf_spec_of_a_schedule_does_not_matter_to_it(self, client: Client) -> None:
        spec = await client.register(only_exit("order"))
        reply = await schedule(client, "s")
        await client.stub.DeleteWfSpec(DeleteWfSpecRequest(id=spec.id))
        assert await stored(client, "s") == reply


class TestSearch:
    async def test_the_schedules_of_a_wf_spec_are_found_in_the_order_of_their_creation(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(only_exit("orders"))
        made = [await schedule(client, name) for name in ("c", "a", "d", "b")]
        await schedule(client, "other", "orders")
        made.sort(key=lambda one: (one.created_at.ToMilliseconds(), one.id.id))
        assert await search(client) == [one.id.id for one in made]
        assert await search(client, "orders") == ["other"]

    async def test_nothing_is_found_before_something_was_scheduled(self, client: Client) -> None:
        await client.register(only_exit("order"))
        assert await search(client) == []

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            ({}, {"v00", "v01", "v10", "v11"}),
            ({"major_version": 0}, {"v00", "v01"}),
            ({"major_version": 1}, {"v10", "v11"}),
            ({"major_version": 0, "revision": 0}, {"v00"}),
            ({"major_version": 1, "revision": 1}, {"v11"}),
            ({"major_version": 2}, set()),
            ({"major_version": 1, "revision": 2}, set()),
        ],
    )
    async def test_versions_narrow_the_search(
        self, client: Client, criteria: dict[str, Any], expected: set[str]
    ) -> None:
        await four_versions(client)
        for major, revision in ((0, 0), (0, 1), (1, 0), (1, 1)):
            await schedule(client, f"v{major}{revision}", major_version=major, revision=revision)
        found = await search(client, **criteria)
        assert set(found) == expected
        assert len(found) == len(expected)

    async def test_the_resolved_version_is_what_a_search_compares(self, client: Client) -> None:
        await four_versions(client)
        await schedule(client, "latest")
        await schedule(client, "latest-of-0", major_version=0)
        assert await search(client, major_version=1, revision=1) == ["latest"]
        assert await search(client, major_version=0, revision=1) == ["latest-of-0"]

    @pytest.mark.parametrize("revision", [0, 1])
    async def test_a_revision_without_a_major_version_is_refused(self, client: Client, revision: int) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(search(client, revision=revision)) == StatusCode.INVALID_ARGUMENT
