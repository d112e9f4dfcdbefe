"""One item: its row in the sync log, its state, and what a run found out about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import assert_never

import msgspec

from monitor.model.http import ApiError
from monitor.model.incidents import Cause


class ItemState(StrEnum):
    """The state of a tracked item, in the order of reports.

    A new state is added here and to `Snapshot`; the type checker names the functions that must handle it.
    """

    COMPLETED = "completed"
    PENDING = "pending"
    FAILED = "failed"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """The state in texts, such as `not found`."""
        return self.value.replace("_", " ")

    @property
    def exists(self) -> bool:
        """Whether the API returns an item in this state, and with it a stage."""
        match self:
            case ItemState.COMPLETED | ItemState.PENDING | ItemState.FAILED:
                return True
            case ItemState.NOT_FOUND | ItemState.INVALID | ItemState.UNKNOWN:
                return False
            case _:
                assert_never(self)

    @property
    def is_problem(self) -> bool:
        """Whether somebody must look at an item in this state."""
        match self:
            case ItemState.FAILED | ItemState.NOT_FOUND | ItemState.INVALID:
                return True
            case ItemState.COMPLETED | ItemState.PENDING | ItemState.UNKNOWN:
                return False
            case _:
                assert_never(self)

    @property
    def always_shown(self) -> bool:
        """Whether the health line shows this state even if no item is in it."""
        match self:
            case ItemState.COMPLETED | ItemState.PENDING | ItemState.FAILED | ItemState.NOT_FOUND:
                return True
            case ItemState.INVALID | ItemState.UNKNOWN:
                return False
            case _:
                assert_never(self)


EXISTING_STATES = tuple(state for state in ItemState if state.exists)
PROBLEM_STATES = tuple(state for state in ItemState if state.is_problem)


class Reason(StrEnum):
    """Why an item is unknown although no request for it failed; otherwise the reason is a request cause."""

    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    NOT_ASKED = "not_asked"


MAX_REASON_CHARS = 60

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,59}", re.ASCII)
"""What a code looks like, such as `unsupported_file`; a sentence may quote the document."""


def is_code(text: str) -> bool:
    """Whether a text is a provider's code of at most 60 characters, and not a sentence: it may be sent to channels."""
    return _CODE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStatus:
    """What a provider read from the body for one item."""

    state: ItemState
    stage: str
    recognised: bool = True
    failure_reason: str | None = None
    """Why a failed item failed: the provider's code, or a phrase of at most 60 characters, which may quote the
    document. None: it gives none."""
    failure_message: str | None = None
    """The provider's own text about the failure, at most 500 characters. It may quote the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBody:
    """A 200 whose body can't be used."""

    reason: str
    """Written by us: what was expected, and what came instead."""


class SyncLogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the sync log; null, blank and duplicate ids are included."""

    item_id: str | None
    submitted_at: datetime | None = None
    """Upload time (aware); None if the log has none, or none that can be read."""
    group: str | None = None
    unreadable_time: str | None = None
    """What stands in place of an upload time that can't be read, as one line of at most 60 characters."""
    params: Mapping[str, str | None] | None = None
    """The path parameters of the row; None if the log has none."""
    not_an_id: str | None = None
    """What stands in place of an id, such as `a JSON object`; `item_id` is then its text, if it has one."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a run found out about one item."""

    item_id: str
    state: ItemState
    at: datetime
    answered: bool
    """The API gave an answer about this item: a readable 200, 404, 410, or 400/422 for its id."""
    stage: str | None = None
    """The provider's raw status."""
    recognised: bool = True
    """False for a status that is not described; it counts as pending and is reported by name."""
    failure_reason: str | None = None
    failure_message: str | None = None
    """Why a failed item failed, as in `ItemStatus`."""
    reason: Cause | Reason | None = None
    """Set if, and only if, the state is unknown."""
    error: ApiError | None = None
    cached: bool = False
    """The answer came out of a cache: it shows nothing about the credentials."""

    @property
    def accepted(self) -> bool:
        """Whether it shows that the API itself accepts the credentials."""
        return self.answered and not self.cached


class ItemCompletion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is compared with a provider's list: whether a tracked item is completed."""

    item_id: str
    known_completed: bool
    last_seen_completed: bool
    """Its current state is completed; a list that confirms this changes nothing."""


NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class TrackedItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One due item, as stored before the run asks about it."""

    item_id: str
    first_seen_at: datetime
    submitted_at: datetime | None = None
    state: ItemState | None = None
    """As of the last outcome; None: not read, and so written with the next one."""
    known_state: ItemState | None = None
    """The last state other than unknown; None before the first."""
    has_details: bool = False
    """Its row says why it is unknown, or holds details of an error."""
    stage: str | None = None
    recognised: bool = True
    since: datetime | None = None
    pending_since: datetime | None = None
    seen_at: datetime | None = None
    checked_at: datetime | None = None
    regressed_at: datetime | None = None
    """When it went from completed back to pending; None once it is no longer pending."""
    in_incident: bool = False
    """It belongs to an incident; a list does not confirm its recovery, only a request for the item does."""
    known_missing: bool = False
    """It is not found, and an open incident already says so."""
    unverified_runs: int = 0
    """Runs in a row in which it stayed unknown for a trouble of its own, while others were answered."""
    failure_reason: str | None = None
    failure_message: str | None = None
    params: Mapping[str, str] = NO_PARAMS
    """The path parameters of its row in the sync log."""
    group: str | None = None
    indexed_at: datetime | None = None
    """When it was first seen completed; None: not yet."""
    asked_run_id: int = 0
    """The last run that has an outcome for it; 0: none."""


class FirstCompletion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An item that was seen completed for the first time."""

    item_id: str
    group: str | None
    uploaded_at: datetime
    """The upload time of the sync log; else when the id was first seen."""
    upload_known: bool
    """Whether the sync log has an upload time."""
    not_completed_at: datetime | None
    """The last answer that said otherwise; None: there was none."""
    at: datetime


Changed = tuple[tuple[str, object], ...]
"""Columns of an item's row with their new values."""

Event = tuple[str, str | None, str | None]
"""Kind (`state` or `stage`), old, new."""


class ItemChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one outcome changes in an item's row, and the event to store if its known state or stage changed."""

    item_id: str
    at: datetime
    changed: Changed
    """Nothing but the time of the answer, if it says what is known."""
    event: Event | None
    """An unknown outcome is none."""
    completion: FirstCompletion | None
    """Set if this outcome is the first that says completed."""


# an enum's member costs 0.2 µs to look up, and `transition` is called for every item
_COMPLETED, _PENDING, _UNKNOWN = ItemState.COMPLETED, ItemState.PENDING, ItemState.UNKNOWN


def transition(item: TrackedItem, outcome: Outcome, *, at: datetime | None = None) -> ItemChange:
    """Applies one outcome to one item. An unknown outcome changes nothing that is known.

    `at` is the time to store (None: the outcome's own). `stuck` counts from `pending_since`: the upload time (else the
    first sync) of an item that the API returned for the first time, and the time of the outcome if the item was in
    another state before.
    """
    at, state = at or outcome.at, outcome.state
    if _is_first_plain_answer(item, outcome):
        changed, event = _first_change(state, outcome.stage, outcome.recognised, outcome.answered, item.has_details, at)
    elif _is_confirmed(item, outcome):
        return ItemChange(
            item_id=item.item_id, at=at, changed=_times(state, outcome.answered, at), event=None, completion=None
        )
    else:
        changed = _change(item, outcome, at) + _times(state, outcome.answered, at)
        event = _event(item, outcome) if state is not _UNKNOWN else None
    return ItemChange(
        item_id=item.item_id, at=at, changed=changed, event=event, completion=_first_completion(item, outcome)
    )


@lru_cache(maxsize=16)
def _times(state: ItemState, answered: bool, at: datetime) -> Changed:  # noqa: FBT001  # a part of the key
    seen: Changed = (("seen_at", at),) if state in EXISTING_STATES else ()
    return (*seen, ("checked_at", at)) if answered else seen


def first_completion(
    item_id: str, group: str | None, first_seen_at: datetime, submitted_at: datetime | None, stage: str, at: datetime
) -> ItemChange:
    """What `transition` says of an unknown item, of which no state was ever known, that is completed in a stage.

    At a fifth of the cost: a first run calls it for every item.
    """
    changed, event = _first_completed(stage, at)
    completion = FirstCompletion(
        item_id=item_id,
        group=group,
        uploaded_at=submitted_at or first_seen_at,
        upload_known=submitted_at is not None,
        not_completed_at=None,
        at=at,
    )
    return ItemChange(item_id=item_id, at=at, changed=changed, event=event, completion=completion)


@lru_cache(maxsize=16)
def _first_completed(stage: str, at: datetime) -> tuple[Changed, Event | None]:
    return _first_change(_COMPLETED, stage, True, True, True, at)  # noqa: FBT003  # parts of the key


def _is_first_plain_answer(item: TrackedItem, outcome: Outcome) -> bool:
    """Whether nothing was known of an item before, and its change depends on few parts of the outcome."""
    return (
        item.known_state is None
        and item.state is _UNKNOWN
        and not item.unverified_runs
        and outcome.state is not _PENDING
        and outcome.state is not _UNKNOWN
        and outcome.error is None
        and outcome.failure_reason is None
        and outcome.failure_message is None
    )


