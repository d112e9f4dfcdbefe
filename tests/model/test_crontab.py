"""Cron times across clock changes, by the rules of Debian's cron."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.schedule import cron_times, last_cron_time

PARIS, NEW_YORK, LORD_HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"
SAO_PAULO, APIA = "America/Sao_Paulo", "Pacific/Apia"


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(expression, start, count, zone="UTC"):
    times = cron_times(expression, after=at(start), zone=ZoneInfo(zone))
    return [f"{time:%m-%d %H:%M}" for time in islice(times, count)]


CLOCK_CHANGES = [
    # Paris: 02:00 becomes 03:00 on 29 March 2026 (01:00 UTC), 03:00 becomes 02:00 on 25 October (01:00 UTC)
    ("spring, in the gap", "30 2 * * *", PARIS, "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
    ("spring, many in the gap are one", "0,15,30 2 * * *", PARIS, "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00"]),
    ("spring, in it and at its end", "0 2,3 * * *", PARIS, "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00"]),
    ("spring, half hours", "*/30 * * * *", PARIS, "2026-03-29T00:15", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
    ("spring, hourly", "5 * * * *", PARIS, "2026-03-29T00:00", ["03-29 00:05", "03-29 01:05", "03-29 02:05"]),
    ("spring, minutes of a star in the gap", "*/30 2 * * *", PARIS, "2026-03-28T12:00", ["03-30 00:00", "03-30 00:30"]),
    ("spring, noon moves", "0 12 * * *", PARIS, "2026-03-28T00:00", ["03-28 11:00", "03-29 10:00"]),
    ("autumn, repeated", "30 2 * * *", PARIS, "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
    ("autumn, begun after it", "30 2 * * *", PARIS, "2026-10-25T00:45", ["10-26 01:30"]),
    ("autumn, begun in the second pass", "30 2 * * *", PARIS, "2026-10-25T01:10", ["10-26 01:30"]),
    ("autumn, two hours", "0 2,3 * * *", PARIS, "2026-10-24T12:00", ["10-25 00:00", "10-25 02:00", "10-26 01:00"]),
    ("autumn, every half hour", "*/30 * * * *", PARIS, "2026-10-24T23:45",
     ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]),
    ("autumn, hourly", "5 * * * *", PARIS, "2026-10-25T00:00", ["10-25 00:05", "10-25 01:05", "10-25 02:05"]),
    ("autumn, every two hours by a star", "0 */2 * * *", PARIS, "2026-10-24T21:30",
     ["10-24 22:00", "10-25 00:00", "10-25 01:00", "10-25 03:00"]),
    ("New York in spring", "30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["03-08 07:00", "03-09 06:30"]),
    ("New York in autumn", "30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["11-01 05:30", "11-02 06:30"]),
    # Lord Howe: by half an hour, 02:00 becomes 02:30 (3 October, 15:30 UTC) and 01:30 (4 April, 15:00 UTC)
    ("half an hour skipped", "10 2 * * *", LORD_HOWE, "2026-10-03T00:00", ["10-03 15:30", "10-04 15:10"]),
    ("half an hour skipped, hourly", "0 * * * *", LORD_HOWE, "2026-10-03T14:00", ["10-03 14:30", "10-03 16:00"]),
    ("half an hour repeated", "45 1 * * *", LORD_HOWE, "2026-04-04T00:00", ["04-04 14:45", "04-05 15:15"]),
    ("half an hour repeated, by a star", "*/20 2 * * *", LORD_HOWE, "2026-04-04T13:57",
     ["04-04 15:30", "04-04 15:50", "04-04 16:10"]),
    ("midnight skipped", "0 0 * * *", SAO_PAULO, "2018-11-03T12:00", ["11-04 03:00", "11-05 02:00"]),
    ("a whole day skipped", "0 9 * * *", APIA, "2011-12-29T00:00", ["12-29 19:00", "12-30 10:00", "12-30 19:00"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "zone", "start", "times"), [c[1:] for c in CLOCK_CHANGES], ids=[c[0] for c in CLOCK_CHANGES]
)
def test_clock_changes_neither_repeat_nor_drop_a_run(expression, zone, start, times):
    assert fires(expression, start, len(times), zone) == times


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun"])
def test_sunday_is_zero_and_seven(sunday):
    assert fires(f"0 12 * * {sunday}", "2026-03-02T00:00", 2) == ["03-08 12:00", "03-15 12:00"]


def test_monday_is_one():
    assert fires("0 12 * * 1", "2026-03-02T00:00", 2) == ["03-02 12:00", "03-09 12:00"]


def test_day_of_month_or_day_of_week_is_enough():
    assert fires("0 0 13 * 5", "2026-04-01T00:00", 4) == ["04-03 00:00", "04-10 00:00", "04-13 00:00", "04-17 00:00"]


def test_with_a_star_in_one_day_field_the_other_decides():
    assert fires("0 0 * * 5", "2026-04-01T00:00", 2) == ["04-03 00:00", "04-10 00:00"]
    assert fires("0 0 13 * *", "2026-04-01T00:00", 2) == ["04-13 00:00", "05-13 00:00"]


def test_a_leap_day_is_found_years_ahead_and_back():
    assert next(cron_times("0 0 29 2 *", after=at("2096-03-01"), zone=UTC)) == at("2104-02-29")
    assert last_cron_time("0 0 29 2 *", until=at("2104-02-28"), zone=UTC) == at("2096-02-29")


def test_a_date_that_never_comes_has_no_times():
    assert list(cron_times("0 0 */29 2 MON#5", after=at("2026-03-01"), zone=UTC)) == []
    assert last_cron_time("0 0 */29 2 MON#5", until=at("2026-03-01"), zone=UTC) is None


ZONES = st.sampled_from([PARIS, NEW_YORK, LORD_HOWE, "Africa/Casablanca", "Asia/Tehran", "UTC"])
EXPRESSIONS = st.sampled_from([
    "30 2 * * *", "0 2,3 * * *", "*/30 * * * *", "15 1-3 * * *", "0 */2 * * *", "5 * * * *", "*/20 2 * * *",
    "0 2 * * 0", "0 0 13 * 5", "10,40 1,2 * * *", "0 0 1 * *",
])  # fmt: skip
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31))  # noqa: DTZ001  # made aware in the tests


@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(0, 100_000))
def test_the_start_of_the_search_makes_no_difference(expression, name, instant, later_s):
    zone, early = ZoneInfo(name), instant.replace(tzinfo=UTC)
    late = early + timedelta(seconds=later_s)
    seen = [time for time in islice(cron_times(expression, after=early, zone=zone), 400) if time > late][:3]
    assert seen == list(islice(cron_times(expression, after=late, zone=zone), len(seen)))


@given(EXPRESSIONS, ZONES, MOMENTS)
def test_the_last_time_is_the_one_before_the_next(expression, name, instant):
    zone, now = ZoneInfo(name), instant.replace(tzinfo=UTC)
    last, following = (
        last_cron_time(expression, until=now, zone=zone),
        next(cron_times(expression, after=now, zone=zone)),
    )
    assert last <= now < following
    assert next(cron_times(expression, after=last, zone=zone)) == following
    assert last_cron_time(expression, until=last, zone=zone) == last


@given(EXPRESSIONS, st.sampled_from([PARIS, NEW_YORK, "UTC"]), MOMENTS)
def test_it_agrees_with_cronsim_where_clocks_change_by_hours(expression, name, instant):
    zone, now = ZoneInfo(name), instant.replace(tzinfo=UTC, second=0, microsecond=0)
    theirs = {time.astimezone(UTC) for time in islice(CronSim(expression, now.astimezone(zone)), 8)}
    assert list(islice(cron_times(expression, after=now, zone=zone), 5)) == sorted(t for t in theirs if t > now)[:5]
