"""Figures in Plotly's form: dicts with roles, which the script replaces by colours. Pure; Plotly is not imported."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from monitor.reports.html.drawing import Series

Figure = dict[str, Any]


def columns_figure(layers: Sequence[Series], bounds: Sequence[datetime], marks: Sequence[bool]) -> Figure:
    """Stacked columns over spans of time, and a mark above each span of `marks`."""
    spans = list(pairwise(bounds))
    middles = _middles(bounds)
    widths = [(end - start).total_seconds() * 1000 for start, end in spans]
    traces: list[Figure] = [
        {"type": "bar", "name": layer.name, "role": layer.role, "x": middles, "y": list(layer.values), "width": widths}
        for layer in layers
    ]
    flagged = [middle for middle, marked in zip(middles, marks, strict=True) if marked]
    if flagged:
        heights = [sum(layer.values[n] or 0 for layer in layers) for n, marked in enumerate(marks) if marked]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "run cut short",
                "role": "cut-short",
                "x": flagged,
                "y": heights,
                "hovertemplate": "run cut short<extra></extra>",
            }
        )
    return {"data": traces, "layout": {"barmode": "stack", "yaxis": {"rangemode": "tozero"}, "xaxis": _ends(bounds)}}


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
        traces[1]["fill"] = "tonexty"
    return {"data": traces, "layout": {"yaxis": axis, "xaxis": _ends(bounds)}}


def _middles(bounds: Sequence[datetime]) -> list[str]:
    return [(start + (end - start) / 2).isoformat(timespec="seconds") for start, end in pairwise(bounds)]


def _ends(bounds: Sequence[datetime]) -> Figure:
    return {"type": "date", "range": [at.isoformat(timespec="seconds") for at in (bounds[0], bounds[-1])]}
