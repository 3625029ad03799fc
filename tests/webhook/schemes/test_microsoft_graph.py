"""Microsoft Graph: a secret inside each notification. Nothing is signed, so there is no vector.

https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks
"""

import json
from typing import Any

import pytest

from lhd_webhook.schemes import Received
from tests.webhook.schemes.senders import FIRST, JSON, KEY, SECOND, matched, microsoft_graph, webhook

GRAPH = {"scheme": "microsoft-graph"}


async def test_every_notification_has_to_bring_the_secret() -> None:
    source = webhook(GRAPH, KEY)
    assert await matched(source, microsoft_graph(KEY)) == FIRST
    assert await matched(source, microsoft_graph(KEY, KEY, KEY)) == FIRST
    for wrong in ("another", "", KEY + "x", KEY[:-1], KEY.upper(), None, 5, [KEY], {"a": KEY}, "é", "\udcff", "\ud800"):
        assert await matched(source, microsoft_graph(KEY, wrong)) is None, wrong
        assert await matched(source, microsoft_graph(wrong, KEY)) is None, wrong


async def test_each_notification_may_bring_another_of_the_secrets() -> None:
    source = webhook(GRAPH, "another", KEY)
    assert await matched(source, microsoft_graph(KEY, KEY)) == SECOND
    assert await matched(source, microsoft_graph(KEY, "another")) in (FIRST, SECOND)
    assert await matched(source, microsoft_graph(KEY, "another", "a third")) is None


async def test_a_secret_need_not_be_ascii() -> None:
    assert await matched(webhook(GRAPH, "pässwörd €"), microsoft_graph("pässwörd €")) == FIRST


@pytest.mark.parametrize(
    "body",
    [
        None,
        5,
        [],
        {},
        KEY,
        [{"clientState": KEY}],
        {"clientState": KEY},
        {"value": None},
        {"value": []},
        {"value": {}},
        {"value": KEY},
        {"value": {"clientState": KEY}},
        {"value": [KEY]},
        {"value": [[{"clientState": KEY}]]},
        {"value": [{"clientState": KEY}, 5]},
        {"value": [{"clientState": KEY}, None]},
        {"value": [{"clientState": KEY}, {}]},
    ],
)
async def test_a_body_of_another_shape_is_not_genuine(body: Any) -> None:
    assert await matched(webhook(GRAPH, KEY), Received(JSON, json.dumps(body).encode())) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"value": ' + b"[" * 100_000])
async def test_a_body_that_is_no_json_is_not_genuine(body: bytes) -> None:
    assert await matched(webhook(GRAPH, KEY), Received(JSON, body)) is None


async def test_the_secret_in_a_header_or_in_the_query_proves_nothing() -> None:
    headers = {**JSON, "clientstate": KEY, "authorization": f"Bearer {KEY}"}
    received = Received(headers, b'{"value": [{"subscriptionId": "s"}]}', f"clientState={KEY}")
    assert await matched(webhook(GRAPH, KEY), received) is None
