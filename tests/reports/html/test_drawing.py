"""Drawings are well-formed, keep their scale, and show gaps."""

import re

import pytest
from reports.html.documents import drawings
from reports.overviews import DAY, NOW

from monitor.reports.html.drawing import Bar, Plane, Series, draw_bars, draw_columns, draw_lines, draw_sparkline

BOUNDS = tuple(NOW + n * DAY for n in range(5))
HOSTILE = '"><script>alert(1)</script>&'


def plane(high=10.0, **fields):
    return Plane(bounds=BOUNDS, high=high, scale=("0", "10"), **fields)


def series(*values, role="failed"):
    return Series(name=role, role=role, values=values)


def paths(markup):
    """The path data of each class or fill of a drawing."""
    (drawn,) = drawings(markup)
    return {path.get("class") or path.get("fill"): path.get("d") for path in drawn.iter("path")}


def test_columns_are_stacked():
    found = paths(draw_columns(plane(), [series(4, 0, None, 10), series(6, 1, None, 0, role="pending")]))
    assert found["url(#pattern-failed)"] == "M0 160V100H180V160zM540 160V10H720V160z"
    assert found["url(#pattern-pending)"] == "M0 100V10H180V100zM180 160V145H360V160z"


def test_a_layer_without_items_is_not_drawn():
    assert set(paths(draw_columns(plane(), [series(0, None, 0, 0)]))) == {"grid"}


def test_marked_spans_have_a_triangle_above_the_columns():
    found = paths(draw_columns(plane(), [series(1, 1, 1, 1)], [False, True, False, False]))
    assert found["fill-cut-short"] == "M266 1h8l-4 7z"


def test_a_line_breaks_at_a_gap_and_a_single_point_is_a_dash():
    found = paths(draw_lines(plane(), [series(0, 10, None, 5, role="p95")]))
    assert found["line line-p95"] == "M90 160L270 10M627 85h6"


def test_the_band_is_closed_and_needs_two_points():
    low, high = series(0, 0, None, 1, role="p50"), series(10, 10, None, 2, role="p95")
    found = paths(draw_lines(plane(), [low, high], band=(low, high)))
    assert found["fill-band"] == "M90 10L270 10L270 160L90 160z"


@pytest.mark.parametrize(("value", "y"), [(-5, 160.0), (0, 160.0), (10, 10.0), (99, 10.0)])
def test_values_beyond_the_scale_stand_at_its_end(value, y):
    assert plane().y(value) == y


def test_a_scale_without_length_is_no_division_by_zero():
    assert plane(high=0.0).y(0) == 160.0


def test_bars_have_a_label_and_a_value_as_text():
    markup = draw_bars([Bar(label="a", value=30, text="30 items"), Bar(label="b", value=10, text="10 items")])
    assert re.findall(r'width="([\d.]+%)"', markup) == ["100%", "100%", "100%", "33.3%"]
    assert markup.striptags() == "a30 itemsb10 items"
    assert draw_bars([Bar(label="a", value=0, text="none")]).count('width="0%"') == 1
    assert 'width="50%"' in draw_bars([Bar(label="a", value=0.5, text="half")], longest=1.0)


@pytest.mark.parametrize(
    "markup",
    [
        draw_bars([Bar(label=HOSTILE, value=1, text=HOSTILE, role=HOSTILE)]),
        draw_lines(Plane(bounds=BOUNDS, high=1, scale=(HOSTILE, HOSTILE)), [series(1, 1, 1, 1, role=HOSTILE)]),
        draw_columns(plane(), [series(1, 1, 1, 1, role=HOSTILE)]),
        draw_sparkline([1, 2], low=0, high=2, role=HOSTILE),
    ],
    ids=["bars", "lines", "columns", "sparkline"],
)
def test_hostile_names_stay_text(markup):
    assert "<script" not in markup
    assert drawings(markup)


def test_a_sparkline_shows_gaps_and_a_steady_value_in_the_middle():
    (drawn,) = drawings(draw_sparkline([0.9, None, 1.0, 1.0], low=0.9, high=1.0))
    assert drawn.find("path").get("d") == "M0 18h6M66.7 2L100 2"
    (steady,) = drawings(draw_sparkline([1.0], low=1.0, high=1.0))
    assert steady.find("path").get("d") == "M0 10h6"
