"""The scheme ``hmac``: any HMAC in a header, described as data."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from lhd_webhook.schemes.scheme import (
    Claim,
    DeliveryId,
    HeaderName,
    Headers,
    Outgoing,
    Received,
    SecretVerifier,
    TimedScheme,
    absolute_url,
    as_bytes,
    unix_seconds,
)

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NEEDS = {"id": "id_header", "timestamp": "timestamp_header", "url": "public_url"}


class HmacScheme(TimedScheme):
    """An HMAC in a header of any name, over the raw body and what else ``signed`` says."""

    scheme: Literal["hmac"]
    header: HeaderName = Field(description="The header that holds the signature.")
    prefix: str = Field("", description="What stands before the signature in the header.")
    algorithm: Literal["sha1", "sha256", "sha512"] = Field("sha256", description="The hash function.")
    encoding: Literal["hex", "base64", "base64url"] = Field("hex", description="How the signature is written.")
    signed: str = Field("{raw}", description="What is signed: text with {raw}, {id}, {timestamp} and {url}.")
    id_header: HeaderName | None = Field(None, description="The header that tells one delivery from another.")
    timestamp_header: HeaderName | None = Field(None, description="The header with the time, in Unix seconds.")
    public_url: Annotated[str, AfterValidator(absolute_url)] | None = Field(
        None, description="The URL of this source as the sender knows it."
    )

    @model_validator(mode="after")
    def _placeholders(self) -> "HmacScheme":
        names = set(_PLACEHOLDER.findall(self.signed))
        if self.timestamp_header is not None and "timestamp" not in names:
            raise ValueError("timestamp_header needs {timestamp} in signed, or the time is not verified")
        if "}{" in self.signed:
            raise ValueError("signed needs text between two placeholders, or what is signed could be shifted")
        if "raw" not in names:
            raise ValueError("signed must hold {raw}, or the body is not verified")
        for name in sorted(names - {"raw"}):
            if name not in _NEEDS:
                raise ValueError(f"signed holds {{{name}}}; there are {{raw}}, {{id}}, {{timestamp}} and {{url}}")
            if getattr(self, _NEEDS[name]) is None:
                raise ValueError(f"{{{name}}} in signed needs {_NEEDS[name]}")
        return self

    def verifier(self) -> SecretVerifier:
        """See Scheme."""
        verifier = super().verifier()
        verifier.proof_headers = (self.header.lower(),)
        return verifier

    def claims(self, received: Received) -> Sequence[Claim]:
        """Hex may be written in either case; base64 may leave its padding out."""
        header = received.headers.get(self.header.lower(), "")
        if not header.startswith(self.prefix):
            return []
        sent = received.headers.get((self.timestamp_header or "").lower(), "")
        sent_s = unix_seconds(sent) if "{timestamp}" in self.signed else None
        message_id = received.headers.get((self.id_header or "").lower(), "")
        if "{timestamp}" in self.signed and sent_s is None:
            return []
        if "{id}" in self.signed and (not message_id or any(text in message_id for text in self._separators())):
            return []
        if "{url}" in self.signed and any(text in received.query for text in self._separators()):
            return []
        signed = self._signed(received.body, message_id, sent, received.query)
        return [Claim(signed, [self._normal(header[len(self.prefix) :])], sent_s)]

    def _separators(self) -> list[str]:
        """The text between placeholders; an id or a query that holds it could shift what is signed."""
        return [text for text in _PLACEHOLDER.split(self.signed)[::2] if text]

    def _signed(self, raw: bytes, message_id: str, sent: str, query: str) -> bytes:
        url = f"{self.public_url}?{query}" if query else self.public_url or ""
        values = {"raw": raw, "id": as_bytes(message_id), "timestamp": as_bytes(sent), "url": as_bytes(url)}
        # Every second part is the name of a placeholder.
        parts = _PLACEHOLDER.split(self.signed)
        return b"".join(values[part] if number % 2 else part.encode() for number, part in enumerate(parts))

    def _normal(self, signature: str) -> bytes:
        text = as_bytes(signature)
        return text.lower() if self.encoding == "hex" else text + b"=" * (-len(text) % 4)

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return _ENCODINGS[self.encoding](hmac.digest(key, signed, self.algorithm))

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """What the configured header holds."""
        return headers.get(self.id_header.lower()) or None if self.id_header else None

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        signature = self.sign(key, self._signed(body, message_id, str(now_s), "")).decode()
        headers = {self.header.lower(): self.prefix + signature}
        if self.id_header:
            headers[self.id_header.lower()] = message_id
        if self.timestamp_header:
            headers[self.timestamp_header.lower()] = str(now_s)
        return Outgoing(body, headers)


_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
}
