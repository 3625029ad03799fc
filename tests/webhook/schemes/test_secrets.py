"""Where secrets come from, how they are replaced, and that they are never shown."""

import os
import re
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lhd.engine import Engine
from lhd.plugin import ConfigError, ConfigErrors, Secret
from lhd_webhook.source import Webhook, WebhookConfig
from tests.e2e.process import SECRET, Daemon, branch_payload
from tests.webhook.door import open_door
from tests.webhook.schemes.every import SENDERS, Sender
from tests.webhook.schemes.senders import NOW_S, REFUSED, github, matched, webhook


def source_of(*secrets: dict[str, Any], prepared: bool = True) -> Webhook:
    table = {"kind": "webhook", "path": "/x", "verify": {"scheme": "github", "secrets": list(secrets)}}
    source = Webhook(WebhookConfig.model_validate(table))
    if prepared:
        source.prepare()
    return source


# Places


async def test_a_secret_may_be_in_the_environment_in_a_file_and_in_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "by env")
    (tmp_path / "secret").write_bytes(b"by file\n")
    (tmp_path / "github-secret").write_bytes(b"by credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    source = source_of({"env": "HOOK_SECRET"}, {"file": str(tmp_path / "secret")}, {"credential": "github-secret"})
    assert await matched(source, github("by env")) == "env 'HOOK_SECRET'"
    assert await matched(source, github("by file")) == f"file '{tmp_path / 'secret'}'"
    assert await matched(source, github("by credential")) == "credential 'github-secret'"
    assert await matched(source, github("by nothing")) is None


async def test_secrets_are_bytes_and_one_newline_at_the_end_of_a_file_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", os.fsdecode(b"p\xc3\xa4ss \xff"))
    (tmp_path / "secret").write_bytes(b" \xff\x00\xfe\r\n\n")
    source = source_of({"env": "HOOK_SECRET"}, {"file": str(tmp_path / "secret")})
    assert await matched(source, github(b"p\xc3\xa4ss \xff"))
    assert await matched(source, github(b" \xff\x00\xfe\r\n"))
    assert await matched(source, github(b" \xff\x00\xfe")) is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "."])
def test_a_credential_never_leaves_the_credentials_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").write_bytes(b"s3cret")
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    with pytest.raises(ConfigErrors):
        source_of({"credential": name})


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_secret_is_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("HOOK_SECRET", "")
    with pytest.raises(ConfigErrors, match=r"empty.*empty") as refused:
        source_of({"file": str(tmp_path / "secret")}, {"env": "HOOK_SECRET"})
    assert [error.key for error in refused.value.errors] == ["verify.secrets[0]", "verify.secrets[1]"]


