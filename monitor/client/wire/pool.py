"""pyreqwest's pool as both wires use it: TLS 1.2 or newer, always verified; no redirects, no cookies, no decoding.

Authorities are those of the system (or of `SSL_CERT_FILE`, `SSL_CERT_DIR`). Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`), though never towards loopback; one that is configured is used for everything.
"""

import dataclasses
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError
from pyreqwest.proxy import ProxyBuilder

from monitor import __version__

__all__ = ["DIRECT", "USER_AGENT", "Connection", "pool"]

USER_AGENT = f"ingestion-monitor/{__version__}"

DIRECT = "direct"
"""Instead of a proxy's URL: no proxy, whatever the environment says."""

_PROXIES = ("http://", "https://", "socks5://", "socks5h://")
_NO_AUTHORITY = "No CA certificates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a host is reached."""

    ca_pem: bytes | None = None
    """Certificates to trust beside the system's."""
    identity_pem: bytes | None = dataclasses.field(default=None, repr=False)
    """The client's certificate, its chain and its private key, which is not encrypted."""
    proxy: str | None = dataclasses.field(default=None, repr=False)
    """The URL of a proxy (http, https, socks5, socks5h), `DIRECT` for none, None for what the environment says."""

    @property
    def through_proxy(self) -> bool:
        """Whether every connection goes to a proxy. False, too, where only the environment may name one."""
        return self.proxy not in {None, DIRECT}


def pool(base_url: str, connection: Connection) -> Client:
    """A pool of connections, for requests below `base_url`; empty: for absolute URLs.

    Raises:
        ValueError: the certificates, the key or the proxy's URL can't be used, or the system trusts no authority at
            all. The text says which, and quotes nothing.
    """
    builder = ClientBuilder().follow_redirects(enable=False).referer(enable=False).min_tls_version("TLSv1.2")
    # decoded by us, where each step is bounded
    builder = builder.gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False)
    # named here, a proxy is told no other name than the API
    builder = builder.user_agent(USER_AGENT).default_headers({"accept-encoding": "gzip"})
    if base_url.startswith("https://"):
        builder = builder.https_only(enable=True)
    builder = _trusting(_proxied(builder, base_url, connection), connection)
    try:
        return builder.build()
    except BuilderError as error:
        raise ValueError(_why(error, connection)) from None


def _why(error: BuilderError, connection: Connection) -> str:
    said = " ".join(cause["message"] for cause in error.details["causes"] or [])
    if _NO_AUTHORITY in said:
        return "this system trusts no certificate authority: install ca-certificates, or name a file in SSL_CERT_FILE"
    if connection.identity_pem is None:
        return "the certificates to trust can't be used"
    return "the client's certificate and private key can't be used, or don't belong together"


def _trusting(builder: ClientBuilder, connection: Connection) -> ClientBuilder:
    if connection.ca_pem is not None:
        if b"-----BEGIN CERTIFICATE-----" not in connection.ca_pem:
            raise ValueError("the certificates to trust hold none in PEM form")  # pyreqwest would trust nothing more
        builder = builder.add_root_certificate_pem(connection.ca_pem)
    if connection.identity_pem is None:
        return builder
    try:
        return builder.identity_pem(connection.identity_pem)
    except ValueError:
        raise ValueError("the client's certificate and private key can't be read as PEM") from None


def _proxied(builder: ClientBuilder, base_url: str, connection: Connection) -> ClientBuilder:
    if connection.proxy is None:
        return builder.no_proxy() if _is_loopback(base_url) else builder
    if connection.proxy == DIRECT:
        return builder.no_proxy()
    return builder.no_proxy().proxy(_proxy(connection.proxy))


def _proxy(url: str) -> ProxyBuilder:
    refused = ValueError("the proxy's URL must begin with http, https, socks5 or socks5h, and name a host")
    if not url.startswith(_PROXIES):
        raise refused  # pyreqwest would go around such a proxy
    try:
        return ProxyBuilder.all(url)
    except ValueError:
        raise refused from None


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
