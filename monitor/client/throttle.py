"""Joins the limits of one origin and credential, for all clients that share them. Callers queue, first come, first
served.

The state machines in `limits` and `rate.limiter` decide; this module waits.
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

from monitor.client.limits import Breaker, ConcurrencyLimit, ServerBackoff, is_overload, is_rate_limit
from monitor.client.rate.headers import RateLimitHeaderReader, states_rate_limit
from monitor.client.rate.limiter import RateLimiter
from monitor.client.rate.probe import SAME_CUT_S, RequestCounts
from monitor.client.rate.unannounced import UnannouncedLimit, Verdict
from monitor.client.retry_after import MAX_RETRY_AFTER
from monitor.model import LearnedLimits
from monitor.model.http import BREAKER_OPEN, DEADLINE_EXCEEDED, ApiError, NetworkFault

_DEFAULT_MAX_IN_FLIGHT = 1024
_OTHER = Verdict.OTHER  # looked up once: an enum's member costs 0.1 µs, and this runs for every reply
_UNTIL_NOTIFIED = math.inf
"""Wait for an event, not for a time: until another request ends, or until this one is first in the queue."""

utcnow: Callable[[], datetime] = partial(datetime.now, UTC)
"""Our clock, at half the cost of a Python function."""


def _unlimited_rate() -> RateLimiter:
    return RateLimiter(ceiling_per_s=None, share=1.0)


@dataclass(slots=True, kw_only=True, eq=False)
class Throttle:
    """What may be sent to one API with one credential, and when. One event loop at a time."""

    rate_limiter: RateLimiter = dataclasses.field(default_factory=_unlimited_rate)
    concurrency: ConcurrencyLimit = dataclasses.field(default_factory=lambda: ConcurrencyLimit(_DEFAULT_MAX_IN_FLIGHT))
    breaker: Breaker = dataclasses.field(default_factory=Breaker)
    server_backoff: ServerBackoff = dataclasses.field(default_factory=ServerBackoff)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    utcnow: Callable[[], datetime] = utcnow
    unannounced: UnannouncedLimit = dataclasses.field(default_factory=UnannouncedLimit)
    in_flight: int = 0
    _refusals: int = 0
    """503s in a row that the breaker was not told of."""
    _large_cuts: int = 0
    """Of the rate limiter, as far as `unannounced` knows."""
    rate_wait_s: float = 0.0
    """How long requests have waited for the rate limit alone, with a free slot, so far."""
    on_stop: Callable[[], object] | None = None
    """Called when the server asked to wait, the breaker opened, or the rate fell: other processes must do so, too."""
    on_start: Callable[[], object] | None = None
    """Called when a request starts, or waits for its turn."""
    starts: int = 0
    """Requests that have started so far."""
    _header_reader: RateLimitHeaderReader = dataclasses.field(default_factory=RateLimitHeaderReader)
    _queue: deque[asyncio.Event] = dataclasses.field(default_factory=deque)

    def restore_backoff(self, learned: LearnedLimits) -> None:
        """Takes over only the server's hint from an earlier run or another process: other limits here have newer
        values.
        """
        wait_s = (learned.not_before - self.utcnow()).total_seconds() if learned.not_before else 0.0
        # no hint is longer: the clock of the process that stored it was ahead
        if 0 < wait_s <= MAX_RETRY_AFTER.total_seconds():
            self.server_backoff.begin(wait_s=wait_s, status=learned.status, code=learned.code, now_s=self.monotonic())

    def start_run(self) -> None:
        """Begins a run: whether the service is up is seen anew."""
        self.breaker.start_run()
        self.unannounced.start_run()
        self._refusals = 0

    def set_throttle_factor(self, factor: float) -> None:
        """Limits rate and concurrency to a share (above 0, at most 1); replaces an earlier factor."""
        self.concurrency.set_throttle_factor(factor)
        self.rate_limiter.set_throttle_factor(factor)
        self._wake()

    def set_part(self, part: float, *, most_in_flight: int | None = None, leads: bool = True) -> None:
        """Takes a part (above 0, at most 1) of rate and concurrency from now on, and at most so many requests in
        flight: other processes that use the credential have the rest. It replaces an earlier part. One process
        `leads`: it decides what refusals teach all of them.
        """
        self.concurrency.set_part(part, most=most_in_flight)
        self.rate_limiter.set_part(part, self.monotonic(), leads=leads)
        self.unannounced.wait_for_others(SAME_CUT_S if part < 1 else 0.0, leads=leads)
        self._wake()

    def add_others(self, counts: RequestCounts) -> None:
        """Other processes with a part had these answers since the last call."""
        now_s = self.monotonic()
        self.rate_limiter.add_others(counts, now_s)
        self.unannounced.add_others(accepted=counts.accepted, refused=counts.refused, now_s=now_s)

    def trip(self) -> None:
        """Opens the breaker: another process found that the service is down."""
        self.breaker.trip()
        self._wake()

    def learned(self) -> LearnedLimits:
        """The limits to keep for later runs and other processes."""
        now, wait_s = self.utcnow(), self.server_backoff.until_s - self.monotonic()
        held = wait_s > 0
        return LearnedLimits(
            at=now,
            not_before=now + timedelta(seconds=wait_s) if held else None,
            status=self.server_backoff.status if held else None,
            code=self.server_backoff.code if held else None,
            rate_per_s=self.rate_limiter.learned_per_s,
            concurrency=self.concurrency.learned,
            down=self.breaker.down,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight, and none waits."""
        return not (self.in_flight or self._queue)

    def try_acquire(self, now_s: float) -> bool:
        """Takes a slot if one is free now; the caller must then call `release` or `release_unused`."""
        if self._queue or self.breaker.open or self._wait_s(now_s) > 0:
            return False
        self._start()
        return True

    async def acquire(self, deadline_s: float) -> ApiError | None:
        """Waits for a slot and returns None; the caller must then call `release` or `release_unused`.

        No wait begins that would end at or after `deadline_s` (on `monotonic`). Returns why there is no slot: an open
        breaker, a server backoff that lasts too long, or the deadline.
        """
        turn = asyncio.Event()
        self._queue.append(turn)
        if self.on_start is not None:
            self.on_start()
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
            waits_for_rate = False
            if self._queue[0] is turn:
                wait_s = self._wait_s(now_s)
                waits_for_rate = wait_s != _UNTIL_NOTIFIED and now_s >= self.server_backoff.until_s
                if wait_s <= 0:
                    self._start()
                    return None
                if wait_s != _UNTIL_NOTIFIED and now_s + wait_s >= deadline_s:
                    return self._backoff_error(now_s) or deadline_exceeded()
            else:
                wait_s = _UNTIL_NOTIFIED
            await self._wait(turn, min(wait_s, deadline_s - now_s))
            if waits_for_rate:
                self.rate_wait_s += self.monotonic() - now_s

    def _start(self) -> None:
        self.in_flight += 1
        self.starts += 1
        if self.on_start is not None:
            self.on_start()

    def release(
        self, failure: ApiError | None, headers: Mapping[str, str], *, started_s: float, is_sample: bool = True
    ) -> None:
        """An attempt ended that began at `started_s` (on `monotonic`); `headers` are empty without a reply.

        `is_sample` is False for an item that is asked again because it failed: that says nothing about the whole
        service.
        """
        self.in_flight -= 1
        now_s = self.monotonic()
        overload = failure if failure is not None and is_overload(failure) else None
        if self.rate_limiter.large_cuts != self._large_cuts:
            self._large_cuts = self.rate_limiter.large_cuts
            self.unannounced.follow(now_s)
        verdict = self.unannounced.judge(overload, started_s=started_s, now_s=now_s)
        stopped = self._stopped() if self.on_stop is not None else None
        self._record_in_breaker(failure, verdict, is_sample=is_sample)
        if failure is not None or self.server_backoff.half_open:
            self.server_backoff.record(failure, now_s=now_s)
        if failure is None or overload is None:
            too_large = failure is not None and failure.network is NetworkFault.TOO_LARGE
            (self.concurrency.on_large_answer if too_large else self.concurrency.on_success)()
            self.rate_limiter.accepted(now_s)
        else:
            self.concurrency.on_overload(started_s=started_s, now_s=now_s)
            self._slow_down(failure, verdict, started_s=started_s, now_s=now_s)
        if self.on_stop is not None and self._stopped() != stopped:
            self.on_stop()
        if states_rate_limit(headers):
            rate_limit = self._header_reader.read(headers, self.utcnow())
            if rate_limit is not None:
                self.rate_limiter.observe(rate_limit, sent_s=started_s, in_flight=self.in_flight)
        if self._queue:
            self._wake()

    def _stopped(self) -> tuple[bool, float, int]:
        """Whether anything may be sent, when again, and how often we had to slow down."""
        return self.breaker.open, self.server_backoff.until_s, self.rate_limiter.large_cuts

    def _slow_down(self, failure: ApiError, verdict: Verdict, *, started_s: float, now_s: float) -> None:
        if is_rate_limit(failure) or verdict is Verdict.REFUSAL:
            self.rate_limiter.refused(now_s, by_503=failure.status == 503)
        elif verdict is Verdict.FEW_REFUSALS:
            self.rate_limiter.refused_once(now_s, started_s=started_s)
        elif verdict is Verdict.OUTAGE:
            self.rate_limiter.forget_503s(now_s)

    def _record_in_breaker(self, failure: ApiError | None, verdict: Verdict, *, is_sample: bool) -> None:
        """A refusal is no outage; once it turns out to be one, the breaker hears of all of them."""
        if verdict is not _OTHER:
            if verdict is not Verdict.OUTAGE:
                self._refusals += is_sample
                return
            for _ in range(self._refusals):
                self.breaker.record(failure)
        self._refusals = 0
        if is_sample:
            self.breaker.record(failure)

    def release_unused(self) -> None:
        """An attempt was given up, or says nothing about the service."""
        self.in_flight -= 1
        self._wake()

    def _wait_s(self, now_s: float) -> float:
        """Seconds until the next may start; 0: now, and its turn in the rate limit is taken."""
        if now_s < self.server_backoff.until_s:
            return self.server_backoff.until_s - now_s
        most = 1 if self.breaker.half_open or self.server_backoff.half_open else self.concurrency.limit
        if self.in_flight + 1 > most:
            return _UNTIL_NOTIFIED
        return self.rate_limiter.wait_s(now_s, self.in_flight)

    def _backoff_error(self, now_s: float) -> ApiError | None:
        """The error that the server sent before, while its hint is in force."""
        left_s = self.server_backoff.until_s - now_s
        if left_s <= 0:
            return None
        return ApiError(
            status=self.server_backoff.status,
            code=self.server_backoff.code,
            message="an earlier answer asked to wait until after this run's deadline",
            retry_after=timedelta(seconds=left_s),
            from_backoff=True,
        )

    async def _wait(self, turn: asyncio.Event, wait_s: float) -> None:
        """Waits until woken, at most `wait_s`."""
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
    message = "the service was down in this run; no more requests were sent"
    return ApiError(status=None, code=BREAKER_OPEN, message=message)


def deadline_exceeded(*, from_token_endpoint: bool = False) -> ApiError:
    """The error of a call that its own deadline ended: it says nothing about the API."""
    return ApiError(
        status=None,
        code=DEADLINE_EXCEEDED,
        message="the deadline passed before an answer came",
        from_token_endpoint=from_token_endpoint,
    )
