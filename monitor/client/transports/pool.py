"""pyreqwest's pool for both transports: TLS 1.2 or newer, always verified; no redirects, no cookies, no decoding.

It trusts the system's certificate authorities (or `SSL_CERT_FILE`, `SSL_CERT_DIR`). Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`), except for loopback; a configured proxy is used for everything.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, NetworkError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.response import BaseResponse

from monitor.client.transports.certificates import (
    MIXED_IDENTITY,
    NO_AUTHORITIES,
    NO_CERTIFICATE,
    UNREADABLE_IDENTITY,
    UNUSABLE_AUTHORITIES,
)
from monitor.client.transports.faults import FAULT_MESSAGES
from monitor.client.transports.options import DIRECT, POOL_IDLE_S, USER_AGENT, ConnectionOptions, is_loopback
from monitor.model.http import NetworkFault, TransportFault

FaultTypes = Sequence[tuple[tuple[type[Exception], ...], NetworkFault]]
"""The fault for each type of a library's exceptions; the first match wins."""

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
    messages = _PROXY_FAULT_MESSAGES if _is_proxy_fault(fault, message, through_proxy=through_proxy) else FAULT_MESSAGES
    unanswered = fault is NetworkFault.RESET and _NO_ANSWER in message
    return TransportFault(fault=fault, text=messages.get(fault) or FAULT_MESSAGES[fault], unanswered=unanswered)


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


_PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")
_NO_CA_MESSAGE = "No CA certificates"


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
    builder = builder.connect_timeout(timedelta(seconds=connection.connect_timeout_s))
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
        return NO_AUTHORITIES
    if connection.identity_pem is None:
        return UNUSABLE_AUTHORITIES
    return MIXED_IDENTITY


def _with_certificates(builder: ClientBuilder, connection: ConnectionOptions) -> ClientBuilder:
    if connection.ca_pem is not None:
        if b"-----BEGIN CERTIFICATE-----" not in connection.ca_pem:
            raise ValueError(NO_CERTIFICATE)  # pyreqwest would silently add nothing
        builder = builder.add_root_certificate_pem(connection.ca_pem)
    if connection.identity_pem is None:
        return builder
    try:
        return builder.identity_pem(connection.identity_pem)
    except ValueError:
        raise ValueError(UNREADABLE_IDENTITY) from None


def _with_proxy(builder: ClientBuilder, base_url: str, connection: ConnectionOptions) -> ClientBuilder:
    if connection.proxy is None:
        return builder.no_proxy() if is_loopback(base_url) else builder
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
