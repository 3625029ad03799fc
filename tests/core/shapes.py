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
    LHStatus,
    NodeRun,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutWfSpecRequest,
    ReturnType,
    ThreadRun,
    ThreadSpec,
    TypeDefinition,
    VariableType,
    WfRun,
    WfSpec,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

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
