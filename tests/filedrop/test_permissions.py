"""What an ordinary user's daemon does where it may not read, list or write; root would be refused nothing."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, Inbox, sources

NOBODY = 65534
SETPRIV = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs"]
AS_NOBODY = f"""
import os, sys
command = {SETPRIV!r} + [sys.executable, "-m", "lhd", *sys.argv[1:]]
os.execvp(command[0], command)
"""
SOURCES: dict[str, tuple[str, ...]] = {
    "unreadable": (AT_ONCE,),
    "unlistable": (AT_ONCE,),
    "read-only": (AT_ONCE,),
    "deep": (AT_ONCE, "recursive = true"),
    "stuck": (AT_ONCE,),
    "stuck-records": (AT_ONCE, 'format = "ndjson"', 'unit = "record"'),
    "kept": (AT_ONCE, 'after = "keep"', "recursive = true"),
    "stuck-inside": (AT_ONCE, "recursive = true"),
    "stuck-inside-fail": (AT_ONCE, "recursive = true", 'on_conflict = "fail"'),
    "marked": (AT_ONCE, "recursive = true", 'ready = "marker"'),
    "stuck-many": (AT_ONCE,),
    "stuck-failed": (AT_ONCE,),
    "mode": (AT_ONCE, "forbidden_mode = 0o002"),
    "owners": (AT_ONCE, f"owners = [{NOBODY if os.geteuid() == 0 else os.geteuid()}]"),
    "foreign": (AT_ONCE,),
}
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon of an ordinary user, who owns its folders."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root is refused nothing, and there is no setpriv to become somebody else")
        probe = subprocess.run([*SETPRIV, sys.executable, "-m", "lhd", "--version"], capture_output=True, check=False)
        if probe.returncode != 0:
            pytest.skip(f"root is refused nothing, and nobody cannot start lhd: {probe.stderr.decode()[-200:]}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        daemon = Daemon(folder, ("-c", AS_NOBODY) if os.geteuid() == 0 else ("-m", "lhd"))
        daemon.config.write_text(daemon.config.read_text() + sources(folder / "in", SOURCES))
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        folder.chmod(0o755)
        start(daemon)
        yield daemon
        daemon.stop()
        for path in (folder / "in").rglob("*"):
            if path.is_dir():
                path.chmod(0o700)


def start(daemon: Daemon) -> None:
    before = os.umask(0)  # for the socket that is told when the daemon is ready
    try:
        daemon.start()
    finally:
        os.umask(before)


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode & 0o7777
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


def made(path: Path) -> None:
    """Make a folder of the daemon's user."""
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def test_a_file_that_may_not_be_read_fails_and_stops_no_other(daemon: Daemon) -> None:
    drops = inbox(daemon, "unreadable")
    hidden = drops.drop(".b", '"b"')
    hidden.chmod(0)
    drops.drop("a.json", '"a"')
    hidden.rename(drops / "b.json")
    drops.drop("c.json", '"c"')
    assert "Permission denied" in drops.failed("b.json")["reason"]
    drops.done("a.json")
    drops.done("c.json")
    assert drops.bodies() == ["a", "c"]
    drops.wait_for_state("running")


@root
def test_a_file_of_another_user_is_taken_where_it_may_be_read(daemon: Daemon) -> None:
    drops = inbox(daemon, "foreign")
    path = drops.drop("a.json", "{}")
    drops.done(path.name)
    assert (drops / "done" / "a.json").stat().st_uid == 0


@pytest.mark.parametrize(("name", "bits"), [("read-only", 0o500), ("unlistable", 0o000)])
def test_a_folder_that_may_not_be_used_is_told_and_used_again_when_it_may(daemon: Daemon, name: str, bits: int) -> None:
    drops = inbox(daemon, name)
    drops.drop("before.json", "{}")
    drops.done("before.json")
    hidden = drops.drop(".file.json", "{}")
    with mode(drops.directory, bits):
        if os.geteuid() == 0:
            hidden.rename(drops / "file.json")  # else there is nobody who could
        eventually("it to be told", lambda: "Permission denied" in drops.state()["reason"] or None)
    if hidden.exists():
        hidden.rename(drops / "file.json")
    drops.done("file.json")
    eventually("the report to go", lambda: drops.state()["reason"] == "" or None)
    assert len(drops.events("file.json")) == 1


