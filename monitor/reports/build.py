"""Builds a report from the database, and the cursor up to which each target was reported. It prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, select, text

from monitor.config import Config
from monitor.config.slos import objectives_of
from monitor.config.targets import CheckConfig
from monitor.database.tables import INCIDENT_IS_OPEN, incidents
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.slo import Objective
from monitor.model.schedule import DueTimes
from monitor.reports import changes, trends
from monitor.reports.changes import NO_TARGET, ReportCursor
from monitor.reports.formatting import spans
from monitor.reports.indexing import indexing_reports
from monitor.reports.notification_queries import undelivered
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetFacts, TargetOverview, target_overview
from monitor.reports.slos import read_all_slos
from monitor.reports.trends import Breakdown, NewestRuns
from monitor.runs import worklist
from monitor.runs.canary import store as canary_store
from monitor.waits import store as wait_store

MIN_SINCE, MAX_SINCE = timedelta(hours=1), timedelta(days=3653)
"""How far back the trend of a report may go."""
_MAX_ITEMS = 5
"""Items that are named, per target and list."""
_MAX_SAMPLES = 3
_MAX_GROUPS, _MAX_STAGES, _MAX_CHANGES, _MAX_INCIDENTS = 15, 15, 10, 1000
_EMPTY = TargetFacts(
    target="", due=None, last_run=None, running_since=None, unreadable_since=None, snapshot=None, samples=(),
    changes=Changes(since=datetime.min.replace(tzinfo=UTC), first_report=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTarget:
    """A target as far as a report needs it, besides its history."""

    name: str
    stuck_after: timedelta
    due: DueTimes | None
    """When its runs are due; None without an explicit schedule."""
    objectives: tuple[Objective, ...] = ()


def report_targets(config: Config, name: str | None) -> list[ReportTarget]:
    """The configured targets, or only the one of that name, which may be configured no longer."""
    found = []
    for target in config.targets:
        schedule = config.schedule_for(target)
        if name is None or name == target.name:
            due = schedule.due_times(target.name) if schedule.explicit else None
            found.append(
                ReportTarget(
                    name=target.name,
                    stuck_after=target.check.stuck_after,
                    due=due,
                    objectives=objectives_of(config.slos, target.name),
                )
            )
    if name is not None and not found:
        found.append(ReportTarget(name=name, stuck_after=CheckConfig().stuck_after, due=None))
    return found


def build_report(
    conn: Connection, config: Config, *, target: str | None, part: slice | None = None, since: timedelta, now: datetime
) -> tuple[Overview, dict[str, ReportCursor]]:
    """The report on one target or all (None), and the cursors to store once it was printed.

    `since` is how far the trend goes back, and in a first report the changes. `part`: of the targets only these, by
    their place in the configuration.
    """
    builder = _ReportBuilder(
        conn=conn,
        now=now,
        bounds=tuple(spans(now - since, now)),
        event=changes.last_event(conn),
        targets=report_targets(config, target)[part or slice(None)],
    )
    names = [each.name for each in config.targets]
    found = builder.facts()
    cursor = {
        target_facts.target: builder.cursor(target_facts) for target_facts in found if target_facts.last_run is not None
    }
    if target is None and cursor:
        cursor[NO_TARGET] = ReportCursor(generated_at=now, last_run_id=0, last_incident_event_id=builder.event)
    about = None if target is None and part is None else [each.name for each in builder.targets]
    open_ids = _open_incidents(conn, about)
    overview = Overview(
        generated_at=now,
        environment=config.environment,
        bounds=builder.bounds,
        targets=tuple(target_overview(target_facts, now=now) for target_facts in found),
        incidents=tuple(incident_store.load_incidents(conn, open_ids[:_MAX_INCIDENTS])),
        incident_count=len(open_ids),
        silences=silence_store.active(conn, now=now),
        other_incidents=builder.other_incidents(names) if target is None else IncidentChanges(),
        undelivered=tuple(undelivered(conn, since=builder.bounds[0], target=target)),
        history_since=trends.first_run_at(conn, target=target),
    )
    return overview, cursor


def _open_incidents(conn: Connection, targets: Sequence[str] | None) -> Sequence[int]:
    """The ids of the open incidents of these targets, or of all targets and channels (None), newest first."""
    query = select(incidents.c.id).where(text(INCIDENT_IS_OPEN)).order_by(incidents.c.id.desc())
    return conn.scalars(query if targets is None else query.where(incidents.c.target.in_(targets))).all()


class Detail(IntEnum):
    """How much of a target is read."""

    LIST = 1
    """What a list of many shows: neither breakdowns, nor waits, nor canaries, nor changes."""
    PAGE = 2
    """All but changes."""
    REPORT = 3


def target_overviews(
    conn: Connection, targets: Sequence[ReportTarget], *, bounds: Sequence[datetime], now: datetime, detail: Detail
) -> tuple[TargetOverview, ...]:
    """These targets, without the rest of a report."""
    builder = _ReportBuilder(conn=conn, now=now, bounds=tuple(bounds), targets=targets, detail=detail)
    return tuple(target_overview(facts, now=now) for facts in builder.facts())


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReportBuilder:
    """The queries of one report. Each is about all targets: their number does not depend on how many these are."""

    conn: Connection
    now: datetime
    bounds: tuple[datetime, ...]
    targets: Sequence[ReportTarget]
    event: int = 0
    """The newest event of any incident: the report covers events up to it."""
    detail: Detail = Detail.REPORT

    def facts(self) -> list[TargetFacts]:
        """What is stored about the targets."""
        if not self.targets:
            return []
        conn, names = self.conn, [target.name for target in self.targets]
        newest = trends.newest_runs(conn, targets=names)
        samples = trends.samples(conn, targets=names, bounds=self.bounds)
        slos = read_all_slos(conn, objectives={target.name: target.objectives for target in self.targets})
        known = [
            replace(
                _EMPTY,
                target=target.name,
                due=target.due,
                last_run=newest[target.name].last,
                running_since=newest[target.name].running_since,
                unreadable_since=newest[target.name].unreadable_since,
                snapshot=newest[target.name].snapshot,
                samples=tuple(samples[target.name]),
                slos=tuple(slos[target.name]),
            )
            for target in self.targets
        ]
        return known if self.detail is Detail.LIST else self._with_details(known, newest)

    def _with_details(self, known: Sequence[TargetFacts], newest: Mapping[str, NewestRuns]) -> list[TargetFacts]:
        """Adds what a list of many targets does not show."""
        conn, names = self.conn, [facts.target for facts in known]
        canaries = canary_store.summaries(conn, targets=names, since=self.bounds[0], until=self.now)
        waits = wait_store.summaries(conn, targets=names, since=self.bounds[0])
        changed = self._changes(newest) if self.detail is Detail.REPORT else {}
        breakdowns = self._breakdowns(newest)
        return [
            replace(
                facts,
                canaries=canaries.get(facts.target),
                waits=waits.get(facts.target),
                changes=changed.get(facts.target, facts.changes),
                **breakdowns.get(facts.target, {}),
            )
            for facts in known
        ]

    def _breakdowns(self, newest: Mapping[str, NewestRuns]) -> dict[str, dict[str, Any]]:
        """Groups, stages, stuck items and times to indexed, as of the newest snapshot, of targets that have one."""
        conn, counted = self.conn, {name: runs.snapshot for name, runs in newest.items() if runs.snapshot is not None}
        if not counted:
            return {}
        names = list(counted)
        stuck_before = {
            target.name: counted[target.name].finished_at - target.stuck_after
            for target in self.targets
            if target.name in counted
        }
        broken_down = trends.breakdowns(conn, stuck_before=stuck_before, max_groups=_MAX_GROUPS, max_stages=_MAX_STAGES)
        reasons = trends.reasons_of_failures(conn, targets=names, limit=_MAX_STAGES)
        stuck = trends.stuck_items(conn, stuck_before=stuck_before, limit=_MAX_ITEMS)
        with_unknown = [name for name, row in counted.items() if row.snapshot.unknown]
        last_known = worklist.count_all_last_known(conn, targets=with_unknown) if with_unknown else {}
        indexing = indexing_reports(conn, targets=names, bounds=self.bounds, limit=_MAX_GROUPS)
        found = {}
        for name in names:
            parts = broken_down.get(name, Breakdown())
            reason_count, of_reasons = reasons.get(name, (0, []))
            found[name] = {
                "last_known": last_known.get(name, {}),
                "group_count": parts.group_count,
                "groups": tuple(parts.groups),
                "stage_count": parts.stage_count,
                "stages": tuple(parts.stages),
                "reason_count": reason_count,
                "reasons": tuple(of_reasons),
                "stuck": tuple(stuck.get(name, ())),
                "indexing": indexing.get(name),
            }
        return found

    def _changes(self, newest: Mapping[str, NewestRuns]) -> dict[str, Changes]:
        """What changed since the last report, or since the period began."""
        conn, names = self.conn, [target.name for target in self.targets]
        before = changes.last_cursors(conn, targets=names)
        first = [name for name in names if name not in before]
        after = changes.runs_before(conn, targets=first, at=self.bounds[0]) if first else {}
        after |= {name: cursor.last_run_id for name, cursor in before.items()}
        started = changes.started_at(conn, run_ids=[cursor.last_run_id for cursor in before.values()])
        # a first report covers the period
        began = {name: started.get(run_id, self.bounds[0]) for name, run_id in after.items() if name in before}
        began |= dict.fromkeys(first, self.bounds[0])
        made = changes.count_runs_since(conn, began={name: (after[name], began[name]) for name in names}, now=self.now)
        incidents = changes.incident_changes_by_target(
            conn,
            reported={
                name: (before[name].last_incident_event_id, None) if name in before else (0, self.bounds[0])
                for name in names
            },
            limit=_MAX_CHANGES,
        )
        found = {}
        for name in names:
            total, listed = incidents[name]
            found[name] = Changes(
                since=before[name].generated_at if name in before else self.bounds[0],
                first_report=name not in before,
                after_run_id=after[name],
                runs=made.get(name),
                incidents=IncidentChanges(total=total, newest=tuple(listed)),
            )
        return found | self._changed_items(found, newest)

    def _changed_items(self, found: Mapping[str, Changes], newest: Mapping[str, NewestRuns]) -> dict[str, Changes]:
        """Adds the items that changed in the new runs."""
        conn = self.conn
        asked = [
            (target, new_runs, row)
            for target in self.targets
            if (new_runs := found[target.name].runs) is not None and (row := newest[target.name].snapshot) is not None
        ]
        if not asked:
            return {}
        after = {target.name: found[target.name].after_run_id for target, _, _ in asked}
        between = {target.name: (after[target.name], new_runs.last_run_id) for target, new_runs, _ in asked}
        items = changes.count_item_changes(conn, between=between, samples=_MAX_SAMPLES)
        seen = {target.name: (runs.first_started_at, runs.last_finished_at) for target, runs, _ in asked}
        new = changes.count_new_items(conn, seen=seen)
        last_at = changes.last_snapshots_at(conn, upto=after)
        ran_out = {
            target.name: (
                last_at.get(target.name, self.bounds[0]) - target.stuck_after, row.finished_at - target.stuck_after
            )
            for target, _, row in asked
        }  # fmt: skip
        stuck = changes.count_newly_stuck(conn, ran_out=ran_out)
        return {
            name: replace(found[name], items=tuple(items.get(name, ())), new=new[name], stuck=stuck[name])
            for name in after
        }

    def other_incidents(self, names: Sequence[str]) -> IncidentChanges:
        """Changes of incidents that belong to none of these targets."""
        before = changes.last_cursors(self.conn, targets=[NO_TARGET]).get(NO_TARGET)
        total, newest = changes.incident_changes(
            self.conn,
            not_of=names,
            after=before.last_incident_event_id if before else 0,
            since=None if before else self.bounds[0],
            limit=_MAX_CHANGES,
        )
        return IncidentChanges(total=total, newest=tuple(newest))

    def cursor(self, target_facts: TargetFacts) -> ReportCursor:
        """Up to where this report covers a target."""
        new_runs = target_facts.changes.runs
        last = new_runs.last_run_id if new_runs else target_facts.changes.after_run_id
        return ReportCursor(generated_at=self.now, last_run_id=last, last_incident_event_id=self.event)
