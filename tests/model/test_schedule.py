from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import ScheduleConfig
from monitor.model.schedule import MAX_MISSED, DueTimes

PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FIVE = DueTimes(every=5 * MINUTE)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


EVERY = [
    ("in time", 5, 0),
    ("sooner: a manual run", 1, 0),
    ("almost half an interval late", 7.49, 0),
    ("half an interval late", 7.5, 1),
    ("one left out", 10, 1),
    ("one left out, the next almost half an interval late", 12.4, 1),
    ("a suspend of an hour", 60, 11),
    ("the clock was set back", -30, 0),
]


@pytest.mark.parametrize(("minutes", "missed"), [e[1:] for e in EVERY], ids=[e[0] for e in EVERY])
def test_runs_missed_by_an_interval(minutes, missed):
    assert FIVE.count_missed(START, START + minutes * MINUTE) == missed


def test_a_busy_machine_misses_no_run_of_a_second_interval():
    every_second = DueTimes(every=timedelta(seconds=1))
    assert every_second.count_missed(START, START + timedelta(seconds=9.9)) == 0
    assert every_second.count_missed(START, START + timedelta(seconds=10)) == 9


def test_a_year_of_second_intervals_is_counted_at_once():
    assert DueTimes(every=timedelta(seconds=1)).count_missed(START, START + 365 * DAY) == 365 * 86400 - 1


def test_a_year_of_cron_minutes_is_counted_up_to_the_limit():
    assert DueTimes(cron="* * * * *").count_missed(START, START + 365 * DAY) == MAX_MISSED


