"""Plugins as their authors ship them, in a real daemon: installed, dropped in, from the guide, and broken."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from littlehorse.model import ExternalEvent, ListExternalEventsRequest, WfRunId

from tests.e2e.process import Daemon, branch_payload, eventually

ROOT = Path(__file__).parent.parent.parent
SAMPLE = Path(__file__).parent / "sample"
SAMPLE_TABLES = """
[[event]]
name = "counted"

[sources.counter]
kind = "sample"
count = {count}

[[sources.counter.routes]]
event = "counted"
wf_run = "'counter'"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that has not been started."""
    daemon = Daemon(tmp_path)
    yield daemon
    if hasattr(daemon, "process"):
        daemon.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins that only the daemon's user can write to."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


def configure(daemon: Daemon, text: str, folder: Path | None = None) -> None:
    dirs = "" if folder is None else f'\n[plugins]\ndirs = ["{folder}"]\n'
    daemon.config.write_text(daemon.config.read_text() + dirs + text)


def drop_in(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    (folder / f"{name}.py").chmod(0o644)


def events(daemon: Daemon, run: str) -> list[ExternalEvent]:
    request = ListExternalEventsRequest(wf_run_id=WfRunId(id=run))
    found = daemon.stub().ListExternalEvents(request).results
    return sorted(found, key=lambda event: event.content.int)


def numbers(daemon: Daemon, run: str) -> list[int]:
    return [event.content.int for event in events(daemon, run)]


def at_least(daemon: Daemon, run: str, count: int) -> Callable[[], list[int] | None]:
    def look() -> list[int] | None:
        found = numbers(daemon, run)
        return found if len(found) >= count else None

    return look


def test_a_source_of_an_installed_distribution_runs(daemon: Daemon, tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(SAMPLE)], check=True, timeout=100)
    configure(daemon, SAMPLE_TABLES.format(count=3))
    daemon.start(PYTHONPATH=str(target))
    assert eventually("three events", at_least(daemon, "counter", 3)) == [0, 1, 2]


def test_a_dropped_in_file_runs_and_its_cursor_survives_a_kill(daemon: Daemon, folder: Path) -> None:
    drop_in(folder, "sample", (SAMPLE / "lhd_sample.py").read_text())
    configure(daemon, SAMPLE_TABLES.format(count=3), folder)
    daemon.start()
    eventually("three events", at_least(daemon, "counter", 3))
    daemon.kill()
    daemon.config.write_text(daemon.config.read_text().replace("count = 3", "count = 5"))
    daemon.start()
    assert eventually("five events", at_least(daemon, "counter", 5)) == [0, 1, 2, 3, 4]


def test_a_dropped_in_package_runs(daemon: Daemon, folder: Path) -> None:
    package = folder / "sample"
    package.mkdir(mode=0o755)
    (package / "__init__.py").write_text("from .source import lhd_sources\n")
    (package / "source.py").write_text((SAMPLE / "lhd_sample.py").read_text())
    configure(daemon, SAMPLE_TABLES.format(count=2), folder)
    daemon.start()
    assert eventually("two events", at_least(daemon, "counter", 2)) == [0, 1]


def test_the_guides_source_runs_with_the_guides_configuration(daemon: Daemon, folder: Path) -> None:
    guide = (ROOT / "docs" / "writing-a-source.md").read_text()
    code, tables = (re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)[0] for language in ("python", "toml"))
    drop_in(folder, "ticker", code)
    configure(daemon, "\n" + tables.replace('dirs = ["plugins"]', f'dirs = ["{folder}"]'))
    daemon.start()
    ticked = eventually("three ticks", at_least(daemon, "clock", 3))
    assert ticked[:3] == [1, 2, 3]
    daemon.kill()
    daemon.start()
    again = eventually("more ticks", at_least(daemon, "clock", len(ticked) + 3))
    assert again == list(range(1, len(again) + 1))


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        pytest.param(
            "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'", id="import error"
        ),
        pytest.param("raise SystemExit(3)", "SystemExit: 3", id="exits"),
        pytest.param("x = 1", "implements no hook", id="no hook"),
        pytest.param(
            "from lhd.plugin import hookimpl\n@hookimpl\ndef lhd_sorces(): return []", "lhd_sorces", id="wrong hook"
        ),
        pytest.param(
            (SAMPLE / "lhd_sample.py").read_text().replace("api = 1", "api = 2"), "plugin API 2", id="wrong API number"
        ),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_work(daemon: Daemon, folder: Path, code: str, cause: str) -> None:
    drop_in(folder, "broken", code)
    configure(daemon, "", folder)
    checked = daemon.lhd("check")
    assert checked.returncode == 1
    assert f"{folder}/broken.py" in checked.stderr
    assert cause in checked.stderr
    assert "Traceback" not in checked.stderr
    daemon.start()
    assert daemon.branch_created("works")[0] == 202
    assert f"{folder}/broken.py" in daemon.log.read_text()


def test_a_folder_that_others_may_write_to_is_refused(daemon: Daemon, folder: Path) -> None:
    folder.chmod(0o777)
    configure(daemon, "", folder)
    checked = daemon.lhd("check")
    assert checked.returncode == 1
    assert "can be written by others (mode 777); chmod go-w it" in checked.stderr


def test_a_file_of_somebody_else_is_not_loaded(daemon: Daemon, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    drop_in(folder, "foreign", "raise AssertionError('it was run')")
    os.chown(folder / "foreign.py", 12345, -1)
    configure(daemon, "", folder)
    checked = daemon.lhd("check")
    assert "foreign.py belongs to user 12345" in checked.stderr
    assert "it was run" not in checked.stderr


def test_a_missing_folder_is_a_finding_with_its_line(daemon: Daemon, folder: Path) -> None:
    folder.rmdir()
    configure(daemon, "", folder)
    checked = daemon.lhd("check")
    assert checked.returncode == 1
    assert re.search(r"lhd\.toml:\d+: plugins\.dirs\[0\]: .*No such file or directory", checked.stderr)


def test_a_source_that_raises_is_shown_as_faulted_and_the_others_run_on(daemon: Daemon, folder: Path) -> None:
    code = (
        (SAMPLE / "lhd_sample.py")
        .read_text()
        .replace("for number in", "raise ValueError('boom')\n        for number in")
    )
    drop_in(folder, "sample", code)
    configure(daemon, SAMPLE_TABLES.format(count=3), folder)
    daemon.start()

    def faulted() -> dict[str, str] | None:
        sources = json.loads(daemon.lhd("status", "--json").stdout)["sources"]
        return next((one for one in sources if one["name"] == "counter" and one["state"] == "faulted"), None)

    assert eventually("the fault to be shown", faulted)["reason"] == "ValueError in the source's code"
    assert daemon.hook(branch_payload("still-works"))[0] == 202


def test_a_source_that_blocks_the_loop_is_named_with_file_and_line(daemon: Daemon, folder: Path) -> None:
    code = (SAMPLE / "lhd_sample.py").read_text()
    code = code.replace("import anyio", "import time\n\nimport anyio").replace(
        "for number in", "await anyio.sleep(0.1)\n        time.sleep(4)\n        for number in"
    )
    drop_in(folder, "sample", code)
    configure(daemon, SAMPLE_TABLES.format(count=1), folder)
    daemon.start()
    eventually("the loop to go on", at_least(daemon, "counter", 1))
    (line,) = [line for line in daemon.log.read_text().splitlines() if "event loop is blocked" in line]
    report = json.loads(line)
    assert report["task"] == "source counter"
    assert f"{folder}/sample.py" in report["at"][-1]
