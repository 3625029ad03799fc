"""Schemes that sign the raw body alone: github, meta, shopify, docusign."""

import hmac
from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs

from pydantic import Field

from lhd.plugin import ConfigError, Secret
from lhd_webhook.schemes.scheme import (
    JSON,
    Answer,
    Claim,
    DeliveryId,
    Headers,
    Key,
    Outgoing,
    Received,
    SecretScheme,
    SecretVerifier,
    after_prefix,
    as_bytes,
    base64_hmac,
    hex_hmac,
    read_keys,
    text_member,
    without_member,
)


class HubSignatureScheme(SecretScheme):
    """Base of GitHub and Meta: ``X-Hub-Signature-256`` holds ``sha256=`` and the HMAC of the raw body in hex."""

    proof_headers: ClassVar[tuple[str, ...]] = ("x-hub-signature-256",)

    def claims(self, received: Received) -> Sequence[Claim]:
        """See SecretScheme."""
        return [Claim(received.body, after_prefix(received.headers.get("x-hub-signature-256", ""), "sha256="))]

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return hex_hmac(key, signed)

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        return Outgoing(body, {"x-hub-signature-256": f"sha256={self.sign(key, body).decode()}"})


class GithubScheme(HubSignatureScheme):
    """GitHub. https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""

    scheme: Literal["github"]

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """GitHub's GUID of the delivery, which its signature does not cover."""
        return headers.get("x-github-delivery") or None

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:
        """See SecretScheme."""
        outgoing = super().imitate(key, body, content_type, now_s, message_id)
        outgoing.headers["x-github-delivery"] = message_id
        return outgoing


class MetaScheme(HubSignatureScheme):
    """Meta (WhatsApp, Messenger, Instagram). https://developers.facebook.com/docs/graph-api/webhooks/getting-started."""

    scheme: Literal["meta"]
    verify_token: Secret = Field(description="What Meta shows when it asks whether the endpoint is ours.")

    def verifier(self) -> "MetaVerifier":
        """See Scheme."""
        try:
            token = self.verify_token.read()
        except ConfigError as error:
            raise ConfigError("verify.verify_token", error.text, error.fix) from None
        return MetaVerifier(self, read_keys(self.secrets, self.key), token)


class MetaVerifier(SecretVerifier):
    """Meta asks once with GET, which bears no signature but the token that was agreed on."""

    extra_methods = ("GET",)

    def __init__(self, scheme: MetaScheme, keys: Sequence[Key], token: bytes) -> None:
        super().__init__(scheme, keys)
        self._token = token

    async def greet(self, method: str, received: Received, now_s: float) -> Answer | None:  # noqa: ARG002
        """The challenge, for the right token; digits and letters only, so that it means nothing to a browser."""
        if method != "GET":
            return None
        try:
            asked = parse_qs(received.query, max_num_fields=20)
        except ValueError:
            return Answer(status=401)
        (mode,), (token,), (challenge,) = (
            asked.get(f"hub.{name}", [""])[:1] for name in ("mode", "verify_token", "challenge")
        )
        is_ours = hmac.compare_digest(as_bytes(token), self._token)
        if mode != "subscribe" or not is_ours or not (challenge.isascii() and challenge.isalnum()):
            return Answer(status=401)
        return Answer(challenge.encode())


class Base64Scheme(SecretScheme):
    """Base of Shopify and DocuSign: an HMAC-SHA256 of the raw body in base64."""

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """See SecretScheme."""
        return base64_hmac(key, signed)


class ShopifyScheme(Base64Scheme):
    """Shopify. https://shopify.dev/docs/apps/build/webhooks/subscribe/https."""

    scheme: Literal["shopify"]

    proof_headers: ClassVar[tuple[str, ...]] = ("x-shopify-hmac-sha256", "shopify-hmac-sha256")

    def claims(self, received: Received) -> Sequence[Claim]:
        """The newer kind of webhook has the header without its ``X-``."""
        signatures = [as_bytes(received.headers[name]) for name in self.proof_headers if name in received.headers]
        return [Claim(received.body, signatures)]

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """Shopify's id of the webhook, which its signature does not cover."""
        return headers.get("x-shopify-webhook-id") or headers.get("shopify-webhook-id") or None

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        signature = self.sign(key, body).decode()
        return Outgoing(body, {"x-shopify-hmac-sha256": signature, "x-shopify-webhook-id": message_id})


class DocusignScheme(Base64Scheme):
    """DocuSign Connect. https://developers.docusign.com/platform/webhooks/connect/hmac/."""

    scheme: Literal["docusign"]

    proof_headers: ClassVar[tuple[str, ...]] = ("x-docusign-signature-1",)

    def claims(self, received: Received) -> Sequence[Claim]:
        """One signature for each key that is active at DocuSign, in headers that are numbered."""
        signatures = [as_bytes(value) for name, value in received.headers.items() if _is_numbered(name)]
        return [Claim(received.body, signatures)]

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """What happened to which envelope, and when; for other kinds of body there is none."""
        event, generated = text_member(body, "event"), text_member(body, "generatedDateTime")
        envelope = text_member(body["data"], "envelopeId") if event and "data" in body else None
        return (event, envelope, generated) if event and envelope and generated else None

    def media_type(self, content_type: str, raw: bytes) -> str:
        """DocuSign sends JSON or XML, as the connection says."""
        return JSON if raw.startswith(b"{") else content_type

    def fingerprint(self, body: Any) -> Any:
        """DocuSign counts its attempts in the body."""
        return without_member(body, "retryCount")

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        return Outgoing(body, {"x-docusign-signature-1": self.sign(key, body).decode()})


def _is_numbered(name: str) -> bool:
    number = name.removeprefix("x-docusign-signature-")
    return number != name and number.isascii() and number.isdigit()
