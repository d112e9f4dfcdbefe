"""A limit under a steady supply: a bucket that is filled, or a log of the last requests that forgets. Pure.

1. What is left is reckoned forward from the last reply with what was supplied of late; below a small reserve nothing
   starts.
2. The rate is what is supplied, a little more while much is left and less while little is. Where the bucket is full the
   supply can't be seen: then the rate grows until it isn't.
3. With a share below one only that share of the limit is touched. Once this part is used up the supply is known. To
   tell a bucket from a log, our share of it is tried: a bucket fills up, and the rate stays; a log does not, and what
   is left of it keeps our share.
"""

import math

__all__ = ["Flow"]

_FLOOR_PER_S = 1.0
_FULL = 1 / 8
_SMOOTHING = 0.2
_FULL_FOR_LONG_S = 2.0
_USED_UP = 0.15
_TRIAL = 2.5
_JITTER_S = 0.02
_MORE_RESERVE = 1 / 50
_MOST_RESERVE = 1 / 10
_SLOWEST_PULL, _FASTEST_PULL = -0.5, 1.0
_CALM_PULL, _CALM_PULL_WHEN_FULL = 0.1, 0.6


class Flow:
    """The supply of one API. Instants are those at which requests were sent; requests are numbered as they start."""

    __slots__ = (
        "_again_s",
        "_done",
        "_fixed_per_s",
        "_full_s",
        "_is_log",
        "_limit",
        "_per_s",
        "_refused_s",
        "_sent_s",
        "_share",
        "_spare",
        "_sure",
        "_verdict_s",
        "remaining",
        "supplied_per_s",
    )

    def __init__(self, share: float) -> None:
        """Takes a share (0 to 1, above 0) of the supply."""
        self._share = share
        self.remaining = 0
        """What the last reply said."""
        self.supplied_per_s = 0.0
        """What was supplied per second of late; less than could be, where the bucket was full."""
        self._done, self._sent_s, self._again_s = 0, 0.0, 0.0
        self._refused_s = -math.inf
        self._spare = 0.0
        self.begin(1, _FLOOR_PER_S)

    @property
    def per_s(self) -> float:
        """Requests per second that we take (> 0)."""
        return self._fixed_per_s or max(self._per_s, _FLOOR_PER_S)

    def begin(self, limit: int, per_s: float) -> None:
        """Begins with a limit and what was supplied per second."""
        self._limit = limit
        self._per_s = self.supplied_per_s = per_s
        self._sure = self._is_log = False
        self._full_s = self._verdict_s = math.inf
        self._fixed_per_s: float | None = None

    def told(self, remaining: int, done: int, sent_s: float, reset_in_s: float | None) -> None:
        """A reply to request `done` came."""
        self.remaining, self._done, self._sent_s = remaining, done, sent_s
        self._again_s = sent_s + (reset_in_s or 1.0)

    def measured(self, supplied_per_s: float, sent_s: float) -> None:
        """What was supplied per second of late, up to the last reply."""
        self.supplied_per_s = supplied_per_s
        full = self._limit - self.remaining <= 1 + max(2.0, self._share * self._limit * _FULL)
        if self._fixed_per_s is not None:
            self._judge(full=full, sent_s=sent_s)
        elif full:
            self._full_s = min(self._full_s, sent_s)
            self._sure = self._sure and sent_s - self._full_s < _FULL_FOR_LONG_S
            self._per_s = max(self._per_s, supplied_per_s)
        else:
            self._per_s += (_SMOOTHING if self._sure else 1.0) * (supplied_per_s - self._per_s)
            self._sure, self._full_s = True, math.inf
            part = self._share * self._limit
            if self._share < 1 and not self._is_log and self.remaining - self._others() <= _USED_UP * part:
                self._fixed_per_s = max(self._share * self._per_s, _FLOOR_PER_S)
                self._verdict_s = sent_s + _TRIAL * part / max((1 - self._share) * self._per_s, _FLOOR_PER_S)

    def refused(self, now_s: float) -> None:
        """A 429 came: more is kept in reserve from now on."""
        if now_s > self._refused_s:
            self._refused_s = now_s + 1.0
            self._spare = min(self._spare + max(1.0, self._limit * _MORE_RESERVE), self._limit * _MOST_RESERVE)

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until what is left allows one more request; 0.0 or below: it does now."""
        lacking = 1 + self._others() + self._reserve() - self._left(now_s, starts)
        # when the API named the time, or after a second, one is tried whatever we reckon
        tried_s = self._again_s + starts - self._done - now_s
        return min(lacking / max(self.supplied_per_s, _FLOOR_PER_S), tried_s)

    def gap_s(self, now_s: float, starts: int) -> float:
        """Seconds that should lie between the last start and the next."""
        if self._fixed_per_s is not None:
            return 1 / self._fixed_per_s
        ours = self._left(now_s, starts) - self._others()
        calm = _CALM_PULL + _CALM_PULL_WHEN_FULL * max(0.0, ours) / (self._limit * self._share)
        pull = min((ours - self._reserve()) / max(self._per_s, _FLOOR_PER_S), calm if self._sure else _FASTEST_PULL)
        return 1 / max(self._per_s * (1 + max(pull, _SLOWEST_PULL)), _FLOOR_PER_S)

    def _judge(self, *, full: bool, sent_s: float) -> None:
        if full:
            self._verdict_s = math.inf
        elif sent_s > self._verdict_s:
            self._fixed_per_s, self._is_log = None, True

    def _others(self) -> float:
        return (1 - self._share) * self._limit

    def _left(self, now_s: float, starts: int) -> float:
        supplied = self.supplied_per_s * (now_s - self._sent_s)
        return min(float(self._limit), self.remaining + supplied - (starts - self._done))

    def _reserve(self) -> float:
        return min(_JITTER_S * self.supplied_per_s + self._spare, self._limit / 2)
