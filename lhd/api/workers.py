"""The worker protocol: RegisterTaskWorker and the PollTask stream (api.md 8)."""

import math
from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
from littlehorse.model import (
    DeleteTaskDefRequest,
    PollTaskRequest,
    PollTaskResponse,
    RegisterTaskWorkerRequest,
    RegisterTaskWorkerResponse,
    ScheduledTask,
    TaskDefId,
    TaskWorkerGroup,
)

from lhd.api.call import Api, Method
from lhd.core.commands import Command
from lhd.core.commands.tasks import ReleaseTask
from lhd.errors import not_found
from lhd.metrics import POLLS
from lhd.tasks import Poll


async def register_task_worker(api: Api, tenant: str, request: RegisterTaskWorkerRequest) -> RegisterTaskWorkerResponse:
    """RegisterTaskWorker: note the heartbeat and name the host to poll."""
    name = request.task_def_id.name
    api.workers.heartbeat(tenant, name, request.task_worker_id, api.advertised, api.engine.now_ms())
    return RegisterTaskWorkerResponse(your_hosts=[api.advertised])


async def get_task_worker_group(api: Api, tenant: str, request: TaskDefId) -> TaskWorkerGroup:
    """GetTaskWorkerGroup: the workers that have sent a heartbeat since the daemon started."""
    group = api.workers.group(tenant, request.name)
    if group is None:
        raise not_found(f"no worker has registered for the TaskDef '{request.name}'")
    return group


async def delete_task_def(api: Api, tenant: str, request: DeleteTaskDefRequest) -> Any:
    """DeleteTaskDef: its worker group goes with it."""
    reply = await api.engine.submit(Command(tenant, request))
    api.workers.drop(tenant, request.id.name)
    return reply


class PollStream:
    """One PollTask stream: a response for each request, when and only when there is a task for it."""

    def __init__(self, api: Api, tenant: str, context: Any) -> None:
        self._api = api
        self._tenant = tenant
        self._context = context
        self._waiting: set[Poll] = set()
        self._claimed, self._to_write = anyio.create_memory_object_stream[ScheduledTask](math.inf)

    async def serve(self, requests: AsyncIterator[PollTaskRequest]) -> None:
        """Serve until the worker closes its side, leaves, or the daemon stops.

        Only a worker that has closed its side sees a normal end: after any other it would never come back.
        """
        try:
            with POLLS.track_inprogress(), self._claimed:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write)
                    tasks.start_soon(self._stop_with_daemon, tasks.cancel_scope)
                    async for request in requests:
                        await self._ask(request)
                    tasks.cancel_scope.cancel()
        finally:
            self._leave()
        if self._api.stopping.is_set():
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "lhd is stopping; connect again")

    async def _ask(self, request: PollTaskRequest) -> None:
        version = request.task_worker_version if request.HasField("task_worker_version") else None
        poll = Poll(self._tenant, request.task_def_id.name, request.client_id, version, self._take)
        self._waiting.add(poll)
        await self._api.engine.poll(poll)

    def _take(self, poll: Poll, scheduled: ScheduledTask) -> None:
        self._waiting.discard(poll)
        self._claimed.send_nowait(scheduled)

    async def _write(self) -> None:
        # A write under way ends before the stream does: gRPC cannot send a status beside it, and only its end tells
        # whether the attempt has gone out.
        async for scheduled in self._to_write:
            try:
                with anyio.CancelScope(shield=True):
                    await self._context.write(PollTaskResponse(result=scheduled))
            except Exception:  # noqa: BLE001 - grpc names no error of its own for a stream that is gone
                self._give_back(scheduled)

    async def _stop_with_daemon(self, scope: anyio.CancelScope) -> None:
        await self._api.stopping.wait()
        scope.cancel()

    def _leave(self) -> None:
        for poll in self._waiting:
            poll.gone = True
        self._api.engine.queues.forget(self._waiting)
        while True:
            try:
                self._give_back(self._to_write.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        self._to_write.close()

    def _give_back(self, scheduled: ScheduledTask) -> None:
        release = ReleaseTask(scheduled.task_run_id, scheduled.attempt_number)
        self._api.engine.submit_soon(Command(self._tenant, release))


METHODS: dict[str, Method] = {
    "RegisterTaskWorker": register_task_worker,
    "GetTaskWorkerGroup": get_task_worker_group,
    "DeleteTaskDef": delete_task_def,
}
