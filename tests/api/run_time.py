"""What the tests of run-time objects share: user tasks to do, workflow events to throw, points in time."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    CompleteUserTaskRunRequest,
    ListUserTaskRunRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    UserTaskField,
    UserTaskRun,
    VariableType,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client


def stamp(milliseconds: int) -> Timestamp:
    """A point in time."""
    timestamp = Timestamp()
    timestamp.FromMilliseconds(milliseconds)
    return timestamp


async def put_form(client: Client, name: str = "approve") -> None:
    """A UserTaskDef with a required and an optional field."""
    fields = [
        UserTaskField(name="approved", type=VariableType.BOOL, required=True),
        UserTaskField(name="score", type=VariableType.INT),
    ]
    await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name=name, fields=fields))


async def put_thrown_def(client: Client, name: str) -> None:
    """A WorkflowEventDef for any content."""
    await client.stub.PutWorkflowEventDef(PutWorkflowEventDefRequest(name=name))


def asks(name: str, form: str = "approve") -> Workflow:
    """A workflow that asks the user, or the group, that the variables of these names say."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.assign_user_task(form, user_id=thread.declare_str("user"), user_group=thread.declare_str("group"))

    return Workflow(name, entrypoint)


async def user_tasks(client: Client, run: str = "r") -> list[UserTaskRun]:
    """The UserTaskRuns of a WfRun."""
    reply = await client.stub.ListUserTaskRuns(ListUserTaskRunRequest(wf_run_id=WfRunId(id=run)))
    return list(reply.results)


async def user_task(client: Client, run: str = "r") -> UserTaskRun:
    """The only UserTaskRun of a WfRun."""
    (found,) = await user_tasks(client, run)
    return found


async def complete(client: Client, task: UserTaskRun, user: str = "Ada", **results: Any) -> None:
    """Hand in the form, by default the shortest one that is complete."""
    values = {name: to_variable_value(value) for name, value in (results or {"approved": True}).items()}
    await client.stub.CompleteUserTaskRun(
        CompleteUserTaskRunRequest(user_task_run_id=task.id, user_id=user, results=values)
    )
