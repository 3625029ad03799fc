"""An HMAC in a header of any name."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes import test_github, test_slack, test_standard_webhooks
from tests.webhook.schemes.senders import (
    FIRST,
    KEY,
    NO_TIMES,
    NOW_S,
    PUBLIC_URL,
    REFUSED,
    TEMPLATE,
    base64_of,
    changed,
    mac,
    matched,
    templated,
    webhook,
)


def source_of(*secrets: str | bytes, **keys: Any) -> Webhook:
    return webhook({"scheme": "hmac", "header": "X-Signature", **keys}, *(secrets or (KEY,)))


# RFC 4231, sections 4.2 to 4.8 without the truncated one (SHA-2), and RFC 2202, section 3 (SHA-1)
LONG = b"Test Using Larger Than Block-Size Key - Hash Key First"
LONGER = (
    b"This is a test using a larger than block-size key and a larger than block-size data. "
    b"The key needs to be hashed before being used by the HMAC algorithm."
)
VECTORS = [
    ("sha256", b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        "sha256",
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    ("sha256", b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        "sha256",
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    ("sha256", b"\xaa" * 131, LONG, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    ("sha256", b"\xaa" * 131, LONGER, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    (
        "sha512",
        b"\x0b" * 20,
        b"Hi There",
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
    ),
    (
        "sha512",
        b"Jefe",
        b"what do ya want for nothing?",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
    (
        "sha512",
        b"\xaa" * 131,
        LONGER,
        "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
        "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
    ),
    ("sha1", b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    ("sha1", b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ("sha1", b"\xaa" * 80, LONG, "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
]

ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "base64": base64_of,
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode(),
}


@pytest.mark.parametrize("prefix", ["", "sha=", "v0 "])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("algorithm", "key", "body", "digest"), VECTORS)
async def test_the_vectors_of_the_rfcs_are_genuine_in_every_encoding(
    algorithm: str, key: bytes, body: bytes, digest: str, encoding: str, prefix: str
) -> None:
    keys = {"algorithm": algorithm, "encoding": encoding, "prefix": prefix}
    signature = prefix + ENCODINGS[encoding](bytes.fromhex(digest))
    source = source_of(key, **keys)
    assert await matched(source, Received({"x-signature": signature}, body)) == FIRST
    assert await matched(source, Received({"x-signature": signature}, body + b" ")) is None
    assert await matched(source, Received({"x-signature": "y" + signature}, body)) is None
    assert await matched(source, Received({"x-other": signature}, body)) is None
    assert await matched(source_of(key + b"x", **keys), Received({"x-signature": signature}, body)) is None


async def test_the_vectors_of_other_schemes_can_be_described() -> None:
    github = source_of(header="X-Hub-Signature-256", prefix="sha256=")
    assert await matched(github, test_github.signed(test_github.SIGNATURE)) == FIRST
    slack = source_of(
        test_slack.SECRET,
        header="X-Slack-Signature",
        prefix="v0=",
        signed="v0:{timestamp}:{raw}",
        timestamp_header="X-Slack-Request-Timestamp",
    )
    assert await matched(slack, test_slack.VECTOR, test_slack.SENT_S) == FIRST
    assert await matched(slack, test_slack.VECTOR, test_slack.SENT_S + 301) is None
    standard = source_of(
        test_standard_webhooks.KEY,
        header="webhook-signature",
        prefix="v1,",
        encoding="base64",
        signed="{id}.{timestamp}.{raw}",
        id_header="webhook-id",
        timestamp_header="webhook-timestamp",
    )
    vector = test_standard_webhooks.published(test_standard_webhooks.V1)
    assert await matched(standard, vector, test_standard_webhooks.SENT_S) == FIRST


async def test_an_hmac_of_another_algorithm_is_not_genuine() -> None:
    for algorithm in ("sha1", "sha512", "md5"):
        signature = mac(KEY, b"body", algorithm).hex()
        assert await matched(source_of(algorithm="sha256"), Received({"x-signature": signature}, b"body")) is None


@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
@pytest.mark.parametrize(
    "form",
    [
        "",
        " ",
        "=",
        "!!{0}",
        "{0}!",
        "{0}, {0}",
        "{0} {0}",
        "{0}00",
        "{0}AAAA",
        "é",
        "\udcff",
        "\0",
        "z" * 64,
        "\uff17" * 64,
    ],
)
async def test_only_the_encoded_digest_is_genuine(encoding: str, form: str) -> None:
    signature = form.format(ENCODINGS[encoding](mac(KEY, b"body")))
    assert await matched(source_of(encoding=encoding), Received({"x-signature": signature}, b"body")) is None


async def test_base64url_may_go_without_its_padding() -> None:
    signature = ENCODINGS["base64url"](mac(KEY, b"body"))
    assert signature.endswith("=")
    for sent in (signature, signature.rstrip("=")):
        assert await matched(source_of(encoding="base64url"), Received({"x-signature": sent}, b"body")) == FIRST


async def test_hex_may_be_in_upper_case_and_base64_may_not() -> None:
    digest = mac(KEY, b"body")
    assert await matched(source_of(), Received({"x-signature": digest.hex().upper()}, b"body")) == FIRST
    assert base64_of(digest).lower() != base64_of(digest)
    assert (
        await matched(source_of(encoding="base64"), Received({"x-signature": base64_of(digest).lower()}, b"body"))
        is None
    )


# What is signed


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("x-timestamp", str(NOW_S + 1)),
        ("x-timestamp", f"0{NOW_S}"),
        ("x-timestamp", ""),
        ("x-timestamp", None),
        ("x-delivery", "d-2"),
        ("x-delivery", ""),
        ("x-delivery", None),
        ("x-signature", ""),
        ("x-signature", None),
    ],
)
async def test_every_part_of_the_template_is_signed(change: str, value: str | None) -> None:
    source, genuine = webhook(TEMPLATE, KEY), templated()
    assert await matched(source, genuine) == FIRST
    assert await matched(source, changed(genuine, **{change: value})) is None


async def test_the_url_is_the_public_one_with_the_query_of_the_request() -> None:
    source = source_of(signed="{url}|{raw}", public_url=PUBLIC_URL)
    for query, url in (("", PUBLIC_URL), ("a=1&b=%C3%A9", f"{PUBLIC_URL}?a=1&b=%C3%A9")):
        signature = mac(KEY, f"{url}|body".encode()).hex()
        assert await matched(source, Received({"x-signature": signature}, b"body", query)) == FIRST
        assert await matched(source, Received({"x-signature": signature}, b"body", query + "x")) is None
        elsewhere = Received({"x-signature": signature, "host": "hooks.example.com"}, b"body", query)
        assert await matched(source_of(signed="{url}|{raw}", public_url="https://a.example/"), elsewhere) is None


async def test_the_query_is_not_signed_where_the_template_leaves_the_url_out() -> None:
    received = Received({"x-signature": mac(KEY, b"body").hex()}, b"body", "a=1")
    assert await matched(source_of(), received) == FIRST


async def test_a_body_may_hold_what_looks_like_a_part_of_the_template() -> None:
    source = source_of(signed="{timestamp}.{raw}", timestamp_header="X-Timestamp")
    for body in (b"{timestamp}", b"{raw}", b"{}", b"{id}", b"%s", b"\xff{raw}"):
        signature = mac(KEY, f"{NOW_S}.".encode() + body).hex()
        received = Received({"x-signature": signature, "x-timestamp": str(NOW_S)}, body)
        assert await matched(source, received) == FIRST
        assert await matched(source, replace(received, body=body + b"x")) is None


async def test_the_raw_body_may_stand_anywhere_in_the_template() -> None:
    source = source_of(signed="<{raw}>{id}", id_header="X-Delivery")
    received = Received({"x-signature": mac(KEY, b"<body>d-1").hex(), "x-delivery": "d-1"}, b"body")
    assert await matched(source, received) == FIRST


@pytest.mark.parametrize("sent", NO_TIMES)
async def test_a_time_that_is_no_unix_time_is_not_genuine_though_it_was_signed(sent: str) -> None:
    source = source_of(signed="{timestamp}.{raw}", timestamp_header="X-Timestamp")
    signature = mac(KEY, f"{sent}.body".encode()).hex()
    assert await matched(source, Received({"x-signature": signature, "x-timestamp": sent}, b"body")) is None


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"signed": "{id}.{raw}"}, "id_header"),
        ({"signed": "{timestamp}.{raw}"}, "timestamp_header"),
        ({"signed": "{url}.{raw}"}, "public_url"),
        ({"signed": "{timestamp}", "timestamp_header": "X-Timestamp"}, "raw"),
        ({"signed": "{body}"}, "signed"),
        ({"signed": "{raw.__class__}"}, "signed"),
        ({"algorithm": "md5"}, "algorithm"),
        ({"algorithm": "none"}, "algorithm"),
        ({"encoding": "base32"}, "encoding"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused(keys: dict[str, str], named: str) -> None:
    with pytest.raises(REFUSED, match=named):
        source_of(**keys)


def test_the_header_has_to_be_named() -> None:
    with pytest.raises(REFUSED, match="header"):
        webhook({"scheme": "hmac"}, KEY)


def test_the_id_of_a_delivery_is_in_the_header_that_is_named_in_any_case() -> None:
    assert source_of(id_header="X-Order-Id").verifier.delivery_id({"x-order-id": "17"}, {}) == "17"
    assert source_of(id_header="X-Order-Id").verifier.delivery_id({"x-order-id": ""}, {}) is None
    assert source_of().verifier.delivery_id({"x-order-id": "17"}, {"id": "17"}) is None
