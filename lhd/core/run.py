"""One WfRun while a command changes it: its ThreadRuns, its NodeRuns, its variables and its timers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from littlehorse.model import (
    Failure,
    InlineStructDef,
    LHStatus,
    Node,
    NodeRun,
    NodeRunId,
    StructDefId,
    ThreadRun,
    ThreadVarDef,
    TypeDefinition,
    VariableValue,
    WfRun,
    WfRunId,
    WfRunVariableAccessLevel,
    WfSpecId,
    WorkflowRetentionPolicy,
)

from lhd.core import kinds, measures
from lhd.core.fitting import StoredStructDefs
from lhd.core.ids import milliseconds, run_key, timestamp
from lhd.core.indexing import reindex
from lhd.core.kinds import TERMINAL, Timer, TimerAction
from lhd.core.records import Transaction
from lhd.core.values import NULL, EvaluationError, require_size
from lhd.errors import Code, Rejection

if TYPE_CHECKING:
    from lhd.core.specs.registered import RegisteredSpec


@dataclass(frozen=True, slots=True)
class AdvanceRun:
    """A request: something that a WfRun may wait for has happened elsewhere."""

    wf_run_id: WfRunId


class Run:
    """A WfRun that exists, with a copy of its record that the command changes."""

    def __init__(self, tx: Transaction, tenant: str, wf_run_id: WfRunId) -> None:
        self.tx = tx
        self.tenant = tenant
        self.key = run_key(tenant, wf_run_id)
        self.wf_run: WfRun = tx.edit(kinds.WF_RUN, self.key)
        self.started: list[Run] = []
        """Child WfRuns that a step has started and that have not been advanced yet."""
        self._specs: dict[tuple[str, int, int], RegisteredSpec | None] = {}

    @property
    def id(self) -> WfRunId:
        """The WfRun's id."""
        return self.wf_run.id

    @property
    def is_lost(self) -> bool:
        """Whether the WfSpec of a ThreadRun that is not over has been deleted, or become another one since."""
        return any(
            thread.status not in TERMINAL and not self._knows_node_of(thread) for thread in self.wf_run.thread_runs
        )

    def _knows_node_of(self, thread: ThreadRun) -> bool:
        spec = self._find_spec(thread.wf_spec_id)
        node_run = self.tx.get(kinds.NODE_RUN, (*self.key, thread.number, thread.current_node_position))
        return spec is not None and node_run is not None and spec.has_node(thread.thread_spec_name, node_run.node_name)

    def knows_spec_of(self, thread: ThreadRun) -> bool:
        """Whether the WfSpec that a ThreadRun follows is still there."""
        return self._find_spec(thread.wf_spec_id) is not None

    def spec_of(self, thread: ThreadRun) -> "RegisteredSpec":
        """The WfSpec that a ThreadRun follows. Raises Rejection where that has been deleted."""
        found = self._find_spec(thread.wf_spec_id)
        if found is None:
            spec_id = thread.wf_spec_id
            version = f"'{spec_id.name}' {spec_id.major_version}.{spec_id.revision}"
            raise Rejection(Code.FAILED_PRECONDITION, f"the WfSpec {version} of WfRun {self.key[1]} was deleted")
        return found

    def _find_spec(self, spec_id: WfSpecId) -> "RegisteredSpec | None":
        version = (spec_id.name, spec_id.major_version, spec_id.revision)
        if version not in self._specs:
            self._specs[version] = self.tx.get(kinds.WF_SPEC, (self.tenant, *version))
        return self._specs[version]

    def end(self, status: LHStatus) -> None:
        """The entrypoint thread has ended: so does the WfRun, and its parent may go on."""
        latency_ms = self.tx.now_ms - milliseconds(self.wf_run.start_time)
        measures.count_wf_run(self.tx, self.tenant, self.wf_run.wf_spec_id, measures.ended(status), latency_ms)
        self.wf_run.status = status
        if self.id.HasField("parent_wf_run_id"):
            self.tx.send(AdvanceRun(self.id.parent_wf_run_id))
        self.wf_run.end_time.CopyFrom(timestamp(self.tx.now_ms))
        spec = self._find_spec(self.thread(0).wf_spec_id)
        policy = WorkflowRetentionPolicy() if spec is None else spec.message.retention_policy
        if policy.HasField("seconds_after_wf_termination"):
            due = self.tx.now_ms + policy.seconds_after_wf_termination * 1000
            self.arm(TimerAction.WF_RUN_RETENTION, due, milliseconds(self.wf_run.end_time))

    def show_halt(self) -> None:
        """Let the WfRun's status say whether its entrypoint is halted by an operator (execution.md 1.2)."""
        if self.wf_run.status not in TERMINAL:
            entrypoint = self.thread(0)
            by_hand = any(reason.HasField("manual_halt") for reason in entrypoint.halt_reasons)
            halted = by_hand and entrypoint.status == LHStatus.HALTED
            status = LHStatus.HALTED if halted else LHStatus.RUNNING
            if status != self.wf_run.status:
                measure = "running_to_halted" if halted else "halted_to_running"
                measures.count_wf_run(self.tx, self.tenant, self.wf_run.wf_spec_id, measure)
            self.wf_run.status = status

    def arm(self, action: TimerAction, due_ms: int, *target: str | int) -> None:
        """Set the timer of this action and target, which replaces an earlier one."""
        timer = Timer(due_ms, self.tenant, self.key[1], action, target)
        self.tx.put(kinds.TIMER, timer.key, timer)

    def disarm(self, action: TimerAction, *target: str | int) -> None:
        """Take the timer of this action and target away, if there is one."""
        self.tx.delete(kinds.TIMER, Timer(0, self.tenant, self.key[1], action, target).key)

    def thread(self, number: int) -> ThreadRun:
        """The ThreadRun of this number, which exists; an archived one is only to be read."""
        found = self.find_thread(number)
        assert found is not None, f"WfRun {self.key[1]} has no thread {number}"
        return found

    def find_thread(self, number: int) -> ThreadRun | None:
        """The ThreadRun of this number, archived or not; None where there never was one."""
        for thread in self.wf_run.thread_runs:
            if thread.number == number:
                return thread
        if not 0 <= number <= self.wf_run.greatest_threadrun_number:
            return None
        archived = self.tx.get(kinds.INACTIVE_THREAD_RUN, (*self.key, number))
        return None if archived is None else archived.thread_run

    def load_threads(self, numbers: Iterable[int]) -> None:
        """Ask for all of these ThreadRuns that are archived at once, so that the command is run again only once."""
        present = {thread.number for thread in self.wf_run.thread_runs}
        wanted = {number for number in numbers if 0 <= number <= self.wf_run.greatest_threadrun_number} - present
        self.tx.need_points(kinds.INACTIVE_THREAD_RUN, [(*self.key, number) for number in sorted(wanted)])

    def children(self, thread: ThreadRun) -> list[ThreadRun]:
        """The ThreadRuns of any type that this one started; those that are archived have COMPLETED and are left out."""
        return [
            child
            for child in self.wf_run.thread_runs
            if child.HasField("parent_thread_id") and child.parent_thread_id == thread.number
        ]

    def step(self, thread: ThreadRun) -> "Step":
        """The ThreadRun at the NodeRun where it stands."""
        return Step(self, thread, thread.current_node_position)

    def last_failure(self, thread: ThreadRun) -> Failure | None:
        """The failure that ended a ThreadRun: that of its current NodeRun, or of the handler that failed over it."""
        failures = self.step(thread).node_run.failures
        if not failures:
            return None
        last = failures[-1]
        if last.HasField("failure_handler_threadrun_id") and not last.was_properly_handled:
            return self.last_failure(self.thread(last.failure_handler_threadrun_id)) or last
        return last

    def parent(self) -> "Run | None":
        """The WfRun that this one is a child of, if there is one and it has not been deleted."""
        if not self.id.HasField("parent_wf_run_id"):
            return None
        key = run_key(self.tenant, self.id.parent_wf_run_id)
        if self.tx.get(kinds.WF_RUN, key) is None:
            return None
        return Run(self.tx, self.tenant, self.id.parent_wf_run_id)

    def arrive(self, thread: ThreadRun, node_name: str) -> NodeRun:
        """A new NodeRun of this node, at the ThreadRun's next position."""
        thread.current_node_position += 1
        node_run = NodeRun(
            id=NodeRunId(wf_run_id=self.id, thread_run_number=thread.number, position=thread.current_node_position),
            wf_spec_id=thread.wf_spec_id,
            status=LHStatus.RUNNING,
            arrival_time=timestamp(self.tx.now_ms),
            thread_spec_name=thread.thread_spec_name,
            node_name=node_name,
        )
        return self.tx.put(kinds.NODE_RUN, self.step(thread).node_run_key, node_run)


