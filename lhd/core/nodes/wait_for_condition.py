"""WAIT_FOR_CONDITION nodes: wait until a condition over variables holds (execution.md 7.4)."""

from littlehorse.model import Node, NodeRun, WaitForConditionRun

from lhd.core.expressions import condition_holds
from lhd.core.failure import NodeFailure
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.values import EvaluationError


class WaitForCondition(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The condition is one."""
        match node.wait_for_condition.WhichOneof("node_condition"):
            case "condition":
                context.check_condition(node.wait_for_condition.condition)
            case "legacy_condition":
                context.check_legacy_condition(node.wait_for_condition.legacy_condition)
            case _:
                raise context.refuse("a WAIT_FOR_CONDITION node needs a condition")

    def arrive(self, step: Step, node_run: NodeRun) -> None:  # noqa: ARG002
        """See NodeKind."""
        node_run.wait_for_condition.CopyFrom(WaitForConditionRun())

    def progress(self, step: Step) -> Done | None:
        """See NodeKind."""
        try:
            return Done() if condition_holds(step.node.wait_for_condition, step) else None
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the condition: {error}") from error
