"""How fast requests may start: from the limit that replies state, else by trying.

A token bucket whose rate and depth change as more is learned. Pure: instants are arguments, and it never waits.

| what is known            | how fast                                                        | class               |
|--------------------------|-----------------------------------------------------------------|---------------------|
| nothing                  | no limit                                                        |                     |
| what remains of a limit  | our share of a window, spread over it; or of a bucket's refill  | `CapacityEstimator` |
| only 429s                | a little less than was accepted, then carefully back and beyond | `CubicProbe`        |
| a configured ceiling     | never faster than that                                          |                     |
| a throttle factor        | at most this share of the slower of both, but at least 1/s      |                     |
| our part                 | of all of these; other processes with the credential take the   |                     |
|                          | rest                                                            |                     |
"""

import math
from bisect import bisect_right
from collections import deque
from enum import StrEnum

from monitor.client.rate.estimate import CapacityEstimator
from monitor.client.rate.headers import RateLimitHeaders
from monitor.client.rate.probe import CubicProbe, RateCut, RequestCounts

_MAX_CATCH_UP_S = 0.01
"""A late start is made up for, up to this: timers are late by milliseconds."""
_MIN_WAIT_S = 1e-4
_MAX_THROTTLED_GAP_S = 1.0
_MAX_START_TIMES = 2048
"""Start times that are kept: more than requests are ever in flight."""


class RateSource(StrEnum):
    """Where the rate comes from that bounds a run."""

    CONFIGURED = "configured"
    STATED = "stated"
    """Our share of the limit that the API states in its replies."""
    LEARNED = "learned"
    """From refusals, of this run or an earlier one."""


