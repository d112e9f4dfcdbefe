from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.hints import LONGEST_HINT, retry_hint

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UNIX = int(NOW.timestamp())

SANE = {
    "milliseconds": ({"retry-after-ms": "1500"}, None, 1.5),
    "fractions of milliseconds": ({"retry-after-ms": "20.5"}, None, 0.0205),
    "seconds": ({"retry-after": "60"}, None, 60),
    "padded seconds": ({"retry-after": " 7 "}, None, 7),
    "IMF date": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, None, 30),
    "IMF date in another zone": ({"retry-after": "Sun, 01 Mar 2026 14:00:30 +0200"}, None, 30),
    "RFC 850 date": ({"retry-after": "Sunday, 01-Mar-26 12:00:30 GMT"}, None, 30),
    "asctime date": ({"retry-after": "Sun Mar  1 12:00:30 2026"}, None, 30),
    "date against the server's own clock": (
        {"retry-after": "Sun, 01 Mar 2020 00:00:30 GMT", "date": "Sun, 01 Mar 2020 00:00:00 GMT"},
        None,
        30,
    ),
    "date beside a garbage clock": ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "noon"}, None, 30),
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
    "fractional seconds": ({"retry-after": "1.5"}, None),
    "garbage": ({"retry-after": "soon", "x-ratelimit-reset": "later"}, "tomorrow"),
    "empty": ({"retry-after": "", "retry-after-ms": "", "x-ratelimit-reset": ""}, ""),
    "past reset": ({"x-ratelimit-reset": "1609459260"}, None),
    "boolean": ({}, True),
    "list": ({}, [60]),
    "huge negative": ({}, -(10**400)),
}


@pytest.mark.parametrize(("headers", "body", "seconds"), SANE.values(), ids=SANE)
def test_it_reads_every_sane_hint(headers, body, seconds):
    hint = retry_hint(headers, body, now=NOW, status=429)
    assert hint is not None
    assert hint.total_seconds() == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(("headers", "body"), INSANE.values(), ids=INSANE)
def test_it_passes_over_what_names_no_time_to_come(headers, body):
    assert retry_hint(headers, body, now=NOW, status=429) is None


@pytest.mark.parametrize(("status", "hint"), [(429, 12), (503, 12), (500, None), (404, None), (None, None)])
def test_a_rate_limit_reset_is_a_hint_only_where_a_limit_was_met(status, hint):
    found = retry_hint({"x-ratelimit-reset": "12"}, None, now=NOW, status=status)
    assert (found.total_seconds() if found else None) == hint


def test_no_hint_is_longer_than_an_hour():
    assert retry_hint({}, 3601, now=NOW) == LONGEST_HINT == timedelta(hours=1)


def test_retry_after_is_heard_on_any_status():
    assert retry_hint({"retry-after": "3"}, None, now=NOW, status=500) == timedelta(seconds=3)


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
NAMES = ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-requests", "date"]
NEAR_MISSES = st.from_regex(r"[0-9]{0,30}(\.[0-9]*)?(h|m|s|ms| GMT)?[0-9]{0,4}(s|ms)?", fullmatch=True)


@given(st.dictionaries(st.sampled_from(NAMES), st.text() | NEAR_MISSES), ANYTHING)
def test_whatever_is_said_the_hint_is_none_or_within_the_hour(headers, body):
    hint = retry_hint(headers, body, now=NOW, status=429)
    assert hint is None or timedelta(0) <= hint <= LONGEST_HINT
