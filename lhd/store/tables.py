"""Which table holds which kind of record, and how a record becomes a row and a row a record."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from littlehorse.model import (
    BulkJob,
    Checkpoint,
    CorrelatedEvent,
    ExternalEvent,
    ExternalEventDef,
    InactiveThreadRun,
    NodeRun,
    Principal,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    Quota,
    RunWfRequest,
    ScheduledWfRun,
    StructDef,
    TaskDef,
    TaskRun,
    Tenant,
    UserTaskDef,
    UserTaskRun,
    Variable,
    VariableValue,
    WfRun,
    WfSpec,
    WorkflowEvent,
    WorkflowEventDef,
    WorkflowMigrationPlan,
)

from lhd.core import kinds
from lhd.core.access import is_admin
from lhd.core.ids import milliseconds, printed
from lhd.core.kinds import (
    DeadLetter,
    ExpiryPlan,
    LedgerRow,
    Moved,
    QueuedEvent,
    QueuedTask,
    Schedule,
    SeenDelivery,
    Timer,
    TimerAction,
)
from lhd.core.records import Key, Kind
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.values import INT_MAX, INT_MIN
from lhd.store.table import OutcomeTable, Table, TimerTable, body_table, open_column, serialise, sought_table


def _awaited_event(node_run: NodeRun) -> str | None:
    return node_run.external_event.external_event_def_id.name if node_run.HasField("external_event") else None


def _optional(field: str) -> Callable[[Any], Any]:
    return lambda message: getattr(message, field) if message.HasField(field) else None


def _ms(field: str) -> Callable[[Any], int]:
    return lambda message: milliseconds(getattr(message, field))


def _wf_run(_: Key, run: WfRun) -> Sequence[Any]:
    spec = run.wf_spec_id
    parent = printed(run.id.parent_wf_run_id) if run.id.HasField("parent_wf_run_id") else None
    start_ms = milliseconds(run.start_time)
    return spec.name, spec.major_version, spec.revision, run.status, start_ms, parent, serialise(run)


def _schedule(_: Key, schedule: Schedule) -> Sequence[Any]:
    scheduled, spec = schedule.scheduled, schedule.scheduled.wf_spec_id
    created_ms = milliseconds(scheduled.created_at)
    requested = schedule.major_version, schedule.revision
    return *requested, spec.name, spec.major_version, spec.revision, created_ms, serialise(scheduled)


def _ledger(_: Key, row: LedgerRow) -> Sequence[Any]:
    return (
        row.source,
        row.identity,
        row.received_ms,
        row.verdict,
        row.reason,
        row.route,
        row.event_def,
        row.correlation_key,
        row.run,
        row.guid,
        row.sender_id,
        row.outcome,
        None,
    )


def _moved(_: Key, moved: Moved) -> Sequence[Any]:
    return moved.at_ms, moved.run, moved.guid


def _dead_letter(_: Key, letter: DeadLetter) -> Sequence[Any]:
    return (
        letter.delivery_id,
        letter.reason,
        letter.first_ms,
        letter.last_ms,
        letter.count,
        letter.body,
        letter.content_type,
        letter.attributes,
        letter.is_cut,
    )


def _letter(*row: Any) -> DeadLetter:
    columns: list[Any] = [*row[:-1], bool(row[-1])]
    return DeadLetter(*columns)


def _expiry_plan(_: Key, plan: ExpiryPlan) -> Sequence[Any]:
    letter, start = plan.letter, None if plan.start is None else serialise(plan.start)
    event = serialise(plan.event)
    events = (event, None) if isinstance(plan.event, PutCorrelatedEventRequest) else (None, event)
    kept = letter.body, letter.content_type, letter.attributes, letter.is_cut
    return plan.source, plan.identity, *events, start, letter.reason, letter.first_ms, *kept


def _plan(key: Key, row: Sequence[Any]) -> ExpiryPlan:
    source, identity, correlated, external, start, reason, first_ms, *kept = row
    event: PutExternalEventRequest | PutCorrelatedEventRequest = (
        PutExternalEventRequest.FromString(external)
        if correlated is None
        else PutCorrelatedEventRequest.FromString(correlated)
    )
    request = None if start is None else RunWfRequest.FromString(start)
    return ExpiryPlan(source, identity, event, request, _letter(key[1], reason, first_ms, first_ms, 1, *kept))


def _write_only(_: Key, __: Sequence[Any]) -> Any:
    raise AssertionError("the core never reads this kind")


_RUN = ("tenant", "run")
_EVENT = (*_RUN, "event_def", "guid")
_CORRELATION = ("tenant", "event_def", "key")
_DELIVERY = ("tenant", "source", "identity")
_DEAD_LETTER = ("delivery_id", "reason", "first_ms", "last_ms", "count", "body", "content_type", "attributes", "is_cut")
_SEEN = ("delivery_id", "digest", "seen_ms")
_LEDGER = (
    "source",
    "identity",
    "received_ms",
    "verdict",
    "reason",
    "route",
    "event_def",
    "correlation_key",
    "run",
    "guid",
    "sender_id",
    "outcome",
    "outcome_ms",
)
_EXPIRY_PLAN = (
    "source",
    "identity",
    "correlated_event",
    "external_event",
    "start",
    "reason",
    "first_ms",
    "body",
    "content_type",
    "attributes",
    "is_cut",
)

TABLES: tuple[Table, ...] = (
    body_table(kinds.TENANT, Tenant, "tenant", "id"),
    sought_table(
        kinds.PRINCIPAL,
        Principal,
        ("tenant", "id"),
        {
            "is_admin": is_admin,
            "tenants": lambda principal: json.dumps(sorted(principal.per_tenant_acls)),
            "created_ms": _ms("created_at"),
        },
    ),
    body_table(kinds.QUOTA, Quota, "tenant", "tenant_id", "principal_id"),
    Table(
        kinds.WF_SPEC,
        ("tenant", "name", "major_version", "revision"),
        ("body",),
        lambda _, spec: (serialise(spec.message),),
        ("body",),
        lambda _, row: RegisteredSpec(WfSpec.FromString(row[0])),
    ),
    body_table(kinds.TASK_DEF, TaskDef, "tenant", "name"),
    body_table(kinds.EXTERNAL_EVENT_DEF, ExternalEventDef, "tenant", "name"),
    body_table(kinds.WORKFLOW_EVENT_DEF, WorkflowEventDef, "tenant", "name"),
    body_table(kinds.USER_TASK_DEF, UserTaskDef, "tenant", "name", "version"),
    body_table(kinds.STRUCT_DEF, StructDef, "tenant", "name", "version"),
    Table(
        kinds.WF_RUN,
        _RUN,
        ("wf_spec_name", "major_version", "revision", "status", "start_ms", "parent", "body"),
        _wf_run,
        ("body",),
        lambda _, row: WfRun.FromString(row[0]),
        holds_messages=True,
    ),
    sought_table(
        kinds.NODE_RUN,
        NodeRun,
        (*_RUN, "thread", "position"),
        open_column(kinds.NODE_RUN)
        | {"event_def": _awaited_event, "status": attrgetter("status"), "arrival_ms": _ms("arrival_time")},
    ),
    sought_table(
        kinds.INACTIVE_THREAD_RUN, InactiveThreadRun, (*_RUN, "thread"), open_column(kinds.INACTIVE_THREAD_RUN)
    ),
    Table(
        kinds.VARIABLE,
        (*_RUN, "thread", "name"),
        ("value", "body"),
        lambda _, variable: (serialise(variable.value), serialise(variable)),
        ("body",),
        lambda _, row: Variable.FromString(row[0]),
        holds_messages=True,
    ),
    Table(
        kinds.INDEXED_VALUE,
        (*_RUN, "thread", "name", "value"),
        ("wf_spec_name", "major_version", "revision", "created_ms"),
        lambda _, place: place,
        (),
        _write_only,
    ),
    sought_table(
        kinds.TASK_RUN,
        TaskRun,
        (*_RUN, "task_guid"),
        open_column(kinds.TASK_RUN)
        | {"task_def": attrgetter("task_def_id.name"), "status": attrgetter("status")}
        | {"scheduled_ms": _ms("scheduled_at")},
    ),
    sought_table(
        kinds.USER_TASK_RUN,
        UserTaskRun,
        (*_RUN, "user_task_guid"),
        open_column(kinds.USER_TASK_RUN)
        | {"user_task_def": attrgetter("user_task_def_id.name"), "status": attrgetter("status")}
        | {"user_id": _optional("user_id"), "user_group": _optional("user_group")}
        | {"scheduled_ms": _ms("scheduled_time")},
    ),
    body_table(kinds.CHECKPOINT, Checkpoint, *_RUN, "task_guid", "number"),
    sought_table(
        kinds.WORKFLOW_EVENT,
        WorkflowEvent,
        (*_RUN, "event_def", "number"),
        {"created_ms": _ms("created_at")},
    ),
    Table(
        kinds.WORKFLOW_EVENTS_THROWN,
        (*_RUN, "event_def"),
        ("number",),
        lambda _, number: (number,),
        ("number",),
        lambda _, row: row[0],
    ),
    replace(
        sought_table(
            kinds.EXTERNAL_EVENT,
            ExternalEvent,
            _EVENT,
            open_column(kinds.EXTERNAL_EVENT) | {"created_ms": _ms("created_at")},
        ),
        arrival="arrival",
    ),
    body_table(kinds.NODE_OUTPUT, VariableValue, *_RUN, "thread", "node_name"),
    Table(
        kinds.EXTERNAL_EVENT_ORIGIN,
        _EVENT,
        ("delivery_id",),
        lambda _, delivery_id: (delivery_id,),
        ("delivery_id",),
        lambda _, row: row[0],
    ),
    Table(
        kinds.SCHEDULED_WF_RUN,
        ("tenant", "id"),
        ("major_version", "revision", "wf_spec_name", "spec_major", "spec_revision", "created_ms", "body"),
        _schedule,
        ("body", "major_version", "revision"),
        lambda _, row: Schedule(ScheduledWfRun.FromString(row[0]), row[1], row[2]),
    ),
    sought_table(
        kinds.BULK_JOB,
        BulkJob,
        ("tenant", "id"),
        {"status": attrgetter("status"), "created_ms": _ms("created_at")},
    ),
    sought_table(
        kinds.MIGRATION_PLAN,
        WorkflowMigrationPlan,
        ("tenant", "name"),
        {"wf_spec_name": attrgetter("old_wfSpec.name")},
    ),
    sought_table(
        kinds.CORRELATED_EVENT,
        CorrelatedEvent,
        _CORRELATION,
        {"correlated": lambda event: bool(event.external_events), "created_ms": _ms("created_at")},
    ),
    Table(
        kinds.CORRELATED_EVENT_ORIGIN,
        _CORRELATION,
        ("delivery_id",),
        lambda _, delivery_id: (delivery_id,),
        ("delivery_id",),
        lambda _, row: row[0],
    ),
    Table(
        kinds.QUEUED_EVENT,
        (*_CORRELATION, "number"),
        ("delivery_id", "body"),
        lambda _, queued: (queued.origin, serialise(queued.event)),
        ("delivery_id", "body"),
        lambda _, row: QueuedEvent(CorrelatedEvent.FromString(row[1]), row[0]),
    ),
    Table(kinds.MARKER, (*_CORRELATION, "run", "thread", "position"), (), lambda *_: (), (), lambda *_: True),
    TimerTable(
        kinds.TIMER,
        (*_RUN, "action", "target"),
        ("due_ms",),
        lambda _, timer: (timer.due_ms,),
        ("due_ms",),
        _write_only,
    ),
    Table(
        kinds.QUEUED_TASK,
        (*_RUN, "task_guid"),
        ("task_def",),
        lambda _, queued: (queued.task_def,),
        ("task_def",),
        _write_only,
    ),
    Table(
        kinds.SEEN_DELIVERY,
        _DELIVERY,
        _SEEN,
        lambda _, seen: (seen.delivery_id, seen.digest, seen.seen_ms),
        _SEEN,
        lambda _, row: SeenDelivery(*row),
    ),
    Table(kinds.DEAD_LETTER, _DELIVERY, _DEAD_LETTER, _dead_letter, _DEAD_LETTER, lambda _, row: _letter(*row)),
    Table(kinds.EXPIRY_PLAN, ("tenant", "delivery_id"), _EXPIRY_PLAN, _expiry_plan, _EXPIRY_PLAN, _plan),
    Table(kinds.LEDGER, ("tenant", "delivery_id"), _LEDGER, _ledger, (), _write_only),
    OutcomeTable(kinds.OUTCOME, ("tenant", "delivery_id", "outcome"), (), _moved, (), _write_only),
    Table(
        kinds.CURSOR,
        ("tenant", "source", "part"),
        ("value",),
        lambda _, value: (value,),
        ("value",),
        lambda _, row: row[0],
    ),
    Table(
        kinds.SOURCE_EPOCH,
        ("tenant", "source", "part"),
        ("epoch",),
        lambda _, epoch: (epoch,),
        ("epoch",),
        lambda _, row: row[0],
    ),
)
"""In the order in which a commit writes them: an outcome moves the ledger row that was written before it."""

BY_KIND = {table.kind: table for table in TABLES}


def require_storable(writes: Mapping[Kind[Any], Mapping[Key, Any]]) -> None:
    """Raise ValueError where a record holds what a row cannot: a number beyond 64 bits, text that is not Unicode.

    A commit fails as a whole, so such a record must be found before it is part of one.
    """
    for kind, records in writes.items():
        table = BY_KIND[kind]
        for key, value in records.items():
            only_key = value is None or table.holds_messages
            for column in table.key_row(key) if only_key else table.row(key, value):
                if isinstance(column, str):
                    column.encode()
                elif isinstance(column, int) and not INT_MIN <= column <= INT_MAX:
                    raise ValueError(f"a number of a {kind.name} has more than 64 bits")


def lane_tables(lane: str) -> list[Table]:
    """The tables that hold rows of a kind of lane."""
    return [table for table in TABLES if table.kind.lane == lane and table.kind is not kinds.OUTCOME]


def timer_from_row(row: Sequence[Any]) -> Timer:
    """A timer from (due_ms, tenant, run, action, target)."""
    due_ms, tenant, run, action, target = row
    return Timer(due_ms, tenant, run, TimerAction(action), tuple(json.loads(target)))


def queued_task_from_row(row: Sequence[Any]) -> QueuedTask:
    """A queued task from (tenant, run, task_guid, task_def)."""
    return QueuedTask(*row)
