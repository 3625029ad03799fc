"""No command changes a record in place: the records that it found are shared with all who read them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from littlehorse.model import RunWfRequest

from lhd.core import kinds
from lhd.core.commands.deliveries import Deliver
from lhd.core.kinds import OnSameKey
from tests.core.ledger import keyed
from tests.core.shapes import correlate
from tests.properties import moves
from tests.properties.moves import Move, play
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import KEYED


@settings(max_examples=100, deadline=None)
@given(sequence=st.lists(moves.moves(), max_size=40))
def test_the_records_before_a_command_are_byte_for_byte_the_same_after_it(sequence: list[Move]) -> None:
    world = WholeWorld.defined()
    for move in sequence:
        play(world, move)
        for kind, of_kind in world.rows.items():
            if not kind.write_only:
                for key, value in of_kind.items():
                    if not world.memory.is_loaded(kind.lane_of(key)):
                        continue  # Nobody has read it yet.
                    assert world.memory.lookup(kind, key) is value, "the rows are what the memory shares"


def test_a_queued_event_that_becomes_live_and_is_correlated_at_once_is_a_new_record() -> None:
    world = WholeWorld.defined()
    correlate(world, KEYED, "k", "first")
    play(world, moves.Ask(Deliver("hook", (keyed("second", on_same_key=OnSameKey.QUEUE),), None)))
    (queued,) = world.rows[kinds.QUEUED_EVENT].values()
    world.submit(RunWfRequest(wf_spec_name="wait-twice-for-key", id="r"))
    assert not queued.event.external_events
