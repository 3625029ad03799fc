"""Bytes as values, for every kind of source: JSON, text and CloudEvents. No message tells anything of the bytes."""

import base64
import binascii
from typing import Any

import orjson

_CLOUDEVENT_NEEDS = ("id", "source", "specversion", "type")


class Undecodable(ValueError):
    """The bytes are not what they should be: why, and where, counted from 1."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason if line is None else f"{reason}: line {line}, column {column}")
        self.reason = reason
        self.line = line
        self.column = column


def parse_json(data: bytes) -> Any:
    """JSON (RFC 8259); of names that are repeated the last counts. Raises Undecodable."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # Of bytes that are no UTF-8 it tells the beginning of the whole as their place.
        line, column = _not_utf8(data) or (error.lineno, error.colno)
        raise Undecodable("it is not JSON", line, column) from None


def parse_text(data: bytes) -> str:
    """UTF-8. Raises Undecodable."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        line, column = _not_utf8(data) or (None, None)
        raise Undecodable("it is not UTF-8", line, column) from None


def _not_utf8(data: bytes) -> tuple[int, int] | None:
    """Line and column, in bytes, of the first byte that is not of UTF-8; None where there is none."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        return before.count(b"\n") + 1, error.start - before.rfind(b"\n")
    return None


def parse_cloudevent(event: Any, what: str = "it") -> dict[str, Any]:
    """The attributes of a CloudEvent with its data, which is bytes where they came as ``data_base64``.

    ``event`` is the event in its structured form, decoded. https://github.com/cloudevents/spec, version 1.0, JSON
    format. Raises Undecodable, which calls the event ``what``.
    """
    if not isinstance(event, dict):
        raise Undecodable(f"{what} is not a JSON object")
    for name in _CLOUDEVENT_NEEDS:
        if not isinstance(event.get(name), str) or not event[name]:
            raise Undecodable(f"{what} has no {name}")
    if event["specversion"] != "1.0":
        raise Undecodable(f"{what} is of another version of CloudEvents than 1.0")
    if "data_base64" not in event:
        return event
    try:
        data = base64.b64decode(event["data_base64"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Undecodable(f"the data_base64 of {what} is not base64") from None
    return {**{name: value for name, value in event.items() if name != "data_base64"}, "data": data}


def parse_media(media_type: str, data: bytes) -> Any:
    """JSON, text, or the bytes themselves, as a media type says; without one JSON. Raises Undecodable."""
    essence = media_type.partition(";")[0].strip().lower()
    if essence in ("", "application/json") or essence.endswith("+json"):
        return parse_json(data)
    return parse_text(data) if essence.startswith("text/") else data
