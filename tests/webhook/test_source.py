"""The webhook source on a real listener: what a sender gets, and what is stored by then."""

import gzip
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from littlehorse.model import PutExternalEventDefRequest

from lhd.core.commands import Command
from lhd.engine import Engine, Limits
from lhd.store import Store
from tests.e2e.process import Daemon
from tests.webhook.door import PATIENCE_S, SECRET, TENANT, Answer, Door, ensure_events, github_headers, open_door

TOML = """
[[event]]
name = "branch-created"
correlated = {}

[[event]]
name = "approved"
type = "STR"

[sources.github]
kind = "webhook"
path = "/hooks/github"
body_bytes_max = 1000
body_timeout_s = 0.2
verify = { scheme = "github", secrets = [{ env = "GITHUB_SECRET" }] }

[[sources.github.routes]]
name = "branch"
when = "headers['x-github-event'] == 'create'"
event = "branch-created"
key = "body.ref"

[[sources.github.routes]]
name = "approval"
when = "headers['x-github-event'] == 'approval'"
event = "approved"
wf_run = "body.run"
content = "body.value"

[[sources.github.routes]]
name = "unknown"
when = "headers['x-github-event'] == 'unknown'"
event = "defined-later"
wf_run = "body.run"

[[sources.github.routes]]
name = "from-header"
when = "headers['x-github-event'] == 'from-header'"
event = "branch-created"
key = "headers['x-key']"

[[sources.github.routes]]
name = "content-from-header"
when = "headers['x-github-event'] == 'content-from-header'"
event = "branch-created"
key = "'k'"
content = "headers['x-key']"

[[sources.github.routes]]
name = "id-from-header"
when = "headers['x-github-event'] == 'id-from-header'"
event = "branch-created"
key = "'k'"
id = "headers['x-key']"

[[sources.github.routes]]
name = "macro"
when = "headers['x-github-event'] == 'macro'"
event = "branch-created"
key = "body.deep.exists(x, x == 1) ? 'a' : 'b'"

[sources.open]
kind = "webhook"
path = "/hooks/open"
body_bytes_max = 100000
verify = { scheme = "none" }

[[sources.open.routes]]
when = "query.to == 'query'"
event = "approved"
wf_run = "query.run"
content = "'by query'"

[[sources.open.routes]]
when = "headers['x-github-event'] == 'create'"
event = "branch-created"
key = "'by header'"

[[sources.open.routes]]
event = "approved"
wf_run = "'text-run'"
content = "body"
"""

RECEIPT = {"verdict", "id", "reason"}
HEAD = b"POST /hooks/github HTTP/1.1\r\nHost: lhd\r\nX-Hub-Signature-256: sha256=0\r\n"
"""Of a request whose body is read before it is refused."""


