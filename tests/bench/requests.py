"""What the load client sends: each request made before the clock runs, and each one unlike every other."""

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from typing import Any

from littlehorse.model import (
    ExternalEventDefId,
    PutExternalEventRequest,
    RunWfRequest,
    VariableValue,
    WfRunId,
)

from tests.e2e.process import SECRET, branch_payload

BODY_BYTES = 300


@dataclass(frozen=True, slots=True)
class Post:
    """A delivery as GitHub would send it."""

    body: bytes
    headers: dict[str, str]


def _signed(event: str, payload: dict[str, Any]) -> Post:
    bare = len(json.dumps({**payload, "description": ""}))
    body = json.dumps({**payload, "description": "x" * max(0, BODY_BYTES - bare)}).encode()
    return Post(
        body,
        {
            "User-Agent": "GitHub-Hookshot/bench",
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest(),
        },
    )


def to_run(name: str) -> Post:
    """A delivery that names its run."""
    return _signed("typed", {"run": name, "value": "yes"})


def to_key(name: str) -> Post:
    """A delivery that names its key, as the run of this name waits for it."""
    return _signed("create", branch_payload(name))


def put_event(name: str) -> bytes:
    """A PutExternalEvent of about the same size, for a run of its own."""
    return PutExternalEventRequest(
        wf_run_id=WfRunId(id=name),
        external_event_def_id=ExternalEventDefId(name="approved"),
        content=VariableValue(str="x" * (BODY_BYTES - 50)),
    ).SerializeToString()


def wake_by_put(name: str) -> bytes:
    """A PutExternalEvent that wakes the run of this name."""
    return PutExternalEventRequest(
        wf_run_id=WfRunId(id=name),
        external_event_def_id=ExternalEventDefId(name="branch-created"),
        content=VariableValue(json_obj=json.dumps({"branch": name, "by": "octocat"})),
    ).SerializeToString()


def start_run(name: str) -> bytes:
    """A RunWf whose run waits for :func:`to_key` or :func:`wake_by_put` of the same name."""
    return RunWfRequest(
        wf_spec_name="on-branch", id=name, variables={"branch": VariableValue(str=name)}
    ).SerializeToString()
