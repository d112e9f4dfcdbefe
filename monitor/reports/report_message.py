"""A report as a message for channels: a short form, the whole as text and as an HTML file, and JSON values. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from monitor.notifications.messages import Message, ReportContent, format_age, report_message
from monitor.notifications.texts import describe_cause, display_name
from monitor.reports.document import completed_text, health_text, state_of, worst_targets
from monitor.reports.formatting import plural
from monitor.reports.html.report_file import report_html
from monitor.reports.overview import Condition, Overview
from monitor.reports.overview_json import overview_json
from monitor.reports.overview_text import overview_text

MAX_TARGETS = 50
"""Targets in a message, which must not be too large for a receiver; those with most problems first."""
_MAX_INCIDENTS = 10
"""Open incidents that the short form names."""


def as_message(overview: Overview, *, public_url: str | None = None) -> Message:
    """The report as a message. `public_url`: the page's address, for links in the HTML file."""
    shown = replace(overview, targets=worst_targets(overview.targets, MAX_TARGETS))
    content = ReportContent(
        lines=tuple(_lines(overview, shown)),
        text=overview_text(shown) + _left_out_note(overview),
        html=report_html(overview, public_url=public_url, details=MAX_TARGETS),
        data={**_without_trends(overview_json(shown)), "targets_total": len(overview.targets)},
    )
    return report_message(_title(overview), content, environment=overview.environment, at=overview.generated_at)


def _title(overview: Overview) -> str:
    incidents = max(overview.incident_count, len(overview.incidents))
    found = plural(incidents, "open incident") if incidents else "no open incidents"
    period = format_age(overview.generated_at - overview.start)
    return f"Report over the last {period}: {plural(len(overview.targets), 'target')}, {found}"


def _left_out_note(overview: Overview) -> str:
    left_out = len(overview.targets) - MAX_TARGETS
    return f"\n\nand {plural(left_out, 'more target')}: `ingestion-monitor report`" if left_out > 0 else ""


def _lines(overview: Overview, shown: Overview) -> Iterator[tuple[str, str]]:
    for target in shown.targets:
        state = state_of(target)
        words = [health_text(target), *([state.replace("_", " ")] if state != Condition.COMPLETE else [])]
        share = completed_text(target)
        yield target.facts.target, " · ".join([*words, *([f"completed {share}"] if share else [])])
    if len(overview.targets) > len(shown.targets):
        yield "…", f"{len(overview.targets) - len(shown.targets)} more targets"
    incidents = [
        f"#{each.id} {display_name(each.target, each.group)}: {describe_cause(each.cause, each.member_count)}"
        for each in overview.incidents[:_MAX_INCIDENTS]
    ]
    more = max(overview.incident_count, len(overview.incidents)) - len(incidents)
    yield "open incidents", "; ".join([*incidents, *([f"{more} more"] if more > 0 else [])]) or "none"


def _without_trends(report: dict[str, Any]) -> dict[str, Any]:
    """The report's JSON without the values of each span, which are most of it."""
    kept = [{name: value for name, value in target.items() if name != "trend"} for target in report["targets"]]
    return {**report, "targets": kept}
