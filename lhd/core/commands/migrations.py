"""Putting, deleting and applying WorkflowMigrationPlans (api.md 12.2)."""

from collections.abc import Iterable, Mapping

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    ApplyWorkflowMigrationPlanRequest,
    DeleteWorkflowMigrationPlanRequest,
    MigrationVars,
    NodeMigrationPlan,
    PutWorkflowMigrationPlanRequest,
    ThreadMigrationPlan,
    ThreadSpec,
    VariableAssignment,
    VariableMutation,
    WfRun,
    WfSpec,
    WfSpecId,
    WorkflowMigrationPlan,
    WorkflowMigrationPlanId,
)

from lhd.core import kinds
from lhd.core.advance import advance
from lhd.core.fitting import StoredStructDefs, accept
from lhd.core.ids import printed, run_key, timestamp
from lhd.core.kinds import TERMINAL
from lhd.core.migrations import target_of
from lhd.core.records import Transaction
from lhd.core.run import Run
from lhd.core.specs.registered import RegisteredSpec, walk
from lhd.core.values import EvaluationError
from lhd.errors import Code, Rejection, invalid_argument, not_found

_UNMAPPED = frozenset({"entrypoint", "exit", "nop"})


def put_plan(tx: Transaction, tenant: str, request: PutWorkflowMigrationPlanRequest) -> WorkflowMigrationPlan:
    """Check and store a plan, in place of an earlier one of its name."""
    plan = WorkflowMigrationPlan(
        workflow_migration_plan_id=WorkflowMigrationPlanId(name=request.name),
        created_at=timestamp(tx.now_ms),
        old_wfSpec=request.old_wfSpec,
        major_version=request.major_version,
        revision=request.revision,
    )
    old, new = _spec(tx, tenant, plan.old_wfSpec), _spec(tx, tenant, target_of(plan))
    if not request.name:
        raise invalid_argument("a migration plan needs a name")
    if not request.thread_migrations:
        raise invalid_argument(f"the migration plan '{request.name}' moves no thread")
    for name, moved in sorted(request.thread_migrations.items()):
        _check_thread(old.message, new.message, name, moved.new_thread_name)
        checked = plan.thread_migrations[name]
        checked.new_thread_name = moved.new_thread_name
        _check_nodes(old.thread_spec(name), new.thread_spec(moved.new_thread_name), moved.node_migrations, name)
        for node, destination in moved.node_migrations.items():
            checked.node_migrations[node].CopyFrom(destination)
    destinations = {moved.new_thread_name for moved in plan.thread_migrations.values()}
    for name, checked in sorted(plan.thread_migrations.items()):
        _add_dependencies(old.message, new.message, name, checked, destinations)
    return tx.put(kinds.MIGRATION_PLAN, (tenant, request.name), plan)


def _spec(tx: Transaction, tenant: str, spec_id: WfSpecId) -> RegisteredSpec:
    found = tx.get(kinds.WF_SPEC, (tenant, spec_id.name, spec_id.major_version, spec_id.revision))
    if found is None:
        raise not_found(f"there is no WfSpec '{spec_id.name}' {spec_id.major_version}.{spec_id.revision}")
    return found


def _check_thread(old: WfSpec, new: WfSpec, name: str, destination: str) -> None:
    for spec, thread in ((old, name), (new, destination)):
        if thread not in spec.thread_specs:
            version = f"{spec.id.major_version}.{spec.id.revision}"
            raise invalid_argument(f"the WfSpec '{spec.id.name}' {version} has no thread '{thread}'")
    if (name == old.entrypoint_thread_name) != (destination == new.entrypoint_thread_name):
        raise invalid_argument(f"'{name}' cannot become '{destination}': only one of them is the entrypoint")


def _check_nodes(old: ThreadSpec, new: ThreadSpec, nodes: Mapping[str, NodeMigrationPlan], thread: str) -> None:
    for name, destination in sorted(nodes.items()):
        for spec, node in ((old, name), (new, destination.new_node_name)):
            if node not in spec.nodes:
                raise invalid_argument(f"thread '{thread}': there is no node '{node}'")
            if spec.nodes[node].WhichOneof("node") in _UNMAPPED:
                raise invalid_argument(f"thread '{thread}': the node '{node}' is an ENTRYPOINT, EXIT or NOP node")


def _add_dependencies(old: WfSpec, new: WfSpec, name: str, moved: ThreadMigrationPlan, destinations: set[str]) -> None:
    """Note the threads whose variables the moved thread needs and could not see before; they have to move, too."""
    in_scope = _variables_of(old, _scope(old, name)) | _variables_of(new, {moved.new_thread_name})
    owners = {
        variable.var_def.name: thread
        for thread, spec in sorted(new.thread_specs.items())
        for variable in spec.variable_defs
    }
    for variable in sorted(_used_variables(new.thread_specs[moved.new_thread_name]) - in_scope):
        if variable not in owners:
            raise not_found(f"no thread owns the variable '{variable}', which '{moved.new_thread_name}' needs")
        owner = owners[variable]
        if owner not in destinations:
            text = (
                f"'{moved.new_thread_name}' needs the variable '{variable}' of '{owner}', which the plan does not move"
            )
            raise Rejection(Code.FAILED_PRECONDITION, text)
        if owner not in moved.thread_spec_dependencies:
            moved.thread_spec_dependencies.append(owner)


