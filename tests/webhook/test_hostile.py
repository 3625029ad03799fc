"""What a hostile sender can do to a daemon: nothing. One real process takes it all, and afterwards is as it was.

The short form takes part in every test run. The full form, with more of everything and against the default deadlines:
``pytest --full tests/webhook/test_hostile.py -o log_cli=true -o log_cli_level=INFO``, which tells the figures.
"""

import gzip
import hashlib
import hmac
import json
import logging
import re
import sqlite3
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import zstandard

from tests.e2e.process import SECRET, Daemon
from tests.forms import FULL
from tests.webhook.door import PATIENCE_S, github_headers
from tests.webhook.schemes.senders import FORM, JSON
from tests.webhook.seen import EVENT, source
from tests.webhook.wire import Reply, Wire, chunk, connected, exchange, head, whole

log = logging.getLogger(__name__)
MEMORY_KIB = 96 * 1024
"""By so much the peak of the daemon's memory may grow over all of this file."""
MIB = 1024 * 1024
LIMIT = 1_048_576
BOMB_BYTES = (1024 if FULL else 10) * MIB
AT_ONCE = 16
IDLE = 1000 if FULL else 200
DRIP_S = 1.0 if FULL else 0.02
FLOOD_BYTES = (64 if FULL else 8) * MIB
HEADER_TIMEOUT_S, BODY_TIMEOUT_S = (10, 10) if FULL else (2, 1)
LONG_S = 60.0 if FULL else PATIENCE_S
pytestmark = pytest.mark.timeout(600 if FULL else 60)

TABLES = ("ledger", "seen_delivery", "dead_letter", "external_event", "correlated_event", "queued_event", "wf_run")
SIGNED = "scheme = \"{}\", {} secrets = [{{ file = '{}/secret' }}]"
LAST = head("/hooks/events", {"webhook-request-origin": "last.example"}, method="OPTIONS")
"""A request that stores nothing, whose answer nothing else has."""
SLOW = f"body_timeout_s = {BODY_TIMEOUT_S}"
PACKED = 'decompress = ["gzip", "zstd"]'


def sources(folder: Path) -> list[str]:
    return [
        source("open", 'scheme = "none"', SLOW, PACKED, "multipart = true", see="1"),
        source("events", 'scheme = "none"', SLOW, "cloudevents = true", see="1"),
        source("packed", SIGNED.format("github", "", folder), SLOW, PACKED, see="1"),
        source("slack", SIGNED.format("slack", "", folder), SLOW, see="1"),
        source("hmac", SIGNED.format("hmac", 'header = "X-Signature",', folder), SLOW, see="1"),
        source("bearer", SIGNED.format("bearer", "", folder), SLOW, see="1"),
        source("elsewhere", 'scheme = "none"', 'allow = ["192.0.2.1"]', see="1"),
        source("limited", 'scheme = "none"', "rate = { per_s = 0.001, burst = 1 }", see="1"),
        source("sized", 'scheme = "none"', "body_bytes_max = 1000", see="1"),
    ]


