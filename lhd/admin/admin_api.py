"""The admin API that the CLI speaks: HTTP and JSON on a unix socket that only the daemon's user can open."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web

from lhd.core.access import DEFAULT_TENANT
from lhd.core.commands import Command
from lhd.core.commands.deliveries import DropDeadLetter
from lhd.engine import Engine
from lhd.errors import Code, Rejection
from lhd.http import Handler, HttpListener, json_response
from lhd.intake import dead_letters
from lhd.intake.dead_letters import FoundLetter
from lhd.intake.explain import explain
from lhd.intake.intake import Intake
from lhd.intake.routes import Routes
from lhd.plugin import ConfigErrors, Route
from lhd.store import Reader


class Reset(Protocol):
    """Has a source begin anew; returns its epoch."""

    def __call__(self, part: str, *, new_epoch: bool) -> Awaitable[int]:
        """All of it, or a part. With ``new_epoch`` nothing that it reads has been seen before. Raises Rejection."""
        ...


def add_admin_routes(
    http: HttpListener,
    engine: Engine,
    reader: Reader,
    status: Callable[[], dict[str, Any]],
    intakes: Mapping[str, Intake],
    resets: Mapping[str, Reset],
) -> None:
    """Hang the admin API on a listener; ``intakes`` and ``resets`` are those of the sources by name."""
    api = _AdminApi(engine, reader, status, intakes, resets)
    for method, path, handler in (
        ("GET", "/status", api.status),
        ("GET", "/explain", api.explain),
        ("GET", "/dead", api.list_dead),
        ("GET", "/dead/show", api.show_dead),
        ("POST", "/dead/retry", api.retry_dead),
        ("POST", "/dead/drop", api.drop_dead),
        ("POST", "/try", api.rehearse),
        ("POST", "/source/reset", api.reset_source),
    ):
        http.add(method, path, _refusing(handler))


def _refusing(handler: Handler) -> Handler:
    """What is refused is 409 with its reason, for the CLI to show."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except Rejection as rejection:
            return json_response({"reason": rejection.text}, status=409)

    return answer


class _AdminApi:
    def __init__(
        self,
        engine: Engine,
        reader: Reader,
        status: Callable[[], dict[str, Any]],
        intakes: Mapping[str, Intake],
        resets: Mapping[str, Reset],
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._status = status
        self._intakes = intakes
        self._resets = resets

    async def status(self, _: web.BaseRequest) -> web.Response:
        return json_response(self._status())

    async def explain(self, request: web.BaseRequest) -> web.Response:
        return json_response(await explain(self._reader, _tenant(request), request.query.get("id", "")))

    async def list_dead(self, request: web.BaseRequest) -> web.Response:
        letters = await dead_letters.listed(self._reader, _tenant(request), request.query.get("source"))
        return json_response({"letters": letters})

    async def show_dead(self, request: web.BaseRequest) -> web.Response:
        found = await self._letter(request)
        return json_response(dead_letters.shown(found.source, found.letter))

    async def retry_dead(self, request: web.BaseRequest) -> web.Response:
        found = await self._letter(request)
        decision = await self._intake(found.source, _tenant(request)).retry(found)
        if decision is None:
            return json_response({"verdict": "returned", "id": found.letter.delivery_id, "reason": ""})
        return json_response({"verdict": decision.verdict, "id": decision.delivery_id, "reason": decision.reason})

    async def drop_dead(self, request: web.BaseRequest) -> web.Response:
        found = await self._letter(request)
        if not await self._engine.submit(Command(_tenant(request), DropDeadLetter(found.source, found.identity))):
            raise Rejection(Code.NOT_FOUND, f"there is no dead letter '{found.letter.delivery_id}' any more")
        return json_response({"id": found.letter.delivery_id})

    async def _letter(self, request: web.BaseRequest) -> FoundLetter:
        delivery_id = request.query.get("id", "")
        found = await dead_letters.find(self._reader, _tenant(request), delivery_id)
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"there is no dead letter '{delivery_id}'")
        return found

    def _intake(self, source: str, tenant: str) -> Intake:
        intake = self._intakes.get(source)
        if intake is None or intake.tenant != tenant:
            text = f"the source '{source}' is not in the daemon's configuration, so nobody knows how to map it"
            raise Rejection(Code.FAILED_PRECONDITION, text)
        return intake

    async def reset_source(self, request: web.BaseRequest) -> web.Response:
        name = request.query.get("source", "")
        if name not in self._resets:
            raise Rejection(Code.NOT_FOUND, f"the running daemon has no source '{name}'")
        part = request.query.get("part", "")
        epoch = await self._resets[name](part, new_epoch=request.query.get("epoch") == "next")
        return json_response({"source": name, "part": part, "epoch": epoch})

    async def rehearse(self, request: web.BaseRequest) -> web.Response:
        asked = orjson.loads(await request.content.read())
        intake = self._intakes.get(asked["source"])
        if intake is None:
            raise Rejection(Code.NOT_FOUND, f"the running daemon has no source '{asked['source']}'")
        try:
            routes = Routes(asked["source"], tuple(Route.model_validate(route) for route in asked["routes"]))
        except ConfigErrors as error:
            raise Rejection(Code.INVALID_ARGUMENT, str(error)) from None
        try:
            if "last" in asked:
                events = intake.last(asked["last"])
            else:
                events = intake.decode(base64.b64decode(asked["raw"]), asked["headers"], asked["query"])
        except ValueError as error:
            raise Rejection(Code.INVALID_ARGUMENT, f"the source would refuse this input: {error}") from None
        return json_response({"signals": await intake.rehearse(events, routes)})


def _tenant(request: web.BaseRequest) -> str:
    return request.query.get("tenant", DEFAULT_TENANT)
