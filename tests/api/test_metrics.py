"""Metric windows: api.md 14, as far as it can be seen before a minute has ended.

Not tested: the numbers in a window, its presence and retention, and `latest_only` with data (a window appears only
after its minute); a range that ends before it starts (the code is open).
"""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    ListQuotaUsageMetricsRequest,
    ListTaskMetricsRequest,
    ListWfMetricsRequest,
    MetricsWindowLength,
    MetricWindow,
    MetricWindowId,
    MetricWindowType,
    PrincipalId,
    QuotaId,
    SearchWfMetricWindowRequest,
    TaskDefId,
    TaskDefMetricsQueryRequest,
    TenantId,
    UserTaskDefId,
    WfSpecId,
    WfSpecMetricsQueryRequest,
)

from tests.api.client import Client, executes, now, refused_with

MINUTE_MS = 60_000
LONG_AGO = Timestamp(seconds=60)
FAR_AHEAD = Timestamp(seconds=4_102_444_800)

ORDER = WfSpecId(name="order")
SHIP = TaskDefId(name="ship")
DEFAULT_QUOTA = QuotaId(tenant=TenantId(id="default"))
ANONYMOUS_QUOTA = QuotaId(tenant=TenantId(id="default"), principal=PrincipalId(id="anonymous"))

RANGES: list[dict[str, Timestamp]] = [
    {},
    {"window_start": LONG_AGO},
    {"window_end": FAR_AHEAD},
    {"window_start": LONG_AGO, "window_end": FAR_AHEAD},
]
SUBJECTS: dict[str, tuple[str, Any]] = {
    "all workflows": ("ListWfMetrics", ListWfMetricsRequest()),
    "all workflows by an empty name": ("ListWfMetrics", ListWfMetricsRequest(wf_spec=WfSpecId())),
    "one workflow": ("ListWfMetrics", ListWfMetricsRequest(wf_spec=ORDER)),
    "an unknown workflow": ("ListWfMetrics", ListWfMetricsRequest(wf_spec=WfSpecId(name="nope"))),
    "all tasks": ("ListTaskMetrics", ListTaskMetricsRequest()),
    "all tasks by an empty name": ("ListTaskMetrics", ListTaskMetricsRequest(task_def=TaskDefId())),
    "one task": ("ListTaskMetrics", ListTaskMetricsRequest(task_def=SHIP)),
    "an unknown task": ("ListTaskMetrics", ListTaskMetricsRequest(task_def=TaskDefId(name="nope"))),
    "a tenant": ("ListQuotaUsageMetrics", ListQuotaUsageMetricsRequest(quota_id=DEFAULT_QUOTA)),
    "a principal": ("ListQuotaUsageMetrics", ListQuotaUsageMetricsRequest(quota_id=ANONYMOUS_QUOTA)),
}
METRICS = {"ListWfMetrics": "workflow", "ListTaskMetrics": "task", "ListQuotaUsageMetrics": "quota_usage"}
every_subject = pytest.mark.parametrize(("call", "request_"), SUBJECTS.values(), ids=SUBJECTS)


async def work(client: Client) -> None:
    """A run that completes, and the task of it."""
    await client.put_task_def("ship")
    await client.register(executes("order", "ship"))
    await client.run("order", "r")
    await client.report(await client.claim("ship"))
    await client.reports_processed("r")


async def windows(client: Client, call: str, request: Any) -> list[list[MetricWindow]]:
    """What a List answers for each of the ranges."""
    found = []
    for time_range in RANGES:
        limited = type(request)(**time_range)
        limited.MergeFrom(request)
        found.append(list((await getattr(client.stub, call)(limited)).windows))
    return found


def assert_ended_minutes(found: list[MetricWindow]) -> None:
    """Windows are aligned minutes that have ended, in ascending order."""
    starts = [window.id.window_start.ToMilliseconds() for window in found]
    assert all(start % MINUTE_MS == 0 for start in starts)
    assert all(start + MINUTE_MS <= now().ToMilliseconds() for start in starts)
    assert starts == sorted(starts)


