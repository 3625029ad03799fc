"""Stories of user tasks: reminders, deadlines, claims from a group, approvals by two people at once."""

from typing import Any

from littlehorse.model import (
    AssignUserTaskRunRequest,
    CompleteUserTaskRunRequest,
    LHStatus,
    ListUserTaskRunRequest,
    PutUserTaskDefRequest,
    SaveUserTaskRunProgressRequest,
    SearchUserTaskRunRequest,
    UserTaskField,
    UserTaskRun,
    UserTaskRunId,
    UserTaskRunStatus,
    VariableType,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.worker import WorkerContext
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from tests.api.client import Client, eventually, refusal
from tests.api.test_story_threads import node_of, one_task, working


async def put_expense_form(client: Client) -> None:
    """The form that every story here asks somebody to fill in."""
    fields = [
        UserTaskField(name="approved", type=VariableType.BOOL, required=True),
        UserTaskField(name="comment", type=VariableType.STR),
    ]
    await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name="approve-expense", fields=fields))


async def user_tasks(client: Client, run: str = "r") -> list[UserTaskRun]:
    """The UserTaskRuns of a WfRun."""
    reply = await client.stub.ListUserTaskRuns(ListUserTaskRunRequest(wf_run_id=WfRunId(id=run)))
    return list(reply.results)


async def user_task(client: Client, run: str = "r") -> UserTaskRun:
    """The only UserTaskRun of a WfRun."""
    (found,) = await user_tasks(client, run)
    return found


async def complete(client: Client, task: UserTaskRun, user: str, **results: Any) -> None:
    """Hand in the form."""
    values = {name: to_variable_value(value) for name, value in results.items()}
    await client.stub.CompleteUserTaskRun(
        CompleteUserTaskRunRequest(user_task_run_id=task.id, user_id=user, results=values)
    )


async def found(client: Client, **criteria: Any) -> list[UserTaskRunId]:
    """What somebody's inbox shows."""
    reply = await client.stub.SearchUserTaskRun(SearchUserTaskRunRequest(**criteria))
    return list(reply.results)


