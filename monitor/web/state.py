"""In-memory state of a daemon: configuration, heartbeat, and counters of its runs. Used only from its event loop."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from time import monotonic

from sqlalchemy import Engine

from monitor.config import Config
from monitor.errors import LeaseHeldError, RunAlreadyExecutedError
from monitor.model import RunStatus
from monitor.runs.report import RunReport
from monitor.web.readiness import LogLoss


@dataclass(slots=True, kw_only=True)
class DaemonState:
    """The daemon's current state, which only the daemon changes."""

    config: Config
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    heartbeat_s: float = field(default_factory=monotonic)
    """When the event loop last ran, on the monotonic clock."""
    engine: Engine | None = None
    """None until the database is open."""
    store_error: str | None = None
    """Why our database can't be used now; None if it can."""
    reload_error: str | None = None
    """Why the last reload was refused; None if it was accepted."""
    stopping: bool = False
    read_log_loss: Callable[[], LogLoss | None] = lambda: None
    """What the log has lost since the start of the process."""


DURATION_BUCKETS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1800.0)
"""Upper bounds of the histogram. The default deadline of a run is four minutes."""


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """Counters for the runs of one target in this process."""

    runs: Counter[RunStatus] = field(default_factory=Counter)
    skipped: int = 0
    errors: int = 0
    duration_s: float = 0.0
    """Sum over all runs."""
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS_S) + 1))
    """Number of runs per bucket of `DURATION_BUCKETS_S`, and of longer ones."""
    requests: Counter[str] = field(default_factory=Counter)
    """Requests, retries included, by status class."""
    retries: int = 0

    def add(self, report: RunReport) -> None:
        """Counts a finished run."""
        self.runs[report.status] += 1
        self.duration_s += report.duration_s
        self.durations[bisect_left(DURATION_BUCKETS_S, report.duration_s)] += 1
        self.requests.update(report.attempts)
        self.retries += report.retries

    def copy(self) -> "RunCounters":
        """A copy that later runs do not change."""
        return replace(self, runs=Counter(self.runs), durations=list(self.durations), requests=Counter(self.requests))

    def buckets(self) -> list[int]:
        """The cumulative counts of the histogram."""
        return list(accumulate(self.durations))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSnapshot:
    """The state at one moment."""

    at: datetime
    config: Config
    config_read_at: datetime
    started_at: datetime
    heartbeat_at: datetime
    heartbeat_age_s: float
    """Seconds (≥ 0) since the last heartbeat, on the monotonic clock."""
    store_error: str | None
    reload_refused: bool
    stopping: bool
    log_loss: LogLoss | None
    watched_since: Mapping[str, datetime]
    counters: Mapping[str, RunCounters]


class StateTracker:
    """Adds counters to the daemon's state, and takes snapshots of both. `monotonic` is the clock of the heartbeat."""

    def __init__(
        self, state: DaemonState, *, utcnow: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._state, self._utcnow, self._monotonic = state, utcnow, monotonic
        self.throttle_keys: Mapping[str, str | None] = {}
        """By target that this process ran: the key of the learned limits of its API, None if there are none."""
        self._counters: dict[str, RunCounters] = {}
        self._watched_since: dict[str, datetime] = {}
        self._tracked_config: Config | None = None
        self._config_read_at = utcnow()
        self.refresh_config()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._state.config

    @property
    def engine(self) -> Engine | None:
        """The daemon's own connections to the database; None until it is open."""
        return self._state.engine

    def utcnow(self) -> datetime:
        """The daemon's clock."""
        return self._utcnow()

    def refresh_config(self) -> None:
        """Applies a changed configuration; counters of removed targets are dropped."""
        config = self._state.config
        if config is self._tracked_config:
            return
        names, now = [target.name for target in config.targets], self._utcnow()
        self._counters = {name: self._counters.get(name) or RunCounters() for name in names}
        self._watched_since = {name: self._watched_since.get(name, now) for name in names}
        self._tracked_config, self._config_read_at = config, now

    def snapshot(self) -> StateSnapshot:
        """A snapshot that later events do not change."""
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
            log_loss=self._state.read_log_loss(),
            watched_since=dict(self._watched_since),
            counters={name: counters.copy() for name, counters in self._counters.items()},
        )

    @contextmanager
    def count_failure(self, target: str) -> Iterator[None]:
        """Counts a run without a report: skipped, or ended by an error."""
        try:
            yield
        except (LeaseHeldError, RunAlreadyExecutedError):
            self._counters_of(target).skipped += 1
            raise
        except Exception:
            self._counters_of(target).errors += 1
            raise

    def observe(self, report: RunReport, *, throttle_keys: Mapping[str, str | None]) -> None:
        """Counts a finished run of this process. `throttle_keys`: see the attribute."""
        self._counters_of(report.target).add(report)
        self.throttle_keys = throttle_keys

    def _counters_of(self, target: str) -> RunCounters:
        """The counters of a target; a throwaway object if it is not configured any more."""
        self.refresh_config()
        return self._counters.get(target) or RunCounters()
