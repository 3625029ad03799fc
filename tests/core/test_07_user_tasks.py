"""USER_TASK nodes and the requests about UserTaskRuns: execution.md 7.6 and 11, api.md section 10.

Triggers and comments have files of their own. Not tested: SaveUserTaskRunProgress with no ``user_id``, NULL as a
result, and which of two FAILED_PRECONDITIONs comes first (the spec leaves them open); reads, lists and searches (no
part of the core).
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    Array,
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    DeleteUserTaskDefRequest,
    DeleteWfRunRequest,
    LHErrorType,
    LHStatus,
    Map,
    PutUserTaskDefRequest,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    SaveUserTaskRunProgressRequest,
    Struct,
    ThreadSpec,
    UserTaskDefId,
    UserTaskEvent,
    UserTaskField,
    UserTaskNode,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    VariableAssignment,
    VariableType,
    VariableValue,
    WfRunId,
    WfSpec,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import WorkflowThread

from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    failure,
    literal,
    node,
    put,
    put_edited,
    put_event_def,
    python,
    reached,
    refused,
    stop,
    thread,
    variable,
    wf_run,
)
from tests.core.world import World

HALTED = LHStatus.HALTED
UNASSIGNED, ASSIGNED, DONE, CANCELLED = (
    UserTaskRunStatus.UNASSIGNED,
    UserTaskRunStatus.ASSIGNED,
    UserTaskRunStatus.DONE,
    UserTaskRunStatus.CANCELLED,
)
IGNORE_CLAIM = SaveUserTaskRunProgressRequest.IGNORE_CLAIM
Assigned = UserTaskEvent.UTEAssigned

FIELDS = [
    UserTaskField(name="approved", type=VariableType.BOOL, required=True),
    UserTaskField(name="note", type=VariableType.STR),
    UserTaskField(name="amount", type=VariableType.INT),
    UserTaskField(name="share", type=VariableType.DOUBLE),
    UserTaskField(name="details", type=VariableType.JSON_OBJ),
    UserTaskField(name="tags", type=VariableType.JSON_ARR),
]


def broken() -> VariableAssignment:
    """An assignment that registration accepts and no run can evaluate: ``doc`` is NULL."""
    return VariableAssignment(variable_name="doc", json_path="$.anything")


def approval(wf: WorkflowThread) -> None:
    """A user task of anna at position 1, whose output goes to ``kept``."""
    for name in ("text", "other"):
        wf.declare_str(name)
    wf.declare_int("number")
    wf.declare_json_obj("doc")
    kept = wf.declare_json_obj("kept")
    kept.assign(wf.assign_user_task("approve", user_id="anna"))


def two_approvals(wf: WorkflowThread) -> None:
    """User tasks of anna at positions 1 and 2."""
    wf.assign_user_task("approve", user_id="anna")
    wf.assign_user_task("approve", user_id="anna")


def approval_in_both_threads(wf: WorkflowThread) -> None:
    """User tasks at position 2 of thread 0 and at position 1 of its child."""

    def child(wf: WorkflowThread) -> None:
        wf.assign_user_task("approve", user_id="anna")

    wf.spawn_thread(child, "child")
    wf.assign_user_task("approve", user_id="anna")


def put_approval(world: World, body: Body = approval, /, **fields: Any) -> WfSpec:
    """Register ``body`` with these fields for its first user task."""

    def edit(spec: ThreadSpec) -> None:
        first = next(node for name, node in sorted(spec.nodes.items()) if node.HasField("user_task"))
        first.user_task.CopyFrom(UserTaskNode(user_task_def_name="approve", **fields))

    return put_edited(world, body, edit)


def put_user_task_def(world: World) -> None:
    world.submit(PutUserTaskDefRequest(name="approve", fields=FIELDS))


def the(guid: str = "0-1", wf_run_id: str = "r") -> UserTaskRunId:
    return UserTaskRunId(wf_run_id=WfRunId(id=wf_run_id), user_task_guid=guid)


def assign(world: World, user: str | None = None, group: str | None = None, *, override: bool = False) -> None:
    world.submit(
        AssignUserTaskRunRequest(user_task_run_id=the(), user_id=user, user_group=group, override_claim=override)
    )


def values(results: dict[str, Any]) -> dict[str, VariableValue]:
    return {
        name: value if isinstance(value, VariableValue) else to_variable_value(value) for name, value in results.items()
    }


def complete(world: World, by: str = "", guid: str = "0-1", **results: Any) -> None:
    world.submit(CompleteUserTaskRunRequest(user_task_run_id=the(guid), user_id=by, results=values(results)))


def save(world: World, by: str, *, ignore_claim: bool = False, **results: Any) -> UserTaskRun:
    request = SaveUserTaskRunProgressRequest(user_task_run_id=the(), user_id=by, results=values(results))
    if ignore_claim:
        request.policy = IGNORE_CLAIM
    reply: UserTaskRun = world.submit(request)
    return reply


def cancel(world: World, guid: str = "0-1") -> None:
    world.submit(CancelUserTaskRunRequest(user_task_run_id=the(guid)))


def resume(world: World) -> None:
    world.submit(ResumeWfRunRequest(wf_run_id=WfRunId(id="r")))


def state(world: World, guid: str = "0-1") -> UserTaskRun:
    """The UserTaskRun as it is now."""
    found = world.user_task_run(guid)
    assert found is not None, f"no UserTaskRun {guid}"
    return copy.deepcopy(found)


def owner(world: World, guid: str = "0-1") -> tuple[str | None, str | None]:
    """User and group; None for one that is unset."""
    run = state(world, guid)
    return (
        run.user_id if run.HasField("user_id") else None,
        run.user_group if run.HasField("user_group") else None,
    )


def history(world: World, guid: str = "0-1") -> list[str | None]:
    """The kinds of the events."""
    return [event.WhichOneof("event") for event in state(world, guid).events]


def results(world: World) -> dict[str, VariableValue]:
    return dict(state(world).results)


def finish(world: World, status: UserTaskRunStatus) -> None:
    """Bring the UserTaskRun to one of its terminal states."""
    if status == DONE:
        complete(world, approved=True)
    else:
        cancel(world)
    assert state(world).status == status


def terminal() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("status", [DONE, CANCELLED], ids=["done", "cancelled"])


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    put_user_task_def(world)
    put(world, approval)
    return world


class TestArrival:
    """execution.md 7.6; creation in api.md 10."""

    def test_node_waits_and_points_to_its_user_task_run(self, world: World) -> None:
        assert world.run("wf").status == RUNNING
        assert node(world, 1).status == RUNNING
        assert node(world, 1).user_task.user_task_run_id == the("0-1")

    def test_user_task_run_is_created(self, world: World) -> None:
        world.run("wf")
        run = state(world)
        assert run.id == the("0-1")
        assert run.node_run_id == node(world, 1).id
        assert run.user_task_def_id == UserTaskDefId(name="approve", version=0)
        assert run.scheduled_time.ToMilliseconds() == world.now_ms
        assert not run.results

    @pytest.mark.parametrize(
        ("user", "group", "status"),
        [("anna", None, ASSIGNED), (None, "finance", UNASSIGNED), ("anna", "finance", ASSIGNED)],
    )
    def test_assigned_means_that_a_user_is_set(
        self, world: World, user: str | None, group: str | None, status: UserTaskRunStatus
    ) -> None:
        put_approval(world, user_id=user and literal(user), user_group=group and literal(group))
        world.run("wf")
        assert state(world).status == status
        assert owner(world) == (user, group)

    @pytest.mark.parametrize(("user", "group"), [("anna", None), (None, "finance"), ("anna", "finance")])
    def test_first_assignment_is_logged_as_epoch_1(self, world: World, user: str | None, group: str | None) -> None:
        put_approval(world, user_id=user and literal(user), user_group=group and literal(group))
        world.run("wf")
        (event,) = state(world).events
        assert event.assigned == Assigned(new_user_id=user, new_user_group=group)
        assert event.time.ToMilliseconds() == world.now_ms
        assert state(world).epoch == 1

    def test_owner_and_notes_of_variables(self, world: World) -> None:
        put_approval(world, user_id=variable("text"), user_group=variable("other"), notes=variable("text"))
        world.run("wf", text="ben", other="sales")
        assert owner(world) == ("ben", "sales")
        assert state(world).notes == "ben"

    def test_owner_and_notes_are_cast_to_str(self, world: World) -> None:
        put_approval(world, user_id=variable("number"), user_group=literal(1.5), notes=literal(True))
        world.run("wf", number=5)
        assert owner(world) == ("5", "1.5")
        assert state(world).notes == "true"

    @pytest.mark.parametrize(("user", "group"), [("anna", None), (None, "sales")])
    def test_one_owner_field_may_be_null(self, world: World, user: str | None, group: str | None) -> None:
        put_approval(world, user_id=variable("text"), user_group=variable("other"))
        assert world.run("wf", text=user, other=group).status == RUNNING
        assert owner(world) == (user, group)

    @pytest.mark.parametrize("fields", [("user_id",), ("user_group",), ("user_id", "user_group")])
    def test_no_owner_is_var_error(self, world: World, fields: tuple[str, ...]) -> None:
        put_approval(world, **{field: variable("text") for field in fields})
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_ERROR"
        assert failure(world, 1).message.startswith("Invalid user task assignment")

    @pytest.mark.parametrize("blank", ["", "  "])
    @pytest.mark.parametrize("other", ["given", None])
    @pytest.mark.parametrize("field", ["user_id", "user_group"])
    def test_blank_owner_is_var_error(self, world: World, field: str, other: str | None, blank: str) -> None:
        fields = {"user_id": variable("other"), "user_group": variable("other"), field: variable("text")}
        put_approval(world, **fields)
        assert world.run("wf", text=blank, other=other).status == ERROR
        assert failure(world, 1).failure_name == "VAR_ERROR"

    @pytest.mark.parametrize("field", ["user_id", "user_group", "notes"])
    def test_field_that_does_not_evaluate_is_var_sub_error(self, world: World, field: str) -> None:
        put_approval(world, **{"user_id": literal("anna"), field: broken()})
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"

    def test_deleted_user_task_def_is_task_error(self, world: World) -> None:
        world.submit(DeleteUserTaskDefRequest(id=UserTaskDefId(name="approve", version=0)))
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "TASK_ERROR"

    def test_newer_version_does_not_stand_in_for_a_deleted_one(self, world: World) -> None:
        world.submit(PutUserTaskDefRequest(name="approve"))
        world.submit(DeleteUserTaskDefRequest(id=UserTaskDefId(name="approve", version=0)))
        world.run("wf")
        assert failure(world, 1).failure_name == "TASK_ERROR"

    def test_pinned_version_is_used_although_a_newer_one_exists(self, world: World) -> None:
        world.submit(PutUserTaskDefRequest(name="approve"))
        world.run("wf")
        assert state(world).user_task_def_id == UserTaskDefId(name="approve", version=0)
        with refused(Code.INVALID_ARGUMENT):
            complete(world)

    def test_each_node_has_its_own_user_task_run(self, world: World) -> None:
        put(world, two_approvals)
        world.run("wf")
        assert world.user_task_run("0-2") is None
        complete(world, approved=True)
        assert state(world, "0-1").status == DONE
        assert state(world, "0-2").status == ASSIGNED
        assert node(world, 2).user_task.user_task_run_id == the("0-2")

    def test_guid_is_thread_and_position(self, world: World) -> None:
        put(world, approval_in_both_threads)
        world.run("wf")
        assert state(world, "0-2").node_run_id == node(world, 2).id
        assert state(world, "1-1").node_run_id == node(world, 1, number=1).id


@pytest.mark.parametrize("unknown", [the("0-9"), the("0-0"), the(wf_run_id="unknown")], ids=["task", "node", "run"])
@pytest.mark.parametrize(
    "request_for",
    [
        lambda id_: AssignUserTaskRunRequest(user_task_run_id=id_, user_id="ben"),
        lambda id_: SaveUserTaskRunProgressRequest(user_task_run_id=id_, user_id="anna"),
        lambda id_: CompleteUserTaskRunRequest(user_task_run_id=id_, user_id="anna"),
        lambda id_: CancelUserTaskRunRequest(user_task_run_id=id_),
    ],
    ids=["assign", "save", "complete", "cancel"],
)
def test_unknown_user_task_run_is_not_found(
    world: World, request_for: Callable[[UserTaskRunId], Any], unknown: UserTaskRunId
) -> None:
    world.run("wf")
    with refused(Code.NOT_FOUND):
        world.submit(request_for(unknown))


class TestAssign:
    """AssignUserTaskRun."""

    @pytest.mark.parametrize("blank", ["", "  "])
    @pytest.mark.parametrize("other", ["given", None])
    def test_blank_owner_is_invalid_argument(self, world: World, other: str | None, blank: str) -> None:
        world.run("wf")
        with refused(Code.INVALID_ARGUMENT):
            assign(world, blank, other, override=True)
        with refused(Code.INVALID_ARGUMENT):
            assign(world, other, blank, override=True)
        assert owner(world) == ("anna", None)

    def test_no_owner_is_invalid_argument(self, world: World) -> None:
        world.run("wf")
        with refused(Code.INVALID_ARGUMENT):
            assign(world, override=True)

    @pytest.mark.parametrize("owner", [{}, {"user_id": " "}, {"user_group": ""}])
    def test_invalid_owner_is_told_before_an_unknown_run(self, world: World, owner: dict[str, Any]) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.submit(AssignUserTaskRunRequest(user_task_run_id=the(wf_run_id="unknown"), **owner))

    @pytest.mark.parametrize("owner", [{}, {"user_id": " "}])
    def test_invalid_owner_is_told_before_a_claim(self, world: World, owner: dict[str, Any]) -> None:
        world.run("wf")
        with refused(Code.INVALID_ARGUMENT):
            world.submit(AssignUserTaskRunRequest(user_task_run_id=the(), **owner))

    @pytest.mark.parametrize(("user", "group"), [("ben", None), ("anna", None), (None, "sales")])
    def test_claimed_task_is_not_reassigned_without_override(
        self, world: World, user: str | None, group: str | None
    ) -> None:
        world.run("wf")
        before = state(world)
        with refused(Code.FAILED_PRECONDITION):
            assign(world, user, group)
        assert state(world) == before

    def test_task_of_a_group_is_claimed_without_override(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        assign(world, "ben", "finance")
        assert state(world).status == ASSIGNED
        assert owner(world) == ("ben", "finance")

    def test_task_of_a_group_goes_to_another_group_without_override(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        assign(world, group="sales")
        assert state(world).status == UNASSIGNED
        assert owner(world) == (None, "sales")

    @terminal()
    @pytest.mark.parametrize("override", [False, True])
    def test_terminal_task_is_failed_precondition(
        self, world: World, status: UserTaskRunStatus, override: bool
    ) -> None:
        world.run("wf")
        finish(world, status)
        before = state(world)
        with refused(Code.FAILED_PRECONDITION):
            assign(world, "ben", override=override)
        assert state(world) == before

    def test_terminal_task_without_a_user_is_failed_precondition(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        cancel(world)
        with refused(Code.FAILED_PRECONDITION):
            assign(world, "ben")

    @pytest.mark.parametrize(
        ("user", "group", "status"),
        [("ben", None, ASSIGNED), (None, "sales", UNASSIGNED), ("ben", "sales", ASSIGNED)],
    )
    def test_both_owner_fields_are_replaced(
        self, world: World, user: str | None, group: str | None, status: UserTaskRunStatus
    ) -> None:
        put_approval(world, user_id=literal("anna"), user_group=literal("finance"))
        world.run("wf")
        assign(world, user, group, override=True)
        assert owner(world) == (user, group)
        assert state(world).status == status

    def test_assignment_is_logged_with_the_old_and_the_new_owner(self, world: World) -> None:
        put_approval(world, user_id=literal("anna"), user_group=literal("finance"))
        world.run("wf")
        world.wait(5)
        assign(world, group="sales", override=True)
        event = state(world).events[1]
        assert event.assigned == Assigned(old_user_id="anna", old_user_group="finance", new_user_group="sales")
        assert event.time.ToMilliseconds() == world.now_ms

    def test_each_assignment_raises_the_epoch_and_is_logged(self, world: World) -> None:
        world.run("wf")
        assign(world, "ben", override=True)
        assign(world, "ben", override=True)
        assert state(world).epoch == 3
        assert history(world) == ["assigned"] * 3

    def test_node_goes_on_waiting(self, world: World) -> None:
        world.run("wf")
        assign(world, "ben", override=True)
        assert node(world, 1).status == RUNNING
        assert wf_run(world).status == RUNNING


class TestSave:
    """SaveUserTaskRunProgress."""

    def test_reply_is_the_stored_user_task_run(self, world: World) -> None:
        world.run("wf")
        assert save(world, "anna", note="draft") == state(world)
        assert results(world) == values({"note": "draft"})

    def test_results_are_replaced(self, world: World) -> None:
        world.run("wf")
        save(world, "anna", note="draft", amount=1)
        save(world, "anna", amount=2)
        assert results(world) == values({"amount": 2})

    def test_types_and_names_are_not_checked(self, world: World) -> None:
        world.run("wf")
        save(world, "anna", approved="maybe", unknown=5)
        assert results(world) == values({"approved": "maybe", "unknown": 5})

    def test_progress_is_logged(self, world: World) -> None:
        world.run("wf")
        world.wait(5)
        save(world, "anna", note="draft")
        assert history(world) == ["assigned", "saved"]
        event = state(world).events[1]
        assert event.saved == UserTaskEvent.UTESaved(user_id="anna", results=values({"note": "draft"}))
        assert event.time.ToMilliseconds() == world.now_ms

    def test_task_of_another_user_is_failed_precondition(self, world: World) -> None:
        world.run("wf")
        before = state(world)
        with refused(Code.FAILED_PRECONDITION, "another user"):
            save(world, "ben", note="draft")
        assert state(world) == before

    def test_claim_can_be_ignored_and_stays(self, world: World) -> None:
        world.run("wf")
        save(world, "ben", ignore_claim=True, note="draft")
        assert results(world) == values({"note": "draft"})
        assert state(world).events[1].saved.user_id == "ben"
        assert owner(world) == ("anna", None)

    def test_task_of_a_group_can_be_saved_by_anybody_and_stays_unassigned(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        save(world, "ben", note="draft")
        assert results(world) == values({"note": "draft"})
        assert owner(world) == (None, "finance")
        assert state(world).status == UNASSIGNED

    @terminal()
    @pytest.mark.parametrize("ignore_claim", [False, True])
    def test_terminal_task_is_failed_precondition(
        self, world: World, status: UserTaskRunStatus, ignore_claim: bool
    ) -> None:
        world.run("wf")
        finish(world, status)
        before = state(world)
        with refused(Code.FAILED_PRECONDITION):
            save(world, "anna", ignore_claim=ignore_claim, note="late")
        assert state(world) == before

    def test_node_goes_on_waiting_although_every_result_is_there(self, world: World) -> None:
        world.run("wf")
        save(world, "anna", approved=True)
        assert node(world, 1).status == RUNNING
        assert wf_run(world).status == RUNNING


class TestComplete:
    """CompleteUserTaskRun."""

    def test_task_is_done_and_the_run_goes_on(self, world: World) -> None:
        world.run("wf")
        world.wait(5)
        complete(world, "anna", approved=True)
        assert state(world).status == DONE
        assert node(world, 1).status == COMPLETED
        assert node(world, 1).end_time.ToMilliseconds() == world.now_ms
        assert wf_run(world).status == COMPLETED

    def test_completion_is_logged(self, world: World) -> None:
        world.run("wf")
        world.wait(5)
        complete(world, "anna", approved=True)
        assert history(world) == ["assigned", "completed"]
        assert state(world).events[1].time.ToMilliseconds() == world.now_ms

    def test_output_is_json_with_a_key_for_each_result(self, world: World) -> None:
        world.run("wf")
        complete(world, "anna", approved=True, note="fine", amount=5, share=0.5)
        assert python(world, "kept") == {"approved": True, "note": "fine", "amount": 5, "share": 0.5}

    def test_part_of_the_output_can_be_used(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            amount = wf.declare_int("amount")
            amount.assign(wf.assign_user_task("approve", user_id="anna").with_json_path("$.amount"))

        put(world, body)
        world.run("wf")
        complete(world, "anna", approved=True, amount=5)
        assert python(world, "amount") == 5

    def test_definition_without_fields_is_completed_without_results(self, world: World) -> None:
        world.submit(PutUserTaskDefRequest(name="approve"))
        put(world, approval)
        world.run("wf")
        complete(world, "anna")
        assert wf_run(world).status == COMPLETED
        assert python(world, "kept") == {}

    def test_results_of_every_type_are_stored(self, world: World) -> None:
        given: dict[str, Any] = {
            "approved": False,
            "note": "",
            "amount": -5,
            "share": 2.0,
            "details": {"a": 1},
            "tags": [1],
        }
        world.run("wf")
        complete(world, "anna", **given)
        stored = {name: value.WhichOneof("value") for name, value in results(world).items()}
        assert stored == {name: value.WhichOneof("value") for name, value in values(given).items()}
        assert state(world).status == DONE

    def test_results_are_merged_over_saved_ones(self, world: World) -> None:
        world.run("wf")
        save(world, "anna", note="draft", amount=1)
        complete(world, "anna", approved=True, note="final")
        assert results(world) == values({"approved": True, "note": "final", "amount": 1})
        assert python(world, "kept") == {"approved": True, "note": "final", "amount": 1}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("unknown", "x"),
            ("Note", "x"),
            ("note", 5),
            ("note", True),
            ("amount", 1.5),
            ("amount", 1.0),
            ("amount", "5"),
            ("share", 5),
            ("approved", "true"),
            ("details", [1]),
            ("tags", {"a": 1}),
            ("details", "{}"),
            ("tags", VariableValue(array=Array())),
            ("details", VariableValue(map=Map())),
            ("details", VariableValue(struct=Struct())),
        ],
    )
    def test_result_that_is_unknown_or_of_another_type_is_invalid_argument(
        self, world: World, field: str, value: Any
    ) -> None:
        world.run("wf")
        before = state(world)
        with refused(Code.INVALID_ARGUMENT):
            complete(world, "anna", **{"approved": True, field: value})
        assert state(world) == before
        assert node(world, 1).status == RUNNING

    def test_missing_required_field_is_invalid_argument(self, world: World) -> None:
        world.run("wf")
        with refused(Code.INVALID_ARGUMENT):
            complete(world, "anna", note="fine")
        assert state(world).status == ASSIGNED

    def test_required_field_that_was_only_saved_is_missing(self, world: World) -> None:
        world.run("wf")
        save(world, "anna", approved=True)
        with refused(Code.INVALID_ARGUMENT):
            complete(world, "anna", note="fine")
        assert results(world) == values({"approved": True})

    def test_refused_completion_by_another_user_does_not_reassign(self, world: World) -> None:
        world.run("wf")
        before = state(world)
        with refused(Code.INVALID_ARGUMENT):
            complete(world, "ben")
        assert state(world) == before

    def test_refused_completion_can_be_corrected(self, world: World) -> None:
        world.run("wf")
        with refused(Code.INVALID_ARGUMENT):
            complete(world, "anna", approved="yes")
        complete(world, "anna", approved=True)
        assert wf_run(world).status == COMPLETED

    def test_another_user_is_assigned_first_and_the_group_is_kept(self, world: World) -> None:
        put_approval(world, user_id=literal("anna"), user_group=literal("finance"))
        world.run("wf")
        complete(world, "ben", approved=True)
        assert owner(world) == ("ben", "finance")
        assert state(world).epoch == 2
        assert history(world) == ["assigned", "assigned", "completed"]
        assigned = state(world).events[1].assigned
        assert (assigned.old_user_id, assigned.new_user_id) == ("anna", "ben")
        assert assigned.new_user_group == "finance"
        assert state(world).status == DONE

    def test_task_of_a_group_is_assigned_to_who_completes_it(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        complete(world, "ben", approved=True)
        assert owner(world) == ("ben", "finance")
        assert history(world) == ["assigned", "assigned", "completed"]
        assert wf_run(world).status == COMPLETED

    def test_same_user_is_not_assigned_again(self, world: World) -> None:
        world.run("wf")
        complete(world, "anna", approved=True)
        assert state(world).epoch == 1
        assert history(world) == ["assigned", "completed"]

    @pytest.mark.parametrize("fields", [{"user_id": "anna"}, {"user_group": "finance"}])
    def test_unset_user_leaves_the_owner_alone(self, world: World, fields: dict[str, str]) -> None:
        put_approval(world, **{field: literal(value) for field, value in fields.items()})
        world.run("wf")
        complete(world, approved=True)
        assert owner(world) == (fields.get("user_id"), fields.get("user_group"))
        assert history(world) == ["assigned", "completed"]
        assert state(world).status == DONE

    @terminal()
    @pytest.mark.parametrize("given", [{"approved": False}, {"unknown": 1}, {}])
    def test_terminal_task_is_left_alone(self, world: World, status: UserTaskRunStatus, given: dict[str, Any]) -> None:
        world.run("wf")
        finish(world, status)
        before = state(world)
        ended = wf_run(world).status
        complete(world, "ben", **given)
        assert state(world) == before
        assert wf_run(world).status == ended


class TestCancel:
    """CancelUserTaskRun and the failure that it raises."""

    def test_task_is_cancelled_and_the_run_fails(self, world: World) -> None:
        world.run("wf")
        cancel(world)
        assert state(world).status == CANCELLED
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"
        assert wf_run(world).status == ERROR

    def test_cancellation_is_logged(self, world: World) -> None:
        world.run("wf")
        world.wait(5)
        cancel(world)
        assert history(world) == ["assigned", "cancelled"]
        assert state(world).events[1].time.ToMilliseconds() == world.now_ms

    def test_unassigned_task_can_be_cancelled(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        cancel(world)
        assert state(world).status == CANCELLED
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"

    @pytest.mark.parametrize("name", [literal("not-today"), variable("text")], ids=["literal", "variable"])
    def test_exception_name_of_the_node_is_raised(self, world: World, name: VariableAssignment) -> None:
        put_approval(world, user_id=literal("anna"), on_cancellation_exception_name=name)
        world.run("wf", text="not-today")
        cancel(world)
        assert state(world).status == CANCELLED
        assert node(world, 1).status == EXCEPTION
        assert failure(world, 1).failure_name == "not-today"
        assert wf_run(world).status == EXCEPTION

    def test_exception_name_of_the_sdk(self, world: World) -> None:
        put(world, lambda wf: wf.assign_user_task("approve", "anna").with_on_cancellation_exception("not-today"))
        world.run("wf")
        cancel(world)
        assert failure(world, 1).failure_name == "not-today"

    @pytest.mark.parametrize("name", ["", "  ", None])
    def test_blank_exception_name_is_user_task_cancelled(self, world: World, name: str | None) -> None:
        put_approval(world, user_id=literal("anna"), on_cancellation_exception_name=variable("text"))
        world.run("wf", text=name)
        cancel(world)
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"
        assert wf_run(world).status == ERROR

    def test_exception_name_of_a_technical_failure_is_an_error(self, world: World) -> None:
        put_approval(world, user_id=literal("anna"), on_cancellation_exception_name=literal("TIMEOUT"))
        world.run("wf")
        cancel(world)
        assert failure(world, 1).failure_name == "TIMEOUT"
        assert wf_run(world).status == ERROR

    @terminal()
    def test_terminal_task_is_left_alone(self, world: World, status: UserTaskRunStatus) -> None:
        world.run("wf")
        finish(world, status)
        before = state(world)
        ended = wf_run(world).status
        cancel(world)
        assert state(world) == before
        assert wf_run(world).status == ended
        assert len(node(world, 1).failures) == (0 if status == DONE else 1)

    def test_cancellation_can_be_caught(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            task = wf.assign_user_task("approve", user_id="anna")
            wf.handle_error(task, lambda wf: wf.sleep(1), LHErrorType.USER_TASK_CANCELLED)

        put(world, body)
        world.run("wf")
        cancel(world)
        assert wf_run(world).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == ERROR
        assert failure(world, 1).was_properly_handled

    def test_exception_of_a_cancellation_can_be_caught(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            task = wf.assign_user_task("approve", user_id="anna").with_on_cancellation_exception("not-today")
            wf.handle_exception(task, lambda wf: wf.sleep(1), "not-today")

        put(world, body)
        world.run("wf")
        cancel(world)
        world.wait(1)
        assert wf_run(world).status == COMPLETED
        assert node(world, 1).status == EXCEPTION

    def test_rescue_makes_a_new_user_task_run(self, world: World) -> None:
        world.run("wf")
        cancel(world)
        world.submit(RescueThreadRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=0))
        assert state(world, "0-1").status == CANCELLED
        assert state(world, "0-2").status == ASSIGNED
        complete(world, "anna", "0-2", approved=True)
        assert wf_run(world).status == COMPLETED


class TestHalting:
    """execution.md 4.2 and 7.6: halting the thread cancels the UserTaskRun."""

    def test_halt_takes_effect_at_once_and_cancels_the_task(self, world: World) -> None:
        world.run("wf")
        stop(world)
        assert state(world).status == CANCELLED
        assert node(world, 1).status == HALTED
        assert thread(world).status == HALTED
        assert wf_run(world).status == HALTED

    def test_unassigned_task_is_cancelled_too(self, world: World) -> None:
        put_approval(world, user_group=literal("finance"))
        world.run("wf")
        stop(world)
        assert state(world).status == CANCELLED

    def test_cancellation_fails_the_node_after_the_resume(self, world: World) -> None:
        world.run("wf")
        stop(world)
        resume(world)
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"
        assert wf_run(world).status == ERROR

    def test_exception_name_is_raised_after_the_resume(self, world: World) -> None:
        put_approval(world, user_id=literal("anna"), on_cancellation_exception_name=literal("not-today"))
        world.run("wf")
        stop(world)
        resume(world)
        assert failure(world, 1).failure_name == "not-today"
        assert wf_run(world).status == EXCEPTION

    def test_cancellation_after_the_resume_can_be_caught(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            task = wf.assign_user_task("approve", user_id="anna")
            wf.handle_error(task, lambda wf: wf.sleep(1), LHErrorType.USER_TASK_CANCELLED)

        put(world, body)
        world.run("wf")
        stop(world)
        resume(world)
        world.wait(1)
        assert wf_run(world).status == COMPLETED

    def test_completion_and_cancellation_of_a_halted_task_are_ignored(self, world: World) -> None:
        world.run("wf")
        stop(world)
        before = state(world)
        complete(world, "anna", approved=True)
        cancel(world)
        assert state(world) == before
        assert wf_run(world).status == HALTED

    def test_halted_task_cannot_be_assigned(self, world: World) -> None:
        world.run("wf")
        stop(world)
        with refused(Code.FAILED_PRECONDITION):
            assign(world, "ben", override=True)

    def test_task_that_is_done_stays_done(self, world: World) -> None:
        put(world, two_approvals)
        world.run("wf")
        complete(world, "anna", approved=True)
        stop(world)
        assert state(world, "0-1").status == DONE
        assert state(world, "0-2").status == CANCELLED

    def test_halted_child_cancels_its_own_task_alone(self, world: World) -> None:
        put(world, approval_in_both_threads)
        world.run("wf")
        stop(world, 1)
        assert state(world, "1-1").status == CANCELLED
        assert state(world, "0-2").status == ASSIGNED
        assert wf_run(world).status == RUNNING

    def test_failure_of_the_parent_cancels_the_tasks_of_its_children(self, world: World) -> None:
        put(world, approval_in_both_threads)
        world.run("wf")
        cancel(world, "0-2")
        assert thread(world, number=1).status == HALTED
        assert state(world, "1-1").status == CANCELLED

    def test_interrupt_cancels_the_task_and_its_end_fails_the_node(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("paid", lambda wf: wf.sleep(10))
            wf.assign_user_task("approve", user_id="anna")
            wf.sleep(1)

        put(world, body)
        world.run("wf")
        assert world.post("paid").claimed
        assert state(world).status == CANCELLED
        assert wf_run(world).status == RUNNING
        world.wait(10)
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"
        assert wf_run(world).status == ERROR
        assert not reached(world, 2)


class TestDeletion:
    """execution.md 9.4."""

    def test_user_task_run_goes_with_its_run(self, world: World) -> None:
        world.run("wf")
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.user_task_run("0-1") is None
        with refused(Code.NOT_FOUND):
            complete(world, "anna", approved=True)

    def test_id_can_be_used_again_from_the_start(self, world: World) -> None:
        world.run("wf")
        assign(world, "ben", override=True)
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        world.run("wf")
        assert owner(world) == ("anna", None)
        assert state(world).epoch == 1
