"""Whatever arrives: no scheme raises, and none believes a request of which the sender did not say what matters."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes.every import SENDERS, Sender
from tests.webhook.schemes.senders import NOW_S, client, matched

quickly = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=SENDERS, ids=str)
def sender(request: pytest.FixtureRequest) -> Sender:
    assert isinstance(request.param, Sender)
    return request.param


@pytest.fixture(scope="module")
def source(sender: Sender, tmp_path_factory: pytest.TempPathFactory) -> Webhook:
    return sender.open(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def run() -> Iterator[asyncio.Runner]:
    """What runs a coroutine; draws of hypothesis that end early must not end inside of one."""
    with asyncio.Runner() as runner:
        yield runner


noise = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.integers().map(str),
    st.integers(17, 5000).map(lambda digits: "9" * digits),
    st.sampled_from(
        ["", " ", ",", "=", ".", "é", "\udcff", "\0", "nan", "1e9", "-1", "9" * 5000, "v1,", "t=1", "Basic "]
    ),
)
more_names = ("x-hub-signature", "x-docusign-signature-3", "host", "x-forwarded-for")
names_of_headers = sorted({*more_names, *(name for one in SENDERS for name in one.send(one.key, NOW_S).headers)})


@st.composite
def changed_text(draw: st.DrawFn, text: str) -> str:
    """The text after one accident."""
    at, until = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    new = draw(noise)
    accidents = (
        text[:at],
        text[:at] + text[until:],
        text[:at] + new + text[at:],
        text[:at] + new + text[at + 1 :],
        text + new,
        f"{text}, {text}",
        f"{text}, {new}",
        f"{new}, {text}",
        f"{text} {text}",
        text.swapcase(),
        text[::-1],
        new,
    )
    return draw(st.sampled_from(accidents))


@st.composite
def changed_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    at, until = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
    new = draw(st.binary(max_size=20))
    flipped = bytes([raw[at] ^ 1 << draw(st.integers(0, 7))]) if at < len(raw) else b""
    accidents = (
        raw[:at],
        raw[:at] + raw[until:],
        raw[:at] + new + raw[at:],
        raw[:at] + flipped + raw[at + 1 :],
        raw + raw,
        new,
    )
    return draw(st.sampled_from(accidents))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of a JSON value: what holds it and its key."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


@st.composite
def changed_json(draw: st.DrawFn, raw: bytes) -> bytes:
    """The JSON with one member replaced, taken away or added; other bytes where it is none."""
    try:
        value = json.loads(raw)
    except ValueError:
        return draw(changed_bytes(raw))
    members = list(places(value))
    if not members:
        return json.dumps(draw(json_values)).encode()
    holder, key = draw(st.sampled_from(members))
    if draw(st.booleans()):
        holder[key] = draw(json_values)
    else:
        del holder[key]
    return json.dumps(value).encode()


@st.composite
def accidents(draw: st.DrawFn, genuine: Received) -> Received:
    """The request after a few accidents."""
    received = genuine
    for _ in range(draw(st.integers(1, 3))):
        headers = dict(received.headers)
        match draw(st.sampled_from(["change", "change", "drop", "add", "body", "json", "query", "certificate"])):
            case "change" if headers:
                name = draw(st.sampled_from(sorted(headers)))
                headers[name] = draw(changed_text(headers[name]))
            case "drop" if headers:
                del headers[draw(st.sampled_from(sorted(headers)))]
            case "add":
                headers[draw(st.sampled_from(names_of_headers))] = draw(
                    noise | st.sampled_from([*headers.values(), ""])
                )
            case "body":
                received = replace(received, body=draw(changed_bytes(received.body)))
            case "json":
                received = replace(received, body=draw(changed_json(received.body)))
            case "query":
                received = replace(received, query=draw(changed_text(received.query)))
            case "certificate":
                strange = [None, {}, {"subject": (), "subjectAltName": ()}, client("a", dns=("b",)).certificate]
                received = replace(received, certificate=draw(st.sampled_from(strange)))
        received = replace(received, headers=headers)
    return received


def decoded(received: Received) -> Any:
    try:
        return json.loads(received.body)
    except ValueError:
        return {}


@given(data=st.data())
@quickly
def test_what_an_accident_leaves_is_believed_only_where_it_says_the_same(
    source: Webhook, sender: Sender, run: asyncio.Runner, data: st.DataObject
) -> None:
    genuine = sender.send(sender.key, NOW_S)
    received = data.draw(accidents(genuine))
    name = run.run(matched(source, received))
    source.verifier.delivery_id(received.headers, decoded(received))
    if name is not None:
        assert sender.vouched(received) == sender.vouched(genuine)


random_requests = st.builds(
    Received,
    st.dictionaries(st.sampled_from(names_of_headers), noise, max_size=8),
    st.binary(max_size=60)
    | st.sampled_from([b"", b"{}", b"[]", b"null"])
    | json_values.map(lambda v: json.dumps(v).encode()),
    noise,
    st.sampled_from([None, {}]),
)


@given(received=random_requests, body=json_values)
@quickly
async def test_noise_is_never_believed(source: Webhook, sender: Sender, received: Received, body: Any) -> None:
    assert await matched(source, received) is None
    id_ = source.verifier.delivery_id(received.headers, body)
    assert id_ is None or isinstance(id_, str) or all(isinstance(one, str) for one in id_)


STRANGE_BODIES = [
    b"[" * 100_000,
    b'{"value": ' * 50_000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"NaN",
    b"1e400",
    b"9" * 10_000,
    b'{"MessageId": ' + b"9" * 10_000 + b"}",
    b'"\\ud800"',
    b'{"Type": "\\ud800", "Message": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"\0",
    b"&&&=&=&;",
    b"a=%ff&b=%",
    b"=" * 10_000,
    b"a&" * 10_000,
]


async def test_strange_bodies_are_not_believed(source: Webhook, sender: Sender) -> None:
    genuine = sender.send(sender.key, NOW_S)
    for body in STRANGE_BODIES:
        received = replace(genuine, body=body)
        try:
            said = sender.vouched(received)
        except (ValueError, LookupError, TypeError, RecursionError):
            said = None
        is_believed = await matched(source, received) is not None
        assert not is_believed or said == sender.vouched(genuine), body[:40]


async def test_strange_text_in_any_header_is_not_believed(source: Webhook, sender: Sender) -> None:
    genuine = sender.send(sender.key, NOW_S)
    strange = [
        "",
        " ",
        "\0",
        "é",
        "\udcff",
        "\uff19\uff19",
        "9" * 5000,
        "," * 5000,
        " " * 5000,
        "v1," * 5000,
        "a" * 100_000,
    ]
    for name in genuine.headers:
        for text in strange:
            received = replace(genuine, headers={**genuine.headers, name: text})
            if await matched(source, received) is not None:
                assert sender.vouched(received) == sender.vouched(genuine), (name, text[:40])
