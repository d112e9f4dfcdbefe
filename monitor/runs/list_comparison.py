"""One comparison of a provider's list with a large work list, and what it leaves for the next run.

Nearly all items are settled (`completions`): the last run saw them completed. They are compared with the list at once,
and not at all while the list stays the same and it is known to confirm them (`compared_lists`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.retry import run_with_retry
from monitor.model import ItemCompletion
from monitor.providers import Listing, Provider
from monitor.providers.id_set import IdSet
from monitor.runs import compared_lists, completions
from monitor.runs.list_check import Reconciliation, reconcile, reconcile_settled

MANY_ITEMS = 5000
"""From so many on, those that are settled are compared with a list at once: it costs a statement more."""


@dataclass(slots=True, kw_only=True)
class ListComparison:
    """Compares the list with the items of one target in one run."""

    engine: Engine
    target: str
    epoch: int
    tracked: int
    """Items in the work list, without removed and ignored ones, as the run was planned."""
    rows: int
    """The same with them: others may ignore an item meanwhile, but only a sync adds one."""
    provider: Provider
    utcnow: Callable[[], datetime]
    probed_id: str | None
    """The item that was probed: it is not compared."""
    read_completions: Callable[[], Iterator[list[ItemCompletion]]]
    """All items to compare, if they are not compared at once."""
    at_once: bool = True
    """Whether settled items may be compared at once."""
    _before: frozenset[str] | None = field(default=None, init=False)
    """The items that were not settled; None: too many."""
    _confirms: bool = field(default=False, init=False)
    """Whether the list confirmed all others."""
    _known: bytes | None = field(default=None, init=False)

    def reconcile(self, listing: Listing) -> Reconciliation:
        """Compares all items. Raises StoreError."""
        canonical, valid = self.provider.canonical, self.provider.valid_id
        unsettled = completions.read_unsettled(self.engine, target=self.target) if self._is_large else None
        if unsettled is None:
            return reconcile(self.read_completions(), listing, canonical=canonical, valid=valid)
        others = [each for each in unsettled.values() if each is not None and each.item_id != self.probed_id]
        apart = frozenset(unsettled) if self.probed_id is None else frozenset(unsettled) | {self.probed_id}
        found = reconcile_settled(
            lambda: self._iter_settled(apart),
            others,
            listing,
            apart=apart,
            canonical=canonical,
            valid=valid,
            confirmed=self.rows - len(apart) if self._is_known(listing, unsettled) else None,
        )
        self._before, self._confirms = apart, found.confirms_settled
        return found

    def remember(self, listing: Listing, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Stores that the list confirms all items that are settled now, if it does. Raises StoreError, LeaseLostError.

        The first time, after many items were settled, they are compared with it again; else those that are new. Ends
        without a result once `should_stop` says so.
        """
        if not self._is_large or should_stop():
            return
        after = completions.read_unsettled(self.engine, target=self.target)
        if after is None:
            return
        digest = compared_lists.digest(listing, after, self.provider, rows=self.rows)
        if digest is None or digest == self._known or not self._is_confirmed(listing, after, should_stop):
            return

        def store() -> None:
            with writing(self.engine) as conn:
                leases.verify(conn, target=self.target, epoch=self.epoch)
                compared_lists.store(conn, target=self.target, digest=digest, now=self.utcnow())

        run_with_retry(self.engine, store)

    @property
    def _is_large(self) -> bool:
        return self.at_once and self.tracked >= MANY_ITEMS

    def _is_known(self, listing: Listing, unsettled: Iterable[str]) -> bool:
        digest = compared_lists.digest(listing, unsettled, self.provider, rows=self.rows)
        if digest is None:
            return False

        def look_up() -> bool:
            with reading(self.engine) as conn:
                return compared_lists.is_known(conn, target=self.target, digest=digest, now=self.utcnow())

        is_known = run_with_retry(self.engine, look_up)
        self._known = digest if is_known else None
        return is_known

    def _is_confirmed(self, listing: Listing, unsettled: Iterable[str], should_stop: Callable[[], bool]) -> bool:
        canonical = self.provider.canonical
        apart = frozenset(unsettled)
        if self._before is not None:
            new = [canonical(item_id) for item_id in self._before - apart]
            return self._confirms and None not in listing.completed_stages(new)
        listing.drop_index()  # so that the comparison takes no more memory than the look-ups before it
        ids = IdSet()
        for page in self._iter_settled(apart):
            if should_stop():
                return False
            ids.update(map(canonical, page))
        return next(listing.unconfirmed(ids, list(map(canonical, apart))), None) is None

    def _iter_settled(self, but: frozenset[str]) -> Iterator[Sequence[str]]:
        return completions.iter_settled(self.engine, target=self.target, but=but)
