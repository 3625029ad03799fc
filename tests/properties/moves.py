"""What can happen to an engine: strategies for single moves, and how a world takes one."""

from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st
from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    ExternalEventDefId,
    ExternalEventRetentionPolicy,
    LHStatus,
    LHTaskException,
    NodeRun,
    PutCheckpointRequest,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    ReportTaskRun,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    RunWfRequest,
    SaveUserTaskRunProgressRequest,
    StopWfRunRequest,
    TaskRunId,
    TaskStatus,
    ThreadRun,
    UserTaskRunId,
    VariableType,
    WfRun,
    WfRunId,
)
from littlehorse.utils import to_variable_value

from lhd.core import kinds
from lhd.core.commands.deliveries import Deliver, Delivery
from lhd.core.commands.tasks import ClaimTask, ReleaseTask
from lhd.core.ids import task_run_key
from lhd.core.kinds import TERMINAL, OnSameKey, Verdict
from lhd.core.records import Kind
from lhd.errors import Rejection
from tests.core import ledger
from tests.core.shapes import of_type
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import BELLS, EVENT_DEFS, KEPT, KEYED, MANY, NAMES, PAID

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """A request of a client or of a source."""

    request: Any


@dataclass(frozen=True)
class Pass:
    """Time passes, and the timers on the way fire."""

    ms: int


@dataclass(frozen=True)
class Claim:
    """A worker takes the oldest queued task, if there is one."""


@dataclass(frozen=True)
class Report:
    """The worker of the n-th latest task that was handed out reports it, perhaps again or too late."""

    which: int
    status: TaskStatus


@dataclass(frozen=True)
class Release:
    """The worker of the n-th task that was handed out turns out to have been gone."""

    which: int


@dataclass(frozen=True)
class Checkpoint:
    """The worker of the n-th latest task that was handed out says how far it has come, perhaps too late."""

    which: int


@dataclass(frozen=True)
class Control:
    """An operator stops, resumes or rescues a thread of the n-th latest WfRun."""

    which: int
    thread: int
    how: str


@dataclass(frozen=True)
class Treat:
    """Somebody does something to the n-th latest UserTaskRun."""

    which: int
    how: str


@dataclass(frozen=True)
class Ring:
    """An event that interrupts comes to the n-th latest WfRun, perhaps to one of its threads only."""

    which: int
    event: int
    thread: int | None
    content: str | int


@dataclass(frozen=True)
class Nudge:
    """The n-th NodeRun that waits gets what it waits for, or, if not ``well``, what makes it fail."""

    which: int
    well: bool


Move = Ask | Pass | Claim | Report | Release | Checkpoint | Control | Treat | Ring | Nudge


def play(world: WholeWorld, move: Move) -> Any:
    """Let the world take a move; a refusal is a result like any other."""
    try:
        match move:
            case Ask(request):
                return world.submit(request)
            case Pass(ms):
                return world.wait(ms / 1000)
            case Claim():
                if (scheduled := world.claim()) is not None:
                    world.handed_out.append(scheduled)
                return scheduled
            case Report(which, status) if world.handed_out:
                return world.submit(_report(world, which, status))
            case Release(which) if world.handed_out:
                task = world.handed_out[-1 - which % len(world.handed_out)]
                return world.submit(ReleaseTask(task.task_run_id, task.attempt_number))
            case Checkpoint(which) if world.handed_out:
                task = world.handed_out[-1 - which % len(world.handed_out)]
                value = to_variable_value("step")
                return world.submit(
                    PutCheckpointRequest(task_run_id=task.task_run_id, task_attempt=task.attempt_number, value=value)
                )
            case Control(which, thread, how) if world.rows[kinds.WF_RUN]:
                wf_run = _latest(world, kinds.WF_RUN, which)
                return world.submit(_control(wf_run, thread, how))
            case Treat(which, how) if world.rows[kinds.USER_TASK_RUN]:
                return world.submit(_treat(_latest(world, kinds.USER_TASK_RUN, which).id, how))
            case Ring(which, event, thread, content) if world.rows[kinds.WF_RUN]:
                wf_run = _latest(world, kinds.WF_RUN, which)
                bells = _bells(world, wf_run)
                return world.submit(
                    PutExternalEventRequest(
                        wf_run_id=wf_run.id,
                        external_event_def_id=ExternalEventDefId(name=bells[event % len(bells)]),
                        thread_run_number=thread,
                        content=to_variable_value(content),
                    )
                )
            case Nudge(which, well):
                waiting = [one for one in world.rows[kinds.NODE_RUN].values() if one.status in WAITING]
                if waiting:
                    return _nudge(world, waiting[which % len(waiting)], well)
    except Rejection as rejection:
        return rejection


