"""One target of a report as lines of text: how it is, how it was, where its items sit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile

from monitor.health.rollup import health_line
from monitor.incidents.render import age
from monitor.incidents.words import counted, in_words
from monitor.model import Cause, ItemState, Reason, Snapshot
from monitor.report.columns import align, moment
from monitor.report.figures import WIDTH, figure, latency, plural, right, share, shortened, wrapped
from monitor.report.overview import Condition, Metric, TargetOverview, TrendLine
from monitor.report.periods import length
from monitor.report.sparklines import ASCII_MARKS, BLOCKS, sparkline
from monitor.store.breakdowns import GroupHealth
from monitor.store.runs import HistoryRow

__all__ = ["ASCII", "UNICODE", "Style", "target_lines"]

_INDENT = "  "
_NO_GROUP = "(no group)"
_NARROWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Which characters a stream can carry."""

    marks: str
    """Of sparklines, from the lowest to the highest."""
    ellipsis: str

    def cut(self, text: str, width: int) -> str:
        """The text without its middle where it is too long."""
        return shortened(text, width, ellipsis=self.ellipsis)


UNICODE = Style(marks=BLOCKS, ellipsis="…")
ASCII = Style(marks=ASCII_MARKS, ellipsis="..")


def target_lines(target: TargetOverview, *, now: datetime, period: timedelta, style: Style) -> list[str]:
    """Everything about one target, without its name; no line is longer than 80 characters.

    Args:
        target: what there is to say.
        now: what ages are measured against.
        period: how long the trend goes back.
        style: which characters may be used.
    """
    facts = target.facts
    parts = [
        [*_health(facts.snapshot), *_remarks(target, now)],
        _groups(target, style),
        _trend(target.trend, period, style),
        _stages(target, style),
        _ingestion(target, style),
        _stuck(target, now, style),
    ]
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if part and lines else part
    return lines


def _health(row: HistoryRow | None) -> list[str]:
    if row is None:
        return []
    snapshot = Snapshot(**{name: getattr(row, name) for name in Snapshot.__dataclass_fields__})
    return list(wrapped(health_line(snapshot), indent=2))


def _remarks(target: TargetOverview, now: datetime) -> list[str]:
    """How far the last run got, and whether it is old: what the numbers above rest on."""
    facts = target.facts
    sentences = [_last_run(target, now)]
    if target.stale:
        sentences.append("That is too long ago: see whether the daemon or the cron job runs.")
    if facts.under_way_since is not None:
        sentences.append(f"A run is under way since {moment(facts.under_way_since)} UTC.")
    return [line for sentence in sentences for line in wrapped(sentence, indent=2)]


def _last_run(target: TargetOverview, now: datetime) -> str:
    last, row = target.facts.last_run, target.facts.snapshot
    if last is None:
        return f"No run yet: `ingestion-monitor check --target {target.facts.target}` makes the first."
    ago = f"{age(now - last.finished_at)} ago"
    left = f"{counted(row.unknown)} left unknown" if row else ""
    match target.condition:
        case Condition.UNREAD:
            since = target.facts.unread_since or last.started_at
            said = f"The sync log could not be read since {moment(since)} UTC, for {age(now - since)}: {last.error}."
            return f"{said} {_earlier(row, now)}"
        case Condition.DIED:
            return f"Run {last.run_id} died {ago}, before its numbers were stored. {_earlier(row, now)}"
        case Condition.PARTIAL:
            by = "the deadline" if last.abort_reason == Reason.DEADLINE else "a signal"
            return f"Run {last.run_id} ended {ago}, cut short by {by}, {left}."
        case Condition.ABORTED:
            cause = Cause(last.abort_reason or Cause.OUTAGE)
            return f"Run {last.run_id} stopped early {ago}, {left}: {in_words(cause)}."
        case _:
            return f"Run {last.run_id} was complete and ended {ago}."


def _earlier(row: HistoryRow | None, now: datetime) -> str:
    if row is None:
        return "There are no numbers yet."
    return f"The numbers are those of run {row.run_id}, {age(now - row.finished_at)} ago."


_COLUMNS: Sequence[tuple[str, ItemState | None]] = (
    ("PENDING", ItemState.PENDING),
    ("STUCK", None),
    ("FAILED", ItemState.FAILED),
    ("NOT FOUND", ItemState.NOT_FOUND),
    ("INVALID", ItemState.INVALID),
    ("UNKNOWN", ItemState.UNKNOWN),
)


def _groups(target: TargetOverview, style: Style) -> list[str]:
    if not target.grouped:
        return []
    groups = target.facts.groups
    columns = [
        right("ITEMS", [figure(group.total) for group in groups]),
        right("COMPLETED", [share(group.counts[ItemState.COMPLETED] / group.total) for group in groups]),
    ]
    for name, state in _COLUMNS:
        numbers = [_number(group, state) for group in groups]
        if any(numbers):  # a column of zeros tells nobody anything
            columns.append(right(name, [figure(number) for number in numbers]))
    room = WIDTH - len(_INDENT) - sum(2 + len(name) for name, _ in columns)
    names = [style.cut(_NO_GROUP if group.name is None else group.name, max(room, _NARROWEST)) for group in groups]
    lines = _table([("GROUP", names), *columns])
    more = target.facts.group_count - len(groups)
    return [*lines, f"{_INDENT}and {plural(more, 'more group')}"] if more > 0 else lines


