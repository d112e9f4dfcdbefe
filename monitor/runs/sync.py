"""Copies the ids of a sync log into the work list (table `items`): only pages that changed, and all once a day.

The sync log is read outside our write locks. Only changed rows are written, in one short transaction.
"""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog
from sqlalchemy import Engine

from monitor.database import leases
from monitor.database.bulk import begin_merge, drop_staging_table
from monitor.database.engine import reading, translate_errors, writing
from monitor.errors import SyncLogUnavailableError
from monitor.model import SyncReport
from monitor.model.durations import exponential_backoff_s
from monitor.runs import sync_state
from monitor.runs.sync_merge import DoubtError, Merge
from monitor.runs.sync_stage import Stage, Stager, former_ids, staged, staged_pages
from monitor.runs.sync_state import PageState, SyncState
from monitor.synclog import Known, LogPage, LogStart, Watermark

_T = TypeVar("_T")

FILE_ROWS = 10_000
"""A shorter log is read faster than its file is examined."""
RETRIES = 2
FIRST_PAUSE_S, _MAX_PAUSE_S = 0.5, 1.0
_RETRY_SHARE = 0.5
"""Of the run's time: no retry begins later, so that time to ask about the items remains."""


def retry_unavailable_log(
    work: Callable[[], _T], *, started_s: float, deadline_s: float, should_stop: Callable[[], bool]
) -> _T:
    """Runs `work` again, at most twice, while the sync log can't be read for the moment.

    Times are on the monotonic clock: when the run started, and when it must end. `work` writes all or nothing.

    Raises:
        SyncLogError: the log can't be read, or still can't.
    """
    latest_s, failures = started_s + _RETRY_SHARE * (deadline_s - started_s), 0
    while True:
        try:
            return work()
        except SyncLogUnavailableError as error:
            pause_s = exponential_backoff_s(failures, initial_s=FIRST_PAUSE_S, max_s=_MAX_PAUSE_S, jitter=1)
            if failures >= RETRIES or should_stop() or time.monotonic() + pause_s >= latest_s:
                raise
            structlog.get_logger().info("sync_log_retried", reason=str(error), retry_in_s=pause_s)
        time.sleep(pause_s)
        failures += 1


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """One sync of a target's log with its work list.

    Of several rows with one id the first counts, or with `earliest` the one with the earliest upload time. A log
    without a usable id removes all items, or with `keep_if_empty` none; the report shows this. Upload times after `now`
    are counted and ignored.
    """

    engine: Engine
    target: str
    epoch: int
    run_id: int
    read_pages: Callable[[Known | None, Watermark | None], Generator[LogPage | LogStart, None, None]]
    """Reads the log, all of one moment. The first argument has the pages that need not come with their rows; None if
    they can't be compared. Those need not be read that did not change since the watermark, by the log's own column."""
    now: datetime
    read_file_state: Callable[[], str | None] = lambda: None
    """What stays the same only while nothing is written to the log's file; None: nothing can be said."""
    keep_if_empty: bool = False
    earliest: bool = False

    def __call__(self) -> SyncReport:
        """Updates the work list.

        1. A file that nobody wrote since its rows were read, less than a day ago, is not read.
        2. The digests of the pages are read that the last sync stored. If there are none, they are a day old, or they
           may say too little, the whole log is merged.
        3. With an `updated_at_column` only pages are read in which a row may have changed. If the number of rows is
           another one than theirs and that of the other pages, or if an id left its page, all pages are compared.
        4. Each page that changed is validated and loaded into a temporary table; on SQLite this locks nothing in our
           database. One page is in memory at a time. If none changed, nothing is written.
        5. One write transaction verifies the lease, leaves out the documents of canaries, updates upload times, groups
           and parameters, marks ids that left the log as removed, restores ids that came back, adds new ids as unknown,
           and stores the digests. If the changed pages alone do not say what changed, because an id is in another page,
           too, it is rolled back, and the whole log is merged.

        Raises:
            LeaseLostError: the lease is no longer ours; nothing was written.
            StoreError: our database fails; nothing was written. The same holds if `read_pages` raises.
        """
        with translate_errors(self.engine):
            state = self._load_state()
            if state is None:
                return self._merge(None, known={})
            if state.incomparable:
                return self._merge(None, known=None, copied_at=state.copied_at)
            file = self.read_file_state() if state.rows >= FILE_ROWS else None
            if state.is_same_file(file, self.now):
                return _unchanged(state, state.pages.values())
            report = self._merge_changes(state)
            if file is not None:
                self._store_file(file)
            return report

    def _merge_changes(self, state: SyncState) -> SyncReport:
        since = state.since(self.now)
        if since is not None:
            try:
                return self._merge(state, known=state.known, since=since)
            except DoubtError as doubt:
                structlog.get_logger().info("sync_log_compared", reason=str(doubt))
        try:
            return self._merge(state, known=state.known)
        except DoubtError as doubt:
            structlog.get_logger().info("sync_log_copied", reason=str(doubt))
            return self._merge(None, known={})

    def _store_file(self, file: str) -> None:
        with writing(self.engine) as conn:
            leases.verify(conn, target=self.target, epoch=self.epoch)
            sync_state.store_file(conn, target=self.target, file=file, now=self.now)

    def _store_watermark(self, stage: Stage) -> None:
        """Stores it if all pages were compared; otherwise the one that is stored stays right."""
        if stage.start is not None and not stage.is_partial:
            with writing(self.engine) as conn:
                leases.verify(conn, target=self.target, epoch=self.epoch)
                sync_state.store_watermark(conn, target=self.target, start=stage.start, now=self.now)

    def _load_state(self) -> SyncState | None:
        with reading(self.engine) as conn:
            state = sync_state.load(conn, target=self.target, now=self.now)
            if state is None or state.is_due(self.now):
                return None
            changed = not state.incomparable and sync_state.canaries_changed(conn, target=self.target, state=state)
            return None if changed else state

    def _merge(
        self,
        state: SyncState | None,
        *,
        known: Known | None,
        since: Watermark | None = None,
        copied_at: datetime | None = None,
    ) -> SyncReport:
        with self.engine.connect() as conn:
            stager = Stager(conn, now=self.now, earliest=self.earliest)
            with closing(self.read_pages(known, since)) as pages:
                stage = stager.load(pages, state)
            if since is not None and stage.start is not None and stage.start.doubt is not None:
                structlog.get_logger().info("sync_log_compared", reason=stage.start.doubt)
            if stage.start is not None and stage.start.rows not in {None, stage.rows}:
                raise DoubtError("rows were deleted, or came without a recent time")
            if state is not None and not stage.changed and not stage.gone(state):
                self._store_watermark(stage)
                return _unchanged(state, stage.pages.values())
            stager.create_tables()
            begin_merge(conn, staged)
            leases.verify(conn, target=self.target, epoch=self.epoch)
            merge = Merge(
                target=self.target, run_id=self.run_id, now=self.now, stage=stage, copied_at=copied_at or self.now
            )
            if state is None or stage.is_complete:
                report = merge.whole(conn, keep_if_empty=self.keep_if_empty)
            else:
                report = merge.changed_pages(conn, state)
            for table in (staged, staged_pages, former_ids):
                drop_staging_table(conn, table)
            conn.commit()
            return report


def _unchanged(state: SyncState, pages: Iterable[PageState]) -> SyncReport:
    """`pages` are those of the state, in the order of the log."""
    report = sync_state.add_pages(list(pages))
    return replace(report, tracked=state.tracked, duplicate=state.duplicate, duplicate_ids=tuple(state.duplicate_ids))
