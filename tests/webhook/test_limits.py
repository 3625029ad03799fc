"""Limits of a source and of the listener, addresses, and a change of secrets under load."""

import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.request import urlopen

import aiohttp
import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lhd.engine import Engine
from tests.e2e.process import SECRET, Daemon
from tests.webhook.door import PATIENCE_S, Answer, Door, github_headers
from tests.webhook.schemes.senders import JSON, KEY
from tests.webhook.seen import ONE_SECRET, SECRET_ENV, open_sources, seen, source
from tests.webhook.test_source import nothing_stored, rows, verdict
from tests.webhook.wire import Reply, Wire, chunk, connected, exchange, head, whole

ACCEPTED = (202, "accepted")
NONE = 'scheme = "none"'
GITHUB = f'scheme = "github", {ONE_SECRET}'
LIMIT = 1000
NEVER = "body_timeout_s = 300"
SLOW_REFILL = "per_s = 0.001"
"""No test is so long that a token comes back."""


def rate(burst: int, *, key: str = "rate", refill: str = SLOW_REFILL) -> str:
    return f"{key} = {{ {refill}, burst = {burst} }}"


SOURCES = [
    source("sized", NONE, f"body_bytes_max = {LIMIT}", NEVER),
    source("default", see="1"),
    source("short", NONE, "body_timeout_s = 0.3"),
    source("drained", NONE, "body_timeout_s = 300", "body_bytes_per_s_min = 1000", "body_bytes_max = 10000000"),
    source("limited", NONE, rate(3), NEVER),
    source("verified", GITHUB, rate(1)),
    source("short-limited", NONE, rate(1), "body_timeout_s = 0.3"),
    source("refilling", NONE, rate(1, refill="per_s = 20")),
    source("by-peer", NONE, rate(2, key="peer_rate"), "trusted_proxies = 1"),
    source("by-peer-two", NONE, rate(1, key="peer_rate"), "trusted_proxies = 2"),
    source("by-peer-direct", NONE, rate(2, key="peer_rate")),
    source("both", NONE, rate(2), rate(1, key="peer_rate"), "trusted_proxies = 1"),
    source("elsewhere", NONE, 'allow = ["192.0.2.0/24"]', rate(1)),
    source("here", NONE, 'allow = ["192.0.2.0/24", "127.0.0.0/8"]'),
    source("proxied", NONE, 'allow = ["192.0.2.0/24", "2001:db8:1::/48", "198.51.100.7"]', "trusted_proxies = 1"),
    source("proxied-twice", NONE, 'allow = ["192.0.2.0/24"]', "trusted_proxies = 2"),
    source("anywhere-proxied", NONE, "trusted_proxies = 1", see="meta.remote"),
    source("anywhere", see="meta.remote"),
]


