"""What is wrong now, and which targets need attention first: one cheap query over all targets, then pure rules."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Select, select, text

from monitor.database.lookups import ENDED, WITH_SNAPSHOT
from monitor.database.tables import INCIDENT_IS_OPEN, UtcDateTime, incidents
from monitor.incidents.slo import SloStatus
from monitor.model import PROBLEM_STATES, Incident, RunStatus, Severity, Snapshot
from monitor.reports.build import ReportTarget
from monitor.reports.formatting import plural
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview import Condition, TargetOverview, condition, is_stale
from monitor.reports.slos import SloRow
from monitor.reports.trends import LastRun

_SEVERITIES = tuple(reversed(Severity))
"""The most urgent first."""
INCIDENTS_SHOWN = 8
"""Open incidents that a page names; the list of incidents has all."""
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
    total: int = 0
    """Items, as of the newest snapshot."""
    completed: int = 0
    problems: int = 0
    """Items that somebody must look at."""
    incidents: Mapping[Severity, int] = field(default_factory=dict)
    """Open ones."""

    @property
    def rank(self) -> tuple[int, int, int, float, str]:
        """Sorts targets: the most urgent incident, then stale, the last run, the share of problems, and the name."""
        severity = next((n for n, each in enumerate(_SEVERITIES) if self.incidents.get(each)), len(_SEVERITIES))
        share = self.problems / self.total if self.total else 0.0
        return severity, int(not self.stale), _CONDITIONS.index(self.condition), -share, self.name


def summary_of(target: TargetOverview, open_incidents: Sequence[Incident]) -> TargetSummary:
    """The summary of a target of a report, with the open incidents of the report."""
    row, name = target.facts.snapshot, target.facts.target
    counts = Snapshot() if row is None else row.snapshot
    return TargetSummary(
        name=name,
        condition=target.condition,
        stale=target.stale,
        total=counts.total,
        completed=counts.completed,
        problems=sum(counts.count(state) for state in PROBLEM_STATES) + counts.stuck,
        incidents=Counter(each.severity for each in open_incidents if each.target == name),
    )


def ranked_targets(conn: Connection, targets: Sequence[ReportTarget], *, now: datetime) -> list[TargetSummary]:
    """The summaries of targets, those that need attention first."""
    by_name = open_incidents_by_target(conn)
    due = {target.name: target.due for target in targets}
    found = []
    for row in _last_runs(conn, list(due)):
        last, name = _last_run(row), row["name"]
        found.append(
            TargetSummary(
                name=name,
                condition=condition(last),
                stale=is_stale(last, due[name], now=now),
                total=row["total"] or 0,
                completed=row["completed"] or 0,
                problems=row["problems"] or 0,
                incidents=by_name.get(name, {}),
            )
        )
    return sorted(found, key=lambda each: each.rank)


def open_incidents_by_target(conn: Connection, *, target: str | None = None) -> dict[str, Counter[Severity]]:
    """The number of open incidents, by target (or of one) and severity; channels count as `channel:NAME`."""
    query = _open_incidents(incidents.c.target, incidents.c.severity, target=target)
    found: dict[str, Counter[Severity]] = {}
    for name, severity in conn.execute(query):
        found.setdefault(name, Counter())[Severity(severity)] += 1
    return found


def urgent_incident_ids(conn: Connection, *, limit: int, target: str | None = None) -> list[int]:
    """The open incidents, or those of a target, that need attention first: the most severe, then the newest."""
    query = _open_incidents(incidents.c.id, incidents.c.severity, target=target)
    found = sorted((_SEVERITIES.index(Severity(severity)), -number) for number, severity in conn.execute(query))
    return [-number for _, number in found[:limit]]


def _open_incidents(*columns: Column[Any], target: str | None) -> Select[Any]:
    query = select(*columns).where(text(INCIDENT_IS_OPEN))
    return query if target is None else query.where(incidents.c.target == target)


def known_objectives(targets: Iterable[TargetOverview]) -> list[SloRow]:
    """The objectives of targets of which anything is known: those that burn first, then those spent, then the rest."""
    known = [
        (row, row.status)
        for target in targets
        for row in target.facts.slos
        if row.status is not None and row.status.share is not None
    ]
    return [row for row, _ in sorted(known, key=lambda each: _urgency(each[1]))]


def _urgency(status: SloStatus) -> tuple[int, float]:
    severity = status.severity
    return len(_SEVERITIES) if severity is None else _SEVERITIES.index(severity), status.budget_left


def _newest_of(statuses: Iterable[RunStatus]) -> str:
    """A subquery for the id of the newest run with one of these statuses: one look-up for each."""
    seeks = " UNION ALL ".join(
        f"SELECT max(id) AS id FROM runs WHERE target = wanted.name AND status = '{status.value}'"  # noqa: S608  # our own names
        for status in statuses
    )
    return f"(SELECT max(id) FROM ({seeks}) AS newest)"  # noqa: S608  # the same


_PROBLEMS = " + ".join((*(state.value for state in PROBLEM_STATES), "stuck"))
_LAST_RUNS = (
    "WITH wanted(name) AS ({}), "  # noqa: S608  # our own names
    f"chosen AS (SELECT name, {_newest_of(ENDED)} AS ended, {_newest_of(WITH_SNAPSHOT)} AS counted FROM wanted) "
    "SELECT name, id AS run_id, status, abort_reason, error, started_at, finished_at, "
    f"total, completed, {_PROBLEMS} AS problems FROM chosen "
    "LEFT JOIN runs ON runs.id = ended LEFT JOIN snapshots ON snapshots.run_id = counted"
)
_QUERIES = {
    dialect: text(_LAST_RUNS.format(names)).columns(started_at=UtcDateTime, finished_at=UtcDateTime)
    for dialect, names in (
        ("sqlite", "SELECT value FROM json_each(:names)"),
        ("postgresql", "SELECT unnest(CAST(:names AS text[]))"),
    )
}
"""As text, and with all names as one parameter: else it would be put together anew for each list of targets."""


def _last_runs(conn: Connection, names: Sequence[str]) -> Sequence[RowMapping]:
    """The last closed run of each target, and the counts of its newest snapshot, however long the history is."""
    parameter = json.dumps(names) if conn.dialect.name == "sqlite" else names
    return conn.execute(_QUERIES[conn.dialect.name], {"names": parameter}).mappings().all()


def _last_run(row: RowMapping) -> LastRun | None:
    if row["run_id"] is None:
        return None
    columns = {each.name: row[each.name] for each in fields(LastRun)}
    return LastRun(**{**columns, "status": RunStatus(row["status"])})


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
    total, completed = sum(target.total for target in ran), sum(target.completed for target in ran)
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
    if len(kinds) == 1:
        found = f"{kinds[0]} {'incident is' if total == 1 else 'incidents are'} open"
    else:
        found = f"{total} incidents are open: {', '.join(kinds)}"
    names = [target.name for target in sorted(targets, key=lambda each: each.rank) if target.incidents]
    if not names or len(targets) == 1:
        return [found]
    places = names[:_NAMED]
    if more := names[_NAMED:]:
        places.append(plural(len(more), "more target"))
    if total > sum(sum(target.incidents.values()) for target in targets):
        places.append("elsewhere")  # on a channel, or on a target that is no longer configured
    return [f"{found}, on {' and '.join([', '.join(places[:-1]), places[-1]] if places[1:] else places)}"]


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
