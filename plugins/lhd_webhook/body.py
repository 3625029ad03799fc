"""The body of a request: read within its limits, inflated within them, decoded as its media type says."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import zstandard
from aiohttp import web
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from lhd import plugin
from lhd.plugin import Undecodable
from lhd_webhook.refusal import Refused

_FORM_FIELDS_MAX = 1_000
_RATE_GRACE_S = 3.0
_WINDOW_BYTES_MAX = 8_388_608
"""What RFC 8878 recommends every decoder to allow, and no more."""
_ZSTD_PIECE_BYTES = 64
_MEMBERS_MAX = 100
"""Each one costs a copy of the rest."""


class InFlight:
    """How many bytes of bodies a source holds at once, from their first byte to the answer."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that takes room for so many bytes more, until the end; it raises Refused without room."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self._bytes + count > self._bytes_max:
                raise Refused(503, "overload", "overloaded; nothing was stored", 1)
            self._bytes += count
            taken += count

        try:
            yield take
        finally:
            self._bytes -= taken


async def read(
    request: web.BaseRequest, bytes_max: int, timeout_s: float, bytes_per_s_min: int, take: Callable[[int], None]
) -> bytes:
    """The bytes as they came: they are what was signed. Raises Refused for what is too large, too slow or broken.

    Within ``timeout_s``, and after the first seconds never slower on the whole than ``bytes_per_s_min``; ``take`` is
    told of each piece.
    """
    too_large = Refused(413, "too large", f"a body has at most {bytes_max} bytes")
    if (request.content_length or 0) > bytes_max:
        raise too_large
    body = bytearray()
    began = anyio.current_time()
    if request.headers.get("Expect", "").lower() == "100-continue" and request.writer is not None:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        with anyio.fail_at(began + timeout_s) as scope:
            while True:
                slow = began + _RATE_GRACE_S + len(body) / bytes_per_s_min
                scope.deadline = min(slow, began + timeout_s)
                chunk = await request.content.readany()
                if not chunk:
                    return bytes(body)
                body += chunk
                if len(body) > bytes_max:
                    raise too_large
                take(len(chunk))
    except TimeoutError:
        raise Refused(408, "too slow", "the body took too long") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Refused(400, "payload", "the body could not be read") from None


def inflate(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The content of a compressed body, never more than ``bytes_max`` of it in memory. Raises Refused."""
    try:
        content = _INFLATERS[encoding](body, bytes_max + 1)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise Refused(400, "encoding", f"the body is not {encoding}") from None
    if len(content) > bytes_max:
        raise Refused(413, "too large", f"a body has at most {bytes_max} bytes when it is inflated")
    return content


def _gunzip(body: bytes, most: int) -> bytes:
    content = bytearray()
    for _ in range(_MEMBERS_MAX):
        if not body:
            return bytes(content)
        member = zlib.decompressobj(wbits=31)
        content += member.decompress(body, most - len(content))
        if len(content) >= most:
            return bytes(content)
        if not member.eof:
            raise EOFError
        body = member.unused_data
    raise EOFError


def _unzstd(body: bytes, most: int) -> bytes:
    content = bytearray()
    for _ in range(_MEMBERS_MAX):
        if not body:
            return bytes(content)
        frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX).decompressobj()
        position = 0
        while not frame.eof:
            if position >= len(body):
                raise EOFError
            # Each piece can become at most some 20 blocks of 128 KiB.
            content += frame.decompress(body[position : position + _ZSTD_PIECE_BYTES])
            position += _ZSTD_PIECE_BYTES
            if len(content) >= most:
                return bytes(content[:most])
        body = frame.unused_data + body[position:]
    raise EOFError


_INFLATERS: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _gunzip, "zstd": _unzstd}


def decode(content_type: str, body: bytes, *, multipart: bool = False) -> Any:
    """The body as its media type says: JSON, a form, text or bytes. Raises Refused."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "" or media_type == "application/json" or media_type.endswith("+json"):
        return parse_json(body)
    if media_type == "application/octet-stream":
        return body
    if media_type == "application/x-www-form-urlencoded":
        return _form(_text(body))
    if media_type == "multipart/form-data" and multipart:
        return _multipart(content_type, body)
    if media_type.startswith("text/"):
        return _text(body)
    raise Refused(415, "media type", "send JSON, a form, text/* or application/octet-stream")


def parse_json(body: bytes) -> Any:
    """JSON (RFC 8259); of names that are repeated the last counts. Raises Refused."""
    try:
        return plugin.parse_json(body)
    except Undecodable as error:
        raise Refused(400, "json", f"the body is not JSON: line {error.line}, column {error.column}") from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "encoding", "the body is not UTF-8") from None


def _form(text: str) -> dict[str, Any]:
    try:
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS_MAX)
    except ValueError:
        raise Refused(400, "form", "the body is not a form of UTF-8 text") from None
    return _single(fields)


def _single(fields: Mapping[str, list[Any]]) -> dict[str, Any]:
    """A field that is repeated has a list."""
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _multipart(content_type: str, body: bytes) -> dict[str, Any]:
    """The parts of a form (RFC 7578): text for a field, and for a file its name, media type and bytes."""
    broken = Refused(400, "form", "the body is not multipart/form-data")
    try:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
    except UnicodeError:
        boundary = None
    if not boundary:
        raise broken
    parts: list[tuple[bytes | None, Any]] = []
    ended: list[bool] = []

    def on_field(field: Field) -> None:
        parts.append((field.field_name, _text(field.value or b"")))

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        content = file.file_object.read()
        name = _text(file.file_name or b"")
        parts.append((file.field_name, {"filename": name, "content_type": file.content_type, "content": content}))

    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "UPLOAD_ERROR_ON_BAD_CTE": True}
    try:
        parser = FormParser(
            "multipart/form-data", on_field, on_file, lambda: ended.append(True), boundary, config=config
        )
        with closing(parser):
            parser.write(body)
            parser.finalize()
    except FormParserError:
        raise broken from None
    if not ended or len(parts) > _FORM_FIELDS_MAX:
        raise broken
    fields: dict[str, list[Any]] = {}
    for name, value in parts:
        fields.setdefault(_text(name or b""), []).append(value)
    return _single(fields)
