import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.timetable import CronTrigger, scheduler, trigger

PARIS = "Europe/Paris"


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(expression, start, count, zone="UTC"):
    """The first times of an expression as the scheduler asks for them: each after the one before."""
    when, before, found = CronTrigger(expression, zone), None, []
    for _ in range(count):
        before = when.get_next_fire_time(before, at(start))
        found.append(f"{before:%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "start", "times"),
    [
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 2 * * *", "2026-10-25T00:45", ["10-26 01:30"]),
        ("30 2 * * *", "2026-10-25T01:10", ["10-26 01:30"]),
        ("0 2,3 * * *", "2026-10-24T12:00", ["10-25 00:00", "10-25 02:00", "10-26 01:00"]),
        ("*/30 * * * *", "2026-10-24T23:45", ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
        ("*/30 * * * *", "2026-03-29T00:15", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
        ("0 12 * * *", "2026-03-28T00:00", ["03-28 11:00", "03-29 10:00"]),
    ],
    ids=[
        "autumn-once", "autumn-restarted-after-it-in-the-first-hour", "autumn-restarted-in-the-repeated-hour",
        "autumn-two-hours", "autumn-real-half-hours", "spring-the-missing-hour-is-made-up-for", "spring-half-hours",
        "spring-noon-moves-in-utc",
    ],
)  # fmt: skip
def test_clock_changes_neither_double_nor_drop_a_run(expression, start, times):
    assert fires(expression, start, len(times), PARIS) == times


@pytest.mark.parametrize("sunday", ["0", "7", "SUN"])
def test_weekdays_are_numbered_as_crontab_does(sunday):
    assert fires(f"0 12 * * {sunday}", "2026-03-02T00:00", 2) == ["03-08 12:00", "03-15 12:00"]


def test_monday_is_one():
    assert fires("0 12 * * 1", "2026-03-02T00:00", 2) == ["03-02 12:00", "03-09 12:00"]


def test_day_of_month_or_day_of_week_is_enough():
    assert fires("0 0 13 * 5", "2026-03-01T00:00", 5) == [
        "03-06 00:00", "03-13 00:00", "03-20 00:00", "03-27 00:00", "04-03 00:00",
    ]  # fmt: skip
    assert "04-13 00:00" in fires("0 0 13 * 5", "2026-04-01T00:00", 4)


def test_times_are_in_the_zone_that_was_asked_for():
    assert fires("0 9 * * *", "2026-01-05T00:00", 1, "America/New_York") == ["01-05 14:00"]


@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001  # made aware below
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
)
def test_every_time_is_later_than_the_one_before_and_than_now(start, minute, hour):
    when, now = CronTrigger(f"{minute} {hour} * * *", PARIS), start.replace(tzinfo=UTC)
    first = when.get_next_fire_time(None, now)
    second = when.get_next_fire_time(first, now)
    assert now < first <= now + timedelta(hours=26)
    assert timedelta(hours=22) <= second - first <= timedelta(hours=26)


def test_an_interval_counts_from_the_run_before():
    when = trigger(every=timedelta(seconds=90), cron=None, timezone="UTC")
    first = at("2026-03-01T03:00")
    assert when.get_next_fire_time(first, at("2026-03-01T03:00:07")) == first + timedelta(seconds=90)


def test_an_expression_comes_before_an_interval():
    assert isinstance(trigger(every=None, cron="* * * * *", timezone=PARIS), CronTrigger)


def test_a_schedule_without_either_is_refused():
    with pytest.raises(ValueError, match="interval or a cron expression"):
        trigger(every=None, cron=None, timezone="UTC")


@pytest.mark.parametrize(
    "when",
    [trigger(every=timedelta(minutes=1), cron=None, timezone="UTC"), CronTrigger("* * * * *", PARIS)],
    ids=["every", "cron"],
)
async def test_after_a_suspend_all_that_was_missed_is_caught_up_by_one_run(when):
    ran, once = [], asyncio.Event()

    async def tick():
        ran.append(datetime.now(UTC))
        once.set()

    jobs = scheduler()
    jobs.add_job(tick, when, id="run", next_run_time=datetime.now(UTC) - timedelta(hours=1))
    jobs.start()
    async with asyncio.timeout(5):
        await once.wait()
    await asyncio.sleep(0.05)
    assert len(ran) == 1
    assert jobs.get_job("run").next_run_time > ran[0]
    jobs.shutdown(wait=False)
