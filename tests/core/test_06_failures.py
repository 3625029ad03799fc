"""Failures and their handlers: execution.md 6.2 to 6.4, 7.2, the parts of 1.5, 1.6 and 11 for them, and trace C.

Left out: a manual halt of a thread whose handler runs (4.5 does not say how the handler goes on after the resume), the
first edge failure after a handled failure of the node itself (no rule says whether handlers are asked again), content
that does not fit the INPUT of a node-level handler (only 6.5 has a rule), failed interrupt handlers (section 4).
"""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    Edge,
    ExitNode,
    FailureDef,
    FailureHandlerDef,
    LHErrorType,
    LHStatus,
    LHTaskException,
    Node,
    NopNode,
    TaskStatus,
    ThreadSpec,
    ThreadType,
    VariableAssignment,
    WaitForThreadsStrategy,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import NodeOutput, SpawnedThread, SpawnedThreads, WorkflowThread

from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    claim,
    failure,
    node,
    nothing,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    statuses,
    thread,
    wf_run,
)
from tests.core.world import World

HALTED, HALTING = LHStatus.HALTED, LHStatus.HALTING
ERROR_NAMES = sorted(LHErrorType.keys())
TASK, GATE = "1-t-TASK", "1-gate-EXTERNAL_EVENT"
ANY_ERROR = {"any_failure_of_type": FailureHandlerDef.LHFailureType.FAILURE_TYPE_ERROR}
ANY_EXCEPTION = {"any_failure_of_type": FailureHandlerDef.LHFailureType.FAILURE_TYPE_EXCEPTION}


def waits(wf: WorkflowThread) -> None:
    wf.wait_for_event("never")


def asks_for_help(wf: WorkflowThread) -> None:
    wf.wait_for_event("help")


def throws(wf: WorkflowThread) -> None:
    wf.fail("out-of-stock", "nothing left", "apples")


def worsens(wf: WorkflowThread) -> None:
    wf.fail("worse", "much worse")


def breaks(wf: WorkflowThread) -> None:
    """Fails with VAR_SUB_ERROR."""
    text = wf.declare_str("text")
    text.assign(wf.declare_json_obj("null").with_json_path("$.x"))


def takes_input(wf: WorkflowThread) -> None:
    wf.declare_str("INPUT")


def only(name: str) -> dict[str, Any]:
    return {"specific_failure": name}


def tasked(*handlers: Body, after: Body = nothing) -> Body:
    """Position 1 runs the task t; the threads handler-0, handler-1 ... wait to be attached."""

    def body(wf: WorkflowThread) -> None:
        wf.execute("t")
        for number, handler in enumerate(handlers):
            wf.get_parent_workflow().add_sub_thread(f"handler-{number}", handler)
        after(wf)

    return body


def attached(*catches: dict[str, Any], to: str = TASK) -> Callable[[ThreadSpec], None]:
    """Attach handler-0, handler-1 ... to a node, for what each catches."""

    def edit(spec: ThreadSpec) -> None:
        for number, catch in enumerate(catches):
            handler = FailureHandlerDef(handler_spec_name=f"handler-{number}", **catch)
            spec.nodes[to].failure_handlers.append(handler)

    return edit


def gated(handler: Body | None = None, *, before: Body = nothing, after: Body = nothing) -> Body:
    """A node that fails with TIMEOUT after one second."""

    def body(wf: WorkflowThread) -> None:
        before(wf)
        gate = wf.wait_for_event("gate", timeout=1)
        if handler is not None:
            wf.handle_any_failure(gate, handler)
        after(wf)

    return body


def spawns(child: Body, name: str = "child") -> Body:
    def body(wf: WorkflowThread) -> None:
        wf.spawn_thread(child, name)

    return body


def runs_a_task(wf: WorkflowThread) -> None:
    wf.execute("t")


def throw(world: World, name: str, message: str = "it failed", content: Any = None) -> None:
    """Let the worker of the queued task report an exception of this name."""
    exception = LHTaskException(name=name, message=message)
    if content is not None:
        exception.content.CopyFrom(to_variable_value(content))
    world.report(claim(world), TaskStatus.TASK_EXCEPTION, exception=exception)


def started(world: World, body: Body, **variables: Any) -> None:
    put(world, body)
    world.run("wf", **variables)


def timed_out(world: World, body: Body) -> None:
    """Start a workflow and let its gate time out."""
    started(world, body)
    world.wait(2)


def reasons(world: World, number: int = 0) -> list[str | None]:
    return [reason.WhichOneof("reason") for reason in thread(world, number=number).halt_reasons]


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("gate", "never", "help", "order"):
        put_event_def(world, name)
    world.put_task_def("t")
    return world


