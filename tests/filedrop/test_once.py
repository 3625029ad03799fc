"""A file is delivered once: what identity is, what becomes of a file afterwards, and what a start finds."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.live import live
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, ROUTE, Inbox, lines_of, source, sources

RECORDS = ('format = "ndjson"', 'unit = "record"')
SOURCES: dict[str, tuple[str, ...]] = {
    "moved": (AT_ONCE,),
    "deleted": (AT_ONCE, 'after = "delete"'),
    "kept": (AT_ONCE, 'after = "keep"'),
    "kept-strictly": (AT_ONCE, 'after = "keep"', "forbidden_mode = 0o002"),
    "kept-records": (AT_ONCE, 'after = "keep"', 'format = "csv"', 'unit = "record"', "record_bytes_max = 20"),
    **{f"conflict-{way}": (AT_ONCE, f'on_conflict = "{way}"') for way in ("rename", "replace", "keep", "fail")},
    "crashed": (AT_ONCE, "recursive = true"),
    "crashed-records": (AT_ONCE, *RECORDS),
    "crashed-delete": (AT_ONCE, 'after = "delete"'),
}


@dataclass
class Before:
    """What there was before the daemon was started again."""

    claims: dict[str, str]
    events: dict[str, int]
    kept: list[str]


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("once")
    toml = sources(folder / "in", SOURCES)
    (folder / "in" / "by-content").mkdir()
    toml += source("by-content", folder / "in" / "by-content", AT_ONCE, route=ROUTE + 'id = "file.sha256"\n')
    (folder / "in" / "by-name").mkdir()
    route = ROUTE + 'id = "body.id"\n'
    toml += source("by-name", folder / "in" / "by-name", AT_ONCE, 'format = "ndjson"', route=route)
    with live(folder, toml) as daemon:
        yield daemon


# Identity


def test_the_same_contents_dropped_twice_are_two_deliveries_of_two_claims(daemon: Daemon) -> None:
    drops = inbox(daemon, "moved")
    for name in ("first.json", "second.json"):
        drops.drop(name, '"same"')
        drops.done(name)
    drops.drop("first.json", '"same"')
    drops.done("first.1.json")
    events = [event for event in drops.events() if event["body"] == "same"]
    assert len({event["meta"]["claim"] for event in events}) == len(events) == 3


def test_with_the_digest_as_id_each_content_is_taken_once(daemon: Daemon) -> None:
    drops = inbox(daemon, "by-content")
    for name, data in (("first.json", '"same"'), ("second.json", '"same"'), ("third.json", '"other"')):
        drops.drop(name, data)
        drops.done(name)
    assert drops.bodies() == ["same", "other"]
    assert drops.deliveries("duplicate") == 1
    assert drops.letters() == []


def test_a_file_whose_id_was_used_for_other_contents_fails_and_nothing_of_one_with_such_a_record_is_stored(
    daemon: Daemon,
) -> None:
    drops = inbox(daemon, "by-name")
    drops.drop("first.ndjson", '{"id": 1, "is": "first"}\n')
    drops.done("first.ndjson")
    drops.drop("second.ndjson", '{"id": 1, "is": "second"}\n')
    assert "the same identity and another body" in drops.failed("second.ndjson")["reason"]
    drops.drop("third.ndjson", '{"id": 2}\n{"id": 1, "is": "third"}\n')
    told = drops.failed("third.ndjson")
    assert "the same identity and another body" in told["reason"]
    assert told["line"] == 2
    assert drops.bodies() == [{"id": 1, "is": "first"}]
    assert {letter["id"] for letter in drops.letters()} == {
        drops.failed(name)["dead_letter"] for name in ("second.ndjson", "third.ndjson")
    }


# What becomes of a file


def test_a_deleted_file_is_nowhere_after_its_event(daemon: Daemon) -> None:
    drops = inbox(daemon, "deleted")
    drops.drop("a.json", '"a"')
    eventually("its event", lambda: drops.bodies() == ["a"] or None)
    eventually("it to go", lambda: not drops.in_work() or None)
    assert drops.tree() == []
    assert files_of(drops / "done") == []


def test_a_bad_file_is_kept_in_failed_even_where_files_are_deleted(daemon: Daemon) -> None:
    drops = inbox(daemon, "deleted")
    drops.drop("bad.json", "{")
    drops.failed("bad.json")
    assert (drops / "failed" / "bad.json").read_text() == "{"


def test_a_kept_file_stays_is_read_again_when_it_changes_and_nothing_comes_of_a_touched_one(daemon: Daemon) -> None:
    drops = inbox(daemon, "kept")
    path = drops.drop("changes.json", '"one"')
    eventually("its event", lambda: drops.bodies("changes.json") == ["one"] or None)
    os.utime(path, (1, 1))
    drops.drop("touched-before-this.json", "{}")
    eventually("a look", lambda: drops.events("touched-before-this.json") or None)
    assert drops.bodies("changes.json") == ["one"]
    inode = path.stat().st_ino
    path.write_text('"two"')
    eventually("its next event", lambda: drops.bodies("changes.json") == ["one", "two"] or None)
    assert (path.stat().st_ino, path.read_text()) == (inode, '"two"')
    assert drops.in_work() == []


def test_a_kept_file_that_could_not_be_read_for_a_while_is_not_delivered_again(daemon: Daemon) -> None:
    drops = inbox(daemon, "kept-strictly")
    path = drops.drop("watched.json", '"once"')
    eventually("its event", lambda: drops.events("watched.json") or None)
    path.chmod(0o666)
    eventually("its letter", lambda: drops.letters("watched.json") or None)
    path.chmod(0o644)
    drops.drop("after.json", '"after"')
    eventually("a look", lambda: drops.events("after.json") or None)
    os.utime(path, (1, 1))
    drops.drop("last.json", '"last"')
    eventually("another look", lambda: drops.events("last.json") or None)
    assert drops.bodies("watched.json") == ["once"]


def test_a_kept_file_of_records_that_fails_in_its_middle_is_stored_once_however_often_it_is_touched(
    daemon: Daemon,
) -> None:
    drops = inbox(daemon, "kept-records")
    path = drops.drop("broken.csv", 'a\n1\n2\n"open\n' + "x\n" * 20)
    eventually("its letter", lambda: drops.letters("broken.csv") or None)
    for number in range(2):
        os.utime(path, (number, number))
        drops.drop(f"z{number}.csv", "a\n3\n")
        eventually("a look", lambda number=number: drops.events(f"z{number}.csv") or None)  # type: ignore[misc]
    assert drops.bodies("broken.csv") == [{"a": "1"}, {"a": "2"}]
    assert len(drops.letters("broken.csv")) == 1


def test_a_kept_file_that_is_replaced_is_read_again(daemon: Daemon) -> None:
    drops = inbox(daemon, "kept")
    for number in (1, 2):
        drops.drop("replaced.json", f'"{number}"')
        eventually("its event", lambda number=number: len(drops.bodies("replaced.json")) == number or None)  # type: ignore[misc]
    assert drops.bodies("replaced.json") == ["1", "2"]


# A file of the same name is in done


@pytest.mark.parametrize(
    ("way", "left", "bodies"),
    [
        ("rename", {"report.csv": "old", "report.1.csv": "new", "report.2.csv": "newer"}, ["old", "new", "newer"]),
        ("replace", {"report.csv": "newer"}, ["old", "new", "newer"]),
        ("keep", {"report.csv": "old"}, ["old", "new", "newer"]),
        ("fail", {"report.csv": "old"}, ["old"]),
    ],
)
def test_a_name_that_is_done_already_is_dealt_with_as_configured(
    daemon: Daemon, way: str, left: dict[str, str], bodies: list[str]
) -> None:
    drops = inbox(daemon, f"conflict-{way}")
    for text in ("old", "new", "newer"):
        settled = _settled(drops) + 1
        drops.drop("report.csv", json.dumps(text))
        eventually("it to be settled", lambda settled=settled: _settled(drops) >= settled or None)  # type: ignore[misc]
    eventually("nothing in work", lambda: not drops.in_work() or None)
    assert drops.bodies() == bodies
    assert {path.name: json.loads(path.read_text()) for path in (drops / "done").iterdir()} == left
    failed = [path for path in (drops / "failed").iterdir() if not path.name.endswith(".error.json")]
    assert sorted(path.read_text() for path in failed) == (['"new"', '"newer"'] if way == "fail" else [])


def _settled(drops: Inbox) -> int:
    return 0 if drops.in_work() or drops.tree() else len(drops.events()) + len(drops.letters())


@pytest.mark.parametrize("way", ["rename", "replace", "keep"])
def test_a_file_that_is_hard_linked_to_the_one_in_done_does_not_stay_in_work(daemon: Daemon, way: str) -> None:
    drops = inbox(daemon, f"conflict-{way}")
    hidden = drops.drop(".kept", '"linked"')
    os.link(hidden, drops / "linked.json")
    drops.done("linked.json")
    hidden.rename(drops / "linked.json")
    eventually("it to be taken", lambda: len(drops.bodies("linked.json")) == 2 or None)
    eventually("nothing in work", lambda: not drops.in_work() or None)
    assert {path.read_text() for path in (drops / "done").glob("linked*")} == {'"linked"'}


# What a start finds


@pytest.fixture(scope="module")
def restarted(daemon: Daemon) -> Before:
    """The daemon, killed and started again, with work folders such as a crash leaves."""
    kept, crashed = inbox(daemon, "kept"), inbox(daemon, "crashed")
    records, deleted = inbox(daemon, "crashed-records"), inbox(daemon, "crashed-delete")
    for name in ("stays.json", "touched.json", "rewritten.json"):
        kept.drop(name, f'"{name}"')
        eventually(name, lambda name=name: kept.events(name) or None)  # type: ignore[misc]
    claims = {}
    for drops, name, data in (
        (crashed, "stored.json", '"stored"'),
        (crashed, "a/b/deep.json", '"deep"'),
        (records, "stored.ndjson", lines_of(range(5))),
        (deleted, "stored.json", '"deleted"'),
    ):
        drops.drop(name, data)
        eventually(name, lambda drops=drops, name=name: drops.events(name) or None)  # type: ignore[misc]
        eventually("it to be moved on", lambda drops=drops: not drops.in_work() or None)  # type: ignore[misc]
        claims[f"{drops.name}/{name}"] = drops.events(name)[0]["meta"]["claim"]
    daemon.kill()
    os.utime(kept / "touched.json", (5, 5))
    (kept / "rewritten.json").write_text('"anew"')
    for key, claim in claims.items():
        name = key.partition("/")[0]
        work = daemon.folder / "in" / name / ".work" / name / claim
        work.parent.mkdir(parents=True, exist_ok=True)
        done = daemon.folder / "in" / name / "done" / key.partition("/")[2]
        if done.exists():
            done.rename(work)
        else:
            work.write_text('"deleted"')
    for drops, name, data in (
        (crashed, "claimed.json", '"claimed"'),
        (crashed, "sub/claimed.json", '"below"'),
        (crashed, "bad.json", "{"),
        (records, "claimed.ndjson", lines_of(range(7))),
    ):
        path = drops.directory / ".work" / drops.name / "1700000000000-0badcafe" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)
    (crashed / ".work" / "crashed" / "1700000000000-00000000").mkdir()
    report = {"claim": "1700000000000-0badcafe/claimed.json"}
    (crashed / "failed" / "claimed.json.error.json").write_text(json.dumps(report))
    events = {name: len(inbox(daemon, name).events()) for name in SOURCES}
    daemon.start()
    return Before(claims, events, kept.tree())


def test_a_file_that_was_claimed_and_not_read_is_delivered_by_the_next_start(daemon: Daemon, restarted: Before) -> None:
    drops = inbox(daemon, "crashed")
    assert drops.done("claimed.json").read_text() == '"claimed"'
    assert drops.done("sub/claimed.json").read_text() == '"below"'
    assert drops.bodies("claimed.json") == ["claimed"]
    assert drops.bodies("sub/claimed.json") == ["below"]
    assert drops.failed("bad.json")["reason"] == "it is not JSON"
    assert sorted(path.name for path in (drops / "failed").glob("*.json")) == ["bad.json", "bad.json.error.json"]


def test_records_of_a_file_that_was_claimed_are_delivered_by_the_next_start(daemon: Daemon, restarted: Before) -> None:
    drops = inbox(daemon, "crashed-records")
    drops.done("claimed.ndjson")
    assert drops.bodies("claimed.ndjson") == list(range(7))


def test_what_was_stored_before_a_crash_is_a_duplicate_and_goes_where_it_belongs(
    daemon: Daemon, restarted: Before
) -> None:
    crashed, records, deleted = (inbox(daemon, name) for name in ("crashed", "crashed-records", "crashed-delete"))
    assert crashed.done("stored.json").read_text() == '"stored"'
    assert crashed.done("a/b/deep.json").read_text() == '"deep"'
    records.done("stored.ndjson")
    for drops in (crashed, records, deleted):
        eventually("nothing in work", lambda drops=drops: not drops.in_work() or None)  # type: ignore[misc]
        drops.wait_for_state("running")
    assert crashed.bodies("stored.json") == ["stored"]
    assert crashed.bodies("a/b/deep.json") == ["deep"]
    assert records.bodies("stored.ndjson") == list(range(5))
    assert deleted.bodies("stored.json") == ["deleted"]
    assert [path for path in files_of(crashed / "done") if ".1." in path.name] == []
    assert files_of(deleted / "done") == []


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_kept_file_is_not_read_again_by_the_next_start_unless_it_changed(daemon: Daemon, restarted: Before) -> None:
    drops = inbox(daemon, "kept")
    eventually("the one that changed", lambda: "anew" in drops.bodies("rewritten.json") or None)
    drops.drop("zzz.json", '"last"')
    eventually("a look more", lambda: drops.events("zzz.json") or None)
    assert len(drops.events()) == restarted.events["kept"] + 2
    assert set(restarted.kept) <= set(drops.tree())


def test_nothing_else_is_delivered_again_by_a_start(daemon: Daemon, restarted: Before) -> None:
    inbox(daemon, "crashed").wait_for_looks()
    for name in ("moved", "deleted", "conflict-rename", "conflict-fail"):
        assert len(inbox(daemon, name).events()) == restarted.events[name]


def test_a_work_folder_of_a_source_that_is_gone_stays(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with live(tmp_path, EVENT + source("one", tmp_path / "in", AT_ONCE)) as daemon:
        left = tmp_path / "in/.work/gone/1700000000000-0badcafe/left.json"
        left.parent.mkdir(parents=True)
        left.write_text("{}")
        drops = Inbox(daemon, "one", tmp_path / "in")
        drops.wait_for_looks()
        assert left.read_text() == "{}"
        shutil.rmtree(tmp_path / "in/.work/gone")
