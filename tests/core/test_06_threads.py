"""Child threads: execution.md 6.1, 6.5 and 6.6, the parts of 1 and 8.4 that need them, and worked traces B and E.

Left out: the missing output of WAIT_FOR_THREADS (registration may refuse to name it), WAIT_FOR_ANY and WAIT_FOR_FIRST
of no thread (the tables are silent), a handler of one waited thread that still runs when another thread decides the
outcome (no rule says what becomes of it), which threads resume when a handler catches a failed WAIT_FOR_FIRST (two
rules apply), ``thread_end_time`` and THREAD_STOPPED (unused), the missing limit for thread 0 (it is always the first).
"""

from typing import Any

import pytest
from littlehorse.model import (
    Array,
    InlineArrayDef,
    LHErrorType,
    LHStatus,
    ResumeWfRunRequest,
    RunWfRequest,
    StopWfRunRequest,
    ThreadRetentionPolicy,
    ThreadSpec,
    ThreadType,
    TypeDefinition,
    VariableType,
    VariableValue,
    WaitForThreadsRun,
    WaitForThreadsStrategy,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import (
    SpawnedThread,
    SpawnedThreads,
    WaitForThreadsNodeOutput,
    WfRunVariable,
    WorkflowThread,
)

from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    failure,
    node,
    nothing,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    statuses,
    thread,
    wf_run,
)
from tests.core.world import World

HALTED = LHStatus.HALTED
ALL, FIRST, ANY = (
    WaitForThreadsStrategy.WAIT_FOR_ALL,
    WaitForThreadsStrategy.WAIT_FOR_FIRST,
    WaitForThreadsStrategy.WAIT_FOR_ANY,
)
IN_PROGRESS = WaitForThreadsRun.THREAD_IN_PROGRESS
HANDLING = WaitForThreadsRun.THREAD_HANDLING_FAILURE
SUCCESSFUL = WaitForThreadsRun.THREAD_COMPLETED_OR_FAILURE_HANDLED
UNSUCCESSFUL = WaitForThreadsRun.THREAD_UNSUCCESSFUL


def waits(wf: WorkflowThread) -> None:
    wf.wait_for_event("never")


def gate(wf: WorkflowThread) -> None:
    wf.wait_for_event("gate")


def throws(wf: WorkflowThread) -> None:
    wf.fail("out-of-stock", "nothing left", "apples")


def breaks(wf: WorkflowThread) -> None:
    """Fails with VAR_SUB_ERROR."""
    text = wf.declare_str("text")
    text.assign(wf.declare_json_obj("nothing").with_json_path("$.x"))


def obeys(wf: WorkflowThread) -> None:
    """Waits for an order: to throw out-of-stock or aborted, to break technically, or anything else to be done."""
    order = wf.declare_str("order")
    null = wf.declare_json_obj("null")
    order.assign(wf.wait_for_event("order"))
    wf.do_if(order.is_equal_to("throw"), lambda wf: wf.fail("out-of-stock", "nothing left", order))
    wf.do_if(order.is_equal_to("abort"), lambda wf: wf.fail("aborted", "gave up", order))
    wf.do_if(order.is_equal_to("break"), lambda wf: order.assign(null.with_json_path("$.x")))


def crew(
    size: int = 2,
    strategy: Any = ALL,
    *,
    child: Body = obeys,
    before: Body = nothing,
    after: Body = nothing,
    listed: list[Any] | None = None,
    on_child: Body | None = None,
    on_node: Body | None = None,
) -> Body:
    """Position 1 starts the children, the next node waits for them, or for the ``listed`` numbers."""

    def body(wf: WorkflowThread) -> None:
        children = wf.spawn_thread_for_each(wf.declare_json_arr("items", list(range(size))), child, "child")
        before(wf)
        if listed is not None:
            children = SpawnedThreads(wf.declare_json_arr("listed", listed))
        waiting = wf.wait_for_threads(children, strategy)
        if on_child is not None:
            waiting.handle_any_failure_on_child(on_child)
        if on_node is not None:
            wf.handle_any_failure(waiting, on_node)
        after(wf)

    return body


def parent_of(child: Body, after: Body = nothing) -> Body:
    """Position 1 starts one child; nothing waits for it but EXIT."""

    def body(wf: WorkflowThread) -> None:
        wf.spawn_thread(child, "child")
        after(wf)

    return body


def waiter(child: Body, after: Body = nothing) -> Body:
    """Position 1 starts one child, position 2 waits for it."""

    def body(wf: WorkflowThread) -> None:
        wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(child, "child")))
        after(wf)

    return body


def waits_for(thread: SpawnedThread) -> Body:
    def body(wf: WorkflowThread) -> None:
        wf.wait_for_threads(SpawnedThreads.from_list(thread))

    return body


def has_amount(default: int | None = None, *, required: bool = False) -> Body:
    def body(wf: WorkflowThread) -> None:
        amount = wf.declare_int("amount", default)
        if required:
            amount.required()

    return body


def append(variable: WfRunVariable, text: Any) -> None:
    variable.assign(variable.extend(text))


def order(world: World, *orders: tuple[int, str]) -> None:
    """Give orders to threads, one after the other."""
    for number, text in orders:
        world.post("order", text, thread=number)


def started(world: World, body: Body, **variables: Any) -> World:
    put(world, body)
    world.run("wf", **variables)
    return world


def entries(world: World, position: int = 2) -> list[tuple[int, Any, Any]]:
    """Number, status and waiting status of what a WAIT_FOR_THREADS node waits for."""
    return [
        (entry.thread_run_number, entry.thread_status, entry.waiting_status)
        for entry in node(world, position).wait_for_threads.threads
    ]


def waiting_statuses(world: World, position: int = 2) -> list[Any]:
    return [waiting for _, _, waiting in entries(world, position)]


def reasons(world: World, number: int) -> list[str | None]:
    return [reason.WhichOneof("reason") for reason in thread(world, number=number).halt_reasons]


def stop(world: World, number: int) -> None:
    world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))


