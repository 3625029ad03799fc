"""What bodies become: media types, forms, files, compression, CloudEvents, arrays of notifications, credentials."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from lhd.engine import Engine
from tests.webhook.door import Answer, Door
from tests.webhook.schemes.senders import FORM, JSON, KEY, mac
from tests.webhook.seen import ONE_SECRET, SECRET_ENV, open_sources, seen, source
from tests.webhook.test_source import nothing_stored, rows, verdict
from tests.webhook.wire import Reply, chunk, connected, exchange, head, whole

LIMIT = 1000
OCTETS = "application/octet-stream"
NONE = 'scheme = "none"'
GITHUB = f'scheme = "github", {ONE_SECRET}'
FILE = "{'filename': body.f.filename, 'type': body.f.content_type, 'size': size(body.f.content), 'rest': body.rest}"
IN_HEADERS = ("authorization", "cookie", "x-gitlab-token")
HELD = "{'header': 'x-api-key' in headers, 'query': 'access_token' in query, 'others': 'x-other' in headers}"
HEADERS = "{" + ", ".join(f"'{name}': '{name}' in headers" for name in (*IN_HEADERS, "x-other")) + "}"
DATA = "body.data"
BY_DATA = {"key": "body.data.key", "see": DATA}

SOURCES = [
    source("in", NONE, f"body_bytes_max = {LIMIT}"),
    source("large", see="1"),
    source("files", NONE, "multipart = true", f"body_bytes_max = {LIMIT}"),
    source("file", NONE, "multipart = true", see=FILE),
    source("bytes", NONE, "multipart = true", see="body.f.content"),
    source("second-file", NONE, "multipart = true", see="body.f[1].filename + ':' + string(body.f[1].content)"),
    source("packed", GITHUB, f"body_bytes_max = {LIMIT}", 'decompress = ["gzip", "zstd"]'),
    source("gzip-only", GITHUB, 'decompress = ["gzip"]'),
    source("unpacked", GITHUB),
    source("events", NONE, "cloudevents = true"),
    source("events-data", NONE, "cloudevents = true", see=DATA),
    source("events-by-data", NONE, "cloudevents = true", **BY_DATA),
    source("graph", f'scheme = "microsoft-graph", {ONE_SECRET}', key="body.id", see="body.changeType"),
    source("gitlab", f'scheme = "gitlab", {ONE_SECRET}', see=HEADERS),
    source("headers", see=HEADERS),
    source("api-key", f'scheme = "bearer", header = "X-Api-Key", prefix = "", {ONE_SECRET}', see=HELD),
    source("access-token", f'scheme = "bearer", query = true, {ONE_SECRET}', see=HELD),
    source("token-at-none", see=HELD),
    source("dying", key="body.nothing"),
]


@pytest.fixture
async def door(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setenv(SECRET_ENV, KEY)
    async with open_sources(engine, tmp_path, *SOURCES) as door:
        yield door


async def send(door: Door, name: str, body: bytes, content_type: str | None = None, **headers: str) -> Reply:
    """A body of this media type, or of none; headers with ``_`` for ``-``. There has to be an answer."""
    fields = {} if content_type is None else {"content-type": content_type}
    fields |= {header.replace("_", "-"): value for header, value in headers.items()}
    reply = await exchange(door.port, whole(f"/hooks/{name}", body, fields))
    assert reply is not None
    assert reply.status < 500
    return reply


async def taken(door: Door, name: str, body: bytes, content_type: str | None = None, **headers: str) -> Any:
    """What routes see of it; it has to be accepted."""
    reply = await send(door, name, body, content_type, **headers)
    assert (reply.status, reply.json.get("verdict")) == (202, "accepted"), reply
    return await seen(door)


async def assert_refused(door: Door, reply: Reply, status: int) -> None:
    assert reply.status == status, reply
    assert set(reply.json) == {"reason"}
    assert await nothing_stored(door)


# Media types


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        (None, b'{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        ("application/json", b'"gr\xc3\xbc\xc3\x9fe"', "grüße"),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("application/json;charset=UTF-8", b"{}", {}),
        ("Application/JSON ; a=b; charset=utf-8", b"{}", {}),
        ("application/vnd.github.v3+json", b"{}", {}),
        ("application/problem+json; charset=utf-8", b"{}", {}),
        ("application/json", b" \r\n\t{}\n", {}),
        ("application/x-www-form-urlencoded; charset=utf-8", b"a=1", {"a": "1"}),
        ("text/plain", b"gr\xc3\xbc\xc3\x9fe", "grüße"),
        ("text/plain; charset=utf-8", b'{"a": 1}', '{"a": 1}'),
        ("text/csv; header=present", b"a,b\r\n", "a,b\r\n"),
        ("text/xml", b"<a/>", "<a/>"),
        (OCTETS, b"\xff\x00{}", b"\xff\x00{}"),
        (f"{OCTETS}; a=b", b"\x80", b"\x80"),
    ],
)
async def test_a_body_is_what_its_media_type_says(
    door: Door, content_type: str | None, body: bytes, value: Any
) -> None:
    assert await taken(door, "in", body, content_type) == value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/xml",
        "image/png",
        "application/jsonp",
        "application/json-seq",
        "application/octet-streams",
        "multipart/form-data; boundary=b",
        "multipart/mixed; boundary=b",
        "application/json, text/plain",
        "json",
        "text",
        "/",
    ],
)
async def test_any_other_media_type_is_415(door: Door, content_type: str) -> None:
    await assert_refused(door, await send(door, "in", b"{}", content_type), 415)


@pytest.mark.parametrize("framing", ["whole", "in chunks", "in bytes"])
async def test_a_body_is_the_same_however_it_is_cut(door: Door, framing: str) -> None:
    body = b'{"a": "' + b"x" * 100 + b'"}'
    requests = {
        "whole": [whole("/hooks/in", body, JSON)],
        "in chunks": [
            head("/hooks/in", {**JSON, "transfer-encoding": "chunked"}),
            *(chunk(body[start : start + 7]) for start in range(0, len(body), 7)),
            chunk(b""),
        ],
        "in bytes": [bytes([byte]) for byte in whole("/hooks/in", body, JSON)],
    }
    async with connected(door.port) as wire:
        assert await wire.send(*requests[framing])
        reply = await wire.reply()
    assert reply is not None
    assert reply.status == 202
    assert await seen(door) == json.loads(body)


async def test_a_sender_that_waits_to_be_asked_for_its_body_is_asked(door: Door) -> None:
    async with connected(door.port) as wire:
        await wire.send(head("/hooks/in", {**JSON, "content-length": "2", "expect": "100-continue"}))
        invited = await wire.reply()
        assert invited is not None
        assert invited.status == 100
        await wire.send(b"{}")
        reply = await wire.reply()
    assert reply is not None
    assert reply.status == 202


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": {"b": 1}, "a": {"c": 2}}', {"a": {"c": 2}}),
        (b'{"a": 1, "\\u0061": 2}', {"a": 2}),
    ],
)
async def test_of_duplicate_names_the_last_counts(door: Door, body: bytes, value: Any) -> None:
    assert await taken(door, "in", body, "application/json") == value


@pytest.mark.parametrize(
    "body",
    [
        *[b"NaN", b"Infinity", b"-Infinity", b'{"a": NaN}', b"[1, -Infinity]", b"nan"],
        *[b"", b" ", b"{", b"{}x", b"{} {}", b"[1,]", b"{'a': 1}", b"// a\n1", b"01", b"+1", b".5", b"0x1", b"tru"],
        *[b'"\xff"', b'{"\xff": 1}', b"\xef\xbb\xbf{}x", b'"a\nb"', b'"\\x"', b"\x00", b"\xff\xfe{\x00}\x00"],
    ],
)
async def test_what_is_not_json_is_400(door: Door, body: bytes) -> None:
    await assert_refused(door, await send(door, "in", body, "application/json"), 400)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
@pytest.mark.parametrize(
    ("depth", "is_taken"), [(200, True), (1000, True), (1025, False), (1026, False), (5000, False)]
)
async def test_nesting_is_taken_to_1000_levels_and_is_400_beyond(
    door: Door, opening: str, closing: str, depth: int, is_taken: bool
) -> None:
    levels = opening.count("[") + opening.count("{")
    pairs, rest = divmod(depth, levels)
    body = "[" * rest + opening * pairs + "0" + closing * pairs + "]" * rest
    reply = await send(door, "large", body.encode(), "application/json")
    if is_taken:
        assert reply.status == 202, reply
    else:
        await assert_refused(door, reply, 400)


# Forms


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"a=1&b=x+y&c=%C3%A9&d=%2B", {"a": "1", "b": "x y", "c": "é", "d": "+"}),
        (b"a=1&a=2&b=3&a=1", {"a": ["1", "2", "1"], "b": "3"}),
        (b"a=&b=&b=", {"a": "", "b": ["", ""]}),
        (b"a=1=2", {"a": "1=2"}),
        (b"%61=1&a=2", {"a": ["1", "2"]}),
        (b"gr\xc3\xbc=\xc3\x9fe", {"grü": "ße"}),
        (b"payload=%7B%22a%22%3A1%7D", {"payload": '{"a":1}'}),
        (b"a=1;b=2", {"a": "1;b=2"}),
    ],
)
async def test_a_form_becomes_its_fields_and_repeated_ones_become_lists(door: Door, body: bytes, value: Any) -> None:
    assert await taken(door, "in", body, FORM["content-type"]) == value


@pytest.mark.parametrize("body", [b"a=\xff", b"\xff=a", b"a=%ff", b"%ff=a", b"a=%ed%a0%80", b"a=%c3"])
async def test_a_form_that_is_not_utf_8_is_400(door: Door, body: bytes) -> None:
    await assert_refused(door, await send(door, "in", body, FORM["content-type"]), 400)


@pytest.mark.parametrize("body", [b"a=1&" * 100_000, b"&".join(b"%d=" % number for number in range(100_000))])
async def test_a_form_of_too_many_fields_is_400(door: Door, body: bytes) -> None:
    await assert_refused(door, await send(door, "large", body, FORM["content-type"]), 400)


# Files

BOUNDARY = "-----b"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, *, filename: str | None = None, content_type: str | None = None) -> bytes:
    of_file = f'; filename="{filename}"' if filename is not None else ""
    of_type = f"\r\nContent-Type: {content_type}" if content_type is not None else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{of_file}{of_type}\r\n\r\n'.encode() + content


def multipart(*parts: bytes) -> bytes:
    return b"".join(one + b"\r\n" for one in parts) + f"--{BOUNDARY}--\r\n".encode()


async def test_the_fields_of_multipart_are_those_of_a_form(door: Door) -> None:
    body = multipart(part("a", "grüße".encode()), part("b", b"1"), part("b", b""), part("c", b"x\r\ny"))
    assert await taken(door, "files", body, MULTIPART) == {"a": "grüße", "b": ["1", ""], "c": "x\r\ny"}


@pytest.mark.parametrize("content", [b"\xff\x00\r\n--b\r\n", b"", b"x" * 100_000], ids=["binary", "empty", "large"])
async def test_a_file_has_its_name_its_type_and_its_bytes(door: Door, content: bytes) -> None:
    body = multipart(part("rest", b"x"), part("f", content, filename="a b.png", content_type="image/png"))
    facts = {"filename": "a b.png", "type": "image/png", "size": len(content), "rest": "x"}
    assert await taken(door, "file", body, MULTIPART) == facts


async def test_the_bytes_of_a_file_are_as_they_were_sent(door: Door) -> None:
    content = bytes(range(256)) * 10 + b"\r\n--" + BOUNDARY[:-1].encode()
    assert await taken(door, "bytes", multipart(part("f", content, filename="a")), MULTIPART) == content


async def test_repeated_files_become_a_list(door: Door) -> None:
    body = multipart(part("f", b"1", filename="first"), part("f", b"2", filename="second"))
    assert await taken(door, "second-file", body, MULTIPART) == "second:2"


async def test_what_a_client_library_makes_of_files_is_understood(door: Door) -> None:
    form = aiohttp.FormData({"rest": "grüße"})
    form.add_field("f", b"\xff" * 10, filename="grün.bin", content_type=OCTETS)
    answer = await door.send("POST", "/hooks/file", form)
    assert verdict(answer) == (202, "accepted")
    found = await seen(door)
    assert (found["type"], found["size"], found["rest"]) == (OCTETS, 10, "grüße")


WHOLE_FORM = multipart(part("a", b"1"), part("f", b"2", filename="f"))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", WHOLE_FORM, id="no boundary"),
        pytest.param("multipart/form-data; boundary=", WHOLE_FORM, id="an empty boundary"),
        pytest.param("multipart/form-data; boundary=other", WHOLE_FORM, id="another boundary"),
        pytest.param(f"multipart/form-data; boundary={'b' * 5000}", WHOLE_FORM, id="a long boundary"),
        pytest.param(MULTIPART, b"", id="nothing"),
        pytest.param(MULTIPART, b"a=1", id="another kind of form"),
        pytest.param(MULTIPART, WHOLE_FORM[: -len("--\r\n")], id="no end"),
        pytest.param(MULTIPART, WHOLE_FORM[: len(WHOLE_FORM) // 2], id="cut"),
        pytest.param(MULTIPART, part("a", b"1"), id="a part without an end"),
        pytest.param(MULTIPART, multipart(f"--{BOUNDARY}\r\n\r\n1".encode()), id="a part without a head"),
        pytest.param(
            MULTIPART,
            multipart(f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\n1".encode()),
            id="a part without a name",
        ),
        pytest.param(MULTIPART, multipart(part("a", b"\xff")), id="a field that is not UTF-8"),
        pytest.param(MULTIPART, multipart(f"--{BOUNDARY}\r\n{'x: y' * 50}".encode()), id="a head without an end"),
    ],
)
async def test_malformed_multipart_is_400(door: Door, content_type: str, body: bytes) -> None:
    await assert_refused(door, await send(door, "files", body, content_type), 400)


async def test_multipart_of_too_many_parts_is_400(door: Door) -> None:
    body = multipart(*(part(str(number), b"") for number in range(5000)))
    await assert_refused(door, await send(door, "file", body, MULTIPART), 400)


@pytest.mark.parametrize("content_type", ["multipart/mixed", "multipart/related"])
async def test_other_kinds_of_multipart_are_415_also_where_files_are_taken(door: Door, content_type: str) -> None:
    await assert_refused(door, await send(door, "files", WHOLE_FORM, f"{content_type}; boundary={BOUNDARY}"), 415)


# Compression

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}
BODY = b'{"a": "' + b"x" * 300 + b'"}'

each_coding = pytest.mark.parametrize("coding", PACKERS)


async def signed(door: Door, name: str, wire_body: bytes, coding: str, *, over: bytes | None = None) -> Reply:
    """A body in this coding, signed over its bytes, or over others."""
    signature = "sha256=" + mac(KEY, wire_body if over is None else over).hex()
    fields = {"content_encoding": coding, "x_hub_signature_256": signature}
    return await send(door, name, wire_body, "application/json", **fields)


@each_coding
async def test_a_compressed_body_is_inflated(door: Door, coding: str) -> None:
    assert (await signed(door, "packed", PACKERS[coding](BODY), coding)).status == 202
    assert await seen(door) == json.loads(BODY)


@pytest.mark.parametrize("coding", ["GZIP", "Gzip"])
async def test_the_case_of_a_content_coding_does_not_matter(door: Door, coding: str) -> None:
    assert (await signed(door, "packed", gzip.compress(BODY), coding)).status == 202


@each_coding
async def test_a_signature_is_over_the_bytes_on_the_wire_and_not_over_what_they_hold(door: Door, coding: str) -> None:
    await assert_refused(door, await signed(door, "packed", PACKERS[coding](BODY), coding, over=BODY), 401)


@each_coding
async def test_a_body_is_verified_before_it_is_inflated(door: Door, coding: str) -> None:
    await assert_refused(door, await signed(door, "packed", b"not packed", coding, over=b""), 401)


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        *[("unpacked", coding) for coding in PACKERS],
        ("gzip-only", "zstd"),
        *[("packed", coding) for coding in ("br", "deflate", "compress", "gzip, gzip", "gzip, zstd", "gzip;q=1", "x")],
    ],
)
async def test_a_coding_that_was_not_asked_for_is_415(door: Door, name: str, coding: str) -> None:
    wire_body = PACKERS.get(coding, gzip.compress)(BODY)
    await assert_refused(door, await signed(door, name, wire_body, coding), 415)


def with_a_bit_turned(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 0x10]) + packed[middle + 1 :]


WAYS_TO_SPOIL: dict[str, Callable[[bytes], bytes]] = {
    "one byte short": lambda packed: packed[:-1],
    "cut in the middle": lambda packed: packed[: len(packed) // 2],
    "only its beginning": lambda packed: packed[:5],
    "nothing": lambda packed: b"",
    "garbage behind it": lambda packed: packed + b"garbage",
    "half of another one behind it": lambda packed: packed + packed[: len(packed) // 2],
    "a bit turned": with_a_bit_turned,
    "not packed": lambda packed: BODY,
}


@each_coding
@pytest.mark.parametrize("way", WAYS_TO_SPOIL)
async def test_a_stream_that_is_not_whole_is_400(door: Door, coding: str, way: str) -> None:
    pack = (
        (lambda body: zstandard.ZstdCompressor(write_checksum=True).compress(body))
        if coding == "zstd"
        else gzip.compress
    )
    await assert_refused(door, await signed(door, "packed", WAYS_TO_SPOIL[way](pack(BODY)), coding), 400)


async def test_a_checksum_of_gzip_that_is_wrong_is_400(door: Door) -> None:
    packed = gzip.compress(BODY)
    await assert_refused(door, await signed(door, "packed", packed[:-8] + b"\0\0\0\0" + packed[-4:], "gzip"), 400)


async def test_a_stream_of_zlib_is_not_gzip(door: Door) -> None:
    await assert_refused(door, await signed(door, "packed", zlib.compress(BODY), "gzip"), 400)


@each_coding
async def test_concatenated_members_are_one_body(door: Door, coding: str) -> None:
    # RFC 1952, section 2.2, and RFC 8878, section 3
    pack = PACKERS[coding]
    assert (await signed(door, "packed", pack(BODY[:50]) + pack(b"") + pack(BODY[50:]), coding)).status == 202
    assert await seen(door) == json.loads(BODY)


def of_size(size: int) -> bytes:
    return b'"' + b"x" * (size - 2) + b'"'


INFLATING: dict[str, Callable[[bytes], bytes]] = {
    **PACKERS,
    "zstd of unknown size": lambda body: zstandard.ZstdCompressor(write_content_size=False).compress(body),
    "gzip in two members": lambda body: gzip.compress(body[:500]) + gzip.compress(body[500:]),
}


@pytest.mark.parametrize("packer", INFLATING)
async def test_a_body_may_inflate_to_the_limit_and_is_413_beyond(door: Door, packer: str) -> None:
    coding, pack = packer[:4], INFLATING[packer]
    for size in (LIMIT + 1, 100 * LIMIT):
        await assert_refused(door, await signed(door, "packed", pack(of_size(size)), coding), 413)
    assert (await signed(door, "packed", pack(of_size(LIMIT)), coding)).status == 202


# CloudEvents

MODES: dict[str, Callable[[CloudEvent], HTTPMessage]] = {
    "structured": to_structured_event,
    "binary": to_binary_event,
    "batch": lambda event: batch(json.loads(to_structured_event(event).body)),
}
BATCH = "application/cloudevents-batch+json"
each_mode = pytest.mark.parametrize("mode", MODES)


def batch(*events: Any) -> HTTPMessage:
    return HTTPMessage({"content-type": BATCH}, json.dumps(events).encode())


def event_of(data: Any = None, **attributes: Any) -> CloudEvent:
    # The example of section 2.3.1 of the CloudEvents event format for JSON, 1.0.2, with an extension
    given = {
        "specversion": "1.0",
        "type": "com.example.someevent",
        "source": "/mycontext",
        "id": "A234-1234-1234",
        "time": datetime(2018, 4, 5, 17, 31, tzinfo=UTC),
        "subject": 'Euro € 😀 "%"',
        "datacontenttype": "application/json",
        "comexampleextension1": "value",
        **attributes,
    }
    return CloudEvent({name: value for name, value in given.items() if value is not None}, data)


async def post(door: Door, name: str, message: HTTPMessage) -> Reply:
    reply = await exchange(door.port, whole(f"/hooks/{name}", message.body, message.headers))
    assert reply is not None
    return reply


def verdicts(answer: Answer | Reply) -> tuple[int, list[str]]:
    """The status, and the verdict of each event."""
    receipts = answer.json.get("events", [answer.json])
    assert all(set(receipt) == {"verdict", "id", "reason"} for receipt in receipts)
    return answer.status, [receipt["verdict"] for receipt in receipts]


@each_mode
@pytest.mark.parametrize(
    ("datacontenttype", "data"),
    [
        ("application/json", {"appinfoA": "abc", "n": [1, None]}),
        ("application/vnd.example+json", {"a": 1}),
        ("text/plain", "grüße"),
        (None, {"a": 1}),
        (None, None),
    ],
)
async def test_in_every_mode_routes_see_the_structured_form_of_a_cloudevent(
    door: Door, mode: str, datacontenttype: str | None, data: Any
) -> None:
    event = event_of(data, datacontenttype=datacontenttype)
    assert verdicts(await post(door, "events", MODES[mode](event))) == (202, ["accepted"])
    assert await seen(door) == json.loads(to_structured_event(event).body)


@each_mode
async def test_in_every_mode_binary_data_of_a_cloudevent_are_bytes(door: Door, mode: str) -> None:
    event = event_of(b"\xff\x00", datacontenttype=OCTETS)
    assert verdicts(await post(door, "events-data", MODES[mode](event))) == (202, ["accepted"])
    assert await seen(door) == b"\xff\x00"


@pytest.mark.parametrize("content_type", ["application/cloudevents+json", BATCH])
async def test_the_media_types_of_cloudevents_have_parameters_and_any_case(door: Door, content_type: str) -> None:
    event = json.loads(to_structured_event(event_of({"a": 1})).body)
    body = json.dumps([event] if content_type == BATCH else event).encode()
    reply = await send(door, "events", body, content_type.upper() + "; charset=utf-8")
    assert reply.status == 202
    assert await seen(door) == event


async def test_where_cloudevents_are_off_they_are_json_like_any_other(door: Door) -> None:
    event = json.loads(to_structured_event(event_of({"a": 1})).body)
    assert await taken(door, "in", json.dumps([event]).encode(), BATCH) == [event]
    binary = to_binary_event(event_of({"a": 1}))
    assert verdicts(await post(door, "in", binary)) == (202, ["accepted"])
    assert await rows(door, "ledger", "verdict") == [("accepted",)] * 2


@each_mode
async def test_the_identity_of_a_cloudevent_is_its_source_and_its_id(door: Door, mode: str) -> None:
    made = MODES[mode]
    events = [event_of({"n": 1}), event_of({"n": 1}), event_of({"n": 2}), event_of({"n": 1}, id="other")]
    events.append(event_of({"n": 1}, source="/other"))
    answers = [verdicts(await post(door, "events", made(event))) for event in events]
    assert answers == [
        (202, ["accepted"]),
        (200, ["duplicate"]),
        (409, ["conflict"]),
        (202, ["accepted"]),
        (202, ["accepted"]),
    ]


@each_mode
@pytest.mark.parametrize("again", MODES)
async def test_a_cloudevent_that_comes_again_in_whatever_mode_is_a_duplicate(door: Door, mode: str, again: str) -> None:
    event = event_of({"n": 1})
    assert verdicts(await post(door, "events", MODES[mode](event))) == (202, ["accepted"])
    assert verdicts(await post(door, "events", MODES[again](event))) == (200, ["duplicate"])


def given(**attributes: Any) -> dict[str, Any]:
    """An event in JSON; attributes that are None are left out."""
    event = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "data": {"key": "k"}, **attributes}
    return {name: value for name, value in event.items() if value is not None}


NO_TEXTS: tuple[Any, ...] = (5, True, [], {})
MALFORMED_EVENTS: list[Any] = [
    *[given(**{name: None}) for name in ("specversion", "type", "source", "id")],
    *[given(**{name: ""}) for name in ("specversion", "type", "source", "id")],
    *[given(**{name: 5}) for name in ("specversion", "type", "source", "id")],
    *[given(id=value) for value in NO_TEXTS],
    *[given(specversion=version) for version in ("0.3", "2.0", "1", 1.0)],
    *[given(data=None, data_base64=value) for value in ("!!!", "AA", *NO_TEXTS)],
    *[[], "text", 5, None, {}, [given()]],
]


@pytest.mark.parametrize("event", MALFORMED_EVENTS, ids=json.dumps)
async def test_a_malformed_cloudevent_is_400_alone_and_in_a_batch_and_stores_nothing(door: Door, event: Any) -> None:
    alone = await send(door, "events", json.dumps(event).encode(), "application/cloudevents+json")
    await assert_refused(door, alone, 400)
    good = given(id="good")
    for events in ([good, event], [event, good]):
        in_a_batch = await send(door, "events", batch(*events).body, BATCH)
        await assert_refused(door, in_a_batch, 400)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b"\xff", json.dumps(given()).encode()])
async def test_a_batch_that_is_no_array_is_400(door: Door, body: bytes) -> None:
    await assert_refused(door, await send(door, "events", body, BATCH), 400)


@pytest.mark.parametrize(
    "changes",
    [
        *[{name: None} for name in ("ce_id", "ce_type", "ce_source")],
        *[{name: ""} for name in ("ce_id", "ce_type", "ce_source", "ce_specversion")],
        *[{"ce_specversion": version} for version in ("0.3", "2.0", "1")],
    ],
    ids=str,
)
async def test_a_malformed_binary_cloudevent_is_400_and_stores_nothing(
    door: Door, changes: dict[str, str | None]
) -> None:
    headers = {"ce_id": "1", "ce_type": "t", "ce_source": "/s", "ce_specversion": "1.0", **changes}
    fields = {name: value for name, value in headers.items() if value is not None}
    await assert_refused(door, await send(door, "events", b"{}", "application/json", **fields), 400)


@pytest.mark.parametrize(("body", "content_type"), [(b"{", "application/json"), (b"\xff", "text/plain")])
async def test_data_of_a_binary_cloudevent_that_are_not_what_they_should_be_are_400(
    door: Door, body: bytes, content_type: str
) -> None:
    fields = {"ce_id": "1", "ce_type": "t", "ce_source": "/s", "ce_specversion": "1.0"}
    await assert_refused(door, await send(door, "events", body, content_type, **fields), 400)


# Several events


def keyed(event_id: str, key: str | None = None) -> dict[str, Any]:
    """An event with a key, or one that no route can map."""
    return given(id=event_id, data={"key": key or event_id})


NEW, OTHER_NEW = keyed("new"), keyed("other")
KNOWN, OTHER = keyed("known"), keyed("known", "changed")
DYING = given(id="dying", data={})


@pytest.mark.parametrize(
    ("events", "status", "expected"),
    [
        ([NEW, OTHER_NEW], 202, ["accepted", "accepted"]),
        ([KNOWN, NEW], 202, ["duplicate", "accepted"]),
        ([KNOWN, KNOWN], 200, ["duplicate", "duplicate"]),
        ([KNOWN], 200, ["duplicate"]),
        ([NEW, NEW], 202, ["accepted", "duplicate"]),
        ([NEW, OTHER, KNOWN], 409, ["accepted", "conflict", "duplicate"]),
        ([OTHER, DYING, NEW, KNOWN], 422, ["conflict", "dead", "accepted", "duplicate"]),
        ([DYING, NEW], 422, ["dead", "accepted"]),
    ],
)
async def test_the_status_of_several_events_is_the_worst_of_theirs_and_each_has_its_receipt(
    door: Door, events: list[dict[str, Any]], status: int, expected: list[str]
) -> None:
    await post(door, "events-by-data", batch(KNOWN))
    answer = await post(door, "events-by-data", batch(*events))
    assert verdicts(answer) == (status, expected)
    if len(events) > 1:
        assert set(answer.json) == {"events"}
    keys = {key for (key,) in await rows(door, "correlated_event", "key")}
    assert keys == {"known"} | {event["id"] for event, said in zip(events, expected, strict=True) if said == "accepted"}


async def test_an_event_among_others_is_the_same_delivery_as_in_another_batch(door: Door) -> None:
    first = await post(door, "events-by-data", batch(KNOWN, NEW))
    second = await post(door, "events-by-data", batch(OTHER_NEW, NEW))
    assert verdicts(second) == (202, ["accepted", "duplicate"])
    assert second.json["events"][1]["id"] == first.json["events"][1]["id"]


async def test_a_batch_of_nothing_is_no_event(door: Door) -> None:
    reply = await send(door, "events", b"[]", BATCH)
    assert reply.status < 500
    assert await nothing_stored(door)


# Notifications of Microsoft Graph


def notifications(*states: Any, ids: str = "abcdef", **members: Any) -> bytes:
    """One notification for each client state; the first id is for the first of them."""
    kept = [
        {"id": one, "subscriptionId": "s", "changeType": "created", "clientState": state}
        for one, state in zip(ids, states, strict=False)
    ]
    return json.dumps({"value": kept, **members}).encode()


async def test_each_notification_of_microsoft_graph_is_an_event_of_its_own(door: Door) -> None:
    first = await door.send("POST", "/hooks/graph", notifications(KEY, KEY, ids="ab"), JSON)
    assert verdicts(first) == (202, ["accepted"] * 2)
    again = await door.send("POST", "/hooks/graph", notifications(KEY, KEY, KEY, ids="bca"), JSON)
    assert verdicts(again) == (202, ["duplicate", "accepted", "duplicate"])
    assert again.json["events"][0]["id"] == first.json["events"][1]["id"]
    assert [await seen(door, key) for key in "abc"] == ["created"] * 3


@pytest.mark.parametrize(
    "body",
    [
        *[notifications(KEY, state, KEY) for state in ("wrong", "", None, 5, [KEY], KEY[:-1])],
        *[notifications(state) for state in ("wrong", None)],
        notifications(),
        b'{"value": {}}',
        b'{"value": "x"}',
        b'{"value": [5]}',
        b'{"value": null}',
        b"{}",
        b"[]",
        json.dumps({"clientState": KEY}).encode(),
        json.dumps({"value": [{"clientState": KEY}, {}]}).encode(),
    ],
)
async def test_one_notification_that_is_not_genuine_refuses_all_of_them(door: Door, body: bytes) -> None:
    reply = await send(door, "graph", body, "application/json")
    assert reply.status in (400, 401)
    await assert_refused(door, reply, reply.status)


# Credentials


@pytest.mark.parametrize("credential", IN_HEADERS)
@pytest.mark.parametrize("name", ["headers", "gitlab"])
async def test_routes_see_no_credentials_among_the_headers(door: Door, name: str, credential: str) -> None:
    headers = {**JSON, "x-other": "x", "x-gitlab-token": KEY, credential: KEY}
    if name == "headers" and credential != "x-gitlab-token":
        del headers["x-gitlab-token"]
    assert verdict(await door.send("POST", f"/hooks/{name}", b"{}", headers)) == (202, "accepted")
    assert await seen(door) == {**dict.fromkeys(IN_HEADERS, False), "x-other": True}


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("api-key", {"x-api-key": KEY}),
        ("api-key?access_token=x", {"X-API-KEY": KEY}),
        (f"access-token?access_token={KEY.replace(' ', '%20')}", {}),
        (f"access-token?a=1&access_token={KEY.replace(' ', '+')}&b=2", {}),
        ("token-at-none?access_token=x", {}),
    ],
)
async def test_routes_see_no_bearer_token_in_whatever_place_it_is_sent(
    door: Door, target: str, headers: dict[str, str]
) -> None:
    answer = await door.send("POST", f"/hooks/{target}", b"{}", {**JSON, "x-other": "x", **headers})
    assert verdict(answer) == (202, "accepted")
    assert await seen(door) == {"header": False, "query": False, "others": True}


@pytest.mark.parametrize("place", [*IN_HEADERS, "query"])
@pytest.mark.parametrize(("name", "status"), [("dying", 422), ("headers", 202)])
async def test_a_credential_is_kept_nowhere(door: Door, name: str, status: int, place: str, tmp_path: Path) -> None:
    secret = "c2VjcmV0LW9mLWEtc2VuZGVy"
    headers = {**JSON, "x-other": "kept-in-the-headers", **({place: secret} if place in IN_HEADERS else {})}
    query = f"access_token={secret}" if place == "query" else ""
    assert (await door.send("POST", f"/hooks/{name}?{query}", b"{}", headers)).status == status
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert secret.encode() not in stored
    assert (b"kept-in-the-headers" in stored) is (status == 422)
