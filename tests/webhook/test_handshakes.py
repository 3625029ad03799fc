"""Handshakes: what is answered, and that none is an echo, an oracle, a way to elsewhere, or an event."""

import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from lhd.engine import Engine
from tests.webhook.door import Door
from tests.webhook.schemes import senders
from tests.webhook.schemes.senders import JSON, KEY, mac
from tests.webhook.seen import ONE_SECRET, SECRET_ENV, open_sources, seen, source
from tests.webhook.test_source import nothing_stored, verdict
from tests.webhook.wire import Reply, exchange, whole

CHALLENGE = "1158201444"
VERIFY_TOKEN = "meatyhamhock"
META = f'scheme = "meta", {ONE_SECRET}, verify_token = {{ env = "VERIFY_TOKEN" }}'
GRAPH = f'scheme = "microsoft-graph", {ONE_SECRET}'
ELSEWHERE = 'allow = ["192.0.2.1"]'

SOURCES = [
    source("slack", f'scheme = "slack", {ONE_SECRET}'),
    source("meta", META),
    source("meta-elsewhere", META, ELSEWHERE),
    source("graph", GRAPH),
    source("graph-elsewhere", GRAPH, ELSEWHERE),
    source("graph-limited", GRAPH, "rate = { per_s = 0.001, burst = 1 }"),
    source("github", f'scheme = "github", {ONE_SECRET}'),
    source("hmac", f'scheme = "hmac", header = "X-Signature", {ONE_SECRET}'),
    source("none"),
    source("events", 'scheme = "none"', "cloudevents = true"),
    source("events-verified", f'scheme = "bearer", {ONE_SECRET}', "cloudevents = true"),
    source("events-limited", 'scheme = "none"', "cloudevents = true", "rate = { per_s = 2, burst = 10 }"),
    source("events-elsewhere", 'scheme = "none"', "cloudevents = true", ELSEWHERE),
]


