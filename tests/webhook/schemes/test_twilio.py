"""Twilio: the public URL with the form, or with the hash of the body."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes.senders import (
    FIRST,
    FORM,
    JSON,
    KEY,
    PUBLIC_URL,
    REFUSED,
    SECOND,
    changed,
    matched,
    twilio_form,
    twilio_json,
    webhook,
)


def source_at(public_url: str, *tokens: str) -> Webhook:
    return webhook({"scheme": "twilio", "public_url": public_url}, *(tokens or (KEY,)))


def signed(signature: str, body: bytes = b"", query: str = "", headers: dict[str, str] = FORM) -> Received:
    return Received({**headers, "x-twilio-signature": signature}, body, query)


CALL = {"CallSid": "CA1234567890ABCDE", "Digits": "1234", "To": "+18005551212"}


@pytest.mark.parametrize(
    ("caller", "signature"),
    [
        # https://www.twilio.com/docs/usage/security#validating-requests
        pytest.param("+12349013030", "0/KCTR6DLpKmkAf8muzZqo1nDgQ=", id="manual"),
        # https://github.com/twilio/twilio-python/blob/main/tests/unit/test_request_validator.py
        pytest.param("+14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", id="library"),
    ],
)
async def test_the_published_example_is_genuine(caller: str, signature: str) -> None:
    source = source_at("https://mycompany.com/myapp.php", "12345")
    form = urlencode({**CALL, "Caller": caller, "From": caller}).encode()
    assert await matched(source, signed(signature, form, "foo=1&bar=2")) == FIRST
    assert await matched(source, signed(signature, form, "foo=1&bar=3")) is None
    assert await matched(source, signed(signature, form)) is None
    assert await matched(source, signed(signature, form + b"&More=1", "foo=1&bar=2")) is None
    assert await matched(source, signed(signature, form.replace(b"1234", b"1235", 1), "foo=1&bar=2")) is None
    assert await matched(source_at("https://mycompany.com/myapp.php"), signed(signature, form, "foo=1&bar=2")) is None


# The same test of Twilio's library
HASH = "bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
HASHED = b'{"property": "value", "boolean": true}'


@pytest.mark.parametrize(
    ("query", "signature"),
    [(f"foo=1&bar=2&{HASH}", "a9nBmqA0ju/hNViExpshrM61xv4="), (HASH, "y77kIzt2vzLz71DgmJGsen2scGs=")],
)
async def test_the_published_example_with_the_hash_of_a_body_is_genuine(query: str, signature: str) -> None:
    source = source_at("https://mycompany.com/myapp.php", "12345")
    assert await matched(source, signed(signature, HASHED, query, JSON)) == FIRST
    assert await matched(source, signed(signature, HASHED + b" ", query, JSON)) is None
    assert await matched(source, signed(signature, b"", query, JSON)) is None


@pytest.mark.parametrize("body", [b"", b"Digits=1234", b"{}"])
@pytest.mark.parametrize("content_type", [*FORM.values(), "multipart/form-data; boundary=x", "text/plain", ""])
async def test_the_hash_in_the_url_holds_for_the_body_whatever_it_is_called(body: bytes, content_type: str) -> None:
    forged = changed(replace(twilio_json(), body=body), content_type=content_type)
    assert await matched(source_at(PUBLIC_URL), forged) is None


@pytest.mark.parametrize("body", [b'{"Digits": "1234"}', b"Digits=1234", b"\xff", b"--x\r\n\r\n--x--"])
@pytest.mark.parametrize(
    "content_type",
    [
        *FORM.values(),
        *JSON.values(),
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded; charset=utf-16",
        "nonsense",
        None,
    ],
)
async def test_a_signature_of_the_url_alone_vouches_for_no_body(body: bytes, content_type: str | None) -> None:
    signature = RequestValidator(KEY).compute_signature(PUBLIC_URL, {})
    assert await matched(source_at(PUBLIC_URL), signed(signature)) == FIRST
    forged = changed(signed(signature, body), content_type=content_type)
    assert await matched(source_at(PUBLIC_URL), forged) is None


@pytest.mark.parametrize(
    ("public_url", "signed_url"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("https://a.example/x", "https://a.example:443/x"),
        ("http://a.example/x", "http://a.example:80/x"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("https://a.example:8443/x", "https://a.example/x"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        ("https://a.example/x", "https://a.example:8443/x"),
        ("https://a.example/x", "https://a.example:80/x"),
        ("https://a.example:8443/x", "https://a.example:443/x"),
        ("https://a.example/x", "http://a.example/x"),
        ("https://a.example/x", "https://a.example/x/"),
        ("https://a.example/x", "https://a.example/X"),
        ("https://a.example/x", "https://b.example/x"),
    ],
)
@pytest.mark.parametrize("query", ["", "a=1&b=%20%C3%A9"])
async def test_the_vendors_library_and_we_take_the_url_with_or_without_its_port(
    public_url: str, signed_url: str, query: str
) -> None:
    received = twilio_form(url=signed_url, query=query, Digits="1")
    whole = f"{public_url}?{query}" if query else public_url
    is_valid = RequestValidator(KEY).validate(whole, {"Digits": "1"}, received.headers["x-twilio-signature"])
    assert (await matched(source_at(public_url), received) is not None) is is_valid


class Fields(dict[str, list[str]]):
    """A form as Twilio's library likes it."""

    def getall(self, name: str) -> list[str]:
        return self[name]


