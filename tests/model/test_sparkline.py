"""Sparklines: one mark per value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.sparkline import ASCII_BLOCKS, BLOCKS, sparkline

VALUES = st.lists(st.none() | st.floats(0, 1e12) | st.integers(0, 10**9), max_size=60)


LOWEST = st.sampled_from([None, 0, 0.9])


@given(VALUES, LOWEST, st.sampled_from([BLOCKS, ASCII_BLOCKS]))
def test_a_sparkline_has_one_mark_per_value_and_a_gap_where_there_is_none(values, low, blocks):
    line = sparkline(values, low=low, blocks=blocks)
    assert len(line) == len(values)
    assert [mark == " " for mark in line] == [value is None for value in values]
    assert set(line) <= {*blocks, " "}


@given(VALUES, LOWEST)
def test_a_larger_value_never_has_a_lower_mark(values, low):
    line = sparkline(values, low=low)
    known = sorted((value, BLOCKS.index(mark)) for value, mark in zip(values, line, strict=True) if value is not None)
    assert [level for _, level in known] == sorted(level for _, level in known)


@given(VALUES.filter(lambda values: len({value for value in values if value is not None}) > 1))
def test_the_smallest_value_has_the_lowest_mark_and_the_largest_the_highest(values):
    line = sparkline(values)
    known = [value for value in values if value is not None]
    low = {mark for value, mark in zip(values, line, strict=True) if value == min(known)}
    high = {mark for value, mark in zip(values, line, strict=True) if value == max(known)}
    others = {mark for value, mark in zip(values, line, strict=True) if value not in {None, min(known)}}
    assert (low, high) == ({BLOCKS[0]}, {BLOCKS[-1]})
    assert BLOCKS[0] not in others


@pytest.mark.parametrize(
    ("values", "low", "line"),
    [
        ([], None, ""),
        ([None, None], None, "  "),
        ([0, 0], 0, "▁▁"),
        ([3, 3], None, "██"),
        ([5, 10], 0, "▅█"),
        ([5, 10], None, "▁█"),
        ([0, 1, 1000], 0, "▁▂█"),
        ([0.0, 5e-324, 1e300], None, "▁▂█"),
        ([1, None, 2], None, "▁ █"),
    ],
    ids=[
        "nothing",
        "gaps",
        "zero",
        "level",
        "sizes",
        "ups-and-downs",
        "a-little-is-seen",
        "next-to-nothing-too",
        "gap",
    ],
)
def test_marks_of_example_values(values, low, line):
    assert sparkline(values, low=low) == line


def test_a_scale_with_both_ends_keeps_small_changes_small():
    assert sparkline([0.906, 0.9061, 0.9059], low=0.9, high=1.0) == "▂▂▂"
