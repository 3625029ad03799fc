"""What holds of threads, their NodeRuns and their halts after every command (execution.md 1, 4 and 6)."""

from collections import Counter
from collections.abc import Iterator

from littlehorse.model import (
    LHStatus,
    Node,
    NodeRun,
    ThreadRun,
    ThreadType,
    WaitForThreadsRun,
    WaitForThreadsStrategy,
    WfRun,
)

from lhd.core import kinds
from lhd.core.kinds import TERMINAL
from lhd.core.records import Key
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import BELLS

FAILED = frozenset({LHStatus.ERROR, LHStatus.EXCEPTION})
STOPPED = TERMINAL | {LHStatus.HALTED}


def node_runs(world: WholeWorld, kind: str) -> Iterator[tuple[Key, NodeRun]]:
    """The NodeRuns of one kind of node."""
    for key, node_run in world.rows[kinds.NODE_RUN].items():
        if node_run.WhichOneof("node_type") == kind:
            yield key, node_run


def node_of(world: WholeWorld, node_run: NodeRun) -> Node:
    """The node of the WfSpec that this is a run of."""
    spec = node_run.wf_spec_id
    registered = world.rows[kinds.WF_SPEC]["default", spec.name, spec.major_version, spec.revision]
    node: Node = registered.thread_spec(node_run.thread_spec_name).nodes[node_run.node_name]
    return node


def threads_of(world: WholeWorld, wf_run: Key) -> dict[int, ThreadRun]:
    """The ThreadRuns of a WfRun by number, archived ones as well."""
    archived = {
        key[2]: inactive.thread_run
        for key, inactive in world.rows[kinds.INACTIVE_THREAD_RUN].items()
        if key[:2] == wf_run
    }
    return archived | {thread.number: thread for thread in world.rows[kinds.WF_RUN][wf_run].thread_runs}


def is_stopped_for_good(world: WholeWorld, node_run: Key, *, itself: bool = False) -> bool:
    """Whether the thread of a NodeRun, or an ancestor of it, was halted because nobody waits for it any more.

    ``itself`` looks at the thread alone.
    """
    threads = threads_of(world, node_run[:2])
    thread: ThreadRun | None = threads[node_run[2]]
    while thread is not None:
        if any(reason.HasField("halted_by_parent") for reason in thread.halt_reasons):
            return True
        thread = threads[thread.parent_thread_id] if thread.HasField("parent_thread_id") and not itself else None
    return False


def was_cut_short(world: WholeWorld, wf_run: Key) -> bool:
    """Whether the loop guard has stopped the WfRun, wherever its threads were."""
    entrypoint = threads_of(world, wf_run)[0]
    failures = _current(world, wf_run, entrypoint).failures
    return any(failure.failure_name == "INTERNAL_ERROR" for failure in failures)


def _all(world: WholeWorld) -> Iterator[tuple[Key, WfRun, dict[int, ThreadRun]]]:
    for key, wf_run in world.rows[kinds.WF_RUN].items():
        yield key, wf_run, threads_of(world, key)


def _current(world: WholeWorld, wf_run: Key, thread: ThreadRun) -> NodeRun:
    node_run: NodeRun = world.rows[kinds.NODE_RUN][*wf_run, thread.number, thread.current_node_position]
    return node_run


def _reasons(thread: ThreadRun) -> list[str]:
    return [str(reason.WhichOneof("reason")) for reason in thread.halt_reasons]


def every_thread_number_was_given_out_once(world: WholeWorld) -> None:
    for key, wf_run, threads in _all(world):
        present = [thread.number for thread in wf_run.thread_runs]
        archived = [number for number in threads if number not in present]
        assert present == sorted(set(present)), key
        assert set(threads) == set(range(wf_run.greatest_threadrun_number + 1)), key
        assert all(threads[number].status == LHStatus.COMPLETED for number in archived)
        inactive = {one[2] for one in world.rows[kinds.INACTIVE_THREAD_RUN] if one[:2] == key}
        assert inactive == set(archived), "a thread is archived or present, not both"
        assert len(present) <= world.settings.threads_max