class Target:
    """The daemon of this file."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.port = daemon.http_port
        self.idle_kib = 0

    def peak_kib(self) -> int:
        """The most memory that the process has had at any time."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def stored(self) -> dict[str, int]:
        """How many rows there are of what a delivery can leave."""
        with closing(sqlite3.connect(f"file:{self.daemon.folder}/data/lhd.sqlite?mode=ro", uri=True)) as store:
            return {table: store.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}

    def deliver(self) -> None:
        """A genuine delivery; it has to be accepted."""
        status, answer = self.daemon.branch_created("main")
        assert (status, answer["verdict"]) == (202, "accepted")

    @contextmanager
    def unharmed(self, *, at_most: int = 0) -> Iterator[None]:
        """Whatever happens inside stores so many deliveries at most and leaves the daemon as it was."""
        before, logged, peak_kib = self.stored(), self.daemon.log.stat().st_size, self.peak_kib()
        yield
        after = self.stored()
        assert all(after[table] - before[table] <= at_most for table in TABLES), (before, after)
        self.deliver()
        with self.daemon.log.open("rb") as text:
            text.seek(logged)
            assert [line for line in text.read().decode().splitlines() if "error" in line.lower()] == []
        grown = self.peak_kib() - self.idle_kib
        log.info("the peak of memory has grown by %d KiB", grown)
        assert grown < MEMORY_KIB or self.peak_kib() - peak_kib < MIB // 1024

    async def ask(self, request: bytes) -> Reply | None:
        """A request on a connection of its own; its answer is no server error, and there need be none."""
        reply = await exchange(self.port, request, patience_s=LONG_S)
        assert reply is None or reply.status < 500
        return reply

    async def status(self, request: bytes) -> int:
        """The status of an answer that there has to be."""
        reply = await self.ask(request)
        assert reply is not None
        return reply.status

    async def statuses(self, requests: bytes) -> list[int]:
        """The statuses of all answers on one connection, before it is closed or a last request is answered."""
        found = []
        async with self.connected() as wire:
            await wire.send(requests + LAST)
            while (reply := await wire.reply()) is not None and "webhook-allowed-origin" not in reply.headers:
                found.append(reply.status)
        return found

    @asynccontextmanager
    async def connected(self, local_host: str | None = None) -> AsyncIterator[Wire]:
        async with connected(self.port, local_host, patience_s=LONG_S) as wire:
            yield wire


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    daemon = Daemon(folder)
    listener = f"[http]\nheader_timeout_s = {HEADER_TIMEOUT_S}\nconnections_per_peer_max = {IDLE}\n"
    text = daemon.config.read_text().replace("[http]\n", listener)
    daemon.config.write_text(text + EVENT + "".join(sources(folder)))
    daemon.start()
    target = Target(daemon)
    try:
        for _ in range(50):
            target.deliver()
        target.idle_kib = target.peak_kib()
        log.info("the peak of memory is %d KiB before it begins", target.idle_kib)
        yield target
        log.info("the peak of memory is %d KiB when all is over", target.peak_kib())
    finally:
        daemon.stop()


async def all_at_once(count: int, attack: Callable[[], Any]) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(attack)


def signed(body: bytes, **headers: str) -> dict[str, str]:
    return github_headers(body, **headers)


# Bodies that are more than they seem


def zstd_with_a_large_window(body: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(compression_level=3, window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(body) + packer.flush()


def gzip_of(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*pieces, packer.flush()])


def zstd_of(size: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    pieces = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*pieces, packer.flush()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": partial(gzip_of, BOMB_BYTES),
    "zstd": partial(zstd_of, BOMB_BYTES),
    "zstd, in one": lambda: zstandard.compress(bytes(10 * MIB)),
    "zstd, a large window": lambda: zstd_with_a_large_window(bytes(10 * MIB)),
    "gzip in gzip": lambda: gzip.compress(gzip_of(BOMB_BYTES)),
    "gzip, many members": lambda: gzip.compress(bytes(1000)) * 10_000,
    "zstd, many frames": lambda: zstandard.compress(bytes(1000)) * 10_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_zeros_that_inflate_are_413_and_are_not_looked_at_unless_they_are_signed(
    target: Target, bomb: str
) -> None:
    packed = BOMBS[bomb]()
    coding = {"content-encoding": bomb[:4]}
    expected = {400, 413} if any(word in bomb for word in ("gzip in gzip", "window", "many")) else {413}
    with target.unharmed():
        forged = signed(packed, x_hub_signature_256="sha256=" + "0" * 64)
        assert await target.status(whole("/hooks/packed", packed, {**forged, **coding})) == 401
        genuine = whole("/hooks/packed", packed, {**signed(packed), **coding})
        assert await target.status(genuine) in expected

        async def send() -> None:
            assert await target.status(whole("/hooks/open", packed, {**JSON, **coding})) in expected

        await all_at_once(AT_ONCE, send)


async def test_bodies_in_chunks_beyond_the_limit_are_413_also_many_at_once(target: Target) -> None:
    pieces = [head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}), *[chunk(b" " * 65536)] * 16, chunk(b" ")]

    async def send() -> None:
        async with target.connected() as wire:
            await wire.send(*pieces)
            reply = await wire.reply()
        assert reply is not None
        assert reply.status == 413

    with target.unharmed():
        await all_at_once(AT_ONCE, send)


