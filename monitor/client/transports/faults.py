"""The fault behind an error of the network, with our own message: the same of every transport."""

import errno
import socket
import ssl
from collections.abc import Mapping

from monitor.model.http import NetworkFault, TransportFault

TIMED_OUT = TransportFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")

FAULT_MESSAGES: Mapping[NetworkFault, str] = {
    NetworkFault.DNS: "the host name can't be resolved",
    NetworkFault.REFUSED: "no connection to the host",
    NetworkFault.TLS: "no trusted TLS connection to the host",
    NetworkFault.TIMEOUT: "the connection timed out",
    NetworkFault.RESET: "the connection broke before the answer was complete",
    NetworkFault.PROTOCOL: "the answer is not valid HTTP",
    NetworkFault.TOO_LARGE: "the head of the answer is too large",
}


def fault_of_kind(fault: NetworkFault, *, unanswered: bool = False) -> TransportFault:
    """The fault with its message."""
    return TransportFault(fault=fault, text=FAULT_MESSAGES[fault], unanswered=unanswered)


def fault_of_error(error: OSError, *, connected: bool) -> NetworkFault:
    """What an error of a socket, of the name look-up or of TLS means. `connected`: a connection was there before it."""
    if isinstance(error, socket.gaierror):
        return NetworkFault.DNS
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return NetworkFault.RESET
    if isinstance(error, ssl.SSLError):
        return NetworkFault.TLS
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return NetworkFault.TIMEOUT
    return NetworkFault.RESET if connected else NetworkFault.REFUSED
