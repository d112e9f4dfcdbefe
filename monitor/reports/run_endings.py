"""How the runs of each span of a period ended, from the rollups where the period is long."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Connection, or_, select

from monitor.database.tables import runs
from monitor.model import RunStatus
from monitor.rollups.history import DAY, HOUR, TABLES

_ENDINGS = (RunStatus.PARTIAL, RunStatus.ABORTED, RunStatus.FAILED, RunStatus.CRASHED)
"""All but `complete`: each left items without an answer."""


def endings_by_span(conn: Connection, *, target: str, bounds: Sequence[datetime]) -> tuple[Counter[RunStatus], ...]:
    """The runs of each span that did not complete, by status. `bounds` ascend: n + 1 for n spans.

    Spans of an hour or more are read from the rollups, whose hours and days are counted where their middle is.
    """
    length = bounds[-1] - bounds[-2]
    found = _rolled_up(conn, target, bounds, length) if length >= HOUR else _stored(conn, target, bounds)
    spans = [Counter[RunStatus]() for _ in bounds[1:]]
    for at, status, count in found:
        for n, (start, end) in enumerate(pairwise(bounds)):
            if start < at <= end:
                spans[n][status] += count
                break
    return tuple(spans)


_Ending = tuple[datetime, RunStatus, int]


def _stored(conn: Connection, target: str, bounds: Sequence[datetime]) -> list[_Ending]:
    query = select(runs.c.started_at, runs.c.status).where(
        runs.c.target == target, runs.c.started_at > bounds[0], runs.c.started_at <= bounds[-1]
    )
    known = {status.value: status for status in _ENDINGS}
    return [(at, known[status], 1) for at, status in conn.execute(query) if status in known]


def _rolled_up(conn: Connection, target: str, bounds: Sequence[datetime], length: timedelta) -> list[_Ending]:
    width = DAY if length >= 2 * DAY else HOUR
    table, half = TABLES[width], width / 2
    sums = [table.c[f"runs_{status.value}"] for status in _ENDINGS]
    query = select(table.c.starts_at, *sums).where(
        table.c.target == target, table.c.starts_at > bounds[0] - half, table.c.starts_at <= bounds[-1]
    )
    query = query.where(or_(*(count > 0 for count in sums)))
    return [
        (min(at + half, bounds[-1]), status, count)
        for at, *counts in conn.execute(query)
        for status, count in zip(_ENDINGS, counts, strict=True)
        if count
    ]
