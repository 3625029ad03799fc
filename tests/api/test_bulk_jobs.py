"""Bulk jobs: api.md 12.1, and their search by 9.1 and 9.4.

Not tested: the refusal to delete a RUNNING job and a FAILED job (nobody outside can hold a job in these states), an
unset time (the code is open), an unknown WfSpec, and the division into subprocesses (free).
"""

import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    BulkDeleteWfRun,
    BulkJob,
    BulkJobId,
    BulkJobStatus,
    CreateBulkJobRequest,
    DeleteBulkJobRequest,
    GetBulkJobRequest,
    LHStatus,
    SearchBulkJobRequest,
    SearchWfRunRequest,
    StopWfRunRequest,
    WfRun,
    WfRunId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, eventually, is_missing, now, only_exit, refused_with, waits_for

LONG_AGO = Timestamp(seconds=1)
FAR_AHEAD = Timestamp(seconds=4_102_444_800)


def fails(name: str) -> Workflow:
    """A workflow that ends as EXCEPTION."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.fail("out-of-stock", "nothing left")

    return Workflow(name, entrypoint)


def breaks(name: str) -> Workflow:
    """A workflow that ends as ERROR."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.sleep(thread.declare_int("seconds"))

    return Workflow(name, entrypoint)


def operation(**criteria: Any) -> BulkDeleteWfRun:
    """The deletion of all COMPLETED runs of ``order``, or what ``criteria`` say instead."""
    whole: dict[str, Any] = {
        "wf_spec_name": "order",
        "earliest_start": LONG_AGO,
        "latest_start": FAR_AHEAD,
        "wf_run_status": LHStatus.COMPLETED,
    }
    return BulkDeleteWfRun(**whole | criteria)


async def create(client: Client, job_id: str | None = None, **criteria: Any) -> BulkJob:
    reply: BulkJob = await client.stub.CreateBulkJob(
        CreateBulkJobRequest(id=job_id, bulk_delete_wf_run=operation(**criteria))
    )
    return reply


async def stored(client: Client, job_id: str) -> BulkJob:
    reply: BulkJob = await client.stub.GetBulkJob(GetBulkJobRequest(id=BulkJobId(id=job_id)))
    return reply


async def until_done(client: Client, job_id: str) -> BulkJob:
    """The job, as soon as it is COMPLETED."""

    async def done() -> bool:
        return (await stored(client, job_id)).status == BulkJobStatus.BULK_JOB_COMPLETED

    await eventually(done)
    return await stored(client, job_id)


async def deletes(client: Client, job_id: str | None = None, **criteria: Any) -> BulkJob:
    """Create a job and wait for its end."""
    return await until_done(client, (await create(client, job_id, **criteria)).id.id)


async def delete(client: Client, job_id: str) -> None:
    await client.stub.DeleteBulkJob(DeleteBulkJobRequest(id=BulkJobId(id=job_id)))


async def run_ids(client: Client) -> set[str]:
    """The ids of all WfRuns."""
    pages = await client.pages("SearchWfRun", SearchWfRunRequest())
    return {found.id for page in pages for found in page}


async def one_run_of_each_status(client: Client) -> None:
    """Runs of ``order`` whose ids are their statuses, each of another revision."""
    await client.put_event_def("paid")
    await client.register(only_exit("order"))
    await client.run("order", "COMPLETED")
    await client.register(fails("order"))
    await client.run("order", "EXCEPTION")
    await client.register(breaks("order"))
    await client.run("order", "ERROR")
    await client.register(waits_for("order", "paid"))
    await client.run("order", "RUNNING")
    await client.run("order", "HALTED")
    await client.stub.StopWfRun(StopWfRunRequest(wf_run_id=WfRunId(id="HALTED")))
    for status in ("COMPLETED", "EXCEPTION", "ERROR", "RUNNING", "HALTED"):
        assert (await client.wf_run(status)).status == LHStatus.Value(status)


class TestCreate:
    async def test_the_job_is_returned_and_found(self, client: Client) -> None:
        await client.register(only_exit("order"))
        before = now().ToMilliseconds()
        reply = await create(client, "cleanup")
        assert reply.id == BulkJobId(id="cleanup")
        assert before <= reply.created_at.ToMilliseconds() <= now().ToMilliseconds()
        assert reply.status in (BulkJobStatus.BULK_JOB_RUNNING, BulkJobStatus.BULK_JOB_COMPLETED)
        assert reply.bulk_delete_wf_run == operation()
        done = await until_done(client, "cleanup")
        assert (done.id, done.created_at) == (reply.id, reply.created_at)
        assert done.bulk_delete_wf_run == operation()

    async def test_the_id_is_generated_when_unset(self, client: Client) -> None:
        await client.register(only_exit("order"))
        first, second = await create(client), await create(client)
        assert re.fullmatch("[0-9a-f]{32}", first.id.id)
        assert first.id != second.id

    async def test_an_existing_id_returns_the_existing_job_and_does_no_new_work(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(only_exit("refund"))
        first = await deletes(client, job_id="cleanup")
        await client.run("order", "r")
        assert await create(client, "cleanup") == first
        assert await create(client, "cleanup", wf_run_status=LHStatus.ERROR) == first
        await deletes(client, job_id="another", wf_spec_name="refund")
        assert await run_ids(client) == {"r"}
        assert await stored(client, "cleanup") == first

    @pytest.mark.parametrize(
        "criteria",
        [
            {"wf_spec_name": ""},
            {"wf_spec_name": "  "},
            {"earliest_start": Timestamp(seconds=1001), "latest_start": Timestamp(seconds=1000)},
            {
                "earliest_start": Timestamp(seconds=1000, nanos=2_000_000),
                "latest_start": Timestamp(seconds=1000, nanos=1_000_000),
            },
            {"wf_run_status": LHStatus.STARTING},
            {"wf_run_status": LHStatus.RUNNING},
            {"wf_run_status": LHStatus.HALTING},
            {"wf_run_status": None},
        ],
    )
    async def test_bad_criteria_are_refused(self, client: Client, criteria: dict[str, Any]) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(create(client, "cleanup", **criteria)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client, "cleanup"))

    async def test_a_job_without_an_operation_is_refused(self, client: Client) -> None:
        call = client.stub.CreateBulkJob(CreateBulkJobRequest(id="cleanup"))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(stored(client, "cleanup"))


