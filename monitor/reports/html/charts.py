"""Charts of a report: what to show, one sentence that says what it shows, and the same values as a table. Pure.

A figure is a dict in Plotly's form whose traces name a `role` instead of a colour: the script fills in the colours of
the viewer's scheme. `drawing` draws the same without a script.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from monitor.incidents.slo import BURN_ALERTS
from monitor.incidents.slo_texts import budget_text, format_rate, objective_text, percent, share_text, spent_text
from monitor.model import ItemState, RunStatus
from monitor.model.durations import format_duration
from monitor.reports.formatting import format_count, format_latency, format_share, plural
from monitor.reports.html.drawing import Bar, Plane, Series, draw_bars, draw_columns, draw_lines
from monitor.reports.html.figures import columns_figure, lines_figure
from monitor.reports.html.sentences import (
    budget_sentence,
    burn_sentence,
    completed_sentence,
    indexing_sentence,
    level_sentence,
    reasons_sentence,
    rounded_duration,
    stages_sentence,
    states_sentence,
    time_unit,
)
from monitor.reports.overview import Metric, TargetOverview, TrendLine
from monitor.runs.store import HistoryRow

Cell = str | int | float | datetime | None
Samples = Sequence[HistoryRow | None]
"""The last snapshot of each span of a period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartTable:
    """The values of a chart; times are datetimes, numbers are numbers."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """One entry of the key of a chart."""

    name: str
    role: str
    line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart, ready for the macro `chart`."""

    name: str
    """Unique on a page; part of ids in the document."""
    title: str
    sentence: Markup
    """What it shows, with times as `<time>`; `sentence.striptags()` is plain text."""
    figure: dict[str, Any] | None
    """In Plotly's form, with roles; None for bars, whose values stand beside them."""
    table: ChartTable
    svg: Markup
    """The drawing, with the labels of its axes."""
    is_image: bool = True
    """Whether the drawing is an image to screen readers, named by title and sentence; bars are a list of text."""
    legend: tuple[Legend, ...] = ()


def target_charts(target: TargetOverview, bounds: Sequence[datetime], *, now: datetime) -> list[Chart]:
    """The charts of one target over a period; those without any value are left out."""
    spans = tuple(bounds)
    found = (
        completed_chart(target.facts.samples, spans),
        states_chart(target.facts.samples, spans, target.facts.endings),
        indexing_chart(target, spans),
        stages_chart(target, now=now),
        reasons_chart(target),
        requests_chart(target, spans),
        latency_chart(target, spans),
        budget_chart(target),
        burn_chart(target),
    )
    return [chart for chart in found if chart is not None]


def completed_chart(samples: Samples, bounds: tuple[datetime, ...]) -> Chart | None:
    """The completed share over time, from 90%, or the lowest share, to 100%; `samples` as in `TargetFacts`."""
    shares = tuple(None if row is None else _share(row) for row in samples)
    if not any(share is not None for share in shares):
        return None
    low = min(_SHARE_SCALE, *(share for share in shares if share is not None))
    plane = Plane(bounds=bounds, low=low, high=1.0, scale=(format_share(low), "100%"))
    series = Series(name="completed", role="completed", values=shares)
    return Chart(
        name="completed",
        title="How many items are completed?",
        sentence=completed_sentence(samples),
        figure=lines_figure([series], bounds, {"tickformat": ".0%", "range": [low, 1.0]}),
        table=_sample_table(
            "Completed items over time",
            {"Items": _total, "Completed": _of(ItemState.COMPLETED), "Completed share": _completed_share},
            samples,
        ),
        svg=draw_lines(plane, [series]),
    )


_SHARE_SCALE = 0.9

_LAYERS: tuple[tuple[str, str], ...] = (
    ("failed", "failed"),
    ("not_found", "not found"),
    ("invalid", "invalid"),
    ("stuck", "stuck"),
    ("pending", "pending"),
    ("unknown", "unknown"),
)
"""Problems at the bottom, where heights can be compared."""


