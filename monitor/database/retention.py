"""Prunes the past by age, in short transactions with pauses between them, so that no run waits for it.

It can end after any of them and go on another day: what is left is found again. It decides nothing about age itself.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy import Connection, Engine

from monitor.database import leases, pruning
from monitor.database import pruning as space
from monitor.database.engine import reading, writing
from monitor.database.pruning import Prunable, SpaceReclaim
from monitor.database.retention_policy import (
    Ages,
    Cutoffs,
    ProtectedRuns,
    Refusal,
    RefusalReason,
    cutoffs,
    settled_before,
)
from monitor.errors import LeaseHeldError, LeaseLostError

LEASE = ":retention"
"""In the place of a target, whose names can't hold a colon: one process prunes at a time."""
_DONE = ":retention done"
"""Taken and given back whenever a pruning came to its end: when that was."""
DAILY = timedelta(hours=20)
"""The daily pruning is not done again sooner, by whichever process."""
_TTL = timedelta(minutes=2)
_ROWS, _RUNS = 500, 100
"""Rows that go in one transaction; a run takes its snapshot and its evidence along."""
_PAGES = 500
_MIN_BATCH = 50
_LONG_TRANSACTION_S = 0.1
"""A transaction that took longer is followed by a smaller one."""
_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.5


class PruneOutcome(StrEnum):
    """How it ended."""

    DONE = "done"
    DISABLED = "disabled"
    """No age is configured."""
    REFUSED = "refused"
    """The clock is not believed yet."""
    BUSY = "busy"
    """Another process is at it."""
    ALREADY_DONE = "already_done"
    """It was done today already."""
    INTERRUPTED = "interrupted"
    """The rest is left for another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What went, or would go."""

    outcome: PruneOutcome
    refusal: Refusal | None = None
    holder: str | None = None
    """Who else is at it, as `host:pid`."""
    rows: dict[Prunable, int]
    before: dict[Prunable, datetime]
    """What lay before was old."""
    space: SpaceReclaim = SpaceReclaim.SERVER
    bytes_freed: int = 0
    """Bytes handed back to the disk."""
    longest_transaction_s: float = 0.0
    """The longest transaction, which is how long a run may have waited."""


