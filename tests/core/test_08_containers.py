"""Struct, Array and Map values in a run: execution.md section 8, api.md 3.2.

Not tested: masking in replies (of the API, not of the core), EXTEND of a STR by a container and of an Array by NULL,
IN for items of another kind, EQUALS of Structs of different StructDefs (the spec leaves these open).
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from littlehorse.model import (
    Array,
    Comparator,
    CorrelatedEvent,
    CorrelatedEventConfig,
    ExternalEvent,
    ExternalEventDefId,
    InlineStruct,
    InlineStructBuilder,
    InlineStructDef,
    InlineStructFieldValue,
    LHPath,
    Map,
    PutCorrelatedEventRequest,
    PutStructDefRequest,
    PutTaskDefRequest,
    ReturnType,
    RunWfRequest,
    Struct,
    StructBuilder,
    StructDefId,
    StructField,
    StructFieldDef,
    TaskStatus,
    ThreadSpec,
    ThreadVarDef,
    TypeDefinition,
    VariableAssignment,
    VariableDef,
    VariableMutation,
    VariableMutationType,
    VariableType,
    VariableValue,
    WfRun,
    WfRunVariableAccessLevel,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.errors import Code, Rejection
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    array_of,
    entry,
    failure,
    map_of,
    node,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    struct_of,
    variable,
    wf_run,
)
from tests.core.world import World

INT, DOUBLE, STR, BOOL, BYTES, JSON_OBJ, JSON_ARR, WF_RUN_ID = (
    TypeDefinition(primitive_type=kind)
    for kind in (
        VariableType.INT,
        VariableType.DOUBLE,
        VariableType.STR,
        VariableType.BOOL,
        VariableType.BYTES,
        VariableType.JSON_OBJ,
        VariableType.JSON_ARR,
        VariableType.WF_RUN_ID,
    )
)
M = VariableMutationType
C = Comparator
NULL = VariableValue()
SOURCE = "1-in-EXTERNAL_EVENT"


# Types.


INTS, STRS, DOUBLES = array_of(INT), array_of(STR), array_of(DOUBLE)
COUNTS = map_of(STR, INT)
PERSON, ADDRESS = struct_of("person"), struct_of("address")


# Values.


def val(value: Any) -> VariableValue:
    return value if isinstance(value, VariableValue) else to_variable_value(value)


def array(*items: Any, of: TypeDefinition | None = None) -> VariableValue:
    """An Array; untyped without ``of``."""
    return VariableValue(array=Array(items=[val(item) for item in items], element_type=of))


def mapping(entries: dict[Any, Any], of: TypeDefinition | None = None) -> VariableValue:
    """A Map; untyped without ``of``."""
    pairs = [Map.Entry(key=val(key), value=val(value)) for key, value in entries.items()]
    return VariableValue(map=Map(entries=pairs, map_type=None if of is None else of.inline_map_def))


def struct(struct_name: str, struct_version: int = 0, **fields: Any) -> VariableValue:
    inline = InlineStruct(fields={name: StructField(value=val(value)) for name, value in fields.items()})
    return VariableValue(
        struct=Struct(struct_def_id=StructDefId(name=struct_name, version=struct_version), struct=inline)
    )


def plain(value: VariableValue) -> Any:
    """The Python value, with lists and dicts for containers."""
    match value.WhichOneof("value"):
        case "array":
            return [plain(item) for item in value.array.items]
        case "map":
            return {plain(one.key): plain(one.value) for one in value.map.entries}
        case "struct":
            fields = value.struct.struct.fields
            return {name: plain(fields[name].value) for name in sorted(fields)}
        case _:
            return extract_value(value)


def shown(value: Any) -> str | None:
    """What stands for a type or a value in the name of a test."""
    if isinstance(value, VariableValue):
        return repr(plain(value))
    if not isinstance(value, TypeDefinition):
        return None
    match value.WhichOneof("defined_type"):
        case "struct_def_id":
            return value.struct_def_id.name
        case "inline_array_def":
            return f"Array<{shown(value.inline_array_def.array_type)}>"
        case "inline_map_def":
            return f"Map<{shown(value.inline_map_def.key_type)},{shown(value.inline_map_def.value_type)}>"
        case _:
            return VariableType.Name(value.primitive_type)


def cases(names: str | tuple[str, ...], rows: Iterable[Any]) -> pytest.MarkDecorator:
    """A table of cases with readable names."""
    return pytest.mark.parametrize(names, rows, ids=shown)


def same(value: VariableValue, expected: Any) -> bool:
    """Whether content, order and the kinds of numbers are as expected."""
    return repr(plain(value)) == repr(expected)


# Assignments.


def literal(value: Any) -> VariableAssignment:
    return VariableAssignment(literal_value=val(value))


def received() -> VariableAssignment:
    """What the event of an untyped ExternalEventDef brought: of no type that registration knows."""
    return VariableAssignment(node_output=VariableAssignment.NodeOutputReference(node_name=SOURCE))


def at(assignment: VariableAssignment, *selectors: str | int) -> VariableAssignment:
    """The place that an lh_path leads to."""
    assignment.lh_path.SetInParent()
    for one in selectors:
        selector = LHPath.Selector(key=one) if isinstance(one, str) else LHPath.Selector(index=one)
        assignment.lh_path.path.append(selector)
    return assignment


def compared(left: VariableAssignment, comparator: Comparator, right: VariableAssignment) -> VariableAssignment:
    return VariableAssignment(expression=VariableAssignment.Expression(lhs=left, comparator=comparator, rhs=right))


def computed(
    left: VariableAssignment, operation: VariableMutationType, right: VariableAssignment
) -> VariableAssignment:
    return VariableAssignment(expression=VariableAssignment.Expression(lhs=left, mutation_type=operation, rhs=right))


def size_of(operand: VariableAssignment) -> VariableAssignment:
    return VariableAssignment(size_of=VariableAssignment.SizeOf(operand=operand))


def mutation(name: str, operation: VariableMutationType, right: VariableAssignment) -> VariableMutation:
    return VariableMutation(lhs_name=name, operation=operation, rhs_assignment=right)


# Workflows.


def declare(name: str, kind: TypeDefinition, default: VariableValue | None = None) -> ThreadVarDef:
    return ThreadVarDef(
        var_def=VariableDef(name=name, type_def=kind, default_value=default),
        access_level=WfRunVariableAccessLevel.PRIVATE_VAR,
    )


def put_variables(world: World, *variables: ThreadVarDef) -> None:
    """Register a workflow that only has variables."""
    put_edited(world, lambda _: None, lambda spec: spec.variable_defs.extend(variables))


def put_mutations(world: World, types: dict[str, TypeDefinition], *mutations: VariableMutation) -> None:
    """Register a workflow that waits for an event and mutates its variables on the edge behind."""

    def edit(spec: ThreadSpec) -> None:
        spec.variable_defs.extend(declare(name, kind) for name, kind in types.items())
        spec.nodes[SOURCE].outgoing_edges[0].variable_mutations.extend(mutations)

    put_edited(world, lambda wf: wf.wait_for_event("in"), edit)


def start(world: World, **values: VariableValue) -> WfRun:
    reply: WfRun = world.submit(RunWfRequest(wf_spec_name="wf", id="r", variables=values))
    return reply


def mutate(
    world: World,
    types: dict[str, TypeDefinition],
    mutations: list[VariableMutation],
    content: VariableValue = NULL,
    **values: VariableValue,
) -> WfRun:
    """The WfRun after it received ``content`` and mutated its variables."""
    put_mutations(world, types, *mutations)
    start(world, **values)
    world.post("in", content)
    return wf_run(world)


def assign(
    world: World,
    into: TypeDefinition,
    assignment: VariableAssignment,
    content: VariableValue = NULL,
    of: TypeDefinition = INT,
    v: VariableValue = NULL,
) -> WfRun:
    """The WfRun after it assigned to ``result``; the assignment may use the variable ``v`` and the event's content."""
    return mutate(world, {"v": of, "result": into}, [mutation("result", M.ASSIGN, assignment)], content, v=v)


