"""Where a partition has been read to, and the last record that was read of it: its anchor."""

import hashlib
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

Record = ConsumerRecord[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a record is known by: a topic that was made again has another one at its offset, or none."""

    offset: int
    timestamp_ms: int
    digest: str

    @classmethod
    def of(cls, record: Record) -> "Anchor":
        """The anchor that a record is."""
        digest = hashlib.sha256()
        for part in (record.key, record.value, *(part for header in record.headers for part in header)):
            data = part.encode() if isinstance(part, str) else part
            digest.update(b"-" if data is None else b"%d:" % len(data))
            digest.update(data or b"")
        return cls(record.offset, record.timestamp, digest.hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class Position:
    """The offset of the next record of a partition, and the anchor before it, if any was read."""

    next: int
    anchor: Anchor | None = None

    @classmethod
    def after(cls, record: Record) -> "Position":
        """The position behind a record."""
        return cls(record.offset + 1, Anchor.of(record))

    @classmethod
    def load(cls, stored: Any) -> "Position":
        """From what :meth:`stored` gave."""
        return cls(stored["next"], Anchor(*stored["last"]) if "last" in stored else None)

    def stored(self) -> dict[str, Any]:
        """As a JSON-like value."""
        anchor = self.anchor
        last = {} if anchor is None else {"last": [anchor.offset, anchor.timestamp_ms, anchor.digest]}
        return {"next": self.next, **last}


def part_name(partition: TopicPartition) -> str:
    """The part of the source that a partition is. A topic's name has no slash."""
    return f"{partition.topic}/{partition.partition}"


def parse_part(part: str) -> TopicPartition:
    """The partition that :func:`part_name` named."""
    topic, _, number = part.rpartition("/")
    return TopicPartition(topic, int(number))
