"""Triggers of USER_TASK nodes (``UTActionTrigger``): execution.md 7.6, api.md section 10.

Not tested: that a completion by another user schedules no trigger (the node is over by then, so nobody can see it), a
reassignment without any owner, the time at which a delay is evaluated, and the ``mutations`` of a reminder (the spec
is silent).
"""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    DeleteWfRunRequest,
    LHTaskException,
    TaskDefId,
    TaskNode,
    TaskRun,
    TaskStatus,
    UserTaskEvent,
    UserTaskRunStatus,
    UTActionTrigger,
    VariableAssignment,
    VariableType,
    WfRunId,
)
from littlehorse.utils import extract_value
from littlehorse.workflow import WorkflowThread

from lhd.core import kinds
from lhd.core.commands.timers import TimerDue
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    claim,
    failure,
    literal,
    node,
    put,
    put_event_def,
    refused,
    stop,
    variable,
    wf_run,
)
from tests.core.test_07_user_tasks import (
    ASSIGNED,
    CANCELLED,
    DONE,
    HALTED,
    UNASSIGNED,
    approval,
    assign,
    broken,
    cancel,
    complete,
    finish,
    history,
    owner,
    put_approval,
    put_user_task_def,
    resume,
    save,
    state,
    terminal,
    the,
)
from tests.core.world import World

ON_ARRIVAL, ON_TASK_ASSIGNED = UTActionTrigger.ON_ARRIVAL, UTActionTrigger.ON_TASK_ASSIGNED
HOOKS = pytest.mark.parametrize("hook", [ON_ARRIVAL, ON_TASK_ASSIGNED], ids=["arrival", "assigned"])
ANNA: dict[str, Any] = {"user_id": literal("anna")}
FINANCE: dict[str, Any] = {"user_group": literal("finance")}


def delayed(delay: Any, hook: UTActionTrigger.UTHook) -> dict[str, Any]:
    assignment = delay if isinstance(delay, VariableAssignment) else literal(delay)
    return {"delay_seconds": assignment, "hook": hook}


def reminder(
    *inputs: VariableAssignment,
    delay: Any = 10,
    hook: UTActionTrigger.UTHook = ON_ARRIVAL,
    task_def: str = "remind",
) -> UTActionTrigger:
    task = TaskNode(task_def_id=TaskDefId(name=task_def), variables=inputs)
    return UTActionTrigger(task=UTActionTrigger.UTATask(task=task), **delayed(delay, hook))


def reassignment(
    user: VariableAssignment | None = None,
    group: VariableAssignment | None = None,
    *,
    delay: Any = 10,
    hook: UTActionTrigger.UTHook = ON_ARRIVAL,
) -> UTActionTrigger:
    reassign = UTActionTrigger.UTAReassign(user_id=user, user_group=group)
    return UTActionTrigger(reassign=reassign, **delayed(delay, hook))


def cancellation(*, delay: Any = 10, hook: UTActionTrigger.UTHook = ON_ARRIVAL) -> UTActionTrigger:
    return UTActionTrigger(cancel=UTActionTrigger.UTACancel(), **delayed(delay, hook))


def then_waits(wf: WorkflowThread) -> None:
    """A user task at position 1, and a run that does not end with it."""
    approval(wf)
    wf.wait_for_event("paid")


def reminders(world: World) -> list[TaskRun]:
    return world.of_run(kinds.TASK_RUN)


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    put_user_task_def(world)
    world.put_task_def("remind")
    world.put_task_def("remind-with", VariableType.STR, VariableType.INT)
    return world


