"""Enforces the quotas of write requests, in windows of half a second (api.md 13.4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lhd.core.measures import Metric, Sample, Subject
from lhd.directory import Directory
from lhd.measuring import Measuring

WINDOW_MS = 500
_DEBT_WINDOWS_MAX = 60


@dataclass(slots=True)
class _Window:
    number: int
    used: int = 0
    debt: float = 0

    def take(self, number: int, permits: int) -> float | None:
        """Use a permit of the window of this number; without one left, the delay in ms to ask for."""
        if number > self.number:
            self.debt = max(0, self.debt - permits * (number - self.number))
            self.number, self.used = number, 0
        if self.used < permits:
            self.used += 1
            return None
        self.debt = min(self.debt + 1, _DEBT_WINDOWS_MAX * permits)
        return WINDOW_MS * (1 + self.debt / permits)


class Quotas:
    """One window for each quota that has been asked for."""

    def __init__(self, directory: Directory, now_ms: Callable[[], int], measuring: Measuring) -> None:
        self._directory = directory
        self._measuring = measuring
        self._now_ms = now_ms
        self._windows: dict[tuple[str, str], _Window] = {}

    def delay_ms(self, tenant: str, principal: str = "") -> float | None:
        """Count a write request; None where it may go on, else how long its sender is to wait.

        The tenant's quota and the principal's in it both count it, and the longer delay stands. A source is no
        principal: only its tenant's quota holds for it.
        """
        delays = [self._take((tenant, "")), self._take((tenant, principal)) if principal else None]
        return max((delay for delay in delays if delay is not None), default=None)

    def _take(self, key: tuple[str, str]) -> float | None:
        rate = self._directory.quota(*key)
        if rate is None:
            self._windows.pop(key, None)
            return None
        now_ms = self._now_ms()
        number = now_ms // WINDOW_MS
        window = self._windows.setdefault(key, _Window(number))
        delay_ms = window.take(number, math.ceil(max(1, rate * WINDOW_MS / 1000)))
        subject = Subject(key[0], Metric.QUOTA, *key)
        self._measuring.add([Sample(subject, "requests_observed", now_ms, 0)])
        if delay_ms is not None:
            self._measuring.add([Sample(subject, "requests_throttled", now_ms, round(delay_ms))])
        return delay_ms
