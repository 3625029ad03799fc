"""The gRPC server: listeners, tenancy, and the one place where a Rejection becomes a status."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message_factory import GetMessageClass
from littlehorse.model import PollTaskRequest
from littlehorse.model.service_pb2 import DESCRIPTOR

from lhd.api import commands, definitions, identity, object_searches, reads, searches, workers, workflow_events
from lhd.api.call import Api, Method
from lhd.errors import Code, Rejection, StoreError

STATUS = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}

METHODS: dict[str, Method] = {
    **commands.METHODS,
    **definitions.METHODS,
    **identity.METHODS,
    **object_searches.METHODS,
    **reads.METHODS,
    **searches.METHODS,
    **workers.METHODS,
    **workflow_events.METHODS,
}

_SERVICE = DESCRIPTOR.services_by_name["LittleHorse"]
_DEFAULT_TENANT = "default"
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


class GrpcServer:
    """Serves the 108 RPCs on a listener; those that are not built answer UNIMPLEMENTED."""

    def __init__(self, api: Api, tenants: frozenset[str]) -> None:
        self._api = api
        self._tenants = tenants
        self._log = structlog.get_logger("lhd.api")
        self._server = grpc.aio.server(options=_OPTIONS)
        handlers = {method.name: self._handler(method) for method in _SERVICE.methods}
        service = grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)
        self._server.add_generic_rpc_handlers((service,))

    async def start(self, listen: str) -> int:
        """Bind ``host:port`` in plaintext and serve; returns the port. Raises OSError when it cannot be bound."""
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}") from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, cut the open polls, and give running calls some time to end."""
        self._api.stopping.set()
        self._api.engine.thrown.wake_all()
        await self._server.stop(grace_s)

    def _handler(self, method: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        codec: dict[str, Any] = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }
        if method.name == "PollTask":
            return grpc.stream_stream_rpc_method_handler(self._poll_task, **codec)
        run = METHODS.get(method.name)
        handler = self._unary(method.name, run) if run else self._unimplemented(method.name)
        return grpc.unary_unary_rpc_method_handler(handler, **codec)

    def _unary(self, name: str, run: Method) -> Handler:
        async def handle(request: Any, context: Any) -> Any:
            try:
                return await run(self._api, self._tenant(context), request)
            except Rejection as rejection:
                refused = rejection
            except StoreError:
                self._log.exception("a read failed", rpc=name)
                refused = Rejection(Code.UNAVAILABLE, "the store cannot be read")
            except Exception:  # noqa: BLE001 - it is logged, and the client hears INTERNAL
                self._log.exception("an RPC failed because of a bug in lhd", rpc=name)
                refused = Rejection(Code.INTERNAL, f"{name} failed because of a bug in lhd")
            return await context.abort(STATUS[refused.code], refused.text[:_TEXT_MAX])

        return handle

    def _unimplemented(self, name: str) -> Handler:
        async def handle(request: Any, context: Any) -> Any:  # noqa: ARG001
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"this version of lhd does not implement {name}")

        return handle

    async def _poll_task(self, requests: AsyncIterator[PollTaskRequest], context: Any) -> None:
        try:
            tenant = self._tenant(context)
        except Rejection as rejection:
            await context.abort(STATUS[rejection.code], rejection.text)
        await workers.PollStream(self._api, tenant, context).serve(requests)

    def _tenant(self, context: Any) -> str:
        metadata = dict(context.invocation_metadata() or ())
        tenant = str(metadata.get("tenantid", _DEFAULT_TENANT)).strip() or _DEFAULT_TENANT
        if tenant not in self._tenants:
            raise Rejection(Code.PERMISSION_DENIED, f"the tenant '{tenant}' is not allowed here")
        return tenant
