"""Where a source begins, and that it goes on there: each record once, in the order of its partition."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from littlehorse.model import ListExternalEventsRequest, WfRunId

from tests.cli.live import live, query
from tests.e2e.process import Daemon
from tests.kafka.broker import Broker
from tests.kafka.reading import EVENT, accepted, begun, dead, deliveries, outcome, places, plain, route, source
from tests.kafka.topics import (
    Sent,
    add_partitions,
    as_json,
    create,
    new_name,
    produce,
    produce_in_transaction,
    produce_unreadable,
)

FAST = "discover_s = 0.3"
TO_A_RUN = """event = "in-order"\nwf_run = "'the-run'"\ncontent = "body" """
IN_ORDER = '\n[[event]]\nname = "in-order"\n'
CODECS = ("gzip", "snappy", "lz4", "zstd")
JANUARY = 1_706_000_000_000
"""2024-01-23T08:53:20Z"""


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    """The topics of the tests."""
    kinds = ("old", "growing", "ordered", "large", "transactions", *CODECS)
    return {kind: new_name(kind) for kind in kinds} | {kind: new_name("p.") for kind in ("pattern", "none-yet")}


@pytest.fixture(scope="module")
def daemon(broker: Broker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    create(broker, *(topic for topic in names.values() if not topic.startswith("p.")), names["pattern"] + "-a")
    produce(broker, names["pattern"] + "-a", [as_json("old")])
    produce(broker, names["old"], [as_json(hour, timestamp_ms=JANUARY + hour * 3_600_000) for hour in range(5)])

    def reads(kind: str) -> str:
        return f'topics = ["{names[kind]}"]'

    toml = EVENT + IN_ORDER
    labels = []
    for start in (
        '"earliest"',
        '"latest"',
        "{ timestamp = 2024-01-23T11:00:00Z }",
        "{ timestamp = 2024-02-01 00:00:00Z }",
    ):
        label = "".join(letter for letter in start if letter.isalnum())
        labels.append(label)
        key = f"""event = "record"\nkey = "'{label} ' + string(meta.offset)" """
        toml += source(label, broker.address, reads("old"), f"start = {start}", routes=(key,))
    toml += source("growing", broker.address, reads("growing"), 'start = "latest"', FAST)
    for kind in ("pattern", "none-yet"):
        pattern = f"pattern = '{names[kind].replace('.', '[.]')}-.'"
        toml += source(kind, broker.address, pattern, FAST, 'start = "latest"')
    toml += source("ordered", broker.address, reads("ordered"), "batch_records_max = 7", routes=(TO_A_RUN,))
    toml += source(
        "large", broker.address, reads("large"), "max_pending_bytes = 65536", routes=(route("size(body.padding)"),)
    )
    toml += source("transactions", broker.address, reads("transactions"))
    toml += "".join(source(codec, broker.address, reads(codec)) for codec in CODECS)
    with live(tmp_path_factory.mktemp("positions"), toml) as daemon:
        for label in labels:  # before any test produces to the topic that they share
            begun(daemon, label, names["old"])
        yield daemon


# Where it begins


def offsets(daemon: Daemon, name: str) -> list[int]:
    return [int(place.rpartition(" ")[2]) for place in places(daemon, name)]


@pytest.mark.parametrize(
    ("name", "first"),
    [("earliest", 0), ("latest", 5), ("timestamp20240123T110000Z", 3), ("timestamp20240201000000Z", 5)],
)
def test_a_topic_is_begun_where_start_says(
    daemon: Daemon, broker: Broker, names: dict[str, str], name: str, first: int
) -> None:
    (latest,) = produce(broker, names["old"], [as_json("new")])
    assert outcome(daemon, name, names["old"], latest).verdict == "accepted"
    assert offsets(daemon, name) == list(range(first, latest + 1))


def test_a_partition_that_is_added_is_read_from_its_first_record_though_start_is_latest(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["growing"]
    begun(daemon, "growing", topic)
    add_partitions(broker, topic, 3)
    produce(broker, topic, [as_json(number, partition=1 + number % 2) for number in range(4)])
    seen = [accepted(daemon, "growing", topic, offset, partition) for partition in (1, 2) for offset in (0, 1)]
    assert seen == [0, 2, 1, 3]


def test_a_topic_that_comes_later_and_whose_whole_name_matches_is_read_from_its_first_record(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    prefix = names["pattern"]
    begun(daemon, "pattern", f"{prefix}-a")
    create(broker, f"{prefix}-long", f"x{prefix}-a", f"{prefix}-b")
    for topic in (f"{prefix}-long", f"x{prefix}-a", f"{prefix}-b", f"{prefix}-a"):
        produce(broker, topic, [as_json(topic), as_json("second")])
    assert [accepted(daemon, "pattern", f"{prefix}-b", offset) for offset in (0, 1)] == [f"{prefix}-b", "second"]
    assert accepted(daemon, "pattern", f"{prefix}-a", 2) == "second"
    assert {place.partition(" ")[0] for place in places(daemon, "pattern")} == {f"{prefix}-a", f"{prefix}-b"}


def test_the_first_topic_that_a_pattern_matches_is_read_from_its_first_record_where_it_came_later(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    topic = names["none-yet"] + "-a"
    create(broker, topic)
    produce(broker, topic, [as_json("first")])
    begun(daemon, "none-yet", topic)
    produce(broker, topic, [as_json("second")])
    outcome(daemon, "none-yet", topic, 1)
    assert offsets(daemon, "none-yet") == [0, 1]


# What it reads, and in which order


def test_the_order_of_a_partition_is_kept(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    wanted = list(range(200))
    produce(broker, names["ordered"], map(as_json, wanted))
    assert outcome(daemon, "ordered", names["ordered"], 199).verdict == "accepted"
    stored = daemon.stub().ListExternalEvents(ListExternalEventsRequest(wf_run_id=WfRunId(id="the-run"), limit=200))
    by_guid = {event.id.guid: plain(event.content) for event in stored.results}
    order = query(daemon, "SELECT guid FROM external_event WHERE run = 'the-run' ORDER BY arrival")
    assert [by_guid[guid] for (guid,) in order] == wanted


def test_only_records_of_committed_transactions_are_read(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    topic = names["transactions"]
    first = produce_in_transaction(broker, topic, [as_json("a"), as_json("b")], commit=True)
    aborted = produce_in_transaction(broker, topic, [as_json("no"), as_json("never")], commit=False)
    plainly = produce(broker, topic, [as_json("c")])
    last = produce_in_transaction(broker, topic, [as_json("d")], commit=True)
    kept = first + plainly + last
    assert [accepted(daemon, "transactions", topic, offset) for offset in kept] == ["a", "b", "c", "d"]
    assert aborted[0] in range(kept[0], kept[-1])
    assert offsets(daemon, "transactions") == kept


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_every_codec_are_read(daemon: Daemon, broker: Broker, names: dict[str, str], codec: str) -> None:
    values = [{"number": number, "padding": "x" * 500} for number in range(50)]
    sent = produce(broker, names[codec], map(as_json, values), compression_type=codec)
    assert [accepted(daemon, codec, names[codec], offset) for offset in sent] == values


def test_records_larger_than_what_may_be_pending_are_read_all_the_same(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    sizes = [900_000, 1, 500_000, 2]
    sent = produce(broker, names["large"], [as_json({"padding": "x" * size}) for size in sizes])
    assert [accepted(daemon, "large", names["large"], offset) for offset in sent] == sizes


# That it goes on


def test_after_a_restart_it_goes_on_where_it_was_whatever_start_says_now(broker: Broker, tmp_path: Path) -> None:
    quiet, read = new_name(), new_name()
    create(broker, quiet, read)
    produce(broker, quiet, [as_json("old")])
    produce(broker, read, [as_json(number) for number in range(20)])
    toml = source("quiet", broker.address, f'topics = ["{quiet}"]', 'start = "latest"')
    toml += source("read", broker.address, f'topics = ["{read}"]', "start = 'earliest'")
    with live(tmp_path, EVENT + toml) as daemon:
        begun(daemon, "quiet", quiet)
        outcome(daemon, "read", read, 19)
        daemon.stop()
        produce(broker, quiet, [as_json("while it was down")])
        produce(broker, read, [as_json(20)])
        daemon.config.write_text(daemon.config.read_text().replace("start = 'earliest'", 'start = "latest"'))
        daemon.start()
        assert accepted(daemon, "read", read, 20) == 20
        assert accepted(daemon, "quiet", quiet, 1) == "while it was down"
        assert (offsets(daemon, "read"), offsets(daemon, "quiet")) == (list(range(21)), [1])
        assert deliveries(daemon, "read", "accepted") == 1
        assert deliveries(daemon, "read", "duplicate") == 0


def test_a_source_that_is_killed_while_it_reads_stores_each_record_once(broker: Broker, tmp_path: Path) -> None:
    topic = new_name()
    create(broker, topic, partitions=3)
    total = 1500
    produce(broker, topic, (Sent(b"%d" % number, partition=number % 3) for number in range(total)))
    toml = source("many", broker.address, f'topics = ["{topic}"]', "batch_records_max = 10")
    with live(tmp_path, EVENT + toml) as daemon:
        outcome(daemon, "many", topic, 50)
        daemon.kill()
        daemon.start()
        for partition in range(3):
            outcome(daemon, "many", topic, total // 3 - 1, partition)
        assert deliveries(daemon, "many", "duplicate") == 0
        ((events,),) = query(daemon, "SELECT count(*) FROM correlated_event WHERE event_def = 'record'")
        assert (events, len(places(daemon, "many"))) == (total, total)


def test_a_record_that_the_client_library_cannot_read_takes_no_other_with_it_than_the_rest_of_its_batch(
    broker: Broker, tmp_path: Path
) -> None:
    topic = new_name()
    create(broker, topic, partitions=6)
    whole, broken = (0, 2, 3, 5), (1, 4)
    produce(broker, topic, (Sent(b"0", partition=partition) for partition in (*whole, *broken)))
    values = [b"%d" % number for number in range(1, 7)]
    for partition in broken:
        produce_unreadable(broker, topic, partition, values, bad=2)
    produce(broker, topic, (Sent(value, partition=partition) for partition in whole for value in values))
    produce(broker, topic, (Sent(b"7", partition=partition) for partition in (*whole, *broken)))
    with live(tmp_path, EVENT + source("many", broker.address, f'topics = ["{topic}"]')) as daemon:
        for partition in whole:
            assert [accepted(daemon, "many", topic, offset, partition) for offset in range(8)] == list(range(8))
        for partition in broken:
            assert [accepted(daemon, "many", topic, offset, partition) for offset in (0, 1, 2, 7)] == [0, 1, 2, 7]
            for offset in (3, 4, 5, 6):
                reason = dead(daemon, "many", topic, offset, partition)
                assert f"offset {offset} of {topic}/{partition} cannot be read" in reason
        assert len(places(daemon, "many")) == 6 * 8
        assert deliveries(daemon, "many", "duplicate") == 0
