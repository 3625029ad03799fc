"""Stories of failures: sagas that compensate, deadlines that escalate, tasks that go on from their last checkpoint."""

from typing import Any

from littlehorse.exceptions import LHTaskException
from littlehorse.model import (
    CheckpointId,
    LHErrorType,
    LHStatus,
    PutCheckpointRequest,
    PutCheckpointResponse,
    TaskRunId,
    TaskStatus,
)
from littlehorse.utils import to_variable_value
from littlehorse.worker import CheckpointContext, WorkerContext
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, executes, is_missing
from tests.api.test_story_threads import node_of, nodes_of, one_task, working


class Travels:
    """The workers of a travel agency; ``done`` is what they did, in order, and ``broken`` what they cannot do."""

    def __init__(self, *broken: str) -> None:
        self.done: list[str] = []
        self.broken = set(broken)

    def act(self, what: str) -> str:
        if what in self.broken:
            raise RuntimeError(f"cannot {what}")
        self.done.append(what)
        return f"confirmed {what}"

    async def book_flight(self, traveller: str) -> str:
        return self.act(f"book flight for {traveller}")

    async def book_hotel(self, traveller: str) -> str:
        return self.act(f"book hotel for {traveller}")

    async def cancel_flight(self, confirmation: str) -> None:
        self.act(f"cancel {confirmation}")

    async def notify(self, traveller: str) -> None:
        self.act(f"notify {traveller}")

    def working(self, client: Client) -> Any:
        return working(client, self.book_flight, self.book_hotel, self.cancel_flight, self.notify)


def trip(*, gives_up: bool = False) -> Workflow:
    """Book a flight, then a hotel; without a hotel the flight is cancelled, and the trip may be given up."""

    def entrypoint(thread: WorkflowThread) -> None:
        traveller = thread.declare_str("traveller").required()
        flight = thread.declare_str("flight")
        flight.assign(thread.execute("book-flight", traveller))
        hotel = thread.execute("book-hotel", traveller)

        def compensate(handler: WorkflowThread) -> None:
            handler.execute("cancel-flight", flight)
            if gives_up:
                handler.fail("no-hotel", "the trip was given up", flight)

        thread.handle_error(hotel, compensate, LHErrorType.TASK_FAILURE)
        thread.execute("notify", traveller)

    return Workflow("trip", entrypoint)


class TestSaga:
    async def test_without_a_failure_nothing_is_compensated(self, client: Client) -> None:
        travels = Travels()
        async with travels.working(client):
            await client.register(trip())
            await client.run("trip", "r", traveller="Ada")
            run = await client.until("r", LHStatus.COMPLETED)
        assert travels.done == ["book flight for Ada", "book hotel for Ada", "notify Ada"]
        assert len(run.thread_runs) == 1

    async def test_a_step_that_fails_is_compensated_and_the_run_completes(self, client: Client) -> None:
        travels = Travels("book hotel for Ada")
        async with travels.working(client):
            await client.register(trip())
            await client.run("trip", "r", traveller="Ada")
            run = await client.until("r", LHStatus.COMPLETED)
        assert travels.done == ["book flight for Ada", "cancel confirmed book flight for Ada", "notify Ada"]

        hotel = await client.node_run("r", 2)
        assert hotel.status == LHStatus.ERROR
        (failure,) = hotel.failures
        assert failure.failure_name == "TASK_FAILURE"
        assert failure.was_properly_handled
        assert failure.failure_handler_threadrun_id == 1
        assert run.thread_runs[1].status == LHStatus.COMPLETED

    async def test_a_handler_may_compensate_and_then_give_up(self, client: Client) -> None:
        travels = Travels("book hotel for Ada")
        async with travels.working(client):
            await client.register(trip(gives_up=True))
            await client.run("trip", "r", traveller="Ada")
            run = await client.until("r", LHStatus.EXCEPTION)
        assert travels.done == ["book flight for Ada", "cancel confirmed book flight for Ada"]
        assert "the trip was given up" in run.thread_runs[0].error_message
        (failure,) = (await client.node_run("r", 2)).failures
        assert failure.failure_name == "TASK_FAILURE"
        assert not failure.was_properly_handled

    async def test_a_compensation_that_fails_ends_the_run(self, client: Client) -> None:
        travels = Travels("book hotel for Ada", "cancel confirmed book flight for Ada")
        async with travels.working(client):
            await client.register(trip())
            await client.run("trip", "r", traveller="Ada")
            run = await client.until("r", LHStatus.ERROR)
        assert travels.done == ["book flight for Ada"]
        assert [thread.status for thread in run.thread_runs] == [LHStatus.ERROR, LHStatus.ERROR]

    async def test_a_step_that_succeeds_on_its_retry_needs_no_compensation(self, client: Client) -> None:
        def order(thread: WorkflowThread) -> None:
            charge = thread.execute("charge", retries=1)
            thread.handle_any_failure(charge, one_task("refund"))

        attempts: list[int] = []

        async def charge(context: WorkerContext) -> None:
            attempts.append(context.attempt_number)
            if context.attempt_number == 0:
                raise ConnectionError("the bank does not answer")

        async def refund() -> None:
            raise AssertionError("there is nothing to refund")

        async with working(client, charge, refund):
            await client.register(Workflow("order", order))
            await client.run("order", "r")
            run = await client.until("r", LHStatus.COMPLETED)
        assert attempts == [0, 1]
        assert len(run.thread_runs) == 1
        assert not (await client.node_run("r", 1)).failures


