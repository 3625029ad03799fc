"""WAIT_FOR_CHILD_WF nodes: wait for a child WfRun to end and take its output (execution.md 7.8)."""

from littlehorse.model import LHStatus, Node, NodeRun, VariableType, WfRun

from lhd.core import kinds
from lhd.core.failure import NodeFailure
from lhd.core.ids import printed, run_key
from lhd.core.nodes.kind import Done, NodeKind, require
from lhd.core.nodes.run_child_wf import find_child_spec
from lhd.core.run import Run, Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known, Shape


class WaitForChildWf(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The child can be a WfRun's id, and comes from a node that runs one."""
        waiting = node.wait_for_child_wf
        source = waiting.child_wf_run_source_node
        nodes = context.thread_spec.nodes
        if source not in nodes or not nodes[source].HasField("run_child_wf"):
            raise context.refuse(f"'{source}' is no RUN_CHILD_WF node of this thread")
        context.require(waiting.child_wf_run_id, VariableType.WF_RUN_ID)

    def output_type(self, node: Node, context: TypeContext) -> Known:
        """The output type of the child, where its WfSpec is known."""
        source = node.wait_for_child_wf.child_wf_run_source_node
        if source not in context.thread_spec.nodes:
            return Shape.UNKNOWN
        child = context.thread_spec.nodes[source].run_child_wf
        if not child.HasField("wf_spec_name"):
            return Shape.UNKNOWN
        spec = find_child_spec(context.tx, context.tenant, child.wf_spec_name, child.major_version)
        return Shape.UNKNOWN if spec is None else context.output_of(spec.message)

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Let the child know who waits for it."""
        waiting = step.node.wait_for_child_wf
        value = require(step, waiting.child_wf_run_id, VariableType.WF_RUN_ID, "VAR_SUB_ERROR", "the child WfRun")
        if value.wf_run_id.parent_wf_run_id != step.run.id:
            raise NodeFailure("VAR_SUB_ERROR", f"'{printed(value.wf_run_id)}' is no child of this WfRun")
        node_run.wait_for_child_wf.child_wf_run_id.CopyFrom(value.wf_run_id)
        key = run_key(step.run.tenant, value.wf_run_id)
        if step.tx.get(kinds.WF_RUN, key) is not None:
            child = step.tx.edit(kinds.WF_RUN, key)
            child.parent_trigger.waiting_node_run.CopyFrom(step.node_run_id)

    def progress(self, step: Step) -> Done | None:
        """See NodeKind."""
        child_id = step.node_run.wait_for_child_wf.child_wf_run_id
        child = step.tx.get(kinds.WF_RUN, run_key(step.run.tenant, child_id))
        if child is None:
            raise NodeFailure("CHILD_FAILURE", f"the child WfRun {child_id.id} is gone")
        match child.status:
            case LHStatus.COMPLETED:
                output = child.thread_runs[0].output
                return Done(output) if child.thread_runs[0].HasField("output") else Done()
            case LHStatus.ERROR | LHStatus.EXCEPTION:
                raise self._failure(step, child)
        return None

    def _failure(self, step: Step, child: WfRun) -> NodeFailure:
        entrypoint = child.thread_runs[0]
        text = f"the child WfRun {child.id.id} failed: {entrypoint.error_message}"
        if child.status == LHStatus.ERROR:
            return NodeFailure("CHILD_FAILURE", text)
        cause = Run(step.tx, step.run.tenant, child.id).last_failure(entrypoint)
        assert cause is not None, "a WfRun that ended in EXCEPTION has a failure"
        return NodeFailure(cause.failure_name, text, cause.content if cause.HasField("content") else None)
