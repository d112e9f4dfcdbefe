"""Pages of a log: where they begin, when they are the same, and what a server can't compare."""

import contextlib
import sqlite3
from dataclasses import replace

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


def test_known_pages_of_another_log_may_have_keys_that_no_rowid_can_be(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn, conn:
        conn.execute("CREATE TABLE log (id TEXT)")
        conn.execute("INSERT INTO log VALUES ('a')")
    spec = SyncLogSpec(url=f"sqlite:///{tmp_path / 'p.db'}", table="log", id_column="id")
    assert changed(spec, dict.fromkeys(["9300000000000000000", "9400000000000000000", "x", "1"], b"")) == {"a"}


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


def test_rows_without_an_id_are_spread_over_pages(server_log):
    with psycopg.connect(server_log.url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO log SELECT n, now() FROM generate_series(1, 900) AS at, (VALUES (NULL), ('')) AS i (n)"
        )
        conn.execute("UPDATE log SET at = at + random() * interval '1 h'")
        known = known_of(read_pages(server_log, known={}))
        conn.execute("INSERT INTO log VALUES (NULL, now()), ('', now())")
    sent = [page for page in read_pages(server_log, known=known) if page.entries is not None]
    assert 2 <= sum(page.rows for page in sent) < 20
    assert {entry.item_id for page in sent for entry in page.entries} >= {None, ""}


def test_a_column_of_json_that_becomes_text_is_a_change(server_log):
    with psycopg.connect(server_log.url, autocommit=True) as conn:
        conn.execute("DELETE FROM log; ALTER TABLE log ALTER id TYPE json USING NULL; INSERT INTO log VALUES ('\"a\"')")
        pages = list(read_pages(server_log, known={}))
        conn.execute("ALTER TABLE log ALTER id TYPE text")
    assert [entry.item_id for page in pages for entry in page.entries] == ["a"]
    assert changed(server_log, known_of(pages)) == {'"a"'}


def test_a_view_that_changes_between_two_queries_is_read_as_it_is_then_and_again(server_log):
    """Row 7 is there when rows are read, and 8 and 9 are when they are counted, as in a view of another server."""
    view = "CREATE OR REPLACE VIEW often AS SELECT * FROM log WHERE id <= '6' OR id {}"
    with psycopg.connect(server_log.url, autocommit=True) as conn:
        conn.execute("DELETE FROM log WHERE length(id) > 1")
        conn.execute(
            view.format("= '7' AND current_query() LIKE 'FETCH%' OR id > '7' AND current_query() NOT LIKE 'FETCH%'")
        )
        spec = replace(server_log, table="often")
        pages = list(read_pages(spec, known={}))
        conn.execute(view.format("= '7'"))
    assert {entry.item_id for page in pages for entry in page.entries} == set("1234567")
    assert [page.key for page in pages] == sorted((page.key for page in pages), key=int)
    assert sum(page.rows for page in pages) == 7
    assert changed(spec, known_of(pages)) == {"7"}


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
