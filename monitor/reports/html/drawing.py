"""Draws charts as small SVGs without a script: columns and lines over time, and bars beside their values. Pure.

A drawing carries roles as classes (`fill-failed`, `line-p95`); the stylesheet gives them colours, patterns and dashes
for both colour schemes. It is stretched to its place, so labels are HTML around it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from markupsafe import Markup

from monitor.reports.html.marks import time_tag

_WIDTH, _HEIGHT = 720, 160
_MARK_STRIP = 10
"""Above the columns: room for the marks of runs that were cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, or one layer of stacked columns."""

    name: str
    role: str
    """A class of the stylesheet without its prefix, such as `failed`."""
    values: tuple[float | None, ...]
    """One per span, oldest first; None: a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar, with its value in words."""

    label: str
    value: float
    text: str
    role: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Spans of time against a scale."""

    bounds: tuple[datetime, ...]
    low: float = 0.0
    high: float
    scale: tuple[str, str]
    """What the ends of the scale say: the lowest, the highest."""

    def x(self, at: datetime) -> float:
        """The place of a moment."""
        start, end = self.bounds[0], self.bounds[-1]
        return round((at - start) / (end - start) * _WIDTH, 1)

    def y(self, value: float) -> float:
        """The place of a value; what is beyond the scale stands at its end."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.0
        return round(_HEIGHT - min(max(share, 0.0), 1.0) * (_HEIGHT - _MARK_STRIP), 1)


def draw_columns(plane: Plane, layers: Sequence[Series], marks: Sequence[bool] = ()) -> Markup:
    """Stacked columns, one per span; a triangle above the spans of `marks`."""
    edges = [plane.x(at) for at in plane.bounds]
    tops = [0.0] * (len(edges) - 1)
    paths = []
    for layer in layers:
        steps = []
        for n, value in enumerate(layer.values):
            if value:
                bottom, tops[n] = tops[n], tops[n] + value
                left, right = edges[n], edges[n + 1]
                steps.append(f"M{left:g} {plane.y(bottom):g}V{plane.y(tops[n]):g}H{right:g}V{plane.y(bottom):g}z")
        if steps:
            paths.append(Markup('<path fill="url(#pattern-{})" d="{}"/>').format(layer.role, "".join(steps)))
    flagged = [(edges[n] + edges[n + 1]) / 2 for n, marked in enumerate(marks) if marked]
    if flagged:
        triangles = "".join(f"M{x - 4:g} 1h8l-4 7z" for x in flagged)
        paths.append(Markup('<path class="fill-cut-short" d="{}"/>').format(triangles))
    return _framed(plane, paths)


def draw_lines(plane: Plane, lines: Sequence[Series], band: tuple[Series, Series] | None = None) -> Markup:
    """Lines over time, and a filled band between two of them."""
    middles = [plane.x(start + (end - start) / 2) for start, end in pairwise(plane.bounds)]
    paths = []
    if band is not None:
        paths += [
            Markup('<path class="fill-band" d="{}"/>').format(_closed(upper, lower))
            for upper, lower in _band_runs(plane, middles, band)
        ]
    for line in lines:
        points = [None if value is None else (x, plane.y(value)) for x, value in zip(middles, line.values, strict=True)]
        path = "".join(_polyline(run) for run in runs_of(points, _is_point))
        if path:
            paths.append(Markup('<path class="line line-{}" d="{}"/>').format(line.role, path))
    return _framed(plane, paths)


_Point = tuple[float, float]


def _is_point(point: _Point | None) -> bool:
    return point is not None


def runs_of(values: Iterable[_Point | None], known: Callable[[_Point | None], bool]) -> list[list[_Point]]:
    """The runs of known points between gaps."""
    found: list[list[_Point]] = [[]]
    for value in values:
        if value is not None and known(value):
            found[-1].append(value)
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def _polyline(points: Sequence[_Point]) -> str:
    """A line through points; a single one is a short dash."""
    if len(points) == 1:
        x, y = points[0]
        return f"M{max(x - 3, 0):g} {y:g}h6"
    first, *rest = points
    return f"M{first[0]:g} {first[1]:g}" + "".join(f"L{x:g} {y:g}" for x, y in rest)


def _band_runs(
    plane: Plane, middles: Sequence[float], band: tuple[Series, Series]
) -> list[tuple[list[_Point], list[_Point]]]:
    low, high = band
    found: list[tuple[list[_Point], list[_Point]]] = [([], [])]
    for x, below, above in zip(middles, low.values, high.values, strict=True):
        if below is not None and above is not None:
            found[-1][0].append((x, plane.y(above)))
            found[-1][1].append((x, plane.y(below)))
        elif found[-1][0]:
            found.append(([], []))
    return [(upper, lower) for upper, lower in found if len(upper) > 1]


def _closed(upper: Sequence[_Point], lower: Sequence[_Point]) -> str:
    return _polyline([*upper, *reversed(lower)]) + "z"


def _framed(plane: Plane, paths: Sequence[Markup]) -> Markup:
    """The drawing with its scale at the left and its period below."""
    return Markup(
        '<div class="plot"><div class="scale" aria-hidden="true"><span>{highest}</span><span>{lowest}</span></div>'
        '<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="grid" d="M0 {top}H{width}M0 {middle:g}H{width}M0 {base:g}H{width}"/>{paths}</svg>'
        '<div class="period" aria-hidden="true">{start}{end}</div></div>'
    ).format(
        width=_WIDTH,
        height=_HEIGHT,
        top=_MARK_STRIP,
        middle=(_HEIGHT + _MARK_STRIP) / 2,
        base=_HEIGHT - 0.5,
        highest=plane.scale[1],
        lowest=plane.scale[0],
        paths=Markup("").join(paths),
        start=time_tag(plane.bounds[0]),
        end=time_tag(plane.bounds[-1]),
    )


def draw_bars(bars: Sequence[Bar], *, longest: float | None = None) -> Markup:
    """A bar per row between its label and its value; `longest`, or the greatest value, has the whole width."""
    longest = longest or max((bar.value for bar in bars), default=0.0)
    rows = Markup("").join(
        Markup(
            '<li><span class="bar-label">{}</span><span class="bar-value">{}</span><svg class="bar" aria-hidden="true">'
            '<rect class="bar-rail" width="100%" height="100%"/>'
            '<rect fill="url(#pattern-{})" width="{:g}%" height="100%"/></svg></li>'
        ).format(bar.label, bar.text, bar.role, round(100 * max(bar.value, 0.0) / longest, 1) if longest > 0 else 0)
        for bar in bars
    )
    return Markup('<ul class="bars">{}</ul>').format(rows)


def draw_sparkline(values: Sequence[float | None], *, low: float, high: float, role: str = "completed") -> Markup:
    """A line as high as a row of text; the words beside it say what it shows."""
    width, height = 100, 20
    span = high - low
    step = width / max(len(values) - 1, 1)
    points = [
        None if value is None else (round(n * step, 1), round(18 - (value - low) / span * 16 if span > 0 else 10.0, 1))
        for n, value in enumerate(values)
    ]
    path = "".join(_polyline(run) for run in runs_of(points, _is_point))
    return Markup(
        '<svg class="sparkline" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="line line-{}" d="{}"/></svg>'
    ).format(width, height, role, path)
