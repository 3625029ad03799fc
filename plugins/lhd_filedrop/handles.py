"""Folders as handles, and names inside them. No link is followed on the way, so that nothing is of elsewhere.

Names and paths are bytes. All functions block, and raise OSError.
"""

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RENAME_NOREPLACE = 1
_NOT_IMPLEMENTED = (errno.ENOSYS, errno.EINVAL)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)
_LOCK = "hhqqi4x"
"""The structure that fcntl(2) calls flock: type, whence, start, length and process."""


@contextmanager
def folder(base: int, path: bytes, make: int | None = None) -> Iterator[int]:
    """The folder of this path inside another one.

    With ``make``, a mode, each folder on the way is made as :func:`made` does.
    """
    handle = os.dup(base)
    try:
        for name in path.split(b"/") if path else ():
            inner = os.open(name, _FOLDER, dir_fd=handle) if make is None else made(handle, name, make)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def made(base: int, name: bytes, mode: int) -> int:
    """A folder of lhd's own, made, durably, where it is not there. Raises PermissionError where it is somebody else's.

    What is put into another user's folder would be that user's to move and to replace.
    """
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=base)
        os.fsync(base)
    handle = os.open(name, _FOLDER, dir_fd=base)
    if os.fstat(handle).st_uid not in (0, os.geteuid()):
        os.close(handle)
        raise PermissionError(errno.EPERM, "it belongs to another user than lhd's", os.fsdecode(name))
    return handle


def is_writable(base: int) -> bool:
    """Whether something can be moved out of a folder."""
    return os.access(".", os.W_OK | os.X_OK, dir_fd=base, effective_ids=True)


def exists(base: int, name: bytes) -> bool:
    """Whether there is something of this name, be it a link to nowhere."""
    try:
        os.lstat(name, dir_fd=base)
    except FileNotFoundError:
        return False
    return True


def is_same(base: int, name: bytes, other_base: int, other: bytes) -> bool:
    """Whether two names are of one file."""
    return os.path.samestat(os.lstat(name, dir_fd=base), os.lstat(other, dir_fd=other_base))


def rename(base: int, name: bytes, target_base: int, target: bytes) -> None:
    """Rename, unless the target exists (renameat2(2)); where the file system cannot do that, look first."""
    if _libc.renameat2(base, name, target_base, target, _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _NOT_IMPLEMENTED:
        raise OSError(number, os.strerror(number), os.fsdecode(name), None, os.fsdecode(target))
    if exists(target_base, target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(target))
    os.rename(name, target, src_dir_fd=base, dst_dir_fd=target_base)


def lock(handle: int) -> bool:
    """Lock an open file until it is closed (fcntl(2), F_OFD_SETLK); False where somebody else has it locked."""
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def is_locked(handle: int) -> bool:
    """Whether somebody else has a file locked; in nobody's way."""
    asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind: int = struct.unpack(_LOCK, fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def is_file(base: int, name: bytes) -> bool:
    """Whether there is a regular file of this name."""
    try:
        return stat.S_ISREG(os.lstat(name, dir_fd=base).st_mode)
    except FileNotFoundError:
        return False