def parents_list_their_children_and_children_name_their_parent(world: WholeWorld) -> None:
    for key, _, threads in _all(world):
        listed = {(child, number) for number, thread in threads.items() for child in thread.child_thread_ids}
        named = {
            (number, thread.parent_thread_id)
            for number, thread in threads.items()
            if thread.HasField("parent_thread_id")
        }
        assert listed == named, key
        assert all(len(set(thread.child_thread_ids)) == len(thread.child_thread_ids) for thread in threads.values())
        assert all(thread.HasField("parent_thread_id") == (number > 0) for number, thread in threads.items())


def a_wf_run_is_where_its_entrypoint_is(world: WholeWorld) -> None:
    """execution.md 1.2."""
    for key, wf_run, threads in _all(world):
        entrypoint = threads[0]
        if entrypoint.status in TERMINAL:
            expected = entrypoint.status
        else:
            stopped = entrypoint.status == LHStatus.HALTED and "manual_halt" in _reasons(entrypoint)
            expected = LHStatus.HALTED if stopped else LHStatus.RUNNING
        assert wf_run.status == expected, (key, LHStatus.Name(wf_run.status), LHStatus.Name(expected))
        assert wf_run.HasField("end_time") == (wf_run.status in TERMINAL), key


def a_thread_has_one_node_run_at_each_position_and_only_the_last_is_not_over(world: WholeWorld) -> None:
    positions: dict[Key, list[int]] = {}
    for *thread_key, position in world.rows[kinds.NODE_RUN]:
        positions.setdefault(tuple(thread_key), []).append(position)
    for key, _, threads in _all(world):
        for number, thread in threads.items():
            assert sorted(positions.pop((*key, number))) == list(range(thread.current_node_position + 1))
            for position in range(thread.current_node_position):
                status = world.rows[kinds.NODE_RUN][*key, number, position].status
                assert status in TERMINAL, (key, number, position)
    assert not positions, "each NodeRun belongs to a thread"


def a_node_run_that_is_over_has_an_end_and_a_failed_one_its_failures(world: WholeWorld) -> None:
    for key, node_run in world.rows[kinds.NODE_RUN].items():
        assert node_run.HasField("end_time") == (node_run.status in TERMINAL), key
        assert bool(node_run.failures) == (node_run.status in FAILED), key
        handlers = [
            failure.failure_handler_threadrun_id
            for failure in node_run.failures
            if failure.HasField("failure_handler_threadrun_id")
        ]
        assert list(node_run.failure_handler_ids) == handlers, key
        for failure in node_run.failures:
            assert not failure.was_properly_handled or failure.HasField("failure_handler_threadrun_id"), key


def a_thread_is_where_its_last_node_run_is(world: WholeWorld) -> None:
    for key, _, threads in _all(world):
        for number, thread in threads.items():
            current = _current(world, key, thread)
            match thread.status:
                case LHStatus.RUNNING:
                    assert current.status == LHStatus.RUNNING, (key, number)
                case LHStatus.COMPLETED:
                    assert current.status == LHStatus.COMPLETED, (key, number)
                    assert current.HasField("exit"), (key, number)
                case LHStatus.ERROR | LHStatus.EXCEPTION:
                    assert current.status in FAILED, (key, number)
                    assert not current.failures[-1].was_properly_handled, (key, number)
                case LHStatus.HALTING:
                    assert current.status in STOPPED | {LHStatus.HALTING}, (key, number)
                case LHStatus.HALTED:
                    assert current.status in (LHStatus.HALTED, *FAILED), (key, number)
                case _:
                    raise AssertionError((key, number, thread.status))
            assert thread.HasField("end_time") == (thread.status in TERMINAL), (key, number)


def halted_threads_have_a_reason_and_others_have_none(world: WholeWorld) -> None:
    """One that is still halting when it is resumed halts first and then goes on."""
    for key, _, threads in _all(world):
        for number, thread in threads.items():
            if thread.status != LHStatus.HALTING:
                halts = thread.status == LHStatus.HALTED
                assert bool(thread.halt_reasons) == halts, (key, number, _reasons(thread))


