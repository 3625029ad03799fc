"""What users of LittleHorse's sinks for Kafka Connect have, and that none of their faults is here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from littlehorse.model import (
    LHStatus,
    WfRunId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.cli.live import live, query, run_wf
from tests.e2e.process import Daemon, eventually
from tests.intake.behind import by_key, by_run
from tests.kafka.broker import Broker
from tests.kafka.reading import EVENT, accepted, deliveries, letters, outcome, places, plain, route, runs, source
from tests.kafka.topics import Sent, as_json, create, new_name, produce

KEYED = """
[[event]]
name = "keyed"
correlated = {}
"""
RUN_SINK = """when = "body.state == 'new'"
start = { wf_spec = "greets", id = "body.id", variables = "{'who': body.who}" }"""
EVENT_SINK = """when = "headers['kind'] == 'approval'"
event = "approved"
wf_run = "body.run"
content = "body.value"
"""
KEYED_SINK = """when = "headers['kind'] == 'keyed'"
event = "keyed"
key = "key"
content = "body.value"
"""
SHORT_ID = """start = { wf_spec = "greets", variables = "{'who': body.who}" }"""
BY_ID = """event = "record"
key = "body.id"
id = "body.id" """


def greets(wf: WorkflowThread) -> None:
    wf.complete(wf.declare_str("who").required())


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    return {kind: new_name(kind) for kind in ("runs", "events", "drawn", "by-id", "batch", "c-topic")}


@pytest.fixture(scope="module")
def twins(names: dict[str, str]) -> list[str]:
    """Topics that tell apart only by case, by dot and by underscore."""
    base = names["c-topic"].replace("c-topic-", "twin-")
    return [f"{base}-a.b", f"{base}-A.b", f"{base}-a.B"]


@pytest.fixture(scope="module")
def daemon(
    broker: Broker, names: dict[str, str], twins: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    clash = names["c-topic"]
    create(broker, *names.values(), *twins, f"a-{clash}")
    toml = EVENT + KEYED

    def reads(*topics: str) -> str:
        return "topics = [" + ", ".join(f'"{topic}"' for topic in topics) + "]"

    toml += source("runs", broker.address, reads(names["runs"]), routes=(RUN_SINK,))
    toml += source("events", broker.address, reads(names["events"]), routes=(EVENT_SINK, KEYED_SINK))
    toml += source("drawn", broker.address, reads(names["drawn"]), routes=(SHORT_ID,))
    toml += source("by-id", broker.address, reads(names["by-id"]), routes=(BY_ID,))
    toml += source("batch", broker.address, reads(names["batch"]), routes=(EVENT_SINK, route("body.value")))
    toml += source("twins", broker.address, reads(*twins))
    toml += source("c", broker.address, reads(f"a-{clash}"), routes=(SHORT_ID,))
    toml += source("c-a", broker.address, reads(clash), routes=(SHORT_ID,))
    with live(tmp_path_factory.mktemp("parity"), toml) as daemon:
        for name, entrypoint in (("by-key", by_key), ("by-run", by_run), ("greets", greets)):
            daemon.stub().PutWfSpec(Workflow(name, entrypoint).compile())
        yield daemon


def completed(daemon: Daemon, run: str) -> Any:
    """The output of a run, once it is there and completed."""
    look = f"SELECT 1 FROM wf_run WHERE run = '{run}' AND status = {int(LHStatus.COMPLETED)}"
    eventually(f"{run} to complete", lambda: query(daemon, look) or None)
    return plain(daemon.stub().GetWfRun(WfRunId(id=run)).thread_runs[0].output)


def kind(name: str) -> list[tuple[str, bytes | None]]:
    return [("Kind", name.encode())]


# What they do


def test_a_record_starts_a_run_with_its_id_and_variables(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    produce(broker, names["runs"], [as_json({"state": "new", "id": "run-of-ann", "who": "ann"})])
    assert completed(daemon, "run-of-ann") == "ann"


def test_a_second_record_of_the_same_run_id_starts_nothing_and_is_accepted(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    sent = produce(broker, names["runs"], [as_json({"state": "new", "id": "once", "who": who}) for who in ("a", "b")])
    assert [outcome(daemon, "runs", names["runs"], offset).verdict for offset in sent] == ["accepted"] * 2
    assert completed(daemon, "once") == "a"


def test_a_record_that_the_filter_leaves_out_starts_nothing(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    (offset,) = produce(broker, names["runs"], [as_json({"state": "old", "id": "filtered-out", "who": "x"})])
    assert outcome(daemon, "runs", names["runs"], offset).verdict == "filtered"
    assert query(daemon, "SELECT 1 FROM wf_run WHERE run = 'filtered-out'") == []


def test_a_record_becomes_an_event_of_a_run(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    run_wf(daemon, "by-run", "waits-for-record")
    produce(broker, names["events"], [as_json({"run": "waits-for-record", "value": "yes"}, headers=kind("approval"))])
    assert completed(daemon, "waits-for-record") == "yes"


def test_a_record_becomes_an_event_for_whoever_waits_for_its_key(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    run_wf(daemon, "by-key", "waits-for-key", key="order-1")
    produce(broker, names["events"], [as_json({"value": "paid"}, key=b"order-1", headers=kind("keyed"))])
    assert completed(daemon, "waits-for-key") == "paid"


def test_with_an_id_of_its_own_a_record_that_comes_again_at_another_place_is_a_duplicate(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    produce(broker, names["by-id"], [as_json({"id": "e-1"}), as_json({"id": "e-1"}), as_json({"id": "e-2"})])
    eventually("the last one", lambda: deliveries(daemon, "by-id", "accepted") == 2 or None)
    assert deliveries(daemon, "by-id", "duplicate") == 1


# What is wrong with them


def test_topics_that_differ_in_case_or_a_mark_have_records_of_their_own(
    daemon: Daemon, broker: Broker, twins: list[str]
) -> None:
    for topic in twins:
        produce(broker, topic, [as_json(topic)])
    assert [accepted(daemon, "twins", topic, 0) for topic in twins] == twins
    assert deliveries(daemon, "twins", "duplicate") == 0


def test_names_of_sources_and_topics_do_not_run_together(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    clash = names["c-topic"]
    for topic in (f"a-{clash}", clash):
        produce(broker, topic, [as_json({"who": topic})])
    first, second = outcome(daemon, "c", f"a-{clash}", 0), outcome(daemon, "c-a", clash, 0)
    assert (first.verdict, second.verdict) == ("accepted", "accepted")
    outputs = [completed(daemon, one.delivery_id) for one in (first, second)]
    assert outputs == [f"a-{clash}", clash]


def test_a_second_event_for_a_key_is_queued_and_goes_to_the_next_who_waits(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    values = [as_json({"value": value}, key=b"order-2", headers=kind("keyed")) for value in ("first", "second")]
    sent = produce(broker, names["events"], values)
    assert [outcome(daemon, "events", names["events"], offset).verdict for offset in sent] == ["accepted"] * 2
    run_wf(daemon, "by-key", "takes-first", key="order-2")
    run_wf(daemon, "by-key", "takes-second", key="order-2")
    assert [completed(daemon, run) for run in ("takes-first", "takes-second")] == ["first", "second"]


def test_a_bad_record_in_a_batch_is_a_dead_letter_and_the_others_are_stored_once(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    good = [as_json({"value": number, "run": "batch-run"}) for number in range(6)]
    bad = [Sent(b"{"), as_json({"no": "value"}), as_json({"run": "batch-run", "value": [1]}, headers=kind("approval"))]
    sent = produce(broker, names["batch"], [*good[:3], *bad, *good[3:]])
    verdicts = [outcome(daemon, "batch", names["batch"], offset).verdict for offset in sent]
    assert verdicts == ["accepted"] * 3 + ["dead"] * 3 + ["accepted"] * 3
    assert [accepted(daemon, "batch", names["batch"], offset) for offset in sent[:3] + sent[6:]] == list(range(6))
    assert (deliveries(daemon, "batch", "duplicate"), deliveries(daemon, "batch", "accepted")) == (0, 6)
    assert len(letters(daemon, "batch")) == 3


def test_identity_stays_over_a_restart_and_a_reset(broker: Broker, tmp_path: Path) -> None:
    topic = new_name()
    create(broker, topic, partitions=2)
    produce(broker, topic, [as_json(number, partition=number % 2) for number in range(10)] + [Sent(b"{")])
    with live(tmp_path, EVENT + source("again", broker.address, f'topics = ["{topic}"]')) as daemon:
        outcome(daemon, "again", topic, 5), outcome(daemon, "again", topic, 4, 1)
        before = places(daemon, "again")
        daemon.stop()
        daemon.start()
        assert daemon.lhd("source", "reset", "again").returncode == 0
        eventually("all again", lambda: deliveries(daemon, "again", "duplicate") == 10 or None)
        eventually("the dead one again", lambda: letters(daemon, "again")[0]["count"] == 2 or None)
        assert deliveries(daemon, "again", "accepted") == deliveries(daemon, "again", "conflict") == 0
        assert places(daemon, "again") == before
        assert len(before) == 11
        (new,) = produce(broker, topic, [as_json("new")])
        assert accepted(daemon, "again", topic, new) == "new"
        runs(daemon, "again")
