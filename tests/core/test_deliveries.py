"""What becomes of the signals that a source brings: verdicts, dead letters, outcomes, cursor and dedupe window."""

from dataclasses import replace
from typing import Any

import pytest
from littlehorse.model import (
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    ExternalEventDefId,
    PutCorrelatedEventRequest,
    VariableType,
    WfRunId,
)

from lhd.core import kinds
from lhd.core.commands.deliveries import WHOLE, Decision, Deliver, Delivery, DropDeadLetter, ResetSource
from lhd.core.kinds import DeadLetter, Outcome, Verdict
from lhd.core.settings import Settings
from tests.core.ledger import LedgerWorld, delivery, event, keyed, unmapped
from tests.core.shapes import (
    COMPLETED,
    RUNNING,
    event_exists,
    node,
    of_type,
    put,
    put_event_def,
    stored_correlated,
    wf_run,
)
from tests.core.world import TENANT

DAY_MS = 86_400_000


def prepared(settings: Settings | None = None) -> LedgerWorld:
    world = LedgerWorld(settings)
    put_event_def(world, "paid")
    put_event_def(world, "keyed", correlated=CorrelatedEventConfig(delete_after_first_correlation=True))
    put(world, lambda wf: wf.wait_for_event("paid"))
    put(world, lambda wf: wf.wait_for_event("keyed", correlation_id="k"), "waits-for-key")
    return world


@pytest.fixture
def world() -> LedgerWorld:
    return prepared()


