"""GitHub, and Meta, which signs in the same way."""

import hashlib
import hmac
import json

import pytest
from gidgethub import ValidationFailure, sansio
from hypothesis import given
from hypothesis import strategies as st

from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes.senders import FIRST, KEY, META, changed, github, matched, meta, webhook

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
BODY = b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

DIGITS = SIGNATURE.removeprefix("sha256=")
# Meta publishes no vector; its construction is GitHub's.
BOTH = pytest.mark.parametrize("scheme", ["github", "meta"])


def source_of(scheme: str, *secrets: str | bytes) -> Webhook:
    return webhook(META if scheme == "meta" else {"scheme": scheme}, *(secrets or (KEY,)))


def signed(signature: str, body: bytes = BODY) -> Received:
    return Received({"x-hub-signature-256": signature}, body)


@BOTH
async def test_githubs_published_vector_is_genuine_in_lower_and_upper_case_hex(scheme: str) -> None:
    source = source_of(scheme)
    assert await matched(source, signed(SIGNATURE)) == FIRST
    assert await matched(source, signed("sha256=" + DIGITS.upper())) == FIRST


@BOTH
async def test_another_body_or_secret_is_not(scheme: str) -> None:
    assert await matched(source_of(scheme), signed(SIGNATURE, BODY + b"\n")) is None
    assert await matched(source_of(scheme), signed(SIGNATURE, b"")) is None
    assert await matched(source_of(scheme, "another"), signed(SIGNATURE)) is None
    assert await matched(source_of(scheme, KEY + "x"), signed(SIGNATURE)) is None


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256",
        DIGITS,
        "sha1=" + DIGITS,
        "SHA512=" + DIGITS,
        SIGNATURE[:-1],
        SIGNATURE[:-2],
        SIGNATURE + "0",
        SIGNATURE + "00",
        SIGNATURE.replace("75", "75 ", 1),
        f"{SIGNATURE} x",
        f"{SIGNATURE}, {SIGNATURE}",
        "sha256=" + "z" * 64,
        "sha256=" + "\uff17" * 64,
        "sha256=é",
        "sha256=\udcff",
    ],
)
@BOTH
async def test_a_signature_that_is_not_exactly_of_the_published_form_is_not_genuine(
    scheme: str, signature: str
) -> None:
    assert await matched(source_of(scheme), signed(signature)) is None


@BOTH
async def test_the_legacy_sha1_header_alone_is_not_genuine(scheme: str) -> None:
    legacy = "sha1=" + hmac.new(KEY.encode(), BODY, hashlib.sha1).hexdigest()
    source = source_of(scheme)
    assert await matched(source, Received({"x-hub-signature": legacy}, BODY)) is None
    assert await matched(source, Received({"x-hub-signature-256": legacy, "x-hub-signature": legacy}, BODY)) is None
    assert await matched(source, Received({"x-hub-signature": SIGNATURE}, BODY)) is None


@given(secret=st.binary(min_size=1).filter(lambda secret: b"\0" not in secret), body=st.binary())
async def test_what_a_secret_signed_is_genuine_for_it_whatever_the_bytes(secret: bytes, body: bytes) -> None:
    assert await matched(source_of("github", secret), github(secret, body)) == FIRST
    assert await matched(source_of("github", secret + b"x"), github(secret, body)) is None


@given(body=st.binary(), is_foreign=st.booleans())
async def test_gidgethub_and_we_believe_the_same_senders(body: bytes, is_foreign: bool) -> None:
    received = github("another" if is_foreign else KEY, body)
    try:
        sansio.validate_event(body, signature=received.headers["x-hub-signature-256"], secret=KEY)
        is_valid = True
    except ValidationFailure:
        is_valid = False
    assert is_valid is not is_foreign
    assert (await matched(source_of("github"), received) is not None) is is_valid


def test_githubs_delivery_id_is_its_delivery_header_and_meta_has_none() -> None:
    received = changed(github(), x_github_delivery="72d3162e-cc78-11e3")
    assert source_of("github").verifier.delivery_id(received.headers, {}) == "72d3162e-cc78-11e3"
    assert source_of("github").verifier.delivery_id({"x-github-delivery": ""}, {"id": "x"}) is None
    assert source_of("meta").verifier.delivery_id(received.headers, json.loads(meta().body)) is None