def resume(world: World, number: int) -> None:
    world.submit(ResumeWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("order", "gate", "never", "help", "paid", "stop-me"):
        put_event_def(world, name)
    return world


class TestNumbering:
    """execution.md 1.1 and 1.3."""

    def test_numbers_count_over_the_whole_run(self, world: World) -> None:
        def elder(wf: WorkflowThread) -> None:
            wf.wait_for_event("order")
            wf.spawn_thread(waits, "grandchild")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(elder, "elder")
            gate(wf)
            wf.spawn_thread(waits, "younger")

        started(world, body)
        world.post("order")
        world.post("gate")
        runs = wf_run(world).thread_runs
        assert [(run.number, run.thread_spec_name) for run in runs] == [
            (0, "entrypoint"),
            (1, "elder"),
            (2, "grandchild"),
            (3, "younger"),
        ]
        assert wf_run(world).greatest_threadrun_number == 3
        assert [list(run.child_thread_ids) for run in runs] == [[1, 3], [2], [], []]
        assert [run.parent_thread_id for run in runs[1:]] == [0, 1, 0]
        assert [run.HasField("parent_thread_id") for run in runs] == [False, True, True, True]

    def test_children_of_every_type_are_listed_once_in_the_order_of_creation(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", nothing)
            wf.spawn_thread(waits, "child")
            wf.handle_any_failure(wf.wait_for_event("gate", timeout=1), nothing)

        started(world, body)
        world.post("stop-me")
        world.wait(2)
        assert list(thread(world).child_thread_ids) == [1, 2, 3]
        assert [run.type for run in wf_run(world).thread_runs] == [
            ThreadType.ENTRYPOINT,
            ThreadType.CHILD,
            ThreadType.INTERRUPT,
            ThreadType.FAILURE_HANDLER,
        ]
        assert [run.parent_thread_id for run in wf_run(world).thread_runs[1:]] == [0, 0, 0]

    def test_child_knows_its_place(self, world: World) -> None:
        started(world, parent_of(waits))
        run, node_run = thread(world, number=1), node(world, 1, number=1)
        assert run.wf_spec_id == node_run.wf_spec_id == wf_run(world).wf_spec_id
        assert run.thread_spec_name == node_run.thread_spec_name == "child"
        assert node_run.node_name == "1-never-EXTERNAL_EVENT"
        assert (node_run.id.thread_run_number, node_run.id.position) == (1, 1)
        assert run.current_node_position == 1

    def test_positions_count_from_zero_in_each_thread(self, world: World) -> None:
        started(world, parent_of(waits))
        assert node(world, 0, number=1).node_name == "0-entrypoint-ENTRYPOINT"
        assert node(world, 0, number=1).status == COMPLETED
        assert not reached(world, 2, number=1)

    def test_times_of_a_child(self, world: World) -> None:
        started(world, parent_of(waits))
        started_ms = world.now_ms
        assert not thread(world, number=1).HasField("end_time")
        world.wait(5)
        world.post("never")
        assert thread(world, number=1).start_time.ToMilliseconds() == started_ms
        assert thread(world, number=1).end_time.ToMilliseconds() == started_ms + 5000

    def test_failed_child_has_an_end_time_and_the_message_of_its_failure(self, world: World) -> None:
        started(world, parent_of(throws, after=gate))
        assert thread(world, number=1).HasField("end_time")
        assert "nothing left" in thread(world, number=1).error_message

    def test_return_content_is_the_output_of_the_child(self, world: World) -> None:
        started(world, parent_of(lambda wf: wf.complete("the result")))
        assert thread(world, number=1).output.str == "the result"

    def test_numbers_are_not_reused_after_archival(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.spawn_thread(nothing, "child")
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(80), round_)

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 80
        given = [node(world, 2 + 3 * round_).start_thread.child_thread_id for round_ in range(80)]
        assert given == list(range(1, 81))
        assert world.inactive_thread_run(1) is not None


class TestPass:
    """execution.md 1.4 and trace B."""

    def test_lower_thread_takes_the_next_event(self, world: World) -> None:
        started(world, crew(3, child=lambda wf: wf.wait_for_event("paid")))
        assert [world.post("paid").thread_run_number for _ in range(3)] == [1, 2, 3]
        assert wf_run(world).status == COMPLETED

    def test_trace_b_targeted_event(self, world: World) -> None:
        started(world, crew(2, child=lambda wf: wf.wait_for_event("paid")))
        first = world.post("paid", thread=2)
        assert (first.claimed, first.thread_run_number, first.node_run_position) == (True, 2, 1)
        assert node(world, 1, number=2).status == COMPLETED
        assert node(world, 1, number=1).status == RUNNING
        stray = world.post("paid", thread=1, position=9)
        assert not stray.claimed
        assert node(world, 1, number=1).status == RUNNING
        second = world.post("paid")
        assert (second.claimed, second.thread_run_number, second.node_run_position) == (True, 1, 1)
        assert node(world, 1, number=1).status == COMPLETED

    def test_of_two_threads_that_become_ready_the_lower_moves_first(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log, go = wf.declare_str("log", ""), wf.declare_bool("go", False)

            def child(text: str) -> Body:
                def follows(wf: WorkflowThread) -> None:
                    wf.wait_for_condition(go.is_equal_to(True))
                    append(log, text)

                return follows

            wf.spawn_thread(child("1"), "one")
            wf.spawn_thread(child("2"), "two")
            gate(wf)
            go.assign(True)

        started(world, body)
        world.post("gate")
        assert python(world, "log") == "12"

    def test_new_thread_takes_a_step_in_the_pass_that_created_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "")
            wf.spawn_thread(lambda wf: append(log, "child "), "child")
            append(log, "parent ")

        started(world, body)
        assert python(world, "log") == "child parent "

    def test_end_of_a_thread_moves_its_waiter_in_the_same_command(self, world: World) -> None:
        started(world, waiter(obeys))
        order(world, (1, "done"))
        assert wf_run(world).status == COMPLETED

    def test_run_goes_on_in_one_command_over_children_that_do_not_block(self, world: World) -> None:
        put(world, waiter(nothing))
        assert world.run("wf").status == COMPLETED


class TestStartThread:
    """execution.md 6.1 START_THREAD and 8.3."""

    def test_start_thread_completes_at_once_and_names_the_child(self, world: World) -> None:
        started(world, parent_of(waits, after=gate))
        run = node(world, 1)
        assert run.status == COMPLETED
        assert run.start_thread.child_thread_id == 1
        assert run.start_thread.thread_spec_name == "child"
        assert reached(world, 2)
        assert thread(world, number=1).type == ThreadType.CHILD
        assert statuses(world) == [RUNNING, RUNNING]

    def test_output_is_the_number_of_the_child(self, world: World) -> None:
        started(world, parent_of(waits))
        assert python(world, "1-child-START_THREAD") == 1

    def test_variables_are_evaluated_in_the_scope_of_the_parent(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            number = wf.declare_int("number", 20)
            wf.spawn_thread(has_amount(7), "child", {"amount": number.add(1)})

        started(world, body)
        assert python(world, "amount", number=1) == 21

    def test_variables_keep_the_value_of_the_start(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.declare_int("amount")
            waits(wf)

        def body(wf: WorkflowThread) -> None:
            number = wf.declare_int("number", 20)
            wf.spawn_thread(child, "child", {"amount": number})
            number.assign(30)

        started(world, body)
        assert python(world, "number") == 30
        assert python(world, "amount", number=1) == 20

    @pytest.mark.parametrize("given", [True, False])
    def test_null_and_absent_variables_take_the_default(self, world: World, given: bool) -> None:
        def body(wf: WorkflowThread) -> None:
            null = wf.declare_int("null")
            wf.spawn_thread(has_amount(7), "child", {"amount": null} if given else None)

        started(world, body)
        assert python(world, "amount", number=1) == 7

    def test_explicit_null_satisfies_a_required_variable(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            null = wf.declare_int("null")
            wf.spawn_thread(has_amount(required=True), "child", {"amount": null})

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert python(world, "amount", number=1) is None

    @pytest.mark.parametrize("source", [None, {"x": "no number"}, {"x": 1.5}, {"x": {}}])
    def test_bad_variables_are_var_sub_error_and_start_nothing(self, world: World, source: Any) -> None:
        def body(wf: WorkflowThread) -> None:
            amount = wf.declare_json_obj("source").with_json_path("$.x")
            wf.spawn_thread(has_amount(), "child", {"amount": amount})

        started(world, body, source=source)
        assert wf_run(world).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).greatest_threadrun_number == 0

    def test_each_start_gives_a_new_thread_with_its_own_variables(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.declare_int("amount")

        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                count.assign(count.add(1))
                wf.spawn_thread(child, "child", {"amount": count})

            wf.do_while(count.is_less_than(3), round_)

        started(world, body)
        assert [python(world, "amount", number=number) for number in (1, 2, 3)] == [1, 2, 3]


class TestStartMultipleThreads:
    """execution.md 6.1 START_MULTIPLE_THREADS."""

    @staticmethod
    def for_each(kind: VariableType, child: Body = nothing, **extra: Any) -> Body:
        def with_input(wf: WorkflowThread) -> None:
            wf.add_variable("INPUT", kind)
            for name in extra:
                wf.declare_str(name)
            child(wf)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items"), with_input, "child", extra)

        return body

    def test_one_child_for_each_item_in_order(self, world: World) -> None:
        started(world, self.for_each(VariableType.STR, waits), items=["a", "b", "c"])
        run = node(world, 1)
        assert run.status == COMPLETED
        assert list(run.start_multiple_threads.child_thread_ids) == [1, 2, 3]
        assert run.start_multiple_threads.thread_spec_name == "child"
        assert [python(world, "INPUT", number=number) for number in (1, 2, 3)] == ["a", "b", "c"]
        assert [thread(world, number=number).type for number in (1, 2, 3)] == [ThreadType.CHILD] * 3
        assert list(thread(world).child_thread_ids) == [1, 2, 3]

    def test_output_is_the_list_of_the_numbers(self, world: World) -> None:
        started(world, self.for_each(VariableType.STR), items=["a", "b"])
        assert python(world, "1-child-START_MULTIPLE_THREADS") == [1, 2]

    def test_empty_iterable_completes_with_an_empty_list(self, world: World) -> None:
        started(world, crew(0))
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == COMPLETED
        assert list(node(world, 1).start_multiple_threads.child_thread_ids) == []
        assert python(world, "1-child-START_MULTIPLE_THREADS") == []
        assert wf_run(world).greatest_threadrun_number == 0

    @pytest.mark.parametrize(
        ("kind", "item"),
        [
            (VariableType.INT, 5),
            (VariableType.DOUBLE, 1.5),
            (VariableType.BOOL, True),
            (VariableType.STR, "text"),
            (VariableType.JSON_OBJ, {"a": 1}),
            (VariableType.JSON_ARR, [1, 2]),
            (VariableType.INT, None),
        ],
    )
    def test_input_is_the_item(self, world: World, kind: VariableType, item: Any) -> None:
        started(world, self.for_each(kind), items=[item])
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=1) == item

    def test_variables_go_to_every_child(self, world: World) -> None:
        started(world, self.for_each(VariableType.INT, shop="north"), items=[1, 2])
        assert [python(world, "shop", number=number) for number in (1, 2)] == ["north", "north"]
        assert [python(world, "INPUT", number=number) for number in (1, 2)] == [1, 2]

    def test_thread_without_input_is_started_for_each_item_too(self, world: World) -> None:
        started(world, crew(3, child=nothing))
        assert wf_run(world).greatest_threadrun_number == 3
        assert wf_run(world).status == COMPLETED

    def test_array_can_be_iterated_over(self, world: World) -> None:
        def is_array(spec: ThreadSpec) -> None:
            element = TypeDefinition(primitive_type=VariableType.INT)
            kind = TypeDefinition(inline_array_def=InlineArrayDef(array_type=element))
            spec.variable_defs[0].var_def.type_def.CopyFrom(kind)

        put_edited(world, self.for_each(VariableType.INT), is_array)
        items = VariableValue(array=Array(items=[to_variable_value(7), to_variable_value(8)]))
        world.submit(RunWfRequest(wf_spec_name="wf", id="r", variables={"items": items}))
        assert [python(world, "INPUT", number=number) for number in (1, 2)] == [7, 8]
        assert python(world, "1-child-START_MULTIPLE_THREADS") == [1, 2]

    @pytest.mark.parametrize("source", [None, {"x": "text"}, {"x": 5}, {"x": {"y": 1}}, {"y": [1]}])
    def test_iterable_that_is_no_list_is_var_sub_error(self, world: World, source: Any) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_obj("source").with_json_path("$.x"), nothing, "child")

        started(world, body, source=source)
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).greatest_threadrun_number == 0

    def test_null_iterable_is_var_sub_error(self, world: World) -> None:
        started(world, self.for_each(VariableType.INT), items=None)
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_item_that_does_not_fit_input_is_var_sub_error(self, world: World) -> None:
        started(world, self.for_each(VariableType.INT), items=["no number"])
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_variable_that_does_not_fit_is_var_sub_error(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            amount = wf.declare_json_obj("source", {"x": "no number"}).with_json_path("$.x")
            items = wf.declare_json_arr("items", [1])
            wf.spawn_thread_for_each(items, has_amount(), "child", {"amount": amount})

        started(world, body)
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"


class TestThreadLimit:
    """execution.md 1.8, 6.1 and 9.6: 65 threads by default."""

    def test_limit_can_be_reached(self, world: World) -> None:
        started(world, crew(64))
        assert len(wf_run(world).thread_runs) == 65
        assert wf_run(world).status == RUNNING

    def test_start_multiple_beyond_the_limit_is_internal_error_and_starts_none(self, world: World) -> None:
        started(world, crew(65))
        assert wf_run(world).status == ERROR
        assert failure(world, 1).failure_name == "INTERNAL_ERROR"
        assert wf_run(world).greatest_threadrun_number == 0

    def test_start_thread_beyond_the_limit_is_internal_error(self, world: World) -> None:
        def late(wf: WorkflowThread) -> None:
            gate(wf)
            wf.spawn_thread(nothing, "late")

        started(world, crew(64, before=late))
        world.post("gate")
        assert wf_run(world).status == ERROR
        assert node(world, 3).status == ERROR
        assert failure(world, 3).failure_name == "INTERNAL_ERROR"
        assert wf_run(world).greatest_threadrun_number == 64

    def test_completed_threads_make_room(self, world: World) -> None:
        def late(wf: WorkflowThread) -> None:
            gate(wf)
            wf.spawn_thread(waits, "late")

        started(world, crew(64, before=late))
        order(world, (1, "done"))
        world.post("gate")
        assert node(world, 3).start_thread.child_thread_id == 65
        assert thread(world, number=65).status == RUNNING
        assert world.inactive_thread_run(1) is not None

    def test_failed_threads_do_not_make_room(self, world: World) -> None:
        def late(wf: WorkflowThread) -> None:
            gate(wf)
            wf.spawn_thread(waits, "late")

        started(world, crew(64, before=late))
        order(world, (1, "throw"))
        world.post("gate")
        assert failure(world, 3).failure_name == "INTERNAL_ERROR"

    def test_handler_of_a_waited_thread_beyond_the_limit_is_internal_error_on_the_waiting_node(
        self, world: World
    ) -> None:
        started(world, crew(64, on_child=nothing))
        order(world, (1, "throw"))
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"

    def test_interrupt_beyond_the_limit_is_internal_error_on_the_current_node(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", nothing)
            crew(64)(wf)

        started(world, body)
        world.post("stop-me")
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"

    def test_failure_handler_beyond_the_limit_is_internal_error_on_the_failed_node(self, world: World) -> None:
        def late(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("gate", timeout=1), nothing)

        started(world, crew(64, before=late))
        world.wait(2)
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "INTERNAL_ERROR"


class TestArrivalAtWaitForThreads:
    """execution.md 6.1 WAIT_FOR_THREADS."""

    def test_entries_start_in_progress(self, world: World) -> None:
        started(world, crew(2))
        assert node(world, 2).status == RUNNING
        assert entries(world) == [(1, RUNNING, IN_PROGRESS), (2, RUNNING, IN_PROGRESS)]

    def test_entries_follow_the_list(self, world: World) -> None:
        started(world, crew(3, listed=[3, 1]))
        assert [number for number, _, _ in entries(world)] == [3, 1]

    def test_numbers_can_be_given_one_by_one(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            one, two = wf.spawn_thread(waits, "one"), wf.spawn_thread(waits, "two")
            wf.wait_for_threads(SpawnedThreads.from_list(two, one))

        started(world, body)
        assert [number for number, _, _ in entries(world, 3)] == [2, 1]

    @pytest.mark.parametrize("number", [9, -1, None])
    def test_unknown_thread_is_var_sub_error(self, world: World, number: int | None) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.wait_for_threads(SpawnedThreads.from_list(SpawnedThread("x", wf.declare_int("number"))))

        started(world, body, number=number)
        assert wf_run(world).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    @pytest.mark.parametrize("numbers", [[1, 9], ["no number"], [None], [{}], None])
    def test_bad_list_is_var_sub_error(self, world: World, numbers: list[Any] | None) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(waits, "child")
            wf.wait_for_threads(SpawnedThreads(wf.declare_json_arr("numbers")))

        started(world, body, numbers=numbers)
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_waiting_for_oneself_or_an_ancestor_is_var_sub_error(self, world: World, number: int) -> None:
        def body(wf: WorkflowThread) -> None:
            target = SpawnedThread("x", wf.declare_int("number"))

            def child(wf: WorkflowThread) -> None:
                wf.spawn_thread(waits_for(target), "grandchild")

            wf.spawn_thread(child, "child")
            gate(wf)

        started(world, body, number=number)
        assert thread(world, number=2).status == ERROR
        assert failure(world, 1, number=2).failure_name == "VAR_SUB_ERROR"

    def test_sibling_can_be_waited_for(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            one = wf.spawn_thread(obeys, "one")
            wf.spawn_thread(waits_for(one), "two")

        started(world, body)
        assert statuses(world) == [RUNNING, RUNNING, RUNNING]
        order(world, (1, "done"))
        assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]

    def test_grandchild_can_be_waited_for(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.spawn_thread(obeys, "grandchild")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            gate(wf)
            wf.wait_for_threads(SpawnedThreads(wf.declare_json_arr("listed", [2])))
            waits(wf)

        started(world, body)
        world.post("gate")
        assert node(world, 3).status == RUNNING
        order(world, (2, "done"))
        assert node(world, 3).status == COMPLETED

    def test_finished_thread_can_be_waited_for(self, world: World) -> None:
        started(world, crew(1, before=gate))
        order(world, (1, "done"))
        world.post("gate")
        assert entries(world, 3) == [(1, COMPLETED, SUCCESSFUL)]
        assert wf_run(world).status == COMPLETED

    def test_archived_thread_can_be_waited_for(self, world: World) -> None:
        def short_lived(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=0))

        started(world, crew(1, child=short_lived, before=gate))
        world.wait(1)
        world.post("paid")
        assert world.inactive_thread_run(1) is not None
        world.post("gate")
        assert entries(world, 3) == [(1, COMPLETED, SUCCESSFUL)]
        assert wf_run(world).status == COMPLETED

    def test_list_without_threads_completes_at_once(self, world: World) -> None:
        started(world, crew(0))
        assert node(world, 2).status == COMPLETED
        assert entries(world) == []


class TestProgress:
    """execution.md 6.5, the table of waiting statuses and the handlers of single threads."""

    def test_completed_thread(self, world: World) -> None:
        started(world, crew(2))
        order(world, (1, "done"))
        assert entries(world) == [(1, COMPLETED, SUCCESSFUL), (2, RUNNING, IN_PROGRESS)]

    @pytest.mark.parametrize(("text", "status"), [("throw", EXCEPTION), ("break", ERROR)])
    def test_failed_thread_without_handler(self, world: World, text: str, status: LHStatus) -> None:
        started(world, crew(2, ANY))
        order(world, (1, text))
        assert entries(world) == [(1, status, UNSUCCESSFUL), (2, RUNNING, IN_PROGRESS)]

    @pytest.mark.parametrize(("text", "status"), [("throw", EXCEPTION), ("break", ERROR)])
    def test_failed_thread_with_handler(self, world: World, text: str, status: LHStatus) -> None:
        started(world, crew(2, on_child=lambda wf: wf.wait_for_event("help")))
        order(world, (1, text))
        assert entries(world) == [(1, status, HANDLING), (2, RUNNING, IN_PROGRESS)]
        assert node(world, 2).wait_for_threads.threads[0].failure_handler_thread_run_id == 3
        assert node(world, 2).status == RUNNING
        assert statuses(world) == [RUNNING, status, RUNNING, RUNNING]

    def test_handler_that_completes(self, world: World) -> None:
        started(world, crew(2, on_child=lambda wf: wf.wait_for_event("help")))
        order(world, (1, "throw"))
        world.post("help")
        assert entries(world) == [(1, EXCEPTION, SUCCESSFUL), (2, RUNNING, IN_PROGRESS)]
        assert list(thread(world).handled_failed_children) == [1]
        order(world, (2, "done"))
        assert wf_run(world).status == COMPLETED

    def test_handler_that_fails(self, world: World) -> None:
        started(world, crew(2, ANY, on_child=lambda wf: wf.fail("worse", "much worse")))
        order(world, (1, "throw"))
        assert entries(world) == [(1, EXCEPTION, UNSUCCESSFUL), (2, RUNNING, IN_PROGRESS)]
        assert list(thread(world).handled_failed_children) == []

    def test_halted_thread_stays_in_progress(self, world: World) -> None:
        started(world, crew(1))
        stop(world, 1)
        assert entries(world) == [(1, HALTED, IN_PROGRESS)]
        assert wf_run(world).status == RUNNING
        resume(world, 1)
        order(world, (1, "done"))
        assert wf_run(world).status == COMPLETED

    def test_handler_is_a_child_of_the_failed_thread(self, world: World) -> None:
        started(world, crew(1, on_child=lambda wf: wf.wait_for_event("help")))
        order(world, (1, "throw"))
        handler = thread(world, number=2)
        assert handler.type == ThreadType.FAILURE_HANDLER
        assert handler.parent_thread_id == 1
        assert not handler.HasField("failure_being_handled")
        assert list(thread(world, number=1).child_thread_ids) == [2]
        assert list(thread(world).child_thread_ids) == [1]

    def test_failed_thread_keeps_its_status(self, world: World) -> None:
        started(world, crew(1, on_child=nothing))
        order(world, (1, "throw"))
        assert statuses(world) == [COMPLETED, EXCEPTION, COMPLETED]
        assert node(world, 2).status == COMPLETED

    def test_handler_sees_and_writes_the_variables_of_the_failed_thread(self, world: World) -> None:
        def handler(wf: WorkflowThread) -> None:
            append(wf.find_variable("order"), " handled")

        started(world, crew(1, on_child=handler))
        order(world, (1, "throw"))
        assert python(world, "order", number=1) == "throw handled"

    def test_input_of_the_handler_is_the_content_of_the_failure(self, world: World) -> None:
        started(world, crew(1, child=throws, on_child=lambda wf: wf.declare_str("INPUT")))
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=2) == "apples"

    def test_input_of_the_handler_is_null_without_content(self, world: World) -> None:
        started(world, crew(1, child=breaks, on_child=lambda wf: wf.declare_str("INPUT")))
        assert wf_run(world).status == COMPLETED
        assert python(world, "INPUT", number=2) is None

    def test_input_that_does_not_fit_is_child_failure(self, world: World) -> None:
        started(world, crew(1, child=throws, on_child=lambda wf: wf.declare_int("INPUT")))
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "CHILD_FAILURE"

    @pytest.mark.parametrize(
        ("catch", "caught"),
        [
            ("any", {"throw", "abort", "break"}),
            ("exception", {"throw", "abort"}),
            ("out-of-stock", {"throw"}),
            ("error", {"break"}),
            ("VAR_SUB_ERROR", {"break"}),
            ("VAR_ERROR", {"break"}),
            ("VAR_MUTATION_ERROR", set()),
            ("TASK_ERROR", set()),
        ],
    )
    @pytest.mark.parametrize("text", ["throw", "abort", "break"])
    def test_handler_must_match(self, world: World, catch: str, caught: set[str], text: str) -> None:
        def attach(waiting: WaitForThreadsNodeOutput) -> None:
            match catch:
                case "any":
                    waiting.handle_any_failure_on_child(nothing)
                case "exception":
                    waiting.handle_exception_on_child(nothing)
                case "out-of-stock":
                    waiting.handle_exception_on_child(nothing, catch)
                case "error":
                    waiting.handle_error_on_child(nothing)
                case _:
                    waiting.handle_error_on_child(nothing, getattr(LHErrorType, catch))

        def body(wf: WorkflowThread) -> None:
            attach(wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(obeys, "child"))))

        started(world, body)
        order(world, (1, text))
        assert waiting_statuses(world) == [SUCCESSFUL if text in caught else UNSUCCESSFUL]
        assert (wf_run(world).status == COMPLETED) == (text in caught)

    def test_first_handler_that_matches_is_taken(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            waiting = wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(throws, "child")))
            waiting.handle_error_on_child(nothing)
            waiting.handle_any_failure_on_child(nothing)
            waiting.handle_exception_on_child(nothing, "out-of-stock")

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 2
        assert thread(world, number=2).thread_spec_name == "failure-handler-2-threads-WAIT_FOR_THREADS-ANY_FAILURE"

    def test_every_failed_thread_gets_its_own_handler(self, world: World) -> None:
        started(world, crew(3, child=throws, on_child=nothing))
        assert wf_run(world).status == COMPLETED
        assert wf_run(world).greatest_threadrun_number == 6
        assert set(thread(world).handled_failed_children) == {1, 2, 3}
        handlers = [entry.failure_handler_thread_run_id for entry in node(world, 2).wait_for_threads.threads]
        assert [thread(world, number=number).parent_thread_id for number in handlers] == [1, 2, 3]


class TestStrategies:
    """execution.md 6.5, the table of strategies."""

    @pytest.mark.parametrize(
        ("strategy", "orders", "status"),
        [
            (ALL, [], RUNNING),
            (ALL, [(1, "done")], RUNNING),
            (ALL, [(2, "done"), (1, "done")], COMPLETED),
            (ALL, [(2, "throw")], EXCEPTION),
            (ALL, [(2, "break")], ERROR),
            (ALL, [(1, "done"), (2, "throw")], EXCEPTION),
            (FIRST, [], RUNNING),
            (FIRST, [(1, "done")], COMPLETED),
            (FIRST, [(2, "done")], COMPLETED),
            (FIRST, [(1, "throw")], EXCEPTION),
            (FIRST, [(2, "break")], ERROR),
            (ANY, [], RUNNING),
            (ANY, [(2, "done")], COMPLETED),
            (ANY, [(1, "throw")], RUNNING),
            (ANY, [(1, "throw"), (2, "done")], COMPLETED),
            (ANY, [(1, "throw"), (2, "throw")], ERROR),
            (ANY, [(1, "break"), (2, "break")], ERROR),
        ],
    )
    def test_outcome(self, world: World, strategy: Any, orders: list[tuple[int, str]], status: LHStatus) -> None:
        started(world, crew(2, strategy, after=gate))
        order(world, *orders)
        assert node(world, 2).status == status
        assert reached(world, 3) == (status == COMPLETED)
        assert wf_run(world).status == (RUNNING if status == COMPLETED else status)

    def test_all_fails_with_the_first_failed_entry_of_the_list(self, world: World) -> None:
        started(world, crew(2, before=gate, listed=[2, 1]))
        order(world, (1, "throw"), (2, "abort"))
        world.post("gate")
        assert failure(world, 3).failure_name == "aborted"

    def test_all_halts_the_others_when_one_fails(self, world: World) -> None:
        started(world, crew(3))
        order(world, (2, "throw"))
        assert statuses(world) == [EXCEPTION, HALTED, EXCEPTION, HALTED]
        assert reasons(world, 1) == reasons(world, 3) == ["parent_halted"]
        assert not world.post("order", "done", thread=1).claimed

    def test_all_counts_handled_failures(self, world: World) -> None:
        started(world, crew(2, on_child=nothing))
        order(world, (1, "throw"))
        assert node(world, 2).status == RUNNING
        order(world, (2, "done"))
        assert node(world, 2).status == COMPLETED

    @pytest.mark.parametrize(("listed", "status"), [([1, 2], EXCEPTION), ([2, 1], COMPLETED)])
    def test_first_is_the_first_finished_entry_of_the_list(
        self, world: World, listed: list[int], status: LHStatus
    ) -> None:
        started(world, crew(2, FIRST, before=gate, listed=listed))
        order(world, (1, "throw"), (2, "done"))
        world.post("gate")
        assert node(world, 3).status == status
        assert wf_run(world).status == status

    def test_first_skips_entries_in_progress(self, world: World) -> None:
        started(world, crew(3, FIRST, before=gate))
        order(world, (2, "done"), (3, "throw"))
        world.post("gate")
        assert node(world, 3).status == COMPLETED

    @pytest.mark.parametrize("strategy", [FIRST, ANY])
    def test_threads_still_in_progress_are_halted_for_good(self, world: World, strategy: Any) -> None:
        started(world, crew(3, strategy, after=gate))
        order(world, (2, "done"))
        assert statuses(world) == [RUNNING, HALTED, COMPLETED, HALTED]
        for number in (1, 3):
            (reason,) = thread(world, number=number).halt_reasons
            assert reason.halted_by_parent.parent_thread_run_number == 0
            assert reason.halted_by_parent.waiting_node_run_position == 2
            assert node(world, 1, number=number).status == HALTED
        resume(world, 1)
        assert not world.post("order", "done", thread=1).claimed
        assert statuses(world) == [RUNNING, HALTED, COMPLETED, HALTED]
        world.post("gate")
        assert statuses(world) == [COMPLETED, HALTED, COMPLETED, HALTED]

    def test_all_does_not_halt_threads_that_are_not_waited_for(self, world: World) -> None:
        started(world, crew(2, listed=[1], after=gate))
        order(world, (1, "done"))
        assert statuses(world) == [RUNNING, COMPLETED, RUNNING]

    @pytest.mark.parametrize("strategy", [FIRST, ANY])
    def test_threads_that_are_not_waited_for_go_on(self, world: World, strategy: Any) -> None:
        started(world, crew(3, strategy, listed=[1, 2], after=gate))
        order(world, (1, "done"))
        assert statuses(world) == [RUNNING, COMPLETED, HALTED, RUNNING]

    def test_exit_does_not_trip_over_the_failures_that_first_ignored(self, world: World) -> None:
        started(world, crew(2, FIRST, before=gate, listed=[2, 1]))
        order(world, (1, "throw"), (2, "done"))
        world.post("gate")
        assert 1 in thread(world).handled_failed_children
        assert wf_run(world).status == COMPLETED

    def test_exit_does_not_trip_over_the_failures_that_any_ignored(self, world: World) -> None:
        started(world, crew(3, ANY))
        order(world, (1, "throw"), (3, "break"), (2, "done"))
        assert {1, 3} <= set(thread(world).handled_failed_children)
        assert wf_run(world).status == COMPLETED

    def test_any_of_failed_threads_only_is_child_failure(self, world: World) -> None:
        started(world, crew(2, ANY))
        order(world, (1, "throw"), (2, "abort"))
        assert waiting_statuses(world) == [UNSUCCESSFUL, UNSUCCESSFUL]
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_any_completes_with_a_handled_failure(self, world: World) -> None:
        started(world, crew(2, ANY, on_child=lambda wf: wf.wait_for_event("help"), after=gate))
        order(world, (1, "throw"))
        assert node(world, 2).status == RUNNING
        world.post("help")
        assert node(world, 2).status == COMPLETED
        assert thread(world, number=2).status == HALTED

    def test_first_completes_with_a_handled_failure(self, world: World) -> None:
        started(world, crew(2, FIRST, on_child=lambda wf: wf.wait_for_event("help"), after=gate))
        order(world, (1, "throw"))
        assert node(world, 2).status == RUNNING
        world.post("help")
        assert node(world, 2).status == COMPLETED
        assert thread(world, number=2).status == HALTED


class TestThrownOn:
    """execution.md 6.5, the failure for an unsuccessful entry."""

    def test_user_defined_failure_is_thrown_on_unchanged(self, world: World) -> None:
        started(world, crew(1, child=throws))
        thrown = failure(world, 2)
        assert (thrown.failure_name, thrown.message, thrown.content.str) == ("out-of-stock", "nothing left", "apples")
        assert node(world, 2).status == EXCEPTION
        assert wf_run(world).status == EXCEPTION

    def test_technical_failure_becomes_child_failure(self, world: World) -> None:
        started(world, crew(1, child=breaks))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert failure(world, 2).message
        assert node(world, 2).status == ERROR
        assert wf_run(world).status == ERROR

    def test_failure_of_the_handler_is_thrown_on(self, world: World) -> None:
        started(world, crew(1, child=throws, on_child=lambda wf: wf.fail("worse", "much worse", "pears")))
        thrown = failure(world, 2)
        assert (thrown.failure_name, thrown.message, thrown.content.str) == ("worse", "much worse", "pears")
        assert waiting_statuses(world) == [UNSUCCESSFUL]
        assert wf_run(world).status == EXCEPTION

    def test_technical_failure_of_the_handler_becomes_child_failure(self, world: World) -> None:
        started(world, crew(1, child=throws, on_child=breaks))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_user_defined_failure_of_the_handler_of_a_technical_failure_is_an_exception(self, world: World) -> None:
        started(world, crew(1, child=breaks, on_child=throws))
        assert failure(world, 2).failure_name == "out-of-stock"
        assert wf_run(world).status == EXCEPTION

    def test_failure_climbs_over_generations_that_wait(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(throws, "grandchild")))

        started(world, waiter(child))
        assert statuses(world) == [EXCEPTION, EXCEPTION, EXCEPTION]
        assert failure(world, 2).failure_name == "out-of-stock"
        assert failure(world, 2).content.str == "apples"


