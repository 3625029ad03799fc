"""NOP, SLEEP beside a second thread, WAIT_FOR_CONDITION, THROW_EVENT: execution.md 7.1, 7.3-7.5; PutWorkflowEventDef.

Not tested: AwaitWorkflowEvent (no command of the core); WAIT_FOR_CONDITION without any condition (not specified);
names that are no LHName in PutWorkflowEventDef (api.md leaves it open); a WorkflowEventDef deleted under a WfSpec (not
specified); sleeps that no second thread touches (test_07_sleep.py); conditions on variables of a parent WfRun
(test_07_child_workflows.py).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from littlehorse.model import (
    Comparator,
    DeleteWfRunRequest,
    InlineArrayDef,
    InlineMapDef,
    InlineStructDef,
    LegacyEdgeCondition,
    LHStatus,
    NodeRunId,
    NopNode,
    PutStructDefRequest,
    PutWorkflowEventDefRequest,
    ReturnType,
    StructDefId,
    StructFieldDef,
    ThreadSpec,
    TypeDefinition,
    VariableAssignment,
    VariableMutationType,
    VariableType,
    VariableValue,
    WfRunId,
    WorkflowEvent,
    WorkflowEventDef,
    WorkflowEventDefId,
)
from littlehorse.utils import extract_value
from littlehorse.workflow import NodeOutput, WorkflowThread

from lhd.core.commands.timers import TimerDue
from lhd.core.kinds import TimerAction
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    RUNNING,
    Body,
    failure,
    literal,
    node,
    of_type,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    resume,
    stop,
    thread,
    wf_run,
)
from tests.core.world import World

HALTED = LHStatus.HALTED
INT, STR, BOOL = VariableType.INT, VariableType.STR, VariableType.BOOL
JSON_OBJ, TIMESTAMP = VariableType.JSON_OBJ, VariableType.TIMESTAMP

THROW = "1-throw-thrown-THROW_EVENT"
WAIT = "1-wait-for-condition-WAIT_FOR_CONDITION"


@pytest.fixture
def world() -> World:
    world = World()
    for event_def in ("go", "end", "unheard"):
        put_event_def(world, event_def)
    return world


@pytest.fixture
def thrown(world: World) -> None:
    """The WorkflowEventDef ``thrown``."""
    put_workflow_event_def(world, "thrown")


def put_workflow_event_def(world: World, name: str, content_type: ReturnType | None = None) -> WorkflowEventDef:
    reply: WorkflowEventDef = world.submit(PutWorkflowEventDefRequest(name=name, content_type=content_type))
    return reply


def refuse(world: World, body: Body, *fragments: str, edit: Callable[[ThreadSpec], Any] = lambda _: None) -> None:
    """The workflow is refused with INVALID_ARGUMENT."""
    with refused(Code.INVALID_ARGUMENT, *fragments):
        put_edited(world, body, edit)


class TestNop:
    """execution.md 7.1."""

    def test_nop_completes_at_once(self, world: World) -> None:
        put(world, lambda wf: wf.add_node("nop", NopNode()))
        assert world.run("wf").status == COMPLETED
        assert node(world, 1).node_name == "1-nop-NOP"
        assert node(world, 1).status == COMPLETED

    def test_nop_is_shown_as_entrypoint(self, world: World) -> None:
        put(world, lambda wf: wf.add_node("nop", NopNode()))
        world.run("wf")
        assert node(world, 1).WhichOneof("node_type") == "entrypoint"


@pytest.mark.usefixtures("thrown")
@pytest.mark.parametrize(
    ("add", "name"),
    [
        pytest.param(lambda wf: wf.add_node("nop", NopNode()), "1-nop-NOP", id="NOP"),
        pytest.param(lambda wf: wf.sleep(1), "1-sleep-SLEEP", id="SLEEP"),
        pytest.param(lambda wf: wf.wait_for_condition(wf.condition(1, Comparator.EQUALS, 1)), WAIT, id="CONDITION"),
        pytest.param(lambda wf: wf.throw_event("thrown", "content"), THROW, id="THROW_EVENT"),
    ],
)
def test_node_has_no_output(world: World, add: Callable[[WorkflowThread], Any], name: str) -> None:
    def body(wf: WorkflowThread) -> None:
        text = wf.declare_str("text", "untouched")
        add(wf)
        text.assign(wf.format("{0}", NodeOutput(name)))

    put(world, body)
    world.run("wf")
    world.wait(2)
    assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
    assert python(world, "text") == "untouched"


def moment(world: World, kind: VariableType, seconds: int) -> Any:
    """The time so many seconds from now, as a value for a variable of this type."""
    if kind == INT:
        return world.now_ms + seconds * 1000
    instant = datetime.fromtimestamp(world.now_ms / 1000 + seconds, UTC)
    return instant if kind == TIMESTAMP else instant.isoformat().replace("+00:00", "Z")


def put_sleeper(world: World, field: str, kind: VariableType, *, moves: int = 1) -> None:
    """Thread 0 sleeps at position 2 for what ``v`` says; thread 1 sets ``v`` to the content of each event."""

    def body(wf: WorkflowThread) -> None:
        v = wf.add_variable("v", kind)

        def mover(wf: WorkflowThread) -> None:
            for _ in range(moves):
                v.assign(wf.wait_for_event("go"))

        wf.spawn_thread(mover, "mover")
        wf.sleep(1)

    def edit(spec: ThreadSpec) -> None:
        sleep = spec.nodes["2-sleep-SLEEP"].sleep
        sleep.Clear()
        getattr(sleep, field).CopyFrom(VariableAssignment(variable_name="v"))

    put_edited(world, body, edit)


def matures_at(world: World, position: int = 2, *, number: int = 0) -> int:
    return node(world, position, number=number).sleep.maturation_time.ToMilliseconds()


ABSOLUTE = [
    pytest.param("timestamp", INT, id="epoch milliseconds"),
    pytest.param("timestamp", TIMESTAMP, id="timestamp"),
    pytest.param("iso_date", STR, id="iso date"),
]


class TestSleepWhoseVariableChanges:
    """execution.md 7.3: the length of a sleep until a point in time is evaluated on each advance."""

    @pytest.mark.parametrize(("field", "kind"), ABSOLUTE)
    def test_later_time_moves_the_sleep_and_the_old_timer_is_ignored(
        self, world: World, field: str, kind: VariableType
    ) -> None:
        put_sleeper(world, field, kind)
        world.run("wf", v=moment(world, kind, 60))
        later, later_ms = moment(world, kind, 120), world.now_ms + 120_000
        world.wait(10)
        world.post("go", later)
        assert matures_at(world) == later_ms
        world.wait(109)
        assert node(world, 2).status == RUNNING
        assert not node(world, 2).sleep.matured
        world.wait(1)
        assert node(world, 2).sleep.matured
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(("field", "kind"), ABSOLUTE)
    def test_earlier_time_moves_the_sleep(self, world: World, field: str, kind: VariableType) -> None:
        put_sleeper(world, field, kind)
        world.run("wf", v=moment(world, kind, 60))
        world.post("go", moment(world, kind, 20))
        assert matures_at(world) == world.now_ms + 20_000
        world.wait(19)
        assert node(world, 2).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(("field", "kind"), ABSOLUTE)
    def test_time_that_moves_there_and_back_counts_as_the_last(
        self, world: World, field: str, kind: VariableType
    ) -> None:
        put_sleeper(world, field, kind, moves=2)
        first = moment(world, kind, 60)
        world.run("wf", v=first)
        world.post("go", moment(world, kind, 20))
        world.post("go", first)
        world.wait(59)
        assert node(world, 2).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(("field", "kind"), ABSOLUTE)
    def test_time_moved_into_the_past_wakes_at_the_next_tick(
        self, world: World, field: str, kind: VariableType
    ) -> None:
        put_sleeper(world, field, kind)
        world.run("wf", v=moment(world, kind, 60))
        world.post("go", moment(world, kind, -5))
        world.wait(1)
        assert wf_run(world).status == COMPLETED

    def test_old_timer_that_was_on_its_way_is_ignored(self, world: World) -> None:
        put_sleeper(world, "timestamp", INT)
        world.run("wf", v=moment(world, INT, 60))
        (timer,) = [one for one in world.timers.values() if one.action == TimerAction.SLEEP]
        world.post("go", moment(world, INT, 120))
        world.now_ms += 60_000
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
        assert node(world, 2).status == RUNNING
        assert not node(world, 2).sleep.matured
        world.wait(60)
        assert wf_run(world).status == COMPLETED

    def test_raw_seconds_are_fixed(self, world: World) -> None:
        put_sleeper(world, "raw_seconds", INT)
        world.run("wf", v=60)
        fixed_ms = world.now_ms + 60_000
        world.post("go", 5)
        assert python(world, "v") == 5
        assert matures_at(world) == fixed_ms
        world.wait(59)
        assert node(world, 2).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED

    def test_raw_seconds_outlive_a_variable_that_no_longer_evaluates(self, world: World) -> None:
        put_sleeper(world, "raw_seconds", INT)
        world.run("wf", v=60)
        world.post("go", None)
        world.wait(60)
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(
        ("field", "kind", "content"),
        [("timestamp", INT, None), ("timestamp", TIMESTAMP, None), ("iso_date", STR, None), ("iso_date", STR, "soon")],
    )
    def test_time_that_no_longer_evaluates_is_var_sub_error(
        self, world: World, field: str, kind: VariableType, content: Any
    ) -> None:
        put_sleeper(world, field, kind)
        world.run("wf", v=moment(world, kind, 60))
        world.post("go", content)
        assert node(world, 2).status == ERROR
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).status == ERROR

    def test_change_made_by_the_parent_moves_a_sleeping_child(self, world: World) -> None:
        self.put_sleeping_child(world)
        world.run("wf", v=moment(world, INT, 60))
        world.post("go", moment(world, INT, 20))
        assert matures_at(world, 1, number=1) == world.now_ms + 20_000
        world.wait(20)
        assert wf_run(world).status == COMPLETED

    def test_change_made_during_a_halt_counts_after_it(self, world: World) -> None:
        self.put_sleeping_child(world, "end")
        world.run("wf", v=moment(world, INT, 60))
        stop(world, 1)
        world.post("go", moment(world, INT, 120))
        resume(world, 1)
        assert matures_at(world, 1, number=1) == world.now_ms + 120_000
        world.wait(119)
        assert node(world, 1, number=1).status == RUNNING
        world.wait(1)
        assert node(world, 1, number=1).status == COMPLETED

    @staticmethod
    def put_sleeping_child(world: World, last: str | None = None) -> None:
        """Thread 1 sleeps until ``v``, which thread 0 sets; then thread 0 may wait for one more event."""

        def body(wf: WorkflowThread) -> None:
            v = wf.declare_int("v")
            wf.spawn_thread(lambda wf: wf.sleep_until(v), "sleeper")
            v.assign(wf.wait_for_event("go"))
            if last:
                wf.wait_for_event(last)

        put(world, body)


class TestSleepDuringAHalt:
    """execution.md 7.3, last rule, and 4.2."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        put(world, lambda wf: wf.sleep(60))
        world.run("wf")
        stop(world)
        return world

    def test_sleep_halts_at_once(self, world: World) -> None:
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED
        assert wf_run(world).status == HALTED

    def test_timer_is_recorded_and_the_thread_goes_on_after_the_halt(self, world: World) -> None:
        world.wait(60)
        assert node(world, 1).sleep.matured
        assert node(world, 1).status == HALTED
        assert wf_run(world).status == HALTED
        resume(world)
        assert wf_run(world).status == COMPLETED

    def test_time_runs_on_during_the_halt(self, world: World) -> None:
        world.wait(30)
        resume(world)
        assert node(world, 1).status == RUNNING
        world.wait(29)
        assert node(world, 1).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED


