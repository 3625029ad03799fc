"""Shopify and DocuSign: base64 of an HMAC of the body. Neither publishes a vector with its key; RFC 4231 has one."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import (
    DOCUSIGN_ID,
    FIRST,
    KEY,
    SECOND,
    base64_of,
    changed,
    docusign,
    mac,
    matched,
    shopify,
    webhook,
)

SHOPIFY = {"scheme": "shopify"}
DOCUSIGN = {"scheme": "docusign"}

# RFC 4231, section 4.3: HMAC-SHA-256 of test case 2
RFC_KEY, RFC_BODY = "Jefe", b"what do ya want for nothing?"
RFC_SIGNATURE = base64_of(bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))

EACH = pytest.mark.parametrize(
    ("scheme", "header"),
    [
        ("shopify", "x-shopify-hmac-sha256"),
        ("shopify", "shopify-hmac-sha256"),
        ("docusign", "x-docusign-signature-1"),
        ("docusign", "x-docusign-signature-2"),
        ("docusign", "x-docusign-signature-10"),
        ("docusign", "x-docusign-signature-100"),
    ],
)


@EACH
async def test_the_hmac_of_the_rfc_is_genuine(scheme: str, header: str) -> None:
    source = webhook({"scheme": scheme}, RFC_KEY)
    assert await matched(source, Received({header: RFC_SIGNATURE}, RFC_BODY)) == FIRST
    assert await matched(source, Received({header: RFC_SIGNATURE}, RFC_BODY + b"\n")) is None
    assert await matched(webhook({"scheme": scheme}, "jefe"), Received({header: RFC_SIGNATURE}, RFC_BODY)) is None


@EACH
@pytest.mark.parametrize(
    "signature",
    [
        "",
        "=",
        "!!" + RFC_SIGNATURE,
        RFC_SIGNATURE.lower(),
        RFC_SIGNATURE[:-4],
        RFC_SIGNATURE + "AAAA",
        f"{RFC_SIGNATURE}, {RFC_SIGNATURE}",
        base64.b64decode(RFC_SIGNATURE).hex(),
        "sha256=" + RFC_SIGNATURE,
        "é",
        "\udcff",
    ],
)
async def test_only_the_base64_of_the_hmac_is_genuine(scheme: str, header: str, signature: str) -> None:
    source = webhook({"scheme": scheme}, RFC_KEY)
    assert await matched(source, Received({header: signature}, RFC_BODY)) is None


@given(body=st.binary())
async def test_any_body_can_be_signed(body: bytes) -> None:
    for scheme, genuine in ((SHOPIFY, shopify(body=body)), (DOCUSIGN, docusign(body=body))):
        assert await matched(webhook(scheme, KEY), genuine) == FIRST
        assert await matched(webhook(scheme, KEY), replace(genuine, body=body + b"\0")) is None


@pytest.mark.parametrize("prefix", ["x-", ""])
def test_shopifys_id_is_its_webhook_id_under_either_name(prefix: str) -> None:
    verifier = webhook(SHOPIFY, KEY).verifier
    assert verifier.delivery_id(shopify(prefix=prefix).headers, {"id": 1}) == "b54557e4"
    assert verifier.delivery_id({}, {"id": "820982911946154508"}) is None


async def test_docusign_signs_with_every_key_and_any_of_them_is_enough() -> None:
    genuine = docusign()
    ours = genuine.headers["x-docusign-signature-2"]
    only_foreign = changed(genuine, x_docusign_signature_2=None)
    assert await matched(webhook(DOCUSIGN, "another", KEY), genuine) == SECOND
    assert await matched(webhook(DOCUSIGN, KEY), only_foreign) is None
    assert await matched(webhook(DOCUSIGN, KEY), changed(only_foreign, x_docusign_signature_1=f"{ours}x")) is None
    assert await matched(webhook(DOCUSIGN, KEY), changed(only_foreign, x_other_signature_1=ours)) is None
    many = {f"x-docusign-signature-{number}": base64_of(mac(f"key {number}", genuine.body)) for number in range(1, 101)}
    assert await matched(webhook(DOCUSIGN, "key 100"), Received(many, genuine.body)) == FIRST
    assert await matched(webhook(DOCUSIGN, "key 101"), Received(many, genuine.body)) is None


@pytest.mark.parametrize(
    "changes", [{"event": "envelope-sent"}, {"generatedDateTime": "2026-02-01"}, {"data": {"envelopeId": "e2"}}]
)
def test_docusigns_id_tells_events_envelopes_and_times_apart(changes: dict[str, object]) -> None:
    verifier = webhook(DOCUSIGN, KEY).verifier
    event, envelope, generated = DOCUSIGN_ID
    body = {"event": event, "generatedDateTime": generated, "data": {"envelopeId": envelope, "accountId": "a1"}}
    assert verifier.delivery_id({}, body) == DOCUSIGN_ID
    assert verifier.delivery_id({}, {**body, "retryCount": 1}) == DOCUSIGN_ID
    assert verifier.delivery_id({}, {**body, **changes}) not in (None, DOCUSIGN_ID)
