"""Flow."""

import math

__all__ = ["Flow"]


class Flow:
    def __init__(self, share: float) -> None:
        self.share = share
        self.limit = 1
        self.remaining = 0
        self.done = 0
        self.sent_s = 0.0
        self.again_s = math.inf
        self.top = 0.0
        self.q = 0.0
        self.sure = False
        self.full_s = math.inf
        self.spare = 0.0
        self.refused_s = -math.inf
        self.fixed: float | None = None
        self.verdict_s = math.inf
        self.sliding = False

    def begin(self, limit: int, per_s: float) -> None:
        self.limit = limit
        self.top = self.q = per_s
        self.sure, self.fixed, self.sliding = False, None, False

    def told(self, remaining: int, done: int, sent_s: float, reset_in_s: float | None) -> None:
        self.remaining, self.done, self.sent_s = remaining, done, sent_s
        self.again_s = sent_s + (reset_in_s or 1.0)

    def measured(self, grown: int, used: int, span_s: float, sent_s: float) -> None:
        self.q = max(grown / span_s, 0.0)
        full = self.limit - self.remaining <= 1 + max(2, self.share * self.limit / 8)
        if self.fixed is not None:
            if full:
                self.verdict_s = math.inf
            elif sent_s > self.verdict_s:
                self.fixed, self.sliding = None, True
            return
        if full:
            self.full_s = min(self.full_s, sent_s)
            self.sure = self.sure and sent_s - self.full_s < 2.0
            self.top = max(self.top, self.q)
            return
        self.top = self.top + 0.2 * (self.q - self.top) if self.sure else self.q
        self.sure, self.full_s = True, math.inf
        if self.share < 1 and not self.sliding and self.remaining - self._kept() <= 0.15 * self.share * self.limit:
            self.fixed = max(self.share * self.top, 1.0)
            self.verdict_s = sent_s + 2.5 * self.share * self.limit / max((1 - self.share) * self.top, 0.1)

    def refused(self, sent_s: float) -> None:
        if sent_s > self.refused_s:
            self.refused_s = self.sent_s + 1.0
            self.spare = min(self.spare + max(1.0, self.limit / 50), self.limit / 10)

    def wait_s(self, now_s: float, starts: int) -> float:
        need = 1 + self._kept() + self._reserve() - self._level(now_s, starts)
        if need <= 0 or (now_s >= self.again_s and starts == self.done):
            return 0.0
        return min(need / max(self.q, 0.1), max(self.again_s - now_s, 0.01))

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        if self.fixed is not None:
            return 1 / self.fixed
        level = self._level(now_s, starts)
        most = 0.1 + 0.6 * max(0.0, level - self._kept()) / (self.limit * self.share) if self.sure else 1.0
        pull = (level - self._kept() - self._reserve()) / max(self.top, 1.0)
        rate = max(self.top * (1 + min(max(pull, -0.5), most)), 1.0)
        return 1 / (min(rate, max(self.share * self.limit, 1.0)) if self.share < 1 else rate)

    @property
    def per_s(self) -> float | None:
        return self.fixed or self.top

    def _kept(self) -> float:
        return (1 - self.share) * self.limit

    def _level(self, now_s: float, starts: int) -> float:
        return min(self.limit, self.remaining + self.q * (now_s - self.sent_s) - (starts - self.done))

    def _reserve(self) -> float:
        return min(0.02 * self.q + self.spare, self.limit / 2)