def is_var_sub_error(world: World) -> bool:
    """Whether the WfRun failed on the edge behind the event."""
    return wf_run(world).status == ERROR and failure(world, 1).failure_name == "VAR_SUB_ERROR"


def put_struct(world: World, name: str, fields: dict[str, StructFieldDef], description: str | None = None) -> None:
    world.submit(PutStructDefRequest(name=name, description=description, struct_def=InlineStructDef(fields=fields)))


MASKED_STR = TypeDefinition(primitive_type=VariableType.STR, masked=True)
ADDRESS_FIELDS = {"street": StructFieldDef(field_type=STR), "zip": StructFieldDef(field_type=INT, is_nullable=True)}
PERSON_FIELDS = {
    "name": StructFieldDef(field_type=STR),
    "age": StructFieldDef(field_type=INT, is_nullable=True),
    "nickname": StructFieldDef(field_type=STR, default_value=val("none")),
    "home": StructFieldDef(field_type=ADDRESS, is_nullable=True),
    "secret": StructFieldDef(field_type=MASKED_STR, is_nullable=True),
    "tags": StructFieldDef(field_type=STRS, is_nullable=True),
}
ELM = struct("address", street="Elm")
ANN = struct("person", name="Ann", home=ELM, tags=array("a", "b"))


@pytest.fixture
def world() -> World:
    world = World()
    put_struct(world, "address", ADDRESS_FIELDS)
    put_struct(world, "person", PERSON_FIELDS)
    put_event_def(world, "in")
    return world


class TestFits:
    """execution.md 8.2 and api.md 3.2, at RunWf."""

    FITS: tuple[tuple[TypeDefinition, VariableValue], ...] = (
        (INTS, NULL),
        (INTS, array()),
        (INTS, array(1, 2)),
        (INTS, array(1, 2, of=INT)),
        (INTS, array(of=STR)),
        (INTS, array(1, None)),
        (DOUBLES, array(1, 1.5)),
        (STRS, array("a", 1, 1.5, True, b"raw")),
        (array_of(INTS), array(array(1), array(), None)),
        (array_of(PERSON), array(ANN)),
        (COUNTS, NULL),
        (COUNTS, mapping({})),
        (COUNTS, mapping({"a": 1})),
        (COUNTS, mapping({"a": 1}, of=COUNTS)),
        (COUNTS, mapping({}, of=map_of(INT, STR))),
        (COUNTS, mapping({"a": None})),
        (map_of(STR, DOUBLE), mapping({"a": 1})),
        (map_of(INT, BOOL), mapping({1: True})),
        (map_of(STR, INTS), mapping({"a": array(1)})),
        (map_of(STR, PERSON), mapping({"a": ANN})),
        (PERSON, NULL),
        (PERSON, ANN),
        (PERSON, struct("person", name="Ann")),
        (PERSON, struct("person", name=7)),
        (PERSON, struct("person", name="Ann", age=None)),
        (PERSON, struct("person", name="Ann", stranger=[1])),
        (PERSON, struct("person", 5, name="Ann")),
    )
    MISFITS: tuple[tuple[TypeDefinition, VariableValue], ...] = (
        (INTS, array(1, "two")),
        (INTS, array(1.5)),
        (INTS, array("a", of=INT)),
        (INTS, array([1])),
        (INTS, val([1])),
        (INTS, val(1)),
        (INTS, mapping({})),
        (INTS, ANN),
        (JSON_ARR, array(1)),
        (STR, array("a")),
        (STRS, array([1])),
        (array_of(INTS), array(array("a"))),
        (array_of(INTS), array(1)),
        (array_of(PERSON), array(ANN, struct("person", age=1))),
        (array_of(PERSON), array(ELM)),
        (COUNTS, mapping({"a": "one"})),
        (COUNTS, mapping({"a": 1, "b": "two"})),
        (map_of(INT, INT), mapping({"a": 1})),
        (map_of(INT, INT), mapping({1: 1, "b": 2})),
        (COUNTS, val({"a": 1})),
        (COUNTS, array()),
        (JSON_OBJ, mapping({"a": 1})),
        (map_of(STR, INTS), mapping({"a": array("x")})),
        (map_of(STR, PERSON), mapping({"a": struct("person")})),
        (PERSON, ELM),
        (PERSON, val({"name": "Ann"})),
        (PERSON, val("Ann")),
        (PERSON, mapping({"name": "Ann"})),
        (JSON_OBJ, ANN),
        (STR, ANN),
        (PERSON, struct("person")),
        (PERSON, struct("person", age=1)),
        (PERSON, struct("person", name=None)),
        (PERSON, struct("person", name="Ann", nickname=None)),
        (PERSON, struct("person", name="Ann", age="old")),
        (PERSON, struct("person", name=[1])),
        (PERSON, struct("person", name="Ann", tags=array([1]))),
        (PERSON, struct("person", name="Ann", home=ANN)),
        (PERSON, struct("person", name="Ann", home=struct("address", zip=1))),
    )

    @cases(("declared", "value"), FITS)
    def test_value_that_fits_is_stored_unchanged(
        self, world: World, declared: TypeDefinition, value: VariableValue
    ) -> None:
        put_variables(world, declare("v", declared))
        assert start(world, v=value).status == COMPLETED
        assert same(world.variable("v"), plain(value))

    @cases(("declared", "value"), MISFITS)
    def test_value_that_does_not_fit(self, world: World, declared: TypeDefinition, value: VariableValue) -> None:
        put_variables(world, declare("misfit", declared))
        with refused(Code.INVALID_ARGUMENT, "misfit"):
            start(world, misfit=value)
        assert world.wf_run() is None

    @cases(
        ("value", "struct_name", "field"),
        [
            (struct("person", age=1), "person", "name"),
            (struct("person", name=None), "person", "name"),
            (struct("person", name="Ann", age="old"), "person", "age"),
            (struct("person", name="Ann", home=struct("address", zip=1)), "address", "street"),
        ],
    )
    def test_struct_and_field_are_named(self, world: World, value: VariableValue, struct_name: str, field: str) -> None:
        put_variables(world, declare("v", PERSON))
        with refused(Code.INVALID_ARGUMENT, struct_name, field):
            start(world, v=value)

    def test_fields_are_checked_against_the_declared_version(self, world: World) -> None:
        put_variables(world, declare("v", struct_of("address", 0)))
        world.submit(
            PutStructDefRequest(
                name="address",
                struct_def=InlineStructDef(
                    fields=ADDRESS_FIELDS | {"city": StructFieldDef(field_type=STR, is_nullable=True)}
                ),
                allowed_updates="FULLY_COMPATIBLE_SCHEMA_UPDATES",
            )
        )
        start(world, v=struct("address", 1, street="Elm", city=[1]))
        assert world.variable("v").struct.struct_def_id == StructDefId(name="address", version=0)

    def test_defaults_are_not_filled_in_at_entry(self, world: World) -> None:
        put_variables(world, declare("v", PERSON))
        start(world, v=struct("person", name="Ann"))
        assert list(world.variable("v").struct.struct.fields) == ["name"]

    def test_extra_fields_are_kept(self, world: World) -> None:
        put_variables(world, declare("v", PERSON))
        start(world, v=struct("person", name="Ann", stranger=1))
        assert plain(world.variable("v")) == {"name": "Ann", "stranger": 1}


