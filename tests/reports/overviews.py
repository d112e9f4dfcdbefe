"""Complete reports for tests of formatting; `SAMPLE` is the one in docs/report.md."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from reports.samples import INCIDENT

from monitor.model import Cause, IncidentState, ItemState, RunStatus, Snapshot
from monitor.model.schedule import DueTimes
from monitor.reports.changes import IncidentChange, ItemChangeCount, RunCounts
from monitor.reports.formatting import spans
from monitor.reports.indexing import GroupTimes, IndexingReport
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview import Changes, IncidentChanges, Overview, TargetFacts, target_overview
from monitor.reports.trends import GroupHealth, LastRun, StageCount, StuckItem
from monitor.rollups.bounds import bound_ms
from monitor.rollups.indexing_queries import TimesToIndexed, add_up
from monitor.rollups.slowest import IndexedUpload
from monitor.runs.store import HistoryRow

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BOUNDS = tuple(spans(NOW - 7 * DAY, NOW))
LAST = LastRun(run_id=2016, status=RunStatus.COMPLETE, abort_reason=None, error=None, started_at=NOW - 5 * MINUTE,
               finished_at=NOW - 4 * MINUTE)  # fmt: skip


def row(run_id=2016, at=LAST.started_at, **fields):
    """A row of history with 1000 items; those without another state are `completed`."""
    numbers = {"pending": 0, "failed": 0, "not_found": 0, "invalid": 0, "unknown": 0, "stuck": 0} | fields
    total = numbers.pop("total", 1000)
    completed = total - sum(numbers[state] for state in ("pending", "failed", "not_found", "invalid", "unknown"))
    run = {name: numbers.pop(name) for name in ("target", "run_key", "status", "abort_reason") if name in numbers}
    plain = {
        "environment": "production", "run_key": None, "status": RunStatus.COMPLETE, "abort_reason": None,
        "started_at": at, "finished_at": at + MINUTE, "target": "gloo",
    }  # fmt: skip
    measured = {"requests": 200, "latency_p50_ms": 40.0, "latency_p95_ms": 120.0, "duration_s": 60.0}
    snapshot = Snapshot(**{**measured, "checked": total, "completed": completed, **numbers})
    return HistoryRow(run_id=run_id, **{**plain, **run}, snapshot=snapshot)


def times(by_minutes, **others):
    """Uploads that took so many minutes to be indexed, and others."""
    buckets = {bound_ms(minutes * MINUTE): count for minutes, count in by_minutes.items()}
    return TimesToIndexed(buckets=buckets, **others)


def indexing(groups, *slowest, spans=()):
    """The uploads of these groups."""
    total = add_up(each.times for each in groups)
    spans = spans or (TimesToIndexed(),) * (len(BOUNDS) - 2) + (total,)
    return IndexingReport(times=total, group_count=len(groups), groups=tuple(groups), slowest=slowest, spans=spans)


def group(name, stuck=0, **counts):
    """One group; states that are not given have no items."""
    given = dict.fromkeys(ItemState, 0) | {ItemState(state): count for state, count in counts.items()}
    return GroupHealth(name=name, counts=MappingProxyType(given), stuck=stuck)


def facts(**fields):
    """A healthy target without changes, with a run due every five minutes."""
    plain = {
        "target": "gloo", "due": DueTimes(every=5 * MINUTE), "last_run": LAST, "running_since": None,
        "unreadable_since": None, "snapshot": row(), "samples": (None,) * (len(BOUNDS) - 1),
        "changes": Changes(since=NOW - DAY, first_report=False),
    }  # fmt: skip
    return TargetFacts(**{**plain, **fields})


def overview(*targets, **fields):
    """A report of one week on these targets."""
    shown = tuple(target_overview(each, now=NOW) for each in targets or (facts(),))
    plain = {"generated_at": NOW, "environment": "production", "bounds": BOUNDS, "targets": shown, "incidents": ()}
    return Overview(**{**plain, **fields})


def _sample(n, bounds):
    if n < 6 or n == 20:
        return None
    failed = 0 if n < 15 else 2
    waiting = round(60 + 50 * math.sin(n / 3))
    return row(n, bounds[n], failed=failed, pending=waiting, stuck=2 if n > 22 else 0, latency_p95_ms=100.0 + 9 * n)


_NEWEST = row(pending=12, stuck=2, failed=2)
SAMPLE = overview(
    facts(
        snapshot=_NEWEST,
        samples=(*(_sample(n, BOUNDS) for n in range(len(BOUNDS) - 2)), _NEWEST),
        group_count=2,
        groups=(
            group("sermons", completed=612, pending=12, failed=2, stuck=2),
            group(None, completed=374),
        ),
        stage_count=4,
        stages=(
            StageCount(state=ItemState.COMPLETED, stage="COMPLETED", items=986),
            StageCount(state=ItemState.PENDING, stage="CHUNKING", items=9),
            StageCount(state=ItemState.PENDING, stage="EMBEDDING", items=3),
            StageCount(state=ItemState.FAILED, stage="FAILED", items=2),
        ),
        indexing=indexing(
            [
                GroupTimes(name="sermons", times=times({2: 70, 14: 22, 45: 4}, failed=2, waiting=12)),
                GroupTimes(name=None, times=times({2: 28})),
            ],
            IndexedUpload(item_id="7a1c0d9e-52f4-4b1e-9a53-0c6fb0e2d001", group="sermons", indexed_at=NOW - DAY,
                          took_s=4800.0),
            IndexedUpload(item_id="sermons/2026/02/22/a-long-name-of-a-document.pdf", group=None,
                          indexed_at=NOW - 2 * DAY, took_s=2700.0),
        ),
        stuck=(
            StuckItem(item_id="0f9d2c11-6a3e-4f6d-8a58-3d2b7c9e4002", group="sermons", stage="CHUNKING",
                      pending_since=NOW - 26 * HOUR),
            StuckItem(item_id="5b7e88d0-90aa-4a52-b6f4-1c7d2e3f4003", group="sermons", stage="EMBEDDING",
                      pending_since=NOW - 5 * HOUR),
        ),
        changes=Changes(
            since=NOW - DAY,
            first_report=False,
            runs=RunCounts(by_status={RunStatus.COMPLETE: 284, RunStatus.PARTIAL: 4}, last_run_id=2016,
                          first_started_at=NOW - DAY, last_finished_at=LAST.finished_at),
            items=(
                ItemChangeCount(to="completed", count=20, sample_ids=("a", "b", "c")),
                ItemChangeCount(to="failed", count=2, sample_ids=("doc-1", "doc-2")),
            ),
            new=25,
            stuck=2,
            incidents=IncidentChanges(total=1, newest=(
                IncidentChange(id=7, target="gloo", cause=Cause.ITEMS_FAILED, state=IncidentState.OPEN,
                               happened=("opened",)),
            )),
        ),
    ),
    facts(target="uppzy", last_run=None, snapshot=None),
    incidents=(replace(INCIDENT, first_evidence_at=NOW - 9 * HOUR, member_ids=("doc-1", "doc-2")),),
    undelivered=(Undelivered(channel="mail", dead=1, waiting=0),),
)  # fmt: skip