@pytest.fixture
async def door(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setenv(SECRET_ENV, KEY)
    async with open_sources(engine, tmp_path, *SOURCES) as door:
        yield door


async def post(door: Door, name: str, body: object, *forwarded: str) -> Answer:
    headers = {**JSON, "x-forwarded-for": ", ".join(forwarded)} if forwarded else JSON
    return await door.send("POST", f"/hooks/{name}", json.dumps(body).encode(), headers)


async def statuses(door: Door, name: str, *forwarded: str | None) -> list[int]:
    """The statuses of different deliveries, one with each of these values of X-Forwarded-For."""
    return [
        (await post(door, name, {"n": number, "t": time.time_ns()}, *([] if value is None else [value]))).status
        for number, value in enumerate(forwarded)
    ]


def assert_come_back_later(answer: Answer | Reply) -> None:
    assert answer.status == 429
    assert answer.headers["retry-after"].isdecimal()
    assert int(answer.headers["retry-after"]) >= 1


# Sizes and times of a body


@pytest.mark.parametrize(("name", "limit"), [("sized", LIMIT), ("default", 1_048_576)])
async def test_a_body_of_the_limit_is_taken_and_one_more_byte_is_413(door: Door, name: str, limit: int) -> None:
    body = b'"' + b"x" * (limit - 2) + b'"'
    too_large = await exchange(door.port, head(f"/hooks/{name}", {**JSON, "content-length": str(limit + 1)}))
    assert too_large is not None
    assert too_large.status == 413
    assert await nothing_stored(door)
    assert verdict(await door.send("POST", f"/hooks/{name}", body, JSON)) == ACCEPTED


async def test_a_body_in_chunks_is_413_as_soon_as_it_is_beyond_the_limit(door: Door) -> None:
    async with connected(door.port) as wire:
        await wire.send(head("/hooks/sized", {**JSON, "transfer-encoding": "chunked"}), *[chunk(b"x" * 100)] * 11)
        reply = await wire.reply()
    assert reply is not None
    assert reply.status == 413
    assert await nothing_stored(door)


@pytest.mark.parametrize("sent", [b"", b"{"], ids=["nothing", "a part"])
@pytest.mark.parametrize("framing", [{"content-length": "2"}, {"transfer-encoding": "chunked"}], ids=str)
async def test_a_body_that_does_not_come_in_time_is_408_and_stores_nothing(
    door: Door, framing: dict[str, str], sent: bytes
) -> None:
    sent = chunk(sent) if sent and "transfer-encoding" in framing else sent
    reply = await exchange(door.port, head("/hooks/short", {**JSON, **framing}) + sent)
    assert reply is not None
    assert reply.status == 408
    assert set(reply.json) == {"reason"}
    assert await nothing_stored(door)


async def drip(wire: Wire, piece: bytes, pause_s: float) -> None:
    """Send it again and again until the other side has had enough."""
    while await wire.send(piece):  # noqa: ASYNC110 - slowness is what is tested
        await anyio.sleep(pause_s)


async def test_a_body_that_comes_more_slowly_than_the_minimum_is_408(door: Door) -> None:
    async with connected(door.port) as wire, anyio.create_task_group() as tasks:
        await wire.send(head("/hooks/drained", {**JSON, "content-length": "1000000"}))
        tasks.start_soon(drip, wire, b" ", 0.02)
        reply = await wire.reply()
        tasks.cancel_scope.cancel()
    assert reply is not None
    assert reply.status == 408
    assert await nothing_stored(door)


async def test_a_body_that_is_longer_under_way_than_three_seconds_but_fast_enough_is_taken(door: Door) -> None:
    piece, pieces = b" " * 10_000, 40
    async with connected(door.port) as wire:
        await wire.send(head("/hooks/drained", {**JSON, "content-length": str(pieces * len(piece) + 2)}))
        for _ in range(pieces):
            assert await wire.send(piece)
            await anyio.sleep(0.1)
        await wire.send(b"{}")
        reply = await wire.reply()
    assert reply is not None
    assert reply.status == 202


# Rates


async def test_what_is_beyond_the_rate_is_429_with_retry_after_and_stores_nothing(door: Door) -> None:
    answers = [await post(door, "limited", number) for number in range(5)]
    assert [answer.status for answer in answers] == [202, 202, 202, 429, 429]
    for answer in answers[3:]:
        assert_come_back_later(answer)
        assert set(answer.json) == {"reason"}
    assert await rows(door, "ledger", "verdict") == [("accepted",)] * 3
    assert [(fact["source"], fact["status"]) for fact in door.refusals.last] == [("limited", 429)] * 2


async def test_a_source_beyond_its_rate_does_not_hold_up_another_one(door: Door) -> None:
    await statuses(door, "limited", *[None] * 4)
    assert verdict(await post(door, "default", {})) == ACCEPTED


async def test_the_rate_comes_back_with_time(door: Door) -> None:
    assert verdict(await post(door, "refilling", 0)) == ACCEPTED
    with anyio.fail_after(PATIENCE_S):
        for number in range(1, 10):
            while (answer := await post(door, "refilling", number)).status != 202:
                assert_come_back_later(answer)


async def test_of_many_at_once_as_many_as_the_burst_pass(door: Door) -> None:
    answers: list[int] = []

    async def send(number: int) -> None:
        answers.append((await post(door, "limited", number)).status)

    async with anyio.create_task_group() as senders:
        for number in range(20):
            senders.start_soon(send, number)
    assert Counter(answers) == {202: 3, 429: 17}


async def test_a_request_whose_body_never_comes_is_charged(door: Door) -> None:
    slow = await exchange(door.port, head("/hooks/short-limited", {**JSON, "content-length": "2"}))
    assert slow is not None
    assert slow.status == 408
    assert_come_back_later(await post(door, "short-limited", {}))


async def test_a_request_beyond_the_rate_is_answered_without_its_body(door: Door) -> None:
    await statuses(door, "limited", *[None] * 3)
    for framing in ({"content-length": "100"}, {"transfer-encoding": "chunked"}):
        reply = await exchange(door.port, head("/hooks/limited", {**JSON, **framing}))
        assert reply is not None
        assert_come_back_later(reply)


async def test_a_forged_request_is_charged_too(door: Door) -> None:
    forged = await door.github({}, path="/hooks/verified", x_hub_signature_256="sha256=" + "0" * 64)
    genuine = await door.github({}, path="/hooks/verified")
    assert forged.status == 401
    assert_come_back_later(genuine)


async def test_a_request_from_an_address_that_is_not_allowed_costs_nothing(door: Door) -> None:
    assert await statuses(door, "elsewhere", *[None] * 5) == [401] * 5


@pytest.mark.parametrize("table", ["rate = {}", "rate = { per_s = 1 }", "rate = { per_s = 0, burst = 1 }"])
def test_a_rate_that_cannot_be_is_a_finding(table: str, tmp_path: Path) -> None:
    result = checked(tmp_path, source("in", NONE, table))
    assert result.startswith(f"{tmp_path / 'lhd.toml'}:")
    assert "sources.in.rate" in result


# Rates of one client


async def test_each_client_has_a_rate_of_its_own(door: Door) -> None:
    clients = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.2"]
    assert await statuses(door, "by-peer", *clients) == [202, 202, 202, 429, 202, 202, 429]


async def test_a_client_has_one_rate_however_it_writes_its_address(door: Door) -> None:
    spellings = ["2001:db8::1", "2001:DB8:0:0::1", "2001:0db8::0001"]
    assert await statuses(door, "by-peer", *spellings) == [202, 202, 429]


@pytest.mark.parametrize("forged", ["192.0.2.{n}, 198.51.100.1", "x{n}, 198.51.100.1", ",{n}, , 198.51.100.1"])
async def test_what_a_client_writes_before_its_proxys_entry_does_not_renew_its_rate(door: Door, forged: str) -> None:
    assert await statuses(door, "by-peer", *(forged.format(n=n) for n in range(4))) == [202, 202, 429, 429]


async def test_a_client_that_writes_the_header_itself_has_no_other_rate_for_that(door: Door) -> None:
    forged = [f"192.0.2.{number}" for number in range(4)]
    assert await statuses(door, "by-peer-direct", *forged) == [202, 202, 429, 429]


async def test_behind_two_proxies_the_entry_before_the_last_is_the_client(door: Door) -> None:
    forwarded = ["192.0.2.1, 10.0.0.1", "192.0.2.2, 10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.9, 192.0.2.2, 10.0.0.1"]
    assert await statuses(door, "by-peer-two", *forwarded) == [202, 202, 429, 429]


async def test_a_request_counts_for_its_client_and_for_its_source(door: Door) -> None:
    clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert await statuses(door, "both", *clients) == [202, 202, 429]


async def test_a_client_beyond_its_rate_takes_nothing_from_the_others(door: Door) -> None:
    clients = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert await statuses(door, "both", *clients) == [202, 429, 429, 202]


async def test_what_is_beyond_the_rate_of_a_client_is_429_with_retry_after(door: Door) -> None:
    await statuses(door, "by-peer-direct", None, None)
    reply = await exchange(door.port, head("/hooks/by-peer-direct", {**JSON, "content-length": "100"}))
    assert reply is not None
    assert_come_back_later(reply)


# Addresses


@pytest.mark.parametrize(("name", "status"), [("elsewhere", 401), ("here", 202)])
@pytest.mark.parametrize("forged", [None, "192.0.2.1", "127.0.0.1, 192.0.2.1"])
async def test_without_proxies_only_the_address_of_the_connection_counts(
    door: Door, name: str, status: int, forged: str | None
) -> None:
    assert await statuses(door, name, forged) == [status]
    assert await nothing_stored(door) is (status == 401)


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("192.0.2.0", 202),
        ("192.0.2.255", 202),
        ("192.0.3.0", 401),
        ("192.0.1.255", 401),
        ("2001:db8:1::", 202),
        ("2001:db8:1:ffff::1", 202),
        ("2001:db8:2::1", 401),
        ("198.51.100.7", 202),
        ("198.51.100.8", 401),
        ("203.0.113.9, 192.0.2.1", 202),
        ("192.0.2.1, 203.0.113.9", 401),
        ("192.0.2.1,203.0.113.9", 401),
        ("192.0.2.1, ", 401),
        ("  192.0.2.1  ", 202),
        ("", 401),
        (",", 401),
        ("127.0.0.1", 401),
        ("unknown", 401),
        ("192.0.2", 401),
        ("192.0.2.1/24", 401),
        ("192.0.2.01", 401),
        ("3221225985", 401),
        ("0xC0000201", 401),
        ("192.0.2.1\x7f", 401),
        ("é", 401),
        ("192.0.2.1 192.0.2.1", 401),
        ("for=192.0.2.1", 401),
        ("x" * 5000, 401),
        (None, 401),
    ],
)
async def test_behind_a_proxy_its_entry_of_the_header_is_the_client(
    door: Door, forwarded: str | None, status: int
) -> None:
    headers = {**JSON} if forwarded is None else {**JSON, "x-forwarded-for": forwarded}
    reply = await exchange(door.port, whole("/hooks/proxied", b"{}", headers))
    assert reply is not None
    if "\x7f" in (forwarded or ""):
        assert reply.status in (400, 401)
    else:
        assert reply.status == status
    assert await nothing_stored(door) is (status == 401)


