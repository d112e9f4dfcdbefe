"""What is wrong now, and which targets need attention first: one cheap query over all targets, then pure rules."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import Connection, String, column, select, text, values

from monitor.database.engine import in_chunks
from monitor.database.lookups import ENDED, WITH_SNAPSHOT, newest_id
from monitor.database.tables import INCIDENT_IS_OPEN, incidents, runs, snapshots
from monitor.model import PROBLEM_STATES, Incident, RunStatus, Severity, Snapshot
from monitor.reports.build import ReportTarget
from monitor.reports.formatting import plural
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview import Condition, TargetOverview, condition, is_stale
from monitor.reports.trends import LastRun

_SEVERITIES = tuple(reversed(Severity))
"""The most urgent first."""
_CONDITIONS = (
    Condition.FAILED,
    Condition.CRASHED,
    Condition.ABORTED,
    Condition.PARTIAL,
    Condition.NEVER_RAN,
    Condition.COMPLETE,
)
"""The least trustworthy first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSummary:
    """One target in few values, to rank many."""

    name: str
    condition: Condition
    stale: bool
    snapshot: Snapshot | None
    """The newest one."""
    incidents: Mapping[Severity, int] = field(default_factory=dict)
    """Open ones."""

    @property
    def problems(self) -> int:
        """Items that somebody must look at."""
        counts = self.snapshot
        return 0 if counts is None else sum(counts.count(state) for state in PROBLEM_STATES) + counts.stuck

    @property
    def in_trouble(self) -> bool:
        """Whether an incident is open, or the last run says nothing about now."""
        return bool(self.incidents) or self.stale or self.condition not in {Condition.COMPLETE, Condition.NEVER_RAN}

    @property
    def rank(self) -> tuple[int, int, int, float, str]:
        """Sorts targets: the most urgent incident, then stale, the last run, the share of problems, and the name."""
        severity = next((n for n, each in enumerate(_SEVERITIES) if self.incidents.get(each)), len(_SEVERITIES))
        total = self.snapshot.total if self.snapshot else 0
        share = self.problems / total if total else 0.0
        return severity, int(not self.stale), _CONDITIONS.index(self.condition), -share, self.name


def summary_of(target: TargetOverview, open_incidents: Sequence[Incident]) -> TargetSummary:
    """The summary of a target of a report, with the open incidents of the report."""
    row, name = target.facts.snapshot, target.facts.target
    return TargetSummary(
        name=name,
        condition=target.condition,
        stale=target.stale,
        snapshot=None if row is None else row.snapshot,
        incidents=Counter(each.severity for each in open_incidents if each.target == name),
    )


def ranked_targets(conn: Connection, targets: Sequence[ReportTarget], *, now: datetime) -> list[TargetSummary]:
    """The summaries of targets, those that need attention first."""
    by_name = open_incidents_by_target(conn)
    states: dict[str, tuple[LastRun | None, Snapshot | None]] = {}
    for batch in in_chunks([target.name for target in targets]):
        states |= _last_states(conn, batch)
    found = []
    for target in targets:
        last, snapshot = states[target.name]
        found.append(
            TargetSummary(
                name=target.name,
                condition=condition(last),
                stale=is_stale(last, target.due, now=now),
                snapshot=snapshot,
                incidents=by_name.get(target.name, {}),
            )
        )
    return sorted(found, key=lambda each: each.rank)


def open_incidents_by_target(conn: Connection) -> dict[str, Counter[Severity]]:
    """The number of open incidents, by target and severity; channels count as `channel:NAME`."""
    query = select(incidents.c.target, incidents.c.severity).where(text(INCIDENT_IS_OPEN))
    found: dict[str, Counter[Severity]] = {}
    for target, severity in conn.execute(query):
        found.setdefault(target, Counter())[Severity(severity)] += 1
    return found


def urgent_incident_ids(conn: Connection, *, limit: int) -> list[int]:
    """The open incidents that need attention first: the most severe, then the newest."""
    query = select(incidents.c.id, incidents.c.severity).where(text(INCIDENT_IS_OPEN))
    found = sorted((_SEVERITIES.index(Severity(severity)), -number) for number, severity in conn.execute(query))
    return [-number for _, number in found[:limit]]


