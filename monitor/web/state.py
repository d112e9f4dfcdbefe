"""What a running daemon knows of itself: its configuration, its beat, and what the runs of this process came to.

It reads no database and sends nothing; `web` tells it to whoever asks. All calls come from the daemon's event loop.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from time import monotonic
from typing import Protocol

from sqlalchemy import Engine

from monitor.config import Config
from monitor.errors import LeaseHeldError, RunAlreadyExecutedError
from monitor.model import RunStatus
from monitor.runs.report import RunReport


@dataclass(slots=True, kw_only=True)
class DaemonState:
    """How the daemon stands at this moment. Only the daemon writes it, in its event loop."""

    config: Config
    """In force."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    heartbeat_s: float = field(default_factory=monotonic)
    """When the loop turned last, on the monotonic clock."""
    engine: Engine | None = None
    """None before the database could be opened."""
    store_error: str | None = None
    """Why our own database can't be used now; None while it can."""
    reload_error: str | None = None
    """Why the configuration that was read last is not in force; None when it is."""
    stopping: bool = False
    """A signal told it to end."""


DURATION_BUCKETS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1800.0)
"""Upper bounds of the histogram of durations: a run ends after four minutes unless a longer deadline was set."""


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """What the runs of one target came to in this process; it only grows."""

    runs: Counter[RunStatus] = field(default_factory=Counter)
    skipped: int = 0
    errors: int = 0
    duration_s: float = 0.0
    """Of all runs together."""
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS_S) + 1))
    """Runs by duration, one number per bound of `DURATION_BUCKETS_S` and one for what is longer."""
    requests: Counter[str] = field(default_factory=Counter)
    """Attempts by status class."""
    retries: int = 0

    def add(self, report: RunReport) -> None:
        """Counts a finished run."""
        self.runs[report.status] += 1
        self.duration_s += report.duration_s
        self.durations[bisect_left(DURATION_BUCKETS_S, report.duration_s)] += 1
        self.requests.update(report.attempts)
        self.retries += report.retries

    def copy(self) -> "RunCounters":
        """As they are now."""
        return replace(self, runs=Counter(self.runs), durations=list(self.durations), requests=Counter(self.requests))

    def buckets(self) -> list[int]:
        """The durations as a histogram has them: how many were at most so long, bound by bound."""
        return list(accumulate(self.durations))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSnapshot:
    """What the daemon shows of itself at one moment."""

    at: datetime
    """The moment."""
    config: Config
    """The configuration in force."""
    config_read_at: datetime
    started_at: datetime
    heartbeat_at: datetime
    """When its loop turned last."""
    heartbeat_age_s: float
    """Seconds (≥ 0) since then, on a clock that nobody sets."""
    store_error: str | None
    """Why the daemon can't use its database, as it met it last; None while it can."""
    reload_refused: bool
    """The last reload was refused: an older configuration is in force."""
    stopping: bool
    """It was told to end."""
    watched_since: Mapping[str, datetime]
    """Since when this process watches each target."""
    counters: Mapping[str, RunCounters]
    """What the runs of each target came to."""


class ReadOnlyState(Protocol):
    """What the daemon keeps of itself; only the daemon changes it."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        ...

    @property
    def started_at(self) -> datetime:
        """When the process began (aware)."""
        ...

    @property
    def heartbeat_s(self) -> float:
        """When the loop turned last, on the monotonic clock."""
        ...

    @property
    def store_error(self) -> str | None:
        """Why our own database can't be used now; None while it can."""
        ...

    @property
    def reload_error(self) -> str | None:
        """Why the configuration that was read last is not in force; None when it is."""
        ...

    @property
    def stopping(self) -> bool:
        """It was told to end."""
        ...


class StateTracker:
    """Keeps what the daemon shows of itself beyond how it stands.

    Args:
        state: how it stands, whenever it is looked at.
        utcnow: the clock.
        monotonic: the clock of the beat, in seconds.
    """

    def __init__(
        self, state: ReadOnlyState, *, utcnow: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._state, self._utcnow, self._monotonic = state, utcnow, monotonic
        self.throttle_keys: Mapping[str, str] = {}
        """Under which key what was learned of a target's API is stored: of those that this process ran, by target."""
        self._counters: dict[str, RunCounters] = {}
        self._watched_since: dict[str, datetime] = {}
        self._tracked_config: Config | None = None
        self._config_read_at = utcnow()
        self.refresh_config()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._state.config

    def refresh_config(self) -> None:
        """Notices another configuration; what it does not name any more is forgotten."""
        config = self._state.config
        if config is self._tracked_config:
            return
        names, now = [target.name for target in config.targets], self._utcnow()
        self._counters = {name: self._counters.get(name) or RunCounters() for name in names}
        self._watched_since = {name: self._watched_since.get(name, now) for name in names}
        self._tracked_config, self._config_read_at = config, now

    def snapshot(self) -> StateSnapshot:
        """All of it at this moment; what happens later does not change it."""
        self.refresh_config()
        now, heartbeat_age_s = self._utcnow(), max(0.0, self._monotonic() - self._state.heartbeat_s)
        return StateSnapshot(
            at=now,
            config=self._state.config,
            config_read_at=self._config_read_at,
            started_at=self._state.started_at,
            heartbeat_at=now - timedelta(seconds=heartbeat_age_s),
            heartbeat_age_s=heartbeat_age_s,
            store_error=self._state.store_error,
            reload_refused=self._state.reload_error is not None,
            stopping=self._state.stopping,
            watched_since=dict(self._watched_since),
            counters={name: counters.copy() for name, counters in self._counters.items()},
        )

    @contextmanager
    def count_failure(self, target: str) -> Iterator[None]:
        """Counts a run of a target that does not come to a report: one that was not begun, or that an error ended."""
        try:
            yield
        except (LeaseHeldError, RunAlreadyExecutedError):
            self._counters_of(target).skipped += 1
            raise
        except Exception:
            self._counters_of(target).errors += 1
            raise

    def observe(self, report: RunReport, *, throttle_keys: Mapping[str, str]) -> None:
        """A run of this process ended.

        Args:
            report: what it came to.
            throttle_keys: under which what was learned of APIs is stored, by target.
        """
        self._counters_of(report.target).add(report)
        self.throttle_keys = throttle_keys

    def _counters_of(self, target: str) -> RunCounters:
        """The counts of a target; those of one that is not configured any more are nobody's."""
        self.refresh_config()
        return self._counters.get(target) or RunCounters()
