"""What a running daemon knows of itself: its configuration, its beat, and what the runs of this process came to.

It reads no database and sends nothing; `web` tells it to whoever asks. All calls come from the daemon's event loop.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate

from monitor.config import Config
from monitor.model import RunStatus
from monitor.run_report import RunReport

__all__ = ["DURATIONS_S", "Counts", "Pulse", "Vitals"]

DURATIONS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1800.0)
"""Upper bounds of the histogram of durations: a run ends after four minutes unless a longer deadline was set."""

ANSWERED = "2xx"


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the runs of one target came to in this process; it only grows."""

    runs: Counter[RunStatus] = field(default_factory=Counter)
    skipped: int = 0
    failed: int = 0
    duration_s: float = 0.0
    """Of all runs together."""
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS_S) + 1))
    """Runs by duration, one number per bound of `DURATIONS_S` and one for what is longer."""
    requests: Counter[str] = field(default_factory=Counter)
    """Attempts by status class."""
    retries: int = 0

    def add(self, report: RunReport) -> None:
        """Counts a finished run."""
        self.runs[report.status] += 1
        self.duration_s += report.duration_s
        self.durations[bisect_left(DURATIONS_S, report.duration_s)] += 1
        self.requests.update(report.failed_attempts)
        self.requests[ANSWERED] += max(0, report.requests - sum(report.failed_attempts.values()))
        self.retries += report.retries

    def copy(self) -> "Counts":
        """As they are now."""
        return replace(self, runs=Counter(self.runs), durations=list(self.durations), requests=Counter(self.requests))

    def buckets(self) -> list[int]:
        """The durations as a histogram has them: how many were at most so long, bound by bound."""
        return list(accumulate(self.durations))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What the daemon shows of itself at one moment."""

    at: datetime
    """The moment."""
    config: Config
    """The configuration in force."""
    config_read_at: datetime
    started_at: datetime
    beat_at: datetime
    """When the scheduler turned last."""
    beat_age_s: float
    """Seconds (≥ 0) since then, on a clock that nobody sets."""
    reload_refused: bool
    """The last reload was refused: an older configuration is in force."""
    stopping: bool
    """It was told to end."""
    watched_since: Mapping[str, datetime]
    """Since when this process watches each target."""
    counts: Mapping[str, Counts]
    """What the runs of each target came to."""


class Vitals:
    """Keeps what the daemon shows of itself.

    Args:
        config: the one in force.
        utcnow: the clock.
        monotonic: the clock of the beat, in seconds.
    """

    def __init__(
        self, config: Config, *, utcnow: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._utcnow, self._monotonic = utcnow, monotonic
        self.config = config
        """The configuration in force."""
        self.throttle_keys: Mapping[str, str] = {}
        """Under which key what was learned of a target's API is stored: of those that this process ran, by target."""
        self._started_at = self._config_read_at = self._beat_at = utcnow()
        self._beat_s = monotonic()
        self._reload_refused = self._stopping = False
        self._counts: dict[str, Counts] = {}
        self._watched_since: dict[str, datetime] = {}
        self._watch()

    def pulse(self) -> Pulse:
        """All of it at this moment; what happens later does not change it."""
        return Pulse(
            at=self._utcnow(),
            config=self.config,
            config_read_at=self._config_read_at,
            started_at=self._started_at,
            beat_at=self._beat_at,
            beat_age_s=max(0.0, self._monotonic() - self._beat_s),
            reload_refused=self._reload_refused,
            stopping=self._stopping,
            watched_since=dict(self._watched_since),
            counts={name: counts.copy() for name, counts in self._counts.items()},
        )

    def beat(self) -> None:
        """The scheduler turns."""
        self._beat_at, self._beat_s = self._utcnow(), self._monotonic()

    def take(self, config: Config) -> None:
        """Another configuration is in force; what it does not name any more is forgotten."""
        self.config, self._config_read_at, self._reload_refused = config, self._utcnow(), False
        self._watch()

    def refuse(self) -> None:
        """A configuration was refused, the one of before stays in force."""
        self._reload_refused = True

    def stop(self) -> None:
        """The daemon was told to end."""
        self._stopping = True

    def observe(self, report: RunReport) -> None:
        """A run of this process ended."""
        if counts := self._counts.get(report.target):
            counts.add(report)

    def skip(self, target: str) -> None:
        """A run was not begun: another process has the lease, or the slot is spent."""
        if counts := self._counts.get(target):
            counts.skipped += 1

    def fail(self, target: str) -> None:
        """A run ended in an error of ours."""
        if counts := self._counts.get(target):
            counts.failed += 1

    def _watch(self) -> None:
        names, now = [target.name for target in self.config.targets], self._utcnow()
        self._counts = {name: self._counts.get(name) or Counts() for name in names}
        self._watched_since = {name: self._watched_since.get(name, now) for name in names}
