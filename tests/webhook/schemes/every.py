"""Every kind of sender, each with one genuine request, for what holds for all schemes."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes import senders
from tests.webhook.schemes.senders import (
    KEY,
    OTHER_KEY,
    OTHER_WHSEC,
    PUBLIC_URL,
    SIGNED_BY_SNS,
    TOKEN,
    WHSEC,
)

# What of a request its sender vouches for


def of_body(received: Received) -> Any:
    return received.body


def of_headers(*names: str) -> Callable[[Received], Any]:
    """These headers, and the body."""
    return lambda received: ([received.headers.get(name, "").strip() for name in names], received.body)


def of_url_and_headers(*names: str) -> Callable[[Received], Any]:
    return lambda received: (received.query, of_headers(*names)(received))


def of_token(name: str) -> Callable[[Received], Any]:
    """The last word of a header and nothing else."""
    return lambda received: received.headers.get(name, "").split()[-1:]


def of_form(received: Received) -> Any:
    text = received.body.decode("utf-8", "surrogateescape")
    fields = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    return "".join(name + value for name, value in sorted(set(fields))), received.query


def of_sns(received: Received) -> Any:
    message = json.loads(received.body)
    return {name: message.get(name) for name in SIGNED_BY_SNS[message["Type"]]}


def of_states(received: Received) -> Any:
    return {notification["clientState"] for notification in json.loads(received.body)["value"]}


def of_credentials(received: Received) -> Any:
    return base64.b64decode(received.headers["authorization"].split()[-1])


def of_claims(received: Received) -> Any:
    return received.headers["authorization"].split()[-1].rpartition(".")[0]


def of_certificate(received: Received) -> Any:
    return "client.example" in json.dumps(received.certificate)


@dataclass(frozen=True)
class Sender:
    """One kind of sender: ``send`` makes its request with ``key``, of which ``secret`` is the receiver's half."""

    name: str
    table: Mapping[str, Any]
    send: Callable[[Any, int], Received]
    key: Any = KEY
    other_key: Any = OTHER_KEY
    secret: str | None = KEY
    id: str | tuple[str, ...] | None = None
    tolerance_s: int | None = None
    vouched: Callable[[Received], Any] = field(default=of_body)

    def __str__(self) -> str:
        return self.name

    @property
    def secrets(self) -> tuple[str, ...]:
        return () if self.secret is None else (self.secret,)

    @property
    def other_secret(self) -> str:
        return self.other_key if isinstance(self.other_key, str) else senders.whpk(self.other_key)

    def verify(self, folder: Path) -> dict[str, Any]:
        """The table ``verify`` for it, without the secrets; its files are in the folder."""
        if "jwks_file" not in self.table:
            return dict(self.table)
        file = folder / "jwks.json"
        file.write_text(json.dumps({"keys": [senders.public_jwk()]}))
        return {**self.table, "jwks_file": str(file)}

    def open(self, folder: Path) -> Webhook:
        """The source that it sends to, prepared."""
        source = senders.webhook(self.verify(folder), *self.secrets)
        return senders.reaching(source, senders.fetch_certificate) if self.table["scheme"] == "sns" else source


def _timeless(send: Callable[[Any], Received]) -> Callable[[Any, int], Received]:
    return lambda key, _: send(key)


_BEARER = Sender(
    "bearer",
    {"scheme": "bearer"},
    _timeless(senders.bearer),
    key=TOKEN,
    secret=TOKEN,
    vouched=of_token("authorization"),
)
_STANDARD = Sender(
    "standard-webhooks",
    {"scheme": "standard-webhooks"},
    senders.standard_webhooks,
    key=WHSEC,
    other_key=OTHER_WHSEC,
    secret=WHSEC,
    id="msg_1",
    tolerance_s=300,
)
_TWILIO = Sender(
    "twilio, a form",
    {"scheme": "twilio", "public_url": PUBLIC_URL},
    _timeless(senders.twilio_form),
    id="token-1",
    vouched=of_form,
)
_SNS = Sender(
    "sns",
    {"scheme": "sns", "topics": [senders.TOPIC]},
    senders.sns,
    key="SNS",
    other_key="a stranger",
    secret=None,
    id="22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    tolerance_s=7200,
    vouched=of_sns,
)

SENDERS = (
    Sender("github", {"scheme": "github"}, _timeless(senders.github), id="72d3162e-cc78-11e3"),
    Sender("meta", senders.META, _timeless(senders.meta)),
    replace(
        _BEARER,
        name="gitlab",
        table={"scheme": "gitlab"},
        send=_timeless(senders.gitlab),
        id="key-1",
        vouched=of_token("x-gitlab-token"),
    ),
    replace(_STANDARD, name="gitlab, signed", table={"scheme": "gitlab", "signed": True}),
    Sender("stripe", {"scheme": "stripe"}, senders.stripe_event, id="evt_1", tolerance_s=300),
    Sender(
        "slack",
        {"scheme": "slack"},
        senders.slack,
        id="Ev1",
        tolerance_s=300,
        vouched=of_headers("x-slack-request-timestamp"),
    ),
    Sender("shopify", {"scheme": "shopify"}, _timeless(senders.shopify), id="b54557e4"),
    _TWILIO,
    replace(_TWILIO, name="twilio, json", send=_timeless(senders.twilio_json), vouched=of_url_and_headers()),
    Sender("docusign", {"scheme": "docusign"}, _timeless(senders.docusign), id=senders.DOCUSIGN_ID),
    _STANDARD,
    replace(_STANDARD, name="svix", send=senders.svix_named),
    replace(
        _STANDARD,
        name="v1a",
        send=senders.asymmetric,
        key=senders.ED25519,
        other_key=senders.OTHER_ED25519,
        secret=senders.whpk(senders.ED25519),
    ),
    _SNS,
    replace(_SNS, name="sns, version 1", send=lambda key, sent_s: senders.sns(key, sent_s, SignatureVersion="1")),
    Sender("microsoft-graph", {"scheme": "microsoft-graph"}, _timeless(senders.microsoft_graph), vouched=of_states),
    Sender("hmac", {"scheme": "hmac", "header": "X-Signature"}, _timeless(senders.plain_hmac)),
    Sender(
        "hmac, templated",
        senders.TEMPLATE,
        senders.templated,
        id="d-1",
        tolerance_s=300,
        vouched=of_url_and_headers("x-timestamp", "x-delivery"),
    ),
    Sender("basic", {"scheme": "basic", "user": "Aladdin"}, _timeless(senders.basic), vouched=of_credentials),
    _BEARER,
    replace(
        _BEARER,
        name="bearer, other header",
        table={"scheme": "bearer", "header": "X-Api-Key", "prefix": "key "},
        send=_timeless(senders.api_key),
        vouched=of_token("x-api-key"),
    ),
    Sender(
        "jwt",
        senders.JWT,
        senders.signed_token,
        key="JWT",
        other_key="a stranger",
        secret=None,
        vouched=of_claims,
    ),
    Sender(
        "mtls",
        {"scheme": "mtls", "subjects": ["client.example"]},
        _timeless(senders.client),
        key="client.example",
        other_key="other.example",
        secret=None,
        vouched=of_certificate,
    ),
)
