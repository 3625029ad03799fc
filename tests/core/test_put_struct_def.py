"""PutStructDef and what refers to StructDefs, Arrays and Maps at registration: api.md 4.1, 4.2 and 5.2 to 5.7.

Not tested: ValidateStructDefEvolution, GetStructDef and SearchStructDef (reads, not commands), masks in replies (of the
API), a frozen variable whose StructDef has a newer version, and a key for an Array or an index for a Struct or Map in
an lh_path (the spec leaves these open).
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from littlehorse.model import (
    Array,
    Comparator,
    InlineStruct,
    InlineStructBuilder,
    InlineStructDef,
    InlineStructFieldValue,
    LHPath,
    PutExternalEventDefRequest,
    PutStructDefRequest,
    PutTaskDefRequest,
    PutWfSpecRequest,
    PutWorkflowEventDefRequest,
    ReturnType,
    Struct,
    StructBuilder,
    StructDef,
    StructDefCompatibilityType,
    StructDefId,
    StructField,
    StructFieldDef,
    TaskDef,
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
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.core import kinds
from lhd.errors import Code
from tests.core.shapes import array_of, compiled, entry, map_of, put_event_def, refused, struct_of, variable
from tests.core.world import World

INT, DOUBLE, STR, BOOL, BYTES, JSON_OBJ, JSON_ARR, TIMESTAMP, WF_RUN_ID = (
    TypeDefinition(primitive_type=kind)
    for kind in (
        VariableType.INT,
        VariableType.DOUBLE,
        VariableType.STR,
        VariableType.BOOL,
        VariableType.BYTES,
        VariableType.JSON_OBJ,
        VariableType.JSON_ARR,
        VariableType.TIMESTAMP,
        VariableType.WF_RUN_ID,
    )
)
M = VariableMutationType
C = Comparator
NULL = VariableValue()
NO_UPDATES = StructDefCompatibilityType.NO_SCHEMA_UPDATES
COMPATIBLE = StructDefCompatibilityType.FULLY_COMPATIBLE_SCHEMA_UPDATES
ENTRYPOINT = "0-entrypoint-ENTRYPOINT"

Fields = dict[str, StructFieldDef]


INTS, STRS, DOUBLES = array_of(INT), array_of(STR), array_of(DOUBLE)
COUNTS, NAMES, TEXTS = map_of(STR, INT), map_of(INT, STR), map_of(STR, STR)
PERSON, ADDRESS = struct_of("person"), struct_of("address")


def shown(value: Any) -> str | None:
    """What stands for a type in the name of a test."""
    if not isinstance(value, TypeDefinition):
        return None
    match value.WhichOneof("defined_type"):
        case "struct_def_id":
            return value.struct_def_id.name
        case "inline_array_def":
            return f"Array<{shown(value.inline_array_def.array_type)}>"
        case "inline_map_def":
            return f"Map<{shown(value.inline_map_def.key_type)},{shown(value.inline_map_def.value_type)}>"
        case "primitive_type":
            return VariableType.Name(value.primitive_type)
        case _:
            return "empty"


def cases(names: str | tuple[str, ...], rows: Iterable[Any]) -> pytest.MarkDecorator:
    """A table of cases with readable names."""
    return pytest.mark.parametrize(names, rows, ids=shown)


def field(kind: TypeDefinition, default: Any = ..., *, nullable: bool = False) -> StructFieldDef:
    """A field; required unless it has a default or is nullable."""
    if default is ...:
        return StructFieldDef(field_type=kind, is_nullable=nullable)
    value = default if isinstance(default, VariableValue) else to_variable_value(default)
    return StructFieldDef(field_type=kind, default_value=value, is_nullable=nullable)


def put_struct(
    world: World,
    fields: Fields,
    name: str = "person",
    *,
    description: str | None = None,
    allowed: StructDefCompatibilityType = NO_UPDATES,
) -> StructDef:
    reply: StructDef = world.submit(
        PutStructDefRequest(
            name=name, description=description, struct_def=InlineStructDef(fields=fields), allowed_updates=allowed
        )
    )
    return reply


def stored(world: World, version: int = 0, name: str = "person") -> StructDef | None:
    return world.find(kinds.STRUCT_DEF, name, version)


NAME = {"name": field(STR)}


@pytest.fixture
def world() -> World:
    return World()


class TestNames:
    """api.md 3.1 and 4.2."""

    @pytest.mark.parametrize("name", ["a", "A", "7", "my-def", "0-a", "a--b"])
    def test_good_name(self, world: World, name: str) -> None:
        assert put_struct(world, NAME, name).id == StructDefId(name=name, version=0)

    @pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a_b", "a.b", "a/b", "ä", "a\n", "-"])
    def test_bad_name(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, NAME, name)

    @pytest.mark.parametrize("name", ["a", "aB", "a1", "streetAddress2", "x9y"])
    def test_good_field_name(self, world: World, name: str) -> None:
        assert list(put_struct(world, {name: field(STR)}).struct_def.fields) == [name]

    @pytest.mark.parametrize(
        ("name", "fragment"),
        [
            ("1name", "first character must be a letter"),
            ("_name", "first character must be a letter"),
            ("-name", "first character must be a letter"),
            (" name", "first character must be a letter"),
            ("1_Name", "first character must be a letter"),
            ("Name", "first letter must be lowercase"),
            ("N", "first letter must be lowercase"),
            ("My_name", "first letter must be lowercase"),
            ("My-name", "first letter must be lowercase"),
            ("my_name", "cannot include underscores"),
            ("name_", "cannot include underscores"),
            ("my_na-me", "cannot include underscores"),
            ("my-na_me", "cannot include underscores"),
            ("my-name", "cannot include special characters"),
            ("my name", "cannot include special characters"),
            ("my.name", "cannot include special characters"),
            ("name!", "cannot include special characters"),
        ],
    )
    def test_bad_field_name(self, world: World, name: str, fragment: str) -> None:
        with refused(Code.INVALID_ARGUMENT, fragment):
            put_struct(world, {"fine": field(STR), name: field(STR)})
        assert stored(world) is None

    def test_empty_field_name(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, {"": field(STR)})


class TestFieldTypes:
    """api.md 4.2."""

    @cases(
        "kind",
        [
            INT,
            DOUBLE,
            STR,
            BOOL,
            BYTES,
            TIMESTAMP,
            WF_RUN_ID,
            INTS,
            COUNTS,
            array_of(array_of(STR)),
            map_of(STR, array_of(INT)),
        ],
    )
    def test_type_is_kept(self, world: World, kind: TypeDefinition) -> None:
        assert put_struct(world, {"f": field(kind)}).struct_def.fields["f"].field_type == kind

    def test_mask_is_kept(self, world: World) -> None:
        masked = TypeDefinition(primitive_type=VariableType.STR, masked=True)
        assert put_struct(world, {"f": field(masked)}).struct_def.fields["f"].field_type == masked

    @pytest.mark.parametrize("json_type", [JSON_OBJ, JSON_ARR], ids=shown)
    @pytest.mark.parametrize(
        "inside",
        [
            lambda kind: kind,
            array_of,
            lambda kind: array_of(array_of(kind)),
            lambda kind: map_of(STR, kind),
            lambda kind: map_of(STR, array_of(kind)),
            lambda kind: array_of(map_of(STR, kind)),
        ],
        ids=["plain", "array", "array in array", "map", "array in map", "map in array"],
    )
    def test_json_is_forbidden_anywhere(
        self, world: World, json_type: TypeDefinition, inside: Callable[[TypeDefinition], TypeDefinition]
    ) -> None:
        with refused(Code.INVALID_ARGUMENT, f"Forbidden JSON type: {shown(json_type)}"):
            put_struct(world, {"fine": field(STR), "f": field(inside(json_type))})
        assert stored(world) is None

    def test_empty_type_is_json_and_forbidden_too(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT, "Forbidden JSON type: JSON_OBJ"):
            put_struct(world, {"f": field(TypeDefinition())})

    def test_optional_json_is_forbidden_too(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT, "Forbidden JSON type: JSON_OBJ"):
            put_struct(world, {"f": field(JSON_OBJ, nullable=True)})


def address(**fields: Any) -> VariableValue:
    inline = InlineStruct(fields={name: StructField(value=to_variable_value(value)) for name, value in fields.items()})
    return VariableValue(struct=Struct(struct_def_id=StructDefId(name="address", version=0), struct=inline))


def array(*items: Any) -> VariableValue:
    return VariableValue(array=Array(items=[to_variable_value(item) for item in items]))


class TestDefaults:
    """api.md 4.2."""

    @cases(
        ("kind", "default"),
        [(INT, 1), (DOUBLE, 1), (STR, "a"), (STR, 1), (BOOL, False), (INTS, array(1, 2)), (INTS, array())],
    )
    def test_default_that_fits(self, world: World, kind: TypeDefinition, default: Any) -> None:
        assert put_struct(world, {"f": field(kind, default)}).struct_def.fields["f"].HasField("default_value")

    @cases(
        ("kind", "default"),
        [
            (INT, "1"),
            (INT, 1.5),
            (BOOL, "true"),
            (STR, [1]),
            (STR, {}),
            (INTS, array(1, "two")),
            (INTS, 1),
            (INT, array()),
        ],
    )
    def test_default_that_does_not_fit(self, world: World, kind: TypeDefinition, default: Any) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, {"f": field(kind, default)})
        assert stored(world) is None

    def test_null_default_of_a_nullable_field(self, world: World) -> None:
        reply = put_struct(world, {"f": field(STR, NULL, nullable=True)})
        assert reply.struct_def.fields["f"].is_nullable

    def test_null_default_of_a_field_that_is_not_nullable(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, {"f": field(STR, NULL)})

    def test_default_of_a_nested_struct(self, world: World) -> None:
        put_struct(world, {"street": field(STR)}, "address")
        put_struct(world, {"home": field(ADDRESS, address(street="Elm"))})

    @pytest.mark.parametrize("fields", [{}, {"street": [1]}, {"street": None}])
    def test_default_of_a_nested_struct_that_does_not_fit(self, world: World, fields: dict[str, Any]) -> None:
        put_struct(world, {"street": field(STR)}, "address")
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, {"home": field(ADDRESS, address(**fields))})


class TestVersions:
    """api.md 4.2."""

    def test_reply_is_the_stored_definition(self, world: World) -> None:
        fields = {"name": field(STR), "age": field(INT, nullable=True), "nickname": field(STR, "none")}
        reply = put_struct(world, fields, description="who")
        assert reply.id == StructDefId(name="person", version=0)
        assert reply.description == "who"
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert reply.struct_def == InlineStructDef(fields=fields)
        assert stored(world) == reply

    def test_same_again_returns_the_stored_one(self, world: World) -> None:
        first = put_struct(world, NAME, description="who")
        world.now_ms += 1000
        assert put_struct(world, NAME, description="who") == first
        assert stored(world, 1) is None

    @pytest.mark.parametrize("allowed", [NO_UPDATES, COMPATIBLE])
    def test_another_description_is_a_new_version(self, world: World, allowed: StructDefCompatibilityType) -> None:
        first = put_struct(world, NAME, description="who")
        world.now_ms += 1000
        reply = put_struct(world, NAME, description="a human", allowed=allowed)
        assert reply.id.version == 1
        assert reply.description == "a human"
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert stored(world, 0) == first

    def test_only_the_latest_is_compared(self, world: World) -> None:
        put_struct(world, NAME, description="a")
        put_struct(world, NAME, description="b")
        assert put_struct(world, NAME, description="a").id.version == 2

    def test_names_have_versions_of_their_own(self, world: World) -> None:
        put_struct(world, NAME, description="a")
        put_struct(world, NAME, description="b")
        assert put_struct(world, NAME, "address").id.version == 0

    def test_same_again_with_a_nested_struct_is_compared_after_pinning(self, world: World) -> None:
        put_struct(world, NAME, "address")
        first = put_struct(world, {"home": field(ADDRESS)})
        assert put_struct(world, {"home": field(ADDRESS)}) == first
        assert put_struct(world, {"home": field(struct_of("address", 0))}) == first

    def test_newer_nested_struct_is_a_changed_schema(self, world: World) -> None:
        put_struct(world, NAME, "address")
        put_struct(world, {"home": field(ADDRESS)})
        put_struct(world, NAME, "address", description="another version")
        with refused(Code.INVALID_ARGUMENT, "field(s): [home]"):
            put_struct(world, {"home": field(ADDRESS)})

    def test_refused_put_stores_nothing(self, world: World) -> None:
        first = put_struct(world, NAME)
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, {"name": field(INT)}, description="another", allowed=COMPATIBLE)
        assert stored(world, 1) is None
        assert put_struct(world, NAME) == first


OPTIONAL = NAME | {"age": field(INT, nullable=True)}
DEFAULTED = NAME | {"age": field(INT, 7)}
REQUIRED = NAME | {"age": field(INT)}
MASKED = NAME | {"age": StructFieldDef(field_type=TypeDefinition(primitive_type=VariableType.INT, masked=True))}


class TestEvolution:
    """api.md 4.2, allowed_updates."""

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (NAME, OPTIONAL),
            (NAME, DEFAULTED),
            (NAME, REQUIRED),
            (OPTIONAL, NAME),
            (REQUIRED, NAME),
            (REQUIRED, NAME | {"age": field(STR)}),
            (REQUIRED, OPTIONAL),
            (OPTIONAL, REQUIRED),
            (OPTIONAL, DEFAULTED),
            (DEFAULTED, NAME | {"age": field(INT, 8)}),
            (REQUIRED, MASKED),
        ],
        ids=[
            "nullable added",
            "default added",
            "required added",
            "nullable removed",
            "required removed",
            "type",
            "required to nullable",
            "nullable to required",
            "nullable to default",
            "default",
            "mask",
        ],
    )
    def test_no_updates_refuse_every_change(self, world: World, before: Fields, after: Fields) -> None:
        put_struct(world, before)
        with refused(Code.INVALID_ARGUMENT, "field(s): [age]", "NO_SCHEMA_UPDATES compatibility type"):
            put_struct(world, after)
        assert stored(world, 1) is None

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (NAME, OPTIONAL),
            (NAME, DEFAULTED),
            (OPTIONAL, NAME),
            (DEFAULTED, NAME),
            (OPTIONAL, DEFAULTED),
            (DEFAULTED, NAME | {"age": field(INT, 8)}),
            (OPTIONAL, NAME | {"years": field(INT, nullable=True)}),
            (OPTIONAL, NAME | {"age": field(STR, nullable=True)}),
        ],
        ids=[
            "nullable added",
            "default added",
            "nullable removed",
            "default removed",
            "nullable to default",
            "default",
            "optional replaced",
            "type of optional",
        ],
    )
    def test_compatible_update_is_the_next_version(self, world: World, before: Fields, after: Fields) -> None:
        first = put_struct(world, before)
        reply = put_struct(world, after, allowed=COMPATIBLE)
        assert reply.id.version == 1
        assert reply.struct_def == InlineStructDef(fields=after)
        assert stored(world, 0) == first
        assert stored(world, 1) == reply

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (NAME, REQUIRED),
            (REQUIRED, NAME),
            (REQUIRED, OPTIONAL),
            (REQUIRED, DEFAULTED),
            (REQUIRED, NAME | {"age": field(STR)}),
            (OPTIONAL, REQUIRED),
            (DEFAULTED, REQUIRED),
        ],
        ids=[
            "required added",
            "required removed",
            "required to nullable",
            "required to default",
            "type of required",
            "nullable to required",
            "default to required",
        ],
    )
    def test_incompatible_update_is_refused(self, world: World, before: Fields, after: Fields) -> None:
        put_struct(world, before)
        with refused(Code.INVALID_ARGUMENT, "field(s): [age]", "FULLY_COMPATIBLE_SCHEMA_UPDATES compatibility type"):
            put_struct(world, after, allowed=COMPATIBLE)
        assert stored(world, 1) is None

    def test_every_offending_field_is_named(self, world: World) -> None:
        put_struct(world, REQUIRED)
        with refused(Code.INVALID_ARGUMENT, "field(s): [", "name", "age"):
            put_struct(world, {"other": field(STR, nullable=True)}, allowed=COMPATIBLE)

    def test_first_version_needs_no_permission(self, world: World) -> None:
        assert put_struct(world, NAME, allowed=COMPATIBLE).id.version == 0

    def test_update_is_compared_with_the_latest(self, world: World) -> None:
        put_struct(world, NAME)
        put_struct(world, OPTIONAL, allowed=COMPATIBLE)
        assert put_struct(world, NAME, allowed=COMPATIBLE).id.version == 2

    def test_new_description_does_not_excuse_a_changed_schema(self, world: World) -> None:
        put_struct(world, NAME)
        with refused(Code.INVALID_ARGUMENT):
            put_struct(world, OPTIONAL, description="another")


# What refers to a StructDef.


def declare(
    name: str, kind: TypeDefinition, access: WfRunVariableAccessLevel = WfRunVariableAccessLevel.PRIVATE_VAR
) -> ThreadVarDef:
    return ThreadVarDef(var_def=VariableDef(name=name, type_def=kind), access_level=access)


def request_with(*variables: ThreadVarDef) -> PutWfSpecRequest:
    """A workflow that only has variables."""
    request = compiled(lambda _: None)
    entry(request).variable_defs.extend(variables)
    return request


def in_task_input(world: World, kind: TypeDefinition) -> TypeDefinition:
    request = PutTaskDefRequest(name="t", input_vars=[VariableDef(name="a", type_def=kind)])
    return world.submit(request).input_vars[0].type_def  # type: ignore[no-any-return]


def in_task_output(world: World, kind: TypeDefinition) -> TypeDefinition:
    request = PutTaskDefRequest(name="t", return_type=ReturnType(return_type=kind))
    return world.submit(request).return_type.return_type  # type: ignore[no-any-return]


def in_external_event(world: World, kind: TypeDefinition) -> TypeDefinition:
    request = PutExternalEventDefRequest(name="e", content_type=ReturnType(return_type=kind))
    return world.submit(request).type_information.return_type  # type: ignore[no-any-return]


def in_workflow_event(world: World, kind: TypeDefinition) -> TypeDefinition:
    request = PutWorkflowEventDefRequest(name="w", content_type=ReturnType(return_type=kind))
    return world.submit(request).content_type.return_type  # type: ignore[no-any-return]


def in_struct_field(world: World, kind: TypeDefinition) -> TypeDefinition:
    return put_struct(world, {"f": field(kind)}, "holder").struct_def.fields["f"].field_type


def in_variable(world: World, kind: TypeDefinition) -> TypeDefinition:
    spec: WfSpec = world.submit(request_with(declare("v", kind)))
    return spec.thread_specs["entrypoint"].variable_defs[0].var_def.type_def


PLACES = [in_task_input, in_task_output, in_external_event, in_workflow_event, in_struct_field, in_variable]
SHAPES = {
    "plain": lambda kind: kind,
    "array": array_of,
    "array in array": lambda kind: array_of(array_of(kind)),
    "map": lambda kind: map_of(STR, kind),
    "array in map": lambda kind: map_of(INT, array_of(kind)),
}
Place = Callable[[World, TypeDefinition], TypeDefinition]
Shape = Callable[[TypeDefinition], TypeDefinition]


class TestPinning:
    """api.md 3.2 and 4.1: version -1 means latest, and what is stored and returned has the concrete version."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        put_struct(world, NAME)
        put_struct(world, NAME, description="another version")
        return world

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_latest_is_pinned(self, world: World, place: Place, shape: Shape) -> None:
        assert place(world, shape(PERSON)) == shape(struct_of("person", 1))

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_named_version_is_kept(self, world: World, place: Place, shape: Shape) -> None:
        assert place(world, shape(struct_of("person", 0))) == shape(struct_of("person", 0))

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_missing_struct_def(self, world: World, place: Place, shape: Shape) -> None:
        with refused(Code.INVALID_ARGUMENT, "refers to non-existent StructDef nobody"):
            place(world, shape(struct_of("nobody")))

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_missing_version(self, world: World, place: Place, shape: Shape) -> None:
        with refused(Code.INVALID_ARGUMENT, "refers to non-existent StructDef person"):
            place(world, shape(struct_of("person", 2)))

    def test_variables_of_every_thread_are_pinned(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.declare_struct("v", "person")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")

        spec: WfSpec = world.submit(compiled(body))
        assert spec.thread_specs["child"].variable_defs[0].var_def.type_def == struct_of("person", 1)

    def test_task_def_again_after_a_newer_version_is_another_definition(self, world: World) -> None:
        request = PutTaskDefRequest(name="t", input_vars=[VariableDef(name="a", type_def=PERSON)])
        first: TaskDef = world.submit(request)
        assert world.submit(request) == first
        put_struct(world, NAME, description="newer")
        with refused(Code.ALREADY_EXISTS):
            world.submit(request)

    def test_external_event_def_again_takes_the_newer_version(self, world: World) -> None:
        in_external_event(world, PERSON)
        put_struct(world, NAME, description="newer")
        assert in_external_event(world, PERSON) == struct_of("person", 2)

    def test_workflow_event_def_again_after_a_newer_version_is_another_definition(self, world: World) -> None:
        in_workflow_event(world, PERSON)
        in_workflow_event(world, PERSON)
        put_struct(world, NAME, description="newer")
        with refused(Code.ALREADY_EXISTS):
            in_workflow_event(world, PERSON)

    def test_wf_spec_again_is_the_stored_one(self, world: World) -> None:
        first: WfSpec = world.submit(request_with(declare("v", PERSON)))
        assert world.submit(request_with(declare("v", PERSON))) == first
        assert world.submit(request_with(declare("v", struct_of("person", 1)))) == first

    def test_wf_spec_again_after_a_newer_version_is_a_revision(self, world: World) -> None:
        world.submit(request_with(declare("v", array_of(PERSON))))
        put_struct(world, NAME, description="newer")
        spec: WfSpec = world.submit(request_with(declare("v", array_of(PERSON))))
        assert (spec.id.major_version, spec.id.revision) == (0, 1)


class TestMapKeys:
    """api.md 3.2 and 5.2."""

    @cases("key", [INT, STR, BOOL, DOUBLE, TIMESTAMP, WF_RUN_ID])
    def test_key_type(self, world: World, key: TypeDefinition) -> None:
        assert in_variable(world, map_of(key, STR)) == map_of(key, STR)

    @cases("key", [JSON_OBJ, JSON_ARR, BYTES, STRS, COUNTS, PERSON, TypeDefinition()])
    def test_no_key_type(self, world: World, key: TypeDefinition) -> None:
        put_struct(world, NAME)
        with refused(Code.INVALID_ARGUMENT):
            in_variable(world, map_of(key, STR))
        assert world.find(kinds.WF_SPEC, "wf", 0, 0) is None

    @pytest.mark.parametrize(
        "inside",
        [array_of, lambda kind: map_of(STR, kind), lambda kind: array_of(map_of(STR, kind))],
        ids=["array", "map", "map in array"],
    )
    def test_key_types_inside(self, world: World, inside: Shape) -> None:
        in_variable(world, inside(NAMES))
        with refused(Code.INVALID_ARGUMENT):
            in_variable(world, inside(map_of(JSON_OBJ, STR)))


class TestVersionsOfContainers:
    """api.md 5.7."""

    @cases(("before", "after"), [(INTS, STRS), (COUNTS, NAMES), (INTS, JSON_ARR), (INTS, array_of(INTS))])
    def test_type_of_a_frozen_variable_cannot_change(
        self, world: World, before: TypeDefinition, after: TypeDefinition
    ) -> None:
        public = WfRunVariableAccessLevel.PUBLIC_VAR
        world.submit(request_with(declare("v", before, public)))
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request_with(declare("v", after, public)))

    def test_type_of_a_private_variable_can(self, world: World) -> None:
        world.submit(request_with(declare("v", INTS)))
        spec: WfSpec = world.submit(request_with(declare("v", STRS)))
        assert (spec.id.major_version, spec.id.revision) == (0, 1)

    def test_empty_element_type_is_json_obj(self, world: World) -> None:
        assert in_variable(world, array_of(TypeDefinition())) == array_of(JSON_OBJ)


