"""One attempt over HTTP with pyreqwest itself: the item and list path, where httpx would cost several times as much.

It decides nothing and repeats nothing. The library's total time-out, a timer in its own thread, covers the whole
attempt from the name look-up to the last byte; unlike a cancellation, nothing that the server does can outlast it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response, ResponseBodyReader

from monitor.client.transports.body import LARGE_AT_ONCE, SMALL_BYTES, WHOLE_BYTES, Body, Patience, whole
from monitor.client.transports.pool import (
    HEADERS_NOT_TEXT,
    TOO_LATE,
    UNREADABLE_URL,
    Connection,
    fault_of,
    pool,
    url_of,
)
from monitor.model.http import Reply, Request, BodySink, TransportFault


class ReqwestWire:
    """`Wire` over pyreqwest.

    Args:
        base_url: origin, and path prefix if any, that relative paths are appended to; empty when all are absolute.
        connection: how the host is reached.

    Raises:
        ValueError: the certificates, the key or the proxy's URL can't be used; see `pool`.
    """

    def __init__(self, *, base_url: str = "", connection: Connection | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        connection = connection or Connection()
        self._through_proxy = connection.through_proxy
        self._room = asyncio.Semaphore(LARGE_AT_ONCE)
        self._client: Client | None = pool(self._base_url, connection)

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the whole answer; see `Wire.send`.

        Raises:
            ValueError: the path could lead elsewhere than it says, or a header's value is not one line of ASCII.
        """
        if timeout_s <= 0:
            return TOO_LATE
        builder = self._builder(request).timeout(timedelta(seconds=timeout_s))
        try:
            if sink is None:
                return await self._item(builder, request.max_bytes, timeout_s)
            async with asyncio.timeout(timeout_s):
                return await self._stream(builder, request.max_bytes, sink, timeout_s, read_timeout_s)
        except TimeoutError:
            return TOO_LATE
        except PyreqwestError as error:
            return fault_of(error, through_proxy=self._through_proxy)
        except ValueError:
            return HEADERS_NOT_TEXT

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        del client  # idle connections are closed with the last reference to the pool

    async def _item(self, builder: RequestBuilder, max_bytes: int, timeout_s: float) -> Reply | TransportFault:
        """A small answer at once: pyreqwest has read it when it hands its head over. A larger one in pieces."""
        until_s = time.monotonic() + timeout_s
        arriving, ended = builder.build_streamed(), False
        response = await arriving.__aenter__()
        try:
            most = min(max_bytes, SMALL_BYTES)
            read = await response.body_reader.read(most + 1)
            # less than was asked for: that was all, and its connection is back in the pool
            ended = read is None or len(read) <= most
            headers, came = _headers(response), b"" if read is None else bytes(read)
            encoding = headers.get("content-encoding", "")
            if ended or max_bytes == most:
                body = whole(came, encoding, max_bytes)
            else:
                body = await self._large(response.body_reader, came, Body(encoding, max_bytes), until_s)
        finally:
            if not ended:
                await arriving.__aexit__(None, None, None)
        return body if isinstance(body, TransportFault) else Reply(status=response.status, headers=headers, body=body)

    async def _large(
        self, reader: ResponseBodyReader, first: bytes, body: Body, until_s: float
    ) -> bytes | TransportFault:
        patience = Patience(until_s=until_s, read_timeout_s=None)
        async with asyncio.timeout(until_s - time.monotonic()):
            fault = await body.read(_chunks(reader, first), patience, None, self._room)
        return fault or body.whole

    async def _stream(
        self, builder: RequestBuilder, max_bytes: int, sink: BodySink, timeout_s: float, read_timeout_s: float | None
    ) -> Reply | TransportFault:
        """The body handed on as it arrives: pyreqwest would wait for 64 KiB, and a slow list look like a silent one."""
        patience = Patience(until_s=time.monotonic() + timeout_s, read_timeout_s=read_timeout_s)
        arriving = builder.streamed_read_buffer_limit(0).build_streamed()
        response = await patience.wait(arriving.__aenter__())
        try:
            wanted = sink if 200 <= response.status < 300 else None
            headers = _headers(response)
            body = Body(headers.get("content-encoding", ""), max_bytes if wanted else WHOLE_BYTES)
            fault = await body.read(_chunks(response.body_reader), patience, wanted, self._room)
        finally:
            await arriving.__aexit__(None, None, None)
        return fault or Reply(status=response.status, headers=headers, body=body.whole)

    def _builder(self, request: Request) -> RequestBuilder:
        if self._client is None:
            raise RuntimeError("this wire is closed")
        url = url_of(self._base_url, request)
        try:
            builder = self._client.request(request.method, url)
            for name, value in request.headers.items():
                builder = builder.header(name, value)
        except ValueError:
            raise ValueError(UNREADABLE_URL) from None
        return builder if request.body is None else builder.body_bytes(request.body)


async def _chunks(reader: ResponseBodyReader, first: bytes = b"") -> AsyncIterator[bytes]:
    if first:
        yield first
    while (chunk := await reader.read_chunk()) is not None:
        yield bytes(chunk)


def _headers(response: Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
