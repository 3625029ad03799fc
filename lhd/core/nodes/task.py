"""TASK nodes: give work to a task worker and take its result (execution.md 5)."""

from littlehorse.model import (
    ExponentialBackoffRetryPolicy,
    Node,
    NodeRun,
    TaskDef,
    TaskNode,
    TaskNodeReference,
    TaskRunId,
    TaskRunSource,
    TaskStatus,
    VarNameAndVal,
)

from lhd.core import kinds, task_runs
from lhd.core.casting import cast
from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.fitting import fit
from lhd.core.ids import task_run_key
from lhd.core.kinds import UNFINISHED
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known, Shape, type_of_definition, type_of_return
from lhd.core.values import EvaluationError, text_of

DEFAULT_TIMEOUT_S = 60
RETRIES_MAX = 2**31 - 2
"""One attempt more must still be an int32."""

_FAILURES = {
    TaskStatus.TASK_FAILED: ("TASK_FAILURE", "the task failed; its last attempt says why"),
    TaskStatus.TASK_TIMEOUT: ("TIMEOUT", "no worker reported the task's result in time"),
    TaskStatus.TASK_OUTPUT_SERDE_ERROR: ("VAR_MUTATION_ERROR", "the task's output is not usable"),
    TaskStatus.TASK_INPUT_VAR_SUB_ERROR: ("VAR_SUB_ERROR", "the worker could not read the task's inputs"),
}


