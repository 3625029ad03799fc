"""External events and correlated events: api.md 7."""

import re
from typing import Any

import pytest
from grpc import StatusCode
from littlehorse.model import (
    CorrelatedEventConfig,
    ExternalEventDefId,
    LHStatus,
    PutCorrelatedEventRequest,
    PutExternalEventDefRequest,
    PutExternalEventRequest,
    ReturnType,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client, eventually, is_missing, only_exit, refusal, refused_with, waits_for


def keeps_content(name: str, event_def: str, kind: VariableType) -> Workflow:
    """A workflow that waits for an event and keeps its content in ``got``."""

    def entrypoint(thread: WorkflowThread) -> None:
        got = thread.add_variable("got", kind)
        got.assign(thread.wait_for_event(event_def))

    return Workflow(name, entrypoint)


def waits_for_key(name: str, *event_defs: str, timeout: int = -1) -> Workflow:
    """A workflow whose event nodes wait for the correlation key in the variable ``key``."""

    def entrypoint(thread: WorkflowThread) -> None:
        key = thread.declare_str("key")
        for event_def in event_defs:
            thread.wait_for_event(event_def, timeout=timeout, correlation_id=key)

    return Workflow(name, entrypoint)


class TestPutExternalEvent:
    async def test_an_unknown_def_is_an_invalid_argument(self, client: Client) -> None:
        assert await refused_with(client.post("paid", run="r")) == StatusCode.INVALID_ARGUMENT

    async def test_a_missing_wf_run_id_is_refused(self, client: Client) -> None:
        await client.put_event_def("paid")
        request = PutExternalEventRequest(external_event_def_id=ExternalEventDefId(name="paid"))
        assert await refused_with(client.stub.PutExternalEvent(request)) == StatusCode.INVALID_ARGUMENT
        assert await refused_with(client.post("paid", run="")) == StatusCode.INVALID_ARGUMENT

    async def test_an_empty_request_is_refused(self, client: Client) -> None:
        call = client.stub.PutExternalEvent(PutExternalEventRequest())
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    async def test_an_event_for_a_run_that_does_not_exist_is_kept(self, client: Client) -> None:
        await client.put_event_def("paid")
        event = await client.post("paid", "x", run="r", guid="g", thread=0, position=1)
        assert event.id.wf_run_id == WfRunId(id="r")
        assert event.id.external_event_def_id.name == "paid"
        assert event.id.guid == "g"
        assert event.content.str == "x"
        assert (event.thread_run_number, event.node_run_position) == (0, 1)
        assert event.HasField("thread_run_number")
        assert event.HasField("node_run_position")
        assert not event.claimed
        assert event.created_at.ToMilliseconds() > 0
        assert await client.external_event("r", "paid", "g") == event

    async def test_an_absent_guid_is_generated(self, client: Client) -> None:
        await client.put_event_def("paid")
        first, second = await client.post("paid", run="r"), await client.post("paid", run="r")
        assert re.fullmatch("[0-9a-f]{32}", first.id.guid)
        assert first.id.guid != second.id.guid

    @pytest.mark.parametrize("content", ["x", "other"])
    async def test_the_same_guid_again_already_exists(self, client: Client, content: str) -> None:
        await client.put_event_def("paid")
        first = await client.post("paid", "x", run="r", guid="g")
        assert await refused_with(client.post("paid", content, run="r", guid="g")) == StatusCode.ALREADY_EXISTS
        assert await client.external_event("r", "paid", "g") == first

    async def test_the_same_guid_again_already_exists_after_the_claim(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r", guid="g")
        assert await refused_with(client.post("paid", run="r", guid="g")) == StatusCode.ALREADY_EXISTS
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    async def test_the_same_guid_under_another_def_or_run_is_another_event(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_event_def("sent")
        await client.post("paid", 1, run="r", guid="g")
        await client.post("sent", 2, run="r", guid="g")
        await client.post("paid", 3, run="r2", guid="g")
        assert (await client.external_event("r", "paid", "g")).content.int == 1
        assert (await client.external_event("r", "sent", "g")).content.int == 2
        assert (await client.external_event("r2", "paid", "g")).content.int == 3

    async def test_the_def_is_checked_before_the_guid(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT)
        await client.post("paid", 1, run="r", guid="g")
        assert await refused_with(client.post("paid", "x", run="r", guid="g")) == StatusCode.ALREADY_EXISTS
        assert await refused_with(client.post("other", 1, run="r", guid="g")) == StatusCode.INVALID_ARGUMENT

    async def test_the_response_shows_the_claim(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        event = await client.post("paid", run="r", guid="g")
        assert event.claimed
        assert (event.thread_run_number, event.node_run_position) == (0, 1)
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED
        node = (await client.node_run("r", 1)).external_event
        assert node.external_event_id == event.id
        assert node.event_time == event.created_at

    async def test_an_event_for_a_completed_run_is_stored_unclaimed(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(only_exit("order"))
        await client.run("order", "r")
        assert not (await client.post("paid", run="r", guid="g")).claimed

    async def test_a_missing_event_is_not_found(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.post("paid", run="r", guid="g")
        assert await is_missing(client.external_event("r", "paid", "h"))
        assert await is_missing(client.external_event("r", "sent", "g"))
        assert await is_missing(client.external_event("s", "paid", "g"))


class TestContentType:
    async def test_a_misfit_is_refused_and_not_stored(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT)
        error = await refusal(client.post("paid", "seven", run="r", guid="g"))
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "invalid type" in error.details.lower()
        assert "paid" in error.details
        assert await is_missing(client.external_event("r", "paid", "g"))

    async def test_null_always_fits(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT)
        assert (await client.post("paid", None, run="r")).content == VariableValue()

    @pytest.mark.parametrize(
        ("kind", "content"),
        [(VariableType.DOUBLE, 7), (VariableType.STR, 7), (VariableType.STR, True), (VariableType.STR, 0.5)],
    )
    async def test_a_fitting_value_is_not_converted(self, client: Client, kind: VariableType, content: Any) -> None:
        await client.put_event_def("paid", kind)
        assert (await client.post("paid", content, run="r")).content == to_variable_value(content)

    async def test_without_type_information_anything_passes(self, client: Client) -> None:
        await client.put_event_def("paid")
        for content in ("x", 7, {"a": 1}, [1], b"b", None):
            assert (await client.post("paid", content, run="r")).content == to_variable_value(content)

    async def test_a_changed_def_is_in_force_at_once(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT)
        await client.put_event_def("paid", VariableType.STR)
        assert (await client.post("paid", "seven", run="r")).content.str == "seven"


class TestMatching:
    async def test_the_earliest_event_is_claimed_first(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(keeps_content("order", "paid", VariableType.STR))
        for guid in ("z", "a", "m"):
            await client.post("paid", f"content of {guid}", run="r", guid=guid)
        await client.run("order", "r")
        assert (await client.variable("r", "got")).str == "content of z"
        claimed = [(await client.external_event("r", "paid", guid)).claimed for guid in ("z", "a", "m")]
        assert claimed == [True, False, False]

    async def test_one_event_is_claimed_by_one_node(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.RUNNING
        await client.post("paid", run="r")
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED

    async def test_another_def_or_run_does_not_match(self, client: Client) -> None:
        await client.put_event_def("paid")
        await client.put_event_def("sent")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert not (await client.post("sent", run="r")).claimed
        assert not (await client.post("paid", run="r2")).claimed
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    @pytest.mark.parametrize("target", [{"thread": 1}, {"position": 2}, {"thread": 0, "position": 2}])
    async def test_an_event_for_another_node_does_not_match(self, client: Client, target: dict[str, Any]) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert not (await client.post("paid", run="r", **target)).claimed
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    @pytest.mark.parametrize("target", [{"thread": 0}, {"position": 1}, {"thread": 0, "position": 1}])
    async def test_an_event_for_this_node_matches(self, client: Client, target: dict[str, Any]) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        assert (await client.post("paid", run="r", **target)).claimed

    async def test_the_content_is_the_output_of_the_node(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT)
        await client.register(keeps_content("order", "paid", VariableType.INT))
        await client.run("order", "r")
        await client.post("paid", 7, run="r")
        assert (await client.variable("r", "got")).int == 7

    async def test_an_event_that_does_not_come_in_time_is_an_error(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.wait_for_event("paid", timeout=1)

        await client.put_event_def("paid")
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r")
        await client.until("r", LHStatus.ERROR)
        node = await client.node_run("r", 1)
        assert node.external_event.timed_out
        assert node.failures[0].failure_name == "TIMEOUT"
        assert not (await client.post("paid", run="r")).claimed


class TestRetention:
    async def test_an_unclaimed_event_is_deleted_after_its_time(self, client: Client) -> None:
        await client.put_event_def("paid", keep_seconds=1)
        await client.put_event_def("sent")
        await client.post("paid", run="r", guid="g")
        await client.post("sent", run="r", guid="g")
        await eventually(lambda: is_missing(client.external_event("r", "paid", "g")))
        assert not (await client.external_event("r", "sent", "g")).claimed

    async def test_a_claimed_event_stays(self, client: Client) -> None:
        await client.put_event_def("paid", keep_seconds=1)
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        await client.post("paid", run="r", guid="claimed")
        await client.post("paid", run="r", guid="unclaimed")  # its deletion is due after that of the claimed one
        await eventually(lambda: is_missing(client.external_event("r", "paid", "unclaimed")))
        assert (await client.external_event("r", "paid", "claimed")).claimed

    async def test_the_guid_of_a_deleted_event_can_be_used_again(self, client: Client) -> None:
        await client.put_event_def("paid", keep_seconds=1)
        await client.post("paid", run="r", guid="g")
        await eventually(lambda: is_missing(client.external_event("r", "paid", "g")))
        assert (await client.post("paid", run="r", guid="g")).id.guid == "g"


class TestPutCorrelatedEvent:
    @pytest.mark.parametrize("key", ["a/b", "a~b", "/", "~"])
    async def test_a_bad_key_is_refused(self, client: Client, key: str) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        assert await refused_with(client.correlate("paid", key)) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("key", ["a_b", "a.b", "a b", "ä", "a@b.c", "%"])
    async def test_other_characters_are_fine(self, client: Client, key: str) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        assert (await client.correlate("paid", key)).id.key == key
        assert (await client.correlated_event("paid", key)).id.key == key

    async def test_an_unknown_def_is_refused(self, client: Client) -> None:
        assert await refused_with(client.correlate("paid", "k")) == StatusCode.INVALID_ARGUMENT

    async def test_a_def_without_correlation_config_is_refused(self, client: Client) -> None:
        await client.put_event_def("paid")
        assert await refused_with(client.correlate("paid", "k")) == StatusCode.INVALID_ARGUMENT

    async def test_a_content_that_does_not_fit_is_refused(self, client: Client) -> None:
        await client.put_event_def("paid", VariableType.INT, correlated=CorrelatedEventConfig())
        assert await refused_with(client.correlate("paid", "k", "seven")) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(client.correlated_event("paid", "k"))
        assert (await client.correlate("paid", "k", 7)).content.int == 7

    async def test_a_void_type_accepts_only_null(self, client: Client) -> None:
        request = PutExternalEventDefRequest(
            name="paid", content_type=ReturnType(), correlated_event_config=CorrelatedEventConfig()
        )
        await client.stub.PutExternalEventDef(request)
        assert await refused_with(client.correlate("paid", "k", 7)) == StatusCode.INVALID_ARGUMENT
        assert (await client.correlate("paid", "k")).content == VariableValue()

    async def test_the_same_key_and_def_again_already_exists(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.put_event_def("sent", correlated=CorrelatedEventConfig())
        await client.correlate("paid", "k", 1)
        assert await refused_with(client.correlate("paid", "k", 1)) == StatusCode.ALREADY_EXISTS
        assert (await client.correlate("sent", "k", 2)).content.int == 2
        assert (await client.correlate("paid", "K", 3)).content.int == 3
        assert (await client.correlated_event("paid", "k")).content.int == 1

    async def test_the_stored_event_is_returned_and_found(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        event = await client.correlate("paid", "k", "x")
        assert event.id.key == "k"
        assert event.id.external_event_def_id.name == "paid"
        assert event.content.str == "x"
        assert event.created_at.ToMilliseconds() > 0
        assert not event.external_events
        assert await client.correlated_event("paid", "k") == event

    async def test_a_missing_event_is_not_found(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.correlate("paid", "k")
        assert await is_missing(client.correlated_event("paid", "other"))
        assert await is_missing(client.correlated_event("sent", "k"))

    async def test_an_empty_request_is_refused(self, client: Client) -> None:
        call = client.stub.PutCorrelatedEvent(PutCorrelatedEventRequest())
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT


class TestCorrelation:
    async def test_every_waiting_run_gets_an_event_of_its_own(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid"))
        for wf_run_id, key in (("a", "k"), ("b", "k"), ("c", "other")):
            await client.run("order", wf_run_id, key=key)
        await client.correlate("paid", "k", 7)
        await client.until("a", LHStatus.COMPLETED)
        await client.until("b", LHStatus.COMPLETED)

        assert (await client.wf_run("c")).status == LHStatus.RUNNING
        made = (await client.correlated_event("paid", "k")).external_events
        assert sorted(event.wf_run_id.id for event in made) == ["a", "b"]
        for event_id in made:
            event = await client.stub.GetExternalEvent(event_id)
            assert event.content.int == 7
            assert event.claimed
            assert (event.thread_run_number, event.node_run_position) == (0, 1)

    async def test_a_node_that_waits_later_is_matched_too(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid"))
        await client.correlate("paid", "k", 7)
        for wf_run_id in ("a", "b"):
            await client.run("order", wf_run_id, key="k")
            await client.until(wf_run_id, LHStatus.COMPLETED)
        made = (await client.correlated_event("paid", "k")).external_events
        assert [event.wf_run_id.id for event in made] == ["a", "b"]

    async def test_delete_after_first_correlation_serves_one_late_waiter_only(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig(delete_after_first_correlation=True))
        await client.register(waits_for_key("order", "paid"))
        await client.correlate("paid", "k")
        await client.run("order", "a", key="k")
        await client.until("a", LHStatus.COMPLETED)
        await eventually(lambda: is_missing(client.correlated_event("paid", "k")))
        assert (await client.run("order", "b", key="k")).status == LHStatus.RUNNING
        await client.correlate("paid", "k")  # the key is free again
        await client.until("b", LHStatus.COMPLETED)

    async def test_an_event_is_deleted_after_its_ttl(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig(ttl_seconds=1))
        await client.register(waits_for_key("order", "paid"))
        await client.correlate("paid", "k")
        await client.run("order", "a", key="k")
        await client.until("a", LHStatus.COMPLETED)
        (made,) = (await client.correlated_event("paid", "k")).external_events
        await eventually(lambda: is_missing(client.correlated_event("paid", "k")))
        assert (await client.stub.GetExternalEvent(made)).claimed

    async def test_two_nodes_in_sequence_take_the_same_stored_event(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid", "paid"))
        await client.correlate("paid", "k")
        await client.run("order", "a", key="k")
        await client.until("a", LHStatus.COMPLETED)
        assert len((await client.correlated_event("paid", "k")).external_events) == 2

    async def test_a_node_that_was_completed_directly_waits_no_more(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid"))
        await client.run("order", "done", key="k")
        assert (await client.post("paid", run="done")).claimed
        await client.run("order", "waiting", key="k")
        await client.correlate("paid", "k")
        await client.until("waiting", LHStatus.COMPLETED)
        made = (await client.correlated_event("paid", "k")).external_events
        assert [event.wf_run_id.id for event in made] == ["waiting"]

    async def test_a_node_that_timed_out_waits_no_more(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid", timeout=1))
        await client.run("order", "late", key="k")
        await client.until("late", LHStatus.ERROR)
        await client.run("order", "waiting", key="k")
        await client.correlate("paid", "k")
        await client.until("waiting", LHStatus.COMPLETED)
        made = (await client.correlated_event("paid", "k")).external_events
        assert [event.wf_run_id.id for event in made] == ["waiting"]

    async def test_a_deleted_run_waits_no_more(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid"))
        await client.run("order", "deleted", key="k")
        await client.delete("deleted")
        await client.run("order", "waiting", key="k")
        await client.correlate("paid", "k")
        await client.until("waiting", LHStatus.COMPLETED)
        made = (await client.correlated_event("paid", "k")).external_events
        assert [event.wf_run_id.id for event in made] == ["waiting"]

    async def test_a_null_key_is_an_error(self, client: Client) -> None:
        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(waits_for_key("order", "paid"))
        assert (await client.run("order", "r", key=None)).status == LHStatus.ERROR
        assert (await client.node_run("r", 1)).failures[0].failure_name == "VAR_ERROR"

    async def test_a_masked_key_matches_by_its_real_value(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.wait_for_event("paid", correlation_id=thread.declare_str("key").masked())

        await client.put_event_def("paid", correlated=CorrelatedEventConfig())
        await client.register(Workflow("order", entrypoint))
        await client.run("order", "r", key="secret")
        await client.correlate("paid", "secret")
        await client.until("r", LHStatus.COMPLETED)
