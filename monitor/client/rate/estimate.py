"""Estimates an API's rate limit from what its replies state: fixed windows, a token bucket, a sliding log. Pure.

All instants are those at which requests were *sent*, so that latency cancels out. The capacity so far is what a reply
says remains, plus the requests that the API had accepted by then. It stays the same within a window and jumps when the
next one begins; for a bucket or a sliding log it grows about as fast as requests are made.

Several processes may use one credential. Each is given a *part* of it: estimates and plateaus are of the whole, which a
process infers from what it sees, and it starts its part of the requests. With part 1 it is alone.

Each estimate is needed. Measured on the simulated servers of `tests/client/rate`, without it: token bucket: 26% of a
small bucket's rate, and with a share of half still 100% of a large one's; sliding log (`_fixed_per_s`): the same 100%;
learned window length: 54% to 85% of windows of 1 s; cubic curve (a linear one instead): 75% of 500/s, 4.8% 429s at 5/s.
"""

import math
from collections import deque

from monitor.client.rate.headers import RateLimitHeaders

_MIN_BUCKET_PER_S = 1.0
_FULL_SHARE = 1 / 8
_SMOOTHING = 0.2
_FULL_TIMEOUT_S = 2.0
_EXHAUSTED_SHARE = 0.15
_TRIAL_FACTOR = 2.5
_BUCKET_JITTER_S = 0.02
_RESERVE_STEP = 1 / 50
_MAX_RESERVE = 1 / 10
_MIN_CORRECTION, _MAX_CORRECTION = -0.5, 1.0
_STEADY_CORRECTION, _STEADY_CORRECTION_WHEN_FULL = 0.1, 0.6