def states_chart(
    rows: Samples, bounds: tuple[datetime, ...], endings: Sequence[Mapping[RunStatus, int]] = ()
) -> Chart | None:
    """The items that are not completed, by state, over time; spans with runs that did not complete are marked.

    `endings` as in `TargetFacts`; if empty, only the last run of each span is looked at.
    """
    if not any(rows) and not any(endings):
        return None
    layers = [
        layer
        for role, name in _LAYERS
        if any((layer := Series(name=name, role=role, values=tuple(_layer(row, role) for row in rows))).values)
    ]
    heights = [sum(layer.values[n] or 0 for layer in layers) for n in range(len(rows))]
    highest = max(heights)
    marks = [
        bool(ended) or (row is not None and row.status is not RunStatus.COMPLETE)
        for row, ended in zip(rows, endings or [{}] * len(rows), strict=True)
    ]
    plane = Plane(bounds=bounds, high=highest or 1, scale=("0", format_count(highest) if highest else ""))
    columns = {
        "Items": _total,
        **{state.label.capitalize(): _of(state) for state in ItemState},
        "Stuck, of the pending": lambda row: row.snapshot.stuck,
        "Last run": lambda row: row.status.value,
    }
    legend = [Legend(name=layer.name, role=layer.role) for layer in layers]
    if any(marks):
        legend.append(Legend(name="run cut short", role="cut-short"))
    return Chart(
        name="states",
        title="Which items are not completed?",
        sentence=states_sentence(rows, endings),
        figure=columns_figure(layers, bounds, marks),
        table=_sample_table("Items by state over time", columns, rows),
        svg=draw_columns(plane, layers, marks),
        legend=tuple(legend),
    )


def _layer(row: HistoryRow | None, role: str) -> float | None:
    if row is None:
        return None
    snapshot = row.snapshot
    if role == "pending":
        return snapshot.pending - snapshot.stuck
    return snapshot.stuck if role == "stuck" else snapshot.count(ItemState(role))


def indexing_chart(target: TargetOverview, bounds: tuple[datetime, ...]) -> Chart | None:
    """The median and the 95th percentile of the time to indexed, by the time of the upload."""
    report = target.facts.indexing
    if report is None or not any(times.indexed for times in report.spans):
        return None
    half = Series(name="p50", role="p50", values=tuple(times.quantile_s(0.5) for times in report.spans))
    most = Series(name="p95", role="p95", values=tuple(times.quantile_s(0.95) for times in report.spans))
    highest = max(value for value in most.values if value is not None)
    unit, name = time_unit(highest)
    plane = Plane(bounds=bounds, high=highest, scale=("0 s", rounded_duration(highest)))
    rows = tuple(
        (start, end, times.indexed, _rounded(low), _rounded(high))
        for (start, end), times, low, high in zip(pairwise(bounds), report.spans, half.values, most.values, strict=True)
    )
    return Chart(
        name="indexing",
        title="How long does indexing take?",
        sentence=indexing_sentence(report),
        figure=lines_figure(
            [_scaled(half, unit), _scaled(most, unit)],
            bounds,
            {"rangemode": "tozero", "ticksuffix": f" {name}"},
            band=True,
        ),
        table=ChartTable(
            caption="Time to indexed, by the time of the upload",
            heading=("From", "To", "Indexed uploads", "p50 in seconds", "p95 in seconds"),
            rows=rows,
        ),
        svg=draw_lines(plane, [half, most], band=(half, most)),
        legend=(Legend(name="p50", role="p50", line=True), Legend(name="p95", role="p95", line=True)),
    )