def test_a_folder_inside_that_may_not_be_listed_is_passed_over(daemon: Daemon) -> None:
    drops = inbox(daemon, "deep")
    for name in ("a", ".b", "c"):
        (drops / name).mkdir()
        if os.geteuid() == 0:
            os.chown(drops / name, NOBODY, NOBODY)
    (drops / ".b" / "inside.json").write_text('"b"')
    (drops / ".b").chmod(0)
    (drops / ".b").rename(drops / "b")
    drops.drop("a/x.json", '"a"')
    drops.drop("c/x.json", '"c"')
    drops.done("a/x.json")
    drops.done("c/x.json")
    assert drops.wait_for_state("running", "folders inside") == "1 folders inside cannot be used, or are too deep"
    assert drops.events("b/inside.json") == drops.letters() == []
    (drops / "b").chmod(0o755)
    drops.done("b/inside.json")


@pytest.mark.parametrize(("name", "data"), [("stuck", "{}"), ("stuck-records", "{}\n{}\n")])
def test_files_that_cannot_be_moved_to_done_stay_in_work_stored_once_until_they_can(
    daemon: Daemon, name: str, data: str
) -> None:
    drops = inbox(daemon, name)
    records = data.count("{}")
    drops.drop("first.json", data)
    drops.done("first.json")
    with mode(drops / "done", 0o500):
        for number, file in enumerate(("second.json", "third.json"), 1):
            drops.drop(file, data)
            reason = drops.wait_for_state("running", f"{number} files that are stored cannot be moved: ")
            assert "Permission denied" in reason
        inbox(daemon, "unreadable").wait_for_looks()
        assert sorted(Path(path).name for path in drops.in_work()) == ["second.json", "third.json"]
        assert len(drops.events()) == 3 * records
    drops.done("second.json")
    drops.done("third.json")
    assert len(drops.events()) == 3 * records
    assert drops.letters() == []
    eventually("the report to go", lambda: drops.state()["reason"] == "" or None)


@pytest.mark.parametrize("name", ["stuck-inside", "stuck-inside-fail"])
@pytest.mark.parametrize("bits", [0, 0o300, 0o500])
def test_a_folder_inside_done_that_may_not_be_used_keeps_its_own_files_only(
    daemon: Daemon, name: str, bits: int
) -> None:
    drops = inbox(daemon, name)
    made(drops / str(bits))
    drops.drop(f"{bits}/first.json", "{}")
    drops.done(f"{bits}/first.json")
    with mode(drops / "done" / str(bits), bits):
        drops.drop(f"{bits}/second.json", "{}")
        drops.drop(f"other-{bits}.json", "{}")
        drops.done(f"other-{bits}.json")
        if bits != 0o300:
            drops.wait_for_state("running", "1 files that are stored cannot be moved: ", "Permission denied")
    drops.done(f"{bits}/second.json")
    assert len(drops.events(f"{bits}/second.json")) == 1
    assert drops.letters() == []


def test_a_marker_that_cannot_be_put_back_is_told_and_stops_no_other_file(daemon: Daemon) -> None:
    drops = inbox(daemon, "marked")
    drops.drop("before.json", "{}")
    (drops / "before.json.done").touch()
    drops.done("before.json")
    made(drops / "sub")
    path = drops.drop("sub/a.json", '"a"')
    daemon.kill()
    marker = drops / ".work" / "marked" / "1700000000000-0badcafe" / "sub" / ".a.json"
    marker.parent.mkdir(parents=True)
    marker.touch()
    if os.geteuid() == 0:
        for one in (marker, *list(marker.parents)[:2]):
            os.chown(one, NOBODY, NOBODY)
    with mode(path.parent, 0o500):
        start(daemon)
        drops.wait_for_state("running", "1 files cannot be claimed: ", "Permission denied")
        drops.drop("b.json", '"b"')
        (drops / "b.json.done").touch()
        drops.done("b.json")
        assert path.exists()
    drops.done("sub/a.json")
    assert drops.bodies() == [{}, "b", "a"]


