"""Row-level security may hide every row of a sync log from its reader."""

import contextlib
import sqlite3
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from monitor.synclog import LogFacts, SyncLogSpec, describe, read


def test_a_role_without_a_policy_sees_no_row_and_that_can_be_told(new_postgres):
    url, role = new_postgres(), f"monitor_role_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute('CREATE TABLE "Sync.Log" (id text)')
        admin.execute("INSERT INTO \"Sync.Log\" VALUES ('a')")
        admin.execute('ALTER TABLE "Sync.Log" ENABLE ROW LEVEL SECURITY')
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            admin.execute(f'GRANT SELECT ON "Sync.Log" TO {role}')
            of_role = make_url(url).set(username=role, password="x").render_as_string(hide_password=False)
            hidden, seen = (SyncLogSpec(url=each, table="Sync.Log", id_column="id") for each in (of_role, url))
            assert [list(read(hidden)), describe(hidden).may_hide_rows] == [[], True]
            assert [len(list(read(seen))), describe(seen).may_hide_rows] == [1, False]
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


def test_sqlite_hides_no_row(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (id TEXT)")
    assert describe(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id")) == LogFacts()