def a_reason_to_halt_is_still_one(world: WholeWorld) -> None:
    """execution.md 4.5: what is resolved is dropped, and then the thread goes on.

    Only where the WfRun has ended over a halted thread no handler of that thread starts any more.
    """
    for key, wf_run, threads in _all(world):
        if was_cut_short(world, key):
            continue
        for number, thread in threads.items():
            for reason in thread.halt_reasons:
                where = (key, number, str(reason))
                match reason.WhichOneof("reason"):
                    case "parent_halted":
                        assert reason.parent_halted.parent_thread_id == thread.parent_thread_id, where
                        parent = threads[thread.parent_thread_id]
                        is_free = parent.status in (LHStatus.RUNNING, LHStatus.COMPLETED)
                        assert thread.status == LHStatus.HALTING or not is_free, where
                    case "interrupted":
                        handler = threads[reason.interrupted.interrupt_thread_id]
                        assert handler.type == ThreadType.INTERRUPT, where
                        assert handler.parent_thread_id == number, where
                        assert thread.status == LHStatus.HALTING or handler.status != LHStatus.COMPLETED, where
                        assert handler.status not in FAILED, where
                    case "handling_failure":
                        handler = threads[reason.handling_failure.handler_thread_id]
                        assert handler.type == ThreadType.FAILURE_HANDLER, where
                        assert handler.parent_thread_id == number, where
                        assert thread.status == LHStatus.HALTING or handler.status != LHStatus.COMPLETED, where
                        assert handler.status not in FAILED, where
                    case "pending_interrupt" | "pending_failure":
                        assert thread.status == LHStatus.HALTING or wf_run.status in TERMINAL, where
                    case "halted_by_parent":
                        assert reason.halted_by_parent.parent_thread_run_number in threads, where
                    case "manual_halt":
                        pass
                    case unknown:
                        raise AssertionError((unknown, where))


def _children(threads: dict[int, ThreadRun], parent: ThreadRun) -> list[ThreadRun]:
    return [
        thread
        for thread in threads.values()
        if thread.HasField("parent_thread_id") and thread.parent_thread_id == parent.number
    ]


def _was_rescued(world: WholeWorld, wf_run: Key, thread: ThreadRun) -> bool:
    earlier = (
        world.rows[kinds.NODE_RUN][*wf_run, thread.number, position] for position in range(thread.current_node_position)
    )
    return any(node_run.failures and not node_run.failures[-1].was_properly_handled for node_run in earlier)


def below_a_halted_thread_only_its_handlers_and_rescued_threads_run(world: WholeWorld) -> None:
    """The children of one that has ended are not its children any more in this respect."""
    for key, _, threads in _all(world):
        for number, thread in threads.items():
            if thread.status != LHStatus.HALTED:
                continue
            handlers = {reason.handling_failure.handler_thread_id for reason in thread.halt_reasons}
            for child in _children(threads, thread):
                beside = child.type == ThreadType.INTERRUPT or child.number in handlers
                runs = beside or _was_rescued(world, key, child)
                assert runs or child.status in STOPPED, (key, number, child.number, _reasons(thread))


def a_halting_thread_has_something_that_cannot_stop(world: WholeWorld) -> None:
    for key, _, threads in _all(world):
        for number, thread in threads.items():
            if thread.status == LHStatus.HALTING:
                below = any(child.status not in STOPPED for child in _children(threads, thread))
                assert below or _current(world, key, thread).status == LHStatus.HALTING, (key, number)


def what_is_pending_names_threads_that_are_halting(world: WholeWorld) -> None:
    for key, wf_run, threads in _all(world):
        interrupts = Counter(
            (number, reason.pending_interrupt.external_event_id.guid)
            for number, thread in threads.items()
            for reason in thread.halt_reasons
            if reason.HasField("pending_interrupt")
        )
        failures = Counter(number for number, thread in threads.items() if "pending_failure" in _reasons(thread))
        pending = wf_run.pending_interrupts
        assert Counter((one.interrupted_thread_id, one.external_event_id.guid) for one in pending) == interrupts, key
        assert Counter(one.failed_thread_run for one in wf_run.pending_failures) == failures, key


