"""CloudEvents 1.0 over HTTP: structured, binary and batched.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md
Whatever the mode, an event is given its structured form, with its data decoded.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from lhd.plugin import Undecodable, parse_cloudevent
from lhd_webhook.body import decode, parse_json
from lhd_webhook.refusal import Refused

STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event: its structured form, and the bytes and media type from which it can be read again."""

    body: dict[str, Any]
    raw: bytes
    content_type: str

    @property
    def identity(self) -> tuple[str, str]:
        """What tells an event from every other: source and id together."""
        return self.body["source"], self.body["id"]

    @property
    def canonical(self) -> bytes:
        """The same bytes in every mode."""
        return orjson.dumps(self.body, option=orjson.OPT_SORT_KEYS, default=_base64)


def parse(headers: Mapping[str, str], raw: bytes, *, only_body: bool) -> list[CloudEvent]:
    """The events of a request. Raises Refused for one that is malformed, for all of them, and for anything else.

    ``only_body`` refuses binary mode, whose attributes are headers that no signature of a body covers.
    """
    content_type = headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == STRUCTURED:
        return [CloudEvent(_checked(parse_json(raw)), raw, content_type)]
    if media_type == _BATCH:
        events = parse_json(raw)
        if not isinstance(events, list):
            raise Refused(400, "cloudevents", "a batch of CloudEvents is a JSON array")
        return [CloudEvent(_checked(one, number), orjson.dumps(one), STRUCTURED) for number, one in enumerate(events)]
    if "ce-specversion" in headers and not only_body:
        return [CloudEvent(_binary(headers, content_type, raw), raw, content_type)]
    modes = "structured, or in a batch" if only_body else "structured, binary, or in a batch"
    raise Refused(415, "media type", f"send CloudEvents {modes}")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _binary(headers: Mapping[str, str], content_type: str, raw: bytes) -> dict[str, Any]:
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    if not all(value.isascii() for value in attributes.values()):
        raise Refused(400, "cloudevents", "attributes in headers are percent-encoded UTF-8")
    event: dict[str, Any] = {name: unquote(value.strip('"')) for name, value in attributes.items()}
    if content_type:
        event["datacontenttype"] = content_type
    if raw:
        event["data"] = decode(content_type, raw)
    return _checked(event)


def _checked(event: Any, number: int = 0) -> dict[str, Any]:
    try:
        return parse_cloudevent(event, f"event {number}")
    except Undecodable as error:
        raise Refused(400, "cloudevents", error.reason) from None
