"""The trend of an incident as a line of text."""

from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.model import Cause, ItemState
from monitor.notifications.trend import RunCounts, has_trend, trend_text

MINUTE = timedelta(minutes=1)


def runs(values, *, every=5 * MINUTE, state=ItemState.FAILED, total=100, stuck=None):
    """Runs whose counts of one state are the values, the last one now."""
    return [
        RunCounts(
            at=NOW - every * (len(values) - 1 - n),
            total=total,
            stuck=value if stuck else 0,
            counts={**dict.fromkeys(ItemState, 0), state: value},
        )
        for n, value in enumerate(values)
    ]


CASES = [
    ("failed", Cause.ITEMS_FAILED, ItemState.FAILED, [0, 10, 57], "failed 0 ▁▃█ 57 over 10 min"),
    ("missing", Cause.ITEMS_MISSING, ItemState.NOT_FOUND, [0, 1], "not found 0 ▁█ 1 over 5 min"),
    ("share", Cause.OUTAGE, ItemState.UNKNOWN, [0, 50, 100], "unknown 0% ▁▅█ 100% over 10 min"),
    ("recovering", Cause.UNAUTHORIZED, ItemState.UNKNOWN, [100, 100, 0], "unknown 100% ██▁ 0% over 10 min"),
    ("half-known", Cause.TOO_MANY_UNKNOWN, ItemState.UNKNOWN, [0, 30], "unknown 0% ▁▄ 30% over 5 min"),
]


@pytest.mark.parametrize(("cause", "state", "values", "line"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_it_shows_what_the_cause_is_about(cause, state, values, line):
    assert has_trend(cause)
    assert trend_text(cause, runs(values, state=state)) == line


def test_stuck_items_are_counted_by_their_flag():
    assert trend_text(Cause.ITEMS_STUCK, runs([1, 2], state=ItemState.PENDING, stuck=True)) == (
        "stuck 1 ▅█ 2 over 5 min"
    )


@pytest.mark.parametrize(("unknown", "shown"), [(1, "1%"), (99_999, "99%"), (100_000, "100%")])
def test_only_all_is_100_percent_and_only_none_is_0(unknown, shown):
    series = runs([0, unknown], state=ItemState.UNKNOWN, total=100_000)
    assert trend_text(Cause.OUTAGE, series).split()[3] == shown


@pytest.mark.parametrize("values", [[], [5], [0, 0]], ids=["no-run", "one-run", "nothing-affected"])
def test_there_is_no_trend_without_a_change_to_show(values):
    assert trend_text(Cause.ITEMS_FAILED, runs(values)) == ""


def test_many_runs_become_24_marks_of_the_last_six_hours():
    line = trend_text(Cause.ITEMS_FAILED, runs([9] * 200 + [0] * 300 + [7] * 60, every=MINUTE))
    name, first, marks, last, length = line.split(maxsplit=4)
    assert (name, first, last, length) == ("failed", "0", "7", "over 6 h")
    assert marks == "▁" * 20 + "█" * 4


def test_few_runs_go_back_further():
    line = trend_text(Cause.ITEMS_FAILED, runs([*range(20)], every=timedelta(days=1)))
    assert line == "failed 8 ▄▅▅▆▆▆▇▇▇███ 19 over 11 d"


def test_a_time_without_runs_is_a_gap():
    old = [run for run in runs([1] * 71) if not NOW - 200 * MINUTE < run.at < NOW - 100 * MINUTE]
    assert "█·" in trend_text(Cause.ITEMS_FAILED, old)


def test_runs_at_one_moment_are_one_mark():
    assert trend_text(Cause.ITEMS_FAILED, runs([1] * 30, every=timedelta(0))) == f"failed 1 █{'·' * 23} 1 over 1 min"


@pytest.mark.parametrize("cause", [Cause.RUN_MISSED, Cause.CANARY_FAILED, Cause.SYNC_LOG_UNREADABLE])
def test_causes_that_snapshots_do_not_show_have_none(cause):
    assert not has_trend(cause)
