"""Loads the pages of a sync log that changed into temporary tables; on SQLite this locks nothing in our database."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    insert,
    literal_column,
    or_,
    select,
    true,
)

from monitor.database.bulk import Bulk, create_staging_table, drop_staging_table, timestamp_encoder
from monitor.database.engine import insert_in
from monitor.database.tables import UtcDateTime
from monitor.model import SyncLogEntry, SyncReport
from monitor.runs.sync_state import PageState, SyncState, join_ids
from monitor.synclog import LogPage, LogStart
from monitor.synclog.validation import MAX_GROUP_LENGTH, MAX_ID_LENGTH, MAX_SAMPLES, validate_entries

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    _Insert = postgresql.Insert | sqlite.Insert

staged = Table(
    "staged_ids",
    MetaData(),
    Column("item_id", String(MAX_ID_LENGTH), primary_key=True),
    Column("submitted_at", UtcDateTime),
    Column("group_name", String(MAX_GROUP_LENGTH)),
    Column("params", Text),
    Column("seen", Integer, nullable=False),  # rows with this id
    Column("page", Integer, nullable=False),  # of the first of them
    Column("shared", Integer, nullable=False),  # 1: another page has this id, too
    sqlite_with_rowid=False,
    prefixes=["TEMPORARY"],
)
_unsorted = Table(
    "staged_rows", MetaData(), *(Column(each.name, each.type) for each in staged.c), prefixes=["TEMPORARY"]
)
"""The rows of a long log in their order, on SQLite: sorted at once they cost half of random ids in a tree."""
staged_pages = Table(
    "staged_pages",
    MetaData(),
    Column("page", String(MAX_ID_LENGTH), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("valid_from", UtcDateTime),
    Column("valid_until", UtcDateTime),
    Column("counts", Text),
    Column("item_ids", Text, nullable=False),
    prefixes=["TEMPORARY"],
)
former_ids = Table(
    "former_ids",
    MetaData(),
    Column("item_id", String(MAX_ID_LENGTH), primary_key=True),
    sqlite_with_rowid=False,
    prefixes=["TEMPORARY"],
)
"""The ids that were in the pages that changed or are gone."""

_EMPTY = SyncReport()
_COUNTS = tuple(each.name for each in fields(SyncReport) if each.name != "read")
_BATCH = 1000
"""Rows in memory before they are loaded."""
_Row = tuple[object, ...]


@dataclass(slots=True)
class Stage:
    """What was read of a sync log, and loaded."""

    pages: dict[str, PageState] = field(default_factory=dict)
    """All pages, in their order."""
    changed: list[str] = field(default_factory=list)
    """The pages that were loaded."""
    start: LogStart | None = None
    """What came before them, of a log with an `updated_at_column`."""

    @property
    def is_partial(self) -> bool:
        """Whether only pages that may have changed were read."""
        return self.start is not None and self.start.rows is not None

    @property
    def rows(self) -> int:
        """The rows of all pages, as they were read now or before."""
        return sum(page.rows for page in self.pages.values())

    @property
    def is_complete(self) -> bool:
        """Whether the whole log was loaded."""
        return len(self.changed) == len(self.pages)

    def gone(self, state: SyncState) -> list[str]:
        """The pages that were there before."""
        return [key for key in state.pages if key not in self.pages]


class Stager:
    """Fills the temporary tables, which are created when the first page changed."""

    def __init__(self, conn: Connection, *, now: datetime, earliest: bool) -> None:
        self._conn, self._now, self._earliest = conn, now, earliest
        self._encode = timestamp_encoder(conn)
        self._has_tables = self._has_unsorted = False
        self._rows: list[_Row] = []
        self._pages: list[_Row] = []

    def load(self, pages: Iterable[LogPage | LogStart], state: SyncState | None) -> Stage:
        """Loads the pages that come with entries. Raises whatever `pages` raises."""
        stage = Stage()
        for page in pages:
            if isinstance(page, LogStart):
                stage.start = page
                continue
            if page.entries is None and state is not None:
                stage.pages[page.key] = state.pages[page.key]
                continue
            self.create_tables()
            stage.pages[page.key] = self._add(page, page.entries or (), len(stage.changed))
            stage.changed.append(page.key)
            if len(self._rows) >= _BATCH:
                self._flush(more=True)
        self._flush(more=False)
        return stage

    def create_tables(self) -> None:
        """Creates the tables, unless they exist already."""
        if not self._has_tables:
            for table in (staged, staged_pages, former_ids):
                create_staging_table(self._conn, table)
            self._has_tables = True

    def _add(self, page: LogPage, entries: Sequence[SyncLogEntry], number: int) -> PageState:
        usable, report = validate_entries(entries, now=self._now)
        encode = self._encode
        self._rows += [
            (entry.item_id, encode(entry.submitted_at), entry.group, _params(entry), 1, number, 0) for entry in usable
        ]
        item_ids = [entry.item_id or "" for entry in usable]
        distinct = dict.fromkeys(item_ids)
        counts = {name: value for name in _COUNTS if (value := getattr(report, name)) != getattr(_EMPTY, name)}
        if len(distinct) < len(item_ids):
            rows = Counter(item_ids)
            counts["duplicate_ids"] = sorted(item_id for item_id in distinct if rows[item_id] > 1)[:MAX_SAMPLES]
        if page.digest is not None:
            times = [entry.submitted_at for entry in entries if entry.submitted_at is not None]
            past = max((time for time in times if time <= self._now), default=None)
            future = min((time for time in times if time > self._now), default=None)
            written = json.dumps(counts) if counts else None
            facts = (page.key, page.digest, page.rows, encode(past), encode(future), written, join_ids(distinct))
            self._pages.append(facts)
        return PageState(digest=page.digest or b"", rows=page.rows, valid=True, counts=counts)

    def _flush(self, *, more: bool) -> None:
        sort = self._conn.dialect.name == "sqlite" and (more or self._has_unsorted)
        if sort and not self._has_unsorted:
            create_staging_table(self._conn, _unsorted)
            self._has_unsorted = True
        if self._rows:
            statement = _INSERT_UNSORTED if sort else _upsert(self._conn.dialect.name, earliest=self._earliest)
            statement.execute(self._conn, self._rows)
        if self._has_unsorted and not more:
            self._conn.execute(_sort(self._conn, earliest=self._earliest))
            drop_staging_table(self._conn, _unsorted)
        if self._pages:
            _INSERT_PAGE.execute(self._conn, self._pages)
        self._rows, self._pages = [], []


def _plain_insert(table: Table) -> Bulk:
    values = {each.name: bindparam(each.name, type_=each.type) for each in table.c}
    return Bulk(insert(table).values(values), list(values))


_INSERT_PAGE, _INSERT_UNSORTED = _plain_insert(staged_pages), _plain_insert(_unsorted)


@cache
def _upsert(dialect: str, *, earliest: bool) -> Bulk:
    values = {each.name: bindparam(each.name, type_=each.type) for each in staged.c}
    return Bulk(_or_count(insert_in(dialect, staged).values(values), earliest=earliest), list(values))


def _sort(conn: Connection, *, earliest: bool) -> "_Insert":
    """Loads the unsorted rows in the order of their ids, those of one id in the order of the log."""
    # SQLite takes ON CONFLICT for a part of a query without WHERE
    rows = select(*_unsorted.c).where(true()).order_by(_unsorted.c.item_id, literal_column("rowid"))
    return _or_count(
        insert_in(conn.dialect.name, staged).from_select([each.name for each in staged.c], rows), earliest=earliest
    )


def _or_count(row: "_Insert", *, earliest: bool) -> "_Insert":
    """Of several rows with one id the first stays, or with `earliest` the time and group of the earliest."""
    old, new = staged.c, row.excluded
    one: ColumnElement[int] = literal_column("1")  # `Bulk` has no parameters but those of a row
    changes: dict[str, ColumnElement[Any]] = {
        "seen": old.seen + one,
        "shared": case((old.page != new.page, one), else_=old.shared),
    }
    if earliest:
        is_earlier = or_(
            new.submitted_at < old.submitted_at, and_(old.submitted_at.is_(None), new.submitted_at.is_not(None))
        )
        changes |= {name: case((is_earlier, new[name]), else_=old[name]) for name in ("submitted_at", "group_name")}
    return row.on_conflict_do_update(index_elements=[staged.c.item_id], set_=changes)


def _params(entry: SyncLogEntry) -> str | None:
    return json.dumps(entry.params, sort_keys=True, ensure_ascii=False) if entry.params else None
