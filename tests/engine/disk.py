"""A disk that is full, for as long as a block runs."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def full_disk(data: Path) -> Iterator[None]:
    """Within the block this process cannot make the write-ahead log of a store any larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so that a write beyond the limit fails with an error, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((data / "lhd.sqlite-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
