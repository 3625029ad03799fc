"""A task worker that notes when it gets what, in a process of its own: ``worker.py PORT TASK POLLS``.

It speaks PollTask as it is on the wire, with so many polls open at any time, and reports no task. A line of JSON asks
it for the times of the next ``count`` tasks.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import uvloop
from littlehorse.model import PollTaskRequest, PollTaskResponse, TaskDefId

from tests.bench.load import SERVICE


class Worker:
    """One stream of polls."""

    def __init__(self, channel: grpc.aio.Channel, task: str) -> None:
        self._call: Any = channel.stream_stream(f"{SERVICE}/PollTask")()
        self._poll = PollTaskRequest(
            task_def_id=TaskDefId(name=task), client_id="bench", task_worker_version="1"
        ).SerializeToString()
        self._received: list[tuple[float, bytes]] = []
        self._came = asyncio.Event()

    async def poll(self, polls: int) -> None:
        """Hold so many polls until the daemon is gone."""
        for _ in range(polls):
            await self._call.write(self._poll)
        async for response in self._call:
            self._received.append((time.monotonic(), response))
            self._came.set()
            await self._call.write(self._poll)

    async def take(self, count: int, deadline_s: float) -> dict[str, float]:
        """When the task of which run came: of ``count`` tasks, or of those that came in time."""
        end = time.monotonic() + deadline_s
        while len(self._received) < count and (left_s := end - time.monotonic()) > 0:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left_s)
            except TimeoutError:
                break
        received, self._received = self._received, []
        return {PollTaskResponse.FromString(raw).result.task_run_id.wf_run_id.id: came for came, raw in received}


async def main(port: int, task: str, polls: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        worker = Worker(channel, task)
        polling = asyncio.create_task(worker.poll(polls))
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await worker.take(**json.loads(line))), flush=True)  # noqa: T201 - this is the answer
        polling.cancel()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
