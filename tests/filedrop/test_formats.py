"""What files of each format become, record by record, and what is said of a file that is not what its format says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.live import live
from tests.e2e.process import Daemon
from tests.filedrop.drops import Inbox, lines_of, sources

RECORD = 'unit = "record"'
NDJSON, CSV, TEXT, BYTES, XML = (f'format = "{name}"' for name in ("ndjson", "csv", "text", "bytes", "xml"))
SOURCES: dict[str, tuple[str, ...]] = {
    "json": (),
    "ndjson": (NDJSON,),
    "ndjson-records": (NDJSON, RECORD),
    "csv": (CSV,),
    "csv-records": (CSV, RECORD),
    "csv-lists": (CSV, "csv = { header = false }"),
    "csv-dialect": (CSV, """csv = { delimiter = ";", quote = "'", escape = "\\\\" }"""),
    "csv-latin": (CSV, 'encoding = "latin-1"'),
    "text": (TEXT,),
    "text-records": (TEXT, RECORD),
    "text-latin": (TEXT, 'encoding = "latin-1"'),
    "xml": (XML,),
    "few": (NDJSON, "records_max = 3"),
    "many": (NDJSON, RECORD, "records_max = 3"),
    "small": ("max_bytes = 100",),
    "short": (NDJSON, "record_bytes_max = 100"),
    "short-records": (NDJSON, RECORD, "record_bytes_max = 100"),
    "short-lines": (TEXT, RECORD, "record_bytes_max = 100"),
    "tiny": (NDJSON, RECORD, "record_bytes_max = 10"),
    "tiny-csv": (CSV, RECORD, "csv = { header = false }", "record_bytes_max = 10"),
    "wide-csv": (CSV, RECORD, "csv = { header = true }"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("formats")
    with live(folder, sources(folder / "in", SOURCES)) as daemon:
        yield daemon


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


def _nested(depth: int) -> Any:
    return {"a": _nested(depth - 1)} if depth else None


GOOD: list[tuple[str, str, bytes, list[Any]]] = [
    ("json", "an-array", b"[1, 2]", [[1, 2]]),
    ("json", "a-name-twice", b'{"a": 1, "a": 2}', [{"a": 2}]),
    ("ndjson", "without-a-newline-at-the-end", b'{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
    ("ndjson", "blank-lines", b"1\n\n  \r\n2\r\n", [1, 2]),
    ("ndjson", "empty", b"", []),
    ("ndjson-records", "blank-lines", b"1\n\n  \r\n2\r\n", [1, 2]),
    ("ndjson-records", "empty", b"", []),
    ("csv", "quotes", b'a,b\n1,"x, y"\n2,"q ""z"""\n', [{"a": "1", "b": "x, y"}, {"a": "2", "b": 'q "z"'}]),
    ("csv", "newlines-in-quotes", b'a,b\r\n"1\r\n2",3\r\n', [{"a": "1\r\n2", "b": "3"}]),
    ("csv", "blank-lines", b"a,b\n\n1,2\n\n", [{"a": "1", "b": "2"}]),
    ("csv", "only-a-header", b"a,b\n", []),
    ("csv", "empty", b"", []),
    ("csv-records", "newlines-in-quotes", b'a,b\n1,"x\ny"\n2,3\n', [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "3"}]),
    ("csv-records", "only-a-header", b"a,b\n", []),
    ("csv-lists", "lists-of-any-length", b"1,2\n3\n", [["1", "2"], ["3"]]),
    ("csv-dialect", "dialect", b"a;b\n1;'x;y'\n2;'it\\'s'\n", [{"a": "1", "b": "x;y"}, {"a": "2", "b": "it's"}]),
    ("csv-latin", "encoded", b"gr\xfc\xdfe\n\xe9\n", [{"gr\u00fc\u00dfe": "\u00e9"}]),
    ("text", "whole", b"one\r\ntwo\n", ["one\r\ntwo\n"]),
    ("text", "empty", b"", [""]),
    ("text-records", "lines", b"one\r\n\ntwo", ["one", "", "two"]),
    ("text-records", "empty", b"", []),
    ("text-latin", "encoded", b"\xe9", ["\u00e9"]),
    ("xml", "tree", b'<a><b x="1">t</b><b>u</b></a>', [{"a": {"b": [{"@x": "1", "#text": "t"}, "u"]}}]),
    ("xml", "entities-of-xml-itself", b"<a>&lt;&amp;&#65;</a>", [{"a": "<&A"}]),
    ("xml", "encoded", b'<?xml version="1.0" encoding="iso-8859-1"?><a>\xe9</a>', [{"a": "\u00e9"}]),
    ("few", "as-many-records-as-may-be", b"1\n2\n3\n", [1, 2, 3]),
    ("many", "more-records-than-a-whole-file-may-have", b"1\n2\n3\n4\n", [1, 2, 3, 4]),
    ("tiny", "as-long-as-may-be", b'"12345678"\n"12345678"\r\n"12345678"', ["12345678"] * 3),
    ("tiny-csv", "as-long-as-may-be", b"1234567890\n1234567890\r\n1234567890", [["1234567890"]] * 3),
    ("xml", "deep", b"<a>" * 190 + b"</a>" * 190, [_nested(190)]),
]