class TestUnhandled:
    """execution.md 6.2."""

    def test_failure_is_recorded_on_the_node_and_ends_thread_and_run(self, world: World) -> None:
        started(world, runs_a_task)
        throw(world, "out-of-stock", "nothing left", "apples")
        (recorded,) = node(world, 1).failures
        assert (recorded.failure_name, recorded.message) == ("out-of-stock", "nothing left")
        assert recorded.content.str == "apples"
        assert not recorded.was_properly_handled
        assert not recorded.HasField("failure_handler_threadrun_id")
        assert node(world, 1).status == EXCEPTION
        assert thread(world).status == EXCEPTION
        assert "nothing left" in thread(world).error_message
        assert wf_run(world).status == EXCEPTION
        assert wf_run(world).HasField("end_time")

    @pytest.mark.parametrize("name", ERROR_NAMES)
    def test_name_of_a_technical_failure_makes_an_error_whoever_raised_it(self, world: World, name: str) -> None:
        started(world, runs_a_task)
        throw(world, name)
        assert node(world, 1).status == ERROR
        assert wf_run(world).status == ERROR

    @pytest.mark.parametrize("name", ["out-of-stock", "timeout", "Task-Failure"])
    def test_any_other_name_makes_an_exception(self, world: World, name: str) -> None:
        started(world, runs_a_task)
        throw(world, name)
        assert node(world, 1).status == EXCEPTION
        assert wf_run(world).status == EXCEPTION

    def test_every_descendant_is_halted(self, world: World) -> None:
        def family(wf: WorkflowThread) -> None:
            wf.spawn_thread(spawns(waits, "grandchild"), "child")

        timed_out(world, gated(before=family))
        assert statuses(world) == [ERROR, HALTED, HALTED]
        assert reasons(world, 1) == reasons(world, 2) == ["parent_halted"]
        assert thread(world, number=1).halt_reasons[0].parent_halted.parent_thread_id == 0
        assert thread(world, number=2).halt_reasons[0].parent_halted.parent_thread_id == 1
        assert not world.post("never").claimed

    def test_children_that_have_ended_keep_their_status(self, world: World) -> None:
        def family(wf: WorkflowThread) -> None:
            wf.spawn_thread(nothing, "done")
            wf.spawn_thread(throws, "failed")

        timed_out(world, gated(before=family))
        assert statuses(world) == [ERROR, COMPLETED, EXCEPTION]
        assert reasons(world, 1) == reasons(world, 2) == []

    def test_parent_does_not_wait_for_a_child_that_cannot_stop_yet(self, world: World) -> None:
        started(world, gated(before=spawns(runs_a_task)))
        task = claim(world)
        world.wait(2)
        assert statuses(world) == [ERROR, HALTING]
        assert node(world, 1, number=1).status == HALTING
        assert wf_run(world).status == ERROR
        world.report(task)
        assert statuses(world) == [ERROR, HALTED]
        assert node(world, 1, number=1).status == HALTED

    def test_failed_child_does_not_touch_its_parent(self, world: World) -> None:
        started(world, lambda wf: (wf.spawn_thread(throws, "child"), wf.wait_for_event("never")))
        assert statuses(world) == [RUNNING, EXCEPTION]
        assert node(world, 2).status == RUNNING
        assert wf_run(world).status == RUNNING
        assert reasons(world) == []

    def test_handler_that_does_not_match_is_not_started(self, world: World) -> None:
        put_edited(world, tasked(nothing), attached(only("sold-out")))
        world.run("wf")
        throw(world, "out-of-stock")
        assert wf_run(world).status == EXCEPTION
        assert wf_run(world).greatest_threadrun_number == 0
        assert list(wf_run(world).pending_failures) == []


CATCHES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "unset": ({}, {*ERROR_NAMES, "out-of-stock", "Out-Of-Stock"}),
    "any error": (ANY_ERROR, {*ERROR_NAMES}),
    "any exception": (ANY_EXCEPTION, {"out-of-stock", "Out-Of-Stock"}),
    "out-of-stock": (only("out-of-stock"), {"out-of-stock"}),
    **{name: (only(name), {name}) for name in ERROR_NAMES},
    "VAR_ERROR": (only("VAR_ERROR"), {"VAR_ERROR", "VAR_SUB_ERROR", "VAR_MUTATION_ERROR"}),
    "TASK_ERROR": (only("TASK_ERROR"), {"TASK_ERROR", "TASK_FAILURE", "TIMEOUT"}),
}


