"""pyreqwest's pool for both transports: TLS 1.2 or newer, always verified; no redirects, no cookies, no decoding.

It trusts the system's certificate authorities (or `SSL_CERT_FILE`, `SSL_CERT_DIR`). Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`), except for loopback; a configured proxy is used for everything.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, NetworkError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.response import BaseResponse

from monitor import __version__
from monitor.model.http import NetworkFault, Operation, Reply, Request, TransportFault, are_valid_headers, is_valid_path

FaultTypes = Sequence[tuple[tuple[type[Exception], ...], NetworkFault]]
"""The fault for each type of a library's exceptions; the first match wins."""

TIMED_OUT = TransportFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")

POOL_IDLE_S = 1.5
"""Seconds for which an idle connection is kept. Servers keep one for 2 s (gunicorn) or 5 s (uvicorn, Node, Apache), and
lose a request that is on its way when they close it.
"""
MAX_CONNECT_S = 10.0
"""Seconds to connect, divided evenly among the addresses of a host, so that a dead one leaves time for the next."""
_CONNECT_SHARE = 2 / 3
"""Of an attempt that is shorter."""

_PROXY_REFUSALS = (
    ("proxy authorization required", "the proxy requires credentials, or rejects those it got"),
    ("tunnel error: unsuccessful", "the proxy refuses to connect to the host"),
)
_FAULT_BY_MESSAGE = (
    (NetworkFault.DNS, ("dns error", "error resolving dns")),
    (NetworkFault.REFUSED, ("connection refused", "unreachable", "no route to host", "tunnel error: unexpected end")),
    (NetworkFault.RESET, ("reset by peer", "closed before", "broken pipe", "end of file", "eof")),
    (NetworkFault.TIMEOUT, ("timed out",)),
    (NetworkFault.TLS, ("certificate", "tls", "fatal alert", "handshake", "corrupt message", "peer is incompatible")),
    (NetworkFault.TOO_LARGE, ("head is too large",)),
    (NetworkFault.REFUSED, ("client error (connect)",)),
)
_NO_ANSWER = "client error (sendrequest)"
"""The connection broke before the head of an answer was complete."""
_FAULT_BY_TYPE: FaultTypes = (((RequestTimeoutError,), NetworkFault.TIMEOUT), ((NetworkError,), NetworkFault.RESET))
_FAULT_MESSAGES: Mapping[NetworkFault, str] = {
    NetworkFault.DNS: "the host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the host",
    NetworkFault.TLS: "no trusted TLS connection to the host",
    NetworkFault.TIMEOUT: "the connection timed out",
    NetworkFault.RESET: "the connection broke before the answer was complete",
    NetworkFault.PROTOCOL: "the answer is not valid HTTP",
    NetworkFault.TOO_LARGE: "the head of the answer is too large",
}
_PROXY_FAULT_MESSAGES: Mapping[NetworkFault, str] = {
    NetworkFault.DNS: "the proxy's host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the proxy",
    NetworkFault.TLS: "no trusted TLS connection to the proxy",
    NetworkFault.TIMEOUT: "the connection to the proxy timed out",
    NetworkFault.RESET: "the proxy broke the connection",
}


def fault_from_error(error: Exception, *, through_proxy: bool = False, fault_types: FaultTypes = ()) -> TransportFault:
    """The fault behind an exception of pyreqwest, or of a library around it, whose exception types `fault_types`
    maps.
    """
    source = _source(error)
    message = _cause_text(source) if source else ""
    for message_part, text in _PROXY_REFUSALS:
        if message_part in message:
            return TransportFault(fault=NetworkFault.REFUSED, text=text)
    fault = next(
        (fault for fault, messages in _FAULT_BY_MESSAGE if any(message_part in message for message_part in messages)),
        None,
    )
    fault = fault or _by_type(source or error, [*fault_types, *_FAULT_BY_TYPE])
    messages = (
        _PROXY_FAULT_MESSAGES if _is_proxy_fault(fault, message, through_proxy=through_proxy) else _FAULT_MESSAGES
    )
    unanswered = fault is NetworkFault.RESET and _NO_ANSWER in message
    return TransportFault(fault=fault, text=messages.get(fault) or _FAULT_MESSAGES[fault], unanswered=unanswered)


def _source(error: BaseException) -> DetailedPyreqwestError | None:
    """The pyreqwest error, which an httpx error may wrap."""
    found = error if isinstance(error, DetailedPyreqwestError) else error.__cause__
    return found if isinstance(found, DetailedPyreqwestError) else None


def _cause_text(source: DetailedPyreqwestError) -> str:
    """Its chain of causes; its own message is always "connection error"."""
    # the first cause quotes the URL
    return " ".join(cause["message"].lower() for cause in (source.details["causes"] or [])[1:])


def _by_type(error: Exception, fault_types: FaultTypes) -> NetworkFault:
    return next((fault for types, fault in fault_types if isinstance(error, types)), NetworkFault.PROTOCOL)


def _is_proxy_fault(fault: NetworkFault, message: str, *, through_proxy: bool) -> bool:
    if "error resolving for socks proxy" in message:
        return False  # with socks5 the host is resolved here
    if "tunnel error" in message or "socks" in message:
        return True
    return through_proxy and fault in {NetworkFault.DNS, NetworkFault.REFUSED}


