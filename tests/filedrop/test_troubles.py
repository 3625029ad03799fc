"""Folders that vanish, disks that are full, files that go, and sources that share a folder."""

import gzip
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.live import live
from tests.e2e.process import Daemon, eventually
from tests.filedrop.drops import AT_ONCE, EVENT, Inbox, files, good, source, sources

NAMES = ("removed", "replaced", "missing", "vanishing", "own", "hostile")
EMPTIED = ("emptied-done", "emptied-failed", "emptied-work", "emptied-done-failed-work")
LINKED = ("linked-work", "linked-done", "linked-failed")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("troubles")
    toml = sources(folder / "in", dict.fromkeys(NAMES + EMPTIED + LINKED, (AT_ONCE,)))
    for name in ("missing", *LINKED):
        (folder / "in" / name).rmdir()
    (folder / "in" / "blank").mkdir()
    keys = (AT_ONCE, 'format = "ndjson"', 'unit = "record"', 'decompress = ["gzip"]')
    toml += source("blank", folder / "in" / "blank", *keys)
    (folder / "in" / "shared").mkdir()
    for name in ("json", "csv"):
        toml += source(f"shared-{name}", folder / "in" / "shared", AT_ONCE, f'pattern = "*.{name}"', 'format = "text"')
    with live(folder, toml) as daemon:
        yield daemon


def inbox(daemon: Daemon, name: str) -> Inbox:
    return Inbox(daemon, name, daemon.folder / "in" / name)


def can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="file systems cannot be mounted here")


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A small file system of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


# The folder


def test_a_folder_that_is_missing_is_told_and_used_when_it_is_made(daemon: Daemon) -> None:
    drops = inbox(daemon, "missing")
    reason = drops.wait_for_state("faulted")
    assert reason == f"the folder {drops.directory} cannot be used: No such file or directory"
    drops.directory.mkdir()
    drops.drop("a.json", "{}")
    drops.done("a.json")
    drops.wait_for_state("running")


def test_a_folder_that_is_removed_and_made_again_goes_on(daemon: Daemon) -> None:
    drops = inbox(daemon, "removed")
    for number in range(3):
        drops.drop("a.json", f'"{number}"')
        drops.done("a.json")
        shutil.rmtree(drops.directory)
        drops.directory.mkdir()
    assert drops.bodies() == ["0", "1", "2"]


def test_a_folder_that_is_removed_faults_its_source_until_it_is_there_again(daemon: Daemon) -> None:
    drops = inbox(daemon, "replaced")
    drops.drop("a.json", '"a"')
    drops.done("a.json")
    drops.directory.rename(drops.directory.with_name("away"))
    drops.wait_for_state("faulted", "No such file or directory")
    drops.directory.with_name("away").rename(drops.directory)
    drops.wait_for_state("running")
    drops.drop("b.json", '"b"')
    drops.done("b.json")
    assert drops.bodies() == ["a", "b"]


@pytest.mark.parametrize("names", [("done",), ("failed",), (".work",), ("done", "failed", ".work")])
def test_folders_that_lhd_made_are_made_again(daemon: Daemon, names: tuple[str, ...]) -> None:
    drops = inbox(daemon, f"emptied-{'-'.join(names).replace('.', '')}")
    drops.drop("first.json", '"first"')
    drops.done("first.json")
    for name in names:
        shutil.rmtree(drops / name)
    drops.drop("good.json", '"good"')
    drops.drop("bad.json", "{")
    drops.done("good.json")
    drops.failed("bad.json")
    assert drops.bodies() == ["first", "good"]
    assert drops.in_work() == []


def test_files_that_vanish_before_they_are_claimed_were_never_there(daemon: Daemon) -> None:
    drops = inbox(daemon, "vanishing")
    chance = random.Random(5)
    names = [f"{number}.json" for number in range(600)]
    dropped = threading.Event()

    def drop() -> None:
        try:
            for name in names:
                drops.drop(name, f'"{name}"')
        finally:
            dropped.set()

    thread = threading.Thread(target=drop)
    thread.start()
    withdrawn = set()
    while not dropped.is_set():
        name = chance.choice(names)
        try:
            (drops / name).unlink()
        except FileNotFoundError:
            continue
        withdrawn.add(name)
    thread.join()
    eventually("everything to go", lambda: (not drops.tree() and not drops.in_work()) or None)
    assert withdrawn
    assert sorted(drops.bodies()) == sorted(set(names) - withdrawn)
    assert drops.letters() == []
    assert (drops.state()["state"], drops.state()["restarts"]) == ("running", 0)


