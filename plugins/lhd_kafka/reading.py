"""Reads partitions from where the store says, and commits what it reads together with where it is.

The broker is believed in nothing that can be checked: what it says it has committed is not asked for, the last record
that was read is read again, and silence is looked into.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.errors import (
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from lhd.plugin import Event, Overloaded, Receipt, SourceContext, Transient
from lhd_kafka.budget import Budget
from lhd_kafka.cluster import AWAY, AWAY_S, FAULT_S, Client, Cluster, is_stray
from lhd_kafka.config import KafkaConfig, StartAt
from lhd_kafka.positions import Anchor, Position, Record, parse_part, part_name
from lhd_kafka.records import Events, size_of

_POLL_MS = 500
_FETCH_BYTES_MIN, _FETCH_BYTES_MAX = 16_384, 1_048_576
_BATCH_BYTES = 4_194_304
_COURTESY_EVERY_S = 5.0
_STOP_S = 5.0


class Stalled(Exception):
    """The broker has records that do not come."""


class Changed(Exception):
    """There are partitions that are not read yet."""


@dataclass
class Pace:
    """When a partition was last seen to move."""

    offset: int
    at_s: float
    polls: int


@dataclass
class Reading:
    """One connection's life: from the positions in the store until something has to be begun anew."""

    context: SourceContext
    client: Client
    cluster: Cluster
    events: Events
    budget: Budget
    moved: bool = False
    """Whether any record came."""
    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    _partitions: list[TopicPartition] = field(default_factory=list)
    _unseen: set[TopicPartition] = field(default_factory=set)
    """Assigned, and not sought yet: whatever comes of them is dropped."""
    _unverified: dict[TopicPartition, Anchor] = field(default_factory=dict)
    """Sought at their anchor, which has not come yet."""
    _paces: dict[TopicPartition, Pace] = field(default_factory=dict)
    _polls: int = 0
    _next_look_s: float = 0

    @property
    def config(self) -> KafkaConfig:
        """The table of the source."""
        return self.client.config

    async def run(self) -> None:
        """Read until cancelled. Raises Transient, Stalled and Changed."""
        await self._load_positions()
        self._partitions = await self.cluster.partitions()
        try:
            async with self._consuming() as consumer:
                await self._begin(consumer)
                self.context.report("")
                self.context.log.info("reading", partitions=len(self._partitions), mode=self.config.mode)
                await self._read_with_courtesy(consumer)
        except TopicAuthorizationFailedError as error:
            raise Transient(f"lhd's user may not read the topic '{error.args[0]}'", FAULT_S) from error
        except KafkaError as error:
            raise Transient(f"the broker refuses: {error}", AWAY_S) from error
        except asyncio.CancelledError:
            if not is_stray():
                raise
            raise Transient(AWAY, AWAY_S) from None

    async def _load_positions(self) -> None:
        stored = await self.context.positions()
        self.positions = {parse_part(part): Position.load(value) for part, value in stored.items()}

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[AIOKafkaConsumer]:
        share = self.config.max_pending_bytes // max(1, len(self._partitions))
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
        try:
            await consumer.start()
            yield consumer
        finally:
            with anyio.move_on_after(_STOP_S, shield=True):
                await consumer.stop()

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.config.group or f"lhd-{self.context.name}"

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        await self._begin_new(consumer)
        if self.config.mode == "assign":
            await self._seek(consumer, self._partitions, assign=True)
            return
        topics = sorted({partition.topic for partition in self._partitions})
        consumer.subscribe(topics, listener=_Assigned(self._unseen))

    async def _begin_new(self, consumer: AIOKafkaConsumer) -> None:
        """Store where the partitions without a position are begun, so that nothing that comes later is missed.

        A partition that was added to a topic that is read already is begun at its first record, not as ``start`` says.
        """
        new = [partition for partition in self._partitions if partition not in self.positions]
        if not new:
            return
        selection = self.config.pattern or ""
        known = {partition.topic for partition in self.positions}
        if self.positions and selection and self.context.cursor == selection:
            known |= {partition.topic for partition in new}
        old = [partition for partition in new if partition.topic in known]
        fresh = [partition for partition in new if partition.topic not in known]
        offsets = await consumer.beginning_offsets(old) | await self._start_offsets(consumer, fresh)
        begun = {partition: Position(offset) for partition, offset in offsets.items()}
        await self.context.commit([], cursor=selection, positions=_stored(begun))
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
        for partition in partitions:
            position = self.positions[partition]
            anchor = position.anchor
            if anchor is not None and begins[partition] <= anchor.offset:
                self._unverified[partition] = anchor
                consumer.seek(partition, anchor.offset)
            else:
                consumer.seek(partition, position.next)
            self._paces.pop(partition, None)

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
        lost = self.events.gap(partition, position.next, left)
        self.positions[partition] = Position(left)
        await self.context.commit([lost], positions=_stored({partition: Position(left)}))

    def _made_again(self, partition: TopicPartition, why: str) -> Transient:
        command = f"lhd source reset {self.context.name} --epoch"
        text = f"the topic '{partition.topic}' was made again, or has lost its end: {why}; "
        return Transient(f"{text}to read all of it as something new: {command}", FAULT_S)

    async def _read_with_courtesy(self, consumer: AIOKafkaConsumer) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if self.config.mode == "assign":
                tasks.start_soon(self._show_progress)
            try:
                await self._read(consumer)
            except Exception as error:  # noqa: BLE001 - raised below, and not within the group of a task group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=self.config.batch_records_max)
            except OffsetOutOfRangeError as error:
                await self._seek(consumer, list(error.args[0]))
                continue
            except NoOffsetForPartitionError:
                # In a group, of a partition that is not sought yet.
                fetched = {}
            except RecordTooLargeError as error:
                raise Transient("a record is larger than max_pending_bytes allows", FAULT_S) from error
            self._polls += 1
            batch: list[Record] = []
            for partition, records in fetched.items():
                for record in await self._checked(partition, records):
                    batch.append(record)
                    if size_of(batch[-1:]) > _BATCH_BYTES or size_of(batch) > _BATCH_BYTES:
                        await self._store(consumer, batch)
                        batch = []
            if batch:
                await self._store(consumer, batch)
            await self._seek_unseen(consumer)
            await self._look(consumer)

    async def _seek_unseen(self, consumer: AIOKafkaConsumer) -> None:
        unseen = self._unseen & consumer.assignment()
        if not unseen:
            return
        await self._load_positions()
        self._partitions = sorted(set(self._partitions) | unseen)
        await self._begin_new(consumer)
        await self._seek(consumer, unseen)
        self._unseen -= unseen

    async def _checked(self, partition: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        """The records that come after the position; the first one that comes after a seek has to be the anchor."""
        if partition in self._unseen:
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
        self.moved = True
        self._judge(records, receipts)

    async def _commit(
        self, consumer: AIOKafkaConsumer, events: Sequence[Event], positions: dict[TopicPartition, Position]
    ) -> list[Receipt]:
        """Store a batch; while the daemon is overloaded nothing is fetched."""
        paused = False
        try:
            while True:
                try:
                    return await self.context.commit(events, positions=_stored(positions))
                except Overloaded as error:
                    consumer.pause(*consumer.assignment())
                    paused = True
                    await anyio.sleep(error.after_s)
        finally:
            if paused:
                consumer.resume(*consumer.assignment())

    def _judge(self, records: Sequence[Record], receipts: Sequence[Receipt]) -> None:
        """Raise Transient where too many records are dead, or one is not what was stored of its offset before."""
        for record, receipt in zip(records, receipts, strict=True):
            if receipt.verdict == "conflict":
                partition = TopicPartition(record.topic, record.partition)
                text = f"{part_name(partition)} has another record at offset {record.offset}"
                raise self._made_again(partition, text)
        now_s = anyio.current_time()
        self.budget.add(len(receipts), sum(receipt.verdict == "dead" for receipt in receipts), now_s)
        require_budget(self.budget, self.config)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Every now and then: are there new partitions, how far is it to the end, does each partition move."""
        now_s = anyio.current_time()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + self.config.discover_s
        if not set(await self.cluster.partitions()) <= set(self._partitions):
            raise Changed
        assigned = [partition for partition in consumer.assignment() if partition not in self._unseen]
        with anyio.move_on_after(self.config.request_timeout_s) as scope:
            ends = await consumer.end_offsets(assigned)
        if scope.cancelled_caught:
            raise Transient(AWAY, AWAY_S)
        lag = 0
        for partition, end in ends.items():
            offset = await consumer.position(partition)
            lag += max(0, end - offset)
            self._check_pace(partition, offset, end)
        self.context.measure("lag_records", lag)

    def _check_pace(self, partition: TopicPartition, offset: int, end: int) -> None:
        """Raise Stalled where a partition does not move.

        Partitions take turns: one whose records have come has had its turn after as many polls as there are partitions.
        """
        now_s = anyio.current_time()
        pace = self._paces.get(partition)
        if pace is None or pace.offset != offset or offset >= end:
            self._paces[partition] = Pace(offset, now_s, self._polls)
        elif now_s - pace.at_s > self.config.stall_s and self._polls - pace.polls > 2 * len(self._partitions):
            raise Stalled(f"{part_name(partition)} stays at offset {offset}, and ends at {end}")

    async def _show_progress(self) -> None:
        """Commit to the broker, too, for those who watch consumer groups there; nothing depends on it."""
        shown: dict[TopicPartition, int] = {}
        try:
            consumer = AIOKafkaConsumer(**self.client.options, group_id=self.group, enable_auto_commit=False)
            try:
                await consumer.start()
                consumer.assign(self._partitions)
                while True:
                    await anyio.sleep(_COURTESY_EVERY_S)
                    new = {
                        partition: position.next
                        for partition, position in self.positions.items()
                        if partition in self._partitions and shown.get(partition) != position.next
                    }
                    if new:
                        await consumer.commit({one: OffsetAndMetadata(offset, "") for one, offset in new.items()})
                        shown |= new
            finally:
                with anyio.move_on_after(_STOP_S, shield=True):
                    await consumer.stop()
        except (KafkaError, OSError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not is_stray():
                raise
            self.context.log.info("progress is not shown to the broker", group=self.group, cause=type(error).__name__)


class _Assigned(ConsumerRebalanceListener):
    """Notes what the group gives; aiokafka would swallow what goes wrong here, so nothing is done."""

    def __init__(self, unseen: set[TopicPartition]) -> None:
        self._unseen = unseen

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._unseen |= set(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._unseen |= set(assigned)


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
