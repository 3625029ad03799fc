"""Signature schemes over raw bytes, and where their secrets come from."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhd.plugin import ConfigError, ConfigErrors, Secret
from lhd_webhook import verify
from lhd_webhook.source import Webhook, WebhookConfig
from lhd_webhook.verify import GithubScheme, HmacScheme, NoScheme

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
GITHUB_SECRET = b"It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

SOMEWHERE = Secret(env="SOMEWHERE")
GITHUB = GithubScheme(scheme="github", secrets=(SOMEWHERE,))

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]


def is_genuine(
    scheme: GithubScheme | HmacScheme | NoScheme, secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes
) -> bool:
    """These schemes know no time, so that any will do."""
    return verify.is_genuine(scheme, secrets, headers, body, 1_700_000_000)


def github(signature: str, *secrets: bytes, body: bytes = GITHUB_BODY) -> bool:
    return is_genuine(GITHUB, secrets or (GITHUB_SECRET,), {"x-hub-signature-256": signature}, body)


def hmac_scheme(**keys: Any) -> HmacScheme:
    return HmacScheme(**{"scheme": "hmac", "secrets": (SOMEWHERE,), "header": "X-Signature", **keys})


def as_header(raw: bytes) -> str:
    """How the HTTP server hands over header bytes that may not be UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


headers = st.one_of(st.text(), st.binary().map(as_header))


# GitHub


def test_githubs_published_vector_is_genuine() -> None:
    assert github(GITHUB_SIGNATURE)


def test_hex_may_be_written_in_upper_case() -> None:
    prefix, _, digits = GITHUB_SIGNATURE.partition("=")
    assert github(f"{prefix}={digits.upper()}")


def test_another_body_is_not_genuine() -> None:
    assert not github(GITHUB_SIGNATURE, body=GITHUB_BODY + b"\n")


def test_another_secret_is_not_genuine() -> None:
    assert not github(GITHUB_SIGNATURE, b"another")


@pytest.mark.parametrize("secrets", [(GITHUB_SECRET, b"new"), (b"new", GITHUB_SECRET), (b"a", GITHUB_SECRET, b"b")])
def test_any_of_several_secrets_may_have_signed(secrets: tuple[bytes, ...]) -> None:
    assert github(GITHUB_SIGNATURE, *secrets)


def test_none_of_several_secrets_that_signed_is_not_genuine() -> None:
    assert not github(GITHUB_SIGNATURE, b"a", b"b")


def test_without_any_secret_nothing_is_genuine() -> None:
    assert not is_genuine(GITHUB, (), {"x-hub-signature-256": GITHUB_SIGNATURE}, GITHUB_BODY)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256",
        GITHUB_SIGNATURE.removeprefix("sha256="),
        GITHUB_SIGNATURE.replace("sha256", "sha1"),
        GITHUB_SIGNATURE[:-1],
        GITHUB_SIGNATURE + "0",
        f" {GITHUB_SIGNATURE} x",
        f"{GITHUB_SIGNATURE}, {GITHUB_SIGNATURE}",
        "sha256=" + "z" * 64,
    ],
)
def test_a_signature_that_is_not_exactly_githubs_form_is_not_genuine(signature: str) -> None:
    assert not github(signature)


def test_a_missing_header_is_not_genuine() -> None:
    assert not is_genuine(GITHUB, (GITHUB_SECRET,), {}, GITHUB_BODY)


def test_the_legacy_sha1_header_alone_is_not_genuine() -> None:
    legacy = "sha1=" + hmac.new(GITHUB_SECRET, GITHUB_BODY, hashlib.sha1).hexdigest()
    assert not is_genuine(GITHUB, (GITHUB_SECRET,), {"x-hub-signature": legacy}, GITHUB_BODY)


@given(header=headers, body=st.binary())
def test_no_header_and_no_body_makes_githubs_verifier_raise(header: str, body: bytes) -> None:
    assert not github(header, body=body)
    assert not github("sha256=" + header, body=body)


@given(secret=st.binary(min_size=1), body=st.binary())
def test_what_a_secret_signed_is_genuine_for_it_whatever_the_bytes(secret: bytes, body: bytes) -> None:
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    assert github(signature, secret, body=body)
    assert not github(signature, secret + b"x", body=body)


def test_githubs_delivery_id_is_its_delivery_header() -> None:
    assert GITHUB.delivery_id({"x-github-delivery": "72d3162e-cc78-11e3"}, {}) == "72d3162e-cc78-11e3"


@pytest.mark.parametrize("given_headers", [{}, {"x-github-delivery": ""}])
def test_without_a_delivery_header_github_gives_no_id(given_headers: dict[str, str]) -> None:
    assert GITHUB.delivery_id(given_headers, {}) is None


# HMAC in any header


@pytest.mark.parametrize("prefix", ["", "sha=", "v0 "])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_every_algorithm_encoding_and_prefix_is_verified(algorithm: Algorithm, encoding: Encoding, prefix: str) -> None:
    digest = hmac.new(b"secret", b"body", algorithm).digest()
    signature = prefix + (digest.hex() if encoding == "hex" else base64.b64encode(digest).decode())
    scheme = hmac_scheme(algorithm=algorithm, encoding=encoding, prefix=prefix)
    assert is_genuine(scheme, (b"secret",), {"x-signature": signature}, b"body")
    assert not is_genuine(scheme, (b"secret",), {"x-signature": signature}, b"Body")
    assert not is_genuine(scheme, (b"Secret",), {"x-signature": signature}, b"body")
    assert not is_genuine(scheme, (b"secret",), {"x-signature": "y" + signature}, b"body")


