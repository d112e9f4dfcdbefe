"""pyreqwest's pool as both wires use it: TLS 1.2 or newer, always verified; no redirects, no cookies, no decoding.

Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`) unless one is configured, and never towards loopback.
"""

import dataclasses
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.proxy import ProxyBuilder

from monitor import __version__

__all__ = ["DIRECT", "USER_AGENT", "Connection", "pool"]

USER_AGENT = f"ingestion-monitor/{__version__}"

DIRECT = "direct"
"""Instead of a proxy's URL: no proxy, whatever the environment says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a host is reached."""

    ca_pem: bytes | None = None
    """Certificates to trust beside the usual ones."""
    identity_pem: bytes | None = dataclasses.field(default=None, repr=False)
    """The client's certificate, its chain and its private key."""
    proxy: str | None = dataclasses.field(default=None, repr=False)
    """The URL of a proxy, `DIRECT` for none, None for what the environment says."""


def pool(base_url: str, connection: Connection) -> Client:
    """A pool of connections, for requests below `base_url`; empty: for absolute URLs.

    Raises:
        ValueError: the certificates, the key or the proxy's URL can't be read.
    """
    builder = ClientBuilder().follow_redirects(enable=False).referer(enable=False).min_tls_version("TLSv1.2")
    # decoded by us, where each step is bounded
    builder = builder.gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False)
    builder = builder.default_headers({"user-agent": USER_AGENT, "accept-encoding": "gzip"})
    if base_url.startswith("https://"):
        builder = builder.https_only(enable=True)
    return _proxied(_trusting(builder, connection), base_url, connection).build()


def _trusting(builder: ClientBuilder, connection: Connection) -> ClientBuilder:
    if connection.ca_pem is not None:
        builder = builder.add_root_certificate_pem(connection.ca_pem)
    return builder if connection.identity_pem is None else builder.identity_pem(connection.identity_pem)


def _proxied(builder: ClientBuilder, base_url: str, connection: Connection) -> ClientBuilder:
    if connection.proxy == DIRECT or _is_loopback(base_url):
        return builder.no_proxy()
    return builder if connection.proxy is None else builder.no_proxy().proxy(ProxyBuilder.all(connection.proxy))


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
