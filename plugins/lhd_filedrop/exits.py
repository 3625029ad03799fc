"""Ways out of the work folder: to ``done``, to ``failed`` with a report of why, and from there back again.

Nothing that is there already is overwritten, unless ``on_conflict`` says so. All functions block, and raise OSError.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, count, islice

import orjson

from lhd_filedrop import handles
from lhd_filedrop.claims import Claims
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import GONE, OWN, SHARED, Folder, Taken, has

_REPORT = b".error.json"
_REPORT_BYTES_MAX = 262_144
_DRAFT = b".report"
"""A report until it is written; in the work folder."""
_NAMES_MAX = 12
"""So many names of a file are looked at in ``failed``."""
_NAME_BYTES_MAX = 255


class Exits:
    """Moves the claimed files of one source."""

    def __init__(self, config: FileDropConfig, folder: Folder, claims: Claims) -> None:
        self._config = config
        self._folder = folder
        self._claims = claims

    def finish(self, files: list[Taken]) -> dict[Taken, OSError]:
        """Move files to ``done``, or delete them, as the configuration says; returns those that could not be moved."""
        stuck = {}
        changed = set()
        for file in files:
            origin = os.path.dirname(file.inside)
            try:
                with handles.folder(self._folder.work, origin) as folder:
                    if self._config.after == "delete":
                        os.unlink(file.name, dir_fd=folder)
                        changed.add((self._folder.work, origin))
                    else:
                        changed.add((self._folder.done, self._move_to_done(folder, file)))
            except OSError as error:
                if self.is_claimed(file):
                    stuck[file] = error
        for base, inside in changed:
            self._folder.sync(base, inside)
        self._claims.tidy({file.claim for file in files})
        return stuck

    def _move_to_done(self, folder: int, file: Taken) -> bytes:
        """Returns the folder inside ``done`` that has the file now."""
        inside = _made(self._folder.done, file)
        with handles.folder(self._folder.done, inside) as target:
            for name in _names(file):
                try:
                    handles.rename(folder, file.name, target, name)
                except FileExistsError:
                    if not self._settle(folder, file.name, target, name):
                        continue
                break
        return inside

    def _settle(self, folder: int, name: bytes, target: int, target_name: bytes) -> bool:
        """Do what ``on_conflict`` says; False where another name is to be tried."""
        if handles.is_same(folder, name, target, target_name):
            # Two names of one file: a rename would do nothing.
            os.unlink(name, dir_fd=folder)
            return True
        is_folder = stat.S_ISDIR(os.lstat(target_name, dir_fd=target).st_mode)
        if self._config.on_conflict == "keep" and not is_folder:
            os.unlink(name, dir_fd=folder)
            return True
        if self._config.on_conflict == "replace" and not is_folder:
            os.replace(name, target_name, src_dir_fd=folder, dst_dir_fd=target)
            return True
        return False

    def fail(self, file: Taken, report: bytes) -> None:
        """Move a file to ``failed`` with a report of why beside it; may be called again."""
        with (
            self._claims.changing,
            handles.folder(self._folder.work, os.path.dirname(file.inside)) as folder,
            handles.folder(self._folder.failed, _made(self._folder.failed, file)) as target,
        ):
            if not handles.exists(folder, file.name):
                return
            for name in _names(file):
                if handles.exists(target, name) or not self._write_report(target, name, file, report):
                    continue
                handles.rename(folder, file.name, target, name)
                break
            # Where that cannot be made durable, it is read and fails once more after a crash.
            with suppress(OSError):
                os.fsync(target)
        self._claims.tidy({file.claim})

    def _write_report(self, folder: int, name: bytes, file: Taken, report: bytes) -> bool:
        """False where the name of the report is taken; unless it is this file's, from before a crash."""
        path = _report_name(name)
        is_there = handles.exists(folder, path)
        if is_there and _claim_in_report(folder, path) != file.part:
            return False
        work, flags = self._folder.work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(_DRAFT, flags, 0o644, dir_fd=work), "wb") as draft:
                draft.write(report)
                draft.flush()
                os.fsync(draft.fileno())
            if is_there:
                os.replace(_DRAFT, path, src_dir_fd=work, dst_dir_fd=folder)
            else:
                handles.rename(work, _DRAFT, folder, path)
        except OSError:
            with suppress(OSError):
                os.unlink(_DRAFT, dir_fd=work)
            raise
        return True

    # What is in ``failed``

    def bring_back(self, file: Taken) -> bool:
        """Put a file from ``failed`` back to where it was claimed; False where it is not there any more."""
        with self._claims.changing:
            for failed, name in self._reported(file):
                if handles.is_file(failed, name):
                    with handles.folder(self._folder.work, os.path.dirname(file.inside), make=OWN) as target:
                        handles.rename(failed, name, target, file.name)
                        os.fsync(target)
                    with suppress(OSError):  # It is withdrawn at the next start.
                        os.unlink(_report_name(name), dir_fd=failed)
                    return True
        return False

    def is_claimed(self, file: Taken) -> bool:
        """Whether a file is in the work folder."""
        return has(self._folder.work, file.inside)

    def has_failed(self, file: Taken) -> bool:
        """Whether a file or its report is in ``failed``, as far as lhd may know: it may be mended, and come again."""
        try:
            return next(self._reported(file), None) is not None
        except OSError:
            return True

    def withdraw(self, files: Iterable[Taken]) -> None:
        """Remove the reports of files that are claimed and not in ``failed``, as a crash may leave them."""
        with suppress(FileNotFoundError):
            os.unlink(_DRAFT, dir_fd=self._folder.work)
        for file in files:
            with suppress(OSError):
                for failed, name in self._reported(file):
                    if not handles.exists(failed, name):
                        os.unlink(_report_name(name), dir_fd=failed)

    def _reported(self, file: Taken) -> Iterator[tuple[int, bytes]]:
        """The names that a file has in ``failed`` by the reports there, each with its folder."""
        for inside in (os.path.dirname(file.path), file.claim.encode()):
            try:
                with handles.folder(self._folder.failed, inside) as failed:
                    for name in islice(_names(file), _NAMES_MAX):
                        if _claim_in_report(failed, _report_name(name)) == file.part:
                            yield failed, name
            except OSError as error:
                if error.errno not in GONE:
                    raise


