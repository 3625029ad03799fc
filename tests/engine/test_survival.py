"""What could end the engine, keep it from starting again, or let its memory grow."""

from pathlib import Path
from typing import Any

import anyio
from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    BulkDeleteWfRun,
    BulkJobStatus,
    CreateBulkJobRequest,
    ExponentialBackoffRetryPolicy,
    LHStatus,
    PutWfSpecRequest,
    ReportTaskRun,
    RunWfRequest,
    TaskStatus,
)
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.bulk_jobs import BulkJobs
from lhd.core import kinds
from lhd.core.commands import Command
from lhd.core.commands.deliveries import Deliver, Delivery
from lhd.core.records import LaneId
from lhd.engine import Engine
from lhd.store import Store
from lhd.tasks import Poll
from tests.engine.test_engine import PATIENCE_S, TENANT, command, event_def, put_event, running, task_def

INSTANT_MAX, INSTANT_MIN = Timestamp(seconds=31_556_889_864_403_199), Timestamp(seconds=-31_557_014_167_219_200)
"""The first and the last moment that Java clients can name; protobuf and SQLite hold less."""


async def put_task_workflow(engine: Engine, **retries: Any) -> None:
    """The workflow ``works``: one task ``t``."""
    await engine.submit(command(task_def("t")))

    def entrypoint(thread: WorkflowThread) -> None:
        thread.execute("t")

    request: PutWfSpecRequest = Workflow("works", entrypoint).compile()
    nodes = request.thread_specs["entrypoint"].nodes
    for name in [name for name in nodes if nodes[name].HasField("task")]:
        nodes[name].task.MergeFrom(type(nodes[name].task)(**retries))
    await engine.submit(command(request))


async def claimed(engine: Engine) -> Any:
    """The next task ``t``, as a worker gets it."""
    done, given = anyio.Event(), []

    def deliver(_: Poll, task: Any) -> None:
        given.append(task)
        done.set()

    await engine.poll(Poll(TENANT, "t", "worker", None, deliver))
    with anyio.fail_after(PATIENCE_S):
        await done.wait()
    return given[0]


async def test_a_worker_that_leaves_while_its_task_is_read_takes_nothing_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await put_task_workflow(engine)
        await engine.submit(command(RunWfRequest(wf_spec_name="works", id="r")))

    left = anyio.Event()
    poll = Poll(TENANT, "t", "worker", None, lambda *_: None)

    class LeftWhileReading(Store):
        """A store during whose first read the worker's stream ends."""

        async def load_lanes(self, lanes: list[LaneId]) -> Any:
            if not left.is_set():
                left.set()
                poll.gone = True
                engine.queues.forget({poll})
            return await super().load_lanes(lanes)

    async with running(tmp_path) as engine:
        engine.store.__class__ = LeftWhileReading
        await engine.poll(poll)
        with anyio.fail_after(PATIENCE_S):
            await left.wait()
        await engine.submit(command(task_def("later")))


async def test_a_bulk_job_until_the_end_of_time_deletes_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, anyio.create_task_group() as tasks:
        await engine.submit(command(Workflow("empty", lambda _: None).compile()))
        await engine.submit(command(RunWfRequest(wf_spec_name="empty", id="r")))
        status = LHStatus.COMPLETED
        wanted = BulkDeleteWfRun(
            wf_spec_name="empty", wf_run_status=status, earliest_start=INSTANT_MIN, latest_start=INSTANT_MAX
        )
        await engine.submit(command(CreateBulkJobRequest(id="job", bulk_delete_wf_run=wanted)))
        reader = await engine.store.reader()
        tasks.start_soon(BulkJobs(engine, reader).run)
        with engine.committed.waiting((kinds.BULK_JOB, ())) as waiting, anyio.fail_after(PATIENCE_S):
            while (await reader.get(kinds.BULK_JOB, (TENANT, "job"))).status != BulkJobStatus.BULK_JOB_COMPLETED:
                await waiting.wait()
        assert await reader.get(kinds.WF_RUN, (TENANT, "r")) is None
        tasks.cancel_scope.cancel()
        await reader.close()


async def test_a_report_from_before_the_calendar_is_stored_with_the_daemons_time(tmp_path: Path) -> None:
    policy = ExponentialBackoffRetryPolicy(base_interval_ms=1, multiplier=1, max_delay_ms=1)
    async with running(tmp_path) as engine:
        await put_task_workflow(engine, retries=1, exponential_backoff=policy)
        await engine.submit(command(RunWfRequest(wf_spec_name="works", id="r")))
        task = await claimed(engine)
        failed = ReportTaskRun(task_run_id=task.task_run_id, status=TaskStatus.TASK_FAILED, time=INSTANT_MIN)
        await engine.submit(command(failed))
        assert (await claimed(engine)).attempt_number == 1
        reader = await engine.store.reader()
        stored = await reader.get(kinds.TASK_RUN, (TENANT, "r", task.task_run_id.task_guid))
        await reader.close()
        assert stored.attempts[0].end_time.seconds >= stored.attempts[0].start_time.seconds


def delivery(run: str) -> Delivery:
    return Delivery(run, run.encode(), put_event(run, run), "0", b"{}", "")


async def test_a_delivery_for_very_many_runs_is_one_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.submit(command(event_def("approved")))
        everything = tuple(delivery(f"run-{number}") for number in range(1_500))
        decisions = await engine.submit(Command(TENANT, Deliver("source", everything, None)))
        assert {decision.verdict for decision in decisions} == {"accepted"}


async def test_a_run_that_gets_events_for_years_is_no_larger_in_memory(tmp_path: Path) -> None:
    def entrypoint(thread: WorkflowThread) -> None:
        thread.add_interrupt_handler("poke", lambda _: None)
        thread.wait_for_event("approved")

    async with running(tmp_path) as engine:
        for name in ("approved", "poke"):
            await engine.submit(command(event_def(name)))
        await engine.submit(command(Workflow("waits", entrypoint).compile()))
        await engine.submit(command(RunWfRequest(wf_spec_name="waits", id="r")))

        async def poke(number: int) -> int:
            request = put_event("r", f"poke-{number}", "poke")
            poked = Delivery(f"poke-{number}", f"{number}".encode(), request, "0", b"{}", "")
            await engine.submit(Command(TENANT, Deliver("source", (poked,), None)))
            records = engine._memory._lanes[LaneId("run", (TENANT, "r"))].records
            return sum(len(rows) for kind, rows in records.items() if kind is not kinds.EXTERNAL_EVENT)

        before = await poke(0)
        for number in range(1, 20):
            after = await poke(number)
        assert after <= before + 1
