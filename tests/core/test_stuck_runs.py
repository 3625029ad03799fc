"""WfRuns that could have waited for ever: whatever fails, halts or goes away, something ends or goes on."""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    ApplyWorkflowMigrationPlanRequest,
    AssignUserTaskRunRequest,
    CorrelatedEventConfig,
    DeleteWfRunRequest,
    DeleteWfSpecRequest,
    ExternalEventDefId,
    LHStatus,
    PutExternalEventRequest,
    PutUserTaskDefRequest,
    PutWfSpecRequest,
    PutWorkflowMigrationPlanRequest,
    RescueThreadRunRequest,
    RunWfRequest,
    ScheduledTask,
    StopWfRunRequest,
    TaskStatus,
    TypeDefinition,
    UserTaskField,
    UserTaskRunId,
    UserTaskRunStatus,
    UTActionTrigger,
    VariableDef,
    VariableType,
    VariableValue,
    WaitForThreadsStrategy,
    WfRunId,
    WfSpecId,
    WorkflowMigrationPlanId,
)
from littlehorse.workflow import SpawnedThread, SpawnedThreads, WorkflowThread

from lhd.core.commands.bulk_jobs import DeleteRuns
from lhd.core.ids import parse_wf_run_id
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    claim,
    compiled,
    correlate,
    entry,
    failure,
    markers,
    node,
    nothing,
    put,
    put_event_def,
    refused,
    resume,
    statuses,
    stop,
    stored_correlated,
    thread,
    wf_run,
)
from tests.core.world import World

HALTED, HALTING = LHStatus.HALTED, LHStatus.HALTING
ANY, ALL = WaitForThreadsStrategy.WAIT_FOR_ANY, WaitForThreadsStrategy.WAIT_FOR_ALL
RUN = WfRunId(id="r")


def spawns(child: Body) -> Body:
    def entrypoint(wf: WorkflowThread) -> None:
        wf.spawn_thread(child, "child")

    return entrypoint


def waits(event_def: str) -> Body:
    return lambda wf: wf.wait_for_event(event_def)


def runs_task(task_def: str) -> Body:
    return lambda wf: wf.execute(task_def)


def wants_number(wf: WorkflowThread) -> None:
    """A handler that cannot start with text."""
    wf.declare_int("INPUT")


def divides_by_zero(wf: WorkflowThread) -> None:
    given = wf.declare_int("INPUT", 1)
    given.assign(given.divide(0))


def raises(name: str, *, after: str | None = None) -> Body:
    def body(wf: WorkflowThread) -> None:
        if after is not None:
            wf.wait_for_event(after)
        wf.fail(name, f"{name} happened")

    return body


def joined(wf: WorkflowThread, *bodies: Body, strategy: WaitForThreadsStrategy = ALL, name: str = "child") -> Any:
    """Spawn threads and wait for them."""
    threads = [wf.spawn_thread(body, f"{name}-{number}") for number, body in enumerate(bodies)]
    return wf.wait_for_threads(SpawnedThreads.from_list(*threads), strategy)


def started(world: World, body: Body) -> None:
    put(world, body)
    world.run("wf")


def rescue(world: World, number: int) -> None:
    world.submit(RescueThreadRunRequest(wf_run_id=RUN, thread_run_number=number))


def only_child(world: World) -> str:
    (child,) = world.child_wf_runs()
    return child


def failure_names(world: World, position: int, number: int = 0) -> list[str]:
    return [one.failure_name for one in node(world, position, number=number).failures]


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("go", "help", "later", "one", "two", "stop-me"):
        put_event_def(world, name)
    correlated = CorrelatedEventConfig(delete_after_first_correlation=True)
    put_event_def(world, "paid", correlated=correlated)
    for name in ("t", "next"):
        world.put_task_def(name)
    world.submit(PutUserTaskDefRequest(name="form", fields=[UserTaskField(name="a", type=VariableType.STR)]))
    return world


