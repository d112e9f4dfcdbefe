"""Renders templates. Every value is escaped; an undefined name is an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monitor.incidents.decide import Action
from monitor.incidents.silences import format_matchers, matching_silence
from monitor.incidents.slo_texts import budget_text, objective_text, share_text, spent_text
from monitor.model import Incident, IncidentState
from monitor.model.durations import format_duration
from monitor.notifications.texts import checks_of, describe_cause, display_name, safe_message
from monitor.reports.canary import canary_lines
from monitor.reports.explain import describe_rule
from monitor.reports.fleet import job_text, worker_name
from monitor.reports.formatting import format_count, format_latency, format_share, iso, plural
from monitor.reports.html.drawing import draw_sparkline
from monitor.reports.html.marks import age, coded, is_number, item_path, segment, table_rows, time_tag, visible
from monitor.reports.html.pagination import address
from monitor.reports.html.sentences import rounded_duration
from monitor.reports.html.static import plotly_style_ids
from monitor.reports.incident_page import Step
from monitor.reports.incidents import evidence_facts
from monitor.reports.indexing import GroupTimes, IndexingReport
from monitor.reports.items import item_detail
from monitor.reports.overview import Metric, TargetOverview
from monitor.reports.runs import last_known_text
from monitor.reports.slos import verdict_text
from monitor.reports.waits import summary_line
from monitor.runs.canary.store import CanarySummary
from monitor.waits.store import WaitSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds the content of a page: its head, navigation and forms."""

    title: str
    """In the browser's tab, before the product's name."""
    generated_at: datetime
    environment: str = ""
    path: str = "/"
    """The path of this page, to mark it in the navigation and to return after an action."""
    viewer: str | None = None
    """The name that the viewer logged in with; None: no login was needed."""
    can_log_out: bool = False
    can_act: bool = False
    """Whether forms that acknowledge, silence and resolve are shown."""
    csrf_token: str = ""
    has_workers: bool = False
    """Whether the page of workers is in the navigation."""
    offline: bool = False
    """Whether the page is one file that is opened without the daemon: no links to other pages, assets inlined."""


def render(template: str, frame: Frame, **values: object) -> str:
    """The HTML of a template of this package, such as "overview.html"."""
    return _environment().get_template(template).render(frame=frame, **values)


def compile_templates() -> None:
    """Compiles all templates, which takes a tenth of a second or two: else the first pages would wait for it."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("monitor.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=visible,
    )
    environment.filters.update(
        age=age,
        budget=budget_text,
        canaries=canary_text,
        checks=checks_of,
        count=format_count,
        describe=describe_cause,
        display_name=display_name,
        duration=format_duration,
        iso=iso,
        last_known=last_known_text,
        latency=format_latency,
        matchers=format_matchers,
        objective=objective_text,
        plural=plural,
        segment=segment,
        seconds=rounded_duration,
        share=format_share,
        silence_of=matching_silence,
        share_in_time=share_text,
        slo_verdict=verdict_text,
        sparkline=share_sparkline,
        spent=spent_text,
        time=time_tag,
        times_of=times_of,
        waits=waits_text,
    )
    environment.filters.update(_page_filters())
    environment.globals["plotly_style_ids"] = plotly_style_ids
    environment.tests.update(numeric=is_number)
    return environment


def _page_filters() -> dict[str, Callable[..., object]]:
    """What tables, and the pages of incidents, items, workers and errors use."""
    return {
        "coded": coded,
        "decided": decided,
        "detail": item_detail,
        "evidence": evidence_facts,
        "item_path": item_path,
        "job_text": job_text,
        "rule": describe_rule,
        "table_rows": table_rows,
        "users_text": users_text,
        "with_query": with_query,
        "worker_name": worker_name,
    }


_DECIDED: Mapping[Action, tuple[str, str]] = {
    Action.OPEN: ("open", "opened"),
    Action.REOPEN: ("open", "reopened"),
    Action.UPDATE: ("info", "updated"),
    Action.REMIND: ("info", "reminded"),
    Action.RESOLVE: ("resolved", "resolved"),
}


def decided(step: Step) -> tuple[str, str]:
    """What a step changed: the word of a mark, and what it says."""
    if step.action is not None and step.action in _DECIDED:
        return _DECIDED[step.action]
    return {"acknowledged": "acknowledged", "silenced": "silenced", "notified": "sent"}.get(
        step.kind, "info"
    ), step.kind


def with_query(path: str, **query: str) -> str:
    """An address with a query string."""
    return address(path, query)


def users_text(incident: Incident) -> str:
    """What a product may tell its own users about an incident."""
    return safe_message(incident.cause, resolved=incident.state is IncidentState.RESOLVED)


def times_of(report: IndexingReport, group: str | None) -> GroupTimes | None:
    """The uploads of one group; None if the report does not name it."""
    return next((each for each in report.groups if each.name == group), None)


def waits_text(summary: WaitSummary) -> str:
    """The waits of a period, without their label."""
    return summary_line(summary).removeprefix("Waits: ")


def canary_text(summary: CanarySummary) -> str:
    """The canaries of a period, without their label."""
    return " ".join(line.strip() for line in canary_lines(summary)).removeprefix("Canaries: ")


def share_sparkline(target: TargetOverview) -> Markup:
    """The completed share of a target over the period, from 90%, or the lowest share, to 100%; a dash without any."""
    line = next((line for line in target.trend if line.metric is Metric.COMPLETED_SHARE), None)
    if line is None:
        return Markup("–")
    return draw_sparkline(line.values, low=min(line.low, 0.9), high=1.0)
