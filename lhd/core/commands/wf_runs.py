"""Starting and deleting WfRuns (execution.md 1.7, 1.8, 9.4; api.md 6.1, 12)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import DeleteWfRunRequest, RunWfRequest, WfRun, WfRunId, WfSpec

from lhd.core import correlation, events, kinds, wf_runs
from lhd.core.advance import advance
from lhd.core.ids import is_lh_name, printed, require_wf_run_id, run_key
from lhd.core.kinds import Outcome, run_lane
from lhd.core.records import Transaction
from lhd.core.run import AdvanceRun
from lhd.core.specs import versions
from lhd.core.values import EvaluationError
from lhd.errors import Code, Rejection, invalid_argument


def run_wf(tx: Transaction, tenant: str, request: RunWfRequest) -> WfRun:
    """Start a WfRun and advance it; the reply shows it at its first waiting node, or finished."""
    if not request.wf_spec_name:
        raise invalid_argument("RunWf needs a wf_spec_name")
    if request.HasField("id") and not is_lh_name(request.id):
        raise invalid_argument(f"'{request.id}' is not a WfRun id: use letters, digits and inner hyphens")
    major = request.major_version if request.HasField("major_version") else None
    revision = request.revision if request.HasField("revision") else None
    spec = versions.find(tx, tenant, request.wf_spec_name, major, revision)
    wf_run_id = WfRunId(id=request.id if request.HasField("id") else tx.new_id())
    if request.HasField("parent_wf_run_id"):
        wf_run_id.parent_wf_run_id.CopyFrom(require_wf_run_id(request.parent_wf_run_id))
        require_wf_run_id(wf_run_id)
    if request.HasField("id") and tx.get(kinds.WF_RUN, run_key(tenant, wf_run_id)) is not None:
        raise Rejection(Code.ALREADY_EXISTS, f"WfRun with id {printed(wf_run_id)} already exists!")
    _check_parent(tx, tenant, spec.message, request)
    try:
        is_new = not request.HasField("id")
        run = wf_runs.create(tx, tenant, spec, wf_run_id, dict(request.variables), is_new=is_new)
    except EvaluationError as error:
        raise invalid_argument(f"WfSpec '{request.wf_spec_name}': {error}") from error
    advance(run)
    return run.wf_run


def _check_parent(tx: Transaction, tenant: str, spec: WfSpec, request: RunWfRequest) -> None:
    if spec.HasField("parent_wf_spec") != request.HasField("parent_wf_run_id"):
        needs = "needs a parent_wf_run_id" if spec.HasField("parent_wf_spec") else "runs without a parent"
        raise invalid_argument(f"WfSpec '{spec.id.name}' {needs}")
    if not request.HasField("parent_wf_run_id"):
        return
    parent = tx.get(kinds.WF_RUN, run_key(tenant, request.parent_wf_run_id))
    if parent is None:
        text = f"the parent WfRun {printed(request.parent_wf_run_id)} does not exist"
        raise Rejection(Code.FAILED_PRECONDITION, text)
    if parent.wf_spec_id.name != spec.parent_wf_spec.wf_spec_name:
        raise invalid_argument(
            f"the parent WfRun is of the WfSpec '{parent.wf_spec_id.name}'; "
            f"'{spec.id.name}' runs below '{spec.parent_wf_spec.wf_spec_name}'"
        )


def delete_wf_run(tx: Transaction, tenant: str, request: DeleteWfRunRequest) -> Empty:
    """Delete a WfRun with everything of it; an id without a WfRun changes nothing."""
    stored = tx.get(kinds.WF_RUN, run_key(tenant, request.id))
    if stored is not None:
        delete_run(tx, tenant, stored.id)
    return Empty()


def delete_run(tx: Transaction, tenant: str, wf_run_id: WfRunId) -> None:
    """Delete a WfRun that exists: its records, its events, its timers, its queued tasks and its markers."""
    key = run_key(tenant, wf_run_id)
    for event_key in tx.scan(kinds.EXTERNAL_EVENT_ORIGIN, key):
        events.settle_origin(tx, (event_key[0], event_key[1], event_key[2], event_key[3]), Outcome.DELETED)
    for node_run in tx.all(kinds.NODE_RUN, *key):
        correlation.stop_waiting(tx, tenant, node_run)
    tx.clear(run_lane(*key))
    if wf_run_id.HasField("parent_wf_run_id"):
        tx.send(AdvanceRun(wf_run_id.parent_wf_run_id))