class TokenBucketEstimator:
    """The refill rate of a token bucket or sliding log. Requests are numbered as they start."""

    def __init__(self, share: float) -> None:
        """Takes a share (above 0, at most 1) of the capacity."""
        self._share = share
        self.part = 1.0
        """Our part of that; other processes take the rest."""
        self.remaining = 0
        """From the last reply."""
        self.refill_per_s = 0.0
        """Measured recently; too low if the bucket was full."""
        self._done, self._sent_s, self._retry_at_s = 0, 0.0, 0.0
        self._refused_s = -math.inf
        self._extra_reserve = 0.0
        self.reset(1, _MIN_BUCKET_PER_S)

    @property
    def per_s(self) -> float:
        """Requests per second that all processes use (> 0)."""
        return self._fixed_per_s or max(self._per_s, _MIN_BUCKET_PER_S)

    def reset(self, limit: int, per_s: float) -> None:
        """Starts again with a limit and a measured refill per second."""
        self._limit = limit
        self._per_s = self.refill_per_s = per_s
        self._confident = self._is_sliding_log = False
        self._full_since_s = self._trial_end_s = math.inf
        self._fixed_per_s: float | None = None

    def observe(self, remaining: int, done: int, sent_s: float, reset_in_s: float | None) -> None:
        """A reply to request `done` came."""
        self.remaining, self._done, self._sent_s = remaining, done, sent_s
        self._retry_at_s = sent_s + (reset_in_s or 1.0)

    def update(self, refill_per_s: float, sent_s: float) -> None:
        """Takes in the refill per second up to the last reply."""
        self.refill_per_s = refill_per_s
        full = self._limit - self.remaining <= 1 + max(2.0, self._share * self._limit * _FULL_SHARE)
        if self._fixed_per_s is not None:
            self._end_trial(full=full, sent_s=sent_s)
        elif full:
            self._full_since_s = min(self._full_since_s, sent_s)
            self._confident = self._confident and sent_s - self._full_since_s < _FULL_TIMEOUT_S
            self._per_s = max(self._per_s, refill_per_s)
        else:
            self._per_s += (_SMOOTHING if self._confident else 1.0) * (refill_per_s - self._per_s)
            self._confident, self._full_since_s = True, math.inf
            part = self._share * self._limit
            if (
                self._share < 1
                and not self._is_sliding_log
                and self.remaining - self._reserved_for_others() <= _EXHAUSTED_SHARE * part
            ):
                self._fixed_per_s = max(self._share * self._per_s, _MIN_BUCKET_PER_S)
                self._trial_end_s = sent_s + _TRIAL_FACTOR * part / max(
                    (1 - self._share) * self._per_s, _MIN_BUCKET_PER_S
                )

    def refused(self, now_s: float) -> None:
        """A 429 came: keep a larger reserve from now on."""
        if now_s > self._refused_s:
            self._refused_s = now_s + 1.0
            self._extra_reserve = min(
                self._extra_reserve + max(1.0, self._limit * _RESERVE_STEP), self._limit * _MAX_RESERVE
            )

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until one more request fits; 0.0 or below: it fits now."""
        missing = 1 + self._reserved_for_others() + self._reserve() - self._available(now_s, starts)
        # at the time that the API named, or after a second, try one whatever we estimate
        retry_s = self._retry_at_s + starts - self._done - now_s
        return min(missing / max(self.part * self.refill_per_s, _MIN_BUCKET_PER_S), retry_s)

    def gap_s(self, now_s: float, starts: int) -> float:
        """Seconds between the last start and the next."""
        if self._fixed_per_s is not None:
            return 1 / self._fixed_per_s / self.part
        ours = self._available(now_s, starts) - self._reserved_for_others()
        steady_correction = _STEADY_CORRECTION + _STEADY_CORRECTION_WHEN_FULL * max(0.0, ours) / (
            self._limit * self._share
        )
        correction = min(
            (ours - self._reserve()) / max(self._per_s, _MIN_BUCKET_PER_S),
            steady_correction if self._confident else _MAX_CORRECTION,
        )
        return 1 / max(self._per_s * (1 + max(correction, _MIN_CORRECTION)), _MIN_BUCKET_PER_S) / self.part

    def _end_trial(self, *, full: bool, sent_s: float) -> None:
        if full:
            self._trial_end_s = math.inf
        elif sent_s > self._trial_end_s:
            self._fixed_per_s, self._is_sliding_log = None, True

    def _reserved_for_others(self) -> float:
        return (1 - self._share) * self._limit

    def _available(self, now_s: float, starts: int) -> float:
        supplied = self.part * self.refill_per_s * (now_s - self._sent_s)
        return min(float(self._limit), self.remaining + supplied - (starts - self._done))

    def _reserve(self) -> float:
        return min(_BUCKET_JITTER_S * self.refill_per_s + self._extra_reserve, self._limit / 2)


_EDGE_SHARE = 0.05
_MAX_EDGE_S = 0.1
_MAX_SPEEDUP = 1.5
"""Times the even rate: the fastest that the rest of a window is used up."""
_MIN_LEFT_S = 0.5
_MAX_GAP_S = 1.0
_JITTER_S = 0.05
_KEPT, _MAX_KEPT = 1 / 100, 1 / 16
"""Of the limit: what a process leaves for those that began before it saw how much remains."""
_ROUNDED_UP_S = 2.1
_MAX_UNCERTAINTY = 0.3
_NOISE = 1 / 8
"""Of the limit: how far replies may differ because requests overtake each other."""


class FixedWindowEstimator:
    """The windows of one API. Requests are numbered as they start."""

    def __init__(self, share: float) -> None:
        """Takes a share (above 0, at most 1) of each window."""
        self._share = share
        self.part = 1.0
        """Our part of that; other processes take the rest."""
        self._limit, self._remaining, self._done, self._base = 1, 0, 0, 0
        self._sent_s = self._start_s = -math.inf
        self._end_s = math.inf
        self._max_reset_s = 0.0
        self._is_new = self._was_exhausted = False
        self.forget_length()

    @property
    def per_s(self) -> float | None:
        """The share per second (> 0), of all processes, once the length of a window is known."""
        return self._share * self._limit / self._length_s if self._length_s else None

    @property
    def share_gap_s(self) -> float:
        """Seconds between our starts that keep a share below one, from the longest reset seen."""
        return 0.0 if self._share == 1 else max(self._max_reset_s - 1, 1.0) / self._ours

    @property
    def _ours(self) -> float:
        """Our requests per window, at least those of one for all processes (> 0)."""
        return max(self._share * self._limit, 1.0) * self.part

    def forget_length(self) -> None:
        """Forgets how long windows are."""
        self._length_s: float | None = None
        self._last_boundary: tuple[float, float] | None = None

    def reset(self, limit: int, remaining: int, done: int, base: int) -> None:
        """Continues in a running window: `remaining` after request `done`; those after `base` were ours."""
        self._limit, self._remaining, self._done, self._base = limit, remaining, done, base
        self._is_new, self._end_s = False, math.inf

    def observe(self, rate_limit: RateLimitHeaders, remaining: int, done: int, sent_s: float) -> None:
        """A reply to request `done` came, apparently in the current window."""
        if sent_s < self._start_s:
            return
        if self._is_new and self._length_s is not None and remaining < self._limit / 2:
            if sent_s - self._start_s < self._length_s / 4:
                self._start_s, self._base = sent_s, done  # the window before lasts longer than predicted
                return
            self.forget_length()
        elif not self._is_new:
            more = remaining - (self._remaining + self._done - done)
            if more > max(2.0, self._limit * _NOISE):
                self._base += more  # part of it was given back
            elif more > 0:
                remaining -= more  # earlier requests in flight will count too
        self._is_new, self._remaining, self._done, self._sent_s = False, remaining, done, sent_s
        if rate_limit.reset_in_s is not None:
            self._max_reset_s = max(self._max_reset_s, rate_limit.reset_in_s)
            self._end_s = min(self._end_s, sent_s + rate_limit.reset_in_s)

    def start_window(
        self, rate_limit: RateLimitHeaders, remaining: int, done: int, before_s: float, sent_s: float
    ) -> None:
        """A window began between two requests; request `done` was the first in it."""
        predicted_s = sent_s
        if self._is_new:
            predicted_s = self._start_s
        elif self._length_s:
            predicted_s = self._start_s + self._length_s
        if not self._is_new:
            self._base = done - 1
        last, self._last_boundary = self._last_boundary, (before_s, sent_s)
        if last is not None:
            self._measure_length(last, self._last_boundary, rate_limit.reset_in_s)
        self._length_s = rate_limit.window_s or self._length_s
        self._start_s = min(max(predicted_s, before_s), sent_s) if self._length_s else sent_s
        self._end_s = sent_s + rate_limit.reset_in_s if rate_limit.reset_in_s is not None else math.inf
        self._is_new, self._remaining, self._done, self._sent_s = False, remaining, done, sent_s

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until one more request fits; 0.0 or below: it fits now."""
        self._roll(now_s, starts)
        edge_s = self._edge_s()
        if self._is_new and self._was_exhausted and now_s < self._start_s + edge_s:
            return self._start_s + edge_s - now_s
        if self._available(starts) >= 1:
            return 0.0
        if self._length_s:
            return self._start_s + self._length_s + edge_s - now_s
        if self._end_s < math.inf:
            return self._end_s - now_s
        # no end is known: try one a second
        return self._sent_s + 1 + starts - self._done - now_s

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        """Seconds between the last start, at `last_s`, and the next."""
        self._roll(now_s, starts)
        from_s, parts = max(last_s, self._start_s), max(self._available(starts) + 1, 1.0)
        if self._length_s:
            left_s = self._start_s + self._length_s - self._edge_s() - from_s
            return max(left_s / parts, self._length_s / (_MAX_SPEEDUP * self._ours))
        if self._end_s < math.inf:
            gap_s = max(self._end_s - from_s, _MIN_LEFT_S) / parts
        else:
            gap_s = max(self._max_reset_s, _MIN_LEFT_S) / self._ours
        return min(max(gap_s, self.share_gap_s), _MAX_GAP_S / self.part)

    def _measure_length(self, last: tuple[float, float], seen: tuple[float, float], reset_in_s: float | None) -> None:
        """The window length from two beginnings, each between the two instants given."""
        least_s, most_s = seen[0] - last[1] - _JITTER_S, seen[1] - last[0] + _JITTER_S
        middle_s = (least_s + most_s) / 2
        if self._length_s and least_s <= max(1, round(middle_s / self._length_s)) * self._length_s <= most_s:
            return
        self._length_s = None
        times = max(1, round(middle_s / reset_in_s)) if reset_in_s else 1
        least_s, middle_s, most_s = least_s / times, middle_s / times, most_s / times
        whole_s = round(min(max(reset_in_s or middle_s, least_s), most_s))
        if whole_s >= 1 and least_s <= whole_s <= most_s:
            middle_s = float(whole_s)
        elif most_s - least_s > _MAX_UNCERTAINTY * middle_s:
            return
        if reset_in_s is None or reset_in_s <= middle_s + _ROUNDED_UP_S:
            self._length_s = middle_s

    def _edge_s(self) -> float:
        return min(_EDGE_SHARE * (self._length_s or 0.0), _MAX_EDGE_S)

    def _available(self, starts: int) -> float:
        """Requests that may still start in this window; 0 or below: none."""
        ours = starts - self._base
        in_flight = starts - self._done
        available = (
            self._limit - ours if self._is_new else self._remaining - in_flight - self._kept_for_others(in_flight)
        )
        return min(float(available), max(self.part * self._share * self._limit, 1.0) - ours)

    def _kept_for_others(self, in_flight: int) -> float:
        """Requests of other processes that a reply can't count yet: as many as ours in flight, for each part."""
        if self.part == 1:
            return 0.0
        return min((1 / self.part - 1) * in_flight + self._limit * _KEPT, self._limit * _MAX_KEPT)

    def _roll(self, now_s: float, starts: int) -> None:
        """Begins the window that is due."""
        if self._length_s:
            elapsed = math.floor((now_s - self._start_s) / self._length_s)
            if elapsed > 0:
                self._was_exhausted = elapsed == 1 and self._available(starts) < 1 + _EDGE_SHARE * self._limit
                self._start_s += elapsed * self._length_s
                self._is_new, self._base, self._end_s = True, starts, math.inf
        elif now_s >= self._end_s:
            self._was_exhausted = False
            self._is_new, self._base, self._start_s, self._end_s = True, starts, self._end_s, math.inf


