"""Nine defects that were found in other receivers of webhooks; none of them is here."""

import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from lhd.engine import Engine
from lhd_webhook.schemes import Received
from tests.e2e.process import Daemon
from tests.webhook.door import Answer, Door
from tests.webhook.schemes import senders
from tests.webhook.schemes.senders import JSON, KEY, PUBLIC_URL, TOKEN, WHSEC, base64_of, mac
from tests.webhook.seen import ONE_SECRET, SECRET_ENV, open_sources, seen, source
from tests.webhook.test_source import nothing_stored, rows, verdict
from tests.webhook.wire import chunk, connected, exchange, head, whole

LIMIT = 100
ACCEPTED = (202, "accepted")
BY_HEADER = 'scheme = "none", id_header = "X-Delivery"'
WRONG_SIGNATURE = "sha256=" + "0" * 64
NEVER = "body_timeout_s = 60"
"""No test waits as long as this source waits for a body."""


def now_s() -> int:
    return int(time.time())


@asynccontextmanager
async def door_of(engine: Engine, folder: Path, *sources: str, secret: str = KEY) -> AsyncIterator[Door]:
    """The door of sources that share a secret."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SECRET_ENV, secret)
        async with open_sources(engine, folder, *sources) as door:
            yield door


async def deliver(door: Door, name: str, received: Received, **changes: str) -> Answer:
    """Send what a sender made to a source; changes are headers with ``_`` for ``-``."""
    headers = {**received.headers, **{header.replace("_", "-"): value for header, value in changes.items()}}
    path = f"/hooks/{name}?{received.query}" if received.query else f"/hooks/{name}"
    return await door.send("POST", path, received.body, headers)


# 1

SCHEMES = {
    "none": ('scheme = "none"', {}),
    "basic": (f'scheme = "basic", user = "Aladdin", {ONE_SECRET}', dict(senders.basic().headers)),
    "unsigned": (f'scheme = "github", {ONE_SECRET}', {"x-hub-signature-256": WRONG_SIGNATURE}),
}


@pytest.mark.parametrize("verify", SCHEMES)
@pytest.mark.parametrize("framing", ["chunked", "content-length"])
async def test_defect_1_a_body_beyond_the_limit_is_neither_read_to_its_end_nor_cut(
    verify: str, framing: str, engine: Engine, tmp_path: Path
) -> None:
    """To find a delivery's identity, bodies were read whole before verification, and later cut without a word."""
    scheme, headers = SCHEMES[verify]
    body = b'"' + b"x" * (LIMIT - 2) + b'"'
    by_body = source("in", scheme, f"body_bytes_max = {LIMIT}", NEVER, 'identity = "body"')
    async with door_of(engine, tmp_path, by_body) as door:
        too_large = body + b" "
        if framing == "chunked":
            request = head("/hooks/in", {**JSON, **headers, "transfer-encoding": "chunked"}) + chunk(too_large)
        else:
            request = head("/hooks/in", {**JSON, **headers, "content-length": str(len(too_large))})
        reply = await exchange(door.port, request)
        assert reply is not None
        assert reply.status == 413
        assert await nothing_stored(door)
        if verify != "unsigned":
            assert verdict(await door.send("POST", "/hooks/in", body, {**JSON, **headers})) == ACCEPTED
            assert await seen(door) == "x" * (LIMIT - 2)


# 2


def cloud_event(event_source: str, event_id: str) -> tuple[bytes, dict[str, str]]:
    event = {"specversion": "1.0", "type": "t", "source": event_source, "id": event_id}
    return json.dumps(event).encode(), {"content-type": "application/cloudevents+json"}


def envelope(event: str, envelope_id: str) -> tuple[bytes, dict[str, str]]:
    body = {"event": event, "generatedDateTime": "2026-01-31T10:00:00Z", "data": {"envelopeId": envelope_id}}
    received = senders.docusign(body=json.dumps(body).encode())
    return received.body, dict(received.headers)