def _last_states(conn: Connection, names: Sequence[str]) -> dict[str, tuple[LastRun | None, Snapshot | None]]:
    """The last closed run and the newest snapshot of each target: some look-ups each, however long the history is."""
    wanted = values(column("name", String), name="wanted").data([(name,) for name in names]).cte("wanted")
    chosen = conn.execute(
        select(
            wanted.c.name,
            newest_id(wanted.c.name, ENDED, correlate=wanted).label("ended"),
            newest_id(wanted.c.name, WITH_SNAPSHOT, correlate=wanted).label("counted"),
        )
    ).all()
    ended = _last_runs(conn, [row.ended for row in chosen if row.ended is not None])
    counted = _snapshots(conn, [row.counted for row in chosen if row.counted is not None])
    return {row.name: (ended.get(row.ended), counted.get(row.counted)) for row in chosen}


def _last_runs(conn: Connection, ids: Sequence[int]) -> dict[int, LastRun]:
    columns = [runs.c.id.label("run_id"), *(runs.c[each.name] for each in fields(LastRun)[1:])]
    found: dict[int, LastRun] = {}
    for batch in in_chunks(ids):
        for row in conn.execute(select(*columns).where(runs.c.id.in_(batch))).mappings():
            found[row["run_id"]] = LastRun(**{**row, "status": RunStatus(row["status"])})
    return found


def _snapshots(conn: Connection, ids: Sequence[int]) -> dict[int, Snapshot]:
    counts = [snapshots.c[each.name] for each in fields(Snapshot)]
    found: dict[int, Snapshot] = {}
    for batch in in_chunks(ids):
        query = select(snapshots.c.run_id, *counts).where(snapshots.c.run_id.in_(batch))
        found |= {row.pop("run_id"): Snapshot(**row) for row in map(dict, conn.execute(query).mappings())}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether anything is wrong now, in one sentence."""

    kind: str
    """good, warning, bad or unknown."""
    sentence: str


def verdict(
    targets: Sequence[TargetSummary], open_incidents: Mapping[Severity, int], undelivered: Sequence[Undelivered]
) -> Verdict:
    """The first line of a report; `open_incidents` are all of them, also those of channels."""
    if not targets:
        return Verdict(kind="unknown", sentence="No target is configured: add one to monitor.toml under [[targets]].")
    parts = _incident_parts(targets, open_incidents)
    parts += _target_parts(targets)
    lost = sum(each.dead + each.waiting for each in undelivered)
    if lost:
        parts.append(plural(lost, "message is not delivered", "messages are not delivered"))
    ran = [target for target in targets if target.condition is not Condition.NEVER_RAN]
    if parts:
        severe = open_incidents.get(Severity.CRITICAL, 0) > 0
        return Verdict(kind="bad" if severe else "warning", sentence=f"{'; '.join(parts)}.")
    if not ran:
        return Verdict(kind="unknown", sentence=f"No run yet of {plural(len(targets), 'target')}.")
    total = sum(target.snapshot.total for target in ran if target.snapshot)
    completed = sum(target.snapshot.completed for target in ran if target.snapshot)
    checked = plural(len(ran), "target")
    return Verdict(
        kind="good", sentence=f"Nothing is wrong. {checked} checked: {completed} of {plural(total, 'item')} completed."
    )


_NAMED = 3
"""Targets that the sentence names."""


def _incident_parts(targets: Sequence[TargetSummary], open_incidents: Mapping[Severity, int]) -> list[str]:
    total = sum(open_incidents.values())
    if not total:
        return []
    kinds = [f"{open_incidents[each]} {each.value}" for each in _SEVERITIES if open_incidents.get(each)]
    found = f"{plural(total, 'incident is open', 'incidents are open')}: {', '.join(kinds)}"
    names = [target.name for target in sorted(targets, key=lambda each: each.rank) if target.incidents]
    if not names or len(targets) == 1:
        return [found]
    if len(names) <= _NAMED:
        return [f"{found}, on {' and '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)}"]
    return [f"{found}, on {', '.join(names[:_NAMED])} and {plural(len(names) - _NAMED, 'more target')}"]


def _target_parts(targets: Sequence[TargetSummary]) -> list[str]:
    """What is wrong with the runs themselves."""
    stale = sum(target.stale for target in targets)
    ends = {
        Condition.FAILED: ("target could not read its sync log", "targets could not read their sync log"),
        Condition.CRASHED: ("target's last run crashed", "targets' last runs crashed"),
        Condition.ABORTED: ("target's last run stopped early", "targets' last runs stopped early"),
        Condition.PARTIAL: ("target's last run was cut short", "targets' last runs were cut short"),
    }
    found = [plural(stale, "target has no recent run", "targets have no recent run")] if stale else []
    for ending, (one, more) in ends.items():
        count = sum(target.condition is ending for target in targets)
        if count:
            found.append(plural(count, one, more))
    return found
