"""What a source says and does when topics are missing, poisoned, deleted, made again, or have lost records."""

from collections.abc import Iterator

import pytest

from tests.cli.live import live
from tests.e2e.process import Daemon, eventually
from tests.kafka.broker import Broker
from tests.kafka.reading import (
    EVENT,
    accepted,
    deliveries,
    fault,
    letters,
    metric,
    outcome,
    places,
    runs,
    source,
    status,
)
from tests.kafka.topics import (
    Sent,
    as_json,
    create,
    delete,
    delete_before,
    new_name,
    offsets_of,
    produce,
)

GAPS = ("fault", "earliest", "latest")
HOUR = 3_600_000
AGAIN = "was made again, or has lost its end"


# While the daemon runs


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    kinds = ("unknown", "poison", "patient", "again", "gap-live", "shrunk", "more", "emptied", "compacted", *GAPS)
    return {kind: new_name(kind) for kind in kinds}


@pytest.fixture(scope="module")
def daemon(broker: Broker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    create(broker, *(names[kind] for kind in ("poison", "patient", "again")))
    produce(broker, names["again"], [as_json(number) for number in range(3)])
    poison = 'poison = { budget = "10% / 2s", allowance = 2 }'
    patient = 'poison = { budget = "10% / 1h", allowance = 5 }'
    toml = EVENT
    for kind, keys in (("unknown", ""), ("poison", poison), ("patient", patient), ("again", "")):
        toml += source(kind, broker.address, f'topics = ["{names[kind]}"]', keys)
    with live(tmp_path_factory.mktemp("faults"), toml) as daemon:
        yield daemon


def test_an_unknown_topic_is_told_and_read_as_soon_as_it_is_there(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["unknown"]
    assert fault(daemon, "unknown") == f"the topic '{topic}' does not exist, or lhd's user may not see it"
    assert metric(daemon, "lhd_source_up", source="unknown") == 0
    text = daemon.lhd("status").stdout
    assert f"the topic '{topic}' does not exist" in text
    create(broker, topic)
    produce(broker, topic, [as_json("there")])
    assert accepted(daemon, "unknown", topic, 0) == "there"
    runs(daemon, "unknown")
    assert daemon.log.read_text().count(f"the topic '{topic}' does not exist") == 1


def test_a_source_of_too_many_dead_letters_is_faulted_for_the_time_of_its_budget_and_loses_nothing(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["poison"]
    produce(broker, topic, [Sent(b"{") for _ in range(8)] + [as_json("good")])
    assert fault(daemon, "poison")
    assert accepted(daemon, "poison", topic, 8) == "good"
    assert len(letters(daemon, "poison")) == 8
    runs(daemon, "poison")
    (later,) = produce(broker, topic, [as_json("later")])
    assert accepted(daemon, "poison", topic, later) == "later"


def test_as_many_dead_letters_as_are_allowed_are_borne_whatever_their_share(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["patient"]
    produce(broker, topic, [Sent(b"{") for _ in range(5)])
    assert [outcome(daemon, "patient", topic, offset).verdict for offset in range(5)] == ["dead"] * 5
    (good,) = produce(broker, topic, [as_json("good")])
    assert accepted(daemon, "patient", topic, good) == "good"
    assert status(daemon, "patient")["state"] == "running"
    produce(broker, topic, [Sent(b"{")])
    assert fault(daemon, "patient")


def test_a_topic_that_is_made_again_with_fewer_records_is_told_and_read_anew_after_a_reset_with_epoch(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["again"]
    assert [accepted(daemon, "again", topic, offset) for offset in range(3)] == [0, 1, 2]
    delete(broker, topic)
    eventually("the topic to be gone", lambda: made(broker, topic))
    produce(broker, topic, [as_json("anew")])
    assert topic in fault(daemon, "again", AGAIN)
    assert daemon.lhd("source", "reset", "again", "--epoch").returncode == 0
    assert outcome(daemon, "again", topic, 0, epoch=1).verdict == "accepted"
    (offset,) = produce(broker, topic, [as_json("more")])
    assert outcome(daemon, "again", topic, offset, epoch=1).verdict == "accepted"
    assert deliveries(daemon, "again", "duplicate") == 0
    assert len(places(daemon, "again")) == 5


def made(broker: Broker, topic: str) -> bool | None:
    """Make a topic, unless the one of before is still being deleted."""
    create(broker, topic)
    return offsets_of(broker, topic) == [] or None


# While the daemon is down


@pytest.fixture(scope="module")
def morning(broker: Broker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that was down while records of its topics were deleted, compacted away, and topics made again."""
    kinds = ("more", "shrunk", "emptied", *GAPS)
    create(broker, *(names[kind] for kind in kinds))
    create(broker, names["compacted"], cleanup_policy="compact", segment_ms="1000", min_cleanable_dirty_ratio="0.001")
    for kind in kinds:
        produce(broker, names[kind], [as_json([kind, number]) for number in range(3)])
    produce(broker, names["compacted"], [as_json(number, key=b"same", timestamp_ms=HOUR) for number in range(3)])
    toml = EVENT + "".join(
        source(kind, broker.address, f'topics = ["{names[kind]}"]', *([f'on_gap = "{kind}"'] if kind in GAPS else []))
        for kind in (*kinds, "compacted")
    )
    with live(tmp_path_factory.mktemp("morning"), toml) as daemon:
        for kind in (*kinds, "compacted"):
            assert outcome(daemon, kind, names[kind], 2).verdict == "accepted"
        daemon.stop()
        night(broker, names)
        daemon.start()
        yield daemon


def night(broker: Broker, names: dict[str, str]) -> None:
    for kind, records in (("more", 5), ("shrunk", 1)):
        delete(broker, names[kind])
        eventually("the topic to be gone", lambda topic=names[kind]: made(broker, topic))  # type: ignore[misc]
        produce(broker, names[kind], [as_json(["anew", number]) for number in range(records)])
    delete_before(broker, names["emptied"], 0, 3)
    for kind in GAPS:
        produce(broker, names[kind], [as_json([kind, number]) for number in range(3, 8)])
        delete_before(broker, names[kind], 0, 6)
    for hour in (5, 10, 15):  # each begins a segment, and only those that are full are compacted
        produce(broker, names["compacted"], [as_json(hour, key=b"same", timestamp_ms=hour * HOUR)])
    eventually("compaction", lambda: 2 not in offsets_of(broker, names["compacted"]) or None)


def test_records_that_were_deleted_before_they_were_read_are_a_fault_with_their_offsets(
    morning: Daemon, names: dict[str, str]
) -> None:
    reason = fault(morning, "fault")
    assert [fact for fact in (names["fault"], "3", "6") if fact not in reason] == []
    assert places(morning, "fault") == [f"{names['fault']} 0 0 {offset}" for offset in range(3)]


def test_with_on_gap_earliest_it_goes_on_at_the_first_record_left(morning: Daemon, names: dict[str, str]) -> None:
    assert [accepted(morning, "earliest", names["earliest"], offset)[1] for offset in (6, 7)] == [6, 7]


def test_with_on_gap_latest_it_goes_on_at_the_end(morning: Daemon, broker: Broker, names: dict[str, str]) -> None:
    runs(morning, "latest")
    eventually("the gap", lambda: letters(morning, "latest") or None)
    (offset,) = produce(broker, names["latest"], [as_json("new")])
    assert accepted(morning, "latest", names["latest"], offset) == "new"
    assert not [place for place in places(morning, "latest") if place.endswith((" 6", " 7"))]


@pytest.mark.parametrize("kind", ["earliest", "latest"])
def test_what_was_passed_over_is_a_dead_letter_that_cannot_be_retried(morning: Daemon, kind: str) -> None:
    (letter,) = eventually("the letter", lambda: letters(morning, kind) or None)
    assert "3" in letter["reason"]
    result = morning.lhd("dead", "retry", letter["delivery_id"])
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert [one["delivery_id"] for one in letters(morning, kind)] == [letter["delivery_id"]]


def test_a_topic_that_has_lost_what_was_read_and_nothing_else_goes_on(
    morning: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    (offset,) = produce(broker, names["emptied"], [as_json("new")])
    assert (offset, accepted(morning, "emptied", names["emptied"], offset)) == (3, "new")


def test_a_compacted_topic_whose_last_read_record_was_compacted_away_goes_on(
    morning: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    (offset,) = produce(broker, names["compacted"], [as_json("new", key=b"same")])
    assert accepted(morning, "compacted", names["compacted"], offset) == "new"
    assert status(morning, "compacted")["state"] == "running"
    assert letters(morning, "compacted") == []


@pytest.mark.parametrize(("kind", "records"), [("more", 5), ("shrunk", 1)])
def test_a_topic_that_was_made_again_is_told_and_after_a_reset_with_epoch_each_record_is_stored_once(
    morning: Daemon, names: dict[str, str], kind: str, records: int
) -> None:
    assert names[kind] in fault(morning, kind, AGAIN)
    assert len(places(morning, kind)) == 3
    assert morning.lhd("source", "reset", kind, "--epoch").returncode == 0
    verdicts = [outcome(morning, kind, names[kind], offset, epoch=1).verdict for offset in range(records)]
    assert verdicts == ["accepted"] * records
    assert len(places(morning, kind)) == 3 + records
    assert deliveries(morning, kind, "duplicate") == deliveries(morning, kind, "conflict") == 0
    runs(morning, kind)
