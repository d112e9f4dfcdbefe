"""The chart of one incident: in which runs its cause was seen. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from markupsafe import Markup

from monitor.incidents.explain import LEAD_RUNS, IncidentHistory, ObservedRun
from monitor.model import RunStatus
from monitor.reports.formatting import plural, spans
from monitor.reports.html.charts import Cell, Chart, ChartTable, Legend
from monitor.reports.html.drawing import Plane, Series, draw_columns
from monitor.reports.html.figures import columns_figure
from monitor.reports.html.marks import time_tag

_MAX_COLUMNS = 48
"""Runs that have a column each; more are counted per span of time."""
_KINDS: Mapping[str, tuple[str, str]] = {
    "seen": ("failed", "evidence"),
    "inhibited": ("unknown", "inhibited by a higher cause"),
    "clean": ("completed", "no evidence"),
    "uncounted": ("plain", "does not count"),
}
"""What a run says about the cause, with the role and the name of its columns."""


def evidence_chart(history: IncidentHistory, *, drawn: Sequence[ObservedRun] = ()) -> Chart | None:
    """The runs of an incident by what they say about its cause; None if there are fewer than two.

    `drawn`: some of its runs, if there are too many for all.
    """
    first = history.incident.first_evidence_at
    earlier = [run for run in history.runs if run.at < first][-LEAD_RUNS:]
    runs = [*earlier, *(drawn or (run for run in history.runs if run.at >= first))]
    if len(runs) < 2:
        return None
    bounds = _bounds([run.at for run in runs])
    columns = _columns(runs, bounds)
    counts = {kind: tuple(float(sum(_kind(run) == kind for run in column)) for column in columns) for kind in _KINDS}
    layers = [
        Series(name=name, role=role, values=counts[kind]) for kind, (role, name) in _KINDS.items() if any(counts[kind])
    ]
    marks = [any(run.status is not RunStatus.COMPLETE for run in column) for column in columns]
    highest = max(len(column) for column in columns)
    legend = [Legend(name=layer.name, role=layer.role) for layer in layers]
    if any(marks):
        legend.append(Legend(name="run cut short", role="cut-short"))
    plane = Plane(bounds=bounds, high=float(highest), scale=("0", str(highest)))
    return Chart(
        name="evidence",
        title="In which runs was it seen?",
        sentence=_sentence(runs, some=bool(drawn)),
        figure=columns_figure(layers, bounds, marks),
        table=_table(columns, counts),
        svg=draw_columns(plane, layers, marks),
        legend=tuple(legend),
    )


def _bounds(times: Sequence[datetime]) -> tuple[datetime, ...]:
    """A column per run, with its edges halfway to the next; of many runs, spans of time."""
    margin = max((times[-1] - times[0]) / (2 * (len(times) - 1)), timedelta(seconds=1))
    if len(times) > _MAX_COLUMNS:
        return tuple(spans(times[0] - margin, times[-1] + margin))
    middles = [one + (other - one) / 2 for one, other in pairwise(times)]
    return (times[0] - margin, *middles, times[-1] + margin)


def _columns(runs: Sequence[ObservedRun], bounds: Sequence[datetime]) -> list[list[ObservedRun]]:
    """The runs of each column."""
    found: list[list[ObservedRun]] = [[] for _ in bounds[1:]]
    n = 0
    for run in runs:
        while n < len(found) - 1 and run.at >= bounds[n + 1]:
            n += 1
        found[n].append(run)
    return found


def _kind(run: ObservedRun) -> str:
    if run.point is None:
        return "uncounted"
    if run.point.inhibited:
        return "inhibited"
    return "seen" if run.point.evidence else "clean"


def _sentence(runs: Sequence[ObservedRun], *, some: bool) -> Markup:
    """How many runs saw it, when the last one did, and how many did not since."""
    seen = [n for n, run in enumerate(runs) if _kind(run) == "seen"]
    spread = Markup(" Only some of the runs are drawn, evenly spread over the whole time.") if some else Markup("")
    if not seen:
        return Markup("None of these {} saw it itself.{}").format(plural(len(runs), "run"), spread)
    last = runs[seen[-1]]
    since = len(runs) - 1 - seen[-1]
    tail = Markup("; none of the {} since did").format(plural(since, "run")) if since else Markup("")
    return Markup("{} of {} saw it, the last one at {}{}.{}").format(
        len(seen), plural(len(runs), "run"), time_tag(last.at), tail, spread
    )


def _table(columns: Sequence[Sequence[ObservedRun]], counts: Mapping[str, Sequence[float]]) -> ChartTable:
    rows: list[tuple[Cell, ...]] = [
        (column[0].at, column[-1].at, f"{column[0].run_id}", *(int(counts[kind][n]) for kind in _KINDS))
        for n, column in enumerate(columns)
        if column
    ]
    heading = ("First run", "Last run", "From run", *(name.capitalize() for _, name in _KINDS.values()))
    return ChartTable(caption="Runs by what they say about the cause", heading=heading, rows=tuple(rows))
