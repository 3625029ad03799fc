"""Tenants, sizes, unsupported RPCs, keep-alive, Whoami and GetServerVersion: api.md 1, 2.1, 13.3 and 16."""

from collections.abc import Awaitable
from typing import Any

import anyio
import grpc
import pytest
from google.protobuf import message_factory
from grpc import StatusCode
from littlehorse.model import (
    ExternalEventDefId,
    LHStatus,
    LittleHorseStub,
    Principal,
    PutExternalEventRequest,
    TaskDefId,
    VariableType,
    WfRunId,
    service_pb2,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    EMPTY,
    Client,
    Refusal,
    executes,
    is_missing,
    only_exit,
    refusal,
    refused_with,
    waits_for,
)

METHODS: dict[str, Any] = dict(service_pb2.DESCRIPTOR.services_by_name["LittleHorse"].methods_by_name)
UNSUPPORTED = ["GetTaskDefMetricsWindow", "GetWfSpecMetricsWindow", "MigrateWfSpec"]
UNARY = sorted(METHODS.keys() - {*UNSUPPORTED, "PollTask", "AwaitWorkflowEvent"})
"""AwaitWorkflowEvent waits as long as it may when it is asked for nothing in particular."""

REQUEST_LIMIT = 1_047_000


def empty_call(client: Client, name: str, metadata: tuple[tuple[str, str], ...] = ()) -> Awaitable[Any]:
    """A unary call with an empty request."""
    request = message_factory.GetMessageClass(METHODS[name].input_type)()
    call: Awaitable[Any] = getattr(client.stub, name)(request, metadata=metadata)
    return call


class TestService:
    def test_the_package_has_108_methods(self) -> None:
        assert len(METHODS) == 108

    @pytest.mark.parametrize("name", UNSUPPORTED)
    async def test_what_no_behaviour_is_known_for_is_unimplemented(self, client: Client, name: str) -> None:
        assert await refused_with(empty_call(client, name)) == StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("name", UNARY)
    async def test_an_empty_request_is_answered_properly(self, client: Client, name: str) -> None:
        try:
            await empty_call(client, name)
        except grpc.aio.AioRpcError as error:
            expected = {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION}
            assert error.code() in expected  # noqa: PT017 - or OK


class TestIdentity:
    async def test_whoami_is_the_anonymous_principal(self, client: Client) -> None:
        principal: Principal = await client.stub.Whoami(EMPTY)
        assert principal.id.id == "anonymous"

    async def test_an_incoming_client_id_is_not_trusted(self, client: Client) -> None:
        principal: Principal = await client.stub.Whoami(EMPTY, metadata=(("_clientid", "root"),))
        assert principal.id.id == "anonymous"

    async def test_the_server_version_is_1_3(self, client: Client) -> None:
        version = await client.stub.GetServerVersion(EMPTY)
        assert (version.major_version, version.minor_version) == (1, 3)


class TestTenant:
    UNKNOWN = (("tenantid", "acme"),)

    @pytest.mark.parametrize("name", UNARY)
    async def test_an_unknown_tenant_is_denied(self, client: Client, name: str) -> None:
        error = await refusal(empty_call(client, name, self.UNKNOWN))
        assert error.code == StatusCode.PERMISSION_DENIED
        assert "tenant" in error.details.lower()

    async def test_an_unknown_tenant_is_denied_on_a_poll_stream(self, client: Client) -> None:
        async with client.poller("ship", metadata=self.UNKNOWN) as poller:
            assert await poller.end() == StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize("tenant", ["Default", "DEFAULT", "default-2", "anonymous"])
    async def test_tenants_are_compared_exactly(self, client: Client, tenant: str) -> None:
        call = client.stub.Whoami(EMPTY, metadata=(("tenantid", tenant),))
        assert await refused_with(call) == StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize("tenant", ["default", " default", "default ", "  default  "])
    async def test_a_missing_tenant_is_the_tenant_default(self, client: Client, tenant: str) -> None:
        put = await client.put_task_def("ship")
        found = await client.stub.GetTaskDef(TaskDefId(name="ship"), metadata=(("tenantid", tenant),))
        assert found == put

    async def test_a_denied_write_stores_nothing(self, client: Client) -> None:
        await client.put_event_def("paid")
        request = PutExternalEventRequest(
            wf_run_id=WfRunId(id="r"), external_event_def_id=ExternalEventDefId(name="paid"), guid="g"
        )
        call = client.stub.PutExternalEvent(request, metadata=self.UNKNOWN)
        assert await refused_with(call) == StatusCode.PERMISSION_DENIED
        assert await is_missing(client.external_event("r", "paid", "g"))


