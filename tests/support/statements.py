"""What each SQL statement of an operation costs, counted and not timed, so that a slow machine changes nothing.

SQLite counts the instructions of its virtual machine while a statement runs. PostgreSQL runs the recorded statement
again under EXPLAIN ANALYZE, in a transaction that is rolled back, and counts the rows that its scans read.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool

STEP = 10
"""Instructions of SQLite's virtual machine between two counts."""
COMMANDS = (
    "check --quiet", "gate {target}", "notify",
    "history --limit 20", "history --limit 20 --target {target}",
    "report --since 1h", "report --since 1h --peek --target {target}",
    "incidents list", "incidents list --target {target}",
    "incidents list --all --limit 5", "incidents list --all --limit 5 --target {target}",
    "incidents show {incident}", "incidents explain {incident}",
    "notifications list", "notifications list --all --limit 5", "notifications list --all --limit 5 --channel oncall",
    "notifications dead", "silences list",
    "items list --limit 5", "items list --limit 5 --target {target}",
    "items show {item}", "items show {item} --target {target}", "slo", "slo --json --target {target}",
    "status {target} {item}", "wait {target} {item} --timeout 5s",
)  # fmt: skip
"""Commands that read what is stored."""
_REPEATABLE = re.compile(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", re.IGNORECASE)


@dataclass(slots=True)
class Statement:
    """One SQL text of an operation."""

    sql: str
    parameters: Any
    times: int = 0
    steps: int = 0
    """Instructions of SQLite, all times together."""


@dataclass(slots=True)
class Recorder:
    """The statements of whatever runs while `recording` is open, by their text without numbers of parameters."""

    statements: dict[str, Statement] = field(default_factory=dict)
    _now: dict[int, Statement] = field(default_factory=dict)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records all connections of this process that are opened meanwhile."""
        event.listen(Pool, "connect", self._connected)
        event.listen(Engine, "before_cursor_execute", self._executed)
        try:
            yield
        finally:
            event.remove(Pool, "connect", self._connected)
            event.remove(Engine, "before_cursor_execute", self._executed)

    def _connected(self, connection: Any, _record: object) -> None:
        if hasattr(connection, "set_progress_handler"):
            connection.set_progress_handler(lambda: self._count(id(connection)), STEP)

    def _count(self, connection: int) -> int:
        if connection in self._now:
            self._now[connection].steps += STEP
        return 0

    def _executed(self, conn: Connection, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:  # noqa: FBT001  # SQLAlchemy calls it
        found = self.statements.setdefault(shape(sql), Statement(sql, parameters[0] if many else parameters))
        found.times += 1
        self._now[id(conn.connection.dbapi_connection)] = found


def shape(sql: str) -> str:
    """The text of a statement whatever the length of its lists."""
    one_line = " ".join(sql.split())
    listed = re.sub(r"\((?:\?|%\([\w]+\)s(?:::\w+)?)(?:, (?:\?|%\([\w]+\)s(?:::\w+)?))*\)", "(…)", one_line)
    return re.sub(r"\(…\)(?:, \(…\))*", "(…)", listed)


def postgres_plan(conn: Connection, statement: Statement) -> dict[str, Any] | None:
    """The plan and its counts, after it was run once more; None for a statement that can't be run again."""
    if not _REPEATABLE.match(statement.sql):
        return None
    try:
        with conn.begin_nested() as repeated:
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}"
            found = conn.exec_driver_sql(explained, statement.parameters).scalar_one()
            repeated.rollback()
    except DBAPIError:
        return None  # for example of a temporary table that is gone
    plan = json.loads(found) if isinstance(found, str) else found
    return dict(plan[0])


def rows_read(plan: dict[str, Any]) -> dict[str, int]:
    """The rows that scans read, by table, with those that a filter dropped."""
    read: dict[str, int] = defaultdict(int)
    for node in nodes(plan["Plan"]):
        if table := node.get("Relation Name"):
            dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            read[table] += round((node["Actual Rows"] + dropped) * node["Actual Loops"])
    return dict(read)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def sqlite_plan(conn: Connection, statement: Statement) -> list[str]:
    """The lines of EXPLAIN QUERY PLAN."""
    try:
        rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
    except DBAPIError:
        return []
    return [row[3] for row in rows]


def analyse(conn: Connection) -> None:
    """Gives PostgreSQL's planner its statistics; SQLite is used without any."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("ANALYZE"))
