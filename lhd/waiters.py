"""Who waits for something to be committed, by key. Knows nothing of what it is: a wake-up only says "look again"."""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import anyio

K = TypeVar("K", bound=Hashable)


class Waiting:
    """One who waits; look first, then wait: a wake-up in between is not lost."""

    def __init__(self) -> None:
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Let :meth:`wait` return, now or when it is called next."""
        self._woken.set()

    async def wait(self) -> None:
        """Return when woken since the last time."""
        await self._woken.wait()
        self._woken = anyio.Event()


class Waiters(Generic[K]):
    """Those who wait, by key."""

    def __init__(self) -> None:
        self._waiting: dict[K, set[Waiting]] = {}

    @contextmanager
    def waiting(self, *keys: K) -> Iterator[Waiting]:
        """Be woken by :meth:`wake` with one of these keys, from now to the end of the block."""
        one = Waiting()
        for key in keys:
            self._waiting.setdefault(key, set()).add(one)
        try:
            yield one
        finally:
            for key in keys:
                self._waiting[key].discard(one)
                if not self._waiting[key]:
                    del self._waiting[key]

    def wake(self, keys: Iterable[K]) -> None:
        """Wake everybody who waits for one of these keys."""
        if not self._waiting:
            return
        for key in keys:
            for one in self._waiting.get(key, ()):
                one.wake()

    def wake_all(self) -> None:
        """Wake everybody."""
        self.wake(list(self._waiting))
