"""Moving live ThreadRuns to another version of their WfSpec, as a WorkflowMigrationPlan says (execution.md 9.7)."""

from littlehorse.model import LHStatus, ThreadMigrationPlan, ThreadRun, WfSpecId, WorkflowMigrationPlan

from lhd.core import kinds, threads
from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.fitting import StoredStructDefs, fit
from lhd.core.ids import timestamp
from lhd.core.kinds import TERMINAL
from lhd.core.nodes import node_kind
from lhd.core.run import Run
from lhd.core.values import EvaluationError

_MOVED_WHILE_WAITING = frozenset({"external_event", "user_task", "wait_for_condition", "wait_for_threads", "sleep"})


def target_of(plan: WorkflowMigrationPlan) -> WfSpecId:
    """The version that the plan leads to."""
    return WfSpecId(name=plan.old_wfSpec.name, major_version=plan.major_version, revision=plan.revision)


def pending_plan(run: Run) -> WorkflowMigrationPlan | None:
    """The plan by which the WfRun is being migrated."""
    if not run.wf_run.HasField("workflow_migration_plan_id"):
        return None
    return run.tx.get(kinds.MIGRATION_PLAN, (run.tenant, run.wf_run.workflow_migration_plan_id.name))


def waiting_destination(run: Run, thread: ThreadRun) -> str | None:
    """Where a ThreadRun goes that waits at a node from which a plan takes it away at once; None where it stays."""
    plan = pending_plan(run)
    if plan is None:
        return None
    step = run.step(thread)
    if step.node.WhichOneof("node") not in _MOVED_WHILE_WAITING or step.node_run.failures:
        return None
    return _node_of(plan, thread, step.node_run.node_name)


def _node_of(plan: WorkflowMigrationPlan, thread: ThreadRun, node_name: str) -> str | None:
    moved = _thread_of(plan, thread)
    if moved is None or node_name not in moved.node_migrations:
        return None
    return moved.node_migrations[node_name].new_node_name


def _thread_of(plan: WorkflowMigrationPlan, thread: ThreadRun) -> ThreadMigrationPlan | None:
    if thread.wf_spec_id != plan.old_wfSpec or thread.thread_spec_name not in plan.thread_migrations:
        return None
    return plan.thread_migrations[thread.thread_spec_name]


def leave_node(run: Run, thread: ThreadRun) -> None:
    """The ThreadRun stops waiting where it stands: its NodeRun is never taken up again."""
    step = run.step(thread)
    node_kind(step.node).leave(step)
    node_run = step.edit_node_run()
    node_run.status = LHStatus.HALTED
    node_run.end_time.CopyFrom(timestamp(run.tx.now_ms))


def move(run: Run, thread: ThreadRun, node_name: str) -> str:
    """The node to activate for one that a ThreadRun comes to; where a plan maps it, the ThreadRun moves first.

    Raises NodeFailure where a variable of the new version cannot be set.
    """
    plan = pending_plan(run)
    destination = None if plan is None else _node_of(plan, thread, node_name)
    if plan is None or destination is None:
        return node_name
    moved = plan.thread_migrations[thread.thread_spec_name]
    thread.wf_spec_id.CopyFrom(target_of(plan))
    thread.thread_spec_name = moved.new_thread_name
    if thread.number == 0:
        run.wf_run.old_wf_spec_versions.append(run.wf_run.wf_spec_id)
        run.wf_run.wf_spec_id.CopyFrom(thread.wf_spec_id)
    _set_variables(run, thread)
    return destination


def _set_variables(run: Run, thread: ThreadRun) -> None:
    threads.create_missing_variables(run, thread)
    name = thread.thread_spec_name
    if name not in run.wf_run.migration_variables:
        return
    step = run.step(thread)
    try:
        for variable, assignment in sorted(run.wf_run.migration_variables[name].var_assignment_by_var_name.items()):
            value = fit(evaluate(assignment, step), step.variable_type(variable), StoredStructDefs(run.tx, run.tenant))
            step.change_variable(variable, value)
    except EvaluationError as error:
        raise NodeFailure("VAR_SUB_ERROR", f"the variables of the migration: {error}") from error
    step.keep_variables()


def forget_finished(run: Run) -> None:
    """The plan leaves the WfRun when no live ThreadRun is on the old version any more."""
    plan = pending_plan(run)
    if plan is None:
        return
    live = [thread for thread in run.wf_run.thread_runs if thread.status not in TERMINAL]
    if not any(thread.wf_spec_id == plan.old_wfSpec for thread in live):
        run.wf_run.ClearField("workflow_migration_plan_id")
        run.wf_run.migration_variables.clear()
