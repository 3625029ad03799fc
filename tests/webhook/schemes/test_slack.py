"""Slack."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier

from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import FIRST, KEY, NO_TIMES, NOW_S, changed, mac, matched, slack, webhook

SLACK = {"scheme": "slack"}

# https://docs.slack.dev/authentication/verifying-requests-from-slack/#validating-a-request
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SENT_S = 1531420618
VECTOR = Received(
    {
        "x-slack-request-timestamp": str(SENT_S),
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    },
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
)


class StoppedClock(Clock):
    def now(self) -> float:
        return NOW_S


def sdk_takes(received: Received) -> bool:
    return SignatureVerifier(KEY, StoppedClock()).is_valid_request(received.body, dict(received.headers))


async def test_the_published_vector_is_genuine() -> None:
    assert await matched(webhook(SLACK, SECRET), VECTOR, SENT_S) == FIRST


async def test_another_body_time_or_secret_is_not() -> None:
    source = webhook(SLACK, SECRET)
    assert await matched(source, replace(VECTOR, body=VECTOR.body + b"&x"), SENT_S) is None
    assert await matched(source, changed(VECTOR, x_slack_request_timestamp=str(SENT_S + 1)), SENT_S) is None
    assert await matched(webhook(SLACK, SECRET + "x"), VECTOR, SENT_S) is None


@given(body=st.text(), sent_s=st.integers(NOW_S - 400, NOW_S + 400), key=st.sampled_from([KEY, "another"]))
async def test_the_vendors_library_and_we_believe_the_same_senders(body: str, sent_s: int, key: str) -> None:
    received = slack(key, sent_s, body)
    assert (await matched(webhook(SLACK, KEY), received) is not None) is sdk_takes(received)


@pytest.mark.parametrize(
    "form", ["", "v0=", "{hex}", "v1={hex}", "v0={hex}0", "v0={hex}, v0={hex}", "v0=é", "v0=\udcff"]
)
async def test_a_signature_that_is_not_exactly_of_the_published_form_is_not_genuine(form: str) -> None:
    genuine = slack()
    digits = genuine.headers["x-slack-signature"].removeprefix("v0=")
    assert await matched(webhook(SLACK, KEY), changed(genuine, x_slack_signature=form.format(hex=digits))) is None


@pytest.mark.parametrize("sent", NO_TIMES)
async def test_a_time_that_is_no_unix_time_is_not_genuine_though_it_was_signed(sent: str) -> None:
    headers = {
        "x-slack-request-timestamp": sent,
        "x-slack-signature": "v0=" + mac(KEY, f"v0:{sent}:body".encode()).hex(),
    }
    assert await matched(webhook(SLACK, KEY), Received(headers, b"body")) is None


async def test_a_body_that_is_not_text_can_be_signed() -> None:
    body = b"\xff\x00"
    signature = "v0=" + mac(KEY, f"v0:{NOW_S}:".encode() + body).hex()
    headers = {"x-slack-request-timestamp": str(NOW_S), "x-slack-signature": signature}
    assert await matched(webhook(SLACK, KEY), Received(headers, body)) == FIRST


def test_the_id_of_a_delivery_is_its_event_id() -> None:
    verifier = webhook(SLACK, KEY).verifier
    assert verifier.delivery_id({}, {"event_id": "Ev123"}) == "Ev123"
    assert verifier.delivery_id({}, {"event_id": 5}) is None
