import re
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from monitor.client.retry_after import MAX_RETRY_AFTER, RETRY_AFTER_SOURCES, parse_http_date, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UNIX = int(NOW.timestamp())

ZONES = dict.fromkeys(("GMT", "UTC", "UT", "Z"), 12) | {
    **dict.fromkeys(("PST",), 4),
    **dict.fromkeys(("MST", "PDT"), 5),
    **dict.fromkeys(("CST", "MDT"), 6),
    **dict.fromkeys(("EST", "CDT"), 7),
    **dict.fromkeys(("EDT",), 8),
}
"""The local hour at noon UTC."""

SANE = {
    "milliseconds": ({"retry-after-ms": "1500"}, None, 1.5),
    "fractions of milliseconds": ({"retry-after-ms": "20.5"}, None, 0.0205),
    "seconds": ({"retry-after": "60"}, None, 60),
    "seconds and a fraction": ({"retry-after": "1.5"}, None, 1.5),
    "seconds said twice": ({"retry-after": "5, 10"}, None, 10),
    "seconds said twice, the longer first": ({"retry-after": "10,5.5"}, None, 10),
    "two dates": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT, Sun, 01 Mar 2026 12:00:50 GMT"}, None, 50),
    "two dates of RFC 850": (
        {"retry-after": "Sunday, 01-Mar-26 12:00:30 GMT,Sunday, 01-Mar-26 12:00:20 GMT"},
        None,
        30,
    ),
    "a date and a number": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT, 45"}, None, 45),
    "a number and a date": ({"retry-after": "20, Sun, 01 Mar 2026 12:00:30 GMT"}, None, 30),
    "a number and a date without a comma": ({"retry-after": "20,Sun Mar  1 12:00:30 2026,5"}, None, 30),
    "a date that is past and a number": ({"retry-after": "Sun, 01 Mar 2026 11:00:30 GMT, 7"}, None, 7),
    "padded seconds": ({"retry-after": " 7 "}, None, 7),
    "IMF date": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, None, 30),
    "IMF date in another zone": ({"retry-after": "Sun, 01 Mar 2026 14:00:30 +0200"}, None, 30),
    "IMF date with a colon in its offset": ({"retry-after": "Sun, 01 Mar 2026 06:30:30 -05:30"}, None, 30),
    "IMF date half an hour east": ({"retry-after": "Sun, 01 Mar 2026 17:30:30 +0530"}, None, 30),
    "IMF date with the wrong weekday": ({"retry-after": "Fri, 01 Mar 2026 12:00:30 GMT"}, None, 30),
    "weekday of nine letters": ({"retry-after": "Wednesday, 01-Mar-26 12:00:30 GMT"}, None, 30),
    "IMF date without a weekday": ({"retry-after": "1 Mar 2026 12:00:30 GMT"}, None, 30),
    "IMF date in lower case": ({"retry-after": "sun, 01 mar 2026 12:00:30 gmt"}, None, 30),
    "IMF date without a zone": ({"retry-after": "Sun, 01 Mar 2026 12:00:30"}, None, 30),
    "IMF date with -0000": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000"}, None, 30),
    "IMF date with many blanks": ({"retry-after": "  Sun,  01 Mar 2026   12:00:30 GMT "}, None, 30),
    "leap second": ({"retry-after": "Sun, 01 Mar 2026 12:00:60 GMT"}, None, 60),
    **{
        f"IMF date in {zone}": ({"retry-after": f"Sun, 01 Mar 2026 {hour:02}:00:30 {zone}"}, None, 30)
        for zone, hour in ZONES.items()
    },
    "RFC 850 date with four digits": ({"retry-after": "Sunday, 01-Mar-2026 12:00:30 GMT"}, None, 30),
    "asctime date in two digits": ({"retry-after": "Sun Mar 01 12:00:30 2026"}, None, 30),
    "asctime date with a zone": ({"retry-after": "Sun Mar  1 13:00:30 2026 +0100"}, None, 30),
    "RFC 850 date": ({"retry-after": "Sunday, 01-Mar-26 12:00:30 GMT"}, None, 30),
    "asctime date": ({"retry-after": "Sun Mar  1 12:00:30 2026"}, None, 30),
    "date against the server's own clock": (
        {"retry-after": "Sun, 01 Mar 2020 00:00:30 GMT", "date": "Sun, 01 Mar 2020 00:00:00 GMT"},
        None,
        30,
    ),
    "date beside a garbage clock": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "noon"}, None, 30),
    "date beside a Date of years ago": (
        {"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"},
        None,
        30,
    ),
    "date beside a Date of years to come": (
        {"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "Sun, 01 Mar 2099 12:00:00 GMT"},
        None,
        30,
    ),
    "date beside a Date that is later": (
        {"retry-after": "Sun, 01 Mar 2026 12:05:00 GMT", "date": "Sun, 01 Mar 2026 12:10:00 GMT"},
        None,
        300,
    ),
    "date a day away beside a Date of years to come": (
        {"retry-after": "Mon, 02 Mar 2026 12:00:00 GMT", "date": "Sun, 01 Mar 2099 12:00:00 GMT"},
        None,
        3600,
    ),
    "reset beside a Date of years ago": (
        {"x-ratelimit-reset": str(UNIX + 45), "date": "Thu, 01 Jan 1970 00:00:00 GMT"},
        None,
        45,
    ),
    "date an hour after Date": (
        {"retry-after": "Sun, 01 Mar 2026 12:10:00 GMT", "date": "Sun, 01 Mar 2026 11:10:00 GMT"},
        None,
        3600,
    ),
    "date over an hour after Date: by our clock": (
        {"retry-after": "Sun, 01 Mar 2026 12:10:00 GMT", "date": "Sun, 01 Mar 2026 11:09:59 GMT"},
        None,
        600,
    ),
    "date a second after Date": (
        {"retry-after": "Sun, 01 Mar 2026 12:10:00 GMT", "date": "Sun, 01 Mar 2026 12:09:59 GMT"},
        None,
        1,
    ),
    "date at Date itself: by our clock": (
        {"retry-after": "Sun, 01 Mar 2026 12:10:00 GMT", "date": "Sun, 01 Mar 2026 12:10:00 GMT"},
        None,
        600,
    ),
    "Date with a year of two digits": (
        {"retry-after": "Mon, 01 Mar 2021 08:00:30 GMT", "date": "Monday, 01-Mar-21 08:00:00 GMT"},
        None,
        30,
    ),
    "both dates in asctime": (
        {"retry-after": "Mon Mar  1 08:00:30 2021", "date": "Mon Mar  1 08:00:00 2021"},
        None,
        30,
    ),
    "seconds don't heed Date": ({"retry-after": "30", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}, None, 30),
    "an hour in seconds": ({"retry-after": "3600"}, None, 3600),
    "over an hour in seconds": ({"retry-after": "3601"}, None, 3600),
    "leading zeros": ({"retry-after": "0007"}, None, 7),
    "seconds between tabs": ({"retry-after": "\t7\t"}, None, 7),
    "a microsecond": ({"retry-after-ms": "0.001"}, None, 0.000001),
    "reset in fractions": ({"x-ratelimit-reset": "1.5"}, None, 1.5),
    "reset in Unix seconds": ({"x-ratelimit-reset": str(UNIX + 45)}, None, 45),
    "reset in Unix milliseconds": ({"x-ratelimit-reset": str((UNIX + 45) * 1000)}, None, 45),
    "reset against the server's own clock": (
        {"x-ratelimit-reset": "1583020845", "date": "Sun, 01 Mar 2020 00:00:00 GMT"},
        None,
        45,
    ),
    "reset as a delta": ({"x-ratelimit-reset": "12"}, None, 12),
    "reset as the longest delta": ({"x-ratelimit-reset": "99999999"}, None, 3600),
    "reset as the earliest instant is long past": ({"x-ratelimit-reset": "100000000"}, 9, 9),
    "reset as the latest Unix seconds": ({"x-ratelimit-reset": "99999999999"}, None, 3600),
    "reset as the earliest Unix milliseconds is long past": ({"x-ratelimit-reset": "100000000000"}, 9, 9),
    "reset as seconds of a duration": ({"x-ratelimit-reset": "1s"}, None, 1),
    "reset as minutes and seconds": ({"x-ratelimit-reset": "6m0s"}, None, 360),
    "reset as milliseconds of a duration": ({"x-ratelimit-reset": "20ms"}, None, 0.02),
    "reset as hours": ({"x-ratelimit-reset": "1h"}, None, 3600),
    "reset of requests": ({"x-ratelimit-reset-requests": "8.64s"}, None, 8.64),
    "reset of requests in Unix seconds": ({"x-ratelimit-reset-requests": str(UNIX + 5)}, None, 5),
    "reset before reset of requests": ({"x-ratelimit-reset": "8", "x-ratelimit-reset-requests": "9s"}, 60, 8),
    "reset of requests before body": ({"x-ratelimit-reset-requests": "9s"}, 60, 9),
    "all parts of a duration": ({"x-ratelimit-reset": "0h1m2.5s300ms"}, None, 62.8),
    "duration of 10^400 hours": ({"x-ratelimit-reset": "1" + "0" * 400 + "h"}, None, 3600),
    "reset of 10^400": ({"x-ratelimit-reset": "1" + "0" * 400}, None, 3600),
    "milliseconds of 10^400": ({"retry-after-ms": "1" + "0" * 400}, None, 3600),
    "body digits of 10^400": ({}, "1" + "0" * 400, 3600),
    "body number of 10^5000": ({}, 10**5000, 3600),
    "largest body fraction": ({}, 1.7e308, 3600),
    "body fraction of an hour": ({}, 3599.5, 3599.5),
    "body digits between blanks": ({}, " 15.5 ", 15.5),
    "a zero is passed over": ({"retry-after-ms": "0", "retry-after": "0"}, 60, 60),
    "body number": ({}, 60, 60),
    "body fraction": ({}, 0.5, 0.5),
    "body digits": ({}, "15", 15),
    "body duration": ({}, "1m30s", 90),
    "milliseconds before seconds": ({"retry-after-ms": "500", "retry-after": "9"}, 60, 0.5),
    "seconds before reset": ({"retry-after": "9", "x-ratelimit-reset": "8"}, 60, 9),
    "reset before body": ({"x-ratelimit-reset": "8"}, 60, 8),
    "an insane row is passed over": ({"retry-after": "-5"}, 60, 60),
    "RAG Modulo's literal answer": ({"retry-after": "60", "x-ratelimit-reset": "1609459260"}, 60, 60),
    "huge seconds count as an hour": ({"retry-after": "9" * 5000}, None, 3600),
    "huge body number counts as an hour": ({}, 10**400, 3600),
    "a date a day away counts as an hour": ({"retry-after": "Mon, 02 Mar 2026 12:00:00 GMT"}, None, 3600),
}

