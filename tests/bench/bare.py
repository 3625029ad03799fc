"""The bare servers beside which lhd is measured; each in a process of its own: ``bare.py http|grpc PORT``.

They do what any server of the kind must do with a request, and answer.
"""

import asyncio
import hashlib
import hmac
import sys
from typing import Any

import grpc
import orjson
import uvloop
from aiohttp import web
from littlehorse.model import PutExternalEventRequest

from tests.e2e.process import SECRET


async def hook(request: web.Request) -> web.Response:
    """Read, verify, parse, answer."""
    body = await request.read()
    expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Hub-Signature-256", "")):
        return web.Response(status=401)
    orjson.loads(body)
    return web.Response(status=202, body=b'{"verdict": "accepted"}', content_type="application/json")


async def serve_http(port: int) -> None:
    application = web.Application()
    application.router.add_post("/hooks/github", hook)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def echo(request: PutExternalEventRequest, context: Any) -> PutExternalEventRequest:
    """The message itself."""
    return request


async def serve_grpc(port: int) -> None:
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        echo, PutExternalEventRequest.FromString, PutExternalEventRequest.SerializeToString
    )
    handlers = {"PutExternalEvent": method}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("littlehorse.LittleHorse", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    KEPT.append(server)


KEPT: list[Any] = []
"""A grpc server that nobody holds is closed."""


async def main(kind: str, port: int) -> None:
    await (serve_http(port) if kind == "http" else serve_grpc(port))
    print("{}", flush=True)  # noqa: T201 - whoever started this waits for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
