"""What a connection to PostgreSQL brings with it, and what it leaves behind: nothing, since it may be a pooler's."""

from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url, text
from support.refusing import refusing_server

from monitor.database import schema
from monitor.database.engine import connect, connect_read_only, limit_idle_transaction, reading, writing
from monitor.errors import StoreError, StoreUnavailableError
from monitor.synclog import SyncLogSpec, read

SETTINGS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone", "DateStyle")
SHORTER = {"statement_timeout": "700ms", "lock_timeout": "300ms", "idle_in_transaction_session_timeout": "5s"}
LONGER = {"statement_timeout": "1h", "lock_timeout": "1d", "idle_in_transaction_session_timeout": "10min"}
OURS = {"statement_timeout": "2min", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "90s"}


def role_with(url, settings):
    """The URL of a new role with these settings, and a way to drop it again."""
    role = f"monitor_role_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'x'")
        for name, value in settings.items():
            conn.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
    return make_url(url).set(username=role, password="x").render_as_string(hide_password=False), role


@pytest.fixture
def as_role(new_postgres):
    """The URL of an empty database for a new role with these settings."""
    made = []

    def make(**settings):
        url = new_postgres()
        of_role, role = role_with(url, settings)
        made.append((url, role))
        return of_role

    yield make
    for url, role in made:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(f"DROP OWNED BY {role}")
            conn.execute(f"DROP ROLE {role}")


def shown(conn, names=SETTINGS):
    return {name: conn.scalar(text(f"SELECT current_setting('{name}')")) for name in names}


def test_nothing_of_a_transaction_stays_on_its_session(new_postgres, connected):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        fresh = {name: conn.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in SETTINGS}
    engine = connected(url)
    for _ in range(10):  # the driver would prepare a statement at its sixth use
        with writing(engine) as conn:
            limit_idle_transaction(conn)
            session = conn.connection.driver_connection
            assert conn.scalar(text("SELECT 1")) == 1

    left = {name: session.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in SETTINGS}
    assert left == fresh
    assert session.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.parametrize(("theirs", "valid"), [({}, OURS), (SHORTER, SHORTER), (LONGER, OURS)])
@pytest.mark.parametrize("how", [connect, connect_read_only])
def test_of_a_roles_timeout_and_ours_the_shorter_one_holds(as_role, connected, theirs, valid, how):
    with reading(connected(as_role(**theirs), how)) as conn:
        assert shown(conn, OURS) == valid


def test_a_shorter_idle_limit_of_the_role_stays_under_our_own(as_role, connected):
    with writing(connected(as_role(**SHORTER))) as conn:
        limit_idle_transaction(conn)
        assert conn.scalar(text("SHOW idle_in_transaction_session_timeout")) == "5s"
    with writing(connected(as_role())) as conn:
        limit_idle_transaction(conn)
        assert conn.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read", "read committed"])
def test_the_isolation_of_transactions_is_ours_whatever_the_role_says(as_role, connected, isolation):
    url = as_role(default_transaction_isolation=isolation)
    with reading(connected(url, connect)) as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "read committed"
    with reading(connected(as_role(default_transaction_read_only="on"), connect_read_only)) as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "repeatable read", "it sees one moment"
        assert conn.scalar(text("SHOW transaction_read_only")) == "on"


def test_a_sync_log_is_read_in_utc_under_a_role_with_another_zone_and_shorter_limits(as_role):
    url = as_role(timezone="America/New_York", datestyle="German", **SHORTER)
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE log (id text, at timestamp with time zone)")
        conn.execute("INSERT INTO log VALUES ('a', '2026-01-01 12:00+00')")

    spec = SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at")
    (entries,) = read(spec)

    assert [(each.item_id, each.submitted_at.isoformat()) for each in entries] == [("a", "2026-01-01T12:00:00+00:00")]


def test_a_database_in_sql_ascii_serves_as_store_and_as_sync_log(postgres_url):
    name = f"monitor_ascii_{uuid4().hex[:8]}"
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            schema.upgrade(url)
            with psycopg.connect(url, client_encoding="utf8") as conn:
                conn.execute("CREATE TABLE log (id text)")
                conn.execute("INSERT INTO log VALUES ('dök-1')")
            (entries,) = read(SyncLogSpec(url=url, table="log", id_column="id"))
            assert [each.item_id for each in entries] == ["dök-1"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_store_whose_encoding_lacks_a_character_says_what_to_do(postgres_url):
    name = f"monitor_latin_{uuid4().hex[:8]}"
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            engine = connect(url)
            with (
                pytest.raises(StoreError, match="its encoding is not UTF8; create a database with"),
                reading(engine) as conn,
            ):
                conn.execute(text("SELECT CAST(:id AS text)"), {"id": "文書"}).scalar()
            engine.dispose()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


REFUSALS = [
    (
        "28P01",
        "Passwort-Authentifizierung für Benutzer »canary« fehlgeschlagen",
        "FATAL",
        "refused the user or the password",
    ),
    ("3D000", "la base de données « canary » n'existe pas", "FATAL", "does not exist on that server"),
    ("53300", "извините, уже слишком много клиентов", "ВАЖНО", "has no connection left"),
    ("57P03", "das Datenbanksystem startet", "FATAL", "can't be reached"),
    ("28000", "kein pg_hba.conf-Eintrag für Host »canary«", "FATAL", "pg_hba.conf has no entry"),
    (
        "08P01",
        "unsupported startup parameter: options",
        "FATAL",
        "refused the connection: unsupported startup parameter",
    ),
    ("XX000", "»canary« nicht möglich", "FATAL", "refused the connection: … nicht möglich"),
]


@pytest.mark.parametrize(("sqlstate", "message", "severity", "said"), REFUSALS, ids=[each[0] for each in REFUSALS])
def test_a_refusal_in_any_language_is_known_by_its_code(connected, sqlstate, message, severity, said):
    with refusing_server(sqlstate=sqlstate, message=message, severity=severity) as port:
        engine = connected(f"postgresql://u:secret@127.0.0.1:{port}/d")
        with pytest.raises(StoreError) as caught, reading(engine):
            pass

    assert said in str(caught.value)
    assert not {"canary", "secret"} & set(str(caught.value).replace("»", " ").replace("«", " ").split())
    passing = {"53300", "57P03", "08P01", "XX000"}
    assert isinstance(caught.value, StoreUnavailableError) is (sqlstate in passing)