class TestWrittenOver:
    """execution.md 8.2: the declared types are written over what the client sent, recursively."""

    def test_element_type(self, world: World) -> None:
        put_variables(world, declare("v", INTS))
        start(world, v=array(1))
        assert world.variable("v").array.element_type == INT

    def test_element_type_of_an_empty_array(self, world: World) -> None:
        put_variables(world, declare("v", INTS))
        start(world, v=array(of=STR))
        assert world.variable("v").array.element_type == INT

    def test_map_type(self, world: World) -> None:
        put_variables(world, declare("v", COUNTS))
        start(world, v=mapping({"a": 1}))
        assert world.variable("v").map.map_type == COUNTS.inline_map_def

    def test_map_type_of_an_empty_map(self, world: World) -> None:
        put_variables(world, declare("v", COUNTS))
        start(world, v=mapping({}, of=map_of(INT, STR)))
        assert world.variable("v").map.map_type == COUNTS.inline_map_def

    def test_types_inside(self, world: World) -> None:
        put_variables(world, declare("v", map_of(STR, array_of(INTS))))
        start(world, v=mapping({"a": array(array(1))}))
        stored = world.variable("v").map
        assert stored.map_type.value_type == array_of(INTS)
        assert stored.entries[0].value.array.element_type == INTS
        assert stored.entries[0].value.array.items[0].array.element_type == INT

    @cases(("declared", "value"), [(DOUBLES, array(1, of=STR)), (map_of(STR, DOUBLE), mapping({"a": 1}, of=COUNTS))])
    def test_type_that_the_client_sent_is_never_stored(
        self, world: World, declared: TypeDefinition, value: VariableValue
    ) -> None:
        put_variables(world, declare("v", declared))
        with suppress(Rejection):
            start(world, v=value)
            stored = world.variable("v")
            if declared == DOUBLES:
                assert stored.array.element_type == DOUBLE
            else:
                assert stored.map.map_type == declared.inline_map_def

    def test_struct_def_id_is_the_declared_one(self, world: World) -> None:
        put_variables(world, declare("v", array_of(PERSON)))
        start(world, v=array(struct("person", 9, name="Ann", home=struct("address", 9, street="Elm"))))
        stored = world.variable("v").array
        assert stored.element_type == struct_of("person", 0)
        assert stored.items[0].struct.struct_def_id == StructDefId(name="person", version=0)
        home = stored.items[0].struct.struct.fields["home"].value
        assert home.struct.struct_def_id == StructDefId(name="address", version=0)

    def test_types_in_the_fields_of_a_struct(self, world: World) -> None:
        put_variables(world, declare("v", PERSON))
        start(world, v=struct("person", name="Ann", tags=array("a")))
        assert world.variable("v").struct.struct.fields["tags"].value.array.element_type == STR

    def test_masked_fields_are_set_from_the_struct_def(self, world: World) -> None:
        put_variables(world, declare("v", PERSON))
        value = struct("person", name="Ann", secret="key")
        value.struct.struct.fields["name"].masked = True
        start(world, v=value)
        fields = world.variable("v").struct.struct.fields
        assert fields["secret"].masked
        assert not fields["name"].masked

    def test_masked_fields_deep_inside(self, world: World) -> None:
        put_variables(world, declare("v", map_of(STR, array_of(PERSON))))
        start(world, v=mapping({"a": array(struct("person", name="Ann", secret="key"))}))
        inner = world.variable("v").map.entries[0].value.array.items[0]
        assert inner.struct.struct.fields["secret"].masked


class TestDefaults:
    """execution.md 8.3."""

    DEFAULTS = (
        (INTS, array(1, 2, of=INT)),
        (COUNTS, mapping({"a": 1}, of=COUNTS)),
        (PERSON, struct("person", name="Ann")),
    )

    @cases(("declared", "default"), DEFAULTS)
    def test_default_where_nothing_is_given(
        self, world: World, declared: TypeDefinition, default: VariableValue
    ) -> None:
        put_variables(world, declare("v", declared, default))
        start(world)
        assert same(world.variable("v"), plain(default))

    @cases(("declared", "default"), DEFAULTS)
    def test_explicit_null_takes_the_default_too(
        self, world: World, declared: TypeDefinition, default: VariableValue
    ) -> None:
        put_variables(world, declare("v", declared, default))
        start(world, v=NULL)
        assert same(world.variable("v"), plain(default))

    def test_given_value_beats_the_default(self, world: World) -> None:
        put_variables(world, declare("v", INTS, array(1, of=INT)))
        start(world, v=array())
        assert same(world.variable("v"), [])

    @cases("declared", [INTS, COUNTS, PERSON])
    def test_null_without_default(self, world: World, declared: TypeDefinition) -> None:
        put_variables(world, declare("v", declared))
        start(world)
        assert world.variable("v") == NULL

    @cases("declared", [INTS, COUNTS, PERSON])
    def test_explicit_null_satisfies_required(self, world: World, declared: TypeDefinition) -> None:
        needed = declare("needed", declared)
        needed.required = True
        put_variables(world, needed)
        with refused(Code.INVALID_ARGUMENT, "needed"):
            start(world)
        assert start(world, needed=NULL).status == COMPLETED


def put_task(world: World, takes: TypeDefinition | None = None, returns: TypeDefinition | None = None) -> None:
    """Register the TaskDef ``t``."""
    request = PutTaskDefRequest(name="t")
    if takes is not None:
        request.input_vars.append(VariableDef(name="a", type_def=takes))
    if returns is not None:
        request.return_type.CopyFrom(ReturnType(return_type=returns))
    world.submit(request)


