"""Schemes that sign nothing: basic, bearer, mtls and none."""

import base64
import http.client
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhd_webhook.schemes import Received
from tests.e2e.certificates import Authority
from tests.e2e.process import DEADLINE_S, Daemon
from tests.webhook.schemes.senders import (
    FIRST,
    KEY,
    REFUSED,
    SECOND,
    TOKEN,
    api_key,
    basic,
    bearer,
    client,
    matched,
    webhook,
)


def with_authorization(value: str) -> Received:
    return Received({"authorization": value}, b"{}")


# Basic


@pytest.mark.parametrize(
    ("user", "password", "header"),
    [
        # RFC 7617, section 2, and section 2.1 for a password that is not ASCII
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("test", "123£", "Basic dGVzdDoxMjPCow=="),
    ],
)
async def test_the_examples_of_the_rfc_of_basic_are_genuine(user: str, password: str, header: str) -> None:
    source = webhook({"scheme": "basic", "user": user}, password)
    assert await matched(source, with_authorization(header)) == FIRST
    for scheme in ("basic", "BASIC"):
        assert await matched(source, with_authorization(header.replace("Basic", scheme))) == FIRST
    assert await matched(webhook({"scheme": "basic", "user": user}, password + "x"), with_authorization(header)) is None
    assert await matched(webhook({"scheme": "basic", "user": "x" + user}, password), with_authorization(header)) is None


@given(
    user=st.text(st.characters(codec="utf-8", exclude_characters=":\0", exclude_categories=["Cc", "Cs"]), min_size=1),
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
async def test_what_aiohttp_encodes_as_basic_is_genuine(user: str, password: str) -> None:
    source = webhook({"scheme": "basic", "user": user}, password)
    assert await matched(source, basic(password, user)) == FIRST
    assert await matched(source, basic(password + "x", user)) is None
    assert await matched(source, basic(password, user + "x")) is None


async def test_a_password_may_hold_colons() -> None:
    source = webhook({"scheme": "basic", "user": "u"}, "a:b:", "c")
    assert await matched(source, basic("a:b:", "u")) == FIRST
    assert await matched(source, basic("c", "u")) == SECOND
    assert await matched(webhook({"scheme": "basic", "user": "u"}, "b"), basic("a:b", "u")) is None


def encoded(credentials: bytes) -> str:
    return base64.b64encode(credentials).decode()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic é",
        "Basic \udcff",
        "Basic " + encoded(b"Aladdin"),
        "Basic " + encoded(b"Aladdin:"),
        "Basic " + encoded(b":" + KEY.encode()),
        "Basic " + encoded(b"\xff:\xff"),
        "Basic " + encoded(b"aladdin:" + KEY.encode()),
        "Basic " + encoded(b"Aladdin:" + KEY.encode() + b"\n"),
        "Bearer " + encoded(b"Aladdin:" + KEY.encode()),
        "Basic Aladdin:" + KEY,
        encoded(b"Aladdin:" + KEY.encode()),
        f"Basic {encoded(b'Aladdin:' + KEY.encode())}, Basic x",
    ],
)
async def test_other_credentials_than_the_right_ones_are_refused(header: str) -> None:
    source = webhook({"scheme": "basic", "user": "Aladdin"}, KEY)
    assert await matched(source, basic()) == FIRST
    assert await matched(source, with_authorization(header)) is None


@pytest.mark.parametrize("keys", [{}, {"user": "with:colon"}])
def test_basic_needs_a_user_and_its_name_holds_no_colon(keys: dict[str, str]) -> None:
    with pytest.raises(REFUSED, match="user"):
        webhook({"scheme": "basic", **keys}, KEY)


# Bearer


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.lower()}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Bearer{TOKEN}",
        "Bearer é",
        "Bearer \udcff",
    ],
)
async def test_only_the_whole_token_counts(header: str) -> None:
    source = webhook({"scheme": "bearer"}, TOKEN)
    assert await matched(source, bearer()) == FIRST
    assert await matched(source, with_authorization(f"bearer {TOKEN}")) == FIRST
    assert await matched(source, with_authorization(header)) is None


async def test_a_token_may_be_in_another_header_with_or_without_a_prefix() -> None:
    with_prefix = webhook({"scheme": "bearer", "header": "X-Api-Key", "prefix": "key "}, TOKEN)
    assert await matched(with_prefix, api_key()) == FIRST
    assert await matched(with_prefix, Received({"x-api-key": TOKEN})) is None
    assert await matched(with_prefix, bearer()) is None
    without = webhook({"scheme": "bearer", "header": "X-Api-Key", "prefix": ""}, TOKEN)
    assert await matched(without, Received({"x-api-key": TOKEN})) == FIRST
    assert await matched(without, api_key()) is None


