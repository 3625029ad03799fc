"""How many records of late were dead, and whether that is more than is borne."""

import re
from collections import deque

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d+)\s*([smh])\s*")
_SLICES = 20


def parse_budget(text: str) -> tuple[float, int]:
    """``"1% / 10m"`` as a share of 1 and seconds. Raises ValueError."""
    match = _BUDGET.fullmatch(text)
    if match is None or not 0 <= float(match[1]) <= 100 or int(match[2]) == 0:
        raise ValueError("write a share and a time, as '1% / 10m'; the time in s, m or h")
    return float(match[1]) / 100, int(match[2]) * _SECONDS[match[3]]


class Budget:
    """Counts records and dead ones over a sliding time, a twentieth of which is the grain."""

    def __init__(self, share: float, window_s: float, allowance: int) -> None:
        self._share = share
        self._slice_s = window_s / _SLICES
        self._allowance = allowance
        self._slices: deque[tuple[int, int, int]] = deque(maxlen=_SLICES)

    def add(self, records: int, dead: int, now_s: float) -> None:
        """Count a batch; ``now_s`` is a monotonic time."""
        number = int(now_s / self._slice_s)
        if self._slices and self._slices[-1][0] == number:
            _, had, had_dead = self._slices.pop()
            records, dead = records + had, dead + had_dead
        self._slices.append((number, records, dead))

    def wait_s(self, now_s: float) -> float | None:
        """None within the budget; else the seconds until, without another record, it is kept again."""
        slices = self._recent(now_s)
        if not self._exceeds(slices):
            return None
        while self._exceeds(slices):
            number, *_ = slices.pop(0)
        return (number + _SLICES) * self._slice_s - now_s

    def count(self, now_s: float) -> tuple[int, int]:
        """The records of late, and the dead among them."""
        slices = self._recent(now_s)
        return sum(records for _, records, _ in slices), sum(dead for *_, dead in slices)

    def _recent(self, now_s: float) -> list[tuple[int, int, int]]:
        oldest = int(now_s / self._slice_s) - _SLICES
        return [one for one in self._slices if one[0] > oldest]

    def _exceeds(self, slices: list[tuple[int, int, int]]) -> bool:
        dead = sum(dead for *_, dead in slices)
        return dead > self._allowance and dead > self._share * sum(records for _, records, _ in slices)
