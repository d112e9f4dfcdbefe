"""One run's questions to the API, by the target's strategy: its list first, or item by item.

1. Where the API refuses the target (`incidents.probing`), one item is asked about; if that is refused, it is all.
2. `choose` decides. Item by item, the due items of the work list are asked about, and that is all.
3. The list is fetched as a stream. What could not be had ends the run or leads to item by item (`ends_the_run`).
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
from monitor.database.engine import in_fews
from monitor.model import Cause, ItemState, Outcome, Reason, Standing
from monitor.model.http import PAST_DEADLINE, ApiError, Request
from monitor.model.items import TrackedItem
from monitor.providers import Listing, Provider
from monitor.runs import list_check as catalogues
from monitor.runs import worklist as items
from monitor.runs import worklist as standings
from monitor.runs.item_check import Asker, ItemCheck
from monitor.runs.list_check import Catalogue, ListAsker, Survey, confirmed, survey
from monitor.runs.progress import CheckReport, Due, Progress
from monitor.runs.strategy import Approach, Strategy, Why, choose, ends_the_run, lacks_much, refuted

BATCH = 4000
"""Due items that are read, and put out of order, at once."""

LIST_SHARE = 0.5
"""Of the time that is left, what `auto` grants the list: there must be some left to ask item by item."""
LIST_ATTEMPTS = 2
"""Of `auto` per page: where the list fails and the items do not, the breaker must not have opened before them."""


class Inquirer(ListAsker, Asker, Protocol):
    """What an inquiry needs of the resilient client."""

    def attempts(self, requests: int) -> Mapping[str, int]:
        """Attempts by status class, of which so many were no requests for tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Asks about the items of one target, for one run."""

    engine: Engine
    target: str
    run_id: int
    due: Due
    """What item by item would ask about."""
    strategy: Strategy
    provider: Provider
    client: Inquirer
    check: ItemCheck
    deadline_s: float
    interrupt: asyncio.Event
    progress: Progress
    utcnow: Callable[[], datetime]
    probed: str | None = None
    """The item that was the run's probe: it has its outcome."""

    async def run(self) -> tuple[Due, CheckReport]:
        """Asks; gives back what turned out to be due, and how it ended.

        Raises:
            StoreError: when the work list can't be read or written.
            LeaseLostError: when another run took over.
        """
        due, checked = await self._asked()
        return due, replace(checked, attempts=self.client.attempts(checked.requests))

    async def _asked(self) -> tuple[Due, CheckReport]:
        cause = self.due.probe_for
        if cause is None:
            return await self._all()
        probe = await asyncio.to_thread(self._probe)
        if probe is None:
            # nothing tracked, or nothing that the API could accept: a list would be a request for nothing
            return await replace(self, strategy=Strategy.ITEMS)._all()  # noqa: SLF001  # one of this very class
        due, checked = await self._after(probe)
        return due, replace(checked, probed_for=cause)

    async def _after(self, probe: TrackedItem) -> tuple[Due, CheckReport]:
        """Asks about one item, and about all others only if that does not end the run."""
        self.progress.begin(1)
        await self.check.probe(probe)
        if self.check.over:
            self.check.cut(Reason.DEADLINE)
            return self.due, self.check.report()
        first, again = (
            tuple(item_id for item_id in ids if item_id != probe.item_id)
            for ids in (self.due.first_ids, self.due.recheck_ids)
        )
        rest = replace(self.due, first_ids=first, recheck_ids=again)
        return await replace(self, due=rest, probed=probe.item_id)._all()  # noqa: SLF001  # one of this very class

    async def _all(self) -> tuple[Due, CheckReport]:
        """Asks about all that is due, but for what was the probe."""
        first = self.provider.list_request()
        approach = choose(self.strategy, has_list=first is not None, due=self.due.count)
        due = self.due
        if approach.by_list and first is not None:
            approach, due = await self._by_list(first, approach)
        if not approach.by_list:
            self.progress.begin(due.count)
            recheck, openers = len(due.recheck_ids), due.first_ids
            await self.check.run(
                items.due(
                    self.engine, target=self.target, run_id=self.run_id, recheck=recheck, first=openers, batch=BATCH
                )
            )
        return due, replace(self.check.report(), approach=approach)

    async def _by_list(self, first: Request, approach: Approach) -> tuple[Approach, Due]:
        found = await self._fetched(first)
        self.check.count(requests=found.requests, retries=found.retries, latencies_ms=found.latencies_ms)
        if self.check.over:
            self.check.cut(Reason.DEADLINE)
            return approach, self.due
        if error := _failure(found):
            return self._without(error, approach), self.due
        seen = await asyncio.to_thread(self._surveyed, found.listing)
        if seen.named:
            self.check.vouch()
        if lacks_much(tracked=seen.tracked, lacking=seen.lacking) and await self._refuted(seen):
            detail = f"it lacks {seen.lacking} of {seen.tracked} items, and those that were asked about exist"
            # the sample was asked: it has opened the run, and nothing of it is asked twice
            return Approach(by_list=False, why=Why.LIST_WRONG, detail=detail), replace(self.due, first_ids=())
        self.check.confirm(seen.confirmed)
        self.progress.begin(seen.tracked - seen.confirmed)
        questions = self._open_questions(seen, found.listing)
        await self.check.run(questions, known=lambda item: self._listed(found.listing, item))
        return approach, await self._due_by_list(seen, found.listing)

    async def _fetched(self, first: Request) -> Catalogue:
        """The list; an interrupt ends the wait for it."""
        auto, left_s = self.strategy is Strategy.AUTO, self.deadline_s - time.monotonic()
        reading = asyncio.create_task(
            catalogues.fetch(
                self.provider,
                self.client,
                first=first,
                deadline_s=self.deadline_s - left_s * LIST_SHARE if auto else self.deadline_s,
                max_attempts=LIST_ATTEMPTS if auto else None,
            )
        )
        stopping = asyncio.create_task(self.interrupt.wait())
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            self.check.cut(Reason.INTERRUPTED)
            return Catalogue()
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)

    def _without(self, error: ApiError, approach: Approach) -> Approach:
        """What a list that could not be had leads to."""
        if error.is_our(PAST_DEADLINE) and self.strategy is Strategy.LIST:
            self.check.cut(Reason.DEADLINE)
            return approach
        cause = cause_of(error)
        hint_s = error.retry_after.total_seconds() if error.retry_after and is_transient(error) else 0.0
        comes_back_late = time.monotonic() + hint_s >= self.deadline_s
        if ends_the_run(self.strategy, cause) or error.from_token_endpoint or self.client.tripped or comes_back_late:
            self.check.stop(cause, error, items=self.due.count)
            return approach
        return Approach(by_list=False, why=_WHY.get(cause, Why.LIST_REFUSED), detail=_detail(error))

    async def _refuted(self, seen: Survey) -> bool:
        """Asks about a sample of what the list lacks."""
        self.progress.begin(len(seen.sample))
        sample = await asyncio.to_thread(self._named, seen.sample)
        await self.check.run(iter([sample]))
        states = await asyncio.to_thread(self._states, seen.sample)
        shown = (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED)
        existing = sum(state in shown for state in states)
        return refuted(existing=existing, absent=sum(state is ItemState.NOT_FOUND for state in states))

    def _surveyed(self, listing: Listing) -> Survey:
        canonical, valid = self.provider.canonical, self.provider.valid_id
        return survey(self._standings(), listing, canonical=canonical, valid=valid)

    def _standings(self) -> Iterator[list[Standing]]:
        pages = standings.read(self.engine, target=self.target)
        if self.probed is None:
            return pages
        # what was the probe has been counted
        return ([each for each in page if each.item_id != self.probed] for page in pages)

    def _probe(self) -> TrackedItem | None:
        """The item to begin with; None when there is none."""
        fit = next((item_id for item_id in self.due.probe_ids if self.provider.valid_id(item_id)), None)
        return next(iter(self._named([fit])), None) if fit else None

    def _named(self, item_ids: Sequence[str]) -> list[TrackedItem]:
        return items.named(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _states(self, item_ids: Sequence[str]) -> list[ItemState]:
        return standings.states(self.engine, target=self.target, run_id=self.run_id, item_ids=item_ids)

    def _open_questions(self, seen: Survey, listing: Listing) -> Iterator[list[TrackedItem]]:
        """What is not known to be completed, and what is but the list does not say so again."""
        yield from items.due(self.engine, target=self.target, run_id=self.run_id, recheck=0, batch=BATCH)
        for few in self._unconfirmed(seen, listing):
            yield self._named(few)

    def _unconfirmed(self, seen: Survey, listing: Listing) -> Iterator[Sequence[str]]:
        if not seen.unconfirmed:
            return  # one more pass over a million items would find nothing
        canonical = self.provider.canonical
        for page in self._standings():
            odd = [s.item_id for s in page if s.finished and not confirmed(s, listing, canonical)]
            yield from in_fews(odd)

    def _listed(self, listing: Listing, item: TrackedItem) -> Outcome | None:
        stage = listing.completed_as(self.provider.canonical(item.item_id))
        if stage is None or item.member:
            return None
        at = self.utcnow()
        return Outcome(item_id=item.item_id, state=ItemState.COMPLETED, stage=stage, answered=True, at=at)

    async def _due_by_list(self, seen: Survey, listing: Listing) -> Due:
        """Everything was due; of a run that was cut short, what the list did not confirm is left unknown."""
        unsure: tuple[str, ...] = ()
        if self.check.over:
            unsure = await asyncio.to_thread(lambda: tuple(i for few in self._unconfirmed(seen, listing) for i in few))
        return Due(count=seen.tracked + (self.probed is not None), recheck_ids=unsure)


_WHY = {Cause.OUTAGE: Why.LIST_FAILED, Cause.BAD_RESPONSE: Why.LIST_UNREADABLE}


def _failure(found: Catalogue) -> ApiError | None:
    """Why there is no list; a body that can't be used is an error like one that the API sent."""
    if found.bad is not None:
        return ApiError(status=200, message=found.bad.reason)
    return found.error


def _detail(error: ApiError) -> str:
    if error.is_our(PAST_DEADLINE):
        return "it took too long"
    # without a status, and for a body that can't be used, the message is our own
    return f"HTTP {error.status}" if error.status not in {None, 200} else error.message or "no answer"
