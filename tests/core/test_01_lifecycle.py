"""WfRun, ThreadRun and NodeRun: execution.md sections 0.1 and 1, 7.1 and 7.2."""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    Comparator,
    DeleteWfRunRequest,
    Edge,
    ExitNode,
    FailureDef,
    LegacyEdgeCondition,
    Node,
    NopNode,
    RunWfRequest,
    ThreadSpec,
    ThreadType,
    VariableAssignment,
    VariableMutation,
    VariableMutationType,
    VariableValue,
    WfRun,
    WfRunId,
)
from littlehorse.workflow import WorkflowThread

from lhd.core import kinds
from lhd.core.records import NotLoaded
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    failure,
    literal,
    node,
    nothing,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    thread,
    wf_run,
)
from tests.core.world import TENANT, World

ENTRYPOINT, EXIT = "0-entrypoint-ENTRYPOINT", "1-exit-EXIT"


def broken() -> VariableAssignment:
    """An assignment that passes registration and fails when it is evaluated."""
    return VariableAssignment(variable_name="nothing", json_path="$.x")


def exists(world: World, wf_run_id: str) -> bool:
    try:
        return world.memory.lookup(kinds.WF_RUN, (TENANT, wf_run_id)) is not None
    except NotLoaded:
        return False


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    world.put_task_def("t")
    return world