@pytest.mark.parametrize(
    ("lines", "status"), [(["192.0.2.1", "203.0.113.9"], 401), (["203.0.113.9", "192.0.2.1"], 202)]
)
async def test_several_lines_of_the_header_are_one_list(door: Door, lines: list[str], status: int) -> None:
    fields = "".join(f"X-Forwarded-For: {line}\r\n" for line in lines).encode()
    request = whole("/hooks/proxied", b"{}", JSON).replace(b"\r\n", b"\r\n" + fields, 1)
    reply = await exchange(door.port, request)
    assert reply is not None
    assert reply.status == status


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("192.0.2.1, 10.0.0.1", 202),
        ("203.0.113.9, 192.0.2.1, 10.0.0.1", 202),
        ("192.0.2.1, 203.0.113.9, 10.0.0.1", 401),
        ("192.0.2.1", 401),
        ("", 401),
    ],
)
async def test_behind_two_proxies_fewer_than_two_entries_come_from_nowhere(
    door: Door, forwarded: str, status: int
) -> None:
    assert await statuses(door, "proxied-twice", forwarded) == [status]
    assert await nothing_stored(door) is (status == 401)


async def test_where_every_address_is_allowed_one_from_nowhere_is_too(door: Door) -> None:
    assert await statuses(door, "anywhere-proxied", None) == [202]


