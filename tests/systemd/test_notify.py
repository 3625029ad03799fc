"""The notifier against real datagram sockets in the place of the service manager's."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lhd.systemd import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The receiving end, as a file and as an abstract name."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@lhd-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def test_each_message_arrives_as_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.status("7 sources: 7 running")
    notifier.watchdog()
    notifier.stopping()
    assert [manager.recv(4096) for _ in range(4)] == [
        b"READY=1",
        b"STATUS=7 sources: 7 running",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\0", "\x0b", "\x1b", "\u2028"])
def test_a_status_cannot_smuggle_in_another_assignment(manager: socket.socket, line_break: str) -> None:
    Notifier().status(f"imap: login refused{line_break}WATCHDOG=trigger\n")
    assert manager.recv(4096) == f"STATUS=imap: login refused{' ' * len(line_break)}WATCHDOG=trigger".encode()


def test_a_status_may_hold_any_text(manager: socket.socket) -> None:
    Notifier().status("inbox: größe \udcff.json")
    assert manager.recv(4096) == "STATUS=inbox: größe  .json".encode()


def test_a_long_status_fits_the_managers_buffer(manager: socket.socket) -> None:
    Notifier().status("\N{SNAKE}" * 5000)
    message = manager.recv(65536)
    assert 3000 < len(message) <= 4096
    assert message.decode().startswith("STATUS=\N{SNAKE}")


@pytest.mark.parametrize("name", [None, "", "vsock:2:1234", "relative/path"])
def test_without_a_socket_that_we_can_use_nothing_happens(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if name is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    with capture_logs() as logs:
        Notifier().ready()
    assert logs == []


def test_a_socket_that_went_away_is_told_once_and_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    notifier = Notifier()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        notifier.ready()
    with capture_logs() as logs:
        notifier.watchdog()
        path.unlink()
        notifier.watchdog()
        notifier.stopping()
    assert [entry["event"] for entry in logs] == ["the service manager cannot be notified"]


def test_a_socket_that_came_back_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    notifier = Notifier()
    notifier.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(5)
        notifier.watchdog()
        assert receiver.recv(4096) == b"WATCHDOG=1"


def test_a_path_too_long_for_a_socket_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/" + "x" * 200)
    Notifier().ready()


def test_a_manager_that_does_not_read_holds_us_up_for_a_moment_only(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lhd.systemd._SEND_TIMEOUT_S", 0.05)
    name = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.connect(name.replace("@", "\0", 1) if name.startswith("@") else name)
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while filler.send(b"x"):
                pass
        began = time.monotonic()
        Notifier().watchdog()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("period_us", "pid", "interval_s"),
    [
        (None, None, None),
        ("30000000", None, 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("30000000", "", None),
        ("500000", None, 0.25),
        ("0", None, None),
        ("-1", None, None),
        ("soon", None, None),
        ("", None, None),
        (None, "ours", None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_the_manager_waits(
    period_us: str | None, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", period_us), ("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == interval_s
