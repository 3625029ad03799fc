"""``lhd send``: what it signs is taken by the daemon as the sender's own, for every scheme that can be imitated."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.live import live, query
from tests.e2e.certificates import Authority
from tests.e2e.process import Daemon

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The example of https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md."""
PUBLIC = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
"""The public key of the first test of https://www.rfc-editor.org/rfc/rfc8032#section-7.1."""
JWKS = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "kid": "1",
        }
    ]
}
"""The first key of https://www.rfc-editor.org/rfc/rfc7517#appendix-A.1."""

PLAIN, STANDARD_SECRET = 'secrets = [{{ file = "{folder}/plain" }}]', 'secrets = [{{ file = "{folder}/standard" }}]'
PUBLIC_URL = 'public_url = "https://hooks.example.com/hooks/sms"'

SCHEMES = {
    "github-hook": f'scheme = "github", {PLAIN}',
    "stripe": f'scheme = "stripe", {PLAIN}',
    "slack": f'scheme = "slack", {PLAIN}',
    "standard-webhooks": f'scheme = "standard-webhooks", {STANDARD_SECRET}',
    "shopify": f'scheme = "shopify", {PLAIN}',
    "twilio": f'scheme = "twilio", {PUBLIC_URL}, {PLAIN}',
    "meta": f'scheme = "meta", verify_token = {{{{ file = "{{folder}}/plain" }}}}, {PLAIN}',
    "gitlab": f'scheme = "gitlab", {PLAIN}',
    "gitlab-signed": f'scheme = "gitlab", signed = true, {STANDARD_SECRET}',
    "docusign": f'scheme = "docusign", {PLAIN}',
    "hmac": f'scheme = "hmac", header = "X-Signature", {PLAIN}',
    "hmac-all": (
        'scheme = "hmac", header = "X-Signature", prefix = "v1=", algorithm = "sha512", encoding = "base64url", '
        'signed = "{{id}}:{{timestamp}}:{{url}}:{{raw}}", timestamp_header = "X-Timestamp", id_header = "X-Delivery", '
        f"{PUBLIC_URL}, {PLAIN}"
    ),
    "hmac-sha1": f'scheme = "hmac", header = "X-Signature", algorithm = "sha1", encoding = "base64", {PLAIN}',
    "basic": f'scheme = "basic", user = "ann", {PLAIN}',
    "bearer": f'scheme = "bearer", {PLAIN}',
    "bearer-header": f'scheme = "bearer", header = "X-Api-Key", prefix = "", {PLAIN}',
    "bearer-query": f'scheme = "bearer", query = true, {PLAIN}',
    "microsoft-graph": f'scheme = "microsoft-graph", {PLAIN}',
    "none": 'scheme = "none"',
    "none-with-id": 'scheme = "none", id_header = "X-Delivery"',
}
ONLY_THE_SENDERS = {
    "sns": 'scheme = "sns", topics = ["arn:aws:sns:eu-west-1:123456789012:topic"]',
    "jwt": 'scheme = "jwt", jwks_file = "{folder}/jwks.json", algorithms = ["ES256"], audience = "lhd", issuer = "i"',
}

BODIES: dict[str, Any] = {
    "stripe": {"id": "evt_test_webhook", "object": "event"},
    "slack": {"type": "event_callback", "event_id": "Ev0PV52K25", "event": {"type": "app_mention"}},
    "docusign": {
        "event": "envelope-completed",
        "generatedDateTime": "2024-02-29T12:00:00.0000000Z",
        "data": {"envelopeId": "e1"},
    },
    "microsoft-graph": {"value": [{"subscriptionId": "s", "changeType": "updated", "resource": "me/messages/1"}]},
}


def source(name: str, verify: str, folder: Path) -> str:
    return f"""
[sources.{name}]
kind = "webhook"
path = "/hooks/{name}"
verify = {{ {verify.format(folder=folder)} }}

[[sources.{name}.routes]]
when = "body == body"
event = "approved"
wf_run = "'{name}'"
content = "'taken'"
"""


def config(folder: Path) -> str:
    """The sources of all schemes, and their secrets beside them."""
    (folder / "plain").write_text("Jefe-and-more-0123456789-0123456789\n")
    (folder / "standard").write_text(STANDARD + "\n")
    (folder / "jwks.json").write_text(json.dumps(JWKS))
    return "".join(source(name, verify, folder) for name, verify in (SCHEMES | ONLY_THE_SENDERS).items())


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with live(folder, config(folder)) as daemon:
        yield daemon


def file_of(folder: Path, body: Any) -> str:
    path = folder / "payload.json"
    path.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return str(path)


def verdicts(daemon: Daemon, name: str) -> list[str]:
    return [verdict for (verdict,) in query(daemon, f"SELECT verdict FROM ledger WHERE source = '{name}'")]


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_sent_is_accepted(daemon: Daemon, tmp_path: Path, name: str) -> None:
    result = daemon.lhd("send", name, "--file", file_of(tmp_path, BODIES.get(name, {"ref": "main", "text": "grüße"})))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "accepted" in result.stdout
    assert verdicts(daemon, name) == ["accepted"]


