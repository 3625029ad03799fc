"""What is behind the door of a source: an engine on a clock, workflows that wait, and what is stored."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from littlehorse.model import (
    ExternalEventDefId,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    RunWfRequest,
    WfRun,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from lhd.core import kinds
from lhd.core.commands import Command
from lhd.engine import Engine
from tests.engine.test_engine import running
from tests.webhook.door import PATIENCE_S, TENANT, Answer, Door, ensure_events, open_door

PATH = "/hooks/in"

TOML = """
[[event]]
name = "keyed"
correlated = { ttl_s = 60 }

[[event]]
name = "approved"
type = "STR"

[[event]]
name = "go"

[sources.hook]
kind = "webhook"
path = "/hooks/in"
verify = { scheme = "none", id_header = "X-Delivery" }
"""


def with_routes(*routes: str) -> str:
    """The configuration of these tests with a source of these routes; each is lines of TOML."""
    return TOML + "".join(f"\n[[sources.hook.routes]]\n{route}\n" for route in routes)


class Clock:
    """The time of an engine; it passes only when a test says so."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


class Sending:
    """A delivery that is under way."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._done = anyio.Event()

    @property
    def is_answered(self) -> bool:
        return self._done.is_set()

    async def send(self, request: Awaitable[Answer]) -> None:
        self._answer = await request
        self._done.set()

    async def answer(self) -> Answer:
        """What the sender got, as soon as it got it."""
        with anyio.fail_after(PATIENCE_S):
            await self._done.wait()
        assert self._answer is not None
        return self._answer


class House:
    """The door, and the engine behind it."""

    def __init__(self, engine: Engine, door: Door, tasks: anyio.abc.TaskGroup) -> None:
        self.engine = engine
        self.door = door
        self._tasks = tasks

    async def deliver(self, body: Any, delivery: str | None = None, **headers: str) -> Answer:
        """A delivery of JSON, and its answer."""
        sent = {"content-type": "application/json", "x-delivery": delivery or str(uuid.uuid4()), **headers}
        with anyio.fail_after(PATIENCE_S):
            return await self.door.send("POST", PATH, json.dumps(body).encode(), sent)

    async def begin(self, body: Any, delivery: str | None = None, *, is_known: bool = False) -> Sending:
        """A delivery whose answer is waited for later; returns when it is stored, unless it is known already."""
        before = len(await self.rows("ledger"))
        sending = Sending()
        self._tasks.start_soon(sending.send, self.deliver(body, delivery))

        async def is_stored() -> bool:
            return is_known or sending.is_answered or len(await self.rows("ledger")) > before

        await until(is_stored)
        return sending

    async def submit(self, request: Any) -> Any:
        """A call of the API."""
        return await self.engine.submit(Command(TENANT, request))

    async def register(self, name: str, entrypoint: Callable[[WorkflowThread], None]) -> None:
        await self.submit(Workflow(name, entrypoint).compile())

    async def run(self, wf_spec: str, wf_run_id: str, **variables: Any) -> None:
        values = {name: to_variable_value(value) for name, value in variables.items()}
        await self.submit(RunWfRequest(wf_spec_name=wf_spec, id=wf_run_id, variables=values))

    async def put_event(self, event: str, wf_run_id: str, content: Any = None) -> None:
        """An event that comes by the API and not through the door."""
        request = PutExternalEventRequest(
            wf_run_id=WfRunId(id=wf_run_id),
            external_event_def_id=ExternalEventDefId(name=event),
            content=to_variable_value(content),
        )
        await self.submit(request)

    async def rows(self, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        reader = await self.engine.store.reader()
        try:
            return await reader.fetch(f"SELECT {columns} FROM {table}")
        finally:
            await reader.close()

    async def wf_run(self, wf_run_id: str) -> WfRun | None:
        """The WfRun as it is stored."""
        reader = await self.engine.store.reader()
        try:
            found: WfRun | None = await reader.get(kinds.WF_RUN, (TENANT, wf_run_id))
            return found
        finally:
            await reader.close()

    async def status(self, wf_run_id: str) -> Any:
        """The status of a WfRun that exists."""
        wf_run = await self.wf_run(wf_run_id)
        assert wf_run is not None
        return wf_run.status

    async def output(self, wf_run_id: str) -> Any:
        """What a WfRun of text has ended with."""
        wf_run = await self.wf_run(wf_run_id)
        assert wf_run is not None
        return wf_run.thread_runs[0].output.str

    async def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let time pass, and the engine see it."""
        clock.ms += int(seconds * 1000)
        await self.submit(PutExternalEventDefRequest(name="go"))

    async def until_outcome(self, outcome: str) -> None:
        """Return when the only delivery has this outcome."""

        async def is_reached() -> bool:
            return await self.rows("ledger", "outcome") == [(outcome,)]

        await until(is_reached)


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Return when a fact holds; fail when it does not come."""
    with anyio.fail_after(PATIENCE_S):
        while not await fact():  # noqa: ASYNC110 - the fact is in the database
            await anyio.sleep(0.01)


@asynccontextmanager
async def open_house(folder: Path, *routes: str, clock: Clock | None = None) -> AsyncIterator[House]:
    """Engine and door on the data in ``folder``; opened again, they find what was left there."""
    toml = with_routes(*routes)
    options = {} if clock is None else {"clock_ms": clock, "monotonic_ms": lambda: 0}
    failure: BaseException | None = None
    async with running(folder / "data", **options) as engine:
        await ensure_events(engine, toml)
        async with open_door(engine, folder, toml) as door:
            try:
                async with anyio.create_task_group() as tasks:
                    house = House(engine, door, tasks)
                    await house.register("by-key", by_key)
                    await house.register("by-run", by_run)
                    yield house
                    tasks.cancel_scope.cancel()
            except BaseException as error:  # noqa: BLE001 - raised below: a door that closes by cancelling loses it
                failure = error
    if failure is not None:
        raise failure


def by_key(thread: WorkflowThread) -> None:
    """Wait for a key, and end with what came."""
    key = thread.declare_str("key").required()
    thread.complete(thread.wait_for_event("keyed", correlation_id=key))


def by_run(thread: WorkflowThread) -> None:
    """Wait for an approval, and end with it."""
    thread.complete(thread.wait_for_event("approved"))
