"""What the last sync of a target saw of its log: stored with the items in one transaction, so that they agree."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, reduce
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Delete,
    Row,
    Select,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from monitor.database.engine import in_chunks
from monitor.database.sync_tables import sync_log_pages, sync_logs
from monitor.database.tables import UtcDateTime, canaries, items
from monitor.model import SyncReport
from monitor.synclog import LogStart, Watermark
from monitor.synclog.validation import add_counts

COPY_EVERY = timedelta(days=1)
"""All rows are merged at least this often, whatever is known of them."""
MAX_NAMED = 1000
"""Ids that are stored by name, of those that make a sync of some pages impossible."""
_SEPARATOR = "\n"
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)


class PageState(msgspec.Struct, frozen=True, kw_only=True):
    """A page as it was merged."""

    digest: bytes
    rows: int
    valid: bool
    """Whether at this time its upload times are as far in the past and future as they were."""
    counts: Mapping[str, Any]
    """What can't be used in it, as fields of `SyncReport`, and its duplicates."""


class SyncState(msgspec.Struct, frozen=True, kw_only=True):
    """What the last sync of a target saw."""

    copied_at: datetime
    tracked: int
    duplicate: int
    duplicate_ids: Sequence[str]
    shared: int
    """How many ids have rows in several pages."""
    shared_ids: Sequence[str]
    canaries: int
    """How many ids in the log are documents of canaries."""
    canary_ids: Sequence[str]
    tracks_canary: bool
    """Whether a document of a canary is among the items."""
    file: str | None
    file_read_at: datetime | None
    watermark: Watermark | None
    """With an `updated_at_column`: as of the last merge, or the last time that all pages were compared."""
    pages: Mapping[str, PageState]
    """In the order of the log, where their keys are numbers."""

    def is_same_file(self, file: str | None, now: datetime) -> bool:
        """Whether nothing was written to the log's file since it was read, less than a day ago."""
        if file is None or file != self.file or self.file_read_at is None:
            return False
        is_recent = self.file_read_at <= now < self.file_read_at + COPY_EVERY
        return is_recent and all(page.valid for page in self.pages.values())

    @property
    def rows(self) -> int:
        """How many rows the log had."""
        return sum(page.rows for page in self.pages.values())

    def is_due(self, now: datetime) -> bool:
        """Whether all rows have to be merged again; also if the clock went back."""
        return not self.copied_at <= now < self.copied_at + COPY_EVERY

    def since(self, now: datetime) -> Watermark | None:
        """The watermark, unless the clock went back."""
        return self.watermark if self.watermark is not None and self.watermark.read_at <= now else None

    @property
    def incomparable(self) -> bool:
        """Whether the pages could not be compared: for a day, this is not tried again."""
        return bool(self.tracked) and not self.pages

    @property
    def known(self) -> Mapping[str, bytes]:
        """By page, the digest that says that nothing changed; one that no page has where this can't be said."""
        return {key: page.digest if page.valid else b"" for key, page in self.pages.items()}


def load(conn: Connection, *, target: str, now: datetime) -> SyncState | None:
    """What the last sync saw; None if nothing is known."""
    row = conn.execute(_stored(), {"of_target": target}).mappings().one_or_none()
    if row is None:
        return None
    stored_pages = conn.execute(_stored_pages(), {"of_target": target, "at": now})
    pages = {
        key: PageState(digest=digest, rows=rows, valid=bool(is_valid), counts=json.loads(counts) if counts else {})
        for key, digest, rows, is_valid, counts in sorted(stored_pages, key=_position)
    }
    stored = {name: value for name, value in row.items() if name not in {"target", "watermark"}}
    return SyncState(**stored, watermark=_watermark(row["watermark"]), pages=pages)


@cache  # as the others, every run executes it
def _stored() -> Select[Any]:
    of_target = bindparam("of_target", type_=String)
    of_canary = and_(items.c.target == of_target, items.c.item_id == canaries.c.item_id, items.c.removed_at.is_(None))
    tracked = select(canaries.c.id).join(items, of_canary).where(canaries.c.target == of_target).exists()
    return select(sync_logs, tracked.label("tracks_canary")).where(sync_logs.c.target == of_target)


