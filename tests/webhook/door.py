"""A webhook source behind a real listener, and what a sender does; wired as the daemon wires it."""

import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import anyio

from lhd.config import Configuration
from lhd.core.commands import Command
from lhd.core.commands.deliveries import EnsureEventDef
from lhd.engine import Engine
from lhd.http import HttpListener
from lhd.intake.intake import Refusals
from lhd.sources.registry import Registry
from lhd.sources.runner import SourceRunner
from lhd.toml_document import Document, validate

SECRET = b"It's a Secret to Everybody"
TENANT = "default"
PATIENCE_S = 10.0
"""How long a test waits for a fact before it says that the fact never came."""


class Answer(NamedTuple):
    """What the sender got."""

    status: int
    headers: dict[str, str]
    json: dict[str, Any]


class Door:
    """The open door of the sources of one configuration."""

    def __init__(self, engine: Engine, port: int, refusals: Refusals, session: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.port = port
        self.refusals = refusals
        self._session = session

    async def send(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request, as it is."""
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.request(method, url, data=body, headers=headers) as response:
            content = await response.read()
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, lower, json.loads(content) if content else {})

    async def send_raw(self, request: bytes) -> bytes:
        """Bytes on a connection of their own; the first bytes of the answer."""
        with anyio.fail_after(PATIENCE_S):
            async with await anyio.connect_tcp("127.0.0.1", self.port) as connection:
                await connection.send(request)
                return await connection.receive()

    async def github(self, payload: Any, *, path: str = "/hooks/github", **changes: str) -> Answer:
        """A delivery signed as GitHub does; ``payload`` may be raw bytes. Changes are headers with ``_`` for ``-``."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.send("POST", path, body, github_headers(body, **changes))


def github_headers(body: bytes, **changes: str) -> dict[str, str]:
    """The headers that GitHub sends with this body."""
    return {
        "content-type": "application/json",
        "x-github-event": "create",
        "x-github-delivery": str(uuid.uuid4()),
        "x-hub-signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest(),
    } | {name.replace("_", "-"): value for name, value in changes.items()}


@asynccontextmanager
async def open_door(engine: Engine, folder: Path, toml: str) -> AsyncIterator[Door]:
    """The sources of a configuration, up and listening; ``engine`` may run or not."""
    config = folder / "lhd.toml"
    config.write_text(toml)
    configuration, sources = Registry.load().load_configuration(config)
    http, refusals = HttpListener(0.1), Refusals(configuration.limits.refused_max)
    reader = await engine.store.reader()
    async with anyio.create_task_group() as tasks, aiohttp.ClientSession() as session:
        for source in sources:
            await tasks.start(SourceRunner(source, engine, reader, http, refusals, folder / "data").run)
        port = await http.start("127.0.0.1", 0)
        try:
            yield Door(engine, port, refusals, session)
        finally:
            await http.stop()
            tasks.cancel_scope.cancel()
            # A cancellation here would take the place of what the test raised.
            with anyio.CancelScope(shield=True):
                await reader.close()


async def ensure_events(engine: Engine, toml: str) -> None:
    """Define the events of a configuration, as the daemon does when it starts."""
    document = Document(None, toml)
    for event in validate(Configuration, document.data, document).event:
        await engine.submit(Command(TENANT, EnsureEventDef(event.request())))
