"""Collects a run's outcomes into evidence of causes. Pure; the order of outcomes does not matter.

A request cause needs weight: it stopped the target, or left at least 2 items and 5% of those asked unknown, or nothing
at all was answered. So does 5% of the run's requests failing after all retries, even if a second request for the item
was answered. Below that the items left unknown have a trouble of their own (`items_unverified`). Retries that succeeded
are no evidence. `wrong_scope` depends on the run as a whole.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from operator import add as add_numbers
from operator import attrgetter
from typing import Any

import msgspec

from monitor.model import (
    OBSERVED_CAUSES,
    REQUEST_CAUSES,
    WEIGHED_CAUSES,
    Cause,
    Evidence,
    ItemState,
    Outcome,
    Reason,
    RunStatus,
    SyncReport,
)
from monitor.model.http import BREAKER_OPEN, ApiError, Meaning
from monitor.model.items import TrackedItem

_INVALID, _NOT_FOUND = ItemState.INVALID, ItemState.NOT_FOUND  # looked up once, as they are compared for every item

NOT_SENT = "not sent"
"""The label of requests that the open circuit breaker did not send."""

MAX_SAMPLES = 10
_FAILED_RATIO, _MIN_FAILED = 0.05, 2
"""Failed requests that are evidence although no item was left unknown: a share of all, and a minimum."""

_UNKNOWN_RATIO, _MIN_UNKNOWN = 0.05, 2
"""Items left unknown that give a request cause weight: a share of those asked, and a minimum."""

_MIN_ITEMS = 5
"""Minimum of items not known to be missing for `wrong_scope`."""

_ITEMS_OF_THEIR_OWN = frozenset({Cause.ITEMS_UNVERIFIED})

# While the whole target is in trouble, nothing says whether an item has one of its own.
# Nor whether a wait, a canary or an upload was late for one.
_SAME_TROUBLE = frozenset({*_ITEMS_OF_THEIR_OWN, *OBSERVED_CAUSES})

INHIBITS: Mapping[Cause, frozenset[Cause]] = {
    Cause.SPENDING_LIMIT: frozenset({Cause.RATE_LIMITED, *_SAME_TROUBLE}),
    # A gateway may answer one rejected credential with 401 here and 403 there.
    Cause.UNAUTHORIZED: frozenset({Cause.FORBIDDEN, *_SAME_TROUBLE}),
    Cause.WRONG_SCOPE: frozenset({Cause.ITEMS_MISSING, *_SAME_TROUBLE}),
    # Failing gateways mix error pages with truncated bodies. A run that has to wait does not reach all items in time.
    Cause.OUTAGE: frozenset({Cause.BAD_RESPONSE, Cause.TOO_MANY_UNKNOWN, *_SAME_TROUBLE}),
    Cause.RATE_LIMITED: frozenset({Cause.TOO_MANY_UNKNOWN, *_SAME_TROUBLE}),
    Cause.BAD_RESPONSE: _SAME_TROUBLE,
    Cause.BAD_REQUEST: frozenset({Cause.ITEMS_INVALID, *_SAME_TROUBLE}),
}
"""The lower causes that a request cause inhibits in the same run: they open nothing."""


@dataclass(slots=True)
class _CauseEvidence:
    """Collected for one cause."""

    count: int = 0
    breakdown: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, ApiError | None]] = field(default_factory=list)

    def add(self, item_id: str, error: ApiError | None) -> None:
        self.count += 1
        if error is not None:
            self.breakdown[_label(error)] += 1
        # The smallest ids, not the first ones, so that the order of answers does not matter.
        insort(self.samples, (item_id, error), key=lambda sample: sample[0])
        del self.samples[MAX_SAMPLES:]

    def block(self, error: ApiError, items: int) -> None:
        self.count += items
        self.breakdown[_label(error)] += 1
        self.samples.append(("", error))

    def to_json(self) -> list[Any]:
        samples = [(item_id, msgspec.to_builtins(error)) for item_id, error in self.samples]
        return [self.count, dict(self.breakdown), samples]

    def evidence(self, cause: Cause) -> Evidence:
        # requests that were not sent carry no information
        errors = [error for _, error in self.samples if error is not None and not error.is_local(BREAKER_OPEN)]
        return Evidence(
            cause=cause,
            count=self.count,
            breakdown=dict(sorted(self.breakdown.items())),
            sample_ids=tuple(item_id for item_id, _ in self.samples if item_id),
            request_ids=tuple(dict.fromkeys(e.request_id for e in errors if e.request_id)),
            code=next((e.code for e in errors if e.code), None),
            gateway=next((e.gateway for e in errors if e.gateway), ()),
            page=next((e.page for e in errors if e.page is not None), None),
            api_message=next((said for e in errors if (said := _api_words(e))), None),
        )


def _api_words(error: ApiError) -> str | None:
    """The API's own text: its `error`, which is often clearer, and its message."""
    words = dict.fromkeys(text for text in (error.error, error.message) if text)
    return ": ".join(words) or None


