"""A forward proxy that handles CONNECT; it maps every host to loopback."""

import asyncio
import contextlib

from client.hostile import Behaviour


def tunnelling(port: int) -> Behaviour:
    """Connects every client to this port, for any requested host, until one end closes."""

    async def behave(reader, writer):
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _join(reader, writer, port)
        raise ConnectionAbortedError

    return behave


async def _join(reader, writer, port: int) -> None:
    opening = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", port))
    try:
        far_reader, far_writer = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # a connection that is already open must be closed, not left to the garbage collector
        _, far_writer = await opening
        far_writer.transport.abort()
        raise
    pumps = [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # without an await, which the end of this proxy could cancel
        far_writer.transport.abort()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            await far_writer.wait_closed()


async def _pump(reader, writer) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
