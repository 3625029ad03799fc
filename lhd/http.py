"""The HTTP listeners, shared by address: whoever has something to answer hangs its routes here."""

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LINGER_S = 2.0
"""How long what is still sent after an answer is read and thrown away, so that the sender sees the answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What strangers may hold open; a connection that sends no whole header for so long, or none, is closed."""

    header_timeout_s: float = 10.0
    connections_max: int = 4_000
    connections_per_peer_max: int = 1_000


def json_response(value: Any, status: int = 200) -> web.Response:
    """An answer with a JSON value."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


class HttpListener:
    """Routes by path and method, changed at any time, behind one aiohttp server.

    ``refused`` is told the reason and status of each request that has no route.
    """

    def __init__(
        self,
        grace_s: float,
        refused: Callable[[str, int], None] = lambda *_: None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._refused = refused
        self._grace_s = grace_s
        self._limits = limits or ConnectionLimits()
        self._routes: dict[str, dict[str, Handler]] = {}
        self._log = structlog.get_logger("lhd.http")
        self._runner: web.ServerRunner | None = None

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

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen on a TCP address; returns the port. Raises OSError when it cannot be bound."""
        runner = await self._set_up()
        await _TcpSite(runner, host, port, tls, self._limits.header_timeout_s).start()
        return int(runner.addresses[0][1])

    async def start_unix(self, path: Path) -> None:
        """Listen on a unix socket that only its owner can use, in place of a stale one."""
        runner = await self._set_up()
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(runner, str(path)).start()
        finally:
            os.umask(before)

    async def _set_up(self) -> web.ServerRunner:
        server = _Server(self._answer, self._refused, self._limits)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=self._grace_s)
        await self._runner.setup()
        return self._runner

    async def stop(self) -> None:
        """Close the listener; running requests get ``grace_s`` to end."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
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


class _TcpSite(web.BaseSite):
    """A TCP address; a TLS handshake may take no longer than a header."""

    __slots__ = ("_address", "_handshake_timeout_s")

    def __init__(
        self, runner: web.ServerRunner, host: str, port: int, tls: ssl.SSLContext | None, handshake_timeout_s: float
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._address = host, port
        self._handshake_timeout_s = handshake_timeout_s

    @property
    def name(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        assert server is not None
        timeout_s = None if self._ssl_context is None else self._handshake_timeout_s
        self._server = await asyncio.get_running_loop().create_server(
            server, *self._address, ssl=self._ssl_context, ssl_handshake_timeout=timeout_s
        )


class _Server(web.Server):
    """Counts connections, by peer and in all, and closes those that are too many or say nothing."""

    def __init__(self, handler: Handler, refused: Callable[[str, int], None], limits: ConnectionLimits) -> None:
        self.handler_arguments: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": limits.header_timeout_s,
            "lingering_time": _LINGER_S,
        }
        super().__init__(handler, **self.handler_arguments)
        self.refused = refused
        self._limits = limits
        self._peers: Counter[str] = Counter()
        self._peer_of: dict[RequestHandler, str] = {}

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self.handler_arguments)

    def connection_made(self, handler: RequestHandler, transport: Any) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return
        self._peer_of[handler] = peer[0]
        self._peers[peer[0]] += 1
        limits = self._limits
        if len(self._peer_of) > limits.connections_max or self._peers[peer[0]] > limits.connections_per_peer_max:
            self.refused("connections", 0)
            # Its task has to begin before it can end.
            self._loop.call_later(0, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        peer = self._peer_of.pop(handler, None)
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]


class _Connection(RequestHandler):
    """Answers what is no HTTP like everything else that is refused: counted, in JSON, without a trace in the log."""

    __slots__ = ("_server",)

    def __init__(self, server: _Server, **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._server = server

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != 400 and not isinstance(exc, ConnectionError):
            return super().handle_error(request, status, exc, message)
        # A sender that has gone gets no answer.
        self._server.refused("malformed HTTP" if status == 400 else "gone", 400)
        response = web.json_response({"reason": "malformed HTTP"}, status=400)
        response.force_close()
        return response
