"""The RPCs of user tasks, each with a good case and every code: api.md 10.

Left untested:

* saving without a user while the user task has one: it is not said whether that is another user;
* triggers, and how a WfRun goes on with the results: the stories of user tasks and the tests of the core have them.
"""

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode
from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    DeleteUserTaskRunCommentRequest,
    EditUserTaskRunCommentRequest,
    LHStatus,
    PutUserTaskRunCommentRequest,
    SaveUserTaskRunProgressRequest,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, refusal, refused_with
from tests.api.run_time import asks, complete, put_form, user_task

REQUESTS: dict[str, Any] = {
    "AssignUserTaskRun": AssignUserTaskRunRequest,
    "CompleteUserTaskRun": CompleteUserTaskRunRequest,
    "CancelUserTaskRun": CancelUserTaskRunRequest,
    "SaveUserTaskRunProgress": SaveUserTaskRunProgressRequest,
    "PutUserTaskRunComment": PutUserTaskRunCommentRequest,
    "EditUserTaskRunComment": EditUserTaskRunCommentRequest,
    "DeleteUserTaskRunComment": DeleteUserTaskRunCommentRequest,
}

IA = StatusCode.INVALID_ARGUMENT
NF = StatusCode.NOT_FOUND
FP = StatusCode.FAILED_PRECONDITION

IGNORE_CLAIM = SaveUserTaskRunProgressRequest.IGNORE_CLAIM

APPROVED = {"approved": to_variable_value(True)}

FIRST = {"user_comment_id": 1, "user_id": "Ada"}
DELETED = {"user_comment_id": 2, "user_id": "Ada"}
UNKNOWN = {"user_comment_id": 9, "user_id": "Ada"}
NO_COMMENT = {"user_id": "Ada"}


async def define(client: Client) -> None:
    """What :func:`ask` needs."""
    await put_form(client)
    await client.register(asks("order"))


async def ask(client: Client, run: str, **owner: Any) -> UserTaskRun:
    """A UserTaskRun in a WfRun of its own."""
    await client.run("order", run, **owner)
    return await user_task(client, run)


async def call(client: Client, rpc: str, task: UserTaskRun, **fields: Any) -> Any:
    """Call an RPC for a UserTaskRun."""
    return await getattr(client.stub, rpc)(REQUESTS[rpc](user_task_run_id=task.id, **fields))


async def in_every_state(client: Client) -> dict[str, UserTaskRun]:
    """UserTaskRuns by what they are; each has a comment 1, and a comment 2 that was deleted."""
    await define(client)
    tasks = {name: await ask(client, name, user="Ada", group="law") for name in ("assigned", "done", "cancelled")}
    tasks["offered"] = await ask(client, "offered", group="law")
    for task in tasks.values():
        for comment in ("first", "second"):
            await call(client, "PutUserTaskRunComment", task, user_id="Ada", comment=comment)
        await call(client, "DeleteUserTaskRunComment", task, **DELETED)
    await complete(client, tasks["done"])
    await call(client, "CancelUserTaskRun", tasks["cancelled"])
    return {name: await user_task(client, name) for name in tasks}


