"""In-memory state of a daemon: configuration, heartbeat, and what kept it from runs. Used only from its event loop."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy import Engine

from monitor.config import Config
from monitor.errors import LeaseHeldError, RunAlreadyExecutedError
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


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """Runs of one target that this process could not begin or end; those that ended are counted in the database."""

    skipped: int = 0
    errors: int = 0


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
        """By target that this process ran or queued: the key of its API's learned limits, None if there are none."""
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
            counters={name: replace(counters) for name, counters in self._counters.items()},
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

    def skip(self, target: str) -> None:
        """Counts a run that another process executes, or queued."""
        self._counters_of(target).skipped += 1

    def remember_keys(self, throttle_keys: Mapping[str, str | None]) -> None:
        """Notes the keys of learned limits, by target: see `throttle_keys`."""
        self.throttle_keys = {**self.throttle_keys, **throttle_keys}

    def _counters_of(self, target: str) -> RunCounters:
        """The counters of a target; a throwaway object if it is not configured any more."""
        self.refresh_config()
        return self._counters.get(target) or RunCounters()
