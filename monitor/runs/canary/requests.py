"""Sends the requests of a canary's steps by the resilient client. It stores nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from monitor.client.classify import is_absent
from monitor.model import BadBody, Outcome
from monitor.model.http import ApiError
from monitor.model.items import TrackedItem
from monitor.providers import Provider
from monitor.providers.canary import CanaryStep, StepAnswer
from monitor.runs.canary.model import BAD_ANSWER, Document, Step, StepFailure, failure_of_error
from monitor.runs.looks import looks_for
from monitor.runs.progress import ApiClient

_WAIT_SHARE, MIN_WAIT_S, _MAX_WAIT_S = 0.1, 0.25, 15.0
"""Between two questions: a share of the time so far, so that a duration is known to within a tenth."""
LIST_WAIT_S = 5.0
"""Instead of `MIN_WAIT_S` where each question fetches a whole list."""
_ATTEMPTS = 3


class InterruptedCanaryError(Exception):
    """A signal came while a step was waiting."""


@dataclass(slots=True, kw_only=True)
class Pause:
    """Waits between two questions, longer and longer, until a deadline or a signal."""

    deadline_s: float
    """On the monotonic clock."""
    interrupt: asyncio.Event
    min_wait_s: float = MIN_WAIT_S
    began_s: float = field(default_factory=time.monotonic)

    async def wait(self) -> bool:
        """Waits; False if the deadline came first. Raises InterruptedCanaryError on a signal."""
        if self.interrupt.is_set():
            raise InterruptedCanaryError
        now_s = time.monotonic()
        wait_s = min(_MAX_WAIT_S, max(self.min_wait_s, (now_s - self.began_s) * _WAIT_SHARE))
        left_s = self.deadline_s - now_s
        if left_s <= 0:
            return False
        try:
            await asyncio.wait_for(self.interrupt.wait(), min(wait_s, left_s))
        except TimeoutError:
            return time.monotonic() < self.deadline_s
        raise InterruptedCanaryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How one request of a step ended: with an answer, or a failure."""

    answer: StepAnswer = field(default_factory=StepAnswer)
    failure: StepFailure | None = None
    absent: bool = False
    """The failure is that there is no such document."""
    refused: bool = False
    """The failure shows that nothing was done: the API answered with a 4xx, or nothing was sent."""
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSender:
    """Sends requests of steps. Their failures say nothing about the service to others who share its limits."""

    client: ApiClient

    async def send(self, kind: Step, step: CanaryStep, document: Document, *, deadline_s: float) -> Sent:
        """Sends the request of one step and reads its answer."""
        request = step.request(document.values)
        if request is None:
            reason = f"a value that {step.template} needs is not known, or can't be sent"
            return Sent(failure=StepFailure(step=kind, code=BAD_ANSWER, reason=reason), refused=True, attempts=0)
        result = await self.client.send(request, deadline_s=deadline_s, max_attempts=_ATTEMPTS, is_sample=False)
        if result.reply is None:
            error = result.error or ApiError(status=None)
            return Sent(
                failure=failure_of_error(kind, error, template=step.template, attempts=result.attempts),
                absent=is_absent(error),
                refused=not result.attempts or _is_refusal(error),
                attempts=result.attempts,
            )
        answer = step.read(result.reply.body)
        if isinstance(answer, BadBody):
            reason = f"the answer to {step.template} can't be used: {result.redact(answer.reason)}"
            failure = StepFailure(step=kind, code=BAD_ANSWER, reason=reason, http_status=result.reply.status)
            return Sent(failure=failure, attempts=result.attempts)
        return Sent(answer=answer, attempts=result.attempts)


def _is_refusal(error: ApiError) -> bool:
    return error.status is not None and 400 <= error.status < 500 and error.status != HTTPStatus.REQUEST_TIMEOUT


def lacking_failure(kind: Step, step: CanaryStep, answer: StepAnswer) -> StepFailure:
    """The failure of a step whose answer lacks what the description expects."""
    return StepFailure(
        step=kind,
        code=BAD_ANSWER,
        reason=f"the answer to {step.template} does not say what is expected at {answer.lacking!r}",
    )


Ask = Callable[[float], Awaitable[Outcome | None]]
"""Asks once about the document, until a deadline (monotonic seconds); None: our own limit prevented an answer."""


def item_asker(provider: Provider, client: ApiClient, item_id: str, *, utcnow: Callable[[], datetime]) -> Ask:
    """How one item is asked about: by its own question, or, where there is none, by the list."""

    async def ask(deadline_s: float) -> Outcome | None:
        looks = looks_for(provider, client, deadline_s=deadline_s, max_attempts=_ATTEMPTS, utcnow=utcnow)
        # its failures are no sample of the service; and it is no news that it is not there yet, or no more
        item = TrackedItem(item_id=item_id, first_seen_at=utcnow(), unverified_runs=1, known_missing=True)
        (outcome,) = await looks.ask([item])
        return outcome if isinstance(outcome, Outcome) else None

    return ask
