"""TaskDefs, ExternalEventDefs and WfSpecs: api.md 3.1, 3.2, 4 and 5."""

from typing import Any

import pytest
from grpc import StatusCode
from littlehorse.model import (
    AllowedUpdateType,
    CorrelatedEventConfig,
    ExternalEventDefId,
    GetLatestWfSpecRequest,
    PutExternalEventDefRequest,
    PutTaskDefRequest,
    PutWfSpecRequest,
    ReturnType,
    StructDefId,
    TaskDefId,
    TypeDefinition,
    VariableDef,
    VariableType,
    WfSpec,
    WfSpecId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, executes, only_exit, refusal, refused_with, waits_for

BAD_NAMES = ["", "-a", "a-", "-", "a_b", "a.b", "a/b", "a b", "ä", "a\n", " a"]
GOOD_NAMES = ["a", "7", "A", "a-b", "Order-2-shipped", "a--b", "x" * 300]


def with_variable(name: str, variable: str, kind: VariableType, **marks: Any) -> Workflow:
    """A workflow with one variable; marks are ``public``, ``required``, ``masked``, ``default``."""

    def entrypoint(thread: WorkflowThread) -> None:
        declared = thread.add_variable(variable, kind, default_value=marks.get("default"))
        if marks.get("public"):
            declared.as_public()
        if marks.get("required"):
            declared.required()
        if marks.get("masked"):
            declared.masked()

    return Workflow(name, entrypoint)


def version(spec: WfSpec) -> tuple[int, int]:
    return spec.id.major_version, spec.id.revision


class TestNames:
    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_a_bad_task_def_name_is_refused(self, client: Client, name: str) -> None:
        assert await refused_with(client.put_task_def(name)) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_a_bad_external_event_def_name_is_refused(self, client: Client, name: str) -> None:
        assert await refused_with(client.put_event_def(name)) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_a_bad_wf_spec_name_is_refused(self, client: Client, name: str) -> None:
        assert await refused_with(client.register(only_exit(name))) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("name", GOOD_NAMES)
    async def test_letters_digits_and_inner_hyphens_are_fine(self, client: Client, name: str) -> None:
        assert (await client.put_task_def(name)).id.name == name
        assert (await client.put_event_def(name)).id.name == name
        assert (await client.register(only_exit(name))).id.name == name

    async def test_names_keep_their_case(self, client: Client) -> None:
        await client.put_task_def("Ship", {"a": VariableType.INT})
        await client.put_task_def("ship", {"a": VariableType.STR})
        stored = await client.stub.GetTaskDef(TaskDefId(name="Ship"))
        assert stored.input_vars[0].type_def.primitive_type == VariableType.INT


class TestTaskDef:
    async def test_the_stored_task_def_is_returned_and_found(self, client: Client) -> None:
        put = await client.put_task_def("ship", {"b": VariableType.STR, "a": VariableType.INT}, VariableType.BOOL)
        assert [variable.name for variable in put.input_vars] == ["b", "a"]
        assert put.return_type.return_type.primitive_type == VariableType.BOOL
        assert put.created_at.ToMilliseconds() > 0
        assert await client.stub.GetTaskDef(TaskDefId(name="ship")) == put

    async def test_timestamps_have_millisecond_precision(self, client: Client) -> None:
        assert (await client.put_task_def("ship")).created_at.nanos % 1_000_000 == 0

    async def test_a_void_return_type_is_present_and_empty(self, client: Client) -> None:
        put = await client.put_task_def("ship")
        assert put.HasField("return_type")
        assert not put.return_type.HasField("return_type")

    async def test_an_identical_put_returns_the_stored_one(self, client: Client) -> None:
        first = await client.put_task_def("ship", {"a": VariableType.INT}, VariableType.STR)
        assert await client.put_task_def("ship", {"a": VariableType.INT}, VariableType.STR) == first

    async def test_a_void_return_type_equals_an_absent_one(self, client: Client) -> None:
        first = await client.put_task_def("ship")
        again = await client.stub.PutTaskDef(PutTaskDefRequest(name="ship", return_type=ReturnType()))
        assert again == first

    @pytest.mark.parametrize(
        "other",
        [
            PutTaskDefRequest(name="ship"),
            PutTaskDefRequest(
                name="ship",
                input_vars=[
                    VariableDef(name="b", type_def=TypeDefinition(primitive_type=VariableType.STR)),
                    VariableDef(name="a", type_def=TypeDefinition(primitive_type=VariableType.INT)),
                ],
            ),
            PutTaskDefRequest(
                name="ship",
                input_vars=[
                    VariableDef(name="a", type_def=TypeDefinition(primitive_type=VariableType.INT, masked=True)),
                    VariableDef(name="b", type_def=TypeDefinition(primitive_type=VariableType.STR)),
                ],
            ),
            PutTaskDefRequest(
                name="ship",
                input_vars=[
                    VariableDef(name="a", type_def=TypeDefinition(primitive_type=VariableType.INT)),
                    VariableDef(name="b", type_def=TypeDefinition(primitive_type=VariableType.STR)),
                ],
                return_type=ReturnType(return_type=TypeDefinition(primitive_type=VariableType.INT)),
            ),
        ],
        ids=["fewer inputs", "other order", "masked", "other return type"],
    )
    async def test_a_different_put_is_refused_and_changes_nothing(
        self, client: Client, other: PutTaskDefRequest
    ) -> None:
        first = await client.put_task_def("ship", {"a": VariableType.INT, "b": VariableType.STR})
        error = await refusal(client.stub.PutTaskDef(other))
        assert error.code == StatusCode.ALREADY_EXISTS
        assert "TaskDef [ship] already exists and is immutable." in error.details
        assert await client.stub.GetTaskDef(TaskDefId(name="ship")) == first

    async def test_the_deprecated_type_is_converted(self, client: Client) -> None:
        old = VariableDef(name="a", type=VariableType.STR, masked_value=True)
        put = await client.stub.PutTaskDef(PutTaskDefRequest(name="ship", input_vars=[old]))
        (variable,) = put.input_vars
        assert not variable.HasField("type")
        assert variable.type_def == TypeDefinition(primitive_type=VariableType.STR, masked=True)
        again = await client.put_task_def("ship", {"a": TypeDefinition(primitive_type=VariableType.STR, masked=True)})
        assert again == put

    async def test_an_empty_type_definition_means_json_obj(self, client: Client) -> None:
        put = await client.put_task_def("ship", {"a": TypeDefinition()}, TypeDefinition())
        again = await client.put_task_def("ship", {"a": VariableType.JSON_OBJ}, VariableType.JSON_OBJ)
        assert again == put
        assert put.input_vars[0].type_def.primitive_type == VariableType.JSON_OBJ

    async def test_a_missing_struct_def_is_refused(self, client: Client) -> None:
        car = TypeDefinition(struct_def_id=StructDefId(name="car", version=-1))
        for error in (
            await refusal(client.put_task_def("ship", {"a": car})),
            await refusal(client.put_task_def("ship", {}, car)),
        ):
            assert error.code == StatusCode.INVALID_ARGUMENT
            assert "ship" in error.details

    async def test_a_missing_task_def_is_not_found(self, client: Client) -> None:
        assert await refused_with(client.stub.GetTaskDef(TaskDefId(name="ship"))) == StatusCode.NOT_FOUND


class TestExternalEventDef:
    async def test_a_plain_definition_has_no_type_and_keeps_for_ever(self, client: Client) -> None:
        put = await client.put_event_def("paid")
        assert not put.HasField("type_information")
        assert not put.HasField("correlated_event_config")
        assert put.HasField("retention_policy")
        assert not put.retention_policy.HasField("seconds_after_put")
        assert put.created_at.ToMilliseconds() > 0
        assert await client.stub.GetExternalEventDef(ExternalEventDefId(name="paid")) == put

    async def test_all_settings_are_echoed(self, client: Client) -> None:
        config = CorrelatedEventConfig(ttl_seconds=60, delete_after_first_correlation=True)
        put = await client.put_event_def("paid", VariableType.INT, correlated=config, keep_seconds=30)
        assert put.type_information.return_type.primitive_type == VariableType.INT
        assert put.correlated_event_config == config
        assert put.retention_policy.seconds_after_put == 30

    async def test_an_empty_correlation_config_is_echoed(self, client: Client) -> None:
        put = await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        assert put.HasField("correlated_event_config")

    async def test_a_void_content_type_is_echoed(self, client: Client) -> None:
        put = await client.stub.PutExternalEventDef(PutExternalEventDefRequest(name="paid", content_type=ReturnType()))
        assert put.HasField("type_information")
        assert not put.type_information.HasField("return_type")

    async def test_a_new_definition_replaces_the_old_one(self, client: Client) -> None:
        first = await client.put_event_def("paid", VariableType.INT, keep_seconds=30)
        second = await client.put_event_def("paid", VariableType.STR)
        assert second.type_information.return_type.primitive_type == VariableType.STR
        assert not second.retention_policy.HasField("seconds_after_put")
        assert second.created_at.ToMilliseconds() >= first.created_at.ToMilliseconds()
        assert await client.stub.GetExternalEventDef(ExternalEventDefId(name="paid")) == second

    async def test_a_missing_struct_def_is_refused(self, client: Client) -> None:
        car = TypeDefinition(struct_def_id=StructDefId(name="car", version=-1))
        request = PutExternalEventDefRequest(name="paid", content_type=ReturnType(return_type=car))
        assert await refused_with(client.stub.PutExternalEventDef(request)) == StatusCode.INVALID_ARGUMENT

    async def test_a_missing_external_event_def_is_not_found(self, client: Client) -> None:
        call = client.stub.GetExternalEventDef(ExternalEventDefId(name="paid"))
        assert await refused_with(call) == StatusCode.NOT_FOUND


class TestPutWfSpec:
    async def test_the_result_is_what_was_put_with_the_defaults_filled_in(self, client: Client) -> None:
        await client.put_task_def("ship")
        spec = await client.register(executes("order", "ship"))
        assert spec.id == WfSpecId(name="order", major_version=0, revision=0)
        assert spec.entrypoint_thread_name in spec.thread_specs
        assert spec.created_at.ToMilliseconds() > 0
        assert not spec.HasField("migration")
        (node,) = [node for node in spec.thread_specs["entrypoint"].nodes.values() if node.HasField("task")]
        assert node.task.timeout_seconds == 60
        assert await client.stub.GetWfSpec(spec.id) == spec

    async def test_an_equal_spec_returns_the_stored_one(self, client: Client) -> None:
        await client.put_task_def("ship")
        first = await client.register(executes("order", "ship"))
        assert await client.register(executes("order", "ship")) == first

    @pytest.mark.parametrize("allowed", [AllowedUpdateType.MINOR_REVISION_UPDATES, AllowedUpdateType.NO_UPDATES])
    async def test_an_equal_spec_is_accepted_whatever_updates_are_allowed(
        self, client: Client, allowed: AllowedUpdateType
    ) -> None:
        first = await client.register(only_exit("order").with_update_type(allowed))
        assert version(first) == (0, 0)
        assert await client.register(only_exit("order").with_update_type(allowed)) == first

    async def test_nothing_is_created_for_a_task_def_that_is_missing(self, client: Client) -> None:
        error = await refusal(client.register(executes("order", "ship")))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "ship" in error.details
        assert await refused_with(client.stub.GetTaskDef(TaskDefId(name="ship"))) == StatusCode.NOT_FOUND
        assert await refused_with(client.stub.GetWfSpec(WfSpecId(name="order"))) == StatusCode.NOT_FOUND

    async def test_an_event_def_that_is_missing_is_refused(self, client: Client) -> None:
        error = await refusal(client.register(waits_for("order", "paid")))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "paid" in error.details

    async def test_a_definition_put_just_before_is_seen(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(waits_for("wait", "paid"))
        await client.register(executes("work", "ship"))

    async def test_the_number_of_task_inputs_must_agree(self, client: Client) -> None:
        await client.put_task_def("ship", {"a": VariableType.INT})
        assert await refused_with(client.register(executes("order", "ship"))) == StatusCode.INVALID_ARGUMENT

    async def test_a_task_input_must_fit(self, client: Client) -> None:
        await client.put_task_def("ship", {"a": VariableType.INT})

        def entrypoint(thread: WorkflowThread) -> None:
            thread.execute("ship", thread.declare_str("name"))

        error = await refusal(client.register(Workflow("order", entrypoint)))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "Cannot assign STR to INT without explicit casting" in error.details

    async def test_a_missing_entrypoint_thread_is_refused(self, client: Client) -> None:
        request = only_exit("order").compile()
        request.entrypoint_thread_name = "elsewhere"
        assert await refused_with(client.stub.PutWfSpec(request)) == StatusCode.INVALID_ARGUMENT

    async def test_an_edge_to_nowhere_is_refused(self, client: Client) -> None:
        request = only_exit("order").compile()
        for node in request.thread_specs["entrypoint"].nodes.values():
            for edge in node.outgoing_edges:
                edge.sink_node_name = "nowhere"
        assert await refused_with(client.stub.PutWfSpec(request)) == StatusCode.INVALID_ARGUMENT

    async def test_a_node_without_kind_is_refused(self, client: Client) -> None:
        request = only_exit("order").compile()
        request.thread_specs["entrypoint"].nodes["9-empty"].SetInParent()
        assert await refused_with(client.stub.PutWfSpec(request)) == StatusCode.INVALID_ARGUMENT

    async def test_an_empty_request_is_refused(self, client: Client) -> None:
        assert await refused_with(client.stub.PutWfSpec(PutWfSpecRequest())) == StatusCode.INVALID_ARGUMENT

    async def test_a_missing_parent_spec_is_refused(self, client: Client) -> None:
        child = Workflow("child", only_exit("x")._entrypoint, parent_wf="parent")
        assert await refused_with(client.register(child)) == StatusCode.INVALID_ARGUMENT


class TestVersions:
    async def test_an_optional_private_variable_is_a_new_revision(self, client: Client) -> None:
        await client.register(only_exit("order"))
        spec = await client.register(with_variable("order", "note", VariableType.STR))
        assert version(spec) == (0, 1)

    async def test_retyping_an_optional_private_variable_is_a_new_revision(self, client: Client) -> None:
        await client.register(with_variable("order", "note", VariableType.STR))
        spec = await client.register(with_variable("order", "note", VariableType.INT))
        assert version(spec) == (0, 1)

    @pytest.mark.parametrize("mark", ["public", "required"])
    async def test_a_public_or_required_variable_is_a_new_major_version(self, client: Client, mark: str) -> None:
        await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        spec = await client.register(with_variable("order", "other", VariableType.STR, **{mark: True}))
        assert version(spec) == (1, 0)
        assert [variable.var_def.name for variable in spec.frozen_variables] == ["other"]

    async def test_another_output_type_is_a_new_major_version(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.complete(thread.declare_int("count"))

        await client.register(with_variable("order", "count", VariableType.INT))
        assert version(await client.register(Workflow("order", entrypoint))) == (1, 0)

    @pytest.mark.parametrize("mark", ["public", "required"])
    async def test_the_type_of_a_frozen_variable_cannot_change(self, client: Client, mark: str) -> None:
        await client.register(with_variable("order", "note", VariableType.STR, **{mark: True}))
        retyped = with_variable("order", "note", VariableType.INT, **{mark: True})
        remasked = with_variable("order", "note", VariableType.STR, masked=True, **{mark: True})
        assert await refused_with(client.register(retyped)) == StatusCode.INVALID_ARGUMENT
        assert await refused_with(client.register(remasked)) == StatusCode.INVALID_ARGUMENT

    async def test_a_frozen_variable_stays_frozen_when_it_is_dropped(self, client: Client) -> None:
        await client.register(with_variable("order", "note", VariableType.STR, required=True))
        dropped = await client.register(only_exit("order"))
        assert version(dropped) == (1, 0)
        assert [variable.var_def.name for variable in dropped.frozen_variables] == ["note"]
        back = with_variable("order", "note", VariableType.INT)
        assert await refused_with(client.register(back)) == StatusCode.INVALID_ARGUMENT

    async def test_no_updates_refuses_a_different_spec(self, client: Client) -> None:
        await client.register(only_exit("order"))
        changed = with_variable("order", "note", VariableType.STR).with_update_type(AllowedUpdateType.NO_UPDATES)
        error = await refusal(client.register(changed))
        assert error.code == StatusCode.ALREADY_EXISTS
        assert "WfSpec already exists" in error.details

    async def test_minor_updates_accept_a_revision_but_no_breaking_change(self, client: Client) -> None:
        minor = AllowedUpdateType.MINOR_REVISION_UPDATES
        await client.register(only_exit("order"))
        small = with_variable("order", "note", VariableType.STR).with_update_type(minor)
        assert version(await client.register(small)) == (0, 1)
        big = with_variable("order", "note", VariableType.STR, required=True).with_update_type(minor)
        error = await refusal(client.register(big))
        assert error.code == StatusCode.FAILED_PRECONDITION
        assert "has a breaking change" in error.details
        assert "order" in error.details


class TestGetWfSpec:
    async def test_a_name_alone_means_version_zero_zero(self, client: Client) -> None:
        first = await client.register(only_exit("order"))
        await client.register(with_variable("order", "note", VariableType.STR))
        assert await client.stub.GetWfSpec(WfSpecId(name="order")) == first

    async def test_versions_are_exact(self, client: Client) -> None:
        await client.register(only_exit("order"))
        for missing in (WfSpecId(name="order", revision=1), WfSpecId(name="order", major_version=1)):
            assert await refused_with(client.stub.GetWfSpec(missing)) == StatusCode.NOT_FOUND

    async def test_the_latest_is_the_highest_version(self, client: Client) -> None:
        await client.register(only_exit("order"))
        revised = await client.register(with_variable("order", "note", VariableType.STR))
        breaking = await client.register(with_variable("order", "other", VariableType.STR, required=True))
        newest = await client.register(with_variable("order", "other", VariableType.STR, required=True, default="x"))
        assert version(breaking) == (1, 0)
        assert newest.id.major_version >= 1
        latest = client.stub.GetLatestWfSpec
        assert await latest(GetLatestWfSpecRequest(name="order")) == newest
        assert await latest(GetLatestWfSpecRequest(name="order", major_version=0)) == revised
        assert await refused_with(latest(GetLatestWfSpecRequest(name="order", major_version=9))) == StatusCode.NOT_FOUND
        assert await refused_with(latest(GetLatestWfSpecRequest(name="other"))) == StatusCode.NOT_FOUND

    async def test_revision_eleven_is_newer_than_revision_nine(self, client: Client) -> None:
        for number in range(12):
            await client.register(with_variable("order", f"note{number}", VariableType.STR))
        latest = await client.stub.GetLatestWfSpec(GetLatestWfSpecRequest(name="order"))
        assert version(latest) == (0, 11)
