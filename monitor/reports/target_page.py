"""The view of the page of one target: its report, its runs page by page, and what only this page shows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, union_all

from monitor.config import Config
from monitor.database.tables import active, in_state, items, runs
from monitor.incidents import silence_store
from monitor.model import ItemState, LearnedLimits, RunStatus, Silence, Snapshot
from monitor.notifications.routing import matches
from monitor.reports.build import Detail, report_targets, target_overviews
from monitor.reports.formatting import plural, spans
from monitor.reports.html.marks import age
from monitor.reports.incident_views import listed_incidents
from monitor.reports.notification_queries import undelivered
from monitor.reports.overview import Overview, TargetOverview
from monitor.reports.run_endings import endings_by_span
from monitor.reports.triage import (
    INCIDENTS_SHOWN,
    Verdict,
    open_incidents_by_target,
    summary_of,
    urgent_incident_ids,
    verdict,
)
from monitor.runs import throttle_store
from monitor.runs.store import HISTORY, history_row

RUNS_PER_PAGE = 20
_SLOWED = 0.5
"""The share of a run's time from which on the rate limit is what makes it slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of a target, also one without results."""

    run_id: int
    status: RunStatus
    abort_reason: str | None
    error: str | None
    """Why it has no results."""
    started_at: datetime
    finished_at: datetime | None
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunList:
    """Some runs, newest first."""

    rows: tuple[RunRow, ...] = ()
    newer: int | None = None
    """Runs after this id exist that are newer; None: there are none."""
    older: int | None = None
    """Runs before this id exist that are older; None: there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPage:
    """Everything about one target."""

    overview: Overview
    """With this target only."""
    verdict: Verdict
    runs: RunList
    silences: tuple[Silence, ...] = ()
    """Active ones that may be about this target."""
    limits: LearnedLimits | None = None
    """What the client learned about the API; None: nothing, or this process has not run the target yet."""
    limits_note: str = ""
    """Whether the limits are what makes a run slow; empty without limits."""

    @property
    def target(self) -> TargetOverview:
        """The target."""
        return self.overview.targets[0]


def target_page(
    conn: Connection,
    config: Config,
    *,
    name: str,
    since: timedelta,
    now: datetime,
    before: int | None = None,
    after: int | None = None,
    throttle_key: str | None = None,
) -> TargetPage | None:
    """The page of a target; None if it is neither configured nor has any run.

    `before` and `after` are ids that bound the runs shown. `throttle_key` is the key of its learned limits.
    """
    found = target_runs(conn, target=name, before=before, after=after)
    if not found.rows and all(target.name != name for target in config.targets):
        return None
    bounds = tuple(spans(now - since, now))
    shown = target_overviews(conn, report_targets(config, name), bounds=bounds, now=now, detail=Detail.PAGE)
    by_severity = open_incidents_by_target(conn, target=name).get(name, Counter())
    silences = silence_store.active(conn, now=now)
    overview = with_details(
        conn,
        Overview(
            generated_at=now,
            environment=config.environment,
            bounds=bounds,
            targets=shown,
            incidents=tuple(
                listed_incidents(conn, urgent_incident_ids(conn, limit=INCIDENTS_SHOWN, target=name), silences)
            ),
            incident_count=by_severity.total(),
            silences=silences,
            undelivered=tuple(undelivered(conn, since=bounds[0], target=name)),
        ),
    )
    summary = replace(summary_of(overview.targets[0], ()), incidents=by_severity)
    limits = throttle_store.read(conn, key=throttle_key) if throttle_key else None
    return TargetPage(
        overview=overview,
        verdict=verdict([summary], by_severity, overview.undelivered),
        runs=found,
        silences=tuple(each for each in overview.silences if may_match(each, name)),
        limits=limits,
        limits_note=limits_note(limits, overview.targets[0], now=now) if limits else "",
    )


def with_details(conn: Connection, overview: Overview) -> Overview:
    """Adds what only pages show of each target: how the runs of each span ended, and the ages of stages."""
    return replace(overview, targets=tuple(_with_details(conn, each, overview.bounds) for each in overview.targets))


def _with_details(conn: Connection, target: TargetOverview, bounds: Sequence[datetime]) -> TargetOverview:
    facts = target.facts
    pending = any(each.state is ItemState.PENDING for each in facts.stages)
    return replace(
        target,
        facts=replace(
            facts,
            endings=endings_by_span(conn, target=facts.target, bounds=bounds),
            stage_ages=_stage_ages(conn, facts.target) if pending else {},
        ),
    )


def _stage_ages(conn: Connection, target: str) -> dict[str | None, datetime]:
    """Since when the oldest pending item of each stage is pending."""
    query = select(items.c.stage, func.min(items.c.pending_since)).where(
        items.c.target == target, in_state(ItemState.PENDING), *active()
    )
    return {stage: since for stage, since in conn.execute(query.group_by(items.c.stage)) if since is not None}


def may_match(silence: Silence, target: str) -> bool:
    """Whether a silence may withhold messages about a target: no matcher of its target or environment says no."""
    about = {name: patterns for name, patterns in silence.matchers.items() if name == "target"}
    return matches(about, {"target": target})


def target_runs(
    conn: Connection, *, target: str, before: int | None = None, after: int | None = None, limit: int = RUNS_PER_PAGE
) -> RunList:
    """The newest runs of a target before an id, or the oldest after one; without either the newest of all.

    Some look-ups per status, however long the history is.
    """
    upwards = after is not None
    bound = None if after is None else runs.c.id > after
    bound = runs.c.id < before if before is not None and not upwards else bound
    seeks = []
    for status in RunStatus:
        seek = select(runs.c.id).where(runs.c.target == target, runs.c.status == status.value)
        seek = seek if bound is None else seek.where(bound)
        seek = seek.order_by(runs.c.id.asc() if upwards else runs.c.id.desc()).limit(limit + 1)
        seeks.append(select(seek.subquery().c.id))
    every = union_all(*seeks).subquery()
    order = every.c.id.asc() if upwards else every.c.id.desc()
    ids = list(conn.scalars(select(every.c.id).order_by(order).limit(limit + 1)))
    beyond, ids = len(ids) > limit, sorted(ids[:limit], reverse=True)
    if not ids:
        return RunList()
    return RunList(
        rows=_run_rows(conn, ids),
        newer=ids[0] if (beyond if upwards else before is not None) else None,
        older=ids[-1] if (upwards or beyond) else None,
    )


def _run_rows(conn: Connection, ids: Sequence[int]) -> tuple[RunRow, ...]:
    history = select(HISTORY).where(HISTORY.c.run_id.in_(ids))
    counted = {row["run_id"]: history_row(row).snapshot for row in conn.execute(history).mappings()}
    columns = (runs.c.status, runs.c.abort_reason, runs.c.error, runs.c.started_at, runs.c.finished_at)
    query = select(runs.c.id.label("run_id"), *columns).where(runs.c.id.in_(ids)).order_by(runs.c.id.desc())
    return tuple(
        RunRow(**{**row, "status": RunStatus(row["status"])}, snapshot=counted.get(row["run_id"]))
        for row in conn.execute(query).mappings()
    )


def limits_note(limits: LearnedLimits, target: TargetOverview, *, now: datetime) -> str:
    """Whether the learned limits are what makes the last run slow."""
    if limits.not_before is not None and limits.not_before > now:
        said = f" with HTTP {limits.status}" if limits.status else ""
        return f"The API asked{said} for no request before {limits.not_before:%H:%M:%S} UTC."
    if limits.down:
        return "The circuit breaker is open: the next run begins with one request."
    row = target.facts.snapshot
    if limits.rate_per_s is None or row is None or not row.snapshot.requests:
        return "No limit makes a run slow."
    counts = row.snapshot
    least_s = counts.requests / limits.rate_per_s
    allowed = f"{limits.rate_per_s:.3g} requests per second"
    if counts.duration_s > 0 and least_s >= _SLOWED * counts.duration_s:
        return (
            f"The rate limit is what makes a run slow: at {allowed}, the {plural(counts.requests, 'request')} of the "
            f"last run need {age(timedelta(seconds=least_s))} of its {age(timedelta(seconds=counts.duration_s))}."
        )
    return f"At most {allowed}; that is not what makes a run slow."
