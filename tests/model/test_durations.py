from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.durations import bounded_duration, exponential_backoff_s, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("4h", timedelta(hours=4)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(days=7)),
        ("2w1d", timedelta(days=15)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("500ms", timedelta(milliseconds=500)),
        ("1m500ms", timedelta(minutes=1, milliseconds=500)),
        ("90m", timedelta(minutes=90)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_parsed(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 m",
        " 5m",
        "5m ",
        "-5m",
        "1.5h",
        "5M",
        "30m1h",
        "5m5m",
        "m",
        "5y",
        "1d1w",
        "\u0665m",
        "123456789s",
        "5m\n",
    ],
)
def test_other_texts_are_not_durations(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10**6)))
def test_a_formatted_duration_is_parsed_back_to_the_millisecond(duration):
    whole = duration - duration % timedelta(milliseconds=1)

    assert parse_duration(format_duration(duration)) == whole


@pytest.mark.parametrize(
    ("failures", "jitter", "wait_s"),
    [(0, 1.0, 0.1), (1, 1.0, 0.2), (4, 1.0, 1.6), (5, 1.0, 2.0), (5, 0.5, 1.0), (10**6, 1.0, 2.0)],
)
def test_the_backoff_doubles_up_to_its_maximum(failures, jitter, wait_s):
    assert exponential_backoff_s(failures, initial_s=0.1, max_s=2.0, jitter=jitter) == pytest.approx(wait_s)


def test_a_duration_out_of_bounds_or_none_at_all_is_refused_with_the_bounds():
    bounds = {"minimum": timedelta(hours=1), "maximum": timedelta(days=7), "examples": '"2h"'}
    assert [bounded_duration(text, **bounds) for text in ("1h", "1w")] == [timedelta(hours=1), timedelta(days=7)]
    for text in ("59m", "8d", "soon", ""):
        with pytest.raises(ValueError, match=r'is no duration from 1h to 7d; write it as in "2h"$'):
            bounded_duration(text, **bounds)
