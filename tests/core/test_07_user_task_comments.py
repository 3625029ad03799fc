"""Comments on UserTaskRuns: PutUserTaskRunComment, EditUserTaskRunComment, DeleteUserTaskRunComment of api.md 10.

Not tested: who may edit or delete the comment of another (the spec does not restrict it).
"""

from typing import Any

import pytest
from littlehorse.model import (
    DeleteUserTaskRunCommentRequest,
    EditUserTaskRunCommentRequest,
    PutUserTaskRunCommentRequest,
    UserTaskEvent,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
)

from lhd.errors import Code
from tests.core.shapes import RUNNING, node, put, put_event_def, refused, wf_run
from tests.core.test_07_user_tasks import (
    approval,
    complete,
    finish,
    history,
    owner,
    put_user_task_def,
    state,
    terminal,
    the,
    two_approvals,
)
from tests.core.world import World

Commented = UserTaskEvent.UTECommented
Deleted = UserTaskEvent.UTECommentDeleted

UNKNOWN = pytest.mark.parametrize(
    "unknown", [the("0-9"), the("0-0"), the(wf_run_id="unknown")], ids=["task", "node", "run"]
)
BLANK = pytest.mark.parametrize("blank", ["", "  "])


def comment(world: World, text: str = "hello", by: str = "anna", *, on: UserTaskRunId | None = None) -> UserTaskRun:
    reply: UserTaskRun = world.submit(
        PutUserTaskRunCommentRequest(user_task_run_id=on or the(), user_id=by, comment=text)
    )
    return reply


def edit(
    world: World, number: int = 1, text: str = "changed", by: str = "anna", *, on: UserTaskRunId | None = None
) -> UserTaskRun:
    reply: UserTaskRun = world.submit(
        EditUserTaskRunCommentRequest(user_task_run_id=on or the(), user_comment_id=number, user_id=by, comment=text)
    )
    return reply


def delete(world: World, number: int = 1, by: str = "anna", *, on: UserTaskRunId | None = None) -> UserTaskRun:
    reply: UserTaskRun = world.submit(
        DeleteUserTaskRunCommentRequest(user_task_run_id=on or the(), user_comment_id=number, user_id=by)
    )
    return reply


def last(world: World, guid: str = "0-1") -> UserTaskEvent:
    event: UserTaskEvent = state(world, guid).events[-1]
    return event


@pytest.fixture
def world() -> World:
    """The user task ``0-1`` waits."""
    world = World()
    put_event_def(world, "paid")
    put_user_task_def(world)
    put(world, approval)
    world.run("wf")
    return world


