"""One attempt over HTTP with pyreqwest itself, for items and lists, where httpx would cost several times as much.

It decides nothing and retries nothing. The library's total timeout, a timer in its own thread, covers the whole attempt
from name look-up to last byte; unlike a cancellation, nothing that the server does can outlast it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response, ResponseBodyReader

from monitor.client.transports.body import (
    MAX_CONCURRENT_LARGE_BODIES,
    MAX_ERROR_BODY_BYTES,
    SMALL_BODY_BYTES,
    BodyReader,
    ReadTimeout,
    decode_body,
)
from monitor.client.transports.faults import TIMED_OUT
from monitor.client.transports.options import UNREADABLE_URL, ConnectionOptions, request_url
from monitor.client.transports.pool import create_pool, fault_from_error, text_headers
from monitor.client.transports.reuse import ReuseTracker
from monitor.model.http import BodySink, Reply, Request, TransportFault


class PyreqwestTransport:
    """`Transport` over pyreqwest. Relative paths are appended to `base_url`. Raises what `create_pool` raises."""

    def __init__(self, *, base_url: str = "", connection: ConnectionOptions | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._connection = connection or ConnectionOptions()
        self._large_bodies = asyncio.Semaphore(MAX_CONCURRENT_LARGE_BODIES)
        self._client: Client | None = create_pool(self._base_url, self._connection)
        self._fresh_client: Client | None = None
        self._reuse = ReuseTracker()

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the whole answer; see `Transport.send`. Raises what `request_url` raises."""
        if self._client is None:
            raise RuntimeError("this transport is closed")
        started_s = time.monotonic()
        received = await self._send_once(self._client, request, timeout_s, sink, read_timeout_s)
        if isinstance(received, Reply):
            self._reuse.record_answer(request)
        elif self._reuse.may_repeat(request, received, started_s=started_s):
            left_s = timeout_s - (time.monotonic() - started_s)
            return await self._send_once(self._fresh(), request, left_s, sink, read_timeout_s)
        return received

    def _fresh(self) -> Client:
        """A client whose every request has a connection of its own."""
        self._fresh_client = self._fresh_client or create_pool(self._base_url, self._connection, reuse=False)
        return self._fresh_client

    async def _send_once(
        self, client: Client, request: Request, timeout_s: float, sink: BodySink | None, read_timeout_s: float | None
    ) -> Reply | TransportFault:
        if timeout_s <= 0:  # also of a repeated request: the library refuses to measure it
            return TIMED_OUT
        builder = self._builder(client, request).timeout(timedelta(seconds=timeout_s))
        try:
            if sink is None:
                return await self._send_whole(builder, request.max_bytes, timeout_s)
            async with asyncio.timeout(timeout_s):
                return await self._stream_body(builder, request.max_bytes, sink, timeout_s, read_timeout_s)
        except TimeoutError:
            return TIMED_OUT
        except PyreqwestError as error:
            return fault_from_error(error, through_proxy=self._connection.through_proxy)

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        clients = [client for client in (self._client, self._fresh_client) if client is not None]
        self._client = self._fresh_client = None
        while clients:  # idle connections are closed with the last reference to the pool
            await clients.pop().close()

    async def _send_whole(self, builder: RequestBuilder, max_bytes: int, timeout_s: float) -> Reply | TransportFault:
        """Reads a small answer at once: pyreqwest has it together with its headers. A larger one comes in pieces."""
        deadline_s = time.monotonic() + timeout_s
        streamed, ended = builder.build_streamed(), False
        response = await streamed.__aenter__()
        try:
            most = min(max_bytes, SMALL_BODY_BYTES)
            read = await response.body_reader.read(most + 1)
            # less than requested: that was all, and the connection is back in the pool
            ended = read is None or len(read) <= most
            headers, received = _headers(response), b"" if read is None else bytes(read)
            encoding = headers.get("content-encoding", "")
            if ended or max_bytes == most:
                body = decode_body(received, encoding, max_bytes)
            else:
                body = await self._read_large(
                    response.body_reader, received, BodyReader(encoding, max_bytes), deadline_s
                )
        finally:
            if not ended:
                await streamed.__aexit__(None, None, None)
        return body if isinstance(body, TransportFault) else Reply(status=response.status, headers=headers, body=body)

    async def _read_large(
        self, reader: ResponseBodyReader, first: bytes, body: BodyReader, deadline_s: float
    ) -> bytes | TransportFault:
        read_timeout = ReadTimeout(deadline_s=deadline_s, read_timeout_s=None)
        async with asyncio.timeout(deadline_s - time.monotonic()):
            fault = await body.read(_chunks(reader, first), read_timeout, None, self._large_bodies)
        return fault or body.content

    async def _stream_body(
        self, builder: RequestBuilder, max_bytes: int, sink: BodySink, timeout_s: float, read_timeout_s: float | None
    ) -> Reply | TransportFault:
        """Passes the body on as it arrives: pyreqwest would wait for 64 KiB, so a slow list would look silent."""
        read_timeout = ReadTimeout(deadline_s=time.monotonic() + timeout_s, read_timeout_s=read_timeout_s)
        streamed = builder.streamed_read_buffer_limit(0).build_streamed()
        response = await read_timeout.wait(streamed.__aenter__())
        try:
            wanted = sink if 200 <= response.status < 300 else None
            headers = _headers(response)
            body = BodyReader(headers.get("content-encoding", ""), max_bytes if wanted else MAX_ERROR_BODY_BYTES)
            fault = await body.read(_chunks(response.body_reader), read_timeout, wanted, self._large_bodies)
        finally:
            await streamed.__aexit__(None, None, None)
        return fault or Reply(status=response.status, headers=headers, body=body.content)

    def _builder(self, client: Client, request: Request) -> RequestBuilder:
        url = request_url(self._base_url, request)
        try:
            builder = client.request(request.method, url)
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
    for name, value in text_headers(response):
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
