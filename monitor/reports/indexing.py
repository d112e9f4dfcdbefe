"""How long uploads took to be indexed, for a report: in all, by group and span, and the slowest ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from monitor.reports.formatting import cut_list, json_values
from monitor.rollups.indexing_store import TimesToIndexed, add_up, times_by_group, times_by_span
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


def indexing_report(conn: Connection, *, target: str, bounds: Sequence[datetime], limit: int) -> IndexingReport | None:
    """The uploads of a target from the first to the last of `bounds`, with `limit` (> 0) groups; None without any."""
    period = {"since": bounds[0], "until": bounds[-1]}
    found = [
        GroupTimes(name=name or None, times=times)
        for name, times in times_by_group(conn, target=target, **period).items()
        if times.uploads
    ]
    if not found:
        return None
    found.sort(key=lambda group: (-(group.times.quantile_s(0.95) or 0), -group.times.uploads, group.name or ""))
    return IndexingReport(
        times=add_up(group.times for group in found),
        group_count=len(found),
        groups=tuple(found[:limit]),
        slowest=tuple(slowest(conn, target=target, limit=NAMED, **period)),
        spans=tuple(times_by_span(conn, target=target, bounds=bounds)),
    )


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
