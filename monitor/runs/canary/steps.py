"""The steps of a canary that wait: until its document is indexed, and until a piece of it comes back."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from monitor.model import Cause, ItemState, Outcome
from monitor.model.durations import format_duration
from monitor.providers.canary import CanaryRequests, CanaryStep
from monitor.runs.canary.model import FAILED, NOT_RETRIEVED, TIMEOUT, Document, Step, StepFailure, failure_of_error
from monitor.runs.canary.requests import Ask, Pause, StepSender, lacking_failure

_HOPELESS = frozenset({Cause.UNAUTHORIZED, Cause.FORBIDDEN, Cause.SPENDING_LIMIT})
"""Waiting cures none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexing:
    """How the wait for the index ended."""

    failure: StepFailure | None = None
    stage: str | None = None
    """The last status, as the API spells it."""
    seen: bool = False
    """The API had the document at some time."""


async def wait_until_indexed(ask: Ask, pause: Pause, *, budget: timedelta) -> Indexing:
    """Asks until the document is completed or failed, or the pause's deadline passes.

    A document that is not found yet, and an API that fails for a while, do not end the wait: the deadline decides. A
    rejected key does. Raises InterruptedCanaryError on a signal.
    """
    last: Outcome | None = None
    seen = False
    while True:
        outcome = await ask(pause.deadline_s)
        last = outcome or last
        seen = seen or (outcome is not None and outcome.stage is not None)
        if outcome is not None and outcome.state is ItemState.COMPLETED:
            return Indexing(stage=outcome.stage, seen=True)
        if outcome is not None and outcome.state is ItemState.FAILED:
            return Indexing(failure=_failed(outcome), stage=outcome.stage, seen=True)
        if outcome is not None and outcome.reason in _HOPELESS and outcome.error is not None:
            return Indexing(failure=failure_of_error(Step.INDEX, outcome.error, template="the item"), seen=seen)
        if not await pause.wait():
            stage = last.stage if last is not None else None
            return Indexing(failure=_timed_out(last, budget), stage=stage, seen=seen)


def _failed(outcome: Outcome) -> StepFailure:
    given = outcome.failure_reason or ""
    reason = f" ({given})" if given else ""
    # channels are sent codes, and a phrase may quote the document
    code = given if given and " " not in given else FAILED
    return StepFailure(step=Step.INDEX, code=code, reason=f"the document ended as {outcome.stage}{reason}")


def _timed_out(last: Outcome | None, budget: timedelta) -> StepFailure:
    failure = StepFailure(step=Step.INDEX, code=TIMEOUT, reason="")
    if last is None:
        said = "no question about it was answered"
    elif last.state is ItemState.PENDING:
        said = f"its last status was {last.stage}"
    elif last.error is not None and last.state is ItemState.UNKNOWN:
        cause = failure_of_error(Step.INDEX, last.error)
        said = f"at last {cause.reason}"
        failure = replace(failure, http_status=cause.http_status, request_id=cause.request_id, cause=cause.cause)
    else:
        said = "the API did not find it" if last.state is ItemState.NOT_FOUND else "the API did not accept its id"
    return replace(failure, reason=f"it was not indexed within {format_duration(budget)}; {said}")


async def retrieve(
    requests: CanaryRequests, sender: StepSender, document: Document, pause: Pause
) -> StepFailure | None:
    """Asks until an answer contains the marker; None then, else why it did not. An index may lag behind the status.

    Raises InterruptedCanaryError on a signal.
    """
    while True:
        found, failure = await _retrieve_once(requests.retrieve, sender, document, pause)
        if failure is not None:
            return failure
        if any(document.marker in text.lower() for text in found):
            return None
        if not await pause.wait():
            texts = f"{len(found)} text{'s' * (len(found) > 1)} without it" if found else "no text of a document"
            reason = f"its marker did not come back: the last answer had {texts}"
            return StepFailure(step=Step.RETRIEVE, code=NOT_RETRIEVED, reason=reason)


async def _retrieve_once(
    steps: tuple[CanaryStep, ...], sender: StepSender, document: Document, pause: Pause
) -> tuple[list[str], StepFailure | None]:
    """The texts of all answers; the failure of the step that ended it."""
    texts: list[str] = []
    kept: Mapping[str, str] = document.kept
    for step in steps:
        known = replace(document, kept=kept)
        while True:
            sent = await sender.send(Step.RETRIEVE, step, known, deadline_s=pause.deadline_s)
            if sent.failure is not None:
                return texts, sent.failure
            if sent.answer.lacking is None:
                break
            if not await pause.wait():
                return texts, lacking_failure(Step.RETRIEVE, step, sent.answer)
        kept = {**kept, **sent.answer.kept}
        texts += sent.answer.snippets
    return texts, None


def seconds_since(began_s: float) -> float:
    """Seconds since a moment of the monotonic clock, to the millisecond."""
    return round(time.monotonic() - began_s, 3)
