"""What routes see of a file, names of every kind, bytes, and files that are inflated."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator

import pytest
import zstandard

from tests.cli.live import live
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, Inbox, lines_of, source

INFLATE = ('decompress = ["gzip", "zstd"]', "inflated_bytes_max = 10000")
RECORDS = ('format = "ndjson"', 'unit = "record"')
SOURCES: dict[str, tuple[str, ...]] = {
    "json": ("recursive = true",),
    "inflated": INFLATE,
    "inflated-records": (*INFLATE, *RECORDS),
    "only-gzip": ('decompress = ["gzip"]',),
    "controls": (AT_ONCE,),
    "long": (AT_ONCE,),
    "long-twice": (AT_ONCE,),
    "long-bad": (AT_ONCE,),
}
PICKY = """event = "arrived"
wf_run = "'nobody'"
content = "{'file': file, 'n': body.n}"
"""
PLAIN = """event = "plain"
wf_run = "'nobody'"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("names")
    toml = EVENT + '\n[[event]]\nname = "plain"\ntype = "BYTES"\n'
    toml += "".join(source(name, folder / "in" / name, *keys) for name, keys in SOURCES.items())
    toml += source("picky", folder / "in" / "picky", 'format = "ndjson"', route=PICKY)
    toml += source("picky-records", folder / "in" / "picky-records", *RECORDS, route=PICKY)
    toml += source("bytes", folder / "in" / "bytes", 'format = "bytes"', route=PLAIN)
    for name in (*SOURCES, "picky", "picky-records", "bytes"):
        (folder / "in" / name).mkdir(parents=True)
    with live(folder, toml) as daemon:
        yield daemon


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


# What routes see


