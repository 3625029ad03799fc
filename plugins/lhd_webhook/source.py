"""The webhook source: verifies a request over its raw bytes, commits what it says, and only then answers."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import anyio
import orjson
from aiohttp import web

from lhd.plugin import (
    Acknowledgement,
    Event,
    Overloaded,
    Receipt,
    Sent,
    Source,
    SourceContext,
    Transient,
)
from lhd_webhook import body, cloudevents
from lhd_webhook.config import WebhookConfig
from lhd_webhook.limits import Address, Rate, RateLimit, client_address, parse_network, peer_name, whole_seconds
from lhd_webhook.refusal import Refused
from lhd_webhook.schemes import Answer, Received, Verifier

__all__ = ["Webhook", "WebhookConfig"]

STATUS = {"accepted": 202, "filtered": 202, "duplicate": 200, "conflict": 409, "dead": 422}
"""What the sender gets for each verdict."""

_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-gitlab-token"})
_CREDENTIAL_PARAMETERS = frozenset({"access_token"})
"""Shown to no route and never kept, whatever the scheme."""
_SEND_TIMEOUT_S = 60.0


class Webhook(Source[WebhookConfig]):
    """Answers requests on one path."""

    kind = "webhook"
    api = 1
    verifier: Verifier

    def __init__(self, config: WebhookConfig) -> None:
        super().__init__(config)
        self.networks = [parse_network(text) for text in config.allow]
        self.in_flight = body.InFlight(config.bodies_bytes_max)
        self.rate = None if config.rate is None else RateLimit(config.rate)
        self.peer_rate = None if config.peer_rate is None else RateLimit(config.peer_rate)

    def prepare(self) -> None:
        """Read the secrets."""
        self.verifier = self.config.verify.verifier()

    async def run(self, context: SourceContext) -> None:
        """Answer requests until cancelled."""
        for method in ("POST", *self.verifier.extra_methods, *(("OPTIONS",) if self.config.cloudevents else ())):
            context.http_route(method, self.config.path, _Door(self, context).handle)
        await anyio.sleep_forever()

    def decode(self, raw: bytes, headers: Mapping[str, str | None], query: Mapping[str, str]) -> list[Event]:
        """See Source; ``raw`` has been verified and inflated. Raises Refused, which is a ValueError."""
        hidden = _CREDENTIAL_HEADERS | self.verifier.credential_headers
        shown = {name: value for name, value in headers.items() if name not in hidden and value is not None}
        asked = {name: value for name, value in query.items() if name not in _CREDENTIAL_PARAMETERS}
        if self.config.cloudevents:
            by_body = self.config.identity == "body"
            return [
                Event(
                    one.body,
                    id=None if by_body else one.identity,
                    headers={**shown, "content-type": one.content_type},
                    query=asked,
                    raw=one.raw,
                    fingerprint=one.canonical,
                )
                for one in cloudevents.parse(shown, raw, only_body=self.verifier.reads_body)
            ]
        media_type = self.verifier.media_type(shown.get("content-type", ""), raw)
        decoded = body.decode(media_type, raw, multipart=self.config.multipart)
        return [
            self._event(one, raw if one is decoded else None, shown, asked) for one in self.verifier.bodies(decoded)
        ]

    def _event(self, decoded: Any, raw: bytes | None, headers: Mapping[str, str], query: Mapping[str, str]) -> Event:
        by_body = self.config.identity == "body"
        stable = self.verifier.fingerprint(decoded)
        return Event(
            decoded,
            id=None if by_body else self.verifier.delivery_id(headers, decoded),
            headers=headers,
            query=query,
            raw=orjson.dumps(decoded, default=str) if raw is None else raw,
            fingerprint=None if stable is decoded else orjson.dumps(stable, option=orjson.OPT_SORT_KEYS, default=str),
        )

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> Sent:
        """See Source: a POST to the HTTP listener, signed as the sender would."""
        content_type = headers.get("content-type", "application/json")
        outgoing = self.verifier.imitate(raw, content_type, now_ms // 1000, str(uuid.uuid4()))
        url = f"http://{http}{self.config.path}" + (f"?{outgoing.query}" if outgoing.query else "")
        timeout = aiohttp.ClientTimeout(total=_SEND_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=outgoing.body, headers={**outgoing.headers, **headers}) as response,
        ):
            return Sent(f"{response.status} {await response.text()}", is_taken=response.status // 100 == 2)


class _Door:
    """What one source does with a request; everything that is cheap to refuse is refused before the body is read."""

    def __init__(self, source: Webhook, context: SourceContext) -> None:
        self._source = source
        self._config = source.config
        self._context = context

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        client = client_address(request.remote, forwarded, self._config.trusted_proxies)
        try:
            return await self._answer(request, client)
        except Refused as refused:
            self._context.refused(refused.reason, status=refused.status, remote="" if client is None else str(client))
            response = web.json_response({"reason": refused.text}, status=refused.status)
            if refused.retry_after_s is not None:
                response.headers["Retry-After"] = whole_seconds(refused.retry_after_s)
            if refused.status in (408, 413):
                # What the sender still sends must not be read as its next request.
                response.force_close()
            return response

    async def _answer(self, request: web.BaseRequest, client: Address | None) -> web.StreamResponse:
        self._admit(client)
        if request.method == "OPTIONS":
            return _cloudevents_handshake(request, self._config.rate)
        received = Received(
            _headers(request),
            query=request.rel_url.raw_query_string,
            certificate=request.transport.get_extra_info("peercert") if request.transport else None,
        )
        try:
            answer = await self._source.verifier.greet(request.method, received, self._now_s())
            if answer is not None:
                return self._handshake(answer)
            with self._source.in_flight.room() as take:
                return await self._receive(request, received, client, take)
        except Overloaded as error:
            raise Refused(503, "overload", "overloaded; nothing was stored", error.after_s) from error
        except Transient as error:
            raise Refused(503, "unavailable", "nothing was stored; try again", error.after_s) from error

    def _now_s(self) -> float:
        return self._context.clock_ms() / 1000

    def _admit(self, client: Address | None) -> None:
        networks = self._source.networks
        if networks and (client is None or not any(client in network for network in networks)):
            raise Refused(401, "address", "unauthorized")
        now_s = anyio.current_time()
        for limit, peer in ((self._source.peer_rate, peer_name(client)), (self._source.rate, "")):
            wait_s = None if limit is None else limit.wait_s(peer, now_s)
            if wait_s is not None:
                raise Refused(429, "rate", "too many requests", wait_s)

    def _handshake(self, answer: Answer) -> web.Response:
        if answer.status != 200:
            raise Refused(answer.status, "handshake", "unauthorized")
        headers = {"X-Content-Type-Options": "nosniff"}
        return web.Response(body=answer.body, content_type=answer.content_type, headers=headers)

    async def _receive(
        self, request: web.BaseRequest, received: Received, client: Address | None, take: Callable[[int], None]
    ) -> web.Response:
        if self._context.overloaded:
            raise Overloaded(self._context.drain_s)
        verifier = self._source.verifier
        encoding = received.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity" and encoding not in self._config.decompress:
            raise Refused(415, "encoding", f"the content encoding must be one of: {self._encodings()}")
        if verifier.proof_headers and not any(name in received.headers for name in verifier.proof_headers):
            raise Refused(401, "signature", "unauthorized")
        if not verifier.reads_body:
            await self._verify(received)
        config = self._config
        raw = await body.read(request, config.body_bytes_max, config.body_timeout_s, config.body_bytes_per_s_min, take)
        if verifier.reads_body:
            await self._verify(replace(received, body=raw))
        headers = dict(received.headers)
        if encoding != "identity":
            raw = body.inflate(raw, encoding, self._config.body_bytes_max)
            take(len(raw))
            del headers["content-encoding"]
        meta = {"remote": "" if client is None else str(client)}
        query = {name: request.query[name] for name in request.query}
        events = [replace(event, meta=meta) for event in self._source.decode(raw, headers, query)]
        if len(events) == 1 and (answer := await verifier.confirm(events[0].body)) is not None:
            return self._handshake(answer)
        return await self._commit(events)

    def _encodings(self) -> str:
        return ", ".join(("identity", *self._config.decompress))

    async def _verify(self, received: Received) -> None:
        matched = await self._source.verifier.verify(received, self._now_s())
        if matched is None:
            raise Refused(401, "signature", "unauthorized")
        self._context.count("secret_matches", secret=matched)

    async def _commit(self, events: Sequence[Event]) -> web.Response:
        receipts = await self._context.commit(events)
        answers: list[tuple[int, dict[str, Any]]] = [(0, {})] * len(receipts)

        async def acknowledge(number: int, receipt: Receipt) -> None:
            answers[number] = _receipt_answer(receipt, await self._context.acknowledge(receipt))

        if len(receipts) == 1:
            await acknowledge(0, receipts[0])
            (status, content), *_ = answers
            return web.json_response(content, status=status)
        async with anyio.create_task_group() as tasks:
            for number, receipt in enumerate(receipts):
                tasks.start_soon(acknowledge, number, receipt)
        status = max((status for status, _ in answers), key=_SEVERITY.index, default=202)
        return web.json_response({"events": [content for _, content in answers]}, status=status)


_SEVERITY = (200, 202, 409, 422)


def _receipt_answer(receipt: Receipt, acknowledgement: Acknowledgement) -> tuple[int, dict[str, Any]]:
    content: dict[str, Any] = {"verdict": receipt.verdict, "id": receipt.event_id, "reason": receipt.reason}
    if acknowledgement.level == "stored" and acknowledgement.is_reached:
        return STATUS[receipt.verdict], content
    content |= {"ack": acknowledgement.level, "run": acknowledgement.run}
    if acknowledgement.status is not None:
        content |= {"status": acknowledgement.status, "result": acknowledgement.result}
    return 200 if acknowledgement.is_reached else STATUS[receipt.verdict], content


def _headers(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _cloudevents_handshake(request: web.BaseRequest, rate: Rate | None) -> web.Response:
    """Say who may send, which is any origin, and how often a minute.

    https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md
    """
    response = web.Response(headers={"Allow": "POST"})
    if "WebHook-Request-Origin" in request.headers:
        response.headers["WebHook-Allowed-Origin"] = "*"
        response.headers["WebHook-Allowed-Rate"] = "*" if rate is None else str(max(1, int(rate.per_s * 60)))
    return response
