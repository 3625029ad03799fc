"""What people do to UserTaskRuns, and the actions that their nodes schedule (execution.md 7.6, api.md 10)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    AssignUserTaskRunRequest,
    CancelUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    DeleteUserTaskRunCommentRequest,
    EditUserTaskRunCommentRequest,
    Failure,
    LHStatus,
    PutUserTaskRunCommentRequest,
    SaveUserTaskRunProgressRequest,
    TaskRunSource,
    UserTaskEvent,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    UserTaskTriggerReference,
    UTActionTrigger,
)

from lhd.core import failures, kinds, task_runs, user_tasks
from lhd.core.advance import advance
from lhd.core.commands.events import advance_run
from lhd.core.failure import NodeFailure
from lhd.core.ids import parse_wf_run_id
from lhd.core.kinds import TERMINAL, USER_TASK_ENDED, Timer
from lhd.core.nodes.task import task_def_of, task_inputs
from lhd.core.nodes.user_task import find_user_task_def
from lhd.core.records import Transaction
from lhd.core.run import Run, Step
from lhd.core.values import FIELD_OF_TYPE, EvaluationError, is_null, kind_name, require_sound
from lhd.errors import Code, Rejection, invalid_argument, not_found


def assign_user_task_run(tx: Transaction, tenant: str, request: AssignUserTaskRunRequest) -> Empty:
    """Give a UserTaskRun to somebody else."""
    owners = {field: getattr(request, field) for field in ("user_id", "user_group") if request.HasField(field)}
    if not owners:
        raise invalid_argument("AssignUserTaskRun needs a user_id or a user_group")
    for field, owner in owners.items():
        if not owner.strip():
            raise invalid_argument(f"the {field} of AssignUserTaskRun cannot be blank")
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    if user_task_run.HasField("user_id") and not request.override_claim:
        raise _refused(user_task_run, "is assigned to a user already; set override_claim to take it over")
    if user_task_run.status in USER_TASK_ENDED:
        raise _refused(user_task_run, "has ended")
    _assign(tx, tenant, user_task_run, owners.get("user_id"), owners.get("user_group"))
    return Empty()


def _assign(
    tx: Transaction, tenant: str, user_task_run: UserTaskRun, user_id: str | None, user_group: str | None
) -> None:
    is_new_user = user_tasks.assign(tx, user_task_run, user_id, user_group)
    step = user_tasks.step_of(tx, tenant, user_task_run)
    if step is None or not is_new_user:
        return
    try:
        user_tasks.schedule_actions(step, user_task_run, UTActionTrigger.ON_TASK_ASSIGNED)
    except NodeFailure as failed:
        _fail(step, failed.failure)


def complete_user_task_run(tx: Transaction, tenant: str, request: CompleteUserTaskRunRequest) -> Empty:
    """Take the results of a UserTaskRun and let its WfRun go on; one that has ended stays as it is."""
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    if user_task_run.status in USER_TASK_ENDED:
        return Empty()
    _check_results(tx, tenant, user_task_run, request)
    if request.user_id and request.user_id != user_task_run.user_id:
        group = user_task_run.user_group if user_task_run.HasField("user_group") else None
        user_tasks.assign(tx, user_task_run, request.user_id, group)
    for name, value in request.results.items():
        user_task_run.results[name].CopyFrom(value)
    try:
        user_tasks.output_of(user_task_run)
    except EvaluationError as error:
        raise invalid_argument(f"the results, with those that were saved before: {error}") from error
    user_task_run.status = UserTaskRunStatus.DONE
    user_tasks.log(tx, user_task_run).completed.SetInParent()
    advance_run(tx, tenant, user_task_run.id.wf_run_id)
    return Empty()


def _check_results(
    tx: Transaction, tenant: str, user_task_run: UserTaskRun, request: CompleteUserTaskRunRequest
) -> None:
    def_id = user_task_run.user_task_def_id
    definition = find_user_task_def(tx, tenant, def_id.name, def_id.version)
    if definition is None:
        raise invalid_argument(f"the UserTaskDef '{def_id.name}' was deleted, so no result can be checked")
    fields = {field.name: field for field in definition.fields}
    for name, value in sorted(request.results.items()):
        if name not in fields:
            raise invalid_argument(f"the UserTaskDef '{def_id.name}' has no field '{name}'")
        if not is_null(value) and value.WhichOneof("value") != FIELD_OF_TYPE.get(fields[name].type):
            raise invalid_argument(f"the field '{name}' of '{def_id.name}' cannot be {kind_name(value)}")
        try:
            require_sound(value)
        except EvaluationError as error:
            raise invalid_argument(f"the field '{name}' of '{def_id.name}': {error}") from error
    for field in definition.fields:
        if field.required and (field.name not in request.results or is_null(request.results[field.name])):
            raise invalid_argument(f"the field '{field.name}' of '{def_id.name}' is required")


def cancel_user_task_run(tx: Transaction, tenant: str, request: CancelUserTaskRunRequest) -> Empty:
    """Cancel a UserTaskRun, which fails its NodeRun; one that has ended stays as it is."""
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    if user_task_run.status not in USER_TASK_ENDED:
        user_tasks.cancel(tx, user_task_run, "cancelled by CancelUserTaskRun")
        advance_run(tx, tenant, user_task_run.id.wf_run_id)
    return Empty()


def save_user_task_run_progress(tx: Transaction, tenant: str, request: SaveUserTaskRunProgressRequest) -> UserTaskRun:
    """Keep results that are not final."""
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    claimed_by_other = user_task_run.HasField("user_id") and user_task_run.user_id != request.user_id
    if claimed_by_other and request.policy == SaveUserTaskRunProgressRequest.FAIL_IF_CLAIMED_BY_OTHER:
        raise _refused(user_task_run, "is assigned to another user")
    if user_task_run.status in USER_TASK_ENDED:
        raise _refused(user_task_run, "has ended")
    for name, value in request.results.items():
        try:
            require_sound(value)
        except EvaluationError as error:
            raise invalid_argument(f"the result '{name}': {error}") from error
    saved = user_tasks.log(tx, user_task_run).saved
    saved.user_id = request.user_id
    user_task_run.results.clear()
    for results in (saved.results, user_task_run.results):
        for name, value in request.results.items():
            results[name].CopyFrom(value)
    return user_task_run


def put_comment(tx: Transaction, tenant: str, request: PutUserTaskRunCommentRequest) -> UserTaskRun:
    """Add a comment, in any state of the UserTaskRun."""
    _require_comment(request.user_id, request.comment)
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    added = [event for event in user_task_run.events if event.HasField("comment_added")]
    comment = UserTaskEvent.UTECommented(
        user_comment_id=len(added) + 1, user_id=request.user_id, comment=request.comment
    )
    user_tasks.log(tx, user_task_run).comment_added.CopyFrom(comment)
    return user_task_run


def edit_comment(tx: Transaction, tenant: str, request: EditUserTaskRunCommentRequest) -> UserTaskRun:
    """Change the text of a comment; what it was stays in the log."""
    _require_comment_id(request.user_comment_id)
    _require_comment(request.user_id, request.comment)
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    _require_live_comment(user_task_run, request.user_comment_id)
    comment = UserTaskEvent.UTECommented(
        user_comment_id=request.user_comment_id, user_id=request.user_id, comment=request.comment
    )
    user_tasks.log(tx, user_task_run).comment_edited.CopyFrom(comment)
    return user_task_run


def delete_comment(tx: Transaction, tenant: str, request: DeleteUserTaskRunCommentRequest) -> UserTaskRun:
    """Delete a comment; what it was stays in the log."""
    _require_comment_id(request.user_comment_id)
    if not request.user_id.strip():
        raise Rejection(Code.FAILED_PRECONDITION, "a comment is deleted by a user; the user_id is blank")
    user_task_run = _edit(tx, tenant, request.user_task_run_id)
    _require_live_comment(user_task_run, request.user_comment_id)
    deleted = UserTaskEvent.UTECommentDeleted(user_comment_id=request.user_comment_id, user_id=request.user_id)
    user_tasks.log(tx, user_task_run).comment_deleted.CopyFrom(deleted)
    return user_task_run


def _require_comment(user_id: str, comment: str) -> None:
    if not user_id.strip() or not comment.strip():
        raise invalid_argument("a comment needs a user_id and a text; neither can be blank")


def _require_comment_id(number: int) -> None:
    if number == 0:
        raise Rejection(Code.FAILED_PRECONDITION, "user_comment_id is missing; comments count from 1")


def _require_live_comment(user_task_run: UserTaskRun, number: int) -> None:
    if not any(event.comment_added.user_comment_id == number for event in user_task_run.events):
        raise not_found(f"UserTaskRun {user_task_run.id.user_task_guid} has no comment {number}")
    if any(event.comment_deleted.user_comment_id == number for event in user_task_run.events):
        raise _refused(user_task_run, f"has the comment {number} no more; it was deleted")


def _edit(tx: Transaction, tenant: str, user_task_run_id: UserTaskRunId) -> UserTaskRun:
    key = user_tasks.user_task_run_key(tenant, user_task_run_id)
    if tx.get(kinds.USER_TASK_RUN, key) is None:
        raise not_found(f"there is no UserTaskRun {key[2]} of WfRun {key[1]}")
    return tx.edit(kinds.USER_TASK_RUN, key)


def _refused(user_task_run: UserTaskRun, why: str) -> Rejection:
    return Rejection(Code.FAILED_PRECONDITION, f"UserTaskRun {user_task_run.id.user_task_guid} {why}")


def action_due(tx: Transaction, tenant: str, timer: Timer) -> None:
    """The time of an action has come: it is done if the UserTaskRun still stands as it needs it to."""
    thread, position, index, epoch = (int(part) for part in timer.target)
    if tx.get(kinds.WF_RUN, (tenant, timer.run)) is None:
        return
    run = Run(tx, tenant, parse_wf_run_id(timer.run))
    if run.is_lost:
        advance(run)
        return
    thread_run = run.find_thread(thread)
    if thread_run is None or thread_run.current_node_position != position or thread_run.status in TERMINAL:
        return
    step = run.step(thread_run)
    key = (*run.key, user_tasks.guid_of(step))
    if tx.get(kinds.USER_TASK_RUN, key) is None or step.node_run.status != LHStatus.RUNNING:
        return
    user_task_run = tx.edit(kinds.USER_TASK_RUN, key)
    action = step.node.user_task.actions[index]
    match action.WhichOneof("action"):
        case "task":
            _remind(step, action, user_task_run)
        case "cancel" if user_task_run.status not in USER_TASK_ENDED:
            user_tasks.cancel(tx, user_task_run, "cancelled by an action of its node")
            advance(run)
        case "reassign" if user_task_run.status == UserTaskRunStatus.ASSIGNED and user_task_run.epoch == epoch:
            _reassign(step, action, user_task_run)


def _remind(step: Step, action: UTActionTrigger, user_task_run: UserTaskRun) -> None:
    """Create the TaskRun of a reminder; where its inputs cannot be computed there is none."""
    task = action.task.task
    try:
        definition = task_def_of(step, task)
        inputs = task_inputs(step, task, definition)
    except (NodeFailure, EvaluationError):
        return
    number = len(user_task_run.events)
    trigger = UserTaskTriggerReference(node_run_id=step.node_run_id, user_task_event_number=number)
    if user_task_run.HasField("user_id"):
        trigger.user_id = user_task_run.user_id
    if user_task_run.HasField("user_group"):
        trigger.user_group = user_task_run.user_group
    source = TaskRunSource(user_task_trigger=trigger, wf_spec_id=step.run.wf_run.wf_spec_id)
    guid = f"ut-{user_task_run.id.user_task_guid}-{number}"
    task_run = task_runs.schedule(step, task, definition, inputs, guid, source)
    user_tasks.log(step.tx, user_task_run).task_executed.task_run.CopyFrom(task_run.id)


def _reassign(step: Step, action: UTActionTrigger, user_task_run: UserTaskRun) -> None:
    try:
        user_id = user_tasks.text(step, action.reassign, "user_id")
        user_group = user_tasks.text(step, action.reassign, "user_group")
    except EvaluationError as error:
        _fail(step, Failure(failure_name="VAR_SUB_ERROR", message=f"the new owner of the user task: {error}"))
        return
    _assign(step.tx, step.run.tenant, user_task_run, user_id, user_group)


def _fail(step: Step, failure: Failure) -> None:
    failures.fail(step, failure, while_processing=True)
    advance(step.run)
