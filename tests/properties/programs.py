"""Small random workflows: trees of statements, the strategy that draws them, and how they become WfSpecs."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from hypothesis import strategies as st
from littlehorse.model import (
    FailureHandlerDef,
    PutWfSpecRequest,
    ThreadRetentionPolicy,
    UserTaskNode,
    UTActionTrigger,
    VariableMutationType,
    WaitForThreadsNode,
    WaitForThreadsStrategy,
    WorkflowRetentionPolicy,
)
from littlehorse.workflow import (
    SpawnedThread,
    SpawnedThreads,
    WfRunVariable,
    Workflow,
    WorkflowInterruption,
    WorkflowThread,
)

from tests.properties.workflows import APPROVAL, BELLS, KEPT, KEYED, MANY, PAID, SAID, literal

STATEMENTS_MAX = 12
MAIN, CHILD, GRANDCHILD = "main", "child", "grandchild"


@dataclass(frozen=True)
class Leaf:
    """A statement that holds no others."""


@dataclass(frozen=True)
class Wait(Leaf):
    event: str
    timeout_s: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class Sleep(Leaf):
    seconds: int


@dataclass(frozen=True)
class Task(Leaf):
    retries: int = 0


@dataclass(frozen=True)
class Throw(Leaf):
    pass


@dataclass(frozen=True)
class Count(Leaf):
    """Adds to the number that all threads share."""


@dataclass(frozen=True)
class Until(Leaf):
    """Waits until the shared number has reached this."""

    number: int


@dataclass(frozen=True)
class Ask(Leaf):
    """Gives a person something to do; ``action`` is what happens if it is not done soon."""

    action: str | None


@dataclass(frozen=True)
class RunChild(Leaf):
    waits: bool


@dataclass(frozen=True)
class Break(Leaf):
    """Fails with VAR_SUB_ERROR: ``on_edge`` behind a node, otherwise in a node."""

    on_edge: bool


@dataclass(frozen=True)
class Fail(Leaf):
    pass


@dataclass(frozen=True)
class Complete(Leaf):
    pass


@dataclass(frozen=True)
class If:
    number: int
    then: "Block"
    otherwise: "Block"


@dataclass(frozen=True)
class Repeat:
    """``times`` None is for ever."""

    times: int | None
    body: "Block"


@dataclass(frozen=True)
class Thread:
    """What a thread does; ``bell`` is the handler of an interrupt of it."""

    body: "Block"
    bell: "Thread | None" = None
    takes_input: bool = False
    retention_s: int | None = None


@dataclass(frozen=True)
class Spawn:
    """Starts threads and, unless ``strategy`` is None, waits for them."""

    threads: tuple[Thread, ...]
    strategy: WaitForThreadsStrategy | None
    handler: Thread | None = None


@dataclass(frozen=True)
class Each:
    """Starts a thread for each of some numbers and, unless ``strategy`` is None, waits for them."""

    items: int
    thread: Thread
    strategy: WaitForThreadsStrategy | None


@dataclass(frozen=True)
class Guard:
    """A statement whose last node has a failure handler."""

    statement: "Statement"
    handler: Thread
    catches: str | None


Statement = Leaf | If | Repeat | Spawn | Each | Guard
Block = tuple[Statement, ...]


@dataclass(frozen=True)
class Program:
    """A workflow, and one that it may run as a child."""

    main: Thread
    child: Thread
    retention_s: int | None = None


# How they are drawn.

LEAVES: st.SearchStrategy[Leaf] = st.one_of(
    st.builds(Wait, st.sampled_from([PAID, KEPT]), st.sampled_from([None, None, 1, 3])),
    st.builds(Wait, st.sampled_from([PAID, KEPT]), st.sampled_from([None, None, 1, 3])),
    st.builds(Task, st.integers(0, 1)),
    st.builds(Wait, st.sampled_from([KEYED, MANY]), st.sampled_from([None, 2]), st.sampled_from(["k", "l"])),
    st.builds(Sleep, st.integers(1, 3)),
    st.builds(Task, st.integers(0, 1)),
    st.just(Count()),
    st.builds(Until, st.integers(1, 3)),
    st.builds(Ask, st.sampled_from([None, "remind", "reassign", "cancel"])),
    st.builds(RunChild, st.booleans()),
    st.builds(Break, st.booleans()),
    st.just(Throw()),
    st.just(Fail()),
    st.just(Complete()),
)
FALLIBLE: st.SearchStrategy[Statement] = st.one_of(
    st.builds(Wait, st.just(PAID), st.integers(1, 2)),
    st.just(Task()),
    st.just(Ask("cancel")),
    st.builds(Break, st.booleans()),
    st.builds(Spawn, st.just((Thread((Fail(),)),)), st.just(WaitForThreadsStrategy.WAIT_FOR_ALL)),
)
"""What is likely to fail."""
STRATEGIES: st.SearchStrategy[WaitForThreadsStrategy | None] = st.sampled_from(
    [
        None,
        WaitForThreadsStrategy.WAIT_FOR_ALL,
        WaitForThreadsStrategy.WAIT_FOR_FIRST,
        WaitForThreadsStrategy.WAIT_FOR_ANY,
    ]
)


@st.composite
def blocks(draw: st.DrawFn, budget: int, depth: int) -> Block:
    """At most ``budget`` statements, counted over all depths."""
    statements: list[Statement] = []
    while budget > 0 and (not statements or draw(st.integers(0, 3))):
        statement = draw(_statements(budget, depth))
        budget -= size(statement)
        statements.append(statement)
        if _ends(statement):
            break
    return tuple(statements)


def _ends(statement: Statement) -> bool:
    """Whether nothing can come after it."""
    if isinstance(statement, Guard):
        return _ends(statement.statement)
    return isinstance(statement, Fail | Complete)


@st.composite
def _statements(draw: st.DrawFn, budget: int, depth: int) -> Statement:
    kind = draw(st.integers(3, 10)) if budget > 1 and depth > 0 else 0
    inner = budget - 1
    match kind:
        case 6:
            then = draw(blocks(inner, depth - 1))
            return If(draw(st.integers(0, 2)), then, draw(blocks(inner - _size_of(then), depth - 1)))
        case 7:
            return Repeat(draw(st.sampled_from([None, 2, 2, 3])), draw(blocks(inner, depth - 1)))
        case 8:
            spawned: list[Thread] = []
            for _ in range(draw(st.integers(1, 3))):
                if inner > 0:
                    spawned.append(draw(threads(inner, depth - 1)))
                    inner -= _size_of_thread(spawned[-1])
            handler = draw(handlers(inner, depth - 1)) if inner > 0 and draw(st.booleans()) else None
            return Spawn(tuple(spawned), draw(STRATEGIES), handler)
        case 9:
            return Each(draw(st.integers(0, 3)), draw(threads(inner, depth - 1)), draw(STRATEGIES))
        case 10:
            statement = draw(st.one_of(FALLIBLE, FALLIBLE, _statements(inner, depth - 1)))
            inner -= size(statement)
            catches = draw(st.sampled_from([None, None, None, "no-luck", "TIMEOUT", "CHILD_FAILURE"]))
            return Guard(statement, draw(handlers(max(inner, 1), depth - 1)), catches)
    return draw(LEAVES)


@st.composite
def threads(draw: st.DrawFn, budget: int, depth: int) -> Thread:
    """A thread, perhaps with an interrupt."""
    bell = draw(handlers(budget // 3, depth - 1)) if budget > 3 and depth > 0 and draw(st.booleans()) else None
    body = draw(blocks(budget - (0 if bell is None else _size_of_thread(bell)), depth))
    return Thread(body, bell, draw(st.booleans()), draw(st.sampled_from([None, None, 0, 2])))


def handlers(budget: int, depth: int) -> st.SearchStrategy[Thread]:
    """A handler, which now and then does next to nothing."""
    return st.one_of(threads(budget, depth), st.builds(Thread, st.just((Throw(),)), st.none(), st.booleans()))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A random program of at most :data:`STATEMENTS_MAX` statements, and a child of a few."""
    main = draw(threads(STATEMENTS_MAX, 4))
    return Program(main, draw(threads(3, 1)), draw(st.sampled_from([None, None, 3])))


