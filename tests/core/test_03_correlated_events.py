"""Correlated events: execution.md section 3 and worked trace F."""

from typing import Any

import pytest
from littlehorse.model import (
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    ReturnType,
    VariableAssignment,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.workflow import WorkflowThread

from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import TimerAction
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    RUNNING,
    compiled,
    correlate,
    entry,
    event_exists,
    failure,
    markers,
    node,
    of_type,
    put,
    put_event_def,
    python,
    reached,
    refused,
    stored_correlated,
    wf_run,
)
from tests.core.world import World

STAYS = CorrelatedEventConfig()
DELETED_AFTER_FIRST = CorrelatedEventConfig(delete_after_first_correlation=True)


def wait_for_key(wf: WorkflowThread) -> None:
    key = wf.declare_str("key", "k")
    kept = wf.declare_str("kept", "untouched")
    kept.assign(wf.wait_for_event("paid", correlation_id=key))


def wait_for_key_for_a_second(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid", correlation_id="k", timeout=1)


def wait_for_key_twice(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid", correlation_id="k")
    wf.wait_for_event("paid", correlation_id="k")


def world_with(config: CorrelatedEventConfig, content_type: ReturnType | None = None) -> World:
    world = World()
    put_event_def(world, "paid", content_type, correlated=config)
    put(world, wait_for_key)
    return world


@pytest.fixture
def world() -> World:
    """The event stays after its correlations."""
    return world_with(STAYS)


@pytest.fixture
def fleeting() -> World:
    """The event is deleted after the first correlation."""
    return world_with(DELETED_AFTER_FIRST)


class TestPut:
    """execution.md 3.1."""

    @pytest.mark.parametrize("key", ["a/b", "/", "a~b", "~"])
    def test_key_with_slash_or_tilde_is_invalid_argument(self, world: World, key: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "paid", key)

    @pytest.mark.parametrize("key", ["owner:branch", "a b", "ä€", "a_b.c,d", "1"])
    def test_any_other_key_is_accepted(self, world: World, key: str) -> None:
        world.run("wf", key=key)
        assert len(correlate(world, "paid", key).external_events) == 1
        assert wf_run(world).status == COMPLETED

    def test_unknown_def_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "unknown", "k")

    def test_def_without_correlation_is_invalid_argument(self, world: World) -> None:
        put_event_def(world, "plain")
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "plain", "k")

    @pytest.mark.parametrize(
        ("declared", "content"), [(VariableType.INT, "1"), (VariableType.STR, {"a": 1}), (VariableType.INT, 1.5)]
    )
    def test_content_that_does_not_fit_is_invalid_argument(
        self, world: World, declared: VariableType, content: Any
    ) -> None:
        put_event_def(world, "typed", of_type(declared), correlated=STAYS)
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "typed", "k", content)

    @pytest.mark.parametrize(
        ("declared", "content"), [(VariableType.INT, 1), (VariableType.STR, 1), (VariableType.INT, None)]
    )
    def test_content_that_fits_is_accepted_unchanged(self, world: World, declared: VariableType, content: Any) -> None:
        put_event_def(world, "typed", of_type(declared), correlated=STAYS)
        stored = correlate(world, "typed", "k", content).content
        assert stored == correlate(world, "paid", "k", content).content

    def test_void_def_takes_only_null(self, world: World) -> None:
        put_event_def(world, "void", ReturnType(), correlated=STAYS)
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "void", "k", 1)
        assert correlate(world, "void", "k", None).content == VariableValue()

    def test_untyped_def_takes_anything(self, world: World) -> None:
        for number, content in enumerate((1, "text", {"a": 1}, [1], None, b"raw")):
            correlate(world, "paid", f"k{number}", content)

    def test_same_key_and_def_already_exists(self, world: World) -> None:
        correlate(world, "paid", "k", "first")
        with refused(Code.ALREADY_EXISTS):
            correlate(world, "paid", "k", "second")
        stored = stored_correlated(world, "paid", "k")
        assert stored is not None
        assert stored.content.str == "first"

    def test_wrong_content_is_told_before_a_used_key(self, world: World) -> None:
        put_event_def(world, "typed", of_type(VariableType.INT), correlated=STAYS)
        correlate(world, "typed", "k", 1)
        with refused(Code.INVALID_ARGUMENT):
            correlate(world, "typed", "k", "text")

    def test_same_key_of_another_def_is_another_event(self, world: World) -> None:
        put_event_def(world, "shipped", correlated=STAYS)
        correlate(world, "paid", "k")
        correlate(world, "shipped", "k")
        assert stored_correlated(world, "shipped", "k") is not None

    def test_stored_event_has_id_time_content_and_no_external_events(self, world: World) -> None:
        reply = correlate(world, "paid", "k", "content")
        assert reply.id.key == "k"
        assert reply.id.external_event_def_id.name == "paid"
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert reply.content.str == "content"
        assert not reply.external_events
        assert stored_correlated(world, "paid", "k") == reply


