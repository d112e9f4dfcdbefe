"""Which targets need attention first, and the first line of a report."""

from collections import Counter
from datetime import timedelta

import pytest
from database.history import DAY, HOUR, HistoryBuilder
from reports.overviews import SAMPLE
from reports.samples import INCIDENT
from sqlalchemy import event
from support.samples import NOW, incident

from monitor.database.engine import reading, writing
from monitor.incidents import store as incidents
from monitor.model import RunStatus, Severity, Snapshot
from monitor.model.schedule import DueTimes
from monitor.notifications.texts import channel_target
from monitor.reports.build import ReportTarget
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview import Condition
from monitor.reports.triage import (
    TargetSummary,
    open_incidents_by_target,
    ranked_targets,
    summary_of,
    urgent_incident_ids,
    verdict,
)

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def target(name, **fields):
    return ReportTarget(name=name, stuck_after=HOUR, due=DueTimes(every=HOUR), **fields)


def summary(name="gloo", **fields):
    return TargetSummary(
        **{"name": name, "condition": Condition.COMPLETE, "stale": False, "total": 10, "completed": 10, **fields}
    )


def ranked(engine, *names):
    with reading(engine) as conn:
        return ranked_targets(conn, [target(name) for name in names], now=NOW)


def open_one(engine, name, severity=WARNING):
    with writing(engine) as conn:
        return incidents.open_incident(conn, incident(target=name, severity=severity), evidence_id=None)


def test_targets_in_trouble_come_first(engine):
    past = HistoryBuilder(engine)
    minute = timedelta(minutes=1)
    for name in ("fine", "critical", "warning"):
        past.run(NOW - 5 * minute, target=name)
    past.run(NOW - 5 * minute, target="problems", snapshot=Snapshot(completed=1, failed=1, pending=2, stuck=1))
    past.run(NOW - DAY, target="stale")
    past.run(NOW - 9 * minute, target="failed")
    past.run(NOW - 5 * minute, RunStatus.FAILED, target="failed")
    past.run(NOW - 5 * minute, RunStatus.ABORTED, target="aborted", abort_reason="outage")
    open_one(engine, "warning")
    open_one(engine, "critical", CRITICAL)
    names = ["fine", "never", "problems", "warning", "aborted", "critical", "failed", "stale"]
    found = ranked(engine, *names)
    assert [each.name for each in found] == [
        "critical", "warning", "stale", "failed", "aborted", "never", "problems", "fine",
    ]  # fmt: skip
    by_name = {each.name: each for each in found}
    assert by_name["problems"].problems == 2
    assert (by_name["failed"].condition, by_name["failed"].total) == (Condition.FAILED, 3)
    assert by_name["never"].condition is Condition.NEVER_RAN
    assert by_name["stale"].stale


def test_one_statement_reads_any_number_of_targets(engine):
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    found = ranked(engine, *(f"t{n:04}" for n in range(3000)))
    assert len(found) == 3000
    assert len([each for each in statements if "runs" in each]) == 1


def test_open_incidents_are_counted_by_target_and_severity_with_those_of_channels(engine):
    open_one(engine, "a")
    open_one(engine, channel_target("mail"), CRITICAL)
    with reading(engine) as conn:
        assert open_incidents_by_target(conn) == {
            "a": Counter({WARNING: 1}), channel_target("mail"): Counter({CRITICAL: 1}),
        }  # fmt: skip


def test_the_most_urgent_incidents_are_the_severe_then_the_newest(engine):
    first, second, third = open_one(engine, "a"), open_one(engine, "b", CRITICAL), open_one(engine, "c")
    with reading(engine) as conn:
        assert urgent_incident_ids(conn, limit=5) == [second, third, first]
        assert urgent_incident_ids(conn, limit=1) == [second]


def test_the_summary_of_a_report_equals_that_of_the_query():
    found = summary_of(SAMPLE.targets[0], [INCIDENT])
    assert (found.total, found.completed, found.problems, found.incidents) == (1000, 986, 4, {WARNING: 1})
    assert summary_of(SAMPLE.targets[1], [INCIDENT]).condition is Condition.NEVER_RAN


@pytest.mark.parametrize(
    ("targets", "counts", "lost", "kind", "sentence"),
    [
        pytest.param(
            [], {}, (), "unknown", "No target is configured: add one to monitor.toml under [[targets]].", id="none"
        ),
        pytest.param(
            [summary(condition=Condition.NEVER_RAN)], {}, (), "unknown", "No run yet of 1 target.", id="never ran"
        ),
        pytest.param(
            [summary(), summary("b", completed=9)], {}, (), "good",
            "Nothing is wrong. 2 targets checked: 19 of 20 items completed.", id="fine",
        ),
        pytest.param(
            [summary(incidents={WARNING: 1})], {WARNING: 1}, (), "warning", "1 warning incident is open.", id="one"
        ),
        pytest.param(
            [summary("a", incidents={CRITICAL: 1}), summary("b", incidents={WARNING: 2}), summary("c")],
            {CRITICAL: 1, WARNING: 2}, (), "bad",
            "3 incidents are open: 1 critical, 2 warning, on a and b.", id="two kinds",
        ),
        pytest.param(
            [summary(name, incidents={WARNING: 1}) for name in "abcde"], {WARNING: 5}, (), "warning",
            "5 warning incidents are open, on a, b, c and 2 more targets.", id="many",
        ),
        pytest.param(
            [summary("a", incidents={WARNING: 1}), summary("b")], {WARNING: 2}, (), "warning",
            "2 warning incidents are open, on a and elsewhere.", id="also of a channel",
        ),
        pytest.param(
            [summary(name, incidents={WARNING: 1}) for name in "abcde"], {WARNING: 6}, (), "warning",
            "6 warning incidents are open, on a, b, c, 2 more targets and elsewhere.", id="many, and elsewhere",
        ),
        pytest.param(
            [summary(), summary("b")], {CRITICAL: 1}, (Undelivered(channel="mail", dead=1, waiting=1),), "bad",
            "1 critical incident is open; 2 messages are not delivered.", id="of a channel",
        ),
        pytest.param(
            [
                summary("a", stale=True), summary("b", condition=Condition.FAILED),
                summary("c", condition=Condition.FAILED),
                summary("d", condition=Condition.CRASHED), summary("e", condition=Condition.PARTIAL),
            ],
            {}, (), "warning",
            "1 target has no recent run; 2 targets could not read their sync log; 1 target's last run crashed; "
            "1 target's last run was cut short.",
            id="runs",
        ),
    ],
)  # fmt: skip
def test_the_first_line_says_whether_anything_is_wrong(targets, counts, lost, kind, sentence):
    found = verdict(targets, counts, lost)
    assert (found.kind, found.sentence) == (kind, sentence)
