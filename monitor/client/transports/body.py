"""Reads the body of one answer: decoded step by step, each step bounded, kept whole or passed on in pieces."""

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterator
from typing import TypeVar

from monitor.model.http import BodySink, NetworkFault, TransportFault

MAX_ERROR_BODY_BYTES = 1 << 20
"""The most that is read of an error's body, where a success may be larger."""

SMALL_BODY_BYTES = 1 << 16
"""A larger body is read in pieces, and waits for its turn to be kept whole."""

MAX_CONCURRENT_LARGE_BODIES = 8
"""Larger bodies kept whole at a time: this bounds memory."""

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_CODINGS = frozenset({"gzip", "x-gzip"})
_CODINGS = _GZIP_CODINGS | {"deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz", "exi", "pack200-gzip"}
"""All that IANA registers. Others, such as `utf-8` or `none`, change nothing in the body: servers write them there by
mistake.
"""
_GZIP_MAGIC = b"\x1f"
_CHUNK_BYTES = 256 * 1024
"""Bytes decoded and passed on at once: enough to be fast, and too few for a gzip bomb. Half as many need no others."""

_T = TypeVar("_T")


class ReadTimeout:
    """Limits how long the server may be silent (`read_timeout_s`, None: no limit), and all of it by `deadline_s`
    (monotonic).

    The clock is checked after each wait too: pyreqwest's coroutines may swallow the cancellation that asyncio's
    timeouts use, and a server that drips could then hold us for ever.
    """

    def __init__(self, *, deadline_s: float, read_timeout_s: float | None) -> None:
        self._deadline_s, self._read_timeout_s = deadline_s, read_timeout_s

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """The result of the awaitable.

        Raises:
            TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(self._read_timeout_s):
            received = await awaitable
        if time.monotonic() >= self._deadline_s:
            raise TimeoutError
        return received


class BodyReader:
    """Reads one body. `encoding` is its Content-Encoding; `max_bytes` limits both the bytes received and decoded."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        codings = [each for part in encoding.split(",") if (each := part.strip().lower()) in _CODINGS]
        self._was_requested = not codings or (len(codings) == 1 and codings[0] in _GZIP_CODINGS)
        self._max_bytes = max_bytes
        self._inflate = zlib.decompressobj(_GZIP) if codings and self._was_requested else None
        self._received = self._decoded = 0
        self._buffer = bytearray()
        self._wants_more = True

    @property
    def content(self) -> bytes:
        """The bytes read, except those that a sink took."""
        return bytes(self._buffer)

    @property
    def wants_more(self) -> bool:
        """False once the sink wants no more."""
        return self._wants_more

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return self._received

    async def read(
        self,
        chunks: AsyncIterable[bytes],
        read_timeout: ReadTimeout,
        sink: BodySink | None,
        large_bodies: asyncio.Semaphore,
    ) -> TransportFault | None:
        """Reads to the end, or until the sink wants no more; returns the fault, if any.

        Without a sink the body is kept; a large one first waits for its turn in `large_bodies`.

        Raises:
            TimeoutError: the server was silent for too long.
        """
        iterator, in_turn = aiter(chunks), sink is not None
        try:
            while self._wants_more and (chunk := await read_timeout.wait(anext(iterator, None))) is not None:
                if not in_turn and self._received + len(chunk) > SMALL_BODY_BYTES:
                    in_turn = await read_timeout.wait(large_bodies.acquire())
                fault = self.feed(chunk, sink)
                if fault is not None:
                    return fault
        finally:
            if in_turn and sink is None:
                large_bodies.release()
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()  # else the event loop closes it later, in a task
        return self.finish(sink)

    def feed(self, chunk: bytes, sink: BodySink | None = None) -> TransportFault | None:
        """Takes received bytes; returns the fault, if any."""
        if not self._was_requested:
            return TransportFault(fault=NetworkFault.PROTOCOL, text="the answer has an encoding that was not requested")
        self._received += len(chunk)
        try:
            self._wants_more = self._decode_chunk(chunk, sink)
        except zlib.error:
            return TransportFault(fault=NetworkFault.PROTOCOL, text="the answer's gzip encoding is broken")
        return _too_large(self._max_bytes) if max(self._received, self._decoded) > self._max_bytes else None

    def finish(self, sink: BodySink | None = None) -> TransportFault | None:
        """Ends the body; returns the fault if it is incomplete."""
        if not self._wants_more:
            return None
        if self._inflate and self._received and not self._inflate.eof:
            return TransportFault(fault=NetworkFault.RESET, text="the answer's gzip encoding ends too early")
        self._flush(sink, at_least=1)
        return None

    def _decode_chunk(self, chunk: bytes, sink: BodySink | None) -> bool:
        """Decodes a chunk up to the cap; False once the sink wants no more."""
        for piece in self._decoded_chunks(chunk):
            self._decoded += len(piece)
            if self._decoded > self._max_bytes:
                return True
            if not self._take(piece, sink):
                return False
        return True

    def _decoded_chunks(self, chunk: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            yield chunk
            return
        while True:
            if self._inflate.eof:
                # RFC 1952, section 2.2: members may follow one another; anything else after one is padding
                if chunk[:1] != _GZIP_MAGIC:
                    return
                self._inflate = zlib.decompressobj(_GZIP)
            piece = self._inflate.decompress(chunk, _CHUNK_BYTES)
            yield piece
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            # a full piece may have left some of the chunk, or some of what it decodes to
            if not chunk and len(piece) < _CHUNK_BYTES:
                return

    def _take(self, piece: bytes, sink: BodySink | None) -> bool:
        """Keeps a piece, or passes it on; a large one without a copy. False once the sink wants no more."""
        if sink is not None and not self._buffer and len(piece) >= _CHUNK_BYTES // 2:
            return sink(piece)
        self._buffer += piece
        return self._flush(sink, at_least=_CHUNK_BYTES)

    def _flush(self, sink: BodySink | None, *, at_least: int) -> bool:
        """Passes what was read to the sink if it is at least `at_least` bytes; False once the sink wants no more."""
        if sink is None or len(self._buffer) < at_least:
            return True
        piece = bytes(self._buffer)
        self._buffer.clear()
        return sink(piece)


def decode_body(received: bytes, encoding: str, max_bytes: int) -> bytes | TransportFault:
    """A body that came in one piece, decoded; or the fault. Arguments as of `BodyReader`."""
    if not encoding or not received:
        return received if len(received) <= max_bytes else _too_large(max_bytes)
    body = BodyReader(encoding, max_bytes)
    return body.feed(received) or body.finish() or body.content


def _too_large(max_bytes: int) -> TransportFault:
    return TransportFault(fault=NetworkFault.TOO_LARGE, text=f"the answer is larger than {max_bytes} bytes")
