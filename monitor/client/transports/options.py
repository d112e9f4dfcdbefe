"""What every transport is told, and what all of them check: options of the connection, limits, URLs of requests."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from monitor import __version__
from monitor.model.http import Request, are_valid_headers, is_valid_path

POOL_IDLE_S = 1.5
"""Seconds for which an idle connection is kept. Servers keep one for 2 s (gunicorn) or 5 s (uvicorn, Node, Apache), and
lose a request that is on its way when they close it.
"""
MAX_CONNECT_S = 10.0
"""Seconds to connect, divided evenly among the addresses of a host, so that a dead one leaves time for the next."""
_CONNECT_SHARE = 2 / 3
"""Of an attempt that is shorter."""

UNREADABLE_URL = "a request's URL can't be read; check the address in the configuration"
"""The libraries' own messages would quote the URL, which may be a secret."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError if a value is not one line of printable ASCII."""
    if not are_valid_headers(headers):
        raise ValueError("a header's value must be one line of printable ASCII")


def check_path(path: str) -> None:
    """Raises ValueError if a path is not safe: it could lead elsewhere."""
    if not is_valid_path(path):
        raise ValueError("a request's path must be escaped, free of dot segments and below 8 KiB")


def is_absolute(path: str) -> bool:
    """Whether it is a URL, configured as a whole and trusted.

    Raises:
        ValueError: it is one, and has control characters.
    """
    if not path.startswith(("https://", "http://")):
        return False
    if not path.isprintable():
        raise ValueError(UNREADABLE_URL)
    return True


def request_url(base_url: str, request: Request) -> str:
    """The URL of a request; its headers are checked too.

    Raises:
        ValueError: the path is not safe, an absolute URL has control characters, or a header's value is not one line of
            ASCII.
    """
    check_headers(request.headers)
    if is_absolute(request.path):
        return request.path
    check_path(request.path)
    return base_url + request.path


USER_AGENT = f"ingestion-monitor/{__version__}"

DIRECT = "direct"
"""In place of a proxy's URL: no proxy, even if the environment names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How to reach a host."""

    ca_pem: bytes | None = None
    """Certificates to trust in addition to the system's."""
    identity_pem: bytes | None = dataclasses.field(default=None, repr=False)
    """The client's certificate, its chain and its unencrypted private key."""
    proxy: str | None = dataclasses.field(default=None, repr=False)
    """URL of a proxy (http, https, socks5, socks5h), `DIRECT` for none, None to use the environment."""

    attempt_timeout_s: float = 30.0
    """How long an attempt may take: the time to connect is less."""

    @property
    def through_proxy(self) -> bool:
        """Whether every connection goes to a configured proxy; False if only the environment may name one."""
        return self.proxy not in {None, DIRECT}

    @property
    def connect_timeout_s(self) -> float:
        """Seconds for all that comes before the request: name look-up, connection and TLS."""
        return min(MAX_CONNECT_S, _CONNECT_SHARE * self.attempt_timeout_s)


def is_loopback(base_url: str) -> bool:
    """Whether the URL's host is this machine, by its name or address."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def may_use_proxy(base_url: str, connection: ConnectionOptions) -> bool:
    """Whether requests below `base_url` may go through a proxy: a configured one, or one of the environment, except
    towards loopback. macOS and Windows keep proxies, and certificates, where only pyreqwest finds them.
    """
    if connection.proxy is not None:
        return connection.through_proxy
    if is_loopback(base_url):
        return False
    return sys.platform != "linux" or any(
        os.environ.get(each) or os.environ.get(each.upper()) for each in _PROXY_VARIABLES
    )
