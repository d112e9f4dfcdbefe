"""A server on loopback that says whatever a test wants, in the test's own event loop."""

import asyncio
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def talking(talk):
    """Serves `talk(reader, writer)` on each connection; gives the port, and leaves no connection open."""
    handlers = set()

    async def handle(reader, writer):
        handlers.add(asyncio.current_task())
        try:
            with suppress(ConnectionError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await connections_made()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def connections_made():
    """Lets the handlers of connections that were accepted begin: asyncio warns of transports that outlive the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def repeat(writer, line):
    """Writes the line again and again, until the client is gone."""
    while not writer.is_closing():
        writer.write(line)
        await writer.drain()
