"""Several events of one key from connectors: queue, replace, reject (design of the route's `on_same_key`)."""

from collections.abc import Callable

import pytest
from littlehorse.model import CorrelatedEventConfig, ExternalEventDefId, PutCorrelatedEventRequest, VariableValue
from littlehorse.workflow import WorkflowThread

from lhd.core import kinds
from lhd.core.commands.deliveries import Decision
from lhd.core.kinds import OnSameKey, Outcome, Verdict
from lhd.core.settings import Settings
from lhd.errors import Code
from tests.core.ledger import LedgerWorld, keyed
from tests.core.shapes import COMPLETED, put, put_event_def, python, refused, stored_correlated, wf_run
from tests.core.world import TENANT


def prepared(settings: Settings | None = None) -> LedgerWorld:
    world = LedgerWorld(settings)
    put_event_def(world, "keyed", correlated=CorrelatedEventConfig(delete_after_first_correlation=True, ttl_seconds=60))
    put_event_def(world, "kept", correlated=CorrelatedEventConfig())
    for name in ("keyed", "kept"):
        put(world, waits_for(name), name)
    return world


def waits_for(event_def: str) -> Callable[[WorkflowThread], None]:
    """A workflow that keeps what it is given for the key k."""

    def body(thread: WorkflowThread) -> None:
        got = thread.declare_str("got")
        got.assign(thread.wait_for_event(event_def, correlation_id="k"))

    return body


@pytest.fixture
def world() -> LedgerWorld:
    return prepared()


def deliver(
    world: LedgerWorld, content: str, on_same_key: OnSameKey | None = None, event_def: str = "keyed"
) -> Decision:
    identity = f"{event_def} {content}"
    return world.deliver_one(keyed(identity, content=content, event_def=event_def, on_same_key=on_same_key))


def run_and_get(world: LedgerWorld, wf_run_id: str, wf_spec: str = "keyed") -> str | None:
    """What a new run that waits for the key is given at once."""
    world.run(wf_spec, wf_run_id)
    got = python(world, "got", wf_run_id)
    return got if wf_run(world, wf_run_id).status == COMPLETED else None


def queued(world: LedgerWorld, event_def: str = "keyed") -> int:
    return len(world.memory.scan(kinds.QUEUED_EVENT, (TENANT, event_def, "k")))


class TestQueue:
    def test_events_of_one_key_are_handed_out_in_the_order_of_their_arrival(self, world: LedgerWorld) -> None:
        decisions = [deliver(world, content) for content in ("first", "second", "third")]
        assert [decision.verdict for decision in decisions] == [Verdict.ACCEPTED] * 3
        assert [run_and_get(world, run) for run in ("a", "b", "c", "d")] == ["first", "second", "third", None]
        assert [world.outcome(one.delivery_id) for one in decisions] == [Outcome.DELIVERED] * 3

    def test_a_queued_event_waits_until_the_live_one_has_been_correlated(self, world: LedgerWorld) -> None:
        deliver(world, "first")
        second = deliver(world, "second")
        live = stored_correlated(world, "keyed", "k")
        assert live is not None
        assert live.content.str == "first"
        assert world.outcome(second.delivery_id) == Outcome.WAITING

    def test_each_lives_as_long_as_its_own_arrival_says(self, world: LedgerWorld) -> None:
        first = deliver(world, "first")
        world.wait(50)
        second = deliver(world, "second")
        world.wait(15)
        assert world.outcome(first.delivery_id) == Outcome.EXPIRED
        live = stored_correlated(world, "keyed", "k")
        assert live is not None
        assert live.content.str == "second"
        world.wait(50)
        assert world.outcome(second.delivery_id) == Outcome.EXPIRED
        assert stored_correlated(world, "keyed", "k") is None
        assert run_and_get(world, "late") is None

    def test_beyond_the_limit_an_event_is_dead_and_says_so(self) -> None:
        world = prepared(Settings(queued_events_max=1))
        deliver(world, "live")
        deliver(world, "queued")
        refused_one = deliver(world, "too many")
        assert refused_one.verdict == Verdict.DEAD
        assert "1 events with this key wait" in refused_one.reason
        assert queued(world) == 1

    def test_on_the_wire_a_live_key_still_is_already_exists(self, world: LedgerWorld) -> None:
        deliver(world, "live")
        request = PutCorrelatedEventRequest(
            key="k", external_event_def_id=ExternalEventDefId(name="keyed"), content=VariableValue(str="x")
        )
        with refused(Code.ALREADY_EXISTS):
            world.submit(request)

    def test_it_is_the_default_only_where_the_event_is_deleted_after_the_first_correlation(
        self, world: LedgerWorld
    ) -> None:
        for event_def in ("keyed", "kept"):
            deliver(world, "one", event_def=event_def)
            deliver(world, "two", event_def=event_def)
        assert (queued(world, "keyed"), queued(world, "kept")) == (1, 0)


class TestReplace:
    def test_the_newest_becomes_the_live_one_and_the_others_are_deleted(self, world: LedgerWorld) -> None:
        first, second = deliver(world, "first"), deliver(world, "second")
        third = deliver(world, "third", OnSameKey.REPLACE)
        assert [world.outcome(one.delivery_id) for one in (first, second)] == [Outcome.DELETED] * 2
        assert [run_and_get(world, run) for run in ("a", "b")] == ["third", None]
        assert world.outcome(third.delivery_id) == Outcome.DELIVERED

    def test_it_is_the_default_where_the_event_is_kept(self, world: LedgerWorld) -> None:
        deliver(world, "first", event_def="kept")
        assert run_and_get(world, "a", "kept") == "first"
        deliver(world, "second", event_def="kept")
        assert run_and_get(world, "b", "kept") == "second"
        assert run_and_get(world, "c", "kept") == "second"


class TestReject:
    def test_an_event_for_a_live_key_is_dead_and_the_live_one_stays(self, world: LedgerWorld) -> None:
        deliver(world, "first")
        second = deliver(world, "second", OnSameKey.REJECT)
        assert second.verdict == Verdict.DEAD
        assert "already exists" in second.reason
        assert [run_and_get(world, run) for run in ("a", "b")] == ["first", None]
