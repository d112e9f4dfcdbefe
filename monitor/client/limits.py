"""Protects a struggling service: pure state machines, which get `now` as an argument and never wait.

| machine            | takes in                       | decides                                                       |
|--------------------|--------------------------------|---------------------------------------------------------------|
| `Breaker`          | how each attempt ended         | nothing more is sent in this run; or only one probe           |
| `ConcurrencyLimit` | how each attempt ended         | how many requests may be in flight (one up, half down)        |
| `ServerBackoff`    | a server's hint on 429 and 503 | nothing is sent before an instant; then one probe             |
| `RetryBudget`      | first attempts                 | how many retries there may be: 10% of them, and at least 3    |

`rate.limiter` limits the rate. `throttle` joins all of them for the clients of one origin and credential.
"""

import math
from collections import deque

from monitor.model.http import ApiError, Meaning, NetworkFault

_OPEN_AFTER_FIRST = 5
_MIN_ATTEMPTS = 3
"""If all attempts of a run failed and there were this many, the service was down even if the breaker did not open."""
_WINDOW_SIZE = 20
_OPEN_AFTER_FAILURES = 18
_MIN_RETRIES = 3
_ATTEMPTS_PER_RETRY = 10
_UNCOUNTED_ATTEMPTS = 30
"""First attempts that earn no retry: with the token and list requests, all requests together stay below 110%."""
_MAX_LARGE_IN_FLIGHT = 5
_ROUNDING = 1e-9
_BACKOFF_STATUSES = frozenset({429, 503})


