"""One attempt over HTTP/1.1 on the event loop's own sockets, without a proxy: what an item costs is mostly this.

It decides nothing and retries nothing; no redirects, no cookies. Each attempt has its wall clock.
"""

import asyncio
import math
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import quote, urlsplit

from monitor.client.transports.addresses import addresses_of, first_connected
from monitor.client.transports.body import MAX_CONCURRENT_LARGE_BODIES
from monitor.client.transports.certificates import TrustedTls, trusted_tls
from monitor.client.transports.connections import Attempt, Connection, TlsConnection
from monitor.client.transports.faults import TIMED_OUT, fault_of_error, fault_of_kind
from monitor.client.transports.http1 import encode_head
from monitor.client.transports.options import (
    POOL_IDLE_S,
    UNREADABLE_URL,
    USER_AGENT,
    ConnectionOptions,
    check_headers,
    check_path,
    is_absolute,
    request_url,
)
from monitor.client.transports.reuse import ReuseTracker
from monitor.model.http import BodySink, NetworkFault, Reply, Request, TransportFault

_C = TypeVar("_C", bound=Connection)

_UNESCAPED = "!#$%&'()*+,/:;=?@[]^_`{|}~\\"
"""Besides letters, digits and -._~: what a configured URL may hold as it is, in its path and query."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CLOSE_S = 1.0
"""Seconds that connections may take to close in order."""


@dataclass(slots=True, eq=False)
class _Origin:
    """Scheme, host and port, and the connections to them that wait for a request, the newest last."""

    is_secure: bool
    host: str
    port: int
    host_header: str
    idle: list[Connection] = field(default_factory=list)


class DirectTransport:
    """`Transport` without a library and without a proxy. Relative paths are appended to `base_url`.

    Its connections belong to the event loop that sends. Raises what `trusted_tls` raises.
    """

    def __init__(self, *, base_url: str = "", connection: ConnectionOptions | None = None) -> None:
        base_url = base_url.rstrip("/")
        self._options = options = connection or ConnectionOptions()
        self._tls: TrustedTls | None = None
        self._is_secure = base_url.startswith("https://")
        if not base_url.startswith("http://") or options.ca_pem is not None or options.identity_pem is not None:
            self._tls = self._trust()
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._base: _Origin | None = None
        self._prefix = ""
        if base_url:
            self._base, self._prefix = self._parse(base_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._open = set[Connection]()
        self._lost_one = asyncio.Event()
        self._large_bodies: asyncio.Semaphore
        self._reuse = ReuseTracker()
        self._sweep: asyncio.TimerHandle | None = None
        self._head: tuple[_Origin | None, Mapping[str, str], bytes] = (None, {}, b"")

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once and reads the whole answer; see `Transport.send`. Raises what `request_url` raises."""
        if self._is_closed:
            raise RuntimeError("this transport is closed")
        origin, raw = self._encoded(request)
        if timeout_s <= 0:
            return TIMED_OUT
        started_s = time.monotonic()
        attempt = Attempt(
            raw=raw,
            request=request,
            deadline_s=started_s + timeout_s,
            sink=sink,
            read_timeout_s=math.inf if read_timeout_s is None else read_timeout_s,
        )
        connection: Connection | TransportFault | None = self._idle_connection(origin)
        may_have_ended = connection is not None
        while True:
            if connection is None:
                connection = await self._new_connection(origin, attempt)
            if isinstance(connection, TransportFault):
                return connection
            future = connection.ask(attempt)
            try:
                received = await future
            except asyncio.CancelledError:
                connection.give_up(future)
                raise
            if received is None:
                received = await self._read_large(connection, attempt.deadline_s)
            if isinstance(received, Reply):
                self._reuse.record_answer(request)
            elif may_have_ended and self._reuse.may_repeat(request, received, started_s=started_s):
                connection, may_have_ended = None, False
                continue
            return received

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self._disown(asyncio.get_running_loop())
        for connection in list(self._open):
            connection.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                while self._open:
                    self._lost_one.clear()
                    await self._lost_one.wait()
        except TimeoutError:  # a server that does not even take in the end of TLS
            for connection in list(self._open):
                connection.drop()

    async def _new_connection(self, origin: _Origin, attempt: Attempt) -> Connection | TransportFault:
        """A connection after its TLS handshake, or why there is none."""
        if origin.is_secure < self._is_secure:
            return fault_of_kind(NetworkFault.PROTOCOL)  # its secrets would leave in the open
        left_s = attempt.deadline_s - time.monotonic()
        limit_s = min(left_s, self._options.connect_timeout_s)
        if left_s <= 0:
            return TIMED_OUT
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._connect(origin)
        except TimeoutError as error:
            # the system's own limit has a number
            return TIMED_OUT if limit_s == left_s and error.errno is None else fault_of_kind(NetworkFault.TIMEOUT)
        except OSError as error:
            return fault_of_kind(fault_of_error(error, connected=False))
        except ValueError as error:  # an https URL below a base of http, on a system without CA certificates
            return TransportFault(fault=NetworkFault.TLS, text=str(error))
        if self._is_closed:
            connection.drop()
            return fault_of_kind(NetworkFault.RESET)
        return connection

    async def _read_large(self, connection: Connection, deadline_s: float) -> Reply | TransportFault:
        """Reads a large body once it is its turn: this bounds memory."""
        rest = connection.rest
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                await self._large_bodies.acquire()
            try:
                connection.go_on()
                return await rest or TIMED_OUT
            finally:
                self._large_bodies.release()
        except TimeoutError:
            return TIMED_OUT
        finally:
            connection.give_up(rest)

    async def _connect(self, origin: _Origin) -> Connection:
        """A new connection, after its TLS handshake. Raises OSError, and what `trusted_tls` raises."""
        keep = partial(self._keep, origin)
        if not origin.is_secure:
            return await self._connected(origin, lambda: Connection(on_idle=keep, on_lost=self._lost))
        self._tls = tls = self._tls or self._trust()
        while True:
            was_complete = tls.is_complete  # another connection may complete it meanwhile
            connection = await self._connected(
                origin, lambda: TlsConnection(tls.context, origin.host, on_idle=keep, on_lost=self._lost)
            )
            try:
                await connection.ready
            except ssl.SSLCertVerificationError:
                if was_complete:
                    raise
                tls.complete()
            except BaseException:
                connection.drop()
                raise
            else:
                return connection

    async def _connected(self, origin: _Origin, protocol: Callable[[], _C]) -> _C:
        """A connection to the first address that answers. Raises OSError."""
        loop = asyncio.get_running_loop()

        async def connect(address: str) -> _C:
            _, made = await loop.create_connection(protocol, address, origin.port)
            self._open.add(made)
            return made

        addresses = await addresses_of(origin.host, origin.port)
        each_s = self._options.connect_timeout_s / len(addresses)
        return await first_connected(addresses, connect, Connection.drop, each_s=each_s)

    def _trust(self) -> TrustedTls:
        return trusted_tls(ca_pem=self._options.ca_pem, identity_pem=self._options.identity_pem)

    def _idle_connection(self, origin: _Origin) -> Connection | None:
        """The newest one: servers close the oldest first."""
        if self._loop is None or not self._loop.is_running():  # not a look-up of this one, which is a system call
            self._disown(asyncio.get_running_loop())
        idle = origin.idle
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                if time.monotonic() - connection.idle_since_s < POOL_IDLE_S:
                    return connection
                connection.close()
        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        """Keeps a connection for the next request."""
        connection.idle_since_s = time.monotonic()
        origin.idle.append(connection)
        if self._sweep is None and self._loop is not None:
            self._sweep = self._loop.call_later(POOL_IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        """Closes those that nobody has used for a while."""
        self._sweep = None
        now_s = time.monotonic()
        for origin in self._origins.values():
            expired = [each for each in origin.idle if now_s - each.idle_since_s >= POOL_IDLE_S]
            origin.idle = origin.idle[len(expired) :]  # the oldest are the first
            for connection in expired:
                connection.close()
        since_s = [origin.idle[0].idle_since_s for origin in self._origins.values() if origin.idle]
        if since_s and self._loop is not None:
            self._sweep = self._loop.call_later(min(since_s) + POOL_IDLE_S - now_s, self._close_idle)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._lost_one.set()
        for origin in self._origins.values():
            if connection in origin.idle:
                origin.idle.remove(connection)

    def _disown(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forgets the connections of another loop, which has most likely ended."""
        if self._loop is not loop:
            self._loop, self._open, self._sweep = loop, set(), None
            self._large_bodies = asyncio.Semaphore(MAX_CONCURRENT_LARGE_BODIES)
            for origin in self._origins.values():
                origin.idle.clear()

    def _encoded(self, request: Request) -> tuple[_Origin, bytes]:
        """Where the request goes, and its bytes. Raises what `request_url` raises."""
        origin, path = self._base, request.path
        if is_absolute(path) or origin is None:
            origin, target = self._parse(request_url("", request))
            target = target if target.startswith("/") else f"/{target}"
        else:
            check_path(path)
            target = self._prefix + path
        known_origin, known_headers, head = self._head
        if known_origin is not origin or known_headers != request.headers:
            head = _head(origin, request.headers)
            self._head = origin, dict(request.headers), head
        start = f"{request.method} {target} HTTP/1.1\r\n".encode()
        if not request.body:
            return origin, b"%b%b\r\n" % (start, head)
        return origin, b"%b%bcontent-length: %d\r\n\r\n%b" % (start, head, len(request.body), request.body)

    def _parse(self, url: str) -> tuple[_Origin, str]:
        """The origin of a URL, and the target of a request for it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
            host = host if host is None or host.isascii() else _ascii_name(host)
        except (ValueError, KeyError):
            raise ValueError(UNREADABLE_URL) from None
        if not host or parts.username is not None or "\\" in url:
            raise ValueError(UNREADABLE_URL)
        found = self._origins.get((parts.scheme, f"{host}:{port}"))
        if found is None:
            shown = f"[{host}]" if ":" in host else host
            if port != _DEFAULT_PORTS[parts.scheme]:
                shown = f"{shown}:{port}"
            found = _Origin(parts.scheme == "https", host, port, shown)
            self._origins[parts.scheme, f"{host}:{port}"] = found
        query = f"?{quote(parts.query, safe=_UNESCAPED)}" if parts.query else ""
        return found, quote(parts.path, safe=_UNESCAPED) + query


def _ascii_name(host: str) -> str:
    """An international name as DNS has it, by IDNA 2008 (RFC 5891) as in pyreqwest and httpx: Python's own codec makes
    another domain of some names, such as strasse.de of straße.de.

    Raises UnicodeError, which is a ValueError.
    """
    import idna  # takes longer to import than such a host is common

    return idna.encode(host, uts46=True).decode()


def _head(origin: _Origin, headers: Mapping[str, str]) -> bytes:
    check_headers(headers)
    defaults = {"host": origin.host_header, "accept-encoding": "gzip", "accept": "*/*", "user-agent": USER_AGENT}
    try:
        return encode_head(headers, defaults=defaults)
    except ValueError:
        raise ValueError(UNREADABLE_URL) from None
