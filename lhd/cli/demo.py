"""``lhd demo``: the main job with real parts, on loopback and in a temporary folder."""

import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from lhd.cli.options import FINDINGS, fail

if TYPE_CHECKING:
    from littlehorse.config import LHConfig
    from littlehorse.workflow import Workflow, WorkflowThread

T = TypeVar("T")

DEADLINE_S = 30.0
REPOSITORY, BRANCH, AUTHOR = "octocat/hello-world", "feature-1", "octocat"

_CONFIG = """\
[daemon]
data_dir = "{folder}/data"
shutdown_grace_s = 2

[grpc]
listen = "127.0.0.1:0"

[http]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"

[[event]]
name = "branch-created"
type = "JSON_OBJ"
correlated = {{ ttl_s = 86400 }}

[sources.github]
kind = "webhook"
path = "/hooks/github"
verify = {{ scheme = "github", secrets = [{{ file = "{folder}/github-secret" }}] }}

[[sources.github.routes]]
name = "branch"
when = "headers['x-github-event'] == 'create' && body.ref_type == 'branch'"
event = "branch-created"
key = "body.repository.full_name + ':' + body.ref"
content = "{{'branch': body.ref, 'by': body.sender.login}}"
"""


class DemoError(Exception):
    """A step of the demo did not do what it should."""


def demo() -> None:
    """Show the main job: a signed webhook wakes a waiting workflow run, and a worker gets its payload."""
    try:
        with tempfile.TemporaryDirectory(prefix="lhd-demo-") as folder:
            _Demo(Path(folder)).run()
    except DemoError as error:
        raise fail(f"the demo failed: {error}", FINDINGS) from None


