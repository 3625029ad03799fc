"""The HTTP listeners, shared by address: whoever has something to answer hangs its routes here."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(value: Any) -> web.Response:
    """The answer 200 with a JSON value."""
    return web.Response(body=orjson.dumps(value), content_type="application/json")


class HttpListener:
    """Routes by path and method, changed at any time, behind one aiohttp server.

    ``refused`` is told the reason and status of each request that has no route.
    """

    def __init__(self, grace_s: float, refused: Callable[[str, int], None] = lambda *_: None) -> None:
        self._refused = refused
        self._routes: dict[str, dict[str, Handler]] = {}
        self._log = structlog.get_logger("lhd.http")
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=grace_s,
            auto_decompress=False,
        )

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Answer a method and path; raises ValueError where that is taken."""
        methods = self._routes.setdefault(path, {})
        if method in methods:
            raise ValueError(f"{method} {path} is answered already")
        methods[method] = handler

    def remove(self, method: str, path: str) -> None:
        """Answer a method and path no longer."""
        methods = self._routes.get(path, {})
        methods.pop(method, None)
        if not methods:
            self._routes.pop(path, None)

    async def start(self, host: str, port: int) -> int:
        """Listen on a TCP address; returns the port. Raises OSError when it cannot be bound."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def start_unix(self, path: Path) -> None:
        """Listen on a unix socket that only its owner can use, in place of a stale one."""
        await self._runner.setup()
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(path)).start()
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Close the listener; running requests get ``grace_s`` to end."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        methods = self._routes.get(request.path)
        if methods is None:
            self._refused("unknown path", 404)
            return web.json_response({"reason": "not found"}, status=404)
        handler = methods.get(request.method)
        if handler is None:
            self._refused("method", 405)
            headers = {"Allow": ", ".join(sorted(methods))}
            return web.json_response({"reason": "method not allowed"}, status=405, headers=headers)
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - it is logged, and the sender is asked to try again
            self._log.exception("a request failed because of a bug in lhd", path=request.path)
            headers = {"Retry-After": "5"}
            return web.json_response({"reason": "not stored; try again"}, status=503, headers=headers)