class TestDelay:
    """When a trigger fires."""

    @HOOKS
    def test_trigger_is_never_early(self, world: World, hook: UTActionTrigger.UTHook) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=hook)])
        world.run("wf")
        world.wait(9.999)
        assert reminders(world) == []
        world.wait(1)
        assert len(reminders(world)) == 1

    def test_delay_of_a_variable(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(delay=variable("number"))])
        world.run("wf", number=5)
        world.wait(4.999)
        assert reminders(world) == []
        world.wait(1)
        assert len(reminders(world)) == 1

    @HOOKS
    @pytest.mark.parametrize("delay", ["soon", 1.5, True])
    def test_delay_that_is_no_int_fails_the_node(self, world: World, hook: UTActionTrigger.UTHook, delay: Any) -> None:
        untyped = VariableAssignment(variable_name="doc", json_path="$.delay")
        put_approval(world, **ANNA, actions=[cancellation(delay=untyped, hook=hook)])
        assert world.run("wf", doc={"delay": delay}).status == ERROR
        assert node(world, 1).status == ERROR

    @HOOKS
    def test_delay_that_does_not_evaluate_fails_the_node(self, world: World, hook: UTActionTrigger.UTHook) -> None:
        put_approval(world, **ANNA, actions=[cancellation(delay=broken(), hook=hook)])
        assert world.run("wf").status == ERROR
        assert node(world, 1).status == ERROR

    def test_triggers_fire_each_at_its_own_time(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(delay=20), reminder(delay=10), cancellation(delay=30)])
        world.run("wf")
        world.wait(10)
        assert history(world) == ["assigned", "task_executed"]
        world.wait(10)
        assert history(world) == ["assigned", "task_executed", "task_executed"]
        world.wait(10)
        assert history(world) == ["assigned", "task_executed", "task_executed", "cancelled"]

    def test_trigger_of_an_earlier_loop_round_cannot_hit_a_later_one(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.cancel_user_task_run_after(wf.assign_user_task("approve", user_id="anna"), 10)
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(2), round_)

        put(world, body)
        world.run("wf")
        world.wait(6)
        (first,) = world.of_run(kinds.USER_TASK_RUN)
        complete(world, guid=first.id.user_task_guid, approved=True)
        world.wait(6)
        assert wf_run(world).status == RUNNING
        world.wait(4)
        assert wf_run(world).status == ERROR

    def test_triggers_of_the_sdk(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            task = wf.assign_user_task("approve", user_id="anna", user_group="finance")
            wf.schedule_reminder_task(task, 10, "remind-with", "hurry", 5)
            wf.release_to_group_on_deadline(task, 20)
            wf.reassign_user_task_on_deadline(task, 15, user_id="boss")
            wf.cancel_user_task_run_after(task, 30)

        put(world, body)
        world.run("wf")
        world.wait(10)
        assert [extract_value(one.value) for one in claim(world).variables] == ["hurry", 5]
        world.wait(5)
        assert owner(world) == ("boss", None)
        world.wait(15)
        assert state(world).status == CANCELLED
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"


class TestHooks:
    """Which events schedule a trigger."""

    def test_arrival_hook_fires_once(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=ON_ARRIVAL)])
        world.run("wf")
        assign(world, "ben", override=True)
        world.wait(100)
        assert len(reminders(world)) == 1

    def test_arrival_hook_fires_for_an_unassigned_task(self, world: World) -> None:
        put_approval(world, **FINANCE, actions=[reminder(hook=ON_ARRIVAL)])
        world.run("wf")
        world.wait(10)
        assert len(reminders(world)) == 1

    def test_assignment_hook_does_not_fire_for_an_unassigned_task(self, world: World) -> None:
        put_approval(world, **FINANCE, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        world.wait(100)
        assert reminders(world) == []

    def test_assignment_hook_fires_for_a_claim_and_counts_from_it(self, world: World) -> None:
        put_approval(world, **FINANCE, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        world.wait(7)
        assign(world, "ben")
        world.wait(9.999)
        assert reminders(world) == []
        world.wait(1)
        assert len(reminders(world)) == 1

    def test_assignment_hook_fires_again_for_another_user(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        world.wait(5)
        assign(world, "ben", override=True)
        world.wait(5)
        assert len(reminders(world)) == 1
        world.wait(5)
        assert len(reminders(world)) == 2

    @pytest.mark.parametrize(("user", "group"), [("anna", None), ("anna", "sales"), (None, "sales")])
    def test_assignment_hook_does_not_fire_without_a_new_user(
        self, world: World, user: str | None, group: str | None
    ) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        world.wait(5)
        assign(world, user, group, override=True)
        world.wait(100)
        assert len(reminders(world)) == 1

    def test_refused_assignment_does_not_fire(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        with refused(Code.FAILED_PRECONDITION):
            assign(world, "ben")
        world.wait(100)
        assert len(reminders(world)) == 1


class TestReminder:
    """The action ``task``."""

    def test_task_run_is_created_and_queued(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        world.wait(10)
        (run,) = reminders(world)
        assert run.task_def_id.name == "remind"
        assert run.status == TaskStatus.TASK_SCHEDULED
        assert run.source.user_task_trigger.node_run_id == node(world, 1).id
        assert run.source.wf_spec_id == wf_run(world).wf_spec_id
        assert claim(world).task_run_id == run.id

    @pytest.mark.parametrize(
        ("user", "group"), [("anna", None), (None, "finance"), ("anna", "finance")], ids=["user", "group", "both"]
    )
    def test_worker_is_told_the_owner(self, world: World, user: str | None, group: str | None) -> None:
        put_approval(world, user_id=user and literal(user), user_group=group and literal(group), actions=[reminder()])
        world.run("wf")
        world.wait(10)
        trigger = claim(world).source.user_task_trigger
        assert trigger.node_run_id == node(world, 1).id
        assert (trigger.HasField("user_id"), trigger.user_id) == (user is not None, user or "")
        assert (trigger.HasField("user_group"), trigger.user_group) == (group is not None, group or "")

    def test_inputs_are_evaluated(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(literal("hurry"), variable("number"), task_def="remind-with")])
        world.run("wf", number=5)
        world.wait(10)
        assert [extract_value(one.value) for one in claim(world).variables] == ["hurry", 5]

    def test_reminder_is_logged_at_its_time(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        due_ms = world.now_ms + 10_000
        world.wait(60)
        assert history(world) == ["assigned", "task_executed"]
        event = state(world).events[1]
        assert event.task_executed == UserTaskEvent.UTETaskExecuted(task_run=reminders(world)[0].id)
        assert event.time.ToMilliseconds() == due_ms

    def test_guid_ends_with_the_number_of_events_before_it(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(delay=10), reminder(delay=20), reminder(delay=30)])
        world.run("wf")
        world.wait(20)
        save(world, "anna", note="draft")
        world.wait(10)
        assert [run.id.task_guid for run in reminders(world)] == ["ut-0-1-1", "ut-0-1-2", "ut-0-1-4"]
        assert world.task_run("ut-0-1-1") is not None

    @pytest.mark.parametrize(
        ("status", "fields"),
        [
            (TaskStatus.TASK_SUCCESS, {}),
            (TaskStatus.TASK_FAILED, {}),
            (TaskStatus.TASK_EXCEPTION, {"exception": LHTaskException(name="no-mail", message="m")}),
        ],
        ids=["success", "failed", "exception"],
    )
    def test_outcome_does_not_affect_the_run(self, world: World, status: TaskStatus, fields: dict[str, Any]) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        world.wait(10)
        world.report(claim(world), status, **fields)
        assert reminders(world)[0].status == status
        assert node(world, 1).status == RUNNING
        assert not node(world, 1).failures
        assert state(world).status == ASSIGNED
        complete(world, "anna", approved=True)
        assert wf_run(world).status == COMPLETED

    def test_timeout_does_not_affect_the_run(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        world.wait(10)
        claim(world)
        world.wait(100)
        assert reminders(world)[0].status == TaskStatus.TASK_TIMEOUT
        assert node(world, 1).status == RUNNING
        assert wf_run(world).status == RUNNING

    def test_completion_does_not_wait_for_a_reminder(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        world.wait(10)
        task = claim(world)
        complete(world, "anna", approved=True)
        assert wf_run(world).status == COMPLETED
        world.report(task, TaskStatus.TASK_FAILED)
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("inputs", [(broken(), literal(5)), (literal("hurry"), broken())], ids=["first", "second"])
    def test_variable_errors_are_ignored(self, world: World, inputs: tuple[VariableAssignment, ...]) -> None:
        put_approval(world, **ANNA, actions=[reminder(*inputs, task_def="remind-with")])
        world.run("wf")
        world.wait(10)
        assert wf_run(world).status == RUNNING
        assert node(world, 1).status == RUNNING
        assert not node(world, 1).failures
        complete(world, "anna", approved=True)
        assert wf_run(world).status == COMPLETED

    def test_reassigned_task_is_still_reminded_of(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(hook=ON_TASK_ASSIGNED)])
        world.run("wf")
        assign(world, group="sales", override=True)
        world.wait(10)
        assert len(reminders(world)) == 1

    @terminal()
    def test_no_reminder_after_the_end_of_the_task(self, world: World, status: UserTaskRunStatus) -> None:
        put_approval(world, then_waits, **ANNA, actions=[reminder()])
        world.run("wf")
        finish(world, status)
        world.wait(100)
        assert reminders(world) == []
        assert "task_executed" not in history(world)

    def test_no_reminder_while_the_thread_is_halted(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder()])
        world.run("wf")
        stop(world)
        world.wait(100)
        assert reminders(world) == []

    def test_reminders_go_with_their_run(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reminder(delay=10), reminder(delay=20)])
        world.run("wf")
        world.wait(10)
        assert len(reminders(world)) == 1
        world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        world.wait(100)
        assert reminders(world) == []
        assert world.claim() is None


class TestReassign:
    """The action ``reassign``."""

    @pytest.mark.parametrize(
        ("user", "group", "status"),
        [("boss", None, ASSIGNED), (None, "sales", UNASSIGNED), ("boss", "sales", ASSIGNED)],
        ids=["user", "group", "both"],
    )
    def test_both_owner_fields_are_replaced(
        self, world: World, user: str | None, group: str | None, status: UserTaskRunStatus
    ) -> None:
        action = reassignment(literal(user) if user else None, literal(group) if group else None)
        put_approval(world, **ANNA, **FINANCE, actions=[action])
        world.run("wf")
        world.wait(9.999)
        assert owner(world) == ("anna", "finance")
        world.wait(1)
        assert owner(world) == (user, group)
        assert state(world).status == status
        assert node(world, 1).status == RUNNING

    def test_reassignment_is_logged_and_raises_the_epoch(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reassignment(literal("boss"))])
        world.run("wf")
        due_ms = world.now_ms + 10_000
        world.wait(60)
        assert history(world) == ["assigned", "assigned"]
        event = state(world).events[1]
        assert event.assigned == UserTaskEvent.UTEAssigned(old_user_id="anna", new_user_id="boss")
        assert event.time.ToMilliseconds() == due_ms
        assert state(world).epoch == 2

    def test_new_owner_can_complete_the_task(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reassignment(literal("boss"))])
        world.run("wf")
        world.wait(10)
        complete(world, "boss", approved=True)
        assert history(world) == ["assigned", "assigned", "completed"]
        assert wf_run(world).status == COMPLETED

    @pytest.mark.parametrize("user", ["ben", "anna"])
    def test_assignment_meanwhile_makes_an_arrival_deadline_void(self, world: World, user: str) -> None:
        put_approval(world, **ANNA, actions=[reassignment(literal("boss"), delay=10)])
        world.run("wf")
        world.wait(5)
        assign(world, user, override=True)
        world.wait(100)
        assert owner(world) == (user, None)
        assert state(world).epoch == 2

    def test_assignment_meanwhile_starts_an_assignment_deadline_anew(self, world: World) -> None:
        action = reassignment(None, literal("sales"), hook=ON_TASK_ASSIGNED)
        put_approval(world, **ANNA, actions=[action])
        world.run("wf")
        world.wait(5)
        assign(world, "ben", override=True)
        world.wait(9)
        assert owner(world) == ("ben", None)
        world.wait(1)
        assert owner(world) == (None, "sales")

    def test_saved_progress_does_not_make_the_deadline_void(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reassignment(literal("boss"))])
        world.run("wf")
        save(world, "anna", note="draft")
        world.wait(10)
        assert owner(world) == ("boss", None)

    def test_unassigned_task_is_left_alone(self, world: World) -> None:
        put_approval(world, **FINANCE, actions=[reassignment(literal("boss"))])
        world.run("wf")
        world.wait(100)
        assert owner(world) == (None, "finance")
        assert state(world).epoch == 1

    @terminal()
    def test_terminal_task_is_left_alone(self, world: World, status: UserTaskRunStatus) -> None:
        put_approval(world, then_waits, **ANNA, actions=[reassignment(literal("boss"))])
        world.run("wf")
        finish(world, status)
        before = state(world)
        world.wait(100)
        assert state(world) == before

    def test_halted_task_is_left_alone(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[reassignment(literal("boss"))])
        world.run("wf")
        stop(world)
        before = state(world)
        world.wait(100)
        assert state(world) == before

    def test_new_user_fires_the_assignment_hook(self, world: World) -> None:
        actions = [reassignment(literal("boss"), delay=10), reminder(delay=4, hook=ON_TASK_ASSIGNED)]
        put_approval(world, **ANNA, actions=actions)
        world.run("wf")
        world.wait(10)
        assert [run.source.user_task_trigger.user_id for run in reminders(world)] == ["anna"]
        world.wait(4)
        assert [run.source.user_task_trigger.user_id for run in reminders(world)] == ["anna", "boss"]

    def test_release_to_a_group_does_not_fire_the_assignment_hook(self, world: World) -> None:
        actions = [reassignment(None, literal("sales"), delay=10), reminder(delay=4, hook=ON_TASK_ASSIGNED)]
        put_approval(world, **ANNA, actions=actions)
        world.run("wf")
        world.wait(100)
        assert len(reminders(world)) == 1

    def test_new_owner_is_evaluated_when_the_delay_has_passed(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            boss = wf.declare_str("boss", "old boss")

            def child(wf: WorkflowThread) -> None:
                wf.wait_for_event("paid")
                boss.assign("new boss")

            wf.spawn_thread(child, "child")
            wf.assign_user_task("approve", user_id="anna")

        put_approval(world, body, **ANNA, actions=[reassignment(variable("boss"))])
        world.run("wf")
        world.wait(5)
        assert world.post("paid").claimed
        world.wait(5)
        assert owner(world, "0-2") == ("new boss", None)

    @pytest.mark.parametrize(
        "action",
        [reassignment(broken()), reassignment(None, broken()), reassignment(literal("boss"), broken())],
        ids=["user", "group", "group beside a user"],
    )
    def test_owner_that_does_not_evaluate_is_var_sub_error(self, world: World, action: UTActionTrigger) -> None:
        put_approval(world, **ANNA, actions=[action])
        assert world.run("wf").status == RUNNING
        world.wait(10)
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).status == ERROR


