"""EXTERNAL_EVENT nodes and PutExternalEvent: execution.md section 2 and worked trace A."""

from typing import Any

import pytest
from littlehorse.model import (
    ExternalEventDefId,
    LHStatus,
    PutExternalEventRequest,
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
    event_exists,
    failure,
    node,
    of_type,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    wf_run,
)
from tests.core.world import World


def wait_once(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid")


def wait_twice(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid")
    wf.wait_for_event("paid")


def wait_a_second(wf: WorkflowThread) -> None:
    wf.wait_for_event("paid", timeout=1)


def keep_content(wf: WorkflowThread) -> None:
    kept = wf.declare_str("kept", "untouched")
    kept.assign(wf.wait_for_event("paid"))


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    return world


class TestPut:
    """execution.md 2.1."""

    def test_unknown_def_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.post("unknown")

    def test_same_guid_unclaimed_already_exists(self, world: World) -> None:
        world.post("paid", "first", guid="g")
        with refused(Code.ALREADY_EXISTS):
            world.post("paid", "second", guid="g")
        event = world.external_event("paid", "g")
        assert event is not None
        assert event.content.str == "first"

    def test_same_guid_claimed_already_exists(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert world.post("paid", guid="g").claimed
        with refused(Code.ALREADY_EXISTS):
            world.post("paid", guid="g")

    def test_unknown_def_is_told_before_a_used_guid(self, world: World) -> None:
        world.post("paid", guid="g")
        with refused(Code.INVALID_ARGUMENT):
            world.post("unknown", guid="g")

    def test_used_guid_is_told_before_a_wrong_type(self, world: World) -> None:
        put_event_def(world, "typed", of_type(VariableType.INT))
        world.post("typed", 1, guid="g")
        with refused(Code.ALREADY_EXISTS):
            world.post("typed", "no number", guid="g")

    def test_same_guid_of_another_def_is_another_event(self, world: World) -> None:
        put_event_def(world, "shipped")
        world.post("paid", guid="g")
        world.post("shipped", guid="g")
        assert event_exists(world, "paid", "g")
        assert event_exists(world, "shipped", "g")

    def test_same_guid_of_another_run_is_another_event(self, world: World) -> None:
        world.post("paid", guid="g", wf_run_id="r")
        world.post("paid", guid="g", wf_run_id="s")
        assert event_exists(world, "paid", "g", "s")

    def test_absent_guid_is_generated_as_32_hex_digits(self, world: World) -> None:
        first, second = world.post("paid"), world.post("paid")
        for event in (first, second):
            assert len(event.id.guid) == 32
            assert set(event.id.guid) <= set("0123456789abcdef")
        assert first.id.guid != second.id.guid

    def test_missing_wf_run_id_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(PutExternalEventRequest(external_event_def_id=ExternalEventDefId(name="paid")))

    def test_empty_wf_run_id_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(
                PutExternalEventRequest(wf_run_id=WfRunId(), external_event_def_id=ExternalEventDefId(name="paid"))
            )

    @pytest.mark.parametrize(
        ("declared", "content"),
        [
            (VariableType.STR, "text"),
            (VariableType.STR, 5),
            (VariableType.STR, 1.5),
            (VariableType.STR, True),
            (VariableType.STR, b"raw"),
            (VariableType.STR, WfRunId(id="x")),
            (VariableType.DOUBLE, 5),
            (VariableType.DOUBLE, 5.5),
            (VariableType.INT, 5),
            (VariableType.BOOL, False),
            (VariableType.JSON_OBJ, {"a": 1}),
            (VariableType.JSON_ARR, [1]),
        ],
    )
    def test_fitting_content_is_accepted_and_not_changed(
        self, world: World, declared: VariableType, content: Any
    ) -> None:
        put_event_def(world, "typed", of_type(declared))
        stored = world.post("typed", content).content
        assert stored == world.post("paid", content).content

    @pytest.mark.parametrize(
        ("declared", "content"),
        [
            (VariableType.INT, 1.0),
            (VariableType.INT, "1"),
            (VariableType.BOOL, "true"),
            (VariableType.STR, {"a": 1}),
            (VariableType.STR, [1]),
            (VariableType.DOUBLE, "1.0"),
            (VariableType.JSON_OBJ, [1]),
            (VariableType.JSON_ARR, {"a": 1}),
            (VariableType.BYTES, "text"),
        ],
    )
    def test_content_that_does_not_fit_is_refused_with_the_name(
        self, world: World, declared: VariableType, content: Any
    ) -> None:
        put_event_def(world, "typed", of_type(declared))
        with refused(Code.INVALID_ARGUMENT, "invalid type", "typed"):
            world.post("typed", content, guid="g")
        assert not event_exists(world, "typed", "g")

    def test_null_content_is_always_accepted(self, world: World) -> None:
        put_event_def(world, "typed", of_type(VariableType.INT))
        assert world.post("typed", None).content == VariableValue()

    def test_null_content_is_accepted_by_a_void_def(self, world: World) -> None:
        put_event_def(world, "void", ReturnType())
        assert world.post("void", None).content == VariableValue()

    def test_untyped_def_takes_anything(self, world: World) -> None:
        for content in (1, "text", 1.5, True, {"a": 1}, [1], b"raw"):
            world.post("paid", content)

    def test_event_for_an_absent_run_is_stored_unclaimed(self, world: World) -> None:
        reply = world.post("paid", "early", guid="g")
        assert not reply.claimed
        stored = world.external_event("paid", "g")
        assert stored is not None
        assert stored == reply

    def test_event_for_a_run_that_never_asks_for_it_is_stored_unclaimed(self, world: World) -> None:
        put_event_def(world, "shipped")
        put(world, wait_once)
        world.run("wf")
        assert not world.post("shipped").claimed
        assert wf_run(world).status == RUNNING

    def test_event_for_a_terminal_run_is_stored_unclaimed(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        assert not world.post("paid", guid="late").claimed
        assert event_exists(world, "paid", "late")

    def test_created_at_is_the_command_time(self, world: World) -> None:
        assert world.post("paid").created_at.ToMilliseconds() == world.now_ms

    def test_reply_shows_the_claim_and_the_run_has_advanced(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert world.post("paid").claimed
        assert wf_run(world).status == COMPLETED

    def test_targets_are_kept_with_an_unclaimed_event(self, world: World) -> None:
        event = world.post("paid", thread=3, position=7)
        assert (event.thread_run_number, event.node_run_position) == (3, 7)

    def test_absent_targets_stay_absent(self, world: World) -> None:
        event = world.post("paid")
        assert not event.HasField("thread_run_number")
        assert not event.HasField("node_run_position")


class TestRetention:
    """execution.md 2.1, last rule."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        put_event_def(world, "paid", retention_s=60)
        return world

    def test_unclaimed_event_is_deleted_after_the_retention(self, world: World) -> None:
        world.post("paid", guid="g")
        world.wait(59)
        assert event_exists(world, "paid", "g")
        world.wait(2)
        assert not event_exists(world, "paid", "g")

    def test_deleted_event_is_not_claimed_any_more(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid", guid="g")
        world.wait(61)
        assert world.run("wf").status == RUNNING

    def test_guid_can_be_used_again_after_the_deletion(self, world: World) -> None:
        world.post("paid", guid="g")
        world.wait(61)
        world.post("paid", guid="g")
        assert event_exists(world, "paid", "g")

    def test_claimed_event_stays(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert world.post("paid", guid="g").claimed
        world.wait(1000)
        event = world.external_event("paid", "g")
        assert event is not None
        assert event.claimed

    def test_event_claimed_later_stays(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid", guid="g")
        world.wait(30)
        assert world.run("wf").status == COMPLETED
        world.wait(1000)
        assert event_exists(world, "paid", "g")

    def test_longest_retention_can_be_stored(self, world: World) -> None:
        put_event_def(world, "kept", retention_s=2**63 - 1)
        world.post("kept", guid="g")
        assert all(timer.due_ms < 2**63 for timer in world.timers.values())

    def test_no_policy_keeps_the_event(self, world: World) -> None:
        put_event_def(world, "kept")
        world.post("kept", guid="g")
        world.wait(1_000_000)
        assert event_exists(world, "kept", "g")


class TestArrival:
    """execution.md 2.2."""

    def test_node_waits_without_an_event(self, world: World) -> None:
        put(world, wait_once)
        assert world.run("wf").status == RUNNING
        assert node(world, 1).status == RUNNING
        assert node(world, 1).external_event.external_event_def_id.name == "paid"
        assert not node(world, 1).external_event.HasField("external_event_id")

    def test_early_event_completes_the_node_in_the_command_that_reaches_it(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid")
        assert world.run("wf").status == COMPLETED

    @pytest.mark.parametrize("timeout", ["text", None, 1.5, True])
    def test_timeout_that_is_no_int_is_var_error(self, world: World, timeout: Any) -> None:
        literal = VariableAssignment(literal_value=world.post("paid", timeout, wf_run_id="other").content)
        put_edited(
            world,
            wait_once,
            lambda spec: spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.timeout_seconds.CopyFrom(literal),
        )
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_ERROR"

    def test_timeout_that_does_not_evaluate_is_var_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("settings")
            wf.wait_for_event("paid")

        path = VariableAssignment(variable_name="settings", json_path="$.timeout")
        put_edited(
            world, body, lambda spec: spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.timeout_seconds.CopyFrom(path)
        )
        world.run("wf")
        assert failure(world, 1).failure_name == "VAR_ERROR"

    @pytest.mark.parametrize("key", [5, None, 1.5, True])
    def test_correlation_key_that_is_no_str_is_var_error(self, world: World, key: Any) -> None:
        literal = VariableAssignment(literal_value=world.post("paid", key, wf_run_id="other").content)
        put_edited(
            world,
            wait_once,
            lambda spec: spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.correlation_key.CopyFrom(literal),
        )
        assert world.run("wf").status == ERROR
        assert failure(world, 1).failure_name == "VAR_ERROR"

    def test_correlation_key_variable_that_is_null_is_var_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid", correlation_id=wf.declare_str("key"))

        put(world, body)
        world.run("wf")
        assert failure(world, 1).failure_name == "VAR_ERROR"

    def test_failed_arrival_is_a_failure_of_the_new_node_and_takes_no_event(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid", correlation_id=wf.declare_str("key"))

        put(world, body)
        event = world.post("paid", guid="g")
        world.run("wf")
        assert node(world, 0).status == COMPLETED
        assert not event.claimed
        stored = world.external_event("paid", "g")
        assert stored is not None
        assert not stored.claimed

    def test_correlation_key_is_shown_on_arrival(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid", correlation_id="k", mask_correlation_id=True)

        put(world, body)
        world.run("wf")
        assert node(world, 1).external_event.correlation_key == "k"
        assert node(world, 1).external_event.mask_correlation_key

    def test_evaluated_timeout_counts_from_arrival(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("seconds")
            wf.wait_for_event("paid")

        timeout = VariableAssignment(variable_name="seconds")
        put_edited(
            world,
            body,
            lambda spec: spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.timeout_seconds.CopyFrom(timeout),
        )
        world.run("wf", seconds=30)
        world.wait(29.999)
        assert node(world, 1).status == RUNNING
        world.wait(1)
        assert node(world, 1).status == ERROR


class TestMatching:
    """execution.md 2.3."""

    def test_trace_a_early_events_complete_two_nodes_in_order_of_creation(self, world: World) -> None:
        put(world, wait_twice)
        world.post("paid", guid="b", wf_run_id="w")
        world.now_ms += 1
        world.post("paid", guid="a", wf_run_id="w")
        reply = world.run("wf", "w")
        assert reply.status == COMPLETED
        assert [node(world, position, "w").status for position in range(4)] == [COMPLETED] * 4
        for position, guid in ((1, "b"), (2, "a")):
            assert node(world, position, "w").external_event.external_event_id.guid == guid
            event = world.external_event("paid", guid, wf_run_id="w")
            assert event is not None
            assert (event.claimed, event.thread_run_number, event.node_run_position) == (True, 0, position)

    def test_same_created_at_is_taken_in_order_of_arrival(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid", guid="z")
        world.post("paid", guid="a")
        world.run("wf")
        assert node(world, 1).external_event.external_event_id.guid == "z"

    def test_earliest_created_at_wins_over_order_of_arrival(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid", guid="came-first")
        world.now_ms -= 5
        world.post("paid", guid="created-first")
        world.now_ms += 5
        world.run("wf")
        assert node(world, 1).external_event.external_event_id.guid == "created-first"

    def test_one_event_completes_one_node(self, world: World) -> None:
        put(world, wait_twice)
        world.run("wf")
        world.post("paid")
        assert node(world, 1).status == COMPLETED
        assert node(world, 2).status == RUNNING
        assert wf_run(world).status == RUNNING

    def test_two_loop_rounds_take_two_early_events(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            last = wf.declare_str("last", "none")

            def round_(wf: WorkflowThread) -> None:
                last.assign(wf.wait_for_event("paid"))

            wf.do_while(last.is_not_equal_to("stop"), round_)

        put(world, body)
        world.post("paid", "go", guid="z")
        world.post("paid", "stop", guid="a")
        assert world.run("wf").status == COMPLETED
        assert python(world, "last") == "stop"

    def test_event_left_over_goes_to_the_next_node_of_the_def(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid")
            wf.wait_for_event("shipped")
            wf.wait_for_event("paid")

        put_event_def(world, "shipped")
        put(world, body)
        world.run("wf")
        world.post("paid")
        assert not world.post("paid", guid="left-over").claimed
        world.post("shipped")
        assert wf_run(world).status == COMPLETED
        assert node(world, 3).external_event.external_event_id.guid == "left-over"

    def test_event_targeted_at_a_finished_position_is_never_claimed(self, world: World) -> None:
        put(world, wait_twice)
        world.run("wf")
        world.post("paid")
        assert not world.post("paid", thread=0, position=1).claimed
        assert node(world, 2).status == RUNNING

    def test_event_for_another_thread_is_not_taken(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert not world.post("paid", thread=1).claimed
        assert node(world, 1).status == RUNNING

    def test_event_for_this_thread_is_taken(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert world.post("paid", thread=0).claimed

    def test_event_for_another_position_is_not_taken(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert not world.post("paid", thread=0, position=9).claimed
        assert node(world, 1).status == RUNNING

    def test_the_two_targets_are_independent(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert not world.post("paid", position=2).claimed
        assert world.post("paid", position=1).claimed

    def test_thread_target_must_hold_although_the_position_does(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        assert not world.post("paid", thread=1, position=1).claimed

    def test_event_targeted_at_a_later_position_waits_for_it(self, world: World) -> None:
        put(world, wait_twice)
        world.run("wf")
        assert not world.post("paid", guid="second", position=2).claimed
        world.post("paid", guid="first")
        assert wf_run(world).status == COMPLETED
        assert node(world, 2).external_event.external_event_id.guid == "second"

    def test_an_older_event_aimed_elsewhere_does_not_hide_a_younger_one(self, world: World) -> None:
        put(world, wait_once)
        world.post("paid", guid="old", thread=4)
        world.now_ms += 1
        world.post("paid", guid="young")
        world.run("wf")
        assert node(world, 1).external_event.external_event_id.guid == "young"

    def test_event_of_another_def_is_not_taken(self, world: World) -> None:
        put_event_def(world, "shipped")
        put(world, wait_once)
        world.run("wf")
        assert not world.post("shipped").claimed
        assert node(world, 1).status == RUNNING

    def test_event_of_another_run_is_not_taken(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf", "r")
        world.run("wf", "s")
        world.post("paid", wf_run_id="s")
        assert wf_run(world, "r").status == RUNNING
        assert wf_run(world, "s").status == COMPLETED


class TestClaim:
    """execution.md 2.4."""

    def test_claim_fills_in_the_place_of_the_node(self, world: World) -> None:
        put(world, wait_once)
        world.run("wf")
        event = world.post("paid")
        assert (event.claimed, event.thread_run_number, event.node_run_position) == (True, 0, 1)

    def test_node_run_points_to_the_event_and_its_creation(self, world: World) -> None:
        put(world, wait_once)
        created_ms = world.now_ms
        event = world.post("paid", guid="g")
        world.wait(10)
        world.run("wf")
        run = node(world, 1).external_event
        assert run.external_event_id == event.id
        assert run.event_time.ToMilliseconds() == created_ms
        assert node(world, 1).end_time.ToMilliseconds() == world.now_ms

    def test_content_is_the_output_of_the_node(self, world: World) -> None:
        put(world, keep_content)
        world.run("wf")
        world.post("paid", "the content")
        assert python(world, "kept") == "the content"

    def test_null_content_is_the_output_of_the_node(self, world: World) -> None:
        put(world, keep_content)
        world.run("wf")
        world.post("paid", None)
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") is None


class TestTimeout:
    """execution.md 2.5."""

    def test_timeout_fails_the_node_and_the_run(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        world.wait(2)
        run = node(world, 1)
        assert run.status == ERROR
        assert run.external_event.timed_out
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert "arrive in time" in failure(world, 1).message
        assert "arrive in time" in run.error_message
        assert wf_run(world).status == ERROR

    def test_timeout_is_never_early(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        world.wait(0.999)
        assert node(world, 1).status == RUNNING
        assert world.post("paid").claimed

    def test_event_in_time_completes_and_the_timer_does_nothing(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        world.post("paid")
        world.wait(10)
        assert wf_run(world).status == COMPLETED
        assert not node(world, 1).external_event.timed_out

    def test_timer_that_was_on_its_way_when_the_event_came_is_dropped(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        (timer,) = [one for one in world.timers.values() if one.action == TimerAction.EXTERNAL_EVENT_TIMEOUT]
        world.post("paid")
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert wf_run(world).status == COMPLETED
        assert not node(world, 1).external_event.timed_out

    def test_event_after_the_timeout_stays_unclaimed(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        world.wait(2)
        assert not world.post("paid").claimed
        assert wf_run(world).status == ERROR

    def test_timer_of_an_earlier_loop_round_cannot_hit_a_later_one(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            last = wf.declare_str("last", "none")

            def round_(wf: WorkflowThread) -> None:
                last.assign(wf.wait_for_event("paid", timeout=10))

            wf.do_while(last.is_not_equal_to("stop"), round_)

        put(world, body)
        world.run("wf")
        world.wait(6)
        world.post("paid", "go")
        world.wait(6)
        assert wf_run(world).status == RUNNING
        world.wait(5)
        assert wf_run(world).status == ERROR

    def test_run_that_timed_out_has_an_end_time(self, world: World) -> None:
        put(world, wait_a_second)
        world.run("wf")
        world.wait(2)
        assert wf_run(world).HasField("end_time")
        assert wf_run(world).status == LHStatus.ERROR
        assert not reached(world, 2)
