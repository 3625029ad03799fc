"""The daemon is killed again and again under load; then each file and each record is stored once, and none in part.

The short form takes part in every test run. The full form, for a machine at rest:
``pytest --full tests/filedrop/test_kills.py -o log_cli=true -o log_cli_level=INFO``, which tells the figures.
"""

import json
import logging
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.cli.live import live, query
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import EVENT, Inbox, files, source
from tests.filedrop.load import Book, Load, shown
from tests.forms import FULL

log = logging.getLogger(__name__)
FILES, RECORDS, KILLS, WINDOW = (20_000, 100_000, 20, 3_000) if FULL else (1_000, 2_000, 3, 400)
DEADLINE_S = 900.0 if FULL else 60.0
WHOLE = ("recursive = true", "scan_s = 0.5")
LINES = ("scan_s = 0.5", 'format = "ndjson"', 'unit = "record"')
STILL = ("scan_s = 0.5", 'ready = "stable"', "stable_s = 3")
CHANGING = {
    "after": ("move", "keep", "keep", "delete"),
    "unit": ("file", "record"),
    "ready": ("rename", "stable"),
}


def count(daemon: Daemon) -> int:
    ((rows,),) = query(daemon, "SELECT count(*) FROM ledger")
    return int(rows)


def wait_for(daemon: Daemon, load: Load, rows: int) -> int:
    """Wait until so many deliveries are stored; how many there are."""

    def look() -> int | None:
        stored = count(daemon)
        load.stored(stored)
        return stored if stored >= rows else None

    return eventually(f"delivery {rows}", look, DEADLINE_S)


def wait_for_the_end(daemon: Daemon, load: Load, inboxes: list[Inbox]) -> None:
    """Wait until everything is written, taken and moved on."""
    left: list[str] = []

    def look() -> bool | None:
        load.stored(count(daemon))
        if not load.ended():
            return None
        left[:] = [name for one in inboxes for name in (*one.waiting(), *one.in_work())]
        return None if left else True

    try:
        eventually("everything to be moved on", look, DEADLINE_S)
    except AssertionError as error:
        error.add_note(f"left: {left[:20]}, {[one.state() for one in inboxes]}")
        raise


@pytest.mark.timeout(3600 if FULL else 110)
def test_each_file_and_each_record_is_stored_once_and_whole_however_often_the_daemon_dies(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    whole, lines, still, changing = (tmp_path / "in" / name for name in ("whole", "lines", "still", "changing"))
    for folder in (whole, lines, still, changing):
        folder.mkdir(parents=True)
    load = Load(tmp_path / "in", FILES, RECORDS, WINDOW, chance.randrange(2**32))
    toml = EVENT + source("whole", whole, *WHOLE) + source("lines", lines, *LINES) + source("still", still, *STILL)
    with live(tmp_path, toml + source("changing", changing, *changed(chance))) as daemon:
        inboxes = [Inbox(daemon, folder.name, folder) for folder in (whole, lines, still, changing)]
        base = daemon.config.read_text().partition("\n[sources.changing]")[0]
        began = time.monotonic()
        killed = []
        with load.running():
            for rows in sorted(chance.sample(range(1, FILES + RECORDS), KILLS)):
                killed.append(wait_for(daemon, load, rows))
                daemon.kill()
                daemon.config.write_text(base + source("changing", changing, *changed(chance)))
                daemon.start()
            wait_for(daemon, load, FILES + RECORDS)
            daemon.kill()
            daemon.config.write_text(base + source("changing", changing, *changed(chance, after="move")))
            daemon.start()
            wait_for_the_end(daemon, load, inboxes)
        seconds = time.monotonic() - began
        eventually("nothing to be told", lambda: not any(one.state()["reason"] for one in inboxes) or None)
        check(inboxes, load.book)
        stored = count(daemon)
        duplicates = [one.deliveries("duplicate") for one in inboxes]
        assert daemon.stop() == 0
    log.info(
        "%d kills at %s; %d files, %d records, %d deliveries in %.0f s; duplicates seen in the last life: %s",
        *(KILLS, killed, len(load.book.whole) + len(load.book.over), RECORDS, stored, seconds, duplicates),
    )


def changed(chance: random.Random, **fixed: str) -> list[str]:
    """Keys of the source whose configuration changes."""
    chosen = {key: chance.choice(values) for key, values in CHANGING.items()} | fixed
    keys = [f'{key} = "{value}"' for key, value in chosen.items()]
    return [
        "scan_s = 0.5",
        'format = "ndjson"',
        "stable_s = 0.2",
        f"batch_records_max = {chance.choice((1, 100))}",
        *keys,
    ]


def check(inboxes: list[Inbox], book: Book) -> None:
    """Hold what was stored and moved against the book."""
    whole, lines, still, changing = inboxes
    for one in inboxes:
        assert one.letters() == []
        assert files(one.directory / "failed") == []
        assert [path.name for path in (one.directory / ".work" / one.name).iterdir()] == [".lock"]
    bodies: dict[str, list[Any]] = defaultdict(list)
    for event in whole.events():
        bodies[event["file"]["path"]].append(event["body"])
    for name, text in book.whole.items():
        assert bodies.pop(shown(name), []) == [json.loads(text)], name
    taken: dict[str, list[str]] = {}
    for name, texts in book.over.items():
        found = [body["number"] for body in bodies.pop(shown(name), [])]
        by_number = {json.loads(text)["number"]: text for text in texts}
        assert max(Counter(found).values()) == 1, f"{name} was stored twice: {found}"
        assert json.loads(texts[-1])["number"] in found, f"the last {name} is not stored"
        taken[name] = [by_number[number] for number in found]
    assert dict(bodies) == {}
    check_done(whole.directory / "done", book, taken)
    check_records(lines, book)
    assert {event["file"]["path"]: event["body"] for event in still.events()} == {
        name: json.loads(text) for name, text in book.still.items()
    }
    assert len(still.events()) == len(book.still)
    check_changing(changing, book)


def check_changing(changing: Inbox, book: Book) -> None:
    """Each line of each file once; of the file that flips no more than there was, and what it was at last."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in changing.events():
        found[event["file"]["path"]].append(event["body"]["line"])
    flips = Counter(event["body"]["number"] for event in changing.events("flipping.ndjson"))
    assert found.pop("flipping.ndjson") != []
    assert all(count <= book.flipping.count(number) for number, count in flips.items())
    assert changing.bodies("flipping.ndjson")[-1]["number"] == book.flipping[-1]
    assert {name: sorted(lines) for name, lines in found.items()} == {
        name: list(range(count)) for name, count in book.changing.items()
    }


def check_done(done: Path, book: Book, taken: dict[str, list[str]]) -> None:
    """Each file is there, with its contents; those of one name under other names."""
    expected = Counter(book.whole.values()) + Counter(text for texts in taken.values() for text in texts)
    found = Counter((done / name).read_text() for name in files(done))
    assert found == expected
    assert set(files(done)) >= set(book.whole)


def check_records(lines: Inbox, book: Book) -> None:
    """Each record once, and those of a file in order."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in lines.events():
        numbers[event["file"]["path"]].append(event["body"]["number"])
        assert event["record"]["index"] == event["body"]["number"]
        assert event["body"]["text"] == "x" * (event["body"]["number"] % 300)
    assert {name: len(found) for name, found in numbers.items()} == book.records
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert sorted(files(lines.directory / "done")) == sorted(book.records)
