import contextlib
import gc
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from monitor.errors import SyncLogError
from monitor.model import SyncLogEntry
from monitor.synclog import SyncLogSpec, describe, read, verify

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECRET = "canary-s3cret"


@pytest.fixture
def pipeline(synclog_url):
    """Runs statements in the user's database."""

    def run(*statements, rows=None):
        url = make_url(synclog_url)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as conn:
            for statement in statements:
                conn.execute(text(statement), *([rows] if rows else []))
        engine.dispose()

    return run


@pytest.fixture
def spec(synclog_url):
    def made(table="sync_log", id_column="item_id", **more):
        return SyncLogSpec(url=synclog_url, table=table, id_column=id_column, **more)

    return made


def ids(spec, **options):
    return [entry.item_id for rows in read(spec, **options) for entry in rows]


def path_of(url):
    return Path(url.removeprefix("sqlite:///"))


def test_rows_are_returned_unchanged_in_batches(pipeline, spec):
    pipeline(
        "CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT, collection TEXT)",
        "INSERT INTO sync_log VALUES ('a', '2026-07-01 14:00', 'one'), (NULL, NULL, NULL)",
        "INSERT INTO sync_log VALUES ('', 'never', ''), ('a', '', 'x')",
    )
    logged = spec(submitted_at_column="uploaded_at", group_column="collection", timezone="Europe/Paris")
    assert list(read(logged, batch=3)) == [
        [
            SyncLogEntry(item_id="a", submitted_at=NOON, group="one"),
            SyncLogEntry(item_id=None),
            SyncLogEntry(item_id="", unreadable_time="never", group=""),
        ],
        [SyncLogEntry(item_id="a", group="x")],
    ]


def test_an_empty_log_has_no_batches(pipeline, spec):
    pipeline("CREATE TABLE sync_log (item_id TEXT)")
    assert list(read(spec())) == []
    verify(spec())


def test_a_view_is_read_like_a_table(pipeline, spec):
    pipeline(
        "CREATE TABLE uploads (id INTEGER PRIMARY KEY, name TEXT)",
        "INSERT INTO uploads VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "CREATE VIEW sync_log AS SELECT 'doc-' || name AS item_id FROM uploads WHERE id > 1",
    )
    assert list(read(spec(), batch=1)) == [[SyncLogEntry(item_id="doc-b")], [SyncLogEntry(item_id="doc-c")]]


def test_names_of_any_kind_are_quoted(pipeline, spec):
    pipeline('CREATE TABLE "my ""log""; --" ("select" TEXT)', """INSERT INTO "my ""log""; --" VALUES ('a')""")
    assert ids(spec('my "log"; --', "select")) == ["a"]


@pytest.mark.parametrize(
    ("table", "column"), [("Sync_Log", "Item_Id"), ("sync_log", "item_id"), ("SYNC_LOG", "ITEM_ID")]
)
def test_a_name_in_another_case_is_found_if_it_is_unique(pipeline, spec, table, column):
    pipeline('CREATE TABLE "Sync_Log" ("Item_Id" TEXT)', """INSERT INTO "Sync_Log" VALUES ('a')""")
    assert ids(spec(table, column)) == ["a"]


def test_an_exact_name_wins_over_one_in_another_case(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute('CREATE TABLE "Log" ("ID" text, id text); CREATE TABLE log (id text)')
        conn.execute("""INSERT INTO log VALUES ('right'); INSERT INTO "Log" VALUES ('upper', 'lower')""")
    assert ids(SyncLogSpec(url=url, table="log", id_column="id")) == ["right"]
    assert ids(SyncLogSpec(url=url, table="Log", id_column="ID")) == ["upper"]
    with pytest.raises(SyncLogError, match=r'no table "LOG", but "(Log|log)" or "(Log|log)"; use the exact spelling'):
        verify(SyncLogSpec(url=url, table="LOG", id_column="id"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"table": "synclog"}, r'has no table "synclog"; did you mean "sync_log"\?$'),
        ({"table": "other"}, r'has no table "other"; there is "sync_log"$'),
        ({"id_column": "item"}, r'table "sync_log": it has no column "item"; did you mean "item_id"\?$'),
        ({"id_column": "nocol"}, r'it has no column "nocol"; there is "item_id" or "uploaded_at"$'),
        ({"submitted_at_column": "uploaded"}, r'no column "uploaded"; did you mean "uploaded_at"\?$'),
        ({"group_column": "collection"}, r'no column "collection"; there is'),
        ({"timezone": "Paris"}, r'there is no time zone "Paris"; name one like Europe/Paris$'),
        ({"timezone": "../x"}, r'there is no time zone "../x"'),
    ],
    ids=str,
)
def test_a_message_about_a_missing_name_suggests_existing_names(pipeline, spec, asked, said):
    pipeline("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)", "INSERT INTO sync_log VALUES ('a', '')")
    for use in (verify, lambda s: next(read(s))):
        with pytest.raises(SyncLogError, match=said) as caught:
            use(spec(**asked))
        assert str(caught.value).startswith("sync log")


