"""`db …`: the schema of the monitor's own database."""

from pathlib import Path

from monitor.app import holder, utcnow
from monitor.cli.session import load, open_app, print_json, print_lines
from monitor.database import schema
from monitor.database.engine import connect_read_only
from monitor.database.retention import PruneOutcome, Pruner
from monitor.database.schema import SchemaFit, SchemaVersion
from monitor.reports.pruning import prune_json, prune_text

WRONG_SCHEMA = 3


def upgrade(path: Path | None) -> None:
    """Brings the schema to this program's version.

    Raises:
        SchemaError: the schema is newer than this program.
        StoreError: the database can't be used.
    """
    applied = schema.upgrade(load(path).database.reveal())
    steps = f"upgraded: {', '.join(applied)}" if applied else "nothing to do"
    print_lines(f"The database is at this program's schema ({steps}).")


def current(path: Path | None) -> int:
    """Prints the schema's version; exit code 0 when it is this program's, else 3.

    Raises:
        StoreError: the database can't be read.
    """
    engine = connect_read_only(load(path).database.reveal())
    try:
        version = schema.current(engine)
    finally:
        engine.dispose()
    print_lines(_version_text(version))
    return 0 if version.fit is SchemaFit.CURRENT else WRONG_SCHEMA


def _version_text(version: SchemaVersion) -> str:
    match version.fit:
        case SchemaFit.CURRENT:
            return f"The database is at schema {version.current}, which is this program's."
        case SchemaFit.NEWER:
            return (
                f"The database is at schema {version.current}, which is newer than this program's ({version.head}): "
                "install the newer ingestion-monitor, or name another database."
            )
        case SchemaFit.MISSING:
            found = "empty"
        case SchemaFit.OLDER:
            found = f"at schema {version.current}"
    return f"The database is {found}; this program needs {version.head}: run `ingestion-monitor db upgrade`."


BUSY = 5


def prune(path: Path | None, *, dry_run: bool, as_json: bool) -> int:
    """Prunes once, and prints what went; exit code 0, or 5 when another process is at it.

    Raises:
        StoreError: the database can't be used.
    """
    with open_app(load(path)) as app:
        pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=utcnow)
        pruned = pruner.dry_run() if dry_run else pruner()
    if as_json:
        print_json(prune_json(pruned, dry_run=dry_run))
    else:
        print_lines(prune_text(pruned, dry_run=dry_run))
    return BUSY if pruned.outcome is PruneOutcome.BUSY else 0
