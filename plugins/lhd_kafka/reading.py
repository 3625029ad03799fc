"""Reads partitions from where the store says, and commits what it reads together with where it is.

The broker is believed in nothing that can be checked: what a group has committed is not asked for, the last record that
was read is read again, and silence is looked into.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from lhd.plugin import Event, Overloaded, Receipt, SourceContext, Transient
from lhd_kafka.budget import Budget
from lhd_kafka.clients import closing, is_stray
from lhd_kafka.cluster import AWAY, AWAY_S, FAULT_S, Client, Cluster, Missing
from lhd_kafka.config import KafkaConfig, StartAt
from lhd_kafka.pace import Pace
from lhd_kafka.positions import Anchor, Position, Record, parse_part, part_name
from lhd_kafka.progress import Connect, apart, show_progress
from lhd_kafka.records import Events, size_of

_POLL_MS = 500
_FETCH_BYTES_MIN, _FETCH_BYTES_MAX = 16_384, 1_048_576
_BATCH_BYTES = 4_194_304
_LONG_PAUSE_S = 1.0
_SIFTED_MAX = 1_000


class Changed(Exception):
    """There are other partitions than those that are read."""


@dataclass
class Reading:
    """One connection's life: from the positions in the store until something has to be begun anew."""

    context: SourceContext
    client: Client
    cluster: Cluster
    events: Events
    budget: Budget
    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    _partitions: list[TopicPartition] = field(default_factory=list)
    _unsought: set[TopicPartition] = field(default_factory=set)
    """Assigned, and not sought yet: whatever comes of them is dropped."""
    _unverified: dict[TopicPartition, Anchor] = field(default_factory=dict)
    """Sought at their anchor, which has not come yet."""
    _next_look_s: float = 0
    _looking: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _failure: Exception | None = None
    """What the look-out for topics has found."""

    def __post_init__(self) -> None:
        self._pace = Pace(self.config.stall_s)

    @property
    def config(self) -> KafkaConfig:
        """The table of the source."""
        return self.client.config

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.config.group or f"lhd-{self.context.name}"

    async def run(self) -> None:
        """Read until cancelled. Raises Transient, Stalled and Changed."""
        await self._load_positions()
        self._partitions = await self._discover()
        try:
            async with self._consuming() as consumer:
                await self._begin(consumer)
                await self._read_and_watch(consumer)
        except TopicAuthorizationFailedError as error:
            raise Transient(f"lhd's user may not read the topic '{error.args[0]}'", FAULT_S) from error
        except KafkaError as error:
            if error.retriable or isinstance(error, IllegalStateError):
                raise await self.client.unreachable() from error
            raise Transient(f"the broker refuses: {error}", AWAY_S) from error
        except asyncio.CancelledError:
            if not is_stray():
                raise
            raise await self.client.unreachable() from None

    async def _load_positions(self) -> None:
        stored = await self.context.positions()
        self.positions.clear()
        self.positions |= {parse_part(part): Position.load(value) for part, value in stored.items()}

    async def _discover(self) -> list[TopicPartition]:
        """The partitions; that a topic was not there yet is noted, since all of it will have come later."""
        try:
            return await self.cluster.partitions()
        except Missing as missing:
            cursor = {"pattern": self.config.pattern, "absent": missing.topics}
            if self.context.cursor != cursor:
                await self.context.commit([], cursor=cursor)
            raise

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[AIOKafkaConsumer]:
        share = self.config.max_pending_bytes // len(self._partitions)
        consumer = AIOKafkaConsumer(
            **self.client.options,
            group_id=self.group if self.config.mode == "group" else None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=max(_FETCH_BYTES_MIN, min(_FETCH_BYTES_MAX, share)),
            fetch_max_bytes=self.config.max_pending_bytes,
            fetch_max_wait_ms=_POLL_MS,
        )
        async with closing(consumer):
            await consumer.start()
            yield consumer

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        if self.config.mode == "assign":
            await self._begin_new(consumer, self._partitions)
            await self._seek(consumer, self._partitions, assign=True)
            self._say_reading(self._partitions)
            return
        self.context.report(f"waiting for the group '{self.group}' to give partitions")
        topics = sorted({partition.topic for partition in self._partitions})
        consumer.subscribe(topics, listener=_Assigned(self._unsought))

    def _say_reading(self, partitions: Collection[TopicPartition]) -> None:
        self.context.report("")
        self.context.log.info("reading", partitions=len(partitions), mode=self.config.mode)

    async def _begin_new(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Store where the partitions without a position are begun, so that nothing that comes later is missed.

        What came after the source had begun, a partition of a topic that it reads, a topic of its pattern, one that it
        had waited for, is begun at its first record, not as ``start`` says.
        """
        new = [partition for partition in partitions if partition not in self.positions]
        cursor: dict[str, Any] = {"pattern": self.config.pattern, "absent": []}
        if not new and self.context.cursor == cursor:
            return
        before = self.context.cursor or {}
        known = {partition.topic for partition in self.positions} | set(before.get("absent", ()))
        if before and self.config.pattern is not None and before["pattern"] == self.config.pattern:
            known |= {partition.topic for partition in new}
        old = [partition for partition in new if partition.topic in known]
        fresh = [partition for partition in new if partition.topic not in known]
        offsets = await consumer.beginning_offsets(old) | await self._start_offsets(consumer, fresh)
        begun = {partition: Position(offset) for partition, offset in offsets.items()}
        await self.context.commit([], cursor=cursor, positions=_stored(begun))
        self.positions |= begun

    async def _start_offsets(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        start = self.config.start
        if start == "earliest":
            return await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        if not isinstance(start, StartAt):
            return ends
        timestamp_ms = int(start.timestamp.timestamp() * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
        return ends | {partition: one.offset for partition, one in found.items() if one is not None}

    async def _seek(
        self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], *, assign: bool = False
    ) -> None:
        """Begin partitions where the store says, if the broker's partition can still be the one that was read."""
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            await self._bridge(partition, begins[partition], ends[partition])
        # No await from here on: between the assignment and the seek nothing may be fetched.
        if assign:
            consumer.assign(list(partitions))
        for partition in partitions if assign else consumer.assignment() & set(partitions):
            self._seek_one(consumer, partition, begins[partition])

    def _seek_one(self, consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int) -> None:
        """Go to the anchor, so that it comes first and can be checked; where it is gone, to the next record."""
        position = self.positions[partition]
        anchor = position.anchor
        if anchor is not None and begin <= anchor.offset:
            self._unverified[partition] = anchor
            consumer.seek(partition, anchor.offset)
        else:
            self._unverified.pop(partition, None)
            consumer.seek(partition, position.next)
        self._pace.forget(partition)

    async def _bridge(self, partition: TopicPartition, begin: int, end: int) -> None:
        """Check a position against what the broker has, and go over a gap where the configuration says so."""
        position = self.positions[partition]
        if end < position.next:
            text = f"{part_name(partition)} ends at offset {end}, but was read to {position.next - 1}"
            raise self._made_again(partition, text)
        if begin <= position.next:
            return
        gap = f"{part_name(partition)}: records {position.next} to {begin - 1} were deleted before they were read"
        if self.config.on_gap == "fault":
            raise Transient(f'{gap}; to go on at {begin} set on_gap = "earliest"', FAULT_S)
        left = begin if self.config.on_gap == "earliest" else end
        self.context.log.warning("records were deleted before they were read", gap=gap, goes_on_at=left)
        passed = {partition: Position(left)}
        await self.context.commit([self.events.gap(partition, position.next, left)], positions=_stored(passed))
        self.positions |= passed

    def _made_again(self, partition: TopicPartition, why: str) -> Transient:
        command = f"lhd source reset {self.context.name} {partition.topic} --epoch"
        text = f"the topic '{partition.topic}' was made again, or has lost its end: {why}; "
        return Transient(f"{text}to read all of it as something new: {command}", FAULT_S)

    async def _read_and_watch(self, consumer: AIOKafkaConsumer) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_topics)
            if self.config.mode == "assign":
                shower: Connect = partial(apart, self.client, self.group, self._partitions)
            else:
                shower = lambda: nullcontext(consumer)  # noqa: E731
            tasks.start_soon(show_progress, self.context, self.group, shower, self.positions)
            try:
                await self._read(consumer)
            except Exception as error:  # noqa: BLE001 - raised below, and not within the group of a task group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _watch_topics(self) -> None:
        while True:
            await anyio.sleep(self.config.discover_s)
            try:
                if await self.cluster.partitions() != self._partitions:
                    self._failure = Changed()
            except Transient as error:
                self._failure = error
            except asyncio.CancelledError:
                if not is_stray():
                    raise
                self._failure = Transient(AWAY, AWAY_S)
            if self._failure is not None:
                self._looking.cancel()
                return

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while self._failure is None:
            fetched = await self._poll(consumer)
            self._pace.polled(len(fetched))
            batch: list[Record] = []
            size = 0
            for partition, records in fetched.items():
                for record in await self._checked(partition, records):
                    batch.append(record)
                    size += size_of(record)
                    if size > _BATCH_BYTES:
                        await self._store(consumer, batch)
                        batch, size = [], 0
            if batch:
                await self._store(consumer, batch)
            # A group may take partitions away at any time.
            with suppress(IllegalStateError):
                await self._seek_unsought(consumer)
                await self._look(consumer)
        raise self._failure

    async def _poll(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[Record]]:
        fetched: dict[TopicPartition, list[Record]] = {}
        try:
            # In a group aiokafka waits for an assignment for as long as that takes.
            with anyio.move_on_after(2 * _POLL_MS / 1000):
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self.config.batch_records_max)
        except OffsetOutOfRangeError as error:
            await self._seek(consumer, list(error.args[0]))
        except NoOffsetForPartitionError:
            pass  # in a group, of a partition that is not sought yet
        except KafkaError:
            raise
        except Exception as error:  # noqa: BLE001 - of bytes that it cannot read aiokafka lets through anything
            await self._sift(consumer, type(error).__name__)
        return fetched

    async def _sift(self, consumer: AIOKafkaConsumer, cause: str) -> None:
        """Read record by record, until the one comes that aiokafka cannot read; that one is a dead letter."""
        for partition in consumer.assignment() - self._unsought:
            for _ in range(_SIFTED_MAX):
                try:
                    fetched = await consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=1)
                except KafkaError:
                    raise
                except Exception:  # noqa: BLE001 - as above
                    offset = await consumer.position(partition)
                    after = {partition: Position(offset + 1)}
                    event = self.events.unreadable(partition, offset, cause)
                    await self._commit(consumer, [event], after)
                    self.positions |= after
                    consumer.seek(partition, offset + 1)
                    break
                records = [record for one in fetched.values() for record in await self._checked(partition, one)]
                if records:
                    await self._store(consumer, records)
                if not fetched:
                    break

    async def _seek_unsought(self, consumer: AIOKafkaConsumer) -> None:
        """Begin what the group has just given."""
        given = self._unsought & consumer.assignment()
        if not given:
            return
        await self._load_positions()
        await self._begin_new(consumer, sorted(given))
        self._unsought -= given
        try:
            await self._seek(consumer, given)
        except BaseException:
            self._unsought |= given
            raise
        self._say_reading(consumer.assignment())

    async def _checked(self, partition: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        """The records that come after the position; the first one that comes after a seek has to be the anchor."""
        if partition in self._unsought:
            return ()
        anchor = self._unverified.pop(partition, None)
        if anchor is not None and Anchor.of(records[0]) != anchor:
            found = records[0].offset
            if found == anchor.offset:
                raise self._made_again(partition, f"{part_name(partition)} has another record at offset {found}")
            if not await self.cluster.is_compacted(partition.topic):
                text = f"{part_name(partition)} has no record at offset {anchor.offset} any more"
                raise self._made_again(partition, text)
        position = self.positions[partition]
        return [record for record in records if record.offset >= position.next]

    async def _store(self, consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
        events = [await self.events.of(record) for record in records]
        last = {TopicPartition(record.topic, record.partition): record for record in records}
        positions = {partition: Position.after(record) for partition, record in last.items()}
        receipts = await self._commit(consumer, events, positions)
        self.positions |= positions
        now_s = anyio.current_time()
        self.budget.add(len(receipts), sum(receipt.verdict == "dead" for receipt in receipts), now_s)
        require_budget(self.budget, self.config)

    async def _commit(
        self, consumer: AIOKafkaConsumer, events: Sequence[Event], positions: dict[TopicPartition, Position]
    ) -> list[Receipt]:
        """Store a batch; while the daemon is overloaded nothing is fetched."""
        paused_s: float | None = None
        try:
            while True:
                try:
                    return await self.context.commit(events, positions=_stored(positions), bury=True)
                except Overloaded as error:
                    paused_s = paused_s or anyio.current_time()
                    consumer.pause(*consumer.assignment())
                    await anyio.sleep(error.after_s)
        finally:
            if paused_s is not None:
                consumer.resume(*consumer.assignment())
                if anyio.current_time() - paused_s > _LONG_PAUSE_S:
                    # Who knows what became of the topics meanwhile.
                    self._failure = self._failure or Changed()

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Every now and then: how far is it to the end, does each partition move, is each the one that it was."""
        now_s = anyio.current_time()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + self.config.discover_s
        with anyio.move_on_after(self.config.request_timeout_s) as self._looking:
            ends = await consumer.end_offsets(consumer.assignment())
            lag = 0
            for partition in ends.keys() & self.positions.keys():
                # Of a partition that was just taken away there would be no position, for ever.
                if partition in consumer.assignment() and partition not in self._unsought:
                    offset = await consumer.position(partition)
                    lag += max(0, ends[partition] - offset)
                    await self._look_at(consumer, partition, offset, ends[partition])
            self.context.measure("lag_records", lag)
        if self._looking.cancelled_caught and self._failure is None:
            raise Transient(AWAY, AWAY_S)

    async def _look_at(self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int, end: int) -> None:
        if partition in self._unverified:
            self._pace.check(partition, offset, end, anyio.current_time())
            return
        position = self.positions[partition]
        if end < position.next:
            text = f"{part_name(partition)} ends at offset {end}, but was read to {position.next - 1}"
            raise self._made_again(partition, text)
        if offset > position.next:
            # Markers of transactions, and records of aborted ones, which nobody has to read again.
            moved = {partition: Position(offset, position.anchor)}
            await self.context.commit([], positions=_stored(moved))
            self.positions |= moved
        is_held = partition in consumer.assignment() and partition not in self._unsought
        if is_held and offset >= end and position.anchor is not None and position.next == offset:
            self._seek_one(consumer, partition, begin=0)
        else:
            self._pace.check(partition, offset, end, anyio.current_time())


class _Assigned(ConsumerRebalanceListener):
    """Notes what the group gives; aiokafka would swallow what goes wrong here, so nothing is done."""

    def __init__(self, unsought: set[TopicPartition]) -> None:
        self._unsought = unsought

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._unsought |= set(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._unsought |= set(assigned)


def require_budget(budget: Budget, config: KafkaConfig) -> None:
    """Raise Transient while more records of late are dead than the configuration bears."""
    now_s = anyio.current_time()
    wait_s = budget.wait_s(now_s)
    if wait_s is None:
        return
    records, dead = budget.count(now_s)
    text = f"{dead} of the last {records} records are dead letters, more than the budget of {config.poison.budget}"
    raise Transient(f"{text}; see lhd dead list", max(1.0, wait_s))


def _stored(positions: dict[TopicPartition, Position]) -> dict[str, object]:
    return {part_name(partition): position.stored() for partition, position in positions.items()}
