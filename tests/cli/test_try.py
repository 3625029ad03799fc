"""``lhd try``: what the routes of a configuration file would do, over what arrived or a file, changing nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from littlehorse.workflow import Workflow

from tests.cli.live import deliver, live, row_counts, run_wf
from tests.e2e.process import Daemon
from tests.intake.behind import by_run

TOML = """
[[event]]
name = "keyed"
correlated = {}

[sources.hook]
kind = "webhook"
path = "/hooks/in"
verify = { scheme = "none", id_header = "X-Delivery" }

[[sources.hook.routes]]
name = "branch"
when = "body.kind == 'branch'"
event = "keyed"
key = "'branch/' + body.ref"
content = "{'told': body.ref}"

[[sources.hook.routes]]
name = "approval"
when = "body.kind == 'approval'"
event = "approved"
wf_run = "body.run"
content = "headers['x-by'] + query.at"

[[sources.hook.routes]]
name = "begin"
when = "body.kind == 'begin'"
start = { wf_spec = "by-run", id = "body.id", variables = "{'one': body.one}" }

[[sources.hook.routes]]
name = "broken"
when = "body.kind == 'broken'"
event = "keyed"
key = "body.absent"

[sources.quiet]
kind = "webhook"
path = "/hooks/quiet"
keep_payloads = 0
verify = { scheme = "none" }

[[sources.quiet.routes]]
event = "keyed"
key = "body.ref"

[sources.small]
kind = "webhook"
path = "/hooks/small"
keep_payloads_bytes = 1000
verify = { scheme = "none" }

[[sources.small.routes]]
event = "keyed"
key = "'small/' + body.ref"

[sources.few]
kind = "webhook"
path = "/hooks/few"
keep_payloads = 2
verify = { scheme = "none" }

[[sources.few.routes]]
event = "keyed"
key = "'few/' + body.ref"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with live(tmp_path_factory.mktemp("daemon"), TOML) as daemon:
        daemon.stub().PutWfSpec(Workflow("by-run", by_run).compile())
        yield daemon


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    """The daemon, whose configuration file a test may edit."""
    before = shared.config.read_text()
    yield shared
    shared.config.write_text(before)


def hook(daemon: Daemon, body: Any, path: str = "/hooks/in", **headers: str) -> dict[str, Any]:
    return deliver(daemon, path, body, **headers)[1]


