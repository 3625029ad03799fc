"""Who may call, over which listener: TLS, mTLS and OAuth, and what is refused before anybody could call."""

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import grpc
import littlehorse
import pytest
from google.protobuf.empty_pb2 import Empty
from littlehorse.config import LHConfig
from littlehorse.model import (
    ACLAction,
    ACLResource,
    LHHostInfo,
    LHStatus,
    LittleHorseStub,
    PollTaskRequest,
    PutPrincipalRequest,
    RegisterTaskWorkerRequest,
    RunWfRequest,
    ServerACL,
    ServerACLs,
    TaskDefId,
    WfRun,
    WfRunId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.e2e import worker as worker_program
from tests.e2e.authorisation_server import AuthorisationServer
from tests.e2e.certificates import DAY, Authority
from tests.e2e.process import Daemon, eventually, free_port

CALL_S = 10.0
CLIENT_ID, CLIENT_SECRET = "lhd", "kept-under-the-doormat"
CANNOT_CONNECT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}

OF_A_WORKER = (
    ServerACL(resources=[ACLResource.ACL_TASK], allowed_actions=[ACLAction.READ, ACLAction.RUN]),
    ServerACL(resources=[ACLResource.ACL_WORKFLOW], allowed_actions=[ACLAction.READ]),
)

CONFIG = """\
[daemon]
data_dir = "{folder}/data"
shutdown_grace_s = 0.2

[log]
level = "debug"
format = "json"

[http]
listen = "127.0.0.1:{http}"
admin_listen = "127.0.0.1:{admin}"
"""

LISTENERS = """\
compat_health_listen = "127.0.0.1:{health}"

[grpc]
listen = "127.0.0.1:{plain}"
advertise = "workers.example:2023"

[[grpc.listeners]]
name = "encrypted"
listen = "127.0.0.1:{tls}"
advertise = "localhost:{tls}"
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server-key.pem" }}

[[grpc.listeners]]
name = "machines"
listen = "127.0.0.1:{mtls}"
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server-key.pem", client_ca = "{folder}/authority.pem" }}
auth = "mtls"

[[grpc.listeners]]
name = "people"
listen = "127.0.0.1:{oauth}"
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server-key.pem" }}
auth = {{ oauth = {{ introspect_url = "{url}", client_id = "lhd", client_secret = {{ env = "OAUTH_SECRET" }} }} }}

[[grpc.listeners]]
name = "loopback people"
listen = "127.0.0.1:{oauth_plain}"
auth = {{ oauth = {{ introspect_url = "{url}", client_id = "lhd", client_secret = {{ file = "{folder}/oauth" }} }} }}

[[grpc.listeners]]
name = "nobody answers"
listen = "127.0.0.1:{oauth_down}"
auth = {{ oauth = {{ introspect_url = "{down}", client_id = "lhd", client_secret = {{ file = "{folder}/oauth" }} }} }}
"""


def daemon_with(folder: Path, extra: str = "") -> Daemon:
    """A daemon that is not started, configured with the parts above and ``extra``."""
    daemon = Daemon(folder)
    written = CONFIG.format(folder=folder, http=daemon.http_port, admin=daemon.admin_port)
    daemon.config.write_text(written + extra)
    return daemon


@dataclass(frozen=True)
class World:
    """A daemon with a listener of every kind, and who is known to it."""

    daemon: Daemon
    ports: dict[str, int]
    authority: Authority
    server: AuthorisationServer

    def certified(self, *common_names: str) -> grpc.ChannelCredentials:
        """A client with a certificate."""
        pair = self.authority.issue(*common_names)
        return grpc.ssl_channel_credentials(self.authority.certificate, pair.key, pair.certificate)

    @property
    def trusting(self) -> grpc.ChannelCredentials:
        """A client without a certificate."""
        return grpc.ssl_channel_credentials(self.authority.certificate)

    def whoami(self, listener: str, credentials: grpc.ChannelCredentials | None = None, **metadata: str) -> str:
        """The principal that a call over ``listener`` acts as."""
        with connected(self.ports[listener], credentials) as stub:
            return str(stub.Whoami(Empty(), metadata=list(metadata.items()), timeout=CALL_S).id.id)

    def refused(
        self, listener: str, credentials: grpc.ChannelCredentials | None = None, **metadata: str
    ) -> grpc.StatusCode:
        """The status of a call over ``listener`` that is refused."""
        with pytest.raises(grpc.RpcError) as refusal:
            self.whoami(listener, credentials, **metadata)
        return code(refusal.value)