class TestAccepted:
    def test_event_is_stored_and_the_ledger_tells_where_it_went(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(event("i"))
        assert decision.verdict == Verdict.ACCEPTED
        row = world.ledger[decision.delivery_id]
        assert row.verdict == Verdict.ACCEPTED
        assert row.outcome == Outcome.WAITING
        assert (row.tenant, row.source, row.identity, row.route) == (TENANT, "hook", "i", "the-route")
        assert (row.event_def, row.run, row.correlation_key) == ("paid", "r", None)
        assert row.received_ms == world.now_ms
        assert row.guid is not None
        assert event_exists(world, "paid", row.guid)

    def test_event_wakes_the_waiting_run_in_the_same_command(self, world: LedgerWorld) -> None:
        world.run("wf")
        decision = world.deliver_one(event("i", "the content"))
        assert wf_run(world).status == COMPLETED
        guid = node(world, 1).external_event.external_event_id.guid
        assert guid == world.ledger[decision.delivery_id].guid

    def test_correlated_event_is_stored_with_its_key(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(keyed("i", "owner:branch"))
        row = world.ledger[decision.delivery_id]
        assert row.verdict == Verdict.ACCEPTED
        assert (row.event_def, row.correlation_key, row.run) == ("keyed", "owner:branch", None)
        assert stored_correlated(world, "keyed", "owner:branch") is not None

    def test_correlated_event_wakes_the_waiting_run(self, world: LedgerWorld) -> None:
        world.run("waits-for-key")
        world.deliver_one(keyed("i"))
        assert wf_run(world).status == COMPLETED

    def test_key_that_the_rpc_bans_is_fine_here(self, world: LedgerWorld) -> None:
        put(world, lambda wf: wf.wait_for_event("keyed", correlation_id="owner/repo~1"), "slashed")
        world.run("slashed")
        assert world.deliver_one(keyed("i", "owner/repo~1")).verdict == Verdict.ACCEPTED
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize(("key", "verdict"), [("k" * 1024, Verdict.ACCEPTED), ("ä" * 513, Verdict.DEAD)])
    def test_key_holds_at_most_1024_bytes(self, world: LedgerWorld, key: str, verdict: Verdict) -> None:
        assert world.deliver_one(keyed("i", key)).verdict == verdict


class TestSeenBefore:
    def test_same_identity_and_body_is_a_duplicate(self, world: LedgerWorld) -> None:
        first = world.deliver_one(event("i"))
        rows = dict(world.ledger)
        again = world.deliver_one(event("i"))
        assert again == Decision(Verdict.DUPLICATE, first.delivery_id)
        assert world.ledger == rows
        assert len(world.memory.scan(kinds.EXTERNAL_EVENT, (TENANT, "r"))) == 1

    def test_duplicate_does_not_wake_a_second_node(self, world: LedgerWorld) -> None:
        def twice(wf: Any) -> None:
            wf.wait_for_event("paid")
            wf.wait_for_event("paid")

        put(world, twice, "twice")
        world.run("twice")
        world.deliver_one(event("i"))
        world.deliver_one(event("i"))
        assert node(world, 2).status == RUNNING

    def test_same_identity_and_other_body_is_a_conflict_with_a_row_of_its_own(self, world: LedgerWorld) -> None:
        first = world.deliver_one(event("i", body=b"one"))
        second = world.deliver_one(event("i", body=b"two"))
        assert second.verdict == Verdict.CONFLICT
        assert second.delivery_id != first.delivery_id
        assert world.ledger[second.delivery_id].verdict == Verdict.CONFLICT
        assert first.delivery_id in second.reason
        assert world.ledger[first.delivery_id].verdict == Verdict.ACCEPTED
        assert len(world.memory.scan(kinds.EXTERNAL_EVENT, (TENANT, "r"))) == 1

    def test_first_body_stays_the_known_one_after_a_conflict(self, world: LedgerWorld) -> None:
        world.deliver_one(event("i", body=b"one"))
        world.deliver_one(event("i", body=b"two"))
        assert world.deliver_one(event("i", body=b"one")).verdict == Verdict.DUPLICATE
        assert world.deliver_one(event("i", body=b"two")).verdict == Verdict.CONFLICT

    def test_identity_of_another_source_is_another_signal(self, world: LedgerWorld) -> None:
        world.deliver_one(event("i"), source="one")
        assert world.deliver_one(event("i"), source="two").verdict == Verdict.ACCEPTED

    def test_second_of_a_batch_is_a_duplicate_of_the_first(self, world: LedgerWorld) -> None:
        first, second = world.deliver(event("i"), event("i"))
        assert (first.verdict, second.verdict) == (Verdict.ACCEPTED, Verdict.DUPLICATE)
        assert first.delivery_id == second.delivery_id

    def test_duplicate_is_known_after_its_run_was_deleted(self, world: LedgerWorld) -> None:
        world.run("wf")
        world.deliver_one(event("i"))
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.deliver_one(event("i")).verdict == Verdict.DUPLICATE

    def test_identity_is_forgotten_after_the_dedupe_window(self, world: LedgerWorld) -> None:
        first = world.deliver_one(event("i"))
        world.now_ms += 14 * DAY_MS - 1
        assert world.deliver_one(event("i")).verdict == Verdict.DUPLICATE
        world.now_ms += 1
        again = world.deliver_one(event("i"))
        assert again.verdict == Verdict.ACCEPTED
        assert again.delivery_id != first.delivery_id

    def test_duplicate_does_not_lengthen_the_window(self) -> None:
        world = prepared(Settings(dedupe_ms=1000))
        world.deliver_one(event("i"))
        world.now_ms += 600
        assert world.deliver_one(event("i")).verdict == Verdict.DUPLICATE
        world.now_ms += 600
        assert world.deliver_one(event("i")).verdict == Verdict.ACCEPTED

    def test_other_body_is_no_conflict_after_the_window(self) -> None:
        world = prepared(Settings(dedupe_ms=1000))
        world.deliver_one(event("i", body=b"one"))
        world.now_ms += 1000
        assert world.deliver_one(event("i", body=b"two")).verdict == Verdict.ACCEPTED


class TestFiltered:
    def test_filtered_signal_has_a_ledger_row_and_no_event(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(unmapped("i", Verdict.FILTERED, "no route"))
        assert decision == Decision(Verdict.FILTERED, decision.delivery_id, "no route")
        row = world.ledger[decision.delivery_id]
        assert (row.verdict, row.reason, row.outcome, row.guid) == (Verdict.FILTERED, "no route", None, None)
        assert world.dead_letter("i") is None

    def test_filtered_signal_is_remembered(self, world: LedgerWorld) -> None:
        first = world.deliver_one(unmapped("i", Verdict.FILTERED))
        assert world.deliver_one(unmapped("i", Verdict.FILTERED)) == Decision(Verdict.DUPLICATE, first.delivery_id)
        assert world.deliver_one(unmapped("i", Verdict.FILTERED, body=b"x")).verdict == Verdict.CONFLICT


class TestDead:
    @pytest.mark.parametrize(
        "bad",
        [
            event("i", event_def="unknown", body=b"the bytes"),
            event("i", "no number", event_def="counted", body=b"the bytes"),
            unmapped("i", Verdict.DEAD, "the mapping failed", body=b"the bytes"),
        ],
        ids=["unknown event", "type", "mapping"],
    )
    def test_signal_that_cannot_be_stored_is_kept_with_its_bytes(self, world: LedgerWorld, bad: Delivery) -> None:
        put_event_def(world, "counted", of_type(VariableType.INT))
        decision = world.deliver_one(bad)
        assert decision.verdict == Verdict.DEAD
        assert decision.reason
        letter = world.dead_letter("i")
        assert letter == DeadLetter(
            delivery_id=decision.delivery_id,
            reason=decision.reason,
            first_ms=world.now_ms,
            last_ms=world.now_ms,
            count=1,
            body=b"the bytes",
            content_type="text/plain",
        )
        row = world.ledger[decision.delivery_id]
        assert (row.verdict, row.reason, row.outcome) == (Verdict.DEAD, decision.reason, None)

    def test_same_delivery_again_adds_to_the_count(self, world: LedgerWorld) -> None:
        first = world.deliver_one(unmapped("i", Verdict.DEAD, "first reason"))
        started_ms = world.now_ms
        world.now_ms += 1000
        rows = set(world.ledger)
        again = world.deliver_one(unmapped("i", Verdict.DEAD, "second reason"))
        assert again == Decision(Verdict.DEAD, first.delivery_id, "second reason")
        assert set(world.ledger) == rows
        letter = world.dead_letter("i")
        assert letter is not None
        assert (letter.count, letter.first_ms, letter.last_ms) == (2, started_ms, started_ms + 1000)
        assert letter.reason == "second reason"

    def test_letter_that_has_died_again_is_not_dropped_for_its_life_before(self, world: LedgerWorld) -> None:
        world.deliver_one(unmapped("i", Verdict.DEAD, "first reason"))
        world.deliver_one(unmapped("i", Verdict.DEAD, "second reason"))
        assert not world.submit(DropDeadLetter("hook", "i", count=1))
        assert world.dead_letter("i") is not None
        assert world.submit(DropDeadLetter("hook", "i", count=2))
        assert world.dead_letter("i") is None

    def test_dead_signal_is_not_remembered_and_can_succeed_later(self, world: LedgerWorld) -> None:
        dead = world.deliver_one(event("i", event_def="missing"))
        put_event_def(world, "missing")
        retried = world.deliver_one(event("i", event_def="missing"))
        assert retried.verdict == Verdict.ACCEPTED
        assert retried.delivery_id == dead.delivery_id
        assert world.dead_letter("i") is None
        assert world.ledger[retried.delivery_id].verdict == Verdict.ACCEPTED
        assert world.deliver_one(event("i", event_def="missing")).verdict == Verdict.DUPLICATE

    def test_dead_letter_keeps_a_limited_part_of_the_body(self) -> None:
        world = prepared(Settings(dead_letter_bytes_max=4))
        world.deliver_one(unmapped("i", Verdict.DEAD, body=b"0123456789"))
        letter = world.dead_letter("i")
        assert letter is not None
        assert letter.body == b"0123"

    def test_def_without_correlation_cannot_take_a_key(self, world: LedgerWorld) -> None:
        request = PutCorrelatedEventRequest(key="k", external_event_def_id=ExternalEventDefId(name="paid"))
        assert world.deliver_one(delivery("i", request, b"body")).verdict == Verdict.DEAD

    def test_dead_signal_does_not_reach_the_run(self, world: LedgerWorld) -> None:
        put_event_def(world, "counted", of_type(VariableType.INT))
        put(world, lambda wf: wf.wait_for_event("counted"), "counts")
        world.run("counts")
        assert world.deliver_one(event("i", "no number", event_def="counted")).verdict == Verdict.DEAD
        assert wf_run(world).status == RUNNING
        assert not world.memory.scan(kinds.EXTERNAL_EVENT, (TENANT, "r"))
        assert world.outcomes == {}


class TestBatch:
    def test_one_bad_signal_does_not_harm_the_others(self, world: LedgerWorld) -> None:
        world.run("wf", "first")
        world.run("wf", "last")
        decisions = world.deliver(
            event("1", run="first"),
            event("2", event_def="unknown"),
            unmapped("3", Verdict.DEAD),
            unmapped("4", Verdict.FILTERED),
            event("5", run="last"),
        )
        assert [decision.verdict for decision in decisions] == [
            Verdict.ACCEPTED,
            Verdict.DEAD,
            Verdict.DEAD,
            Verdict.FILTERED,
            Verdict.ACCEPTED,
        ]
        assert wf_run(world, "first").status == wf_run(world, "last").status == COMPLETED
        assert len({decision.delivery_id for decision in decisions}) == 5
        assert set(world.ledger) == {decision.delivery_id for decision in decisions}

    def test_signals_are_taken_in_their_order(self, world: LedgerWorld) -> None:
        first, second = world.deliver(event("2"), event("1"))
        world.run("wf")
        taken = node(world, 1).external_event.external_event_id.guid
        assert taken == world.ledger[first.delivery_id].guid != world.ledger[second.delivery_id].guid

    def test_cursor_is_kept_beside_them(self, world: LedgerWorld) -> None:
        world.deliver(event("1"), unmapped("2", Verdict.DEAD), cursor='{"offset": 7}')
        assert world.cursors == {WHOLE: '{"offset": 7}'}

    def test_no_cursor_leaves_the_old_one(self, world: LedgerWorld) -> None:
        world.deliver(event("1"), cursor='{"offset": 7}')
        world.deliver(event("2"))
        assert world.cursors == {WHOLE: '{"offset": 7}'}

    def test_cursor_moves_without_signals(self, world: LedgerWorld) -> None:
        assert world.deliver(cursor='{"offset": 8}') == []
        assert world.cursors == {WHOLE: '{"offset": 8}'}

    def test_each_part_has_a_position_of_its_own(self, world: LedgerWorld) -> None:
        world.submit(Deliver("hook", (event("1"),), "0", {"a": "1", "b": "1"}))
        world.submit(Deliver("hook", (event("2"),), None, {"a": "2", "b": None}))
        assert world.cursors == {WHOLE: "0", "a": "2"}

    def test_a_position_of_a_signal_is_kept_only_with_it(self, world: LedgerWorld) -> None:
        world.deliver_one(event("known"))
        batch = (
            replace(event("good"), positions={"good": "1"}),
            replace(event("known"), positions={"known": "1"}),
            replace(event("known"), digest=b"other", positions={"conflict": "1"}),
            replace(event("bad", event_def="missing"), positions={"dead": "1"}),
            replace(unmapped("filtered", Verdict.FILTERED), positions={"filtered": "1"}),
        )
        world.submit(Deliver("hook", batch, None, {"good": "0", "dead": "0"}))
        assert world.cursors == {"good": "1", "known": "1", "dead": "0", "filtered": "1"}

    def test_a_whole_with_a_conflict_is_not_stored_at_all(self, world: LedgerWorld) -> None:
        world.deliver_one(event("1"))
        batch = (event("2"), replace(event("1"), digest=b"other"))
        decisions = world.submit(Deliver("hook", batch, None, {"a": "1"}, whole=True))
        assert [decision.verdict for decision in decisions] == [Verdict.ACCEPTED, Verdict.CONFLICT]
        assert world.cursors == {}
        assert world.deliver_one(event("2")).verdict == Verdict.ACCEPTED

    def test_a_whole_with_a_dead_signal_is_not_stored_at_all(self, world: LedgerWorld) -> None:
        world.run("wf")
        batch = (event("1"), unmapped("2", Verdict.DEAD), event("3"))
        decisions = world.submit(Deliver("hook", batch, None, {"a": "1"}, whole=True))
        assert [decision.verdict for decision in decisions] == [Verdict.ACCEPTED, Verdict.DEAD, Verdict.ACCEPTED]
        assert (world.ledger, world.cursors, world.dead_letter("2")) == ({}, {}, None)
        assert wf_run(world, "r").status == RUNNING
        assert world.deliver_one(event("1")).verdict == Verdict.ACCEPTED

    def test_a_whole_without_one_is_stored(self, world: LedgerWorld) -> None:
        decisions = world.submit(Deliver("hook", (event("1"), event("2")), None, {"a": "1"}, whole=True))
        assert set(world.ledger) == {decision.delivery_id for decision in decisions}
        assert world.cursors == {"a": "1"}

    def test_a_reset_forgets_where_a_source_is_but_not_what_it_brought(self, world: LedgerWorld) -> None:
        world.submit(Deliver("hook", (event("1"),), "0", {"a": "1"}))
        assert world.submit(ResetSource("hook", new_epoch=False)) == 0
        assert world.cursors == {}
        assert world.deliver_one(event("1")).verdict == Verdict.DUPLICATE

    def test_a_letter_that_a_waiting_run_takes_at_once_is_delivered(self, world: LedgerWorld) -> None:
        world.run("wf", "r")
        world.deliver_one(unmapped("i", Verdict.DEAD))
        mended = world.deliver_one(event("i", run="r"))
        assert mended.verdict == Verdict.ACCEPTED
        assert world.outcome(mended.delivery_id) == Outcome.DELIVERED

    def test_each_new_epoch_is_the_next_and_a_reset_keeps_it(self, world: LedgerWorld) -> None:
        resets = [world.submit(ResetSource("hook", new_epoch=new_epoch)) for new_epoch in (True, True, False)]
        assert resets == [1, 2, 2]
        assert world.submit(ResetSource("other", new_epoch=False)) == 0


class TestOutcome:
    """An accepted signal's outcome moves once: from waiting to delivered, expired or deleted."""

    def test_event_that_nobody_waits_for_is_waiting(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(event("i"))
        assert world.outcome(decision.delivery_id) == Outcome.WAITING

    def test_event_taken_at_once_is_delivered(self, world: LedgerWorld) -> None:
        world.run("wf")
        decision = world.deliver_one(event("i"))
        assert world.outcomes[decision.delivery_id] == [(Outcome.DELIVERED, world.now_ms)]

    def test_event_taken_later_is_delivered_then(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(event("i"))
        world.now_ms += 5000
        world.run("wf")
        assert world.outcomes[decision.delivery_id] == [(Outcome.DELIVERED, world.now_ms)]

    def test_event_past_its_retention_is_expired(self, world: LedgerWorld) -> None:
        put_event_def(world, "fleeting", retention_s=60)
        decision = world.deliver_one(event("i", event_def="fleeting"))
        world.wait(61)
        assert world.outcome(decision.delivery_id) == Outcome.EXPIRED

    def test_unclaimed_event_of_a_deleted_run_is_deleted(self, world: LedgerWorld) -> None:
        world.run("wf")
        decision = world.deliver_one(event("i", position=99))
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert world.outcome(decision.delivery_id) == Outcome.DELETED

    def test_delivered_event_stays_delivered_when_its_run_is_deleted(self, world: LedgerWorld) -> None:
        world.run("wf")
        decision = world.deliver_one(event("i"))
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert [outcome for outcome, _ in world.outcomes[decision.delivery_id]] == [Outcome.DELIVERED]

    def test_correlated_event_that_wakes_a_run_is_delivered(self, world: LedgerWorld) -> None:
        world.run("waits-for-key")
        decision = world.deliver_one(keyed("i"))
        assert world.outcome(decision.delivery_id) == Outcome.DELIVERED

    def test_correlated_event_waits_and_is_delivered_to_a_late_waiter(self, world: LedgerWorld) -> None:
        decision = world.deliver_one(keyed("i"))
        assert world.outcome(decision.delivery_id) == Outcome.WAITING
        world.run("waits-for-key")
        assert world.outcome(decision.delivery_id) == Outcome.DELIVERED

    def test_correlated_event_past_its_ttl_is_expired(self, world: LedgerWorld) -> None:
        put_event_def(world, "keyed", correlated=CorrelatedEventConfig(ttl_seconds=60))
        decision = world.deliver_one(keyed("i", "other"))
        world.wait(61)
        assert world.outcome(decision.delivery_id) == Outcome.EXPIRED

    def test_delivered_correlated_event_stays_delivered_after_its_ttl(self, world: LedgerWorld) -> None:
        put_event_def(world, "keyed", correlated=CorrelatedEventConfig(ttl_seconds=60))
        world.run("waits-for-key")
        decision = world.deliver_one(keyed("i"))
        world.wait(61)
        assert world.outcome(decision.delivery_id) == Outcome.DELIVERED
        assert not [outcome for outcome, _ in world.outcomes[decision.delivery_id] if outcome == Outcome.WAITING]

    def test_event_that_a_client_put_has_no_outcome(self, world: LedgerWorld) -> None:
        world.run("wf")
        world.post("paid")
        assert world.outcomes == {}
        assert world.ledger == {}