async def test_a_body_without_end_is_cut_off(target: Target) -> None:
    with target.unharmed():
        async with target.connected() as wire:
            await wire.send(head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}))
            for _ in range(FLOOD_BYTES // 65536):
                if not await wire.send(chunk(b" " * 65536)):
                    break
            assert [reply.status for reply in await wire.replies()] in ([], [413])


EXTENDED = b"1;" + b"x" * FLOOD_BYTES


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"2\r\n{}\r\n0\r\n" + b"X-A: b\r\n" * (FLOOD_BYTES // 8), id="trailers without end"),
        pytest.param(EXTENDED, id="an extension of a chunk without end"),
        pytest.param(b"0" * FLOOD_BYTES + b"\r\n", id="a size of a chunk without end"),
        pytest.param(b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n", id="a very large chunk"),
        pytest.param(b"-2\r\n{}\r\n0\r\n\r\n", id="a negative chunk"),
        pytest.param(b"0x2\r\n{}\r\n0\r\n\r\n", id="a size in another notation"),
        pytest.param(b"2 \r\n{}\r\n0\r\n\r\n", id="a blank behind a size"),
        pytest.param(b"zz\r\n{}\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"2\r\n{}garbage\r\n0\r\n\r\n", id="more than its size"),
        pytest.param(b"1;" + b"x" * 1000 + b"\r\n \r\n", id="one chunk and no more"),
    ],
)
async def test_chunks_that_are_none_store_nothing(target: Target, body: bytes) -> None:
    with target.unharmed(at_most=1 if b"2 \r\n" in body else 0):
        reply = await target.ask(head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}) + body)
        assert reply is None or reply.status in (400, 408, 413, 202 if b"2 \r\n" in body else 400)


async def test_a_body_in_a_hundred_thousand_chunks_is_one_body(target: Target) -> None:
    with target.unharmed(at_most=1):
        chunks = chunk(b" ") * (100_000 if FULL else 20_000) + chunk(b"{}") + chunk(b"")
        assert await target.status(head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}) + chunks) in (202, 408)


# Lengths that lie

LENGTH = len(b'{"zen": "x"}')


@pytest.mark.parametrize(
    "length",
    [
        *[
            "-1",
            "-0",
            "+12",
            "12.0",
            "1e1",
            "0xc",
            "c",
            "abc",
            "",
            " ",
            "12 12",
            "12,12",
            "12, 13",
            "1_2",
            "\uff11\uff12",
        ],
        *["9" * 20, "9" * 400, "18446744073709551628", "4294967308", "\x0b12"],
    ],
)
async def test_a_length_that_is_no_number_or_too_large_is_refused(target: Target, length: str) -> None:
    body = b'{"zen": "x"}'
    with target.unharmed():
        reply = await target.ask(head("/hooks/packed", {**signed(body), "content-length": length}) + body)
        assert reply is None or reply.status in (400, 408, 413)


@pytest.mark.parametrize("lengths", [(LENGTH, LENGTH + 1), (LENGTH + 1, LENGTH), (0, LENGTH), (LENGTH, 0)])
async def test_two_lengths_that_differ_are_refused(target: Target, lengths: tuple[int, int]) -> None:
    body = b'{"zen": "x"}'
    fields = "".join(f"{name}: {length}\r\n" for name, length in zip(("Content-Length",) * 2, lengths, strict=True))
    request = head("/hooks/packed", signed(body)).replace(b"\r\n", b"\r\n" + fields.encode(), 1) + body
    with target.unharmed():
        reply = await target.ask(request)
        assert reply is None or reply.status == 400


@pytest.mark.parametrize("length", [0, 1, LENGTH - 1])
async def test_a_length_that_is_too_small_cuts_the_body_and_its_rest_is_no_request_that_counts(
    target: Target, length: int
) -> None:
    body = b'{"zen": "x"}'
    with target.unharmed():
        request = head("/hooks/packed", {**signed(body), "content-length": str(length)}) + body
        assert set(await target.statuses(request)) <= {400, 401}


