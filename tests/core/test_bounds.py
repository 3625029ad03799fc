"""What one request may cost: passes, text, records and loads; and what two requests alike must give."""

import itertools
from typing import Any

import pytest
from littlehorse.model import (
    Array,
    CompleteUserTaskRunRequest,
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    LHErrorType,
    LHPath,
    LHTaskException,
    PutUserTaskDefRequest,
    PutUserTaskRunCommentRequest,
    PutWfSpecRequest,
    SaveUserTaskRunProgressRequest,
    TaskStatus,
    ThreadSpec,
    UserTaskField,
    UserTaskRun,
    UserTaskRunId,
    VariableType,
    VariableValue,
    WfRunId,
    WfRunVariableAccessLevel,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import SpawnedThreads, WorkflowThread

from lhd.core import kinds
from lhd.core.commands import Command, decide
from lhd.core.ids import GENERATIONS_MAX
from lhd.core.records import CommandTime, Key, Kind, LaneId, Memory, NotLoaded, Transaction
from lhd.core.settings import Settings
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    RUNNING,
    Body,
    claim,
    compiled,
    correlate,
    entry,
    failure,
    node,
    nothing,
    put,
    put_edited,
    put_event_def,
    python,
    refused,
    stored_correlated,
    wf_run,
)
from tests.core.world import TENANT, World

LIMIT = 20_000
"""What a record may have in bytes, where a test says so."""
FORM = UserTaskRunId(wf_run_id=WfRunId(id="r"), user_task_guid="0-1")


def waits(event_def: str) -> Body:
    return lambda wf: wf.wait_for_event(event_def)


def takes(kind: VariableType) -> Body:
    return lambda wf: wf.add_variable("INPUT", kind)


def runs(wf_spec: str) -> Body:
    return lambda wf: wf.run_wf(wf_spec)


def runs_task(wf: WorkflowThread) -> None:
    wf.execute("t")


def text(size: int) -> str:
    return "x" * size


def put_form(world: World, *names: str, kind: VariableType = VariableType.STR) -> None:
    """A UserTaskDef with fields of these names, and the WfRun r, which waits for it."""
    world.submit(PutUserTaskDefRequest(name="form", fields=[UserTaskField(name=name, type=kind) for name in names]))

    def body(wf: WorkflowThread) -> None:
        results = wf.declare_json_obj("results")
        results.assign(wf.assign_user_task("form", user_id="anna"))

    put(world, body)
    world.run("wf")


def form(world: World) -> UserTaskRun:
    found = world.user_task_run("0-1")
    assert found is not None
    return found


def save(world: World, **results: VariableValue) -> None:
    world.submit(SaveUserTaskRunProgressRequest(user_task_run_id=FORM, user_id="anna", results=results))


def complete(world: World, **results: VariableValue) -> None:
    world.submit(CompleteUserTaskRunRequest(user_task_run_id=FORM, user_id="anna", results=results))


def sizes(world: World, wf_run_id: str = "r") -> dict[str, int]:
    """The bytes of the largest record of each kind that a WfRun has."""
    of_run: list[Kind[Any]] = [
        kinds.WF_RUN,
        kinds.NODE_RUN,
        kinds.VARIABLE,
        kinds.TASK_RUN,
        kinds.USER_TASK_RUN,
        kinds.INACTIVE_THREAD_RUN,
    ]
    return {
        kind.name: max((record.ByteSize() for record in world.of_run(kind, wf_run_id)), default=0) for kind in of_run
    }


def assert_bounded(world: World, wf_run_id: str = "r") -> None:
    too_large = {kind: size for kind, size in sizes(world, wf_run_id).items() if size > LIMIT}
    assert not too_large


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("go", "one", "two"):
        put_event_def(world, name)
    return world


@pytest.fixture
def small() -> World:
    """A world whose records are small."""
    world = World(Settings(record_bytes_max=LIMIT))
    put_event_def(world, "go")
    world.put_task_def("t", returns=VariableType.STR)
    world.put_task_def("takes", VariableType.STR, VariableType.STR)
    return world


