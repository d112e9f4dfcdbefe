"""A run's outcomes, gathered into evidence of request causes. Pure; the order of outcomes does not matter.

Evidence of a request cause is an item that was left unknown because of it, or 5% of the run's requests that failed for
good, be it that the item was answered when it was asked about once more. Retries that recovered within their call are
metrics, not evidence. `wrong_scope` and `bad_request` are read off the run as a whole.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from monitor.model import REQUEST_CAUSES, Cause, Evidence, ItemState, Outcome, Reason, RunStatus, SyncReport
from monitor.model.http import BREAKER_OPEN, ApiError
from monitor.model.items import TrackedItem

NOT_SENT = "not sent"
"""What a breakdown calls questions that an open breaker kept back."""

MAX_SAMPLES = 10
"""How many item ids a piece of evidence names."""

_FAILED_RATIO, _MIN_FAILED = 0.05, 2
"""Of a run's requests: if so many failed for good, and not less, that is evidence though no item was left unknown."""

_MIN_ITEMS = 5
"""`wrong_scope` wants at least so many items that were not known missing; `bad_request` so many refused ids."""

INHIBITS: Mapping[Cause, frozenset[Cause]] = {
    Cause.SPENDING_LIMIT: frozenset({Cause.RATE_LIMITED}),
    # A gateway may answer one rejected credential with 401 here and 403 there.
    Cause.UNAUTHORIZED: frozenset({Cause.FORBIDDEN}),
    Cause.WRONG_SCOPE: frozenset({Cause.ITEMS_MISSING}),
    # Half-dead gateways mix error pages with cut and unreadable bodies.
    # Whoever waits, or is made to wait, does not get to all items before the deadline.
    Cause.OUTAGE: frozenset({Cause.BAD_RESPONSE, Cause.TOO_MANY_UNKNOWN}),
    Cause.RATE_LIMITED: frozenset({Cause.TOO_MANY_UNKNOWN}),
    Cause.BAD_REQUEST: frozenset({Cause.ITEMS_INVALID}),
}
"""Which lower causes a request cause explains in the same run: they are attached to it and open nothing."""


@dataclass(slots=True)
class _CauseEvidence:
    """What is gathered for one cause."""

    count: int = 0
    breakdown: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, ApiError | None]] = field(default_factory=list)

    def add(self, item_id: str, error: ApiError | None) -> None:
        self.count += 1
        if error is not None:
            self.breakdown[_label(error)] += 1
        # The smallest ids, not the first to arrive: so the order of answers does not show.
        insort(self.samples, (item_id, error), key=lambda sample: sample[0])
        del self.samples[MAX_SAMPLES:]

    def block(self, error: ApiError, items: int) -> None:
        self.count += items
        self.breakdown[_label(error)] += 1
        self.samples.append(("", error))

    def evidence(self, cause: Cause) -> Evidence:
        # what was never sent because of the others says nothing of its own
        errors = [error for _, error in self.samples if error is not None and not error.is_local(BREAKER_OPEN)]
        return Evidence(
            cause=cause,
            count=self.count,
            breakdown=dict(sorted(self.breakdown.items())),
            sample_ids=tuple(item_id for item_id, _ in self.samples if item_id),
            request_ids=tuple(dict.fromkeys(e.request_id for e in errors if e.request_id)),
            code=next((e.code for e in errors if e.code), None),
            gateway=next((e.gateway for e in errors if e.gateway), ()),
            api_message=next((said for e in errors if (said := _api_words(e))), None),
        )


def _api_words(error: ApiError) -> str | None:
    """The API's own words: its message, or the text that it calls `error`, which is often the clearer one."""
    words = dict.fromkeys(text for text in (error.error, error.message) if text)
    return ": ".join(words) or None


def _label(error: ApiError) -> str:
    if error.is_local(BREAKER_OPEN):
        return NOT_SENT
    label = str(error.status) if error.status is not None else str(error.network or "no answer")
    return f"{label} from the token endpoint" if error.from_token_endpoint else label