@pytest.mark.parametrize(
    ("name", "forwarded", "remote"),
    [
        ("anywhere", None, "127.0.0.1"),
        ("anywhere", "192.0.2.1", "127.0.0.1"),
        ("anywhere-proxied", "192.0.2.1", "192.0.2.1"),
        ("anywhere-proxied", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
    ],
)
async def test_routes_see_the_address_of_the_client(door: Door, name: str, forwarded: str | None, remote: str) -> None:
    assert await statuses(door, name, forwarded) == [202]
    assert await seen(door) == remote


async def test_an_address_that_is_not_allowed_is_told_no_more_than_a_wrong_signature(door: Door) -> None:
    stranger = await post(door, "elsewhere", {})
    forged = await door.github({}, path="/hooks/verified", x_hub_signature_256="sha256=" + "0" * 64)
    assert (stranger.status, stranger.json) == (forged.status, forged.json)


def checked(folder: Path, *sources: str) -> str:
    """What `lhd check` says about these sources."""
    daemon = Daemon(folder)
    with daemon.config.open("a") as config:
        config.write('\n[[event]]\nname = "seen"\ncorrelated = {}\n' + "".join(sources))
    result = daemon.lhd("check")
    assert "Traceback" not in result.stderr
    assert result.returncode == (1 if result.stderr else 0)
    return result.stderr


def test_what_is_no_network_is_a_finding_with_its_file_and_line(tmp_path: Path) -> None:
    wrong = ["192.0.2.256", "192.0.2.0/33", "2001:db8::/129", "192.0.2.1/24", "hooks.example.com", "", "192.0.2", "*"]
    sources = [source(f"s{number}", NONE, f'allow = ["192.0.2.1", "{text}"]') for number, text in enumerate(wrong)]
    findings = checked(tmp_path, *sources).splitlines()
    lines = (tmp_path / "lhd.toml").read_text().splitlines()
    places = [f"{tmp_path / 'lhd.toml'}:{number}" for number, line in enumerate(lines, 1) if line.startswith("allow")]
    assert [finding.partition(": ")[0] for finding in findings] == places
    assert all(f"sources.s{number}.allow" in finding for number, finding in enumerate(findings))


def test_what_is_a_network_is_no_finding(tmp_path: Path) -> None:
    right = '"192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "2001:db8::1", "::/0", "0.0.0.0/0", "::1/128"'
    assert checked(tmp_path, source("in", NONE, f"allow = [{right}]", "trusted_proxies = 3")) == ""


@pytest.mark.parametrize("table", ["trusted_proxies = -1", 'trusted_proxies = "1"', 'allow = "::1"'])
def test_other_wrong_tables_of_addresses_are_findings(table: str, tmp_path: Path) -> None:
    assert f"sources.in.{table.split()[0]}" in checked(tmp_path, source("in", NONE, table))


# Connections: a daemon of its own for each set of limits


class Limited:
    """A daemon whose listener has these keys, with a source that never loses its patience."""

    def __init__(self, folder: Path, *keys: str) -> None:
        self.daemon = Daemon(folder)
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace("[http]\n", "\n".join(["[http]", *keys, ""])))

    def __enter__(self) -> Daemon:
        self.daemon.start()
        return self.daemon

    def __exit__(self, *_: object) -> None:
        self.daemon.stop()