class TestExit:
    """execution.md 6.6."""

    def test_exit_waits_for_every_child(self, world: World) -> None:
        started(world, parent_of(obeys))
        assert node(world, 2).node_name == "2-exit-EXIT"
        assert node(world, 2).status == RUNNING
        assert statuses(world) == [RUNNING, RUNNING]
        order(world, (1, "done"))
        assert node(world, 2).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_exit_waits_for_a_child_that_was_not_in_the_list(self, world: World) -> None:
        started(world, crew(2, listed=[1]))
        order(world, (1, "done"))
        assert node(world, 3).status == RUNNING
        order(world, (2, "done"))
        assert wf_run(world).status == COMPLETED

    def test_child_waits_for_its_own_children(self, world: World) -> None:
        started(world, waiter(grandparent))
        assert statuses(world) == [RUNNING, RUNNING, RUNNING]
        assert node(world, 2, number=1).node_name == "2-exit-EXIT"
        order(world, (2, "done"))
        assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]

    def test_return_content_is_evaluated_when_exit_completes(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "before")

            def child(wf: WorkflowThread) -> None:
                wf.wait_for_event("order")
                log.assign("after")

            wf.spawn_thread(child, "child")
            wf.complete(log)

        started(world, body)
        world.post("order")
        assert thread(world).output.str == "after"

    @pytest.mark.parametrize("child", [throws, breaks])
    def test_unhandled_failed_child_is_child_failure(self, world: World, child: Body) -> None:
        started(world, parent_of(child))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert node(world, 2).status == ERROR
        assert wf_run(world).status == ERROR

    def test_message_lists_the_failed_children(self, world: World) -> None:
        started(world, crew(3, listed=[2]))
        order(world, (1, "throw"), (3, "break"), (2, "done"))
        assert failure(world, 3).failure_name == "CHILD_FAILURE"
        assert "1" in failure(world, 3).message
        assert "3" in failure(world, 3).message

    def test_exit_fails_only_when_every_child_has_ended(self, world: World) -> None:
        started(world, crew(3, listed=[2]))
        order(world, (1, "throw"), (2, "done"))
        assert node(world, 3).status == RUNNING
        order(world, (3, "done"))
        assert node(world, 3).status == ERROR

    def test_failed_grandchild_fails_the_child_at_its_exit(self, world: World) -> None:
        started(world, parent_of(grandparent))
        order(world, (2, "throw"))
        assert statuses(world) == [ERROR, ERROR, EXCEPTION]
        assert failure(world, 2, number=1).failure_name == "CHILD_FAILURE"
        assert failure(world, 2).failure_name == "CHILD_FAILURE"

    def test_halted_child_does_not_prevent_completion_and_stays_halted(self, world: World) -> None:
        started(world, parent_of(waits))
        stop(world, 1)
        assert statuses(world) == [COMPLETED, HALTED]
        assert wf_run(world).status == COMPLETED

    def test_child_that_dealt_with_its_failure_is_no_failure(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.wait_for_event("never", timeout=1), nothing)

        started(world, parent_of(child))
        world.wait(2)
        assert node(world, 1, number=1).status == ERROR
        assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]

    def test_exit_with_a_failure_throws_at_once_and_halts_the_children(self, world: World) -> None:
        started(world, parent_of(waits, after=lambda wf: wf.fail("gone", "left early")))
        assert statuses(world) == [EXCEPTION, HALTED]
        assert failure(world, 2).failure_name == "gone"
        assert reasons(world, 1) == ["parent_halted"]
        assert node(world, 1, number=1).status == HALTED

    def test_exit_with_a_failure_does_not_look_at_failed_children(self, world: World) -> None:
        started(world, parent_of(breaks, after=lambda wf: wf.fail("gone", "left early")))
        assert failure(world, 2).failure_name == "gone"
        assert wf_run(world).status == EXCEPTION

    def test_exit_counts_archived_children(self, world: World) -> None:
        def short_lived(wf: WorkflowThread) -> None:
            wf.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=0))

        started(world, parent_of(short_lived, after=gate))
        world.wait(1)
        world.post("paid")
        assert world.inactive_thread_run(1) is not None
        world.post("gate")
        assert wf_run(world).status == COMPLETED