class EvidenceCollector:
    """Takes a run's outcomes one by one and says at the end what they are evidence of. Memory is bounded."""

    def __init__(self) -> None:
        self.answered = 0
        """Items that the API said something about."""
        self.replied = 0
        """Items whose request the API itself replied to, whatever it said: a refusal shows too that it can be asked."""
        self.quarantined = 0
        """Items that were not asked about, because their ids can't be."""
        self._unknown: dict[Cause, _CauseEvidence] = {}
        self._recovered: dict[Cause, _CauseEvidence] = {}
        self._not_found = _CauseEvidence()
        self._refused = _CauseEvidence()
        self._not_known_missing = 0
        self._accepted = 0

    def add(self, item: TrackedItem, outcome: Outcome) -> None:
        """Counts one outcome of an item, given what was known of it before."""
        self.answered += outcome.answered
        error = outcome.error
        self.replied += outcome.answered or (
            error is not None and error.status is not None and not (error.from_token_endpoint or error.from_backoff)
        )
        self.quarantined += outcome.state is ItemState.INVALID and not outcome.answered
        if outcome.reason is not None and outcome.reason.value in _REQUEST_VALUES:
            self._unknown.setdefault(Cause(outcome.reason.value), _CauseEvidence()).add(outcome.item_id, outcome.error)
        if not outcome.answered:
            return
        if outcome.state is ItemState.INVALID:
            self._refused.add(outcome.item_id, outcome.error)
        else:
            self._accepted += 1
        if not item.known_missing:
            self._not_known_missing += 1
            if outcome.state is ItemState.NOT_FOUND:
                self._not_found.add(outcome.item_id, outcome.error)

    def confirm(self, items: int) -> None:
        """Counts items of which a list said, all at once, that they are completed still."""
        self.answered += items
        self.replied += items
        self._accepted += items
        self._not_known_missing += items

    def recover(self, failed: Outcome) -> None:
        """Counts a request that failed for good, of an item that was answered when it was asked about once more."""
        if failed.reason is not None and failed.reason.value in _REQUEST_VALUES:
            self._recovered.setdefault(Cause(failed.reason.value), _CauseEvidence()).add(failed.item_id, failed.error)

    def block(self, cause: Cause, error: ApiError, items: int) -> None:
        """Counts an error that leaves so many items unknown without any of them having been asked about."""
        self._unknown.setdefault(cause, _CauseEvidence()).block(error, items)

    def all_recovered(self, cause: Cause) -> bool:
        """Whether requests failed because of a cause, and every one of their items was answered in the end."""
        return cause in self._recovered and cause not in self._unknown

    def evidence(self, *, requests: int) -> tuple[Evidence, ...]:
        """Evidence of request causes, highest rank first; one per cause.

        Args:
            requests: all that the run sent, retries included (≥ 0).
        """
        gathered = dict(self._unknown)
        for cause, recovered in self._recovered.items():
            failed = _merged(gathered.get(cause), recovered)
            if failed.count >= max(_MIN_FAILED, _FAILED_RATIO * requests):
                gathered[cause] = failed
        if self._not_known_missing >= _MIN_ITEMS and 2 * self._not_found.count >= self._not_known_missing:
            gathered[Cause.WRONG_SCOPE] = _merged(gathered.get(Cause.WRONG_SCOPE), self._not_found)
        if self._refused.count >= _MIN_ITEMS and not self._accepted:
            gathered[Cause.BAD_REQUEST] = _merged(gathered.get(Cause.BAD_REQUEST), self._refused)
        return tuple(gathered[cause].evidence(cause) for cause in REQUEST_CAUSES if cause in gathered)


_REQUEST_VALUES = frozenset(cause.value for cause in REQUEST_CAUSES)


def _merged(one: _CauseEvidence | None, other: _CauseEvidence) -> _CauseEvidence:
    if one is None:
        return other
    samples = sorted((*one.samples, *other.samples), key=lambda sample: sample[0])[:MAX_SAMPLES]
    return _CauseEvidence(one.count + other.count, one.breakdown + other.breakdown, samples)


def mark_inhibited(evidence: Iterable[Evidence], inhibitors: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Marks every piece of evidence that a higher cause of the same run explains.

    Args:
        evidence: what is to be marked.
        owners: the run's evidence of request causes, highest rank first.
    """
    evaluated = []
    for piece in evidence:
        inhibited_by = next((o.cause for o in inhibitors if piece.cause in INHIBITS.get(o.cause, frozenset())), None)
        evaluated.append(replace(piece, inhibited_by=inhibited_by))
    return tuple(evaluated)


MAX_UNKNOWN_RATIO = 0.2
"""Over this share of the tracked items unknown is too little coverage."""

UNINHIBITED_REASONS = (Reason.DEADLINE, Reason.INTERRUPTED, Reason.NOT_ASKED)
"""Why an item may be unknown without any request cause behind it."""


def detect_too_many_unknown(status: RunStatus, *, total: int, unknown: Mapping[Reason, int]) -> Evidence | None:
    """Evidence of `detect_too_many_unknown`, or None.

    Args:
        status: how the run ended. What aborted it explains what it left unknown.
        total: tracked items (≥ 0).
        unknown: how many of them are unknown, by reason.
    """
    unasked = {reason.value: unknown.get(reason, 0) for reason in UNINHIBITED_REASONS if unknown.get(reason, 0)}
    count = sum(unasked.values())
    if status is RunStatus.ABORTED or count <= MAX_UNKNOWN_RATIO * total:
        return None
    return Evidence(cause=Cause.TOO_MANY_UNKNOWN, count=count, breakdown=unasked)


def detect_empty_sync_log(read: SyncReport, *, tracked_before: bool) -> Evidence | None:
    """Evidence of `sync_log_empty`, or None: a log that never held an id is not filled yet.

    Args:
        read: what reading the log brought.
        tracked_before: whether the target has, or ever had, items.
    """
    if read.tracked or not tracked_before:
        return None
    unusable = {"rows without a usable id": read.read} if read.read else {}
    return Evidence(cause=Cause.SYNC_LOG_EMPTY, count=read.removed, breakdown=unusable)


def detect_missed_runs(runs: int) -> Evidence | None:
    """Evidence of `run_missed` when so many runs (≥ 0) did not start between two that did, or None."""
    return Evidence(cause=Cause.RUN_MISSED, count=runs, breakdown={"missed": runs}) if runs else None
