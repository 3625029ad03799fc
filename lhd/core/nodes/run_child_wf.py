"""RUN_CHILD_WF nodes: start a WfRun whose parent this one is (execution.md 7.7)."""

from littlehorse.model import Node, NodeRun, VariableType, VariableValue, WfRunId

from lhd.core import kinds, wf_runs
from lhd.core.expressions import evaluate, evaluate_all
from lhd.core.failure import NodeFailure
from lhd.core.ids import is_lh_name, require_shallow, run_key
from lhd.core.nodes.kind import Done, NodeKind, require
from lhd.core.records import Transaction
from lhd.core.run import Step
from lhd.core.specs import versions
from lhd.core.specs.context import TypeContext
from lhd.core.specs.registered import RegisteredSpec
from lhd.core.specs.types import Known
from lhd.core.values import EvaluationError
from lhd.errors import Rejection


class RunChildWf(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The WfSpec exists and takes these inputs; its newest major version is pinned."""
        child = node.run_child_wf
        if child.HasField("child_id"):
            context.require(child.child_id, VariableType.STR)
        match child.WhichOneof("wf_spec"):
            case "wf_spec_name":
                spec = find_child_spec(context.tx, context.tenant, child.wf_spec_name, child.major_version)
                if spec is None:
                    raise context.refuse(f"could not find WfSpec '{child.wf_spec_name}' to run as a child")
                child.major_version = spec.message.id.major_version
                entrypoint = spec.thread_spec(spec.message.entrypoint_thread_name)
                context.check_inputs(child.inputs, entrypoint, f"the WfSpec '{child.wf_spec_name}'")
            case "wf_spec_var":
                context.require(child.wf_spec_var, VariableType.STR)
                for assignment in child.inputs.values():
                    context.known(assignment)
            case _:
                raise context.refuse("a RUN_CHILD_WF node names its WfSpec by wf_spec_name or wf_spec_var")

    def output_type(self, node: Node, context: TypeContext) -> Known:  # noqa: ARG002
        """The id of the child."""
        return VariableType.WF_RUN_ID

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """See NodeKind."""
        child = step.node.run_child_wf
        spec = self._spec(step)
        child_id = WfRunId(id=self._id(step), parent_wf_run_id=step.run.id)
        try:
            require_shallow(child_id)
            inputs = evaluate_all(child.inputs, step)
            if sum(value.ByteSize() for value in inputs.values()) > step.tx.settings.record_bytes_max:
                raise EvaluationError("the inputs are together larger than a record may be")
            is_new = not child.HasField("child_id")
            if not is_new and step.tx.get(kinds.WF_RUN, run_key(step.run.tenant, child_id)) is not None:
                raise EvaluationError(f"there is a child WfRun '{child_id.id}' already")
            started = wf_runs.create(step.tx, step.run.tenant, spec, child_id, inputs, step.node_run_id, is_new=is_new)
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the WfSpec '{spec.message.id.name}': {error}") from error
        except ValueError as error:
            raise NodeFailure("INTERNAL_ERROR", f"the child WfRun cannot start: {error}") from error
        step.run.started.append(started)
        node_run.run_child_wf.child_wf_run_id.CopyFrom(child_id)
        node_run.run_child_wf.wf_spec_id.CopyFrom(spec.message.id)
        for name, value in inputs.items():
            node_run.run_child_wf.inputs[name].CopyFrom(value)

    def _spec(self, step: Step) -> RegisteredSpec:
        child = step.node.run_child_wf
        if child.HasField("wf_spec_var"):
            name, major = require(step, child.wf_spec_var, VariableType.STR, "VAR_SUB_ERROR", "the name").str, -1
        else:
            name, major = child.wf_spec_name, child.major_version
        spec = find_child_spec(step.tx, step.run.tenant, name, major)
        if spec is None:
            raise NodeFailure("CHILD_FAILURE", f"there is no WfSpec '{name}' to run as a child")
        return spec

    def _id(self, step: Step) -> str:
        if not step.node.run_child_wf.HasField("child_id"):
            return step.tx.new_id()
        try:
            given = evaluate(step.node.run_child_wf.child_id, step).str
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the id of the child: {error}") from error
        if not is_lh_name(given):
            raise NodeFailure("VAR_SUB_ERROR", f"'{given}' is no id of a WfRun: use letters, digits and inner hyphens")
        return given

    def progress(self, step: Step) -> Done:
        """See NodeKind."""
        return Done(VariableValue(wf_run_id=step.node_run.run_child_wf.child_wf_run_id))


def find_child_spec(tx: Transaction, tenant: str, name: str, major: int) -> RegisteredSpec | None:
    """The WfSpec that a child WfRun is started from, of the latest major version for -1; None where there is none."""
    try:
        return versions.find(tx, tenant, name, None if major == -1 else major, None)
    except Rejection:
        return None
