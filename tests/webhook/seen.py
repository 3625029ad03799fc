"""Webhook sources whose one route keeps what it sees."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lhd.core import kinds
from lhd.engine import Engine
from tests.webhook.door import TENANT, Door, ensure_events, open_door

EVENT = """
[[event]]
name = "seen"
correlated = {}
"""

SECRET_ENV = "HOOK_SECRET"
ONE_SECRET = f'secrets = [{{ env = "{SECRET_ENV}" }}]'


def source(
    name: str, verify: str = 'scheme = "none"', *keys: str, see: str = "body", key: str = "'k'", when: str = "true"
) -> str:
    """A source at /hooks/NAME; what ``see`` gives is stored for ``key``."""
    return "\n".join(
        [
            f"\n[sources.{name}]",
            'kind = "webhook"',
            f'path = "/hooks/{name}"',
            f"verify = {{ {verify} }}",
            *keys,
            f"\n[[sources.{name}.routes]]",
            f"when = {json.dumps(when)}",
            'event = "seen"',
            f"key = {json.dumps(key)}",
            f"content = {json.dumps(see)}\n",
        ]
    )


@asynccontextmanager
async def open_sources(engine: Engine, folder: Path, *sources: str) -> AsyncIterator[Door]:
    """The door of these sources."""
    toml = EVENT + "".join(sources)
    await ensure_events(engine, toml)
    async with open_door(engine, folder, toml) as door:
        yield door


async def seen(door: Door, key: str = "k") -> Any:
    """What the route saw of the first delivery that it kept for this key."""
    reader = await door.engine.store.reader()
    try:
        event = await reader.get(kinds.CORRELATED_EVENT, (TENANT, "seen", key))
    finally:
        await reader.close()
    assert event is not None, f"nothing was seen for {key}"
    kind = event.content.WhichOneof("value")
    value: Any = getattr(event.content, kind) if kind else None
    return json.loads(value) if kind in ("json_obj", "json_arr") else value
