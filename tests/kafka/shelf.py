"""A daemon with several sources of one topic each, and a producer of their records."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.live import live
from tests.e2e.process import Daemon
from tests.kafka.broker import Broker
from tests.kafka.reading import EVENT, accepted, dead, outcome, route, source
from tests.kafka.topics import Sent, create, new_name, produce


@dataclass(frozen=True)
class Kind:
    """Keys of a source, and its only route."""

    keys: tuple[str, ...] = ()
    route: str = route()


class Shelf:
    """What the sources of a daemon make of records; a source is known by its name, and has a topic of its own."""

    def __init__(self, broker: Broker, kinds: Mapping[str, Kind]) -> None:
        self.broker = broker
        self.topics = {name: new_name(name) for name in kinds}
        self.toml = EVENT + "".join(
            source(name, broker.address, f'topics = ["{self.topics[name]}"]', *kind.keys, routes=(kind.route,))
            for name, kind in kinds.items()
        )
        self.daemon: Daemon

    def put(self, name: str, *records: Sent) -> list[int]:
        """Produce records for a source; their offsets."""
        return produce(self.broker, self.topics[name], records)

    def verdict(self, name: str, sent: Sent) -> str:
        """What becomes of a record."""
        (offset,) = self.put(name, sent)
        return outcome(self.daemon, name, self.topics[name], offset).verdict

    def accepted(self, name: str, sent: Sent) -> Any:
        """The content of the event that a record becomes."""
        (offset,) = self.put(name, sent)
        return accepted(self.daemon, name, self.topics[name], offset)

    def dead(self, name: str, sent: Sent) -> str:
        """Why a record becomes a dead letter."""
        (offset,) = self.put(name, sent)
        return dead(self.daemon, name, self.topics[name], offset)


@contextmanager
def shelf_of(broker: Broker, folder: Path, kinds: Mapping[str, Kind]) -> Iterator[Shelf]:
    """A shelf whose daemon runs."""
    shelf = Shelf(broker, kinds)
    create(broker, *shelf.topics.values())
    with live(folder, shelf.toml) as daemon:
        shelf.daemon = daemon
        yield shelf
