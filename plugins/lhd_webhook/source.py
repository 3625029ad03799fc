"""The webhook source and its table."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import anyio
import orjson
from aiohttp import web
from pydantic import Field, field_validator

from lhd.plugin import (
    ConfigError,
    ConfigErrors,
    Event,
    Overloaded,
    Receipt,
    Source,
    SourceConfig,
    SourceContext,
    Transient,
)
from lhd_webhook.verify import NoScheme, Verify, is_genuine

_FORM_FIELDS_MAX = 1_000
STATUS = {"accepted": 202, "filtered": 202, "duplicate": 200, "conflict": 409, "dead": 422}
"""What the sender gets for each verdict."""


class WebhookConfig(SourceConfig):
    """``kind = "webhook"``."""

    path: str = Field(description="The path on the HTTP listener.")
    verify: Verify = Field(description='How the sender is verified; { scheme = "none" } must be asked for.')
    body_bytes_max: int = Field(1_048_576, ge=1, description="Larger bodies are answered 413.")
    body_timeout_s: float = Field(10, gt=0, strict=False, description="A body that takes longer is answered 408.")

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError("a path begins with '/' and has no query")
        return path


class Refused(Exception):
    """The door refuses the request with this status; ``reason`` goes to the counters, ``text`` to the sender."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.text = text


class Webhook(Source[WebhookConfig]):
    """Answers POST requests on one path."""

    kind = "webhook"
    api = 1

    def __init__(self, config: WebhookConfig) -> None:
        super().__init__(config)
        self._keys: list[bytes] = []

    def prepare(self) -> None:
        """Read the secrets."""
        scheme = self.config.verify
        if isinstance(scheme, NoScheme):
            return
        errors = []
        for number, secret in enumerate(scheme.secrets):
            try:
                self._keys.append(scheme.key(secret.read()))
            except ConfigError as error:
                errors.append(ConfigError(f"verify.secrets[{number}]", error.text, error.fix))
        if errors:
            raise ConfigErrors(errors)

    async def run(self, context: SourceContext) -> None:
        """Answer requests until cancelled."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._receive(context, request)
            except Refused as refused:
                context.refused(refused.reason, status=refused.status, remote=request.remote or "")
                response = web.json_response({"reason": refused.text}, status=refused.status)
                if refused.status in (408, 413):
                    # What the sender still sends must not be read as its next request.
                    response.force_close()
                return response

        context.http_route("POST", self.config.path, handle)
        await anyio.sleep_forever()

    async def _receive(self, context: SourceContext, request: web.Request) -> web.Response:
        if context.overloaded:
            return _overloaded(context, request, 1.0)
        body = await self._body(request)
        headers = _headers(request)
        if not is_genuine(self.config.verify, self._keys, headers, body, context.clock_ms() // 1000):
            raise Refused(401, "signature", "unauthorized")
        decoded = _decode(headers.get("content-type", ""), body)
        event = Event(
            decoded,
            id=self.config.verify.delivery_id(headers, decoded),
            headers=headers,
            query={name: request.query[name] for name in request.query},
            meta={"remote": request.remote or ""},
            raw=body,
        )
        try:
            (receipt,) = await context.commit([event])
        except (Overloaded, Transient) as error:
            return _overloaded(context, request, error.after_s)
        return web.json_response(_receipt_json(receipt), status=STATUS[receipt.verdict])

    async def _body(self, request: web.Request) -> bytes:
        """The bytes as they came: they are what was signed."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(415, "encoding", "send the body without Content-Encoding")
        limit = self.config.body_bytes_max
        too_large = Refused(413, "too large", f"a body has at most {limit} bytes")
        if (request.content_length or 0) > limit:
            raise too_large
        body = bytearray()
        try:
            with anyio.fail_after(self.config.body_timeout_s):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise Refused(408, "too slow", "the body took too long") from None
        except web.RequestPayloadError:
            raise Refused(400, "payload", "the body could not be read") from None
        return bytes(body)


def _headers(request: web.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _decode(content_type: str, body: bytes) -> Any:
    """The body as its media type says: JSON, a form, text or bytes. Raises Refused."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in ("", "application/octet-stream"):
        return _json(body) if media_type == "" else body
    if media_type == "application/json" or media_type.endswith("+json"):
        return _json(body)
    if media_type == "application/x-www-form-urlencoded":
        return _form(_text(body))
    if media_type.startswith("text/"):
        return _text(body)
    raise Refused(415, "media type", "send JSON, a form, text/* or application/octet-stream")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "encoding", "the body is not UTF-8") from None


def _form(text: str) -> dict[str, str | list[str]]:
    """The fields of a form; one that is repeated has a list."""
    try:
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS_MAX)
    except ValueError:
        raise Refused(400, "form", "the body is not a form of UTF-8 text") from None
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "json", f"the body is not JSON: line {error.lineno}, column {error.colno}") from None


def _receipt_json(receipt: Receipt) -> Mapping[str, str]:
    return {"verdict": receipt.verdict, "id": receipt.event_id, "reason": receipt.reason}


def _overloaded(context: SourceContext, request: web.Request, after_s: float) -> web.Response:
    context.refused("overload", status=503, remote=request.remote or "")
    response = web.json_response({"reason": "overloaded; nothing was stored"}, status=503)
    response.headers["Retry-After"] = str(max(1, round(after_s)))
    return response
