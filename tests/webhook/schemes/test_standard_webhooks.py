"""Standard Webhooks, and Svix, which began it: symmetric (v1) and asymmetric (v1a)."""

import base64
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from lhd.plugin import ConfigErrors
from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import (
    ED25519,
    FIRST,
    NO_TIMES,
    NOW_S,
    OTHER_ED25519,
    OTHER_WHSEC,
    SECOND,
    WHSEC,
    asymmetric,
    base64_of,
    changed,
    mac,
    matched,
    standard_webhooks,
    svix_named,
    webhook,
    whpk,
)

STANDARD = {"scheme": "standard-webhooks"}
KEY = base64.b64decode(WHSEC.removeprefix("whsec_"))

# The tests of the libraries: https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries
SENT_S = 1614265330
BODY = b'{"test": 2432232314}'
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
# A test of Svix's server with the same message: https://github.com/svix/svix-webhooks/blob/main/server/svix-server/src/worker.rs
WHPK = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def published(signature: str, prefix: str = "webhook") -> Received:
    headers = {"id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "timestamp": str(SENT_S), "signature": signature}
    return Received({f"{prefix}-{name}": value for name, value in headers.items()}, BODY)


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
@pytest.mark.parametrize(("secret", "signature"), [pytest.param(WHSEC, V1, id="v1"), pytest.param(WHPK, V1A, id="v1a")])
async def test_the_published_vector_is_genuine(secret: str, signature: str, prefix: str) -> None:
    source, genuine = webhook(STANDARD, secret), published(signature, prefix)
    assert await matched(source, genuine, SENT_S) == FIRST
    assert await matched(source, replace(genuine, body=BODY + b" "), SENT_S) is None
    for name, value in ((f"{prefix}-id", "msg_p5"), (f"{prefix}-timestamp", str(SENT_S + 1))):
        assert await matched(source, replace(genuine, headers={**genuine.headers, name: value}), SENT_S) is None
    assert await matched(webhook(STANDARD, OTHER_WHSEC, whpk(OTHER_ED25519)), genuine, SENT_S) is None


@pytest.mark.parametrize("seed_and_public_key", [
    # RFC 8032, section 7.1, tests 1 to 3
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
], ids=["1", "2", "3"])  # fmt: skip
async def test_the_keys_of_the_rfc_of_ed25519_verify(seed_and_public_key: str) -> None:
    raw = bytes.fromhex(seed_and_public_key)
    secret = "whpk_" + base64_of(raw[32:])
    assert await matched(webhook(STANDARD, secret), asymmetric(Ed25519PrivateKey.from_private_bytes(raw[:32]))) == FIRST


ids = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="."), min_size=1)


@given(msg_id=ids, body=st.text(st.characters(codec="utf-8")))
async def test_what_the_reference_library_signs_is_genuine(msg_id: str, body: str) -> None:
    received = standard_webhooks(WHSEC, NOW_S, body, msg_id=msg_id)
    source = webhook(STANDARD, WHSEC)
    assert await matched(source, received) == FIRST
    assert source.verifier.delivery_id(received.headers, {}) == msg_id
    assert await matched(webhook(STANDARD, OTHER_WHSEC), received) is None


async def test_the_libraries_take_the_same_request_as_we() -> None:
    now_s = int(time.time())
    signature = base64_of(mac(KEY, f"msg_1.{now_s}.".encode() + BODY))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now_s), "webhook-signature": f"v1,{signature}"}
    as_svix = {name.replace("webhook", "svix"): value for name, value in headers.items()}
    standardwebhooks.Webhook(WHSEC).verify(BODY, headers)
    svix.webhooks.Webhook(WHSEC).verify(BODY, as_svix)
    for sent in (headers, as_svix):
        assert await matched(webhook(STANDARD, WHSEC), Received(sent, BODY), now_s) == FIRST


@pytest.mark.parametrize(
    "other", ["v1", "junk", "v1,abc", "{other version}", "v2,{good}", "v1,!!!", "v1,é", "v1,\udcff", ","]
)
@pytest.mark.parametrize("genuine", [standard_webhooks(), asymmetric()], ids=["v1", "v1a"])
async def test_a_good_signature_counts_wherever_it_stands_in_the_list(genuine: Received, other: str) -> None:
    source = webhook(STANDARD, WHSEC, whpk(ED25519))
    version, _, good = genuine.headers["webhook-signature"].partition(",")
    other_version = ("v1a" if version == "v1" else "v1") + "," + good
    bad = other.replace("{good}", good).replace("{other version}", other_version)
    for listed in (f"{bad} {version},{good}", f"{version},{good} {bad}", f"{bad} {version},{good} {bad}"):
        assert await matched(source, changed(genuine, webhook_signature=listed))
    assert await matched(source, changed(genuine, webhook_signature=bad)) is None