class TestFanOut:
    @staticmethod
    def multiplies(world: World, items: int) -> None:
        """Each WfRun of wf starts as many again."""

        def body(wf: WorkflowThread) -> None:
            each = wf.declare_json_arr("each", list(range(items)))
            wf.spawn_thread_for_each(each, runs("wf"), "child")

        put(world, nothing)
        put(world, body)

    @pytest.mark.parametrize("items", [1, 2, 4])
    def test_child_wf_runs_that_multiply_end_with_an_internal_error(self, items: int) -> None:
        world = World(Settings(command_passes_max=64))
        self.multiplies(world, items)
        world.run("wf")
        assert wf_run(world).status == ERROR
        assert node(world, 1).failures[-1].failure_name in ("INTERNAL_ERROR", "CHILD_FAILURE")
        assert len(world.all_wf_runs) <= 64 + items * GENERATIONS_MAX

    def test_every_wf_run_of_the_family_has_ended(self) -> None:
        world = World(Settings(command_passes_max=64))
        self.multiplies(world, 2)
        world.run("wf")
        ended = [wf_run(world, str(key[1])).status for key in world.all_wf_runs]
        assert set(ended) <= {COMPLETED, ERROR}

    def test_next_command_has_its_own_passes(self) -> None:
        world = World(Settings(command_passes_max=64))
        self.multiplies(world, 2)
        world.run("wf")
        put(world, nothing, "other")
        assert world.run("other", "other").status == COMPLETED

    def test_family_within_the_bound_is_left_alone(self) -> None:
        world = World(Settings(command_passes_max=64))
        put(world, nothing, "leaf")

        def body(wf: WorkflowThread) -> None:
            each = wf.declare_json_arr("each", list(range(8)))
            wf.spawn_thread_for_each(each, runs("leaf"), "child")

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert len(world.child_wf_runs()) == 8


