"""A genuine SDK task worker that outlives daemons: it looks for one often, where the SDK would look once a minute."""

import asyncio
import sys
from typing import Any

import grpc.aio
import littlehorse.worker
from littlehorse.config import LHConfig
from littlehorse.worker import LHTaskWorker

from tests.e2e.worker import announce

RECONNECT = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)

insecure_channel = grpc.aio.insecure_channel


def impatient_channel(target: str, options: Any = (), **others: Any) -> grpc.aio.Channel:
    """A channel that tries to connect again soon."""
    return insecure_channel(target, [*(options or ()), *RECONNECT], **others)


async def main() -> None:
    littlehorse.worker.HEARTBEAT_INTERVAL_SECONDS = 0.2  # type: ignore[assignment]
    littlehorse.worker.REPORT_TASK_RETRIES_INTERVAL_SECONDS = 0.2  # type: ignore[assignment]
    grpc.aio.insecure_channel = impatient_channel  # type: ignore[assignment]
    client = LHConfig()
    client.load({"LHC_API_HOST": "127.0.0.1", "LHC_API_PORT": sys.argv[1]})
    await LHTaskWorker(announce, "announce", client).start()


if __name__ == "__main__":
    asyncio.run(main())
