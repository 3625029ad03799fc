"""Schemes that sign the time with the body: stripe, slack, standard-webhooks, and gitlab, whose tokens can be plain."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from lhd.plugin import ConfigError
from lhd_webhook.schemes.scheme import (
    FORM,
    JSON,
    Answer,
    Claim,
    DeliveryId,
    Headers,
    Outgoing,
    Received,
    SecretVerifier,
    TimedScheme,
    after_prefix,
    as_bytes,
    base64_hmac,
    hex_hmac,
    is_same_secret,
    read_keys,
    text_member,
    unix_seconds,
    without_member,
)

_SECRET_BYTES = range(24, 65)
_PUBLIC_KEY_BYTES = 32
_SIGNATURES_MAX = 16
"""Each of v1a costs a look at the whole body, whoever sends it."""


class StripeScheme(TimedScheme):
    """Stripe: ``Stripe-Signature`` holds ``t=`` and one or more ``v1=``, an HMAC-SHA256 of ``t.body`` in hex.

    https://docs.stripe.com/webhooks#verify-manually
    """

    scheme: Literal["stripe"]

    proof_headers: ClassVar[tuple[str, ...]] = ("stripe-signature",)

    def claims(self, received: Received) -> Sequence[Claim]:
        """While a secret is rolled there are several ``v1``; any may match."""
        parts = [part.partition("=") for part in received.headers.get("stripe-signature", "").split(",")]
        times = [value for name, _, value in parts if name.strip() == "t"]
        sent_s = unix_seconds(times[0]) if len(times) == 1 else None
        if sent_s is None:
            return []
        signatures = [as_bytes(value) for name, _, value in parts if name.strip() == "v1"]
        return [Claim(f"{times[0]}.".encode() + received.body, signatures, sent_s)]

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return hex_hmac(key, signed)

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """The id of the event in the body (``evt_...``)."""
        return text_member(body, "id")

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """See Verifier."""
        return JSON

    def fingerprint(self, body: Any) -> Any:
        """How many endpoints have not answered yet changes from attempt to attempt."""
        return without_member(body, "pending_webhooks")

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        signature = self.sign(key, f"{now_s}.".encode() + body).decode()
        return Outgoing(body, {"stripe-signature": f"t={now_s},v1={signature}"})


class SlackScheme(TimedScheme):
    """Slack: ``X-Slack-Signature`` holds ``v0=`` and the HMAC-SHA256 of ``v0:timestamp:body`` in hex.

    https://docs.slack.dev/authentication/verifying-requests-from-slack
    """

    scheme: Literal["slack"]

    proof_headers: ClassVar[tuple[str, ...]] = ("x-slack-signature",)

    def verifier(self) -> "SlackVerifier":
        """See Scheme."""
        return SlackVerifier(self, read_keys(self.secrets, self.key))

    def claims(self, received: Received) -> Sequence[Claim]:
        """See SecretScheme."""
        sent = received.headers.get("x-slack-request-timestamp", "")
        sent_s = unix_seconds(sent)
        if sent_s is None:
            return []
        signatures = after_prefix(received.headers.get("x-slack-signature", ""), "v0=")
        return [Claim(f"v0:{sent}:".encode() + received.body, signatures, sent_s)]

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return hex_hmac(key, signed)

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """The ``event_id`` in the body of an Events API request."""
        return text_member(body, "event_id")

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """Slack sends JSON objects and forms."""
        return JSON if raw.startswith(b"{") else FORM

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        signature = self.sign(key, f"v0:{now_s}:".encode() + body).decode()
        return Outgoing(body, {"x-slack-request-timestamp": str(now_s), "x-slack-signature": f"v0={signature}"})


class SlackVerifier(SecretVerifier):
    """Slack asks once whether the endpoint is ours, with a request that is signed like any other."""

    async def confirm(self, body: Any) -> Answer | None:
        """The challenge of a ``url_verification``, https://docs.slack.dev/reference/events/url_verification."""
        challenge = text_member(body, "challenge")
        if text_member(body, "type") != "url_verification" or challenge is None:
            return None
        return Answer(orjson.dumps({"challenge": challenge}), "application/json")


class SymmetricMessageScheme(TimedScheme):
    """Base of Standard Webhooks and GitLab: an HMAC-SHA256 of ``id.timestamp.body`` in base64, after ``v1,``."""

    def _claims(self, body: bytes, message_id: str, sent: str, listed: str) -> list[Claim]:
        """One for each version of signature; several signatures are separated by spaces."""
        sent_s = unix_seconds(sent)
        signatures = [one.partition(",") for one in listed.split(" ")]
        if not message_id or "." in message_id or sent_s is None or len(signatures) > _SIGNATURES_MAX:
            return []
        signed = as_bytes(f"{message_id}.{sent}.") + body
        return [
            Claim(signed, [as_bytes(value) for named, _, value in signatures if named == version], sent_s, version)
            for version in ("v1", "v1a")
        ]

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return base64_hmac(key, signed)

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        signature = self.sign(key, f"{message_id}.{now_s}.".encode() + body).decode()
        headers = {"webhook-id": message_id, "webhook-timestamp": str(now_s), "webhook-signature": f"v1,{signature}"}
        return Outgoing(body, headers)