def grandparent(wf: WorkflowThread) -> None:
    wf.spawn_thread(obeys, "grandchild")


class TestScope:
    """execution.md 8.4 between parent and child threads."""

    def test_child_reads_and_writes_the_variables_of_its_ancestors(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "parent")

            def child(wf: WorkflowThread) -> None:
                copy = wf.declare_str("copy")
                copy.assign(log)
                append(log, " child")
                wf.spawn_thread(lambda wf: append(log, " grandchild"), "grandchild")

            wf.spawn_thread(child, "child")

        started(world, body)
        assert python(world, "copy", number=1) == "parent"
        assert python(world, "log") == "parent child grandchild"
        assert wf_run(world).status == COMPLETED

    def test_parent_sees_what_its_child_wrote(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log, copy = wf.declare_str("log", "old"), wf.declare_str("copy")
            wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(lambda wf: log.assign("new"), "child")))
            copy.assign(log)

        started(world, body)
        assert python(world, "copy") == "new"

    def test_child_sees_what_its_parent_wrote_after_the_start(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            log = wf.declare_str("log", "old")

            def child(wf: WorkflowThread) -> None:
                copy = wf.declare_str("copy")
                copy.assign(wf.wait_for_event("order"))
                copy.assign(log)

            wf.spawn_thread(child, "child")
            log.assign("new")

        started(world, body)
        world.post("order")
        assert python(world, "copy", number=1) == "new"

    def test_threads_of_one_spec_do_not_share_variables(self, world: World) -> None:
        started(world, crew(2))
        order(world, (1, "this"), (2, "that"))
        assert [python(world, "order", number=number) for number in (1, 2)] == ["this", "that"]

    @pytest.mark.parametrize("writes", [True, False])
    def test_variable_of_a_sibling_is_out_of_scope(self, world: World, writes: bool) -> None:
        def owner(wf: WorkflowThread) -> None:
            wf.declare_int("secret", 1)
            waits(wf)

        def thief(wf: WorkflowThread) -> None:
            mine, secret = wf.declare_int("mine", 0), wf.find_variable("secret")
            (secret if writes else mine).assign(5 if writes else secret)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(owner, "owner")
            wf.spawn_thread(thief, "thief")
            waits(wf)

        started(world, body)
        assert thread(world, number=2).status == ERROR
        assert failure(world, 0, number=2).failure_name == "VAR_SUB_ERROR"
        assert python(world, "secret", number=1) == 1

    @pytest.mark.parametrize("writes", [True, False])
    def test_variable_of_a_child_is_out_of_scope(self, world: World, writes: bool) -> None:
        def owner(wf: WorkflowThread) -> None:
            wf.declare_int("secret", 1)
            waits(wf)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(owner, "owner")
            mine, secret = wf.declare_int("mine", 0), WfRunVariable("secret", wf, variable_type=VariableType.INT)
            gate(wf)
            (secret if writes else mine).assign(5 if writes else secret)

        started(world, body)
        world.post("gate")
        assert wf_run(world).status == ERROR
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert python(world, "secret", number=1) == 1

    def test_input_is_that_of_the_nearest_thread(self, world: World) -> None:
        def inner(wf: WorkflowThread) -> None:
            given, copy = wf.declare_str("INPUT"), wf.declare_str("inner-copy")
            copy.assign(given)
            given.assign("changed")

        def outer(wf: WorkflowThread) -> None:
            wf.declare_str("INPUT")
            wf.spawn_thread_for_each(wf.declare_json_arr("inner-items", ["inner"]), inner, "inner")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items", ["outer"]), outer, "outer")

        started(world, body)
        assert wf_run(world).status == COMPLETED
        assert python(world, "inner-copy", number=2) == "inner"
        assert python(world, "INPUT", number=2) == "changed"
        assert python(world, "INPUT", number=1) == "outer"

    def test_input_of_the_parent_is_read_where_the_child_declares_none(self, world: World) -> None:
        def outer(wf: WorkflowThread) -> None:
            given = wf.declare_str("INPUT")

            def inner(wf: WorkflowThread) -> None:
                wf.declare_str("copy").assign(given)

            wf.spawn_thread(inner, "inner")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("items", ["outer"]), outer, "outer")

        started(world, body)
        assert python(world, "copy", number=2) == "outer"

    def test_output_of_a_node_of_the_parent_is_no_output_of_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            paid = wf.wait_for_event("paid")

            def child(wf: WorkflowThread) -> None:
                copy = wf.declare_str("copy")
                copy.assign(wf.wait_for_event("paid"))

            wf.spawn_thread(child, "child")
            copy = wf.declare_str("parent-copy")
            gate(wf)
            copy.assign(paid)

        started(world, body)
        world.post("paid", "for the parent")
        world.post("paid", "for the child")
        world.post("gate")
        assert python(world, "parent-copy") == "for the parent"
        assert python(world, "copy", number=1) == "for the child"