def waits_for_child(wf: WorkflowThread) -> None:
    """Thread 0 waits at position 2 until ``ready`` is 1; thread 1 sets it to the content of an event."""
    ready = wf.declare_int("ready", 0)

    def setter(wf: WorkflowThread) -> None:
        ready.assign(wf.wait_for_event("go"))

    wf.spawn_thread(setter, "setter")
    wf.wait_for_condition(ready.is_equal_to(1))


def waits_for_parent(wf: WorkflowThread) -> None:
    """Thread 1 waits at position 1 until ``ready`` is 1; thread 0 sets it to the content of each of two events."""
    ready = wf.declare_int("ready", 0)

    def waiter(wf: WorkflowThread) -> None:
        wf.wait_for_condition(ready.is_equal_to(1))

    wf.spawn_thread(waiter, "waiter")
    ready.assign(wf.wait_for_event("go"))
    ready.assign(wf.wait_for_event("go"))
    wf.wait_for_event("end")


def put_condition(world: World, condition: VariableAssignment | LegacyEdgeCondition) -> None:
    """A wait at position 1 for a condition on the variables ``i`` (INT), ``b`` (BOOL) and ``o`` (JSON_OBJ)."""

    def body(wf: WorkflowThread) -> None:
        wf.declare_int("i")
        wf.declare_bool("b")
        wf.declare_json_obj("o")
        wf.wait_for_condition(wf.condition(1, Comparator.EQUALS, 1))

    def edit(spec: ThreadSpec) -> None:
        place = spec.nodes[WAIT].wait_for_condition
        if isinstance(condition, LegacyEdgeCondition):
            place.legacy_condition.CopyFrom(condition)
        else:
            place.condition.CopyFrom(condition)

    put_edited(world, body, edit)


