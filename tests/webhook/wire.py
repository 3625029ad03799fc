"""HTTP byte by byte: what no client library would send, and all that comes back."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.webhook.door import PATIENCE_S

HEAD_BYTES_MAX = 65536
"""More than this is no head of an answer."""


class Reply(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a listener."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def send(self, *pieces: bytes) -> bool:
        """Send them one after the other; False as soon as the other side has closed."""
        try:
            for piece in pieces:
                await self._stream.send(piece)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def finish(self) -> None:
        """Send nothing more."""
        with suppress(anyio.BrokenResourceError, OSError):
            await self._stream.send_eof()

    async def reply(self) -> Reply | None:
        """The next answer, or None when the connection is closed instead."""
        try:
            head = await self._received.receive_until(b"\r\n\r\n", HEAD_BYTES_MAX)
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self._received.receive_exactly(int(headers.get("content-length", 0)))
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            return None
        version, status, *_ = first.split()
        assert version.startswith("HTTP/"), first
        return Reply(int(status), headers, body)

    async def replies(self) -> list[Reply]:
        """Every answer until the connection is closed."""
        found = []
        while (reply := await self.reply()) is not None:
            found.append(reply)
        return found


@asynccontextmanager
async def connected(port: int, local_host: str | None = None, *, patience_s: float = PATIENCE_S) -> AsyncIterator[Wire]:
    """A connection from this address of the loopback, for a bounded time."""
    with anyio.fail_after(patience_s):
        async with await anyio.connect_tcp("127.0.0.1", port, local_host=local_host) as stream:
            yield Wire(stream)


def head(path: str, headers: Mapping[str, str] | None = None, *, method: str = "POST") -> bytes:
    """The head of a request; it announces no body unless the headers do."""
    fields = {"host": "lhd", **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def whole(path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, method: str = "POST") -> bytes:
    """A request with its body."""
    return head(path, {"content-length": str(len(body)), **(headers or {})}, method=method) + body


def chunk(data: bytes) -> bytes:
    """A chunk of a body of which nobody says how long it is; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def exchange(port: int, request: bytes, *, patience_s: float = PATIENCE_S) -> Reply | None:
    """A request on a connection of its own, and its answer; None where there is none."""
    async with connected(port, patience_s=patience_s) as wire:
        await wire.send(request)
        return await wire.reply()
