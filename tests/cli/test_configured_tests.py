"""``[[tests]]`` in the configuration: ``lhd check`` runs them, and tells each failure with its file and line."""

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest

from tests.e2e.process import Daemon

TOML = """\
[[event]]
name = "branch-created"
correlated = {}

[[event]]
name = "approved"
type = "STR"

[sources.github]
kind = "webhook"
path = "/hooks/github"
verify = { scheme = "github", secrets = [{ file = "secret" }] }

[[sources.github.routes]]
name = "branch"
when = "headers['x-github-event'] == 'create'"
event = "branch-created"
key = "body.repository + ':' + body.ref"
content = "{'branch': body.ref}"

[[sources.github.routes]]
name = "approval"
when = "headers['x-github-event'] == 'approve'"
event = "approved"
wf_run = "body.run"
content = "body.value"

[[sources.github.routes]]
name = "begin"
when = "headers['x-github-event'] == 'begin'"
start = { wf_spec = "on-branch", id = "body.ref", variables = "{'branch': body.ref}" }
"""
CREATE = 'headers = { X-GitHub-Event = "create" }\nbody = { repository = "hello", ref = "main" }'
APPROVE = 'headers = { X-GitHub-Event = "approve" }\nbody = { run = "r", value = "yes" }'
BEGIN = 'headers = { X-GitHub-Event = "begin" }\nbody = { ref = "main" }'
PING = 'headers = { X-GitHub-Event = "ping" }\nbody = {}'
DEAD = 'headers = { X-GitHub-Event = "create" }\nbody = { repository = "hello" }'


def a_test(*lines: str, source: str = "github") -> str:
    """One table of ``[[tests]]``."""
    return "\n".join(["", "[[tests]]", f'source = "{source}"', *lines, ""])


def check(folder: Path, *tests: str, toml: str = TOML) -> "subprocess.CompletedProcess[str]":
    """``lhd check`` of a configuration with these tests, from another directory."""
    (folder / "secret").write_text("It's a Secret to Everybody")
    config, elsewhere = folder / "lhd.toml", folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    config.write_text(toml.replace('"secret"', f'"{folder}/secret"') + "".join(tests))
    result = subprocess.run(
        [sys.executable, "-m", "lhd", "check", "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=elsewhere,
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


def finding(folder: Path, test: str) -> str:
    """The one finding about this test, whose line is one of the test's."""
    result = check(folder, test)
    assert result.returncode == 1, result.stdout
    (told,) = result.stderr.splitlines()
    place, _, text = told.partition(": ")
    path, _, line = place.rpartition(":")
    assert path == str(folder / "lhd.toml")
    before = len(TOML.splitlines())
    assert before < int(line) <= before + len(test.splitlines())
    return text


# Tests that pass

PASSING = [
    (CREATE, 'expect = { verdict = "accepted", route = "branch", event = "branch-created", key = "hello:main" }'),
    (CREATE, 'expect = { content = { branch = "main" } }'),
    (CREATE, "expect = {}"),
    (APPROVE, 'expect = { route = "approval", wf_run = "r", content = "yes" }'),
    (
        BEGIN,
        'expect = { route = "begin", wf_spec = "on-branch", start_id = "main", variables = { branch = "main" } }',
    ),
    (PING, 'expect = { verdict = "filtered" }'),
    (DEAD, 'expect = { verdict = "dead" }'),
    (DEAD, 'expect = { verdict = "dead", route = "branch" }'),
]


def test_tests_that_pass_are_no_findings(tmp_path: Path) -> None:
    result = check(tmp_path, *(a_test(*lines) for lines in PASSING))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("", '{"repository": "hello", "ref": "main"}'),
        (", Content-Type = 'application/x-www-form-urlencoded'", "repository=hello&ref=main"),
    ],
)
def test_a_body_is_text_of_its_media_type(tmp_path: Path, header: str, body: str) -> None:
    headers = f'headers = {{ X-GitHub-Event = "create"{header} }}'
    test = a_test(headers, f"body = '{body}'", 'expect = { key = "hello:main" }')
    assert check(tmp_path, test).returncode == 0


def test_a_file_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "create.json").write_text('{"repository": "hello", "ref": "main"}')
    headers = 'headers = { X-GitHub-Event = "create" }'
    test = a_test(headers, 'file = "samples/create.json"', 'expect = { key = "hello:main" }')
    assert check(tmp_path, test).returncode == 0


def test_a_test_stores_nothing(tmp_path: Path) -> None:
    toml = f'[daemon]\ndata_dir = "{tmp_path}/data"\n' + TOML
    assert check(tmp_path, a_test(*PASSING[0]), toml=toml).returncode == 0
    assert not (tmp_path / "data").exists()


# Tests that fail

FAILING = [
    (CREATE, "verdict", '"filtered"', "accepted"),
    (CREATE, "verdict", '"dead"', "accepted"),
    (PING, "verdict", '"accepted"', "filtered"),
    (DEAD, "verdict", '"accepted"', "dead"),
    (CREATE, "route", '"approval"', "branch"),
    (CREATE, "event", '"approved"', "branch-created"),
    (CREATE, "key", '"hello:other"', "hello:main"),
    (CREATE, "content", '{ branch = "other" }', "main"),
    (CREATE, "content", '{ branch = "main", more = 1 }', "main"),
    (APPROVE, "content", "5", "yes"),
    (APPROVE, "wf_run", '"other"', "r"),
    (APPROVE, "key", '"k"', ""),
    (BEGIN, "wf_spec", '"other"', "on-branch"),
    (BEGIN, "start_id", '"other"', "main"),
    (BEGIN, "variables", '{ branch = "other" }', "main"),
    (BEGIN, "variables", "{}", "main"),
]


