"""WorkflowEventDefs, UserTaskDefs, StructDefs and how they evolve, deletes, TaskWorkerGroups: api.md 3.2, 3.4, 4, 8.2.

Not tested:
- whether an absent content type of a WorkflowEventDef equals a void one: the spec does not say;
- whether the order of a UserTaskDef's fields counts, and where an empty description differs from none: not said;
- field names with letters beyond ASCII, a Map with a struct as its key, a StructDef that refers to itself: not said;
- evolution by a nested StructDef that moved to a newer version: not said whether that changes the field's type;
- another type of an optional field: neither listed as breaking nor said to be fine;
- DeleteStructDef with version -1, and ValidateStructDefEvolution against a missing version of a known name: not said;
- what a deleted WfSpec or WorkflowEventDef means for running WfRuns: not said;
- that workers silent for 90 seconds are dropped: the server's clock cannot be moved from here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import pytest
from grpc import StatusCode
from littlehorse.model import (
    AllowedUpdateType,
    Array,
    DeleteExternalEventDefRequest,
    DeleteStructDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowEventDefRequest,
    ExternalEventDefId,
    GetLatestUserTaskDefRequest,
    GetLatestWfSpecRequest,
    InlineArrayDef,
    InlineMapDef,
    InlineStructDef,
    LHStatus,
    ListUserTaskRunRequest,
    PutExternalEventDefRequest,
    PutStructDefRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    ReturnType,
    RunWfRequest,
    StructDef,
    StructDefCompatibilityType,
    StructDefId,
    StructFieldDef,
    TaskDefId,
    TaskWorkerGroup,
    TypeDefinition,
    UserTaskDef,
    UserTaskDefId,
    UserTaskField,
    ValidateStructDefEvolutionRequest,
    VariableType,
    VariableValue,
    WfRunId,
    WfSpecId,
    WorkflowEventDef,
    WorkflowEventDefId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    EMPTY,
    Client,
    eventually,
    executes,
    only_exit,
    refusal,
    refused_with,
    type_of,
    waits_for,
)
from tests.api.test_metadata import BAD_NAMES, version, with_variable

NO_SCHEMA_UPDATES = StructDefCompatibilityType.NO_SCHEMA_UPDATES
FULLY_COMPATIBLE = StructDefCompatibilityType.FULLY_COMPATIBLE_SCHEMA_UPDATES

NULL = VariableValue()


# Types.


def a_struct(name: str = "car", number: int = -1) -> TypeDefinition:
    return TypeDefinition(struct_def_id=StructDefId(name=name, version=number))


def an_array(inner: TypeDefinition) -> TypeDefinition:
    return TypeDefinition(inline_array_def=InlineArrayDef(array_type=inner))


def a_map(inner: TypeDefinition) -> TypeDefinition:
    return TypeDefinition(inline_map_def=InlineMapDef(key_type=type_of(VariableType.STR), value_type=inner))


def arrays_in_a_map(inner: TypeDefinition) -> TypeDefinition:
    return a_map(an_array(inner))


# Puts.


def field(
    kind: TypeDefinition | VariableType, *, default: VariableValue | None = None, nullable: bool = False
) -> StructFieldDef:
    """A field of a StructDef, required unless something else is said."""
    return StructFieldDef(field_type=type_of(kind), default_value=default, is_nullable=nullable)


Fields = Mapping[str, StructFieldDef]


async def put_struct(
    client: Client,
    fields: Fields,
    *,
    name: str = "car",
    description: str | None = None,
    allowed: StructDefCompatibilityType = NO_SCHEMA_UPDATES,
) -> StructDef:
    reply: StructDef = await client.stub.PutStructDef(
        PutStructDefRequest(
            name=name,
            description=description,
            struct_def=InlineStructDef(fields=fields),
            allowed_updates=allowed,
        )
    )
    return reply


async def get_struct(client: Client, number: int, name: str = "car") -> StructDef:
    reply: StructDef = await client.stub.GetStructDef(StructDefId(name=name, version=number))
    return reply


async def put_struct_versions(client: Client, count: int, name: str = "car") -> list[StructDef]:
    """So many versions of a StructDef with one required field."""
    fields = {"plate": field(VariableType.STR)}
    return [await put_struct(client, fields, name=name, description=f"edition {n}") for n in range(count)]


async def put_workflow_event_def(
    client: Client, content: TypeDefinition | VariableType | None, name: str = "shipped"
) -> WorkflowEventDef:
    content_type = ReturnType(return_type=None if content is None else type_of(content))
    reply: WorkflowEventDef = await client.stub.PutWorkflowEventDef(
        PutWorkflowEventDefRequest(name=name, content_type=content_type)
    )
    return reply


async def put_form(client: Client, *fields: UserTaskField, name: str = "approve", **more: Any) -> UserTaskDef:
    reply: UserTaskDef = await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name=name, fields=fields, **more))
    return reply


async def put_form_versions(client: Client, count: int, name: str = "approve") -> list[UserTaskDef]:
    """So many versions of a UserTaskDef."""
    return [await put_form(client, name=name, description=f"edition {number}") for number in range(count)]


async def latest_form(client: Client, name: str = "approve") -> UserTaskDef:
    reply: UserTaskDef = await client.stub.GetLatestUserTaskDef(GetLatestUserTaskDefRequest(name=name))
    return reply


APPROVED = UserTaskField(
    name="approved", type=VariableType.BOOL, display_name="Approved?", description="yes or no", required=True
)


# A way to put each kind of definition that can hold a type; it returns the type as stored.


async def as_task_input(client: Client, kind: TypeDefinition) -> TypeDefinition:
    return (await client.put_task_def("ship", {"a": kind})).input_vars[0].type_def


async def as_task_output(client: Client, kind: TypeDefinition) -> TypeDefinition:
    return (await client.put_task_def("ship", {}, kind)).return_type.return_type


async def as_external_event(client: Client, kind: TypeDefinition) -> TypeDefinition:
    request = PutExternalEventDefRequest(name="paid", content_type=ReturnType(return_type=kind))
    stored: TypeDefinition = (await client.stub.PutExternalEventDef(request)).type_information.return_type
    return stored


async def as_workflow_event(client: Client, kind: TypeDefinition) -> TypeDefinition:
    return (await put_workflow_event_def(client, kind)).content_type.return_type


async def as_struct_field(client: Client, kind: TypeDefinition) -> TypeDefinition:
    return (await put_struct(client, {"inner": field(kind)}, name="outer")).struct_def.fields["inner"].field_type


everywhere = pytest.mark.parametrize(
    "put", [as_task_input, as_task_output, as_external_event, as_workflow_event, as_struct_field]
)
in_all_shapes = pytest.mark.parametrize("shape", [lambda inner: inner, an_array, a_map, arrays_in_a_map])

PutType = Callable[[Client, TypeDefinition], Awaitable[TypeDefinition]]
Shape = Callable[[TypeDefinition], TypeDefinition]


class TestStructDefReferences:
    @everywhere
    @in_all_shapes
    async def test_the_latest_version_is_pinned(self, client: Client, put: PutType, shape: Shape) -> None:
        await put_struct_versions(client, 2)
        assert await put(client, shape(a_struct("car", -1))) == shape(a_struct("car", 1))

    @everywhere
    async def test_a_given_version_stays(self, client: Client, put: PutType) -> None:
        await put_struct_versions(client, 2)
        assert await put(client, a_struct("car", 0)) == a_struct("car", 0)

    @everywhere
    @in_all_shapes
    async def test_a_missing_struct_def_is_refused(self, client: Client, put: PutType, shape: Shape) -> None:
        error = await refusal(put(client, shape(a_struct("car", -1))))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "Refers to non-existent StructDef car" in error.details

    @everywhere
    async def test_a_missing_version_is_refused(self, client: Client, put: PutType) -> None:
        await put_struct_versions(client, 1)
        error = await refusal(put(client, a_struct("car", 1)))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "Refers to non-existent StructDef car" in error.details

    async def test_task_defs_are_compared_with_their_versions_pinned(self, client: Client) -> None:
        await put_struct_versions(client, 1)
        first = await client.put_task_def("ship", {"a": a_struct()}, a_struct())
        assert await client.put_task_def("ship", {"a": a_struct()}, a_struct()) == first
        assert await client.put_task_def("ship", {"a": a_struct("car", 0)}, a_struct("car", 0)) == first
        await put_struct_versions(client, 2)
        assert await refused_with(client.put_task_def("ship", {"a": a_struct()}, a_struct())) == (
            StatusCode.ALREADY_EXISTS
        )


class TestWorkflowEventDef:
    @pytest.mark.parametrize("content", [VariableType.STR, an_array(type_of(VariableType.INT)), None], ids=str)
    async def test_the_stored_definition_is_returned_and_found(
        self, client: Client, content: TypeDefinition | VariableType | None
    ) -> None:
        put = await put_workflow_event_def(client, content)
        assert put.id == WorkflowEventDefId(name="shipped")
        expected = ReturnType() if content is None else ReturnType(return_type=type_of(content))
        assert put.content_type == expected
        assert put.created_at.ToMilliseconds() > 0
        assert await client.stub.GetWorkflowEventDef(put.id) == put

    async def test_an_equal_content_type_returns_the_stored_one(self, client: Client) -> None:
        first = await put_workflow_event_def(client, VariableType.STR)
        assert await put_workflow_event_def(client, VariableType.STR) == first

    async def test_an_equal_pinned_content_type_returns_the_stored_one(self, client: Client) -> None:
        await put_struct_versions(client, 1)
        first = await put_workflow_event_def(client, a_struct())
        assert await put_workflow_event_def(client, a_struct()) == first

    @pytest.mark.parametrize("other", [VariableType.INT, an_array(type_of(VariableType.STR)), None], ids=str)
    async def test_another_content_type_is_refused_and_changes_nothing(
        self, client: Client, other: TypeDefinition | VariableType | None
    ) -> None:
        first = await put_workflow_event_def(client, VariableType.STR)
        assert await refused_with(put_workflow_event_def(client, other)) == StatusCode.ALREADY_EXISTS
        assert await client.stub.GetWorkflowEventDef(first.id) == first

    async def test_an_empty_type_definition_means_json_obj(self, client: Client) -> None:
        put = await put_workflow_event_def(client, TypeDefinition())
        assert put.content_type.return_type.WhichOneof("defined_type") == "primitive_type"
        assert put.content_type.return_type.primitive_type == VariableType.JSON_OBJ
        assert await put_workflow_event_def(client, VariableType.JSON_OBJ) == put


class TestUserTaskDef:
    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_a_bad_name_is_refused(self, client: Client, name: str) -> None:
        assert await refused_with(put_form(client, name=name)) == StatusCode.INVALID_ARGUMENT

    async def test_the_stored_definition_is_returned_and_found(self, client: Client) -> None:
        note = UserTaskField(name="note", type=VariableType.STR)
        put = await put_form(client, APPROVED, note, description="of expenses")
        assert (put.name, put.version, put.description) == ("approve", 0, "of expenses")
        assert list(put.fields) == [APPROVED, note]
        assert put.created_at.ToMilliseconds() > 0
        assert await client.stub.GetUserTaskDef(UserTaskDefId(name="approve")) == put
        assert await latest_form(client) == put

    async def test_an_identical_put_returns_the_latest_version(self, client: Client) -> None:
        await put_form(client, description="old")
        latest = await put_form(client, APPROVED)
        assert await put_form(client, APPROVED) == latest
        assert await latest_form(client) == latest

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "granted"},
            {"type": VariableType.STR},
            {"display_name": "Granted?"},
            {"description": "no or yes"},
            {"required": False},
        ],
        ids=str,
    )
    async def test_another_field_is_a_new_version(self, client: Client, change: dict[str, Any]) -> None:
        first = await put_form(client, APPROVED)
        other = UserTaskField(
            **{
                "name": APPROVED.name,
                "type": APPROVED.type,
                "display_name": APPROVED.display_name,
                "description": APPROVED.description,
                "required": APPROVED.required,
                **change,
            }
        )
        second = await put_form(client, other)
        assert (second.version, list(second.fields)) == (1, [other])
        assert await client.stub.GetUserTaskDef(UserTaskDefId(name="approve", version=0)) == first
        assert await client.stub.GetUserTaskDef(UserTaskDefId(name="approve", version=1)) == second
        assert await latest_form(client) == second

    async def test_more_or_fewer_fields_are_a_new_version(self, client: Client) -> None:
        note = UserTaskField(name="note", type=VariableType.STR)
        assert (await put_form(client, APPROVED)).version == 0
        assert (await put_form(client, APPROVED, note)).version == 1
        assert (await put_form(client, note)).version == 2

    async def test_another_description_is_a_new_version(self, client: Client) -> None:
        await put_form(client, APPROVED, description="old")
        assert (await put_form(client, APPROVED, description="new")).version == 1

    async def test_only_the_latest_version_is_compared(self, client: Client) -> None:
        await put_form(client, description="old")
        await put_form(client, description="new")
        assert (await put_form(client, description="old")).version == 2

    async def test_the_versions_of_another_name_do_not_count(self, client: Client) -> None:
        await put_form_versions(client, 2, "approve")
        assert (await put_form(client, name="approve-2")).version == 0

    async def test_version_eleven_is_later_than_version_nine(self, client: Client) -> None:
        assert [form.version for form in await put_form_versions(client, 12)] == list(range(12))
        assert (await latest_form(client)).version == 11


class TestStructDef:
    async def test_the_stored_definition_is_returned_and_found(self, client: Client) -> None:
        fields = {
            "plate": field(TypeDefinition(primitive_type=VariableType.STR, masked=True)),
            "doors": field(VariableType.INT, default=to_variable_value(4)),
            "owner": field(VariableType.STR, nullable=True),
            "stops": field(an_array(type_of(VariableType.TIMESTAMP)), nullable=True),
        }
        put = await put_struct(client, fields, description="with four wheels")
        assert put.id == StructDefId(name="car", version=0)
        assert put.description == "with four wheels"
        assert put.struct_def == InlineStructDef(fields=fields)
        assert put.created_at.ToMilliseconds() > 0
        assert await get_struct(client, 0) == put
        assert await client.stub.GetStructDef(StructDefId(name="car")) == put

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_a_bad_name_is_refused(self, client: Client, name: str) -> None:
        call = put_struct(client, {"plate": field(VariableType.STR)}, name=name)
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("name", ["a", "plate", "plateNumber", "plate2", "aB3C", "x" * 100])
    async def test_letters_and_digits_after_a_lower_case_letter_are_fine(self, client: Client, name: str) -> None:
        assert list((await put_struct(client, {name: field(VariableType.STR)})).struct_def.fields) == [name]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("1plate", "first character must be a letter"),
            ("_plate", "first character must be a letter"),
            ("-plate", "first character must be a letter"),
            (" plate", "first character must be a letter"),
            ("Plate", "first letter must be lowercase"),
            ("PLATE", "first letter must be lowercase"),
            ("plate_number", "cannot include underscores"),
            ("plate_", "cannot include underscores"),
            ("plate-number", "cannot include special characters"),
            ("plate number", "cannot include special characters"),
            ("plate.number", "cannot include special characters"),
            ("plate$", "cannot include special characters"),
            ("1_", "first character must be a letter"),
            ("Plate_", "first letter must be lowercase"),
            ("Plate-", "first letter must be lowercase"),
            ("plate-_", "cannot include underscores"),
        ],
    )
    async def test_the_first_flaw_of_a_bad_field_name_is_told(self, client: Client, name: str, text: str) -> None:
        error = await refusal(put_struct(client, {name: field(VariableType.STR)}))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert text in error.details

    async def test_an_empty_field_name_is_refused(self, client: Client) -> None:
        assert await refused_with(put_struct(client, {"": field(VariableType.STR)})) == StatusCode.INVALID_ARGUMENT

    @in_all_shapes
    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            (type_of(VariableType.JSON_OBJ), "Forbidden JSON type: JSON_OBJ"),
            (type_of(VariableType.JSON_ARR), "Forbidden JSON type: JSON_ARR"),
            (TypeDefinition(), "Forbidden JSON type: JSON_OBJ"),
        ],
        ids=["object", "list", "empty"],
    )
    async def test_json_is_refused_at_any_depth(
        self, client: Client, kind: TypeDefinition, text: str, shape: Shape
    ) -> None:
        error = await refusal(put_struct(client, {"extra": field(shape(kind))}))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert text in error.details

    @pytest.mark.parametrize(
        ("kind", "default"),
        [
            (VariableType.INT, 4),
            (VariableType.DOUBLE, 4),
            (VariableType.STR, 4),
            (VariableType.STR, False),
            (VariableType.BOOL, False),
            (an_array(type_of(VariableType.INT)), VariableValue(array=Array(items=[to_variable_value(1)]))),
            (an_array(type_of(VariableType.INT)), VariableValue(array=Array())),
        ],
        ids=str,
    )
    async def test_a_default_that_fits_is_accepted(
        self, client: Client, kind: TypeDefinition | VariableType, default: Any
    ) -> None:
        value = default if isinstance(default, VariableValue) else to_variable_value(default)
        put = await put_struct(client, {"extra": field(kind, default=value)})
        assert put.struct_def.fields["extra"].HasField("default_value")

    @pytest.mark.parametrize(
        ("kind", "default"),
        [
            (VariableType.INT, "4"),
            (VariableType.INT, 4.5),
            (VariableType.INT, True),
            (VariableType.DOUBLE, "4.5"),
            (VariableType.BOOL, "true"),
            (VariableType.BOOL, 1),
            (VariableType.STR, {"a": 1}),
            (VariableType.TIMESTAMP, "2020-01-01T00:00:00Z"),
            (a_struct("wheel"), 4),
            (an_array(type_of(VariableType.INT)), 4),
            (an_array(type_of(VariableType.INT)), [4]),  # JSON is no Array
            (
                an_array(type_of(VariableType.INT)),
                VariableValue(array=Array(items=[to_variable_value(1), to_variable_value("two")])),
            ),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("nullable", [False, True])
    async def test_a_default_that_does_not_fit_is_refused(
        self, client: Client, kind: TypeDefinition | VariableType, default: Any, nullable: bool
    ) -> None:
        await put_struct_versions(client, 1, "wheel")
        value = default if isinstance(default, VariableValue) else to_variable_value(default)
        call = put_struct(client, {"extra": field(kind, default=value, nullable=nullable)})
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    async def test_a_null_default_needs_a_nullable_field(self, client: Client) -> None:
        call = put_struct(client, {"doors": field(VariableType.INT, default=NULL)})
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        await put_struct(client, {"doors": field(VariableType.INT, default=NULL, nullable=True)})

    async def test_a_refused_put_stores_nothing(self, client: Client) -> None:
        fields = {"plate": field(VariableType.STR), "Bad": field(VariableType.STR)}
        assert await refused_with(put_struct(client, fields)) == StatusCode.INVALID_ARGUMENT
        assert await refused_with(get_struct(client, -1)) == StatusCode.NOT_FOUND


# How StructDefs may change. Each change tells what becomes of the fields, and which ones it touches.

CAR: Fields = {
    "plate": field(VariableType.STR),
    "color": field(VariableType.STR, nullable=True),
    "doors": field(VariableType.INT, default=to_variable_value(4)),
}


class Change(NamedTuple):
    fields: Fields
    touched: set[str]


def changed(*, without: tuple[str, ...] = (), **fields: StructFieldDef) -> Change:
    """The car without some fields, and with these added or replaced."""
    kept = {name: one for name, one in CAR.items() if name not in without}
    return Change({**kept, **fields}, {*without, *fields})


BREAKING = {
    "a required field goes": changed(without=("plate",)),
    "a required field becomes nullable": changed(plate=field(VariableType.STR, nullable=True)),
    "a required field gets a default": changed(plate=field(VariableType.STR, default=to_variable_value("none"))),
    "a required field gets another type": changed(plate=field(VariableType.INT)),
    "a required field comes": changed(owner=field(VariableType.STR)),
    "a nullable field becomes required": changed(color=field(VariableType.STR)),
    "a field loses its default": changed(doors=field(VariableType.INT)),
    "two at once": changed(without=("plate",), owner=field(VariableType.STR)),
}
COMPATIBLE = {
    "a nullable field comes": changed(owner=field(VariableType.STR, nullable=True)),
    "a field with a default comes": changed(wheels=field(VariableType.INT, default=to_variable_value(4))),
    "a nullable field goes": changed(without=("color",)),
    "a field with a default goes": changed(without=("doors",)),
    "one goes and one comes": changed(without=("color",), owner=field(VariableType.STR, nullable=True)),
    "another default": changed(doors=field(VariableType.INT, default=to_variable_value(5))),
    "nullable instead of a default": changed(doors=field(VariableType.INT, nullable=True)),
}


def each(changes: Mapping[str, Change]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("change", changes.values(), ids=changes.keys())


def offending(details: str, kind: str) -> set[str]:
    """The fields that a refused evolution names."""
    found = re.search(r"field\(s\): \[([^\]]*)\].*\b" + kind + r"\W*compatibility type$", details)
    assert found, details
    return set(re.findall(r"\w+", found[1]))


class TestStructDefEvolution:
    @pytest.mark.parametrize("allowed", [NO_SCHEMA_UPDATES, FULLY_COMPATIBLE])
    async def test_an_equal_put_returns_the_latest_version(
        self, client: Client, allowed: StructDefCompatibilityType
    ) -> None:
        await put_struct(client, CAR, description="old")
        latest = await put_struct(client, CAR, description="new")
        assert await put_struct(client, CAR, description="new", allowed=allowed) == latest
        assert await get_struct(client, -1) == latest

    async def test_an_equal_put_is_found_after_pinning(self, client: Client) -> None:
        await put_struct_versions(client, 2, "engine")
        first = await put_struct(client, {"engine": field(a_struct("engine"))})
        assert await put_struct(client, {"engine": field(a_struct("engine"))}) == first
        assert await put_struct(client, {"engine": field(a_struct("engine", 1))}) == first

    @pytest.mark.parametrize("allowed", [NO_SCHEMA_UPDATES, FULLY_COMPATIBLE])
    async def test_another_description_is_a_new_version(
        self, client: Client, allowed: StructDefCompatibilityType
    ) -> None:
        first = await put_struct(client, CAR, description="old")
        second = await put_struct(client, CAR, description="new", allowed=allowed)
        assert (second.id.version, second.description) == (1, "new")
        assert second.struct_def == first.struct_def
        assert await get_struct(client, 0) == first
        assert await get_struct(client, 1) == second

    @each({**BREAKING, **COMPATIBLE})
    async def test_without_schema_updates_every_change_is_refused(self, client: Client, change: Change) -> None:
        first = await put_struct(client, CAR)
        error = await refusal(put_struct(client, change.fields))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert offending(error.details, "NO_SCHEMA_UPDATES") == change.touched
        assert await get_struct(client, -1) == first

    @each(BREAKING)
    async def test_a_breaking_change_is_refused(self, client: Client, change: Change) -> None:
        first = await put_struct(client, CAR)
        error = await refusal(put_struct(client, change.fields, allowed=FULLY_COMPATIBLE))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert offending(error.details, "FULLY_COMPATIBLE_SCHEMA_UPDATES") == change.touched
        assert await get_struct(client, -1) == first

    @each(COMPATIBLE)
    async def test_a_compatible_change_is_a_new_version(self, client: Client, change: Change) -> None:
        first = await put_struct(client, CAR)
        second = await put_struct(client, change.fields, allowed=FULLY_COMPATIBLE)
        assert second.id.version == 1
        assert second.struct_def == InlineStructDef(fields=change.fields)
        assert await get_struct(client, 0) == first
        assert await get_struct(client, -1) == second

    async def test_only_the_breaking_fields_are_named(self, client: Client) -> None:
        await put_struct(client, CAR)
        change = changed(without=("color",), owner=field(VariableType.STR), tax=field(VariableType.INT, nullable=True))
        error = await refusal(put_struct(client, change.fields, allowed=FULLY_COMPATIBLE))
        assert offending(error.details, "FULLY_COMPATIBLE_SCHEMA_UPDATES") == {"owner"}

    async def test_only_the_latest_version_is_compared(self, client: Client) -> None:
        await put_struct(client, CAR)
        without_color = changed(without=("color",)).fields
        await put_struct(client, without_color, allowed=FULLY_COMPATIBLE)
        assert (await put_struct(client, without_color)).id.version == 1
        assert (await put_struct(client, CAR, allowed=FULLY_COMPATIBLE)).id.version == 2

    async def test_the_versions_of_another_name_do_not_count(self, client: Client) -> None:
        await put_struct_versions(client, 2, "car")
        assert (await put_struct_versions(client, 1, "car-2"))[0].id.version == 0

    async def test_minus_one_gets_version_eleven_rather_than_version_nine(self, client: Client) -> None:
        assert [one.id.version for one in await put_struct_versions(client, 12)] == list(range(12))
        assert (await get_struct(client, -1)).id.version == 11


class TestValidateStructDefEvolution:
    @staticmethod
    async def valid(
        client: Client, fields: Fields, kind: StructDefCompatibilityType, number: int = -1, name: str = "car"
    ) -> bool:
        reply = await client.stub.ValidateStructDefEvolution(
            ValidateStructDefEvolutionRequest(
                struct_def_id=StructDefId(name=name, version=number),
                struct_def=InlineStructDef(fields=fields),
                compatibility_type=kind,
            )
        )
        answer: bool = reply.is_valid
        return answer

    @pytest.mark.parametrize("kind", [NO_SCHEMA_UPDATES, FULLY_COMPATIBLE])
    async def test_the_same_schema_is_valid(self, client: Client, kind: StructDefCompatibilityType) -> None:
        await put_struct(client, CAR)
        assert await self.valid(client, CAR, kind)

    @each(BREAKING)
    async def test_a_breaking_change_is_not_valid(self, client: Client, change: Change) -> None:
        await put_struct(client, CAR)
        assert not await self.valid(client, change.fields, FULLY_COMPATIBLE)

    @each(COMPATIBLE)
    async def test_a_compatible_change_is_valid_only_when_schema_updates_are(
        self, client: Client, change: Change
    ) -> None:
        await put_struct(client, CAR)
        assert await self.valid(client, change.fields, FULLY_COMPATIBLE)
        assert not await self.valid(client, change.fields, NO_SCHEMA_UPDATES)

    async def test_minus_one_means_the_latest_version(self, client: Client) -> None:
        await put_struct(client, CAR)
        without_color = changed(without=("color",)).fields
        await put_struct(client, without_color, allowed=FULLY_COMPATIBLE)
        assert await self.valid(client, without_color, NO_SCHEMA_UPDATES, -1)
        assert not await self.valid(client, without_color, NO_SCHEMA_UPDATES, 0)
        assert not await self.valid(client, CAR, NO_SCHEMA_UPDATES, -1)
        assert await self.valid(client, CAR, NO_SCHEMA_UPDATES, 0)

    @pytest.mark.parametrize("number", [-1, 0])
    @pytest.mark.parametrize("kind", [NO_SCHEMA_UPDATES, FULLY_COMPATIBLE])
    async def test_everything_is_valid_for_an_unknown_struct_def(
        self, client: Client, number: int, kind: StructDefCompatibilityType
    ) -> None:
        assert await self.valid(client, CAR, kind, number)

    @pytest.mark.parametrize("name", ["car", "unknown"])
    @pytest.mark.parametrize(
        "bad",
        [
            {"Plate": field(VariableType.STR)},
            {"extra": field(VariableType.JSON_OBJ)},
            {"extra": field(an_array(type_of(VariableType.JSON_ARR)))},
            {"extra": field(a_struct("missing"))},
            {"extra": field(VariableType.INT, default=to_variable_value("four"))},
            {"extra": field(VariableType.INT, default=NULL)},
        ],
        ids=["name", "json", "json in array", "missing struct", "default", "null default"],
    )
    async def test_a_schema_that_a_put_refuses_is_refused(self, client: Client, bad: Fields, name: str) -> None:
        await put_struct(client, CAR)
        call = self.valid(client, {**CAR, **bad}, FULLY_COMPATIBLE, name=name)
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    async def test_nothing_is_stored(self, client: Client) -> None:
        first = await put_struct(client, CAR)
        await self.valid(client, changed(without=("color",)).fields, FULLY_COMPATIBLE)
        await self.valid(client, CAR, FULLY_COMPATIBLE, name="unknown")
        assert await get_struct(client, -1) == first
        assert await refused_with(get_struct(client, -1, "unknown")) == StatusCode.NOT_FOUND


class TestGet:
    @pytest.mark.parametrize(
        ("call", "missing"),
        [
            ("GetWorkflowEventDef", WorkflowEventDefId(name="unknown")),
            ("GetUserTaskDef", UserTaskDefId(name="unknown")),
            ("GetUserTaskDef", UserTaskDefId(name="approve", version=2)),
            ("GetLatestUserTaskDef", GetLatestUserTaskDefRequest(name="unknown")),
            ("GetStructDef", StructDefId(name="unknown")),
            ("GetStructDef", StructDefId(name="unknown", version=-1)),
            ("GetStructDef", StructDefId(name="car", version=2)),
            ("GetTaskWorkerGroup", TaskDefId(name="unknown")),
        ],
        ids=str,
    )
    async def test_what_is_missing_is_not_found(self, client: Client, call: str, missing: Any) -> None:
        await put_form_versions(client, 2)
        await put_struct_versions(client, 2)
        await put_workflow_event_def(client, VariableType.STR)
        assert await refused_with(getattr(client.stub, call)(missing)) == StatusCode.NOT_FOUND

    async def test_a_name_alone_means_version_zero_of_a_user_task_def(self, client: Client) -> None:
        first, second = await put_form_versions(client, 2)
        assert await client.stub.GetUserTaskDef(UserTaskDefId(name="approve")) == first
        assert await latest_form(client) == second


# Deletes.


class Kind(NamedTuple):
    """A kind of definition: how to put one called ``one``, its id, and the request that deletes it."""

    put: Callable[[Client], Awaitable[Any]]
    id: Any
    delete: Any


KINDS = {
    "TaskDef": Kind(
        lambda client: client.put_task_def("one"),
        TaskDefId(name="one"),
        DeleteTaskDefRequest(id=TaskDefId(name="one")),
    ),
    "WfSpec": Kind(
        lambda client: client.register(only_exit("one")),
        WfSpecId(name="one"),
        DeleteWfSpecRequest(id=WfSpecId(name="one")),
    ),
    "UserTaskDef": Kind(
        lambda client: put_form(client, APPROVED, name="one"),
        UserTaskDefId(name="one"),
        DeleteUserTaskDefRequest(id=UserTaskDefId(name="one")),
    ),
    "StructDef": Kind(
        lambda client: put_struct(client, CAR, name="one"),
        StructDefId(name="one"),
        DeleteStructDefRequest(id=StructDefId(name="one")),
    ),
    "ExternalEventDef": Kind(
        lambda client: client.put_event_def("one"),
        ExternalEventDefId(name="one"),
        DeleteExternalEventDefRequest(id=ExternalEventDefId(name="one")),
    ),
    "WorkflowEventDef": Kind(
        lambda client: put_workflow_event_def(client, VariableType.STR, "one"),
        WorkflowEventDefId(name="one"),
        DeleteWorkflowEventDefRequest(id=WorkflowEventDefId(name="one")),
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


async def delete(client: Client, kind: str) -> Any:
    return await getattr(client.stub, f"Delete{kind}")(KINDS[kind].delete)


async def get(client: Client, kind: str) -> Any:
    return await getattr(client.stub, f"Get{kind}")(KINDS[kind].id)


async def delete_wf_spec(client: Client, name: str, major: int, revision: int) -> None:
    await client.stub.DeleteWfSpec(DeleteWfSpecRequest(id=WfSpecId(name=name, major_version=major, revision=revision)))


async def delete_form(client: Client, number: int) -> None:
    await client.stub.DeleteUserTaskDef(DeleteUserTaskDefRequest(id=UserTaskDefId(name="approve", version=number)))


async def delete_struct(client: Client, number: int) -> None:
    await client.stub.DeleteStructDef(DeleteStructDefRequest(id=StructDefId(name="car", version=number)))


class TestDelete:
    @every_kind
    async def test_what_was_deleted_is_not_found(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client)
        assert await delete(client, kind) == EMPTY
        assert await refused_with(get(client, kind)) == StatusCode.NOT_FOUND

    @every_kind
    async def test_what_is_missing_is_not_found(self, client: Client, kind: str) -> None:
        assert await refused_with(delete(client, kind)) == StatusCode.NOT_FOUND

    @every_kind
    async def test_a_second_delete_finds_nothing(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client)
        await delete(client, kind)
        assert await refused_with(delete(client, kind)) == StatusCode.NOT_FOUND

    @every_kind
    async def test_the_name_can_be_used_again(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client)
        await delete(client, kind)
        again = await KINDS[kind].put(client)
        assert await get(client, kind) == again

    @every_kind
    async def test_other_kinds_of_the_same_name_stay(self, client: Client, kind: str) -> None:
        stored = {one: await KINDS[one].put(client) for one in KINDS}
        await delete(client, kind)
        for other in set(KINDS) - {kind}:
            assert await get(client, other) == stored[other]

    async def test_a_task_def_can_come_back_with_other_inputs(self, client: Client) -> None:
        await client.put_task_def("one", {"a": VariableType.INT})
        await delete(client, "TaskDef")
        again = await client.put_task_def("one", {"a": VariableType.STR})
        assert again.input_vars[0].type_def.primitive_type == VariableType.STR

    async def test_a_workflow_event_def_can_come_back_with_another_content_type(self, client: Client) -> None:
        await put_workflow_event_def(client, VariableType.INT, "one")
        await delete(client, "WorkflowEventDef")
        again = await put_workflow_event_def(client, VariableType.STR, "one")
        assert again.content_type.return_type.primitive_type == VariableType.STR

    async def test_events_of_a_deleted_external_event_def_are_refused(self, client: Client) -> None:
        await client.put_event_def("one")
        await delete(client, "ExternalEventDef")
        assert await refused_with(client.post("one", run="r")) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("kind", ["TaskDef", "UserTaskDef", "ExternalEventDef", "WorkflowEventDef", "StructDef"])
    async def test_a_used_definition_can_be_deleted_but_not_be_used_again(self, client: Client, kind: str) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            if kind == "TaskDef":
                thread.execute("one")
            elif kind == "UserTaskDef":
                thread.assign_user_task("one", user_id="ann")
            elif kind == "ExternalEventDef":
                thread.wait_for_event("one")
            elif kind == "WorkflowEventDef":
                thread.throw_event("one", "text")
            else:
                thread.declare_struct("variable", "one")

        await KINDS[kind].put(client)
        first = await client.register(Workflow("order", entrypoint))
        await delete(client, kind)
        assert await client.stub.GetWfSpec(first.id) == first
        assert await refused_with(client.register(Workflow("order-2", entrypoint))) == StatusCode.INVALID_ARGUMENT

    async def test_a_reference_to_a_deleted_struct_def_is_refused(self, client: Client) -> None:
        await put_struct_versions(client, 1)
        await delete_struct(client, 0)
        error = await refusal(client.put_task_def("ship", {"a": a_struct()}))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "Refers to non-existent StructDef car" in error.details


class TestDeleteOneVersion:
    @pytest.mark.parametrize("number", [0, 1, 2])
    async def test_of_a_user_task_def(self, client: Client, number: int) -> None:
        forms = await put_form_versions(client, 3)
        await delete_form(client, number)
        assert await refused_with(client.stub.GetUserTaskDef(UserTaskDefId(name="approve", version=number))) == (
            StatusCode.NOT_FOUND
        )
        left = [form for form in forms if form.version != number]
        for form in left:
            assert await client.stub.GetUserTaskDef(UserTaskDefId(name="approve", version=form.version)) == form
        assert await latest_form(client) == left[-1]

    @pytest.mark.parametrize("number", [0, 1, 2])
    async def test_of_a_struct_def(self, client: Client, number: int) -> None:
        structs = await put_struct_versions(client, 3)
        await delete_struct(client, number)
        assert await refused_with(get_struct(client, number)) == StatusCode.NOT_FOUND
        left = [struct for struct in structs if struct.id.version != number]
        for struct in left:
            assert await get_struct(client, struct.id.version) == struct
        assert await get_struct(client, -1) == left[-1]

    @pytest.mark.parametrize("revision", [0, 1, 2])
    async def test_of_a_wf_spec(self, client: Client, revision: int) -> None:
        specs = [await client.register(with_variable("order", f"note{n}", VariableType.STR)) for n in range(3)]
        await delete_wf_spec(client, "order", 0, revision)
        assert await refused_with(client.stub.GetWfSpec(specs[revision].id)) == StatusCode.NOT_FOUND
        left = [spec for spec in specs if spec.id.revision != revision]
        for spec in left:
            assert await client.stub.GetWfSpec(spec.id) == spec
        assert await client.stub.GetLatestWfSpec(GetLatestWfSpecRequest(name="order")) == left[-1]

    @pytest.mark.parametrize(
        ("call", "request_"),
        [
            ("DeleteWfSpec", DeleteWfSpecRequest(id=WfSpecId(name="order", revision=1))),
            ("DeleteWfSpec", DeleteWfSpecRequest(id=WfSpecId(name="order", major_version=1))),
            ("DeleteUserTaskDef", DeleteUserTaskDefRequest(id=UserTaskDefId(name="approve", version=1))),
            ("DeleteStructDef", DeleteStructDefRequest(id=StructDefId(name="car", version=1))),
        ],
        ids=["revision", "major version", "user task def", "struct def"],
    )
    async def test_that_is_missing_is_not_found(self, client: Client, call: str, request_: Any) -> None:
        await client.register(only_exit("order"))
        await put_form_versions(client, 1)
        await put_struct_versions(client, 1)
        assert await refused_with(getattr(client.stub, call)(request_)) == StatusCode.NOT_FOUND

    async def test_the_next_user_task_def_follows_the_then_latest(self, client: Client) -> None:
        first, _ = await put_form_versions(client, 2)
        await delete_form(client, 1)
        assert await put_form(client, description="edition 0") == first
        assert (await put_form(client, description="another")).version == 1

    async def test_the_next_struct_def_follows_the_then_latest(self, client: Client) -> None:
        first = await put_struct(client, CAR)
        await put_struct(client, changed(without=("color",)).fields, allowed=FULLY_COMPATIBLE)
        await delete_struct(client, 1)
        assert await put_struct(client, CAR) == first
        assert (await put_struct(client, changed(without=("doors",)).fields, allowed=FULLY_COMPATIBLE)).id.version == 1

    async def test_after_the_last_one_everything_starts_at_zero(self, client: Client) -> None:
        for number in range(2):
            await put_form(client, description=f"edition {number}")
            await put_struct(client, CAR, description=f"edition {number}")
        for number in range(2):
            await delete_form(client, number)
            await delete_struct(client, number)
        assert await refused_with(latest_form(client)) == StatusCode.NOT_FOUND
        assert await refused_with(get_struct(client, -1)) == StatusCode.NOT_FOUND
        assert (await put_form(client, APPROVED)).version == 0
        assert (await put_struct(client, {"other": field(VariableType.INT)})).id.version == 0


class TestDeleteWfSpec:
    async def test_a_deleted_version_cannot_run(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        await delete_wf_spec(client, "order", 0, 0)
        exact = RunWfRequest(wf_spec_name="order", major_version=0, revision=0)
        assert await refused_with(client.stub.RunWf(exact)) == StatusCode.NOT_FOUND
        assert (await client.run("order")).wf_spec_id.revision == 1
        await delete_wf_spec(client, "order", 0, 1)
        assert await refused_with(client.run("order")) == StatusCode.NOT_FOUND

    async def test_the_then_newest_version_runs(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        await delete_wf_spec(client, "order", 0, 1)
        assert (await client.run("order")).wf_spec_id == WfSpecId(name="order")

    async def test_the_next_revision_follows_the_then_newest(self, client: Client) -> None:
        first = await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        await delete_wf_spec(client, "order", 0, 1)
        assert await client.register(only_exit("order")) == first
        assert version(await client.register(with_variable("order", "other", VariableType.STR))) == (0, 1)

    async def test_the_next_major_version_follows_the_then_newest(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        await client.register(with_variable("order", "key", VariableType.STR, required=True))
        await delete_wf_spec(client, "order", 1, 0)
        latest = await client.stub.GetLatestWfSpec(GetLatestWfSpecRequest(name="order"))
        assert version(latest) == (0, 1)
        assert version(await client.register(with_variable("order", "other", VariableType.STR))) == (0, 2)
        assert version(await client.register(with_variable("order", "key", VariableType.INT, required=True))) == (1, 0)

    async def test_an_older_version_leaves_the_numbering_alone(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        await delete_wf_spec(client, "order", 0, 0)
        assert version(await client.register(only_exit("order"))) == (0, 2)

    @pytest.mark.parametrize("allowed", [AllowedUpdateType.MINOR_REVISION_UPDATES, AllowedUpdateType.NO_UPDATES])
    async def test_after_the_last_one_everything_starts_anew(self, client: Client, allowed: AllowedUpdateType) -> None:
        await client.register(with_variable("order", "key", VariableType.STR, required=True))
        await delete_wf_spec(client, "order", 0, 0)
        other = with_variable("order", "key", VariableType.INT, required=True).with_update_type(allowed)
        assert version(await client.register(other)) == (0, 0)


def failure_names(node_run: Any) -> list[str]:
    return [failure.failure_name for failure in node_run.failures]


def pays_then_approves(name: str) -> Workflow:
    """A workflow that waits for ``paid``, then asks Ann to approve."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.wait_for_event("paid")
        thread.assign_user_task("approve", user_id="ann")

    return Workflow(name, entrypoint)


