"""The trend of what an incident is about, as a line of text: `failed 0 ▁▁▂▅█ 57 over 6 h`. Pure.

It is for messages. Reports have trends over longer periods, with more metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, ItemState
from monitor.model.sparkline import sparkline

PERIOD = timedelta(hours=6)
MAX_AGE = timedelta(days=14)
"""How far back a trend goes if there were too few runs in the period."""
MAX_RUNS = 360
"""Runs that a trend is made of, the newest: six hours of one-minute runs."""
_FEW_RUNS = 12
"""If there are fewer in the period, so many earlier runs are taken."""
_MARKS = 24
_GAP = "·"
"""In place of a space, of which HTML shows only one."""


class RunCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one run's snapshot."""

    at: datetime
    total: int
    stuck: int
    counts: Mapping[ItemState, int]


_STATES: Mapping[Cause, ItemState] = {
    Cause.ITEMS_FAILED: ItemState.FAILED,
    Cause.ITEMS_MISSING: ItemState.NOT_FOUND,
    Cause.ITEMS_REGRESSED: ItemState.PENDING,
    Cause.ITEMS_INVALID: ItemState.INVALID,
    Cause.ITEMS_UNVERIFIED: ItemState.UNKNOWN,
    Cause.UNRECOGNISED_STATUS: ItemState.PENDING,
}


def has_trend(cause: Cause) -> bool:
    """Whether snapshots show what an incident with this cause is about."""
    return cause in ITEM_CAUSES or cause in REQUEST_CAUSES or cause is Cause.TOO_MANY_UNKNOWN


def trend_text(cause: Cause, runs: Sequence[RunCounts]) -> str:
    """The trend of a cause that has one, from runs with snapshots, oldest first; empty if there is nothing to show.

    The affected items, or for a cause of requests the share of unknown ones. Each mark is the last run of its span; a
    span without runs has a dot.
    """
    name, value, shown = _metric(cause)
    recent = _recent(runs)
    values = [value(run) for run in recent]
    if len(values) < 2 or not any(values):
        return ""
    marks = sparkline(_by_span(recent, values), low=0.0, high=1.0 if shown is _percent else None).replace(" ", _GAP)
    return f"{name} {shown(values[0])} {marks} {shown(values[-1])} over {_rounded(recent[-1].at - recent[0].at)}"


def _metric(cause: Cause) -> tuple[str, Callable[[RunCounts], float], Callable[[float], str]]:
    """A name, what to show of a run, and how."""
    if cause is Cause.ITEMS_STUCK:
        return "stuck", lambda run: run.stuck, _count
    state = _STATES.get(cause)
    if state is not None:
        return state.label, lambda run: run.counts[state], _count
    return ItemState.UNKNOWN.label, lambda run: run.counts[ItemState.UNKNOWN] / max(1, run.total), _percent


def _recent(runs: Sequence[RunCounts]) -> Sequence[RunCounts]:
    """Those of the period, or if these are few some earlier ones."""
    within = sum(1 for run in runs if run.at > runs[-1].at - PERIOD)
    return runs[-max(within, _FEW_RUNS) :]


def _by_span(runs: Sequence[RunCounts], values: Sequence[float]) -> list[float | None]:
    """One value per span: the last; a mark per run if they are few."""
    if len(runs) <= _MARKS:
        return list(values)
    first, length = runs[0].at, runs[-1].at - runs[0].at
    spans: list[float | None] = [None] * _MARKS
    for run, value in zip(runs, values, strict=True):
        spans[min(_MARKS - 1, int((run.at - first) / length * _MARKS)) if length else 0] = value
    return spans


def _count(value: float) -> str:
    return f"{value:.0f}"


def _percent(share: float) -> str:
    """A share as a whole number of percent; only 0 and 1 become 0% and 100%."""
    percent = round(share * 100)
    return f"{min(99, max(1, percent)) if 0 < share < 1 else percent}%"


def _rounded(length: timedelta) -> str:
    minutes = length.total_seconds() / 60
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= 1.5 * size:
            return f"{minutes / size:.0f} {unit}"
    return f"{max(1, round(minutes))} min"
