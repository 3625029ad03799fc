"""Identities: the name syntax, the printed form of a WfRunId and the time stamps that records carry."""

import re
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import ExternalEventId, NodeRunId, TaskRunId, WfRunId

from lhd.errors import Rejection, invalid_argument

GENERATIONS_MAX = 16
"""A WfRun and its ancestors; protobuf reads messages that are nested some six times deeper."""
_LH_NAME = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?")


def is_lh_name(text: str) -> bool:
    """Whether ``text`` is letters, digits and inner hyphens (api.md 3.1)."""
    return _LH_NAME.fullmatch(text) is not None


def require_lh_name(text: str, what: str) -> str:
    """Return ``text``, or refuse it as the name of a ``what``."""
    if not is_lh_name(text):
        raise invalid_argument(
            f"{what} name '{text}' is not valid: use letters, digits and inner hyphens, at least one character"
        )
    return text


def printed(wf_run_id: WfRunId) -> str:
    """The ancestors' ids and the run's own id joined by ``_``, root first (execution.md 1.1)."""
    if not wf_run_id.HasField("parent_wf_run_id"):
        return wf_run_id.id
    return f"{printed(wf_run_id.parent_wf_run_id)}_{wf_run_id.id}"


def parse_wf_run_id(text: str, is_part: Callable[[str], bool] = is_lh_name) -> WfRunId:
    """The WfRunId that prints as ``text``; raises ValueError when a part is not one, or there are too many."""
    parts = text.split("_")
    if len(parts) > GENERATIONS_MAX or not all(map(is_part, parts)):
        raise ValueError("not a WfRun id")
    result = WfRunId(id=parts[0])
    for part in parts[1:]:
        result = WfRunId(id=part, parent_wf_run_id=result)
    return result


def require_shallow(wf_run_id: WfRunId) -> None:
    """Raise ValueError for an id with more ancestors than a stored message can hold."""
    part, generations = wf_run_id, 1
    while part.HasField("parent_wf_run_id"):
        part, generations = part.parent_wf_run_id, generations + 1
        if generations > GENERATIONS_MAX:
            raise ValueError(f"a WfRun id has at most {GENERATIONS_MAX} parts")


def run_key(tenant: str, wf_run_id: WfRunId) -> tuple[str, str]:
    """The key under which everything of one WfRun is kept."""
    return tenant, printed(wf_run_id)


def require_wf_run_id(wf_run_id: WfRunId) -> WfRunId:
    """Return the id, or refuse it when a part of it could never name a WfRun."""
    try:
        require_shallow(wf_run_id)
    except ValueError as error:
        raise invalid_argument(str(error)) from error
    part: WfRunId | None = wf_run_id
    while part is not None:
        if not is_lh_name(part.id):
            raise _bad_wf_run_id(part.id)
        part = part.parent_wf_run_id if part.HasField("parent_wf_run_id") else None
    return wf_run_id


def _bad_wf_run_id(text: str) -> Rejection:
    return invalid_argument(f"'{text}' is not a valid WfRun id: use letters, digits and inner hyphens")


def node_run_key(tenant: str, node_run_id: NodeRunId) -> tuple[str, str, int, int]:
    """The key of a NodeRun."""
    return (*run_key(tenant, node_run_id.wf_run_id), node_run_id.thread_run_number, node_run_id.position)


def task_run_key(tenant: str, task_run_id: TaskRunId) -> tuple[str, str, str]:
    """The key of a TaskRun."""
    return (*run_key(tenant, task_run_id.wf_run_id), task_run_id.task_guid)


def external_event_key(tenant: str, event_id: ExternalEventId) -> tuple[str, str, str, str]:
    """The key of an ExternalEvent."""
    return (*run_key(tenant, event_id.wf_run_id), event_id.external_event_def_id.name, event_id.guid)


def timestamp(milliseconds: int) -> Timestamp:
    """A protobuf Timestamp of milliseconds since the epoch."""
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def milliseconds(stamp: Timestamp) -> int:
    """Milliseconds since the epoch of a protobuf Timestamp."""
    return stamp.seconds * 1000 + stamp.nanos // 1_000_000