class TestCancel:
    """The action ``cancel``."""

    def test_task_is_cancelled_and_the_run_fails(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[cancellation()])
        world.run("wf")
        due_ms = world.now_ms + 10_000
        world.wait(9.999)
        assert state(world).status == ASSIGNED
        world.wait(60)
        assert state(world).status == CANCELLED
        assert history(world) == ["assigned", "cancelled"]
        assert state(world).events[1].time.ToMilliseconds() == due_ms
        assert failure(world, 1).failure_name == "USER_TASK_CANCELLED"
        assert wf_run(world).status == ERROR

    def test_exception_name_of_the_node_is_raised(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[cancellation()], on_cancellation_exception_name=literal("too-late"))
        world.run("wf")
        world.wait(10)
        assert failure(world, 1).failure_name == "too-late"
        assert wf_run(world).status == EXCEPTION

    def test_unassigned_task_is_cancelled(self, world: World) -> None:
        put_approval(world, **FINANCE, actions=[cancellation()])
        world.run("wf")
        world.wait(10)
        assert state(world).status == CANCELLED

    @HOOKS
    def test_reassigned_task_is_still_cancelled(self, world: World, hook: UTActionTrigger.UTHook) -> None:
        put_approval(world, **ANNA, actions=[cancellation(hook=hook)])
        world.run("wf")
        assign(world, group="sales", override=True)
        world.wait(10)
        assert state(world).status == CANCELLED

    @terminal()
    def test_terminal_task_is_left_alone(self, world: World, status: UserTaskRunStatus) -> None:
        put_approval(world, then_waits, **ANNA, actions=[cancellation()])
        world.run("wf")
        finish(world, status)
        before = state(world)
        failures = len(node(world, 1).failures)
        world.wait(100)
        assert state(world) == before
        assert len(node(world, 1).failures) == failures

    def test_run_goes_on_after_a_task_that_was_done_in_time(self, world: World) -> None:
        put_approval(world, then_waits, **ANNA, actions=[cancellation()])
        world.run("wf")
        complete(world, "anna", approved=True)
        world.wait(100)
        assert state(world).status == DONE
        world.post("paid")
        assert wf_run(world).status == COMPLETED

    def test_halted_task_fails_once_after_the_resume(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[cancellation()])
        world.run("wf")
        stop(world)
        world.wait(100)
        assert wf_run(world).status == HALTED
        resume(world)
        assert [one.failure_name for one in node(world, 1).failures] == ["USER_TASK_CANCELLED"]

    def test_cancelled_by_hand_first(self, world: World) -> None:
        put_approval(world, **ANNA, actions=[cancellation()])
        world.run("wf")
        cancel(world)
        world.wait(100)
        assert history(world) == ["assigned", "cancelled"]


@pytest.mark.parametrize(
    "action",
    [reminder, lambda: reassignment(literal("boss")), cancellation],
    ids=["reminder", "reassign", "cancel"],
)
def test_triggers_of_a_deleted_run_do_nothing(world: World, action: Callable[[], UTActionTrigger]) -> None:
    put_approval(world, **ANNA, actions=[action()])
    world.run("wf")
    timers = list(world.timers.values())
    assert timers
    world.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
    for timer in timers:
        world.submit(TimerDue(timer), command_ms=timer.due_ms)
    assert world.wf_run() is None
    assert world.user_task_run(the().user_task_guid) is None
    assert reminders(world) == []
