"""`where`: which rows of a sync log count."""

import contextlib
import sqlite3

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from monitor.errors import SyncLogError
from monitor.synclog import SyncLogSpec, read

TABLE = """
    CREATE TABLE log (item_id text, status text, deleted_at text, "tenant no" integer, price numeric, code char(5),
    flag text)
"""
ROWS = """
    INSERT INTO log VALUES ('d1', 'done', NULL, 7, 1.5, 'ab', 'true'), ('d2', 'done', '2026', 8, 2, 'ab c', '1'),
    ('d3', 'draft', NULL, 7, NULL, '', 'f'), ('d4', NULL, NULL, NULL, 8.0, NULL, NULL),
    ('d5', 'null', NULL, 0, 0, '7', '8')
"""


@pytest.fixture
def log(synclog_url):
    """The ids of the rows that a filter leaves."""
    url = make_url(synclog_url)
    engine = create_engine(
        url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url, poolclass=NullPool
    )
    with engine.begin() as conn:
        conn.execute(text(TABLE))
        conn.execute(text(ROWS))
        conn.execute(text("CREATE VIEW seen AS SELECT *, \"tenant no\" + 0 AS number, status || '' AS word FROM log"))
    engine.dispose()

    def ids(where, table="log"):
        spec = SyncLogSpec(url=synclog_url, table=table, id_column="item_id", where=where)
        return sorted(entry.item_id for rows in read(spec) for entry in rows)

    return ids


FILTERS = [
    ({}, "d1 d2 d3 d4 d5"),
    ({"status": "done"}, "d1 d2"),
    ({"status": ("done", "draft")}, "d1 d2 d3"),
    ({"status": "null"}, "d4"),
    ({"status": ("null",)}, "d5"),
    ({"status": "not null"}, "d1 d2 d3 d5"),
    ({"status": ("DONE",)}, ""),
    ({"STATUS": "done", "deleted_at": "null"}, "d1"),
    ({"tenant no": (7,)}, "d1 d3"),
    ({"tenant no": "7"}, "d1 d3"),
    ({"tenant no": 7.0}, "d1 d3"),
    ({"tenant no": (True, False)}, "d5"),
    ({"price": 8}, "d4"),
    ({"price": (1.5, "2")}, "d1 d2"),
    ({"flag": 8}, "d5"),
    ({"flag": 8.0}, "d5"),
    ({"status": "x' OR '1'='1"}, ""),
    ({"status": ("--5", "-", "99999999999999999999", "done")}, "d1 d2"),
    ({"price": (10**20, 1e300, 8)}, "d4"),
    ({"tenant no": tuple(range(1000))}, "d1 d2 d3 d5"),
    ({"status": ("done", 'x"); --')}, "d1 d2"),
    ({"status": ":a %s %(b)s ?"}, ""),
]


@pytest.mark.parametrize(("where", "left"), FILTERS, ids=str)
def test_only_rows_that_match_are_there(log, where, left):
    assert log(where) == left.split()


@pytest.mark.parametrize(
    ("where", "left"), [({"number": "7"}, "d1 d3"), ({"number": 7}, "d1 d3"), ({"word": "done"}, "d1 d2")], ids=str
)
def test_columns_of_a_view_are_compared_alike(log, where, left):
    assert log(where, "seen") == left.split()


def test_a_column_that_does_not_exist_is_named(log):
    with pytest.raises(SyncLogError, match='table "log": it has no column "staus"; did you mean "status"'):
        log({"staus": "done"})
    with pytest.raises(SyncLogError, match='has no column "status" = \'x\' or "1"'):
        log({"status\" = 'x' or \"1": "1"})


@pytest.mark.parametrize(
    ("definition", "value", "where", "left"),
    [
        ("mood", "'sad'", ("sad", "happy"), ["a"]),
        ("boolean", "true", True, ["a"]),
        ("boolean", "true", ("f",), []),
        ("char(5)", "'ab'", "ab", ["a"]),
        ("varchar(3)", "'abc'", "abcd", []),
        ("uuid", "'6C0D4C44-3F5E-4A39-A0CF-4B0A3B3F6A11'", "6c0d4c443f5e4a39a0cf4b0a3b3f6a11", ["a"]),
        ("timestamptz", "'2026-07-01 12:00+00'", "2026-07-01T14:00+02", ["a"]),
        ("json", "'\"done\"'", "done", ["a"]),
        ("jsonb", "'\"done\"'", ("done",), ["a"]),
        ("double precision", "7", 7, ["a"]),
        ("bytea", "'abc'", "abc", ["a"]),
    ],
)
def test_values_are_of_the_type_of_their_column_on_postgresql(new_postgres, definition, value, where, left):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        conn.execute(f"CREATE TABLE log (id text, kind {definition}); INSERT INTO log VALUES ('a', {value})")
    spec = SyncLogSpec(url=url, table="log", id_column="id", where={"kind": where})
    assert [entry.item_id for rows in read(spec) for entry in rows] == left


@pytest.mark.parametrize(
    ("definition", "where", "said"),
    [
        ("mood", "glad", '"kind", of the type mood, with "glad"; correct the value'),
        ("integer", ("7", "seven"), '"kind", of the type integer, with "7" or "seven"; correct the value'),
        ("boolean", 3.5, '"kind", of the type boolean, with 3.5; correct the value'),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_named(new_postgres, definition, where, said):
    url = new_postgres()
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE log (id text, kind {definition})")
    spec = SyncLogSpec(url=url, table="log", id_column="id", where={"kind": where})
    with pytest.raises(SyncLogError, match=f"where can't compare its column {said}$"):
        list(read(spec))


def test_a_collation_of_the_application_does_not_matter(tmp_path):
    path = tmp_path / "p.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.create_collation("OURS", lambda one, other: 0)
        conn.execute("CREATE TABLE log (id TEXT, status TEXT COLLATE OURS, kind TEXT COLLATE NOCASE)")
        conn.execute("INSERT INTO log VALUES ('a', 'done', 'X'), ('b', 'draft', 'x')")
        conn.commit()
    for where, left in (({"status": "done"}, ["a"]), ({"kind": "x"}, ["b"])):
        spec = SyncLogSpec(url=f"sqlite:///{path}", table="log", id_column="id", where=where)
        assert [entry.item_id for rows in read(spec) for entry in rows] == left
