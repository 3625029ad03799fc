"""GitLab: the plain token, and the signing token. GitLab publishes no vector; the signature is Standard Webhooks'."""

import os

import pytest

from lhd.plugin import ConfigErrors
from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import (
    FIRST,
    OTHER_WHSEC,
    SECOND,
    TOKEN,
    WHSEC,
    changed,
    gitlab,
    matched,
    standard_webhooks,
    webhook,
)

PLAIN = {"scheme": "gitlab"}
SIGNED = {"scheme": "gitlab", "signed": True}


@pytest.mark.parametrize(
    "token",
    ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN}, {TOKEN}", "é", "\udcff", "\0", f"Bearer {TOKEN}"],
)
async def test_only_the_whole_token_counts(token: str) -> None:
    source = webhook(PLAIN, TOKEN)
    assert await matched(source, gitlab()) == FIRST
    assert await matched(source, changed(gitlab(), x_gitlab_token=token)) is None


@pytest.mark.parametrize("token", ["pässwörd €", b"\xff\xfe".decode("utf-8", "surrogateescape")])
async def test_a_token_need_not_be_ascii(token: str) -> None:
    source = webhook(PLAIN, os.fsencode(token))
    assert await matched(source, gitlab(token)) == FIRST
    assert await matched(source, gitlab(token + "x")) is None


async def test_a_signature_is_no_token() -> None:
    assert await matched(webhook(PLAIN, WHSEC), standard_webhooks()) is None


async def test_what_the_reference_library_signs_with_the_signing_token_is_genuine() -> None:
    assert await matched(webhook(SIGNED, WHSEC), standard_webhooks()) == FIRST
    assert await matched(webhook(SIGNED, OTHER_WHSEC), standard_webhooks()) is None
    assert await matched(webhook(SIGNED, OTHER_WHSEC, WHSEC), standard_webhooks()) == SECOND


async def test_where_it_is_signed_the_plain_token_no_longer_counts() -> None:
    source = webhook(SIGNED, WHSEC)
    assert await matched(source, gitlab(WHSEC)) is None
    assert await matched(source, changed(standard_webhooks(OTHER_WHSEC), x_gitlab_token=WHSEC)) is None
    assert await matched(source, changed(standard_webhooks(), webhook_signature=None, x_gitlab_token=WHSEC)) is None
    assert await matched(source, changed(standard_webhooks(), x_gitlab_token="wrong")) == FIRST


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_id": "msg_2"},
        {"webhook_id": None},
        {"webhook_timestamp": "1700000001"},
        {"webhook_timestamp": None},
        {"webhook_signature": ""},
    ],
)
async def test_the_id_and_the_time_are_signed(changes: dict[str, str | None]) -> None:
    assert await matched(webhook(SIGNED, WHSEC), changed(standard_webhooks(), **changes)) is None


async def test_the_body_is_signed() -> None:
    genuine = standard_webhooks()
    assert await matched(webhook(SIGNED, WHSEC), Received(genuine.headers, genuine.body + b" ")) is None


@pytest.mark.parametrize("secret", [TOKEN, f"v1,{WHSEC}", "whsec_YWJj", "whsec_!!!!"])
def test_a_signing_token_that_cannot_be_right_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigErrors) as refused:
        webhook(SIGNED, secret)
    assert secret not in str(refused.value)
    assert [error.key for error in refused.value.errors] == ["verify.secrets[0]"]


@pytest.mark.parametrize(
    ("table", "headers", "expected"),
    [
        (PLAIN, {"idempotency-key": "k", "x-gitlab-event-uuid": "u", "webhook-id": "w"}, "k"),
        (PLAIN, {"x-gitlab-event-uuid": "u", "webhook-id": "w"}, "u"),
        (PLAIN, {"idempotency-key": "", "x-gitlab-event-uuid": "u"}, "u"),
        (PLAIN, {}, None),
        (SIGNED, {"idempotency-key": "k", "x-gitlab-event-uuid": "u", "webhook-id": "w"}, "w"),
        (SIGNED, {"idempotency-key": "k", "x-gitlab-event-uuid": "u"}, None),
    ],
)
def test_the_id_of_a_delivery_is_the_signed_one_or_else_the_idempotency_key(
    table: dict[str, object], headers: dict[str, str], expected: str | None
) -> None:
    assert webhook(table, WHSEC).verifier.delivery_id(headers, {}) == expected