WAITING = (LHStatus.RUNNING, LHStatus.HALTING)


def _nudge(world: WholeWorld, node_run: NodeRun, well: bool) -> Any:
    match node_run.WhichOneof("node_type"):
        case "external_event" if well:
            waits = node_run.external_event
            content = to_variable_value(7)
            if waits.HasField("correlation_key"):
                return world.submit(
                    PutCorrelatedEventRequest(
                        key=waits.correlation_key, external_event_def_id=waits.external_event_def_id, content=content
                    )
                )
            return world.submit(
                PutExternalEventRequest(
                    wf_run_id=node_run.id.wf_run_id,
                    external_event_def_id=waits.external_event_def_id,
                    content=content,
                )
            )
        case "task":
            task_run_id = node_run.task.task_run_id
            task_run = world.rows[kinds.TASK_RUN][task_run_key("default", task_run_id)]
            if task_run.status == TaskStatus.TASK_SCHEDULED:
                scheduled = world.submit(ClaimTask(task_run_id, "w", None))
                world.handed_out.append(scheduled)
            status = TaskStatus.TASK_SUCCESS if well else TaskStatus.TASK_EXCEPTION
            return world.submit(_of_attempt(task_run_id, len(task_run.attempts) - 1, status))
        case "user_task":
            return world.submit(_treat(node_run.user_task.user_task_run_id, "complete" if well else "cancel"))
    timer = world.next_timer()
    return None if timer is None else world.wait((timer.due_ms - world.now_ms + 1) / 1000)


def _latest(world: WholeWorld, kind: Kind[T], which: int) -> T:
    found: list[T] = list(world.rows[kind].values())
    return found[-1 - which % len(found)]


def _control(wf_run: WfRun, which: int, how: str) -> Any:
    """The n-th thread that this can be done to, or just any number where there is none."""
    fits = [thread.number for thread in wf_run.thread_runs if _can_be(thread, how)]
    thread = fits[which % len(fits)] if fits else which
    match how:
        case "stop":
            return StopWfRunRequest(wf_run_id=wf_run.id, thread_run_number=thread)
        case "resume":
            return ResumeWfRunRequest(wf_run_id=wf_run.id, thread_run_number=thread)
    skip = how == "skip"
    return RescueThreadRunRequest(wf_run_id=wf_run.id, thread_run_number=thread, skip_current_node=skip)


def _can_be(thread: ThreadRun, how: str) -> bool:
    by_hand = any(reason.HasField("manual_halt") for reason in thread.halt_reasons)
    match how:
        case "stop":
            return not by_hand and thread.status not in TERMINAL
        case "resume":
            return by_hand
    return thread.status == LHStatus.ERROR


def _bells(world: WholeWorld, wf_run: WfRun) -> list[str]:
    """The events that interrupt the WfRun, or some that do not where none does."""
    spec = wf_run.wf_spec_id
    registered = world.rows[kinds.WF_SPEC]["default", spec.name, spec.major_version, spec.revision]
    interrupts = [one for thread in registered.message.thread_specs.values() for one in thread.interrupt_defs]
    return sorted(one.external_event_def_id.name for one in interrupts) or list(BELLS)


