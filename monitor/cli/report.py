"""`report`: how the targets are, how they were, and what changed since the last report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from monitor.app import due_times, utcnow
from monitor.cli.session import can_print, duration, known_target, load, opened, print_json, print_lines
from monitor.config import Config
from monitor.config.targets import CheckConfig
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.model import RunStatus
from monitor.model.schedule import DueTimes
from monitor.reports import changes, trends
from monitor.reports import changes as reports
from monitor.reports import trends as breakdowns
from monitor.reports import trends as ingestion
from monitor.reports.changes import ELSEWHERE, Told
from monitor.reports.formatting import BLOCKS, spans
from monitor.reports.notification_queries import undelivered
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetFacts, target_overview
from monitor.reports.overview_json import overview_csv, overview_json
from monitor.reports.overview_text import overview_text
from monitor.runs.store import HistoryRow

_NAMED = 5
"""Items that are named, per target and list."""
_SAMPLES = 3
_GROUPS, _STAGES, _TURNS, _INCIDENTS = 15, 15, 10, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a report needs to know about a target besides its history."""

    name: str
    stuck_after: timedelta
    due: DueTimes | None
    """When its runs are due; None where nobody wrote that down."""


def watched(config: Config, name: str | None) -> list[Watched]:
    """The configured targets, or the one of that name, which may be one that is configured no longer."""
    found = []
    for target in config.targets:
        schedule = config.schedule_for(target)
        if name is None or name == target.name:
            due = due_times(schedule, target.name) if schedule.explicit else None
            found.append(Watched(name=target.name, stuck_after=target.check.stuck_after, due=due))
    if name is not None and not found:
        found.append(Watched(name=name, stuck_after=CheckConfig().stuck_after, due=None))
    return found


