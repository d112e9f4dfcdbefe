"""What the calls of `Engine` return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from monitor.api.errors import ApiError
from monitor.model import Cause, ItemState
from monitor.model.http import ApiError as Failure
from monitor.model.json_body import decode_json
from monitor.waits.report import ItemReport, WaitReport
from monitor.waits.rules import WaitResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item, as the API knows it."""

    id: str
    state: ItemState
    """`unknown`: the API gave no answer about it, and `error` says why."""
    settled: bool
    """Of a wait: it has the last word of the API. A `not_found` without it may still appear."""
    stage: str | None = None
    """The API's own status word, such as `EMBEDDING`."""
    recognised: bool = True
    """False: nobody has described this word; it counts as pending."""
    failure_reason: str | None = None
    failure_message: str | None = field(default=None, repr=False)
    """Why a failed item failed: a code or a phrase, and the API's text, which may quote the document."""
    error: ApiError | None = None
    """The last error about it, also of a 404 or a rejected id."""
    answered_at: datetime | None = None
    """When the last answer came (aware, UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOutcome:
    """How a wait ended."""

    result: WaitResult
    items: tuple[Item, ...]
    """In the order of the question, each id once."""
    duration: timedelta
    requests: int
    cause: Cause | None = None
    """Why it ended before all items were settled, if the API gave a reason."""
    wait_id: int | None = None
    """Its row in the monitor's history."""

    @property
    def completed(self) -> bool:
        """Whether every item is completed."""
        return self.result is WaitResult.COMPLETED

    @property
    def unfinished(self) -> tuple[Item, ...]:
        """The items that are not completed."""
        return tuple(item for item in self.items if item.state is not ItemState.COMPLETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The API's answer to `Engine.request`: always a 2xx."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)
    attempts: int = 1
    """Requests that were sent, the first included."""

    def json(self) -> Any:  # noqa: ANN401  # any JSON value
        """The body as a JSON value. Raises ValueError if it is none."""
        try:
            return decode_json(self.body)
        except RecursionError:
            raise ValueError("the body is nested too deep") from None


def item_of(report: ItemReport, *, method: str, template: str) -> Item:
    """An item of a report."""
    failure: Failure | None = report.error
    return Item(
        id=report.item_id,
        state=report.state,
        settled=report.settled,
        stage=report.stage,
        recognised=report.recognised,
        failure_reason=report.failure_reason,
        failure_message=report.failure_message,
        error=None if failure is None else ApiError(failure, method=method, template=template),
        answered_at=report.answered_at,
    )


def outcome_of(report: WaitReport, *, method: str, template: str) -> WaitOutcome:
    """A report for a program."""
    return WaitOutcome(
        result=report.result,
        items=tuple(item_of(each, method=method, template=template) for each in report.items),
        duration=timedelta(seconds=report.duration_s),
        requests=report.requests,
        cause=report.cause,
        wait_id=report.wait_id,
    )
