"""The process is killed, and nothing that was acknowledged is lost or done twice."""

import http.client
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from littlehorse.model import LHStatus, ListExternalEventsRequest, WfRun, WfRunId

from tests.e2e.process import Daemon, eventually

Run = Callable[..., WfRun]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test, which may kill it."""
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.stop()


def test_killed_between_commit_and_answer_the_run_goes_on_and_the_repeat_is_a_duplicate(
    daemon: Daemon, run: Run
) -> None:
    run("on-approval", "survivor")
    daemon.stop()
    daemon.program = (str(Path(__file__).parent / "commit_then_die.py"),)
    daemon.start()
    delivery = str(uuid.uuid4())
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        daemon.hook({"run": "survivor", "value": "yes"}, event="typed", delivery=delivery)
    daemon.process.wait(10)

    daemon.program = ("-m", "lhd")
    daemon.start()
    wf_run = daemon.stub().GetWfRun(WfRunId(id="survivor"))
    assert wf_run.status == LHStatus.COMPLETED
    assert wf_run.thread_runs[0].output.str == "yes"
    status, answer = daemon.hook({"run": "survivor", "value": "yes"}, event="typed", delivery=delivery)
    assert (status, answer["verdict"]) == (200, "duplicate")
    events = daemon.stub().ListExternalEvents(ListExternalEventsRequest(wf_run_id=WfRunId(id="survivor")))
    assert len(events.results) == 1


def test_killed_with_a_task_on_the_queue_the_task_is_offered_again(
    daemon: Daemon, run: Run, request: pytest.FixtureRequest
) -> None:
    run("on-branch", "queued", branch="q")
    assert daemon.branch_created("q")[0] == 202
    daemon.kill()
    daemon.start()
    request.getfixturevalue("worker")
    stub = daemon.stub()

    def completed() -> str | None:
        wf_run = stub.GetWfRun(WfRunId(id="queued"))
        return wf_run.thread_runs[0].output.str if wf_run.status == LHStatus.COMPLETED else None

    assert eventually("the run to complete", completed) == "octocat made q"


def test_killed_while_a_run_waits_its_timeout_still_comes(daemon: Daemon, run: Run) -> None:
    run("on-deadline", "timer")
    daemon.kill()
    daemon.start()
    stub = daemon.stub()

    def status() -> int | None:
        found = int(stub.GetWfRun(WfRunId(id="timer")).status)
        return None if found == LHStatus.RUNNING else found

    assert eventually("the timeout", status) == LHStatus.ERROR


def test_a_second_daemon_on_the_same_data_is_refused_with_a_reason(daemon: Daemon) -> None:
    second = daemon.lhd("run")
    assert second.returncode == 1
    assert "another lhd daemon" in second.stderr
    assert f"process {daemon.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_sigterm_stops_the_daemon_with_exit_code_0(daemon: Daemon) -> None:
    assert daemon.stop() == 0
