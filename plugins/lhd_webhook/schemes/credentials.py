"""Schemes that verify who sends, not what: basic, bearer, mtls and none. They need no body."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs

from pydantic import Field, field_validator

from lhd_webhook.schemes.scheme import (
    Claim,
    DeliveryId,
    HeaderName,
    Headers,
    Outgoing,
    Received,
    Scheme,
    SecretScheme,
    SecretVerifier,
    Verifier,
    as_bytes,
    is_same_secret,
)


class CredentialScheme(SecretScheme):
    """Base of the schemes in which the sender shows the secret itself."""

    def verifier(self) -> SecretVerifier:
        """See Scheme."""
        verifier = super().verifier()
        verifier.reads_body = False
        return verifier

    def sign(self, key: bytes, signed: bytes) -> bytes:  # noqa: ARG002
        """See SecretScheme."""
        return key

    def matches(self, key: bytes, claim: Claim) -> bool:
        """See SecretScheme."""
        return any(is_same_secret(shown, key) for shown in claim.signatures)


class BasicScheme(CredentialScheme):
    """HTTP Basic, RFC 7617; the secrets are passwords."""

    scheme: Literal["basic"]
    user: str = Field(description="The user name; it holds no colon.")

    proof_headers: ClassVar[tuple[str, ...]] = ("authorization",)

    @field_validator("user")
    @classmethod
    def _no_colon(cls, user: str) -> str:
        if ":" in user:
            raise ValueError("a user name holds no colon (RFC 7617)")
        return user

    def key(self, secret: bytes) -> bytes:
        """User and password as the sender shows them."""
        return f"{self.user}:".encode() + secret

    def claims(self, received: Received) -> Sequence[Claim]:
        """See SecretScheme."""
        kind, _, encoded = received.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return []
        try:
            return [Claim(b"", [base64.b64decode(as_bytes(encoded.strip()), validate=True)])]
        except binascii.Error:
            return []

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        return Outgoing(body, {"authorization": f"Basic {base64.b64encode(key).decode()}"})


class BearerScheme(CredentialScheme):
    """A token in a header; RFC 6750, and the many that name a header of their own."""

    scheme: Literal["bearer"]
    header: HeaderName = Field("Authorization", description="The header that holds the token.")
    prefix: str = Field("Bearer ", description="What stands before the token in the header; case does not matter.")
    query: bool = Field(False, description="Take it from the query's access_token, too; it shows in logs of proxies.")

    def verifier(self) -> SecretVerifier:
        """See Scheme."""
        verifier = super().verifier()
        verifier.credential_headers = frozenset({self.header.lower()})
        verifier.proof_headers = () if self.query else (self.header.lower(),)
        return verifier

    def claims(self, received: Received) -> Sequence[Claim]:
        """See SecretScheme."""
        shown = []
        value = received.headers.get(self.header.lower())
        if value is not None and value[: len(self.prefix)].lower() == self.prefix.lower():
            shown.append(as_bytes(value[len(self.prefix) :]))
        if self.query:
            try:
                shown += [as_bytes(one) for one in parse_qs(received.query, max_num_fields=100).get("access_token", [])]
            except ValueError:
                return []
        return [Claim(b"", shown)]

    def imitate(self, key: bytes, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See SecretScheme."""
        return Outgoing(body, {self.header.lower(): self.prefix + key.decode()})


class MtlsScheme(Scheme):
    """The client's certificate, which the listener has verified; ``[http]`` needs ``tls`` with ``client_ca``."""

    scheme: Literal["mtls"]
    subjects: tuple[str, ...] = Field(
        min_length=1, strict=False, description="Common names, DNS names or URIs; the certificate must hold one."
    )

    def verifier(self) -> "MtlsVerifier":
        """See Scheme."""
        return MtlsVerifier(self.subjects)


class MtlsVerifier(Verifier):
    """Compares names."""

    reads_body = False

    def __init__(self, subjects: Sequence[str]) -> None:
        self._subjects = subjects

    async def verify(self, received: Received, now_s: float) -> str | None:  # noqa: ARG002
        """See Verifier; the name that the certificate holds."""
        certificate = received.certificate or {}
        names = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
        names |= {value for name, value in certificate.get("subjectAltName", ()) if name in ("DNS", "URI")}
        return next((subject for subject in self._subjects if subject in names), None)


class NoScheme(Scheme):
    """No verification: anybody who reaches the path is believed."""

    scheme: Literal["none"]
    id_header: HeaderName | None = Field(None, description="The header that tells one delivery from another.")

    def verifier(self) -> "NoVerifier":
        """See Scheme."""
        return NoVerifier(self.id_header)


class NoVerifier(Verifier):
    """Believes everybody."""

    reads_body = False

    def __init__(self, id_header: str | None) -> None:
        self._id_header = id_header

    async def verify(self, received: Received, now_s: float) -> str | None:  # noqa: ARG002
        """See Verifier."""
        return "none"

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """What the configured header holds."""
        return headers.get(self._id_header.lower()) or None if self._id_header else None

    def imitate(self, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """See Verifier."""
        headers = {"content-type": content_type}
        if self._id_header:
            headers[self._id_header.lower()] = message_id
        return Outgoing(body, headers)
