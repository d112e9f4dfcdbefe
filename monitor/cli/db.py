"""`db …`: the schema of the monitor's own database."""

from pathlib import Path

from monitor.cli.session import load, print_lines
from monitor.store import schema
from monitor.store.engine import connect

__all__ = ["current", "upgrade"]

BEHIND = 3


def upgrade(path: Path | None) -> None:
    """Brings the schema to this program's version.

    Raises:
        SchemaError: the schema is newer than this program.
        StoreError: the database can't be used.
    """
    version = schema.upgrade(load(path).database.reveal())
    print_lines(f"The database is at schema {version}.")


def current(path: Path | None) -> int:
    """Prints the schema's version; exit code 0 when it is this program's, else 3."""
    engine = connect(load(path).database.reveal())
    try:
        version = schema.current(engine)
    finally:
        engine.dispose()
    if version.current == version.head:
        print_lines(f"The database is at schema {version.current}, which is this program's.")
        return 0
    found = f"at schema {version.current}" if version.current else "empty"
    print_lines(f"The database is {found}; this program needs {version.head}: run `ingestion-monitor db upgrade`.")
    return BEHIND