class TestSize:
    @staticmethod
    async def post_of_size(client: Client, size: int, guid: str) -> Refusal | None:
        """Post an event whose request has exactly this many bytes."""
        request = PutExternalEventRequest(
            wf_run_id=WfRunId(id="r"), external_event_def_id=ExternalEventDefId(name="paid"), guid=guid
        )
        request.content.str = "x" * size
        request.content.str = "x" * (size - (request.ByteSize() - size))
        assert request.ByteSize() == size
        call = client.stub.PutExternalEvent(request)
        if size > REQUEST_LIMIT:
            return await refusal(call)
        await call
        return None

    @pytest.mark.parametrize("size", [REQUEST_LIMIT + 1, 2 * REQUEST_LIMIT, 5 * 2**20])
    async def test_an_event_that_is_too_large_is_refused_and_not_stored(self, client: Client, size: int) -> None:
        await client.put_event_def("paid")
        await client.register(waits_for("order", "paid"))
        await client.run("order", "r")
        error = await self.post_of_size(client, size, "g")
        assert error is not None
        assert error.code == StatusCode.RESOURCE_EXHAUSTED
        assert await is_missing(client.external_event("r", "paid", "g"))
        assert (await client.wf_run("r")).status == LHStatus.RUNNING

    async def test_a_large_event_below_the_limit_is_stored_and_read(self, client: Client) -> None:
        await client.put_event_def("paid")
        await self.post_of_size(client, 1_000_000, "g")
        assert len((await client.external_event("r", "paid", "g")).content.str) > 900_000

    async def test_a_run_that_is_too_large_is_refused_and_not_started(self, client: Client) -> None:
        def entrypoint(thread: WorkflowThread) -> None:
            thread.declare_str("text")

        await client.register(Workflow("order", entrypoint))
        call = client.run("order", "r", text="x" * (REQUEST_LIMIT + 1))
        assert await refused_with(call) == StatusCode.RESOURCE_EXHAUSTED
        assert await is_missing(client.wf_run("r"))
        await client.run("order", "r", text="x")

    async def test_a_task_def_that_is_too_large_is_refused_and_not_stored(self, client: Client) -> None:
        call = client.put_task_def("ship", {"x" * (REQUEST_LIMIT + 1): VariableType.STR})
        assert await refused_with(call) == StatusCode.RESOURCE_EXHAUSTED
        assert await is_missing(client.stub.GetTaskDef(TaskDefId(name="ship")))

    async def test_a_wf_spec_that_is_too_large_is_refused_and_not_stored(self, client: Client) -> None:
        request = only_exit("order").compile()
        request.thread_specs["entrypoint"].variable_defs.add().var_def.name = "x" * (REQUEST_LIMIT + 1)
        assert await refused_with(client.stub.PutWfSpec(request)) == StatusCode.RESOURCE_EXHAUSTED

    async def test_the_connection_works_on_after_a_refusal(self, client: Client) -> None:
        await client.put_event_def("paid")
        await self.post_of_size(client, 5 * 2**20, "g")
        await client.post("paid", run="r", guid="g")


class TestKeepAlive:
    async def test_slow_an_idle_poll_stream_survives_pings_and_still_delivers(self, client: Client) -> None:
        """Slow on purpose (6 s): a GOAWAY for too many pings shows by nothing but time."""
        await client.put_task_def("ship")
        await client.register(executes("order", "ship"))
        (host,) = (await client.register_worker("ship")).your_hosts
        options = [
            ("grpc.keepalive_time_ms", 1000),
            ("grpc.keepalive_timeout_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.insecure_channel(f"{host.host}:{host.port}", options=options) as channel:
            pinging = Client(LittleHorseStub(channel))  # type: ignore[no-untyped-call]
            async with pinging.poller("ship") as poller:
                await poller.ask()
                with anyio.move_on_after(6):
                    await poller.end()
                await client.run("order", "r")
                assert (await poller.take()).task_run_id.wf_run_id.id == "r"
