"""Amazon SNS. Its pages show no message with a signature that verifies, so the messages here are signed as they say.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
"""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lhd.engine import Engine
from lhd.plugin import Transient
from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.door import Door
from tests.webhook.schemes.doorway import deliver, open_for
from tests.webhook.schemes.senders import (
    CERTIFICATE_URL,
    NOW_S,
    REFUSED,
    SIGNED_BY_SNS,
    SUBSCRIBE_URL,
    TOPIC,
    as_sns_sends,
    cannot_be_verified,
    matched,
    reaching,
    rsa_key,
    sns,
    sns_certificate,
    sns_message,
    webhook,
)

OTHER_TOPIC = TOPIC.replace("orders", "others")
KINDS = tuple(SIGNED_BY_SNS)
SNS = {"scheme": "sns", "topics": [TOPIC]}


class Aws:
    """Everything that is reached by URL, and who asked for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: bytes | Exception = sns_certificate()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await anyio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
def source(aws: Aws) -> Webhook:
    return reaching(webhook(SNS), aws.fetch)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_message_is_verified_in_both_versions(source: Webhook, kind: str, version: str) -> None:
    assert await matched(source, sns(kind=kind, SignatureVersion=version))
    assert await matched(source, sns("a stranger", kind=kind, SignatureVersion=version)) is None


async def test_a_message_may_have_no_subject(source: Webhook) -> None:
    assert await matched(source, sns(Subject=None))


@pytest.mark.parametrize("member", sorted({name for names in SIGNED_BY_SNS.values() for name in names}))
@pytest.mark.parametrize("kind", KINDS)
async def test_no_signed_member_can_be_changed_taken_away_or_added(source: Webhook, kind: str, member: str) -> None:
    genuine = sns_message(kind=kind)
    tampered: list[Any] = ["x", "", 5, None, [], {}, "\ud800", str(genuine.get(member)) + " "]
    if member in SIGNED_BY_SNS[kind]:
        for value in tampered:
            assert await matched(source, as_sns_sends({**genuine, member: value})) is None, value
    genuine.pop(member, None)
    name = await matched(source, as_sns_sends(genuine))
    assert (name is None) is (member in SIGNED_BY_SNS[kind])


@pytest.mark.parametrize("kind", [*KINDS, "Other", ""])
async def test_a_message_of_one_kind_is_none_of_another(source: Webhook, kind: str) -> None:
    for signed in KINDS:
        if signed != kind:
            both = {**sns_message(kind="SubscriptionConfirmation"), **sns_message(kind=signed)}
            assert await matched(source, as_sns_sends({**both, "Type": kind})) is None


async def test_newlines_cannot_shift_text_from_one_member_into_another(source: Webhook) -> None:
    genuine = sns_message(Message="pay 1\nMessageId\n17", Subject="ok")
    shifted = {**genuine, "Message": "pay 1", "MessageId": f"17\nMessageId\n{genuine['MessageId']}"}
    assert await matched(source, as_sns_sends(genuine))
    assert await matched(source, as_sns_sends(shifted)) is None
    subject = sns_message(Subject="x\nTimestamp\n1970-01-01T00:00:00.000Z")
    grown = {**subject, "MessageId": f"{subject['MessageId']}\nSubject\n{subject['Subject']}"}
    del grown["Subject"]
    assert await matched(source, as_sns_sends(grown)) is None


@pytest.mark.parametrize("member", ["UnsubscribeURL", "MessageAttributes"])
async def test_what_is_not_signed_is_not_believed_but_does_no_harm(source: Webhook, member: str) -> None:
    message = {**sns_message(), member: "x"}
    assert await matched(source, as_sns_sends(message))


@pytest.mark.parametrize("version", ["3", "0", "", "1", 2, None, "2 ", "v2", [], "9" * 5000])
async def test_the_version_must_be_the_one_that_was_used(source: Webhook, version: Any) -> None:
    assert await matched(source, as_sns_sends({**sns_message(), "SignatureVersion": version})) is None


@pytest.mark.parametrize("signature", ["", "!!!", "AAAA", "é", None, 5, [], {}, "A" * 100_000])
async def test_a_malformed_signature_is_not_genuine(source: Webhook, signature: Any) -> None:
    assert await matched(source, as_sns_sends({**sns_message(), "Signature": signature})) is None


@pytest.mark.parametrize("topic", [OTHER_TOPIC, TOPIC + "x", TOPIC.upper(), "", "*"])
async def test_a_genuine_message_of_another_topic_is_refused(source: Webhook, topic: str) -> None:
    for kind in KINDS:
        assert await matched(source, sns(kind=kind, TopicArn=topic)) is None


async def test_one_of_several_topics_is_enough(aws: Aws) -> None:
    source = reaching(webhook({"scheme": "sns", "topics": [TOPIC, OTHER_TOPIC]}), aws.fetch)
    for topic in (TOPIC, OTHER_TOPIC):
        assert await matched(source, sns(TopicArn=topic))


@pytest.mark.parametrize("topics", [{}, {"topics": []}])
def test_the_topics_have_to_be_named(topics: dict[str, Any]) -> None:
    with pytest.raises(REFUSED, match="topics"):
        webhook({"scheme": "sns", **topics})


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "now",
        "1700000000",
        1700000000,
        None,
        "2023-13-45T99:99:99.000Z",
        "2023-11-14",
        "0000-00-00T00:00:00Z",
        "9" * 5000,
    ],
)
async def test_a_time_that_is_none_is_not_genuine_though_it_was_signed(source: Webhook, sent: Any) -> None:
    assert await matched(source, sns(Timestamp=sent)) is None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"5", b'"x"', b"{}", b"\xff", b"{", b'{"Type": "Notification"}', b"[" * 100_000]
)
async def test_a_body_that_is_no_message_is_not_genuine(source: Webhook, body: bytes) -> None:
    headers = {**sns().headers, "x-amz-sns-rawdelivery": "true"}
    assert await matched(source, Received(headers, body)) is None


# The certificate

TRUSTED = (
    CERTIFICATE_URL,
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
    "https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-1.pem",
    "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem",
)
HOSTILE = (
    "http://sns.us-east-1.amazonaws.com/x.pem",
    "ftp://sns.us-east-1.amazonaws.com/x.pem",
    "file:///etc/passwd",
    "//sns.us-east-1.amazonaws.com/x.pem",
    "sns.us-east-1.amazonaws.com/x.pem",
    "https:sns.us-east-1.amazonaws.com/x.pem",
    "https:/sns.us-east-1.amazonaws.com/x.pem",
    "https:///sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.example/x.pem",
    "https://evil.example/sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.example?sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.example#sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.example\\sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.example\\@sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.com@evil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com:pw@evil.example/x.pem",
    "https://user@sns.us-east-1.amazonaws.com/x.pem",
    "https://user:pw@sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.com:8443/x.pem",
    "https://sns.us-east-1.amazonaws.com:22/x.pem",
    "https://sns.us-east-1.amazonaws.com:99999/x.pem",
    "https://sns.us-east-1.amazonaws.com:x/x.pem",
    "https://sns.us-east-1.amazonaws.com.evil.example/x.pem",
    "https://sns.cn-north-1.amazonaws.com.cn.evil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com.co/x.pem",
    "https://sns.us-east-1.amazonaws.com./x.pem",
    "https://sns.us-east-1.amazonaws.com%2eevil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com%00.evil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com\n.evil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com\n",
    "https://sns.us-east-1.amazonaws.com\r\nHost: evil.example/x.pem",
    "https://sns.us-east-1.amazonaws.com\t/x.pem",
    "https://sns.us-east-1.amazonaws。com/x.pem",
    "https://\u0455ns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.evilamazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.evil/x.pem",
    "https://sns.us-east-1xamazonaws.com/x.pem",
    "https://xsns.us-east-1.amazonaws.com/x.pem",
    "https://evil-sns.us-east-1.amazonaws.com/x.pem",
    "https://evil.sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.s3.amazonaws.com/x.pem",
    "https://sns.s3.us-east-1.amazonaws.com/x.pem",
    "https://s3.us-east-1.amazonaws.com/bucket/x.pem",
    "https://sqs.us-east-1.amazonaws.com/x.pem",
    "https://sns.amazonaws.com.evil.example/x.pem",
    "https://amazonaws.com/x.pem",
    "https://127.0.0.1/x.pem",
    "https://[::1]/x.pem",
    "https://[/x.pem",
    "https://169.254.169.254/latest/meta-data",
    " https://sns.us-east-1.amazonaws.com/x.pem",
    "https:// sns.us-east-1.amazonaws.com/x.pem",
    "data:application/x-pem-file,x",
    "",
    None,
    5,
    [CERTIFICATE_URL],
    {"url": CERTIFICATE_URL},
)


@pytest.mark.parametrize("url", TRUSTED)
async def test_a_certificate_at_an_sns_host_is_fetched(source: Webhook, aws: Aws, url: str) -> None:
    assert await matched(source, sns(SigningCertURL=url))
    assert aws.asked == [url]


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_certificate_anywhere_else_is_never_fetched(source: Webhook, aws: Aws, url: Any) -> None:
    for kind in KINDS:
        message = {**sns_message(kind=kind), "SigningCertURL": url}
        assert await matched(source, as_sns_sends(message)) is None
        assert await matched(source, as_sns_sends({**message, "SigningCertUrl": url, "SubscribeURL": url})) is None
    assert aws.asked == []


async def test_a_certificate_is_fetched_once_for_many_messages(source: Webhook, aws: Aws) -> None:
    for number in range(5):
        assert await matched(source, sns(Message=f"message {number}"))
        assert await matched(source, sns("a stranger", Message=f"message {number}")) is None
    assert aws.asked == [CERTIFICATE_URL]


async def test_a_certificate_is_fetched_once_for_messages_at_once(source: Webhook, aws: Aws) -> None:
    names: list[str | None] = []

    async def verify(number: int) -> None:
        names.append(await matched(source, sns(Message=f"message {number}")))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(verify, number)
    assert None not in names
    assert aws.asked == [CERTIFICATE_URL]


async def test_a_rotated_certificate_is_at_another_url(source: Webhook, aws: Aws) -> None:
    assert await matched(source, sns())
    aws.answer = sns_certificate("the next one")
    assert await matched(source, sns("the next one", SigningCertURL=TRUSTED[1]))
    assert await matched(source, sns())
    assert aws.asked == [CERTIFICATE_URL, TRUSTED[1]]


def elliptic_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    rsa = x509.load_pem_x509_certificate(sns_certificate())
    builder = x509.CertificateBuilder(
        rsa.issuer, rsa.subject, key.public_key(), 1, rsa.not_valid_before_utc, rsa.not_valid_after_utc
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def bare_key() -> bytes:
    return (
        rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Transient("down"), id="down"),
        pytest.param(b"", id="empty"),
        pytest.param(b"<Error>AccessDenied</Error>", id="no PEM"),
        pytest.param(sns_certificate()[:300], id="half a PEM"),
        pytest.param(b"\xff" * 1000, id="noise"),
        pytest.param(elliptic_certificate(), id="a key of another kind"),
        pytest.param(bare_key(), id="a key without certificate"),
        pytest.param(sns_certificate("a stranger"), id="a stranger's"),
        pytest.param(sns_certificate(ends_s=NOW_S - 1), id="expired"),
    ],
)
async def test_without_a_good_certificate_nothing_is_genuine_and_nothing_is_raised(
    source: Webhook, aws: Aws, answer: bytes | Exception
) -> None:
    aws.answer = answer
    for version in ("1", "2"):
        assert await cannot_be_verified(source, sns(SignatureVersion=version))


async def test_a_certificate_that_could_not_be_fetched_is_asked_for_again(source: Webhook, aws: Aws) -> None:
    aws.answer = Transient("down")
    assert await cannot_be_verified(source, sns())
    aws.answer = sns_certificate()
    assert await matched(source, sns())


# At the door


@pytest.fixture
async def door(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Aws) -> AsyncIterator[Door]:
    prepare = Webhook.prepare

    def prepare_with_aws(source: Webhook) -> None:
        prepare(source)
        reaching(source, aws.fetch)

    monkeypatch.setattr(Webhook, "prepare", prepare_with_aws)
    async with open_for(engine, tmp_path, SNS) as door:
        yield door


async def sent(door: Door, received: Received) -> tuple[int, Any]:
    answer = await deliver(door, received)
    return answer.status, answer.json.get("verdict")


async def stored(door: Door) -> list[tuple[Any, ...]]:
    reader = await door.engine.store.reader()
    try:
        return await reader.fetch("SELECT verdict FROM ledger")
    finally:
        await reader.close()


def now() -> int:
    return int(time.time())


async def test_a_notification_is_taken_once_by_its_message_id(door: Door) -> None:
    message = sns_message(sent_s=now())
    again = sns_message(sent_s=now(), Message="another")
    assert await sent(door, as_sns_sends({**message, "Message": "tampered"})) == (401, None)
    assert await sent(door, as_sns_sends(message)) == (202, "accepted")
    assert await sent(door, as_sns_sends(message)) == (200, "duplicate")
    assert await sent(door, as_sns_sends(again)) == (409, "conflict")


async def test_a_subscription_to_a_known_topic_is_confirmed_by_a_visit_and_is_no_event(door: Door, aws: Aws) -> None:
    status, verdict = await sent(door, sns(sent_s=now(), kind="SubscriptionConfirmation"))
    assert (status, verdict) == (200, None)
    assert aws.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]
    assert await stored(door) == []


async def test_no_other_subscription_is_confirmed(door: Door, aws: Aws) -> None:
    others: list[dict[str, Any]] = [{"TopicArn": OTHER_TOPIC}, {"key": "a stranger"}]
    for other in [*others, *({"SubscribeURL": url} for url in HOSTILE)]:
        status, _ = await sent(door, sns(sent_s=now(), kind="SubscriptionConfirmation", **other))
        assert 400 <= status < 500, other
    assert aws.asked == [CERTIFICATE_URL]
    assert await stored(door) == []


async def test_the_end_of_a_subscription_is_not_undone_by_a_visit(door: Door, aws: Aws) -> None:
    await sent(door, sns(sent_s=now(), kind="UnsubscribeConfirmation"))
    assert aws.asked == [CERTIFICATE_URL]


async def test_a_confirmation_in_the_headers_only_is_none(door: Door, aws: Aws) -> None:
    notification = sns(sent_s=now(), SubscribeURL=SUBSCRIBE_URL)
    headers = {**notification.headers, "x-amz-sns-message-type": "SubscriptionConfirmation"}
    await sent(door, replace(notification, headers=headers))
    assert SUBSCRIBE_URL not in aws.asked


async def test_a_visit_that_fails_is_not_answered_as_if_it_had_not(door: Door, aws: Aws) -> None:
    assert await sent(door, sns(sent_s=now())) == (202, "accepted")
    aws.answer = Transient("down")
    status, _ = await sent(door, sns(sent_s=now(), kind="SubscriptionConfirmation", MessageId="another"))
    assert status >= 500


async def test_while_the_certificate_cannot_be_had_the_sender_is_asked_to_try_again(door: Door, aws: Aws) -> None:
    aws.answer = Transient("down")
    answer = await deliver(door, sns(sent_s=now()))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    aws.answer = sns_certificate()
    assert await sent(door, sns(sent_s=now())) == (202, "accepted")
