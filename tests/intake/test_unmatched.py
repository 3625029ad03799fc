"""``on_unmatched`` and ``on_expired``: what becomes of an event for which nobody waits, or that nobody took in time."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from littlehorse.model import (
    CorrelatedEventId,
    DeleteCorrelatedEventRequest,
    DeleteWfRunRequest,
    ExternalEventDefId,
    ExternalEventRetentionPolicy,
    LHStatus,
    PutExternalEventDefRequest,
    StopWfRunRequest,
    WfRunId,
)
from littlehorse.workflow import WorkflowThread

from tests.intake.behind import Clock, House, open_house, until
from tests.webhook.door import Answer

KEYED = 'event = "keyed"\nkey = "body.to"\ncontent = "body.value"\n'
TARGETED = 'event = "approved"\nwf_run = "body.to"\ncontent = "body.value"\n'
STARTS = 'start = { wf_spec = "by-key", variables = "{\'key\': body.to}" }\n'
STARTS_NAMED = STARTS.replace("variables", 'id = "body.to", variables')
TARGETS = {"key": KEYED, "run": TARGETED}
TTL_S = 60
"""How long an event ``keyed`` lives, and one ``fleeting`` without a run."""

by_target = pytest.mark.parametrize("target", TARGETS)


def signal(to: str = "r", value: Any = "yes") -> dict[str, Any]:
    return {"to": to, "value": value}


def verdict(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["verdict"]


async def start(house: House, target: str) -> None:
    """The run ``r``, which waits for the signal."""
    if target == "key":
        await house.run("by-key", "r", key="r")
    else:
        await house.run("by-run", "r")


async def runs(house: House) -> set[str]:
    return {run for (run,) in await house.rows("wf_run", "run")}


async def letters(house: House) -> list[str]:
    return [delivery for (delivery,) in await house.rows("dead_letter", "delivery_id")]


async def events(house: House) -> int:
    return len(await house.rows("external_event")) + len(await house.rows("correlated_event"))


# on_unmatched


@pytest.mark.parametrize("unmatched", ["", 'on_unmatched = "store"\n'])
@by_target
async def test_stored_events_wait_for_their_run(tmp_path: Path, target: str, unmatched: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + unmatched) as house:
        assert verdict(await house.deliver(signal())) == (202, "accepted")
        assert await house.rows("ledger", "outcome") == [("waiting",)]
        await start(house, target)
        assert await house.output("r") == "yes"


@by_target
async def test_dead_where_nobody_waits(tmp_path: Path, target: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + 'on_unmatched = "dead"\n') as house:
        answer = await house.deliver(signal(value="hunter2"))
        assert verdict(answer) == (422, "dead")
        assert answer.json["reason"]
        assert "hunter2" not in answer.json["reason"]
        assert await letters(house) == [answer.json["id"]]
        assert await events(house) == 0


@by_target
async def test_not_dead_where_a_run_waits(tmp_path: Path, target: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + 'on_unmatched = "dead"\n') as house:
        await start(house, target)
        assert verdict(await house.deliver(signal())) == (202, "accepted")
        assert await house.output("r") == "yes"
        assert await letters(house) == []


@by_target
async def test_what_was_dead_is_accepted_under_its_id_once_a_run_waits(tmp_path: Path, target: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + 'on_unmatched = "dead"\n') as house:
        first = await house.deliver(signal(), "d")
        await start(house, target)
        again = await house.deliver(signal(), "d")
        assert verdict(again) == (202, "accepted")
        assert again.json["id"] == first.json["id"]
        assert await house.output("r") == "yes"
        assert await letters(house) == []


@pytest.mark.parametrize("how", ["completed", "deleted"])
async def test_dead_where_the_run_has_ended_or_is_gone(tmp_path: Path, how: str) -> None:
    async with open_house(tmp_path, TARGETED + 'on_unmatched = "dead"\n') as house:
        await start(house, "run")
        if how == "completed":
            await house.put_event("approved", "r", "by API")
        else:
            await house.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert verdict(await house.deliver(signal())) == (422, "dead")


@by_target
async def test_a_run_that_is_stopped_still_waits(tmp_path: Path, target: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + 'on_unmatched = "dead"\n') as house:
        await start(house, target)
        await house.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r")))
        assert verdict(await house.deliver(signal())) == (202, "accepted")


async def test_a_run_whose_node_does_not_wait_yet_is_a_match_for_its_id_and_none_for_a_key(tmp_path: Path) -> None:
    def later(thread: WorkflowThread) -> None:
        thread.wait_for_event("go")
        thread.wait_for_event("approved")
        thread.complete(thread.wait_for_event("keyed", correlation_id="r"))

    unmatched = 'on_unmatched = "dead"\n'
    by_value = "when = \"body.value == 'by key'\"\n"
    async with open_house(tmp_path, by_value + KEYED + unmatched, TARGETED + unmatched) as house:
        await house.register("later", later)
        await house.run("later", "r")
        assert verdict(await house.deliver(signal())) == (202, "accepted")
        assert verdict(await house.deliver(signal(value="by key"))) == (422, "dead")
        await house.put_event("go", "r")
        assert verdict(await house.deliver(signal(value="by key"))) == (202, "accepted")
        assert await house.output("r") == "by key"


@pytest.mark.parametrize("starts", [STARTS, STARTS_NAMED])
async def test_start_starts_a_run_that_gets_the_event(tmp_path: Path, starts: str) -> None:
    async with open_house(tmp_path, KEYED + starts + 'on_unmatched = "start"\n') as house:
        answer = await house.deliver(signal())
        assert verdict(answer) == (202, "accepted")
        run = "r" if starts == STARTS_NAMED else answer.json["id"]
        assert await runs(house) == {run}
        assert await house.output(run) == "yes"
        assert await house.rows("ledger", "outcome") == [("delivered",)]
        assert await house.rows("correlated_event") == []


async def test_start_starts_nothing_where_a_run_waits(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED + STARTS + 'on_unmatched = "start"\n') as house:
        await start(house, "key")
        assert verdict(await house.deliver(signal())) == (202, "accepted")
        assert await runs(house) == {"r"}
        assert await house.output("r") == "yes"


async def test_a_duplicate_of_what_started_a_run_starts_none(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYED + STARTS + 'on_unmatched = "start"\n') as house:
        assert verdict(await house.deliver(signal(), "d")) == (202, "accepted")
        assert verdict(await house.deliver(signal(), "d")) == (200, "duplicate")
        assert len(await runs(house)) == 1


async def test_deliveries_at_once_start_a_run_each_that_gets_its_own_event(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {}
    async with open_house(tmp_path, KEYED + STARTS + 'on_unmatched = "start"\n') as house:

        async def send(value: str) -> None:
            answers[value] = await house.deliver(signal(value=value))

        async with anyio.create_task_group() as senders:
            for number in range(8):
                senders.start_soon(send, f"{number}")
        assert {verdict(answer) for answer in answers.values()} == {(202, "accepted")}
        assert {value: await house.output(answer.json["id"]) for value, answer in answers.items()} == {
            value: value for value in answers
        }


async def test_where_the_run_cannot_be_started_the_event_is_dead_and_not_stored(tmp_path: Path) -> None:
    starts = STARTS.replace("by-key", "none-such")
    async with open_house(tmp_path, KEYED + starts + 'on_unmatched = "start"\n') as house:
        answer = await house.deliver(signal())
        assert verdict(answer) == (422, "dead")
        assert "none-such" in answer.json["reason"]
        assert await events(house) == 0


# on_expired


async def define_fleeting(house: House) -> None:
    """The event ``fleeting``, which is kept for a minute where nobody takes it."""
    policy = ExternalEventRetentionPolicy(seconds_after_put=TTL_S)
    await house.submit(PutExternalEventDefRequest(name="fleeting", retention_policy=policy))

    def entrypoint(thread: WorkflowThread) -> None:
        thread.complete(thread.wait_for_event("fleeting"))

    await house.register("by-fleeting", entrypoint)


FLEETING = 'event = "fleeting"\nwf_run = "body.to"\ncontent = "body.value"\n'
STARTS_FLEETING = 'start = { wf_spec = "by-fleeting", id = "body.to" }\n'
EXPIRING = {"ttl_s of a key": (KEYED, STARTS_NAMED), "retention of an event": (FLEETING, STARTS_FLEETING)}

by_expiry = pytest.mark.parametrize(("route", "starts"), EXPIRING.values(), ids=EXPIRING)


@pytest.mark.parametrize("expired", ["", 'on_expired = "store"\n'])
@by_expiry
async def test_stored_the_ledger_says_expired(tmp_path: Path, route: str, starts: str, expired: str) -> None:
    clock = Clock()
    async with open_house(tmp_path, route + expired, clock=clock) as house:
        await define_fleeting(house)
        assert verdict(await house.deliver(signal(), "d")) == (202, "accepted")
        await house.pass_time(clock, TTL_S - 1)
        assert await house.rows("ledger", "outcome") == [("waiting",)]
        await house.pass_time(clock, 2)
        await house.until_outcome("expired")
        assert await events(house) == 0
        assert await letters(house) == []
        assert verdict(await house.deliver(signal(), "d")) == (200, "duplicate")


@by_expiry
async def test_dead_it_becomes_a_dead_letter_that_the_sender_can_deliver_again(
    tmp_path: Path, route: str, starts: str
) -> None:
    clock = Clock()
    async with open_house(tmp_path, route + 'on_expired = "dead"\n', clock=clock) as house:
        await define_fleeting(house)
        first = await house.deliver(signal(), "d")
        assert verdict(first) == (202, "accepted")
        await house.pass_time(clock, TTL_S - 1)
        assert await letters(house) == []
        await house.pass_time(clock, 2)
        await until_letter(house, first.json["id"])
        assert await events(house) == 0
        again = await house.deliver(signal(), "d")
        assert verdict(again) == (202, "accepted")
        assert again.json["id"] == first.json["id"]
        assert await letters(house) == []


async def until_letter(house: House, delivery: str) -> None:
    async def is_there() -> bool:
        return await letters(house) == [delivery]

    await until(is_there)


async def is_started(house: House) -> bool:
    return await runs(house) == {"r"}


@by_expiry
async def test_start_starts_a_run_that_gets_the_event_when_its_time_is_up(
    tmp_path: Path, route: str, starts: str
) -> None:
    clock = Clock()
    async with open_house(tmp_path, route + starts + 'on_expired = "start"\n', clock=clock) as house:
        await define_fleeting(house)
        assert verdict(await house.deliver(signal())) == (202, "accepted")
        await house.pass_time(clock, TTL_S - 1)
        assert await runs(house) == set()
        await house.pass_time(clock, 2)
        await until(lambda: is_started(house))
        assert await house.output("r") == "yes"
        assert await letters(house) == []


@pytest.mark.parametrize("expired", ["dead", "start"])
@by_expiry
async def test_an_event_that_was_taken_in_time_is_left_alone(
    tmp_path: Path, route: str, starts: str, expired: str
) -> None:
    clock = Clock()
    table = route + f'on_expired = "{expired}"\n' + (starts if expired == "start" else "")
    async with open_house(tmp_path, table, clock=clock) as house:
        await define_fleeting(house)
        await house.deliver(signal())
        if route == KEYED:
            await house.run("by-key", "other", key="r")
        else:
            await house.run("by-fleeting", "r")
        await house.pass_time(clock, 10 * TTL_S)
        assert await house.rows("ledger", "outcome") == [("delivered",)]
        assert await letters(house) == []
        assert len(await runs(house)) == 1


async def test_an_event_that_an_operator_deletes_is_not_dead(tmp_path: Path) -> None:
    clock = Clock()
    async with open_house(tmp_path, KEYED + 'on_expired = "dead"\n', clock=clock) as house:
        await house.deliver(signal())
        event = CorrelatedEventId(key="r", external_event_def_id=ExternalEventDefId(name="keyed"))
        await house.submit(DeleteCorrelatedEventRequest(id=event))
        await house.pass_time(clock, 10 * TTL_S)
        assert await house.rows("ledger", "outcome") == [("deleted",)]
        assert await letters(house) == []


async def test_an_expired_event_whose_run_cannot_be_started_is_a_dead_letter(tmp_path: Path) -> None:
    clock = Clock()
    starts = STARTS.replace("by-key", "none-such")
    async with open_house(tmp_path, KEYED + starts + 'on_expired = "start"\n', clock=clock) as house:
        answer = await house.deliver(signal())
        assert verdict(answer) == (202, "accepted")
        await house.pass_time(clock, TTL_S + 1)
        await until_letter(house, answer.json["id"])
        assert await runs(house) == set()


async def test_unmatched_and_expired_can_differ(tmp_path: Path) -> None:
    clock = Clock()
    table = KEYED + STARTS_NAMED + 'on_unmatched = "store"\non_expired = "start"\n'
    async with open_house(tmp_path, table, clock=clock) as house:
        await house.deliver(signal())
        assert await runs(house) == set()
        await house.pass_time(clock, TTL_S + 1)
        await until(lambda: is_started(house))


# Restarts

Fact = Callable[[House], Awaitable[bool]]


async def is_dead(house: House) -> bool:
    return len(await letters(house)) == 1 and await events(house) == 0


async def has_its_event(house: House) -> bool:
    run = await house.wf_run("r")
    return run is not None and run.status == LHStatus.COMPLETED


@pytest.mark.parametrize(("expired", "fact"), [("dead", is_dead), ("start", has_its_event)])
@by_expiry
async def test_what_expires_while_the_daemon_is_away_is_seen_to_when_it_is_back(
    tmp_path: Path, route: str, starts: str, expired: str, fact: Fact
) -> None:
    clock = Clock()
    table = route + f'on_expired = "{expired}"\n' + (starts if expired == "start" else "")
    async with open_house(tmp_path, table, clock=clock) as house:
        await define_fleeting(house)
        assert verdict(await house.deliver(signal(), "d")) == (202, "accepted")
    clock.ms += (TTL_S + 1) * 1000
    async with open_house(tmp_path, table, clock=clock) as house:
        await until(lambda: fact(house))


@by_expiry
async def test_what_has_time_left_after_a_restart_expires_when_its_time_is_up(
    tmp_path: Path, route: str, starts: str
) -> None:
    clock = Clock()
    table = route + 'on_expired = "dead"\n'
    async with open_house(tmp_path, table, clock=clock) as house:
        await define_fleeting(house)
        answer = await house.deliver(signal())
    clock.ms += 30_000
    async with open_house(tmp_path, table, clock=clock) as house:
        assert await letters(house) == []
        await house.pass_time(clock, TTL_S)
        await until_letter(house, answer.json["id"])


@by_target
async def test_a_dead_letter_outlives_a_restart_and_is_accepted_afterwards(tmp_path: Path, target: str) -> None:
    table = TARGETS[target] + 'on_unmatched = "dead"\n'
    async with open_house(tmp_path, table) as house:
        first = await house.deliver(signal(), "d")
    async with open_house(tmp_path, table) as house:
        assert await letters(house) == [first.json["id"]]
        await start(house, target)
        again = await house.deliver(signal(), "d")
        assert (verdict(again), again.json["id"]) == ((202, "accepted"), first.json["id"])
