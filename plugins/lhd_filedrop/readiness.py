"""Whether a file is finished. Nobody's word is taken where the kernel can be asked."""

import errno
import fcntl
import signal

from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.folder import Found

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
    """Which of the files that were found are finished, as far as their names and their stillness tell."""

    def __init__(self, config: FileDropConfig) -> None:
        self._config = config
        self._seen: dict[bytes, tuple[Found, float]] = {}

    def ready(self, found: list[Found], now_s: float) -> list[Found]:
        """The finished ones; ``now_s`` is a monotonic time."""
        if self._config.ready != "stable":
            return found
        seen = {}
        for one in found:
            before = self._seen.get(one.path)
            seen[one.path] = before if before is not None and before[0] == one else (one, now_s)
        self._seen = seen
        return [one for one, since_s in seen.values() if now_s - since_s >= self._config.stable_s]

    def next_s(self, now_s: float) -> float | None:
        """In how many seconds the next file can be still for long enough; None where none waits for that."""
        waits = [since_s + self._config.stable_s - now_s for _, since_s in self._seen.values()]
        return min((wait_s for wait_s in waits if wait_s > 0), default=None)
