"""A rate found by trying, for an API that refuses without saying what it takes. Pure.

1. A 429 ends a climb. Until a request is accepted again, one a second is tried; the 429s of those that were in flight
   with the first say nothing new.
2. Then what was accepted since the climb began, the pause included, is what the API sustains. We go on a little below
   what we had, and not far above that.
3. The rate returns to its plateau along a cubic curve, fast at first, rests there, and leaves it upwards along the same
   curve (after CUBIC, RFC 9438). Each climb that ended at the plateau makes the next one twice as long.
"""

import math

__all__ = ["Climb"]

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
