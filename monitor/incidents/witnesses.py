"""Which runs say anything about a cause, and whose silence speaks for its end. Pure.

A run that is no witness of a cause is, for that cause, as if it had not been.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.model import Cause, RunStatus

__all__ = ["ENOUGH", "Vouching", "Witness", "vouches", "witness"]

ENOUGH = 20
"""A run vouches for the API's recovery when it got answers for so many items, or for all that were due."""


class Vouching(StrEnum):
    """What a run must have done for its silence to speak for the end of a cause."""

    ANSWERED = "got enough answers"
    READ = "read ids"
    RAN = "ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """The runs that count for a cause."""

    statuses: frozenset[RunStatus]
    vouching: Vouching = Vouching.ANSWERED


_CAME_TO_AN_END = frozenset({RunStatus.COMPLETE, RunStatus.PARTIAL})
_ASKED = _CAME_TO_AN_END | {RunStatus.ABORTED}
_FINISHED = _ASKED | {RunStatus.UNREAD}

_REQUESTS_AND_ITEMS = Witness(statuses=_ASKED)
_OTHERS: Mapping[Cause, Witness] = {
    # What aborted a run explains what it left unknown.
    Cause.COVERAGE: Witness(statuses=_CAME_TO_AN_END),
    # One that read ids vouches for the log, whatever the API said.
    Cause.SYNC_LOG_UNREADABLE: Witness(statuses=_FINISHED, vouching=Vouching.READ),
    # Every run that read an empty log is evidence of it while the incident is open.
    Cause.SYNC_LOG_EMPTY: Witness(statuses=_ASKED, vouching=Vouching.RAN),
    Cause.RUN_MISSED: Witness(statuses=_FINISHED, vouching=Vouching.RAN),
}


def witness(cause: Cause) -> Witness:
    """The runs that count for a cause."""
    return _OTHERS.get(cause, _REQUESTS_AND_ITEMS)


def vouches(vouching: Vouching, *, due: int, answered: int) -> bool:
    """Whether a run without evidence speaks for the end of a cause; an empty work list vouches for no API and no log.

    Args:
        vouching: what is asked of it.
        due: items that it meant to ask about.
        answered: of them, those that got a reply.
    """
    if vouching is Vouching.RAN:
        return True
    return due > 0 and (vouching is Vouching.READ or answered >= min(ENOUGH, due))
