"""What is known of a file: what it is, and how far it is stored; as values, and as the store keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhd_filedrop.folder import State
from lhd_filedrop.records import Place

_BEGIN = Place()


@dataclass(frozen=True, slots=True)
class Facts:
    """What routes see of a file, and its state; ``sha256`` is "" where it could not be read.

    ``version`` tells contents of a file that is left in its place from what it had at other times.
    """

    size: int
    mtime_ms: int
    sha256: str
    state: State
    version: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file with these facts is stored.

    It has ``ended`` when all is stored that becomes of it; ``failed`` is a state in which it cannot be read. ``digest``
    is that of the inflated contents up to ``place``, ``form`` tells one way to read records from another; both are ""
    where it is not read record by record.
    """

    facts: Facts
    place: Place = _BEGIN
    ended: bool = False
    failed: State | None = None
    digest: str = ""
    form: str = ""

    @property
    def is_partial(self) -> bool:
        """Whether records of it are stored, and more may come."""
        return not self.ended and self.place.index > 0

    def stored(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {
            "state": list(self.facts.state),
            "mtime_ms": self.facts.mtime_ms,
            "sha256": self.facts.sha256,
            "version": self.facts.version,
            "place": [self.place.offset, self.place.index, self.place.line],
            "ended": self.ended,
            "failed": None if self.failed is None else list(self.failed),
            "digest": self.digest,
            "form": self.form,
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Position":
        """What the store has kept."""
        state = State(*stored["state"])
        facts = Facts(state.size, stored["mtime_ms"], stored["sha256"], state, stored["version"])
        failed = None if stored["failed"] is None else State(*stored["failed"])
        return cls(facts, Place(*stored["place"]), stored["ended"], failed, stored["digest"], stored["form"])


def is_known(state: State, stored: Mapping[str, Any] | None) -> bool:
    """Whether nothing is to be read of a file in this state; looks at what the store keeps as it is, for speed."""
    if stored is None:
        return False
    known = list(state)
    return bool(stored["ended"] and stored["state"] == known) or stored["failed"] == known