class Pruner:
    """Prunes one database.

    Args:
        engine: the database.
        ages: how long what is kept.
        holder: who prunes, as `host:pid`.
        utcnow: the clock.
        stop: asked between transactions whether to end.
        sleep: how to wait for so many seconds.
    """

    def __init__(
        self,
        engine: Engine,
        ages: Ages,
        *,
        holder: str,
        utcnow: Callable[[], datetime],
        stop: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._engine, self._ages, self._holder, self._utcnow = engine, ages, holder, utcnow
        self._stop, self._sleep = stop, sleep
        self._rows, self._longest_transaction_s, self._epoch = Counter[Prunable](), 0.0, 0

    def __call__(self, *, daily: bool = False) -> PruneResult:
        """Prunes what is old now. It blocks: inside an event loop it belongs into a thread.

        Args:
            daily: not when that was done today already, by whichever process.

        Raises:
            StoreError: the database can't be used; what went until then is gone.
        """
        self._rows, self._longest_transaction_s = Counter(), 0.0
        chosen = self._cutoffs()
        if isinstance(chosen, Refusal):
            return _refused(chosen)
        if (unavailable := self._acquire_lease(chosen.now, daily=daily)) is not None:
            return unavailable
        ended = PruneOutcome.INTERRUPTED
        try:
            pruned = self._prune(chosen)
        except LeaseLostError:  # a pause of minutes, as of a suspended machine: whoever has it now goes on
            return self._result(chosen, outcome=ended)
        else:
            ended = pruned.outcome
            return pruned
        finally:
            self._release_lease(chosen.now, done=ended is PruneOutcome.DONE)

    def dry_run(self) -> PruneResult:
        """What would go now; nothing is written."""
        self._rows = Counter()
        chosen = self._cutoffs()
        if isinstance(chosen, Refusal):
            return _refused(chosen)
        before = _cutoff_by_kind(chosen)
        with reading(self._engine) as conn:
            kept = pruning.protected(conn)
        for kind in before:
            self._prune_table(kind, chosen, kept, dry=True)
        return self._result(chosen, outcome=PruneOutcome.DONE, space_after=space.space_reclaim(self._engine))

    def _cutoffs(self) -> Cutoffs | Refusal:
        now = self._utcnow()
        newest, settled = None, None
        if self._ages.any:
            with reading(self._engine) as conn:
                newest, settled = pruning.newest_run_starts(conn, before=settled_before(now))
        return cutoffs(self._ages, now=now, newest=newest, settled=settled)

    def _acquire_lease(self, now: datetime, *, daily: bool) -> PruneResult | None:
        """Takes the lease of the work; what to say when there is no need, or somebody else is at it."""
        try:
            with writing(self._engine) as conn:
                done = leases.last_acquired(conn, _DONE) if daily else None
                if done is not None and timedelta(0) <= now - done < DAILY:
                    return PruneResult(outcome=PruneOutcome.ALREADY_DONE, rows={}, before={})
                # by this machine's clock, as the days are: whoever takes it too early fences this one off, no more
                self._epoch = leases.acquire(conn, target=LEASE, holder=self._holder, now=now, ttl=_TTL)
        except LeaseHeldError as error:
            return PruneResult(outcome=PruneOutcome.BUSY, holder=error.holder, rows={}, before={})
        return None

    def _release_lease(self, now: datetime, *, done: bool) -> None:
        """Gives the lease back; what was cut short, by a signal or a fault, is not done for the day."""
        with writing(self._engine) as conn:
            if done:
                epoch = leases.acquire(conn, target=_DONE, holder=self._holder, now=now, ttl=_TTL)
                leases.release(conn, target=_DONE, epoch=epoch)
            leases.release(conn, target=LEASE, epoch=self._epoch)

    def _prune(self, chosen: Cutoffs) -> PruneResult:
        was = space.database_size(self._engine)
        with reading(self._engine) as conn:
            kept = pruning.protected(conn)
        for kind in _cutoff_by_kind(chosen):
            self._prune_table(kind, chosen, kept, dry=False)
        after = space.space_reclaim(self._engine)
        if after is SpaceReclaim.RETURNED:
            self._return_space()
        outcome = PruneOutcome.INTERRUPTED if self._stop() else PruneOutcome.DONE
        return self._result(
            chosen, outcome=outcome, space_after=after, bytes_freed=max(0, was - space.database_size(self._engine))
        )

    def _result(
        self,
        chosen: Cutoffs,
        *,
        outcome: PruneOutcome,
        space_after: SpaceReclaim = SpaceReclaim.SERVER,
        bytes_freed: int = 0,
    ) -> PruneResult:
        before = _cutoff_by_kind(chosen)
        rows = {kind: self._rows[kind] for kind in before}
        return PruneResult(
            outcome=outcome,
            rows=rows,
            before=before,
            space=space_after,
            bytes_freed=bytes_freed,
            longest_transaction_s=self._longest_transaction_s,
        )

    def _prune_table(self, kind: Prunable, chosen: Cutoffs, kept: ProtectedRuns, *, dry: bool) -> None:
        """Goes through one table from its oldest row to the first young one."""
        before = _cutoff_by_kind(chosen)[kind]
        most = _RUNS if kind is Prunable.SNAPSHOTS else _ROWS
        after, limit = 0, most
        while not self._stop():
            with reading(self._engine) as conn:
                found = pruning.next_batch(conn, kind, after=after, before=before, now=chosen.now, limit=limit)
                if dry and found is not None:
                    self._rows[kind] += pruning.count(conn, kind, found.ids, before=before, protected=kept)
            if found is None:
                break
            if found.ids and not dry:
                work = partial(pruning.prune, kind=kind, ids=found.ids, before=before, protected=kept)
                deleted, took_s = self._run_batch(work)
                self._rows[kind] += deleted
                limit = min(most, max(_MIN_BATCH, limit // 2 if took_s > _LONG_TRANSACTION_S else limit * 2))
            if found.reached_recent:
                break
            after = found.last_id

    def _run_batch(self, work: Callable[[Connection], int]) -> tuple[int, float]:
        """One short transaction, and a pause in which whoever waits gets their turn."""
        with writing(self._engine) as conn:
            begun_s = time.monotonic()  # from here on others wait
            leases.renew(conn, target=LEASE, epoch=self._epoch, now=self._utcnow(), ttl=_TTL)
            done = work(conn)
        took_s = time.monotonic() - begun_s
        self._longest_transaction_s = max(self._longest_transaction_s, took_s)
        self._sleep(min(_LONG_PAUSE_S, max(_PAUSE_S, took_s)))
        return done, took_s

    def _return_space(self) -> None:
        pages = _PAGES
        while not self._stop():
            left, took_s = self._run_batch(partial(space.vacuum_pages, pages=pages))
            if not left:
                break
            pages = min(_PAGES, max(_MIN_BATCH, pages // 2 if took_s > _LONG_TRANSACTION_S else pages * 2))
        for _ in range(5):
            if space.checkpoint(self._engine):
                break
            self._sleep(_PAUSE_S)


def _cutoff_by_kind(chosen: Cutoffs) -> dict[Prunable, datetime]:
    by_kind = {
        Prunable.SNAPSHOTS: chosen.snapshots,
        Prunable.ITEM_EVENTS: chosen.item_events,
        Prunable.NOTIFICATIONS: chosen.notifications,
    }
    return {kind: cutoff for kind, cutoff in by_kind.items() if cutoff is not None}


def _refused(refusal: Refusal) -> PruneResult:
    outcome = PruneOutcome.DISABLED if refusal.reason is RefusalReason.DISABLED else PruneOutcome.REFUSED
    return PruneResult(outcome=outcome, refusal=refusal, rows={}, before={})
