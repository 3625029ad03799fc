"""Tenants, principals and RPCs by name, for the tests of who may call what and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import grpc
from google.protobuf import message_factory
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from littlehorse.model import (
    AwaitWorkflowEventRequest,
    Principal,
    PrincipalId,
    PutPrincipalRequest,
    PutTenantRequest,
    PutWorkflowEventDefRequest,
    ReturnType,
    ServerACL,
    ServerACLs,
    Tenant,
    VariableType,
    WfRunId,
    WorkflowEventDefId,
    service_pb2,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import PATIENCE_SECONDS, Client, eventually, now, type_of

METHODS: dict[str, Any] = dict(service_pb2.DESCRIPTOR.services_by_name["LittleHorse"].methods_by_name)

MAY_BE_UNIMPLEMENTED = {
    "MigrateWfSpec",
    "GetTaskDefMetricsWindow",
    "GetWfSpecMetricsWindow",
    "ListQuotaUsageMetrics",
}
"""What a server may refuse to everybody as UNIMPLEMENTED (api.md 12.2, 14 and 16)."""

ADMIN = ("ACL_ALL_RESOURCES", "ALL_ACTIONS")

Grant = tuple[str, str]
"""The names of an ACLResource and of an ACLAction."""


class _InTenant:
    """A stub that names the tenant in the metadata of each call."""

    def __init__(self, stub: Any, tenant: str) -> None:
        self._stub = stub
        self._metadata = (("tenantid", tenant),)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*request: Any, metadata: Any = None) -> Any:
            return getattr(self._stub, name)(*request, metadata=metadata or self._metadata)

        return call


def in_tenant(client: Client, tenant: str) -> Client:
    """The same connection, used in a tenant."""
    bound: Any = _InTenant(client.stub, tenant)
    return Client(bound)


async def put_tenant(client: Client, tenant: str) -> Tenant:
    """Create a tenant."""
    reply: Tenant = await client.stub.PutTenant(PutTenantRequest(id=tenant))
    return reply


def acls(*grants: Grant) -> ServerACLs:
    """One ACL for each grant."""
    return ServerACLs(acls=[ServerACL(resources=[resource], allowed_actions=[action]) for resource, action in grants])


async def put_principal(
    client: Client,
    principal: str,
    *grants: Grant,
    per_tenant: Mapping[str, Sequence[Grant]] | None = None,
    overwrite: bool = False,
) -> Principal:
    """Store a principal; ``grants`` are its global ACLs."""
    reply: Principal = await client.stub.PutPrincipal(
        PutPrincipalRequest(
            id=principal,
            global_acls=acls(*grants) if grants else None,
            per_tenant_acls={tenant: acls(*granted) for tenant, granted in (per_tenant or {}).items()},
            overwrite=overwrite,
        )
    )
    return reply


async def get_principal(client: Client, principal: str) -> Principal:
    """The stored principal."""
    reply: Principal = await client.stub.GetPrincipal(PrincipalId(id=principal))
    return reply


async def restrict(
    client: Client, *grants: Grant, per_tenant: Mapping[str, Sequence[Grant]] | None = None
) -> Principal:
    """Leave the callers of this server these grants only, for good: afterwards nobody acts as the admin ``root``."""
    await put_principal(client, "root", ADMIN)
    return await put_principal(client, "anonymous", *grants, per_tenant=per_tenant, overwrite=True)


def call_empty(client: Client, name: str) -> Awaitable[Any]:
    """A unary call with an empty request."""
    request = message_factory.GetMessageClass(METHODS[name].input_type)()
    call: Awaitable[Any] = getattr(client.stub, name)(request)
    return call


async def code_of(call: Awaitable[Any]) -> StatusCode:
    """How a call ends."""
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            await call
    except grpc.aio.AioRpcError as error:
        code: StatusCode = error.code()
        return code
    return StatusCode.OK


async def await_thrown(client: Client) -> AwaitWorkflowEventRequest:
    """A request for an event that was thrown already: AwaitWorkflowEvent answers it at once."""

    def entrypoint(thread: WorkflowThread) -> None:
        thread.throw_event("thrown", "content")

    await put_workflow_event_def(client, "thrown")
    await client.register(Workflow("throws", entrypoint))
    await client.run("throws", "thrower")
    return AwaitWorkflowEventRequest(wf_run_id=WfRunId(id="thrower"), event_def_ids=[WorkflowEventDefId(name="thrown")])


async def put_workflow_event_def(client: Client, name: str) -> None:
    """Define a WorkflowEvent with text in it."""
    await client.stub.PutWorkflowEventDef(
        PutWorkflowEventDefRequest(name=name, content_type=ReturnType(return_type=type_of(VariableType.STR)))
    )


async def next_millisecond(stamp: Timestamp) -> None:
    """Return when what is created from now on has a later time."""

    async def passed() -> bool:
        return now().ToMilliseconds() > stamp.ToMilliseconds()

    await eventually(passed)