def test_an_hmac_of_another_algorithm_is_not_genuine() -> None:
    signature = hmac.new(b"secret", b"body", "sha1").hexdigest()
    assert not is_genuine(hmac_scheme(algorithm="sha256"), (b"secret",), {"x-signature": signature}, b"body")


def test_base64_is_told_apart_by_case() -> None:
    signature = base64.b64encode(hmac.new(b"secret", b"body", "sha256").digest()).decode()
    assert signature.lower() != signature
    scheme = hmac_scheme(encoding="base64")
    assert not is_genuine(scheme, (b"secret",), {"x-signature": signature.lower()}, b"body")


def test_base64_with_marks_that_a_lax_decoder_skips_is_not_genuine() -> None:
    signature = base64.b64encode(hmac.new(b"secret", b"body", "sha256").digest()).decode()
    scheme = hmac_scheme(encoding="base64")
    assert not is_genuine(scheme, (b"secret",), {"x-signature": f"!!{signature}"}, b"body")


def test_md5_is_not_offered() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        hmac_scheme(algorithm="md5")


@given(header=headers, prefix=st.text(max_size=3), encoding=st.sampled_from(["hex", "base64"]))
def test_no_header_makes_the_hmac_verifier_raise(header: str, prefix: str, encoding: Encoding) -> None:
    scheme = hmac_scheme(encoding=encoding, prefix=prefix)
    assert not is_genuine(scheme, (b"secret",), {"x-signature": header}, b"body")
    assert not is_genuine(scheme, (b"secret",), {"x-signature": prefix + header}, b"body")


def test_the_hmac_schemes_id_is_in_the_header_that_the_configuration_names_in_any_case() -> None:
    assert hmac_scheme(id_header="X-Order-Id").delivery_id({"x-order-id": "17"}, {}) == "17"
    assert hmac_scheme().delivery_id({"x-order-id": "17"}, {}) is None


# None


def test_the_scheme_none_believes_everybody() -> None:
    assert is_genuine(NoScheme(scheme="none"), (), {}, b"anything")


def test_a_webhook_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="verify"):
        WebhookConfig.model_validate({"kind": "webhook", "path": "/x"})


@pytest.mark.parametrize("scheme", ["github", "hmac"])
def test_a_scheme_that_verifies_needs_a_secret(scheme: str) -> None:
    verify = {"scheme": scheme, "secrets": [], "header": "X-Signature"}
    with pytest.raises(ValueError, match="secrets"):
        WebhookConfig.model_validate({"kind": "webhook", "path": "/x", "verify": verify})


# Secrets


def test_a_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    assert Secret(env="HOOK_SECRET").read() == b"s3cret"


def test_a_secret_is_read_from_a_file_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" s3cret\r\n\n")
    assert Secret(file=str(tmp_path / "secret")).read() == b" s3cret\r\n"


def test_a_secret_is_read_from_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "github-secret").write_bytes(b"s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="github-secret").read() == b"s3cret"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "."])
def test_a_credential_never_leaves_the_credentials_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").write_bytes(b"s3cret")
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    with pytest.raises(ConfigError):
        Secret(credential=name).read()


def test_without_a_credentials_directory_a_credential_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="github-secret"):
        Secret(credential="github-secret").read()


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_secret_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match="empty"):
        Secret(file=str(tmp_path / "secret")).read()


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_empty_or_not_set_is_refused_by_name(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK_SECRET", value)
    with pytest.raises(ConfigError, match="HOOK_SECRET"):
        Secret(env="HOOK_SECRET").read()


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-file"):
        Secret(file=str(tmp_path / "no-such-file")).read()


@pytest.mark.parametrize("places", [{}, {"env": "A", "file": "b"}, {"env": "A", "file": "b", "credential": "c"}])
def test_a_secret_has_exactly_one_place(places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Secret(**places)


def test_a_secret_in_the_configuration_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="secrets"):
        WebhookConfig.model_validate(
            {"kind": "webhook", "path": "/x", "verify": {"scheme": "github", "secrets": ["s3cret"]}}
        )


def test_a_secret_is_in_no_text_of_the_objects_that_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret-v4lue")
    config = WebhookConfig.model_validate(
        {"kind": "webhook", "path": "/x", "verify": {"scheme": "github", "secrets": [{"env": "HOOK_SECRET"}]}}
    )
    source = Webhook(config)
    source.prepare()
    for holder in (source, config, config.verify):
        assert "s3cret-v4lue" not in f"{holder!r} {holder!s}"


def test_a_secret_that_cannot_be_used_is_named_by_its_place_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOD", "s3cret-v4lue")
    monkeypatch.delenv("MISSING", raising=False)
    secrets = [{"env": "GOOD"}, {"env": "MISSING"}]
    config = WebhookConfig.model_validate(
        {"kind": "webhook", "path": "/x", "verify": {"scheme": "github", "secrets": secrets}}
    )
    with pytest.raises(ConfigErrors) as refused:
        Webhook(config).prepare()
    assert [error.key for error in refused.value.errors] == ["verify.secrets[1]"]
    assert "MISSING" in str(refused.value)
    assert "s3cret-v4lue" not in str(refused.value)


def test_secrets_are_bytes_and_need_not_be_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\x00\xfe")
    monkeypatch.setenv("HOOK_SECRET", "pässwörd €")
    for place, secret in ((Secret(file=str(tmp_path / "secret")), b"\xff\x00\xfe"), (Secret(env="HOOK_SECRET"), None)):
        expected = "pässwörd €".encode() if secret is None else secret
        signature = "sha256=" + hmac.new(expected, GITHUB_BODY, hashlib.sha256).hexdigest()
        assert github(signature, place.read())


def test_a_variable_that_is_not_utf_8_is_read_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", b"\xff\xfe".decode("utf-8", "surrogateescape"))
    assert Secret(env="HOOK_SECRET").read() == b"\xff\xfe"