def by_id(delivery: str) -> tuple[bytes, dict[str, str]]:
    return b"{}", {**JSON, "x-delivery": delivery}


TWO_PARTS = {
    "source and delivery": [("ab", by_id("c")), ("a", by_id("bc"))],
    "source and id of an event": [("events", cloud_event("ab", "c")), ("events", cloud_event("a", "bc"))],
    "event and envelope": [("docusign", envelope("ab", "c")), ("docusign", envelope("a", "bc"))],
}


@pytest.mark.parametrize("parts", TWO_PARTS)
async def test_defect_2_the_parts_of_an_identity_do_not_run_into_one_another(
    parts: str, engine: Engine, tmp_path: Path
) -> None:
    """The parts of an identity were joined without saying where one ends."""
    sources = [
        source("ab", BY_HEADER),
        source("a", BY_HEADER),
        source("events", 'scheme = "none"', "cloudevents = true"),
        source("docusign", f'scheme = "docusign", {ONE_SECRET}'),
    ]
    async with door_of(engine, tmp_path, *sources) as door:
        answers = [
            await door.send("POST", f"/hooks/{name}", body, headers) for name, (body, headers) in TWO_PARTS[parts]
        ]
    assert [verdict(answer) for answer in answers] == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("verify", [BY_HEADER, 'scheme = "none"'])
async def test_defect_2_of_two_equal_deliveries_at_once_one_becomes_an_event_and_both_are_answered_with_2xx(
    verify: str, engine: Engine, tmp_path: Path
) -> None:
    """Whether a delivery is known was asked first and noted later, so that both of two equal ones passed."""
    rounds = 20
    async with door_of(engine, tmp_path, source("in", verify)) as door:
        for number in range(rounds):
            answers: list[tuple[int, str]] = []

            async def send(number: int = number, answers: list[tuple[int, str]] = answers) -> None:
                body = json.dumps({"n": number}).encode()
                sent = await door.send("POST", "/hooks/in", body, {**JSON, "x-delivery": f"d{number}"})
                answers.append(verdict(sent))

            async with anyio.create_task_group() as both:
                both.start_soon(send)
                both.start_soon(send)
            assert sorted(answers) == [(200, "duplicate"), ACCEPTED]
        assert await rows(door, "ledger", "verdict") == [("accepted",)] * rounds
        assert len(await rows(door, "correlated_event")) + len(await rows(door, "queued_event")) == rounds


# 3

