import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from structlog.testing import capture_logs

from monitor.database.engine import connect, reading, writing
from monitor.database.retry import read_page, run_with_retry, with_retry
from monitor.database.tables import leases
from monitor.errors import StoreError, StoreUnavailableError
from monitor.logs import WARNING_INTERVAL_S, WarningLimiter


def failing(times, error=StoreUnavailableError, reason="away"):
    """Work that fails some times, and then returns the number of its calls."""
    done = []

    def work():
        done.append(None)
        if len(done) <= times:
            raise error(reason)
        return len(done)

    return work


def never():
    return False


def test_work_is_repeated_until_the_database_is_back_and_many_waits_are_logged_once(engine):
    reason = f"away {time.monotonic_ns()}"  # a new log limiter, independent of earlier runs of the test
    with capture_logs() as logs:
        assert run_with_retry(with_retry(engine, should_stop=never), failing(3, reason=reason)) == 4
        assert run_with_retry(with_retry(engine, should_stop=never), failing(1, reason=reason)) == 2
    assert [(each["event"], each["reason"], each["times"]) for each in logs] == [("database_away", reason, 1)]


def test_a_different_error_is_logged_at_once(engine):
    reasons = [f"{what} {time.monotonic_ns()}" for what in ("away", "locked")]
    with capture_logs() as logs:
        for reason in reasons:
            run_with_retry(with_retry(engine, should_stop=never), failing(1, reason=reason))
    assert [each["reason"] for each in logs] == reasons


def test_a_lasting_error_is_logged_once_a_minute_with_the_number_of_waits():
    news = WarningLimiter()
    times_s = [
        0,
        1,
        WARNING_INTERVAL_S - 1,
        WARNING_INTERVAL_S,
        WARNING_INTERVAL_S + 1,
        3 * WARNING_INTERVAL_S,
        9 * WARNING_INTERVAL_S,
    ]
    counts = [news.count_if_due("database_away", "away", now_s=now_s) for now_s in times_s]
    assert counts == [1, None, None, 3, None, 2, 1]
    assert news.count_if_due("lease_not_renewed", "away", now_s=9 * WARNING_INTERVAL_S) == 1, "another event"


@pytest.mark.parametrize(
    ("made_patient", "error"),
    [
        (lambda engine: engine, StoreUnavailableError),
        (lambda engine: with_retry(engine, should_stop=lambda: True), StoreUnavailableError),
        (lambda engine: with_retry(engine, should_stop=never, max_wait_s=0.01), StoreUnavailableError),
        (lambda engine: with_retry(engine, should_stop=never), StoreError),
    ],
    ids=["an engine without patience", "a signal came", "time is up", "what does not pass"],
)
def test_errors_that_are_not_retried(engine, made_patient, error):
    work = failing(1, error)
    with pytest.raises(error):
        run_with_retry(made_patient(engine), work)
    assert work() == 2


def test_a_retrying_engine_uses_the_same_database(engine):
    with writing(engine) as conn:
        conn.execute(insert(leases).values(target="a", epoch=1))
    assert [row.target for row in read_page(with_retry(engine, should_stop=never), select(leases.c.target))] == ["a"]


def test_work_waits_for_a_lock_beyond_the_busy_timeout(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}", busy_timeout_s=0.05)
    with writing(engine) as conn:
        conn.execute(text("CREATE TABLE t (x)"))
    attempts = []

    def put():
        attempts.append(time.monotonic())
        if len(attempts) == 3:
            other.execute("ROLLBACK")
        with writing(engine) as conn:
            conn.execute(text("INSERT INTO t VALUES (1)"))

    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        run_with_retry(with_retry(engine, should_stop=never), put)
    assert len(attempts) == 3
    engine.dispose()


@pytest.mark.parametrize("names", [("a.db", "a.db-wal", "a.db-shm"), ("a.db-wal", "a.db-shm")], ids=["file", "wal"])
def test_nothing_is_written_into_a_file_that_was_deleted(tmp_path, names):
    path = Path(tmp_path / "a.db")
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
    engine = connect(f"sqlite:///{path}", create=False)

    def put():
        with writing(engine) as conn:
            conn.execute(text("INSERT INTO t VALUES (1)"))

    put()
    put()
    for name in names:
        path.with_name(name).unlink()
    if path.exists():
        put()  # on a new connection, which sees what the old one wrote
        with reading(engine) as conn:
            assert conn.scalar(text("SELECT count(*) FROM t")) == 3
    else:
        with pytest.raises(StoreError, match="can't be opened"):
            put()
        assert not path.exists()
    engine.dispose()
