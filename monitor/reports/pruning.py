"""What `db prune` did, or would do, as text and as JSON values."""

from typing import Any

from monitor.database.pruning import Past, Space
from monitor.database.retention import Ending, Pruned
from monitor.database.retention_policy import Doubt, Refusal
from monitor.reports.formatting import iso, moment

_NAMES = {Past.SNAPSHOTS: "snapshots", Past.ITEM_EVENTS: "item events", Past.NOTIFICATIONS: "notifications"}
_VACUUM = 'the daemon stopped, `sqlite3 FILE "PRAGMA auto_vacuum=INCREMENTAL; VACUUM"` changes that'


def pruned_text(pruned: Pruned, *, dry_run: bool) -> str:
    """What went, or why nothing did, one line each."""
    if pruned.refusal is not None:
        return refused(pruned.refusal)
    if pruned.ending is Ending.BUSY:
        return f"Nothing is pruned here: another process is at it ({pruned.holder})."
    would = "would go" if dry_run else "went"
    lines = [
        f"{_NAMES[past]}: {rows} {would} (older than {moment(pruned.before[past])} UTC)"
        for past, rows in pruned.rows.items()
    ]
    if pruned.ending is Ending.INTERRUPTED:
        lines.append("Interrupted: the rest goes the next time.")
    return "\n".join([*lines, *_space(pruned, dry_run=dry_run)])


def pruned_json(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """The same as JSON values."""
    refusal = pruned.refusal
    return {
        "ending": pruned.ending.value,
        "reason": refused(refusal) if refusal is not None else None,
        "dry_run": dry_run,
        "pruned": {
            past.value: {"rows": rows, "older_than": iso(pruned.before[past])} for past, rows in pruned.rows.items()
        },
        "space": pruned.space.value,
        "bytes_freed": pruned.freed,
        "longest_transaction_s": round(pruned.longest_s, 3),
    }


def refused(refusal: Refusal) -> str:
    """Why nothing is pruned, in a sentence."""
    newest = f"{moment(refusal.newest)} UTC" if refusal.newest is not None else ""
    match refusal.doubt:
        case Doubt.OFF:
            return 'Nothing is pruned: [retention] names no age, such as snapshots = "400d".'
        case Doubt.NO_RUNS:
            return "Nothing is pruned: there are no runs yet."
        case Doubt.BEHIND:
            return (
                f"Nothing is pruned: the newest run started at {newest}, which lies ahead of this machine's clock; "
                "set the clock right, and it goes on once runs were made for a day."
            )
        case Doubt.JUST_BACK:
            return (
                f"Nothing is pruned yet: no run was made about a day ago (the newest started at {newest}), so that the "
                "clock may have jumped ahead; it goes on once runs were made for a day."
            )


def _space(pruned: Pruned, *, dry_run: bool) -> list[str]:
    if dry_run:
        return []
    match pruned.space:
        case Space.SERVER:
            return []
        case Space.RETURNED:
            return [f"{pruned.freed / 1_000_000:.1f} MB handed back to the disk."]
        case Space.KEPT:
            return [f"The file keeps its size, and takes new rows: it was made without auto_vacuum; with {_VACUUM}."]
