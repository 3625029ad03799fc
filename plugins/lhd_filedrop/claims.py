"""Claims: takes files out of the folder into ``.work``, and tells what is there already.

A file is claimed by a rename into a folder of this source inside ``.work``; the folder of the claim and the path of the
file inside it are its name for ever. All functions block, and raise OSError.
"""

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from urllib.parse import unquote

from lhd_filedrop import handles
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import GONE, LOCK, OWN, Folder, Found, Taken, state_of

_REFUSED = (errno.EACCES, errno.EPERM, errno.EXDEV, errno.ENAMETOOLONG, errno.EBUSY)
"""What may be the matter with one file, and not with the folder."""


class Claims:
    """The claims of one source."""

    def __init__(self, config: FileDropConfig, folder: Folder) -> None:
        self._config = config
        self._folder = folder
        self.changing = threading.RLock()
        """Held by whoever puts something into a claim again, or removes one."""
        self.refused: dict[bytes, OSError] = {}
        """Of the latest claims, the files that could not be claimed."""

    # What is claimed

    def claimed(self) -> list[Taken]:
        """What was claimed and not moved on yet, in order; what is empty goes."""
        found = []
        for claim in sorted(os.listdir(self._folder.work)):
            if claim.startswith("."):
                continue
            paths = self._without_markers(os.fsencode(claim), sorted(self._walk(os.fsencode(claim))))
            if paths:
                self._folder.sync(self._folder.work, os.fsencode(claim))
            else:
                self.tidy({claim})
            found += [Taken(claim, path) for path in paths]
        return found

    def stranded(self) -> list[str]:
        """The names of other sources that have claimed files and do not run, as one that was renamed."""
        found = []
        for source in sorted(os.listdir(self._folder.all_work)):
            if os.fsencode(source) == self._folder.source:
                continue
            with suppress(OSError), handles.folder(self._folder.all_work, os.fsencode(source)) as work:
                if not _is_at_work(work) and any(not claim.startswith(".") for claim in os.listdir(work)):
                    found.append(unquote(source))
        return found

    def _walk(self, claim: bytes) -> Iterator[bytes]:
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            with handles.folder(self._folder.work, os.path.join(claim, inside).rstrip(b"/")) as folder:
                for entry in os.scandir(folder):
                    path = os.path.join(inside, os.fsencode(entry.name))
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        yield path

    def _without_markers(self, claim: bytes, paths: list[bytes]) -> list[bytes]:
        """The files. A marker whose file was not claimed any more, because of a crash, goes back to it."""
        files = [path for path in paths if not os.path.basename(path).startswith(b".")]
        for path in set(paths).difference(files):
            inside, marker = os.path.split(path)
            with handles.folder(self._folder.work, os.path.join(claim, inside).rstrip(b"/")) as folder:
                if self._config.ready == "marker" and os.path.join(inside, marker[1:]) not in files:
                    self._put_marker_back(folder, os.path.join(inside, marker[1:]))
                else:
                    os.unlink(marker, dir_fd=folder)
        return files

    def _put_marker_back(self, folder: int, path: bytes) -> None:
        inside, name = os.path.split(path)
        try:
            with handles.folder(self._folder.root, inside) as origin:
                handles.rename(folder, _marker(name), origin, self._folder.marker(name))
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            with suppress(FileNotFoundError):
                os.unlink(_marker(name), dir_fd=folder)

    # Claiming

    def claim(self, found: Sequence[Found], now_ms: int) -> list[Taken]:
        """Claim files in one folder of the work folder, durably; what is gone, or cannot be claimed, is left out."""
        claim = Taken.new_claim(now_ms, self._config)
        self.refused = {}
        with handles.folder(self._folder.work, claim.encode(), make=OWN) as base:
            taken = [Taken(claim, one.path) for one in found if self._take(base, one)]
            os.fsync(base)
        if taken:
            self._folder.sync(self._folder.work, b"")
            for inside in {os.path.dirname(file.path) for file in taken}:
                self._folder.sync(self._folder.root, inside)
        else:
            self.tidy({claim})
        return taken

    def _take(self, base: int, one: Found) -> bool:
        inside, name = os.path.split(one.path)
        try:
            with handles.folder(self._folder.root, inside) as origin, handles.folder(base, inside, make=OWN) as target:
                if self._config.ready == "stable":
                    return _take_unchanged(origin, target, name, one)
                if self._config.ready == "marker":
                    self._take_marked(origin, target, one.path)
                else:
                    handles.rename(origin, name, target, name)
                return True
        except OSError as error:
            if error.errno in _REFUSED:
                self.refused[one.path] = error
            elif error.errno not in GONE:
                raise
            return False

    def _take_marked(self, origin: int, target: int, path: bytes) -> None:
        """The marker first: if it went after a crash, nobody would know that the file is finished.

        Its name there is one that no file has, whatever the configuration says when it is found.
        """
        name = os.path.basename(path)
        handles.rename(origin, self._folder.marker(name), target, _marker(name))
        try:
            handles.rename(origin, name, target, name)
        except OSError:
            self._put_marker_back(target, path)
            raise
        os.unlink(_marker(name), dir_fd=target)

    def tidy(self, claims: Iterable[str]) -> None:
        """Remove the folders of claims, as far as they are empty."""
        work = self._folder.work
        for claim in claims:
            inner = [b""]
            with self.changing, suppress(OSError):
                for inside in inner:
                    with handles.folder(work, os.path.join(claim.encode(), inside).rstrip(b"/")) as folder:
                        inner += [
                            os.path.join(inside, os.fsencode(entry.name))
                            for entry in os.scandir(folder)
                            if entry.is_dir(follow_symlinks=False)
                        ]
                for inside in reversed(inner):
                    os.rmdir(os.path.join(claim.encode(), inside).rstrip(b"/"), dir_fd=work)


def _marker(name: bytes) -> bytes:
    """What the marker of a claimed file is called while the file is claimed: files are never hidden."""
    return b"." + name


def _take_unchanged(origin: int, target: int, name: bytes, found: Found) -> bool:
    """Claim a file that is as it was found; one that is not is left to whoever writes it, by its name perhaps."""
    if state_of(os.lstat(name, dir_fd=origin)) != found.state:
        return False
    handles.rename(origin, name, target, name)
    if state_of(os.lstat(name, dir_fd=target)).is_same_contents(found.state):
        return True
    # Where its name is taken again it stays claimed, and is read when it is still.
    with suppress(FileExistsError):
        handles.rename(target, name, origin, name)
    return False


def _is_at_work(work: int) -> bool:
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work)
    except FileNotFoundError:
        return False
    try:
        return handles.is_locked(lock)
    finally:
        os.close(lock)
