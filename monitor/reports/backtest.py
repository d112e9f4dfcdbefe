"""The result of `rules backtest` as text and JSON values: counts, differences, and what the history can't say. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.incidents.past import ComparedIncident, Difference, PastIncident
from monitor.model import Cause
from monitor.model.durations import format_duration
from monitor.notifications.messages import MessageKind, format_age
from monitor.notifications.texts import display_name
from monitor.reports.formatting import cut_list, fit, format_time, iso, plural, wrap_lines

_ORDER = (Difference.ADDED, Difference.REMOVED, Difference.MOVED, Difference.MESSAGES, Difference.SAME)
_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestView:
    """A backtest with the words for it."""

    since: datetime
    until: datetime
    targets: Sequence[str]
    rules: str
    """Which rules were replayed."""
    runs: int
    evidence: int
    incidents: Sequence[ComparedIncident]
    not_replayed: Mapping[Cause, int]
    people: int
    inexact: Sequence[str]
    """Sentences about what the history can't say."""


def _side(incident: PastIncident | None) -> Counter[str]:
    """What one incident counts for."""
    if incident is None:
        return Counter()
    return Counter(
        opened=int(not incident.before),
        resolved=int(incident.resolved_at is not None),
        messages=len(incident.messages),
        notifications=incident.notifications,
    )


def _counts(view: BacktestView) -> dict[tuple[str, str], tuple[Counter[str], Counter[str]]]:
    """By target and cause: what was, and what would have been."""
    found: dict[tuple[str, str], tuple[Counter[str], Counter[str]]] = {}
    for pair in view.incidents:
        key = (pair.either.target, pair.either.cause.value)
        was, would = found.setdefault(key, (Counter(), Counter()))
        was.update(_side(pair.actual))
        would.update(_side(pair.replayed))
    return dict(sorted(found.items()))


def _by_channel(view: BacktestView) -> dict[str, tuple[int, int]]:
    """Notifications by channel: what was, and what would have been."""
    sides = []
    for name in ("actual", "replayed"):
        incidents = [each for pair in view.incidents if (each := getattr(pair, name)) is not None]
        sides.append(
            Counter(channel for each in incidents for message in each.messages for channel in message.channels)
        )
    return {channel: (sides[0][channel], sides[1][channel]) for channel in sorted(sides[0].keys() | sides[1].keys())}


def backtest_text(view: BacktestView, *, limit: int, width: int | None = None) -> str:
    """The result as text; at most `limit` incidents, those that differ first; tables at most `width` wide."""
    size = f"{plural(view.runs, 'run')} of {plural(len(view.targets), 'target')}"
    lines = [
        f"{_period(view)}: {size}, {plural(view.evidence, 'row')} of evidence",
        *wrap_lines(f"Rules: {view.rules}", indent=0),
    ]
    if not view.incidents:
        none = "No incident was open in this time, and none would have been."
        lines += ["", none if view.runs else "No run is stored of this time: there is nothing to replay."]
    else:
        lines += wrap_lines(_summary(view), indent=0)
        lines += ["", _counts_table(view, width), "", _channels_table(view, width)]
    lines += _incident_lines(view, limit)
    return "\n".join([*lines, *_note_lines(view)])


_SHORT = {
    Difference.ADDED: "would have opened that did not",
    Difference.REMOVED: "opened that would not have",
    Difference.MOVED: "at other times",
    Difference.MESSAGES: "with other messages",
    Difference.SAME: "the same",
}


def _summary(view: BacktestView) -> str:
    totals = Counter(pair.difference for pair in view.incidents)
    counted = ", ".join(f"{totals[each]} {_SHORT[each]}" for each in _ORDER if totals[each])
    return f"Incidents: {counted}"


def _period(view: BacktestView) -> str:
    length = format_duration(view.until - view.since)
    return f"{format_time(view.since)} to {format_time(view.until)} UTC ({length})"


