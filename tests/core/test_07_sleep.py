"""SLEEP nodes: execution.md 7.3."""

from datetime import UTC, datetime
from typing import Any

import pytest
from littlehorse.model import ThreadSpec, VariableAssignment, VariableType
from littlehorse.workflow import WorkflowThread

from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import TimerAction
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    RUNNING,
    failure,
    node,
    put,
    put_edited,
    wf_run,
)
from tests.core.world import World


def sleeps(world: World, field: str, kind: VariableType) -> None:
    """Register a workflow that sleeps for what its variable ``v`` says."""

    def body(wf: WorkflowThread) -> None:
        wf.add_variable("v", kind)
        wf.sleep(1)

    def edit(spec: ThreadSpec) -> None:
        sleep = spec.nodes["1-sleep-SLEEP"].sleep
        sleep.Clear()
        getattr(sleep, field).CopyFrom(VariableAssignment(variable_name="v"))

    put_edited(world, body, edit)


def at(world: World, seconds: float) -> datetime:
    return datetime.fromtimestamp((world.now_ms + seconds * 1000) / 1000, UTC)


@pytest.fixture
def world() -> World:
    return World()


def test_raw_seconds_count_from_arrival(world: World) -> None:
    put(world, lambda wf: wf.sleep(10))
    started_ms = world.now_ms
    assert world.run("wf").status == RUNNING
    assert node(world, 1).status == RUNNING
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == started_ms + 10_000
    assert not node(world, 1).sleep.matured


def test_sleeper_is_never_early(world: World) -> None:
    put(world, lambda wf: wf.sleep(10))
    world.run("wf")
    world.wait(9.999)
    assert wf_run(world).status == RUNNING
    world.wait(1)
    assert wf_run(world).status == COMPLETED
    assert node(world, 1).sleep.matured
    assert node(world, 1).status == COMPLETED


def test_raw_seconds_of_a_variable(world: World) -> None:
    sleeps(world, "raw_seconds", VariableType.INT)
    world.run("wf", v=5)
    world.wait(4)
    assert wf_run(world).status == RUNNING
    world.wait(1)
    assert wf_run(world).status == COMPLETED


def test_int_timestamp_is_epoch_milliseconds(world: World) -> None:
    sleeps(world, "timestamp", VariableType.INT)
    world.run("wf", v=world.now_ms + 1500)
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == world.now_ms + 1500
    world.wait(1.4)
    assert wf_run(world).status == RUNNING
    world.wait(0.1)
    assert wf_run(world).status == COMPLETED


def test_timestamp(world: World) -> None:
    sleeps(world, "timestamp", VariableType.TIMESTAMP)
    world.run("wf", v=at(world, 60))
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == world.now_ms + 60_000
    world.wait(59)
    assert wf_run(world).status == RUNNING
    world.wait(1)
    assert wf_run(world).status == COMPLETED


def test_timestamp_counts_whole_seconds(world: World) -> None:
    sleeps(world, "timestamp", VariableType.TIMESTAMP)
    world.run("wf", v=at(world, 60.7))
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == world.now_ms + 60_000


def test_iso_date(world: World) -> None:
    sleeps(world, "iso_date", VariableType.STR)
    world.run("wf", v=at(world, 60).isoformat().replace("+00:00", "Z"))
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == world.now_ms + 60_000
    world.wait(60)
    assert wf_run(world).status == COMPLETED


@pytest.mark.parametrize("text", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123Z"])
def test_past_iso_date_wakes_at_the_next_tick(world: World, text: str) -> None:
    sleeps(world, "iso_date", VariableType.STR)
    world.run("wf", v=text)
    world.wait(1)
    assert wf_run(world).status == COMPLETED


def test_past_timestamp_wakes_at_the_next_tick(world: World) -> None:
    sleeps(world, "timestamp", VariableType.INT)
    world.run("wf", v=1)
    world.wait(1)
    assert wf_run(world).status == COMPLETED


@pytest.mark.parametrize(
    ("field", "kind", "value"),
    [
        ("raw_seconds", VariableType.INT, None),
        ("timestamp", VariableType.INT, None),
        ("timestamp", VariableType.TIMESTAMP, None),
        ("iso_date", VariableType.STR, None),
        ("iso_date", VariableType.STR, "tomorrow"),
        ("iso_date", VariableType.STR, ""),
        ("iso_date", VariableType.STR, "2024-05-01"),
        ("iso_date", VariableType.STR, "2024-05-01T12:00:00"),
        ("iso_date", VariableType.STR, "2024-13-01T12:00:00Z"),
    ],
)
def test_length_that_does_not_evaluate_is_var_sub_error(
    world: World, field: str, kind: VariableType, value: Any
) -> None:
    sleeps(world, field, kind)
    assert world.run("wf", v=value).status == ERROR
    assert node(world, 1).status == ERROR
    assert failure(world, 1).failure_name == "VAR_SUB_ERROR"


def test_last_instant_of_the_calendar_can_be_slept_for(world: World) -> None:
    sleeps(world, "iso_date", VariableType.STR)
    assert world.run("wf", v="9999-12-31T23:59:59.999999Z").status == RUNNING
    assert node(world, 1).sleep.maturation_time.ToMilliseconds() == 253402300799999


@pytest.mark.parametrize("seconds", [2**63 - 1, 10**15])
def test_length_beyond_the_calendar_is_var_sub_error(world: World, seconds: int) -> None:
    sleeps(world, "raw_seconds", VariableType.INT)
    assert world.run("wf", v=seconds).status == ERROR
    assert failure(world, 1).failure_name == "VAR_SUB_ERROR"


def test_timer_that_comes_twice_does_nothing_more(world: World) -> None:
    def body(wf: WorkflowThread) -> None:
        wf.sleep(10)
        wf.sleep(10)

    put(world, body)
    world.run("wf")
    (timer,) = [one for one in world.timers.values() if one.action == TimerAction.SLEEP]
    world.wait(10)
    world.submit(TimerDue(timer), command_ms=timer.due_ms)
    assert node(world, 2).status == RUNNING
    world.wait(10)
    assert wf_run(world).status == COMPLETED


def test_second_sleep_counts_from_the_end_of_the_first(world: World) -> None:
    def body(wf: WorkflowThread) -> None:
        wf.sleep(10)
        wf.sleep(10)

    put(world, body)
    started_ms = world.now_ms
    world.run("wf")
    world.wait(10)
    assert node(world, 2).sleep.maturation_time.ToMilliseconds() == started_ms + 20_000


def test_sleep_loop_sleeps_each_round(world: World) -> None:
    def body(wf: WorkflowThread) -> None:
        count = wf.declare_int("count", 0)

        def round_(wf: WorkflowThread) -> None:
            wf.sleep(10)
            count.assign(count.add(1))

        wf.do_while(count.is_less_than(3), round_)

    put(world, body)
    world.run("wf")
    world.wait(29)
    assert wf_run(world).status == RUNNING
    world.wait(1)
    assert wf_run(world).status == COMPLETED
