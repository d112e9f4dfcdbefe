"""The view `history`: one row per run that has a snapshot. Reports and users' dashboards query it.

Migrations do not mention it: `rebuilt` drops it before they run and creates it again from the columns that its tables
then have.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, inspect, text

NAME = "history"
_RUN_COLUMNS = ("target", "environment", "run_key", "started_at", "finished_at", "status", "abort_reason")
"""The columns of `runs` in the view, after `run_id`. All columns of `snapshots` follow."""
_FORMER_NAMES = {"run_key": "slot"}
_GRANTS = """
SELECT 'GRANT ' || granted.privilege_type || ' ON history TO '
       || CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END
       || CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM pg_class AS view, aclexplode(view.relacl) AS granted
WHERE view.oid = to_regclass('history') AND granted.grantee <> view.relowner
"""


@contextmanager
def rebuilt(conn: Connection) -> Iterator[None]:
    """Drops the view while the tables are changed, then creates it again with the same grants, in one transaction.

    SQLite can't rebuild or rename a table that a view uses; PostgreSQL can't drop a column that a view uses.
    """
    grants = conn.scalars(text(_GRANTS)).all() if conn.dialect.name == "postgresql" else ()
    conn.execute(text(f"DROP VIEW IF EXISTS {NAME}"))
    yield
    create(conn)
    for grant in grants:
        conn.execute(text(grant))


def create(conn: Connection) -> None:
    """Creates the view over the current columns of its tables; does nothing before they exist."""
    found = inspect(conn)
    if not found.has_table("snapshots"):
        return
    of_runs = {column["name"] for column in found.get_columns("runs")}
    columns = ["r.id AS run_id"]
    columns += [f"r.{name if name in of_runs else _FORMER_NAMES[name]}" for name in _RUN_COLUMNS]
    columns += [f"s.{column['name']}" for column in found.get_columns("snapshots") if column["name"] != "run_id"]
    select = f"SELECT {', '.join(columns)} FROM runs r JOIN snapshots s ON s.run_id = r.id"  # noqa: S608  # our own names
    conn.execute(text(f"CREATE VIEW {NAME} AS {select}"))
