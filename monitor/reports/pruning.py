"""The result of `db prune` as text and JSON values."""

from typing import Any

from monitor.database.pruning import SpaceReclaim
from monitor.database.retention import PruneOutcome, PruneResult
from monitor.database.retention_policy import Prunable, Refusal, RefusalReason
from monitor.reports.formatting import format_time, iso

_NAMES = {
    Prunable.SNAPSHOTS: "snapshots",
    Prunable.ITEM_EVENTS: "item events",
    Prunable.NOTIFICATIONS: "notifications",
    Prunable.WAITS: "waits",
}
_VACUUM = 'To change that, stop the daemon and run `sqlite3 FILE "PRAGMA auto_vacuum=INCREMENTAL; VACUUM"`.'


def prune_text(result: PruneResult, *, dry_run: bool) -> str:
    """What was deleted, or why nothing was."""
    if result.refusal is not None:
        return refusal_text(result.refusal)
    if result.outcome is PruneOutcome.BUSY:
        return f"Nothing was pruned: another process is pruning ({result.holder})."
    deleted = "would be deleted" if dry_run else "deleted"
    lines = [
        f"{_NAMES[kind]}: {rows} {deleted} (older than {format_time(result.before[kind])} UTC)"
        for kind, rows in result.rows.items()
    ]
    if result.outcome is PruneOutcome.INTERRUPTED:
        lines.append("Interrupted: the next pruning deletes the rest.")
    return "\n".join([*lines, *_space(result, dry_run=dry_run)])


def prune_json(result: PruneResult, *, dry_run: bool) -> dict[str, Any]:
    """The result as JSON values."""
    refusal = result.refusal
    return {
        "outcome": result.outcome.value,
        "reason": refusal_text(refusal) if refusal is not None else None,
        "dry_run": dry_run,
        "pruned": {
            kind.value: {"rows": rows, "older_than": iso(result.before[kind])} for kind, rows in result.rows.items()
        },
        "space": result.space.value,
        "bytes_freed": result.bytes_freed,
        "longest_transaction_s": round(result.longest_transaction_s, 3),
    }


def refusal_text(refusal: Refusal) -> str:
    """Why nothing was pruned, and what to do."""
    newest = f"{format_time(refusal.newest)} UTC" if refusal.newest is not None else ""
    match refusal.reason:
        case RefusalReason.DISABLED:
            return 'Nothing was pruned: no age is set in [retention], such as snapshots = "400d".'
        case RefusalReason.NO_RUNS:
            return "Nothing was pruned: there are no runs yet."
        case RefusalReason.CLOCK_BEHIND:
            return (
                f"Nothing was pruned: the newest run started at {newest}, which is ahead of this machine's clock. "
                "Correct the clock; pruning resumes after a day of runs."
            )
        case RefusalReason.NO_RECENT_RUNS:
            return (
                f"Nothing was pruned: no run started about a day ago (newest: {newest}), so the clock may be wrong. "
                "Check the clock; pruning resumes after a day of runs."
            )


def _space(result: PruneResult, *, dry_run: bool) -> list[str]:
    if dry_run:
        return []
    match result.space:
        case SpaceReclaim.SERVER:
            return []
        case SpaceReclaim.RETURNED:
            return [f"{result.bytes_freed / 1_000_000:.1f} MB of disk space freed."]
        case SpaceReclaim.KEPT:
            return [f"The file keeps its size, because it was created without auto_vacuum. {_VACUUM}"]
