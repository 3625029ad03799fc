"""The schemes that sign the time: published vectors, the vendors' own libraries as oracles, and hostile headers."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from lhd.plugin import ConfigError, Secret
from lhd_webhook.verify import (
    Scheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TimedScheme,
    is_genuine,
)

PLACES = (Secret(env="UNUSED"),)
STANDARD = StandardWebhooksScheme(scheme="standard-webhooks", secrets=PLACES)
STRIPE = StripeScheme(scheme="stripe", secrets=PLACES)
SLACK = SlackScheme(scheme="slack", secrets=PLACES)

SLACK_SECRET = b"8f742231b10e8888abcd99yyyzzz85a5"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_SENT_S = 1531420618
SLACK_HEADERS = {
    "x-slack-request-timestamp": str(SLACK_SENT_S),
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}

STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
STANDARD_BODY = b'{"test": 2432232314}'

STRIPE_SECRET = "whsec_test_secret"
STRIPE_BODY = b'{"id": "evt_test_webhook", "object": "event"}'


def stripe_header(sent_s: int, *secrets: str, body: bytes = STRIPE_BODY, scheme: str = "v1") -> str:
    """A header that the vendor's library would take."""
    signed = f"{sent_s}.".encode() + body
    signatures = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={sent_s}", *(f"{scheme}={one}" for one in signatures)])


def standard_headers(sent_s: int, *, prefix: str = "webhook", message_id: str = STANDARD_ID) -> dict[str, str]:
    """The headers that the vendor's library makes."""
    signature = Webhook(STANDARD_SECRET).sign(message_id, datetime.fromtimestamp(sent_s, UTC), STANDARD_BODY.decode())
    return {f"{prefix}-id": message_id, f"{prefix}-timestamp": str(sent_s), f"{prefix}-signature": signature}


class TestSlack:
    def test_the_published_vector_is_genuine(self) -> None:
        assert is_genuine(SLACK, [SLACK_SECRET], SLACK_HEADERS, SLACK_BODY, SLACK_SENT_S)

    def test_the_vendors_library_agrees_on_the_vector(self) -> None:
        verifier = SignatureVerifier(SLACK_SECRET.decode())
        signature = verifier.generate_signature(timestamp=str(SLACK_SENT_S), body=SLACK_BODY.decode())
        assert signature == SLACK_HEADERS["x-slack-signature"]

    def test_another_body_time_or_secret_is_not(self) -> None:
        later = {**SLACK_HEADERS, "x-slack-request-timestamp": str(SLACK_SENT_S + 1)}
        assert not is_genuine(SLACK, [SLACK_SECRET], SLACK_HEADERS, SLACK_BODY + b"&x", SLACK_SENT_S)
        assert not is_genuine(SLACK, [SLACK_SECRET], later, SLACK_BODY, SLACK_SENT_S)
        assert not is_genuine(SLACK, [SLACK_SECRET + b"x"], SLACK_HEADERS, SLACK_BODY, SLACK_SENT_S)

    def test_the_id_of_a_delivery_is_its_event_id(self) -> None:
        assert SLACK.delivery_id({}, {"event_id": "Ev123"}) == "Ev123"
        assert SLACK.delivery_id({}, {"event_id": 5}) is None


