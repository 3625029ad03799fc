"""What producers and administrators of a cluster do, for tests that are not asynchronous."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

from tests.kafka.broker import Broker

T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """A record to produce."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp_ms: int | None = None


def as_json(value: Any, **more: Any) -> Sent:
    """A record with JSON in it."""
    return Sent(json.dumps(value).encode(), **more)


def new_name(prefix: str = "topic") -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def create(broker: Broker, topic: str, partitions: int = 1, **config: str) -> None:
    """Make a topic; keys of its configuration have ``_`` for ``.``."""
    configs = {name.replace("_", "."): value for name, value in config.items()}
    _administer(broker, lambda admin: admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))


def delete(broker: Broker, topic: str) -> None:
    """Delete a topic."""
    _administer(broker, lambda admin: admin.delete_topics([topic]))


def add_partitions(broker: Broker, topic: str, total: int) -> None:
    """Have a topic have so many partitions."""
    _administer(broker, lambda admin: admin.create_partitions({topic: NewPartitions(total)}))


def delete_before(broker: Broker, topic: str, partition: int, offset: int) -> None:
    """Delete the records before an offset, as retention does."""
    gone = {TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)}
    _administer(broker, lambda admin: admin.delete_records(gone))


def committed(broker: Broker, group: str) -> dict[TopicPartition, int]:
    """What a consumer group has committed."""
    found = _administer(broker, lambda admin: admin.list_consumer_group_offsets(group))
    return {partition: one.offset for partition, one in found.items()}


def produce(broker: Broker, topic: str, records: Iterable[Sent], **options: Any) -> None:
    """Produce records in their order; ``options`` are aiokafka's for producers."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.address, linger_ms=5, **options) as producer:
            for one in records:
                await producer.send(
                    topic,
                    one.value,
                    key=one.key,
                    partition=one.partition,
                    headers=list(one.headers),
                    timestamp_ms=one.timestamp_ms,
                )

    asyncio.run(send())


def _administer(broker: Broker, work: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    async def run() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        try:
            return await work(admin)
        finally:
            await admin.close()

    return asyncio.run(run())
