"""The admin API that the CLI speaks: HTTP and JSON on a unix socket that only the daemon's user can open."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from lhd.core.access import DEFAULT_TENANT
from lhd.http import HttpListener, json_response
from lhd.intake.explain import explain
from lhd.store import Reader


def add_admin_routes(http: HttpListener, reader: Reader, status: Callable[[], dict[str, Any]]) -> None:
    """Hang the admin API on a listener."""

    async def get_status(_: web.BaseRequest) -> web.Response:
        return json_response(status())

    async def get_explain(request: web.BaseRequest) -> web.Response:
        name = request.query.get("id", "")
        tenant = request.query.get("tenant", DEFAULT_TENANT)
        return json_response(await explain(reader, tenant, name))

    http.add("GET", "/status", get_status)
    http.add("GET", "/explain", get_explain)
