"""How the bare server answers: at once, late, with failures, within a rate limit, slowly, never, or with a gzip
bomb.
"""

import asyncio
import math
import random
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Protocol

from id_logs import item_id

__all__ = ["BEHAVIOURS", "Behaviour", "response"]

_REASONS = {200: "OK", 429: "Too Many Requests", 503: "Service Unavailable"}
_ITEM = (
    b'{"item_id":"%s","status":"COMPLETED","item_title":"Sermon on patience and plenty","filename":"sermon.pdf",'
    b'"publisher_id":"11111111-1111-4111-8111-111111111111","created_at":"2026-01-01T00:00:00Z","item_tags":[]}'
)
_IN_FLIGHT_S = 0.25
"""Requests that arrive this soon after a first 429 were sent before its hint could be read."""


def response(status: int, body: bytes, **headers: object) -> bytes:
    """A complete response; header names with `_` for `-`."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n{''.join(lines)}"
    return b"%scontent-length: %d\r\n\r\n%s" % (head.encode(), len(body), body)


_COMPLETED = response(200, _ITEM % (b"0" * 36)).replace(b"0" * 36, b"%s")
_UNAVAILABLE = response(503, b'{"detail":"Service temporarily unavailable"}', date=formatdate(usegmt=True))
_REFUSED = b'{"error":"Rate limit exceeded","code":"too_many_requests"}'


class Behaviour(Protocol):
    """Answers requests for items and counts them."""

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        """Answers on the connection, now or later or never."""
        ...

    def counted(self) -> Mapping[str, object]:
        """The counts so far; `requests` is always there."""
        ...


class _Counting:
    def __init__(self) -> None:
        self._requests = 0

    def counted(self) -> Mapping[str, object]:
        return {"requests": self._requests}


class _Plain(_Counting):
    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        transport.write(_COMPLETED % item_id)


class _Engine(_Counting):
    """Answers about items and with the list of all `items`. Those from `pending_from` to `pending_to` are pending.

    The list is sent in pieces, as the client takes them.
    """

    _PIECE = 1 << 18

    def __init__(self, *, items: int, pending_from: int = 0, pending_to: int = 0) -> None:
        super().__init__()
        pending = {item_id(number).encode() for number in range(pending_from, pending_to)}
        self._pending = pending
        rows = (self._row(item_id(number).encode()) for number in range(items))
        self._list = response(200, b"[" + b",".join(rows) + b"]")
        self._sending: set[asyncio.Task[None]] = set()

    def _row(self, number: bytes) -> bytes:
        row = _ITEM % number
        return row.replace(b"COMPLETED", b"EMBEDDING") if number in self._pending else row

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        if item_id != b"items":
            transport.write(response(200, self._row(item_id)))
            return
        task = asyncio.get_running_loop().create_task(self._send(transport))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, transport: asyncio.Transport) -> None:
        body = memoryview(self._list)
        for start in range(0, len(body), self._PIECE):
            while transport.get_write_buffer_size() > self._PIECE:  # noqa: ASYNC110  # the connection gets its signals
                await asyncio.sleep(0.001)
            if transport.is_closing():
                return
            transport.write(body[start : start + self._PIECE])


class _Late(_Counting):
    """Every answer is delayed by some seconds."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._seconds, self._later = seconds, asyncio.get_running_loop().call_later

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        self._later(self._seconds, transport.write, _COMPLETED % item_id)


class _Failing(_Counting):
    """A share of the answers is 503, at random."""

    def __init__(self, *, share: float, seed: int) -> None:
        super().__init__()
        self._share, self._random = share, random.Random(seed)  # noqa: S311  # repeatable, not secret

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        transport.write(_UNAVAILABLE if self._random.random() < self._share else _COMPLETED % item_id)


class _Refusing(_Counting):
    """Every answer is 429 with `Retry-After`; counts requests that come too early, for the same item and for any."""

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self._seconds = seconds
        self._refusal = response(429, _REFUSED, retry_after=seconds)
        self._permitted_at: dict[bytes, float] = {}
        self._salvo_at = self._all_permitted_at = -math.inf
        self._early_same = self._early_any = 0

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        now = time.monotonic()
        self._requests += 1
        self._early_same += now < self._permitted_at.get(item_id, -math.inf)
        if now >= self._all_permitted_at:
            self._salvo_at = now
        self._early_any += now > self._salvo_at + _IN_FLIGHT_S
        self._permitted_at[item_id] = self._all_permitted_at = now + self._seconds
        transport.write(self._refusal)

    def counted(self) -> Mapping[str, object]:
        return {"requests": self._requests, "early_same": self._early_same, "early_any": self._early_any}