# Checks of assignments, mutations and comparisons.


def literal(value: Any) -> VariableAssignment:
    return VariableAssignment(literal_value=value if isinstance(value, VariableValue) else to_variable_value(value))


def at(assignment: VariableAssignment, *selectors: str | int) -> VariableAssignment:
    """The place that an lh_path leads to."""
    assignment.lh_path.SetInParent()
    for one in selectors:
        selector = LHPath.Selector(key=one) if isinstance(one, str) else LHPath.Selector(index=one)
        assignment.lh_path.path.append(selector)
    return assignment


def cast(assignment: VariableAssignment, target: TypeDefinition) -> VariableAssignment:
    assignment.target_type.CopyFrom(target)
    return assignment


def compared(left: VariableAssignment, comparator: Comparator, right: VariableAssignment) -> VariableAssignment:
    return VariableAssignment(expression=VariableAssignment.Expression(lhs=left, comparator=comparator, rhs=right))


def mutating(
    types: dict[str, TypeDefinition], name: str, operation: VariableMutationType, right: VariableAssignment
) -> PutWfSpecRequest:
    """A workflow that mutates one of its variables."""
    request = request_with(*(declare(one, kind) for one, kind in types.items()))
    edge = entry(request).nodes[ENTRYPOINT].outgoing_edges[0]
    edge.variable_mutations.append(VariableMutation(lhs_name=name, operation=operation, rhs_assignment=right))
    return request


