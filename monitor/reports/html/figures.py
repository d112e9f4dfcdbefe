"""Figures in Plotly's form: dicts with roles, which the script replaces by colours. Pure; Plotly is not imported."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from monitor.reports.html.drawing import Series

Figure = dict[str, Any]
_MARKS, _TOP = 1.06, 1.12
"""Where marks stand above the highest column, and the end of the scale, as a multiple of that column."""
_WHOLE_STEPS = 5
"""Below this height the scale has a line for each whole number, and none between them."""


def columns_figure(layers: Sequence[Series], bounds: Sequence[datetime], marks: Sequence[bool]) -> Figure:
    """Stacked columns over spans of time, and a mark above each span of `marks`."""
    spans = list(pairwise(bounds))
    middles = _middles(bounds)
    widths = [(end - start).total_seconds() * 1000 for start, end in spans]
    traces: list[Figure] = [
        {"type": "bar", "name": layer.name, "role": layer.role, "x": middles, "y": list(layer.values), "width": widths}
        for layer in layers
    ]
    height = max((sum(layer.values[n] or 0 for layer in layers) for n in range(len(middles))), default=0) or 1
    flagged = [middle for middle, marked in zip(middles, marks, strict=True) if marked]
    if flagged:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "run cut short",
                "role": "cut-short",
                "x": flagged,
                "y": [height * _MARKS] * len(flagged),
                "hovertemplate": "run cut short<extra></extra>",
            }
        )
    scale: Figure = {"range": [0, height * (_TOP if flagged else 1)]}
    if height < _WHOLE_STEPS:
        scale["dtick"] = 1
    return {"data": traces, "layout": {"barmode": "stack", "yaxis": scale, "xaxis": _ends(bounds)}}


def lines_figure(
    lines: Sequence[Series], bounds: Sequence[datetime], axis: dict[str, Any], *, band: bool = False
) -> Figure:
    """Lines over time; with `band` the room between the first two is filled."""
    middles = _middles(bounds)
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": line.name,
            "role": line.role,
            "x": middles,
            "y": list(line.values),
            "connectgaps": False,
        }
        for line in lines
    ]
    if band:
        traces = [*_band(middles, lines[0], lines[1]), *traces]
    return {"data": traces, "layout": {"yaxis": axis, "xaxis": _ends(bounds)}}


def _band(middles: Sequence[str], low: Series, high: Series) -> list[Figure]:
    """The room between two lines: a shape for each run of spans in which both are known."""
    shapes: list[list[tuple[str, float, float]]] = [[]]
    for middle, below, above in zip(middles, low.values, high.values, strict=True):
        if below is not None and above is not None:
            shapes[-1].append((middle, below, above))
        elif shapes[-1]:
            shapes.append([])
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "fill": "toself",
            "role": "band",
            "x": [x for x, _, _ in (*shape, *reversed(shape))],
            "y": [*(above for _, _, above in shape), *(below for _, below, _ in reversed(shape))],
            "hoverinfo": "skip",
        }
        for shape in shapes
        if len(shape) > 1
    ]


def _middles(bounds: Sequence[datetime]) -> list[str]:
    return [(start + (end - start) / 2).isoformat(timespec="seconds") for start, end in pairwise(bounds)]


def _ends(bounds: Sequence[datetime]) -> Figure:
    return {"type": "date", "range": [at.isoformat(timespec="seconds") for at in (bounds[0], bounds[-1])]}
