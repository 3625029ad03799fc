"""The advance loop: takes steps of a WfRun's ThreadRuns until nothing can move (execution.md 1.4 to 1.6)."""

from littlehorse.model import (
    Failure,
    LHStatus,
    ThreadRun,
    VariableMutation,
    VariableValue,
)

from lhd.core import failures, halting, interrupts, kinds, migrations, threads
from lhd.core.expressions import condition_holds, evaluate
from lhd.core.failure import NodeFailure
from lhd.core.failures import fail
from lhd.core.ids import timestamp
from lhd.core.json_path import follow, lh_path_steps, read
from lhd.core.kinds import TERMINAL
from lhd.core.mutations import mutate, mutate_at
from lhd.core.nodes import node_kind
from lhd.core.run import Run, Step
from lhd.core.values import EvaluationError, computing, from_python, to_json


def advance(run: Run) -> None:
    """Move a WfRun, and the child WfRuns that it starts, until every ThreadRun waits or has ended.

    A WfRun that still moves after ``settings.passes_max`` passes is in a tight loop and ends with INTERNAL_ERROR; so
    do a family of WfRuns that goes on for ``settings.command_passes_max`` passes and ThreadRuns together.
    """
    if run.is_lost:
        failures.end_lost(run)
        return
    settings = run.tx.settings
    passes = 0
    while passes <= settings.passes_max and run.tx.passes < settings.command_passes_max and _pass(run):
        passes += 1
    if passes > settings.passes_max:
        _stop(run, f"a tight loop exceeded the {settings.passes_max} iterations that one command may take")
    elif run.tx.passes >= settings.command_passes_max:
        _stop(run, f"one command exceeded the {settings.command_passes_max} iterations that it may take in all WfRuns")
    threads.archive_expired(run)
    migrations.forget_finished(run)
    run.show_halt()


def _pass(run: Run) -> bool:
    run.tx.passes += 1
    threads.archive_under_pressure(run)
    moved = interrupts.start_handlers(run)
    moved |= failures.start_handlers(run)
    index = 0
    while index < len(run.wf_run.thread_runs):
        moved |= _move(run, run.wf_run.thread_runs[index])
        index += 1
    return moved


def _move(run: Run, thread: ThreadRun) -> bool:
    match thread.status:
        case LHStatus.HALTED:
            return failures.note_handled(run, thread) | halting.try_resume(run, thread)
        case LHStatus.HALTING:
            return halting.finish_halting(run, thread)
        case LHStatus.RUNNING:
            moved = _migrate(run, thread) or _take_step(run.step(thread))
            while run.started:
                advance(run.started.pop(0))
            return moved
    return False


def _migrate(run: Run, thread: ThreadRun) -> bool:
    """Take a waiting ThreadRun to another version of its WfSpec, where a plan says so. Returns whether one does."""
    if not run.wf_run.HasField("workflow_migration_plan_id") or migrations.waiting_destination(run, thread) is None:
        return False
    node_name = run.step(thread).node_run.node_name
    migrations.leave_node(run, thread)
    activate(run, thread, node_name)
    return True


def _stop(run: Run, text: str) -> None:
    if run.wf_run.status not in TERMINAL:
        failures.fail_thread(run.step(run.thread(0)), Failure(failure_name="INTERNAL_ERROR", message=text))


def _take_step(step: Step) -> bool:
    node_run = step.node_run
    if node_run.failures:
        if node_run.failures[-1].was_properly_handled:
            _take_edge(step)
            return True
        return False
    kind = node_kind(step.node)
    try:
        done = kind.progress(step)
    except NodeFailure as failed:
        _abandon(step)
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


def _abandon(step: Step) -> None:
    """The NodeRun is over: who it waited for in vain is stopped."""
    for number in node_kind(step.node).abandons(step):
        halting.halt_for_good(step.run, step.run.thread(number), step.thread)


def _complete(step: Step, output: VariableValue | None) -> None:
    node_kind(step.node).leave(step)
    _abandon(step)
    node_run = step.edit_node_run()
    node_run.status = LHStatus.COMPLETED
    node_run.end_time.CopyFrom(timestamp(step.tx.now_ms))
    remembered = step.run.spec_of(step.thread).remembered_outputs[step.thread.thread_spec_name]
    if output is not None and node_run.node_name in remembered:
        step.tx.put(kinds.NODE_OUTPUT, (*step.run.key, step.thread.number, node_run.node_name), output)


def _complete_thread(step: Step) -> None:
    step.thread.status = LHStatus.COMPLETED
    step.thread.end_time.CopyFrom(timestamp(step.tx.now_ms))
    if step.thread.number == 0:
        step.run.end(LHStatus.COMPLETED)
        halting.stop_waiting_for_keys(step.run)


def _take_edge(step: Step) -> None:
    try:
        sink = choose_edge(step, mutate=not step.node_run.failures)
    except EvaluationError as error:
        step.drop_variables()
        failure = Failure(failure_name="VAR_SUB_ERROR", message=f"leaving {step.node_run.node_name}: {error}")
        fail(step, failure, while_processing=False)
        return
    activate(step.run, step.thread, sink)


def choose_edge(step: Step, *, mutate: bool) -> str:
    """The sink of the first edge that holds, whose mutations are made if asked for. Raises EvaluationError."""
    for edge in step.node.outgoing_edges:
        if condition_holds(edge, step):
            for mutation in edge.variable_mutations if mutate else ():
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
            value = mutate(mutation.operation, current, right, step.variable_type(mutation.lhs_name))
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


def activate(run: Run, thread: ThreadRun, node_name: str) -> None:
    """Let a ThreadRun arrive at a node: a new NodeRun at the next position, perhaps of another version's node."""
    try:
        node_name = migrations.move(run, thread, node_name)
    except NodeFailure as failed:
        fail(run.step(thread), failed.failure, while_processing=False)
        return
    node_run = run.arrive(thread, node_name)
    step = run.step(thread)
    try:
        node_kind(step.node).arrive(step, node_run)
    except NodeFailure as failed:
        fail(step, failed.failure, while_processing=False)