@pytest.mark.parametrize(("name", "file", "data", "bodies"), GOOD, ids=[f"{one[0]}-{one[1]}" for one in GOOD])
def test_a_good_file_becomes_its_events_in_order_and_is_done(
    daemon: Daemon, name: str, file: str, data: bytes, bodies: list[Any]
) -> None:
    drops = inbox(daemon, name)
    drops.drop(file, data)
    assert drops.done(file).read_bytes() == data
    assert drops.bodies(file) == bodies
    assert drops.letters(file) == []


BAD: list[tuple[str, str, bytes, str, int | None, int | None]] = [
    ("json", "secret-key", b'{"a": 1,\n hunter2}', "it is not JSON", 2, 2),
    ("json", "cut", b'{"a":\n  ', "it is not JSON", 2, 3),
    ("json", "empty-file", b"", "it is not JSON", 1, 1),
    ("json", "two-values", b"{}\n{}", "it is not JSON", 2, 1),
    ("json", "not-a-number", b'{"a":NaN}', "it is not JSON", 1, 6),
    ("json", "not-utf-8", b'{"a":"\xff"}', "it is not JSON", 1, 7),
    ("ndjson", "one-bad-record", b'{"a": 1}\n\n{"a":}\n{"a": 3}\n', "it is not JSON", 3, 6),
    ("csv", "too-few-fields", b"a,b\n1,2\nhunter2\n", "1 fields", 3, None),
    ("csv", "too-many-fields", b"a,b\n1,2,hunter2\n", "3 fields", 2, None),
    ("csv", "after-newlines-in-quotes", b'a,b\n"1\n\n2",3\n4\n', "1 fields", 5, None),
    ("csv", "a-quote-that-is-left-open", b'a,b\n1,"hunter2\n3\n', "it is not CSV", 2, None),
    ("csv", "a-header-with-a-name-twice", b"a,a\n1,2\n", "header", 1, None),
    ("csv", "not-utf-8", b"a,b\n1,2\n1,\xff\n", "it is not utf-8", 3, None),
    ("text", "not-utf-8", b"one\nt\xff\n", "it is not UTF-8", 2, 2),
    ("xml", "not-closed", b"<a>\n<hunter2></a>", "it is not XML", 2, None),
    ("xml", "its-own-entities", b'<!DOCTYPE a [<!ENTITY e "hunter2">]><a>&e;</a>', "entities", None, None),
    ("xml", "entities-of-files", b'<!DOCTYPE a [<!ENTITY e SYSTEM "/etc/passwd">]><a>&e;</a>', "entities", None, None),
    ("xml", "empty-file", b"", "it is not XML", 1, 1),
    ("xml", "so-deep-that-it-could-end-the-process", b"<a>" * 20_000 + b"</a>" * 20_000, "200 elements", None, None),
    ("csv", "a-header-too-long", b"a" * 70_000 + b",b\n1,2\n", "the header has more than 65536 bytes", 1, None),
    ("wide-csv", "a-header-too-long", b"a" * 70_000 + b",b\n1,2\n", "the header has more than 65536 bytes", 1, None),
    ("tiny-csv", "a-lone-return", b"abc" + b"\r" * 7 + b"hunter2\n", "more than 10 bytes", 1, None),
    ("few", "one-record-too-many", b"1\n2\n3\n4\n", "more than 3 records", None, None),
    ("small", "too-large", b'"' + b"x" * 100 + b'"', "102 bytes", None, None),
    ("short", "a-record-too-long", lines_of([1, "x" * 200, 2]).encode(), "more than 100 bytes", 2, None),
]


@pytest.mark.parametrize(
    ("name", "file", "data", "reason", "line", "column"), BAD, ids=[f"{one[0]}-{one[1]}" for one in BAD]
)
def test_a_bad_file_fails_with_reason_line_and_column_and_nothing_of_it_is_stored(
    daemon: Daemon, name: str, file: str, data: bytes, reason: str, line: int | None, column: int | None
) -> None:
    drops = inbox(daemon, name)
    drops.drop(file, data)
    told = drops.failed(file)
    assert (drops / "failed" / file).read_bytes() == data
    assert drops.events(file) == []
    (letter,) = drops.letters(file)
    assert letter["raw"] == (data if name not in ("small", "wide-csv", "tiny-csv") else b"null")
    assert letter["id"] == told["dead_letter"]
    assert reason in told["reason"]
    assert reason in letter["reason"]
    assert "hunter2" not in json.dumps(told) + letter["reason"]
    assert told["line"] == line
    if column is not None:
        assert told["column"] == column


