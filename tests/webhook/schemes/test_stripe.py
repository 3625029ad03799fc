"""Stripe. It publishes no vector with its secret; its library is the oracle."""

import time
from dataclasses import replace

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import FIRST, KEY, NO_TIMES, NOW_S, changed, mac, matched, stripe_event, webhook

STRIPE = {"scheme": "stripe"}
BODY = b'{"id": "evt_test_webhook", "object": "event"}'
SECRET = "whsec_test_secret"


def v1(sent_s: int | str = NOW_S, secret: str = SECRET, body: bytes = BODY) -> str:
    return mac(secret, f"{sent_s}.".encode() + body).hex()


def signed(header: str, body: bytes = BODY) -> Received:
    return Received({"stripe-signature": header}, body)


@given(body=st.text(), secret=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
async def test_what_the_vendors_library_signs_is_genuine(body: str, secret: str) -> None:
    assert await matched(webhook(STRIPE, secret), stripe_event(secret, NOW_S, body)) == FIRST
    assert await matched(webhook(STRIPE, secret + "x"), stripe_event(secret, NOW_S, body)) is None


async def test_the_secret_is_its_text_and_is_not_decoded() -> None:
    assert await matched(webhook(STRIPE, "whsec_YWJj"), stripe_event("whsec_YWJj")) == FIRST


@pytest.mark.parametrize(
    "form",
    [
        "t={now},v1={good}",
        "v1={good},t={now}",
        "t={now},v1={bad},v1={good}",
        "t={now},v1={good},v1={bad}",
        "t={now},v1=,v1=junk,v1={good}",
        "t={now},v0={bad},v1={good},v2=x,unknown=y",
    ],
)
async def test_the_vendors_library_and_we_take_any_of_the_signatures_wherever_it_stands(form: str) -> None:
    now_s = int(time.time())
    header = form.format(now=now_s, good=v1(now_s), bad=v1(now_s, "old"))
    assert stripe.WebhookSignature.verify_header(BODY.decode(), header, SECRET, 300)
    assert await matched(webhook(STRIPE, SECRET), signed(header), now_s) == FIRST


@pytest.mark.parametrize(
    "form",
    [
        "",
        "t={now}",
        "v1={good}",
        "t=,v1={good}",
        "t=x,v1={good}",
        "t={now},v1=",
        "t={now},v1={bad}",
        "t={now},v0={good}",
        "t={now},v1a={good}",
        "t={now},V1={good}",
        "t={now};v1={good}",
        "t={now},v1={good}0",
        "t={now},v1=\udcff",
        "=",
        ",",
    ],
)
async def test_only_a_time_with_a_v1_is_genuine_to_the_vendors_library_and_to_us(form: str) -> None:
    now_s = int(time.time())
    header = form.format(now=now_s, good=v1(now_s), bad=v1(now_s, "old"))
    with pytest.raises((stripe.SignatureVerificationError, TypeError)):
        stripe.WebhookSignature.verify_header(BODY.decode(), header, SECRET, 300)
    assert await matched(webhook(STRIPE, SECRET), signed(header), now_s) is None


async def test_an_old_signature_does_not_count_beside_a_new_time() -> None:
    source, old_s = webhook(STRIPE, SECRET), NOW_S - 301
    for header in (
        f"t={NOW_S},t={old_s},v1={v1(old_s)}",
        f"t={old_s},t={NOW_S},v1={v1(old_s)}",
        f"t={old_s},v1={v1(old_s)},t={NOW_S}",
        f"t={old_s},v1={v1(old_s)}, t={NOW_S}",
    ):
        assert await matched(source, signed(header)) is None


@pytest.mark.parametrize("sent", NO_TIMES)
async def test_a_time_that_is_no_unix_time_is_not_genuine_though_it_was_signed(sent: str) -> None:
    assert await matched(webhook(STRIPE, SECRET), signed(f"t={sent},v1={v1(sent)}")) is None


async def test_the_body_and_the_time_are_signed() -> None:
    source, genuine = webhook(STRIPE, KEY), stripe_event()
    assert await matched(source, replace(genuine, body=genuine.body + b" ")) is None
    later = genuine.headers["stripe-signature"].replace(str(NOW_S), str(NOW_S + 1))
    assert await matched(source, changed(genuine, stripe_signature=later)) is None


async def test_a_body_that_is_not_text_can_be_signed() -> None:
    body = b"\xff\x00"
    assert await matched(webhook(STRIPE, SECRET), signed(f"t={NOW_S},v1={v1(body=body)}", body)) == FIRST


def test_the_id_of_a_delivery_is_that_of_the_event() -> None:
    verifier = webhook(STRIPE, SECRET).verifier
    assert verifier.delivery_id({}, {"id": "evt_1"}) == "evt_1"
    assert verifier.delivery_id({}, ["evt_1"]) is None
    assert verifier.delivery_id({}, {"id": 5}) is None
