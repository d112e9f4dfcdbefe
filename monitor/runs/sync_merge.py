"""Merges the loaded pages of a sync log into the work list (table `items`), in one write transaction."""

from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Select,
    String,
    and_,
    bindparam,
    case,
    collate,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from monitor.database.engine import in_chunks
from monitor.database.sync_tables import sync_log_pages, sync_logs
from monitor.database.tables import UtcDateTime, canaries, items
from monitor.model import ItemState, Reason, SyncReport
from monitor.rollups import indexing_store
from monitor.runs.sync_stage import Stage, former_ids, staged, staged_pages
from monitor.runs.sync_state import MAX_NAMED, SyncState, add_pages, forget, load_ids, stored_watermark
from monitor.runs.worklist import add_events
from monitor.synclog.validation import MAX_SAMPLES


class DoubtError(Exception):
    """The changed pages alone do not say what changed: the whole log has to be read."""


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """One merge: of a whole log, or of the pages that changed."""

    target: str
    run_id: int
    now: datetime
    stage: Stage
    copied_at: datetime
    """Since when a day counts until all rows are merged again, if all are now."""

    def whole(self, conn: Connection, *, keep_if_empty: bool) -> SyncReport:
        """Merges a whole log. Without a usable id it removes all items, or with `keep_if_empty` none."""
        report = add_pages(list(self.stage.pages.values()))
        dropped = _drop_canaries(conn, self.target)
        if keep_if_empty and conn.scalar(_staged_one()) is None:
            forget(conn, target=self.target)
            kept = select(func.count()).where(items.c.target == self.target, items.c.removed_at.is_(None))
            return replace(report, kept=conn.execute(kept).scalar_one())
        report = self._merge(conn, report, among=true(), known=true())
        tracked, rows = conn.execute(_counting_staged()).one()
        duplicate_ids = conn.execute(_repeated(conn.dialect.name)).scalars() if rows > tracked else ()
        report = replace(report, tracked=tracked, duplicate=int(rows) - tracked, duplicate_ids=tuple(duplicate_ids))
        self._store_whole(conn, report, dropped)
        return report

    def changed_pages(self, conn: Connection, state: SyncState) -> SyncReport:
        """Merges the pages that changed. Raises DoubtError if that would not be right."""
        report = add_pages(list(self.stage.pages.values()))
        outdated = [*(key for key in self.stage.changed if key in state.pages), *self.stage.gone(state)]
        former = load_ids(conn, target=self.target, pages=outdated)
        if former:
            conn.execute(insert(former_ids), [{"item_id": item_id} for item_id in former])
        self._check(conn, state, former)
        here = items.c.item_id.in_(select(staged.c.item_id))
        report = self._merge(conn, report, among=here, known=items.c.item_id.in_(select(former_ids.c.item_id)))
        tracked = state.tracked + report.new + report.returned - report.removed
        if tracked == 0:
            raise DoubtError("no id is left")
        usable = report.read - report.null - report.blank - report.unusable - report.without_params
        repeated = {each for page in self.stage.pages.values() for each in page.counts.get("duplicate_ids", ())}
        duplicate_ids = sorted(repeated.union(state.shared_ids))[:MAX_SAMPLES]
        report = replace(report, tracked=tracked, duplicate=usable - tracked, duplicate_ids=tuple(duplicate_ids))
        self._store_changed(conn, report, outdated)
        return report

    def _check(self, conn: Connection, state: SyncState, former: set[str]) -> None:
        """Raises DoubtError if an id of the changed pages is, or may be, in another page, too."""
        if self.stage.is_partial:
            left = select(former_ids.c.item_id).where(former_ids.c.item_id.not_in(select(staged.c.item_id)))
            if conn.scalar(left.limit(1)) is not None:
                raise DoubtError("an id left its page, and may be in one that was not read")
        if state.canaries or _drop_canaries(conn, self.target):
            raise DoubtError("documents of canaries are in the log")
        if state.shared > len(state.shared_ids) or not former.isdisjoint(state.shared_ids):
            raise DoubtError("ids were in several pages")
        shared = [conn.scalar(select(staged.c.item_id).where(staged.c.shared == 1).limit(1))]
        shared += [
            conn.scalar(select(staged.c.item_id).where(staged.c.item_id.in_(chunk)).limit(1))
            for chunk in in_chunks(state.shared_ids)
        ]
        if any(each is not None for each in shared):
            raise DoubtError("ids are in several pages")
        item = and_(items.c.target == self.target, items.c.item_id == staged.c.item_id, items.c.removed_at.is_(None))
        elsewhere = select(staged.c.item_id).where(
            exists().where(item), staged.c.item_id.not_in(select(former_ids.c.item_id))
        )
        if conn.scalar(elsewhere.limit(1)) is not None:
            raise DoubtError("an id is in a page that did not change")

    def _merge(
        self, conn: Connection, report: SyncReport, *, among: ColumnElement[bool], known: ColumnElement[bool]
    ) -> SyncReport:
        """Updates the items: `among` are those that may be loaded, `known` those that may have been in these pages."""
        target, run_id, now = self.target, self.run_id, self.now
        of_target = items.c.target == target
        if conn.scalar(_one_tracked(), {"of_target": target}) is None:  # a new target
            return replace(report, new=_insert_new(conn, target, now))
        in_log = exists().where(staged.c.item_id == items.c.item_id)
        removed_items = and_(of_target, items.c.removed_at.is_(None), known, ~in_log)
        returned_items = and_(of_target, items.c.removed_at.is_not(None), among, in_log)
        if add_events(conn, returned_items, kind="returned", run_id=run_id, now=now):
            # before their upload times and groups change, by which they were counted
            indexing_store.count_lost(conn, returned_items, target=target, sign=-1, now=now)
        _update_changed(conn, target, among)
        if add_events(conn, removed_items, kind="removed", run_id=run_id, now=now):
            indexing_store.count_lost(conn, removed_items, target=target, sign=1, now=now)
        removed = conn.execute(update(items).where(removed_items).values(removed_at=now)).rowcount
        returned = conn.execute(update(items).where(returned_items).values(removed_at=None)).rowcount
        return replace(report, new=_insert_new(conn, target, now), removed=removed, returned=returned)

    def _store_whole(self, conn: Connection, report: SyncReport, dropped: list[str]) -> None:
        forget(conn, target=self.target)
        shared = conn.execute(_shared()).scalars().all()
        values = {
            "target": self.target,
            "copied_at": self.copied_at,
            "tracked": report.tracked,
            "duplicate": report.duplicate,
            "duplicate_ids": list(report.duplicate_ids),
            "shared": len(shared),
            "shared_ids": list(shared[:MAX_NAMED]),
            "canaries": len(dropped),
            "canary_ids": dropped[:MAX_NAMED],
            "watermark": stored_watermark(self.stage.start, now=self.now),
        }
        conn.execute(insert(sync_logs), values)
        self._store_pages(conn)

    def _store_changed(self, conn: Connection, report: SyncReport, outdated: list[str]) -> None:
        page = sync_log_pages.c
        for chunk in in_chunks(outdated):
            conn.execute(delete(sync_log_pages).where(page.target == self.target, page.page.in_(chunk)))
        values: dict[str, object] = {
            "tracked": report.tracked,
            "duplicate": report.duplicate,
            "duplicate_ids": list(report.duplicate_ids),
            "watermark": stored_watermark(self.stage.start, now=self.now),
            # of a file as it was before; its state now, if known, is stored next
            "file": None,
            "file_read_at": None,
        }
        conn.execute(update(sync_logs).where(sync_logs.c.target == self.target).values(values))
        self._store_pages(conn)

    def _store_pages(self, conn: Connection) -> None:
        conn.execute(_storing_pages(), {"of_target": self.target})