@pytest.fixture
async def door(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setenv("GITHUB_SECRET", SECRET.decode())
    await ensure_events(engine, TOML)
    async with open_door(engine, tmp_path, TOML) as door:
        yield door


async def rows(door: Door, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    reader = await door.engine.store.reader()
    try:
        return await reader.fetch(f"SELECT {columns} FROM {table}")
    finally:
        await reader.close()


def verdict(answer: Answer) -> tuple[int, str]:
    assert set(answer.json) == RECEIPT
    return answer.status, answer.json["verdict"]


async def nothing_stored(door: Door) -> bool:
    tables = ("ledger", "seen_delivery", "dead_letter", "external_event", "correlated_event")
    return not any([await rows(door, table) for table in tables])


# What passes the door


async def test_an_accepted_delivery_is_202_and_everything_of_it_is_stored(door: Door) -> None:
    answer = await door.github({"ref": "main"})
    assert verdict(answer) == (202, "accepted")
    assert answer.headers["content-type"].startswith("application/json")
    assert await rows(door, "ledger", "delivery_id, verdict, outcome") == [(answer.json["id"], "accepted", "waiting")]
    assert await rows(door, "correlated_event", "event_def, key") == [("branch-created", "main")]
    assert await rows(door, "seen_delivery", "delivery_id") == [(answer.json["id"],)]


async def test_a_delivery_that_no_route_takes_is_202_filtered_and_remembered(door: Door) -> None:
    answer = await door.github({"zen": "x"}, x_github_event="ping", x_github_delivery="d")
    assert verdict(answer) == (202, "filtered")
    assert await rows(door, "ledger", "verdict") == [("filtered",)]
    assert verdict(await door.github({"zen": "x"}, x_github_event="ping", x_github_delivery="d")) == (200, "duplicate")


async def test_the_same_identity_with_the_same_body_is_200_and_stores_nothing_new(door: Door) -> None:
    first = await door.github({"ref": "main"}, x_github_delivery="d")
    again = await door.github({"ref": "main"}, x_github_delivery="d")
    assert verdict(again) == (200, "duplicate")
    assert again.json["id"] == first.json["id"]
    assert await rows(door, "ledger", "verdict") == [("accepted",)]


async def test_the_same_identity_with_another_body_is_409_and_has_a_ledger_row(door: Door) -> None:
    await door.github({"ref": "main"}, x_github_delivery="d")
    answer = await door.github({"ref": "other"}, x_github_delivery="d")
    assert verdict(answer) == (409, "conflict")
    assert sorted(await rows(door, "ledger", "verdict")) == [("accepted",), ("conflict",)]
    assert await rows(door, "correlated_event", "key") == [("main",)]


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        pytest.param("create", {"no-ref": 1}, id="mapping failed"),
        pytest.param("create", {"ref": 5}, id="key is not text"),
        pytest.param("approval", {"run": "not an id!", "value": "x"}, id="malformed run id"),
        pytest.param("approval", {"run": "r", "value": {"a": 1}}, id="type mismatch"),
        pytest.param("unknown", {"run": "r"}, id="unknown event"),
    ],
)
async def test_a_delivery_that_cannot_become_an_event_is_422_and_a_dead_letter(
    door: Door, event: str, payload: dict[str, Any]
) -> None:
    answer = await door.github(payload, x_github_event=event)
    assert verdict(answer) == (422, "dead")
    assert answer.json["reason"]
    assert await rows(door, "ledger", "delivery_id, verdict") == [(answer.json["id"], "dead")]
    assert await rows(door, "dead_letter", "delivery_id, count, body") == [
        (answer.json["id"], 1, json.dumps(payload).encode())
    ]
    assert await rows(door, "seen_delivery") == []


async def test_a_dead_delivery_again_adds_to_the_count_of_its_dead_letter(door: Door) -> None:
    first = await door.github({"run": "r"}, x_github_event="unknown", x_github_delivery="d")
    again = await door.github({"run": "r"}, x_github_event="unknown", x_github_delivery="d")
    assert verdict(again) == (422, "dead")
    assert again.json["id"] == first.json["id"]
    assert await rows(door, "dead_letter", "count") == [(2,)]
    assert await rows(door, "ledger", "verdict") == [("dead",)]


async def test_a_dead_delivery_again_is_accepted_under_its_id_once_the_cause_is_gone(door: Door) -> None:
    first = await door.github({"run": "r"}, x_github_event="unknown", x_github_delivery="d")
    await door.engine.submit(Command(TENANT, PutExternalEventDefRequest(name="defined-later")))
    again = await door.github({"run": "r"}, x_github_event="unknown", x_github_delivery="d")
    assert verdict(again) == (202, "accepted")
    assert again.json["id"] == first.json["id"]
    assert await rows(door, "dead_letter") == []
    assert await rows(door, "ledger", "verdict, outcome") == [("accepted", "waiting")]


async def test_of_equal_concurrent_deliveries_exactly_one_is_accepted(door: Door) -> None:
    answers: list[Answer] = []

    async def send() -> None:
        answers.append(await door.github({"ref": "main"}, x_github_delivery="d"))

    async with anyio.create_task_group() as senders:
        for _ in range(8):
            senders.start_soon(send)
    assert Counter(map(verdict, answers)) == {(202, "accepted"): 1, (200, "duplicate"): 7}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert await rows(door, "correlated_event", "key") == [("main",)]


async def test_without_an_id_of_the_sender_the_body_is_the_identity(door: Door) -> None:
    answers = [await door.send("POST", "/hooks/open", body) for body in (b'"a"', b'"a"', b'"b"')]
    assert [verdict(answer) for answer in answers] == [(202, "accepted"), (200, "duplicate"), (202, "accepted")]


