"""Asks the API about items: one by one or many ids at once, with a second question where the first settles nothing.

It returns outcomes. Which items are asked about, and when, is decided by `item_check` and `admission`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from monitor.client.classify import is_absent, is_invalid_id
from monitor.model import BadBody, Cause, ItemState, ItemStatus, Outcome
from monitor.model.http import (
    DEADLINE_EXCEEDED,
    RETRY_BUDGET_EXHAUSTED,
    ApiError,
    CallResult,
    Meaning,
    Request,
    is_valid_path,
)
from monitor.model.items import TrackedItem
from monitor.providers import FollowUp, Provider, request_for
from monitor.runs.outcomes import outcome_from_error, outcome_from_status
from monitor.runs.progress import ApiClient

NoOutcome = str
"""`DEADLINE_EXCEEDED` or `RETRY_BUDGET_EXHAUSTED`: our own limit prevented an answer."""


class ItemQuestions:
    """The questions of one run. `on_result(result, is_repeat)` is told of each finished call."""

    def __init__(
        self,
        *,
        provider: Provider,
        client: ApiClient,
        deadline_s: float,
        max_attempts: int,
        utcnow: Callable[[], datetime],
        on_result: Callable[[CallResult, bool], None],
    ) -> None:
        self._provider, self._client = provider, client
        self._deadline_s, self._max_attempts, self._utcnow = deadline_s, max_attempts, utcnow
        self._on_result = on_result
        self.batch_size: int = getattr(provider, "batch_size", 1)
        """How many ids one request takes."""

    async def ask(self, item: TrackedItem, *, is_repeat: bool = False) -> Outcome | NoOutcome:
        """The outcome for one item, or why there is none. A repeat counts against the retry budget."""
        if self.batch_size > 1:
            return (await self.ask_together([item], is_repeat=is_repeat))[0]
        item_id, params = item.item_id, item.params
        request = request_for(self._provider, item_id, params) if params else self._provider.item_request(item_id)
        result = await self._call(request, item, is_repeat=is_repeat)
        if result.attempts:
            self._on_result(result, is_repeat)
        if result.reply is None:
            return _own_limit(result) or outcome_from_error(item_id, _error(result), self._utcnow())
        status = self._provider.read_item(result.reply.body, item_id)
        if isinstance(status, FollowUp):
            return await self._follow_up(status.request, item, is_repeat=is_repeat)
        return outcome_from_status(item_id, result.reply, status, self._utcnow(), redact=result.redact)

    async def ask_together(
        self, items: Sequence[TrackedItem], *, is_repeat: bool = False
    ) -> Sequence[Outcome | NoOutcome]:
        """The outcomes for at most `batch_size` items in their order, or why there is none.

        A refusal that may be about one of several ids is settled by asking about each by itself.
        """
        ids = [item.item_id for item in items]
        if len(items) == 1:
            request = request_for(self._provider, ids[0], items[0].params)
        else:
            request = self._provider.batch_request(ids)  # type: ignore[attr-defined]  # batch_size is over 1
            if not is_valid_path(request.path):  # the ids are too long for one URL
                half = len(items) // 2
                return [
                    *await self.ask_together(items[:half], is_repeat=is_repeat),
                    *await self.ask_together(items[half:], is_repeat=is_repeat),
                ]
        result = await self._send(request, items[0], is_repeat=is_repeat)
        if (limit := _own_limit(result)) is not None:
            return [limit] * len(ids)
        at = self._utcnow()
        if result.reply is not None:
            read: Mapping[str, ItemStatus | BadBody | Meaning]
            read = self._provider.read_batch(result.reply.body, ids)  # type: ignore[attr-defined]  # as above
            reply, redact = result.reply, result.redact
            return [outcome_from_status(item_id, reply, read[item_id], at, redact=redact) for item_id in ids]
        error = _error(result)
        if len(ids) > 1 and (is_absent(error) or is_invalid_id(error)):
            return [(await self.ask_together([item], is_repeat=is_repeat))[0] for item in items]
        return [outcome_from_error(item_id, error, at) for item_id in ids]

    async def _follow_up(self, request: Request, item: TrackedItem, *, is_repeat: bool) -> Outcome | NoOutcome:
        """Asks the second question. The first shows that the item exists, so a refusal leaves it unknown."""
        result = await self._send(request, item, is_repeat=is_repeat)
        if (limit := _own_limit(result)) is not None:
            return limit
        at = self._utcnow()
        if result.reply is not None:
            status: ItemStatus | BadBody | Meaning
            status = self._provider.read_follow_up(result.reply.body, item.item_id)  # type: ignore[attr-defined]  # it asked for it
            return outcome_from_status(item.item_id, result.reply, status, at, redact=result.redact)
        error = _error(result)
        if is_absent(error) or is_invalid_id(error):
            unknown, cause = ItemState.UNKNOWN, Cause.BAD_RESPONSE
            return Outcome(item_id=item.item_id, state=unknown, reason=cause, error=error, answered=False, at=at)
        return outcome_from_error(item.item_id, error, at)

    async def _send(self, request: Request, item: TrackedItem, *, is_repeat: bool) -> CallResult:
        result = await self._call(request, item, is_repeat=is_repeat)
        if result.attempts:
            self._on_result(result, is_repeat)
        return result

    def _call(self, request: Request, item: TrackedItem, *, is_repeat: bool) -> Awaitable[CallResult]:
        """The client's call; an item with a trouble of its own gets fewer attempts, and says nothing about others."""
        if item.known_missing:
            request = request.for_missing_item()
        own = item.unverified_runs > 0
        return self._client.send(
            request,
            deadline_s=self._deadline_s,
            max_attempts=max(1, self._max_attempts >> item.unverified_runs) if own else None,
            is_repeat=is_repeat,
            is_sample=not own,
        )


def _error(result: CallResult) -> ApiError:
    return result.error or ApiError(status=None)


def _own_limit(result: CallResult) -> NoOutcome | None:
    error = result.error
    if error is None:
        return None
    return next((code for code in (DEADLINE_EXCEEDED, RETRY_BUDGET_EXHAUSTED) if error.is_local(code)), None)
