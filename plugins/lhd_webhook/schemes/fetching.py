"""The few requests that verification itself makes: certificates, key sets. Short, small, and never redirected."""

from collections.abc import Awaitable, Callable

import aiohttp

from lhd.plugin import Transient

Fetch = Callable[[str], Awaitable[bytes]]

_BYTES_MAX = 1_048_576
_TIMEOUT_S = 5.0
_TRY_AGAIN_S = 10.0


async def fetch(url: str) -> bytes:
    """The body of a GET that is answered 200. Raises Transient for anything else."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    host = url.split("/")[2]
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise Transient(f"{host} answered {response.status}", _TRY_AGAIN_S)
            body = await response.content.read(_BYTES_MAX + 1)
            while len(body) <= _BYTES_MAX and (more := await response.content.read(_BYTES_MAX + 1 - len(body))):
                body += more
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Transient(f"{host} cannot be asked: {type(error).__name__}", _TRY_AGAIN_S) from None
    if len(body) > _BYTES_MAX:
        raise Transient(f"{host} answered with more than {_BYTES_MAX} bytes", _TRY_AGAIN_S)
    return body