def test_a_form_is_signed_as_a_form(daemon: Daemon, tmp_path: Path) -> None:
    before = len(verdicts(daemon, "twilio"))
    form = ("--header", "Content-Type: application/x-www-form-urlencoded")
    result = daemon.lhd(
        "send", "twilio", "--file", file_of(tmp_path, b"From=%2B14158675309&Body=hello&To=b&Body=x"), *form
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert verdicts(daemon, "twilio")[before:] == ["accepted"]


def test_headers_of_ones_own_reach_the_routes(daemon: Daemon, tmp_path: Path) -> None:
    sent = daemon.lhd(
        "send", "github", "--file", file_of(tmp_path, {"run": "by-header"}), "--header", "X-GitHub-Event: typed"
    )
    assert sent.returncode == 1
    assert "content: there is no 'value'" in sent.stdout + sent.stderr


@pytest.mark.parametrize("name", ["github-hook", "none-with-id"])
def test_what_is_sent_twice_is_two_deliveries_where_the_sender_draws_the_id(
    daemon: Daemon, tmp_path: Path, name: str
) -> None:
    before = len(verdicts(daemon, name))
    payload = file_of(tmp_path, {"sent": "twice"})
    for _ in range(2):
        assert "accepted" in daemon.lhd("send", name, "--file", payload).stdout
    assert len(verdicts(daemon, name)) == before + 2


def test_what_is_sent_twice_with_the_same_id_in_its_body_is_a_duplicate(daemon: Daemon, tmp_path: Path) -> None:
    payload = file_of(tmp_path, {"id": "evt_sent_twice", "object": "event"})
    results = [daemon.lhd("send", "stripe", "--file", payload) for _ in range(2)]
    assert [result.returncode for result in results] == [0, 0]
    assert "accepted" in results[0].stdout
    assert "duplicate" in results[1].stdout


@pytest.mark.parametrize("name", ONLY_THE_SENDERS)
def test_a_scheme_whose_key_only_the_sender_has_cannot_be_imitated(daemon: Daemon, tmp_path: Path, name: str) -> None:
    result = daemon.lhd("send", name, "--file", file_of(tmp_path, {}))
    assert result.returncode == 1
    assert "only the sender has" in result.stderr
    assert verdicts(daemon, name) == []


def test_a_client_certificate_cannot_be_imitated(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("lhd").write(tmp_path, "lhd")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    tls = f'tls = {{ cert = "{certificate}", key = "{key}", client_ca = "{tmp_path}/ca.pem" }}'
    path = tmp_path / "mtls.toml"
    path.write_text(
        f'[http]\n{tls}\n[[event]]\nname = "approved"\n'
        + source("mtls", 'scheme = "mtls", subjects = ["client"]', tmp_path)
    )
    daemon = Daemon(tmp_path)
    daemon.config = path
    result = daemon.lhd("send", "mtls", "--file", file_of(tmp_path, {}))
    assert result.returncode == 1
    assert "only the sender has" in result.stderr


def test_no_secret_is_shown(daemon: Daemon, tmp_path: Path) -> None:
    payload = file_of(tmp_path, {"a": "secret is not shown"})
    for name in ("bearer", "basic", "gitlab", "bearer-query"):
        result = daemon.lhd("send", name, "--file", payload)
        assert "Jefe" not in result.stdout + result.stderr
    assert "Jefe" not in daemon.log.read_text()


def test_a_delivery_that_the_daemon_refuses_is_exit_code_1_with_its_reason(daemon: Daemon, tmp_path: Path) -> None:
    result = daemon.lhd("send", "none", "--file", file_of(tmp_path, b"{not json"))
    assert result.returncode == 1
    assert "400" in result.stdout + result.stderr


def test_another_secret_than_the_daemons_is_told_as_401(daemon: Daemon, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("another secret of this length, and more")
    text = daemon.config.read_text().replace(f"{daemon.folder}/plain", str(other))
    path = tmp_path / "lhd.toml"
    path.write_text(text)
    before, daemon.config = daemon.config, path
    try:
        result = daemon.lhd("send", "github-hook", "--file", file_of(tmp_path, {}))
    finally:
        daemon.config = before
    assert result.returncode == 1
    assert "401" in result.stdout + result.stderr


def test_an_unknown_source_is_told(daemon: Daemon, tmp_path: Path) -> None:
    result = daemon.lhd("send", "none-such", "--file", file_of(tmp_path, {}))
    assert result.returncode == 1
    assert "none-such" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["github-hook"]])
def test_a_usage_error_is_exit_code_2(daemon: Daemon, arguments: list[str]) -> None:
    assert daemon.lhd("send", *arguments).returncode == 2


def test_a_file_that_is_not_there_is_named(daemon: Daemon) -> None:
    result = daemon.lhd("send", "github-hook", "--file", "none-such.json")
    assert result.returncode in (1, 2)
    assert "none-such.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_daemon_the_exit_code_is_69(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_text(daemon.config.read_text() + config(tmp_path))
    result = daemon.lhd("send", "github-hook", "--file", file_of(tmp_path, {}))
    assert result.returncode == 69
    assert "Traceback" not in result.stderr


def test_a_public_key_of_standard_webhooks_cannot_be_imitated(tmp_path: Path) -> None:
    (tmp_path / "public").write_text(PUBLIC + "\n")
    daemon = Daemon(tmp_path)
    verify = 'scheme = "standard-webhooks", secrets = [{{ file = "{folder}/public" }}]'
    daemon.config.write_text(daemon.config.read_text() + source("asymmetric", verify, tmp_path))
    result = daemon.lhd("send", "asymmetric", "--file", file_of(tmp_path, {}))
    assert result.returncode == 1
    assert "only the sender has" in result.stderr
