"""``python -m tests.bench.growth``: whether cost stays the same as things grow.

A WfRun that loops through 10,000 NodeRuns is timed at its beginning and at its end; a search over a million WfRuns is
timed page by page. Processor time for the loop, wall time for the pages; figures are medians (lowest..highest).
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import grpc
from littlehorse.model import (
    LHHostInfo,
    LHStatus,
    LittleHorseStub,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    RunWfRequest,
    SearchWfRunRequest,
    ThreadRun,
    WfRun,
    WfRunId,
    WfSpecId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.api.call import Api
from lhd.api.server import GrpcServer
from lhd.core import kinds
from lhd.core.commands import Command
from lhd.core.ids import timestamp
from lhd.engine import Engine
from lhd.store import Store
from lhd.store.tables import BY_KIND

ROUND = 100
START_MS = 1_700_000_000_000


def loop(thread: WorkflowThread) -> None:
    """Wait for one event after the other, for ever."""
    count = thread.declare_int("count", 0)

    def again(thread: WorkflowThread) -> None:
        thread.wait_for_event("next")
        count.assign(count.add(1))

    thread.do_while(count.is_greater_than(-1), again)


def only_exit(thread: WorkflowThread) -> None:
    """Nothing."""


def _figure(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):,.3g} ({min(values):,.3g}..{max(values):,.3g}) {unit}"


async def time_loop(engine: Engine, node_runs: int) -> list[str]:
    """Events for one WfRun, one after the other."""

    async def submit(request: Any) -> Any:
        return await engine.submit(Command("default", request))

    await submit(PutExternalEventDefRequest(name="next"))
    await submit(Workflow("loop", loop).compile())
    await submit(RunWfRequest(wf_spec_name="loop", id="r"))
    event = PutExternalEventRequest(wf_run_id=WfRunId(id="r"))
    event.external_event_def_id.name = "next"
    rounds = []
    position = 0
    while position < node_runs:
        began = time.process_time()
        for _ in range(ROUND):
            await submit(event)
        rounds.append((time.process_time() - began) / ROUND * 1e6)
        wf_run = await engine.store.load_point(kinds.WF_RUN, ("default", "r"))
        position = wf_run.thread_runs[0].current_node_position
    fifth = max(1, len(rounds) // 5)
    return [
        f"a loop of {position:,} NodeRuns, an event a round",
        f"  first fifth  {_figure(rounds[:fifth], 'us of processor time an event')}",
        f"  last fifth   {_figure(rounds[-fifth:], 'us of processor time an event')}",
    ]


def insert_runs(path: Path, count: int) -> None:
    """Rows as the engine writes them, of two WfSpecs and three statuses."""
    table = BY_KIND[kinds.WF_RUN]
    statuses = (LHStatus.COMPLETED,) * 998 + (LHStatus.ERROR, LHStatus.RUNNING)

    def rows() -> Any:
        for number in range(count):
            run = WfRun(id=WfRunId(id=f"run-{number:07}"), status=statuses[number % 1000])
            run.wf_spec_id.CopyFrom(WfSpecId(name="order" if number % 2 else "invoice"))
            run.start_time.CopyFrom(timestamp(START_MS + number))
            run.thread_runs.append(ThreadRun(status=run.status))
            yield table.row(("default", run.id.id), run)

    with sqlite3.connect(path) as connection:
        connection.executemany(table.upsert, rows())
    connection.close()


async def time_search(stub: Any, count: int) -> list[str]:
    """The first, a middle and the last page of 100 for each criterion."""
    error = LHStatus.ERROR
    searches = {
        "all": SearchWfRunRequest(),
        "by WfSpec": SearchWfRunRequest(wf_spec_name="order"),
        "by status, 1 in 1,000": SearchWfRunRequest(status=error),
        "by WfSpec and status": SearchWfRunRequest(wf_spec_name="invoice", status=error),
        "by version": SearchWfRunRequest(wf_spec_name="order", wf_spec_major_version=0, wf_spec_revision=0),
    }
    lines = [f"a page of 100 out of {count:,} WfRuns"]
    for name, request in searches.items():
        times = {}
        for place, part in (("first", 0.0), ("middle", 0.5), ("late", 0.99)):
            paged = SearchWfRunRequest(limit=100)
            paged.MergeFrom(request)
            paged.earliest_start.CopyFrom(timestamp(START_MS + int(count * part)))
            times[place] = await _repeat(lambda paged=paged: stub.SearchWfRun(paged))  # type: ignore[misc]
        lines.append(f"  {name:24}" + "".join(f"{place} {_figure(ms, 'ms'):28}" for place, ms in times.items()))
    pages, seen, request = 0, 0, SearchWfRunRequest(limit=10_000)
    began = time.perf_counter()
    while True:
        reply = await stub.SearchWfRun(request)
        pages, seen = pages + 1, seen + len(reply.results)
        if not reply.HasField("bookmark"):
            break
        request.bookmark = reply.bookmark
    return [*lines, f"  paging through all: {seen:,} in {pages} pages, {time.perf_counter() - began:.1f} s"]


async def _repeat(call: Callable[[], Awaitable[Any]]) -> list[float]:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return times


async def main(node_runs: int, wf_runs: int) -> None:
    """Both measurements, on stores of their own."""
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "data")
        engine = Engine(store)
        async with anyio.create_task_group() as tasks:
            await tasks.start(engine.run)
            lines = await time_loop(engine, node_runs)
            for name in ("order", "invoice"):
                await engine.submit(Command("default", Workflow(name, only_exit).compile()))
            await anyio.to_thread.run_sync(insert_runs, Path(folder) / "data" / "lhd.sqlite", wf_runs)
            reader = await store.reader()
            server = GrpcServer(Api(engine, reader, LHHostInfo(host="127.0.0.1", port=1)))
            port = await server.start("127.0.0.1:0")
            options = [("grpc.max_receive_message_length", 64 << 20)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                lines += await time_search(LittleHorseStub(channel), wf_runs)  # type: ignore[no-untyped-call]
            await server.stop(0)
            await reader.close()
            tasks.cancel_scope.cancel()
        await store.close()
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node-runs", type=int, default=10_000)
    parser.add_argument("--wf-runs", type=int, default=1_000_000)
    arguments = parser.parse_args()
    anyio.run(main, arguments.node_runs, arguments.wf_runs, backend_options={"use_uvloop": True})