def test_every_secret_that_is_missing_is_named_by_its_place_and_no_other_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOD", "s3cret-v4lue")
    monkeypatch.delenv("MISSING", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    missing = ({"env": "MISSING"}, {"file": str(tmp_path / "no-such-file")}, {"credential": "github-secret"})
    with pytest.raises(ConfigErrors) as refused:
        source_of({"env": "GOOD"}, *missing)
    assert [error.key for error in refused.value.errors] == [f"verify.secrets[{number}]" for number in (1, 2, 3)]
    for name in ("MISSING", "no-such-file", "github-secret"):
        assert name in str(refused.value)
    assert "s3cret-v4lue" not in str(refused.value)


@pytest.mark.parametrize("places", [{}, {"env": "A", "file": "b"}, {"env": "A", "file": "b", "credential": "c"}])
def test_a_secret_has_exactly_one_place(places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Secret(**places)
    with pytest.raises(ValueError, match="exactly one"):
        source_of(places)


def test_a_secret_tells_its_place_and_never_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    with pytest.raises(ConfigError, match="HOOK_SECRET"):
        Secret(env="HOOK_SECRET").read()
    monkeypatch.setenv("HOOK_SECRET", "s3cret-v4lue")
    secret = Secret(env="HOOK_SECRET")
    assert secret.read() == b"s3cret-v4lue"
    assert "s3cret-v4lue" not in f"{secret!r} {secret!s}"


@pytest.mark.parametrize("sender", [one for one in SENDERS if one.secrets], ids=str)
def test_a_secret_is_in_no_text_of_the_objects_that_hold_it(sender: Sender, tmp_path: Path) -> None:
    source = sender.open(tmp_path)
    for holder in (source, source.config, source.config.verify, source.verifier):
        assert str(sender.secret) not in f"{holder!r} {holder!s}"


@pytest.mark.parametrize("secret", ["s3cret", {"value": "s3cret"}, {"env": "A", "value": "s3cret"}, None, 5])
def test_a_secret_in_the_configuration_itself_is_refused(secret: Any) -> None:
    with pytest.raises(ValueError, match="secrets"):
        source_of(secret)


@pytest.mark.parametrize("sender", [one for one in SENDERS if one.secrets], ids=str)
def test_a_scheme_that_needs_a_secret_is_not_prepared_without_one(sender: Sender, tmp_path: Path) -> None:
    nothing: list[dict[str, Any]] = [{}, {"secrets": []}]
    for secrets in nothing:
        with pytest.raises(REFUSED, match="secrets"):
            webhook({**sender.verify(tmp_path), **secrets})


def test_a_webhook_without_verify_is_refused() -> None:
    with pytest.raises(ValueError, match="verify"):
        WebhookConfig.model_validate({"kind": "webhook", "path": "/x"})


@pytest.mark.parametrize("verify", [{"scheme": "githab"}, {"scheme": "none", "scheme_of": 1}, {"scheme": None}, "none"])
def test_an_unknown_scheme_or_key_is_refused(verify: Any) -> None:
    with pytest.raises(ValueError, match="verify"):
        WebhookConfig.model_validate({"kind": "webhook", "path": "/x", "verify": verify})


# Changing them

HOUR = timedelta(hours=1)
NOW = datetime.fromtimestamp(NOW_S, UTC)


@pytest.mark.parametrize("order", list(permutations(("one", "two", "three"))), ids=",".join)
async def test_any_of_several_secrets_counts_in_any_order_and_is_named(
    order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in order:
        monkeypatch.setenv(name, f"the secret {name}")
    source = source_of(*({"env": name} for name in order))
    for name in order:
        assert await matched(source, github(f"the secret {name}")) == f"env '{name}'"
    assert await matched(source, github("the secret four")) is None


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_secret_ends_by_itself(is_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD", "old")
    monkeypatch.setenv("NEW", "new")
    old: dict[str, Any] = {"env": "OLD", "not_after": NOW}
    secrets = [old, {"env": "NEW"}] if is_first else [{"env": "NEW"}, old]
    source = source_of(*secrets)
    assert await matched(source, github("old"), NOW_S - 1) == "env 'OLD'"
    assert await matched(source, github("old"), NOW_S + 1) is None
    for now_s in (NOW_S - 1, NOW_S + 1):
        assert await matched(source, github("new"), now_s) == "env 'NEW'"


async def test_the_end_of_a_secret_is_a_moment_whatever_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD", "old")
    elsewhere = datetime.fromisoformat("2023-11-15T03:43:20+05:30")
    assert elsewhere == NOW
    source = source_of({"env": "OLD", "not_after": elsewhere}, {"env": "OLD", "not_after": NOW - HOUR})
    assert await matched(source, github("old"), NOW_S - 1) == "env 'OLD'"
    assert await matched(source, github("old"), NOW_S + 1) is None


@pytest.mark.parametrize("not_after", ["soon", 5, True, datetime(2027, 1, 31)])
def test_an_end_that_is_no_moment_is_refused(not_after: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD", "old")
    with pytest.raises(ValueError, match="not_after"):
        source_of({"env": "OLD", "not_after": not_after})


DOOR = """
[sources.x]
kind = "webhook"
path = "/hooks/x"
verify.scheme = "github"
verify.secrets = [
    { env = "PAST", not_after = 2020-01-31T00:00:00Z },
    { env = "FUTURE", not_after = 9999-01-31T00:00:00+01:00 },
]
"""


async def test_the_end_of_a_secret_holds_at_the_door(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAST", "past")
    monkeypatch.setenv("FUTURE", "future")
    async with open_door(engine, tmp_path, DOOR) as door:
        for key, status in (("past", 401), ("future", 202)):
            received = github(key)
            answer = await door.send("POST", "/hooks/x", received.body, dict(received.headers))
            assert answer.status == status


def test_a_metric_tells_which_secret_is_still_in_use(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        for secret, times in ((b"the one before", 1), (SECRET, 2), (b"a stranger's", 1)):
            for number in range(times):
                daemon.hook(branch_payload(f"{number}"), secret=secret)
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.admin_port}/metrics") as response:
            metrics = response.read().decode()
    finally:
        daemon.stop()
    lines = [line for line in metrics.splitlines() if line.startswith("lhd_source_secret_matches_total{")]
    counted = {re.sub(r".*/([a-z-]+)'.*", r"\1", line): float(line.rpartition(" ")[2]) for line in lines}
    assert counted == {"old-secret": 1, "secret": 2}
    assert all('source="github"' in line for line in lines)
    assert "the one before" not in metrics
    assert SECRET.decode() not in metrics
