"""Holds the sender's book against the daemon's rows and answers, once everything has settled."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from littlehorse.model import ExternalEvent, LHStatus, LittleHorseStub, NodeRun, TaskRun, TaskStatus, WfRun, WfRunId

from tests.crash.driver import Sent, Started

EMPTY_AT_THE_END = (
    "marker",
    "timer",
    "queued_task",
    "queued_event",
    "correlated_event",
    "correlated_event_origin",
    "external_event_origin",
    "dead_letter",
)


class Rows:
    """The SQLite file of a daemon that has stopped."""

    def __init__(self, data: Path) -> None:
        with closing(sqlite3.connect(f"file:{data / 'lhd.sqlite'}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            self.left = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in EMPTY_AT_THE_END}
            self.ledger = connection.execute(
                "SELECT delivery_id, identity, verdict, outcome, run, correlation_key, guid FROM ledger"
            ).fetchall()
            self.seen = dict(connection.execute("SELECT delivery_id, identity FROM seen_delivery").fetchall())
            self.wf_runs = [WfRun.FromString(body) for body in _bodies(connection, "wf_run")]
            self.node_runs = [NodeRun.FromString(body) for body in _bodies(connection, "node_run")]
            self.task_runs = [TaskRun.FromString(body) for body in _bodies(connection, "task_run")]
            self.events = [ExternalEvent.FromString(body) for body in _bodies(connection, "external_event")]


def _bodies(connection: sqlite3.Connection, table: str) -> Iterable[bytes]:
    return [body for (body,) in connection.execute(f"SELECT body FROM {table}")]


def deliveries(started: list[Started]) -> list[Sent]:
    return [sent for one in started for sent in one.deliveries]


def check_answers(started: list[Started]) -> None:
    """Each delivery was accepted once, and heard of as a duplicate ever after; each run was started once."""
    for sent in deliveries(started):
        statuses = [(status, answer["verdict"]) for status, answer in sent.answers]
        assert statuses, sent
        assert set(statuses) <= {(202, "accepted"), (200, "duplicate")}, sent
        assert (202, "accepted") not in statuses[1:], f"accepted twice: {sent}"
        assert statuses[0] == (202, "accepted") or sent.cut, f"a duplicate of nothing: {sent}"
        assert len({answer["id"] for _, answer in sent.answers}) == 1, sent
    for one in started:
        assert one.answers[0] == grpc.StatusCode.OK or one.cut, one
        assert set(one.answers[1:]) <= {grpc.StatusCode.ALREADY_EXISTS}, one
        assert one.answers[0] in (grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS), one


def check_ledger(started: list[Started], rows: Rows) -> None:
    """What was answered is in the ledger under the same id, was delivered, and there is nothing else."""
    ids = {sent.answers[0][1]["id"]: sent for sent in deliveries(started)}
    assert len(ids) == len(deliveries(started)), "two deliveries were given one id"
    assert Counter(row[0] for row in rows.ledger) == Counter(ids.keys())
    assert rows.seen.keys() == ids.keys()
    assert len(set(rows.seen.values())) == len(ids), "an identity stands for two deliveries"
    for delivery_id, identity, verdict, outcome, run, correlation_key, guid in rows.ledger:
        sent = ids[delivery_id]
        assert (verdict, outcome) == ("accepted", "delivered"), sent
        assert rows.seen[delivery_id] == identity
        if sent.event == "typed":
            assert (run, guid) == (sent.payload["run"], delivery_id)
        else:
            assert correlation_key == f"octocat/hello-world:{sent.payload['ref']}"


def check_events(started: list[Started], rows: Rows) -> None:
    """One event for each delivery, one NodeRun for each event, one event for each NodeRun that waited."""
    assert len(rows.events) == len(deliveries(started))
    assert all(event.claimed for event in rows.events)
    waits = [node_run for node_run in rows.node_runs if node_run.HasField("external_event")]
    taken = Counter(
        node_run.external_event.external_event_id.SerializeToString(deterministic=True) for node_run in waits
    )
    made = Counter(event.id.SerializeToString(deterministic=True) for event in rows.events)
    assert taken == made
    assert set(made.values()) <= {1}
    by_id = {event.id.SerializeToString(deterministic=True): event for event in rows.events}
    for node_run in waits:
        event = by_id[node_run.external_event.external_event_id.SerializeToString(deterministic=True)]
        assert event.id.wf_run_id == node_run.id.wf_run_id
        assert (event.thread_run_number, event.node_run_position) == (
            node_run.id.thread_run_number,
            node_run.id.position,
        )


def expected_output(one: Started) -> set[str]:
    """What the run must come to; of a pair the order is open."""
    match one.workflow:
        case "on-approval":
            return {one.deliveries[0].payload["value"]}
        case "on-branch":
            return {f"cat-0 made {one.wf_run_id}"}
    return {"cat-0 cat-1", "cat-1 cat-0"}


def check_run(one: Started, wf_run: WfRun) -> None:
    assert wf_run.status == LHStatus.COMPLETED, wf_run
    assert wf_run.thread_runs[0].output.str in expected_output(one), wf_run


def check_runs(started: list[Started], rows: Rows) -> None:
    """Every run that was asked for, and no other, completed with what its deliveries brought."""
    found = {wf_run.id.id: wf_run for wf_run in rows.wf_runs}
    assert found.keys() == {one.wf_run_id for one in started}
    for one in started:
        check_run(one, found[one.wf_run_id])
    assert {node_run.status for node_run in rows.node_runs} <= {LHStatus.COMPLETED}


def check_tasks(rows: Rows) -> None:
    """Each TASK NodeRun has its TaskRun, which succeeded; only a lost worker's timeout made another attempt."""
    nodes = [node_run.task.task_run_id for node_run in rows.node_runs if node_run.HasField("task")]
    assert _counted(nodes) == _counted(task_run.id for task_run in rows.task_runs)
    for task_run in rows.task_runs:
        *lost, last = task_run.attempts
        assert task_run.status == last.status == TaskStatus.TASK_SUCCESS, task_run
        assert {attempt.status for attempt in lost} <= {TaskStatus.TASK_TIMEOUT}, task_run


def _counted(messages: Iterable[Any]) -> Counter[bytes]:
    return Counter(message.SerializeToString(deterministic=True) for message in messages)


def check_nothing_is_left(rows: Rows) -> None:
    """No marker, no timer, no queued task and no event that is still on its way."""
    assert {table: left for table, left in rows.left.items() if left} == {}


def check_api(started: list[Started], stub: LittleHorseStub) -> None:
    """The API tells the same as the rows."""
    for one in started:
        check_run(one, stub.GetWfRun(WfRunId(id=one.wf_run_id)))


def check_rows(started: list[Started], rows: Rows) -> None:
    check_ledger(started, rows)
    check_events(started, rows)
    check_runs(started, rows)
    check_tasks(rows)
    check_nothing_is_left(rows)