def _treat(user_task_run_id: UserTaskRunId, how: str) -> Any:
    match how:
        case "assign" | "override":
            override = how == "override"
            return AssignUserTaskRunRequest(
                user_task_run_id=user_task_run_id,
                user_id="carl" if override else None,
                user_group="group",
                override_claim=True,
            )
        case "claim":
            return AssignUserTaskRunRequest(user_task_run_id=user_task_run_id, user_id="dora")
        case "cancel":
            return CancelUserTaskRunRequest(user_task_run_id=user_task_run_id)
        case "save":
            request = SaveUserTaskRunProgressRequest(user_task_run_id=user_task_run_id, user_id="anna")
            request.results["why"].str = "later"
            return request
    complete = CompleteUserTaskRunRequest(user_task_run_id=user_task_run_id, user_id="emma")
    if how == "complete":
        complete.results["approved"].bool = True
    return complete


def _report(world: WholeWorld, which: int, status: TaskStatus) -> ReportTaskRun:
    task = world.handed_out[-1 - which % len(world.handed_out)]
    return _of_attempt(task.task_run_id, task.attempt_number, status)


def _of_attempt(task_run_id: TaskRunId, attempt: int, status: TaskStatus) -> ReportTaskRun:
    report = ReportTaskRun(task_run_id=task_run_id, attempt_number=attempt, status=status)
    if status == TaskStatus.TASK_SUCCESS:
        report.output.str = "done"
    elif status == TaskStatus.TASK_EXCEPTION:
        report.exception.CopyFrom(LHTaskException(name="no-money", message="none left"))
    return report


RUN_IDS = st.sampled_from(["r0", "r1", "r2"])
KEYS = st.sampled_from(["k", "k", "k", "l"])
GUIDS = st.one_of(st.none(), st.sampled_from(["g0", "g1", "g2"]))
CONTENTS = st.sampled_from(["text", "other", 7])


@st.composite
def runs(draw: st.DrawFn) -> Ask:
    request = RunWfRequest(wf_spec_name=draw(st.sampled_from(NAMES)), id=draw(RUN_IDS))
    if request.wf_spec_name == "wait-for-key" and draw(st.booleans()):
        request.variables["key"].str = draw(KEYS)
    return Ask(request)


@st.composite
def posted(draw: st.DrawFn) -> Ask:
    request = PutExternalEventRequest(
        wf_run_id=WfRunId(id=draw(RUN_IDS)),
        external_event_def_id=ExternalEventDefId(name=draw(st.sampled_from([PAID, PAID, KEPT, KEYED]))),
        guid=draw(GUIDS),
        content=to_variable_value(draw(CONTENTS)),
        thread_run_number=draw(st.sampled_from([None, None, 0, 1])),
        node_run_position=draw(st.sampled_from([None, None, 1, 2, 4])),
    )
    return Ask(request)


@st.composite
def correlated(draw: st.DrawFn) -> Ask:
    def_id = ExternalEventDefId(name=draw(st.sampled_from([KEYED, MANY, PAID])))
    content = to_variable_value(draw(CONTENTS))
    return Ask(PutCorrelatedEventRequest(key=draw(KEYS), external_event_def_id=def_id, content=content))


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    identity = draw(st.sampled_from([f"identity-{number}" for number in range(8)]))
    body = draw(st.sampled_from([b"body", b"body", b"another body"]))
    match draw(st.integers(0, 5)):
        case 0:
            return ledger.unmapped(identity, draw(st.sampled_from([Verdict.FILTERED, Verdict.DEAD])), body=body)
        case 1 | 2:
            event_def = draw(st.sampled_from([PAID, PAID, KEPT, "unknown"]))
            position = draw(st.sampled_from([None, None, 1, 3]))
            run, content = draw(RUN_IDS), draw(CONTENTS)
            return ledger.event(identity, content, body=body, run=run, event_def=event_def, position=position)
    on_same_key = draw(st.sampled_from([None, *OnSameKey]))
    event_def = draw(st.sampled_from([KEYED, KEYED, MANY]))
    return ledger.keyed(identity, draw(KEYS), draw(CONTENTS), body=body, event_def=event_def, on_same_key=on_same_key)