async def test_the_name_tells_which_kind_of_key_has_signed() -> None:
    source = webhook(STANDARD, WHSEC, whpk(ED25519))
    assert await matched(source, standard_webhooks()) == FIRST
    assert await matched(source, asymmetric()) == SECOND


async def test_the_public_key_is_no_secret_with_which_one_could_sign() -> None:
    public = ED25519.public_key().public_bytes_raw()
    for key in (public, whpk(ED25519), base64_of(public)):
        signature = "v1," + base64_of(mac(key, f"msg_1.{NOW_S}.".encode() + BODY))
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW_S), "webhook-signature": signature}
        assert await matched(webhook(STANDARD, whpk(ED25519)), Received(headers, BODY)) is None


async def test_a_signature_that_is_equivalent_but_not_canonical_is_not_genuine() -> None:
    # RFC 8032, section 5.1.7: S must be less than L
    genuine = asymmetric()
    raw = base64.b64decode(genuine.headers["webhook-signature"].removeprefix("v1a,"))
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + order
    forged = "v1a," + base64_of(raw[:32] + s.to_bytes(32, "little"))
    assert await matched(webhook(STANDARD, whpk(ED25519)), changed(genuine, webhook_signature=forged)) is None


async def test_an_id_with_a_dot_is_refused_since_it_could_shift_what_was_signed() -> None:
    source = webhook(STANDARD, WHSEC)
    assert await matched(source, standard_webhooks(msg_id="a.b")) is None
    signed = standard_webhooks(body=f"{NOW_S}.body", msg_id="a")
    shifted = Received({**signed.headers, "webhook-id": f"a.{NOW_S}"}, b"body")
    assert await matched(source, shifted) is None


@pytest.mark.parametrize("sent", NO_TIMES)
async def test_a_time_that_is_no_unix_time_is_not_genuine_though_it_was_signed(sent: str) -> None:
    signature = "v1," + base64_of(mac(KEY, f"msg_1.{sent}.".encode() + BODY))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": sent, "webhook-signature": signature}
    assert await matched(webhook(STANDARD, WHSEC), Received(headers, BODY)) is None


async def test_a_body_that_is_not_text_can_be_signed() -> None:
    body = b"\xff\x00"
    signature = "v1," + base64_of(mac(KEY, f"msg_1.{NOW_S}.".encode() + body))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW_S), "webhook-signature": signature}
    assert await matched(webhook(STANDARD, WHSEC), Received(headers, body)) == FIRST
    assert await matched(webhook(STANDARD, whpk(ED25519)), asymmetric(body=body)) == FIRST


@pytest.mark.parametrize("genuine", [standard_webhooks(), svix_named()], ids=["webhook", "svix"])
@pytest.mark.parametrize("name", ["webhook-id", "svix-id"])
async def test_where_both_names_are_there_the_id_of_the_delivery_is_still_the_signed_one(
    genuine: Received, name: str
) -> None:
    source = webhook(STANDARD, WHSEC)
    doubled = replace(genuine, headers={**genuine.headers, name: "msg_2"})
    if await matched(source, doubled) is not None:
        assert source.verifier.delivery_id(doubled.headers, {}) == "msg_1"


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(f"v1,{WHSEC}", id="pasted with the version"),
        pytest.param("whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", id="not base64"),
        pytest.param("whsec_YWJj", id="too short"),
        pytest.param("whsec_", id="nothing"),
        pytest.param("whpk_" + base64_of(b"k" * 31), id="short public key"),
        pytest.param("whpk_" + base64_of(b"k" * 33), id="long public key"),
        pytest.param("whsk_" + base64_of(b"k" * 64), id="private key"),
    ],
)
def test_a_secret_that_cannot_be_right_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigErrors) as refused:
        webhook(STANDARD, WHSEC, secret)
    assert [error.key for error in refused.value.errors] == ["verify.secrets[1]"]
    assert secret not in str(refused.value)
    assert (secret[6:] or "no such text") not in str(refused.value)


def test_the_reference_library_agrees_on_the_vector() -> None:
    signature = standardwebhooks.Webhook(WHSEC).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(SENT_S, UTC), BODY.decode()
    )
    assert signature == V1
