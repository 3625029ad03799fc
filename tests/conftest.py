"""Fixtures shared by all rooms' tests."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from littlehorse.model import LHHostInfo, LittleHorseStub

from lhd.api.call import Api
from lhd.api.server import GrpcServer
from lhd.bulk_jobs import BulkJobs
from lhd.engine import Engine
from lhd.store import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long forms of the tests under load, instead of the short")
    parser.addoption("--without-kafka", action="store_true", help="leave out the tests that need Apache Kafka")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """All tests run as the daemon does: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LHD_", "LHC_", "LHW_")) or name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"):
            monkeypatch.delenv(name)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """A running engine on a store of its own."""
    store = await Store.open(tmp_path / "data")
    engine = Engine(store)
    async with anyio.create_task_group() as tasks:
        await tasks.start(engine.run)
        yield engine
        tasks.cancel_scope.cancel()
    await store.close()


@pytest.fixture
async def stub(engine: Engine) -> AsyncIterator[LittleHorseStub]:
    """A real gRPC channel to a real server in front of ``engine``."""
    reader = await engine.store.reader()
    api = Api(engine, reader, LHHostInfo(host="127.0.0.1", port=1))
    server = GrpcServer(api)
    port = await server.start("127.0.0.1:0")
    api.advertised.port = port
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(BulkJobs(engine, reader).run)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield LittleHorseStub(channel)  # type: ignore[no-untyped-call] # generated code
        await server.stop(0)
        tasks.cancel_scope.cancel()
    await reader.close()
