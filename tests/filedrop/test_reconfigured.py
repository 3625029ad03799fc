"""What is claimed, stored or known when the daemon comes back, configured otherwise, is neither lost nor repeated."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, Inbox, files, good, lines_of, source

KEEP, DELETE = 'after = "keep"', 'after = "delete"'
NDJSON = 'format = "ndjson"'
RECORDS = (NDJSON, 'unit = "record"')
SLOWLY = "batch_records_max = 2"


class Configured:
    """One source of a daemon that is started again and again with other keys."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self._daemon = daemon
        self._base = daemon.config.read_text() + EVENT
        self._is_up = False
        self.inbox = Inbox(daemon, "inbox", directory)

    def start(self, *keys: str, name: str = "inbox") -> Inbox:
        """Start the daemon with these keys of its source, after a kill."""
        self.kill()
        self._daemon.config.write_text(self._base + source(name, self.inbox.directory, AT_ONCE, *keys))
        self._daemon.start()
        self._is_up = True
        self.inbox = Inbox(self._daemon, name, self.inbox.directory)
        return self.inbox

    def kill(self) -> None:
        """Kill the daemon, if it runs."""
        if self._is_up:
            self._daemon.kill()
        self._is_up = False

    def claim(self, name: str, data: str, claim: str = "1700000000000-0badcafe") -> None:
        """Leave a claimed file behind, as a crash after the claim does."""
        path = self.inbox / ".work" / "inbox" / claim / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)

    def claim_again(self, name: str) -> None:
        """Put a file that is done back to its claim, as if a crash had come before it was moved."""
        claim = self.inbox.events(name)[0]["meta"]["claim"]
        path = self.inbox / ".work" / "inbox" / claim
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.inbox / "done" / name).rename(path)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    (tmp_path / "in").mkdir()
    configured = Configured(Daemon(tmp_path), tmp_path / "in")
    yield configured
    configured.kill()


def settled(drops: Inbox) -> None:
    """Wait until all that is there is taken and moved on."""
    eventually("everything to be moved on", lambda: not (drops.waiting() or drops.in_work()) or None)


# after


@pytest.mark.parametrize("after", ['after = "move"', DELETE])
def test_files_that_were_kept_are_moved_on_and_only_new_and_changed_ones_are_delivered(
    configured: Configured, after: str
) -> None:
    drops = configured.start(KEEP)
    for name in ("same.json", "touched.json", "changed.json"):
        drops.drop(name, f'"{name}"')
        eventually(name, lambda name=name: drops.events(name) or None)  # type: ignore[misc]
    configured.kill()
    (drops / "changed.json").write_text('"other"')
    os.utime(drops / "touched.json", (1, 1))
    drops.drop("new.json", '"new"')
    drops = configured.start(after)
    settled(drops)
    assert sorted(drops.bodies()) == ["changed.json", "new", "other", "same.json", "touched.json"]
    names = ["changed.json", "new.json", "same.json", "touched.json"]
    assert files(drops / "done") == ([] if after == DELETE else names)
    drops.drop("same.json", '"same.json"')
    eventually("the same contents, dropped anew", lambda: len(drops.bodies("same.json")) == 2 or None)


def test_a_kept_file_that_is_stored_in_part_goes_on_where_it_was_after_it_is_to_be_moved(
    configured: Configured,
) -> None:
    drops = configured.start(KEEP, *RECORDS, SLOWLY)
    drops.drop("long.ndjson", lines_of(range(3000)))
    eventually("some of it", lambda: len(drops.events()) > 10 or None)
    configured.kill()
    assert 10 < len(drops.events()) < 3000
    drops = configured.start(*RECORDS)
    drops.done("long.ndjson")
    assert drops.bodies() == list(range(3000))


def test_contents_that_a_kept_file_had_are_delivered_again_when_they_are_dropped_again(configured: Configured) -> None:
    drops = configured.start(KEEP)
    drops.drop("a.json", '"a"')
    eventually("its event", lambda: drops.events() or None)
    configured.kill()
    drops.drop("a.json", '"b"')
    drops = configured.start()
    drops.done("a.json")
    drops.drop("a.json", '"a"')
    drops.done("a.1.json")
    assert drops.bodies() == ["a", "b", "a"]