class TestBusinessFailures:
    @staticmethod
    def order(thread: WorkflowThread) -> None:
        """Only a declined card is handled: the goods go back, and the customer hears why."""
        item = thread.declare_str("item").required()
        charge = thread.execute("charge", item)

        def declined(handler: WorkflowThread) -> None:
            handler.execute("restock", item, handler.declare_str("INPUT"))

        thread.handle_exception(charge, declined, "card-declined")

    async def test_the_handler_gets_what_the_task_threw(self, client: Client) -> None:
        restocked: list[tuple[str, str]] = []

        async def charge(item: str) -> None:
            raise LHTaskException("card-declined", "no", to_variable_value("the limit is reached"))

        async def restock(item: str, reason: str) -> None:
            restocked.append((item, reason))

        async with working(client, charge, restock):
            await client.register(Workflow("order", self.order))
            await client.run("order", "r", item="book")
            await client.until("r", LHStatus.COMPLETED)
        assert restocked == [("book", "the limit is reached")]
        charged = await client.node_run("r", 1)
        assert charged.status == LHStatus.EXCEPTION
        assert charged.failures[0].was_properly_handled

    async def test_another_exception_is_not_handled_and_ends_the_run(self, client: Client) -> None:
        async def charge(item: str) -> None:
            raise LHTaskException("card-stolen", "call the police")

        async def restock(item: str, reason: str) -> None:
            raise AssertionError("a stolen card is no declined card")

        async with working(client, charge, restock):
            await client.register(Workflow("order", self.order))
            await client.run("order", "r", item="book")
            run = await client.until("r", LHStatus.EXCEPTION)
        assert len(run.thread_runs) == 1
        (failure,) = (await client.node_run("r", 1)).failures
        assert (failure.failure_name, failure.message) == ("card-stolen", "call the police")


class TestDeadline:
    @staticmethod
    def approval(thread: WorkflowThread) -> None:
        answer = thread.wait_for_event("approved", timeout=1, return_type=str)
        thread.handle_error(answer, one_task("escalate"), LHErrorType.TIMEOUT)
        thread.execute("file")

    async def test_an_approval_that_does_not_come_in_time_is_escalated_and_the_run_goes_on(
        self, client: Client
    ) -> None:
        done: list[str] = []

        async def escalate() -> None:
            done.append("escalate")

        async def file() -> None:
            done.append("file")

        async with working(client, escalate, file):
            await client.register(Workflow("approval", self.approval))
            await client.run("approval", "r")
            await client.until("r", LHStatus.COMPLETED)
        assert done == ["escalate", "file"]
        wait = await node_of(client, "external_event")
        assert wait.status == LHStatus.ERROR
        assert wait.external_event.timed_out

        await client.post("approved", "yes", run="r", guid="late")
        assert not (await client.external_event("r", "approved", "late")).claimed

    async def test_an_approval_that_was_there_before_the_run_is_not_escalated(self, client: Client) -> None:
        for task_def in ("escalate", "file"):
            await client.put_task_def(task_def)
        await client.register(Workflow("approval", self.approval))
        await client.post("approved", "yes", run="r")
        await client.run("approval", "r")
        assert (await client.claim("file")).task_run_id.wf_run_id.id == "r"
        assert (await node_of(client, "external_event")).status == LHStatus.COMPLETED


