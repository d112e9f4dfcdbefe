"""The view of the page that lists the targets: what is wrong now, and the targets on one page of the list."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter

from sqlalchemy import Connection

from monitor.config import Config
from monitor.incidents import silence_store
from monitor.model import RunStatus, Severity, Snapshot
from monitor.reports.build import Detail, report_targets, target_overviews
from monitor.reports.fleet import fleet_trouble, fleet_view
from monitor.reports.formatting import spans
from monitor.reports.incident_views import listed_incidents
from monitor.reports.notification_queries import undelivered
from monitor.reports.overview import Overview, TargetOverview
from monitor.reports.triage import (
    INCIDENTS_SHOWN,
    TargetSummary,
    Verdict,
    open_incidents_by_target,
    ranked_targets,
    urgent_incident_ids,
    verdict,
)
from monitor.runs.store import HistoryRow

TARGETS_PER_PAGE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewPage:
    """One page of the list of targets, and the state of all."""

    verdict: Verdict
    workers_in_trouble: bool = False
    """Whether the verdict is about workers, too."""
    overview: Overview
    """Its targets are those of the page, in the order of their trouble; its incidents the most urgent ones."""
    summaries: tuple[TargetSummary, ...]
    """Of the targets of the page, in the same order."""
    target_count: int
    """All targets."""
    found_count: int
    """Those with the wanted name."""
    samples: tuple[HistoryRow | None, ...]
    """The sums over the targets of the page, per span."""


def overview_page(
    conn: Connection, config: Config, *, since: timedelta, now: datetime, number: int = 1, wanted: str = ""
) -> OverviewPage | None:
    """The page `number` (1 is the first) of the targets with `wanted` in their name; None if there are fewer."""
    targets = {target.name: target for target in report_targets(config, None)}
    ranked = ranked_targets(conn, list(targets.values()), now=now)
    found = [each for each in ranked if wanted.casefold() in each.name.casefold()]
    shown = found[(number - 1) * TARGETS_PER_PAGE : number * TARGETS_PER_PAGE]
    if not shown and number > 1:
        return None
    bounds = tuple(spans(now - since, now))
    overviews = target_overviews(
        conn, [targets[each.name] for each in shown], bounds=bounds, now=now, detail=Detail.LIST
    )
    by_severity = sum(open_incidents_by_target(conn).values(), Counter[Severity]())
    lost = tuple(undelivered(conn, since=bounds[0], target=None))
    silences = silence_store.active(conn, now=now)
    workers = fleet_view(conn, config.fleet)
    trouble = None if workers is None else fleet_trouble(workers)
    return OverviewPage(
        verdict=with_workers(verdict(ranked, by_severity, lost), trouble),
        workers_in_trouble=trouble is not None,
        overview=Overview(
            generated_at=now,
            environment=config.environment,
            bounds=bounds,
            targets=overviews,
            incidents=tuple(listed_incidents(conn, urgent_incident_ids(conn, limit=INCIDENTS_SHOWN), silences)),
            incident_count=by_severity.total(),
            silences=silences,
            undelivered=lost,
        ),
        summaries=tuple(shown),
        target_count=len(targets),
        found_count=len(found),
        samples=combined_samples(overviews, bounds),
    )


def with_workers(found: Verdict, trouble: Verdict | None) -> Verdict:
    """The first line of the page, with what is wrong with workers: it comes first, as nothing else is checked then."""
    if trouble is None or found.kind == "good":
        return trouble or found
    kind = "bad" if "bad" in {found.kind, trouble.kind} else "warning"
    return Verdict(kind=kind, sentence=f"{trouble.sentence} {found.sentence}")


_COUNTS = tuple(
    each.name for each in fields(Snapshot) if each.name not in {"latency_p50_ms", "latency_p95_ms", "duration_s"}
)
_counts_of = attrgetter(*_COUNTS)


def combined_samples(targets: Sequence[TargetOverview], bounds: Sequence[datetime]) -> tuple[HistoryRow | None, ...]:
    """The sum of the targets' counts at the end of each span; None before the first of any.

    A span in which a target stored no results counts its results of before. The status is `partial` if a run of the
    span was cut short.
    """
    known: dict[str, Snapshot] = {}
    found: list[HistoryRow | None] = []
    for n, at in enumerate(bounds[1:]):
        rows = [row for target in targets if (row := target.facts.samples[n]) is not None]
        known |= {row.target: row.snapshot for row in rows}
        cut_short = any(row.status is not RunStatus.COMPLETE for row in rows)
        found.append(_combined(list(known.values()), at, cut_short=cut_short) if rows else None)
    return tuple(found)


def _combined(counts: Sequence[Snapshot], at: datetime, *, cut_short: bool) -> HistoryRow:
    sums = dict(zip(_COUNTS, map(sum, zip(*map(_counts_of, counts), strict=True)), strict=True))
    return HistoryRow(
        run_id=0,
        target="",
        environment="",
        run_key=None,
        started_at=at,
        finished_at=at,
        status=RunStatus.PARTIAL if cut_short else RunStatus.COMPLETE,
        abort_reason=None,
        snapshot=Snapshot(**sums),
    )
