"""Consumer groups: progress is shown under one in both modes, and with mode = "group" it gives out the partitions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.cli.live import live
from tests.e2e.process import eventually
from tests.kafka.broker import Broker
from tests.kafka.reading import EVENT, accepted, deliveries, outcome, places, source, status
from tests.kafka.topics import as_json, commit, committed, create, members, new_name, produce

PARTITIONS = 4


def grouped(broker: Broker, topic: str, *keys: str) -> str:
    return EVENT + source("shared", broker.address, f'topics = ["{topic}"]', 'mode = "group"', *keys)


def fill(broker: Broker, topic: str, each: int) -> None:
    """Produce so many records to each partition."""
    records = [
        as_json([partition, number], partition=partition) for partition in range(PARTITIONS) for number in range(each)
    ]
    produce(broker, topic, records)


def all_places(topic: str, each: int) -> list[str]:
    return [f"{topic} 0 {partition} {offset}" for partition in range(PARTITIONS) for offset in range(each)]


def until_all(read: Callable[[], list[str]], topic: str, each: int) -> None:
    eventually("all records", lambda: len(read()) >= PARTITIONS * each or None)
    assert read() == all_places(topic, each)


class Progress:
    """Sources of both modes that read a topic, with a group by default or by name."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.topic = broker, new_name()
        self.names = {(mode, named): new_name(mode) for mode in ("assign", "group") for named in (False, True)}
        self.groups = {kind: name if kind[1] else f"lhd-{name}" for kind, name in self.names.items()}

    def tables(self) -> str:
        toml = EVENT
        for (mode, named), name in self.names.items():
            keys = [f'topics = ["{self.topic}"]', f'mode = "{mode}"', *([f'group = "{name}"'] if named else [])]
            toml += source(name, self.broker.address, *keys)
        return toml


@pytest.fixture(scope="module")
def progress(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Progress]:
    progress = Progress(broker)
    create(broker, progress.topic)
    produce(broker, progress.topic, map(as_json, range(5)))
    with live(tmp_path_factory.mktemp("progress"), progress.tables()) as daemon:
        for name in progress.names.values():
            assert outcome(daemon, name, progress.topic, 4).verdict == "accepted"
        yield progress


def test_group_mode_reads_everything_once_and_goes_on_after_a_restart(broker: Broker, tmp_path: Path) -> None:
    topic = new_name()
    create(broker, topic, partitions=PARTITIONS)
    fill(broker, topic, 5)
    with live(tmp_path, grouped(broker, topic)) as daemon:
        until_all(lambda: places(daemon, "shared"), topic, 5)
        daemon.stop()
        fill(broker, topic, 3)
        daemon.start()
        until_all(lambda: places(daemon, "shared"), topic, 8)
        assert deliveries(daemon, "shared", "duplicate") == 0


def test_the_position_is_the_stores_whatever_the_group_says(broker: Broker, tmp_path: Path) -> None:
    topic, group = new_name(), new_name("group")
    create(broker, topic)
    produce(broker, topic, map(as_json, range(5)))
    commit(broker, group, topic, 4)
    with live(tmp_path, grouped(broker, topic, f'group = "{group}"')) as daemon:
        assert [accepted(daemon, "shared", topic, offset) for offset in range(5)] == list(range(5))
        daemon.stop()
        commit(broker, group, topic, 0)
        produce(broker, topic, [as_json("new")])
        daemon.start()
        assert accepted(daemon, "shared", topic, 5) == "new"
        assert (deliveries(daemon, "shared", "accepted"), deliveries(daemon, "shared", "duplicate")) == (1, 0)


@pytest.mark.parametrize("mode", ["assign", "group"])
@pytest.mark.parametrize("named", [False, True], ids=["default", "named"])
def test_progress_is_shown_under_the_group(progress: Progress, mode: str, named: bool) -> None:
    group, place = progress.groups[mode, named], TopicPartition(progress.topic, 0)
    eventually(f"progress of {group}", lambda: committed(progress.broker, group).get(place) == 5 or None, 15.0)


def test_daemons_of_a_group_share_the_partitions_and_each_record_is_in_one_store(
    broker: Broker, tmp_path: Path
) -> None:
    topic, group = new_name(), new_name("group")
    create(broker, topic, partitions=PARTITIONS)
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    toml = grouped(broker, topic, f'group = "{group}"')
    with live(folders[0], toml) as one, live(folders[1], toml) as other:
        eventually("both to have partitions", lambda: members(broker, group) == [2, 2] or None)
        fill(broker, topic, 10)

        def both() -> list[str]:
            return sorted(places(one, "shared") + places(other, "shared"), key=natural)

        until_all(both, topic, 10)
        # That partitions are given out anew is no failure.
        states = [status(daemon, "shared") for daemon in (one, other)]
        assert [(state["state"], state["reason"], state["restarts"]) for state in states] == [("running", "", 0)] * 2
        assert [len(places(daemon, "shared")) for daemon in (one, other)] == [20, 20]
        one.stop()
        # The other has no position of what it was not given before, and begins there as `start` says.
        until_all(lambda: places(other, "shared"), topic, 10)
        assert deliveries(other, "shared", "duplicate") == 0


def natural(place: str) -> list[str]:
    return [part.rjust(9) for part in place.split(" ")]
