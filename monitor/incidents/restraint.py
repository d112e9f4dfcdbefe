"""How far a target holds itself back after 429s: the share of rate and concurrency that its next run takes. Pure.

This is the slow hand, from run to run. How a client yields within one run is the business of its throttle.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FLOOR", "NONE", "Restraint", "Why", "restrain"]

NONE = 1.0
"""All of the rate and the concurrency."""
FLOOR = 1 / 32
"""No share is smaller."""
_RECOVERY = 1.25
"""A clean run makes the share so much larger: a halving takes four of them to be made good."""


class Why(StrEnum):
    """The reason for a share."""

    UNRESTRAINED = "nothing limits it"
    REFUSED = "the run was refused for its rate while the incident is open"
    RECOVERING = "the run was clean"
    UNSURE = "the run says nothing about the rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """A share of rate and concurrency (`FLOOR` to 1), and why it is what it is."""

    factor: float
    why: Why


def restrain(previous: float, *, refused: bool, muted: bool, unresolved: bool, replied: bool) -> Restraint:
    """The share that the run after this one takes.

    Halved when the incident opens and by every further run with evidence of its own; a run that sent nothing, or whose
    429s a higher cause explains, changes nothing; a clean run gives a part of it back, until all is given back.

    Args:
        previous: the share that this run took.
        refused: whether the run sent requests and has evidence of `rate_limited` that no higher cause explains.
        muted: whether it has evidence of it that a higher cause explains, or that it inherited.
        unresolved: whether an incident `rate_limited` of the target is open after the run's decisions.
        replied: whether the API replied to anything. One reply is enough: a run that holds itself back may not get to
            more before its deadline, and must not hold itself back for ever because of that.
    """
    if refused and unresolved:
        return Restraint(factor=max(FLOOR, previous / 2), why=Why.REFUSED)
    if previous >= NONE:
        return Restraint(factor=NONE, why=Why.UNRESTRAINED)
    if refused or muted or not replied:
        return Restraint(factor=previous, why=Why.UNSURE)
    return Restraint(factor=min(NONE, previous * _RECOVERY), why=Why.RECOVERING)
