"""ThreadRuns: starting one with its variables, and archiving those that have completed (execution.md 1.8, 8.3, 9.6)."""

from collections.abc import Mapping

from littlehorse.model import (
    ArchivedThreadRunInfo,
    EntrypointRun,
    Failure,
    InactiveThreadRun,
    InactiveThreadRunId,
    LHStatus,
    ThreadRun,
    ThreadSpec,
    ThreadType,
    Variable,
    VariableId,
    VariableValue,
    WfRunVariableAccessLevel,
)

from lhd.core import kinds
from lhd.core.failure import NodeFailure
from lhd.core.fitting import StoredStructDefs, StructDefs, accept
from lhd.core.ids import milliseconds, timestamp
from lhd.core.indexing import INPUT, reindex
from lhd.core.run import Run
from lhd.core.values import NULL, EvaluationError, is_null, require_size

_PRESSURE = 0.9
"""The part of ``settings.threads_max`` from which on every completed ThreadRun is archived."""

Inputs = Mapping[str, VariableValue]


def accept_inputs(
    thread_spec: ThreadSpec, given: Inputs, structs: StructDefs, bytes_max: int
) -> dict[str, VariableValue]:
    """The start values as they are stored; raises EvaluationError where they are not what the ThreadSpec asks for."""
    declared = {definition.var_def.name: definition for definition in thread_spec.variable_defs}
    for name in sorted(given.keys() - declared.keys()):
        raise EvaluationError(f"the thread declares no variable '{name}'")
    accepted = {}
    for name, definition in declared.items():
        if name not in given:
            if definition.required:
                raise EvaluationError(f"the variable '{name}' is required")
            continue
        if definition.access_level == WfRunVariableAccessLevel.INHERITED_VAR:
            raise EvaluationError(f"the variable '{name}' is inherited and cannot be given")
        try:
            accepted[name] = accept(given[name], definition.var_def.type_def, structs)
            require_size(accepted[name], bytes_max)
        except EvaluationError as error:
            raise EvaluationError(f"the variable '{name}': {error}") from error
    return accepted


def start(run: Run, spec_name: str, thread_type: ThreadType, parent: ThreadRun, given: Inputs) -> ThreadRun:
    """Start a ThreadRun below another one.

    Raises EvaluationError for inputs that do not fit and NodeFailure where the WfRun has too many ThreadRuns.
    """
    require_room(run, 1)
    structs, limit = StoredStructDefs(run.tx, run.tenant), run.tx.settings.record_bytes_max
    inputs = accept_inputs(run.spec_of(parent).thread_spec(spec_name), given, structs, limit)
    return begin(run, spec_name, thread_type, parent, inputs)


def begin(run: Run, spec_name: str, thread_type: ThreadType, parent: ThreadRun | None, inputs: Inputs) -> ThreadRun:
    """A ThreadRun with inputs that have been accepted; it takes its first step in the pass that follows."""
    run.tx.passes += 1
    number = 0 if parent is None else run.wf_run.greatest_threadrun_number + 1
    run.wf_run.greatest_threadrun_number = number
    run.wf_run.thread_runs.append(
        ThreadRun(
            wf_spec_id=run.wf_run.wf_spec_id if parent is None else parent.wf_spec_id,
            number=number,
            status=LHStatus.RUNNING,
            thread_spec_name=spec_name,
            start_time=timestamp(run.tx.now_ms),
            parent_thread_id=None if parent is None else parent.number,
            current_node_position=-1,
            type=thread_type,
        )
    )
    if parent is not None:
        parent.child_thread_ids.append(number)
    thread = run.wf_run.thread_runs[-1]
    thread_spec = run.spec_of(thread).thread_spec(spec_name)
    create_missing_variables(run, thread, inputs)
    first = next(name for name, node in thread_spec.nodes.items() if node.HasField("entrypoint"))
    run.arrive(thread, first).entrypoint.CopyFrom(EntrypointRun())
    return thread


