"""Starting and deleting WfRuns (execution.md 1.7, 1.8, 9.4; api.md 6.1, 12)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    DeleteWfRunRequest,
    LHStatus,
    RunWfRequest,
    ThreadRun,
    ThreadSpec,
    ThreadType,
    Variable,
    VariableId,
    VariableValue,
    WfRun,
    WfRunId,
)

from lhd.core import events, kinds
from lhd.core.advance import activate, advance
from lhd.core.ids import is_lh_name, printed, run_key, timestamp
from lhd.core.kinds import Outcome, run_lane
from lhd.core.records import Transaction
from lhd.core.run import Run
from lhd.core.specs import versions
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.values import EvaluationError, fits, is_null, kind_name, require_sound, type_name
from lhd.errors import Code, Rejection, invalid_argument


def run_wf(tx: Transaction, tenant: str, request: RunWfRequest) -> WfRun:
    """Start a WfRun and advance it; the reply shows it at its first waiting node, or finished."""
    if not request.wf_spec_name:
        raise invalid_argument("RunWf needs a wf_spec_name")
    if request.HasField("id") and not is_lh_name(request.id):
        raise invalid_argument(f"'{request.id}' is not a WfRun id: use letters, digits and inner hyphens")
    major = request.major_version if request.HasField("major_version") else None
    revision = request.revision if request.HasField("revision") else None
    spec = versions.find(tx, tenant, request.wf_spec_name, major, revision)
    wf_run_id = WfRunId(id=request.id if request.HasField("id") else tx.new_id())
    if request.HasField("parent_wf_run_id"):
        wf_run_id.parent_wf_run_id.CopyFrom(request.parent_wf_run_id)
    key = run_key(tenant, wf_run_id)
    if tx.get(kinds.WF_RUN, key) is not None:
        raise Rejection(Code.ALREADY_EXISTS, f"WfRun with id {printed(wf_run_id)} already exists!")
    if request.HasField("parent_wf_run_id"):
        raise invalid_argument(f"WfSpec '{request.wf_spec_name}' has no parent_wf_spec, so it runs without a parent")
    thread_spec = spec.thread_spec(spec.message.entrypoint_thread_name)
    _check_variables(thread_spec, dict(request.variables))
    return _start(tx, tenant, spec, wf_run_id, dict(request.variables))


def _check_variables(thread_spec: ThreadSpec, given: dict[str, VariableValue]) -> None:
    declared = {definition.var_def.name: definition for definition in thread_spec.variable_defs}
    for name in sorted(given.keys() - declared.keys()):
        raise invalid_argument(f"the entrypoint thread declares no variable '{name}'")
    for name, definition in declared.items():
        if definition.required and name not in given:
            raise invalid_argument(f"the variable '{name}' is required")
        if name not in given:
            continue
        expected = definition.var_def.type_def
        if not fits(given[name], expected.primitive_type):
            text = f"the variable '{name}' is {type_name(expected)}, not {kind_name(given[name])}"
            raise invalid_argument(text)
        try:
            require_sound(given[name])
        except EvaluationError as error:
            raise invalid_argument(f"the variable '{name}': {error}") from error


def _start(
    tx: Transaction, tenant: str, spec: RegisteredSpec, wf_run_id: WfRunId, variables: dict[str, VariableValue]
) -> WfRun:
    now = timestamp(tx.now_ms)
    entrypoint = spec.message.entrypoint_thread_name
    wf_run = WfRun(id=wf_run_id, wf_spec_id=spec.message.id, status=LHStatus.RUNNING, start_time=now)
    wf_run.thread_runs.append(
        ThreadRun(
            wf_spec_id=spec.message.id,
            number=0,
            status=LHStatus.RUNNING,
            thread_spec_name=entrypoint,
            start_time=now,
            current_node_position=-1,
            type=ThreadType.ENTRYPOINT,
        )
    )
    tx.put(kinds.WF_RUN, run_key(tenant, wf_run_id), wf_run)
    run = Run(tx, tenant, wf_run_id)
    thread_spec = spec.thread_spec(entrypoint)
    _create_variables(run, 0, thread_spec, variables)
    first = next(name for name, node in thread_spec.nodes.items() if node.HasField("entrypoint"))
    activate(run, run.thread(0), first)
    advance(run)
    return run.wf_run


def _create_variables(run: Run, thread: int, thread_spec: ThreadSpec, given: dict[str, VariableValue]) -> None:
    for definition in thread_spec.variable_defs:
        declared = definition.var_def
        value = given.get(declared.name)
        variable = Variable(
            id=VariableId(wf_run_id=run.id, thread_run_number=thread, name=declared.name),
            value=declared.default_value if value is None or is_null(value) else value,
            created_at=timestamp(run.tx.now_ms),
            wf_spec_id=run.wf_run.wf_spec_id,
            masked=declared.type_def.masked,
        )
        run.tx.put(kinds.VARIABLE, (*run.key, thread, declared.name), variable)


def delete_wf_run(tx: Transaction, tenant: str, request: DeleteWfRunRequest) -> Empty:
    """Delete a WfRun with everything of it; an id without a WfRun changes nothing."""
    key = run_key(tenant, request.id)
    if tx.get(kinds.WF_RUN, key) is not None:
        delete_run(tx, tenant, request.id)
    return Empty()


def delete_run(tx: Transaction, tenant: str, wf_run_id: WfRunId) -> None:
    """Delete a WfRun that exists: its records, its events, its timers, its queued tasks and its markers."""
    key = run_key(tenant, wf_run_id)
    for event_key in tx.scan(kinds.EXTERNAL_EVENT_ORIGIN, key):
        events.settle_origin(tx, (event_key[0], event_key[1], event_key[2], event_key[3]), Outcome.DELETED)
    for node_run_key, node_run in tx.scan(kinds.NODE_RUN, key).items():
        waiting = node_run.external_event
        if waiting.HasField("correlation_key"):
            marker = (tenant, waiting.external_event_def_id.name, waiting.correlation_key, *node_run_key[1:])
            tx.delete(kinds.MARKER, marker)
    tx.clear(run_lane(*key))