def an_event_interrupts_a_thread_at_most_once(world: WholeWorld) -> None:
    for key, wf_run, threads in _all(world):
        triggers = Counter(
            (
                thread.parent_thread_id,
                thread.interrupt_trigger_id.external_event_def_id.name,
                thread.interrupt_trigger_id.guid,
            )
            for thread in threads.values()
            if thread.HasField("interrupt_trigger_id")
        )
        triggers += Counter(
            (one.interrupted_thread_id, one.external_event_id.external_event_def_id.name, one.external_event_id.guid)
            for one in wf_run.pending_interrupts
        )
        assert all(times == 1 for times in triggers.values()), (key, triggers)
        for _, event_def, guid in triggers:
            assert event_def in BELLS
            assert world.rows[kinds.EXTERNAL_EVENT][*key, event_def, guid].claimed, (key, guid)


def who_waits_for_threads_knows_how_they_are(world: WholeWorld) -> None:
    """What has ended has been noticed, and each entry says what is so."""
    for key, node_run in node_runs(world, "wait_for_threads"):
        threads = threads_of(world, key[:2])
        goes_on = world.rows[kinds.WF_RUN][key[:2]].status not in TERMINAL
        for entry in node_run.wait_for_threads.threads if goes_on and node_run.status == LHStatus.RUNNING else ():
            thread = threads[entry.thread_run_number]
            where = (key, entry.thread_run_number)
            match entry.waiting_status:
                case WaitForThreadsRun.THREAD_IN_PROGRESS:
                    assert thread.status not in TERMINAL, where
                case WaitForThreadsRun.THREAD_HANDLING_FAILURE:
                    assert thread.status in FAILED, where
                    assert threads[entry.failure_handler_thread_run_id].status not in TERMINAL, where
                case WaitForThreadsRun.THREAD_COMPLETED_OR_FAILURE_HANDLED:
                    handled = entry.thread_run_number in threads[key[2]].handled_failed_children
                    assert thread.status == LHStatus.COMPLETED or handled, where


def whom_nobody_waits_for_any_more_is_stopped_for_good(world: WholeWorld) -> None:
    """execution.md 6.5: where one thread was enough, the others that were still in progress never go on."""
    for key, node_run in node_runs(world, "wait_for_threads"):
        strategy = node_of(world, node_run).wait_for_threads.strategy
        if node_run.status != LHStatus.COMPLETED or strategy == WaitForThreadsStrategy.WAIT_FOR_ALL:
            continue
        threads = threads_of(world, key[:2])
        for entry in node_run.wait_for_threads.threads:
            if entry.waiting_status == WaitForThreadsRun.THREAD_IN_PROGRESS:
                thread = threads[entry.thread_run_number]
                assert thread.status in TERMINAL or "halted_by_parent" in _reasons(thread), (key, thread.number)


RULES = (
    every_thread_number_was_given_out_once,
    parents_list_their_children_and_children_name_their_parent,
    a_wf_run_is_where_its_entrypoint_is,
    a_thread_has_one_node_run_at_each_position_and_only_the_last_is_not_over,
    a_node_run_that_is_over_has_an_end_and_a_failed_one_its_failures,
    a_thread_is_where_its_last_node_run_is,
    halted_threads_have_a_reason_and_others_have_none,
    a_reason_to_halt_is_still_one,
    below_a_halted_thread_only_its_handlers_and_rescued_threads_run,
    a_halting_thread_has_something_that_cannot_stop,
    what_is_pending_names_threads_that_are_halting,
    an_event_interrupts_a_thread_at_most_once,
    who_waits_for_threads_knows_how_they_are,
    whom_nobody_waits_for_any_more_is_stopped_for_good,
)