class TestJsonPath:
    """A path that descends in the midst of a descent takes a time that grows without bound with the document."""

    @pytest.mark.parametrize(
        "path",
        [
            "$..a..b",
            "$..*..*",
            "$..*..*..*..*",
            "$.a..b.c..d",
            "$..[?count(@..*) > 0]",
            "$..[?count($..*) > 0]",
            "$..[?count($..[?count($..*) > 0]) > 0]",
            "$[?count(@..[?count(@..*) > 0]) > 0]",
        ],
    )
    def test_two_descents_are_refused(self, world: World, path: str) -> None:
        def body(wf: WorkflowThread) -> None:
            found = wf.declare_json_arr("found")
            found.assign(wf.declare_json_obj("document"))

        def edit(spec: ThreadSpec) -> None:
            (edge,) = spec.nodes["0-entrypoint-ENTRYPOINT"].outgoing_edges
            edge.variable_mutations[0].rhs_assignment.json_path = path

        with refused(Code.INVALID_ARGUMENT):
            put_edited(world, body, edit)

    def test_two_descents_are_refused_in_a_condition(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            document = wf.declare_json_obj("document")
            wf.do_if(document.with_json_path("$..a..b").is_equal_to(1), nothing)

        with refused(Code.INVALID_ARGUMENT, "$..a..b"):
            put(world, body)

    @pytest.mark.parametrize(("path", "found"), [("$..b", [1, 2]), ("$.a..b", [1]), ("$..a.b", [1])])
    def test_one_descent_is_accepted(self, world: World, path: str, found: list[int]) -> None:
        def body(wf: WorkflowThread) -> None:
            result = wf.declare_json_arr("found")
            result.assign(wf.declare_json_obj("document", {"a": {"b": 1}, "c": {"b": 2}}).with_json_path(path))

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert sorted(python(world, "found")) == found


class TestFormatString:
    @staticmethod
    def formats(wf: WorkflowThread) -> None:
        pattern: Any = wf.declare_str("pattern")
        part = wf.declare_str("part")
        whole = wf.declare_str("whole")
        whole.assign(wf.format(pattern, part))

    def test_text_that_would_be_huge_is_a_var_sub_error(self, world: World) -> None:
        put(world, self.formats)
        world.run("wf", pattern="{0}" * 100_000, part=text(100_000))
        assert wf_run(world).status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"
        assert len(failure(world, 0).message) < 1000

    def test_text_larger_than_a_record_is_a_var_sub_error(self, small: World) -> None:
        put(small, self.formats)
        small.run("wf", pattern="{0}" * 3, part=text(LIMIT // 2))
        assert failure(small, 0).failure_name == "VAR_SUB_ERROR"
        assert_bounded(small)

    def test_text_that_fits_a_record_is_accepted(self, small: World) -> None:
        put(small, self.formats)
        assert small.run("wf", pattern="{0}-{0}", part=text(LIMIT // 3)).status == COMPLETED


class TestSizeOfTaskRuns:
    def test_inputs_that_are_together_too_large_are_a_var_sub_error(self, small: World) -> None:
        def body(wf: WorkflowThread) -> None:
            part = wf.declare_str("part")
            wf.execute("takes", part, part)

        put(small, body)
        small.run("wf", part=text(LIMIT * 2 // 3))
        assert failure(small, 1).failure_name == "VAR_SUB_ERROR"
        assert not small.queue
        assert_bounded(small)

    def test_report_that_no_longer_fits_is_an_output_serde_error(self, small: World) -> None:
        put(small, lambda wf: wf.execute("t", retries=9))
        small.run("wf")
        for _ in range(3):
            small.report(claim(small), TaskStatus.TASK_FAILED, log_output=VariableValue(str=text(LIMIT * 2 // 5)))
        task_run = small.task_run("0-1")
        assert task_run is not None
        assert task_run.status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert task_run.attempts[-1].error.type == LHErrorType.TASK_ERROR
        assert failure(small, 1).failure_name == "VAR_MUTATION_ERROR"
        assert_bounded(small)

    @pytest.mark.parametrize(
        ("status", "fields"),
        [
            (TaskStatus.TASK_SUCCESS, {"output": text(LIMIT - 50)}),
            (TaskStatus.TASK_EXCEPTION, {"exception": LHTaskException(name="x", message=text(LIMIT - 50))}),
            (
                TaskStatus.TASK_EXCEPTION,
                {"exception": LHTaskException(name="x", content=VariableValue(str=text(LIMIT - 50)))},
            ),
        ],
    )
    def test_result_that_would_fit_alone_does_not_make_the_record_too_large(
        self, small: World, status: TaskStatus, fields: dict[str, Any]
    ) -> None:
        put(small, runs_task)
        small.run("wf")
        small.report(claim(small), status, **fields)
        assert failure(small, 1).failure_name == "VAR_MUTATION_ERROR"
        assert_bounded(small)

    def test_long_message_of_a_failure_fits_its_node_run_and_its_thread_run(self, small: World) -> None:
        put(small, runs_task)
        small.run("wf")
        exception = LHTaskException(name="x", message=text(LIMIT * 2 // 3))
        small.report(claim(small), TaskStatus.TASK_EXCEPTION, exception=exception)
        assert failure(small, 1).failure_name == "x"
        assert_bounded(small)

    def test_long_messages_of_several_threads_fit_their_wf_run(self, small: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread_for_each(wf.declare_json_arr("each", [1, 2, 3, 4]), runs_task, "t")
            wf.wait_for_event("go")

        put(small, body)
        small.run("wf")
        for _ in range(4):
            exception = LHTaskException(name="x", message=text(LIMIT * 2 // 5))
            small.report(claim(small), TaskStatus.TASK_EXCEPTION, exception=exception)
        assert_bounded(small)


class TestSizeOfUserTaskRuns:
    def test_comment_that_does_not_fit_is_refused(self, small: World) -> None:
        put_form(small, "a")
        comment = PutUserTaskRunCommentRequest(user_task_run_id=FORM, user_id="anna", comment=text(LIMIT * 2 // 5))
        for _ in range(2):
            small.submit(comment)
        with refused(Code.RESOURCE_EXHAUSTED, "bytes"):
            small.submit(comment)
        assert [event for event in form(small).events if event.HasField("comment_added")][2:] == []
        assert_bounded(small)

    def test_progress_that_does_not_fit_is_refused(self, small: World) -> None:
        put_form(small, "a")
        with refused(Code.RESOURCE_EXHAUSTED):
            save(small, a=VariableValue(str=text(LIMIT * 2 // 3)))
        assert not form(small).results

    def test_results_that_do_not_fit_are_refused_and_others_are_taken(self, small: World) -> None:
        put_form(small, "a", "b")
        part = VariableValue(str=text(LIMIT * 2 // 3))
        with refused(Code.RESOURCE_EXHAUSTED):
            complete(small, a=part, b=part)
        complete(small, a=part, b=VariableValue(str="b"))
        assert wf_run(small).status == COMPLETED
        assert_bounded(small)


class TestSizeOfWfRuns:
    @pytest.fixture
    def outputs(self, small: World) -> World:
        """The WfRun r, whose three child threads return a text each when go comes."""

        def body(wf: WorkflowThread) -> None:
            part = wf.declare_str("part")

            def child(wf: WorkflowThread) -> None:
                wf.wait_for_event("go")
                wf.complete(part)

            wf.spawn_thread_for_each(wf.declare_json_arr("each", [1, 2, 3]), child, "child")

        put(small, body)
        small.run("wf", part=text(LIMIT * 2 // 5))
        return small

    def test_outputs_that_are_together_too_large_are_a_var_error(self, outputs: World) -> None:
        for _ in range(3):
            outputs.post("go")
        assert [one.status for one in wf_run(outputs).thread_runs] == [ERROR, COMPLETED, COMPLETED, ERROR]
        assert failure(outputs, 2, number=3).failure_name == "VAR_ERROR"
        assert_bounded(outputs)

    def test_start_value_that_does_not_fit_is_refused(self, small: World) -> None:
        put(small, lambda wf: wf.declare_str("part"))
        with refused(Code.INVALID_ARGUMENT, "bytes"):
            small.run("wf", part=text(LIMIT + 1))
        assert small.wf_run() is None

    def test_inputs_of_a_child_wf_run_that_are_together_too_large_are_a_var_sub_error(self, small: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.declare_str("a")
            wf.declare_str("b")

        def body(wf: WorkflowThread) -> None:
            part = wf.declare_str("part")
            wf.run_wf("child", {"a": part, "b": part})

        put(small, child, "child")
        put(small, body)
        small.run("wf", part=text(LIMIT * 2 // 3))
        assert failure(small, 1).failure_name == "VAR_SUB_ERROR"
        assert small.child_wf_runs() == []
        assert_bounded(small)


class TestUserTaskResults:
    DEEP = VariableValue(json_arr="[" * 300 + "]" * 300)

    def test_result_that_nests_too_deep_is_refused(self, world: World) -> None:
        put_form(world, "a", kind=VariableType.JSON_ARR)
        with refused(Code.INVALID_ARGUMENT):
            complete(world, a=self.DEEP)
        with refused(Code.INVALID_ARGUMENT):
            save(world, a=self.DEEP)
        complete(world, a=VariableValue(json_arr="[1]"))
        assert python(world, "results") == {"a": [1]}

    def test_result_that_was_saved_and_is_no_json_is_refused_until_it_is_replaced(self, world: World) -> None:
        put_form(world, "a")
        answer = to_variable_value("yes")
        save(world, other=VariableValue(array=Array()))
        with refused(Code.INVALID_ARGUMENT):
            complete(world, a=answer)
        assert wf_run(world).status == RUNNING
        save(world, a=answer)
        complete(world, a=answer)
        assert python(world, "results") == {"a": "yes"}

    @pytest.mark.parametrize("broken", ["{", "[1]", "", '{"a": NaN}'])
    def test_saved_text_that_is_no_json_is_refused(self, world: World, broken: str) -> None:
        put_form(world, "a", kind=VariableType.JSON_OBJ)
        with refused(Code.INVALID_ARGUMENT):
            save(world, a=VariableValue(json_obj=broken))

    def test_keys_of_the_output_are_in_one_order(self, world: World) -> None:
        names = ["gamma", "alpha", "eps", "delta", "beta"]
        put_form(world, *names)
        complete(world, **{name: to_variable_value(name) for name in names})
        assert world.variable("results").json_obj == (
            '{"alpha":"alpha","beta":"beta","delta":"delta","eps":"eps","gamma":"gamma"}'
        )


class Stored(Memory):
    """A memory that keeps what was committed elsewhere, and forgets records that are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[Kind[Any], dict[Key, Any]] = {}

    def take_pending(self) -> tuple[dict[LaneId, None], dict[Kind[Any], dict[Key, Any]]]:
        cleared, writes = super().take_pending()
        for lane in cleared:
            for kind, rows in self.rows.items():
                for key in [key for key in rows if kind.lane_of(key) == lane]:
                    del rows[key]
        for kind, records in writes.items():
            if not kind.write_only:
                self.rows.setdefault(kind, {}).update(records)
        self.committed(1000)
        return cleared, writes

    def load(self, missing: NotLoaded) -> None:
        """Read from the store what a command lacks."""
        for lane in missing.lanes:
            found = [
                (kind, key, value)
                for kind, rows in self.rows.items()
                for key, value in rows.items()
                if kind.lane_of(key) == lane and value is not None and (kind.is_open is None or kind.is_open(value))
            ]
            self.fill(lane, found)
        for kind, key in missing.points:
            self.fill_point(kind, key, self.rows.get(kind, {}).get(key))


class EvictingWorld(World):
    """A world that forgets closed records after each command; ``loads`` says how often the last command waited."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.memory = self.stored = Stored()
        self.loads = 0

    def submit(self, request: Any, *, command_ms: int | None = None) -> Any:
        time = CommandTime(self.now_ms if command_ms is None else command_ms, self.now_ms)
        first_id = next(self._commands) << 64
        for loads in range(1000):
            ids = itertools.count(first_id)
            tx = Transaction(self.memory, time, lambda ids=ids: f"{next(ids):032x}", self.settings)  # type: ignore[misc]
            try:
                reply = decide(tx, Command(TENANT, request))
            except NotLoaded as missing:
                self.stored.load(missing)
                continue
            self.memory.apply(tx)
            self._take_effects()
            for follow_up in tx.follow_ups:
                self.submit(follow_up, command_ms=command_ms)
            self.loads = loads
            return reply
        raise AssertionError("the command loads for ever")

    def find(self, kind: Kind[Any], *key: Any) -> Any:
        return self.stored.rows.get(kind, {}).get((TENANT, *key))


class TestLoads:
    """A command over many records that are not in memory asks for them together."""

    @staticmethod
    def family(last: Body, handler: Body | None = None) -> EvictingWorld:
        """The WfRun r starts 40 threads, which are archived, and a last one, and then waits for all of them."""
        world = EvictingWorld(Settings(threads_max=17))
        for name in ("go", "next", "poke"):
            put_event_def(world, name)

        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("poke", nothing)
            wf.declare_json_arr("numbers")
            rounds, each = wf.declare_int("rounds", 0), wf.declare_json_arr("each", list(range(8)))

            def start_eight(wf: WorkflowThread) -> None:
                wf.wait_for_event("next")
                wf.spawn_thread_for_each(each, nothing, "leaf")
                rounds.assign(rounds.add(1))

            wf.do_while(rounds.is_less_than(5), start_eight)
            wf.wait_for_event("next")
            waiting = wf.wait_for_threads(SpawnedThreads.from_list(wf.spawn_thread(last, "last")))
            if handler is not None:
                wf.handle_any_failure(waiting, handler)

        request = compiled(body)
        (waiting,) = (one for one in entry(request).nodes.values() if one.HasField("wait_for_threads"))
        waiting.wait_for_threads.thread_list.variable_name = "numbers"
        world.submit(request)
        world.run("wf", numbers=list(range(1, 42)))
        for _ in range(5):
            world.post("next")
        assert wf_run(world).greatest_threadrun_number == 40
        assert len(wf_run(world).thread_runs) <= 17
        return world

    def test_archived_threads_are_loaded_at_once_by_the_node_that_waits_for_them(self) -> None:
        world = self.family(nothing)
        world.post("next")
        assert wf_run(world).status == COMPLETED
        assert world.loads <= 3

    def test_archived_threads_are_not_loaded_again_by_a_node_that_goes_on_waiting(self) -> None:
        world = self.family(waits("go"))
        world.post("next")
        assert world.loads <= 3
        world.post("poke")
        assert world.loads <= 3
        world.post("go")
        assert world.loads <= 3
        assert wf_run(world).status == COMPLETED

    def test_archived_threads_are_loaded_at_once_where_the_failure_of_another_has_been_handled(self) -> None:
        world = self.family(lambda wf: wf.fail("boom", "over"), waits("go"))
        world.post("next")
        assert world.loads <= 3
        world.post("go")
        assert wf_run(world).status == COMPLETED
        assert world.loads <= 3

    @pytest.mark.parametrize("children", [1, 30])
    def test_fresh_child_wf_run_needs_no_load(self, children: int) -> None:
        world = EvictingWorld()
        put(world, nothing, "child")

        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def loop(wf: WorkflowThread) -> None:
                wf.run_wf("child")
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(children), loop)

        put(world, body)
        world.run("wf")
        assert wf_run(world).status == COMPLETED
        assert len(world.all_wf_runs) == children + 1
        assert world.loads <= 1

    def test_child_wf_run_that_was_started_fresh_is_stored_and_found(self) -> None:
        world = EvictingWorld()
        put_event_def(world, "go")
        put(world, lambda wf: (wf.wait_for_event("go"), wf.wait_for_event("go")), "child")
        put(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        world.run("wf")
        (child,) = world.child_wf_runs()
        world.submit(DeleteWfRunRequest(id=wf_run(world, child).id))
        assert world.wf_run(child) is None
        assert wf_run(world).status == ERROR

    def test_marker_goes_with_a_wf_run_whose_node_runs_are_not_in_memory(self) -> None:
        world = EvictingWorld()
        put_event_def(world, "stop-me")
        put_event_def(world, "paid", correlated=CorrelatedEventConfig(delete_after_first_correlation=True))

        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", takes(VariableType.INT))
            wf.wait_for_event("paid", correlation_id="k")

        put(world, body)
        world.run("wf")
        world.post("stop-me", "text")
        assert wf_run(world).status == ERROR
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert not correlate(world, "paid", "k").external_events
        assert stored_correlated(world, "paid", "k") is not None


class TestInput:
    """Each ThreadSpec may declare an INPUT of its own."""

    @staticmethod
    def counts(wf: WorkflowThread) -> None:
        given = wf.declare_int("INPUT")
        given.assign(given.add(1))

    def two(self, order: tuple[str, str]) -> Body:
        """An event ``one`` is counted by its handler, and ``two`` is read."""

        def body(wf: WorkflowThread) -> None:
            name = wf.declare_str("name")

            def reads(wf: WorkflowThread) -> None:
                name.assign(wf.declare_json_obj("INPUT").with_json_path("$.name"))

            for event in order:
                wf.add_interrupt_handler(event, self.counts if event == "one" else reads)
            wf.wait_for_event("go")

        return body

    @pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
    def test_each_has_its_own_type(self, world: World, order: tuple[str, str]) -> None:
        put(world, self.two(order))
        world.run("wf")
        world.post("one", 41)
        world.post("two", {"name": "Ann"})
        assert python(world, "INPUT", number=1) == 42
        assert python(world, "name") == "Ann"
        assert wf_run(world).status == RUNNING

    @pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
    def test_type_of_another_thread_is_no_excuse(self, world: World, order: tuple[str, str]) -> None:
        request = compiled(self.two(order))
        counted, read = (request.thread_specs[f"interrupt-{event}"] for event in ("one", "two"))
        read.variable_defs[0].var_def.type_def.CopyFrom(counted.variable_defs[0].var_def.type_def)
        counted.variable_defs[0].var_def.type_def.primitive_type = VariableType.JSON_OBJ
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    @staticmethod
    def with_public_input(kind: VariableType) -> PutWfSpecRequest:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("one", takes(kind))
            wf.wait_for_event("go")

        request = compiled(body)
        for thread_spec in request.thread_specs.values():
            for variable in thread_spec.variable_defs:
                variable.access_level = WfRunVariableAccessLevel.PUBLIC_VAR
        return request

    def test_it_is_not_frozen(self, world: World) -> None:
        first = world.submit(self.with_public_input(VariableType.INT))
        assert not first.frozen_variables
        second = world.submit(self.with_public_input(VariableType.STR))
        assert not second.frozen_variables
        assert first.id != second.id

    def test_wf_spec_with_two_types_of_it_can_be_put_twice(self, world: World) -> None:
        request = compiled(self.two(("one", "two")))
        for thread_spec in request.thread_specs.values():
            for variable in thread_spec.variable_defs:
                variable.access_level = WfRunVariableAccessLevel.PUBLIC_VAR
        assert world.submit(request).id == world.submit(request).id

    def test_wf_spec_that_is_put_twice_is_one_version(self, world: World) -> None:
        for order in (("one", "two"), ("one", "two")):
            spec = put(world, self.two(order))
            assert (spec.id.major_version, spec.id.revision) == (0, 0)


class TestLhPath:
    @staticmethod
    def follows(*selectors: str | int) -> PutWfSpecRequest:
        """The variable found takes what stands at the path in the variable document."""

        def body(wf: WorkflowThread) -> None:
            found = wf.declare_json_obj("found")
            found.assign(wf.declare_json_obj("document"))

        request = compiled(body)
        entry(request).variable_defs[0].var_def.type_def.primitive_type = VariableType.STR
        (edge,) = (one for one in entry(request).nodes["0-entrypoint-ENTRYPOINT"].outgoing_edges)
        for selector in selectors:
            one = LHPath.Selector(key=selector) if isinstance(selector, str) else LHPath.Selector(index=selector)
            edge.variable_mutations[0].rhs_assignment.lh_path.path.append(one)
        return request

    @pytest.mark.parametrize(
        ("selectors", "found"),
        [
            (("text", 0), None),
            (("text", -1), None),
            (("text", "0"), None),
            (("text", 0, 0), None),
            (("inner", 0), None),
            (("list", "0"), None),
            (("list", 5), None),
            (("list", -5), None),
            (("list", 0), "first"),
            (("text",), "xyz"),
        ],
    )
    def test_index_into_text_is_null_as_is_all_that_is_missing(
        self, world: World, selectors: tuple[str | int, ...], found: str | None
    ) -> None:
        world.submit(self.follows(*selectors))
        world.run("wf", document={"text": "xyz", "inner": {"0": "no"}, "list": ["first", "last"]})
        assert wf_run(world).status == COMPLETED
        assert python(world, "found") == found