def tried(daemon: Daemon, *arguments: str) -> str:
    """What try says; no row of the store is made or taken away by it."""
    before = row_counts(daemon)
    result = daemon.lhd("try", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert row_counts(daemon) == before
    return result.stdout


def assert_said(text: str, *facts: str) -> None:
    assert [fact for fact in facts if fact not in text] == [], text


def file_of(folder: Path, body: Any, name: str = "payload.json") -> str:
    path = folder / name
    path.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return str(path)


# What arrived


def test_the_last_payload_is_mapped_again_and_event_key_content_and_verdict_are_printed(daemon: Daemon) -> None:
    assert hook(daemon, {"kind": "branch", "ref": "main"})["verdict"] == "accepted"
    text = tried(daemon, "hook", "--last", "1")
    assert_said(text, "accepted", "branch", "keyed", "branch/main", "told", "main")


def test_the_run_of_a_payload_is_printed_with_what_headers_and_query_said(daemon: Daemon) -> None:
    hook(daemon, {"kind": "approval", "run": "the-run"}, "/hooks/in?at=noon", x_by="octocat-at-")
    assert_said(tried(daemon, "hook", "--last", "1"), "approval", "approved", "the-run", "octocat-at-noon")


def test_the_start_of_a_payload_is_printed(daemon: Daemon) -> None:
    hook(daemon, {"kind": "begin", "id": "would-start", "one": "value-one"})
    assert_said(tried(daemon, "hook", "--last", "1"), "begin", "by-run", "would-start", "one", "value-one")


def test_payloads_that_are_filtered_or_dead_are_printed_as_such(daemon: Daemon) -> None:
    answers = [hook(daemon, {"kind": kind}) for kind in ("nothing", "broken")]
    assert [answer["verdict"] for answer in answers] == ["filtered", "dead"]
    assert_said(tried(daemon, "hook", "--last", "2"), "filtered", "dead", answers[1]["reason"])


def test_json_holds_the_same(daemon: Daemon) -> None:
    hook(daemon, {"kind": "branch", "ref": "as-json"})
    (said,) = json.loads(tried(daemon, "hook", "--last", "1", "--json"))
    wanted = {"route": "branch", "event": "keyed", "key": "branch/as-json"}
    assert {name: said[name] for name in wanted} == wanted
    assert said["content"] == {"told": "as-json"}


def test_last_is_a_number_of_payloads_and_these_are_the_latest(daemon: Daemon) -> None:
    for number in range(5):
        hook(daemon, {"kind": "branch", "ref": f"many-{number}"})
    text = tried(daemon, "hook", "--last", "3")
    assert [f"branch/many-{number}" in text for number in range(5)] == [False, False, True, True, True]


def test_what_was_refused_at_the_door_is_not_kept(daemon: Daemon) -> None:
    hook(daemon, {"kind": "branch", "ref": "the-last-good-one"})
    assert "reason" in hook(daemon, b"{not json")
    assert_said(tried(daemon, "hook", "--last", "1"), "the-last-good-one")


def test_an_edited_file_is_tried_while_the_daemon_runs_on_with_the_old_one(daemon: Daemon) -> None:
    hook(daemon, {"kind": "branch", "ref": "edited"})
    daemon.config.write_text(daemon.config.read_text().replace("'branch/' + body.ref", "'new/' + body.ref"))
    assert_said(tried(daemon, "hook", "--last", "1"), "new/edited")
    again = hook(daemon, {"kind": "branch", "ref": "still-old"})
    assert_said(daemon.lhd("explain", again["id"]).stdout, "branch/still-old")


DEADLY = {
    "there is no ExternalEventDef": ('event = "keyed"\nkey = "\'branch/', 'event = "no-such-event"\nkey = "\'branch/'),
    "JSON_ARR given": (
        'event = "keyed"\nkey = "\'branch/\' + body.ref"\ncontent = "{\'told\': body.ref}"',
        'event = "approved"\nwf_run = "\'some-run\'"\ncontent = "[body.ref]"',
    ),
    "no run waits": ("key = \"'branch/' + body.ref\"", 'on_unmatched = "dead"\nkey = "body.ref"'),
}


@pytest.mark.parametrize("how", ["--last", "--file"])
@pytest.mark.parametrize(("reason", "edit"), DEADLY.items(), ids=DEADLY)
def test_an_edit_that_would_make_signals_dead_is_told_with_the_reason(
    daemon: Daemon, tmp_path: Path, reason: str, edit: tuple[str, str], how: str
) -> None:
    payload = {"kind": "branch", "ref": f"{reason} {how}"}
    assert hook(daemon, payload)["verdict"] == "accepted"
    daemon.config.write_text(daemon.config.read_text().replace(*edit))
    what = "1" if how == "--last" else file_of(tmp_path, payload | {"new": True})
    assert_said(tried(daemon, "hook", how, what), ": dead: ", reason)


def test_an_edit_that_would_filter_signals_is_told(daemon: Daemon) -> None:
    assert hook(daemon, {"kind": "branch", "ref": "no longer"}, x_delivery="d-filter")["verdict"] == "accepted"
    daemon.config.write_text(daemon.config.read_text().replace("body.kind == 'branch'", "body.kind == 'tag'"))
    assert_said(tried(daemon, "hook", "--last", "1"), "filtered")


def test_a_file_with_a_mistake_is_told_and_not_tried(daemon: Daemon) -> None:
    daemon.config.write_text(daemon.config.read_text().replace("'branch/' + body.ref", "'branch/' + payload.ref"))
    result = daemon.lhd("try", "hook", "--last", "1")
    assert result.returncode in (1, 78)
    assert f"{daemon.config}:" in result.stderr
    assert "payload" in result.stderr


def test_one_route_can_be_tried(daemon: Daemon) -> None:
    hook(daemon, {"kind": "branch", "ref": "one-route"})
    assert_said(tried(daemon, "hook", "branch", "--last", "1"), "branch/one-route")
    text = said_in_vain(daemon, "hook", "approval", "--last", "1")
    assert "approval" in text
    assert "branch/one-route" not in text


def test_a_duplicate_of_what_is_stored_is_mapped_all_the_same(daemon: Daemon) -> None:
    for _ in range(2):
        deliver(daemon, "/hooks/in", {"kind": "branch", "ref": "twice"}, "same")
    assert tried(daemon, "hook", "--last", "2").count("branch/twice") == 2


def test_nothing_of_a_try_reaches_a_run(daemon: Daemon) -> None:
    run_wf(daemon, "by-run", "untouched")
    before = daemon.lhd("explain", "untouched").stdout
    hook(daemon, {"kind": "approval", "run": "somebody"}, "/hooks/in?at=noon", x_by="x")
    daemon.config.write_text(daemon.config.read_text().replace('"body.run"', "\"'untouched'\""))
    assert_said(tried(daemon, "hook", "--last", "1"), "untouched")
    assert daemon.lhd("explain", "untouched").stdout == before


# What is kept


def said_in_vain(daemon: Daemon, *arguments: str) -> str:
    """What try says where it has nothing to try."""
    result = daemon.lhd("try", *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def test_a_source_that_keeps_no_payloads_has_none_to_try(daemon: Daemon) -> None:
    assert hook(daemon, {"ref": "x"}, "/hooks/quiet")["verdict"] == "accepted"
    assert "kept" in said_in_vain(daemon, "quiet", "--last", "1")


def test_a_source_keeps_as_many_payloads_as_it_says(daemon: Daemon) -> None:
    for number in range(4):
        hook(daemon, {"ref": f"{number}"}, "/hooks/few")
    text = tried(daemon, "few", "--last", "100")
    assert [f"few/{number}" in text for number in range(4)] == [False, False, True, True]


def test_a_source_keeps_as_many_bytes_of_payloads_as_it_says(daemon: Daemon) -> None:
    for number in range(6):
        hook(daemon, {"ref": f"{number}", "padding": "x" * 300}, "/hooks/small")
    text = tried(daemon, "small", "--last", "100")
    kept = [number for number in range(6) if f"small/{number}" in text]
    assert kept in ([5], [4, 5], [3, 4, 5])


def test_a_payload_that_is_larger_than_all_that_is_kept_is_not_kept(daemon: Daemon) -> None:
    assert hook(daemon, {"ref": "huge", "padding": "x" * 5000}, "/hooks/small")["verdict"] == "accepted"
    result = daemon.lhd("try", "small", "--last", "100")
    assert "small/huge" not in result.stdout


def test_no_credential_is_kept_with_a_payload(daemon: Daemon) -> None:
    hook(daemon, {"kind": "branch", "ref": "secretive"}, authorization="Bearer hunter2", x_shown="shown")
    for header, said in (("x-shown", "shown"), ("authorization", "dead")):
        before = daemon.config.read_text()
        daemon.config.write_text(before.replace("{'told': body.ref}", f"headers['{header}']"))
        text = tried(daemon, "hook", "--last", "1")
        daemon.config.write_text(before)
        assert said in text
        assert "hunter2" not in text


def test_payloads_are_in_memory_only(tmp_path: Path) -> None:
    with live(tmp_path, TOML) as daemon:
        hook(daemon, {"kind": "nothing", "word": "hunter2"})
        assert not any(b"hunter2" in path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
        daemon.stop()
        daemon.start()
        said_in_vain(daemon, "hook", "--last", "1")


# A file


def test_a_file_is_mapped_with_the_headers_and_the_query_that_are_given(daemon: Daemon, tmp_path: Path) -> None:
    payload = file_of(tmp_path, {"kind": "approval", "run": "from-file"})
    text = tried(daemon, "hook", "--file", payload, "--header", "X-By: ann, at ", "--query", "at=midnight")
    assert_said(text, "accepted", "approval", "from-file", "midnight", "ann")


def test_several_headers_and_queries_can_be_given(daemon: Daemon, tmp_path: Path) -> None:
    daemon.config.write_text(
        daemon.config.read_text().replace("headers['x-by'] + query.at", "headers['x-a'] + headers['x-b'] + query.c")
    )
    payload = file_of(tmp_path, {"kind": "approval", "run": "r"})
    headers = ("--header", "X-A: one", "--header", "X-B: two")
    queries = ("--query", "b=no", "--query", "c=a=three")
    assert_said(tried(daemon, "hook", "--file", payload, *headers, *queries), "onetwoa=three")


def test_a_file_is_read_by_the_media_type_that_is_given(daemon: Daemon, tmp_path: Path) -> None:
    payload = file_of(tmp_path, b"kind=branch&ref=of+a+form", "form.txt")
    form = ("--header", "Content-Type: application/x-www-form-urlencoded")
    assert_said(tried(daemon, "hook", "--file", payload, *form), "branch/of a form")


def test_a_file_that_is_not_what_its_type_says_is_exit_code_1(daemon: Daemon, tmp_path: Path) -> None:
    assert "JSON" in said_in_vain(daemon, "hook", "--file", file_of(tmp_path, b"{not json"))


def test_a_file_that_is_not_there_is_named(daemon: Daemon) -> None:
    result = daemon.lhd("try", "hook", "--file", "none-such.json")
    assert result.returncode in (1, 2)
    assert "none-such.json" in result.stderr
    assert "Traceback" not in result.stderr


# Exit codes


@pytest.mark.parametrize("arguments", [("none-such",), ("hook", "none-such")])
def test_an_unknown_source_or_route_is_told(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    hook(daemon, {"kind": "branch", "ref": "x"})
    assert "none-such" in said_in_vain(daemon, *arguments, "--last", "1")


@pytest.mark.parametrize(
    "arguments",
    [[], ["hook", "--last", "x"], ["hook", "--last", "0"], ["hook", "--file", __file__, "--header", "no colon"]],
)
def test_a_usage_error_is_exit_code_2(daemon: Daemon, arguments: list[str]) -> None:
    assert daemon.lhd("try", *arguments).returncode == 2


def test_file_and_last_together_or_neither_is_a_usage_error(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.lhd("try", "hook").returncode == 2
    assert daemon.lhd("try", "hook", "--last", "1", "--file", file_of(tmp_path, {})).returncode == 2


def test_without_a_daemon_the_exit_code_is_69(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_text(daemon.config.read_text() + TOML)
    assert daemon.lhd("try", "hook", "--last", "1").returncode == 69
