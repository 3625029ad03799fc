"""Avro, with the schema that a registry or a file gives. Needs ``lhd[avro]``."""

from importlib import import_module
from io import BytesIO
from typing import Any

import anyio

from lhd.plugin import ConfigError, Undecodable, parse_json
from lhd_kafka.registry import Registry, RegistryClient, SchemaMissing, unframe

_REFUSED_S = 60.0
_REFUSED_MAX = 1_000


class Avro:
    """The values of records whose schema is of a registry, or of a file."""

    def __init__(self, registry: Registry | None, schema: bytes | None) -> None:
        """With the contents of a file, where there is one. Raises ConfigError."""
        try:
            self._fastavro = import_module("fastavro")
        except ImportError as error:
            raise ConfigError("format", "avro needs the package fastavro", "pip install 'lhd[avro]'") from error
        self._registry = None if registry is None else RegistryClient(registry)
        self._schemas: dict[int, Any] = {}
        self._refused: dict[int, tuple[float, Undecodable]] = {}
        """Until when the registry is not asked again for an id, and why."""
        self._schema: Any = None
        if schema is not None:
            try:
                self._schema = self._parse({"": parse_json(schema)})
            except ValueError as error:
                raise ConfigError("schema_file", f"this is no Avro schema: {error}") from error

    def _parse(self, schemas: dict[str, Any]) -> Any:
        """The schema "", with the others in the places of their names."""
        try:
            parsed = self._fastavro.parse_schema(_whole(schemas.pop(""), schemas))
        except Exception as error:
            # Whatever is wrong with a schema, fastavro has an exception for it without a common base.
            raise ValueError(type(error).__name__) from error
        if _is_recursive(parsed, frozenset()):
            # Values of any depth would end the process: fastavro reads them by recursion in C.
            raise ValueError("it is recursive")
        return parsed

    def convert(self, data: bytes) -> Any:
        """The value of a record. Raises Undecodable, and SchemaMissing."""
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
        """Ask the registry for a schema. Raises Transient, and Undecodable where it has none that can be read."""
        assert self._registry is not None
        until_s, refusal = self._refused.get(schema_id, (0.0, None))
        if refusal is not None and anyio.current_time() < until_s:
            raise refusal
        try:
            schemas = await self._registry.schemas(schema_id)
            try:
                self._schemas[schema_id] = self._parse(schemas)
            except ValueError as error:
                text = f"schema {schema_id} of the registry is no Avro schema that can be read: {error}"
                raise Undecodable(text) from None
        except Undecodable as error:
            if len(self._refused) >= _REFUSED_MAX:
                self._refused.clear()
            self._refused[schema_id] = anyio.current_time() + _REFUSED_S, error
            raise


def _whole(schema: Any, others: dict[str, Any], namespace: str = "") -> Any:
    """A schema that has those it refers to in it, each where it is named first, and takes them out of ``others``."""
    if isinstance(schema, str):
        found = [name for name in (schema, f"{namespace}.{schema}") if name in others]
        return _whole(others.pop(found[0]), others) if found else schema
    if isinstance(schema, list):
        return [_whole(one, others, namespace) for one in schema]
    namespace = schema.get("namespace") or schema.get("name", "").rpartition(".")[0] or namespace
    whole = {
        key: _whole(one, others, namespace) if key in ("type", "items", "values") else one
        for key, one in schema.items()
    }
    if "fields" in schema:
        whole["fields"] = [{**one, "type": _whole(one["type"], others, namespace)} for one in schema["fields"]]
    return whole


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


def _plain(value: Any) -> Any:
    """A value of Avro as routes can have it: decimals and identifiers as text, times as they are."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
