"""Workers that stay: over a restart of the daemon, and over a long time without work."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import grpc
import littlehorse
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from littlehorse.model import LHStatus, LittleHorseStub, PollTaskRequest, RunWfRequest, TaskDefId, WfRun, WfRunId
from littlehorse.workflow import Workflow, WorkflowThread

from tests.e2e import worker as worker_program
from tests.e2e.process import Daemon, eventually

PING, GOAWAY = 6, 7
ACKNOWLEDGES = 1
PREFACE_BYTES = 24


def announces(thread: WorkflowThread) -> None:
    """Let a worker announce a branch."""
    thread.complete(thread.execute("announce", "feature", "octocat", timeout_seconds=60))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test, which may restart it."""
    daemon = Daemon(tmp_path)
    daemon.start()
    client = daemon.client()
    littlehorse.create_task_def(worker_program.announce, "announce", client)
    littlehorse.create_workflow_spec(Workflow("announces", announces), client)
    yield daemon
    daemon.stop()


@pytest.fixture
def worker(daemon: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """A task worker that runs beside the test."""
    command = [sys.executable, "-m", "tests.e2e.keen_worker", str(daemon.grpc_port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield process
    process.terminate()
    process.wait(10)


def run_to_the_end(daemon: Daemon, wf_run_id: str) -> str:
    """Start a run and wait for its end; its output."""
    stub = daemon.stub()
    stub.RunWf(RunWfRequest(wf_spec_name="announces", id=wf_run_id))

    def look() -> WfRun | None:
        wf_run: WfRun = stub.GetWfRun(WfRunId(id=wf_run_id))
        return None if wf_run.status == LHStatus.RUNNING else wf_run

    return eventually(f"the end of run {wf_run_id}", look).thread_runs[0].output.str


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_worker_that_stays_while_the_daemon_is_restarted_gets_the_next_task(
    daemon: Daemon, worker: "subprocess.Popen[bytes]", end: str
) -> None:
    assert run_to_the_end(daemon, "before") == "octocat made feature"
    daemon.stop() if end == "stop" else daemon.kill()
    daemon.start()
    assert run_to_the_end(daemon, "after") == "octocat made feature"
    assert worker.poll() is None


class Wiretap:
    """Passes HTTP/2 connections on to ``port``, and tells of the clients' pings and the server's goodbyes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tell, self.heard = anyio.create_memory_object_stream[int](100)

    async def serve(self, *, task_status: TaskStatus[int]) -> None:
        """Serve on a port that is told to ``task_status``, until cancelled."""
        async with self._tell, await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
            task_status.started(int(listener.extra(anyio.abc.SocketAttribute.local_port)))
            await listener.serve(self._connect)

    async def _connect(self, client: SocketStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self._port) as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._pass_on, client, server, PING, PREFACE_BYTES)
            tasks.start_soon(self._pass_on, server, client, GOAWAY, 0)

    async def _pass_on(self, source: ByteReceiveStream, sink: ByteSendStream, told: int, preface: int) -> None:
        """Pass whole frames on, until either side is gone, and tell of those that are of the kind ``told``."""
        try:
            buffered = BufferedByteReceiveStream(source)
            await sink.send(await buffered.receive_exactly(preface))
            while True:
                header = await buffered.receive_exactly(9)
                length, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
                await sink.send(header + await buffered.receive_exactly(length))
                if kind == told and not (kind == PING and flags & ACKNOWLEDGES):
                    await self._tell.send(kind)
        except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            await sink.aclose()


async def test_an_idle_stream_outlives_the_pings_of_its_client_and_then_gets_a_task(daemon: Daemon) -> None:
    wiretap = Wiretap(daemon.grpc_port)
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, wiretap.heard:
            port = await tasks.start(wiretap.serve)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
                stub = LittleHorseStub(channel)  # type: ignore[no-untyped-call] # generated code
                poll = stub.PollTask()
                await poll.write(PollTaskRequest(task_def_id=TaskDefId(name="announce"), client_id="patient"))
                heard = [await wiretap.heard.receive() for _ in range(8)]
                assert heard == [PING] * 8
                assert not poll.done()

                async with grpc.aio.insecure_channel(f"127.0.0.1:{daemon.grpc_port}") as beside:
                    other = LittleHorseStub(beside)  # type: ignore[no-untyped-call] # generated code
                    await other.RunWf(RunWfRequest(wf_spec_name="announces", id="after-the-pings"))
                response = await poll.read()
                assert response.result.task_run_id.wf_run_id.id == "after-the-pings"
                poll.cancel()
            tasks.cancel_scope.cancel()
