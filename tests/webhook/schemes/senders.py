"""What senders send, signed by their own libraries where there are any, and a source that receives it."""

import base64
import hmac
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import jwt
import pytest
import standardwebhooks
import stripe
import svix.webhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from lhd.plugin import ConfigError, ConfigErrors, Transient
from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook, WebhookConfig

NOW_S = 1_700_000_000
NO_TIMES = ("", "x", "nan", "inf", "1e9", "-1", f"{NOW_S}.0", "1_7", "9" * 20, "9" * 5000, "\uff11" + "\uff10" * 9)
"""What is no Unix time, though some library may take it for one."""
FIRST, SECOND = "env 'SECRET_1'", "env 'SECRET_2'"
"""What a verifier calls the secrets that :func:`webhook` gives it."""

REFUSED = (ValueError, ConfigError, ConfigErrors)
"""What a table that cannot be used makes raise: by its shape, or by what it names."""

KEY, OTHER_KEY = "It's a Secret to Everybody", "another"
TOKEN = "mF_9.B5f-4.1JqM"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_WHSEC = "whsec_" + base64.b64encode(b"another key of 24 bytes!").decode()
PUBLIC_URL = "https://hooks.example.com/hooks/x"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def table_of(verify: Mapping[str, Any], *secrets: str | bytes) -> dict[str, Any]:
    """The table ``verify`` with as many secrets."""
    named = {"secrets": [{"env": f"SECRET_{number}"} for number in range(1, len(secrets) + 1)]} if secrets else {}
    return {**verify, **named}


def set_secrets(environment: pytest.MonkeyPatch, *secrets: str | bytes) -> None:
    """Put them where :func:`table_of` says that they are."""
    for number, secret in enumerate(secrets, 1):
        environment.setenv(f"SECRET_{number}", secret if isinstance(secret, str) else os.fsdecode(secret))


def webhook(verify: Mapping[str, Any], *secrets: str | bytes) -> Webhook:
    """A source that verifies like this, prepared."""
    table = {"kind": "webhook", "path": "/hooks/x", "verify": table_of(verify, *secrets)}
    with pytest.MonkeyPatch.context() as environment:
        set_secrets(environment, *secrets)
        source = Webhook(WebhookConfig.model_validate(table))
        source.prepare()
    return source


def reaching(source: Webhook, fetch: Callable[[str], Awaitable[bytes]]) -> Webhook:
    """The source, whose verifier fetches by this."""
    source.verifier.fetch = fetch  # type: ignore[attr-defined] # that of SNS only
    return source


async def matched(source: Webhook, received: Received, now_s: int = NOW_S) -> str | None:
    """The name of the secret that verifies the request, or None."""
    return await source.verifier.verify(received, now_s)


async def cannot_be_verified(source: Webhook, received: Received, now_s: int = NOW_S) -> bool:
    """Whether the request is not believed, or cannot be judged just now."""
    try:
        return await matched(source, received, now_s) is None
    except Transient:
        return True


def changed(received: Received, **headers: str | None) -> Received:
    """The request with other headers (``_`` stands for ``-``); None takes one away."""
    new = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = {name: value for name, value in received.headers.items() if name not in new}
    return replace(received, headers=kept | {name: value for name, value in new.items() if value is not None})


def mac(key: str | bytes, signed: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(key.encode() if isinstance(key, str) else key, signed, algorithm).digest()


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# The senders


def github(key: str | bytes = KEY, body: bytes = b'{"ref": "main"}') -> Received:
    signature = "sha256=" + mac(key, body).hex()
    return Received({**JSON, "x-github-delivery": "72d3162e-cc78-11e3", "x-hub-signature-256": signature}, body)


META = {"scheme": "meta", "verify_token": {"env": "SECRET_1"}}


def meta(key: str = KEY, body: bytes = b'{"object": "page", "entry": []}') -> Received:
    return Received({**JSON, "x-hub-signature-256": "sha256=" + mac(key, body).hex()}, body)


def gitlab(key: str = TOKEN, body: bytes = b'{"object_kind": "push"}') -> Received:
    return Received({**JSON, "x-gitlab-token": key, "x-gitlab-event-uuid": "uuid-1", "idempotency-key": "key-1"}, body)


def standard_webhooks(
    secret: str = WHSEC, sent_s: int = NOW_S, body: str = '{"test": 2432232314}', *, msg_id: str = "msg_1"
) -> Received:
    signature = standardwebhooks.Webhook(secret).sign(msg_id, datetime.fromtimestamp(sent_s, UTC), body)
    headers = {"webhook-id": msg_id, "webhook-timestamp": str(sent_s), "webhook-signature": signature}
    return Received({**JSON, **headers}, body.encode())


def svix_named(secret: str = WHSEC, sent_s: int = NOW_S) -> Received:
    body = '{"type": "user.created"}'
    signature = svix.webhooks.Webhook(secret).sign("msg_1", datetime.fromtimestamp(sent_s, UTC), body)
    headers = {"svix-id": "msg_1", "svix-timestamp": str(sent_s), "svix-signature": signature}
    return Received({**JSON, **headers}, body.encode())


ED25519, OTHER_ED25519 = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"\1", b"\2"))


