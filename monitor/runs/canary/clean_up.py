"""Removes the document of a canary, its own or one that an earlier canary left. It stores nothing.

1. The ids: the stored one; and those that the API finds by the document's name, if the id is not known, or if the
   upload was sent more than once.
2. Each is deleted, step by step. A step that finds nothing is done.
3. The API is asked for the item until it has none: a deletion may only have begun.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from monitor.model import BadBody, ItemState
from monitor.model.http import ApiError
from monitor.providers import Provider
from monitor.providers.canary import CanaryRequests
from monitor.runs.canary.model import BAD_ANSWER, STILL_THERE, CleanUp, Document, Step, StepFailure, failure_of_error
from monitor.runs.canary.requests import Ask, Pause, StepSender, item_asker, lacking_failure

_ATTEMPTS = 3
_UNANSWERED = 3
"""Questions in a row that were not answered end the wait for a deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What became of a document."""

    clean_up: CleanUp
    failure: StepFailure | None = None
    """Why it may still be there; None while a deletion, or an upload, may only need time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Removes documents by a provider's requests."""

    provider: Provider
    requests: CanaryRequests
    sender: StepSender
    utcnow: Callable[[], datetime]
    on_found: Callable[[Document], Awaitable[None]]
    """Called with a document whose id was not known, and was found by its name: before it is deleted."""

    async def remove(self, document: Document, pause: Pause, *, settled: bool, search: bool = False) -> Removal:
        """Removes a document until the pause's deadline. Raises InterruptedCanaryError on a signal.

        `settled`: one that is not found does not appear later. `search`: look for further ones of its name.
        """
        ids = [] if document.item_id is None else [document.item_id]
        if not ids or search:
            found = await self._find(document, pause)
            if isinstance(found, Removal):
                if not ids:
                    return found
            else:
                ids += [each for each in found if each not in ids]
        if ids and document.item_id is None:
            await self.on_found(replace(document, item_id=ids[0]))
        if not ids:
            return Removal(clean_up=CleanUp.NOTHING_LEFT if settled else CleanUp.PENDING)
        removals = [await self._remove_item(replace(document, item_id=each), pause, settled=settled) for each in ids]
        return next((each for each in removals if each.clean_up is not CleanUp.DONE), removals[0])

    async def _find(self, document: Document, pause: Pause) -> tuple[str, ...] | Removal:
        """The ids of the documents of that name, or why they are not known."""
        find = self.requests.find
        if find is None:
            return Removal(clean_up=CleanUp.CANNOT_FIND)
        request = find.request(document.name)
        result = await self.sender.client.send(
            request, deadline_s=pause.deadline_s, max_attempts=_ATTEMPTS, is_sample=False
        )
        if result.reply is None:
            error = result.error or ApiError(status=None)
            if error.status == 404:
                return ()
            failure = failure_of_error(Step.CLEAN_UP, error, template=request.template)
            return Removal(clean_up=CleanUp.PENDING, failure=failure)
        found = find.read(result.reply.body, document.name)
        if isinstance(found, BadBody):
            reason = f"the answer to {request.template} can't be used: {result.redact(found.reason)}"
            failure = StepFailure(step=Step.CLEAN_UP, code=BAD_ANSWER, reason=reason)
            return Removal(clean_up=CleanUp.PENDING, failure=failure)
        return found

    async def _remove_item(self, document: Document, pause: Pause, *, settled: bool) -> Removal:
        ask = item_asker(self.provider, self.sender.client, document.item_id or "", utcnow=self.utcnow)
        known, found_any = document, False
        for step in self.requests.delete:
            while True:
                sent = await self.sender.send(Step.CLEAN_UP, step, known, deadline_s=pause.deadline_s)
                if sent.absent or (sent.failure is None and sent.answer.lacking is None):
                    break
                if sent.failure is not None:
                    return Removal(clean_up=CleanUp.PENDING, failure=sent.failure)
                # an engine that is busy, or a document that is gone
                outcome = await ask(pause.deadline_s)
                if outcome is not None and outcome.state is ItemState.NOT_FOUND:
                    return Removal(clean_up=CleanUp.DONE if settled or found_any else CleanUp.PENDING)
                if not await pause.wait():
                    return Removal(clean_up=CleanUp.PENDING, failure=lacking_failure(Step.CLEAN_UP, step, sent.answer))
            found_any = found_any or not sent.absent
            known = replace(known, kept={**known.kept, **sent.answer.kept})
        if not (found_any or settled):
            return Removal(clean_up=CleanUp.PENDING)
        return await self._verify(ask, pause)

    async def _verify(self, ask: Ask, pause: Pause) -> Removal:
        """Asks until the item is gone. Reads may lag behind a deletion, or fail: then the next canary looks again."""
        unanswered = 0
        while True:
            outcome = await ask(pause.deadline_s)
            if outcome is not None and outcome.state in {ItemState.NOT_FOUND, ItemState.INVALID}:
                return Removal(clean_up=CleanUp.DONE)
            unanswered = unanswered + 1 if outcome is None or outcome.state is ItemState.UNKNOWN else 0
            if unanswered >= _UNANSWERED or not await pause.wait():
                return Removal(clean_up=CleanUp.PENDING)


def still_there() -> StepFailure:
    """The failure of a canary whose predecessor's document outlived its deletion."""
    reason = "a document of an earlier canary is still there, although it was deleted"
    return StepFailure(step=Step.CLEAN_UP, code=STILL_THERE, reason=reason)