class TestTasks:
    """execution.md 5.1, 5.3 and 8.2."""

    def run_with(self, world: World, takes: TypeDefinition, content: VariableValue) -> WfRun:
        """The WfRun that passes what it received to a task at position 2."""
        put_task(world, takes)
        put(world, lambda wf: wf.execute("t", wf.wait_for_event("in")))
        world.run("wf")
        world.post("in", content)
        return wf_run(world)

    def test_types_are_written_over_the_input(self, world: World) -> None:
        self.run_with(world, array_of(INTS), array(array(1)))
        task_run = world.task_run("0-2")
        assert task_run is not None
        value = task_run.input_variables[0].value.array
        assert value.element_type == INTS
        assert value.items[0].array.element_type == INT

    def test_worker_gets_the_real_value_of_a_masked_field(self, world: World) -> None:
        self.run_with(world, PERSON, struct("person", name="Ann", secret="key"))
        task = world.claim()
        assert task is not None
        secret = task.variables[0].value.struct.struct.fields["secret"]
        assert secret.masked
        assert secret.value == val("key")

    @cases(
        ("takes", "content"),
        [
            (INTS, array(1, 2)),
            (INTS, array()),
            (INTS, NULL),
            (COUNTS, mapping({"a": 1})),
            (PERSON, struct("person", name="Ann")),
        ],
    )
    def test_input_that_fits(self, world: World, takes: TypeDefinition, content: VariableValue) -> None:
        self.run_with(world, takes, content)
        task = world.claim()
        assert task is not None
        assert same(task.variables[0].value, plain(content))

    @cases(
        ("takes", "content"),
        [
            (INTS, array(1, "two")),
            (INTS, val([1])),
            (INTS, val(1)),
            (STR, array("a")),
            (COUNTS, mapping({"a": "one"})),
            (PERSON, struct("person", age=1)),
            (PERSON, ELM),
        ],
    )
    def test_input_that_does_not_fit_is_var_sub_error(
        self, world: World, takes: TypeDefinition, content: VariableValue
    ) -> None:
        assert self.run_with(world, takes, content).status == ERROR
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"

    def report(self, world: World, returns: TypeDefinition, output: VariableValue) -> None:
        """Let the task at position 1 report an output, which goes to ``result``."""
        put_task(world, returns=returns)

        def edit(spec: ThreadSpec) -> None:
            spec.variable_defs.append(declare("result", returns))
            output_of = VariableAssignment.NodeOutputReference(node_name="1-t-TASK")
            spec.nodes["1-t-TASK"].outgoing_edges[0].variable_mutations.append(
                mutation("result", M.ASSIGN, VariableAssignment(node_output=output_of))
            )

        put_edited(world, lambda wf: wf.execute("t"), edit)
        world.run("wf")
        task = world.claim()
        assert task is not None
        world.report(task, output=output)

    def attempt_status(self, world: World) -> TaskStatus:
        task_run = world.task_run("0-1")
        assert task_run is not None
        return task_run.attempts[-1].status

    def test_types_are_written_over_the_output(self, world: World) -> None:
        self.report(world, array_of(PERSON), array(struct("person", 9, name="Ann", secret="key")))
        task_run = world.task_run("0-1")
        assert task_run is not None
        output = task_run.attempts[-1].output.array
        assert output.element_type == struct_of("person", 0)
        assert output.items[0].struct.struct_def_id == StructDefId(name="person", version=0)
        assert output.items[0].struct.struct.fields["secret"].masked

    @cases(
        ("returns", "output"),
        [
            (INTS, array(1, 2)),
            (INTS, array()),
            (COUNTS, mapping({"a": 1})),
            (PERSON, struct("person", name="Ann")),
        ],
    )
    def test_output_that_fits_can_be_assigned(
        self, world: World, returns: TypeDefinition, output: VariableValue
    ) -> None:
        self.report(world, returns, output)
        assert wf_run(world).status == COMPLETED
        assert same(world.variable("result"), plain(output))

    @cases(
        ("returns", "output"),
        [
            (INTS, array(1, "two")),
            (INTS, val([1])),
            (COUNTS, mapping({"a": "one"})),
            (COUNTS, val({"a": 1})),
            (PERSON, struct("person", age=1)),
            (PERSON, ELM),
        ],
    )
    def test_output_that_does_not_fit_is_var_mutation_error(
        self, world: World, returns: TypeDefinition, output: VariableValue
    ) -> None:
        self.report(world, returns, output)
        assert self.attempt_status(world) == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert failure(world, 1).failure_name == "VAR_MUTATION_ERROR"


def correlated_put(world: World, content: VariableValue) -> CorrelatedEvent:
    event_def = ExternalEventDefId(name="keyed")
    reply: CorrelatedEvent = world.submit(
        PutCorrelatedEventRequest(key="k", external_event_def_id=event_def, content=content)
    )
    return reply


class TestEvents:
    """execution.md 2.1, 3.1 and 8.2."""

    MISFITS = (
        (INTS, array(1, "two")),
        (INTS, val([1])),
        (COUNTS, mapping({"a": "one"})),
        (PERSON, struct("person", age=1)),
        (PERSON, ELM),
        (STR, array("a")),
    )

    @cases(("declared", "content"), MISFITS)
    def test_content_that_does_not_fit(self, world: World, declared: TypeDefinition, content: VariableValue) -> None:
        put_event_def(world, "typed", ReturnType(return_type=declared))
        with refused(Code.INVALID_ARGUMENT, "invalid type", "typed"):
            world.post("typed", content, guid="g")
        assert world.external_event("typed", "g") is None

    @cases("declared", [INTS, COUNTS, PERSON])
    def test_null_content_always_fits(self, world: World, declared: TypeDefinition) -> None:
        put_event_def(world, "typed", ReturnType(return_type=declared))
        assert world.post("typed", NULL).content == NULL

    def test_types_are_written_over_the_content(self, world: World) -> None:
        put_event_def(world, "typed", ReturnType(return_type=map_of(STR, INTS)))
        world.post("typed", mapping({"a": array(1)}), guid="g")
        stored: ExternalEvent | None = world.external_event("typed", "g")
        assert stored is not None
        assert stored.content.map.map_type == map_of(STR, INTS).inline_map_def
        assert stored.content.map.entries[0].value.array.element_type == INT

    def test_struct_content_gets_its_id_and_masks(self, world: World) -> None:
        put_event_def(world, "typed", ReturnType(return_type=PERSON))
        world.post("typed", struct("person", 9, name="Ann", secret="key"), guid="g")
        stored = world.external_event("typed", "g")
        assert stored is not None
        assert stored.content.struct.struct_def_id == StructDefId(name="person", version=0)
        assert stored.content.struct.struct.fields["secret"].masked

    def test_content_of_an_untyped_def_is_not_checked(self, world: World) -> None:
        assert plain(world.post("in", array(1, "two")).content) == [1, "two"]

    @cases(("declared", "content"), MISFITS)
    def test_correlated_content_that_does_not_fit(
        self, world: World, declared: TypeDefinition, content: VariableValue
    ) -> None:
        put_event_def(world, "keyed", ReturnType(return_type=declared), correlated=CorrelatedEventConfig())
        with refused(Code.INVALID_ARGUMENT):
            correlated_put(world, content)

    def test_types_are_written_over_correlated_content(self, world: World) -> None:
        put_event_def(world, "keyed", ReturnType(return_type=array_of(PERSON)), correlated=CorrelatedEventConfig())
        content = correlated_put(world, array(struct("person", 9, name="Ann", secret="key"))).content.array
        assert content.element_type == struct_of("person", 0)
        assert content.items[0].struct.struct_def_id == StructDefId(name="person", version=0)
        assert content.items[0].struct.struct.fields["secret"].masked

    def test_typed_content_can_be_assigned(self, world: World) -> None:
        put_event_def(world, "in", ReturnType(return_type=INTS))
        assign(world, INTS, received(), array(1, 2))
        assert same(world.variable("result"), [1, 2])


class TestChildThreads:
    """execution.md 6.1 and 8.2."""

    def spawn(self, world: World, declared: TypeDefinition, content: VariableValue) -> None:
        """Let thread 0 start thread 1 at position 2 with what it received as ``items``."""

        def child(wf: WorkflowThread) -> None:
            wf.add_variable("items", VariableType.INT)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child", {"items": wf.wait_for_event("in")})

        request = Workflow("wf", body).compile()
        request.thread_specs["child"].variable_defs[0].var_def.type_def.CopyFrom(declared)
        world.submit(request)
        world.run("wf")
        world.post("in", content)

    def test_types_are_written_over_the_inputs(self, world: World) -> None:
        self.spawn(world, map_of(STR, INTS), mapping({"a": array(1)}))
        items = world.variable("items", thread=1).map
        assert items.map_type == map_of(STR, INTS).inline_map_def
        assert items.entries[0].value.array.element_type == INT

    def test_struct_input_gets_its_id_and_masks(self, world: World) -> None:
        self.spawn(world, PERSON, struct("person", 9, name="Ann", secret="key"))
        items = world.variable("items", thread=1).struct
        assert items.struct_def_id == StructDefId(name="person", version=0)
        assert items.struct.fields["secret"].masked

    @cases(
        ("declared", "content"),
        [(INTS, array(1, "two")), (COUNTS, mapping({"a": "one"})), (PERSON, ELM), (PERSON, struct("person"))],
    )
    def test_input_that_does_not_fit_is_var_sub_error(
        self, world: World, declared: TypeDefinition, content: VariableValue
    ) -> None:
        self.spawn(world, declared, content)
        assert node(world, 2).status == ERROR
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert not reached(world, 0, number=1)