def assigning(into: TypeDefinition, right: VariableAssignment, of: TypeDefinition = INT) -> PutWfSpecRequest:
    """A workflow that assigns to ``result``; the assignment may use the variable ``v``."""
    return mutating({"v": of, "result": into}, "result", M.ASSIGN, right)


def submit(world: World, request: PutWfSpecRequest, accepted: bool, *fragments: str) -> None:
    """The workflow is accepted, or it is refused with these fragments and not stored."""
    if accepted:
        world.submit(request)
    else:
        with refused(Code.INVALID_ARGUMENT, *fragments):
            world.submit(request)
        assert world.find(kinds.WF_SPEC, "wf", 0, 0) is None


@pytest.fixture
def people(world: World) -> World:
    """A world with the StructDefs address and person."""
    put_struct(world, {"street": field(STR), "zip": field(INT, nullable=True)}, "address")
    put_struct(
        world,
        {
            "name": field(STR),
            "age": field(INT, nullable=True),
            "home": field(ADDRESS, nullable=True),
            "tags": field(STRS, nullable=True),
        },
    )
    return world


class TestMutations:
    """api.md 5.6."""

    ROWS: tuple[tuple[TypeDefinition, VariableMutationType, TypeDefinition, bool], ...] = (
        (INTS, M.ASSIGN, INTS, True),
        (array_of(INTS), M.ASSIGN, array_of(INTS), True),
        (COUNTS, M.ASSIGN, COUNTS, True),
        (PERSON, M.ASSIGN, PERSON, True),
        (INTS, M.ASSIGN, STRS, False),
        (DOUBLES, M.ASSIGN, INTS, False),
        (array_of(INTS), M.ASSIGN, array_of(STRS), False),
        (INTS, M.ASSIGN, INT, False),
        (INTS, M.ASSIGN, JSON_ARR, False),
        (INTS, M.ASSIGN, COUNTS, False),
        (INTS, M.ASSIGN, PERSON, False),
        (COUNTS, M.ASSIGN, NAMES, False),
        (COUNTS, M.ASSIGN, TEXTS, False),
        (COUNTS, M.ASSIGN, JSON_OBJ, False),
        (PERSON, M.ASSIGN, ADDRESS, False),
        (PERSON, M.ASSIGN, JSON_OBJ, False),
        (PERSON, M.ASSIGN, STR, False),
        (STR, M.ASSIGN, STRS, False),
        (STR, M.ASSIGN, COUNTS, False),
        (STR, M.ASSIGN, PERSON, False),
        (JSON_ARR, M.ASSIGN, INTS, False),
        (JSON_OBJ, M.ASSIGN, COUNTS, False),
        (JSON_OBJ, M.ASSIGN, PERSON, False),
        (INTS, M.ADD, INT, False),
        (INTS, M.ADD, INTS, False),
        (COUNTS, M.ADD, INT, False),
        (PERSON, M.ADD, STR, False),
        (INT, M.ADD, INTS, False),
        (STR, M.ADD, STRS, False),
        (STR, M.ADD, PERSON, False),
        (INTS, M.SUBTRACT, INT, False),
        (INTS, M.MULTIPLY, INT, False),
        (COUNTS, M.DIVIDE, INT, False),
        (PERSON, M.POW, INT, False),
        (INTS, M.EXTEND, INT, True),
        (INTS, M.EXTEND, INTS, True),
        (array_of(INTS), M.EXTEND, INTS, True),
        (array_of(PERSON), M.EXTEND, PERSON, True),
        (COUNTS, M.EXTEND, COUNTS, True),
        (INTS, M.EXTEND, STRS, False),
        (INTS, M.EXTEND, STR, False),
        (INTS, M.EXTEND, PERSON, False),
        (INTS, M.EXTEND, COUNTS, False),
        (array_of(PERSON), M.EXTEND, ADDRESS, False),
        (COUNTS, M.EXTEND, INT, False),
        (COUNTS, M.EXTEND, JSON_OBJ, False),
        (JSON_ARR, M.EXTEND, INTS, False),
        (BYTES, M.EXTEND, INTS, False),
        (PERSON, M.EXTEND, PERSON, False),
        (INTS, M.REMOVE_IF_PRESENT, INT, True),
        (STRS, M.REMOVE_IF_PRESENT, STR, True),
        (INTS, M.REMOVE_IF_PRESENT, STR, False),
        (INTS, M.REMOVE_IF_PRESENT, PERSON, False),
        (COUNTS, M.REMOVE_IF_PRESENT, STR, False),
        (PERSON, M.REMOVE_IF_PRESENT, STR, False),
        (INTS, M.REMOVE_INDEX, INT, True),
        (INTS, M.REMOVE_INDEX, STR, False),
        (COUNTS, M.REMOVE_INDEX, INT, False),
        (PERSON, M.REMOVE_INDEX, INT, False),
        (COUNTS, M.REMOVE_KEY, STR, True),
        (NAMES, M.REMOVE_KEY, INT, True),
        (NAMES, M.REMOVE_KEY, STR, False),
        (COUNTS, M.REMOVE_KEY, COUNTS, False),
        (INTS, M.REMOVE_KEY, STR, False),
        (PERSON, M.REMOVE_KEY, STR, False),
        (INTS, M.AND, BOOL, False),
        (PERSON, M.OR, BOOL, False),
    )

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{shown(row[0])} {M.Name(row[1])} {shown(row[2])}")
    def test_known_types(
        self, people: World, row: tuple[TypeDefinition, VariableMutationType, TypeDefinition, bool]
    ) -> None:
        left, operation, right, accepted = row
        submit(people, mutating({"l": left, "r": right}, "l", operation, variable("r")), accepted)

    @cases("kind", [INTS, COUNTS, PERSON])
    def test_null_can_be_assigned(self, people: World, kind: TypeDefinition) -> None:
        submit(people, assigning(kind, literal(None)), accepted=True)

    def test_untyped_empty_array_can_be_assigned(self, world: World) -> None:
        submit(world, assigning(INTS, literal(array())), accepted=True)

    def test_result_of_an_expression_is_known(self, world: World) -> None:
        extended = VariableAssignment.Expression(lhs=variable("v"), mutation_type=M.EXTEND, rhs=literal(1))
        submit(world, assigning(INTS, VariableAssignment(expression=extended), INTS), accepted=True)

    def test_result_of_an_expression_of_another_type(self, world: World) -> None:
        extended = VariableAssignment.Expression(lhs=variable("v"), mutation_type=M.EXTEND, rhs=literal(1))
        submit(world, assigning(STRS, VariableAssignment(expression=extended), INTS), accepted=False)

    @cases("kind", [INTS, COUNTS, PERSON])
    def test_place_on_the_left_is_not_checked(self, people: World, kind: TypeDefinition) -> None:
        request = mutating({"v": kind}, "v", M.MULTIPLY, literal("x"))
        entry(request).nodes[ENTRYPOINT].outgoing_edges[0].variable_mutations[0].lhs_json_path = "$.a"
        submit(people, request, accepted=True)

    @cases(("kind", "target"), [(INTS, STR), (INTS, JSON_ARR), (COUNTS, STR), (PERSON, STR), (STR, INTS), (INTS, STRS)])
    def test_container_cannot_be_cast(self, people: World, kind: TypeDefinition, target: TypeDefinition) -> None:
        submit(people, assigning(target, cast(variable("v"), target), kind), accepted=False)


