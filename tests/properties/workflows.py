"""The definitions that the property tests run: small workflows, one for each way of waiting or failing."""

from collections.abc import Callable
from typing import Any

from littlehorse.model import (
    CorrelatedEventConfig,
    ExponentialBackoffRetryPolicy,
    ExternalEventRetentionPolicy,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    ThreadRetentionPolicy,
    UserTaskField,
    VariableAssignment,
    VariableType,
    WaitForThreadsStrategy,
    WorkflowRetentionPolicy,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import (
    SpawnedThreads,
    Workflow,
    WorkflowThread,
)

from lhd.core.settings import Settings

PAID, KEPT, KEYED, MANY = "paid", "kept", "keyed", "many"
BELLS = ("bell", "bell-1", "bell-2", "bell-3")
"""The events that interrupt."""
SAID, APPROVAL = "said", "approval"

EVENT_DEFS = {
    PAID: PutExternalEventDefRequest(name=PAID),
    KEPT: PutExternalEventDefRequest(name=KEPT, retention_policy=ExternalEventRetentionPolicy(seconds_after_put=4)),
    KEYED: PutExternalEventDefRequest(
        name=KEYED, correlated_event_config=CorrelatedEventConfig(ttl_seconds=6, delete_after_first_correlation=True)
    ),
    MANY: PutExternalEventDefRequest(name=MANY, correlated_event_config=CorrelatedEventConfig()),
    **{name: PutExternalEventDefRequest(name=name) for name in BELLS},
}

SETTINGS = Settings(dedupe_ms=20_000, queued_events_max=2, passes_max=32, threads_max=12)
"""Limits that a short test can reach."""


def literal(value: Any) -> VariableAssignment:
    """A value that an assignment gives as it is."""
    return VariableAssignment(literal_value=to_variable_value(value))


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


def _nap(thread: WorkflowThread) -> None:
    thread.sleep(2)


def _paid(thread: WorkflowThread) -> None:
    thread.wait_for_event(PAID)


def _unlucky(thread: WorkflowThread) -> None:
    thread.wait_for_event(KEPT)
    thread.fail("no-luck", "none left", "apples")


def _late(thread: WorkflowThread) -> None:
    thread.wait_for_event(PAID, timeout=3)


def _join(strategy: WaitForThreadsStrategy) -> Callable[[WorkflowThread], None]:
    def joined(thread: WorkflowThread) -> None:
        bodies = (_nap, _unlucky, _paid, wait_for_key_of_many)
        spawned = [thread.spawn_thread(body, f"child-{number}") for number, body in enumerate(bodies)]
        thread.wait_for_threads(SpawnedThreads.from_list(*spawned), strategy)
        thread.sleep(1)

    return joined


def join_with_handlers(thread: WorkflowThread) -> None:
    spawned = [thread.spawn_thread(body, f"child-{number}") for number, body in enumerate((_unlucky, _late))]
    waiting = thread.wait_for_threads(SpawnedThreads.from_list(*spawned))
    waiting.handle_exception_on_child(_paid, "no-luck")
    thread.handle_error(waiting, _nap)


def spawn_and_leave(thread: WorkflowThread) -> None:
    thread.spawn_thread(_unlucky, "unlucky")
    thread.spawn_thread(_nap, "nap")


def start_multiple(thread: WorkflowThread) -> None:
    def one(thread: WorkflowThread) -> None:
        thread.declare_int("INPUT")
        thread.wait_for_event(PAID)

    items = thread.declare_json_arr("items", [1, 2, 3])
    thread.wait_for_threads(thread.spawn_thread_for_each(items, one, "one"))


def handled_timeout(thread: WorkflowThread) -> None:
    thread.handle_error(thread.wait_for_event(PAID, timeout=2), _nap)
    thread.wait_for_event(PAID)


def handled_task(thread: WorkflowThread) -> None:
    task = thread.execute("work", "now", timeout_seconds=2)
    thread.handle_exception(task, _paid, "no-money")
    thread.handle_any_failure(task, _unlucky)


def interrupted(thread: WorkflowThread) -> None:
    def on_bell(thread: WorkflowThread) -> None:
        thread.declare_int("INPUT")
        thread.wait_for_event(KEPT, timeout=3)

    thread.add_interrupt_handler(BELLS[0], on_bell)
    thread.wait_for_threads(SpawnedThreads.from_list(thread.spawn_thread(_nap, "nap")))
    thread.execute("work", "now", timeout_seconds=3)
    thread.wait_for_event(KEYED, timeout=4, correlation_id="k")


def interrupted_by_failure(thread: WorkflowThread) -> None:
    thread.add_interrupt_handler(BELLS[1], _late)
    thread.handle_any_failure(thread.wait_for_event(PAID), _nap)


def user_task(thread: WorkflowThread) -> None:
    task = thread.assign_user_task(APPROVAL, "anna", "finance")
    thread.schedule_reminder_task(task, 1, "work", "remember")
    thread.release_to_group_on_deadline(task, 2)


def user_task_with_deadline(thread: WorkflowThread) -> None:
    task = thread.assign_user_task(APPROVAL, "anna")
    thread.reassign_user_task_on_deadline(task, 1, user_id="bert")
    thread.cancel_user_task_run_after_assignment(task, 3)
    thread.handle_any_failure(task.with_on_cancellation_exception("too-late"), _nap)


def child_workflow(thread: WorkflowThread) -> None:
    thread.complete(thread.wait_for_child_wf(thread.run_wf("wait")))


def failing_child_workflow(thread: WorkflowThread) -> None:
    child = thread.wait_for_child_wf(thread.run_wf("handled-task"))
    thread.handle_exception(child, _nap)


def condition(thread: WorkflowThread) -> None:
    done = thread.declare_int("done", 0)

    def worker(thread: WorkflowThread) -> None:
        thread.execute("work", "now", timeout_seconds=3)
        done.assign(done.add(1))

    thread.spawn_thread(worker, "first")
    thread.spawn_thread(worker, "second")
    thread.wait_for_condition(done.is_greater_than_eq(2))


def say(thread: WorkflowThread) -> None:
    thread.throw_event(SAID, "first")
    thread.wait_for_event(KEPT)
    thread.throw_event(SAID, "second")


def short_lived_threads(thread: WorkflowThread) -> None:
    rounds = thread.declare_int("rounds", 0)

    def nap(thread: WorkflowThread) -> None:
        thread.with_retention_policy(ThreadRetentionPolicy(seconds_after_thread_termination=1))
        thread.sleep(1)

    def again(thread: WorkflowThread) -> None:
        thread.wait_for_threads(SpawnedThreads.from_list(thread.spawn_thread(nap, "nap")))
        rounds.assign(rounds.add(1))

    thread.do_while(rounds.is_less_than(4), again)


def sleep_until(thread: WorkflowThread) -> None:
    """Another thread moves the time until which this one sleeps."""
    until = thread.declare_int("until", 1_700_000_004_000)

    def earlier(thread: WorkflowThread) -> None:
        thread.wait_for_event(PAID)
        until.assign(until.subtract(2_000))
        thread.wait_for_event(PAID)
        until.assign(until.add(5_000))

    thread.spawn_thread(earlier, "earlier")
    thread.sleep_until(until)


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
    join_with_handlers,
    spawn_and_leave,
    start_multiple,
    handled_timeout,
    handled_task,
    interrupted,
    interrupted_by_failure,
    user_task,
    user_task_with_deadline,
    child_workflow,
    failing_child_workflow,
    condition,
    say,
    short_lived_threads,
    sleep_until,
)
WORKFLOWS = {body.__name__.replace("_", "-"): body for body in BODIES} | {
    "join-all": _join(WaitForThreadsStrategy.WAIT_FOR_ALL),
    "join-first": _join(WaitForThreadsStrategy.WAIT_FOR_FIRST),
    "join-any": _join(WaitForThreadsStrategy.WAIT_FOR_ANY),
}
NAMES = tuple(WORKFLOWS)
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


def shared_definitions() -> list[Any]:
    """Every request that has to come before a WfSpec."""
    approved = UserTaskField(name="approved", type=VariableType.BOOL, required=True)
    return [
        *EVENT_DEFS.values(),
        _task_def(),
        PutUserTaskDefRequest(name=APPROVAL, fields=[approved, UserTaskField(name="why", type=VariableType.STR)]),
        PutWorkflowEventDefRequest(name=SAID),
    ]


def definitions() -> list[Any]:
    """Every request that has to come before the first run."""
    return [*shared_definitions(), *_SPECS]


_SPECS = [_workflow(name, body).compile() for name, body in WORKFLOWS.items()]
