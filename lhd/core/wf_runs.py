"""Creating WfRuns, for a request or for a node of another WfRun (execution.md 1.7)."""

from collections.abc import Mapping

from littlehorse.model import LHStatus, NodeRunId, ThreadType, VariableValue, WfRun, WfRunId

from lhd.core import kinds, measures, threads
from lhd.core.fitting import StoredStructDefs
from lhd.core.ids import run_key, timestamp
from lhd.core.kinds import run_lane
from lhd.core.records import Transaction
from lhd.core.run import Run
from lhd.core.specs.registered import RegisteredSpec


def create(
    tx: Transaction,
    tenant: str,
    spec: RegisteredSpec,
    wf_run_id: WfRunId,
    inputs: Mapping[str, VariableValue],
    trigger: NodeRunId | None = None,
    *,
    is_new: bool = False,
) -> Run:
    """A WfRun with its entrypoint thread, not advanced yet. Raises EvaluationError for inputs that do not fit.

    ``trigger`` is the NodeRun of the parent WfRun that starts it; ``is_new`` that the id has just been drawn, so that
    nothing can be stored for it.
    """
    entrypoint = spec.message.entrypoint_thread_name
    structs, limit = StoredStructDefs(tx, tenant), tx.settings.record_bytes_max
    accepted = threads.accept_inputs(spec.thread_spec(entrypoint), inputs, structs, limit)
    wf_run = WfRun(id=wf_run_id, wf_spec_id=spec.message.id, status=LHStatus.RUNNING, start_time=timestamp(tx.now_ms))
    if trigger is not None:
        wf_run.parent_trigger.triggering_node_run.CopyFrom(trigger)
    if is_new:
        tx.begin_lane(run_lane(*run_key(tenant, wf_run_id)))
    tx.put(kinds.WF_RUN, run_key(tenant, wf_run_id), wf_run)
    measures.count_wf_run(tx, tenant, spec.message.id, "started")
    run = Run(tx, tenant, wf_run_id)
    threads.begin(run, entrypoint, ThreadType.ENTRYPOINT, None, accepted)
    return run
