"""A server on loopback that speaks PostgreSQL's protocol as far as to refuse a connection, in any language."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


@contextlib.contextmanager
def refusing_server(*, sqlstate: str, message: str, severity: str = "FATAL") -> Iterator[int]:
    """Its port. Each connection gets one ErrorResponse after its startup message, and is closed."""
    fields = {"S": severity, "V": "FATAL", "C": sqlstate, "M": message}
    body = b"".join(f"{name}{value}".encode() + b"\0" for name, value in fields.items()) + b"\0"
    answer = b"E" + (len(body) + 4).to_bytes(4, "big") + body
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, answer), daemon=True).start()
        yield listening.getsockname()[1]
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                _refuse(connection, answer)


def _refuse(connection: socket.socket, answer: bytes) -> None:
    while True:
        length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        request = connection.recv(length - 4, socket.MSG_WAITALL)
        if int.from_bytes(request[:4], "big") not in {_SSL_REQUEST, _GSS_REQUEST}:
            break
        connection.sendall(b"N")
    connection.sendall(answer)