def _number(group: GroupHealth, state: ItemState | None) -> int:
    return group.stuck if state is None else group.counts[state]


_NAMES: Mapping[Metric, str] = {
    Metric.COMPLETED_SHARE: "completed",
    Metric.FAILED: "failed",
    Metric.PENDING: "pending",
    Metric.STUCK: "stuck",
    Metric.NOT_FOUND: "not found",
    Metric.INVALID: "invalid",
    Metric.UNKNOWN: "unknown",
    Metric.REQUESTS: "requests",
    Metric.LATENCY_P95_MS: "p95 latency",
}
_ALWAYS = frozenset({Metric.COMPLETED_SHARE, Metric.FAILED})
"""Shown also while they are zero throughout."""


def _trend(lines: Sequence[TrendLine], period: timedelta, style: Style) -> list[str]:
    shown = [line for line in lines if line.high > 0 or line.metric in _ALWAYS]
    if not any(len([value for value in line.values if value is not None]) > 1 for line in shown):
        return []  # one run is no trend
    series = [sparkline(line.values, marks=style.marks, from_zero=_counts(line.metric)) for line in shown]
    table = _table(
        [
            ("TREND", [_NAMES[line.metric] for line in shown]),
            (f"a mark per {age(length(period))}", series),
            right("LAST", [_shown(line.metric, line.last) for line in shown]),
            right("LOW", [_shown(line.metric, line.low) for line in shown]),
            right("HIGH", [_shown(line.metric, line.high) for line in shown]),
        ]
    )
    marks = shown[0].values
    missed = any(value is None for value in dropwhile(lambda value: value is None, marks))
    return [*table, f"{_INDENT}A gap: no run stored numbers then."] if missed else table


def _counts(metric: Metric) -> bool:
    """Whether sizes are worth comparing; of a share and of latencies it is the ups and downs."""
    return metric not in {Metric.COMPLETED_SHARE, Metric.LATENCY_P95_MS}


def _shown(metric: Metric, value: float) -> str:
    if metric is Metric.COMPLETED_SHARE:
        return share(value)
    return latency(value) if metric is Metric.LATENCY_P95_MS else figure(value)


def _stages(target: TargetOverview, style: Style) -> list[str]:
    """Where items sit; when all are completed, the health line has said so."""
    stages = target.facts.stages
    if all(each.state is ItemState.COMPLETED for each in stages):
        return []
    named = [f"{each.items} {style.cut(each.stage or 'without a status', 24)}" for each in stages]
    more = target.facts.stage_count - len(stages)
    tail = [f"and {plural(more, 'more stage')}"] if more > 0 else []
    return list(wrapped(f"By stage: {', '.join([*named, *tail])}", indent=2))


def _ingestion(target: TargetOverview, style: Style) -> list[str]:
    times = target.facts.ingestion
    if times is None:
        return []
    if times.items == 1:
        (only,) = times.slowest
        sentence = f"Ingestion: 1 item, {style.cut(only.item_id, 36)}, in {_took(only.took_s)}"
        return list(wrapped(sentence, indent=2))
    said = f"half within {_took(times.median_s)}, 95% within {_took(times.p95_s)}"
    columns = [
        ("SLOWEST", [style.cut(each.item_id, 36) for each in times.slowest]),
        ("TOOK", [_took(each.took_s) for each in times.slowest]),
        ("COMPLETED (UTC)", [f"{each.completed_at:%Y-%m-%d %H:%M}" for each in times.slowest]),
    ]
    groups = [each.group for each in times.slowest]
    sentence = f"Ingestion: {counted(times.items)}, {said}"
    return [*wrapped(sentence, indent=2), *_table(_with_groups(target, columns, groups, style))]


def _took(seconds: float) -> str:
    return age(timedelta(seconds=seconds))


def _stuck(target: TargetOverview, now: datetime, style: Style) -> list[str]:
    stuck = target.facts.stuck
    if not stuck:
        return []
    columns = [
        ("STUCK", [style.cut(each.item_id, 36) for each in stuck]),
        ("PENDING FOR", [age(now - each.pending_since) for each in stuck]),
        ("STAGE", [style.cut(each.stage or "-", 14) for each in stuck]),
    ]
    lines = _table(_with_groups(target, columns, [each.group for each in stuck], style))
    row = target.facts.snapshot
    more = row.stuck - len(stuck) if row else 0
    rest = f"{_INDENT}and {more} more: `ingestion-monitor items list --stuck`"
    return [*lines, rest] if more > 0 else lines


def _with_groups(
    target: TargetOverview, columns: list[tuple[str, list[str]]], groups: Sequence[str | None], style: Style
) -> list[tuple[str, list[str]]]:
    """The columns and one of groups, as wide as there is room; none where no item belongs to a group."""
    if not target.grouped:
        return columns
    taken = sum(2 + max(len(name), *(len(cell) for cell in cells)) for name, cells in columns)
    room = max(WIDTH - len(_INDENT) - taken, _NARROWEST)
    return [*columns, ("GROUP", [style.cut(group or "-", room) for group in groups])]


def _table(columns: Sequence[tuple[str, list[str]]]) -> list[str]:
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return [_INDENT + line for line in align([name for name, _ in columns], rows).splitlines()]
