"""A real daemon process, and what its clients would do: no part of lhd is imported here."""

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from littlehorse.config import LHConfig
from littlehorse.model import LittleHorseStub

T = TypeVar("T")
DEADLINE_S = 30.0

SECRET = b"It's a Secret to Everybody"

CONFIG = """\
[daemon]
data_dir = "{folder}/data"
shutdown_grace_s = 0.2

[grpc]
listen = "127.0.0.1:{grpc_port}"

[http]
listen = "127.0.0.1:{http_port}"
admin_listen = "127.0.0.1:{admin_port}"

[[event]]
name = "branch-created"
type = "JSON_OBJ"
correlated = {{ ttl_s = 3600 }}

[[event]]
name = "approved"
type = "STR"

[sources.github]
kind = "webhook"
path = "/hooks/github"
body_bytes_max = 20000
verify = {{ scheme = "github", secrets = [{{ file = "{folder}/old-secret" }}, {{ file = "{folder}/secret" }}] }}

[[sources.github.routes]]
name = "branch"
when = "headers['x-github-event'] == 'create' && body.ref_type == 'branch'"
event = "branch-created"
key = "body.repository.full_name + ':' + body.ref"
content = "{{'branch': body.ref, 'by': body.sender.login}}"

[[sources.github.routes]]
name = "typed"
when = "headers['x-github-event'] == 'typed'"
event = "approved"
wf_run = "body.run"
content = "body.value"

[[sources.github.routes]]
name = "unknown"
when = "headers['x-github-event'] == 'unknown'"
event = "no-such-event"
wf_run = "body.run"
"""


def eventually(what: str, look: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """Wait until ``look`` gives something; a bounded wait for a fact."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {deadline_s:g} s for {what}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """``lhd run`` in a process of its own, on ports of its own that survive a restart."""

    def __init__(self, folder: Path, program: tuple[str, ...] = ("-m", "lhd")) -> None:
        self.folder = folder
        self.program = program
        self.grpc_port, self.http_port, self.admin_port = free_port(), free_port(), free_port()
        self.config = folder / "lhd.toml"
        (folder / "secret").write_bytes(SECRET + b"\n")
        (folder / "old-secret").write_bytes(b"the one before")
        self.config.write_text(
            CONFIG.format(folder=folder, grpc_port=self.grpc_port, http_port=self.http_port, admin_port=self.admin_port)
        )
        self.process: subprocess.Popen[bytes]
        self._starts = 0
        self._clients: list[LHConfig] = []
        self.log = folder / "lhd.log"

    def start(self, **environment: str) -> None:
        """Start the daemon and wait for its READY=1, as systemd would."""
        self._starts += 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            address = self.folder / "notify"
            address.unlink(missing_ok=True)
            notify.bind(str(address))
            notify.settimeout(0.1)
            with self.log.open("ab") as stderr:
                self.process = subprocess.Popen(
                    [sys.executable, *self.program, "run", "-c", str(self.config)],
                    stderr=stderr,
                    env={**os.environ, **environment, "NOTIFY_SOCKET": str(address)},
                )
            eventually("READY=1", lambda: self._is_ready(notify))

    def _is_ready(self, notify: socket.socket) -> bool | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()}")
        try:
            return True if b"READY=1" in notify.recv(4096) else None
        except TimeoutError:
            return None

    def stop(self) -> int:
        """SIGTERM; the exit code. One that does not end is killed, and fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def client(self) -> LHConfig:
        """The genuine SDK's configuration for this daemon."""
        client = LHConfig()
        client.load({"LHC_API_HOST": "127.0.0.1", "LHC_API_PORT": str(self.grpc_port)})
        return client

    def stub(self) -> LittleHorseStub:
        """The genuine SDK's stub, one for each start of the daemon.

        Channels to one address share a connection, so older ones are kept, and after a restart the first call may
        find the connection of before: a client would try again, and so does this.
        """
        if len(self._clients) < self._starts:
            self._clients.append(self.client())
            eventually("the channel to be up", self._is_connected)
        return self._clients[-1].stub()

    def _is_connected(self) -> bool | None:
        try:
            self._clients[-1].stub().Whoami(Empty())
        except grpc.RpcError:
            return None
        return True

    def lhd(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of the program with this daemon's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "lhd", *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One HTTP request to the webhook listener: status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def hook(
        self,
        payload: Any,
        *,
        event: str = "create",
        delivery: str | None = None,
        secret: bytes = SECRET,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str]]:
        """A GitHub delivery: status and JSON of the answer. ``payload`` may be raw bytes."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
            **(headers or {}),
        }
        status, _, answer = self.request("POST", "/hooks/github", body, sent)
        return status, json.loads(answer)

    def branch_created(self, branch: str, delivery: str | None = None) -> tuple[int, dict[str, str]]:
        """GitHub's `create` webhook for a new branch of octocat/hello-world."""
        return self.hook(branch_payload(branch), delivery=delivery)


def branch_payload(branch: str) -> dict[str, Any]:
    """What GitHub sends when octocat makes a branch, as far as it matters here."""
    return {
        "ref": branch,
        "ref_type": "branch",
        "repository": {"full_name": "octocat/hello-world"},
        "sender": {"login": "octocat"},
    }