def test_a_kept_file_that_fails_for_a_while_is_moved_on_and_not_delivered_again(configured: Configured) -> None:
    strict = "forbidden_mode = 0o002"
    drops = configured.start(KEEP, strict)
    path = drops.drop("a.json", '"a"')
    eventually("its event", lambda: drops.events() or None)
    path.chmod(0o666)
    eventually("its letter", lambda: drops.letters() or None)
    drops = configured.start(strict)
    drops.done("a.json")
    drops.wait_for_looks()
    assert drops.bodies("a.json") == ["a"]
    assert drops.deliveries("duplicate") == 0


@pytest.mark.parametrize("after", [KEEP, 'after = "move"'])
def test_a_kept_file_that_was_claimed_just_before_a_crash_is_moved_on_and_not_delivered_again(
    configured: Configured, after: str
) -> None:
    drops = configured.start(KEEP)
    path = drops.drop("a.json", '"a"')
    eventually("its event", lambda: drops.events() or None)
    configured.kill()
    claimed = drops / ".work" / "inbox" / "1700000000000-0badcafe" / "a.json"
    claimed.parent.mkdir()
    path.rename(claimed)
    drops.drop("b.json", '"b"')
    drops = configured.start(after)
    drops.done("a.json")
    eventually("the other one", lambda: drops.events("b.json") or None)
    assert drops.bodies() == ["a", "b"]
    assert drops.deliveries("duplicate") == 0


def test_a_kept_file_stays_known_when_a_failed_one_of_its_name_is_retried(configured: Configured) -> None:
    drops = configured.start()
    drops.drop("a.json", "{")
    letter = drops.failed("a.json")["dead_letter"]
    drops = configured.start(KEEP)
    drops.drop("a.json", '"kept"')
    eventually("its event", lambda: drops.events() or None)
    (drops / "failed" / "a.json").write_text('"mended"')
    good(drops.daemon, "dead", "retry", letter)
    drops.done("a.json")
    for name in ("b.json", "c.json"):
        drops.drop(name, f'"{name}"')
        eventually("a look", lambda name=name: drops.events(name) or None)  # type: ignore[misc]
    assert drops.bodies("a.json") == ["kept", "mended"]
    assert drops.deliveries("duplicate") == 0


def test_files_that_are_claimed_are_moved_on_after_files_are_to_be_kept(configured: Configured) -> None:
    drops = configured.start()
    drops.drop("stored.json", '"stored"')
    drops.done("stored.json")
    configured.kill()
    configured.claim_again("stored.json")
    configured.claim("claimed.json", '"claimed"')
    drops = configured.start(KEEP)
    drops.done("stored.json")
    drops.done("claimed.json")
    assert drops.bodies() == ["stored", "claimed"]


# unit


def test_a_file_that_was_stored_as_a_whole_is_not_stored_by_its_records(configured: Configured) -> None:
    drops = configured.start(NDJSON)
    drops.drop("stored.ndjson", lines_of(range(5)))
    drops.done("stored.ndjson")
    configured.kill()
    configured.claim_again("stored.ndjson")
    configured.claim("claimed.ndjson", lines_of(range(5, 9)))
    drops = configured.start(*RECORDS)
    drops.done("claimed.ndjson")
    drops.done("stored.ndjson")
    assert drops.bodies() == list(range(9))


def test_a_file_that_was_stored_in_part_goes_on_after_files_are_to_be_stored_as_a_whole(configured: Configured) -> None:
    drops = configured.start(*RECORDS, SLOWLY)
    drops.drop("long.ndjson", lines_of(range(3000)))
    eventually("some of it", lambda: len(drops.events()) > 10 or None)
    configured.kill()
    assert 10 < len(drops.events()) < 3000
    drops = configured.start(NDJSON)
    drops.done("long.ndjson")
    assert drops.bodies() == list(range(3000))


