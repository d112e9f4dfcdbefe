"""A report as text. Prose is wrapped at 80 characters; tables fit the terminal, and ids are never shortened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import dropwhile

from monitor.incidents.silences import suppression_reasons
from monitor.model import PROBLEM_STATES, Cause, Incident, ItemState, Reason, RunStatus
from monitor.model.sparkline import ASCII_BLOCKS, BLOCKS, sparkline
from monitor.notifications.messages import format_age
from monitor.notifications.texts import checks_of, describe_cause, display_group, format_items
from monitor.reports.canary import canary_lines
from monitor.reports.changes import IncidentChange, ItemChangeCount, RunCounts
from monitor.reports.formatting import (
    WIDTH,
    align,
    format_count,
    format_latency,
    format_share,
    format_time,
    plural,
    right_aligned,
    shorten_middle,
    span_length,
    wrap_lines,
)
from monitor.reports.indexing import IndexingReport
from monitor.reports.overview import (
    Changes,
    Condition,
    IncidentChanges,
    Metric,
    Overview,
    TargetFacts,
    TargetOverview,
    TrendLine,
)
from monitor.reports.runs import last_known_text
from monitor.reports.slos import slo_sentences
from monitor.reports.trends import GroupHealth
from monitor.reports.waits import summary_line
from monitor.runs.rollup import health_line
from monitor.runs.store import HistoryRow

_INDENT = "  "
NO_GROUP = "(no group)"
_NARROWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Which characters the output encoding supports."""

    blocks: str
    """Marks of sparklines, from lowest to highest."""
    ellipsis: str
    width: int | None = None
    """Of the terminal; None: it is none, and nothing is cut."""

    def cut(self, text: str, width: int) -> str:
        """On a terminal, cuts the middle out of a text that is too long and no id."""
        return text if self.width is None else shorten_middle(text, width, ellipsis=self.ellipsis)

    def room(self, taken: int) -> int:
        """The width that is left on a line of a table."""
        return max((self.width or WIDTH) - len(_INDENT) - taken, _NARROWEST)


UNICODE = Style(blocks=BLOCKS, ellipsis="…")
ASCII = Style(blocks=ASCII_BLOCKS, ellipsis="..")


def target_lines(target: TargetOverview, *, now: datetime, period: timedelta, style: Style) -> list[str]:
    """Everything about one target, without its name."""
    facts = target.facts
    parts = [
        [*_health(facts), *_run_lines(target, now)],
        _groups(target, style),
        _trend(target.trend, period, style),
        _stages(target, style),
        _reasons(target, style),
        _indexing_lines(target, style),
        _slos(target),
        _waits(target),
        canary_lines(facts.canaries),
        _stuck(target, now, style),
    ]
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if part and lines else part
    return lines


def _slos(target: TargetOverview) -> list[str]:
    sentences = [sentence for row in target.facts.slos for sentence in slo_sentences(row)]
    return [line for sentence in sentences for line in wrap_lines(sentence, indent=2)]


def _health(facts: TargetFacts) -> list[str]:
    if facts.snapshot is None:
        return []
    known = [last_known_text(facts.last_known)] if facts.last_known else []
    return [row for line in (health_line(facts.snapshot.snapshot), *known) for row in wrap_lines(line, indent=2)]


STALE = "That is too long ago: check that the daemon or the cron job is running."


def _run_lines(target: TargetOverview, now: datetime) -> list[str]:
    return [line for sentence in run_sentences(target, now) for line in wrap_lines(sentence, indent=2)]


def run_sentences(target: TargetOverview, now: datetime) -> list[str]:
    """How the last run ended, whether it is old, and whether another one is in progress."""
    sentences = [last_run_sentence(target, now)]
    if target.stale:
        sentences.append(STALE)
    if (since := target.facts.running_since) is not None:
        sentences.append(f"A run has been in progress since {format_time(since)} UTC.")
    return sentences


