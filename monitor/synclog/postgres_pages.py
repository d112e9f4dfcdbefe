"""Reads a log on PostgreSQL in pages whose digests the server makes, so that only changed pages are sent.

A page has the rows whose ids have one hash: so all rows of an id are in one page, in tables, views and partitions
alike. Rows without an id, of which there may be many, are in the page of the hash of the row. A page's digest is the
number of its rows and the sum of their 64-bit hashes, whatever their order. Both queries have to be in one transaction
of REPEATABLE READ. Some logs may change even there, such as views of another server or of the clock: a page that has
another number of rows than were counted is read again next time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Subquery,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError

from monitor.database.postgres_faults import DatabaseFault
from monitor.database.urls import classify_fault
from monitor.errors import SyncLogError
from monitor.synclog.pages import PAGE_ROWS, LogPage, Pager, Row

PAGES = 1 << 14
"""So that a thousand new ids are in few of a million rows' pages."""
_CAN_HASH = text("SELECT to_regprocedure('hashtextextended(text, bigint)') IS NOT NULL")
_START: ColumnElement[int] = literal_column("0", BigInteger())
"""The seed of the hash of a row."""
NO_DIGEST = b""
"""Of a page that is not the counted one: no page has it."""
_LIMIT_EXCEEDED = "53400"
"""As `temp_file_limit` is."""


class IncomparableError(SyncLogError):
    """The server can't compare the pages, or not within its limits; nothing was yielded."""


def read_postgres_pages(
    conn: Connection, query: Select[Any], decode: Callable[[Row], Row], pager: Pager
) -> Iterator[LogPage]:
    """Yields the rows of `query`, whose first column is the id, in pages.

    Raises IncomparableError, or SQLAlchemyError.
    """
    if not conn.scalar(_CAN_HASH):  # before PostgreSQL 11
        raise IncomparableError("the server has no function that hashes with a seed")
    columns = [each.label(f"c{n}") for n, each in enumerate(query.selected_columns)]
    log = query.with_only_columns(*columns).subquery("log")
    with _limits_of_the_server():
        facts = _page_facts(conn, log)
        changed = [page for page, found in facts.items() if pager.known.get(str(page)) != pager.digest(found)]
        rows = _rows(conn, log, None if len(changed) == len(facts) else changed) if changed else iter(())
        first = next(rows, None)
    by_page = groupby(chain([] if first is None else [first], rows), key=itemgetter(0))
    sent = ((page, [pager.entry(decode(row[2:])) for row in of_page]) for page, of_page in by_page)
    wanted = set(changed)
    known = ((page, None) for page in facts if page not in wanted)
    for page, entries in merge(known, sent, key=itemgetter(0)):
        count, *_ = counted = facts.get(page, (0,))
        rows_now = count if entries is None else len(entries)
        digest = pager.digest(counted) if rows_now == count else NO_DIGEST
        yield LogPage(key=str(page), digest=digest, rows=rows_now, entries=entries)


@contextmanager
def _limits_of_the_server() -> Iterator[None]:
    """Turns an error for lack of time or of temporary space, which reading row by row does not need, into ours."""
    try:
        yield
    except DBAPIError as error:
        if classify_fault(error) is DatabaseFault.TIMEOUT or getattr(error.orig, "sqlstate", None) == _LIMIT_EXCEEDED:
            raise IncomparableError("the server can't compare pages within its limits") from error
        raise


def _page_facts(conn: Connection, log: Subquery) -> Mapping[int, tuple[Any, ...]]:
    """By page, in ascending order, how many rows it has, and the sum of their hashes."""
    # with OFFSET the planner keeps the query apart, so that an id is hashed once
    hashed = select(_hash(log.c.c0, _START).label("hash"), *log.c).offset(0).subquery("hashed")
    line = _line(hashed, hashed.c.hash)
    page = _page(hashed, hashed.c.hash, line).label("page")
    query = select(page, func.count(), cast(func.sum(line), Text)).group_by(page)
    return {row[0]: tuple(row[1:]) for row in sorted(conn.execute(query), key=itemgetter(0))}


def _rows(conn: Connection, log: Subquery, pages: Sequence[int] | None) -> Iterator[Sequence[Any]]:
    """Page, number and columns of the rows of these pages, or of all, by page and then in the table's order."""
    item_hash = _hash(log.c.c0, _START)
    page = _page(log, item_hash, _line(log, item_hash))
    numbered = select(page.label("page"), func.row_number().over().label("number"), *log.c).subquery("numbered")
    query = select(*numbered.c).order_by(numbered.c.page, numbered.c.number)
    if pages is not None:
        query = query.where(numbered.c.page.in_(select(func.unnest(cast(list(pages), ARRAY(Integer))))))
    with conn.execution_options(yield_per=PAGE_ROWS).execute(query) as result:
        yield from result


def _hash(value: ColumnElement[Any], seed: ColumnElement[int]) -> ColumnElement[int]:
    """The hash of a value as text, where `seed` is the hash of those before it; null is unlike any text."""
    written = func.coalesce(literal_column("'='", Text()) + cast(value, Text), "")
    return func.hashtextextended(written.collate("C"), seed)


def _line(log: Subquery, item_hash: ColumnElement[int]) -> ColumnElement[int]:
    """The hash of a row."""
    line = item_hash
    for name in log.c.keys()[log.c.keys().index("c0") + 1 :]:
        line = _hash(log.c[name], line)
    return line


def _page(log: Subquery, item_hash: ColumnElement[int], line: ColumnElement[int]) -> ColumnElement[int]:
    has_none: ColumnElement[bool] = func.coalesce(cast(log.c.c0, Text), "") == literal_column("''")
    return cast(case((has_none, line), else_=item_hash).op("&")(literal_column(str(PAGES - 1))), Integer)