def _counts_table(view: BacktestView, width: int | None) -> str:
    rows = list(_counts(view).items())
    total = (sum((was for _, (was, _) in rows), Counter()), sum((would for _, (_, would) in rows), Counter()))
    rows.append(((_ALL, _ALL), total))
    columns: dict[str, list[object]] = {
        "TARGET": [target for (target, _), _ in rows],
        "CAUSE": [cause for (_, cause), _ in rows],
    }
    for name, heading, later in (
        ("opened", "OPENED", "WOULD OPEN"),
        ("resolved", "RESOLVED", "WOULD RESOLVE"),
        ("notifications", "SENT", "WOULD SEND"),
    ):
        columns[heading] = [was[name] for _, (was, _) in rows]
        columns[later] = [would[name] for _, (_, would) in rows]
    return fit(columns, width=width, optional=("RESOLVED", "WOULD RESOLVE"))


def _channels_table(view: BacktestView, width: int | None) -> str:
    found = _by_channel(view)
    columns: dict[str, list[object]] = {
        "CHANNEL": list(found),
        "SENT": [was for was, _ in found.values()],
        "WOULD SEND": [would for _, would in found.values()],
    }
    return fit(columns, width=width)


def _sorted(view: BacktestView) -> list[ComparedIncident]:
    return sorted(view.incidents, key=lambda pair: _ORDER.index(pair.difference))


def _incident_lines(view: BacktestView, limit: int) -> Iterator[str]:
    """The incidents, by how the replay differs from what was."""
    shown = _sorted(view)[:limit]
    totals = Counter(pair.difference for pair in view.incidents)
    for difference in _ORDER:
        if totals[difference]:
            yield ""
            yield f"{difference.value.capitalize()} ({totals[difference]}):"
        for pair in shown:
            if pair.difference is difference:
                yield from wrap_lines(_incident_text(pair), indent=2, hang=4)
    if len(view.incidents) > len(shown):
        yield f"and {len(view.incidents) - len(shown)} more: --limit {len(view.incidents)} shows all"


def _incident_text(pair: ComparedIncident) -> str:
    one = pair.either
    name = f"{display_name(one.target, one.group)} {one.cause.value}"
    number = f"#{pair.actual.id} " if pair.actual is not None else ""
    sent = [_sent_text(each) for each in (pair.actual, pair.replayed)]
    if pair.actual is None or pair.replayed is None:
        about = f"{number}{name} ({one.severity.value}), {_end(one)}"
        return f"{format_time(one.opened_at)}  {about}; {sent[pair.actual is None]}"
    text = f"{format_time(pair.actual.opened_at)}  {number}{name}"
    if pair.difference is Difference.SAME:
        return f"{text}, {_end(one)}; {sent[0]}"
    changes = [_shift("opens", pair.opened_later), _resolution(pair), _reopenings(pair)]
    if pair.actual.severity is not pair.replayed.severity:
        changes.append(f"severity {pair.actual.severity.value} → {pair.replayed.severity.value}")
    changes.append(sent[0] if sent[0] == sent[1] else f"{sent[0]} → {sent[1]}")
    return f"{text}: {'; '.join(each for each in changes if each)}"


def _shift(verb: str, later: timedelta) -> str:
    if not later:
        return ""
    return f"{verb} {format_age(abs(later))} {'later' if later > timedelta(0) else 'earlier'}"


def _resolution(pair: ComparedIncident) -> str:
    later = pair.resolved_later
    if later is not None:
        return _shift("resolves", later)
    ends = [each.resolved_at if each else None for each in (pair.actual, pair.replayed)]
    if ends[0] == ends[1]:
        return ""
    return "was resolved, would still be open" if ends[1] is None else f"would resolve at {format_time(ends[1])}"


def _reopenings(pair: ComparedIncident) -> str:
    counts = [len(each.reopened) if each else 0 for each in (pair.actual, pair.replayed)]
    return f"reopened {counts[0]} × → {counts[1]} ×" if counts[0] != counts[1] else ""


