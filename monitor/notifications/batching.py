"""Makes batches of undelivered notifications. Pure.

A batch is one message to one channel, about one incident or about several with the same cause and kind. Its key stays
the same on every attempt, unless it is certain that the receiver did not accept it.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from monitor.model import Cause, Severity
from monitor.notifications.messages import SILENCED_LABEL, Message, MessageKind, make_title
from monitor.notifications.texts import describe_cause, describe_first_look, display_name

_STATE_CHANGES = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
"""They supersede every earlier message of the incident."""
_HISTORY_LABEL = "not delivered until now"
"""The label of the fact that lists superseded messages."""
_OPENING_FACTS = frozenset({"items", "evidence", "statuses", "code", "sample ids", "request ids", "last error"})
"""Facts of a superseded opening that its resolution takes over."""
_STEP_TEXTS = {MessageKind.OPENED: "opened", MessageKind.RESOLVED: "resolved", MessageKind.ACKNOWLEDGED: "acknowledged"}


def coalesce(queue: Sequence[Message]) -> tuple[int, Message]:
    """The next message to send of an incident's undelivered ones (oldest first, at least one): its position, and the
    message with the content of all before it, which it supersedes.

    0. What some recipients have already, and others not yet, counts as delivered once there is a later message.
    1. The last opening or resolution supersedes all messages before it and lists them.
    2. Updates and reminders after an undelivered opening become the opening, with the present facts. Without an
       opening, the last of them is sent, as an update if one of them is an update.
    3. An acknowledgement is sent by itself, after the messages before it: some receivers must know the alert first.
    """
    first = next((at for at, each in enumerate(queue) if not each.recipients), 0)
    position, message = _coalesce_undelivered(queue[first:])
    return first + position, message


def _coalesce_undelivered(queue: Sequence[Message]) -> tuple[int, Message]:
    last_change = max((at for at, each in enumerate(queue) if each.kind in _STATE_CHANGES), default=0)
    next_acknowledgement = next(
        (at for at in range(last_change, len(queue)) if queue[at].kind is MessageKind.ACKNOWLEDGED), len(queue)
    )
    kept = max(last_change, next_acknowledgement - 1)
    covered = queue[: kept + 1]
    return kept, _coalesced_message(covered, covered[last_change:])


def _coalesced_message(covered: Sequence[Message], tail: Sequence[Message]) -> Message:
    last, kinds = tail[-1], {each.kind for each in tail}
    kind = next((each for each in (MessageKind.OPENED, MessageKind.UPDATED) if each in kinds), last.kind)
    if last.kind is not kind:
        last = replace(
            last,
            kind=kind,
            title=make_title(kind, last.subject, cause=last.cause),
            safe_message=tail[0].safe_message,
            first_look=tail[0].first_look,
        )
    return _with_history(last, covered)


def _with_history(message: Message, covered: Sequence[Message]) -> Message:
    """The message with the superseded openings, resolutions and acknowledgements; updates and reminders add nothing."""
    steps = [each for each in covered if each.kind in _STEP_TEXTS]
    if len(steps) < 2:
        return message
    time_format = _time_format(each.at for each in steps)
    history = ", ".join(f"{_STEP_TEXTS[each.kind]} {each.at:{time_format}}" for each in steps)
    title = f"{message.subject or message.title}: {history}" if message.kind is MessageKind.RESOLVED else message.title
    known = dict(message.facts)
    opening = next((each for each in steps if each.kind is MessageKind.OPENED), steps[0])
    opening_facts = [(label, value) for label, value in opening.facts if label in _OPENING_FACTS and label not in known]
    return replace(message, title=title, facts=((_HISTORY_LABEL, f"{history} UTC"), *message.facts, *opening_facts))


def _time_format(times: Iterable[datetime]) -> str:
    return "%H:%M" if len({each.date() for each in times}) == 1 else "%Y-%m-%d %H:%M"


_MAX_NAMED = 20
"""Targets that a merged message names; the rest is a number."""
_MAX_DETAILED = 10
"""Targets whose facts a merged message repeats."""
_MAX_ACKNOWLEDGED = 10
"""Incidents in one `ack` command, which must fit on a line."""
_MAX_COMMAND = 1500
"""Characters of a command: Slack cuts a block after 3,000."""
_REPEATED_FACTS = (
    "since", "duration", "items", "trend", "evidence", "code", "acknowledged", "resolved by", "comment", SILENCED_LABEL,
    _HISTORY_LABEL,
)  # fmt: skip
_SEVERITY_ORDER = tuple(Severity)
"""Least urgent first."""


def merge(parts: Sequence[Message]) -> Message:
    """Merges messages of one kind and environment (oldest first, at least one); a single one is unchanged.

    They have one cause, or one target, whose first look they are.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    by_cause = _items_by_cause(parts)
    what = describe_cause(first.cause) if len(by_cause) == 1 else describe_first_look(by_cause)
    prefix = _subject_prefix(parts) if len(by_cause) == 1 else display_name(first.target)
    subject = f"{prefix}: {what}"
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
        items=sum(part.items for part in parts),
        parts=tuple(parts),
    )


