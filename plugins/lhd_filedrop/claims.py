"""Claims: takes files out of the folder into ``.work``, and tells what is there already.

A file is claimed by a rename into a folder of this source inside ``.work``; the folder of the claim and the path of the
file inside it are its name for ever. All functions block, and raise OSError.
"""

import errno
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from urllib.parse import unquote

from lhd_filedrop import handles
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import FAULTS, GONE, LOCK, OWN, Folder, Found, Taken, state_of


class Claims:
    """The claims of one source."""

    def __init__(self, config: FileDropConfig, folder: Folder) -> None:
        self._config = config
        self._folder = folder
        self.changing = threading.RLock()
        """Held by whoever moves something between a claim and ``failed``, or removes a claim that is empty."""
        self.refused: dict[bytes, OSError] = {}
        """What could not be claimed, or put back, since somebody cleared this."""

    # What is claimed

    def claimed(self) -> list[Taken]:
        """What was claimed and not moved on yet, in order; what is empty goes."""
        found = []
        for claim in self._claims():
            try:
                paths = self._without_markers(claim, sorted(self._walk(claim)))
            except OSError as error:
                self._refuse(claim, error)
                continue
            if not paths:
                self.tidy({os.fsdecode(claim)})
            found += [Taken(os.fsdecode(claim), path) for path in paths]
        return found

    def sync(self) -> None:
        """Make all claims durable, as far as a crash has not let them become so."""
        for claim in self._claims():
            self._folder.sync(self._folder.work, claim)
        self._folder.sync(self._folder.work, b"")

    def _claims(self) -> list[bytes]:
        with os.scandir(self._folder.work) as entries:
            return sorted(os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False))

    def _refuse(self, path: bytes, error: OSError) -> None:
        if error.errno in FAULTS:
            raise error
        self.refused[path] = error

    def stranded(self) -> list[str]:
        """The names of other sources that have claimed files and do not run, as one that was renamed."""
        found = []
        for source in sorted(os.listdir(self._folder.all_work)):
            if os.fsencode(source) == self._folder.source:
                continue
            with suppress(OSError), handles.folder(self._folder.all_work, os.fsencode(source)) as work:
                if not _is_at_work(work) and _has_claims(work):
                    found.append(unquote(source))
        return found

    def _walk(self, claim: bytes) -> Iterator[bytes]:
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            with self._in_claim(claim, inside) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    path = os.path.join(inside, os.fsencode(entry.name))
                    if _is_own_folder(entry):
                        waiting.append(path)
                    else:
                        yield path

    def _in_claim(self, claim: bytes, inside: bytes) -> AbstractContextManager[int]:
        return handles.folder(self._folder.work, _path(claim, inside))

    def _without_markers(self, claim: bytes, paths: list[bytes]) -> list[bytes]:
        """The files. A marker whose file was not claimed any more, because of a crash, goes back to it."""
        files = [path for path in paths if not os.path.basename(path).startswith(b".")]
        for path in set(paths).difference(files):
            inside, marker = os.path.split(path)
            file = os.path.join(inside, marker[1:])
            try:
                with self._in_claim(claim, inside) as folder:
                    if self._config.ready == "marker" and file not in files:
                        self._put_marker_back(folder, file)
                    else:
                        os.unlink(marker, dir_fd=folder)
            except OSError as error:
                self._refuse(file, error)
        return files

    def _put_marker_back(self, folder: int, path: bytes) -> None:
        inside, name = os.path.split(path)
        try:
            with handles.folder(self._folder.root, inside) as origin:
                handles.rename(folder, _marker(name), origin, self._folder.marker(name))
        except OSError as error:
            if error.errno not in (errno.EEXIST, *GONE):
                raise
            with suppress(FileNotFoundError):
                os.unlink(_marker(name), dir_fd=folder)

    # Claiming

    def claim(self, found: Sequence[Found], now_ms: int) -> list[Taken]:
        """Claim files in one folder of the work folder, durably; what is gone, or cannot be claimed, is left out."""
        claim = Taken.new_claim(now_ms, self._config)
        with handles.folder(self._folder.work, claim.encode(), make=OWN) as base:
            taken = [Taken(claim, one.path) for one in found if self._take(base, one)]
        for inside in {os.path.dirname(file.path) for file in taken}:
            self._folder.sync(self._folder.work, os.path.join(claim.encode(), inside))
            self._folder.sync(self._folder.root, inside)
        if not taken:
            self.tidy({claim})
        return taken

    def _take(self, base: int, one: Found) -> bool:
        inside, name = os.path.split(one.path)
        try:
            with handles.folder(self._folder.root, inside) as origin, handles.folder(base, inside, make=OWN) as target:
                if self._config.ready == "marker":
                    return self._take_marked(origin, target, one.path)
                if self._config.ready == "stable" and state_of(os.lstat(name, dir_fd=origin)) != one.state:
                    return False
                handles.rename(origin, name, target, name)
                if self._is_what_was_found(target, name, one):
                    return True
                # Where its name is taken again it stays claimed, and is read when it is finished, or fails.
                with suppress(FileExistsError):
                    handles.rename(target, name, origin, name)
        except OSError as error:
            if error.errno not in GONE:
                self._refuse(one.path, error)
        return False

    def _is_what_was_found(self, target: int, name: bytes, found: Found) -> bool:
        """Whether a file is no folder now, and, where it must be still, was not written since it was found."""
        status = os.lstat(name, dir_fd=target)
        is_still = self._config.ready != "stable" or state_of(status).is_same_contents(found.state)
        return stat.S_ISREG(status.st_mode) and is_still

    def _take_marked(self, origin: int, target: int, path: bytes) -> bool:
        """The marker first: if it went after a crash, nobody would know that the file is finished.

        Its name there is one that no file has, whatever the configuration says when it is found.
        """
        name = os.path.basename(path)
        handles.rename(origin, self._folder.marker(name), target, _marker(name))
        try:
            handles.rename(origin, name, target, name)
            if not handles.is_file(target, name):
                handles.rename(target, name, origin, name)
                raise FileNotFoundError(errno.ENOENT, "something else has its name", os.fsdecode(name))
        except OSError:
            self._put_marker_back(target, path)
            raise
        os.unlink(_marker(name), dir_fd=target)
        return True

    def tidy(self, claims: Iterable[str]) -> None:
        """Remove the folders of claims, as far as they are empty."""
        for claim in claims:
            inner = [b""]
            with self.changing, suppress(OSError):
                for inside in inner:
                    with self._in_claim(os.fsencode(claim), inside) as folder, os.scandir(folder) as entries:
                        folders = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
                        inner += [os.path.join(inside, name) for name in folders]
                for inside in reversed(inner):
                    os.rmdir(_path(os.fsencode(claim), inside), dir_fd=self._folder.work)


def _path(claim: bytes, inside: bytes) -> bytes:
    """The path of a folder inside a claim, or of the claim itself, in the work folder."""
    return os.path.join(claim, inside).rstrip(b"/")


def _marker(name: bytes) -> bytes:
    """What the marker of a claimed file is called while the file is claimed: files are never hidden."""
    return b"." + name


def _is_own_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder that lhd made, and not one that came in place of a file."""
    return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid in (0, os.geteuid())


def _is_at_work(work: int) -> bool:
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work)
    except FileNotFoundError:
        return False
    try:
        return handles.is_locked(lock)
    finally:
        os.close(lock)


def _has_claims(work: int) -> bool:
    with os.scandir(work) as claims:
        for claim in claims:
            if claim.is_dir(follow_symlinks=False):
                with handles.folder(work, os.fsencode(claim.name)) as folder:
                    if os.listdir(folder):
                        return True
    return False
