"""Silences as text and as JSON values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from monitor.incidents.asking import matches_everything, written
from monitor.incidents.matching import attributes_of, matches
from monitor.incidents.render import age
from monitor.incidents.words import in_words
from monitor.model import Incident, Silence
from monitor.report.columns import align, moment
from monitor.report.figures import wrapped

__all__ = ["matched", "silence_json", "silence_text", "silences_text"]

_NAMED = 10


def matched(silence: Silence, incidents: Sequence[Incident]) -> list[Incident]:
    """Of these incidents those that a silence matches, whether it is in force or not."""
    return [each for each in incidents if matches(silence.matchers, attributes_of(each))]


def silence_text(silence: Silence, *, incidents: Sequence[Incident], now: datetime, remarks: Sequence[str] = ()) -> str:
    """A new silence, for the person who made it.

    Args:
        silence: as it is stored.
        incidents: the open ones.
        now: when (aware).
        remarks: what else there is to know about it, as sentences.
    """
    begins = "now" if silence.in_force(now) else f"{moment(silence.starts_at)} UTC"
    lasts = age(silence.ends_at - max(now, silence.starts_at))
    lines = [
        f"Silence {silence.id}: {written(silence.matchers)}",
        f"  from       {begins}",
        f"  until      {moment(silence.ends_at)} UTC ({lasts}), by {silence.author}",
    ]
    found = matched(silence, incidents)
    lines += [f"  matches    {_named(each)}" for each in found[:_NAMED]] or ["  matches    no open incident"]
    lines += [f"             and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    if matches_everything(silence.matchers):
        remarks = (*remarks, "It matches everything: nobody hears of anything until it ends.")
    remarks = (*remarks, f"What is open when it ends is told then; `silences expire {silence.id}` ends it.")
    return "\n".join([*lines, *(row for remark in remarks for row in wrapped(remark, indent=0))])


def _named(incident: Incident) -> str:
    return f"#{incident.id} {incident.target}: {in_words(incident.cause, incident.member_count)}"


def silences_text(silences: Sequence[Silence], *, incidents: Sequence[Incident], now: datetime) -> str:
    """A block of lines per silence, newest first, with the open incidents that those in force match."""
    rows = [
        (
            each.id,
            _state(each, now),
            moment(each.starts_at),
            moment(each.ends_at),
            _matching(each, incidents, now),
            each.author,
            written(each.matchers) + (f"  ({each.comment})" if each.comment else ""),
        )
        for each in silences
    ]
    return align(("ID", "STATE", "FROM (UTC)", "UNTIL (UTC)", "OPEN NOW", "BY", "MATCHES"), rows)


def _matching(silence: Silence, incidents: Sequence[Incident], now: datetime) -> str | None:
    if not silence.in_force(now):
        return None
    return " ".join(f"#{each.id}" for each in matched(silence, incidents)[:_NAMED]) or None


def _state(silence: Silence, now: datetime) -> str:
    if silence.ends_at <= now:
        return "ended" if silence.expired_by else "over"
    return "in force" if silence.in_force(now) else "to come"


def silence_json(silence: Silence, *, incidents: Sequence[Incident], now: datetime) -> dict[str, Any]:
    """One silence as JSON values; `matches` are the numbers of the open incidents that it matches."""
    return {
        "id": silence.id,
        "state": _state(silence, now).replace(" ", "_"),
        "matchers": {name: list(patterns) for name, patterns in silence.matchers.items()},
        "starts_at": silence.starts_at.isoformat(),
        "ends_at": silence.ends_at.isoformat(),
        "comment": silence.comment,
        "author": silence.author,
        "expired_by": silence.expired_by,
        "matches": [each.id for each in matched(silence, incidents)],
    }
