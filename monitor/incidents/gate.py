"""Whether bulk work on a target may proceed: what the stored incidents and the last run say to that. Pure.

It asks no API, and it holds nobody up: whoever asks decides what to do with the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.model import Cause, rank
from monitor.model.schedule import DueTimes
from monitor.notifications.texts import describe_cause

CLOSING_CAUSES = frozenset({Cause.SPENDING_LIMIT, Cause.RATE_LIMITED, Cause.OUTAGE})
"""Causes that more requests make worse, or that let them come to nothing."""


class GateReason(StrEnum):
    """Why the gate is open or closed."""

    CLEAR = "clear"
    """The last run is recent, and no incident speaks against it."""
    INCIDENT = "incident"
    STALE = "stale"
    """No run ended within two intervals: nobody knows how the API is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosingIncident:
    """An incident that closes the gate, be it acknowledged or silenced."""

    cause: Cause
    incident_id: int
    since: datetime
    """Its first evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Proceed or pause, and why."""

    target: str
    reason: GateReason
    by: tuple[ClosingIncident, ...] = ()
    """The incidents that close it, the highest-ranked cause first."""
    since: datetime | None = None
    """From when on it is closed; None while it is open, and before the first run."""
    last_run_at: datetime | None = None
    """When the last run that asked the API ended; None before the first."""
    text: str = ""
    """One line for people."""

    @property
    def proceed(self) -> bool:
        """Whether bulk work may proceed."""
        return self.reason is GateReason.CLEAR


def check_gate(
    target: str,
    *,
    unresolved: Sequence[ClosingIncident],
    last_run_at: datetime | None,
    due_times: DueTimes,
    now: datetime,
) -> GateResult:
    """Whether bulk work on a target may proceed.

    Args:
        target: its name.
        unresolved: its incidents that are not resolved, of whatever cause.
        last_run_at: when its last run that asked the API ended; None before the first.
        due_times: when its runs are due.
        now: the time (aware).
    """
    by = tuple(sorted((each for each in unresolved if each.cause in CLOSING_CAUSES), key=lambda each: rank(each.cause)))
    if by:
        first = by[0]
        text = (
            f"pause: {first.cause.value} since {_format_time(first.since, now)} (incident {first.incident_id}): "
            f"{describe_cause(first.cause)}"
        )
        reason = GateReason.INCIDENT
        return GateResult(target=target, reason=reason, by=by, since=first.since, last_run_at=last_run_at, text=text)
    if last_run_at is None:
        text = f"pause: stale: no run of {target} has asked the API yet"
        return GateResult(target=target, reason=GateReason.STALE, text=text)
    overdue_at = due_times.overdue_at(last_run_at)
    if overdue_at is not None and now >= overdue_at:
        text = (
            f"pause: stale since {_format_time(overdue_at, now)}: the last run of {target} that asked the API ended "
            f"{_format_time(last_run_at, now)}, more than two intervals ago"
        )
        reason = GateReason.STALE
        return GateResult(target=target, reason=reason, since=overdue_at, last_run_at=last_run_at, text=text)
    text = f"proceed: no outage or limit is known; the last run of {target} ended {_format_time(last_run_at, now)}"
    return GateResult(target=target, reason=GateReason.CLEAR, last_run_at=last_run_at, text=text)


def _format_time(at: datetime, now: datetime) -> str:
    """A moment (UTC), with its date unless that is today's."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
