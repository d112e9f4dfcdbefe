"""One attempt over HTTP with httpx, on pyreqwest's pool.

It decides nothing and retries nothing; no redirects, no cookies, no `.netrc`. Neither library's own timeouts are used,
since a dripped body outlasts httpx's: one wall clock covers the whole attempt.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpx
from pyreqwest.compatibility import httpx as pyreqwest_httpx
from pyreqwest.compatibility.httpx.transport import ResponseStream
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder

from monitor.client.transports.body import MAX_CONCURRENT_LARGE_BODIES, MAX_ERROR_BODY_BYTES, BodyReader, ReadTimeout
from monitor.client.transports.faults import TIMED_OUT
from monitor.client.transports.options import UNREADABLE_URL, USER_AGENT, ConnectionOptions, request_url
from monitor.client.transports.pool import FaultTypes, create_pool, fault_from_error, text_headers
from monitor.client.transports.reuse import ReuseTracker
from monitor.model.http import BodySink, NetworkFault, Reply, Request, TransportFault

_FAULT_TYPES: FaultTypes = (
    ((httpx.TimeoutException,), NetworkFault.TIMEOUT),
    ((httpx.ConnectError, httpx.ProxyError), NetworkFault.REFUSED),
    ((httpx.NetworkError,), NetworkFault.RESET),
)


class HttpxTransport:
    """`Transport` over `httpx.AsyncClient` with pyreqwest's transport: httpx's own pool is quadratic.

    Relative paths are appended to `base_url`. `transport` replaces pyreqwest's, for example by `httpx.MockTransport`.
    Raises what `create_pool` raises.
    """

    def __init__(
        self,
        *,
        base_url: str = "",
        connection: ConnectionOptions | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._large_bodies = asyncio.Semaphore(MAX_CONCURRENT_LARGE_BODIES)
        self._connection, self._transport = connection or ConnectionOptions(), transport
        self._client = self._open(reuse=True)
        self._fresh_client: httpx.AsyncClient | None = None
        self._reuse = ReuseTracker()

    def _open(self, *, reuse: bool) -> httpx.AsyncClient:
        pool = None if self._transport else create_pool(self._base_url, self._connection, reuse=reuse)
        return httpx.AsyncClient(
            transport=self._transport or _UnbufferedTransport(pool),
            timeout=None,  # noqa: S113  # `send` times each attempt
            trust_env=False,  # it would read .netrc and send its passwords
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": USER_AGENT},
            event_hooks={"response": [_keep_location]},
        )

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the whole answer; see `Transport.send`. Raises what `request_url` raises."""
        if timeout_s <= 0:
            return TIMED_OUT
        started_s = time.monotonic()
        received = await self._send_once(self._client, request, timeout_s, sink, read_timeout_s)
        if isinstance(received, Reply):
            self._reuse.record_answer(request)
        elif self._reuse.may_repeat(request, received, started_s=started_s):
            self._fresh_client = self._fresh_client or self._open(reuse=False)
            left_s = timeout_s - (time.monotonic() - started_s)
            return await self._send_once(self._fresh_client, request, left_s, sink, read_timeout_s)
        return received

    async def _send_once(
        self,
        client: httpx.AsyncClient,
        request: Request,
        timeout_s: float,
        sink: BodySink | None,
        read_timeout_s: float | None,
    ) -> Reply | TransportFault:
        outgoing = self._outgoing(client, request)
        read_timeout = ReadTimeout(deadline_s=time.monotonic() + timeout_s, read_timeout_s=read_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(client, outgoing, request.max_bytes, sink, read_timeout)
        except TimeoutError:
            return TIMED_OUT
        except (httpx.HTTPError, PyreqwestError) as error:
            return fault_from_error(error, through_proxy=self._connection.through_proxy, fault_types=_FAULT_TYPES)

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        await self._client.aclose()
        if self._fresh_client is not None:
            await self._fresh_client.aclose()

    def _outgoing(self, client: httpx.AsyncClient, request: Request) -> httpx.Request:
        url = request_url(self._base_url, request)
        headers = {**request.headers, "accept-encoding": "gzip"}
        try:
            return client.build_request(request.method, url, headers=headers, content=request.body)
        except httpx.InvalidURL:
            raise ValueError(UNREADABLE_URL) from None

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        outgoing: httpx.Request,
        max_bytes: int,
        sink: BodySink | None,
        read_timeout: ReadTimeout,
    ) -> Reply | TransportFault:
        response = await read_timeout.wait(client.send(outgoing, stream=True))
        wanted = sink if sink is not None and response.is_success else None
        try:
            body = BodyReader(
                response.headers.get("content-encoding", ""), max_bytes if wanted or not sink else MAX_ERROR_BODY_BYTES
            )
            # undecoded: httpx would decode each chunk without a limit
            fault = await body.read(
                cast("AsyncIterable[bytes]", response.stream), read_timeout, wanted, self._large_bodies
            )
        finally:
            await response.aclose()
        if fault is not None:
            return fault
        headers = dict(response.headers)  # lower case, repeated ones joined
        headers |= response.extensions.get("monitor.location", {})
        return Reply(status=response.status_code, headers=headers, body=body.content, reason=response.reason_phrase)


class _UnbufferedTransport(pyreqwest_httpx.HttpxTransport):
    """Passes a body on as it arrives: pyreqwest's own waits for 64 KiB, so a slow list would look silent."""

    def _map_body(self, builder: RequestBuilder, request: httpx.Request) -> RequestBuilder:
        return super()._map_body(builder, request).streamed_read_buffer_limit(0)

    async def aclose(self) -> None:
        await super().aclose()
        del self._client  # idle connections are closed with the last reference to the pool

    async def _map_response(self, builder: RequestBuilder, request: httpx.Request) -> httpx.Response:  # noqa: ARG002  # the library's signature
        """Leaves out header fields that are not text, on which the library's own fails; maps no exception."""
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(builder.build_streamed())
            stream = _UnbufferedStream(ResponseStream(response, stack.pop_all()))
        return httpx.Response(status_code=response.status, headers=text_headers(response), stream=stream)


class _UnbufferedStream(httpx.AsyncByteStream):
    def __init__(self, stream: ResponseStream) -> None:
        self._stream_body = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = self._stream_body._body_reader  # noqa: SLF001  # no public access
        while (chunk := await reader.read_chunk()) is not None:
            yield bytes(chunk)

    async def aclose(self) -> None:
        await self._stream_body.aclose()


async def _keep_location(response: httpx.Response) -> None:
    # httpx builds the redirected request even with redirects off, and raises if the location is garbage
    if "location" in response.headers:
        response.extensions["monitor.location"] = {"location": response.headers.pop("location")}
