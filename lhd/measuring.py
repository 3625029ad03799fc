"""Adds samples up to counts by the minute, which a commit stores together with what they count."""

from collections.abc import Iterable
from dataclasses import dataclass

from lhd.core.measures import Sample, Subject

WINDOW_MS = 60_000
Place = tuple[Subject, int, str]
"""A subject, the beginning of a window in ms, and the name of a measure."""


@dataclass(slots=True)
class Count:
    """How often something happened, and how long it took, in ms."""

    count: int = 0
    least: int = 0
    most: int = 0
    total: int = 0

    def add(self, latency_ms: int) -> None:
        """Count once more."""
        self.least = min(self.least, latency_ms) if self.count else latency_ms
        self.most = max(self.most, latency_ms)
        self.count += 1
        self.total += latency_ms


class Measuring:
    """The counts that no commit has taken yet."""

    def __init__(self) -> None:
        self._counts: dict[Place, Count] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Count samples."""
        for sample in samples:
            place = sample.subject, sample.at_ms // WINDOW_MS * WINDOW_MS, sample.measure
            count = self._counts.get(place)
            if count is None:
                count = self._counts[place] = Count()
            count.add(sample.latency_ms)

    def take(self) -> dict[Place, Count]:
        """What is to be added to the stored counts."""
        taken, self._counts = self._counts, {}
        return taken
