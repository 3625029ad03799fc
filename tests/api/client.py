"""What a user of the API does: the genuine messages over a real channel, with less typing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import anyio
import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    CorrelatedEvent,
    CorrelatedEventConfig,
    CorrelatedEventId,
    DeleteWfRunRequest,
    ExternalEvent,
    ExternalEventDef,
    ExternalEventDefId,
    ExternalEventId,
    LHStatus,
    ListNodeRunsRequest,
    ListTaskRunsRequest,
    LittleHorseStub,
    NodeRun,
    NodeRunId,
    PollTaskRequest,
    PollTaskResponse,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    PutTaskDefRequest,
    RegisterTaskWorkerRequest,
    RegisterTaskWorkerResponse,
    ReportTaskRun,
    ReturnType,
    RunWfRequest,
    ScheduledTask,
    TaskDef,
    TaskDefId,
    TaskRun,
    TaskRunId,
    TaskStatus,
    TypeDefinition,
    Variable,
    VariableDef,
    VariableId,
    VariableType,
    VariableValue,
    WfRun,
    WfRunId,
    WfSpec,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

PATIENCE_SECONDS = 10
"""How long a test waits for a fact before it says that the fact never came."""

MASK = "*****"

EMPTY = Empty()


class Poller:
    """One PollTask stream. ``received`` holds every response so far, also those nobody took yet."""

    def __init__(self, call: Any, task_def: str, worker: str, version: str | None) -> None:
        self.received: list[PollTaskResponse] = []
        self._call = call
        self._request = PollTaskRequest(
            task_def_id=TaskDefId(name=task_def), client_id=worker, task_worker_version=version
        )
        self._taken = 0
        self._news = anyio.Event()
        self._ended = anyio.Event()

    async def ask(self, times: int = 1) -> Self:
        """Say "I can take one more task", once or several times."""
        for _ in range(times):
            await self._call.write(self._request)
        return self

    async def take(self) -> ScheduledTask:
        """The next task; a response without a task is a failure of the test."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while self._taken == len(self.received):
                assert not self._ended.is_set(), "the stream ended"
                await self._news.wait()
        response = self.received[self._taken]
        self._taken += 1
        assert response.HasField("result")
        return response.result

    async def half_close(self) -> None:
        """Say that no more requests come."""
        await self._call.done_writing()

    def disconnect(self) -> None:
        """Go away without a word."""
        self._call.cancel()

    async def end(self) -> StatusCode:
        """Wait until the server ended the stream, and tell with which status."""
        with anyio.fail_after(PATIENCE_SECONDS):
            await self._ended.wait()
            code: StatusCode = await self._call.code()
        return code

    async def _listen(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self.received.append(response)
                self._notify()
        except grpc.aio.AioRpcError:
            pass  # the status of the call tells it too
        finally:
            self._ended.set()
            self._notify()

    def _notify(self) -> None:
        self._news.set()
        self._news = anyio.Event()


class Client:
    """Calls of the API with Python values, against tenant ``default``."""

    def __init__(self, stub: LittleHorseStub) -> None:
        self.stub: Any = stub

    # Metadata.

    async def put_task_def(
        self,
        name: str,
        inputs: Mapping[str, TypeDefinition | VariableType] | None = None,
        returns: TypeDefinition | VariableType | None = None,
    ) -> TaskDef:
        variables = [VariableDef(name=name, type_def=type_of(kind)) for name, kind in (inputs or {}).items()]
        return_type = None if returns is None else ReturnType(return_type=type_of(returns))
        reply: TaskDef = await self.stub.PutTaskDef(
            PutTaskDefRequest(name=name, input_vars=variables, return_type=return_type)
        )
        return reply

    async def put_event_def(
        self,
        name: str,
        content: VariableType | None = None,
        *,
        correlated: CorrelatedEventConfig | None = None,
        keep_seconds: int | None = None,
    ) -> ExternalEventDef:
        request = PutExternalEventDefRequest(name=name, correlated_event_config=correlated)
        if content is not None:
            request.content_type.return_type.primitive_type = content
        if keep_seconds is not None:
            request.retention_policy.seconds_after_put = keep_seconds
        reply: ExternalEventDef = await self.stub.PutExternalEventDef(request)
        return reply

    async def register(self, workflow: Workflow) -> WfSpec:
        """Do what the SDK does: the events that the workflow declares, then the WfSpec."""
        request = workflow.compile()
        for event in workflow.external_events_to_register:
            await self.stub.PutExternalEventDef(event.to_put_external_event_def_request())
        reply: WfSpec = await self.stub.PutWfSpec(request)
        return reply

    # Running.

    async def run(self, wf_spec_name: str, wf_run_id: str | None = None, **variables: Any) -> WfRun:
        values = {name: to_variable_value(value) for name, value in variables.items()}
        reply: WfRun = await self.stub.RunWf(RunWfRequest(wf_spec_name=wf_spec_name, id=wf_run_id, variables=values))
        return reply

    async def post(
        self,
        event_def: str,
        content: Any = None,
        *,
        run: str,
        guid: str | None = None,
        thread: int | None = None,
        position: int | None = None,
    ) -> ExternalEvent:
        reply: ExternalEvent = await self.stub.PutExternalEvent(
            PutExternalEventRequest(
                wf_run_id=WfRunId(id=run),
                external_event_def_id=ExternalEventDefId(name=event_def),
                guid=guid,
                content=content if isinstance(content, VariableValue) else to_variable_value(content),
                thread_run_number=thread,
                node_run_position=position,
            )
        )
        return reply

    async def correlate(self, event_def: str, key: str, content: Any = None) -> CorrelatedEvent:
        reply: CorrelatedEvent = await self.stub.PutCorrelatedEvent(
            PutCorrelatedEventRequest(
                key=key,
                external_event_def_id=ExternalEventDefId(name=event_def),
                content=to_variable_value(content),
            )
        )
        return reply

    async def delete(self, wf_run_id: str) -> None:
        await self.stub.DeleteWfRun(DeleteWfRunRequest(id=WfRunId(id=wf_run_id)))

    # Reading.

    async def wf_run(self, wf_run_id: str) -> WfRun:
        reply: WfRun = await self.stub.GetWfRun(WfRunId(id=wf_run_id))
        return reply

    async def node_run(self, wf_run_id: str, position: int) -> NodeRun:
        reply: NodeRun = await self.stub.GetNodeRun(NodeRunId(wf_run_id=WfRunId(id=wf_run_id), position=position))
        return reply

    async def node_runs(self, wf_run_id: str) -> list[NodeRun]:
        reply = await self.stub.ListNodeRuns(ListNodeRunsRequest(wf_run_id=WfRunId(id=wf_run_id)))
        return list(reply.results)

    async def task_run(self, task_run_id: TaskRunId) -> TaskRun:
        reply: TaskRun = await self.stub.GetTaskRun(task_run_id)
        return reply

    async def task_runs(self, wf_run_id: str) -> list[TaskRun]:
        reply = await self.stub.ListTaskRuns(ListTaskRunsRequest(wf_run_id=WfRunId(id=wf_run_id)))
        return list(reply.results)

    async def variable(self, wf_run_id: str, name: str) -> VariableValue:
        reply: Variable = await self.stub.GetVariable(VariableId(wf_run_id=WfRunId(id=wf_run_id), name=name))
        return reply.value

    async def external_event(self, wf_run_id: str, event_def: str, guid: str) -> ExternalEvent:
        reply: ExternalEvent = await self.stub.GetExternalEvent(external_event_id(wf_run_id, event_def, guid))
        return reply

    async def correlated_event(self, event_def: str, key: str) -> CorrelatedEvent:
        reply: CorrelatedEvent = await self.stub.GetCorrelatedEvent(
            CorrelatedEventId(key=key, external_event_def_id=ExternalEventDefId(name=event_def))
        )
        return reply

    async def pages(self, call: str, request: Any) -> list[list[Any]]:
        """All pages of a List or Search, following the bookmarks as clients do."""
        reply = await getattr(self.stub, call)(request)
        pages = [list(reply.results)]
        while reply.HasField("bookmark"):
            request.bookmark = reply.bookmark
            reply = await getattr(self.stub, call)(request)
            pages.append(list(reply.results))
        return pages

    # Working.

    async def register_worker(self, task_def: str, worker: str = "worker") -> RegisterTaskWorkerResponse:
        reply: RegisterTaskWorkerResponse = await self.stub.RegisterTaskWorker(
            RegisterTaskWorkerRequest(task_worker_id=worker, task_def_id=TaskDefId(name=task_def))
        )
        return reply

    @asynccontextmanager
    async def poller(
        self, task_def: str, worker: str = "worker", version: str | None = None, metadata: Any = None
    ) -> AsyncIterator[Poller]:
        """An open PollTask stream; it is cut at the end of the block."""
        call = self.stub.PollTask(metadata=metadata)
        poller = Poller(call, task_def, worker, version)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller._listen)
            try:
                yield poller
            finally:
                tasks.cancel_scope.cancel()
                call.cancel()

    async def claim(self, task_def: str, worker: str = "worker") -> ScheduledTask:
        """Take one task with a stream of its own."""
        async with self.poller(task_def, worker) as poller:
            await poller.ask()
            return await poller.take()

    async def report(
        self,
        task: ScheduledTask,
        status: TaskStatus = TaskStatus.TASK_SUCCESS,
        output: Any = None,
        **fields: Any,
    ) -> None:
        """Report an attempt; ``output`` is a Python value, None leaves it unset."""
        await self.stub.ReportTask(
            ReportTaskRun(
                task_run_id=task.task_run_id,
                attempt_number=fields.pop("attempt_number", task.attempt_number),
                time=fields.pop("time", now()),
                status=status,
                output=None if output is None else to_variable_value(output),
                **fields,
            )
        )

    async def until(self, wf_run_id: str, status: LHStatus) -> WfRun:
        """The WfRun, as soon as it has the status."""

        async def reached() -> bool:
            return (await self.wf_run(wf_run_id)).status == status

        await eventually(reached)
        return await self.wf_run(wf_run_id)

    async def until_task(self, task_run_id: TaskRunId, status: TaskStatus) -> TaskRun:
        """The TaskRun, as soon as it has the status."""

        async def reached() -> bool:
            return (await self.task_run(task_run_id)).status == status

        await eventually(reached)
        return await self.task_run(task_run_id)

    async def reports_processed(self, wf_run_id: str) -> None:
        """Return when the reports that were accepted for a WfRun took effect: its commands run in order."""
        await self.put_event_def("reports-processed")
        await self.post("reports-processed", run=wf_run_id)

    async def settled(self) -> None:
        """Return when the server took notice of what this connection sent before."""
        for _ in range(3):
            await self.stub.GetServerVersion(EMPTY)


