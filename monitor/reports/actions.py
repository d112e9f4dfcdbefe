"""Operator actions with the sentences that say what was done: for the commands and the page, in one transaction of the
caller's. Whether somebody may act is not decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.errors import ConfigError
from monitor.incidents import acknowledge as operator_actions
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import REOPEN_WITHIN, OperatorAction
from monitor.incidents.silences import describe_acknowledgement, matchers_for
from monitor.model import ITEM_CAUSES, Incident, Silence
from monitor.model.durations import bounded_duration
from monitor.reports.formatting import format_time

MIN_SILENCE, MAX_SILENCE = timedelta(seconds=1), timedelta(days=3660)
_MAX_QUOTED = 100
"""Longer than any duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an action did, in sentences."""

    sentences: Sequence[str]
    done_before_by: str | None = None
    """Who had done the same before, so that nothing was changed."""


def acknowledge(conn: Connection, incident_id: int, action: OperatorAction, *, now: datetime) -> Done | None:
    """Acknowledges an incident. None if there is no such incident. Raises ConfigError if it is resolved."""
    handled = operator_actions.acknowledge(conn, incident_id, operator_action=action, now=now)
    if handled is None:
        return None
    incident = handled.incident
    if handled.changed:
        return Done(
            sentences=(
                f"Incident {incident.id} is acknowledged by {action.by}: {_recipients_text(incident)}.",
                "No more reminders are sent; new documents and the end of the incident still are.",
            )
        )
    if earlier := describe_acknowledgement(incident):
        said = f"Incident {incident.id} was {earlier}. Nothing was changed."
        return Done(sentences=(said,), done_before_by=incident.acknowledged_by or "")
    raise _already_resolved(incident, "there is nothing to acknowledge")


def resolve(conn: Connection, incident_id: int, action: OperatorAction, *, now: datetime) -> Done | None:
    """Resolves an incident by hand. None if there is no such incident. Raises ConfigError if it is resolved already."""
    handled = operator_actions.resolve(conn, incident_id, operator_action=action, now=now)
    if handled is None:
        return None
    incident = handled.incident
    if not handled.changed:
        raise _already_resolved(incident, "there is nothing to resolve")
    minutes = int(REOPEN_WITHIN.total_seconds() // 60)
    sentences = [
        f"Incident {incident.id} is resolved by {action.by}: {_recipients_text(incident)}.",
        f"Further evidence reopens it within {minutes} minutes, and opens a new incident after that.",
    ]
    if incident.cause in ITEM_CAUSES:
        sentences.append("For documents that are as they should be: `ingestion-monitor items ignore ID --reason …`.")
    return Done(sentences=sentences)


def silence(
    conn: Connection, incident_id: int, action: OperatorAction, *, lasting: timedelta, now: datetime
) -> Done | None:
    """Silences an incident, and later ones of its target, cause and group, from now. None if there is no such one."""
    incident = incident_store.find(conn, incident_id)
    if incident is None:
        return None
    ends_at = now + lasting
    add_silences(
        conn, [incident], {}, starts_at=now, ends_at=ends_at, comment=action.comment, author=action.by, now=now
    )
    return Done(sentences=(f"Incident {incident.id} is silenced by {action.by} until {format_time(ends_at)} UTC.",))


def add_silences(
    conn: Connection,
    incidents: Sequence[Incident],
    matchers: Mapping[str, tuple[str, ...]],
    *,
    starts_at: datetime,
    ends_at: datetime,
    comment: str,
    author: str,
    now: datetime,
) -> list[Silence]:
    """One silence for each cause and group of these incidents, or one for the matchers alone without incidents."""
    return [
        silence_store.add(
            conn,
            matchers={**each, **matchers},
            starts_at=starts_at,
            ends_at=ends_at,
            comment=comment,
            author=author,
            now=now,
        )
        for each in (matchers_for(incidents) or [{}])
    ]


def parse_silence_duration(text: str) -> timedelta:
    """How long a silence lasts, from `4h`. Raises ConfigError if it can't be read or is out of range."""
    given = text.strip()[:_MAX_QUOTED]
    try:
        return bounded_duration(given, minimum=MIN_SILENCE, maximum=MAX_SILENCE, examples='"30m" or "1d12h"')
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def _already_resolved(incident: Incident, consequence: str) -> ConfigError:
    since = format_time(incident.resolved_at)
    return ConfigError([f"incident {incident.id} is resolved, since {since} UTC: {consequence}"])


def _recipients_text(incident: Incident) -> str:
    if not incident.channels:
        return "no channel received its opening, so none is notified"
    return f"{', '.join(incident.channels)} will be notified with the next delivery"
