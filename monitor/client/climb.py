"""A rate found by trying."""

import math

__all__ = ["Climb"]

_FLOOR = 1.0
_FIRST_CLIMB_S = 5.0
_LONGEST_CLIMB_S = 120.0


class Climb:
    def __init__(self, learned_per_s: float | None) -> None:
        self.top = self.low = learned_per_s
        self.since_s = -math.inf
        self.climb_s = _FIRST_CLIMB_S
        self.refusing = False
        self.old = 0
        self.fresh = True   # nothing started since the refusal
        self.at: float | None = None
        # counting
        self.count_s: float | None = None
        self.count = 0
        self.last = 0.0
        self.cycle_s: float | None = None
        self.cycle = 0

    def accepted(self, now_s: float) -> None:
        if self.count_s is None or now_s - self.count_s >= 1.0:
            self.last = self.count / max(now_s - self.count_s, 1.0) if self.count_s is not None else 0.0
            self.count_s, self.count = now_s, 0
            if self.cycle_s is None:
                self.cycle_s = now_s
        self.count += 1
        self.cycle += 1
        if self.old:
            self.old -= 1
        elif self.refusing and not self.fresh:
            self._resume(now_s)

    def refused(self, now_s: float) -> None:
        if self.old:
            self.old -= 1
        elif not self.refusing:
            self.refusing, self.fresh = True, True
            rate = self.per_s(now_s, refusing=False)
            seen = max(self.last, float(self.count), _FLOOR)
            self.at = min(rate, seen) if rate else seen
            if rate and self.top and rate < 0.9 * self.top:
                self.climb_s = _FIRST_CLIMB_S
            elif self.top:
                self.climb_s = min(2 * self.climb_s, _LONGEST_CLIMB_S)

    def started(self, in_flight: int) -> None:
        if self.fresh:
            self.fresh, self.old = False, in_flight if self.refusing else 0
        self.old = min(self.old, in_flight)

    def _resume(self, now_s: float) -> None:
        begin_s = self.cycle_s if self.cycle_s is not None else now_s
        sustained = self.cycle / max(now_s - begin_s, 1.0)
        at = self.at or _FLOOR
        self.low = max(min(0.95 * at, sustained), _FLOOR)
        self.top = max(min(0.97 * at, 1.25 * sustained), self.low)
        self.refusing, self.since_s = False, now_s
        self.cycle_s, self.cycle = now_s, 0

    def per_s(self, now_s: float, *, refusing: bool | None = None) -> float | None:
        if self.refusing if refusing is None else refusing:
            return _FLOOR
        if self.top is None or self.low is None:
            return None
        x = (now_s - self.since_s) / self.climb_s
        if self.since_s == -math.inf:
            self.since_s = now_s - self.climb_s
            x = 1.0
        if x < 1:
            return self.top - (self.top - self.low) * (1 - x) ** 3
        return self.top * (1 + 0.05 * min(x - 1, 10.0) ** 3)
