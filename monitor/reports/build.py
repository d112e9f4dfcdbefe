"""Builds a report from the database, and the cursor up to which each target was reported. It prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitor.config import Config
from monitor.config.slos import objectives_of
from monitor.config.targets import CheckConfig
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.slo import Objective
from monitor.model import RunStatus
from monitor.model.schedule import DueTimes
from monitor.reports import changes, trends
from monitor.reports.changes import NO_TARGET, ReportCursor
from monitor.reports.formatting import spans
from monitor.reports.indexing import indexing_report
from monitor.reports.notification_queries import undelivered
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetFacts, TargetOverview, target_overview
from monitor.reports.slos import read_slos
from monitor.runs import worklist
from monitor.runs.canary import store as canary_store
from monitor.runs.store import HistoryRow
from monitor.waits import store as wait_store

_MAX_ITEMS = 5
"""Items that are named, per target and list."""
_MAX_SAMPLES = 3
_MAX_GROUPS, _MAX_STAGES, _MAX_CHANGES, _MAX_INCIDENTS = 15, 15, 10, 1000


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
    conn: Connection, config: Config, *, target: str | None, since: timedelta, now: datetime
) -> tuple[Overview, dict[str, ReportCursor]]:
    """The report on one target or all (None), and the cursors to store once it was printed.

    `since` is how far the trend goes back, and in a first report the changes.
    """
    builder = _ReportBuilder(conn=conn, now=now, bounds=tuple(spans(now - since, now)), event=changes.last_event(conn))
    names = [target.name for target in config.targets]
    found = [builder.target_facts(each) for each in report_targets(config, target)]
    cursor = {
        target_facts.target: builder.cursor(target_facts) for target_facts in found if target_facts.last_run is not None
    }
    if target is None and cursor:
        cursor[NO_TARGET] = ReportCursor(generated_at=now, last_run_id=0, last_incident_event_id=builder.event)
    overview = Overview(
        generated_at=now,
        environment=config.environment,
        bounds=builder.bounds,
        targets=tuple(target_overview(target_facts, now=now) for target_facts in found),
        incidents=tuple(incident_store.list_incidents(conn, target=target, open_only=True, limit=_MAX_INCIDENTS)),
        incident_count=incident_store.count_incidents(conn, target=target, open_only=True),
        silences=silence_store.active(conn, now=now),
        other_incidents=builder.other_incidents(names) if target is None else IncidentChanges(),
        undelivered=tuple(undelivered(conn, since=builder.bounds[0], target=target)),
    )
    return overview, cursor


def brief_overviews(
    conn: Connection, targets: Sequence[ReportTarget], *, bounds: Sequence[datetime], now: datetime
) -> tuple[TargetOverview, ...]:
    """These targets without breakdowns, waits, canaries and changes: for a list of many."""
    builder = _ReportBuilder(conn=conn, now=now, bounds=tuple(bounds), brief=True)
    return tuple(target_overview(builder.target_facts(each), now=now) for each in targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReportBuilder:
    """The queries of one report."""

    conn: Connection
    now: datetime
    bounds: tuple[datetime, ...]
    event: int = 0
    """The newest event of any incident: the report covers events up to it."""
    brief: bool = False
    """Whether to leave out what only a report on one target shows: breakdowns, waits, canaries and changes."""

    def target_facts(self, target: ReportTarget) -> TargetFacts:
        """What is stored about a target."""
        conn, name = self.conn, target.name
        last, row = trends.last_run(conn, target=name), trends.newest_snapshot(conn, target=name)
        failed = last is not None and last.status is RunStatus.FAILED
        target_facts = TargetFacts(
            target=name,
            due=target.due,
            last_run=last,
            running_since=trends.running_since(conn, target=name),
            unreadable_since=trends.unreadable_since(conn, target=name) if failed else None,
            snapshot=row,
            samples=tuple(trends.snapshot_samples(conn, target=name, bounds=self.bounds)),
            slos=tuple(read_slos(conn, target=name, objectives=target.objectives)),
            changes=Changes(since=self.bounds[0], first_report=True) if self.brief else self._changes(target, row),
        )
        if self.brief:
            return target_facts
        target_facts = replace(
            target_facts,
            canaries=canary_store.summarize(conn, target=name, since=self.bounds[0], until=self.now),
            waits=wait_store.summarise(conn, target=name, since=self.bounds[0]),
        )
        return target_facts if row is None else self._with_breakdowns(target_facts, row, target.stuck_after)

    def _with_breakdowns(self, target_facts: TargetFacts, row: HistoryRow, stuck_after: timedelta) -> TargetFacts:
        """Adds groups, stages, stuck items and times to indexed, as of the newest snapshot."""
        conn, name, as_of = self.conn, target_facts.target, row.finished_at
        group_count, groups = trends.by_group(
            conn, target=name, as_of=as_of, stuck_after=stuck_after, limit=_MAX_GROUPS
        )
        stage_count, stages = trends.by_stage(conn, target=name, limit=_MAX_STAGES)
        reason_count, reasons = trends.failure_reasons(conn, target=name, limit=_MAX_STAGES)
        stuck = trends.longest_stuck(conn, target=name, as_of=as_of, stuck_after=stuck_after, limit=_MAX_ITEMS)
        return replace(
            target_facts,
            last_known=worklist.count_last_known(conn, target=name) if row.snapshot.unknown else {},
            group_count=group_count,
            groups=tuple(groups),
            stage_count=stage_count,
            stages=tuple(stages),
            reason_count=reason_count,
            reasons=tuple(reasons),
            stuck=tuple(stuck),
            indexing=indexing_report(conn, target=name, bounds=self.bounds, limit=_MAX_GROUPS),
        )

    def _changes(self, target: ReportTarget, row: HistoryRow | None) -> Changes:
        """What changed since the last report, or since the period began."""
        conn, name, before = self.conn, target.name, changes.last_cursor(self.conn, target=target.name)
        after = before.last_run_id if before else changes.run_before(conn, target=name, at=self.bounds[0])
        # a first report covers the period
        began = (changes.started_at(conn, run_id=after) if before else None) or self.bounds[0]
        found = Changes(
            since=before.generated_at if before else self.bounds[0],
            first_report=before is None,
            after_run_id=after,
            runs=changes.count_runs_since(conn, target=name, after=after, since=began, now=self.now),
            incidents=self._incidents(before, of=name),
        )
        new_runs = found.runs
        if new_runs is None or row is None:
            return found
        stuck_since = changes.last_snapshot_at(conn, target=name, upto=after) or self.bounds[0]
        return replace(
            found,
            items=tuple(
                changes.count_item_changes(
                    conn, target=name, after=after, upto=new_runs.last_run_id, samples=_MAX_SAMPLES
                )
            ),
            new=changes.count_new_items(
                conn, target=name, start=new_runs.first_started_at, end=new_runs.last_finished_at
            ),
            stuck=changes.count_newly_stuck(
                conn, target=name, after=stuck_since, upto=row.finished_at, stuck_after=target.stuck_after
            ),
        )

    def other_incidents(self, names: Sequence[str]) -> IncidentChanges:
        """Changes of incidents that belong to none of these targets."""
        return self._incidents(changes.last_cursor(self.conn, target=NO_TARGET), not_of=names)

    def _incidents(
        self, before: ReportCursor | None, *, of: str | None = None, not_of: Sequence[str] = ()
    ) -> IncidentChanges:
        total, newest = changes.incident_changes(
            self.conn,
            of=of,
            not_of=not_of,
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
