"""WAIT_FOR_THREADS nodes: wait for other ThreadRuns, and for handlers of their failures (execution.md 6.5)."""

from littlehorse.model import (
    LHStatus,
    Node,
    NodeRun,
    ThreadRun,
    ThreadType,
    VariableType,
    VariableValue,
    WaitForThreadsRun,
    WaitForThreadsStrategy,
)

from lhd.core import threads
from lhd.core.casting import cast
from lhd.core.expressions import evaluate
from lhd.core.failure import NodeFailure, catches, failure_status
from lhd.core.kinds import FAILED
from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step
from lhd.core.specs.context import TypeContext
from lhd.core.values import EvaluationError, items_of, kind_name, type_of

_IN_PROGRESS = WaitForThreadsRun.THREAD_IN_PROGRESS
_HANDLING = WaitForThreadsRun.THREAD_HANDLING_FAILURE
_DONE = WaitForThreadsRun.THREAD_COMPLETED_OR_FAILURE_HANDLED
_UNSUCCESSFUL = WaitForThreadsRun.THREAD_UNSUCCESSFUL

Entry = WaitForThreadsRun.WaitForThread


class WaitForThreads(NodeKind):
    """See NodeKind."""

    def check(self, node: Node, context: TypeContext) -> None:
        """Numbers can be INT, a list of them JSON_ARR."""
        waiting = node.wait_for_threads
        match waiting.WhichOneof("threads_to_wait_for"):
            case "threads":
                for thread in waiting.threads.threads:
                    context.require(thread.thread_run_number, VariableType.INT)
            case "thread_list":
                context.require(waiting.thread_list, VariableType.JSON_ARR)
            case _:
                raise context.refuse("a WAIT_FOR_THREADS node names its threads, or a list of them")
        context.check_failure_handlers(waiting.per_thread_failure_handlers)

    def arrive(self, step: Step, node_run: NodeRun) -> None:
        """See NodeKind."""
        node_run.wait_for_threads.SetInParent()
        try:
            numbers = _numbers(step)
            step.run.load_threads(numbers)
            threads_to_wait_for = [_waitable(step, number) for number in numbers]
        except EvaluationError as error:
            raise NodeFailure("VAR_SUB_ERROR", f"the threads to wait for: {error}") from error
        for thread in threads_to_wait_for:
            node_run.wait_for_threads.threads.add(
                thread_run_number=thread.number, thread_status=thread.status, waiting_status=_IN_PROGRESS
            )

    def progress(self, step: Step) -> Done | None:
        """Look at each thread again; the strategy then says whether that is enough."""
        for index in range(len(step.node_run.wait_for_threads.threads)):
            _refresh(step, index)
        strategy = step.node.wait_for_threads.strategy
        is_over, failed = _verdict(strategy, list(step.node_run.wait_for_threads.threads))
        if not is_over:
            return None
        if strategy != WaitForThreadsStrategy.WAIT_FOR_ALL:
            self._forgive(step)
        if failed is None:
            return Done()
        if strategy == WaitForThreadsStrategy.WAIT_FOR_ANY:
            raise NodeFailure("CHILD_FAILURE", "every thread that this node waits for has failed")
        raise _child_failure(step, failed)

    def _forgive(self, step: Step) -> None:
        """What has failed so far was expected by the strategy: the EXIT node does not mind it."""
        for entry in step.node_run.wait_for_threads.threads:
            if entry.thread_status in FAILED:
                step.forgive(entry.thread_run_number)

    def abandons(self, step: Step) -> list[int]:
        """Where one thread was enough, the others stop for good."""
        if step.node.wait_for_threads.strategy == WaitForThreadsStrategy.WAIT_FOR_ALL:
            return []
        numbers = []
        for entry in step.node_run.wait_for_threads.threads:
            if entry.waiting_status == _IN_PROGRESS:
                numbers.append(entry.thread_run_number)
            elif entry.waiting_status == _HANDLING:
                numbers.append(entry.failure_handler_thread_run_id)
        return numbers


