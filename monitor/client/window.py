"""A limit of so many requests per window: when windows begin, how much of this one is ours, and how to spread it. Pure.

1. Until the length of a window is known, what is left is spread up to the reset that the API named (rounded up, and
   measured against a `Date` of whole seconds, so never too early).
2. Two beginnings, each seen between two requests, bound the length; whole seconds are preferred. From then on
   beginnings are foretold. Each one that is seen corrects what was foretold, if that lies outside of what was seen.
3. If a window was used up, nothing starts for a moment around its end: requests may take a little longer or shorter
   than usual.
"""

import math

from monitor.client.quota import Quota

__all__ = ["Window"]

_EDGE = 0.05
_LONGEST_EDGE_S = 0.1
_FASTEST = 1.5
"""Times the even rate: how fast what is left of a window is used up at most."""
_SHORTEST_LEFT_S = 0.5
_LONGEST_GAP_S = 1.0
_JITTER_S = 0.05
_ROUNDED_UP_S = 2.1
_MOST_DOUBT = 0.3
_NOISE = 1 / 8
"""Of the limit: how far replies may differ because requests overtake each other."""


class Window:
    """The windows of one API. Instants are those at which requests were sent; requests are numbered as they start."""

    __slots__ = (
        "_base",
        "_began_s",
        "_done",
        "_ends_s",
        "_fresh",
        "_limit",
        "_longest_s",
        "_remaining",
        "_seen",
        "_sent_s",
        "_share",
        "_span_s",
        "_spent",
    )

    def __init__(self, share: float) -> None:
        """Takes a share (0 to 1, above 0) of each window."""
        self._share = share
        self._limit, self._remaining, self._done, self._base = 1, 0, 0, 0
        self._sent_s = self._began_s = -math.inf
        self._ends_s = math.inf
        self._longest_s = 0.0
        self._fresh = self._spent = False
        self.forget()

    @property
    def per_s(self) -> float | None:
        """Our share per second (> 0), once the length of a window is known."""
        return self._share * self._limit / self._span_s if self._span_s else None

    @property
    def share_gap_s(self) -> float:
        """Seconds between starts that keep a share below one, going by the longest reset that was told."""
        return 0.0 if self._share == 1 else max(self._longest_s - 1, 1.0) / max(self._share * self._limit, 1.0)

    def forget(self) -> None:
        """Forgets how long windows are."""
        self._span_s: float | None = None
        self._seen: tuple[float, float] | None = None

    def begin(self, limit: int, remaining: int, done: int, base: int) -> None:
        """Takes up a window under way: `remaining` after request `done`, of which those after `base` were ours."""
        self._limit, self._remaining, self._done, self._base = limit, remaining, done, base
        self._fresh, self._ends_s = False, math.inf

    def told(self, quota: Quota, remaining: int, done: int, sent_s: float) -> None:
        """A reply to request `done` came, in the window that is under way as far as it shows."""
        if sent_s < self._began_s:
            return
        if self._fresh and self._span_s is not None and remaining < self._limit / 2:
            if sent_s - self._began_s < self._span_s / 4:
                self._began_s, self._base = sent_s, done  # the one before lasts longer than was foretold
                return
            self.forget()
        elif not self._fresh:
            more = remaining - (self._remaining + self._done - done)
            if more > max(2.0, self._limit * _NOISE):
                self._base += more  # a part of it was given back
            elif more > 0:
                remaining -= more  # what was sent before and is still under way will count too
        self._fresh, self._remaining, self._done, self._sent_s = False, remaining, done, sent_s
        if quota.reset_in_s is not None:
            self._longest_s = max(self._longest_s, quota.reset_in_s)
            self._ends_s = min(self._ends_s, sent_s + quota.reset_in_s)

    def began(self, quota: Quota, remaining: int, done: int, before_s: float, sent_s: float) -> None:
        """A window began between two requests, and request `done` was the first in it."""
        foretold_s = sent_s
        if self._fresh:
            foretold_s = self._began_s
        elif self._span_s:
            foretold_s = self._began_s + self._span_s
        if not self._fresh:
            self._base = done - 1
        last, self._seen = self._seen, (before_s, sent_s)
        if last is not None:
            self._measure(last, self._seen, quota.reset_in_s)
        self._span_s = quota.window_s or self._span_s
        self._began_s = min(max(foretold_s, before_s), sent_s) if self._span_s else sent_s
        self._ends_s = sent_s + quota.reset_in_s if quota.reset_in_s is not None else math.inf
        self._fresh, self._remaining, self._done, self._sent_s = False, remaining, done, sent_s

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until what is left allows one more request; 0.0 or below: it does now."""
        self._roll(now_s, starts)
        edge_s = self._edge_s()
        if self._fresh and self._spent and now_s < self._began_s + edge_s:
            return self._began_s + edge_s - now_s
        if self._left(starts) >= 1:
            return 0.0
        if self._span_s:
            return self._began_s + self._span_s + edge_s - now_s
        if self._ends_s < math.inf:
            return self._ends_s - now_s
        # nobody says until when: one a second is tried
        return self._sent_s + 1 + starts - self._done - now_s

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        """Seconds that should lie between the last start, at `last_s`, and the next."""
        self._roll(now_s, starts)
        from_s, parts = max(last_s, self._began_s), max(self._left(starts) + 1, 1.0)
        if self._span_s:
            left_s = self._began_s + self._span_s - self._edge_s() - from_s
            return max(left_s / parts, self._span_s / (_FASTEST * max(self._share * self._limit, 1.0)))
        if self._ends_s < math.inf:
            gap_s = max(self._ends_s - from_s, _SHORTEST_LEFT_S) / parts
        else:
            gap_s = max(self._longest_s, _SHORTEST_LEFT_S) / max(self._share * self._limit, 1.0)
        return min(max(gap_s, self.share_gap_s), _LONGEST_GAP_S)

    def _measure(self, last: tuple[float, float], seen: tuple[float, float], reset_in_s: float | None) -> None:
        """How long windows are, from two beginnings: each came after its first instant, not after its second."""
        least_s, most_s = seen[0] - last[1] - _JITTER_S, seen[1] - last[0] + _JITTER_S
        middle_s = (least_s + most_s) / 2
        if self._span_s and least_s <= max(1, round(middle_s / self._span_s)) * self._span_s <= most_s:
            return
        self._span_s = None
        times = max(1, round(middle_s / reset_in_s)) if reset_in_s else 1
        least_s, middle_s, most_s = least_s / times, middle_s / times, most_s / times
        whole_s = round(min(max(reset_in_s or middle_s, least_s), most_s))
        if whole_s >= 1 and least_s <= whole_s <= most_s:
            middle_s = float(whole_s)
        elif most_s - least_s > _MOST_DOUBT * middle_s:
            return
        if reset_in_s is None or reset_in_s <= middle_s + _ROUNDED_UP_S:
            self._span_s = middle_s

    def _edge_s(self) -> float:
        return min(_EDGE * (self._span_s or 0.0), _LONGEST_EDGE_S)

    def _left(self, starts: int) -> float:
        """Requests that may start in this window, as far as it is known; 0 or below: none."""
        ours = starts - self._base
        left = self._limit - ours if self._fresh else self._remaining - (starts - self._done)
        return min(float(left), max(self._share * self._limit, 1.0) - ours)

    def _roll(self, now_s: float, starts: int) -> None:
        """Begins the window that is due by now."""
        if self._span_s:
            gone = math.floor((now_s - self._began_s) / self._span_s)
            if gone > 0:
                self._spent = gone == 1 and self._left(starts) < 1 + _EDGE * self._limit
                self._began_s += gone * self._span_s
                self._fresh, self._base, self._ends_s = True, starts, math.inf
        elif now_s >= self._ends_s:
            self._spent = False
            self._fresh, self._base, self._began_s, self._ends_s = True, starts, self._ends_s, math.inf