class TestPaths:
    """api.md 5.4, lh_path of a known type."""

    @cases(
        ("of", "selectors", "into", "accepted"),
        [
            (PERSON, ("name",), STR, True),
            (PERSON, ("name",), BOOL, False),
            (PERSON, ("age",), DOUBLE, True),
            (PERSON, ("home",), ADDRESS, True),
            (PERSON, ("home",), PERSON, False),
            (PERSON, ("home", "zip"), INT, True),
            (PERSON, ("home", "zip"), BOOL, False),
            (PERSON, ("tags",), STRS, True),
            (PERSON, ("tags",), INTS, False),
            (PERSON, ("tags", 0), STR, True),
            (PERSON, ("tags", 0), INT, False),
            (INTS, (0,), INT, True),
            (INTS, (0,), BOOL, False),
            (INTS, (), INTS, True),
            (INTS, (), STRS, False),
            (array_of(INTS), (0,), INTS, True),
            (array_of(INTS), (0, 0), INT, True),
            (array_of(INTS), (0, 0), BOOL, False),
            (array_of(PERSON), (0, "name"), STR, True),
            (array_of(PERSON), (0, "name"), INT, False),
            (COUNTS, ("a",), INT, True),
            (COUNTS, ("a",), BOOL, False),
            (map_of(STR, PERSON), ("a", "age"), INT, True),
            (map_of(STR, PERSON), ("a", "age"), BOOL, False),
            (map_of(STR, JSON_OBJ), ("a", "x"), INT, True),
            (map_of(STR, JSON_OBJ), ("a", "x", 0), BOOL, True),
            (array_of(JSON_ARR), (0, 0), INTS, True),
            (JSON_OBJ, ("x",), PERSON, True),
            (STR, ("x",), STR, False),
            (INT, (0,), INT, False),
            (PERSON, ("name", "x"), STR, False),
            (INTS, (0, "x"), INT, False),
            (COUNTS, ("a", 0), INT, False),
        ],
    )
    def test_type_at_a_place(
        self,
        people: World,
        of: TypeDefinition,
        selectors: tuple[str | int, ...],
        into: TypeDefinition,
        accepted: bool,
    ) -> None:
        submit(people, assigning(into, at(variable("v"), *selectors), of), accepted)

    def test_misfit_is_told_with_both_types(self, people: World) -> None:
        request = assigning(INT, at(variable("v"), "name"), PERSON)
        submit(people, request, False, "Cannot assign STR to INT without explicit casting")

    @cases(
        ("of", "selectors"),
        [
            (PERSON, ("nope",)),
            (PERSON, ("home", "nope")),
            (array_of(PERSON), (0, "nope")),
            (map_of(STR, PERSON), ("a", "home", "nope")),
        ],
    )
    def test_missing_field(self, people: World, of: TypeDefinition, selectors: tuple[str | int, ...]) -> None:
        submit(people, assigning(STR, at(variable("v"), *selectors), of), False, "could not find field 'nope'")

    def test_missing_field_in_a_condition(self, people: World) -> None:
        def body(wf: WorkflowThread) -> None:
            person = wf.declare_struct("person", "person")
            wf.do_if(person.get("nope").is_equal_to(1), lambda wf: wf.sleep(1))

        submit(people, compiled(body), False, "could not find field 'nope'")

    def test_field_is_looked_up_in_the_pinned_version(self, people: World) -> None:
        wider = {"street": field(STR), "zip": field(INT, nullable=True), "city": field(STR, nullable=True)}
        put_struct(people, wider, "address", allowed=COMPATIBLE)
        submit(people, assigning(STR, at(variable("v"), "city"), struct_of("address", 0)), False, "'city'")
        submit(people, assigning(STR, at(variable("v"), "city"), ADDRESS), accepted=True)

    def test_cast_behind_a_path(self, people: World) -> None:
        submit(people, assigning(INT, cast(at(variable("v"), "name"), INT), PERSON), accepted=True)

    @cases(("into", "accepted"), [(STR, True), (INT, False)])
    def test_path_into_the_output_of_a_task(self, people: World, into: TypeDefinition, accepted: bool) -> None:
        in_task_output(people, PERSON)
        request = compiled(lambda wf: wf.execute("t"))
        entry(request).variable_defs.append(declare("result", into))
        output = VariableAssignment(node_output=VariableAssignment.NodeOutputReference(node_name="1-t-TASK"))
        entry(request).nodes["1-t-TASK"].outgoing_edges[0].variable_mutations.append(
            VariableMutation(lhs_name="result", operation=M.ASSIGN, rhs_assignment=at(output, "name"))
        )
        submit(people, request, accepted)

    @cases(("into", "accepted"), [(INTS, True), (STRS, False), (INT, False), (JSON_ARR, False)])
    def test_output_of_a_typed_event(self, world: World, into: TypeDefinition, accepted: bool) -> None:
        put_event_def(world, "e", ReturnType(return_type=INTS))
        request = compiled(lambda wf: wf.wait_for_event("e"))
        entry(request).variable_defs.append(declare("result", into))
        node = "1-e-EXTERNAL_EVENT"
        output = VariableAssignment(node_output=VariableAssignment.NodeOutputReference(node_name=node))
        entry(request).nodes[node].outgoing_edges[0].variable_mutations.append(
            VariableMutation(lhs_name="result", operation=M.ASSIGN, rhs_assignment=output)
        )
        submit(world, request, accepted)


