"""Holds the producers' book against what the broker has, and that against the rows of a daemon that has stopped."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from littlehorse.model import ExternalEvent

from tests.kafka.load import Book, Held


class Rows:
    """The SQLite file of a daemon that has stopped."""

    def __init__(self, data: Path) -> None:
        with closing(sqlite3.connect(f"file:{data / 'lhd.sqlite'}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            self.ledger = connection.execute("SELECT sender_id, verdict, run, guid FROM ledger").fetchall()
            self.events = [
                (run, guid, ExternalEvent.FromString(body).content.int)
                for run, guid, body in connection.execute("SELECT run, guid, body FROM external_event ORDER BY arrival")
            ]
            self.positions = {
                part: json.loads(value)["next"]
                for part, value in connection.execute("SELECT part, value FROM cursor WHERE part <> ''")
            }
            (self.seen,) = connection.execute("SELECT count(*) FROM seen_delivery").fetchone()
            (self.dead,) = connection.execute("SELECT count(*) FROM dead_letter").fetchone()


def run_of(partition: int) -> str:
    """The WfRun that the records of a partition go to."""
    return f"partition-{partition}"


def check_book(book: Book, topic: dict[int, Held]) -> None:
    """The broker has what was acknowledged, in its order, and nothing else."""
    for partition, one in topic.items():
        assert [number for _, number in one.records] == list(range(book.acknowledged[partition])), partition


def check_ledger(name: str, topic: dict[int, Held], rows: Rows) -> None:
    """One accepted row for each record, and one event for each row."""
    records = {
        f"{name} 0 {partition} {offset}": (run_of(partition), number)
        for partition, one in topic.items()
        for offset, number in one.records
    }
    places = Counter(place for place, *_ in rows.ledger)
    doubled = [place for place, count in places.items() if count > 1]
    missing, extra = sorted(records.keys() - places.keys()), sorted(places.keys() - records.keys())
    assert (missing, doubled, extra) == ([], [], [])
    assert {verdict for _, verdict, *_ in rows.ledger} == {"accepted"}
    assert (rows.seen, rows.dead) == (len(records), 0)
    events = {guid: (run, number) for run, guid, number in rows.events}
    assert len(events) == len(rows.events) == len(records)
    for place, _, run, guid in rows.ledger:
        assert events.pop(guid) == (run, records[place][1]) == records[place], place
    assert events == {}


def check_order(topic: dict[int, Held], rows: Rows) -> None:
    """The events of a partition were stored in the order of its records."""
    for partition, one in topic.items():
        stored = [number for run, _, number in rows.events if run == run_of(partition)]
        assert stored == [number for _, number in one.records], partition


def check_positions(name: str, topic: dict[int, Held], rows: Rows) -> None:
    """The next offset of each partition is behind its last record, before or behind the marks that may follow it."""
    assert rows.positions.keys() == {f"{name}/{partition}" for partition in topic}
    for partition, one in topic.items():
        last, _ = one.records[-1]
        assert last < rows.positions[f"{name}/{partition}"] <= one.end


def check(book: Book, name: str, topic: dict[int, Held], rows: Rows) -> None:
    """Everything."""
    check_book(book, topic)
    check_ledger(name, topic, rows)
    check_order(topic, rows)
    check_positions(name, topic, rows)
