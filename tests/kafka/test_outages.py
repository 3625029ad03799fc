"""Brokers that are away, do not answer, or were killed: what the source says, and that it goes on where it was."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.live import live
from tests.e2e.process import Daemon
from tests.kafka.broker import Broker, running
from tests.kafka.reading import EVENT, accepted, deliveries, fault, places, runs, source
from tests.kafka.topics import as_json, create, new_name, produce


@dataclass
class Weak:
    """A daemon, and a broker of its own that tests stop and start; each test leaves both running."""

    daemon: Daemon
    broker: Broker
    topic: str

    def goes_on(self, value: str) -> None:
        """A record that is produced now is read, and everything until then once."""
        (offset,) = produce(self.broker, self.topic, [as_json(value)])
        assert accepted(self.daemon, "weak", self.topic, offset) == value
        assert places(self.daemon, "weak") == [f"{self.topic} 0 0 {number}" for number in range(offset + 1)]
        assert deliveries(self.daemon, "weak", "duplicate") == 0
        runs(self.daemon, "weak")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Weak]:
    if request.config.getoption("--without-kafka"):
        pytest.skip("--without-kafka")
    topic = new_name()
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        create(broker, topic)
        produce(broker, topic, [as_json("before")])
        broker.stop()
        table = source("weak", broker.address, f'topics = ["{topic}"]', "request_timeout_s = 2")
        with live(tmp_path_factory.mktemp("weak"), EVENT + table) as daemon:
            yield Weak(daemon, broker, topic)


def test_a_daemon_is_ready_while_the_brokers_are_away_and_reads_when_they_are_there(weak: Weak) -> None:
    assert fault(weak.daemon, "weak") == f"no broker can be used: {weak.broker.address}: Connection refused"
    assert f"{weak.broker.address}: Connection refused" in weak.daemon.lhd("status").stdout
    weak.broker.start()
    weak.goes_on("when they are there")


def test_when_a_broker_is_killed_the_source_is_faulted_and_then_goes_on_where_it_was(weak: Weak) -> None:
    weak.broker.kill()
    assert "broker" in fault(weak.daemon, "weak")
    weak.broker.start()
    weak.goes_on("after it was killed")


def test_brokers_that_do_not_answer_are_told_and_the_source_goes_on_when_they_do(weak: Weak) -> None:
    weak.broker.pause()
    try:
        assert fault(weak.daemon, "weak") == "the brokers do not answer"
    finally:
        weak.broker.resume()
    weak.goes_on("when they answer")
