"""The latest signals of a source, in memory only, so that an operator can rehearse a mapping with them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from lhd.intake.routes import as_bytes
from lhd.plugin import Event


class KeptSignals:
    """At most so many signals, and so many bytes, of a source; not decoded, since that can be many times as large."""

    def __init__(self, signals_max: int, bytes_max: int) -> None:
        self._signals_max = signals_max
        self._bytes_max = bytes_max
        self._signals: deque[tuple[int, Event]] = deque()
        self._bytes = 0

    def keep(self, events: Sequence[Event]) -> None:
        """Keep these as the latest; the oldest make room."""
        if self._signals_max == 0:
            return
        for event in events:
            event = replace(event, body=None, raw=as_bytes(event.body) if event.raw is None else event.raw)
            size = _size(event)
            if size > self._bytes_max:
                continue
            self._signals.append((size, event))
            self._bytes += size
            while len(self._signals) > self._signals_max or self._bytes > self._bytes_max:
                self._bytes -= self._signals.popleft()[0]

    def last(self, count: int) -> list[Event]:
        """The latest, oldest first, without their bodies, which their bytes can be decoded to again."""
        return [event for _, event in self._signals][-count:] if count > 0 else []


def _size(event: Event) -> int:
    return len(event.raw or b"") + sum(len(name) + len(value or "") for name, value in event.headers.items())
