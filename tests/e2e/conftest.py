"""A daemon process and a worker process for each test that asks for one."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import littlehorse
import pytest
from littlehorse.model import RunWfRequest, VariableValue, WfRun
from littlehorse.workflow import Workflow, WorkflowThread

from tests.e2e import worker as worker_program
from tests.e2e.process import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that is ready; the tests of a module share it and keep to runs of their own."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.stop()


def on_branch(thread: WorkflowThread) -> None:
    """Wait for a branch by its key, then let a worker announce it."""
    branch = thread.declare_str("branch").required()
    created = thread.wait_for_event(
        "branch-created", timeout=60, correlation_id=thread.format("octocat/hello-world:{0}", branch)
    )
    announcement = thread.execute(
        "announce", created.with_json_path("$.branch"), created.with_json_path("$.by"), timeout_seconds=20
    )
    thread.complete(announcement)


def on_approval(thread: WorkflowThread) -> None:
    """Wait for an approval by the run's id."""
    thread.complete(thread.wait_for_event("approved"))


def on_deadline(thread: WorkflowThread) -> None:
    """Wait for an approval that does not come."""
    thread.wait_for_event("approved", timeout=1)


@pytest.fixture
def workflows(daemon: Daemon) -> None:
    """The task and the workflows of these tests, registered by the SDK."""
    client = daemon.client()
    littlehorse.create_task_def(worker_program.announce, "announce", client)
    for name, entrypoint in (("on-branch", on_branch), ("on-approval", on_approval), ("on-deadline", on_deadline)):
        littlehorse.create_workflow_spec(Workflow(name, entrypoint), client)


@pytest.fixture
def run(daemon: Daemon, workflows: None) -> Callable[..., WfRun]:
    """Start a WfRun of one of the workflows; variables are text."""
    stub = daemon.stub()

    def start(name: str, wf_run_id: str, **variables: str) -> WfRun:
        values = {key: VariableValue(str=value) for key, value in variables.items()}
        reply: WfRun = stub.RunWf(RunWfRequest(wf_spec_name=name, id=wf_run_id, variables=values))
        return reply

    return start


@pytest.fixture
def worker(daemon: Daemon, workflows: None) -> Iterator[None]:
    """A task worker that runs beside the test."""
    process = subprocess.Popen(
        [sys.executable, worker_program.__file__, str(daemon.grpc_port)], stderr=subprocess.DEVNULL
    )
    yield
    process.terminate()
    process.wait(10)
