"""Speaks to the running daemon through its admin socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lhd.cli.options import FINDINGS, NO_DAEMON, UNUSABLE_CONFIGURATION, fail

TIMEOUT_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class RefusedByDaemon(Exception):
    """The daemon says no, and why."""


def ask(data_dir: Path, path: str, method: str = "GET", body: Any = None, **query: str) -> Any:
    """The daemon's answer. Raises OSError where no daemon answers, RefusedByDaemon where it says no."""
    connection = _UnixConnection(data_dir / "admin.sock")
    try:
        content = None if body is None else json.dumps(body, default=str)
        connection.request(method, f"{path}?{urlencode(query)}" if query else path, content)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RefusedByDaemon(answer.get("reason", ""))
        return answer
    finally:
        connection.close()


def ask_configured(config: Path | None, path: str, method: str = "GET", body: Any = None, **query: str) -> Any:
    """Like :func:`ask`, for the daemon of a configuration file; ends the command where it gets no good answer."""
    from lhd.config import load
    from lhd.errors import ConfigurationError

    try:
        data_dir = Path(load(config).daemon.data_dir)
    except ConfigurationError as error:
        raise fail("\n".join(error.findings), UNUSABLE_CONFIGURATION) from None
    try:
        return ask(data_dir, path, method, body, **query)
    except RefusedByDaemon as refused:
        raise fail(str(refused), FINDINGS) from None
    except (OSError, http.client.HTTPException) as error:
        text = f"no daemon answers at {data_dir / 'admin.sock'} ({error}); is it running with this configuration?"
        raise fail(text, NO_DAEMON) from None