@cache  # as the others: SQLAlchemy takes longer to put them together than SQLite for the rows of a small log
def _counting_staged() -> Select[Any]:
    return select(func.count(), func.coalesce(func.sum(staged.c.seen), 0))


@cache
def _repeated(dialect: str) -> Select[str]:
    # the order of SQLite and Python, whatever a server's language is
    in_byte_order = staged.c.item_id if dialect == "sqlite" else collate(staged.c.item_id, "C")
    return select(staged.c.item_id).where(staged.c.seen > 1).order_by(in_byte_order).limit(MAX_SAMPLES)


@cache
def _staged_one() -> Select[str]:
    return select(staged.c.item_id).limit(1)


@cache
def _shared() -> Select[str]:
    return select(staged.c.item_id).where(staged.c.shared == 1)


@cache
def _one_tracked() -> Select[str]:
    return select(items.c.item_id).where(items.c.target == bindparam("of_target")).limit(1)


@cache
def _one_canary() -> Select[int]:
    return select(canaries.c.id).where(canaries.c.target == bindparam("of_target")).limit(1)


@cache
def _storing_pages() -> Insert:
    pages = select(bindparam("of_target", type_=String), *staged_pages.c)
    return insert(sync_log_pages).from_select(["target", *(each.name for each in staged_pages.c)], pages)


def _drop_canaries(conn: Connection, target: str) -> list[str]:
    """Leaves out documents of the monitor's own canaries, which a pipeline may record as any other upload."""
    if conn.scalar(_one_canary(), {"of_target": target}) is None:
        return []
    own = exists().where(canaries.c.target == target, canaries.c.item_id == staged.c.item_id)
    dropped = list(conn.execute(select(staged.c.item_id).where(own)).scalars())
    if dropped:
        conn.execute(delete(staged).where(own))
    return dropped


def _update_changed(conn: Connection, target: str, among: ColumnElement[bool]) -> None:
    """Updates upload times, groups and parameters of items, before those that are back in the log are restored.

    A time after the item was first seen in the log is no upload time, but that of a later change of the row, as tools
    write it that touch their rows again and again. The first one counts, so that a lost item grows old.
    """
    old, new = items.c, staged.c
    moved = and_(new.submitted_at > old.first_seen_at, old.submitted_at.is_not(None), old.removed_at.is_(None))
    submitted_at = case((moved, old.submitted_at), else_=new.submitted_at)
    changed = or_(
        old.submitted_at.is_distinct_from(submitted_at),
        old.group_name.is_distinct_from(new.group_name),
        old.params.is_distinct_from(new.params),
    )
    same = and_(old.target == target, old.item_id == new.item_id)
    values = {"submitted_at": submitted_at, "group_name": new.group_name, "params": new.params}
    conn.execute(update(items).where(same, among, changed).values(values))


def _insert_new(conn: Connection, target: str, now: datetime) -> int:
    added = conn.execute(
        _inserting_new(), {"of_target": target, "at": now}, execution_options={"preserve_rowcount": True}
    )
    return added.rowcount


@cache
def _inserting_new() -> Insert:
    of_target = bindparam("of_target", type_=String)
    known = exists().where(items.c.target == of_target, items.c.item_id == staged.c.item_id)
    new_item = {
        "target": of_target,
        "item_id": staged.c.item_id,
        "submitted_at": staged.c.submitted_at,
        "group_name": staged.c.group_name,
        "params": staged.c.params,
        "first_seen_at": bindparam("at", type_=UtcDateTime),
        "state": literal(ItemState.UNKNOWN.value),
        "reason": literal(Reason.NOT_ASKED.value),
    }
    rows = select(*new_item.values()).where(~known).order_by(staged.c.item_id)
    return insert(items).from_select(list(new_item), rows)