class TestSize:
    """api.md 5.4."""

    @cases("kind", [STR, JSON_ARR, INTS, array_of(INTS)])
    def test_what_has_a_size(self, world: World, kind: TypeDefinition) -> None:
        size = VariableAssignment(size_of=VariableAssignment.SizeOf(operand=variable("v")))
        submit(world, assigning(INT, size, kind), accepted=True)

    @cases("kind", [COUNTS, PERSON, INT, JSON_OBJ])
    def test_what_has_none(self, people: World, kind: TypeDefinition) -> None:
        size = VariableAssignment(size_of=VariableAssignment.SizeOf(operand=variable("v")))
        submit(people, assigning(INT, size, kind), False, "size() only supports", "STR", "ARRAY", "JSON_ARR")

    def test_size_is_an_int(self, world: World) -> None:
        size = VariableAssignment(size_of=VariableAssignment.SizeOf(operand=variable("v")))
        submit(world, assigning(BOOL, size, INTS), accepted=False)


def simple(assignment: VariableAssignment) -> InlineStructFieldValue:
    return InlineStructFieldValue(simple_value=assignment)


def build(struct_def_id: StructDefId, fields: dict[str, InlineStructFieldValue]) -> VariableAssignment:
    return VariableAssignment(
        struct_builder=StructBuilder(struct_def_id=struct_def_id, value=InlineStructBuilder(fields=fields))
    )