def test_routes_see_name_stem_path_size_time_and_digest_of_a_file_and_its_claim(daemon: Daemon) -> None:
    drops = inbox(daemon, "json")
    data = b'{"a": 1}'
    path = drops.drop("north/b.c/order.17.json", data)
    eventually("the file to go", lambda: None if path.exists() else True)
    done = drops.done("north/b.c/order.17.json")
    (event,) = drops.events("north/b.c/order.17.json")
    assert event["file"] == {
        "name": "order.17.json",
        "stem": "order.17",
        "path": "north/b.c/order.17.json",
        "size": len(data),
        "mtime": done.stat().st_mtime_ns // 1_000_000,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert event["meta"]["claim"]
    assert event["meta"]["source"] == "json"


def test_a_compressed_file_is_seen_as_it_was_dropped_and_its_stem_is_without_both_suffixes(daemon: Daemon) -> None:
    drops = inbox(daemon, "inflated")
    data = gzip.compress(b'{"a": 1}')
    drops.drop("order.json.gz", data)
    drops.done("order.json.gz")
    (event,) = drops.events("order.json.gz")
    assert (event["file"]["stem"], event["file"]["size"]) == ("order", len(data))
    assert event["file"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_bytes_of_any_kind_are_one_event(daemon: Daemon) -> None:
    drops = inbox(daemon, "bytes")
    drops.drop("any", bytes(range(256)))
    drops.drop("none", b"")
    drops.done("any")
    drops.done("none")
    assert drops.deliveries("accepted") == 2
    assert drops.letters() == []


def test_a_record_that_cannot_be_mapped_fails_the_whole_file_and_its_line_is_told(daemon: Daemon) -> None:
    drops = inbox(daemon, "picky")
    drops.drop("some", lines_of([{"n": 1}, {"n": 2}, {"m": 3}]))
    told = drops.failed("some")
    assert "there is no 'n'" in told["reason"]
    assert told["line"] == 3
    assert drops.events("some") == []
    assert len(drops.letters("some")) == 1


def test_a_record_that_cannot_be_mapped_is_a_letter_of_its_own_with_unit_record(daemon: Daemon) -> None:
    drops = inbox(daemon, "picky-records")
    drops.drop("some", lines_of([{"n": 1}, {"m": 2}, {"n": 3}]))
    drops.done("some")
    assert [event["n"] for event in drops.events("some")] == [1, 3]
    (letter,) = drops.letters("some")
    assert "there is no 'n'" in letter["reason"]
    assert letter["record"] == {"index": 1, "line": 2}


# Names

NAMES = {
    "spaces": " a  b .json",
    "emoji": "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}.json",
    "backslash-and-quotes": "a\\xff'\".json",
    "percent": "%2e%2e%2f.json",
    "dashes": "--help",
    "two-dots": "a..json",
    "longest": "x" * 255,
    "longest-of-several-bytes": "\u00fc" * 127,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_of_any_kind_is_taken_as_it_is(daemon: Daemon, name: str) -> None:
    drops = inbox(daemon, "json")
    drops.drop(name, "{}")
    drops.done(name)
    (event,) = drops.events(name)
    assert event["file"]["name"] == event["file"]["path"] == name


@pytest.mark.parametrize("name", ["a\nb.json", "\x1b[31m.json"], ids=["newline", "escape"])
def test_a_file_whose_name_has_control_characters_is_taken(daemon: Daemon, name: str) -> None:
    drops = inbox(daemon, "controls")
    drops.drop(name, json.dumps(f"of {name!r}"))
    drops.done(name)
    assert drops.bodies().count(f"of {name!r}") == 1


def test_a_name_that_is_not_utf_8_is_written_in_hexadecimal_and_stays_as_it_is_on_disk(daemon: Daemon) -> None:
    drops = inbox(daemon, "json")
    drops.drop(os.fsdecode(b"caf\xe9.json"), "{}")
    drops.done(os.fsdecode(b"caf\xe9.json"))
    (event,) = drops.events("caf\\xe9.json")
    assert (event["file"]["name"], event["file"]["stem"]) == ("caf\\xe9.json", "caf\\xe9")


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "\N{GRINNING FACE}"], ids=["not-utf-8", "newline", "emoji"])
def test_a_bad_file_of_any_name_fails_with_its_reason_beside_it(daemon: Daemon, name: str) -> None:
    drops = inbox(daemon, "json")
    drops.drop(f"bad-{name}", "{")
    assert "it is not JSON" in drops.failed(f"bad-{name}")["reason"]


def test_a_bad_file_with_the_longest_name_fails_with_its_reason_beside_it(daemon: Daemon) -> None:
    drops = inbox(daemon, "long")
    name = "y" * 255
    drops.drop(name, "{")
    eventually("it and its reason", lambda: len(list((drops / "failed").iterdir())) == 2 or None)
    assert (drops / "failed" / name).exists()
    (error,) = [path for path in (drops / "failed").iterdir() if path.name != name]
    assert error.name.endswith(".error.json")
    assert json.loads(error.read_bytes())["dead_letter"] == drops.letters(name)[0]["id"]


@pytest.mark.parametrize(("name", "data", "where"), [("long-twice", "{}", "done"), ("long-bad", "{", "failed")])
def test_the_longest_name_dropped_twice_is_moved_twice_and_holds_nothing_up(
    daemon: Daemon, name: str, data: str, where: str
) -> None:
    drops = inbox(daemon, name)
    drops.drop("z" * 255, data)
    drops.moved("z" * 255, where)
    drops.drop("z" * 255, data)
    drops.drop("zz-after", "{}")
    drops.done("zz-after")
    eventually("nothing to be in work", lambda: not drops.in_work() or None)
    moved = [path for path in (drops / where).iterdir() if path.name.startswith("zzz") and "error" not in path.name]
    assert len(moved) == 2


# Compression

ZSTD = zstandard.ZstdCompressor().compress
BOMB = b'"' + b"x" * 1_000_000 + b'"'


INFLATED = {
    "one.json.gz": gzip.compress(b'{"a": 1}'),
    "one.json.zst": ZSTD(b'{"a": 1}'),
    "several-members.json.gz": gzip.compress(b'{"a"') + gzip.compress(b": 1}"),
    "several-frames.json.zst": ZSTD(b'{"a"') + ZSTD(b": 1}"),
    "not-compressed.json": b'{"a": 1}',
}


@pytest.mark.parametrize(("name", "data"), INFLATED.items(), ids=INFLATED)
def test_files_are_inflated_by_their_names(daemon: Daemon, name: str, data: bytes) -> None:
    drops = inbox(daemon, "inflated")
    drops.drop(name, data)
    drops.done(name)
    assert drops.bodies(name) == [{"a": 1}]


NOT_INFLATED = {
    "cut.json.gz": (gzip.compress(b'{"a": 1}')[:-5], "it is gzip that ends too early"),
    "cut.json.zst": (ZSTD(json.dumps(list(range(2000))).encode())[:-5], "it is zstd that ends too early"),
    "cut-second.json.gz": (gzip.compress(b"{}") + gzip.compress(b" ")[:-5], "it is gzip that ends too early"),
    "nothing.json.gz": (b"", "gzip"),
    "plain.json.gz": (b'{"a": 1}', "it is not gzip"),
    "plain.json.zst": (b'{"a": 1}', "it is not zstd"),
    "wrong-sum.json.gz": (gzip.compress(b'{"a": 1}')[:-8] + bytes(8), "it is not gzip"),
    "bomb.json.gz": (gzip.compress(BOMB), "more than 10000 bytes when it is inflated"),
    "bomb.json.zst": (ZSTD(BOMB), "more than 10000 bytes when it is inflated"),
    "bomb-of-members.json.gz": (gzip.compress(b" " * 3000) * 5, "more than 10000 bytes when it is inflated"),
}


@pytest.mark.parametrize(
    ("name", "data", "reason"), [(name, *one) for name, one in NOT_INFLATED.items()], ids=NOT_INFLATED
)
def test_what_cannot_be_inflated_fails(daemon: Daemon, name: str, data: bytes, reason: str) -> None:
    drops = inbox(daemon, "inflated")
    drops.drop(name, data)
    assert reason in drops.failed(name)["reason"]
    assert drops.events(name) == []


@pytest.mark.parametrize("end", ["gz", "zst"])
def test_records_of_several_members_are_read_in_order(daemon: Daemon, end: str) -> None:
    drops = inbox(daemon, "inflated-records")
    lines = lines_of(range(40)).encode()
    deflate = {"gz": gzip.compress, "zst": ZSTD}[end]
    drops.drop(f"some.{end}", b"".join(deflate(lines[at : at + 17]) for at in range(0, len(lines), 17)))
    drops.done(f"some.{end}")
    assert drops.bodies(f"some.{end}") == list(range(40))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.gz", gzip.compress(lines_of(range(1000)).encode())[:-5]),
        ("bomb.gz", gzip.compress(lines_of(range(50_000)).encode())),
        ("nothing.gz", b""),
    ],
)
def test_with_unit_record_what_cannot_be_inflated_to_its_end_fails(daemon: Daemon, name: str, data: bytes) -> None:
    drops = inbox(daemon, "inflated-records")
    drops.drop(name, data)
    drops.failed(name)
    bodies = drops.bodies(name)
    assert bodies == list(range(len(bodies)))


def test_a_byte_order_mark_in_two_members_is_no_part_of_what_is_read(daemon: Daemon) -> None:
    drops = inbox(daemon, "inflated-records")
    for end, deflate in (("gz", gzip.compress), ("zst", ZSTD)):
        drops.drop(f"marked.{end}", deflate(b"\xef") + deflate(b"\xbb\xbf1\n"))
        drops.done(f"marked.{end}")
        assert drops.bodies(f"marked.{end}") == [1]


def test_what_is_not_named_in_decompress_is_read_as_it_is(daemon: Daemon) -> None:
    drops = inbox(daemon, "only-gzip")
    drops.drop("a.json.zst", ZSTD(b"{}"))
    assert "it is not JSON" in drops.failed("a.json.zst")["reason"]
    drops.drop("a.json.gz", gzip.compress(b"{}"))
    drops.done("a.json.gz")
