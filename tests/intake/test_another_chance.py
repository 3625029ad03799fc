"""Events that nobody took, and the runs and letters that follow: nothing is lost on the way, nothing doubled."""

import json
from pathlib import Path

from lhd.intake import dead_letters
from tests.intake.behind import PATH, Clock, open_house, until
from tests.webhook.door import TENANT

TTL_S = 60
KEYED = 'event = "keyed"\nkey = "body.to"\ncontent = "body.value"\n'
STARTS = 'start = { wf_spec = "by-key", id = "body.to", variables = "{\'key\': body.to}" }\n'
FRUITLESS = 'start = { wf_spec = "by-run", id = "body.to" }\n'
SIGNAL = {"to": "r", "value": "yes"}


async def test_an_event_for_a_run_of_this_id_that_has_ended_is_dead_and_says_so(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED + STARTS + 'on_unmatched = "start"\n') as house:
        first, second = [await house.deliver(SIGNAL) for _ in range(2)]
        assert await house.output("r") == "yes"
        assert (first.status, second.status) == (202, 422)
        assert second.json["reason"] == "the WfRun of start.id has ended"


async def test_an_expired_event_for_a_run_of_this_id_that_has_ended_is_a_dead_letter(tmp_path: Path) -> None:
    clock = Clock()
    async with open_house(tmp_path, KEYED + STARTS + 'on_expired = "start"\n', clock=clock) as house:
        await house.run("by-key", "r", key="other")
        await house.deliver({"to": "other", "value": "x"})
        answer = await house.deliver(SIGNAL)
        await house.pass_time(clock, TTL_S + 1)
        assert await house.rows("dead_letter", "delivery_id") == [(answer.json["id"],)]


async def test_an_event_that_expires_again_after_its_run_was_started_is_a_dead_letter(tmp_path: Path) -> None:
    clock = Clock()
    async with open_house(tmp_path, KEYED + FRUITLESS + 'on_expired = "start"\n', clock=clock) as house:
        answer = await house.deliver(SIGNAL)
        await house.pass_time(clock, TTL_S + 1)
        assert await house.wf_run("r") is not None
        assert await house.rows("dead_letter") == []
        assert await house.rows("ledger", "outcome") == [("waiting",)]
        await house.pass_time(clock, TTL_S + 1)
        assert await house.rows("dead_letter", "delivery_id") == [(answer.json["id"],)]
        assert await house.rows("ledger", "outcome") == [("expired",)]
        assert await house.rows("wf_run", "run") == [("r",)]


async def test_what_was_planned_for_an_event_is_forgotten_when_it_is_taken(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED + 'on_expired = "dead"\n') as house:
        await house.deliver(SIGNAL)
        assert len(await house.rows("expiry_plan")) == 1
        await house.run("by-key", "r", key="r")
        assert await house.rows("expiry_plan") == []


async def test_what_was_planned_does_not_stay_in_memory(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED + 'on_expired = "dead"\n') as house:
        for number in range(20):
            await house.deliver({"to": f"key-{number}", "value": "yes"})
        lanes = {lane.name for lane in house.engine._memory._lanes}
        assert "correlation" in lanes
        assert "expiry_plan" not in lanes


async def test_a_letter_with_a_header_that_is_no_text_can_be_shown_and_retried(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED.replace("body.to", "body.missing")) as house:
        body = json.dumps(SIGNAL).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: lhd\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        await house.door.send_raw(head.encode() + b"X-Odd: \xff\xfe\r\n\r\n" + body)

        async def is_there() -> bool:
            return len(await house.rows("dead_letter")) == 1

        await until(is_there)
        ((delivery_id,),) = await house.rows("dead_letter", "delivery_id")
        reader = await house.engine.store.reader()
        found = await dead_letters.find(reader, TENANT, delivery_id)
        await reader.close()
        assert found is not None
        shown = dead_letters.shown(found.source, found.letter)
        assert json.loads(shown["body"]) == SIGNAL
        json.dumps(shown, ensure_ascii=False).encode()
