"""A world for tests of the pure core: everything in memory, and time moves when the test says so."""

import itertools
from typing import Any, TypeVar

from littlehorse.model import (
    Checkpoint,
    ExternalEvent,
    ExternalEventDefId,
    InactiveThreadRun,
    NodeRun,
    PutExternalEventRequest,
    PutTaskDefRequest,
    ReportTaskRun,
    ReturnType,
    RunWfRequest,
    ScheduledTask,
    TaskRun,
    TaskRunId,
    TaskStatus,
    TypeDefinition,
    UserTaskRun,
    VariableDef,
    VariableType,
    VariableValue,
    WfRun,
    WfRunId,
    WfSpec,
    WorkflowEvent,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow

from lhd.core import kinds
from lhd.core.commands import Command, decide
from lhd.core.commands.tasks import ClaimTask
from lhd.core.commands.timers import TimerDue
from lhd.core.ids import parse_wf_run_id
from lhd.core.kinds import QueuedTask, Timer
from lhd.core.records import CommandTime, Key, Kind, Memory, NotLoaded, Transaction
from lhd.core.settings import Settings

TENANT = "default"
T = TypeVar("T")


class World:
    """Takes commands one by one. ``now_ms`` is the time; :meth:`wait` moves it and fires the timers on the way.

    A refused command raises Rejection, as a client would hear it.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.now_ms = 1_700_000_000_000
        self.settings = settings or Settings()
        self.memory = Memory()
        self.timers: dict[Any, Timer] = {}
        self.queue: dict[Any, QueuedTask] = {}
        self.all_wf_runs: dict[Key, None] = {}
        self._written: dict[Key, Any] = {}
        self._commands = itertools.count(1)

    def submit(self, request: Any, *, command_ms: int | None = None) -> Any:
        """The reply to a request (a message of littlehorse.model, or a private one of lhd.core.commands)."""
        time = CommandTime(self.now_ms if command_ms is None else command_ms, self.now_ms)
        first_id = next(self._commands) << 64
        while True:
            ids = itertools.count(first_id)
            tx = Transaction(self.memory, time, lambda ids=ids: f"{next(ids):032x}", self.settings)  # type: ignore[misc]
            try:
                reply = decide(tx, Command(TENANT, request))
            except NotLoaded as missing:
                for lane in missing.lanes:
                    self.memory.fill(lane, [])
                for kind, key in missing.points:
                    self.memory.fill_point(kind, key, None)
                continue
            self.memory.apply(tx)
            self._take_effects()
            for follow_up in tx.follow_ups:
                self.submit(follow_up, command_ms=command_ms)
            return reply

    def _take_effects(self) -> None:
        cleared, writes = self.memory.take_pending()
        for lane in cleared:
            for table in (self.timers, self.queue):
                for key in [key for key in table if key[:2] == lane.key and lane.name == "run"]:
                    del table[key]
            for written in [one for one in self._written if one[1:3] == lane.key and lane.name == "run"]:
                del self._written[written]
        self.all_wf_runs |= dict.fromkeys(writes.get(kinds.WF_RUN, {}))
        for unread in (kinds.WORKFLOW_EVENT, kinds.CHECKPOINT):
            self._written |= {(unread.name, *key): value for key, value in writes.get(unread, {}).items()}
        for kind, table in ((kinds.TIMER, self.timers), (kinds.QUEUED_TASK, self.queue)):
            for key, value in writes.get(kind, {}).items():
                table.pop(key, None)
                if value is not None:
                    table[key] = value

    def wait(self, seconds: float) -> None:
        """Move time forward; each timer on the way fires at its own time."""
        end_ms = self.now_ms + int(seconds * 1000)
        while due := [timer for timer in self.timers.values() if timer.due_ms <= end_ms]:
            timer = min(due, key=lambda timer: timer.due_ms)
            self.now_ms = max(self.now_ms, timer.due_ms)
            self.submit(TimerDue(timer), command_ms=timer.due_ms)
        self.now_ms = end_ms

    # What a client would do.

    def put_task_def(self, name: str, *inputs: VariableType, returns: VariableType | None = None) -> None:
        """A TaskDef with inputs named a, b, c ..."""
        request = PutTaskDefRequest(name=name)
        for letter, kind in zip("abcdefgh", inputs, strict=False):
            request.input_vars.append(VariableDef(name=letter, type_def=TypeDefinition(primitive_type=kind)))
        if returns is not None:
            request.return_type.CopyFrom(ReturnType(return_type=TypeDefinition(primitive_type=returns)))
        self.submit(request)

    def put_workflow(self, workflow: Workflow) -> WfSpec:
        """Register what the SDK would: the events that the workflow declares, then the WfSpec."""
        request = workflow.compile()
        for event in workflow.external_events_to_register:
            self.submit(event.to_put_external_event_def_request())
        for thrown in workflow.workflow_events_to_register:
            self.submit(thrown.to_put_workflow_event_def_request())
        spec: WfSpec = self.submit(request)
        return spec

    def run(self, wf_spec_name: str, wf_run_id: str = "r", **variables: Any) -> WfRun:
        """Start a WfRun; variables are Python values."""
        values = {name: to_variable_value(value) for name, value in variables.items()}
        reply: WfRun = self.submit(RunWfRequest(wf_spec_name=wf_spec_name, id=wf_run_id, variables=values))
        return reply

    def post(
        self,
        event_def: str,
        content: Any = None,
        *,
        wf_run_id: str = "r",
        guid: str | None = None,
        thread: int | None = None,
        position: int | None = None,
    ) -> ExternalEvent:
        """Put an ExternalEvent; ``content`` is a Python value or a VariableValue."""
        value = content if isinstance(content, VariableValue) else to_variable_value(content)
        request = PutExternalEventRequest(
            wf_run_id=WfRunId(id=wf_run_id),
            external_event_def_id=ExternalEventDefId(name=event_def),
            guid=guid,
            content=value,
            thread_run_number=thread,
            node_run_position=position,
        )
        reply: ExternalEvent = self.submit(request)
        return reply

    def claim(self, worker: str = "w") -> ScheduledTask | None:
        """Let a worker take the oldest queued task; None where nothing is queued."""
        for queued in self.queue.values():
            task_run_id = TaskRunId(wf_run_id=parse_wf_run_id(queued.run), task_guid=queued.task_guid)
            reply: ScheduledTask | None = self.submit(ClaimTask(task_run_id, worker, None))
            return reply
        return None

    def report(self, task: ScheduledTask, status: TaskStatus = TaskStatus.TASK_SUCCESS, **fields: Any) -> None:
        """Report an attempt; ``output`` may be a Python value."""
        if "output" in fields and not isinstance(fields["output"], VariableValue):
            fields["output"] = to_variable_value(fields["output"])
        self.submit(
            ReportTaskRun(
                task_run_id=task.task_run_id,
                attempt_number=task.attempt_number,
                status=status,
                **fields,
            )
        )

    # What a client would read.

    def find(self, kind: Kind[T], *key: Any) -> T | None:
        """One record of the tenant by the rest of its key; None where there is none."""
        try:
            return self.memory.lookup(kind, (TENANT, *key))
        except NotLoaded:
            return None

    def of_run(self, kind: Kind[T], wf_run_id: str = "r") -> list[T]:
        """Every record of one kind of a WfRun, in the order of their creation."""
        return list(self.memory.scan(kind, (TENANT, wf_run_id)).values())

    def wf_run(self, wf_run_id: str = "r") -> WfRun | None:
        """The WfRun."""
        return self.find(kinds.WF_RUN, wf_run_id)

    def child_wf_runs(self, wf_run_id: str = "r") -> list[str]:
        """The printed ids of the WfRuns whose parent this one is, in the order of their creation."""
        return [
            str(key[1])
            for key in self.all_wf_runs
            if str(key[1]).rpartition("_")[0] == wf_run_id and self.wf_run(str(key[1])) is not None
        ]

    def node_run(self, position: int, *, wf_run_id: str = "r", thread: int = 0) -> NodeRun | None:
        """A NodeRun."""
        return self.find(kinds.NODE_RUN, wf_run_id, thread, position)

    def task_run(self, guid: str, *, wf_run_id: str = "r") -> TaskRun | None:
        """A TaskRun."""
        return self.find(kinds.TASK_RUN, wf_run_id, guid)

    def user_task_run(self, guid: str, *, wf_run_id: str = "r") -> UserTaskRun | None:
        """A UserTaskRun."""
        return self.find(kinds.USER_TASK_RUN, wf_run_id, guid)

    def inactive_thread_run(self, number: int, *, wf_run_id: str = "r") -> InactiveThreadRun | None:
        """An archived ThreadRun."""
        return self.find(kinds.INACTIVE_THREAD_RUN, wf_run_id, number)

    def workflow_event(self, event_def: str, number: int = 0, *, wf_run_id: str = "r") -> WorkflowEvent | None:
        """A WorkflowEvent that was thrown."""
        return self.written(kinds.WORKFLOW_EVENT, wf_run_id, event_def, number)

    def checkpoint(self, guid: str, number: int, *, wf_run_id: str = "r") -> Checkpoint | None:
        """A Checkpoint of a TaskRun."""
        return self.written(kinds.CHECKPOINT, wf_run_id, guid, number)

    def written(self, kind: Kind[T], *key: Any) -> T | None:
        """One record of a kind that the core writes and never reads."""
        found: T | None = self._written.get((kind.name, TENANT, *key))
        return found

    def variable(self, name: str, *, wf_run_id: str = "r", thread: int = 0) -> VariableValue:
        """The value of a variable."""
        found = self.find(kinds.VARIABLE, wf_run_id, thread, name)
        assert found is not None, f"no variable {name}"
        return found.value

    def external_event(self, event_def: str, guid: str, *, wf_run_id: str = "r") -> ExternalEvent | None:
        """An ExternalEvent, claimed or not."""
        return self.find(kinds.EXTERNAL_EVENT, wf_run_id, event_def, guid)
