"""``python -m tests.bench``: how fast lhd is on this machine, beside bare servers that store nothing.

Every server and client is a process of its own, on loopback. In each round the bare server and lhd are measured one
right after the other, so that what else the machine does falls on both. Figures are medians (lowest..highest) of the
rounds; a ratio is the median of the rounds' ratios. The processor time is that of the server process alone, which other
processes disturb least.
"""

import argparse
import json
import logging
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import littlehorse
from littlehorse.workflow import Workflow, WorkflowThread

from tests.bench.table import Table, quantile
from tests.e2e.process import Daemon, free_port

ROOT = Path(__file__).parents[2]
TASK = "announce"
POLLS = 64
FLIGHTS = {1: 200, 64: 1_500}
"""In flight, and requests of one measurement."""
WAKES = {1: 100, 64: 2_000}
JOB_S = 10.0
START_RUNS_S = 25.0
ANSWER_S = 30.0
ROUNDS_S = 190.0
"""No round is begun after this time."""
TICKS = os.sysconf("SC_CLK_TCK")


async def announce(branch: str, by: str) -> str:
    """The task of the waiting runs; the worker reports none."""
    return f"{by} made {branch}"


def on_branch(thread: WorkflowThread) -> None:
    """Wait for a branch by its key, then let a worker announce it."""
    branch = thread.declare_str("branch").required()
    created = thread.wait_for_event("branch-created", correlation_id=thread.format("octocat/hello-world:{0}", branch))
    thread.execute(TASK, created.with_json_path("$.branch"), created.with_json_path("$.by"), timeout_seconds=3600)


class Partner:
    """A program of this folder in a process of its own: a line of JSON in, a line of JSON out."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to a question."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that the partner writes."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            raise TimeoutError(f"process {self.pid} does not answer")
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def processor_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """The memory of a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def disk_flush_ms(folder: Path) -> float:
    """What the disk alone takes for one small durable write into a file that does not grow."""
    times = []
    with (folder / "flush").open("wb", buffering=0) as file:
        for _ in range(100):
            began = time.monotonic()
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - began)
    return statistics.median(times) * 1000


class Bench:
    """The processes of one run, and the figures."""

    def __init__(self, daemon: Daemon, ports: dict[str, int], bare: dict[str, Partner]) -> None:
        self.daemon = daemon
        self.table = Table()
        self.load = Partner("load")
        self.worker = Partner("worker", str(daemon.grpc_port), TASK, str(POLLS))
        self._ports = ports
        self._bare = bare
        self._jobs = 0

    def stop(self) -> None:
        """End the clients."""
        self.load.stop()
        self.worker.stop()

    def _job(
        self, kind: str, port: int, in_flight: int, count: int, prefix: str = "", deadline_s: float = JOB_S
    ) -> dict[str, Any]:
        self._jobs += 1
        answer = self.load.ask(
            kind=kind,
            port=port,
            in_flight=in_flight,
            count=count,
            prefix=prefix or f"bench{self._jobs}",
            deadline_s=deadline_s,
        )
        if answer["refused"] or not answer["acknowledged"]:
            raise RuntimeError(f"{kind}: {answer['refused']} of {count} requests were refused")
        return answer

    def acknowledge(self, title: str, kind: str, bare: str, share: float) -> None:
        """The rate of acknowledged requests, their latency and the server's processor time, bare and lhd."""
        lhd_port = self.daemon.http_port if bare == "http" else self.daemon.grpc_port
        for in_flight, requests in FLIGHTS.items():
            count = int(requests * share)
            name = f"{title}, {in_flight} in flight"
            for port, pid, is_lhd in (
                (self._ports[bare], self._bare[bare].pid, False),
                (lhd_port, self.daemon.process.pid, True),
            ):
                before_s = processor_s(pid)
                answer = self._job(kind, port, in_flight, count)
                used_s = processor_s(pid) - before_s
                sent, acknowledged = answer["sent"], answer["acknowledged"]
                figures = [
                    (name, "/s", "half of bare", _rate(sent, acknowledged)),
                    (f"{name}: processor", "us each", "", used_s / len(acknowledged) * 1e6),
                ]
                if in_flight == 1:
                    spans = _spans_ms(sent, acknowledged)
                    figures.append((f"{name}: p50", "ms", "< 3", quantile(spans, 0.5)))
                    figures.append((f"{name}: p99", "ms", "", quantile(spans, 0.99)))
                for row, unit, aim, value in figures:
                    found = self.table.row(row, unit, aim)
                    (found.lhd if is_lhd else found.bare).append(value)

    def start_runs(self, count: int, prefix: str) -> None:
        """Runs that wait; and how fast they start."""
        answer = self._job("start_run", self.daemon.grpc_port, 64, count, prefix, START_RUNS_S)
        if len(answer["acknowledged"]) < count:
            raise RuntimeError(f"only {len(answer['acknowledged'])} of {count} runs were started in time")
        if count == WAKES[64]:
            rate = _rate(answer["sent"], answer["acknowledged"])
            self.table.row("RunWf to a wait, 64 in flight", "/s").lhd.append(rate)

    def wake(self, title: str, kind: str, share: float) -> None:
        """The rate of tasks that events put into the worker's hands, and how long one takes."""
        port = self.daemon.http_port if kind == "to_key" else self.daemon.grpc_port
        for in_flight, runs in WAKES.items():
            count = int(runs * share)
            prefix = f"wake{self._jobs}"
            self.start_runs(count, prefix)
            before_s = processor_s(self.daemon.process.pid)
            sent = self._job(kind, port, in_flight, count, prefix)["sent"]
            received = self.worker.ask(count=len(sent), deadline_s=JOB_S)
            used_s = processor_s(self.daemon.process.pid) - before_s
            if received.keys() != sent.keys():
                raise RuntimeError(f"{title}: {len(sent)} events, {len(received)} tasks")
            name = f"{title}, {in_flight} in flight"
            self.table.row(name, "/s", "2,900" if in_flight == 64 else "").lhd.append(_rate(sent, received))
            self.table.row(f"{name}: processor", "us each").lhd.append(used_s / len(sent) * 1e6)
            if in_flight == 1:
                spans = _spans_ms(sent, received)
                self.table.row(f"{name}: p50", "ms").lhd.append(quantile(spans, 0.5))
                self.table.row(f"{name}: p99", "ms").lhd.append(quantile(spans, 0.99))

    def round(self, share: float = 1.0) -> None:
        """Everything once, with this share of the requests."""
        self.acknowledge("webhook to a run", "to_run", "http", share)
        self.acknowledge("webhook to a key", "to_key", "http", share)
        self.acknowledge("PutExternalEvent", "put_event", "grpc", share)
        self.wake("wake by webhook", "to_key", share)
        self.wake("wake by PutExternalEvent", "wake_by_put", share)
        self.table.row("disk: one durable write", "ms").bare.append(disk_flush_ms(self.daemon.folder))