async def test_the_same_delivery_id_at_two_sources_names_two_deliveries(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SECRET", SECRET.decode())
    two = TOML + TOML.partition("[sources.open]")[0].partition("[sources.github]")[2].replace(
        "\nkind", "[sources.second]\nkind", 1
    ).replace("/hooks/github", "/hooks/second").replace("sources.github", "sources.second")
    await ensure_events(engine, TOML)
    async with open_door(engine, tmp_path, two) as door:
        payload = {"run": "r", "value": "x"}
        for path in ("/hooks/github", "/hooks/second"):
            answer = await door.github(payload, path=path, x_github_event="approval", x_github_delivery="d")
            assert verdict(answer) == (202, "accepted")


# What the body is


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", "application/x.y+json"],
)
async def test_json_is_known_by_its_media_type_whatever_its_case_and_parameters(door: Door, content_type: str) -> None:
    assert verdict(await door.github({"ref": "main"}, content_type=content_type)) == (202, "accepted")


@pytest.mark.parametrize(("content_type", "stored"), [("text/plain; charset=utf-8", "STR"), ("text/html", "STR")])
async def test_text_is_text(door: Door, content_type: str, stored: str) -> None:
    answer = await door.send("POST", "/hooks/open", "grüße".encode(), {"content-type": content_type})
    assert verdict(answer) == (202, "accepted")


async def test_an_octet_stream_is_bytes(door: Door) -> None:
    answer = await door.send("POST", "/hooks/open", b"\xff\x00", {"content-type": "application/octet-stream"})
    assert verdict(answer) == (202, "accepted")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b""),
        ("application/json", b'{"a":'),
        ("application/json", b"NaN"),
        ("application/json", b'"\xff"'),
        ("application/json", b'"\\ud800"'),
        ("application/json", b"[" * 500),
        ("text/plain", b"\xff"),
    ],
)
async def test_a_body_that_is_not_what_its_type_says_is_400_and_leaves_nothing(
    door: Door, content_type: str, body: bytes
) -> None:
    answer = await door.github(body, content_type=content_type)
    assert answer.status == 400
    assert answer.json["reason"]
    assert await nothing_stored(door)


@pytest.mark.parametrize("content_type", ["application/xml", "multipart/form-data", "image/png", "nonsense"])
async def test_another_media_type_is_415_and_leaves_nothing(door: Door, content_type: str) -> None:
    answer = await door.github(b"x", content_type=content_type)
    assert answer.status == 415
    assert await nothing_stored(door)


# What the door refuses


@pytest.mark.parametrize(
    "signature",
    ["", "sha256=", "sha256=zz", "sha1=abc", "sha256=" + "0" * 64, "é", "sha256=é"],
)
async def test_a_malformed_or_wrong_signature_is_401_and_says_no_more_than_a_missing_one(
    door: Door, signature: str
) -> None:
    headers = github_headers(b"{}")
    del headers["x-hub-signature-256"]
    missing = await door.send("POST", "/hooks/github", b"{}", headers)
    wrong = await door.github(b"{}", x_hub_signature_256=signature)
    assert (missing.status, wrong.status) == (401, 401)
    assert missing.json == wrong.json
    assert await nothing_stored(door)


async def test_the_signature_of_another_body_is_401(door: Door) -> None:
    answer = await door.send("POST", "/hooks/github", b'{"ref": "b"}', github_headers(b'{"ref": "a"}'))
    assert answer.status == 401


async def test_a_body_is_verified_before_it_is_decoded(door: Door) -> None:
    answer = await door.github(b"not json", x_hub_signature_256="sha256=" + "0" * 64)
    assert answer.status == 401


async def test_a_forged_repeat_does_not_tell_that_the_delivery_is_known(door: Door) -> None:
    await door.github({"ref": "main"}, x_github_delivery="d")
    forged = await door.github({"ref": "main"}, x_github_delivery="d", x_hub_signature_256="sha256=" + "0" * 64)
    assert forged.status == 401
    assert "id" not in forged.json