def last_run_sentence(target: TargetOverview, now: datetime) -> str:
    """How the last run ended."""
    last, row = target.facts.last_run, target.facts.snapshot
    if last is None:
        return f"No run yet: start one with `ingestion-monitor check --target {target.facts.target}`."
    ago = f"{format_age(now - last.finished_at)} ago"
    left = f"{format_items(row.snapshot.unknown)} left unknown" if row else ""
    match target.condition:
        case Condition.FAILED:
            since = target.facts.unreadable_since or last.started_at
            unreadable = f"unreadable since {format_time(since)} UTC, for {format_age(now - since)}"
            return f"The sync log has been {unreadable}: {last.error}. {_earlier(row, now)}"
        case Condition.CRASHED:
            return f"Run {last.run_id} crashed {ago}, before its results were stored. {_earlier(row, now)}"
        case Condition.PARTIAL:
            by = "the deadline" if last.abort_reason == Reason.DEADLINE else "a signal"
            return f"Run {last.run_id} ended {ago}, cut short by {by}, {left}."
        case Condition.ABORTED:
            cause = Cause(last.abort_reason or Cause.OUTAGE)
            return f"Run {last.run_id} stopped early {ago}, {left}: {describe_cause(cause)}."
        case _:
            return f"Run {last.run_id} completed {ago}."


def _earlier(row: HistoryRow | None, now: datetime) -> str:
    if row is None:
        return "There are no results yet."
    return f"The results are from run {row.run_id}, {format_age(now - row.finished_at)} ago."


_UNFINISHED = [(state.label.upper(), state) for state in ItemState if state is not ItemState.COMPLETED]
_COLUMNS: Sequence[tuple[str, ItemState | None]] = (_UNFINISHED[0], ("STUCK", None), *_UNFINISHED[1:])


def _groups(target: TargetOverview, style: Style) -> list[str]:
    if not target.grouped:
        return []
    groups = target.facts.groups
    columns = [
        right_aligned("ITEMS", [format_count(group.total) for group in groups]),
        right_aligned("COMPLETED", [format_share(group.counts[ItemState.COMPLETED] / group.total) for group in groups]),
    ]
    for name, state in _COLUMNS:
        numbers = [_number(group, state) for group in groups]
        if any(numbers):
            columns.append(right_aligned(name, [format_count(number) for number in numbers]))
    if any(group.last_known for group in groups):
        columns.append(("LAST KNOWN", [_last_known(group) for group in groups]))
    room = style.room(sum(2 + max(len(name), *map(len, cells)) for name, cells in columns))
    names = [style.cut(NO_GROUP if group.name is None else group.name, room) for group in groups]
    lines = _table([("GROUP", names), *columns])
    more = target.facts.group_count - len(groups)
    return [*lines, f"{_INDENT}and {plural(more, 'more group')}"] if more > 0 else lines


def _last_known(group: GroupHealth) -> str:
    """The unknown items of a group by their last known state."""
    states = [(ItemState(state).label if state else "never answered", n) for state, n in group.last_known.items()]
    return ", ".join(f"{count} {label}" for label, count in states) or "-"


def _number(group: GroupHealth, state: ItemState | None) -> int:
    return group.stuck if state is None else group.counts[state]


_NAMES: Mapping[Metric, str] = {
    Metric.COMPLETED_SHARE: "completed",
    Metric.LATENCY_P95_MS: "p95 latency",
    Metric.TIME_TO_INDEXED_P95_S: "p95 to indexed",
}
"""Names of metrics that differ from their values."""
_ALWAYS = frozenset({Metric.COMPLETED_SHARE, Metric.FAILED})
"""Shown even if all values are zero."""


def shown_trend(lines: Sequence[TrendLine]) -> list[TrendLine]:
    """The metrics that texts show; none if no metric has two values."""
    shown = [line for line in lines if line.high > 0 or line.metric in _ALWAYS]
    several = any(len([value for value in line.values if value is not None]) > 1 for line in shown)
    return shown if several else []


def _trend(lines: Sequence[TrendLine], period: timedelta, style: Style) -> list[str]:
    shown = shown_trend(lines)
    if not shown:
        return []
    series = [metric_marks(line, style.blocks) for line in shown]
    table = _table(
        [
            ("TREND", [metric_name(line.metric) for line in shown]),
            (f"one mark per {format_age(span_length(period))}", series),
            right_aligned("LAST", [metric_text(line.metric, line.last) for line in shown]),
            right_aligned("LOW", [metric_text(line.metric, line.low) for line in shown]),
            right_aligned("HIGH", [metric_text(line.metric, line.high) for line in shown]),
        ]
    )
    marks = shown[0].values
    missed = any(value is None for value in dropwhile(lambda value: value is None, marks))
    return [*table, f"{_INDENT}Gaps: no run stored results then."] if missed else table


