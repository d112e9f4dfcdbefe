from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.health.punctuality import COUNTED, DueTimes, cron_times

PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FIVE = DueTimes(every=5 * MINUTE)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


EVERY = [
    ("in time", 5, 0),
    ("sooner: somebody ran it by hand", 1, 0),
    ("almost half an interval late", 7.49, 0),
    ("half an interval late", 7.5, 1),
    ("one left out", 10, 1),
    ("one left out, the next almost half an interval late", 12.4, 1),
    ("a suspend of an hour", 60, 11),
    ("the clock was set back", -30, 0),
]


@pytest.mark.parametrize(("minutes", "missed"), [e[1:] for e in EVERY], ids=[e[0] for e in EVERY])
def test_runs_missed_by_an_interval(minutes, missed):
    assert FIVE.missed(START, START + minutes * MINUTE) == missed


def test_a_busy_machine_misses_no_run_of_a_second_interval():
    every_second = DueTimes(every=timedelta(seconds=1))
    assert every_second.missed(START, START + timedelta(seconds=9.9)) == 0
    assert every_second.missed(START, START + timedelta(seconds=10)) == 9


def test_a_year_of_seconds_is_counted_without_walking_through_it():
    assert DueTimes(every=timedelta(seconds=1)).missed(START, START + 365 * DAY) == 365 * 86400 - 1


def test_a_year_of_minutes_by_cron_is_walked_through_only_so_far():
    assert DueTimes(cron="* * * * *").missed(START, START + 365 * DAY) == COUNTED


NIGHTLY, WORKDAYS, HALF_HOURS = "0 3 * * *", "0 9 * * 1-5", "*/30 * * * *"
CRON = [
    ("in time", NIGHTLY, UTC, "2026-03-01T03:00:04", "2026-03-02T03:00:02", 0),
    ("the earlier one began early by a clock's jitter", NIGHTLY, UTC, "2026-03-01T02:59:59", "2026-03-02T03:00", 0),
    ("the later one did", NIGHTLY, UTC, "2026-03-01T03:00:01", "2026-03-02T02:59:59", 0),
    ("twice by hand in one day", NIGHTLY, UTC, "2026-03-01T08:00", "2026-03-01T09:00", 0),
    ("late by less than half a day", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-02T14:59", 0),
    ("late by half a day", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-02T15:00", 1),
    ("one night left out", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-03T03:00", 1),
    ("a week left out", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-09T03:00", 7),
    ("a weekend is no gap", WORKDAYS, UTC, "2026-03-06T09:00", "2026-03-09T09:00", 0),
    ("a Monday is", WORKDAYS, UTC, "2026-03-06T09:00", "2026-03-10T09:00", 1),
    ("by hand on Sunday, then Monday's", WORKDAYS, UTC, "2026-03-08T22:00", "2026-03-09T09:00", 0),
    ("by hand on Sunday, then Tuesday's: Sunday's stood for Monday's", WORKDAYS, UTC,
     "2026-03-08T22:00", "2026-03-10T09:00", 0),
    ("the night of the autumn change", "30 2 * * *", PARIS, "2026-10-24T00:30", "2026-10-25T00:30", 0),
    ("the night after it", "30 2 * * *", PARIS, "2026-10-25T00:30", "2026-10-26T01:30", 0),
    ("the night of the spring change", "30 2 * * *", PARIS, "2026-03-28T01:30", "2026-03-29T01:00", 0),
    ("the spring change, a night left out", "30 2 * * *", PARIS, "2026-03-28T01:30", "2026-03-30T00:30", 1),
    ("half hours over the autumn change", HALF_HOURS, PARIS, "2026-10-25T00:30", "2026-10-25T01:00", 0),
    ("half hours over it, two left out", HALF_HOURS, PARIS, "2026-10-25T00:00", "2026-10-25T01:30", 2),
    ("by hand in the hour that is repeated", "30 2 * * *", PARIS, "2026-10-25T01:10", "2026-10-26T01:30", 0),
    ("an expression that is never due", "0 0 */29 2 MON#5", UTC, "2026-03-01T00:00", "2028-03-01T00:00", 0),
]  # fmt: skip


@pytest.mark.parametrize(("cron", "zone", "previous", "now", "missed"), [c[1:] for c in CRON], ids=[c[0] for c in CRON])
def test_runs_missed_by_cron(cron, zone, previous, now, missed):
    assert DueTimes(cron=cron, zone=zone).missed(at(previous), at(now)) == missed


@given(st.integers(1, 59), st.integers(0, 3), st.floats(0, 0.45), st.floats(0, 0.45))
def test_cron_and_an_interval_agree_where_they_mean_the_same(late_s, left_out, jitter, more_jitter):
    """Every minute, begun some seconds late: what counts is how many whole minutes lie between."""
    previous = START + timedelta(seconds=27 * jitter)
    now = START + (1 + left_out) * MINUTE + timedelta(seconds=27 * more_jitter)
    by_cron, by_interval = DueTimes(cron="* * * * *"), DueTimes(every=MINUTE)
    assert by_cron.missed(previous, now) == by_interval.missed(previous, now) == left_out


@given(st.integers(0, 20_000), st.integers(0, 20_000), st.sampled_from([FIVE, DueTimes(cron="*/7 * * * *")]))
def test_a_longer_gap_never_misses_fewer(gap_s, more_s, due_times):
    short, long = (START + timedelta(seconds=seconds) for seconds in (gap_s, gap_s + more_s))
    assert 0 <= due_times.missed(START, short) <= due_times.missed(START, long)


def test_due_times_without_either_are_refused():
    with pytest.raises(ValueError, match="interval or a cron expression"):
        DueTimes().missed(START, START + MINUTE)
    with pytest.raises(ValueError, match="interval or a cron expression"):
        next(DueTimes().after(START))


@pytest.mark.parametrize("due_times", [FIVE, DueTimes(cron="*/5 * * * *", zone=PARIS)], ids=["interval", "cron"])
def test_the_coming_due_times_follow_one_another(due_times):
    assert list(islice(due_times.after(START), 3)) == [START + 5 * n * MINUTE for n in (1, 2, 3)]


def test_an_expression_that_is_never_due_has_no_times():
    assert list(cron_times("0 0 */29 2 MON#5", after=START, zone=UTC)) == []


OVERDUE = [
    ("every five minutes", FIVE, "2026-03-01 03:01", "2026-03-01 03:11"),
    ("cron, every five minutes", DueTimes(cron="*/5 * * * *"), "2026-03-01 03:01", "2026-03-01 03:10"),
    ("cron, at night", DueTimes(cron="0 3 * * *"), "2026-03-01 03:01", "2026-03-03 03:00"),
    ("cron, in another zone", DueTimes(cron="0 3 * * *", zone=PARIS), "2026-03-28 02:01", "2026-03-30 01:00"),
    ("cron, on workdays", DueTimes(cron="0 9,17 * * 1-5"), "2026-03-06 17:01", "2026-03-09 17:00"),
]


@pytest.mark.parametrize(("times", "last", "overdue"), [row[1:] for row in OVERDUE], ids=[row[0] for row in OVERDUE])
def test_two_intervals_after_the_last_run_the_next_is_overdue(times, last, overdue):
    assert times.overdue_at(at(last)) == at(overdue)


def test_a_time_that_never_comes_is_never_overdue():
    assert DueTimes(cron="0 0 */29 2 MON#5").overdue_at(START) is None


def test_overdue_needs_an_interval_or_an_expression():
    with pytest.raises(ValueError, match="interval"):
        DueTimes().overdue_at(START)
