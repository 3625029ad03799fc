"""The RPCs that change something: each is handed to the engine as it is."""

from typing import Any

from google.protobuf.message import Message

from lhd.api.call import Api, Method
from lhd.api.masking import masked
from lhd.core.commands import Command
from lhd.errors import Code, Rejection


async def _submit(api: Api, tenant: str, request: Message) -> Any:
    return masked(await api.engine.submit(Command(tenant, request)))


async def _submit_within_limit(api: Api, tenant: str, request: Message) -> Any:
    limit = api.engine.settings.record_bytes_max
    if request.ByteSize() > limit:
        text = f"the request has {request.ByteSize()} bytes, a stored record at most {limit}"
        raise Rejection(Code.RESOURCE_EXHAUSTED, text)
    return await _submit(api, tenant, request)


_STORING = (
    "PutTaskDef",
    "PutExternalEventDef",
    "PutWorkflowEventDef",
    "PutUserTaskDef",
    "PutStructDef",
    "PutWfSpec",
    "RunWf",
    "ScheduleWf",
    "CreateBulkJob",
    "PutWorkflowMigrationPlan",
    "ApplyWorkflowMigrationPlan",
    "PutExternalEvent",
    "PutCorrelatedEvent",
    "PutCheckpoint",
    "AssignUserTaskRun",
    "CompleteUserTaskRun",
    "SaveUserTaskRunProgress",
    "PutUserTaskRunComment",
    "EditUserTaskRunComment",
)
_OTHERS = (
    # Looks only, but at what the engine knows.
    "ValidateStructDefEvolution",
    "DeleteExternalEventDef",
    "DeleteWorkflowEventDef",
    "DeleteUserTaskDef",
    "DeleteStructDef",
    "DeleteCorrelatedEvent",
    "DeleteWfRun",
    "DeleteWfSpec",
    "DeleteScheduledWfRun",
    "DeleteBulkJob",
    "DeleteWorkflowMigrationPlan",
    "StopWfRun",
    "ResumeWfRun",
    "RescueThreadRun",
    "CancelUserTaskRun",
    "DeleteUserTaskRunComment",
    # A report that is too large must not leave its attempt running: the engine stores another in its place.
    "ReportTask",
)
METHODS: dict[str, Method] = dict.fromkeys(_STORING, _submit_within_limit) | dict.fromkeys(_OTHERS, _submit)