REFUSED: list[tuple[str, str, dict[str, Any], StatusCode]] = [
    ("AssignUserTaskRun", "offered", {}, IA),
    ("AssignUserTaskRun", "offered", {"user_id": ""}, IA),
    ("AssignUserTaskRun", "offered", {"user_id": " "}, IA),
    ("AssignUserTaskRun", "offered", {"user_group": ""}, IA),
    ("AssignUserTaskRun", "offered", {"user_group": " "}, IA),
    ("AssignUserTaskRun", "offered", {"user_id": "Ada", "user_group": ""}, IA),
    ("AssignUserTaskRun", "unknown", {}, IA),
    ("AssignUserTaskRun", "done", {"user_id": ""}, IA),
    ("AssignUserTaskRun", "unknown", {"user_id": "Ada"}, NF),
    ("AssignUserTaskRun", "assigned", {"user_id": "Grace"}, FP),
    ("AssignUserTaskRun", "assigned", {"user_group": "tax"}, FP),
    ("AssignUserTaskRun", "done", {"user_id": "Grace", "override_claim": True}, FP),
    ("AssignUserTaskRun", "cancelled", {"user_id": "Grace", "override_claim": True}, FP),
    ("CompleteUserTaskRun", "unknown", {"user_id": "Ada", "results": APPROVED}, NF),
    ("CompleteUserTaskRun", "assigned", {"user_id": "Ada"}, IA),
    ("CompleteUserTaskRun", "assigned", {"user_id": "Ada", "results": {"score": to_variable_value(1)}}, IA),
    ("CompleteUserTaskRun", "assigned", {"user_id": "Ada", "results": APPROVED | {"other": to_variable_value(1)}}, IA),
    ("CompleteUserTaskRun", "assigned", {"user_id": "Ada", "results": {"approved": to_variable_value("yes")}}, IA),
    (
        "CompleteUserTaskRun",
        "assigned",
        {"user_id": "Ada", "results": APPROVED | {"score": to_variable_value(1.5)}},
        IA,
    ),
    ("CompleteUserTaskRun", "assigned", {"user_id": "Grace", "results": {}}, IA),
    ("CancelUserTaskRun", "unknown", {}, NF),
    ("SaveUserTaskRunProgress", "unknown", {"user_id": "Ada", "results": APPROVED}, NF),
    ("SaveUserTaskRunProgress", "assigned", {"user_id": "Grace", "results": APPROVED}, FP),
    ("SaveUserTaskRunProgress", "done", {"user_id": "Ada", "results": APPROVED}, FP),
    ("SaveUserTaskRunProgress", "cancelled", {"user_id": "Ada", "results": APPROVED}, FP),
    ("SaveUserTaskRunProgress", "done", {"user_id": "Grace", "results": APPROVED, "policy": IGNORE_CLAIM}, FP),
    ("PutUserTaskRunComment", "assigned", {"user_id": "", "comment": "hello"}, IA),
    ("PutUserTaskRunComment", "assigned", {"user_id": " ", "comment": "hello"}, IA),
    ("PutUserTaskRunComment", "assigned", {"user_id": "Ada", "comment": ""}, IA),
    ("PutUserTaskRunComment", "assigned", {"user_id": "Ada", "comment": " "}, IA),
    ("PutUserTaskRunComment", "unknown", {"user_id": "Ada", "comment": ""}, IA),
    ("PutUserTaskRunComment", "unknown", {"user_id": "Ada", "comment": "hello"}, NF),
    ("EditUserTaskRunComment", "assigned", NO_COMMENT | {"comment": "hello"}, FP),
    ("EditUserTaskRunComment", "unknown", {"user_id": "", "comment": ""}, FP),
    ("EditUserTaskRunComment", "assigned", FIRST | {"user_id": "", "comment": "hello"}, IA),
    ("EditUserTaskRunComment", "assigned", FIRST | {"user_id": " ", "comment": "hello"}, IA),
    ("EditUserTaskRunComment", "assigned", FIRST | {"comment": ""}, IA),
    ("EditUserTaskRunComment", "assigned", FIRST | {"comment": " "}, IA),
    ("EditUserTaskRunComment", "unknown", FIRST | {"comment": ""}, IA),
    ("EditUserTaskRunComment", "unknown", FIRST | {"comment": "hello"}, NF),
    ("EditUserTaskRunComment", "assigned", UNKNOWN | {"comment": "hello"}, NF),
    ("EditUserTaskRunComment", "assigned", DELETED | {"comment": "hello"}, FP),
    ("DeleteUserTaskRunComment", "assigned", NO_COMMENT, FP),
    ("DeleteUserTaskRunComment", "assigned", FIRST | {"user_id": ""}, FP),
    ("DeleteUserTaskRunComment", "assigned", FIRST | {"user_id": " "}, FP),
    ("DeleteUserTaskRunComment", "unknown", FIRST | {"user_id": ""}, FP),
    ("DeleteUserTaskRunComment", "unknown", FIRST, NF),
    ("DeleteUserTaskRunComment", "assigned", UNKNOWN, NF),
    ("DeleteUserTaskRunComment", "assigned", DELETED, FP),
]


