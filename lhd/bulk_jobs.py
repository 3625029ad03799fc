"""Runs bulk jobs in the background, slice by slice; after a restart a job begins again and finds what is left."""

import anyio
from littlehorse.model import BulkJob

from lhd.core import kinds
from lhd.core.commands import Command
from lhd.core.commands.bulk_jobs import DeleteRuns, FinishBulkJob
from lhd.core.ids import milliseconds, parse_wf_run_id
from lhd.engine import Engine
from lhd.errors import Rejection
from lhd.store import Reader

_SLICE = 20
"""WfRuns in one command: what is deleted at once keeps everybody else waiting."""
_RETRY_S = 5.0


class BulkJobs:
    """One job after the other."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader

    async def run(self) -> None:
        """Do what is to be done, whenever a job is created, until cancelled."""
        with self._engine.committed.waiting((kinds.BULK_JOB, ())) as waiting:
            while True:
                try:
                    await self._run_all()
                except Rejection:
                    await anyio.sleep(_RETRY_S)
                    continue
                await waiting.wait()

    async def _run_all(self) -> None:
        for tenant, body in await self._reader.fetch("SELECT tenant, body FROM bulk_job WHERE status = 0"):
            job = BulkJob.FromString(body)
            await self._delete_runs(tenant, job)
            await self._engine.submit(Command(tenant, FinishBulkJob(job.id.id)))

    async def _delete_runs(self, tenant: str, job: BulkJob) -> None:
        wanted = job.bulk_delete_wf_run
        seen: tuple[int, str] = (-1, "")
        while True:
            rows = await self._reader.fetch(
                "SELECT start_ms, run FROM wf_run WHERE tenant = ? AND wf_spec_name = ? AND status = ? "
                "AND start_ms BETWEEN ? AND ? AND (start_ms, run) > (?, ?) ORDER BY start_ms, run LIMIT ?",
                (
                    tenant,
                    wanted.wf_spec_name,
                    wanted.wf_run_status,
                    kinds.storable_ms(milliseconds(wanted.earliest_start)),
                    kinds.storable_ms(milliseconds(wanted.latest_start)),
                    *seen,
                    _SLICE,
                ),
            )
            if not rows:
                return
            seen = rows[-1][0], rows[-1][1]
            ids = tuple(parse_wf_run_id(run) for _, run in rows)
            await self._engine.submit(Command(tenant, DeleteRuns(ids, wanted.wf_run_status)))
