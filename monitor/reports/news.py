"""What `check --quiet` prints of a run: incidents that opened, reopened or resolved, and a run cut short.

An acknowledged or silenced incident is no news, and neither is what a known incident explains. `ChannelNews` alone
reads the database: what a delivery changed is in no run's report.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from monitor.database.engine import reading
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import OPENINGS, Action
from monitor.incidents.silences import matching_silence
from monitor.model import Cause, Incident, Reason, RunStatus, Silence
from monitor.notifications.texts import describe_cause
from monitor.reports import changes
from monitor.reports.runs import changed_line, headline, open_incident_lines
from monitor.runs.report import RunReport
from monitor.runs.rollup import health_line

_MAX_CHANNEL_NEWS = 50
_TURNS = OPENINGS | {Action.RESOLVE}


def is_muted(incident: Incident, silences: Sequence[Silence]) -> bool:
    """Whether somebody acknowledged the incident, or an active silence matches it."""
    return incident.acknowledged_at is not None or matching_silence(incident, silences) is not None


def incomplete_is_news(report: RunReport) -> bool:
    """Whether a run that is not complete is news: no incident that was open before it explains it."""
    if report.status is RunStatus.COMPLETE:
        return False
    if report.abort_reason == Reason.INTERRUPTED:
        return True
    opened = {change.incident.id for change in report.evaluation.changes if change.decision.action in OPENINGS}
    known = {each.cause for each in report.open_incidents if each.id not in opened}
    seen = {piece.cause for piece in report.evaluation.evidence if piece.inhibited_by is None}
    explaining = seen | {each for each in Cause if each.value == report.abort_reason}
    return not known & explaining


def news_text(report: RunReport, *, now: datetime) -> str:
    """The news of a run as text; empty without any."""
    turns = [
        change
        for change in report.evaluation.changes
        if change.decision.action in _TURNS and not is_muted(change.incident, report.silences)
    ]
    if not turns and not incomplete_is_news(report):
        return ""
    lines = [headline(report), *([health_line(report.snapshot)] if report.snapshot else [])]
    opened = {change.incident.id for change in turns if change.decision.action in OPENINGS}
    lines += ["Incidents:", *map(changed_line, turns)] if turns else []
    for incident in report.open_incidents:
        if incident.id in opened:
            lines += open_incident_lines(incident, now, report.silences)
    return "\n".join(lines)


class ChannelNews:
    """Incidents about channels that change while a command delivers."""

    def __init__(self, engine: Engine, *, targets: Sequence[str]) -> None:
        """Notes what is open now; `targets` are those that the command checks. Raises StoreError."""
        self._engine, self._targets = engine, targets
        with reading(engine) as conn:
            self._event = changes.last_event(conn)
            self._known = incident_store.any_open(conn, cause=Cause.CHANNEL_FAILING)

    def lines(self, *, now: datetime, unreachable: bool) -> list[str]:
        """What changed since. If no channel could be reached (`unreachable`), a line says so, unless that is known.

        Raises StoreError.
        """
        with reading(self._engine) as conn:
            _, found = changes.incident_changes(
                conn, not_of=self._targets, after=self._event, since=None, limit=_MAX_CHANNEL_NEWS
            )
            active = silence_store.active(conn, now=now)
            changed = [(change, incident_store.find(conn, change.id)) for change in found]
        lines = [
            _channel_line(incident, change.happened)
            for change, incident in changed
            if incident is not None and incident.cause is Cause.CHANNEL_FAILING and not is_muted(incident, active)
        ]
        return lines or (["No channel could be reached."] if unreachable and not self._known else [])


def _channel_line(incident: Incident, happened: Sequence[str]) -> str:
    words = describe_cause(incident.cause, incident.member_count)
    return f"#{incident.id} {incident.cause.value} on {incident.target} {' and '.join(happened)}: {words}"
