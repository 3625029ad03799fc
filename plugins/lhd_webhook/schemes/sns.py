"""Amazon SNS: the message in the body is signed with a key whose certificate it names.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import anyio
import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from pydantic import Field, field_validator

from lhd.plugin import Transient
from lhd_webhook.schemes.fetching import Fetch, fetch
from lhd_webhook.schemes.scheme import (
    JSON,
    Answer,
    DeliveryId,
    Headers,
    Received,
    Scheme,
    Verifier,
    instant_s,
    text_member,
)

_HOST = r"https://sns\.[a-z]{2}(-[a-z]+)+-[0-9]+\.amazonaws\.com(\.cn)?"
_CERTIFICATE_URL = re.compile(_HOST + r"/SimpleNotificationService-[0-9a-f]+\.pem")
"""Nothing else there may be asked for: other answers of AWS can hold what a stranger has written."""
_SUBSCRIBE_URL = re.compile(_HOST + r"/\?[!-~]+")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+")
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_HASHES: dict[str, SHA1 | SHA256] = {"1": SHA1(), "2": SHA256()}
_CERTIFICATES_MAX = 16
_FETCHES_PER_MINUTE = 10


class SnsScheme(Scheme):
    """Amazon SNS; a message of any other topic than those named is refused."""

    scheme: Literal["sns"]
    topics: tuple[str, ...] = Field(min_length=1, strict=False, description="The ARNs of the topics.")
    tolerance_s: int = Field(7200, ge=1, description="How old a message may be; SNS tries again for an hour.")

    @field_validator("topics")
    @classmethod
    def _arns(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            if not _TOPIC.fullmatch(topic):
                raise ValueError(
                    f"'{topic}' is not the ARN of a topic, as arn:aws:sns:eu-central-1:123456789012:orders"
                )
        return topics

    def verifier(self) -> "SnsVerifier":
        """See Scheme."""
        return SnsVerifier(self)


class SnsVerifier(Verifier):
    """Keeps the certificates that messages name; asks nobody but SNS hosts of AWS, over HTTPS."""

    def __init__(self, scheme: SnsScheme) -> None:
        self.fetch: Fetch = fetch
        self._scheme = scheme
        self._certificates: dict[str, x509.Certificate] = {}
        self._fetched_s: list[float] = []
        self._fetching = anyio.Lock()

    async def verify(self, received: Received, now_s: float) -> str | None:
        """See Verifier; the topic. Raises Transient where the certificate cannot be fetched."""
        message = _message(received.body)
        if message is None or message.get("TopicArn") not in self._scheme.topics:
            return None
        sent_s = instant_s(message.get("Timestamp", ""))
        if sent_s is None or abs(now_s - sent_s) > self._scheme.tolerance_s:
            return None
        url, signature = message.get("SigningCertURL", ""), _signature(message)
        if signature is None or not _CERTIFICATE_URL.fullmatch(url):
            return None
        certificate = self._certificates.get(url)
        if certificate is None:
            async with self._fetching:
                certificate = await self._certificate(url, now_s)
        if certificate is None or not _is_signed(message, signature, certificate, now_s):
            return None
        return message["TopicArn"]

    async def _certificate(self, url: str, now_s: float) -> x509.Certificate | None:
        """TLS has shown whose it is, since it comes from a host of AWS; a chain of its own would add nothing."""
        if (known := self._certificates.get(url)) is not None:
            return known
        self._fetched_s = [at for at in self._fetched_s if 0 <= now_s - at < 60]
        if len(self._fetched_s) >= _FETCHES_PER_MINUTE:
            raise Transient("too many certificates are asked for", 60)
        self._fetched_s.append(now_s)
        try:
            certificate = x509.load_pem_x509_certificate(await self.fetch(url))
        except ValueError:
            return None
        if len(self._certificates) >= _CERTIFICATES_MAX:
            self._certificates.pop(next(iter(self._certificates)))
        self._certificates[url] = certificate
        return certificate

    def delivery_id(self, headers: Headers, body: Any) -> DeliveryId:  # noqa: ARG002
        """``MessageId``, which the signature covers."""
        return text_member(body, "MessageId")

    def media_type(self, content_type: str, raw: bytes) -> str:  # noqa: ARG002
        """SNS calls its messages text."""
        return JSON

    def bodies(self, body: Any) -> list[Any]:
        """What is signed of a message, no more; one that is a JSON object or array in text is one for routes, too."""
        signed = {name: body[name] for name in _SIGNED.get(text_member(body, "Type") or "", ()) if name in body}
        message = text_member(body, "Message")
        if message is not None and message[0] in "{[":
            with suppress(orjson.JSONDecodeError):
                signed["Message"] = orjson.loads(message)
        return [signed]

    async def confirm(self, body: Any) -> Answer | None:
        """Visit the ``SubscribeURL`` of a verified confirmation. Raises Transient where SNS cannot be asked."""
        if text_member(body, "Type") != "SubscriptionConfirmation":
            return None
        url = body["SubscribeURL"]
        if not _SUBSCRIBE_URL.fullmatch(url) or parse_qs(urlsplit(url).query).get("Action") != ["ConfirmSubscription"]:
            return Answer(status=401)
        await self.fetch(url)
        return Answer()


def _message(body: bytes) -> Mapping[str, str] | None:
    """The members of a message that are text, which all that is signed has to be."""
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    message = {name: value for name, value in members.items() if isinstance(value, str)}
    needed = set(_SIGNED.get(message.get("Type", ""), ("?",))) - {"Subject"}
    is_sound = needed <= message.keys() and (members.get("Subject") is None or "Subject" in message)
    # What is signed has members in lines, so a line break in one could shift what follows.
    is_plain = not any("\n" in message.get(name, "") for name in {*needed, "Subject"} - {"Message"})
    return message if is_sound and is_plain else None


def _signature(message: Mapping[str, str]) -> bytes | None:
    try:
        return base64.b64decode(message.get("Signature", "").encode("utf-8", "replace"), validate=True)
    except binascii.Error:
        return None


def _is_signed(message: Mapping[str, str], signature: bytes, certificate: x509.Certificate, now_s: float) -> bool:
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    algorithm, key = _HASHES.get(message.get("SignatureVersion", "")), certificate.public_key()
    if algorithm is None or not isinstance(key, RSAPublicKey) or not begins <= now_s <= ends:
        return False
    names = [name for name in _SIGNED[message["Type"]] if name in message]
    signed = "".join(f"{name}\n{message[name]}\n" for name in names).encode("utf-8", "surrogatepass")
    try:
        key.verify(signature, signed, PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True
