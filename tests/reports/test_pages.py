"""The views of the overview and of the page of a target, over stored runs."""

from dataclasses import replace
from datetime import timedelta

import pytest
from database.history import DAY, HOUR, HistoryBuilder
from reports.overviews import BOUNDS, facts, overview, row
from support.samples import NOW, incident
from web.served import config

from monitor.database.engine import reading, writing
from monitor.incidents import store as incidents
from monitor.model import LearnedLimits, RunStatus, Severity, Silence, Snapshot
from monitor.reports.build import build_report
from monitor.reports.overview import target_overview
from monitor.reports.overview_page import TARGETS_PER_PAGE, combined_samples, overview_page
from monitor.reports.target_page import limits_note, may_match, target_page, target_runs
from monitor.reports.triage import INCIDENTS_SHOWN
from monitor.runs import throttle_store

MINUTE = timedelta(minutes=1)
TARGET = """
[[targets]]
name = "{}"
provider = "gloo"
publisher_id = "p1"
auth = {{ client_id = "id", client_secret = "s3cret" }}
"""


@pytest.fixture
def settings(tmp_path, store_url):
    def settings(*more):
        return config(tmp_path, database=store_url, more="".join(TARGET.format(name) for name in more))

    return settings


@pytest.fixture
def past(engine):
    return HistoryBuilder(engine)


def test_the_overview_has_the_targets_of_its_page_in_the_order_of_trouble(engine, past, settings):
    names = [f"t{n:02}" for n in range(TARGETS_PER_PAGE + 5)]
    for name in names:
        past.run(NOW - MINUTE, target=name)
    with writing(engine) as conn:
        incidents.open_incident(conn, incident(target="t23"), evidence_id=None)
    with reading(engine) as conn:
        pages = [overview_page(conn, settings(*names), since=7 * DAY, now=NOW, number=n) for n in (1, 2, 3)]
    first, second, third = pages
    assert [each.facts.target for each in first.overview.targets][:3] == ["t23", "gloo", "t00"]
    assert [each.name for each in second.summaries] == ["t18", "t19", "t20", "t21", "t22", "t24"]
    assert (first.target_count, len(first.overview.targets), third) == (26, 20, None)
    assert [each.facts.target for each in second.overview.targets] == [each.name for each in second.summaries]
    with reading(engine) as conn:
        some = overview_page(conn, settings(*names), since=7 * DAY, now=NOW, wanted="T1")
    assert ([each.name for each in some.summaries], some.found_count) == ([f"t1{n}" for n in range(10)], 10)
    assert some.verdict == first.verdict
    assert first.verdict.sentence == "1 critical incident is open, on t23."
    assert [each.target for each in second.overview.incidents] == ["t23"]


def test_figures_of_the_overview_are_those_of_the_report(engine, past, settings):
    past.run(NOW - 3 * DAY, snapshot=Snapshot(completed=5, failed=1))
    past.run(NOW - MINUTE, RunStatus.PARTIAL, snapshot=Snapshot(completed=4, unknown=2), abort_reason="deadline")
    with reading(engine) as conn:
        page = overview_page(conn, settings(), since=7 * DAY, now=NOW)
        report, _ = build_report(conn, settings(), target=None, since=7 * DAY, now=NOW)
    shown, whole = page.overview.targets[0], report.targets[0]
    assert (shown.trend, shown.condition, shown.facts.snapshot) == (whole.trend, whole.condition, whole.facts.snapshot)
    assert shown.facts.samples == whole.facts.samples
    assert page.overview.bounds == report.bounds


def samples(**at):
    """The samples of a target: rows by the number of their span."""
    found = [None] * (len(BOUNDS) - 1)
    for number, sample in at.items():
        found[int(number[1:])] = sample
    return tuple(found)


def test_counts_of_targets_are_added_and_a_span_without_a_run_keeps_those_before():
    a = facts(target="a", samples=samples(n3=row(failed=10), n5=row(failed=2)))
    b = facts(
        target="b",
        samples=samples(n4=row(total=50, target="b"), n5=row(total=60, target="b", status=RunStatus.PARTIAL)),
    )
    a = replace(a, samples=tuple(each and replace(each, target="a") for each in a.samples))
    found = combined_samples(overview(a, b).targets, BOUNDS)
    counts = [each and (each.snapshot.total, each.snapshot.failed, each.status) for each in found]
    complete, partial = RunStatus.COMPLETE, RunStatus.PARTIAL
    assert counts[:7] == [None, None, None, (1000, 10, complete), (1050, 10, complete), (1060, 2, partial), None]
    assert found[3].started_at == BOUNDS[4]


