"""PutTaskDef and PutExternalEventDef: api.md 4.1; definitions of the configuration."""

import pytest
from littlehorse.model import (
    CorrelatedEventConfig,
    ExternalEventDef,
    ExternalEventRetentionPolicy,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    ReturnType,
    StructDefId,
    TaskDef,
    TypeDefinition,
    VariableDef,
    VariableType,
)

from lhd.core import kinds
from lhd.core.commands.deliveries import EnsureEventDef
from lhd.core.settings import Settings
from lhd.errors import Code
from tests.core.shapes import of_type, put_event_def, refused
from tests.core.world import TENANT, World

GOOD_NAMES = ["a", "A", "7", "my-def", "0-a", "a--b"]
BAD_NAMES = ["", "-a", "a-", "a b", "a_b", "a.b", "a/b", "ä", "a\n", "-"]
STRUCT = TypeDefinition(struct_def_id=StructDefId(name="person", version=-1))


@pytest.fixture
def world() -> World:
    return World()


def inputs(*declared: tuple[str, VariableType]) -> list[VariableDef]:
    return [VariableDef(name=name, type_def=TypeDefinition(primitive_type=kind)) for name, kind in declared]


def put_task_def(world: World, request: PutTaskDefRequest) -> TaskDef:
    reply: TaskDef = world.submit(request)
    return reply


