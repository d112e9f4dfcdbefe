"""Several messages of one cause and kind as one: two hundred targets behind one revoked key are one message. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from monitor.incidents.message import Message, MessageKind
from monitor.incidents.render import titled
from monitor.incidents.words import in_words, spoken
from monitor.model import Severity

__all__ = ["listed", "merge"]

_NAMED = 20
"""Targets that a merged message names; the rest is a number."""
_DETAILED = 10
"""Targets of which it tells more than the name."""
_ACKNOWLEDGED = 10
"""Incidents that one command acknowledges, at the most: it must fit a line."""
_STORY = "not delivered until now"
_TOLD = ("since", "lasted", "items", "evidence", "code", "acknowledged", "resolved by", "comment", "kept back", _STORY)
"""Facts of each part that the merged message repeats."""
_URGENCY = tuple(Severity)
"""Least urgent first."""


def merge(parts: Sequence[Message]) -> Message:
    """One message for all.

    Args:
        parts: of one cause, kind and environment, oldest first; at least one. A single one is given back as it is.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    subject = f"{_what(parts)}: {in_words(first.cause)}"
    return replace(
        first,
        incident_id=min(part.incident_id for part in parts),
        target=listed(_targets(parts), most=3),
        group=listed(_distinct(part.group for part in parts), most=3),
        severity=max((part.severity for part in parts), key=_URGENCY.index),
        title=_title(first.kind, subject, parts),
        subject=subject,
        what_to_check=_distinct(check for part in parts for check in part.what_to_check),
        facts=_facts(parts),
        commands=_commands(parts),
        opened_at=min(part.opened_at for part in parts),
        at=max(part.at for part in parts),
        resolved_at=max((part.resolved_at for part in parts if part.resolved_at), default=None),
        parts=tuple(parts),
    )


def _title(kind: MessageKind, subject: str, parts: Sequence[Message]) -> str:
    """With the whole story where an end is told of what nobody heard the beginning of."""
    if kind is not MessageKind.RESOLVED or not any(_STORY in dict(part.facts) for part in parts):
        return titled(kind, subject)
    began = min(part.opened_at for part in parts)
    ended = max(part.resolved_at or part.at for part in parts)
    form = "%H:%M" if began.date() == ended.date() else "%Y-%m-%d %H:%M"
    return f"{subject}: opened {began:{form}}, resolved {ended:{form}}"


def listed(names: Sequence[str], *, most: int) -> str:
    """`a, b, c and 197 more`: at most so many by name."""
    more = len(names) - most
    return f"{', '.join(names[:most])} and {more} more" if more > 0 else ", ".join(names)


def _what(parts: Sequence[Message]) -> str:
    targets = _targets(parts)
    if len(targets) == 1:
        return f"{spoken(targets[0])} ({len(parts)} groups)"
    return f"{len(targets)} targets" if all(target == spoken(target) for target in targets) else f"{len(targets)} parts"


def _targets(parts: Sequence[Message]) -> tuple[str, ...]:
    return _distinct(part.target for part in parts)


def _facts(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    names = [_name(part) for part in parts]
    details = [(_name(part), _detail(part)) for part in parts[:_DETAILED]]
    numbers = listed([str(part.incident_id) for part in parts], most=_NAMED)
    return (
        ("about", listed(names, most=_NAMED)),
        ("incidents", numbers),
        *((name, said) for name, said in details if said),
        ("more", "ingestion-monitor incidents list"),
    )


def _name(part: Message) -> str:
    return f"{spoken(part.target)} ({part.group})" if part.group else spoken(part.target)


def _detail(part: Message) -> str:
    return "; ".join(f"{label} {value}" for label, value in part.facts if label in _TOLD)


def _commands(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    if parts[0].kind is MessageKind.RESOLVED:
        return ()
    hush = ("silence", f"ingestion-monitor silences add --match cause={parts[0].cause.value} --for 4h")
    unclaimed = [part for part in parts if dict(part.commands).get("acknowledge")]
    if not unclaimed or len(parts) > _ACKNOWLEDGED:
        return (hush,)
    numbers = " ".join(str(part.incident_id) for part in unclaimed)
    return (("acknowledge", f"ingestion-monitor incidents ack {numbers}"), hush)


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