@pytest.mark.parametrize("path", ["/", "/hooks", "/hooks/github/", "/hooks/none", "/HOOKS/GITHUB"])
async def test_an_unknown_path_is_404(door: Door, path: str) -> None:
    answer = await door.github({"ref": "main"}, path=path)
    assert answer.status == 404
    assert not RECEIPT - {"reason"} & set(answer.json)
    assert await nothing_stored(door)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_another_method_is_405_with_allow(door: Door, method: str) -> None:
    answer = await door.send(method, "/hooks/github")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_a_body_that_never_ends_is_408(door: Door) -> None:
    answer = await door.send_raw(HEAD + b"Content-Length: 10\r\n\r\n12345")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_drips_is_408_too(door: Door) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with await anyio.connect_tcp("127.0.0.1", door.port) as connection:
            await connection.send(HEAD + b"Content-Length: 900\r\n\r\n")
            async with anyio.create_task_group() as tasks:

                async def drip() -> None:
                    while True:
                        await connection.send(b"x")
                        await anyio.sleep(0.02)

                tasks.start_soon(drip)
                answer = await connection.receive()
                tasks.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_announces_too_much_is_413_before_it_is_sent(door: Door) -> None:
    answer = await door.send_raw(HEAD + b"Content-Length: 1001\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_in_chunks_that_grows_too_large_is_413_before_its_end(door: Door) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await door.send_raw(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_after_a_413_the_rest_of_the_body_is_not_read_as_the_next_request(door: Door) -> None:
    smuggled = b'POST /hooks/open HTTP/1.1\r\nHost: lhd\r\nContent-Length: 3\r\n\r\n"a"'
    body = b"x" * 1000 + smuggled
    head = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with anyio.fail_after(PATIENCE_S):
        async with await anyio.connect_tcp("127.0.0.1", door.port) as connection:
            await connection.send(head + body)
            received = b""
            try:
                while True:
                    received += await connection.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    assert received.count(b"HTTP/1.1 ") == 1
    assert await nothing_stored(door)


async def test_a_body_as_large_as_the_limit_is_taken(door: Door) -> None:
    body = json.dumps({"ref": "main", "pad": ""}).encode()
    body = body.replace(b'""', b'"' + b"x" * (1000 - len(body)) + b'"')
    assert len(body) == 1000
    assert verdict(await door.github(body)) == (202, "accepted")


async def test_a_body_that_ends_early_stores_nothing(door: Door) -> None:
    async with await anyio.connect_tcp("127.0.0.1", door.port) as connection:
        await connection.send(b'POST /hooks/open HTTP/1.1\r\nHost: lhd\r\nContent-Length: 10\r\n\r\n"a"')
    assert verdict(await door.send("POST", "/hooks/open", b'"b"')) == (202, "accepted")
    assert len(await rows(door, "ledger")) == 1


async def test_what_the_door_refused_is_counted_by_reason_and_kept_without_payload(door: Door) -> None:
    await door.github({"ref": "hunter2"}, x_hub_signature_256="sha256=" + "0" * 64)
    await door.github(b"hunter2", content_type="application/xml")
    await door.github(b"hunter2")
    await door.github(b"hunter2" * 200)
    assert len(door.refusals.counts) == 4
    assert all(source == "github" and count == 1 for (source, _), count in door.refusals.counts.items())
    assert [fact["status"] for fact in door.refusals.last] == [401, 415, 400, 413]
    assert "hunter2" not in str(door.refusals.last)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/none", 404), ("GET", "/hooks/github", 405)])
def test_unknown_paths_and_methods_are_counted_and_kept_too(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        assert daemon.request(method, path)[0] == status
        shown = json.loads(daemon.lhd("status", "--json").stdout)
        assert [fact["status"] for fact in shown["refused"]] == [status]
    finally:
        daemon.stop()


# Overload


async def test_while_the_daemon_is_overloaded_the_answer_is_503_with_retry_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SECRET", SECRET.decode())
    store = await Store.open(tmp_path / "data")
    engine = Engine(store, limits=Limits(inbox_commands_max=1))
    first: list[Answer] = []

    async with anyio.create_task_group() as tasks, open_door(engine, tmp_path, TOML) as door:

        async def send_first() -> None:
            first.append(await door.github({"zen": "x"}, x_github_event="ping"))

        async with anyio.create_task_group() as senders:
            # The engine does not run yet, so that the first delivery fills its inbox.
            senders.start_soon(send_first)
            with anyio.fail_after(PATIENCE_S):
                while not engine.overloaded:
                    await anyio.lowlevel.checkpoint()
            refused = await door.github({"zen": "x"}, x_github_event="ping")
            await tasks.start(engine.run)
        assert verdict(first[0]) == (202, "filtered")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json["reason"]
        assert [fact["status"] for fact in door.refusals.last] == [503]
        assert await rows(door, "ledger", "verdict") == [("filtered",)]
        assert verdict(await door.github({"zen": "x"}, x_github_event="ping")) == (202, "filtered")
        tasks.cancel_scope.cancel()
    await store.close()


# What a sender cannot do


async def test_a_query_parameter_called_like_a_header_does_not_change_the_header(door: Door) -> None:
    answer = await door.github({"ref": "main"}, path="/hooks/github?x-github-event=create", x_github_event="ping")
    assert verdict(answer) == (202, "filtered")


async def test_a_header_called_like_a_query_parameter_does_not_change_the_query(door: Door) -> None:
    answer = await door.send("POST", "/hooks/open?run=r", b'"x"', {"to": "query", "query": "query"})
    assert verdict(answer) == (202, "accepted")
    assert await rows(door, "external_event", "run") == [("text-run",)]


async def test_the_query_holds_the_first_value(door: Door) -> None:
    answer = await door.send("POST", "/hooks/open?to=query&run=first&run=second", b'"x"')
    assert verdict(answer) == (202, "accepted")
    assert await rows(door, "external_event", "run") == [("first",)]


async def test_repeated_headers_are_joined_by_a_comma(door: Door) -> None:
    body = json.dumps({"ref": "x"}).encode()
    fields = github_headers(body, x_github_event="from-header") | {"content-length": str(len(body)), "host": "lhd"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    await door.send_raw(f"POST /hooks/github HTTP/1.1\r\n{head}X-Key: a\r\nx-KEY: b\r\n\r\n".encode() + body)
    assert await rows(door, "correlated_event", "key") == [("a, b",)]


@pytest.mark.parametrize("event", ["create", "from-header", "content-from-header", "id-from-header"])
@pytest.mark.parametrize("header", ["x-key", "x-github-delivery", "content-type", "x-other"])
async def test_a_header_that_is_not_utf_8_is_never_answered_with_a_server_error(
    door: Door, event: str, header: str
) -> None:
    body = json.dumps({"ref": "x"}).encode()
    fields = github_headers(body, x_github_event=event) | {"content-length": str(len(body)), "host": "lhd"}
    fields.pop(header, None)
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    raw = f"POST /hooks/github HTTP/1.1\r\n{head}{header}: ".encode() + b"\xff\xfe\r\n\r\n" + body
    answer = await door.send_raw(raw)
    assert answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 5"), answer


@pytest.mark.parametrize("query", ["run=%ff", "run=%00", "run=%ed%a0%80", "run", "%ff=1", "run=" + "a" * 3000])
async def test_no_query_is_answered_with_a_server_error(door: Door, query: str) -> None:
    answer = await door.send_raw(
        f'POST /hooks/open?to=query&{query} HTTP/1.1\r\nHost: lhd\r\nContent-Length: 3\r\n\r\n"x"'.encode()
    )
    assert not answer.startswith(b"HTTP/1.1 5"), answer


@pytest.mark.parametrize("depth", [200, 300, 900, 1000, 1020])
async def test_no_depth_of_nesting_is_answered_with_a_server_error(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    monkeypatch.setenv("GITHUB_SECRET", SECRET.decode())
    toml = TOML.replace("body_bytes_max = 1000", "body_bytes_max = 10000")
    await ensure_events(engine, toml)
    async with open_door(engine, tmp_path, toml) as door:
        body = b'{"ref": "x", "deep": ' + b"[" * depth + b"]" * depth + b"}"
        for event in ("create", "macro"):
            answer = await door.github(body, x_github_event=event)
            assert answer.status in (202, 400, 422)


@pytest.mark.parametrize(
    "payload",
    [
        {"ref": "a\x00b"},
        {"ref": "x" * 900},
        {"ref": "x", "n": 2**64 - 1},
        {"ref": "x", "n": 1e308},
        {"ref": ""},
        {"ref": "\U0010ffff"},
        {"": {"": ""}, "ref": "x"},
    ],
)
async def test_no_json_value_is_answered_with_a_server_error(door: Door, payload: dict[str, Any]) -> None:
    answer = await door.github(payload)
    assert answer.status in (202, 422)


async def test_a_number_beyond_64_bits_is_never_answered_with_a_server_error(door: Door) -> None:
    answer = await door.github(b'{"run": "r", "value": 18446744073709551615}', x_github_event="approval")
    assert verdict(answer) == (422, "dead")


async def test_a_signature_is_of_the_bytes_that_were_sent_also_when_they_are_compressed(door: Door) -> None:
    packed = gzip.compress(b'{"ref": "packed"}')
    answer = await door.github(packed, content_encoding="gzip")
    assert answer.status != 401


async def test_a_signature_of_the_inflated_bytes_is_not_one_of_the_bytes_that_were_sent(door: Door) -> None:
    body = b'{"ref": "packed"}'
    signature = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    packed = gzip.compress(body)
    answer = await door.github(packed, content_encoding="gzip", x_hub_signature_256=signature)
    assert answer.status in (400, 401, 415)
    assert await nothing_stored(door)
