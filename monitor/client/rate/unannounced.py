"""Tells a rate limit that answers 503 without a hint (nginx's `limit_req` by default) from an outage. Pure.

Both send 503s. A limit sends them at once, between good answers that come quickly, and sends hardly any once requests
come more slowly; a broken service does not care. So 503s in such a mixture are taken for refusals, the rate limiter
slows down, and what was sent since then decides: a service that goes on to refuse one request in ten at random has no
limit, and slowing down would not help. A limit with a burst needs several slow-downs, because what it accepted at first
was more than its rate.
"""

import math
from collections import deque
from enum import StrEnum

from monitor.model.http import ApiError

_WINDOW_SIZE = 10
_MIN_REFUSALS = 3
"""Of the last attempts, at least half of which are 503s: the mixture that is taken for a limit."""
_MANY_OF_RECENT = 5
"""Refusals of the last attempts that were sent after a slow-down: it was too small, or this is no limit."""
_MIN_AT_RANDOM, _SHARE_AT_RANDOM = 4, 0.08
"""Refusals, and their share of all attempts, since a slow-down that show the same."""
_FEW_OF = 5
"""Attempts for each refusal that make it one of few."""
_MAX_SLOW_DOWNS, _MAX_SLOW_DOWNS_AT_RANDOM = 4, 3
"""In a row, each to the rate that was accepted since the one before: a limit with a large burst needs four."""
_TOGETHER = 2
"""Times as many if several processes slow down together: each time by the share that was refused, not to what was
accepted.
"""
_ENOUGH = 100
"""Attempts since a slow-down, few of them refused, that show that it was right."""
_MEMORY = 1000
"""Attempts that are counted; beyond, the older ones count half."""
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
    """A 503 that says: a little too fast, since most others are accepted."""
    OUTAGE = "outage"
    """A 503 that shows that the earlier refusals were none."""


_OTHER = Verdict.OTHER  # looked up once, as it is the verdict on nearly every attempt


class UnannouncedLimit:
    """Judges the 503s of one API. `known`: an earlier run met a limit that no header stated."""

    def __init__(self, *, known: bool = False) -> None:
        self._suspected, self._ruled_out = known, False
        self._slowed_s, self._slow_downs = -math.inf, 0
        self._sent = self._refused = 0
        self._others_s, self._leads = 0.0, True
        self._good_s: float | None = None
        self._recent: deque[bool] = deque(maxlen=_WINDOW_SIZE)
        self._since_slowed: deque[bool] = deque(maxlen=_WINDOW_SIZE)

    def start_run(self) -> None:
        """Begins a run: its own good answers count, and it may suspect a limit again."""
        self._ruled_out, self._good_s = False, None
        self._recent.clear()
        self._slow_downs = 0
        self._forget_attempts()

    def wait_for_others(self, others_s: float, *, leads: bool = True) -> None:
        """How long other processes with the credential need until they slow down, too: 0 without any. One process
        `leads`: it alone decides that 503s are an outage, and tells the others.
        """
        self._others_s, self._leads = others_s, leads

    def follow(self, now_s: float) -> None:
        """All slow down, as a refusal here or elsewhere showed by how much: what is sent after that decides."""
        if self._others_s and now_s > self._slowed_s:
            self._slow_down(now_s)

    def add_others(self, *, accepted: int, refused: int, now_s: float) -> None:
        """Other processes had these answers lately: all together show sooner than a part whether a slow-down was
        right.
        """
        if self._suspected and now_s > self._slowed_s:
            self._sent += accepted + refused
            self._refused += refused
            self._forget_old()

    def judge(self, failure: ApiError | None, *, started_s: float, now_s: float) -> Verdict:
        """Judges an attempt from `started_s` to `now_s`; `failure` is None for an answer that met no overload."""
        latency_s = now_s - started_s
        if failure is None:
            self._add(started_s, refused=False)
            self._good_s = latency_s if self._good_s is None else self._good_s + _SMOOTHING * (latency_s - self._good_s)
            return _OTHER
        if failure.status != 503 or failure.retry_after is not None or not self._is_quick(latency_s):
            return Verdict.OTHER
        self._add(started_s, refused=True)
        if self._suspected:
            return self._judge_suspected(now_s)
        refusals = sum(self._recent)
        if self._ruled_out or refusals < _MIN_REFUSALS or 2 * refusals < len(self._recent):
            return Verdict.OTHER
        self._slow_down(now_s)
        return Verdict.REFUSAL

    def _judge_suspected(self, now_s: float) -> Verdict:
        refusals, attempts = sum(self._since_slowed), len(self._since_slowed)
        many = refusals >= _MANY_OF_RECENT
        if not many and not self._is_at_random():
            # a pause after each of a few would soon leave a service that fails at random without requests
            few = self._slow_downs or attempts >= _FEW_OF * refusals
            return Verdict.FEW_REFUSALS if few else Verdict.REFUSAL
        most = _MAX_SLOW_DOWNS if many else _MAX_SLOW_DOWNS_AT_RANDOM
        if self._leads and self._slow_downs >= (_TOGETHER * most if self._others_s else most):
            self._suspected, self._ruled_out = False, True
            return Verdict.OUTAGE
        is_few = not many and self._sent >= _FEW_OF * self._refused
        self._slow_down(now_s)
        return Verdict.FEW_REFUSALS if is_few else Verdict.REFUSAL

    def _is_at_random(self) -> bool:
        return self._refused >= max(_MIN_AT_RANDOM, _SHARE_AT_RANDOM * self._sent)

    def _slow_down(self, now_s: float) -> None:
        self._suspected, self._slowed_s = True, now_s + self._others_s
        self._slow_downs += 1
        self._forget_attempts()

    def _forget_attempts(self) -> None:
        self._since_slowed.clear()
        self._sent = self._refused = 0

    def _is_quick(self, latency_s: float) -> bool:
        """Whether it came as quickly as good answers of this run do."""
        if self._good_s is None:  # others have had good answers, or the one that leads will find out
            return self._suspected and not self._leads and latency_s <= _MAX_GOOD_S / 2
        if self._good_s > _MAX_GOOD_S:
            return False
        return latency_s <= _QUICK_FACTOR * self._good_s + _QUICK_S

    def _add(self, started_s: float, *, refused: bool) -> None:
        self._recent.append(refused)
        if self._suspected and started_s >= self._slowed_s:
            self._since_slowed.append(refused)
            self._sent += 1
            self._refused += refused
            self._forget_old()

    def _forget_old(self) -> None:
        if self._sent >= _ENOUGH and not self._is_at_random():
            self._slow_downs = 0
        if self._sent >= _MEMORY:
            self._sent, self._refused = self._sent // 2, self._refused // 2
