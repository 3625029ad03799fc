"""``start``: routes that start a run, or start it where it is not there and then signal it."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import LHStatus, Variable, VariableValue
from littlehorse.workflow import WorkflowThread

from lhd.core import kinds
from lhd.errors import ConfigurationError
from lhd.sources.registry import Registry
from tests.intake.behind import House, open_house, with_routes
from tests.webhook.door import TENANT, Answer

VARIABLES = "variables = \"{'value': body.value}\""
PLAIN = f'start = {{ wf_spec = "takes", {VARIABLES} }}'
NAMED = f'start = {{ wf_spec = "takes", id = "body.id", {VARIABLES} }}'
SIGNAL = 'start = { wf_spec = "by-run", id = "body.id" }\nevent = "approved"\ncontent = "body.value"'


def takes(thread: WorkflowThread) -> None:
    """Take a value, and wait."""
    thread.declare_str("value")
    thread.wait_for_event("go")


def verdict(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["verdict"]


async def variable(house: House, run: str, name: str = "value") -> VariableValue:
    reader = await house.engine.store.reader()
    try:
        found: Variable = await reader.get(kinds.VARIABLE, (TENANT, run, 0, name))
        return found.value
    finally:
        await reader.close()


async def runs(house: House) -> set[str]:
    return {run for (run,) in await house.rows("wf_run", "run")}


async def assert_dead(house: House, answer: Answer) -> None:
    """The delivery is a dead letter, and nothing else is left of it."""
    assert verdict(answer) == (422, "dead")
    assert answer.json["reason"]
    assert await house.rows("dead_letter", "delivery_id") == [(answer.json["id"],)]
    assert await house.rows("seen_delivery") == []
    assert await house.rows("external_event") == []


# start alone


async def test_without_an_id_the_run_has_the_id_of_the_delivery(tmp_path: Path) -> None:
    async with open_house(tmp_path, PLAIN) as house:
        await house.register("takes", takes)
        answer = await house.deliver({"value": "yes"})
        assert verdict(answer) == (202, "accepted")
        run = await house.wf_run(answer.json["id"])
        assert run is not None
        assert (run.wf_spec_id.name, run.status) == ("takes", LHStatus.RUNNING)
        assert (await variable(house, answer.json["id"])).str == "yes"


async def test_every_delivery_without_an_id_starts_a_run_of_its_own_and_a_duplicate_none(tmp_path: Path) -> None:
    async with open_house(tmp_path, PLAIN) as house:
        await house.register("takes", takes)
        answers = [await house.deliver({"value": "same"}, delivery) for delivery in ("a", "b", "a")]
        assert [verdict(answer) for answer in answers] == [(202, "accepted"), (202, "accepted"), (200, "duplicate")]
        assert await runs(house) == {answer.json["id"] for answer in answers}


async def test_with_an_id_the_run_has_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, NAMED) as house:
        await house.register("takes", takes)
        assert verdict(await house.deliver({"id": "r", "value": "yes"})) == (202, "accepted")
        assert await runs(house) == {"r"}


@pytest.mark.parametrize("has_ended", [False, True])
async def test_where_the_run_exists_another_delivery_starts_nothing_and_is_accepted(
    tmp_path: Path, has_ended: bool
) -> None:
    async with open_house(tmp_path, NAMED) as house:
        await house.register("takes", takes)
        await house.deliver({"id": "r", "value": "first"})
        if has_ended:
            await house.put_event("go", "r")
        assert verdict(await house.deliver({"id": "r", "value": "second"})) == (202, "accepted")
        assert await runs(house) == {"r"}
        assert (await variable(house, "r")).str == "first"


@pytest.mark.parametrize("route", [NAMED, SIGNAL.replace("by-run", "takes")])
async def test_of_two_deliveries_at_once_one_starts_the_run_and_both_are_accepted(tmp_path: Path, route: str) -> None:
    answers: list[Answer] = []
    async with open_house(tmp_path, route) as house:
        await house.register("takes", takes)

        async def send(number: int) -> None:
            answers.append(await house.deliver({"id": "r", "value": f"{number}"}))

        async with anyio.create_task_group() as senders:
            for number in range(8):
                senders.start_soon(send, number)
        assert Counter(map(verdict, answers)) == {(202, "accepted"): 8}
        assert await runs(house) == {"r"}


async def test_the_latest_version_of_the_wf_spec_is_started(tmp_path: Path) -> None:
    def newer(thread: WorkflowThread) -> None:
        thread.declare_str("value")
        thread.declare_str("more", "new")

    async with open_house(tmp_path, NAMED) as house:
        await house.register("takes", takes)
        await house.deliver({"id": "old", "value": "x"})
        await house.register("takes", newer)
        await house.deliver({"id": "new", "value": "x"})
        assert (await variable(house, "new", "more")).str == "new"


async def test_variables_are_none_unless_given(tmp_path: Path) -> None:
    async with open_house(tmp_path, 'start = { wf_spec = "takes", id = "body.id" }') as house:
        await house.register("takes", takes)
        assert verdict(await house.deliver({"id": "r"})) == (202, "accepted")
        assert await variable(house, "r") == VariableValue()


# Variables


def declares(declare: str, *, is_required: bool = False) -> Callable[[WorkflowThread], None]:
    def entrypoint(thread: WorkflowThread) -> None:
        value = getattr(thread, f"declare_{declare}")("value")
        if is_required:
            value.required()

    return entrypoint


def of_value(expression: str) -> str:
    return f'start = {{ wf_spec = "typed", id = "body.id", variables = "{{\'value\': {expression}}}" }}'


FITTING = [
    ("str", "'text'", VariableValue(str="text")),
    ("str", "body.n", VariableValue(int=7)),
    ("int", "body.n", VariableValue(int=7)),
    ("double", "body.f", VariableValue(double=1.5)),
    ("double", "body.n", VariableValue(int=7)),
    ("bool", "body.n == 7", VariableValue(bool=True)),
    ("json_obj", "{'b': [1, null], 'a': body.n}", VariableValue(json_obj='{"a":7,"b":[1,null]}')),
    ("json_arr", "[1, 'a']", VariableValue(json_arr='[1,"a"]')),
    ("bytes", "b'ab'", VariableValue(bytes=b"ab")),
    (
        "timestamp",
        "timestamp('2024-02-29T12:00:00Z')",
        VariableValue(utc_timestamp=Timestamp(seconds=1_709_208_000)),
    ),
    ("int", "null", VariableValue()),
]


@pytest.mark.parametrize(("declared", "expression", "expected"), FITTING)
async def test_a_variable_gets_the_value_of_its_expression(
    tmp_path: Path, declared: str, expression: str, expected: VariableValue
) -> None:
    async with open_house(tmp_path, of_value(expression)) as house:
        await house.register("typed", declares(declared))
        assert verdict(await house.deliver({"id": "r", "n": 7, "f": 1.5})) == (202, "accepted")
        assert await variable(house, "r") == expected


@pytest.mark.parametrize(
    ("declared", "expression"),
    [("int", "'7'"), ("int", "1.0"), ("bool", "1"), ("str", "{'a': 1}"), ("json_obj", "[1]"), ("timestamp", "'now'")],
)
async def test_a_variable_that_does_not_fit_its_type_is_dead_and_the_reason_names_it(
    tmp_path: Path, declared: str, expression: str
) -> None:
    async with open_house(tmp_path, of_value(expression)) as house:
        await house.register("typed", declares(declared))
        answer = await house.deliver({"id": "r"})
        await assert_dead(house, answer)
        assert "value" in answer.json["reason"]
        assert await runs(house) == set()


# What is dead

DEAD = [
    pytest.param('wf_spec = "none-such"', "none-such", id="unknown WfSpec"),
    pytest.param('wf_spec = "typed", id = "body.word + \' !\'"', "id", id="malformed id"),
    pytest.param('wf_spec = "typed", id = "body.number"', "id", id="id is no text"),
    pytest.param('wf_spec = "typed", id = "body.absent"', "absent", id="id of a missing field"),
    pytest.param('wf_spec = "typed", variables = "body.word"', "variables", id="variables are no map"),
    pytest.param(
        'wf_spec = "typed", variables = "{\'value\': body.absent}"', "absent", id="variable of a missing field"
    ),
    pytest.param("wf_spec = \"typed\", variables = \"{'value': 'x', 'other': 'x'}\"", "other", id="unknown variable"),
    pytest.param('wf_spec = "typed"', "value", id="required variable is missing"),
]


@pytest.mark.parametrize(("start", "named"), DEAD)
async def test_a_run_that_cannot_be_started_is_a_dead_letter_whose_reason_names_the_cause(
    tmp_path: Path, start: str, named: str
) -> None:
    async with open_house(tmp_path, f"start = {{ {start} }}") as house:
        await house.register("typed", declares("str", is_required=True))
        answer = await house.deliver({"word": "hunter2", "number": 5})
        await assert_dead(house, answer)
        assert named in answer.json["reason"]
        assert "hunter2" not in answer.json["reason"]
        assert await runs(house) == set()


async def test_once_the_cause_is_gone_the_same_delivery_starts_the_run_under_its_id(tmp_path: Path) -> None:
    async with open_house(tmp_path, PLAIN) as house:
        first = await house.deliver({"value": "yes"}, "d")
        await assert_dead(house, first)
        await house.register("takes", takes)
        again = await house.deliver({"value": "yes"}, "d")
        assert verdict(again) == (202, "accepted")
        assert again.json["id"] == first.json["id"]
        assert await runs(house) == {first.json["id"]}
        assert await house.rows("dead_letter") == []


# start-or-signal


async def test_start_or_signal_starts_the_run_and_gives_it_the_event(tmp_path: Path) -> None:
    async with open_house(tmp_path, SIGNAL) as house:
        answer = await house.deliver({"id": "r", "value": "yes"})
        assert verdict(answer) == (202, "accepted")
        assert await house.output("r") == "yes"
        assert await house.rows("ledger", "delivery_id, outcome") == [(answer.json["id"], "delivered")]


async def test_start_or_signal_gives_the_event_to_the_run_that_is_there(tmp_path: Path) -> None:
    async with open_house(tmp_path, SIGNAL) as house:
        await house.run("by-run", "r")
        assert verdict(await house.deliver({"id": "r", "value": "yes"})) == (202, "accepted")
        assert await house.output("r") == "yes"
        assert await runs(house) == {"r"}


async def test_the_event_waits_for_a_run_that_does_not_wait_for_it_yet(tmp_path: Path) -> None:
    def later(thread: WorkflowThread) -> None:
        thread.wait_for_event("go")
        thread.complete(thread.wait_for_event("approved"))

    async with open_house(tmp_path, SIGNAL.replace("by-run", "later")) as house:
        await house.register("later", later)
        assert verdict(await house.deliver({"id": "r", "value": "yes"})) == (202, "accepted")
        assert await house.rows("ledger", "outcome") == [("waiting",)]
        await house.put_event("go", "r")
        assert await house.output("r") == "yes"


async def test_start_or_signal_of_a_run_that_has_ended_is_dead(tmp_path: Path) -> None:
    async with open_house(tmp_path, SIGNAL) as house:
        await house.run("by-run", "r")
        await house.put_event("approved", "r", "by API")
        answer = await house.deliver({"id": "r", "value": "yes"})
        assert verdict(answer) == (422, "dead")
        assert "ended" in answer.json["reason"]
        assert await house.output("r") == "by API"


async def test_of_an_event_that_does_not_fit_the_run_is_not_started_either(tmp_path: Path) -> None:
    async with open_house(tmp_path, SIGNAL) as house:
        answer = await house.deliver({"id": "r", "value": {"no": "text"}})
        await assert_dead(house, answer)
        assert await runs(house) == set()


async def test_of_a_run_that_cannot_be_started_the_event_is_not_stored_either(tmp_path: Path) -> None:
    async with open_house(tmp_path, SIGNAL.replace("by-run", "none-such")) as house:
        await assert_dead(house, await house.deliver({"id": "r", "value": "yes"}))
        assert await runs(house) == set()


async def test_the_deliveries_of_one_run_reach_it_in_their_order(tmp_path: Path) -> None:
    def twice(thread: WorkflowThread) -> None:
        thread.wait_for_event("approved")
        thread.complete(thread.wait_for_event("approved"))

    async with open_house(tmp_path, SIGNAL.replace("by-run", "twice")) as house:
        await house.register("twice", twice)
        for value in ("first", "second"):
            assert verdict(await house.deliver({"id": "r", "value": value})) == (202, "accepted")
        assert await house.output("r") == "second"
        assert len(await house.rows("external_event")) == 2


# Mistakes in the table of a route

KEYED, RUN, START = (
    'event = "keyed"\nkey = "\'k\'"',
    'event = "approved"\nwf_run = "\'r\'"',
    'start = { wf_spec = "s" }',
)
NAMED_START = 'start = { wf_spec = "s", id = "body.id" }'
MISTAKES: list[tuple[str, str]] = [
    ("name = 'neither'", "event"),
    (f'{START}\nevent = "approved"', "id"),
    (f"{KEYED}\nwf_run = \"'r'\"", "wf_run"),
    (f'{KEYED}\non_unmatched = "start"', "start"),
    (f'{KEYED}\non_expired = "start"', "start"),
    (f'{RUN}\non_expired = "start"', "start"),
    (f"{KEYED}\n{START}", "on_unmatched"),
    (f"{RUN}\n{NAMED_START}", "on_expired"),
    (f'{RUN}\n{NAMED_START}\non_unmatched = "start"', "wf_run"),
    (f'{NAMED_START}\nevent = "approved"\non_unmatched = "dead"', "on_unmatched"),
    *((f"{START}\n{key}", key.partition(" ")[0]) for key in ("key = \"'k'\"", "wf_run = \"'r'\"", "thread = 0")),
    *((f'{START}\n{key} = "dead"', key) for key in ("on_unmatched", "on_expired")),
    (f'{START}\ncontent = "body.x"', "content"),
    ("start = {}", "wf_spec"),
    ('start = { wf_spec = "s", idd = "body.id" }', "'id'"),
    ('start = { wf_spec = "s", id = "payload.id" }', "payload"),
    ('start = { wf_spec = "s", variables = "{\'a\': payload.a}" }', "payload"),
    ('start = { wf_spec = "s", variables = "{" }', "variables"),
    ('start = { wf_spec = "s", id = 5 }', "id"),
    (f'{KEYED}\non_unmatched = "maybe"', "on_unmatched"),
    (f'{KEYED}\non_expired = "maybe"', "on_expired"),
    (f'{KEYED}\nack = "later"', "ack"),
    *((f"{KEYED}\nack_timeout_s = {value}", "ack_timeout_s") for value in ("0", "-1", "301", "nan", '"2"')),
    (f'{KEYED}\nack = "consumed"\nworkflow_event = "e"', "workflow_event"),
]


def findings(folder: Path, toml: str) -> list[str]:
    path = folder / "lhd.toml"
    path.write_text(toml)
    with pytest.raises(ConfigurationError) as refused:
        Registry.load().load_configuration(path)
    return refused.value.findings


@pytest.mark.parametrize(("route", "named"), MISTAKES)
def test_a_mistake_in_a_route_is_told_with_its_file_and_line(tmp_path: Path, route: str, named: str) -> None:
    good = with_routes(KEYED).rstrip("\n")
    (told,) = findings(tmp_path, with_routes(KEYED, route))
    place, _, text = told.partition(": ")
    path, _, line = place.rpartition(":")
    assert path == str(tmp_path / "lhd.toml")
    assert int(line) - len(good.splitlines()) in range(1, 4 + len(route.splitlines()))
    assert named in text


@pytest.mark.parametrize(
    "route",
    [
        START,
        NAMED_START,
        f'{NAMED_START}\nevent = "approved"\ncontent = "body.x"\nthread = 0',
        f'{KEYED}\n{START}\non_unmatched = "start"',
        f'{KEYED}\n{NAMED_START}\non_unmatched = "start"\non_expired = "dead"',
        f'{RUN}\n{START}\non_expired = "start"',
        f'{RUN}\non_unmatched = "dead"\non_expired = "dead"',
        f'{KEYED}\nack = "result"\nack_timeout_s = 300\nworkflow_event = "e"',
        f'{START}\nack = "consumed"\nack_timeout_s = 0.5',
    ],
)
def test_a_route_without_a_mistake_is_loaded(tmp_path: Path, route: str) -> None:
    path = tmp_path / "lhd.toml"
    path.write_text(with_routes(route))
    _, sources = Registry.load().load_configuration(path)
    assert len(sources) == 1


def test_lhd_check_tells_the_mistakes_of_all_routes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lhd.toml"
    path.write_text(with_routes(f"{KEYED}\n{START}", KEYED, f'{RUN}\non_expired = "start"'))
    command: list[Any] = [sys.executable, "-m", "lhd", "check", "-c", path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}:") for line in lines)
    assert ["routes[0]" in lines[0], "routes[2]" in lines[1]] == [True, True]
