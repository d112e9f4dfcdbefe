"""Counts every request to the engine, and applies the faults. Control requests pass through uncounted."""

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.sandbox.faults import Fault
from monitor.sandbox.state import ClientConnection, SandboxState

TICKS_PER_S = 20


async def capture_answer(
    app: ASGIApp, scope: Scope, receive: Receive, finish: Callable[[Message], None]
) -> tuple[bytes, ...]:
    """An application's answer as bytes on the wire: head and body. `finish` completes the answer's headers."""
    head, body = b"", bytearray()

    async def keep(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            finish(message)
            head = _head(message)
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    if b"\r\ncontent-length:" not in head.lower():  # a streamed body is complete now
        head += b"content-length: %d\r\n" % len(body)
    return head + b"connection: close\r\n\r\n", b"" if scope["method"] == "HEAD" else bytes(body)


def _head(message: Message) -> bytes:
    status = message["status"]
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    lines += [b"%s: %s" % (name, value) for name, value in MutableHeaders(scope=message).raw]
    return b"\r\n".join(lines) + b"\r\n"


async def write_answer(connection: ClientConnection, fault: Fault, head: bytes, body: bytes) -> bool:
    """Writes an answer as the fault says. Returns whether the client stayed to the end."""
    if fault.cut_after is not None:
        body = body[: min(fault.cut_after, max(len(body) - 1, 0))]
    if fault.drip is not None:
        immediately, slowly = (b"", head + body) if fault.drip_headers else (head, body)
    else:
        immediately, slowly = head + body, b""
    connection.transport.write(immediately)
    return await _drip(connection, slowly, bytes_per_s=fault.drip or 1.0)


async def _drip(connection: ClientConnection, content: bytes, *, bytes_per_s: float) -> bool:
    piece = max(1, int(bytes_per_s / TICKS_PER_S))
    for start in range(0, len(content), piece):
        if not await connection.stays_open(piece / bytes_per_s):
            return False
        connection.transport.write(content[start : start + piece])
    return not connection.closed.is_set()


class FaultMiddleware:
    """An application behind the faults of a state."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request (ASGI)."""
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox"):
            await self._app(scope, receive, send)
            return
        state = self._state
        with state.lock:
            fault = state.faults.match_request(scope["method"], scope["path"], state.clock())
            state.in_flight += 1
            state.max_in_flight = max(state.max_in_flight, state.in_flight)
        try:
            if fault is None:
                await self._app(scope, receive, self._counting(scope, send, None))
            else:
                await self._apply_fault(fault, scope, receive, send)
        except ClientDisconnect:
            return  # counted as gone
        finally:
            with state.lock:
                state.in_flight -= 1

    async def _apply_fault(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._state.connections.get(tuple(scope["client"]))
        if connection is None or not await connection.stays_open(fault.delay_s):
            self._count(scope, "gone")
            return
        if fault.expires:
            with self._state.lock:
                self._state.engine.credentials.expire_tokens()
        answer = self._app
        if not fault.passes:
            content, media_type = fault.content()
            answer = Response(content, fault.status, media_type=media_type)
        if fault.close:
            self._count(scope, "closed")
            connection.transport.abort()
            await connection.closed.wait()
        elif fault.needs_raw_write:
            await self._write_raw(fault, connection, answer, scope, receive)
        else:
            await answer(scope, receive, self._counting(scope, send, fault))

    async def _write_raw(
        self, fault: Fault, connection: ClientConnection, answer: ASGIApp, scope: Scope, receive: Receive
    ) -> None:
        status = ""

        def finish(message: Message) -> None:
            nonlocal status
            status = str(message["status"])
            _finish(message, fault)

        head, body = await capture_answer(answer, scope, receive, finish)
        stayed = await write_answer(connection, fault, head, body)
        outcome = status if fault.cut_after is None else "closed"
        self._count(scope, outcome if stayed else "gone")
        connection.transport.close()  # sends what was written first
        await connection.closed.wait()

    def _counting(self, scope: Scope, send: Send, fault: Fault | None) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                connected = tuple(scope["client"]) in self._state.connections
                self._count(scope, str(message["status"]) if connected else "gone")
                _finish(message, fault)
            await send(message)

        return counted

    def _count(self, scope: Scope, outcome: str) -> None:
        with self._state.lock:
            self._state.requests[f"{scope['method']} {_template(scope['path'])} {outcome}"] += 1


def _finish(message: Message, fault: Fault | None) -> None:
    headers = MutableHeaders(scope=message)
    headers["date"] = formatdate(usegmt=True)
    if fault is not None:
        headers.update(fault.headers)


def _template(path: str) -> str:
    parts = path.split("/")
    if parts[1:4] == ["engine", "v2", "items"] and len(parts) > 4:
        return "/engine/v2/items/{item_id}"
    if parts[1:4] == ["engine", "v2", "publisher"]:
        outcome = "/by-producer" if parts[-1] == "by-producer" else ""
        return f"/engine/v2/publisher/{{publisher_id}}/items{outcome}"
    if parts[1:4] == ["engine", "v1", "files"]:
        return "/engine/v1/files/{item_id}/snippets"
    return path