PEOPLE = map_of(STR, PERSON)


class TestLhPath:
    """execution.md 8.5."""

    @cases(
        ("of", "value", "selectors", "into", "expected"),
        [
            (PERSON, ANN, ("name",), STR, "Ann"),
            (PERSON, ANN, ("nickname",), STR, "none"),
            (PERSON, ANN, ("age",), INT, None),
            (PERSON, ANN, ("home", "street"), STR, "Elm"),
            (PERSON, ANN, ("home", "zip"), INT, None),
            (PERSON, ANN, ("tags", 1), STR, "b"),
            (PERSON, ANN, ("home",), ADDRESS, {"street": "Elm"}),
            (PERSON, ANN, (), PERSON, plain(ANN)),
            (INTS, array(5, 6), (0,), INT, 5),
            (INTS, array(5, 6), (1,), INT, 6),
            (INTS, array(5, None), (1,), INT, None),
            (INTS, array(5, 6), (), INTS, [5, 6]),
            (array_of(INTS), array(array(5), array(6, 7)), (1, 0), INT, 6),
            (array_of(PERSON), array(ANN), (0, "name"), STR, "Ann"),
            (COUNTS, mapping({"a": 1, "b": 2}), ("b",), INT, 2),
            (COUNTS, mapping({"a": 1}), ("x",), INT, None),
            (COUNTS, mapping({"a": 1}), (), COUNTS, {"a": 1}),
            (map_of(STR, INTS), mapping({"a": array(1, 2)}), ("a", 1), INT, 2),
            (map_of(STR, INTS), mapping({}), ("a", 1), INT, None),
            (map_of(STR, COUNTS), mapping({"a": mapping({"b": 2})}), ("a", "b"), INT, 2),
            (PEOPLE, mapping({"ann": ANN}), ("ann", "home", "street"), STR, "Elm"),
            (PEOPLE, mapping({"ann": ANN}), ("bob", "home", "street"), STR, None),
            (map_of(STR, JSON_OBJ), mapping({"a": {"deep": [7]}}), ("a", "deep", 0), INT, 7),
            (map_of(STR, JSON_OBJ), mapping({"a": {"deep": [7]}}), ("a", "other", 0), INT, None),
            (array_of(JSON_ARR), array([1, 2]), (0, -1), INT, 2),
        ],
    )
    def test_read(
        self,
        world: World,
        of: TypeDefinition,
        value: VariableValue,
        selectors: tuple[str | int, ...],
        into: TypeDefinition,
        expected: Any,
    ) -> None:
        assert assign(world, into, at(variable("v"), *selectors), of=of, v=value).status == COMPLETED
        assert same(world.variable("result"), expected)

    @cases(
        ("of", "value", "selectors", "into"),
        [
            (INTS, array(5), (1,), INT),
            (INTS, array(5), (-1,), INT),
            (INTS, array(), (0,), INT),
            (INTS, NULL, (0,), INT),
            (COUNTS, NULL, ("a",), INT),
            (PERSON, NULL, ("name",), STR),
            (PERSON, struct("person", name="Ann", home=None), ("home", "street"), STR),
            (PERSON, struct("person", name="Ann", tags=array()), ("tags", 0), STR),
            (array_of(INTS), array(None), (0, 0), INT),
        ],
    )
    def test_no_such_place_is_var_sub_error(
        self,
        world: World,
        of: TypeDefinition,
        value: VariableValue,
        selectors: tuple[str | int, ...],
        into: TypeDefinition,
    ) -> None:
        assign(world, into, at(variable("v"), *selectors), of=of, v=value)
        assert is_var_sub_error(world)

    @cases(
        ("content", "selectors"),
        [
            (array("a", of=STR), (0, "x")),
            (mapping({"a": 1}, of=COUNTS), ("a", "x")),
            (struct("person", name="Ann"), ("name", "x")),
        ],
    )
    def test_selectors_into_a_primitive_are_var_sub_error(
        self, world: World, content: VariableValue, selectors: tuple[str | int, ...]
    ) -> None:
        assign(world, STR, at(received(), *selectors), content)
        assert is_var_sub_error(world)

    @cases("content", [array(1, of=INT), mapping({"a": 1}, of=COUNTS), ANN])
    def test_json_path_into_a_container_is_var_sub_error(self, world: World, content: VariableValue) -> None:
        assignment = received()
        assignment.json_path = "$"
        assign(world, INT, assignment, content)
        assert is_var_sub_error(world)

    def test_cast_comes_after_the_path(self, world: World) -> None:
        assignment = at(variable("v"), 0)
        assignment.target_type.CopyFrom(INT)
        assign(world, INT, assignment, of=DOUBLES, v=array(2.9))
        assert same(world.variable("result"), 2)

    def test_missing_field_reads_the_default_of_the_pinned_version(self, world: World) -> None:
        put_struct(world, "setting", {"mode": StructFieldDef(field_type=STR, default_value=val("old"))})
        put_mutations(
            world,
            {"v": struct_of("setting"), "result": STR},
            mutation("result", M.ASSIGN, at(variable("v"), "mode")),
        )
        world.submit(
            PutStructDefRequest(
                name="setting",
                struct_def=InlineStructDef(fields={"mode": StructFieldDef(field_type=STR, default_value=val("new"))}),
                allowed_updates="FULLY_COMPATIBLE_SCHEMA_UPDATES",
            )
        )
        start(world, v=struct("setting"))
        world.post("in")
        assert python(world, "result") == "old"

    def test_path_in_a_condition(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            person = wf.declare_struct("person", "person")
            adult = wf.declare_bool("adult", False)
            wf.do_if(person.get("age").is_greater_than(17), lambda _: adult.assign(True))

        put(world, body)
        start(world, person=struct("person", name="Ann", age=18))
        assert python(world, "adult") is True


def simple(assignment: VariableAssignment) -> InlineStructFieldValue:
    return InlineStructFieldValue(simple_value=assignment)


def build(struct_name: str, struct_version: int = -1, **fields: InlineStructFieldValue) -> VariableAssignment:
    struct_def_id = StructDefId(name=struct_name, version=struct_version)
    return VariableAssignment(
        struct_builder=StructBuilder(struct_def_id=struct_def_id, value=InlineStructBuilder(fields=fields))
    )


class TestStructBuilder:
    """execution.md 8.5."""

    def test_fields_come_from_assignments(self, world: World) -> None:
        builder = build("person", name=simple(variable("v")), age=simple(computed(literal(1), M.ADD, literal(2))))
        assign(world, PERSON, builder, of=STR, v=val("Ann"))
        assert plain(world.variable("result")) == {"age": 3, "name": "Ann"}

    def test_result_has_the_given_id(self, world: World) -> None:
        assign(world, PERSON, build("person", 0, name=simple(literal("Ann"))))
        assert world.variable("result").struct.struct_def_id == StructDefId(name="person", version=0)

    def test_latest_version_is_pinned_at_registration(self, world: World) -> None:
        put_mutations(
            world, {"result": PERSON}, mutation("result", M.ASSIGN, build("person", name=simple(literal("Ann"))))
        )
        put_struct(world, "person", PERSON_FIELDS, "another version")
        start(world)
        world.post("in")
        assert wf_run(world).status == COMPLETED
        assert world.variable("result").struct.struct_def_id == StructDefId(name="person", version=0)

    def test_nested_builder(self, world: World) -> None:
        home = InlineStructFieldValue(sub_structure=InlineStructBuilder(fields={"street": simple(variable("v"))}))
        builder = build("person", name=simple(literal("Ann")), home=home)
        assign(world, PERSON, builder, of=STR, v=val("Elm"))
        result = world.variable("result")
        assert plain(result) == {"home": {"street": "Elm"}, "name": "Ann"}
        nested = result.struct.struct.fields["home"].value.struct
        assert nested.struct_def_id == StructDefId(name="address", version=0)

    def test_whole_struct_as_a_field(self, world: World) -> None:
        builder = build("person", name=simple(literal("Ann")), home=simple(variable("v")))
        assign(world, PERSON, builder, of=ADDRESS, v=ELM)
        assert plain(world.variable("result")) == {"home": {"street": "Elm"}, "name": "Ann"}

    def test_field_of_a_builder_can_be_read(self, world: World) -> None:
        assign(world, STR, at(build("person", name=simple(literal("Ann"))), "name"))
        assert python(world, "result") == "Ann"

    def test_field_that_does_not_evaluate_is_var_sub_error(self, world: World) -> None:
        assign(world, PERSON, build("person", name=simple(at(variable("v"), 0))), of=STRS, v=array())
        assert is_var_sub_error(world)


class TestSize:
    """execution.md 8.5."""

    @cases(
        ("of", "value", "size"), [(INTS, array(), 0), (INTS, array(5, 6), 2), (array_of(INTS), array(array(5, 6)), 1)]
    )
    def test_size_of_an_array(self, world: World, of: TypeDefinition, value: VariableValue, size: int) -> None:
        assign(world, INT, size_of(variable("v")), of=of, v=value)
        assert same(world.variable("result"), size)

    def test_size_behind_a_path(self, world: World) -> None:
        assign(world, INT, size_of(at(variable("v"), "tags")), of=PERSON, v=ANN)
        assert same(world.variable("result"), 2)

    def test_null_array_has_no_size(self, world: World) -> None:
        assign(world, INT, size_of(variable("v")), of=INTS)
        assert is_var_sub_error(world)

    @cases("content", [mapping({"a": 1}, of=COUNTS), mapping({}), ANN])
    def test_map_and_struct_have_no_size(self, world: World, content: VariableValue) -> None:
        assign(world, INT, size_of(received()), content)
        assert is_var_sub_error(world)


class TestComparison:
    """execution.md 8.7; the left side is the variable ``v``, the right side what was received."""

    def compare(
        self,
        world: World,
        of: TypeDefinition,
        left: VariableValue,
        comparator: Comparator,
        right: VariableValue,
    ) -> None:
        assign(world, BOOL, compared(variable("v"), comparator, received()), right, of=of, v=left)

    @cases(
        ("of", "left", "right", "equal"),
        [
            (INTS, array(1, 2), array(1, 2, of=INT), True),
            (INTS, array(1, 2), array(2, 1, of=INT), False),
            (INTS, array(1, 2), array(1, of=INT), False),
            (array_of(INTS), array(array(1)), array(array(1, of=INT), of=INTS), True),
            (array_of(INTS), array(array(1)), array(array(2, of=INT), of=INTS), False),
            (COUNTS, mapping({"a": 1}), mapping({"a": 1}, of=COUNTS), True),
            (COUNTS, mapping({"a": 1}), mapping({"a": 2}, of=COUNTS), False),
            (COUNTS, mapping({"a": 1}), mapping({"b": 1}, of=COUNTS), False),
            (COUNTS, mapping({"a": 1}), mapping({"a": 1, "b": 1}, of=COUNTS), False),
            (ADDRESS, ELM, ELM, True),
            (ADDRESS, ELM, struct("address", street="Oak"), False),
            (INTS, NULL, NULL, True),
            (INTS, array(1), NULL, False),
            (INTS, NULL, array(1, of=INT), False),
            (COUNTS, mapping({}), NULL, False),
            (PERSON, ANN, NULL, False),
            (PERSON, NULL, ANN, False),
        ],
    )
    def test_equality(
        self, world: World, of: TypeDefinition, left: VariableValue, right: VariableValue, equal: bool
    ) -> None:
        same_, other = (compared(variable("v"), one, received()) for one in (C.EQUALS, C.NOT_EQUALS))
        mutations = [mutation("same", M.ASSIGN, same_), mutation("other", M.ASSIGN, other)]
        mutate(world, {"v": of, "same": BOOL, "other": BOOL}, mutations, right, v=left)
        assert python(world, "same") is equal
        assert python(world, "other") is not equal

    @cases("of", [INTS, COUNTS, PERSON])
    def test_equality_of_known_types(self, world: World, of: TypeDefinition) -> None:
        value = {"inline_array_def": array(1), "inline_map_def": mapping({"a": 1}), "struct_def_id": ANN}[
            of.WhichOneof("defined_type") or ""
        ]
        assign(world, BOOL, compared(variable("v"), C.EQUALS, variable("v")), of=of, v=value)
        assert python(world, "result") is True

    @cases(("of", "right"), [(INTS, array(1, of=INT)), (COUNTS, mapping({"a": 1}, of=COUNTS)), (PERSON, ANN)])
    def test_null_is_less_than_a_container(self, world: World, of: TypeDefinition, right: VariableValue) -> None:
        self.compare(world, of, NULL, C.LESS_THAN, right)
        assert python(world, "result") is True

    @cases("comparator", [C.LESS_THAN, C.GREATER_THAN, C.LESS_THAN_EQ, C.GREATER_THAN_EQ])
    @cases(
        ("of", "left", "right"),
        [
            (INTS, array(1), array(2, of=INT)),
            (COUNTS, mapping({"a": 1}), mapping({"a": 2}, of=COUNTS)),
        ],
    )
    def test_arrays_and_maps_have_no_order(
        self, world: World, of: TypeDefinition, left: VariableValue, comparator: Comparator, right: VariableValue
    ) -> None:
        self.compare(world, of, left, comparator, right)
        assert is_var_sub_error(world)

    @cases("comparator", [C.EQUALS, C.NOT_EQUALS])
    @cases(
        ("of", "left", "right"),
        [
            (INTS, array(1), val([1])),
            (INTS, array(1), val(1)),
            (INTS, array(), mapping({})),
            (COUNTS, mapping({"a": 1}), val({"a": 1})),
            (PERSON, ANN, val({"name": "Ann"})),
            (PERSON, ANN, val("Ann")),
            (STR, val("a"), array("a", of=STR)),
        ],
    )
    def test_different_kinds_are_var_sub_error(
        self, world: World, of: TypeDefinition, left: VariableValue, comparator: Comparator, right: VariableValue
    ) -> None:
        self.compare(world, of, left, comparator, right)
        assert is_var_sub_error(world)

    @cases(
        ("of", "left", "right", "found"),
        [
            (STR, val("b"), array("a", "b", of=STR), True),
            (STR, val("c"), array("a", "b", of=STR), False),
            (STR, val("a"), array(of=STR), False),
            (INT, val(2), array(1, 2, of=INT), True),
            (INT, val(3), array(1, 2, of=INT), False),
            (INTS, array(2), array(array(1, of=INT), array(2, of=INT), of=INTS), True),
            (ADDRESS, ELM, array(struct("address", street="Oak"), ELM, of=struct_of("address", 0)), True),
            (ADDRESS, ELM, array(struct("address", street="Oak"), of=struct_of("address", 0)), False),
            (STR, val("a"), mapping({"a": 1, "b": 2}, of=COUNTS), True),
            (STR, val("c"), mapping({"a": 1, "b": 2}, of=COUNTS), False),
            (STR, val("1"), mapping({"a": "1"}, of=map_of(STR, STR)), False),
            (INT, val(1), mapping({1: "x"}, of=map_of(INT, STR)), True),
            (INT, val(2), mapping({1: "x"}, of=map_of(INT, STR)), False),
        ],
    )
    def test_in(self, world: World, of: TypeDefinition, left: VariableValue, right: VariableValue, found: bool) -> None:
        inside, outside = (compared(variable("v"), one, received()) for one in (C.IN, C.NOT_IN))
        mutations = [mutation("inside", M.ASSIGN, inside), mutation("outside", M.ASSIGN, outside)]
        mutate(world, {"v": of, "inside": BOOL, "outside": BOOL}, mutations, right, v=left)
        assert python(world, "inside") is found
        assert python(world, "outside") is not found

    @cases("comparator", [C.IN, C.NOT_IN])
    @cases("container", [ANN, NULL])
    def test_in_a_struct_or_null_is_var_sub_error(
        self, world: World, comparator: Comparator, container: VariableValue
    ) -> None:
        put_mutations(
            world,
            {"v": PERSON, "result": BOOL},
            mutation("result", M.ASSIGN, compared(literal("name"), comparator, variable("v"))),
        )
        start(world, v=container)
        world.post("in")
        assert is_var_sub_error(world)


INT_NAMES = map_of(INT, STR)

MUTATIONS: list[tuple[TypeDefinition, VariableValue, VariableMutationType, VariableValue, Any]] = [
    # declared type, left, operation, right, result
    (INTS, array(1, 2), M.ASSIGN, array(3, of=INT), [3]),
    (INTS, NULL, M.ASSIGN, array(3, of=INT), [3]),
    (INTS, array(1, 2), M.ASSIGN, array(), []),
    (INTS, array(1, 2), M.ASSIGN, NULL, None),
    (array_of(INTS), NULL, M.ASSIGN, array(array(1, of=INT), of=INTS), [[1]]),
    (COUNTS, mapping({"a": 1}), M.ASSIGN, mapping({"b": 2}, of=COUNTS), {"b": 2}),
    (COUNTS, mapping({"a": 1}), M.ASSIGN, mapping({}), {}),
    (COUNTS, mapping({"a": 1}), M.ASSIGN, NULL, None),
    (ADDRESS, ELM, M.ASSIGN, struct("address", street="Oak"), {"street": "Oak"}),
    (ADDRESS, ELM, M.ASSIGN, NULL, None),
    (INTS, array(1, 2), M.EXTEND, array(2, 3, of=INT), [1, 2, 2, 3]),
    (INTS, array(1), M.EXTEND, array(of=INT), [1]),
    (INTS, array(), M.EXTEND, array(1, of=INT), [1]),
    (INTS, array(1), M.EXTEND, val(2), [1, 2]),
    (INTS, array(1), M.EXTEND, val(2.9), [1, 2]),
    (INTS, array(1), M.EXTEND, val("2"), [1, 2]),
    (DOUBLES, array(1.5), M.EXTEND, val(2), [1.5, 2.0]),
    (STRS, array("a"), M.EXTEND, val("b"), ["a", "b"]),
    (STRS, array("a"), M.EXTEND, val(5), ["a", "5"]),
    (STRS, array("a"), M.EXTEND, val(1e7), ["a", "1.0E7"]),
    (array_of(INTS), array(array(1)), M.EXTEND, array(2, 3, of=INT), [[1], [2, 3]]),
    (array_of(INTS), array(array(1)), M.EXTEND, array(array(2, of=INT), of=INTS), [[1], [2]]),
    (array_of(ADDRESS), array(ELM), M.EXTEND, struct("address", street="Oak"), [{"street": "Elm"}, {"street": "Oak"}]),
    (COUNTS, mapping({"a": 1, "b": 2}), M.EXTEND, mapping({"c": 3, "a": 9}, of=COUNTS), {"a": 9, "b": 2, "c": 3}),
    (COUNTS, mapping({}), M.EXTEND, mapping({"b": 1, "a": 2}, of=COUNTS), {"b": 1, "a": 2}),
    (COUNTS, mapping({"a": 1}), M.EXTEND, mapping({}, of=COUNTS), {"a": 1}),
    (INTS, array(1, 2, 1, 3), M.REMOVE_IF_PRESENT, val(1), [2, 3]),
    (INTS, array(1, 2), M.REMOVE_IF_PRESENT, val(3), [1, 2]),
    (INTS, array(1, 2), M.REMOVE_IF_PRESENT, val("2"), [1]),
    (INTS, array(1, 2), M.REMOVE_IF_PRESENT, val(2.9), [1]),
    (INTS, array(), M.REMOVE_IF_PRESENT, val(1), []),
    (DOUBLES, array(1.0, 1.5), M.REMOVE_IF_PRESENT, val(1), [1.5]),
    (STRS, array("1", "2"), M.REMOVE_IF_PRESENT, val(1), ["2"]),
    (array_of(INTS), array(array(1), array(2)), M.REMOVE_IF_PRESENT, array(1, of=INT), [[2]]),
    (INTS, array(5, 6, 7), M.REMOVE_INDEX, val(0), [6, 7]),
    (INTS, array(5, 6, 7), M.REMOVE_INDEX, val(2), [5, 6]),
    (COUNTS, mapping({"a": 1, "b": 2, "c": 3}), M.REMOVE_KEY, val("b"), {"a": 1, "c": 3}),
    (COUNTS, mapping({"a": 1}), M.REMOVE_KEY, val("x"), {"a": 1}),
    (INT_NAMES, mapping({1: "x", 2: "y"}), M.REMOVE_KEY, val(1), {2: "y"}),
]

NO_MUTATIONS: list[tuple[TypeDefinition, VariableValue, VariableMutationType, VariableValue]] = [
    (INTS, array(1), M.ASSIGN, array("a", of=STR)),
    (INTS, array(1), M.ASSIGN, val([1])),
    (INTS, array(1), M.ASSIGN, val(1)),
    (INTS, array(1), M.ASSIGN, mapping({"a": 1}, of=COUNTS)),
    (INTS, array(1), M.ASSIGN, ANN),
    (DOUBLES, NULL, M.ASSIGN, array(1, of=INT)),
    (array_of(INTS), NULL, M.ASSIGN, array(array("a", of=STR), of=STRS)),
    (COUNTS, NULL, M.ASSIGN, mapping({"a": "x"}, of=map_of(STR, STR))),
    (COUNTS, NULL, M.ASSIGN, mapping({1: 1}, of=map_of(INT, INT))),
    (COUNTS, NULL, M.ASSIGN, val({"a": 1})),
    (COUNTS, NULL, M.ASSIGN, array(1, of=INT)),
    (ADDRESS, NULL, M.ASSIGN, ANN),
    (ADDRESS, NULL, M.ASSIGN, val({"street": "Elm"})),
    (ADDRESS, NULL, M.ASSIGN, val("Elm")),
    (ADDRESS, NULL, M.ASSIGN, mapping({"street": "Elm"}, of=map_of(STR, STR))),
    (STR, NULL, M.ASSIGN, array("a", of=STR)),
    (STR, NULL, M.ASSIGN, mapping({"a": 1}, of=COUNTS)),
    (STR, NULL, M.ASSIGN, ANN),
    (JSON_ARR, NULL, M.ASSIGN, array(1, of=INT)),
    (JSON_OBJ, NULL, M.ASSIGN, mapping({"a": 1}, of=COUNTS)),
    (JSON_OBJ, NULL, M.ASSIGN, ANN),
    (INT, NULL, M.ASSIGN, array(1, of=INT)),
    (BYTES, NULL, M.ASSIGN, array(1, of=INT)),
    (WF_RUN_ID, NULL, M.ASSIGN, ANN),
    (INTS, array(1), M.EXTEND, val("two")),
    (INTS, array(1), M.EXTEND, array("a", of=STR)),
    (INTS, array(1), M.EXTEND, val([2])),
    (INTS, array(1), M.EXTEND, ANN),
    (INTS, NULL, M.EXTEND, val(1)),
    (INTS, NULL, M.EXTEND, array(1, of=INT)),
    (COUNTS, mapping({"a": 1}), M.EXTEND, val(1)),
    (COUNTS, mapping({"a": 1}), M.EXTEND, val({"b": 1})),
    (COUNTS, mapping({"a": 1}), M.EXTEND, array(1, of=INT)),
    (COUNTS, NULL, M.EXTEND, mapping({"a": 1}, of=COUNTS)),
    (JSON_ARR, val([1]), M.EXTEND, array(1, of=INT)),
    (JSON_ARR, val([1]), M.ADD, array(1, of=INT)),
    (STR, val("a"), M.ADD, array("b", of=STR)),
    (STR, val("a"), M.ADD, ANN),
    (INT, val(1), M.ADD, array(1, of=INT)),
    (INTS, array(1), M.REMOVE_IF_PRESENT, val("two")),
    (INTS, NULL, M.REMOVE_IF_PRESENT, val(1)),
    (INTS, array(5), M.REMOVE_INDEX, val(1)),
    (INTS, array(5), M.REMOVE_INDEX, val(-1)),
    (INTS, array(), M.REMOVE_INDEX, val(0)),
    (INTS, array(5), M.REMOVE_INDEX, val("0")),
    (INTS, NULL, M.REMOVE_INDEX, val(0)),
    (COUNTS, NULL, M.REMOVE_KEY, val("a")),
]

ITEMS = array(1, 2, of=INT)
ENTRIES = mapping({"a": 1}, of=COUNTS)


class TestMutations:
    """execution.md 8.8; the right side is what was received, so that registration knows nothing of it."""

    @cases(("declared", "left", "operation", "right", "expected"), MUTATIONS)
    def test_result(
        self,
        world: World,
        declared: TypeDefinition,
        left: VariableValue,
        operation: VariableMutationType,
        right: VariableValue,
        expected: Any,
    ) -> None:
        mutate(world, {"v": declared}, [mutation("v", operation, received())], right, v=left)
        assert wf_run(world).status == COMPLETED
        assert same(world.variable("v"), expected)

    @cases(("declared", "left", "operation", "right"), NO_MUTATIONS)
    def test_no_result_is_var_sub_error_and_changes_nothing(
        self,
        world: World,
        declared: TypeDefinition,
        left: VariableValue,
        operation: VariableMutationType,
        right: VariableValue,
    ) -> None:
        mutate(world, {"v": declared}, [mutation("v", operation, received())], right, v=left)
        assert is_var_sub_error(world)
        assert same(world.variable("v"), plain(left))

    @cases(
        ("left", "operation", "right"),
        [
            (ITEMS, M.ADD, 3),
            (ITEMS, M.SUBTRACT, 1),
            (ITEMS, M.MULTIPLY, 2),
            (ITEMS, M.REMOVE_KEY, "a"),
            (ITEMS, M.AND, True),
            (ENTRIES, M.ADD, 1),
            (ENTRIES, M.REMOVE_IF_PRESENT, 1),
            (ENTRIES, M.REMOVE_INDEX, 0),
            (ENTRIES, M.OR, True),
            (ANN, M.ADD, "x"),
            (ANN, M.EXTEND, ANN),
            (ANN, M.REMOVE_KEY, "name"),
            (ANN, M.REMOVE_IF_PRESENT, "Ann"),
            (ANN, M.REMOVE_INDEX, 0),
        ],
    )
    def test_any_other_combination_is_var_sub_error(
        self, world: World, left: VariableValue, operation: VariableMutationType, right: Any
    ) -> None:
        into = BOOL if operation in (M.AND, M.OR) else JSON_OBJ
        assign(world, into, computed(received(), operation, literal(right)), left)
        assert is_var_sub_error(world)

    @cases(
        ("of", "value", "operation", "right", "expected"),
        [
            (INTS, array(1), M.EXTEND, literal(2), [1, 2]),
            (INTS, array(1), M.EXTEND, variable("v"), [1, 1]),
            (INTS, array(1, 2), M.REMOVE_IF_PRESENT, literal(1), [2]),
            (INTS, array(1, 2), M.REMOVE_INDEX, literal(1), [1]),
            (COUNTS, mapping({"a": 1}), M.REMOVE_KEY, literal("a"), {}),
            (COUNTS, mapping({"a": 1}), M.EXTEND, literal(mapping({"b": 2}, of=COUNTS)), {"a": 1, "b": 2}),
        ],
    )
    def test_expression(
        self,
        world: World,
        of: TypeDefinition,
        value: VariableValue,
        operation: VariableMutationType,
        right: VariableAssignment,
        expected: Any,
    ) -> None:
        assign(world, of, computed(variable("v"), operation, right), of=of, v=value)
        assert same(world.variable("result"), expected)
        assert same(world.variable("v"), plain(value))

    def test_later_mutation_sees_the_earlier_one(self, world: World) -> None:
        mutations = [mutation("v", M.EXTEND, literal(2)), mutation("size", M.ASSIGN, size_of(variable("v")))]
        mutate(world, {"v": INTS, "size": INT}, mutations, v=array(1))
        assert python(world, "size") == 2

    def test_nothing_is_applied_when_a_later_mutation_fails(self, world: World) -> None:
        mutations = [mutation("v", M.EXTEND, literal(2)), mutation("v", M.REMOVE_INDEX, literal(9))]
        mutate(world, {"v": INTS}, mutations, v=array(1))
        assert is_var_sub_error(world)
        assert same(world.variable("v"), [1])

    def test_assigned_struct_must_have_the_same_version(self, world: World) -> None:
        put_mutations(world, {"v": PERSON}, mutation("v", M.ASSIGN, received()))
        put_struct(world, "person", PERSON_FIELDS, "another version")
        start(world)
        world.post("in", struct("person", 1, name="Ann"))
        assert is_var_sub_error(world)

    @cases(("declared", "value"), [(INTS, ITEMS), (COUNTS, ENTRIES), (PERSON, ANN)])
    def test_json_path_on_the_left_is_var_sub_error(
        self, world: World, declared: TypeDefinition, value: VariableValue
    ) -> None:
        place = mutation("v", M.ASSIGN, literal(1))
        place.lhs_json_path = "$.a"
        mutate(world, {"v": declared}, [place], v=value)
        assert is_var_sub_error(world)

    @cases(("declared", "value"), [(INTS, ITEMS), (COUNTS, ENTRIES), (PERSON, struct("person", name="Ann"))])
    def test_old_literal_value_on_the_right(self, world: World, declared: TypeDefinition, value: VariableValue) -> None:
        mutate(world, {"v": declared}, [VariableMutation(lhs_name="v", operation=M.ASSIGN, literal_value=value)])
        assert same(world.variable("v"), plain(value))

    def test_masked_field_is_computed_with_its_real_value(self, world: World) -> None:
        person = struct("person", name="Ann", secret="key")
        assign(world, STR, at(variable("v"), "secret"), of=PERSON, v=person)
        assert python(world, "result") == "key"

    def test_loop_fills_an_array(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            items, count = wf.add_variable("items", VariableType.JSON_ARR), wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                count.assign(count.add(1))
                wf.mutate(items, M.EXTEND, count)

            wf.do_while(count.is_less_than(3), round_)

        request = Workflow("wf", body).compile()
        entry(request).variable_defs[0].var_def.type_def.CopyFrom(INTS)
        world.submit(request)
        start(world, items=array())
        assert same(world.variable("items"), [1, 2, 3])
