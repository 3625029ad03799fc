"""Metric windows: what happened in a minute, once it is over (api.md 14)."""

from collections.abc import Sequence
from typing import Any

from littlehorse.model import (
    CountAndTiming,
    ListQuotaUsageMetricsRequest,
    ListTaskMetricsRequest,
    ListWfMetricsRequest,
    MetricsList,
    MetricWindow,
    MetricWindowId,
    MetricWindowIdList,
    MetricWindowType,
    SearchWfMetricWindowRequest,
    TenantId,
    WfSpecId,
)

from lhd.api.call import Api, Method
from lhd.api.paging import Query, between, page
from lhd.core.ids import milliseconds, timestamp
from lhd.core.measures import Metric, Subject
from lhd.errors import invalid_argument, not_found
from lhd.measuring import WINDOW_MS

_SETTLE_MS = 2_000
"""After its end a window still gets what was decided in it and is committed late."""
_HOUR_MS = 3_600_000
_ROWS = "window_ms, measure, sum(count), min(least_ms), max(most_ms), sum(total_ms)"


async def list_wf_metrics(api: Api, tenant: str, request: ListWfMetricsRequest) -> MetricsList:
    """ListWfMetrics: of one version of a WfSpec, or of all together."""
    return await _list(api, tenant, request, MetricWindowId(wf_spec_id=request.wf_spec))


async def list_task_metrics(api: Api, tenant: str, request: ListTaskMetricsRequest) -> MetricsList:
    """ListTaskMetrics: of one TaskDef, or of all together."""
    return await _list(api, tenant, request, MetricWindowId(task_def_id=request.task_def))


async def list_quota_usage_metrics(api: Api, tenant: str, request: ListQuotaUsageMetricsRequest) -> MetricsList:
    """ListQuotaUsageMetrics: of a tenant's quota, or of a principal's in it."""
    return await _list(api, tenant, request, MetricWindowId(quota_id=request.quota_id))


async def _list(api: Api, tenant: str, request: Any, window_id: MetricWindowId) -> MetricsList:
    subject = _subject_of(tenant, window_id)
    assert subject is not None
    now_ms = api.engine.now_ms()
    start_ms = milliseconds(request.window_start) if request.HasField("window_start") else now_ms - _HOUR_MS
    end_ms = milliseconds(request.window_end) if request.HasField("window_end") else now_ms
    return MetricsList(windows=await _windows(api, subject, max(0, start_ms), end_ms, window_id))


async def _windows(
    api: Api, subject: Subject, start_ms: int, end_ms: int, window_id: MetricWindowId
) -> list[MetricWindow]:
    condition = "tenant = ? AND metric = ? AND window_ms BETWEEN ? AND ?"
    last_ms = min(end_ms, _last_ended_ms(api))
    parameters: list[Any] = [subject.tenant, subject.metric, start_ms, last_ms]
    if subject.name:
        condition += " AND name = ? AND detail = ? AND major_version = ? AND revision = ?"
        parameters += subject[2:]
    query = f"SELECT {_ROWS} FROM metric_count WHERE {condition} GROUP BY window_ms, measure ORDER BY window_ms"
    windows: dict[int, MetricWindow] = {}
    for at_ms, *row in await api.reader.fetch(query, parameters):
        window = windows.setdefault(at_ms, MetricWindow(id=window_id))
        _add(window, subject, row)
        window.id.window_start.CopyFrom(timestamp(at_ms))
        window.id.tenant_id.id = subject.tenant
        window.id.metric_type = _TYPES[subject.metric]
    return list(windows.values())


def _last_ended_ms(api: Api) -> int:
    return api.engine.now_ms() - WINDOW_MS - _SETTLE_MS


def _add(window: MetricWindow, subject: Subject, row: Sequence[Any]) -> None:
    measure, count, least, most, total = row
    if subject.metric == Metric.QUOTA:
        usage = window.quota_usage
        if measure == "requests_throttled":
            usage.requests_throttled, usage.total_throttle_time_ms = count, total
        else:
            usage.requests_observed = count
        return
    part = window.workflow if subject.metric == Metric.WORKFLOW else window.task
    timing = CountAndTiming(count=count, min_latency_ms=least, max_latency_ms=most, total_latency_ms=total)
    getattr(part, measure).CopyFrom(timing)


async def get_metric_window(api: Api, tenant: str, request: MetricWindowId) -> MetricWindow:
    """GetMetricWindow: one window by its id."""
    subject = _subject_of(tenant, request)
    at_ms = milliseconds(request.window_start)
    found = [] if subject is None else await _windows(api, subject, at_ms, at_ms, request)
    if not found:
        raise not_found("there is no such metric window")
    return found[0]


def _subject_of(tenant: str, window_id: MetricWindowId) -> Subject | None:
    match window_id.WhichOneof("id"):
        case "wf_spec_id":
            spec = window_id.wf_spec_id
            return Subject(tenant, Metric.WORKFLOW, spec.name, "", spec.major_version, spec.revision)
        case "task_def_id":
            return Subject(tenant, Metric.TASK, window_id.task_def_id.name)
        case "quota_id":
            quota = window_id.quota_id
            return Subject(quota.tenant.id, Metric.QUOTA, quota.tenant.id, quota.principal.id)
    return None


async def search_wf_metric_window(api: Api, tenant: str, request: SearchWfMetricWindowRequest) -> MetricWindowIdList:
    """SearchWfMetricWindow: the windows of a WfSpec, oldest first; ``latest_only`` finds those of the last minute."""
    if not request.wf_spec_name.strip():
        raise invalid_argument("SearchWfMetricWindow needs a wf_spec_name")
    order = ("window_ms", "major_version", "revision")
    distinct = (
        "(SELECT DISTINCT tenant, name, window_ms, major_version, revision FROM metric_count "
        f"WHERE metric = '{Metric.WORKFLOW}')"
    )
    query = Query(distinct, order, order)
    query.where("tenant = ? AND name = ? AND window_ms <= ?", tenant, request.wf_spec_name, _last_ended_ms(api))
    if request.latest_only:
        query.where("window_ms >= ?", _last_ended_ms(api) // WINDOW_MS * WINDOW_MS)
    between(query, "window_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    results = [
        MetricWindowId(
            wf_spec_id=WfSpecId(name=request.wf_spec_name, major_version=major, revision=revision),
            tenant_id=TenantId(id=tenant),
            window_start=timestamp(at_ms),
            metric_type=MetricWindowType.WORKFLOW_METRIC,
        )
        for at_ms, major, revision in rows
    ]
    return MetricWindowIdList(results=results, bookmark=bookmark)


_TYPES = {
    Metric.WORKFLOW: MetricWindowType.WORKFLOW_METRIC,
    Metric.TASK: MetricWindowType.TASK_METRIC,
    Metric.QUOTA: MetricWindowType.QUOTA_USAGE_METRIC,
}

METHODS: dict[str, Method] = {
    "ListWfMetrics": list_wf_metrics,
    "ListTaskMetrics": list_task_metrics,
    "ListQuotaUsageMetrics": list_quota_usage_metrics,
    "GetMetricWindow": get_metric_window,
    "SearchWfMetricWindow": search_wf_metric_window,
}
