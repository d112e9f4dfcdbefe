import contextlib
import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from monitor.database.postgres_faults import DatabaseFault
from monitor.database.sqlite_files import open_read_only
from monitor.database.urls import classify_fault, location_of, parse


def sqlite_error(code, said=""):
    error = sqlite3.OperationalError(said)
    error.sqlite_errorcode = code
    return error


def attempt(text):
    return psycopg.OperationalError(f'connection failed: connection to server at "h", port 5432 failed: {text}')


def refused(text, *, severity="FATAL"):
    return attempt(f"{severity}:  {text}")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), "locked"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "locked"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DIRECTORY), "read_only"),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), "disk"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), "not_a_database"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "no such table: items"), "no_table"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "near x: syntax error"), "other"),
        (sqlite3.ProgrammingError("closed"), "other"),
        (psycopg.errors.DeadlockDetected(), "locked"),
        (psycopg.errors.LockNotAvailable(), "locked"),
        (psycopg.errors.QueryCanceled(), "timeout"),
        (psycopg.errors.TooManyConnections(), "too_many_connections"),
        (psycopg.errors.InvalidPassword(), "login"),
        (psycopg.errors.ConnectionFailure(), "lost"),
        (psycopg.errors.SyntaxError(), "other"),
        (refused('no pg_hba.conf entry for host "h", user "u", database "d", SSL encryption'), "not_admitted"),
        (refused('no pg_hba.conf entry for host "h", user "u", database "d", no encryption'), "encryption_required"),
        (refused("SSL required"), "encryption_required"),
        (refused("la contraseña no es válida", severity="FATAL"), "refused"),
        (refused("нет такого пользователя", severity="ВАЖНО"), "refused"),
        (refused('permission denied for database "d"'), "permission"),
        (psycopg.errors.InvalidAuthorizationSpecification("kein pg_hba.conf-Eintrag für Host"), "not_admitted"),
        (psycopg.errors.SerializationFailure(), "conflict"),
        (psycopg.errors.SqlclientUnableToEstablishSqlconnection(), "foreign_server"),
        (psycopg.errors.ObjectNotInPrerequisiteState(), "not_ready"),
        (attempt("server does not support SSL, but SSL was required"), "no_encryption"),
        (attempt('root certificate file "/x" does not exist'), "certificate"),
        (attempt("SSL error: certificate verify failed"), "certificate"),
        (attempt("session is read-only"), "wrong_server"),
        (attempt("Connection refused"), "unreachable"),
        (attempt("fe_sendauth: no password supplied"), "login"),
        (psycopg.OperationalError('FATAL:  role "postgres" does not exist'), "login"),
        (psycopg.OperationalError('FATAL:  database "d" does not exist'), "no_database"),
        (psycopg.OperationalError("FATAL:  the database system is starting up"), "unreachable"),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), "too_many_connections"),
        (
            psycopg.OperationalError("FATAL:  remaining connection slots are reserved for superusers"),
            "too_many_connections",
        ),
        (psycopg.errors.IdleInTransactionSessionTimeout(), "lost"),
        (psycopg.OperationalError("no answer within 130 s"), "timeout"),
        (psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"), "lost"),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), "unreachable"),
        (psycopg.OperationalError("something else"), "other"),
        (PoolTimeoutError("pool"), "timeout"),
        (InvalidRequestError("misuse"), "other"),
        (DBAPIError("SELECT", {}, sqlite_error(sqlite3.SQLITE_FULL)), "full"),
        (DBAPIError("SELECT", {}, psycopg.OperationalError("?"), connection_invalidated=True), "lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_error_has_a_kind(error, fault):
    assert classify_fault(error) is DatabaseFault(fault)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:///data/monitor.db", "data/monitor.db"),
        ("sqlite:////var/lib/monitor.db", "/var/lib/monitor.db"),
        ("postgresql://user:canary@db/pipeline", "db:5432/pipeline"),
        ("postgres://user:canary@db:6432/pipeline?sslmode=require", "db:6432/pipeline"),
        ("postgresql+psycopg://user:canary@/pipeline?host=/run/postgresql", "/run/postgresql:5432/pipeline"),
        ("postgresql:///pipeline?host=a&host=b", "a:5432,b:5432/pipeline"),
        ("postgresql://a:5433,b/pipeline", "a:5433,b:5432/pipeline"),
        ("postgresql://a,b:6432/pipeline", "a:5432,b:6432/pipeline"),
        ("postgresql:///pipeline?host=a:5433&host=b", "a:5433,b:5432/pipeline"),
        ("postgresql:///pipeline?host=a,b&port=6432", "a:6432,b:6432/pipeline"),
        ("postgresql://u@%2Frun%2Fpostgresql:6432/pipeline", "/run/postgresql:6432/pipeline"),
        ("postgresql://u:canary@[::1]/pipeline", "[::1]:5432/pipeline"),
        ("postgresql://h/pipeline?user=me@canary&password=canary", "h:5432/pipeline"),
        ("postgresql:///pipeline", "localhost:5432/pipeline"),
        ("sqlite:///data/monitor.db?timeout=5&mode=ro", "data/monitor.db"),
    ],
)
def test_a_database_is_named_without_user_and_password(url, named):
    assert location_of(parse(url)) == named
    assert parse(url).drivername in {"sqlite+pysqlite", "postgresql+psycopg"}


def test_rows_in_the_wal_are_read_even_without_its_index(tmp_path):
    path = tmp_path / "p.db"
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE log (id TEXT)")
        wal = (tmp_path / "p.db-wal").read_bytes()
    (tmp_path / "p.db-wal").write_bytes(wal)
    (tmp_path / "p.db-shm").mkdir()
    with contextlib.closing(open_read_only(path, busy_timeout_s=0.1)) as reader:
        assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("log",)]
