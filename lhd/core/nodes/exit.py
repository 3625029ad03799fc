"""EXIT nodes: the ThreadRun ends, with an output or with a failure of its own (execution.md 1.9, 6.6, 7.2)."""

from littlehorse.model import ExitRun, LHStatus, Node, NodeRun, ThreadRun, VariableValue

from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure, is_exception_name
from lhd.core.kinds import BY_HANDLER, FAILED, STOPPED
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known, Shape
from lhd.core.values import EvaluationError


class Exit(NodeKind):
    """See NodeKind."""

    ends_thread = True

    def check(self, node: Node, context: TypeContext) -> None:
        """A failure needs a name of its own."""
        if node.exit.HasField("failure_def") and not is_exception_name(node.exit.failure_def.failure_name):
            raise context.refuse(
                f"'{node.exit.failure_def.failure_name}' cannot be a failure's name: use letters, digits and inner "
                "hyphens, and none of the names that LHErrorType reserves"
            )
        if node.exit.HasField("failure_def") and node.exit.failure_def.HasField("content"):
            context.known(node.exit.failure_def.content)

    def output_type(self, node: Node, context: TypeContext) -> Known:
        """The thread's output type."""
        if not node.exit.HasField("return_content"):
            return Shape.VOID
        return context.known(node.exit.return_content)

    def arrive(self, step: Step, node_run: NodeRun) -> None:  # noqa: ARG002
        """See NodeKind."""
        node_run.exit.CopyFrom(ExitRun())

    def progress(self, step: Step) -> Done | None:
        """Throw at once, or wait for every child to end or to stop, and mind the failures that nobody dealt with."""
        exit_node = step.node.exit
        if exit_node.HasField("failure_def"):
            raise self._failure(step)
        children = step.run.children(step.thread)
        if any(child.status not in STOPPED or _goes_on_by_itself(child) for child in children):
            return None
        failed = [child.number for child in children if child.status in FAILED]
        unhandled = [number for number in failed if number not in step.thread.handled_failed_children]
        if unhandled:
            raise NodeFailure("CHILD_FAILURE", f"threads that failed: {', '.join(map(str, unhandled))}")
        if exit_node.HasField("return_content"):
            try:
                output = evaluate(exit_node.return_content, step)
                step.require_size(output)
                if step.run.wf_run.ByteSize() + output.ByteSize() > step.tx.settings.record_bytes_max:
                    raise EvaluationError("the WfRun's record has no room for it beside the outputs of other threads")
            except EvaluationError as error:
                raise NodeFailure("VAR_ERROR", f"the return value: {error}") from error
            step.thread.output.CopyFrom(output)
        return Done()

    def _failure(self, step: Step) -> NodeFailure:
        definition = step.node.exit.failure_def
        message, content = definition.message, VariableValue()
        if definition.HasField("content"):
            try:
                content = evaluate(definition.content, step)
            except EvaluationError as error:
                message = f"{message} (warning: the content of this failure cannot be evaluated: {error})"
        return NodeFailure(definition.failure_name, message, content)


def _goes_on_by_itself(child: ThreadRun) -> bool:
    """Whether a ThreadRun is halted for its own handlers only: it ends later, and may fail then."""
    reasons = {reason.WhichOneof("reason") for reason in child.halt_reasons}
    return child.status == LHStatus.HALTED and reasons <= BY_HANDLER
