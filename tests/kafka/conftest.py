"""One real broker for all tests of the Kafka source; tests that stop or kill it have one of their own."""

from collections.abc import Iterator

import pytest

from tests.kafka.broker import Broker, running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--without-kafka"):
        skip = pytest.mark.skip(reason="--without-kafka")
        for item in items:
            if {"broker", "own_broker"} & set(getattr(item, "fixturenames", ())):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs all the time; each test has topics of its own."""
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that the test may stop, kill and start."""
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
