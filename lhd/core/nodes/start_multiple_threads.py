"""START_MULTIPLE_THREADS nodes: start a child ThreadRun for each item of a list (execution.md 6.1)."""

from littlehorse.model import Node, NodeRun, ThreadType, VariableType, VariableValue

from lhd.core import threads
from lhd.core.expressions import evaluate, evaluate_all
from lhd.core.failure import NodeFailure
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import ArrayType, Known, Shape, name_of
from lhd.core.values import EvaluationError, from_python, items_of


class StartMultipleThreads(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The thread exists, and the iterable can be a list."""
        name = node.start_multiple_threads.thread_spec_name
        if name not in context.spec.thread_specs:
            raise context.refuse(f"there is no thread '{name}' to start")
        iterable = context.known(node.start_multiple_threads.iterable)
        if not isinstance(iterable, ArrayType | Shape) and iterable != VariableType.JSON_ARR:
            raise context.refuse(f"the iterable must be JSON_ARR or ARRAY, not {name_of(iterable)}")
        for assignment in node.start_multiple_threads.variables.values():
            context.known(assignment)

    def output_type(self, node: Node, context: TypeContext) -> Known:  # noqa: ARG002
        """The numbers of the children."""
        return VariableType.JSON_ARR

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Start all children, or none where there is no room for all."""
        name = step.node.start_multiple_threads.thread_spec_name
        node_run.start_multiple_threads.thread_spec_name = name
        try:
            items = items_of(evaluate(step.node.start_multiple_threads.iterable, step))
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the iterable: {error}") from error
        threads.require_room(step.run, len(items))
        try:
            for item in items:
                node_run.start_multiple_threads.child_thread_ids.append(self._start(step, item))
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the thread '{name}': {error}") from error

    def _start(self, step: Step, item: VariableValue) -> int:
        node = step.node.start_multiple_threads
        inputs = evaluate_all(node.variables, step)
        inputs |= threads.given_input(step.run, step.thread, node.thread_spec_name, item)
        return threads.start(step.run, node.thread_spec_name, ThreadType.CHILD, step.thread, inputs).number

    def progress(self, step: Step) -> Done:
        """See NodeKind."""
        return Done(from_python(list(step.node_run.start_multiple_threads.child_thread_ids)))
