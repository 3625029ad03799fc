"""Health, readiness and metrics, for probes and scrapers; tells nothing that needs authentication."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from lhd.http import HttpListener, json_response
from lhd.metrics import REGISTRY


def add_health_routes(http: HttpListener, is_ready: Callable[[], bool]) -> None:
    """Hang /healthz, /readyz and /metrics on a listener."""

    async def healthz(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.BaseRequest) -> web.Response:
        ready = is_ready()
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def metrics(_: web.BaseRequest) -> web.Response:
        return _metrics()

    http.add("GET", "/healthz", healthz)
    http.add("GET", "/readyz", readyz)
    http.add("GET", "/metrics", metrics)


def add_compat_health_routes(
    http: HttpListener, is_ready: Callable[[], bool], status: Callable[[], dict[str, Any]]
) -> None:
    """Hang what health checks of the original server ask for on a listener (api.md 1)."""

    def answer(good: bool) -> web.Response:
        return web.Response(text="OK!" if good else "not ready", status=200 if good else 503)

    async def liveness(_: web.BaseRequest) -> web.Response:
        return answer(good=True)

    async def readiness(_: web.BaseRequest) -> web.Response:
        return answer(good=is_ready())

    async def get_status(_: web.BaseRequest) -> web.Response:
        return json_response(status())

    async def disk_usage(_: web.BaseRequest) -> web.Response:
        directory = Path(status()["data_dir"])
        used = sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
        return json_response({"diskUsageBytes": used})

    async def standby_status(_: web.BaseRequest) -> web.Response:
        return json_response({})

    async def metrics(_: web.BaseRequest) -> web.Response:
        return _metrics()

    http.add("GET", "/liveness", liveness)
    http.add("GET", "/readiness", readiness)
    http.add("GET", "/status", get_status)
    http.add("GET", "/diskUsage", disk_usage)
    http.add("GET", "/standby-status", standby_status)
    http.add("GET", "/metrics", metrics)


def _metrics() -> web.Response:
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )
