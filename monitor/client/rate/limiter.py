"""How fast requests may start, under a rate that is learned: from what replies say of a limit, else by trying.

A token bucket whose rate and depth change as more is learned. Pure: instants are arguments, nothing waits here.

| what is known            | how fast                                                                       | where    |
|--------------------------|--------------------------------------------------------------------------------|----------|
| nothing                  | as fast as asked                                                               |          |
| what remains of a limit  | our share of a window, spread over it; or of what a bucket is filled with      | `supply` |
| a 429 came without that  | a little less than was accepted, then carefully back and beyond                | `climb`  |
| a ceiling was configured | never faster than that                                                         |          |
| it is to hold back       | at most a share of what was configured or learned, but no less than one a second |        |
"""

import math
from bisect import bisect_right
from collections import deque

from monitor.client.rate.estimate import Climb, Supply
from monitor.client.rate.headers import Quota

_LATE_S = 0.01
"""A start that comes later than its turn is made up for, within bounds: timers are late by milliseconds."""
_SHORTEST_WAIT_S = 1e-4
_SLOWEST_RESTRAINED_S = 1.0
_REMEMBERED = 2048
"""Starts whose instants are kept: more than are ever in flight."""


class Pace:
    """The pace of all requests under one credential. All instants are seconds on one clock that never goes back."""

    __slots__ = (
        "_ceiling_gap_s",
        "_climb",
        "_free",
        "_last_s",
        "_lost",
        "_restraint",
        "_sent",
        "_starts",
        "_stated_gap_s",
        "_supply",
    )

    def __init__(self, *, ceiling_per_s: float | None, share: float, learned_per_s: float | None = None) -> None:
        """Begins with what was configured and what earlier runs learned.

        Args:
            ceiling_per_s: requests per second (> 0) that are never exceeded; None: no ceiling.
            share: of a limit that the API states (0 to 1, above 0): others use the same credential.
            learned_per_s: `per_s` of an earlier run (> 0), to begin with; None: nothing was learned.
        """
        self._ceiling_gap_s = 1 / ceiling_per_s if ceiling_per_s else 0.0
        self._restraint = 1.0
        self._stated_gap_s = 0.0
        self._supply = Supply(share)
        self._climb = Climb(learned_per_s)
        self._free = ceiling_per_s is None and learned_per_s is None
        self._starts = 0
        self._lost = 0
        self._last_s = -math.inf
        self._sent: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def per_s(self) -> float | None:
        """Requests per second that were learned to be taken from us (> 0); None: no limit was met."""
        if self._supply.known and self._supply.per_s is not None:
            return self._supply.per_s
        return 1 / self._stated_gap_s if self._stated_gap_s else self._climb.plateau_per_s

    def restrain(self, factor: float) -> None:
        """Holds back to a share (0 to 1, above 0) of the configured or learned rate; a later share takes its place."""
        self._restraint = factor

    def wait_s(self, now_s: float, in_flight: int) -> float:
        """Whether one request may start now.

        Args:
            now_s: now.
            in_flight: requests whose replies are awaited.

        Returns:
            0.0: one request starts now, it is counted. Above 0: seconds after which to ask again; nothing is taken.
        """
        if self._free:
            return 0.0
        due_s = self._last_s + self._gap_s(now_s)
        if due_s - now_s > _SHORTEST_WAIT_S / 10:
            return max(due_s - now_s, _SHORTEST_WAIT_S)
        if self._supply.known:
            wait_s = self._supply.wait_s(now_s, self._starts)
            if wait_s > 0:
                return max(wait_s, _SHORTEST_WAIT_S)
        else:
            self._climb.started(now_s, in_flight)
        self._last_s = max(due_s, now_s - _LATE_S) if self._starts else now_s
        self._starts += 1
        self._sent.append(now_s)
        return 0.0

    def told(self, quota: Quota, *, sent_s: float, in_flight: int) -> None:
        """Learns from what a reply said of the limit. `accepted` or `refused` is told of the same reply first.

        Args:
            quota: what was said.
            sent_s: when its request started: what `wait_s` was given, or a little later.
            in_flight: requests whose replies are still awaited.
        """
        if quota.remaining is None:
            if quota.limit is not None and quota.window_s is not None:
                self._free = False
                self._stated_gap_s = quota.window_s / max(self._supply.share * quota.limit, 1.0)
            return
        self._free = False
        # what started while nothing limited us was not counted: it comes before the first
        counted = bisect_right(self._sent, sent_s)
        done = self._starts - len(self._sent) + counted if counted else min(self._starts - in_flight, 0)
        self._supply.told(quota, sent_s=sent_s, done=done, lost=self._lost, starts=self._starts)

    def accepted(self, now_s: float) -> None:
        """A reply came that was no 429."""
        self._climb.accepted(now_s)

    def refused(self, now_s: float) -> None:
        """A 429 came. Those of requests that were in flight together count once."""
        self._free = False
        self._lost += 1
        if self._supply.known:
            self._supply.refused(now_s)
        else:
            self._climb.refused(now_s)

    def _gap_s(self, now_s: float) -> float:
        """Seconds from the last start to the next."""
        if self._supply.known:
            gap_s = self._supply.gap_s(self._last_s, now_s, self._starts)
        else:
            per_s = self._climb.per_s(now_s)
            gap_s = max(1 / per_s if per_s else 0.0, self._stated_gap_s)
        gap_s = max(gap_s, self._ceiling_gap_s)
        return gap_s if self._restraint >= 1 else max(gap_s, self._restrained_gap_s())

    def _restrained_gap_s(self) -> float:
        """Seconds between starts at our share of the slower of what was configured and learned; 0 if neither was."""
        learned = self.per_s
        gap_s = max(1 / learned if learned else 0.0, self._ceiling_gap_s)
        return max(gap_s, min(gap_s / self._restraint, _SLOWEST_RESTRAINED_S))