def _rate(begun: dict[str, float], ended: dict[str, float]) -> float:
    return len(ended) / (max(ended.values()) - min(begun.values()))


def _spans_ms(begun: dict[str, float], ended: dict[str, float]) -> list[float]:
    return [(end - begun[name]) * 1000 for name, end in ended.items()]


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """The daemon, the bare servers and the clients, all ready."""
    with ExitStack() as stack:
        daemon = Daemon(folder)
        daemon.start()
        stack.callback(daemon.stop)
        littlehorse.create_task_def(announce, TASK, daemon.client())
        littlehorse.create_workflow_spec(Workflow("on-branch", on_branch), daemon.client())
        ports = {kind: free_port() for kind in ("http", "grpc")}
        bare = {}
        for kind, port in ports.items():
            bare[kind] = Partner("bare", kind, str(port))
            stack.callback(bare[kind].stop)
            bare[kind].answer()
        made = Bench(daemon, ports, bare)
        stack.callback(made.stop)
        yield made


def idle(table: Table, folder: Path) -> None:
    """One start of a new daemon: how long until it is ready, and its memory a moment later."""
    folder.mkdir()
    daemon = Daemon(folder)
    began = time.monotonic()
    daemon.start()
    table.row("start to READY=1", "s", "< 1").lhd.append(time.monotonic() - began)
    time.sleep(0.5)
    table.row("idle memory", "MB", "< 120").lhd.append(resident_mb(daemon.process.pid))
    daemon.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.getLogger("LHConfig").setLevel(logging.ERROR)
    began, load_before = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="lhd-bench-") as name:
        folder = Path(name)
        (folder / "load").mkdir()
        with bench(folder / "load") as made:
            made.round(0.2)  # connections, caches and pages that a first round would pay for
            made.table = Table()
            done = 0
            while done < rounds and time.monotonic() - began < ROUNDS_S:
                made.round()
                idle(made.table, folder / str(done))
                done += 1
            made.table.row("memory after the load", "MB").lhd.append(resident_mb(made.daemon.process.pid))
        load = f"load average {load_before:.2f} before, {os.getloadavg()[0]:.2f} after"
        print(f"{done} of {rounds} rounds, {os.cpu_count()} processors, {load}\n\n{made.table.text()}")  # noqa: T201


if __name__ == "__main__":
    main()
