"""Load for a daemon that may die at any time, and the sender's own book of what it sent and what it was answered.

The sender knows nothing of the daemon's state: a delivery without an answer is sent again under the same id, and a
start of a run without an answer is asked for again under the same run id.
"""

import http.client
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import littlehorse
from littlehorse.model import LittleHorseStub, RunWfRequest
from littlehorse.workflow import Workflow, WorkflowThread

from tests.crash.patient_worker import RECONNECT
from tests.e2e import worker as worker_program
from tests.e2e.process import DEADLINE_S, Daemon, branch_payload

TASK_TIMEOUT_S = 2
WAIT_S = 3600
ATTEMPTS = 1000


def on_branch(thread: WorkflowThread) -> None:
    """Wait for a branch by its key, then let a worker announce it, however often it takes."""
    branch = thread.declare_str("branch").required()
    key = thread.format("octocat/hello-world:{0}", branch)
    created = thread.wait_for_event("branch-created", timeout=WAIT_S, correlation_id=key)
    name, by = created.with_json_path("$.branch"), created.with_json_path("$.by")
    announced = thread.execute("announce", name, by, timeout_seconds=TASK_TIMEOUT_S, retries=ATTEMPTS)
    thread.complete(announced)


def on_pair(thread: WorkflowThread) -> None:
    """Wait twice for the same key: two deliveries of one key, each for one of the waits."""
    branch = thread.declare_str("branch").required()
    first, second = thread.declare_str("first"), thread.declare_str("second")
    key = thread.format("octocat/hello-world:{0}", branch)
    for variable in (first, second):
        created = thread.wait_for_event("branch-created", timeout=WAIT_S, correlation_id=key)
        variable.assign(created.with_json_path("$.by"))
    thread.complete(thread.format("{0} {1}", first, second))


def on_approval(thread: WorkflowThread) -> None:
    """Wait for an approval by the run's id."""
    thread.complete(thread.wait_for_event("approved", timeout=WAIT_S))


WORKFLOWS: dict[str, Callable[[WorkflowThread], None]] = {
    "on-branch": on_branch,
    "on-pair": on_pair,
    "on-approval": on_approval,
}


def register(daemon: Daemon) -> None:
    """The definitions, put by the SDK."""
    client = daemon.client()
    littlehorse.create_task_def(worker_program.announce, "announce", client)
    for name, body in WORKFLOWS.items():
        littlehorse.create_workflow_spec(Workflow(name, body), client)


@dataclass
class Sent:
    """One delivery: what was sent, how often without an answer, and every answer."""

    delivery: str
    event: str
    payload: dict[str, Any]
    cut: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)


@dataclass
class Started:
    """One WfRun that was asked for, with the deliveries that are for it."""

    wf_run_id: str
    workflow: str
    deliveries: list[Sent]
    cut: int = 0
    answers: list[grpc.StatusCode] = field(default_factory=list)


def approval(wf_run_id: str) -> Started:
    value = f"yes, {wf_run_id}"
    sent = Sent(str(uuid.uuid4()), "typed", {"run": wf_run_id, "value": value})
    return Started(wf_run_id, "on-approval", [sent])


def branches(wf_run_id: str, workflow: str, count: int) -> Started:
    payloads = [branch_payload(wf_run_id) | {"sender": {"login": f"cat-{number}"}} for number in range(count)]
    return Started(wf_run_id, workflow, [Sent(str(uuid.uuid4()), "create", payload) for payload in payloads])


class Lives:
    """Counts the daemon's lives, so that a sender whose connection was cut can wait for the next one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._life = 0
        self._answers = 0

    @property
    def life(self) -> int:
        """The number of the present life."""
        return self._life

    def begin(self) -> None:
        """The daemon is ready, again."""
        with self._changed:
            self._life += 1
            self._answers = 0
            self._changed.notify_all()

    def answered(self) -> None:
        """A sender got an answer."""
        with self._changed:
            self._answers += 1
            self._changed.notify_all()

    def wait_for_next(self, life: int) -> None:
        """Wait for a life after this one: nothing but a death cuts a connection."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._life > life, DEADLINE_S), "cut, but not by a kill"

    def wait_for_answers(self, count: int) -> None:
        """Wait until so many answers came in this life."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._answers >= count, DEADLINE_S), "the senders hear nothing"


class Sender(threading.Thread):
    """Works through one WfRun with its deliveries after the other, until told to stop; finishes the last."""

    def __init__(self, name: str, daemon: Daemon, lives: Lives, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.started: list[Started] = []
        self.error: BaseException | None = None
        self._daemon = daemon
        self._lives = lives
        self._random = random.Random(seed)
        self._stop_asked = threading.Event()
        self._stub: tuple[int, LittleHorseStub] | None = None
        self._channels: list[grpc.Channel] = []

    def finish(self) -> None:
        """Take no new run; return when all that was begun has its answers."""
        self._stop_asked.set()
        self.join(4 * DEADLINE_S)
        assert not self.is_alive(), f"{self.name} does not come to an end"
        for channel in self._channels:
            channel.close()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self._work(self._next(len(self.started)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the test can see it
            self.error = error

    def _next(self, number: int) -> Started:
        wf_run_id = f"{self.name}-{number}"
        match number % 3:
            case 0:
                return approval(wf_run_id)
            case 1:
                return branches(wf_run_id, "on-branch", 1)
        return branches(wf_run_id, "on-pair", 2)

    def _work(self, started: Started) -> None:
        """In any order; some deliveries come once more though they were answered, as webhooks do."""
        self.started.append(started)
        steps = [partial(self._start, started), *(partial(self._deliver, sent) for sent in started.deliveries)]
        steps += [steps[-1]] * self._random.choice([0, 0, 1])
        self._random.shuffle(steps)
        for step in steps:
            step()

    def _deliver(self, sent: Sent) -> None:
        while True:
            life = self._lives.life
            try:
                answer = self._daemon.hook(sent.payload, event=sent.event, delivery=sent.delivery)
            except (http.client.HTTPException, OSError):
                sent.cut += 1
                self._lives.wait_for_next(life)
                continue
            sent.answers.append(answer)
            self._lives.answered()
            return

    def _start(self, started: Started) -> None:
        request = RunWfRequest(wf_spec_name=started.workflow, id=started.wf_run_id)
        if started.workflow != "on-approval":
            request.variables["branch"].str = started.wf_run_id
        while True:
            life = self._lives.life
            try:
                self._current_stub(life).RunWf(request, timeout=DEADLINE_S)
                started.answers.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    started.cut += 1
                    self._lives.wait_for_next(life)
                    continue
                started.answers.append(error.code())
            self._lives.answered()
            return

    def _current_stub(self, life: int) -> LittleHorseStub:
        if self._stub is None or self._stub[0] != life:
            channel = grpc.insecure_channel(f"127.0.0.1:{self._daemon.grpc_port}", options=RECONNECT)
            self._channels.append(channel)
            stub: LittleHorseStub = LittleHorseStub(channel)  # type: ignore[no-untyped-call] # generated code
            self._stub = life, stub
        return self._stub[1]
