"""Whether a file is finished. Nobody's word is taken where the kernel can be asked."""

import errno
import fcntl
import signal
from collections.abc import Iterable

from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import Found, State, Taken

_CANNOT_TELL = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def allow_probes() -> None:
    """Live with the signal that tells a holder of a lease to give it up, which otherwise ends the process."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def has_writer(handle: int) -> bool | None:
    """Whether somebody has a file open for writing; None where that cannot be known.

    The kernel gives a read lease on a file that nobody can write to (fcntl(2), F_SETLEASE). It does so to the file's
    owner and to whoever has CAP_LEASE; only on local file systems no means that there is a writer.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno in _CANNOT_TELL:
            return None
        raise
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


class Readiness:
    """Which files are finished, as far as their names and their stillness tell. Times are monotonic, in seconds."""

    def __init__(self, config: FileDropConfig) -> None:
        self._config = config
        self._seen: dict[bytes, tuple[State, float]] = {}
        self._claimed: dict[Taken, tuple[State, float]] = {}
        """The same of files that are claimed, which move and so change their ctime."""

    def ready(self, found: list[Found], now_s: float) -> list[Found]:
        """The finished ones of the files in the folder."""
        if self._config.ready != "stable":
            return found
        seen = {}
        for one in found:
            before = self._seen.get(one.path)
            seen[one.path] = before if before is not None and before[0] == one.state else (one.state, now_s)
        self._seen = seen
        return [one for one in found if self._has_passed(seen[one.path][1], now_s)]

    def claimed(self, found: Iterable[Found], files: Iterable[Taken]) -> None:
        """These files were claimed in the states in which they were found ready."""
        if self._config.ready == "stable":
            states = {one.path: one.state for one in found}
            self._claimed |= {file: (states[file.path], self._seen[file.path][1]) for file in files}

    def is_still(self, file: Taken, state: State, now_s: float) -> bool:
        """Whether a file that is about to be read may be: it has not changed since it was found, for long enough."""
        if self._config.ready != "stable":
            return True
        if not file.claim:
            return self._seen.get(file.path, (None, 0.0))[0] == state
        before, since_s = self._claimed.get(file, (None, now_s))
        if before is None or not before.is_same_contents(state):
            self._claimed[file] = state, now_s
            return False
        return self._has_passed(since_s, now_s)

    def forget(self, files: Iterable[Taken]) -> None:
        """These files are claimed no more."""
        for file in files:
            self._claimed.pop(file, None)

    def next_s(self, now_s: float) -> float | None:
        """In how many seconds the next file can be still for long enough; None where none waits for that."""
        waits = [since_s + self._config.stable_s - now_s for _, since_s in self._seen.values()]
        return min((wait_s for wait_s in waits if wait_s > 0), default=None)

    def _has_passed(self, since_s: float, now_s: float) -> bool:
        return now_s - since_s >= self._config.stable_s