class TestEarlyWaiters:
    """execution.md 3.2: the NodeRun waits before the event is put."""

    def test_waiter_completes_with_the_content(self, world: World) -> None:
        world.run("wf")
        assert markers(world, "paid", "k") == 1
        correlate(world, "paid", "k", "content")
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") == "content"

    def test_made_external_event_is_targeted_at_the_waiter(self, world: World) -> None:
        world.run("wf")
        (event_id,) = correlate(world, "paid", "k", "content").external_events
        assert event_id.wf_run_id.id == "r"
        assert event_id.external_event_def_id.name == "paid"
        assert len(event_id.guid) == 32
        event = world.external_event("paid", event_id.guid)
        assert event is not None
        assert (event.thread_run_number, event.node_run_position, event.claimed) == (0, 1, True)
        assert event.content.str == "content"
        assert node(world, 1).external_event.external_event_id == event_id

    def test_every_waiter_gets_an_external_event_of_its_own(self, world: World) -> None:
        for run in ("u", "v", "w"):
            world.run("wf", run)
        reply = correlate(world, "paid", "k", "content")
        assert sorted(event_id.wf_run_id.id for event_id in reply.external_events) == ["u", "v", "w"]
        assert len({event_id.guid for event_id in reply.external_events}) == 3
        for run in ("u", "v", "w"):
            assert wf_run(world, run).status == COMPLETED
            assert python(world, "kept", run) == "content"

    def test_correlation_empties_the_marker(self, world: World) -> None:
        world.run("wf")
        correlate(world, "paid", "k")
        assert markers(world, "paid", "k") == 0

    def test_keys_are_matched_exactly(self, world: World) -> None:
        world.run("wf", key="k")
        for other in ("K", "k ", " k", "kk", ""):
            assert not correlate(world, "paid", other).external_events
        assert wf_run(world).status == RUNNING

    def test_key_of_another_def_does_not_reach_the_waiter(self, world: World) -> None:
        put_event_def(world, "shipped", correlated=STAYS)
        world.run("wf")
        assert not correlate(world, "shipped", "k").external_events
        assert wf_run(world).status == RUNNING

    def test_node_without_a_key_is_not_reached(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid"), "keyless")
        world.run("keyless")
        assert not correlate(world, "paid", "k").external_events
        assert wf_run(world).status == RUNNING

    def test_node_with_a_key_can_wait_for_a_key_that_the_rpc_bans(self, world: World) -> None:
        assert world.run("wf", key="owner/repo~1").status == RUNNING
        assert node(world, 1).external_event.correlation_key == "owner/repo~1"


class TestLateWaiters:
    """execution.md 3.2: the event is stored before the NodeRun waits."""

    def test_late_waiter_completes_at_once(self, world: World) -> None:
        correlate(world, "paid", "k", "content")
        world.run("wf")
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") == "content"

    def test_each_late_waiter_gets_one_and_the_list_grows(self, world: World) -> None:
        correlate(world, "paid", "k", "content")
        for number, run in enumerate(("u", "v", "w"), 1):
            world.run("wf", run)
            assert wf_run(world, run).status == COMPLETED
            stored = stored_correlated(world, "paid", "k")
            assert stored is not None
            assert len(stored.external_events) == number

    def test_late_waiters_follow_early_ones(self, world: World) -> None:
        world.run("wf", "early")
        assert len(correlate(world, "paid", "k").external_events) == 1
        world.run("wf", "late")
        assert wf_run(world, "late").status == COMPLETED
        stored = stored_correlated(world, "paid", "k")
        assert stored is not None
        assert [event_id.wf_run_id.id for event_id in stored.external_events] == ["early", "late"]

    def test_two_nodes_of_one_run_are_two_waiters(self, world: World) -> None:
        put(world, wait_for_key_twice, "twice")
        correlate(world, "paid", "k")
        world.run("twice")
        assert wf_run(world).status == COMPLETED
        stored = stored_correlated(world, "paid", "k")
        assert stored is not None
        assert len(stored.external_events) == 2


class TestDeleteAfterFirst:
    """execution.md 3.2, delete_after_first_correlation, and trace F."""

    def test_trace_f(self, fleeting: World) -> None:
        fleeting.run("wf", "u")
        fleeting.run("wf", "v")
        assert len(correlate(fleeting, "paid", "k").external_events) == 2
        assert wf_run(fleeting, "u").status == COMPLETED
        assert wf_run(fleeting, "v").status == COMPLETED
        assert stored_correlated(fleeting, "paid", "k") is None
        fleeting.run("wf", "x")
        assert wf_run(fleeting, "x").status == RUNNING
        assert len(correlate(fleeting, "paid", "k").external_events) == 1
        assert wf_run(fleeting, "x").status == COMPLETED

    def test_event_without_waiters_stays(self, fleeting: World) -> None:
        correlate(fleeting, "paid", "k")
        assert stored_correlated(fleeting, "paid", "k") is not None

    def test_first_late_waiter_uses_the_event_up(self, fleeting: World) -> None:
        correlate(fleeting, "paid", "k", "content")
        fleeting.run("wf", "first")
        fleeting.run("wf", "second")
        assert wf_run(fleeting, "first").status == COMPLETED
        assert wf_run(fleeting, "second").status == RUNNING
        assert stored_correlated(fleeting, "paid", "k") is None

    def test_second_node_of_one_run_is_a_later_waiter(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_twice, "twice")
        correlate(fleeting, "paid", "k")
        fleeting.run("twice")
        assert node(fleeting, 1).status == COMPLETED
        assert node(fleeting, 2).status == RUNNING
        assert markers(fleeting, "paid", "k") == 1

    def test_one_put_completes_only_the_first_of_two_nodes_in_a_run(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_twice, "twice")
        fleeting.run("twice")
        assert len(correlate(fleeting, "paid", "k").external_events) == 1
        assert node(fleeting, 2).status == RUNNING
        assert len(correlate(fleeting, "paid", "k").external_events) == 1
        assert wf_run(fleeting).status == COMPLETED

    def test_external_events_outlive_the_deletion(self, fleeting: World) -> None:
        fleeting.run("wf")
        (event_id,) = correlate(fleeting, "paid", "k").external_events
        assert event_exists(fleeting, "paid", event_id.guid)


class TestTtl:
    """execution.md 3.1, ttl_seconds."""

    def test_uncorrelated_event_is_deleted_after_the_ttl(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=60))
        correlate(world, "paid", "k")
        world.wait(59)
        assert stored_correlated(world, "paid", "k") is not None
        world.wait(2)
        assert stored_correlated(world, "paid", "k") is None
        world.run("wf")
        assert wf_run(world).status == RUNNING

    def test_correlated_event_is_deleted_after_the_ttl_but_its_external_events_stay(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=60))
        world.run("wf")
        (event_id,) = correlate(world, "paid", "k").external_events
        world.wait(61)
        assert stored_correlated(world, "paid", "k") is None
        assert event_exists(world, "paid", event_id.guid)

    def test_key_can_be_put_again_after_the_ttl(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=60))
        correlate(world, "paid", "k", "first")
        world.wait(61)
        correlate(world, "paid", "k", "second")
        world.run("wf")
        assert python(world, "kept") == "second"

    def test_timer_of_a_predecessor_does_not_hit_a_successor_with_the_same_key(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=60, delete_after_first_correlation=True))
        world.run("wf")
        correlate(world, "paid", "k")
        world.wait(30)
        correlate(world, "paid", "k")
        world.wait(40)
        assert stored_correlated(world, "paid", "k") is not None
        world.wait(30)
        assert stored_correlated(world, "paid", "k") is None

    def test_predecessors_timer_that_was_on_its_way_does_not_hit_the_successor(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=60, delete_after_first_correlation=True))
        world.run("wf")
        correlate(world, "paid", "k")
        timers = [one for one in world.timers.values() if one.action == TimerAction.CORRELATED_EVENT_TTL]
        world.now_ms += 1000
        world.run("wf", "late")
        correlate(world, "paid", "k")
        world.now_ms += 1000
        correlate(world, "paid", "k")
        for timer in timers:
            world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert stored_correlated(world, "paid", "k") is not None

    def test_longest_ttl_can_be_stored(self) -> None:
        world = world_with(CorrelatedEventConfig(ttl_seconds=2**63 - 1))
        correlate(world, "paid", "k")
        assert all(timer.due_ms < 2**63 for timer in world.timers.values())

    def test_no_ttl_keeps_the_event(self, world: World) -> None:
        correlate(world, "paid", "k")
        world.wait(10_000_000)
        assert stored_correlated(world, "paid", "k") is not None