class TestStructBuilder:
    """api.md 3.2, 5.2 and 5.4."""

    LATEST = StructDefId(name="person", version=-1)

    @cases(("into", "accepted"), [(PERSON, True), (ADDRESS, False), (STR, False), (JSON_OBJ, False)])
    def test_type_is_the_struct(self, people: World, into: TypeDefinition, accepted: bool) -> None:
        submit(people, assigning(into, build(self.LATEST, {"name": simple(literal("Ann"))})), accepted)

    def test_version_is_pinned(self, people: World) -> None:
        spec: WfSpec = people.submit(assigning(PERSON, build(self.LATEST, {"name": simple(literal("Ann"))})))
        edge = spec.thread_specs["entrypoint"].nodes[ENTRYPOINT].outgoing_edges[0]
        assert edge.variable_mutations[0].rhs_assignment.struct_builder.struct_def_id.version == 0

    @pytest.mark.parametrize(
        "struct_def_id",
        [StructDefId(name="nobody", version=-1), StructDefId(name="person", version=7)],
        ids=["name", "version"],
    )
    def test_missing_struct_def(self, people: World, struct_def_id: StructDefId) -> None:
        builder = build(struct_def_id, {"name": simple(literal("Ann"))})
        request = compiled(lambda _: None)
        entry(request).nodes["1-exit-EXIT"].exit.return_content.CopyFrom(builder)
        submit(people, request, False, f"refers to non-existent StructDef {struct_def_id.name}")

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": simple(variable("stranger"))},
            {
                "name": simple(literal("Ann")),
                "home": InlineStructFieldValue(
                    sub_structure=InlineStructBuilder(fields={"street": simple(variable("stranger"))})
                ),
            },
        ],
        ids=["field", "nested"],
    )
    def test_undeclared_variable(self, people: World, fields: dict[str, InlineStructFieldValue]) -> None:
        submit(people, assigning(PERSON, build(self.LATEST, fields)), False, "stranger")


