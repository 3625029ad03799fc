"""The metrics that lhd counts; their names and labels are part of the interface. No label holds a payload or a key."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()

COMMANDS = Counter("lhd_commands", "Commands decided, by kind and result.", ["command", "code"], registry=REGISTRY)
COMMIT_SECONDS = Histogram(
    "lhd_commit_seconds",
    "Time of one durable commit.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2),
    registry=REGISTRY,
)
BATCH_COMMANDS = Histogram(
    "lhd_batch_commands", "Commands in one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=REGISTRY
)
DELIVERIES = Counter(
    "lhd_source_deliveries",
    "Deliveries that were verified and decided, by verdict.",
    ["source", "verdict"],
    registry=REGISTRY,
)
REFUSED = Counter(
    "lhd_source_refused",
    "Requests refused before anything was stored, by reason.",
    ["source", "reason"],
    registry=REGISTRY,
)
SOURCE_RESTARTS = Counter(
    "lhd_source_restarts", "Times that a source was started again.", ["source"], registry=REGISTRY
)
SOURCE_UP = Gauge("lhd_source_up", "Whether a source runs.", ["source"], registry=REGISTRY)
POLLS = Gauge("lhd_task_polls_open", "PollTask streams that are open.", registry=REGISTRY)


@cache
def source_counter(name: str, *labels: str) -> Counter:
    """The counter ``lhd_source_NAME_total`` that sources count with, by source and these labels."""
    return Counter(f"lhd_source_{name}", "Counted by sources.", ["source", *labels], registry=REGISTRY)


@cache
def source_gauge(name: str) -> Gauge:
    """The gauge ``lhd_source_NAME`` that sources set."""
    return Gauge(f"lhd_source_{name}", "Measured by sources.", ["source"], registry=REGISTRY)
