"""``lhd dead``: dead letters of a running daemon are listed, shown, retried and dropped."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from littlehorse.model import (
    ExternalEventDefId,
    ExternalEventId,
    LHStatus,
    PutExternalEventDefRequest,
    WfRunId,
)
from littlehorse.workflow import Workflow

from tests.cli.live import deliver, live, query, run_wf
from tests.e2e.process import Daemon, eventually
from tests.intake.behind import by_key, by_run

SOURCE = """
[sources.{name}]
kind = "webhook"
path = "/hooks/{name}"
verify = {{ scheme = "none", id_header = "X-Delivery" }}

[[sources.{name}.routes]]
name = "approval"
when = "has(body.approve)"
event = "approved"
wf_run = "body.approve"
content = "body.value"
on_unmatched = "dead"

[[sources.{name}.routes]]
name = "from-elsewhere"
when = "headers['x-kind'] == 'elsewhere'"
event = "approved"
wf_run = "query.run"
content = "headers['x-value']"
on_unmatched = "dead"

[[sources.{name}.routes]]
name = "expires"
when = "has(body.brief)"
event = "brief"
key = "body.brief"
content = "body.value"
on_expired = "dead"

[[sources.{name}.routes]]
name = "later"
event = "defined-later"
wf_run = "'somebody'"
content = "body"
"""

TOML = """
[[event]]
name = "keyed"
correlated = {}

