"""Windows."""

import math

__all__ = ["Window"]

_EDGE = 0.05
_LONGEST_EDGE_S = 0.1
_FASTEST = 1.5


class Window:
    def __init__(self, share: float) -> None:
        self.share = share
        self.limit = 1
        self.remaining = 0
        self.done = 0
        self.begin_s = -math.inf
        self.span_s: float | None = None
        self.ends_s = math.inf
        self.fresh = False
        self.base = 0
        self.jump: tuple[float, float] | None = None
        self.edge = 1.0
        self.longest_s = 0.0
        self.spent = False

    def reset(self, limit: int, remaining: int, done: int, base: int) -> None:
        self.limit, self.remaining, self.done, self.base = limit, remaining, done, base
        self.fresh, self.ends_s = False, math.inf

    def told(self, remaining: int, done: int, sent_s: float, reset_in_s: float | None) -> None:
        early = self.fresh and self.span_s is not None and remaining < self.limit / 2
        if sent_s < self.begin_s:
            return
        if early and self.span_s is not None:
            if sent_s - self.begin_s < self.span_s / 4:
                self.begin_s, self.base = sent_s, done
                return
            self.span_s = None
        if not self.fresh and remaining + done > self.remaining + self.done:
            remaining = self.remaining + self.done - done  # what was sent before, and has not arrived yet, counts too
        self.fresh = False
        self.remaining, self.done = remaining, done
        if reset_in_s is not None:
            self.longest_s = max(self.longest_s, reset_in_s)
            self.ends_s = min(self.ends_s, sent_s + reset_in_s)

    def began(self, before_s: float, sent_s: float, remaining: int, done: int, reset_in_s: float | None, window_s: float | None) -> None:
        """A new window began between two requests."""
        last, self.jump = self.jump, (before_s, sent_s)
        self.ends_s = sent_s + reset_in_s if reset_in_s is not None else math.inf
        rolled = self.fresh
        self.fresh, self.remaining, self.done = False, remaining, done
        if not rolled:
            self.base = done - 1
        if last is not None:
            self._learn_span(last, reset_in_s)
        if window_s is not None:
            self.span_s = window_s
        if self.span_s is not None and rolled:
            self.begin_s = min(max(self.begin_s, before_s), sent_s)
        elif self.span_s is not None and self.begin_s > -math.inf:
            self.begin_s = min(max(self.begin_s + self.span_s, before_s), sent_s)
        else:
            self.begin_s = sent_s

    def _learn_span(self, last: tuple[float, float], reset_in_s: float | None) -> None:
        before_s, sent_s = self.jump or last
        least_s, most_s = before_s - last[1] - 0.05, sent_s - last[0] + 0.05
        if self.span_s is not None:
            times = max(1, round((least_s + most_s) / 2 / self.span_s))
            if least_s <= times * self.span_s <= most_s:
                return
            self.span_s = None
        guess_s = (least_s + most_s) / 2
        times = max(1, round(guess_s / reset_in_s)) if reset_in_s else 1
        least_s, guess_s, most_s = least_s / times, guess_s / times, most_s / times
        whole_s = round(min(max(reset_in_s or guess_s, least_s), most_s))
        if whole_s >= 1 and least_s <= whole_s <= most_s:
            guess_s = float(whole_s)
        elif most_s - least_s > 0.3 * guess_s:
            return
        if reset_in_s is None or reset_in_s <= guess_s + 2.1:
            self.span_s = guess_s

    def wait_s(self, now_s: float, starts: int) -> float:
        self._roll(now_s, starts)
        if self.fresh and self.spent and now_s < self.begin_s + self._edge_s():
            return self.begin_s + self._edge_s() - now_s
        if self._budget(starts) >= 1:
            return 0.0
        ends_s = self.begin_s + self.span_s if self.span_s else self.ends_s
        return ends_s + self._edge_s() - now_s if ends_s < math.inf else 1.0

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        self._roll(now_s, starts)
        share = max(self._budget(starts) + 1.0, 1.0)
        from_s = max(last_s, self.begin_s)
        if self.span_s:
            left_s = self.begin_s + self.span_s - self._edge_s() - from_s
            return max(left_s / share, self.span_s / (_FASTEST * self.share * self.limit))
        if self.ends_s < math.inf:
            return min(max(self.ends_s - from_s, 0.5) / share, 1.0)
        return min(max(self.longest_s, 0.5) / (self.share * self.limit), 1.0)

    @property
    def per_s(self) -> float | None:
        return self.share * self.limit / self.span_s if self.span_s else None

    def _edge_s(self) -> float:
        return min(_EDGE * (self.span_s or 1.0), _LONGEST_EDGE_S) * self.edge

    def _budget(self, starts: int) -> float:
        ours = starts - self.base
        left = self.limit - ours if self.fresh else self.remaining - (starts - self.done)
        return min(left, self.share * self.limit - ours)

    def _roll(self, now_s: float, starts: int) -> None:
        if self.span_s:
            gone = math.floor((now_s - self.begin_s) / self.span_s)
            if gone > 0:
                self.spent = self._budget(starts) < 1 + self.limit * _EDGE
                self.begin_s += gone * self.span_s
                self.fresh, self.base, self.ends_s = True, starts, math.inf
        elif now_s >= self.ends_s:
            self.begin_s, self.ends_s, self.spent = now_s, math.inf, False
            self.fresh, self.base = True, starts
