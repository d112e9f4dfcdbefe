"""What a HTTP library's exception says about the network, in our own words: no URL, no secret, no library's phrases."""

import httpx
from pyreqwest.exceptions import DetailedPyreqwestError, NetworkError, RequestTimeoutError

from monitor.exchange import NetworkFault, WireFault

__all__ = ["HEADERS_NOT_TEXT", "TOO_LATE", "fault_of"]

TOO_LATE = WireFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")
HEADERS_NOT_TEXT = WireFault(fault=NetworkFault.PROTOCOL, text="the answer's headers are not text")
"""pyreqwest hands out header values as text only, and gives up on other bytes."""

_BY_CAUSE = (
    (NetworkFault.DNS, ("dns error",)),
    (NetworkFault.REFUSED, ("connection refused", "unreachable", "no route to host")),
    (NetworkFault.RESET, ("reset by peer", "closed before", "broken pipe", "end of file", "eof")),
    (NetworkFault.TIMEOUT, ("timed out",)),
    (NetworkFault.TLS, ("certificate", "tls", "fatal alert", "handshake", "corrupt message", "peer is incompatible")),
    (NetworkFault.TOO_LARGE, ("head is too large",)),
)
_BY_TYPE = (
    ((httpx.TimeoutException, RequestTimeoutError), NetworkFault.TIMEOUT),
    ((httpx.ConnectError, httpx.ProxyError), NetworkFault.REFUSED),
    ((httpx.NetworkError, NetworkError), NetworkFault.RESET),
)
_WORDS = {
    NetworkFault.DNS: "the host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the host",
    NetworkFault.TLS: "no trusted TLS connection to the host",
    NetworkFault.TIMEOUT: "the connection timed out",
    NetworkFault.RESET: "the connection broke before the answer was complete",
    NetworkFault.PROTOCOL: "the answer is not valid HTTP",
    NetworkFault.TOO_LARGE: "the head of the answer is too large",
}


def fault_of(error: Exception) -> WireFault:
    """The fault behind an exception of either library."""
    fault = _by_cause(error) or _by_type(error)
    return WireFault(fault=fault, text=_WORDS[fault])


def _by_cause(error: Exception) -> NetworkFault | None:
    """What pyreqwest's chain of causes says; its own message is "connection error" for all of them."""
    source = error if isinstance(error, DetailedPyreqwestError) else error.__cause__
    causes = source.details["causes"] if isinstance(source, DetailedPyreqwestError) else None
    # the first cause quotes the URL, whose words are not about the fault
    said = " ".join(cause["message"].lower() for cause in (causes or [])[1:])
    return next((fault for fault, words in _BY_CAUSE if any(word in said for word in words)), None)


def _by_type(error: Exception) -> NetworkFault:
    return next((fault for kinds, fault in _BY_TYPE if isinstance(error, kinds)), NetworkFault.PROTOCOL)
