"""A crash and a reload between any two commands, commits of any size and a forgetful memory change no row."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from littlehorse.model import (
    DeleteWfRunRequest,
    ExternalEventDefId,
    PutExternalEventRequest,
    RunWfRequest,
    WfRunId,
)

from lhd.core import kinds
from lhd.core.commands import Command, decide
from lhd.core.commands.timers import TimerDue
from lhd.core.records import Memory, NotLoaded, Transaction
from lhd.errors import Rejection
from lhd.store import Store
from lhd.timer_window import BEGINNING
from tests.core.world import TENANT
from tests.properties import moves, rows, workflows
from tests.properties.moves import Move, play
from tests.properties.whole_world import Decided, WholeWorld

PASSING = frozenset({kinds.SEEN_DELIVERY.lane, kinds.DEAD_LETTER.lane})


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Store]:
    """A store that is closed also when the block fails, or its threads would keep the process."""
    store = await Store.open(directory)
    try:
        yield store
    finally:
        await store.close()


class Shell:
    """Decides commands over a real store, as the engine does, and takes times and ids as they are given."""

    def __init__(self, store: Store, keep: int) -> None:
        self.store = store
        self.keep = keep
        self.memory = Memory(PASSING)

    def crash(self) -> None:
        """Lose what is in memory."""
        self.memory = Memory(PASSING)

    async def submit(self, decided: Decided) -> None:
        while True:
            ids = _ids(decided.serial)
            tx = Transaction(self.memory, decided.time, ids.__next__, workflows.SETTINGS)
            try:
                decide(tx, Command(TENANT, decided.request))
            except NotLoaded as missing:
                await self._load(missing)
                continue
            except Rejection:
                return
            self.memory.apply(tx)
            return

    async def _load(self, missing: NotLoaded) -> None:
        for lane, loaded in (await self.store.load_lanes(missing.lanes)).items():
            self.memory.fill(lane, loaded)
        for kind, key in missing.points:
            self.memory.fill_point(kind, key, await self.store.load_point(kind, key))

    async def commit(self) -> None:
        await self.store.commit(*self.memory.take_pending())
        self.memory.committed(self.keep)


def _ids(serial: int) -> Iterator[str]:
    """The ids that World gives to its command of this number."""
    return (f"{number:032x}" for number in itertools.count(serial << 64))


def played(sequence: list[Move]) -> WholeWorld:
    """A world that has been through all of it and has forgotten nothing."""
    world = WholeWorld.defined()
    for move in sequence:
        play(world, move)
    return world


SEQUENCES = st.lists(moves.moves(), min_size=1, max_size=25)


async def crash_before_each(world: WholeWorld, directory: Path) -> str:
    """Decide what the world decided, and lose the memory before each command; how the rows differ from the world's."""
    async with opened(directory) as store:
        shell = Shell(store, keep=0)
        for decided in world.script[: world.definitions]:
            await shell.submit(decided)
        await shell.commit()
        for decided in world.script[world.definitions :]:
            if isinstance(decided.request, TimerDue):
                (timer,) = await store.timers_after(BEGINNING, 1)
                assert timer.due_ms == decided.request.timer.due_ms, "the rows know what is due next"
            shell.crash()
            await shell.submit(decided)
            await shell.commit()
        queued = await store.queued_tasks()
    assert queued == list(world.queue.values()), "the rows know what is queued, and in which order"
    return rows.differences(rows.of_world(world), rows.of_store(directory))


@settings(max_examples=100, deadline=None)
@given(sequence=SEQUENCES)
def test_a_crash_and_a_reload_before_each_command_changes_nothing(sequence: list[Move]) -> None:
    world = played(sequence)
    with TemporaryDirectory() as directory:
        assert not anyio.run(crash_before_each, world, Path(directory))


async def replay(world: WholeWorld, ends: list[bool], keep: int, directory: Path) -> str:
    """Decide what the world decided, with a commit where ``ends`` says so; how the rows differ from the world's."""
    async with opened(directory) as store:
        shell = Shell(store, keep)
        for decided, end in zip(world.script, ends, strict=True):
            await shell.submit(decided)
            if end:
                await shell.commit()
        await shell.commit()
    return rows.differences(rows.of_world(world), rows.of_store(directory))


@settings(max_examples=100, deadline=None)
@given(sequence=SEQUENCES, keep=st.sampled_from([0, 1, 2, 5, 1000]), data=st.data())
def test_commits_of_any_size_and_a_memory_of_any_size_change_nothing(
    sequence: list[Move], keep: int, data: st.DataObject
) -> None:
    world = played(sequence)
    ends = data.draw(st.lists(st.booleans(), min_size=len(world.script), max_size=len(world.script)), label="commits")
    with TemporaryDirectory() as directory:
        assert not anyio.run(replay, world, ends, keep, Path(directory))


def test_a_record_can_be_looked_up_and_its_run_be_deleted_in_one_commit() -> None:
    run = moves.Ask(RunWfRequest(wf_spec_name="sleep", id="r"))
    event_def = ExternalEventDefId(name=workflows.PAID)
    put = moves.Ask(PutExternalEventRequest(wf_run_id=WfRunId(id="r"), external_event_def_id=event_def, guid="new"))
    world = played([run, put, moves.Ask(DeleteWfRunRequest(id=WfRunId(id="r")))])
    ends = [True] * (len(world.script) - 2) + [False, True]
    with TemporaryDirectory() as directory:
        assert not anyio.run(replay, world, ends, 1000, Path(directory))
