"""The RPCs that change something: each is handed to the engine as it is."""

from typing import Any

from google.protobuf.message import Message

from lhd.api.call import Api, Method
from lhd.core.commands import Command
from lhd.errors import Code, Rejection


async def _submit(api: Api, tenant: str, request: Message) -> Any:
    return await api.engine.submit(Command(tenant, request))


async def _submit_within_limit(api: Api, tenant: str, request: Message) -> Any:
    limit = api.engine.settings.record_bytes_max
    if request.ByteSize() > limit:
        text = f"the request has {request.ByteSize()} bytes, a stored record at most {limit}"
        raise Rejection(Code.RESOURCE_EXHAUSTED, text)
    return await _submit(api, tenant, request)


METHODS: dict[str, Method] = {
    "PutTaskDef": _submit_within_limit,
    "PutExternalEventDef": _submit_within_limit,
    "PutWfSpec": _submit_within_limit,
    "RunWf": _submit_within_limit,
    "DeleteWfRun": _submit,
    "PutExternalEvent": _submit_within_limit,
    "PutCorrelatedEvent": _submit_within_limit,
    "ReportTask": _submit,
}