@pytest.mark.parametrize("ending", ["waits", "ends"])
async def test_a_length_that_is_too_large_is_408_or_closed(target: Target, ending: str) -> None:
    body = b'{"zen": "x"}'
    with target.unharmed():
        async with target.connected() as wire:
            await wire.send(head("/hooks/open", {**JSON, "content-length": str(LENGTH + 1)}) + body)
            if ending == "ends":
                await wire.finish()
            assert [reply.status for reply in await wire.replies()] in ([], [400], [408])


SMUGGLED = whole("/hooks/open", b'"smuggled"', JSON)
CHUNKED = "transfer-encoding: chunked"


@pytest.mark.parametrize(
    "fields",
    [
        ["content-length: {length}", CHUNKED],
        [CHUNKED, "content-length: {length}"],
        ["content-length: 5", CHUNKED],
        ["content-length: {length}", "transfer-encoding: identity"],
        ["content-length: {length}", "transfer-encoding: xchunked"],
        ["content-length: {length}", "transfer-encoding: chunked, identity"],
        ["content-length: {length}", "transfer-encoding: gzip, chunked"],
        ["content-length: {length}", "transfer-encoding:\tchunked"],
        ["content-length: {length}", "transfer-encoding : chunked"],
        ["content-length: {length}", "Transfer-Encoding: \x0bchunked"],
        ["content-length: {length}", CHUNKED, CHUNKED],
        ["content-length: {length}", CHUNKED, "transfer-encoding: identity"],
        ["content-length: {length}", "x: y\r\n transfer-encoding: chunked"],
        [CHUNKED, CHUNKED],
        ["transfer-encoding: chunked, chunked"],
    ],
    ids=str,
)
async def test_no_request_hides_in_one_whose_length_can_be_read_in_two_ways(target: Target, fields: list[str]) -> None:
    body = chunk(b"") + SMUGGLED
    lines = "\r\n".join(field.format(length=len(body)) for field in fields)
    request = head("/hooks/packed", JSON).replace(b"\r\n", f"\r\n{lines}\r\n".encode(), 1) + body
    with target.unharmed():
        statuses = await target.statuses(request)
    assert len(statuses) <= 1
    assert set(statuses) <= {400, 401, 411, 413, 501}


# Slowness


async def drip(wire: Wire, piece: bytes) -> None:
    while await wire.send(piece):  # noqa: ASYNC110 - slowness is what is tested
        await anyio.sleep(DRIP_S)


@pytest.mark.parametrize(
    ("begin", "piece", "statuses"),
    [
        pytest.param(b"", b"\r\n", ([], [400], [408]), id="empty lines"),
        pytest.param(b"", b"P", ([], [400], [408]), id="a request line"),
        pytest.param(b"POST /hooks/open HTTP/1.1\r\nHost: ", b"x", ([], [408]), id="a header"),
        pytest.param(b"POST /hooks/open HTTP/1.1\r\n", b"A: b\r\n", ([], [408]), id="headers"),
        pytest.param(head("/hooks/open", {**JSON, "content-length": "100000"}), b" ", ([408],), id="a body"),
        pytest.param(
            head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}), b"1\r\n \r\n", ([408],), id="chunks"
        ),
        pytest.param(
            head("/hooks/open", {**JSON, "transfer-encoding": "chunked"}),
            b"0",
            ([400], [408]),
            id="the size of a chunk",
        ),
        pytest.param(
            head("/hooks/packed", {**signed(b""), "content-length": "100000"}), b" ", ([408],), id="a signed body"
        ),
    ],
)
async def test_whatever_drips_is_ended_and_others_are_served_meanwhile(
    target: Target, begin: bytes, piece: bytes, statuses: tuple[list[int], ...]
) -> None:
    with target.unharmed():
        async with target.connected() as wire, anyio.create_task_group() as tasks:
            await wire.send(begin)
            tasks.start_soon(drip, wire, piece)
            target.daemon.request("GET", "/nowhere")
            assert [reply.status for reply in await wire.replies()] in statuses
            tasks.cancel_scope.cancel()


