"""When ScheduledWfRuns fire: api.md 6.2, with UTC as the time zone of the server.

Not tested: expressions whose meaning cron dialects do not share (names, 7 for Sunday), and changes of summer time.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from littlehorse.model import (
    DeleteScheduledWfRunRequest,
    DeleteWfSpecRequest,
    LHStatus,
    ScheduledWfRunId,
    ScheduleWfRequest,
    WfRun,
    WfRunId,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.core.world import World

EVERY_MINUTE = "* * * * *"
TO_NEXT_MINUTE = 40
"""How many seconds after the start of the world (14 November 2023, 22:13:20, a Tuesday) a minute begins."""


def only_exit(thread: WorkflowThread) -> None:
    pass


def keeps_count(thread: WorkflowThread) -> None:
    thread.declare_int("count")


def requires_count(thread: WorkflowThread) -> None:
    thread.declare_int("count").required()


def schedule(world: World, cron: str = EVERY_MINUTE, schedule_id: str = "s", **fields: Any) -> None:
    world.submit(ScheduleWfRequest(id=schedule_id, wf_spec_name="wf", cron_expression=cron, **fields))


def delete(world: World, schedule_id: str = "s") -> None:
    world.submit(DeleteScheduledWfRunRequest(id=ScheduledWfRunId(id=schedule_id)))


def runs(world: World) -> list[WfRun]:
    """Every WfRun so far."""
    found = [world.wf_run(str(key[1])) for key in world.all_wf_runs]
    return [run for run in found if run is not None]


def instant(text: str) -> int:
    """Milliseconds of a UTC time such as 2023-11-14T22:14."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def wait_until(world: World, now_ms: int) -> None:
    world.wait((now_ms - world.now_ms) / 1000)


@pytest.fixture
def world() -> World:
    world = World()
    assert world.now_ms == instant("2023-11-14T22:13:20")
    world.put_workflow(Workflow("wf", only_exit))
    return world


class TestInstants:
    @pytest.mark.parametrize(
        ("cron", "first", "second"),
        [
            ("* * * * *", "2023-11-14T22:14", "2023-11-14T22:15"),
            ("30 * * * *", "2023-11-14T22:30", "2023-11-14T23:30"),
            ("5 * * * *", "2023-11-14T23:05", "2023-11-15T00:05"),
            ("*/20 * * * *", "2023-11-14T22:20", "2023-11-14T22:40"),
            ("10-50/20 * * * *", "2023-11-14T22:30", "2023-11-14T22:50"),
            ("50,15 * * * *", "2023-11-14T22:15", "2023-11-14T22:50"),
            ("13 22 * * *", "2023-11-15T22:13", "2023-11-16T22:13"),
            ("0 6 * * *", "2023-11-15T06:00", "2023-11-16T06:00"),
            ("0 8-10/2 * * *", "2023-11-15T08:00", "2023-11-15T10:00"),
            ("0 0 1 * *", "2023-12-01T00:00", "2024-01-01T00:00"),
            ("0 0 31 * *", "2023-12-31T00:00", "2024-01-31T00:00"),
            ("0 0 1 1,7 *", "2024-01-01T00:00", "2024-07-01T00:00"),
            ("0 12 * * 0", "2023-11-19T12:00", "2023-11-26T12:00"),
            ("0 0 * * 1-5", "2023-11-15T00:00", "2023-11-16T00:00"),
            ("0 0 * * 6,2", "2023-11-18T00:00", "2023-11-21T00:00"),
            ("0 0 29 2 *", "2024-02-29T00:00", "2028-02-29T00:00"),
            # Days are special in UNIX cron: where both fields say something, either is enough.
            ("0 0 20 * 5", "2023-11-17T00:00", "2023-11-20T00:00"),
        ],
    )
    def test_fires_at_the_next_instants_of_the_expression(
        self, world: World, cron: str, first: str, second: str
    ) -> None:
        schedule(world, cron)
        wait_until(world, instant(first) - 1)
        assert not runs(world)
        wait_until(world, instant(first))
        assert len(runs(world)) == 1
        wait_until(world, instant(second) - 1)
        assert len(runs(world)) == 1
        wait_until(world, instant(second))
        assert [run.start_time.ToMilliseconds() for run in runs(world)] == [instant(first), instant(second)]

    def test_never_fires_at_once_even_when_the_request_comes_at_an_instant(self, world: World) -> None:
        world.wait(TO_NEXT_MINUTE)
        schedule(world)
        assert not runs(world)
        world.wait(59.999)
        assert not runs(world)
        world.wait(0.001)
        assert len(runs(world)) == 1

    def test_goes_on_firing(self, world: World) -> None:
        schedule(world)
        world.wait(TO_NEXT_MINUTE + 9 * 60)
        assert len(runs(world)) == 10

    def test_schedules_do_not_disturb_each_other(self, world: World) -> None:
        schedule(world, schedule_id="a")
        schedule(world, "14 * * * *", "b")
        schedule(world, schedule_id="c")
        delete(world, "a")
        world.wait(TO_NEXT_MINUTE)
        assert len(runs(world)) == 2
        world.wait(60)
        assert len(runs(world)) == 3


