"""Whether a run begins with one question instead of many, because the API refuses the target. Pure.

It does not say what is asked, nor what an answer means for the rest of the run.
"""

from collections.abc import Collection, Sequence

from monitor.model import Cause

__all__ = ["probe_for", "turn"]

_WHILE_OPEN = (Cause.SPENDING_LIMIT, Cause.UNAUTHORIZED)
"""Each refuses every request of a target alike, highest rank first."""


def probe_for(unresolved: Collection[Cause], *, last_abort: Cause | None) -> Cause | None:
    """The cause for which a run must begin with one probe, or None: it begins as any other.

    `forbidden` is as often the fault of single items, so that its incident alone is no reason: the last run must have
    been stopped by it.

    Args:
        unresolved: causes of the target's incidents that are not resolved, be they acknowledged or silenced.
        last_abort: what stopped the target's last run that asked the API; None when nothing did.
    """
    for cause in _WHILE_OPEN:
        if cause in unresolved:
            return cause
    forbidden = Cause.FORBIDDEN in unresolved and last_abort is Cause.FORBIDDEN
    return Cause.FORBIDDEN if forbidden else None


def turn(candidates: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """The ids of items that may be the probe, the best first: the one that no run asked about for longest.

    Whoever was refused goes to the end of the line, so that an item which became foreign by itself is not asked about
    again before all others, and can't keep an incident open.

    Args:
        candidates: ids of items that were well, each with the last run that has an outcome for it.
    """
    return tuple(item_id for item_id, _ in sorted(candidates, key=lambda candidate: (candidate[1], candidate[0])))
