"""START_THREAD nodes: start one child ThreadRun (execution.md 6.1)."""

from littlehorse.model import Node, NodeRun, ThreadType, VariableType, VariableValue

from lhd.core import threads
from lhd.core.expressions import evaluate_all
from lhd.core.failure import NodeFailure
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known
from lhd.core.values import EvaluationError


class StartThread(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The thread is another one of this WfSpec, and takes these variables."""
        name = node.start_thread.thread_spec_name
        if name == context.thread_name:
            raise context.refuse(f"the thread '{name}' cannot start itself")
        if name not in context.spec.thread_specs:
            raise context.refuse(f"there is no thread '{name}' to start")
        context.check_inputs(node.start_thread.variables, context.spec.thread_specs[name], f"the thread '{name}'")

    def output_type(self, node: Node, context: TypeContext) -> Known:  # noqa: ARG002
        """The number of the child."""
        return VariableType.INT

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """See NodeKind."""
        node = step.node.start_thread
        node_run.start_thread.thread_spec_name = node.thread_spec_name
        try:
            inputs = evaluate_all(node.variables, step)
            child = threads.start(step.run, node.thread_spec_name, ThreadType.CHILD, step.thread, inputs)
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the thread '{node.thread_spec_name}': {error}") from error
        node_run.start_thread.child_thread_id = child.number

    def progress(self, step: Step) -> Done:
        """See NodeKind."""
        return Done(VariableValue(int=step.node_run.start_thread.child_thread_id))
