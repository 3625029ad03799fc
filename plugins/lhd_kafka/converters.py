"""What the bytes of a record mean. No message tells anything of the bytes."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lhd.plugin import ConfigError, Undecodable, parse_cloudevent, parse_json, parse_media, parse_text
from lhd_kafka.avro import Avro
from lhd_kafka.protobuf import Protobuf
from lhd_kafka.registry import Registry, unframe

Format = Literal["json", "text", "bytes", "cloudevents", "json-registry", "avro", "protobuf"]
Headers = Mapping[str, str | None]
Convert = Callable[[bytes, Headers], Any]
"""The value of a record, from its bytes and headers. Raises Undecodable, and SchemaMissing."""


def _cloudevent(data: bytes, headers: Headers) -> dict[str, Any]:
    """Structured, or binary with ``ce_`` headers.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
    """
    content_type = headers.get("content-type") or ""
    if content_type.lower().startswith("application/cloudevents"):
        if content_type.partition(";")[0].strip().lower() != "application/cloudevents+json":
            raise Undecodable("of structured CloudEvents only JSON can be read")
        return parse_cloudevent(parse_json(data))
    attributes = {name.removeprefix("ce_"): value for name, value in headers.items() if name.startswith("ce_")}
    if "specversion" not in attributes:
        raise Undecodable("it is no CloudEvent: there is neither a ce_specversion nor a structured content-type")
    if content_type:
        attributes["datacontenttype"] = content_type
    event = {name: value for name, value in attributes.items() if value is not None}
    return parse_cloudevent({**event, "data": parse_media(content_type, data)} if data else event)


class Converter:
    """The values of one source's records."""

    def __init__(
        self, kind: Format, registry: Registry | None, schema_file: str | None, message: str | None, *, framed: bool
    ) -> None:
        """For a format of this kind. Raises ConfigError where what it needs cannot be used."""
        self.fetch: Callable[[int], Awaitable[None]] | None = None
        schema = None if schema_file is None else _read(schema_file)
        if kind == "avro":
            avro = Avro(registry, schema)
            self.convert: Convert = lambda data, _: avro.convert(data)
            self.fetch = avro.fetch
        elif kind == "protobuf":
            assert schema is not None
            assert message is not None
            protobuf = Protobuf(schema, message, framed=framed)
            self.convert = lambda data, _: protobuf.convert(data)
        else:
            self.convert = _PLAIN[kind]


_PLAIN: dict[str, Convert] = {
    "json": lambda data, _: parse_json(data),
    "text": lambda data, _: parse_text(data),
    "bytes": lambda data, _: data,
    "cloudevents": _cloudevent,
    "json-registry": lambda data, _: parse_json(unframe(data)[1]),
}


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError("schema_file", f"{path} cannot be read: {error.strerror}") from error
