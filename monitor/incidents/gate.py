"""Whether bulk work on a target may proceed, by stored incidents and the last run. Pure. It asks no API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.model import Cause, rank
from monitor.model.schedule import DueTimes
from monitor.notifications.texts import describe_cause

CLOSING_CAUSES = frozenset(
    {Cause.SPENDING_LIMIT, Cause.UNAUTHORIZED, Cause.FORBIDDEN, Cause.WRONG_SCOPE, Cause.RATE_LIMITED, Cause.OUTAGE}
)
"""Causes that more requests make worse, or that make requests useless. `forbidden` only if it concerns the target."""


class GateReason(StrEnum):
    """Why the gate is open or closed."""

    CLEAR = "clear"
    """The last run is recent, and no incident closes the gate."""
    INCIDENT = "incident"
    STALE = "stale"
    """No run ended within two intervals, so the state of the API is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosingIncident:
    """An unresolved incident, acknowledged and silenced ones included."""

    cause: Cause
    incident_id: int
    since: datetime
    accepted: bool | None = None
    """Whether the API accepted anything in the run that opened it; None: not known."""

    def closes(self, last_abort: Cause | None) -> bool:
        """Whether it closes the gate; a `forbidden` about single items does not."""
        if self.cause is Cause.FORBIDDEN:
            return self.accepted is False or last_abort is Cause.FORBIDDEN
        return self.cause in CLOSING_CAUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Proceed or pause, and why."""

    target: str
    reason: GateReason
    by: tuple[ClosingIncident, ...] = ()
    """Highest-ranked cause first."""
    since: datetime | None = None
    """Since when it is closed; None if it is open, or before the first run."""
    last_run_at: datetime | None = None
    """End of the last run that asked the API; None before the first."""
    text: str = ""

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
    last_abort: Cause | None = None,
) -> GateResult:
    """Whether bulk work on a target may proceed, given its incidents and the last run that asked the API.

    `last_abort` is the cause that stopped that run.
    """
    by = tuple(sorted((each for each in unresolved if each.closes(last_abort)), key=lambda each: rank(each.cause)))
    if by:
        first = by[0]
        text = (
            f"pause: {first.cause.value} since {_format_time(first.since, now)} (incident {first.incident_id}): "
            f"{describe_cause(first.cause)}"
        )
        return GateResult(
            target=target, reason=GateReason.INCIDENT, by=by, since=first.since, last_run_at=last_run_at, text=text
        )
    if last_run_at is None:
        text = f"pause: stale: no run of {target} has asked the API yet"
        return GateResult(target=target, reason=GateReason.STALE, text=text)
    overdue_at = due_times.overdue_at(last_run_at)
    if overdue_at is not None and now >= overdue_at:
        text = (
            f"pause: stale since {_format_time(overdue_at, now)}: the last run of {target} that asked the API ended "
            f"{_format_time(last_run_at, now)}, more than two intervals ago"
        )
        return GateResult(target=target, reason=GateReason.STALE, since=overdue_at, last_run_at=last_run_at, text=text)
    ended = _format_time(last_run_at, now)
    text = f"proceed: no outage, limit or refusal is known; the last run of {target} ended {ended}"
    return GateResult(target=target, reason=GateReason.CLEAR, last_run_at=last_run_at, text=text)


def _format_time(at: datetime, now: datetime) -> str:
    """A time in UTC, with its date unless that is today."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