CHALLENGE = '{"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
SLACK = source("slack", f'scheme = "slack", {ONE_SECRET}')


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"x_slack_signature": ""}, id="no signature"),
        pytest.param({"x_slack_signature": "v0=" + "0" * 64}, id="wrong signature"),
        pytest.param({"x_slack_request_timestamp": "1531420618"}, id="old"),
    ],
)
async def test_defect_3_a_challenge_that_is_not_signed_is_not_echoed(
    changes: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    """Whatever held a challenge was answered with it before the signature was looked at."""
    async with door_of(engine, tmp_path, SLACK) as door:
        answer = await deliver(door, "slack", senders.slack(sent_s=now_s(), body=CHALLENGE), **changes)
        assert (answer.status, set(answer.json)) == (401, {"reason"})
        assert await nothing_stored(door)


@pytest.mark.parametrize("kind", ["event_callback", "", None])
async def test_defect_3_a_genuine_event_that_holds_a_challenge_is_an_event(
    kind: str | None, engine: Engine, tmp_path: Path
) -> None:
    """A genuine event with a member of that name was taken for a handshake and lost."""
    event = {"type": kind, "event_id": "Ev9", "challenge": "accepted"}
    async with door_of(engine, tmp_path, SLACK) as door:
        answer = await deliver(door, "slack", senders.slack(sent_s=now_s(), body=json.dumps(event)))
        assert verdict(answer) == ACCEPTED
        assert await seen(door) == event


@pytest.mark.parametrize(
    "template",
    ["t={t},v1={good},v1={bad}", "t={t},v1={bad},v1={good}", "t={t},v1={bad},v1={good},v1={bad}", "v1={good},t={t}"],
)
async def test_defect_3_any_of_several_signatures_of_stripe_counts(
    template: str, engine: Engine, tmp_path: Path
) -> None:
    """Of several signatures only the last one was tried, so that a new secret broke deliveries."""
    received = senders.stripe_event(sent_s=now_s())
    stamp, _, good = received.headers["stripe-signature"].partition(",v1=")
    header = template.format(t=stamp.removeprefix("t="), good=good, bad="0" * 64)
    async with door_of(engine, tmp_path, source("stripe", f'scheme = "stripe", {ONE_SECRET}')) as door:
        assert verdict(await deliver(door, "stripe", received, stripe_signature=header)) == ACCEPTED


# 4


@pytest.mark.parametrize("header", [None, "", "t={t}", "v1={good}", "t={t},v0={good}", "t={t},v1=", "t=,v1={good}"])
async def test_defect_4_an_event_of_stripe_without_its_signature_is_401(
    header: str | None, engine: Engine, tmp_path: Path
) -> None:
    """Events of Stripe were not verified at all."""
    received = senders.stripe_event(sent_s=now_s())
    stamp, _, good = received.headers["stripe-signature"].partition(",v1=")
    async with door_of(engine, tmp_path, source("stripe", f'scheme = "stripe", {ONE_SECRET}')) as door:
        if header is None:
            answer = await door.send("POST", "/hooks/stripe", received.body, JSON)
        else:
            header = header.format(t=stamp.removeprefix("t="), good=good)
            answer = await deliver(door, "stripe", received, stripe_signature=header)
        assert answer.status == 401
        assert await nothing_stored(door)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_defect_4_both_versions_of_sns_are_verified_by_a_certificate_that_is_fetched_once(version: str) -> None:
    """Version 2 failed, and the certificate was fetched for each message."""
    fetched = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return await senders.fetch_certificate(url)

    sns = senders.reaching(senders.webhook({"scheme": "sns", "topics": [senders.TOPIC]}), fetch)
    for number in range(3):
        message = senders.sns(SignatureVersion=version, MessageId=f"m{number}")
        assert await senders.matched(sns, message) is not None
    assert fetched == [senders.CERTIFICATE_URL]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"TopicArn": "arn:aws:sns:us-east-1:999999999999:orders"}, id="another topic"),
        pytest.param({"SigningCertURL": "https://sns.us-east-1.amazonaws.com.evil.example/a.pem"}, id="another host"),
        pytest.param({"SigningCertURL": "http://sns.us-east-1.amazonaws.com/a.pem"}, id="no tls"),
    ],
)
async def test_defect_4_a_topic_or_a_certificate_from_elsewhere_is_refused_and_not_fetched(
    members: dict[str, Any],
) -> None:
    """The topic was not compared, and what a message named was fetched and believed."""
    fetched = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return senders.sns_certificate()

    sns = senders.reaching(senders.webhook({"scheme": "sns", "topics": [senders.TOPIC]}), fetch)
    assert await senders.cannot_be_verified(sns, senders.sns(**members))
    assert set(fetched) <= {senders.CERTIFICATE_URL}


async def test_defect_4_the_answer_to_a_challenge_of_slack_is_the_challenge_and_nothing_more(
    engine: Engine, tmp_path: Path
) -> None:
    """After the challenge a second answer was written."""
    received = senders.slack(sent_s=now_s(), body=CHALLENGE)
    challenge = json.loads(CHALLENGE)["challenge"]
    async with door_of(engine, tmp_path, SLACK) as door, connected(door.port) as wire:
        await wire.send(whole("/hooks/slack", received.body, {**received.headers, "connection": "close"}))
        (reply,) = await wire.replies()
        assert reply.status == 200
        assert reply.body == challenge.encode() or reply.json == {"challenge": challenge}
        assert await nothing_stored(door)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "Application/X-WWW-Form-Urlencoded ; charset=utf-8",
    ],
)
async def test_defect_4_a_form_is_known_as_one_whatever_the_parameters_of_its_type(
    content_type: str, engine: Engine, tmp_path: Path
) -> None:
    """With a parameter behind its media type a form was read as JSON."""
    async with door_of(engine, tmp_path, source("in")) as door:
        answer = await door.send("POST", "/hooks/in", b"a=1&b=%7B%7D", {"content-type": content_type})
        assert verdict(answer) == ACCEPTED
        assert await seen(door) == {"a": "1", "b": "{}"}


