"""What of the undelivered messages is sent together, and under which key. Pure.

A parcel is one message to one channel: of one incident, or of several of one cause and kind. Its key is the same on
every attempt, as long as it is not certain that the receiver never took it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from monitor.model import Cause, Severity
from monitor.notifications.messages import Message, MessageKind, titled
from monitor.notifications.texts import in_words, spoken

_TURNS = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
"""Whatever was said before one of these is history."""
_SINCE = "not delivered until now"
"""The label of the fact that tells what was superseded."""
_SEEN = frozenset({"items", "evidence", "statuses", "code", "sample ids", "request ids", "last error"})
"""Facts of an opening that nobody heard of, which its resolution does not repeat."""
_STEPS = {MessageKind.OPENED: "opened", MessageKind.RESOLVED: "resolved", MessageKind.ACKNOWLEDGED: "acknowledged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condensed:
    """What is sent of a chain of messages, and what it stands for."""

    kept: int
    """Position of the message that is sent."""
    superseded: tuple[int, ...]
    """Positions of those that it tells of too; they are not sent."""
    message: Message
    """The message at `kept`, with what was superseded told in it."""


def condense(chain: Sequence[Message]) -> Condensed:
    """The next message to send of those that are undelivered.

    1. The last opening or resolution supersedes all before it: whoever never heard of the opening hears of both.
    2. Updates and reminders after an undelivered opening become the opening, with what is known by now; among
       themselves the last one stands, as an update if one of them was.
    3. An acknowledgement is sent by itself, after what came before it: some receivers must first know the alert.

    Args:
        chain: the undelivered messages about one incident, oldest first, at least one.

    Returns:
        What to send first. Messages at later positions than `kept` wait for it.
    """
    turn = max((at for at, each in enumerate(chain) if each.kind in _TURNS), default=0)
    barrier = next((at for at in range(turn, len(chain)) if chain[at].kind is MessageKind.ACKNOWLEDGED), len(chain))
    kept = max(turn, barrier - 1)
    told = chain[: kept + 1]
    return Condensed(kept=kept, superseded=tuple(range(kept)), message=_told(told, told[turn : kept + 1]))


def _told(told: Sequence[Message], tail: Sequence[Message]) -> Message:
    last, kinds = tail[-1], {each.kind for each in tail}
    kind = next((each for each in (MessageKind.OPENED, MessageKind.UPDATED) if each in kinds), last.kind)
    if last.kind is not kind:
        last = replace(last, kind=kind, title=titled(kind, last.subject), safe_message=tail[0].safe_message)
    return _with_story(last, told)


def _with_story(message: Message, told: Sequence[Message]) -> Message:
    """Tells the steps that nobody heard of: only turns and acknowledgements are steps, the rest repeats itself."""
    steps = [each for each in told if each.kind in _STEPS]
    if len(steps) < 2:
        return message
    days = {each.at.date() for each in steps}
    form = "%H:%M" if len(days) == 1 else "%Y-%m-%d %H:%M"
    story = ", ".join(f"{_STEPS[each.kind]} {each.at:{form}}" for each in steps)
    title = f"{message.subject or message.title}: {story}" if message.kind is MessageKind.RESOLVED else message.title
    known = dict(message.facts)
    opening = next((each for each in steps if each.kind is MessageKind.OPENED), steps[0])
    seen = [(label, value) for label, value in opening.facts if label in _SEEN and label not in known]
    return replace(message, title=title, facts=((_SINCE, f"{story} UTC"), *message.facts, *seen))


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


_MOST = 500
"""Messages in one parcel: a receiver must be able to take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One undelivered notification."""

    id: int
    key: str
    channel: str
    message: Message
    thread: str | None = None
    """What its receiver files it under, as far as that is known."""
    batch: str | None = None
    """The key of the parcel in which it was sent before, perhaps not in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A notification that is sent, and those that it tells of too."""

    id: int
    key: str
    message: Message
    """With what was superseded told in it."""
    thread: str | None
    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One parcel: at least one head, oldest first."""

    channel: str
    key: str
    thread: str
    heads: tuple[Head, ...]
    message: Message


def pack(chains: Iterable[Sequence[Waiting]], *, threaded: Collection[str]) -> list[Packed]:
    """Packs what can be sent now.

    1. Of each chain, the next message is made of all that it supersedes (`condense`).
    2. What was sent together before, and may have arrived, goes together again under the same key, and nothing else
       with it, unless more is known of one of them by now.
    3. All else is merged by channel, environment, cause and kind; on a channel that files by thread, by that as well.

    Args:
        chains: the undelivered notifications of each incident and channel, oldest first; none is empty.
        threaded: names of the channels that file by thread.

    Returns:
        The parcels, the one with the oldest notification first.
    """
    heads = [(chain[0].channel, _head(chain), _batch(chain)) for chain in chains]
    again: dict[tuple[str, str], list[Head]] = defaultdict(list)
    groups: dict[_Likeness, list[Head]] = defaultdict(list)
    for channel, head, batch in heads:
        if batch is not None and not head.superseded:
            again[channel, batch].append(head)
        else:
            groups[_alike(channel, head, threaded)].append(head)
    parcels = []
    for (channel, batch), members in again.items():
        if key_of(head.key for head in members) == batch:
            parcels.append(_parcel(channel, members))
        else:
            for head in members:
                groups[_alike(channel, head, threaded)].append(head)
    for alike, members in groups.items():
        in_order = sorted(members, key=lambda head: head.id)
        parcels += [_parcel(alike.channel, in_order[at : at + _MOST]) for at in range(0, len(in_order), _MOST)]
    return sorted(parcels, key=lambda parcel: parcel.heads[0].id)


def key_of(keys: Iterable[str]) -> str:
    """The key of a parcel with these notifications: a single one's own, else one that any other set does not have."""
    known = sorted(keys)
    return known[0] if len(known) == 1 else hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _head(chain: Sequence[Waiting]) -> Head:
    told = condense([waiting.message for waiting in chain])
    kept = chain[told.kept]
    thread = next((each.thread for each in reversed(chain[: told.kept + 1]) if each.thread), None)
    superseded = tuple(chain[at].id for at in told.superseded)
    return Head(id=kept.id, key=kept.key, message=told.message, thread=thread, superseded=superseded)


def _batch(chain: Sequence[Waiting]) -> str | None:
    return chain[0].batch


class _Likeness(NamedTuple):
    """What messages have in common that can be merged."""

    channel: str
    environment: str
    cause: Cause
    kind: MessageKind
    thread: str | None


def _alike(channel: str, head: Head, threaded: Collection[str]) -> _Likeness:
    return _Likeness(
        channel=channel,
        environment=head.message.environment,
        cause=head.message.cause,
        kind=head.message.kind,
        thread=head.thread if channel in threaded else None,
    )


def _parcel(channel: str, members: Sequence[Head]) -> Packed:
    heads = sorted(members, key=lambda head: head.id)
    key = key_of(head.key for head in heads)
    filed = tuple(replace(head, thread=head.thread or key) for head in heads)
    thread = filed[0].thread or key
    message = merge([replace(head.message, thread=head.thread) for head in filed])
    if message.kind is MessageKind.OPENED and len(filed) > 1:
        message = replace(message, thread=thread)
    return Packed(channel=channel, key=key, thread=thread, heads=filed, message=message)
