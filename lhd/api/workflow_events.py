"""AwaitWorkflowEvent: a WorkflowEvent that was thrown, or the next one (api.md 11)."""

from typing import Any

import anyio
from littlehorse.model import AwaitWorkflowEventRequest, WorkflowEvent

from lhd.api.call import Api, Method
from lhd.api.masking import masked
from lhd.core import kinds
from lhd.core.ids import run_key
from lhd.errors import Code, Rejection

_WAIT_MAX_S = 60.0


async def await_workflow_event(api: Api, tenant: str, request: AwaitWorkflowEventRequest) -> Any:
    """AwaitWorkflowEvent: the earliest that is wanted and not to be ignored; the WfRun need not exist yet."""
    run = run_key(tenant, request.wf_run_id)
    with api.engine.committed.waiting((kinds.WORKFLOW_EVENT, run)) as waiting, anyio.move_on_after(_WAIT_MAX_S):
        while (event := await _earliest(api, run, request)) is None:
            if api.stopping.is_set():
                raise Rejection(Code.UNAVAILABLE, "lhd is stopping")
            await waiting.wait()
        return masked(event)
    raise Rejection(Code.DEADLINE_EXCEEDED, f"no such WorkflowEvent was thrown within {_WAIT_MAX_S:g} s")


async def _earliest(api: Api, run: tuple[str, str], request: AwaitWorkflowEventRequest) -> WorkflowEvent | None:
    wanted = {def_id.name for def_id in request.event_def_ids}
    ignored = {(event_id.workflow_event_def_id.name, event_id.number) for event_id in request.workflow_events_to_ignore}
    query = "SELECT event_def, number, body FROM workflow_event WHERE tenant = ? AND run = ? ORDER BY arrival"
    for event_def, number, body in await api.reader.fetch(query, run):
        if (not wanted or event_def in wanted) and (event_def, number) not in ignored:
            return WorkflowEvent.FromString(body)
    return None


METHODS: dict[str, Method] = {"AwaitWorkflowEvent": await_workflow_event}