@contextmanager
def connected(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[LittleHorseStub]:
    """A channel of its own, which shares no connection with any other."""
    options: Sequence[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{port}"
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    with channel:
        yield LittleHorseStub(channel)  # type: ignore[no-untyped-call] # generated code


def code(error: grpc.RpcError) -> grpc.StatusCode:
    """The status that a call ended with."""
    status: grpc.StatusCode = cast("Any", error).code()
    return status


def announces(thread: WorkflowThread) -> None:
    """Let a worker announce a branch."""
    thread.complete(thread.execute("announce", "feature", "octocat", timeout_seconds=20))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything above, ready; the tests share it and keep to names of their own."""
    folder = tmp_path_factory.mktemp("listeners")
    authority = Authority()
    (folder / "authority.pem").write_bytes(authority.certificate)
    (folder / "oauth").write_text(CLIENT_SECRET + "\n")
    authority.issue("localhost").write(folder, "server")
    with AuthorisationServer(CLIENT_ID, CLIENT_SECRET) as server:
        names = ("tls", "mtls", "oauth", "oauth_plain", "oauth_down", "health")
        ports = {name: free_port() for name in names}
        daemon = daemon_with(folder)
        ports["plain"] = daemon.grpc_port
        with daemon.config.open("a") as config:
            down = f"http://127.0.0.1:{free_port()}/introspect"
            config.write(LISTENERS.format(folder=folder, url=server.introspect_url, down=down, **ports))
        daemon.start(OAUTH_SECRET=CLIENT_SECRET)
        yield World(daemon, ports, authority, server)
        assert daemon.stop() == 0


def put_principal(world: World, name: str, *acls: ServerACL) -> None:
    """Make ``name`` known, with ``acls`` and no others."""
    with connected(world.ports["plain"]) as stub:
        stub.PutPrincipal(PutPrincipalRequest(id=name, global_acls=ServerACLs(acls=acls), overwrite=True))


# TLS


def test_a_tls_listener_serves_calls_over_tls(world: World) -> None:
    assert world.whoami("tls", world.trusting) == "anonymous"


@pytest.mark.parametrize("listener", ["tls", "mtls", "oauth"])
def test_a_listener_with_tls_refuses_plaintext(world: World, listener: str) -> None:
    world.server.answers["plaintext"] = {"active": True, "scope": "lhd", "client_id": "plaintext"}
    assert world.refused(listener, authorization="plaintext") is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("listener", "advertised"),
    [
        ("plain", ("workers.example", 2023)),
        ("tls", ("localhost", None)),
        ("mtls", ("127.0.0.1", None)),
        ("oauth_plain", ("127.0.0.1", None)),
    ],
)
def test_a_worker_is_told_the_advertised_address_of_the_listener_that_it_called(
    world: World, listener: str, advertised: tuple[str, int | None]
) -> None:
    world.server.answers["registering"] = {"active": True, "scope": "lhd", "client_id": "registering"}
    credentials = {"tls": world.trusting, "mtls": world.certified("registering")}.get(listener)
    request = RegisterTaskWorkerRequest(task_worker_id="told", task_def_id=TaskDefId(name="told"))
    with connected(world.ports[listener], credentials) as stub:
        replies = [stub.RegisterTaskWorker(request, metadata=[("authorization", "registering")]) for _ in range(2)]
    expected = LHHostInfo(host=advertised[0], port=advertised[1] or world.ports[listener])
    assert [list(reply.your_hosts) for reply in replies] == [[expected], [expected]]


def test_status_tells_every_listener_by_its_name(world: World) -> None:
    told = world.daemon.lhd("status").stdout
    names = {"plain": "grpc", "tls": "encrypted", "mtls": "machines", "oauth": "people"}
    for listener, name in names.items():
        assert any(name in line and f":{world.ports[listener]}" in line for line in told.splitlines())


def test_status_tells_listeners_without_a_name_too(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    daemon = daemon_with(tmp_path, "".join(with_listener(f"127.0.0.1:{port}") for port in ports))
    daemon.start()
    try:
        told = daemon.lhd("status").stdout
    finally:
        daemon.stop()
    assert [port for port in ports if f":{port}" not in told] == []


# mTLS


def test_the_first_common_name_of_the_clients_certificate_is_the_principal(world: World) -> None:
    put_principal(world, "first-machine")
    put_principal(world, "second-machine")
    assert world.whoami("mtls", world.certified("first-machine")) == "first-machine"
    assert world.whoami("mtls", world.certified("first-machine", "second-machine")) == "first-machine"
    assert world.whoami("mtls", world.certified("second-machine", "first-machine")) == "second-machine"


@pytest.mark.parametrize("common_names", [(), ("a-stranger",), ("a-stranger", "known-machine")])
def test_a_certificate_of_nobody_who_is_known_acts_as_anonymous(world: World, common_names: tuple[str, ...]) -> None:
    put_principal(world, "known-machine")
    assert world.whoami("mtls", world.certified(*common_names)) == "anonymous"


@pytest.mark.parametrize("whose", ["nobody", "another authority", "the authority, until yesterday"])
def test_a_client_without_a_valid_certificate_of_the_authority_cannot_call(world: World, whose: str) -> None:
    put_principal(world, f"trusted by {whose}")
    if whose == "nobody":
        credentials = world.trusting
    else:
        authority = Authority() if whose == "another authority" else world.authority
        until = None if whose == "another authority" else datetime.now(UTC) - DAY
        pair = authority.issue(f"trusted by {whose}", valid_until=until)
        credentials = grpc.ssl_channel_credentials(world.authority.certificate, pair.key, pair.certificate)
    assert world.refused("mtls", credentials) in CANNOT_CONNECT


def test_a_name_that_the_client_gives_itself_is_not_believed(world: World) -> None:
    put_principal(world, "somebody-else")
    world.server.answers["honest"] = {"active": True, "scope": "lhd", "client_id": "honest"}
    assert world.whoami("plain", _clientid="somebody-else") == "anonymous"
    assert world.whoami("mtls", world.certified("honest"), _clientid="somebody-else") == "anonymous"
    assert world.whoami("oauth", world.trusting, authorization="honest", _clientid="somebody-else") == "anonymous"


# OAuth


@pytest.mark.parametrize("listener", ["oauth", "oauth_plain"])
@pytest.mark.parametrize("prefix", ["", "Bearer "])
@pytest.mark.parametrize(
    ("token", "answer", "principal"),
    [
        pytest.param(
            "of-alice", {"scope": "openid profile", "username": "alice", "client_id": "app"}, "alice", id="human"
        ),
        pytest.param(
            "of-robot", {"scope": "profile lhd", "username": "alice", "client_id": "robot"}, "robot", id="machine"
        ),
        pytest.param(
            "of-new", {"scope": "openid", "username": "not-known", "client_id": "robot"}, "anonymous", id="new"
        ),
    ],
)
def test_the_principal_is_whom_the_token_was_issued_to(
    world: World, listener: str, prefix: str, token: str, answer: dict[str, Any], principal: str
) -> None:
    put_principal(world, "alice")
    put_principal(world, "robot")
    world.server.answers[token] = {"active": True, **answer}
    credentials = world.trusting if listener == "oauth" else None
    assert world.whoami(listener, credentials, authorization=prefix + token) == principal


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="no token"),
        pytest.param({"authorization": ""}, id="empty"),
        pytest.param({"authorization": "Bearer "}, id="nothing after Bearer"),
        pytest.param({"authorization": "never-issued"}, id="not active"),
        pytest.param({"authorization": "Bearer withdrawn"}, id="active no more"),
        pytest.param({"authorization": "scopeless"}, id="without scope"),
        pytest.param({"authorization": "blank-scope"}, id="with an empty scope"),
    ],
)
def test_without_a_token_that_says_who_it_is_a_call_is_unauthenticated(world: World, metadata: dict[str, str]) -> None:
    put_principal(world, "somebody")
    somebody = {"username": "somebody", "client_id": "somebody"}
    world.server.answers["withdrawn"] = {"active": False, "scope": "openid", **somebody}
    world.server.answers["scopeless"] = {"active": True, **somebody}
    world.server.answers["blank-scope"] = {"active": True, "scope": "", **somebody}
    assert world.refused("oauth", world.trusting, **metadata) is grpc.StatusCode.UNAUTHENTICATED


def test_a_call_is_aborted_while_the_authorisation_server_is_down(world: World) -> None:
    assert world.refused("oauth_down", authorization="any") is grpc.StatusCode.ABORTED


@pytest.mark.parametrize("trouble", [500, 401, b"<h1>Welcome</h1>", b"[]"])
def test_a_call_is_aborted_while_the_authorisation_server_is_in_trouble_and_works_after_it(
    world: World, trouble: bytes | int
) -> None:
    token = f"in-trouble-{trouble!r}"
    world.server.answers[token] = trouble
    assert world.refused("oauth_plain", authorization=token) is grpc.StatusCode.ABORTED
    world.server.answers[token] = {"active": True, "scope": "lhd", "client_id": "robot"}
    assert world.whoami("oauth_plain", authorization=token)


def test_a_token_is_introspected_once_but_a_refused_one_again(world: World) -> None:
    world.server.answers["kept"] = {"active": True, "scope": "lhd", "client_id": "robot"}
    for _ in range(3):
        assert world.whoami("oauth_plain", authorization="kept")
    assert world.server.introspections["kept"] == 1

    assert world.refused("oauth_plain", authorization="activated") is grpc.StatusCode.UNAUTHENTICATED
    world.server.answers["activated"] = {"active": True, "scope": "lhd", "client_id": "robot"}
    assert world.whoami("oauth_plain", authorization="activated")
    assert world.server.introspections["activated"] == 2


def test_the_client_secret_is_sent_as_basic_authentication_and_neither_it_nor_a_token_is_logged(world: World) -> None:
    world.server.answers["of-the-log"] = {"active": True, "scope": "lhd", "client_id": "robot"}
    for listener, credentials in (("oauth", world.trusting), ("oauth_plain", None)):
        assert world.whoami(listener, credentials, authorization="of-the-log")
        assert world.refused(listener, credentials, authorization="not-of-the-log") is grpc.StatusCode.UNAUTHENTICATED
    world.server.answers["broken-for-the-log"] = 500
    assert world.refused("oauth_plain", authorization="broken-for-the-log") is grpc.StatusCode.ABORTED
    assert world.refused("oauth_down", authorization="down-for-the-log") is grpc.StatusCode.ABORTED

    basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert world.server.authorisations == {"Basic " + basic}
    log = world.daemon.log.read_text()
    assert log
    hidden = (CLIENT_SECRET, basic, "of-the-log", "for-the-log")
    assert not [line for line in log.splitlines() if any(word in line for word in hidden)]


# Streams


def poll(world: World, listener: str, credentials: grpc.ChannelCredentials | None, **metadata: str) -> grpc.StatusCode:
    """How a poll ends that is refused."""
    with connected(world.ports[listener], credentials) as stub:
        request = PollTaskRequest(task_def_id=TaskDefId(name="guarded"), client_id="eve")
        call = stub.PollTask(iter([request]), metadata=list(metadata.items()), timeout=CALL_S)
        with pytest.raises(grpc.RpcError) as refusal:
            next(call)
    return code(refusal.value)


def test_polling_for_tasks_needs_what_any_call_needs(world: World) -> None:
    put_principal(world, "may-nothing")
    world.server.answers["may-nothing"] = {"active": True, "scope": "lhd", "client_id": "may-nothing"}
    world.server.answers["broken"] = 500
    assert poll(world, "oauth", world.trusting) is grpc.StatusCode.UNAUTHENTICATED
    assert poll(world, "oauth", world.trusting, authorization="guess") is grpc.StatusCode.UNAUTHENTICATED
    assert poll(world, "oauth", world.trusting, authorization="broken") is grpc.StatusCode.ABORTED
    assert poll(world, "oauth", world.trusting, authorization="may-nothing") is grpc.StatusCode.PERMISSION_DENIED
    assert poll(world, "mtls", world.trusting) in CANNOT_CONNECT
    assert poll(world, "mtls", world.certified("may-nothing")) is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("listener", ["tls", "mtls", "oauth"])
def test_a_worker_of_the_sdk_works_over_a_guarded_listener(world: World, listener: str, tmp_path: Path) -> None:
    put_principal(world, "sdk-worker", *OF_A_WORKER)
    settings = {
        "LHC_API_HOST": "localhost",
        "LHC_API_PORT": str(world.ports[listener]),
        "LHC_API_PROTOCOL": "TLS",
        "LHC_CA_CERT": str(world.daemon.folder / "authority.pem"),
    }
    if listener == "mtls":
        paths = world.authority.issue("sdk-worker").write(tmp_path, "client")
        settings |= {"LHC_CLIENT_CERT": str(paths[0]), "LHC_CLIENT_KEY": str(paths[1])}
    if listener == "oauth":
        world.server.answers["sdk-worker"] = {"active": True, "scope": "lhd", "client_id": "sdk-worker"}
        settings |= {
            "LHC_OAUTH_CLIENT_ID": "sdk-worker",
            "LHC_OAUTH_CLIENT_SECRET": "a machine's",
            "LHC_OAUTH_ACCESS_TOKEN_URL": world.server.token_url,
            "AUTHLIB_INSECURE_TRANSPORT": "1",
        }
    client = LHConfig()
    client.load({"LHC_API_HOST": "127.0.0.1", "LHC_API_PORT": str(world.ports["plain"])})
    littlehorse.create_task_def(worker_program.announce, "announce", client)
    littlehorse.create_workflow_spec(Workflow("announces", announces), client)
    with worker_process(settings), connected(world.ports["plain"]) as stub:
        stub.RunWf(RunWfRequest(wf_spec_name="announces", id=f"over-{listener}"))

        def look() -> WfRun | None:
            wf_run: WfRun = stub.GetWfRun(WfRunId(id=f"over-{listener}"))
            return None if wf_run.status == LHStatus.RUNNING else wf_run

        wf_run = eventually(f"the run over {listener}", look, CALL_S)
    assert wf_run.thread_runs[0].output.str == "octocat made feature"


@contextmanager
def worker_process(settings: dict[str, str]) -> Iterator[None]:
    """A task worker beside the test, set up by the SDK's environment variables."""
    command = [sys.executable, worker_program.__file__, settings["LHC_API_PORT"]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **settings})
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


# What is refused before it could be called


def with_listener(listener: str) -> str:
    return f'\n[[grpc.listeners]]\nlisten = "{listener}"\n'


class Files:
    """Keys of a listener that name files which exist."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        cert, key = authority.issue("lhd").write(folder, "lhd")
        (folder / "clients.pem").write_bytes(authority.certificate)
        (folder / "secret").write_text("s3cret")
        self.tls = f'tls = {{ cert = "{cert}", key = "{key}" }}\n'
        self.tls_of_clients = self.tls.replace(" }", f', client_ca = "{folder / "clients.pem"}" }}')
        secret = f'client_secret = {{ file = "{folder / "secret"}" }}'
        self.oauth = f'auth = {{ oauth = {{ introspect_url = "http://a/b", client_id = "lhd", {secret} }} }}\n'


def test_listeners_beyond_loopback_without_tls_and_authentication_are_findings_with_their_line(tmp_path: Path) -> None:
    files = Files(tmp_path)
    refused = [
        with_listener("0.0.0.0:2101"),
        with_listener("0.0.0.0:2102") + files.tls,
        with_listener("0.0.0.0:2103") + files.oauth,
        with_listener("[::]:2104") + 'auth = "none"\n' + files.tls,
        with_listener("192.0.2.1:2105") + "insecure = false\n",
    ]
    daemon = daemon_with(tmp_path, "".join(refused))
    text = daemon.config.read_text().splitlines()
    lines = [number for number, line in enumerate(text, 1) if ":210" in line]
    result = daemon.lhd("check")
    assert result.returncode == 1
    findings = result.stderr.splitlines()
    assert [finding.partition(": ")[0] for finding in findings] == [f"{daemon.config}:{line}" for line in lines]
    assert all("tls" in finding and "auth" in finding and "insecure = true" in finding for finding in findings)


def test_the_short_form_beyond_loopback_is_a_finding_too(tmp_path: Path) -> None:
    daemon = daemon_with(tmp_path, '\n[grpc]\nlisten = "0.0.0.0:2023"\n')
    result = daemon.lhd("check")
    assert result.returncode == 1
    assert result.stderr.startswith(f"{daemon.config}:{len(daemon.config.read_text().splitlines())}: ")
    assert "insecure = true" in result.stderr


def test_listeners_beyond_loopback_with_tls_and_authentication_or_insecure_are_accepted(tmp_path: Path) -> None:
    files = Files(tmp_path)
    accepted = [
        with_listener("0.0.0.0:2101") + files.tls_of_clients + 'auth = "mtls"\n',
        with_listener("0.0.0.0:2102") + files.tls + files.oauth,
        with_listener("0.0.0.0:2103") + "insecure = true\n",
        with_listener("localhost:2104"),
        with_listener("[::1]:2105"),
    ]
    result = daemon_with(tmp_path, "".join(accepted)).lhd("check")
    assert (result.returncode, result.stderr) == (0, "")


def test_run_refuses_a_listener_beyond_loopback_and_starts_it_when_insecure_is_meant(tmp_path: Path) -> None:
    port = free_port()
    daemon = daemon_with(tmp_path, with_listener(f"0.0.0.0:{port}"))
    result = daemon.lhd("run")
    assert result.returncode == 78
    assert f"{daemon.config}:{len(daemon.config.read_text().splitlines())}: " in result.stderr
    assert "insecure = true" in result.stderr
    assert "Traceback" not in result.stderr

    with daemon.config.open("a") as config:
        config.write("insecure = true\n")
    daemon.start()
    try:
        with connected(port) as stub:
            assert stub.Whoami(Empty(), timeout=CALL_S).id.id == "anonymous"
    finally:
        assert daemon.stop() == 0


@pytest.mark.parametrize("with_tls", [False, True])
def test_mtls_without_the_authority_of_the_clients_is_a_finding(tmp_path: Path, with_tls: bool) -> None:
    tls = Files(tmp_path).tls if with_tls else ""
    daemon = daemon_with(tmp_path, with_listener("127.0.0.1:2101") + tls + 'auth = "mtls"\n')
    lines = daemon.config.read_text().splitlines()
    result = daemon.lhd("check")
    assert result.returncode == 1
    assert "client_ca" in result.stderr
    first = lines.index("[[grpc.listeners]]") + 1
    assert result.stderr.partition(": ")[0] in {f"{daemon.config}:{line}" for line in range(first, len(lines) + 1)}


NOT_THERE, NO_PEM = None, b"no certificate\n"


@pytest.mark.parametrize(
    ("wrong", "content"),
    [
        pytest.param("server.pem", NOT_THERE, id="no certificate"),
        pytest.param("server-key.pem", NOT_THERE, id="no key"),
        pytest.param("authority.pem", NOT_THERE, id="no authority"),
        pytest.param("server.pem", NO_PEM, id="text for a certificate"),
        pytest.param("server-key.pem", NO_PEM, id="text for a key"),
        pytest.param("authority.pem", NO_PEM, id="text for an authority"),
        pytest.param("server-key.pem", Authority().issue("other").key, id="the key of another certificate"),
    ],
)
def test_run_names_a_certificate_file_that_it_cannot_use(tmp_path: Path, wrong: str, content: bytes | None) -> None:
    authority = Authority()
    authority.issue("localhost").write(tmp_path, "server")
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    (tmp_path / wrong).unlink()
    if content is not None:
        (tmp_path / wrong).write_bytes(content)
    names = ("server.pem", "server-key.pem", "authority.pem")
    cert, key, client_ca = (json.dumps(str(tmp_path / name)) for name in names)
    listener = with_listener(f"127.0.0.1:{free_port()}")
    tls = f'tls = {{ cert = {cert}, key = {key}, client_ca = {client_ca} }}\nauth = "mtls"\n'
    result = daemon_with(tmp_path, listener + tls).lhd("run")
    assert result.returncode == 78
    assert str(tmp_path / wrong) in result.stderr
    assert "Traceback" not in result.stderr


def test_run_names_a_client_secret_that_it_cannot_find(tmp_path: Path) -> None:
    secret = 'client_secret = { env = "OAUTH_SECRET_OF_NOBODY" }'
    oauth = f'auth = {{ oauth = {{ introspect_url = "http://a/b", client_id = "lhd", {secret} }} }}\n'
    result = daemon_with(tmp_path, with_listener(f"127.0.0.1:{free_port()}") + oauth).lhd("run")
    assert result.returncode == 78
    assert "OAUTH_SECRET_OF_NOBODY" in result.stderr
    assert "Traceback" not in result.stderr


# Health as clients of the original server know it


def get(port: int, path: str) -> tuple[int, str, str]:
    """Status, media type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", "").partition(";")[0], response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/readiness", "/liveness"])