async def test_defect_4_senders_that_stall_do_not_hold_up_another_one_of_their_source(
    engine: Engine, tmp_path: Path
) -> None:
    """All senders of a route waited for one another."""
    async with door_of(engine, tmp_path, source("in", 'scheme = "none"', NEVER)) as door, AsyncExitStack() as stack:
        for _ in range(20):
            wire = await stack.enter_async_context(connected(door.port))
            await wire.send(head("/hooks/in", {**JSON, "content-length": "2"}) + b"{")
        assert verdict(await door.send("POST", "/hooks/in", b"{}", JSON)) == ACCEPTED


async def test_defect_4_a_delivery_that_waits_for_its_run_does_not_hold_up_another_one_of_its_source(
    engine: Engine, tmp_path: Path
) -> None:
    """All senders of a route waited for one another."""
    waiting = source("in", when="body.wait") + 'ack = "matched"\nack_timeout_s = 300\n'
    async with door_of(engine, tmp_path, waiting) as door, connected(door.port) as wire:
        await wire.send(whole("/hooks/in", b'{"wait": true}', JSON))
        with anyio.fail_after(10):
            while not await rows(door, "ledger"):  # noqa: ASYNC110 - the fact is in the database
                await anyio.sleep(0.01)
        assert verdict(await door.send("POST", "/hooks/in", b'{"wait": false}', JSON)) == (202, "filtered")


# 5

FACTS = "{'event': headers['x-github-event'], 'remote': meta.remote, 'source': meta.source, 'query': 'run' in query}"


@pytest.mark.parametrize(
    ("query", "headers", "body"),
    [
        pytest.param("x-github-event=push", {}, {}, id="query for a header"),
        pytest.param("X-Github-Event=push", {}, {}, id="query for a header, as it is written"),
        pytest.param("headers=push&headers%5Bx-github-event%5D=push&headers.x-github-event=push", {}, {}, id="names"),
        pytest.param("remote=10.0.0.1&meta.remote=10.0.0.1&http_server_remote_ip=10.0.0.1", {}, {}, id="address"),
        pytest.param("source=other&meta=other&body=other", {}, {}, id="query for the source"),
        pytest.param("", {"remote": "10.0.0.1", "meta": "x", "source": "other"}, {}, id="headers for facts"),
        pytest.param("", {"x-real-ip": "10.0.0.1", "forwarded": "for=10.0.0.1"}, {}, id="headers of proxies"),
        pytest.param("", {"x-forwarded-for": "10.0.0.1"}, {}, id="a header that no proxy set"),
        pytest.param("", {"x_github_event": "push"}, {}, id="a header that looks alike"),
        pytest.param("", {"query": "x", "run": "x"}, {}, id="headers for the query"),
        pytest.param("", {"cookie": "x-github-event=push; remote=10.0.0.1; run=x"}, {}, id="cookies"),
        pytest.param("", {}, {"headers": {"x-github-event": "push"}, "meta": {"remote": "10.0.0.1"}}, id="body"),
    ],
)
async def test_defect_5_no_part_of_a_request_can_pass_for_another_one(
    query: str, headers: dict[str, str], body: Any, engine: Engine, tmp_path: Path
) -> None:
    """Headers, query and cookies shared one map, so that a query overwrote the truth."""
    async with door_of(engine, tmp_path, source("in", see=FACTS)) as door:
        sent = {**JSON, "x-github-event": "create", **headers}
        answer = await door.send("POST", f"/hooks/in?{query}", json.dumps(body).encode(), sent)
        assert verdict(answer) == ACCEPTED
        assert await seen(door) == {"event": "create", "remote": "127.0.0.1", "source": "in", "query": False}


