"""Short ways to build what the core tests need and to ask the world about it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from littlehorse.model import (
    CorrelatedEvent,
    CorrelatedEventConfig,
    ExternalEventDef,
    ExternalEventDefId,
    ExternalEventRetentionPolicy,
    Failure,
    InlineArrayDef,
    InlineMapDef,
    LHStatus,
    NodeRun,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutWfSpecRequest,
    ResumeWfRunRequest,
    ReturnType,
    ScheduledTask,
    StopWfRunRequest,
    StructDefId,
    TaskRun,
    ThreadRun,
    ThreadSpec,
    TypeDefinition,
    VariableAssignment,
    VariableType,
    WfRun,
    WfRunId,
    WfSpec,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import SpawnedThread, SpawnedThreads, Workflow, WorkflowThread

from lhd.core import kinds
from lhd.core.records import NotLoaded
from lhd.errors import Code, Rejection
from tests.core.world import TENANT, World

Body = Callable[[WorkflowThread], Any]

RUNNING, COMPLETED, ERROR, EXCEPTION = LHStatus.RUNNING, LHStatus.COMPLETED, LHStatus.ERROR, LHStatus.EXCEPTION


@contextmanager
def refused(code: Code, *fragments: str) -> Iterator[None]:
    """The block must be refused with this code and a text that contains each fragment, in any case."""
    with pytest.raises(Rejection) as refused:
        yield
    assert refused.value.code == code, refused.value.text
    for fragment in fragments:
        assert fragment.lower() in refused.value.text.lower()


def compiled(body: Body, name: str = "wf") -> PutWfSpecRequest:
    """The request that the SDK would send for a workflow of one thread."""
    return Workflow(name, body).compile()


def entry(request: PutWfSpecRequest) -> ThreadSpec:
    """The entrypoint thread of a request, to be edited."""
    return request.thread_specs["entrypoint"]


def put(world: World, body: Body, name: str = "wf") -> WfSpec:
    """Register a workflow of one thread."""
    return world.put_workflow(Workflow(name, body))


def put_edited(world: World, body: Body, edit: Callable[[ThreadSpec], Any], name: str = "wf") -> WfSpec:
    """Register a workflow after a change that the SDK cannot express."""
    request = compiled(body, name)
    edit(entry(request))
    spec: WfSpec = world.submit(request)
    return spec


def of_type(primitive: VariableType) -> ReturnType:
    """The return type for a primitive."""
    return ReturnType(return_type=TypeDefinition(primitive_type=primitive))


def put_event_def(
    world: World,
    name: str,
    content_type: ReturnType | None = None,
    *,
    correlated: CorrelatedEventConfig | None = None,
    retention_s: int | None = None,
) -> ExternalEventDef:
    """Register an ExternalEventDef."""
    retention = None if retention_s is None else ExternalEventRetentionPolicy(seconds_after_put=retention_s)
    reply: ExternalEventDef = world.submit(
        PutExternalEventDefRequest(
            name=name, content_type=content_type, correlated_event_config=correlated, retention_policy=retention
        )
    )
    return reply


def correlate(world: World, event_def: str, key: str, content: Any = None) -> CorrelatedEvent:
    """Put a CorrelatedEvent."""
    reply: CorrelatedEvent = world.submit(
        PutCorrelatedEventRequest(
            key=key, external_event_def_id=ExternalEventDefId(name=event_def), content=to_variable_value(content)
        )
    )
    return reply


def stored_correlated(world: World, event_def: str, key: str) -> CorrelatedEvent | None:
    """The live CorrelatedEvent of this key."""
    return world.memory.lookup(kinds.CORRELATED_EVENT, (TENANT, event_def, key))


def markers(world: World, event_def: str, key: str) -> int:
    """How many NodeRuns wait for this key."""
    try:
        return len(world.memory.scan(kinds.MARKER, (TENANT, event_def, key)))
    except NotLoaded:
        return 0


def wf_run(world: World, wf_run_id: str = "r") -> WfRun:
    """A WfRun that exists."""
    found = world.wf_run(wf_run_id)
    assert found is not None
    return found


def thread(world: World, wf_run_id: str = "r", *, number: int = 0) -> ThreadRun:
    """A ThreadRun that is not archived."""
    return next(thread for thread in wf_run(world, wf_run_id).thread_runs if thread.number == number)


def node(world: World, position: int, wf_run_id: str = "r", *, number: int = 0) -> NodeRun:
    """A NodeRun of a thread that exists."""
    found = world.node_run(position, wf_run_id=wf_run_id, thread=number)
    assert found is not None, f"thread {number} has no NodeRun {position}"
    return found


def reached(world: World, position: int, wf_run_id: str = "r", *, number: int = 0) -> bool:
    """Whether a thread has a NodeRun at this position."""
    return world.node_run(position, wf_run_id=wf_run_id, thread=number) is not None


def failure(world: World, position: int, wf_run_id: str = "r", *, number: int = 0) -> Failure:
    """The last Failure of a NodeRun."""
    return node(world, position, wf_run_id, number=number).failures[-1]


def python(world: World, variable: str, wf_run_id: str = "r", *, number: int = 0) -> Any:
    """The Python value of a variable."""
    return extract_value(world.variable(variable, wf_run_id=wf_run_id, thread=number))


def event_exists(world: World, event_def: str, guid: str, wf_run_id: str = "r") -> bool:
    """Whether an ExternalEvent is stored."""
    return world.external_event(event_def, guid, wf_run_id=wf_run_id) is not None


def nothing(wf: WorkflowThread) -> None:
    """Only ENTRYPOINT and EXIT."""


def one_task(wf: WorkflowThread) -> None:
    """The task ``t``."""
    wf.execute("t")


def wait_for(wf: WorkflowThread, *threads: SpawnedThread) -> Any:
    """A WAIT_FOR_THREADS node for these."""
    return wf.wait_for_threads(SpawnedThreads.from_list(*threads))


def literal(value: Any) -> VariableAssignment:
    """An assignment of a Python value."""
    return VariableAssignment(literal_value=to_variable_value(value))


def variable(name: str) -> VariableAssignment:
    """An assignment of a variable's value."""
    return VariableAssignment(variable_name=name)