def whpk(key: Ed25519PrivateKey) -> str:
    return "whpk_" + base64_of(key.public_key().public_bytes_raw())


def asymmetric(key: Ed25519PrivateKey = ED25519, sent_s: int = NOW_S, body: bytes = b'{"test": 1}') -> Received:
    signature = "v1a," + base64_of(key.sign(f"msg_1.{sent_s}.".encode() + body))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(sent_s), "webhook-signature": signature}
    return Received({**JSON, **headers}, body)


def stripe_event(secret: str = KEY, sent_s: int = NOW_S, body: str = '{"id": "evt_1", "object": "event"}') -> Received:
    header = stripe.WebhookSignature.generate_signature_header(body, secret, sent_s)
    return Received({**JSON, "stripe-signature": header}, body.encode())


def slack(
    secret: str = KEY, sent_s: int = NOW_S, body: str = '{"type": "event_callback", "event_id": "Ev1"}'
) -> Received:
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(sent_s), body=body)
    return Received(
        {**JSON, "x-slack-request-timestamp": str(sent_s), "x-slack-signature": signature or ""}, body.encode()
    )


def shopify(key: str = KEY, body: bytes = b'{"id": 820982911946154508}', *, prefix: str = "x-") -> Received:
    signature = base64_of(mac(key, body))
    headers = {f"{prefix}shopify-hmac-sha256": signature, f"{prefix}shopify-webhook-id": "b54557e4"}
    return Received({**JSON, **headers}, body)


DOCUSIGN_BODY = b"""{"event": "envelope-completed", "generatedDateTime": "2026-01-31T10:00:00.000Z",
 "data": {"accountId": "a1", "envelopeId": "e1"}}\r\n"""


DOCUSIGN_ID = ("envelope-completed", "e1", "2026-01-31T10:00:00.000Z")


def docusign(key: str = KEY, body: bytes = DOCUSIGN_BODY) -> Received:
    foreign = base64_of(mac("a key that was made for somebody else", body))
    headers = {"x-docusign-signature-1": foreign, "x-docusign-signature-2": base64_of(mac(key, body))}
    return Received({**JSON, **headers}, body)


def twilio_form(token: str = KEY, *, url: str = PUBLIC_URL, query: str = "foo=1&bar=2", **fields: str) -> Received:
    fields = fields or {"CallSid": "CA1", "From": "+14158675309", "Digits": "12 34"}
    signature = RequestValidator(token).compute_signature(f"{url}?{query}" if query else url, fields)
    headers = {"x-twilio-signature": signature, "i-twilio-idempotency-token": "token-1"}
    return Received({**FORM, **headers}, urlencode(fields).encode(), query)


def twilio_json(token: str = KEY, *, body: str = '{"a": 1}') -> Received:
    query = "foo=1&bodySHA256=" + RequestValidator(token).compute_hash(body)
    signature = RequestValidator(token).compute_signature(f"{PUBLIC_URL}?{query}", {})
    headers = {"x-twilio-signature": signature, "i-twilio-idempotency-token": "token-1"}
    return Received({**JSON, **headers}, body.encode(), query)


