"""`db …`: the schema of the monitor's own database, and retention."""

from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.exit_codes import COULD_NOT_RUN, SKIPPED
from monitor.cli.options import AsJson, ConfigPath, group
from monitor.cli.session import load, open_app, print_json, print_lines

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from monitor.database.schema import SchemaVersion
    from monitor.fleet.queue_schema import QueueVersion

app = group("The monitor's own database.")


@app.command()
def upgrade(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Bring the database's schema to this program's version, and the queue of workers, if there are any.

    Example: ingestion-monitor db upgrade
    """
    loaded = load(config)
    from monitor.database import schema

    applied = schema.upgrade(loaded.database.reveal())
    queue: list[str] = []
    if loaded.fleet.workers:
        from monitor.fleet import queue_schema

        queue = queue_schema.upgrade(loaded.database.reveal())
    if as_json:
        print_json({"applied": applied, **({"queue_applied": queue} if loaded.fleet.workers else {})})
        return
    print_lines(f"The database is at this program's schema ({_steps(applied)}).")
    if loaded.fleet.workers:
        print_lines(f"The queue of workers is at this program's version ({_steps(queue)}).")


def _steps(applied: list[str]) -> str:
    return f"upgraded: {', '.join(applied)}" if applied else "nothing to do"


@app.command()
def current(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Print the schema's version. Exit code: 0 if it is this program's, else 3.

    Example: ingestion-monitor db current
    """
    loaded = load(config)
    from monitor.database import schema
    from monitor.database.engine import connect_read_only
    from monitor.database.schema import SchemaFit

    engine = connect_read_only(loaded.database.reveal())
    try:
        version = schema.current(engine)
        queue = _queue_version(engine) if loaded.fleet.workers else None
    finally:
        engine.dispose()
    if as_json:
        values = {"current": version.current, "needed": version.head, "fit": version.fit.value}
        print_json({**values, "text": version_text(version), **({"queue": queue.fit.value} if queue else {})})
    else:
        print_lines(version_text(version))
        if queue:
            print_lines(_queue_text(queue, loaded.database.reveal()))
    current_all = all(each.fit is SchemaFit.CURRENT for each in (version, queue) if each)
    raise typer.Exit(0 if current_all else COULD_NOT_RUN)


def _queue_version(engine: "Engine") -> "QueueVersion":
    from monitor.database.engine import reading
    from monitor.fleet import queue_schema

    with reading(engine) as conn:
        return queue_schema.current(conn)


def _queue_text(version: "QueueVersion", url: str) -> str:
    from monitor.database.urls import parse
    from monitor.fleet.queue_schema import describe

    problem = describe(version, parse(url))
    if problem is None:
        return f"The queue of workers is at {version.current}, which is this program's."
    return f"{problem[0].upper()}{problem[1:]}."


def version_text(version: "SchemaVersion") -> str:
    """The schema's version, whether it fits, and what to do if not."""
    from monitor.database.schema import FOREIGN_REMEDY, FOREIGN_TEXT, SchemaFit

    match version.fit:
        case SchemaFit.CURRENT:
            return f"The database is at schema {version.current}, which is this program's."
        case SchemaFit.NEWER:
            return (
                f"The database is at schema {version.current}, which is newer than this program's ({version.head}): "
                "install the newer ingestion-monitor, or name another database."
            )
        case SchemaFit.FOREIGN:
            return f"The database {FOREIGN_TEXT}: {FOREIGN_REMEDY}."
        case SchemaFit.MISSING:
            found = "empty"
        case SchemaFit.OLDER:
            found = f"at schema {version.current}"
    return f"The database is {found}; this program needs {version.head}: run `ingestion-monitor db upgrade`."


@app.command()
def prune(
    config: ConfigPath = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete history that is older than [retention] allows; runs continue.

    Exit code: 0, or 5 if another process is pruning.

    Example: ingestion-monitor db prune --dry-run
    """
    loaded = load(config)
    from monitor.app import holder, utcnow
    from monitor.database.retention import PruneOutcome, Pruner
    from monitor.reports.pruning import prune_json, prune_text

    with open_app(loaded) as app:
        pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=utcnow)
        pruned = pruner.dry_run() if dry_run else pruner()
    if as_json:
        print_json(prune_json(pruned, dry_run=dry_run))
    else:
        print_lines(prune_text(pruned, dry_run=dry_run))
    raise typer.Exit(SKIPPED if pruned.outcome is PruneOutcome.BUSY else 0)
