"""The chart of one incident: in which runs its cause was seen. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from markupsafe import Markup

from monitor.incidents.explain import LEAD_RUNS, IncidentHistory, ObservedRun
from monitor.model import ITEM_CAUSES, RunStatus
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
_NAMES_OF_ITEMS: Mapping[str, str] = {"seen": "items affected", "clean": "no item affected"}
"""Other names where items are in the incident. New items are its evidence, but those that stay keep it open, too."""
_OPENS: Mapping[str, bool] = {"opened": True, "reopened": True, "resolved": False}
"""The events after which an incident is open, or no longer."""


def evidence_chart(history: IncidentHistory, *, drawn: Sequence[ObservedRun] = ()) -> Chart | None:
    """The runs of an incident by what they say about its cause; None if there are fewer than two.

    `drawn`: some of its runs, if there are too many for all.
    """
    first = history.incident.first_evidence_at
    earlier = [run for run in history.runs if run.at < first][-LEAD_RUNS:]
    runs = [*earlier, *(drawn or (run for run in history.runs if run.at >= first))]
    if len(runs) < 2:
        return None
    of_items = history.incident.cause in ITEM_CAUSES
    held = _runs_while_open(history, runs) if of_items else frozenset()
    kinds = {run.run_id: _kind(run, held=run.run_id in held) for run in runs}
    names = {kind: _NAMES_OF_ITEMS.get(kind, name) if of_items else name for kind, (_, name) in _KINDS.items()}
    bounds = _bounds([run.at for run in runs])
    columns = _columns(runs, bounds)
    counts = {kind: tuple(float(_number(column, kinds, kind)) for column in columns) for kind in _KINDS}
    layers = [
        Series(name=names[kind], role=role, values=counts[kind])
        for kind, (role, _) in _KINDS.items()
        if any(counts[kind])
    ]
    marks = [any(run.status is not RunStatus.COMPLETE for run in column) for column in columns]
    highest = max(len(column) for column in columns)
    legend = [Legend(name=layer.name, role=layer.role) for layer in layers]
    if any(marks):
        legend.append(Legend(name="run cut short", role="cut-short"))
    plane = Plane(bounds=bounds, high=float(highest), scale=("0", str(highest)))
    seen = [kinds[run.run_id] == "seen" for run in runs]
    return Chart(
        name="evidence",
        title="In which runs was it seen?",
        sentence=(_sentence_of_items if of_items else _sentence)(runs, seen) + (_SPREAD if drawn else Markup("")),
        figure=columns_figure(layers, bounds, marks),
        table=_table(columns, counts, names),
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


def _runs_while_open(history: IncidentHistory, runs: Sequence[ObservedRun]) -> frozenset[int]:
    """The runs after which the incident was open."""
    events = [event for event in history.events if event.kind in _OPENS]
    found, is_open = set(), False
    for run in runs:
        while events and (events[0].at <= run.at if events[0].run_id is None else events[0].run_id <= run.run_id):
            is_open = _OPENS[events.pop(0).kind]
        if is_open:
            found.add(run.run_id)
    return frozenset(found)


def _number(column: Sequence[ObservedRun], kinds: Mapping[int, str], kind: str) -> int:
    """How many runs of a column say that."""
    return sum(kinds[run.run_id] == kind for run in column)


def _kind(run: ObservedRun, *, held: bool) -> str:
    """What a run says; one that is `held` saw items that had come before."""
    if run.point is None:
        return "uncounted"
    if run.point.inhibited:
        return "inhibited"
    return "seen" if run.point.evidence or held else "clean"


_SPREAD = Markup(" Only some of the runs are drawn, evenly spread over the whole time.")


def _sentence(runs: Sequence[ObservedRun], seen: Sequence[bool]) -> Markup:
    """How many runs saw it, when the last one did, and how many did not since."""
    if not any(seen):
        return Markup("None of these {} saw it itself.").format(plural(len(runs), "run"))
    since = seen[::-1].index(True)
    tail = f"; none of the {since} runs since did" if since > 1 else "; the run since did not" if since else ""
    last = time_tag(runs[-1 - since].at)
    return Markup("{} of {} saw it, the last one at {}{}.").format(sum(seen), plural(len(runs), "run"), last, tail)


def _sentence_of_items(runs: Sequence[ObservedRun], seen: Sequence[bool]) -> Markup:
    """In how many runs items were in it, and until when."""
    if not any(seen):
        return Markup("No item was affected in these {}.").format(plural(len(runs), "run"))
    since = seen[::-1].index(True)
    until = Markup("the last time at {}").format(time_tag(runs[-1 - since].at)) if since else "also in the last one"
    return Markup("Items were affected in {} of {}, {}.").format(sum(seen), plural(len(runs), "run"), until)


def _table(
    columns: Sequence[Sequence[ObservedRun]], counts: Mapping[str, Sequence[float]], names: Mapping[str, str]
) -> ChartTable:
    rows: list[tuple[Cell, ...]] = [
        (column[0].at, column[-1].at, f"{column[0].run_id}", *(int(counts[kind][n]) for kind in _KINDS))
        for n, column in enumerate(columns)
        if column
    ]
    heading = ("First run", "Last run", "From run", *(name.capitalize() for name in names.values()))
    return ChartTable(caption="Runs by what they say about the cause", heading=heading, rows=tuple(rows))
