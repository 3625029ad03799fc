"""The task worker, with a heartbeat that comes soon enough for a test; the port of the daemon is its argument."""

import asyncio

from littlehorse import worker as sdk

from tests.e2e.worker import main

if __name__ == "__main__":
    sdk.HEARTBEAT_INTERVAL_SECONDS = 1
    asyncio.run(main())