class TestNumbering:
    """execution.md 1.1 and 1.8."""

    def test_thread_zero_is_the_entrypoint(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid"))
        run = world.run("wf")
        assert run.greatest_threadrun_number == 0
        (only,) = run.thread_runs
        assert (only.number, only.type, only.thread_spec_name) == (0, ThreadType.ENTRYPOINT, "entrypoint")
        assert not only.HasField("parent_thread_id")
        assert not only.child_thread_ids
        assert only.wf_spec_id == run.wf_spec_id
        assert only.current_node_position == 1

    def test_positions_count_activated_nodes(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid")
            wf.execute("t")

        put(world, body)
        world.run("wf")
        world.post("paid")
        assert [node(world, position).node_name for position in range(3)] == [
            ENTRYPOINT,
            "1-paid-EXTERNAL_EVENT",
            "2-t-TASK",
        ]
        assert thread(world).current_node_position == 2
        assert not reached(world, 3)

    def test_node_run_knows_its_place(self, world: World) -> None:
        spec = put(world, nothing)
        world.run("wf")
        for position in (0, 1):
            run = node(world, position)
            assert run.id.wf_run_id.id == "r"
            assert (run.id.thread_run_number, run.id.position) == (0, position)
            assert run.thread_spec_name == "entrypoint"
            assert run.wf_spec_id == spec.id

    def test_loop_gives_new_node_runs_for_the_same_node(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.wait_for_event("paid")
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(2), round_)

        put(world, body)
        world.run("wf")
        world.post("paid")
        world.post("paid")
        assert wf_run(world).status == COMPLETED
        waited = [
            position
            for position in range(thread(world).current_node_position + 1)
            if node(world, position).node_name == "2-paid-EXTERNAL_EVENT"
        ]
        assert len(waited) == 2

    def test_variable_is_created_for_every_declaration(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("a", 1)
            wf.declare_str("b").masked()

        spec = put(world, body)
        world.run("wf")
        for name, masked in (("a", False), ("b", True)):
            found = world.memory.lookup(kinds.VARIABLE, (TENANT, "r", 0, name))
            assert found is not None
            assert (found.id.wf_run_id.id, found.id.thread_run_number, found.id.name) == ("r", 0, name)
            assert found.masked == masked
            assert found.wf_spec_id == spec.id
            assert found.created_at.ToMilliseconds() == world.now_ms


class TestStatusesAndTimes:
    """execution.md 1.2 and 1.3."""

    def test_finished_run(self, world: World) -> None:
        put(world, nothing)
        run = world.run("wf")
        assert run.status == thread(world).status == COMPLETED
        assert [node(world, position).status for position in (0, 1)] == [COMPLETED, COMPLETED]
        for time in (run.start_time, run.end_time, thread(world).start_time, thread(world).end_time):
            assert time.ToMilliseconds() == world.now_ms

    def test_waiting_run_has_no_end_times(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid"))
        run = world.run("wf")
        assert run.status == thread(world).status == node(world, 1).status == RUNNING
        assert not run.HasField("end_time")
        assert not thread(world).HasField("end_time")
        assert not node(world, 1).HasField("end_time")
        assert node(world, 1).arrival_time.ToMilliseconds() == world.now_ms

    def test_end_times_are_those_of_the_command_that_ended_it(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid"))
        started_ms = world.now_ms
        world.run("wf")
        world.wait(5)
        world.post("paid")
        assert wf_run(world).start_time.ToMilliseconds() == started_ms
        assert wf_run(world).end_time.ToMilliseconds() == started_ms + 5000
        assert thread(world).end_time.ToMilliseconds() == started_ms + 5000
        assert node(world, 1).arrival_time.ToMilliseconds() == started_ms
        assert node(world, 1).end_time.ToMilliseconds() == started_ms + 5000
        assert node(world, 2).arrival_time.ToMilliseconds() == started_ms + 5000

    def test_failed_run_has_end_times_and_the_message(self, world: World) -> None:
        put(world, lambda wf: wf.fail("bad-luck", "the message"))
        run = world.run("wf")
        assert run.status == thread(world).status == node(world, 1).status == EXCEPTION
        assert run.end_time.ToMilliseconds() == world.now_ms
        assert thread(world).end_time.ToMilliseconds() == world.now_ms
        assert "the message" in thread(world).error_message

    def test_error_message_of_a_node_is_set_when_it_fails_in_process(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid", timeout=1))
        world.run("wf")
        world.wait(2)
        assert node(world, 1).error_message

    def test_error_message_of_a_node_is_unset_when_arrival_fails(self, world: World) -> None:
        put(world, lambda wf: wf.wait_for_event("paid", correlation_id=wf.declare_str("key")))
        world.run("wf")
        assert node(world, 1).status == ERROR
        assert not node(world, 1).HasField("error_message")
        assert thread(world).error_message

    def test_error_message_of_a_node_is_unset_when_its_edge_fails(self, world: World) -> None:
        put_edited(world, nothing, lambda spec: edges(spec)[0].condition.CopyFrom(literal(False)))
        world.run("wf")
        assert node(world, 0).status == ERROR
        assert not node(world, 0).HasField("error_message")
        assert thread(world).error_message


def edges(spec: ThreadSpec) -> Any:
    """The edges that leave ENTRYPOINT."""
    return spec.nodes[ENTRYPOINT].outgoing_edges


def branches(*conditions: VariableAssignment | None) -> Callable[[ThreadSpec], None]:
    """ENTRYPOINT leads to the NOP nodes n0, n1 ... under these conditions, and they to EXIT."""

    def edit(spec: ThreadSpec) -> None:
        del edges(spec)[:]
        for number, condition in enumerate(conditions):
            name = f"n{number}"
            edges(spec).append(Edge(sink_node_name=name, condition=condition))
            spec.nodes[name].CopyFrom(Node(nop=NopNode(), outgoing_edges=[Edge(sink_node_name=EXIT)]))

    return edit


def declares_nothing(wf: WorkflowThread) -> None:
    wf.declare_json_obj("nothing")


class TestEdges:
    """execution.md 1.6."""

    @pytest.mark.parametrize(
        ("conditions", "taken"),
        [
            ((True, True), "n0"),
            ((False, True), "n1"),
            ((False, False, None), "n2"),
            ((None, True), "n0"),
            ((False, None, None), "n1"),
        ],
    )
    def test_first_edge_that_holds_is_taken(
        self, world: World, conditions: tuple[bool | None, ...], taken: str
    ) -> None:
        put_edited(
            world, nothing, branches(*(None if condition is None else literal(condition) for condition in conditions))
        )
        assert world.run("wf").status == COMPLETED
        assert node(world, 1).node_name == taken

    def test_no_edge_holds(self, world: World) -> None:
        put_edited(world, nothing, branches(literal(False), literal(False)))
        assert world.run("wf").status == ERROR
        assert node(world, 0).status == thread(world).status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"
        assert not reached(world, 1)

    def test_error_in_a_condition_fails_although_a_later_edge_holds(self, world: World) -> None:
        put_edited(world, declares_nothing, branches(broken(), None))
        assert world.run("wf").status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"

    def test_conditions_after_the_taken_edge_are_not_evaluated(self, world: World) -> None:
        put_edited(world, declares_nothing, branches(literal(True), broken()))
        assert world.run("wf").status == COMPLETED

    def test_null_condition_is_var_sub_error(self, world: World) -> None:
        put_edited(world, nothing, branches(literal(None), None))
        assert world.run("wf").status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"

    def test_condition_that_turns_out_to_be_no_bool_is_var_sub_error(self, world: World) -> None:
        path = VariableAssignment(variable_name="nothing", json_path="$.x")
        put_edited(world, declares_nothing, branches(path, None))
        assert world.run("wf", nothing={"x": 5}).status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"

    @pytest.mark.parametrize(("limit", "taken"), [(10, "n0"), (3, "n1")])
    def test_legacy_condition_compares(self, world: World, limit: int, taken: str) -> None:
        legacy = LegacyEdgeCondition(left=literal(5), comparator=Comparator.LESS_THAN, right=literal(limit))

        def edit(spec: ThreadSpec) -> None:
            branches(None, None)(spec)
            edges(spec)[0].legacy_condition.CopyFrom(legacy)

        put_edited(world, nothing, edit)
        world.run("wf")
        assert node(world, 1).node_name == taken

    def test_mutations_see_the_results_of_earlier_ones(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a, b = wf.declare_int("a", 1), wf.declare_int("b", 0)
            a.assign(a.add(1))
            b.assign(a.multiply(10))

        put(world, body)
        world.run("wf")
        assert (python(world, "a"), python(world, "b")) == (2, 20)

    def test_failing_mutation_undoes_the_earlier_ones_of_the_edge(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a = wf.declare_int("a", 1)
            a.assign(a.add(1))
            a.assign(a.divide(0))

        put(world, body)
        assert world.run("wf").status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"
        assert python(world, "a") == 1
        assert not reached(world, 1)

    def test_failing_mutation_leaves_earlier_edges_applied(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a = wf.declare_int("a", 1)
            a.assign(5)
            wf.wait_for_event("paid")
            a.assign(a.divide(0))

        put(world, body)
        world.run("wf")
        world.post("paid")
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert node(world, 1).status == ERROR
        assert python(world, "a") == 5

    def test_only_the_taken_edge_mutates(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_str("taken", "none")

        def edit(spec: ThreadSpec) -> None:
            branches(literal(False), None)(spec)
            for number, edge in enumerate(edges(spec)):
                edge.variable_mutations.append(
                    VariableMutation(
                        lhs_name="taken",
                        operation=VariableMutationType.ASSIGN,
                        rhs_assignment=literal(f"edge {number}"),
                    )
                )

        put_edited(world, body, edit)
        world.run("wf")
        assert python(world, "taken") == "edge 1"

    def test_conditions_see_the_variables_before_the_mutations_of_the_edge(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a = wf.declare_int("a", 0)
            wf.do_if(a.is_equal_to(0), lambda wf: a.assign(1))

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert python(world, "a") == 1

    def test_output_of_a_node_that_never_ran_is_var_sub_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept")
            output: list[Any] = []
            wf.do_if(wf.declare_bool("ask").is_equal_to(True), lambda wf: output.append(wf.wait_for_event("paid")))
            kept.assign(output[0])

        put(world, body)
        assert world.run("wf", ask=False).status == ERROR
        last = thread(world).current_node_position
        assert failure(world, last).failure_name == "VAR_SUB_ERROR"

    def test_latest_output_of_a_node_counts(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count, kept = wf.declare_int("count", 0), wf.declare_str("kept")
            output: list[Any] = []

            def round_(wf: WorkflowThread) -> None:
                output.append(wf.wait_for_event("paid"))
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(2), round_)
            kept.assign(output[0])

        put(world, body)
        world.run("wf")
        world.post("paid", "first")
        world.post("paid", "second")
        assert python(world, "kept") == "second"


def nops(count: int) -> Callable[[ThreadSpec], None]:
    """A row of NOP nodes between ENTRYPOINT and EXIT."""

    def edit(spec: ThreadSpec) -> None:
        edges(spec)[0].sink_node_name = "n0"
        for number in range(count):
            sink = f"n{number + 1}" if number + 1 < count else EXIT
            spec.nodes[f"n{number}"].CopyFrom(Node(nop=NopNode(), outgoing_edges=[Edge(sink_node_name=sink)]))

    return edit


class TestLoopGuard:
    """execution.md 1.4."""

    def test_endless_loop_ends_in_internal_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a = wf.declare_int("a", 0)
            wf.do_while(a.is_equal_to(0), nothing)

        put(world, body)
        run = world.run("wf")
        assert run.status == thread(world).status == ERROR
        assert run.HasField("end_time")
        current = thread(world).current_node_position
        assert node(world, current).status == ERROR
        assert failure(world, current).failure_name == "INTERNAL_ERROR"
        assert "loop" in failure(world, current).message

    def test_endless_loop_takes_about_512_steps(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            a = wf.declare_int("a", 0)
            wf.do_while(a.is_equal_to(0), nothing)

        put(world, body)
        world.run("wf")
        assert 500 <= thread(world).current_node_position <= 520

    def test_500_nodes_in_one_command_pass(self, world: World) -> None:
        put_edited(world, nothing, nops(500))
        assert world.run("wf").status == COMPLETED

    def test_530_nodes_in_one_command_do_not(self, world: World) -> None:
        put_edited(world, nothing, nops(530))
        assert world.run("wf").status == ERROR

    def test_steps_are_counted_for_each_command(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.wait_for_event("paid")
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(300), round_)

        put(world, body)
        world.run("wf")
        for _ in range(300):
            world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_other_runs_go_on(self, world: World) -> None:
        put_edited(world, nothing, nops(600), "long")
        put(world, nothing)
        world.run("long", "broken")
        assert world.run("wf", "good").status == COMPLETED


class TestRunWf:
    """execution.md 1.7, api.md 6.1."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        put(world, lambda wf: wf.declare_int("needed").required())
        return world

    def test_empty_name(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(RunWfRequest())

    @pytest.mark.parametrize("wf_run_id", ["", "a_b", "-a", "a-", "a b", "a.b", "ä", "a/b", "a\n"])
    def test_bad_id(self, world: World, wf_run_id: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.run("wf", wf_run_id, needed=1)

    @pytest.mark.parametrize("wf_run_id", ["a", "7", "My-Run-2", "A"])
    def test_good_id(self, world: World, wf_run_id: str) -> None:
        assert world.run("wf", wf_run_id, needed=1).id.id == wf_run_id

    def test_absent_id_is_generated(self) -> None:
        world = World()
        put(world, nothing)
        reply: WfRun = world.submit(RunWfRequest(wf_spec_name="wf"))
        assert len(reply.id.id) == 32
        assert set(reply.id.id) <= set("0123456789abcdef")
        assert wf_run(world, reply.id.id) == reply

    def test_unknown_spec(self, world: World) -> None:
        with refused(Code.NOT_FOUND):
            world.run("unknown")
        assert not exists(world, "r")

    def test_existing_id(self, world: World) -> None:
        first = world.run("wf", needed=1)
        world.now_ms += 1000
        with refused(Code.ALREADY_EXISTS, "WfRun with id r already exists", "!"):
            world.run("wf", needed=2)
        assert wf_run(world) == first
        assert python(world, "needed") == 1

    def test_existing_id_of_another_spec(self, world: World) -> None:
        put(world, nothing, "other")
        world.run("wf", needed=1)
        with refused(Code.ALREADY_EXISTS):
            world.run("other")

    def test_parent_for_a_spec_without_one(self, world: World) -> None:
        world.run("wf", "p", needed=1)
        with refused(Code.INVALID_ARGUMENT):
            world.submit(
                RunWfRequest(
                    wf_spec_name="wf",
                    id="c",
                    parent_wf_run_id=WfRunId(id="p"),
                    variables={"needed": VariableValue(int=1)},
                )
            )

    def test_rejected_variables_store_nothing(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT, "needed"):
            world.run("wf")
        assert not exists(world, "r")

    def test_empty_name_is_told_before_a_bad_id(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(RunWfRequest(id="a_b"))

    def test_bad_id_is_told_before_an_unknown_spec(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.run("unknown", "a_b")

    def test_unknown_spec_is_told_before_an_existing_id(self, world: World) -> None:
        world.run("wf", needed=1)
        with refused(Code.NOT_FOUND):
            world.run("unknown")

    def test_existing_id_is_told_before_bad_variables(self, world: World) -> None:
        world.run("wf", needed=1)
        with refused(Code.ALREADY_EXISTS):
            world.run("wf", needed="text")

    def test_id_of_a_deleted_run_can_be_used_again(self, world: World) -> None:
        world.run("wf", needed=1)
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        world.run("wf", needed=2)
        assert python(world, "needed") == 2


class TestVersionOfRunWf:
    """execution.md 1.7: which version of the WfSpec runs."""

    @pytest.fixture
    def world(self) -> World:
        """Versions 0.0, 0.1, 1.0 and 1.1."""
        world = World()
        for output in (1, 2, "one", "two"):
            self.put_output(world, output)
        return world

    @staticmethod
    def put_output(world: World, output: Any) -> None:
        put(world, lambda wf: wf.complete(output))

    @pytest.mark.parametrize(
        ("major", "revision", "version"),
        [
            (None, None, (1, 1)),
            (0, None, (0, 1)),
            (1, None, (1, 1)),
            (0, 0, (0, 0)),
            (1, 0, (1, 0)),
            (None, 0, (1, 1)),
        ],
    )
    def test_version(self, world: World, major: int | None, revision: int | None, version: tuple[int, int]) -> None:
        reply: WfRun = world.submit(RunWfRequest(wf_spec_name="wf", id="r", major_version=major, revision=revision))
        assert (reply.wf_spec_id.major_version, reply.wf_spec_id.revision) == version

    @pytest.mark.parametrize(("major", "revision"), [(2, None), (0, 2), (2, 0)])
    def test_missing_version(self, world: World, major: int | None, revision: int | None) -> None:
        with refused(Code.NOT_FOUND):
            world.submit(RunWfRequest(wf_spec_name="wf", id="r", major_version=major, revision=revision))

    def test_run_keeps_the_version_that_it_started_with(self) -> None:
        world = World()
        put_event_def(world, "paid")

        def old(wf: WorkflowThread) -> None:
            wf.wait_for_event("paid")
            wf.complete("old")

        put(world, old)
        world.run("wf")
        put(world, lambda wf: wf.complete("new"))
        world.post("paid")
        assert thread(world).output.str == "old"


class TestExit:
    """execution.md 1.9 and 7.2."""

    def test_return_content_is_the_output_of_the_thread(self, world: World) -> None:
        put(world, lambda wf: wf.complete(wf.declare_int("n").add(1)))
        world.run("wf", n=4)
        assert thread(world).output == VariableValue(int=5)

    def test_without_return_content_there_is_no_output(self, world: World) -> None:
        put(world, nothing)
        world.run("wf")
        assert not thread(world).HasField("output")

    def test_return_content_that_does_not_evaluate_is_var_error(self, world: World) -> None:
        put(world, lambda wf: wf.complete(wf.declare_int("n").divide(0)))
        assert world.run("wf", n=4).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_ERROR"
        assert not thread(world).HasField("output")

    def test_failure_is_an_exception_with_its_content(self, world: World) -> None:
        put(world, lambda wf: wf.fail("out-of-stock", "none left", wf.declare_int("n")))
        assert world.run("wf", n=4).status == EXCEPTION
        assert failure(world, 1).failure_name == "out-of-stock"
        assert failure(world, 1).message == "none left"
        assert failure(world, 1).content == VariableValue(int=4)

    def test_failure_without_content_has_null(self, world: World) -> None:
        put(world, lambda wf: wf.fail("out-of-stock", "none left"))
        world.run("wf")
        assert failure(world, 1).HasField("content")
        assert failure(world, 1).content == VariableValue()

    def test_failure_content_that_does_not_evaluate_is_null_and_the_message_warns(self, world: World) -> None:
        failing = ExitNode(failure_def=FailureDef(failure_name="bad-luck", message="the message", content=broken()))
        put_edited(world, declares_nothing, lambda spec: spec.nodes[EXIT].exit.CopyFrom(failing))
        assert world.run("wf").status == EXCEPTION
        assert failure(world, 1).failure_name == "bad-luck"
        assert failure(world, 1).content == VariableValue()
        assert failure(world, 1).message.startswith("the message")
        assert len(failure(world, 1).message) > len("the message")


class TestNop:
    """execution.md 7.1."""

    def test_nop_is_shown_as_entrypoint_and_completes_at_once(self, world: World) -> None:
        put_edited(world, nothing, nops(1))
        world.run("wf")
        assert node(world, 1).node_name == "n0"
        assert node(world, 1).WhichOneof("node_type") == "entrypoint"
        assert node(world, 1).status == COMPLETED