def _items_by_cause(parts: Sequence[Message]) -> dict[Cause, int]:
    found: dict[Cause, int] = {}
    for part in parts:
        found[part.cause] = found.get(part.cause, 0) + part.items
    return found


def _title(kind: MessageKind, subject: str, parts: Sequence[Message]) -> str:
    """The title; of resolutions whose openings were not delivered, with both times."""
    if kind is not MessageKind.RESOLVED or not any(_HISTORY_LABEL in dict(part.facts) for part in parts):
        return make_title(kind, subject, cause=parts[0].cause)
    opened = min(part.opened_at for part in parts)
    resolved = max(part.resolved_at or part.at for part in parts)
    time_format = _time_format((opened, resolved))
    return f"{subject}: opened {opened:{time_format}}, resolved {resolved:{time_format}}"


def join_names(names: Sequence[str], *, limit: int) -> str:
    """`a, b, c and 197 more`, with at most `limit` names."""
    more = len(names) - limit
    return f"{', '.join(names[:limit])} and {more} more" if more > 0 else ", ".join(names)


def _subject_prefix(parts: Sequence[Message]) -> str:
    targets = _targets(parts)
    if len(targets) == 1:
        return f"{display_name(targets[0])} ({len(parts)} groups)"
    return f"{len(targets)} {'targets' if all(each == display_name(each) for each in targets) else 'parts'}"


def _targets(parts: Sequence[Message]) -> tuple[str, ...]:
    return _unique(part.target for part in parts)


