from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.synclog.timestamps import parse_timestamp, unreadable_sample

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


NO_TIMES = [
    *(None, "", "yesterday", "0000-00-00 00:00:00", "infinity", "0044-03-15 00:00:00 BC", "2026-13-01", "2026"),
    *(
        0,
        -1,
        1e20,
        1e300,
        2461041.5,
        20261120,
        46346.35,
        "2461041.5",
        "20261120083000",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        True,
        b"2026-07-01",
        [],
    ),
    *("٢٠٢٦-07-01", "17829072000001782907200", "0001-01-01 00:00:00"),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-07-01T12:00:00Z", NOON),
        ("2026-07-01 12:00:00+00", NOON),
        ("2026-07-01T14:00:00+02:00", NOON),
        ("2026-07-01T14:00:00", NOON),
        (" 2026-07-01 14:00 ", NOON),
        ("2026-07-01 14:00:00.1", NOON + timedelta(milliseconds=100)),
        ("2026-07-01 14:00:00.123456789", NOON + timedelta(microseconds=123456)),
        ("2026-07-01", NOON - timedelta(hours=14)),
        ("20260701", NOON - timedelta(hours=14)),
        (date(2026, 7, 1), NOON - timedelta(hours=14)),
        (datetime(2026, 7, 1, 14), NOON),  # noqa: DTZ001  # naive is what is tried
        (datetime(2026, 7, 1, 7, tzinfo=timezone(timedelta(hours=-5))), NOON),
        (1782907200, NOON),
        (1782907200.0, NOON),
        (1782907200000, NOON),
        (Decimal("1782907200.5"), NOON + timedelta(milliseconds=500)),
        ("1782907200", NOON),
        ("1782907200000", NOON),
        ("1782907200.25", NOON + timedelta(milliseconds=250)),
        (1782907200123456, NOON + timedelta(microseconds=123456)),
        ("1782907200123456", NOON + timedelta(microseconds=123456)),
        (1782907200123456789, NOON + timedelta(microseconds=123457)),
        ("1782907200123456789", NOON + timedelta(microseconds=123457)),
        ("2026-07-01 12:00:00.123 +00:00", NOON + timedelta(milliseconds=123)),
        ("2026-07-01 14:00:00 +0200", NOON),
        ("2026-07-01 12:00:00 UTC", NOON),
        ("2026-07-01 14:00:00.5 +0200 GMT", NOON + timedelta(milliseconds=500)),
        ("2026-07-01t12:00:00z", NOON),
        ("20260701T120000Z", NOON),
    ],
    ids=str,
)
def test_common_time_formats_are_parsed(value, read):
    assert parse_timestamp(value, PARIS) == read
    assert parse_timestamp(value, PARIS).tzinfo is UTC


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
def test_other_values_are_none(value):
    assert parse_timestamp(value, PARIS) is None


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes())
def test_any_value_becomes_an_aware_utc_time_or_none(value):
    read = parse_timestamp(value, PARIS)
    assert read is None or read.tzinfo is UTC


@given(seconds=st.integers(10**9, 7 * 10**9), micros=st.integers(0, 999_999))
def test_all_formats_of_a_time_give_the_same_time(seconds, micros):
    whole = datetime.fromtimestamp(seconds, UTC)
    at = whole + timedelta(microseconds=micros)
    assert [parse_timestamp(v, PARIS) for v in (at, at.isoformat(), str(at))] == [at] * 3
    numbers = [seconds * 1000**thousands for thousands in range(4)]
    assert [parse_timestamp(v, PARIS) for v in (*numbers, *map(str, numbers))] == [whole] * 8


@pytest.mark.parametrize(
    ("value", "quoted"),
    [("the other day", "the other day"), (20261120, "20261120"), ("", None), ("  ", None), (b"\xff\x00", "\\xff\\x00")],
)
def test_a_value_that_is_no_time_is_quoted_unless_it_is_empty(value, quoted):
    assert unreadable_sample(value) == quoted
    assert len(unreadable_sample("x\u202e" * 100)) == 60
    assert unreadable_sample("x\u202e" * 100).isprintable()