class TestComparisons:
    """api.md 5.4."""

    ROWS: tuple[tuple[TypeDefinition, Comparator, TypeDefinition, bool], ...] = (
        (INTS, C.EQUALS, INTS, True),
        (COUNTS, C.EQUALS, COUNTS, True),
        (PERSON, C.EQUALS, PERSON, True),
        (INTS, C.NOT_EQUALS, INTS, True),
        (PERSON, C.NOT_EQUALS, PERSON, True),
        (INTS, C.EQUALS, STRS, False),
        (INTS, C.EQUALS, INT, False),
        (INTS, C.EQUALS, JSON_ARR, False),
        (COUNTS, C.EQUALS, NAMES, False),
        (COUNTS, C.NOT_EQUALS, JSON_OBJ, False),
        (PERSON, C.EQUALS, ADDRESS, False),
        (PERSON, C.EQUALS, STR, False),
        (INTS, C.LESS_THAN, INTS, False),
        (COUNTS, C.LESS_THAN_EQ, COUNTS, False),
        (PERSON, C.GREATER_THAN, PERSON, False),
        (INTS, C.GREATER_THAN_EQ, INTS, False),
        (INT, C.LESS_THAN, INTS, False),
        (STR, C.IN, STRS, True),
        (STR, C.IN, COUNTS, True),
        (STR, C.IN, PERSON, True),
        (STR, C.NOT_IN, STRS, True),
        (INTS, C.IN, JSON_ARR, True),
        (PERSON, C.IN, JSON_ARR, True),
        (INT, C.IN, INTS, False),
        (INT, C.NOT_IN, NAMES, False),
        (PERSON, C.IN, array_of(PERSON), False),
        (INTS, C.IN, JSON_OBJ, False),
        (STRS, C.IN, STR, False),
    )

    def conditional(self, types: dict[str, TypeDefinition], condition: VariableAssignment) -> PutWfSpecRequest:
        request = request_with(*(declare(name, kind) for name, kind in types.items()))
        entry(request).nodes[ENTRYPOINT].outgoing_edges[0].condition.CopyFrom(condition)
        return request

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{shown(row[0])} {C.Name(row[1])} {shown(row[2])}")
    def test_known_types(self, people: World, row: tuple[TypeDefinition, Comparator, TypeDefinition, bool]) -> None:
        left, comparator, right, accepted = row
        condition = compared(variable("l"), comparator, variable("r"))
        submit(people, self.conditional({"l": left, "r": right}, condition), accepted)

    @cases("kind", [INTS, COUNTS, PERSON])
    def test_comparison_with_null_on_the_right(self, people: World, kind: TypeDefinition) -> None:
        request = self.conditional({"v": kind}, compared(variable("v"), C.EQUALS, literal(None)))
        submit(people, request, accepted=True)

    @cases("kind", [INTS, COUNTS, PERSON])
    def test_container_is_no_condition(self, people: World, kind: TypeDefinition) -> None:
        submit(people, self.conditional({"v": kind}, variable("v")), accepted=False)

    @cases(("selectors", "accepted"), [(("age",), True), (("tags",), False), (("home",), False)])
    def test_place_in_a_struct_has_its_type(self, people: World, selectors: tuple[str, ...], accepted: bool) -> None:
        condition = compared(at(variable("v"), *selectors), C.EQUALS, literal(17))
        submit(people, self.conditional({"v": PERSON}, condition), accepted)