class TestTraceE:
    """execution.md 12, trace E: T1 fails with out-of-stock."""

    def test_waiting_without_handlers(self, world: World) -> None:
        started(world, waiter(throws))
        assert node(world, 2).status == EXCEPTION
        assert statuses(world) == [EXCEPTION, EXCEPTION]
        assert wf_run(world).status == EXCEPTION
        assert failure(world, 2).failure_name == "out-of-stock"
        assert failure(world, 2).content.str == "apples"

    def test_not_waiting(self, world: World) -> None:
        started(world, parent_of(throws, after=gate))
        assert statuses(world) == [RUNNING, EXCEPTION]
        assert not node(world, 2).failures
        world.post("gate")
        assert node(world, 3).status == ERROR
        assert failure(world, 3).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_handler_of_the_waited_thread(self, world: World) -> None:
        started(world, crew(1, child=throws, on_child=nothing, after=gate))
        assert thread(world, number=2).parent_thread_id == 1
        assert waiting_statuses(world) == [SUCCESSFUL]
        assert node(world, 2).status == COMPLETED
        assert statuses(world) == [RUNNING, EXCEPTION, COMPLETED]
        assert list(thread(world).handled_failed_children) == [1]
        world.post("gate")
        assert wf_run(world).status == COMPLETED

    def test_handler_of_the_waiting_node(self, world: World) -> None:
        started(world, crew(1, child=throws, on_node=nothing, after=gate))
        assert thread(world, number=2).parent_thread_id == 0
        assert node(world, 2).status == EXCEPTION
        assert statuses(world) == [RUNNING, EXCEPTION, COMPLETED]
        assert list(thread(world).handled_failed_children) == [1]
        world.post("gate")
        assert wf_run(world).status == COMPLETED

    def test_others_resume_after_the_handler_of_the_waiting_node(self, world: World) -> None:
        started(world, crew(2, on_node=lambda wf: wf.wait_for_event("help")))
        order(world, (1, "throw"))
        assert statuses(world) == [HALTED, EXCEPTION, HALTED, RUNNING]
        assert reasons(world, 2) == ["parent_halted"]
        assert wf_run(world).status == RUNNING
        world.post("help")
        assert statuses(world) == [RUNNING, EXCEPTION, RUNNING, COMPLETED]
        order(world, (2, "done"))
        assert wf_run(world).status == COMPLETED