# 6


@pytest.mark.parametrize(
    ("allowed", "peer", "status"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2::1", 202),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:1", 202),
        ("2001:db8:1:2::1", "2001:db8:1:2::2", 401),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 401),
        ("2001:db8:1:2::1", "2001:db8::", 401),
        ("2001:db8:1:2::1", "2001:db8:ffff::1", 401),
        ("192.0.2.1", "192.0.2.1", 202),
        ("192.0.2.1", "192.0.2.2", 401),
        ("192.0.2.1", "192.0.3.1", 401),
        ("::1", "127.0.0.1", 401),
        ("0.0.0.1", "::1", 401),
    ],
)
async def test_defect_6_a_single_address_allows_itself_and_no_other(
    allowed: str, peer: str, status: int, engine: Engine, tmp_path: Path
) -> None:
    """One IPv6 address in the list allowed 2**96 of them."""
    only = source("in", 'scheme = "none"', f'allow = ["{allowed}"]', "trusted_proxies = 1")
    async with door_of(engine, tmp_path, only) as door:
        answer = await door.send("POST", "/hooks/in", b"{}", {**JSON, "x-forwarded-for": peer})
        assert answer.status == status
        assert await nothing_stored(door) is (status == 401)


# 7

STANDARD = f'scheme = "standard-webhooks", {ONE_SECRET}'


@pytest.mark.parametrize(
    "template",
    ["v1 {}", "v1, {}", "junk {}", "v1,abc {}", "v1,!!! {}", "v1a,abc {}", "v2,x {}", ", {}", "{} junk", "  {}  "],
)
async def test_defect_7_a_good_signature_counts_whatever_stands_beside_it(
    template: str, engine: Engine, tmp_path: Path
) -> None:
    """A malformed signature ended the verification with an exception, and the good one behind it was lost."""
    received = senders.standard_webhooks(sent_s=now_s())
    header = template.format(received.headers["webhook-signature"])
    async with door_of(engine, tmp_path, source("in", STANDARD), secret=WHSEC) as door:
        assert verdict(await deliver(door, "in", received, webhook_signature=header)) == ACCEPTED


@pytest.mark.parametrize(
    "template",
    ["", "v1", "v1,", "v1,abc", "v1,!!!", "v1,é", "v1a,abc", "junk", "{0}", "v1,{0}!", "v1,{1}!{2}", "v1 {0}"],
)
async def test_defect_7_no_malformed_signature_is_verified_or_answered_with_a_server_error(
    template: str, engine: Engine, tmp_path: Path
) -> None:
    """A signature without a comma, or in loose base64, raised an exception or was decoded all the same."""
    received = senders.standard_webhooks(sent_s=now_s())
    good = received.headers["webhook-signature"].removeprefix("v1,")
    header = template.format(good, good[:8], good[8:])
    async with door_of(engine, tmp_path, source("in", STANDARD), secret=WHSEC) as door:
        assert (await deliver(door, "in", received, webhook_signature=header)).status == 401
        assert await nothing_stored(door)


@pytest.mark.parametrize(
    ("content_type", "status"), [("application/json", 400), ("text/plain", 400), ("application/octet-stream", 202)]
)
async def test_defect_7_a_signed_body_need_not_be_utf_8_to_be_verified(
    content_type: str, status: int, engine: Engine, tmp_path: Path
) -> None:
    """A body that is not UTF-8 raised an exception."""
    body, sent_s = b"\xff\xfe", now_s()
    key = base64.b64decode(WHSEC.removeprefix("whsec_"))
    signature = "v1," + base64_of(mac(key, f"msg_1.{sent_s}.".encode() + body))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(sent_s), "content-type": content_type}
    async with door_of(engine, tmp_path, source("in", STANDARD), secret=WHSEC) as door:
        unsigned = await door.send("POST", "/hooks/in", body, {**headers, "webhook-signature": "v1,abc"})
        signed = await door.send("POST", "/hooks/in", body, {**headers, "webhook-signature": signature})
        assert (unsigned.status, signed.status) == (401, status)


async def test_defect_7_several_secrets_and_public_keys_are_taken(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was one secret, and no asymmetric signature."""
    monkeypatch.setenv("SECOND", senders.OTHER_WHSEC)
    monkeypatch.setenv("THIRD", senders.whpk(senders.ED25519))
    several = STANDARD.replace("}]", '}, { env = "SECOND" }, { env = "THIRD" }]')
    sent = [
        senders.standard_webhooks(WHSEC, now_s(), msg_id="m1"),
        senders.standard_webhooks(senders.OTHER_WHSEC, now_s(), msg_id="m2"),
        senders.asymmetric(sent_s=now_s()),
    ]
    async with door_of(engine, tmp_path, source("in", several), secret=WHSEC) as door:
        assert [verdict(await deliver(door, "in", received)) for received in sent] == [ACCEPTED] * 3


@pytest.mark.parametrize(
    ("verify", "secret"),
    [
        pytest.param(STANDARD, f"v1,{WHSEC}", id="7: a secret with a signature's prefix"),
        pytest.param(
            f'scheme = "twilio", public_url = "https://hooks.example.com:99999/x", {ONE_SECRET}',
            KEY,
            id="8: a port that cannot be",
        ),
    ],
)
def test_defect_7_and_8_what_cannot_be_right_is_a_finding_before_any_delivery(
    verify: str, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that was pasted with a prefix became another secret, and an impossible port raised an exception."""
    monkeypatch.setenv(SECRET_ENV, secret)
    daemon = Daemon(tmp_path)
    with daemon.config.open("a") as config:
        config.write(source("in", verify).partition("\n[[sources.in.routes]]")[0])
    result = daemon.lhd("check")
    assert result.returncode == 1
    assert f"{daemon.config}:" in result.stderr
    assert "sources.in" in result.stderr
    assert secret not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


# 8


@pytest.mark.parametrize(
    "changes",
    [
        *[{"x_slack_request_timestamp": text} for text in ("abc", "", "1e9", "nan", "\uff19", "9" * 400)],
        *[{"x_slack_signature": text} for text in ("v0=é", "v0=", "v0", "", "é", "v0=" + "0" * 63 + "é")],
    ],
    ids=str,
)
async def test_defect_8_no_malformed_header_of_slack_is_more_than_401(
    changes: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    """A timestamp that is no number, or a signature beyond ASCII, raised an exception."""
    async with door_of(engine, tmp_path, SLACK) as door:
        assert (await deliver(door, "slack", senders.slack(sent_s=now_s()), **changes)).status == 401
        assert await nothing_stored(door)


async def test_defect_8_a_body_of_slack_that_is_not_utf_8_is_verified_first_and_then_400(
    engine: Engine, tmp_path: Path
) -> None:
    """A body that is not UTF-8 raised an exception."""
    body, sent_s = b"\xff", now_s()
    signature = "v0=" + mac(KEY, f"v0:{sent_s}:".encode() + body).hex()
    headers = {**JSON, "x-slack-request-timestamp": str(sent_s)}
    async with door_of(engine, tmp_path, SLACK) as door:
        unsigned = await door.send("POST", "/hooks/slack", body, {**headers, "x-slack-signature": "v0=" + "0" * 64})
        signed = await door.send("POST", "/hooks/slack", body, {**headers, "x-slack-signature": signature})
        assert (unsigned.status, signed.status) == (401, 400)
        assert await nothing_stored(door)


TWILIO = source("twilio", f'scheme = "twilio", public_url = "{PUBLIC_URL}", {ONE_SECRET}')


@pytest.mark.parametrize(
    "query", ["", "bodySHA256=", "bodySHA256=abc", "bodySHA256=é", "bodysha256={hash}", "a={hash}"]
)
async def test_defect_8_json_of_twilio_without_the_hash_of_its_body_is_401(
    query: str, engine: Engine, tmp_path: Path
) -> None:
    """JSON without the hash of its body raised an exception."""
    body, validator = '{"a": 1}', RequestValidator(KEY)
    query = query.format(hash=validator.compute_hash(body))
    signature = validator.compute_signature(f"{PUBLIC_URL}?{query}" if query else PUBLIC_URL, {})
    received = Received({**JSON, "x-twilio-signature": signature}, body.encode(), query)
    async with door_of(engine, tmp_path, TWILIO) as door:
        assert (await deliver(door, "twilio", received)).status == 401
        assert await nothing_stored(door)


@pytest.mark.parametrize("host", ["hooks.example.com:99999", "hooks.example.com:abc", "[", "evil.example"])
async def test_defect_8_whatever_host_a_request_names_the_configured_url_counts(
    host: str, engine: Engine, tmp_path: Path
) -> None:
    """A port that cannot be raised an exception."""
    received = senders.twilio_form()
    headers = {**received.headers, "host": host, "x-forwarded-host": host}
    async with door_of(engine, tmp_path, TWILIO) as door:
        reply = await exchange(door.port, whole(f"/hooks/twilio?{received.query}", received.body, headers))
        assert reply is not None
        assert reply.status in (202, 400)


# 9

NOT_READ = [
    source("github", f'scheme = "github", {ONE_SECRET}', NEVER),
    source("basic", f'scheme = "basic", user = "Aladdin", {ONE_SECRET}', NEVER),
    source("bearer", f'scheme = "bearer", {ONE_SECRET}', NEVER),
    source("gitlab", f'scheme = "gitlab", {ONE_SECRET}', NEVER),
    source("elsewhere", 'scheme = "none"', 'allow = ["192.0.2.1"]', NEVER),
    source("limited", 'scheme = "none"', "rate = { per_s = 0.001, burst = 1 }", NEVER),
    source("open", 'scheme = "none"', f"body_bytes_max = {LIMIT}", NEVER),
]


@pytest.mark.parametrize("expect", [{}, {"expect": "100-continue"}], ids=["", "expecting"])
@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        pytest.param("github", {}, 401, id="no signature"),
        pytest.param("basic", {}, 401, id="no password"),
        pytest.param("basic", dict(senders.basic("wrong").headers), 401, id="wrong password"),
        pytest.param("bearer", {}, 401, id="no token"),
        pytest.param("bearer", {"authorization": f"Bearer {TOKEN}x"}, 401, id="wrong token"),
        pytest.param("gitlab", {}, 401, id="no token of GitLab"),
        pytest.param("gitlab", {"x-gitlab-token": "wrong"}, 401, id="wrong token of GitLab"),
        pytest.param("elsewhere", {}, 401, id="address"),
        pytest.param("nowhere", {}, 404, id="unknown path"),
        pytest.param("limited", {}, 429, id="rate"),
        pytest.param("open", {"content-length": str(LIMIT + 1)}, 413, id="content-length"),
        pytest.param("open", {"content-length": str(10**30)}, 413, id="a very large content-length"),
    ],
)
async def test_defect_9_what_can_be_refused_by_its_head_is_refused_before_a_body_is_read(
    name: str, headers: dict[str, str], status: int, expect: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    """Up to 100 MiB were read before anybody asked for credentials."""
    async with door_of(engine, tmp_path, *NOT_READ) as door:
        if name == "limited":
            assert verdict(await door.send("POST", "/hooks/limited", b"{}", JSON)) == ACCEPTED
        before = Counter(await rows(door, "ledger"))
        reply = await exchange(
            door.port, head(f"/hooks/{name}", {"content-length": str(LIMIT), **JSON, **headers, **expect})
        )
        assert reply is not None
        assert reply.status == status
        assert Counter(await rows(door, "ledger")) == before
