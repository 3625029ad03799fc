"""Twilio: ``X-Twilio-Signature`` covers the public URL and the form, or the hash of another body.

https://www.twilio.com/docs/usage/webhooks/webhooks-security
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, Field

from lhd_webhook.schemes.scheme import (
    FORM,
    Claim,
    DeliveryId,
    Headers,
    Outgoing,
    Received,
    SecretScheme,
    absolute_url,
    as_bytes,
    base64_hmac,
)

_FIELDS_MAX = 1_000


class TwilioScheme(SecretScheme):
    """Twilio; the secrets are auth tokens."""

    scheme: Literal["twilio"]
    public_url: Annotated[str, AfterValidator(absolute_url)] = Field(description="The URL of this source at Twilio.")

    proof_headers: ClassVar[tuple[str, ...]] = ("x-twilio-signature",)

    def claims(self, received: Received) -> Sequence[Claim]:
        """Twilio signs the URL with or without its port."""
        content = _signed_content(received)
        if content is None:
            return []
        signatures = [as_bytes(received.headers.get("x-twilio-signature", ""))]
        query = f"?{received.query}" if received.query else ""
        return [Claim(as_bytes(url + query) + content, signatures) for url in _with_and_without_port(self.public_url)]

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return base64_hmac(key, signed, "sha1")

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """The token that Twilio repeats with each attempt, and does not sign."""
        return headers.get("i-twilio-idempotency-token") or None

    def fingerprint(self, body: Any) -> Any:
        """Of a form what is signed: neither the order of its fields nor their encoding."""
        if not isinstance(body, dict) or not all(isinstance(value, str | list) for value in body.values()):
            return body
        return {
            name: sorted({value} if isinstance(value, str) else set(map(str, value))) for name, value in body.items()
        }

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        is_form = _is_form(content_type)
        query = "" if is_form else urlencode({"bodySHA256": hashlib.sha256(body).hexdigest()})
        content = (_form_content(body) or b"") if is_form else b""
        signed = (self.public_url + (f"?{query}" if query else "")).encode() + content
        headers = {"x-twilio-signature": self.sign(key, signed).decode(), "i-twilio-idempotency-token": message_id}
        return Outgoing(body, headers, query)


def _signed_content(received: Received) -> bytes | None:
    """What is signed after the URL; None where the signature cannot cover the body."""
    try:
        hashes = parse_qs(received.query, max_num_fields=_FIELDS_MAX).get("bodySHA256", [])
    except ValueError:
        return None
    if not hashes and _is_form(received.headers.get("content-type", "")):
        return _form_content(received.body)
    if not hashes:
        return None if received.body else b""
    actual = hashlib.sha256(received.body).hexdigest()
    return b"" if hmac.compare_digest(as_bytes(hashes[0].lower()), actual.encode()) else None


def _form_content(body: bytes) -> bytes | None:
    """Each field's name and value, sorted; equal pairs count once."""
    try:
        fields = parse_qsl(
            body.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        return None
    return b"".join(as_bytes(name + value) for name, value in sorted(set(fields)))


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def _with_and_without_port(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(f":{parts.port}") if parts.port else parts.netloc
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [parts._replace(netloc=netloc).geturl() for netloc in (host, f"{host}:{port}")]
