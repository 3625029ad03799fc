"""PutUserTaskDef and its versions: api.md 4.1 and 4.4; the checks of USER_TASK nodes at PutWfSpec: api.md 5.5.

Not tested: the order of the fields as a difference, and a literal NULL as the owner (the spec leaves both open).
"""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    DeleteUserTaskDefRequest,
    PutUserTaskDefRequest,
    TaskDefId,
    TaskNode,
    ThreadSpec,
    UserTaskDef,
    UserTaskDefId,
    UserTaskField,
    UserTaskNode,
    UTActionTrigger,
    VariableAssignment,
    VariableType,
    WfSpec,
)
from littlehorse.workflow import WorkflowThread

from lhd.core import kinds
from lhd.errors import Code
from tests.core.shapes import literal, put, put_edited, refused
from tests.core.world import World

BOOL, INT, STR = VariableType.BOOL, VariableType.INT, VariableType.STR
APPROVED = UserTaskField(
    name="approved", type=BOOL, display_name="Approved?", description="whether it may go on", required=True
)
NOTE = UserTaskField(name="note", type=STR)


def put_def(world: World, *fields: UserTaskField, name: str = "approve", description: str | None = None) -> UserTaskDef:
    reply: UserTaskDef = world.submit(PutUserTaskDefRequest(name=name, fields=fields, description=description))
    return reply


def delete(world: World, version: int, name: str = "approve") -> None:
    world.submit(DeleteUserTaskDefRequest(id=UserTaskDefId(name=name, version=version)))


def stored(world: World, version: int, name: str = "approve") -> UserTaskDef | None:
    return world.find(kinds.USER_TASK_DEF, name, version)


def approval(wf: WorkflowThread) -> None:
    wf.declare_str("text")
    wf.declare_int("number")
    wf.assign_user_task("approve", user_id="anna")


def user_task(spec: ThreadSpec | WfSpec) -> UserTaskNode:
    """The user task of a thread, or of a whole WfSpec with one thread."""
    thread = spec if isinstance(spec, ThreadSpec) else spec.thread_specs["entrypoint"]
    (found,) = (node.user_task for node in thread.nodes.values() if node.HasField("user_task"))
    return found


def put_node(world: World, **fields: Any) -> WfSpec:
    """Register a WfSpec whose user task has just these fields."""
    given = UserTaskNode(**{"user_task_def_name": "approve", **fields})
    return put_edited(world, approval, lambda spec: user_task(spec).CopyFrom(given))


@pytest.fixture
def world() -> World:
    return World()


