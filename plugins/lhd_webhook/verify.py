"""Signature schemes: who sent these raw bytes. Constant time, no guess, no exception for malformed input."""

import base64
import binascii
import hashlib
import hmac
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from lhd.plugin import ConfigError, Model, Secret

Headers = Mapping[str, str]

_STANDARD_KEY_BYTES = range(24, 65)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself: the bytes that were signed, the signatures, and when, where the scheme says."""

    signed: bytes
    signatures: Sequence[bytes]
    sent_s: int | None = None


class SignedScheme(Model):
    """Base of the schemes in which the sender signs with a shared secret."""

    secrets: tuple[Secret, ...] = Field(min_length=1, strict=False, description="Any of them may have signed.")

    def key(self, secret: bytes) -> bytes:
        """The key that a secret stands for. Raises ConfigError, without the secret, for one that cannot be right."""
        return secret

    @abstractmethod
    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """What the request says of itself; None where it says nothing that this scheme understands."""

    @abstractmethod
    def sign(self, key: bytes, signed: bytes) -> bytes:
        """The signature of these bytes."""

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002 - some schemes look at neither
        """The sender's own id of the delivery, the same when it is sent again; None where there is none."""
        return None


class TimedScheme(SignedScheme):
    """Base of the schemes that sign the time, too: an old request cannot be played again."""

    tolerance_s: int = Field(300, ge=1, description="How far the sender's clock may be from ours, either way.")


class GithubScheme(SignedScheme):
    """GitHub: ``X-Hub-Signature-256`` holds ``sha256=`` and the HMAC-SHA256 of the raw body in hex.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """

    scheme: Literal["github"]

    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """See SignedScheme."""
        return _prefixed(headers.get("x-hub-signature-256", ""), "sha256=", body)

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SignedScheme."""
        return _hex_sha256(key, signed)

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """GitHub's GUID of the delivery, which its signature does not cover."""
        return headers.get("x-github-delivery") or None


class HmacScheme(SignedScheme):
    """An HMAC of the raw body in a header of any name."""

    scheme: Literal["hmac"]
    header: str = Field(description="The header that holds the signature.")
    prefix: str = Field("", description="What stands before the signature in the header.")
    algorithm: Literal["sha1", "sha256", "sha512"] = Field("sha256", description="The hash function.")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written.")
    id_header: str | None = Field(None, description="The header that tells one delivery from another.")

    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """Hex may be written in either case; base64 may leave its padding out."""
        claim = _prefixed(headers.get(self.header.lower(), ""), self.prefix, body, is_hex=self.encoding == "hex")
        if claim is None or self.encoding == "hex":
            return claim
        return Claim(claim.signed, [one + b"=" * (-len(one) % 4) for one in claim.signatures])

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SignedScheme."""
        return _ENCODINGS[self.encoding](hmac.new(key, signed, self.algorithm).digest())

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """What the configured header holds."""
        return headers.get(self.id_header.lower()) or None if self.id_header else None


class StandardWebhooksScheme(TimedScheme):
    """Standard Webhooks, version ``v1``: an HMAC-SHA256 of ``id.timestamp.body`` in base64.

    The headers may have Svix's names. https://github.com/standard-webhooks/standard-webhooks
    """

    scheme: Literal["standard-webhooks"]

    def key(self, secret: bytes) -> bytes:
        """A secret is written ``whsec_`` and the key in base64."""
        try:
            key = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except binascii.Error:
            raise ConfigError(
                "secret", "the secret is not base64", "paste it as the sender shows it, with whsec_ and nothing before"
            ) from None
        if len(key) not in _STANDARD_KEY_BYTES:
            raise ConfigError("secret", f"the secret holds {len(key)} bytes; it must hold 24 to 64")
        return key

    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """Of several signatures those of version v1 count."""
        message_id = self.delivery_id(headers, None)
        sent, signatures = (_either(headers, name) for name in ("timestamp", "signature"))
        sent_s = _seconds(sent)
        if message_id is None or "." in message_id or sent_s is None:
            return None
        signed = f"{message_id}.{sent}.".encode("utf-8", "surrogateescape") + body
        return Claim(signed, [_bytes(one[3:]) for one in signatures.split(" ") if one.startswith("v1,")], sent_s)

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SignedScheme."""
        return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """``webhook-id``, which the signature covers."""
        return _either(headers, "id") or None


