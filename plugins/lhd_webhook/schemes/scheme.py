"""What a signature scheme is, and the verifier of those in which the sender and lhd share a secret.

Constant time, no guess, no exception for malformed input.
"""

import base64
import binascii
import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, StringConstraints

from lhd.plugin import ConfigError, ConfigErrors, Model, Secret

Headers = Mapping[str, str]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
"""A field name of RFC 9110."""
DeliveryId = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Received:
    """What a request shows to a scheme.

    ``headers`` are by lower-case name, repeated values joined by ", "; ``query`` is as it was sent, without "?";
    ``certificate`` is the client's, in the form of ``ssl.SSLSocket.getpeercert``.
    """

    headers: Headers
    body: bytes = b""
    query: str = ""
    certificate: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handshake is answered."""

    body: bytes = b""
    content_type: str = "text/plain"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A delivery as the sender would make it, for ``lhd send``."""

    body: bytes
    headers: dict[str, str]
    query: str = ""


class SigningSecret(Secret):
    """A secret that may end by itself, while another one takes its place."""

    not_after: AwareDatetime | None = Field(None, description="After this instant it counts no longer.")

    def is_valid(self, now_s: float) -> bool:
        """Whether the secret counts at a time in seconds since the epoch."""
        return self.not_after is None or now_s <= self.not_after.timestamp()


