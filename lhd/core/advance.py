"""The advance loop: takes steps of a WfRun's ThreadRuns until nothing can move (execution.md 1.4 to 1.6)."""

from littlehorse.model import (
    Failure,
    LHStatus,
    NodeRun,
    NodeRunId,
    ThreadRun,
    VariableMutation,
    VariableType,
    VariableValue,
)

from lhd.core import kinds
from lhd.core.expressions import condition_holds, evaluate
from lhd.core.failures import NodeFailure, fail
from lhd.core.ids import timestamp
from lhd.core.json_path import follow, lh_path_steps, read
from lhd.core.kinds import TERMINAL
from lhd.core.mutations import mutate, mutate_at
from lhd.core.nodes import node_kind
from lhd.core.run import Run, Step
from lhd.core.values import EvaluationError, computing, from_python, to_json


def advance(run: Run) -> None:
    """Move the WfRun until every ThreadRun waits or has ended.

    A WfRun that still moves after ``settings.passes_max`` passes is in a tight loop and ends with INTERNAL_ERROR.
    """
    for _ in range(run.tx.settings.passes_max + 1):
        if not _pass(run):
            return
    if run.wf_run.status not in TERMINAL:
        _stop_tight_loop(run)


def _pass(run: Run) -> bool:
    moved = False
    for thread in run.wf_run.thread_runs:
        if thread.status == LHStatus.RUNNING:
            moved |= _take_step(run.step(thread))
    return moved


def _stop_tight_loop(run: Run) -> None:
    step = run.step(run.thread(0))
    text = f"a tight loop exceeded the {run.tx.settings.passes_max} iterations that one command may take"
    _leave(step)
    fail(step, Failure(failure_name="INTERNAL_ERROR", message=text), while_processing=True)


def _take_step(step: Step) -> bool:
    kind = node_kind(step.node)
    try:
        done = kind.progress(step)
    except NodeFailure as failed:
        _leave(step)
        fail(step, failed.failure, while_processing=True)
        return True
    if done is None:
        return False
    _complete(step, done.output)
    if kind.ends_thread:
        _complete_thread(step)
    else:
        _take_edge(step)
    return True


def _leave(step: Step) -> None:
    """The NodeRun stops waiting for good: what it asked to be told is called off."""
    node_kind(step.node).leave(step)


def _complete(step: Step, output: VariableValue | None) -> None:
    _leave(step)
    node_run = step.edit_node_run()
    node_run.status = LHStatus.COMPLETED
    node_run.end_time.CopyFrom(timestamp(step.tx.now_ms))
    remembered = step.run.spec.remembered_outputs[step.thread.thread_spec_name]
    if output is not None and node_run.node_name in remembered:
        step.tx.put(kinds.NODE_OUTPUT, (*step.run.key, step.thread.number, node_run.node_name), output)


def _complete_thread(step: Step) -> None:
    step.thread.status = LHStatus.COMPLETED
    step.thread.end_time.CopyFrom(timestamp(step.tx.now_ms))
    if step.thread.number == 0:
        step.run.end(LHStatus.COMPLETED)


def _take_edge(step: Step) -> None:
    try:
        sink = _choose_edge(step)
    except EvaluationError as error:
        failure = Failure(failure_name="VAR_SUB_ERROR", message=f"leaving {step.node_run.node_name}: {error}")
        fail(step, failure, while_processing=False)
        return
    activate(step.run, step.thread, sink)


def _choose_edge(step: Step) -> str:
    for edge in step.node.outgoing_edges:
        if condition_holds(edge, step):
            for mutation in edge.variable_mutations:
                _mutate(step, mutation)
            step.keep_variables()
            return edge.sink_node_name
    raise EvaluationError("the condition of no outgoing edge holds")


def _mutate(step: Step, mutation: VariableMutation) -> None:
    with computing():
        current = step.variable(mutation.lhs_name)
        right = _right_side(step, mutation)
        if mutation.HasField("lhs_json_path"):
            value = mutate_at(mutation.operation, current, mutation.lhs_json_path, right)
        else:
            value = mutate(mutation.operation, current, right, _declared_type(step, mutation.lhs_name))
    step.change_variable(mutation.lhs_name, value)


def _right_side(step: Step, mutation: VariableMutation) -> VariableValue:
    match mutation.WhichOneof("rhs_value"):
        case "rhs_assignment":
            return evaluate(mutation.rhs_assignment, step)
        case "literal_value":
            return mutation.literal_value
        case "node_output":
            return _node_output(step, mutation.node_output)
    raise EvaluationError(f"the mutation of '{mutation.lhs_name}' has no right side")


def _node_output(step: Step, source: VariableMutation.NodeOutputSource) -> VariableValue:
    output = step.output(step.node_run.node_name)
    match source.WhichOneof("path"):
        case "jsonpath":
            return from_python(read(to_json(output), source.jsonpath))
        case "lh_path":
            return from_python(follow(to_json(output), lh_path_steps(source.lh_path)))
    return output


def _declared_type(step: Step, name: str) -> VariableType:
    for thread_spec in step.run.spec.message.thread_specs.values():
        for definition in thread_spec.variable_defs:
            if definition.var_def.name == name:
                return definition.var_def.type_def.primitive_type
    raise EvaluationError(f"no thread declares the variable '{name}'")


def activate(run: Run, thread: ThreadRun, node_name: str) -> None:
    """Let a ThreadRun arrive at a node: a new NodeRun at the next position."""
    thread.current_node_position += 1
    node_run = NodeRun(
        id=NodeRunId(wf_run_id=run.id, thread_run_number=thread.number, position=thread.current_node_position),
        wf_spec_id=run.wf_run.wf_spec_id,
        status=LHStatus.RUNNING,
        arrival_time=timestamp(run.tx.now_ms),
        thread_spec_name=thread.thread_spec_name,
        node_name=node_name,
    )
    step = run.step(thread)
    run.tx.put(kinds.NODE_RUN, step.node_run_key, node_run)
    try:
        node_kind(step.node).arrive(step, node_run)
    except NodeFailure as failed:
        _leave(step)
        fail(step, failed.failure, while_processing=False)
