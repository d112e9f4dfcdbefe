"""Tries our own database: reached, writable, at this program's schema. A SQLite file is upgraded, as `check` does."""

from pathlib import Path

from monitor.database import is_sqlite, parse, place
from monitor.doctor.places import Place
from monitor.errors import StoreError
from monitor.report.doctor import Finding, Level, ended
from monitor.store import schema
from monitor.store.engine import connect, connect_read_only
from monitor.store.schema import SchemaFit, SchemaVersion
from monitor.store.trial import try_writing

__all__ = ["sqlite_file", "try_database"]

_UPGRADE = "ingestion-monitor db upgrade"


def try_database(url: str, at: Place, *, option: str = "") -> Finding:
    """Tries the database for real; of its rows none is changed.

    Args:
        url: its connection URL, a secret.
        at: where that is set.
        option: what a command needs to read the same configuration.
    """
    where = place(parse(url))
    try:
        before = _look(url)
        if before.fit is SchemaFit.NEWER or (before.fit is not SchemaFit.CURRENT and not is_sqlite(parse(url))):
            return _unfit(before, where, at, option)
        steps = schema.upgrade(url)
        _write(url)
    except StoreError as error:
        return _problem(ended(str(error)), at)
    if not steps:
        says = f"{where} can be read and written; its schema is this program's ({before.head})."
    elif before.fit is SchemaFit.MISSING:
        says = f"{where} was not there and has been created, as `check` would have done; it can be written."
    else:
        says = f"{where} was brought from schema {before.current} to {before.head}, as `check` would have done."
    return Finding(part="database", level=Level.OK, says=says)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database, absolute and without symbolic links; None for a server."""
    parsed = parse(url)
    return Path(str(parsed.database)).resolve() if is_sqlite(parsed) else None


def _look(url: str) -> SchemaVersion:
    engine = connect_read_only(url)
    try:
        return schema.current(engine)
    finally:
        engine.dispose()


def _write(url: str) -> None:
    engine = connect(url)
    try:
        try_writing(engine)
    finally:
        engine.dispose()


def _unfit(version: SchemaVersion, where: str, at: Place, option: str) -> Finding:
    if version.fit is SchemaFit.NEWER:
        says = f"{where} has the schema {version.current}, newer than this program's ({version.head})."
        return _problem(says, at, remedy="install the newer ingestion-monitor, or name another database")
    state = "is empty" if version.current is None else f"has the older schema {version.current}"
    return _problem(f"{where} {state}; this program needs {version.head}.", at, command=f"{_UPGRADE}{option}")


def _problem(says: str, at: Place, *, remedy: str = "", command: str = "") -> Finding:
    return Finding(
        part="database",
        level=Level.PROBLEM,
        says=says,
        remedy=remedy,
        command=command,
        setting=at.setting,
        place=at.where,
    )
