"""USER_TASK nodes: give work to a person and take the result (execution.md 7.6)."""

from littlehorse.model import (
    Node,
    NodeRun,
    UserTaskDef,
    UserTaskDefId,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    UTActionTrigger,
    VariableType,
)

from lhd.core import kinds, user_tasks
from lhd.core.failure import NodeFailure
from lhd.core.ids import timestamp
from lhd.core.kinds import USER_TASK_ENDED
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.nodes.task import check_task
from lhd.core.records import Transaction
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.specs.types import Known
from lhd.core.values import EvaluationError


class UserTask(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """The UserTaskDef exists and its version is pinned; somebody is to do it; the actions make sense."""
        task = node.user_task
        version = task.user_task_def_version if task.HasField("user_task_def_version") else None
        definition = find_user_task_def(context.tx, context.tenant, task.user_task_def_name, version)
        if definition is None:
            raise context.refuse(f"there is no UserTaskDef '{task.user_task_def_name}'")
        task.user_task_def_version = definition.version
        self._check_owner(node, context)
        for action in task.actions:
            self._check_action(action, context)

    def _check_owner(self, node: Node, context: TypeContext) -> None:
        task = node.user_task
        if not task.HasField("user_id") and not task.HasField("user_group"):
            raise context.refuse("a USER_TASK node needs a user_id or a user_group")
        for field, called in (("user_id", "UserId"), ("user_group", "UserGroup")):
            assignment = getattr(task, field)
            literal = assignment.literal_value
            if assignment.HasField("literal_value") and literal.HasField("str") and not literal.str.strip():
                raise context.refuse(f"{called} can't be empty")
        for field in ("user_id", "user_group", "notes", "on_cancellation_exception_name"):
            if task.HasField(field):
                context.known(getattr(task, field))

    def _check_action(self, action: UTActionTrigger, context: TypeContext) -> None:
        context.require(action.delay_seconds, VariableType.INT)
        match action.WhichOneof("action"):
            case "task":
                check_task(action.task.task, context)
            case "reassign":
                for field in ("user_id", "user_group"):
                    if action.reassign.HasField(field):
                        context.known(getattr(action.reassign, field))
            case None:
                raise context.refuse("an action of a USER_TASK node is task, reassign or cancel")

    def output_type(self, node: Node, context: TypeContext) -> Known:  # noqa: ARG002
        """The results."""
        return VariableType.JSON_OBJ

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """Create the UserTaskRun, assign it and set off its actions."""
        node = step.node.user_task
        definition = find_user_task_def(step.tx, step.run.tenant, node.user_task_def_name, node.user_task_def_version)
        if definition is None:
            raise NodeFailure("TASK_ERROR", f"the UserTaskDef '{node.user_task_def_name}' was deleted")
        try:
            notes = user_tasks.text(step, node, "notes")
            user_id = user_tasks.text(step, node, "user_id")
            user_group = user_tasks.text(step, node, "user_group")
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the user task: {error}") from error
        if user_id is None and user_group is None:
            raise NodeFailure("VAR_ERROR", "Invalid user task assignment: user_id and user_group are both NULL")
        if any(owner is not None and not owner.strip() for owner in (user_id, user_group)):
            raise NodeFailure("VAR_ERROR", "Invalid user task assignment: user_id or user_group is blank")
        user_task_run = UserTaskRun(
            id=UserTaskRunId(wf_run_id=step.run.id, user_task_guid=user_tasks.guid_of(step)),
            user_task_def_id=UserTaskDefId(name=definition.name, version=definition.version),
            notes=notes,
            scheduled_time=timestamp(step.tx.now_ms),
            node_run_id=step.node_run_id,
        )
        is_new_user = user_tasks.assign(step.tx, user_task_run, user_id, user_group)
        step.tx.put(kinds.USER_TASK_RUN, (*step.run.key, user_task_run.id.user_task_guid), user_task_run)
        node_run.user_task.user_task_run_id.CopyFrom(user_task_run.id)
        user_tasks.schedule_actions(step, user_task_run, UTActionTrigger.ON_ARRIVAL)
        if is_new_user:
            user_tasks.schedule_actions(step, user_task_run, UTActionTrigger.ON_TASK_ASSIGNED)

    def progress(self, step: Step) -> Done | None:
        """Done with the results, or failed as the cancellation says."""
        user_task_run = step.tx.get(kinds.USER_TASK_RUN, (*step.run.key, user_tasks.guid_of(step)))
        assert user_task_run is not None
        match user_task_run.status:
            case UserTaskRunStatus.DONE:
                return Done(user_tasks.output_of(user_task_run))
            case UserTaskRunStatus.CANCELLED:
                raise user_tasks.cancellation(step, step.node)
        return None

    def halted(self, step: Step) -> None:
        """Nobody is to do what its ThreadRun does not wait for: the UserTaskRun is cancelled."""
        self._cancel(step, "the thread was halted")

    def leave(self, step: Step) -> None:
        """See NodeKind."""
        user_tasks.call_off_actions(step)
        self._cancel(step, "the node has failed")

    def _cancel(self, step: Step, why: str) -> None:
        key = (*step.run.key, user_tasks.guid_of(step))
        found = step.tx.get(kinds.USER_TASK_RUN, key)
        if found is not None and found.status not in USER_TASK_ENDED:
            user_tasks.cancel(step.tx, step.tx.edit(kinds.USER_TASK_RUN, key), why)


def find_user_task_def(tx: Transaction, tenant: str, name: str, version: int | None) -> UserTaskDef | None:
    """A version of a UserTaskDef, the newest for None; None where there is none."""
    if version is not None:
        return tx.get(kinds.USER_TASK_DEF, (tenant, name, version))
    return max(tx.all(kinds.USER_TASK_DEF, tenant, name), key=lambda found: found.version, default=None)
