"""An authorisation server: it tells what a token is (RFC 7662), and gives tokens to machines."""

import asyncio
import base64
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Answer = dict[str, Any]


class AuthorisationServer:
    """Real HTTP on a loopback port, in a thread of its own.

    ``answers`` holds what introspection tells of each token; any other token is not active. A ``bytes`` answer is sent
    as it is, and an ``int`` is an HTTP status.
    """

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.answers: dict[str, Answer | bytes | int] = {}
        self.introspections: Counter[str] = Counter()
        self.authorisations: set[str | None] = set()
        self.port = 0
        self._expected = "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @property
    def introspect_url(self) -> str:
        """Where tokens are introspected."""
        return f"http://127.0.0.1:{self.port}/introspect"

    @property
    def token_url(self) -> str:
        """Where machines get a token; it is the name that they give."""
        return f"http://127.0.0.1:{self.port}/token"

    async def _introspect(self, request: web.Request) -> web.Response:
        self.authorisations.add(request.headers.get("Authorization"))
        if request.headers.get("Authorization") != self._expected:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = str((await request.post())["token"])
        self.introspections[token] += 1
        answer = self.answers.get(token, {"active": False})
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="text/html")
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.json_response(answer)

    async def _token(self, request: web.Request) -> web.Response:
        name, _, _ = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        return web.json_response({"access_token": name, "token_type": "Bearer", "expires_in": 3600})

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/introspect", self._introspect)
        app.router.add_post("/token", self._token)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.port = runner.addresses[0][1]
        self._is_up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