def test_when_a_hundred_files_cannot_be_moved_nothing_new_is_taken_until_they_can(daemon: Daemon) -> None:
    drops = inbox(daemon, "stuck-many")
    drops.drop("first.json", "{}")
    drops.done("first.json")
    with mode(drops / "done", 0o500):
        for number in range(400):
            drops.drop(f"{number:03}.json", "{}")
        drops.wait_for_state("running", "files that are stored cannot be moved: ")
        eventually("a hundred to wait", lambda: len(drops.in_work()) >= 100 or None)
        inbox(daemon, "unreadable").wait_for_looks()
        assert len(drops.in_work()) <= 300
        assert len(drops.tree()) == 400 - len(drops.in_work())
        assert len(drops.events()) <= 1 + len(drops.in_work())
    eventually("all of them to be moved", lambda: len(list((drops / "done").iterdir())) == 401 or None)
    assert len(drops.events()) == 401


def test_bad_files_that_cannot_be_moved_to_failed_have_one_letter_and_are_moved_when_they_can(daemon: Daemon) -> None:
    drops = inbox(daemon, "stuck-failed")
    drops.drop("good.json", "{}")
    drops.done("good.json")
    with mode(drops / "failed", 0o500):
        drops.drop("bad.json", "{")
        drops.wait_for_state("running", "cannot be moved", "Permission denied")
    drops.failed("bad.json")
    assert len(drops.letters()) == 1


def test_a_file_with_a_forbidden_mode_fails(daemon: Daemon) -> None:
    drops = inbox(daemon, "mode")
    for name, bits in (("all.json", 0o666), ("group.json", 0o664), ("mine.json", 0o644)):
        hidden = drops.drop(f".{name}", "{}")
        hidden.chmod(bits)
        hidden.rename(drops / name)
    drops.failed("all.json")
    drops.done("group.json")
    drops.done("mine.json")
    assert {event["file"]["name"] for event in drops.events()} == {"group.json", "mine.json"}


@root
def test_a_file_of_a_user_who_is_not_among_the_owners_fails(daemon: Daemon) -> None:
    drops = inbox(daemon, "owners")
    drops.drop("foreign.json", "{}")
    hidden = drops.drop(".own.json", "{}")
    os.chown(hidden, NOBODY, NOBODY)
    hidden.rename(drops / "own.json")
    drops.failed("foreign.json")
    drops.done("own.json")
    assert drops.bodies() == [{}]
    assert len(drops.letters()) == 1


@pytest.mark.parametrize("name", ["stuck", "stuck-records"])
def test_what_could_not_be_moved_before_a_crash_is_moved_by_a_start_and_not_stored_again_however_late_that_is(
    daemon: Daemon, name: str
) -> None:
    drops = inbox(daemon, name)
    drops.drop("before.json", "{}")
    drops.done("before.json")
    with mode(drops / "done", 0o500):
        drops.drop("crashed.json", '"crashed"')
        drops.wait_for_state("running", "cannot be moved")
        daemon.kill()
        forget_deliveries(daemon)
        start(daemon)
        drops.wait_for_state("running", "cannot be moved")
    drops.done("crashed.json")
    assert drops.bodies("crashed.json") == ["crashed"]


def forget_deliveries(daemon: Daemon) -> None:
    """Do to a stopped daemon's store what ``dedupe_days`` do."""
    with closing(sqlite3.connect(daemon.folder / "data" / "lhd.sqlite")) as store:
        assert store.execute("DELETE FROM seen_delivery").rowcount > 0
        store.commit()
    if os.geteuid() == 0:
        for path in (daemon.folder / "data").iterdir():
            os.chown(path, NOBODY, NOBODY)


def test_a_start_is_not_stopped_by_a_folder_inside_that_may_not_be_listed_and_forgets_nothing_of_it(
    daemon: Daemon,
) -> None:
    drops = inbox(daemon, "kept")
    made(drops / "inside")
    path = drops.drop("inside/a.json", '"a"')
    eventually("its event", lambda: drops.events("inside/a.json") or None)
    with mode(path.parent, 0):
        daemon.kill()
        start(daemon)
        assert drops.wait_for_state("running", "folders inside") == "1 folders inside cannot be used, or are too deep"
        drops.drop("b.json", '"b"')
        eventually("its event", lambda: drops.events("b.json") or None)
    drops.drop("inside/c.json", '"c"')
    eventually("its event", lambda: drops.events("inside/c.json") or None)
    assert drops.bodies() == ["a", "b", "c"]
    assert drops.deliveries("duplicate") == 0
