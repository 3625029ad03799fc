"""RunWf and DeleteWfRun: api.md 6.1 and 12."""

import re
from typing import Any

import anyio
import grpc
import pytest
from grpc import StatusCode
from littlehorse.model import (
    LHStatus,
    ListExternalEventsRequest,
    ListVariablesRequest,
    RunWfRequest,
    SearchWfRunRequest,
    TaskStatus,
    VariableValue,
    WfRun,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    Client,
    executes,
    external_event_id,
    is_missing,
    only_exit,
    refusal,
    refused_with,
    waits_for,
)


def with_inputs(name: str, *, required: str | None = None) -> Workflow:
    """A workflow with one optional variable per primitive type, and perhaps a required STR."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.declare_str("text")
        thread.declare_int("count")
        thread.declare_double("ratio")
        thread.declare_bool("flag")
        thread.declare_bytes("blob")
        thread.declare_json_obj("document")
        thread.declare_json_arr("items")
        thread.declare_wf_run_id("other")
        thread.declare_str("fallback", "fell back")
        if required is not None:
            thread.declare_str(required).required()

    return Workflow(name, entrypoint)


class TestResponse:
    async def test_a_run_without_waiting_nodes_is_already_completed(self, client: Client) -> None:
        spec = await client.register(only_exit("order"))
        run = await client.run("order", "r")
        assert run.id == WfRunId(id="r")
        assert run.wf_spec_id == spec.id
        assert run.status == LHStatus.COMPLETED
        assert run.HasField("start_time")
        assert run.HasField("end_time")
        assert [thread.number for thread in run.thread_runs] == [0]
        assert await client.wf_run("r") == run

    async def test_all_node_runs_up_to_the_first_waiting_one_exist(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship", "ship"))
        run = await client.run("order", "r")
        assert run.status == LHStatus.RUNNING
        assert not run.HasField("end_time")
        kinds = [node.WhichOneof("node_type") for node in await client.node_runs("r")]
        assert kinds == ["entrypoint", "task"]
        (task_run,) = await client.task_runs("r")
        assert task_run.status == TaskStatus.TASK_SCHEDULED

    async def test_a_business_failure_is_already_an_exception(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.fail("out-of-stock", "nothing left")

        await client.register(Workflow("order", entrypoint))
        assert (await client.run("order")).status == LHStatus.EXCEPTION

    async def test_a_technical_failure_is_already_an_error(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.sleep(thread.declare_int("seconds"))

        await client.register(Workflow("order", entrypoint))
        assert (await client.run("order", "r")).status == LHStatus.ERROR
        (failure,) = (await client.node_run("r", 1)).failures
        assert failure.failure_name == "VAR_SUB_ERROR"

    async def test_events_posted_before_have_been_applied(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        event = await client.post("paid", 7, run="r", guid="g")
        assert not event.claimed
        assert (await client.run("order", "r")).status == LHStatus.COMPLETED
        assert (await client.external_event("r", "paid", "g")).claimed

    async def test_a_sleeping_run_wakes(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.sleep(1)

        await client.register(Workflow("order", entrypoint))
        run = await client.run("order", "r")
        assert run.status == LHStatus.RUNNING
        assert not (await client.node_run("r", 1)).sleep.matured
        await client.until("r", LHStatus.COMPLETED)
        node = await client.node_run("r", 1)
        assert node.sleep.matured
        assert node.end_time.ToMilliseconds() >= node.sleep.maturation_time.ToMilliseconds()


class TestId:
    async def test_a_generated_id_is_32_lower_case_hex_digits(self, client: Client) -> None:
        await client.register(only_exit("order"))
        first, second = await client.run("order"), await client.run("order")
        assert re.fullmatch("[0-9a-f]{32}", first.id.id)
        assert first.id != second.id

    @pytest.mark.parametrize("wf_run_id", ["", "-a", "a-", "a_b", "a.b", "a/b", "a b", "a\n"])
    async def test_a_bad_id_is_refused(self, client: Client, wf_run_id: str) -> None:
        await client.register(only_exit("order"))
        assert await refused_with(client.run("order", wf_run_id)) == StatusCode.INVALID_ARGUMENT

    async def test_an_id_is_taken_once_and_the_first_run_is_not_touched(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.register(only_exit("other"))
        first = await client.run("order", "r")
        error = await refusal(client.run("other", "r"))
        assert error.code == StatusCode.ALREADY_EXISTS
        assert "WfRun with id r already exists" in error.details
        assert "!" in error.details
        assert await client.wf_run("r") == first

    async def test_of_many_calls_with_one_id_exactly_one_starts_a_run(self, client: Client) -> None:
        await client.register(only_exit("order"))
        codes: list[StatusCode] = []

        async def start() -> None:
            try:
                await client.run("order", "r")
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(start)
        assert codes == [StatusCode.ALREADY_EXISTS] * 9

    async def test_ids_differ_by_case(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        assert (await client.run("order", "R")).id.id == "R"


class TestSpec:
    async def test_an_empty_spec_name_is_refused(self, client: Client) -> None:
        assert await refused_with(client.run("")) == StatusCode.INVALID_ARGUMENT

    async def test_an_unknown_spec_is_not_found(self, client: Client) -> None:
        assert await refused_with(client.run("order", "r")) == StatusCode.NOT_FOUND
        assert await is_missing(client.wf_run("r"))

    async def test_the_id_syntax_is_checked_before_the_spec(self, client: Client) -> None:
        assert await refused_with(client.run("order", "a_b")) == StatusCode.INVALID_ARGUMENT

    async def test_the_spec_is_checked_before_the_duplicate(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        assert await refused_with(client.run("unknown", "r")) == StatusCode.NOT_FOUND

    async def test_the_duplicate_is_checked_before_the_variables(self, client: Client) -> None:
        await client.register(with_inputs("order", required="customer"))
        await client.run("order", "r", customer="Ada")
        assert await refused_with(client.run("order", "r")) == StatusCode.ALREADY_EXISTS

    async def test_versions_select_the_spec(self, client: Client) -> None:
        def breaking(thread: WorkflowThread) -> None:
            thread.declare_str("public").as_public()

        def revised(thread: WorkflowThread) -> None:
            thread.declare_str("private")

        await client.register(only_exit("order"))
        await client.register(Workflow("order", revised))
        await client.register(Workflow("order", breaking))

        async def used(major: int | None = None, revision: int | None = None) -> tuple[int, int]:
            run: WfRun = await client.stub.RunWf(
                RunWfRequest(wf_spec_name="order", major_version=major, revision=revision)
            )
            return run.wf_spec_id.major_version, run.wf_spec_id.revision

        assert await used() == (1, 0)
        assert await used(0) == (0, 1)
        assert await used(0, 0) == (0, 0)
        assert await used(None, 7) == (1, 0)
        assert await refused_with(used(2)) == StatusCode.NOT_FOUND
        assert await refused_with(used(0, 2)) == StatusCode.NOT_FOUND

    async def test_a_run_keeps_its_version(self, client: Client) -> None:
        def longer(thread: WorkflowThread) -> None:
            thread.wait_for_event("paid")
            thread.wait_for_event("paid")

        await client.put_event_def("paid")
        first = await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await client.register(Workflow("order", longer))
        await client.post("paid", run="r")
        run = await client.wf_run("r")
        assert run.status == LHStatus.COMPLETED
        assert run.wf_spec_id == first.id


class TestVariables:
    async def test_a_missing_required_variable_is_refused(self, client: Client) -> None:
        await client.register(with_inputs("order", required="customer"))
        error = await refusal(client.run("order", "r"))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "customer" in error.details
        assert await is_missing(client.wf_run("r"))

    async def test_null_satisfies_a_required_variable(self, client: Client) -> None:
        await client.register(with_inputs("order", required="customer"))
        await client.run("order", "r", customer=None)
        assert await client.variable("r", "customer") == VariableValue()

    async def test_an_unknown_variable_is_refused(self, client: Client) -> None:
        await client.register(with_inputs("order"))
        error = await refusal(client.run("order", "r", unknown=1))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert await is_missing(client.wf_run("r"))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("count", "seven"),
            ("count", 7.0),
            ("count", True),
            ("ratio", "0.5"),
            ("flag", 1),
            ("flag", "true"),
            ("text", {"a": 1}),
            ("text", [1]),
            ("document", "{}"),
            ("document", [1]),
            ("items", {"a": 1}),
            ("blob", "bytes"),
            ("other", "r"),
        ],
    )
    async def test_a_value_that_does_not_fit_is_refused(self, client: Client, name: str, value: Any) -> None:
        await client.register(with_inputs("order"))
        error = await refusal(client.run("order", "r", **{name: value}))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert name in error.details
        assert await is_missing(client.wf_run("r"))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("text", "hello"),
            ("text", ""),
            ("text", 7),
            ("text", 0.5),
            ("text", False),
            ("text", b"bytes"),
            ("text", WfRunId(id="x")),
            ("count", 0),
            ("count", 2**63 - 1),
            ("count", -(2**63)),
            ("ratio", 0.5),
            ("ratio", 7),
            ("flag", False),
            ("blob", b"\x00\xff"),
            ("document", {"a": [1, None]}),
            ("items", [1, "two"]),
            ("other", WfRunId(id="x", parent_wf_run_id=WfRunId(id="y"))),
        ],
    )
    async def test_a_value_that_fits_is_stored_unconverted(self, client: Client, name: str, value: Any) -> None:
        await client.register(with_inputs("order"))
        await client.run("order", "r", **{name: value})
        assert await client.variable("r", name) == to_variable_value(value)

    async def test_a_default_applies_to_an_absent_value_and_to_null(self, client: Client) -> None:
        await client.register(with_inputs("order"))
        await client.run("order", "absent")
        await client.run("order", "null", fallback=None)
        await client.run("order", "given", fallback="")
        assert (await client.variable("absent", "fallback")).str == "fell back"
        assert (await client.variable("null", "fallback")).str == "fell back"
        assert await client.variable("given", "fallback") == VariableValue(str="")

    async def test_a_variable_without_value_and_default_is_null(self, client: Client) -> None:
        await client.register(with_inputs("order"))
        await client.run("order", "r")
        assert await client.variable("r", "text") == VariableValue()

    async def test_a_timestamp_variable_takes_only_timestamps(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_timestamp("at")

        await client.register(Workflow("order", entrypoint))
        value = VariableValue()
        value.utc_timestamp.FromMilliseconds(1_700_000_000_123)
        await client.stub.RunWf(RunWfRequest(wf_spec_name="order", id="r", variables={"at": value}))
        assert await client.variable("r", "at") == value
        assert await refused_with(client.run("order", "s", at=5)) == StatusCode.INVALID_ARGUMENT


class TestParent:
    async def test_a_parent_for_a_spec_without_parent_is_refused(self, client: Client) -> None:
        await client.register(only_exit("order"))
        await client.run("order", "r")
        request = RunWfRequest(wf_spec_name="order", id="c", parent_wf_run_id=WfRunId(id="r"))
        assert await refused_with(client.stub.RunWf(request)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(client.stub.GetWfRun(WfRunId(id="c", parent_wf_run_id=WfRunId(id="r"))))


class TestDeleteWfRun:
    async def test_a_missing_run_is_fine(self, client: Client) -> None:
        await client.delete("r")

    async def test_a_running_run_disappears_with_everything_it_has(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_str("text")
            thread.wait_for_event("paid")
            thread.execute("ship")

        await client.put_event_def("paid")
        await client.put_task_def("ship")
        await client.register(Workflow("order", entrypoint))
        await client.post("paid", run="r", guid="before")
        await client.run("order", "r", text="x")
        await client.post("paid", run="r", guid="unclaimed")
        (task_run,) = await client.task_runs("r")

        await client.delete("r")

        assert await is_missing(client.wf_run("r"))
        assert await is_missing(client.node_run("r", 0))
        assert await is_missing(client.variable("r", "text"))
        assert await is_missing(client.task_run(task_run.id))
        for guid in ("before", "unclaimed"):
            assert await is_missing(client.stub.GetExternalEvent(external_event_id("r", "paid", guid)))
        assert not await client.node_runs("r")
        assert not await client.task_runs("r")
        assert not (await client.stub.ListVariables(ListVariablesRequest(wf_run_id=WfRunId(id="r")))).results
        assert not (await client.stub.ListExternalEvents(ListExternalEventsRequest(wf_run_id=WfRunId(id="r")))).results
        assert not (await client.stub.SearchWfRun(SearchWfRunRequest(wf_spec_name="order"))).results

    async def test_another_run_keeps_what_it_has(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        for wf_run_id in ("r", "r2"):
            await client.run("order", wf_run_id)
            await client.post("paid", run=wf_run_id, guid="g")
        await client.delete("r")
        assert (await client.wf_run("r2")).status == LHStatus.COMPLETED
        assert (await client.external_event("r2", "paid", "g")).claimed
        assert len(await client.node_runs("r2")) == 3

    async def test_the_id_can_be_used_again(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r", guid="g")
        await client.delete("r")
        assert (await client.run("order", "r")).status == LHStatus.RUNNING
        await client.post("paid", run="r", guid="g")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_its_queued_task_is_never_handed_out(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "deleted")
        await client.run("order", "kept")
        await client.delete("deleted")
        async with client.poller("ship") as poller:
            await poller.ask()
            assert (await poller.take()).task_run_id.wf_run_id.id == "kept"

    async def test_a_late_report_for_it_is_ignored(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "r")
        task = await client.claim("ship")
        await client.delete("r")
        await client.report(task)
        await client.reports_processed("r")
        assert await is_missing(client.wf_run("r"))
        assert await is_missing(client.task_run(task.task_run_id))

    async def test_a_late_report_does_not_touch_a_successor_with_the_same_id(self, client: Client) -> None:
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        await client.run("order", "r")
        task = await client.claim("ship")
        await client.delete("r")
        await client.run("order", "r")
        await client.report(task)
        await client.reports_processed("r")
        (task_run,) = await client.task_runs("r")
        assert task_run.status == TaskStatus.TASK_SCHEDULED
