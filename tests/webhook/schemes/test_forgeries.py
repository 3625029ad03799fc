"""What a stranger could make of a genuine request by changing what no signature covers; and what it would cost."""

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from lhd.plugin import Transient
from lhd_webhook.refusal import Refused
from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook, WebhookConfig

NOW_S = 1_700_000_000
SECRET = "whsec_" + "QUJD" * 8
TOPIC = "arn:aws:sns:us-east-1:123456789012:orders"


def source(monkeypatch: pytest.MonkeyPatch, verify: dict[str, Any], **keys: Any) -> Webhook:
    monkeypatch.setenv("S", SECRET)
    made = Webhook(WebhookConfig.model_validate({"kind": "webhook", "path": "/x", "verify": verify, **keys}))
    made.prepare()
    return made


def with_secret(scheme: str, **keys: Any) -> dict[str, Any]:
    return {"scheme": scheme, "secrets": [{"env": "S"}], **keys}


def identity(source: Webhook, raw: bytes, **headers: str) -> Any:
    (event,) = source.decode(raw, {name.replace("_", "-"): value for name, value in headers.items()}, {})
    return event.id


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
@pytest.mark.parametrize(
    ("scheme", "body"),
    [
        ("stripe", {"id": "evt_1"}),
        ("slack", {"event_id": "Ev1"}),
        ("docusign", {"event": "e", "generatedDateTime": "t", "data": {"envelopeId": "v"}}),
    ],
)
def test_another_media_type_does_not_change_the_identity(
    monkeypatch: pytest.MonkeyPatch, scheme: str, body: Any, media_type: str
) -> None:
    there = source(monkeypatch, with_secret(scheme))
    raw = orjson.dumps(body)
    assert identity(there, raw, content_type=media_type) == identity(there, raw, content_type="application/json")


@pytest.mark.parametrize("form", [b"B=2&A=1", b"A=%31&B=2", b"A=1&B=2&A=1"])
def test_a_form_of_twilio_that_is_written_otherwise_has_the_same_fingerprint(
    monkeypatch: pytest.MonkeyPatch, form: bytes
) -> None:
    there = source(monkeypatch, with_secret("twilio", public_url="https://a.example/x"))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    (event,), (same,) = (there.decode(one, headers, {}) for one in (b"A=1&B=2", form))
    assert event.fingerprint == same.fingerprint is not None


async def test_gitlab_takes_no_other_names_of_its_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    there = source(monkeypatch, with_secret("gitlab", signed=True))
    genuine = there.verifier.imitate(b"{}", "application/json", NOW_S, "m").headers
    renamed = {name.replace("webhook-", "svix-"): value for name, value in genuine.items()}
    assert await there.verifier.verify(Received(genuine, b"{}"), NOW_S)
    assert await there.verifier.verify(Received(renamed, b"{}"), NOW_S) is None


async def test_more_signatures_than_anybody_needs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    there = source(monkeypatch, with_secret("standard-webhooks"))
    headers = there.verifier.imitate(b"{}", "application/json", NOW_S, "m").headers
    few = {**headers, "webhook-signature": headers["webhook-signature"] + " v1,x" * 15}
    many = {**headers, "webhook-signature": headers["webhook-signature"] + " v1,x" * 16}
    assert await there.verifier.verify(Received(few, b"{}"), NOW_S)
    assert await there.verifier.verify(Received(many, b"{}"), NOW_S) is None


def test_attributes_in_headers_are_no_cloudevent_where_only_the_body_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = source(monkeypatch, with_secret("github"), cloudevents=True)
    headers = {"ce-specversion": "1.0", "ce-id": "x1", "ce-source": "s", "ce-type": "t"}
    with pytest.raises(Refused) as refused:
        there.decode(b"{}", headers, {})
    assert refused.value.status == 415


async def test_the_separator_in_a_query_cannot_shift_what_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    verify = with_secret("hmac", header="x-s", signed="{url}.{raw}", public_url="https://a.example/x")
    there = source(monkeypatch, verify)
    mac = hmac.new(SECRET.encode(), b'https://a.example/x?v=1.{"x":1.5}', hashlib.sha256).hexdigest()
    assert await there.verifier.verify(Received({"x-s": mac}, b'{"x":1.5}', "v=1"), NOW_S)
    assert await there.verifier.verify(Received({"x-s": mac}, b"5}", 'v=1.{"x":1'), NOW_S) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.us-east-1.amazonaws.com/x.pem?Action=GetEndpointAttributes",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem?x",
        "https://sns.us-east-1.amazonaws.com/other/SimpleNotificationService-0a.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-0a.pem",
        "https://sns.us-east-1.amazonaws.com.example/SimpleNotificationService-0a.pem",
    ],
)
async def test_nothing_but_the_certificates_of_sns_is_asked_for(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    there = source(monkeypatch, {"scheme": "sns", "topics": [TOPIC]})
    asked: list[str] = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return b""

    there.verifier.fetch = fetch  # type: ignore[attr-defined]
    message = {
        "Type": "Notification",
        "MessageId": "m",
        "TopicArn": TOPIC,
        "Message": "x",
        "Timestamp": "2023-11-14T22:13:20.000Z",
        "SignatureVersion": "2",
        "Signature": "AAAA",
    }
    for tried in (url, "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem"):
        body = orjson.dumps({**message, "SigningCertURL": tried})
        assert await there.verifier.verify(Received({}, body), NOW_S) is None
    assert asked == ["https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem"]


async def test_while_the_keys_of_a_provider_cannot_be_had_nobody_is_told_401(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"jwks_url": "https://id.example/jwks", "algorithms": ["RS256"], "audience": "lhd"}
    there = source(monkeypatch, {"scheme": "jwt", **keys})

    async def fetch(url: str) -> bytes:
        raise Transient("down")

    there.verifier.fetch = fetch  # type: ignore[attr-defined]
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.AAAA"
    for later_s in (0, 1, 59, 61):
        with pytest.raises(Transient):
            await there.verifier.verify(Received({"authorization": f"Bearer {token}"}), NOW_S + later_s)
