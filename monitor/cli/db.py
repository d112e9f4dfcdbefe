"""`db …`: the schema of the monitor's own database."""

from pathlib import Path

from monitor.cli.session import load, print_lines
from monitor.store import schema
from monitor.store.engine import connect_read_only
from monitor.store.schema import SchemaFit, SchemaVersion

__all__ = ["current", "upgrade"]

UNFIT = 3


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
    print_lines(_sentence(version))
    return 0 if version.fit is SchemaFit.CURRENT else UNFIT


def _sentence(version: SchemaVersion) -> str:
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
