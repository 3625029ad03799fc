"""``lhd explain``: by every id that an operator may have at hand, and why an event found no run."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from littlehorse.model import (
    DeleteWfRunRequest,
    ExternalEventDefId,
    ListExternalEventsRequest,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow

from tests.cli.live import deliver, live, run_wf
from tests.e2e.process import Daemon
from tests.intake.behind import by_key, by_run

KEPT_DAYS = 40

TOML = f"""
[[event]]
name = "keyed"
correlated = {{ ttl_s = {KEPT_DAYS * 86_400} }}

[[event]]
name = "endless"
correlated = {{}}

[sources.hook]
kind = "webhook"
path = "/hooks/in"
verify = {{ scheme = "none", id_header = "X-Delivery" }}

[[sources.hook.routes]]
name = "the-keyed-route"
when = "has(body.key)"
event = "keyed"
key = "body.key"
content = "body.secret"

[[sources.hook.routes]]
name = "the-run-route"
when = "has(body.run)"
event = "approved"
wf_run = "body.run"
content = "body.secret"

[[sources.hook.routes]]
name = "the-start-route"
when = "has(body.start)"
start = {{ wf_spec = "by-run", id = "body.start" }}

[[sources.hook.routes]]
name = "the-dead-route"
when = "has(body.unknown)"
event = "no-such-event"
wf_run = "body.unknown"

