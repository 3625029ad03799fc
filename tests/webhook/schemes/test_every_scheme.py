"""What holds for every scheme: who is believed, for how long, by which secret, and at a real door."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lhd.engine import Engine
from lhd_webhook.schemes import Received
from tests.webhook.schemes.doorway import deliver, open_for
from tests.webhook.schemes.every import SENDERS, Sender
from tests.webhook.schemes.senders import FIRST, NOW_S, SECOND, matched, set_secrets, table_of, webhook

each_sender = pytest.mark.parametrize("sender", SENDERS, ids=str)
each_with_secrets = pytest.mark.parametrize("sender", [one for one in SENDERS if one.secrets], ids=str)
each_timed = pytest.mark.parametrize("sender", [one for one in SENDERS if one.tolerance_s], ids=str)


@each_sender
async def test_a_genuine_request_is_verified_and_a_strangers_is_not(sender: Sender, tmp_path: Path) -> None:
    source = sender.open(tmp_path)
    name = await matched(source, sender.send(sender.key, NOW_S))
    assert name == FIRST if sender.secrets else name
    assert await matched(source, sender.send(sender.other_key, NOW_S)) is None


@each_sender
async def test_a_request_without_any_proof_is_not_verified(sender: Sender, tmp_path: Path) -> None:
    source = sender.open(tmp_path)
    genuine = sender.send(sender.key, NOW_S)
    for received in (Received({}), Received({}, b"{}"), Received({"content-type": "application/json"}, b"{}")):
        assert await matched(source, received) is None
    if sender.table["scheme"] not in ("sns", "microsoft-graph"):
        assert await matched(source, Received({}, genuine.body, genuine.query)) is None


@each_sender
async def test_the_senders_own_id_of_a_delivery_is_found(sender: Sender, tmp_path: Path) -> None:
    genuine = sender.send(sender.key, NOW_S)
    body = {} if b"CallSid" in genuine.body else json.loads(genuine.body)
    assert sender.open(tmp_path).verifier.delivery_id(genuine.headers, body) == sender.id


@pytest.mark.parametrize(
    "body", [None, [], {}, "text", 5, b"\xff", {"id": 5, "event_id": None, "event": [], "data": "x", "MessageId": {}}]
)
@each_sender
async def test_without_an_id_of_the_sender_there_is_none(sender: Sender, body: Any, tmp_path: Path) -> None:
    assert sender.open(tmp_path).verifier.delivery_id({}, body) is None


@each_timed
async def test_the_window_for_replays_is_open_as_long_to_either_side(sender: Sender, tmp_path: Path) -> None:
    assert sender.tolerance_s
    source, tolerance_s = sender.open(tmp_path), sender.tolerance_s
    for off_s in (-tolerance_s - 1, -tolerance_s, 0, tolerance_s, tolerance_s + 1):
        name = await matched(source, sender.send(sender.key, NOW_S + off_s))
        assert (name is not None) is (abs(off_s) <= tolerance_s), off_s


@each_timed
async def test_the_window_can_be_set(sender: Sender, tmp_path: Path) -> None:
    narrow = Sender(**{**vars(sender), "table": {**sender.table, "tolerance_s": 10}})
    source = narrow.open(tmp_path)
    for off_s, is_in_time in ((-11, False), (-10, True), (10, True), (11, False)):
        name = await matched(source, sender.send(sender.key, NOW_S + off_s))
        assert (name is not None) is is_in_time, off_s


@each_with_secrets
async def test_each_of_several_secrets_is_taken_and_named_whatever_their_order(sender: Sender, tmp_path: Path) -> None:
    verify = sender.verify(tmp_path)
    genuine, foreign = sender.send(sender.key, NOW_S), sender.send(sender.other_key, NOW_S)
    ours, other = str(sender.secret), sender.other_secret
    for secrets, name, name_of_foreign in (
        ((ours, other), FIRST, SECOND),
        ((other, ours), SECOND, FIRST),
        ((ours,), FIRST, None),
        ((other,), None, FIRST),
    ):
        source = webhook(verify, *secrets)
        assert await matched(source, genuine) == name
        assert await matched(source, foreign) == name_of_foreign


# At the door

ELSEWHERE = ("sns", "mtls")
"""Schemes that need more than a sender: see their own tests."""


@pytest.mark.parametrize("sender", [one for one in SENDERS if one.table["scheme"] not in ELSEWHERE], ids=str)
async def test_the_door_takes_a_genuine_request_once_and_no_other(
    sender: Sender, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_secrets(monkeypatch, *sender.secrets)
    async with open_for(engine, tmp_path, table_of(sender.verify(tmp_path), *sender.secrets)) as door:
        now_s = int(time.time())
        genuine, foreign = sender.send(sender.key, now_s), sender.send(sender.other_key, now_s)
        answers = [await deliver(door, received) for received in (foreign, genuine, genuine, foreign)]
        assert [answer.status for answer in answers] == [401, 202, 200, 401]
        assert set(answers[0].json) == {"reason"}
