"""The daemon and its broker are killed again and again under load; then each record is stored once, in its order.

The short form takes part in every test run. The full form, for a machine at rest:
``pytest --full tests/kafka/test_kills.py -o log_cli=true -o log_cli_level=INFO``, which tells the figures.
"""

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import littlehorse
import pytest
from littlehorse.model import LHStatus, WfRunId
from littlehorse.workflow import Workflow, WorkflowThread

from tests.cli.live import live, query, run_wf
from tests.e2e.process import Daemon, eventually
from tests.forms import FULL
from tests.kafka import accounts
from tests.kafka.accounts import run_of
from tests.kafka.broker import Broker
from tests.kafka.load import PARTITIONS, Load, held, share
from tests.kafka.reading import deliveries, fault, source, status
from tests.kafka.topics import create, new_name

log = logging.getLogger(__name__)
RECORDS, KILLS, RESTARTS, WINDOW = (100_000, 20, 3, 5_000) if FULL else (5_000, 3, 1, 1_000)
DEADLINE_S = 60.0
KINDS = [("idempotent", "assign"), ("transactional", "assign"), *([("idempotent", "group")] if FULL else [])]
NAME = "load"
EVENT = '\n[[event]]\nname = "in-order"\ntype = "INT"\n'
ROUTE = """event = "in-order"\nwf_run = "'partition-' + string(body.partition)"\ncontent = "body.number" """


def in_order(thread: WorkflowThread) -> None:
    """Take the events of a partition one after the other; fail at the first that is not the next one."""
    total = thread.declare_int("total").required()
    expected = thread.declare_int("expected", 0)
    number = thread.declare_int("number")

    def another(thread: WorkflowThread) -> None:
        number.assign(thread.wait_for_event("in-order"))
        thread.do_if(number.is_not_equal_to(expected), lambda thread: thread.fail("not-in-order", "it is not the next"))
        expected.assign(expected.add(1))

    thread.do_while(expected.is_less_than(total), another)


@dataclass
class Siege:
    """A daemon and a broker that die, and the load that goes on."""

    daemon: Daemon
    broker: Broker
    load: Load
    chance: random.Random
    deaths: Counter[str] = field(default_factory=Counter)
    stored: int = 0

    def wait_for(self, count: int) -> None:
        """Wait until the daemon has stored so many records, for as long as it goes on."""
        while self.stored < count:
            try:
                eventually(f"record {self.stored + 1}", self._goes_on, DEADLINE_S)
            except AssertionError as error:
                error.add_note(f"of {count} records; the daemon says {status(self.daemon, NAME)}")
                raise

    def _goes_on(self) -> bool | None:
        before = self.stored
        ((self.stored,),) = query(self.daemon, "SELECT count(*) FROM ledger")
        self.load.stored(self.stored)
        return self.stored > before or None

    def kill_daemon(self) -> None:
        """Kill it, whatever it is doing."""
        self.daemon.kill()
        self.daemon.start()
        self.deaths["daemon"] += 1

    def restart_broker(self) -> None:
        """Kill or stop the broker; at times the daemon notices, and at times it dies meanwhile, too."""
        end = self.chance.choice([self.broker.kill, self.broker.stop])
        end()
        meanwhile = self.chance.choice(["nothing", "fault", "kill"])
        if meanwhile == "fault":
            fault(self.daemon, NAME)
        elif meanwhile == "kill":
            self.kill_daemon()
        self.broker.start()
        self.deaths[f"broker {end.__name__}, {meanwhile} meanwhile"] += 1

    def go_on(self) -> None:
        """All deaths, each when a number of records drawn beforehand is stored; then all of the load."""
        deaths = [self.kill_daemon] * KILLS + [self.restart_broker] * RESTARTS
        self.chance.shuffle(deaths)
        for count, death in zip(sorted(self.chance.sample(range(1, RECORDS), len(deaths))), deaths, strict=True):
            self.wait_for(count)
            death()
        self.wait_for(RECORDS)
        self.load.finish()


@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.timeout(3600 if FULL else 110)
def test_each_acknowledged_record_is_stored_once_and_in_its_order_whatever_dies(
    own_broker: Broker, tmp_path: Path, kind: str, mode: str
) -> None:
    seed = random.randrange(2**32)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    transactional = kind == "transactional"
    topic = new_name()
    create(own_broker, topic, partitions=PARTITIONS)
    load = Load(own_broker, topic, RECORDS, WINDOW, chance.randrange(2**32), transactional=transactional)
    keys = (f'topics = ["{topic}"]', f'mode = "{mode}"', "request_timeout_s = 5", "discover_s = 1")
    with live(tmp_path, EVENT + source(NAME, own_broker.address, *keys, routes=(ROUTE,))) as daemon:
        littlehorse.create_workflow_spec(Workflow("in-order", in_order), daemon.client())
        for partition in range(PARTITIONS):
            run_wf(daemon, "in-order", run_of(partition), total=share(RECORDS, partition))
        siege = Siege(daemon, own_broker, load, chance)
        began = time.monotonic()
        with load.running():
            siege.go_on()
        seconds = time.monotonic() - began
        statuses = [daemon.stub().GetWfRun(WfRunId(id=run_of(partition))).status for partition in range(PARTITIONS)]
        assert statuses == [LHStatus.COMPLETED] * PARTITIONS
        assert deliveries(daemon, NAME, "duplicate") == 0
        assert daemon.stop() == 0
    rows = accounts.Rows(daemon.folder / "data")
    accounts.check(load.book, topic, held(own_broker, topic), rows)
    log.info(
        "%s, %s: %d records in %.0f s with %s; transactions %s, %d records aborted",
        *(kind, mode, len(rows.ledger), seconds, dict(siege.deaths), load.book.transactions, load.book.aborted),
    )
