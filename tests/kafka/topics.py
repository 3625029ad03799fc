"""What producers and administrators of a cluster do, for tests that are not asynchronous."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.kafka.broker import Broker

T = TypeVar("T")
_NAME = b"a-header-of-no-other-name"
_CRC = 17
"""Where the checksum of a batch is, of all that comes after it."""


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


def create(broker: Broker, *topics: str, partitions: int = 1, **config: str) -> None:
    """Make topics; keys of their configuration have ``_`` for ``.``."""
    configs = {name.replace("_", "."): value for name, value in config.items()}
    new = [NewTopic(topic, partitions, 1, topic_configs=configs) for topic in topics]
    _administer(broker, lambda admin: admin.create_topics(new))


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


def commit(broker: Broker, group: str, topic: str, offset: int) -> None:
    """Have a consumer group, which has no members, be at an offset of a topic's first partition."""

    async def run() -> None:
        async with AIOKafkaConsumer(bootstrap_servers=broker.address, group_id=group) as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.commit({TopicPartition(topic, 0): offset})

    asyncio.run(run())


def members(broker: Broker, group: str) -> list[int]:
    """How many partitions each member of a consumer group has; nothing while they are given out."""
    described: list[Any] = _administer(broker, lambda admin: admin.describe_consumer_groups([group]))
    (_, _, state, _, _, joined, *_) = described[0].groups[0]
    if state != "Stable":
        return []
    assigned = [ConsumerProtocolMemberAssignment.decode(member[-1]) for member in joined]
    return sorted(sum(len(partitions) for _, partitions in one.assignment) for one in assigned)


def produce(broker: Broker, topic: str, records: Iterable[Sent], **options: Any) -> list[int]:
    """Produce records in their order; ``options`` are aiokafka's for producers. Their offsets."""

    async def send() -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=broker.address, linger_ms=5, **options) as producer:
            return await _send(producer, topic, records)

    return asyncio.run(send())


def produce_unreadable(broker: Broker, topic: str, partition: int, values: Sequence[bytes], bad: int) -> None:
    """Produce records in one batch, of which number ``bad`` has a header whose name is no UTF-8."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 100_000)
    for number, value in enumerate(values):
        headers: list[tuple[str, bytes | None]] = [(_NAME.decode(), b"")] if number == bad else []
        builder.append(number, time.time_ns() // 1_000_000, None, value, headers)
    batch = bytes(builder.build()).replace(_NAME, b"\xff" * len(_NAME))
    batch = batch[:_CRC] + calc_crc32c(batch[_CRC + 4 :]).to_bytes(4, "big") + batch[_CRC + 4 :]

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            await producer.partitions_for(topic)
            request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
            leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
            response = await producer.client.send(leader, request)
            ((_, ((_, error, *_),)),) = response.topics
            assert error == 0

    asyncio.run(send())


def produce_in_transaction(broker: Broker, topic: str, records: Iterable[Sent], *, commit: bool) -> list[int]:
    """Produce records in one transaction, and commit or abort it. Their offsets."""

    async def send() -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=new_name()) as producer:
            await producer.begin_transaction()
            offsets = await _send(producer, topic, records)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
            return offsets

    return asyncio.run(send())


async def _send(producer: AIOKafkaProducer, topic: str, records: Iterable[Sent]) -> list[int]:
    sent = [
        await producer.send(
            topic,
            one.value,
            key=one.key,
            partition=one.partition,
            headers=list(one.headers),
            timestamp_ms=one.timestamp_ms,
        )
        for one in records
    ]
    return [(await future).offset for future in sent]


def offsets_of(broker: Broker, topic: str, partition: int = 0) -> list[int]:
    """The offsets of all records that a partition has."""

    async def read() -> list[int]:
        place = TopicPartition(topic, partition)
        async with AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest") as consumer:
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            found: list[int] = []
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [record.offset for record in records]
            return found

    return asyncio.run(read())


def _administer(broker: Broker, work: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    async def run() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        try:
            return await work(admin)
        finally:
            await admin.close()

    return asyncio.run(run())
