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
from monitor.notifications.messages import Message, MessageKind, make_title
from monitor.notifications.texts import describe_cause, display_name

_STATE_CHANGES = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
"""Whatever was said before one of these is history."""
_HISTORY_LABEL = "not delivered until now"
"""The label of the fact that tells what was superseded."""
_OPENING_FACTS = frozenset({"items", "evidence", "statuses", "code", "sample ids", "request ids", "last error"})
"""Facts of an opening that nobody heard of, which its resolution does not repeat."""
_STEP_TEXTS = {MessageKind.OPENED: "opened", MessageKind.RESOLVED: "resolved", MessageKind.ACKNOWLEDGED: "acknowledged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coalesced:
    """What is sent of a chain of messages, and what it stands for."""

    kept: int
    """Position of the message that is sent."""
    superseded: tuple[int, ...]
    """Positions of those that it tells of too; they are not sent."""
    message: Message
    """The message at `kept`, with what was superseded told in it."""


def coalesce(queue: Sequence[Message]) -> Coalesced:
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
    last_change = max((at for at, each in enumerate(queue) if each.kind in _STATE_CHANGES), default=0)
    next_acknowledgement = next(
        (at for at in range(last_change, len(queue)) if queue[at].kind is MessageKind.ACKNOWLEDGED), len(queue)
    )
    kept = max(last_change, next_acknowledgement - 1)
    covered = queue[: kept + 1]
    return Coalesced(
        kept=kept, superseded=tuple(range(kept)), message=_coalesced_message(covered, covered[last_change : kept + 1])
    )


def _coalesced_message(covered: Sequence[Message], tail: Sequence[Message]) -> Message:
    last, kinds = tail[-1], {each.kind for each in tail}
    kind = next((each for each in (MessageKind.OPENED, MessageKind.UPDATED) if each in kinds), last.kind)
    if last.kind is not kind:
        last = replace(last, kind=kind, title=make_title(kind, last.subject), safe_message=tail[0].safe_message)
    return _with_history(last, covered)


def _with_history(message: Message, covered: Sequence[Message]) -> Message:
    """Tells the steps that nobody heard of: only turns and acknowledgements are steps, the rest repeats itself."""
    steps = [each for each in covered if each.kind in _STEP_TEXTS]
    if len(steps) < 2:
        return message
    days = {each.at.date() for each in steps}
    time_format = "%H:%M" if len(days) == 1 else "%Y-%m-%d %H:%M"
    history = ", ".join(f"{_STEP_TEXTS[each.kind]} {each.at:{time_format}}" for each in steps)
    title = f"{message.subject or message.title}: {history}" if message.kind is MessageKind.RESOLVED else message.title
    known = dict(message.facts)
    opening = next((each for each in steps if each.kind is MessageKind.OPENED), steps[0])
    opening_facts = [(label, value) for label, value in opening.facts if label in _OPENING_FACTS and label not in known]
    return replace(message, title=title, facts=((_HISTORY_LABEL, f"{history} UTC"), *message.facts, *opening_facts))


_MAX_NAMED = 20
"""Targets that a merged message names; the rest is a number."""
_MAX_DETAILED = 10
"""Targets of which it tells more than the name."""
_MAX_ACKNOWLEDGED = 10
"""Incidents that one command acknowledges, at the most: it must fit a line."""
_HISTORY_FACT = "not delivered until now"
_REPEATED_FACTS = (
    "since",
    "lasted",
    "items",
    "evidence",
    "code",
    "acknowledged",
    "resolved by",
    "comment",
    "kept back",
    _HISTORY_FACT,
)
"""Facts of each part that the merged message repeats."""
_SEVERITY_ORDER = tuple(Severity)
"""Least urgent first."""


def merge(parts: Sequence[Message]) -> Message:
    """One message for all.

    Args:
        parts: of one cause, kind and environment, oldest first; at least one. A single one is given back as it is.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    subject = f"{_subject_prefix(parts)}: {describe_cause(first.cause)}"
    return replace(
        first,
        incident_id=min(part.incident_id for part in parts),
        target=join_names(_targets(parts), limit=3),
        group=join_names(_unique(part.group for part in parts), limit=3),
        severity=max((part.severity for part in parts), key=_SEVERITY_ORDER.index),
        title=_title(first.kind, subject, parts),
        subject=subject,
        what_to_check=_unique(check for part in parts for check in part.what_to_check),
        facts=_facts(parts),
        commands=_commands(parts),
        opened_at=min(part.opened_at for part in parts),
        at=max(part.at for part in parts),
        resolved_at=max((part.resolved_at for part in parts if part.resolved_at), default=None),
        parts=tuple(parts),
    )


def _title(kind: MessageKind, subject: str, parts: Sequence[Message]) -> str:
    """With the whole story where an end is told of what nobody heard the beginning of."""
    if kind is not MessageKind.RESOLVED or not any(_HISTORY_FACT in dict(part.facts) for part in parts):
        return make_title(kind, subject)
    opened = min(part.opened_at for part in parts)
    resolved = max(part.resolved_at or part.at for part in parts)
    time_format = "%H:%M" if opened.date() == resolved.date() else "%Y-%m-%d %H:%M"
    return f"{subject}: opened {opened:{time_format}}, resolved {resolved:{time_format}}"


def join_names(names: Sequence[str], *, limit: int) -> str:
    """`a, b, c and 197 more`: at most so many by name."""
    more = len(names) - limit
    return f"{', '.join(names[:limit])} and {more} more" if more > 0 else ", ".join(names)


def _subject_prefix(parts: Sequence[Message]) -> str:
    targets = _targets(parts)
    if len(targets) == 1:
        return f"{display_name(targets[0])} ({len(parts)} groups)"
    return (
        f"{len(targets)} targets"
        if all(target == display_name(target) for target in targets)
        else f"{len(targets)} parts"
    )


def _targets(parts: Sequence[Message]) -> tuple[str, ...]:
    return _unique(part.target for part in parts)


def _facts(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    names = [_part_name(part) for part in parts]
    details = [(_part_name(part), _part_details(part)) for part in parts[:_MAX_DETAILED]]
    numbers = join_names([str(part.incident_id) for part in parts], limit=_MAX_NAMED)
    return (
        ("about", join_names(names, limit=_MAX_NAMED)),
        ("incidents", numbers),
        *((name, details_text) for name, details_text in details if details_text),
        ("more", "ingestion-monitor incidents list"),
    )


def _part_name(part: Message) -> str:
    return f"{display_name(part.target)} ({part.group})" if part.group else display_name(part.target)


def _part_details(part: Message) -> str:
    return "; ".join(f"{label} {value}" for label, value in part.facts if label in _REPEATED_FACTS)


def _commands(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    if parts[0].kind is MessageKind.RESOLVED:
        return ()
    silence = ("silence", f"ingestion-monitor silences add --match cause={parts[0].cause.value} --for 4h")
    unacknowledged = [part for part in parts if dict(part.commands).get("acknowledge")]
    if not unacknowledged or len(parts) > _MAX_ACKNOWLEDGED:
        return (silence,)
    numbers = " ".join(str(part.incident_id) for part in unacknowledged)
    return (("acknowledge", f"ingestion-monitor incidents ack {numbers}"), silence)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


_MAX_BATCH = 500
"""Messages in one parcel: a receiver must be able to take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
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
class BatchEntry:
    """A notification that is sent, and those that it tells of too."""

    id: int
    key: str
    message: Message
    """With what was superseded told in it."""
    thread: str | None
    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One parcel: at least one head, oldest first."""

    channel: str
    key: str
    thread: str
    entries: tuple[BatchEntry, ...]
    message: Message


def make_batches(queues: Iterable[Sequence[Pending]], *, threaded: Collection[str]) -> list[Batch]:
    """Packs what can be sent now.

    1. Of each chain, the next message is made of all that it supersedes (`coalesce`).
    2. What was sent together before, and may have arrived, goes together again under the same key, and nothing else
       with it, unless more is known of one of them by now.
    3. All else is merged by channel, environment, cause and kind; on a channel that files by thread, by that as well.

    Args:
        chains: the undelivered notifications of each incident and channel, oldest first; none is empty.
        threaded: names of the channels that file by thread.

    Returns:
        The parcels, the one with the oldest notification first.
    """
    entries = [(queue[0].channel, _entry(queue), _previous_key(queue)) for queue in queues]
    resent: dict[tuple[str, str], list[BatchEntry]] = defaultdict(list)
    groups: dict[_MergeKey, list[BatchEntry]] = defaultdict(list)
    for channel, entry, previous_key in entries:
        if previous_key is not None and not entry.superseded:
            resent[channel, previous_key].append(entry)
        else:
            groups[_merge_key(channel, entry, threaded)].append(entry)
    batches = []
    for (channel, previous_key), members in resent.items():
        if batch_key(entry.key for entry in members) == previous_key:
            batches.append(_make_batch(channel, members))
        else:
            for entry in members:
                groups[_merge_key(channel, entry, threaded)].append(entry)
    for merge_key, members in groups.items():
        in_order = sorted(members, key=lambda entry: entry.id)
        batches += [
            _make_batch(merge_key.channel, in_order[at : at + _MAX_BATCH]) for at in range(0, len(in_order), _MAX_BATCH)
        ]
    return sorted(batches, key=lambda batch: batch.entries[0].id)


def batch_key(keys: Iterable[str]) -> str:
    """The key of a parcel with these notifications: a single one's own, else one that any other set does not have."""
    known = sorted(keys)
    return known[0] if len(known) == 1 else hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _entry(queue: Sequence[Pending]) -> BatchEntry:
    coalesced = coalesce([pending.message for pending in queue])
    kept = queue[coalesced.kept]
    thread = next((each.thread for each in reversed(queue[: coalesced.kept + 1]) if each.thread), None)
    superseded = tuple(queue[at].id for at in coalesced.superseded)
    return BatchEntry(id=kept.id, key=kept.key, message=coalesced.message, thread=thread, superseded=superseded)


def _previous_key(queue: Sequence[Pending]) -> str | None:
    return queue[0].batch


class _MergeKey(NamedTuple):
    """What messages have in common that can be merged."""

    channel: str
    environment: str
    cause: Cause
    kind: MessageKind
    thread: str | None


def _merge_key(channel: str, entry: BatchEntry, threaded: Collection[str]) -> _MergeKey:
    return _MergeKey(
        channel=channel,
        environment=entry.message.environment,
        cause=entry.message.cause,
        kind=entry.message.kind,
        thread=entry.thread if channel in threaded else None,
    )


def _make_batch(channel: str, members: Sequence[BatchEntry]) -> Batch:
    entries = sorted(members, key=lambda entry: entry.id)
    key = batch_key(entry.key for entry in entries)
    in_threads = tuple(replace(entry, thread=entry.thread or key) for entry in entries)
    thread = in_threads[0].thread or key
    message = merge([replace(entry.message, thread=entry.thread) for entry in in_threads])
    if message.kind is MessageKind.OPENED and len(in_threads) > 1:
        message = replace(message, thread=thread)
    return Batch(channel=channel, key=key, thread=thread, entries=in_threads, message=message)
