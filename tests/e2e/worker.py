"""A genuine SDK task worker in a process of its own; the port of the daemon is its argument."""

import asyncio
import sys

from littlehorse.config import LHConfig
from littlehorse.worker import LHTaskWorker


async def announce(branch: str, by: str) -> str:
    return f"{by} made {branch}"


async def main() -> None:
    client = LHConfig()
    client.load({"LHC_API_HOST": "127.0.0.1", "LHC_API_PORT": sys.argv[1]})
    worker = LHTaskWorker(announce, "announce", client)
    await worker.start()


if __name__ == "__main__":
    asyncio.run(main())
