"""Laws of the buckets: bounds are round where people promise, close to each other, and quantiles hold."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.durations import parse_duration
from monitor.rollups.bounds import BOUNDS_MS, SLOTS, bound_ms, quantile_s, slot_start

TOOK = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3000))


PROMISED = "1s 2s 5s 10s 15s 30s 1m 2m 5m 10m 15m 30m 1h 2h 4h 6h 12h 1d 2d 7d"


@pytest.mark.parametrize("text", PROMISED.split())
def test_a_round_duration_is_a_bound_itself(text):
    exact = parse_duration(text)
    assert bound_ms(exact) == exact // timedelta(milliseconds=1)
    assert bound_ms(exact + timedelta(microseconds=1)) > exact // timedelta(milliseconds=1)


def test_neighbouring_bounds_are_at_most_five_percent_apart():
    assert all(low < high <= low * 1.0501 for low, high in pairwise(BOUNDS_MS))
    assert len(BOUNDS_MS) < 450


@given(TOOK)
def test_a_bucket_is_the_lowest_bound_that_a_duration_does_not_exceed(took):
    bound = bound_ms(took)
    assert took <= timedelta(milliseconds=bound)
    lower = [each for each in BOUNDS_MS if each < bound]
    assert not lower or took > timedelta(milliseconds=lower[-1])


def test_what_takes_longer_than_ten_years_is_in_the_last_bucket():
    assert bound_ms(timedelta(days=9999)) == BOUNDS_MS[-1]


@given(st.lists(TOOK, min_size=1, max_size=40), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_at_most_five_percent_over_that_of_the_single_values(values, share):
    exact = sorted(values)[math.ceil(share * len(values)) - 1].total_seconds()
    found = quantile_s(Counter(map(bound_ms, values)), share)
    assert exact <= found <= max(1.0, exact * 1.0501)


def test_there_is_no_quantile_of_nothing():
    assert quantile_s({}, 0.5) is None
    assert quantile_s({-1: 4, -2: 1}, 0.5) is None


@pytest.mark.parametrize(("width", "start"), [(SLOTS[0], "12:55"), (SLOTS[1], "12:00"), (SLOTS[2], "00:00")])
def test_a_slot_begins_at_a_round_time_in_utc(width, start):
    assert (
        slot_start(datetime(2026, 3, 1, 12, 59, 59, 999999, tzinfo=UTC), width).isoformat()
        == f"2026-03-01T{start}:00+00:00"
    )


def test_a_week_begins_on_a_monday():
    start = slot_start(datetime(2026, 3, 1, 12, tzinfo=UTC), SLOTS[3])
    assert (start.isoformat(), start.strftime("%A")) == ("2026-02-23T00:00:00+00:00", "Monday")