@pytest.fixture
async def door(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setenv(SECRET_ENV, KEY)
    monkeypatch.setenv("VERIFY_TOKEN", VERIFY_TOKEN)
    async with open_sources(engine, tmp_path, *SOURCES) as door:
        yield door
        assert "5" not in {str(fact["status"])[0] for fact in door.refusals.last}


async def ask(door: Door, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
    """A request and its answer; there has to be one."""
    reply = await exchange(door.port, whole(f"/hooks/{target}", body, headers, method=method))
    assert reply is not None
    assert reply.status < 500
    return reply


async def assert_refused(door: Door, reply: Reply, *echoes: str) -> None:
    """The answer is a refusal that gives nothing back, and nothing is stored."""
    assert 400 <= reply.status < 500
    assert set(reply.json) == {"reason"}
    for echo in echoes:
        assert echo.encode() not in reply.body
        assert echo not in str(reply.headers)
    assert await nothing_stored(door)


# Slack


async def slack(door: Door, message: object, *, key: str = KEY, sent_s: int | None = None) -> Reply:
    received = senders.slack(key, sent_s or int(time.time()), json.dumps(message))
    return await ask(door, "POST", "slack", dict(received.headers), received.body)


async def test_a_signed_challenge_of_slack_is_answered_and_is_no_event(door: Door) -> None:
    for _ in range(2):
        reply = await slack(door, {"type": "url_verification", "token": "x", "challenge": CHALLENGE})
        assert reply.status == 200
        assert reply.body == CHALLENGE.encode() or reply.json == {"challenge": CHALLENGE}
    assert await nothing_stored(door)


@pytest.mark.parametrize(("key", "age_s"), [("another", 0), (KEY, 301), (KEY, -310)])
async def test_a_challenge_of_slack_by_a_stranger_or_at_another_time_is_401(door: Door, key: str, age_s: int) -> None:
    message = {"type": "url_verification", "challenge": CHALLENGE}
    reply = await slack(door, message, key=key, sent_s=int(time.time()) - age_s)
    assert reply.status == 401
    await assert_refused(door, reply, CHALLENGE)


async def test_a_challenge_of_slack_without_a_signature_is_401(door: Door) -> None:
    body = json.dumps({"type": "url_verification", "challenge": CHALLENGE}).encode()
    reply = await ask(door, "POST", "slack", JSON, body)
    assert reply.status == 401
    await assert_refused(door, reply, CHALLENGE)


@pytest.mark.parametrize("challenge", [{}, {"challenge": None}, {"challenge": 5}, {"challenge": ["<x>"]}])
async def test_a_signed_challenge_that_is_no_text_is_answered_without_a_server_error(
    door: Door, challenge: dict[str, object]
) -> None:
    reply = await slack(door, {"type": "url_verification", **challenge})
    assert not reply.headers["content-type"].startswith("text/html")


async def test_no_browser_runs_the_challenge_of_slack(door: Door) -> None:
    reply = await slack(door, {"type": "url_verification", "challenge": "<script>alert(1)</script>"})
    assert_no_browser_runs(reply)


def assert_no_browser_runs(reply: Reply) -> None:
    """If it is an answer at all, then in a type that is shown and not run, which no browser guesses anew."""
    assert reply.headers["content-type"].partition(";")[0] in ("text/plain", "application/json")
    if reply.status < 400:
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["github", "hmac", "meta", "none"])
async def test_a_challenge_of_slack_at_another_source_is_no_handshake(door: Door, name: str) -> None:
    body = json.dumps({"type": "url_verification", "challenge": CHALLENGE}).encode()
    signature = mac(KEY, body).hex()
    headers = {**JSON, "x-hub-signature-256": f"sha256={signature}", "x-signature": signature}
    reply = await ask(door, "POST", name, headers, body)
    assert (reply.status, reply.json["verdict"]) == (202, "accepted")
    assert CHALLENGE.encode() not in reply.body


# Meta


def subscribe(token: str = VERIFY_TOKEN, *, mode: str = "subscribe", challenge: str = CHALLENGE) -> str:
    # The example of https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    return f"hub.mode={mode}&hub.challenge={quote(challenge)}&hub.verify_token={token}"


async def test_meta_gets_its_challenge_for_the_right_token(door: Door) -> None:
    reply = await ask(door, "GET", f"meta?{subscribe()}")
    assert (reply.status, reply.body) == (200, CHALLENGE.encode())
    assert reply.headers["content-type"].startswith("text/plain")
    assert await nothing_stored(door)


@pytest.mark.parametrize(
    "query",
    [
        subscribe("wrong"),
        subscribe(""),
        subscribe(VERIFY_TOKEN[:-1]),
        subscribe(VERIFY_TOKEN + "x"),
        subscribe(VERIFY_TOKEN.upper()),
        subscribe("%ff"),
        subscribe("%00"),
        subscribe(quote("é")),
        subscribe(mode="unsubscribe"),
        subscribe(mode=""),
        f"hub.challenge={CHALLENGE}",
        f"hub.mode=subscribe&hub.challenge={CHALLENGE}",
        f"hub.challenge={CHALLENGE}&hub.verify_token={VERIFY_TOKEN}",
        f"hub.mode=subscribe&hub.challenge={CHALLENGE}&verify_token={VERIFY_TOKEN}",
        f"hub_mode=subscribe&hub_challenge={CHALLENGE}&hub_verify_token={VERIFY_TOKEN}",
    ],
)
async def test_without_the_right_token_meta_gets_a_401_that_always_says_the_same(door: Door, query: str) -> None:
    reply, other = await ask(door, "GET", f"meta?{query}"), await ask(door, "GET", "meta")
    assert (reply.status, reply.body) == (401, other.body)
    await assert_refused(door, reply, CHALLENGE, VERIFY_TOKEN)


@pytest.mark.parametrize("challenge", ["<script>alert(1)</script>", "a\r\nX-Injected: 1", "\x00", "x" * 3000, ""])
async def test_whatever_challenge_meta_sends_no_browser_runs_it(door: Door, challenge: str) -> None:
    reply = await ask(door, "GET", f"meta?{subscribe(challenge=challenge)}", {"accept": "text/html"})
    assert_no_browser_runs(reply)
    assert "x-injected" not in reply.headers


async def test_the_token_of_meta_does_not_stand_for_a_signature(door: Door) -> None:
    reply = await ask(door, "POST", f"meta?{subscribe()}", JSON, b"{}")
    assert reply.status == 401
    await assert_refused(door, reply, CHALLENGE)


@pytest.mark.parametrize("name", ["github", "slack", "graph", "none", "events"])
@pytest.mark.parametrize("query", [subscribe(), f"validationToken={CHALLENGE}", f"challenge={CHALLENGE}"])
async def test_a_source_of_another_scheme_answers_no_get(door: Door, name: str, query: str) -> None:
    reply = await ask(door, "GET", f"{name}?{query}")
    assert reply.status == 405
    assert "GET" not in reply.headers["allow"]
    await assert_refused(door, reply, CHALLENGE)


async def test_allow_names_get_where_meta_sends(door: Door) -> None:
    reply = await ask(door, "DELETE", "meta")
    assert reply.status == 405
    assert {method.strip() for method in reply.headers["allow"].split(",")} >= {"GET", "POST"}


# Microsoft Graph


@pytest.mark.parametrize(
    "token", ["Validation: Testing client application", "ab+c/=?&", "grüße", "<script>alert(1)</script>"]
)
@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain; charset=utf-8"}, {"content-type": "text/html"}])
async def test_microsoft_graph_gets_its_token_as_plain_text(door: Door, token: str, headers: dict[str, str]) -> None:
    reply = await ask(
        door, "POST", f"graph?validationToken={quote(token, safe='')}", {"accept": "text/html", **headers}
    )
    assert (reply.status, reply.body.decode()) == (200, token)
    assert reply.headers["content-type"].partition(";")[0] == "text/plain"
    assert_no_browser_runs(reply)
    assert await nothing_stored(door)


@pytest.mark.parametrize("token", ["", "a%0d%0aX-Injected: 1", "%00", "%1b[31m", "%7f", "%ff", "x" * 7000], ids=str)
async def test_a_token_that_microsoft_graph_would_not_send_is_not_given_back(door: Door, token: str) -> None:
    reply = await ask(door, "POST", f"graph?validationToken={token.replace(' ', '%20')}")
    await assert_refused(door, reply, "x" * 100)
    assert "x-injected" not in reply.headers


@pytest.mark.parametrize("body", [b"{}", b" ", b'{"value": []}', b"validationToken=other"])
async def test_a_token_beside_a_body_is_not_given_back(door: Door, body: bytes) -> None:
    reply = await ask(door, "POST", "graph?validationToken=thetoken", JSON, body)
    assert reply.status in (400, 401)
    await assert_refused(door, reply, "thetoken")


async def test_a_token_beside_genuine_notifications_changes_nothing(door: Door) -> None:
    received = senders.microsoft_graph(KEY)
    reply = await ask(door, "POST", "graph?validationToken=thetoken", dict(received.headers), received.body)
    assert reply.status == 202
    assert b"thetoken" not in reply.body
    assert (await seen(door))["changeType"] == "created"


@pytest.mark.parametrize("name", ["github", "slack", "meta", "hmac", "events-verified"])
async def test_a_validation_token_at_another_source_is_not_verified(door: Door, name: str) -> None:
    reply = await ask(door, "POST", f"{name}?validationToken=thetoken")
    assert reply.status == 401
    await assert_refused(door, reply, "thetoken")


async def test_handshakes_are_charged_like_any_request(door: Door) -> None:
    target = "graph-limited?validationToken=thetoken"
    first, second = await ask(door, "POST", target), await ask(door, "POST", target)
    assert (first.status, second.status) == (200, 429)
    assert int(second.headers["retry-after"]) >= 1
    await assert_refused(door, second, "thetoken")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", f"meta-elsewhere?{subscribe()}"),
        ("POST", "graph-elsewhere?validationToken=thetoken"),
        ("OPTIONS", "events-elsewhere"),
    ],
)
async def test_a_handshake_from_an_address_that_is_not_allowed_is_401(door: Door, method: str, target: str) -> None:
    reply = await ask(door, method, target, {"webhook-request-origin": "eventemitter.example.com"})
    assert reply.status == 401
    assert not any(name.startswith("webhook-allowed") for name in reply.headers)
    await assert_refused(door, reply, "thetoken", CHALLENGE)


