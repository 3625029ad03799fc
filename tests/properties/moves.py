"""What can happen to an engine: strategies for single moves, and how a world takes one."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from littlehorse.model import (
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    ExternalEventDefId,
    ExternalEventRetentionPolicy,
    LHTaskException,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    ReportTaskRun,
    RunWfRequest,
    TaskStatus,
    VariableType,
    WfRunId,
)
from littlehorse.utils import to_variable_value

from lhd.core.commands.deliveries import Deliver, Delivery
from lhd.core.commands.tasks import ReleaseTask
from lhd.core.kinds import OnSameKey, Verdict
from lhd.errors import Rejection
from tests.core import ledger
from tests.core.shapes import of_type
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import EVENT_DEFS, KEPT, KEYED, MANY, NAMES, PAID


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


Move = Ask | Pass | Claim | Report | Release


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
    except Rejection as rejection:
        return rejection


def _report(world: WholeWorld, which: int, status: TaskStatus) -> ReportTaskRun:
    task = world.handed_out[-1 - which % len(world.handed_out)]
    report = ReportTaskRun(task_run_id=task.task_run_id, attempt_number=task.attempt_number, status=status)
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
    )
