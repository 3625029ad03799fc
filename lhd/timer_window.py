"""The timers that are due next, in memory; all others stay in rows. Reads no row itself: it is given pages of them."""

import json

from lhd.core.kinds import Timer
from lhd.core.records import Key
from lhd.core.timers import TimerWheel

Place = tuple[int, str, str, str, str]
"""Where a timer stands in the order of all timers: (due_ms, tenant, run, action, target as JSON text)."""

BEGINNING: Place = (-(2**63), "", "", "", "")


def place_of(timer: Timer) -> Place:
    """See :data:`Place`; the order is that of the store's index."""
    return timer.due_ms, timer.tenant, timer.run, timer.action, json.dumps(timer.target)


class TimerWindow:
    """Every timer up to :attr:`horizon` is armed here; the timers beyond it are not, until a page brings them.

    About ``timers_max`` timers are kept, at most twice as many.
    """

    def __init__(self, now_ms: int, timers_max: int) -> None:
        self.horizon: Place | None = BEGINNING
        self._timers_max = timers_max
        self._wheel: TimerWheel[Key] = TimerWheel(now_ms)
        self._armed: dict[Key, dict[Key, Timer]] = {}

    def __len__(self) -> int:
        return len(self._wheel)

    @property
    def wants_page(self) -> bool:
        """Whether it is time for :meth:`add_page` with the rows that follow :attr:`horizon`."""
        return self.horizon is not None and len(self._wheel) <= self._timers_max // 2

    @property
    def page_size(self) -> int:
        """How many rows to ask for."""
        return self._timers_max

    def add_page(self, timers: list[Timer]) -> None:
        """Arm the timers that follow the horizon, in order; fewer than :attr:`page_size` are all there are."""
        self.horizon = place_of(timers[-1]) if len(timers) >= self.page_size else None
        for timer in timers:
            self._add(timer)

    def arm(self, timer: Timer) -> None:
        """Arm a timer in place of an earlier one with its key, or leave it to its row if it is beyond the horizon."""
        self.disarm(timer.key)
        if self.horizon is not None and place_of(timer) > self.horizon:
            return
        self._add(timer)
        if len(self._wheel) > 2 * self._timers_max:
            self._shrink()

    def disarm(self, key: Key) -> None:
        """Forget the timer with this key, if it is armed."""
        of_run = self._armed.get(key[:2])
        if of_run is not None and of_run.pop(key, None) is not None:
            self._wheel.cancel(key)
            if not of_run:
                del self._armed[key[:2]]

    def disarm_run(self, run_key: Key) -> None:
        """Forget every timer of a WfRun."""
        for key in self._armed.pop(run_key, {}):
            self._wheel.cancel(key)

    def arm_again(self, timer: Timer, at_ms: int) -> None:
        """Have a timer that was taken come again at another time; it and its row stay as they are."""
        self._add(timer, at_ms)

    def take_due(self, now_ms: int, most: int) -> list[Timer]:
        """Remove and return the timers that are due, earliest first; beyond ``most`` they stay for the next call."""
        due = [self._armed[key[:2]][key] for key in self._wheel.advance(now_ms)]
        due.sort(key=lambda timer: timer.due_ms)
        for timer in due[most:]:
            self._wheel.add(timer.key, timer.due_ms)
        for timer in due[:most]:
            self.disarm(timer.key)
        return due[:most]

    def next_ms(self) -> int | None:
        """A time before which nothing is due; None without timers."""
        return self._wheel.next_ms()

    def _add(self, timer: Timer, at_ms: int | None = None) -> None:
        self._armed.setdefault(timer.key[:2], {})[timer.key] = timer
        self._wheel.add(timer.key, timer.due_ms if at_ms is None else at_ms)

    def _shrink(self) -> None:
        """Leave the farthest timers to their rows."""
        ordered = sorted((timer for of_run in self._armed.values() for timer in of_run.values()), key=place_of)
        self.horizon = place_of(ordered[self._timers_max - 1])
        for timer in ordered[self._timers_max :]:
            self.disarm(timer.key)
