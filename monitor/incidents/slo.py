"""Service level objectives: share kept, error budget left, burn rates, and the alert on them. Pure.

Counts of decided uploads and `now` in, a status out. It reads no clock and no database, and opens no incident.

Source: Google, The Site Reliability Workbook (2018), chapter 5 "Alerting on SLOs",
https://sre.google/workbook/alerting-on-slos/: burn rates and error budgets, the recommended windows of table 5-8,
the second, shorter window that ends an alert soon (approach 6), low-traffic services, and objectives so low that no
outage reaches a burn rate of 14.4.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from functools import cache
from itertools import accumulate

import msgspec

from monitor.model import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A promise: of the uploads in any `window`, at least the share `objective` is indexed `within` so long."""

    name: str
    """Unique; the group of its incidents."""
    objective: float
    """Above 0 and below 1."""
    within: timedelta
    """From the upload to the first time that the item was completed."""
    window: timedelta = timedelta(days=28)
    """Rolling; at least as long as the longest window of the alert."""
    group: str | None = None
    """Only uploads of this group of items count; None: all."""

    @property
    def budget(self) -> Fraction:
        """The share of uploads that may break the promise: 1 - objective, exact (0.05 for 0.95)."""
        return _budget(self.objective)

    @property
    def highest_burn_rate(self) -> float:
        """The burn rate of a total outage: 20 for an objective of 0.95."""
        return _highest_burn_rate(self.objective)


@cache
def _budget(objective: float) -> Fraction:
    # exact numbers are slow, and every page asks for those of the same few objectives
    return 1 - Fraction(str(objective))


@cache
def _highest_burn_rate(objective: float) -> float:
    return float(1 / _budget(objective))


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """Uploads that were decided in one span of time.

    An upload is decided when its time is up, `within` after it was submitted: it was completed by then (good), or not.
    Counted any earlier, the newest slots would hold only the good ones: nothing late is known before its time is up.
    """

    start: datetime
    resolution: timedelta
    total: int
    good: int
    """At most `total`."""

    @property
    def bad(self) -> int:
        """Uploads that were not completed in time."""
        return self.total - self.good


