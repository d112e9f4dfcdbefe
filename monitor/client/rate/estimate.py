"""What replies show of the requests that an API supplies: in windows that begin anew, or steadily. Pure.

Everything is reckoned by the instants at which requests were *sent*, so that time under way cancels out. The supply so
far, `S`, is what a reply says remains, plus the requests that the API had accepted by then. It stays the same within a
window, however much is used, and jumps when the next one begins; where a bucket is filled, or a log forgets, it climbs
about as fast as requests are made.
"""

import math
from collections import deque

from monitor.client.rate.headers import Quota

_FLOOR_PER_S = 1.0
_FIRST_CLIMB_S = 5.0
_LONGEST_CLIMB_S = 120.0
_BELOW = 0.95
_PLATEAU = 0.97
_ABOVE_SUSTAINED = 1.25
_CURVATURE = 0.2
_HIGHEST = 10.0
_AT_PLATEAU = 0.9


class Climb:
    """The rate of one API. Instants are seconds on one clock."""

    __slots__ = (
        "_accepted",
        "_at_per_s",
        "_began_s",
        "_climb_s",
        "_counted",
        "_counted_s",
        "_last_per_s",
        "_low_per_s",
        "_old",
        "_refusing",
        "_since_s",
        "_untried",
        "plateau_per_s",
    )

    def __init__(self, learned_per_s: float | None) -> None:
        """Begins on a plateau (> 0), or with None: without any limit."""
        self.plateau_per_s = self._low_per_s = learned_per_s
        self._since_s = math.inf
        self._climb_s = _FIRST_CLIMB_S
        self._refusing = self._untried = False
        self._at_per_s = _FLOOR_PER_S
        self._old = 0
        self._counted_s = self._began_s = -math.inf
        self._counted = self._accepted = 0
        self._last_per_s = 0.0

    def per_s(self, now_s: float) -> float | None:
        """Requests per second (≥ 1, unless less was learned) that may start; None: no limit was met."""
        return _FLOOR_PER_S if self._refusing else self._curve(now_s)

    def started(self, now_s: float, in_flight: int) -> None:
        """A request starts."""
        if self._since_s == math.inf:
            self._since_s = now_s - self._climb_s
        if self._untried:
            self._untried, self._old = False, in_flight
        self._old = min(self._old, in_flight)

    def accepted(self, now_s: float) -> None:
        """A request was accepted."""
        if now_s - self._counted_s >= 1.0:
            self._last_per_s = self._counted / (now_s - self._counted_s)
            self._counted_s, self._counted = now_s, 0
            if self._began_s == -math.inf:
                self._began_s = now_s
        self._counted += 1
        self._accepted += 1
        if self._old:
            self._old -= 1
        elif self._refusing and not self._untried:
            self._resume(now_s)

    def refused(self, now_s: float) -> None:
        """A request was refused."""
        if self._old:
            self._old -= 1
        elif not self._refusing:
            rate, seen = self._curve(now_s), max(self._last_per_s, float(self._counted), _FLOOR_PER_S)
            self._at_per_s = min(rate, seen) if rate else seen
            if rate and self.plateau_per_s:
                near = rate >= _AT_PLATEAU * self.plateau_per_s
                self._climb_s = min(2 * self._climb_s, _LONGEST_CLIMB_S) if near else _FIRST_CLIMB_S
            self._refusing = self._untried = True

    def _resume(self, now_s: float) -> None:
        sustained = self._accepted / max(now_s - self._began_s, 1.0)
        self._low_per_s = max(min(_BELOW * self._at_per_s, sustained), _FLOOR_PER_S)
        self.plateau_per_s = max(min(_PLATEAU * self._at_per_s, _ABOVE_SUSTAINED * sustained), self._low_per_s)
        self._refusing = False
        self._since_s = self._began_s = now_s
        self._accepted = 0

    def _curve(self, now_s: float) -> float | None:
        if self.plateau_per_s is None or self._low_per_s is None:
            return None
        way = (now_s - self._since_s) / self._climb_s if self._since_s < math.inf else 1.0
        if way < 1:
            return self.plateau_per_s - (self.plateau_per_s - self._low_per_s) * (1 - way) ** 3
        return self.plateau_per_s * (1 + _CURVATURE * min(way - 1, _HIGHEST) ** 3)


_FLOW_FLOOR_PER_S = 1.0
_FULL = 1 / 8
_SMOOTHING = 0.2
_FULL_FOR_LONG_S = 2.0
_USED_UP = 0.15
_TRIAL = 2.5
_FLOW_JITTER_S = 0.02
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
        self.begin(1, _FLOW_FLOOR_PER_S)

    @property
    def per_s(self) -> float:
        """Requests per second that we take (> 0)."""
        return self._fixed_per_s or max(self._per_s, _FLOW_FLOOR_PER_S)

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
                self._fixed_per_s = max(self._share * self._per_s, _FLOW_FLOOR_PER_S)
                self._verdict_s = sent_s + _TRIAL * part / max((1 - self._share) * self._per_s, _FLOW_FLOOR_PER_S)

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
        return min(lacking / max(self.supplied_per_s, _FLOW_FLOOR_PER_S), tried_s)

    def gap_s(self, now_s: float, starts: int) -> float:
        """Seconds that should lie between the last start and the next."""
        if self._fixed_per_s is not None:
            return 1 / self._fixed_per_s
        ours = self._left(now_s, starts) - self._others()
        calm = _CALM_PULL + _CALM_PULL_WHEN_FULL * max(0.0, ours) / (self._limit * self._share)
        pull = min(
            (ours - self._reserve()) / max(self._per_s, _FLOW_FLOOR_PER_S), calm if self._sure else _FASTEST_PULL
        )
        return 1 / max(self._per_s * (1 + max(pull, _SLOWEST_PULL)), _FLOW_FLOOR_PER_S)

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
        return min(_FLOW_JITTER_S * self.supplied_per_s + self._spare, self._limit / 2)


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