def _made(base: int, file: Taken) -> bytes:
    """Make the folder of a file inside ``done`` or ``failed``: of its path, or of its claim where that cannot be."""
    inside = os.path.dirname(file.path)
    try:
        with handles.folder(base, inside, make=SHARED):
            return inside
    except OSError as error:
        if error.errno not in (errno.EPERM, *GONE):
            raise
    with handles.folder(base, file.claim.encode(), make=SHARED):
        return file.claim.encode()


def _names(file: Taken) -> Iterator[bytes]:
    """The file's name, and then others like it: report.1.csv to report.9.csv, report.CLAIM.csv and so on."""
    yield file.name
    stem, suffix = os.path.splitext(file.name)
    claim = file.claim.encode()
    few = (b".%d" % number for number in range(1, 10))
    for tail in chain(few, (b"." + claim,), (b".%s.%d" % (claim, number) for number in count(1))):
        yield stem[: max(1, _NAME_BYTES_MAX - len(tail) - len(suffix))] + tail + suffix[-100:]


def _report_name(name: bytes) -> bytes:
    """What the report of a failed file is called; of one with a very long name it has the beginning of that."""
    return name[: _NAME_BYTES_MAX - len(_REPORT)] + _REPORT


def _claim_in_report(folder: int, name: bytes) -> str | None:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, "rb") as stream:
            if os.fstat(handle).st_uid != os.geteuid():
                return None  # Whoever drops files may call one like a report.
            report = orjson.loads(stream.read(_REPORT_BYTES_MAX))
    except (OSError, ValueError):
        return None
    claim = report.get("claim") if isinstance(report, dict) else None
    return claim if isinstance(claim, str) else None
