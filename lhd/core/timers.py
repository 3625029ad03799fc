"""A hierarchical timer wheel: O(1) insert and cancel. Knows no clock and no rows; time is told to it."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_BITS = 6
_SLOTS = 1 << _BITS
_LEVELS = 10


class TimerWheel(Generic[K]):
    """Timers by key, at a resolution of ``tick_ms``; a timer is never due early.

    A timer whose tick differs from the current one first in the n-th group of six bits, counted from below, stands in
    level n. So a timer's place can always be computed and need not be kept, and moving time forward touches a timer
    at most once for each level.
    """

    def __init__(self, now_ms: int, tick_ms: int = 10) -> None:
        self._tick_ms = tick_ms
        self._now = now_ms // tick_ms
        self._ticks: dict[K, int] = {}
        self._overdue: dict[K, None] = {}
        self._slots: list[list[dict[K, None]]] = [[{} for _ in range(_SLOTS)] for _ in range(_LEVELS)]
        self._occupied = [0] * _LEVELS

    def __len__(self) -> int:
        return len(self._ticks)

    def add(self, key: K, due_ms: int) -> None:
        """Set the timer of this key, in place of an earlier one. ``due_ms`` may be any time, also a past one."""
        self.cancel(key)
        limit = (1 << (_BITS * _LEVELS)) - 1
        tick = min(max(-(-due_ms // self._tick_ms), 0), limit)
        self._ticks[key] = tick
        self._place(key, tick)

    def cancel(self, key: K) -> None:
        """Remove the timer of this key, if there is one."""
        tick = self._ticks.pop(key, None)
        if tick is None:
            return
        if tick <= self._now:
            del self._overdue[key]
            return
        level, index = self._where(tick)
        slot = self._slots[level][index]
        del slot[key]
        if not slot:
            self._occupied[level] &= ~(1 << index)

    def advance(self, now_ms: int) -> list[K]:
        """Move time forward and remove and return the timers that are due, earliest first.

        A time before the present one moves nothing; overdue timers are returned all the same.
        """
        target = max(now_ms // self._tick_ms, self._now)
        due = list(self._overdue)
        self._overdue.clear()
        while (found := self._next_slot()) is not None:
            level, index, start = found
            if start > target:
                break
            self._now = start
            slot, self._slots[level][index] = self._slots[level][index], {}
            self._occupied[level] &= ~(1 << index)
            for key in slot:
                if self._ticks[key] == start:
                    due.append(key)
                else:
                    self._place(key, self._ticks[key])
        self._now = target
        for key in due:
            del self._ticks[key]
        return due

    def next_ms(self) -> int | None:
        """A time before which nothing is due, and by which to call :meth:`advance` again; None without timers."""
        if self._overdue:
            return self._now * self._tick_ms
        found = self._next_slot()
        return None if found is None else found[2] * self._tick_ms

    def _place(self, key: K, tick: int) -> None:
        if tick <= self._now:
            self._overdue[key] = None
            return
        level, index = self._where(tick)
        self._slots[level][index][key] = None
        self._occupied[level] |= 1 << index

    def _where(self, tick: int) -> tuple[int, int]:
        level = ((tick ^ self._now).bit_length() - 1) // _BITS
        return level, (tick >> (_BITS * level)) & (_SLOTS - 1)

    def _next_slot(self) -> tuple[int, int, int] | None:
        """The level, the index and the first tick of the occupied slot that time reaches next."""
        for level, occupied in enumerate(self._occupied):
            shift = _BITS * level
            here = (self._now >> shift) & (_SLOTS - 1)
            ahead = occupied >> (here + 1)
            if ahead:
                index = here + 1 + (ahead & -ahead).bit_length() - 1
                above = self._now >> (shift + _BITS)
                return level, index, ((above << _BITS) | index) << shift
        return None
