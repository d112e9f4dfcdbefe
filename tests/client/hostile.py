"""A loopback server over raw sockets that answers as badly as it is told to, and remembers every byte it was sent."""

import asyncio
import contextlib
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    port: int
    received: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serving(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Each request's head and body are kept, then `behave` answers; connections end with the block."""
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                server.received.append(await _request(reader))
                await behave(reader, writer)
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(port=listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for connection, writer in connections.items():
            connection.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections)
        # a transport that outlives the test's event loop would be warned of
        for writer in connections.values():
            with contextlib.suppress(ConnectionError):
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
    lines = [f"HTTP/1.1 {status} Reason", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return answers("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


async def hang(reader, writer):
    await asyncio.Event().wait()


def drip(raw: bytes, *, every_s: float = 0.02) -> Behaviour:
    """What was given at once, then one byte at a time for ever."""

    async def behave(reader, writer):
        writer.write(raw)
        while True:
            writer.write(b"a")
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
    # lingering for no time makes the kernel send RST instead of FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionAbortedError


def gzip_bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(megabytes)), packer.flush()])
