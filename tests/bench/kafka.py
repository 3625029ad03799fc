"""``python -m tests.bench.kafka``: how fast lhd reads a topic, beside a bare consumer that stores nothing.

The broker, the bare consumer and each daemon are processes of their own, on loopback. In each round the bare consumer
and daemons with new stores read the same records, one right after the other. Figures are as ``python -m tests.bench``
has them; the processor time is that of the whole process, its start included.
"""

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.__main__ import Partner, processor_s
from tests.bench.table import Table
from tests.cli.live import query
from tests.e2e.process import Daemon, eventually
from tests.kafka.broker import Broker, require_kafka
from tests.kafka.topics import Sent, create, new_name, produce

RECORDS, BYTES, PARTITIONS = 20_000, 300, 6
BATCH_RECORDS, BATCH_BYTES = 100, 1_048_576
"""What a source fetches by default."""
READ_S = 120.0
ROUNDS_S = 170.0
"""No round is begun after this time."""
EVENTS = '\n[[event]]\nname = "order-paid"\ncorrelated = {}\n\n[[event]]\nname = "order-seen"\n'
ROUTES = {"key": 'event = "order-paid"\nkey = "body.order"', "run": 'event = "order-seen"\nwf_run = "body.order"'}
SOURCE = """
[sources.orders]
kind = "kafka"
brokers = ["{address}"]
topics = ["{topic}"]

[[sources.orders.routes]]
content = "body"
{route}
"""


def record(number: int) -> Sent:
    """An order that no other record has."""
    order = {"order": f"order-{number}", "status": "paid", "amount": number / 100, "note": ""}
    order["note"] = "x" * (BYTES - len(json.dumps(order)))
    return Sent(json.dumps(order).encode(), key=b"%d" % number, partition=number % PARTITIONS)


# The bare consumer


async def read(address: str, topic: str, count: int) -> None:
    """Read and parse so many records of committed transactions, and tell how long it took."""
    consumer = AIOKafkaConsumer(  # type: ignore[no-untyped-call]
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=BATCH_BYTES,
    )
    async with consumer:
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)  # type: ignore[no-untyped-call]
        first, left = time.time(), count
        while left > 0:
            fetched = await consumer.getmany(timeout_ms=500, max_records=BATCH_RECORDS)
            for records in fetched.values():
                left -= len(records)
                for one in records:
                    orjson.loads(one.value or b"null")
    answer = {
        "first": first,
        "last": time.time(),
        "processor_s": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(answer), flush=True)  # noqa: T201 - whoever started this waits for it


# lhd


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


class Bench:
    """A topic full of records, and the figures."""

    def __init__(self, address: str, topic: str, records: int) -> None:
        self.table = Table()
        self._address = address
        self._topic = topic
        self._records = records

    def round(self, folder: Path) -> None:
        """Everything once."""
        bare = self._read_bare()
        for name, route in ROUTES.items():
            (folder / name).mkdir(parents=True)
            self._note(f"to a {name}", self._read_with_lhd(folder / name, route), bare)

    def _note(self, title: str, mine: dict[str, float], bare: dict[str, float]) -> None:
        for name, unit in (
            ("records", "/s"),
            ("processor", "us each"),
            ("lag recovered after a start", "s"),
            ("memory, peak", "MB"),
        ):
            row = self.table.row(f"{name}, {title}", unit)
            row.lhd.append(mine[name])
            row.bare.append(bare[name])

    def _read_bare(self) -> dict[str, float]:
        began = time.time()
        partner = Partner("kafka", "--bare", self._address, self._topic, "--records", str(self._records))
        try:
            found = partner.answer()
        finally:
            partner.stop()
        return self._figures(began, found["first"], found["last"], found["processor_s"], found["peak_mb"])

    def _read_with_lhd(self, folder: Path, route: str) -> dict[str, float]:
        daemon = Daemon(folder)
        table = SOURCE.format(address=self._address, topic=self._topic, route=route)
        daemon.config.write_text(daemon.config.read_text() + EVENTS + table)
        began = time.time()
        daemon.start()
        try:
            eventually("all records", lambda: self._is_read(daemon), READ_S)
            pid = daemon.process.pid
            ((count, first_ms, last_ms),) = query(
                daemon, "SELECT count(*), min(received_ms), max(received_ms) FROM ledger WHERE verdict = 'accepted'"
            )
            if count != self._records:
                raise RuntimeError(f"{count} of {self._records} records were accepted")
            return self._figures(began, first_ms / 1000, last_ms / 1000, processor_s(pid), peak_mb(pid))
        finally:
            daemon.stop()

    def _is_read(self, daemon: Daemon) -> bool | None:
        values = query(daemon, "SELECT value FROM cursor WHERE source = 'orders' AND part <> ''")
        return sum(json.loads(value)["next"] for (value,) in values) == self._records or None

    def _figures(self, began: float, first: float, last: float, used_s: float, peak: float) -> dict[str, float]:
        return {
            "records": self._records / (last - first),
            "processor": used_s / self._records * 1e6,
            "lag recovered after a start": last - began,
            "memory, peak": peak,
        }


@contextmanager
def bench(folder: Path, records: int) -> Iterator[Bench]:
    """The broker with all records."""
    require_kafka()
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    broker.start()
    try:
        topic = new_name()
        create(broker, topic, partitions=PARTITIONS)
        produce(broker, topic, map(record, range(records)))
        yield Bench(broker.address, topic, records)
    finally:
        broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kafka", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS, metavar=("ADDRESS", "TOPIC"))
    arguments = parser.parse_args()
    if arguments.bare:
        address, topic = arguments.bare
        uvloop.run(read(address, topic, arguments.records))
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    began, load_before = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="lhd-bench-") as name, bench(Path(name), arguments.records) as made:
        done = 0
        while done < arguments.rounds and time.monotonic() - began < ROUNDS_S:
            made.round(Path(name) / str(done))
            done += 1
    load = f"load average {load_before:.2f} before, {os.getloadavg()[0]:.2f} after"
    what = f"{arguments.records:,} records of {BYTES} bytes, {PARTITIONS} partitions"
    sys.stdout.write(f"{done} of {arguments.rounds} rounds, {what}, {os.cpu_count()} processors, {load}\n\n")
    sys.stdout.write(made.table.text() + "\n")


if __name__ == "__main__":
    main()
