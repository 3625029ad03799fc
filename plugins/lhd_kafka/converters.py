"""What the bytes of a record mean. No message tells anything of the bytes."""

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import anyio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message
from pydantic import Field, model_validator

from lhd.plugin import (
    ConfigError,
    Model,
    Secret,
    Transient,
    Undecodable,
    parse_cloudevent,
    parse_json,
    parse_media,
    parse_text,
)
from lhd_kafka.security import is_loopback

Format = Literal["json", "text", "bytes", "cloudevents", "json-registry", "avro", "protobuf"]
Headers = Mapping[str, str | None]
Convert = Callable[[bytes, Headers], Any]
"""The value of a record, from its bytes and headers. Raises Undecodable, and SchemaMissing."""

_MAGIC = 0
_PREFIX_BYTES = 5
_REGISTRY_TIMEOUT_S = 10.0
_TRY_AGAIN_S = 5.0
_UNKNOWN_S = 60.0


class SchemaMissing(Exception):
    """The schema of this id has to be fetched first."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema {schema_id}")
        self.schema_id = schema_id


class Registry(Model):
    """A schema registry with Confluent's API: ``GET /schemas/ids/ID``.

    https://docs.confluent.io/platform/current/schema-registry/develop/api.html
    """

    url: str = Field(pattern=r"^https?://[^@]+$", description="Its address, without a user in it.")
    username: str | None = Field(None, description="The user, of HTTP Basic.")
    password: Secret | None = Field(None, description="The password; needs https, except on loopback.")

    @model_validator(mode="after")
    def _private(self) -> "Registry":
        parts = urlsplit(self.url)
        if self.password is not None and parts.scheme != "https" and not is_loopback(f"{parts.hostname}:0"):
            raise ValueError("the password would be sent in the clear; use https")
        return self


def unframe(data: bytes) -> tuple[int, bytes]:
    """The schema id and what follows it. Raises Undecodable.

    https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
    """
    if len(data) < _PREFIX_BYTES or data[0] != _MAGIC:
        raise Undecodable("it has no schema id before it, as the serialisers of a registry write")
    return int.from_bytes(data[1:_PREFIX_BYTES], "big"), data[_PREFIX_BYTES:]


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


class Avro:
    """Avro, with the schema that the registry or a file gives. Needs ``lhd[avro]``."""

    def __init__(self, registry: Registry | None, schema_file: str | None) -> None:
        try:
            self._fastavro = import_module("fastavro")
        except ImportError as error:
            raise ConfigError("format", "avro needs the package fastavro", "pip install 'lhd[avro]'") from error
        self._registry = registry
        self._password = None if registry is None or registry.password is None else registry.password.read().decode()
        self._schemas: dict[int, Any] = {}
        self._unknown: dict[int, float] = {}
        """Until when the registry is not asked again for an id that it did not know."""
        self._schema: Any = None
        if schema_file is not None:
            try:
                self._schema = self._parse(parse_json(_read(schema_file)))
            except ValueError as error:
                raise ConfigError("schema_file", f"{schema_file} is no Avro schema: {error}") from error

    def _parse(self, schema: Any) -> Any:
        try:
            parsed = self._fastavro.parse_schema(schema)
        except Exception as error:
            # Whatever is wrong with a schema, fastavro has an exception for it without a common base.
            raise ValueError(type(error).__name__) from error
        if _is_recursive(parsed, frozenset()):
            # Values of any depth would end the process: fastavro reads them by recursion in C.
            raise ValueError("it is recursive")
        return parsed

    def convert(self, data: bytes, headers: Headers) -> Any:  # noqa: ARG002
        """See Convert."""
        schema = self._schema
        if schema is None:
            schema_id, data = unframe(data)
            if schema_id not in self._schemas:
                raise SchemaMissing(schema_id)
            schema = self._schemas[schema_id]
        stream = BytesIO(data)
        try:
            value = _plain(self._fastavro.schemaless_reader(stream, schema, None))
        except Exception as error:  # noqa: BLE001
            # fastavro lets through whatever its parts raise for bytes that do not fit.
            raise Undecodable(f"it does not fit its Avro schema ({type(error).__name__})") from None
        if stream.tell() != len(data):
            raise Undecodable("it has more bytes than its Avro schema accounts for")
        return value

    async def fetch(self, schema_id: int) -> None:
        """Ask the registry for a schema. Raises Transient, and Undecodable where it knows no such schema."""
        if anyio.current_time() < self._unknown.get(schema_id, 0):
            raise Undecodable(f"the registry knows no schema {schema_id}")
        answer = await self._ask(schema_id)
        if answer is None:
            self._unknown[schema_id] = anyio.current_time() + _UNKNOWN_S
            raise Undecodable(f"the registry knows no schema {schema_id}")
        try:
            self._schemas[schema_id] = self._parse(parse_json(answer["schema"].encode()))
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise Undecodable(f"schema {schema_id} of the registry is no Avro schema that can be read") from error

    async def _ask(self, schema_id: int) -> Any:
        """What the registry answers; None where it knows no such schema. Raises Transient."""
        assert self._registry is not None
        user = self._registry.username
        auth = None if user is None else aiohttp.BasicAuth(user, self._password or "")
        url = f"{self._registry.url.rstrip('/')}/schemas/ids/{schema_id}"
        timeout = aiohttp.ClientTimeout(total=_REGISTRY_TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, auth=auth) as session, session.get(url) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    text = f"the schema registry answered {response.status} for schema {schema_id}"
                    raise Transient(text, _TRY_AGAIN_S)
                return parse_json(await response.read())
        except Undecodable:
            raise Transient("the schema registry answered what is not JSON", _TRY_AGAIN_S) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"the schema registry {self._registry.url} does not answer", _TRY_AGAIN_S) from error


def _is_recursive(schema: Any, inside: frozenset[str]) -> bool:
    """Whether a parsed schema names a type inside of itself."""
    if isinstance(schema, str):
        return schema in inside
    if isinstance(schema, list):
        return any(_is_recursive(one, inside) for one in schema)
    inner = [field["type"] for field in schema.get("fields", ())]
    inner += [schema[key] for key in ("items", "values", "type") if isinstance(schema.get(key), str | list | dict)]
    within = inside | {schema["name"]} if "name" in schema else inside
    return any(_is_recursive(one, within) for one in inner)


class Protobuf:
    """Protobuf, with a message of a FileDescriptorSet; a schema id and message indexes before it are skipped."""

    def __init__(self, schema_file: str, message: str, *, framed: bool) -> None:
        files = descriptor_pb2.FileDescriptorSet()
        pool = descriptor_pool.DescriptorPool()
        try:
            files.ParseFromString(_read(schema_file))
            for file in files.file:
                pool.Add(file)
            descriptor = pool.FindMessageTypeByName(message)
        except (DecodeError, TypeError) as error:
            text = f"{schema_file} is no FileDescriptorSet: {type(error).__name__}"
            raise ConfigError("schema_file", text, "write it with protoc --include_imports -o FILE") from error
        except KeyError as error:
            raise ConfigError("message", f"{schema_file} has no message '{message}'") from error
        self._class: type[Message] = message_factory.GetMessageClass(descriptor)
        self._pool = pool
        self._framed = framed

    def convert(self, data: bytes, headers: Headers) -> Any:  # noqa: ARG002
        """See Convert; names of fields are as in the .proto."""
        if self._framed:
            data = _skip_indexes(unframe(data)[1])
        try:
            message = self._class.FromString(data)
        except DecodeError:
            raise Undecodable(f"it is no {self._class.DESCRIPTOR.full_name}") from None
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self._pool)


def _skip_indexes(data: bytes) -> bytes:
    """What follows the message indexes: a zigzag varint counts them, 0 stands for the one index 0."""
    count, data = _zigzag(data)
    for _ in range(count):
        _, data = _zigzag(data)
    return data


def _zigzag(data: bytes) -> tuple[int, bytes]:
    value = 0
    for number, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), data[number + 1 :]
    raise Undecodable("it has no message indexes after its schema id")


class Converter:
    """The values of one source's records."""

    def __init__(
        self, kind: Format, registry: Registry | None, schema_file: str | None, message: str | None, *, framed: bool
    ) -> None:
        """For a format of this kind. Raises ConfigError where what it needs cannot be used."""
        self.fetch: Callable[[int], Awaitable[None]] | None = None
        if kind == "avro":
            avro = Avro(registry, schema_file)
            self.convert: Convert = avro.convert
            self.fetch = avro.fetch
        elif kind == "protobuf":
            assert schema_file is not None
            assert message is not None
            self.convert = Protobuf(schema_file, message, framed=framed).convert
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


def _plain(value: Any) -> Any:
    """A value of Avro as routes can have it: decimals and identifiers as text, times as they are."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