def test_the_originals_probes_are_answered(world: World, path: str) -> None:
    status, _, body = get(world.ports["health"], path)
    assert (status, body) == (200, "OK!")


@pytest.mark.parametrize("path", ["/status", "/diskUsage", "/standby-status"])
def test_the_originals_reports_are_json(world: World, path: str) -> None:
    status, media_type, body = get(world.ports["health"], path)
    assert (status, media_type) == (200, "application/json")
    assert isinstance(json.loads(body), dict | list)


def test_the_originals_metrics_are_prometheus_text(world: World) -> None:
    status, media_type, body = get(world.ports["health"], "/metrics")
    assert (status, media_type) == (200, "text/plain")
    assert "# TYPE lhd_" in body


@pytest.mark.parametrize("path", ["/", "/healthz", "/readiness/more", "/no-such-path"])
def test_any_other_path_of_the_originals_is_not_found(world: World, path: str) -> None:
    assert get(world.ports["health"], path)[0] == 404


def listening(pid: int) -> set[int]:
    """The TCP ports on which a process listens."""
    inodes = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def test_a_daemon_listens_where_it_is_told_and_nowhere_else(world: World, tmp_path: Path) -> None:
    told = world.daemon
    assert listening(told.process.pid) == {*world.ports.values(), told.http_port, told.admin_port}
    daemon = daemon_with(tmp_path)
    with daemon.config.open("a") as config:
        config.write(f'\n[grpc]\nlisten = "127.0.0.1:{daemon.grpc_port}"\n')
    daemon.start()
    try:
        assert listening(daemon.process.pid) == {daemon.grpc_port, daemon.http_port, daemon.admin_port}
    finally:
        daemon.stop()
