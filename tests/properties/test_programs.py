"""Random small workflows under random commands: each command ends, and the rules hold after it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from littlehorse.model import RunWfRequest

from tests.properties import invariants, moves, programs, rows, workflows
from tests.properties.moves import Ask, Move, Pass, play
from tests.properties.programs import MAIN, Program
from tests.properties.test_reload import crash_before_each, replay
from tests.properties.whole_world import WholeWorld


def defined(program: Program) -> WholeWorld:
    """A world with the definitions of a program."""
    return WholeWorld.defined([*workflows.shared_definitions(), *programs.compiled(program)])


def commands() -> st.SearchStrategy[Move]:
    """What can happen to the runs of a program."""
    run = st.sampled_from(["r0", "r0", "r1"]).map(lambda name: Ask(RunWfRequest(wf_spec_name=MAIN, id=name)))
    common = st.one_of(moves.nudges(), moves.controls(), moves.rings(), moves.passed(), moves.nudges())
    rare = st.one_of(
        run,
        moves.posted(),
        moves.correlated(),
        st.just(moves.Claim()),
        moves.reported(),
        moves.checkpoints(),
        moves.treatments(),
        moves.deleted(),
    )
    return st.one_of(common, common, rare)


FIRST = Ask(RunWfRequest(wf_spec_name=MAIN, id="r0"))


SEQUENCES = st.lists(commands(), min_size=4, max_size=16)


def played(program: Program, sequence: list[Move]) -> WholeWorld:
    """A world in which the program has been started and then went through all of it."""
    world = defined(program)
    for move in [FIRST, *sequence]:
        play(world, move)
    return world


@settings(max_examples=400, deadline=None)
@given(program=programs.programs(), sequence=SEQUENCES)
def test_every_command_ends_and_the_rules_hold_after_it(program: Program, sequence: list[Move]) -> None:
    world = defined(program)
    for move in [FIRST, *sequence]:
        play(world, move)
        # What is due at once has to be over, too.
        play(world, Pass(0))
        invariants.check(world)


@settings(max_examples=60, deadline=None)
@given(program=programs.programs(), sequence=SEQUENCES)
def test_the_same_commands_at_the_same_times_with_the_same_ids_give_the_same_rows(
    program: Program, sequence: list[Move]
) -> None:
    first, second = played(program, sequence), played(program, sequence)
    assert not rows.differences(rows.of_world(first), rows.of_world(second))


@settings(max_examples=60, deadline=None)
@given(program=programs.programs(), sequence=SEQUENCES)
def test_a_crash_and_a_reload_before_each_command_changes_nothing(program: Program, sequence: list[Move]) -> None:
    world = played(program, sequence)
    with TemporaryDirectory() as directory:
        assert not anyio.run(crash_before_each, world, Path(directory))


@settings(max_examples=60, deadline=None)
@given(program=programs.programs(), sequence=SEQUENCES, keep=st.sampled_from([0, 1, 2, 1000]), data=st.data())
def test_commits_of_any_size_and_a_memory_of_any_size_change_nothing(
    program: Program, sequence: list[Move], keep: int, data: st.DataObject
) -> None:
    world = played(program, sequence)
    ends = data.draw(st.lists(st.booleans(), min_size=len(world.script), max_size=len(world.script)), label="commits")
    with TemporaryDirectory() as directory:
        assert not anyio.run(replay, world, ends, keep, Path(directory))
