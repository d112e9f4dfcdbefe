"""A report as a document: headings, sentences and tables, which Markdown and the HTML file show alike. Pure.

Text from outside (ids, names, groups, stages, reasons) is marked in cells: Markdown must not read it as markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile
from typing import Self

from monitor.incidents.silences import suppression_reasons
from monitor.model import PROBLEM_STATES, Incident, ItemState
from monitor.notifications.messages import format_age
from monitor.notifications.texts import checks_of, describe_cause, display_group, display_name
from monitor.reports.canary import canary_lines
from monitor.reports.changes import ItemChangeCount
from monitor.reports.formatting import format_share, plural, span_length
from monitor.reports.overview import Changes, Condition, IncidentChanges, Overview, TargetFacts, TargetOverview
from monitor.reports.overview_text import (
    NO_GROUP,
    NOTHING,
    change_parts,
    metric_marks,
    metric_name,
    metric_text,
    rounded_time,
    run_sentences,
    shown_trend,
    since_text,
    undelivered_sentence,
)
from monitor.reports.runs import last_known_text
from monitor.reports.slos import slo_sentences
from monitor.reports.waits import summary_line
from monitor.runs.rollup import health_line


class Outside(str):
    """A text that somebody else chose: an id, a name, a group, a stage, a reason; also marks of equal width."""

    __slots__ = ()


Cell = str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """A table with at least one row."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What the report says about one target."""

    target: TargetOverview
    state: str
    """A condition, or `stale`."""
    sentences: tuple[str, ...]
    trend: DataTable | None
    tables: tuple[DataTable, ...]

    @property
    def name(self) -> Outside:
        """The target's name."""
        return Outside(self.target.facts.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    generated_at: datetime
    bounds: tuple[datetime, ...]
    summary: DataTable | None
    """A row per target; None before the first run."""
    sentences: tuple[str, ...]
    incidents: DataTable | None
    """The open ones."""
    changes: tuple[DataTable, ...]
    sections: tuple[Section, ...]


def report_document(overview: Overview, *, public_url: str | None = None, details: int | None = None) -> Document:
    """The report; incidents have addresses on the page at `public_url`, if there is one.

    `details`: for how many targets there are details (None: for all); the summary has all of them.
    """
    now, period = overview.generated_at, overview.generated_at - overview.start
    ran = [target for target in overview.targets if target.condition is not Condition.NEVER_RAN]
    undelivered = undelivered_sentence(overview)
    incidents = _incidents(overview, public_url)
    found = _found(overview) if ran else NOTHING
    detailed = worst_targets(ran, details)
    left_out = f"Details of {len(detailed)} of {len(ran)} targets follow." if len(detailed) < len(ran) else ""
    return Document(
        title=f"Report on {overview.environment}, {now:%Y-%m-%d %H:%M} UTC, over the last {format_age(period)}",
        generated_at=now,
        bounds=overview.bounds,
        summary=_summary(overview.targets) if ran else None,
        sentences=tuple(sentence for sentence in (found, undelivered, left_out) if sentence),
        incidents=incidents,
        changes=tuple(table for table in (_changes(overview, ran), _incident_changes(overview)) if table is not None),
        sections=tuple(_section(target, now, period) for target in detailed),
    )


def worst_targets(targets: Sequence[TargetOverview], limit: int | None) -> tuple[TargetOverview, ...]:
    """All in their order, or of more than `limit` (None: no limit) those with most problems, the worst first."""
    if limit is None or len(targets) <= limit:
        return tuple(targets)
    return tuple(sorted(targets, key=_problems, reverse=True)[:limit])


def _problems(target: TargetOverview) -> int:
    row = target.facts.snapshot
    return 0 if row is None else sum(row.snapshot.count(state) for state in PROBLEM_STATES)


def state_of(target: TargetOverview) -> str:
    """How far the numbers of a target can be trusted, in a word: its condition, or `stale`."""
    return "stale" if target.stale else target.condition.value


def health_text(target: TargetOverview) -> str:
    """A target's counts, without a heading; `no results yet` before the first."""
    row = target.facts.snapshot
    return "no results yet" if row is None else health_line(row.snapshot).removeprefix("Health: ")


def completed_text(target: TargetOverview) -> str:
    """The completed share over the period: `99% ▇▇▂█ 100%`, before there is a trend `99%`; empty if there is none."""
    line = next((each for each in shown_trend(target.trend) if each.metric == "completed_share"), None)
    if line is None:
        last = target.facts.snapshot.snapshot if target.facts.snapshot else None
        return format_share(last.completed / last.total) if last and last.total else ""
    first = next(value for value in line.values if value is not None)
    marks = metric_marks(line).replace(" ", "·")
    return f"{metric_text(line.metric, first)} {marks} {metric_text(line.metric, line.last)}"


def _found(overview: Overview) -> str:
    count = max(overview.incident_count, len(overview.incidents))
    return f"{plural(count, 'open incident')}." if count else "No open incidents."


def _summary(targets: Sequence[TargetOverview]) -> DataTable:
    rows = tuple(
        (
            Outside(target.facts.target),
            state_of(target).replace("_", " "),
            health_text(target),
            Outside(completed_text(target)) or None,
        )
        for target in targets
    )
    return DataTable(caption="Targets", heading=("Target", "Last run", "Items", "Completed"), rows=rows)


def _section(target: TargetOverview, now: datetime, period: timedelta) -> Section:
    tables = (_groups(target), _stages(target), _reasons(target), *_indexing(target), _stuck(target, now))
    return Section(
        target=target,
        state=state_of(target),
        sentences=tuple(_sentences(target, now)),
        trend=_trend(target, period),
        tables=tuple(table for table in tables if table is not None),
    )


def _sentences(target: TargetOverview, now: datetime) -> list[str]:
    facts = target.facts
    sentences = [f"{health_line(facts.snapshot.snapshot)}."] if facts.snapshot else []
    sentences += [last_known_text(facts.last_known)] if facts.last_known else []
    sentences += run_sentences(target, now)
    sentences += [sentence for row in facts.slos for sentence in slo_sentences(row)]
    sentences += [summary_line(facts.waits)] if facts.waits else []
    canaries = " ".join(line.strip() for line in canary_lines(facts.canaries))
    return [*sentences, *([canaries] if canaries else [])]


def _trend(target: TargetOverview, period: timedelta) -> DataTable | None:
    lines = shown_trend(target.trend)
    if not lines:
        return None
    rows = tuple(
        (
            metric_name(line.metric),
            Outside(metric_marks(line).replace(" ", "·")),
            *(metric_text(line.metric, value) for value in (line.last, line.low, line.high)),
        )
        for line in lines
    )
    gaps = any(value is None for value in dropwhile(lambda value: value is None, lines[0].values))
    note = ", a dot where no run stored results" if gaps else ""
    each = f"one mark per {format_age(span_length(period))}{note}"
    return DataTable(caption=f"Trend: {each}", heading=("Metric", "Trend", "Last", "Low", "High"), rows=rows)


_SHOWN_STATES = tuple(state for state in ItemState if state is not ItemState.COMPLETED)


def _groups(target: TargetOverview) -> DataTable | None:
    if not target.grouped:
        return None
    groups = target.facts.groups
    states = [state for state in _SHOWN_STATES if any(group.counts[state] for group in groups)]
    stuck = any(group.stuck for group in groups)
    rows = tuple(
        (
            NO_GROUP if group.name is None else Outside(group.name),
            group.total,
            format_share(group.counts[ItemState.COMPLETED] / group.total),
            *(group.counts[state] for state in states),
            *((group.stuck,) if stuck else ()),
        )
        for group in groups
    )
    heading = ("Group", "Items", "Completed", *(state.label.capitalize() for state in states))
    caption = f"Groups{_more(target.facts.group_count, len(groups))}"
    return DataTable(caption=caption, heading=(*heading, *(("Stuck",) if stuck else ())), rows=rows)


def _more(count: int, shown: int) -> str:
    return f", {shown} of {count}" if count > shown else ""


def _stages(target: TargetOverview) -> DataTable | None:
    stages = target.facts.stages
    if all(each.state is ItemState.COMPLETED for each in stages):
        return None
    rows = tuple(
        (Outside(each.stage) if each.stage else "without a status", each.state.label, each.items) for each in stages
    )
    caption = f"Items by the last known stage{_more(target.facts.stage_count, len(stages))}"
    return DataTable(caption=caption, heading=("Stage", "State", "Items"), rows=rows)


def _reasons(target: TargetOverview) -> DataTable | None:
    reasons = target.facts.reasons
    if not any(each.reason for each in reasons):
        return None
    rows = tuple((Outside(each.reason) if each.reason else "no reason given", each.items) for each in reasons)
    caption = f"Failed items by reason{_more(target.facts.reason_count, len(reasons))}"
    return DataTable(caption=caption, heading=("Reason", "Items"), rows=rows)


_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def _indexing(target: TargetOverview) -> list[DataTable]:
    report = target.facts.indexing
    if report is None:
        return []
    names = [Outside(group.name) if group.name is not None else NO_GROUP for group in report.groups]
    named = [("all", report.times), *zip(names, (group.times for group in report.groups), strict=True)]
    rows = tuple(
        (
            name,
            times.uploads,
            *(None if (found := times.quantile_s(share)) is None else rounded_time(found) for _, share in _QUANTILES),
            times.failed,
            times.waiting,
        )
        for name, times in (named if len(names) > 1 else named[:1])
    )
    heading = ("Group", "Uploads", *(name for name, _ in _QUANTILES), "Failed", "Not indexed yet")
    caption = f"Time to indexed{_more(report.group_count, len(names))}"
    tables = [DataTable(caption=caption, heading=heading, rows=rows)]
    slowest = tuple(
        (Outside(each.item_id), format_age(timedelta(seconds=each.took_s)), _time(each.indexed_at), _group(each.group))
        for each in report.slowest
    )
    if slowest:
        heading = ("Item", "Took", "Completed (UTC)", "Group")
        tables.append(DataTable(caption="Slowest uploads", heading=heading, rows=slowest))
    return tables


def _group(name: str | None) -> Cell:
    return None if name is None else Outside(name)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _stuck(target: TargetOverview, now: datetime) -> DataTable | None:
    stuck, row = target.facts.stuck, target.facts.snapshot
    if not stuck or row is None:
        return None
    rows = tuple(
        (
            Outside(each.item_id),
            format_age(now - each.pending_since),
            Outside(each.stage) if each.stage else None,
            _group(each.group),
        )
        for each in stuck
    )
    caption = f"Stuck items{_more(row.snapshot.stuck, len(stuck))}"
    return DataTable(caption=caption, heading=("Item", "Pending for", "Stage", "Group"), rows=rows)


_MAX_INCIDENTS = 50


def _incidents(overview: Overview, public_url: str | None) -> DataTable | None:
    incidents = overview.incidents[:_MAX_INCIDENTS]
    if not incidents:
        return None
    rows = tuple(_incident(each, overview, public_url) for each in incidents)
    caption = f"Open incidents{_more(max(overview.incident_count, len(overview.incidents)), len(incidents))}"
    heading = ("Incident", "Target", "Severity", "For", "What", "Items", "Check")
    return DataTable(caption=caption, heading=heading, rows=rows)


class Link(str):
    """A text that leads to an address of our own page."""

    __slots__ = ("url",)
    url: str

    def __new__(cls, text: str, url: str) -> Self:
        """The text, with the address."""
        made = super().__new__(cls, text)
        made.url = url
        return made


def _incident(incident: Incident, overview: Overview, public_url: str | None) -> tuple[Cell, ...]:
    number = f"{incident.id}"
    group = f" ({display_group(incident.group)})" if incident.group else ""
    quiet = "; ".join(suppression_reasons(incident, overview.silences))
    return (
        Link(number, f"{public_url}/incidents/{number}") if public_url else number,
        Outside(display_name(incident.target) + group),
        incident.severity.value,
        format_age(overview.generated_at - incident.first_evidence_at),
        describe_cause(incident.cause, incident.member_count) + (f" ({quiet})" if quiet else ""),
        Outside(_ids(incident.member_ids, incident.member_count)) if incident.member_ids else None,
        checks_of(incident)[0],
    )


_NAMED = 3


def _ids(ids: Sequence[str], count: int) -> str:
    more = count - len(ids[:_NAMED])
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _changes(overview: Overview, ran: Sequence[TargetOverview]) -> DataTable | None:
    """What changed on each target, with its items."""
    if not ran:
        return None
    rows = tuple(
        (
            Outside(target.facts.target),
            since_text(target.facts.changes, overview),
            "; ".join(change_parts(_unnamed(target.facts.changes))),
            Outside(", ".join(_changed_ids(target.facts))) or None,
        )
        for target in ran
    )
    return DataTable(caption="Changes", heading=("Target", "Period", "What", "Such as"), rows=rows)


def _unnamed(changes: Changes) -> Changes:
    """The changes without ids, which stand in a cell of their own."""
    items = tuple(ItemChangeCount(to=each.to, count=each.count, sample_ids=()) for each in changes.items)
    return Changes(since=changes.since, first_report=changes.first_report, runs=changes.runs, new=changes.new,
                   stuck=changes.stuck, items=items)  # fmt: skip


def _changed_ids(facts: TargetFacts) -> list[str]:
    named = [each for each in facts.changes.items if each.to not in {ItemState.COMPLETED.value, "returned"}]
    return list(dict.fromkeys(item_id for each in named for item_id in each.sample_ids))


def _incident_changes(overview: Overview) -> DataTable | None:
    every: list[IncidentChanges] = [
        *(each.facts.changes.incidents for each in overview.targets),
        overview.other_incidents,
    ]
    rows = tuple(
        (f"{change.id}", Outside(display_name(change.target)), change.cause.value, " and ".join(change.happened))
        for changes in every
        for change in changes.newest
    )
    if not rows:
        return None
    caption = f"Incidents that opened or resolved{_more(sum(changes.total for changes in every), len(rows))}"
    return DataTable(caption=caption, heading=("Incident", "Target", "Cause", "What happened"), rows=rows)