class TestPutTaskDef:
    """api.md 4.1."""

    @pytest.mark.parametrize("name", GOOD_NAMES)
    def test_good_name(self, world: World, name: str) -> None:
        assert put_task_def(world, PutTaskDefRequest(name=name)).id.name == name

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_name(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_task_def(world, PutTaskDefRequest(name=name))

    def test_reply_is_the_stored_definition(self, world: World) -> None:
        request = PutTaskDefRequest(
            name="t",
            input_vars=inputs(("b", VariableType.STR), ("a", VariableType.INT)),
            return_type=of_type(VariableType.BOOL),
            description="what it does",
        )
        reply = put_task_def(world, request)
        assert list(reply.input_vars) == list(request.input_vars)
        assert reply.return_type == request.return_type
        assert reply.description == "what it does"
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert world.memory.lookup(kinds.TASK_DEF, (TENANT, "t")) == reply

    def test_return_type_is_always_present_and_empty_means_void(self, world: World) -> None:
        reply = put_task_def(world, PutTaskDefRequest(name="t"))
        assert reply.HasField("return_type")
        assert not reply.return_type.HasField("return_type")

    def test_same_again_returns_the_stored_one(self, world: World) -> None:
        request = PutTaskDefRequest(name="t", input_vars=inputs(("a", VariableType.INT)))
        first = put_task_def(world, request)
        world.now_ms += 1000
        assert put_task_def(world, request) == first

    def test_void_given_and_left_out_are_the_same(self, world: World) -> None:
        first = put_task_def(world, PutTaskDefRequest(name="t"))
        assert put_task_def(world, PutTaskDefRequest(name="t", return_type=ReturnType())) == first

    def test_old_form_of_a_type_is_returned_as_type_def(self, world: World) -> None:
        old = VariableDef(name="a", type=VariableType.STR, masked_value=True)
        (variable,) = put_task_def(world, PutTaskDefRequest(name="t", input_vars=[old])).input_vars
        assert variable.type_def == TypeDefinition(primitive_type=VariableType.STR, masked=True)
        assert not variable.HasField("type")
        assert not variable.HasField("masked_value")

    def test_old_and_new_form_are_the_same(self, world: World) -> None:
        old = VariableDef(name="a", type=VariableType.STR)
        first = put_task_def(world, PutTaskDefRequest(name="t", input_vars=[old]))
        again = put_task_def(world, PutTaskDefRequest(name="t", input_vars=inputs(("a", VariableType.STR))))
        assert again == first

    def test_empty_type_is_json_obj(self, world: World) -> None:
        empty = VariableDef(name="a", type_def=TypeDefinition())
        (variable,) = put_task_def(world, PutTaskDefRequest(name="t", input_vars=[empty])).input_vars
        assert variable.type_def.WhichOneof("defined_type") == "primitive_type"
        assert variable.type_def.primitive_type == VariableType.JSON_OBJ

    @pytest.mark.parametrize(
        "other",
        [
            PutTaskDefRequest(name="t"),
            PutTaskDefRequest(name="t", input_vars=inputs(("a", VariableType.STR), ("b", VariableType.STR))),
            PutTaskDefRequest(name="t", input_vars=inputs(("x", VariableType.INT), ("b", VariableType.STR))),
            PutTaskDefRequest(name="t", input_vars=inputs(("b", VariableType.STR), ("a", VariableType.INT))),
            PutTaskDefRequest(
                name="t",
                input_vars=inputs(("a", VariableType.INT), ("b", VariableType.STR)),
                return_type=of_type(VariableType.INT),
            ),
        ],
        ids=["no inputs", "type", "name", "order", "return type"],
    )
    def test_different_definition_already_exists(self, world: World, other: PutTaskDefRequest) -> None:
        stored = PutTaskDefRequest(name="t", input_vars=inputs(("a", VariableType.INT), ("b", VariableType.STR)))
        first = put_task_def(world, stored)
        with refused(Code.ALREADY_EXISTS, "TaskDef", "[t]", "already exists and is immutable."):
            put_task_def(world, other)
        assert put_task_def(world, stored) == first

    def test_missing_struct_def_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_task_def(world, PutTaskDefRequest(name="t", input_vars=[VariableDef(name="a", type_def=STRUCT)]))
        with refused(Code.INVALID_ARGUMENT):
            put_task_def(world, PutTaskDefRequest(name="t", return_type=ReturnType(return_type=STRUCT)))


class TestPutExternalEventDef:
    """api.md 4.1."""

    @pytest.mark.parametrize("name", GOOD_NAMES)
    def test_good_name(self, world: World, name: str) -> None:
        assert put_event_def(world, name).id.name == name

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_name(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_event_def(world, name)

    def test_reply_echoes_the_request(self, world: World) -> None:
        correlated = CorrelatedEventConfig(ttl_seconds=5, delete_after_first_correlation=True)
        reply = put_event_def(world, "paid", of_type(VariableType.INT), correlated=correlated, retention_s=60)
        assert reply.type_information == of_type(VariableType.INT)
        assert reply.correlated_event_config == correlated
        assert reply.retention_policy.seconds_after_put == 60
        assert reply.created_at.ToMilliseconds() == world.now_ms

    def test_bare_definition(self, world: World) -> None:
        reply = put_event_def(world, "paid")
        assert not reply.HasField("type_information")
        assert not reply.HasField("correlated_event_config")
        assert reply.HasField("retention_policy")
        assert not reply.retention_policy.HasField("seconds_after_put")

    def test_void_type_is_kept_as_void(self, world: World) -> None:
        reply = put_event_def(world, "paid", ReturnType())
        assert reply.HasField("type_information")
        assert not reply.type_information.HasField("return_type")

    def test_empty_type_is_json_obj(self, world: World) -> None:
        reply = put_event_def(world, "paid", ReturnType(return_type=TypeDefinition()))
        assert reply.type_information.return_type.WhichOneof("defined_type") == "primitive_type"
        assert reply.type_information.return_type.primitive_type == VariableType.JSON_OBJ

    def test_later_definition_replaces_the_earlier_one(self, world: World) -> None:
        put_event_def(world, "paid", of_type(VariableType.INT), retention_s=60)
        world.now_ms += 1000
        reply = put_event_def(world, "paid", of_type(VariableType.STR))
        assert reply.type_information == of_type(VariableType.STR)
        assert not reply.retention_policy.HasField("seconds_after_put")
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert stored(world) == reply

    def test_missing_struct_def_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_event_def(world, "paid", ReturnType(return_type=STRUCT))


def stored(world: World, name: str = "paid") -> ExternalEventDef:
    key = (TENANT, name)
    world.memory.fill(kinds.EXTERNAL_EVENT_DEF.lane_of(key), [])
    found = world.memory.lookup(kinds.EXTERNAL_EVENT_DEF, key)
    assert found is not None
    return found


def owning(**fields: object) -> tuple[World, PutExternalEventDefRequest]:
    """A world whose configuration sets these fields of the def ``paid``, and that def."""
    owned = PutExternalEventDefRequest(name="paid", **fields)  # type: ignore[arg-type]
    return World(Settings(event_defs={(TENANT, "paid"): owned})), owned


CORRELATED = CorrelatedEventConfig(ttl_seconds=5, delete_after_first_correlation=True)


class TestDefinitionsOfTheConfiguration:
    """What the configuration sets wins over a later PutExternalEventDef, which may fill in the rest."""

    def test_ensured_definition_exists(self) -> None:
        world, owned = owning(content_type=of_type(VariableType.STR), correlated_event_config=CORRELATED)
        world.submit(EnsureEventDef(owned))
        assert stored(world).type_information == of_type(VariableType.STR)
        assert stored(world).correlated_event_config == CORRELATED

    def test_bare_registration_changes_nothing_that_is_set(self) -> None:
        world, owned = owning(
            content_type=of_type(VariableType.STR),
            correlated_event_config=CORRELATED,
            retention_policy=ExternalEventRetentionPolicy(seconds_after_put=60),
        )
        world.submit(EnsureEventDef(owned))
        reply = put_event_def(world, "paid")
        assert reply.type_information == of_type(VariableType.STR)
        assert reply.correlated_event_config == CORRELATED
        assert reply.retention_policy.seconds_after_put == 60
        assert stored(world) == reply

    def test_registration_with_other_values_changes_nothing_that_is_set(self) -> None:
        world, owned = owning(content_type=of_type(VariableType.STR), correlated_event_config=CORRELATED)
        world.submit(EnsureEventDef(owned))
        reply = put_event_def(world, "paid", of_type(VariableType.INT), correlated=CorrelatedEventConfig())
        assert reply.type_information == of_type(VariableType.STR)
        assert reply.correlated_event_config == CORRELATED

    def test_registration_fills_in_what_is_not_set(self) -> None:
        world, owned = owning(correlated_event_config=CORRELATED)
        world.submit(EnsureEventDef(owned))
        reply = put_event_def(world, "paid", of_type(VariableType.INT), retention_s=60)
        assert reply.type_information == of_type(VariableType.INT)
        assert reply.retention_policy.seconds_after_put == 60
        assert reply.correlated_event_config == CORRELATED

    def test_registration_before_the_definition_is_ensured_is_completed_too(self) -> None:
        world, _ = owning(correlated_event_config=CORRELATED)
        assert put_event_def(world, "paid").correlated_event_config == CORRELATED

    def test_ensuring_keeps_what_a_client_filled_in(self) -> None:
        world, owned = owning(correlated_event_config=CORRELATED)
        put_event_def(world, "paid", of_type(VariableType.INT), retention_s=60)
        world.submit(EnsureEventDef(owned))
        assert stored(world).type_information == of_type(VariableType.INT)
        assert stored(world).retention_policy.seconds_after_put == 60
        assert stored(world).correlated_event_config == CORRELATED

    def test_other_definitions_are_free(self) -> None:
        world, _ = owning(content_type=of_type(VariableType.STR))
        reply = put_event_def(world, "shipped", of_type(VariableType.INT))
        assert reply.type_information == of_type(VariableType.INT)