[[event]]
name = "brief"
correlated = { ttl_s = 1 }
""" + SOURCE.format(name="shop")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with live(tmp_path_factory.mktemp("daemon"), TOML + SOURCE.format(name="other")) as daemon:
        register(daemon)
        yield daemon


def register(daemon: Daemon) -> None:
    for name, entrypoint in (("by-key", by_key), ("by-run", by_run)):
        daemon.stub().PutWfSpec(Workflow(name, entrypoint).compile())


def hook(daemon: Daemon, body: Any, delivery: str | None = None, path: str = "/hooks/shop", **headers: str) -> Any:
    return deliver(daemon, path, body, delivery, **headers)


def dies(daemon: Daemon, body: Any, delivery: str | None = None, path: str = "/hooks/shop", **headers: str) -> str:
    """The id of a dead letter that this delivery leaves."""
    status, answer = hook(daemon, body, delivery, path, **headers)
    assert (status, answer["verdict"]) == (422, "dead")
    return str(answer["id"])


def good(daemon: Daemon, *arguments: str) -> str:
    """What a command says that succeeds."""
    result = daemon.lhd("dead", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(daemon: Daemon, *arguments: str) -> str:
    """Why a command was refused."""
    result = daemon.lhd("dead", *arguments)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def listed(daemon: Daemon, *arguments: str) -> dict[str, dict[str, Any]]:
    """The letters by id."""
    return {letter["delivery_id"]: letter for letter in json.loads(good(daemon, "list", "--json", *arguments))}


def output(daemon: Daemon, run: str) -> Any:
    wf_run = daemon.stub().GetWfRun(WfRunId(id=run))
    assert wf_run.status == LHStatus.COMPLETED
    return wf_run.thread_runs[0].output.str


# list and show


def test_the_list_tells_id_source_and_reason(daemon: Daemon) -> None:
    shop = dies(daemon, {"approve": "listed"})
    other = dies(daemon, {}, path="/hooks/other")
    lines = {line.split()[0]: line for line in good(daemon, "list").splitlines() if line.strip()}
    assert "shop" in lines[shop]
    assert "there is no 'value'" in lines[shop]
    assert "other" in lines[other]
    assert "defined-later" in lines[other]


def test_the_list_of_one_source_leaves_out_the_others(daemon: Daemon) -> None:
    shop, other = dies(daemon, {"approve": "none"}), dies(daemon, {"a": 1}, path="/hooks/other")
    text = good(daemon, "list", "--source", "shop")
    assert shop in text
    assert other not in text
    assert {letter["source"] for letter in listed(daemon, "--source", "other").values()} == {"other"}


def test_the_list_as_json_tells_the_same(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "as-json", "value": 5.5})
    dies_again = dies(daemon, {"approve": "counted"}, "d-counted")
    assert dies(daemon, {"approve": "counted"}, "d-counted") == dies_again
    letters = listed(daemon)
    assert letters[letter]["source"] == "shop"
    assert letters[letter]["reason"]
    assert [letters[one]["count"] for one in (letter, dies_again)] == [1, 2]


def test_an_unknown_source_of_the_list_has_no_letters(daemon: Daemon) -> None:
    assert listed(daemon, "--source", "none-such") == {}


def test_a_letter_is_shown_with_its_reason_its_headers_and_its_body(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "shown", "value": "gr\u00fc\u00dfe"}, x_request_id="request-5")
    text = good(daemon, "show", letter)
    for fact in (letter, "shop", "x-request-id", "request-5", "application/json", '"approve"', '"shown"'):
        assert fact in text


def test_a_letter_is_shown_as_json(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "shown-as-json"}, x_request_id="request-6")
    shown = json.loads(good(daemon, "show", letter, "--json"))
    assert (shown["delivery_id"], shown["source"]) == (letter, "shop")
    assert shown["attributes"]["headers"]["x-request-id"] == "request-6"
    assert json.loads(shown["body"]) == {"approve": "shown-as-json"}


def test_a_letter_whose_body_is_no_text_is_shown_too(daemon: Daemon) -> None:
    letter = dies(daemon, b"\xff\x00", content_type="application/octet-stream")
    assert letter in good(daemon, "show", letter)
    assert base64.b64decode(json.loads(good(daemon, "show", letter, "--json"))["body_base64"]) == b"\xff\x00"


# retry


def test_a_retry_after_the_cause_is_gone_keeps_identity_and_id(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "retried", "value": "yes"}, "d-retried")
    run_wf(daemon, "by-run", "retried")
    good(daemon, "retry", letter)
    assert output(daemon, "retried") == "yes"
    event = ExternalEventId(
        wf_run_id=WfRunId(id="retried"), external_event_def_id=ExternalEventDefId(name="approved"), guid=letter
    )
    assert daemon.stub().GetExternalEvent(event).claimed
    assert letter not in listed(daemon)
    status, answer = hook(daemon, {"approve": "retried", "value": "yes"}, "d-retried")
    assert (status, answer["verdict"], answer["id"]) == (200, "duplicate", letter)
    status, answer = hook(daemon, {"approve": "retried", "value": "other"}, "d-retried")
    assert (status, answer["verdict"]) == (409, "conflict")


def test_a_retry_while_the_cause_is_there_is_refused_with_the_reason_and_keeps_the_letter(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "still-nobody", "value": "yes"})
    reason = listed(daemon)[letter]["reason"]
    assert reason in refused(daemon, "retry", letter)
    assert letter in listed(daemon)


def test_a_retry_sees_headers_and_query_of_the_delivery(daemon: Daemon) -> None:
    letter = dies(daemon, {}, path="/hooks/shop?run=by-query", x_kind="elsewhere", x_value="from a header")
    run_wf(daemon, "by-run", "by-query")
    good(daemon, "retry", letter)
    assert output(daemon, "by-query") == "from a header"


def test_a_retry_reads_the_body_by_its_media_type(daemon: Daemon) -> None:
    form = "application/x-www-form-urlencoded"
    letter = dies(daemon, b"approve=by-form&value=a+b", content_type=form)
    run_wf(daemon, "by-run", "by-form")
    good(daemon, "retry", letter)
    assert output(daemon, "by-form") == "a b"


def test_a_retry_after_the_event_was_defined(tmp_path: Path) -> None:
    with live(tmp_path, TOML) as daemon:
        letter = dies(daemon, {"later": 1}, "d")
        daemon.stub().PutExternalEventDef(PutExternalEventDefRequest(name="defined-later"))
        good(daemon, "retry", letter)
        assert listed(daemon) == {}
        assert hook(daemon, {"later": 1}, "d")[1]["verdict"] == "duplicate"


def test_a_retry_after_a_restart_with_a_mended_route(tmp_path: Path) -> None:
    with live(tmp_path, TOML.replace('content = "body.value"', 'content = "body.valeu"')) as daemon:
        register(daemon)
        run_wf(daemon, "by-run", "mended")
        letter = dies(daemon, {"approve": "mended", "value": "yes"}, "d")
        daemon.stop()
        daemon.config.write_text(daemon.config.read_text().replace("body.valeu", "body.value"))
        daemon.start()
        good(daemon, "retry", letter)
        assert output(daemon, "mended") == "yes"
        assert hook(daemon, {"approve": "mended", "value": "yes"}, "d")[1]["verdict"] == "duplicate"


def test_a_signed_letter_is_retried_without_its_signature_and_stays_known_by_its_senders_id(tmp_path: Path) -> None:
    with live(tmp_path, TOML) as daemon:
        status, answer = daemon.hook({"run": "r"}, event="unknown", delivery="d-signed")
        assert (status, answer["verdict"]) == (422, "dead")
        daemon.stub().PutExternalEventDef(PutExternalEventDefRequest(name="no-such-event"))
        good(daemon, "retry", answer["id"])
        status, again = daemon.hook({"run": "r"}, event="unknown", delivery="d-signed")
        assert (status, again["verdict"], again["id"]) == (200, "duplicate", answer["id"])


def test_what_was_dead_by_expiry_can_be_retried(daemon: Daemon) -> None:
    status, answer = hook(daemon, {"brief": "a-key", "value": "yes"}, "d-brief")
    assert (status, answer["verdict"]) == (202, "accepted")
    letter = answer["id"]
    eventually("the letter", lambda: letter in listed(daemon) or None)
    run_wf(daemon, "by-key", "late", key="a-key")
    brief = Workflow("by-brief", lambda wf: wf.complete(wf.wait_for_event("brief", correlation_id="a-key")))
    daemon.stub().PutWfSpec(brief.compile())
    run_wf(daemon, "by-brief", "brief")
    good(daemon, "retry", letter)
    assert output(daemon, "brief") == "yes"
    assert hook(daemon, {"brief": "a-key", "value": "yes"}, "d-brief")[1]["verdict"] == "duplicate"


def test_a_second_retry_finds_no_letter(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "once-only", "value": "yes"})
    run_wf(daemon, "by-run", "once-only")
    good(daemon, "retry", letter)
    assert letter in refused(daemon, "retry", letter)


def test_what_the_sender_delivered_again_meanwhile_is_no_letter_any_more(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "again", "value": "yes"}, "d-again")
    run_wf(daemon, "by-run", "again")
    assert hook(daemon, {"approve": "again", "value": "yes"}, "d-again")[1]["verdict"] == "accepted"
    assert letter in refused(daemon, "retry", letter)


def test_a_letter_of_a_source_that_is_gone_is_refused_and_the_reason_names_the_source(tmp_path: Path) -> None:
    with live(tmp_path, TOML + SOURCE.format(name="other")) as daemon:
        letter = dies(daemon, {"approve": "r"}, path="/hooks/other")
        daemon.stop()
        daemon.config.write_text(daemon.config.read_text().replace(SOURCE.format(name="other"), ""))
        daemon.start()
        assert "other" in refused(daemon, "retry", letter)
        assert letter in listed(daemon)
        good(daemon, "drop", letter)


# drop


def test_a_dropped_letter_is_gone(daemon: Daemon) -> None:
    letter = dies(daemon, {"approve": "dropped"}, "d-dropped")
    good(daemon, "drop", letter)
    assert letter not in listed(daemon)
    assert letter in refused(daemon, "show", letter)


def test_what_was_dropped_can_be_delivered_again(daemon: Daemon) -> None:
    good(daemon, "drop", dies(daemon, {"approve": "drop-it", "value": "yes"}, "d-drop-it"))
    run_wf(daemon, "by-run", "drop-it")
    assert hook(daemon, {"approve": "drop-it", "value": "yes"}, "d-drop-it")[1]["verdict"] == "accepted"
    assert output(daemon, "drop-it") == "yes"


# Exit codes


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_a_letter_that_is_not_there_is_exit_code_1_and_named(daemon: Daemon, command: str) -> None:
    assert "no-such-letter" in refused(daemon, command, "no-such-letter")


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_an_accepted_delivery_is_no_letter(daemon: Daemon, command: str) -> None:
    _, answer = hook(daemon, {"brief": f"accepted-{command}", "value": "yes"})
    assert answer["verdict"] == "accepted"
    assert answer["id"] in refused(daemon, command, answer["id"])


@pytest.mark.parametrize("arguments", [["show"], ["retry"], ["drop"], ["bury", "x"], ["list", "--no-such-option"]])
def test_a_usage_error_is_exit_code_2(daemon: Daemon, arguments: list[str]) -> None:
    assert daemon.lhd("dead", *arguments).returncode == 2


@pytest.mark.parametrize("arguments", [["list"], ["show", "x"], ["retry", "x"], ["drop", "x"]])
def test_without_a_daemon_the_exit_code_is_69(tmp_path: Path, arguments: list[str]) -> None:
    result = Daemon(tmp_path).lhd("dead", *arguments)
    assert result.returncode == 69
    assert "admin.sock" in result.stderr


# Bounds

LIMITS = """
[limits]
dead_letters_max = 3
dead_letter_bytes_max = 1000
"""


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with live(tmp_path_factory.mktemp("bounded"), LIMITS + TOML) as daemon:
        register(daemon)
        yield daemon


def test_the_latest_letters_are_kept_and_no_more(bounded: Daemon) -> None:
    letters = [dies(bounded, {"number": number}) for number in range(5)]
    # The oldest go just after the letter that was one too many is answered.
    eventually("the oldest letters to go", lambda: set(listed(bounded)) == set(letters[2:]) or None)
    assert letters[0] in refused(bounded, "retry", letters[0])


def test_a_letter_whose_body_was_cut_is_refused_until_the_sender_delivers_again(bounded: Daemon) -> None:
    body = {"approve": "cut", "value": "yes", "padding": "x" * 2000}
    letter = dies(bounded, body, "d-cut")
    ((kept,),) = query(bounded, f"SELECT length(body) FROM dead_letter WHERE delivery_id = '{letter}'")
    assert kept <= 1000
    run_wf(bounded, "by-run", "cut")
    assert "kept" in refused(bounded, "retry", letter)
    assert letter in listed(bounded)
    status, answer = hook(bounded, body, "d-cut")
    assert (status, answer["verdict"], answer["id"]) == (202, "accepted", letter)
    assert output(bounded, "cut") == "yes"
    assert letter not in listed(bounded)


def test_a_letter_that_just_fits_is_retried(bounded: Daemon) -> None:
    body = json.dumps({"approve": "fits", "value": "yes"}).encode().ljust(1000)
    letter = dies(bounded, body)
    run_wf(bounded, "by-run", "fits")
    good(bounded, "retry", letter)
    assert output(bounded, "fits") == "yes"
