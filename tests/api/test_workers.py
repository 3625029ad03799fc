"""The worker protocol: api.md 8."""

from typing import Any

import anyio
import grpc
import pytest
from grpc import StatusCode
from littlehorse.model import (
    ExponentialBackoffRetryPolicy,
    LHErrorType,
    LHStatus,
    LHTaskError,
    LHTaskException,
    LittleHorseStub,
    PollTaskRequest,
    ReportTaskRun,
    ScheduledTask,
    TaskDefId,
    TaskRunId,
    TaskStatus,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import EMPTY, PATIENCE_SECONDS, Client, eventually, executes, masked, now

LARGER_THAN_A_WINDOW = 900_000
"""Bytes that are not sent before the other side reads, if its window is narrow."""


async def ship_orders(client: Client, *wf_run_ids: str, **options: Any) -> None:
    """One queued task ``ship`` per WfRun, in this order."""
    await client.put_task_def("ship")
    await client.register(executes("order", "ship", **options))
    for wf_run_id in wf_run_ids:
        await client.run("order", wf_run_id)


def run_of(task: ScheduledTask) -> str:
    return task.task_run_id.wf_run_id.id


class TestRegisterTaskWorker:
    async def test_the_task_def_need_not_exist(self, client: Client) -> None:
        reply = await client.register_worker("unknown")
        assert len(reply.your_hosts) >= 1
        assert not reply.HasField("is_cluster_healthy") or reply.is_cluster_healthy

    async def test_the_hosts_stay_the_same(self, client: Client) -> None:
        first = await client.register_worker("ship", "a")
        assert (await client.register_worker("ship", "a")).your_hosts == first.your_hosts
        assert (await client.register_worker("ship", "b")).your_hosts == first.your_hosts

    async def test_the_advertised_host_answers(self, client: Client) -> None:
        (host,) = (await client.register_worker("ship")).your_hosts
        async with grpc.aio.insecure_channel(f"{host.host}:{host.port}") as channel:
            stub: Any = LittleHorseStub(channel)  # type: ignore[no-untyped-call]
            assert (await stub.GetServerVersion(EMPTY)).major_version == 1


class TestPollTask:
    async def test_a_task_scheduled_before_the_poll_is_handed_out(self, client: Client) -> None:
        await ship_orders(client, "r")
        assert run_of(await client.claim("ship")) == "r"

    async def test_a_waiting_request_gets_a_task_scheduled_later(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship") as poller:
            await poller.ask()
            await client.settled()
            await client.run("order", "r")
            assert run_of(await poller.take()) == "r"

    async def test_the_scheduled_task_is_complete(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.execute("ship", thread.declare_str("item"), 3)

        await client.put_task_def("ship", {"what": VariableType.STR, "count": VariableType.INT})
        spec = await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", item="book")
        (task_run,) = await client.task_runs("r")

        task = await client.claim("ship")

        assert task.task_run_id == task_run.id
        assert task.task_def_id == TaskDefId(name="ship")
        assert task.attempt_number == 0
        assert [(variable.var_name, variable.value) for variable in task.variables] == [
            ("what", to_variable_value("book")),
            ("count", to_variable_value(3)),
        ]
        assert task.created_at == task_run.attempts[0].schedule_time
        assert task.source.task_node.node_run_id == (await client.node_run("r", 1)).id
        assert task.source.wf_spec_id == spec.id
        assert task.total_observed_checkpoints == 0

    async def test_the_claim_is_recorded_before_the_response(self, client: Client) -> None:
        await ship_orders(client, "r")
        async with client.poller("ship", "ada", "v7") as poller:
            await poller.ask()
            task_run = await client.task_run((await poller.take()).task_run_id)
        assert task_run.status == TaskStatus.TASK_RUNNING
        (attempt,) = task_run.attempts
        assert attempt.status == TaskStatus.TASK_RUNNING
        assert attempt.task_worker_id == "ada"
        assert attempt.task_worker_version == "v7"
        assert attempt.HasField("start_time")
        assert not attempt.HasField("end_time")

    async def test_the_worker_gets_masked_inputs_in_clear(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.execute("ship", thread.declare_str("secret").masked())

        await client.put_task_def("ship", {"secret": masked(VariableType.STR)})
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", secret="sesame")
        (variable,) = (await client.claim("ship")).variables
        assert variable.value.str == "sesame"
        assert variable.masked

    async def test_tasks_come_oldest_first(self, client: Client) -> None:
        await ship_orders(client, "c", "a", "b")
        async with client.poller("ship") as poller:
            for expected in ("c", "a", "b"):
                await poller.ask()
                assert run_of(await poller.take()) == expected

    async def test_each_request_gets_exactly_one_response(self, client: Client) -> None:
        await ship_orders(client, "a", "b", "c")
        async with client.poller("ship") as poller:
            await poller.ask(2)
            assert [run_of(await poller.take()) for _ in range(2)] == ["a", "b"]
            await client.settled()
            (third,) = await client.task_runs("c")
            assert third.status == TaskStatus.TASK_SCHEDULED
            assert len(poller.received) == 2
            await poller.ask()
            assert run_of(await poller.take()) == "c"

    async def test_nothing_is_sent_while_there_is_no_task(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship") as poller:
            await poller.ask(3)
            await client.settled()
            assert not poller.received
            for wf_run_id in ("a", "b", "c"):
                await client.run("order", wf_run_id)
                assert run_of(await poller.take()) == wf_run_id
            await client.settled()
            assert len(poller.received) == 3

    async def test_waiting_requests_are_served_in_order_over_all_streams(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship", "one") as one, client.poller("ship", "two") as two:
            for poller in (one, two, one):
                await poller.ask()
                await client.settled()
            for wf_run_id in ("a", "b", "c"):
                await client.run("order", wf_run_id)
            assert [run_of(await one.take()) for _ in range(2)] == ["a", "c"]
            assert run_of(await two.take()) == "b"

    async def test_no_task_is_handed_out_twice(self, client: Client) -> None:
        names = [f"r{number}" for number in range(20)]
        await ship_orders(client)
        async with client.poller("ship", "one") as one, client.poller("ship", "two") as two:
            await one.ask(10)
            await two.ask(10)
            for name in names:
                await client.run("order", name)
            taken = [run_of(await poller.take()) for poller in (one, two) for _ in range(10)]
        assert sorted(taken) == sorted(names)

    async def test_a_stream_serves_only_its_task_def(self, client: Client) -> None:
        await client.put_task_def("bill")
        await ship_orders(client, "r")
        await client.register(executes("invoice", "bill"))
        async with client.poller("bill") as poller:
            await poller.ask()
            await client.run("invoice", "i")
            assert run_of(await poller.take()) == "i"
        assert run_of(await client.claim("ship")) == "r"

    async def test_an_unknown_task_def_just_waits_until_it_exists(self, client: Client) -> None:
        async with client.poller("ship") as poller:
            await poller.ask()
            await client.settled()
            await ship_orders(client, "r")
            assert run_of(await poller.take()) == "r"

    async def test_a_half_close_ends_the_stream_with_ok(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship") as poller:
            await poller.ask(2)
            await poller.half_close()
            assert await poller.end() == StatusCode.OK
            assert not poller.received

    async def test_a_half_close_before_any_request_ends_with_ok(self, client: Client) -> None:
        async with client.poller("ship") as poller:
            await poller.half_close()
            assert await poller.end() == StatusCode.OK

    async def test_a_half_close_drops_the_waiting_requests(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship", "gone") as gone:
            await gone.ask(2)
            await gone.half_close()
            await gone.end()
            await client.run("order", "r")
            (task_run,) = await client.task_runs("r")
            assert task_run.status == TaskStatus.TASK_SCHEDULED
            assert run_of(await client.claim("ship", "stays")) == "r"

    async def test_a_half_close_at_once_loses_no_task(self, client: Client) -> None:
        names = [f"r{number}" for number in range(20)]
        await ship_orders(client, *names)
        received: list[str] = []
        for _ in names:
            async with client.poller("ship") as poller:
                await poller.ask()
                await poller.half_close()
                assert await poller.end() == StatusCode.OK
                received += [run_of(response.result) for response in poller.received]

        async def running_are_the_received() -> bool:
            statuses = {name: (await client.task_runs(name))[0].status for name in names}
            return [name for name in names if statuses[name] == TaskStatus.TASK_RUNNING] == sorted(
                received, key=names.index
            )

        await eventually(running_are_the_received)

    async def test_a_half_close_waits_for_the_response_under_way(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.execute("pack", "x" * LARGER_THAN_A_WINDOW)

        await client.put_task_def("pack", {"goods": VariableType.STR})
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")

        async def is_handed_out() -> bool:
            return (await client.task_runs("r"))[0].status == TaskStatus.TASK_RUNNING

        (host,) = (await client.register_worker("pack")).your_hosts
        narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        async with grpc.aio.insecure_channel(f"{host.host}:{host.port}", options=narrow) as channel:
            stub: Any = LittleHorseStub(channel)  # type: ignore[no-untyped-call]
            call = stub.PollTask()
            await call.write(PollTaskRequest(task_def_id=TaskDefId(name="pack"), client_id="slow reader"))
            await eventually(is_handed_out)
            await call.done_writing()
            await client.settled()
            with anyio.fail_after(PATIENCE_SECONDS):
                assert run_of((await call.read()).result) == "r"
                assert await call.code() == StatusCode.OK

    async def test_a_disconnect_loses_no_task_that_was_not_handed_out(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship", "gone") as gone:
            await gone.ask(3)
            await client.settled()
            gone.disconnect()
            await gone.end()
            await client.settled()
        await client.run("order", "a")
        await client.run("order", "b")
        async with client.poller("ship", "stays") as stays:
            await stays.ask(2)
            assert [run_of(await stays.take()) for _ in range(2)] == ["a", "b"]

    async def test_a_disconnect_does_not_disturb_the_other_streams(self, client: Client) -> None:
        await ship_orders(client)
        async with client.poller("ship", "stays") as stays:
            async with client.poller("ship", "gone") as gone:
                await gone.ask()
                await client.settled()
                await stays.ask()
            await client.settled()
            await client.run("order", "r")
            assert run_of(await stays.take()) == "r"

    async def test_a_task_that_was_handed_out_stays_running_when_the_worker_goes(self, client: Client) -> None:
        await ship_orders(client, "r")
        task = await client.claim("ship")  # its stream is cut afterwards
        await client.settled()
        assert (await client.task_run(task.task_run_id)).status == TaskStatus.TASK_RUNNING
        await client.report(task)
        await client.until("r", LHStatus.COMPLETED)


class TestReportTask:
    async def test_a_success_lets_the_run_go_on(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_int("price").assign(thread.execute("quote"))

        await client.put_task_def("quote", returns=VariableType.INT)
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")
        task = await client.claim("quote")
        end = now()
        end.nanos = 123_000_000
        await client.report(task, output=42, time=end, log_output=to_variable_value("fine"))
        await client.until("r", LHStatus.COMPLETED)
        task_run = await client.task_run(task.task_run_id)
        assert task_run.status == TaskStatus.TASK_SUCCESS
        (attempt,) = task_run.attempts
        assert attempt.status == TaskStatus.TASK_SUCCESS
        assert attempt.output.int == 42
        assert attempt.log_output.str == "fine"
        assert attempt.end_time == end
        assert (await client.variable("r", "price")).int == 42

    async def test_a_success_without_output_counts_as_null(self, client: Client) -> None:
        await client.put_task_def("quote", returns=VariableType.INT)
        await client.register(executes("order", "quote"))
        await client.run("order", "r")
        await client.report(await client.claim("quote"))
        await client.until("r", LHStatus.COMPLETED)

    async def test_an_unknown_task_run_is_fine(self, client: Client) -> None:
        unknown = TaskRunId(wf_run_id=WfRunId(id="nobody"), task_guid="0-1")
        await client.stub.ReportTask(
            ReportTaskRun(task_run_id=unknown, time=now(), status=TaskStatus.TASK_SUCCESS, attempt_number=0)
        )

    async def test_an_unknown_attempt_is_fine_and_dropped(self, client: Client) -> None:
        await ship_orders(client, "r")
        task = await client.claim("ship")
        for attempt_number in (1, 7, -1):
            await client.report(task, attempt_number=attempt_number)
        await client.reports_processed("r")
        task_run = await client.task_run(task.task_run_id)
        assert task_run.status == TaskStatus.TASK_RUNNING
        assert len(task_run.attempts) == 1

    async def test_a_duplicate_is_fine_and_dropped(self, client: Client) -> None:
        await client.put_task_def("quote", returns=VariableType.INT)
        await client.register(executes("order", "quote", "quote"))
        await client.run("order", "r")
        task = await client.claim("quote")
        await client.report(task, output=1)
        await client.report(task, output=2)
        await client.report(task, TaskStatus.TASK_FAILED)
        await client.reports_processed("r")
        task_run = await client.task_run(task.task_run_id)
        assert task_run.status == TaskStatus.TASK_SUCCESS
        assert task_run.attempts[0].output.int == 1
        assert [run.status for run in await client.task_runs("r")] == [
            TaskStatus.TASK_SUCCESS,
            TaskStatus.TASK_SCHEDULED,
        ]

    async def test_a_report_for_a_task_nobody_claimed_is_fine_and_dropped(self, client: Client) -> None:
        await ship_orders(client, "r")
        (task_run,) = await client.task_runs("r")
        await client.report(ScheduledTask(task_run_id=task_run.id))
        await client.reports_processed("r")
        assert (await client.task_run(task_run.id)).status == TaskStatus.TASK_SCHEDULED

    async def test_a_report_after_the_timeout_is_fine_and_dropped(self, client: Client) -> None:
        await ship_orders(client, "r", timeout_seconds=1)
        task = await client.claim("ship")
        task_run = await client.until_task(task.task_run_id, TaskStatus.TASK_TIMEOUT)
        (attempt,) = task_run.attempts
        assert attempt.status == TaskStatus.TASK_TIMEOUT
        assert attempt.end_time.ToMilliseconds() - attempt.start_time.ToMilliseconds() == 1000
        await client.report(task)
        await client.reports_processed("r")
        assert await client.task_run(task.task_run_id) == task_run
        assert (await client.wf_run("r")).status == LHStatus.ERROR

    @pytest.mark.parametrize("output", ["seven", 7.5, True, {"a": 1}])
    async def test_an_output_that_does_not_fit_is_a_serde_error(self, client: Client, output: Any) -> None:
        await client.put_task_def("quote", returns=VariableType.INT)
        await client.register(executes("order", "quote", retries=3))
        await client.run("order", "r")
        task = await client.claim("quote")
        await client.report(task, output=output)
        task_run = await client.until_task(task.task_run_id, TaskStatus.TASK_OUTPUT_SERDE_ERROR)
        (attempt,) = task_run.attempts
        assert attempt.error.type == LHErrorType.VAR_SUB_ERROR
        assert attempt.error.message
        assert (await client.until("r", LHStatus.ERROR)).status == LHStatus.ERROR

    @pytest.mark.parametrize("output", [VariableValue(json_obj="{"), VariableValue(json_arr="[1,")])
    async def test_json_that_cannot_be_parsed_is_a_serde_error(self, client: Client, output: VariableValue) -> None:
        kind = VariableType.JSON_OBJ if output.HasField("json_obj") else VariableType.JSON_ARR
        await client.put_task_def("quote", returns=kind)
        await client.register(executes("order", "quote"))
        await client.run("order", "r")
        task = await client.claim("quote")
        await client.stub.ReportTask(
            ReportTaskRun(task_run_id=task.task_run_id, time=now(), status=TaskStatus.TASK_SUCCESS, output=output)
        )
        task_run = await client.until_task(task.task_run_id, TaskStatus.TASK_OUTPUT_SERDE_ERROR)
        assert task_run.attempts[0].error.type == LHErrorType.VAR_SUB_ERROR

    async def test_a_void_return_type_is_not_checked(self, client: Client) -> None:
        await ship_orders(client, "r")
        await client.report(await client.claim("ship"), output="whatever")
        await client.until("r", LHStatus.COMPLETED)

    async def test_a_report_too_large_to_store_is_a_serde_error_and_answers_ok(self, client: Client) -> None:
        await client.put_task_def("quote", returns=VariableType.STR)
        await client.register(executes("order", "quote"))
        await client.run("order", "r")
        task = await client.claim("quote")
        await client.report(task, output="x" * 1_047_001)
        task_run = await client.until_task(task.task_run_id, TaskStatus.TASK_OUTPUT_SERDE_ERROR)
        assert "RESOURCE_EXHAUSTED" in task_run.attempts[0].error.message
        await client.until("r", LHStatus.ERROR)

    async def test_an_exception_is_stored_and_fails_the_run_by_its_name(self, client: Client) -> None:
        await ship_orders(client, "r", retries=3)
        task = await client.claim("ship")
        exception = LHTaskException(name="out-of-stock", message="none left", content=to_variable_value(7))
        await client.report(task, TaskStatus.TASK_EXCEPTION, exception=exception)
        await client.until("r", LHStatus.EXCEPTION)
        (attempt,) = (await client.task_run(task.task_run_id)).attempts
        assert attempt.exception == exception
        (failure,) = (await client.node_run("r", 1)).failures
        assert (failure.failure_name, failure.message, failure.content.int) == ("out-of-stock", "none left", 7)


class TestRetries:
    ERROR = LHTaskError(type=LHErrorType.TASK_ERROR, message="broken")

    async def test_a_failed_attempt_is_queued_again(self, client: Client) -> None:
        await ship_orders(client, "r", retries=1)
        first = await client.claim("ship")
        await client.report(first, TaskStatus.TASK_FAILED, error=self.ERROR)
        second = await client.claim("ship")
        assert second.task_run_id == first.task_run_id
        assert (first.attempt_number, second.attempt_number) == (0, 1)
        task_run = await client.task_run(first.task_run_id)
        assert [attempt.status for attempt in task_run.attempts] == [TaskStatus.TASK_FAILED, TaskStatus.TASK_RUNNING]
        assert task_run.status == TaskStatus.TASK_RUNNING
        assert task_run.total_attempts == 2
        assert task_run.attempts[0].error == self.ERROR
        assert (await client.node_run("r", 1)).status == LHStatus.RUNNING
        await client.report(second)
        await client.until("r", LHStatus.COMPLETED)

    async def test_the_last_failure_fails_the_run(self, client: Client) -> None:
        await ship_orders(client, "r", retries=1)
        for _ in range(2):
            await client.report(await client.claim("ship"), TaskStatus.TASK_FAILED, error=self.ERROR)
        await client.until("r", LHStatus.ERROR)
        (task_run,) = await client.task_runs("r")
        assert task_run.status == TaskStatus.TASK_FAILED
        assert len(task_run.attempts) == 2
        assert (await client.node_run("r", 1)).failures[0].failure_name == "TASK_FAILURE"

    async def test_without_retries_the_first_failure_fails_the_run(self, client: Client) -> None:
        await ship_orders(client, "r")
        await client.report(await client.claim("ship"), TaskStatus.TASK_FAILED, error=self.ERROR)
        await client.until("r", LHStatus.ERROR)

    @pytest.mark.parametrize(
        "status",
        [TaskStatus.TASK_EXCEPTION, TaskStatus.TASK_OUTPUT_SERDE_ERROR, TaskStatus.TASK_INPUT_VAR_SUB_ERROR],
    )
    async def test_other_statuses_are_not_retried(self, client: Client, status: TaskStatus) -> None:
        await ship_orders(client, "r", retries=3)
        task = await client.claim("ship")
        fields: dict[str, Any] = {"error": self.ERROR}
        if status == TaskStatus.TASK_EXCEPTION:
            fields = {"exception": LHTaskException(name="no", message="no")}
        await client.report(task, status, **fields)
        task_run = await client.until_task(task.task_run_id, status)
        assert len(task_run.attempts) == 1

    async def test_a_retry_enters_at_the_tail(self, client: Client) -> None:
        await ship_orders(client, "a", "b", retries=1)
        task = await client.claim("ship")
        assert run_of(task) == "a"
        await client.report(task, TaskStatus.TASK_FAILED)
        await client.reports_processed("a")
        assert [run_of(await client.claim("ship")) for _ in range(2)] == ["b", "a"]

    async def test_a_task_whose_worker_died_is_offered_again_after_its_timeout(self, client: Client) -> None:
        await ship_orders(client, "r", retries=1, timeout_seconds=1)
        await client.claim("ship", "dies")
        task = await client.claim("ship", "lives")
        assert task.attempt_number == 1
        task_run = await client.task_run(task.task_run_id)
        assert [attempt.status for attempt in task_run.attempts] == [TaskStatus.TASK_TIMEOUT, TaskStatus.TASK_RUNNING]
        assert [attempt.task_worker_id for attempt in task_run.attempts] == ["dies", "lives"]

    async def test_an_attempt_after_a_backoff_is_pending_first(self, client: Client) -> None:
        backoff = ExponentialBackoffRetryPolicy(base_interval_ms=60_000, max_delay_ms=60_000, multiplier=2.0)
        await ship_orders(client, "r", retries=1, exponential_backoff=backoff)
        task = await client.claim("ship")
        await client.report(task, TaskStatus.TASK_FAILED)
        task_run = await client.until_task(task.task_run_id, TaskStatus.TASK_PENDING)
        assert [attempt.status for attempt in task_run.attempts] == [TaskStatus.TASK_FAILED, TaskStatus.TASK_PENDING]
        assert task_run.exponential_backoff == backoff

    async def test_an_attempt_is_queued_after_its_backoff(self, client: Client) -> None:
        backoff = ExponentialBackoffRetryPolicy(base_interval_ms=100, max_delay_ms=100, multiplier=1.0)
        await ship_orders(client, "r", retries=1, exponential_backoff=backoff)
        first = await client.claim("ship")
        await client.report(first, TaskStatus.TASK_FAILED)
        second = await client.claim("ship")
        assert (second.task_run_id, second.attempt_number) == (first.task_run_id, 1)
