"""Shows to the broker how far the source has read, for tools that watch consumer groups; nothing depends on it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition

from lhd.plugin import SourceContext
from lhd_kafka.clients import closing, is_stray
from lhd_kafka.cluster import Client
from lhd_kafka.positions import Position

_EVERY_S = 5.0
_TRY_AGAIN_S = 60.0
Connect = Callable[[], AbstractAsyncContextManager[AIOKafkaConsumer]]


async def show_progress(
    context: SourceContext, group: str, connect: Connect, positions: Mapping[TopicPartition, Position]
) -> None:
    """Commit the positions, as they change, to a consumer group, until cancelled."""
    while True:
        try:
            async with connect() as consumer:
                await _show(consumer, positions)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not harm the reading
            cause = type(error).__name__
        except asyncio.CancelledError:
            if not is_stray():
                raise
            cause = "the connection was closed"
        context.log.info("progress is not shown to the broker", group=group, cause=cause)
        await anyio.sleep(_TRY_AGAIN_S)


async def _show(consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, Position]) -> None:
    shown: dict[TopicPartition, int] = {}
    while True:
        await anyio.sleep(_EVERY_S)
        offsets = {one: positions[one].next for one in consumer.assignment() if one in positions}
        new = {one: offset for one, offset in offsets.items() if shown.get(one) != offset}
        if new:
            await consumer.commit({one: OffsetAndMetadata(offset, "") for one, offset in new.items()})
            shown |= new


@asynccontextmanager
async def apart(client: Client, group: str, partitions: Sequence[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of its own for it, so that what a broker says to that does not reach the one that reads."""
    consumer = AIOKafkaConsumer(**client.options, group_id=group, enable_auto_commit=False)
    async with closing(consumer):
        await consumer.start()
        consumer.assign(partitions)
        consumer.pause(*partitions)  # or it would fetch
        yield consumer
