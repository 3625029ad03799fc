"""What metric windows count, once their minute is over: api.md 14. The engine's clock is set forward by the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import grpc
import pytest
from littlehorse.model import (
    LHHostInfo,
    ListQuotaUsageMetricsRequest,
    ListTaskMetricsRequest,
    ListWfMetricsRequest,
    LittleHorseStub,
    MetricWindow,
    MetricWindowId,
    MetricWindowType,
    PutQuotaRequest,
    QuotaId,
    SearchWfMetricWindowRequest,
    TaskDefId,
    TaskStatus,
    TenantId,
    WfSpecId,
)

from lhd.api.call import Api
from lhd.api.server import GrpcServer
from lhd.engine import Engine
from lhd.store import Store
from tests.api.client import Client, executes, only_exit

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
"""The beginning of a minute."""


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def engine(tmp_path: Path, clock: Clock) -> AsyncIterator[Engine]:
    store = await Store.open(tmp_path / "data")
    engine = Engine(store, clock_ms=clock, monotonic_ms=lambda: 0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(engine.run)
        yield engine
        tasks.cancel_scope.cancel()
    await store.close()


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    reader = await engine.store.reader()
    server = GrpcServer(Api(engine, reader, LHHostInfo(host="127.0.0.1", port=1)))
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(LittleHorseStub(channel))  # type: ignore[no-untyped-call] # generated code
    await server.stop(0)
    await reader.close()


async def one_window(client: Client, name: str) -> MetricWindow:
    found = (await client.stub.ListWfMetrics(ListWfMetricsRequest(wf_spec=WfSpecId(name=name)))).windows
    assert len(found) == 1
    window: MetricWindow = found[0]
    return window


async def test_a_window_appears_when_its_minute_is_over_and_counts_what_happened(client: Client, clock: Clock) -> None:
    await client.register(only_exit("order"))
    for run in ("a", "b", "c"):
        await client.run("order", run)
    request = ListWfMetricsRequest(wf_spec=WfSpecId(name="order"))
    assert not (await client.stub.ListWfMetrics(request)).windows
    clock.now_ms += MINUTE_MS + 10_000
    window = await one_window(client, "order")
    assert window.id.window_start.ToMilliseconds() == START_MS
    assert window.id.metric_type == MetricWindowType.WORKFLOW_METRIC
    assert window.workflow.started.count == 3
    assert window.workflow.running_to_completed.count == 3
    assert window.workflow.running_to_error.count == 0
    assert await client.stub.GetMetricWindow(window.id) == window


async def test_latencies_are_those_of_the_tasks(client: Client, clock: Clock) -> None:
    await client.put_task_def("ship")
    await client.register(executes("order", "ship"))
    await client.run("order", "r")
    clock.now_ms += 2_000
    claimed = await client.claim("ship")
    clock.now_ms += 3_000
    await client.report(claimed, TaskStatus.TASK_SUCCESS)
    await client.reports_processed("r")
    clock.now_ms += MINUTE_MS + 10_000
    request = ListTaskMetricsRequest(task_def=TaskDefId(name="ship"))
    (window,) = (await client.stub.ListTaskMetrics(request)).windows
    waited, worked = window.task.taskattempt_scheduled_to_running, window.task.taskattempt_running_to_success
    assert (waited.count, waited.min_latency_ms, waited.max_latency_ms, waited.total_latency_ms) == (
        1,
        2000,
        2000,
        2000,
    )
    assert (worked.count, worked.total_latency_ms) == (1, 3000)
    assert window.task.taskrun_created_to_completed.total_latency_ms == 5000


async def test_without_a_name_all_wf_specs_are_added_up(client: Client, clock: Clock) -> None:
    for name in ("order", "invoice"):
        await client.register(only_exit(name))
        await client.run(name, name)
    clock.now_ms += MINUTE_MS + 10_000
    (window,) = (await client.stub.ListWfMetrics(ListWfMetricsRequest())).windows
    assert window.workflow.started.count == 2


async def test_searches_find_each_window_once_across_pages(client: Client, clock: Clock) -> None:
    await client.register(only_exit("order"))
    for run in ("a", "b", "c"):
        await client.run("order", run)
        clock.now_ms += MINUTE_MS
    clock.now_ms += 10_000
    pages = await client.pages("SearchWfMetricWindow", SearchWfMetricWindowRequest(wf_spec_name="order", limit=2))
    starts = [found.window_start.ToMilliseconds() for page in pages for found in page]
    assert [len(page) for page in pages] == [2, 1]
    assert starts == [START_MS + n * MINUTE_MS for n in range(3)]
    latest = await client.stub.SearchWfMetricWindow(SearchWfMetricWindowRequest(wf_spec_name="order", latest_only=True))
    assert [found.window_start.ToMilliseconds() for found in latest.results] == starts[-1:]


async def test_the_window_of_a_quota_tells_what_it_observed_and_what_it_throttled(client: Client, clock: Clock) -> None:
    await client.register(only_exit("order"))
    tenant = TenantId(id="default")
    await client.stub.PutQuota(PutQuotaRequest(tenant=tenant, write_requests_per_second=2))
    await client.run("order", "a")
    with pytest.raises(grpc.aio.AioRpcError):
        await client.run("order", "b")
    clock.now_ms += MINUTE_MS + 10_000
    await client.run("order", "c")
    request = ListQuotaUsageMetricsRequest(quota_id=QuotaId(tenant=tenant))
    (window,) = (await client.stub.ListQuotaUsageMetrics(request)).windows
    assert (window.quota_usage.requests_observed, window.quota_usage.requests_throttled) == (2, 1)
    assert window.quota_usage.total_throttle_time_ms >= 500


async def test_a_window_of_another_time_is_not_found(client: Client, clock: Clock) -> None:
    await client.register(only_exit("order"))
    await client.run("order", "a")
    clock.now_ms += MINUTE_MS + 10_000
    window_id = MetricWindowId()
    window_id.CopyFrom((await one_window(client, "order")).id)
    window_id.window_start.FromMilliseconds(START_MS + MINUTE_MS)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await client.stub.GetMetricWindow(window_id)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
