"""Tells a rate limit that answers 503 without a hint (nginx's `limit_req` by default) from an outage. Pure.

Both send 503s. A limit sends them at once, between good answers that come quickly, and sends hardly any once requests
come more slowly; a broken service does not care. So 503s in such a mixture are taken for refusals, the rate limiter
slows down, and what was sent since then decides.
"""

import math
from collections import deque
from enum import StrEnum

from monitor.model.http import ApiError

_WINDOW_SIZE = 10
_MIN_REFUSALS = 3
"""Of the last attempts, at least half of which are 503s: the mixture that is taken for a limit."""
_MAX_REFUSALS_WHEN_SLOWED = 5
"""Of the last attempts that were sent after the slow-down: then it was none."""
_FEW_OF = 5
"""Attempts for each refusal that make it one of few."""
_QUICK_FACTOR, _QUICK_S = 2.0, 0.1
"""A refusal takes at most this many times as long as a good answer, and this many seconds more."""
_MAX_GOOD_S = 2.0
"""A service that answers more slowly is overloaded."""
_SMOOTHING = 0.2


class Verdict(StrEnum):
    """What one attempt was."""

    OTHER = "other"
    """A good answer, another failure, or a 503 of a service that is down."""
    REFUSAL = "refusal"
    """A 503 that says: far too fast."""
    FEW_REFUSALS = "few refusals"
    """A 503 that says: a little too fast, since most others were accepted."""
    OUTAGE = "outage"
    """A 503 that shows that the earlier refusals were none."""


class UnannouncedLimit:
    """Judges the 503s of one API. `known`: an earlier run met a limit that no header stated."""

    def __init__(self, *, known: bool = False) -> None:
        self._suspected, self._ruled_out = known, False
        self._slowed_s = -math.inf
        self._others_s = 0.0
        self._good_s: float | None = None
        self._recent: deque[bool] = deque(maxlen=_WINDOW_SIZE)
        self._since_slowed: deque[bool] = deque(maxlen=_WINDOW_SIZE)

    def start_run(self) -> None:
        """Begins a run: its own good answers count, and it may suspect a limit again."""
        self._ruled_out, self._good_s = False, None
        self._recent.clear()
        self._since_slowed.clear()

    def wait_for_others(self, others_s: float) -> None:
        """How long other processes with the credential need until they slow down, too: 0 without any."""
        self._others_s = others_s

    def judge(self, failure: ApiError | None, *, started_s: float, now_s: float) -> Verdict:
        """Judges an attempt from `started_s` to `now_s`; `failure` is None for an answer that met no overload."""
        latency_s = now_s - started_s
        if failure is None:
            self._add(started_s, refused=False)
            self._good_s = latency_s if self._good_s is None else self._good_s + _SMOOTHING * (latency_s - self._good_s)
            return Verdict.OTHER
        if failure.status != 503 or failure.retry_after is not None or not self._is_quick(latency_s):
            return Verdict.OTHER
        self._add(started_s, refused=True)
        if self._suspected:
            return self._judge_suspected()
        refusals = sum(self._recent)
        if self._ruled_out or refusals < _MIN_REFUSALS or 2 * refusals < len(self._recent):
            return Verdict.OTHER
        self._suspected, self._slowed_s = True, now_s + self._others_s
        return Verdict.REFUSAL

    def _judge_suspected(self) -> Verdict:
        refusals, attempts = sum(self._since_slowed), len(self._since_slowed)
        if refusals < _MAX_REFUSALS_WHEN_SLOWED:
            return Verdict.FEW_REFUSALS if attempts >= _FEW_OF * refusals else Verdict.REFUSAL
        self._suspected, self._ruled_out = False, True
        return Verdict.OUTAGE

    def _is_quick(self, latency_s: float) -> bool:
        """Whether it came as quickly as good answers of this run do."""
        if self._good_s is None or self._good_s > _MAX_GOOD_S:
            return False
        return latency_s <= _QUICK_FACTOR * self._good_s + _QUICK_S

    def _add(self, started_s: float, *, refused: bool) -> None:
        self._recent.append(refused)
        if self._suspected and started_s >= self._slowed_s:
            self._since_slowed.append(refused)
