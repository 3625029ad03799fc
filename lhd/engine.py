"""The shell around the core: inbox, load, decide, commit, effects, answers. Owns the clock.

One task takes every command from one inbox, so nothing else may change state. A batch of commands is one commit, and
nobody is answered before it. Each effect can be rebuilt from rows: timers, queued tasks, answers to nobody.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus
from google.protobuf.message import DecodeError
from littlehorse.model import TaskRunId
from prometheus_client import Counter

from lhd.core import kinds
from lhd.core.commands import Command, decide, lanes_of
from lhd.core.commands.cluster import CLUSTER, EnsureCluster
from lhd.core.commands.tasks import ClaimTask, ReleaseTask
from lhd.core.commands.timers import TimerDue
from lhd.core.ids import parse_wf_run_id
from lhd.core.records import CommandTime, Key, Kind, LaneId, Memory, NotLoaded, Transaction
from lhd.core.settings import Settings
from lhd.directory import CLUSTER_LANE, Directory
from lhd.errors import Code, Rejection
from lhd.measuring import Measuring
from lhd.metrics import BATCH_COMMANDS, COMMANDS, COMMIT_SECONDS
from lhd.quotas import Quotas
from lhd.store import Store
from lhd.store.tables import require_storable
from lhd.tasks import Poll, TaskQueues
from lhd.timer_window import TimerWindow
from lhd.waiters import Waiters

_LOADS_PER_COMMAND = 1000
_COMMANDS_PER_TURN = 64
"""After so many decisions the rest of the loop has its turn."""
_WATCHED: dict[Kind[Any], int] = {
    kinds.WORKFLOW_EVENT: 2,
    kinds.BULK_JOB: 0,
    kinds.WF_RUN: 2,
    kinds.OUTCOME: 2,
    kinds.CORRELATED_EVENT: 3,
}
_RETRY_TIMER_MS = 60_000
_SECONDS_PER_COMMAND = 0.001
"""Before any has been measured."""
_PACE_WEIGHT = 0.1
_FORGET_EVERY_MS = 600_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine takes at once and keeps in memory."""

    inbox_commands_max: int = 4096
    batch_commands_max: int = 256
    cached_lanes_max: int = 5_000
    timers_max: int = 20_000
    ledger_ms: int = 30 * 86_400_000
    dead_letters_max: int = 10_000
    wal_bytes_max: int = 67_108_864


@dataclass(slots=True, eq=False)
class _Submission:
    command: Command
    answered: anyio.Event = field(default_factory=anyio.Event)
    reply: Any = None


@dataclass(slots=True, eq=False)
class _Work:
    """One command to decide. Its ids stay the same however often it is run again for records that it lacked."""

    command: Command
    time: CommandTime
    ids: list[str] = field(default_factory=list)
    is_hinted: bool = False
    seen_ready: bool = False

    def transaction(self, memory: Memory, settings: Settings) -> Transaction:
        drawn = itertools.count()

        def new_id() -> str:
            index = next(drawn)
            if index == len(self.ids):
                self.ids.append(uuid.uuid4().hex)
            return self.ids[index]

        return Transaction(memory, self.time, new_id, settings)


def _by_kind(lanes: dict[LaneId, list[tuple[Kind[Any], Key, Any]]]) -> dict[Kind[Any], dict[Key, Any]]:
    records: dict[Kind[Any], dict[Key, Any]] = {}
    for rows in lanes.values():
        for kind, key, value in rows:
            records.setdefault(kind, {})[key] = value
    return records


@cache
def _counter(command: str, code: Code | None) -> Counter:
    return COMMANDS.labels(command, "OK" if code is None else code.value)


def _count(command: str, code: Code | None) -> None:
    """Count a decided command; ``code`` is None for one that was not refused."""
    _counter(command, code).inc()


def system_clock_ms() -> int:
    """Milliseconds since the epoch; may jump."""
    return time.time_ns() // 1_000_000


def system_monotonic_ms() -> int:
    """Milliseconds that have passed; never jumps."""
    return time.monotonic_ns() // 1_000_000


