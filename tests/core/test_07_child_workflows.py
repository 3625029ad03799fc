"""RUN_CHILD_WF, WAIT_FOR_CHILD_WF, RunWf under a parent, INHERITED_VAR: execution.md 7.7, 7.8, 1.7, 8.4; api.md 5.

Not tested: RunChildWfNode.child_id (no behaviour known); major_version with wf_spec_var, a static child WfSpec deleted
after registration, waiting for an id that no WfRun ever had, a child started under a WfSpec that is not its parent, and
reading an INHERITED_VAR when the parent is gone (not specified); an INHERITED_VAR that the parent declares only outside
its entrypoint (the two documents differ); masked variables (api.md 3.3 concerns reads).
"""

from collections.abc import Callable
from typing import Any

import pytest
from littlehorse.model import (
    DeleteWfRunRequest,
    ExternalEventDefId,
    LHStatus,
    NodeRunId,
    PutExternalEventRequest,
    PutWorkflowEventDefRequest,
    RescueThreadRunRequest,
    ResumeWfRunRequest,
    RunChildWfNode,
    RunWfRequest,
    StopWfRunRequest,
    ThreadSpec,
    TypeDefinition,
    VariableAssignment,
    VariableType,
    VariableValue,
    WfRun,
    WfRunId,
    WfRunVariableAccessLevel,
    WfSpec,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import NodeOutput, Workflow, WorkflowThread

from lhd.core import kinds
from lhd.errors import Code
from tests.core.shapes import (
    COMPLETED,
    ERROR,
    EXCEPTION,
    RUNNING,
    Body,
    compiled,
    entry,
    failure,
    node,
    put,
    put_edited,
    put_event_def,
    python,
    refused,
    thread,
    version,
    wf_run,
)
from tests.core.world import World

HALTED = LHStatus.HALTED
INT, DOUBLE, STR, BOOL = VariableType.INT, VariableType.DOUBLE, VariableType.STR, VariableType.BOOL
JSON_OBJ, TIMESTAMP, WF_RUN_ID = VariableType.JSON_OBJ, VariableType.TIMESTAMP, VariableType.WF_RUN_ID
PUBLIC, PRIVATE = WfRunVariableAccessLevel.PUBLIC_VAR, WfRunVariableAccessLevel.PRIVATE_VAR

RUN = "1-run-child-RUN_CHILD_WF"
WAIT = "2-wait-WAIT_FOR_CHILD_WF"

Edit = Callable[[ThreadSpec], Any]


@pytest.fixture
def world() -> World:
    world = World()
    for event_def in ("go", "more", "unheard"):
        put_event_def(world, event_def)
    return world


# What the tests of this file ask for again and again. Ids of WfRuns are in their printed form, ancestors first.


def nested(printed: str) -> WfRunId:
    """The id on the wire of a printed one."""
    wf_run_id: WfRunId | None = None
    for part in printed.split("_"):
        wf_run_id = WfRunId(id=part, parent_wf_run_id=wf_run_id)
    assert wf_run_id is not None
    return wf_run_id


def tell(world: World, printed: str, content: Any = None, event_def: str = "go") -> None:
    """Put an ExternalEvent for any WfRun."""
    world.submit(
        PutExternalEventRequest(
            wf_run_id=nested(printed),
            external_event_def_id=ExternalEventDefId(name=event_def),
            content=to_variable_value(content),
        )
    )


def run_under(
    world: World, parent: str | None, name: str = "kid", wf_run_id: str | None = "c", **variables: Any
) -> WfRun:
    """Start a WfRun with a parent."""
    reply: WfRun = world.submit(
        RunWfRequest(
            wf_spec_name=name,
            id=wf_run_id,
            parent_wf_run_id=None if parent is None else nested(parent),
            variables={name: to_variable_value(value) for name, value in variables.items()},
        )
    )
    return reply


def child(world: World, printed: str = "r") -> str:
    """The printed id of the only child."""
    (only,) = world.child_wf_runs(printed)
    return only


def node_run_id(printed: str, position: int, *, number: int = 0) -> NodeRunId:
    return NodeRunId(wf_run_id=nested(printed), thread_run_number=number, position=position)


def refuse(world: World, body: Body, *fragments: str, edit: Edit = lambda _: None) -> None:
    """The workflow is refused with INVALID_ARGUMENT."""
    with refused(Code.INVALID_ARGUMENT, *fragments):
        put_edited(world, body, edit)


# Children.


def counts(wf: WorkflowThread) -> None:
    """Ends with the number that the event brings; in ERROR when it brings a text."""
    n = wf.declare_int("n", 0)
    n.assign(wf.wait_for_event("go"))
    wf.complete(n)


def throws(wf: WorkflowThread) -> None:
    """Ends with an exception that carries a colour."""
    wf.wait_for_event("go")
    wf.fail("out-of-stock", "nothing left", "blue")


def echoes(wf: WorkflowThread) -> None:
    """Takes one required INT and one optional STR, and waits."""
    wf.declare_int("needed").required()
    wf.declare_str("extra", "the default")
    wf.wait_for_event("go")


# Parents.


def runs(wf: WorkflowThread) -> None:
    wf.run_wf("child")


def runs_and_waits(wf: WorkflowThread) -> None:
    """Starts a child at position 1, waits for it at position 2, and keeps its output."""
    got = wf.declare_int("got")
    got.assign(wf.wait_for_child_wf(wf.run_wf("child")))


def run_named(spec: ThreadSpec) -> None:
    """Let the variable ``which`` tell the child's WfSpec."""
    spec.nodes[RUN].run_child_wf.wf_spec_var.CopyFrom(VariableAssignment(variable_name="which"))


def put_dynamic(world: World, inputs: dict[str, Any] | None = None) -> None:
    """A workflow that runs the child that its variable ``which`` names."""

    def body(wf: WorkflowThread) -> None:
        wf.declare_str("which")
        wf.run_wf("child", inputs)

    put_edited(world, body, run_named)


class TestRunChildWf:
    """execution.md 7.7."""

    def test_child_is_a_wf_run_under_this_one_with_a_generated_id(self, world: World) -> None:
        put(world, counts, "child")
        put(world, runs)
        world.run("wf")
        started = wf_run(world, child(world))
        assert started.id.parent_wf_run_id == WfRunId(id="r")
        assert len(started.id.id) == 32
        assert set(started.id.id) <= set("0123456789abcdef")
        assert started.wf_spec_id.name == "child"
        assert started.start_time.ToMilliseconds() == world.now_ms

    def test_child_points_to_the_node_that_started_it(self, world: World) -> None:
        put(world, counts, "child")
        put(world, runs)
        world.run("wf")
        trigger = wf_run(world, child(world)).parent_trigger
        assert trigger.triggering_node_run == node_run_id("r", 1)
        assert not trigger.HasField("waiting_node_run")

    def test_child_of_another_thread_points_to_that_thread(self, world: World) -> None:
        put(world, counts, "child")
        put(world, lambda wf: wf.spawn_thread(runs, "starter"))
        world.run("wf")
        assert wf_run(world, child(world)).parent_trigger.triggering_node_run == node_run_id("r", 1, number=1)

    def test_child_runs_until_it_blocks_and_the_node_completes_at_once(self, world: World) -> None:
        put(world, counts, "child")
        put(world, runs)
        assert world.run("wf").status == COMPLETED
        assert node(world, 1).status == COMPLETED
        assert wf_run(world, child(world)).status == RUNNING
        assert node(world, 1, child(world)).external_event.external_event_def_id.name == "go"
        assert node(world, 1, child(world)).status == RUNNING

    def test_child_may_end_at_once(self, world: World) -> None:
        put(world, lambda wf: wf.complete(1), "child")
        put(world, runs)
        assert world.run("wf").status == COMPLETED
        assert wf_run(world, child(world)).status == COMPLETED

    def test_node_completes_although_the_child_fails_at_once(self, world: World) -> None:
        put(world, lambda wf: wf.fail("out-of-stock", "nothing left"), "child")
        put(world, runs)
        assert world.run("wf").status == COMPLETED
        assert wf_run(world, child(world)).status == EXCEPTION

    def test_node_run_tells_the_child_its_spec_and_its_inputs(self, world: World) -> None:
        put(world, echoes, "child")
        put(world, lambda wf: wf.run_wf("child", {"needed": 5, "extra": "text"}))
        world.run("wf")
        shown = node(world, 1).run_child_wf
        assert shown.child_wf_run_id == nested(child(world))
        assert shown.wf_spec_id == wf_run(world, child(world)).wf_spec_id
        assert {name: extract_value(value) for name, value in shown.inputs.items()} == {"needed": 5, "extra": "text"}

    def test_output_is_the_id_of_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            started = wf.declare_wf_run_id("started")
            started.assign(NodeOutput(wf.run_wf("child").source_node_name))

        put(world, counts, "child")
        put(world, body)
        world.run("wf")
        assert python(world, "started") == nested(child(world))

    def test_inputs_become_the_variables_of_the_child(self, world: World) -> None:
        put(world, echoes, "child")
        put(world, lambda wf: wf.run_wf("child", {"needed": wf.declare_int("n").add(1)}))
        world.run("wf", n=4)
        assert python(world, "needed", child(world)) == 5
        assert python(world, "extra", child(world)) == "the default"

    def test_null_satisfies_a_required_variable(self, world: World) -> None:
        put(world, echoes, "child")
        put(world, lambda wf: wf.run_wf("child", {"needed": None, "extra": None}))
        assert world.run("wf").status == COMPLETED
        assert python(world, "needed", child(world)) is None
        assert python(world, "extra", child(world)) == "the default"

    @pytest.mark.parametrize("payload", [None, {"n": "text"}], ids=["does not evaluate", "does not fit"])
    def test_bad_input_is_var_sub_error_and_starts_nothing(self, world: World, payload: Any) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.run_wf("child", {"needed": wf.declare_json_obj("payload").with_json_path("$.n")})

        put(world, echoes, "child")
        put(world, body)
        assert world.run("wf", payload=payload).status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert world.child_wf_runs() == []

    @pytest.mark.parametrize(
        "inputs",
        [{}, {"extra": "text"}, {"needed": "text"}, {"needed": 1, "ghost": 1}],
        ids=["none", "required missing", "misfit", "undeclared"],
    )
    def test_inputs_for_a_dynamic_child_are_validated(self, world: World, inputs: dict[str, Any]) -> None:
        put(world, echoes, "picky")
        put_dynamic(world, inputs)
        assert world.run("wf", which="picky").status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"
        assert world.child_wf_runs() == []

    def test_failure_can_be_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            started = wf.run_wf("child", {"needed": wf.declare_json_obj("payload").with_json_path("$.n")})
            handled = wf.declare_bool("handled", False)
            wf.handle_error(NodeOutput(started.source_node_name), lambda wf: handled.assign(True))

        put(world, echoes, "child")
        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert python(world, "handled") is True

    def test_each_loop_round_starts_another_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            count = wf.declare_int("count", 0)

            def round_(wf: WorkflowThread) -> None:
                wf.run_wf("child", {"n": count})
                count.assign(count.add(1))

            wf.do_while(count.is_less_than(3), round_)

        put(world, counts, "child")
        put(world, body)
        world.run("wf")
        assert [python(world, "n", one) for one in world.child_wf_runs()] == [0, 1, 2]

    def test_child_may_have_children(self, world: World) -> None:
        put(world, counts, "grandchild")
        put(world, lambda wf: wf.run_wf("grandchild") and None, "child")
        put(world, runs)
        world.run("wf")
        grandchild = child(world, child(world))
        assert wf_run(world, grandchild).id.parent_wf_run_id == nested(child(world))
        assert wf_run(world, grandchild).parent_trigger.triggering_node_run == node_run_id(child(world), 1)
        tell(world, grandchild, 7)
        assert wf_run(world, grandchild).status == COMPLETED

    def test_child_need_not_declare_a_parent(self, world: World) -> None:
        assert not put(world, counts, "child").HasField("parent_wf_spec")
        put(world, runs)
        assert world.run("wf").status == COMPLETED

    def test_event_for_the_parent_is_none_for_the_child(self, world: World) -> None:
        put(world, counts, "child")
        put(world, runs_and_waits)
        world.run("wf")
        assert not world.post("go", 5).claimed
        assert wf_run(world, child(world)).status == RUNNING

    def test_workflow_event_of_a_child_is_its_own(self, world: World) -> None:
        world.submit(PutWorkflowEventDefRequest(name="thrown"))

        def body(wf: WorkflowThread) -> None:
            wf.throw_event("thrown", "of the parent")
            wf.run_wf("child")

        put(world, lambda wf: wf.throw_event("thrown", "of the child") and None, "child")
        put(world, body)
        world.run("wf")
        thrown = world.workflow_event("thrown", 0, wf_run_id=child(world))
        assert thrown is not None
        assert thrown.id.wf_run_id == nested(child(world))
        assert thrown.content.str == "of the child"


class TestVersionOfTheChild:
    """execution.md 7.7: the pinned major version, and its newest revision."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        assert version(put(world, lambda wf: wf.complete(1), "child")) == (0, 0)
        return world

    def test_newest_major_version_is_pinned_at_registration(self, world: World) -> None:
        assert version(put(world, lambda wf: wf.complete("text"), "child")) == (1, 0)
        spec = put(world, runs)
        assert entry_node(spec).major_version == 1

    def test_major_version_zero_is_pinned(self, world: World) -> None:
        assert entry_node(put(world, runs)).major_version == 0

    def test_newest_revision_of_the_pinned_major_version_runs(self, world: World) -> None:
        put(world, runs)
        assert version(put(world, lambda wf: wf.complete(2), "child")) == (0, 1)
        assert version(put(world, lambda wf: wf.complete("text"), "child")) == (1, 0)
        world.run("wf")
        assert wf_run(world, child(world)).wf_spec_id.major_version == 0
        assert wf_run(world, child(world)).wf_spec_id.revision == 1
        assert node(world, 1).run_child_wf.wf_spec_id == wf_run(world, child(world)).wf_spec_id

    def test_older_major_version_can_be_named(self, world: World) -> None:
        put(world, lambda wf: wf.complete("text"), "child")
        put_edited(world, runs, lambda spec: set_major_version(spec, 0))
        world.run("wf")
        assert wf_run(world, child(world)).wf_spec_id.major_version == 0

    def test_major_version_must_exist(self, world: World) -> None:
        refuse(world, runs, "could not find wfspec", edit=lambda spec: set_major_version(spec, 7))

    def test_same_program_after_a_newer_major_version_is_a_new_revision(self, world: World) -> None:
        assert version(put(world, runs)) == (0, 0)
        put(world, lambda wf: wf.complete("text"), "child")
        again = put(world, runs)
        assert version(again) == (0, 1)
        assert entry_node(again).major_version == 1

    def test_same_program_after_a_newer_revision_is_the_same(self, world: World) -> None:
        put(world, runs)
        put(world, lambda wf: wf.complete(2), "child")
        assert version(put(world, runs)) == (0, 0)


def entry_node(spec: WfSpec) -> RunChildWfNode:
    return spec.thread_specs["entrypoint"].nodes[RUN].run_child_wf


def set_major_version(spec: ThreadSpec, major: int) -> None:
    spec.nodes[RUN].run_child_wf.major_version = major


class TestDynamicChild:
    """execution.md 7.7: ``wf_spec_var``."""

    def test_variable_names_the_child(self, world: World) -> None:
        put(world, counts, "first")
        put(world, throws, "second")
        put_dynamic(world)
        for name in ("first", "second"):
            assert world.run("wf", f"runs-{name}", which=name).status == COMPLETED
            assert wf_run(world, child(world, f"runs-{name}")).wf_spec_id.name == name

    def test_inputs_reach_the_child(self, world: World) -> None:
        put(world, echoes, "picky")
        put_dynamic(world, {"needed": 5})
        world.run("wf", which="picky")
        assert python(world, "needed", child(world)) == 5

    def test_child_registered_after_the_parent_runs(self, world: World) -> None:
        put_dynamic(world)
        put(world, counts, "later")
        world.run("wf", which="later")
        assert wf_run(world, child(world)).wf_spec_id.name == "later"

    def test_unknown_child_is_child_failure(self, world: World) -> None:
        put_dynamic(world)
        assert world.run("wf", which="unknown").status == ERROR
        assert node(world, 1).status == ERROR
        assert failure(world, 1).failure_name == "CHILD_FAILURE"
        assert world.child_wf_runs() == []

    @pytest.mark.parametrize("payload", [None, {"name": {"no": "text"}}, {}], ids=["error", "JSON", "NULL"])
    def test_name_that_does_not_evaluate_is_var_sub_error(self, world: World, payload: Any) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("payload")
            wf.run_wf("child")

        name = VariableAssignment(variable_name="payload", json_path="$.name")
        put_edited(world, body, lambda spec: spec.nodes[RUN].run_child_wf.wf_spec_var.CopyFrom(name))
        assert world.run("wf", payload=payload).status == ERROR
        assert failure(world, 1).failure_name == "VAR_SUB_ERROR"


class TestPutRunChildWf:
    """api.md 5.5."""

    def test_child_must_exist(self, world: World) -> None:
        refuse(world, runs, "could not find wfspec", "child")

    def test_neither_name_nor_variable(self, world: World) -> None:
        def edit(spec: ThreadSpec) -> None:
            spec.nodes[RUN].run_child_wf.ClearField("wf_spec_name")

        put(world, counts, "child")
        refuse(world, runs, edit=edit)

    def test_required_variable_must_be_given(self, world: World) -> None:
        put(world, echoes, "child")
        refuse(world, runs, "needed")

    @pytest.mark.parametrize("name", ["ghost", "inner"])
    def test_input_must_be_declared_by_the_entrypoint(self, world: World, name: str) -> None:
        def declares(wf: WorkflowThread) -> None:
            wf.declare_int("inner")

        def body(wf: WorkflowThread) -> None:
            wf.spawn_thread(declares, "thread")

        put(world, body, "child")
        refuse(world, lambda wf: wf.run_wf("child", {name: 1}))

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(INT, INT), (INT, DOUBLE), (INT, STR), (DOUBLE, STR), (BOOL, STR), (WF_RUN_ID, STR), (JSON_OBJ, JSON_OBJ)],
    )
    def test_input_that_fits(self, world: World, given: VariableType, expected: VariableType) -> None:
        put(world, lambda wf: wf.add_variable("v", expected), "child")
        put(world, lambda wf: wf.run_wf("child", {"v": wf.add_variable("given", given)}))

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(STR, INT), (DOUBLE, INT), (STR, BOOL), (JSON_OBJ, STR), (TIMESTAMP, STR), (STR, WF_RUN_ID)],
    )
    def test_input_that_does_not_fit(self, world: World, given: VariableType, expected: VariableType) -> None:
        put(world, lambda wf: wf.add_variable("v", expected), "child")
        names = f"{VariableType.Name(given)} to {VariableType.Name(expected)}"
        refuse(
            world,
            lambda wf: wf.run_wf("child", {"v": wf.add_variable("given", given)}),
            f"Cannot assign {names} without explicit casting",
        )

    def test_input_with_a_cast(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v"), "child")
        put(world, lambda wf: wf.run_wf("child", {"v": wf.declare_str("given", "5").cast_to_int()}))
        world.run("wf")
        assert python(world, "v", child(world)) == 5

    @pytest.mark.parametrize("value", [5, None])
    def test_literal_input(self, world: World, value: Any) -> None:
        put(world, lambda wf: wf.declare_int("v"), "child")
        put(world, lambda wf: wf.run_wf("child", {"v": value}))

    def test_input_of_unknown_type_is_accepted(self, world: World) -> None:
        put(world, lambda wf: wf.declare_int("v"), "child")
        put(world, lambda wf: wf.run_wf("child", {"v": wf.declare_json_obj("given").with_json_path("$.n")}))

    def test_undeclared_variable_as_input(self, world: World) -> None:
        ghost = VariableAssignment(variable_name="ghost")
        put(world, lambda wf: wf.declare_int("v"), "child")
        refuse(world, runs, edit=lambda spec: spec.nodes[RUN].run_child_wf.inputs["v"].CopyFrom(ghost))

    def test_undeclared_variable_as_name(self, world: World) -> None:
        put(world, counts, "child")
        refuse(world, runs, edit=run_named)

    @pytest.mark.parametrize("kind", [JSON_OBJ, TIMESTAMP])
    def test_variable_that_cannot_be_a_name(self, world: World, kind: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_variable("which", kind)
            wf.run_wf("child")

        refuse(world, body, edit=run_named)

    def test_dynamic_child_and_its_inputs_need_not_exist(self, world: World) -> None:
        put_dynamic(world, {"anything": 1})

    def test_output_is_a_wf_run_id(self, world: World) -> None:
        def keeps(wf: WorkflowThread, kind: VariableType) -> None:
            wf.add_variable("kept", kind).assign(NodeOutput(wf.run_wf("child").source_node_name))

        put(world, counts, "child")
        put(world, lambda wf: keeps(wf, WF_RUN_ID), "same")
        put(world, lambda wf: keeps(wf, STR), "fits")
        refuse(world, lambda wf: keeps(wf, INT))


class TestWaitForChildWf:
    """execution.md 7.8."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put(world, counts, "child")
        put(world, runs_and_waits)
        return world

    def test_node_waits_while_the_child_runs(self, world: World) -> None:
        assert world.run("wf").status == RUNNING
        assert node(world, 2).status == RUNNING
        assert node(world, 2).wait_for_child_wf.child_wf_run_id == nested(child(world))

    def test_child_points_to_the_node_that_waits(self, world: World) -> None:
        world.run("wf")
        trigger = wf_run(world, child(world)).parent_trigger
        assert trigger.waiting_node_run == node_run_id("r", 2)
        assert trigger.triggering_node_run == node_run_id("r", 1)

    def test_end_of_the_child_completes_the_node_in_the_same_command(self, world: World) -> None:
        world.run("wf")
        tell(world, child(world), 7)
        assert wf_run(world, child(world)).status == COMPLETED
        assert node(world, 2).status == COMPLETED
        assert wf_run(world).status == COMPLETED

    def test_output_is_that_of_the_child(self, world: World) -> None:
        world.run("wf")
        tell(world, child(world), 7)
        assert thread(world, child(world)).output.int == 7
        assert python(world, "got") == 7

    def test_child_that_ended_before_the_wait_completes_it_at_once(self, world: World) -> None:
        put(world, lambda wf: wf.complete(7), "child")
        put(world, runs_and_waits)
        assert world.run("wf").status == COMPLETED
        assert python(world, "got") == 7

    def test_child_that_ends_by_a_timer_completes_the_node(self, world: World) -> None:
        def sleeps(wf: WorkflowThread) -> None:
            wf.sleep(60)
            wf.complete(7)

        put(world, sleeps, "child")
        put(world, runs_and_waits)
        world.run("wf")
        world.wait(59)
        assert wf_run(world).status == RUNNING
        world.wait(1)
        assert wf_run(world).status == COMPLETED
        assert python(world, "got") == 7

    def test_halted_child_is_waited_for(self, world: World) -> None:
        world.run("wf")
        world.submit(StopWfRunRequest(wf_run_id=nested(child(world))))
        assert wf_run(world, child(world)).status == HALTED
        assert node(world, 2).status == RUNNING
        assert wf_run(world).status == RUNNING
        world.submit(ResumeWfRunRequest(wf_run_id=nested(child(world))))
        tell(world, child(world), 7)
        assert wf_run(world).status == COMPLETED

    def test_error_of_the_child_is_child_failure(self, world: World) -> None:
        world.run("wf")
        tell(world, child(world), "no number")
        assert wf_run(world, child(world)).status == ERROR
        assert node(world, 2).status == ERROR
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_exception_of_the_child_is_thrown_on_with_its_content(self, world: World) -> None:
        put_thrower(world)
        world.run("wf")
        tell(world, child(world))
        assert node(world, 2).status == EXCEPTION
        thrown = failure(world, 2)
        assert thrown.failure_name == "out-of-stock"
        assert thrown.content.str == "blue"
        assert thrown.message.endswith("nothing left")
        assert thrown.message != "nothing left"
        assert wf_run(world).status == EXCEPTION

    def test_exception_before_the_wait_is_thrown_on(self, world: World) -> None:
        put(world, lambda wf: wf.fail("out-of-stock", "nothing left", "blue"), "child")
        put(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        assert world.run("wf").status == EXCEPTION
        assert failure(world, 2).failure_name == "out-of-stock"

    def test_last_failure_of_the_child_counts(self, world: World) -> None:
        def fails_twice(wf: WorkflowThread) -> None:
            first = wf.wait_for_event("go", timeout=1)
            wf.handle_error(first, lambda wf: None)
            wf.fail("out-of-stock", "nothing left")

        put(world, fails_twice, "child")
        put(world, lambda wf: wf.wait_for_child_wf(wf.run_wf("child")))
        world.run("wf")
        world.wait(2)
        assert failure(world, 2).failure_name == "out-of-stock"

    def test_child_failure_can_be_handled(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            handled = wf.declare_bool("handled", False)
            waited = wf.wait_for_child_wf(wf.run_wf("child"))
            wf.handle_error(waited, lambda wf: handled.assign(True))

        put(world, body)
        world.run("wf")
        tell(world, child(world), "no number")
        assert wf_run(world).status == COMPLETED
        assert python(world, "handled") is True
        assert node(world, 2).status == ERROR

    def test_exception_can_be_handled_with_its_content(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            seen = wf.declare_str("seen")
            waited = wf.wait_for_child_wf(wf.run_wf("child"))
            wf.handle_exception(waited, lambda wf: seen.assign(wf.declare_str("INPUT")), "out-of-stock")

        put_thrower(world, body)
        world.run("wf")
        tell(world, child(world))
        assert wf_run(world).status == COMPLETED
        assert python(world, "seen") == "blue"

    def test_end_of_a_grandchild_climbs(self, world: World) -> None:
        put(world, counts, "grandchild")
        put(world, waits_for_grandchild, "child")
        put(world, runs_and_waits)
        world.run("wf")
        tell(world, child(world, child(world)), 7)
        assert wf_run(world).status == COMPLETED
        assert python(world, "got") == 7

    def test_error_of_a_grandchild_climbs(self, world: World) -> None:
        put(world, counts, "grandchild")
        put(world, waits_for_grandchild, "child")
        put(world, runs_and_waits)
        world.run("wf")
        tell(world, child(world, child(world)), "no number")
        assert [failure(world, 2, one).failure_name for one in ("r", child(world))] == ["CHILD_FAILURE"] * 2
        assert wf_run(world).status == ERROR

    @pytest.mark.parametrize("payload", [None, {"id": "r_c"}, {"id": 5}, {}], ids=["error", "STR", "INT", "NULL"])
    def test_what_is_no_wf_run_id_is_var_sub_error(self, world: World, payload: Any) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_json_obj("payload")
            runs_and_waits(wf)

        which = VariableAssignment(variable_name="payload", json_path="$.id")
        put_edited(world, body, lambda spec: set_awaited(spec, which))
        assert world.run("wf", payload=payload).status == ERROR
        assert node(world, 1).status == COMPLETED
        assert failure(world, 2).failure_name == "VAR_SUB_ERROR"

    def test_variable_can_tell_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_wf_run_id("kept")
            started = wf.run_wf("child")
            kept.assign(NodeOutput(started.source_node_name))
            wf.wait_for_child_wf(started)

        put_edited(world, body, lambda spec: set_awaited(spec, VariableAssignment(variable_name="kept")))
        world.run("wf")
        assert node(world, 2).status == RUNNING
        tell(world, child(world), 7)
        assert wf_run(world).status == COMPLETED

    def test_printed_id_with_a_cast_can_tell_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            kept = wf.declare_str("kept")
            started = wf.run_wf("child")
            kept.assign(NodeOutput(started.source_node_name))
            wf.wait_for_child_wf(started)

        which = VariableAssignment(variable_name="kept", target_type=TypeDefinition(primitive_type=WF_RUN_ID))
        put_edited(world, body, lambda spec: set_awaited(spec, which))
        world.run("wf")
        assert python(world, "kept") == child(world)
        tell(world, child(world), 7)
        assert wf_run(world).status == COMPLETED

    def test_each_loop_round_waits_for_its_own_child(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            total = wf.declare_int("total", 0)

            def round_(wf: WorkflowThread) -> None:
                total.assign(total.add(wf.wait_for_child_wf(wf.run_wf("child"))))

            wf.do_while(total.is_less_than(5), round_)

        put(world, body)
        world.run("wf")
        tell(world, child(world), 3)
        assert python(world, "total") == 3
        _, second = world.child_wf_runs()
        tell(world, second, 4)
        assert python(world, "total") == 7
        assert wf_run(world).status == COMPLETED

    def test_waiting_thread_halts_at_once(self, world: World) -> None:
        world.run("wf")
        world.submit(StopWfRunRequest(wf_run_id=nested("r")))
        assert node(world, 2).status == HALTED
        assert thread(world).status == HALTED
        assert wf_run(world).status == HALTED

    def test_child_that_ends_during_a_halt_counts_after_it(self, world: World) -> None:
        world.run("wf")
        world.submit(StopWfRunRequest(wf_run_id=nested("r")))
        tell(world, child(world), 7)
        assert wf_run(world, child(world)).status == COMPLETED
        assert wf_run(world).status == HALTED
        world.submit(ResumeWfRunRequest(wf_run_id=nested("r")))
        assert wf_run(world).status == COMPLETED
        assert python(world, "got") == 7

    def test_child_deleted_during_the_wait_is_child_failure(self, world: World) -> None:
        world.run("wf")
        world.submit(DeleteWfRunRequest(id=nested(child(world))))
        tell(world, "r", event_def="unheard")  # whatever advances the parent
        assert failure(world, 2).failure_name == "CHILD_FAILURE"
        assert wf_run(world).status == ERROR

    def test_child_deleted_before_the_wait_is_child_failure(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            started = wf.run_wf("child")
            wf.wait_for_event("more")
            wf.wait_for_child_wf(started)

        put(world, body)
        world.run("wf")
        world.submit(DeleteWfRunRequest(id=nested(child(world))))
        tell(world, "r", event_def="more")
        assert failure(world, 3).failure_name == "CHILD_FAILURE"


def put_thrower(world: World, parent: Body | None = None) -> None:
    """A child without output that throws, and a parent that waits for it."""
    put(world, throws, "child")
    put(world, parent or (lambda wf: wf.wait_for_child_wf(wf.run_wf("child"))))


def waits_for_grandchild(wf: WorkflowThread) -> None:
    wf.complete(wf.wait_for_child_wf(wf.run_wf("grandchild")))


def set_awaited(spec: ThreadSpec, which: VariableAssignment) -> None:
    spec.nodes[WAIT].wait_for_child_wf.child_wf_run_id.CopyFrom(which)


class TestEndOfTheParent:
    """execution.md 7.8, last rule, 6.6 and 9.4: child WfRuns go on."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put(world, counts, "child")
        return world

    def test_completed_parent_leaves_its_child_running(self, world: World) -> None:
        put(world, runs)
        assert world.run("wf").status == COMPLETED
        before = wf_run(world)
        tell(world, child(world), 7)
        assert wf_run(world, child(world)).status == COMPLETED
        assert wf_run(world) == before

    def test_failed_parent_leaves_its_child_running(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            runs(wf)
            wf.fail("no-luck", "it went wrong")

        put(world, body)
        assert world.run("wf").status == EXCEPTION
        assert wf_run(world, child(world)).status == RUNNING
        tell(world, child(world), "no number")
        assert wf_run(world, child(world)).status == ERROR
        assert wf_run(world).status == EXCEPTION

    def test_deleted_parent_leaves_its_child_running(self, world: World) -> None:
        put(world, runs_and_waits)
        world.run("wf")
        left = child(world)
        world.submit(DeleteWfRunRequest(id=nested("r")))
        assert world.wf_run() is None
        assert wf_run(world, left).status == RUNNING
        tell(world, left, 7)
        assert wf_run(world, left).status == COMPLETED

    def test_deleted_child_leaves_its_parent_and_its_siblings(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.run_wf("child")
            wf.run_wf("child")

        put(world, body)
        world.run("wf")
        first, second = world.child_wf_runs()
        world.submit(DeleteWfRunRequest(id=nested(first)))
        assert world.child_wf_runs() == [second]
        assert node(world, 1).status == COMPLETED


class TestRescueOfAChild:
    """execution.md 9.3 where it crosses from one WfRun to its parent."""

    def test_rescue_of_the_child_rescues_the_waiting_parent(self, world: World) -> None:
        put(world, counts, "child")
        put(world, runs_and_waits)
        world.run("wf")
        tell(world, child(world), "no number")
        assert wf_run(world).status == ERROR
        world.submit(RescueThreadRunRequest(wf_run_id=nested(child(world)), thread_run_number=0))
        assert wf_run(world, child(world)).status == RUNNING
        assert wf_run(world).status == RUNNING
        assert node(world, 3).node_name == WAIT
        tell(world, child(world), 7)
        assert wf_run(world).status == COMPLETED
        assert python(world, "got") == 7

    def test_child_whose_failure_the_parent_handled_is_failed_precondition(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.handle_error(wf.wait_for_child_wf(wf.run_wf("child")), lambda wf: None)

        put(world, counts, "child")
        put(world, body)
        world.run("wf")
        tell(world, child(world), "no number")
        assert wf_run(world).status == COMPLETED
        with refused(Code.FAILED_PRECONDITION):
            world.submit(RescueThreadRunRequest(wf_run_id=nested(child(world)), thread_run_number=0))
        assert wf_run(world, child(world)).status == ERROR


class TestPutWaitForChildWf:
    """api.md 5.5."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put(world, counts, "child")
        return world

    @pytest.mark.parametrize("source", ["", "nowhere", "0-entrypoint-ENTRYPOINT", WAIT])
    def test_source_must_be_a_node_that_runs_a_child(self, world: World, source: str) -> None:
        def edit(spec: ThreadSpec) -> None:
            spec.nodes[WAIT].wait_for_child_wf.child_wf_run_source_node = source

        refuse(world, runs_and_waits, edit=edit)

    def test_source_must_be_a_node_of_this_thread(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_wf_run_id("kept")
            wf.spawn_thread(runs, "starter")
            wf.wait_for_child_wf(wf.run_wf("child"))

        request = compiled(body)
        waits = entry(request).nodes["3-wait-WAIT_FOR_CHILD_WF"].wait_for_child_wf
        waits.child_wf_run_id.CopyFrom(VariableAssignment(variable_name="kept"))
        waits.child_wf_run_source_node = RUN
        assert RUN in request.thread_specs["starter"].nodes
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    @pytest.mark.parametrize("kind", [STR, INT, JSON_OBJ])
    def test_variable_that_cannot_be_a_wf_run_id(self, world: World, kind: VariableType) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.add_variable("kept", kind)
            runs_and_waits(wf)

        refuse(world, body, edit=lambda spec: set_awaited(spec, VariableAssignment(variable_name="kept")))

    def test_undeclared_variable(self, world: World) -> None:
        ghost = VariableAssignment(variable_name="ghost")
        refuse(world, runs_and_waits, edit=lambda spec: set_awaited(spec, ghost))

    def test_output_has_the_type_of_the_child(self, world: World) -> None:
        def body(wf: WorkflowThread, kind: VariableType) -> None:
            wf.add_variable("kept", kind).assign(wf.wait_for_child_wf(wf.run_wf("child")))

        put(world, lambda wf: body(wf, INT), "same")
        put(world, lambda wf: body(wf, DOUBLE), "fits")
        refuse(world, lambda wf: body(wf, BOOL))

    def test_output_of_a_dynamic_child_is_not_known_and_accepted(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_str("which")
            wf.declare_bool("kept").assign(wf.wait_for_child_wf(wf.run_wf("child")))

        put_edited(world, body, run_named)


# Children that belong to a parent: the WfSpec ``kid`` of the parent ``wf``.


def put_parent(world: World, name: str = "wf") -> WfSpec:
    """A parent that shares an INT, takes it from each of its events, and keeps a private one."""

    def body(wf: WorkflowThread) -> None:
        shared = wf.declare_int("shared", 1).as_public()
        wf.declare_int("secret", 1)
        shared.assign(wf.wait_for_event("go"))
        wf.wait_for_event("more")

    return put(world, body, name)


def put_kid(world: World, body: Body, parent: str = "wf", name: str = "kid") -> WfSpec:
    return world.put_workflow(Workflow(name, body, parent_wf=parent))


def waits(wf: WorkflowThread) -> None:
    wf.wait_for_event("go")


class TestRunWfUnderAParent:
    """execution.md 1.7, api.md 6.1."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put_parent(world)
        put_kid(world, waits)
        return world

    def test_child_has_the_given_id_under_its_parent(self, world: World) -> None:
        world.run("wf", "p")
        reply = run_under(world, "p")
        assert reply.id == nested("p_c")
        assert reply.status == RUNNING
        assert world.child_wf_runs("p") == ["p_c"]
        assert wf_run(world, "p_c") == reply

    def test_generated_id_is_under_the_parent(self, world: World) -> None:
        world.run("wf", "p")
        reply = run_under(world, "p", wf_run_id=None)
        assert len(reply.id.id) == 32
        assert reply.id.parent_wf_run_id == WfRunId(id="p")

    def test_ids_of_its_records_are_under_the_parent(self, world: World) -> None:
        world.run("wf", "p")
        run_under(world, "p")
        assert node(world, 1, "p_c").id == node_run_id("p_c", 1)

    def test_spec_with_a_parent_needs_one(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, None)
        assert world.wf_run("c") is None

    def test_spec_without_a_parent_takes_none(self, world: World) -> None:
        world.run("wf", "p")
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, "p", "wf")
        assert world.child_wf_runs("p") == []

    @pytest.mark.parametrize("parent", ["unknown", "p_unknown", "c"])
    def test_parent_must_exist(self, world: World, parent: str) -> None:
        world.run("wf", "p")
        run_under(world, "p")
        with refused(Code.FAILED_PRECONDITION):
            run_under(world, parent, wf_run_id="d")
        assert world.wf_run(f"{parent}_d") is None

    def test_parent_of_another_spec(self, world: World) -> None:
        put_parent(world, "other")
        world.run("other", "p")
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, "p")
        assert world.child_wf_runs("p") == []

    def test_parent_of_another_version_of_the_spec(self, world: World) -> None:
        def newer(wf: WorkflowThread) -> None:
            wf.declare_int("shared", 1).as_public()
            wf.declare_int("added").as_public()
            waits(wf)

        assert version(put(world, newer)) == (1, 0)
        world.run("wf", "p")
        assert run_under(world, "p").status == RUNNING

    def test_finished_parent_is_accepted(self, world: World) -> None:
        world.run("wf", "p")
        tell(world, "p", 1)
        tell(world, "p", event_def="more")
        assert wf_run(world, "p").status == COMPLETED
        assert run_under(world, "p").status == RUNNING

    def test_same_id_and_parent_already_exists(self, world: World) -> None:
        world.run("wf", "p")
        first = run_under(world, "p")
        with refused(Code.ALREADY_EXISTS, "already exists"):
            run_under(world, "p")
        assert wf_run(world, "p_c") == first

    def test_same_id_under_another_parent_is_another_run(self, world: World) -> None:
        for parent in ("p", "q"):
            world.run("wf", parent)
            assert run_under(world, parent).id == nested(f"{parent}_c")

    def test_same_id_without_a_parent_is_another_run(self, world: World) -> None:
        world.run("wf", "p")
        world.run("wf", "c")
        assert run_under(world, "p").id == nested("p_c")

    @pytest.mark.parametrize("wf_run_id", ["", "a_b", "-a"])
    def test_bad_id(self, world: World, wf_run_id: str) -> None:
        world.run("wf", "p")
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, "p", wf_run_id=wf_run_id)

    def test_parent_may_be_a_child_itself(self, world: World) -> None:
        put_kid(world, waits, "kid", "grandkid")
        world.run("wf", "p")
        run_under(world, "p")
        assert run_under(world, "p_c", "grandkid", "d").id == nested("p_c_d")
        assert world.child_wf_runs("p_c") == ["p_c_d"]

    def test_unknown_spec_is_told_before_the_parent(self, world: World) -> None:
        with refused(Code.NOT_FOUND):
            run_under(world, "unknown", "nothing")

    def test_existing_id_is_told_before_bad_variables(self, world: World) -> None:
        world.run("wf", "p")
        run_under(world, "p")
        with refused(Code.ALREADY_EXISTS):
            run_under(world, "p", ghost=1)

    def test_parent_not_asked_for_is_told_before_a_missing_one(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, "unknown", "wf")

    def test_missing_parent_is_told_before_bad_variables(self, world: World) -> None:
        with refused(Code.FAILED_PRECONDITION):
            run_under(world, "unknown", ghost=1)

    def test_variables_are_checked(self, world: World) -> None:
        world.run("wf", "p")
        with refused(Code.INVALID_ARGUMENT, "ghost"):
            run_under(world, "p", ghost=1)
        assert world.child_wf_runs("p") == []

    def test_id_of_a_deleted_child_can_be_used_again(self, world: World) -> None:
        world.run("wf", "p")
        run_under(world, "p")
        world.submit(DeleteWfRunRequest(id=nested("p_c")))
        assert world.wf_run("p_c") is None
        assert run_under(world, "p").status == RUNNING

    def test_event_put_before_the_child_exists_is_taken(self, world: World) -> None:
        world.run("wf", "p")
        tell(world, "p_c")
        assert run_under(world, "p").status == COMPLETED
        assert wf_run(world, "p").status == RUNNING


def reads(wf: WorkflowThread) -> None:
    """Ends with the shared number as it stands when the event comes."""
    shared = wf.declare_int("shared").as_inherited()
    wf.wait_for_event("go")
    wf.complete(shared)


def writes(wf: WorkflowThread) -> None:
    """Sets the shared number to what the event brings, and waits for one more."""
    shared = wf.declare_int("shared").as_inherited()
    shared.assign(wf.wait_for_event("go"))
    wf.wait_for_event("more")


class TestInheritedVariable:
    """execution.md 8.4."""

    @pytest.fixture
    def world(self, world: World) -> World:
        put_parent(world)
        world.run("wf", "p")
        return world

    def test_no_variable_is_created(self, world: World) -> None:
        put_kid(world, reads)
        run_under(world, "p")
        assert world.find(kinds.VARIABLE, "p_c", 0, "shared") is None
        assert python(world, "shared", "p") == 1

    def test_read_goes_to_the_parent(self, world: World) -> None:
        put_kid(world, reads)
        run_under(world, "p")
        tell(world, "p_c")
        assert thread(world, "p_c").output.int == 1

    def test_read_sees_what_the_parent_changed_meanwhile(self, world: World) -> None:
        put_kid(world, reads)
        run_under(world, "p")
        tell(world, "p", 5)
        tell(world, "p_c")
        assert thread(world, "p_c").output.int == 5

    def test_write_goes_to_the_parent(self, world: World) -> None:
        put_kid(world, writes)
        run_under(world, "p")
        tell(world, "p_c", 5)
        assert python(world, "shared", "p") == 5
        assert world.find(kinds.VARIABLE, "p_c", 0, "shared") is None

    def test_siblings_see_each_other_by_the_parent(self, world: World) -> None:
        put_kid(world, writes, name="writer")
        put_kid(world, reads, name="reader")
        run_under(world, "p", "reader", "a")
        run_under(world, "p", "writer", "b")
        tell(world, "p_b", 5)
        tell(world, "p_a")
        assert thread(world, "p_a").output.int == 5

    def test_other_parent_is_not_touched(self, world: World) -> None:
        put_kid(world, writes)
        world.run("wf", "q", shared=2)
        run_under(world, "p")
        tell(world, "p_c", 5)
        assert python(world, "shared", "q") == 2

    def test_condition_of_an_edge_reads_the_parent(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            shared = wf.declare_int("shared").as_inherited()
            branch = wf.declare_str("branch")
            wf.do_if(shared.is_equal_to(1), lambda wf: branch.assign("one"), lambda wf: branch.assign("other"))

        put_kid(world, body)
        run_under(world, "p")
        assert python(world, "branch", "p_c") == "one"

    def test_mutations_of_one_edge_see_each_other(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            shared = wf.declare_int("shared").as_inherited()
            shared.assign(shared.add(1))
            shared.assign(shared.multiply(10))

        put_kid(world, body)
        run_under(world, "p")
        assert python(world, "shared", "p") == 20

    def test_edge_that_fails_changes_nothing_of_the_parent(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            shared = wf.declare_int("shared").as_inherited()
            shared.assign(5)
            shared.assign(wf.declare_json_obj("nothing").with_json_path("$.n"))

        put_kid(world, body)
        assert run_under(world, "p").status == ERROR
        assert failure(world, 0, "p_c").failure_name == "VAR_SUB_ERROR"
        assert python(world, "shared", "p") == 1

    def test_threads_of_the_child_read_and_write_it(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            shared = wf.declare_int("shared").as_inherited()
            wf.spawn_thread(lambda wf: shared.assign(shared.add(1)), "adder")

        put_kid(world, body)
        assert run_under(world, "p").status == COMPLETED
        assert python(world, "shared", "p") == 2

    def test_grandchild_inherits_what_the_child_inherits(self, world: World) -> None:
        put_kid(world, writes)
        put_kid(world, writes, "kid", "grandkid")
        run_under(world, "p")
        run_under(world, "p_c", "grandkid", "d")
        tell(world, "p_c_d", 5)
        assert python(world, "shared", "p") == 5

    def test_public_variable_of_the_child_is_inherited_by_the_grandchild(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("own", 3).as_public()
            waits(wf)

        def grandkid(wf: WorkflowThread) -> None:
            own = wf.declare_int("own").as_inherited()
            own.assign(own.add(1))

        put_kid(world, body)
        put_kid(world, grandkid, "kid", "grandkid")
        run_under(world, "p")
        run_under(world, "p_c", "grandkid", "d")
        assert python(world, "own", "p_c") == 4

    def test_child_started_by_a_node_inherits_too(self, world: World) -> None:
        def parent(wf: WorkflowThread) -> None:
            wf.declare_int("shared", 1).as_public()
            wf.run_wf("kid")
            wf.wait_for_event("go")

        put_kid(world, writes)
        put(world, parent)
        world.run("wf", "r", shared=2)
        tell(world, child(world), 5)
        assert python(world, "shared") == 5
        assert python(world, "shared", "p") == 1

    def test_value_for_it_is_invalid_argument(self, world: World) -> None:
        put_kid(world, reads)
        with refused(Code.INVALID_ARGUMENT):
            run_under(world, "p", shared=5)
        assert world.child_wf_runs("p") == []


class TestParentThatWaitsForAChange:
    """execution.md 7.4, last rule, and 1.4: a condition on a variable that a child WfRun changes."""

    @pytest.fixture
    def world(self, world: World) -> World:
        def body(wf: WorkflowThread) -> None:
            shared = wf.declare_int("shared", 1).as_public()
            wf.wait_for_condition(shared.is_equal_to(5))

        put(world, body)
        put_kid(world, writes)
        world.run("wf", "p")
        run_under(world, "p")
        return world

    def test_end_of_the_child_advances_the_parent(self, world: World) -> None:
        tell(world, "p_c", 5)
        tell(world, "p_c", event_def="more")
        assert wf_run(world, "p_c").status == COMPLETED
        assert wf_run(world, "p").status == COMPLETED

    def test_change_is_noticed_at_the_next_advance_of_the_parent(self, world: World) -> None:
        tell(world, "p_c", 5)
        tell(world, "p", event_def="unheard")
        assert wf_run(world, "p").status == COMPLETED
        assert wf_run(world, "p_c").status == RUNNING


class TestAccessLevels:
    """execution.md 8.4, api.md 5.2 and 5.7."""

    @pytest.mark.parametrize("level", [PUBLIC, PRIVATE], ids=["public", "private"])
    def test_level_has_no_effect_inside_one_run(self, world: World, level: WfRunVariableAccessLevel) -> None:
        def body(wf: WorkflowThread) -> None:
            v = wf.declare_int("v", 1).with_access_level(level)
            wf.spawn_thread(lambda wf: v.assign(v.add(1)), "adder")

        put(world, body)
        assert world.run("wf").status == COMPLETED
        assert python(world, "v") == 2

    @pytest.mark.parametrize("level", [PUBLIC, PRIVATE], ids=["public", "private"])
    def test_level_has_no_effect_on_start_values(self, world: World, level: WfRunVariableAccessLevel) -> None:
        put(world, lambda wf: wf.declare_int("v", 1).with_access_level(level))
        world.run("wf", v=3)
        assert world.variable("v") == VariableValue(int=3)

    def test_inherited_variable_needs_a_parent_spec(self, world: World) -> None:
        refuse(world, reads, "shared")

    def test_inherited_variable_must_be_declared_by_the_parent(self, world: World) -> None:
        put_parent(world)
        with refused(Code.INVALID_ARGUMENT, "ghost"):
            put_kid(world, lambda wf: wf.declare_int("ghost").as_inherited())

    def test_private_variable_of_the_parent_is_not_inherited(self, world: World) -> None:
        put_parent(world)
        with refused(Code.INVALID_ARGUMENT, "secret"):
            put_kid(world, lambda wf: wf.declare_int("secret").as_inherited())

    def test_variable_without_a_level_is_public(self, world: World) -> None:
        put_edited(
            world,
            lambda wf: wf.declare_int("shared", 1),
            lambda spec: spec.variable_defs[0].ClearField("access_level"),
        )
        put_kid(world, reads)

    def test_own_variable_may_have_the_name_of_a_private_one_of_the_parent(self, world: World) -> None:
        def body(wf: WorkflowThread) -> None:
            secret = wf.declare_int("secret", 7)
            secret.assign(secret.add(1))

        put_parent(world)
        put_kid(world, body)
        world.run("wf", "p")
        run_under(world, "p")
        assert python(world, "secret", "p_c") == 8
        assert python(world, "secret", "p") == 1


class TestParentWfSpec:
    """api.md 5.1 and 5.7."""

    def test_parent_must_exist(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            put_kid(world, waits)

    def test_parent_is_part_of_the_result(self, world: World) -> None:
        put_parent(world)
        assert put_kid(world, waits).parent_wf_spec == WfSpec.ParentWfSpecReference(
            wf_spec_name="wf", wf_spec_major_version=0
        )

    def test_major_version_of_the_parent_must_exist(self, world: World) -> None:
        put_parent(world)
        request = Workflow("kid", waits, parent_wf="wf").compile()
        request.parent_wf_spec.wf_spec_major_version = 1
        with refused(Code.INVALID_ARGUMENT):
            world.submit(request)

    def test_later_major_version_of_the_parent(self, world: World) -> None:
        def inherits(wf: WorkflowThread) -> None:
            wf.declare_int("added").as_inherited()

        put_parent(world)
        assert version(put(world, lambda wf: wf.declare_int("added").as_public())) == (1, 0)
        request = Workflow("kid", inherits, parent_wf="wf").compile()
        request.parent_wf_spec.wf_spec_major_version = 1
        spec: WfSpec = world.submit(request)
        assert spec.parent_wf_spec.wf_spec_major_version == 1

    def test_same_child_again_returns_the_stored_one(self, world: World) -> None:
        put_parent(world)
        first = put_kid(world, reads)
        world.now_ms += 1000
        assert put_kid(world, reads) == first

    def test_private_variable_counts_as_not_there_also_for_a_grandchild(self, world: World) -> None:
        put_parent(world)
        put_kid(world, lambda wf: wf.declare_int("own"))
        with refused(Code.INVALID_ARGUMENT, "own"):
            put_kid(world, lambda wf: wf.declare_int("own").as_inherited(), "kid", "grandkid")
