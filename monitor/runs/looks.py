"""Asks the API about given items, for waits and canaries: by item, by batch, or by the list of an API that has nothing
else. The questions are those of a run; who asks decides when to ask again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from monitor.client.classify import cause_of
from monitor.model import BadBody, ItemState, ItemStatus, Outcome
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, CallResult
from monitor.model.items import TrackedItem
from monitor.providers import Provider, is_list_only
from monitor.runs.item_questions import ItemQuestions, NoOutcome
from monitor.runs.list_check import fetch_list
from monitor.runs.outcomes import listed_outcome, malformed_id_outcome
from monitor.runs.progress import ApiClient

ALL_ITEMS = 1_000_000
"""The size of a batch where one list answers for every item."""


class Looks(Protocol):
    """How a wait asks; `batch_size` items at a time have one answer, or a few."""

    @property
    def batch_size(self) -> int:
        """How many items one look takes (≥ 1)."""
        ...

    @property
    def requests(self) -> int:
        """Attempts that were sent so far."""
        ...

    def alike(self, one: TrackedItem, other: TrackedItem) -> bool:
        """Whether both can be asked about together."""
        ...

    async def ask(self, items: Sequence[TrackedItem]) -> Sequence[Outcome | NoOutcome]:
        """What came for each item, in their order; or which limit of our own prevented it."""
        ...


def looks_for(
    provider: Provider, client: ApiClient, *, deadline_s: float, max_attempts: int, utcnow: Callable[[], datetime]
) -> Looks:
    """The way to ask that an API has. `deadline_s` is on the monotonic clock."""
    if is_list_only(provider):
        return ListLooks(provider, client, deadline_s=deadline_s, max_attempts=max_attempts, utcnow=utcnow)
    return ItemLooks(provider, client, deadline_s=deadline_s, max_attempts=max_attempts, utcnow=utcnow)


class ItemLooks:
    """One request per item, or per batch of ids."""

    def __init__(
        self,
        provider: Provider,
        client: ApiClient,
        *,
        deadline_s: float,
        max_attempts: int,
        utcnow: Callable[[], datetime],
    ) -> None:
        self.requests = 0
        self._questions = ItemQuestions(
            provider=provider,
            client=client,
            deadline_s=deadline_s,
            max_attempts=max_attempts,
            utcnow=utcnow,
            on_result=self._count,
        )
        self.batch_size = self._questions.batch_size

    def _count(self, result: CallResult, _is_repeat: bool) -> None:  # noqa: FBT001  # a callback
        self.requests += result.attempts

    def alike(self, one: TrackedItem, other: TrackedItem) -> bool:
        """Whether both have the same path parameters, or none: a batch has one path."""
        return one.params == other.params

    async def ask(self, items: Sequence[TrackedItem]) -> Sequence[Outcome | NoOutcome]:
        """The answers to one question each, or to one together."""
        if self.batch_size == 1:
            return [await self._questions.ask(item) for item in items]
        return await self._questions.ask_together(items)


class ListLooks:
    """The whole list for all items: the API has no question for one of them."""

    batch_size = ALL_ITEMS

    def __init__(
        self,
        provider: Provider,
        client: ApiClient,
        *,
        deadline_s: float,
        max_attempts: int,
        utcnow: Callable[[], datetime],
    ) -> None:
        self._provider, self._client = provider, client
        self._deadline_s, self._max_attempts, self._utcnow = deadline_s, max_attempts, utcnow
        self.requests = 0

    def alike(self, one: TrackedItem, other: TrackedItem) -> bool:  # noqa: ARG002  # the signature of `Looks`
        """Always: the list is asked as a whole."""
        return True

    async def ask(self, items: Sequence[TrackedItem]) -> Sequence[Outcome | NoOutcome]:
        """What one list says of each item."""
        first = self._provider.list_request()
        if first is None:  # a provider of another package that contradicts itself
            return [self._failed(item, ApiError(status=None, message="the API has no list")) for item in items]
        fetched = await fetch_list(
            self._provider, self._client, first=first, deadline_s=self._deadline_s, max_attempts=self._max_attempts
        )
        self.requests += fetched.requests
        error = fetched.error
        if fetched.bad_body is not None:
            error = ApiError(status=200, message=fetched.bad_body.reason)
        if error is not None:
            if error.is_local(DEADLINE_EXCEEDED):
                return [DEADLINE_EXCEEDED] * len(items)
            return [self._failed(item, error) for item in items]
        return [self._listed(item, fetched.listing.status_of(self._provider.canonical(item.item_id))) for item in items]

    def _listed(self, item: TrackedItem, status: ItemStatus | BadBody | None) -> Outcome:
        at = self._utcnow()
        if not self._provider.valid_id(item.item_id):
            return malformed_id_outcome(item.item_id, at)
        return listed_outcome(item.item_id, status, at)

    def _failed(self, item: TrackedItem, error: ApiError) -> Outcome:
        """The list was not answered: that says nothing about an item, whatever its status."""
        return Outcome(
            item_id=item.item_id,
            state=ItemState.UNKNOWN,
            reason=cause_of(error),
            error=error,
            answered=False,
            at=self._utcnow(),
        )