@pytest.fixture(scope="module")
def told_failures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What ``lhd check`` says of each failing test."""
    tests = [a_test(signal, f"expect = {{ {key} = {expected} }}") for signal, key, expected, _ in FAILING]
    folder = tmp_path_factory.mktemp("failing")
    result = check(folder, *tests)
    assert result.returncode == 1
    told = ["" for _ in tests]
    for line in result.stderr.splitlines():
        told[of_line(line, folder, tests)] += line.partition(": ")[2]
    return told


def of_line(told: str, folder: Path, tests: list[str]) -> int:
    """Which of the tests a finding is about, by its file and line."""
    place = told.partition(": ")[0]
    number = int(place.removeprefix(f"{folder}/lhd.toml:")) - len(TOML.splitlines())
    ends = list(accumulate(len(test.splitlines()) for test in tests))
    return next(index for index, end in enumerate(ends) if number <= end)


@pytest.mark.parametrize("index", range(len(FAILING)), ids=[f"{key} {expected}" for _, key, expected, _ in FAILING])
def test_an_expectation_that_is_not_met_is_told_with_what_came_instead(told_failures: list[str], index: int) -> None:
    _, key, _, actual = FAILING[index]
    assert key in told_failures[index]
    assert actual in told_failures[index]


def test_accepted_is_expected_where_no_verdict_is(tmp_path: Path) -> None:
    assert "filtered" in finding(tmp_path, a_test(PING, "expect = {}"))


def test_a_mapping_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    result = check(tmp_path, a_test(DEAD, 'expect = { key = "hello:main" }'))
    assert result.returncode == 1
    assert "there is no 'ref'" in result.stderr


def test_every_test_that_fails_is_told_at_its_own_line(tmp_path: Path) -> None:
    tests = [a_test(CREATE, f'expect = {{ key = "{number}" }}') for number in range(3)]
    result = check(tmp_path, tests[0], a_test(*PASSING[0]), *tests[1:])
    lines = [int(told.removeprefix(f"{tmp_path}/lhd.toml:").partition(":")[0]) for told in result.stderr.splitlines()]
    assert result.returncode == 1
    assert len(set(lines)) == 3
    assert lines == sorted(lines)


def test_a_failing_test_is_told_beside_the_mistakes_of_the_configuration(tmp_path: Path) -> None:
    toml = TOML.replace('type = "STR"', 'type = "TEXT"')
    result = check(tmp_path, a_test(CREATE, 'expect = { kee = "x" }'), toml=toml)
    assert result.returncode == 1
    assert "event[1].type" in result.stderr
    assert "'key'" in result.stderr


# Tests that are no tests


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["expect = {}"], "body"),
        ([CREATE, 'file = "x.json"', "expect = {}"], "file"),
        ([CREATE, 'expect = { verdict = "perhaps" }'], "verdict"),
        ([CREATE, 'expect = { verdict = "duplicate" }'], "verdict"),
        ([CREATE, 'expect = { kee = "x" }'], "'key'"),
        ([CREATE, "expects = {}"], "'expect'"),
        ([CREATE, 'expect = "accepted"'], "expect"),
        ([CREATE, "expect = { key = 5 }"], "key"),
        (['headers = { X-A = 5 }\nbody = ""', "expect = {}"], "headers"),
    ],
)
def test_a_malformed_test_is_a_finding(tmp_path: Path, lines: list[str], named: str) -> None:
    result = check(tmp_path, a_test(*lines))
    assert result.returncode == 1
    assert result.stderr.startswith(f"{tmp_path}/lhd.toml:")
    assert named in result.stderr


def test_an_unknown_source_is_a_finding_with_the_nearest_name(tmp_path: Path) -> None:
    told = finding(tmp_path, a_test(CREATE, "expect = {}", source="gitub"))
    assert "gitub" in told
    assert "'github'" in told


def test_a_file_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    assert "samples/none.json" in finding(tmp_path, a_test('file = "samples/none.json"', "expect = {}"))


def test_a_body_that_is_not_what_its_type_says_is_a_finding(tmp_path: Path) -> None:
    assert "JSON" in finding(tmp_path, a_test("body = '{not json'", "expect = {}"))


def test_a_body_that_its_type_does_not_allow_is_a_finding_whatever_is_expected(tmp_path: Path) -> None:
    test = a_test('headers = { Content-Type = "image/png" }\nbody = "x"', 'expect = { verdict = "dead" }')
    assert "refuse" in finding(tmp_path, test)


# lhd run


def test_lhd_run_does_not_run_them(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    tests = a_test(CREATE, 'expect = { key = "wrong" }') + a_test('file = "none.json"', "expect = {}")
    daemon.config.write_text(daemon.config.read_text() + tests)
    assert daemon.lhd("check").returncode == 1
    daemon.start()
    try:
        assert daemon.lhd("status").returncode == 0
    finally:
        assert daemon.stop() == 0
