"""The gRPC server of one listener: who calls, in which tenant, whether he may; and Rejections made statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from littlehorse.model import PollTaskRequest
from littlehorse.model.service_pb2 import DESCRIPTOR

from lhd.api import (
    cluster,
    commands,
    definitions,
    jobs,
    metric_windows,
    migration_plans,
    object_searches,
    reads,
    searches,
    workers,
    workflow_events,
)
from lhd.api.access import is_write, require_access
from lhd.api.call import Api, Caller, CallerMethod, Method
from lhd.core.access import ANONYMOUS, DEFAULT_TENANT
from lhd.errors import Code, Rejection, StoreError

STATUS = {code: grpc.StatusCode[code.name] for code in Code}

METHODS: dict[str, Method] = {
    **commands.METHODS,
    **definitions.METHODS,
    **jobs.METHODS,
    **metric_windows.METHODS,
    **migration_plans.METHODS,
    **object_searches.METHODS,
    **reads.METHODS,
    **searches.METHODS,
    **workers.METHODS,
    **workflow_events.METHODS,
}
CALLER_METHODS: dict[str, CallerMethod] = cluster.METHODS

_SERVICE = DESCRIPTOR.services_by_name["LittleHorse"]
_TEXT_MAX = 2_000
"""Characters of a status text: it travels as a header, and clients limit those."""
# The SDKs ping idle connections; grpc's own policy would cut them off as too many pings (api.md 1).
_OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)

Handler = Callable[[Any, Any], Awaitable[Any]]
Authenticate = Callable[[Any], Awaitable[str]]
"""From a call's context to the id of the caller's principal; raises UNAUTHENTICATED."""


async def nobody_asks(_: Any) -> str:
    """The authentication of a listener without any: every caller is anonymous."""
    return ANONYMOUS


class Throttled(Rejection):
    """A quota is used up; ``delay_ms`` is how long the caller is to wait."""

    def __init__(self, delay_ms: float) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, f"a quota is used up; try again in {delay_ms:.0f} ms")
        self.delay_ms = delay_ms


class GrpcServer:
    """Serves the 108 RPCs on a listener; those for which no behaviour is known answer UNIMPLEMENTED."""

    def __init__(self, api: Api, authenticate: Authenticate = nobody_asks) -> None:
        self._api = api
        self._authenticate = authenticate
        self._log = structlog.get_logger("lhd.api")
        self._server = grpc.aio.server(options=_OPTIONS)
        handlers = {method.name: self._handler(method) for method in _SERVICE.methods}
        service = grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)
        self._server.add_generic_rpc_handlers((service,))

    async def start(self, listen: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind ``host:port``, in plaintext without credentials, and serve; returns the port.

        Raises OSError when it cannot be bound.
        """
        try:
            if credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}") from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, cut the open polls, and give running calls some time to end."""
        self._api.stopping.set()
        self._api.engine.committed.wake_all()
        await self._server.stop(grace_s)

    def _handler(self, method: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        codec: dict[str, Any] = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }
        if method.name == "PollTask":
            return grpc.stream_stream_rpc_method_handler(self._poll_task, **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(method.name), **codec)

    def _unary(self, name: str) -> Handler:
        run = CALLER_METHODS.get(name) or _for_tenant(METHODS.get(name) or _unimplemented(name))

        async def handle(request: Any, context: Any) -> Any:
            try:
                return await run(self._api, await self._admit(name, context), request)
            except Rejection as rejection:
                refused = rejection
            except StoreError:
                self._log.exception("a read failed", rpc=name)
                refused = Rejection(Code.UNAVAILABLE, "the store cannot be read")
            except Exception:  # noqa: BLE001 - it is logged, and the client hears INTERNAL
                self._log.exception("an RPC failed because of a bug in lhd", rpc=name)
                refused = Rejection(Code.INTERNAL, f"{name} failed because of a bug in lhd")
            return await _abort(context, refused)

        return handle

    async def _poll_task(self, requests: AsyncIterator[PollTaskRequest], context: Any) -> None:
        try:
            caller = await self._admit("PollTask", context)
        except Rejection as rejection:
            await _abort(context, rejection)
            return
        await workers.PollStream(self._api, caller.tenant, context).serve(requests)

    async def _admit(self, rpc: str, context: Any) -> Caller:
        """Who calls, if the call may be made at all."""
        principal_id = await self._authenticate(context)
        directory = self._api.engine.directory
        tenant = _tenant_of(context)
        if not directory.has_tenant(tenant):
            raise Rejection(Code.PERMISSION_DENIED, f"the tenant '{tenant}' is not allowed here")
        principal = directory.principal(principal_id)
        require_access(rpc, principal, tenant)
        if is_write(rpc):
            delay_ms = self._api.engine.quotas.delay_ms(tenant, principal.id.id)
            if delay_ms is not None:
                raise Throttled(delay_ms)
        return Caller(tenant, principal)


def _tenant_of(context: Any) -> str:
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get("tenantid", "")).strip() or DEFAULT_TENANT


def _for_tenant(method: Method) -> CallerMethod:
    async def run(api: Api, caller: Caller, request: Any) -> Any:
        return await method(api, caller.tenant, request)

    return run


def _unimplemented(name: str) -> Method:
    async def run(_: Api, __: str, ___: Any) -> Any:
        raise Rejection(Code.UNIMPLEMENTED, f"lhd does not implement {name}")

    return run


async def _abort(context: Any, refused: Rejection) -> Any:
    await context.abort(STATUS[refused.code], refused.text[:_TEXT_MAX], trailing_metadata=_details(refused))


def _details(refused: Rejection) -> Sequence[tuple[str, bytes]]:
    """The SDKs wait for as long as a throttled call's RetryInfo says (api.md 1, 13.4)."""
    if not isinstance(refused, Throttled):
        return ()
    delay = Duration()
    delay.FromMilliseconds(round(refused.delay_ms))
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=refused.text)
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    return (("grpc-status-details-bin", status.SerializeToString()),)
