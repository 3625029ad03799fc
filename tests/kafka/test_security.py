"""What a source shows to a secured broker, and what it tells where it is refused."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.live import live
from tests.e2e.certificates import Authority
from tests.e2e.process import Daemon
from tests.kafka.broker import PASSWORD, USER, Broker
from tests.kafka.reading import EVENT, fault, outcome, source
from tests.kafka.topics import as_json, create, new_name, produce

WRONG = "wrong-password-of-nobody"


def token(expiry_s: int = 4_000_000_000) -> str:
    """A JWT without a signature, as brokers take it that were told to; it is good for long, unless said."""

    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'sub': 'lhd', 'iat': 1_700_000_000, 'exp': expiry_s})}."


OLD_TOKEN = token(1_700_000_600)


def write_secrets(folder: Path, broker: Broker) -> None:
    files = {
        "password": PASSWORD,
        "wrong": WRONG,
        "token": token(),
        "old-token": OLD_TOKEN,
        "key-password": "k",
    }
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    (folder / "ca.pem").write_bytes(broker.authority.certificate)
    (folder / "other-ca.pem").write_bytes(Authority().certificate)
    broker.authority.issue("lhd").write(folder, "client")
    Authority().issue("lhd").write(folder, "stranger")
    command = folder / "command"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nif sys.argv[1] == 'fail': sys.exit(1)\nprint(open(sys.argv[1]).read())\n"
    )
    command.chmod(0o755)


def tables(broker: Broker, topic: str, folder: Path) -> str:
    """The sources: those that are let in, and those that are refused."""
    tls, reads = f'tls = {{ ca = "{folder}/ca.pem" }}', f'topics = ["{topic}"]'

    def password(mechanism: str, file: str = "password", user: str = USER) -> str:
        login = f'mechanism = "{mechanism}", username = "{user}", password = {{ file = "{folder}/{file}" }}'
        return f"sasl = {{ {login} }}"

    def bearer(how: str) -> str:
        return f'sasl = {{ mechanism = "OAUTHBEARER", {how} }}'

    def certificate(name: str) -> str:
        return f'tls = {{ ca = "{folder}/ca.pem", cert = "{folder}/{name}.pem", key = "{folder}/{name}-key.pem" }}'

    secure, other = broker.secure_address, f'tls = {{ ca = "{folder}/other-ca.pem" }}'
    sources = {
        "scram-256": (secure, tls, password("SCRAM-SHA-256")),
        "scram-512": (secure, tls, password("SCRAM-SHA-512")),
        "scram-clear": (broker.scram_address, password("SCRAM-SHA-512")),
        "plain": (secure, tls, password("PLAIN")),
        "token": (secure, tls, bearer(f'token = {{ file = "{folder}/token" }}')),
        "command": (secure, tls, bearer(f'token_command = ["{folder}/command", "{folder}/token"]')),
        "certificate": (broker.mutual_address, certificate("client")),
        "wrong-256": (secure, tls, password("SCRAM-SHA-256", "wrong")),
        "wrong-512": (secure, tls, password("SCRAM-SHA-512", "wrong")),
        "wrong-plain": (secure, tls, password("PLAIN", "wrong")),
        "wrong-user": (secure, tls, password("SCRAM-SHA-512", user="nobody")),
        "old-token": (secure, tls, bearer(f'token = {{ file = "{folder}/old-token" }}')),
        "wrong-ca": (secure, other, password("SCRAM-SHA-512")),
        "not-offered": (broker.scram_address, password("PLAIN")),
        "failing": (secure, tls, bearer(f'token_command = ["{folder}/command", "fail"]')),
        "no-command": (secure, tls, bearer(f'token_command = ["{folder}/no-such-program"]')),
        "no-certificate": (broker.mutual_address, tls),
        "stranger": (broker.mutual_address, certificate("stranger")),
        "no-login": (secure, tls),
        "not-tls": (broker.address, tls),
    }
    return "".join(
        source(name, address, reads, *keys, "request_timeout_s = 4") for name, (address, *keys) in sources.items()
    )


LET_IN = ("scram-256", "scram-512", "scram-clear", "plain", "token", "command", "certificate")


@pytest.fixture(scope="module")
def topic() -> str:
    return new_name()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="module")
def daemon(broker: Broker, topic: str, folder: Path) -> Iterator[Daemon]:
    write_secrets(folder, broker)
    create(broker, topic)
    produce(broker, topic, [as_json(number) for number in range(3)])
    with live(folder, EVENT + tables(broker, topic, folder)) as daemon:
        yield daemon


@pytest.mark.parametrize("name", LET_IN)
def test_the_source_is_let_in_and_reads(daemon: Daemon, topic: str, name: str) -> None:
    assert outcome(daemon, name, topic, 2).verdict == "accepted"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong-256", f"the user '{USER}' or its password is refused (SCRAM-SHA-256)"),
        ("wrong-512", f"the user '{USER}' or its password is refused (SCRAM-SHA-512)"),
        ("wrong-plain", f"the user '{USER}' or its password is refused (PLAIN)"),
        ("wrong-user", "the user 'nobody' or its password is refused (SCRAM-SHA-512)"),
    ],
)
def test_a_wrong_user_or_password_is_told_as_such(daemon: Daemon, name: str, reason: str) -> None:
    assert reason in fault(daemon, name)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("old-token", "token"),
        ("wrong-ca", "certificate"),
        ("not-offered", "PLAIN"),
        ("failing", "token"),
        ("no-command", "token"),
        ("no-certificate", "certificate"),
        ("stranger", "certificate"),
        ("not-tls", "TLS"),
        ("no-login", "SASL"),
    ],
)
def test_what_else_is_refused_is_told_with_its_cause(daemon: Daemon, name: str, cause: str) -> None:
    assert cause in fault(daemon, name)


def test_no_password_and_no_token_is_told_in_log_status_or_metrics(daemon: Daemon) -> None:
    assert all(fault(daemon, name) for name in ("failing", "wrong-512", "wrong-plain", "old-token"))
    said = daemon.log.read_text() + daemon.lhd("status", "--json").stdout
    assert [secret for secret in (PASSWORD, WRONG, token(), OLD_TOKEN) if secret in said] == []


def test_a_token_is_read_anew_for_each_connection(daemon: Daemon, topic: str, folder: Path) -> None:
    fault(daemon, "old-token")
    (folder / "old-token").write_text(token())
    assert outcome(daemon, "old-token", topic, 2).verdict == "accepted"