class _Demo:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "lhd.toml"
        self._secret = secrets.token_hex(16)
        self._began = time.monotonic()

    def run(self) -> None:
        import grpc

        (self._folder / "github-secret").write_text(self._secret)
        self._config.write_text(_CONFIG.format(folder=self._folder))
        log = self._folder / "lhd.log"
        with log.open("wb") as stderr:
            daemon = subprocess.Popen([sys.executable, "-m", "lhd", "run", "-c", str(self._config)], stderr=stderr)
        try:
            self._story(daemon)
        except (DemoError, grpc.RpcError, OSError) as error:
            raise DemoError(f"{error}\nThe daemon's log:\n{log.read_text()}") from error
        finally:
            daemon.terminate()
            daemon.wait(DEADLINE_S)

    def _say(self, text: str) -> None:
        typer.echo(f"{time.monotonic() - self._began:6.2f} s  {text}")

    def _story(self, daemon: "subprocess.Popen[bytes]") -> None:
        listeners = _wait_for("the daemon to be ready", lambda: self._listeners(daemon))
        self._say(f"lhd is ready: gRPC on {listeners['grpc']}, webhooks on {listeners['http']}")

        client = _client(listeners["grpc"])
        workflow = _workflow()
        _register(client, workflow)
        self._say("registered the task 'announce-branch' and the workflow 'on-branch' with the LittleHorse SDK")

        stub = client.stub()
        run_id = _run(stub)
        self._say(f"started WfRun {run_id}: it waits for 'branch-created' with key '{REPOSITORY}:{BRANCH}'")

        url = f"http://{listeners['http']}/hooks/github"
        delivery = str(uuid.uuid4())
        forged = self._post(url, delivery, b"not the secret")
        _expect("a forged delivery", forged[0], 401)
        self._say("a delivery with a forged signature is answered 401, and nothing is stored")

        status, answer = self._post(url, delivery, self._secret.encode())
        _expect("the genuine delivery", status, 202)
        self._say(f"GitHub's signed 'create' webhook is answered 202: {answer['verdict']}, stored as {answer['id']}")

        status, answer_again = self._post(url, delivery, self._secret.encode())
        _expect("the same delivery again", status, 200)
        self._say(f"the same delivery again is answered 200: {answer_again['verdict']}")

        _start_worker(client)
        output = _wait_for("the run to complete", lambda: _output(stub, run_id))
        wanted = f"{AUTHOR} made the branch {BRANCH}"
        if output != wanted:
            raise DemoError(f"the run completed with '{output}' instead of '{wanted}'")
        self._say(f"an SDK task worker got the payload, and the run is COMPLETED with '{output}'")
        self._explain(answer["id"])

    def _listeners(self, daemon: "subprocess.Popen[bytes]") -> dict[str, str] | None:
        from lhd.cli.admin_client import ask

        if daemon.poll() is not None:
            raise DemoError(f"the daemon ended with exit code {daemon.returncode}")
        try:
            status = ask(self._folder / "data", "/status")
        except OSError:
            return None
        listeners: dict[str, str] = status["listeners"]
        return listeners if status["ready"] else None

    def _post(self, url: str, delivery: str, secret: bytes) -> tuple[int, dict[str, str]]:
        body = json.dumps(
            {
                "ref": BRANCH,
                "ref_type": "branch",
                "repository": {"full_name": REPOSITORY},
                "sender": {"login": AUTHOR},
            }
        ).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "create",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
        }
        request = urllib.request.Request(url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def _explain(self, delivery_id: str) -> None:
        from lhd.cli.admin_client import ask
        from lhd.cli.explain import text

        typer.echo(f"\n$ lhd explain {delivery_id}")
        typer.echo("\n".join(text(ask(self._folder / "data", "/explain", id=delivery_id))))
        typer.echo(
            "\nThe configuration that did it, apart from addresses and the secret:\n\n"
            + "\n".join(f"    {line}" for line in self._config.read_text().splitlines()[11:])
            + "\n\nNext: put it into lhd.toml, with a file of your own that holds the secret, then\n"
            "`lhd check -c lhd.toml` and `lhd run -c lhd.toml`."
        )


def _wait_for(what: str, look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.02)
    raise DemoError(f"waited {DEADLINE_S:g} s for {what}")


def _expect(what: str, status: int, wanted: int) -> None:
    if status != wanted:
        raise DemoError(f"{what} was answered {status} instead of {wanted}")


def _client(address: str) -> "LHConfig":
    import logging

    from littlehorse.config import LHConfig

    logging.disable(logging.CRITICAL)  # the SDK logs what the story already tells
    host, _, port = address.rpartition(":")
    client = LHConfig()
    client.load({"LHC_API_HOST": host, "LHC_API_PORT": port})
    return client


def _workflow() -> "Workflow":
    from littlehorse.workflow import Workflow

    def on_branch(thread: "WorkflowThread") -> None:
        repository = thread.declare_str("repository").required()
        branch = thread.declare_str("branch").required()
        created = thread.wait_for_event(
            "branch-created", timeout=60, correlation_id=thread.format("{0}:{1}", repository, branch)
        )
        announcement = thread.execute(
            "announce-branch", created.with_json_path("$.branch"), created.with_json_path("$.by")
        )
        thread.complete(announcement)

    return Workflow("on-branch", on_branch)


async def _announce_branch(branch: str, by: str) -> str:
    return f"{by} made the branch {branch}"


def _register(client: "LHConfig", workflow: "Workflow") -> None:
    import littlehorse

    littlehorse.create_task_def(_announce_branch, "announce-branch", client)
    littlehorse.create_workflow_spec(workflow, client)


def _run(stub: Any) -> str:
    from littlehorse.model import RunWfRequest, VariableValue

    variables = {"repository": VariableValue(str=REPOSITORY), "branch": VariableValue(str=BRANCH)}
    wf_run = stub.RunWf(RunWfRequest(wf_spec_name="on-branch", variables=variables))
    return str(wf_run.id.id)


def _start_worker(client: "LHConfig") -> None:
    import asyncio

    from littlehorse.worker import LHTaskWorker

    worker = LHTaskWorker(_announce_branch, "announce-branch", client)
    threading.Thread(target=lambda: asyncio.run(worker.start()), daemon=True).start()


def _output(stub: Any, run_id: str) -> Any:
    from littlehorse.model import LHStatus, WfRunId

    wf_run = stub.GetWfRun(WfRunId(id=run_id))
    if wf_run.status == LHStatus.RUNNING:
        return None
    if wf_run.status != LHStatus.COMPLETED:
        raise DemoError(f"the run ended with {LHStatus.Name(wf_run.status)}")
    return wf_run.thread_runs[0].output.str
