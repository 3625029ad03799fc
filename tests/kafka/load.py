"""Producers that go on through kills, and their own book of what was acknowledged.

The records of a partition are numbered from 0, and one producer alone produces to it, so that the book of a partition
is a count. A record without an acknowledgement is produced again under its sequence number, which a broker takes once.
"""

import asyncio
import json
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.kafka.broker import Broker
from tests.kafka.topics import new_name

PARTITIONS = 6
PRODUCERS = 3
BURST = 40
ABORTED_SHARE = 0.3
ABORTED = -1
"""The number of every record that must never be seen."""
JOIN_S = 60.0


class Abandoned(Exception):
    """The test has ended before the load."""


@dataclass
class Book:
    """What the producers know."""

    acknowledged: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    """How many records of each partition; of transactions those that were committed."""
    aborted: int = 0
    transactions: dict[str, int] = field(default_factory=lambda: {"committed": 0, "aborted": 0})


def share(total: int, partition: int) -> int:
    """How many of all records a partition gets."""
    return total // PARTITIONS + (partition < total % PARTITIONS)


def value(partition: int, number: int) -> bytes:
    """The value of a record."""
    return json.dumps({"partition": partition, "number": number, "padding": "x" * 100}).encode()


class Gate:
    """Keeps the producers at most ``window`` records ahead of what the daemon has stored."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._changed = threading.Condition()
        self._stored = 0
        self._produced = 0
        self._is_abandoned = False

    async def enter(self, count: int) -> None:
        """Wait until so many records may be produced. Raises Abandoned."""
        await asyncio.to_thread(self._enter, count)

    def _enter(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_abandoned or self._produced + count <= self._stored + self._window)
            if self._is_abandoned:
                raise Abandoned
            self._produced += count

    def stored(self, count: int) -> None:
        """The daemon has stored so many records."""
        with self._changed:
            self._stored = count
            self._changed.notify_all()

    def abandon(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()


class Load(threading.Thread):
    """Produces records to the partitions of a topic until each has its share."""

    def __init__(self, broker: Broker, topic: str, total: int, window: int, seed: int, *, transactional: bool) -> None:
        super().__init__(name="load", daemon=True)
        self.book = Book()
        self.gate = Gate(window)
        self.error: BaseException | None = None
        self._broker = broker
        self._topic = topic
        self._total = total
        self._chance = random.Random(seed)
        self._produce = self._in_transactions if transactional else self._with_idempotence

    def run(self) -> None:
        try:
            asyncio.run(self._produce())
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the test can see it
            self.error = error

    def stored(self, count: int) -> None:
        """The daemon has stored so many records. Raises what the producers have failed with."""
        if self.error is not None:
            raise self.error
        self.gate.stored(count)

    def finish(self) -> None:
        """Return when everything is acknowledged."""
        self.join(JOIN_S)
        if self.error is not None:
            raise self.error
        assert not self.is_alive(), "the producers do not come to an end"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Produce meanwhile, and not longer."""
        self.start()
        try:
            yield
        finally:
            self.gate.abandon()

    # Without transactions

    async def _with_idempotence(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(PRODUCERS):
                tasks.create_task(self._produce_alone(range(number, PARTITIONS, PRODUCERS)))

    async def _produce_alone(self, partitions: Iterable[int]) -> None:
        left = {partition: share(self._total, partition) for partition in partitions}
        sent: list[tuple[int, asyncio.Future[object]]] = []
        async with self._producer(enable_idempotence=True) as producer:
            while any(left.values()):
                partition = self._chance.choice([one for one, count in left.items() if count])
                count = min(left[partition], self._chance.randint(1, BURST))
                await self.gate.enter(count)
                first = share(self._total, partition) - left[partition]
                sent += [
                    (partition, await self._send(producer, partition, number)) for number in range(first, first + count)
                ]
                left[partition] -= count
            for partition, acknowledgement in sent:
                await acknowledgement
                self.book.acknowledged[partition] += 1

    # In transactions

    async def _in_transactions(self) -> None:
        """Transactions that commit or abort, and beside each of them one of another producer that aborts."""
        async with (
            self._producer(transactional_id=new_name("load")) as producer,
            self._producer(transactional_id=new_name("spoiler")) as spoiler,
        ):
            while left := self._left():
                counts = {partition: self._chance.randint(0, min(BURST, most)) for partition, most in left.items()}
                is_committed = self._chance.random() > ABORTED_SHARE
                await self.gate.enter(sum(counts.values()) if is_committed else 0)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._transact(producer, counts, commit=is_committed))
                    tasks.create_task(self._transact(spoiler, dict.fromkeys(counts, 1), commit=False))
            # The last record of each: whoever has read it is past all that was aborted.
            await self.gate.enter(PARTITIONS)
            await self._transact(producer, dict.fromkeys(range(PARTITIONS), 1), commit=True)

    def _left(self) -> dict[int, int]:
        """How many records are left to each partition, except for the last one."""
        book = self.book.acknowledged
        left = {partition: share(self._total, partition) - 1 - book[partition] for partition in book}
        return {partition: count for partition, count in left.items() if count}

    async def _transact(self, producer: AIOKafkaProducer, counts: dict[int, int], *, commit: bool) -> None:
        await producer.begin_transaction()
        sent = [
            await self._send(producer, partition, self.book.acknowledged[partition] + number if commit else ABORTED)
            for partition, count in counts.items()
            for number in range(count)
        ]
        for acknowledgement in sent:
            await acknowledgement
        await (producer.commit_transaction() if commit else producer.abort_transaction())
        self.book.transactions["committed" if commit else "aborted"] += 1
        if not commit:
            self.book.aborted += len(sent)
            return
        for partition, count in counts.items():
            self.book.acknowledged[partition] += count

    def _producer(self, **options: object) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._broker.address, acks="all", linger_ms=2, request_timeout_ms=60_000, **options
        )

    async def _send(self, producer: AIOKafkaProducer, partition: int, number: int) -> "asyncio.Future[object]":
        key = b"%d-%d" % (partition, number)
        return await producer.send(self._topic, value(partition, number), key=key, partition=partition)


@dataclass(frozen=True)
class Held:
    """What the broker has of a partition."""

    records: list[tuple[int, int]]
    """Offset and number of the records of committed transactions."""
    end: int
    """The offset after all that was ever produced, marks of transactions included."""


def held(broker: Broker, topic: str) -> dict[int, Held]:
    """What a plain consumer reads from the first record to the end, by partition."""

    async def read() -> dict[int, Held]:
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        async with AIOKafkaConsumer(
            bootstrap_servers=broker.address, auto_offset_reset="earliest", isolation_level="read_committed"
        ) as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            found: dict[int, list[tuple[int, int]]] = {place.partition: [] for place in places}
            while any([await consumer.position(place) < ends[place] for place in places]):
                for place, records in (await consumer.getmany(timeout_ms=100)).items():
                    found[place.partition] += [(one.offset, json.loads(one.value)["number"]) for one in records]
            return {place.partition: Held(found[place.partition], ends[place]) for place in places}

    return asyncio.run(read())