_HORIZON_S = 1.0
_HORIZON_REQUESTS = 16
_SAMPLE_INTERVAL_S = _HORIZON_S / 8
_JUMP, _JUMP_IN_BUCKET = 1 / 8, 1 / 4
"""Of a limit: if this much comes at once, a window began."""
_MIN_BUCKET_LIMIT = 4
"""A lower limit can't be distinguished from a bucket and counts as a window."""
_MAX_STEP_S = 0.5


class CapacityEstimator:
    """The limit of one API and credential, as windows or as a bucket."""

    def __init__(self, share: float) -> None:
        """Takes a share (above 0, at most 1) of the capacity."""
        self.share = share
        self.known = False
        """Whether a reply stated what remains."""
        self._part = 1.0
        self._window, self._bucket = FixedWindowEstimator(share), TokenBucketEstimator(share)
        self._is_bucket = False
        self._limit = 1
        self._total = self._done = self._gradual_growth = 0
        self._sent_s = -math.inf
        self._samples: deque[tuple[float, int, int, int]] = deque()

    @property
    def per_s(self) -> float | None:
        """The share of the capacity per second, of all processes, once it is known."""
        return self._bucket.per_s if self._is_bucket else self._window.per_s

    def set_part(self, part: float) -> None:
        """Takes a part (above 0, at most 1) of the share from now on."""
        if part != self._part:
            self._part = self._bucket.part = self._window.part = part
            self._samples.clear()  # they stood for another part

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until one more request fits after `starts` requests; 0.0: it fits now."""
        return self._bucket.wait_s(now_s, starts) if self._is_bucket else self._window.wait_s(now_s, starts)

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        """Seconds between the last start, at `last_s`, and the next."""
        if self._is_bucket:
            return max(self._bucket.gap_s(now_s, starts), self._window.share_gap_s)
        return self._window.gap_s(last_s, now_s, starts)

    def refused(self, now_s: float) -> None:
        """A 429 came nevertheless."""
        if self._is_bucket:
            self._bucket.refused(now_s)

    def observe(self, rate_limit: RateLimitHeaders, *, sent_s: float, done: int, rejections: int, starts: int) -> None:
        """Learns from a reply; ignores it without `remaining`.

        `done` numbers the requests sent up to `sent_s`, itself included; zero or below for those from before we
        counted: minus those still in flight. `rejections` and `starts` count 429s and starts so far.
        """
        remaining = rate_limit.remaining
        if remaining is None or sent_s < self._sent_s:
            return  # it was overtaken: its numbers are out of date
        limit = rate_limit.limit or max(self._limit, remaining + 1)
        total, before_s, new_requests = remaining + done - rejections, self._sent_s, done - self._done
        growth = total - self._total
        is_reset = not self.known or limit != self._limit or done < 1
        self.known, self._limit, self._total, self._sent_s, self._done = True, limit, total, sent_s, done
        if is_reset:
            self._is_bucket = False
            self._samples.clear()
            self._window.reset(limit, remaining, done, done)
        self._bucket.observe(remaining, done, sent_s, rate_limit.reset_in_s)
        if not is_reset and self._is_new_window(growth, sent_s - before_s):
            self._is_bucket = False
            self._samples.clear()
            self._window.start_window(rate_limit, remaining, done, before_s, sent_s)
            return
        self._gradual_growth += growth if not is_reset and growth <= 2 * new_requests + 2 else 0
        self._sample(sent_s, starts)
        if not self._is_bucket:
            self._window.observe(rate_limit, remaining, done, sent_s)

    def _is_new_window(self, growth: int, since_s: float) -> bool:
        """Whether the capacity jumped so far that a window began."""
        if self._limit < _MIN_BUCKET_LIMIT:
            return growth >= 1
        if self._is_bucket:
            expected = self._bucket.refill_per_s * since_s
            return since_s <= _MAX_STEP_S and growth - expected >= max(2.0, self._limit * _JUMP_IN_BUCKET)
        return growth >= max(2.0, self._limit * _JUMP)

    def _sample(self, sent_s: float, starts: int) -> None:
        """Compares the capacity with an earlier one, and decides between bucket and windows."""
        samples, done = self._samples, self._done
        if not samples or sent_s - samples[-1][0] >= _SAMPLE_INTERVAL_S:
            samples.append((sent_s, self._total, done, self._gradual_growth))
        while len(samples) > 2 and sent_s - samples[1][0] >= _HORIZON_S and done - samples[1][2] >= _HORIZON_REQUESTS:
            samples.popleft()
        then_s, total, then_done, gradual_growth = samples[0]
        span_s, growth, used = sent_s - then_s, self._total - total, done - then_done
        if span_s < _SAMPLE_INTERVAL_S or used < 4:
            return
        supplied = growth + (1 / self._part - 1) * used  # other processes used some, in proportion to their part
        if self._is_bucket and used >= 8 and supplied < used / self._part / 4:
            self._is_bucket = False
            available = self._bucket.remaining
            ours = math.floor(self._part * (self._limit - available))
            self._window.reset(self._limit, available, done, done - ours)
        elif not self._is_bucket and self._limit >= _MIN_BUCKET_LIMIT:
            noise = 3 + self._limit / 64 + (starts - done) / 4
            if self._gradual_growth - gradual_growth >= max(noise, used / 2):
                self._is_bucket = True
                self._window.forget_length()
                self._bucket.reset(self._limit, max(supplied, 1) / span_s)
        if self._is_bucket:
            self._bucket.update(max(supplied, 0) / span_s, sent_s)
