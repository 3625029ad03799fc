"""PutWfSpec for several threads and for the nodes between them: api.md 5.2 to 5.5 and 5.7.

Not tested, for the text leaves it open: what assigning a void output does, a WAIT_FOR_THREADS or WAIT_FOR_CONDITION
node that holds nothing, the inputs and the iterable of START_MULTIPLE_THREADS ("nothing in ref"), the content type of
THROW_EVENT, variables of failure handlers other than INPUT, a condition that is arithmetic or an ill-typed node output,
the types of a user task's notes and triggers, `child_id` (newer than the text).
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from littlehorse.model import (
    Comparator,
    Edge,
    EntrypointNode,
    ExitNode,
    ExternalEventDefId,
    ExternalEventNode,
    FailureHandlerDef,
    InterruptDef,
    LegacyEdgeCondition,
    LHErrorType,
    Node,
    NopNode,
    PutUserTaskDefRequest,
    PutWfSpecRequest,
    PutWorkflowEventDefRequest,
    RunChildWfNode,
    SleepNode,
    StartMultipleThreadsNode,
    StartThreadNode,
    TaskDefId,
    TaskNode,
    ThreadSpec,
    ThreadVarDef,
    ThrowEventNode,
    TypeDefinition,
    UserTaskDef,
    UserTaskField,
    UserTaskNode,
    UTActionTrigger,
    VariableAssignment,
    VariableDef,
    VariableMutation,
    VariableMutationType,
    VariableType,
    VariableValue,
    WaitForChildWfNode,
    WaitForConditionNode,
    WaitForThreadsNode,
    WaitForThreadsStrategy,
    WfRunId,
    WfRunVariableAccessLevel,
    WfSpec,
    WorkflowEventDefId,
)
from littlehorse.workflow import SpawnedThreads, Workflow, WorkflowThread

from lhd.errors import Code
from tests.core.shapes import Body, literal, of_type, output_of, put, put_event_def, refused, version
from tests.core.world import World

Nodes = dict[str, Any]
"""Nodes by name, to be unpacked into keywords."""
Threads = dict[str, Any]

INT, DOUBLE, STR, BOOL, BYTES, JSON_OBJ, JSON_ARR, TIMESTAMP, WF_RUN_ID = EVERY_TYPE = (
    VariableType.INT,
    VariableType.DOUBLE,
    VariableType.STR,
    VariableType.BOOL,
    VariableType.BYTES,
    VariableType.JSON_OBJ,
    VariableType.JSON_ARR,
    VariableType.TIMESTAMP,
    VariableType.WF_RUN_ID,
)
PUBLIC, PRIVATE, INHERITED = (
    WfRunVariableAccessLevel.PUBLIC_VAR,
    WfRunVariableAccessLevel.PRIVATE_VAR,
    WfRunVariableAccessLevel.INHERITED_VAR,
)
M = VariableMutationType
ERROR_NAMES = list(LHErrorType.keys())
BAD_NAMES = ["", "with_underscore", "with space", "-x", "x-", "a.b", "FAILURE_TYPE_ERROR"]
PLACE = ("main_thread", "odd_node")
"""What the text of a refusal must name where it is about ``odd_node`` of ``main_thread``."""


# Assignments.


def variable(name: str, *, cast: VariableType | None = None, path: str | None = None) -> VariableAssignment:
    target = None if cast is None else TypeDefinition(primitive_type=cast)
    return VariableAssignment(variable_name=name, target_type=target, json_path=path)


def compare(left: VariableAssignment, comparator: Comparator, right: VariableAssignment) -> VariableAssignment:
    return VariableAssignment(
        expression=VariableAssignment.Expression(lhs=left, comparator=comparator, rhs=right),
    )


def appended(item: Any) -> VariableAssignment:
    """An expression that gives a JSON_ARR."""
    expression = VariableAssignment.Expression(lhs=literal([]), mutation_type=M.ADD, rhs=literal(item))
    return VariableAssignment(expression=expression)


# Nodes.


def start(thread_name: str, **inputs: VariableAssignment) -> Node:
    return Node(start_thread=StartThreadNode(thread_spec_name=thread_name, variables=inputs))


def start_each(thread_name: str, iterable: VariableAssignment | None = None, **inputs: VariableAssignment) -> Node:
    node = StartMultipleThreadsNode(thread_spec_name=thread_name, iterable=iterable or literal([1]), variables=inputs)
    return Node(start_multiple_threads=node)


def wait_for(*numbers: VariableAssignment, handlers: Iterable[FailureHandlerDef] = ()) -> Node:
    threads = [WaitForThreadsNode.ThreadToWaitFor(thread_run_number=number) for number in numbers]
    return Node(
        wait_for_threads=WaitForThreadsNode(
            threads=WaitForThreadsNode.ThreadsToWaitFor(threads=threads), per_thread_failure_handlers=handlers
        )
    )


def wait_for_list(numbers: VariableAssignment) -> Node:
    return Node(wait_for_threads=WaitForThreadsNode(thread_list=numbers))


def wait_by(strategy: WaitForThreadsStrategy) -> Node:
    return Node(wait_for_threads=WaitForThreadsNode(thread_list=literal([1]), strategy=strategy))


def user_task(name: str = "review", **fields: Any) -> Node:
    """A USER_TASK node, of the user ``me`` if no owner is given."""
    if not fields.keys() & {"user_id", "user_group"}:
        fields["user_id"] = literal("me")
    return Node(user_task=UserTaskNode(user_task_def_name=name, **fields))


def with_action(**action: Any) -> Node:
    return user_task(actions=[UTActionTrigger(**{"delay_seconds": literal(1), **action})])


def throw(name: str = "shouted", content: VariableAssignment | None = None) -> Node:
    return Node(throw_event=ThrowEventNode(event_def_id=WorkflowEventDefId(name=name), content=content or literal(1)))


def wait_until(condition: VariableAssignment) -> Node:
    return Node(wait_for_condition=WaitForConditionNode(condition=condition))


def wait_until_legacy(left: VariableAssignment, comparator: Comparator, right: VariableAssignment) -> Node:
    condition = LegacyEdgeCondition(left=left, comparator=comparator, right=right)
    return Node(wait_for_condition=WaitForConditionNode(legacy_condition=condition))


def run_child(name: str = "child-wf", *, major: int = -1, **inputs: VariableAssignment) -> Node:
    return Node(run_child_wf=RunChildWfNode(wf_spec_name=name, major_version=major, inputs=inputs))


def run_named_by(name: VariableAssignment, **inputs: VariableAssignment) -> Node:
    return Node(run_child_wf=RunChildWfNode(wf_spec_var=name, inputs=inputs))


def wait_for_child(source: str, child: VariableAssignment | None = None) -> Node:
    node = WaitForChildWfNode(child_wf_run_source_node=source, child_wf_run_id=child or output_of(source))
    return Node(wait_for_child_wf=node)


def wait_for_event(name: str) -> Node:
    return Node(external_event=ExternalEventNode(external_event_def_id=ExternalEventDefId(name=name)))


def task(name: str, *inputs: VariableAssignment) -> Node:
    return Node(task=TaskNode(task_def_id=TaskDefId(name=name), variables=inputs))


# Threads and WfSpecs.


def declare(
    name: str, kind: VariableType, *, required: bool = False, level: WfRunVariableAccessLevel = PRIVATE
) -> ThreadVarDef:
    return ThreadVarDef(
        var_def=VariableDef(name=name, type_def=TypeDefinition(primitive_type=kind)),
        required=required,
        access_level=level,
    )


def thread(
    *declared: ThreadVarDef,
    returns: VariableAssignment | None = None,
    interrupts: Mapping[str, str] | None = None,
    **nodes: Node,
) -> ThreadSpec:
    """ENTRYPOINT, these nodes one after the other, EXIT; ``interrupts`` maps events to handlers."""
    chain = {"begin": Node(entrypoint=EntrypointNode()), **nodes, "end": Node(exit=ExitNode(return_content=returns))}
    spec = ThreadSpec(
        variable_defs=declared,
        interrupt_defs=[
            InterruptDef(external_event_def_id=ExternalEventDefId(name=event), handler_spec_name=handler)
            for event, handler in (interrupts or {}).items()
        ],
        nodes=chain,
    )
    for name, sink in pairwise(chain):
        spec.nodes[name].outgoing_edges.append(Edge(sink_node_name=sink))
    return spec


def handler_for(failure: str | None = None, handler: str = "side_thread") -> FailureHandlerDef:
    return FailureHandlerDef(handler_spec_name=handler, specific_failure=failure)


def with_handler(node: Node, handler: FailureHandlerDef) -> Node:
    handled = Node(failure_handlers=[handler])
    handled.MergeFrom(node)
    return handled


def assigning(main: ThreadSpec, node_name: str, target: str) -> ThreadSpec:
    """The same thread, but on its way out of this node its output is assigned to a variable."""
    mutation = VariableMutation(lhs_name=target, operation=M.ASSIGN, rhs_assignment=output_of(node_name))
    main.nodes[node_name].outgoing_edges[0].variable_mutations.append(mutation)
    return main


def with_exit(spec: ThreadSpec, returns: VariableAssignment | None) -> ThreadSpec:
    """The same thread, with one more EXIT node."""
    spec.nodes["other_end"].CopyFrom(Node(exit=ExitNode(return_content=returns)))
    spec.nodes["begin"].outgoing_edges.append(Edge(sink_node_name="other_end"))
    return spec


def put_threads(
    world: World, main: ThreadSpec, *, parent: WfSpec.ParentWfSpecReference | None = None, **others: ThreadSpec
) -> WfSpec:
    spec: WfSpec = world.submit(
        PutWfSpecRequest(
            name="wf",
            entrypoint_thread_name="main_thread",
            thread_specs={"main_thread": main, **others},
            parent_wf_spec=parent,
        )
    )
    return spec


def refuse(
    world: World,
    main: ThreadSpec,
    *fragments: str,
    parent: WfSpec.ParentWfSpecReference | None = None,
    **others: ThreadSpec,
) -> None:
    """The WfSpec is refused with INVALID_ARGUMENT, and nothing of it is stored."""
    with refused(Code.INVALID_ARGUMENT, *fragments):
        put_threads(world, main, parent=parent, **others)
    with refused(Code.NOT_FOUND):
        world.run("wf")


def stored(spec: WfSpec, thread_name: str = "main_thread", node_name: str = "odd_node") -> Node:
    return spec.thread_specs[thread_name].nodes[node_name]


def fits(given: VariableType, expected: VariableType) -> bool:
    """api.md 3.2, for primitives."""
    text_like = (STR, INT, DOUBLE, BOOL, BYTES, WF_RUN_ID)
    return given == expected or (given, expected) == (INT, DOUBLE) or (expected == STR and given in text_like)


def misfit(given: VariableType, expected: VariableType) -> str:
    return f"Cannot assign {VariableType.Name(given)} to {VariableType.Name(expected)} without explicit casting"


def put_user_task_def(world: World, *fields: str) -> UserTaskDef:
    """One more version of ``review``."""
    reply: UserTaskDef = world.submit(
        PutUserTaskDefRequest(name="review", fields=[UserTaskField(name=name, type=BOOL) for name in fields])
    )
    return reply


def child(*declared: Callable[[WorkflowThread], Any], returns: Any = 1.5, sleeps: bool = False) -> Body:
    """The only thread of a child WfSpec."""

    def body(wf: WorkflowThread) -> None:
        for declaration in declared:
            declaration(wf)
        if sleeps:
            wf.sleep(1)
        wf.complete(returns)

    return body


@pytest.fixture
def world() -> World:
    world = World()
    put_event_def(world, "paid")
    put_event_def(world, "stop-me")
    world.put_task_def("t")
    world.put_task_def("takes-int", INT)
    world.put_task_def("gives-str", returns=STR)
    world.put_task_def("gives-obj", returns=JSON_OBJ)
    world.submit(PutWorkflowEventDefRequest(name="shouted", content_type=of_type(INT)))
    put_user_task_def(world, "approved")
    put(world, child(lambda wf: wf.declare_int("amount")), "child-wf")
    return world


A_SIDE_THREAD = thread(declare("x", INT))

EVERY_KIND: dict[str, Nodes] = {
    "NOP": {"odd_node": Node(nop=NopNode())},
    "TASK": {"odd_node": task("t")},
    "EXTERNAL_EVENT": {"odd_node": wait_for_event("paid")},
    "SLEEP": {"odd_node": Node(sleep=SleepNode(raw_seconds=literal(1)))},
    "START_THREAD": {"odd_node": start("side_thread")},
    "START_MULTIPLE_THREADS": {"odd_node": start_each("side_thread")},
    "WAIT_FOR_THREADS": {"started": start("side_thread"), "odd_node": wait_for(output_of("started"))},
    "USER_TASK": {"odd_node": user_task()},
    "THROW_EVENT": {"odd_node": throw()},
    "WAIT_FOR_CONDITION": {"odd_node": wait_until(literal(True))},
    "RUN_CHILD_WF": {"odd_node": run_child()},
    "WAIT_FOR_CHILD_WF": {"started": run_child(), "odd_node": wait_for_child("started")},
}


@pytest.mark.parametrize("nodes", EVERY_KIND.values(), ids=EVERY_KIND)
def test_every_kind_of_node_is_accepted(world: World, nodes: Nodes) -> None:
    spec = put_threads(world, thread(**nodes), side_thread=A_SIDE_THREAD)
    assert set(spec.thread_specs) == {"main_thread", "side_thread"}
    assert stored(spec).WhichOneof("node") == nodes["odd_node"].WhichOneof("node")


def test_what_the_sdk_builds_is_accepted(world: World) -> None:
    def handles(wf: WorkflowThread) -> None:
        wf.add_variable("INPUT", JSON_OBJ)

    def counts(wf: WorkflowThread) -> None:
        wf.declare_int("x")

    def main(wf: WorkflowThread) -> None:
        wf.add_interrupt_handler("stop-me", handles)
        one = wf.spawn_thread(counts, "one", {"x": 1})
        many = wf.spawn_thread_for_each(wf.declare_json_arr("items"), handles, "many")
        wf.handle_any_failure(wf.wait_for_threads(SpawnedThreads.from_list(one)), handles)
        wf.wait_for_threads(many, WaitForThreadsStrategy.WAIT_FOR_ANY).handle_any_failure_on_child(handles)
        wf.handle_exception(wf.execute("t"), handles, "out-of-stock")
        wf.handle_error(wf.execute("t"), handles, LHErrorType.TIMEOUT)
        wf.wait_for_condition(wf.declare_bool("ready").is_equal_to(True))
        wf.assign_user_task("review", user_group=wf.declare_str("group"))
        wf.throw_event("shouted", one.number)
        wf.declare_double("result").assign(wf.wait_for_child_wf(wf.run_wf("child-wf", {"amount": one.number})))

    assert version(world.put_workflow(Workflow("wf", main))) == (0, 0)


def reassignment(**owner: VariableAssignment) -> UTActionTrigger.UTAReassign:
    return UTActionTrigger.UTAReassign(**owner)


GHOST = variable("ghost")
USES: dict[str, tuple[VariableType, Nodes]] = {
    "START_THREAD input": (INT, {"odd_node": start("side_thread", x=GHOST)}),
    "START_MULTIPLE_THREADS iterable": (JSON_ARR, {"odd_node": start_each("side_thread", GHOST)}),
    "START_MULTIPLE_THREADS input": (INT, {"odd_node": start_each("side_thread", x=GHOST)}),
    "WAIT_FOR_THREADS number": (INT, {"odd_node": wait_for(GHOST)}),
    "WAIT_FOR_THREADS list": (JSON_ARR, {"odd_node": wait_for_list(GHOST)}),
    "USER_TASK user": (STR, {"odd_node": user_task(user_id=GHOST)}),
    "USER_TASK group": (STR, {"odd_node": user_task(user_group=GHOST)}),
    "USER_TASK notes": (STR, {"odd_node": user_task(notes=GHOST)}),
    "USER_TASK exception name": (STR, {"odd_node": user_task(on_cancellation_exception_name=GHOST)}),
    "trigger delay": (INT, {"odd_node": with_action(cancel=UTActionTrigger.UTACancel(), delay_seconds=GHOST)}),
    "trigger user": (STR, {"odd_node": with_action(reassign=reassignment(user_id=GHOST))}),
    "trigger group": (STR, {"odd_node": with_action(reassign=reassignment(user_group=GHOST))}),
    "trigger task input": (
        INT,
        {"odd_node": with_action(task=UTActionTrigger.UTATask(task=task("takes-int", GHOST).task))},
    ),
    "THROW_EVENT content": (INT, {"odd_node": throw(content=GHOST)}),
    "WAIT_FOR_CONDITION": (BOOL, {"odd_node": wait_until(GHOST)}),
    "WAIT_FOR_CONDITION comparison": (
        INT,
        {"odd_node": wait_until(compare(literal(1), Comparator.LESS_THAN, GHOST))},
    ),
    "WAIT_FOR_CONDITION legacy": (INT, {"odd_node": wait_until_legacy(GHOST, Comparator.LESS_THAN, literal(1))}),
    "RUN_CHILD_WF input": (INT, {"odd_node": run_child(amount=GHOST)}),
    "RUN_CHILD_WF name": (STR, {"odd_node": run_named_by(GHOST)}),
    "WAIT_FOR_CHILD_WF id": (WF_RUN_ID, {"started": run_child(), "odd_node": wait_for_child("started", GHOST)}),
}
"""Every place of a node that may use a variable: the type that it needs, the nodes of the thread."""


class TestVariables:
    """api.md 5.2."""

    @pytest.mark.parametrize(("kind", "nodes"), USES.values(), ids=USES)
    def test_undeclared_variable_is_refused(self, world: World, kind: VariableType, nodes: Nodes) -> None:
        refuse(world, thread(**nodes), *PLACE, "ghost", side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize(("kind", "nodes"), USES.values(), ids=USES)
    def test_variable_of_any_thread_may_be_used(self, world: World, kind: VariableType, nodes: Nodes) -> None:
        side = thread(declare("x", INT), declare("ghost", kind))
        put_threads(world, thread(**nodes), side_thread=side)

    def test_name_declared_in_two_threads_is_refused(self, world: World) -> None:
        refuse(world, thread(declare("twin", INT)), "twin", side_thread=thread(declare("twin", INT)))

    def test_input_may_be_declared_in_several_threads(self, world: World) -> None:
        first, second = thread(declare("INPUT", STR)), thread(declare("INPUT", JSON_OBJ))
        put_threads(world, thread(), first=first, second=second)


def parent_of_major(major: int) -> WfSpec.ParentWfSpecReference:
    return WfSpec.ParentWfSpecReference(wf_spec_name="parent", wf_spec_major_version=major)


class TestParent:
    """api.md 5.2 (INHERITED_VAR) and 5.7."""

    def test_parent_reference_is_stored(self, world: World) -> None:
        put(world, child(), "parent")
        assert put_threads(world, thread(), parent=parent_of_major(0)).parent_wf_spec == parent_of_major(0)

    def test_parent_must_exist_in_that_major_version(self, world: World) -> None:
        put(world, child(returns=1), "parent")
        put(world, child(returns="text"), "parent")
        refuse(world, thread(), "parent", parent=parent_of_major(2))
        put_threads(world, thread(), parent=parent_of_major(1))

    def test_public_variable_of_the_parent_can_be_inherited(self, world: World) -> None:
        put(world, child(lambda wf: wf.declare_int("v").as_public()), "parent")
        put_threads(world, thread(declare("v", INT, level=INHERITED)), parent=parent_of_major(0))

    def test_private_variable_of_the_parent_cannot_be_inherited(self, world: World) -> None:
        put(world, child(lambda wf: wf.declare_int("secret")), "parent")
        heir = thread(declare("secret", INT, level=INHERITED))
        refuse(world, heir, "main_thread", "secret", parent=parent_of_major(0))

    def test_variable_that_the_parent_does_not_declare_cannot_be_inherited(self, world: World) -> None:
        put(world, child(), "parent")
        heir = thread(declare("ghost", INT, level=INHERITED))
        refuse(world, heir, "main_thread", "ghost", parent=parent_of_major(0))

    def test_variable_must_be_declared_by_the_version_that_is_referred_to(self, world: World) -> None:
        put(world, child(), "parent")
        put(world, child(lambda wf: wf.declare_int("late").as_public()), "parent")
        heir = thread(declare("late", INT, level=INHERITED))
        refuse(world, heir, "main_thread", "late", parent=parent_of_major(0))
        put_threads(world, heir, parent=parent_of_major(1))


class TestThreads:
    """api.md 5.3, in threads beside the entrypoint."""

    def test_no_entrypoint_node(self, world: World) -> None:
        headless = ThreadSpec(nodes={"end": Node(exit=ExitNode())})
        refuse(world, thread(), "side_thread", side_thread=headless)

    def test_two_entrypoint_nodes(self, world: World) -> None:
        two = thread(other=Node(entrypoint=EntrypointNode()))
        two.nodes["begin"].outgoing_edges[0].sink_node_name = "end"
        refuse(world, thread(), "side_thread", side_thread=two)

    def test_node_without_kind(self, world: World) -> None:
        refuse(world, thread(), "side_thread", "odd_node", side_thread=thread(odd_node=Node()))

    def test_exits_that_disagree_are_refused(self, world: World) -> None:
        side = with_exit(thread(returns=literal(1)), literal("text"))
        refuse(world, thread(), "side_thread", "returned different output types", side_thread=side)

    def test_void_and_typed_exit_are_refused(self, world: World) -> None:
        side = with_exit(thread(returns=literal(1)), None)
        refuse(world, thread(), "side_thread", "returns void", "returns non-void", side_thread=side)

    def test_exits_of_different_threads_need_not_agree(self, world: World) -> None:
        put_threads(world, thread(returns=literal(1)), side_thread=thread(returns=literal("text")), void=thread())

    def test_mistake_in_another_thread_names_that_thread(self, world: World) -> None:
        side = thread(odd_node=user_task("unknown-form"))
        refuse(world, thread(), "side_thread", "odd_node", "unknown-form", side_thread=side)


class TestInterrupts:
    """api.md 5.3."""

    @pytest.mark.parametrize("declared", [[], [declare("INPUT", JSON_OBJ)]], ids=["no variable", "INPUT"])
    def test_interrupt_is_stored(self, world: World, declared: list[ThreadVarDef]) -> None:
        main = thread(interrupts={"stop-me": "side_thread"})
        spec = put_threads(world, main, side_thread=thread(*declared))
        assert spec.thread_specs["main_thread"].interrupt_defs == main.interrupt_defs

    def test_event_must_exist(self, world: World) -> None:
        main = thread(interrupts={"unknown-event": "side_thread"})
        refuse(world, main, "main_thread", "unknown-event", side_thread=thread())

    def test_handler_must_exist(self, world: World) -> None:
        refuse(world, thread(interrupts={"stop-me": "nowhere"}), "main_thread", "nowhere")

    @pytest.mark.parametrize(
        "declared",
        [
            [declare("other", JSON_OBJ)],
            [declare("input", JSON_OBJ)],
            [declare("INPUT", JSON_OBJ), declare("other", INT)],
            [declare("other", INT), declare("INPUT", JSON_OBJ)],
        ],
        ids=["another name", "lower case", "INPUT first", "INPUT second"],
    )
    def test_handler_may_declare_nothing_but_input(self, world: World, declared: list[ThreadVarDef]) -> None:
        main = thread(interrupts={"stop-me": "side_thread"})
        refuse(world, main, "side_thread", "INPUT", side_thread=thread(*declared))

    def test_thread_with_other_variables_that_handles_nothing_is_accepted(self, world: World) -> None:
        main = thread(interrupts={"stop-me": "handler"})
        put_threads(world, main, handler=thread(), side_thread=thread(declare("a", INT), declare("b", INT)))

    def test_trigger_must_not_be_awaited_in_the_same_thread(self, world: World) -> None:
        main = thread(interrupts={"stop-me": "side_thread"}, waits=wait_for_event("stop-me"))
        refuse(world, main, "main_thread", "stop-me", side_thread=thread())

    def test_trigger_must_not_be_awaited_in_the_handler(self, world: World) -> None:
        main = thread(interrupts={"stop-me": "side_thread"})
        refuse(world, main, "stop-me", side_thread=thread(waits=wait_for_event("stop-me")))

    def test_trigger_must_not_be_awaited_in_a_thread_without_interrupt(self, world: World) -> None:
        main = thread(waits=wait_for_event("stop-me"))
        side = thread(interrupts={"stop-me": "handler"})
        refuse(world, main, "stop-me", side_thread=side, handler=thread())

    def test_another_event_may_be_awaited(self, world: World) -> None:
        main = thread(interrupts={"stop-me": "side_thread"}, waits=wait_for_event("paid"))
        put_threads(world, main, side_thread=thread(waits=wait_for_event("paid")))

    def test_trigger_of_two_threads_is_refused(self, world: World) -> None:
        main, side = thread(interrupts={"stop-me": "handler"}), thread(interrupts={"stop-me": "handler"})
        refuse(world, main, "stop-me", side_thread=side, handler=thread())

    def test_two_threads_may_have_different_triggers(self, world: World) -> None:
        main, side = thread(interrupts={"stop-me": "handler"}), thread(interrupts={"paid": "handler"})
        put_threads(world, main, side_thread=side, handler=thread())


class TestFailureHandlers:
    """api.md 5.3 and the last row of 5.5."""

    @pytest.mark.parametrize("name", [*ERROR_NAMES, "out-of-stock", "x", "Timeout", "7"])
    def test_good_failure_name(self, world: World, name: str) -> None:
        handler = handler_for(name)
        spec = put_threads(world, thread(odd_node=with_handler(task("t"), handler)), side_thread=thread())
        assert list(stored(spec).failure_handlers) == [handler]

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_failure_name(self, world: World, name: str) -> None:
        main = thread(odd_node=with_handler(task("t"), handler_for(name)))
        refuse(world, main, *PLACE, name, side_thread=thread())

    @pytest.mark.parametrize("kind", [None, *FailureHandlerDef.LHFailureType.values()])
    def test_handler_for_a_class_of_failures(self, world: World, kind: Any) -> None:
        handler = FailureHandlerDef(handler_spec_name="side_thread", any_failure_of_type=kind)
        put_threads(world, thread(odd_node=with_handler(task("t"), handler)), side_thread=thread())

    def test_handler_may_declare_input(self, world: World) -> None:
        main = thread(odd_node=with_handler(task("t"), handler_for()))
        put_threads(world, main, side_thread=thread(declare("INPUT", JSON_OBJ)))

    @pytest.mark.parametrize("nodes", EVERY_KIND.values(), ids=EVERY_KIND)
    def test_every_kind_of_node_may_have_a_handler(self, world: World, nodes: Nodes) -> None:
        handled = {**nodes, "odd_node": with_handler(nodes["odd_node"], handler_for("out-of-stock"))}
        put_threads(world, thread(**handled), side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize("nodes", EVERY_KIND.values(), ids=EVERY_KIND)
    def test_bad_failure_name_at_every_kind_of_node(self, world: World, nodes: Nodes) -> None:
        handled = {**nodes, "odd_node": with_handler(nodes["odd_node"], handler_for("bad_name"))}
        refuse(world, thread(**handled), *PLACE, "bad_name", side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize("nodes", EVERY_KIND.values(), ids=EVERY_KIND)
    def test_handler_thread_must_exist(self, world: World, nodes: Nodes) -> None:
        handled = {**nodes, "odd_node": with_handler(nodes["odd_node"], handler_for(handler="nowhere"))}
        refuse(world, thread(**handled), *PLACE, "nowhere", side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize("handler", [handler_for("bad_name"), handler_for(handler="nowhere")])
    def test_second_handler_is_checked_likewise(self, world: World, handler: FailureHandlerDef) -> None:
        node = with_handler(task("t"), handler_for("TIMEOUT"))
        node.failure_handlers.append(handler)
        refuse(world, thread(odd_node=node), *PLACE, side_thread=thread())

    @pytest.mark.parametrize("name", ["CHILD_FAILURE", "out-of-stock"])
    def test_good_failure_name_for_one_thread_of_several(self, world: World, name: str) -> None:
        nodes: Nodes = {"started": start("side_thread"), "odd_node": wait_for(literal(1), handlers=[handler_for(name)])}
        put_threads(world, thread(**nodes), side_thread=thread())

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_failure_name_for_one_thread_of_several(self, world: World, name: str) -> None:
        main = thread(odd_node=wait_for(literal(1), handlers=[handler_for(name)]))
        refuse(world, main, *PLACE, name, side_thread=thread())

    def test_handler_thread_for_one_thread_of_several_must_exist(self, world: World) -> None:
        main = thread(odd_node=wait_for(literal(1), handlers=[handler_for(handler="nowhere")]))
        refuse(world, main, *PLACE, "nowhere")


class TestEdges:
    """api.md 5.4, between threads."""

    def test_sink_in_another_thread_is_refused(self, world: World) -> None:
        main = thread(odd_node=Node(nop=NopNode()))
        main.nodes["odd_node"].outgoing_edges[0].sink_node_name = "elsewhere"
        refuse(world, main, *PLACE, "elsewhere", side_thread=thread(elsewhere=Node(nop=NopNode())))

    def test_condition_is_checked_in_every_thread(self, world: World) -> None:
        side = thread(odd_node=Node(nop=NopNode()))
        side.nodes["odd_node"].outgoing_edges[0].condition.CopyFrom(literal("text"))
        refuse(world, thread(), "side_thread", "odd_node", "BOOL", side_thread=side)

    def test_mutation_is_checked_in_every_thread(self, world: World) -> None:
        side = assigning(thread(declare("v", INT), odd_node=task("gives-str")), "odd_node", "v")
        refuse(world, thread(), "side_thread", "odd_node", misfit(STR, INT), side_thread=side)

    def test_variable_of_another_thread_is_assigned_with_its_type(self, world: World) -> None:
        main, owner = assigning(thread(odd_node=task("gives-str")), "odd_node", "v"), thread(declare("v", INT))
        refuse(world, main, *PLACE, misfit(STR, INT), side_thread=owner)

    def test_output_of_a_node_in_another_thread_is_refused(self, world: World) -> None:
        main = thread(declare("v", STR), odd_node=throw(content=output_of("elsewhere")))
        refuse(world, main, *PLACE, "elsewhere", side_thread=thread(elsewhere=task("gives-str")))


class TestStartThread:
    """api.md 5.5: START_THREAD, but for its inputs."""

    def test_thread_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=start("nowhere")), *PLACE, "nowhere")

    def test_thread_must_not_start_itself(self, world: World) -> None:
        refuse(world, thread(odd_node=start("main_thread")), *PLACE)

    def test_other_thread_must_not_start_itself(self, world: World) -> None:
        side = thread(odd_node=start("side_thread"))
        refuse(world, thread(), "side_thread", "odd_node", side_thread=side)

    def test_thread_may_start_the_one_that_started_it(self, world: World) -> None:
        side = thread(back=start("main_thread"))
        put_threads(world, thread(odd_node=start("side_thread")), side_thread=side)


def start_thread_with(world: World, expected: ThreadVarDef, value: VariableAssignment | None) -> tuple[Nodes, Threads]:
    """A START_THREAD node for a thread with this variable."""
    inputs: dict[str, Any] = {} if value is None else {"amount": value}
    return {"odd_node": start("side_thread", **inputs)}, {"side_thread": thread(expected)}


def run_child_with(world: World, expected: ThreadVarDef, value: VariableAssignment | None) -> tuple[Nodes, Threads]:
    """A RUN_CHILD_WF node for a WfSpec whose entrypoint has this variable."""
    threads = {"first": thread(expected), "second": thread(declare("elsewhere", INT))}
    world.submit(PutWfSpecRequest(name="typed-child", entrypoint_thread_name="first", thread_specs=threads))
    inputs: dict[str, Any] = {} if value is None else {"amount": value}
    return {"odd_node": run_child("typed-child", **inputs)}, {}


START_WITH = {"START_THREAD": start_thread_with, "RUN_CHILD_WF": run_child_with}


@pytest.mark.parametrize("started", START_WITH.values(), ids=START_WITH)
class TestInputs:
    """api.md 5.5: the inputs of START_THREAD and of RUN_CHILD_WF."""

    @pytest.mark.parametrize("expected", EVERY_TYPE, ids=VariableType.Name)
    @pytest.mark.parametrize("given", EVERY_TYPE, ids=VariableType.Name)
    def test_type_must_fit(self, world: World, started: Any, given: VariableType, expected: VariableType) -> None:
        nodes, others = started(world, declare("amount", expected), variable("v"))
        main = thread(declare("v", given), **nodes)
        if fits(given, expected):
            put_threads(world, main, **others)
        else:
            refuse(world, main, *PLACE, misfit(given, expected), **others)

    @pytest.mark.parametrize(
        ("value", "expected"), [("text", INT), (1.5, INT), (1, BOOL), ({"a": 1}, STR), ([1], JSON_OBJ)]
    )
    def test_literal_must_fit(self, world: World, started: Any, value: Any, expected: VariableType) -> None:
        nodes, others = started(world, declare("amount", expected), literal(value))
        refuse(world, thread(**nodes), *PLACE, "Cannot assign", VariableType.Name(expected), **others)

    @pytest.mark.parametrize("expected", EVERY_TYPE, ids=VariableType.Name)
    def test_null_fits_also_what_is_required(self, world: World, started: Any, expected: VariableType) -> None:
        nodes, others = started(world, declare("amount", expected, required=True), literal(None))
        put_threads(world, thread(**nodes), **others)

    def test_output_of_a_node_must_fit(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT), output_of("before"))
        refuse(world, thread(before=task("gives-str"), **nodes), *PLACE, misfit(STR, INT), **others)

    def test_place_in_json_is_accepted(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT), variable("o", path="$.x"))
        put_threads(world, thread(declare("o", JSON_OBJ), **nodes), **others)

    def test_cast_makes_it_fit(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT), variable("v", cast=INT))
        put_threads(world, thread(declare("v", STR), **nodes), **others)

    def test_target_of_a_cast_must_fit(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT), variable("v", cast=DOUBLE))
        refuse(world, thread(declare("v", STR), **nodes), *PLACE, "DOUBLE", **others)

    @pytest.mark.parametrize(("given", "target"), [(BOOL, INT), (JSON_OBJ, STR), (STR, TIMESTAMP)])
    def test_impossible_cast(self, world: World, started: Any, given: VariableType, target: VariableType) -> None:
        nodes, others = started(world, declare("amount", target), variable("v", cast=target))
        refuse(world, thread(declare("v", given), **nodes), *PLACE, VariableType.Name(target), **others)

    def test_required_input_must_be_given(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT, required=True), None)
        refuse(world, thread(**nodes), *PLACE, "amount", **others)

    def test_optional_input_may_be_left_out(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("amount", INT), None)
        put_threads(world, thread(**nodes), **others)

    def test_input_must_be_declared(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("other", INT), literal(1))
        refuse(world, thread(**nodes), *PLACE, "amount", **others)

    def test_variable_of_the_starting_thread_is_no_input(self, world: World, started: Any) -> None:
        nodes, others = started(world, declare("other", INT), literal(1))
        refuse(world, thread(declare("amount", INT), **nodes), *PLACE, "amount", **others)


class TestStartMultipleThreads:
    """api.md 5.3 and 5.5."""

    def test_thread_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=start_each("nowhere")), *PLACE, "nowhere")

    def test_input_comes_from_the_item(self, world: World) -> None:
        side = thread(declare("INPUT", INT, required=True), declare("x", INT, required=True))
        put_threads(world, thread(odd_node=start_each("side_thread", x=literal(1))), side_thread=side)


NEEDS: dict[str, tuple[VariableType, Callable[[VariableAssignment], Nodes]]] = {
    "thread number": (INT, lambda value: {"odd_node": wait_for(value)}),
    "second thread number": (INT, lambda value: {"odd_node": wait_for(literal(1), value)}),
    "list of threads": (JSON_ARR, lambda value: {"odd_node": wait_for_list(value)}),
    "name of a child WfSpec": (STR, lambda value: {"odd_node": run_named_by(value)}),
    "child WfRun": (WF_RUN_ID, lambda value: {"started": run_child(), "odd_node": wait_for_child("started", value)}),
}
"""What "can be" of a type (api.md 5.5): the type, and the nodes of a thread that needs it."""


@pytest.mark.parametrize(("expected", "needing"), NEEDS.values(), ids=NEEDS)
class TestWhatCanBeOfAType:
    """api.md 5.5: WAIT_FOR_THREADS, RUN_CHILD_WF by variable, WAIT_FOR_CHILD_WF."""

    @pytest.mark.parametrize("given", EVERY_TYPE, ids=VariableType.Name)
    def test_type_of_a_variable_must_fit(
        self, world: World, expected: VariableType, needing: Any, given: VariableType
    ) -> None:
        main = thread(declare("v", given), **needing(variable("v")))
        if fits(given, expected):
            put_threads(world, main)
        else:
            refuse(world, main, *PLACE, misfit(given, expected))

    def test_null_always_can(self, world: World, expected: VariableType, needing: Any) -> None:
        put_threads(world, thread(**needing(literal(None))))

    def test_place_in_json_always_can(self, world: World, expected: VariableType, needing: Any) -> None:
        put_threads(world, thread(declare("o", JSON_OBJ), **needing(variable("o", path="$.x"))))

    def test_output_of_a_node_always_can(self, world: World, expected: VariableType, needing: Any) -> None:
        put_threads(world, thread(before=task("gives-obj"), **needing(output_of("before"))))

    def test_expression_always_can(self, world: World, expected: VariableType, needing: Any) -> None:
        put_threads(world, thread(**needing(appended(1))))

    def test_assignment_without_source_is_refused(self, world: World, expected: VariableType, needing: Any) -> None:
        empty = VariableAssignment(target_type=TypeDefinition(primitive_type=expected))
        refuse(world, thread(**needing(empty)), *PLACE)

    def test_output_of_an_unknown_node_is_refused(self, world: World, expected: VariableType, needing: Any) -> None:
        refuse(world, thread(**needing(output_of("nowhere"))), *PLACE, "nowhere")


@pytest.mark.parametrize("need", ["thread number", "child WfRun"])
def test_cast_to_what_is_needed_is_accepted(world: World, need: str) -> None:
    expected, needing = NEEDS[need]
    put_threads(world, thread(declare("v", STR), **needing(variable("v", cast=expected))))


@pytest.mark.parametrize(("need", "target"), [("thread number", DOUBLE), ("child WfRun", STR)])
def test_cast_to_something_else_is_refused(world: World, need: str, target: VariableType) -> None:
    _, needing = NEEDS[need]
    refuse(world, thread(declare("v", STR), **needing(variable("v", cast=target))), *PLACE, VariableType.Name(target))


class TestUserTask:
    """api.md 5.5: USER_TASK."""

    def test_def_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=user_task("unknown-form")), *PLACE, "unknown-form")

    def test_given_version_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=user_task(user_task_def_version=7)), *PLACE, "review")

    def test_latest_version_is_pinned(self, world: World) -> None:
        assert put_user_task_def(world, "approved", "checked").version == 1
        node = stored(put_threads(world, thread(odd_node=user_task()))).user_task
        assert node.HasField("user_task_def_version")
        assert node.user_task_def_version == 1

    def test_first_version_is_pinned_visibly(self, world: World) -> None:
        node = stored(put_threads(world, thread(odd_node=user_task()))).user_task
        assert node.HasField("user_task_def_version")
        assert node.user_task_def_version == 0

    def test_version_is_pinned_in_every_thread(self, world: World) -> None:
        put_user_task_def(world, "approved", "checked")
        spec = put_threads(world, thread(), side_thread=thread(odd_node=user_task()))
        assert stored(spec, "side_thread").user_task.user_task_def_version == 1

    def test_given_version_is_kept(self, world: World) -> None:
        put_user_task_def(world, "approved", "checked")
        node = stored(put_threads(world, thread(odd_node=user_task(user_task_def_version=0)))).user_task
        assert node.user_task_def_version == 0

    def test_somebody_must_own_it(self, world: World) -> None:
        nobody = Node(user_task=UserTaskNode(user_task_def_name="review"))
        refuse(world, thread(odd_node=nobody), *PLACE)

    @pytest.mark.parametrize(
        "owner",
        [
            {"user_id": literal("me")},
            {"user_group": literal("us")},
            {"user_id": literal("me"), "user_group": literal("us")},
            {"user_id": variable("v")},
            {"user_group": variable("v")},
        ],
        ids=["user", "group", "both", "user by variable", "group by variable"],
    )
    def test_owner(self, world: World, owner: dict[str, Any]) -> None:
        put_threads(world, thread(declare("v", STR), odd_node=user_task(**owner)))

    @pytest.mark.parametrize("blank", ["", "  ", "\t"])
    @pytest.mark.parametrize(
        ("field", "other", "text"),
        [
            ("user_id", None, "UserId can't be empty"),
            ("user_id", "user_group", "UserId can't be empty"),
            ("user_group", None, "UserGroup can't be empty"),
            ("user_group", "user_id", "UserGroup can't be empty"),
        ],
    )
    def test_literal_owner_must_not_be_blank(
        self, world: World, field: str, other: str | None, text: str, blank: str
    ) -> None:
        owner: dict[str, Any] = {field: literal(blank)} | ({} if other is None else {other: literal("someone")})
        refuse(world, thread(odd_node=user_task(**owner)), *PLACE, text)


class TestThrowEvent:
    """api.md 5.5: THROW_EVENT."""

    def test_def_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=throw("unknown-event")), *PLACE, "unknown-event")

    def test_external_event_def_is_no_workflow_event_def(self, world: World) -> None:
        refuse(world, thread(odd_node=throw("paid")), *PLACE, "paid")

    def test_def_must_be_given(self, world: World) -> None:
        refuse(world, thread(odd_node=Node(throw_event=ThrowEventNode(content=literal(1)))), *PLACE)


class TestWaitForCondition:
    """api.md 5.5: WAIT_FOR_CONDITION, and 5.4."""

    @pytest.mark.parametrize("given", EVERY_TYPE, ids=VariableType.Name)
    def test_variable_must_be_a_bool(self, world: World, given: VariableType) -> None:
        main = thread(declare("v", given), odd_node=wait_until(variable("v")))
        if given == BOOL:
            put_threads(world, main)
        else:
            refuse(world, main, *PLACE, "BOOL")

    @pytest.mark.parametrize("value", [1, 1.5, "true", {"a": 1}, [1]])
    def test_literal_must_be_a_bool(self, world: World, value: Any) -> None:
        refuse(world, thread(odd_node=wait_until(literal(value))), *PLACE, "BOOL")

    def test_place_in_json_is_accepted(self, world: World) -> None:
        put_threads(world, thread(declare("o", JSON_OBJ), odd_node=wait_until(variable("o", path="$.x"))))

    @pytest.mark.parametrize("legacy", [False, True], ids=["condition", "legacy"])
    @pytest.mark.parametrize(
        ("left", "comparator", "right", "accepted"),
        [
            (1, Comparator.LESS_THAN, 2.5, True),
            ("a", Comparator.EQUALS, 1, True),
            ({"a": 1}, Comparator.EQUALS, None, True),
            ("a", Comparator.IN, {"a": 1}, True),
            (1, Comparator.IN, [1], True),
            ("x", Comparator.LESS_THAN, [2], False),
            (1, Comparator.IN, 1, False),
            (1, Comparator.NOT_IN, {"a": 1}, False),
            ({"a": 1}, Comparator.EQUALS, "a", False),
        ],
    )
    def test_comparison(
        self, world: World, left: Any, comparator: Comparator, right: Any, accepted: bool, legacy: bool
    ) -> None:
        sides = literal(left), literal(right)
        node = (
            wait_until_legacy(sides[0], comparator, sides[1])
            if legacy
            else wait_until(compare(sides[0], comparator, sides[1]))
        )
        if accepted:
            put_threads(world, thread(odd_node=node))
        else:
            refuse(world, thread(odd_node=node), *PLACE)

    def test_output_of_an_unknown_node_is_refused(self, world: World) -> None:
        refuse(world, thread(odd_node=wait_until(output_of("nowhere"))), *PLACE, "nowhere")


class TestRunChildWf:
    """api.md 5.5: RUN_CHILD_WF."""

    def test_wf_spec_must_exist(self, world: World) -> None:
        main = thread(odd_node=run_child("unknown-wf"))
        refuse(world, main, *PLACE, "could not find wfspec", "unknown-wf")

    def test_given_major_version_must_exist(self, world: World) -> None:
        refuse(world, thread(odd_node=run_child(major=3)), *PLACE, "could not find wfspec", "child-wf")

    def test_wf_spec_must_be_named(self, world: World) -> None:
        refuse(world, thread(odd_node=Node(run_child_wf=RunChildWfNode(major_version=-1))), *PLACE)

    def test_latest_major_version_is_pinned(self, world: World) -> None:
        assert version(put(world, child(returns="text"), "child-wf")) == (1, 0)
        assert stored(put_threads(world, thread(odd_node=run_child()))).run_child_wf.major_version == 1

    def test_major_version_is_pinned_in_every_thread(self, world: World) -> None:
        spec = put_threads(world, thread(), side_thread=thread(odd_node=run_child()))
        assert stored(spec, "side_thread").run_child_wf.major_version == 0

    def test_given_major_version_is_kept(self, world: World) -> None:
        put(world, child(returns="text"), "child-wf")
        assert stored(put_threads(world, thread(odd_node=run_child(major=0)))).run_child_wf.major_version == 0

    def test_inputs_are_those_of_the_given_major_version(self, world: World) -> None:
        put(world, child(lambda wf: wf.declare_str("reason").required()), "child-wf")
        refuse(world, thread(odd_node=run_child()), *PLACE, "reason")
        refuse(world, thread(odd_node=run_child(major=0, reason=literal("x"))), *PLACE, "reason")
        put_threads(world, thread(odd_node=run_child(reason=literal("x"))))

    def test_inputs_are_those_of_the_entrypoint_thread(self, world: World) -> None:
        nodes, _ = run_child_with(world, declare("amount", INT), literal(1))
        nodes["odd_node"].run_child_wf.inputs["elsewhere"].CopyFrom(literal(1))
        refuse(world, thread(**nodes), *PLACE, "elsewhere")

    def test_inputs_of_a_wf_spec_named_by_a_variable_are_not_checked(self, world: World) -> None:
        node = run_named_by(variable("v"), whatever=literal(1))
        put_threads(world, thread(declare("v", STR), odd_node=node))


class TestWaitForChildWf:
    """api.md 5.5: WAIT_FOR_CHILD_WF."""

    @pytest.mark.parametrize("source", ["nowhere", "", "odd_node"])
    def test_source_must_be_a_node_that_runs_a_child(self, world: World, source: str) -> None:
        main = thread(started=run_child(), odd_node=wait_for_child(source, output_of("started")))
        refuse(world, main, *PLACE, source)

    @pytest.mark.parametrize("source", [task("t"), start("side_thread"), throw()])
    def test_source_must_not_be_of_another_kind(self, world: World, source: Node) -> None:
        node = wait_for_child("before", variable("v"))
        main = thread(declare("v", WF_RUN_ID), before=source, odd_node=node)
        refuse(world, main, *PLACE, "before", side_thread=A_SIDE_THREAD)

    def test_source_must_not_be_of_another_thread(self, world: World) -> None:
        main = thread(declare("v", WF_RUN_ID), odd_node=wait_for_child("elsewhere", variable("v")))
        refuse(world, main, *PLACE, "elsewhere", side_thread=thread(elsewhere=run_child()))

    def test_child_may_come_from_a_literal(self, world: World) -> None:
        wf_run = VariableAssignment(literal_value=VariableValue(wf_run_id=WfRunId(id="c")))
        put_threads(world, thread(started=run_child(), odd_node=wait_for_child("started", wf_run)))


OUTPUTS: dict[str, tuple[VariableType, Nodes]] = {
    "START_THREAD": (INT, {"odd_node": start("side_thread")}),
    "START_MULTIPLE_THREADS": (JSON_ARR, {"odd_node": start_each("side_thread")}),
    "USER_TASK": (JSON_OBJ, {"odd_node": user_task()}),
    "RUN_CHILD_WF": (WF_RUN_ID, {"odd_node": run_child()}),
    "RUN_CHILD_WF by variable": (WF_RUN_ID, {"odd_node": run_named_by(literal("child-wf"))}),
    "WAIT_FOR_CHILD_WF": (DOUBLE, {"started": run_child(), "odd_node": wait_for_child("started")}),
}
"""The output type of each kind of node; that of ``child-wf`` is DOUBLE."""


@pytest.mark.parametrize(("output", "nodes"), OUTPUTS.values(), ids=OUTPUTS)
class TestOutputTypes:
    """api.md 5.5, last column."""

    @pytest.mark.parametrize("target", EVERY_TYPE, ids=VariableType.Name)
    def test_output_must_fit_the_variable_that_takes_it(
        self, world: World, output: VariableType, nodes: Nodes, target: VariableType
    ) -> None:
        main = assigning(thread(declare("v", target), **nodes), "odd_node", "v")
        if fits(output, target):
            put_threads(world, main, side_thread=A_SIDE_THREAD)
        else:
            refuse(world, main, *PLACE, misfit(output, target), side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize("target", EVERY_TYPE, ids=VariableType.Name)
    def test_output_must_fit_the_input_of_a_later_task(
        self, world: World, output: VariableType, nodes: Nodes, target: VariableType
    ) -> None:
        world.put_task_def("typed", target)
        main = thread(**nodes, later=task("typed", output_of("odd_node")))
        if fits(output, target):
            put_threads(world, main, side_thread=A_SIDE_THREAD)
        else:
            refuse(world, main, "main_thread", "later", misfit(output, target), side_thread=A_SIDE_THREAD)

    def test_exit_that_returns_it_agrees_with_another_of_its_type(
        self, world: World, output: VariableType, nodes: Nodes
    ) -> None:
        main = with_exit(thread(declare("v", output), returns=output_of("odd_node"), **nodes), variable("v"))
        put_threads(world, main, side_thread=A_SIDE_THREAD)

    def test_exit_that_returns_it_disagrees_with_one_of_another_type(
        self, world: World, output: VariableType, nodes: Nodes
    ) -> None:
        main = with_exit(thread(returns=output_of("odd_node"), **nodes), literal("text"))
        refuse(world, main, "main_thread", "returned different output types", side_thread=A_SIDE_THREAD)

    @pytest.mark.parametrize("same", [True, False], ids=["same type", "other type"])
    def test_only_a_return_of_another_type_is_breaking(
        self, world: World, output: VariableType, nodes: Nodes, same: bool
    ) -> None:
        put_threads(world, thread(declare("v", output if same else STR), returns=variable("v")))
        main = thread(returns=output_of("odd_node"), **nodes)
        spec = put_threads(world, main, side_thread=A_SIDE_THREAD)
        assert version(spec) == ((0, 1) if same else (1, 0))


class TestOutputOfAChild:
    """api.md 5.5: WAIT_FOR_CHILD_WF."""

    @pytest.mark.parametrize(("major", "output"), [(-1, STR), (0, DOUBLE), (1, STR)])
    def test_output_is_that_of_the_pinned_major_version(self, world: World, major: int, output: VariableType) -> None:
        put(world, child(returns="text"), "child-wf")
        main = thread(declare("v", BOOL), started=run_child(major=major), odd_node=wait_for_child("started"))
        refuse(world, assigning(main, "odd_node", "v"), *PLACE, misfit(output, BOOL))

    @pytest.mark.parametrize("target", EVERY_TYPE, ids=VariableType.Name)
    def test_output_of_a_wf_spec_named_by_a_variable_is_not_known(self, world: World, target: VariableType) -> None:
        nodes: Nodes = {"started": run_named_by(literal("child-wf")), "odd_node": wait_for_child("started")}
        put_threads(world, assigning(thread(declare("v", target), **nodes), "odd_node", "v"))


def frozen(spec: WfSpec) -> set[str]:
    return {one.var_def.name for one in spec.frozen_variables}


REVISIONS: dict[str, tuple[ThreadSpec, ThreadSpec]] = {
    "interrupt": (thread(), thread(interrupts={"stop-me": "handler"})),
    "trigger": (thread(interrupts={"stop-me": "handler"}), thread(interrupts={"paid": "handler"})),
    "failure handler": (thread(n=task("t")), thread(n=with_handler(task("t"), handler_for("TIMEOUT", "handler")))),
    "failure name": (
        thread(n=with_handler(task("t"), handler_for("TIMEOUT", "handler"))),
        thread(n=with_handler(task("t"), handler_for("TASK_FAILURE", "handler"))),
    ),
    "thread that is started": (thread(n=start("handler")), thread(n=start("other"))),
    "strategy": (
        thread(n=wait_by(WaitForThreadsStrategy.WAIT_FOR_ALL)),
        thread(n=wait_by(WaitForThreadsStrategy.WAIT_FOR_ANY)),
    ),
    "owner of a user task": (thread(n=user_task()), thread(n=user_task(user_id=literal("you")))),
    "content of an event": (thread(n=throw(content=literal(1))), thread(n=throw(content=literal(2)))),
    "condition": (thread(n=wait_until(literal(True))), thread(n=wait_until(literal(False)))),
    "child input": (thread(n=run_child(amount=literal(1))), thread(n=run_child(amount=literal(2)))),
}


class TestVersions:
    """api.md 5.7 and 5.8, with several threads."""

    @pytest.mark.parametrize("nodes", EVERY_KIND.values(), ids=EVERY_KIND)
    def test_same_spec_again_returns_the_stored_one(self, world: World, nodes: Nodes) -> None:
        first = put_threads(world, thread(**nodes), side_thread=A_SIDE_THREAD)
        world.now_ms += 1000
        assert put_threads(world, thread(**nodes), side_thread=A_SIDE_THREAD) == first

    @pytest.mark.parametrize(("before", "after"), REVISIONS.values(), ids=REVISIONS)
    def test_change_inside_a_thread_is_a_revision(self, world: World, before: ThreadSpec, after: ThreadSpec) -> None:
        others: Threads = {"handler": thread(), "other": thread()}
        put_threads(world, before, **others)
        assert version(put_threads(world, after, **others)) == (0, 1)

    def test_another_thread_is_a_revision(self, world: World) -> None:
        put_threads(world, thread())
        assert version(put_threads(world, thread(), side_thread=thread())) == (0, 1)

    def test_another_parent_is_a_revision(self, world: World) -> None:
        put(world, child(), "parent")
        put_threads(world, thread())
        assert version(put_threads(world, thread(), parent=parent_of_major(0))) == (0, 1)

    def test_output_of_another_thread_is_not_that_of_the_wf_spec(self, world: World) -> None:
        put_threads(world, thread(), side_thread=thread(returns=literal(1)))
        assert version(put_threads(world, thread(), side_thread=thread(returns=literal("text")))) == (0, 1)

    def test_public_variable_of_any_thread_is_breaking(self, world: World) -> None:
        put_threads(world, thread(), side_thread=thread())
        side = thread(declare("v", INT, level=PUBLIC))
        assert version(put_threads(world, thread(), side_thread=side)) == (1, 0)

    @pytest.mark.parametrize("required", [False, True])
    def test_private_variable_of_another_thread_is_a_revision(self, world: World, required: bool) -> None:
        put_threads(world, thread(), side_thread=thread())
        side = thread(declare("v", INT, required=required))
        assert version(put_threads(world, thread(), side_thread=side)) == (0, 1)

    def test_public_variable_that_moves_to_another_thread_is_a_revision(self, world: World) -> None:
        public = declare("v", INT, level=PUBLIC)
        put_threads(world, thread(public), side_thread=thread())
        assert version(put_threads(world, thread(), side_thread=thread(public))) == (0, 1)

    def test_newer_user_task_def_makes_a_revision(self, world: World) -> None:
        put_threads(world, thread(odd_node=user_task()))
        put_user_task_def(world, "approved", "checked")
        spec = put_threads(world, thread(odd_node=user_task()))
        assert version(spec) == (0, 1)
        assert stored(spec).user_task.user_task_def_version == 1

    def test_pinned_and_given_user_task_def_version_are_the_same(self, world: World) -> None:
        first = put_threads(world, thread(odd_node=user_task()))
        assert put_threads(world, thread(odd_node=user_task(user_task_def_version=0))) == first

    def test_given_user_task_def_version_makes_no_revision_later(self, world: World) -> None:
        first = put_threads(world, thread(odd_node=user_task(user_task_def_version=0)))
        put_user_task_def(world, "approved", "checked")
        assert put_threads(world, thread(odd_node=user_task(user_task_def_version=0))) == first

    def test_newer_major_version_of_a_child_makes_a_revision(self, world: World) -> None:
        put_threads(world, thread(odd_node=run_child()))
        put(world, child(returns="text"), "child-wf")
        spec = put_threads(world, thread(odd_node=run_child()))
        assert version(spec) == (0, 1)
        assert stored(spec).run_child_wf.major_version == 1

    def test_newer_revision_of_a_child_changes_nothing(self, world: World) -> None:
        first = put_threads(world, thread(odd_node=run_child()))
        newer = child(lambda wf: wf.declare_int("amount"), sleeps=True)
        assert version(put(world, newer, "child-wf")) == (0, 1)
        assert put_threads(world, thread(odd_node=run_child())) == first

    def test_other_output_of_the_newest_child_is_breaking(self, world: World) -> None:
        nodes: Nodes = {"started": run_child(), "odd_node": wait_for_child("started")}
        put_threads(world, thread(returns=output_of("odd_node"), **nodes))
        put(world, child(returns="text"), "child-wf")
        assert version(put_threads(world, thread(returns=output_of("odd_node"), **nodes))) == (1, 0)


class TestFrozenVariables:
    """api.md 5.7, with several threads."""

    def test_public_ones_of_all_threads_and_required_ones_of_the_entrypoint(self, world: World) -> None:
        main = thread(declare("needed", INT, required=True), declare("open", INT, level=PUBLIC))
        side = thread(
            declare("needed-there", INT, required=True), declare("open-there", INT, level=PUBLIC), declare("own", INT)
        )
        assert frozen(put_threads(world, main, side_thread=side)) == {"needed", "open", "open-there"}

    def test_frozen_variable_of_a_thread_that_goes_stays_frozen(self, world: World) -> None:
        put_threads(world, thread(), side_thread=thread(declare("gone", INT, level=PUBLIC)))
        assert frozen(put_threads(world, thread())) == {"gone"}

    @pytest.mark.parametrize("level", [PUBLIC, PRIVATE], ids=WfRunVariableAccessLevel.Name)
    def test_type_cannot_change_in_any_thread(self, world: World, level: WfRunVariableAccessLevel) -> None:
        put_threads(world, thread(), side_thread=thread(declare("open", INT, level=PUBLIC)))
        with refused(Code.INVALID_ARGUMENT, "open"):
            put_threads(world, thread(), side_thread=thread(declare("open", STR, level=level)))

    def test_type_cannot_change_by_moving_to_another_thread(self, world: World) -> None:
        put_threads(world, thread(declare("needed", INT, required=True)), side_thread=thread())
        with refused(Code.INVALID_ARGUMENT, "needed"):
            put_threads(world, thread(), side_thread=thread(declare("needed", STR)))

    def test_type_of_a_required_variable_of_another_thread_can_change(self, world: World) -> None:
        put_threads(world, thread(), side_thread=thread(declare("v", INT, required=True)))
        side = thread(declare("v", STR, required=True))
        assert version(put_threads(world, thread(), side_thread=side)) == (0, 1)
