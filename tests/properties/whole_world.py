"""A world that keeps every row as a store would, writes down every command, and watches what each one touches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message
from littlehorse.model import LHStatus, NodeRun, ScheduledTask, WfRun

from lhd.core import kinds
from lhd.core.kinds import TERMINAL, UNFINISHED, USER_TASK_ENDED, LedgerRow, Moved, Outcome, Timer
from lhd.core.records import CommandTime, Key, Kind, LaneId
from lhd.core.settings import Settings
from lhd.store.tables import BY_KIND
from tests.core.world import World
from tests.properties import workflows

FINAL: dict[Kind[Any], Any] = {
    kinds.WF_RUN: lambda wf_run: wf_run.status in TERMINAL,
    kinds.NODE_RUN: lambda node_run: node_run.status in TERMINAL,
    kinds.TASK_RUN: lambda task_run: task_run.status not in UNFINISHED,
    kinds.USER_TASK_RUN: lambda user_task_run: user_task_run.status in USER_TASK_ENDED,
    kinds.EXTERNAL_EVENT: lambda event: event.claimed,
    kinds.INACTIVE_THREAD_RUN: lambda _: True,
    kinds.WORKFLOW_EVENT: lambda _: True,
    kinds.CHECKPOINT: lambda _: True,
}
"""When a record has become what it will always be, but for what :data:`STILL_MOVES` leaves open."""


def _lasting_of_node_run(old: NodeRun, new: NodeRun) -> bool:
    """A failed NodeRun stays failed and keeps its failures; what becomes of them is added to it."""
    if old.status == LHStatus.COMPLETED or new.status not in (LHStatus.ERROR, LHStatus.EXCEPTION):
        return old == new
    before, after = _copy(old), _copy(new)
    number, handlers = len(old.failures), len(old.failure_handler_ids)
    kept = [[_named(one) for one in part.failures][:number] for part in (old, new)]
    if kept[0] != kept[1] or list(new.failure_handler_ids)[:handlers] != list(old.failure_handler_ids):
        return False
    if any(one.was_properly_handled > other.was_properly_handled for one, other in _pairs(old, new)):
        return False
    fields = ["failures", "failure_handler_ids"]
    if len(new.failures) > number:
        fields += ["status", "end_time", "error_message"]
    for part in (before, after):
        for name in fields:
            part.ClearField(name)
    return bool(before == after)


def _pairs(old: NodeRun, new: NodeRun) -> Any:
    return zip(old.failures, new.failures, strict=False)


def _named(failure: Any) -> tuple[Any, ...]:
    return failure.failure_name, failure.message, failure.content.SerializeToString(deterministic=True)


def _lasting_of_wf_run(old: WfRun, new: WfRun) -> bool:
    """A WfRun in ERROR may be rescued; of the others only what was not over at their end can go on."""
    if old.status == LHStatus.ERROR and new.status != LHStatus.ERROR:
        return True
    before, after = _copy(old), _copy(new)
    ended = [thread for thread in old.thread_runs if thread.status in (LHStatus.COMPLETED, LHStatus.EXCEPTION)]
    if old.status != LHStatus.ERROR:
        now = {thread.number: thread for thread in new.thread_runs}
        for thread in ended:
            if thread.number in now and not _same_end(thread, now[thread.number]):
                return False
            if thread.number not in now and thread.status != LHStatus.COMPLETED:
                return False
    for part in (before, after):
        for name in ("thread_runs", "greatest_threadrun_number", "pending_interrupts", "pending_failures"):
            part.ClearField(name)
        part.parent_trigger.ClearField("waiting_node_run")
        if old.status == LHStatus.ERROR:
            part.ClearField("end_time")
    return bool(before == after)


def _same_end(old: Any, new: Any) -> bool:
    before, after = _copy(old), _copy(new)
    for part in (before, after):
        part.ClearField("child_thread_ids")
        part.ClearField("handled_failed_children")
    return bool(before == after)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


STILL_MOVES: dict[Kind[Any], Any] = {
    kinds.NODE_RUN: _lasting_of_node_run,
    kinds.WF_RUN: _lasting_of_wf_run,
}
"""How to tell, of two versions of a final record, whether the second one keeps what is final."""


@dataclass(frozen=True)
class Decided:
    """A command as it was decided: :func:`ids` with ``serial`` gives the ids it drew."""

    request: Any
    time: CommandTime
    serial: int


def encoded(kind: Kind[Any], key: Key, value: Any) -> tuple[Any, ...]:
    """The record as its row has it."""
    return tuple(BY_KIND[kind].row(key, value))


class WholeWorld(World):
    """Besides what World does: ``rows`` is what a store would hold and ``script`` what was decided.

    Each command is held to this: records that were there before it are shared and stay byte for byte what they were
    (a change makes a new record), its request stays what it was, and records that are final are never replaced.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.rows: dict[Kind[Any], dict[Key, Any]] = {kind: {} for kind in BY_KIND}
        self.outcome_ms: dict[str, int] = {}
        self.script: list[Decided] = []
        self.definitions = 0
        self.handed_out: list[ScheduledTask] = []
        self._cleared: set[LaneId] = set()
        self._seen: dict[tuple[Kind[Any], Key], tuple[Any, tuple[Any, ...]]] = {}

    @classmethod
    def defined(cls, definitions: Sequence[Any] | None = None) -> "WholeWorld":
        """A world with the definitions of the property tests, or others; its script says where they end."""
        world = cls(workflows.SETTINGS)
        for request in workflows.definitions() if definitions is None else definitions:
            world.submit(request)
        world.definitions = len(world.script)
        return world

    def submit(self, request: Any, *, command_ms: int | None = None) -> Any:
        command_time = CommandTime(self.now_ms if command_ms is None else command_ms, self.now_ms)
        self.script.append(Decided(request, command_time, len(self.script) + 1))
        before = [
            (kind, key, value, self._encoded(kind, key, value))
            for kind, rows in self.rows.items()
            for key, value in rows.items()
        ]
        asked = request.SerializeToString(deterministic=True) if isinstance(request, Message) else request
        outer, self._cleared = self._cleared, set()
        try:
            return super().submit(request, command_ms=command_ms)
        finally:
            if isinstance(request, Message):
                assert request.SerializeToString(deterministic=True) == asked, "a request was changed"
            for kind, key, value, was in before:
                assert encoded(kind, key, value) == was, f"the shared {kind.name} {key} was changed in place"
                self._check_history(kind, key, value, was)
            self._cleared |= outer

    def _encoded(self, kind: Kind[Any], key: Key, value: Any) -> tuple[Any, ...]:
        """The record as its row had it when it was last looked at, which each command is held to."""
        known = self._seen.get((kind, key))
        if known is None or known[0] is not value:
            known = self._seen[kind, key] = value, encoded(kind, key, value)
        return known[1]

    def _check_history(self, kind: Kind[Any], key: Key, value: Any, was: tuple[Any, ...]) -> None:
        if kind not in FINAL or not FINAL[kind](value) or kind.lane_of(key) in self._cleared:
            return
        assert key in self.rows[kind], f"the final {kind.name} {key} is gone"
        now = self.rows[kind][key]
        same = encoded(kind, key, now) == was or (kind in STILL_MOVES and STILL_MOVES[kind](value, now))
        assert same, f"the final {kind.name} {key} was changed: {value} {now}"

    def _take_effects(self) -> None:
        self._cleared.update(self.memory.cleared)
        for lane in self.memory.cleared:
            for kind, rows in self.rows.items():
                if kind.lane == lane.name:
                    for key in [key for key in rows if kind.lane_of(key) == lane]:
                        del rows[key]
        for kind, writes in self.memory.pending.items():
            if kind is not kinds.OUTCOME:
                self._write(self.rows[kind], writes)
        for (tenant, delivery_id, outcome), moved in self.memory.pending.get(kinds.OUTCOME, {}).items():
            if moved is not None:
                self._move((tenant, delivery_id), Outcome(outcome), moved)
        super()._take_effects()

    def _write(self, rows: dict[Key, Any], writes: dict[Key, Any]) -> None:
        for key, value in writes.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def _move(self, key: Key, outcome: Outcome, moved: Moved) -> None:
        row: LedgerRow = self.rows[kinds.LEDGER][key]
        assert outcome != Outcome.WAITING
        assert row.outcome is not None, "only an accepted delivery has an outcome"
        if row.outcome == Outcome.WAITING:
            run, guid = row.run or moved.run, row.guid or moved.guid
            self.rows[kinds.LEDGER][key] = replace(row, outcome=outcome, run=run, guid=guid)
            self.outcome_ms[row.delivery_id] = moved.at_ms

    def next_timer(self) -> Timer | None:
        """The timer that is due first."""
        return min(self.timers.values(), key=lambda timer: timer.due_ms, default=None)
