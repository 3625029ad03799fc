"""When a partition counts as stalled, and what a source does about it; no broker is needed to tell."""

from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition

from lhd.plugin import Transient
from lhd_kafka.config import KafkaConfig
from lhd_kafka.pace import Pace, Stalled
from lhd_kafka.source import Kafka

FIRST = TopicPartition("orders", 0)
STALL_S = 30.0


def silence(pace: Pace) -> None:
    """Polls that bring nothing."""
    for _ in range(3):
        pace.polled(0)


def test_a_partition_that_stays_while_the_broker_has_more_is_stalled() -> None:
    pace = Pace(STALL_S)
    pace.check(FIRST, 5, 9, 0)
    silence(pace)
    pace.check(FIRST, 5, 9, STALL_S)
    with pytest.raises(Stalled, match="orders/0 stays at offset 5, and ends at 9"):
        pace.check(FIRST, 5, 9, STALL_S + 1)


def test_a_partition_at_its_end_is_not_stalled_however_long_it_waits() -> None:
    pace = Pace(STALL_S)
    for now_s in (0, 100, 1_000):
        silence(pace)
        pace.check(FIRST, 9, 9, now_s)


def test_a_partition_that_moves_is_not_stalled() -> None:
    pace = Pace(STALL_S)
    for offset in range(5):
        silence(pace)
        pace.check(FIRST, offset, 100, offset * 2 * STALL_S)


def test_a_partition_that_waits_for_its_turn_behind_another_is_not_stalled() -> None:
    pace = Pace(STALL_S)
    pace.check(FIRST, 5, 9, 0)
    for now_s in (40, 80, 120):
        pace.polled(100)
        pace.check(FIRST, 5, 9, now_s)


def test_time_before_a_seek_does_not_count() -> None:
    pace = Pace(STALL_S)
    pace.check(FIRST, 5, 9, 0)
    silence(pace)
    pace.forget(FIRST)
    pace.check(FIRST, 5, 9, 100)


class Noted:
    """The part of a context that is told of stalls."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reported = ""
        self.log = self

    def count(self, name: str, **_: str) -> None:
        self.counts[name] += 1

    def report(self, text: str) -> None:
        self.reported = text

    def warning(self, *_: Any, **__: Any) -> None:
        pass


def test_a_stall_is_counted_and_reported_and_the_third_at_one_place_is_a_fault() -> None:
    config = KafkaConfig.model_validate({"kind": "kafka", "brokers": ["127.0.0.1:9092"], "topics": ["orders"]})
    source, noted = Kafka(config), Noted()
    stalls = [Stalled(FIRST, 5, 9)] * 3
    for number in (1, 2):
        source._rebuild(noted, stalls[:number])  # type: ignore[arg-type]
    assert noted.counts == {"rebuilds": 2}
    assert "orders/0 stays at offset 5" in noted.reported
    with pytest.raises(Transient, match="after 3 new connections"):
        source._rebuild(noted, stalls)  # type: ignore[arg-type]
