"""What the next run of a target may send: a probe first while the API refuses it, and less after 429s. Pure.

This acts from run to run. Within a run, the client's throttle slows down by itself.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from monitor.model import Cause

_PROBED_WHILE_OPEN = (Cause.SPENDING_LIMIT, Cause.UNAUTHORIZED)
"""Each refuses every request of a target; highest rank first."""


def probe_for(unresolved: Collection[Cause], *, last_abort: Cause | None) -> Cause | None:
    """The cause for which a run must begin with one probe, or None.

    `forbidden` is often about single items, so an open incident is not enough: it must have stopped the last run too.

    `unresolved` includes acknowledged and silenced incidents; `last_abort` is of the last run that asked the API.
    """
    for cause in _PROBED_WHILE_OPEN:
        if cause in unresolved:
            return cause
    forbidden = Cause.FORBIDDEN in unresolved and last_abort is Cause.FORBIDDEN
    return Cause.FORBIDDEN if forbidden else None


def order_probe_candidates(candidates: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Item ids in the order in which they may be the probe: least recently asked first.

    A refused item goes to the end, so one item that belongs to another publisher can't keep the incident open.
    """
    return tuple(item_id for item_id, _ in sorted(candidates, key=lambda candidate: (candidate[1], candidate[0])))


UNTHROTTLED = 1.0
MIN_FACTOR = 1 / 32
_RECOVERY_FACTOR = 1.25
"""Per clean run: four of them undo one halving."""


class ThrottleReason(StrEnum):
    """The reason for a throttle factor, as logged."""

    NOT_LIMITED = "not limited"
    REFUSED = "429s while the incident is open"
    RECOVERING = "clean run"
    INCONCLUSIVE = "no information about the rate"


class ThrottleFactor(msgspec.Struct, frozen=True, kw_only=True):
    """A share of rate and concurrency (`MIN_FACTOR` to 1), and its reason."""

    factor: float
    reason: ThrottleReason


def next_throttle_factor(
    previous: float, *, refused: bool, inhibited: bool, unresolved: bool, replied: bool
) -> ThrottleFactor:
    """The factor of the next run: halved when the incident opens and by each run with evidence, 25% up per clean run.

    `refused`: it sent requests and has evidence of `rate_limited` that no higher cause inhibits. `inhibited`: a higher
    cause inhibits it, or the run inherited it; that changes nothing. `replied`: one reply is enough: a throttled run
    may not get to more before its deadline, and must not stay throttled forever because of that.
    """
    if refused and unresolved:
        return ThrottleFactor(factor=max(MIN_FACTOR, previous / 2), reason=ThrottleReason.REFUSED)
    if previous >= UNTHROTTLED:
        return ThrottleFactor(factor=UNTHROTTLED, reason=ThrottleReason.NOT_LIMITED)
    if refused or inhibited or not replied:
        return ThrottleFactor(factor=previous, reason=ThrottleReason.INCONCLUSIVE)
    return ThrottleFactor(factor=min(UNTHROTTLED, previous * _RECOVERY_FACTOR), reason=ThrottleReason.RECOVERING)
