"""A real daemon for the commands that speak to one, with more in its configuration and a look into its store."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from littlehorse.model import RunWfRequest
from littlehorse.utils import to_variable_value

from tests.e2e.process import Daemon


@contextmanager
def live(folder: Path, extra: str) -> Iterator[Daemon]:
    """A running daemon whose configuration has ``extra`` at its end."""
    daemon = Daemon(folder)
    daemon.config.write_text(daemon.config.read_text() + extra)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def query(daemon: Daemon, statement: str) -> list[tuple[Any, ...]]:
    """Rows of the store of a daemon, which may run."""
    with closing(sqlite3.connect(f"file:{daemon.folder}/data/lhd.sqlite?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def row_counts(daemon: Daemon) -> dict[str, int]:
    """How many rows each table has."""
    tables = [name for (name,) in query(daemon, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: query(daemon, f'SELECT count(*) FROM "{table}"')[0][0] for table in tables}


def deliver(
    daemon: Daemon, path: str, body: Any, delivery: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """A delivery to a source that verifies nothing; ``body`` may be raw bytes. Headers have ``_`` for ``-``."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json"} | ({} if delivery is None else {"x-delivery": delivery})
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = daemon.request("POST", path, raw, sent)
    return status, json.loads(answer)


def run_wf(daemon: Daemon, wf_spec: str, wf_run_id: str, **variables: Any) -> None:
    """Start a run."""
    values = {name: to_variable_value(value) for name, value in variables.items()}
    daemon.stub().RunWf(RunWfRequest(wf_spec_name=wf_spec, id=wf_run_id, variables=values))