class _Limited(_Counting, ABC):
    """A rate limit, stated in `X-RateLimit-*` (Unix seconds) and in `Retry-After` (whole seconds), beside `Date`.

    Unless `stated`, only `refusal` (429 or 503) tells of it.
    """

    def __init__(self, *, rate: int, stated: bool = True, refusal: int = 429) -> None:
        super().__init__()
        self._rate, self._accepted = rate, Counter[int]()
        self._refused, self._refused_in = 0, Counter[int]()
        self._stated, self._status = stated, refusal

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        now = time.time()
        self._requests += 1
        left, reset_at = self._take(now)
        headers = {
            "date": formatdate(now, usegmt=True),
            "x_ratelimit_limit": self._rate,
            "x_ratelimit_remaining": max(0, left),
            "x_ratelimit_reset": reset_at,
        }
        if left < 0:
            self._refused += 1
            self._refused_in[int(now)] += 1
        if not self._stated:
            headers = {"date": headers["date"]}
        if left < 0:
            hint = {"retry_after": 1} if self._stated else {}
            transport.write(response(self._status, _REFUSED, **hint, **headers))
        else:
            self._accepted[int(now)] += 1
            transport.write(response(200, _ITEM % item_id, **headers))

    @abstractmethod
    def _take(self, now: float) -> tuple[int, int]:
        """Requests left after this one, -1 if none was; and the Unix time at which all are available again."""

    def counted(self) -> Mapping[str, object]:
        return {
            "requests": self._requests,
            "refused": self._refused,
            "accepted": self._accepted,
            "refused_in": self._refused_in,
        }


class _Windows(_Limited):
    """A limit per whole second of Unix time."""

    def _take(self, now: float) -> tuple[int, int]:
        return max(-1, self._rate - self._accepted[int(now)] - 1), int(now) + 1


class _Bucket(_Limited):
    """A token bucket with the tokens of one second, full at first."""

    def __init__(self, *, rate: int, stated: bool = True, refusal: int = 429) -> None:
        super().__init__(rate=rate, stated=stated, refusal=refusal)
        self._tokens, self._at = float(rate), math.inf

    def _take(self, now: float) -> tuple[int, int]:
        self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        granted = self._tokens >= 1
        self._tokens -= granted
        return int(self._tokens) if granted else -1, math.ceil(now + (self._rate - self._tokens) / self._rate)


class _Dripping(_Counting):
    """A byte of the body every 100 ms, for some seconds."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._bytes, self._later = int(seconds * 10), asyncio.get_running_loop().call_later

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        body = (_ITEM % item_id).ljust(self._bytes)[: self._bytes]
        transport.write(response(200, body)[: -len(body)])
        self._drip(body, transport)

    def _drip(self, body: bytes, transport: asyncio.Transport) -> None:
        if body and not transport.is_closing():
            transport.write(body[:1])
            self._later(0.1, self._drip, body[1:], transport)


class _Hanging(_Counting):
    """No answer at all."""

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:  # noqa: ARG002  # Behaviour's signature
        self._requests += 1


class _Dropping(_Counting):
    """Of three answers, two end in the middle of the body: with all of them the breaker would end the run at once."""

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:
        self._requests += 1
        answer = _COMPLETED % item_id
        if self._requests % 3 == 0:
            transport.write(answer)
        else:
            transport.write(answer[:-100])
            transport.close()


class _Bomb(_Counting):
    """A small gzip body that unpacks to many megabytes."""

    def __init__(self, *, mb: int) -> None:
        super().__init__()
        packer = zlib.compressobj(9, wbits=31)
        spaces = b" " * (1 << 20)
        packed = b"".join(packer.compress(spaces) for _ in range(mb)) + packer.flush()
        self._answer = response(200, packed, content_encoding="gzip")

    def answer(self, item_id: bytes, transport: asyncio.Transport) -> None:  # noqa: ARG002  # Behaviour's signature
        self._requests += 1
        transport.write(self._answer)


BEHAVIOURS: Mapping[str, Callable[..., Behaviour]] = {
    "plain": _Plain,
    "engine": _Engine,
    "late": _Late,
    "failing": _Failing,
    "refusing": _Refusing,
    "windows": _Windows,
    "bucket": _Bucket,
    "dripping": _Dripping,
    "hanging": _Hanging,
    "dropping": _Dropping,
    "bomb": _Bomb,
}
