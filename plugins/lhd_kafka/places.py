"""Where the partitions of a source are: begun, sought, checked against what the broker has, and stored."""

from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from lhd.plugin import SourceContext, Transient
from lhd_kafka.cluster import FAULT_S, Cluster
from lhd_kafka.config import KafkaConfig, StartAt
from lhd_kafka.pace import Pace
from lhd_kafka.positions import Anchor, Position, Record, parse_part, part_name
from lhd_kafka.records import Events


class Places:
    """The positions, as they are stored, and which of them the broker has still to confirm."""

    def __init__(self, context: SourceContext, config: KafkaConfig, cluster: Cluster, events: Events) -> None:
        self.positions: dict[TopicPartition, Position] = {}
        self.pace = Pace(config.stall_s)
        self._context = context
        self._config = config
        self._cluster = cluster
        self._events = events
        self._unverified: dict[TopicPartition, Anchor] = {}
        """Sought at their anchor, which has not come yet."""

    async def load(self) -> None:
        """Take the positions from the store."""
        stored = await self._context.positions()
        self.positions.clear()
        self.positions |= {parse_part(part): Position.load(value) for part, value in stored.items()}

    async def note_absent(self, topics: list[str]) -> None:
        """Note that topics are not there yet: all of them will have come after the source was started."""
        cursor = {"pattern": self._config.pattern, "absent": topics}
        if self._context.cursor != cursor:
            await self._context.commit([], cursor=cursor)

    async def begin(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Store where the partitions without a position are begun, so that nothing that comes later is missed.

        What came after the source had begun, a partition of a topic that it reads, a topic of its pattern, one that it
        had waited for, is begun at its first record, not as ``start`` says.
        """
        new = [partition for partition in partitions if partition not in self.positions]
        cursor: dict[str, Any] = {"pattern": self._config.pattern, "absent": []}
        if not new and self._context.cursor == cursor:
            return
        before = self._context.cursor or {}
        known = {partition.topic for partition in self.positions} | set(before.get("absent", ()))
        if before and self._config.pattern is not None and before["pattern"] == self._config.pattern:
            known |= {partition.topic for partition in new}
        old = [partition for partition in new if partition.topic in known]
        fresh = [partition for partition in new if partition.topic not in known]
        offsets = await consumer.beginning_offsets(old) | await self._start_offsets(consumer, fresh)
        begun = {partition: Position(offset) for partition, offset in offsets.items()}
        await self._context.commit([], cursor=cursor, positions=stored(begun))
        self.positions |= begun

    async def _start_offsets(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        start = self._config.start
        if start == "earliest":
            return await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        if not isinstance(start, StartAt):
            return ends
        timestamp_ms = int(start.timestamp.timestamp() * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
        return ends | {partition: one.offset for partition, one in found.items() if one is not None}

    async def seek(
        self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], *, assign: bool = False
    ) -> None:
        """Go to where the store says, if the broker's partition can still be the one that was read."""
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            await self._bridge(partition, begins[partition], ends[partition])
        # No await from here on: between the assignment and the seek nothing may be fetched.
        if assign:
            consumer.assign(list(partitions))
        for partition in partitions if assign else consumer.assignment() & set(partitions):
            self._go_to(consumer, partition, begins[partition])

    def _go_to(self, consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int) -> None:
        """Go to the anchor, so that it comes first and can be checked; where it is gone, to the next record."""
        position = self.positions[partition]
        anchor = position.anchor
        if anchor is not None and begin <= anchor.offset:
            self._unverified[partition] = anchor
            consumer.seek(partition, anchor.offset)
        else:
            self._unverified.pop(partition, None)
            consumer.seek(partition, position.next)
        self.pace.forget(partition)

    async def _bridge(self, partition: TopicPartition, begin: int, end: int) -> None:
        """Check a position against what the broker has, and go over a gap where the configuration says so."""
        position = self.positions[partition]
        self._require_end(partition, end)
        if begin <= position.next:
            return
        gap = f"{part_name(partition)}: records {position.next} to {begin - 1} were deleted before they were read"
        if self._config.on_gap == "fault":
            raise Transient(f'{gap}; to go on at {begin} set on_gap = "earliest"', FAULT_S)
        left = begin if self._config.on_gap == "earliest" else end
        self._context.log.warning("records were deleted before they were read", gap=gap, goes_on_at=left)
        passed = {partition: Position(left)}
        await self._context.commit([self._events.gap(partition, position.next, left)], positions=stored(passed))
        self.positions |= passed

    def _require_end(self, partition: TopicPartition, end: int) -> None:
        position = self.positions[partition]
        if end < position.next:
            text = f"{part_name(partition)} ends at offset {end}, but was read to {position.next - 1}"
            raise self._made_again(partition, text)

    def _made_again(self, partition: TopicPartition, why: str) -> Transient:
        command = f"lhd source reset {self._context.name} {partition.topic} --epoch"
        text = f"the topic '{partition.topic}' was made again, or has lost its end: {why}; "
        return Transient(f"{text}to read all of it as something new: {command}", FAULT_S)

    async def checked(self, partition: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        """The records that come after the position; the first one that comes after a seek has to be the anchor.

        Raises Transient where it is not.
        """
        anchor = self._unverified.pop(partition, None)
        if anchor is not None and Anchor.of(records[0]) != anchor:
            found = records[0].offset
            if found == anchor.offset:
                raise self._made_again(partition, f"{part_name(partition)} has another record at offset {found}")
            if not await self._cluster.is_compacted(partition.topic):
                text = f"{part_name(partition)} has no record at offset {anchor.offset} any more"
                raise self._made_again(partition, text)
        position = self.positions[partition]
        return [record for record in records if record.offset >= position.next]

    async def look_at(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int, end: int, now_s: float
    ) -> int:
        """Does a partition move, is it the one that it was; how many records are behind ``offset``, where it is read.

        Raises Stalled, and Transient where it was made again.
        """
        if partition in self._unverified:
            self.pace.check(partition, offset, end, now_s)
            return max(0, end - offset)
        self._require_end(partition, end)
        position = self.positions[partition]
        if offset > position.next:
            # Markers of transactions, and records of aborted ones, which nobody has to read again.
            position = Position(offset, position.anchor)
            await self._context.commit([], positions=stored({partition: position}))
            self.positions[partition] = position
        if offset >= end and position.anchor is not None and partition in consumer.assignment():
            self._go_to(consumer, partition, begin=0)
        else:
            self.pace.check(partition, offset, end, now_s)
        return max(0, end - offset)


def stored(positions: dict[TopicPartition, Position]) -> dict[str, object]:
    """As they are committed."""
    return {part_name(partition): position.stored() for partition, position in positions.items()}
