"""What a HTTP library's exception says about the network, in our own words: no URL, no secret, no library's phrases."""

from collections.abc import Mapping, Sequence

from pyreqwest.exceptions import DetailedPyreqwestError, NetworkError, RequestTimeoutError

from monitor.exchange import NetworkFault, WireFault

__all__ = ["HEADERS_NOT_TEXT", "TOO_LATE", "Kinds", "fault_of"]

Kinds = Sequence[tuple[tuple[type[Exception], ...], NetworkFault]]
"""Which fault each type of a library's exceptions is; the first that fits."""

TOO_LATE = WireFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")
HEADERS_NOT_TEXT = WireFault(fault=NetworkFault.PROTOCOL, text="the answer's headers are not text")
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


def fault_of(error: Exception, *, through_proxy: bool = False, kinds: Kinds = ()) -> WireFault:
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
            return WireFault(fault=NetworkFault.REFUSED, text=text)
    fault = next((fault for fault, words in _BY_CAUSE if any(word in said for word in words)), None)
    fault = fault or _by_type(source or error, [*kinds, *_BY_TYPE])
    words = _WORDS_OF_PROXY if _is_proxys(fault, said, through_proxy=through_proxy) else _WORDS
    return WireFault(fault=fault, text=words.get(fault) or _WORDS[fault])


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