def _scope(spec: WfSpec, thread: str) -> set[str]:
    """A thread and those from which it descends, as far as the WfSpec tells."""
    scope, grown = {thread}, True
    while grown:
        starters = {name for name, other in spec.thread_specs.items() if _started_by(other) & scope}
        grown = not starters <= scope
        scope |= starters
    return scope


def _started_by(thread: ThreadSpec) -> set[str]:
    started = {interrupt.handler_spec_name for interrupt in thread.interrupt_defs}
    for node in thread.nodes.values():
        started |= {node.start_thread.thread_spec_name, node.start_multiple_threads.thread_spec_name}
        started |= {handler.handler_spec_name for handler in node.failure_handlers}
        started |= {handler.handler_spec_name for handler in node.wait_for_threads.per_thread_failure_handlers}
    return started - {""}


def _variables_of(spec: WfSpec, threads: Iterable[str]) -> set[str]:
    return {var.var_def.name for name in threads for var in spec.thread_specs[name].variable_defs}


def _used_variables(thread: ThreadSpec) -> set[str]:
    used = set()
    for message in walk(thread):
        if isinstance(message, VariableAssignment) and message.HasField("variable_name"):
            used.add(message.variable_name)
        elif isinstance(message, VariableMutation):
            used.add(message.lhs_name)
    return used


def delete_plan(tx: Transaction, tenant: str, request: DeleteWorkflowMigrationPlanRequest) -> Empty:
    """Delete a plan; what it has moved stays moved."""
    key = (tenant, request.id.name)
    if tx.get(kinds.MIGRATION_PLAN, key) is None:
        raise not_found(f"there is no migration plan '{request.id.name}'")
    tx.delete(kinds.MIGRATION_PLAN, key)
    return Empty()


def apply_plan(tx: Transaction, tenant: str, request: ApplyWorkflowMigrationPlanRequest) -> WfRun:
    """Let a WfRun move to the plan's version, thread by thread as they come to nodes that it maps."""
    wf_run = tx.get(kinds.WF_RUN, run_key(tenant, request.wfRun_id))
    if wf_run is None:
        raise not_found(f"there is no WfRun {printed(request.wfRun_id)}")
    if wf_run.status in TERMINAL:
        raise Rejection(Code.FAILED_PRECONDITION, f"WfRun {printed(request.wfRun_id)} has ended")
    plan = tx.get(kinds.MIGRATION_PLAN, (tenant, request.id.name))
    if plan is None:
        raise not_found(f"there is no migration plan '{request.id.name}'")
    if wf_run.HasField("workflow_migration_plan_id"):
        text = f"WfRun {printed(request.wfRun_id)} is being migrated already"
        raise Rejection(Code.FAILED_PRECONDITION, text)
    target = target_of(plan)
    new = tx.get(kinds.WF_SPEC, (tenant, target.name, target.major_version, target.revision))
    if new is None:
        text = f"the WfSpec '{target.name}' {target.major_version}.{target.revision} of the plan was deleted"
        raise Rejection(Code.FAILED_PRECONDITION, text)
    _check_values(tx, tenant, plan, new, request.migration_vars_by_thread)
    run = Run(tx, tenant, request.wfRun_id)
    run.wf_run.workflow_migration_plan_id.CopyFrom(request.id)
    for thread, values in request.migration_vars_by_thread.items():
        run.wf_run.migration_variables[thread].CopyFrom(values)
    advance(run)
    return run.wf_run


def _check_values(
    tx: Transaction,
    tenant: str,
    plan: WorkflowMigrationPlan,
    new: RegisteredSpec,
    given: Mapping[str, MigrationVars],
) -> None:
    destinations = {moved.new_thread_name for moved in plan.thread_migrations.values()}
    for thread, values in sorted(given.items()):
        if thread not in destinations:
            raise invalid_argument(f"the plan leads no thread to '{thread}', for which variables are given")
        declared = {name: var for part in _scope(new.message, thread) for name, var in new.variables(part).items()}
        for name, assignment in sorted(values.var_assignment_by_var_name.items()):
            if name not in declared:
                raise invalid_argument(f"the variable '{name}' is not in the scope of the thread '{thread}'")
            try:
                expected = declared[name].var_def.type_def
                if assignment.HasField("literal_value"):
                    accept(assignment.literal_value, expected, StoredStructDefs(tx, tenant))
            except EvaluationError as error:
                raise invalid_argument(f"the variable '{name}' of the thread '{thread}': {error}") from error
