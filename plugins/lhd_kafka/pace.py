"""Whether partitions move, while the broker says that there is more."""

from dataclasses import dataclass

from aiokafka import TopicPartition

_EMPTY_POLLS = 3


class Stalled(Exception):
    """The broker has records of a partition that do not come."""

    def __init__(self, partition: TopicPartition, offset: int, end: int) -> None:
        super().__init__(f"{partition.topic}/{partition.partition} stays at offset {offset}, and ends at {end}")
        self.place = partition, offset


@dataclass
class _Seen:
    offset: int
    at_s: float
    empty_polls: int


class Pace:
    """What was last seen of each partition.

    A poll that brings nothing tells that nothing waits for its turn in aiokafka's buffers: it empties the one of a
    partition before it comes to the next, so only then a partition that does not move has none.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._seen: dict[TopicPartition, _Seen] = {}
        self._empty_polls = 0

    def polled(self, count: int) -> None:
        """A poll has brought so many records."""
        self._empty_polls += count == 0

    def forget(self, partition: TopicPartition) -> None:
        """The partition is read from elsewhere now."""
        self._seen.pop(partition, None)

    def check(self, partition: TopicPartition, offset: int, end: int, now_s: float) -> None:
        """Raises Stalled where the partition has not moved for too long, though it could."""
        seen = self._seen.get(partition)
        if seen is None or seen.offset != offset or offset >= end:
            self._seen[partition] = _Seen(offset, now_s, self._empty_polls)
        elif now_s - seen.at_s > self._stall_s and self._empty_polls - seen.empty_polls >= _EMPTY_POLLS:
            raise Stalled(partition, offset, end)