@st.composite
def delivered(draw: st.DrawFn) -> Ask:
    batch = draw(st.lists(deliveries(), min_size=1, max_size=4))
    cursor = draw(st.sampled_from([None, "1", "2"]))
    return Ask(Deliver(draw(st.sampled_from(["hook", "hook", "other"])), tuple(batch), cursor))


@st.composite
def event_defs_again(draw: st.DrawFn) -> Ask:
    """An event def is put again, as it was or with other terms; what was made under the old ones goes on."""
    name = draw(st.sampled_from(list(EVENT_DEFS)))
    request = PutExternalEventDefRequest()
    request.CopyFrom(EVENT_DEFS[name])
    if draw(st.booleans()):
        request.retention_policy.CopyFrom(ExternalEventRetentionPolicy(seconds_after_put=draw(st.integers(0, 3))))
    if draw(st.booleans()):
        request.content_type.CopyFrom(of_type(VariableType.STR))
    if draw(st.booleans()) and name in (KEYED, MANY):
        ttl_s, deletes = draw(st.sampled_from([None, 2])), draw(st.booleans())
        config = CorrelatedEventConfig(ttl_seconds=ttl_s, delete_after_first_correlation=deletes)
        request.correlated_event_config.CopyFrom(config)
    return Ask(request)


def deleted() -> st.SearchStrategy[Ask]:
    return RUN_IDS.map(lambda run: Ask(DeleteWfRunRequest(id=WfRunId(id=run))))


def passed() -> st.SearchStrategy[Pass]:
    return st.sampled_from([0, 1, 500, 500, 1_000, 1_000, 1_000, 2_000, 3_000, 3_000, 25_000]).map(Pass)


def reported() -> st.SearchStrategy[Report]:
    success, failed = TaskStatus.TASK_SUCCESS, TaskStatus.TASK_FAILED
    statuses = st.sampled_from([success, success, failed, failed, TaskStatus.TASK_EXCEPTION, TaskStatus.TASK_RUNNING])
    return st.builds(Report, st.integers(0, 2), statuses)


def checkpoints() -> st.SearchStrategy[Checkpoint]:
    return st.builds(Checkpoint, st.integers(0, 1))


def controls() -> st.SearchStrategy[Control]:
    hows = st.sampled_from(["stop", "stop", "resume", "resume", "rescue", "skip"])
    return st.builds(Control, st.integers(0, 2), st.integers(0, 4), hows)


def treatments() -> st.SearchStrategy[Treat]:
    hows = st.sampled_from(["assign", "override", "claim", "cancel", "save", "complete", "complete", "complete badly"])
    return st.builds(Treat, st.integers(0, 2), hows)


def nudges() -> st.SearchStrategy[Nudge]:
    return st.builds(Nudge, st.integers(0, 4), st.sampled_from([True, True, False]))


def rings() -> st.SearchStrategy[Ring]:
    contents = st.sampled_from([7, 7, 7, "text"])
    return st.builds(Ring, st.integers(0, 2), st.integers(0, 3), st.sampled_from([None, None, None, 0, 1]), contents)


def moves() -> st.SearchStrategy[Move]:
    """Any move."""
    return st.one_of(
        runs(),
        runs(),
        posted(),
        delivered(),
        delivered(),
        correlated(),
        event_defs_again(),
        deleted(),
        passed(),
        passed(),
        st.just(Claim()),
        st.just(Claim()),
        reported(),
        st.builds(Release, st.integers(0, 1)),
        checkpoints(),
        controls(),
        controls(),
        treatments(),
        rings(),
        nudges(),
        nudges(),
    )
