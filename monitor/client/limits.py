"""What keeps a client from hurting a service that struggles: pure state machines, given `now`. They wait for nothing.

| machine       | takes in                       | says                                                         |
|---------------|--------------------------------|--------------------------------------------------------------|
| `Breaker`     | how each attempt ended         | nothing more is sent in this run; or just one probe          |
| `ConcurrencyLimit` | how each attempt ended         | how many requests may be in flight (one up, half down)       |
| `ServerBackoff`        | a server's hint on 429 and 503 | nothing is sent before an instant; then one probe            |
| `RetryBudget` | first attempts                 | how many more there may be: 10% of them, and 3 in any case   |

The rate stands in `pace`. `throttle` joins them all, for every client of one origin and credential.
"""

import math
from collections import deque

from monitor.model.http import ApiError, NetworkFault

_OPEN_AFTER_FIRST = 5
_MIN_ATTEMPTS = 3
"""Attempts: where all of a run failed, and there were so many, it needs no open breaker to know that it was down."""
_WINDOW_SIZE = 20
_OPEN_AFTER_FAILURES = 18
_MIN_RETRIES = 3
_ATTEMPTS_PER_RETRY = 10
_UNCOUNTED_ATTEMPTS = 30
"""First attempts that earn nothing: a token and a list are asked for as well, and all together stay below 110%."""
_MAX_LARGE_IN_FLIGHT = 5
_BACKOFF_STATUSES = frozenset({429, 503})


class Breaker:
    """Opens when the first 5 attempts of a run all failed, or 18 of the last 20 (90%); then stays open for the run.

    A retry is an attempt like any other. A run that begins with an open one is on trial: its first failure opens it
    again, anything else closes it.

    Args:
        down: it was open when the last run ended.
    """

    __slots__ = ("_failures", "_recorded", "half_open", "open")

    def __init__(self, *, down: bool = False) -> None:
        self._failures: deque[bool] = deque(maxlen=_WINDOW_SIZE)
        self._recorded = 0
        self.open = down
        """Whether no further attempt may start."""
        self.half_open = False
        """Whether one attempt may be under way, and no more."""

    @property
    def down(self) -> bool:
        """Whether the next run has to begin with a probe: it is open, on trial, or met nothing but failures so far."""
        only_failures = self._recorded >= _MIN_ATTEMPTS and sum(self._failures) == self._recorded
        return self.open or self.half_open or only_failures

    def start_run(self) -> None:
        """A run begins: what the last one met is forgotten, but for this: whether the service was down at its end."""
        self.half_open = self.down
        self.open = False
        self._failures.clear()
        self._recorded = 0

    def record(self, failure: ApiError | None) -> None:
        """Counts one finished attempt.

        Args:
            failure: how it failed; None when it succeeded. Only an outage counts as a failure here: any other answer,
                a 403 or 429 included, shows that the service lives.
        """
        failed = failure is not None and is_outage(failure)
        self._recorded += 1
        self._failures.append(failed)
        if not failed:
            self.half_open = False
            return
        first_all_failed = self._recorded == _OPEN_AFTER_FIRST and all(self._failures)
        most_of_window = self._recorded >= _WINDOW_SIZE and sum(self._failures) >= _OPEN_AFTER_FAILURES
        self.open = self.open or self.half_open or first_all_failed or most_of_window


