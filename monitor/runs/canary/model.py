"""What a canary is: its steps, its document, why a step failed, and how it ended. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.client.classify import cause_of
from monitor.client.retry import FailureKind, failure_kind
from monitor.model import Cause
from monitor.model.http import (
    BREAKER_OPEN,
    DEADLINE_EXCEEDED,
    RETRY_BUDGET_EXHAUSTED,
    UNUSABLE_CREDENTIALS,
    ApiError,
    NetworkFault,
)
from monitor.providers.canary import MARKER, NAME, QUERY, TEXT
from monitor.providers.templates import ITEM_ID

NAME_PREFIX = "ingestion-monitor-canary-"
SETTLE_TIME = timedelta(minutes=10)
"""After an upload whose end is not known: until then a document that is not found may still appear, because an API
ingests it in the background, or answers from a cache (Gloo's search by producer id: 5 minutes)."""


class Step(StrEnum):
    """The steps of a canary, in order."""

    UPLOAD = "upload"
    INDEX = "index"
    RETRIEVE = "retrieve"
    CLEAN_UP = "clean_up"


class CanaryStatus(StrEnum):
    """How a canary ended; `running` until then."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """A signal ended it, or its process died: it shows nothing about the API."""


class CleanUp(StrEnum):
    """What became of a canary's document."""

    PENDING = "pending"
    """It may still be there: the next canary looks after it."""
    DONE = "done"
    NOTHING_LEFT = "nothing_left"
    """There was none: it was never uploaded."""
    CANNOT_FIND = "cannot_find"
    """The upload was not answered, and the API can't be asked for documents by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The document of one canary; its name and its marker are nowhere else."""

    name: str
    marker: str
    item_id: str | None = None
    """None: not known (yet)."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Further values that the answers to the upload gave."""

    @classmethod
    def from_token(cls, token: str) -> "Document":
        """The document of a random token of lower-case letters and digits."""
        return cls(name=f"{NAME_PREFIX}{token}", marker=f"canary{token}")

    @property
    def text(self) -> str:
        """What is uploaded: a few sentences that a person who finds them understands."""
        return (
            f"This document is {self.name}. Ingestion Monitor uploaded it to check that uploading, indexing and "
            f"retrieving work, and deletes it after a few minutes.\n\nThe canary word is {self.marker}. "
            f"Whoever asks for the canary word of {self.name} is told {self.marker}.\n"
        )

    @property
    def values(self) -> dict[str, str]:
        """What placeholders of requests stand for."""
        known = {} if self.item_id is None else {ITEM_ID: self.item_id}
        query = f"What is the canary word of {self.name}? Is it {self.marker}?"
        return {NAME: self.name, MARKER: self.marker, TEXT: self.text, QUERY: query, **self.kept, **known}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailure:
    """Why a step failed, in our own words."""

    step: Step
    code: str
    """The API's code, or ours: `timeout`, `not_retrieved`, `still_there`, `bad_answer`."""
    reason: str
    """The rest of a sentence that begins with the step."""
    http_status: int | None = None
    request_id: str | None = None
    cause: Cause | None = None
    """What the answer is evidence of, if it is about the key, the account or the service."""


TIMEOUT, NOT_RETRIEVED, STILL_THERE, BAD_ANSWER, FAILED = (
    "timeout", "not_retrieved", "still_there", "bad_answer", "failed",
)  # fmt: skip
"""Codes of our own."""

_LOCAL = {
    DEADLINE_EXCEEDED: (TIMEOUT, "no answer came in time"),
    BREAKER_OPEN: (BREAKER_OPEN, "nothing was sent, because the API failed too often before (circuit breaker)"),
    RETRY_BUDGET_EXHAUSTED: (RETRY_BUDGET_EXHAUSTED, "it failed, and no further attempt was left"),
    UNUSABLE_CREDENTIALS: (UNUSABLE_CREDENTIALS, "the credentials can't be read or sent"),
}
_NETWORK = {
    NetworkFault.DNS: "the name of its host can't be resolved",
    NetworkFault.REFUSED: "its host refuses the connection",
    NetworkFault.TLS: "TLS failed",
    NetworkFault.TIMEOUT: "no answer came in time",
    NetworkFault.RESET: "the connection broke",
    NetworkFault.PROTOCOL: "the answer was no HTTP",
    NetworkFault.TOO_LARGE: "the answer was too large",
}


def failure_of_error(step: Step, error: ApiError, *, template: str = "", attempts: int = 1) -> StepFailure:
    """The failure of a step whose request failed for good, after so many attempts.

    `template` is the request's path with placeholders.
    """
    cause = cause_of(error)
    if error.status is None:
        local = next((said for code, said in _LOCAL.items() if error.is_local(code)), None)
        network = error.network
        code, text = local or (network.value if network else FAILED, _NETWORK[network] if network else "it failed")
    else:
        code, text = error.code or f"http_{error.status}", f"the API answered {error.status}"
        text += f" ({error.code})" if error.code else ""
        text += ", a gateway's page" if error.page is not None else ""
        if error.status < 300 and error.meaning is None and error.message:  # written by us: what the body lacks
            text += f", which can't be used ({error.message})"
    where = "the token request" if error.from_token_endpoint else template
    text += f" to {where}" if where and error.status is not None else ""
    text += f", {attempts} times" if attempts > 1 else ""
    if step is Step.UPLOAD and failure_kind(error) is FailureKind.AMBIGUOUS:
        text += "; the upload is not sent again, because it may have been executed"
    return StepFailure(
        step=step,
        code=code,
        reason=text,
        http_status=error.status,
        request_id=error.request_id or error.trace_id,
        cause=cause,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReport:
    """How one canary ended."""

    id: int
    target: str
    document: Document
    status: CanaryStatus
    slow: bool = False
    """Indexing took longer than `slow_after`."""
    slow_after: timedelta
    failure: StepFailure | None = None
    durations_s: Mapping[Step, float] = field(default_factory=dict)
    """Of the steps that ended well, in seconds."""
    stage: str | None = None
    """The document's last status, as the API spells it."""
    clean_up: CleanUp
    started_at: datetime
    finished_at: datetime
    leftovers_removed: int = 0
    """Documents of earlier canaries that this one removed."""
    leftovers: int = 0
    """Documents of earlier canaries that may still be there."""
