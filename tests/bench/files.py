"""``python -m tests.bench.files``: how fast dropped files become events, beside a loop that only reads and moves them.

In each round the loop (open, read, ``json.loads``, rename) and lhd are measured one right after the other over the same
files. What lhd does besides: a digest, routes, one durable transaction for each batch. Figures are medians
(lowest..highest) of the rounds; a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.bench.table import Table
from tests.e2e.process import Daemon, eventually

log = logging.getLogger(__name__)
FILES = 5_000
RECORDS = 50_000
ANSWER_S = 300.0
TICKS = os.sysconf("SC_CLK_TCK")
TOML = """
[[event]]
name = "arrived"
type = "JSON_OBJ"

[sources.small]
kind = "filedrop"
directory = "{folder}/small"

[[sources.small.routes]]
event = "arrived"
wf_run = "'nobody'"

[sources.large]
kind = "filedrop"
directory = "{folder}/large"
format = "ndjson"
unit = "record"

[[sources.large.routes]]
event = "arrived"
wf_run = "'nobody'"
"""


def record(number: int) -> str:
    """An order, as small as they come."""
    order = {"order": number, "customer": f"customer-{number % 997}", "lines": [{"sku": f"sku-{number}", "count": 2}]}
    return json.dumps(order)


def make_small(folder: Path) -> None:
    """Files that are there already, under hidden names: what is measured begins with their renames."""
    for number in range(FILES):
        (folder / f".{number:06}.json").write_text(record(number))


def make_large(folder: Path) -> None:
    """One file of many records."""
    (folder / ".all.ndjson").write_text("".join(record(number) + "\n" for number in range(RECORDS)))


def show(folder: Path) -> None:
    """Rename what was made."""
    with os.scandir(folder) as entries:
        hidden = [entry.name for entry in entries if entry.name.startswith(".") and entry.is_file()]
    for name in hidden:
        (folder / name).rename(folder / name[1:])


def loop(folder: Path, read: Callable[[bytes], object]) -> None:
    """What anybody would write first."""
    done = folder / "done"
    done.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            read(path.read_bytes())
            path.rename(done / path.name)


def read_lines(data: bytes) -> list[object]:
    """The records of an ndjson file."""
    return [json.loads(line) for line in data.splitlines()]


def stored(daemon: Daemon, source: str) -> int:
    """How many events of a source are stored."""
    with closing(sqlite3.connect(f"file:{daemon.folder}/data/lhd.sqlite?mode=ro", uri=True)) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM ledger WHERE source = ?", (source,)).fetchall()
    return int(count)


def processor_s(daemon: Daemon) -> float:
    """The processor time that the daemon used."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Round:
    """One round: the loop, and a daemon with an empty store, over files that are made anew."""

    def __init__(self, folder: Path, table: Table) -> None:
        self._folder = folder
        self._table = table
        for name in ("bare", "small", "large"):
            (folder / name).mkdir()
        self._daemon = Daemon(folder)
        self._daemon.config.write_text(self._daemon.config.read_text() + TOML.format(folder=folder))

    def measure(self) -> None:
        """Both kinds of files, the loop first."""
        small = self._bare(make_small, json.loads)
        large = self._bare(make_large, read_lines)
        self._daemon.start()
        try:
            self._lhd("small", FILES, "files", make_small, small)
            self._lhd("large", RECORDS, "records", make_large, large)
        finally:
            self._daemon.stop()

    def _bare(self, make: Callable[[Path], None], read: Callable[[bytes], object]) -> float:
        folder = self._folder / "bare"
        make(folder)
        began = time.perf_counter()
        show(folder)
        loop(folder, read)
        seconds = time.perf_counter() - began
        shutil.rmtree(folder / "done")
        return seconds

    def _lhd(self, source: str, count: int, unit: str, make: Callable[[Path], None], bare_s: float) -> None:
        folder = self._folder / source
        eventually("the source", lambda: (folder / "done").is_dir() or None, ANSWER_S)
        make(folder)
        files = len(list(folder.glob(".*"))) - 1  # but .work
        used, began = processor_s(self._daemon), time.perf_counter()
        show(folder)
        eventually("all events", lambda: stored(self._daemon, source) == count or None, ANSWER_S)
        eventually("all moves", lambda: len(list((folder / "done").iterdir())) == files or None, ANSWER_S)
        seconds = time.perf_counter() - began
        rate = self._table.row(f"{source}: {count:,} {unit}", f"{unit}/s")
        rate.lhd.append(count / seconds)
        rate.bare.append(count / bare_s)
        self._table.row(f"{source}: processor", "us each").lhd.append((processor_s(self._daemon) - used) / count * 1e6)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = Table()
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            Round(Path(folder), table).measure()
        log.info("after round %d of %d:\n%s", number + 1, rounds, table.text())


if __name__ == "__main__":
    main()