_SHARE_SCALE = 0.9
"""The lowest mark of a completed share is at most this, so that a steady share looks steady."""


def metric_marks(line: TrendLine, blocks: str = BLOCKS) -> str:
    """The sparkline of a metric: scaled from zero; shares from 90%, or the lowest share, up to 100%."""
    if line.metric is Metric.COMPLETED_SHARE:
        return sparkline(line.values, blocks=blocks, low=min(line.low, _SHARE_SCALE), high=1.0)
    return sparkline(line.values, blocks=blocks, low=0.0)


def metric_name(metric: Metric) -> str:
    """A metric's name in texts."""
    return _NAMES.get(metric, metric.replace("_", " "))


def metric_text(metric: Metric, value: float) -> str:
    """A metric's value in texts."""
    if metric is Metric.COMPLETED_SHARE:
        return format_share(value)
    if metric is Metric.TIME_TO_INDEXED_P95_S:
        return rounded_time(value)
    return format_latency(value) if metric is Metric.LATENCY_P95_MS else format_count(value)


def _stages(target: TargetOverview, style: Style) -> list[str]:
    """Items by stage; left out when all are completed, as the health line says so."""
    stages = target.facts.stages
    if all(each.state is ItemState.COMPLETED for each in stages):
        return []
    named = [f"{each.items} {style.cut(each.stage or 'without a status', 24)}" for each in stages]
    more = target.facts.stage_count - len(stages)
    tail = [f"and {plural(more, 'more stage')}"] if more > 0 else []
    heading = "By last known stage" if target.facts.last_known else "By stage"
    return list(wrap_lines(f"{heading}: {', '.join([*named, *tail])}", indent=2))


def _reasons(target: TargetOverview, style: Style) -> list[str]:
    """Failed items by reason; left out if the API gives none."""
    reasons = target.facts.reasons
    if not any(each.reason for each in reasons):
        return []
    named = [f"{each.items} × {style.cut(each.reason, 40) if each.reason else 'no reason'}" for each in reasons]
    more = target.facts.reason_count - len(reasons)
    tail = [f"and {plural(more, 'more reason')}"] if more > 0 else []
    return list(wrap_lines(f"Failed by reason: {', '.join([*named, *tail])}", indent=2))


_WORST_GROUPS = 5
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def _indexing_lines(target: TargetOverview, style: Style) -> list[str]:
    report = target.facts.indexing
    if report is None:
        return []
    times = report.times
    parts = [f"Time to indexed: {plural(times.uploads, 'upload')}"]
    quantiles = [(name, times.quantile_s(share)) for name, share in _QUANTILES]
    parts += [f"{name} {rounded_time(seconds)}" for name, seconds in quantiles if seconds is not None]
    others = ((times.failed, "failed"), (times.waiting, "not indexed yet"), (times.not_observed, "at an unknown time"))
    parts += [f"{count} {words}" for count, words in others if count]
    lines = [*wrap_lines(", ".join(parts), indent=2), *_slow_groups(report, style)]
    slowest = report.slowest
    if not slowest:
        return lines
    columns = [
        ("SLOWEST", [each.item_id for each in slowest]),
        ("TOOK", [_duration(each.took_s) for each in slowest]),
        ("COMPLETED (UTC)", [f"{each.indexed_at:%Y-%m-%d %H:%M}" for each in slowest]),
    ]
    return [*lines, *_table(_with_groups(target, columns, [each.group for each in slowest], style))]


def _slow_groups(report: IndexingReport, style: Style) -> list[str]:
    """The groups whose uploads take the longest; left out if there is only one."""
    groups = [group for group in report.groups if group.times.indexed][:_WORST_GROUPS]
    if report.group_count < 2 or not groups:  # one is the target itself
        return []
    columns = [right_aligned("UPLOADS", [format_count(group.times.uploads) for group in groups])]
    for name, share in _QUANTILES:
        columns.append(
            right_aligned(name.upper(), [rounded_time(group.times.quantile_s(share) or 0) for group in groups])
        )
    room = style.room(sum(2 + max(len(name), *map(len, cells)) for name, cells in columns))
    names = [style.cut(NO_GROUP if group.name is None else group.name, room) for group in groups]
    lines = _table([("SLOW GROUPS", names), *columns])
    more = report.group_count - len(groups)
    return [*lines, f"{_INDENT}and {plural(more, 'more group')}"] if more > 0 else lines


