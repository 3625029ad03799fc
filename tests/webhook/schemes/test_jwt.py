"""JWT: a token that is signed, and nothing else of the request."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lhd.engine import Engine
from lhd.plugin import ConfigErrors
from lhd_webhook.schemes import Received
from lhd_webhook.source import Webhook
from tests.webhook.schemes.doorway import deliver, open_for
from tests.webhook.schemes.senders import (
    AUDIENCE,
    ISSUER,
    JWT,
    NOW_S,
    REFUSED,
    bearing,
    cannot_be_verified,
    claims,
    matched,
    public_jwk,
    rsa_key,
    signed_token,
    token,
    webhook,
)

# RFC 7515, appendices A.2 and A.3: the same claims, signed by RSA and by an elliptic curve
RFC_CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_EXP_S = 1300819380
RFC_RSA = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS"
    "-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH"
    "g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FR"
    "WyuXpoQ",
    "e": "AQAB",
}
RFC_RSA_D = (
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1"
    "O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4e"
    "hNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
)
RFC_RSA_TOKEN = (
    f"eyJhbGciOiJSUzI1NiJ9.{RFC_CLAIMS}."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1"
    "dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzD"
    "wusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe7"
    "7Rw"
)
RFC_EC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_EC_D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
RFC_EC_TOKEN = (
    f"eyJhbGciOiJFUzI1NiJ9.{RFC_CLAIMS}."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
# RFC 8037, appendix A.1
RFC_ED = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
RFC_ED_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"


def jwt_source(folder: Path, *jwks: dict[str, Any], **keys: Any) -> Webhook:
    """A source with these public keys; None takes a key of the table away."""
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": jwks or [public_jwk()]}))
    table = {**JWT, "jwks_file": str(file), **keys}
    return webhook({key: value for key, value in table.items() if value is not None})


@pytest.mark.parametrize(
    ("algorithm", "key", "private"),
    [
        ("RS256", RFC_RSA, RFC_RSA_D),
        ("PS256", RFC_RSA, RFC_RSA_D),
        ("ES256", RFC_EC, RFC_EC_D),
        ("EdDSA", RFC_ED, RFC_ED_D),
    ],
)
@pytest.mark.parametrize("kid", [None, "k1"])
async def test_the_public_keys_of_the_rfcs_verify_what_the_private_ones_sign(
    algorithm: str, key: dict[str, str], private: str, kid: str | None, tmp_path: Path
) -> None:
    named = {} if kid is None else {"kid": kid}
    signing = jwt.PyJWK({**key, "d": private}, algorithm).key
    genuine = bearing(jwt.encode(claims(), signing, algorithm, named))
    assert await matched(jwt_source(tmp_path, {**key, **named}, algorithms=[algorithm]), genuine)
    assert await matched(jwt_source(tmp_path, {**key, **named}, algorithms=["RS384"]), genuine) is None
    assert await matched(jwt_source(tmp_path, algorithms=[algorithm]), genuine) is None


@pytest.mark.parametrize(
    ("algorithm", "key", "published"), [("RS256", RFC_RSA, RFC_RSA_TOKEN), ("ES256", RFC_EC, RFC_EC_TOKEN)]
)
async def test_the_tokens_of_the_rfc_are_refused_since_they_are_for_nobody(
    algorithm: str, key: dict[str, str], published: str, tmp_path: Path
) -> None:
    assert jwt.decode(published, jwt.PyJWK(key, algorithm), options={"verify_exp": False})["iss"] == "joe"
    source = jwt_source(tmp_path, key, algorithms=[algorithm], issuer="joe")
    assert await matched(source, bearing(published), RFC_EXP_S - 1) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": NOW_S - 1}, id="expired"),
        pytest.param({"exp": None}, id="never expires"),
        pytest.param({"exp": "tomorrow"}, id="expires at no time"),
        pytest.param({"exp": [NOW_S + 600]}, id="expires at a list"),
        pytest.param({"nbf": NOW_S + 600}, id="not yet valid"),
        pytest.param({"nbf": 10**400}, id="valid from no float"),
        pytest.param({"nbf": "tomorrow"}, id="valid from no time"),
        pytest.param({"aud": "another"}, id="for another"),
        pytest.param({"aud": None}, id="for nobody"),
        pytest.param({"aud": []}, id="for an empty list"),
        pytest.param({"aud": ["another", "others"]}, id="for others"),
        pytest.param({"aud": AUDIENCE + "x"}, id="for a longer name"),
        pytest.param({"iss": "https://evil.example"}, id="by another"),
        pytest.param({"iss": None}, id="by nobody"),
        pytest.param({"iss": [ISSUER]}, id="by a list"),
        pytest.param({"iss": ISSUER + "/"}, id="by a longer name"),
    ],
)
async def test_a_token_whose_claims_do_not_hold_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    source = jwt_source(tmp_path, leeway_s=0)
    assert await matched(source, signed_token())
    assert await matched(source, bearing(token(claims(**changes)))) is None


async def test_the_audience_may_be_one_of_several(tmp_path: Path) -> None:
    assert await matched(jwt_source(tmp_path), bearing(token(claims(aud=["another", AUDIENCE]))))


async def test_the_leeway_holds_for_both_ends(tmp_path: Path) -> None:
    source = jwt_source(tmp_path, leeway_s=10)
    for claim, when_s, is_in_time in (
        ("exp", NOW_S - 9, True),
        ("exp", NOW_S - 11, False),
        ("nbf", NOW_S + 9, True),
        ("nbf", NOW_S + 11, False),
    ):
        name = await matched(source, bearing(token(claims(**{claim: when_s}))))
        assert (name is not None) is is_in_time, (claim, when_s)


NO_ALGORITHMS: tuple[Any, ...] = ("none", "None", "NONE", "", None, 5, [])


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def public_pem(name: str = "JWT") -> bytes:
    return (
        rsa_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def forged_by_hmac(secret: bytes, **header: Any) -> str:
    signed = f"{part({'alg': 'HS256', 'kid': 'k1', **header})}.{part(claims())}"
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return f"{signed}.{base64.urlsafe_b64encode(key.sign(signed.encode(), secret)).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "forged",
    [
        *(f"{part({'alg': alg, 'kid': 'k1'})}.{part(claims())}." for alg in NO_ALGORITHMS),
        f"{part({'kid': 'k1'})}.{part(claims())}.",
        f"{part({'alg': 'none'})}.{part(claims())}",
        forged_by_hmac(public_pem()),
        forged_by_hmac(public_pem().strip()),
        forged_by_hmac(json.dumps(public_jwk()).encode()),
        forged_by_hmac(b""),
        forged_by_hmac(b"", kid="../../dev/null"),
        token(claims(), "a stranger"),
        jwt.encode(claims(), rsa_key("a stranger"), "RS256", {"kid": "k1", "jwk": public_jwk("a stranger")}),
        jwt.encode(claims(), rsa_key("a stranger"), "RS256", {"kid": "k1", "jku": "http://127.0.0.1:9/jwks"}),
        token(claims(), kid="k2"),
        jwt.encode(claims(), rsa_key("JWT"), "RS512", {"kid": "k1"}),
        jwt.encode(claims(), rsa_key("JWT"), "PS256", {"kid": "k1"}),
        jwt.encode(claims(), rsa_key("JWT"), "RS256", {"kid": "k1", "crit": ["unknown"], "unknown": 1}),
        jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "k1"}),
        jwt.api_jws.encode(b"not claims", rsa_key("JWT"), "RS256", {"kid": "k1"}),
        jwt.api_jws.encode(b'["claims"]', rsa_key("JWT"), "RS256", {"kid": "k1"}),
        jwt.api_jws.encode(b"\xff", rsa_key("JWT"), "RS256", {"kid": "k1"}),
    ],
)
async def test_a_forged_token_is_refused(forged: str, tmp_path: Path) -> None:
    assert await matched(jwt_source(tmp_path), bearing(forged)) is None


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        "..",
        "...",
        "x",
        "x.y.z",
        "é.é.é",
        "\udcff",
        f"{part([])}.{part({})}.",
        f"{part('x')}.{part({})}.",
        f"{part({'alg': 'RS256', 'kid': 5})}.{part(claims())}.AAAA",
        f"{part({'alg': 'RS256', 'kid': None})}.{part(claims())}.AAAA",
        f"{part({'alg': 'RS256', 'kid': {}})}.{part(claims())}.AAAA",
        *(
            f"{part({'alg': alg, 'kid': kid})}.{part(claims())}.AAAA"
            for alg, kid in (("RS256", "\ud800"), ("\ud800", "k1"))
        ),
        f"{part({'alg': 'RS256', 'kid': 'k1', 'b64': False, 'crit': ['b64']})}.{part(claims())}.AAAA",
        "A" * 100_000,
        "." * 10_000,
    ],
)
async def test_a_malformed_token_is_refused(forged: str, tmp_path: Path) -> None:
    source = jwt_source(tmp_path)
    assert await matched(source, bearing(forged)) is None
    assert await matched(source, Received({"authorization": forged})) is None
    assert await matched(source, Received({"authorization": f"Basic {forged}"})) is None


async def test_a_symmetric_key_among_the_public_ones_verifies_nothing(tmp_path: Path) -> None:
    secret = b"a secret of thirty-two bytes ...."
    symmetric = {"kty": "oct", "kid": "k1", "k": base64.urlsafe_b64encode(secret).rstrip(b"=").decode()}
    try:
        source = jwt_source(tmp_path, symmetric, {**public_jwk(), "kid": "k2"})
    except ConfigErrors:
        return
    assert await matched(source, bearing(forged_by_hmac(secret))) is None


@pytest.mark.parametrize("algorithms", [["none"], ["HS256"], ["RS256", "HS512"], ["nonsense"], []])
def test_only_algorithms_with_a_public_key_can_be_named(algorithms: list[str], tmp_path: Path) -> None:
    with pytest.raises(REFUSED, match="algorithms"):
        jwt_source(tmp_path, algorithms=algorithms)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"keys": 5}', b'{"keys": []}', b'{"keys": [{"kty": "RSA"}]}', b"\xff"]
)
def test_a_file_without_a_usable_key_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(REFUSED, match="jwks_file"):
        jwt_source(tmp_path, jwks_file=str(tmp_path / "bad.json"))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(REFUSED, match="no-such-file"):
        jwt_source(tmp_path, jwks_file=str(tmp_path / "no-such-file"))


@pytest.mark.parametrize("keys", [{"jwks_file": None}, {"jwks_url": "https://issuer.example/jwks"}])
def test_the_keys_are_in_a_file_or_at_a_url(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(REFUSED, match="jwks_url"):
        jwt_source(tmp_path, **keys)


class Issuer:
    """A server that publishes keys, and counts who asked."""

    def __init__(self) -> None:
        self.keys = [public_jwk()]
        self.asked = 0
        self.status = 200
        self.content: bytes | None = None
        self.headers: dict[str, str] = {}
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += 1
        content = json.dumps({"keys": self.keys}).encode() if self.content is None else self.content
        return web.Response(status=self.status, body=content, headers=self.headers)


@asynccontextmanager
async def publishing() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    runner = web.ServerRunner(web.Server(issuer.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    issuer.url = f"http://{host}:{port}/jwks"
    try:
        yield issuer
    finally:
        await runner.cleanup()


def by_url(url: str) -> Webhook:
    return webhook({**{key: value for key, value in JWT.items() if key != "jwks_file"}, "jwks_url": url})


async def test_keys_at_a_url_are_fetched_once_and_kept() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
        for _ in range(3):
            assert await matched(source, signed_token())
            assert await matched(source, signed_token("a stranger")) is None
        assert issuer.asked == 1


async def test_keys_are_fetched_once_for_requests_at_once() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
        names: list[str | None] = []

        async def verify() -> None:
            names.append(await matched(source, signed_token()))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(verify)
        assert len(names) == 5
        assert None not in names
        assert issuer.asked == 1


async def test_unknown_keys_make_the_source_ask_again_but_not_each_time() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
        assert await matched(source, signed_token())
        for number in range(20):
            foreign = token(claims(), "a stranger", kid=f"unknown {number}")
            assert await matched(source, bearing(foreign)) is None
        assert issuer.asked <= 2
        assert await matched(source, signed_token())


async def test_a_new_key_of_the_issuer_is_found_and_an_old_one_is_forgotten() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
        assert await matched(source, signed_token())
        issuer.keys = [public_jwk("the next one", kid="k2")]
        later_s = NOW_S + 86_400
        assert await matched(source, bearing(token(claims(later_s), "the next one", kid="k2")), later_s)
        assert await matched(source, signed_token(sent_s=later_s), later_s) is None


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, b""),
        (404, b"{}"),
        (200, b""),
        (200, b"{"),
        (200, b"[]"),
        (200, b'{"keys": 5}'),
        (200, b"\xff"),
        (200, b"[" * 100_000),
    ],
    ids=str,
)
async def test_an_issuer_that_answers_nonsense_makes_nothing_genuine_and_raises_nothing(
    status: int, content: bytes
) -> None:
    async with publishing() as issuer:
        issuer.status, issuer.content = status, content
        source = by_url(issuer.url)
        assert await cannot_be_verified(source, signed_token())
        issuer.status, issuer.content = 200, None
        later_s = NOW_S + 86_400
        assert await matched(source, signed_token(sent_s=later_s), later_s)


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_keys_are_not_looked_for_where_a_redirection_points(status: int) -> None:
    async with publishing() as issuer, publishing() as elsewhere:
        issuer.status, issuer.headers = status, {"location": elsewhere.url}
        assert await cannot_be_verified(by_url(issuer.url), signed_token())
        assert (issuer.asked, elsewhere.asked) == (1, 0)


async def test_an_issuer_that_is_down_makes_nothing_genuine_and_raises_nothing() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
    assert await cannot_be_verified(source, signed_token())


async def test_the_keys_that_are_known_still_count_while_the_issuer_is_down() -> None:
    async with publishing() as issuer:
        source = by_url(issuer.url)
        assert await matched(source, signed_token())
    assert await cannot_be_verified(source, bearing(token(claims(), "a stranger", kid="unknown")))
    assert await matched(source, signed_token())


async def test_while_the_issuer_is_down_the_sender_is_asked_to_try_again(engine: Engine, tmp_path: Path) -> None:
    async with publishing() as issuer:
        verify = {key: value for key, value in JWT.items() if key != "jwks_file"} | {"jwks_url": issuer.url}
    async with open_for(engine, tmp_path, verify) as door:
        answer = await deliver(door, signed_token(sent_s=int(time.time())))
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("url", ["http://issuer.example/jwks", "file:///etc/passwd", "issuer.example/jwks", ""])
def test_keys_come_from_no_address_that_anybody_could_answer_for(url: str) -> None:
    with pytest.raises(REFUSED, match="jwks_url"):
        by_url(url)
