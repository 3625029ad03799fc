"""gRPC listeners as they are configured: TLS, mTLS, and who a caller is (api.md 1, 2.2)."""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import structlog

from lhd.api.server import Authenticate, nobody_asks
from lhd.config import OAuthTable, TlsTable
from lhd.core.access import ANONYMOUS
from lhd.errors import Code, Rejection

_CACHED_MAX = 10_000
_CACHED_S = 4 * 3600.0
_TIMEOUT_S = 10.0


def credentials(tls: TlsTable, *, require_client: bool) -> grpc.ServerCredentials:
    """The certificate of a listener, and the authority of its clients' ones. Raises OSError."""
    authority = None if tls.client_ca is None else Path(tls.client_ca).read_bytes()
    pair = (Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=require_client)


async def by_certificate(context: Any) -> str:
    """The principal is the first common name of the client's certificate, which TLS has verified."""
    names = context.auth_context().get("x509_common_name", ())
    return names[0].decode(errors="replace") if names else ANONYMOUS


class OAuth:
    """The principal is who a token was issued to, as the authorisation server tells (RFC 7662)."""

    def __init__(self, table: OAuthTable, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._secret = table.client_secret.read().decode()
        self._clock_s = clock_s
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None
        self._log = structlog.get_logger("lhd.api")

    async def __call__(self, context: Any) -> str:
        """See :data:`lhd.api.server.Authenticate`."""
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata.get("authorization", "")).strip()
        scheme, _, rest = token.partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else token
        if not token:
            raise Rejection(Code.UNAUTHENTICATED, "this listener needs an access token in 'authorization'")
        known = self._known.get(token)
        if known is not None and known[0] > self._clock_s():
            return known[1]
        principal = _principal(await self._introspect(token))
        self._known[token] = (self._clock_s() + _CACHED_S, principal)
        self._known.move_to_end(token)
        if len(self._known) > _CACHED_MAX:
            self._known.popitem(last=False)
        return principal

    async def _introspect(self, token: str) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        headers = {"Authorization": aiohttp.encode_basic_auth(self._table.client_id, self._secret)}
        try:
            async with self._session.post(
                self._table.introspect_url, data={"token": token}, headers=headers
            ) as response:
                response.raise_for_status()
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._log.warning("a token cannot be checked", url=self._table.introspect_url, cause=type(error).__name__)
            text = f"the token cannot be checked with the authorisation server ({type(error).__name__})"
            raise Rejection(Code.ABORTED, text) from error
        if not isinstance(answer, dict):
            raise Rejection(Code.ABORTED, "the authorisation server's answer is no JSON object")
        return answer

    async def close(self) -> None:
        """Close the connections to the authorisation server."""
        if self._session is not None:
            await self._session.close()


def _principal(answer: dict[str, Any]) -> str:
    scope = answer.get("scope")
    if answer.get("active") is not True or not isinstance(scope, str) or not scope.split():
        raise Rejection(Code.UNAUTHENTICATED, "the access token is not valid here")
    name = answer.get("username" if "openid" in scope.split() else "client_id")
    if not isinstance(name, str) or not name:
        raise Rejection(Code.UNAUTHENTICATED, "the access token names nobody")
    return name


def authentication(auth: Any) -> Authenticate:
    """How a listener finds out who calls. Raises ConfigError where the client secret cannot be read."""
    if auth == "none":
        return nobody_asks
    return by_certificate if auth == "mtls" else OAuth(auth.oauth)