INSANE = {
    "nothing": ({}, None),
    "past by our clock, beside a Date of years ago": (
        {"retry-after": "Sun, 01 Mar 2026 11:59:59 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"},
        None,
    ),
    "now": ({"retry-after": "Sun, 01 Mar 2026 12:00:00 GMT"}, None),
    "date in an unknown zone": ({"retry-after": "Sun, 01 Mar 2026 13:00:30 CET"}, None),
    "date in an offset of over a day": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -9900"}, None),
    "date in an unknown month": ({"retry-after": "Sun, 01 Foo 2026 12:00:30 GMT"}, None),
    "date in the 61st second": ({"retry-after": "Sun, 01 Mar 2026 12:00:61 GMT"}, None),
    "date in the 60th minute": ({"retry-after": "Sun, 01 Mar 2026 12:60:30 GMT"}, None),
    "date in the 24th hour": ({"retry-after": "Sun, 01 Mar 2026 24:00:30 GMT"}, None),
    "29 February of no leap year": ({"retry-after": "Sun, 29 Feb 2026 12:00:30 GMT"}, None),
    "the calendar's last second": ({"retry-after": "Fri, 31 Dec 9999 23:59:60 GMT"}, None),
    "year 0": ({"retry-after": "Fri, 31 Dec 0000 23:59:59 GMT"}, None),
    "weekday of ten letters": ({"retry-after": "Wednesdays, 01 Mar 2026 12:00:30 GMT"}, None),
    "weekday of two letters": ({"retry-after": "Su, 01 Mar 2026 12:00:30 GMT"}, None),
    "date without a time": ({"retry-after": "Sun, 01 Mar 2026"}, None),
    "something behind the date": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT x"}, None),
    "asctime date of two digits": ({"retry-after": "Sun Mar  1 12:00:30 26"}, None),
    "long s in a month's name": ({"retry-after": "Sun, 01 \u017fep 2026 12:00:30 GMT"}, None),
    "less than a microsecond": ({"retry-after-ms": "0.0001"}, 1e-7),
    "zero in a duration": ({"x-ratelimit-reset": "0s"}, "0m0s"),
    "units alone": ({"x-ratelimit-reset": "ms"}, "h"),
    "units in another order": ({"x-ratelimit-reset": "1s1m"}, "1m1h"),
    "letters around digits": ({"retry-after": "X5X", "retry-after-ms": "X5"}, "5X"),
    "blanks beyond ASCII": ({"retry-after": "\u20035", "retry-after-ms": "\x0b5"}, "\u20035"),
    "blank inside": ({"retry-after": "1 0", "retry-after-ms": "1 0", "x-ratelimit-reset": "1 0"}, "1 0"),
    "signs": ({"retry-after": "+5", "retry-after-ms": "+5", "x-ratelimit-reset": "+5"}, "+5"),
    "exponents": ({"retry-after": "1e3", "retry-after-ms": "1e3", "x-ratelimit-reset": "1e3"}, "1e3"),
    "underscores": ({"retry-after": "1_0", "retry-after-ms": "1_0", "x-ratelimit-reset": "1_0"}, "1_0"),
    "bare points": ({"retry-after-ms": ".5", "x-ratelimit-reset": "5."}, ".5"),
    "hexadecimal": ({"retry-after": "0x10", "retry-after-ms": "0x10"}, "0x10"),
    "two values, one of them garbage": ({"retry-after": "5, soon"}, "5, 10"),
    "two values with nothing between": ({"retry-after": "5,,10"}, "5,,10"),
    "a duration as retry-after": ({"retry-after": "5s", "retry-after-ms": "5s"}, None),
    "negative body fraction": ({}, -0.5),
    "negative infinity": ({}, float("-inf")),
    "false": ({}, False),
    "object": ({}, {"seconds": 5}),
    "bytes": ({}, b"60"),
    "zero": ({"retry-after": "0"}, 0),
    "past date": ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
    "date without a zone in the past": ({"retry-after": "Sun, 06 Nov 1994 08:49:37 -0000"}, None),
    "date beyond the calendar": ({"retry-after": "Sun, 06 Nov 99999 08:49:37 GMT"}, None),
    "date in foreign digits": ({"retry-after": "Sun, 01 Mar 2026 12:00:3\u0669 GMT"}, None),
    "negative": ({"retry-after": "-5", "retry-after-ms": "-1", "x-ratelimit-reset": "-9"}, -3),
    "nan": ({"retry-after": "nan", "retry-after-ms": "nan", "x-ratelimit-reset": "nan"}, float("nan")),
    "inf": ({"retry-after": "inf", "retry-after-ms": "inf", "x-ratelimit-reset": "inf"}, float("inf")),
    "superscript digit": ({"retry-after": "²", "retry-after-ms": "²", "x-ratelimit-reset": "²"}, "²"),
    "arabic digits": ({"retry-after": "\u0663\u0660"}, "\u0663\u0660"),
    "garbage": ({"retry-after": "soon", "x-ratelimit-reset": "later"}, "tomorrow"),
    "empty": ({"retry-after": "", "retry-after-ms": "", "x-ratelimit-reset": ""}, ""),
    "past reset": ({"x-ratelimit-reset": "1609459260"}, None),
    "boolean": ({}, True),
    "list": ({}, [60]),
    "huge negative": ({}, -(10**400)),
}


