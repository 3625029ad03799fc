"""PutWfSpec: api.md section 5."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from littlehorse.model import (
    AllowedUpdateType,
    Comparator,
    Edge,
    EntrypointNode,
    ExitNode,
    ExponentialBackoffRetryPolicy,
    ExternalEventNode,
    FailureDef,
    LegacyEdgeCondition,
    Node,
    NopNode,
    PutWfSpecRequest,
    SleepNode,
    ThreadSpec,
    ThreadVarDef,
    TypeDefinition,
    VariableAssignment,
    VariableDef,
    VariableMutation,
    VariableMutationType,
    VariableType,
    VariableValue,
    WfRunVariableAccessLevel,
    WfSpec,
    WorkflowRetentionPolicy,
)
from littlehorse.workflow import CastExpression, LHExpression, Workflow, WorkflowThread, to_variable_assignment

from lhd.core import kinds
from lhd.core.records import NotLoaded
from lhd.errors import Code, Rejection
from tests.core.shapes import (
    Body,
    compiled,
    entry,
    literal,
    nothing,
    of_type,
    output_of,
    put,
    put_edited,
    put_event_def,
    refused,
    variable,
    version,
)
from tests.core.world import TENANT, World

Edit = Callable[[ThreadSpec], Any]

INT, DOUBLE, STR, BOOL, BYTES = (
    VariableType.INT,
    VariableType.DOUBLE,
    VariableType.STR,
    VariableType.BOOL,
    VariableType.BYTES,
)
JSON_OBJ, JSON_ARR, TIMESTAMP, WF_RUN_ID = (
    VariableType.JSON_OBJ,
    VariableType.JSON_ARR,
    VariableType.TIMESTAMP,
    VariableType.WF_RUN_ID,
)
EVERY_TYPE = (INT, DOUBLE, STR, BOOL, BYTES, JSON_OBJ, JSON_ARR, TIMESTAMP, WF_RUN_ID)
COMPARATORS = list(Comparator.DESCRIPTOR.values_by_name)
ORDERED = {INT, DOUBLE, STR, BOOL, TIMESTAMP}
M = VariableMutationType


def declare(name: str, kind: VariableType) -> ThreadVarDef:
    return ThreadVarDef(
        var_def=VariableDef(name=name, type_def=TypeDefinition(primitive_type=kind)),
        access_level=WfRunVariableAccessLevel.PRIVATE_VAR,
    )


def stored_versions(world: World) -> set[tuple[int, int]]:
    try:
        return {(int(key[2]), int(key[3])) for key in world.memory.scan(kinds.WF_SPEC, (TENANT, "wf"))}
    except NotLoaded:
        return set()


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    put_event_def(world, "counted", of_type(INT))
    world.put_task_def("t")
    world.put_task_def("takes-int", INT)
    world.put_task_def("gives-str", returns=STR)
    return world


def refuse(world: World, body: Body, *fragments: str, edit: Edit = lambda _: None) -> None:
    """The workflow is refused with INVALID_ARGUMENT, and nothing of it is stored."""
    with refused(Code.INVALID_ARGUMENT, *fragments):
        put_edited(world, body, edit)
    assert not stored_versions(world)


class TestNames:
    """api.md 3.1 and 5.1."""

    @pytest.mark.parametrize("name", ["a", "A", "7", "my-wf", "0-a", "My-Wf-2", "a--b"])
    def test_good_name(self, world: World, name: str) -> None:
        assert put(world, nothing, name).id.name == name

    @pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a_b", "a.b", "a/b", "ä", "a\n", "-"])
    def test_bad_name(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put(world, nothing, name)

    def test_entrypoint_thread_must_exist(self, world: World) -> None:
        request = compiled(nothing)
        request.entrypoint_thread_name = "other"
        with refused(Code.INVALID_ARGUMENT, "other"):
            world.submit(request)

    def test_entrypoint_thread_must_be_named(self, world: World) -> None:
        request = compiled(nothing)
        request.entrypoint_thread_name = ""
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    def test_no_threads_at_all(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(PutWfSpecRequest(name="wf", entrypoint_thread_name="entrypoint"))


class TestParent:
    """api.md 5.1, 5.2."""

    def test_parent_wf_spec_that_does_not_exist_is_refused(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.put_workflow(Workflow("wf", nothing, parent_wf="parent"))

    def test_inherited_variable_without_a_parent_is_refused(self, world: World) -> None:
        refuse(world, lambda wf: wf.declare_int("v").as_inherited())


class TestVariables:
    """api.md 5.2."""

    @pytest.mark.parametrize("kind", EVERY_TYPE, ids=VariableType.Name)
    def test_every_primitive_can_be_declared(self, world: World, kind: VariableType) -> None:
        spec = put(world, lambda wf: wf.add_variable("v", kind))
        assert spec.thread_specs["entrypoint"].variable_defs[0].var_def.type_def.primitive_type == kind

    def test_name_declared_twice(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.declare_int("v"),
            "v",
            edit=lambda spec: spec.variable_defs.append(declare("v", INT)),
        )

    def test_undeclared_variable_in_a_mutation(self, world: World) -> None:
        mutation = VariableMutation(lhs_name="ghost", operation=M.ASSIGN, rhs_assignment=literal(1))
        refuse(world, nothing, "ghost", edit=lambda spec: first_edge(spec).variable_mutations.append(mutation))

    def test_undeclared_variable_on_the_right_of_a_mutation(self, world: World) -> None:
        mutation = VariableMutation(lhs_name="v", operation=M.ASSIGN, rhs_assignment=variable("ghost"))
        refuse(
            world,
            lambda wf: wf.declare_int("v"),
            "ghost",
            edit=lambda spec: first_edge(spec).variable_mutations.append(mutation),
        )

    def test_undeclared_variable_in_a_condition(self, world: World) -> None:
        refuse(world, nothing, "ghost", edit=lambda spec: first_edge(spec).condition.CopyFrom(variable("ghost")))

    def test_undeclared_variable_deep_in_an_expression(self, world: World) -> None:
        inner = VariableAssignment.Expression(lhs=variable("ghost"), mutation_type=M.ADD, rhs=literal(1))
        outer = VariableAssignment.Expression(
            lhs=VariableAssignment(expression=inner), comparator=Comparator.EQUALS, rhs=literal(1)
        )
        condition = VariableAssignment(expression=outer)
        refuse(world, nothing, "ghost", edit=lambda spec: first_edge(spec).condition.CopyFrom(condition))

    def test_undeclared_variable_in_a_format_string(self, world: World) -> None:
        text = VariableAssignment.FormatString(format=literal("{0}"), args=[variable("ghost")])
        refuse(
            world,
            lambda wf: wf.complete("x"),
            "ghost",
            edit=lambda spec: spec.nodes["1-complete-EXIT"].exit.return_content.format_string.CopyFrom(text),
        )

    @pytest.mark.parametrize("field", ["timeout_seconds", "correlation_key"])
    def test_undeclared_variable_in_an_external_event_node(self, world: World, field: str) -> None:
        def edit(spec: ThreadSpec) -> None:
            getattr(spec.nodes["1-paid-EXTERNAL_EVENT"].external_event, field).CopyFrom(variable("ghost"))

        refuse(world, lambda wf: wf.wait_for_event("paid"), "ghost", edit=edit)

    def test_undeclared_variable_as_task_input(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.execute("takes-int", 1),
            "ghost",
            edit=lambda spec: spec.nodes["1-takes-int-TASK"].task.variables[0].CopyFrom(variable("ghost")),
        )

    def test_undeclared_variable_as_sleep_length(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.sleep(1),
            "ghost",
            edit=lambda spec: spec.nodes["1-sleep-SLEEP"].sleep.raw_seconds.CopyFrom(variable("ghost")),
        )

    def test_undeclared_variable_as_dynamic_task(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.execute(wf.declare_str("task")),
            edit=lambda spec: spec.ClearField("variable_defs"),
        )

    def test_empty_type_definition_means_json_obj(self, world: World) -> None:
        declared = ThreadVarDef(var_def=VariableDef(name="v", type_def=TypeDefinition()))
        spec = put_edited(world, nothing, lambda spec: spec.variable_defs.append(declared))
        type_def = spec.thread_specs["entrypoint"].variable_defs[0].var_def.type_def
        assert type_def.WhichOneof("defined_type") == "primitive_type"
        assert type_def.primitive_type == JSON_OBJ

    def test_old_form_of_a_type_is_returned_as_type_def(self, world: World) -> None:
        declared = ThreadVarDef(var_def=VariableDef(name="v", type=VariableType.STR, masked_value=True))
        spec = put_edited(world, nothing, lambda spec: spec.variable_defs.append(declared))
        var_def = spec.thread_specs["entrypoint"].variable_defs[0].var_def
        assert var_def.type_def == TypeDefinition(primitive_type=STR, masked=True)
        assert not var_def.HasField("type")
        assert not var_def.HasField("masked_value")


def first_edge(spec: ThreadSpec) -> Edge:
    """The edge that leaves ENTRYPOINT."""
    return spec.nodes["0-entrypoint-ENTRYPOINT"].outgoing_edges[0]


class TestThreads:
    """api.md 5.3."""

    def test_no_entrypoint_node(self, world: World) -> None:
        refuse(world, nothing, edit=lambda spec: spec.nodes["0-entrypoint-ENTRYPOINT"].nop.CopyFrom(NopNode()))

    def test_two_entrypoint_nodes(self, world: World) -> None:
        second = Node(entrypoint=EntrypointNode(), outgoing_edges=[Edge(sink_node_name="1-exit-EXIT")])
        refuse(world, nothing, edit=lambda spec: spec.nodes["second"].CopyFrom(second))

    def test_node_without_kind(self, world: World) -> None:
        refuse(world, nothing, "hollow", edit=lambda spec: spec.nodes["hollow"].CopyFrom(Node()))

    def test_exits_that_agree(self, world: World) -> None:
        put(world, exits(1, 2))

    def test_exits_of_different_types(self, world: World) -> None:
        refuse(world, exits(1, "text"), "returned different output types")

    def test_void_and_typed_exits(self, world: World) -> None:
        refuse(world, exits(1, None), "returns void", "returns non-void")

    def test_exit_with_failure_need_not_agree(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.do_if(wf.declare_bool("b").is_equal_to(True), lambda wf: wf.fail("bad-luck", "m"))
            wf.complete(1)

        put(world, body)


def exits(first: Any, second: Any) -> Body:
    """A thread with two EXIT nodes."""

    def body(wf: WorkflowThread) -> None:
        wf.do_if(wf.declare_bool("b").is_equal_to(True), lambda wf: wf.complete(first))
        wf.complete(second)

    return body


class TestEdges:
    """api.md 5.4."""

    def test_sink_must_exist(self, world: World) -> None:
        refuse(world, nothing, "nowhere", edit=lambda spec: retarget(spec, "nowhere"))

    def test_sink_must_not_be_the_source(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.execute("t"),
            edit=lambda spec: spec.nodes["1-t-TASK"].outgoing_edges.add(sink_node_name="1-t-TASK"),
        )

    def test_sink_must_not_be_the_entrypoint(self, world: World) -> None:
        refuse(
            world,
            lambda wf: wf.execute("t"),
            edit=lambda spec: spec.nodes["1-t-TASK"].outgoing_edges.add(sink_node_name="0-entrypoint-ENTRYPOINT"),
        )

    @pytest.mark.parametrize("value", [True, None])
    def test_literal_condition_that_can_be_bool(self, world: World, value: Any) -> None:
        put_edited(world, nothing, lambda spec: first_edge(spec).condition.CopyFrom(literal(value)))

    @pytest.mark.parametrize("value", [1, 1.5, "true", {"a": 1}, [1]])
    def test_literal_condition_that_is_no_bool(self, world: World, value: Any) -> None:
        refuse(world, nothing, edit=lambda spec: first_edge(spec).condition.CopyFrom(literal(value)))

    def test_bool_variable_as_condition(self, world: World) -> None:
        put_edited(
            world,
            lambda wf: wf.declare_bool("b"),
            lambda spec: first_edge(spec).condition.CopyFrom(variable("b")),
        )

    @pytest.mark.parametrize("kind", [kind for kind in EVERY_TYPE if kind != BOOL])
    def test_other_variable_as_condition(self, world: World, kind: VariableType) -> None:
        refuse(
            world,
            lambda wf: wf.add_variable("v", kind),
            edit=lambda spec: first_edge(spec).condition.CopyFrom(variable("v")),
        )

    def test_place_in_json_as_condition_is_not_known_and_accepted(self, world: World) -> None:
        condition = VariableAssignment(variable_name="o", json_path="$.flag")
        put_edited(
            world,
            lambda wf: wf.declare_json_obj("o"),
            lambda spec: first_edge(spec).condition.CopyFrom(condition),
        )

    def test_assignment_without_source(self, world: World) -> None:
        condition = VariableAssignment(target_type=TypeDefinition(primitive_type=BOOL))
        refuse(world, nothing, edit=lambda spec: first_edge(spec).condition.CopyFrom(condition))

    def test_output_of_a_node_that_is_not_there(self, world: World) -> None:
        refuse(
            world,
            nothing,
            "nowhere-node",
            edit=lambda spec: first_edge(spec).condition.CopyFrom(output_of("nowhere-node")),
        )

    def test_legacy_condition_is_accepted(self, world: World) -> None:
        legacy = LegacyEdgeCondition(left=literal(1), comparator=Comparator.LESS_THAN, right=literal(2))
        put_edited(world, nothing, lambda spec: first_edge(spec).legacy_condition.CopyFrom(legacy))

    def test_legacy_condition_is_checked_likewise(self, world: World) -> None:
        legacy = LegacyEdgeCondition(left=literal("x"), comparator=Comparator.LESS_THAN, right=literal([2]))
        refuse(world, nothing, edit=lambda spec: first_edge(spec).legacy_condition.CopyFrom(legacy))


def retarget(spec: ThreadSpec, sink: str) -> None:
    first_edge(spec).sink_node_name = sink


def comparison_is_allowed(comparator: str, left: VariableType, right: VariableType) -> bool:
    """The table of api.md 5.4, for known types."""
    if comparator in ("EQUALS", "NOT_EQUALS"):
        return left == right or {left, right} <= ORDERED
    if comparator in ("IN", "NOT_IN"):
        return right == JSON_ARR or (right == JSON_OBJ and left == STR)
    return right in ORDERED


@pytest.mark.parametrize("comparator", COMPARATORS)
@pytest.mark.parametrize("right", EVERY_TYPE)
@pytest.mark.parametrize("left", EVERY_TYPE)
def test_comparison_of_known_types(world: World, left: VariableType, comparator: str, right: VariableType) -> None:
    condition = VariableAssignment(
        expression=VariableAssignment.Expression(lhs=variable("l"), comparator=comparator, rhs=variable("r"))
    )

    def body(wf: WorkflowThread) -> None:
        wf.add_variable("l", left)
        wf.add_variable("r", right)

    def edit(spec: ThreadSpec) -> None:
        first_edge(spec).condition.CopyFrom(condition)

    if comparison_is_allowed(comparator, left, right):
        put_edited(world, body, edit)
    else:
        refuse(world, body, edit=edit)


@pytest.mark.parametrize("comparator", COMPARATORS)
@pytest.mark.parametrize("left", EVERY_TYPE)
def test_comparison_with_null_on_the_right_is_accepted(world: World, left: VariableType, comparator: str) -> None:
    expression = VariableAssignment.Expression(lhs=variable("l"), comparator=comparator, rhs=literal(None))
    put_edited(
        world,
        lambda wf: wf.add_variable("l", left),
        lambda spec: first_edge(spec).condition.CopyFrom(VariableAssignment(expression=expression)),
    )


class TestNodes:
    """api.md 5.5."""

    def test_task_def_must_exist(self, world: World) -> None:
        refuse(world, lambda wf: wf.execute("unknown-task"), "unknown-task")

    @pytest.mark.parametrize("arguments", [(), (1, 2)])
    def test_task_needs_exactly_its_number_of_inputs(self, world: World, arguments: tuple[int, ...]) -> None:
        refuse(world, lambda wf: wf.execute("takes-int", *arguments))

    @pytest.mark.parametrize(
        ("given", "expected"), [(STR, INT), (DOUBLE, INT), (BOOL, INT), (JSON_OBJ, STR), (TIMESTAMP, STR)]
    )
    def test_task_input_that_does_not_fit(self, world: World, given: VariableType, expected: VariableType) -> None:
        world.put_task_def("typed", expected)
        text = f"Cannot assign {VariableType.Name(given)} to {VariableType.Name(expected)} without explicit casting"
        refuse(world, lambda wf: wf.execute("typed", wf.add_variable("v", given)), text)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(INT, DOUBLE), (INT, STR), (DOUBLE, STR), (BOOL, STR), (BYTES, STR), (WF_RUN_ID, STR), (JSON_OBJ, JSON_OBJ)],
    )
    def test_task_input_that_fits(self, world: World, given: VariableType, expected: VariableType) -> None:
        world.put_task_def("typed", expected)
        put(world, lambda wf: wf.execute("typed", wf.add_variable("v", given)))

    def test_task_input_null(self, world: World) -> None:
        put(world, lambda wf: wf.execute("takes-int", None))

    def test_task_input_with_a_cast(self, world: World) -> None:
        put(world, lambda wf: wf.execute("takes-int", wf.declare_str("v").cast_to_int()))

    def test_task_input_with_a_cast_to_another_type(self, world: World) -> None:
        refuse(world, lambda wf: wf.execute("takes-int", wf.declare_str("v").cast_to_double()))

    def test_task_input_behind_a_path_is_accepted(self, world: World) -> None:
        put(world, lambda wf: wf.execute("takes-int", wf.declare_json_obj("o").with_json_path("$.x")))

    def test_output_of_a_typed_task_is_known(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("takes-int", wf.execute("gives-str"))

        refuse(world, body, "Cannot assign STR to INT without explicit casting")

    def test_output_of_a_typed_event_is_known(self, world: World) -> None:
        world.put_task_def("takes-bool", BOOL)
        put(world, lambda wf: wf.execute("takes-int", wf.wait_for_event("counted")))
        with refused(Code.INVALID_ARGUMENT, "Cannot assign INT to BOOL without explicit casting"):
            put(world, lambda wf: wf.execute("takes-bool", wf.wait_for_event("counted")), "other")

    def test_output_of_an_untyped_event_is_accepted(self, world: World) -> None:
        put(world, lambda wf: wf.execute("takes-int", wf.wait_for_event("paid")))

    @pytest.mark.parametrize(
        ("given", "target"),
        [
            (STR, TIMESTAMP),
            (INT, BOOL),
            (BOOL, INT),
            (BYTES, INT),
            (JSON_OBJ, STR),
            (TIMESTAMP, STR),
            (WF_RUN_ID, INT),
            (DOUBLE, BOOL),
            (JSON_ARR, JSON_OBJ),
        ],
    )
    def test_impossible_cast(self, world: World, given: VariableType, target: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("typed", CastExpression(wf.add_variable("v", given), target))

        world.put_task_def("typed", target)
        refuse(world, body)

    @pytest.mark.parametrize(
        ("given", "target"),
        [(kind, STR) for kind in (STR, INT, DOUBLE, BOOL, BYTES, WF_RUN_ID)]
        + [(STR, kind) for kind in (INT, DOUBLE, BOOL, BYTES, WF_RUN_ID)]
        + [(INT, DOUBLE), (DOUBLE, INT)]
        + [(kind, kind) for kind in EVERY_TYPE],
    )
    def test_possible_cast(self, world: World, given: VariableType, target: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.execute("typed", CastExpression(wf.add_variable("v", given), target))

        world.put_task_def("typed", target)
        put(world, body)

    def test_negative_retries(self, world: World) -> None:
        refuse(world, lambda wf: wf.execute("t", retries=-1))

    @pytest.mark.parametrize(
        ("base", "multiplier", "limit"),
        [(0, 2.0, 1000), (-1, 2.0, 1000), (1000, 0.99, 2000), (1000, 2.0, 999), (1000, -1.0, 2000)],
    )
    def test_bad_backoff(self, world: World, base: int, multiplier: float, limit: int) -> None:
        backoff = ExponentialBackoffRetryPolicy(base_interval_ms=base, multiplier=multiplier, max_delay_ms=limit)
        refuse(world, lambda wf: wf.execute("t", retries=1, exponential_backoff=backoff))

    def test_largest_number_of_retries_is_refused_or_runs(self, world: World) -> None:
        with suppress(Rejection):
            put(world, lambda wf: wf.execute("t", retries=2**31 - 1))
            world.run("wf")

    def test_least_backoff(self, world: World) -> None:
        backoff = ExponentialBackoffRetryPolicy(base_interval_ms=1, multiplier=1.0, max_delay_ms=1)
        put(world, lambda wf: wf.execute("t", retries=1, exponential_backoff=backoff))

    def test_dynamic_task_is_not_checked(self, world: World) -> None:
        put(world, lambda wf: wf.execute(wf.declare_str("task"), 1, "two", 3.0))

    def test_task_timeout_zero_is_stored_as_sixty(self, world: World) -> None:
        spec = put(world, lambda wf: wf.execute("t"))
        assert spec.thread_specs["entrypoint"].nodes["1-t-TASK"].task.timeout_seconds == 60

    def test_external_event_def_must_exist(self, world: World) -> None:
        refuse(world, lambda wf: wf.wait_for_event("unknown-event"), "unknown-event")

    def test_external_event_timeout_is_not_checked(self, world: World) -> None:
        put_edited(
            world,
            lambda wf: wf.wait_for_event("paid"),
            lambda spec: spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.timeout_seconds.CopyFrom(literal("soon")),
        )

    @pytest.mark.parametrize(
        ("field", "kind", "accepted"),
        [
            ("raw_seconds", INT, True),
            ("raw_seconds", DOUBLE, False),
            ("raw_seconds", STR, False),
            ("timestamp", INT, True),
            ("timestamp", TIMESTAMP, True),
            ("timestamp", STR, False),
            ("timestamp", DOUBLE, False),
            ("iso_date", STR, True),
            ("iso_date", TIMESTAMP, False),
            ("iso_date", JSON_OBJ, False),
        ],
    )
    def test_sleep_length(self, world: World, field: str, kind: VariableType, accepted: bool) -> None:
        def edit(spec: ThreadSpec) -> None:
            sleep = spec.nodes["1-sleep-SLEEP"].sleep
            sleep.Clear()
            getattr(sleep, field).CopyFrom(variable("v"))

        def body(wf: WorkflowThread) -> None:
            wf.add_variable("v", kind)
            wf.sleep(1)

        if accepted:
            put_edited(world, body, edit)
        else:
            refuse(world, body, edit=edit)

    def test_sleep_without_length(self, world: World) -> None:
        refuse(world, lambda wf: wf.sleep(1), edit=lambda spec: spec.nodes["1-sleep-SLEEP"].sleep.CopyFrom(SleepNode()))

    @pytest.mark.parametrize("name", ["out-of-stock", "x", "Timeout"])
    def test_exit_failure_name(self, world: World, name: str) -> None:
        put(world, lambda wf: wf.fail(name, "m"))

    @pytest.mark.parametrize(
        "name",
        [
            "CHILD_FAILURE",
            "VAR_SUB_ERROR",
            "VAR_MUTATION_ERROR",
            "USER_TASK_CANCELLED",
            "TIMEOUT",
            "TASK_FAILURE",
            "VAR_ERROR",
            "TASK_ERROR",
            "INTERNAL_ERROR",
            "",
            "with_underscore",
            "with space",
            "-x",
        ],
    )
    def test_bad_exit_failure_name(self, world: World, name: str) -> None:
        refuse(world, lambda wf: wf.fail("good", "m"), edit=lambda spec: rename_failure(spec, name))

    @pytest.mark.parametrize("kind", [STR, JSON_ARR])
    def test_size_of_what_has_a_size(self, world: World, kind: VariableType) -> None:
        put_edited(world, sized(kind), take_size)

    @pytest.mark.parametrize("kind", [kind for kind in EVERY_TYPE if kind not in (STR, JSON_ARR)])
    def test_size_of_what_has_none(self, world: World, kind: VariableType) -> None:
        refuse(world, sized(kind), "size() only supports", "STR", "ARRAY", "JSON_ARR", edit=take_size)


def rename_failure(spec: ThreadSpec, name: str) -> None:
    spec.nodes["1-good-EXIT"].exit.failure_def.failure_name = name


def sized(kind: VariableType) -> Body:
    """A thread that returns something of a variable of this type."""

    def body(wf: WorkflowThread) -> None:
        wf.add_variable("v", kind)
        wf.complete(1)

    return body


def take_size(spec: ThreadSpec) -> None:
    size = VariableAssignment(size_of=VariableAssignment.SizeOf(operand=variable("v")))
    spec.nodes["1-complete-EXIT"].exit.return_content.CopyFrom(size)


NUMBERS = {INT, DOUBLE}
SCALARS = {STR, INT, DOUBLE, BOOL, BYTES, WF_RUN_ID, TIMESTAMP}
TEXT_LIKE = {STR, INT, DOUBLE, BOOL, BYTES, WF_RUN_ID}


def fits(given: VariableType, expected: VariableType) -> bool:
    """api.md 3.2, for primitives."""
    return given == expected or (given, expected) == (INT, DOUBLE) or (expected == STR and given in TEXT_LIKE)


CERTAIN_MUTATIONS: list[tuple[VariableMutationType, VariableType, VariableType, bool]] = [
    *((M.ASSIGN, left, right, fits(right, left)) for left in EVERY_TYPE for right in EVERY_TYPE),
    *((M.ADD, left, right, True) for left in NUMBERS for right in NUMBERS),
    *((M.ADD, left, right, False) for left in NUMBERS for right in (STR, BOOL, BYTES, JSON_OBJ, JSON_ARR)),
    *((M.ADD, STR, right, True) for right in (STR, INT, DOUBLE, BOOL)),
    *((M.ADD, JSON_ARR, right, True) for right in EVERY_TYPE),
    *((M.ADD, left, INT, False) for left in (BOOL, BYTES, JSON_OBJ, TIMESTAMP, WF_RUN_ID)),
    *(
        (operation, left, right, left in NUMBERS and right in NUMBERS)
        for operation in (M.SUBTRACT, M.MULTIPLY, M.DIVIDE)
        for left in EVERY_TYPE
        for right in (INT, DOUBLE, STR, JSON_OBJ)
    ),
    (M.POW, INT, INT, True),
    (M.POW, DOUBLE, INT, True),
    (M.POW, DOUBLE, DOUBLE, True),
    (M.POW, STR, INT, False),
    (M.EXTEND, STR, STR, True),
    (M.EXTEND, STR, INT, True),
    (M.EXTEND, JSON_ARR, JSON_ARR, True),
    (M.EXTEND, BYTES, BYTES, True),
    (M.EXTEND, JSON_ARR, INT, False),
    (M.EXTEND, INT, INT, False),
    (M.EXTEND, JSON_OBJ, JSON_OBJ, False),
    (M.REMOVE_IF_PRESENT, JSON_ARR, INT, True),
    (M.REMOVE_IF_PRESENT, JSON_ARR, STR, True),
    (M.REMOVE_IF_PRESENT, INT, INT, False),
    (M.REMOVE_INDEX, JSON_ARR, INT, True),
    (M.REMOVE_INDEX, JSON_ARR, STR, False),
    (M.REMOVE_INDEX, JSON_OBJ, INT, False),
    (M.REMOVE_KEY, JSON_OBJ, STR, True),
    (M.REMOVE_KEY, JSON_ARR, STR, False),
    (M.REMOVE_KEY, JSON_OBJ, JSON_OBJ, False),
    (M.AND, BOOL, BOOL, True),
    (M.OR, BOOL, BOOL, True),
    (M.AND, INT, BOOL, False),  # the result is BOOL, which does not fit INT
]


def mutation_id(row: tuple[VariableMutationType, VariableType, VariableType, bool]) -> str:
    operation, left, right, _ = row
    return f"{VariableType.Name(left)} {VariableMutationType.Name(operation)} {VariableType.Name(right)}"


@pytest.mark.parametrize("row", CERTAIN_MUTATIONS, ids=mutation_id)
def test_mutation_of_known_types(
    world: World, row: tuple[VariableMutationType, VariableType, VariableType, bool]
) -> None:
    """api.md 5.6."""
    operation, left, right, accepted = row

    def body(wf: WorkflowThread) -> None:
        target, source = wf.add_variable("l", left), wf.add_variable("r", right)
        wf.mutate(target, operation, source)

    if accepted:
        put(world, body)
    else:
        refuse(world, body)


class TestMutations:
    """api.md 5.6, beyond the table."""

    def test_misfit_is_told_with_both_types(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("l").assign(wf.declare_str("r"))

        refuse(world, body, "Cannot assign STR to INT without explicit casting")

    def test_multiplication_of_a_str_is_told(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.mutate(wf.declare_str("l"), M.MULTIPLY, 2)

        refuse(world, body, "cannot multiply to a str")

    def test_operation_that_this_server_does_not_know_is_refused(self, world: World) -> None:
        unknown = VariableMutation.FromString(VariableMutation(lhs_name="l").SerializeToString() + b"\x18\x63")
        assert unknown.operation == 99
        unknown.rhs_assignment.CopyFrom(literal(1))
        refuse(
            world,
            lambda wf: wf.declare_int("l"),
            edit=lambda spec: first_edge(spec).variable_mutations.append(unknown),
        )

    def test_cast_makes_an_assignment_possible(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("l").assign(wf.declare_str("r").cast_to_int())

        put(world, body)

    @pytest.mark.parametrize("kind", EVERY_TYPE, ids=VariableType.Name)
    def test_null_can_be_assigned_to_everything(self, world: World, kind: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_variable("l", kind).assign(None)

        put(world, body)

    def test_place_inside_json_is_not_checked(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("l").with_json_path("$.x").assign(wf.declare_str("r"))

        put(world, body)

    def test_expression_has_the_type_of_its_operation(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_str("l").assign(LHExpression(wf.declare_int("a"), M.ADD, 1))

        put(world, body)

        def wrong(wf: WorkflowThread) -> None:
            wf.declare_bool("l").assign(LHExpression(wf.declare_int("a"), M.ADD, 1))

        with refused(Code.INVALID_ARGUMENT):
            put(world, wrong, "other")

    def test_comparison_is_a_bool(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_bool("l").assign(wf.declare_int("a").is_less_than(3))

        put(world, body)

        def wrong(wf: WorkflowThread) -> None:
            wf.declare_int("l").assign(wf.declare_int("a").is_less_than(3))

        with refused(Code.INVALID_ARGUMENT):
            put(world, wrong, "other")

    def test_format_string_is_a_str(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("l").assign(wf.format("{0}", 1))

        refuse(world, body, "Cannot assign STR to INT without explicit casting")

    def test_old_literal_value_is_accepted_and_typed(self, world: World) -> None:
        good = VariableMutation(lhs_name="l", operation=M.ASSIGN, literal_value=VariableValue(int=1))
        put_edited(
            world,
            lambda wf: wf.declare_int("l"),
            lambda spec: first_edge(spec).variable_mutations.append(good),
        )
        bad = VariableMutation(lhs_name="l", operation=M.ASSIGN, literal_value=VariableValue(str="1"))
        with refused(Code.INVALID_ARGUMENT):
            put_edited(
                world,
                lambda wf: wf.declare_int("l"),
                lambda spec: first_edge(spec).variable_mutations.append(bad),
                "other",
            )

    def test_old_node_output_is_accepted_and_typed(self, world: World) -> None:
        source = VariableMutation.NodeOutputSource()
        mutation = VariableMutation(lhs_name="l", operation=M.ASSIGN, node_output=source)

        def edit(spec: ThreadSpec) -> None:
            spec.nodes["1-gives-str-TASK"].outgoing_edges[0].variable_mutations.append(mutation)

        def body(kind: VariableType) -> Body:
            def inner(wf: WorkflowThread) -> None:
                wf.add_variable("l", kind)
                wf.execute("gives-str")

            return inner

        put_edited(world, body(STR), edit)
        with refused(Code.INVALID_ARGUMENT):
            put_edited(world, body(INT), edit, "other")


def with_variables(*variables: Callable[[WorkflowThread], Any]) -> Body:
    def body(wf: WorkflowThread) -> None:
        for one in variables:
            one(wf)

    return body


def put_with(world: World, *variables: Callable[[WorkflowThread], Any], output: Any = None) -> tuple[int, int]:
    """Put version after version of one WfSpec; the reply's version."""

    def body(wf: WorkflowThread) -> None:
        with_variables(*variables)(wf)
        wf.complete(output)

    return version(put(world, body))


