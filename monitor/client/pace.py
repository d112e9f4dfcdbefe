"""How fast."""
import math
from bisect import bisect_right
from collections import deque
from monitor.client.climb import Climb
from monitor.client.quota import Quota
from monitor.client.supply import Supply

_SLACK_S = 0.01

class Pace:
    def __init__(self, *, ceiling_per_s, share, learned_per_s=None):
        self.ceiling = ceiling_per_s
        self.supply = Supply(share)
        self.climb = Climb(learned_per_s)
        self.free = ceiling_per_s is None and learned_per_s is None
        self.starts = 0
        self.lost = 0
        self.sent = deque(maxlen=1024)
        self.last = -math.inf
        self.sent_s = 0.0

    def wait_s(self, now, in_flight):
        if self.free:
            return 0.0
        due = self.last + self._gap_s(now)
        if due > now + 1e-6:
            return max(due - now, 1e-4)
        if self.supply.known:
            wait = self.supply.wait_s(now, self.starts)
            if wait > 0:
                return max(wait, 1e-4)
        self.last = max(due, now - _SLACK_S)
        self.starts += 1
        self.sent.append(now)
        if not self.supply.known:
            self.climb.started(in_flight)
        return 0.0

    def _gap_s(self, now):
        if self.supply.known:
            gap = self.supply.gap_s(self.last, now, self.starts)
        else:
            rate = self.climb.per_s(now)
            gap = 1 / rate if rate else 0.0
        return max(gap, 1 / self.ceiling) if self.ceiling else gap

    def told(self, quota, sent_s, in_flight):
        self.free = False
        if self.starts and sent_s >= self.sent[0]:
            done = self.starts - len(self.sent) + bisect_right(self.sent, sent_s)
        else:
            done = 0
        self.supply.told(quota, sent_s, done, self.starts, in_flight, self.lost)

    def accepted(self, now):
        self.climb.accepted(now)

    def refused(self, now):
        self.free = False
        self.lost += 1
        self.supply.refused(now)
        if not self.supply.known:
            self.climb.refused(now)

    @property
    def per_s(self):
        return None
