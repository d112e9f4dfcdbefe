"""A loopback server on raw sockets with configurable bad behaviour; it keeps every byte that it receives."""

import asyncio
import contextlib
import functools
import itertools
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from support.talker import connections_made

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    port: int
    received: list[bytes] = field(default_factory=list)
    """The head and body of each request."""
    accepted: int = 0
    """Connections."""
    ended: int = 0
    """Connections that the client closed cleanly, between two requests."""
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self.ended += 1
        self._end.set()

    async def until_ended(self) -> None:
        """Waits until every connection was closed cleanly."""
        async with asyncio.timeout(10):
            while self.ended < self.accepted:
                self._end.clear()
                await self._end.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serving(
    behave: Behaviour, *, tls: ssl.SSLContext | None = None, greet: Behaviour | None = None
) -> AsyncIterator[Server]:
    """Keeps each request, then `behave` answers; connections end with the block. `greet` is sent before any request."""
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        server.accepted += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if greet:
                await greet(reader, writer)
            while True:
                try:
                    server.received.append(await _request(reader))
                except asyncio.IncompleteReadError as error:
                    if not error.partial:
                        server.end()
                    raise
                await behave(reader, writer)
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(port=listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        await connections_made()
        for connection, writer in connections.items():
            connection.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections)
        # otherwise asyncio warns of a transport that outlives the event loop
        for writer in connections.values():
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


def answers(raw: bytes, *, close: bool = False) -> Behaviour:
    async def behave(reader, writer):
        writer.write(raw)
        await writer.drain()
        if close:
            raise ConnectionAbortedError

    return behave


def replies(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    return answers(_head(status, content_length=str(len(body)), **headers) + body)


def chunks(pieces: Iterable[bytes], **headers: str) -> Behaviour:
    """A chunked body, one chunk per piece; endless if the pieces are."""

    async def behave(reader, writer):
        writer.write(_head(200, transfer_encoding="chunked", **headers))
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return behave


def _head(status: int, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def hang(reader, writer):
    await asyncio.Event().wait()


def drip(raw: bytes, *, every_s: float = 0.02, pieces: bytes | Iterable[bytes] = b"a") -> Behaviour:
    """Sends the start at once and then piece after piece; a single piece is repeated forever."""

    async def behave(reader, writer):
        writer.write(raw)
        for piece in itertools.repeat(pieces) if isinstance(pieces, bytes) else pieces:
            if writer.is_closing():
                raise ConnectionAbortedError  # uvloop raises a RuntimeError instead
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_s)

    return behave


async def endless(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65_536))
        await writer.drain()


async def reset_mid_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
    await writer.drain()
    # a linger time of zero makes the kernel send RST instead of FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionAbortedError


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that accepts no connection and has a full queue: a further SYN is never answered."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            caller = waiting.enter_context(socket.socket())
            caller.settimeout(0.2)
            try:
                caller.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()[1]


@functools.cache
def gzip_bomb(megabytes: int) -> bytes:
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it can be repeated
    checksum = functools.reduce(lambda sofar, _: zlib.crc32(zeros, sofar), range(megabytes), 0)
    header, end = b"\x1f\x8b\x08" + bytes(6) + b"\xff", b"\x03\x00"
    return header + block * megabytes + end + struct.pack("<II", checksum, megabytes << 20)


def piecewise(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]
