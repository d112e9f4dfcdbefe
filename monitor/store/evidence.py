"""What runs saw of each cause: written once per run, read back as marks for the rules."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select

from monitor.health.evidence import NOT_SENT
from monitor.incidents.rules import Mark
from monitor.incidents.witnesses import Witness, vouches, witness
from monitor.model import Cause, Evidence, IncidentKey, RunStatus
from monitor.store.engine import in_fews
from monitor.store.runs import abandoned
from monitor.store.tables import evidence, incidents, runs
from monitor.store.text import storable

__all__ = ["api_messages", "breakdown_since", "from_row", "marks", "write"]

_MOST = 5_000
"""Runs that a rule looks back on at the most, whatever its window."""


def write(
    conn: Connection, *, target: str, run_id: int, at: datetime, pieces: Iterable[Evidence]
) -> dict[IncidentKey, int]:
    """Stores a run's evidence; gives back the row's id per cause and group."""
    ids: dict[IncidentKey, int] = {}
    for piece in pieces:
        row = {
            "run_id": run_id,
            "target": target,
            "cause": piece.cause.value,
            "group_name": piece.group,
            "at": at,
            "count": piece.count,
            "breakdown": dict(piece.breakdown),
            "sample_ids": list(piece.sample_ids),
            "request_ids": list(piece.request_ids),
            "code": storable(piece.code, 200),
            "api_message": storable(piece.api_message, 1000),
            "explained_by": piece.explained_by.value if piece.explained_by else None,
        }
        ids[piece.key] = conn.execute(insert(evidence).returning(evidence.c.id), row).scalar_one()
    return ids


def marks(
    conn: Connection, *, target: str, keys: Sequence[IncidentKey], since: datetime, at_least: int
) -> Mapping[IncidentKey, Sequence[Mark]]:
    """What the runs that are witnesses of a cause say about it, for each cause and group, newest first.

    A run that could not close itself is none: what it saw went with it, and its silence must not part two that saw it.

    Args:
        conn: a connection.
        target: name of the target.
        keys: the causes asked about, each with the group, or an empty one for the whole target.
        since: runs that finished before this are left out, unless they are among the newest `at_least`.
        at_least: how many runs to give back at the least, as far as there are so many.
    """
    found: dict[IncidentKey, Sequence[Mark]] = {}
    for statuses in {witness(cause).statuses for cause, _ in keys}:
        rows = _finished(conn, target, statuses, since, at_least)
        explained = _explained(conn, [row["id"] for row in rows])
        alike = [key for key in keys if witness(key[0]).statuses == statuses]
        # Of many groups, most saw nothing in most runs: what is said then is the same for all.
        clean = {each: [_clean(row, each) for row in rows] for each in {witness(cause) for cause, _ in alike}}
        found |= {key: _marks(clean[witness(key[0])], explained.get(key)) for key in alike}
    return found


def _finished(
    conn: Connection, target: str, statuses: Iterable[RunStatus], since: datetime, at_least: int
) -> Sequence[RowMapping]:
    ended = runs.c.status.in_(sorted(status.value for status in statuses))
    finished = (
        select(runs.c.id, runs.c.finished_at, runs.c.due, runs.c.answered)
        .where(runs.c.target == target, ended, runs.c.finished_at.is_not(None), ~abandoned())
        .order_by(runs.c.id.desc())
    )
    rows = conn.execute(finished.where(runs.c.finished_at >= since).limit(_MOST)).mappings().all()
    return rows if len(rows) >= at_least else conn.execute(finished.limit(at_least)).mappings().all()


def _explained(conn: Connection, run_ids: Sequence[int]) -> Mapping[IncidentKey, Mapping[int, bool]]:
    """For each cause and group, the runs that saw it, and whether a higher cause explains that evidence."""
    explained = defaultdict[IncidentKey, dict[int, bool]](dict)
    for few in in_fews(run_ids):
        query = select(evidence.c.run_id, evidence.c.cause, evidence.c.group_name, evidence.c.explained_by)
        for row in conn.execute(query.where(evidence.c.run_id.in_(few))):
            explained[Cause(row.cause), row.group_name][row.run_id] = row.explained_by is not None
    return explained


def _clean(run: RowMapping, of: Witness) -> Mark:
    """What a run says that saw nothing."""
    enough = vouches(of.vouching, due=run["due"], answered=run["answered"])
    return Mark(run_id=run["id"], at=run["finished_at"], evidence=False, enough=enough)


def _marks(clean: Sequence[Mark], explained: Mapping[int, bool] | None) -> Sequence[Mark]:
    if not explained:
        return clean
    return [
        replace(mark, evidence=not explained[mark.run_id], muted=explained[mark.run_id])
        if mark.run_id in explained
        else mark
        for mark in clean
    ]


def from_row(values: RowMapping) -> Evidence:
    """One piece of evidence from a row of its table."""
    explained_by = values["explained_by"]
    return Evidence(
        cause=Cause(values["cause"]),
        group=values["group_name"],
        count=values["count"],
        breakdown=values["breakdown"],
        sample_ids=tuple(values["sample_ids"]),
        request_ids=tuple(values["request_ids"]),
        code=values["code"],
        api_message=values["api_message"],
        explained_by=Cause(explained_by) if explained_by else None,
    )


def api_messages(conn: Connection, *, incident_ids: Sequence[int]) -> dict[int, str]:
    """The API's own words in the newest evidence of incidents, where it said any, by incident."""
    words: dict[int, str] = {}
    for few in in_fews(incident_ids):
        query = select(incidents.c.id, evidence.c.api_message).join(evidence, evidence.c.id == incidents.c.evidence_id)
        rows = conn.execute(query.where(incidents.c.id.in_(few), evidence.c.api_message.is_not(None)))
        words |= {row.id: row.api_message for row in rows}
    return words


def breakdown_since(conn: Connection, *, target: str, key: IncidentKey, since: datetime) -> dict[str, int]:
    """What the runs since a moment saw of a cause, added up: the most frequent first, what was never sent last."""
    cause, group = key
    about = (evidence.c.target == target, evidence.c.cause == cause.value, evidence.c.group_name == group)
    query = select(evidence.c.breakdown).where(*about, evidence.c.at >= since, evidence.c.explained_by.is_(None))
    summed: Counter[str] = Counter()
    for breakdown in conn.execute(query).scalars():
        summed.update(breakdown)
    return dict(sorted(summed.items(), key=lambda seen: (seen[0] == NOT_SENT, -seen[1], seen[0])))
