"""What a PostgreSQL server says of a sync log besides its rows: its own time zone, and whether it may hide rows."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Text, cast, column, func, select, table, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.elements import quoted_name

from monitor.synclog.catalog import ResolvedTable, resolve_table
from monitor.synclog.connection import SyncLogSpec, connect_read_only
from monitor.synclog.row_filter import row_filter
from monitor.synclog.time_limit import interrupted_from
from monitor.synclog.timestamps import parse_timestamp

_ROW_SECURITY = text("SELECT row_security_active(format('%I.%I', CAST(:schema AS text), CAST(:table AS text)))")
# what a session of this role begins with; ours is set to UTC in each transaction
_TIME_ZONE = text("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
_WITHOUT_ZONE = re.compile(r"timestamp(\(\d\))? without time zone")

_MAX_WAIT_S = 5.0


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says of a log. SQLite says none of it."""

    may_hide_rows: bool = False
    """Whether row-level security decides which rows of the table this user sees."""
    server_zone: str | None = None
    """The server's time zone, if the column of the upload times is a timestamp without time zone."""
    newest: datetime | None = None
    """The newest of these times, as it is stored: without a zone. None if it was not found quickly."""


def describe(spec: SyncLogSpec) -> LogFacts:
    """Asks the database about a log. Raises SyncLogError if it can't be read."""
    with connect_read_only(spec) as conn:
        resolved = resolve_table(conn, spec)
        if resolved.schema is None:
            return LogFacts()
        hides = bool(conn.scalar(_ROW_SECURITY, {"schema": resolved.schema, "table": resolved.table}))
        times = resolved.submitted_at_column
        if times is None or not _WITHOUT_ZONE.fullmatch(resolved.type_names[times]):
            return LogFacts(may_hide_rows=hides)
        zone = server_zone(conn)
        # last: if it is interrupted, nothing more can be asked
        return LogFacts(may_hide_rows=hides, server_zone=zone, newest=_newest(conn, resolved, times))


def server_zone(conn: Connection) -> str | None:
    """The time zone of a PostgreSQL server, as its configuration, the database or the role sets it; None for SQLite."""
    return None if conn.dialect.name == "sqlite" else str(conn.scalar(_TIME_ZONE))


def _newest(conn: Connection, resolved: ResolvedTable, times: str) -> datetime | None:
    found: ColumnElement[Any] = column(quoted_name(times, quote=True))
    source = table(quoted_name(resolved.table, quote=True), schema=quoted_name(str(resolved.schema), quote=True))
    # as text: it may be a year that Python lacks
    query = select(cast(func.max(found).filter(func.isfinite(found)), Text())).select_from(source)
    try:
        with interrupted_from(conn, time.monotonic() + _MAX_WAIT_S):
            newest = parse_timestamp(conn.scalar(query.where(*row_filter(resolved))), UTC)
    except OperationalError:  # interrupted: a table without an index on this column is searched to its end
        return None
    return None if newest is None else newest.replace(tzinfo=None)
