"""The overview and the page of a target, rendered from view models."""

from dataclasses import replace
from datetime import timedelta

import pytest
from reports.html.documents import page
from reports.html.objectives import slo
from reports.overviews import BOUNDS, DAY, HOUR, LAST, NOW, SAMPLE, facts, group, overview, row
from reports.samples import INCIDENT

from monitor.model import LearnedLimits, RunStatus, Severity, Silence
from monitor.reports.html.charts import completed_chart, states_chart, target_charts
from monitor.reports.html.pagination import Page
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview_page import OverviewPage, combined_samples
from monitor.reports.target_page import RunList, RunRow, TargetPage
from monitor.reports.trends import StuckItem
from monitor.reports.triage import Verdict, known_objectives, summary_of

MINUTE = timedelta(minutes=1)
HOSTILE = "<script>alert('x')</script>&\"'"
SILENCE = Silence(
    id=3, matchers={"target": ("gloo",)}, starts_at=NOW - HOUR, ends_at=NOW + HOUR, comment=HOSTILE, author="ana"
)
PERIODS = [("24h", "?since=24h"), ("7d", "?since=7d")]
GOOD = Verdict(kind="good", sentence="Nothing is wrong.")


def overview_html(shown, wanted="", **fields):
    found = OverviewPage(
        verdict=GOOD,
        overview=shown,
        summaries=tuple(summary_of(target, shown.incidents) for target in shown.targets),
        target_count=len(shown.targets),
        found_count=len(shown.targets),
        samples=combined_samples(shown.targets, shown.bounds),
    )
    found = replace(found, **fields)
    made = (completed_chart(found.samples, BOUNDS), states_chart(found.samples, BOUNDS))
    return page(
        "overview.html",
        NOW,
        page=found,
        periods=PERIODS,
        period="7d",
        period_query="",
        wanted=wanted,
        slos=known_objectives(shown.targets),
        slo_count=sum(len(target.facts.slos) for target in shown.targets),
        charts=[chart for chart in made if chart is not None],
        target_pages=Page(text="1–2 of 2 targets"),
    )


def target_html(shown, **fields):
    found = TargetPage(overview=shown, verdict=GOOD, runs=RunList())
    found = replace(found, **fields)
    return page(
        "target.html",
        NOW,
        page=found,
        periods=PERIODS,
        period="7d",
        period_query="?since=30d",
        charts=target_charts(found.target, shown.bounds, now=NOW),
        run_pages=Page(text="runs 2 to 1", next="?before=1"),
    )


def test_the_overview_says_first_what_is_wrong_then_incidents_then_targets():
    incident = replace(INCIDENT, severity=Severity.CRITICAL)
    found = overview_html(replace(SAMPLE, incidents=(incident,), incident_count=9))
    order = [
        found.text.index(part) for part in ("Nothing is wrong.", "Open incidents", "gloo: ", "Targets (2)", "Trends")
    ]
    assert order == sorted(order)
    assert "critical" in found.text
    assert "Check: the documents named" in found.text
    assert "8 more open incidents" in found.text
    assert {"/incidents/7", "/targets/gloo", "/targets/uppzy"} <= set(found.links())


def test_a_target_that_never_ran_has_dashes_and_no_chart():
    found = overview_html(overview(facts(target="new", last_run=None, snapshot=None)))
    assert "never ran" in found.text
    assert "Trends" not in found.text
    assert "No incident is open." in found.text


def test_without_targets_only_the_verdict_is_shown():
    found = overview_html(replace(overview(), targets=()), target_count=0)
    assert "Nothing is wrong." in found.text
    assert "table" not in found.tags


def test_targets_can_be_found_by_name_where_not_all_are_shown():
    assert "Find" not in overview_html(SAMPLE).text
    assert "Find" in overview_html(SAMPLE, target_count=30).text
    nothing = overview_html(replace(SAMPLE, targets=()), target_count=30, wanted=HOSTILE)
    assert "No target has this in its name." in nothing.text
    assert ("input", HOSTILE) in [(tag, attributes.get("value")) for tag, attributes in nothing.attributes]


def test_objectives_that_burn_come_first_and_those_without_data_are_counted():
    kept, burning = slo((20 * DAY, 1000, 10)), slo((20 * DAY, 900, 0), (MINUTE, 100, 100))
    unknown = replace(kept, status=None)
    shown = overview(
        facts(target="a", slos=(kept, unknown)), facts(target="b", slos=(replace(burning, incident_id=4),))
    )
    found = overview_html(shown).text
    assert found.index("burning too fast") < found.index("80% left")
    assert "1 objective has no data yet." in found
    assert "known before the first complete run" in target_html(overview(facts(slos=(unknown,)))).text


