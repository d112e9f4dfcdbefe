"""Checks the items of a target in one run, with the provider's list first or item by item.

1. While an incident says that the API refuses the target, one item is asked about first (the probe). If it is refused,
   the check ends.
2. `choose_approach` decides. Item by item means that only the due items of the work list are asked about.
3. The list is fetched as a stream. If that fails, the run ends or continues item by item (`list_failure_ends_run`).
4. The list is compared with the work list. If many ids are missing from it, a sample is asked about one by one, and a
   wrong list is dropped.
5. Items that are completed in the list need no request; every other tracked item is asked about. If the API has no
   question for one item, the list answers for all of them.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine

from monitor.client.classify import cause_of, is_gateways
from monitor.client.retry import is_transient
from monitor.database.engine import in_chunks
from monitor.model import Cause, ItemCompletion, ItemState, Outcome, Reason
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, Request
from monitor.model.items import ItemChange, TrackedItem, first_completion, transition
from monitor.providers import Listing, Provider, is_list_only
from monitor.runs import completions, worklist
from monitor.runs.item_check import ItemCheck
from monitor.runs.list_check import FetchedList, Reconciliation, fetch_list, unconfirmed_ids
from monitor.runs.list_comparison import ListComparison
from monitor.runs.outcomes import listed_outcome, malformed_id_outcome
from monitor.runs.progress import ApiClient, CheckReport, DueItems, Progress
from monitor.runs.stop_rules import FIRST_ITEMS
from monitor.runs.strategy import (
    Approach,
    ApproachReason,
    Strategy,
    choose_approach,
    list_failure_ends_run,
    list_is_wrong,
    needs_sample,
)
from monitor.runs.time_limit import settle
from monitor.threads import run_in_database_pool

BATCH_SIZE = 4000
"""Due items that are read together, and shuffled among those that one run asked about."""

LIST_SHARE = 0.5
"""The share of the remaining time that `auto` gives the list; the rest is for item by item."""
LIST_ATTEMPTS = 2
"""Attempts per page with `auto`, so that a failing list does not open the circuit breaker for the items."""

MAX_FIRST_MEMBERS = 1000
"""Members of incidents that are asked about before the other items are shared."""


class FirstItems:
    """Divides due items into the first `count` (> 0), with the members of incidents that come before others, and the
    rest. Of a batch they are spread evenly: neighbours often fail together.
    """

    def __init__(self, batches: Iterator[list[TrackedItem]], *, count: int) -> None:
        self._batches, self._count = batches, count
        self._kept: list[TrackedItem] = []

    def begin(self) -> Iterator[list[TrackedItem]]:
        """The first items."""
        left, members = self._count, MAX_FIRST_MEMBERS
        for batch in self._batches:
            if len(batch) <= members and all(item.in_incident for item in batch):
                members -= len(batch)
                yield batch
            elif left <= 0:
                self._kept = batch
                return
            else:
                chosen = batch[:: max(1, len(batch) // left)][:left]
                left -= len(chosen)
                ids = {item.item_id for item in chosen}
                self._kept = [item for item in batch if item.item_id not in ids]
                yield chosen
                if self._kept:
                    return

    def rest(self) -> Iterator[list[TrackedItem]]:
        """The others, once the first were taken."""
        if self._kept:
            yield self._kept
        yield from self._batches


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCheck:
    """Checks the items of one target in one run."""

    engine: Engine
    target: str
    run_id: int
    epoch: int
    """Of the lease under which the run writes."""
    due: DueItems
    """The items to ask about, item by item."""
    strategy: Strategy
    provider: Provider
    client: ApiClient
    check: ItemCheck
    deadline_s: float
    interrupt: asyncio.Event
    progress: Progress
    utcnow: Callable[[], datetime]
    probed_id: str | None = None
    """The item that was probed; it has its outcome."""
    recheck_completed: bool = True
    """Whether a completed item may be asked about again; False: the API forgets it."""
    share_above: int | None = None
    """If more items are due, one by one, only the first are asked about: the others may be shared, and so may be what a
    signal left. None: never."""

    async def run(self) -> tuple[DueItems, CheckReport]:
        """Runs the check. Returns the items that were due, and the result.

        Raises:
            LeaseLostError: another run took over.
            StoreError: the work list can't be read or written.
        """
        due, checked = await self._check()
        return due, replace(checked, attempts=self.client.attempts(checked.requests), limits=self.client.limits())

    async def _check(self) -> tuple[DueItems, CheckReport]:
        cause = self.due.probe_for
        if cause is None:
            return await self._check_all()
        if is_list_only(self.provider):
            due, checked = await self._check_all()  # the first page of the list is the probe
            return due, replace(checked, probed_for=cause)
        probe = await run_in_database_pool(self._choose_probe)
        if probe is None:
            # no valid id is tracked: fetching the list would be pointless
            return await replace(self, strategy=Strategy.ITEMS)._check_all()  # noqa: SLF001  # one of this very class
        due, checked = await self._check_after_probe(probe)
        return due, replace(checked, probed_for=cause)

    async def _check_after_probe(self, probe: TrackedItem) -> tuple[DueItems, CheckReport]:
        """Asks about one item, then about all others unless the run must stop."""
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
        """Checks all due items except the probe."""
        first = self.provider.list_request()
        approach = choose_approach(self.strategy, has_list=first is not None, due=self.due.count)
        due = self.due
        if approach.by_list and first is not None:
            approach, due = await self._check_by_list(first, approach)
        shared = False
        if not approach.by_list:
            self.progress.begin(due.count)
            if self.share_above is not None and due.count > self.share_above:
                shared = await self._check_first_items(due)
            else:
                await self.check.run(self._due_items(due))
            shared = shared or (self.share_above is not None and self.check.may_be_handed_on)
        return due, replace(self.check.report(), approach=approach, shared=shared)

    async def _check_first_items(self, due: DueItems) -> bool:
        """Asks about the first items, and, if the API does not answer for them, about all others.

        Returns whether the others are left to be shared.
        """
        members = min(due.members_first, MAX_FIRST_MEMBERS)
        first = FirstItems(self._due_items(replace(due, members_first=members)), count=FIRST_ITEMS)
        await self.check.run(first.begin(), more_follow=True)
        shared = self.check.may_be_shared
        await self.check.run(iter(()) if shared else first.rest())
        return shared

    async def _check_by_list(self, first: Request, approach: Approach) -> tuple[Approach, DueItems]:
        fetched = await self._fetch_list(first)
        self.check.add_requests(requests=fetched.requests, retries=fetched.retries, latencies_ms=fetched.latencies_ms)
        if self.check.must_stop:
            self.check.cut_short(Reason.DEADLINE)
            return approach, self.due
        if error := _list_error(fetched):
            return self._handle_list_failure(error, approach), self.due
        comparison = self._comparison()
        result = await run_in_database_pool(lambda: comparison.reconcile(fetched.listing))
        if result.listed and not fetched.cached:
            self.check.confirm_access()
        is_suspect = needs_sample(tracked=result.tracked, missing=result.missing) and not is_list_only(self.provider)
        if is_suspect and await self._list_is_wrong(result):
            detail = (
                f"{result.missing} of {result.tracked} items are missing from it, and those that were checked exist"
            )
            # the sample was asked about first, and not again
            return Approach(by_list=False, reason=ApproachReason.LIST_WRONG, detail=detail), replace(
                self.due, first_ids=()
            )
        self.check.add_confirmed(result.confirmed, accepted=not fetched.cached)
        self.progress.begin(result.tracked - result.confirmed)
        await self.check.settle(self._completed_by_list(fetched.listing), accepted=not fetched.cached)
        remaining = self._items_to_ask(result, fetched.listing)
        await self.check.run(remaining, known_outcome=lambda item: self._outcome_from_list(fetched.listing, item))
        is_over = self.check.must_stop
        due = await self._due_after_list(result, fetched.listing)
        if not is_over:  # the deadline is not looked at after this: what the next run needs can't cut this one short
            await run_in_database_pool(lambda: comparison.remember(fetched.listing, should_stop=self._is_late))
        return approach, due

    def _is_late(self) -> bool:
        return self.interrupt.is_set() or time.monotonic() >= self.deadline_s

    async def _fetch_list(self, first: Request) -> FetchedList:
        """Fetches the list; an interrupt ends the wait."""
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
            await settle(fetching, interrupted)

    def _handle_list_failure(self, error: ApiError, approach: Approach) -> Approach:
        """Stops the run, cuts it short, or continues item by item."""
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
        """Asks about a sample of the missing items."""
        self.progress.begin(len(result.sample))
        sample = await run_in_database_pool(lambda: self._load_items(result.sample))
        await self.check.run(iter([sample]))
        states = await run_in_database_pool(lambda: self._load_states(result.sample))
        absent = sum(state is ItemState.NOT_FOUND for state in states)
        return list_is_wrong(existing=sum(state.exists for state in states), absent=absent)

    def _comparison(self) -> ListComparison:
        return ListComparison(
            engine=self.engine,
            target=self.target,
            epoch=self.epoch,
            tracked=self.due.tracked,
            rows=self.due.rows,
            provider=self.provider,
            utcnow=self.utcnow,
            probed_id=self.probed_id,
            read_completions=self._completions,
            at_once=self.recheck_completed,
        )

    def _completions(self) -> Iterator[list[ItemCompletion]]:
        """The tracked items that this run may ask about, but the probe, which was counted before."""
        pages = completions.iter_completions(self.engine, target=self.target)
        if self.probed_id is None and self.recheck_completed:
            return pages
        return (
            [
                each
                for each in page
                if each.item_id != self.probed_id and (self.recheck_completed or not each.known_completed)
            ]
            for page in pages
        )

    def _choose_probe(self) -> TrackedItem | None:
        """The item to probe; None if there is none."""
        fit = next((item_id for item_id in self.due.probe_ids if self.provider.valid_id(item_id)), None)
        return next(iter(self._load_items([fit])), None) if fit else None

    def _load_items(self, item_ids: Sequence[str]) -> list[TrackedItem]:
        return worklist.load_items(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _load_states(self, item_ids: Sequence[str]) -> list[ItemState]:
        return worklist.load_states(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _due_items(self, due: DueItems) -> Iterator[list[TrackedItem]]:
        yield from worklist.iter_due_items(
            self.engine,
            target=self.target,
            run_id=self.run_id,
            recheck=due.recheck_ids,
            first=due.first_ids,
            members=due.members_first,
            batch=BATCH_SIZE,
            only_rechecks=due.only_rechecks,
        )
        if due.has_unverified and not due.only_rechecks:
            yield from self._unverified()

    def _completed_by_list(self, listing: Listing) -> Iterator[list[ItemChange]]:
        """What the list changes in due items that it calls completed, but for members of incidents."""
        canonical, valid = self.provider.canonical, self.provider.valid_id
        new = worklist.iter_unanswered(self.engine, target=self.target, run_id=self.run_id, batch=BATCH_SIZE)
        for rows in new:
            at = self.utcnow()
            stages = listing.completed_stages([canonical(row[0]) for row in rows])
            yield [
                first_completion(*row, stage, at)
                for row, stage in zip(rows, stages, strict=True)
                if stage is not None and valid(row[0])
            ]
        due = worklist.iter_due_items(self.engine, target=self.target, run_id=self.run_id, batch=BATCH_SIZE)
        for page in due:
            at, state = self.utcnow(), ItemState.COMPLETED
            stages = listing.completed_stages([canonical(item.item_id) for item in page])
            yield [
                transition(item, Outcome(item_id=item.item_id, state=state, stage=stage, answered=True, at=at))
                for item, stage in zip(page, stages, strict=True)
                if stage is not None and valid(item.item_id) and not item.in_incident
            ]

    def _unverified(self) -> Iterator[list[TrackedItem]]:
        for page in worklist.iter_unverified(self.engine, target=self.target, run_id=self.run_id, batch=BATCH_SIZE):
            yield [item for item in page if item.item_id != self.probed_id]

    def _items_to_ask(self, result: Reconciliation, listing: Listing) -> Iterator[list[TrackedItem]]:
        """Items that are not completed, completed ones that the list does not confirm, and unverified ones."""
        yield from worklist.iter_due_items(
            self.engine, target=self.target, run_id=self.run_id, members=self.due.members_first, batch=BATCH_SIZE
        )
        for chunk in self._unconfirmed_ids(result, listing):
            yield [item for item in self._load_items(chunk) if not item.unverified_runs]
        yield from self._unverified()

    def _unconfirmed_ids(self, result: Reconciliation, listing: Listing) -> Iterator[Sequence[str]]:
        if not result.unconfirmed:
            return  # saves a pass over a million items
        for page in self._completions():
            yield from in_chunks(unconfirmed_ids(page, listing, self.provider.canonical))

    def _outcome_from_list(self, listing: Listing, item: TrackedItem) -> Outcome | None:
        if is_list_only(self.provider):
            return self._outcome_from_list_alone(listing, item)
        stage = listing.completed_stage(self.provider.canonical(item.item_id))
        if stage is None or (item.in_incident and not item.unverified_runs):
            return None
        at = self.utcnow()
        return Outcome(item_id=item.item_id, state=ItemState.COMPLETED, stage=stage, answered=True, at=at)

    def _outcome_from_list_alone(self, listing: Listing, item: TrackedItem) -> Outcome:
        at, item_id = self.utcnow(), item.item_id
        if not self.provider.valid_id(item_id):
            return malformed_id_outcome(item_id, at)
        return listed_outcome(item_id, listing.status_of(self.provider.canonical(item_id)), at)

    async def _due_after_list(self, result: Reconciliation, listing: Listing) -> DueItems:
        """All items were due. If the run was cut short, those that the list did not confirm become unknown."""
        unconfirmed: tuple[str, ...] = ()
        if self.check.must_stop:
            unconfirmed = await run_in_database_pool(
                lambda: tuple(i for chunk in self._unconfirmed_ids(result, listing) for i in chunk)
            )
        count = result.tracked + (self.probed_id is not None)
        return DueItems(count=count, rows=self.due.rows, recheck_ids=unconfirmed)


_LIST_FAILURE_REASONS = {Cause.OUTAGE: ApproachReason.LIST_FAILED, Cause.BAD_RESPONSE: ApproachReason.LIST_UNREADABLE}


def _list_error(fetched: FetchedList) -> ApiError | None:
    """Why there is no list; a bad body is treated as an API error."""
    if fetched.bad_body is not None:
        return ApiError(status=200, message=fetched.bad_body.reason)
    return fetched.error


def _error_detail(error: ApiError) -> str:
    if error.is_local(DEADLINE_EXCEEDED):
        return "it took too long"
    if is_gateways(error):
        return f'HTTP {error.status}, a page "{error.page}"' if error.page else f"HTTP {error.status}, a page"
    # without a status, and for a bad body, the message is ours
    return f"HTTP {error.status}" if error.status not in {None, 200} else error.message or "no answer"
