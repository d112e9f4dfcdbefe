"""Reads how a target keeps its objectives, and says so at the end of every run. The rules are in `slo`.

It counts no upload itself: `monitor.rollups` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from monitor.database.lookups import newest_id
from monitor.database.tables import incidents, is_open, runs
from monitor.incidents.decide import EvidencePoint
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import Rule
from monitor.incidents.slo import LONGEST_BURN_WINDOW, AlertState, Objective, SloStatus, Slot, assess
from monitor.incidents.slo_texts import slo_facts
from monitor.model import Cause, Evidence, RunStatus
from monitor.rollups.counting_start import counted_since
from monitor.rollups.indexing_store import indexing_counts

_ASKED = (RunStatus.COMPLETE, RunStatus.PARTIAL)
"""Runs after which the state of uploads is known. While a target is stopped, no upload is known to be late."""


def read_status(
    conn: Connection, *, target: str, objective: Objective, known: SloStatus | None = None
) -> SloStatus | None:
    """The objective at the end of the last run that could ask; None before the first.

    `known` is what was read before: it is returned if no such run has ended since.

    An upload counts from the moment that its time is up, so slots of submission are moved by `within`, and a slot
    counts once all of its uploads are due. Uploads of before the monitor could count them are left out.
    """
    at = _last_asked(conn, target)
    if at is None:
        return None
    if known is not None and (known.at, known.objective) == (at, objective):
        return known
    counts = indexing_counts(
        conn,
        target=target,
        since=at - objective.within - max(objective.window, LONGEST_BURN_WINDOW),
        until=at - objective.within,
        within=objective.within,
        now=at,
        group=objective.group,
    )
    if counts and not counts[0].good:  # else they were counted then
        first = counted_since(conn, target=target)
        counts = [each for each in counts if first is not None and each.start >= first]
    slots = (
        Slot(start=each.start + objective.within, resolution=each.resolution, total=each.due, good=each.good)
        for each in counts
    )
    return assess(objective, [slot for slot in slots if slot.start + slot.resolution <= at], now=at)


def _last_asked(conn: Connection, target: str) -> datetime | None:
    """When the newest run ended after which the state of uploads is known."""
    ended: datetime | None = conn.scalar(select(runs.c.finished_at).where(runs.c.id == newest_id(target, _ASKED)))
    return ended


def read_statuses(
    conn: Connection, *, objectives: Mapping[str, Sequence[Objective]], known: Mapping[str, Sequence[SloStatus]]
) -> dict[str, tuple[SloStatus, ...]]:
    """The objectives of each target, by its name, without those of before its first run; `known` as above."""
    found = {}
    for target, promised in objectives.items():
        before = {status.objective.name: status for status in known.get(target, ())}
        read = (read_status(conn, target=target, objective=each, known=before.get(each.name)) for each in promised)
        found[target] = tuple(status for status in read if status is not None)
    return found


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
    key = (incidents.c.target == target, incidents.c.cause == Cause.SLO_BURN.value, incidents.c.group_name == name)
    found: int | None = conn.scalar(select(incidents.c.id).where(*key, *is_open()).limit(1))
    return found
