"""What every node kind can do; the advance loop knows no more of a node than this."""

from dataclasses import dataclass

from littlehorse.model import Node, NodeRun, VariableAssignment, VariableType, VariableValue

from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known, Shape
from lhd.core.values import EvaluationError, kind_name, type_of


@dataclass(frozen=True, slots=True)
class Done:
    """The NodeRun has finished without failure; ``output`` is None where the kind has none."""

    output: VariableValue | None = None


class NodeKind:
    """The behaviour of one kind of node. Holds no state; raises NodeFailure to fail the NodeRun."""

    ends_thread = False

    def check(self, node: Node, context: TypeContext) -> None:
        """Check a node of a PutWfSpec request and fill in what it leaves open; raises Rejection."""

    def output_type(self, node: Node, context: TypeContext) -> Known:  # noqa: ARG002 - most kinds have no output
        """What is known of the node's output before it runs."""
        return Shape.VOID

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Set up the new NodeRun: its own part of the message, its timers, its tasks."""

    def progress(self, step: Step) -> Done | None:
        """Whether the NodeRun is done now; None to go on waiting."""
        raise NotImplementedError

    def leave(self, step: Step) -> None:
        """The NodeRun has stopped waiting for good, whatever the reason: call off what it set up."""

    def abandons(self, step: Step) -> list[int]:  # noqa: ARG002 - most kinds wait for no thread
        """The numbers of the ThreadRuns that a NodeRun which is over wanted to see end, and no longer does."""
        return []

    def can_halt(self, step: Step) -> bool:  # noqa: ARG002 - most kinds can
        """Whether the NodeRun can stop now (execution.md 4.2)."""
        return True

    def halted(self, step: Step) -> None:
        """The NodeRun has stopped; it may go on later."""

    def resumed(self, step: Step) -> None:
        """The NodeRun goes on where it had stopped."""


def require(
    step: Step, assignment: VariableAssignment, expected: VariableType, failure_name: str, what: str
) -> VariableValue:
    """Evaluate an assignment that must give a value of one type; otherwise the node fails with ``failure_name``."""
    try:
        value = evaluate(assignment, step)
    except EvaluationError as error:
        raise NodeFailure(failure_name, f"{what}: {error}") from error
    if type_of(value) != expected:
        raise NodeFailure(failure_name, f"{what} must be {VariableType.Name(expected)}, not {kind_name(value)}")
    return value