texts = st.text(st.characters(codec="utf-8"), max_size=8)


@given(fields=st.dictionaries(texts, st.lists(texts, min_size=1, max_size=3), max_size=4))
async def test_any_form_that_the_vendors_library_signs_is_genuine(fields: dict[str, list[str]]) -> None:
    signature = RequestValidator(KEY).compute_signature(PUBLIC_URL, Fields(fields))
    assert await matched(source_at(PUBLIC_URL), signed(signature, urlencode(fields, doseq=True).encode())) == FIRST


@given(body=st.text(st.characters(codec="utf-8")))
async def test_any_body_that_the_vendors_library_hashes_is_genuine(body: str) -> None:
    received = twilio_json(body=body)
    uri, signature = f"{PUBLIC_URL}?{received.query}", received.headers["x-twilio-signature"]
    assert RequestValidator(KEY).validate(uri, body, signature)
    assert await matched(source_at(PUBLIC_URL), received) == FIRST
    assert await matched(source_at(PUBLIC_URL), replace(received, body=received.body + b"x")) is None


async def test_the_media_type_of_a_form_may_have_parameters_and_any_case() -> None:
    for content_type in ("application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-Urlencoded"):
        received = changed(twilio_form(), content_type=content_type)
        assert await matched(source_at(PUBLIC_URL), received) == FIRST


async def test_the_primary_and_the_secondary_token_both_count() -> None:
    assert await matched(source_at(PUBLIC_URL, KEY, "second"), twilio_form("second")) == SECOND
    assert await matched(source_at(PUBLIC_URL, KEY, "second"), twilio_json("second")) == SECOND


@pytest.mark.parametrize("signature", ["", "=", "!!!", "é", "\udcff", "x" * 5000])
async def test_a_malformed_signature_is_not_genuine(signature: str) -> None:
    assert await matched(source_at(PUBLIC_URL), changed(twilio_form(), x_twilio_signature=signature)) is None


async def test_the_host_that_a_request_names_does_not_matter() -> None:
    received = twilio_form(url="https://evil.example/x")
    forged = changed(received, host="evil.example", x_forwarded_host="evil.example", x_forwarded_proto="https")
    assert await matched(source_at(PUBLIC_URL), forged) is None
    assert await matched(source_at(PUBLIC_URL), changed(twilio_form(), host="127.0.0.1:8077")) == FIRST


@pytest.mark.parametrize(
    "keys",
    [{}, *({"public_url": url} for url in ("", "hooks.example.com/x", "/hooks/x", "ftp://a.example/x", "https://"))],
)
def test_the_public_url_has_to_be_written_and_whole(keys: dict[str, Any]) -> None:
    with pytest.raises(REFUSED, match="public_url"):
        webhook({"scheme": "twilio", **keys}, KEY)
