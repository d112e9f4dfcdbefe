from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.synclog.timestamps import parse_timestamp, time_reader, unreadable_sample

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


NO_TIMES = [
    *(None, "", "yesterday", "0000-00-00 00:00:00", "infinity", "2026-13-01", "2026"),
    *("0044-03-15 BC", "0044-03-15 00:00:00 BC", "0044-03-15 00:00:00+00 BC"),
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
        "20260701",
        "202611200830",
        "20261120083000123",
        46346,
        10**10,
        "1e300",
        "2026-07-01 12:00:00 CEST",
        "2026-07-01 12:00:00 Europe/Nowhere",
        "2026-07-01T12:00:00[Nowhere]",
        "2026-07-01 24:30:00",
        "32 Jul 2026 12:00:00 GMT",
        "07/01/2026 12:00",
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
        ("2026-07-01 12:00:00.123456789 +0000 UTC m=+0.000012", NOON + timedelta(microseconds=123456)),
        ("2026-07-01 14:00:00 +0200 CEST", NOON),
        ("2026-07-01 14:00:00 +0200 +0200", NOON),
        ("2026-07-01T14:00:00+02:00[Europe/Berlin]", NOON),
        ("2026-07-01T08:00[America/New_York]", NOON),
        ("2026-07-01T12:00Z[UTC]", NOON),
        ("2026-07-01T14:00:00+02:00[!Europe/Paris][u-ca=gregory]", NOON),
        ("2026-07-01 08:00:00 America/New_York", NOON),
        ("2026-07-01 24:00:00+12", NOON),
        ("2026-06-30 24:00", NOON - timedelta(hours=14)),
        ("Wed, 01 Jul 2026 12:00:00 GMT", NOON),
        ("Wed, 1 Jul 2026 14:00:00 +0200", NOON),
        ("01 Jul 2026 12:00 -0000", NOON),
        ("Wed, 01-Jul-2026 12:00:00 GMT", NOON),
        ("Wed Jul 01 2026 14:00:00 GMT+0200 (Central European Summer Time)", NOON),
        ("Wed Jul  1 14:00:00 2026", NOON),
        ("Wed Jul  1 12:00:00 UTC 2026", NOON),
        ("July 1, 2026 14:00", NOON),
        ("1.7829072e+09", NOON),
        ("1.782907200123456e+15", NOON + timedelta(microseconds=123456)),
        (1782907200123456000.0, NOON + timedelta(microseconds=123456)),
    ],
    ids=str,
)
def test_common_time_formats_are_parsed(value, read):
    assert parse_timestamp(value, PARIS) == read
    assert parse_timestamp(value, PARIS).tzinfo is UTC


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
def test_other_values_are_none(value):
    assert parse_timestamp(value, PARIS) is None


@pytest.mark.parametrize(
    ("time_format", "value", "read"),
    [
        ("s", 1782907200, NOON),
        ("s", 86400, datetime(1970, 1, 2, tzinfo=UTC)),
        ("ms", "1782907200000", NOON),
        ("us", 1782907200000000, NOON),
        ("ns", 1782907200000000000, NOON),
        ("s", 0, None),
        ("s", -5, None),
        ("s", 1e40, None),
        ("s", "2026-07-01", None),
        ("ns", None, None),
        ("julian", 2461223.0, NOON),
        ("julian", "2461223.25", NOON + timedelta(hours=6)),
        ("julian", 46346.35, None),
        ("julian", "", None),
        ("%Y%m%d", 20260701, NOON - timedelta(hours=14)),
        ("%Y%m%d", 20260701.0, NOON - timedelta(hours=14)),
        ("%Y%m%d", Decimal("20260701.0"), NOON - timedelta(hours=14)),
        ("%d.%m.%Y %H:%M", " 01.07.2026 14:00 ", NOON),
        ("%d.%m.%Y %H:%M %z", "01.07.2026 14:00 +0200", NOON),
        ("%d.%m.%Y", "31.02.2026", None),
        ("%d.%m.%Y", Decimal("1e400"), None),
        ("%Y", float("inf"), None),
        ("%Y", float("nan"), None),
        ("%Y", Decimal("Infinity"), None),
        ("auto", "2026-07-01 14:00", NOON),
    ],
    ids=str,
)
def test_a_time_format_says_what_a_column_holds(time_format, value, read):
    assert time_reader(time_format, PARIS)(value) == read


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
