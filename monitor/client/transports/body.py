"""The body of one answer as it comes in: decoded step by step, bounded at each, kept whole or handed on in pieces."""

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterator
from typing import TypeVar

from monitor.model.http import BodySink, NetworkFault, TransportFault

MAX_ERROR_BODY_BYTES = 1 << 20
"""The most of an error's body that is read where the body asked for may be larger."""

SMALL_BODY_BYTES = 1 << 16
"""A larger body is read in pieces, and kept whole only in its turn."""

MAX_CONCURRENT_LARGE_BODIES = 8
"""So many larger bodies are kept whole at a time: memory is bounded, whatever the answers in flight turn out to be."""

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f"
_CHUNK_BYTES = 256 * 1024
"""Bytes that are decoded at once, and handed on at once: enough that a piece costs little, and a bomb nothing."""

_T = TypeVar("_T")


class ReadTimeout:
    """Waits for a server that may fall silent only for so long, and must be done by then.

    The clock is looked at after each wait, too: pyreqwest's coroutines may swallow the cancellation by which asyncio's
    time-outs work, and a server that drips would then be listened to for ever.

    Args:
        deadline_s: an instant on the monotonic clock.
        stall_s: seconds (> 0); None: no limit of its own.
    """

    def __init__(self, *, deadline_s: float, read_timeout_s: float | None) -> None:
        self._deadline_s, self._stall_s = deadline_s, read_timeout_s

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """What comes.

        Raises:
            TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(self._stall_s):
            received = await awaitable
        if time.monotonic() >= self._deadline_s:
            raise TimeoutError
        return received


class BodyReader:
    """Reads one body.

    Args:
        encoding: the answer's content encoding; empty for none.
        max_bytes: neither what comes over the wire nor what it decodes to may exceed it.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding, self._max_bytes = encoding.strip().lower() or "identity", max_bytes
        self._inflate = zlib.decompressobj(_GZIP) if "gzip" in self._encoding else None
        self._received = self._decoded = 0
        self._buffer = bytearray()
        self._wants_more = True

    @property
    def content(self) -> bytes:
        """What was read, as far as no sink took it."""
        return bytes(self._buffer)

    async def read(
        self,
        chunks: AsyncIterable[bytes],
        read_timeout: ReadTimeout,
        sink: BodySink | None,
        large_bodies: asyncio.Semaphore,
    ) -> TransportFault | None:
        """Reads to the end, or until the sink wants no more; gives back what went wrong.

        Args:
            chunks: the body as it comes in.
            read_timeout: how long to wait for it.
            sink: takes it; None: it is kept, in its turn if it is large.
            large_bodies: the turns of large bodies.

        Raises:
            TimeoutError: the server fell silent for too long.
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
                await iterator.aclose()  # else the event loop makes a task of it, some time later
        return self.finish(sink)

    def feed(self, chunk: bytes, sink: BodySink | None = None) -> TransportFault | None:
        """Takes what came over the wire; gives back what is wrong with it."""
        if self._encoding not in {"identity", "gzip", "x-gzip"}:
            return TransportFault(
                fault=NetworkFault.PROTOCOL, text="the answer is encoded in a way that was not asked for"
            )
        self._received += len(chunk)
        try:
            self._wants_more = self._decode_chunk(chunk, sink)
        except zlib.error:
            return TransportFault(fault=NetworkFault.PROTOCOL, text="the answer's gzip encoding is broken")
        return _too_large(self._max_bytes) if max(self._received, self._decoded) > self._max_bytes else None

    def finish(self, sink: BodySink | None = None) -> TransportFault | None:
        """Nothing more comes, or is wanted; gives back what is missing."""
        if not self._wants_more:
            return None
        if self._inflate and self._received and not self._inflate.eof:
            return TransportFault(fault=NetworkFault.RESET, text="the answer's gzip encoding ends too early")
        self._flush(sink, at_least=1)
        return None

    def _decode_chunk(self, chunk: bytes, sink: BodySink | None) -> bool:
        """Decodes a chunk as far as the cap allows; False once the sink wants no more."""
        for piece in self._decoded_chunks(chunk):
            self._decoded += len(piece)
            if self._decoded > self._max_bytes:
                return True
            self._buffer += piece
            if not self._flush(sink, at_least=_CHUNK_BYTES):
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

    def _flush(self, sink: BodySink | None, *, at_least: int) -> bool:
        """Gives what was read to the sink, if that is so many bytes; False once it wants no more."""
        if sink is None or len(self._buffer) < at_least:
            return True
        piece = bytes(self._buffer)
        self._buffer.clear()
        return sink(piece)


def decode_body(received: bytes, encoding: str, max_bytes: int) -> bytes | TransportFault:
    """A body that came in one piece, decoded; or what is wrong with it. Arguments as of `BodyReader`."""
    if not encoding or not received:
        return received if len(received) <= max_bytes else _too_large(max_bytes)
    body = BodyReader(encoding, max_bytes)
    return body.feed(received) or body.finish() or body.content


def _too_large(max_bytes: int) -> TransportFault:
    return TransportFault(fault=NetworkFault.TOO_LARGE, text=f"the answer is larger than {max_bytes} bytes")
