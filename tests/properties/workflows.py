"""The definitions that the property tests run: small workflows, one for each way of waiting."""

from collections.abc import Callable
from typing import Any

from littlehorse.model import (
    CorrelatedEventConfig,
    ExponentialBackoffRetryPolicy,
    ExternalEventRetentionPolicy,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    VariableType,
    WorkflowRetentionPolicy,
)
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.core.settings import Settings

PAID, KEPT, KEYED, MANY = "paid", "kept", "keyed", "many"

EVENT_DEFS = {
    PAID: PutExternalEventDefRequest(name=PAID),
    KEPT: PutExternalEventDefRequest(name=KEPT, retention_policy=ExternalEventRetentionPolicy(seconds_after_put=4)),
    KEYED: PutExternalEventDefRequest(
        name=KEYED, correlated_event_config=CorrelatedEventConfig(ttl_seconds=6, delete_after_first_correlation=True)
    ),
    MANY: PutExternalEventDefRequest(name=MANY, correlated_event_config=CorrelatedEventConfig()),
}

SETTINGS = Settings(dedupe_ms=20_000, queued_events_max=2, passes_max=32)
"""Limits that a short test can reach."""


def wait(thread: WorkflowThread) -> None:
    thread.complete(thread.wait_for_event(PAID))


def wait_with_timeout(thread: WorkflowThread) -> None:
    thread.wait_for_event(KEPT, timeout=3)


def wait_for_key(thread: WorkflowThread) -> None:
    key = thread.declare_str("key", "k")
    thread.complete(thread.wait_for_event(KEYED, timeout=5, correlation_id=key))


def wait_for_key_of_many(thread: WorkflowThread) -> None:
    thread.wait_for_event(MANY, correlation_id="k")


def wait_twice(thread: WorkflowThread) -> None:
    first = thread.wait_for_event(PAID, timeout=8)
    thread.wait_for_event(PAID)
    thread.complete(first)


def wait_twice_for_key(thread: WorkflowThread) -> None:
    thread.wait_for_event(KEYED, correlation_id="k")
    thread.wait_for_event(KEYED, timeout=5, correlation_id="k")


def wait_then_task(thread: WorkflowThread) -> None:
    paid = thread.wait_for_event(PAID)
    thread.execute("work", paid, timeout_seconds=3, retries=1)


def task_with_backoff(thread: WorkflowThread) -> None:
    backoff = ExponentialBackoffRetryPolicy(base_interval_ms=1000, max_delay_ms=3000, multiplier=2)
    thread.execute("work", "now", timeout_seconds=3, retries=2, exponential_backoff=backoff)


def sleep(thread: WorkflowThread) -> None:
    thread.sleep(3)


def loop(thread: WorkflowThread) -> None:
    count = thread.declare_int("count", 0)

    def again(thread: WorkflowThread) -> None:
        thread.wait_for_event(KEPT)
        count.assign(count.add(1))

    thread.do_while(count.is_less_than(3), again)


def endless_loop(thread: WorkflowThread) -> None:
    count = thread.declare_int("count", 0)

    def again(thread: WorkflowThread) -> None:
        thread.execute("work", "again")

    thread.do_while(count.is_equal_to(0), again)


BODIES: tuple[Callable[[WorkflowThread], None], ...] = (
    wait,
    wait_with_timeout,
    wait_for_key,
    wait_for_key_of_many,
    wait_twice,
    wait_twice_for_key,
    wait_then_task,
    task_with_backoff,
    sleep,
    loop,
    endless_loop,
)
NAMES = tuple(body.__name__.replace("_", "-") for body in BODIES)
KEPT_FOR_A_WHILE = "sleep"
"""The workflow whose runs are deleted some time after their end."""


def _workflow(name: str, body: Callable[[WorkflowThread], None]) -> Workflow:
    workflow = Workflow(name, body)
    if name == KEPT_FOR_A_WHILE:
        workflow.with_retention_policy(WorkflowRetentionPolicy(seconds_after_wf_termination=5))
    return workflow


def _task_def() -> PutTaskDefRequest:
    request = PutTaskDefRequest(name="work")
    request.input_vars.add(name="what").type_def.primitive_type = VariableType.STR
    return request


def definitions() -> list[Any]:
    """Every request that has to come before the first run."""
    return [*EVENT_DEFS.values(), _task_def(), *_SPECS]


_SPECS = [_workflow(name, body).compile() for name, body in zip(NAMES, BODIES, strict=True)]
