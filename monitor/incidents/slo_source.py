"""Reads how a target keeps its objectives, and says so at the end of every run. The rules are in `slo`.

It counts no upload itself: `monitor.rollups` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection, Select, select, text

from monitor.database.engine import in_chunks
from monitor.database.lookups import newest_of_each
from monitor.database.tables import INCIDENT_IS_OPEN, incidents, runs
from monitor.incidents.decide import EvidencePoint
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import Rule
from monitor.incidents.slo import BURN_WINDOWS, LONGEST_BURN_WINDOW, AlertState, Objective, SloStatus, Slot, assess
from monitor.incidents.slo_texts import slo_facts
from monitor.model import Cause, Evidence, RunStatus
from monitor.rollups.indexing_queries import IndexingCount, Uploads, counted_since, indexing_counts

_ASKED = (RunStatus.COMPLETE, RunStatus.PARTIAL)
"""Runs after which the state of uploads is known. While a target is stopped, no upload is known to be late."""


def read_status(
    conn: Connection, *, target: str, objective: Objective, known: SloStatus | None = None
) -> SloStatus | None:
    """The objective at the end of the last run that could ask; None before the first. As `read_statuses`."""
    before = {} if known is None else {target: (known,)}
    return next(iter(read_statuses(conn, objectives={target: (objective,)}, known=before)[target]), None)


def read_statuses(
    conn: Connection,
    *,
    objectives: Mapping[str, Sequence[Objective]],
    known: Mapping[str, Sequence[SloStatus]] = MappingProxyType({}),
) -> dict[str, tuple[SloStatus, ...]]:
    """The objectives of each target, by its name, at the end of its last run that could ask; none before the first.

    `known` is what was read before: it is returned if no such run has ended since.

    An upload counts from the moment that its time is up, so slots of submission are moved by `within`, and a slot
    counts once all of its uploads are due. Uploads of before the monitor could count them are left out.
    """
    asked_at = _last_asked(conn, list(objectives))
    before = {(target, each.at, each.objective): each for target, found in known.items() for each in found}
    promised = [
        (target, asked_at[target], each) for target, found in objectives.items() for each in found if target in asked_at
    ]
    status = {key: before[key] for key in promised if key in before}
    unread = [key for key in promised if key not in before]
    first = counted_since(conn, targets=[target for target, _, _ in unread]) if unread else {}
    counted = [(key, _uploads(*key, counted_since=first[key[0]])) for key in unread if key[0] in first]
    counts = dict(zip([key for key, _ in counted], indexing_counts(conn, [each for _, each in counted]), strict=True))
    status |= {key: _assessed(key[2], counts.get(key, ()), key[1]) for key in unread}
    of_target: dict[str, list[SloStatus]] = {target: [] for target in objectives}
    for key in promised:
        of_target[key[0]].append(status[key])
    return {target: tuple(statuses) for target, statuses in of_target.items()}


def _last_asked(conn: Connection, targets: Sequence[str]) -> dict[str, datetime]:
    """When the newest run of each target ended after which the state of uploads is known."""
    found = newest_of_each(conn, targets, {"asked": _ASKED})
    ids = [row.asked for row in found.values() if row.asked is not None]
    return {row.target: row.finished_at for chunk in in_chunks(ids) for row in conn.execute(_ended(chunk))}


def _ended(ids: Sequence[int]) -> Select[tuple[str, datetime]]:
    return select(runs.c.target, runs.c.finished_at).where(runs.c.id.in_(ids))


def _uploads(target: str, at: datetime, objective: Objective, *, counted_since: datetime) -> Uploads:
    until = at - objective.within
    return Uploads(
        target=target,
        since=max(counted_since, until - max(objective.window, LONGEST_BURN_WINDOW)),
        until=until,
        within=objective.within,
        now=at,
        group=objective.group,
        # at the end, too: the slot that goes on there is not due as a whole
        cuts=(until, *(until - window for window in (objective.window, *BURN_WINDOWS))),
    )


def _assessed(objective: Objective, counts: Iterable[IndexingCount], at: datetime) -> SloStatus:
    slots = (
        Slot(start=each.start + objective.within, resolution=each.length, total=each.due, good=each.good)
        for each in counts
    )
    return assess(objective, [slot for slot in slots if slot.start + slot.resolution <= at], now=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloSource:
    """Says of each objective of a target whether its error budget burns too fast."""

    objectives: Sequence[Objective]

    def observe(
        self, conn: Connection, *, target: str, rules: Mapping[Cause, Rule], now: datetime
    ) -> Sequence[Observation]:
        """One observation per objective; the burn rates of the rule are fixed, so `rules` is not used."""
        del rules
        return [_observation(conn, target, objective, now) for objective in self.objectives]


def _observation(conn: Connection, target: str, objective: Objective, now: datetime) -> Observation:
    status = read_status(conn, target=target, objective=objective)
    burns = status is not None and (
        status.state is AlertState.FIRING
        # it neither opens an incident nor ends one
        or (
            status.state is AlertState.UNDECIDED
            and open_incident_id(conn, target=target, name=objective.name) is not None
        )
    )
    seen = None
    if status is not None and burns:
        late = status.present_rate.bad
        seen = Evidence(cause=Cause.SLO_BURN, group=objective.name, count=late, facts=slo_facts(status))
    return Observation(
        cause=Cause.SLO_BURN,
        group=objective.name,
        points=(EvidencePoint(run_id=0, at=now, evidence=burns),),
        evidence=seen,
        severity=status.severity if status is not None else None,
    )


def open_incident_id(conn: Connection, *, target: str, name: str) -> int | None:
    """The open incident of an objective, if there is one."""
    return open_incident_ids(conn, targets=[target]).get((target, name))


def open_incident_ids(conn: Connection, *, targets: Sequence[str]) -> dict[tuple[str, str], int]:
    """The open incidents of objectives, by target and name of the objective."""
    query = select(incidents.c.target, incidents.c.group_name, incidents.c.id).where(
        incidents.c.target.in_(targets), incidents.c.cause == Cause.SLO_BURN.value, text(INCIDENT_IS_OPEN)
    )
    return {(target, name): number for target, name, number in conn.execute(query)}
