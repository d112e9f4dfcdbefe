"""How far a target holds itself back after 429s: the share of rate and concurrency that its next run takes. Pure.

This is the slow hand, from run to run. How a client yields within one run is the business of its throttle.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.model import Cause

_PROBED_WHILE_OPEN = (Cause.SPENDING_LIMIT, Cause.UNAUTHORIZED)
"""Each refuses every request of a target alike, highest rank first."""


def probe_for(unresolved: Collection[Cause], *, last_abort: Cause | None) -> Cause | None:
    """The cause for which a run must begin with one probe, or None: it begins as any other.

    `forbidden` is as often the fault of single items, so that its incident alone is no reason: the last run must have
    been stopped by it.

    Args:
        unresolved: causes of the target's incidents that are not resolved, be they acknowledged or silenced.
        last_abort: what stopped the target's last run that asked the API; None when nothing did.
    """
    for cause in _PROBED_WHILE_OPEN:
        if cause in unresolved:
            return cause
    forbidden = Cause.FORBIDDEN in unresolved and last_abort is Cause.FORBIDDEN
    return Cause.FORBIDDEN if forbidden else None


def order_probe_candidates(candidates: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """The ids of items that may be the probe, the best first: the one that no run asked about for longest.

    Whoever was refused goes to the end of the line, so that an item which became foreign by itself is not asked about
    again before all others, and can't keep an incident open.

    Args:
        candidates: ids of items that were well, each with the last run that has an outcome for it.
    """
    return tuple(item_id for item_id, _ in sorted(candidates, key=lambda candidate: (candidate[1], candidate[0])))


UNTHROTTLED = 1.0
"""All of the rate and the concurrency."""
MIN_FACTOR = 1 / 32
"""No share is smaller."""
_RECOVERY_FACTOR = 1.25
"""A clean run makes the share so much larger: a halving takes four of them to be made good."""


class ThrottleReason(StrEnum):
    """The reason for a share."""

    NOT_LIMITED = "nothing limits it"
    REFUSED = "the run was refused for its rate while the incident is open"
    RECOVERING = "the run was clean"
    INCONCLUSIVE = "the run says nothing about the rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleFactor:
    """A share of rate and concurrency (`MIN_FACTOR` to 1), and why it is what it is."""

    factor: float
    reason: ThrottleReason


def next_throttle_factor(
    previous: float, *, refused: bool, inhibited: bool, unresolved: bool, replied: bool
) -> ThrottleFactor:
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
        return ThrottleFactor(factor=max(MIN_FACTOR, previous / 2), reason=ThrottleReason.REFUSED)
    if previous >= UNTHROTTLED:
        return ThrottleFactor(factor=UNTHROTTLED, reason=ThrottleReason.NOT_LIMITED)
    if refused or inhibited or not replied:
        return ThrottleFactor(factor=previous, reason=ThrottleReason.INCONCLUSIVE)
    return ThrottleFactor(factor=min(UNTHROTTLED, previous * _RECOVERY_FACTOR), reason=ThrottleReason.RECOVERING)
