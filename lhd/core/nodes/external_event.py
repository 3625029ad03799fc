"""EXTERNAL_EVENT nodes: wait for one ExternalEvent of the WfRun (execution.md 2)."""

from littlehorse.model import Node, NodeRun, VariableType

from lhd.core import correlation, events, kinds
from lhd.core.failure import NodeFailure
from lhd.core.kinds import TimerAction
from lhd.core.nodes.kind import Done, NodeKind, require
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known, Shape, type_of_return


class ExternalEventKind(NodeKind):
    """See NodeKind; named apart from the ExternalEvent itself."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The ExternalEventDef exists; a key can be text."""
        name = node.external_event.external_event_def_id.name
        if context.tx.get(kinds.EXTERNAL_EVENT_DEF, (context.tenant, name)) is None:
            raise context.refuse(f"there is no ExternalEventDef '{name}'")
        for field in ("timeout_seconds", "correlation_key"):
            if node.external_event.HasField(field):
                context.known(getattr(node.external_event, field))

    def output_type(self, node: Node, context: TypeContext) -> Known:
        """The type of the ExternalEventDef, where it has one."""
        name = node.external_event.external_event_def_id.name
        definition = context.tx.get(kinds.EXTERNAL_EVENT_DEF, (context.tenant, name))
        if definition is None or not definition.HasField("type_information"):
            return Shape.UNKNOWN
        return type_of_return(definition.type_information)

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Arm the timeout, then register the correlation marker."""
        node = step.node.external_event
        waiting = node_run.external_event
        waiting.external_event_def_id.CopyFrom(node.external_event_def_id)
        if node.HasField("timeout_seconds"):
            seconds = require(step, node.timeout_seconds, VariableType.INT, "VAR_ERROR", "the timeout").int
            due_ms = step.tx.time.wall_ms + seconds * 1000
            step.run.arm(TimerAction.EXTERNAL_EVENT_TIMEOUT, due_ms, step.thread.number, step.position)
        if node.HasField("correlation_key"):
            key = require(step, node.correlation_key, VariableType.STR, "VAR_ERROR", "the correlation key")
            waiting.correlation_key = key.str
            waiting.mask_correlation_key = node.mask_correlation_key
            correlation.start_waiting(step, node.external_event_def_id.name, key.str)

    def progress(self, step: Step) -> Done | None:
        """Timed out, or done with the oldest event that fits this NodeRun."""
        waiting = step.node_run.external_event
        if waiting.timed_out:
            text = f"the ExternalEvent '{waiting.external_event_def_id.name}' did not arrive in time"
            raise NodeFailure("TIMEOUT", text)
        event = events.oldest_match(step, waiting.external_event_def_id.name)
        return None if event is None else Done(events.claim(step, event))

    def resumed(self, step: Step) -> None:
        """Wait for the key again, which the end of the WfRun took away if it has been rescued since."""
        waiting = step.node_run.external_event
        if waiting.HasField("correlation_key") and not waiting.timed_out:
            name = waiting.external_event_def_id.name
            if events.oldest_match(step, name) is None:
                correlation.start_waiting(step, name, waiting.correlation_key)

    def leave(self, step: Step) -> None:
        """See NodeKind."""
        if step.node.external_event.HasField("timeout_seconds"):
            step.run.disarm(TimerAction.EXTERNAL_EVENT_TIMEOUT, step.thread.number, step.position)
        correlation.stop_waiting(step.tx, step.run.tenant, step.node_run)