class TestMatching:
    """execution.md 6.3."""

    @pytest.mark.parametrize("name", [*ERROR_NAMES, "out-of-stock", "Out-Of-Stock"])
    @pytest.mark.parametrize("catch", CATCHES)
    def test_table(self, world: World, catch: str, name: str) -> None:
        to_catch, caught = CATCHES[catch]
        put_edited(world, tasked(nothing), attached(to_catch))
        world.run("wf")
        throw(world, name)
        assert (wf_run(world).status == COMPLETED) == (name in caught)
        assert wf_run(world).greatest_threadrun_number == (name in caught)

    @pytest.mark.parametrize(
        ("catches", "started_handler"),
        [
            ([{}, only("out-of-stock")], "handler-0"),
            ([only("out-of-stock"), {}], "handler-0"),
            ([ANY_EXCEPTION, only("out-of-stock")], "handler-0"),
            ([ANY_ERROR, only("sold-out"), {}, only("out-of-stock")], "handler-2"),
        ],
    )
    def test_order_of_the_list_wins(self, world: World, catches: list[dict[str, Any]], started_handler: str) -> None:
        put_edited(world, tasked(*[nothing] * len(catches)), attached(*catches))
        world.run("wf")
        throw(world, "out-of-stock")
        assert wf_run(world).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 1
        assert thread(world, number=1).thread_spec_name == started_handler

    @pytest.mark.parametrize("name", ["", "-x", "x-", "two words", "under_score", "NO_ERROR_TYPE", "a.b"])
    def test_bad_specific_name_is_refused(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_edited(world, tasked(nothing), attached(only(name)))

    @pytest.mark.parametrize("name", [*ERROR_NAMES, "x", "out-of-stock", "A1"])
    def test_good_specific_name_is_accepted(self, world: World, name: str) -> None:
        put_edited(world, tasked(nothing), attached(only(name)))

    def test_unknown_handler_thread_is_refused(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_edited(world, tasked(), attached({}))


class TestHandlerStarts:
    """execution.md 6.4, steps 1 and 2."""

    def test_thread_halts_and_the_handler_runs(self, world: World) -> None:
        timed_out(world, gated(asks_for_help))
        assert statuses(world) == [HALTED, RUNNING]
        (reason,) = thread(world).halt_reasons
        assert reason.handling_failure.handler_thread_id == 1
        assert list(wf_run(world).pending_failures) == []

    def test_handler_knows_what_it_handles(self, world: World) -> None:
        timed_out(world, gated(asks_for_help))
        handler = thread(world, number=1)
        assert handler.type == ThreadType.FAILURE_HANDLER
        assert handler.parent_thread_id == 0
        assert handler.thread_spec_name == "exn-handler-1-gate-EXTERNAL_EVENT-any-failure"
        assert handler.HasField("failure_being_handled")
        assert handler.failure_being_handled.thread_run_number == 0
        assert handler.failure_being_handled.node_run_position == 1
        assert handler.failure_being_handled.failure_number == 0

    def test_failed_node_keeps_its_status_and_names_its_handler(self, world: World) -> None:
        timed_out(world, gated(asks_for_help))
        run = node(world, 1)
        assert run.status == ERROR
        assert list(run.failure_handler_ids) == [1]
        assert run.failures[0].failure_handler_threadrun_id == 1
        assert not run.failures[0].was_properly_handled
        assert list(thread(world).child_thread_ids) == [1]

    def test_run_stays_running(self, world: World) -> None:
        timed_out(world, gated(asks_for_help))
        assert wf_run(world).status == RUNNING
        assert not wf_run(world).HasField("end_time")

    @pytest.mark.parametrize("content", ["apples", None])
    def test_input_is_the_content_of_the_failure(self, world: World, content: str | None) -> None:
        put_edited(world, tasked(takes_input), attached({}))
        world.run("wf")
        throw(world, "out-of-stock", content=content)
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=1) == content

    def test_input_is_null_for_a_technical_failure(self, world: World) -> None:
        timed_out(world, gated(takes_input))
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=1) is None

    def test_handler_reads_and_writes_the_variables_of_the_failed_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "failed")
            gated(lambda wf: log.assign(log.extend(" handled")))(wf)

        timed_out(world, body)
        assert python(world, "log") == "failed handled"

    def test_children_are_halted_meanwhile_and_resume_after(self, world: World) -> None:
        timed_out(world, gated(asks_for_help, before=spawns(waits), after=lambda wf: wf.wait_for_event("order")))
        assert statuses(world) == [HALTED, HALTED, RUNNING]
        assert reasons(world, 1) == ["parent_halted"]
        assert not world.post("never").claimed
        world.post("help")
        assert reasons(world, 1) == []
        assert statuses(world) == [RUNNING, COMPLETED, COMPLETED]

    def test_handler_waits_until_the_children_have_stopped(self, world: World) -> None:
        started(world, gated(asks_for_help, before=spawns(runs_a_task)))
        task = claim(world)
        world.wait(2)
        assert statuses(world) == [HALTING, HALTING]
        (reason,) = thread(world).halt_reasons
        assert reason.pending_failure.node_run_position == 2
        (pending,) = wf_run(world).pending_failures
        assert pending.failed_thread_run == 0
        assert pending.handler_spec_name == "exn-handler-2-gate-EXTERNAL_EVENT-any-failure"
        assert node(world, 2).status == ERROR
        assert wf_run(world).status == RUNNING
        world.report(task)
        assert statuses(world) == [HALTED, HALTED, RUNNING]
        assert reasons(world) == ["handling_failure"]
        assert list(wf_run(world).pending_failures) == []
        world.post("help")
        assert node(world, 1, number=1).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_handler_of_a_child_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(gated(asks_for_help), "child")
            waits(wf)

        timed_out(world, body)
        assert statuses(world) == [RUNNING, HALTED, RUNNING]
        assert thread(world, number=2).parent_thread_id == 1
        assert thread(world, number=2).failure_being_handled.thread_run_number == 1
        world.post("help")
        assert statuses(world) == [RUNNING, COMPLETED, COMPLETED]

    def test_two_nodes_have_a_handler_each(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            for _ in range(2):
                wf.handle_any_failure(wf.wait_for_event("gate", timeout=1), nothing)

        started(world, body)
        world.wait(3)
        assert wf_run(world).status == COMPLETED
        assert [list(node(world, position).failure_handler_ids) for position in (1, 2)] == [[1], [2]]
        assert thread(world, number=2).failure_being_handled.node_run_position == 2

    def test_node_in_a_loop_is_handled_in_each_round(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                gate = wf.wait_for_event("gate", timeout=1)
                wf.handle_any_failure(gate, lambda wf: count.assign(count.add(1)))

            wf.do_while(count.is_less_than(3), round_)

        started(world, body)
        world.wait(10)
        assert wf_run(world).status == COMPLETED
        assert python(world, "count") == 3
        assert wf_run(world).greatest_threadrun_number == 3


class TestHandlerCompletes:
    """execution.md 6.4 step 3, and 1.5."""

    def test_thread_goes_on(self, world: World) -> None:
        timed_out(world, gated(asks_for_help, after=waits))
        assert not reached(world, 2)
        world.post("help")
        assert statuses(world) == [RUNNING, COMPLETED]
        assert reasons(world) == []
        assert node(world, 2).status == RUNNING

    def test_failed_node_keeps_its_status_and_its_failure_is_marked(self, world: World) -> None:
        timed_out(world, gated(nothing))
        run = node(world, 1)
        assert wf_run(world).status == COMPLETED
        assert run.status == ERROR
        assert len(run.failures) == 1
        assert run.failures[0].was_properly_handled

    def test_handled_exception_keeps_its_status(self, world: World) -> None:
        put_edited(world, tasked(nothing), attached({}))
        world.run("wf")
        throw(world, "out-of-stock")
        assert node(world, 1).status == EXCEPTION
        assert failure(world, 1).was_properly_handled
        assert wf_run(world).status == COMPLETED

    def test_mutations_of_the_edge_are_skipped(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "untouched")
            gated(nothing, after=lambda wf: log.assign("mutated"))(wf)

        timed_out(world, body)
        assert wf_run(world).status == COMPLETED
        assert python(world, "log") == "untouched"

    def test_mutations_of_later_edges_are_not_skipped(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "untouched")
            gated(nothing)(wf)
            wf.wait_for_event("order")
            log.assign("mutated")

        timed_out(world, body)
        world.post("order")
        assert python(world, "log") == "mutated"

    @pytest.mark.parametrize("go", [True, False])
    def test_edge_is_chosen_by_conditions_after_the_handler(self, world: World, go: bool) -> None:
        def body(wf: WorkflowThread) -> None:
            choice = wf.declare_bool("choice", not go)
            gated(lambda wf: choice.assign(go))(wf)

        def branch(spec: ThreadSpec) -> None:
            spec.nodes["yes"].CopyFrom(Node(nop=NopNode(), outgoing_edges=[Edge(sink_node_name="2-exit-EXIT")]))
            condition = VariableAssignment(variable_name="choice")
            spec.nodes[GATE].outgoing_edges.insert(0, Edge(sink_node_name="yes", condition=condition))

        put_edited(world, body, branch)
        world.run("wf")
        world.wait(2)
        assert node(world, 2).node_name == ("yes" if go else "2-exit-EXIT")
        assert wf_run(world).status == COMPLETED

    def test_every_failed_thread_that_was_waited_for_counts_as_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            children = wf.spawn_thread_for_each(wf.declare_json_arr("items", [1, 2]), throws, "child")
            wf.handle_any_failure(wf.wait_for_threads(children, WaitForThreadsStrategy.WAIT_FOR_ANY), takes_input)

        started(world, body)
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert set(thread(world).handled_failed_children) == {1, 2}
        assert wf_run(world).status == COMPLETED

    def test_failed_thread_that_was_not_waited_for_does_not_count_as_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(breaks, "stray")
            child = wf.spawn_thread(throws, "child")
            wf.handle_any_failure(wf.wait_for_threads(SpawnedThreads.from_list(child)), nothing)

        started(world, body)
        assert list(thread(world).handled_failed_children) == [2]
        assert failure(world, 4).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_input_of_the_handler_of_a_waiting_node_is_the_content_of_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            child = wf.spawn_thread(throws, "child")
            wf.handle_any_failure(wf.wait_for_threads(SpawnedThreads.from_list(child)), takes_input)

        started(world, body)
        assert python(world, "INPUT", number=2) == "apples"


class TestHandlerFails:
    """execution.md 6.4 step 4, and failures inside handlers."""

    @pytest.mark.parametrize(
        ("name", "handler", "status"),
        [
            ("TIMEOUT", throws, EXCEPTION),
            ("out-of-stock", breaks, ERROR),
            ("out-of-stock", worsens, EXCEPTION),
            ("TIMEOUT", breaks, ERROR),
        ],
    )
    def test_failed_thread_ends_with_the_status_of_the_handler(
        self, world: World, name: str, handler: Body, status: LHStatus
    ) -> None:
        put_edited(world, tasked(handler), attached({}))
        world.run("wf")
        throw(world, name)
        assert statuses(world) == [status, status]
        assert wf_run(world).status == status
        assert wf_run(world).HasField("end_time")

    def test_failed_thread_ends_with_the_message_of_the_handler(self, world: World) -> None:
        timed_out(world, gated(worsens))
        assert "much worse" in thread(world).error_message

    def test_failed_node_keeps_its_original_failure(self, world: World) -> None:
        timed_out(world, gated(worsens))
        run = node(world, 1)
        assert run.status == ERROR
        assert run.failures[0].failure_name == "TIMEOUT"
        assert not run.failures[0].was_properly_handled

    def test_no_second_handler_of_the_node_is_tried(self, world: World) -> None:
        put_edited(world, tasked(worsens, nothing), attached(only("out-of-stock"), {}))
        world.run("wf")
        throw(world, "out-of-stock")
        assert wf_run(world).status == EXCEPTION
        assert wf_run(world).greatest_threadrun_number == 1

    def test_children_stay_halted(self, world: World) -> None:
        timed_out(world, gated(worsens, before=spawns(waits)))
        assert statuses(world) == [EXCEPTION, HALTED, EXCEPTION]
        assert not world.post("never").claimed

    def test_failure_climbs_over_handlers_of_handlers(self, world: World) -> None:
        def handler(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("help", timeout=1), worsens)

        started(world, gated(handler))
        world.wait(4)
        assert statuses(world) == [EXCEPTION, EXCEPTION, EXCEPTION]
        assert thread(world, number=2).parent_thread_id == 1
        assert "much worse" in thread(world).error_message
        assert wf_run(world).status == EXCEPTION

    def test_handler_may_have_handlers_that_complete(self, world: World) -> None:
        def handler(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("help", timeout=1), nothing)

        started(world, gated(handler, after=waits))
        world.wait(1.5)
        assert statuses(world) == [HALTED, RUNNING]
        world.wait(2)
        assert statuses(world) == [RUNNING, COMPLETED, COMPLETED]
        assert node(world, 1).failures[0].was_properly_handled
        assert node(world, 1, number=1).failures[0].was_properly_handled

    def test_timeout_inside_a_handler_ends_the_failed_thread(self, world: World) -> None:
        started(world, gated(lambda wf: wf.wait_for_event("help", timeout=5)))
        world.wait(3)
        assert statuses(world) == [HALTED, RUNNING]
        world.wait(5)
        assert failure(world, 1, number=1).failure_name == "TIMEOUT"
        assert statuses(world) == [ERROR, ERROR]

    def test_event_in_time_inside_a_handler(self, world: World) -> None:
        timed_out(world, gated(lambda wf: wf.wait_for_event("help", timeout=5)))
        assert world.post("help").thread_run_number == 1
        assert wf_run(world).status == COMPLETED

    def test_exit_of_a_handler_waits_for_its_children(self, world: World) -> None:
        timed_out(world, gated(spawns(asks_for_help)))
        assert statuses(world) == [HALTED, RUNNING, RUNNING]
        assert thread(world, number=2).parent_thread_id == 1
        world.post("help")
        assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]

    def test_failed_child_of_a_handler_fails_the_handler(self, world: World) -> None:
        timed_out(world, gated(spawns(throws)))
        assert failure(world, 2, number=1).failure_name == "CHILD_FAILURE"
        assert statuses(world) == [ERROR, ERROR, EXCEPTION]

    def test_failed_handler_of_a_child_ends_the_child_and_leaves_the_parent(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(gated(worsens), "child")
            waits(wf)

        timed_out(world, body)
        assert statuses(world) == [RUNNING, EXCEPTION, EXCEPTION]
        assert wf_run(world).status == RUNNING


class TestEdgeFailures:
    """execution.md 1.6 with failure handlers."""

    @staticmethod
    def no_edge(world: World, handler: Body, **catch: Any) -> None:
        """The only edge of the gate needs ``open``, which is false."""

        def body(wf: WorkflowThread) -> None:
            wf.declare_bool("open", False)
            wf.wait_for_event("gate")
            wf.get_parent_workflow().add_sub_thread("handler-0", handler)

        def edit(spec: ThreadSpec) -> None:
            attached(catch, to=GATE)(spec)
            spec.nodes[GATE].outgoing_edges[0].condition.CopyFrom(VariableAssignment(variable_name="open"))

        put_edited(world, body, edit)
        world.run("wf")
        world.post("gate")

    @staticmethod
    def bad_condition(world: World, handler: Body, **catch: Any) -> None:
        """The condition of the only edge of the gate reads ``state``, which is NULL."""

        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("state")
            wf.wait_for_event("gate")
            wf.get_parent_workflow().add_sub_thread("handler-0", handler)

        def edit(spec: ThreadSpec) -> None:
            attached(catch, to=GATE)(spec)
            condition = VariableAssignment(variable_name="state", json_path="$.open")
            spec.nodes[GATE].outgoing_edges[0].condition.CopyFrom(condition)

        put_edited(world, body, edit)
        world.run("wf")
        world.post("gate")

    @staticmethod
    def bad_mutation(world: World, handler: Body, **catch: Any) -> None:
        """The second of three mutations on the only edge of the gate fails."""

        def body(wf: WorkflowThread) -> None:
            log, null = wf.declare_str("log", "untouched"), wf.declare_json_obj("null")
            wf.wait_for_event("gate")
            log.assign("first")
            log.assign(null.with_json_path("$.x"))
            log.assign("third")
            wf.get_parent_workflow().add_sub_thread("handler-0", handler)

        put_edited(world, body, attached(catch, to=GATE))
        world.run("wf")
        world.post("gate")

    @pytest.mark.parametrize("edge", ["no_edge", "bad_condition", "bad_mutation"])
    @pytest.mark.parametrize(
        ("catch", "caught"),
        [
            ({}, True),
            (ANY_ERROR, True),
            (only("VAR_SUB_ERROR"), True),
            (only("VAR_ERROR"), True),
            (only("VAR_MUTATION_ERROR"), False),
            (ANY_EXCEPTION, False),
        ],
    )
    def test_edge_failure_is_var_sub_error_of_the_node_being_left(
        self, world: World, edge: str, catch: dict[str, Any], caught: bool
    ) -> None:
        getattr(self, edge)(world, asks_for_help, **catch)
        assert node(world, 1).failures[0].failure_name == "VAR_SUB_ERROR"
        assert not reached(world, 2)
        assert statuses(world) == ([HALTED, RUNNING] if caught else [ERROR])
        assert wf_run(world).status == (RUNNING if caught else ERROR)

    def test_edges_are_evaluated_again_after_the_handler(self, world: World) -> None:
        self.no_edge(world, lambda wf: wf.find_variable("open").assign(True))
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == ERROR
        assert failure(world, 1).was_properly_handled

    def test_conditions_are_evaluated_again_after_the_handler(self, world: World) -> None:
        self.bad_condition(world, lambda wf: wf.find_variable("state").assign({"open": True}))
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == ERROR

    def test_mutations_are_not_tried_again_after_the_handler(self, world: World) -> None:
        self.bad_mutation(world, nothing)
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == ERROR
        assert python(world, "log") == "untouched"

    @pytest.mark.parametrize("edge", ["no_edge", "bad_condition"])
    def test_second_edge_failure_ends_the_thread_without_another_handler(self, world: World, edge: str) -> None:
        getattr(self, edge)(world, nothing)
        assert statuses(world) == [ERROR, COMPLETED]
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert not reached(world, 2)

    def test_edge_failure_of_a_handled_child_does_not_reach_its_parent(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            text, null = wf.declare_str("text"), wf.declare_json_obj("null")
            wf.handle_any_failure(wf.wait_for_event("gate"), nothing)
            text.assign(null.with_json_path("$.x"))

        started(world, spawns(child))
        world.post("gate")
        assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]


class TestExitWithFailure:
    """execution.md 7.2."""

    @staticmethod
    def exits(**fields: Any) -> Callable[[ThreadSpec], None]:
        def edit(spec: ThreadSpec) -> None:
            spec.nodes["1-exit-EXIT"].exit.CopyFrom(ExitNode(failure_def=FailureDef(**fields)))

        return edit

    @pytest.mark.parametrize("name", [*ERROR_NAMES, "", "-x", "x-", "two words", "under_score"])
    def test_bad_name_is_refused(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_edited(world, nothing, self.exits(failure_name=name, message="m"))

    @pytest.mark.parametrize("name", ["x", "out-of-stock", "timeout"])
    def test_failure_is_always_an_exception(self, world: World, name: str) -> None:
        put_edited(world, nothing, self.exits(failure_name=name, message="m"))
        assert world.run("wf").status == EXCEPTION
        assert node(world, 1).status == EXCEPTION
        assert failure(world, 1).failure_name == name

    def test_content_is_evaluated_in_the_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kind = wf.declare_str("kind", "apples")
            wf.spawn_thread(lambda wf: wf.fail("out-of-stock", "nothing left", kind), "child")
            waits(wf)

        started(world, body)
        assert failure(world, 1, number=1).content.str == "apples"

    def test_content_is_present_but_null_when_there_is_none(self, world: World) -> None:
        started(world, worsens)
        assert failure(world, 1).HasField("content")
        assert failure(world, 1).content.WhichOneof("value") is None
        assert failure(world, 1).message == "much worse"

    def test_content_that_does_not_evaluate_is_null_for_the_handler_and_the_message_warns(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.fail("out-of-stock", "nothing left", wf.declare_json_obj("null").with_json_path("$.x"))

        def body(wf: WorkflowThread) -> None:
            waiting = wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(child, "child")))
            wf.handle_exception(waiting, takes_input, "out-of-stock")

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=2) is None
        thrown = failure(world, 1, number=1)
        assert thrown.failure_name == "out-of-stock"
        assert thrown.message.startswith("nothing left")
        assert len(thrown.message) > len("nothing left")


def has_amount(wf: WorkflowThread) -> None:
    wf.declare_int("amount")


def bad_child_input(wf: WorkflowThread) -> None:
    amount = wf.declare_json_obj("null").with_json_path("$.x")
    wf.spawn_thread(has_amount, "child", {"amount": amount})


def bad_iterable(wf: WorkflowThread) -> None:
    wf.spawn_thread_for_each(wf.declare_json_arr("null"), nothing, "child")


def bad_thread_number(wf: WorkflowThread) -> None:
    wf.wait_for_threads(SpawnedThreads.from_list(SpawnedThread("x", wf.declare_int("number", 9))))


def bad_sleep_time(wf: WorkflowThread) -> None:
    wf.sleep(wf.declare_int("null"))


def bad_edge(wf: WorkflowThread) -> None:
    text, null = wf.declare_str("text", ""), wf.declare_json_obj("null")
    wf.do_if(text.is_equal_to(""), lambda wf: text.assign(null.with_json_path("$.x")))


def bad_correlation_key(wf: WorkflowThread) -> None:
    wf.wait_for_event("gate", correlation_id=wf.declare_str("null"))


def child_in_error(wf: WorkflowThread) -> None:
    wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(breaks, "child")))


