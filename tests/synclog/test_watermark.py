"""Which tables and columns an `updated_at_column` can be, and which of their values are in the order of time."""

import contextlib
import sqlite3
from datetime import UTC, datetime

import psycopg
import pytest

from monitor.errors import SyncLogError
from monitor.synclog import LogStart, SyncLogSpec, read_pages, verify
from monitor.synclog.timestamps import day_sign, number_ranges, time_reader

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn, conn:
        conn.execute("CREATE TABLE log (id TEXT PRIMARY KEY, upd) WITHOUT ROWID")
        conn.execute("CREATE VIEW seen AS SELECT * FROM log")
        conn.execute("CREATE TABLE plain (id TEXT, upd, Changed_At TEXT)")
    return tmp_path / "p.db"


def refusal(url, table, column, read=verify):
    with pytest.raises(SyncLogError) as refused:
        read(SyncLogSpec(url=url, table=table, id_column="id", updated_at_column=column))
    return str(refused.value)


@pytest.mark.parametrize("table", ["log", "seen"])
@pytest.mark.parametrize("read", [verify, lambda spec: list(read_pages(spec, known={}))], ids=["verify", "read"])
def test_a_view_of_sqlite_and_a_table_without_rowids_are_refused(file, table, read):
    sentence = refusal(f"sqlite:///{file}", table, "upd", read)
    assert f'table "{table}": updated_at_column finds rows by their rowid' in sentence


def test_a_column_that_is_not_there_is_refused_with_the_one_that_is_meant(file):
    sentence = refusal(f"sqlite:///{file}", "plain", "change_at")
    assert 'it has no column "change_at"; did you mean "Changed_At"?' in sentence


def test_a_column_of_a_server_without_times_is_refused(new_postgres):
    url = new_postgres()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE log (id text, upd boolean, facts jsonb, clock time)")
    for column, kind in (("upd", "boolean"), ("facts", "jsonb"), ("clock", "time without time zone")):
        assert f'column "{column}" is of the type {kind}, whose values are no times' in refusal(url, "log", column)


ODD = ["'2026-02-31'", "1e400", "x'ff'", "cast(x'ff' as text)", "char(0)", f"'{'9' * 200}'", "NULL"]


@pytest.mark.parametrize("value", ODD)
def test_a_newest_value_that_is_no_time_is_no_watermark_but_ends_no_read(file, value):
    with contextlib.closing(sqlite3.connect(file)) as conn, conn:
        conn.execute(f"INSERT INTO plain VALUES ('a', {value}, NULL)")
    spec = SyncLogSpec(url=f"sqlite:///{file}", table="plain", id_column="id", updated_at_column="upd")
    start, page = read_pages(spec, known={})
    assert isinstance(start, LogStart)
    assert start.newest in {None, "2026-02-31"}
    assert page.rows == 1


@pytest.mark.parametrize("time_format", ["auto", "s", "ms", "us", "ns", "julian"])
def test_numbers_of_a_range_are_in_the_order_of_time(time_format):
    read = time_reader(time_format, UTC)
    for each in number_ranges(time_format):
        number = each.count(NOON)
        assert each.holds(number)
        assert each.holds(str(number))
        assert read(number) <= NOON
        assert not each.holds(each.lowest - 1)
        assert not each.holds("soon")
        assert each.end is None or not each.holds(each.end)


@pytest.mark.parametrize(
    ("time_format", "sign"),
    [("auto", "-"), ("%Y-%m-%dT%H", "-"), ("%Y%m%d", ""), ("%Y.%m.%d", "."), ("%d.%m.%Y", None), ("%Y-%d-%m", None),
     ("%Y/%m-%d", None), ("s", None), ("julian", None)],
)  # fmt: skip
def test_text_is_in_the_order_of_time_if_it_begins_with_year_month_and_day(time_format, sign):
    assert day_sign(time_format) == sign
