"""Properties of every hint, for any headers and any clocks."""

import calendar
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from monitor.client.retry_after import MAX_RETRY_AFTER, RETRY_AFTER_SOURCES, parse_http_date, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.binary()
NAMES = ["date", *(source.header for source in RETRY_AFTER_SOURCES if source.header)]
NEAR_MISSES = st.from_regex(r"[0-9]{0,30}(\.[0-9]*)?(h|m|s|ms| GMT)?[0-9]{0,4}(s|ms)?", fullmatch=True)
NEAR_DATES = st.from_regex(
    r"([A-Z][a-z]{2,8},? )?[0-9]{1,2}[ -](Feb|Foo)[ -][0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} ?(GMT|CET|[+-][0-9]{4})?",
    fullmatch=True,
) | st.from_regex(r"[A-Z][a-z]{2} Dec [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}", fullmatch=True)
SAID = st.text() | NEAR_MISSES | NEAR_DATES
CLOCKS = st.datetimes(datetime(1971, 1, 1), datetime(2170, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001  # aware by `timezones`
    lambda instant: instant.replace(microsecond=0)
)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
WAITS = st.integers(1, 3600).map(lambda wait_s: timedelta(seconds=wait_s))


def imf(instant):
    return format_datetime(instant.astimezone(UTC), usegmt=True)


def rfc_850(instant):
    day = calendar.day_name[instant.weekday()]
    return (
        f"{day}, {instant.day:02}-{calendar.month_abbr[instant.month]}-{instant.year % 100:02} {instant:%H:%M:%S} GMT"
    )


def asctime(instant):
    day, month = calendar.day_abbr[instant.weekday()], calendar.month_abbr[instant.month]
    return f"{day} {month} {instant.day:2} {instant:%H:%M:%S} {instant.year:04}"


FORMS = st.sampled_from([imf, rfc_850, asctime])


@given(st.dictionaries(st.sampled_from(NAMES), SAID), ANYTHING, st.sampled_from([None, 200, 429, 500, 503]))
def test_any_hint_is_none_or_within_the_hour(headers, body, status):
    hint = parse_retry_after(headers, body, now=NOW, status=status)
    assert hint is None or timedelta(0) < hint <= MAX_RETRY_AFTER


@given(SAID, CLOCKS)
def test_any_date_is_an_aware_instant_or_none(text, now):
    instant = parse_http_date(text, now=now)
    assert instant is None or instant.utcoffset() is not None


@given(CLOCKS, WAITS, FORMS)
def test_a_date_in_any_form_is_read_to_the_second(now, wait, form):
    assert parse_retry_after({"retry-after": form(now + wait)}, None, now=now) == wait


@given(CLOCKS, WAITS, OFFSETS)
def test_a_date_in_any_zone_is_read_to_the_second(now, wait, zone):
    assert parse_retry_after({"retry-after": format_datetime((now + wait).astimezone(zone))}, None, now=now) == wait


@given(CLOCKS, CLOCKS, WAITS, FORMS, st.sampled_from([imf, asctime]))
def test_clock_skew_cancels_out(ours, theirs, wait, form, dated):
    headers = {"retry-after": imf(theirs + wait), "date": dated(theirs)}
    assert parse_retry_after(headers, None, now=ours) == wait
    assert parse_retry_after({"retry-after": form(ours + wait), "date": dated(ours)}, None, now=ours) == wait


@given(CLOCKS, CLOCKS, WAITS)
def test_an_absurd_date_header_does_not_spoil_a_hint(now, absurd, wait):
    instant = now + wait
    by_date = instant - absurd
    expected = by_date if timedelta(0) < by_date <= MAX_RETRY_AFTER else wait
    assert parse_retry_after({"retry-after": imf(instant), "date": imf(absurd)}, None, now=now) == expected
    reset = {"x-ratelimit-reset": str(int(instant.timestamp())), "date": imf(absurd)}
    if instant.timestamp() >= 1e8:
        assert parse_retry_after(reset, None, now=now) == expected


@given(CLOCKS, CLOCKS, st.integers(0, 10**9))
def test_a_time_past_for_us_and_not_near_for_the_server_is_no_hint(now, absurd, ago_s):
    instant = now - timedelta(seconds=ago_s)
    if instant.year >= 1900 and not timedelta(0) < instant - absurd <= MAX_RETRY_AFTER:
        assert parse_retry_after({"retry-after": imf(instant), "date": imf(absurd)}, None, now=now) is None


@given(st.integers(1, 10**30), st.booleans())
def test_any_number_of_seconds_counts_as_such_up_to_an_hour(seconds, as_text):
    expected = timedelta(seconds=min(seconds, 3600))
    assert parse_retry_after({}, str(seconds) if as_text else seconds, now=NOW) == expected
    assert parse_retry_after({"retry-after": str(seconds)}, None, now=NOW) == expected
    assert parse_retry_after({"retry-after-ms": str(seconds * 1000)}, None, now=NOW) == expected


@given(st.integers(0, 3), st.integers(0, 70), st.integers(0, 70), st.integers(0, 1500))
def test_durations_are_summed(hours, minutes, seconds, ms):
    wait = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=ms)
    text = f"{hours}h{minutes}m{seconds}s{ms}ms"
    assert parse_retry_after({"x-ratelimit-reset": text}, None, now=NOW) == (min(wait, MAX_RETRY_AFTER) or None)
    assert parse_retry_after({}, text, now=NOW) == (min(wait, MAX_RETRY_AFTER) or None)


@given(st.dictionaries(st.sampled_from(NAMES), SAID), st.integers(1, 3600))
def test_the_first_source_takes_precedence(headers, ms):
    assert parse_retry_after({**headers, "retry-after-ms": str(ms)}, 5, now=NOW) == timedelta(milliseconds=ms)
