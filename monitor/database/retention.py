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
from monitor.database.pruning import Past, Space
from monitor.database.retention_policy import Ages, Cutoffs, Doubt, Refusal, Spared, cutoffs, settled_before
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
_FEWEST = 50
_BRIEF_S = 0.1
"""A transaction that took longer is followed by a smaller one."""
_PAUSE_S = 0.02
_LONG_PAUSE_S = 0.5


class Ending(StrEnum):
    """How it ended."""

    DONE = "done"
    OFF = "off"
    """No age is configured."""
    REFUSED = "refused"
    """The clock is not believed yet."""
    BUSY = "busy"
    """Another process is at it."""
    TODAY = "today"
    """It was done today already."""
    INTERRUPTED = "interrupted"
    """The rest is left for another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went, or would go."""

    ending: Ending
    refusal: Refusal | None = None
    holder: str | None = None
    """Who else is at it, as `host:pid`."""
    rows: dict[Past, int]
    before: dict[Past, datetime]
    """What lay before was old."""
    space: Space = Space.SERVER
    freed: int = 0
    """Bytes handed back to the disk."""
    longest_s: float = 0.0
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
        self._rows, self._longest_s, self._epoch = Counter[Past](), 0.0, 0

    def __call__(self, *, daily: bool = False) -> Pruned:
        """Prunes what is old now. It blocks: inside an event loop it belongs into a thread.

        Args:
            daily: not when that was done today already, by whichever process.

        Raises:
            StoreError: the database can't be used; what went until then is gone.
        """
        self._rows, self._longest_s = Counter(), 0.0
        chosen = self._cutoffs()
        if isinstance(chosen, Refusal):
            return _refused(chosen)
        if (taken := self._take(chosen.now, daily=daily)) is not None:
            return taken
        ended = Ending.INTERRUPTED
        try:
            pruned = self._prune(chosen)
        except LeaseLostError:  # a pause of minutes, as of a suspended machine: whoever has it now goes on
            return self._gone(chosen, ending=ended)
        else:
            ended = pruned.ending
            return pruned
        finally:
            self._leave(chosen.now, done=ended is Ending.DONE)

    def rehearse(self) -> Pruned:
        """What would go now; nothing is written."""
        self._rows = Counter()
        chosen = self._cutoffs()
        if isinstance(chosen, Refusal):
            return _refused(chosen)
        before = _moments(chosen)
        with reading(self._engine) as conn:
            kept = pruning.spared(conn)
        for past in before:
            self._walk(past, chosen, kept, dry=True)
        return self._gone(chosen, ending=Ending.DONE, space_after=space.giving_back(self._engine))

    def _cutoffs(self) -> Cutoffs | Refusal:
        now = self._utcnow()
        newest, settled = None, None
        if self._ages.any:
            with reading(self._engine) as conn:
                newest, settled = pruning.clock(conn, before=settled_before(now))
        return cutoffs(self._ages, now=now, newest=newest, settled=settled)

    def _take(self, now: datetime, *, daily: bool) -> Pruned | None:
        """Takes the lease of the work; what to say when there is no need, or somebody else is at it."""
        try:
            with writing(self._engine) as conn:
                done = leases.last_acquired(conn, _DONE) if daily else None
                if done is not None and timedelta(0) <= now - done < DAILY:
                    return Pruned(ending=Ending.TODAY, rows={}, before={})
                # by this machine's clock, as the days are: whoever takes it too early fences this one off, no more
                self._epoch = leases.acquire(conn, target=LEASE, holder=self._holder, now=now, ttl=_TTL)
        except LeaseHeldError as error:
            return Pruned(ending=Ending.BUSY, holder=error.holder, rows={}, before={})
        return None

    def _leave(self, now: datetime, *, done: bool) -> None:
        """Gives the lease back; what was cut short, by a signal or a fault, is not done for the day."""
        with writing(self._engine) as conn:
            if done:
                epoch = leases.acquire(conn, target=_DONE, holder=self._holder, now=now, ttl=_TTL)
                leases.release(conn, target=_DONE, epoch=epoch)
            leases.release(conn, target=LEASE, epoch=self._epoch)

    def _prune(self, chosen: Cutoffs) -> Pruned:
        was = space.size(self._engine)
        with reading(self._engine) as conn:
            kept = pruning.spared(conn)
        for past in _moments(chosen):
            self._walk(past, chosen, kept, dry=False)
        after = space.giving_back(self._engine)
        if after is Space.RETURNED:
            self._shrink()
        ending = Ending.INTERRUPTED if self._stop() else Ending.DONE
        return self._gone(chosen, ending=ending, space_after=after, freed=max(0, was - space.size(self._engine)))

    def _gone(self, chosen: Cutoffs, *, ending: Ending, space_after: Space = Space.SERVER, freed: int = 0) -> Pruned:
        before = _moments(chosen)
        rows = {past: self._rows[past] for past in before}
        return Pruned(
            ending=ending, rows=rows, before=before, space=space_after, freed=freed, longest_s=self._longest_s
        )

    def _walk(self, past: Past, chosen: Cutoffs, kept: Spared, *, dry: bool) -> None:
        """Goes through one table from its oldest row to the first young one."""
        before = _moments(chosen)[past]
        most = _RUNS if past is Past.SNAPSHOTS else _ROWS
        after, limit = 0, most
        while not self._stop():
            with reading(self._engine) as conn:
                found = pruning.stretch(conn, past, after=after, before=before, now=chosen.now, limit=limit)
                if dry and found is not None:
                    self._rows[past] += pruning.count(conn, past, found.ids, before=before, spared=kept)
            if found is None:
                break
            if found.ids and not dry:
                work = partial(pruning.prune, past=past, ids=found.ids, before=before, spared=kept)
                deleted, took_s = self._step(work)
                self._rows[past] += deleted
                limit = min(most, max(_FEWEST, limit // 2 if took_s > _BRIEF_S else limit * 2))
            if found.young:
                break
            after = found.last_id

    def _step(self, work: Callable[[Connection], int]) -> tuple[int, float]:
        """One short transaction, and a pause in which whoever waits gets their turn."""
        with writing(self._engine) as conn:
            begun_s = time.monotonic()  # from here on others wait
            leases.renew(conn, target=LEASE, epoch=self._epoch, now=self._utcnow(), ttl=_TTL)
            done = work(conn)
        took_s = time.monotonic() - begun_s
        self._longest_s = max(self._longest_s, took_s)
        self._sleep(min(_LONG_PAUSE_S, max(_PAUSE_S, took_s)))
        return done, took_s

    def _shrink(self) -> None:
        pages = _PAGES
        while not self._stop():
            left, took_s = self._step(partial(space.hand_back, pages=pages))
            if not left:
                break
            pages = min(_PAGES, max(_FEWEST, pages // 2 if took_s > _BRIEF_S else pages * 2))
        for _ in range(5):
            if space.checkpoint(self._engine):
                break
            self._sleep(_PAUSE_S)


def _moments(chosen: Cutoffs) -> dict[Past, datetime]:
    moments = {
        Past.SNAPSHOTS: chosen.snapshots,
        Past.ITEM_EVENTS: chosen.item_events,
        Past.NOTIFICATIONS: chosen.notifications,
    }
    return {past: moment for past, moment in moments.items() if moment is not None}


def _refused(refusal: Refusal) -> Pruned:
    ending = Ending.OFF if refusal.doubt is Doubt.OFF else Ending.REFUSED
    return Pruned(ending=ending, refusal=refusal, rows={}, before={})