def start_handler(
    run: Run,
    spec_name: str,
    thread_type: ThreadType,
    parent: ThreadRun,
    content: VariableValue,
    misfit: str = "VAR_SUB_ERROR",
) -> ThreadRun:
    """Start a handler, with ``INPUT`` if it declares that. Raises NodeFailure: ``misfit`` for a misfit."""
    try:
        return start(run, spec_name, thread_type, parent, given_input(run, parent, spec_name, content))
    except EvaluationError as error:
        raise NodeFailure(misfit, f"the handler '{spec_name}' cannot start: {error}") from error


def given_input(run: Run, parent: ThreadRun, spec_name: str, content: VariableValue) -> dict[str, VariableValue]:
    """The start value of ``INPUT``, for a ThreadSpec that declares it."""
    return {INPUT: content} if INPUT in run.spec_of(parent).variables(spec_name) else {}


def content_of(failure: Failure) -> VariableValue:
    """What a handler of the failure gets; NULL where it has none."""
    return failure.content if failure.HasField("content") else NULL


def require_room(run: Run, threads: int) -> None:
    """Raise NodeFailure where the WfRun cannot have so many more ThreadRuns."""
    limit, present = run.tx.settings.threads_max, len(run.wf_run.thread_runs)
    if present + threads > limit:
        text = f"the WfRun has {present} ThreadRuns and may have {limit}; there is no room for {threads} more"
        raise NodeFailure("INTERNAL_ERROR", text)


def create_missing_variables(run: Run, thread: ThreadRun, inputs: Inputs | None = None) -> None:
    """Create what the ThreadSpec declares and the ThreadRun does not have, with these values or the defaults."""
    for definition in run.spec_of(thread).thread_spec(thread.thread_spec_name).variable_defs:
        declared = definition.var_def
        key = (*run.key, thread.number, declared.name)
        is_inherited = definition.access_level == WfRunVariableAccessLevel.INHERITED_VAR
        if is_inherited or run.tx.get(kinds.VARIABLE, key) is not None:
            continue
        value = (inputs or {}).get(declared.name)
        variable = Variable(
            id=VariableId(wf_run_id=run.id, thread_run_number=thread.number, name=declared.name),
            value=declared.default_value if value is None or is_null(value) else value,
            created_at=timestamp(run.tx.now_ms),
            wf_spec_id=thread.wf_spec_id,
            masked=declared.type_def.masked,
        )
        run.tx.put(kinds.VARIABLE, key, variable)
        reindex(run.tx, key, definition, variable, NULL)


def archive_expired(run: Run) -> None:
    """Archive the completed ThreadRuns whose ThreadSpec says that they are not kept longer than until now."""
    for thread in filter(run.knows_spec_of, _completed(run)):
        policy = run.spec_of(thread).thread_spec(thread.thread_spec_name).retention_policy
        if policy.HasField("seconds_after_thread_termination"):
            kept_ms = policy.seconds_after_thread_termination * 1000
            if milliseconds(thread.end_time) + kept_ms <= run.tx.now_ms:
                _archive(run, thread)


def archive_under_pressure(run: Run) -> None:
    """Archive every completed ThreadRun where there is little room left for others."""
    if len(run.wf_run.thread_runs) >= int(run.tx.settings.threads_max * _PRESSURE):
        for thread in _completed(run):
            _archive(run, thread)


def _completed(run: Run) -> list[ThreadRun]:
    return [thread for thread in run.wf_run.thread_runs if thread.number and thread.status == LHStatus.COMPLETED]


def _archive(run: Run, thread: ThreadRun) -> None:
    archived = InactiveThreadRun(
        id=InactiveThreadRunId(wf_run_id=run.id, thread_run_number=thread.number),
        thread_run=thread,
        archived=ArchivedThreadRunInfo(),
    )
    run.tx.put(kinds.INACTIVE_THREAD_RUN, (*run.key, thread.number), archived)
    run.wf_run.thread_runs.remove(thread)
