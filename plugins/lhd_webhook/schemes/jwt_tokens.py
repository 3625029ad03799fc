"""The scheme ``jwt``: a token that an identity provider signed (RFC 7519), with keys from a JWK Set (RFC 7517)."""

import ipaddress
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import anyio
import jwt
import orjson
from pydantic import Field, field_validator, model_validator

from lhd.plugin import ConfigError, Transient
from lhd_webhook.schemes.fetching import Fetch, fetch
from lhd_webhook.schemes.scheme import Received, Scheme, Verifier

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

_PUBLIC_KEY_TYPES = ("RSA", "EC", "OKP")
_FRESH_S = 3600
_FETCH_AGAIN_S = 60


class JwtScheme(Scheme):
    """A signed JWT in ``Authorization: Bearer``; ``exp`` is demanded, and algorithms are only those that are named."""

    scheme: Literal["jwt"]
    jwks_url: str | None = Field(None, description="Where the provider publishes its keys.")
    jwks_file: str | None = Field(None, description="Path of a file with its keys.")
    algorithms: tuple[Algorithm, ...] = Field(min_length=1, strict=False, description=", ".join(get_args(Algorithm)))
    audience: str = Field(description="What `aud` must hold.")
    issuer: str | None = Field(None, description="What `iss` must be.")
    leeway_s: int = Field(60, ge=0, description="How far the provider's clock may be from ours.")

    @field_validator("jwks_url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("https://") and not _is_loopback(url):
            raise ValueError("use an https:// URL")
        return url

    @model_validator(mode="after")
    def _one_place(self) -> "JwtScheme":
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("name exactly one of jwks_url and jwks_file")
        return self

    def verifier(self) -> "JwtVerifier":
        """See Scheme."""
        verifier = JwtVerifier(self)
        if self.jwks_file is not None:
            try:
                verifier.take(Path(self.jwks_file).read_bytes())
            except (OSError, ValueError) as error:
                text = error.strerror if isinstance(error, OSError) else "it is no JWK Set with a public key"
                raise ConfigError("verify.jwks_file", f"{self.jwks_file} cannot be used: {text}") from None
        return verifier


class JwtVerifier(Verifier):
    """Keeps the provider's keys, and asks for them again when they are old or one is missing."""

    reads_body = False
    proof_headers = ("authorization",)

    def __init__(self, scheme: JwtScheme) -> None:
        self.fetch: Fetch = fetch
        self._scheme = scheme
        self._fetching = anyio.Lock()
        self._keys: dict[str | None, Any] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None

    def take(self, document: bytes) -> None:
        """Use the public keys of a JWK Set, and no others. Raises ValueError."""
        members = orjson.loads(document)
        listed = members.get("keys") if isinstance(members, dict) else None
        public = [
            one
            for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, dict) and one.get("kty") in _PUBLIC_KEY_TYPES
        ]
        try:
            keys = jwt.PyJWKSet(public).keys
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ValueError("no JWK Set") from error
        self._keys = {key.key_id: key.key for key in keys}

    async def verify(self, received: Received, now_s: float) -> str | None:
        """See Verifier; the id of the key. Raises Transient where the keys cannot be fetched."""
        kind, _, token = received.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        try:
            header = jwt.get_unverified_header(token.strip())
        except (jwt.PyJWTError, ValueError):
            return None
        key_id = header.get("kid")
        async with self._fetching:
            await self._refresh(key_id, now_s)
        key = self._keys.get(key_id) if key_id is not None else self._only_key()
        if key is None or not self._is_good(token.strip(), key, now_s):
            return None
        return f"key {key_id}" if key_id is not None else "key"

    def _only_key(self) -> Any:
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _is_good(self, token: str, key: Any, now_s: float) -> bool:
        """Time is lhd's own, so its claims are looked at here."""
        options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "aud"]}
        scheme = self._scheme
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(scheme.algorithms),
                audience=scheme.audience,
                issuer=scheme.issuer,
                options=options,  # type: ignore[arg-type]
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        ends, begins = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(one, int | float) for one in (ends, begins)):
            return False
        return bool(now_s < ends + scheme.leeway_s and begins - scheme.leeway_s <= now_s)

    async def _refresh(self, key_id: Any, now_s: float) -> None:
        url = self._scheme.jwks_url
        if url is None:
            return
        is_fresh = self._fetched_s is not None and now_s - self._fetched_s < _FRESH_S
        is_known = key_id in self._keys or (key_id is None and self._only_key() is not None)
        if is_known and is_fresh:
            return
        # A stranger who names unknown keys must not make lhd ask again and again.
        if self._tried_s is not None and now_s - self._tried_s < _FETCH_AGAIN_S:
            if is_known or self._fetched_s == self._tried_s:
                return
            raise Transient(f"{url} could not be asked", _FETCH_AGAIN_S)
        self._tried_s = now_s
        try:
            self.take(await self.fetch(url))
            self._fetched_s = now_s
        except ValueError:
            if not is_known:
                raise Transient(f"{url} answered with no JWK Set", _FETCH_AGAIN_S) from None
        except Transient:
            if not is_known:
                raise


def _is_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
