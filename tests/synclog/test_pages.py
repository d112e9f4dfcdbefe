"""Pages of a log: where they begin, when they are the same, and what a server can't compare."""

import contextlib
import sqlite3

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from monitor.synclog import SyncLogSpec, read, read_pages
from monitor.synclog.pages import in_ranges


def known_of(pages):
    return {page.key: page.digest for page in pages}


def changed(spec, known, **more):
    """The ids in the pages that are not known."""
    return {entry.item_id for page in read_pages(spec, known=known, **more) for entry in page.entries or ()}


@given(rows=st.sets(st.integers(-20, 60)), starts=st.sets(st.integers(-20, 60), max_size=8), size=st.integers(1, 5))
def test_each_row_is_in_one_page_and_pages_are_in_order(rows, starts, size):
    def fetch(after, before, limit):
        found = (row for row in sorted(rows) if (after is None or row > after) and (before is None or row < before))
        return [(row,) for row, _ in zip(found, range(limit), strict=False)]

    pages = list(in_ranges(fetch, sorted(starts), size=size))
    assert [row for _, page in pages for (row,) in page] == sorted(rows)
    assert all(key == page[0][0] and len(page) < 2 * size for key, page in pages)
    # a long page that is now the last one is split; from then on nothing changes
    once = list(in_ranges(fetch, [key for key, _ in pages], size=size))
    assert list(in_ranges(fetch, [key for key, _ in once], size=size)) == once


@pytest.mark.parametrize("extreme", [(1 << 63) - 1, -(1 << 63)])
def test_a_row_with_the_first_or_last_rowid_is_read(tmp_path, extreme):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn, conn:
        conn.execute("CREATE TABLE log (id TEXT)")
        conn.executemany("INSERT INTO log (rowid, id) VALUES (?, ?)", [(extreme, "a"), (5, "b")])
    spec = SyncLogSpec(url=f"sqlite:///{tmp_path / 'p.db'}", table="log", id_column="id")
    pages = list(read_pages(spec, known={}))
    assert {entry.item_id for page in pages for entry in page.entries} == {"a", "b"}
    assert changed(spec, known_of(pages)) == set()


VALUES = [
    "null",
    "''",
    "'1'",
    "x'31'",
    "1",
    "1.0",
    "x'ff'",
    "cast(x'ff' as text)",
    "'\N{LATIN SMALL LETTER U WITH DIAERESIS}'",
]


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_value_of_another_type_is_a_change(tmp_path, journal):
    spec = SyncLogSpec(url=f"sqlite:///{tmp_path / 'p.db'}", table="log", id_column="id", group_column="grp")
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db", isolation_level=None)) as conn:
        conn.execute(f"PRAGMA journal_mode = {journal}")
        conn.execute("CREATE TABLE log (id TEXT, grp)")
        conn.execute("INSERT INTO log VALUES ('a', 'x')")
        digests = []
        for value in VALUES:
            conn.execute(f"UPDATE log SET grp = {value}")
            pages = list(read_pages(spec, known={}))
            assert changed(spec, known_of(pages)) == set()
            digests += known_of(pages).values()
    assert len(set(digests)) == len(VALUES)


TYPES = {
    "text": ["null", "''", "'='", "'a'", "'null'"],
    "bytea": ["null", "''", r"'\x00'", r"'\xff'"],
    "jsonb": ["null", "'\"\"'", "'{}'"],
    "double precision": ["null", "0", "0.1", "0.30000000000000004", "'NaN'"],
    "timestamptz": ["null", "'infinity'", "'2026-03-01 12:00:00.000001+00'", "'2026-03-01 12:00:00+00'"],
}


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_a_server_tells_values_of_all_types_apart(new_postgres, encoding):
    url = new_postgres()
    if encoding == "SQL_ASCII":
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        url = url.rpartition("/")[0] + "/ascii"
    with psycopg.connect(url, autocommit=True) as conn:
        for number, (kind, values) in enumerate(TYPES.items()):
            spec = SyncLogSpec(url=url, table=f"log{number}", id_column="id", group_column="grp")
            conn.execute(f"CREATE TABLE {spec.table} (id text, grp {kind})")
            conn.execute(f"INSERT INTO {spec.table} VALUES ('a', NULL), (NULL, NULL)")
            digests = []
            for value in values:
                conn.execute(f"UPDATE {spec.table} SET grp = {value} WHERE id = 'a'")
                pages = list(read_pages(spec, known={}))
                assert [page.rows for page in pages] == [1, 1]
                assert changed(spec, known_of(pages)) == set()
                digests.append(tuple(known_of(pages).values()))
            assert len(set(digests)) == len(values), kind
    if encoding == "SQL_ASCII":
        with psycopg.connect(new_postgres(), autocommit=True) as conn:
            conn.execute("DROP DATABASE ascii")


@pytest.fixture
def server_log(new_postgres):
    url = new_postgres()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE log (id text, at timestamptz, grp text)")
        conn.execute("INSERT INTO log SELECT n::text, now(), repeat('x', 50) FROM generate_series(1, 3000) AS n")
    return SyncLogSpec(url=url, table="log", id_column="id", submitted_at_column="at", group_column="grp")


def test_a_server_sends_only_the_pages_that_changed(server_log):
    known = known_of(read_pages(server_log, known={}))
    with psycopg.connect(server_log.url, autocommit=True) as conn:
        conn.execute("UPDATE log SET grp = 'y' WHERE id = '7'")
        conn.execute("INSERT INTO log VALUES ('new')")
        conn.execute("CREATE VIEW seen AS SELECT * FROM log WHERE grp IS NOT NULL")
    ids = changed(server_log, known)
    assert {"7", "new"} <= ids
    assert len(ids) < 20
    assert changed(server_log, known, merged_as=("earliest",)) >= {str(n) for n in range(1, 3001)}


@pytest.mark.parametrize("reason", ["an old server", "little temporary space"])
def test_a_log_that_a_server_cant_compare_is_read_row_by_row(server_log, reason, monkeypatch):
    if reason == "an old server":
        monkeypatch.setattr("monitor.synclog.postgres_pages._CAN_HASH", text("SELECT false"))
    else:
        with psycopg.connect(server_log.url, autocommit=True) as conn:
            database = conn.info.dbname
            conn.execute("INSERT INTO log SELECT n::text FROM generate_series(5000, 30000) AS n")
            conn.execute(f"ALTER DATABASE \"{database}\" SET work_mem = '256kB'")
            conn.execute(f"ALTER DATABASE \"{database}\" SET temp_file_limit = '64kB'")
    pages = list(read_pages(server_log, known={}))
    assert {page.digest for page in pages} == {None}
    assert [entry for page in pages for entry in page.entries] == [entry for rows in read(server_log) for entry in rows]