def _label(error: ApiError) -> str:
    if error.is_local(BREAKER_OPEN):
        return NOT_SENT
    label = str(error.status) if error.status is not None else str(error.network or "no answer")
    if error.meaning is not None and error.code and error.code != label:
        label = f"{label} with the code {error.code}"
    return f"{label} from the token endpoint" if error.from_token_endpoint else label


class EvidenceCollector:
    """Counts a run's outcomes one by one; `evidence` gives the result. Memory is bounded.

    A 404 of an item that the API never returned counts for `wrong_scope` only if it was uploaded longer than
    `missing_after` ago.
    """

    def __init__(self, *, missing_after: timedelta = timedelta(0)) -> None:
        self.answered = 0
        self.accepted = 0
        """Items whose answer shows that the API itself accepts the credentials: no refusal, no limit, no cache."""
        self.replied = 0
        """Items whose request the API itself replied to: answers, and refusals in its own words."""
        self.quarantined = 0
        """Items with malformed ids, which no request was sent for."""
        self._missing_after = missing_after
        self._asked = 0
        self._unknown: dict[Cause, _CauseEvidence] = {}
        self._recovered: dict[Cause, _CauseEvidence] = {}
        self._not_found = _CauseEvidence()
        """Items that are not known to be missing, and are."""
        self._overdue = 0
        """Of these, those that must have arrived."""
        self._not_known_missing = 0

    def add(self, item: TrackedItem, outcome: Outcome) -> None:
        """Counts one outcome of an item, as known before the run."""
        accepted = outcome.accepted
        self.accepted += accepted
        self.replied += accepted or _is_refusal(outcome.error)
        if outcome.answered:  # so it is not unknown
            self.answered += 1
            self._asked += 1
            if outcome.state is _NOT_FOUND:
                self._add_absent(item, outcome)
            elif not item.known_missing:
                self._not_known_missing += 1
            return
        is_quarantined = outcome.state is _INVALID
        self.quarantined += is_quarantined
        self._asked += not is_quarantined
        if isinstance(outcome.reason, Cause):
            self._unknown.setdefault(outcome.reason, _CauseEvidence()).add(outcome.item_id, outcome.error)

    def _add_absent(self, item: TrackedItem, outcome: Outcome) -> None:
        if item.known_missing:
            return
        self._not_found.add(outcome.item_id, outcome.error)
        uploaded_at = item.submitted_at or item.first_seen_at
        if item.seen_at is not None or uploaded_at < outcome.at - self._missing_after:
            self._not_known_missing += 1
            self._overdue += 1

    def confirm(self, items: int, *, accepted: bool = True) -> None:
        """Counts items that a list says are still completed; `accepted`: the list did not come out of a cache."""
        self.answered += items
        self.accepted += items if accepted else 0
        self.replied += items if accepted else 0
        self._asked += items
        self._not_known_missing += items

    def recover(self, failed: Outcome) -> None:
        """Counts a request that failed after all retries, for an item that a second request answered."""
        if isinstance(failed.reason, Cause):
            self._recovered.setdefault(failed.reason, _CauseEvidence()).add(failed.item_id, failed.error)

    def block(self, cause: Cause, error: ApiError, items: int) -> None:
        """Counts an error that leaves items unknown although none of them was asked about."""
        self._unknown.setdefault(cause, _CauseEvidence()).block(error, items)

    def merged(self, other: "EvidenceCollector") -> "EvidenceCollector":
        """What one collector would have counted that was given the outcomes of both, without `missing_after`."""
        result = EvidenceCollector()
        for names, add in ((_COUNTS, add_numbers), (_BY_CAUSE, _merged_causes), (("_not_found",), _merged)):
            for name in names:
                setattr(result, name, add(getattr(self, name), getattr(other, name)))
        return result

    def to_json(self) -> dict[str, Any]:
        """What was counted, as JSON values, but for `missing_after`, which only `add` needs."""
        return {
            "counts": list(_read_counts(self)),
            "unknown": {cause.value: found.to_json() for cause, found in self._unknown.items()},
            "recovered": {cause.value: found.to_json() for cause, found in self._recovered.items()},
            "not_found": self._not_found.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "EvidenceCollector":
        """The collector that `to_json` described."""
        result = cls()
        for name, count in zip(_COUNTS, value["counts"], strict=True):
            setattr(result, name, count)
        result._unknown = {Cause(name): _from_json(found) for name, found in value["unknown"].items()}
        result._recovered = {Cause(name): _from_json(found) for name, found in value["recovered"].items()}
        result._not_found = _from_json(value["not_found"])
        return result

    def all_recovered(self, cause: Cause) -> bool:
        """Whether requests failed because of a cause, but all their items were answered in the end."""
        return cause in self._recovered and cause not in self._unknown

    def evidence(self, *, requests: int, stopped_by: Cause | None = None) -> tuple[Evidence, ...]:
        """Evidence of request causes, highest rank first; `requests` are all that the run sent, with retries.

        `stopped_by` is the cause that stopped the target.
        """
        gathered = self._weighty(requests, stopped_by)
        if self._is_wrong_scope():
            gathered[Cause.WRONG_SCOPE] = _merged(self._unknown.get(Cause.WRONG_SCOPE), self._not_found)
        return tuple(gathered[cause].evidence(cause) for cause in REQUEST_CAUSES if cause in gathered)

    def lightweight(self, *, requests: int, stopped_by: Cause | None = None) -> frozenset[Cause]:
        """The request causes that left items unknown without weight: these items have a trouble of their own."""
        with_weight = {piece.cause for piece in self.evidence(requests=requests, stopped_by=stopped_by)}
        return frozenset(self._unknown) - with_weight

    def single_items(self, *, requests: int, stopped_by: Cause | None = None) -> tuple[Evidence, ...]:
        """What left these items unknown, highest rank first."""
        causes = self.lightweight(requests=requests, stopped_by=stopped_by)
        return tuple(self._unknown[cause].evidence(cause) for cause in REQUEST_CAUSES if cause in causes)

    def of_their_own(self, *, requests: int, stopped_by: Cause | None = None) -> int:
        """Items that stay unknown for a trouble of their own: no other run could have an answer for them either.

        Those without weight, and while others are accepted, those that are denied one by one.
        """
        causes = set(self.lightweight(requests=requests, stopped_by=stopped_by))
        if self.accepted and stopped_by is None:
            causes.add(Cause.FORBIDDEN)
        return sum(self._unknown[cause].count for cause in causes if cause in self._unknown)

    def _weighty(self, requests: int, stopped_by: Cause | None) -> dict[Cause, _CauseEvidence]:
        gathered = {
            cause: found
            for cause, found in self._unknown.items()
            if cause not in WEIGHED_CAUSES or cause is stopped_by or self._has_weight(found.count)
        }
        for cause, recovered in self._recovered.items():
            failed = _merged(self._unknown.get(cause), recovered)
            if failed.count >= max(_MIN_FAILED, _FAILED_RATIO * requests):
                gathered[cause] = failed
        return gathered

    def _has_weight(self, items: int) -> bool:
        return not self.answered or (items >= _MIN_UNKNOWN and items >= _UNKNOWN_RATIO * self._asked)

    def _is_wrong_scope(self) -> bool:
        return self._not_known_missing >= _MIN_ITEMS and 2 * self._overdue >= self._not_known_missing


def _is_refusal(error: ApiError | None) -> bool:
    """Whether the API itself refused the request: it works, which ends an outage. A limit may be a gateway's."""
    if error is None or error.status is None or error.from_token_endpoint or error.from_backoff or error.cached:
        return False
    if error.meaning is not None:
        return error.meaning not in {Meaning.OUTAGE, Meaning.RATE_LIMITED}
    return 400 <= error.status < 500 and error.status not in {408, 429} and error.page is None


def _merged(one: _CauseEvidence | None, other: _CauseEvidence) -> _CauseEvidence:
    if one is None:
        return other
    samples = sorted((*one.samples, *other.samples), key=_sample_order)[:MAX_SAMPLES]
    return _CauseEvidence(one.count + other.count, one.breakdown + other.breakdown, samples)


def _sample_order(sample: tuple[str, ApiError | None]) -> tuple[str, str]:
    """By id; errors without one, and of one item, by what they say: so that the order of merging does not matter."""
    return sample[0], str(msgspec.to_builtins(sample[1]))


def _merged_causes(
    one: Mapping[Cause, _CauseEvidence], other: Mapping[Cause, _CauseEvidence]
) -> dict[Cause, _CauseEvidence]:
    found = {cause: _merged(one.get(cause), evidence) for cause, evidence in other.items()}
    return {**one, **found}


def _from_json(value: Sequence[Any]) -> _CauseEvidence:
    count, breakdown, samples = value
    errors = [(item_id, msgspec.convert(error, ApiError | None)) for item_id, error in samples]
    return _CauseEvidence(count, Counter(breakdown), errors)


_COUNTS = ("answered", "accepted", "replied", "quarantined", "_asked", "_overdue", "_not_known_missing")
"""The attributes of a collector that are numbers."""
_BY_CAUSE = ("_unknown", "_recovered")
"""Those that are evidence by cause."""
_read_counts = attrgetter(*_COUNTS)


def mark_inhibited(evidence: Iterable[Evidence], inhibitors: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Marks evidence that a higher cause of the same run inhibits; `inhibitors` come highest rank first."""
    return tuple(replace(piece, inhibited_by=_inhibitor(piece.cause, inhibitors)) for piece in evidence)


def _inhibitor(cause: Cause, inhibitors: Sequence[Evidence]) -> Cause | None:
    return next((each.cause for each in inhibitors if cause in INHIBITS.get(each.cause, ())), None)


MAX_UNKNOWN_RATIO = 0.2
"""More unknown items than this share are evidence of `too_many_unknown`."""


def detect_too_many_unknown(status: RunStatus, *, total: int, unasked: Mapping[Reason, int]) -> Evidence | None:
    """Evidence of `too_many_unknown`, or None. If the run was aborted, the cause of that explains the unknown items.

    Of the `total` tracked items, `unasked` are the unknown ones that no request failed for.
    """
    count = sum(unasked.values())
    if status is RunStatus.ABORTED or count <= MAX_UNKNOWN_RATIO * total:
        return None
    return Evidence(
        cause=Cause.TOO_MANY_UNKNOWN,
        count=count,
        breakdown={reason.value: unasked[reason] for reason in Reason if unasked.get(reason)},
    )


def detect_empty_sync_log(read: SyncReport, *, tracked_before: bool) -> Evidence | None:
    """Evidence of `sync_log_empty`, or None: a log that never held an id is not filled yet."""
    if read.tracked or not tracked_before:
        return None
    unusable = {"rows without a usable id": read.read} if read.read else {}
    return Evidence(cause=Cause.SYNC_LOG_EMPTY, count=read.removed + read.kept, breakdown=unusable)


CRASHES_IN_A_ROW = 3
"""Runs of a target that end by an unforeseen error before that is evidence."""


def detect_crashing(streak: int, *, known: bool) -> Evidence | None:
    """Evidence of `run_crashing`, or None: `streak` runs in a row ended by an error that nobody foresaw.

    `known`: whether an incident says so already; then each further run is evidence.
    """
    if streak < CRASHES_IN_A_ROW and not known:
        return None
    return Evidence(cause=Cause.RUN_CRASHING, count=streak, breakdown={"runs in a row": streak})


def detect_missed_runs(runs: int) -> Evidence | None:
    """Evidence of `run_missed` for a number of runs that did not start, or None for 0."""
    return Evidence(cause=Cause.RUN_MISSED, count=runs, breakdown={"missed": runs}) if runs else None