@dataclass(slots=True)
class Step:
    """One ThreadRun at one of its NodeRuns: what a node sees of the world."""

    run: Run
    thread: ThreadRun
    position: int
    _changed: dict[str, VariableValue] = field(default_factory=dict)
    _node: Node | None = None

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
        if self._node is None:
            self._node = (
                self.run.spec_of(self.thread).thread_spec(self.thread.thread_spec_name).nodes[self.node_run.node_name]
            )
        return self._node

    def forgive(self, failed_child: int) -> None:
        """A child's failure has been dealt with: the thread's EXIT node no longer minds it."""
        if failed_child not in self.thread.handled_failed_children:
            self.thread.handled_failed_children.append(failed_child)

    def variable(self, name: str) -> VariableValue:
        """The variable's value, from this ThreadRun or the nearest ancestor that declares it."""
        if name in self._changed:
            return self._changed[name]
        found = self.tx.get(kinds.VARIABLE, self._owner(name)[0])
        return NULL if found is None else found.value

    def variable_type(self, name: str) -> TypeDefinition:
        """The declared type of the variable that :meth:`variable` reads."""
        return self._owner(name)[1].var_def.type_def

    def output(self, node_name: str) -> VariableValue:
        """The latest output of a node in this ThreadRun."""
        found = self.tx.get(kinds.NODE_OUTPUT, (*self.run.key, self.thread.number, node_name))
        if found is None:
            raise EvaluationError(f"node '{node_name}' has no output")
        return found

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        """See :class:`lhd.core.fitting.StructDefs`."""
        return StoredStructDefs(self.tx, self.run.tenant).struct_def(struct_def_id)

    def change_variable(self, name: str, value: VariableValue) -> None:
        """Let the rest of this step see a new value; :meth:`keep_variables` makes it last."""
        self._owner(name)
        self.require_size(value)
        self._changed[name] = value

    def keep_variables(self) -> None:
        """Store what :meth:`change_variable` was told."""
        for name, value in self._changed.items():
            key, definition = self._owner(name)
            before = VariableValue()
            variable = self.tx.edit(kinds.VARIABLE, key)
            before.CopyFrom(variable.value)
            variable.value.CopyFrom(value)
            reindex(self.tx, key, definition, variable, before)
        self._changed.clear()

    def drop_variables(self) -> None:
        """Forget what :meth:`change_variable` was told."""
        self._changed.clear()

    def require_size(self, value: VariableValue) -> None:
        """Raise EvaluationError for a value that is larger than a record may be."""
        require_size(value, self.tx.settings.record_bytes_max)

    def _owner(self, name: str) -> tuple[tuple[str, str, int, str], ThreadVarDef]:
        """The key and the declaration of the variable that a name means here (execution.md 8.4)."""
        run: Run | None = self.run
        thread = self.thread
        while run is not None:
            declared = run.spec_of(thread).variables(thread.thread_spec_name).get(name)
            if declared is not None and declared.access_level != WfRunVariableAccessLevel.INHERITED_VAR:
                return (*run.key, thread.number, name), declared
            if declared is not None:
                run = run.parent()
                thread = thread if run is None else run.thread(0)
            elif thread.HasField("parent_thread_id"):
                thread = run.thread(thread.parent_thread_id)
            else:
                break
        raise EvaluationError(f"no variable '{name}' is in reach of this thread")