def _verdict(strategy: WaitForThreadsStrategy, entries: list[Entry]) -> tuple[bool, Entry | None]:
    """Whether the waiting is over, and the entry by whose failure it is, if it is by one."""
    finished = [entry for entry in entries if entry.waiting_status in (_DONE, _UNSUCCESSFUL)]
    unsuccessful = [entry for entry in finished if entry.waiting_status == _UNSUCCESSFUL]
    everything = len(finished) == len(entries)
    match strategy:
        case WaitForThreadsStrategy.WAIT_FOR_FIRST:
            first = finished[0] if finished else None
            return everything or first is not None, first if first in unsuccessful else None
        case WaitForThreadsStrategy.WAIT_FOR_ANY:
            all_failed = bool(entries) and len(unsuccessful) == len(entries)
            return everything or len(unsuccessful) < len(finished), unsuccessful[0] if all_failed else None
    return everything or bool(unsuccessful), unsuccessful[0] if unsuccessful else None


def _numbers(step: Step) -> list[int]:
    waiting = step.node.wait_for_threads
    if waiting.HasField("thread_list"):
        values = items_of(evaluate(waiting.thread_list, step))
    else:
        values = [evaluate(thread.thread_run_number, step) for thread in waiting.threads.threads]
    return [_number(value) for value in values]


def _number(value: VariableValue) -> int:
    number = cast(value, VariableType.INT)
    if type_of(number) != VariableType.INT:
        raise EvaluationError(f"{kind_name(value)} is no thread number")
    return number.int


def _waitable(step: Step, number: int) -> ThreadRun:
    thread = step.run.find_thread(number)
    if thread is None:
        raise EvaluationError(f"there is no thread {number}")
    ancestor: ThreadRun | None = step.thread
    while ancestor is not None:
        if ancestor.number == number:
            raise EvaluationError(f"thread {step.thread.number} cannot wait for itself or for an ancestor")
        ancestor = step.run.thread(ancestor.parent_thread_id) if ancestor.HasField("parent_thread_id") else None
    return thread


def _refresh(step: Step, index: int) -> None:
    """Let one entry say how its thread, or the handler of its failure, is getting on."""
    entry = step.node_run.wait_for_threads.threads[index]
    if entry.waiting_status in (_DONE, _UNSUCCESSFUL):
        return
    thread = step.run.thread(entry.thread_run_number)
    status, handler = entry.waiting_status, None
    if status == _IN_PROGRESS and thread.status == LHStatus.COMPLETED:
        status = _DONE
    elif status == _IN_PROGRESS and thread.status in FAILED:
        handler = _start_handler(step, thread)
        status = _UNSUCCESSFUL if handler is None else _HANDLING
    elif status == _HANDLING:
        status = _handled(step, entry)
    if status != entry.waiting_status or thread.status != entry.thread_status:
        changed = step.edit_node_run().wait_for_threads.threads[index]
        changed.waiting_status, changed.thread_status = status, thread.status
        if handler is not None:
            changed.failure_handler_thread_run_id = handler.number


def _handled(step: Step, entry: Entry) -> WaitForThreadsRun.WaitingThreadStatus:
    handler = step.run.thread(entry.failure_handler_thread_run_id)
    if handler.status == LHStatus.COMPLETED:
        step.forgive(entry.thread_run_number)
        return _DONE
    return _UNSUCCESSFUL if handler.status in FAILED else _HANDLING


def _start_handler(step: Step, thread: ThreadRun) -> ThreadRun | None:
    failure = step.run.last_failure(thread)
    handlers = step.node.wait_for_threads.per_thread_failure_handlers
    handler = next((one for one in handlers if failure is not None and catches(one, failure.failure_name)), None)
    if handler is None or failure is None:
        return None
    content = threads.content_of(failure)
    return threads.start_handler(
        step.run, handler.handler_spec_name, ThreadType.FAILURE_HANDLER, thread, content, misfit="CHILD_FAILURE"
    )


def _child_failure(step: Step, entry: Entry) -> NodeFailure:
    ended = step.run.thread(entry.failure_handler_thread_run_id or entry.thread_run_number)
    cause = step.run.last_failure(ended)
    assert cause is not None, "a thread that has failed has a failure"
    if failure_status(cause.failure_name) == LHStatus.EXCEPTION:
        return NodeFailure(cause.failure_name, cause.message, cause.content if cause.HasField("content") else None)
    return NodeFailure(
        "CHILD_FAILURE", f"thread {entry.thread_run_number} failed with {cause.failure_name}: {cause.message}"
    )