class TestDeletion:
    @pytest.mark.parametrize("status", ["COMPLETED", "HALTED", "ERROR", "EXCEPTION"])
    async def test_only_runs_of_the_status_are_deleted(self, client: Client, status: str) -> None:
        await one_run_of_each_status(client)
        await deletes(client, wf_run_status=LHStatus.Value(status))
        assert await run_ids(client) == {"COMPLETED", "HALTED", "ERROR", "EXCEPTION", "RUNNING"} - {status}

    async def test_the_runs_are_gone_with_what_belongs_to_them(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r", guid="g")
        await deletes(client)
        assert await is_missing(client.wf_run("r"))
        assert await client.node_runs("r") == []
        assert await is_missing(client.external_event("r", "paid", "g"))

    async def test_runs_of_every_version_of_the_wf_spec_are_deleted_and_no_others(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_int("count").as_public()

        for name in ("order", "orders", "Order"):
            await client.register(only_exit(name))
            await client.run(name, f"{name}-1")
        assert (await client.register(Workflow("order", entrypoint))).id.major_version == 1
        await client.run("order", "order-2")
        await deletes(client)
        assert await run_ids(client) == {"orders-1", "Order-1"}

    @pytest.mark.parametrize(("first", "last"), [(0, 4), (1, 3), (2, 2), (0, 0), (4, 4)])
    async def test_the_range_of_start_times_is_inclusive(self, client: Client, first: int, last: int) -> None:
        await client.register(only_exit("order"))
        runs = [await client.run("order", f"r{number}") for number in range(5)]
        earliest, latest = runs[first].start_time, runs[last].start_time

        def in_range(run: WfRun) -> bool:
            return earliest.ToMilliseconds() <= run.start_time.ToMilliseconds() <= latest.ToMilliseconds()

        await deletes(client, earliest_start=earliest, latest_start=latest)
        assert await run_ids(client) == {run.id.id for run in runs if not in_range(run)}

    async def test_a_job_that_finds_nothing_completes(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        await deletes(client, latest_start=Timestamp(seconds=2))
        assert await run_ids(client) == {"r"}

    async def test_runs_started_after_the_job_completed_are_kept(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.register(only_exit("refund"))
        await deletes(client, job_id="cleanup")
        await client.run("order", "r")
        await deletes(client, wf_spec_name="refund")
        assert await run_ids(client) == {"r"}


class TestGetAndDelete:
    async def test_get_of_a_missing_job_is_not_found(self, client: Client) -> None:
        assert await refused_with(stored(client, "nope")) == StatusCode.NOT_FOUND

    async def test_delete_of_a_missing_job_is_not_found(self, client: Client) -> None:
        assert await refused_with(delete(client, "nope")) == StatusCode.NOT_FOUND

    async def test_a_deleted_job_is_gone(self, client: Client) -> None:
        await client.register(only_exit("order"))
        for name in ("a", "b"):
            await deletes(client, job_id=name)
        await delete(client, "a")
        assert await refused_with(stored(client, "a")) == StatusCode.NOT_FOUND
        assert await refused_with(delete(client, "a")) == StatusCode.NOT_FOUND
        assert await found(client) == ["b"]

    async def test_the_id_of_a_deleted_job_does_new_work(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await deletes(client, job_id="cleanup")
        await delete(client, "cleanup")
        await client.run("order", "r")
        await deletes(client, job_id="cleanup")
        assert await run_ids(client) == set()


async def found(client: Client, **criteria: Any) -> list[str]:
    """The jobs that a search finds in all its pages."""
    pages = await client.pages("SearchBulkJob", SearchBulkJobRequest(**criteria))
    assert all(len(page) == criteria["limit"] for page in pages[:-1])
    return [job.id for page in pages for job in page]


class TestSearch:
    async def test_nothing_found_is_an_empty_page(self, client: Client) -> None:
        reply = await client.stub.SearchBulkJob(SearchBulkJobRequest())
        assert not reply.results
        assert not reply.HasField("bookmark")

    @pytest.mark.parametrize("criteria", [{}, {"status": BulkJobStatus.BULK_JOB_COMPLETED}])
    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_pages_join_to_all_jobs_in_the_order_of_their_creation(
        self, client: Client, criteria: dict[str, Any], limit: int
    ) -> None:
        await client.register(only_exit("order"))
        jobs = [await deletes(client, job_id=name) for name in ("c", "a", "e", "b", "d")]
        jobs.sort(key=lambda job: (job.created_at.ToMilliseconds(), job.id.id))
        assert await found(client, limit=limit, **criteria) == [job.id.id for job in jobs]

    @pytest.mark.parametrize("status", [BulkJobStatus.BULK_JOB_RUNNING, BulkJobStatus.BULK_JOB_FAILED])
    async def test_the_status_filters(self, client: Client, status: BulkJobStatus) -> None:
        await client.register(only_exit("order"))
        await deletes(client, job_id="a")
        assert await found(client, status=status) == []
        assert await found(client, status=BulkJobStatus.BULK_JOB_COMPLETED) == ["a"]

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        assert await refused_with(found(client, limit=-1)) == StatusCode.INVALID_ARGUMENT