class Engine:
    """Takes commands through :meth:`submit` while :meth:`run` runs."""

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        limits: Limits | None = None,
        clock_ms: Callable[[], int] = system_clock_ms,
        monotonic_ms: Callable[[], int] = system_monotonic_ms,
    ) -> None:
        self.settings = settings or Settings()
        self.queues = TaskQueues()
        self.directory = Directory()
        self.measuring = Measuring()
        self.quotas = Quotas(self.directory, self.now_ms, self.measuring)
        self.committed: Waiters[tuple[Kind[Any], Key]] = Waiters()
        """Woken with a kind and the beginning of a key, as long as :data:`_WATCHED` says, when one is written."""
        self._limits = limits or Limits()
        self.store = store
        self._clock_ms = clock_ms
        self._monotonic_ms = monotonic_ms
        self._now_ms, self._elapsed_ms = clock_ms(), monotonic_ms()
        self._memory = Memory(
            passing=frozenset({kinds.SEEN_DELIVERY.lane, kinds.DEAD_LETTER.lane, kinds.EXPIRY_PLAN.lane})
        )
        self._timers = TimerWindow(self._now_ms, self._limits.timers_max)
        self._forget_at_ms = self._now_ms
        self._letters = 0
        self._seconds_per_command = _SECONDS_PER_COMMAND
        self._log = structlog.get_logger("lhd.engine")
        self._inbox, self._outbox = anyio.create_memory_object_stream[_Submission | Poll](
            self._limits.inbox_commands_max
        )

    async def submit(self, command: Command) -> Any:
        """The reply to a command, once it is durable. Waits while the inbox is full; raises Rejection.

        A caller that is cancelled meanwhile does not take its command back.
        """
        submission = _Submission(command)
        try:
            await self._inbox.send(submission)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise Rejection(Code.UNAVAILABLE, "lhd is stopping") from None
        await submission.answered.wait()
        if isinstance(submission.reply, Rejection):
            raise submission.reply
        return submission.reply

    def submit_soon(self, command: Command) -> None:
        """Hand over a command whose reply nobody waits for; a full inbox drops it."""
        try:
            self._inbox.send_nowait(_Submission(command))
        except (anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._log.warning("the inbox takes nothing; a command is dropped", command=type(command.request).__name__)

    async def poll(self, poll: Poll) -> None:
        """Let a worker wait for a task."""
        await self._inbox.send(poll)

    @property
    def overloaded(self) -> bool:
        """Whether the inbox is full."""
        return self._inbox.statistics().current_buffer_used >= self._limits.inbox_commands_max

    @property
    def drain_s(self) -> float:
        """How many seconds it will take to decide what is in the inbox, at the pace of the last batches."""
        return self._inbox.statistics().current_buffer_used * self._seconds_per_command

    def now_ms(self) -> int:
        """The present time in ms since the epoch, which never goes back while the engine lives.

        A clock that is set forward is followed at once. One that is set back is not: time goes on from where it was,
        at its own pace, so that no wait lasts longer for it.
        """
        elapsed_ms = self._monotonic_ms()
        self._now_ms = max(self._clock_ms(), self._now_ms + elapsed_ms - self._elapsed_ms)
        self._elapsed_ms = elapsed_ms
        return self._now_ms

    @property
    def timers(self) -> int:
        """How many timers are armed; more may be in rows."""
        return len(self._timers)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Rebuild timers and queues from rows, then serve the inbox until cancelled.

        A batch that has been begun is committed before the cancellation is obeyed. A failed commit ends the engine
        with StoreError.
        """
        await self._page_timers()
        for task in await self.store.queued_tasks():
            self.queues.offer(task)
        self.directory.follow(_by_kind(await self.store.load_lanes([CLUSTER_LANE])))
        await self._process([_Submission(Command(CLUSTER, EnsureCluster()))])
        task_status.started()
        with self._inbox, self._outbox:
            while True:
                batch = await self._next_batch()
                began = anyio.current_time()
                with anyio.CancelScope(shield=True):
                    await self._process(batch)
                if batch:
                    pace = (anyio.current_time() - began) / len(batch)
                    self._seconds_per_command += (pace - self._seconds_per_command) * _PACE_WEIGHT

    async def _next_batch(self) -> list[_Submission | Poll]:
        """What is in the inbox, however many timers are due; where it is empty, what comes before the next one is."""
        batch: list[_Submission | Poll] = []
        self._drain_into(batch)
        next_ms = min(self._timers.next_ms() or self._forget_at_ms, self._forget_at_ms)
        if not batch:
            with anyio.move_on_after(max(0, next_ms - self.now_ms()) / 1000):
                batch.append(await self._outbox.receive())
                self._drain_into(batch)
        return batch

    def _drain_into(self, batch: list[_Submission | Poll]) -> None:
        while len(batch) < self._limits.batch_commands_max:
            try:
                batch.append(self._outbox.receive_nowait())
            except anyio.WouldBlock:
                return

    async def _process(self, batch: list[_Submission | Poll]) -> None:
        now_ms = self.now_ms()
        submissions = [one for one in batch if isinstance(one, _Submission)]
        for poll in [one for one in batch if isinstance(one, Poll)]:
            self.queues.wait(poll)
        time_of_request = CommandTime(now_ms, now_ms)
        work = [_Work(one.command, time_of_request) for one in submissions]
        timers = self._timers.take_due(now_ms, self._limits.batch_commands_max)
        due = [_Work(Command(timer.tenant, TimerDue(timer)), CommandTime(timer.due_ms, now_ms)) for timer in timers]
        replies = await self._decide_all([*due, *work])
        for timer, reply in zip(timers, replies, strict=False):
            if isinstance(reply, Rejection):
                self._timers.arm_again(timer, now_ms + _RETRY_TIMER_MS)
        claims = await self._claim(time_of_request)
        await self._commit(len(due) + len(work) + len(claims))
        for submission, reply in zip(submissions, replies[len(due) :], strict=True):
            submission.reply = reply
            submission.answered.set()
        for poll, scheduled in claims:
            if poll.gone:
                self.submit_soon(Command(poll.tenant, ReleaseTask(scheduled.task_run_id, scheduled.attempt_number)))
            else:
                poll.deliver(poll, scheduled)
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + _FORGET_EVERY_MS
            limits = self._limits
            await self.store.forget(now_ms, self.settings.dedupe_ms, limits.ledger_ms, limits.dead_letters_max)

    async def _decide_all(self, requested: Sequence[_Work]) -> list[Any]:
        """The replies to these commands, in order. What they send to other lanes is decided after them."""
        work = list(requested)
        replies: list[Any] = []
        loads = 0
        while len(replies) < len(work):
            if len(replies) % _COMMANDS_PER_TURN == _COMMANDS_PER_TURN - 1:
                await anyio.lowlevel.checkpoint()
            one = work[len(replies)]
            try:
                reply, follow_ups = self._decide(one)
                work += [_Work(Command(one.command.tenant, request), one.time) for request in follow_ups]
                replies.append(reply)
                loads = 0
            except NotLoaded as missing:
                loads += 1
                if loads > _LOADS_PER_COMMAND or not await self._try_load(missing, work[len(replies) :]):
                    replies.append(self._bug(one.command))
                    loads = 0
        return replies[: len(requested)]

    async def _try_load(self, missing: NotLoaded, work: Sequence[_Work]) -> bool:
        """Load what the first command lacks, and what all will; false where a row of its own cannot be read."""
        told = self._told(work)
        others = [NotLoaded(told, [])] if told else self._found_out(work[1:])
        for wanted in ([missing, *others], [missing]):
            try:
                await self._load(wanted)
            except DecodeError:
                continue
            return True
        return False

    def _decide(self, work: _Work) -> tuple[Any, list[Any]]:
        tx = work.transaction(self._memory, self.settings)
        name = type(work.command.request).__name__
        try:
            reply = decide(tx, work.command)
            require_storable(tx.writes)
        except NotLoaded:
            raise
        except Rejection as rejection:
            _count(name, rejection.code)
            return rejection, []
        except Exception:  # noqa: BLE001 - the one place where a bug in the core is contained
            return self._bug(work.command), []
        self._memory.apply(tx)
        self.measuring.add(tx.samples)
        for queued in tx.writes.get(kinds.QUEUED_TASK, {}).values():
            if queued is not None:
                self.queues.offer(queued)
        _count(name, None)
        return reply, tx.follow_ups

    def _bug(self, command: Command) -> Rejection:
        name = type(command.request).__name__
        self._log.exception("a command failed because of a bug in lhd; nothing of it is stored", command=name)
        _count(name, Code.INTERNAL)
        return Rejection(Code.INTERNAL, f"{name} failed because of a bug in lhd; nothing of it was stored")

    def _told(self, work: Sequence[_Work]) -> list[LaneId]:
        """The lanes that commands will ask for, as far as their requests tell, and that are not in memory."""
        lanes: dict[LaneId, None] = {}
        for one in work:
            if not one.is_hinted:
                one.is_hinted = True
                lanes.update(dict.fromkeys(lanes_of(one.command)))
        return [lane for lane in lanes if not self._memory.is_loaded(lane)]

    def _found_out(self, work: Sequence[_Work]) -> list[NotLoaded]:
        """What commands will ask for, found out by deciding them as things stand now; their overlays are dropped."""
        missing = []
        for one in [one for one in work if not one.seen_ready]:
            try:
                decide(one.transaction(self._memory, self.settings), one.command)
                one.seen_ready = True
            except NotLoaded as needs:
                missing.append(needs)
            except Exception:  # noqa: BLE001 - it is decided, and answered for, in its turn
                one.seen_ready = True
        return missing

    async def _load(self, missing: Sequence[NotLoaded]) -> None:
        lanes = {lane: None for needs in missing for lane in needs.lanes}
        for lane, rows in (await self.store.load_lanes(list(lanes))).items():
            self._memory.fill(lane, rows)
        for kind, key in {point: None for needs in missing for point in needs.points}:
            self._memory.fill_point(kind, key, await self.store.load_point(kind, key))

    async def _claim(self, command_time: CommandTime) -> list[tuple[Poll, Any]]:
        """Hand queued tasks to waiting polls, in the same commit."""
        claims = []
        for task, poll in self.queues.matches():
            task_run_id = TaskRunId(wf_run_id=parse_wf_run_id(task.run), task_guid=task.task_guid)
            command = Command(task.tenant, ClaimTask(task_run_id, poll.worker, poll.version))
            (scheduled,) = await self._decide_all([_Work(command, command_time)])
            if scheduled is None or isinstance(scheduled, Rejection):
                self.queues.wait(poll, first=True)
            else:
                claims.append((poll, scheduled))
        return claims

    async def _commit(self, commands: int) -> None:
        cleared, writes = self._memory.take_pending()
        if cleared or writes:
            with COMMIT_SECONDS.time():
                await self.store.commit(cleared, writes, self.measuring.take())
            BATCH_COMMANDS.observe(commands)
            await self.store.limit_wal(self._limits.wal_bytes_max)
        self._arm(cleared, writes)
        self.directory.follow(writes)
        self._letters += sum(letter is not None for letter in writes.get(kinds.DEAD_LETTER, {}).values())
        if self._letters >= max(1, self._limits.dead_letters_max // 10):
            # Else they could become many times as many before the next time.
            self._forget_at_ms, self._letters = 0, 0
        self.committed.wake((kind, key[:length]) for kind, length in _WATCHED.items() for key in writes.get(kind, ()))
        await self._page_timers()
        self._memory.committed(self._limits.cached_lanes_max)

    def _arm(self, cleared: dict[LaneId, None], writes: dict[Kind[Any], dict[Key, Any]]) -> None:
        for lane in cleared:
            if lane.name == kinds.TIMER.lane:
                self._timers.disarm_run(lane.key)
        for key, timer in writes.get(kinds.TIMER, {}).items():
            if timer is None:
                self._timers.disarm(key)
            else:
                self._timers.arm(timer)

    async def _page_timers(self) -> None:
        while self._timers.wants_page:
            assert self._timers.horizon is not None
            self._timers.add_page(await self.store.timers_after(self._timers.horizon, self._timers.page_size))
