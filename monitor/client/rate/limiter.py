"""How fast requests may start, under a rate that is learned: from what replies say of a limit, else by trying.

A token bucket whose rate and depth change as more is learned. Pure: instants are arguments, nothing waits here.

| what is known            | how fast                                                                       | where    |
|--------------------------|--------------------------------------------------------------------------------|----------|
| nothing                  | as fast as asked                                                               |          |
| what remains of a limit  | our share of a window, spread over it; or of what a bucket is filled with      | `supply` |
| a 429 came without that  | a little less than was accepted, then carefully back and beyond                | `climb`  |
| a ceiling was configured | never faster than that                                                         |          |
| it is to hold back       | at most a share of what was configured or learned, but no less than one a second |        |
"""

import math
from bisect import bisect_right
from collections import deque

from monitor.client.rate.estimate import CapacityEstimator, CubicProbe
from monitor.client.rate.headers import RateLimitHeaders

_MAX_CATCH_UP_S = 0.01
"""A start that comes later than its turn is made up for, within bounds: timers are late by milliseconds."""
_MIN_WAIT_S = 1e-4
_MAX_THROTTLED_GAP_S = 1.0
_MAX_START_TIMES = 2048
"""Starts whose instants are kept: more than are ever in flight."""


class RateLimiter:
    """The pace of all requests under one credential. All instants are seconds on one clock that never goes back."""

    __slots__ = (
        "_announced_gap_s",
        "_capacity",
        "_ceiling_gap_s",
        "_last_s",
        "_probe",
        "_rejections",
        "_start_times",
        "_starts",
        "_throttle_factor",
        "_unlimited",
    )

    def __init__(self, *, ceiling_per_s: float | None, share: float, learned_per_s: float | None = None) -> None:
        """Begins with what was configured and what earlier runs learned.

        Args:
            ceiling_per_s: requests per second (> 0) that are never exceeded; None: no ceiling.
            share: of a limit that the API states (0 to 1, above 0): others use the same credential.
            learned_per_s: `per_s` of an earlier run (> 0), to begin with; None: nothing was learned.
        """
        self._ceiling_gap_s = 1 / ceiling_per_s if ceiling_per_s else 0.0
        self._throttle_factor = 1.0
        self._announced_gap_s = 0.0
        self._capacity = CapacityEstimator(share)
        self._probe = CubicProbe(learned_per_s)
        self._unlimited = ceiling_per_s is None and learned_per_s is None
        self._starts = 0
        self._rejections = 0
        self._last_s = -math.inf
        self._start_times: deque[float] = deque(maxlen=_MAX_START_TIMES)

    @property
    def per_s(self) -> float | None:
        """Requests per second that were learned to be taken from us (> 0); None: no limit was met."""
        if self._capacity.known and self._capacity.per_s is not None:
            return self._capacity.per_s
        return 1 / self._announced_gap_s if self._announced_gap_s else self._probe.plateau_per_s

    def set_throttle_factor(self, factor: float) -> None:
        """Holds back to a share (0 to 1, above 0) of the configured or learned rate; a later share takes its place."""
        self._throttle_factor = factor

    def wait_s(self, now_s: float, in_flight: int) -> float:
        """Whether one request may start now.

        Args:
            now_s: now.
            in_flight: requests whose replies are awaited.

        Returns:
            0.0: one request starts now, it is counted. Above 0: seconds after which to ask again; nothing is taken.
        """
        if self._unlimited:
            return 0.0
        due_s = self._last_s + self._gap_s(now_s)
        if due_s - now_s > _MIN_WAIT_S / 10:
            return max(due_s - now_s, _MIN_WAIT_S)
        if self._capacity.known:
            wait_s = self._capacity.wait_s(now_s, self._starts)
            if wait_s > 0:
                return max(wait_s, _MIN_WAIT_S)
        else:
            self._probe.started(now_s, in_flight)
        self._last_s = max(due_s, now_s - _MAX_CATCH_UP_S) if self._starts else now_s
        self._starts += 1
        self._start_times.append(now_s)
        return 0.0

    def observe(self, rate_limit: RateLimitHeaders, *, sent_s: float, in_flight: int) -> None:
        """Learns from what a reply said of the limit. `accepted` or `refused` is told of the same reply first.

        Args:
            rate_limit: what was said.
            sent_s: when its request started: what `wait_s` was given, or a little later.
            in_flight: requests whose replies are still awaited.
        """
        if rate_limit.remaining is None:
            if rate_limit.limit is not None and rate_limit.window_s is not None:
                self._unlimited = False
                self._announced_gap_s = rate_limit.window_s / max(self._capacity.share * rate_limit.limit, 1.0)
            return
        self._unlimited = False
        # what started while nothing limited us was not counted: it comes before the first
        counted = bisect_right(self._start_times, sent_s)
        done = self._starts - len(self._start_times) + counted if counted else min(self._starts - in_flight, 0)
        self._capacity.observe(rate_limit, sent_s=sent_s, done=done, rejections=self._rejections, starts=self._starts)

    def accepted(self, now_s: float) -> None:
        """A reply came that was no 429."""
        self._probe.accepted(now_s)

    def refused(self, now_s: float) -> None:
        """A 429 came. Those of requests that were in flight together count once."""
        self._unlimited = False
        self._rejections += 1
        if self._capacity.known:
            self._capacity.refused(now_s)
        else:
            self._probe.refused(now_s)

    def _gap_s(self, now_s: float) -> float:
        """Seconds from the last start to the next."""
        if self._capacity.known:
            gap_s = self._capacity.gap_s(self._last_s, now_s, self._starts)
        else:
            per_s = self._probe.per_s(now_s)
            gap_s = max(1 / per_s if per_s else 0.0, self._announced_gap_s)
        gap_s = max(gap_s, self._ceiling_gap_s)
        return gap_s if self._throttle_factor >= 1 else max(gap_s, self._throttled_gap_s())

    def _throttled_gap_s(self) -> float:
        """Seconds between starts at our share of the slower of what was configured and learned; 0 if neither was."""
        learned = self.per_s
        gap_s = max(1 / learned if learned else 0.0, self._ceiling_gap_s)
        return max(gap_s, min(gap_s / self._throttle_factor, _MAX_THROTTLED_GAP_S))
