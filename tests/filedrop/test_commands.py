"""``lhd send``, ``lhd try``, ``lhd check`` and ``lhd dead retry`` for dropped files."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from littlehorse.model import PutExternalEventDefRequest

from tests.cli.live import live, query
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, ROUTE, Inbox, good, lines_of, source

ROUTES = """name = "later"
when = "has(body.later)"
event = "defined-later"
wf_run = "'nobody'"

[[sources.{name}.routes]]
name = "arrived"
event = "arrived"
wf_run = "file.stem"
content = "{{'file': file, 'record': record, 'meta': meta, 'body': body}}"
"""
KEPT = (
    """when = "has(body.kept_later)"
event = "kept-later"
wf_run = "'nobody'"

[[sources.kept.routes]]
"""
    + ROUTE
)
RECORDS = ('format = "ndjson"', 'unit = "record"', 'decompress = ["gzip"]')
SOURCES: dict[str, tuple[str, ...]] = {
    "whole": (AT_ONCE,),
    "records": (AT_ONCE, *RECORDS),
    "small": (AT_ONCE, "max_bytes = 100"),
    "sent": (AT_ONCE,),
    "tried": (AT_ONCE,),
    "tried-csv": (AT_ONCE, 'format = "csv"', 'decompress = ["gzip"]'),
}
LIMITS = "\n[limits]\ndead_letter_bytes_max = 1000\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("commands")
    toml = LIMITS + EVENT
    for name, keys in SOURCES.items():
        (folder / "in" / name).mkdir(parents=True)
        toml += source(name, folder / "in" / name, *keys, route=ROUTES.format(name=name))
    (folder / "in" / "kept").mkdir()
    toml += source("kept", folder / "in" / "kept", AT_ONCE, 'after = "keep"', route=KEPT)
    with live(folder, toml) as daemon:
        yield daemon


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


def define(daemon: Daemon) -> None:
    daemon.stub().PutExternalEventDef(PutExternalEventDefRequest(name="defined-later"))


def letters(daemon: Daemon) -> set[str]:
    return {letter["delivery_id"] for letter in json.loads(good(daemon, "dead", "list", "--json"))}


def refused(daemon: Daemon, letter: str) -> str:
    result = daemon.lhd("dead", "retry", letter)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


# Retries


def test_a_failed_file_that_was_mended_is_taken_from_failed_under_its_old_claim(daemon: Daemon) -> None:
    drops = inbox(daemon, "whole")
    drops.drop("mended.json", "{")
    told = drops.failed("mended.json")
    (drops / "failed" / "mended.json").write_text('"mended"')
    assert told["dead_letter"] in letters(daemon)
    good(daemon, "dead", "retry", told["dead_letter"])
    drops.done("mended.json")
    (event,) = drops.events("mended.json")
    assert (event["body"], event["meta"]["claim"]) == ("mended", told["claim"])
    assert told["dead_letter"] not in letters(daemon)
    assert [path.name for path in (drops / "failed").glob("mended*")] == []
    assert drops.in_work() == []


def test_a_failed_file_that_was_not_mended_fails_again_and_has_one_letter(daemon: Daemon) -> None:
    drops = inbox(daemon, "whole")
    drops.drop("unmended.json", "{")
    told = drops.failed("unmended.json")
    good(daemon, "dead", "retry", told["dead_letter"])
    drops.wait_for_looks()
    again = drops.failed("unmended.json")
    assert again["claim"] == told["claim"]
    assert [letter["id"] for letter in drops.letters("unmended.json")] == [again["dead_letter"]]
    assert sorted(path.name for path in (drops / "failed").glob("unmended*")) == [
        "unmended.json",
        "unmended.json.error.json",
    ]
    (drops / "failed" / "unmended.json").write_text('"mended"')
    good(daemon, "dead", "retry", again["dead_letter"])
    drops.done("unmended.json")
    assert drops.bodies("unmended.json") == ["mended"]
    assert drops.letters("unmended.json") == []


def test_a_mended_file_of_records_stores_those_that_were_not_stored_before(daemon: Daemon) -> None:
    drops = inbox(daemon, "records")
    whole = gzip.compress(lines_of({"number": number, "text": "x" * number} for number in range(2000)).encode())
    drops.drop("cut.ndjson.gz", whole[:-100])
    told = drops.failed("cut.ndjson.gz")
    before = len(drops.events("cut.ndjson.gz"))
    assert 0 < before < 2000
    (drops / "failed" / "cut.ndjson.gz").write_bytes(whole)
    good(daemon, "dead", "retry", told["dead_letter"])
    drops.done("cut.ndjson.gz")
    assert [body["number"] for body in drops.bodies("cut.ndjson.gz")] == list(range(2000))
    assert drops.letters("cut.ndjson.gz") == []


def test_what_died_for_want_of_its_event_is_retried_file_by_file_and_record_by_record(daemon: Daemon) -> None:
    whole, records = inbox(daemon, "whole"), inbox(daemon, "records")
    whole.drop("there.json", '{"later": 1}')
    whole.failed("there.json")
    records.drop("some.ndjson", lines_of([{"number": 1}, {"later": 2}, {"number": 3}]))
    records.done("some.ndjson")
    assert [body["number"] for body in records.bodies("some.ndjson")] == [1, 3]
    (dead,) = whole.letters("there.json")
    (record,) = records.letters("some.ndjson")
    assert record["reason"] in refused(daemon, record["id"])
    define(daemon)
    good(daemon, "dead", "retry", dead["id"])
    good(daemon, "dead", "retry", record["id"])
    whole.done("there.json")
    stored = "SELECT count(*) FROM ledger WHERE event_def = 'defined-later' AND verdict = 'accepted'"
    assert query(daemon, stored) == [(2,)]
    assert letters(daemon).isdisjoint({dead["id"], record["id"]})


@pytest.mark.parametrize(
    ("name", "data"),
    [("whole", b'{"padding": "' + b"x" * 2000), ("small", b'"' + b"x" * 200 + b'"'), ("records", b"no gzip at all")],
    ids=["larger than what letters keep", "larger than max_bytes", "never read"],
)
def test_a_failed_file_that_is_gone_and_was_not_kept_is_not_retried(daemon: Daemon, name: str, data: bytes) -> None:
    drops = inbox(daemon, name)
    drops.drop("vanishes.json.gz", data)
    letter = drops.failed("vanishes.json.gz")["dead_letter"]
    (drops / "failed" / "vanishes.json.gz").unlink()
    refused(daemon, letter)
    assert letter in letters(daemon)
    assert drops.events("vanishes.json.gz") == []


def test_of_a_mended_file_of_records_those_that_are_stored_have_to_stay_as_they_were(daemon: Daemon) -> None:
    drops = inbox(daemon, "records")
    lines = [json.dumps({"number": number, "text": "x" * number}) + "\n" for number in range(2000)]
    whole = "".join(lines).encode()
    drops.drop("moved.ndjson.gz", gzip.compress(whole)[:-100])
    told = drops.failed("moved.ndjson.gz")
    stored = len(drops.events("moved.ndjson.gz"))
    failed = drops / "failed" / "moved.ndjson.gz"
    failed.write_bytes(gzip.compress("".join(lines[1:]).encode()))
    good(daemon, "dead", "retry", told["dead_letter"])
    eventually("it to fail again", lambda: "changed" in drops.failed("moved.ndjson.gz")["reason"] or None)
    told = drops.failed("moved.ndjson.gz")
    assert told["reason"].startswith(f"its first {stored} records are stored already, and were changed")
    assert len(drops.events("moved.ndjson.gz")) == stored
    failed.write_bytes(gzip.compress(whole))
    good(daemon, "dead", "retry", told["dead_letter"])
    drops.done("moved.ndjson.gz")
    assert [body["number"] for body in drops.bodies("moved.ndjson.gz")] == list(range(2000))
    assert drops.letters("moved.ndjson.gz") == []


def test_a_kept_file_is_retried_in_its_place(daemon: Daemon) -> None:
    drops = inbox(daemon, "kept")
    path = drops.drop("there.json", '{"kept_later": 1}')
    (dead,) = eventually("its letter", lambda: drops.letters("there.json") or None)
    daemon.stub().PutExternalEventDef(PutExternalEventDefRequest(name="kept-later"))
    good(daemon, "dead", "retry", dead["id"])
    stored = "SELECT count(*) FROM ledger WHERE event_def = 'kept-later' AND verdict = 'accepted'"
    eventually("its event", lambda: query(daemon, stored) == [(1,)] or None)
    assert drops.letters() == []
    path.touch()
    drops.drop("after.json", "{}")
    eventually("a look", lambda: drops.events("after.json") or None)
    assert query(daemon, stored) == [(1,)]


def test_a_file_that_is_claimed_is_not_retried_and_said_to_be_on_its_way(daemon: Daemon) -> None:
    drops = inbox(daemon, "whole")
    drops.drop("claimed.json", "{")
    told = drops.failed("claimed.json")
    path = drops / ".work" / "whole" / told["claim"]
    path.parent.mkdir()
    with (drops / "failed" / "claimed.json").open("a"):  # so that it is not read
        (drops / "failed" / "claimed.json").rename(path)
        assert "its file is claimed" in refused(daemon, told["dead_letter"])
    drops.failed("claimed.json")


# lhd send


@pytest.fixture
def statement(tmp_path: Path) -> Path:
    path = tmp_path / "statement.json"
    path.write_text('{"number": 17}')
    return path


def test_send_drops_a_file_under_the_name_that_is_given(daemon: Daemon, statement: Path) -> None:
    drops = inbox(daemon, "sent")
    good(daemon, "send", "sent", "--file", str(statement), "--header", "name: order-17.json")
    assert drops.done("order-17.json").read_bytes() == statement.read_bytes()
    assert drops.bodies("order-17.json") == [{"number": 17}]
    assert statement.exists()


def test_send_does_not_drop_a_file_outside_the_folder(daemon: Daemon, statement: Path) -> None:
    drops = inbox(daemon, "sent")
    for name in ("../escaped.json", "/tmp/escaped-by-lhd-send.json", ".work/escaped.json"):
        result = daemon.lhd("send", "sent", "--file", str(statement), "--header", f"name: {name}")
        assert "Traceback" not in result.stderr
        assert not (drops.directory / name).exists()


def test_send_follows_no_link_and_leaves_nothing_behind(daemon: Daemon, statement: Path, tmp_path: Path) -> None:
    drops = inbox(daemon, "sent")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (drops / ".linked.json.tmp").symlink_to(victim)
    (drops / "linked.json").symlink_to(victim)
    result = daemon.lhd("send", "sent", "--file", str(statement), "--header", "name: linked.json")
    assert (result.returncode, result.stderr) == (1, "it cannot be dropped: linked.json: File exists\n")
    assert victim.read_text() == "untouched"
    assert drops.tree() == [".linked.json.tmp", "linked.json"]


# lhd try, and tests in the configuration


def test_try_tells_what_would_become_of_a_file_and_changes_nothing(daemon: Daemon, statement: Path) -> None:
    drops = inbox(daemon, "tried")
    said = good(daemon, "try", "tried", "--file", str(statement), "--header", "name: order-17.json", "--json")
    (one,) = json.loads(said)
    assert (one["verdict"], one["route"]) == ("accepted", "arrived")
    assert "order-17" in said
    assert drops.tree() == []
    assert drops.events() == drops.letters() == []


def test_try_tells_each_record_of_a_file_by_its_configured_format(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n"))
    said = json.loads(good(daemon, "try", "tried-csv", "--file", str(path), "--header", "name: table.csv.gz", "--json"))
    assert [one["verdict"] for one in said] == ["accepted", "accepted"]
    assert said[0]["content"]["file"]["size"] == path.stat().st_size
    assert said[0]["content"]["file"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_try_of_the_last_payloads_goes_on_where_one_of_them_cannot_be_read(daemon: Daemon) -> None:
    drops = inbox(daemon, "tried")
    drops.drop("good.json", "{}")
    drops.done("good.json")
    drops.drop("bad.json", "{")
    drops.failed("bad.json")
    said = json.loads(good(daemon, "try", "tried", "--last", "5", "--json"))
    assert [one["verdict"] for one in said if one["verdict"] == "accepted"] == ["accepted"]


def test_tests_in_the_configuration_see_the_body_by_its_format(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "lhd.toml").write_text(
        EVENT
        + source("table", tmp_path / "in", 'format = "csv"', route='event = "arrived"\nkey = "body.a"\n')
        + '\n[[tests]]\nsource = "table"\nfile = "table.csv"\n'
        + 'expect = { key = "1", content = { a = "1", b = "2" } }\n'
    )
    (tmp_path / "daemon").mkdir()
    other = Daemon(tmp_path / "daemon")
    other.config = tmp_path / "lhd.toml"
    result = other.lhd("check")
    assert result.returncode == 0, result.stdout + result.stderr
