"""What `db prune` did, or would do, as text and as JSON values."""

from typing import Any

from monitor.database.pruning import Prunable, SpaceReclaim
from monitor.database.retention import PruneOutcome, PruneResult
from monitor.database.retention_policy import Refusal, RefusalReason
from monitor.reports.formatting import format_time, iso

_NAMES = {Prunable.SNAPSHOTS: "snapshots", Prunable.ITEM_EVENTS: "item events", Prunable.NOTIFICATIONS: "notifications"}
_VACUUM = 'the daemon stopped, `sqlite3 FILE "PRAGMA auto_vacuum=INCREMENTAL; VACUUM"` changes that'


def prune_text(result: PruneResult, *, dry_run: bool) -> str:
    """What went, or why nothing did, one line each."""
    if result.refusal is not None:
        return refusal_text(result.refusal)
    if result.outcome is PruneOutcome.BUSY:
        return f"Nothing is pruned here: another process is at it ({result.holder})."
    would = "would go" if dry_run else "went"
    lines = [
        f"{_NAMES[kind]}: {rows} {would} (older than {format_time(result.before[kind])} UTC)"
        for kind, rows in result.rows.items()
    ]
    if result.outcome is PruneOutcome.INTERRUPTED:
        lines.append("Interrupted: the rest goes the next time.")
    return "\n".join([*lines, *_space(result, dry_run=dry_run)])


def prune_json(result: PruneResult, *, dry_run: bool) -> dict[str, Any]:
    """The same as JSON values."""
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
    """Why nothing is pruned, in a sentence."""
    newest = f"{format_time(refusal.newest)} UTC" if refusal.newest is not None else ""
    match refusal.reason:
        case RefusalReason.DISABLED:
            return 'Nothing is pruned: [retention] names no age, such as snapshots = "400d".'
        case RefusalReason.NO_RUNS:
            return "Nothing is pruned: there are no runs yet."
        case RefusalReason.CLOCK_BEHIND:
            return (
                f"Nothing is pruned: the newest run started at {newest}, which lies ahead of this machine's clock; "
                "set the clock right, and it goes on once runs were made for a day."
            )
        case RefusalReason.NO_RECENT_RUNS:
            return (
                f"Nothing is pruned yet: no run was made about a day ago (the newest started at {newest}), so that the "
                "clock may have jumped ahead; it goes on once runs were made for a day."
            )


def _space(result: PruneResult, *, dry_run: bool) -> list[str]:
    if dry_run:
        return []
    match result.space:
        case SpaceReclaim.SERVER:
            return []
        case SpaceReclaim.RETURNED:
            return [f"{result.bytes_freed / 1_000_000:.1f} MB handed back to the disk."]
        case SpaceReclaim.KEPT:
            return [f"The file keeps its size, and takes new rows: it was made without auto_vacuum; with {_VACUUM}."]