@pytest.mark.parametrize("token", ["pässwörd", b"\xff\xfe".decode("utf-8", "surrogateescape")])
async def test_a_token_need_not_be_ascii(token: str) -> None:
    source = webhook({"scheme": "bearer"}, os.fsencode(token))
    assert await matched(source, bearer(token)) == FIRST
    assert await matched(source, bearer(token + "x")) is None


@pytest.mark.parametrize("query", ["", "access_token=", "access_token=x", f"token={TOKEN}", f"access_token={TOKEN}x"])
async def test_a_token_in_the_query_counts_only_where_it_was_asked_for(query: str) -> None:
    by_query = webhook({"scheme": "bearer", "query": True}, TOKEN)
    assert await matched(by_query, Received({}, b"", f"a=1&access_token={TOKEN}")) == FIRST
    assert await matched(by_query, bearer()) == FIRST
    assert await matched(by_query, Received({}, b"", query)) is None
    assert await matched(webhook({"scheme": "bearer"}, TOKEN), Received({}, b"", f"access_token={TOKEN}")) is None


# Client certificates

MTLS = {"scheme": "mtls", "subjects": ["client.example", "spiffe://example/client"]}


@pytest.mark.parametrize(
    ("received", "is_genuine"),
    [
        (client("client.example"), True),
        (client(dns=("client.example",)), True),
        (client("another", dns=("a.example", "client.example")), True),
        (client(uris=("spiffe://example/client",)), True),
        (client("another"), False),
        (client("xclient.example"), False),
        (client("client.example.evil"), False),
        (client("client.example\0.evil"), False),
        (client("*"), False),
        (client(dns=("*.example",)), False),
        (client(uris=("spiffe://example/client/x",)), False),
        (client(), False),
        (Received({}, certificate={}), False),
        (Received({}, certificate={"subject": (), "subjectAltName": ()}), False),
        (Received({}, certificate={"subject": ((("organizationName", "client.example"),),)}), False),
        (Received({}, certificate={"issuer": ((("commonName", "client.example"),),)}), False),
        (Received({}, certificate={"subjectAltName": (("email", "client.example"), ("IP Address", "::1"))}), False),
        (Received({"x-client-subject": "client.example", "x-forwarded-client-cert": "client.example"}), False),
        (Received({}), False),
    ],
)
async def test_a_certificate_counts_by_its_common_name_and_its_dns_and_uri_names(
    received: Received, is_genuine: bool
) -> None:
    assert (await matched(webhook(MTLS), received) is not None) is is_genuine


@pytest.mark.parametrize("subjects", [{}, {"subjects": []}])
def test_the_subjects_have_to_be_named(subjects: dict[str, Any]) -> None:
    with pytest.raises(REFUSED, match="subjects"):
        webhook({"scheme": "mtls", **subjects})


MTLS_CONFIG = """
[daemon]
data_dir = "{folder}/data"
shutdown_grace_s = 0.2

[grpc]
listen = "127.0.0.1:{grpc_port}"

[http]
listen = "127.0.0.1:{http_port}"
admin_listen = "127.0.0.1:{admin_port}"
tls = {{ cert = "{folder}/server.pem", key = "{folder}/server-key.pem", client_ca = "{folder}/authority.pem" }}

[sources.x]
kind = "webhook"
path = "/hooks/x"
verify = {{ scheme = "mtls", subjects = ["client-1"] }}
"""


def test_a_client_is_known_by_its_certificate_at_a_real_listener(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    authority.issue("server").write(tmp_path, "server")
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    for name in ("client-1", "client-2"):
        authority.issue(name).write(tmp_path, name)
    stranger.issue("client-1").write(tmp_path, "stranger")
    daemon = Daemon(tmp_path)
    ports = {"grpc_port": daemon.grpc_port, "http_port": daemon.http_port, "admin_port": daemon.admin_port}
    daemon.config.write_text(MTLS_CONFIG.format(folder=tmp_path, **ports))

    def status(name: str | None) -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        if name is not None:
            context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}-key.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", daemon.http_port, timeout=DEADLINE_S, context=context)
        try:
            connection.request("POST", "/hooks/x", b"{}", {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 401  # no connection: refused before there was a request
        finally:
            connection.close()

    daemon.start()
    try:
        assert [status(name) for name in ("client-1", "client-2", "stranger", None)] == [202, 401, 401, 401]
    finally:
        daemon.stop()


# None


async def test_the_scheme_none_believes_everybody_and_has_to_be_written() -> None:
    assert await matched(webhook({"scheme": "none"}), Received({}))
    source = webhook({"scheme": "none", "id_header": "X-Delivery"})
    assert source.verifier.delivery_id({"x-delivery": "d"}, {}) == "d"
    assert source.verifier.delivery_id({}, {}) is None
    with pytest.raises(REFUSED, match="scheme"):
        webhook({})