class TestTheRun:
    def test_each_firing_starts_a_run_of_a_fresh_id(self, world: World) -> None:
        schedule(world)
        world.wait(TO_NEXT_MINUTE + 60)
        first, second = runs(world)
        assert first.id.id != second.id.id
        assert {len(run.id.id) for run in (first, second)} == {32}
        assert not first.id.HasField("parent_wf_run_id")
        assert first.status == second.status == LHStatus.COMPLETED

    def test_the_run_gets_the_variables(self, world: World) -> None:
        world.put_workflow(Workflow("wf", keeps_count))
        schedule(world, variables={"count": to_variable_value(7)})
        world.wait(TO_NEXT_MINUTE)
        (run,) = runs(world)
        assert extract_value(world.variable("count", wf_run_id=run.id.id)) == 7

    def test_the_run_gets_the_parent(self, world: World) -> None:
        child = Workflow("wf", only_exit)
        world.put_workflow(Workflow("parent", only_exit))
        request = child.compile()
        request.parent_wf_spec.wf_spec_name = "parent"
        world.submit(request)
        world.run("parent", "p")
        schedule(world, parent_wf_run_id=WfRunId(id="p"))
        world.wait(TO_NEXT_MINUTE)
        assert len(world.child_wf_runs("p")) == 1

    def test_the_latest_version_runs_when_none_was_requested(self, world: World) -> None:
        schedule(world)
        spec = world.put_workflow(Workflow("wf", keeps_count))
        world.wait(TO_NEXT_MINUTE)
        assert [run.wf_spec_id for run in runs(world)] == [spec.id]

    def test_the_latest_revision_runs_when_only_a_major_version_was_requested(self, world: World) -> None:
        schedule(world, major_version=0)
        spec = world.put_workflow(Workflow("wf", keeps_count))
        assert world.put_workflow(Workflow("wf", requires_count)).id.major_version == 1
        world.wait(TO_NEXT_MINUTE)
        assert [run.wf_spec_id for run in runs(world)] == [spec.id]

    def test_the_exact_version_runs_when_it_was_requested(self, world: World) -> None:
        schedule(world, major_version=0, revision=0)
        world.put_workflow(Workflow("wf", keeps_count))
        world.wait(TO_NEXT_MINUTE)
        assert [(run.wf_spec_id.major_version, run.wf_spec_id.revision) for run in runs(world)] == [(0, 0)]


class TestErrorsOfAFiring:
    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({}, id="required variable missing"),
            pytest.param({"variables": {"count": to_variable_value("x")}}, id="wrong type"),
            pytest.param(
                {"variables": {"count": to_variable_value(1), "n": to_variable_value(1)}}, id="unknown variable"
            ),
            pytest.param(
                {"variables": {"count": to_variable_value(1)}, "parent_wf_run_id": WfRunId(id="p")},
                id="parent without need",
            ),
        ],
    )
    def test_a_refused_run_is_dropped_and_the_next_instant_tries_again(
        self, world: World, fields: dict[str, Any]
    ) -> None:
        world.put_workflow(Workflow("wf", requires_count))
        schedule(world, **fields)
        schedule(world, schedule_id="fine", variables={"count": to_variable_value(1)})
        world.wait(TO_NEXT_MINUTE + 60)
        assert len(runs(world)) == 2

    def test_a_schedule_recovers_when_the_reason_of_its_errors_is_gone(self, world: World) -> None:
        world.put_workflow(Workflow("wf", requires_count))
        schedule(world)
        world.wait(TO_NEXT_MINUTE + 60)
        assert not runs(world)
        world.put_workflow(Workflow("wf", only_exit))
        world.wait(60)
        assert len(runs(world)) == 1

    def test_a_schedule_outlives_its_wf_spec(self, world: World) -> None:
        schedule(world)
        spec = world.put_workflow(Workflow("wf", only_exit))
        world.submit(DeleteWfSpecRequest(id=spec.id))
        world.wait(TO_NEXT_MINUTE)
        assert not runs(world)
        world.put_workflow(Workflow("wf", only_exit))
        world.wait(60)
        assert len(runs(world)) == 1


class TestDelete:
    def test_a_deleted_schedule_never_fires(self, world: World) -> None:
        schedule(world)
        delete(world)
        world.wait(TO_NEXT_MINUTE + 600)
        assert not runs(world)

    def test_deletion_stops_further_firings_and_keeps_the_runs(self, world: World) -> None:
        schedule(world)
        world.wait(TO_NEXT_MINUTE)
        delete(world)
        world.wait(600)
        assert len(runs(world)) == 1

    def test_a_new_schedule_of_a_deleted_id_fires_once_per_instant(self, world: World) -> None:
        schedule(world)
        delete(world)
        schedule(world)
        world.wait(TO_NEXT_MINUTE + 60)
        assert len(runs(world)) == 2


class TestOverwrite:
    def test_the_new_expression_replaces_the_old_one(self, world: World) -> None:
        schedule(world)
        schedule(world, "20 * * * *")
        wait_until(world, instant("2023-11-14T22:19:59"))
        assert not runs(world)
        wait_until(world, instant("2023-11-14T22:21"))
        assert len(runs(world)) == 1

    def test_the_same_schedule_put_twice_fires_once_per_instant(self, world: World) -> None:
        schedule(world)
        world.wait(1)
        schedule(world)
        world.wait(TO_NEXT_MINUTE + 59)
        assert len(runs(world)) == 2

    def test_the_new_variables_are_what_counts(self, world: World) -> None:
        world.put_workflow(Workflow("wf", keeps_count))
        schedule(world, variables={"count": to_variable_value(1)})
        world.wait(TO_NEXT_MINUTE)
        schedule(world, variables={"count": to_variable_value(2)})
        world.wait(60)
        assert [extract_value(world.variable("count", wf_run_id=run.id.id)) for run in runs(world)] == [1, 2]
