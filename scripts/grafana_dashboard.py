"""Writes the Grafana dashboard: `python scripts/grafana_dashboard.py deploy/grafana/dashboard.json`.

Values from the database are the same in all daemons, so panels take their maximum; counters of a process are added up.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import Dashboard as DashboardModel
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

P = "ingestion_monitor_"
TARGET = 'target=~"$target"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARNING, BAD = "green", "orange", "red"
HEIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A panel with lines: each query with the legend of its lines."""

    title: str
    says: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    stacked: bool = False
    low: float | None = 0
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A panel with one number, which is good up to the first bound and bad from the second."""

    title: str
    says: str
    query: str
    warning: float
    bad: float
    unit: str = "short"


NOW = (
    Number(
        title="Open incidents",
        says="Incidents that are not resolved, of the chosen targets and of all channels.",
        query=f'sum(max by (target, cause, severity) ({P}incidents_open{{target=~"$target|channel:.*"}})) or vector(0)',
        warning=1,
        bad=5,
    ),
    Number(
        title="Overdue targets",
        says="Targets without a run for two intervals: the state of their items is not known.",
        query=f"count(time() > max by (target) ({P}run_overdue_timestamp_seconds{{{TARGET}}})) or vector(0)",
        warning=1,
        bad=2,
    ),
    Number(
        title="Items with unknown state",
        says="Share of tracked items for which the last run got no answer.",
        query=f'sum(max by (target) ({P}items{{{TARGET}, state="unknown"}})) '
        f"/ (sum(max by (target, state) ({P}items{{{TARGET}}})) > 0) or vector(0)",
        warning=0.01,
        bad=0.2,
        unit="percentunit",
    ),
    Number(
        title="Stuck items",
        says="Pending items that have not changed for longer than their limit.",
        query=f"sum(max by (target) ({P}items_stuck{{{TARGET}}})) or vector(0)",
        warning=1,
        bad=50,
    ),
    Number(
        title="Dead letters",
        says="Notifications whose delivery was given up: `ingestion-monitor notifications dead` lists them.",
        query=f"sum(max by (channel) ({P}notifications_dead)) or vector(0)",
        warning=1,
        bad=10,
    ),
    Number(
        title="Daemons without a database",
        says="Daemons that can't use their database: they check nothing until they can.",
        query=f"count({P}database_up == 0) or vector(0)",
        warning=1,
        bad=1,
    ),
)

ITEMS = (
    Chart(
        title="Items by state",
        says="Tracked items in the last snapshot.",
        queries=[(f"sum by (state) (max by (target, state) ({P}items{{{TARGET}}}))", "{{state}}")],
        stacked=True,
    ),
    Chart(
        title="Failed, stuck and missing items",
        says="Per target. Missing: the API does not know the id.",
        queries=[
            (f'max by (target) ({P}items{{{TARGET}, state="failed"}})', "{{target}} failed"),
            (f"max by (target) ({P}items_stuck{{{TARGET}}})", "{{target}} stuck"),
            (f'max by (target) ({P}items{{{TARGET}, state="not_found"}})', "{{target}} missing"),
        ],
    ),
    Chart(
        title="Time to indexed",
        says="From the upload of an item until a run first saw it completed, of the items of the last hour.",
        queries=[
            (
                (
                    f"histogram_quantile({share}, sum by (le, target) (max by (le, target, job) "
                    f"(increase({P}time_to_indexed_seconds_bucket{{{TARGET}}}[1h]))))"
                ),
                f"{{{{target}}}} {name}",
            )
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ],
        unit="s",
    ),
    Chart(
        title="Open incidents by cause",
        says="Incidents that are not resolved. `ingestion-monitor incidents list` names them.",
        queries=[
            (
                (
                    f"sum by (cause, severity) (max by (target, cause, severity) ({P}incidents_open"
                    '{target=~"$target|channel:.*"}))'
                ),
                "{{cause}} ({{severity}})",
            )
        ],
        stacked=True,
    ),
)

OBJECTIVES = (
    Chart(
        title="Error budget left",
        says="Share of the error budget of each objective that is left in its window; below 0 it is overspent.",
        queries=[(f"max by (target, slo) ({P}slo_error_budget_remaining_ratio{{{TARGET}}})", "{{target}}: {{slo}}")],
        unit="percentunit",
        low=None,
        high=1,
    ),
    Chart(
        title="Burn rate",
        says="1 spends the error budget exactly in the window of the objective.",
        queries=[
            (f"max by (target, slo, window) ({P}slo_burn_rate{{{TARGET}}})", "{{target}}: {{slo}} over {{window}}")
        ],
    ),
    Chart(
        title="Canary steps",
        says="How long each step of the last canary took; a gap: it did not end well.",
        queries=[(f"max by (target, step) ({P}canary_step_duration_seconds{{{TARGET}}})", "{{target}} {{step}}")],
        unit="s",
    ),
    Chart(
        title="Waits by result",
        says="`ingestion-monitor wait` and the Python API, per hour.",
        queries=[
            (f"sum by (result) (max by (target, result) (increase({P}waits_total{{{TARGET}}}[1h])))", "{{result}}")
        ],
        stacked=True,
    ),
)

RUNS = (
    Chart(
        title="Runs by status",
        says="Finished runs per second, of all processes.",
        queries=[
            (
                f"sum by (status) (max by (target, status) (rate({P}runs_total{{{TARGET}}}[$__rate_interval])))",
                "{{status}}",
            )
        ],
        unit="cps",
        stacked=True,
    ),
    Chart(
        title="Run duration",
        says="p95 and mean, per target.",
        queries=[
            (
                (
                    "histogram_quantile(0.95, max by (le, target) "
                    f"(rate({P}run_duration_seconds_bucket{{{TARGET}}}[$__rate_interval])))"
                ),
                "{{target}} p95",
            ),
            (
                (
                    f"max by (target) (rate({P}run_duration_seconds_sum{{{TARGET}}}[$__rate_interval])) "
                    f"/ max by (target) (rate({P}run_duration_seconds_count{{{TARGET}}}[$__rate_interval]))"
                ),
                "{{target}} mean",
            ),
        ],
        unit="s",
    ),
    Chart(
        title="Time since the last complete run",
        says="A run that was cut short does not count.",
        queries=[(f"time() - max by (target) ({P}last_success_timestamp_seconds{{{TARGET}}})", "{{target}}")],
        unit="s",
    ),
    Chart(
        title="Runs that did not happen",
        says="Skipped: another process holds the lease, or has executed or queued the run. Errors and crashes: of the "
        "monitor itself.",
        queries=[
            (f"sum by (target) (rate({P}runs_skipped_total{{{TARGET}}}[$__rate_interval]))", "{{target}} skipped"),
            (f"sum by (target) (rate({P}run_errors_total{{{TARGET}}}[$__rate_interval]))", "{{target}} error"),
            (f"max by (target) (rate({P}run_crashes_total{{{TARGET}}}[$__rate_interval]))", "{{target}} crash"),
        ],
        unit="cps",
    ),
)

API = (
    Chart(
        title="Requests by status class",
        says="Requests to the API, retries included; none: no response.",
        queries=[
            (
                (
                    "sum by (status_class) (max by (target, status_class) "
                    f"(rate({P}requests_total{{{TARGET}}}[$__rate_interval])))"
                ),
                "{{status_class}}",
            )
        ],
        unit="reqps",
        stacked=True,
    ),
    Chart(
        title="Share of retries",
        says="Above 10% the retry budget is used up.",
        queries=[
            (
                (
                    f"max by (target) (rate({P}retries_total{{{TARGET}}}[$__rate_interval])) / (sum by (target) "
                    f"(max by (target, status_class) (rate({P}requests_total{{{TARGET}}}[$__rate_interval]))) > 0)"
                ),
                "{{target}}",
            )
        ],
        unit="percentunit",
    ),
    Chart(
        title="Learned limits",
        says="What the API was observed to accept; absent if no limit was met.",
        queries=[
            (f"max by (target) ({P}allowed_requests_per_second{{{TARGET}}})", "{{target}} requests/s"),
            (f"max by (target) ({P}allowed_concurrency{{{TARGET}}})", "{{target}} concurrent"),
        ],
    ),
    Chart(
        title="Circuit breaker",
        says="1 while the target is down and not asked.",
        queries=[(f"max by (target) ({P}breaker_open{{{TARGET}}})", "{{target}}")],
        high=1,
    ),
)

DELIVERY = (
    Chart(
        title="Notifications that wait",
        says="Not delivered yet, by channel.",
        queries=[(f"max by (channel) ({P}notifications_due)", "{{channel}}")],
        stacked=True,
    ),
    Chart(
        title="Age of the oldest notification that waits",
        says="By channel. A suspended channel is 1.",
        queries=[
            (f"max by (channel) ({P}notifications_oldest_due_age_seconds)", "{{channel}}"),
            (f"max by (channel) ({P}channel_suspended)", "{{channel}} suspended"),
        ],
        unit="s",
    ),
)

WORKERS = (
    Chart(
        title="Workers and jobs",
        says="Workers that were seen lately, and what waits in their queue or runs: only with workers.",
        queries=[
            (f"max({P}fleet_workers)", "workers"),
            (f"max by (task, status) ({P}fleet_queue_jobs)", "{{task}} {{status}}"),
            (f"max({P}fleet_failed_jobs)", "failed jobs"),
        ],
    ),
    Chart(
        title="Age of the oldest job and share",
        says="How long the oldest job waits, and for how long the oldest share that is not done has been planned.",
        queries=[
            (f"max by (task) ({P}fleet_queue_oldest_age_seconds)", "{{task}}"),
            (f"max({P}fleet_share_oldest_age_seconds)", "planned share"),
        ],
        unit="s",
    ),
    Chart(
        title="Shares of runs in progress",
        says="Runs over many items are checked in shares, by any worker.",
        queries=[(f"sum by (state) (max by (target, state) ({P}fleet_shares{{{TARGET}}}))", "{{state}}")],
        stacked=True,
    ),
)

SECTIONS: Sequence[tuple[str, Sequence[Chart]]] = (
    ("Items", ITEMS),
    ("Objectives, canaries and waits", OBJECTIVES),
    ("Runs", RUNS),
    ("Requests to the API", API),
    ("Notifications", DELIVERY),
    ("Workers", WORKERS),
)


def queries() -> list[str]:
    """Each query of the dashboard, with Grafana's variables in it."""
    return [
        *(number.query for number in NOW),
        *(query for _, charts in SECTIONS for chart in charts for query, _ in chart.queries),
    ]