class ConcurrencyLimit:
    """How many requests may be in flight: one more per round of successes, half as many after an overload (AIMD).

    Failures of requests that were under way already when the limit was halved do not halve it again.

    Args:
        ceiling: the most (≥ 1).
        learned: what an earlier run ended with; None: nothing stands in the way of the ceiling.
    """

    __slots__ = ("_configured_ceiling", "_halved_at_s", "ceiling", "limit")

    def __init__(self, ceiling: int, learned: float | None = None) -> None:
        self._configured_ceiling = self.ceiling = ceiling
        self.limit = float(ceiling) if learned is None else max(1.0, min(learned, ceiling))
        """At least 1; a fraction counts once it is whole."""
        self._halved_at_s = -math.inf

    def set_throttle_factor(self, factor: float) -> None:
        """Lowers the ceiling to a share (0 to 1, above 0) of itself, but not below 1; a later share takes its place.

        What was learned below it stays. A limit that stood at the ceiling goes with it, up or down.
        """
        at_ceiling = self.limit >= self.ceiling
        self.ceiling = max(1, math.floor(self._configured_ceiling * factor))
        self.limit = float(self.ceiling) if at_ceiling else min(self.limit, float(self.ceiling))

    def on_success(self) -> None:
        """An attempt met no overload: it was answered, be it with a refusal."""
        if self.limit < self.ceiling:
            self.limit = min(float(self.ceiling), self.limit + 1.0 / self.limit)

    def on_overload(self, *, started_s: float, now_s: float) -> None:
        """An attempt that started then met an overload (see `is_overload`)."""
        if started_s >= self._halved_at_s:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at_s = now_s

    def on_large_answer(self) -> None:
        """An answer was too large. Each takes a megabyte or two in the library until it is cut: few at a time, then."""
        self.limit = min(self.limit, float(_MAX_LARGE_IN_FLIGHT))

    @property
    def learned(self) -> float | None:
        """What a later run begins with; None: no limit was met."""
        return self.limit if self.limit < self.ceiling else None


class ServerBackoff:
    """Sends nothing before the instant that the server named on a 429 or 503, and then one probe.

    Another hint may lengthen it, none shortens it.
    """

    __slots__ = ("code", "half_open", "status", "until_s")

    def __init__(self) -> None:
        self.until_s = -math.inf
        """On the monotonic clock."""
        self.status: int | None = None
        self.code: str | None = None
        """Of the answer that named the instant."""
        self.half_open = False
        """Whether one attempt may be under way, and no more."""

    def begin(self, *, wait_s: float, status: int | None, code: str | None, now_s: float) -> None:
        """Holds everything for so long (> 0), unless it is held longer already."""
        if now_s + wait_s > self.until_s:
            self.until_s, self.status, self.code = now_s + wait_s, status, code
        self.half_open = True

    def record(self, failure: ApiError | None, *, now_s: float) -> None:
        """Takes in how one attempt ended."""
        if failure is None or not is_overload(failure):
            self.half_open = self.half_open and now_s < self.until_s  # it started before the hint came
        elif failure.status in _BACKOFF_STATUSES and failure.retry_after is not None:
            wait_s = failure.retry_after.total_seconds()
            # some APIs say in the type alone that waiting does not help: a run that is held must know it, too
            self.begin(wait_s=wait_s, status=failure.status, code=failure.code or failure.type, now_s=now_s)


class RetryBudget:
    """One in ten, and three in any case: what may be sent beyond the first attempts, so that no outage is amplified.

    Retries and the second pass over unknown items of one run draw on it.
    """

    __slots__ = ("_first_attempts", "_used")

    def __init__(self) -> None:
        self._first_attempts = self._used = 0

    def record_first(self) -> None:
        """Counts a first attempt."""
        self._first_attempts += 1

    @property
    def remaining(self) -> int:
        """How many more there may be by now (≥ 0)."""
        return max(_MIN_RETRIES, (self._first_attempts - _UNCOUNTED_ATTEMPTS) // _ATTEMPTS_PER_RETRY) - self._used

    def take(self) -> bool:
        """Takes one; False when there is none left."""
        if self.remaining <= 0:
            return False
        self._used += 1
        return True


def is_outage(failure: ApiError) -> bool:
    """Whether the service, or the way to it, was down: 408, 500 and above, or no answer. Too large an answer is one."""
    if failure.status is None:
        return failure.network is not None and failure.network is not NetworkFault.TOO_LARGE
    return failure.status == 408 or failure.status >= 500


def is_overload(failure: ApiError) -> bool:
    """Whether fewer requests at a time may help: 429, or an outage."""
    return failure.status == 429 or is_outage(failure)
