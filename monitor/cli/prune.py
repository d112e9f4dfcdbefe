"""`db prune`: deletes what is older than `[retention]` says."""

from pathlib import Path

from monitor.cli.session import load, opened, print_json, print_lines
from monitor.report.pruning import pruned_json, pruned_text
from monitor.retention import Ending, Pruner
from monitor.wiring import holder, utcnow

__all__ = ["prune"]

BUSY = 5


def prune(path: Path | None, *, dry_run: bool, as_json: bool) -> int:
    """Prunes once, and prints what went; exit code 0, or 5 when another process is at it.

    Raises:
        StoreError: the database can't be used.
    """
    with opened(load(path)) as app:
        pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=utcnow)
        pruned = pruner.rehearse() if dry_run else pruner()
    if as_json:
        print_json(pruned_json(pruned, dry_run=dry_run))
    else:
        print_lines(pruned_text(pruned, dry_run=dry_run))
    return BUSY if pruned.ending is Ending.BUSY else 0
