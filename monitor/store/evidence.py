"""What runs saw of each cause: written once per run, read back as marks for the rules."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select

from monitor.incidents.rules import Mark
from monitor.model import Cause, Evidence, RunStatus
from monitor.store.tables import evidence, runs

__all__ = ["ENOUGH", "from_row", "marks", "write"]

ENOUGH = 20
"""A run vouches for recovery when it got answers for so many items, or for all that were due."""

_ASKED = tuple(s.value for s in (RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED))
_MOST = 5_000
"""Runs that a rule looks back on at the most, whatever its window."""


def write(conn: Connection, *, target: str, run_id: int, at: datetime, pieces: Iterable[Evidence]) -> dict[Cause, int]:
    """Stores a run's evidence; gives back the row's id per cause."""
    ids: dict[Cause, int] = {}
    for piece in pieces:
        row = {
            "run_id": run_id,
            "target": target,
            "cause": piece.cause.value,
            "at": at,
            "count": piece.count,
            "breakdown": dict(piece.breakdown),
            "sample_ids": list(piece.sample_ids),
            "request_ids": list(piece.request_ids),
            "code": piece.code,
            "api_message": piece.api_message,
            "explained_by": piece.explained_by.value if piece.explained_by else None,
        }
        ids[piece.cause] = conn.execute(insert(evidence).values(row).returning(evidence.c.id)).scalar_one()
    return ids


def marks(
    conn: Connection, *, target: str, causes: Sequence[Cause], since: datetime, at_least: int, unread: bool = False
) -> Mapping[Cause, Sequence[Mark]]:
    """What the finished runs of a target say about each cause, newest first.

    Args:
        conn: a connection.
        target: name of the target.
        causes: the causes asked about.
        since: runs that finished before this are left out, unless they are among the newest `at_least`.
        at_least: how many runs to give back at the least, as far as there are so many.
        unread: whether it is about reading the sync log: then runs count that could not, and one that read ids vouches
            for it whatever the API said. Otherwise they are left out, as they say nothing about the API.
    """
    statuses = (*_ASKED, RunStatus.UNREAD.value) if unread else _ASKED
    finished = (
        select(runs.c.id, runs.c.finished_at, runs.c.due, runs.c.answered)
        .where(runs.c.target == target, runs.c.status.in_(statuses), runs.c.finished_at.is_not(None))
        .order_by(runs.c.id.desc())
    )
    rows = conn.execute(finished.where(runs.c.finished_at >= since).limit(_MOST)).mappings().all()
    if len(rows) < at_least:
        rows = conn.execute(finished.limit(at_least)).mappings().all()
    explained = _explained(conn, [row["id"] for row in rows])
    return {cause: [_mark(row, explained, cause, unread=unread) for row in rows] for cause in causes}


_CHUNK = 500
"""Ids per IN list: below every limit on bound parameters."""


def _explained(conn: Connection, run_ids: Sequence[int]) -> dict[tuple[int, str], bool]:
    """(run, cause) to whether a higher cause explains that evidence."""
    explained: dict[tuple[int, str], bool] = {}
    for start in range(0, len(run_ids), _CHUNK):
        chunk = run_ids[start : start + _CHUNK]
        query = select(evidence.c.run_id, evidence.c.cause, evidence.c.explained_by)
        for row in conn.execute(query.where(evidence.c.run_id.in_(chunk))):
            explained[row.run_id, row.cause] = row.explained_by is not None
    return explained


def _mark(run: RowMapping, explained: Mapping[tuple[int, str], bool], cause: Cause, *, unread: bool) -> Mark:
    by_a_higher_cause = explained.get((run["id"], cause.value))
    answers = unread or run["answered"] >= min(ENOUGH, run["due"])
    return Mark(
        run_id=run["id"],
        at=run["finished_at"],
        evidence=by_a_higher_cause is False,
        muted=by_a_higher_cause is True,
        # An empty work list vouches for nothing.
        enough=run["due"] > 0 and answers,
    )


def from_row(values: RowMapping) -> Evidence:
    """One piece of evidence from a row of its table."""
    explained_by = values["explained_by"]
    return Evidence(
        cause=Cause(values["cause"]),
        count=values["count"],
        breakdown=values["breakdown"],
        sample_ids=tuple(values["sample_ids"]),
        request_ids=tuple(values["request_ids"]),
        code=values["code"],
        api_message=values["api_message"],
        explained_by=Cause(explained_by) if explained_by else None,
    )
