"""The daemon is killed again and again under load; then nothing is lost, and nothing was done twice.

The short form takes part in every test run. The full form, for a machine at rest:
``pytest --full tests/crash -o log_cli=true -o log_cli_level=INFO``, which tells the figures.
"""

import logging
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from littlehorse.model import LHStatus, SearchWfRunRequest

from tests.crash import books, patient_worker
from tests.crash.driver import WORKFLOWS, Lives, Sender, Started, register
from tests.crash.dying_daemon import POINTS
from tests.e2e.process import DEADLINE_S, Daemon, eventually
from tests.forms import FULL

log = logging.getLogger(__name__)
KILLS = 240 if FULL else 10
SENDERS = 4
ROOT = Path(__file__).parents[2]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.start()
    register(daemon)
    daemon.stop()
    yield daemon
    daemon.stop()


@pytest.fixture
def worker(daemon: Daemon) -> Iterator[None]:
    """A task worker that stays while daemons come and go; it needs the first one to learn its TaskDef."""
    daemon.start()
    with (daemon.folder / "worker.log").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", patient_worker.__name__, str(daemon.grpc_port)],
            cwd=ROOT,
            stderr=stderr,
            start_new_session=True,
        )
    eventually("the worker to poll", lambda: _polls(daemon))
    yield
    assert process.poll() is None, "the worker has given up"
    process.terminate()
    process.wait(DEADLINE_S)


def _polls(daemon: Daemon) -> bool | None:
    return True if '"workers": 1' in daemon.lhd("status", "--json").stdout else None


class Life:
    """One life of the daemon, from its start to its death."""

    def __init__(self, daemon: Daemon, lives: Lives, chance: random.Random) -> None:
        self._daemon = daemon
        self._lives = lives
        self._chance = chance

    def end_at_random(self) -> str:
        """SIGKILL from outside, at whatever the daemon is doing when the n-th answer is out."""
        self._daemon.program = ("-m", "lhd")
        self._daemon.start()
        self._lives.begin()
        self._lives.wait_for_answers(self._chance.randint(1, 150))
        self._daemon.kill()
        return "random"

    def end_at(self, point: str) -> str:
        """SIGKILL from inside, at a point of the k-th commit under load."""
        self._daemon.program = (str(Path(__file__).parent / "dying_daemon.py"),)
        self._daemon.start(CRASH_AT=f"{point}:{self._chance.randint(1, 80)}")
        self._lives.begin()
        self._daemon.process.wait(DEADLINE_S)
        return point


def running(daemon: Daemon) -> list[str]:
    """Some of the runs that are running."""
    requests = [SearchWfRunRequest(status=LHStatus.RUNNING, limit=5, wf_spec_name=name) for name in WORKFLOWS]
    return [found.id for request in requests for found in daemon.stub().SearchWfRun(request).results]


def wait_until_settled(daemon: Daemon) -> None:
    """Every run has ended, or what keeps one from it is told."""
    try:
        eventually("every run to end", lambda: None if running(daemon) else True, 2 * DEADLINE_S)
    except AssertionError as error:
        error.add_note(f"running: {running(daemon)}\n{daemon.lhd('status').stdout}")
        raise


@pytest.mark.timeout(3600 if FULL else 110)
def test_nothing_is_lost_and_nothing_is_done_twice_however_often_the_daemon_dies(daemon: Daemon, worker: None) -> None:
    seed = random.randrange(2**32)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    began = time.monotonic()
    lives = Lives()
    life = Life(daemon, lives, chance)
    daemon.kill()
    senders = [Sender(f"s{number}", daemon, lives, chance.randrange(2**32)) for number in range(SENDERS)]
    deaths: Counter[str] = Counter()
    ways = [None, *POINTS]
    for sender in senders:
        sender.start()
    for number in range(KILLS):
        point = ways[number % len(ways)]
        deaths[life.end_at_random() if point is None else life.end_at(point)] += 1
    daemon.program = ("-m", "lhd")
    daemon.start()
    lives.begin()
    for sender in senders:
        sender.finish()
    wait_until_settled(daemon)
    started = [one for sender in senders for one in sender.started]

    books.check_answers(started)
    books.check_api(started, daemon.stub())
    assert daemon.stop() == 0
    rows = books.Rows(daemon.folder / "data")
    books.check_rows(started, rows)
    log.info(figures(deaths, started, rows, time.monotonic() - began))


def figures(deaths: Counter[str], started: list[Started], rows: books.Rows, seconds: float) -> str:
    sent = books.deliveries(started)
    answers = Counter(answer["verdict"] for one in sent for _, answer in one.answers)
    return (
        f"{deaths.total()} kills {dict(deaths)} in {seconds:.0f} s; {len(sent)} deliveries, "
        f"{sum(one.cut for one in sent)} cut, answers {dict(answers)}, "
        f"{sum(one.answers[0][1]['verdict'] == 'duplicate' for one in sent)} stored but not answered at first; "
        f"{len(started)} runs, {sum(one.cut for one in started)} starts cut; "
        f"{len(rows.task_runs)} tasks, {sum(len(task.attempts) - 1 for task in rows.task_runs)} attempts lost"
    )
