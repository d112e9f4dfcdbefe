"""Reads a log on PostgreSQL in pages whose digests the server makes, so that only changed pages are sent.

A page has the rows whose ids have one hash: so all rows of an id are in one page, in tables, views and partitions
alike. Rows without an id, of which there may be many, are in the page of the hash of the row. A page's digest is the
number of its rows and the sum of their 64-bit hashes, whatever their order. Both queries have to be in one transaction
of REPEATABLE READ. Some logs may change even there, such as views of another server or of the clock: a page that has
another number of rows than were counted is read again next time.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from heapq import merge
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
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
from sqlalchemy.exc import DBAPIError

from monitor.database.postgres_faults import DatabaseFault
from monitor.database.urls import classify_fault
from monitor.errors import SyncLogError
from monitor.synclog.pages import PAGE_ROWS, LogPage, LogStart, Pager, Row
from monitor.synclog.watermark import Changes

PAGES = 1 << 14
"""So that a thousand new ids are in few of a million rows' pages."""
_MOST_CHANGED = 0.5
"""If more pages may have changed, all are compared."""
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
    conn: Connection, query: Select[Any], decode: Callable[[Row], Row], pager: Pager, changes: Changes | None = None
) -> Iterator[LogPage | LogStart]:
    """Yields the rows of `query`, whose first column is the id, in pages; with `changes` as `read_pages` does.

    Raises IncomparableError, or SQLAlchemyError.
    """
    if not conn.scalar(_CAN_HASH):  # before PostgreSQL 11
        raise IncomparableError("the server has no function that hashes with a seed")
    columns = [each.label(f"c{n}") for n, each in enumerate(query.selected_columns)]
    log = query.with_only_columns(*columns).subquery("log")
    wanted: Collection[int] | None = None
    with _limits_of_the_server():
        if changes is not None:
            start, wanted = _find_changes(conn, query, changes, pager)
        facts = _page_facts(conn, log, wanted)
        changed = [page for page, found in facts.items() if pager.known.get(str(page)) != pager.digest(found)]
        is_all = wanted is None and len(changed) == len(facts)
        rows = _rows(conn, log, None if is_all else changed) if changed else iter(())
        first = next(rows, None)
    if changes is not None:
        yield start
    unread = set() if wanted is None else _page_numbers(pager).difference(wanted)
    by_page = groupby(chain([] if first is None else [first], rows), key=itemgetter(0))
    sent = ((page, [pager.entry(decode(row[2:])) for row in of_page]) for page, of_page in by_page)
    known = ((page, None) for page in sorted(unread.union(facts).difference(changed)))
    for page, entries in merge(known, sent, key=itemgetter(0)):
        if page in unread:
            yield pager.unread(page)
            continue
        count, *_ = counted = facts.get(page, (0,))
        rows_now = count if entries is None else len(entries)
        digest = pager.digest(counted) if rows_now == count else NO_DIGEST
        yield LogPage(key=str(page), digest=digest, rows=rows_now, entries=entries)


def _find_changes(
    conn: Connection, query: Select[Any], changes: Changes, pager: Pager
) -> tuple[LogStart, Collection[int] | None]:
    """What comes before the pages, and which of them have to be read; None: all."""
    start = changes.start(conn.execute(query.with_only_columns(*changes.facts)).one())
    if start.rows is None or changes.since is None or not pager.known:
        return start, None
    for wanted in changes.may_have_changed(changes.since):
        columns = [each.label(f"c{n}") for n, each in enumerate(query.selected_columns)]
        log = query.where(wanted).with_only_columns(*columns).subquery("log")
        item_hash = _hash(log.c.c0, _START)
        found = set(conn.execute(select(_page(log, item_hash, _line(log, item_hash))).distinct()).scalars())
        if len(found) <= PAGES * _MOST_CHANGED:
            return start, found.union(_page_numbers(pager, only_outdated=True))
    return replace(start, rows=None, doubt="very many rows may have changed"), None


def _page_numbers(pager: Pager, *, only_outdated: bool = False) -> set[int]:
    """The known pages. `only_outdated`: those that are known to be other than they were."""
    return {int(key) for key, digest in pager.known.items() if not (only_outdated and digest)}


@contextmanager
def _limits_of_the_server() -> Iterator[None]:
    """Turns an error for lack of time or of temporary space, which reading row by row does not need, into ours."""
    try:
        yield
    except DBAPIError as error:
        if classify_fault(error) is DatabaseFault.TIMEOUT or getattr(error.orig, "sqlstate", None) == _LIMIT_EXCEEDED:
            raise IncomparableError("the server can't compare pages within its limits") from error
        raise


def _page_facts(conn: Connection, log: Subquery, wanted: Collection[int] | None) -> Mapping[int, tuple[Any, ...]]:
    """By page, how many rows it has, and the sum of their hashes: of these pages, or of all, in ascending order."""
    if wanted is not None and not wanted:
        return {}
    # with OFFSET the planner keeps the query apart, so that an id is hashed once
    hashed = select(_hash(log.c.c0, _START).label("hash"), *log.c).offset(0).subquery("hashed")
    line = _line(hashed, hashed.c.hash)
    page = _page(hashed, hashed.c.hash, line).label("page")
    query = select(page, func.count(), cast(func.sum(line), Text)).group_by(page)
    if wanted is not None:
        query = query.where(_is_one_of(page, wanted))
    return {row[0]: tuple(row[1:]) for row in sorted(conn.execute(query), key=itemgetter(0))}


def _rows(conn: Connection, log: Subquery, pages: Sequence[int] | None) -> Iterator[Sequence[Any]]:
    """Page, number and columns of the rows of these pages, or of all, by page and then in the table's order."""
    item_hash = _hash(log.c.c0, _START)
    page = _page(log, item_hash, _line(log, item_hash))
    numbered = select(page.label("page"), func.row_number().over().label("number"), *log.c).subquery("numbered")
    query = select(*numbered.c).order_by(numbered.c.page, numbered.c.number)
    if pages is not None:
        query = query.where(_is_one_of(numbered.c.page, pages))
    with conn.execution_options(yield_per=PAGE_ROWS).execute(query) as result:
        yield from result


def _hash(value: ColumnElement[Any], seed: ColumnElement[int]) -> ColumnElement[int]:
    """The hash of a value as text, where `seed` is the hash of those before it; null is unlike any text."""
    written = func.coalesce(literal_column("'='", Text()) + cast(value, Text), "")
    return func.hashtextextended(written.collate("C"), seed)


def _is_one_of(page: ColumnElement[int], pages: Collection[int]) -> ColumnElement[bool]:
    return page.in_(select(func.unnest(cast(list(pages), ARRAY(Integer)))))


def _line(log: Subquery, item_hash: ColumnElement[int]) -> ColumnElement[int]:
    """The hash of a row."""
    line = item_hash
    for name in log.c.keys()[log.c.keys().index("c0") + 1 :]:
        line = _hash(log.c[name], line)
    return line


def _page(log: Subquery, item_hash: ColumnElement[int], line: ColumnElement[int]) -> ColumnElement[int]:
    has_none: ColumnElement[bool] = func.coalesce(cast(log.c.c0, Text), "") == literal_column("''")
    return cast(case((has_none, line), else_=item_hash).op("&")(literal_column(str(PAGES - 1))), Integer)