def rounded_time(seconds: float) -> str:
    """A quantile, which is known up to 5%: two digits of the greatest unit."""
    unit, name = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])
    number = seconds / unit
    return f"{number:.0f} {name}" if number >= 10 else f"{number:.2g} {name}"  # two digits


_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _waits(target: TargetOverview) -> list[str]:
    waits = target.facts.waits
    return [] if waits is None else list(wrap_lines(summary_line(waits), indent=2))


def _duration(seconds: float) -> str:
    return format_age(timedelta(seconds=seconds))


def _stuck(target: TargetOverview, now: datetime, style: Style) -> list[str]:
    stuck = target.facts.stuck
    if not stuck:
        return []
    columns = [
        ("STUCK", [each.item_id for each in stuck]),
        ("PENDING FOR", [format_age(now - each.pending_since) for each in stuck]),
        ("STAGE", [style.cut(each.stage or "-", 14) for each in stuck]),
    ]
    lines = _table(_with_groups(target, columns, [each.group for each in stuck], style))
    row = target.facts.snapshot
    more = row.snapshot.stuck - len(stuck) if row else 0
    rest = f"{_INDENT}and {more} more: `ingestion-monitor items list --stuck`"
    return [*lines, rest] if more > 0 else lines


def _with_groups(
    target: TargetOverview, columns: list[tuple[str, list[str]]], groups: Sequence[str | None], style: Style
) -> list[tuple[str, list[str]]]:
    """The columns plus one for groups, if any item belongs to a group."""
    if not target.grouped:
        return columns
    taken = sum(2 + max(len(name), *(len(cell) for cell in cells)) for name, cells in columns)
    return [*columns, ("GROUP", [style.cut(group or "-", style.room(taken + 2)) for group in groups])]


def _table(columns: Sequence[tuple[str, list[str]]]) -> list[str]:
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return [_INDENT + line for line in align([name for name, _ in columns], rows).splitlines()]


OPEN_SHOWN = 10
"""Most open incidents shown; `incidents list` has all."""
_NAMED = 3
NOTHING = "No run yet: run `ingestion-monitor check` first."


def overview_text(overview: Overview, *, ascii_only: bool = False, width: int | None = None) -> str:
    """The report as text; `ascii_only` for output encodings without block characters, `width` of the terminal."""
    style = replace(ASCII if ascii_only else UNICODE, width=width)
    now, period = overview.generated_at, overview.generated_at - overview.start
    title = f"Report on {overview.environment}, {now:%Y-%m-%d %H:%M} UTC, over the last {format_age(period)}"
    blocks = [[*wrap_lines(title, indent=0), *_short_history(overview)]]
    if all(target.condition is Condition.NEVER_RAN for target in overview.targets):
        blocks.append(list(wrap_lines(NOTHING, indent=0)))
    else:
        blocks += [
            [target.facts.target, *target_lines(target, now=now, period=period, style=style)]
            for target in overview.targets
        ]
        blocks += [_changed(overview, style), _incidents(overview, style)]
    blocks.append(list(wrap_lines(undelivered_sentence(overview), indent=0)))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _short_history(overview: Overview) -> Iterator[str]:
    """From when on there is history, if most of the first span has none. Rollups may be older than the runs."""
    since = overview.history_since
    if since is None or since <= overview.bounds[1] or any(target.facts.samples[0] for target in overview.targets):
        return
    yield from wrap_lines(f"History begins {since:%Y-%m-%d %H:%M} UTC: nothing is known of the time before.", indent=0)


def _incidents(overview: Overview, style: Style) -> list[str]:
    incidents = overview.incidents
    if not incidents:
        return ["No open incidents."]
    lines = ["Open incidents"]
    for incident in incidents[:OPEN_SHOWN]:
        lines += _incident(incident, overview, style)
    more = max(overview.incident_count, len(incidents)) - OPEN_SHOWN
    return [*lines, f"  and {more} more: `ingestion-monitor incidents list`"] if more > 0 else lines


