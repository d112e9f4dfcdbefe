"""A TLS server in its own thread on blocking sockets: unlike asyncio's, it sends an alert if it ends a handshake."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"


@dataclass
class TlsServer:
    url: str
    shook: list[str] = field(default_factory=list)
    """The TLS versions of completed handshakes."""
    received: list[bytes] = field(default_factory=list)
    certified: list[str] = field(default_factory=list)
    """The names in the certificates of clients."""


@contextlib.contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[TlsServer]:
    """Answers every request with 200 and two bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = TlsServer(url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=_serve, args=(listener, context, server))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # accept() returns
            thread.join()


def _serve(listener, context, server):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            _answer(connection, context, server)


def _answer(connection, context, server):
    wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    with wrapped:
        try:
            wrapped.do_handshake()
        except ssl.SSLError:
            # closing with unread bytes would send a reset and lose the alert
            raw = wrapped.detach()
            with socket.socket(fileno=raw) as rest:
                rest.settimeout(1)
                while rest.recv(65_536):
                    pass
            raise
        server.shook.append(wrapped.version())
        shown = wrapped.getpeercert()
        if shown:
            server.certified += [name for _, name in shown["subjectAltName"]]
        server.received.append(wrapped.recv(65_536))
        wrapped.sendall(ANSWER)
