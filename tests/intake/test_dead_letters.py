"""Dead letters: what is kept of a delivery, and that no credential ever is."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.intake.behind import PATH, House, open_house
from tests.webhook.door import ensure_events, open_door

UNKNOWN = 'event = "no-such-event"\nwf_run = "\'r\'"'
CREDENTIAL = "hunter2-and-more"

CREDENTIALS = [
    pytest.param({"authorization": f"Bearer {CREDENTIAL}"}, "", id="Authorization"),
    pytest.param({"Authorization": "Basic " + base64.b64encode(b"a:" + CREDENTIAL.encode()).decode()}, "", id="Basic"),
    pytest.param({"cookie": f"session={CREDENTIAL}"}, "", id="Cookie"),
    pytest.param({"x-gitlab-token": CREDENTIAL}, "", id="X-Gitlab-Token"),
    pytest.param({}, f"?access_token={CREDENTIAL}", id="access_token"),
]


def everything_in(folder: Path) -> bytes:
    """All bytes of the store."""
    return b"".join(path.read_bytes() for path in folder.glob("lhd.sqlite*"))


async def columns(house: House) -> list[dict[str, Any]]:
    """The dead letters with their columns."""
    names = [name for (name,) in await house.rows("pragma_table_info('dead_letter')", "name")]
    return [dict(zip(names, row, strict=True)) for row in await house.rows("dead_letter")]


@pytest.mark.parametrize(("headers", "query"), CREDENTIALS)
async def test_a_credential_is_never_stored(tmp_path: Path, headers: dict[str, str], query: str) -> None:
    async with open_house(tmp_path, UNKNOWN) as house:
        sent = {"content-type": "application/json", "x-other": "kept-beside-it", **headers}
        answer = await house.door.send("POST", PATH + query, b'{"kept": "body"}', sent)
        assert (answer.status, answer.json["verdict"]) == (422, "dead")
        stored = everything_in(tmp_path / "data")
        assert b"kept-beside-it" in stored
        for secret in (CREDENTIAL.encode(), *(base64.b64encode(p + CREDENTIAL.encode()) for p in (b"a:", b""))):
            assert secret not in stored


BEARER = """
[[event]]
name = "approved"

[sources.bearer]
kind = "webhook"
path = "/hooks/in"
verify = { scheme = "bearer", header = "X-Api-Key", prefix = "", secrets = [{ env = "API_KEY" }] }

[[sources.bearer.routes]]
name = "reads the key"
when = "headers['x-api-key'] != ''"
event = "approved"
wf_run = "'leaks'"

[[sources.bearer.routes]]
event = "no-such-event"
wf_run = "'r'"
"""


async def test_the_header_of_a_bearer_scheme_reaches_no_route_and_no_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", CREDENTIAL)
    async with open_house(tmp_path, UNKNOWN) as house:
        await ensure_events(house.engine, BEARER)
        async with open_door(house.engine, tmp_path, BEARER) as door:
            headers = {"content-type": "application/json", "x-api-key": CREDENTIAL, "x-other": "kept-beside-it"}
            answer = await door.send("POST", PATH, b'{"kept": "body"}', headers)
        assert (answer.status, answer.json["verdict"]) == (422, "dead")
        stored = everything_in(tmp_path / "data")
        assert b"kept-beside-it" in stored
        assert CREDENTIAL.encode() not in stored


@pytest.mark.parametrize("header", ["authorization", "cookie", "x-gitlab-token"])
async def test_no_route_sees_a_credential(tmp_path: Path, header: str) -> None:
    route = f"when = \"headers['{header}'] != ''\"\n" + 'event = "approved"\nwf_run = "\'r\'"\ncontent = "\'x\'"'
    async with open_house(tmp_path, route) as house:
        assert (await house.deliver({}, **{header: CREDENTIAL})).json["verdict"] == "filtered"


async def test_a_letter_keeps_the_bytes_as_they_came(tmp_path: Path) -> None:
    async with open_house(tmp_path, UNKNOWN) as house:
        body = b'{"b": 1.0, "a":\t[1,2] ,"b": "gr\xc3\xbc\xc3\x9fe"}\n'
        await house.door.send("POST", PATH, body, {"content-type": "application/json; charset=utf-8"})
        (letter,) = await columns(house)
        assert letter["body"] == body


async def test_a_letter_counts_the_deliveries_of_one_identity_only(tmp_path: Path) -> None:
    async with open_house(tmp_path, UNKNOWN) as house:
        for delivery in ("a", "b", "a", "a"):
            await house.deliver({}, delivery)
        assert sorted(letter["count"] for letter in await columns(house)) == [1, 3]


@pytest.mark.parametrize("second", [{"value": 2}, {"value": 1}])
async def test_a_dead_delivery_whose_body_has_changed_counts_as_the_same_letter_until_it_is_accepted(
    tmp_path: Path, second: dict[str, int]
) -> None:
    async with open_house(tmp_path, 'event = "approved"\nwf_run = "body.run"\ncontent = "\'x\'"') as house:
        first = await house.deliver({"value": 1}, "d")
        again = await house.deliver(second, "d")
        assert [answer.json["verdict"] for answer in (first, again)] == ["dead", "dead"]
        accepted = await house.deliver({"run": "r"}, "d")
        assert accepted.json["verdict"] == "accepted"
        assert {answer.json["id"] for answer in (first, again, accepted)} == {first.json["id"]}
        assert await columns(house) == []


async def test_a_reason_never_holds_a_value_of_the_body(tmp_path: Path) -> None:
    route = 'event = "approved"\nwf_run = "body.run"\ncontent = "int(body.value)"\nid = "[body.value]"'
    async with open_house(tmp_path, route) as house:
        for body in ({"run": CREDENTIAL + " !", "value": "1"}, {"run": "r", "value": CREDENTIAL}):
            answer = await house.deliver(body)
            assert answer.json["verdict"] == "dead"
            assert CREDENTIAL not in json.dumps(answer.json)