def test_the_page_of_a_target_has_what_the_report_has_and_details(engine, past, settings):
    past.run(NOW - 2 * DAY, RunStatus.FAILED)
    past.run(NOW - MINUTE, snapshot=Snapshot(completed=1, pending=2, stuck=1))
    past.item("a", "pending", stage="CHUNKING", pending_since=NOW - 9 * HOUR)
    past.item("b", "pending", stage="CHUNKING", pending_since=NOW - HOUR)
    past.item("c", stage="DONE")
    with reading(engine) as conn:
        page = target_page(conn, settings(), name="gloo", since=7 * DAY, now=NOW)
        report, _ = build_report(conn, settings(), target="gloo", since=7 * DAY, now=NOW)
    whole = report.targets[0].facts
    assert replace(page.target.facts, stage_ages={}, endings=(), changes=whole.changes) == whole
    assert page.target.facts.stage_ages == {"CHUNKING": NOW - 9 * HOUR}
    assert sum(each[RunStatus.FAILED] for each in page.target.facts.endings) == 1
    assert page.verdict.kind == "good"
    assert [each.status for each in page.runs.rows] == [RunStatus.COMPLETE, RunStatus.FAILED]


def test_the_page_names_the_most_urgent_incidents_and_counts_all(engine, past, settings):
    past.run(NOW - MINUTE)
    with writing(engine) as conn:
        for n in range(INCIDENTS_SHOWN + 2):
            severity = Severity.CRITICAL if n == 1 else Severity.WARNING
            incidents.open_incident(conn, incident(target="gloo", group=f"g{n}", severity=severity), evidence_id=None)
    with reading(engine) as conn:
        page = target_page(conn, settings(), name="gloo", since=DAY, now=NOW)
    found = [each.group for each in page.overview.incidents]
    assert (len(found), found[:3]) == (INCIDENTS_SHOWN, ["g1", "g9", "g8"])
    assert page.verdict.sentence == "10 incidents are open: 1 critical, 9 warning."


def test_a_target_without_runs_that_is_not_configured_has_no_page(engine, past, settings):
    past.run(NOW - DAY, target="gone")
    with reading(engine) as conn:
        pages = [target_page(conn, settings(), name=name, since=7 * DAY, now=NOW) for name in ("gloo", "gone", "never")]
    assert [page is None for page in pages] == [False, False, True]


def test_runs_are_paged_in_both_directions(engine, past):
    ids = [
        past.run(NOW - DAY + n * MINUTE, status)
        for n, status in enumerate(
            [RunStatus.COMPLETE, RunStatus.FAILED, RunStatus.CRASHED, RunStatus.COMPLETE, RunStatus.RUNNING]
        )
    ]
    past.run(NOW, target="other")

    def shown(**bounds):
        with reading(engine) as conn:
            found = target_runs(conn, target="gloo", limit=2, **bounds)
        return [each.run_id for each in found.rows], found.newer, found.older

    assert shown() == ([ids[4], ids[3]], None, ids[3])
    assert shown(before=ids[3]) == ([ids[2], ids[1]], ids[2], ids[1])
    assert shown(before=ids[1]) == ([ids[0]], ids[0], None)
    assert shown(after=ids[0]) == ([ids[2], ids[1]], ids[2], ids[1])
    assert shown(after=ids[2]) == ([ids[4], ids[3]], None, ids[3])
    assert shown(before=ids[0]) == ([], None, None)


def test_silences_that_can_match_the_target_are_shown():
    def silence(**matchers):
        return Silence(id=1, matchers=matchers, starts_at=NOW, ends_at=NOW + HOUR)

    assert may_match(silence(target=("gl*", "x")), "gloo")
    assert may_match(silence(cause=("outage",)), "gloo")
    assert not may_match(silence(target=("eu-*",), cause=("outage",)), "gloo")


def limited(**fields):
    measured = row(requests=600, duration_s=fields.pop("duration_s", 70.0))
    target = target_overview(facts(snapshot=fields.pop("snapshot", measured)), now=NOW)
    return limits_note(LearnedLimits(at=NOW, **fields), target, now=NOW)


def test_the_page_says_whether_a_limit_makes_runs_slow():
    assert limited(rate_per_s=10.0) == (
        "The rate limit is what makes a run slow: at 10 requests per second, the 600 requests of the last run need "
        "1 min of its 1 min 10 s."
    )
    assert limited(rate_per_s=100.0) == "At most 100 requests per second; that is not what makes a run slow."
    assert limited() == limited(rate_per_s=5.0, snapshot=None) == "No limit makes a run slow."
    assert limited(down=True) == "The circuit breaker is open: the next run begins with one request."
    asked = "The API asked with HTTP 429 for no request before "
    assert limited(not_before=NOW + HOUR, status=429).startswith(asked)
    assert limited(not_before=NOW - HOUR, status=429) == "No limit makes a run slow."


def test_learned_limits_are_those_under_the_key_of_the_target(engine, past, settings):
    past.run(NOW - MINUTE)
    with writing(engine) as conn:
        throttle_store.write(conn, key="k", origin="http://x", limits=LearnedLimits(at=NOW, rate_per_s=3.0))
    with reading(engine) as conn:
        known, unknown = (
            target_page(conn, settings(), name="gloo", since=DAY, now=NOW, throttle_key=key) for key in ("k", None)
        )
    assert (known.limits.rate_per_s, unknown.limits, unknown.limits_note) == (3.0, None, "")
