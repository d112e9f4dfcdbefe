"""One run's questions to the API, by the target's strategy: its list first, or item by item.

1. Where the API refuses the target (`incidents.probing`), one item is asked about; if that is refused, it is all.
2. `choose_approach` decides. Item by item, the due items of the work list are asked about, and that is all.
3. The list is fetched as a stream. What could not be had ends the run or leads to item by item (`list_failure_ends_run`).
4. It is compared with the work list. One that lacks much is tried on a sample, and dropped if that refutes it.
5. What it calls completed is taken from it; every other tracked item is asked about by itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine

from monitor.client.classify import cause_of
from monitor.client.retry import is_transient
from monitor.database.engine import in_chunks
from monitor.model import Cause, ItemCompletion, ItemState, Outcome, Reason
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, Request
from monitor.model.items import TrackedItem
from monitor.providers import Listing, Provider
from monitor.runs import worklist
from monitor.runs.item_check import ItemCheck, ItemClient
from monitor.runs.list_check import FetchedList, ListClient, Reconciliation, fetch_list, is_confirmed, reconcile
from monitor.runs.progress import CheckReport, DueItems, Progress
from monitor.runs.strategy import (
    Approach,
    ApproachReason,
    Strategy,
    choose_approach,
    list_failure_ends_run,
    list_is_wrong,
    needs_sample,
)

BATCH_SIZE = 4000
"""Due items that are read, and put out of order, at once."""

LIST_SHARE = 0.5
"""Of the time that is left, what `auto` grants the list: there must be some left to ask item by item."""
LIST_ATTEMPTS = 2
"""Of `auto` per page: where the list fails and the items do not, the breaker must not have opened before them."""


class ApiClient(ListClient, ItemClient, Protocol):
    """What an inquiry needs of the resilient client."""

    def attempts(self, requests: int) -> Mapping[str, int]:
        """Attempts by status class, of which so many were no requests for tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCheck:
    """Asks about the items of one target, for one run."""

    engine: Engine
    target: str
    run_id: int
    due: DueItems
    """What item by item would ask about."""
    strategy: Strategy
    provider: Provider
    client: ApiClient
    check: ItemCheck
    deadline_s: float
    interrupt: asyncio.Event
    progress: Progress
    utcnow: Callable[[], datetime]
    probed_id: str | None = None
    """The item that was the run's probe: it has its outcome."""

    async def run(self) -> tuple[DueItems, CheckReport]:
        """Asks; gives back what turned out to be due, and how it ended.

        Raises:
            StoreError: when the work list can't be read or written.
            LeaseLostError: when another run took over.
        """
        due, checked = await self._check()
        return due, replace(checked, attempts=self.client.attempts(checked.requests))

    async def _check(self) -> tuple[DueItems, CheckReport]:
        cause = self.due.probe_for
        if cause is None:
            return await self._check_all()
        probe = await asyncio.to_thread(self._choose_probe)
        if probe is None:
            # nothing tracked, or nothing that the API could accept: a list would be a request for nothing
            return await replace(self, strategy=Strategy.ITEMS)._check_all()  # noqa: SLF001  # one of this very class
        due, checked = await self._check_after_probe(probe)
        return due, replace(checked, probed_for=cause)

    async def _check_after_probe(self, probe: TrackedItem) -> tuple[DueItems, CheckReport]:
        """Asks about one item, and about all others only if that does not end the run."""
        self.progress.begin(1)
        await self.check.probe(probe)
        if self.check.must_stop:
            self.check.cut_short(Reason.DEADLINE)
            return self.due, self.check.report()
        first, recheck_ids = (
            tuple(item_id for item_id in ids if item_id != probe.item_id)
            for ids in (self.due.first_ids, self.due.recheck_ids)
        )
        rest = replace(self.due, first_ids=first, recheck_ids=recheck_ids)
        return await replace(self, due=rest, probed_id=probe.item_id)._check_all()  # noqa: SLF001  # one of this very class

    async def _check_all(self) -> tuple[DueItems, CheckReport]:
        """Asks about all that is due, but for what was the probe."""
        first = self.provider.list_request()
        approach = choose_approach(self.strategy, has_list=first is not None, due=self.due.count)
        due = self.due
        if approach.by_list and first is not None:
            approach, due = await self._check_by_list(first, approach)
        if not approach.by_list:
            self.progress.begin(due.count)
            recheck, first_ids = len(due.recheck_ids), due.first_ids
            await self.check.run(
                worklist.iter_due_items(
                    self.engine,
                    target=self.target,
                    run_id=self.run_id,
                    recheck=recheck,
                    first=first_ids,
                    batch=BATCH_SIZE,
                )
            )
        return due, replace(self.check.report(), approach=approach)

    async def _check_by_list(self, first: Request, approach: Approach) -> tuple[Approach, DueItems]:
        fetched = await self._fetch_list(first)
        self.check.add_requests(requests=fetched.requests, retries=fetched.retries, latencies_ms=fetched.latencies_ms)
        if self.check.must_stop:
            self.check.cut_short(Reason.DEADLINE)
            return approach, self.due
        if error := _list_error(fetched):
            return self._handle_list_failure(error, approach), self.due
        result = await asyncio.to_thread(self._reconcile, fetched.listing)
        if result.listed:
            self.check.confirm_access()
        if needs_sample(tracked=result.tracked, missing=result.missing) and await self._list_is_wrong(result):
            detail = f"it lacks {result.missing} of {result.tracked} items, and those that were asked about exist"
            # the sample was asked: it has opened the run, and nothing of it is asked twice
            return Approach(by_list=False, reason=ApproachReason.LIST_WRONG, detail=detail), replace(
                self.due, first_ids=()
            )
        self.check.add_confirmed(result.confirmed)
        self.progress.begin(result.tracked - result.confirmed)
        remaining = self._items_to_ask(result, fetched.listing)
        await self.check.run(remaining, known_outcome=lambda item: self._outcome_from_list(fetched.listing, item))
        return approach, await self._due_after_list(result, fetched.listing)

    async def _fetch_list(self, first: Request) -> FetchedList:
        """The list; an interrupt ends the wait for it."""
        auto, left_s = self.strategy is Strategy.AUTO, self.deadline_s - time.monotonic()
        fetching = asyncio.create_task(
            fetch_list(
                self.provider,
                self.client,
                first=first,
                deadline_s=self.deadline_s - left_s * LIST_SHARE if auto else self.deadline_s,
                max_attempts=LIST_ATTEMPTS if auto else None,
            )
        )
        interrupted = asyncio.create_task(self.interrupt.wait())
        try:
            await asyncio.wait((fetching, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                return fetching.result()
            self.check.cut_short(Reason.INTERRUPTED)
            return FetchedList()
        finally:
            for task in (fetching, interrupted):
                task.cancel()
            await asyncio.gather(fetching, interrupted, return_exceptions=True)

    def _handle_list_failure(self, error: ApiError, approach: Approach) -> Approach:
        """What a list that could not be had leads to."""
        if error.is_local(DEADLINE_EXCEEDED) and self.strategy is Strategy.LIST:
            self.check.cut_short(Reason.DEADLINE)
            return approach
        cause = cause_of(error)
        hint_s = error.retry_after.total_seconds() if error.retry_after and is_transient(error) else 0.0
        retry_is_too_late = time.monotonic() + hint_s >= self.deadline_s
        if (
            list_failure_ends_run(self.strategy, cause)
            or error.from_token_endpoint
            or self.client.tripped
            or retry_is_too_late
        ):
            self.check.stop(cause, error, items=self.due.count)
            return approach
        return Approach(
            by_list=False,
            reason=_LIST_FAILURE_REASONS.get(cause, ApproachReason.LIST_REFUSED),
            detail=_error_detail(error),
        )

    async def _list_is_wrong(self, result: Reconciliation) -> bool:
        """Asks about a sample of what the list lacks."""
        self.progress.begin(len(result.sample))
        sample = await asyncio.to_thread(self._load_items, result.sample)
        await self.check.run(iter([sample]))
        states = await asyncio.to_thread(self._load_states, result.sample)
        existing_states = (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED)
        existing = sum(state in existing_states for state in states)
        return list_is_wrong(existing=existing, absent=sum(state is ItemState.NOT_FOUND for state in states))

    def _reconcile(self, listing: Listing) -> Reconciliation:
        canonical, valid = self.provider.canonical, self.provider.valid_id
        return reconcile(self._completions(), listing, canonical=canonical, valid=valid)

    def _completions(self) -> Iterator[list[ItemCompletion]]:
        pages = worklist.iter_completions(self.engine, target=self.target)
        if self.probed_id is None:
            return pages
        # what was the probe has been counted
        return ([each for each in page if each.item_id != self.probed_id] for page in pages)

    def _choose_probe(self) -> TrackedItem | None:
        """The item to begin with; None when there is none."""
        fit = next((item_id for item_id in self.due.probe_ids if self.provider.valid_id(item_id)), None)
        return next(iter(self._load_items([fit])), None) if fit else None

    def _load_items(self, item_ids: Sequence[str]) -> list[TrackedItem]:
        return worklist.load_items(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _load_states(self, item_ids: Sequence[str]) -> list[ItemState]:
        return worklist.load_states(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _items_to_ask(self, result: Reconciliation, listing: Listing) -> Iterator[list[TrackedItem]]:
        """What is not known to be completed, and what is but the list does not say so again."""
        yield from worklist.iter_due_items(
            self.engine, target=self.target, run_id=self.run_id, recheck=0, batch=BATCH_SIZE
        )
        for chunk in self._unconfirmed_ids(result, listing):
            yield self._load_items(chunk)

    def _unconfirmed_ids(self, result: Reconciliation, listing: Listing) -> Iterator[Sequence[str]]:
        if not result.unconfirmed:
            return  # one more pass over a million items would find nothing
        canonical = self.provider.canonical
        for page in self._completions():
            unconfirmed = [s.item_id for s in page if s.known_completed and not is_confirmed(s, listing, canonical)]
            yield from in_chunks(unconfirmed)

    def _outcome_from_list(self, listing: Listing, item: TrackedItem) -> Outcome | None:
        stage = listing.completed_stage(self.provider.canonical(item.item_id))
        if stage is None or item.in_incident:
            return None
        at = self.utcnow()
        return Outcome(item_id=item.item_id, state=ItemState.COMPLETED, stage=stage, answered=True, at=at)

    async def _due_after_list(self, result: Reconciliation, listing: Listing) -> DueItems:
        """Everything was due; of a run that was cut short, what the list did not confirm is left unknown."""
        unconfirmed: tuple[str, ...] = ()
        if self.check.must_stop:
            unconfirmed = await asyncio.to_thread(
                lambda: tuple(i for chunk in self._unconfirmed_ids(result, listing) for i in chunk)
            )
        return DueItems(count=result.tracked + (self.probed_id is not None), recheck_ids=unconfirmed)


_LIST_FAILURE_REASONS = {Cause.OUTAGE: ApproachReason.LIST_FAILED, Cause.BAD_RESPONSE: ApproachReason.LIST_UNREADABLE}


def _list_error(fetched: FetchedList) -> ApiError | None:
    """Why there is no list; a body that can't be used is an error like one that the API sent."""
    if fetched.bad_body is not None:
        return ApiError(status=200, message=fetched.bad_body.reason)
    return fetched.error


def _error_detail(error: ApiError) -> str:
    if error.is_local(DEADLINE_EXCEEDED):
        return "it took too long"
    # without a status, and for a body that can't be used, the message is our own
    return f"HTTP {error.status}" if error.status not in {None, 200} else error.message or "no answer"