class TestReminder:
    @staticmethod
    def expense(thread: WorkflowThread) -> None:
        """The manager decides, and hears of it again after a second; the employee hears the decision."""
        manager = thread.declare_str("manager").required()
        decision = thread.assign_user_task("approve-expense", user_id=manager)
        decision.with_notes(thread.format("{0}, please decide", manager))
        thread.schedule_reminder_task(decision, 1, "remind", manager)
        thread.execute("tell", decision.with_json_path("$.comment"))

    async def test_a_manager_who_does_not_answer_is_reminded_and_then_decides(self, client: Client) -> None:
        reminded: list[str] = []
        told: list[str] = []

        async def remind(manager: str, context: WorkerContext) -> None:
            reminded.append(manager)

        async def tell(comment: str) -> None:
            told.append(comment)

        await put_expense_form(client)
        async with working(client, remind, tell):
            await client.register(Workflow("expense", self.expense))
            await client.run("expense", "r", manager="Ada")
            asked = await user_task(client)
            assert (asked.status, asked.user_id) == (UserTaskRunStatus.ASSIGNED, "Ada")
            assert asked.notes == "Ada, please decide"

            async def is_reminded() -> bool:
                return bool(reminded)

            await eventually(is_reminded)
            assert (await client.wf_run("r")).status == LHStatus.RUNNING
            assert (await node_of(client, "user_task")).status == LHStatus.RUNNING

            await complete(client, asked, "Ada", approved=True, comment="enjoy the trip")
            await client.until("r", LHStatus.COMPLETED)
        assert reminded == ["Ada"]
        assert told == ["enjoy the trip"]

        answered = await user_task(client)
        assert answered.status == UserTaskRunStatus.DONE
        assert answered.results["approved"].bool is True
        assert [event.WhichOneof("event") for event in answered.events] == ["assigned", "task_executed", "completed"]

    async def test_the_reminder_never_comes_early_and_says_whose_task_it_is(self, client: Client) -> None:
        await put_expense_form(client)
        await client.put_task_def("remind", {"manager": VariableType.STR})
        await client.put_task_def("tell", {"comment": VariableType.STR})
        await client.register(Workflow("expense", self.expense))
        await client.run("expense", "r", manager="Ada")

        reminder = await client.claim("remind")
        asked = await user_task(client)
        trigger = reminder.source.user_task_trigger
        assert trigger.user_id == "Ada"
        assert trigger.node_run_id == asked.node_run_id
        scheduled_at = (await client.task_run(reminder.task_run_id)).scheduled_at
        assert scheduled_at.ToMilliseconds() - asked.scheduled_time.ToMilliseconds() >= 1000
        (executed,) = [event.task_executed for event in asked.events if event.HasField("task_executed")]
        assert executed.task_run == reminder.task_run_id

    async def test_a_reminder_that_fails_does_not_harm_the_run(self, client: Client) -> None:
        async def remind(manager: str) -> None:
            raise ConnectionError("the mail server is gone")

        async def tell(comment: str) -> None:
            pass

        await put_expense_form(client)
        async with working(client, remind, tell):
            await client.register(Workflow("expense", self.expense))
            await client.run("expense", "r", manager="Ada")

            async def has_failed() -> bool:
                return any(attempt.HasField("error") for run in await client.task_runs("r") for attempt in run.attempts)

            await eventually(has_failed)
            assert (await client.wf_run("r")).status == LHStatus.RUNNING
            await complete(client, await user_task(client), "Ada", approved=True, comment="fine")
            await client.until("r", LHStatus.COMPLETED)

    async def test_a_manager_who_has_answered_is_not_reminded(self, client: Client) -> None:
        await put_expense_form(client)
        await client.put_task_def("remind", {"manager": VariableType.STR})
        await client.put_task_def("tell", {"comment": VariableType.STR})
        await client.register(Workflow("expense", self.expense))
        await client.run("expense", "quick", manager="Ada")
        await complete(client, await user_task(client, "quick"), "Ada", approved=False, comment="no")
        await client.run("expense", "slow", manager="Grace")

        # The reminder of the quick answer would have come before that of the slow one.
        assert (await client.claim("remind")).task_run_id.wf_run_id.id == "slow"
        assert [run.task_def_id.name for run in await client.task_runs("quick")] == ["tell"]


class TestDeadlines:
    async def test_a_task_that_nobody_does_in_time_goes_to_somebody_else(self, client: Client) -> None:
        def expense(thread: WorkflowThread) -> None:
            decision = thread.assign_user_task("approve-expense", user_id="Ada")
            thread.reassign_user_task_on_deadline(decision, 1, user_id="Grace")

        await put_expense_form(client)
        await client.register(Workflow("expense", expense))
        await client.run("expense", "r")

        async def is_reassigned() -> bool:
            return (await user_task(client)).user_id == "Grace"

        await eventually(is_reassigned)
        asked = await user_task(client)
        assert asked.epoch == 2
        assert asked.events[-1].assigned.old_user_id == "Ada"
        assert asked.events[-1].assigned.new_user_id == "Grace"
        assert not await found(client, user_id="Ada")
        assert await found(client, user_id="Grace") == [asked.id]

        await complete(client, asked, "Grace", approved=True)
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_a_task_that_is_cancelled_by_its_deadline_is_handled_as_the_workflow_says(
        self, client: Client
    ) -> None:
        def expense(thread: WorkflowThread) -> None:
            decision = thread.assign_user_task("approve-expense", user_id="Ada")
            decision.with_on_cancellation_exception("too-late")
            thread.cancel_user_task_run_after(decision, 1)
            thread.handle_exception(decision, one_task("reject"), "too-late")

        rejected: list[bool] = []

        async def reject() -> None:
            rejected.append(True)

        await put_expense_form(client)
        async with working(client, reject):
            await client.register(Workflow("expense", expense))
            await client.run("expense", "r")
            await client.until("r", LHStatus.COMPLETED)
        assert rejected == [True]
        assert (await user_task(client)).status == UserTaskRunStatus.CANCELLED
        asked = await node_of(client, "user_task")
        assert asked.status == LHStatus.EXCEPTION
        assert asked.failures[0].failure_name == "too-late"
        assert asked.failures[0].was_properly_handled