def stages_chart(target: TargetOverview, *, now: datetime) -> Chart | None:
    """The items by the last known stage, with the age of the oldest pending one."""
    stages = target.facts.stages
    if not stages:
        return None
    bars, rows = [], []
    for each in stages:
        name = each.stage or "without a status"
        since = target.facts.stage_ages.get(each.stage) if each.state is ItemState.PENDING else None
        oldest = f", the oldest pending for {rounded_duration((now - since).total_seconds())}" if since else ""
        text = f"{plural(each.items, 'item')}{oldest}"
        bars.append(Bar(label=name, value=each.items, text=text, role=each.state.value))
        rows.append((name, each.state.label, each.items, since))
    return Chart(
        name="stages",
        title="In which stage are the items?",
        sentence=stages_sentence(stages, target.facts.stage_count),
        figure=None,
        table=ChartTable(
            caption="Items by the last known stage",
            heading=("Stage", "State", "Items", "Oldest pending since"),
            rows=tuple(rows),
        ),
        svg=draw_bars(bars),
        is_image=False,
    )


def reasons_chart(target: TargetOverview) -> Chart | None:
    """The failed items by the reason that the API gave."""
    reasons = target.facts.reasons
    if not reasons:
        return None
    named = [(each.reason or "no reason given", each.items) for each in reasons]
    bars = [Bar(label=name, value=items, text=plural(items, "item"), role="failed") for name, items in named]
    return Chart(
        name="reasons",
        title="Why did items fail?",
        sentence=reasons_sentence(reasons, target.facts.reason_count),
        figure=None,
        table=ChartTable(caption="Failed items by reason", heading=("Reason", "Items"), rows=tuple(named)),
        svg=draw_bars(bars),
        is_image=False,
    )


def requests_chart(target: TargetOverview, bounds: tuple[datetime, ...]) -> Chart | None:
    """The requests of a run over time."""
    line = _line(target, Metric.REQUESTS)
    if line is None or not line.high:
        return None
    rows = target.facts.samples
    series = Series(name="requests", role="plain", values=line.values)
    retries = Series(
        name="retries", role="retries", values=tuple(None if row is None else row.snapshot.retries for row in rows)
    )
    lines = [series, retries] if any(retries.values) else [series]
    plane = Plane(bounds=bounds, high=line.high, scale=("0", format_count(line.high)))
    return Chart(
        name="requests",
        title="How many requests does a run send?",
        sentence=level_sentence(line, Markup("A run sends {} requests"), format_count),
        figure=lines_figure(lines, bounds, {"rangemode": "tozero"}),
        table=_sample_table(
            "Requests of a run over time",
            {
                "Requests": lambda row: row.snapshot.requests,
                "Retries": lambda row: row.snapshot.retries,
                "Run took seconds": lambda row: round(row.snapshot.duration_s, 1),
            },
            rows,
        ),
        svg=draw_lines(plane, lines),
        legend=tuple(Legend(name=each.name, role=each.role, line=True) for each in lines) if len(lines) > 1 else (),
    )


def latency_chart(target: TargetOverview, bounds: tuple[datetime, ...]) -> Chart | None:
    """The median and the 95th percentile of the latency of a run's requests."""
    line = _line(target, Metric.LATENCY_P95_MS)
    if line is None:
        return None
    rows = target.facts.samples
    half = Series(
        name="p50", role="p50", values=tuple(None if row is None else row.snapshot.latency_p50_ms for row in rows)
    )
    most = Series(name="p95", role="p95", values=line.values)
    plane = Plane(bounds=bounds, high=line.high, scale=("0 ms", format_latency(line.high)))
    return Chart(
        name="latency",
        title="How fast does the API answer?",
        sentence=level_sentence(line, Markup("95% of the requests take at most {}"), format_latency),
        figure=lines_figure([half, most], bounds, {"rangemode": "tozero", "ticksuffix": " ms"}, band=True),
        table=_sample_table(
            "Latency of the requests of a run, in milliseconds",
            {
                "p50 in ms": lambda row: _rounded(row.snapshot.latency_p50_ms),
                "p95 in ms": lambda row: _rounded(row.snapshot.latency_p95_ms),
            },
            rows,
        ),
        svg=draw_lines(plane, [half, most], band=(half, most)),
        legend=(Legend(name="p50", role="p50", line=True), Legend(name="p95", role="p95", line=True)),
    )


