"""A command that is refused, or that fails because of a bug, changes nothing of its batch but its own answer."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import anyio
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from lhd.core.commands import Command, decide
from lhd.core.commands.timers import TimerDue
from lhd.core.records import Transaction
from lhd.core.run import AdvanceRun
from lhd.engine import Engine
from lhd.errors import Code, Rejection
from tests.core.world import TENANT
from tests.properties import moves, rows, workflows
from tests.properties.moves import Move, play
from tests.properties.rows import Rows
from tests.properties.test_reload import opened
from tests.properties.whole_world import WholeWorld

NOW_MS = 1_700_000_000_000
REFUSED = Rejection(Code.FAILED_PRECONDITION, "refused after it has written")
BUGS: list[Exception] = [RuntimeError("a bug"), AssertionError("a bug"), KeyError("a bug")]


class Deciding:
    """Stands in for the core's ``decide``: ids depend on the command alone, and one command can be poisoned."""

    def __init__(self, poisoned: int | None, poison: Exception) -> None:
        self.poisoned = poisoned
        self.poison = poison
        self.numbers: dict[int, int] = {}
        self.sent: list[Any] = []
        self.decided = 0

    def command(self, number: int, request: Any) -> Command:
        """The command with this number; the number gives it its ids, and ids to what it sends to other lanes."""
        command = Command(TENANT, request)
        self.numbers[id(command)] = number << 8
        return command

    def __call__(self, tx: Transaction, command: Command) -> Any:
        number = self.numbers.get(id(command)) or self.numbers[id(command.request)]
        ids = (f"{drawn:032x}" for drawn in itertools.count(number << 64))
        tx.new_id = ids.__next__
        reply = decide(tx, command)
        for index, request in enumerate(tx.follow_ups, start=1):
            self.sent.append(request)
            self.numbers[id(request)] = number + index
        if self.poisoned is not None and number == self.poisoned << 8:
            self.decided += 1
            raise self.poison
        return reply


def answer(reply: Any) -> Any:
    """A reply in a form that can be compared."""
    if isinstance(reply, Rejection):
        return reply.code, reply.text
    return reply.SerializeToString(deterministic=True) if isinstance(reply, Message) else reply


async def decided_by_an_engine(
    directory: Path, first: list[tuple[int, Any]], batch: list[tuple[int, Any]], deciding: Deciding
) -> tuple[Rows, dict[int, Any]]:
    """The rows and the answers after ``first`` and then ``batch`` went through a real engine, in one commit each."""
    answers: dict[int, Any] = {}
    async with opened(directory) as store:
        engine = Engine(store, workflows.SETTINGS, clock_ms=lambda: NOW_MS, monotonic_ms=lambda: 0)
        commits = mock.AsyncMock(wraps=store.commit)

        async def submit(number: int, request: Any) -> None:
            try:
                answers[number] = answer(await engine.submit(deciding.command(number, request)))
            except Rejection as rejection:
                answers[number] = answer(rejection)

        with mock.patch("lhd.engine.decide", deciding), mock.patch.object(store, "commit", commits):
            async with anyio.create_task_group() as tasks:
                await tasks.start(engine.run)
                for commands in (first, batch):
                    commits.reset_mock()
                    async with anyio.create_task_group() as submitting:
                        for number, request in commands:
                            submitting.start_soon(submit, number, request)
                    assert commits.await_count <= 1, "all of it is one batch"
                tasks.cancel_scope.cancel()
    return rows.of_store(directory), answers


def with_and_without(
    first: list[tuple[int, Any]], batch: list[tuple[int, Any]], number: int, poison: Exception
) -> tuple[Any, int]:
    """Hold the batch with the poisoned command against the batch without it; its answer, and how often it was run."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        poisoned = Deciding(number, poison)
        found, answers = anyio.run(decided_by_an_engine, Path(one), first, batch, poisoned)
        rest = [item for item in batch if item[0] != number]
        expected, expected_answers = anyio.run(decided_by_an_engine, Path(other), first, rest, Deciding(None, poison))
    of_its_own = answers.pop(number)
    assert not rows.differences(expected, found)
    assert answers == expected_answers
    return of_its_own, poisoned.decided


def commands(sequence: list[Move]) -> list[tuple[int, Any]]:
    """The requests that a world gets when it goes through the moves; all of them count as of one time."""
    world = WholeWorld.defined()
    for move in sequence:
        play(world, move)
    asked = [decided.request for decided in world.script if not isinstance(decided.request, TimerDue | AdvanceRun)]
    return list(enumerate(asked, start=1))


@settings(max_examples=20, deadline=None)
@given(
    sequence=st.lists(moves.moves(), min_size=2, max_size=24),
    poison=st.sampled_from([REFUSED, *BUGS]),
    data=st.data(),
)
def test_a_command_that_fails_after_it_has_written_changes_nothing_but_its_own_answer(
    sequence: list[Move], poison: Exception, data: st.DataObject
) -> None:
    everything = commands(sequence)
    definitions = len(workflows.definitions())
    start = data.draw(st.integers(definitions, max(definitions, len(everything) - 1)), label="where the batch begins")
    batch = everything[start:] or everything[-1:]
    number = data.draw(st.sampled_from([number for number, _ in batch]), label="the poisoned one")
    first = [item for item in everything if item not in batch]
    got, times = with_and_without(first, batch, number, poison)
    if times and poison is REFUSED:
        assert got == answer(REFUSED)
    elif times:
        assert got[0] == Code.INTERNAL