def dashboard() -> DashboardModel:
    """The dashboard."""
    board = (
        Dashboard("Ingestion Monitor")
        .uid("ingestion-monitor")
        .description("Items, incidents, objectives, runs and notifications of the ingestion monitor.")
        .tags(["ingestion-monitor"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            QueryVariable("target")
            .label("Target")
            .datasource(SOURCE)
            .query(f"label_values({P}run_overdue_timestamp_seconds, target)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
        )
    )
    for number in NOW:
        board.with_panel(_stat(number))
    for title, charts in SECTIONS:
        board.with_row(Row(title))
        for chart in charts:
            board.with_panel(_lines(chart))
    return board.build()


def _stat(number: Number) -> Stat:
    bounds = [(None, GOOD), *{number.warning: WARNING, number.bad: BAD}.items()]
    return (
        Stat()
        .title(number.title)
        .description(number.says)
        .datasource(SOURCE)
        .unit(number.unit)
        .height(4)
        .span(4)
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(
            ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(value=value, color=color) for value, color in bounds])
        )
        .with_target(Dataquery().expr(number.query).instant().ref_id("A"))
    )


def _lines(chart: Chart) -> TimeSeries:
    panel = (
        TimeSeries()
        .title(chart.title)
        .description(chart.says)
        .datasource(SOURCE)
        .unit(chart.unit)
        .height(HEIGHT)
        .span(12)
        .line_width(1)
        .fill_opacity(40 if chart.stacked else 0)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if chart.stacked:
        panel.stacking(StackingConfig().mode(StackingMode.NORMAL))
    if chart.low is not None:
        panel.min(chart.low)
    if chart.high is not None:
        panel.max(chart.high)
    for number, (query, legend) in enumerate(chart.queries):
        panel.with_target(Dataquery().expr(query).legend_format(legend).range().ref_id(chr(ord("A") + number)))
    return panel


def text() -> str:
    """The dashboard as JSON."""
    encoder: Any = JSONEncoder(sort_keys=True, indent=2)
    return str(encoder.encode(dashboard())) + "\n"


def main(arguments: list[str]) -> None:
    """Writes the files that are named."""
    for name in arguments:
        Path(name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