# CloudEvents

ORIGIN = {"WebHook-Request-Origin": "eventemitter.example.com"}


@pytest.mark.parametrize("name", ["events", "events-verified", "events-limited"])
@pytest.mark.parametrize("more", [{}, {"WebHook-Request-Rate": "120"}, {"WebHook-Request-Rate": "junk"}])
async def test_a_sender_of_cloudevents_is_told_that_it_may(door: Door, name: str, more: dict[str, str]) -> None:
    reply = await ask(door, "OPTIONS", name, {**ORIGIN, **more})
    assert reply.status in (200, 204)
    assert reply.headers["webhook-allowed-origin"] in ("*", "eventemitter.example.com")
    assert "POST" in reply.headers["allow"]
    rate = reply.headers["webhook-allowed-rate"]
    assert rate == "*" or int(rate) >= 1
    assert await nothing_stored(door)


async def test_the_allowed_rate_is_the_configured_one_in_a_minute(door: Door) -> None:
    reply = await ask(door, "OPTIONS", "events-limited", ORIGIN)
    assert reply.headers["webhook-allowed-rate"] == "120"


@pytest.mark.parametrize("name", ["none", "github", "meta", "graph"])
async def test_without_cloudevents_nobody_is_told_that_it_may(door: Door, name: str) -> None:
    reply = await ask(door, "OPTIONS", name, ORIGIN)
    assert reply.status == 405
    assert not any(header.startswith("webhook-") for header in reply.headers)
    await assert_refused(door, reply, ORIGIN["WebHook-Request-Origin"])