class Verifier(ABC):
    """A scheme with its secrets read."""

    reads_body: bool = True
    """Whether the body is verified; where it is not, a request is refused before its body is read."""
    proof_headers: tuple[str, ...] = ()
    """A request without any of these headers cannot be genuine, so its body need not be read."""
    credential_headers: frozenset[str] = frozenset()
    """Headers that hold a credential and are shown to nobody."""
    extra_methods: tuple[str, ...] = ()
    """The methods beside POST that :meth:`greet` answers."""

    @abstractmethod
    async def verify(self, received: Received, now_s: float) -> str | None:
        """The name of what verified the request, a secret's place say; None where nothing does.

        ``now_s`` is the time in seconds since the epoch. Raises Transient where that cannot be found out just now.
        """

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002 - some schemes look at neither
        """The sender's own id of the delivery, the same when it is sent again; None where there is none."""
        return None

    def fingerprint(self, body: Any) -> Any:
        """The part of the body that is the same when the delivery is sent again."""
        return body

    async def greet(self, method: str, received: Received, now_s: float) -> Answer | None:  # noqa: ARG002
        """The answer to a handshake that no signature can cover; None for any other request."""
        return None

    async def confirm(self, body: Any) -> Answer | None:  # noqa: ARG002
        """The answer to a verified handshake, which is no event; None for any other request."""
        return None

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """What the body is; a scheme that knows believes no header, which no signature covers."""
        return content_type

    def bodies(self, body: Any) -> list[Any]:
        """What routes see of a decoded body: several notifications each on their own, and no credential."""
        return [body]

    def imitate(self, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:  # noqa: ARG002
        """The delivery that the sender would make of these bytes. Raises ConfigError where only the sender can."""
        raise ConfigError("verify", "only the sender has the key that signs deliveries of this scheme")


class Scheme(Model):
    """The table of a scheme. Each has a key ``scheme`` with its name."""

    @abstractmethod
    def verifier(self) -> Verifier:
        """Read the secrets. Raises ConfigError(s), which name their places."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself: the bytes that were signed, the signatures, and when, where the scheme says.

    ``version`` tells signatures of several kinds apart.
    """

    signed: bytes
    signatures: Sequence[bytes]
    sent_s: int | None = None
    version: str = ""


class SecretScheme(Scheme):
    """Base of the schemes with shared secrets."""

    secrets: tuple[SigningSecret, ...] = Field(min_length=1, strict=False, description="Any of them may have signed.")

    proof_headers: ClassVar[tuple[str, ...]] = ()

    def verifier(self) -> "SecretVerifier":
        """See Scheme."""
        return SecretVerifier(self, read_keys(self.secrets, self.key))

    def key(self, secret: bytes) -> Any:
        """The key that a secret stands for. Raises ConfigError, without the secret, for one that cannot be right."""
        return secret

    @abstractmethod
    def claims(self, received: Received) -> Sequence[Claim]:
        """What the request says of itself, in a way that this scheme understands; any one may be genuine."""

    @abstractmethod
    def sign(self, key: Any, signed: bytes) -> bytes:
        """The signature of these bytes."""

    def matches(self, key: Any, claim: Claim) -> bool:
        """Whether the key made one of the claim's signatures; takes the same time whichever it is."""
        expected = self.sign(key, claim.signed)
        genuine = False
        for signature in claim.signatures:
            genuine |= hmac.compare_digest(signature, expected)
        return genuine

    def is_in_time(self, claim: Claim, now_s: float) -> bool:  # noqa: ARG002
        """Whether the claim is neither too old nor too new."""
        return True

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """See Verifier."""
        return None

    def fingerprint(self, body: Any) -> Any:
        """See Verifier."""
        return body

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """See Verifier."""
        return content_type

    @abstractmethod
    def imitate(self, key: Any, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:
        """See Verifier."""


class TimedScheme(SecretScheme):
    """Base of the schemes that sign the time, too: an old request cannot be played again."""

    tolerance_s: int = Field(300, ge=1, description="How far the sender's clock may be from ours, either way.")

    def is_in_time(self, claim: Claim, now_s: float) -> bool:
        """Within the tolerance, to either side."""
        return claim.sent_s is None or abs(now_s - claim.sent_s) <= self.tolerance_s


@dataclass(frozen=True, slots=True)
class Key:
    """One key of several: its value, what it is called, and the secret that says how long it counts."""

    value: Any
    secret: SigningSecret

    @property
    def name(self) -> str:
        """The place of the secret; never the secret."""
        return str(self.secret)


def read_keys(secrets: Sequence[SigningSecret], key: Callable[[bytes], Any]) -> list[Key]:
    """Read every secret. Raises ConfigErrors, one for each that cannot be used."""
    keys, errors = [], []
    for number, secret in enumerate(secrets):
        try:
            keys.append(Key(key(secret.read()), secret))
        except ConfigError as error:
            errors.append(ConfigError(f"verify.secrets[{number}]", error.text, error.fix))
    if errors:
        raise ConfigErrors(errors)
    return keys


class SecretVerifier(Verifier):
    """Tries every key, whatever the outcome."""

    def __init__(self, scheme: SecretScheme, keys: Sequence[Key]) -> None:
        self.scheme = scheme
        self.keys = keys
        self.proof_headers = scheme.proof_headers

    async def verify(self, received: Received, now_s: float) -> str | None:
        """See Verifier."""
        claims = [claim for claim in self.scheme.claims(received) if self.scheme.is_in_time(claim, now_s)]
        matched = None
        for key in self.keys:
            for claim in claims:
                genuine = self.scheme.matches(key.value, claim)
                if genuine and key.secret.is_valid(now_s):
                    matched = key.name
        return matched

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:
        """See Verifier."""
        return self.scheme.delivery_id(headers, body)

    def fingerprint(self, body: Any) -> Any:
        """See Verifier."""
        return self.scheme.fingerprint(body)

    def media_type(self, content_type: str, raw: bytes) -> str:
        """See Verifier."""
        return self.scheme.media_type(content_type, raw)

    def imitate(self, body: bytes, content_type: str, now_s: int, message_id: str) -> Outgoing:
        """See Verifier; with the newest of the keys that count."""
        valid = [key for key in self.keys if key.secret.is_valid(now_s)]
        if not valid:
            raise ConfigError("verify.secrets", "none of the secrets counts any longer")
        outgoing = self.scheme.imitate(valid[-1].value, body, content_type, now_s, message_id)
        outgoing.headers.setdefault("content-type", content_type)
        return outgoing


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def as_bytes(text: str) -> bytes:
    """What stood on the wire: headers that are not UTF-8 arrive with their bytes escaped."""
    return text.encode("utf-8", "surrogateescape")


def unix_seconds(text: str) -> int | None:
    """Unix time as digits; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def instant_s(text: str) -> float | None:
    """The seconds since the epoch of an ISO-8601 instant with its zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return None


def hex_hmac(key: bytes, signed: bytes, algorithm: str = "sha256") -> bytes:
    """An HMAC in lower-case hexadecimal."""
    return binascii.hexlify(hmac.digest(key, signed, algorithm))


def base64_hmac(key: bytes, signed: bytes, algorithm: str = "sha256") -> bytes:
    """An HMAC in base64."""
    return base64.b64encode(hmac.digest(key, signed, algorithm))


def is_same_secret(given: bytes, expected: bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of either, not even its length."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def after_prefix(header: str, prefix: str) -> list[bytes]:
    """The one signature of a header of the form ``prefix`` and digits in hexadecimal of either case."""
    return [as_bytes(header[len(prefix) :].lower())] if header.startswith(prefix) else []


def text_member(body: Any, name: str) -> str | None:
    """A member of a JSON object that is text and not empty."""
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) and value else None


def without_member(body: Any, name: str) -> Any:
    """The body without a member that changes from attempt to attempt."""
    return {key: value for key, value in body.items() if key != name} if isinstance(body, dict) else body


def absolute_url(url: str) -> str:
    """Check the URL that a sender knows: absolute, without a query. Raises ValueError."""
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise ValueError(
            "write the URL that the sender knows, as https://hooks.example.com/hooks/name, without a query"
        )
    return url