def _facts(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    one_cause = len(_items_by_cause(parts)) == 1
    names = [_part_name(part) if one_cause else _look_name(part) for part in parts]
    details = zip(names, map(_part_details, parts[:_MAX_DETAILED]), strict=False)
    return (
        ("affected", join_names(names, limit=_MAX_NAMED)),
        ("incidents", join_names([str(part.incident_id) for part in parts], limit=_MAX_NAMED)),
        *((name, details_text) for name, details_text in details if details_text),
        ("details", "ingestion-monitor incidents list"),
    )


def _part_name(part: Message) -> str:
    return f"{display_name(part.target)} ({part.group})" if part.group else display_name(part.target)


def _look_name(part: Message) -> str:
    """A part of a first look, which is about one target."""
    return f"{part.cause.value} ({part.group})" if part.group else part.cause.value


def _part_details(part: Message) -> str:
    return "; ".join(f"{label} {value}" for label, value in part.facts if label in _REPEATED_FACTS)


def _commands(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    if parts[0].kind is MessageKind.RESOLVED:
        return ()
    silences = _silence_commands(parts)
    unacknowledged = [part for part in parts if dict(part.commands).get("acknowledge")]
    if not unacknowledged or len(parts) > _MAX_ACKNOWLEDGED:
        return silences
    numbers = " ".join(str(part.incident_id) for part in unacknowledged)
    return (("acknowledge", f"ingestion-monitor incidents ack {numbers}"), *silences)


def _silence_commands(parts: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """The command that silences exactly these causes, targets and groups; none if it would be too long to copy.

    By their names if those are short and plain, else by the incidents' numbers. `--for` comes last: without it, a
    command that a receiver cut is refused.
    """
    numbers = f"--incident {format_numbers([part.incident_id for part in parts])}"
    for options in (_named(parts), numbers):
        command = f"ingestion-monitor silences add {options} --for 4h"
        if options and len(command) <= _MAX_COMMAND:
            return (("silence", command),)
    return ()


_PLAIN = re.compile(r"[A-Za-z0-9._:-]+")
"""Names that neither a shell nor a pattern nor a channel changes."""


def _named(parts: Sequence[Message]) -> str:
    """Options that match exactly these parts by name; empty if names can't say it."""
    keys = dict.fromkeys((part.cause.value, part.target, part.group) for part in parts)
    causes, targets, groups = (dict.fromkeys(each) for each in zip(*keys, strict=True))
    if not all(_PLAIN.fullmatch(name) for name in (*causes, *targets, *groups) if name):
        return ""
    # a silence matches every combination of its causes, targets and groups
    mixed = "" in groups and len(groups) > 1
    if mixed or len(keys) != len(causes) * len(targets) * len(groups):
        return ""
    named = (("cause", causes), ("target", targets), ("group", groups))
    return " ".join(f"--match {name}={value}" for name, values in named for value in values if value)


def format_numbers(numbers: Iterable[int]) -> str:
    """Numbers in ascending order, three or more in a row as a range: `3,7-12,20`."""
    found, texts = sorted(set(numbers)), list[str]()
    while found:
        length = next((n for n, each in enumerate(found) if each != found[0] + n), len(found))
        row, found = found[:length], found[length:]
        texts += [f"{row[0]}-{row[-1]}"] if length > 2 else map(str, row)
    return ",".join(texts)


def parse_numbers(text: str, *, at_most: int) -> list[int]:
    """Reads `format_numbers`, or a single number. Raises ValueError if it is none of it, or more than `at_most`."""
    found: list[int] = []
    for piece in text.split(","):
        first, dash, last = (each.strip() for each in piece.partition("-"))
        if not all(each.isascii() and each.isdecimal() and len(each) < 19 for each in (first, last if dash else "1")):
            raise ValueError("not a number or range")
        begin, end = int(first), int(last) if dash else int(first)
        if begin < 1 or end < begin or len(found) + end - begin >= at_most:
            raise ValueError("a range that is empty or too long")
        found += range(begin, end + 1)
    return found


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


_MAX_BATCH = 500
"""Notifications in one batch, so that its payload is not too large for a receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One undelivered notification."""

    id: int
    key: str
    channel: str
    message: Message
    thread: str | None = None
    """The thread of its incident, if an opening was claimed before."""
    batch: str | None = None
    """The key of the batch in which it was sent before, if that may have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """A notification that is sent, and those that it supersedes."""

    id: int
    key: str
    message: Message
    """With the content of the superseded ones."""
    thread: str | None
    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One message to one channel."""

    channel: str
    key: str
    thread: str
    entries: tuple[BatchEntry, ...]
    """At least one, oldest first."""
    message: Message


_MergeKey = tuple[str, str, Cause | str, MessageKind, str, tuple[str, ...]]


def make_batches(queues: Iterable[Sequence[Pending]], *, threaded: Collection[str]) -> list[Batch]:
    """Makes batches of the undelivered notifications of each incident and channel (a queue: oldest first, at least
    one), the batch with the oldest notification first.

    1. In each queue the next message supersedes those before it (`coalesce`).
    2. A batch that was sent before and may have arrived is sent again unchanged under the same key, unless one of its
       notifications is superseded by now.
    3. Openings of several causes by the first run of a target are merged by channel and target.
    4. All others are merged by channel, environment, cause and kind, and by thread if the channel is threaded.
    """
    resent: dict[tuple[str, str], list[BatchEntry]] = defaultdict(list)
    ungrouped: list[tuple[str, BatchEntry]] = []
    groups: dict[_MergeKey, list[BatchEntry]] = defaultdict(list)
    for queue in queues:
        channel, previous_key, entry = queue[0].channel, queue[0].batch, _entry(queue)
        if previous_key is not None and not entry.superseded:
            resent[channel, previous_key].append(entry)
        else:
            ungrouped.append((channel, entry))
    batches = []
    for (channel, previous_key), members in resent.items():
        if batch_key(entry.key for entry in members) == previous_key:
            batches.append(_make_batch(channel, members))
        else:
            ungrouped += [(channel, entry) for entry in members]
    looks = _first_looks(ungrouped)
    for channel, entry in ungrouped:
        groups[_merge_key(channel, entry, threaded, looks)].append(entry)
    for (channel, *_), members in groups.items():
        in_order = sorted(members, key=lambda entry: entry.id)
        slices = (in_order[at : at + _MAX_BATCH] for at in range(0, len(in_order), _MAX_BATCH))
        batches += [_make_batch(channel, each) for each in slices]
    return sorted(batches, key=lambda batch: batch.entries[0].id)


def batch_key(keys: Iterable[str]) -> str:
    """The key of a batch: a single notification's own key, else a hash of all keys."""
    known = sorted(keys)
    return known[0] if len(known) == 1 else hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _entry(queue: Sequence[Pending]) -> BatchEntry:
    position, message = coalesce([pending.message for pending in queue])
    kept = queue[position]
    thread = next((each.thread for each in reversed(queue[: position + 1]) if each.thread), None)
    superseded = tuple(pending.id for pending in queue[:position])
    return BatchEntry(id=kept.id, key=kept.key, message=message, thread=thread, superseded=superseded)


def _first_looks(entries: Iterable[tuple[str, BatchEntry]]) -> frozenset[tuple[str, str]]:
    """Channel and target of the first looks that found more than one cause."""
    causes: dict[tuple[str, str], set[Cause]] = defaultdict(set)
    for channel, entry in entries:
        if entry.message.first_look:
            causes[channel, entry.message.target].add(entry.message.cause)
    return frozenset(look for look, found in causes.items() if len(found) > 1)


def _merge_key(
    channel: str, entry: BatchEntry, threaded: Collection[str], looks: Collection[tuple[str, str]]
) -> _MergeKey:
    """Messages with the same value can be merged."""
    message, thread = entry.message, entry.thread if channel in threaded else None
    in_look = message.first_look and (channel, message.target) in looks
    about = f"first look at {message.target}" if in_look else message.cause
    if message.kind is MessageKind.REPORT:
        about = entry.key  # each is sent by itself
    return channel, message.environment, about, message.kind, thread or "", message.recipients


def _make_batch(channel: str, members: Sequence[BatchEntry]) -> Batch:
    entries = sorted(members, key=lambda entry: entry.id)
    key = batch_key(entry.key for entry in entries)
    in_threads = tuple(replace(entry, thread=entry.thread or key) for entry in entries)
    thread = in_threads[0].thread or key
    message = merge([replace(entry.message, thread=entry.thread) for entry in in_threads])
    if message.kind is MessageKind.OPENED and len(in_threads) > 1:
        message = replace(message, thread=thread)
    return Batch(channel=channel, key=key, thread=thread, entries=in_threads, message=message)
