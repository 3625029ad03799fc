"""A folder that is full of files when the daemon starts, and what looking at a folder costs.

The short form takes part in every test run. The full form has a million files:
``pytest --full tests/filedrop/test_many.py -o log_cli=true -o log_cli_level=INFO``, which tells the figures.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.live import live, query
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, Inbox, source
from tests.forms import FULL

log = logging.getLogger(__name__)
FILES, TAKEN = (1_000_000, 40_000) if FULL else (5_000, 5_000)
DEADLINE_S = 600.0 if FULL else 60.0
ROUTE = """event = "arrived"
wf_run = "file.stem"
"""
MEMORY_MAX = 64 * 1024
"""KiB beyond what an idle daemon has."""
IDLE_S = 20.0 if FULL else 1.0


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder with many files."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:07}.json").write_text(f'{{"number": {number}}}')
    yield folder
    shutil.rmtree(folder)


def peak(daemon: Daemon) -> int:
    """The most memory that the daemon had, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found
    return int(found[1])


def ticks(daemon: Daemon) -> int:
    """The processor time of the daemon."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def share(daemon: Daemon) -> float:
    """The share of a processor that the daemon uses while it looks and looks; told, but not judged."""
    before, began = ticks(daemon), time.monotonic()
    time.sleep(IDLE_S)
    return (ticks(daemon) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)


@pytest.mark.timeout(1800 if FULL else 110)
def test_many_files_that_are_there_at_the_start_are_taken_in_order_and_in_bounded_memory(
    full: Path, tmp_path: Path
) -> None:
    (tmp_path / "idle").mkdir()
    (tmp_path / "idle" / "in").mkdir()
    with live(tmp_path / "idle", EVENT + source("empty", tmp_path / "idle" / "in", AT_ONCE)) as daemon:
        Inbox(daemon, "empty", tmp_path / "idle" / "in").wait_for_looks()
        idle, idle_share = peak(daemon), share(daemon)
    with live(tmp_path, EVENT + source("many", full, route=ROUTE)) as daemon:
        drops = Inbox(daemon, "many", full)
        began = time.monotonic()
        stored = "SELECT count(*) FROM ledger"
        eventually(f"{TAKEN} files", lambda: query(daemon, stored)[0][0] >= TAKEN or None, DEADLINE_S)
        seconds = time.monotonic() - began
        if FULL:
            daemon.process.terminate()
            used = peak(daemon)
        else:
            eventually("all of them to be done", lambda: (not drops.tree() and not drops.in_work()) or None)
            used = peak(daemon)
            assert len(list((full / "done").iterdir())) == FILES
        daemon.stop()
        numbers = [event["number"] for event in drops.events()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= TAKEN
        assert drops.letters() == []
    assert used < idle + MEMORY_MAX
    log.info(
        "%d files, %d taken in %.0f s; memory at most %d KiB, idle %d KiB; looking each 0.1 s: %.1f %% of a processor",
        *(FILES, len(numbers), seconds, used, idle, idle_share * 100),
    )


@pytest.mark.timeout(1800 if FULL else 110)
def test_many_files_that_are_kept_are_stored_once_and_looked_at_in_bounded_memory(full: Path, tmp_path: Path) -> None:
    if FULL:
        for path in full.iterdir():
            if int(path.stem) >= TAKEN:
                path.rename(path.with_name(f".{path.name}"))
    keys = (AT_ONCE, 'after = "keep"')
    with live(tmp_path, EVENT + source("many", full, *keys)) as daemon:
        drops = Inbox(daemon, "many", full)
        stored = "SELECT count(*) FROM ledger"
        eventually(f"{TAKEN} files", lambda: query(daemon, stored)[0][0] >= TAKEN or None, DEADLINE_S)
        before = peak(daemon)
        used = share(daemon)
        drops.drop("9999999.json", '{"number": -1}')
        eventually("one more", lambda: len(drops.events("9999999.json")) == 1 or None)
        assert query(daemon, stored) == [(TAKEN + 1,)]
        assert drops.deliveries("duplicate") == 0
        log.info(
            "%d files kept; memory %d KiB, then %d KiB; looking every 0.1 s: %.1f %% of a processor",
            *(TAKEN, before, peak(daemon), used * 100),
        )