def any_of_the_failed(wf: WorkflowThread) -> None:
    child = wf.spawn_thread(throws, "child")
    wf.wait_for_threads(SpawnedThreads.from_list(child), WaitForThreadsStrategy.WAIT_FOR_ANY)


def too_many_threads(wf: WorkflowThread) -> None:
    wf.spawn_thread_for_each(wf.declare_json_arr("items", list(range(65))), nothing, "child")


SITUATIONS: list[tuple[Body, str, str]] = [
    (bad_child_input, "1-child-START_THREAD", "VAR_SUB_ERROR"),
    (bad_iterable, "1-child-START_MULTIPLE_THREADS", "VAR_SUB_ERROR"),
    (bad_thread_number, "1-threads-WAIT_FOR_THREADS", "VAR_SUB_ERROR"),
    (bad_sleep_time, "1-sleep-SLEEP", "VAR_SUB_ERROR"),
    (bad_edge, "1-nop-NOP", "VAR_SUB_ERROR"),
    (bad_correlation_key, GATE, "VAR_ERROR"),
    (child_in_error, "2-threads-WAIT_FOR_THREADS", "CHILD_FAILURE"),
    (any_of_the_failed, "2-threads-WAIT_FOR_THREADS", "CHILD_FAILURE"),
    (too_many_threads, "1-child-START_MULTIPLE_THREADS", "INTERNAL_ERROR"),
]