def gather(
    conn: Connection, config: Config, *, target: str | None, since: timedelta, now: datetime
) -> tuple[Overview, dict[str, Told]]:
    """The report on one target or all, and how far it tells of each, to be remembered once it was read.

    Args:
        conn: a read transaction.
        config: the targets and their schedules.
        target: only this one; None: all that are configured.
        since: how far the trend goes back, and what changed in the first report.
        now: aware.
    """
    desk = _Desk(conn=conn, now=now, bounds=tuple(spans(now - since, now)), event=changes.last_event(conn))
    names = [target.name for target in config.targets]
    found = [desk.facts(each) for each in watched(config, target)]
    told = {facts.target: desk.told(facts) for facts in found if facts.last_run is not None}
    if target is None and told:
        told[ELSEWHERE] = Told(made_at=now, last_run_id=0, last_incident_event_id=desk.event)
    overview = Overview(
        made_at=now,
        environment=config.environment,
        bounds=desk.bounds,
        targets=tuple(target_overview(facts, now=now) for facts in found),
        incidents=tuple(incidents.list_incidents(conn, target=target, open_only=True, limit=_INCIDENTS)),
        silences=silences.active(conn, now=now),
        elsewhere=desk.elsewhere(names) if target is None else IncidentChanges(),
        undelivered=tuple(undelivered(conn, since=desk.bounds[0], target=target)),
    )
    return overview, told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """One report in the making."""

    conn: Connection
    now: datetime
    bounds: tuple[datetime, ...]
    event: int
    """The newest event of any incident: so far this report tells."""

    def facts(self, target: Watched) -> TargetFacts:
        """What is stored about a target."""
        conn, name = self.conn, target.name
        last, row = trends.last_run(conn, target=name), trends.newest_snapshot(conn, target=name)
        unread = last is not None and last.status is RunStatus.UNREAD
        facts = TargetFacts(
            target=name,
            due=target.due,
            last_run=last,
            under_way_since=trends.under_way_since(conn, target=name),
            unread_since=trends.unread_since(conn, target=name) if unread else None,
            snapshot=row,
            marks=tuple(trends.samples(conn, target=name, bounds=self.bounds)),
            changes=self._changes(target, row),
        )
        return facts if row is None else self._broken_down(facts, row, target.stuck_after)

    def _broken_down(self, facts: TargetFacts, row: HistoryRow, stuck_after: timedelta) -> TargetFacts:
        """The facts with where the items sit, as of the newest snapshot."""
        conn, name, as_of = self.conn, facts.target, row.finished_at
        group_count, groups = breakdowns.by_group(
            conn, target=name, as_of=as_of, stuck_after=stuck_after, limit=_GROUPS
        )
        stage_count, stages = breakdowns.by_stage(conn, target=name, limit=_STAGES)
        stuck = breakdowns.longest_stuck(conn, target=name, as_of=as_of, stuck_after=stuck_after, limit=_NAMED)
        times = ingestion.ingestion_times(conn, target=name, start=self.bounds[0], end=self.now, slowest=_NAMED)
        return replace(
            facts,
            group_count=group_count,
            groups=tuple(groups),
            stage_count=stage_count,
            stages=tuple(stages),
            stuck=tuple(stuck),
            ingestion=times,
        )

    def _changes(self, target: Watched, row: HistoryRow | None) -> Changes:
        """What changed since the last report, or since the period began."""
        conn, name, before = self.conn, target.name, reports.last_told(self.conn, target=target.name)
        after = before.last_run_id if before else changes.run_before(conn, target=name, at=self.bounds[0])
        found = Changes(
            since=before.made_at if before else self.bounds[0],
            first_report=before is None,
            after_run_id=after,
            runs=changes.runs_made(conn, target=name, after=after),
            incidents=self._incidents(before, of=name),
        )
        made = found.runs
        if made is None or row is None:
            return found
        stuck_from = changes.counted_at(conn, target=name, upto=after) or self.bounds[0]
        return replace(
            found,
            items=tuple(changes.items_changed(conn, target=name, after=after, upto=made.last_run_id, samples=_SAMPLES)),
            new=changes.items_new(conn, target=name, start=made.first_started_at, end=made.last_finished_at),
            stuck=changes.become_stuck(
                conn, target=name, after=stuck_from, upto=row.finished_at, stuck_after=target.stuck_after
            ),
        )

    def elsewhere(self, names: Sequence[str]) -> IncidentChanges:
        """Changes of incidents that belong to none of these targets."""
        return self._incidents(reports.last_told(self.conn, target=ELSEWHERE), not_of=names)

    def _incidents(self, before: Told | None, *, of: str | None = None, not_of: Sequence[str] = ()) -> IncidentChanges:
        total, newest = changes.incident_changes(
            self.conn,
            of=of,
            not_of=not_of,
            after=before.last_incident_event_id if before else 0,
            since=None if before else self.bounds[0],
            limit=_TURNS,
        )
        return IncidentChanges(total=total, newest=tuple(newest))

    def told(self, facts: TargetFacts) -> Told:
        """How far this report tells of a target."""
        made = facts.changes.runs
        last = made.last_run_id if made else facts.changes.after_run_id
        return Told(made_at=self.now, last_run_id=last, last_incident_event_id=self.event)


SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=3653)
FORMATS = ("text", "json", "csv")


def report(path: Path | None, target: str | None, since: str, form: str, *, peek: bool) -> None:
    """Prints the report; then, unless it was a peek or has no changes in it (CSV), remembers how far it told.

    Raises:
        ConfigError: an option is wrong, or there is no such target.
        StoreError: the database can't be used.
    """
    period = duration("--since", since, shortest=SHORTEST, longest=LONGEST, such_as='"24h", "7d" or "90d"')
    if form not in FORMATS:
        raise ConfigError([f"--format: {form!a} is none of {', '.join(FORMATS)}"])
    with opened(load(path)) as app:
        known_target(app, target)
        with reading(app.engine) as conn:
            overview, told = gather(conn, app.config, target=target, since=period, now=utcnow())
        _print(overview, form)
        if peek or form == "csv":
            return
        with writing(app.engine) as conn:
            for name, how_far in told.items():
                reports.remember(conn, target=name, told=how_far)


def _print(overview: Overview, form: str) -> None:
    match form:
        case "json":
            print_json(overview_json(overview))
        case "csv":
            print_lines(overview_csv(overview).removesuffix("\n"))
        case _:
            print_lines(overview_text(overview, ascii_only=not can_print(BLOCKS)))