def size(statement: Statement) -> int:
    """How many statements this is, with those inside."""
    match statement:
        case If(_, then, otherwise):
            return 1 + _size_of(then) + _size_of(otherwise)
        case Repeat(_, body):
            return 1 + _size_of(body)
        case Spawn(spawned, _, handler):
            inside = [*spawned, *([] if handler is None else [handler])]
            return 1 + sum(map(_size_of_thread, inside))
        case Each(_, thread, _):
            return 1 + _size_of_thread(thread)
        case Guard(guarded, handler, _):
            return 1 + size(guarded) + _size_of_thread(handler)
    return 1


def _size_of(block: Block) -> int:
    return sum(map(size, block))


def _size_of_thread(thread: Thread) -> int:
    return _size_of(thread.body) + (0 if thread.bell is None else _size_of_thread(thread.bell))


# How they become WfSpecs.


def compiled(program: Program) -> list[PutWfSpecRequest]:
    """The requests to register, in their order."""
    return [
        _compile(GRANDCHILD, Thread((Wait(PAID, 3), Complete())), None, ""),
        _compile(CHILD, program.child, None, GRANDCHILD),
        _compile(MAIN, program.main, program.retention_s, CHILD),
    ]


def _compile(name: str, thread: Thread, retention_s: int | None, child: str) -> PutWfSpecRequest:
    compiler = _Compiler(child)
    workflow = Workflow(name, compiler.entrypoint(thread))
    if retention_s is not None:
        workflow.with_retention_policy(WorkflowRetentionPolicy(seconds_after_wf_termination=retention_s))
    request = workflow.compile()
    handlers = {one.handler_spec_name for spec in request.thread_specs.values() for one in spec.interrupt_defs}
    for name in handlers:
        # Handlers of interrupts may declare nothing else, so the entrypoint declares it for them.
        of_handler = request.thread_specs[name].variable_defs
        others = [variable for variable in of_handler if variable.var_def.name != "INPUT"]
        for variable in others:
            of_handler.remove(variable)
        request.thread_specs[request.entrypoint_thread_name].variable_defs.extend(others)
    return request


