"""The socket that the endpoints listen on, bound by ourselves: a failure inside uvicorn would end the process."""

import errno
import socket
from collections.abc import Mapping

from monitor.errors import MonitorError

__all__ = ["ListenError", "address_of", "bound", "listening"]

_BACKLOG = 128

_REMEDIES: Mapping[int, str] = {
    errno.EADDRINUSE: "is taken by another program, perhaps by another daemon of this machine; end that, or set "
    "web.listen to another port, or to port 0 for any that is free",
    errno.EADDRNOTAVAIL: "is no address of this machine; set web.listen to one that is, such as 127.0.0.1:8990",
    errno.EACCES: "may not be taken by this user; set web.listen to a port above 1023",
}
_OTHERWISE = "can't be listened on; set web.listen to an address of this machine, such as 127.0.0.1:8990"


class ListenError(MonitorError):
    """An address that can't be listened on; the text says what to do.

    Args:
        text: one sentence.
        number: of the system's error; None when it named none.
    """

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.errno = number

    @property
    def taken(self) -> bool:
        """Whether somebody else listens there."""
        return self.errno == errno.EADDRINUSE


def bound(address: tuple[str, int]) -> socket.socket:
    """A socket on an address that does not listen yet. Blocks while a host's name is looked up.

    Args:
        address: host and port; port 0 takes a free one.

    Raises:
        ListenError: the address can't be had.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: each answer would wait 40 ms for an ACK
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _refused(address, error) from error
    return listener


def listening(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        ListenError: the address can't be had.
    """
    listener = bound(address)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(address, error) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """What it listens on, with the port that was chosen, such as `127.0.0.1:8990`."""
    host, port = listener.getsockname()[:2]
    return _shown(host, port)


def _refused(address: tuple[str, int], error: OSError) -> ListenError:
    return ListenError(f"{_shown(*address)} {_REMEDIES.get(error.errno or 0, _OTHERWISE)}", error.errno)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
