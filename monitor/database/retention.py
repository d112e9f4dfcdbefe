"""Prunes old rows in short transactions with pauses, so that runs hardly wait for it.

It may stop after any transaction; the next pruning continues. `retention_policy` decides what is old.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy import Connection, Engine

from monitor.database import leases, pruning
from monitor.database.engine import reading, writing
from monitor.database.pruning import SpaceReclaim
from monitor.database.retention_policy import (
    Ages,
    Cutoffs,
    ProtectedRuns,
    Prunable,
    Refusal,
    RefusalReason,
    cutoffs,
    settled_before,
)
from monitor.errors import LeaseHeldError, LeaseLostError

LEASE = ":retention"
"""Used in place of a target (target names have no colon), so that one process prunes at a time."""
_DONE = ":retention done"
"""Acquired and released after each complete pruning, to store its time."""
DAILY = timedelta(hours=20)
"""Minimum time between two daily prunings, of all processes together."""
_TTL = timedelta(minutes=2)
_ROWS, _RUNS = 500, 100
"""Rows per transaction; each run includes its snapshot and its evidence."""
_PAGES = 500
_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.5


class PruneOutcome(StrEnum):
    """How a pruning ended."""

    DONE = "done"
    DISABLED = "disabled"
    REFUSED = "refused"
    """The clock is not trusted yet."""
    BUSY = "busy"
    ALREADY_DONE = "already_done"
    INTERRUPTED = "interrupted"
    """The next pruning does the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What was pruned, or would be."""

    outcome: PruneOutcome
    refusal: Refusal | None = None
    holder: str | None = None
    """Which other process is pruning, as `host:pid`."""
    rows: dict[Prunable, int]
    before: dict[Prunable, datetime]
    space: SpaceReclaim = SpaceReclaim.SERVER
    bytes_freed: int = 0
    longest_transaction_s: float = 0.0
    """The longest that a run may have waited."""


class Pruner:
    """Prunes one database for `holder` (this process, as `host:pid`); `stop` is checked between transactions."""

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
        """Prunes what is old now, or nothing if `daily` and it was done today. Blocking: run it in a thread.

        Raises:
            StoreError: the database can't be used; what was deleted until then stays deleted.
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
        except LeaseLostError:  # after a pause of minutes, as of a suspended machine; another process has taken over
            return self._result(chosen, outcome=ended)
        else:
            ended = pruned.outcome
            return pruned
        finally:
            self._release_lease(chosen.now, done=ended is PruneOutcome.DONE)

    def dry_run(self) -> PruneResult:
        """What would be pruned now; writes nothing."""
        self._rows = Counter()
        chosen = self._cutoffs()
        if isinstance(chosen, Refusal):
            return _refused(chosen)
        self._prune_tables(chosen, dry=True)
        return self._result(chosen, outcome=PruneOutcome.DONE, space=pruning.space_reclaim(self._engine))

    def _cutoffs(self) -> Cutoffs | Refusal:
        now = self._utcnow()
        newest, settled = None, None
        if self._ages.limits:
            with reading(self._engine) as conn:
                newest, settled = pruning.newest_run_starts(conn, before=settled_before(now))
        return cutoffs(self._ages, now=now, newest=newest, settled=settled)

    def _acquire_lease(self, now: datetime, *, daily: bool) -> PruneResult | None:
        """Acquires the lease; returns a result if there is nothing to do or another process is pruning."""
        try:
            with writing(self._engine) as conn:
                done = leases.last_acquired(conn, _DONE) if daily else None
                if done is not None and timedelta(0) <= now - done < DAILY:
                    return PruneResult(outcome=PruneOutcome.ALREADY_DONE, rows={}, before={})
                # by this machine's clock, as the ages are: a process with a wrong clock only fences this one off
                self._epoch = leases.acquire(conn, target=LEASE, holder=self._holder, now=now, ttl=_TTL)
        except LeaseHeldError as error:
            return PruneResult(outcome=PruneOutcome.BUSY, holder=error.holder, rows={}, before={})
        return None

    def _release_lease(self, now: datetime, *, done: bool) -> None:
        """Releases the lease; only a complete pruning counts as today's."""
        with writing(self._engine) as conn:
            if done:
                epoch = leases.acquire(conn, target=_DONE, holder=self._holder, now=now, ttl=_TTL)
                leases.release(conn, target=_DONE, epoch=epoch)
            leases.release(conn, target=LEASE, epoch=self._epoch)

    def _prune(self, chosen: Cutoffs) -> PruneResult:
        size = pruning.database_size(self._engine)
        self._prune_tables(chosen, dry=False)
        space = pruning.space_reclaim(self._engine)
        if space is SpaceReclaim.RETURNED:
            self._return_space()
        outcome = PruneOutcome.INTERRUPTED if self._stop() else PruneOutcome.DONE
        freed = max(0, size - pruning.database_size(self._engine))
        return replace(self._result(chosen, outcome=outcome, space=space), bytes_freed=freed)

    def _result(
        self, chosen: Cutoffs, *, outcome: PruneOutcome, space: SpaceReclaim = SpaceReclaim.SERVER
    ) -> PruneResult:
        return PruneResult(
            outcome=outcome,
            rows={kind: self._rows[kind] for kind in chosen.before},
            before=dict(chosen.before),
            space=space,
            longest_transaction_s=self._longest_transaction_s,
        )

    def _prune_tables(self, chosen: Cutoffs, *, dry: bool) -> None:
        with reading(self._engine) as conn:
            kept = pruning.protected(conn)
        for kind in chosen.before:
            self._prune_table(kind, chosen, kept, dry=dry)

    def _prune_table(self, kind: Prunable, chosen: Cutoffs, kept: ProtectedRuns, *, dry: bool) -> None:
        """Goes from the oldest row to the first recent one."""
        before, after = chosen.before[kind], 0
        limit = _RUNS if kind is Prunable.SNAPSHOTS else _ROWS
        while not self._stop():
            with reading(self._engine) as conn:
                found = pruning.next_batch(conn, kind, after=after, before=before, now=chosen.now, limit=limit)
                if dry and found is not None:
                    self._rows[kind] += pruning.count(conn, kind, found.ids, before=before, protected=kept)
            if found is None:
                break
            if found.ids and not dry:
                work = partial(pruning.prune, kind=kind, ids=found.ids, before=before, protected=kept)
                self._rows[kind] += self._run_batch(work)
            if found.reached_recent:
                break
            after = found.last_id

    def _run_batch(self, work: Callable[[Connection], int]) -> int:
        """One short transaction, then a pause for waiting writers."""
        with writing(self._engine) as conn:
            begun_s = time.monotonic()  # other writers wait from here
            leases.renew(conn, target=LEASE, epoch=self._epoch, now=self._utcnow(), ttl=_TTL)
            done = work(conn)
        took_s = time.monotonic() - begun_s
        self._longest_transaction_s = max(self._longest_transaction_s, took_s)
        self._sleep(min(_LONG_PAUSE_S, max(_PAUSE_S, took_s)))
        return done

    def _return_space(self) -> None:
        while not self._stop() and self._run_batch(partial(pruning.vacuum_pages, pages=_PAGES)):
            pass
        for _ in range(5):
            if pruning.checkpoint(self._engine):
                break
            self._sleep(_PAUSE_S)


def _refused(refusal: Refusal) -> PruneResult:
    outcome = PruneOutcome.DISABLED if refusal.reason is RefusalReason.DISABLED else PruneOutcome.REFUSED
    return PruneResult(outcome=outcome, refusal=refusal, rows={}, before={})