class _Compiler:
    """Turns one thread and all below it into one WfSpec."""

    def __init__(self, child: str) -> None:
        self.child = child
        self.numbers: Iterator[int] = itertools.count()
        self.bells = iter(BELLS)
        self.count: Any = None
        self.nothing: Any = None

    def entrypoint(self, thread: Thread) -> Callable[[WorkflowThread], None]:
        def body(wf: WorkflowThread) -> None:
            self.count = wf.declare_int("count", 0)
            self.nothing = wf.declare_json_obj("nothing")
            self._body(thread, wf)

        return body

    def thread(self, thread: Thread) -> Callable[[WorkflowThread], None]:
        def body(wf: WorkflowThread) -> None:
            if thread.takes_input:
                wf.declare_int("INPUT")
            if thread.retention_s is not None:
                policy = ThreadRetentionPolicy(seconds_after_thread_termination=thread.retention_s)
                wf.with_retention_policy(policy)
            self._body(thread, wf)

        return body

    def _body(self, thread: Thread, wf: WorkflowThread) -> None:
        bell = None if thread.bell is None else next(self.bells, None)
        if thread.bell is not None and bell is not None:
            wf._wf_interruptions.append(WorkflowInterruption(bell, self._add(thread.bell, wf)))
        self._block(thread.body, wf)

    def _add(self, thread: Thread, wf: WorkflowThread) -> str:
        name = f"thread-{next(self.numbers)}"
        return wf.get_parent_workflow().add_sub_thread(name, self.thread(thread))

    def _block(self, block: Block, wf: WorkflowThread) -> None:
        for statement in block:
            self._statement(statement, wf)

    def _statement(self, statement: Statement, wf: WorkflowThread) -> None:
        match statement:
            case Wait(event, timeout_s, key):
                wf.wait_for_event(event, timeout=timeout_s or -1, correlation_id=key)
            case Sleep(seconds):
                wf.sleep(seconds)
            case Task(retries):
                wf.execute("work", "go", timeout_seconds=2, retries=retries)
            case Throw():
                wf.throw_event(SAID, "something")
            case Count():
                self._add_node_before_mutation(wf)
                wf.mutate(self.count, VariableMutationType.ADD, 1)
            case Until(number):
                wf.wait_for_condition(self.count.is_greater_than_eq(number))
            case Ask(action):
                self._ask(action, wf)
            case RunChild(waits):
                child = wf.run_wf(self.child)
                if waits:
                    wf.wait_for_child_wf(child)
            case Break(on_edge):
                if on_edge:
                    self._add_node_before_mutation(wf)
                    wf.mutate(self.count, VariableMutationType.ASSIGN, self.nothing.with_json_path("$.x"))
                else:
                    wf.execute("work", self.nothing.with_json_path("$.x"))
            case Fail():
                wf.fail("no-luck", "none left")
            case Complete():
                wf.complete()
            case If(number, then, otherwise):
                wf.do_if(
                    self.count.is_greater_than(number),
                    lambda wf: self._block(then, wf),
                    (lambda wf: self._block(otherwise, wf)) if otherwise else None,
                )
            case Repeat(times, body):
                self._repeat(times, body, wf)
            case Spawn(spawned, strategy, handler):
                numbers = [self._spawn(thread, wf) for thread in spawned]
                if strategy is not None:
                    self._join(SpawnedThreads.from_list(*numbers), strategy, handler, wf)
            case Each(items, thread, strategy):
                numbers_of = wf.declare_json_arr(f"items-{next(self.numbers)}", list(range(items)))
                name = f"thread-{next(self.numbers)}"
                started = wf.spawn_thread_for_each(numbers_of, self.thread(thread), name)
                if strategy is not None:
                    self._join(started, strategy, None, wf)
            case Guard(guarded, handler, catches):
                self._statement(guarded, wf)
                guard = FailureHandlerDef(handler_spec_name=self._add(handler, wf), specific_failure=catches)
                wf._last_node().failure_handlers.append(guard)

    def _add_node_before_mutation(self, wf: WorkflowThread) -> None:
        """A node that cannot have another way out than the one that the mutation is on."""
        wf.throw_event(SAID, "count")

    def _spawn(self, thread: Thread, wf: WorkflowThread) -> SpawnedThread:
        name = f"thread-{next(self.numbers)}"
        given = {"INPUT": 7} if thread.takes_input else None
        return wf.spawn_thread(self.thread(thread), name, given)

    def _join(
        self, started: SpawnedThreads, strategy: WaitForThreadsStrategy, handler: Thread | None, wf: WorkflowThread
    ) -> None:
        wf.wait_for_threads(started, strategy)
        if handler is not None:
            guard = FailureHandlerDef(handler_spec_name=self._add(handler, wf))
            cast("WaitForThreadsNode", wf._last_node().sub_node).per_thread_failure_handlers.append(guard)

    def _repeat(self, times: int | None, body: Block, wf: WorkflowThread) -> None:
        rounds: WfRunVariable = wf.declare_int(f"rounds-{next(self.numbers)}", 0)

        def one_round(wf: WorkflowThread) -> None:
            self._block(body, wf)
            if wf._last_node().node_case.name != "EXIT":
                wf.throw_event(SAID, "again")
                wf.mutate(rounds, VariableMutationType.ADD, 1)

        wf.do_while(rounds.is_less_than(1_000_000 if times is None else times), one_round)

    def _ask(self, action: str | None, wf: WorkflowThread) -> None:
        wf.assign_user_task(APPROVAL, "anna", "finance")
        node = cast("UserTaskNode", wf._last_node().sub_node)
        match action:
            case "remind":
                trigger = UTActionTrigger(hook=UTActionTrigger.ON_ARRIVAL)
                trigger.task.task.task_def_id.name = "work"
                trigger.task.task.variables.append(literal("remember"))
            case "reassign":
                trigger = UTActionTrigger(hook=UTActionTrigger.ON_TASK_ASSIGNED)
                trigger.reassign.user_id.CopyFrom(literal("bert"))
            case "cancel":
                trigger = UTActionTrigger(hook=UTActionTrigger.ON_TASK_ASSIGNED)
                trigger.cancel.SetInParent()
            case _:
                return
        trigger.delay_seconds.CopyFrom(literal(2))
        node.actions.append(trigger)
