"""Microsoft Graph change notifications: each bears the ``clientState`` that the subscription was made with.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import parse_qs

import orjson
from pydantic import Field

from lhd.plugin import ConfigError
from lhd_webhook.schemes.scheme import (
    JSON,
    Answer,
    Key,
    Outgoing,
    Received,
    Scheme,
    SigningSecret,
    Verifier,
    as_bytes,
    is_same_secret,
    read_keys,
    without_member,
)

_TOKEN_CHARACTERS_MAX = 1_024


class MicrosoftGraphScheme(Scheme):
    """Microsoft Graph; the secrets are values of ``clientState``."""

    scheme: Literal["microsoft-graph"]
    secrets: tuple[SigningSecret, ...] = Field(min_length=1, strict=False, description="Any of them may be shown.")

    def verifier(self) -> "MicrosoftGraphVerifier":
        """See Scheme."""
        return MicrosoftGraphVerifier(read_keys(self.secrets, bytes))


class MicrosoftGraphVerifier(Verifier):
    """Compares ``clientState`` of every notification; each must show one of the secrets."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    async def verify(self, received: Received, now_s: float) -> str | None:
        """See Verifier."""
        try:
            notifications = _notifications(orjson.loads(received.body))
        except orjson.JSONDecodeError:
            return None
        matched = None
        for one in notifications or ():
            matched = self._match(_client_state(one), now_s)
            if matched is None:
                return None
        return matched

    def _match(self, shown: bytes, now_s: float) -> str | None:
        matched = None
        for key in self._keys:
            if is_same_secret(shown, key.value) and key.secret.is_valid(now_s):
                matched = key.name
        return matched

    async def greet(self, method: str, received: Received, now_s: float) -> Answer | None:  # noqa: ARG002
        """The token by which Graph asks whether the endpoint is ours, as text that no browser takes for a page."""
        if method != "POST" or received.headers.get("content-length", "0") != "0":
            return None
        try:
            asked = parse_qs(received.query, max_num_fields=20, errors="strict")
        except ValueError:
            return None
        (token,) = asked.get("validationToken", [""])[:1]
        if "transfer-encoding" in received.headers or not 0 < len(token) <= _TOKEN_CHARACTERS_MAX:
            return None
        return Answer(token.encode()) if token.isprintable() else None

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """See Verifier."""
        return JSON

    def bodies(self, body: Any) -> list[Any]:
        """Each notification, without the secret that it shows."""
        notifications = _notifications(body)
        return [without_member(one, "clientState") for one in ([body] if notifications is None else notifications)]

    def imitate(self, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See Verifier."""
        valid = [key for key in self._keys if key.secret.is_valid(now_s)]
        try:
            decoded = orjson.loads(body)
        except orjson.JSONDecodeError:
            decoded = None
        notifications = _notifications(decoded)
        if not valid or notifications is None or not all(isinstance(one, dict) for one in notifications):
            raise ConfigError("verify", 'a notification of Microsoft Graph is {"value": [{...}]}')
        for one in notifications:
            one["clientState"] = valid[-1].value.decode()
        return Outgoing(orjson.dumps(decoded), {"content-type": content_type})


def _notifications(body: Any) -> list[Any] | None:
    value = body.get("value") if isinstance(body, dict) else None
    return value if isinstance(value, list) else None


def _client_state(notification: Any) -> bytes:
    value = notification.get("clientState") if isinstance(notification, dict) else None
    return as_bytes(value) if isinstance(value, str) else b""