def pays_then_ships(name: str) -> Workflow:
    """A workflow that waits for ``paid``, then executes ``ship``."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.wait_for_event("paid")
        thread.execute("ship")

    return Workflow(name, entrypoint)


async def delete_ship(client: Client) -> None:
    await client.stub.DeleteTaskDef(DeleteTaskDefRequest(id=TaskDefId(name="ship")))


class TestRunsOfDeletedDefinitions:
    async def test_a_run_that_reaches_a_deleted_task_def_fails(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(pays_then_ships("order"))
        await client.run("order", "r")
        await delete_ship(client)
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.ERROR
        node_run = await client.node_run("r", 2)
        assert node_run.status == LHStatus.ERROR
        assert failure_names(node_run) == ["TASK_ERROR"]
        assert await client.task_runs("r") == []

    async def test_a_run_that_starts_at_a_deleted_task_def_fails(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await delete_ship(client)
        assert (await client.run("order", "r")).status == LHStatus.ERROR
        assert failure_names(await client.node_run("r", 1)) == ["TASK_ERROR"]

    async def test_a_run_that_does_not_need_the_task_def_completes(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await delete_ship(client)
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_a_task_def_put_again_in_time_is_used(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(pays_then_ships("order"))
        await client.run("order", "r")
        await delete_ship(client)
        await client.put_task_def("ship")
        await client.post("paid", run="r")
        await client.report(await client.claim("ship"))
        await client.until("r", LHStatus.COMPLETED)

    async def test_a_run_that_reaches_a_deleted_user_task_def_fails(self, client: Client) -> None:
        await client.put_event_def("paid")
        await put_form_versions(client, 1)
        await client.register(pays_then_approves("order"))
        await client.run("order", "r")
        await delete_form(client, 0)
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.ERROR
        node_run = await client.node_run("r", 2)
        assert node_run.status == LHStatus.ERROR
        assert failure_names(node_run) == ["TASK_ERROR"]

    async def test_a_newer_user_task_def_does_not_stand_in_for_the_pinned_one(self, client: Client) -> None:
        await client.put_event_def("paid")
        await put_form_versions(client, 1)
        await client.register(pays_then_approves("order"))
        await client.run("order", "r")
        await put_form(client, APPROVED)
        await delete_form(client, 0)
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.ERROR
        assert failure_names(await client.node_run("r", 2)) == ["TASK_ERROR"]

    async def test_another_version_of_the_user_task_def_may_go(self, client: Client) -> None:
        await client.put_event_def("paid")
        await put_form_versions(client, 1)
        await client.register(pays_then_approves("order"))
        await client.run("order", "r")
        await put_form(client, APPROVED)
        await delete_form(client, 1)
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        (task,) = (await client.stub.ListUserTaskRuns(ListUserTaskRunRequest(wf_run_id=WfRunId(id="r")))).results
        assert task.user_task_def_id == UserTaskDefId(name="approve", version=0)


class TestTaskWorkerGroup:
    @staticmethod
    async def group(client: Client, task_def: str = "ship") -> TaskWorkerGroup:
        reply: TaskWorkerGroup = await client.stub.GetTaskWorkerGroup(TaskDefId(name=task_def))
        return reply

    async def test_without_a_worker_there_is_none(self, client: Client) -> None:
        await client.put_task_def("ship")
        assert await refused_with(self.group(client)) == StatusCode.NOT_FOUND

    async def test_the_first_heartbeat_creates_it(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register_worker("ship", "ann")
        group = await self.group(client)
        assert group.id.task_def_id == TaskDefId(name="ship")
        assert group.created_at.ToMilliseconds() > 0
        assert list(group.task_workers) == ["ann"]
        assert group.task_workers["ann"].task_worker_id == "ann"
        assert group.task_workers["ann"].latest_heartbeat.ToMilliseconds() >= group.created_at.ToMilliseconds()
        assert len(group.task_workers["ann"].hosts) >= 1

    async def test_the_task_def_need_not_exist(self, client: Client) -> None:
        await client.register_worker("unknown", "ann")
        assert list((await self.group(client, "unknown")).task_workers) == ["ann"]

    async def test_every_worker_is_listed_with_its_own_task_def_only(self, client: Client) -> None:
        await client.register_worker("ship", "ann")
        await client.register_worker("ship", "bob")
        await client.register_worker("bill", "cat")
        assert set((await self.group(client, "ship")).task_workers) == {"ann", "bob"}
        assert set((await self.group(client, "bill")).task_workers) == {"cat"}

    async def test_another_heartbeat_refreshes_only_its_worker(self, client: Client) -> None:
        await client.register_worker("ship", "bob")
        await client.register_worker("ship", "ann")
        first = await self.group(client)

        async def refreshed() -> bool:
            await client.register_worker("ship", "ann")
            workers = (await self.group(client)).task_workers
            before = first.task_workers["ann"].latest_heartbeat.ToNanoseconds()
            return workers["ann"].latest_heartbeat.ToNanoseconds() > before

        await eventually(refreshed)
        now = await self.group(client)
        assert set(now.task_workers) == {"ann", "bob"}
        assert now.created_at == first.created_at
        assert now.task_workers["bob"].latest_heartbeat == first.task_workers["bob"].latest_heartbeat

    async def test_it_goes_with_its_task_def(self, client: Client) -> None:
        for task_def in ("ship", "bill"):
            await client.put_task_def(task_def)
            await client.register_worker(task_def, "ann")
        await delete_ship(client)
        assert await refused_with(self.group(client, "ship")) == StatusCode.NOT_FOUND
        assert list((await self.group(client, "bill")).task_workers) == ["ann"]
        await client.register_worker("ship", "bob")
        assert list((await self.group(client, "ship")).task_workers) == ["bob"]
