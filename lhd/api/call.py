"""What an RPC has at hand, and the shape that every RPC has."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from littlehorse.model import LHHostInfo, Principal

from lhd.engine import Engine
from lhd.store import Reader
from lhd.tasks import WorkerGroups


@dataclass(slots=True)
class Api:
    """The parts of the daemon that RPCs use."""

    engine: Engine
    reader: Reader
    advertised: LHHostInfo
    workers: WorkerGroups = field(default_factory=WorkerGroups)
    stopping: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a call is made, and in which tenant."""

    tenant: str
    principal: Principal


CallerMethod = Callable[[Api, Caller, Any], Awaitable[Any]]
"""As :data:`Method`, for RPCs about the cluster."""
Method = Callable[[Api, str, Any], Awaitable[Any]]
"""A unary RPC: the api, the tenant and the request; returns the reply or raises Rejection."""
