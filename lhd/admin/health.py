"""Health, readiness and metrics, for probes and scrapers; tells nothing that needs authentication."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest

from lhd.http import HttpListener
from lhd.metrics import REGISTRY


def add_health_routes(http: HttpListener, is_ready: Callable[[], bool]) -> None:
    """Hang /healthz, /readyz and /metrics on a listener."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        ready = is_ready()
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    http.add("GET", "/healthz", healthz)
    http.add("GET", "/readyz", readyz)
    http.add("GET", "/metrics", metrics)