@pytest.mark.parametrize("headers", [{}, {"origin": "https://a.example", "access-control-request-method": "POST"}])
async def test_options_without_the_origin_of_a_sender_promises_nothing(door: Door, headers: dict[str, str]) -> None:
    reply = await ask(door, "OPTIONS", "events", headers)
    assert not any(header.startswith(("webhook-", "access-control-")) for header in reply.headers)
    assert await nothing_stored(door)


@pytest.mark.parametrize("origin", ["", "*", "<script>", "é", "a, b", "x" * 5000, 'a"; x'])
async def test_no_origin_is_echoed_where_it_could_do_harm(door: Door, origin: str) -> None:
    reply = await ask(door, "OPTIONS", "events", {"WebHook-Request-Origin": origin})
    assert origin.encode() not in reply.body or not origin
    assert reply.headers.get("webhook-allowed-origin", "*") in ("*", origin.encode().decode("latin-1"))


async def test_the_callback_of_a_handshake_is_not_visited(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        await ask(door, "OPTIONS", "events", {**ORIGIN, "WebHook-Request-Callback": url})
        await ask(door, "POST", f"graph?validationToken={quote(url, safe='')}")
        await ask(door, "GET", f"meta?{subscribe(challenge=url)}")
        await slack(door, {"type": "url_verification", "challenge": url, "SubscribeURL": url})
        body = json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": url}).encode()
        answer = await door.send(
            "POST", "/hooks/none", body, {**JSON, "x-amz-sns-message-type": "SubscriptionConfirmation"}
        )
        assert verdict(answer) == (202, "accepted")
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