@cache
def _stored_pages() -> Select[Any]:
    page, at = sync_log_pages.c, bindparam("at", type_=UtcDateTime)
    valid = and_(
        or_(page.valid_from.is_(None), page.valid_from <= at), or_(page.valid_until.is_(None), page.valid_until > at)
    )
    return select(page.page, page.digest, page.rows, valid, page.counts).where(page.target == bindparam("of_target"))


def _watermark(stored: Mapping[str, Any] | None) -> Watermark | None:
    if stored is None:
        return None
    read_at = datetime.fromisoformat(stored["read_at"])
    return Watermark(read_at=read_at, newest=stored["newest"], place=stored["place"])


def stored_watermark(start: LogStart | None, *, now: datetime) -> Mapping[str, object] | None:
    """A watermark as it is stored, of a log that was read from `now` on; None without an `updated_at_column`."""
    return None if start is None else {"read_at": now.isoformat(), "newest": start.newest, "place": start.place}


def store_watermark(conn: Connection, *, target: str, start: LogStart, now: datetime) -> None:
    """Stores it of a log whose pages were all compared, and are as they were."""
    values = {"watermark": stored_watermark(start, now=now)}
    conn.execute(update(sync_logs).where(sync_logs.c.target == target).values(values))


def _position(row: Row[tuple[Any, ...]]) -> tuple[int, str]:
    key = str(row[0])
    return (int(key), key) if _NUMBER.fullmatch(key) else (0, key)


def store_file(conn: Connection, *, target: str, file: str, now: datetime) -> None:
    """Stores the state in which the log's file was before it was read."""
    conn.execute(update(sync_logs).where(sync_logs.c.target == target).values(file=file, file_read_at=now))


def load_ids(conn: Connection, *, target: str, pages: Sequence[str]) -> set[str]:
    """The usable ids that were in these pages."""
    found: set[str] = set()
    for chunk in in_chunks(pages):
        query = select(sync_log_pages.c.item_ids).where(
            sync_log_pages.c.target == target, sync_log_pages.c.page.in_(chunk)
        )
        for ids in conn.execute(query).scalars():
            found.update(split_ids(ids))
    return found


def join_ids(item_ids: Iterable[str]) -> str:
    """Ids as one text: a usable one holds no control character."""
    return _SEPARATOR.join(item_ids)


def split_ids(text: str) -> list[str]:
    """The ids of such a text."""
    return text.split(_SEPARATOR) if text else []


def canaries_changed(conn: Connection, *, target: str, state: SyncState) -> bool:
    """Whether other rows of the log than before are documents of canaries: those are left out."""
    if state.canaries > len(state.canary_ids):
        return True
    of_target = canaries.c.target == target
    known = sum(
        conn.execute(
            select(func.count(canaries.c.item_id.distinct())).where(of_target, canaries.c.item_id.in_(chunk))
        ).scalar_one()
        for chunk in in_chunks(state.canary_ids)
    )
    return known != state.canaries or state.tracks_canary


def add_pages(pages: Sequence[PageState]) -> SyncReport:
    """The counts of pages, in their order, without what is counted over all of them."""
    read = sum(page.rows for page in pages)
    counted = [page_report(page) for page in pages if page.counts]
    plain = read - sum(each.read for each in counted)
    return reduce(add_counts, counted, SyncReport(read=plain))


def page_report(page: PageState) -> SyncReport:
    """What can't be used in a page."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in page.counts.items()
    }
    return SyncReport(read=page.rows, **values)


def forget(conn: Connection, *, target: str) -> None:
    """Forgets what was seen: the next sync merges all rows."""
    for table in (sync_log_pages, sync_logs):
        conn.execute(_forgetting(table), {"of_target": target})


@cache
def _forgetting(table: Table) -> Delete:
    return delete(table).where(table.c.target == bindparam("of_target"))