@lru_cache(maxsize=16)
def _first_change(
    state: ItemState,
    stage: str | None,
    recognised: bool,  # noqa: FBT001  # a part of the key
    answered: bool,  # noqa: FBT001  # a part of the key
    has_details: bool,  # noqa: FBT001  # a part of the key
    at: datetime,
) -> tuple[Changed, Event | None]:
    """The change and event of a first plain answer, which the items of a first run share by the thousand."""
    item = TrackedItem(item_id="", first_seen_at=at, state=_UNKNOWN, has_details=has_details)
    outcome = Outcome(item_id="", state=state, stage=stage, recognised=recognised, answered=answered, at=at)
    return _change(item, outcome, at) + _times(state, answered, at), _event(item, outcome)


def _change(item: TrackedItem, outcome: Outcome, at: datetime) -> Changed:
    known = outcome.state is not _UNKNOWN
    after = _known_values(item, outcome, at) if known else (outcome.state, _completed_before(item))
    names, before = (_IF_KNOWN, _known_before(item)) if known else (_IF_UNKNOWN, (item.state, item.indexed_at))
    compared = zip(names, after, before, strict=True)
    differing = [(name, new) for name, new, old in compared if new is not old and new != old]
    return (*differing, *_details(item, outcome))


def _is_confirmed(item: TrackedItem, outcome: Outcome) -> bool:
    """Whether an outcome says what the row says. It is most often so, and spares the comparison of all columns."""
    state = outcome.state
    return (
        state is item.known_state
        and state is item.state
        and outcome.stage == item.stage
        and outcome.error is None
        and not (item.has_details or item.unverified_runs)
        and outcome.recognised == item.recognised
        and outcome.failure_reason == item.failure_reason
        and outcome.failure_message == item.failure_message
        and (item.pending_since is not None) == (state is _PENDING)
        and (item.regressed_at is None or state is _PENDING)
        and (item.indexed_at is not None or (state is not _COMPLETED and item.regressed_at is None))
    )


_IF_UNKNOWN = ("state", "indexed_at")
_IF_KNOWN = ("state", "known_state", "stage", "recognised", "since", "pending_since", "regressed_at", "unverified_runs",
          "failure_reason", "failure_message", "indexed_at")  # fmt: skip
"""The columns that an outcome decides, but for times of answers and details of errors."""
_known_before = attrgetter(*_IF_KNOWN)


def _known_values(item: TrackedItem, outcome: Outcome, at: datetime) -> tuple[object, ...]:
    state = outcome.state
    pending = state is _PENDING
    return (
        state,
        state,
        outcome.stage,
        outcome.recognised,
        item.since if state is item.known_state else at,
        _pending_since(item, at) if pending else None,
        _regressed_at(item, at) if pending else None,
        0,
        outcome.failure_reason,
        outcome.failure_message,
        _completed_before(item) or (at if state is _COMPLETED else None),
    )


def _details(item: TrackedItem, outcome: Outcome) -> Changed:
    """Why it is unknown and what the error said; each answer has a request id of its own."""
    error, reason = outcome.error, outcome.reason
    if error is None:
        if reason is None and not item.has_details:
            return ()
        return ("reason", reason), ("http_status", None), ("code", None), ("request_id", None), ("page", None)
    return (
        ("reason", reason),
        ("http_status", error.status),
        ("code", error.code),
        ("request_id", error.request_id),
        ("page", error.page),
    )


def _completed_before(item: TrackedItem) -> datetime | None:
    """When an item was first seen completed, as far as its row tells: rows older than the column only tell that."""
    if item.indexed_at is not None:
        return item.indexed_at
    return item.since if item.known_state is _COMPLETED else item.regressed_at


def _first_completion(item: TrackedItem, outcome: Outcome) -> FirstCompletion | None:
    if outcome.state is not _COMPLETED or _completed_before(item) is not None:
        return None
    return FirstCompletion(
        item_id=item.item_id,
        group=item.group,
        uploaded_at=item.submitted_at or item.first_seen_at,
        upload_known=item.submitted_at is not None,
        not_completed_at=None if item.known_state is None else item.checked_at,
        at=outcome.at,
    )


def _pending_since(item: TrackedItem, at: datetime) -> datetime:
    if item.known_state is _PENDING:
        return item.pending_since or at
    if item.seen_at is None:
        return item.submitted_at or item.first_seen_at
    return at


def _regressed_at(item: TrackedItem, at: datetime) -> datetime | None:
    return at if item.known_state is _COMPLETED else item.regressed_at


def _event(item: TrackedItem, outcome: Outcome) -> Event | None:
    if outcome.state is not item.known_state:
        return ("state", item.known_state, outcome.state)
    if outcome.stage != item.stage:
        return ("stage", item.stage, outcome.stage)
    return None