def shown(value: Any) -> str:
    """A short name for a part of a case."""
    if isinstance(value, StatusCode):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={len(one) if isinstance(one, dict) else one!r}" for key, one in value.items())
    return str(value)


class TestRefusals:
    @pytest.mark.parametrize(("rpc", "which", "fields", "code"), REFUSED, ids=shown)
    async def test_a_refused_call_changes_nothing(
        self, client: Client, rpc: str, which: str, fields: dict[str, Any], code: StatusCode
    ) -> None:
        tasks = await in_every_state(client)
        unknown = UserTaskRun(id=UserTaskRunId(wf_run_id=WfRunId(id="assigned"), user_task_guid="unknown"))
        assert await refused_with(call(client, rpc, tasks.get(which, unknown), **fields)) == code
        assert {name: await user_task(client, name) for name in tasks} == tasks

    async def test_who_saves_the_work_of_somebody_else_is_told_so(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        error = await refusal(call(client, "SaveUserTaskRunProgress", task, user_id="Grace", results=APPROVED))
        assert "another user" in error.details

    @pytest.mark.parametrize("value", [VariableValue(json_obj='{"a": 1}'), VariableValue(json_arr="[1]")], ids=str)
    async def test_only_primitive_results_are_accepted(self, client: Client, value: VariableValue) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        results = APPROVED | {"score": value}
        assert await refused_with(call(client, "CompleteUserTaskRun", task, user_id="Ada", results=results)) == IA
        assert await user_task(client) == task


class TestAssign:
    @pytest.mark.parametrize(
        ("user", "group", "status"),
        [
            ("Grace", "tax", UserTaskRunStatus.ASSIGNED),
            ("Grace", None, UserTaskRunStatus.ASSIGNED),
            (None, "tax", UserTaskRunStatus.UNASSIGNED),
        ],
    )
    async def test_both_owners_are_replaced(
        self, client: Client, user: str | None, group: str | None, status: UserTaskRunStatus
    ) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada", group="law")
        reply = await call(client, "AssignUserTaskRun", task, user_id=user, user_group=group, override_claim=True)
        assert reply == Empty()
        now = await user_task(client)
        assert (now.user_id if now.HasField("user_id") else None) == user
        assert (now.user_group if now.HasField("user_group") else None) == group
        assert (now.status, now.epoch) == (status, task.epoch + 1)
        assert list(now.events[:-1]) == list(task.events)
        assigned = now.events[-1].assigned
        assert (assigned.old_user_id, assigned.old_user_group) == ("Ada", "law")
        assert (assigned.new_user_id, assigned.new_user_group) == (user or "", group or "")

    async def test_what_nobody_has_claimed_needs_no_override(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", group="law")
        await call(client, "AssignUserTaskRun", task, user_group="tax")
        await call(client, "AssignUserTaskRun", task, user_id="Ada")
        now = await user_task(client)
        assert (now.status, now.user_id, now.epoch) == (UserTaskRunStatus.ASSIGNED, "Ada", task.epoch + 2)
        assert not now.HasField("user_group")


class TestComplete:
    async def test_the_results_are_kept_and_the_run_goes_on(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada", group="law")
        results = APPROVED | {"score": to_variable_value(7)}
        assert await call(client, "CompleteUserTaskRun", task, user_id="Ada", results=results) == Empty()
        now = await user_task(client)
        assert now.status == UserTaskRunStatus.DONE
        assert {name: extract_value(value) for name, value in now.results.items()} == {"approved": True, "score": 7}
        assert [event.WhichOneof("event") for event in now.events] == ["assigned", "completed"]
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_who_completes_it_takes_it_over(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada", group="law")
        await complete(client, task, "Grace")
        now = await user_task(client)
        assert (now.status, now.user_id, now.user_group) == (UserTaskRunStatus.DONE, "Grace", "law")
        assert [event.WhichOneof("event") for event in now.events] == ["assigned", "assigned", "completed"]

    async def test_without_a_user_the_owner_stays(self, client: Client) -> None:
        await define(client)
        await complete(client, await ask(client, "r", user="Ada"), "")
        now = await user_task(client)
        assert (now.status, now.user_id) == (UserTaskRunStatus.DONE, "Ada")

    async def test_results_are_merged_over_the_saved_ones(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        saved = {"approved": to_variable_value(False), "score": to_variable_value(7)}
        await call(client, "SaveUserTaskRunProgress", task, user_id="Ada", results=saved)
        await complete(client, task, approved=True)
        results = (await user_task(client)).results
        assert {name: extract_value(value) for name, value in results.items()} == {"approved": True, "score": 7}

    async def test_a_required_field_must_be_in_the_request_itself(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        saved = await call(client, "SaveUserTaskRunProgress", task, user_id="Ada", results=APPROVED)
        assert await refused_with(complete(client, task, score=7)) == IA
        assert await user_task(client) == saved

    @pytest.mark.parametrize("which", ["done", "cancelled"])
    @pytest.mark.parametrize("results", [APPROVED, {}, {"unknown": to_variable_value(1)}], ids=["good", "none", "bad"])
    async def test_a_user_task_that_is_over_ignores_it(
        self, client: Client, which: str, results: dict[str, VariableValue]
    ) -> None:
        tasks = await in_every_state(client)
        await call(client, "CompleteUserTaskRun", tasks[which], user_id="Grace", results=results)
        assert await user_task(client, which) == tasks[which]


class TestCancel:
    @pytest.mark.parametrize("owner", [{"user": "Ada"}, {"group": "law"}], ids=str)
    async def test_the_run_fails(self, client: Client, owner: dict[str, str]) -> None:
        await define(client)
        task = await ask(client, "r", **owner)
        assert await call(client, "CancelUserTaskRun", task) == Empty()
        now = await user_task(client)
        assert now.status == UserTaskRunStatus.CANCELLED
        assert now.events[-1].HasField("cancelled")
        assert (await client.wf_run("r")).status == LHStatus.ERROR
        node = await client.stub.GetNodeRun(task.node_run_id)
        assert [failure.failure_name for failure in node.failures] == ["USER_TASK_CANCELLED"]

    async def test_the_workflow_may_name_the_failure(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.assign_user_task("approve", user_id="Ada").with_on_cancellation_exception("too-late")

        await put_form(client)
        await client.register(Workflow("order", entrypoint))
        task = await ask(client, "r")
        await call(client, "CancelUserTaskRun", task)
        assert (await client.wf_run("r")).status == LHStatus.EXCEPTION
        node = await client.stub.GetNodeRun(task.node_run_id)
        assert [failure.failure_name for failure in node.failures] == ["too-late"]

    @pytest.mark.parametrize("which", ["done", "cancelled"])
    async def test_a_user_task_that_is_over_ignores_it(self, client: Client, which: str) -> None:
        tasks = await in_every_state(client)
        run = await client.wf_run(which)
        await call(client, "CancelUserTaskRun", tasks[which])
        assert await user_task(client, which) == tasks[which]
        assert await client.wf_run(which) == run


class TestSaveProgress:
    async def test_the_results_are_replaced_without_a_check_of_types(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada", group="law")
        await call(client, "SaveUserTaskRunProgress", task, user_id="Ada", results=APPROVED)
        second = {"score": to_variable_value("seven"), "unknown": to_variable_value(1)}
        reply = await call(client, "SaveUserTaskRunProgress", task, user_id="Ada", results=second)
        assert reply == await user_task(client)
        assert {name: extract_value(value) for name, value in reply.results.items()} == {"score": "seven", "unknown": 1}
        assert (reply.status, reply.user_id, reply.user_group) == (UserTaskRunStatus.ASSIGNED, "Ada", "law")
        assert reply.epoch == task.epoch
        assert [event.WhichOneof("event") for event in reply.events] == ["assigned", "saved", "saved"]
        assert reply.events[-1].saved.user_id == "Ada"
        assert dict(reply.events[-1].saved.results) == second
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    async def test_anybody_saves_what_nobody_has_claimed(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", group="law")
        reply = await call(client, "SaveUserTaskRunProgress", task, user_id="Ada", results=APPROVED)
        assert reply.status == UserTaskRunStatus.UNASSIGNED
        assert not reply.HasField("user_id")
        assert dict(reply.results) == APPROVED

    async def test_the_claim_of_another_user_can_be_ignored(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        reply = await call(
            client, "SaveUserTaskRunProgress", task, user_id="Grace", results=APPROVED, policy=IGNORE_CLAIM
        )
        assert reply.user_id == "Ada"
        assert reply.events[-1].saved.user_id == "Grace"
        assert dict(reply.results) == APPROVED


class TestComments:
    async def test_comments_are_numbered_from_1_in_each_user_task(self, client: Client) -> None:
        await define(client)
        first, second = await ask(client, "r", user="Ada"), await ask(client, "s", user="Ada")
        for number, user in ((1, "Ada"), (2, "Grace"), (3, "Ada")):
            reply = await call(client, "PutUserTaskRunComment", first, user_id=user, comment=f"comment {number}")
            added = reply.events[-1].comment_added
            assert (added.user_comment_id, added.user_id, added.comment) == (number, user, f"comment {number}")
            assert reply == await user_task(client)
        reply = await call(client, "PutUserTaskRunComment", second, user_id="Ada", comment="elsewhere")
        assert reply.events[-1].comment_added.user_comment_id == 1

    async def test_an_edit_is_a_further_event_of_the_same_comment(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        before = await call(client, "PutUserTaskRunComment", task, user_id="Ada", comment="helo")
        reply = await call(client, "EditUserTaskRunComment", task, user_comment_id=1, user_id="Grace", comment="hello")
        assert reply == await user_task(client)
        assert list(reply.events[:-1]) == list(before.events)
        edited = reply.events[-1].comment_edited
        assert (edited.user_comment_id, edited.user_id, edited.comment) == (1, "Grace", "hello")

    async def test_a_deleted_comment_keeps_its_events_and_its_number(self, client: Client) -> None:
        await define(client)
        task = await ask(client, "r", user="Ada")
        before = await call(client, "PutUserTaskRunComment", task, user_id="Ada", comment="hello")
        reply = await call(client, "DeleteUserTaskRunComment", task, user_comment_id=1, user_id="Grace")
        assert reply == await user_task(client)
        assert list(reply.events[:-1]) == list(before.events)
        deleted = reply.events[-1].comment_deleted
        assert (deleted.user_comment_id, deleted.user_id) == (1, "Grace")
        again = await call(client, "PutUserTaskRunComment", task, user_id="Ada", comment="hello again")
        assert again.events[-1].comment_added.user_comment_id == 2

    @pytest.mark.parametrize("which", ["offered", "assigned", "done", "cancelled"])
    async def test_comments_work_in_every_state(self, client: Client, which: str) -> None:
        task = (await in_every_state(client))[which]
        await call(client, "PutUserTaskRunComment", task, user_id="Ada", comment="third")
        await call(client, "EditUserTaskRunComment", task, user_comment_id=3, user_id="Ada", comment="the third")
        reply = await call(client, "DeleteUserTaskRunComment", task, user_comment_id=3, user_id="Ada")
        kinds = [event.WhichOneof("event") for event in reply.events[-3:]]
        assert kinds == ["comment_added", "comment_edited", "comment_deleted"]
        assert reply.status == task.status