_HORIZON_S = 1.0
_HORIZON = 16
_MARK_S = _HORIZON_S / 8
_JUMP, _JUMP_IN_FLOW = 1 / 8, 1 / 4
"""Of a limit: if that much comes at once, a window began."""
_TOO_SMALL = 4
"""A limit below this can't be told from a flow: it is taken for a window."""
_LONGEST_STEP_S = 0.5


class Supply:
    """The limit of one API under one credential, as its replies show it."""

    __slots__ = (
        "_done",
        "_flow",
        "_flows",
        "_limit",
        "_marks",
        "_s",
        "_sent_s",
        "_steady",
        "_window",
        "known",
        "share",
    )

    def __init__(self, share: float) -> None:
        """Takes a share (0 to 1, above 0) of what is supplied."""
        self.share = share
        self.known = False
        """Whether any reply said what remains."""
        self._window, self._flow = Window(share), Flow(share)
        self._flows = False
        self._limit = 1
        self._s = self._done = self._steady = 0
        self._sent_s = -math.inf
        self._marks: deque[tuple[float, int, int, int]] = deque()

    @property
    def per_s(self) -> float | None:
        """Our share of the supply per second, once it is known."""
        return self._flow.per_s if self._flows else self._window.per_s

    def wait_s(self, now_s: float, starts: int) -> float:
        """Seconds until what is left allows one more request; 0.0: it does now.

        Args:
            now_s: now.
            starts: requests that have started.
        """
        return self._flow.wait_s(now_s, starts) if self._flows else self._window.wait_s(now_s, starts)

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        """Seconds that should lie between the last start, at `last_s`, and the next."""
        if self._flows:
            return max(self._flow.gap_s(now_s, starts), self._window.share_gap_s)
        return self._window.gap_s(last_s, now_s, starts)

    def refused(self, now_s: float) -> None:
        """A 429 came all the same."""
        if self._flows:
            self._flow.refused(now_s)

    def told(self, quota: Quota, *, sent_s: float, done: int, lost: int, starts: int) -> None:
        """Learns from a reply.

        Args:
            quota: what it said; without `remaining` it is passed over.
            sent_s: when its request was sent.
            done: requests sent up to then, itself included; zero or below for those from before we counted: minus
                those that are still under way.
            lost: replies so far that were 429s.
            starts: requests that have started.
        """
        remaining = quota.remaining
        if remaining is None or sent_s < self._sent_s:
            return  # a reply that was overtaken tells what is no longer so
        limit = quota.limit or max(self._limit, remaining + 1)
        s, before_s, newly = remaining + done - lost, self._sent_s, done - self._done
        grown = s - self._s
        anew = not self.known or limit != self._limit or done < 1
        self.known, self._limit, self._s, self._sent_s, self._done = True, limit, s, sent_s, done
        if anew:
            self._flows = False
            self._marks.clear()
            self._window.begin(limit, remaining, done, done)
        self._flow.told(remaining, done, sent_s, quota.reset_in_s)
        if not anew and self._jumped(grown, sent_s - before_s):
            self._flows = False
            self._marks.clear()
            self._window.began(quota, remaining, done, before_s, sent_s)
            return
        self._steady += grown if not anew and grown <= 2 * newly + 2 else 0
        self._mark(sent_s, starts)
        if not self._flows:
            self._window.told(quota, remaining, done, sent_s)

    def _jumped(self, grown: int, since_s: float) -> bool:
        """Whether so much came at once that a window began."""
        if self._limit < _TOO_SMALL:
            return grown >= 1
        if self._flows:
            expected = self._flow.supplied_per_s * since_s
            return since_s <= _LONGEST_STEP_S and grown - expected >= max(2.0, self._limit * _JUMP_IN_FLOW)
        return grown >= max(2.0, self._limit * _JUMP)

    def _mark(self, sent_s: float, starts: int) -> None:
        """Compares the supply with what it was a horizon ago."""
        marks, done = self._marks, self._done
        if not marks or sent_s - marks[-1][0] >= _MARK_S:
            marks.append((sent_s, self._s, done, self._steady))
        while len(marks) > 2 and sent_s - marks[1][0] >= _HORIZON_S and done - marks[1][2] >= _HORIZON:
            marks.popleft()
        then_s, s, then_done, steady = marks[0]
        span_s, grown, used = sent_s - then_s, self._s - s, done - then_done
        if span_s < _MARK_S or used < 4:
            return
        if self._flows and used >= 8 and grown < used / 4:
            self._flows = False
            left = self._flow.remaining
            self._window.begin(self._limit, left, done, done - (self._limit - left))
        elif not self._flows and self._limit >= _TOO_SMALL:
            noise = 3 + self._limit / 64 + (starts - done) / 4
            if self._steady - steady >= max(noise, used / 2):
                self._flows = True
                self._window.forget()
                self._flow.begin(self._limit, max(grown, 1) / span_s)
        if self._flows:
            self._flow.measured(max(grown, 0) / span_s, sent_s)
