"""Every kind of record, with its key; the store gives each a table, the core never knows which."""

from dataclasses import dataclass
from enum import StrEnum

from littlehorse.model import (
    BulkJob,
    Checkpoint,
    CorrelatedEvent,
    ExternalEvent,
    ExternalEventDef,
    InactiveThreadRun,
    LHStatus,
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
    TaskStatus,
    Tenant,
    UserTaskDef,
    UserTaskRun,
    UserTaskRunStatus,
    Variable,
    VariableValue,
    WfRun,
    WorkflowEvent,
    WorkflowEventDef,
    WorkflowMigrationPlan,
)

from lhd.core.records import Key, Kind, LaneId
from lhd.core.specs.registered import RegisteredSpec

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, beyond which a protobuf Timestamp cannot go."""


def storable_ms(at_ms: int) -> int:
    """The time, or the nearest one that a record and a Timestamp can hold: from 1970 to the end of the year 9999."""
    return max(0, min(at_ms, LAST_MS))


class TimerAction(StrEnum):
    """What is to be looked at when a timer is due."""

    EXTERNAL_EVENT_TIMEOUT = "external-event-timeout"
    SLEEP = "sleep"
    TASK_TIMEOUT = "task-timeout"
    TASK_RETRY = "task-retry"
    EXTERNAL_EVENT_RETENTION = "external-event-retention"
    CORRELATED_EVENT_TTL = "correlated-event-ttl"
    WF_RUN_RETENTION = "wf-run-retention"
    USER_TASK_ACTION = "user-task-action"
    SCHEDULED_WF_RUN = "scheduled-wf-run"


@dataclass(frozen=True, slots=True)
class Timer:
    """A row that says when to look at something again; ``target`` is read by the action alone.

    A time after the calendar's last counts as the last, which is as good as never; one before its first as the first.
    """

    due_ms: int
    tenant: str
    run: str
    action: TimerAction
    target: tuple[str | int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "due_ms", storable_ms(self.due_ms))

    @property
    def key(self) -> Key:
        """One timer for each action and target."""
        return self.tenant, self.run, self.action, self.target


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A TaskRun whose last attempt waits for a worker."""

    tenant: str
    run: str
    task_guid: str
    task_def: str

    @property
    def key(self) -> Key:
        """One place in one queue for each TaskRun."""
        return self.tenant, self.run, self.task_guid


class OnSameKey(StrEnum):
    """What becomes of a connector's event while another of its def and key is live."""

    QUEUE = "queue"
    REPLACE = "replace"
    REJECT = "reject"


class Untaken(StrEnum):
    """What becomes of a connector's event that nobody waits for, or that nobody took in its time."""

    STORE = "store"
    DEAD = "dead"
    START = "start"


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """A CorrelatedEvent that becomes live when those before it are gone, and the delivery that brought it."""

    event: CorrelatedEvent
    origin: str


class Verdict(StrEnum):
    """What became of a signal that passed the door (one for each ledger row)."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FILTERED = "filtered"
    DEAD = "dead"


class Outcome(StrEnum):
    """What became of an accepted signal; it moves once, from waiting to one of the others."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One signal that passed the door: what was decided, why, and where it went. Holds no payload."""

    delivery_id: str
    tenant: str
    source: str
    identity: str
    received_ms: int
    verdict: Verdict
    reason: str = ""
    route: str = ""
    event_def: str = ""
    correlation_key: str | None = None
    run: str | None = None
    guid: str | None = None
    outcome: Outcome | None = None
    sender_id: str | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """When a waiting ledger row moved to its outcome, and the ExternalEvent that its delivery became, if it did."""

    at_ms: int
    run: str | None = None
    guid: str | None = None


@dataclass(frozen=True, slots=True)
class SeenDelivery:
    """The memory of one identity: the delivery it named first and the digest of that delivery's body."""

    delivery_id: str
    digest: bytes
    seen_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A signal that could not be mapped or stored, or that nobody took, with the bytes it came with.

    ``attributes`` is JSON of what came beside them: headers, say. ``is_cut`` tells that not all of it is kept.
    """

    delivery_id: str
    reason: str
    first_ms: int
    last_ms: int
    count: int
    body: bytes
    content_type: str
    attributes: str = "{}"
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What becomes of a delivery whose event nobody takes in its time: a WfRun, or without that a dead letter.

    ``event`` is what the WfRun is given when it has been started.
    """

    source: str
    identity: str
    event: PutExternalEventRequest | PutCorrelatedEventRequest
    start: RunWfRequest | None
    letter: DeadLetter