class Task(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """See :func:`check_task`."""
        check_task(node.task, context)

    def output_type(self, node: Node, context: TypeContext) -> Known:
        """The TaskDef's return type."""
        if not node.task.HasField("task_def_id"):
            return Shape.UNKNOWN
        definition = context.tx.get(kinds.TASK_DEF, (context.tenant, node.task.task_def_id.name))
        return Shape.UNKNOWN if definition is None else type_of_return(definition.return_type)

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Create the TaskRun and put it on its queue."""
        definition = task_def_of(step, step.node.task)
        inputs = _inputs(step, definition)
        node_run.task.task_run_id.CopyFrom(_task_run_id(step))
        source = TaskRunSource(
            task_node=TaskNodeReference(node_run_id=step.node_run_id), wf_spec_id=step.run.wf_run.wf_spec_id
        )
        task_runs.schedule(step, step.node.task, definition, inputs, _task_run_id(step).task_guid, source)

    def progress(self, step: Step) -> Done | None:
        """Done with the output of the last attempt, or failed as that attempt says."""
        task_run = step.tx.get(kinds.TASK_RUN, task_run_key(step.run.tenant, _task_run_id(step)))
        assert task_run is not None
        last = task_run.attempts[-1]
        match task_run.status:
            case status if status in UNFINISHED:
                return None
            case TaskStatus.TASK_SUCCESS:
                return Done(last.output)
            case TaskStatus.TASK_EXCEPTION:
                content = last.exception.content if last.exception.HasField("content") else None
                raise NodeFailure(last.exception.name, last.exception.message, content)
        raise NodeFailure(*_FAILURES[task_run.status])

    def can_halt(self, step: Step) -> bool:
        """Only when its TaskRun is over; a retry that is still to come is not."""
        task_run = step.tx.get(kinds.TASK_RUN, task_run_key(step.run.tenant, _task_run_id(step)))
        assert task_run is not None
        return task_run.status not in UNFINISHED


def check_task(task: TaskNode, context: TypeContext) -> None:
    """The TaskDef exists and takes these inputs; retries make sense. Fills in the timeout."""
    if task.timeout_seconds == 0:
        task.timeout_seconds = DEFAULT_TIMEOUT_S
    if task.timeout_seconds < 0:
        raise context.refuse("timeout_seconds cannot be negative")
    if not 0 <= task.retries <= RETRIES_MAX:
        raise context.refuse(f"retries is {task.retries}; it can be 0 to {RETRIES_MAX}")
    if task.HasField("exponential_backoff"):
        _check_backoff(task.exponential_backoff, context)
    match task.WhichOneof("task_to_execute"):
        case "task_def_id":
            _check_inputs(task, context)
        case "dynamic_task":
            context.known(task.dynamic_task)
            for assignment in task.variables:
                context.known(assignment)
        case _:
            raise context.refuse("a task is named by task_def_id or dynamic_task")


def _check_backoff(backoff: ExponentialBackoffRetryPolicy, context: TypeContext) -> None:
    if backoff.base_interval_ms <= 0:
        raise context.refuse("base_interval_ms of exponential_backoff must be positive")
    if not backoff.multiplier >= 1.0:
        raise context.refuse("multiplier of exponential_backoff must be at least 1.0")
    if backoff.max_delay_ms < backoff.base_interval_ms:
        raise context.refuse("max_delay_ms of exponential_backoff must be at least base_interval_ms")


def _check_inputs(task: TaskNode, context: TypeContext) -> None:
    definition = context.tx.get(kinds.TASK_DEF, (context.tenant, task.task_def_id.name))
    if definition is None:
        raise context.refuse(f"there is no TaskDef '{task.task_def_id.name}'")
    if len(task.variables) != len(definition.input_vars):
        raise context.refuse(
            f"the task '{definition.id.name}' takes {len(definition.input_vars)} inputs, not {len(task.variables)}"
        )
    for assignment, variable in zip(task.variables, definition.input_vars, strict=True):
        context.require_assignable(assignment, type_of_definition(variable.type_def), f"input '{variable.name}'")


def _task_run_id(step: Step) -> TaskRunId:
    return TaskRunId(wf_run_id=step.run.id, task_guid=f"{step.thread.number}-{step.position}")


def task_def_of(step: Step, task: TaskNode) -> TaskDef:
    """The TaskDef that the task names, or whose name it computes. Raises NodeFailure."""
    if task.HasField("task_def_id"):
        found = step.tx.get(kinds.TASK_DEF, (step.run.tenant, task.task_def_id.name))
        if found is None:
            raise NodeFailure("TASK_ERROR", f"the TaskDef '{task.task_def_id.name}' was deleted")
        return found
    try:
        name = text_of(evaluate(task.dynamic_task, step))
    except EvaluationError as error:
        raise NodeFailure("VAR_SUB_ERROR", f"the name of the task: {error}") from error
    found = step.tx.get(kinds.TASK_DEF, (step.run.tenant, name))
    if found is None:
        raise NodeFailure("VAR_SUB_ERROR", f"there is no TaskDef '{name}'")
    return found


def _inputs(step: Step, definition: TaskDef) -> list[VarNameAndVal]:
    try:
        return task_inputs(step, step.node.task, definition)
    except EvaluationError as error:
        raise NodeFailure("VAR_SUB_ERROR", str(error)) from error


def task_inputs(step: Step, task: TaskNode, definition: TaskDef) -> list[VarNameAndVal]:
    """The inputs of a TaskRun by the TaskDef's names and in its types. Raises EvaluationError."""
    if len(task.variables) != len(definition.input_vars):
        text = f"the task '{definition.id.name}' takes {len(definition.input_vars)} inputs, not {len(task.variables)}"
        raise EvaluationError(text)
    inputs = []
    for assignment, variable in zip(task.variables, definition.input_vars, strict=True):
        try:
            value = fit(evaluate(assignment, step), variable.type_def, step)
            if variable.type_def.HasField("primitive_type"):
                value = cast(value, variable.type_def.primitive_type)
        except EvaluationError as error:
            raise EvaluationError(f"input '{variable.name}': {error}") from error
        inputs.append(VarNameAndVal(var_name=variable.name, value=value, masked=variable.type_def.masked))
    if sum(one.ByteSize() for one in inputs) > step.tx.settings.record_bytes_max:
        raise EvaluationError("the inputs are together larger than a record may be")
    return inputs
