"""Sources of several parts, over a real engine: positions, epochs, wholes, poison, and what one bad event may stop."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from lhd.core.commands import deliveries, events
from lhd.engine import Engine
from lhd.errors import Rejection
from lhd.plugin import Event, Poisoned, SourceContext, Transient
from lhd.sources.runner import State
from tests.sources.test_runner import Once, Supervisor, rows, signal, supervised, until, until_state


@pytest.fixture
async def supervisor(engine: Engine, tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with supervised(engine, tmp_path) as supervisor:
        yield supervisor


def value(number: int, run: str = "r") -> Event:
    return replace(signal(number), body={"to": "run", "run": run, "value": str(number)})


async def test_positions_are_kept_by_part_over_a_restart_and_none_forgets_one(supervisor: Supervisor) -> None:
    again = Once()

    async def first(context: SourceContext) -> None:
        await context.commit([signal(1)], positions={"a": 1, "b": {"x": [1]}, "c": 3})
        await context.commit([], positions={"c": None}, cursor="whole")
        raise Transient("again", after_s=0.01)

    await supervisor.start(first, again)
    await until(again.reached)
    context = again.context
    assert await context.positions() == {"a": 1, "b": {"x": [1]}}
    assert await context.position("b") == {"x": [1]}
    assert await context.position("c") is None
    assert context.cursor == "whole"


async def test_positions_can_be_asked_for_by_name_and_in_pages(supervisor: Supervisor) -> None:
    once = Once()
    await supervisor.start(once)
    await until(once.reached)
    await once.context.commit([], positions={name: name for name in "dcab"})
    assert list(await once.context.positions()) == ["a", "b", "c", "d"]
    assert list(await once.context.positions(after="b", limit=1)) == ["c"]
    assert await once.context.positions(["a", "x"]) == {"a": "a"}


async def test_a_reset_begins_anew_and_what_was_brought_is_a_duplicate(supervisor: Supervisor) -> None:
    first, second = Once(), Once()
    runner = await supervisor.start(first, second)
    await until(first.reached)
    await first.context.commit([signal(1)], cursor=1, positions={"a": 1})
    assert await runner.reset(new_epoch=False) == 0
    await until(second.reached)
    assert (second.context.cursor, await second.context.positions(), second.context.epoch()) == (None, {}, 0)
    (receipt,) = await second.context.commit([signal(1)])
    assert receipt.verdict == "duplicate"


async def test_a_new_epoch_is_seen_by_the_next_run_and_kept(supervisor: Supervisor) -> None:
    runs = [Once() for _ in range(3)]
    runner = await supervisor.start(*runs)
    await until(runs[0].reached)
    assert runs[0].context.epoch() == 0
    assert await runner.reset(new_epoch=True) == 1
    await until(runs[1].reached)
    assert runs[1].context.epoch() == 1
    assert await runner.reset(new_epoch=False) == 1
    await until(runs[2].reached)
    assert runs[2].context.epoch() == 1


async def test_a_part_can_be_reset_and_the_others_stay_where_they_are(supervisor: Supervisor) -> None:
    first, second, third = Once(), Once(), Once()
    runner = await supervisor.start(first, second, third)
    await until(first.reached)
    await first.context.commit([], cursor=1, positions={"a/0": 1, "a/1": 2, "b/0": 3, "ab": 4})
    with pytest.raises(Rejection, match="no part 'c'"):
        await runner.reset("c", new_epoch=True)
    await until(second.reached)
    assert await runner.reset("a", new_epoch=True) == 1
    await until(third.reached)
    assert await third.context.positions() == {"ab": 4, "b/0": 3}
    assert [third.context.epoch(part) for part in ("", "a", "b")] == [0, 1, 0]
    assert third.context.cursor == 1


async def test_a_reset_starts_a_source_that_waits_for_its_next_try_at_once(supervisor: Supervisor) -> None:
    again = Once()

    async def away(_: SourceContext) -> None:
        raise Transient("away", after_s=3600)

    runner = await supervisor.start(away, again)
    await until_state(runner, State.FAULTED)
    await runner.reset(new_epoch=False)
    await until(again.reached)


async def test_what_a_source_reports_is_its_reason_while_it_runs(supervisor: Supervisor) -> None:
    once = Once()
    runner = await supervisor.start(once)
    await until(once.reached)
    once.context.report("the disk is full")
    assert (runner.state, runner.reason) == (State.RUNNING, "the disk is full")
    once.context.report("")
    assert runner.reason == ""


async def test_positions_of_events_are_kept_with_those_that_are_stored(supervisor: Supervisor) -> None:
    once = Once()
    await supervisor.start(once)
    await until(once.reached)
    good, dead = replace(signal(1), positions={"a": 1}), Event({"to": "run"}, id=2, positions={"b": 1})
    receipts = await once.context.commit([good, dead])
    assert [receipt.verdict for receipt in receipts] == ["accepted", "dead"]
    assert await once.context.positions() == {"a": 1}
    with pytest.raises(ValueError, match="not empty"):
        await once.context.commit([replace(signal(3), positions={"": 1})])


async def test_a_whole_with_a_dead_event_stores_nothing_and_says_which_one(
    supervisor: Supervisor, engine: Engine
) -> None:
    once = Once()
    await supervisor.start(once)
    await until(once.reached)
    with pytest.raises(Poisoned) as caught:
        await once.context.commit([signal(1), Event({"to": "run"}, id=2)], positions={"a": 1}, whole=True)
    assert caught.value.number == 1
    assert "there is no 'value'" in caught.value.reason
    assert await rows(engine, "SELECT * FROM ledger") == []
    assert await once.context.positions() == {}
    receipts = await once.context.commit([signal(1), signal(2)], whole=True)
    assert [receipt.verdict for receipt in receipts] == ["accepted", "accepted"]


async def test_poison_is_dead_and_what_nobody_wants_is_filtered_whatever_the_routes_say(
    supervisor: Supervisor, engine: Engine
) -> None:
    once = Once()
    await supervisor.start(once)
    await until(once.reached)
    poison = replace(signal(1), raw=b"the bytes", poison="it is not JSON")
    unwanted = replace(signal(2), unwanted="a tombstone")
    lost = Event(None, id=3, poison="it is gone")
    receipts = await once.context.commit([poison, unwanted, lost])
    assert [(receipt.verdict, receipt.reason) for receipt in receipts] == [
        ("dead", "it is not JSON"),
        ("filtered", "a tombstone"),
        ("dead", "it is gone"),
    ]
    letters = await rows(engine, "SELECT reason, body, is_cut FROM dead_letter ORDER BY reason")
    assert [(reason, cut) for reason, _, cut in letters] == [("it is gone", 1), ("it is not JSON", 0)]
    assert letters[1][1] == b"the bytes"


async def test_an_event_that_meets_a_bug_is_buried_and_stops_no_other(
    supervisor: Supervisor, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = events.put_external_event

    def put_or_fail(tx: object, tenant: str, request: object, origin: str | None = None) -> object:
        if "bug" in str(request):
            raise ZeroDivisionError("a bug")
        return put(tx, tenant, request, origin)  # type: ignore[arg-type]

    monkeypatch.setattr(deliveries, "put_external_event", put_or_fail)
    once = Once()
    await supervisor.start(once)
    await until(once.reached)
    batch = [value(1), value(2, run="bug"), value(3)]
    with pytest.raises(Transient):
        await once.context.commit(batch, positions={"a": 3})
    assert await rows(engine, "SELECT * FROM ledger") == []
    receipts = await once.context.commit(batch, positions={"a": 3}, bury=True)
    assert [receipt.verdict for receipt in receipts] == ["accepted", "dead", "accepted"]
    assert "bug in lhd" in receipts[1].reason
    assert await once.context.positions() == {"a": 3}
    (receipt,) = await once.context.commit([value(4, run="bug")], positions={"a": 4}, bury=True)
    assert receipt.verdict == "dead"
    assert await once.context.position("a") == 4


async def test_a_library_that_cancels_what_a_source_waits_for_ends_that_run_only(supervisor: Supervisor) -> None:
    again = Once()

    async def cancelled_from_within(_: SourceContext) -> None:
        raise asyncio.CancelledError

    runner = await supervisor.start(cancelled_from_within, again)
    with anyio.fail_after(30):
        await again.reached.wait()
    assert (runner.state, runner.restarts) == (State.RUNNING, 1)