class StandardWebhooksScheme(SymmetricMessageScheme):
    """Standard Webhooks: ``v1`` with a shared secret, ``v1a`` with the sender's public key.

    The headers may have Svix's names.
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """

    scheme: Literal["standard-webhooks"]

    proof_headers: ClassVar[tuple[str, ...]] = ("webhook-signature", "svix-signature")

    def key(self, secret: bytes) -> bytes | Ed25519PublicKey:
        """``whsec_`` and a secret, or ``whpk_`` and an ed25519 public key, each in base64."""
        if secret.startswith(b"whsk_"):
            raise ConfigError("secret", "this is the sender's private key", "give the public key, whpk_...")
        if not secret.startswith(b"whpk_"):
            return symmetric_key(secret)
        public = _decoded(secret.removeprefix(b"whpk_"))
        if len(public) != _PUBLIC_KEY_BYTES:
            raise ConfigError("secret", f"an ed25519 public key has {_PUBLIC_KEY_BYTES} bytes, this one {len(public)}")
        return Ed25519PublicKey.from_public_bytes(public)

    def claims(self, received: Received) -> Sequence[Claim]:
        """See SecretScheme."""
        named = (either(received.headers, name) for name in ("id", "timestamp", "signature"))
        return self._claims(received.body, *named)

    def matches(self, key: bytes | Ed25519PublicKey, claim: Claim) -> bool:
        """Each kind of key matches the signatures of its version."""
        if isinstance(key, bytes):
            return claim.version == "v1" and super().matches(key, claim)
        return claim.version == "v1a" and any(_is_signed(key, claim.signed, one) for one in claim.signatures)

    def imitate(self, key: Any, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:
        """See SecretScheme."""
        if not isinstance(key, bytes):
            raise ConfigError("verify.secrets", "only the sender has the private key that belongs to a whpk_ key")
        return super().imitate(key, body, content_type, now_s, message_id)

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """``webhook-id``, which the signature covers."""
        return either(headers, "id") or None


class GitlabScheme(SymmetricMessageScheme):
    """GitLab: a plain token in ``X-Gitlab-Token``, or a signing token as in Standard Webhooks.

    https://docs.gitlab.com/user/project/integrations/webhooks/
    """

    scheme: Literal["gitlab"]
    signed: bool = Field(False, description="The secrets are signing tokens (whsec_...); plain ones count no longer.")

    def verifier(self) -> SecretVerifier:
        """See Scheme."""
        verifier = super().verifier()
        verifier.reads_body = self.signed
        verifier.proof_headers = ("webhook-signature",) if self.signed else ("x-gitlab-token",)
        return verifier

    def key(self, secret: bytes) -> bytes:
        """A signing token is written ``whsec_`` and base64."""
        return symmetric_key(secret) if self.signed else secret

    def claims(self, received: Received) -> Sequence[Claim]:
        """The stronger kind is demanded once it is configured."""
        if self.signed:
            named = (received.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
            return self._claims(received.body, *named)
        return [Claim(b"", [as_bytes(received.headers.get("x-gitlab-token", ""))])]

    def matches(self, key: bytes, claim: Claim) -> bool:
        """See SecretScheme."""
        if self.signed:
            return claim.version == "v1" and super().matches(key, claim)
        return is_same_secret(claim.signatures[0], key)

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """A token covers nothing of the request; a signature covers ``webhook-id``."""
        if self.signed:
            return headers.get("webhook-id") or None
        return headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid") or None

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:
        """See SecretScheme."""
        if self.signed:
            return super().imitate(key, body, content_type, now_s, message_id)
        return Outgoing(body, {"x-gitlab-token": key.decode(), "idempotency-key": message_id})


def either(headers: Headers, name: str) -> str:
    """A header by its standard name, or by Svix's."""
    return headers.get(f"webhook-{name}") or headers.get(f"svix-{name}", "")


def symmetric_key(secret: bytes) -> bytes:
    """The key of a secret that is written ``whsec_`` and base64. Raises ConfigError for one that cannot be right."""
    key = _decoded(secret.removeprefix(b"whsec_"))
    if len(key) not in _SECRET_BYTES:
        raise ConfigError("secret", f"the secret holds {len(key)} bytes; it must hold 24 to 64")
    return key


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        fix = "paste it as the sender shows it, with whsec_ or whpk_ and nothing before"
        raise ConfigError("secret", "the secret is not base64", fix) from None


def _is_signed(key: Ed25519PublicKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
