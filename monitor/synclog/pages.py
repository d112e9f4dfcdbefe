"""Reads a sync log in pages, each with a digest of its rows, so that only pages that changed become entries.

A page is found again by its key. In a table of SQLite it is the first rowid: a page ends where the next known one
begins, so that a row that is added or deleted changes one page. Elsewhere rows are counted, in the order in which they
come. A digest is of the rows as the driver returns them, and of everything that decides what is made of them.
`postgres_pages` lets the server make it.
"""

import hashlib
import marshal
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from monitor.model import SyncLogEntry

PAGE_ROWS = 1000
DIGEST_SIZE = 16
READER_VERSION = 1
"""Higher with each change of what is made of a row: it makes all stored digests differ."""

Row = Sequence[Any]
Known = Mapping[str, bytes]
"""By key, the digests of pages that were read before."""
Bound = int | str
Newest = str | int | float | None


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """What the `updated_at_column` of a log said when it was last read."""

    read_at: datetime
    """By the monitor's clock, before it was read."""
    newest: Newest
    """The newest value, as the database orders them; None: there is none, or none that can be stored."""
    place: str
    """What has to be the same: the server or file, the table, and all settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStart:
    """Comes before the pages of a log with an `updated_at_column`."""

    newest: Newest
    place: str
    rows: int | None
    """The rows of the whole log, if only pages that may have changed were read; None: all were compared."""
    doubt: str | None = None
    """Why all were compared."""


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a sync log. Pages come in the order of the rows."""

    key: str
    digest: bytes | None
    """None: it can't be compared, so nothing is stored about it."""
    rows: int
    """0 for a known page that was not read."""
    entries: Sequence[SyncLogEntry] | None
    """None: the page is the known one."""


def whole_log(batches: Iterable[Sequence[SyncLogEntry]]) -> Generator[LogPage, None, None]:
    """Batches of entries as pages that can't be compared."""
    for number, entries in enumerate(batches):
        yield LogPage(key=str(number), digest=None, rows=len(entries), entries=entries)


class Pager(msgspec.Struct, frozen=True, kw_only=True):
    """Makes pages of rows."""

    known: Known
    seed: bytes
    """What else decides what is made of a row."""
    entry: Callable[[Row], SyncLogEntry]

    def page(self, key: Bound, rows: list[tuple[Any, ...]], *, skip: int = 0) -> LogPage:
        """One page; the first `skip` columns of its rows are no part of an entry."""
        digest = self.digest(rows)
        same = self.known.get(str(key)) == digest
        entries = None if same else [self.entry(row[skip:]) for row in rows]
        return LogPage(key=str(key), digest=digest, rows=len(rows), entries=entries)

    def unread(self, key: Bound) -> LogPage:
        """A known page that need not be read."""
        return LogPage(key=str(key), digest=self.known[str(key)], rows=0, entries=None)

    def digest(self, facts: list[tuple[Any, ...]] | tuple[Any, ...]) -> bytes:
        """The digest of rows, or of what a server says of them: numbers, texts and bytes."""
        # version 2: the bytes depend on the values alone, not on which of them are one object
        return hashlib.blake2b(marshal.dumps(facts, 2), digest_size=DIGEST_SIZE, key=self.seed).digest()


def seed(*facts: object) -> bytes:
    """The seed of digests: equal for equal facts, each of which has a `repr` that tells all of it."""
    return hashlib.blake2b(repr((READER_VERSION, *facts)).encode("utf-8", "surrogateescape")).digest()


def in_ranges(
    fetch: Callable[[Bound | None, Bound | None, int], list[tuple[Any, ...]]],
    starts: Sequence[Bound],
    *,
    size: int,
    after: Bound | None = None,
    end: Bound | None = None,
) -> Iterator[tuple[Bound, list[tuple[Any, ...]]]]:
    """Yields key and rows of each page of `size` (> 0) rows; a known one that has grown to twice the size is split.

    `starts` are the keys of the known pages, in their order. `fetch(after, before, limit)` returns rows in the order of
    their keys, which come in front: those after `after` (None: from the first), and before `before` (None: to the
    last). Only rows after `after` and before `end` are read.
    """
    last = after
    for before in [*starts[1:], *([] if end is None else [end])]:
        grown = True
        while grown and (rows := fetch(last, before, 2 * size)):
            grown = len(rows) == 2 * size
            rows = rows[:size] if grown else rows
            yield rows[0][0], rows
            last = rows[-1][0]
    while end is None and (rows := fetch(last, None, size)):
        yield rows[0][0], rows
        if len(rows) < size:
            return
        last = rows[-1][0]