def test_the_handling_of_an_incident_is_shown():
    acknowledged = replace(INCIDENT, state="acknowledged", acknowledged_by="ben", acknowledged_at=NOW)
    found = overview_html(replace(SAMPLE, incidents=(acknowledged,), silences=(SILENCE,)))
    assert "acknowledged by ben" in found.text
    assert "silenced by silence 3 until" in found.text


@pytest.mark.parametrize("name", ["a/b", "ü?#", HOSTILE])
def test_names_are_encoded_in_addresses_and_stay_text(name):
    named = overview(
        facts(target=name, stuck=(StuckItem(item_id=name, group=name, stage=name, pending_since=NOW - DAY),))
    )
    found, one = overview_html(named), target_html(named)
    assert "script" not in [
        tag for tag, attributes in found.attributes if "src" not in attributes and attributes.get("type") is None
    ]
    assert name in one.text
    (link,) = [link for link in found.links() if link.startswith("/targets/")]
    assert set(link) <= set("/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%-._~")
    assert link.count("/") == 2
    (item,) = [link for link in one.links() if link.startswith("/items/")]
    assert item.count("/") == 3


def test_the_page_of_a_target_shows_everything_of_the_report():
    shown = overview(SAMPLE.targets[0].facts, undelivered=(Undelivered(channel="mail", dead=1, waiting=2),))
    found = target_html(shown, silences=(SILENCE,))
    for part in (
        "1000 in all", "986 completed", "12 pending ( 2 stuck)", "2 failed", "Groups", "sermons", "Stuck items",
        "Slow uploads", "Channel mail: 1 message was given up, 2 messages wait", "Silence 3 until", "Run",
    ):  # fmt: skip
        assert part.replace("( ", "(") in found.text.replace("( ", "(")
    assert "/items/gloo/sermons%2F2026%2F02%2F22%2Fa-long-name-of-a-document.pdf" in found.links()
    assert "/items?target=gloo&state=failed" in found.links()
    assert "/items?target=gloo&state=stuck" in found.links()
    assert "script" in found.tags


def test_the_page_says_when_a_limit_makes_runs_slow():
    assert "Limits of the API" not in target_html(overview()).text
    limited = target_html(
        overview(), limits=LearnedLimits(at=NOW), limits_note="The rate limit is what makes a run slow."
    )
    assert "The rate limit is what makes a run slow." in limited.text


def test_runs_without_results_say_why():
    crashed = RunRow(
        run_id=2, status=RunStatus.CRASHED, abort_reason=None, error=HOSTILE, started_at=NOW - DAY,
        finished_at=NOW - DAY, snapshot=None,
    )  # fmt: skip
    running = replace(crashed, run_id=3, status=RunStatus.RUNNING, error=None, finished_at=None)
    ended = replace(
        crashed, run_id=1, status=RunStatus.ABORTED, abort_reason="rate_limited", error=None, snapshot=row().snapshot
    )
    found = target_html(overview(), runs=RunList(rows=(running, crashed, ended)))
    for part in ("still running", f"no results: {HOSTILE}", "by rate limited", "120 ms"):
        assert part in found.text
    assert "?before=1" in found.links()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"running_since": NOW}, "a run has been in progress"),
        (
            {"last_run": replace(LAST, status=RunStatus.FAILED, error="no such table"), "unreadable_since": NOW - DAY},
            "unreadable since",
        ),
        ({"last_run": replace(LAST, status=RunStatus.CRASHED, error="the process ended")}, "the process ended"),
        ({"last_run": replace(LAST, status=RunStatus.PARTIAL, abort_reason="deadline")}, "Cut short by deadline"),
        ({"last_run": replace(LAST, started_at=NOW - DAY)}, "too long ago"),
        ({"last_run": None, "snapshot": None}, "ingestion-monitor check --target gloo"),
        ({"last_known": {"completed": 3}}, "Last known of the unknown: 3 completed."),
        (
            {"group_count": 20, "groups": (group("faq", completed=5), group(None, failed=1))},
            "18 more groups are not shown",
        ),
    ],
    ids=["running", "unreadable", "crashed", "partial", "stale", "never ran", "last known", "groups"],
)  # fmt: skip
def test_the_state_of_a_target_is_said_in_words(fields, part):
    assert part in target_html(overview(facts(**fields))).text


def test_a_report_in_one_file_has_no_links_to_pages():
    from monitor.reports.html import Frame, render

    frame = Frame(title="Report", generated_at=NOW, offline=True)
    html = render(
        "target.html", frame, page=TargetPage(overview=overview(SAMPLE.targets[0].facts), verdict=GOOD, runs=RunList()),
        periods=[], period="7d", period_query="", charts=[], run_pages=Page(text=""),
    )  # fmt: skip
    assert 'href="/items' not in html
    assert "data-plotly" not in html
