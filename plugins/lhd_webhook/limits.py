"""Who is asking, from where, and whether too often. Decided before a body is read."""

import ipaddress
import math
from collections import OrderedDict

from pydantic import Field

from lhd.plugin import Model

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PEERS_MAX = 10_000


class Rate(Model):
    """A token bucket."""

    per_s: float = Field(gt=0, description="Requests a second, in the long run.")
    burst: int = Field(ge=1, description="Requests at once.")


class RateLimit:
    """One bucket for each of the latest peers."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, peer: str, now_s: float) -> float | None:
        """Take a token; None where there was one, else the seconds until there is. ``now_s`` is a monotonic time."""
        tokens, at_s = self._buckets.pop(peer, (float(self._rate.burst), now_s))
        tokens = min(self._rate.burst, tokens + (now_s - at_s) * self._rate.per_s)
        wait_s = None if tokens >= 1 else (1 - tokens) / self._rate.per_s
        self._buckets[peer] = (tokens - 1 if wait_s is None else tokens, now_s)
        if len(self._buckets) > _PEERS_MAX:
            self._buckets.popitem(last=False)
        return wait_s


def parse_network(text: str) -> Network:
    """A network, or one address: of IPv4 its 32 bits, of IPv6 its 128. Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no network, as 192.0.2.0/24 or 2001:db8::/32: {error}") from None


def client_address(peer: str | None, forwarded: str, proxies: int) -> Address | None:
    """Where a request comes from, behind a number of trusted proxies; None where that cannot be known.

    Each proxy has added whom it heard from at the end of ``X-Forwarded-For``; what stands before is a stranger's word.
    """
    if proxies == 0:
        return _address(peer or "")
    entries = forwarded.split(",")
    return _address(entries[-proxies]) if len(entries) >= proxies else None


def peer_name(address: Address | None) -> str:
    """Under what name a client's requests are counted: of IPv6 one customer has a whole /64."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def whole_seconds(wait_s: float) -> str:
    """A value of Retry-After: never 0, which would ask for the next try at once."""
    return str(max(1, math.ceil(wait_s)))


def _address(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