@pytest.mark.parametrize(("headers", "body", "seconds"), SANE.values(), ids=SANE)
def test_every_valid_hint_is_read(headers, body, seconds):
    hint = parse_retry_after(headers, body, now=NOW, status=429)
    assert hint is not None
    assert hint.total_seconds() == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(("headers", "body"), INSANE.values(), ids=INSANE)
def test_hints_without_a_future_time_are_ignored(headers, body):
    assert parse_retry_after(headers, body, now=NOW, status=429) is None


@pytest.mark.parametrize(("status", "hint"), [(429, 12), (503, 12), (500, None), (404, None), (None, None)])
def test_a_rate_limit_reset_is_a_hint_only_if_the_limit_was_reached(status, hint):
    found = parse_retry_after({"x-ratelimit-reset": "12"}, None, now=NOW, status=status)
    assert (found.total_seconds() if found else None) == hint


TWO_DIGITS = {
    "50 years ahead to the second": ("Sunday, 01-Mar-76 00:00:00 GMT", "2076"),
    "a second more": ("Sunday, 01-Mar-76 00:00:01 GMT", "1976"),
    "51 years ahead": ("Sunday, 01-Mar-77 00:00:00 GMT", "1977"),
    "this century": ("Sunday, 01-Mar-68 00:00:00 GMT", "2068"),
    "beyond the year at which mail turns": ("Sunday, 01-Mar-69 00:00:00 GMT", "2069"),
    "this year": ("Sunday, 01-Mar-26 00:00:00 GMT", "2026"),
    "last year": ("Sunday, 01-Mar-25 00:00:00 GMT", "2025"),
    "the turn of the century": ("Sunday, 01-Mar-00 00:00:00 GMT", "2000"),
}


