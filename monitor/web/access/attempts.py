"""How many wrong tokens are answered before the next one has to wait. Pure: `now_s` is a monotonic clock in seconds."""

import ipaddress
from collections import OrderedDict, deque

WINDOW_S = 60.0
MAX_PER_CLIENT = 10
"""Wrong tokens of one address in the window."""
MAX_IN_ALL = 100
"""Wrong tokens of all addresses in the window; one that has sent the right token is limited by its own alone."""
MAX_CLIENTS = 1000
"""Addresses that are remembered."""
_V6_PREFIX = 64


class Attempts:
    """The wrong tokens of the last minute, of each client and of all."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=MAX_IN_ALL)
        self._known: OrderedDict[str, None] = OrderedDict()
        """Addresses that sent the right token, the latest last."""

    def wait_s(self, client: str, *, now_s: float) -> float:
        """Seconds until this client's token is looked at; 0: now."""
        name = _network(client)
        waits = [_wait_s(self._failures.get(name, deque()), MAX_PER_CLIENT, now_s)]
        if name not in self._known:
            waits.append(_wait_s(self._all, MAX_IN_ALL, now_s))
        return max(waits)

    def failed(self, client: str, *, now_s: float) -> None:
        """Counts a wrong token."""
        name = _network(client)
        times = self._failures.setdefault(name, deque(maxlen=MAX_PER_CLIENT))
        times.append(now_s)
        self._all.append(now_s)
        self._failures.move_to_end(name)
        if len(self._failures) > MAX_CLIENTS:
            self._failures.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """Remembers that a client has the token."""
        name = _network(client)
        self._known[name] = None
        self._known.move_to_end(name)
        if len(self._known) > MAX_CLIENTS:
            self._known.popitem(last=False)


def _wait_s(times: "deque[float]", limit: int, now_s: float) -> float:
    """`times` holds at most `limit` of them: the oldest has to be older than the window."""
    return max(0.0, times[0] + WINDOW_S - now_s) if len(times) >= limit else 0.0


def _network(client: str) -> str:
    """The address, or of IPv6 its network of 64 bits, of which one customer has all addresses."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:  # a socket that listens on both: else all of IPv4 would be one network
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed, _V6_PREFIX), strict=False))