NIGHTLY, WORKDAYS, HALF_HOURS = "0 3 * * *", "0 9 * * 1-5", "*/30 * * * *"
CRON = [
    ("in time", NIGHTLY, UTC, "2026-03-01T03:00:04", "2026-03-02T03:00:02", 0),
    ("the earlier one began early by a clock's jitter", NIGHTLY, UTC, "2026-03-01T02:59:59", "2026-03-02T03:00", 0),
    ("the later one did", NIGHTLY, UTC, "2026-03-01T03:00:01", "2026-03-02T02:59:59", 0),
    ("two manual runs in one day", NIGHTLY, UTC, "2026-03-01T08:00", "2026-03-01T09:00", 0),
    ("late by less than half a day", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-02T14:59", 0),
    ("late by half a day", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-02T15:00", 1),
    ("one night left out", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-03T03:00", 1),
    ("a week left out", NIGHTLY, UTC, "2026-03-01T03:00", "2026-03-09T03:00", 7),
    ("a weekend is no gap", WORKDAYS, UTC, "2026-03-06T09:00", "2026-03-09T09:00", 0),
    ("a Monday is", WORKDAYS, UTC, "2026-03-06T09:00", "2026-03-10T09:00", 1),
    ("a manual run on Sunday, then Monday's", WORKDAYS, UTC, "2026-03-08T22:00", "2026-03-09T09:00", 0),
    ("a manual run on Sunday, then Tuesday's: Sunday's counts for Monday's", WORKDAYS, UTC,
     "2026-03-08T22:00", "2026-03-10T09:00", 0),
    ("the night of the autumn change", "30 2 * * *", PARIS, "2026-10-24T00:30", "2026-10-25T00:30", 0),
    ("the night after it", "30 2 * * *", PARIS, "2026-10-25T00:30", "2026-10-26T01:30", 0),
    ("the night of the spring change", "30 2 * * *", PARIS, "2026-03-28T01:30", "2026-03-29T01:00", 0),
    ("the spring change, a night left out", "30 2 * * *", PARIS, "2026-03-28T01:30", "2026-03-30T00:30", 1),
    ("half hours over the autumn change", HALF_HOURS, PARIS, "2026-10-25T00:30", "2026-10-25T01:00", 0),
    ("half hours over it, two left out", HALF_HOURS, PARIS, "2026-10-25T00:00", "2026-10-25T01:30", 2),
    ("a manual run in the repeated hour", "30 2 * * *", PARIS, "2026-10-25T01:10", "2026-10-26T01:30", 0),
    ("an expression that is never due", "0 0 */29 2 MON#5", UTC, "2026-03-01T00:00", "2028-03-01T00:00", 0),
]  # fmt: skip


@pytest.mark.parametrize(("cron", "zone", "previous", "now", "missed"), [c[1:] for c in CRON], ids=[c[0] for c in CRON])
def test_runs_missed_by_cron(cron, zone, previous, now, missed):
    assert DueTimes(cron=cron, zone=zone).count_missed(at(previous), at(now)) == missed


@given(st.integers(1, 59), st.integers(0, 3), st.floats(0, 0.45), st.floats(0, 0.45))
def test_an_equivalent_cron_expression_and_interval_agree(late_s, left_out, jitter, more_jitter):
    """Runs that start some seconds late: the whole minutes between them count."""
    previous = START + timedelta(seconds=27 * jitter)
    now = START + (1 + left_out) * MINUTE + timedelta(seconds=27 * more_jitter)
    by_cron, by_interval = DueTimes(cron="* * * * *"), DueTimes(every=MINUTE)
    assert by_cron.count_missed(previous, now) == by_interval.count_missed(previous, now) == left_out


@given(st.integers(0, 20_000), st.integers(0, 20_000), st.sampled_from([FIVE, DueTimes(cron="*/7 * * * *")]))
def test_a_longer_gap_never_misses_fewer(gap_s, more_s, due_times):
    short, long = (START + timedelta(seconds=seconds) for seconds in (gap_s, gap_s + more_s))
    assert 0 <= due_times.count_missed(START, short) <= due_times.count_missed(START, long)


def test_due_times_without_either_are_refused():
    with pytest.raises(ValueError, match="interval or a cron expression"):
        DueTimes().count_missed(START, START + MINUTE)
    with pytest.raises(ValueError, match="interval or a cron expression"):
        next(DueTimes().times_after(START))


@pytest.mark.parametrize("due_times", [FIVE, DueTimes(cron="*/5 * * * *", zone=PARIS)], ids=["interval", "cron"])
def test_the_coming_due_times_follow_one_another(due_times):
    assert list(islice(due_times.times_after(START), 3)) == [START + 5 * n * MINUTE for n in (1, 2, 3)]


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


def test_a_cron_date_that_does_not_exist_is_never_overdue():
    assert DueTimes(cron="0 0 */29 2 MON#5").overdue_at(START) is None


def test_overdue_needs_an_interval_or_an_expression():
    with pytest.raises(ValueError, match="interval"):
        DueTimes().overdue_at(START)


# --- schedules of a daemon: nominal times that all daemons share -----------------------------------------------------

GRID = DueTimes(every=5 * MINUTE, name="every 5m", daemon_managed=True)
NIGHT = DueTimes(cron="0 3 * * *", zone=PARIS, name="cron 0 3 * * * Europe/Paris", daemon_managed=True)

KEPT = [
    ("on the grid", GRID, "2026-03-01T03:00", "2026-03-01T03:05", 0),
    ("a start in the middle, then the grid", GRID, "2026-03-01T03:04:50", "2026-03-01T03:05:01", 0),
    ("a whole interval late, but before the next", GRID, "2026-03-01T03:00", "2026-03-01T03:09:59", 0),
    ("after the next is due", GRID, "2026-03-01T03:00", "2026-03-01T03:10", 1),
    ("a restart in the next interval", GRID, "2026-03-01T03:00:01", "2026-03-01T03:07:30", 0),
    ("a suspend of an hour", GRID, "2026-03-01T03:00", "2026-03-01T04:00", 11),
    ("the clock was set back", GRID, "2026-03-01T03:00", "2026-03-01T02:00", 0),
    ("cron in time", NIGHT, "2026-03-01T02:00", "2026-03-02T02:00", 0),
    ("cron, hours late, but before the next", NIGHT, "2026-03-01T02:00", "2026-03-03T01:59", 0),
    ("cron, one night left out", NIGHT, "2026-03-01T02:00", "2026-03-03T02:00", 1),
    ("cron, a manual run at noon, then at night", NIGHT, "2026-03-01T11:00", "2026-03-02T02:00", 0),
]


@pytest.mark.parametrize(("due", "previous", "now", "missed"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
def test_runs_missed_by_a_schedule_of_a_daemon(due, previous, now, missed):
    assert due.count_missed(at(previous), at(now)) == missed


@pytest.mark.parametrize(("due", "previous", "now", "missed"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
def test_jitter_moves_runs_and_what_counts_as_missed_alike(due, previous, now, missed):
    late = timedelta(seconds=200)
    assert replace(due, offset=late).count_missed(at(previous) + late, at(now) + late) == missed


def test_a_year_of_cron_minutes_of_a_daemon_is_counted_up_to_the_limit():
    assert DueTimes(cron="* * * * *", daemon_managed=True).count_missed(START, START + 365 * DAY) == MAX_MISSED


def test_nominal_times_of_an_interval_are_multiples_since_1970():
    assert GRID.latest_nominal(at("2026-03-01T03:07:12.5")) == at("2026-03-01T03:05")
    assert GRID.latest_nominal(at("2026-03-01T03:05")) == at("2026-03-01T03:05")
    assert GRID.next_due(at("2026-03-01T03:05")) == at("2026-03-01T03:10")


@given(
    st.integers(0, 10**9),
    st.timedeltas(timedelta(seconds=1), 7 * DAY),
    st.timedeltas(timedelta(0), timedelta(milliseconds=999)),
)
def test_now_lies_between_the_latest_due_time_and_the_next(second, every, offset):
    due, now = DueTimes(every=every, offset=offset), datetime.fromtimestamp(second, UTC)
    assert due.latest_nominal(now) + offset <= now < due.next_due(now) == due.latest_nominal(now) + every + offset


def test_a_cron_expression_is_due_after_its_offset():
    late = replace(NIGHT, offset=MINUTE)
    assert late.latest_nominal(at("2026-03-01T02:00:30")) == at("2026-02-28T02:00")
    assert late.latest_nominal(at("2026-03-01T02:01")) == at("2026-03-01T02:00")
    assert late.next_due(at("2026-03-01T02:00:30")) == at("2026-03-01T02:01")
    assert late.overdue_at(at("2026-03-01T02:03")) == at("2026-03-03T02:01")


def test_a_date_that_never_comes_is_never_due():
    never = DueTimes(cron="0 0 */29 2 MON#5")
    assert (never.latest_nominal(START), never.next_due(START)) == (None, None)


def test_a_run_key_contains_the_schedule_and_the_nominal_time():
    assert GRID.run_key(at("2026-11-26T01:05")) == "every 5m 2026-11-26T01:05:00Z"
    assert NIGHT.run_key(at("2026-11-26T02:00")) == "cron 0 3 * * * Europe/Paris 2026-11-26T02:00:00Z"
    odd = DueTimes(every=timedelta(milliseconds=1500), name="every 1s500ms")
    assert odd.run_key(odd.latest_nominal(START + timedelta(seconds=2))) == "every 1s500ms 2026-03-01T03:00:01.500Z"


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        ({"every": "7d"}, 40),
        ({"cron": "0,30 1,2,3 * * 1-5", "timezone": "America/Argentina/ComodRivadavia"}, 200),
        ({"cron": ",".join(["1"] * 90) + " 2 * * *"}, 200),
    ],
    ids=["interval", "cron", "cron as long as it may be"],
)
def test_a_run_key_fits_its_column(schedule, longest):
    due = ScheduleConfig.model_validate(schedule).due_times("gloo")
    assert len(due.run_key(START)) <= longest
    assert due.owns_key(due.run_key(START))


@pytest.mark.parametrize(
    ("run_key", "news"),
    [
        (None, False),
        ("every 5m 2026-11-26T01:05:00Z", False),
        ("every 1h 2026-11-26T01:00:00Z", True),
        ("cron 0 3 * * * Europe/Paris 2026-11-26T02:00:00Z", True),
        ("monitor-29401234", False),
        ("every morning", False),
    ],
    ids=["none", "its own", "another interval", "cron", "a Kubernetes job", "manual"],
)
def test_missed_runs_are_not_counted_from_a_run_of_another_schedule(run_key, news):
    assert GRID.is_from_other_schedule(run_key) is news


def test_jitter_spreads_targets_and_is_the_same_everywhere():
    schedule = ScheduleConfig.model_validate({"every": "5m", "jitter": "30s"})
    offsets = {name: schedule.due_times(name).offset for name in (f"gloo-{n}" for n in range(200))}
    assert offsets == {name: schedule.due_times(name).offset for name in offsets}
    assert offsets["gloo-0"] == timedelta(seconds=28, milliseconds=444)
    assert all(timedelta(0) <= each < timedelta(seconds=30) for each in offsets.values())
    tenths = {each // timedelta(seconds=3) for each in offsets.values()}
    assert tenths == set(range(10)), "every tenth of it is used"