class TestPut:
    """PutUserTaskDef."""

    @pytest.mark.parametrize("name", ["a", "A", "7", "my-def", "0-a", "a--b"])
    def test_good_name(self, world: World, name: str) -> None:
        assert put_def(world, name=name).name == name

    @pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a_b", "a.b", "a/b", "ä", "a\n", "-"])
    def test_bad_name(self, world: World, name: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_def(world, name=name)

    def test_reply_is_the_stored_definition(self, world: World) -> None:
        reply = put_def(world, NOTE, APPROVED, description="what it is for")
        assert list(reply.fields) == [NOTE, APPROVED]
        assert reply.description == "what it is for"
        assert reply.created_at.ToMilliseconds() == world.now_ms
        assert stored(world, reply.version) == reply

    def test_absent_description_stays_absent(self, world: World) -> None:
        assert not put_def(world).HasField("description")

    def test_first_version_is_zero(self, world: World) -> None:
        assert put_def(world).version == 0

    def test_same_again_returns_the_stored_one(self, world: World) -> None:
        first = put_def(world, APPROVED, NOTE, description="d")
        world.now_ms += 1000
        assert put_def(world, APPROVED, NOTE, description="d") == first
        assert stored(world, 1) is None

    @pytest.mark.parametrize(
        ("fields", "description"),
        [
            ([], "d"),
            ([APPROVED, NOTE], "d"),
            ([APPROVED], "another"),
            ([APPROVED], None),
            ([UserTaskField(name="allowed", type=BOOL, display_name="Approved?", required=True)], "d"),
        ],
        ids=["field removed", "field added", "description", "no description", "field renamed"],
    )
    def test_different_definition_is_the_next_version(
        self, world: World, fields: list[UserTaskField], description: str | None
    ) -> None:
        first = put_def(world, APPROVED, description="d")
        world.now_ms += 1000
        second = put_def(world, *fields, description=description)
        assert second.version == 1
        assert list(second.fields) == fields
        assert second.created_at.ToMilliseconds() == world.now_ms
        assert stored(world, 0) == first
        assert stored(world, 1) == second

    @pytest.mark.parametrize(
        "change",
        [{"type": INT}, {"display_name": "Allowed?"}, {"description": "another"}, {"required": False}],
        ids=lambda change: next(iter(change)),
    )
    def test_every_part_of_a_field_counts(self, world: World, change: dict[str, Any]) -> None:
        put_def(world, APPROVED)
        changed = UserTaskField()
        changed.CopyFrom(APPROVED)
        for name, value in change.items():
            setattr(changed, name, value)
        assert put_def(world, changed).version == 1

    def test_only_the_latest_version_is_compared(self, world: World) -> None:
        put_def(world, APPROVED)
        second = put_def(world, NOTE)
        assert put_def(world, NOTE) == second
        assert put_def(world, APPROVED).version == 2

    def test_each_name_has_versions_of_its_own(self, world: World) -> None:
        put_def(world, APPROVED)
        put_def(world, NOTE)
        assert put_def(world, NOTE, name="Approve").version == 0


class TestDelete:
    """DeleteUserTaskDef."""

    @pytest.mark.parametrize(("name", "version"), [("approve", 1), ("unknown", 0)])
    def test_unknown_version_is_not_found(self, world: World, name: str, version: int) -> None:
        put_def(world)
        with refused(Code.NOT_FOUND):
            delete(world, version, name)

    def test_one_version_goes_and_the_others_stay(self, world: World) -> None:
        put_def(world, APPROVED)
        second = put_def(world, NOTE)
        delete(world, 0)
        assert stored(world, 0) is None
        assert stored(world, 1) == second
        with refused(Code.NOT_FOUND):
            delete(world, 0)

    def test_next_version_follows_the_newest_that_is_left(self, world: World) -> None:
        first = put_def(world, APPROVED)
        put_def(world, NOTE)
        delete(world, 1)
        assert put_def(world, APPROVED) == first
        assert put_def(world, APPROVED, NOTE).version == 1

    def test_deletion_in_use_is_accepted_and_a_later_wf_spec_is_refused(self, world: World) -> None:
        put_def(world)
        put_node(world, user_id=literal("anna"))
        delete(world, 0)
        with refused(Code.INVALID_ARGUMENT):
            put_node(world, user_id=literal("ben"))


class TestNode:
    """USER_TASK nodes at PutWfSpec."""

    @pytest.fixture(autouse=True)
    def _definition(self, world: World) -> None:
        put_def(world, APPROVED)
        world.put_task_def("remind", STR)

    @pytest.mark.parametrize(
        "fields",
        [
            {"user_id": literal("anna")},
            {"user_group": literal("finance")},
            {"user_id": literal("anna"), "user_group": literal("finance")},
            {"user_id": VariableAssignment(variable_name="text")},
        ],
        ids=["user", "group", "both", "variable"],
    )
    def test_user_or_group_will_do(self, world: World, fields: dict[str, VariableAssignment]) -> None:
        stored_node = user_task(put_node(world, **fields))
        assert stored_node.user_task_def_name == "approve"
        assert stored_node.HasField("user_id") == ("user_id" in fields)
        assert stored_node.HasField("user_group") == ("user_group" in fields)

    def test_no_owner_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_node(world)

    @pytest.mark.parametrize("blank", ["", "  "])
    @pytest.mark.parametrize("others", [{}, {"user_group": literal("finance")}], ids=["alone", "beside a group"])
    def test_blank_literal_user_is_invalid_argument(
        self, world: World, others: dict[str, VariableAssignment], blank: str
    ) -> None:
        with refused(Code.INVALID_ARGUMENT, "UserId can't be empty"):
            put_node(world, user_id=literal(blank), **others)

    @pytest.mark.parametrize("blank", ["", "  "])
    @pytest.mark.parametrize("others", [{}, {"user_id": literal("anna")}], ids=["alone", "beside a user"])
    def test_blank_literal_group_is_invalid_argument(
        self, world: World, others: dict[str, VariableAssignment], blank: str
    ) -> None:
        with refused(Code.INVALID_ARGUMENT, "UserGroup can't be empty"):
            put_node(world, user_group=literal(blank), **others)

    def test_unknown_definition_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_node(world, user_task_def_name="unknown", user_id=literal("anna"))

    def test_unknown_version_is_invalid_argument(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_node(world, user_task_def_version=1, user_id=literal("anna"))

    def test_latest_version_is_pinned(self, world: World) -> None:
        put_def(world, NOTE)
        stored_node = user_task(put(world, approval))
        assert stored_node.HasField("user_task_def_version")
        assert stored_node.user_task_def_version == 1

    def test_version_zero_is_pinned_and_present(self, world: World) -> None:
        stored_node = user_task(put(world, approval))
        assert stored_node.HasField("user_task_def_version")
        assert stored_node.user_task_def_version == 0

    def test_given_version_is_kept(self, world: World) -> None:
        put_def(world, NOTE)
        stored_node = user_task(put_node(world, user_task_def_version=0, user_id=literal("anna")))
        assert stored_node.HasField("user_task_def_version")
        assert stored_node.user_task_def_version == 0

    def test_same_program_again_returns_the_stored_wf_spec(self, world: World) -> None:
        assert put(world, approval) == put(world, approval)

    def test_same_program_after_a_newer_definition_is_a_new_revision(self, world: World) -> None:
        first = put(world, approval)
        put_def(world, NOTE)
        second = put(world, approval)
        assert (first.id.major_version, first.id.revision) == (0, 0)
        assert (second.id.major_version, second.id.revision) == (0, 1)
        assert user_task(second).user_task_def_version == 1

    def test_output_fits_a_json_object(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("kept").assign(wf.assign_user_task("approve", user_id="anna"))

        put(world, body)

    @pytest.mark.parametrize("kind", [INT, STR, BOOL, VariableType.JSON_ARR])
    def test_output_fits_nothing_else(self, world: World, kind: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_variable("kept", kind).assign(wf.assign_user_task("approve", user_id="anna"))

        with refused(Code.INVALID_ARGUMENT):
            put(world, body)

    def test_part_of_the_output_fits_anything(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("kept").assign(wf.assign_user_task("approve", user_id="anna").with_json_path("$.n"))

        put(world, body)

    @pytest.mark.parametrize(
        "using",
        [
            lambda v: {"user_id": v},
            lambda v: {"user_group": v},
            lambda v: {"notes": v},
            lambda v: {"on_cancellation_exception_name": v},
            lambda v: {"actions": [UTActionTrigger(cancel=UTActionTrigger.UTACancel(), delay_seconds=v)]},
            lambda v: {"actions": [reassignment(user_id=v)]},
            lambda v: {"actions": [reassignment(user_group=v)]},
            lambda v: {"actions": [reminder(v)]},
        ],
        ids=["user", "group", "notes", "exception name", "delay", "new user", "new group", "reminder"],
    )
    def test_undeclared_variable_is_invalid_argument(
        self, world: World, using: Callable[[VariableAssignment], dict[str, Any]]
    ) -> None:
        fields = {"user_id": literal("anna"), "user_group": literal("finance")}
        with refused(Code.INVALID_ARGUMENT):
            put_node(world, **{**fields, **using(VariableAssignment(variable_name="undeclared"))})
        put_node(world, **fields)

    def test_notes_exception_name_and_triggers_are_kept(self, world: World) -> None:
        given = UserTaskNode(
            user_task_def_name="approve",
            user_task_def_version=0,
            user_id=literal("anna"),
            user_group=VariableAssignment(variable_name="text"),
            notes=literal("read this"),
            on_cancellation_exception_name=literal("not-today"),
            actions=[
                UTActionTrigger(cancel=UTActionTrigger.UTACancel(), delay_seconds=literal(5)),
                reassignment(user_id=literal("boss")),
            ],
        )
        spec = put_edited(world, approval, lambda spec: user_task(spec).CopyFrom(given))
        assert user_task(spec) == given


def reassignment(**owner: VariableAssignment) -> UTActionTrigger:
    return UTActionTrigger(
        reassign=UTActionTrigger.UTAReassign(**owner), delay_seconds=literal(5), hook=UTActionTrigger.ON_TASK_ASSIGNED
    )


def reminder(value: VariableAssignment) -> UTActionTrigger:
    task = TaskNode(task_def_id=TaskDefId(name="remind"), variables=[value])
    return UTActionTrigger(task=UTActionTrigger.UTATask(task=task), delay_seconds=literal(5))