class BurnAlert(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of windows and the burn rate that both must exceed."""

    long: timedelta
    """Enough of the budget is spent to matter."""
    short: timedelta
    """It is still being spent. A twelfth of the long window, so that the alert ends soon after the trouble does."""
    factor: float
    severity: Severity

    def threshold(self, objective: Objective) -> float:
        """The burn rate above which it fires.

        The factor, but never more than 90% of what a total outage burns: with an objective below 0.93, nothing could
        reach 14.4 (chapter 5, "Extreme availability goals").
        """
        return min(self.factor, _REACHABLE * objective.highest_burn_rate)


_REACHABLE = 0.9

BURN_ALERTS: tuple[BurnAlert, ...] = (
    BurnAlert(long=timedelta(hours=1), short=timedelta(minutes=5), factor=14.4, severity=Severity.CRITICAL),
    BurnAlert(long=timedelta(hours=6), short=timedelta(minutes=30), factor=6.0, severity=Severity.CRITICAL),
    BurnAlert(long=timedelta(days=3), short=timedelta(hours=6), factor=1.0, severity=Severity.WARNING),
)
"""Table 5-8, fastest first: the first two page (critical), the third is a ticket (warning)."""

BURN_WINDOWS: tuple[timedelta, ...] = tuple(
    sorted({each for alert in BURN_ALERTS for each in (alert.long, alert.short)})
)
"""All windows that burn rates are measured in, shortest first: 5m, 30m, 1h, 6h, 3d."""

LONGEST_BURN_WINDOW = BURN_WINDOWS[-1]

MIN_BAD = 3
"""Late uploads in the long window before an alert fires.

A burn rate of few uploads says little: one late upload of two burns ten times the budget of 0.95 (chapter 5,
"Low-traffic services and error budget alerting"). With few uploads, the longer windows gather the three. A canary is
the workbook's "artificial traffic".
"""


_IDLE = timedelta(hours=6)
"""So long without an upload is no trouble that goes on: nothing is spent. A shorter pause shows nothing."""


class BurnRate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the budget was spent in one window: 1 spends it exactly in the window of the objective."""

    window: timedelta
    total: int
    bad: int
    rate: float | None
    """None if no upload was decided in the window."""


class AlertState(StrEnum):
    """What an alert says about one moment."""

    FIRING = "firing"
    """Both windows of a pair burn faster than its threshold."""
    UNDECIDED = "undecided"
    """A long window burns too fast, but by too few late uploads, or nothing was decided in its short window.

    That neither opens an incident nor ends one: it is no sign of a recovery.
    """
    QUIET = "quiet"


class SloStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An objective at one moment."""

    objective: Objective
    at: datetime
    total: int
    """Uploads decided in the window of the objective."""
    good: int
    burn_rates: tuple[BurnRate, ...]
    """One per window of `BURN_WINDOWS`, shortest first."""
    state: AlertState
    firing: tuple[BurnAlert, ...] = ()
    """The pairs that fire, fastest first."""

    @property
    def bad(self) -> int:
        """Uploads that were late, or never indexed."""
        return self.total - self.good

    @property
    def share(self) -> float | None:
        """The share of uploads that was indexed in time; None without uploads."""
        return self.good / self.total if self.total else None

    @property
    def allowed(self) -> float:
        """The whole error budget, in uploads: how many of these may be late."""
        return float(self.objective.budget * self.total)

    @property
    def budget_left_uploads(self) -> float:
        """How many more of these uploads may be late; below 0 when more were."""
        return float(self.objective.budget * self.total - self.bad)

    @property
    def budget_left(self) -> float:
        """The error budget left, as a share of the whole: 1 is untouched, 0 spent, below 0 overspent."""
        return float(1 - Fraction(self.bad, self.total) / self.objective.budget) if self.bad else 1.0

    @property
    def is_spent(self) -> bool:
        """Whether no more uploads may be late; without uploads nothing is spent."""
        return self.budget_left <= 0

    @property
    def severity(self) -> Severity | None:
        """That of the fastest pair that fires; None while none does."""
        return self.firing[0].severity if self.firing else None

    @property
    def present_rate(self) -> BurnRate:
        """The burn rate that forecasts use: of the long window of the alert that fires, else of three days."""
        return self.burn_rate(self.firing[0].long if self.firing else LONGEST_BURN_WINDOW)

    def burn_rate(self, window: timedelta) -> BurnRate:
        """The burn rate in one of `BURN_WINDOWS`. Raises KeyError for another window."""
        return {each.window: each for each in self.burn_rates}[window]

    @property
    def spent_at(self) -> datetime | None:
        """When the budget will be spent at the present rate; `at` if it is spent.

        None if it lasts: at a rate of 1 or less the oldest uploads leave the window as fast as late ones come in.
        """
        if self.is_spent:
            return self.at
        rate = self.present_rate.rate
        return None if rate is None or rate <= 1 else self.at + self.objective.window * (self.budget_left / rate)


class _Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Slots by age, with running sums: any window is looked up without another pass."""

    ages: tuple[timedelta, ...]
    """How long ago each slot ended, ascending; below zero for the one that goes on."""
    totals: tuple[int, ...]
    bads: tuple[int, ...]

    @classmethod
    def of(cls, slots: Iterable[Slot], now: datetime) -> "_Counts":
        aged = sorted((now - slot.start - slot.resolution, slot.total, slot.bad) for slot in slots if slot.start <= now)
        return cls(
            ages=tuple(age for age, _, _ in aged),
            totals=(0, *accumulate(total for _, total, _ in aged)),
            bads=(0, *accumulate(bad for _, _, bad in aged)),
        )

    def burn_rate(self, objective: Objective, window: timedelta) -> BurnRate:
        """A slot counts whole if any of it is in the window: a window is rounded up to the slots' resolution."""
        inside = bisect_left(self.ages, window)
        total, bad = self.totals[inside], self.bads[inside]
        rate = (float(Fraction(bad, total) / objective.budget) if bad else 0.0) if total else None
        return BurnRate(window=window, total=total, bad=bad, rate=rate)


def assess(objective: Objective, slots: Iterable[Slot], *, now: datetime) -> SloStatus:
    """An objective at `now`, by uploads decided up to then; `slots` may be in any order, and reach further back."""
    counts = _Counts.of(slots, now)
    whole = counts.burn_rate(objective, objective.window)
    rates = {window: counts.burn_rate(objective, window) for window in BURN_WINDOWS}
    states = [_pair_state(alert.threshold(objective), rates[alert.long], rates[alert.short]) for alert in BURN_ALERTS]
    state = next((each for each in (AlertState.FIRING, AlertState.UNDECIDED) if each in states), AlertState.QUIET)
    return SloStatus(
        objective=objective,
        at=now,
        total=whole.total,
        good=whole.total - whole.bad,
        burn_rates=tuple(rates.values()),
        state=state,
        firing=tuple(alert for alert, each in zip(BURN_ALERTS, states, strict=True) if each is AlertState.FIRING),
    )


def _pair_state(threshold: float, long: BurnRate, short: BurnRate) -> AlertState:
    if long.rate is None or long.rate <= threshold:
        return AlertState.QUIET
    if short.rate is None:
        return AlertState.QUIET if short.window >= _IDLE else AlertState.UNDECIDED
    if short.rate <= threshold:
        return AlertState.QUIET
    return AlertState.FIRING if long.bad >= MIN_BAD else AlertState.UNDECIDED
