"""When a file is taken, in which order, and what is never touched."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.live import live
from tests.e2e.process import DEADLINE_S, Daemon, eventually
from tests.filedrop.drops import AT_ONCE, Inbox, sources

SOURCES: dict[str, tuple[str, ...]] = {
    "renamed": (AT_ONCE,),
    "written": (AT_ONCE,),
    "marked": (AT_ONCE, 'ready = "marker"'),
    "marked-ready": (AT_ONCE, 'ready = "marker"', 'marker_suffix = ".ready"', 'pattern = "*.json"'),
    "still": (AT_ONCE, 'ready = "stable"', "stable_s = 0.5"),
    **{
        f"still-{after}": (AT_ONCE, 'ready = "stable"', "stable_s = 1", f'after = "{after}"', "batch_records_max = 1")
        for after in ("move", "delete", "keep")
    },
    "kept": (AT_ONCE, 'after = "keep"'),
    "flat": (AT_ONCE,),
    "deep": (AT_ONCE, "recursive = true"),
    "picky": (AT_ONCE, 'pattern = "order-?.[jJ]*"'),
    "suffixes": (AT_ONCE, 'temporary_suffixes = [".writing"]'),
    "by-name": (),
    "by-time": ('order = "mtime"',),
    "quick": ("scan_s = 3600",),
}
WRITER = """
import sys
with open(sys.argv[1], sys.argv[2]) as file:
    for line in sys.stdin:
        file.write(line.rstrip())
        file.flush()
        print("written", flush=True)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("readiness")
    toml = sources(folder / "in", SOURCES)
    for number, name in enumerate(("c", "a", "\u00fc", "B", "10", "9")):
        for order in ("by-name", "by-time"):
            path = folder / "in" / order / name
            path.write_text(f'"{name}"')
            os.utime(path, (1_000_000_000 - number, 1_000_000_000 - number))
    with live(folder, toml) as daemon:
        yield daemon


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