def compare(left: VariableAssignment, comparator: Comparator, right: Any) -> VariableAssignment:
    return VariableAssignment(
        expression=VariableAssignment.Expression(lhs=left, comparator=comparator, rhs=literal(right))
    )


I_VAR, B_VAR = VariableAssignment(variable_name="i"), VariableAssignment(variable_name="b")
IN_O = VariableAssignment(variable_name="o", json_path="$.a")


class TestWaitForCondition:
    """execution.md 7.4."""

    def test_condition_that_holds_on_arrival_completes_at_once(self, world: World) -> None:
        put_condition(world, B_VAR)
        assert world.run("wf", b=True).status == COMPLETED
        assert node(world, 1).status == COMPLETED
        assert node(world, 1).WhichOneof("node_type") == "wait_for_condition"

    def test_condition_that_does_not_hold_waits(self, world: World) -> None:
        put_condition(world, B_VAR)
        assert world.run("wf", b=False).status == RUNNING
        assert node(world, 1).status == RUNNING
        assert node(world, 1).WhichOneof("node_type") == "wait_for_condition"
        world.wait(1000)
        assert wf_run(world).status == RUNNING

    @pytest.mark.parametrize(
        ("condition", "holds", "waits"),
        [
            pytest.param(B_VAR, {"b": True}, {"b": False}, id="variable"),
            pytest.param(IN_O, {"o": {"a": True}}, {"o": {"a": False}}, id="place in JSON"),
            pytest.param(compare(I_VAR, Comparator.GREATER_THAN, 4), {"i": 5}, {"i": 4}, id="comparison"),
            pytest.param(compare(I_VAR, Comparator.EQUALS, None), {"i": None}, {"i": 4}, id="comparison with NULL"),
            pytest.param(compare(I_VAR, Comparator.LESS_THAN, 4), {"i": None}, {"i": 4}, id="NULL is least"),
            pytest.param(literal(True), {}, None, id="literal that holds"),
            pytest.param(
                VariableAssignment(
                    expression=VariableAssignment.Expression(
                        lhs=compare(I_VAR, Comparator.EQUALS, 1), mutation_type=VariableMutationType.AND, rhs=B_VAR
                    )
                ),
                {"i": 1, "b": True},
                {"i": 1, "b": False},
                id="AND",
            ),
            pytest.param(
                VariableAssignment(
                    expression=VariableAssignment.Expression(
                        lhs=compare(I_VAR, Comparator.EQUALS, 1), mutation_type=VariableMutationType.OR, rhs=B_VAR
                    )
                ),
                {"i": 0, "b": True},
                {"i": 0, "b": False},
                id="OR",
            ),
            pytest.param(
                LegacyEdgeCondition(comparator=Comparator.NOT_EQUALS, left=I_VAR, right=literal(3)),
                {"i": 4},
                {"i": 3},
                id="legacy",
            ),
        ],
    )
    def test_condition_is_one_of_an_edge(
        self,
        world: World,
        condition: VariableAssignment | LegacyEdgeCondition,
        holds: dict[str, Any],
        waits: dict[str, Any] | None,
    ) -> None:
        put_condition(world, condition)
        assert world.run("wf", "holds", **holds).status == COMPLETED
        if waits is not None:
            assert world.run("wf", "waits", **waits).status == RUNNING

    @pytest.mark.parametrize(
        ("condition", "variables"),
        [
            pytest.param(compare(IN_O, Comparator.EQUALS, 1), {}, id="path into NULL"),
            pytest.param(compare(IN_O, Comparator.LESS_THAN, 1), {"o": {"a": "x"}}, id="comparison of STR and INT"),
            pytest.param(compare(IN_O, Comparator.IN, None), {"o": {"a": "x"}}, id="IN NULL"),
            pytest.param(IN_O, {"o": {"a": 1}}, id="INT is no condition"),
            pytest.param(IN_O, {"o": {"a": "perhaps"}}, id="text is no condition"),
            pytest.param(B_VAR, {"b": None}, id="NULL is no condition"),
        ],
    )
    def test_condition_that_does_not_evaluate_is_var_sub_error(
        self, world: World, condition: VariableAssignment, variables: dict[str, Any]
    ) -> None:
        put_condition(world, condition)
        assert world.run("wf", **variables).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_condition_that_no_longer_evaluates_is_var_sub_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            state = wf.declare_json_obj("state", {"n": 1})

            def setter(wf: WorkflowThread) -> None:
                state.assign(wf.wait_for_event("go"))

            wf.spawn_thread(setter, "setter")
            wf.wait_for_condition(state.with_json_path("$.n").is_greater_than(5))

        put(world, body)
        assert world.run("wf").status == RUNNING
        world.post("go", {"n": "many"})
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).status == ERROR

    def test_failure_can_be_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            state = wf.declare_json_obj("state")
            handled = wf.declare_bool("handled", False)
            waited = wf.wait_for_condition(state.with_json_path("$.n").is_greater_than(5))
            wf.handle_error(waited, lambda wf: handled.assign(True))

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert python(world, "handled") is True
        assert node(world, 1).status == ERROR

    def test_mutation_by_a_child_thread_wakes_it_in_the_same_command(self, world: World) -> None:
        put(world, waits_for_child)
        assert world.run("wf").status == RUNNING
        assert node(world, 2).status == RUNNING
        world.post("go", 1)
        assert node(world, 2).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_mutation_by_the_parent_thread_wakes_it_in_the_same_command(self, world: World) -> None:
        put(world, waits_for_parent)
        world.run("wf")
        world.post("go", 1)
        assert thread(world, number=1).status == COMPLETED

    def test_mutation_by_a_sibling_thread_wakes_it_in_the_same_command(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            ready = wf.declare_int("ready", 0)

            def waiter(wf: WorkflowThread) -> None:
                wf.wait_for_condition(ready.is_equal_to(1))

            wf.spawn_thread(waiter, "waiter")
            wf.spawn_thread(lambda wf: ready.assign(wf.wait_for_event("go")), "setter")

        put(world, body)
        world.run("wf")
        world.post("go", 1)
        assert wf_run(world).status == COMPLETED

    def test_mutation_by_an_interrupt_handler_wakes_it_in_the_same_command(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            ready = wf.declare_int("ready", 0)
            wf.add_interrupt_handler("go", lambda wf: ready.assign(wf.declare_int("INPUT")))
            wf.wait_for_condition(ready.is_equal_to(1))

        put(world, body)
        world.run("wf")
        world.post("go", 5)
        assert node(world, 1).status == RUNNING
        world.post("go", 1)
        assert wf_run(world).status == COMPLETED

    def test_mutation_that_does_not_make_it_hold_leaves_it_waiting(self, world: World) -> None:
        put(world, waits_for_child)
        world.run("wf")
        world.post("go", 2)
        assert python(world, "ready") == 2
        assert node(world, 2).status == RUNNING

    def test_advance_without_a_mutation_leaves_it_waiting(self, world: World) -> None:
        put(world, waits_for_child)
        world.run("wf")
        world.post("unheard")
        assert node(world, 2).status == RUNNING

    def test_variable_changed_before_arrival_counts(self, world: World) -> None:
        put(world, waits_for_child)
        world.post("go", 1)
        assert world.run("wf").status == COMPLETED

    def test_mutations_of_its_edge_run(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 1)
            wf.wait_for_condition(count.is_equal_to(1))
            count.assign(count.add(1))

        put(world, body)
        world.run("wf")
        assert python(world, "count") == 2

    def test_each_loop_round_waits_anew(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            ready = wf.declare_int("ready", 0)
            rounds = wf.declare_int("rounds", 0)

            def setter(wf: WorkflowThread) -> None:
                ready.assign(wf.wait_for_event("go"))
                ready.assign(wf.wait_for_event("go"))

            def round_(wf: WorkflowThread) -> None:
                wf.wait_for_condition(ready.is_equal_to(1))
                ready.assign(0)
                rounds.assign(rounds.add(1))

            wf.spawn_thread(setter, "setter")
            wf.do_while(rounds.is_less_than(2), round_)

        put(world, body)
        world.run("wf")
        world.post("go", 1)
        assert python(world, "rounds") == 1
        assert wf_run(world).status == RUNNING
        world.post("go", 1)
        assert python(world, "rounds") == 2
        assert wf_run(world).status == COMPLETED

    def test_it_halts_at_once(self, world: World) -> None:
        put(world, waits_for_child)
        world.run("wf")
        stop(world)
        assert node(world, 2).status == HALTED
        assert wf_run(world).status == HALTED

    def test_change_during_a_halt_counts_after_it(self, world: World) -> None:
        put(world, waits_for_parent)
        world.run("wf")
        stop(world, 1)
        world.post("go", 1)
        assert node(world, 1, number=1).status == HALTED
        assert thread(world, number=1).status == HALTED
        resume(world, 1)
        assert thread(world, number=1).status == COMPLETED

    def test_change_that_came_and_went_during_a_halt_does_not_count(self, world: World) -> None:
        put(world, waits_for_parent)
        world.run("wf")
        stop(world, 1)
        world.post("go", 1)
        world.post("go", 0)
        resume(world, 1)
        assert node(world, 1, number=1).status == RUNNING


class TestPutWaitForCondition:
    """api.md 5.5: the condition is checked as for an edge."""

    @pytest.mark.parametrize(
        "condition",
        [
            pytest.param(VariableAssignment(variable_name="ghost"), id="undeclared variable"),
            pytest.param(
                compare(VariableAssignment(variable_name="ghost"), Comparator.EQUALS, 1),
                id="undeclared variable in a comparison",
            ),
            pytest.param(literal("text"), id="STR literal"),
            pytest.param(I_VAR, id="INT variable"),
            pytest.param(VariableAssignment(variable_name="o"), id="JSON variable"),
            pytest.param(compare(I_VAR, Comparator.LESS_THAN, {"a": 1}), id="order of JSON"),
            pytest.param(compare(I_VAR, Comparator.IN, 5), id="IN an INT"),
            pytest.param(compare(I_VAR, Comparator.EQUALS, [1]), id="INT equals JSON_ARR"),
            pytest.param(VariableAssignment(), id="no source"),
            pytest.param(
                VariableAssignment(node_output=VariableAssignment.NodeOutputReference(node_name="nowhere")),
                id="output of a node that is not there",
            ),
            pytest.param(
                LegacyEdgeCondition(comparator=Comparator.LESS_THAN, left=I_VAR, right=literal({"a": 1})),
                id="legacy order of JSON",
            ),
        ],
    )
    def test_bad_condition(self, world: World, condition: VariableAssignment | LegacyEdgeCondition) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_condition(world, condition)

    @pytest.mark.parametrize(
        "condition",
        [
            pytest.param(literal(True), id="BOOL literal"),
            pytest.param(B_VAR, id="BOOL variable"),
            pytest.param(IN_O, id="unknown type"),
            pytest.param(compare(I_VAR, Comparator.EQUALS, None), id="comparison with NULL"),
            pytest.param(compare(I_VAR, Comparator.LESS_THAN, 1.5), id="order of numbers"),
        ],
    )
    def test_good_condition(self, world: World, condition: VariableAssignment) -> None:
        put_condition(world, condition)
        assert world.run("wf", b=True, i=1, o={"a": True}).status in (RUNNING, COMPLETED)


def event(world: World, number: int = 0, event_def: str = "thrown", wf_run_id: str = "r") -> WorkflowEvent:
    """A WorkflowEvent that was thrown."""
    found = world.workflow_event(event_def, number, wf_run_id=wf_run_id)
    assert found is not None, f"{wf_run_id} has not thrown {event_def} {number}"
    return found


def throw(wf: WorkflowThread) -> None:
    wf.throw_event("thrown", "content")


@pytest.mark.usefixtures("thrown")
class TestThrowEvent:
    """execution.md 7.5 and 1.1."""

    def test_node_completes_at_once(self, world: World) -> None:
        put(world, throw)
        assert world.run("wf").status == COMPLETED
        assert node(world, 1).status == COMPLETED
        assert node(world, 1).WhichOneof("node_type") == "throw_event"

    def test_event_is_stored(self, world: World) -> None:
        put(world, throw)
        world.run("wf")
        thrown = event(world)
        assert thrown.id.wf_run_id == WfRunId(id="r")
        assert thrown.id.workflow_event_def_id == WorkflowEventDefId(name="thrown")
        assert thrown.id.number == 0
        assert thrown.content.str == "content"
        assert thrown.created_at.ToMilliseconds() == world.now_ms
        assert thrown.node_run_id == NodeRunId(wf_run_id=WfRunId(id="r"), thread_run_number=0, position=1)

    def test_node_run_points_to_the_event(self, world: World) -> None:
        put(world, throw)
        world.run("wf")
        assert node(world, 1).throw_event.workflow_event_id == event(world).id

    def test_event_is_created_when_the_node_is_reached(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.sleep(60)
            throw(wf)

        put(world, body)
        world.run("wf")
        assert world.workflow_event("thrown") is None
        started_ms = world.now_ms
        world.wait(60)
        assert event(world).created_at.ToMilliseconds() == started_ms + 60_000

    @pytest.mark.parametrize("content", ["text", 5, 1.5, True, b"raw", {"a": [1, None]}, [1], None, WfRunId(id="x")])
    def test_content_may_be_anything(self, world: World, content: Any) -> None:
        put(world, lambda wf: wf.throw_event("thrown", content))
        assert world.run("wf").status == COMPLETED
        assert extract_value(event(world).content) == content

    def test_content_is_evaluated_in_the_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.throw_event("thrown", wf.declare_int("n").add(1))

        put(world, body)
        world.run("wf", n=4)
        assert event(world).content == VariableValue(int=5)

    def test_content_may_be_the_output_of_a_node(self, world: World) -> None:
        put(world, lambda wf: wf.throw_event("thrown", wf.wait_for_event("go")))
        world.run("wf")
        world.post("go", "from outside")
        assert event(world).content.str == "from outside"

    def test_content_that_does_not_evaluate_is_var_sub_error_and_throws_nothing(self, world: World) -> None:
        put(world, lambda wf: wf.throw_event("thrown", wf.declare_json_obj("o").with_json_path("$.a")))
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert world.workflow_event("thrown") is None

    def test_failure_can_be_handled(self, world: World) -> None:
        def instead(wf: WorkflowThread) -> None:
            wf.throw_event("thrown", "instead")

        def body(wf: WorkflowThread) -> None:
            wf.throw_event("thrown", wf.declare_json_obj("o").with_json_path("$.a"))
            wf.handle_error(NodeOutput(THROW), instead)

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert event(world).content.str == "instead"
        assert event(world).node_run_id.thread_run_number == 1

    @pytest.mark.parametrize("declared", [of_type(INT), of_type(JSON_OBJ), ReturnType()], ids=["INT", "JSON", "void"])
    def test_content_is_not_checked_against_the_def(self, world: World, declared: ReturnType) -> None:
        put_workflow_event_def(world, "typed", declared)
        put(world, lambda wf: wf.throw_event("typed", "no number"))
        assert world.run("wf").status == COMPLETED
        assert event(world, event_def="typed").content.str == "no number"

    def test_numbers_count_from_zero_in_the_order_of_throwing(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            for content in ("a", "b", "c"):
                wf.throw_event("thrown", content)

        put(world, body)
        world.run("wf")
        assert [event(world, number).content.str for number in range(3)] == ["a", "b", "c"]
        assert world.workflow_event("thrown", 3) is None
        assert [node(world, position).throw_event.workflow_event_id.number for position in (1, 2, 3)] == [0, 1, 2]

    def test_numbers_go_on_in_later_commands(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            throw(wf)
            wf.wait_for_event("go")
            throw(wf)

        put(world, body)
        world.run("wf")
        world.wait(60)
        world.post("go")
        assert event(world, 1).node_run_id.position == 3
        assert event(world, 1).created_at.ToMilliseconds() == event(world, 0).created_at.ToMilliseconds() + 60_000

    def test_numbers_are_shared_by_the_threads_of_a_run(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            throw(wf)
            wf.spawn_thread(throw, "child")

        put(world, body)
        world.run("wf")
        assert event(world, 0).node_run_id.thread_run_number == 0
        assert event(world, 1).node_run_id.thread_run_number == 1

    def test_each_def_has_its_own_numbers(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            throw(wf)
            wf.throw_event("other", "elsewhere")
            throw(wf)

        put_workflow_event_def(world, "other")
        put(world, body)
        world.run("wf")
        assert event(world, 0, "other").content.str == "elsewhere"
        assert world.workflow_event("other", 1) is None
        assert event(world, 1).node_run_id.position == 3

    def test_each_run_has_its_own_numbers(self, world: World) -> None:
        put(world, throw)
        world.run("wf", "r")
        world.run("wf", "s")
        assert event(world, 0, wf_run_id="s").id.wf_run_id == WfRunId(id="s")
        assert world.workflow_event("thrown", 1, wf_run_id="s") is None

    def test_each_loop_round_throws(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.throw_event("thrown", count)
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(3), round_)

        put(world, body)
        world.run("wf")
        assert [event(world, number).content.int for number in range(3)] == [0, 1, 2]

    def test_event_stays_when_the_run_fails_later(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            throw(wf)
            wf.fail("no-luck", "it went wrong")

        put(world, body)
        world.run("wf")
        assert event(world).content.str == "content"

    def test_deletion_of_the_run_removes_its_events_and_starts_the_numbers_again(self, world: World) -> None:
        put(world, throw)
        world.run("wf")
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.workflow_event("thrown") is None
        world.run("wf")
        assert event(world).id.number == 0

    def test_event_is_no_external_event(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.throw_event("go", "content")
            wf.wait_for_event("go")

        put_workflow_event_def(world, "go")
        put(world, body)
        assert world.run("wf").status == RUNNING
        assert reached(world, 2)


@pytest.mark.usefixtures("thrown")
class TestPutThrowEvent:
    """api.md 5.5."""

    def test_def_must_exist(self, world: World) -> None:
        refuse(world, lambda wf: wf.throw_event("unknown", "content"))

    def test_external_event_def_does_not_count(self, world: World) -> None:
        refuse(world, lambda wf: wf.throw_event("go", "content"))

    def test_undeclared_variable_as_content(self, world: World) -> None:
        ghost = VariableAssignment(variable_name="ghost")
        refuse(world, throw, edit=lambda spec: spec.nodes[THROW].throw_event.content.CopyFrom(ghost))

    def test_def_that_the_sdk_registers_with_the_workflow(self, world: World) -> None:
        put(world, lambda wf: wf.throw_event("fresh", 1, return_type=int))
        assert world.run("wf").status == COMPLETED
        assert event(world, event_def="fresh").content.int == 1


STRUCT = TypeDefinition(struct_def_id=StructDefId(name="person", version=-1))
CONTENT_TYPES = [of_type(STR), of_type(INT), of_type(JSON_OBJ), ReturnType()]


class TestPutWorkflowEventDef:
    """api.md 4.1."""

    @pytest.mark.parametrize("content_type", CONTENT_TYPES, ids=["STR", "INT", "JSON_OBJ", "void"])
    def test_reply_is_the_stored_definition(self, world: World, content_type: ReturnType) -> None:
        reply = put_workflow_event_def(world, "e", content_type)
        assert reply.id == WorkflowEventDefId(name="e")
        assert reply.content_type == content_type
        assert reply.created_at.ToMilliseconds() == world.now_ms

    @pytest.mark.parametrize("content_type", [*CONTENT_TYPES, None], ids=["STR", "INT", "JSON_OBJ", "void", "absent"])
    def test_same_again_returns_the_stored_one(self, world: World, content_type: ReturnType | None) -> None:
        first = put_workflow_event_def(world, "e", content_type)
        world.now_ms += 1000
        assert put_workflow_event_def(world, "e", content_type) == first

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param(of_type(STR), of_type(INT), id="another type"),
            pytest.param(ReturnType(), of_type(INT), id="void to typed"),
            pytest.param(of_type(INT), ReturnType(), id="typed to void"),
            pytest.param(of_type(INT), None, id="typed to absent"),
            pytest.param(
                of_type(INT),
                ReturnType(
                    return_type=TypeDefinition(inline_array_def=InlineArrayDef(array_type=of_type(INT).return_type))
                ),
                id="item to array",
            ),
        ],
    )
    def test_another_content_type_already_exists(
        self, world: World, before: ReturnType, after: ReturnType | None
    ) -> None:
        first = put_workflow_event_def(world, "e", before)
        world.now_ms += 1000
        with refused(Code.ALREADY_EXISTS):
            put_workflow_event_def(world, "e", after)
        assert put_workflow_event_def(world, "e", before) == first

    def test_same_name_as_an_external_event_def_is_another_definition(self, world: World) -> None:
        put_event_def(world, "shared", of_type(INT))
        assert put_workflow_event_def(world, "shared", of_type(STR)).content_type == of_type(STR)

    def test_empty_type_definition_means_json_obj(self, world: World) -> None:
        reply = put_workflow_event_def(world, "e", ReturnType(return_type=TypeDefinition()))
        assert reply.content_type.return_type.WhichOneof("defined_type") == "primitive_type"
        assert reply.content_type == of_type(JSON_OBJ)
        assert put_workflow_event_def(world, "e", of_type(JSON_OBJ)) == reply

    @pytest.mark.parametrize(
        "content_type",
        [
            STRUCT,
            TypeDefinition(inline_array_def=InlineArrayDef(array_type=STRUCT)),
            TypeDefinition(inline_map_def=InlineMapDef(key_type=TypeDefinition(primitive_type=STR), value_type=STRUCT)),
        ],
        ids=["struct", "array of structs", "map of structs"],
    )
    def test_struct_def_must_exist(self, world: World, content_type: TypeDefinition) -> None:
        with refused(Code.INVALID_ARGUMENT, "refers to non-existent StructDef person"):
            put_workflow_event_def(world, "e", ReturnType(return_type=content_type))

    def test_struct_def_version_must_exist(self, world: World) -> None:
        put_person(world)
        with refused(Code.INVALID_ARGUMENT, "refers to non-existent StructDef person"):
            put_workflow_event_def(
                world, "e", ReturnType(return_type=TypeDefinition(struct_def_id=StructDefId(name="person", version=1)))
            )

    def test_latest_struct_def_is_pinned(self, world: World) -> None:
        put_person(world)
        reply = put_workflow_event_def(world, "e", ReturnType(return_type=STRUCT))
        assert reply.content_type.return_type.struct_def_id == StructDefId(name="person", version=0)
        assert put_workflow_event_def(world, "e", ReturnType(return_type=STRUCT)) == reply

    def test_latest_struct_def_is_pinned_inside_an_array(self, world: World) -> None:
        put_person(world)
        array = TypeDefinition(inline_array_def=InlineArrayDef(array_type=STRUCT))
        reply = put_workflow_event_def(world, "e", ReturnType(return_type=array))
        assert reply.content_type.return_type.inline_array_def.array_type.struct_def_id.version == 0


def put_person(world: World) -> None:
    """The first version of the StructDef ``person``."""
    field = StructFieldDef(field_type=TypeDefinition(primitive_type=STR))
    world.submit(PutStructDefRequest(name="person", struct_def=InlineStructDef(fields={"name": field})))
