"""The program as a user runs it: exit codes, and messages that say what to do, without a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

DEADLINE_S = 15.0

CONFIG = """\
[daemon]
data_dir = "{folder}/data"

[grpc]
listen = "127.0.0.1:{grpc}"

[http]
listen = "127.0.0.1:{http}"
admin_listen = "127.0.0.1:{admin}"
"""


def lhd(*arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The result of a command, which must not show a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "lhd", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


def write_config(folder: Path, extra: str = "", grpc: int = 0, http: int = 0, admin: int = 0) -> str:
    path = folder / "lhd.toml"
    path.write_text(CONFIG.format(folder=folder, grpc=grpc, http=http, admin=admin) + extra)
    return str(path)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_version_is_the_version_of_the_distribution(tmp_path: Path) -> None:
    result = lhd("--version", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"lhd {version('lhd')}\n")


def test_help_names_every_command(tmp_path: Path) -> None:
    result = lhd("--help", folder=tmp_path)
    assert result.returncode == 0
    assert {"run", "check", "demo", "status", "explain"} <= set(re.findall(r"^ *(\w+)  ", result.stdout, re.MULTILINE))


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run", "--no-such-option"], ["explain"]])
def test_a_usage_error_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    result = lhd(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr


# check


def test_check_of_a_good_file_is_exit_code_0_and_says_so(tmp_path: Path) -> None:
    result = lhd("check", "-c", write_config(tmp_path), folder=tmp_path)
    assert result.returncode == 0
    assert "good" in result.stdout
    assert result.stderr == ""


def test_check_without_a_file_checks_the_defaults(tmp_path: Path) -> None:
    assert lhd("check", folder=tmp_path).returncode == 0
    assert not (tmp_path / "lhd-data").exists()


def test_check_tells_every_mistake_with_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "lhd.toml"
    path.write_text('[daemon]\ndata_dirr = "x"\n[log]\nlevel = "loud"\n[sources.a]\nkind = "webhok"\n')
    result = lhd("check", "-c", str(path), folder=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{path}:{number}" for number in (2, 4, 6)]
    assert "'data_dir'" in lines[0]
    assert "'webhook'" in lines[2]


@pytest.mark.parametrize("content", [None, b"[daemon\n", b"# \xff\n"])
def test_check_of_a_file_that_cannot_be_used_is_exit_code_1_and_names_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "lhd.toml"
    if content is not None:
        path.write_bytes(content)
    result = lhd("check", "-c", str(path), folder=tmp_path)
    assert result.returncode == 1
    assert str(path) in result.stderr


def test_check_never_shows_a_secret(tmp_path: Path) -> None:
    extra = """
[sources.github]
kind = "webhook"
path = "/hooks"
tenant = "1st"
verify = { scheme = "github", secrets = [{ env = "HOOK_SECRET" }] }
"""
    result = lhd("check", "-c", write_config(tmp_path, extra), folder=tmp_path, HOOK_SECRET="hunter2")
    assert result.returncode == 1
    assert "hunter2" not in result.stdout + result.stderr


# run


@pytest.mark.parametrize("extra", ['[sources.a]\nkind = "webhok"\n', "[["])
def test_run_with_an_unusable_configuration_is_exit_code_78(tmp_path: Path, extra: str) -> None:
    path = write_config(tmp_path, extra)
    result = lhd("run", "-c", path, folder=tmp_path)
    assert result.returncode == 78
    assert path in result.stderr


def test_run_without_its_configuration_file_is_exit_code_78(tmp_path: Path) -> None:
    result = lhd("run", "-c", "none.toml", folder=tmp_path)
    assert result.returncode == 78
    assert "none.toml" in result.stderr


def test_run_refuses_a_listener_beyond_loopback(tmp_path: Path) -> None:
    path = tmp_path / "lhd.toml"
    path.write_text('[grpc]\nlisten = "0.0.0.0:0"\n')
    result = lhd("run", "-c", str(path), folder=tmp_path)
    assert result.returncode == 78
    assert "insecure = true" in result.stderr


@pytest.mark.parametrize("listener", ["grpc", "http", "admin"])
def test_run_on_a_port_that_is_taken_is_exit_code_1_and_names_the_address(
    tmp_path: Path, taken: int, listener: str
) -> None:
    ports = {one: taken if one == listener else 0 for one in ("grpc", "http", "admin")}
    result = lhd("run", "-c", write_config(tmp_path, "", **ports), folder=tmp_path)
    assert result.returncode == 1
    assert f"127.0.0.1:{taken}" in result.stderr


@pytest.mark.parametrize("what", ["a file", "no database"])
def test_run_on_data_that_cannot_be_used_is_exit_code_1_and_names_it(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    if what == "a file":
        data.write_text("")
    else:
        data.mkdir()
        (data / "lhd.sqlite").write_text("this is not a database, and it is long enough to be seen as none" * 20)
    result = lhd("run", "-c", write_config(tmp_path), folder=tmp_path)
    assert result.returncode == 1
    assert str(data) in result.stderr


def test_run_says_ready_in_one_line_of_json_and_stops_at_sigterm_with_exit_code_0(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lhd", "run", "-c", write_config(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "ready":
                process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert [line["event"] for line in lines].count("ready") == 1


# Commands that speak to the daemon


@pytest.mark.parametrize("arguments", [["status", "--json"], ["explain", "x"]])
def test_without_a_daemon_a_command_is_exit_code_69_and_names_the_socket(tmp_path: Path, arguments: list[str]) -> None:
    result = lhd(*arguments, "-c", write_config(tmp_path), folder=tmp_path)
    assert result.returncode == 69
    assert str(tmp_path / "data" / "admin.sock") in result.stderr
    assert result.stdout == ""


def test_a_socket_that_a_daemon_left_behind_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "data" / "admin.sock"))
    assert lhd("status", "-c", write_config(tmp_path), folder=tmp_path).returncode == 69


def test_with_an_unusable_configuration_a_command_is_exit_code_78(tmp_path: Path) -> None:
    result = lhd("status", "-c", write_config(tmp_path, "[demon]\n"), folder=tmp_path)
    assert result.returncode == 78
    assert "demon" in result.stderr


# The log


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_is_logged_without_the_values_of_its_variables(tmp_path: Path, log_format: str) -> None:
    program = f"""
import structlog
from lhd import log

def fail(secret):
    raise ValueError("told")

log.configure("info", "{log_format}")
try:
    fail("hunter" + str(2))
except ValueError:
    structlog.get_logger("lhd.test").exception("it failed")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert "it failed" in result.stderr
    assert "told" in result.stderr
    assert "hunter2" not in result.stderr
