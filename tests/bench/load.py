"""The load client, in a process of its own: reads jobs as lines of JSON, answers each with a line of JSON.

A job sends so many requests, each once, with so many in flight. Connections are kept between jobs.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import grpc
import uvloop

from tests.bench import requests
from tests.bench.requests import Post

SERVICE = "/littlehorse.LittleHorse"
POSTS: dict[str, Callable[[str], Post]] = {"to_run": requests.to_run, "to_key": requests.to_key}
CALLS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "put_event": ("PutExternalEvent", requests.put_event),
    "wake_by_put": ("PutExternalEvent", requests.wake_by_put),
    "start_run": ("RunWf", requests.start_run),
}

Send = Callable[[Any], Awaitable[bool]]


class Load:
    """The connections of one client."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._channels: dict[int, grpc.aio.Channel] = {}

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Send ``count`` requests of a ``kind`` to ``port``, for at most ``deadline_s``.

        The answer holds for each name the times at which it was sent and acknowledged, and the number refused.
        """
        kind = job["kind"]
        names = [f"{job['prefix']}-{number}" for number in range(job["count"])]
        if kind in POSTS:
            made: list[tuple[str, Any]] = [(name, POSTS[kind](name)) for name in names]
            send = self._post(job["port"])
        else:
            method, make = CALLS[kind]
            made = [(name, make(name)) for name in names]
            send = self._call(job["port"], method)
        return await _send_all(send, iter(made), job["in_flight"], job["deadline_s"])

    def _post(self, port: int) -> Send:
        url = f"http://127.0.0.1:{port}/hooks/github"

        async def send(post: Post) -> bool:
            async with self._session.post(url, data=post.body, headers=post.headers) as response:
                await response.read()
                return response.status == 202

        return send

    def _call(self, port: int, method: str) -> Send:
        channel = self._channels.get(port)
        if channel is None:
            channel = self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        call: Any = channel.unary_unary(f"{SERVICE}/{method}")

        async def send(request: bytes) -> bool:
            try:
                await call(request, timeout=10)
            except grpc.aio.AioRpcError:
                return False
            return True

        return send


async def _send_all(send: Send, made: Iterator[tuple[str, Any]], in_flight: int, deadline_s: float) -> dict[str, Any]:
    sent: dict[str, float] = {}
    acknowledged: dict[str, float] = {}
    refused = 0
    end = time.monotonic() + deadline_s

    async def lane() -> None:
        nonlocal refused
        for name, request in made:
            if time.monotonic() > end:
                return
            sent[name] = time.monotonic()
            if await send(request):
                acknowledged[name] = time.monotonic()
            else:
                refused += 1

    await asyncio.gather(*(lane() for _ in range(in_flight)))
    return {"sent": sent, "acknowledged": acknowledged, "refused": refused}


async def main() -> None:
    load = Load()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await load.run(json.loads(line))), flush=True)  # noqa: T201 - this is the answer


if __name__ == "__main__":
    uvloop.run(main())
