"""What a wait, or one look at some items, found out: frozen, for people, programs and the stored row. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from monitor.model import Cause, ItemState
from monitor.model.http import ApiError
from monitor.model.items import Outcome
from monitor.waits.rules import Tally, WaitResult, WatchedItem, column_of


class ItemReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one item at the end."""

    item_id: str
    state: ItemState
    """By the last answer; `unknown`: there was none."""
    settled: bool
    """It is the last word: asking again would not change it, or is not worth it."""
    column: str
    """Which count of `Tally` it belongs to, such as `missing` or `pending`."""
    stage: str | None = None
    """The provider's own status word."""
    recognised: bool = True
    """False: nobody has seen this status before. It counts as pending."""
    failure_reason: str | None = None
    failure_message: str | None = None
    """Why a failed item failed: a code or a short phrase; and the provider's text, which may quote the document."""
    cause: Cause | None = None
    """Why the last question about it was not answered."""
    error: ApiError | None = None
    """The last error about it, also of a 404 or a rejected id."""
    answered_at: datetime | None = None
    """When the last answer came."""
    looks: int = 0


def item_report(watched: WatchedItem) -> ItemReport:
    """The report on one item."""
    known, failure = watched.answer, watched.failure
    last = failure or known
    return ItemReport(
        item_id=watched.item.item_id,
        state=known.state if known else ItemState.UNKNOWN,
        settled=watched.settled,
        column=column_of(watched),
        stage=known.stage if known else None,
        recognised=known.recognised if known else True,
        failure_reason=known.failure_reason if known else None,
        failure_message=known.failure_message if known else None,
        cause=_cause(failure),
        error=last.error if last else None,
        answered_at=known.at if known else None,
        looks=watched.looks,
    )


def _cause(failure: Outcome | None) -> Cause | None:
    return failure.reason if failure is not None and isinstance(failure.reason, Cause) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitReport:
    """How a wait ended."""

    target: str
    result: WaitResult
    cause: Cause | None
    """Why it stopped; of a wait that timed out, what most of its open items met last, if they met anything."""
    started_at: datetime
    duration_s: float
    timeout: timedelta
    requests: int
    items: tuple[ItemReport, ...]
    """In the order in which they were given."""
    counts: Tally
    wait_id: int | None = None
    """Its row; None: it has none."""
    not_stored: str | None = None
    """Why its end could not be stored, in one sentence."""

    @property
    def finished_at(self) -> datetime:
        """When it ended."""
        return self.started_at + timedelta(seconds=self.duration_s)

    @property
    def unfinished(self) -> tuple[ItemReport, ...]:
        """The items that are not completed: problems first, then those without a last word."""
        order = ("failed", "missing", "invalid", "pending", "unknown")
        open_items = (each for each in self.items if each.column != "completed")
        return tuple(sorted(open_items, key=lambda each: order.index(each.column)))


def common_cause(items: Sequence[WatchedItem]) -> Cause | None:
    """What most items without a last word met last instead of an answer; None: nothing."""
    causes = Counter(cause for each in items if (cause := _cause(each.failure)) is not None)
    return next((cause for cause, _ in causes.most_common(1)), None)