class StripeScheme(TimedScheme):
    """Stripe: ``Stripe-Signature`` holds ``t=`` and one or more ``v1=``, an HMAC-SHA256 of ``t.body`` in hex.

    https://docs.stripe.com/webhooks#verify-manually
    """

    scheme: Literal["stripe"]

    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """While a secret is rolled there are several ``v1``; any may match."""
        parts = [part.partition("=") for part in headers.get("stripe-signature", "").split(",")]
        times = [value for name, _, value in parts if name.strip() == "t"]
        sent_s = _seconds(times[0]) if len(times) == 1 else None
        if sent_s is None:
            return None
        signatures = [_bytes(value) for name, _, value in parts if name.strip() == "v1"]
        return Claim(f"{times[0]}.".encode() + body, signatures, sent_s)

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SignedScheme."""
        return _hex_sha256(key, signed)

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """The id of the event in the body (``evt_...``)."""
        return _text_member(body, "id")


class SlackScheme(TimedScheme):
    """Slack: ``X-Slack-Signature`` holds ``v0=`` and the HMAC-SHA256 of ``v0:timestamp:body`` in hex.

    https://docs.slack.dev/authentication/verifying-requests-from-slack
    """

    scheme: Literal["slack"]

    def claim(self, headers: Headers, body: bytes) -> Claim | None:
        """See SignedScheme."""
        sent = headers.get("x-slack-request-timestamp", "")
        sent_s = _seconds(sent)
        if sent_s is None:
            return None
        claim = _prefixed(headers.get("x-slack-signature", ""), "v0=", f"v0:{sent}:".encode() + body)
        return None if claim is None else Claim(claim.signed, claim.signatures, sent_s)

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SignedScheme."""
        return _hex_sha256(key, signed)

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """The ``event_id`` in the body of an Events API request."""
        return _text_member(body, "event_id")


class NoScheme(Model):
    """No verification: anybody who reaches the path is believed."""

    scheme: Literal["none"]
    id_header: str | None = Field(None, description="The header that tells one delivery from another.")

    def delivery_id(self, headers: Headers, body: Any) -> str | None:  # noqa: ARG002
        """What the configured header holds."""
        return headers.get(self.id_header.lower()) or None if self.id_header else None


Scheme = GithubScheme | HmacScheme | StandardWebhooksScheme | StripeScheme | SlackScheme | NoScheme
Verify = Annotated[Scheme, Field(discriminator="scheme")]


def is_genuine(scheme: Scheme, keys: Sequence[bytes], headers: Headers, body: bytes, now_s: int) -> bool:
    """Whether one of the keys signed these bytes, and not too long ago; every key is tried, whatever the outcome.

    ``headers`` are by lower-case name; ``now_s`` is the time in seconds since the epoch.
    """
    if isinstance(scheme, NoScheme):
        return True
    claim = scheme.claim(headers, body)
    if claim is None:
        return False
    genuine = False
    for key in keys:
        expected = scheme.sign(key, claim.signed)
        for signature in claim.signatures:
            genuine |= hmac.compare_digest(signature, expected)
    if isinstance(scheme, TimedScheme) and claim.sent_s is not None:
        genuine &= abs(now_s - claim.sent_s) <= scheme.tolerance_s
    return genuine


def _prefixed(header: str, prefix: str, signed: bytes, *, is_hex: bool = True) -> Claim | None:
    if not header.startswith(prefix):
        return None
    signature = header[len(prefix) :]
    return Claim(signed, [_bytes(signature.lower() if is_hex else signature)])


def _hex_sha256(key: bytes, signed: bytes) -> bytes:
    return binascii.hexlify(hmac.new(key, signed, hashlib.sha256).digest())


def _either(headers: Headers, name: str) -> str:
    return headers.get(f"webhook-{name}") or headers.get(f"svix-{name}", "")


def _seconds(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text_member(body: Any, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) and value else None


_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {"hex": binascii.hexlify, "base64": base64.b64encode}