class Writer:
    """Another process that has a file open for writing."""

    def __init__(self, path: Path, mode: str = "w") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def write(self, text: str) -> None:
        """Write a part, which has arrived in the file when this returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "written\n"

    def close(self) -> None:
        """Close the file, and end."""
        self._process.communicate(timeout=DEADLINE_S)


@contextmanager
def writer(path: Path, mode: str = "w") -> Iterator[Writer]:
    writer = Writer(path, mode)
    try:
        yield writer
    finally:
        writer.close()


# Finished files


def test_a_renamed_file_is_taken_at_once_without_waiting_for_the_next_look(daemon: Daemon) -> None:
    drops = inbox(daemon, "quick")
    drops.drop("a.json", "{}")
    drops.done("a.json")
    drops.drop("b.json", "{}")
    drops.done("b.json")


def test_a_file_that_a_writer_has_open_is_waited_for_and_then_read_whole(daemon: Daemon) -> None:
    drops = inbox(daemon, "written")
    with writer(drops / "slow.json") as slow:
        slow.write('"one')
        drops.wait_for_state("running", "1 ")
        drops.drop("other.json", '"other"')
        drops.done("other.json")
        slow.write(" two")
        drops.wait_for_looks()
        assert drops.events("slow.json") == drops.letters("slow.json") == []
        slow.write(' three"')
    drops.done("slow.json")
    assert drops.bodies("slow.json") == ["one two three"]
    eventually("the report to go", lambda: drops.state()["reason"] == "" or None)


def test_a_file_that_was_renamed_while_its_writer_had_it_open_is_waited_for(daemon: Daemon) -> None:
    drops = inbox(daemon, "written")
    with writer(drops / "early.json.tmp") as early:
        early.write('"one')
        (drops / "early.json.tmp").rename(drops / "early.json")
        drops.wait_for_state("running", "1 ")
        early.write(' two"')
    drops.done("early.json")
    assert drops.bodies("early.json") == ["one two"]


def test_a_reader_does_not_keep_a_file_from_being_taken(daemon: Daemon) -> None:
    drops = inbox(daemon, "written")
    path = drops.drop(".hidden", "{}")
    with path.open():
        path.rename(drops / "read.json")
        drops.done("read.json")


def test_with_a_marker_a_file_is_taken_when_its_marker_comes_and_the_marker_goes(daemon: Daemon) -> None:
    drops = inbox(daemon, "marked")
    drops.drop("a.json", '"a"')
    drops.drop("b.json", '"b"')
    (drops / "b.json.done").touch()
    drops.done("b.json")
    assert drops.events("a.json") == []
    assert (drops / "a.json").exists()
    (drops / "a.json.done").touch()
    drops.done("a.json")
    eventually("the markers to go", lambda: not drops.tree() or None)
    assert drops.bodies() == ["b", "a"]


def test_a_marker_without_its_file_stays_and_is_no_file(daemon: Daemon) -> None:
    drops = inbox(daemon, "marked")
    (drops / "c.json.done").touch()
    (drops / "other.json.done").touch()
    drops.drop("other.json", '"other"')
    drops.done("other.json")
    assert drops.tree() == ["c.json.done"]
    assert drops.events("c.json.done") == drops.letters("c.json.done") == []
    drops.drop("c.json", '"c"')
    drops.done("c.json")
    assert drops.bodies("c.json") == ["c"]


def test_each_file_of_a_name_needs_a_marker_of_its_own(daemon: Daemon) -> None:
    drops = inbox(daemon, "marked-ready")
    for number in range(2):
        drops.drop("same.json", f'"{number}"')
        (drops / "same.json.ready").touch()
        eventually("its event", lambda number=number: len(drops.events("same.json")) == number + 1 or None)  # type: ignore[misc]
        eventually("its marker to go", lambda: not drops.tree() or None)
    drops.drop("same.json", '"unmarked"')
    drops.drop("other.json", "{}")
    (drops / "other.json.ready").touch()
    drops.done("other.json")
    assert drops.tree() == ["same.json"]
    assert drops.bodies("same.json") == ["0", "1"]


def test_a_still_file_is_taken_and_one_that_grows_is_not(daemon: Daemon) -> None:
    drops = inbox(daemon, "still")
    growing = drops / "growing.json"
    growing.write_text('"')
    parts = 0
    (drops / "still.json").write_text("{}")

    def grow() -> bool | None:
        nonlocal parts
        with growing.open("a") as file:
            file.write("x")
        parts += 1
        return (drops / "done" / "still.json").exists() or None

    eventually("the still file", grow)
    assert drops.events("growing.json") == drops.letters("growing.json") == []
    with growing.open("a") as file:
        file.write('"')
    drops.done("growing.json")
    assert drops.bodies("growing.json") == ["x" * parts]


@pytest.mark.parametrize("after", ["move", "delete", "keep"])
def test_a_file_that_was_still_and_is_written_again_before_its_turn_is_not_taken_in_part(
    daemon: Daemon, after: str
) -> None:
    drops = inbox(daemon, f"still-{after}")
    for attempt in range(5):
        late, parts = written_again(drops, str(attempt))
        # Else its turn came before it was written again, and it had been still for long enough.
        if not any(letter["raw"] == b'"' for letter in drops.letters(late)):
            assert drops.bodies(late) == ["x" * parts]
            assert drops.letters(late) == []
            return
    pytest.fail("its turn came too early each time")


def written_again(drops: Inbox, attempt: str) -> tuple[str, int]:
    """Drop files, and write one of them again and again while it waits for its turn; its name, and how often."""
    # The first that is found, and so as still as any other, and the last whose turn it is.
    late = drops / f"{attempt}-late.json"
    late.write_text('"')
    names = [f"{attempt}-{number}.json" for number in range(200)]
    for name in names:
        (drops / name).write_text("{}")
    eventually("the turn of the first ones", lambda: drops.events(names[0]) or None)
    parts = 0

    def write() -> bool | None:
        nonlocal parts
        with late.open("a") as file:
            file.write("x")
        parts += 1
        return {event["file"]["path"] for event in drops.events()}.issuperset(names) or None

    eventually("the others", write)
    with late.open("a") as file:
        file.write('"')
    eventually("what becomes of it", lambda: taken(drops, late.name) or None)
    return late.name, parts


def taken(drops: Inbox, path: str) -> bool:
    return bool(drops.events(path) or drops.letters(path))


def test_a_kept_file_that_is_written_is_waited_for_and_told(daemon: Daemon) -> None:
    drops = inbox(daemon, "kept")
    with writer(drops / "slow.json") as slow:
        slow.write('"one')
        assert drops.wait_for_state("running", "1 ") == "1 files are still written"
        slow.write(' two"')
    eventually("its event", lambda: drops.events("slow.json") or None)
    assert drops.bodies("slow.json") == ["one two"]
    eventually("the report to go", lambda: drops.state()["reason"] == "" or None)


# What is never touched


def test_what_is_no_finished_file_is_never_touched(daemon: Daemon, tmp_path: Path) -> None:
    drops = inbox(daemon, "flat")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file.json").write_text('"outside"')
    drops.drop("seen.json", "{}")
    drops.done("seen.json")
    (drops / ".hidden.json").write_text("{}")
    for suffix in (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~"):
        (drops / f"temporary{suffix}").write_text("{}")
    (drops / "link.json").symlink_to(outside / "file.json")
    (drops / "nowhere.json").symlink_to(outside / "nowhere")
    (drops / "linked-folder").symlink_to(outside)
    (drops / "folder.json").mkdir()
    (drops / "folder.json" / "inside.json").write_text("{}")
    os.mkfifo(drops / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(drops / "socket.json"))
    if os.geteuid() == 0:
        os.mknod(drops / "device.json", 0o600 | 0o020000, os.makedev(1, 3))
    before = {name: (drops / name).lstat() for name in drops.tree()}
    drops.wait_for_looks()
    after = {name: (drops / name).lstat() for name in drops.tree()}
    assert {name: (one.st_ino, one.st_mode, one.st_ctime_ns) for name, one in after.items()} == {
        name: (one.st_ino, one.st_mode, one.st_ctime_ns) for name, one in before.items()
    }
    assert (outside / "file.json").read_text() == '"outside"'
    assert {event["file"]["path"] for event in drops.events()} <= {"seen.json"} | {
        path.name for path in (drops / "done").glob("zzz-*")
    }
    assert drops.letters() == []


def test_with_recursive_folders_are_looked_into_and_links_are_not(daemon: Daemon, tmp_path: Path) -> None:
    drops = inbox(daemon, "deep")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file.json").write_text("{}")
    (drops / "linked").symlink_to(outside)
    (drops / ".hidden").mkdir()
    (drops / ".hidden" / "x.json").write_text("{}")
    for name in ("one.json", "a/two.json", "a/b c/\u00fc/three.json"):
        drops.drop(name, "{}")
    for name in ("a/b c/\u00fc/three.json", "a/two.json", "one.json"):
        drops.done(name)
    drops.drop("a/bad.json", "{")
    assert drops.failed("a/bad.json")["file"] in ("bad.json", "a/bad.json")
    assert (outside / "file.json").exists()
    assert {event["file"]["path"] for event in drops.events()} == {"one.json", "a/two.json", "a/b c/\u00fc/three.json"}


def test_what_lies_in_done_and_failed_is_never_read(daemon: Daemon) -> None:
    drops = inbox(daemon, "deep")
    for name in ("done/old.json", "failed/old.json", "done/sub/old.json"):
        (drops / name).parent.mkdir(parents=True, exist_ok=True)
        (drops / name).write_text("{}")
    drops.wait_for_looks()
    assert [event for event in drops.events() if "old" in event["file"]["path"]] == []


def test_something_named_done_or_failed_is_never_touched_wherever_it_is(daemon: Daemon) -> None:
    drops = inbox(daemon, "deep")
    names = ["sub/done/x.json", "sub/failed/x.json", "other/done", "other/failed"]
    for name in names:
        drops.drop(name, "{}")
    drops.wait_for_looks()
    assert [name for name in names if not (drops / name).is_file()] == []


def test_only_names_that_fit_the_pattern_are_taken(daemon: Daemon) -> None:
    drops = inbox(daemon, "picky")
    others = ["order-10.json", "Order-1.json", "order-1.xml", "order-", "xorder-1.json"]
    for name in (*others, "order-1.json", "order-2.JSON"):
        drops.drop(name, "{}")
    drops.done("order-1.json")
    drops.done("order-2.JSON")
    assert drops.tree() == sorted(others)


def test_temporary_suffixes_are_those_that_are_configured_and_no_others(daemon: Daemon) -> None:
    drops = inbox(daemon, "suffixes")
    (drops / "a.writing").write_text("{}")
    drops.drop("b.tmp", "{}")
    drops.done("b.tmp")
    assert drops.tree() == ["a.writing"]


# Order, and other names of the same file


def test_files_are_taken_in_the_order_of_their_names(daemon: Daemon) -> None:
    drops = inbox(daemon, "by-name")
    eventually("all of them", lambda: len(drops.events()) == 6 or None)
    assert drops.bodies() == ["10", "9", "B", "a", "c", "\u00fc"]


def test_files_are_taken_in_the_order_of_their_times(daemon: Daemon) -> None:
    drops = inbox(daemon, "by-time")
    eventually("all of them", lambda: len(drops.events()) == 6 or None)
    assert drops.bodies() == ["9", "10", "B", "\u00fc", "a", "c"]


def test_two_names_of_one_file_are_two_files(daemon: Daemon) -> None:
    drops = inbox(daemon, "renamed")
    path = drops.drop(".first", '"linked"')
    os.link(path, drops / "first.json")
    path.rename(drops / "second.json")
    for name in ("first.json", "second.json"):
        assert drops.done(name).read_text() == '"linked"'
        assert drops.bodies(name) == ["linked"]


def test_of_files_that_replace_each_other_each_is_read_whole_and_once_and_the_last_one_surely(daemon: Daemon) -> None:
    drops = inbox(daemon, "renamed")
    versions = [f"{number:02} " + "x" * 5000 for number in range(40)]
    for version in versions:
        drops.drop("over.json", f'"{version}"')
    eventually("the last one", lambda: versions[-1] in drops.bodies("over.json") or None)
    bodies = drops.bodies("over.json")
    assert bodies == [version for version in versions if version in bodies]
    assert drops.letters("over.json") == []