class TestVersions:
    """api.md 5.7."""

    def test_first_version_is_zero_zero(self, world: World) -> None:
        assert version(put(world, nothing)) == (0, 0)

    def test_same_spec_again_returns_the_stored_one(self, world: World) -> None:
        first = put(world, lambda wf: wf.execute("t"))
        world.now_ms += 1000
        again = put(world, lambda wf: wf.execute("t"))
        assert again == first
        assert stored_versions(world) == {(0, 0)}

    def test_pins_and_defaults_are_compared_after_filling_in(self, world: World) -> None:
        first = put(world, lambda wf: wf.execute("t", timeout_seconds=60))
        assert put(world, lambda wf: wf.execute("t")) == first

    def test_another_node_is_a_revision(self, world: World) -> None:
        put(world, nothing)
        assert version(put(world, lambda wf: wf.execute("t"))) == (0, 1)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, lambda wf: wf.declare_int("v")),
            (lambda wf: wf.declare_int("v"), None),
            (lambda wf: wf.declare_int("v"), lambda wf: wf.declare_str("v")),
            (lambda wf: wf.declare_int("v"), lambda wf: wf.declare_int("v", 3)),
            (lambda wf: wf.declare_int("v"), lambda wf: wf.declare_int("v").searchable()),
        ],
    )
    def test_change_of_an_optional_private_variable_is_a_revision(self, world: World, before: Any, after: Any) -> None:
        put_with(world, *filter(None, [before]))
        assert put_with(world, *filter(None, [after])) == (0, 1)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, lambda wf: wf.declare_int("v").as_public()),
            (lambda wf: wf.declare_int("v").as_public(), None),
            (lambda wf: wf.declare_int("v").as_public(), lambda wf: wf.declare_int("v").as_public().with_default(3)),
            (lambda wf: wf.declare_int("v").as_public(), lambda wf: wf.declare_int("v").as_public().searchable()),
            (lambda wf: wf.declare_int("v").as_public(), lambda wf: wf.declare_int("v")),
            (None, lambda wf: wf.declare_int("v").required()),
            (lambda wf: wf.declare_int("v").required(), None),
            (lambda wf: wf.declare_int("v").required(), lambda wf: wf.declare_int("v")),
            (lambda wf: wf.declare_int("v").required(), lambda wf: wf.declare_int("v").required().searchable()),
        ],
    )
    def test_change_of_a_public_or_required_variable_is_breaking(self, world: World, before: Any, after: Any) -> None:
        put_with(world, *filter(None, [before]))
        assert put_with(world, *filter(None, [after])) == (1, 0)

    def test_variable_without_access_level_is_public(self, world: World) -> None:
        bare = ThreadVarDef(var_def=VariableDef(name="v", type_def=TypeDefinition(primitive_type=INT)))
        put(world, nothing)
        assert version(put_edited(world, nothing, lambda spec: spec.variable_defs.append(bare))) == (1, 0)

    def test_order_of_public_variables_is_not_breaking(self, world: World) -> None:
        def a(wf: WorkflowThread) -> None:
            wf.declare_int("a").as_public()

        def b(wf: WorkflowThread) -> None:
            wf.declare_int("b").as_public()

        put_with(world, a, b)
        assert put_with(world, b, a) == (0, 1)

    @pytest.mark.parametrize(("before", "after"), [(None, 1), (1, None), (1, "text")])
    def test_change_of_the_output_type_is_breaking(self, world: World, before: Any, after: Any) -> None:
        put_with(world, output=before)
        assert put_with(world, output=after) == (1, 0)

    def test_change_of_the_output_value_is_a_revision(self, world: World) -> None:
        put_with(world, output=1)
        assert put_with(world, output=2) == (0, 1)

    def test_revision_starts_again_after_a_breaking_change(self, world: World) -> None:
        put_with(world, output=1)
        put_with(world, output=2)
        put_with(world, output="text")
        assert put_with(world, output="other text") == (1, 1)

    def test_only_the_latest_version_is_compared(self, world: World) -> None:
        put_with(world, output=1)
        put_with(world, output=2)
        assert put_with(world, output=1) == (0, 2)

    def test_retention_policy_is_part_of_the_spec(self, world: World) -> None:
        put(world, nothing)
        policy = WorkflowRetentionPolicy(seconds_after_wf_termination=5)
        spec = world.put_workflow(Workflow("wf", nothing).with_retention_policy(policy))
        assert version(spec) == (0, 1)
        assert spec.retention_policy == policy