def test_a_database_without_tables_is_reported(spec):
    with pytest.raises(SyncLogError, match='has no table "sync_log"; there is none'):
        verify(spec())


def test_a_dropped_column_is_not_found(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE sync_log (item_id text, old text); ALTER TABLE sync_log DROP COLUMN old")
    with pytest.raises(SyncLogError, match='no column "old"'):
        verify(SyncLogSpec(url=url, table="sync_log", id_column="old"))


def test_a_table_in_another_schema_is_read_by_its_qualified_name(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute('CREATE SCHEMA "Ops"; CREATE TABLE "Ops".log (id text); CREATE TABLE public."a.b" (id text)')
        conn.execute("""INSERT INTO "Ops".log VALUES ('ops'); INSERT INTO "a.b" VALUES ('dot')""")
    names = [("Ops.log", "ops"), ("ops.log", "ops"), ("a.b", "dot"), ('"Ops"."log"', "ops"), ('Ops."log"', "ops")]
    for table, found in [*names, ('public."a.b"', "dot"), ('"a.b"', "dot"), ("public.a.b", "dot")]:
        assert ids(SyncLogSpec(url=url, table=table, id_column="id")) == [found]
    with pytest.raises(SyncLogError, match=r'no table "logs" in the schema "Ops"; did you mean "log"\?'):
        verify(SyncLogSpec(url=url, table="Ops.logs", id_column="id"))
    with pytest.raises(SyncLogError, match=r'no table "log" in its search_path; there is "Ops\.log": name it so'):
        verify(SyncLogSpec(url=url, table="log", id_column="id"))
    with pytest.raises(SyncLogError, match=r'no table "log" in the schema "None"; there is none'):
        verify(SyncLogSpec(url=url, table="None.log", id_column="id"))


def test_ids_of_any_type_become_text_on_sqlite(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (id)")
        values = [7, 7.0, 1.5, b"bytes", b"\xff\x00", "text", None]
        conn.executemany("INSERT INTO log VALUES (?)", [(value,) for value in values])
        conn.execute("INSERT INTO log VALUES (CAST(x'61ff' AS TEXT))")
        conn.commit()
    found = ids(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id"))
    assert found == ["7", "7", "1.5", "bytes", "ff00", "text", None, "a\udcff"]


@pytest.mark.parametrize(
    ("kind", "value", "read_as"),
    [
        ("integer", "7", "7"),
        ("uuid", "'AAAAAAAA-0000-0000-0000-000000000001'", "aaaaaaaa-0000-0000-0000-000000000001"),
        ("bytea", "'abc'", "abc"),
        ("numeric", "12.0", "12"),
        ("numeric", "'NaN'", "NaN"),
        ("double precision", "'Infinity'", "inf"),
        ("char(5)", "'ab'", "ab"),
        ("numeric", "1e30", "1" + "0" * 30),
        ("numeric", "1e5000", "1" + "0" * 5000),
        ("numeric(40, 4)", "'123456789012345678901234567890.0000'", "123456789012345678901234567890"),
        ("numeric", "12.50", "12.50"),
        ("date", "'infinity'", "infinity"),
        ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
        ("interval", "'1 month'", "1 mon"),
        ("jsonb", "'\"doc-1\"'", "doc-1"),
        ("json", "'17'", "17"),
    ],
)
def test_ids_of_any_type_become_text_on_postgresql(new_postgres, kind, value, read_as):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TABLE log (id {kind}); INSERT INTO log VALUES ({value})")
    assert ids(SyncLogSpec(url=url, table="log", id_column="id")) == [read_as]


@pytest.mark.parametrize(
    ("kind", "value", "at", "unreadable"),
    [
        ("timestamptz", "'2026-07-01 14:00+02'", NOON, None),
        ("timestamp", "'2026-07-01 14:00'", NOON, None),
        ("text", "'2026-07-01T12:00:00Z'", NOON, None),
        ("bigint", "1782907200000", NOON, None),
        ("double precision", "1782907200", NOON, None),
        ("timestamptz", "'infinity'", None, "infinity"),
        ("timestamp", "'0044-03-15 BC'", None, "0044-03-15 00:00:00 BC"),
        ("timestamp", "NULL", None, None),
    ],
)
def test_upload_times_of_any_type_are_read_on_postgresql(new_postgres, kind, value, at, unreadable):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TABLE log (id text, at {kind}); INSERT INTO log VALUES ('a', {value})")
    logged = SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at", timezone="Europe/Paris")
    [[entry]] = read(logged)
    assert (entry.submitted_at, entry.unreadable_time) == (at, unreadable)


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE TABLE log (id TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE log (id TEXT, rowid TEXT)",
        "CREATE TABLE log (id TEXT, rowid TEXT, _rowid_ TEXT, oid TEXT)",
        "CREATE TABLE log (key INTEGER PRIMARY KEY, id TEXT)",
        "CREATE VIRTUAL TABLE log USING fts5(id)",
        "CREATE TABLE base (x TEXT); CREATE TABLE log (id TEXT, up TEXT AS (upper(id)))",
    ],
)
def test_every_kind_of_sqlite_table_is_read_completely(tmp_path, definition):
    wanted = [f"{n:03}" for n in range(25)]
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.executescript(definition)
        conn.executemany("INSERT INTO log (id) VALUES (?)", [(item_id,) for item_id in wanted])
        conn.commit()
    assert ids(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id"), batch=10) == wanted


def test_negative_and_sparse_row_numbers_are_read_too(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (key INTEGER PRIMARY KEY, id TEXT)")
        conn.executemany("INSERT INTO log VALUES (?, ?)", [(-5, "a"), (0, "b"), (2**62, "c")])
        conn.commit()
    assert ids(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id"), batch=1) == ["a", "b", "c"]


def test_nothing_can_be_written_even_by_a_view(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE t (a int)")
        conn.execute(
            "CREATE FUNCTION sneak() RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO t VALUES (1); RETURN 'x'; END $$; CREATE VIEW log AS SELECT sneak() AS id"
        )
    with pytest.raises(SyncLogError, match='table "log": reading it changes data, which a view must not do'):
        verify(SyncLogSpec(url=url, table="log", id_column="id"))


def test_a_reader_that_stops_early_closes_the_log(pipeline, spec, synclog_kind, synclog_url):
    pipeline("CREATE TABLE sync_log (item_id TEXT)", "INSERT INTO sync_log VALUES ('a'), ('b'), ('c')")
    reading = read(spec(), batch=1)
    assert next(reading) == [SyncLogEntry(item_id="a")]
    reading.close()
    abandoned = read(spec(), batch=1)
    next(abandoned)
    del abandoned
    gc.collect()
    # no lock prevents a change of the table
    pipeline("DROP TABLE sync_log")
    if synclog_kind == "postgresql":
        with psycopg.connect(synclog_url) as conn:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert conn.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("source", ["sync_log", "as_view"])
def test_fifty_thousand_rows_are_read_in_little_memory(pipeline, spec, synclog_kind, source):
    series = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT 'item-' || i FROM n"
        if synclog_kind == "sqlite"
        else "SELECT 'document-' || i FROM generate_series(1, 50000) AS i"
    )
    pipeline(
        "CREATE TABLE sync_log (item_id TEXT)",
        f"INSERT INTO sync_log {series}",
        "CREATE VIEW as_view AS SELECT item_id FROM sync_log",
    )
    count = largest = 0
    verify(spec(source))
    tracemalloc.start()
    for rows in read(spec(source), batch=1000):
        count += len(rows)
        largest = max(largest, len(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, largest) == (50_000, 1000)
    assert peak < 1_500_000


def test_a_missing_file_is_named_and_not_created(tmp_path):
    with pytest.raises(SyncLogError, match=rf"sync log {tmp_path}/none.db does not exist; correct the path"):
        verify(SyncLogSpec(url=f"sqlite:///{tmp_path}/none.db", table="t", id_column="id"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_database_is_named(tmp_path):
    (tmp_path / "p.db").write_text("id,time\n" * 200)
    with pytest.raises(SyncLogError, match=r"p\.db is not a SQLite database, or is damaged; correct the path"):
        verify(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="t", id_column="id"))


def test_a_folder_is_named(tmp_path):
    with pytest.raises(SyncLogError, match="check that it is a file"):
        verify(SyncLogSpec(url=f"sqlite:///{tmp_path}", table="t", id_column="id"))


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a?b#c.db", "ünïcode.db", "%41.db"])
def test_file_names_of_any_kind_are_opened(tmp_path, name):
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as conn:
        conn.execute("CREATE TABLE log AS SELECT 'a' AS id")
    url = make_url("sqlite://").set(database=str(tmp_path / name)).render_as_string()
    assert ids(SyncLogSpec(url=url, table="log", id_column="id")) == ["a"]


def test_a_locked_log_is_named_after_the_busy_timeout(tmp_path):
    path = tmp_path / "p.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as conn:
        conn.execute("CREATE TABLE log AS SELECT 'a' AS id")
        conn.execute("BEGIN EXCLUSIVE")
        spec = SyncLogSpec(url=f"sqlite:///{path}", table="log", id_column="id", busy_timeout_s=0.1)
        with pytest.raises(SyncLogError, match=r"p\.db is locked by a writer; end its long transaction"):
            verify(spec)
        writer = threading.Timer(0.2, conn.execute, ["COMMIT"])
        writer.start()
        assert ids(SyncLogSpec(url=f"sqlite:///{path}", table="log", id_column="id")) == ["a"]
        writer.join()


def test_a_wal_log_is_read_if_its_side_files_cannot_be_created(tmp_path):
    path = tmp_path / "p.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("CREATE TABLE log AS SELECT 'a' AS id")
        conn.commit()
    (tmp_path / "p.db-shm").mkdir()  # blocks root, too
    assert ids(SyncLogSpec(url=f"sqlite:///{path}", table="log", id_column="id")) == ["a"]


AS_NOBODY = """
import os, pwd, sys
from monitor.synclog import SyncLogSpec, read
if os.geteuid() == 0:  # root may read anything
    os.setuid(pwd.getpwnam("nobody").pw_uid)
try:
    print(*[e.item_id for rows in read(SyncLogSpec(url=sys.argv[1], table="log", id_column="id")) for e in rows])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("mode", "rights", "said"),
    [("WAL", 0o444, "a\n"), ("DELETE", 0o444, "a\n"), ("DELETE", 0o000, "SyncLogError sync log {} can't be opened;")],
)
def test_read_permission_on_folder_and_file_is_enough(mode, rights, said):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "p.db"
        with contextlib.closing(sqlite3.connect(path)) as conn:
            conn.execute(f"PRAGMA journal_mode={mode}")
            conn.execute("CREATE TABLE log AS SELECT 'a' AS id")
            conn.commit()
        path.chmod(rights)
        path.parent.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"sqlite:///{path}"],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=240,
        )  # fmt: skip
        path.parent.chmod(0o755)
        assert done.stdout.startswith(said.format(path))


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"username": "canary_user", "password": SECRET}, "refused the user or the password; check the credentials"),
        ({"database": "no_such_db"}, "does not exist on that server; correct the name"),
        ({"port": "free", "password": SECRET}, "can't be reached; check that the server runs"),
        ({"host": "host.invalid", "password": SECRET}, "can't be reached; check that the server runs"),
    ],
    ids=["login", "database", "refused", "name"],
)
def test_an_unusable_server_is_named_without_user_and_password(postgres_url, change, said):
    if change.get("port") == "free":
        change = {**change, "port": _free_port()}
    url = make_url(postgres_url).set(**change)
    spec = SyncLogSpec(url=url.render_as_string(hide_password=False), table="t", id_column="id")
    with pytest.raises(SyncLogError) as caught:
        verify(spec)
    assert str(caught.value).startswith(f"sync log {url.host}:{url.port}/{url.database} {said}")
    assert "canary" not in str(caught.value) + repr(spec)
    assert make_url(postgres_url).password not in str(caught.value) + repr(spec)


def test_a_missing_grant_is_named_with_the_table(new_postgres):
    url = new_postgres()
    role = f"reader_{make_url(url).database}"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE TABLE log (id text, hidden text)")
        reader = make_url(url).set(username=role, password="x").render_as_string(hide_password=False)
        spec = SyncLogSpec(url=reader, table="log", id_column="id")
        try:
            with pytest.raises(SyncLogError, match='table "log": this user may not read it; grant it SELECT'):
                verify(spec)
            conn.execute(f"GRANT SELECT (id) ON log TO {role}")
            verify(spec)
        finally:
            conn.execute(f"REVOKE ALL ON log FROM {role}; DROP ROLE {role}")


@pytest.mark.parametrize("url", ["mysql://u:canary@h/d", "canary", "sqlite://"])
def test_an_unusable_url_is_refused_without_repeating_it(url):
    with pytest.raises(SyncLogError, match=r"^sync log: ") as caught:
        verify(SyncLogSpec(url=url, table="t", id_column="id"))
    assert "canary" not in str(caught.value)


def test_the_path_parameters_of_each_row_are_read(pipeline, spec):
    pipeline(
        "CREATE TABLE sync_log (item_id TEXT, store TEXT, space BIGINT)",
        "INSERT INTO sync_log VALUES ('a', 'vs_1', 7), ('b', NULL, 8)",
    )
    logged = spec(param_columns={"vector_store_id": "store", "space_id": "SPACE"})
    assert [entry.params for rows in read(logged) for entry in rows] == [
        {"vector_store_id": "vs_1", "space_id": "7"}, {"vector_store_id": None, "space_id": "8"},
    ]  # fmt: skip


def test_a_column_of_a_path_parameter_that_does_not_exist_is_named(pipeline, spec):
    pipeline("CREATE TABLE sync_log (item_id TEXT, store TEXT)")
    with pytest.raises(SyncLogError, match='it has no column "stor"; did you mean "store"'):
        verify(spec(param_columns={"vector_store_id": "stor"}))


NO_IDS = {
    "text[]": "'{a,b}'",
    "uuid[]": "'{6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11}'",
    "boolean": "true",
    "int4range": "'[1,5)'",
    "point": "'(1,2)'",
    "pair": "ROW('a', 'b')",
    "truth": "true",
    "tsvector": "'a b'",
}


@pytest.mark.parametrize(("kind", "value"), NO_IDS.items(), ids=NO_IDS)
def test_a_column_of_a_type_without_ids_is_refused_on_postgresql(new_postgres, kind, value):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TYPE pair AS (one text, other text); CREATE DOMAIN truth AS boolean")
        conn.execute(f"CREATE TABLE log (id {kind}, at text); INSERT INTO log VALUES ({value}, '')")
    shown = "boolean" if kind == "truth" else kind
    said = (
        rf'table "log": its column "id" is of the type {re.escape(shown)}, no value of which is an id; name the column'
    )
    with pytest.raises(SyncLogError, match=said):
        verify(SyncLogSpec(url=url, table="log", id_column="id"))
    assert ids(SyncLogSpec(url=url, table="log", id_column="at", group_column="id")) == [""]


def test_a_boolean_column_is_refused_on_sqlite(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (id BOOLEAN)")
    with pytest.raises(SyncLogError, match='column "id" is of the type BOOLEAN, no value of which is an id'):
        verify(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id"))


def test_ids_in_json_are_read_and_other_rows_do_not_stop_them(pipeline, spec):
    rows = ['{"item_id": "a"}', '{"item_id": 7}', '{"item_id": ["b"]}', '{"other": 1}', "no json"]
    values = ", ".join(f"('{row}')" for row in rows)
    pipeline("CREATE TABLE sync_log (item_id TEXT)", f"INSERT INTO sync_log VALUES {values}")
    [found] = read(spec(id_path="$.item_id"))
    assert [entry.item_id for entry in found] == ["a", "7", None, None, None]
    assert [entry.not_an_id for entry in found] == [None, None, "a JSON array", None, "no JSON"]
    [found] = read(spec())
    assert [entry.not_an_id for entry in found] == [*["a JSON object"] * 4, None]
    with pytest.raises(SyncLogError, match=r'table "sync_log": id_path must be "\$" with members'):
        verify(spec(id_path="item_id"))


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json_columns_of_postgresql_hold_ids_or_documents_with_ids(new_postgres, kind):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TABLE log (id {kind})")
        rows = [""" '"a"' """, "'7'", "'null'", "'true'", """ '{"in": {"id": "b"}}' """, "NULL"]
        conn.execute(f"INSERT INTO log VALUES {', '.join(f'({row})' for row in rows)}")
    plain = SyncLogSpec(url=url, table="log", id_column="id")
    assert ids(plain) == ["a", "7", None, None, None, None]
    [found] = read(plain)
    assert [entry.not_an_id for entry in found] == [None, None, None, "a JSON boolean", "a JSON object", None]
    assert ids(SyncLogSpec(url=url, table="log", id_column="id", id_path="$.in.id")) == [*[None] * 4, "b", None]


def test_a_time_in_json_is_read(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("""CREATE TABLE log (id text, at jsonb); INSERT INTO log VALUES ('a', '"2026-07-01T12:00:00Z"')""")
    [[entry]] = read(SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at"))
    assert entry.submitted_at == NOON


def test_a_time_format_is_used(pipeline, spec):
    pipeline(
        "CREATE TABLE sync_log (item_id TEXT, at TEXT)",
        "INSERT INTO sync_log VALUES ('a', '01.07.2026 14:00'), ('b', '2026-07-01T12:00:00Z'), ('c', ' ')",
    )
    found = spec(submitted_at_column="at", time_format="%d.%m.%Y %H:%M", timezone="Europe/Paris")
    assert list(read(found)) == [
        [
            SyncLogEntry(item_id="a", submitted_at=NOON),
            SyncLogEntry(item_id="b", unreadable_time="2026-07-01T12:00:00Z"),
            SyncLogEntry(item_id="c"),
        ]
    ]


@pytest.mark.parametrize(
    "setting",
    ["DATABASE {database} SET timezone = 'America/New_York'", "ROLE {role} SET timezone = 'America/New_York'"],
)
def test_times_without_zone_are_read_in_the_zone_of_the_server(new_postgres, setting):
    url, role = new_postgres(), f"monitor_role_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "CREATE TABLE log (id text, naive timestamp(3), aware timestamptz, written text); "
            "INSERT INTO log VALUES ('a', '2026-07-01 08:00', '2026-07-01 12:00+00', '2026-07-01 08:00')"
        )
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            admin.execute(f"GRANT SELECT ON log TO {role}")
            admin.execute(f"ALTER {setting.format(database=make_url(url).database, role=role)}")
            of_role = make_url(url).set(username=role, password="x").render_as_string(hide_password=False)
            for column in ("naive", "aware", "written"):
                named = SyncLogSpec(
                    url=of_role, table="log", id_column="id", submitted_at_column=column, timezone="server"
                )
                [[entry]] = read(named)
                assert (column, entry.submitted_at) == (column, NOON)
                told = ("America/New_York", NOON.replace(hour=8, tzinfo=None)) if column == "naive" else (None, None)
                assert (describe(named).server_zone, describe(named).newest) == told
        finally:
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_infinite_times_do_not_hide_the_newest(new_postgres):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE log (id text, at timestamp, state text)")
        conn.execute(
            "INSERT INTO log VALUES ('a', 'infinity', 'x'), ('b', '2026-07-01 12:00', 'x'), ('c', '2026-08-01', 'y')"
        )
    spec = SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at", where={"state": "x"})
    assert describe(spec).newest == NOON.replace(tzinfo=None)


def test_a_zone_of_the_server_that_is_unknown_here_is_named(new_postgres):
    url = new_postgres()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {make_url(url).database} SET timezone = '<+03>-03'")
        conn.execute("CREATE TABLE log (id text)")
    with pytest.raises(SyncLogError, match=r'the server\'s time zone "<\+03>-03" is not known here; name one like'):
        verify(SyncLogSpec(url=url, table="log", id_column="id", timezone="server"))


def test_sqlite_has_no_server(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn:
        conn.execute("CREATE TABLE log (id TEXT)")
    with pytest.raises(SyncLogError, match=r"SQLite has no server, so timezone can't be"):
        verify(SyncLogSpec(url=f"sqlite:///{tmp_path}/p.db", table="log", id_column="id", timezone="server"))


def test_a_view_that_takes_long_to_say_its_newest_time_is_not_waited_for(new_postgres, monkeypatch):
    monkeypatch.setattr("monitor.synclog.server._MAX_WAIT_S", 0.1)
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(
            "CREATE VIEW log AS SELECT 'a'::text AS id, timestamp '2026-07-01' AS at WHERE pg_sleep(60) IS NOT NULL"
        )
    facts = describe(SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at"))
    assert (facts.newest, facts.server_zone is None) == (None, False)
