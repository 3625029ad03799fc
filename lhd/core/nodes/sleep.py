"""SLEEP nodes: wait until a time (execution.md 7.3)."""

from littlehorse.model import Node, NodeRun, SleepNode, VariableType

from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.ids import milliseconds, timestamp
from lhd.core.kinds import TimerAction
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.values import EvaluationError, instant_ms, kind_name, type_of


class Sleep(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """Exactly one length, of a type that can be one."""
        match node.sleep.WhichOneof("sleep_length"):
            case "raw_seconds":
                context.require(node.sleep.raw_seconds, VariableType.INT)
            case "iso_date":
                context.require(node.sleep.iso_date, VariableType.STR)
            case "timestamp":
                context.require(node.sleep.timestamp, VariableType.TIMESTAMP, VariableType.INT)
            case _:
                raise context.refuse("a SLEEP node needs raw_seconds, timestamp or iso_date")

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """See NodeKind."""
        due_ms = self._due_ms(step)
        node_run.sleep.maturation_time.CopyFrom(timestamp(due_ms))
        step.run.arm(TimerAction.SLEEP, due_ms, *_target(step, due_ms))

    def progress(self, step: Step) -> Done | None:
        """Done when matured; until then a moving ``timestamp`` or ``iso_date`` moves the timer."""
        if step.node_run.sleep.matured:
            return Done()
        if not step.node.sleep.HasField("raw_seconds"):
            due_ms = self._due_ms(step)
            if due_ms != milliseconds(step.node_run.sleep.maturation_time):
                self.leave(step)
                self.arrive(step, step.edit_node_run())
        return None

    def leave(self, step: Step) -> None:
        """See NodeKind."""
        due_ms = milliseconds(step.node_run.sleep.maturation_time)
        step.run.disarm(TimerAction.SLEEP, *_target(step, due_ms))

    def _due_ms(self, step: Step) -> int:
        sleep = step.node.sleep
        try:
            due_ms = _wake_time(sleep, step)
            timestamp(due_ms).ToJsonString()
        except (EvaluationError, ValueError, OverflowError) as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the length of the sleep: {error}") from error
        return due_ms


def _target(step: Step, due_ms: int) -> tuple[int, int, int]:
    """A timer that was moved is another one, so that the old one, should it be on its way, changes nothing."""
    return step.thread.number, step.position, due_ms


def _wake_time(sleep: SleepNode, step: Step) -> int:
    length = sleep.WhichOneof("sleep_length")
    assert length is not None
    value = evaluate(getattr(sleep, length), step)
    match length, type_of(value):
        case "raw_seconds", VariableType.INT:
            return step.tx.time.wall_ms + value.int * 1000
        case "timestamp", VariableType.INT:
            return value.int
        case "timestamp", VariableType.TIMESTAMP:
            return value.utc_timestamp.seconds * 1000
        case "iso_date", VariableType.STR:
            return instant_ms(value.str)
    raise EvaluationError(f"{length} cannot be {kind_name(value)}")