FAILED = frozenset({LHStatus.ERROR, LHStatus.EXCEPTION})
TERMINAL = FAILED | {LHStatus.COMPLETED}
STOPPED = TERMINAL | {LHStatus.HALTED}
BY_HANDLER = frozenset({"pending_interrupt", "interrupted", "pending_failure", "handling_failure"})
"""The reasons to halt a ThreadRun that end by themselves, when its handler has."""
UNFINISHED = frozenset({TaskStatus.TASK_SCHEDULED, TaskStatus.TASK_RUNNING, TaskStatus.TASK_PENDING})
USER_TASK_ENDED = frozenset({UserTaskRunStatus.DONE, UserTaskRunStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Schedule:
    """A ScheduledWfRun, with the version of the WfSpec as it was asked for: each firing resolves it anew."""

    scheduled: ScheduledWfRun
    major_version: int | None
    revision: int | None


TENANT = Kind[Tenant]("tenant", "cluster", 1)
"""("", id)"""
PRINCIPAL = Kind[Principal]("principal", "cluster", 1)
"""("", id)"""
QUOTA = Kind[Quota]("quota", "cluster", 1)
"""("", tenant, principal or nothing)"""

WF_SPEC = Kind[RegisteredSpec]("wf_spec", "wf_spec", 2)
"""(tenant, name, major_version, revision)"""
TASK_DEF = Kind[TaskDef]("task_def", "task_def", 2)
"""(tenant, name)"""
EXTERNAL_EVENT_DEF = Kind[ExternalEventDef]("external_event_def", "external_event_def", 2)
"""(tenant, name)"""
WORKFLOW_EVENT_DEF = Kind[WorkflowEventDef]("workflow_event_def", "workflow_event_def", 2)
"""(tenant, name)"""
USER_TASK_DEF = Kind[UserTaskDef]("user_task_def", "user_task_def", 2)
"""(tenant, name, version)"""
STRUCT_DEF = Kind[StructDef]("struct_def", "struct_def", 2)
"""(tenant, name, version)"""

WF_RUN = Kind[WfRun]("wf_run", "run", 2)
"""(tenant, run)"""
NODE_RUN = Kind[NodeRun]("node_run", "run", 2, is_open=lambda node_run: node_run.status not in TERMINAL)
"""(tenant, run, thread, position)"""
VARIABLE = Kind[Variable]("variable", "run", 2)
"""(tenant, run, thread, name)"""
INDEXED_VALUE = Kind[tuple[str, int, int, int]]("indexed_value", "run", 2, write_only=True)
"""(tenant, run, thread, name, value): a searchable value; the record is the WfSpec's name and version, and the time"""
TASK_RUN = Kind[TaskRun]("task_run", "run", 2, is_open=lambda task_run: task_run.status in UNFINISHED)
"""(tenant, run, task_guid)"""
EXTERNAL_EVENT = Kind[ExternalEvent]("external_event", "run", 2, is_open=lambda event: not event.claimed)
"""(tenant, run, event def, guid)"""
NODE_OUTPUT = Kind[VariableValue]("node_output", "run", 2)
"""(tenant, run, thread, node name): the latest output of a node that the ThreadSpec refers to"""
INACTIVE_THREAD_RUN = Kind[InactiveThreadRun]("inactive_thread_run", "run", 2, is_open=lambda _: False)
"""(tenant, run, thread): an archived ThreadRun"""
USER_TASK_RUN = Kind[UserTaskRun]("user_task_run", "run", 2, is_open=lambda run: run.status not in USER_TASK_ENDED)
"""(tenant, run, user_task_guid)"""
WORKFLOW_EVENT = Kind[WorkflowEvent]("workflow_event", "run", 2, write_only=True)
"""(tenant, run, event def, number)"""
WORKFLOW_EVENTS_THROWN = Kind[int]("workflow_events_thrown", "run", 2)
"""(tenant, run, event def): how many WorkflowEvents of the def the WfRun has thrown"""
CHECKPOINT = Kind[Checkpoint]("checkpoint", "run", 2, write_only=True)
"""(tenant, run, task_guid, number)"""
EXTERNAL_EVENT_ORIGIN = Kind[str]("external_event_origin", "run", 2)
"""(tenant, run, event def, guid): the delivery that an unclaimed event came from"""

SCHEDULED_WF_RUN = Kind[Schedule]("scheduled_wf_run", "scheduled_wf_run", 2)
"""(tenant, id)"""
BULK_JOB = Kind[BulkJob]("bulk_job", "bulk_job", 2)
"""(tenant, id)"""
MIGRATION_PLAN = Kind[WorkflowMigrationPlan]("migration_plan", "migration_plan", 2)
"""(tenant, name)"""

CORRELATED_EVENT = Kind[CorrelatedEvent]("correlated_event", "correlation", 3)
"""(tenant, event def, key)"""
CORRELATED_EVENT_ORIGIN = Kind[str]("correlated_event_origin", "correlation", 3)
"""(tenant, event def, key): the delivery that the live CorrelatedEvent came from"""
QUEUED_EVENT = Kind[QueuedEvent]("queued_event", "correlation", 3)
"""(tenant, event def, key, number): numbers rise in the order of arrival"""
MARKER = Kind[bool]("marker", "correlation", 3)
"""(tenant, event def, key, run, thread, position): this NodeRun waits for the key; the value is always true"""

TIMER = Kind[Timer]("timer", "run", 2, write_only=True)
"""(tenant, run or nothing, action, target)"""
QUEUED_TASK = Kind[QueuedTask]("queued_task", "run", 2, write_only=True)
"""(tenant, run, task_guid)"""

SEEN_DELIVERY = Kind[SeenDelivery]("seen_delivery", "seen_delivery", 3)
"""(tenant, source, identity)"""
DEAD_LETTER = Kind[DeadLetter]("dead_letter", "dead_letter", 3)
"""(tenant, source, identity)"""
LEDGER = Kind[LedgerRow]("ledger", "ledger", 2, write_only=True)
"""(tenant, delivery id)"""
OUTCOME = Kind[Moved]("outcome", "ledger", 2, write_only=True)
"""(tenant, delivery id, outcome): a waiting ledger row has moved; the first move stands"""
EXPIRY_PLAN = Kind[ExpiryPlan]("expiry_plan", "expiry_plan", 2)
"""(tenant, delivery id)"""
CURSOR = Kind[str]("cursor", "cursor", 2, write_only=True)
SOURCE_EPOCH = Kind[int]("source_epoch", "source_epoch", 2)
"""(tenant, source): the JSON text of the value that the source committed last"""


def run_lane(tenant: str, run: str) -> LaneId:
    """The lane of a WfRun: everything of the run, and the events that were put before it exists."""
    return LaneId("run", (tenant, run))