def budget_chart(target: TargetOverview) -> Chart | None:
    """The error budget that each objective has left."""
    known = [(row.objective, row.status) for row in target.facts.slos if row.status and row.status.share is not None]
    if not known:
        return None
    bars, rows = [], []
    for objective, status in known:
        role = "failed" if status.is_spent or status.severity else "completed"
        bars.append(Bar(label=objective.name, value=min(status.budget_left, 1.0), text=budget_text(status), role=role))
        rows.append(
            (
                objective.name, objective_text(objective), share_text(status), percent(max(status.budget_left, 0.0)),
                status.bad, round(status.allowed, 1), spent_text(status),
            )
        )  # fmt: skip
    return Chart(
        name="budget",
        title="How much error budget is left?",
        sentence=budget_sentence([status for _, status in known]),
        figure=None,
        table=ChartTable(
            caption="Error budget of each objective",
            heading=("Objective", "Promise", "In time", "Budget left", "Late uploads", "Allowed", "Budget spent"),
            rows=tuple(rows),
        ),
        svg=draw_bars(bars, longest=1.0),
        is_image=False,
    )


def burn_chart(target: TargetOverview) -> Chart | None:
    """How fast each objective spends its budget, by window."""
    known = [(row.objective, row.status) for row in target.facts.slos if row.status and row.status.share is not None]
    if not known:
        return None
    bars, rows = [], []
    for objective, status in known:
        thresholds = {
            window: alert.threshold(objective) for alert in BURN_ALERTS for window in (alert.short, alert.long)
        }
        for measured in status.burn_rates:
            window, limit = format_duration(measured.window), thresholds[measured.window]
            rate = "no upload was due" if measured.rate is None else f"{format_rate(measured.rate)}×"
            over = measured.rate is not None and measured.rate > limit
            words = f"{rate}, alert above {format_rate(limit)}×"
            label = f"{objective.name}, last {window}"
            bars.append(Bar(label=label, value=measured.rate or 0.0, text=words, role="failed" if over else "plain"))
            rows.append((objective.name, window, measured.rate, round(limit, 1), measured.bad, measured.total))
    return Chart(
        name="burn",
        title="How fast is the error budget spent?",
        sentence=burn_sentence([status for _, status in known]),
        figure=None,
        table=ChartTable(
            caption="Burn rate by window; 1 spends the budget exactly in the window of the objective",
            heading=("Objective", "Window", "Burn rate", "Alert above", "Late uploads", "Uploads"),
            rows=tuple(rows),
        ),
        svg=draw_bars(bars),
        is_image=False,
    )


def _scaled(series: Series, unit: int) -> Series:
    return replace(series, values=tuple(None if value is None else round(value / unit, 3) for value in series.values))


def _line(target: TargetOverview, metric: Metric) -> TrendLine | None:
    return next((line for line in target.trend if line.metric is metric), None)


_Column = Callable[[HistoryRow], Cell]


def _sample_table(caption: str, columns: Mapping[str, _Column], rows: Samples) -> ChartTable:
    """A row per span with results: when its last run started, and the columns."""
    return ChartTable(
        caption=caption,
        heading=("Run started", *columns),
        rows=tuple((row.started_at, *(cell(row) for cell in columns.values())) for row in rows if row is not None),
    )


def _total(row: HistoryRow) -> Cell:
    return row.snapshot.total


def _share(row: HistoryRow) -> float | None:
    return row.snapshot.completed / row.snapshot.total if row.snapshot.total else None


def _completed_share(row: HistoryRow) -> Cell:
    share = _share(row)
    return None if share is None else format_share(share)


def _of(state: ItemState) -> _Column:
    return lambda row: row.snapshot.count(state)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
