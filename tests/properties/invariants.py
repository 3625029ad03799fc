"""What holds after every command, whatever came before; each function is one rule over the rows of a world.

The rules about threads and their halts are in thread_rules.py.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from littlehorse.model import (
    ExternalEventDef,
    InlineStructDef,
    LHStatus,
    StructDefId,
    TaskRun,
    TaskStatus,
    VariableValue,
)

from lhd.core import kinds
from lhd.core.events import accept_content
from lhd.core.ids import external_event_key, milliseconds
from lhd.core.kinds import TERMINAL, UNFINISHED, USER_TASK_ENDED, Outcome, TimerAction, Verdict
from lhd.core.records import Key
from lhd.core.values import EvaluationError
from tests.properties import thread_rules
from tests.properties.thread_rules import FAILED, STOPPED, is_stopped_for_good, node_of, node_runs
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import BELLS


def _targets(world: WholeWorld, action: TimerAction) -> Counter[Key]:
    timers = world.rows[kinds.TIMER].values()
    return Counter((timer.tenant, timer.run, *timer.target) for timer in timers if timer.action == action)


def an_event_is_claimed_by_exactly_one_node_run_and_a_completed_wait_has_exactly_one_event(world: WholeWorld) -> None:
    """Nor is a claimed event ever removed, so none is both expired and claimed. Interrupts have no NodeRun."""
    taken: Counter[Key] = Counter()
    for key, node_run in node_runs(world, "external_event"):
        has_event = node_run.external_event.HasField("external_event_id")
        assert has_event or node_run.status != LHStatus.COMPLETED, key
        # A NodeRun that has its event can still fail: over the edge that leaves it.
        assert not has_event or node_run.status in (LHStatus.COMPLETED, *FAILED), key
        if has_event:
            event_key = external_event_key(key[0], node_run.external_event.external_event_id)
            event = world.rows[kinds.EXTERNAL_EVENT][event_key]
            assert (event.thread_run_number, event.node_run_position) == key[2:]
            taken[event_key] += 1
    events = world.rows[kinds.EXTERNAL_EVENT].items()
    assert taken == Counter(key for key, event in events if event.claimed and key[2] not in BELLS)


def an_event_that_fits_a_waiting_node_run_is_not_left_unclaimed(world: WholeWorld) -> None:
    for key, node_run in node_runs(world, "external_event"):
        if node_run.status != LHStatus.RUNNING or world.rows[kinds.WF_RUN][key[:2]].status in TERMINAL:
            continue
        assert not node_run.external_event.timed_out
        for event_key, event in world.rows[kinds.EXTERNAL_EVENT].items():
            fits = (
                event_key[:2] == key[:2]
                and event_key[2] == node_run.external_event.external_event_def_id.name
                and (not event.HasField("thread_run_number") or event.thread_run_number == key[2])
                and (not event.HasField("node_run_position") or event.node_run_position == key[3])
            )
            assert event.claimed or not fits, (key, event_key)


def the_running_waits_with_a_key_have_one_marker_each_and_only_halted_ones_may_have_one(world: WholeWorld) -> None:
    """A halted one keeps its marker until something is correlated to it or its WfRun ends.

    A WfRun can complete over a halted thread, and what then still moves may come to wait for a key.
    """
    certain: Counter[Key] = Counter()
    possible: Counter[Key] = Counter()
    for key, node_run in node_runs(world, "external_event"):
        wait = node_run.external_event
        marker = (key[0], wait.external_event_def_id.name, wait.correlation_key, *key[1:])
        wf_run = world.rows[kinds.WF_RUN][key[:2]]
        waits = node_run.status in (LHStatus.RUNNING, LHStatus.HALTED) and wf_run.status not in FAILED
        if waits and wait.HasField("correlation_key"):
            is_certain = node_run.status == LHStatus.RUNNING and wf_run.status not in TERMINAL
            (certain if is_certain else possible)[marker] += 1
    markers = Counter(world.rows[kinds.MARKER])
    assert certain <= markers <= certain + possible, (certain, markers, possible)


def _timers_of_waits(world: WholeWorld, action: TimerAction, waiting: Iterator[Key]) -> None:
    """Each wait has one timer, whether it runs or is halted; one that is halted for good has none.

    What is halted below a thread that is halted for good has one only if it was started later, by an interrupt.
    """
    certain: Counter[Key] = Counter()
    possible: Counter[Key] = Counter()
    for key in waiting:
        status = world.rows[kinds.NODE_RUN][key[:4]].status
        if status == LHStatus.RUNNING or (status == LHStatus.HALTED and not is_stopped_for_good(world, key)):
            certain[key] += 1
        elif status == LHStatus.HALTED and not is_stopped_for_good(world, key, itself=True):
            possible[key] += 1
    timers = _targets(world, action)
    assert certain <= timers <= certain + possible, (certain, timers, possible)


def the_waits_with_a_timeout_have_one_timer_each_and_nothing_else_has_one(world: WholeWorld) -> None:
    waiting = (
        key
        for key, node_run in node_runs(world, "external_event")
        if not node_run.external_event.timed_out and node_of(world, node_run).external_event.HasField("timeout_seconds")
    )
    _timers_of_waits(world, TimerAction.EXTERNAL_EVENT_TIMEOUT, waiting)


def the_sleeps_have_one_timer_each_and_nothing_else_has_one(world: WholeWorld) -> None:
    """The timer is due when the NodeRun says, to the millisecond."""
    sleeping = (
        (*key, milliseconds(node_run.sleep.maturation_time))
        for key, node_run in node_runs(world, "sleep")
        if not node_run.sleep.matured
    )
    _timers_of_waits(world, TimerAction.SLEEP, sleeping)
    for timer in world.rows[kinds.TIMER].values():
        if timer.action == TimerAction.SLEEP:
            assert timer.due_ms == timer.target[2]


def no_sleep_that_runs_has_matured(world: WholeWorld) -> None:
    for key, node_run in node_runs(world, "sleep"):
        assert node_run.status != LHStatus.RUNNING or not node_run.sleep.matured, key


def timers_of_user_tasks_belong_to_node_runs_that_wait(world: WholeWorld) -> None:
    for key in _targets(world, TimerAction.USER_TASK_ACTION):
        assert world.rows[kinds.NODE_RUN][key[:4]].status in (LHStatus.RUNNING, LHStatus.HALTED), key


def _task_runs(world: WholeWorld, status: TaskStatus) -> Iterator[tuple[Key, TaskRun]]:
    for key, task_run in world.rows[kinds.TASK_RUN].items():
        if task_run.status == status:
            yield key, task_run


def the_queue_holds_the_scheduled_task_runs(world: WholeWorld) -> None:
    scheduled = {key for key, _ in _task_runs(world, TaskStatus.TASK_SCHEDULED)}
    assert world.rows[kinds.QUEUED_TASK].keys() == scheduled
    assert world.queue.keys() == scheduled


def the_running_attempts_have_one_timer_each_and_the_pending_ones_another(world: WholeWorld) -> None:
    for status, action in (
        (TaskStatus.TASK_RUNNING, TimerAction.TASK_TIMEOUT),
        (TaskStatus.TASK_PENDING, TimerAction.TASK_RETRY),
    ):
        attempts: Counter[Key] = Counter()
        for key, task_run in _task_runs(world, status):
            generation = (task_run.total_checkpoints,) if action == TimerAction.TASK_TIMEOUT else ()
            attempts[(*key, len(task_run.attempts) - 1, *generation)] += 1
        assert _targets(world, action) == attempts


def a_task_run_is_where_its_last_attempt_is(world: WholeWorld) -> None:
    for key, task_run in world.rows[kinds.TASK_RUN].items():
        assert task_run.status == task_run.attempts[-1].status, key
        assert len(task_run.attempts) <= task_run.total_attempts
        retried = {attempt.status for attempt in list(task_run.attempts)[:-1]}
        assert retried <= {TaskStatus.TASK_FAILED, TaskStatus.TASK_TIMEOUT}


def a_task_node_waits_as_long_as_its_task_run(world: WholeWorld) -> None:
    """Except that one which the loop guard has failed leaves its task behind."""
    for key, node_run in node_runs(world, "task"):
        if not node_run.task.HasField("task_run_id"):
            assert node_run.status in FAILED
            continue
        task_run = world.rows[kinds.TASK_RUN][*key[:2], node_run.task.task_run_id.task_guid]
        waits = node_run.status in (LHStatus.RUNNING, LHStatus.HALTING)
        guarded = [failure.failure_name for failure in node_run.failures] == ["INTERNAL_ERROR"]
        assert guarded or waits == (task_run.status in UNFINISHED), key
        assert waits or node_run.status in STOPPED


def a_user_task_node_waits_as_long_as_its_user_task_run(world: WholeWorld) -> None:
    for key, node_run in node_runs(world, "user_task"):
        if not node_run.user_task.HasField("user_task_run_id"):
            assert node_run.status in FAILED
            continue
        user_task_run = world.rows[kinds.USER_TASK_RUN][*key[:2], node_run.user_task.user_task_run_id.user_task_guid]
        assert user_task_run.node_run_id == node_run.id
        if node_run.status == LHStatus.RUNNING:
            assert user_task_run.status not in USER_TASK_ENDED, key
        elif node_run.status == LHStatus.HALTED:
            assert user_task_run.status in USER_TASK_ENDED, key


def every_record_of_a_run_belongs_to_a_run_that_exists(world: WholeWorld) -> None:
    unborn = (kinds.EXTERNAL_EVENT, kinds.EXTERNAL_EVENT_ORIGIN, kinds.TIMER)
    for kind, rows in world.rows.items():
        for key in rows if kind.lane == "run" and kind not in unborn else ():
            assert key[:2] in world.rows[kinds.WF_RUN], (kind.name, key)
    for timer in world.rows[kinds.TIMER].values():
        of_event = timer.action in (TimerAction.EXTERNAL_EVENT_RETENTION, TimerAction.CORRELATED_EVENT_TTL)
        assert of_event or (timer.tenant, timer.run) in world.rows[kinds.WF_RUN], timer


def runs_with_a_retention_have_one_timer_from_their_end_on(world: WholeWorld) -> None:
    """The timer of an end that a rescue has undone may be left; it is for another time than the present end."""
    ended: Counter[Key] = Counter()
    kept: set[Key] = set()
    for key, wf_run in world.rows[kinds.WF_RUN].items():
        spec = wf_run.wf_spec_id
        registered = world.rows[kinds.WF_SPEC]["default", spec.name, spec.major_version, spec.revision]
        if registered.message.retention_policy.HasField("seconds_after_wf_termination"):
            kept.add(key)
            if wf_run.status in TERMINAL:
                ended[*key, milliseconds(wf_run.end_time)] += 1
    timers = _targets(world, TimerAction.WF_RUN_RETENTION)
    assert ended <= timers
    assert {key[:2] for key in timers} <= kept
    assert all(times == 1 for times in timers.values())


def timers_of_events_belong_to_events_that_exist(world: WholeWorld) -> None:
    for key in _targets(world, TimerAction.EXTERNAL_EVENT_RETENTION):
        assert key in world.rows[kinds.EXTERNAL_EVENT]
    for tenant, _, event_def, key, created_ms in _targets(world, TimerAction.CORRELATED_EVENT_TTL):
        event = world.rows[kinds.CORRELATED_EVENT][tenant, event_def, key]
        assert milliseconds(event.created_at) == created_ms


def no_timer_is_overdue(world: WholeWorld) -> None:
    """Time has been told, so all that was due has fired."""
    timer = world.next_timer()
    assert timer is None or timer.due_ms > world.now_ms
    assert world.timers == world.rows[kinds.TIMER]


def nobody_waits_for_a_key_whose_live_event_fits(world: WholeWorld) -> None:
    """Except those who came before the def was put again: that an event fits it from then on wakes nobody."""
    for tenant, event_def, key, *waiter in world.rows[kinds.MARKER]:
        event = world.rows[kinds.CORRELATED_EVENT].get((tenant, event_def, key))
        definition = world.rows[kinds.EXTERNAL_EVENT_DEF][tenant, event_def]
        arrival = world.rows[kinds.NODE_RUN][(tenant, *waiter)].arrival_time
        if event is not None and milliseconds(arrival) > milliseconds(definition.created_at):
            assert not _fits(definition, event.content), waiter


def _fits(definition: ExternalEventDef, content: VariableValue) -> bool:
    try:
        accept_content(definition, content, NO_STRUCT_DEFS, void_takes_anything=False)
    except EvaluationError:
        return False
    return True


class NoStructDefs:
    """The definitions of these tests have primitive types only."""

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        raise AssertionError(struct_def_id)


NO_STRUCT_DEFS = NoStructDefs()


def events_queue_only_behind_a_live_one(world: WholeWorld) -> None:
    for *lane, _ in world.rows[kinds.QUEUED_EVENT]:
        assert tuple(lane) in world.rows[kinds.CORRELATED_EVENT]
    for key in world.rows[kinds.CORRELATED_EVENT_ORIGIN]:
        assert key in world.rows[kinds.CORRELATED_EVENT]


def the_ledger_has_one_row_for_each_verdict_and_only_accepted_ones_have_an_outcome(world: WholeWorld) -> None:
    for row in world.rows[kinds.LEDGER].values():
        assert (row.outcome is not None) == (row.verdict == Verdict.ACCEPTED)
        assert row.verdict != Verdict.DUPLICATE
    for key, letter in world.rows[kinds.DEAD_LETTER].items():
        assert world.rows[kinds.LEDGER][key[0], letter.delivery_id].verdict == Verdict.DEAD
    for key, seen in world.rows[kinds.SEEN_DELIVERY].items():
        assert world.rows[kinds.LEDGER][key[0], seen.delivery_id].verdict in (Verdict.ACCEPTED, Verdict.FILTERED)


def the_outcome_of_a_delivery_for_a_run_tells_where_its_event_is(world: WholeWorld) -> None:
    for row in world.rows[kinds.LEDGER].values():
        if row.verdict != Verdict.ACCEPTED or row.correlation_key is not None:
            continue
        key = (row.tenant, row.run, row.event_def, row.guid)
        event = world.rows[kinds.EXTERNAL_EVENT].get(key)
        match row.outcome:
            case Outcome.WAITING:
                assert event is not None
                assert not event.claimed
            case Outcome.DELIVERED:
                assert event is None or event.claimed
                assert (
                    event is not None
                    or ("default", row.run) not in world.rows[kinds.WF_RUN]
                    or _was_deleted(world, row)
                )
            case _:
                assert event is None
        assert (key in world.rows[kinds.EXTERNAL_EVENT_ORIGIN]) == (row.outcome == Outcome.WAITING)


def _was_deleted(world: WholeWorld, row: Any) -> bool:
    wf_run = world.rows[kinds.WF_RUN]["default", row.run]
    return bool(milliseconds(wf_run.start_time) >= row.received_ms)


def a_delivery_for_a_key_that_still_waits_is_still_kept(world: WholeWorld) -> None:
    kept = {
        *world.rows[kinds.CORRELATED_EVENT_ORIGIN].values(),
        *world.rows[kinds.EXTERNAL_EVENT_ORIGIN].values(),
        *(queued.origin for queued in world.rows[kinds.QUEUED_EVENT].values()),
    }
    for row in world.rows[kinds.LEDGER].values():
        if row.outcome == Outcome.WAITING:
            assert row.delivery_id in kept, row


RULES = (
    an_event_is_claimed_by_exactly_one_node_run_and_a_completed_wait_has_exactly_one_event,
    an_event_that_fits_a_waiting_node_run_is_not_left_unclaimed,
    the_running_waits_with_a_key_have_one_marker_each_and_only_halted_ones_may_have_one,
    the_waits_with_a_timeout_have_one_timer_each_and_nothing_else_has_one,
    the_sleeps_have_one_timer_each_and_nothing_else_has_one,
    no_sleep_that_runs_has_matured,
    timers_of_user_tasks_belong_to_node_runs_that_wait,
    the_queue_holds_the_scheduled_task_runs,
    the_running_attempts_have_one_timer_each_and_the_pending_ones_another,
    a_task_run_is_where_its_last_attempt_is,
    a_task_node_waits_as_long_as_its_task_run,
    a_user_task_node_waits_as_long_as_its_user_task_run,
    every_record_of_a_run_belongs_to_a_run_that_exists,
    runs_with_a_retention_have_one_timer_from_their_end_on,
    timers_of_events_belong_to_events_that_exist,
    no_timer_is_overdue,
    nobody_waits_for_a_key_whose_live_event_fits,
    events_queue_only_behind_a_live_one,
    the_ledger_has_one_row_for_each_verdict_and_only_accepted_ones_have_an_outcome,
    the_outcome_of_a_delivery_for_a_run_tells_where_its_event_is,
    a_delivery_for_a_key_that_still_waits_is_still_kept,
    *thread_rules.RULES,
)


def check(world: WholeWorld) -> None:
    """Every rule."""
    for rule in RULES:
        rule(world)