class TestPut:
    """PutUserTaskRunComment."""

    def test_comment_is_logged(self, world: World) -> None:
        world.wait(5)
        comment(world, "hello", "ben")
        assert history(world) == ["assigned", "comment_added"]
        assert last(world).comment_added == Commented(user_comment_id=1, user_id="ben", comment="hello")
        assert last(world).time.ToMilliseconds() == world.now_ms

    def test_reply_is_the_user_task_run(self, world: World) -> None:
        assert comment(world) == state(world)

    def test_comments_are_numbered_from_one(self, world: World) -> None:
        for _ in range(3):
            comment(world)
        assert [event.comment_added.user_comment_id for event in state(world).events[1:]] == [1, 2, 3]

    def test_other_events_do_not_count(self, world: World) -> None:
        comment(world)
        edit(world)
        comment(world)
        assert last(world).comment_added.user_comment_id == 2

    def test_number_of_a_deleted_comment_is_not_given_out_again(self, world: World) -> None:
        comment(world)
        comment(world)
        delete(world, 2)
        comment(world)
        assert last(world).comment_added.user_comment_id == 3

    def test_each_user_task_run_counts_for_itself(self, world: World) -> None:
        put(world, two_approvals, "two")
        world.run("two", "s")
        comment(world)
        comment(world, on=the(wf_run_id="s"))
        other = world.user_task_run("0-1", wf_run_id="s")
        assert other is not None
        assert other.events[-1].comment_added.user_comment_id == 1

    @BLANK
    def test_blank_user_is_invalid_argument(self, world: World, blank: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            comment(world, by=blank)
        assert history(world) == ["assigned"]

    @BLANK
    def test_blank_comment_is_invalid_argument(self, world: World, blank: str) -> None:
        with refused(Code.INVALID_ARGUMENT):
            comment(world, blank)
        assert history(world) == ["assigned"]

    @UNKNOWN
    def test_unknown_user_task_run_is_not_found(self, world: World, unknown: UserTaskRunId) -> None:
        with refused(Code.NOT_FOUND):
            comment(world, on=unknown)

    @pytest.mark.parametrize("blank", [{"by": ""}, {"text": ""}])
    def test_blank_field_is_told_before_an_unknown_user_task_run(self, world: World, blank: dict[str, Any]) -> None:
        with refused(Code.INVALID_ARGUMENT):
            comment(world, on=the("0-9"), **blank)


class TestEdit:
    """EditUserTaskRunComment."""

    def test_edit_is_logged_with_the_same_number(self, world: World) -> None:
        comment(world)
        comment(world)
        world.wait(5)
        edit(world, 1, "changed")
        assert history(world) == ["assigned", "comment_added", "comment_added", "comment_edited"]
        assert last(world).comment_edited == Commented(user_comment_id=1, user_id="anna", comment="changed")
        assert last(world).time.ToMilliseconds() == world.now_ms

    def test_reply_is_the_user_task_run(self, world: World) -> None:
        comment(world)
        assert edit(world) == state(world)

    def test_old_text_stays_in_the_events(self, world: World) -> None:
        comment(world, "first")
        edit(world, text="second")
        assert state(world).events[1].comment_added.comment == "first"

    def test_comment_can_be_edited_again(self, world: World) -> None:
        comment(world)
        edit(world, text="second")
        edit(world, text="third")
        assert last(world).comment_edited == Commented(user_comment_id=1, user_id="anna", comment="third")

    def test_number_zero_is_failed_precondition(self, world: World) -> None:
        comment(world)
        with refused(Code.FAILED_PRECONDITION):
            edit(world, 0)

    @pytest.mark.parametrize("wrong", [{"by": ""}, {"text": ""}, {"on": the("0-9")}])
    def test_number_zero_is_told_first(self, world: World, wrong: dict[str, Any]) -> None:
        with refused(Code.FAILED_PRECONDITION):
            edit(world, 0, **wrong)

    @BLANK
    def test_blank_user_is_invalid_argument(self, world: World, blank: str) -> None:
        comment(world)
        with refused(Code.INVALID_ARGUMENT):
            edit(world, by=blank)

    @BLANK
    def test_blank_comment_is_invalid_argument(self, world: World, blank: str) -> None:
        comment(world)
        with refused(Code.INVALID_ARGUMENT):
            edit(world, text=blank)

    @pytest.mark.parametrize("blank", [{"by": ""}, {"text": ""}])
    def test_blank_field_is_told_before_an_unknown_user_task_run(self, world: World, blank: dict[str, Any]) -> None:
        with refused(Code.INVALID_ARGUMENT):
            edit(world, on=the("0-9"), **blank)

    @UNKNOWN
    def test_unknown_user_task_run_is_not_found(self, world: World, unknown: UserTaskRunId) -> None:
        comment(world)
        with refused(Code.NOT_FOUND):
            edit(world, on=unknown)

    @pytest.mark.parametrize("number", [2, 100, -1])
    def test_unknown_comment_is_not_found(self, world: World, number: int) -> None:
        comment(world)
        with refused(Code.NOT_FOUND):
            edit(world, number)
        assert history(world) == ["assigned", "comment_added"]

    def test_deleted_comment_is_failed_precondition(self, world: World) -> None:
        comment(world)
        delete(world)
        with refused(Code.FAILED_PRECONDITION):
            edit(world)
        assert history(world) == ["assigned", "comment_added", "comment_deleted"]


class TestDelete:
    """DeleteUserTaskRunComment."""

    def test_deletion_is_logged_and_old_events_stay(self, world: World) -> None:
        comment(world, "first")
        edit(world, text="second")
        world.wait(5)
        delete(world, 1, "anna")
        assert history(world) == ["assigned", "comment_added", "comment_edited", "comment_deleted"]
        assert last(world).comment_deleted == Deleted(user_comment_id=1, user_id="anna")
        assert last(world).time.ToMilliseconds() == world.now_ms
        assert state(world).events[1].comment_added.comment == "first"
        assert state(world).events[2].comment_edited.comment == "second"

    def test_reply_is_the_user_task_run(self, world: World) -> None:
        comment(world)
        assert delete(world) == state(world)

    def test_other_comments_can_still_be_edited(self, world: World) -> None:
        comment(world)
        comment(world)
        delete(world, 1)
        edit(world, 2)
        assert last(world).comment_edited.user_comment_id == 2

    def test_number_zero_is_failed_precondition(self, world: World) -> None:
        comment(world)
        with refused(Code.FAILED_PRECONDITION):
            delete(world, 0)

    def test_number_zero_is_told_before_an_unknown_user_task_run(self, world: World) -> None:
        with refused(Code.FAILED_PRECONDITION):
            delete(world, 0, on=the("0-9"))

    @BLANK
    def test_blank_user_is_failed_precondition(self, world: World, blank: str) -> None:
        comment(world)
        with refused(Code.FAILED_PRECONDITION):
            delete(world, by=blank)

    def test_blank_user_is_told_before_an_unknown_user_task_run(self, world: World) -> None:
        with refused(Code.FAILED_PRECONDITION):
            delete(world, by="", on=the("0-9"))

    @UNKNOWN
    def test_unknown_user_task_run_is_not_found(self, world: World, unknown: UserTaskRunId) -> None:
        comment(world)
        with refused(Code.NOT_FOUND):
            delete(world, on=unknown)

    @pytest.mark.parametrize("number", [2, 100, -1])
    def test_unknown_comment_is_not_found(self, world: World, number: int) -> None:
        comment(world)
        with refused(Code.NOT_FOUND):
            delete(world, number)
        assert history(world) == ["assigned", "comment_added"]

    def test_second_deletion_is_failed_precondition(self, world: World) -> None:
        comment(world)
        delete(world)
        with refused(Code.FAILED_PRECONDITION):
            delete(world)
        assert history(world) == ["assigned", "comment_added", "comment_deleted"]


class TestEffect:
    """What comments leave alone."""

    @terminal()
    def test_comments_work_on_terminal_tasks(self, world: World, status: UserTaskRunStatus) -> None:
        finish(world, status)
        comment(world)
        edit(world)
        delete(world)
        assert history(world)[2:] == ["comment_added", "comment_edited", "comment_deleted"]
        assert state(world).status == status

    def test_comments_do_not_move_the_run(self, world: World) -> None:
        before = state(world)
        comment(world)
        edit(world)
        delete(world)
        assert node(world, 1).status == RUNNING
        assert wf_run(world).status == RUNNING
        assert (state(world).status, state(world).epoch) == (before.status, before.epoch)
        assert owner(world) == ("anna", None)

    def test_commented_task_can_be_completed(self, world: World) -> None:
        comment(world)
        complete(world, "anna", approved=True)
        assert history(world) == ["assigned", "comment_added", "completed"]
