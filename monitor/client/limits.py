"""Stops a run against a service that is down: a breaker as a pure state machine. It knows no clock and sends nothing.

Each limit is told how an attempt ended and answers whether the next may start; rate and concurrency will stand beside
the breaker in the same form, given `now`.
"""

from collections import deque

from monitor.exchange import ApiError, NetworkFault

__all__ = ["Breaker", "is_outage"]

_FIRST = 5
_WINDOW = 20
_FAILED_IN_WINDOW = 18


class Breaker:
    """Opens when the first 5 attempts of a run all failed, or 18 of the last 20 (90%); then stays open for the run.

    A retry is an attempt like any other. One breaker serves one run against one origin.
    """

    __slots__ = ("_failures", "_open", "_recorded")

    def __init__(self) -> None:
        self._failures: deque[bool] = deque(maxlen=_WINDOW)
        self._recorded = 0
        self._open = False

    @property
    def open(self) -> bool:
        """Whether no further attempt may start."""
        return self._open

    def record(self, failure: ApiError | None) -> None:
        """Counts one finished attempt.

        Args:
            failure: how it failed; None when it succeeded. Only an outage counts as a failure here: any other answer,
                a 403 or 429 included, shows that the service lives.
        """
        self._recorded += 1
        self._failures.append(failure is not None and is_outage(failure))
        all_first = self._recorded == _FIRST and all(self._failures)
        most_of_the_last = self._recorded >= _WINDOW and sum(self._failures) >= _FAILED_IN_WINDOW
        self._open = self._open or all_first or most_of_the_last


def is_outage(failure: ApiError) -> bool:
    """Whether the service, or the way to it, was down: 408, 5xx, or no answer. Too large an answer is an answer."""
    if failure.status is None:
        return failure.network is not None and failure.network is not NetworkFault.TOO_LARGE
    return failure.status == 408 or failure.status >= 500