def test_a_file_that_is_called_like_a_report_is_none_and_stops_nothing(daemon: Daemon) -> None:
    drops = inbox(daemon, "hostile")
    drops.drop("x.json.error.json", "[" * 100_000)
    drops.moved("x.json.error.json", "failed")
    drops.drop("x.json", "{")
    drops.moved("x.1.json", "failed")
    drops.drop("good.json", "{}")
    drops.done("good.json")
    drops.wait_for_state("running")
    assert len(drops.letters()) == 2


def test_a_source_of_blank_lines_is_stopped_and_started_at_once(daemon: Daemon) -> None:
    drops = inbox(daemon, "blank")
    drops.drop("blank.ndjson.gz", gzip.compress(b"\n" * 400_000_000, 1))
    eventually("it to be claimed", lambda: drops.in_work() or None)
    (claim,) = drops.in_work()
    good(daemon, "source", "reset", "blank")
    (drops / ".work" / claim).unlink()
    good(daemon, "source", "reset", "blank")
    drops.drop("good.ndjson", "1\n")
    drops.done("good.ndjson")


# Moving on


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small file system of its own."""
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", "size=256k,nr_inodes=300"):
        yield tmp_path / "disk"


@mounts
@pytest.mark.parametrize("inodes", [True, False], ids=["without-inodes", "without-bytes"])
def test_on_a_full_disk_nothing_is_lost_and_nothing_is_stored_twice_and_it_goes_on(
    disk: Path, tmp_path: Path, *, inodes: bool
) -> None:
    with live(tmp_path, EVENT + source("disk", disk, AT_ONCE)) as daemon:
        drops = Inbox(daemon, "disk", disk)
        drops.drop("first.json", '"first"')
        drops.done("first.json")
        names = [f"{number}.json" for number in range(9)]
        for name in names:
            (disk / f".{name}").write_text("{" if name == "4.json" else f'"{name}"')
        fill(disk, inodes=inodes)
        for name in names:
            (disk / f".{name}").rename(disk / name)
        eventually("the trouble to be told", lambda: "No space left" in drops.state()["reason"] or None)
        for path in disk.glob(".fill*"):
            path.unlink()
        eventually("the bad one to be moved", lambda: list((disk / "failed").glob("4*.json.error.json")) or None)
        for name in names:
            if name != "4.json":
                drops.done(name)
        eventually("the report to go", lambda: drops.state()["reason"] == "" or None)
        assert drops.bodies() == ["first", *(name for name in names if name != "4.json")]
        assert len(drops.letters()) == 1
        assert files(disk / "failed") == ["4.json", "4.json.error.json"]


def fill(disk: Path, *, inodes: bool) -> None:
    """Write until there is no byte left, or no inode either."""
    with (disk / ".fill").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    try:
        for number in range(1000 if inodes else 0):
            (disk / f".fill-{number}").touch()
    except OSError:
        pass


@mounts
def test_a_file_system_that_is_read_only_faults_the_source_until_it_is_not(disk: Path, tmp_path: Path) -> None:
    (disk / "a.json").write_text('"a"')
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with live(tmp_path, EVENT + source("disk", disk, AT_ONCE)) as daemon:
        drops = Inbox(daemon, "disk", disk)
        reason = drops.wait_for_state("faulted", "Read-only file system")
        assert reason.startswith(f"the folder {disk} cannot be used: ")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        drops.done("a.json")
        drops.wait_for_state("running")
        assert drops.bodies() == ["a"]


@pytest.mark.parametrize("name", [".work", "done", "failed"])
def test_a_link_in_place_of_a_folder_of_lhd_faults_the_source_and_is_not_followed(
    daemon: Daemon, tmp_path: Path, name: str
) -> None:
    drops = inbox(daemon, f"linked-{name.strip('.')}")
    outside = tmp_path / "outside"
    outside.mkdir()
    made = drops.directory.with_name(f"making-{drops.name}")
    made.mkdir()
    (made / name).symlink_to(outside)
    (made / "a.json").write_text("{}")
    made.rename(drops.directory)
    eventually("it to be faulted by it", lambda: "No such file" not in drops.wait_for_state("faulted") or None)
    assert list(outside.iterdir()) == []
    (drops / name).unlink()
    drops.done("a.json")
    assert len(drops.events()) == 1


@mounts
def test_a_file_that_is_a_mount_is_told_and_stops_no_other(disk: Path, tmp_path: Path) -> None:
    with live(tmp_path, EVENT + source("disk", disk, AT_ONCE, "recursive = true")) as daemon:
        drops = Inbox(daemon, "disk", disk)
        path = drops.drop(".mounted.json", '"mounted"')
        (disk / "inside").mkdir()
        ready = path.rename(disk / "inside" / "mounted.json")
        subprocess.run(["mount", "--bind", ready, ready], check=True)
        # Where it is mounted it cannot be renamed, but with its folder.
        (disk / "inside").rename(disk / "outside")
        try:
            drops.wait_for_state("running", "1 files cannot be claimed: ", "Device or resource busy")
            drops.drop("b.json", '"b"')
            drops.done("b.json")
        finally:
            subprocess.run(["umount", "--lazy", disk / "outside" / "mounted.json"], check=True)
        drops.done("outside/mounted.json")
        assert drops.bodies() == ["b", "mounted"]
        eventually("the report to go", lambda: drops.state()["reason"] == "" or None)


@mounts
def test_where_the_folder_is_not_mounted_nothing_of_what_is_known_is_forgotten(disk: Path, tmp_path: Path) -> None:
    with live(tmp_path, EVENT + source("disk", disk, AT_ONCE, 'after = "keep"')) as daemon:
        drops = Inbox(daemon, "disk", disk)
        drops.drop("a.json", '"a"')
        eventually("its event", lambda: drops.events() or None)
        away = tmp_path / "away"
        away.mkdir()
        daemon.kill()
        subprocess.run(["mount", "--move", disk, away], check=True)
        (disk / "stray.json").write_text('"stray"')
        daemon.start()
        eventually("the stray file", lambda: drops.events("stray.json") or None)
        daemon.kill()
        subprocess.run(["mount", "--move", away, disk], check=True)
        daemon.start()
        drops.drop("b.json", '"b"')
        eventually("its event", lambda: drops.events("b.json") or None)
        assert drops.bodies() == ["a", "stray", "b"]
        assert drops.deliveries("duplicate") == 0
    assert "lhd source reset disk" in daemon.log.read_text()


def test_a_daemon_ends_while_it_reads_a_file_that_takes_hours(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    keys = (AT_ONCE, 'format = "text"', 'unit = "record"')
    with live(tmp_path, EVENT + source("huge", tmp_path / "in", *keys)) as daemon:
        drops = Inbox(daemon, "huge", tmp_path / "in")
        with (drops / ".huge").open("w") as file:
            file.truncate(4 * 2**40)
        (drops / ".huge").rename(drops / "huge")
        eventually("it to be claimed", lambda: drops.in_work() or None)
        assert daemon.stop() == 0
        assert [Path(path).name for path in drops.in_work()] == ["huge"]


# Who shares a folder


def test_sources_of_different_names_share_a_folder(daemon: Daemon) -> None:
    shared = daemon.folder / "in" / "shared"
    one, other = (Inbox(daemon, f"shared-{name}", shared) for name in ("json", "csv"))
    for number in range(20):
        one.drop(f"{number}.json", "json")
        other.drop(f"{number}.csv", "csv")
    for number in range(20):
        one.done(f"{number}.json")
        other.done(f"{number}.csv")
    assert (one.bodies(), other.bodies()) == (["json"] * 20, ["csv"] * 20)
    assert [name for name in files(shared / ".work") if not name.endswith(".lock")] == []


def test_of_two_daemons_the_second_one_is_faulted_and_takes_nothing_until_the_first_is_gone(
    daemon: Daemon, tmp_path: Path
) -> None:
    first = inbox(daemon, "own")
    with live(tmp_path, EVENT + source("own", first.directory, AT_ONCE)) as other:
        second = Inbox(other, "own", first.directory)
        second.wait_for_state("faulted")
        for number in range(20):
            first.drop(f"{number}.json", f'"{number}"')
        for number in range(20):
            first.done(f"{number}.json")
        assert len(first.bodies()) == 20
        assert second.events() == []
        daemon.kill()
        second.wait_for_state("running")
        second.drop("later.json", '"later"')
        second.done("later.json")
        assert second.bodies() == ["later"]
