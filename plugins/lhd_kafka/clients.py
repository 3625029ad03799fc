"""Clients of aiokafka: made alike, closed for good, and never making a topic by asking for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka.admin.client
import aiokafka.client
import anyio
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

_STOP_S = 5.0


class ClusterQuestion(MetadataRequest):
    """aiokafka has brokers make the topics that it asks for, if they do such a thing, and has no option for it."""

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


aiokafka.client.MetadataRequest = ClusterQuestion  # type: ignore[assignment, attr-defined]
aiokafka.admin.client.MetadataRequest = ClusterQuestion  # type: ignore[assignment, attr-defined]


def is_stray() -> bool:
    """Whether a cancellation just caught is nobody's: aiokafka cancels what waits for a connection that it closes."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


@asynccontextmanager
async def closing(client: Any) -> AsyncIterator[None]:
    """Stop a consumer, producer or administrator at the end, whatever happened, and within seconds."""
    try:
        yield
    finally:
        with anyio.move_on_after(_STOP_S, shield=True):
            try:
                await (client.close() if hasattr(client, "close") else client.stop())
            except KafkaError:
                pass
            except asyncio.CancelledError:
                if not is_stray():
                    raise
                # Its own fetch task was cancelled in the middle of something, and it has forgotten the rest.
                await client._client.close()
