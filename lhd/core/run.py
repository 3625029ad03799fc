"""One WfRun while a command changes it: its ThreadRuns, its NodeRuns, its variables and its timers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from littlehorse.model import (
    LHStatus,
    Node,
    NodeRun,
    NodeRunId,
    ThreadRun,
    VariableValue,
    WfRun,
    WfRunId,
)

from lhd.core import kinds
from lhd.core.ids import milliseconds, run_key, timestamp
from lhd.core.kinds import Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.values import NULL, EvaluationError

if TYPE_CHECKING:
    from lhd.core.specs.registered import RegisteredSpec


class Run:
    """A WfRun that exists, with a copy of its record that the command changes."""

    def __init__(self, tx: Transaction, tenant: str, wf_run_id: WfRunId) -> None:
        self.tx = tx
        self.tenant = tenant
        self.key = run_key(tenant, wf_run_id)
        self.wf_run: WfRun = tx.edit(kinds.WF_RUN, self.key)

    @property
    def id(self) -> WfRunId:
        """The WfRun's id."""
        return self.wf_run.id

    @property
    def spec(self) -> "RegisteredSpec":
        """The WfSpec that the run follows."""
        spec_id = self.wf_run.wf_spec_id
        found = self.tx.get(kinds.WF_SPEC, (self.tenant, spec_id.name, spec_id.major_version, spec_id.revision))
        assert found is not None, "a WfSpec is kept as long as a WfRun follows it"
        return found

    def end(self, status: LHStatus) -> None:
        """The entrypoint thread has ended: so does the WfRun."""
        self.wf_run.status = status
        self.wf_run.end_time.CopyFrom(timestamp(self.tx.now_ms))
        policy = self.spec.message.retention_policy
        if policy.HasField("seconds_after_wf_termination"):
            due = self.tx.now_ms + policy.seconds_after_wf_termination * 1000
            self.arm(TimerAction.WF_RUN_RETENTION, due, milliseconds(self.wf_run.start_time))

    def arm(self, action: TimerAction, due_ms: int, *target: str | int) -> None:
        """Set the timer of this action and target, which replaces an earlier one."""
        timer = Timer(due_ms, self.tenant, self.key[1], action, target)
        self.tx.put(kinds.TIMER, timer.key, timer)

    def disarm(self, action: TimerAction, *target: str | int) -> None:
        """Take the timer of this action and target away, if there is one."""
        self.tx.delete(kinds.TIMER, Timer(0, self.tenant, self.key[1], action, target).key)

    def thread(self, number: int) -> ThreadRun:
        """The live ThreadRun of this number."""
        return next(thread for thread in self.wf_run.thread_runs if thread.number == number)

    def step(self, thread: ThreadRun) -> "Step":
        """The ThreadRun at the NodeRun where it stands."""
        return Step(self, thread, thread.current_node_position)


@dataclass(slots=True)
class Step:
    """One ThreadRun at one of its NodeRuns: what a node sees of the world."""

    run: Run
    thread: ThreadRun
    position: int
    _changed: dict[str, VariableValue] = field(default_factory=dict)

    @property
    def tx(self) -> Transaction:
        """The command's overlay."""
        return self.run.tx

    @property
    def node_run_id(self) -> NodeRunId:
        """The id of the NodeRun."""
        return NodeRunId(wf_run_id=self.run.id, thread_run_number=self.thread.number, position=self.position)

    @property
    def node_run_key(self) -> tuple[str, str, int, int]:
        """The key of the NodeRun."""
        return (*self.run.key, self.thread.number, self.position)

    @property
    def node_run(self) -> NodeRun:
        """The NodeRun, to read."""
        found = self.tx.get(kinds.NODE_RUN, self.node_run_key)
        assert found is not None, f"no NodeRun {self.node_run_key}"
        return found

    def edit_node_run(self) -> NodeRun:
        """The NodeRun, to change."""
        return self.tx.edit(kinds.NODE_RUN, self.node_run_key)

    @property
    def node(self) -> Node:
        """The node of the WfSpec that the NodeRun is a run of."""
        return self.run.spec.thread_spec(self.thread.thread_spec_name).nodes[self.node_run.node_name]

    def variable(self, name: str) -> VariableValue:
        """The variable's value, from this ThreadRun or the nearest ancestor that declares it."""
        if name in self._changed:
            return self._changed[name]
        found = self.tx.get(kinds.VARIABLE, self._variable_key(name))
        return NULL if found is None else found.value

    def output(self, node_name: str) -> VariableValue:
        """The latest output of a node in this ThreadRun."""
        found = self.tx.get(kinds.NODE_OUTPUT, (*self.run.key, self.thread.number, node_name))
        if found is None:
            raise EvaluationError(f"node '{node_name}' has no output")
        return found

    def change_variable(self, name: str, value: VariableValue) -> None:
        """Let the rest of this step see a new value; :meth:`keep_variables` makes it last."""
        self._variable_key(name)
        self.require_size(value)
        self._changed[name] = value

    def keep_variables(self) -> None:
        """Store what :meth:`change_variable` was told."""
        for name, value in self._changed.items():
            self.tx.edit(kinds.VARIABLE, self._variable_key(name)).value.CopyFrom(value)
        self._changed.clear()

    def require_size(self, value: VariableValue) -> None:
        """Raise EvaluationError for a value that is larger than a record may be."""
        limit = self.tx.settings.record_bytes_max
        if value.ByteSize() > limit:
            raise EvaluationError(f"the value has {value.ByteSize()} bytes, a record holds {limit}")

    def _variable_key(self, name: str) -> tuple[str, str, int, str]:
        thread = self.thread
        while True:
            key = (*self.run.key, thread.number, name)
            if self.tx.get(kinds.VARIABLE, key) is not None:
                return key
            if not thread.HasField("parent_thread_id"):
                raise EvaluationError(f"no variable '{name}' is in reach of this thread")
            thread = self.run.thread(thread.parent_thread_id)
