"""A schema registry with Confluent's API: its table, its framing of values, and what it answers.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import Field, model_validator

from lhd.plugin import Model, Secret, Transient, Undecodable, parse_json
from lhd_kafka.security import is_loopback

_MAGIC = 0
_PREFIX_BYTES = 5
_TIMEOUT_S = 10.0
_TRY_AGAIN_S = 5.0
_SCHEMAS_MAX = 200
"""So many schemas one may refer to, directly or not."""


class SchemaMissing(Exception):
    """The schema of this id has to be fetched first."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema {schema_id}")
        self.schema_id = schema_id


class Registry(Model):
    """Where a schema registry is."""

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


class RegistryClient:
    """Asks a registry for schemas."""

    def __init__(self, registry: Registry) -> None:
        """Reads the password. Raises ConfigError."""
        password = "" if registry.password is None else registry.password.read().decode()
        self._url = registry.url.rstrip("/")
        self._headers: dict[str, str] = {}
        if registry.username is not None:
            self._headers["Authorization"] = aiohttp.encode_basic_auth(registry.username, password)

    async def schemas(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id under "", and by their names those that it refers to, as JSON.

        Raises Undecodable where there is none that can be read, Transient where the registry does not answer.
        """
        found: dict[str, Any] = {}
        waiting = [("", f"schemas/ids/{schema_id}")]
        while waiting and len(found) <= _SCHEMAS_MAX:
            name, path = waiting.pop()
            if name in found:
                continue
            answer = await self._get(path)
            if answer is None:
                refers = f", to which schema {schema_id} refers" if name else ""
                raise Undecodable(f"the registry knows no schema {name or schema_id}{refers}")
            try:
                found[name] = parse_json(answer["schema"].encode())
                for reference in answer.get("references", ()):
                    subject = quote(reference["subject"], safe="")
                    waiting.append((reference["name"], f"subjects/{subject}/versions/{int(reference['version'])}"))
            except (AttributeError, KeyError, TypeError, ValueError):
                raise Undecodable(f"schema {schema_id} of the registry cannot be read") from None
        return found

    async def _get(self, path: str) -> Any:
        """What the registry answers; None where it has nothing there."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.get(f"{self._url}/{path}") as response,
            ):
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise Transient(f"the schema registry answered {response.status} to GET /{path}", _TRY_AGAIN_S)
                return parse_json(await response.read())
        except Undecodable:
            raise Transient("the schema registry answered what is not JSON", _TRY_AGAIN_S) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"the schema registry {self._url} does not answer", _TRY_AGAIN_S) from error