BAD_RECORDS: list[tuple[str, str, bytes, list[Any], list[tuple[str, int]]]] = [
    ("ndjson-records", "json", b'1\n\nx\n"\xff"\n2\n', [1, 2], [("it is not JSON", 3), ("it is not JSON", 4)]),
    ("ndjson-records", "all-bad", b"x\ny\n", [], [("it is not JSON", 1), ("it is not JSON", 2)]),
    ("csv-records", "fields", b"a,b\n1,2\n3\n4,5,6\n7,8\n", ["1", "7"], [("1 fields", 3), ("3 fields", 4)]),
    ("csv-records", "encoding", b"a,b\n1,2\n3,\xff\n7,8\n", ["1", "7"], [("it is not utf-8", 3)]),
    ("text-records", "encoding", b"1\n\xff\n2\n", ["1", "2"], [("it is not UTF-8", 2)]),
    ("short-records", "length", lines_of([1, "x" * 200, "x" * 97]).encode(), [1, "x" * 97], [("100 bytes", 2)]),
    ("tiny", "blank-at-first", b" " * 12 + b"1\n2\n", [2], [("more than 10 bytes", 1)]),
    ("tiny", "one-byte-too-long", b'"123456789"\n1\n', [1], [("more than 10 bytes", 1)]),
    ("short-lines", "length", b"1\n" + b"x" * 200 + b"\n2", ["1", "2"], [("more than 100 bytes", 2)]),
]


@pytest.mark.parametrize(
    ("name", "file", "data", "bodies", "dead"), BAD_RECORDS, ids=[f"{one[0]}-{one[1]}" for one in BAD_RECORDS]
)
def test_bad_records_are_dead_letters_with_their_lines_and_the_others_go_on(
    daemon: Daemon, name: str, file: str, data: bytes, bodies: list[Any], dead: list[tuple[str, int]]
) -> None:
    drops = inbox(daemon, name)
    drops.drop(file, data)
    drops.done(file)
    assert [body["a"] if isinstance(body, dict) else body for body in drops.bodies(file)] == bodies
    letters = sorted(drops.letters(file), key=lambda letter: int(letter["record"]["line"]))
    assert [letter["record"]["line"] for letter in letters] == [line for _, line in dead]
    assert all(reason in letter["reason"] for letter, (reason, _) in zip(letters, dead, strict=True))


def test_an_empty_json_file_among_good_ones_stops_none_of_them(daemon: Daemon) -> None:
    drops = inbox(daemon, "json")
    for name, data in (("m1", "{}"), ("m2", ""), ("m3", "{}")):
        drops.drop(name, data)
    drops.failed("m2")
    drops.done("m1")
    drops.done("m3")


def test_numbers_and_lines_of_records_count_all_records_and_all_lines(daemon: Daemon) -> None:
    drops = inbox(daemon, "ndjson-records")
    drops.drop("numbers", b"1\n\nx\n2\n")
    drops.done("numbers")
    assert [event["record"] for event in drops.events("numbers")] == [{"index": 0, "line": 1}, {"index": 2, "line": 4}]
    assert [letter["record"] for letter in drops.letters("numbers")] == [{"index": 1, "line": 3}]
    drops = inbox(daemon, "csv-records")
    drops.drop("numbers", b'a,b\n"1\n\n2",3\n4,5\n')
    drops.done("numbers")
    assert [event["record"] for event in drops.events("numbers")] == [{"index": 0, "line": 2}, {"index": 1, "line": 5}]


@pytest.mark.parametrize("name", ["ndjson", "ndjson-records", "csv", "csv-records", "text-records"])
def test_a_file_without_a_record_is_noted_as_filtered(daemon: Daemon, name: str) -> None:
    drops = inbox(daemon, name)
    filtered = drops.deliveries("filtered")
    drops.drop("nothing", b"")
    drops.done("nothing")
    assert drops.deliveries("filtered") == filtered + 1


# A byte order mark is what other systems write before UTF-8


@pytest.mark.parametrize(
    ("name", "data", "bodies"),
    [
        ("json", b'{"a": 1}', [{"a": 1}]),
        ("ndjson", b"1\n2\n", [1, 2]),
        ("ndjson-records", b"1\n2\n", [1, 2]),
        ("csv", b"a,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
        ("csv-records", b"a,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
        ("text", b"one", ["one"]),
        ("text-records", b"one\ntwo", ["one", "two"]),
        ("xml", b"<a/>", [{"a": None}]),
    ],
)
def test_a_byte_order_mark_is_no_part_of_what_is_read(
    daemon: Daemon, name: str, data: bytes, bodies: list[Any]
) -> None:
    drops = inbox(daemon, name)
    drops.drop("marked", b"\xef\xbb\xbf" + data)
    drops.done("marked")
    assert drops.bodies("marked") == bodies
