"""The turnstile in front of an API: joins the limits of one origin and credential, for all clients that share them.

The machines in `limits` and `rate_limiter` decide; this waits. Whoever has to wait queues, first come, first served; only the
first in the queue watches the clock.
"""

import asyncio
import dataclasses
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from monitor.client.limits import Breaker, ConcurrencyLimit, ServerBackoff, is_overload
from monitor.client.rate.headers import RateLimitHeaderReader
from monitor.client.rate.limiter import RateLimiter
from monitor.client.retry_after import MAX_RETRY_AFTER
from monitor.model import LearnedLimits
from monitor.model.http import BREAKER_OPEN, DEADLINE_EXCEEDED, ApiError, NetworkFault

_DEFAULT_MAX_IN_FLIGHT = 1024
"""Requests in flight where nobody set a limit."""

_UNTIL_NOTIFIED = math.inf
"""Seconds to wait for what no clock foretells: that others leave, or that it is one's turn."""

utcnow: Callable[[], datetime] = partial(datetime.now, UTC)
"""Our clock, at half the cost of a function of our own."""


def _unlimited_rate() -> RateLimiter:
    return RateLimiter(ceiling_per_s=None, share=1.0)


@dataclass(slots=True, kw_only=True, eq=False)
class Throttle:
    """What may be sent to one API under one credential, and when. One event loop at a time."""

    rate_limiter: RateLimiter = dataclasses.field(default_factory=_unlimited_rate)
    concurrency: ConcurrencyLimit = dataclasses.field(default_factory=lambda: ConcurrencyLimit(_DEFAULT_MAX_IN_FLIGHT))
    breaker: Breaker = dataclasses.field(default_factory=Breaker)
    server_backoff: ServerBackoff = dataclasses.field(default_factory=ServerBackoff)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    utcnow: Callable[[], datetime] = utcnow
    in_flight: int = 0
    _header_reader: RateLimitHeaderReader = dataclasses.field(default_factory=RateLimitHeaderReader)
    _queue: deque[asyncio.Event] = dataclasses.field(default_factory=deque)

    def restore_backoff(self, learned: LearnedLimits) -> None:
        """Takes over the server's hint as an earlier run, or another process, heard it.

        What else they learned is for new machines alone: those of this throttle have learned on.
        """
        wait_s = (learned.not_before - self.utcnow()).total_seconds() if learned.not_before else 0.0
        # no hint is longer: whoever stored this one had a clock that was ahead
        if 0 < wait_s <= MAX_RETRY_AFTER.total_seconds():
            self.server_backoff.begin(wait_s=wait_s, status=learned.status, code=learned.code, now_s=self.monotonic())

    def set_throttle_factor(self, factor: float) -> None:
        """Holds back to a share (0 to 1, above 0) of rate and concurrency; a later share takes its place."""
        self.concurrency.set_throttle_factor(factor)
        self.rate_limiter.set_throttle_factor(factor)
        self._wake()

    def learned(self) -> LearnedLimits:
        """What later runs and other processes are to know."""
        now, wait_s = self.utcnow(), self.server_backoff.until_s - self.monotonic()
        held = wait_s > 0
        return LearnedLimits(
            at=now,
            not_before=now + timedelta(seconds=wait_s) if held else None,
            status=self.server_backoff.status if held else None,
            code=self.server_backoff.code if held else None,
            rate_per_s=self.rate_limiter.per_s,
            concurrency=self.concurrency.learned,
            down=self.breaker.down,
        )

    def try_acquire(self, now_s: float) -> bool:
        """Takes a turn if there is one at once; whoever took one must `release`, or `release_unused`."""
        if self._queue or self.breaker.open or self._wait_s(now_s) > 0:
            return False
        self.in_flight += 1
        return True

    async def acquire(self, deadline_s: float) -> ApiError | None:
        """Waits for a turn; None: it was taken, and whoever took it must `release`, or `release_unused`.

        Args:
            deadline_s: an instant on `monotonic`; no wait is begun that would end at or past it.

        Returns:
            Why there is no turn: the breaker is open, the server said to come back too late, or the deadline.
        """
        turn = asyncio.Event()
        self._queue.append(turn)
        try:
            return await self._wait_for_turn(turn, deadline_s)
        finally:
            self._queue.remove(turn)
            self._wake()

    async def _wait_for_turn(self, turn: asyncio.Event, deadline_s: float) -> ApiError | None:
        while True:
            turn.clear()
            now_s = self.monotonic()
            if self.breaker.open:
                return breaker_open_error()
            if now_s >= deadline_s:
                return deadline_exceeded()
            if self._queue[0] is turn:
                wait_s = self._wait_s(now_s)
                if wait_s <= 0:
                    self.in_flight += 1
                    return None
                if wait_s != _UNTIL_NOTIFIED and now_s + wait_s >= deadline_s:
                    return self._backoff_error(now_s) or deadline_exceeded()
            else:
                wait_s = _UNTIL_NOTIFIED
            await self._wait(turn, min(wait_s, deadline_s - now_s))

    def release(
        self, failure: ApiError | None, headers: Mapping[str, str], *, started_s: float, is_sample: bool = True
    ) -> None:
        """An attempt ended.

        Args:
            failure: how it failed; None when it succeeded.
            headers: of the reply, in lower case; empty without one.
            started_s: when it began, on `monotonic`.
            is_sample: whether it was chosen as any other; what is asked again because it failed is none, and says
                nothing about the service as a whole.
        """
        self.in_flight -= 1
        now_s = self.monotonic()
        if is_sample:
            self.breaker.record(failure)
        self.server_backoff.record(failure, now_s=now_s)
        if failure is None or not is_overload(failure):
            too_large = failure is not None and failure.network is NetworkFault.TOO_LARGE
            (self.concurrency.on_large_answer if too_large else self.concurrency.on_success)()
            self.rate_limiter.accepted(now_s)
        else:
            self.concurrency.on_overload(started_s=started_s, now_s=now_s)
            if failure.status == 429:
                self.rate_limiter.refused(now_s)
        rate_limit = self._header_reader.read(headers, self.utcnow())
        if rate_limit is not None:
            self.rate_limiter.observe(rate_limit, sent_s=started_s, in_flight=self.in_flight)
        self._wake()

    def release_unused(self) -> None:
        """An attempt was given up, or says nothing about the service."""
        self.in_flight -= 1
        self._wake()

    def _wait_s(self, now_s: float) -> float:
        """Seconds until the next may start: 0 for now, and then its slot is taken."""
        if now_s < self.server_backoff.until_s:
            return self.server_backoff.until_s - now_s
        most = 1 if self.breaker.half_open or self.server_backoff.half_open else self.concurrency.limit
        if self.in_flight + 1 > most:
            return _UNTIL_NOTIFIED
        return self.rate_limiter.wait_s(now_s, self.in_flight)

    def _backoff_error(self, now_s: float) -> ApiError | None:
        """What the server said before, as long as it holds: it would say so again."""
        left_s = self.server_backoff.until_s - now_s
        if left_s <= 0:
            return None
        return ApiError(
            status=self.server_backoff.status,
            code=self.server_backoff.code,
            message="an earlier answer said when to come back, and that is not before this run's deadline",
            retry_after=timedelta(seconds=left_s),
            from_backoff=True,
        )

    async def _wait(self, turn: asyncio.Event, wait_s: float) -> None:
        """Waits until woken, at most so long."""
        woken = asyncio.ensure_future(turn.wait())
        late = asyncio.ensure_future(self.sleep(max(0.0, wait_s)))
        try:
            await asyncio.wait((woken, late), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            late.cancel()

    def _wake(self) -> None:
        if not self._queue:
            return
        if self.breaker.open:
            for each in self._queue:
                each.set()
        self._queue[0].set()


def breaker_open_error() -> ApiError:
    """The error of a call that an open breaker refused."""
    message = "the service was down in this run; nothing further was sent"
    return ApiError(status=None, code=BREAKER_OPEN, message=message)


def deadline_exceeded(*, from_token_endpoint: bool = False) -> ApiError:
    """The error of a call that its own deadline ended: it says nothing about the API."""
    return ApiError(
        status=None,
        code=DEADLINE_EXCEEDED,
        message="the deadline came before there was an answer",
        from_token_endpoint=from_token_endpoint,
    )
