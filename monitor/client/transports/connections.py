"""One connection to a host: sends one request at a time, reads its answer as it arrives, and says how that ended.

TLS goes through memory (`ssl.MemoryBIO`): that costs half as much as asyncio's own, and is alike on every event loop.
"""

import asyncio
import contextlib
import math
import ssl
import time
from asyncio import Future
from collections.abc import Callable

import msgspec

from monitor.client.transports.body import MAX_ERROR_BODY_BYTES, SMALL_BODY_BYTES, BodyReader, decode_body
from monitor.client.transports.faults import TIMED_OUT, fault_of_error, fault_of_kind
from monitor.client.transports.http1 import AnswerReader, InvalidAnswerError
from monitor.model.http import BodySink, NetworkFault, Reply, Request, TransportFault

Received = Reply | TransportFault | None
"""How an exchange ended. None: a large body waits for its turn; how that ends is the result of `Connection.rest`."""

_TLS_READ_BYTES = 1 << 18


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, ready to be sent."""

    raw: bytes
    """The request as it is sent."""
    request: Request
    deadline_s: float
    """On the clock `time.monotonic`."""
    sink: BodySink | None = None
    read_timeout_s: float = math.inf
    """How long the server may be silent."""


class Connection(asyncio.Protocol):
    """A connection without TLS. `on_idle` is told that it can serve another request, `on_lost` that it is gone."""

    def __init__(self, *, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self._on_idle, self._on_lost = on_idle, on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._future: Future[Received] | None = None
        """Of the request in progress."""
        self.rest: Future[Received]
        self._attempt: Attempt
        self._answer: AnswerReader
        self._body: BodyReader | None = None
        self._sink: BodySink | None = None
        self._in_turn = False
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self.idle_since_s = 0.0

    def ask(self, attempt: Attempt) -> "Future[Received]":
        """Sends a request, once nothing else is in progress. The future never raises."""
        self._attempt, self._sink, self._answer = attempt, attempt.sink, AnswerReader(attempt.request.method)
        self._body, self._in_turn = None, attempt.sink is not None
        due_s = attempt.deadline_s
        if attempt.read_timeout_s < math.inf:
            self._heard_s = time.monotonic()
            due_s = self._due_s()
        if due_s < self._timer_s:
            self._set_timer(due_s)
        self._future = future = self._loop.create_future()
        if self._transport.is_closing():  # the server closed it just now
            self._fail(fault_of_kind(NetworkFault.RESET, unanswered=True))
        else:
            self._write(attempt.raw)
        return future

    def go_on(self) -> None:
        """Reads the rest of a large body, whose turn it is."""
        if self._future is not None:
            self._transport.resume_reading()

    def give_up(self, future: "Future[Received]") -> None:
        """Ends the exchange of this future, for which nobody waits any more."""
        if self._future is future:
            self._future = None
            self.drop()

    @property
    def is_usable(self) -> bool:
        """Whether it may serve another request."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Closes it in order; one with a request in progress at once."""
        if self._future is not None:
            self.drop()
        else:
            self._transport.close()

    def drop(self) -> None:
        """Closes it at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes what it writes to."""
        self._transport = transport  # type: ignore[assignment]  # of TCP, so it reads and writes

    def data_received(self, data: bytes) -> None:
        """Reads on in the answer."""
        if self._future is None:
            self.drop()  # nobody asked: the next request would take it for its answer
            return
        answer = self._answer
        try:
            piece = answer.feed(data)
        except InvalidAnswerError as error:
            self._fail(fault_of_kind(error.fault))
            return
        if self._attempt.read_timeout_s < math.inf:
            self._heard_s = time.monotonic()
        if answer.complete and self._body is None and self._sink is None:
            self._finish(
                decode_body(piece, answer.headers.get("content-encoding", ""), self._attempt.request.max_bytes)
            )
        elif answer.status:
            self._read_body(piece)

    def eof_received(self) -> bool | None:
        """The server sends no more; the transport closes itself."""
        self._end_of_stream(cleanly=True)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, by whomever."""
        if self._future is not None:
            fault = fault_of_error(error, connected=True) if isinstance(error, OSError) else NetworkFault.RESET
            self._fail(fault_of_kind(fault, unanswered=fault is NetworkFault.RESET and not self._answer.status))
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    def _end_of_stream(self, *, cleanly: bool) -> None:
        if self._future is None:
            return
        try:
            self._answer.end(cleanly=cleanly)
        except InvalidAnswerError as error:
            self._fail(fault_of_kind(error.fault, unanswered=not self._answer.status))
        else:
            self._read_body(b"")

    def _read_body(self, piece: bytes) -> None:
        """Takes a piece of a body that comes in several, or is for a sink."""
        answer, body = self._answer, self._body
        if body is None:
            max_bytes = self._attempt.request.max_bytes
            if self._sink is not None and not 200 <= answer.status < 300:
                self._sink, self._in_turn, max_bytes = None, False, MAX_ERROR_BODY_BYTES
            body = self._body = BodyReader(answer.headers.get("content-encoding", ""), max_bytes)
        fault = body.feed(piece, self._sink) if piece else None
        if fault is None and answer.complete:
            fault = body.finish(self._sink)
        if fault is not None:
            self._fail(fault)
        elif answer.complete:
            self._finish(body.content)
        elif not body.wants_more:
            self._fail(self._reply(body.content))
        elif not self._in_turn and body.received > SMALL_BODY_BYTES:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._in_turn = True
        self._transport.pause_reading()
        waiting, self.rest = self._future, self._loop.create_future()
        self._future = self.rest
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _finish(self, body: bytes | TransportFault) -> None:
        """The answer is complete."""
        if isinstance(body, TransportFault):
            self._fail(body)
            return
        future, self._future, self._body = self._future, None, None
        if self._transport.get_write_buffer_size():
            self.drop()  # the server answered before it had read the request
        elif self._answer.is_reusable:
            self._on_idle(self)
        else:
            self.close()
        if future is not None and not future.done():
            future.set_result(self._reply(body))

    def _fail(self, result: Reply | TransportFault) -> None:
        """The exchange ends, and the connection with it."""
        future, self._future = self._future, None
        self.drop()
        if future is not None and not future.done():
            future.set_result(result)

    def _reply(self, body: bytes) -> Reply:
        return Reply(status=self._answer.status, headers=self._answer.headers, body=body)

    def _due_s(self) -> float:
        return min(self._attempt.deadline_s, self._heard_s + self._attempt.read_timeout_s)

    def _set_timer(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._loop.call_later(due_s - time.monotonic(), self._check_time)

    def _check_time(self) -> None:
        """Ends the exchange if its time is over. The timer of an earlier request serves the later ones too."""
        self._timer, self._timer_s = None, math.inf
        if self._future is None:
            return
        due_s = self._due_s()
        if time.monotonic() >= due_s:
            self._fail(TIMED_OUT)
        else:
            self._set_timer(due_s)


class TlsConnection(Connection):
    """A connection with TLS; `ready` has a result after the handshake, or raises an OSError of it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str,
        *,
        on_idle: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(on_idle=on_idle, on_lost=on_lost)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # RFC 6066, 3: without the dot that marks a name as complete, which no certificate has either
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))
        self.ready: Future[None] = self._loop.create_future()
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())  # whoever waits may be gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        super().connection_made(transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypts, and reads on."""
        self._incoming.write(data)
        if not self.ready.done() and not self._shake_hands():
            return
        try:
            while self._incoming.pending or self._tls.pending():
                plain = self._tls.read(_TLS_READ_BYTES)
                if not plain:
                    self._end_of_stream(cleanly=True)
                    self.close()
                    return
                super().data_received(plain)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(fault_of_kind(fault_of_error(error, connected=True)))
        self._flush()

    def eof_received(self) -> bool | None:
        """Without the end that TLS has, something may have been cut off."""
        self._end_of_stream(cleanly=False)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """Ends a handshake too."""
        if not self.ready.done():
            self.ready.set_exception(error if isinstance(error, OSError) else ConnectionResetError())
        super().connection_lost(error)

    def close(self) -> None:
        """Says that nothing was cut off, then closes."""
        if self._future is None and self.is_usable:
            with contextlib.suppress(ssl.SSLError):  # the server's own end is not waited for
                self._tls.unwrap()
            self._flush()
        super().close()

    def _write(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # the server has ended TLS, or begun it anew
            self._fail(fault_of_kind(fault_of_error(error, connected=True)))
        else:
            self._flush()

    def _shake_hands(self) -> bool:
        """Goes on with the handshake; whether it is complete."""
        failure: ssl.SSLError | None = None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            failure = error
        self._flush()
        if failure is None:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(failure)
            self._transport.close()  # after the alert
        return failure is None

    def _flush(self) -> None:
        if self._outgoing.pending and self.is_usable:
            self._transport.write(self._outgoing.read())