class TestGroups:
    async def test_a_task_of_a_group_is_claimed_worked_on_and_handed_in_by_one_member(self, client: Client) -> None:
        def expense(thread: WorkflowThread) -> None:
            decision = thread.assign_user_task("approve-expense", user_group="accounting")
            thread.complete(decision.with_json_path("$.comment"))

        await put_expense_form(client)
        await client.register(Workflow("expense", expense))
        await client.run("expense", "r")
        offered = await user_task(client)
        assert (offered.status, offered.user_group) == (UserTaskRunStatus.UNASSIGNED, "accounting")
        assert await found(client, user_group="accounting") == [offered.id]

        def claim(user: str) -> Any:
            return client.stub.AssignUserTaskRun(
                AssignUserTaskRunRequest(user_task_run_id=offered.id, user_group="accounting", user_id=user)
            )

        await claim("Ada")
        assert (await user_task(client)).status == UserTaskRunStatus.ASSIGNED
        assert (await refusal(claim("Grace"))).code.name == "FAILED_PRECONDITION"

        draft = {"comment": to_variable_value("looks odd")}
        await client.stub.SaveUserTaskRunProgress(
            SaveUserTaskRunProgressRequest(user_task_run_id=offered.id, user_id="Ada", results=draft)
        )
        assert (await user_task(client)).results["comment"].str == "looks odd"
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

        await complete(client, offered, "Ada", approved=True)
        run = await client.wf_run("r")
        assert run.status == LHStatus.COMPLETED
        assert run.thread_runs[0].output.str == "looks odd"

    async def test_a_form_that_is_not_filled_in_is_given_back(self, client: Client) -> None:
        def expense(thread: WorkflowThread) -> None:
            thread.assign_user_task("approve-expense", user_id="Ada")

        await put_expense_form(client)
        await client.register(Workflow("expense", expense))
        await client.run("expense", "r")
        asked = await user_task(client)
        for results in ({"comment": "no decision"}, {"approved": "yes"}, {"approved": True, "unknown": 1}):
            error = await refusal(complete(client, asked, "Ada", **results))
            assert error.code.name == "INVALID_ARGUMENT"
        assert await user_task(client) == asked
        await complete(client, asked, "Ada", approved=False)
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED


class TestParallelApprovals:
    async def test_two_people_approve_side_by_side_and_both_answers_are_used(self, client: Client) -> None:
        def expense(thread: WorkflowThread) -> None:
            by_manager = thread.declare_bool("by-manager")
            by_auditor = thread.declare_bool("by-auditor")

            def manager(approval: WorkflowThread) -> None:
                answer = approval.assign_user_task("approve-expense", user_id="manager")
                by_manager.assign(answer.with_json_path("$.approved"))

            def auditor(approval: WorkflowThread) -> None:
                answer = approval.assign_user_task("approve-expense", user_id="auditor")
                by_auditor.assign(answer.with_json_path("$.approved"))

            approvals = thread.spawn_thread(manager, "manager"), thread.spawn_thread(auditor, "auditor")
            thread.wait_for_threads(SpawnedThreads.from_list(*approvals))
            thread.do_if(
                by_manager.is_equal_to(by_auditor),
                one_task("pay"),
                one_task("discuss"),
            )

        await put_expense_form(client)
        await client.put_task_def("pay")
        await client.put_task_def("discuss")
        await client.register(Workflow("expense", expense))

        for run, auditor_agrees, next_step in (("same", True, "pay"), ("different", False, "discuss")):
            await client.run("expense", run)
            by_user = {task.user_id: task for task in await user_tasks(client, run)}
            assert sorted(by_user) == ["auditor", "manager"]

            await complete(client, by_user["auditor"], "auditor", approved=auditor_agrees)
            assert not await client.task_runs(run)
            await complete(client, by_user["manager"], "manager", approved=True)

            task = await client.claim(next_step)
            assert task.task_run_id.wf_run_id.id == run
            await client.report(task)
            await client.until(run, LHStatus.COMPLETED)
