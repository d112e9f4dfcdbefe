"""pyreqwest's pool as both wires use it: TLS 1.2 or newer, always verified; no redirects, no cookies, no decoding.

Authorities are those of the system (or of `SSL_CERT_FILE`, `SSL_CERT_DIR`). Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`), though never towards loopback; one that is configured is used for everything.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, NetworkError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder

from monitor import __version__
from monitor.model.http import NetworkFault, Request, TransportFault, is_valid_path, are_valid_headers

Kinds = Sequence[tuple[tuple[type[Exception], ...], NetworkFault]]
"""Which fault each type of a library's exceptions is; the first that fits."""

TOO_LATE = TransportFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")
HEADERS_NOT_TEXT = TransportFault(fault=NetworkFault.PROTOCOL, text="the answer's headers are not text")
"""pyreqwest hands out header values as text only, and gives up on other bytes."""

_PROXY_REFUSES = (
    ("proxy authorization required", "the proxy wants credentials, or refuses those that it was given"),
    ("tunnel error: unsuccessful", "the proxy won't connect us to the host"),
)
_BY_CAUSE = (
    (NetworkFault.DNS, ("dns error", "error resolving dns")),
    (NetworkFault.REFUSED, ("connection refused", "unreachable", "no route to host", "tunnel error: unexpected end")),
    (NetworkFault.RESET, ("reset by peer", "closed before", "broken pipe", "end of file", "eof")),
    (NetworkFault.TIMEOUT, ("timed out",)),
    (NetworkFault.TLS, ("certificate", "tls", "fatal alert", "handshake", "corrupt message", "peer is incompatible")),
    (NetworkFault.TOO_LARGE, ("head is too large",)),
    (NetworkFault.REFUSED, ("client error (connect)",)),
)
_BY_TYPE: Kinds = (((RequestTimeoutError,), NetworkFault.TIMEOUT), ((NetworkError,), NetworkFault.RESET))
_WORDS: Mapping[NetworkFault, str] = {
    NetworkFault.DNS: "the host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the host",
    NetworkFault.TLS: "no trusted TLS connection to the host",
    NetworkFault.TIMEOUT: "the connection timed out",
    NetworkFault.RESET: "the connection broke before the answer was complete",
    NetworkFault.PROTOCOL: "the answer is not valid HTTP",
    NetworkFault.TOO_LARGE: "the head of the answer is too large",
}
_WORDS_OF_PROXY: Mapping[NetworkFault, str] = {
    NetworkFault.DNS: "the proxy's host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the proxy",
    NetworkFault.TLS: "no trusted TLS connection to the proxy",
    NetworkFault.TIMEOUT: "the connection to the proxy timed out",
    NetworkFault.RESET: "the proxy broke the connection",
}


def fault_of(error: Exception, *, through_proxy: bool = False, kinds: Kinds = ()) -> TransportFault:
    """The fault behind an exception of pyreqwest, or of a library around it.

    Args:
        error: what a library raised.
        through_proxy: every connection goes to a proxy, so that it is what can't be resolved or refuses.
        kinds: what the types of the other library mean.
    """
    source = _source(error)
    said = _said(source) if source else ""
    for word, text in _PROXY_REFUSES:
        if word in said:
            return TransportFault(fault=NetworkFault.REFUSED, text=text)
    fault = next((fault for fault, words in _BY_CAUSE if any(word in said for word in words)), None)
    fault = fault or _by_type(source or error, [*kinds, *_BY_TYPE])
    words = _WORDS_OF_PROXY if _is_proxys(fault, said, through_proxy=through_proxy) else _WORDS
    return TransportFault(fault=fault, text=words.get(fault) or _WORDS[fault])


def _source(error: BaseException) -> DetailedPyreqwestError | None:
    """The error of pyreqwest itself, which httpx's may wrap."""
    found = error if isinstance(error, DetailedPyreqwestError) else error.__cause__
    return found if isinstance(found, DetailedPyreqwestError) else None


def _said(source: DetailedPyreqwestError) -> str:
    """Its chain of causes; its own message is "connection error" for all of them."""
    # the first cause quotes the URL, whose words are not about the fault
    return " ".join(cause["message"].lower() for cause in (source.details["causes"] or [])[1:])


def _by_type(error: Exception, kinds: Kinds) -> NetworkFault:
    return next((fault for types, fault in kinds if isinstance(error, types)), NetworkFault.PROTOCOL)


def _is_proxys(fault: NetworkFault, said: str, *, through_proxy: bool) -> bool:
    if "error resolving for socks proxy" in said:
        return False  # with socks5 we resolve the host ourselves
    if "tunnel error" in said or "socks" in said:
        return True
    return through_proxy and fault in {NetworkFault.DNS, NetworkFault.REFUSED}


UNREADABLE_URL = "a request's URL can't be read; check the address in the configuration"
"""Libraries' own words would quote the URL, which may be a secret."""


def url_of(base_url: str, request: Request) -> str:
    """Where a request goes; its headers are looked at, too.

    Raises:
        ValueError: the path could lead elsewhere than it says, an absolute URL holds control characters, or a header's
            value is not one line of ASCII.
    """
    if not are_valid_headers(request.headers):
        raise ValueError("a request's header values must each be one line of printable ASCII")
    if request.path.startswith(("https://", "http://")):  # whoever gives a whole URL vouches for it
        if not request.path.isprintable():
            raise ValueError(UNREADABLE_URL)
        return request.path
    if not is_valid_path(request.path):
        raise ValueError("a request's path must be escaped, free of dot segments and below 8 KiB")
    return base_url + request.path


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
