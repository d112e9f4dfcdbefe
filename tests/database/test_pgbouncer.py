"""Behind a real PgBouncer in transaction mode, where each transaction may run in another session of the server."""

import json

import psycopg
import pytest
from sqlalchemy import text
from support.observed import until
from support.pgbouncer import pooled
from support.running import Running

from monitor.database import schema
from monitor.database.engine import connect, reading, writing
from monitor.synclog import SyncLogSpec, read

pytestmark = pytest.mark.process
SETTINGS = "statement_timeout, lock_timeout, idle_in_transaction_session_timeout, timezone, datestyle"


def session(url):
    """What another program finds in the pool's only session, and how many prepared statements are in it."""
    shown = ", ".join(f"current_setting('{name}')" for name in SETTINGS.split(", "))
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        return conn.execute(f"SELECT {shown}, (SELECT count(*) FROM pg_prepared_statements)").fetchone()


@pytest.fixture
def direct(new_postgres):
    return new_postgres()


def test_a_read_of_the_sync_log_leaves_the_pipelines_session_as_it_was(direct):
    with psycopg.connect(direct) as conn:
        conn.execute("CREATE TABLE log (id text, at timestamptz)")
        conn.execute("INSERT INTO log SELECT 'doc-' || n, now() FROM generate_series(1, 2500) n")
    with pooled(direct, connections=1) as url:
        before = session(url)
        for _ in range(7):
            batches = read(SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at"))
            assert sum(len(batch) for batch in batches) == 2500
        assert session(url) == before


def test_our_own_transactions_leave_the_session_as_it_was(direct):
    schema.upgrade(direct)
    with pooled(direct, connections=1) as url:
        before = session(url)
        engine = connect(url)
        for _ in range(7):
            with writing(engine) as conn:
                conn.execute(text("INSERT INTO leases (target, epoch) VALUES ('t', 1) ON CONFLICT DO NOTHING"))
            with reading(engine) as conn:
                assert conn.scalar(text("SELECT count(*) FROM leases")) == 1
        engine.dispose()
        assert session(url) == before


def test_the_schema_is_upgraded_through_the_pooler(direct):
    with pooled(direct, connections=1) as url:
        assert schema.upgrade(url) == schema._revisions()
        assert schema.upgrade(url) == []


def test_checks_side_by_side_and_two_daemons_work_through_the_pooler(small_world, direct):
    """Some seconds of real processes: statements that are prepared fail only from their sixth use on."""
    schema.upgrade(direct)
    small_world.track(300)
    with pooled(direct, connections=3) as url:
        small_world.configure(database=url, more='[schedule]\nevery = "1s"\n')
        checks = [small_world.start("check", "--json") for _ in range(4)]
        ended = [process.communicate(timeout=120) for process in checks]
        codes = sorted(process.returncode for process in checks)
        assert set(codes) <= {0, 5}, ended  # 5: another one holds the lease
        assert codes[0] == 0
        daemons = [Running(small_world) for _ in range(2)]
        try:
            for daemon in daemons:
                daemon.await_events("daemon_started")
            _await_complete_runs(direct, 8)
            for daemon in daemons:
                assert daemon.end()[0] == 143
        finally:
            for daemon in daemons:
                daemon.close()
        lines = [json.loads(line) for daemon in daemons for line in daemon.lines if line.startswith("{")]
        assert [line for line in lines if line["level"] in {"error", "critical"}] == []
    with psycopg.connect(direct) as conn:
        statuses = dict(conn.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall())
    assert set(statuses) <= {"complete", "partial"}, statuses  # partial: at the end of a daemon


def _await_complete_runs(url, count):
    def complete():
        with psycopg.connect(url) as conn:
            return conn.execute("SELECT count(*) FROM runs WHERE status = 'complete'").fetchone()[0] >= count

    until(complete, f"{count} complete runs", timeout_s=120)
