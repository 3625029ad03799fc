"""THROW_EVENT nodes: tell the outside by a WorkflowEvent (execution.md 7.5)."""

from littlehorse.model import Node, NodeRun, WorkflowEvent, WorkflowEventId

from lhd.core import kinds
from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.ids import timestamp
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.values import EvaluationError


class ThrowEvent(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The WorkflowEventDef exists."""
        name = node.throw_event.event_def_id.name
        if context.tx.get(kinds.WORKFLOW_EVENT_DEF, (context.tenant, name)) is None:
            raise context.refuse(f"there is no WorkflowEventDef '{name}'")
        if node.throw_event.HasField("content"):
            context.known(node.throw_event.content)

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Store the WorkflowEvent; who waits for it hears of it after the commit."""
        thrown = step.node.throw_event
        try:
            content = evaluate(thrown.content, step) if thrown.HasField("content") else None
            if content is not None:
                step.require_size(content)
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the content of the event: {error}") from error
        counter = (*step.run.key, thrown.event_def_id.name)
        number = step.tx.get(kinds.WORKFLOW_EVENTS_THROWN, counter) or 0
        step.tx.put(kinds.WORKFLOW_EVENTS_THROWN, counter, number + 1)
        event = WorkflowEvent(
            id=WorkflowEventId(wf_run_id=step.run.id, workflow_event_def_id=thrown.event_def_id, number=number),
            content=content,
            created_at=timestamp(step.tx.now_ms),
            node_run_id=step.node_run_id,
        )
        step.tx.put(kinds.WORKFLOW_EVENT, (*counter, number), event)
        node_run.throw_event.workflow_event_id.CopyFrom(event.id)

    def progress(self, step: Step) -> Done:  # noqa: ARG002
        """See NodeKind."""
        return Done()
