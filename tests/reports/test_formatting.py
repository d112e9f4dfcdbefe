"""Parts of formatted reports: spans, tables and numbers."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.reports.formatting import (
    MAX_SPANS,
    fit,
    format_count,
    format_latency,
    format_share,
    plural,
    right_aligned,
    shorten_middle,
    span_length,
    spans,
    wrap_lines,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

COLUMNS = {"ITEM": ["x" * 60], "DETAIL": ["d" * 40], "AGE": ["1 h"]}


def test_a_table_is_as_wide_as_it_is_where_there_is_no_terminal():
    assert fit(COLUMNS, width=None, shorten={"DETAIL": 6}).splitlines()[1] == f"{'x' * 60}  {'d' * 40}  1 h"


def test_a_table_fits_the_terminal_by_what_may_be_shortened_and_never_by_an_id():
    line = fit(COLUMNS, width=80, shorten={"DETAIL": 6}).splitlines()[1]
    assert line == f"{'x' * 60}  {'d' * 12}…  1 h"
    assert len(line) == 80


def test_a_table_that_still_is_too_wide_leaves_columns_out_and_says_which():
    _, line, note = fit(COLUMNS, width=66, shorten={"DETAIL": 6}, optional=["DETAIL", "AGE"]).splitlines()
    assert (line, note) == (f"{'x' * 60}  1 h", "Left out for this width: DETAIL")
    _, line, *note = fit(COLUMNS, width=20, optional=["DETAIL", "AGE"]).splitlines()
    assert (line, " ".join(" ".join(note).split())) == ("x" * 60, "Left out for this width: DETAIL, AGE")


def test_a_word_that_is_longer_than_the_line_stays_whole_as_it_may_be_an_id():
    assert list(wrap_lines(f"such as: {'x' * 300}, b", indent=4)) == ["    such as:", f"      {'x' * 300},", "      b"]


@pytest.mark.parametrize(
    ("period", "step", "count"),
    [
        (timedelta(hours=1), timedelta(minutes=2), 30),
        (timedelta(days=1), timedelta(hours=1), 24),
        (timedelta(days=7), timedelta(hours=6), 28),
        (timedelta(days=30), timedelta(days=1), 30),
        (timedelta(days=365), timedelta(days=14), 27),
        (timedelta(days=3653), timedelta(days=120), 31),
        (timedelta(days=36530), timedelta(days=36530) / MAX_SPANS, MAX_SPANS),
    ],
    ids=["1h", "1d", "7d", "30d", "a-year", "ten-years", "a-century"],
)
def test_a_period_is_divided_into_round_spans(period, step, count):
    assert (span_length(period), len(spans(NOW - period, NOW)) - 1) == (step, count)


@given(st.timedeltas(timedelta(hours=1), timedelta(days=3653)))
def test_the_spans_of_a_period_are_contiguous_and_few(period):
    bounds = spans(NOW - period, NOW)
    lengths = [end - start for start, end in pairwise(bounds)]
    assert (bounds[0], bounds[-1]) == (NOW - period, NOW)
    assert len(lengths) <= MAX_SPANS
    assert set(lengths[1:]) <= {span_length(period)}
    assert timedelta(0) < lengths[0] <= span_length(period)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999_999, "999999"), (1_000_000, "1.0M"), (123_456_789, "123M"), (5 * 10**9, "5.0G"), (10**13, "1e+13")],
)
def test_counts_stay_narrow(number, shown):
    assert format_count(number) == shown
    assert len(shown) <= 6


@pytest.mark.parametrize(
    ("part", "shown"), [(0, "0%"), (0.00001, "0.1%"), (0.5, "50%"), (0.912, "91.2%"), (0.99999, "99.9%"), (1, "100%")]
)
def test_a_share_is_0_or_100_percent_only_if_exact(part, shown):
    assert format_share(part) == shown


def test_latencies_and_plurals():
    assert [format_latency(ms) for ms in (0.4, 80, 1234)] == ["0 ms", "80 ms", "1.2 s"]
    assert [plural(1, "run"), plural(2, "run"), plural(2, "entry", "entries")] == ["1 run", "2 runs", "2 entries"]


@given(st.text(min_size=1), st.integers(5, 80), st.sampled_from(["…", ".."]))
def test_a_long_text_is_shortened_in_the_middle(text, width, ellipsis):
    shown = shorten_middle(text, width, ellipsis=ellipsis)
    if len(text) <= width:
        assert shown == text
    else:
        begin, _, end = shown.partition(ellipsis)
        assert len(shown) == width
        assert text.startswith(begin[:1])
        assert text.endswith(end[-1:])


def test_a_column_of_numbers_is_right_aligned():
    assert right_aligned("N", ["1", "222"]) == ("  N", ["  1", "222"])
    assert right_aligned("NAME", []) == ("NAME", [])


def test_a_long_sentence_is_wrapped_with_an_indent_and_not_at_hyphens():
    lines = list(wrap_lines("a-b " * 40, indent=2, hang=3))
    assert max(map(len, lines)) <= 80
    assert [line[:5] for line in lines] == ["  a-b", "     ", "     "]
    assert [line for line in lines if line.endswith("-")] == []