class TestStandardWebhooks:
    def test_what_the_reference_library_signs_is_genuine(self) -> None:
        now_s = int(time.time())
        key = STANDARD.key(STANDARD_SECRET.encode())
        assert is_genuine(STANDARD, [key], standard_headers(now_s), STANDARD_BODY, now_s)
        Webhook(STANDARD_SECRET).verify(STANDARD_BODY, standard_headers(now_s))

    def test_svixs_names_of_the_headers_are_taken(self) -> None:
        key = STANDARD.key(STANDARD_SECRET.encode())
        assert is_genuine(STANDARD, [key], standard_headers(1000, prefix="svix"), STANDARD_BODY, 1000)

    @pytest.mark.parametrize("other", ["v1", "junk", "v1,abc", "v1a,{good}", "v2,{good}", "v1,!!!", "v1,é"])
    def test_a_good_signature_counts_wherever_it_stands_in_the_list(self, other: str) -> None:
        key = STANDARD.key(STANDARD_SECRET.encode())
        headers = standard_headers(1000)
        good = headers["webhook-signature"]
        bad = other.replace("{good}", good[3:])
        for listed in (f"{bad} {good}", f"{good} {bad}"):
            assert is_genuine(STANDARD, [key], {**headers, "webhook-signature": listed}, STANDARD_BODY, 1000)
        assert not is_genuine(STANDARD, [key], {**headers, "webhook-signature": bad}, STANDARD_BODY, 1000)

    def test_an_id_with_a_dot_is_refused_since_it_could_shift_what_was_signed(self) -> None:
        key = STANDARD.key(STANDARD_SECRET.encode())
        assert not is_genuine(STANDARD, [key], standard_headers(1000, message_id="a.b"), STANDARD_BODY, 1000)

    def test_a_body_that_is_not_text_can_be_signed(self) -> None:
        key = STANDARD.key(STANDARD_SECRET.encode())
        body = b"\xff\x00"
        signature = base64.b64encode(hmac.new(key, b"m.1000." + body, hashlib.sha256).digest()).decode()
        headers = {"webhook-id": "m", "webhook-timestamp": "1000", "webhook-signature": f"v1,{signature}"}
        assert is_genuine(STANDARD, [key], headers, body, 1000)

    @pytest.mark.parametrize(
        "secret", [b"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"whsec_!!!!", b"whsec_YWJj", b""]
    )
    def test_a_secret_that_cannot_be_right_is_refused_without_being_shown(self, secret: bytes) -> None:
        with pytest.raises(ConfigError) as refused:
            STANDARD.key(secret)
        assert secret.decode().removeprefix("whsec_") not in str(refused.value) or not secret

    def test_the_id_of_a_delivery_is_the_signed_one(self) -> None:
        assert STANDARD.delivery_id(standard_headers(1000), {"id": "other"}) == STANDARD_ID


class TestStripe:
    def test_what_the_vendors_library_takes_is_genuine(self) -> None:
        now_s = int(time.time())
        header = stripe_header(now_s, STRIPE_SECRET)
        assert stripe.WebhookSignature.verify_header(STRIPE_BODY.decode(), header, STRIPE_SECRET, 300)
        assert is_genuine(STRIPE, [STRIPE_SECRET.encode()], {"stripe-signature": header}, STRIPE_BODY, now_s)

    def test_while_a_secret_is_rolled_any_of_the_signatures_may_match(self) -> None:
        for secrets in (("old", STRIPE_SECRET), (STRIPE_SECRET, "old")):
            header = stripe_header(1000, *secrets)
            assert is_genuine(STRIPE, [STRIPE_SECRET.encode()], {"stripe-signature": header}, STRIPE_BODY, 1000)

    def test_only_version_v1_counts(self) -> None:
        header = stripe_header(1000, STRIPE_SECRET, scheme="v0")
        assert not is_genuine(STRIPE, [STRIPE_SECRET.encode()], {"stripe-signature": header}, STRIPE_BODY, 1000)

    def test_the_id_of_a_delivery_is_that_of_the_event(self) -> None:
        assert STRIPE.delivery_id({}, {"id": "evt_1"}) == "evt_1"
        assert STRIPE.delivery_id({}, ["evt_1"]) is None


def slack_headers(sent_s: int) -> dict[str, str]:
    signature = hmac.new(b"key", f"v0:{sent_s}:body".encode(), hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": str(sent_s), "x-slack-signature": f"v0={signature}"}


@pytest.mark.parametrize("off_s", [-301, -300, 0, 300, 301])
def test_the_window_for_replays_is_open_as_long_to_either_side(off_s: int) -> None:
    in_window = abs(off_s) <= 300
    standard_key = STANDARD.key(STANDARD_SECRET.encode())
    stripe_headers = {"stripe-signature": stripe_header(10_000 + off_s, STRIPE_SECRET)}
    assert is_genuine(SLACK, [b"key"], slack_headers(10_000 + off_s), b"body", 10_000) is in_window
    assert is_genuine(STRIPE, [STRIPE_SECRET.encode()], stripe_headers, STRIPE_BODY, 10_000) is in_window
    assert is_genuine(STANDARD, [standard_key], standard_headers(10_000 + off_s), STANDARD_BODY, 10_000) is in_window


def test_the_window_can_be_set() -> None:
    narrow = SlackScheme(scheme="slack", secrets=PLACES, tolerance_s=10)
    assert is_genuine(narrow, [b"key"], slack_headers(9_990), b"body", 10_000)
    assert not is_genuine(narrow, [b"key"], slack_headers(9_989), b"body", 10_000)


def test_each_of_several_secrets_is_taken() -> None:
    assert is_genuine(SLACK, [b"other", b"key"], slack_headers(1000), b"body", 1000)
    assert is_genuine(SLACK, [b"key", b"other"], slack_headers(1000), b"body", 1000)


HEADER_NAMES = (
    "x-slack-request-timestamp",
    "x-slack-signature",
    "stripe-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)


@pytest.mark.parametrize("scheme", [SLACK, STRIPE, STANDARD], ids=lambda scheme: scheme.scheme)
@given(
    headers=st.dictionaries(st.sampled_from(HEADER_NAMES), st.text(max_size=60)),
    body=st.binary(max_size=60),
)
def test_no_header_and_no_body_makes_a_scheme_raise_or_believe(
    scheme: Scheme, headers: dict[str, str], body: bytes
) -> None:
    assert isinstance(scheme, TimedScheme)
    assert not is_genuine(scheme, [b"k" * 32], headers, body, 1000)