def _end(incident: PastIncident) -> str:
    if incident.resolved_at is None:
        return "open at the end"
    return f"for {format_age(incident.resolved_at - incident.opened_at)}"


_WORDS = {MessageKind.OPENED: "opening", MessageKind.REMINDER: "reminder", MessageKind.UPDATED: "update"}


def _sent_text(incident: PastIncident | None) -> str:
    """`opening, 2 reminders, resolution to slack, audit`."""
    if incident is None or not incident.messages:
        return "nothing sent"
    kinds = Counter(message.kind for message in incident.messages)
    words = [_kind_text(kind, count) for kind, count in kinds.items()]
    channels = dict.fromkeys(channel for message in incident.messages for channel in message.channels)
    return f"{', '.join(words)} to {', '.join(channels)}"


def _kind_text(kind: MessageKind, count: int) -> str:
    word = _WORDS.get(kind, "resolution" if kind is MessageKind.RESOLVED else "acknowledgement")
    return word if count == 1 else plural(count, word)


def _note_lines(view: BacktestView) -> Iterator[str]:
    """What the history can't say."""
    notes = [
        f"{cause.value}: {plural(count, 'incident')} not replayed: deliveries lead to it, no run"
        for cause, count in view.not_replayed.items()
    ]
    if view.people:
        acted = plural(view.people, "acknowledgement or resolution", "acknowledgements and resolutions")
        notes.append(f"{acted} by people took place in the replay at the same times, where an incident was open")
    notes += view.inexact
    if notes:
        yield ""
        yield "What this can't say exactly:"
    for note in notes:
        yield from wrap_lines(f"- {note}", indent=2)


def backtest_json(view: BacktestView, *, limit: int) -> dict[str, Any]:
    """The result as JSON values; at most `limit` incidents, those that differ first."""
    rows = [_pair_json(pair) for pair in _sorted(view)]
    differences = Counter(pair.difference for pair in view.incidents)
    return {
        "since": iso(view.since),
        "until": iso(view.until),
        "targets": list(view.targets),
        "rules": view.rules,
        "runs": view.runs,
        "evidence": view.evidence,
        "counts": [
            {"target": target, "cause": cause, "actual": _numbers(was), "replayed": _numbers(would)}
            for (target, cause), (was, would) in _counts(view).items()
        ],
        "channels": [
            {"channel": name, "actual": was, "replayed": would} for name, (was, would) in _by_channel(view).items()
        ],
        "differences": {each.name.lower(): differences[each] for each in _ORDER},
        **cut_list("incidents", rows[:limit], total=len(rows)),
        "not_replayed": {cause.value: count for cause, count in view.not_replayed.items()},
        "actions_by_people": view.people,
        "inexact": list(view.inexact),
    }


def _numbers(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("opened", "resolved", "messages", "notifications")}


def _pair_json(pair: ComparedIncident) -> dict[str, Any]:
    one, later = pair.either, pair.resolved_later
    both = pair.actual is not None and pair.replayed is not None
    return {
        "target": one.target,
        "cause": one.cause.value,
        "group": one.group,
        "difference": pair.difference.name.lower(),
        "opened_later_s": pair.opened_later.total_seconds() if both else None,
        "resolved_later_s": None if later is None else later.total_seconds(),
        "actual": _incident_json(pair.actual),
        "replayed": _incident_json(pair.replayed),
    }


def _incident_json(incident: PastIncident | None) -> dict[str, Any] | None:
    if incident is None:
        return None
    return {
        "id": incident.id,
        "severity": incident.severity.value,
        "open_before": incident.before,
        "opened_at": iso(incident.opened_at),
        "first_evidence_at": iso(incident.first_evidence_at),
        "reopened_at": [iso(at) for at in incident.reopened],
        "resolved_at": iso(incident.resolved_at),
        "messages": [
            {"at": iso(each.at), "kind": each.kind.value, "channels": list(each.channels)} for each in incident.messages
        ],
    }
