"""What the public page says of the product's documents: one of four words per target, and since when. Pure.

It says neither causes nor counts nor ids, since everybody may read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from monitor.model import ITEM_CAUSES, Cause, OpenCause

DISRUPTED_SHARE = 0.1
"""Share of the tracked items that are in open incidents from which a target counts as disrupted."""


class StatusWord(StrEnum):
    """The state of a target, for people who use the product."""

    OPERATIONAL = "operational"
    DELAYED = "delayed"
    DISRUPTED = "disrupted"
    NO_DATA = "no_data"
    """It is not known: nothing was checked lately, or the monitor itself is at fault."""


_WORST_FIRST = (StatusWord.DISRUPTED, StatusWord.DELAYED, StatusWord.NO_DATA, StatusWord.OPERATIONAL)

_WORD_OF: Mapping[Cause, StatusWord] = {
    Cause.SPENDING_LIMIT: StatusWord.DISRUPTED,
    Cause.UNAUTHORIZED: StatusWord.DISRUPTED,
    Cause.FORBIDDEN: StatusWord.DISRUPTED,
    Cause.WRONG_SCOPE: StatusWord.DISRUPTED,
    Cause.OUTAGE: StatusWord.DISRUPTED,
    Cause.BAD_RESPONSE: StatusWord.DISRUPTED,
    Cause.BAD_REQUEST: StatusWord.DISRUPTED,
    Cause.CANARY_FAILED: StatusWord.DISRUPTED,
    Cause.RATE_LIMITED: StatusWord.DELAYED,
    Cause.ITEMS_STUCK: StatusWord.DELAYED,
    Cause.POLLING_TIMEOUTS: StatusWord.DELAYED,
    Cause.CANARY_SLOW: StatusWord.DELAYED,
    Cause.INDEXING_SLOW: StatusWord.DELAYED,
    Cause.SLO_BURN: StatusWord.DELAYED,
    Cause.TOO_MANY_UNKNOWN: StatusWord.NO_DATA,
    Cause.SYNC_LOG_UNREADABLE: StatusWord.NO_DATA,
    Cause.SYNC_LOG_EMPTY: StatusWord.NO_DATA,
    Cause.RUN_MISSED: StatusWord.NO_DATA,
    Cause.RUN_CRASHING: StatusWord.NO_DATA,
}
"""Causes of single items are left out: they count by their share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInput:
    """What is known of one target."""

    total: int | None = None
    """Tracked items of the newest snapshot; None before the first."""
    last_run_at: datetime | None = None
    overdue_at: datetime | None = None
    """From when on its last run is too old."""
    causes: Sequence[OpenCause] = ()
    """Its open incidents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A word, and since when it holds, as far as that is known."""

    word: StatusWord
    since: datetime | None = None

    @property
    def label(self) -> str:
        """The word for people."""
        return _LABELS[self.word]

    @property
    def mark(self) -> str:
        """A shape beside the word, so that colour is not all that differs."""
        return _MARKS[self.word]


_LABELS = {
    StatusWord.OPERATIONAL: "Operational",
    StatusWord.DELAYED: "Delayed",
    StatusWord.DISRUPTED: "Disrupted",
    StatusWord.NO_DATA: "No data",
}
_MARKS = {StatusWord.OPERATIONAL: "●", StatusWord.DELAYED: "▲", StatusWord.DISRUPTED: "■", StatusWord.NO_DATA: "○"}


def status_of(given: StatusInput, now: datetime) -> Status:
    """The state of one target.

    1. Nothing was checked in time: there is no data, whatever was known before.
    2. The worst word of its open incidents, since the first of these.
    3. Single documents that fail disrupt it only if they are a tenth of all.
    """
    if given.total is None:
        return Status(word=StatusWord.NO_DATA)
    if given.overdue_at is not None and now >= given.overdue_at:
        return Status(word=StatusWord.NO_DATA, since=given.last_run_at)
    words = [Status(word=word, since=each.opened_at) for each in given.causes if (word := _WORD_OF.get(each.cause))]
    single = [each for each in given.causes if each.cause in ITEM_CAUSES and each.cause not in _WORD_OF]
    affected = sum(each.members for each in single)
    if affected and affected >= DISRUPTED_SHARE * given.total:
        words += [Status(word=StatusWord.DISRUPTED, since=each.opened_at) for each in single]
    return worst(words) or Status(word=StatusWord.OPERATIONAL)


def worst(statuses: Sequence[Status]) -> Status | None:
    """The worst of several, since the earliest time that it has; None of none."""
    for word in _WORST_FIRST:
        times = [each.since for each in statuses if each.word is word]
        if times:
            return Status(word=word, since=min((each for each in times if each is not None), default=None))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusBoard:
    """What the page shows."""

    overall: Status
    services: tuple[tuple[str, Status], ...]
    """The targets with a public name, by that name; without any, all targets are in `overall`."""
    by_target: Mapping[str, Status]
    """All targets by their own names, for badges; never shown as a list."""
    checked_at: datetime | None
    """When a run last ended."""


def status_board(
    inputs: Mapping[str, StatusInput], public_names: Mapping[str, str | None], now: datetime
) -> StatusBoard:
    """The states of the targets; `public_names` are those of the configuration, None for a target that is not shown."""
    by_target = {target: status_of(inputs.get(target, StatusInput()), now) for target in public_names}
    services = tuple((name, by_target[target]) for target, name in public_names.items() if name is not None)
    listed = [target for target, name in public_names.items() if name is not None] or list(public_names)
    return StatusBoard(
        overall=worst([by_target[target] for target in listed]) or Status(word=StatusWord.NO_DATA),
        services=services,
        by_target=by_target,
        checked_at=max((at for each in listed if (at := inputs.get(each, StatusInput()).last_run_at)), default=None),
    )


def status_json(board: StatusBoard) -> dict[str, Any]:
    """The same as the page, for programs."""
    return {
        **_json(board.overall),
        "checked_at": _time(board.checked_at),
        "services": [{"name": name, **_json(status)} for name, status in board.services],
    }


def _json(status: Status) -> dict[str, Any]:
    return {"status": status.word.value, "since": _time(status.since)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