class TestFailureNames:
    """execution.md 11, as far as threads and handlers go."""

    @pytest.mark.parametrize(("body", "node_name", "name"), SITUATIONS)
    def test_name_of_the_failure(self, world: World, body: Body, node_name: str, name: str) -> None:
        started(world, body)
        position = int(node_name[0])
        assert failure(world, position).failure_name == name
        assert node(world, position).status == ERROR
        assert wf_run(world).status == ERROR

    @pytest.mark.parametrize(("body", "node_name", "name"), SITUATIONS)
    def test_failure_can_be_caught_by_its_name(self, world: World, body: Body, node_name: str, name: str) -> None:
        def with_handler(wf: WorkflowThread) -> None:
            body(wf)
            wf.get_parent_workflow().add_sub_thread("handler-0", nothing)

        put_edited(world, with_handler, attached(only(name), to=node_name))
        assert world.run("wf").status == COMPLETED
        assert node(world, int(node_name[0])).status == ERROR
        assert failure(world, int(node_name[0])).was_properly_handled

    def test_variable_for_the_number_of_a_thread_that_was_not_started_stays_null(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            bad_child_input(wf)
            wf.handle_any_failure(NodeOutput("1-child-START_THREAD"), nothing)

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert python(world, "1-child-START_THREAD") is None

    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (TaskStatus.TASK_FAILED, "TASK_FAILURE"),
            (TaskStatus.TASK_INPUT_VAR_SUB_ERROR, "VAR_SUB_ERROR"),
            (TaskStatus.TASK_OUTPUT_SERDE_ERROR, "VAR_MUTATION_ERROR"),
        ],
    )
    def test_task_failures_can_be_caught_by_their_name(self, world: World, status: TaskStatus, name: str) -> None:
        put_edited(world, tasked(nothing), attached(only(name)))
        world.run("wf")
        world.report(claim(world), status)
        assert failure(world, 1).failure_name == name
        assert wf_run(world).status == COMPLETED

    def test_timeout_of_a_task_can_be_caught(self, world: World) -> None:
        put_edited(world, tasked(nothing), attached(only("TIMEOUT")))
        world.run("wf")
        claim(world)
        world.wait(61)
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("name", ["TIMEOUT", "TASK_ERROR"])
    def test_timeout_of_an_event_can_be_caught(self, world: World, name: str) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_event("gate", timeout=1)
            wf.get_parent_workflow().add_sub_thread("handler-0", nothing)

        put_edited(world, body, attached(only(name), to=GATE))
        world.run("wf")
        world.wait(2)
        assert wf_run(world).status == COMPLETED


