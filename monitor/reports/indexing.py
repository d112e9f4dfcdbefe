"""How long uploads took to be indexed, for a report: in all, by group and span, and the slowest ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from monitor.reports.formatting import cut_list, json_values
from monitor.rollups.indexing_queries import TimesToIndexed, add_up, times_of_period
from monitor.rollups.slowest import NAMED, IndexedUpload, slowest

QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTimes:
    """The uploads of one group."""

    name: str | None
    """None: uploads without a group."""
    times: TimesToIndexed


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingReport:
    """The uploads of a period, by the time of their upload."""

    times: TimesToIndexed
    group_count: int = 0
    groups: tuple[GroupTimes, ...] = ()
    """Those with the greatest p95 first."""
    slowest: tuple[IndexedUpload, ...] = ()
    spans: tuple[TimesToIndexed, ...] = ()
    """Of each span of the period, oldest first: only completed uploads."""


def indexing_reports(
    conn: Connection, *, targets: Sequence[str], bounds: Sequence[datetime], limit: int
) -> dict[str, IndexingReport]:
    """By target, the uploads from the first to the last of `bounds`, with `limit` (> 0) groups.

    Targets without uploads are left out.
    """
    found: dict[str, IndexingReport] = {}
    named = slowest(conn, targets=targets, since=bounds[0], until=bounds[-1], limit=NAMED)
    for target, period in times_of_period(conn, targets=targets, bounds=bounds).items():
        groups = [GroupTimes(name=name or None, times=times) for name, times in period.groups.items() if times.uploads]
        if groups:
            groups.sort(key=_by_p95)
            found[target] = IndexingReport(
                times=add_up(group.times for group in groups),
                group_count=len(groups),
                groups=tuple(groups[:limit]),
                slowest=tuple(named[target]),
                spans=period.spans,
            )
    return found


def _by_p95(group: GroupTimes) -> tuple[float, int, str]:
    return -(group.times.quantile_s(0.95) or 0), -group.times.uploads, group.name or ""


def indexing_json(report: IndexingReport | None) -> dict[str, Any] | None:
    """The report as JSON values; docs/time-to-indexed.md describes the keys."""
    if report is None:
        return None
    groups = [{"group": group.name, **times_json(group.times)} for group in report.groups]
    return {
        **times_json(report.times),
        "groups": cut_list("groups", groups, total=report.group_count),
        "slowest": json_values(report.slowest),
    }


def times_json(times: TimesToIndexed) -> dict[str, Any]:
    """The counts and quantiles of some uploads."""
    return {
        "uploads": times.uploads,
        "indexed": times.indexed,
        "not_observed": times.not_observed,
        "failed": times.failed,
        "waiting": times.waiting,
        **{name: times.quantile_s(share) for name, share in QUANTILES.items()},
    }