class TestCheckpoints:
    async def test_a_retry_goes_on_from_the_last_checkpoint(self, client: Client) -> None:
        def upload(thread: WorkflowThread) -> None:
            thread.complete(thread.execute("convert", retries=1))

        steps: list[str] = []

        async def convert(context: WorkerContext) -> str:
            def download(checkpoint: CheckpointContext) -> str:
                steps.append("download")
                checkpoint.log("3 rows came")
                return "3 rows"

            def validate(checkpoint: CheckpointContext) -> int:
                steps.append("validate")
                return 2

            rows = await context.execute_and_checkpoint(download)
            if context.attempt_number == 0:
                raise ConnectionError("the network is gone")
            valid = await context.execute_and_checkpoint(validate)
            return f"{valid} of {rows}"

        async with working(client, convert):
            await client.register(Workflow("upload", upload))
            await client.run("upload", "r")
            run = await client.until("r", LHStatus.COMPLETED)
        assert steps == ["download", "validate"]
        assert run.thread_runs[0].output.str == "2 of 3 rows"

        (task_run,) = await client.task_runs("r")
        assert [attempt.status for attempt in task_run.attempts] == [TaskStatus.TASK_FAILED, TaskStatus.TASK_SUCCESS]
        assert task_run.total_checkpoints == 2
        first = await client.stub.GetCheckpoint(CheckpointId(task_run=task_run.id, checkpoint_number=0))
        assert first.value.str == "3 rows"
        assert "3 rows came" in first.logs
        second = await client.stub.GetCheckpoint(CheckpointId(task_run=task_run.id, checkpoint_number=1))
        assert second.value.int == 2
        assert await is_missing(client.stub.GetCheckpoint(CheckpointId(task_run=task_run.id, checkpoint_number=2)))

    async def test_a_worker_that_was_too_slow_is_told_to_stop_and_its_successor_knows_its_checkpoints(
        self, client: Client
    ) -> None:
        await client.put_task_def("convert")
        await client.register(executes("upload", "convert", timeout_seconds=1, retries=1))
        await client.run("upload", "r")

        async def checkpoint(task_run_id: TaskRunId, attempt: int, value: str) -> PutCheckpointResponse:
            reply: PutCheckpointResponse = await client.stub.PutCheckpoint(
                PutCheckpointRequest(task_run_id=task_run_id, task_attempt=attempt, value=to_variable_value(value))
            )
            return reply

        slow = await client.claim("convert", "slow")
        kept = await checkpoint(slow.task_run_id, 0, "half")
        assert kept.flow_control_continue_type == PutCheckpointResponse.CONTINUE_TASK
        assert kept.created_checkpoint.id == CheckpointId(task_run=slow.task_run_id, checkpoint_number=0)
        assert kept.created_checkpoint.value.str == "half"

        successor = await client.claim("convert", "successor")
        assert (successor.attempt_number, successor.total_observed_checkpoints) == (1, 1)

        late = await checkpoint(slow.task_run_id, 0, "all")
        assert late.flow_control_continue_type == PutCheckpointResponse.STOP_TASK
        assert not late.HasField("created_checkpoint")
        assert (await client.task_run(slow.task_run_id)).total_checkpoints == 1

        await client.report(successor)
        await client.until("r", LHStatus.COMPLETED)

    async def test_the_checkpoints_go_with_their_run(self, client: Client) -> None:
        def upload(thread: WorkflowThread) -> None:
            thread.execute("convert")

        async def convert(context: WorkerContext) -> str:
            output: str = await context.execute_and_checkpoint(lambda checkpoint: "done")
            return output

        async with working(client, convert):
            await client.register(Workflow("upload", upload))
            await client.run("upload", "r")
            await client.until("r", LHStatus.COMPLETED)
        (converted,) = await nodes_of(client, "task")
        checkpoint_id = CheckpointId(task_run=converted.task.task_run_id, checkpoint_number=0)
        assert (await client.stub.GetCheckpoint(checkpoint_id)).value.str == "done"
        await client.delete("r")
        assert await is_missing(client.stub.GetCheckpoint(checkpoint_id))