@pytest.mark.parametrize("is_touched", [False, True], ids=["same", "touched"])
@pytest.mark.parametrize("after", ['after = "move"', KEEP])
def test_a_kept_file_that_is_stored_in_part_goes_on_after_files_are_to_be_stored_as_a_whole(
    configured: Configured, after: str, *, is_touched: bool
) -> None:
    drops = configured.start(KEEP, *RECORDS, SLOWLY)
    drops.drop("long.ndjson", lines_of(range(900)))
    eventually("some of it", lambda: len(drops.events()) > 10 or None)
    configured.kill()
    assert 10 < len(drops.events()) < 900
    if is_touched:
        os.utime(drops / "long.ndjson", (1, 1))
    drops = configured.start(NDJSON, after)
    drops.drop("zzz.ndjson", lines_of(["last"]))
    eventually("the file after it", lambda: drops.events("zzz.ndjson") or None)
    assert drops.bodies() == [*range(900), "last"]
    assert drops.deliveries("duplicate") == 0


# ready


def test_a_claimed_file_whose_name_is_now_that_of_a_marker_is_read(configured: Configured) -> None:
    drops = configured.start()
    configured.kill()
    configured.claim("a.json", '"a"')
    configured.claim("a.json.done", '"not a marker"')
    configured.claim("alone.json.done", '"nor this"')
    drops = configured.start('ready = "marker"')
    settled(drops)
    assert sorted(drops.bodies()) == ["a", "nor this", "not a marker"]


@pytest.mark.parametrize("ready", ["rename", "marker", "stable"])
def test_a_marker_that_was_claimed_before_its_file_is_found_by_every_configuration(
    configured: Configured, ready: str
) -> None:
    drops = configured.start('ready = "marker"')
    configured.kill()
    configured.claim(".marked.json", "")
    drops.drop("marked.json", '"marked"')
    drops = configured.start(f'ready = "{ready}"', "stable_s = 0.1")
    drops.done("marked.json")
    settled(drops)
    assert drops.bodies() == ["marked"]
    assert drops.tree() == []


# The source


def test_files_that_a_renamed_source_has_claimed_are_told_until_it_is_back(configured: Configured) -> None:
    drops = configured.start()
    configured.kill()
    configured.claim("claimed.json", '"claimed"')
    renamed = configured.start(name="renamed")
    renamed.wait_for_state("running", "the source 'inbox', which does not run, has claimed files")
    renamed.drop("other.json", '"other"')
    renamed.done("other.json")
    drops = configured.start()
    drops.done("claimed.json")
    drops.wait_for_looks()
    assert drops.state()["reason"] == ""


# Versions


def test_of_a_kept_file_each_contents_are_delivered_though_they_were_there_before(configured: Configured) -> None:
    drops = configured.start(KEEP)
    path = drops.drop("changes.json", '"0"')
    eventually("its event", lambda: len(drops.events()) == 1 or None)
    for number, body in enumerate((1, 0, 1, 0), 1):
        path.write_text(f'"{body}"')
        eventually("its next event", lambda number=number: len(drops.events()) == number + 1 or None)  # type: ignore[misc]
    assert drops.bodies() == ["0", "1", "0", "1", "0"]


def test_after_a_reset_kept_files_are_known_and_in_a_new_epoch_they_are_delivered_again(
    configured: Configured,
) -> None:
    drops = configured.start(KEEP)
    for name in ("a", "b"):
        drops.drop(f"{name}.json", f'"{name}"')
        eventually("its event", lambda name=name: drops.events(f"{name}.json") or None)  # type: ignore[misc]
    good(drops.daemon, "source", "reset", "inbox")
    eventually("them to be seen again", lambda: drops.deliveries("duplicate") == 2 or None)
    assert drops.bodies() == ["a", "b"]
    good(drops.daemon, "source", "reset", "inbox", "--epoch")
    eventually("them to be delivered again", lambda: len(drops.events()) == 4 or None)
    assert sorted(drops.bodies()) == ["a", "a", "b", "b"]
