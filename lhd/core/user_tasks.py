"""UserTaskRuns: assigning one to a person or a group, its log of events, its end (execution.md 7.6, api.md 10)."""

from littlehorse.model import (
    LHStatus,
    Node,
    UserTaskEvent,
    UserTaskNode,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    UTActionTrigger,
    VariableType,
    VariableValue,
)

from lhd.core import kinds
from lhd.core.casting import cast
from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure
from lhd.core.ids import run_key, timestamp
from lhd.core.kinds import TimerAction
from lhd.core.records import Key, Transaction
from lhd.core.run import Run, Step
from lhd.core.values import EvaluationError, from_python, is_null, kind_name, to_json, type_of


def user_task_run_key(tenant: str, user_task_run_id: UserTaskRunId) -> Key:
    """The key of a UserTaskRun."""
    return (*run_key(tenant, user_task_run_id.wf_run_id), user_task_run_id.user_task_guid)


def guid_of(step: Step) -> str:
    """The guid of the UserTaskRun of a USER_TASK NodeRun."""
    return f"{step.thread.number}-{step.position}"


def step_of(tx: Transaction, tenant: str, user_task_run: UserTaskRun) -> Step | None:
    """The NodeRun that waits for the UserTaskRun; None where it does no more."""
    node_run_id = user_task_run.node_run_id
    run = Run(tx, tenant, node_run_id.wf_run_id)
    thread = run.find_thread(node_run_id.thread_run_number)
    if thread is None or thread.current_node_position != node_run_id.position:
        return None
    step = run.step(thread)
    return step if step.node_run.status == LHStatus.RUNNING else None


def log(tx: Transaction, user_task_run: UserTaskRun) -> UserTaskEvent:
    """A new entry of the UserTaskRun's log, to be filled."""
    return user_task_run.events.add(time=timestamp(tx.now_ms))


def assign(tx: Transaction, user_task_run: UserTaskRun, user_id: str | None, user_group: str | None) -> bool:
    """Give the UserTaskRun to a user, a group or both; one that is None is cleared. Returns whether the user is new."""
    event = log(tx, user_task_run).assigned
    old_user = user_task_run.user_id if user_task_run.HasField("user_id") else None
    for field, new in (("user_id", user_id), ("user_group", user_group)):
        if user_task_run.HasField(field):
            setattr(event, f"old_{field}", getattr(user_task_run, field))
        user_task_run.ClearField(field)
        if new is not None:
            setattr(event, f"new_{field}", new)
            setattr(user_task_run, field, new)
    event.SetInParent()
    user_task_run.epoch += 1
    user_task_run.status = UserTaskRunStatus.UNASSIGNED if user_id is None else UserTaskRunStatus.ASSIGNED
    return user_id is not None and user_id != old_user


def cancel(tx: Transaction, user_task_run: UserTaskRun, message: str) -> None:
    """End a UserTaskRun that has not ended."""
    user_task_run.status = UserTaskRunStatus.CANCELLED
    log(tx, user_task_run).cancelled.message = message


def text(step: Step, node: UserTaskNode | UTActionTrigger.UTAReassign, field: str) -> str | None:
    """A text that the node computes; None where it is not given or NULL. Raises EvaluationError."""
    if not node.HasField(field):
        return None
    value = cast(evaluate(getattr(node, field), step), VariableType.STR)
    if is_null(value):
        return None
    if type_of(value) != VariableType.STR:
        raise EvaluationError(f"{field} is STR, not {kind_name(value)}")
    return value.str


def schedule_actions(step: Step, user_task_run: UserTaskRun, hook: UTActionTrigger.UTHook) -> None:
    """Arm a timer for each action of the node that this hook sets off. Raises NodeFailure."""
    for index, action in enumerate(step.node.user_task.actions):
        if action.hook == hook:
            due_ms = step.tx.time.wall_ms + _delay_s(step, action) * 1000
            step.run.arm(TimerAction.USER_TASK_ACTION, due_ms, *_target(step, index, user_task_run.epoch))


def _delay_s(step: Step, action: UTActionTrigger) -> int:
    try:
        delay = evaluate(action.delay_seconds, step)
    except EvaluationError as error:
        raise NodeFailure("VAR_SUB_ERROR", f"the delay of an action: {error}") from error
    if type_of(delay) != VariableType.INT:
        raise NodeFailure("VAR_SUB_ERROR", f"the delay of an action is INT, not {kind_name(delay)}")
    return delay.int


def call_off_actions(step: Step) -> None:
    """The NodeRun is over: no action is due any more."""
    user_task_run = step.tx.get(kinds.USER_TASK_RUN, (*step.run.key, guid_of(step)))
    if user_task_run is None:
        return
    for index, action in enumerate(step.node.user_task.actions):
        epochs = 1 if action.hook == UTActionTrigger.ON_ARRIVAL else user_task_run.epoch
        for epoch in range(1, epochs + 1):
            step.run.disarm(TimerAction.USER_TASK_ACTION, *_target(step, index, epoch))


def _target(step: Step, action: int, epoch: int) -> tuple[int, int, int, int]:
    return step.thread.number, step.position, action, epoch


def output_of(user_task_run: UserTaskRun) -> VariableValue:
    """The output of the node: its results by name. Raises EvaluationError."""
    return from_python({name: to_json(value) for name, value in sorted(user_task_run.results.items())})


def cancellation(step: Step, node: Node) -> NodeFailure:
    """The failure of a NodeRun whose UserTaskRun was cancelled."""
    try:
        name = text(step, node.user_task, "on_cancellation_exception_name")
    except EvaluationError:
        name = None
    if name is None or not name.strip():
        name = "USER_TASK_CANCELLED"
    return NodeFailure(name, "the user task was cancelled")