class Breaker:
    """Opens when the first 5 attempts of a run all failed, or 18 of the last 20 (90%), and stays open for the run.

    A retry counts as an attempt. A run that begins half-open (`down`: it was open when the last run ended) opens again
    with its first failure; any other result closes it. The breaker of another process with the credential opens it,
    too (`trip`).
    """

    __slots__ = ("_failures", "_recorded", "half_open", "open", "tripped_elsewhere")

    def __init__(self, *, down: bool = False) -> None:
        self._failures: deque[bool] = deque(maxlen=_WINDOW_SIZE)
        self._recorded = 0
        self.open = down
        """Whether no further attempt may start."""
        self.half_open = self.tripped_elsewhere = False

    @property
    def opened_here(self) -> bool:
        """Whether it is open because of our own attempts."""
        return self.open and not self.tripped_elsewhere

    def trip(self) -> None:
        """Opens it: another process found that the service is down."""
        self.tripped_elsewhere = not self.open or self.tripped_elsewhere
        self.open = True

    @property
    def down(self) -> bool:
        """Whether the next run must begin with a probe: it is open or half-open, or everything failed so far."""
        only_failures = self._recorded >= _MIN_ATTEMPTS and sum(self._failures) == self._recorded
        return self.open or self.half_open or only_failures

    def start_run(self) -> None:
        """Begins a run: keeps only whether the service was down at the end of the last one."""
        self.half_open = self.down
        self.open = self.tripped_elsewhere = False
        self._failures.clear()
        self._recorded = 0

    def record(self, failure: ApiError | None) -> None:
        """Counts one finished attempt. Only an outage is a failure here: a 403 or 429 shows that the service runs."""
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

    Requests that were already in flight when the limit was halved do not halve it again. `learned` is the limit at the
    end of an earlier run; None: start at the ceiling (≥ 1).
    """

    __slots__ = ("_configured_ceiling", "_factor", "_halved_at_s", "_most", "_part", "ceiling", "limit")

    def __init__(self, ceiling: int, learned: float | None = None) -> None:
        self._configured_ceiling = self.ceiling = ceiling
        self.limit = float(ceiling) if learned is None else max(1.0, min(learned, ceiling))
        """At least 1; a fraction counts once it is whole."""
        self._halved_at_s = -math.inf
        self._factor = self._part = 1.0
        self._most = ceiling

    def set_throttle_factor(self, factor: float) -> None:
        """Lowers the ceiling to a share (above 0, at most 1), but not below 1. A limit at the ceiling moves with it."""
        self._factor = factor
        self._set_ceiling(self.limit)

    def set_part(self, part: float, *, most: int | None = None) -> None:
        """Takes a part (above 0, at most 1) of ceiling and limit from now on, but at least 1: other processes that use
        the credential have the rest. `most` (≥ 1) bounds the ceiling whatever the part. It replaces an earlier part.
        """
        limit = self.limit * part / self._part
        self._part, self._most = part, self._configured_ceiling if most is None else most
        self._set_ceiling(limit)

    def _set_ceiling(self, limit: float) -> None:
        at_ceiling = self.limit >= self.ceiling
        ours = math.floor(self._configured_ceiling * self._factor * self._part + _ROUNDING)
        self.ceiling = max(1, min(ours, self._most))
        self.limit = float(self.ceiling) if at_ceiling else max(1.0, min(limit, float(self.ceiling)))

    def on_success(self) -> None:
        """An attempt met no overload: it was answered, even if with a refusal."""
        if self.limit < self.ceiling:
            self.limit = min(float(self.ceiling), self.limit + 1.0 / self.limit)

    def on_overload(self, *, started_s: float, now_s: float) -> None:
        """An attempt met an overload (see `is_overload`)."""
        if started_s >= self._halved_at_s:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at_s = now_s

    def on_large_answer(self) -> None:
        """An answer was too large. The library buffers 1 to 2 MB of each before it is cut, so few may be in flight."""
        self.limit = min(self.limit, float(_MAX_LARGE_IN_FLIGHT))

    @property
    def learned(self) -> float | None:
        """The limit of all processes, for a later run to start with; None: no limit was met."""
        return self.limit / self._part if self.limit < self.ceiling else None


class ServerBackoff:
    """Sends nothing before the instant that a 429 or 503 named, then one probe. A later hint can only extend it."""

    __slots__ = ("code", "half_open", "status", "until_s")

    def __init__(self) -> None:
        self.until_s = -math.inf
        """On the monotonic clock."""
        self.status: int | None = None
        self.code: str | None = None
        self.half_open = False

    def begin(self, *, wait_s: float, status: int | None, code: str | None, now_s: float) -> None:
        """Blocks requests for `wait_s` (> 0), unless they are blocked for longer."""
        if now_s + wait_s > self.until_s:
            self.until_s, self.status, self.code = now_s + wait_s, status, code
        self.half_open = True

    def record(self, failure: ApiError | None, *, now_s: float) -> None:
        """Updates the state after one attempt."""
        if failure is None or not is_overload(failure):
            self.half_open = self.half_open and now_s < self.until_s  # it started before the hint arrived
        elif failure.retry_after is not None and (failure.status in _BACKOFF_STATUSES or is_rate_limit(failure)):
            wait_s = failure.retry_after.total_seconds()
            # some APIs report a spending limit only in the type
            self.begin(wait_s=wait_s, status=failure.status, code=failure.code or failure.type, now_s=now_s)


class RetryBudget:
    """Retries for one run, including the second pass over unknown items: 10% of the first attempts, and at least 3.

    `part` (above 0, at most 1) is how much of the run it is for, if several processes share the run: then all budgets
    together are like one, but each allows at least one retry.
    """

    __slots__ = ("_first_attempts", "_min_retries", "_uncounted", "_used")

    def __init__(self, part: float = 1.0) -> None:
        self._first_attempts = self._used = 0
        self._min_retries = max(1, math.floor(_MIN_RETRIES * part))
        self._uncounted = math.ceil(_UNCOUNTED_ATTEMPTS * part)

    def record_first(self) -> None:
        """Counts a first attempt."""
        self._first_attempts += 1

    @property
    def remaining(self) -> int:
        """Retries left now (≥ 0)."""
        return max(self._min_retries, (self._first_attempts - self._uncounted) // _ATTEMPTS_PER_RETRY) - self._used

    def take(self) -> bool:
        """Takes one; False if none is left."""
        if self.remaining <= 0:
            return False
        self._used += 1
        return True


def is_outage(failure: ApiError) -> bool:
    """Whether the service or the network failed: 408, any 5xx, or no answer. An answer that is too large is none.

    What the API's description says of an answer wins over its status.
    """
    if failure.meaning is not None:
        return failure.meaning is Meaning.OUTAGE
    if failure.status is None:
        return failure.network is not None and failure.network is not NetworkFault.TOO_LARGE
    return failure.status == 408 or failure.status >= 500


def is_overload(failure: ApiError) -> bool:
    """Whether fewer requests at a time may help: a rate limit, or an outage."""
    return is_rate_limit(failure) or is_outage(failure)


def is_rate_limit(failure: ApiError) -> bool:
    """Whether the API asks to slow down, or to pay: 429, or what its description says means a rate limit."""
    return failure.meaning is Meaning.RATE_LIMITED if failure.meaning is not None else failure.status == 429
