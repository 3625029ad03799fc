"""Speaks to the running daemon through its admin socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lhd.cli.options import NO_DAEMON, UNUSABLE_CONFIGURATION, fail

TIMEOUT_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(data_dir: Path, path: str, **query: str) -> Any:
    """The daemon's answer to a GET of the admin API. Raises OSError where no daemon answers."""
    connection = _UnixConnection(data_dir / "admin.sock")
    try:
        connection.request("GET", f"{path}?{urlencode(query)}" if query else path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def ask_configured(config: Path | None, path: str, **query: str) -> Any:
    """Like :func:`ask`, for the daemon of a configuration file; ends the command where no daemon answers."""
    from lhd.config import load
    from lhd.errors import ConfigurationError

    try:
        data_dir = Path(load(config).daemon.data_dir)
    except ConfigurationError as error:
        raise fail("\n".join(error.findings), UNUSABLE_CONFIGURATION) from None
    try:
        return ask(data_dir, path, **query)
    except (OSError, http.client.HTTPException) as error:
        text = f"no daemon answers at {data_dir / 'admin.sock'} ({error}); is it running with this configuration?"
        raise fail(text, NO_DAEMON) from None