class TestMarkerRemoval:
    """execution.md 3.2 notes and 3.3: who waits no more leaves no marker behind."""

    def test_timeout_removes_the_marker(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_for_a_second, "short")
        fleeting.run("short")
        assert markers(fleeting, "paid", "k") == 1
        fleeting.wait(2)
        assert wf_run(fleeting).status == ERROR
        assert failure(fleeting, 1).failure_name == "TIMEOUT"
        assert markers(fleeting, "paid", "k") == 0
        assert not correlate(fleeting, "paid", "k").external_events
        assert stored_correlated(fleeting, "paid", "k") is not None

    def test_timeout_leaves_the_other_waiters(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_for_a_second, "short")
        fleeting.run("short", "short")
        fleeting.run("wf", "patient")
        fleeting.wait(2)
        (event_id,) = correlate(fleeting, "paid", "k").external_events
        assert event_id.wf_run_id.id == "patient"
        assert wf_run(fleeting, "patient").status == COMPLETED

    def test_direct_event_completes_the_node_and_removes_the_marker(self, fleeting: World) -> None:
        fleeting.run("wf")
        fleeting.post("paid", "direct")
        assert wf_run(fleeting).status == COMPLETED
        assert python(fleeting, "kept") == "direct"
        assert markers(fleeting, "paid", "k") == 0
        assert not correlate(fleeting, "paid", "k").external_events
        assert stored_correlated(fleeting, "paid", "k") is not None

    def test_early_direct_event_leaves_no_marker(self, fleeting: World) -> None:
        fleeting.post("paid", "direct")
        fleeting.run("wf")
        assert wf_run(fleeting).status == COMPLETED
        assert markers(fleeting, "paid", "k") == 0

    def test_deletion_of_the_run_removes_the_marker(self, fleeting: World) -> None:
        fleeting.run("wf", "gone")
        fleeting.run("wf", "stays")
        fleeting.submit(DeleteWfRunRequest(id=WfRunId(id="gone")))
        assert markers(fleeting, "paid", "k") == 1
        (event_id,) = correlate(fleeting, "paid", "k").external_events
        assert event_id.wf_run_id.id == "stays"

    def test_deletion_of_the_run_keeps_the_correlated_event_and_its_list(self, world: World) -> None:
        world.run("wf")
        reply = correlate(world, "paid", "k")
        (event_id,) = reply.external_events
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert not event_exists(world, "paid", event_id.guid)
        stored = stored_correlated(world, "paid", "k")
        assert stored is not None
        assert list(stored.external_events) == [event_id]

    def test_removal_of_a_marker_does_not_use_up_a_waiting_event(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_for_a_second, "short")
        fleeting.run("short")
        fleeting.wait(2)
        correlate(fleeting, "paid", "k", "content")
        fleeting.run("wf", "late")
        assert wf_run(fleeting, "late").status == COMPLETED
        assert python(fleeting, "kept", "late") == "content"

    def test_node_that_fails_when_it_is_left_has_no_marker(self, fleeting: World) -> None:
        """The event's content cannot be assigned, so the thread fails at the edge."""

        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count")
            count.assign(wf.wait_for_event("paid", correlation_id="k"))

        put(fleeting, body, "strict")
        fleeting.run("strict")
        correlate(fleeting, "paid", "k", {"not": "a number"})
        assert wf_run(fleeting).status == ERROR
        assert failure(fleeting, 1).failure_name == "VAR_SUB_ERROR"
        assert not reached(fleeting, 2)
        assert markers(fleeting, "paid", "k") == 0
        assert not correlate(fleeting, "paid", "k").external_events

    def test_node_that_fails_on_arrival_leaves_no_marker(self, fleeting: World) -> None:
        """Its key is good, its timeout is not."""
        request = compiled(lambda wf: wf.wait_for_event("paid", correlation_id="k"), "broken")
        waiting = entry(request).nodes["1-paid-EXTERNAL_EVENT"].external_event
        waiting.timeout_seconds.CopyFrom(VariableAssignment(literal_value=VariableValue(str="soon")))
        fleeting.submit(request)
        fleeting.run("broken")
        assert wf_run(fleeting).status == ERROR
        assert markers(fleeting, "paid", "k") == 0

    def test_waiters_timeout_after_the_correlation_does_nothing(self, fleeting: World) -> None:
        put(fleeting, wait_for_key_for_a_second, "short")
        fleeting.run("short")
        correlate(fleeting, "paid", "k")
        fleeting.wait(2)
        assert wf_run(fleeting).status == COMPLETED


class TestTyping:
    """execution.md 3.2 notes: the made ExternalEvents are ordinary ones."""

    def test_content_reaches_the_variable_unchanged(self) -> None:
        world = World()
        put_event_def(world, "paid", of_type(VariableType.STR), correlated=STAYS)

        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept")
            kept.assign(wf.wait_for_event("paid", correlation_id="k"))

        put(world, body)
        world.run("wf")
        (event_id,) = correlate(world, "paid", "k", "content").external_events
        event = world.external_event("paid", event_id.guid)
        assert event is not None
        assert event.content.str == "content"
        assert python(world, "kept") == "content"

    def test_null_content_is_delivered(self, world: World) -> None:
        world.run("wf")
        correlate(world, "paid", "k", None)
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") is None