def output_of(node_name: str) -> VariableAssignment:
    """An assignment of a node's latest output."""
    return VariableAssignment(node_output=VariableAssignment.NodeOutputReference(node_name=node_name))


def array_of(element: TypeDefinition) -> TypeDefinition:
    """The type of an Array."""
    return TypeDefinition(inline_array_def=InlineArrayDef(array_type=element))


def map_of(key: TypeDefinition, value: TypeDefinition) -> TypeDefinition:
    """The type of a Map."""
    return TypeDefinition(inline_map_def=InlineMapDef(key_type=key, value_type=value))


def struct_of(name: str, version: int = -1) -> TypeDefinition:
    """The type of a Struct."""
    return TypeDefinition(struct_def_id=StructDefId(name=name, version=version))


def version(spec: WfSpec) -> tuple[int, int]:
    """Major version and revision."""
    return spec.id.major_version, spec.id.revision


def claim(world: World) -> ScheduledTask:
    """The next queued task, which there has to be."""
    task = world.claim()
    assert task is not None, "nothing is queued"
    return task


def task_run(world: World, guid: str = "0-1") -> TaskRun:
    """A TaskRun that exists."""
    found = world.task_run(guid)
    assert found is not None
    return found


def stop(world: World, number: int = 0) -> None:
    """Halt a thread of the WfRun r."""
    world.submit(StopWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))


def resume(world: World, number: int = 0) -> None:
    """Let a thread of the WfRun r go on."""
    world.submit(ResumeWfRunRequest(wf_run_id=WfRunId(id="r"), thread_run_number=number))


def statuses(world: World, wf_run_id: str = "r") -> list[Any]:
    """The status of each ThreadRun, by number."""
    return [run.status for run in wf_run(world, wf_run_id).thread_runs]
