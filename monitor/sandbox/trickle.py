"""An answer that is written to the connection by hand: slowly, or not to its end. Its connection ends with it.

A server writes headers at once and bodies whole, so what should drip or be cut is gathered here first.
"""

from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope

from monitor.sandbox.faults import Fault
from monitor.sandbox.state import Connection

__all__ = ["gather", "write"]

TICKS_PER_S = 20


async def gather(app: ASGIApp, scope: Scope, receive: Receive, finish: Callable[[Message], None]) -> tuple[bytes, ...]:
    """What an application answers, as it would stand on the wire: the head and the body.

    Args:
        app: answers the call.
        scope: the call (ASGI).
        receive: where its body comes from.
        finish: completes the answer's headers.
    """
    head, body = b"", bytearray()

    async def keep(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            finish(message)
            head = _head(message)
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    if b"\r\ncontent-length:" not in head.lower():  # what was to be streamed is whole by now
        head += b"content-length: %d\r\n" % len(body)
    return head + b"connection: close\r\n\r\n", b"" if scope["method"] == "HEAD" else bytes(body)


def _head(message: Message) -> bytes:
    status = message["status"]
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    lines += [b"%s: %s" % (name, value) for name, value in MutableHeaders(scope=message).raw]
    return b"\r\n".join(lines) + b"\r\n"


async def write(connection: Connection, fault: Fault, head: bytes, body: bytes) -> bool:
    """Writes an answer as a fault wants it.

    Returns:
        Whether the client stayed until what should be written was written.
    """
    if fault.cut_after is not None:
        body = body[: min(fault.cut_after, max(len(body) - 1, 0))]
    if fault.drip is not None:
        at_once, slowly = (b"", head + body) if fault.drip_headers else (head, body)
    else:
        at_once, slowly = head + body, b""
    connection.transport.write(at_once)
    return await _drip(connection, slowly, bytes_per_s=fault.drip or 1.0)


async def _drip(connection: Connection, content: bytes, *, bytes_per_s: float) -> bool:
    piece = max(1, int(bytes_per_s / TICKS_PER_S))
    for start in range(0, len(content), piece):
        if not await connection.outlasts(piece / bytes_per_s):
            return False
        connection.transport.write(content[start : start + piece])
    return not connection.gone.is_set()