def type_of(kind: TypeDefinition | VariableType) -> TypeDefinition:
    """The TypeDefinition of a primitive type, or the given one."""
    return kind if isinstance(kind, TypeDefinition) else TypeDefinition(primitive_type=kind)


def masked(kind: VariableType) -> TypeDefinition:
    """A masked primitive type."""
    return TypeDefinition(primitive_type=kind, masked=True)


def external_event_id(wf_run_id: str, event_def: str, guid: str) -> ExternalEventId:
    """Who an ExternalEvent is."""
    return ExternalEventId(
        wf_run_id=WfRunId(id=wf_run_id), external_event_def_id=ExternalEventDefId(name=event_def), guid=guid
    )


def now() -> Timestamp:
    """The time of this machine."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def only_exit(name: str) -> Workflow:
    """A workflow that ends at once."""

    def entrypoint(thread: WorkflowThread) -> None:
        pass

    return Workflow(name, entrypoint)


def waits_for(name: str, *event_defs: str) -> Workflow:
    """A workflow that waits for one event after the other."""

    def entrypoint(thread: WorkflowThread) -> None:
        for event_def in event_defs:
            thread.wait_for_event(event_def)

    return Workflow(name, entrypoint)


def executes(name: str, *task_defs: str, **options: Any) -> Workflow:
    """A workflow of tasks without inputs, one after the other."""

    def entrypoint(thread: WorkflowThread) -> None:
        for task_def in task_defs:
            thread.execute(task_def, **options)

    return Workflow(name, entrypoint)


class Refusal(NamedTuple):
    """The error that a call ended with."""

    code: StatusCode
    details: str


async def refusal(call: Awaitable[Any]) -> Refusal:
    """The error that a call ends with."""
    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value.code(), caught.value.details() or "")


async def refused_with(call: Awaitable[Any]) -> StatusCode:
    """The code of the error that a call ends with."""
    return (await refusal(call)).code


async def eventually(fact: Callable[[], Awaitable[bool]]) -> None:
    """Return when a fact holds; fail when it does not come."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not await fact():  # noqa: ASYNC110 - the fact is on the other side of a network
            await anyio.sleep(0.02)


async def is_missing(call: Awaitable[Any]) -> bool:
    """Whether a Get ends with NOT_FOUND."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() != StatusCode.NOT_FOUND:
            raise
        return True
    return False


async def assert_starts_over_or_is_refused(client: Client, call: str, request: Any, bookmark: bytes) -> None:
    """What an unusable bookmark may do: give the first page, or be refused."""
    first = await getattr(client.stub, call)(request)
    request.bookmark = bookmark
    try:
        again = await getattr(client.stub, call)(request)
    except grpc.aio.AioRpcError as error:
        assert error.code() == StatusCode.INVALID_ARGUMENT  # noqa: PT017 - either outcome is fine
    else:
        assert again == first
