"""Reads partitions from where the store says, and commits what it reads together with where it is.

The broker is believed in nothing that can be checked: what a group has committed is not asked for, the last record that
was read is read again, and silence is looked into.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

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
from lhd_kafka.config import KafkaConfig
from lhd_kafka.places import Places, stored
from lhd_kafka.positions import Position, Record
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
    _partitions: list[TopicPartition] = field(default_factory=list)
    _unsought: set[TopicPartition] = field(default_factory=set)
    """Assigned, and not sought yet: whatever comes of them is dropped."""
    _next_look_s: float = 0
    _looking: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _failure: Exception | None = None
    """What the look-out for topics has found."""

    def __post_init__(self) -> None:
        self._places = Places(self.context, self.config, self.cluster, self.events)

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
        await self._places.load()
        try:
            self._partitions = await self.cluster.partitions()
        except Missing as missing:
            await self._places.note_absent(missing.topics)
            raise
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
            await self._places.begin(consumer, self._partitions)
            await self._places.seek(consumer, self._partitions, assign=True)
            self._say_reading(self._partitions)
            return
        self.context.report(f"waiting for the group '{self.group}' to give partitions")
        topics = sorted({partition.topic for partition in self._partitions})
        consumer.subscribe(topics, listener=_Assigned(self._unsought))

    def _say_reading(self, partitions: Collection[TopicPartition]) -> None:
        self.context.report("")
        self.context.log.info("reading", partitions=len(partitions), mode=self.config.mode)

    async def _read_and_watch(self, consumer: AIOKafkaConsumer) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_topics)
            if self.config.mode == "assign":
                shower: Connect = partial(apart, self.client, self.group, self._partitions)
            else:
                shower = lambda: nullcontext(consumer)  # noqa: E731
            tasks.start_soon(show_progress, self.context, self.group, shower, self._places.positions)
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
            self._places.pace.polled(len(fetched))
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
            await self._places.seek(consumer, list(error.args[0]))
        except NoOffsetForPartitionError:
            pass  # in a group, of a partition that is not sought yet
        except KafkaError:
            raise
        except Exception as error:  # noqa: BLE001 - of bytes that it cannot read aiokafka lets through anything
            await self._sift(consumer, type(error).__name__)
        return fetched

    async def _sift(self, consumer: AIOKafkaConsumer, cause: str) -> None:
        """Read record by record, until the one comes that aiokafka cannot read; that one is a dead letter.

        From what is stored on: what the failed call had already taken of other partitions went with it.
        """
        partitions = consumer.assignment() - self._unsought
        await self._places.seek(consumer, partitions)
        for partition in partitions:
            for _ in range(_SIFTED_MAX):
                try:
                    fetched = await consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=1)
                except KafkaError:
                    raise
                except Exception:  # noqa: BLE001 - as above
                    offset = await consumer.position(partition)
                    event = self.events.unreadable(partition, offset, cause)
                    await self._commit(consumer, [event], {partition: Position(offset + 1)})
                    consumer.seek(partition, offset + 1)
                    continue
                if not fetched:
                    break
                records = [record for one in fetched.values() for record in await self._checked(partition, one)]
                if records:
                    await self._store(consumer, records)

    async def _seek_unsought(self, consumer: AIOKafkaConsumer) -> None:
        """Begin what the group has just given."""
        given = self._unsought & consumer.assignment()
        if not given:
            return
        await self._places.load()
        await self._places.begin(consumer, sorted(given))
        self._unsought -= given
        try:
            await self._places.seek(consumer, given)
        except BaseException:
            self._unsought |= given
            raise
        self._say_reading(consumer.assignment())

    async def _checked(self, partition: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        return () if partition in self._unsought else await self._places.checked(partition, records)

    async def _store(self, consumer: AIOKafkaConsumer, records: Sequence[Record]) -> None:
        events = [await self.events.of(record) for record in records]
        last = {TopicPartition(record.topic, record.partition): record for record in records}
        positions = {partition: Position.after(record) for partition, record in last.items()}
        await self._commit(consumer, events, positions)

    async def _commit(
        self, consumer: AIOKafkaConsumer, events: Sequence[Event], positions: dict[TopicPartition, Position]
    ) -> None:
        """Store a batch. Raises Transient where too many of late are dead letters."""
        receipts = await self._commit_when_possible(consumer, events, positions)
        self._places.positions |= positions
        now_s = anyio.current_time()
        self.budget.add(len(receipts), sum(receipt.verdict == "dead" for receipt in receipts), now_s)
        require_budget(self.budget, self.config)

    async def _commit_when_possible(
        self, consumer: AIOKafkaConsumer, events: Sequence[Event], positions: dict[TopicPartition, Position]
    ) -> list[Receipt]:
        """While the daemon is overloaded nothing is fetched."""
        paused_s: float | None = None
        try:
            while True:
                try:
                    return await self.context.commit(events, positions=stored(positions), bury=True)
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
            for partition in ends.keys() & self._places.positions.keys():
                # Of a partition that was just taken away there would be no position, for ever.
                if partition not in consumer.assignment():
                    continue
                offset = await consumer.position(partition)
                # Of one that was given again meanwhile it is what the group has committed.
                if partition not in self._unsought:
                    lag += await self._places.look_at(consumer, partition, offset, ends[partition], now_s)
            self.context.measure("lag_records", lag)
        if self._looking.cancelled_caught and self._failure is None:
            raise Transient(AWAY, AWAY_S)


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