class RateLimiter:
    """The rate of all requests with one credential. All instants are seconds on one monotonic clock."""

    def __init__(self, *, ceiling_per_s: float | None, share: float, learned_per_s: float | None = None) -> None:
        """Begins with the configured ceiling and the `per_s` of an earlier run (each > 0 or None). `share` (above 0, at
        most 1) is our part of a limit that the API states: others use the same credential.
        """
        self._ceiling_gap_s = 1 / ceiling_per_s if ceiling_per_s else 0.0
        self._throttle_factor = self._part = 1.0
        self._announced_gap_s = 0.0
        self._capacity = CapacityEstimator(share)
        self._learned_per_s, self._any_429 = learned_per_s, False
        self._probe = CubicProbe(learned_per_s)
        self._unlimited = ceiling_per_s is None and learned_per_s is None
        self._starts = 0
        self._rejections = 0
        self._last_s = -math.inf
        self._start_times: deque[float] = deque(maxlen=_MAX_START_TIMES)

    @property
    def per_s(self) -> float | None:
        """Requests per second that the API accepts from all processes (> 0); None: no limit was met."""
        if self._capacity.known and self._capacity.per_s is not None:
            return self._capacity.per_s
        return 1 / self._announced_gap_s if self._announced_gap_s else self._probe.plateau_per_s

    @property
    def ceiling_per_s(self) -> float | None:
        """The configured ceiling."""
        return 1 / self._ceiling_gap_s if self._ceiling_gap_s else None

    @property
    def learned_per_s(self) -> float | None:
        """The `per_s` for a later run to begin with: higher than ours if no request was refused."""
        stated = self._announced_gap_s or (self._capacity.known and self._capacity.per_s is not None)
        return self.per_s if stated else self._probe.learned_per_s

    @property
    def source(self) -> RateSource:
        """What bounds the rate now."""
        learned = self.per_s
        if self._ceiling_gap_s and (learned is None or learned * self._ceiling_gap_s >= 1):
            return RateSource.CONFIGURED
        stated = self._announced_gap_s or (self._capacity.known and self._capacity.per_s is not None)
        return RateSource.STATED if stated else RateSource.LEARNED

    def set_throttle_factor(self, factor: float) -> None:
        """Limits requests to a share (above 0, at most 1) of the configured or learned rate; replaces an earlier
        factor.
        """
        self._throttle_factor = factor

    def set_part(self, part: float, now_s: float, *, leads: bool = True) -> None:
        """Takes a part (above 0, at most 1) of every rate from now on: other processes that use the credential have the
        rest. It replaces an earlier part. One process `leads`: it decides what refusals teach all of them.
        """
        self._part = part
        self._capacity.set_part(part)
        self._probe.set_part(part, now_s, leads=leads)

    @property
    def last_cut(self) -> RateCut | None:
        """What the newest refusal taught, here or elsewhere; None without one."""
        return self._probe.last_cut

    @property
    def large_cuts(self) -> int:
        """How often a refusal, here or elsewhere, slowed us down by more than a few percent."""
        return self._probe.large_cuts

    @property
    def counts(self) -> RequestCounts:
        """Our answers so far, by which others learn how much of the whole is refused."""
        return self._probe.counts

    def add_others(self, counts: RequestCounts, now_s: float) -> None:
        """Other processes had these answers lately: a part alone may have had luck."""
        self._probe.add_others(counts, now_s)

    def adopt(self, cut: RateCut, *, in_flight: int) -> None:
        """Takes over what a refusal taught another process, unless we know something newer; `in_flight` requests are
        unanswered.
        """
        self._unlimited = False
        self._probe.adopt(cut, in_flight=in_flight)

    def wait_s(self, now_s: float, in_flight: int) -> float:
        """0.0: one request starts now and is counted. Above 0: seconds after which to ask again; nothing is counted."""
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
        """Learns from the limit that a reply states. Call `accepted` or `refused` for the same reply first. `sent_s` is
        the `now_s` of `wait_s`, or a little later; `in_flight` requests are still unanswered.
        """
        if rate_limit.remaining is None:
            if rate_limit.limit is not None and rate_limit.window_s is not None:
                self._unlimited = False
                self._announced_gap_s = rate_limit.window_s / max(self._capacity.share * rate_limit.limit, 1.0)
            return
        self._unlimited = False
        # requests that started without a limit were not counted: they come before the first
        counted = bisect_right(self._start_times, sent_s)
        done = self._starts - len(self._start_times) + counted if counted else min(self._starts - in_flight, 0)
        self._capacity.observe(rate_limit, sent_s=sent_s, done=done, rejections=self._rejections, starts=self._starts)

    def accepted(self, now_s: float) -> None:
        """A reply came that was not a 429."""
        self._probe.accepted(now_s)

    def refused(self, now_s: float, *, by_503: bool = False) -> None:
        """A 429 came, or a 503 that means the same: see `unannounced`. Several of requests that were in flight together
        count once.
        """
        self._unlimited = False
        self._any_429 = self._any_429 or not by_503
        self._rejections += 1
        if self._capacity.known:
            self._capacity.refused(now_s)
        else:
            self._probe.refused(now_s, by_503=by_503)

    def refused_once(self, now_s: float, *, started_s: float) -> None:
        """The API refused a request, without a 429, that started then, and accepts most others: see `unannounced`."""
        self._unlimited = False
        if not self._capacity.known:
            self._probe.refused_once(now_s, started_s=started_s)

    def forget_503s(self, now_s: float) -> None:
        """The 503s were no refusals: the rate is again what it was before them, unless a 429 came too."""
        if not self._any_429:
            if self._part < 1:
                self._probe.lift(now_s)
            else:
                self._probe = CubicProbe(self._learned_per_s)

    def _gap_s(self, now_s: float) -> float:
        """Seconds from the last start to the next."""
        if self._capacity.known:
            gap_s = self._capacity.gap_s(self._last_s, now_s, self._starts)  # ours
        else:
            per_s = self._probe.per_s(now_s)
            gap_s = max(1 / per_s if per_s else 0.0, self._announced_gap_s) / self._part
        gap_s = max(gap_s, self._ceiling_gap_s / self._part)
        return gap_s if self._throttle_factor >= 1 else max(gap_s, self._throttled_gap_s() / self._part)

    def _throttled_gap_s(self) -> float:
        """Seconds between starts at our share of the slower of the configured and the learned rate; 0 if neither is
        known.
        """
        learned = self.per_s
        gap_s = max(1 / learned if learned else 0.0, self._ceiling_gap_s)
        return max(gap_s, min(gap_s / self._throttle_factor, _MAX_THROTTLED_GAP_S))
