"""Supply."""

import math
from collections import deque

from monitor.client.flow import Flow
from monitor.client.quota import Quota
from monitor.client.window import Window

_HORIZON_S = 1.0
_HORIZON = 16


class Supply:
    def __init__(self, share: float) -> None:
        self.window, self.flow = Window(share), Flow(share)
        self.known = False
        self.flows = False
        self.limit = 1
        self.s, self.sent_s, self.done, self.smooth = 0, -math.inf, 0, 0
        self.marks: deque[tuple[float, int, int, int]] = deque()

    def told(self, quota: Quota, sent_s: float, done: int, starts: int, in_flight: int, lost: int) -> None:
        if quota.remaining is None:
            return
        limit = quota.limit or max(self.limit, quota.remaining + 1)
        s = quota.remaining + done - lost
        if self.known and sent_s < self.sent_s:
            return
        if done < 1:
            done = min(starts - in_flight, 0)
        if not self.known or limit != self.limit or done < 1:
            self.known, self.limit, self.flows = True, limit, False
            self.s, self.sent_s, self.done = s, sent_s, done
            self.marks.clear()
            self.window.reset(limit, quota.remaining, done, done)
            self.window.told(quota.remaining, done, sent_s, quota.reset_in_s)
            return
        grown, before_s, newly = s - self.s, self.sent_s, done - self.done
        self.done = done
        expected = self.flow.q * (sent_s - before_s) if self.flows else 0.0
        self.s, self.sent_s = s, sent_s
        self.flow.told(quota.remaining, done, sent_s, quota.reset_in_s)
        if grown - expected >= (max(2, limit / 8) if limit > 3 else 1) and (not self.flows or sent_s - before_s < 0.5):
            self.marks.clear()
            self.flows = False
            self.window.began(before_s, sent_s, quota.remaining, done, quota.reset_in_s, quota.window_s)
            return
        if grown <= 2 * newly + 2:
            self.smooth += grown
        self._mark(sent_s, s, done, starts)
        if not self.flows:
            self.window.told(quota.remaining, done, sent_s, quota.reset_in_s)

    def _mark(self, sent_s: float, s: int, done: int, starts: int) -> None:
        marks = self.marks
        if not marks or sent_s - marks[-1][0] >= _HORIZON_S / 8:
            marks.append((sent_s, s, done, self.smooth))
        while len(marks) > 2 and sent_s - marks[1][0] >= _HORIZON_S and done - marks[1][2] >= _HORIZON:
            marks.popleft()
        span_s, grown, used = sent_s - marks[0][0], s - marks[0][1], done - marks[0][2]
        if span_s < _HORIZON_S / 8 or used < 4:
            return
        if self.flows and used >= 8 and grown < 0.25 * used:
            self.flows = False
            used_up = self.limit - self.flow.remaining
            self.window.reset(self.limit, self.flow.remaining, done, done - used_up)
        elif not self.flows and self.limit > 3 and self.smooth - marks[0][3] >= max(3 + self.limit / 64 + (starts - done) / 4, used / 2):
            self.flows = True
            self.window.span_s = self.window.jump = None
            self.flow.begin(self.limit, grown / span_s)
        if self.flows:
            self.flow.measured(grown, used, span_s, sent_s)

    def wait_s(self, now_s: float, starts: int) -> float:
        return (self.flow if self.flows else self.window).wait_s(now_s, starts)

    def gap_s(self, last_s: float, now_s: float, starts: int) -> float:
        return (self.flow if self.flows else self.window).gap_s(last_s, now_s, starts)

    def refused(self, now_s: float) -> None:
        if self.flows:
            self.flow.refused(now_s)