class ReuseTracker:
    """Tells a request that may have met the closing of an idle connection from one that a server dropped.

    A server may close an idle connection at any moment, with a request on its way. RFC 9110 (9.2.2) lets a client
    repeat it by itself. The libraries don't say which connection a request had: it may have been an old one if another
    answer came since, or shortly before it was sent.
    """

    def __init__(self) -> None:
        self._answered_s = -math.inf

    def record_answer(self, request: Request) -> None:
        """Notes that an answer is complete: its connection is idle now. A granted token says nothing about the API: a
        service that drops all other requests is down.
        """
        if request.operation is not Operation.TOKEN:
            self._answered_s = time.monotonic()

    def may_repeat(self, request: Request, fault: Reply | TransportFault, *, started_s: float) -> bool:
        """Whether to repeat the request at once on a new connection: that is no second attempt."""
        if not isinstance(fault, TransportFault) or not fault.unanswered or request.operation is Operation.WRITE:
            return False
        return self._answered_s >= started_s - POOL_IDLE_S


def text_headers(response: BaseResponse) -> list[tuple[str, str]]:
    """The header fields that are text, repeated ones too. A value is opaque (RFC 9110, 5.5): whoever sends other bytes
    than ASCII means no field that we use.
    """
    try:
        return list(response.headers.items())
    except ValueError:
        fields = [(name, _text_values(response, name)) for name in dict.fromkeys(response.headers.keys())]
        return [(name, value) for name, values in fields for value in values]


def _text_values(response: BaseResponse, name: str) -> Sequence[str]:
    try:
        return response.get_header_all(name)
    except ValueError:
        return ()


UNREADABLE_URL = "a request's URL can't be read; check the address in the configuration"
"""The libraries' own messages would quote the URL, which may be a secret."""


def request_url(base_url: str, request: Request) -> str:
    """The URL of a request; its headers are checked too.

    Raises:
        ValueError: the path is not safe, an absolute URL has control characters, or a header's value is not one line of
            ASCII.
    """
    if not are_valid_headers(request.headers):
        raise ValueError("a header's value must be one line of printable ASCII")
    if request.path.startswith(("https://", "http://")):  # configured as a whole: trusted
        if not request.path.isprintable():
            raise ValueError(UNREADABLE_URL)
        return request.path
    if not is_valid_path(request.path):
        raise ValueError("a request's path must be escaped, free of dot segments and below 8 KiB")
    return base_url + request.path


USER_AGENT = f"ingestion-monitor/{__version__}"

DIRECT = "direct"
"""In place of a proxy's URL: no proxy, even if the environment names one."""

_PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")
_NO_CA_MESSAGE = "No CA certificates"


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


def create_pool(base_url: str, connection: ConnectionOptions, *, reuse: bool = True) -> Client:
    """A pool of connections for requests below `base_url`; empty: for absolute URLs. `reuse`: whether a connection
    serves more than one request.

    Raises:
        ValueError: the certificates, the key or the proxy's URL can't be used, or the system has no CA certificates.
            The text says which, and quotes nothing.
    """
    builder = ClientBuilder().follow_redirects(enable=False).referer(enable=False).min_tls_version("TLSv1.2")
    # `BodyReader` decodes, with a limit for each step
    builder = builder.gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False)
    # obsolete line folding is read as spaces (RFC 9112, 5.2); a line that is no header field is left out
    builder = builder.http1_allow_obsolete_multiline_headers_in_responses(value=True)
    builder = builder.http1_ignore_invalid_headers_in_responses(value=True)
    builder = builder.pool_idle_timeout(timedelta(seconds=POOL_IDLE_S))
    if not reuse:
        builder = builder.pool_max_idle_per_host(0)
    builder = builder.connect_timeout(
        timedelta(seconds=min(MAX_CONNECT_S, _CONNECT_SHARE * connection.attempt_timeout_s))
    )
    # set here, a proxy gets the same name as the API
    builder = builder.user_agent(USER_AGENT).default_headers({"accept-encoding": "gzip"})
    if base_url.startswith("https://"):
        builder = builder.https_only(enable=True)
    builder = _with_certificates(_with_proxy(builder, base_url, connection), connection)
    try:
        return builder.build()
    except BuilderError as error:
        raise ValueError(_builder_error_text(error, connection)) from None


def _builder_error_text(error: BuilderError, connection: ConnectionOptions) -> str:
    message = " ".join(cause["message"] for cause in error.details["causes"] or [])
    if _NO_CA_MESSAGE in message:
        return "this system has no CA certificates: install ca-certificates, or set SSL_CERT_FILE"
    if connection.identity_pem is None:
        return "the CA certificates can't be used"
    return "the client's certificate and private key can't be used, or don't belong together"


def _with_certificates(builder: ClientBuilder, connection: ConnectionOptions) -> ClientBuilder:
    if connection.ca_pem is not None:
        if b"-----BEGIN CERTIFICATE-----" not in connection.ca_pem:
            raise ValueError("the CA file has no certificate in PEM form")  # pyreqwest would silently add nothing
        builder = builder.add_root_certificate_pem(connection.ca_pem)
    if connection.identity_pem is None:
        return builder
    try:
        return builder.identity_pem(connection.identity_pem)
    except ValueError:
        raise ValueError("the client's certificate and private key can't be read as PEM") from None


def _with_proxy(builder: ClientBuilder, base_url: str, connection: ConnectionOptions) -> ClientBuilder:
    if connection.proxy is None:
        return builder.no_proxy() if _is_loopback(base_url) else builder
    if connection.proxy == DIRECT:
        return builder.no_proxy()
    return builder.no_proxy().proxy(_proxy(connection.proxy))


def _proxy(url: str) -> ProxyBuilder:
    refused = ValueError("the proxy's URL must begin with http, https, socks5 or socks5h and name a host")
    if not url.startswith(_PROXY_SCHEMES):
        raise refused  # pyreqwest would bypass such a proxy
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