[[sources.hook.routes]]
name = "the-answering-route"
when = "has(body.slow)"
event = "approved"
wf_run = "body.slow"
content = "body.secret"
ack = "result"
ack_timeout_s = 0.2
"""

SECRET = "hunter2"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with live(tmp_path_factory.mktemp("daemon"), TOML) as daemon:
        for name, entrypoint in (("by-key", by_key), ("by-run", by_run)):
            daemon.stub().PutWfSpec(Workflow(name, entrypoint).compile())
        yield daemon


def hook(daemon: Daemon, delivery: str | None = None, **body: str) -> dict[str, Any]:
    """A delivery whose content is a secret; its answer."""
    return deliver(daemon, "/hooks/in", {"secret": SECRET, **body}, delivery)[1]


def told(daemon: Daemon, wanted: str) -> str:
    """What explain says, which holds nothing of a payload."""
    result = daemon.lhd("explain", wanted)
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stdout + result.stderr
    return result.stdout


def assert_told(text: str, *facts: str) -> None:
    assert [fact for fact in facts if fact not in text] == [], text


def test_a_delivery_is_found_by_its_id_and_by_the_senders_own(daemon: Daemon) -> None:
    run_wf(daemon, "by-run", "found")
    answer = hook(daemon, "senders-own-1", run="found")
    by_id, by_sender = told(daemon, answer["id"]), told(daemon, "senders-own-1")
    for text in (by_id, by_sender):
        assert_told(text, answer["id"], "accepted", "delivered", "hook", "the-run-route", "approved", "found")


def test_what_waits_is_found_by_its_key_with_the_route_and_until_when_it_is_kept(daemon: Daemon) -> None:
    answer = hook(daemon, key="acme/app:main")
    kept = datetime.now(UTC) + timedelta(days=KEPT_DAYS)
    for wanted in (answer["id"], "acme/app:main"):
        assert_told(told(daemon, wanted), answer["id"], "waiting", "the-keyed-route", "keyed", "acme/app:main")
        assert any(f"{day:%Y-%m-%d}" in told(daemon, wanted) for day in (kept, kept - timedelta(minutes=5)))


def test_what_a_run_took_is_found_by_the_run_and_by_the_guid_of_its_event(daemon: Daemon) -> None:
    run_wf(daemon, "by-key", "taker", key="taken")
    answer = hook(daemon, key="taken")
    (event,) = daemon.stub().ListExternalEvents(ListExternalEventsRequest(wf_run_id=WfRunId(id="taker"))).results
    assert_told(told(daemon, "taker"), answer["id"], "delivered", "the-keyed-route")
    for wanted in (event.id.guid, answer["id"], "taken"):
        assert_told(told(daemon, wanted), answer["id"], "delivered", "taker", "the-keyed-route")


def test_all_deliveries_of_a_run_are_told(daemon: Daemon) -> None:
    answers = [hook(daemon, run="several") for _ in range(3)]
    assert_told(told(daemon, "several"), *(answer["id"] for answer in answers))


def test_an_event_that_came_by_the_api_is_explained_too(daemon: Daemon) -> None:
    run_wf(daemon, "by-run", "by-hand")
    request = PutExternalEventRequest(
        wf_run_id=WfRunId(id="by-hand"),
        external_event_def_id=ExternalEventDefId(name="approved"),
        guid="guid-by-hand",
        content=to_variable_value(SECRET),
    )
    daemon.stub().PutExternalEvent(request)
    assert_told(told(daemon, "guid-by-hand"), "approved", "by-hand")


def test_a_run_that_a_route_started_is_explained_by_the_delivery(daemon: Daemon) -> None:
    answer = hook(daemon, start="started")
    for wanted in ("started", answer["id"]):
        assert_told(told(daemon, wanted), answer["id"], "the-start-route", "started")


def test_a_dead_delivery_is_told_with_its_reason(daemon: Daemon) -> None:
    answer = hook(daemon, "senders-own-2", unknown="r")
    for wanted in (answer["id"], "senders-own-2"):
        assert_told(told(daemon, wanted), "dead", answer["reason"], "the-dead-route")


def test_after_the_deadline_of_an_answer_explain_tells_the_rest(daemon: Daemon) -> None:
    answer = hook(daemon, slow="late")
    assert answer["ack"] == "stored"
    assert_told(told(daemon, answer["id"]), "waiting", "late")
    run_wf(daemon, "by-run", "late")
    assert_told(told(daemon, answer["id"]), "delivered", "late")


# The nearest waits


def test_an_event_that_waits_is_told_with_the_same_event_waited_for_under_another_key(daemon: Daemon) -> None:
    run_wf(daemon, "by-key", "nearest", key="acme/app:release")
    answer = hook(daemon, key="acme/app:Release")
    assert_told(told(daemon, answer["id"]), "waiting", "nearest", "acme/app:release")
    daemon.stub().DeleteWfRun(DeleteWfRunRequest(id=WfRunId(id="nearest")))


def test_an_event_that_came_too_late_is_told_with_the_wait_that_ended_before(daemon: Daemon) -> None:
    run_wf(daemon, "by-key", "was-early", key="too-late")
    daemon.stub().PutCorrelatedEvent(
        PutCorrelatedEventRequest(
            key="too-late",
            external_event_def_id=ExternalEventDefId(name="keyed"),
            content=to_variable_value("by hand"),
        )
    )
    answer = hook(daemon, key="too-late")
    assert_told(told(daemon, answer["id"]), "waiting", "was-early")


def test_for_an_event_that_has_its_run_no_other_waits_are_told(daemon: Daemon) -> None:
    run_wf(daemon, "by-key", "bystander", key="other-key")
    run_wf(daemon, "by-key", "its-own", key="own-key")
    answer = hook(daemon, key="own-key")
    text = told(daemon, answer["id"])
    assert "its-own" in text
    assert "bystander" not in text


def test_json_holds_the_same(daemon: Daemon) -> None:
    answer = hook(daemon, "senders-own-3", key="as-json")
    result = daemon.lhd("explain", "senders-own-3", "--json")
    assert result.returncode == 0
    json.loads(result.stdout)
    assert_told(result.stdout, answer["id"], "waiting", "the-keyed-route", "as-json")
    assert SECRET not in result.stdout


# What is not there


def test_an_unknown_id_is_exit_code_1_and_says_so(daemon: Daemon) -> None:
    result = daemon.lhd("explain", "nobody-knows-this")
    assert result.returncode == 1
    assert "nobody-knows-this" in result.stderr
    assert result.stdout == ""