class TestInterruptHandlerThatCannotStart:
    @staticmethod
    def payment(wf: WorkflowThread) -> None:
        wf.add_interrupt_handler("stop-me", wants_number)
        paid = wf.wait_for_event("paid", timeout=1000, correlation_id="k")
        wf.handle_any_failure(paid, nothing)
        wf.wait_for_event("go")

    def test_interrupted_thread_ends_whatever_handlers_its_node_has(self, world: World) -> None:
        started(world, self.payment)
        world.post("stop-me", "text")
        assert statuses(world) == [ERROR]
        assert wf_run(world).status == ERROR
        assert failure_names(world, 1) == ["VAR_SUB_ERROR"]
        assert not wf_run(world).pending_interrupts
        assert not thread(world).halt_reasons

    def test_neither_timer_nor_marker_is_left(self, world: World) -> None:
        started(world, self.payment)
        assert (len(world.timers), markers(world, "paid", "k")) == (1, 1)
        world.post("stop-me", "text")
        assert not world.timers
        assert markers(world, "paid", "k") == 0
        assert not correlate(world, "paid", "k").external_events
        assert stored_correlated(world, "paid", "k") is not None

    def test_user_task_of_the_interrupted_node_is_cancelled_and_its_actions_are_called_off(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", wants_number)
            wf.assign_user_task("form", user_id="anna")

        request = compiled(body)
        action = entry(request).nodes["1-form-USER_TASK"].user_task.actions.add(hook=UTActionTrigger.ON_ARRIVAL)
        action.delay_seconds.literal_value.int = 60
        action.cancel.SetInParent()
        world.submit(request)
        world.run("wf")
        assert len(world.timers) == 1
        world.post("stop-me", "text")
        assert wf_run(world).status == ERROR
        assert not world.timers
        form = world.user_task_run("0-1")
        assert form is not None
        assert form.status == UserTaskRunStatus.CANCELLED

    def test_thread_that_waits_for_the_interrupted_one_goes_on(self, world: World) -> None:
        started(world, lambda wf: wf.handle_any_failure(joined(wf, self.payment), nothing))
        world.post("stop-me", "text")
        assert statuses(world) == [COMPLETED, ERROR, COMPLETED]
        assert failure_names(world, 2) == ["CHILD_FAILURE"]

    def test_failure_of_an_interrupted_handler_climbs(self, world: World) -> None:
        def handler(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", wants_number)
            wf.wait_for_event("help")

        started(world, lambda wf: wf.handle_any_failure(wf.wait_for_event("go", timeout=1), handler))
        world.wait(2)
        assert statuses(world) == [HALTED, RUNNING]
        world.post("stop-me", "text")
        assert statuses(world) == [ERROR, ERROR]
        assert wf_run(world).status == ERROR

    def test_task_in_flight_is_reported_first(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", wants_number)
            wf.handle_any_failure(wf.execute("t"), nothing)

        started(world, body)
        task = claim(world)
        world.post("stop-me", "text")
        assert statuses(world) == [HALTING]
        world.report(task)
        assert statuses(world) == [ERROR]
        assert not world.timers


class TestInterruptDuringFailureHandling:
    """Thread 0 is HALTED for both its failure handler, thread 1, and its interrupt handler, thread 2."""

    @pytest.fixture
    def both(self, world: World) -> World:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", waits("one"))
            wf.handle_any_failure(wf.wait_for_event("go", timeout=1), waits("help"))

        started(world, body)
        world.wait(2)
        world.post("stop-me")
        assert statuses(world) == [HALTED, HALTED, RUNNING]
        return world

    @pytest.mark.parametrize("events", [("one", "help"), ("help", "one")])
    def test_both_handlers_end_and_the_thread_goes_on(self, both: World, events: tuple[str, str]) -> None:
        for event in events:
            both.post(event)
        assert statuses(both) == [COMPLETED, COMPLETED, COMPLETED]
        assert wf_run(both).status == COMPLETED

    @pytest.mark.parametrize("events", [("one", "help"), ("help", "one")])
    def test_stop_and_resume_change_nothing_of_that(self, both: World, events: tuple[str, str]) -> None:
        stop(both)
        resume(both)
        assert statuses(both) == [HALTED, HALTED, RUNNING]
        for event in events:
            both.post(event)
        assert wf_run(both).status == COMPLETED

    @pytest.mark.parametrize("events", [("one", "help"), ("help", "one")])
    def test_events_of_the_stop_are_taken_after_the_resume(self, both: World, events: tuple[str, str]) -> None:
        stop(both)
        for event in events:
            both.post(event)
        assert wf_run(both).status == HALTED
        resume(both)
        assert wf_run(both).status == COMPLETED

    def test_interrupt_of_a_stopped_thread_waits_for_the_resume_at_most(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", waits("one"))
            wf.handle_any_failure(wf.wait_for_event("go", timeout=1), waits("help"))

        started(world, body)
        world.wait(2)
        stop(world)
        world.post("stop-me")
        resume(world)
        world.post("one")
        world.post("help")
        assert wf_run(world).status == COMPLETED


def with_bad_delay(body: Body, name: str) -> PutWfSpecRequest:
    """A WfSpec whose user task fails as soon as it is given to a user: the delay of an action is NULL."""

    def with_null(wf: WorkflowThread) -> None:
        wf.declare_int("null")
        body(wf)

    request = compiled(with_null, name)
    action = entry(request).nodes["1-form-USER_TASK"].user_task.actions.add(hook=UTActionTrigger.ON_TASK_ASSIGNED)
    action.delay_seconds.variable_name = "null"
    action.cancel.SetInParent()
    return request


class TestParentOfAChildWfRun:
    @staticmethod
    def parent(handler: Body | None = None) -> Body:
        def body(wf: WorkflowThread) -> None:
            waiting = wf.wait_for_child_wf(wf.run_wf("child"))
            if handler is not None:
                wf.handle_error(waiting, handler)
                wf.wait_for_event("later")

        return body

    def child_of(self, world: World, child: Body, handler: Body | None = None) -> WfRunId:
        """Run wf, which waits for its child; the id of the child."""
        put(world, child, "child")
        started(world, self.parent(handler))
        return parse_wf_run_id(only_child(world))

    def test_child_that_fails_as_its_user_task_is_assigned_wakes_its_parent(self, world: World) -> None:
        world.submit(with_bad_delay(lambda wf: wf.assign_user_task("form", user_group="finance"), "child"))
        started(world, self.parent())
        child = parse_wf_run_id(only_child(world))
        form = UserTaskRunId(wf_run_id=child, user_task_guid="0-1")
        assert statuses(world) == [RUNNING]
        world.submit(AssignUserTaskRunRequest(user_task_run_id=form, user_id="anna"))
        assert statuses(world, only_child(world)) == [ERROR]
        assert statuses(world) == [ERROR]
        assert failure(world, 2).failure_name == "CHILD_FAILURE"

    def test_child_that_fails_as_a_timer_reassigns_its_user_task_wakes_its_parent(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.declare_json_obj("null")
            wf.assign_user_task("form", user_id="anna")

        request = compiled(child, "child")
        action = entry(request).nodes["1-form-USER_TASK"].user_task.actions.add(hook=UTActionTrigger.ON_ARRIVAL)
        action.delay_seconds.literal_value.int = 10
        action.reassign.user_id.variable_name = "null"
        action.reassign.user_id.json_path = "$.x"
        world.submit(request)
        started(world, self.parent())
        world.wait(11)
        assert statuses(world, only_child(world)) == [ERROR]
        assert statuses(world) == [ERROR]
        assert failure(world, 2).failure_name == "CHILD_FAILURE"

    def test_user_task_that_has_failed_is_assigned_no_more_while_its_handler_runs(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.assign_user_task("form", user_group="finance"), waits("help"))

        world.submit(with_bad_delay(body, "wf"))
        world.run("wf")
        form = UserTaskRunId(wf_run_id=RUN, user_task_guid="0-1")
        world.submit(AssignUserTaskRunRequest(user_task_run_id=form, user_id="anna"))
        assert statuses(world) == [HALTED, RUNNING]
        with refused(Code.FAILED_PRECONDITION):
            world.submit(AssignUserTaskRunRequest(user_task_run_id=form, user_id="bob", override_claim=True))
        assert failure_names(world, 1) == ["VAR_SUB_ERROR"]
        world.post("help")
        assert wf_run(world).status == COMPLETED

    def test_deleted_child_is_a_child_failure_at_once(self, world: World) -> None:
        child = self.child_of(world, waits("go"))
        world.submit(DeleteWfRunRequest(id=child))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_failure_over_a_deleted_child_can_be_handled(self, world: World) -> None:
        child = self.child_of(world, waits("go"), nothing)
        world.submit(DeleteWfRunRequest(id=child))
        assert statuses(world) == [RUNNING, COMPLETED]
        world.post("later")
        assert wf_run(world).status == COMPLETED

    def test_child_that_a_bulk_job_deletes_is_a_child_failure_at_once(self, world: World) -> None:
        child = self.child_of(world, waits("go"))
        world.submit(StopWfRunRequest(wf_run_id=child, thread_run_number=0))
        world.submit(DeleteRuns((child,), HALTED))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_parent_that_is_deleted_before_its_child_is_not_missed(self, world: World) -> None:
        child = self.child_of(world, waits("go"))
        printed = only_child(world)
        world.submit(DeleteWfRunRequest(id=RUN))
        world.submit(PutExternalEventRequest(wf_run_id=child, external_event_def_id=ExternalEventDefId(name="go")))
        assert wf_run(world, printed).status == COMPLETED

    @pytest.mark.parametrize("part", ["child", "parent"])
    def test_only_an_own_child_can_be_waited_for(self, world: World, part: str) -> None:
        put(world, waits("go"), "child")
        put(world, lambda wf: (wf.run_wf("child"), wf.wait_for_event("later")), "other")
        world.run("other", "other")
        foreign = parse_wf_run_id({"child": world.child_wf_runs("other")[0], "parent": "other"}[part])
        request = compiled(self.parent())
        spec = entry(request)
        given = VariableDef(name="given", type_def=TypeDefinition(primitive_type=VariableType.WF_RUN_ID))
        spec.variable_defs.add(var_def=given)
        waiting = spec.nodes["2-wait-WAIT_FOR_CHILD_WF"].wait_for_child_wf
        waiting.child_wf_run_id.Clear()
        waiting.child_wf_run_id.variable_name = "given"
        world.submit(request)
        world.submit(RunWfRequest(wf_spec_name="wf", id="r", variables={"given": VariableValue(wf_run_id=foreign)}))
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert wf_run(world).status == ERROR

    @staticmethod
    def tight(wf: WorkflowThread) -> None:
        on = wf.declare_bool("on", True)

        def body(wf: WorkflowThread) -> None:
            wf.wait_for_condition(on.is_equal_to(True))

        wf.do_while(on.is_equal_to(True), body)

    def test_tight_loop_of_a_child_fails_the_child_alone(self, world: World) -> None:
        put(world, self.tight, "child")
        started(world, lambda wf: (wf.run_wf("child"), wf.wait_for_event("later")))
        child = wf_run(world, only_child(world))
        assert child.status == ERROR
        assert "tight loop" in child.thread_runs[0].error_message
        assert wf_run(world).status == RUNNING
        world.post("later")
        assert wf_run(world).status == COMPLETED

    def test_handler_for_the_child_failure_runs_after_a_tight_loop_of_the_child(self, world: World) -> None:
        self.child_of(world, self.tight, waits("help"))
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert statuses(world) == [HALTED, RUNNING]
        world.post("help")
        world.post("later")
        assert wf_run(world).status == COMPLETED


class TestWaitForAny:
    @staticmethod
    def lists(body: Body, numbers: str, *, times: int) -> PutWfSpecRequest:
        """The first ``times`` WAIT_FOR_THREADS nodes take their threads from a variable, and one is enough."""
        request = compiled(body)
        waiting = [one for _, one in sorted(entry(request).nodes.items()) if one.HasField("wait_for_threads")]
        for one in waiting[:times]:
            one.wait_for_threads.thread_list.variable_name = numbers
            one.wait_for_threads.strategy = ANY
        return request

    def test_arrival_that_fails_halts_nobody(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            child = wf.spawn_thread(waits("go"), "child")
            wf.declare_json_arr("numbers", [1, 99])
            wf.handle_any_failure(wf.wait_for_threads(SpawnedThreads.from_list(child)), nothing)
            wf.wait_for_event("later")
            wf.wait_for_threads(SpawnedThreads.from_list(child))

        world.submit(self.lists(body, "numbers", times=1))
        world.run("wf")
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"
        assert statuses(world) == [RUNNING, RUNNING, COMPLETED]
        assert not thread(world, number=1).halt_reasons
        world.post("later")
        world.post("go")
        assert wf_run(world).status == COMPLETED

    @staticmethod
    def waits_by_key(wf: WorkflowThread) -> None:
        wf.wait_for_event("paid", correlation_id="k", timeout=1000)

    def test_marker_and_timer_below_an_abandoned_thread_go(self, world: World) -> None:
        def family(wf: WorkflowThread) -> None:
            joined(wf, lambda wf: joined(wf, self.waits_by_key, name="grandchild"), nothing, strategy=ANY)
            wf.wait_for_event("later")

        started(world, family)
        assert thread(world, number=1).halt_reasons[0].HasField("halted_by_parent")
        assert markers(world, "paid", "k") == 0
        assert not world.timers
        assert not correlate(world, "paid", "k").external_events
        assert stored_correlated(world, "paid", "k") is not None

    def test_marker_of_a_thread_that_is_abandoned_before_it_can_halt_goes(self, world: World) -> None:
        def family(wf: WorkflowThread) -> None:
            wf.spawn_thread(runs_task("t"), "tasked")
            self.waits_by_key(wf)

        started(world, lambda wf: (joined(wf, family, nothing, strategy=ANY), wf.wait_for_event("later")))
        task = claim(world)
        assert thread(world, number=1).status == HALTING
        assert markers(world, "paid", "k") == 0
        world.report(task)
        assert thread(world, number=1).status == HALTED
        assert markers(world, "paid", "k") == 0
        assert not world.timers
        world.post("later")
        assert wf_run(world).status == COMPLETED

    def test_event_by_key_goes_to_the_one_who_still_waits(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            joined(wf, lambda wf: joined(wf, self.waits_by_key, name="grandchild"), nothing, strategy=ANY)
            wf.wait_for_event("paid", correlation_id="k")

        started(world, body)
        assert markers(world, "paid", "k") == 1
        (given,) = correlate(world, "paid", "k").external_events
        event = world.external_event("paid", given.guid)
        assert event is not None
        assert event.thread_run_number == 0
        assert wf_run(world).status == COMPLETED


class TestTimeoutOfAHaltedWait:
    @pytest.fixture
    def late(self, world: World) -> World:
        started(world, lambda wf: wf.wait_for_event("paid", timeout=1, correlation_id="k"))
        stop(world)
        world.wait(5)
        return world

    def test_it_waits_for_its_key_no_more(self, late: World) -> None:
        assert node(late, 1).status == HALTED
        assert node(late, 1).external_event.timed_out
        assert markers(late, "paid", "k") == 0
        assert not correlate(late, "paid", "k").external_events
        assert stored_correlated(late, "paid", "k") is not None

    def test_it_fails_after_the_resume_without_waiting_again(self, late: World) -> None:
        resume(late)
        assert failure(late, 1).failure_name == "TIMEOUT"
        assert markers(late, "paid", "k") == 0
        assert not late.timers


class TestRescue:
    @pytest.fixture
    def orphaned(self, world: World) -> World:
        """Thread 2 handles a failure of thread 1, which has ended since, and has just been rescued."""

        def child(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", divides_by_zero)
            wf.handle_any_failure(wf.wait_for_event("go", timeout=1), raises("boom", after="help"))

        started(world, lambda wf: joined(wf, child))
        world.wait(2)
        world.post("stop-me", 1)
        assert statuses(world) == [ERROR, ERROR, HALTED, ERROR]
        rescue(world, 1)
        return world

    def test_handler_of_the_old_failure_stays_behind(self, orphaned: World) -> None:
        assert statuses(orphaned) == [RUNNING, RUNNING, HALTED, ERROR]
        assert not orphaned.post("help").claimed
        assert statuses(orphaned) == [RUNNING, RUNNING, HALTED, ERROR]

    def test_run_completes_with_the_rescued_thread(self, orphaned: World) -> None:
        orphaned.post("go")
        assert statuses(orphaned) == [COMPLETED, COMPLETED, HALTED, ERROR]
        assert wf_run(orphaned).status == COMPLETED

    def test_rescued_thread_can_fail_and_be_handled_again(self, orphaned: World) -> None:
        orphaned.wait(2)
        assert statuses(orphaned)[4] == RUNNING
        orphaned.post("help")
        assert wf_run(orphaned).status == EXCEPTION


class TestPerThreadFailureHandlers:
    """Thread 3 handles the failure of thread 1 for thread 0, which waits for threads 1 and 2."""

    @staticmethod
    def body(wf: WorkflowThread) -> None:
        def handler(wf: WorkflowThread) -> None:
            wf.execute("t")
            wf.execute("next")

        wf.add_interrupt_handler("stop-me", waits("later"))
        waiting = joined(wf, raises("ax", after="one"), raises("bx", after="two"))
        waiting.handle_exception_on_child(handler, "ax")
        waiting.handle_exception_on_child(nothing, "bx")

    @pytest.fixture
    def handling(self, world: World) -> World:
        started(world, self.body)
        world.post("one")
        assert statuses(world) == [RUNNING, EXCEPTION, RUNNING, RUNNING]
        return world

    @pytest.mark.parametrize("reported", ["before", "after"])
    def test_stop_halts_them_and_resume_lets_them_go_on(self, handling: World, reported: str) -> None:
        task = claim(handling)
        stop(handling)
        assert thread(handling, number=3).status == HALTING
        if reported == "before":
            handling.report(task)
            assert thread(handling, number=3).status == HALTED
            assert not handling.queue
            assert wf_run(handling).status == HALTED
            resume(handling)
        else:
            resume(handling)
            handling.report(task)
        assert not thread(handling, number=3).halt_reasons
        handling.report(claim(handling))
        handling.post("two")
        assert wf_run(handling).status == COMPLETED

    def test_interrupt_halts_them_and_its_end_lets_them_go_on(self, handling: World) -> None:
        handling.report(claim(handling))
        task = claim(handling)
        handling.post("stop-me")
        assert thread(handling, number=3).status == HALTING
        handling.report(task)
        assert statuses(handling) == [HALTED, EXCEPTION, HALTED, HALTED, RUNNING]
        handling.post("later")
        assert statuses(handling) == [RUNNING, EXCEPTION, RUNNING, COMPLETED, COMPLETED]
        handling.post("two")
        assert wf_run(handling).status == COMPLETED

    def test_failure_of_the_waiting_thread_halts_them(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            waiting = joined(wf, raises("ax", after="one"), raises("bx", after="two"))
            waiting.handle_exception_on_child(lambda wf: (wf.execute("t"), wf.execute("next")), "ax")

        started(world, body)
        world.post("one")
        task = claim(world)
        world.post("two")
        assert wf_run(world).status == EXCEPTION
        assert thread(world, number=3).status == HALTING
        world.report(task)
        assert thread(world, number=3).status == HALTED
        assert not world.queue

    def test_failure_handler_of_the_waiting_node_halts_them_meanwhile(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            waiting = joined(wf, raises("ax", after="one"), raises("bx", after="two"))
            waiting.handle_exception_on_child(waits("later"), "ax")
            wf.handle_any_failure(waiting, waits("help"))

        started(world, body)
        world.post("one")
        world.post("two")
        assert statuses(world) == [HALTED, EXCEPTION, EXCEPTION, HALTED, RUNNING]
        world.post("help")
        assert not thread(world, number=3).halt_reasons
        world.post("later")
        assert wf_run(world).status == COMPLETED


class TestPerThreadFailureHandlersOfOthers:
    """The thread that waits need not be the parent of the one that fails."""

    @staticmethod
    def handled_by(wf: WorkflowThread, handler: Body) -> None:
        """Wait for thread 1, or for another if the default of ``number`` is edited."""
        waiting = wf.wait_for_threads(SpawnedThreads.from_list(SpawnedThread("x", wf.declare_int("number", 1))))
        waiting.handle_exception_on_child(handler, "ax")

    def test_stop_of_the_waiting_thread_halts_the_handler_and_resume_lets_it_go_on(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(raises("ax", after="one"), "fails")
            wf.spawn_thread(lambda wf: self.handled_by(wf, waits("later")), "waits")
            wf.wait_for_event("go")

        started(world, body)
        world.post("one")
        assert statuses(world) == [RUNNING, EXCEPTION, RUNNING, RUNNING]
        stop(world, 2)
        assert statuses(world) == [RUNNING, EXCEPTION, HALTED, HALTED]
        resume(world, 2)
        assert statuses(world) == [RUNNING, EXCEPTION, RUNNING, RUNNING]
        world.post("later")
        assert statuses(world) == [RUNNING, EXCEPTION, COMPLETED, COMPLETED]

    def test_handler_goes_on_where_another_thread_than_the_waiting_one_fails(self, world: World) -> None:
        def parent(wf: WorkflowThread) -> None:
            wf.spawn_thread(raises("ax", after="one"), "grandchild")
            wf.wait_for_event("two", timeout=1)

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(parent, "child")
            self.handled_by(wf, waits("later"))
            wf.wait_for_event("go")

        request = compiled(body)
        (number,) = (one for one in entry(request).variable_defs if one.var_def.name == "number")
        number.var_def.default_value.int = 2
        world.submit(request)
        world.run("wf")
        world.post("one")
        assert statuses(world) == [RUNNING, RUNNING, EXCEPTION, RUNNING]
        world.wait(2)
        assert statuses(world) == [RUNNING, ERROR, EXCEPTION, RUNNING]
        world.post("later")
        assert node(world, 3).node_name == "3-go-EXTERNAL_EVENT"


class TestAfterTheEnd:
    """What cannot stop at once goes on after its WfRun has ended, and nothing new begins."""

    @staticmethod
    def ends_beside(child: Body) -> Body:
        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(child, "child")
            wf.wait_for_event("go")
            wf.fail("boom", "over")

        return body

    def check_nothing_begins(self, world: World, task: ScheduledTask, report: TaskStatus) -> None:
        world.post("go")
        assert statuses(world) == [EXCEPTION, HALTING]
        world.report(task, report)
        assert statuses(world) == [EXCEPTION, HALTED]
        assert not world.queue
        assert not world.timers

    @pytest.mark.parametrize("report", [TaskStatus.TASK_SUCCESS, TaskStatus.TASK_FAILED])
    def test_no_interrupt_handler_starts(self, world: World, report: TaskStatus) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.add_interrupt_handler("stop-me", runs_task("next"))
            wf.execute("t")

        started(world, self.ends_beside(child))
        task = claim(world)
        world.post("stop-me")
        self.check_nothing_begins(world, task, report)

    @pytest.mark.parametrize("report", [TaskStatus.TASK_SUCCESS, TaskStatus.TASK_FAILED])
    def test_no_failure_handler_starts_for_a_task(self, world: World, report: TaskStatus) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.handle_any_failure(wf.execute("t"), runs_task("next"))

        started(world, self.ends_beside(child))
        self.check_nothing_begins(world, claim(world), report)

    def test_no_failure_handler_starts_that_waited_for_a_task(self, world: World) -> None:
        def child(wf: WorkflowThread) -> None:
            wf.spawn_thread(runs_task("t"), "grandchild")
            wf.handle_any_failure(wf.wait_for_event("later", timeout=1), runs_task("next"))

        started(world, self.ends_beside(child))
        task = claim(world)
        world.wait(2)
        assert statuses(world) == [RUNNING, HALTING, HALTING]
        assert len(wf_run(world).pending_failures) == 1
        world.post("go")
        world.report(task)
        assert statuses(world) == [EXCEPTION, HALTED, HALTED]
        assert not world.queue


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda world: world.post("stop-me", "text"), id="interrupt"),
        pytest.param(lambda world: world.post("paid"), id="event"),
        pytest.param(lambda world: correlate(world, "paid", "k"), id="key"),
        pytest.param(lambda world: world.wait(1001), id="timeout"),
    ],
)
def test_wait_leaves_neither_timer_nor_marker_however_it_ends(world: World, end: Callable[[World], Any]) -> None:
    def body(wf: WorkflowThread) -> None:
        wf.add_interrupt_handler("stop-me", wants_number)
        wf.wait_for_event("paid", timeout=1000, correlation_id="k")

    started(world, body)
    end(world)
    assert wf_run(world).status in (ERROR, COMPLETED)
    assert not world.timers
    assert markers(world, "paid", "k") == 0


# EXIT waits for a child that is halted only for its own handler: it goes on by itself


def test_a_wf_run_does_not_end_before_the_failure_handler_of_a_child_has() -> None:
    def child(wf: WorkflowThread) -> None:
        wf.handle_any_failure(wf.wait_for_event("go", timeout=1), waits("help"))
        wf.fail("no-luck", "after the handler")

    world = World()
    put_event_def(world, "go")
    put_event_def(world, "help")
    put(world, spawns(child))
    world.run("wf")
    world.wait(2)
    assert statuses(world) == [RUNNING, HALTED, RUNNING]
    world.post("help")
    assert statuses(world) == [ERROR, EXCEPTION, COMPLETED]


def test_a_wf_run_does_not_end_before_the_interrupted_child_has() -> None:
    def child(wf: WorkflowThread) -> None:
        wf.add_interrupt_handler("help", waits("later"))
        wf.wait_for_event("go")

    world = World()
    for name in ("go", "help", "later"):
        put_event_def(world, name)
    put(world, spawns(child))
    world.run("wf")
    world.post("help")
    assert statuses(world) == [RUNNING, HALTED, RUNNING]
    world.post("later")
    world.post("go")
    assert statuses(world) == [COMPLETED, COMPLETED, COMPLETED]


# WfSpecs that are deleted under their runs


def started_parent(world: World) -> str:
    """Run wf, which waits for its child, which waits for the event go; the id of the child."""
    put(world, waits("go"), "child")
    started(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
    return only_child(world)


def test_the_parent_of_a_child_whose_wf_spec_was_deleted_goes_on(world: World) -> None:
    child = started_parent(world)
    world.submit(DeleteWfSpecRequest(id=WfSpecId(name="child")))
    world.submit(
        PutExternalEventRequest(
            wf_run_id=parse_wf_run_id(child),
            external_event_def_id=ExternalEventDefId(name="go"),
            content=VariableValue(),
        )
    )
    assert wf_run(world, child).status == ERROR
    assert wf_run(world).status == ERROR
    assert failure(world, 2).failure_name == "CHILD_FAILURE"


def test_a_run_does_not_follow_another_wf_spec_that_was_given_its_version(world: World) -> None:
    put(world, waits("go"))
    world.run("wf")
    world.submit(DeleteWfSpecRequest(id=WfSpecId(name="wf")))
    again = put(world, lambda wf: wf.execute("t"))
    assert (again.id.major_version, again.id.revision) == (0, 0)
    world.post("go")
    assert wf_run(world).status == ERROR
    assert failure(world, 1).failure_name == "INTERNAL_ERROR"
    assert put(world, lambda wf: wf.execute("t")).id == again.id, "the stored WfSpec is as it was put"


def test_a_migrated_run_goes_on_when_the_version_that_it_left_is_deleted(world: World) -> None:
    def first(wf: WorkflowThread) -> None:
        wf.spawn_thread(nothing, "child")
        wf.wait_for_event("go")
        wf.wait_for_event("later")

    def second(wf: WorkflowThread) -> None:
        first(wf)
        wf.wait_for_event("help")

    old, new = put(world, first), put(world, second)
    world.submit(RunWfRequest(wf_spec_name="wf", id="r", major_version=0, revision=old.id.revision))
    waiting = node(world, 2).node_name
    plan = PutWorkflowMigrationPlanRequest(name="plan", major_version=0, revision=new.id.revision, old_wfSpec=old.id)
    entrypoint = plan.thread_migrations["entrypoint"]
    entrypoint.new_thread_name = "entrypoint"
    entrypoint.node_migrations[waiting].new_node_name = waiting
    world.submit(plan)
    world.submit(ApplyWorkflowMigrationPlanRequest(id=WorkflowMigrationPlanId(name="plan"), wfRun_id=RUN))
    world.submit(DeleteWfSpecRequest(id=old.id))
    for event in ("go", "later", "help"):
        assert wf_run(world).status == RUNNING
        world.post(event)
    assert wf_run(world).status == COMPLETED


def test_deleting_a_child_by_its_printed_id_tells_the_parent(world: World) -> None:
    child = started_parent(world)
    world.submit(DeleteWfRunRequest(id=WfRunId(id=child)))
    assert wf_run(world).status == ERROR
