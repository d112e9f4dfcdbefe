"""Waits a while for a database that is away, and does again what did not get through. It decides nothing about what is
done twice when a commit got through and its answer did not: whoever writes has to look first.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Engine, Select

from monitor.database.engine import reading
from monitor.errors import StoreUnavailableError
from monitor.logs import warn_rate_limited

MAX_WAIT_S = 30.0
"""As long as a lease lives: whoever waits longer may have lost it."""
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
_OPTION = "monitor_waits"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RetryPolicy:
    should_stop: Callable[[], bool]
    max_wait_s: float


def with_retry(engine: Engine, *, should_stop: Callable[[], bool], max_wait_s: float = MAX_WAIT_S) -> Engine:
    """The same engine, on which `run_with_retry` waits for a database that is away.

    Args:
        engine: our own database.
        should_stop: whether nobody wants to wait any more, as after a signal; called from any thread.
        max_wait_s: no attempt begins so long after the first, in seconds (> 0).
    """
    return engine.execution_options(**{_OPTION: _RetryPolicy(should_stop=should_stop, max_wait_s=max_wait_s)})


def run_with_retry(engine: Engine, work: Callable[[], _T]) -> _T:
    """Does some work on the database, in the thread of the caller: on a `with_retry` engine again while that is away.

    Args:
        engine: our own database.
        work: whole transactions. It may be called again after a commit that got through but was not answered.

    Raises:
        StoreAwayError: the database is still away, or nobody waits any more.
    """
    policy: _RetryPolicy | None = engine.get_execution_options().get(_OPTION)
    if policy is None:
        return work()
    ends_s, max_pause_s = time.monotonic() + policy.max_wait_s, _MIN_PAUSE_S
    while True:
        try:
            return work()
        except StoreUnavailableError as error:
            # many processes may wait for one server: not all come back at once
            pause_s = max_pause_s * random.uniform(0.5, 1)  # noqa: S311  # no secret
            if policy.should_stop() or time.monotonic() + pause_s >= ends_s:
                raise
            warn_rate_limited("database_away", reason=str(error), retry_in_s=round(pause_s, 1))
        time.sleep(pause_s)
        max_pause_s = min(_MAX_PAUSE_S, 2 * max_pause_s)


def read_page(engine: Engine, query: Select[Any]) -> Sequence[Any]:
    """The rows of a query, read patiently in one short transaction of its own.

    Raises:
        StoreError: for whatever the database does.
    """

    def read() -> Sequence[Any]:
        with reading(engine) as conn:
            return conn.execute(query).all()

    return run_with_retry(engine, read)