def genuine(daemon: Daemon, name: str) -> tuple[int, str]:
    status, answer = daemon.branch_created(name)
    return status, answer["verdict"]


UNFINISHED = {
    "nothing": b"",
    "a part of the request line": b"POST /hooks/git",
    "a part of the headers": b"POST /hooks/github HTTP/1.1\r\nHost: lhd\r\nX-",
    "an empty line": b"\r\n",
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Limited(tmp_path_factory.mktemp("impatient"), "header_timeout_s = 0.5") as daemon:
        yield daemon


@pytest.mark.parametrize("sent", UNFINISHED)
async def test_a_connection_without_a_whole_head_is_closed(impatient: Daemon, sent: str) -> None:
    async with connected(impatient.http_port) as wire:
        await wire.send(UNFINISHED[sent])
        assert [reply.status for reply in await wire.replies()] in ([], [408])
    assert genuine(impatient, sent) == ACCEPTED


async def test_a_head_that_drips_is_closed_too(impatient: Daemon) -> None:
    async with connected(impatient.http_port) as wire, anyio.create_task_group() as tasks:
        await wire.send(b"POST /hooks/github HTTP/1.1\r\nHost: lhd\r\n")
        tasks.start_soon(drip, wire, b"X-A: b\r\n", 0.05)
        assert [reply.status for reply in await wire.replies()] in ([], [408])
        tasks.cancel_scope.cancel()


async def test_a_connection_that_idles_after_an_answer_is_closed(impatient: Daemon) -> None:
    async with connected(impatient.http_port) as wire:
        for _ in range(2):
            await wire.send(whole("/nowhere"))
            reply = await wire.reply()
            assert reply is not None
            assert reply.status == 404
        assert await wire.replies() == []


async def test_a_body_may_take_longer_than_a_head(impatient: Daemon) -> None:
    body = json.dumps({"zen": "slow"}).encode()
    async with connected(impatient.http_port) as wire:
        await wire.send(head("/hooks/github", {"content-length": str(len(body)), **github_headers(body)}))
        for byte in body:
            await anyio.sleep(2 / len(body))
            assert await wire.send(bytes([byte]))
        reply = await wire.reply()
    assert reply is not None
    assert reply.status == 202


async def open_connections(stack: AsyncExitStack, daemon: Daemon, count: int, local_host: str) -> list[Wire]:
    return [await stack.enter_async_context(connected(daemon.http_port, local_host)) for _ in range(count)]


async def is_answered(wire: Wire) -> bool:
    """Whether there is somebody at the other end."""
    await wire.send(whole("/nowhere"))
    reply = await wire.reply()
    assert reply is None or reply.status in (404, 503)
    return reply is not None and reply.status == 404


async def are_answered(wires: list[Wire]) -> list[bool]:
    return [await is_answered(wire) for wire in wires]


async def test_more_connections_of_one_client_than_allowed_are_closed_and_others_are_served(tmp_path: Path) -> None:
    with Limited(tmp_path, "header_timeout_s = 300", "connections_per_peer_max = 10") as daemon:
        async with AsyncExitStack() as stack:
            wires = await open_connections(stack, daemon, 10, "127.0.0.2")
            assert await are_answered(wires) == [True] * 10
            more = await open_connections(stack, daemon, 3, "127.0.0.2")
            assert await are_answered(more) == [False] * 3
            assert await are_answered(wires) == [True] * 10
            assert await are_answered(await open_connections(stack, daemon, 1, "127.0.0.3")) == [True]
            assert genuine(daemon, "meanwhile") == ACCEPTED
        await until_served(daemon, "127.0.0.2")


async def test_more_connections_than_allowed_are_closed_and_served_again_when_others_end(tmp_path: Path) -> None:
    with Limited(tmp_path, "header_timeout_s = 300", "connections_max = 10") as daemon:
        async with AsyncExitStack() as stack:
            wires = [wire for n in range(2, 7) for wire in await open_connections(stack, daemon, 2, f"127.0.0.{n}")]
            assert await are_answered(wires) == [True] * 10
            assert await are_answered(await open_connections(stack, daemon, 2, "127.0.0.9")) == [False] * 2
            assert await are_answered(wires) == [True] * 10
        await until_served(daemon, "127.0.0.9")
        assert genuine(daemon, "afterwards") == ACCEPTED


async def until_served(daemon: Daemon, local_host: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            async with connected(daemon.http_port, local_host) as wire:
                if await is_answered(wire):
                    return
            await anyio.sleep(0.01)


async def test_limits_of_connections_do_not_hold_for_the_admin_listener(tmp_path: Path) -> None:
    with Limited(tmp_path, "header_timeout_s = 300", "connections_max = 1") as daemon:
        async with AsyncExitStack() as stack:
            assert await are_answered(await open_connections(stack, daemon, 1, "127.0.0.2")) == [True]
            async with connected(daemon.admin_port) as wire:
                await wire.send(whole("/healthz", method="GET"))
                reply = await wire.reply()
    assert reply is not None
    assert reply.status == 200


# A change of secrets

OLD_SECRET = b"the one before"
"""The other secret of the daemon's configuration."""


async def test_a_change_of_secrets_under_load_refuses_nothing_and_both_secrets_are_counted(tmp_path: Path) -> None:
    deliveries, in_flight = 400, 16
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        answers: Counter[int] = Counter()
        async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
            numbers = iter(range(deliveries))

            async def sender() -> None:
                for number in numbers:
                    secret = OLD_SECRET if number < deliveries // 2 else SECRET
                    body = json.dumps({"zen": number}).encode()
                    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
                    headers = github_headers(body, x_hub_signature_256=signature)
                    url = f"http://127.0.0.1:{daemon.http_port}/hooks/github"
                    async with session.post(url, data=body, headers=headers) as response:
                        answers[response.status] += 1

            for _ in range(in_flight):
                tasks.start_soon(sender)
        assert answers == {202: deliveries}
        assert matches(daemon) == {"old-secret": deliveries // 2, "secret": deliveries // 2}
    finally:
        daemon.stop()


def matches(daemon: Daemon) -> dict[str, int]:
    """How often each secret of the source verified a delivery, by the name of its file."""
    with urlopen(f"http://127.0.0.1:{daemon.admin_port}/metrics", timeout=PATIENCE_S) as response:
        text = response.read().decode()
    assert SECRET.decode() not in text
    assert OLD_SECRET.decode() not in text
    counts = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "lhd_source_secret_matches_total":
                assert set(sample.labels) == {"source", "secret"}
                assert sample.labels["source"] == "github"
                counts[Path(sample.labels["secret"].strip("'")).name] = int(sample.value)
    return counts