class TestNodes:
    """api.md 5.3 and 5.5."""

    INPUTS: tuple[tuple[TypeDefinition, TypeDefinition, bool], ...] = (
        (INTS, INTS, True),
        (COUNTS, COUNTS, True),
        (PERSON, PERSON, True),
        (STRS, INTS, False),
        (INTS, DOUBLES, False),
        (INT, INTS, False),
        (JSON_ARR, INTS, False),
        (INTS, JSON_ARR, False),
        (INTS, STR, False),
        (NAMES, COUNTS, False),
        (ADDRESS, PERSON, False),
        (JSON_OBJ, PERSON, False),
        (PERSON, JSON_OBJ, False),
    )

    @cases(("given", "expected", "accepted"), INPUTS)
    def test_task_input(self, people: World, given: TypeDefinition, expected: TypeDefinition, accepted: bool) -> None:
        in_task_input(people, expected)
        request = compiled(lambda wf: wf.execute("t", wf.add_variable("v", VariableType.INT)))
        entry(request).variable_defs[0].var_def.type_def.CopyFrom(given)
        submit(people, request, accepted)

    @cases(("given", "expected", "accepted"), INPUTS)
    def test_input_of_a_child_thread(
        self, people: World, given: TypeDefinition, expected: TypeDefinition, accepted: bool
    ) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.add_variable("input", VariableType.INT)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child", {"input": wf.add_variable("v", VariableType.INT)})

        request = Workflow("wf", body).compile()
        (given_def,) = [one for one in entry(request).variable_defs if one.var_def.name == "v"]
        given_def.var_def.type_def.CopyFrom(given)
        request.thread_specs["child"].variable_defs[0].var_def.type_def.CopyFrom(expected)
        submit(people, request, accepted)

    @cases(("one", "other", "accepted"), [(INTS, INTS, True), (INTS, STRS, False), (PERSON, ADDRESS, False)])
    def test_exits_must_agree(self, people: World, one: TypeDefinition, other: TypeDefinition, accepted: bool) -> None:
        def body(wf: WorkflowThread) -> None:
            first, second = wf.add_variable("one", VariableType.INT), wf.add_variable("other", VariableType.INT)
            wf.do_if(wf.declare_bool("b").is_equal_to(True), lambda wf: wf.complete(first))
            wf.complete(second)

        request = compiled(body)
        for declared, kind in zip(entry(request).variable_defs, (one, other), strict=False):
            declared.var_def.type_def.CopyFrom(kind)
        submit(people, request, accepted, *(() if accepted else ("returned different output types",)))