async def test_idle_sockets_keep_nobody_out_and_are_closed(target: Target) -> None:
    beginnings = [b"", b"POST /hooks/open HTTP/1.1\r\nHost: lhd\r\n", head("/hooks/open", {"content-length": "5"})]
    with target.unharmed(at_most=1):
        async with AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(target.connected("127.0.0.2")) for _ in range(IDLE)]
            more = [await stack.enter_async_context(target.connected("127.0.0.2")) for _ in range(20)]
            for wire in more:
                await wire.send(whole("/nowhere"))
                assert await wire.reply() is None
            for number, wire in enumerate(idle):
                assert await wire.send(beginnings[number % len(beginnings)])
            target.deliver()
            statuses = [[reply.status for reply in await wire.replies()] for wire in idle]
            assert statuses.count([408]) >= IDLE // 3
            assert all(found in ([], [408]) for found in statuses)
        async with target.connected("127.0.0.2") as wire:
            await wire.send(whole("/nowhere"))
            reply = await wire.reply()
            assert reply is not None
            assert reply.status == 404


async def test_a_sender_that_does_not_read_its_answers_fills_no_memory(target: Target) -> None:
    request = whole("/hooks/nowhere")
    flood = request * (65536 // len(request))
    with target.unharmed():
        async with target.connected() as wire:
            with anyio.move_on_after(LONG_S / 4):
                for _ in range(FLOOD_BYTES // len(flood)):
                    if not await wire.send(flood):
                        break


# Headers


@pytest.mark.parametrize("order", ["good bad", "bad good", "good good", "good empty", "empty good"])
@pytest.mark.parametrize(("name", "header"), [("packed", "x-hub-signature-256"), ("hmac", "x-signature")])
async def test_a_signature_that_is_sent_twice_is_401(target: Target, name: str, header: str, order: str) -> None:
    body = b'{"zen": "twice"}'
    digest = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    prefix = "sha256=" if name == "packed" else ""
    values = {"good": prefix + digest, "bad": prefix + "0" * 64, "empty": ""}
    fields = "".join(f"{header}: {values[which]}\r\n" for which in order.split())
    request = whole(f"/hooks/{name}", body, JSON).replace(b"\r\n", b"\r\n" + fields.encode(), 1)
    with target.unharmed():
        assert await target.status(request) == 401


async def test_credentials_that_are_sent_twice_are_401(target: Target) -> None:
    fields = f"Authorization: Bearer x\r\nAuthorization: Bearer {SECRET.decode()}\r\n".encode()
    with target.unharmed():
        assert await target.status(whole("/hooks/bearer", b"{}", JSON).replace(b"\r\n", b"\r\n" + fields, 1)) == 401


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
@pytest.mark.parametrize(
    ("name", "header"),
    [
        *[("packed", name) for name in ("x-github-event", "x-github-delivery", "x-hub-signature-256", "cookie")],
        *[("open", name) for name in ("content-type", "content-encoding", "x-forwarded-for", "host", "user-agent")],
        *[("events", name) for name in ("ce-id", "ce-type", "ce-source", "ce-specversion", "ce-subject", "ce-data")],
        *[("bearer", "authorization"), ("slack", "x-slack-signature"), ("slack", "x-slack-request-timestamp")],
    ],
)
async def test_no_header_that_is_not_utf_8_is_a_server_error(
    target: Target, name: str, header: str, value: bytes
) -> None:
    body = b"{}"
    headers = signed(body) if name == "packed" else dict(JSON)
    if name == "events":
        headers |= {"ce-id": "1", "ce-type": "t", "ce-source": "s", "ce-specversion": "1.0"}
    with target.unharmed(at_most=1):
        headers[header] = value.decode("utf-8", "surrogateescape")
        assert await target.status(whole(f"/hooks/{name}", body, headers)) < 500


@pytest.mark.parametrize(
    "path",
    [
        *[
            "/hooks/open?\udcff=\udcfe",
            "/hooks/open?%ff=%fe",
            "/hooks/open?a=%",
            "/hooks/open?a=%zz",
            "/hooks/open?%00",
        ],
        *[
            "/hooks/\udcff",
            "/hooks/%ff",
            "/hooks/open#\udcff",
            "/hooks/open?" + "a=1&" * 1500,
            "/hooks/open?a=" + "é" * 2000,
        ],
    ],
)
async def test_no_path_or_query_is_a_server_error(target: Target, path: str) -> None:
    with target.unharmed(at_most=1):
        reply = await target.ask(whole(path, b"{}", JSON))
        assert reply is not None


# JSON

DEEP = 100_000
NO_JSON: dict[str, bytes] = {
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep arrays without end": b"[" * DEEP,
    "deep objects without end": b'{"a":' * DEEP,
    "NaN": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a surrogate": b'{"a": "\xed\xa0\x80"}',
    "overlong": b'{"a": "\xc0\x80"}',
}


@pytest.mark.parametrize("name", NO_JSON)
async def test_json_that_is_none_is_400_and_401_where_it_is_not_signed(target: Target, name: str) -> None:
    body = NO_JSON[name]
    packed = gzip.compress(body)
    with target.unharmed():
        forged = signed(body, x_hub_signature_256="sha256=" + "0" * 64)
        assert await target.status(whole("/hooks/packed", body, forged)) == 401
        assert await target.status(whole("/hooks/packed", body, signed(body))) == 400
        assert await target.status(whole("/hooks/packed", packed, signed(packed, content_encoding="gzip"))) == 400
        assert await target.status(whole("/hooks/open", body, JSON)) == 400
        assert await target.status(whole("/hooks/events", body, JSON)) == 415
        for media_type in ("application/cloudevents+json", "application/cloudevents-batch+json"):
            assert await target.status(whole("/hooks/events", body, {"content-type": media_type})) == 400


def full_of(piece: bytes, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """As much of it as a body may hold."""
    count = (LIMIT - 10) // (len(piece) + 1)
    return opening + b",".join([piece] * count) + closing


ODD_JSON: dict[str, bytes] = {
    "duplicate names": b'{"a": 1, "a": 2, "a": {"b": 1, "b": 2}}',
    "many duplicate names": full_of(b'"a":1', b"{", b"}"),
    "many names": b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"}",
    "many arrays": full_of(b"[]"),
    "many objects": full_of(b'{"a":{}}'),
    "many numbers": full_of(b"1.5"),
    "a number beyond all": b"1e400",
    "a number of many digits": b"[" + b"9" * 100_000 + b"]",
    "a fraction of many digits": b"0." + b"9" * 100_000,
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a zero byte": b'{"\\u0000": "\\u0000"}',
    "a long name": b'{"' + b"a" * 500_000 + b'": 1}',
}


@pytest.mark.parametrize("name", ODD_JSON)
async def test_odd_json_is_taken_or_refused_and_never_a_server_error(target: Target, name: str) -> None:
    with target.unharmed(at_most=1):
        for path in ("/hooks/open", "/hooks/packed"):
            assert await target.status(whole(path, ODD_JSON[name], JSON)) in (202, 400, 401, 422)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(FORM["content-type"], full_of(b"a=", b"", b"").replace(b",", b"&"), id="fields"),
        pytest.param(FORM["content-type"], b"a=%ff", id="a form that is not UTF-8"),
        pytest.param("text/plain", b"\xff" * 500_000, id="text that is not UTF-8"),
        pytest.param("multipart/form-data; boundary=b", b"--b\r\n" * 100_000, id="boundaries"),
        pytest.param("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\n\r\n" * 50_000, id="parts"),
        pytest.param("multipart/form-data; boundary=b", b"--b\r\n" + b"A: b\r\n" * 100_000, id="headers of a part"),
        pytest.param("multipart/form-data; boundary=b", b"--b\r\nA: " + b"b" * 900_000, id="a header of a part"),
        pytest.param("multipart/form-data; boundary=" + "b" * 4000, b"--b--", id="a long boundary"),
    ],
)
async def test_forms_of_too_much_of_something_are_400(target: Target, content_type: str, body: bytes) -> None:
    with target.unharmed():
        assert await target.status(whole("/hooks/open", body, {"content-type": content_type})) == 400


# What is no HTTP


def client_hello() -> bytes:
    """What a client of TLS says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="lhd.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


GOOD = whole("/hooks/open", b'"not http"', JSON)
NO_HTTP: dict[str, bytes] = {
    "TLS": client_hello(),
    "zeros": bytes(100_000),
    "noise": bytes(range(256)) * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"POST /hooks/open\r\n\r\n",
    "HTTP/9.9": GOOD.replace(b"HTTP/1.1", b"HTTP/9.9"),
    "no HTTP": GOOD.replace(b"HTTP/1.1", b"XTTP/1.1"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a method of other characters": GOOD.replace(b"POST", b"P\x00ST"),
    "a long request line": GOOD.replace(b"/hooks/open", b"/hooks/open?" + b"a" * 100_000),
    "a long method": GOOD.replace(b"POST", b"P" * 100_000),
    "a long header": GOOD.replace(b"host: lhd", b"host: lhd\r\na: " + b"b" * 100_000),
    "a long name of a header": GOOD.replace(b"host: lhd", b"host: lhd\r\n" + b"b" * 100_000 + b": a"),
    "a folded header": GOOD.replace(b"host: lhd", b"host: lhd\r\nx: a\r\n b"),
    "a folded first header": GOOD.replace(b"host: lhd", b" host: lhd"),
    "a blank before a colon": GOOD.replace(b"host: lhd", b"host : lhd"),
    "a header without a colon": GOOD.replace(b"host: lhd", b"host: lhd\r\nnonsense"),
    "a header without a name": GOOD.replace(b"host: lhd", b"host: lhd\r\n: x"),
    "a zero byte": GOOD.replace(b"host: lhd", b"host: lhd\r\nx: a\x00b"),
    "a lone CR": GOOD.replace(b"host: lhd", b"host: lhd\r\nx: a\rb"),
    "bare LF": GOOD.replace(b"\r\n", b"\n"),
    "one bare LF": GOOD.replace(b"host: lhd\r\n", b"host: lhd\n"),
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_is_400_or_closed_and_stores_nothing(target: Target, name: str) -> None:
    with target.unharmed():
        statuses = await target.statuses(NO_HTTP[name])
    assert len(statuses) <= 1
    assert set(statuses) <= {400, 414, 431, 505}


@pytest.mark.parametrize("line", [b"X-A: b\r\n", b"X" * 100 + b": b\r\n", b"X-A: " + b"b" * 4000 + b"\r\n"])
async def test_headers_without_end_are_cut_off(target: Target, line: bytes) -> None:
    with target.unharmed():
        async with target.connected() as wire:
            await wire.send(b"POST /hooks/open HTTP/1.1\r\nHost: lhd\r\n")
            lines = line * (65536 // len(line))
            for _ in range(FLOOD_BYTES // len(lines)):
                if not await wire.send(lines):
                    break
            assert {reply.status for reply in await wire.replies()} <= {400, 408, 431}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(GOOD.replace(b"/hooks/open", b"http://lhd/hooks/open"), id="an absolute address"),
        pytest.param(GOOD.replace(b"/hooks/open", b"*"), id="an asterisk"),
        pytest.param(GOOD.replace(b"/hooks/open", b"//hooks/open"), id="two slashes"),
        pytest.param(GOOD.replace(b"/hooks/open", b"/hooks/../hooks/open"), id="two dots"),
        pytest.param(GOOD.replace(b"/hooks/open", b"/hooks/%6fpen"), id="an encoded path"),
        pytest.param(GOOD.replace(b"/hooks/open", b"http://[/"), id="no address"),
        pytest.param(GOOD.replace(b"/hooks/open", b"http://lhd:99999/"), id="no port"),
        pytest.param(GOOD.replace(b"POST /hooks/open", b"CONNECT lhd:80"), id="CONNECT"),
        pytest.param(GOOD.replace(b"POST", b"TRACE"), id="TRACE"),
        pytest.param(GOOD.replace(b"POST", b"post"), id="another case"),
        pytest.param(GOOD.replace(b"POST ", b"POST  "), id="two spaces"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(GOOD.replace(b"host: lhd\r\n", b""), id="no host"),
        pytest.param(GOOD.replace(b"host: lhd", b"host: [::1"), id="no host at all"),
        pytest.param(GOOD.replace(b"host: lhd", b"host: a\r\nhost: b"), id="two hosts"),
        pytest.param(GOOD.replace(b"host: lhd", b"host: lhd\r\nexpect: nonsense"), id="an expectation"),
        pytest.param(
            GOOD.replace(b"host: lhd", b"host: lhd\r\nconnection: upgrade\r\nupgrade: websocket"), id="an upgrade"
        ),
        pytest.param(GOOD.replace(b"host: lhd", b"host: lhd\r\nconnection: upgrade\r\nupgrade: h2c"), id="HTTP/2"),
        pytest.param(GOOD.replace(b"host: lhd", b"host: lhd\r\nrange: bytes=0-0"), id="a range"),
    ],
)
async def test_an_unusual_request_is_never_a_server_error(target: Target, request_: bytes) -> None:
    with target.unharmed(at_most=1):
        await target.ask(request_)


# Requests behind a refused one


REFUSED: dict[str, tuple[str, dict[str, str], int]] = {
    "no signature": ("/hooks/packed", JSON, 401),
    "a wrong signature": ("/hooks/packed", {**JSON, "x-hub-signature-256": "sha256=" + "0" * 64}, 401),
    "an address": ("/hooks/elsewhere", JSON, 401),
    "a path": ("/hooks/nowhere", JSON, 404),
    "a method": ("/hooks/open", JSON, 405),
    "a media type": ("/hooks/open", {"content-type": "image/png"}, 415),
    "a coding": ("/hooks/open", {**JSON, "content-encoding": "br"}, 415),
    "no JSON": ("/hooks/open", JSON, 400),
    "a rate": ("/hooks/limited", JSON, 429),
    "a size": ("/hooks/sized", JSON, 413),
}


def refused(why: str, body: bytes) -> bytes:
    path, headers, _ = REFUSED[why]
    return whole(path, body, headers, method="PUT" if why == "a method" else "POST")


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
async def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(
    target: Target, why: str, is_large: bool
) -> None:
    if why == "a rate":
        await target.ask(whole("/hooks/limited", b"{}", JSON))
    hidden = SMUGGLED * ((200_000 if is_large else 1000) // len(SMUGGLED) + 1)
    with target.unharmed():
        statuses = await target.statuses(refused(why, hidden))
    assert statuses == [REFUSED[why][2]]


@pytest.mark.parametrize("why", REFUSED)
async def test_a_request_behind_a_refused_one_is_answered_for_itself_or_not_at_all(target: Target, why: str) -> None:
    if why == "a rate":
        await target.ask(whole("/hooks/limited", b"{}", JSON))
    next_body = json.dumps({"behind": why}).encode()
    with target.unharmed(at_most=1):
        statuses = await target.statuses(refused(why, b"x" * 1001) + whole("/hooks/open", next_body, JSON))
    assert statuses in ([REFUSED[why][2]], [REFUSED[why][2], 202])


async def test_requests_that_are_sent_together_are_answered_in_their_order(target: Target) -> None:
    bodies = [json.dumps({"together": number}).encode() for number in range(5)]
    requests = [whole("/hooks/open", body, JSON) for body in bodies]
    requests.insert(2, whole("/hooks/nowhere", method="GET"))
    with target.unharmed(at_most=len(bodies)):
        async with target.connected() as wire:
            await wire.send(b"".join(requests))
            statuses = [reply.status for _ in requests if (reply := await wire.reply()) is not None]
    assert statuses == [202, 202, 404, 202, 202, 202]