def frozen(spec: WfSpec) -> set[str]:
    return {one.var_def.name for one in spec.frozen_variables}


class TestFrozenVariables:
    """api.md 5.7."""

    def test_required_and_public_variables_are_frozen(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("required").required()
            wf.declare_int("public").as_public()
            wf.declare_int("private")

        assert frozen(put(world, body)) == {"required", "public"}

    def test_frozen_variable_that_goes_stays_frozen(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("gone").as_public())
        put(world, nothing)
        spec = put(world, lambda wf: wf.execute("t"))
        assert frozen(spec) == {"gone"}

    def test_frozen_variable_that_becomes_private_is_frozen_no_more(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v").as_public())
        assert frozen(put(world, lambda wf: wf.declare_int("v"))) == set()

    @pytest.mark.parametrize("make", [lambda v: v.as_public(), lambda v: v.required()])
    def test_type_of_a_frozen_variable_cannot_change(self, world: World, make: Any) -> None:
        put(world, lambda wf: make(wf.declare_int("v")))
        for changed in (lambda wf: make(wf.declare_str("v")), lambda wf: wf.declare_str("v")):
            with refused(Code.INVALID_ARGUMENT, "v"):
                put(world, changed)

    def test_type_of_a_frozen_variable_cannot_change_after_it_was_gone(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v").as_public())
        put(world, nothing)
        with refused(Code.INVALID_ARGUMENT, "v"):
            put(world, lambda wf: wf.declare_str("v"))

    def test_mask_of_a_frozen_variable_cannot_change(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v").as_public())
        with refused(Code.INVALID_ARGUMENT, "v"):
            put(world, lambda wf: wf.declare_int("v").as_public().masked())

    def test_default_of_a_frozen_variable_can_change(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v").as_public())
        put(world, lambda wf: wf.declare_int("v").as_public().with_default(3))

    def test_frozen_type_is_told_whatever_updates_are_allowed(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v").as_public())
        for allowed in (
            AllowedUpdateType.ALL_UPDATES,
            AllowedUpdateType.MINOR_REVISION_UPDATES,
            AllowedUpdateType.NO_UPDATES,
        ):
            with refused(Code.INVALID_ARGUMENT):
                put_allowing(world, allowed, lambda wf: wf.declare_str("v").as_public())


def put_allowing(world: World, allowed: AllowedUpdateType, body: Body) -> WfSpec:
    return world.put_workflow(Workflow("wf", body).with_update_type(allowed))


class TestAllowedUpdates:
    """api.md 5.7."""

    @pytest.mark.parametrize("allowed", list(AllowedUpdateType.values()))
    def test_first_version_is_always_stored(self, world: World, allowed: AllowedUpdateType) -> None:
        assert version(put_allowing(world, allowed, nothing)) == (0, 0)

    @pytest.mark.parametrize("allowed", list(AllowedUpdateType.values()))
    def test_same_spec_is_always_accepted(self, world: World, allowed: AllowedUpdateType) -> None:
        put(world, nothing)
        assert version(put_allowing(world, allowed, nothing)) == (0, 0)

    def test_no_updates_refuses_a_revision(self, world: World) -> None:
        put(world, nothing)
        with refused(Code.ALREADY_EXISTS, "WfSpec already exists"):
            put_allowing(world, AllowedUpdateType.NO_UPDATES, lambda wf: wf.execute("t"))
        assert stored_versions(world) == {(0, 0)}

    def test_minor_updates_take_a_revision(self, world: World) -> None:
        put(world, nothing)
        spec = put_allowing(world, AllowedUpdateType.MINOR_REVISION_UPDATES, lambda wf: wf.execute("t"))
        assert version(spec) == (0, 1)

    def test_minor_updates_refuse_a_breaking_change(self, world: World) -> None:
        put(world, nothing)
        with refused(Code.FAILED_PRECONDITION, "wf", "has a breaking change"):
            put_allowing(world, AllowedUpdateType.MINOR_REVISION_UPDATES, lambda wf: wf.declare_int("v").as_public())
        assert stored_versions(world) == {(0, 0)}

    def test_mistakes_are_told_before_updates(self, world: World) -> None:
        put(world, nothing)
        with refused(Code.INVALID_ARGUMENT):
            put_allowing(world, AllowedUpdateType.NO_UPDATES, lambda wf: wf.execute("unknown-task"))


class TestResult:
    """api.md 5.8."""

    def test_result_is_the_stored_spec(self, world: World) -> None:
        spec = put(world, lambda wf: wf.execute("t"))
        assert spec.id.name == "wf"
        assert spec.created_at.ToMilliseconds() == world.now_ms
        assert set(spec.thread_specs) == {"entrypoint"}
        assert spec.entrypoint_thread_name == "entrypoint"
        assert not spec.HasField("migration")
        assert not spec.HasField("retention_policy")
        assert not spec.HasField("parent_wf_spec")

    def test_request_is_not_changed(self, world: World) -> None:
        request = compiled(lambda wf: wf.execute("t"))
        before = PutWfSpecRequest()
        before.CopyFrom(request)
        world.submit(request)
        assert request == before

    def test_offending_node_is_named(self, world: World) -> None:
        refuse(world, lambda wf: wf.execute("unknown-task"), "1-unknown-task-TASK")

    def test_refusal_of_a_later_version_leaves_the_earlier_one(self, world: World) -> None:
        put(world, nothing)
        with refused(Code.INVALID_ARGUMENT):
            put(world, lambda wf: wf.execute("unknown-task"))
        assert stored_versions(world) == {(0, 0)}
        world.run("wf")

    def test_missing_event_def_of_a_hand_made_node(self, world: World) -> None:
        def edit(spec: ThreadSpec) -> None:
            spec.nodes["1-paid-EXTERNAL_EVENT"].external_event.CopyFrom(ExternalEventNode())

        refuse(world, lambda wf: wf.wait_for_event("paid"), edit=edit)

    def test_exit_output_type_is_that_of_its_content(self, world: World) -> None:
        request = compiled(nothing)
        entry(request).nodes["1-exit-EXIT"].exit.CopyFrom(ExitNode(return_content=to_variable_assignment(5)))
        world.submit(request)
        assert version(put(world, nothing)) == (1, 0)

    def test_exit_failure_content_may_be_anything(self, world: World) -> None:
        failing = ExitNode(failure_def=FailureDef(failure_name="bad-luck", message="m", content=literal({"a": 1})))
        put_edited(world, nothing, lambda spec: spec.nodes["1-exit-EXIT"].exit.CopyFrom(failing))
