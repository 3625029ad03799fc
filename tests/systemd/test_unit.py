"""The files under systemd/, judged by the real systemd-analyze and systemd-sysusers; no manager needs to run."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
SHUTDOWN_GRACE_S = 20

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_sysusers = pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed"
)


class Settings(configparser.RawConfigParser):
    """A unit file whose keys keep their case; a key set again adds to the one before."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read_string(path.read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy of the unit that starts a program which exists here."""
    text = (SYSTEMD / "lhd.service").read_text()
    command = Settings(SYSTEMD / "lhd.service")["Service"]["ExecStart"]
    path = tmp_path / "lhd.service"
    path.write_text(text.replace(f"ExecStart={command}\n", f"ExecStart={sys.executable}\n"))
    assert sys.executable in path.read_text()
    return path


def add_drop_in(unit: Path, text: str) -> None:
    directory = unit.with_name(f"{unit.name}.d")
    directory.mkdir()
    (directory / "credentials.conf").write_text(text)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def complaints(unit: Path) -> str:
    """What verify has against the unit; it exits with 0 for an unknown key and tells of it on stderr only."""
    done = analyze("verify", "--man=no", str(unit))
    return done.stderr + (f"exit {done.returncode}" if done.returncode else "")


@needs_analyze
def test_the_unit_has_no_mistakes(unit: Path) -> None:
    assert complaints(unit) == ""


@needs_analyze
def test_an_unknown_key_and_a_bad_value_would_be_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("UMask=0077", "UMsk=0077").replace("Type=notify", "Type=notfy"))
    found = complaints(unit)
    assert "UMsk" in found
    assert "notfy" in found


@needs_analyze
def test_the_unit_is_hardened(unit: Path) -> None:
    done = analyze("security", "--no-pager", "--offline=true", "--threshold=15", str(unit))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@needs_analyze
def test_less_hardening_would_be_seen(unit: Path) -> None:
    lines = unit.read_text().splitlines(keepends=True)
    unit.write_text("".join(line for line in lines if not line.startswith("SystemCallFilter=")))
    assert analyze("security", "--no-pager", "--offline=true", "--threshold=15", str(unit)).returncode != 0


@needs_analyze
def test_the_credentials_drop_in_has_no_mistakes(unit: Path) -> None:
    add_drop_in(unit, (SYSTEMD / "credentials.conf").read_text())
    assert complaints(unit) == ""


@needs_analyze
def test_the_encrypted_form_in_the_drop_in_has_no_mistakes(unit: Path) -> None:
    add_drop_in(unit, (SYSTEMD / "credentials.conf").read_text().replace("#LoadCredentialE", "LoadCredentialE"))
    assert complaints(unit) == ""


@needs_analyze
def test_a_mistake_in_the_drop_in_would_be_seen(unit: Path) -> None:
    add_drop_in(unit, (SYSTEMD / "credentials.conf").read_text().replace("LoadCredential=", "LoadCredentials="))
    assert "LoadCredentials" in complaints(unit)


def test_the_drop_in_loads_the_secret_of_the_example() -> None:
    service = Settings(SYSTEMD / "credentials.conf")["Service"]
    assert dict(service) == {"LoadCredential": "github-secret:/etc/lhd/credentials/github-secret"}


def test_the_unit_keeps_what_the_daemon_and_its_guide_promise() -> None:
    service = Settings(SYSTEMD / "lhd.service")["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"] == "/opt/lhd/bin/lhd run -c /etc/lhd/lhd.toml"
    assert service["StateDirectory"] == "lhd"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "78"
    assert int(service["WatchdogSec"]) > 0
    assert int(service["TimeoutStopSec"]) > SHUTDOWN_GRACE_S


@needs_sysusers
def test_sysusers_makes_the_user_of_the_unit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", f"--root={tmp_path}", str(SYSTEMD / "lhd.sysusers")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    service = Settings(SYSTEMD / "lhd.service")["Service"]
    assert done.returncode == 0, done.stderr
    assert f"user '{service['User']}'" in done.stderr
    assert f"group '{service['Group']}'" in done.stderr