@pytest.mark.parametrize(("short", "year"), TWO_DIGITS.values(), ids=TWO_DIGITS)
def test_a_two_digit_year_is_the_latest_at_most_fifty_years_ahead(short, year):
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # 50 years of 365.25 days before 1 March 2076, 00:00
    assert parse_http_date(short, now=now) == parse_http_date(re.sub(r"-(\d\d) ", f"-{year} ", short), now=now)


def test_a_two_digit_year_may_be_in_the_next_century():
    instant = datetime(2100, 1, 1, 0, 0, 10, tzinfo=UTC)
    said = parse_retry_after(
        {"retry-after": "Friday, 01-Jan-00 00:00:10 GMT"}, None, now=instant - timedelta(seconds=20)
    )
    assert said == timedelta(seconds=20)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_the_local_time_zone_does_not_matter(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for form in ("Sun, 01 Mar 2026 12:00:30 GMT", "Sunday, 01-Mar-26 12:00:30 GMT", "Sun Mar  1 12:00:30 2026"):
            assert parse_retry_after({"retry-after": form}, None, now=NOW) == timedelta(seconds=30)
        assert parse_retry_after({"x-ratelimit-reset": str(UNIX + 45)}, None, now=NOW) == timedelta(seconds=45)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("hours", [-12, -5, 0, 5.5, 14])
def test_the_zone_of_our_own_clock_does_not_matter(hours):
    now = NOW.astimezone(timezone(timedelta(hours=hours)))
    for said in ({"retry-after": "Sun Mar  1 12:00:30 2026"}, {"x-ratelimit-reset": str(UNIX + 30)}):
        assert parse_retry_after(said, None, now=now) == timedelta(seconds=30)


@pytest.mark.parametrize(
    "source", [source for source in RETRY_AFTER_SOURCES if source.header], ids=lambda source: source.header
)
@pytest.mark.parametrize("status", [None, 200, 400, 403, 428, 429, 430, 500, 502, 503, 504])
def test_each_header_counts_only_on_its_statuses(source, status):
    is_read = parse_retry_after({source.header: "5"}, None, now=NOW, status=status) is not None
    assert is_read == (source.statuses is None or status in source.statuses)


def test_the_default_status_is_429():
    assert parse_retry_after({"x-ratelimit-reset": "5"}, None, now=NOW) == timedelta(seconds=5)


def test_no_hint_is_longer_than_an_hour():
    assert parse_retry_after({}, 3601, now=NOW) == MAX_RETRY_AFTER == timedelta(hours=1)


def test_retry_after_is_read_on_any_status():
    assert parse_retry_after({"retry-after": "3"}, None, now=NOW, status=500) == timedelta(seconds=3)
