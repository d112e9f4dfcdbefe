"""What replies show of the requests that an API supplies: in windows that begin anew, or steadily. Pure.

Everything is reckoned by the instants at which requests were *sent*, so that time under way cancels out. The supply so
far, `S`, is what a reply says remains, plus the requests that the API had accepted by then. It stays the same within a
window, however much is used, and jumps when the next one begins; where a bucket is filled, or a log forgets, it climbs
about as fast as requests are made.
"""

import math
from collections import deque

from monitor.client.flow import Flow
from monitor.client.quota import Quota
from monitor.client.window import Window

__all__ = ["Supply"]

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