class TestLists:
    @every_subject
    async def test_there_are_no_windows_before_something_happened(
        self, client: Client, call: str, request_: Any
    ) -> None:
        assert await windows(client, call, request_) == [[]] * len(RANGES)

    @every_subject
    async def test_windows_are_ended_minutes(self, client: Client, call: str, request_: Any) -> None:
        await work(client)
        for found in await windows(client, call, request_):
            assert_ended_minutes(found)
            assert all(window.WhichOneof("metric") == METRICS[call] for window in found)


class TestGetMetricWindow:
    @pytest.mark.parametrize(
        "window_id",
        [
            MetricWindowId(wf_spec_id=ORDER, metric_type=MetricWindowType.WORKFLOW_METRIC),
            MetricWindowId(wf_spec_id=WfSpecId(name="nope"), metric_type=MetricWindowType.WORKFLOW_METRIC),
            MetricWindowId(task_def_id=SHIP, metric_type=MetricWindowType.TASK_METRIC),
            MetricWindowId(user_task_def_id=UserTaskDefId(name="form"), metric_type=MetricWindowType.USER_TASK_METRIC),
            MetricWindowId(quota_id=DEFAULT_QUOTA, metric_type=MetricWindowType.QUOTA_USAGE_METRIC),
        ],
        ids=lambda one: str(one.WhichOneof("id")),
    )
    async def test_a_missing_window_is_not_found(self, client: Client, window_id: MetricWindowId) -> None:
        await work(client)
        request = MetricWindowId(window_start=LONG_AGO)
        request.MergeFrom(window_id)
        assert await refused_with(client.stub.GetMetricWindow(request)) == StatusCode.NOT_FOUND


class TestSearchWfMetricWindow:
    @pytest.mark.parametrize("name", ["", " ", "\t"])
    @pytest.mark.parametrize("criteria", [{}, {"latest_only": True}, {"earliest_start": LONG_AGO}], ids="+".join)
    async def test_a_blank_wf_spec_name_is_refused(self, client: Client, name: str, criteria: dict[str, Any]) -> None:
        request = SearchWfMetricWindowRequest(wf_spec_name=name, **criteria)
        assert await refused_with(client.stub.SearchWfMetricWindow(request)) == StatusCode.INVALID_ARGUMENT

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        request = SearchWfMetricWindowRequest(wf_spec_name="order", limit=-1)
        assert await refused_with(client.stub.SearchWfMetricWindow(request)) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize(
        "criteria",
        [
            {},
            {"limit": 1},
            {"latest_only": True},
            {"latest_only": False},
            {"earliest_start": LONG_AGO, "latest_start": FAR_AHEAD},
        ],
    )
    async def test_nothing_found_is_an_empty_page(self, client: Client, criteria: dict[str, Any]) -> None:
        reply = await client.stub.SearchWfMetricWindow(SearchWfMetricWindowRequest(wf_spec_name="order", **criteria))
        assert not reply.results
        assert not reply.HasField("bookmark")

    async def test_windows_that_are_found_are_ended_minutes_that_can_be_read(self, client: Client) -> None:
        await work(client)
        reply = await client.stub.SearchWfMetricWindow(SearchWfMetricWindowRequest(wf_spec_name="order"))
        found = [await client.stub.GetMetricWindow(window_id) for window_id in reply.results]
        assert_ended_minutes(found)
        assert [window.id for window in found] == list(reply.results)


class TestUnimplemented:
    async def test_get_task_def_metrics_window(self, client: Client) -> None:
        request = TaskDefMetricsQueryRequest(
            window_start=LONG_AGO, window_type=MetricsWindowLength.MINUTES_5, task_def_name="ship"
        )
        assert await refused_with(client.stub.GetTaskDefMetricsWindow(request)) == StatusCode.UNIMPLEMENTED

    async def test_get_wf_spec_metrics_window(self, client: Client) -> None:
        request = WfSpecMetricsQueryRequest(
            wf_spec_id=ORDER, window_start=LONG_AGO, window_length=MetricsWindowLength.MINUTES_5
        )
        assert await refused_with(client.stub.GetWfSpecMetricsWindow(request)) == StatusCode.UNIMPLEMENTED
