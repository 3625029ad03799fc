"""Folders that a daemon watches: what is dropped into them, and what a user can see of it afterwards."""

import http.client
import json
import os
import re
import socket
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from littlehorse.model import ExternalEvent

from tests.cli.live import query
from tests.e2e.process import DEADLINE_S, Daemon, eventually

EVENT = '\n[[event]]\nname = "arrived"\ntype = "JSON_OBJ"\n'
ROUTE = """event = "arrived"
wf_run = "'nobody'"
content = "{'file': file, 'record': record, 'meta': meta, 'body': body}"
"""
AT_ONCE = "scan_s = 0.1"


def source(name: str, directory: Path, *keys: str, route: str = ROUTE) -> str:
    """The table of a source, and that of its route."""
    lines = ["", f"[sources.{name}]", 'kind = "filedrop"', f'directory = "{directory}"', *keys, ""]
    return "\n".join([*lines, f"[[sources.{name}.routes]]", route])


def sources(folder: Path, keys: dict[str, tuple[str, ...]]) -> str:
    """Sources of these names and keys, each with a folder of its own inside ``folder``, which is made."""
    for name in keys:
        (folder / name).mkdir(parents=True)
    return EVENT + "".join(source(name, folder / name, *lines) for name, lines in keys.items())


@dataclass(frozen=True)
class Inbox:
    """The folder of one source of a daemon."""

    daemon: Daemon
    name: str
    directory: Path

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def drop(self, name: str, data: bytes | str) -> Path:
        """What a writer does: write under a hidden name, then rename."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.parent / f".{os.urandom(8).hex()}"
        hidden.write_bytes(data if isinstance(data, bytes) else data.encode())
        hidden.rename(path)
        return path

    def events(self, path: str | None = None) -> list[dict[str, Any]]:
        """The events that are stored, of all files or of one, in the order in which they were stored."""
        rows = query(
            self.daemon,
            "SELECT event.body FROM external_event event JOIN ledger USING (guid) "
            f"WHERE ledger.source = '{self.name}' ORDER BY event.arrival",
        )
        contents = [json.loads(ExternalEvent.FromString(body).content.json_obj) for (body,) in rows]
        return [content for content in contents if path is None or _path(content) == path]

    def bodies(self, path: str | None = None) -> list[Any]:
        """The bodies of these events."""
        return [event["body"] for event in self.events(path)]

    def letters(self, path: str | None = None) -> list[dict[str, Any]]:
        """The dead letters, of all files or of one: id, reason, bytes, and what routes saw."""
        rows = query(
            self.daemon,
            "SELECT delivery_id, reason, body, attributes FROM dead_letter "
            f"WHERE source = '{self.name}' ORDER BY first_ms",
        )
        letters = [
            {"id": letter, "reason": reason, "raw": raw, **json.loads(attributes)}
            for letter, reason, raw, attributes in rows
        ]
        return [letter for letter in letters if path is None or _path(letter) == path]

    def done(self, name: str) -> Path:
        """Wait until a file is done."""
        return self.moved(name, "done")

    def failed(self, name: str) -> dict[str, Any]:
        """Wait until a file has failed; what is said beside it."""
        path = self.moved(name, "failed")
        told = path.with_name(path.name + ".error.json")
        eventually(f"{told.name!r}", lambda: told.exists() or None)
        error: dict[str, Any] = json.loads(told.read_bytes())
        return error

    def moved(self, name: str, where: str) -> Path:
        """Wait until a file is in ``done`` or ``failed``."""
        path = self.directory / where / name
        try:
            eventually(f"{name!r} in {where}", lambda: path.exists() or None)
        except AssertionError as error:
            error.add_note(f"files: {self.tree()}, letters: {self.letters()}, status: {self.state()}")
            raise
        return path

    def tree(self) -> list[str]:
        """Everything in the folder but what lhd made there for itself."""
        return tree(self.directory)

    def waiting(self) -> list[str]:
        """The files among them."""
        return [name for name in self.tree() if not (self.directory / name).is_dir()]

    def in_work(self) -> list[str]:
        """The files that lhd has claimed and not moved on."""
        return [name for name in files(self.directory / ".work") if not name.endswith(".lock")]

    def state(self) -> dict[str, Any]:
        """What ``lhd status`` says of the source."""
        (found,) = [one for one in status(self.daemon)["sources"] if one["name"] == self.name]
        return dict(found)

    def wait_for_state(self, state: str, *facts: str) -> str:
        """Wait until ``lhd status`` says this of the source; the whole reason."""

        def look() -> str | None:
            said = self.state()
            return said["reason"] if said["state"] == state and all(one in said["reason"] for one in facts) else None

        try:
            return eventually(f"{self.name} to be {state} {facts}", look)
        except AssertionError as error:
            error.add_note(f"it is {self.state()}")
            raise

    def deliveries(self, verdict: str) -> int:
        """How many deliveries of the source had this verdict since the daemon was started."""
        return metric(self.daemon, "lhd_source_deliveries_total", source=self.name, verdict=verdict)

    def wait_for_looks(self) -> None:
        """Wait until the folder was surely looked through anew: two files that are dropped in turn are done."""
        for _ in range(2):
            name = f"zzz-{os.urandom(6).hex()}.json"
            self.drop(name, "{}")
            self.done(name)


def _path(seen: dict[str, Any]) -> str | None:
    return seen["file"]["path"] if "file" in seen else None


def tree(folder: Path) -> list[str]:
    """Everything in a folder but what lhd made there for itself."""
    return [name for name in _walk(folder) if name.partition("/")[0] not in (".work", "done", "failed")]


def files(folder: Path) -> list[str]:
    """The files in a folder and in those inside it."""
    return [name for name in _walk(folder) if not (folder / name).is_dir()]


def _walk(folder: Path) -> list[str]:
    """All paths inside a folder that others change meanwhile."""
    return sorted(
        os.path.relpath(os.path.join(where, name), folder)  # noqa: PTH118
        for where, folders, names in os.walk(folder)
        for name in (*folders, *names)
    )


class _Socket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self._path))


def status(daemon: Daemon) -> dict[str, Any]:
    """What ``lhd status --json`` prints, without starting a process for it."""
    connection = _Socket(daemon.folder / "data" / "admin.sock")
    try:
        connection.request("GET", "/status")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def metric(daemon: Daemon, name: str, **labels: str) -> int:
    """The value of a metric, 0 where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.admin_port}/metrics", timeout=DEADLINE_S) as answer:
        text = answer.read().decode()
    for line in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
        if dict(re.findall(r'(\w+)="([^"]*)"', line[0])) == labels:
            return int(float(line[1]))
    return 0


def good(daemon: Daemon, *arguments: str) -> str:
    """What a command says that succeeds."""
    result = daemon.lhd(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def lines_of(values: Iterable[Any]) -> str:
    """Values as ndjson."""
    return "".join(json.dumps(value) + "\n" for value in values)
