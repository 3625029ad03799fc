"""The main job, end to end: the real process, the real SDK over gRPC and real HTTP."""

import uuid
from collections.abc import Callable

from littlehorse.model import (
    CorrelatedEventId,
    ExternalEvent,
    ExternalEventDefId,
    ExternalEventId,
    LHStatus,
    ListExternalEventsRequest,
    NodeRunId,
    PutExternalEventRequest,
    VariableValue,
    WfRun,
    WfRunId,
)

from tests.e2e.process import Daemon, eventually

Run = Callable[..., WfRun]


def ended(daemon: Daemon, wf_run_id: str) -> WfRun:
    stub = daemon.stub()

    def look() -> WfRun | None:
        wf_run: WfRun = stub.GetWfRun(WfRunId(id=wf_run_id))
        return None if wf_run.status == LHStatus.RUNNING else wf_run

    return eventually(f"the end of run {wf_run_id}", look)


def output(wf_run: WfRun) -> str:
    assert wf_run.status == LHStatus.COMPLETED
    return wf_run.thread_runs[0].output.str


def events_of(daemon: Daemon, wf_run_id: str) -> list[ExternalEvent]:
    request = ListExternalEventsRequest(wf_run_id=WfRunId(id=wf_run_id))
    return list(daemon.stub().ListExternalEvents(request).results)


def approve(daemon: Daemon, wf_run_id: str, content: str, guid: str) -> ExternalEvent:
    reply: ExternalEvent = daemon.stub().PutExternalEvent(
        PutExternalEventRequest(
            wf_run_id=WfRunId(id=wf_run_id),
            external_event_def_id=ExternalEventDefId(name="approved"),
            content=VariableValue(str=content),
            guid=guid,
        )
    )
    return reply


def test_a_signed_webhook_wakes_the_waiting_run_and_a_worker_gets_the_payload(
    daemon: Daemon, run: Run, worker: None
) -> None:
    run("on-branch", "waits", branch="feature-1")
    assert daemon.branch_created("feature-1")[0] == 202
    assert output(ended(daemon, "waits")) == "octocat made feature-1"


def test_a_webhook_that_comes_before_the_run_is_kept_for_it(daemon: Daemon, run: Run, worker: None) -> None:
    assert daemon.branch_created("feature-2")[0] == 202
    run("on-branch", "comes-later", branch="feature-2")
    assert output(ended(daemon, "comes-later")) == "octocat made feature-2"


def test_a_webhook_wakes_only_the_run_that_waits_for_its_key(daemon: Daemon, run: Run, worker: None) -> None:
    run("on-branch", "mine", branch="mine")
    run("on-branch", "other", branch="other")
    assert daemon.branch_created("mine")[0] == 202
    assert output(ended(daemon, "mine")) == "octocat made mine"
    assert daemon.stub().GetWfRun(WfRunId(id="other")).status == LHStatus.RUNNING


def test_an_event_can_name_the_run_before_the_run_exists(daemon: Daemon, run: Run) -> None:
    assert daemon.hook({"run": "early", "value": "yes"}, event="typed")[0] == 202
    assert [event.claimed for event in events_of(daemon, "early")] == [False]
    assert output(run("on-approval", "early")) == "yes"
    assert [event.claimed for event in events_of(daemon, "early")] == [True]


def test_of_two_events_for_one_wait_the_oldest_wins_and_the_other_stays_unclaimed(daemon: Daemon, run: Run) -> None:
    approve(daemon, "two", "first", "zzz")
    approve(daemon, "two", "second", "aaa")
    assert output(run("on-approval", "two")) == "first"
    assert {event.id.guid: event.claimed for event in events_of(daemon, "two")} == {"zzz": True, "aaa": False}


def test_a_wait_that_times_out_ends_the_run_with_timeout(daemon: Daemon, run: Run) -> None:
    run("on-deadline", "late")
    assert ended(daemon, "late").status == LHStatus.ERROR
    node_run = daemon.stub().GetNodeRun(NodeRunId(wf_run_id=WfRunId(id="late"), thread_run_number=0, position=1))
    assert [failure.failure_name for failure in node_run.failures] == ["TIMEOUT"]
    assert "arrive in time" in node_run.failures[0].message


def test_the_same_delivery_again_is_a_duplicate_and_makes_no_second_event(daemon: Daemon, run: Run) -> None:
    run("on-approval", "once")
    delivery = str(uuid.uuid4())
    first = daemon.hook({"run": "once", "value": "yes"}, event="typed", delivery=delivery)
    again = daemon.hook({"run": "once", "value": "yes"}, event="typed", delivery=delivery)
    assert (first[0], first[1]["verdict"]) == (202, "accepted")
    assert (again[0], again[1]["verdict"]) == (200, "duplicate")
    assert again[1]["id"] == first[1]["id"]
    assert len(events_of(daemon, "once")) == 1


def test_a_delivery_signed_with_another_secret_is_refused_and_leaves_nothing(daemon: Daemon, run: Run) -> None:
    run("on-approval", "forged")
    status, answer = daemon.hook({"run": "forged", "value": "yes"}, event="typed", secret=b"guess")
    assert status == 401
    assert answer == {"reason": "unauthorized"}
    assert events_of(daemon, "forged") == []


def test_both_secrets_of_a_rotation_are_taken(daemon: Daemon, run: Run) -> None:
    run("on-approval", "rotated")
    status, _ = daemon.hook({"run": "rotated", "value": "yes"}, event="typed", secret=b"the one before")
    assert status == 202


def test_the_live_correlated_event_can_be_read_until_it_has_been_correlated(daemon: Daemon, run: Run) -> None:
    daemon.branch_created("kept")
    event_id = CorrelatedEventId(
        key="octocat/hello-world:kept", external_event_def_id=ExternalEventDefId(name="branch-created")
    )
    assert daemon.stub().GetCorrelatedEvent(event_id).content.json_obj == '{"branch":"kept","by":"octocat"}'


def test_an_event_of_a_delivery_has_the_deliverys_id_as_its_guid(daemon: Daemon, run: Run) -> None:
    _, answer = daemon.hook({"run": "named", "value": "yes"}, event="typed")
    event_id = ExternalEventId(
        wf_run_id=WfRunId(id="named"),
        external_event_def_id=ExternalEventDefId(name="approved"),
        guid=answer["id"],
    )
    assert daemon.stub().GetExternalEvent(event_id).content.str == "yes"
