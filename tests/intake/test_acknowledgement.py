"""``ack``: how long a sender's answer waits, what it then says, and that nothing is taken back."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from littlehorse.model import (
    DeleteWfRunRequest,
    LHStatus,
    PutWorkflowEventDefRequest,
    ResumeWfRunRequest,
    StopWfRunRequest,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.cli.live import deliver, live, query, run_wf
from tests.e2e.process import Daemon, eventually
from tests.intake.behind import PATH, House, by_run, open_house, until
from tests.webhook.door import Answer

TARGETS = {
    "key": 'event = "keyed"\nkey = "body.to"\ncontent = "body.value"\n',
    "run": 'event = "approved"\nwf_run = "body.to"\ncontent = "body.value"\n',
}
LEVELS = ["matched", "consumed", "result"]
FOR_EVER = "ack_timeout_s = 300\n"
SHORT = "ack_timeout_s = 0.2\n"

by_target = pytest.mark.parametrize("target", TARGETS)
by_level = pytest.mark.parametrize("level", LEVELS)


def ack(level: str) -> str:
    return f'ack = "{level}"\n'


def signal(to: str = "r", value: Any = "yes") -> dict[str, Any]:
    return {"to": to, "value": value}


async def start(house: House, target: str, run: str = "r") -> None:
    """A run that waits for the signal to ``run``, and ends with it."""
    if target == "key":
        await house.run("by-key", run, key=run)
    else:
        await house.run("by-run", run)


def reached(answer: Answer) -> tuple[int, str, str, str]:
    """The answer of a level that was reached."""
    return answer.status, answer.json["verdict"], answer.json["ack"], answer.json["run"]


def missed(answer: Answer) -> tuple[int, str, str]:
    """The answer of a level that was not."""
    return answer.status, answer.json["verdict"], answer.json["ack"]


# When a level is reached


@by_level
@by_target
async def test_where_a_run_waits_already_the_answer_comes_at_once(tmp_path: Path, target: str, level: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + ack(level) + FOR_EVER) as house:
        await start(house, target)
        answer = await house.deliver(signal())
        assert reached(answer) == (200, "accepted", level, "r")
        assert await house.output("r") == "yes"


@by_level
@by_target
async def test_the_answer_waits_for_a_run_that_comes_later(tmp_path: Path, target: str, level: str) -> None:
    async with open_house(tmp_path, TARGETS[target] + ack(level) + FOR_EVER) as house:
        sending = await house.begin(signal())
        assert not sending.is_answered
        await start(house, target)
        assert reached(await sending.answer()) == (200, "accepted", level, "r")


@by_level
@by_target
async def test_after_the_deadline_the_answer_is_202_and_a_later_run_still_gets_the_event(
    tmp_path: Path, target: str, level: str
) -> None:
    async with open_house(tmp_path, TARGETS[target] + ack(level) + SHORT) as house:
        answer = await house.deliver(signal())
        assert missed(answer) == (202, "accepted", "stored")
        await start(house, target)
        assert await house.output("r") == "yes"
        assert await house.rows("ledger", "delivery_id, outcome") == [(answer.json["id"], "delivered")]


@pytest.mark.parametrize("route", [TARGETS["key"], TARGETS["key"] + ack("stored")])
async def test_stored_is_the_default_and_is_202_also_where_a_run_waits(tmp_path: Path, route: str) -> None:
    async with open_house(tmp_path, route) as house:
        await start(house, "key")
        answer = await house.deliver(signal())
        assert (answer.status, answer.json["verdict"]) == (202, "accepted")
        assert await house.output("r") == "yes"


@pytest.mark.parametrize("level", ["matched", "consumed"])
async def test_without_a_timeout_of_the_route_there_is_a_deadline_too(tmp_path: Path, level: str) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack(level)) as house:
        assert missed(await house.deliver(signal())) == (202, "accepted", "stored")


def waits_elsewhere(thread: WorkflowThread) -> None:
    thread.wait_for_event("go")
    thread.complete(thread.wait_for_event("approved"))


async def test_a_run_that_is_not_there_yet_with_its_node_has_matched_and_not_consumed(tmp_path: Path) -> None:
    async with open_house(
        tmp_path,
        "when = \"body.value == 'first'\"\n" + TARGETS["run"] + ack("matched") + FOR_EVER,
        TARGETS["run"] + ack("consumed") + SHORT,
    ) as house:
        await house.register("elsewhere", waits_elsewhere)
        await house.run("elsewhere", "r")
        assert reached(await house.deliver(signal(value="first"))) == (200, "accepted", "matched", "r")
        assert missed(await house.deliver(signal(value="second"))) == (202, "accepted", "matched")
        await house.put_event("go", "r")
        assert await house.output("r") == "first"


async def test_the_answer_waits_until_the_run_comes_to_its_node(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["run"] + ack("consumed") + FOR_EVER) as house:
        await house.register("elsewhere", waits_elsewhere)
        await house.run("elsewhere", "r")
        sending = await house.begin(signal())
        assert not sending.is_answered
        await house.put_event("go", "r")
        assert reached(await sending.answer()) == (200, "accepted", "consumed", "r")


async def test_an_interrupt_that_takes_the_event_has_consumed_it(tmp_path: Path) -> None:
    def interruptible(thread: WorkflowThread) -> None:
        thread.add_interrupt_handler("approved", lambda _: None)
        thread.wait_for_event("go")

    async with open_house(tmp_path, TARGETS["run"] + ack("consumed") + FOR_EVER) as house:
        await house.register("interruptible", interruptible)
        await house.run("interruptible", "r")
        assert reached(await house.deliver(signal())) == (200, "accepted", "consumed", "r")


@by_target
async def test_a_stopped_run_has_matched_and_consumes_when_it_is_resumed(tmp_path: Path, target: str) -> None:
    async with open_house(
        tmp_path,
        "when = \"body.value == 'match'\"\n" + TARGETS[target] + ack("matched") + FOR_EVER,
        TARGETS[target] + ack("consumed") + FOR_EVER,
    ) as house:
        for run, value in (("one", "match"), ("two", "consume")):
            await start(house, target, run)
            await house.submit(StopWfRunRequest(wf_run_id=WfRunId(id=run)))
            sending = await house.begin(signal(run, value))
            if value == "consume":
                assert not sending.is_answered
                await house.submit(ResumeWfRunRequest(wf_run_id=WfRunId(id=run)))
                assert reached(await sending.answer()) == (200, "accepted", "consumed", run)
            else:
                assert reached(await sending.answer()) == (200, "accepted", "matched", run)
                assert await house.status(run) != LHStatus.COMPLETED


async def test_a_run_that_has_ended_does_not_match(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["run"] + ack("matched") + SHORT) as house:
        await start(house, "run")
        await house.put_event("approved", "r", "by API")
        assert missed(await house.deliver(signal())) == (202, "accepted", "stored")


async def test_events_that_queue_for_one_key_are_answered_as_each_is_taken(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack("consumed") + FOR_EVER) as house:
        first = await house.begin(signal("k", "1"))
        second = await house.begin(signal("k", "2"))
        await house.run("by-key", "one", key="k")
        assert reached(await first.answer())[3] == "one"
        assert not second.is_answered
        await house.run("by-key", "two", key="k")
        assert reached(await second.answer())[3] == "two"
        assert [await house.output(run) for run in ("one", "two")] == ["1", "2"]


# What started the run


STARTS = {
    "start": 'start = { wf_spec = "by-run", id = "body.to" }\n',
    "start with event": 'start = { wf_spec = "by-run", id = "body.to" }\nevent = "approved"\ncontent = "body.value"\n',
    "start where none waits": TARGETS["key"]
    + 'on_unmatched = "start"\nstart = { wf_spec = "by-key", id = "body.to", variables = "{\'key\': body.to}" }\n',
}


@pytest.mark.parametrize("level", ["matched", "consumed"])
@pytest.mark.parametrize("route", STARTS.values(), ids=STARTS)
async def test_a_route_that_starts_a_run_has_matched_and_consumed_at_once(
    tmp_path: Path, route: str, level: str
) -> None:
    async with open_house(tmp_path, route + ack(level) + FOR_EVER) as house:
        assert reached(await house.deliver(signal())) == (200, "accepted", level, "r")


async def test_the_result_of_a_started_run_is_its_end(tmp_path: Path) -> None:
    async with open_house(tmp_path, STARTS["start"] + ack("result") + FOR_EVER) as house:
        sending = await house.begin(signal())
        assert not sending.is_answered
        await house.put_event("approved", "r", "by API")
        assert result_of(await sending.answer()) == ("COMPLETED", "by API")


async def test_the_result_of_start_or_signal_may_be_there_at_once(tmp_path: Path) -> None:
    async with open_house(tmp_path, STARTS["start with event"] + ack("result") + FOR_EVER) as house:
        assert result_of(await house.deliver(signal())) == ("COMPLETED", "yes")


# Results


def result_of(answer: Answer) -> tuple[str, Any]:
    assert reached(answer) == (200, "accepted", "result", "r")
    return answer.json["status"], answer.json["result"]


@pytest.mark.parametrize("value", ["text", "", 7, 1.5, True, {"a": [1, None, {"b": "c"}]}, [1, "x"], None], ids=repr)
async def test_the_result_is_the_output_of_the_run_as_json(tmp_path: Path, value: Any) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack("result") + FOR_EVER) as house:
        await start(house, "key")
        assert result_of(await house.deliver(signal(value=value))) == ("COMPLETED", value)


def silent(thread: WorkflowThread) -> None:
    thread.wait_for_event("approved")


async def test_a_run_without_output_has_an_empty_result(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["run"] + ack("result") + FOR_EVER) as house:
        await house.register("silent", silent)
        await house.run("silent", "r")
        assert result_of(await house.deliver(signal())) == ("COMPLETED", None)


async def test_the_result_waits_for_the_end_of_the_run(tmp_path: Path) -> None:
    def long(thread: WorkflowThread) -> None:
        said = thread.wait_for_event("approved")
        thread.wait_for_event("go")
        thread.complete(said)

    async with open_house(tmp_path, TARGETS["run"] + ack("result") + FOR_EVER) as house:
        await house.register("long", long)
        await house.run("long", "r")
        sending = await house.begin(signal())
        assert not sending.is_answered
        await house.put_event("go", "r")
        assert result_of(await sending.answer()) == ("COMPLETED", "yes")


async def test_after_the_deadline_of_a_result_the_answer_tells_how_far_the_event_came(tmp_path: Path) -> None:
    def long(thread: WorkflowThread) -> None:
        thread.wait_for_event("approved")
        thread.wait_for_event("go")

    async with open_house(tmp_path, TARGETS["run"] + ack("result") + SHORT) as house:
        await house.register("long", long)
        await house.run("long", "r")
        assert missed(await house.deliver(signal())) == (202, "accepted", "consumed")
        await house.put_event("go", "r")
        assert await house.status("r") == LHStatus.COMPLETED


def declines(thread: WorkflowThread) -> None:
    thread.wait_for_event("approved")
    thread.fail("declined", "not today")


def breaks(thread: WorkflowThread) -> None:
    thread.complete(thread.wait_for_event("go").with_json_path("$.x"))


@pytest.mark.parametrize(
    ("workflow", "event", "status"), [(declines, "approved", "EXCEPTION"), (breaks, "go", "ERROR")]
)
async def test_the_result_of_a_run_that_fails_is_its_status(
    tmp_path: Path, workflow: Any, event: str, status: str
) -> None:
    route = TARGETS["run"].replace("approved", event) + ack("result") + FOR_EVER
    async with open_house(tmp_path, route) as house:
        await house.register("fails", workflow)
        await house.run("fails", "r")
        assert result_of(await house.deliver(signal())) == (status, None)


def throws(*events_before: str) -> Any:
    """Take an approval, wait for more, throw ``decided`` and go on."""

    def entrypoint(thread: WorkflowThread) -> None:
        said = thread.wait_for_event("approved")
        for event in events_before:
            thread.wait_for_event(event)
        thread.throw_event("decided", said)
        thread.wait_for_event("go")

    return entrypoint


THROWN = TARGETS["run"] + ack("result") + 'workflow_event = "decided"\n'


async def register_throwing(house: House, *events_before: str) -> None:
    await house.submit(PutWorkflowEventDefRequest(name="decided"))
    await house.register("throws", throws(*events_before))
    await house.run("throws", "r")


async def test_the_result_is_the_workflow_event_while_the_run_goes_on(tmp_path: Path) -> None:
    async with open_house(tmp_path, THROWN + FOR_EVER) as house:
        await register_throwing(house)
        assert result_of(await house.deliver(signal())) == ("RUNNING", "yes")


async def test_the_answer_waits_for_a_workflow_event_that_is_thrown_later(tmp_path: Path) -> None:
    async with open_house(tmp_path, THROWN + FOR_EVER) as house:
        await register_throwing(house, "go")
        sending = await house.begin(signal())
        assert not sending.is_answered
        await house.put_event("go", "r")
        assert result_of(await sending.answer()) == ("RUNNING", "yes")


async def test_a_workflow_event_that_does_not_come_in_time_is_202(tmp_path: Path) -> None:
    async with open_house(tmp_path, THROWN + SHORT) as house:
        await register_throwing(house, "go")
        assert missed(await house.deliver(signal())) == (202, "accepted", "consumed")


async def test_a_run_that_is_deleted_meanwhile_is_202_after_the_deadline(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["run"] + ack("result") + "ack_timeout_s = 0.5\n") as house:
        await house.register("elsewhere", waits_elsewhere)
        await house.run("elsewhere", "r")
        sending = await house.begin(signal())
        await house.submit(DeleteWfRunRequest(id=WfRunId(id="r")))
        assert (await sending.answer()).status == 202


# Other verdicts


async def test_a_duplicate_waits_too_and_is_200(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack("result") + FOR_EVER) as house:
        first = await house.begin(signal(), "d")
        again = await house.begin(signal(), "d", is_known=True)
        assert not first.is_answered
        await start(house, "key")
        answers = await first.answer(), await again.answer()
        assert [reached(answer) for answer in answers] == [
            (200, "accepted", "result", "r"),
            (200, "duplicate", "result", "r"),
        ]
        assert answers[0].json["id"] == answers[1].json["id"]
        assert answers[1].json["result"] == "yes"


async def test_a_duplicate_after_the_deadline_is_200_with_the_level_that_was_reached(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack("consumed") + SHORT) as house:
        assert missed(await house.deliver(signal(), "d")) == (202, "accepted", "stored")
        assert missed(await house.deliver(signal(), "d")) == (200, "duplicate", "stored")
        await start(house, "key")
        assert reached(await house.deliver(signal(), "d")) == (200, "duplicate", "consumed", "r")


async def test_what_was_not_accepted_is_answered_at_once(tmp_path: Path) -> None:
    route = "when = \"body.to != 'nobody'\"\n" + TARGETS["key"] + ack("result") + FOR_EVER
    async with open_house(tmp_path, route) as house:
        filtered, dead = await house.deliver(signal("nobody")), await house.deliver({"to": 5})
        assert (filtered.status, filtered.json["verdict"]) == (202, "filtered")
        assert (dead.status, dead.json["verdict"]) == (422, "dead")
        await house.begin(signal(), "d")
        conflict = await house.deliver(signal(value="other"), "d")
        assert (conflict.status, conflict.json["verdict"]) == (409, "conflict")


# Many, and ends


async def test_many_answers_wait_at_once_and_each_names_its_own_run(tmp_path: Path) -> None:
    runs = [f"run-{number}" for number in range(60)]
    answers: dict[str, Answer] = {}
    async with open_house(tmp_path, TARGETS["key"] + ack("result") + FOR_EVER) as house:

        async def send(run: str) -> None:
            answers[run] = await house.deliver(signal(run, run))

        async def all_are_stored() -> bool:
            return len(await house.rows("ledger")) == len(runs)

        async with anyio.create_task_group() as senders:
            for run in runs:
                senders.start_soon(send, run)
            await until(all_are_stored)
            assert answers == {}
            for run in reversed(runs):
                await start(house, "key", run)
    assert {run: (reached(answer), answer.json["result"]) for run, answer in answers.items()} == {
        run: ((200, "accepted", "result", run), run) for run in runs
    }


async def test_a_sender_that_leaves_while_its_answer_waits_loses_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path, TARGETS["key"] + ack("result") + FOR_EVER) as house:
        body = json.dumps(signal()).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: lhd\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        async with await anyio.connect_tcp("127.0.0.1", house.door.port) as connection:
            await connection.send(head.encode() + b"\r\n\r\n" + body)
            await house.until_outcome("waiting")
        await start(house, "key")
        assert await house.output("r") == "yes"
        await start(house, "key", "other")
        assert reached(await house.deliver(signal("other"))) == (200, "accepted", "result", "other")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    route = TARGETS["run"] + ack("result") + FOR_EVER
    extra = f"""
[sources.hook]
kind = "webhook"
path = "{PATH}"
verify = {{ scheme = "none" }}

[[sources.hook.routes]]
{route}
"""
    with live(tmp_path, extra) as daemon:
        yield daemon


def test_a_daemon_that_stops_meanwhile_answers_202_and_loses_nothing(daemon: Daemon) -> None:
    answers: list[tuple[int, Any]] = []

    sender = threading.Thread(target=lambda: answers.append(deliver(daemon, PATH, signal())))
    sender.start()
    eventually("the delivery to be stored", lambda: query(daemon, "SELECT 1 FROM ledger") or None)
    assert answers == []
    assert daemon.stop() == 0
    sender.join(10)
    ((status, answer),) = answers
    assert (status, answer["verdict"], answer["ack"]) == (202, "accepted", "stored")

    daemon.start()
    stub = daemon.stub()
    stub.PutWfSpec(Workflow("by-run", by_run).compile())
    run_wf(daemon, "by-run", "r")
    wf_run = stub.GetWfRun(WfRunId(id="r"))
    assert (wf_run.status, wf_run.thread_runs[0].output) == (LHStatus.COMPLETED, to_variable_value("yes"))