TOPIC = "arn:aws:sns:us-east-1:123456789012:orders"
SNS_HOST = "https://sns.us-east-1.amazonaws.com"
CERTIFICATE_URL = f"{SNS_HOST}/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = f"{SNS_HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
SIGNED_BY_SNS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


@cache
def rsa_key(name: str = "SNS") -> rsa.RSAPrivateKey:
    """A key of this name's owner."""
    return rsa.generate_private_key(65537, 2048)


@cache
def sns_certificate(name: str = "SNS", *, ends_s: int = NOW_S + 10**9) -> bytes:
    """The certificate of :func:`rsa_key`, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(rsa_key(name).public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW_S, UTC) - timedelta(days=365))
        .not_valid_after(datetime.fromtimestamp(ends_s, UTC))
    )
    return builder.sign(rsa_key(name), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def sns_message(key: str = "SNS", sent_s: int = NOW_S, *, kind: str = "Notification", **members: Any) -> dict[str, Any]:
    """A message, signed with its changed ``members``; those that are None are left out."""
    sent = datetime.fromtimestamp(sent_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    of_type = (
        {"Subject": "A subject"} if kind == "Notification" else {"SubscribeURL": SUBSCRIBE_URL, "Token": "2336412f37"}
    )
    message = {
        "Type": kind,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": '{"order": 17}\ngrüße',
        "Timestamp": sent,
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        **of_type,
        **members,
    }
    message = {name: value for name, value in message.items() if value is not None}
    signed = "".join(f"{name}\n{message[name]}\n" for name in SIGNED_BY_SNS[kind] if name in message)
    digest = hashes.SHA1() if message.get("SignatureVersion") == "1" else hashes.SHA256()
    return {**message, "Signature": base64_of(rsa_key(key).sign(signed.encode(), padding.PKCS1v15(), digest))}


def as_sns_sends(message: Any) -> Received:
    """The request that carries the message."""
    kind = message.get("Type", "") if isinstance(message, dict) else ""
    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": str(kind)}
    return Received(headers, json.dumps(message).encode())


def sns(key: str = "SNS", sent_s: int = NOW_S, **members: Any) -> Received:
    return as_sns_sends(sns_message(key, sent_s, **members))


async def fetch_certificate(url: str) -> bytes:
    """What an SNS host answers; whoever asks another one has been tricked."""
    place = urlsplit(url)
    assert re.fullmatch(r"sns\.[a-zA-Z0-9-]{3,}\.amazonaws\.com(\.cn)?", place.netloc), url
    assert place.scheme == "https"
    return sns_certificate()


def microsoft_graph(key: Any = KEY, *others: Any) -> Received:
    notifications = [
        {"subscriptionId": "s1", "clientState": state, "changeType": "created"} for state in (key, *others)
    ]
    return Received(JSON, json.dumps({"value": notifications}).encode())


TEMPLATE = {
    "scheme": "hmac",
    "header": "X-Signature",
    "prefix": "v7=",
    "algorithm": "sha512",
    "encoding": "base64url",
    "signed": "{timestamp}|{id}|{url}|{raw}",
    "timestamp_header": "X-Timestamp",
    "id_header": "X-Delivery",
    "public_url": PUBLIC_URL,
}


def templated(key: str = KEY, sent_s: int = NOW_S) -> Received:
    query, body = "a=1&b=2", b'{"n": 1}'
    signed = f"{sent_s}|d-1|{PUBLIC_URL}?{query}|".encode() + body
    signature = base64.urlsafe_b64encode(mac(key, signed, "sha512")).decode()
    headers = {"x-timestamp": str(sent_s), "x-delivery": "d-1", "x-signature": f"v7={signature}"}
    return Received({**JSON, **headers}, body, query)


def plain_hmac(key: str = KEY, body: bytes = b"{}") -> Received:
    return Received({**JSON, "x-signature": mac(key, body).hex()}, body)


def basic(password: str = KEY, user: str = "Aladdin") -> Received:
    return Received({**JSON, "authorization": aiohttp.encode_basic_auth(user, password)}, b"{}")


def bearer(token: str = TOKEN) -> Received:
    return Received({**JSON, "authorization": f"Bearer {token}"}, b"{}")


def api_key(token: str = TOKEN) -> Received:
    return Received({**JSON, "x-api-key": f"key {token}"}, b"{}")


AUDIENCE, ISSUER = "lhd", "https://issuer.example"
JWT = {"scheme": "jwt", "jwks_file": "", "algorithms": ["RS256"], "audience": AUDIENCE, "issuer": ISSUER}


def public_jwk(name: str = "JWT", *, kid: str = "k1") -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key())), "kid": kid, "use": "sig"}


def bearing(token: str) -> Received:
    return Received({**JSON, "authorization": f"Bearer {token}"}, b"{}")


def claims(sent_s: int = NOW_S, **changes: Any) -> dict[str, Any]:
    """What a token says; changes that are None are left out."""
    said = {"aud": AUDIENCE, "iss": ISSUER, "exp": sent_s + 600, **changes}
    return {name: value for name, value in said.items() if value is not None}


def token(said: Mapping[str, Any], key: str = "JWT", *, kid: str = "k1") -> str:
    return jwt.api_jws.encode(json.dumps(said).encode(), rsa_key(key), "RS256", {"kid": kid})


def signed_token(key: str = "JWT", sent_s: int = NOW_S) -> Received:
    return bearing(token(claims(sent_s), key))


def client(*common_names: str, dns: tuple[str, ...] = (), uris: tuple[str, ...] = ()) -> Received:
    """A request of a client with this certificate, as the ssl module tells of it."""
    names = tuple(("DNS", name) for name in dns) + tuple(("URI", uri) for uri in uris)
    subject = ((("organizationName", "An organisation"),), *(((("commonName", name)),) for name in common_names))
    return Received(JSON, b"{}", certificate={"subject": subject, "subjectAltName": names})