def _incident(incident: Incident, overview: Overview, style: Style) -> Iterator[str]:
    words = describe_cause(incident.cause, incident.member_count)
    lasted = format_age(overview.generated_at - incident.first_evidence_at)
    what = f"#{incident.id} {incident.cause.value} ({incident.severity.value}) on {style.cut(incident.target, 40)}"
    what += f" ({style.cut(display_group(incident.group), 30)})" if incident.group else ""
    yield from wrap_lines(f"{what}, for {lasted}: {words}", indent=2, hang=3)
    for sentence in suppression_reasons(incident, overview.silences):
        yield from wrap_lines(sentence, indent=5)
    if incident.member_ids and incident.cause is not Cause.ITEMS_STUCK:  # stuck items have a list of their own
        yield from wrap_lines(f"such as {_ids(incident.member_ids, incident.member_count)}", indent=5)
    yield from wrap_lines(f"check: {checks_of(incident)[0]}", indent=5)


def _ids(ids: Sequence[str], count: int) -> str:
    shown = ids[:_NAMED]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _changed(overview: Overview, style: Style) -> list[str]:
    """What changed since the last report. If targets were reported at different times, each has its own."""
    reported = [target for target in overview.targets if target.condition is not Condition.NEVER_RAN]
    starts = {(target.facts.changes.since, target.facts.changes.first_report) for target in reported}
    lines = ["Changed since the last reports"]
    if len(starts) == 1:
        lines = [f"Changed {since_text(reported[0].facts.changes, overview)}"]
    for target in reported:
        changes = target.facts.changes
        when = "" if len(starts) == 1 else f", {since_text(changes, overview)}"
        name = style.cut(target.facts.target, 30)
        lines += wrap_lines(f"{name}{when}: {'; '.join(change_parts(changes))}", indent=2)
        lines += _incident_change_lines(changes.incidents, indent=4)
    return lines + _incident_change_lines(
        overview.other_incidents, indent=2, of=lambda change: f" on {style.cut(change.target, 40)}"
    )


def since_text(changes: Changes, overview: Overview) -> str:
    """Since when changes are counted."""
    age = format_age(overview.generated_at - changes.since)
    if changes.first_report:
        return f"in the last {age} (this is the first report)"
    return f"since the last report, {age} ago ({format_time(changes.since)} UTC)"


_ORDER: Sequence[tuple[str, str]] = (
    *((state.value, state.label) for state in (ItemState.COMPLETED, *PROBLEM_STATES)),
    ("removed", "removed from the sync log"),
    ("returned", "returned to the sync log"),
)
_NAMING = frozenset({*(state.value for state in PROBLEM_STATES), "removed"})
"""Changes whose items are named."""


def change_parts(changes: Changes) -> list[str]:
    """What changed, in a few words each, runs first."""
    parts = [_runs(changes.runs)]
    if changes.new:
        parts.append(f"{changes.new} new")
    by_kind = {each.to: each for each in changes.items}
    parts += [_items(by_kind[what], words) for what, words in _ORDER if what in by_kind]
    if changes.stuck:
        parts.append(f"{changes.stuck} became stuck")
    return parts if len(parts) > 1 or changes.runs is None else [*parts, "no item changed"]


def _runs(made: RunCounts | None) -> str:
    if made is None:
        return "no run"
    others = [f"{count} {status.value}" for status, count in made.by_status.items() if status is not RunStatus.COMPLETE]
    return plural(sum(made.by_status.values()), "run") + (f" ({', '.join(sorted(others))})" if others else "")


def _items(changed: ItemChangeCount, words: str) -> str:
    if changed.to not in _NAMING or not changed.sample_ids:
        return f"{changed.count} {words}"
    return f"{changed.count} {words} ({_ids(changed.sample_ids, changed.count)})"


def _incident_change_lines(
    changes: IncidentChanges, *, indent: int, of: Callable[[IncidentChange], str] = lambda _: ""
) -> list[str]:
    """A line per incident; `of` names its target if needed."""
    lines: list[str] = []
    for change in changes.newest:
        happened = " and ".join(change.happened)
        lines += wrap_lines(f"#{change.id} {change.cause.value}{of(change)} {happened}", indent=indent)
    more = changes.total - len(changes.newest)
    return [*lines, f"{' ' * indent}and {plural(more, 'more incident')}"] if more > 0 else lines


def undelivered_sentence(overview: Overview) -> str:
    """The messages that did not reach a channel; empty if there are none."""
    counts = [f"{each.dead} to {each.channel} given up" for each in overview.undelivered if each.dead]
    counts += [f"{each.waiting} to {each.channel} waiting" for each in overview.undelivered if each.waiting]
    return f"Undelivered messages: {', '.join(counts)}." if counts else ""
