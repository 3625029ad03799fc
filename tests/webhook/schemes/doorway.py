"""A real door for one scheme."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lhd.engine import Engine
from lhd_webhook.schemes import Received
from tests.webhook.door import Answer, Door, ensure_events, open_door

CONFIGURATION = """
[[event]]
name = "arrived"
correlated = {{}}

[sources.x]
kind = "webhook"
path = "/hooks/x"
verify = {verify}

[[sources.x.routes]]
event = "arrived"
key = "'k'"
"""


def _in_toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_in_toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_toml, value)) + "]"
    return json.dumps(value)


@asynccontextmanager
async def open_for(engine: Engine, folder: Path, verify: Mapping[str, Any]) -> AsyncIterator[Door]:
    """The door of a source that verifies like this and takes everything that is verified."""
    toml = CONFIGURATION.format(verify=_in_toml(verify))
    await ensure_events(engine, toml)
    async with open_door(engine, folder, toml) as door:
        yield door


async def deliver(door: Door, received: Received) -> Answer:
    """Send the request to it."""
    path = f"/hooks/x?{received.query}" if received.query else "/hooks/x"
    return await door.send("POST", path, received.body, dict(received.headers))
