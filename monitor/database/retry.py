"""Retries work while the database is unavailable.

A commit may have succeeded although its reply was lost: callers must check before they write again.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Engine, Select

from monitor.database.engine import reading
from monitor.errors import StoreUnavailableError
from monitor.logs import warn_rate_limited
from monitor.model.durations import exponential_backoff_s

MAX_WAIT_S = 30.0
"""The TTL of a lease: after a longer wait it may be lost."""
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
_ROWS_AT_A_TIME = 250
_OPTION = "monitor_waits"
NO_VALUES: Mapping[str, object] = MappingProxyType({})
_T = TypeVar("_T")


class _RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    should_stop: Callable[[], bool]
    max_wait_s: float


def with_retry(engine: Engine, *, should_stop: Callable[[], bool], max_wait_s: float = MAX_WAIT_S) -> Engine:
    """The same engine, with retries enabled in `run_with_retry`: no attempt starts after `max_wait_s` (> 0).

    `should_stop` is called from any thread.
    """
    return engine.execution_options(**{_OPTION: _RetryPolicy(should_stop=should_stop, max_wait_s=max_wait_s)})


def run_with_retry(engine: Engine, work: Callable[[], _T]) -> _T:
    """Runs `work`, and on a `with_retry` engine runs it again while the database is unavailable.

    `work` is whole transactions: it may be called again after a commit whose reply was lost.

    Raises:
        StoreUnavailableError: the database is still unavailable, or waiting was stopped.
    """
    policy: _RetryPolicy | None = engine.get_execution_options().get(_OPTION)
    if policy is None:
        return work()
    ends_s, failures = time.monotonic() + policy.max_wait_s, 0
    while True:
        try:
            return work()
        except StoreUnavailableError as error:
            # many processes may wait for one server: not all come back at once
            jitter = random.uniform(0.5, 1)  # noqa: S311  # no secret
            pause_s = exponential_backoff_s(failures, initial_s=_MIN_PAUSE_S, max_s=_MAX_PAUSE_S, jitter=jitter)
            if policy.should_stop() or time.monotonic() + pause_s >= ends_s:
                raise
            warn_rate_limited("database_away", reason=str(error), retry_in_s=round(pause_s, 1))
        time.sleep(pause_s)
        failures += 1


def read_page(engine: Engine, query: Select[Any], values: Mapping[str, object] = NO_VALUES) -> Sequence[Any]:
    """The rows of a query, read with retries in one transaction. Raises StoreError if the database can't be used."""

    def read() -> Sequence[Any]:
        with reading(engine) as conn:
            return conn.execute(query, values).all()

    return run_with_retry(engine, read)


def read_shaped(
    engine: Engine, query: Select[Any], shape: Callable[[Any], _T], values: Mapping[str, object] = NO_VALUES
) -> list[_T]:
    """What `shape` makes of each row of a query, read as by `read_page`.

    Few rows are there at a time: thousands would each be looked at by the garbage collection that they start.
    """

    def read() -> list[_T]:
        with reading(engine) as conn:
            return [shape(row) for part in conn.execute(query, values).partitions(_ROWS_AT_A_TIME) for row in part]

    return run_with_retry(engine, read)