class TestTraceC:
    """execution.md 12, trace C: a timeout with a handler for any ERROR."""

    @staticmethod
    def start(world: World, handler: Body) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "untouched")
            wf.handle_error(wf.wait_for_event("gate", timeout=1), handler)
            log.assign("mutated")
            waits(wf)

        started(world, body)
        assert wf_run(world).status == RUNNING
        assert node(world, 1).status == RUNNING
        world.wait(1)

    def test_handler_completes_at_once(self, world: World) -> None:
        self.start(world, nothing)
        run = node(world, 1)
        assert run.external_event.timed_out
        assert run.status == ERROR
        assert run.failures[0].failure_name == "TIMEOUT"
        assert run.failures[0].was_properly_handled
        assert list(run.failure_handler_ids) == [1]
        assert thread(world, number=1).type == ThreadType.FAILURE_HANDLER
        assert statuses(world) == [RUNNING, COMPLETED]
        assert node(world, 2).status == RUNNING
        assert python(world, "log") == "untouched"

    def test_handler_blocks(self, world: World) -> None:
        self.start(world, asks_for_help)
        assert wf_run(world).status == RUNNING
        assert statuses(world) == [HALTED, RUNNING]
        assert list(node(world, 1).failure_handler_ids) == [1]
        assert thread(world).halt_reasons[0].handling_failure.handler_thread_id == 1
        world.post("help")
        assert statuses(world) == [RUNNING, COMPLETED]
        assert reached(world, 2)
