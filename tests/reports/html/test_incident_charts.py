"""The chart of one incident: a column per run, or per span of many."""

import pytest
from reports.html.documents import drawings
from reports.test_explain import MINUTE, explain_data, run
from support.samples import NOW

from monitor.incidents.explain import ObservedRun, TimelineEvent
from monitor.model import Cause, RunStatus
from monitor.reports.html.incident_charts import evidence_chart


def chart(*runs, **options):
    return evidence_chart(explain_data(runs).history, **options)


def test_each_run_has_a_column_by_what_it_says():
    made = chart(
        run(1, 2), run(2, 2, inhibited_by=Cause.OUTAGE), run(3), run(4, counts=False), run(5, 1), run(6), run(7)
    )  # fmt: skip
    assert made.sentence.striptags().startswith("2 of 7 runs saw it, the last one at 2026-03-01 12:05:00 UTC")
    assert made.sentence.endswith("none of the 2 runs since did.")
    assert [each.name for each in made.legend] == [
        "evidence", "inhibited by a higher cause", "no evidence", "does not count", "run cut short",
    ]  # fmt: skip
    assert [row[3:] for row in made.table.rows][:4] == [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len(made.figure["data"][0]["x"]) == 7
    assert drawings(made.svg)


def test_many_runs_are_counted_per_span():
    made = chart(*(run(n, 1) for n in range(200)))
    assert len(made.table.rows) <= 36
    assert sum(row[3] for row in made.table.rows) == 200
    assert made.sentence.endswith("</time>.")


def test_a_chart_of_some_of_the_runs_says_so():
    made = chart(run(-1), run(0, 1), drawn=[run(0, 1), run(300, 1), run(600)])
    assert made.sentence.striptags() == (
        "2 of 4 runs saw it, the last one at 2026-03-01 17:00:00 UTC; the run since did not. "
        "Only some of the runs are drawn, evenly spread over the whole time."
    )


def test_a_few_runs_before_it_are_shown_too():
    made = chart(*(run(n) for n in range(-9, 0)), run(0, 1), run(1, 1))
    assert [row[2] for row in made.table.rows] == ["-3", "-2", "-1", "0", "1"]


def test_evidence_that_was_always_inhibited_is_said():
    made = chart(*(run(n, 1, inhibited_by=Cause.OUTAGE) for n in range(1, 4)))
    assert made.sentence.striptags() == "None of these 3 runs saw it itself."


def happened(kind, number, run_id=None):
    return TimelineEvent(at=NOW + number * MINUTE, kind=kind, reason="", run_id=run_id)


FAILED = Cause.ITEMS_FAILED
COURSE = (happened("opened", 0, 0), happened("resolved", 2.5), happened("reopened", 5, 5), happened("joined", 6, 6))
"""A person resolved it, between two runs."""


def test_items_that_stay_in_an_incident_count_also_in_runs_without_new_ones():
    runs = [run(-1), run(0, 2, cause=FAILED), *map(run, range(1, 5)), run(5, 1, cause=FAILED), run(6), run(7)]
    made = evidence_chart(explain_data(runs, *COURSE, cause=FAILED).history)
    assert made.sentence == "Items were affected in 6 of 9 runs, also in the last one."
    assert [each.name for each in made.legend] == ["items affected", "no item affected"]
    assert made.table.heading[3::2] == ("Items affected", "No item affected")
    assert [row[3] for row in made.table.rows] == [0, 1, 1, 1, 0, 0, 1, 1, 1]


def test_the_last_run_with_items_is_named_once_they_are_gone():
    runs = [run(0, 2, cause=FAILED), *map(run, range(1, 5))]
    made = evidence_chart(explain_data(runs, *COURSE[:2], cause=FAILED).history)
    assert made.sentence.striptags() == "Items were affected in 3 of 5 runs, the last time at 2026-03-01 12:02:00 UTC."


def test_items_that_were_always_inhibited_were_affected_in_no_run():
    runs = [run(n, 1, cause=FAILED, inhibited_by=Cause.OUTAGE) for n in range(2)]
    assert evidence_chart(explain_data(runs, cause=FAILED).history).sentence == "No item was affected in these 2 runs."


@pytest.mark.parametrize("runs", [[], [ObservedRun(run_id=1, at=NOW, status=RunStatus.COMPLETE, point=None)]])
def test_fewer_than_two_runs_have_no_chart(runs):
    assert chart(*runs) is None
